package capture

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"yesline/internal/audio"
	"yesline/internal/capture/media"
)

const (
	trialLength = 10 * time.Second       // of what is recorded
	trialTone   = 400 * time.Millisecond // from the beginning of the tone on
)

// ErrMoved ends a trial whose sound came from another source after the yes: the
// yes was the old one's.
var ErrMoved = errors.New("another source took over the line")

// Incoming is how sound and keys came in, from the answer on.
type Incoming struct {
	Packets int
	Missing int           // that a gap of a few packets tells of; longer ones are pauses of a phone that sends no silence
	Late    int           // that came after a newer one, or twice
	Leaps   int           // times that the timestamps leapt
	Jitter  time.Duration // as RFC 3550, 6.4.1 has it, at its worst
	Frame   time.Duration // of a packet
	Events  string        // keys that came as telephone-events (RFC 4733), at most 32
	Infos   string        // and by the signalling (SIP INFO)
	Soon    bool          // a 1 came from who had not heard the question to its end, where it is no yes
	Held    bool          // they put us on hold
}

// Trial is what came of a call that tried a line out.
type Trial struct {
	Answered bool   // it was picked up
	Early    bool   // sound came before that
	Line     Line   // by what they spoke
	Asked    bool   // the question was said to its end
	Said     string // "yes", "no", or "" when no key came
	In       Incoming
	Recorded time.Duration // of what was recorded and played back
	Voiced   time.Duration // of that, with a voice in it
	Back     bool          // it was played back to its end
	Err      error         // why it ended before its end; nil otherwise
}

// Try rings a telephone, tells who calls and why, and asks; on a yes it records
// ten seconds, plays them back, and forgets them. They are never anywhere but in
// memory. The yes is a 1 from the source that heard the question to its end, as
// in any call; 2 and *9 are a no at once. tell is told how far it is, and may be
// nil.
func (r *Room) Try(ctx context.Context, phone Handset, tell func(step string)) Trial {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer phone.Hangup()
	willing, refuse := context.WithCancel(ctx)
	defer refuse()
	t := &trial{room: r, tell: tell, ear: trialEar{yes: make(chan struct{}), end: end, refuse: refuse}}
	if tell == nil {
		t.tell = func(string) {}
	}
	early := make(chan *media.Stream, 1)
	t.Line, t.Err = phone.Connect(ctx, Ends{Listener: &t.ear, Left: end, Early: once(early)})
	t.Early = len(early) > 0
	if t.Err == nil {
		t.Answered = true
		t.ear.begin()
		t.talk(ctx, willing)
		t.Err = context.Cause(ctx)
	}
	t.ear.mu.Lock()
	defer t.ear.mu.Unlock()
	t.Said = map[answer]string{yes: "yes", no: "no"}[t.ear.said]
	t.ear.forget()
	t.In = t.ear.in
	return t.Trial
}

// trial is one while it goes on.
type trial struct {
	Trial
	room *Room
	tell func(string)
	ear  trialEar
}

// talk is all of the call. Willing ends with ctx, and with a no.
func (t *trial) talk(ctx, willing context.Context) {
	t.tell("answered")
	for range 2 {
		if t.ask(willing) || willing.Err() != nil {
			break
		}
	}
	t.record(willing)
	t.say(ctx, "trunk_test_bye")
}

// ask plays the question once and waits for the answer.
func (t *trial) ask(ctx context.Context) (agreed bool) {
	turn := t.ear.whose()
	if t.say(ctx, "trunk_test_hello") != nil || !t.ear.hears(turn) {
		return false
	}
	t.Asked = true
	silence := time.NewTimer(answerTime)
	defer silence.Stop()
	select {
	case <-t.ear.yes:
		return true
	case <-silence.C:
	case <-ctx.Done():
	}
	return false
}

// record keeps what they say for ten seconds, if they said yes, and lets them
// hear it.
func (t *trial) record(ctx context.Context) {
	select {
	case <-t.ear.yes:
	default:
		return
	}
	t.tell("recording")
	if t.say(ctx, "trunk_test_speak") != nil {
		return
	}
	t.Line.Beep()
	if !pause(ctx, trialTone) {
		return
	}
	t.ear.record(t.Line.Voice.Silence())
	if !pause(ctx, trialLength) {
		return
	}
	sound := t.ear.recorded()
	defer clear(sound)
	samples := t.Line.Voice.Decode(nil, sound)
	defer clear(samples)
	t.Recorded = inTime(len(samples))
	for _, voiced := range audio.Voiced(samples) {
		if voiced {
			t.Voiced += audio.UnitMillis * time.Millisecond
		}
	}
	t.tell("playing back")
	if t.say(ctx, "trunk_test_back") != nil {
		return
	}
	again := t.Line.Codec.Encode(nil, samples)
	defer clear(again)
	t.Back = t.Line.Play(ctx, again) == nil
}

