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
	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/consent"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
	"yesline/internal/program"
)

// Each test here misses one guard that no other test misses; scripts/mutants
// breaks them.

// A row that was closed stays as it was closed, whatever a call that still
// knows nothing of it writes.
func TestAClosedRowStaysClosed(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, databases func(string) *db.DB) {
		w := openOn(t, databases, program.Terms{})
		ctx := t.Context()
		begin := func() *capture.Live {
			return must(w.room.Begin(ctx, w.ann, must(yesline.NewPhone(bobNumber))(t)))(t)
		}
		live := begin()
		const early = 7 // when the callee had gone already
		ok(t, w.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE parties SET ended = $1 WHERE leg = $2`, early, live.Callee.ID)
			return err
		}))
		ok(t, w.room.Recover(ctx))
		if c := must(w.room.Call(ctx, live.ID))(t); c.Parties[1].Ended != early || c.Parties[0].Ended <= early {
			t.Errorf("after a restart the parties are %+v", c.Parties)
		}
		live.Caller.Attach((&ear{}).line(audio.PCMU))
		live.Callee.Attach((&ear{}).line(audio.PCMU))
		live.Notice(ctx)
		live.Bridge(ctx)
		if c := must(w.room.Call(ctx, live.ID))(t); c.State != capture.Ended {
			t.Errorf("a closed call is %s again", c.State)
		}
		live.End("it was over")
		closed := must(w.room.Call(ctx, live.ID))(t)
		if closed.Ending != "the server stopped" {
			t.Errorf("a closed call ended anew because %q", closed.Ending)
		}
		const never = 0 // a party that was left open in a closed call stays so, too
		ok(t, w.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE parties SET ended = $1 WHERE leg = $2`, never, live.Callee.ID)
			return err
		}))
		time.Sleep(2 * time.Millisecond)
		ok(t, w.room.Recover(ctx))
		if c := must(w.room.Call(ctx, live.ID))(t); c.Ended != closed.Ended || c.Parties[1].Ended != never {
			t.Error("a restart closed a closed call again")
		}
	})
}

func TestWhoIsForgottenInACallIsNotWrittenInto(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := open(t, program.Terms{}).dials()
		time.Sleep(500 * time.Millisecond) // it rings
		ok(t, l.room.Forget(t.Context(), l.live.Callee.Person))
		time.Sleep(4 * time.Second)
		l.b.hangsUp()
		if row := l.ended(); row.Parties[1].Answered != 0 || row.Parties[0].Answered == 0 {
			t.Errorf("the parties are %+v", row.Parties)
		}
	})
}

// A house whose database does not answer lets people talk, and soon.
func TestABusyHouseIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := open(t, program.Terms{})
		locked := (&story{world: w}).lockContent(5 * time.Minute)
		began := time.Now()
		l := w.dials()
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("the caller waited %s for the house", took)
		}
		ok(t, <-locked)
		l.a.hangsUp()
		<-l.over
	})
}

// A no that the house could not take at first is written down as soon as it can.
func TestANoIsInsistedOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, program.Terms{}).call()
		asked()
		s.ann.press("1")
		s.bob.press("1")
		time.Sleep(3 * time.Second)
		locked := s.lockContent(20 * time.Second)
		s.bob.press("*9")
		ok(t, <-locked)
		time.Sleep(15 * time.Second)
		history := must(s.consent.History(t.Context(), s.live.ID))(t)
		if !slices.ContainsFunc(history, func(e consent.Event) bool { return e.Keys == "*9" }) {
			t.Errorf("the stop is not in the history: %+v", history)
		}
		s.end()
	})
}

func TestAStarIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, program.Terms{}).call()
		asked()
		s.ann.press("1")
		s.bob.press("1")
		time.Sleep(time.Second)
		s.bob.press("*")
		time.Sleep(4 * time.Second)
		s.bob.press("9") // of a menu on the other side
		time.Sleep(time.Second)
		if row := s.end(); strings.Contains(row.Reason, "stopped") {
			t.Errorf("the reason is %q", row.Reason)
		}
	})
}

