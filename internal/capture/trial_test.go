package capture_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"yesline/internal/audio"
	"yesline/internal/capture"
)

// tried is a telephone that is tried. It hears at the pace of speech.
type tried struct {
	codec  audio.Codec
	fails  error
	person sync.WaitGroup // what they do

	mu    sync.Mutex
	ends  capture.Ends
	heard []byte // the first byte of each sound that was heard to its end
	gone  bool
}

func (l *tried) Connect(_ context.Context, o capture.Ends) (capture.Line, error) {
	l.ends = o
	o.Early(nil)
	o.Early(nil) // once more: some carriers do
	l.ends.Listener.Heard(7, make([]byte, 80), time.Now())
	return capture.Line{Codec: l.codec, Voice: l.codec, Play: l.play, Beep: func() {}}, l.fails
}

func (l *tried) Hangup() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = true
}

func (l *tried) play(ctx context.Context, sound []byte) error {
	select {
	case <-time.After(time.Duration(len(sound)) * time.Second / audio.Rate):
	case <-ctx.Done():
		return ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(sound) > 0 {
		l.heard = append(l.heard, sound[0])
	}
	return nil
}

// trialSounds are a second each, and begin with the letter of their name.
func trialSounds() fstest.MapFS {
	sounds := fstest.MapFS{}
	for _, name := range []string{"hello", "speak", "back", "gone"} {
		file := "trunk_test_" + strings.Replace(name, "gone", "bye", 1) + ".ul"
		sounds[file] = &fstest.MapFile{Data: bytes.Repeat([]byte{name[0]}, audio.Rate)}
	}
	return sounds
}

// says sends steady sound for so long, a packet each 20 ms, from a timestamp on.
func (l *tried) says(stamp uint32, d time.Duration) {
	samples := audio.Tone(400, 20, 8000)
	payload := l.codec.Encode(nil, samples)
	for i := range uint32(d / (20 * time.Millisecond)) {
		l.ends.Listener.Heard(stamp+i*160, payload, time.Now())
		time.Sleep(20 * time.Millisecond)
	}
}

func (l *tried) presses(keys string, locked bool) {
	for _, k := range keys {
		l.ends.Listener.Key(byte(k), time.Now(), locked)
	}
}

// try tries a telephone whose person does something, in a bubble.
func try(t *testing.T, l *tried, does func(l *tried)) (made capture.Trial) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		room := &capture.Room{Sounds: trialSounds()}
		made = room.Try(ctx, l, func(step string) {
			if step == "answered" {
				l.person.Go(func() { does(l) })
			}
		})
		l.person.Wait()
	})
	if !l.gone {
		t.Error("the telephone was not hung up")
	}
	return made
}

const after = 1500 * time.Millisecond // the question was said

func TestATrialOfALine(t *testing.T) {
	t.Parallel()
	for _, codec := range []audio.Codec{audio.PCMU, audio.PCMA} {
		l := &tried{codec: codec}
		made := try(t, l, func(l *tried) {
			l.person.Go(func() { l.says(0xffff_f000, 14*time.Second) }) // its numbers run over
			time.Sleep(after)
			l.presses("1", true)
		})
		if made.Said != "yes" || !made.Early || !made.Back || made.Err != nil || made.Recorded < 9*time.Second || made.Recorded > 10*time.Second || made.Voiced < 8*time.Second {
			t.Errorf("got %+v", made)
		}
		in := made.In
		if in.Packets != 700 || in.Missing != 0 || in.Late != 0 || in.Leaps != 0 || in.Jitter != 0 || in.Frame != 20*time.Millisecond || in.Events != "1" || in.Infos != "" {
			t.Errorf("it came in as %+v", in)
		}
		if len(l.heard) != 5 {
			t.Errorf("%d sounds were heard: %q", len(l.heard), l.heard)
		}
	}
}

