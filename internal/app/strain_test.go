package app_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"yesline"
	"yesline/internal/session"
)

// A page is told in plain words that the house is full, for a call from the
// browser and for one to be rung for; nobody is met for it, and the operators
// see it by the hour.
func TestAFullHouseOnThePage(t *testing.T) {
	t.Parallel()
	l := newCarried(t)
	p := l.opens(l.people[0], "PCMU")
	offer := p.offer()
	for n := range 10 { // it may be calls that strain it
		number, _ := yesline.NewPhone(fmt.Sprintf("+120255502%02d", n))
		live, err := l.Capture.Begin(t.Context(), session.Device{Program: l.program, Person: l.people[0]}, number)
		if err != nil {
			t.Fatal(err)
		}
		defer live.End("it was a crowd's")
	}
	for pace, now := l.Plane.Pace(), time.Now(); !l.Capture.Full(); now = now.Add(2 * time.Second) {
		pace.Tick(now) // two seconds after the one before
		if time.Sleep(time.Second + 10*time.Millisecond); time.Until(now) > 20*time.Second {
			t.Fatal("however late sound is, the house is not full")
		}
	}
	known := l.known()
	for path, form := range map[string]url.Values{"/call": {"to": {"+12025550177"}, "sdp": {offer}}, "/call/phone": {"to": {"+12025550177"}}} {
		var no told
		if code := p.posts(path, form, &no); code != http.StatusTooManyRequests || !strings.Contains(no.Error, "This house is full") || !strings.Contains(no.Error, "in a minute") {
			t.Errorf("%s of a full house answers %d: %q", path, code, no.Error)
		}
	}
	if met := l.known() - known; met != 0 {
		t.Errorf("%d people were written down for calls that were not begun", met)
	}
	l.seesRefused("strained", 2)
}

// One that has all the calls that it may says the same.
func TestAHouseWithAllItsCallsOnThePage(t *testing.T) {
	t.Parallel()
	l := newCarried(t)
	l.Capture.Most = 1
	v := l.browser(l.people[0])
	var begun, no told
	if code := v.posts("/call/phone", url.Values{"to": {calleeNumber}}, &begun); code != http.StatusOK {
		t.Fatalf("the first call answers %d", code)
	}
	if code := v.posts("/call/phone", url.Values{"to": {"+12025550177"}}, &no); code != http.StatusTooManyRequests || !strings.Contains(no.Error, "This house is full") {
		t.Errorf("a call too many answers %d: %q", code, no.Error)
	}
	l.seesRefused("most", 1)
	v.chooses(yesline.CallID(begun.Call), "hangup")
}

// seesRefused checks how often operators see a word, of nobody's.
func (h *home) seesRefused(word string, times int64) {
	h.t.Helper()
	all, err := h.Tolls.Refused(h.t.Context(), 100)
	if err != nil {
		h.t.Fatal(err)
	}
	var seen int64
	for _, r := range all {
		if r.Word == word && r.Person == "" {
			seen += r.Times
		}
	}
	if seen != times {
		h.t.Errorf("%s is counted %d times, want %d: %+v", word, seen, times, all)
	}
}
