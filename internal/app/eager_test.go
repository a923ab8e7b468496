package app_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"yesline"
)

// Of a call that is refused because there were too many nothing is kept: who
// was not called is not met.
func TestARefusedCallFromAPageMeetsNobody(t *testing.T) {
	t.Parallel()
	l := newCarried(t)
	p := l.opens(l.people[0], "PCMU")
	offer, before, placed := p.offer(), l.known(), 0
	for i := range 20 {
		var no told
		if code := p.posts("/call", url.Values{"to": {fmt.Sprintf("+1202555%04d", 120+i)}, "sdp": {offer}}, &no); code == http.StatusOK {
			placed++
		}
	}
	if met := l.known() - before; met > placed {
		t.Errorf("%d calls were placed, and %d people written down", placed, met)
	}
}

// One account that asks for calls as fast as it can does not keep the program's
// other people from calling and being called.
func TestOneAccountDoesNotSpendAllLookUps(t *testing.T) {
	t.Parallel()
	l := newCarried(t)
	p := l.opens(l.people[0], "PCMU")
	number, _ := yesline.NewPhone(calleeNumber)
	refused := 0
	for range 800 { // within a second or two; a program's look-ups are 50 a second, and 500 at once
		var no told
		if p.posts("/call", url.Values{"to": {"+12025550177"}, "sdp": {"x"}}, &no) == http.StatusTooManyRequests { // no offer at all
			refused++
		}
	}
	if refused < 700 {
		t.Errorf("%d of 800 were told to wait", refused)
	}
	if _, err := l.People.Find(t.Context(), l.program, number); errors.Is(err, yesline.TooMany) {
		t.Error("one account's offers that cannot be read spent the look-ups of its whole program: nobody can call or be called")
	}
}
