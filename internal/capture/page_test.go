package capture_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"yesline"
	"yesline/internal/capture"
	"yesline/internal/db"
	"yesline/internal/program"
)

// A page that knows nothing yet is told at once how things are, also of a call
// in which nothing happened yet.
func TestAFreshCallIsTold(t *testing.T) {
	t.Parallel()
	w := open(t, program.Terms{})
	live := must(w.room.Begin(t.Context(), w.ann, must(yesline.NewPhone(bobNumber))(t)))(t)
	defer live.End("it was over")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	s := live.Wait(ctx, live.Caller, 0)
	if ctx.Err() != nil || s.Version < 1 || s.State != capture.Ringing {
		t.Errorf("the first look at a call says %+v, after %v", s, ctx.Err())
	}
	soon, enough := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer enough()
	if again := live.Wait(soon, live.Caller, s.Version); soon.Err() == nil || again.Version != s.Version {
		t.Errorf("what is known already is told again: %+v", again)
	}
}

// Whoever asks late is told how a call ended: while its row is being written,
// and from its row for as long as it is kept.
func TestALatePageIsToldHowItEnded(t *testing.T) {
	t.Parallel()
	w := open(t, program.Terms{})
	ctx := t.Context()
	live := must(w.room.Begin(ctx, w.ann, must(yesline.NewPhone(bobNumber))(t)))(t)
	bob := live.Callee.Person
	busy, free := make(chan struct{}), make(chan struct{})
	written := make(chan error, 1)
	release := sync.OnceFunc(func() { close(free) })
	defer release()
	go func() { // the disk is slow
		written <- w.Content.Transact(context.Background(), func(context.Context, *db.Tx) error {
			close(busy)
			<-free
			return nil
		})
	}()
	<-busy
	over := make(chan struct{})
	go func() {
		defer close(over)
		live.End("the caller hung up")
	}()
	told := func(at int64) capture.Status {
		t.Helper()
		soon, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		s, side, err := w.room.Status(soon, live.ID, bob, at)
		if err != nil || side != capture.Callee {
			t.Fatalf("the %q is told %v", side, err)
		}
		return s
	}
	var s capture.Status
	for until := time.Now().Add(5 * time.Second); s.State != capture.Ended && time.Now().Before(until); {
		s = told(0)
	}
	if again := told(0); s.State != capture.Ended || s.Ending != "the caller hung up" || again.Ending != s.Ending {
		t.Errorf("while the row is written the page says %+v, and %+v", s, again)
	}
	release()
	ok(t, <-written)
	<-over
	if s := told(7); s.State != capture.Ended || s.Ending != "the caller hung up" || s.Version != 8 || s.Recording != "nobody" {
		t.Errorf("from the row the page says %+v", s)
	}
	for _, nobody := range []yesline.PersonID{"", yesline.NewPersonID()} {
		if _, _, err := w.room.Status(ctx, live.ID, nobody, 0); !errors.Is(err, yesline.NotFound) {
			t.Errorf("somebody who is no party: %v", err)
		}
	}
	if _, _, err := w.room.Status(ctx, yesline.NewCallID(), bob, 0); !errors.Is(err, yesline.NotFound) {
		t.Errorf("a call that never was: %v", err)
	}
}