// What is no yes: nothing, a 1 too early, by the signalling, or from somebody
// who did not hear the question. Nothing is recorded or played then.
func TestATrialWithoutAYes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		does func(l *tried)
		said string
	}{
		"nothing":                       {func(*tried) {}, ""},
		"another":                       {func(l *tried) { time.Sleep(after); l.presses("4*#3", true) }, ""},
		"a 1 before the question's end": {func(l *tried) { time.Sleep(900 * time.Millisecond); l.presses("1", true) }, ""},
		"a 1 by INFO":                   {func(l *tried) { time.Sleep(after); l.presses("1", false) }, ""},
		"a 1 of somebody else":          {func(l *tried) { time.Sleep(after); l.ends.Listener.Relearn(); l.presses("1", true) }, ""},
		"a 1 of who else heard its end": {func(l *tried) {
			time.Sleep(500 * time.Millisecond)
			l.ends.Listener.Relearn()
			time.Sleep(time.Second)
			l.presses("1", true)
		}, ""},
		"a no":               {func(l *tried) { time.Sleep(after); l.presses("2", true) }, "no"},
		"a no at once":       {func(l *tried) { l.presses("2", true) }, "no"},
		"a no by INFO":       {func(l *tried) { l.presses("2", false) }, "no"},
		"star 9":             {func(l *tried) { l.presses("*9", true) }, "no"},
		"a yes after the no": {func(l *tried) { l.presses("2", true); time.Sleep(after); l.presses("1", true) }, "no"},
		"a no after the yes": {func(l *tried) {
			time.Sleep(after)
			l.presses("1", true)
			time.Sleep(5 * time.Second)
			l.presses("*9", true)
		}, "no"},
		"a no while it is played": {func(l *tried) {
			time.Sleep(after)
			l.presses("1", true)
			time.Sleep(14 * time.Second)
			l.presses("2", true)
		}, "no"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &tried{}
			made := try(t, l, func(l *tried) {
				l.person.Go(func() { l.says(0, 18*time.Second) })
				c.does(l)
			})
			if made.Said != c.said || made.Back || !made.Answered || made.Err != nil {
				t.Errorf("got %+v", made)
			}
			if soon := strings.Contains(name, "before") || strings.Contains(name, "else"); made.In.Soon != soon {
				t.Errorf("the 1 came too early: %v, want %v", made.In.Soon, soon)
			}
			if last := l.heard[len(l.heard)-1]; last != 'g' {
				t.Errorf("the last that was heard is %q, want the goodbye", last)
			}
			if played := bytes.ContainsAny(l.heard, "sb"); played && !strings.Contains(name, "after the yes") && !strings.Contains(name, "played") {
				t.Errorf("it went on after the question: %q", l.heard)
			}
		})
	}
}

// What ends a trial ends it at once.
func TestATrialThatEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		does func(l *tried)
		want error
	}{
		"hung up": {func(l *tried) { time.Sleep(500 * time.Millisecond); l.ends.Left(capture.ErrHungUp) }, capture.ErrHungUp},
		"moved after the yes": {func(l *tried) {
			time.Sleep(after)
			l.presses("1", true)
			time.Sleep(time.Second)
			l.ends.Listener.Relearn()
		}, capture.ErrMoved},
	} {
		l := &tried{}
		if made := try(t, l, c.does); !errors.Is(made.Err, c.want) || made.Back || len(l.heard) > 0 && l.heard[len(l.heard)-1] == 'g' {
			t.Errorf("%s: got %+v", name, made)
		}
	}
	l := &tried{fails: capture.ErrBusy}
	if made := try(t, l, nil); !errors.Is(made.Err, capture.ErrBusy) || made.Answered || len(l.heard) > 0 {
		t.Errorf("got %+v", made)
	}
}

// How sound comes in is told as it is.
func TestHowSoundCameIn(t *testing.T) {
	t.Parallel()
	payload := make([]byte, 160)
	made := try(t, &tried{}, func(l *tried) {
		ear := l.ends.Listener
		stamp := uint32(1000)
		for i := range 500 {
			switch {
			case i == 100, i == 200: // lost
			case i == 300: // comes after the next
			case i == 301:
				ear.Heard(stamp, payload, time.Now())
				ear.Heard(stamp-160, payload, time.Now())
			case i == 350: // twice
				ear.Heard(stamp, payload, time.Now())
				ear.Heard(stamp, payload, time.Now())
			case i == 400: // a phone that is silent for 2 s
				stamp += 2 * 8000
				ear.Heard(stamp, payload, time.Now())
			case i == 450: // another source behind the trunk
				stamp += 1 << 20
				ear.Heard(stamp, payload, time.Now())
			default:
				ear.Heard(stamp, payload, time.Now())
			}
			stamp += 160
			time.Sleep(20 * time.Millisecond)
		}
	})
	if in := made.In; in.Packets != 499 || in.Missing != 2 || in.Late != 2 || in.Leaps != 1 || in.Jitter > 5*time.Millisecond {
		t.Errorf("it came in as %+v", in)
	}
}
