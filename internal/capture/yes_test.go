package capture_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
	"yesline/internal/capture"
	"yesline/internal/consent"
	"yesline/internal/db"
	"yesline/internal/program"
)

// A yes is one of who heard the whole question, and speaks for no other voice.

// A line is taken over while the question is spoken: whoever is there now heard
// the end of it at most. It is asked again from its first word, and a yes to
// that is for this call alone.
func TestTakenOverWhileTheQuestionIsSpoken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, program.Terms{}).call()
		s.talk(s.ann, 'a', 30*time.Second)
		time.Sleep(spoken + spoken*3/4) // the notice, and most of the question
		s.bob.leg.Relearn()             // transferred: somebody else is there for the last 50 ms of it
		time.Sleep(spoken)
		s.ann.press("1")
		s.bob.press("1")
		time.Sleep(spoken / 2) // it was asked again
		if got := s.row().State; got == capture.Bridged {
			t.Error("a 1 counts from a source that heard the last 50 ms of the question")
		}
		s.bob.press("3")
		s.bob.press("1")
		time.Sleep(3 * time.Second)
		s.says(s.end(), "both", "the callee said yes")
		if got := string(s.bob.heard); !strings.HasPrefix(got, "\x01\x06\x04") { // ask, ask_once, thanks_recording
			t.Errorf("the callee heard %q", got)
		}
		if lasting := must(s.consent.LastingOf(context.Background(), s.live.Callee.Person))(t); len(lasting) > 0 {
			t.Error("whoever took the line over let its owner's yes last")
		}
	})
}

// A lasting yes is nothing to whoever takes the line over, whenever that is.
// They are asked, or have said nothing.
func TestTakenOverWhereAYesIsRemembered(t *testing.T) {
	t.Parallel()
	const picked = spoken + time.Second // after the notice and the ringing
	for name, c := range map[string]struct {
		after    time.Duration // since the beginning of the call
		slow     bool          // the house, in writing it down
		remember bool          // it was the yes of the call already
	}{
		"while they are told":      {after: picked + spoken*3/4},
		"while it is written down": {after: picked + spoken + 300*time.Millisecond, slow: true, remember: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := open(t, program.Terms{})
				var begun time.Time
				at := func(d time.Duration) { time.Sleep(time.Until(begun.Add(d))) }
				call := func() *line {
					begun = time.Now()
					l := w.dials()
					at(2*spoken + 50*time.Millisecond)
					l.a.ear.press("1")
					return l
				}
				l := call()
				at(picked + time.Second)
				l.b.ear.press("3")
				at(8 * time.Second)
				l.b.hangsUp()
				l.ended()

				l = call()
				at(picked + spoken/2)
				free := make(chan struct{})
				if c.slow {
					go w.Content.Transact(context.Background(), func(context.Context, *db.Tx) error { <-free; return nil })
				}
				at(c.after)
				l.live.Callee.Relearn()
				close(free)
				at(25 * time.Second)
				l.b.hangsUp()
				row := l.ended()
				history := must(w.consent.History(context.Background(), l.live.ID))(t)
				remembered := slices.ContainsFunc(history, func(e consent.Event) bool { return e.Channel == consent.ByMemory })
				stands := must(w.consent.Of(context.Background(), l.live.ID, l.live.Callee.Person))(t)
				if stands.Record == consent.Yes || remembered != c.remember || row.Recording != "nobody" {
					t.Errorf("another's lasting yes stands at %q for who took the line over: %q, %s", stands.Record, row.Recording, row.Reason)
				}
				if asked := strings.Contains(string(l.b.ear.heard), "\x06"); asked == c.remember {
					t.Errorf("who took the line over was asked: %v", asked)
				}
			})
		})
	}
}

// Nor is it to who has taken it over before anybody was asked.
func TestTakenOverBeforeAYesIsRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := open(t, program.Terms{Ask: program.AskDuring})
		call := func(takenOver bool, bob string) (*line, capture.Call) {
			l := w.dials()
			time.Sleep(3 * time.Second)
			if takenOver {
				l.live.Callee.Relearn()
			}
			l.a.ear.press("*8")
			time.Sleep(3 * spoken)
			l.a.ear.press("1")
			l.b.ear.press(bob)
			time.Sleep(20 * time.Second)
			l.b.hangsUp()
			return l, l.ended()
		}
		if _, row := call(false, "3"); row.Recording != "both" {
			t.Fatalf("recording is %q (%s)", row.Recording, row.Reason)
		}
		if _, row := call(false, ""); row.Recording != "both" {
			t.Errorf("by a yes of before, recording is %q (%s)", row.Recording, row.Reason)
		}
		if l, row := call(true, ""); row.Recording != "nobody" || !strings.Contains(string(l.b.ear.heard), "\x06") {
			t.Errorf("who took the line over heard %q, and recording is %q (%s)", l.b.ear.heard, row.Recording, row.Reason)
		}
	})
}