// Nobody can be asked while it rings, nor twice told no.
func TestWordsThatMeanNothingYet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := open(t, program.Terms{Ask: program.AskDuring}).dials()
		time.Sleep(100 * time.Millisecond)
		if err := l.live.Caller.Choose("record"); !errors.Is(err, yesline.Conflict) {
			t.Errorf("asking while it rings: %v", err)
		}
		l.a.hangsUp()
		l.ended()
	})
	synctest.Test(t, func(t *testing.T) {
		l := open(t, program.Terms{}).dials()
		asked()
		ok(t, l.live.Caller.Choose("decline"))
		if err := l.live.Caller.Choose("decline"); !errors.Is(err, yesline.Conflict) {
			t.Errorf("a second no: %v", err)
		}
		for _, key := range []string{"", "x", "12", "A", "\xff"} {
			if err := l.live.Caller.Press(key); !errors.Is(err, yesline.Invalid) {
				t.Errorf("the key %q: %v", key, err)
			}
		}
		ok(t, l.live.Callee.Press("2"))
		l.a.hangsUp()
		if row := l.ended(); row.Parties[1].Why != "said no" {
			t.Errorf("a 2 of the page's keypad: %q", row.Parties[1].Why)
		}
	})
}

// Whose telephones the test's own hands hold, nobody can hang up by a page.
func TestThereIsNothingToHangUp(t *testing.T) {
	t.Parallel()
	w := open(t, program.Terms{})
	live := must(w.room.Begin(t.Context(), w.ann, must(yesline.NewPhone(bobNumber))(t)))(t)
	defer live.End("it was over")
	if err := live.Caller.Choose("hangup"); !errors.Is(err, yesline.Conflict) {
		t.Errorf("hanging up what is not carried: %v", err)
	}
}

func TestCallsThatCannotBe(t *testing.T) {
	t.Parallel()
	w := open(t, program.Terms{})
	ctx := t.Context()
	own, bob := must(yesline.NewPhone("+12025550101"))(t), must(yesline.NewPhone(bobNumber))(t)
	if _, err := w.room.Dial(ctx, w.ann, bob); !errors.Is(err, yesline.Unavailable) {
		t.Errorf("out of a room without a way out: %v", err)
	}
	if _, err := w.room.Receive(ctx, w.program, &bob, w.ann.Person); !errors.Is(err, yesline.NotFound) {
		t.Errorf("into a room without a way to anybody: %v", err)
	}
	w.room.Reach = func(context.Context, capture.Wanted) (capture.Route, error) {
		return capture.Route{Handset: newHandset()}, nil
	}
	if _, err := w.room.Receive(ctx, w.program, &own, w.ann.Person); !errors.Is(err, yesline.Invalid) {
		t.Errorf("from oneself: %v", err)
	}
	if n := w.room.Going(); n != 0 {
		t.Errorf("%d calls are counted that never were", n)
	}
	for _, c := range []struct {
		person yesline.PersonID
		limit  int
	}{{"", 1}, {w.ann.Person, 0}, {w.ann.Person, -1}, {w.ann.Person, db.MaxIn + 1}} {
		if _, _, err := w.room.Calls(ctx, c.person, "", c.limit); !errors.Is(err, yesline.Invalid) {
			t.Errorf("%d calls of %q: %v", c.limit, c.person, err)
		}
	}
	if _, err := w.room.ByID(ctx, make([]string, db.MaxIn+1)); !errors.Is(err, yesline.Invalid) {
		t.Errorf("too many calls at once: %v", err)
	}
}

// eager is a telephone that is picked up when pick is closed, hung up or not.
type eager struct {
	pick  chan struct{}
	downs int
}

func (e *eager) Connect(context.Context, capture.Ends) (capture.Line, error) {
	<-e.pick
	return capture.Line{}, nil
}

func (e *eager) Hangup() { e.downs++ }

func TestTwoPickUpAtOnce(t *testing.T) {
	t.Parallel()
	pick := make(chan struct{})
	a, b := &eager{pick: pick}, &eager{pick: pick}
	close(pick)
	if _, err := capture.AnyOf(a, b).Connect(t.Context(), capture.Ends{}); err != nil {
		t.Fatal(err)
	}
	if a.downs > 0 == (b.downs > 0) {
		t.Errorf("%d and %d times hung up, want one of them to carry the call", a.downs, b.downs)
	}
}

// Who was not told to the end that an earlier yes still holds has not said it.
func TestALastingYesThatWasNotHeard(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := open(t, program.Terms{})
		call := func(deaf bool, pressed byte, want string) {
			t.Helper()
			l := w.dials()
			l.b.ear.deaf.Store(deaf)
			asked()
			l.live.Caller.Key('1', time.Now(), true)
			time.Sleep(2 * time.Second)
			if pressed != 0 {
				l.live.Callee.Key(pressed, time.Now(), true)
			}
			time.Sleep(20 * time.Second)
			l.b.hangsUp()
			if row := l.ended(); row.Recording != want {
				t.Errorf("recording is %q (%s), want %q", row.Recording, row.Reason, want)
			}
		}
		call(false, '3', "both")
		call(true, 0, "nobody")
	})
}
