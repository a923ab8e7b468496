package capture_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/consent"
	"yesline/internal/program"
)

// handset is a telephone in the test's hands.
type handset struct {
	ear   *ear
	codec audio.Codec
	way   consent.Way
	rings time.Duration // until it is picked up
	fails error         // or it is not

	mu    sync.Mutex
	ends  capture.Ends
	up    bool
	downs int
	gone  chan struct{}
}

func newHandset() *handset {
	return &handset{ear: &ear{}, way: consent.ByAccount, gone: make(chan struct{})}
}

func (h *handset) Connect(ctx context.Context, o capture.Ends) (capture.Line, error) {
	select {
	case <-time.After(h.rings):
	case <-ctx.Done():
		return capture.Line{}, context.Cause(ctx)
	case <-h.gone:
		return capture.Line{}, errors.New("hung up while it rang")
	}
	if h.fails != nil {
		return capture.Line{}, h.fails
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ends, h.up = o, true
	line := h.ear.line(h.codec)
	line.Way = h.way
	return line, nil
}

func (h *handset) Hangup() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.downs++; h.downs == 1 {
		close(h.gone)
	}
}

func (h *handset) hangsUp() {
	h.mu.Lock()
	left := h.ends.Left
	h.mu.Unlock()
	left(capture.ErrHungUp)
}

func (h *handset) isUp() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.up && h.downs == 0
}

// line is a call of ann to bob that the room carries.
type line struct {
	*world
	a, b *handset
	live *capture.Live
	over chan struct{}

	sending sync.WaitGroup
}

// carries lets the room carry what begin begins, when setup has had the
// telephones in its hands.
func (w *world) carries(begin func(l *line) (*capture.Live, error), caller bool, setup ...func(*line)) *line {
	w.t.Helper()
	l := &line{world: w, a: newHandset(), b: newHandset(), over: make(chan struct{})}
	l.b.rings, l.b.way = time.Second, consent.ByRinging
	w.room.Reach = func(_ context.Context, to capture.Wanted) (capture.Route, error) {
		if to.Outside {
			return capture.Route{Handset: l.a}, nil
		}
		return capture.Route{Handset: l.b}, nil
	}
	l.live = must(begin(l))(w.t)
	l.a.ear.leg, l.b.ear.leg = l.live.Caller, l.live.Callee
	for _, do := range setup {
		if do != nil {
			do(l)
		}
	}
	go func() {
		defer close(l.over)
		if caller {
			l.live.Carry(context.Background(), l.a)
			return
		}
		l.live.Carry(context.Background(), nil)
	}()
	return l
}

func (w *world) dials(setup ...func(*line)) *line {
	w.t.Helper()
	return w.carries(func(*line) (*capture.Live, error) {
		return w.room.Dial(context.Background(), w.ann, must(yesline.NewPhone(bobNumber))(w.t))
	}, true, setup...)
}

const bobNumber = "+12025550102"

// ended waits for the end and gives the row; both telephones were given back.
func (l *line) ended() capture.Call {
	l.t.Helper()
	<-l.over
	if l.a.isUp() || l.b.isUp() {
		l.t.Error("a telephone was not given back")
	}
	if got := l.room.Going(); got != 0 {
		l.t.Errorf("%d calls are still counted", got)
	}
	if l.room.Live(l.live.ID) != nil {
		l.t.Error("an ended call counts as live")
	}
	return must(l.room.Call(context.Background(), l.live.ID))(l.t)
}

// talks sends packets of 20 ms, all bytes b, for d, as long as the call goes on.
func (l *line) talks(b byte, d time.Duration) {
	l.sending.Go(func() {
		payload := []byte(strings.Repeat(string(b), 160))
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for stamp := uint32(0); d > 0; d -= 20 * time.Millisecond {
			l.live.Caller.Heard(stamp, payload, time.Now())
			stamp += 160
			select {
			case <-tick.C:
			case <-l.over:
				return
			}
		}
	})
}