// A page says yes where its person has signed in with the telephone, or had us
// ring their own from there. Whoever shows their number or picks it up may be
// another: for them it says no, and hangs up.
func TestWhoAPageSpeaksFor(t *testing.T) {
	t.Parallel()
	dial := func(l *line) (*capture.Live, error) {
		return l.room.Dial(context.Background(), l.ann, must(yesline.NewPhone(bobNumber))(l.t))
	}
	ringMe := func(l *line) (*capture.Live, error) {
		l.a.way = consent.ByRinging
		return l.room.RingFirst(context.Background(), l.ann, must(yesline.NewPhone("+12025550101"))(l.t), must(yesline.NewPhone(bobNumber))(l.t))
	}
	fromOutside := func(l *line) (*capture.Live, error) {
		l.a.way = consent.ByCallerID
		bob := must(yesline.NewPhone(bobNumber))(l.t)
		return l.room.Receive(context.Background(), l.program, &bob, l.ann.Person)
	}
	for name, c := range map[string]struct {
		begin     func(*line) (*capture.Live, error)
		side      capture.Side
		callee    consent.Way
		takenOver bool
		speaks    bool
	}{
		"the caller's browser":              {begin: dial, side: capture.Caller, speaks: true},
		"the caller's phone was taken over": {begin: dial, side: capture.Caller, takenOver: true},
		"the callee's phone that signed in": {begin: dial, side: capture.Callee, callee: consent.ByAccount, speaks: true},
		"the callee's number was rung":      {begin: dial, side: capture.Callee, callee: consent.ByRinging},
		"they had us ring their own phone":  {begin: ringMe, side: capture.Caller, speaks: true},
		"the other of such a call":          {begin: ringMe, side: capture.Callee, callee: consent.ByRinging},
		"a caller shows their number":       {begin: fromOutside, side: capture.Caller, callee: consent.ByAccount},
		"the callee of a call from outside": {begin: fromOutside, side: capture.Callee, callee: consent.ByAccount, speaks: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := open(t, program.Terms{}).carries(func(l *line) (*capture.Live, error) {
					l.b.way = c.callee
					return c.begin(l)
				}, true)
				leg, ear := l.live.Caller, l.a
				if c.side == capture.Callee {
					leg, ear = l.live.Callee, l.b
				}
				if c.takenOver {
					time.Sleep(spoken / 2)
					leg.Relearn()
				}
				s := l.status(ear)
				for until := time.Now().Add(5 * time.Second); s.Left == 0 && time.Now().Before(until); s = l.status(ear) {
					time.Sleep(50 * time.Millisecond)
				}
				if !s.Question || s.Left == 0 || s.MayAgree != c.speaks || s.MayLast != c.speaks {
					t.Errorf("after the question the page says %+v", s)
				}
				no := "stop"
				switch always := leg.Choose("agree_always"); {
				case c.speaks:
					ok(t, always)
				case !errors.Is(always, yesline.Conflict), !errors.Is(leg.Choose("agree"), yesline.Conflict):
					t.Error("the page says yes for another's voice")
				default:
					no = "decline"
				}
				if err := errors.Join(leg.Choose(no), leg.Choose("hangup")); err != nil {
					t.Errorf("a no and the hanging up: %v", err)
				}
				l.ended()
			})
		})
	}
}

// What somebody chose in the terms is theirs. Who shows their number and says
// yes to being recorded has licensed and shared nothing, and neither has who
// took their line over.
func TestWhoseVoiceTheTermsLicense(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		way       consent.Way
		takenOver bool
		licensed  bool
	}{
		"a browser of theirs":  {way: consent.ByAccount, licensed: true},
		"their number, rung":   {way: consent.ByRinging, licensed: true},
		"another took it over": {way: consent.ByAccount, takenOver: true},
		"a caller's number":    {way: consent.ByCallerID},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := open(t, program.Terms{})
				ctx := context.Background()
				number := must(yesline.NewPhone(bobNumber))(t)
				bob := must(w.room.People.Find(ctx, w.program, number))(t)
				all := map[consent.Purpose]bool{consent.Record: true, consent.Share: true, consent.License: true}
				ok(t, w.consent.Agree(ctx, bob, w.program, must(consent.Cards())(t).SHA256, all, consent.Evidence{AtMillis: time.Now().UnixMilli()}))
				l := w.carries(func(l *line) (*capture.Live, error) {
					l.a.way = c.way
					return w.room.Receive(ctx, w.program, &number, w.ann.Person)
				}, true)
				time.Sleep(time.Second + spoken/2)
				if c.takenOver {
					l.live.Caller.Relearn()
				}
				time.Sleep(3 * time.Second)
				l.a.ear.press("1")
				l.b.ear.press("1")
				time.Sleep(5 * time.Second)
				l.b.hangsUp()
				if row := l.ended(); row.Recording != "both" {
					t.Errorf("recording is %q (%s)", row.Recording, row.Reason)
				}
				if s := must(w.consent.Of(ctx, l.live.ID, bob))(t); s.License != c.licensed || s.Share != c.licensed {
					t.Errorf("licensed %v and shared %v in bob's name", s.License, s.Share)
				}
			})
		})
	}
}