// pause waits; it reports whether ctx lasted.
func pause(ctx context.Context, d time.Duration) bool {
	over := time.NewTimer(d)
	defer over.Stop()
	select {
	case <-over.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (t *trial) say(ctx context.Context, prompt string) error {
	return t.Line.Play(ctx, t.room.Say(prompt).In(t.Line.Codec))
}

// trialEar hears the telephone that is tried, and measures how its sound comes.
type trialEar struct {
	yes    chan struct{}           // closed at a yes
	refuse context.CancelFunc      // called at a no
	end    context.CancelCauseFunc // ends the call

	mu      sync.Mutex // guards the rest
	in      Incoming
	turn    int  // how many others took the line over
	asked   bool // this source heard the question to its end
	said    answer
	star    time.Time
	newest  uint32 // timestamp of the newest packet
	came    time.Time
	steady  bool          // newest and came are of a packet that no pause followed
	jitter  time.Duration // as it is now
	keeping bool
	begun   bool   // zero is known
	zero    uint32 // timestamp of the first that is kept
	sound   []byte
	filled  int
}

const (
	trialKeys = 32        // that are remembered
	smallGap  = 5         // packets; a longer gap is a pause
	leap      = 10 * 8000 // samples; more is no pause
)

// Heard measures a packet, and keeps it while the person records.
func (e *trialEar) Heard(stamp uint32, payload []byte, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.measure(stamp, len(payload), now)
	if !e.keeping {
		return
	}
	if !e.begun {
		e.begun, e.zero = true, stamp
	}
	if at := int(int32(stamp - e.zero)); at >= 0 && at+len(payload) <= len(e.sound) {
		e.filled = max(e.filled, at+copy(e.sound[at:], payload))
	}
}

// measure is called with mu held.
func (e *trialEar) measure(stamp uint32, samples int, now time.Time) {
	e.in.Packets++
	step := int(int32(stamp - e.newest))
	late := now.Sub(e.came)
	switch {
	case e.in.Packets == 1:
	case step <= 0 && step > -leap:
		e.in.Late++
		if e.in.Missing > 0 && step < 0 {
			e.in.Missing-- // it was only late
		}
		return
	case step > leap || step <= -leap:
		e.in.Leaps++
		e.steady = false
	case step > (smallGap+1)*samples:
		e.steady = false
	default:
		e.in.Missing += step/samples - 1
		if e.steady {
			moved := (late - inTime(step)).Abs()
			e.jitter += (moved - e.jitter) / 16
			e.in.Jitter = max(e.in.Jitter, e.jitter)
		}
		e.steady = true
	}
	e.in.Frame = inTime(samples)
	e.newest, e.came = stamp, now
}

func inTime(samples int) time.Duration { return time.Duration(samples) * time.Second / audio.Rate }

// Key takes a key. A 1 is a yes only from the source that heard the question to
// its end; 2 and *9 are a no at once.
func (e *trialEar) Key(key byte, at time.Time, locked bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	to := &e.in.Infos
	if locked {
		to = &e.in.Events
	}
	if len(*to) < trialKeys {
		*to += string(key)
	}
	after := !e.star.IsZero() && at.Sub(e.star) <= starTime
	e.star = time.Time{}
	switch {
	case key == '*':
		e.star = at
	case key == '2', key == '9' && after:
		e.said = no
		e.forget()
		e.refuse()
	case key != '1' || !locked || e.said != open:
	case !e.asked:
		e.in.Soon = true
	default:
		e.said = yes
		close(e.yes)
	}
}

// Hold notes that they put us on hold.
func (e *trialEar) Hold(on bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.in.Held = e.in.Held || on
}

// Relearn says that somebody else may speak there now.
func (e *trialEar) Relearn() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.turn++
	e.asked, e.steady = false, false
	if e.said == yes {
		e.forget()
		e.end(ErrMoved)
	}
}

// begin forgets what came before the answer.
func (e *trialEar) begin() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.in, e.steady, e.jitter, e.star = Incoming{}, false, 0, time.Time{}
}

// whose tells whose turn it is on the line.
func (e *trialEar) whose() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.turn
}

// hears says that the question was said to its end. It reports whether who has
// the line now heard all of it.
func (e *trialEar) hears(turn int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = e.turn == turn
	return e.asked
}

// record keeps what comes from now on.
func (e *trialEar) record(silence byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.said == yes {
		e.keeping, e.sound = true, bytes.Repeat([]byte{silence}, int(trialLength.Seconds())*audio.Rate)
	}
}

// recorded gives what was kept, which nobody else has.
func (e *trialEar) recorded() []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	sound := e.sound[:e.filled]
	e.keeping, e.sound = false, nil
	return sound
}

// forget throws away what was kept. Called with mu held.
func (e *trialEar) forget() {
	clear(e.sound)
	e.keeping, e.sound, e.filled = false, nil, 0
}
