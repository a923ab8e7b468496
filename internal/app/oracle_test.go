package app_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// An offer that cannot be taken is refused in the same way whoever has the
// number: it rings nobody, so it may not tell whose page is open either.
func TestABadOfferTellsNothingOfTheNumber(t *testing.T) {
	t.Parallel()
	l := newCarried(t)
	ann, ben := l.opens(l.people[0], "opus"), l.opens(l.people[1], "opus")
	ben.waits()
	ben.here(l.people[1])
	// A voice in Opus alone, and no line for the house.
	var rows []string
	for row := range strings.SplitSeq(ann.offer(), "\r\n") {
		if strings.HasPrefix(row, "m=audio") {
			if len(rows) > 0 && strings.Contains(strings.Join(rows, "\n"), "m=audio") {
				break
			}
			row = strings.Join(strings.Fields(row)[:3], " ") + " 111"
		}
		if strings.HasPrefix(row, "a=group:BUNDLE") {
			row = "a=group:BUNDLE 0"
		}
		rows = append(rows, row)
	}
	offer := strings.Join(rows, "\r\n") + "\r\n"
	says := map[string]string{}
	for _, to := range []string{calleeNumber, "+12025550177"} {
		var no told
		code := ann.posts("/call", url.Values{"to": {to}, "sdp": {offer}}, &no)
		if code == http.StatusOK {
			t.Fatal("it is a call")
		}
		says[to] = http.StatusText(code) + ": " + no.Error
	}
	if a, b := says[calleeNumber], says["+12025550177"]; a != b {
		t.Errorf("a number whose person's page is open: %q; any other: %q", a, b)
	}
	if n := l.counts("calls"); n != 0 {
		t.Errorf("%d calls were written", n)
	}
}