func TestCarry(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		setup  func(*line)
		then   func(*line)
		ending string
	}{
		"the callee hangs up": {nil, func(l *line) { time.Sleep(8 * time.Second); l.b.hangsUp() }, "the callee hung up"},
		"the caller hangs up": {nil, func(l *line) { time.Sleep(8 * time.Second); l.a.hangsUp() }, "the caller hung up"},
		"busy":                {func(l *line) { l.b.fails = capture.ErrBusy }, nil, "the callee was busy"},
		"no answer":           {func(l *line) { l.b.fails = capture.ErrNoAnswer }, nil, "the callee did not answer"},
		"no confirmation":     {func(l *line) { l.a.fails = capture.ErrNoACK }, nil, "the caller's phone did not confirm"},
		"no common codec":     {func(l *line) { l.b.codec = audio.Opus }, nil, "the two telephones share no codec"},
		"the caller gives up": {func(l *line) { l.b.rings = time.Hour }, func(l *line) { time.Sleep(3 * time.Second); l.a.hangsUp() }, "the caller hung up"},
		"too long":            {func(l *line) { l.room.Longest = 0 }, nil, "the longest time was reached"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := open(t, program.Terms{})
				w.room.Longest = time.Minute
				l := w.dials(c.setup)
				if c.then != nil {
					c.then(l)
				}
				if row := l.ended(); row.Ending != c.ending || row.State != capture.Ended {
					t.Errorf("it ended because %q, want %q", row.Ending, c.ending)
				}
			})
		})
	}
}

func TestBothAreAskedWhileItRings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := open(t, program.Terms{}).dials()
		asked()
		l.a.ear.press("1")
		time.Sleep(2 * time.Second)
		l.b.ear.press("1")
		time.Sleep(5 * time.Second)
		if s := l.status(l.a); s.State != capture.Bridged || s.Recording != "both" || s.Mine != "yes" || s.Talking < 2*time.Second {
			t.Errorf("the caller's page says %+v", s)
		}
		l.a.hangsUp()
		if row := l.ended(); row.Recording != "both" {
			t.Errorf("recording is %q (%s)", row.Recording, row.Reason)
		}
	})
}

func (l *line) status(h *handset) capture.Status {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	return l.live.Wait(ctx, h.ear.leg, 1<<60)
}

// A page's words are the keys' words, under the keys' rules.
func TestWordsOfAPage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := open(t, program.Terms{}).dials(func(l *line) { l.b.way = consent.ByAccount })
		time.Sleep(spoken + spoken/2) // in the middle of the question
		if err := l.live.Caller.Choose("agree"); !errors.Is(err, yesline.Conflict) {
			t.Errorf("a yes before the question's last word: %v", err)
		}
		if s := l.status(l.a); !s.Question || s.MayAgree {
			t.Errorf("in the question the page says %+v", s)
		}
		time.Sleep(spoken)
		if s := l.status(l.a); !s.MayAgree || !s.MayLast || s.Left <= 0 || s.Left > 8*time.Second {
			t.Errorf("after the question the page says %+v", s)
		}
		ok(t, l.live.Caller.Choose("agree"))
		if err := l.live.Caller.Choose("sing"); !errors.Is(err, yesline.Invalid) {
			t.Errorf("a word that is none: %v", err)
		}
		time.Sleep(2 * time.Second)
		ok(t, l.live.Callee.Choose("agree"))
		time.Sleep(4 * time.Second)
		ok(t, l.live.Caller.Choose("stop"))
		time.Sleep(3 * time.Second)
		if s := l.status(l.b); s.Recording != "nobody" {
			t.Errorf("after a stop the page says %+v", s)
		}
		ok(t, l.live.Callee.Choose("hangup"))
		if row := l.ended(); row.Ending != "the callee hung up" {
			t.Errorf("it ended because %q", row.Ending)
		}
		history := must(l.consent.History(context.Background(), l.live.ID))(t)
		if len(history) != 3 || slices.ContainsFunc(history, func(e consent.Event) bool { return e.Channel != "page" }) {
			t.Errorf("the history is %+v", history)
		}
	})
}

// A waiting page hears of each change at once.
func TestAPageWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := open(t, program.Terms{}).dials()
		ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
		defer cancel()
		var states []capture.State
		for at := int64(0); ; {
			s := l.live.Wait(ctx, l.live.Caller, at)
			if s.Version <= at {
				t.Fatalf("nothing new after %v", states)
			}
			at = s.Version
			if len(states) == 0 || states[len(states)-1] != s.State {
				states = append(states, s.State)
			}
			if s.MayAgree {
				ok(t, l.live.Caller.Choose("decline"))
				l.a.hangsUp()
			}
			if s.State == capture.Ended {
				break
			}
		}
		if states[len(states)-1] != capture.Ended || !slices.Contains(states, capture.Asking) {
			t.Errorf("the page saw %v", states)
		}
		l.ended()
	})
}

