package app_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"
)

// A call ends with the session in which it was begun or picked up; another
// session of the same person changes nothing.
func TestACallEndsWithItsSession(t *testing.T) {
	t.Parallel()
	for side, name := range []string{"who called", "who picked up"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newCarried(t)
			pages := [2]*page{l.opens(l.people[0], "opus"), l.opens(l.people[1], "opus")}
			rings := pages[1].waits()
			pages[1].here(l.people[1])
			call := pages[0].calls(calleeNumber)
			pages[1].answers(rings)
			out := func(v *visitor) {
				t.Helper()
				if code := v.submits("/out", url.Values{}); code >= http.StatusBadRequest {
					t.Fatalf("signing out: %d", code)
				}
			}
			out(l.browser(l.people[side]))
			time.Sleep(2500 * time.Millisecond)
			if l.Capture.Live(call) == nil {
				t.Fatal("it ended with another session")
			}
			out(pages[side].visitor)
			until(t, "the call ends", 10*time.Second, func() bool { return l.Capture.Live(call) == nil })
		})
	}
}
