package capture_test

import (
	"context"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"yesline/internal/capture"
	"yesline/internal/program"
)

// pauses are what the log says of the call's pauses, oldest first.
func (s *story) pauses() (verbs []string) {
	s.t.Helper()
	for _, line := range must(s.Log.About(context.Background(), s.live.Callee.Person, string(s.live.ID), 0, 100))(s.t) {
		if v := line.Entry.Verb; v == "call.paused" || v == "call.resumed" {
			verbs = append(verbs, v)
		}
	}
	slices.Reverse(verbs)
	return verbs
}

// Keys come as fast as their sender likes. Who pauses and goes on a thousand
// times within a moment has paused at once, starts one writer, and leaves two
// entries in the log; what was pressed last counts.
func TestPausingIsBounded(t *testing.T) { // not parallel: it counts goroutines
	for last, want := range map[string][]string{
		"":   {"call.paused", "call.resumed"},
		"*5": {"call.paused"},
	} {
		t.Run("and then "+last, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, program.Terms{}).call()
				s.talk(s.ann, 'a', 30*time.Second)
				asked()
				s.ann.press("1")
				s.bob.press("1")
				time.Sleep(3 * time.Second)
				before := runtime.NumGoroutine()
				for range 1000 {
					s.bob.press("*5*6")
				}
				s.bob.press(last)
				if more := runtime.NumGoroutine() - before; more > 20 {
					t.Errorf("4000 keys of one party started %d goroutines", more)
				}
				if s := s.status(); !s.Paused {
					t.Errorf("a pause does not hold at once: %+v", s)
				}
				time.Sleep(5 * time.Second)
				if got := s.status().Paused; got != (last == "*5") {
					t.Errorf("afterwards, paused is %v", got)
				}
				s.end()
				if got := s.pauses(); !slices.Equal(got, want) {
					t.Errorf("the log says %v, want %v", got, want)
				}
			})
		})
	}
}

// A pause holds at once, also when the one before has just ended, and each is in
// the log; the last also when the call ends with it.
func TestEachPauseHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, program.Terms{}).call()
		s.talk(s.ann, 'a', 60*time.Second)
		asked()
		s.ann.press("1")
		s.bob.press("1")
		time.Sleep(3 * time.Second)
		var want []string
		begun := time.Now()
		for range 5 {
			s.bob.press("*5")
			if !s.status().Paused {
				t.Fatal("a pause waits")
			}
			s.bob.press("*6")
			want = append(want, "call.paused", "call.resumed")
			for s.status().Paused {
				time.Sleep(10 * time.Millisecond)
			}
		}
		if took := time.Since(begun); took < 9*time.Second {
			t.Errorf("ten changes took %s", took)
		}
		s.bob.press("*5*6") // and no time to go on
		begun = time.Now()
		s.hangUp()
		<-s.over
		if late := time.Since(begun); late > time.Second/2 {
			t.Errorf("the call ended %s late", late)
		}
		s.sending.Wait()
		if got := s.pauses(); !slices.Equal(got, append(want, "call.paused")) {
			t.Errorf("the log says %v", got)
		}
	})
}

func (s *story) status() capture.Status {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	return s.live.Wait(ctx, s.live.Callee, 1<<60)
}