func TestACallComesIn(t *testing.T) {
	t.Parallel()
	for name, known := range map[string]bool{"who says who they are": true, "who does not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := open(t, program.Terms{})
				bob := must(yesline.NewPhone(bobNumber))(t)
				from := &bob
				if !known {
					from = nil
				}
				l := w.carries(func(*line) (*capture.Live, error) {
					return w.room.Receive(context.Background(), w.program, from, w.ann.Person)
				}, true, func(l *line) { l.a.way = consent.ByCallerID })
				time.Sleep(500 * time.Millisecond)
				if l.a.isUp() {
					t.Error("the caller pays for the ringing")
				}
				time.Sleep(4 * time.Second)
				l.a.ear.press("3") // no caller id is proof enough for a lasting yes
				l.a.ear.press("1")
				l.b.ear.press("1")
				time.Sleep(5 * time.Second)
				l.b.hangsUp()
				row := l.ended()
				if want := map[bool]string{true: "both", false: "nobody"}[known]; row.Recording != want {
					t.Errorf("recording is %q (%s), want %q", row.Recording, row.Reason, want)
				}
				if !known && !strings.Contains(row.Reason, "not known") {
					t.Errorf("the reason is %q", row.Reason)
				}
				if lasting := must(w.consent.LastingOf(context.Background(), row.Parties[0].Person))(t); len(lasting) > 0 {
					t.Error("a caller id gave a lasting yes")
				}
			})
		})
	}
}

func TestRingFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := open(t, program.Terms{})
		l := w.carries(func(l *line) (*capture.Live, error) {
			l.a.rings, l.a.way = 3*time.Second, consent.ByRinging
			return w.room.RingFirst(context.Background(), w.ann, must(yesline.NewPhone("+12025550101"))(t), must(yesline.NewPhone(bobNumber))(t))
		}, false)
		time.Sleep(2 * time.Second)
		if l.b.isUp() {
			t.Error("the other was rung before the caller picked up")
		}
		time.Sleep(2*time.Second + 3*spoken)
		l.a.ear.press("1")
		time.Sleep(3 * time.Second)
		l.b.ear.press("1")
		time.Sleep(4 * time.Second)
		l.b.hangsUp()
		if row := l.ended(); row.Recording != "both" {
			t.Errorf("recording is %q (%s)", row.Recording, row.Reason)
		}
	})
}

func TestSeveralTelephonesRing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow, quick, deaf := newHandset(), newHandset(), newHandset()
		slow.rings, quick.rings, deaf.fails = time.Minute, time.Second, capture.ErrUnreached
		all := capture.AnyOf(slow, quick, deaf)
		left := make(chan error, 1)
		began := time.Now()
		if _, err := all.Connect(context.Background(), capture.Ends{Left: func(why error) { left <- why }}); err != nil || time.Since(began) > 2*time.Second {
			t.Fatalf("after %s: %v", time.Since(began), err)
		}
		if !quick.isUp() || slow.isUp() {
			t.Error("not the one that was picked up carries the call")
		}
		quick.hangsUp()
		if why := <-left; why != capture.ErrHungUp {
			t.Error(why)
		}
		all.Hangup()
		busy, none := newHandset(), newHandset()
		busy.fails, none.fails = capture.ErrBusy, capture.ErrUnreached
		if _, err := capture.AnyOf(none, busy).Connect(context.Background(), capture.Ends{}); !errors.Is(err, capture.ErrBusy) {
			t.Errorf("of busy and unreached: %v", err)
		}
	})
}

// A program that asks later: the call goes on unrecorded until somebody wants
// it, and then both are asked.
func TestAskedInTheCall(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		bob       string
		recording string
	}{"both agree": {"1", "both"}, "one does not": {"2", "nobody"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := open(t, program.Terms{Ask: program.AskDuring})
				l := w.dials()
				l.talks('a', 30*time.Second)
				time.Sleep(5 * time.Second)
				if s := l.status(l.a); s.State != capture.Bridged || s.Recording != "nobody" || !s.CanAsk || s.Question {
					t.Errorf("before anybody asks the page says %+v", s)
				}
				l.a.ear.press("2") // for a menu of the other side: no answer to anything
				l.b.ear.press("1")
				l.a.ear.press("*8")
				time.Sleep(2*spoken + 100*time.Millisecond)
				if s := l.status(l.a); s.State != capture.Asking || !s.MayAgree {
					t.Errorf("while both are asked the page says %+v", s)
				}
				l.a.ear.press("1")
				l.b.ear.press(c.bob)
				time.Sleep(6 * time.Second)
				if s := l.status(l.a); s.State != capture.Bridged || s.CanAsk {
					t.Errorf("after it the page says %+v", s)
				}
				if err := l.live.Caller.Choose("record"); !errors.Is(err, yesline.Conflict) {
					t.Errorf("asking twice in a call: %v", err)
				}
				l.b.hangsUp()
				row := l.ended()
				if row.Recording != c.recording {
					t.Errorf("recording is %q (%s), want %q", row.Recording, row.Reason, c.recording)
				}
				n := 0
				for _, k := range must(l.tracks.Tracks(context.Background(), l.live.ID))(t) {
					if k.Leg == l.a.ear.leg.ID {
						n = (&story{world: l.world}).sealedSeconds(k.ID)
					}
				}
				if want := c.recording == "both"; (n > 0) != want || n > 8 {
					t.Errorf("%d seconds of the caller are sealed", n)
				}
				l.sending.Wait()
			})
		})
	}
}

// A yes for all calls with the same person is told in the next one, and 2 takes
// it back.
func TestALastingYes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := open(t, program.Terms{})
		call := func(a, b string, after time.Duration, want string) *line {
			t.Helper()
			l := w.dials()
			time.Sleep(2*spoken + 50*time.Millisecond)
			l.a.ear.press(a)
			time.Sleep(after)
			l.b.ear.press(b)
			time.Sleep(20 * time.Second)
			l.b.hangsUp()
			if row := l.ended(); row.Recording != want {
				t.Errorf("recording is %q (%s), want %q", row.Recording, row.Reason, want)
			}
			return l
		}
		call("1", "3", 2*time.Second, "both")
		second := call("1", "", 0, "both")
		history := must(w.consent.History(context.Background(), second.live.ID))(t)
		if !slices.ContainsFunc(history, func(e consent.Event) bool { return e.Channel == consent.ByMemory && e.Prompt == "remembered" }) {
			t.Errorf("the history of the second call is %+v", history)
		}
		call("1", "2", 850*time.Millisecond, "nobody") // while the notice is spoken
		call("1", "", 0, "nobody")                     // asked again, and says nothing
	})
}

func TestPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := open(t, program.Terms{}).dials()
		l.talks('a', 40*time.Second)
		asked()
		l.a.ear.press("1")
		time.Sleep(2 * time.Second)
		l.b.ear.press("1")
		time.Sleep(4 * time.Second)
		l.b.ear.press("*5")
		if s := l.status(l.a); !s.Paused {
			t.Errorf("the page says %+v", s)
		}
		if err := l.live.Caller.Choose("resume"); !errors.Is(err, yesline.Conflict) {
			t.Errorf("going on from somebody else's pause: %v", err)
		}
		time.Sleep(10 * time.Second)
		l.b.ear.press("*6")
		time.Sleep(4 * time.Second)
		l.a.hangsUp()
		l.ended()
		for _, k := range must(l.tracks.Tracks(context.Background(), l.live.ID))(t) {
			if k.Leg == l.a.ear.leg.ID {
				if n := (&story{world: l.world}).sealedSeconds(k.ID); n < 5 || n > 9 {
					t.Errorf("%d seconds of the caller are sealed, want about 7: ten were paused", n)
				}
			}
		}
		l.sending.Wait()
	})
}

func TestAHouseThatCloses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := open(t, program.Terms{})
		w.room.Most = 1
		l := w.dials()
		bob := must(yesline.NewPhone(bobNumber))(t)
		if _, err := w.room.Dial(context.Background(), w.ann, bob); !errors.Is(err, yesline.TooMany) {
			t.Errorf("a call too many: %v", err)
		}
		drained := make(chan int, 1)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		go func() { drained <- w.room.Drain(ctx) }()
		time.Sleep(10 * time.Second)
		if _, err := w.room.Dial(context.Background(), w.ann, bob); !errors.Is(err, yesline.Unavailable) {
			t.Errorf("a call to a house that closes: %v", err)
		}
		select {
		case <-drained:
			t.Error("a call was not waited for")
		default:
		}
		l.a.hangsUp()
		if left := <-drained; left != 0 {
			t.Errorf("%d calls are left", left)
		}
		l.ended()
	})
}
