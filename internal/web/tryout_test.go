package web

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"yesline"
)

// inDemo makes a house one where whoever comes may call Maya.
func inDemo(t testing.TB, s *sample) {
	s.House.Dialer = s.exchange.demo()
	s.House.Try = &Tryout{
		Friend:  Friend{Name: "Maya", Number: "+12025550199", About: "Maya is made up. She picks up, and says yes."},
		Visitor: func(context.Context) (string, error) { return s.cookies["eve"], nil },
	}
}

// Only a demo lets people in without an account; every other house has neither
// the page nor the door behind it.
func TestOnlyADemoLetsVisitorsCall(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	plain := newSite(t, s)
	for _, method := range []string{"GET", "POST"} {
		if got := visit(plain, s, "", method, "/try", nil); got.Code != http.StatusNotFound {
			t.Errorf("%s /try in a house: got %d", method, got.Code)
		}
	}
	if slices.ContainsFunc(plain.table, func(r row) bool { return strings.Contains(r.pattern, "/try") }) {
		t.Error("a house has a door to try it")
	}
	if to := visit(plain, s, "", "GET", "/", nil).Header().Get("Location"); to != "/in" {
		t.Errorf("a house sends nobody to %q", to)
	}
	if page := visit(plain, s, "ann", "GET", "/call", nil).Body.String(); strings.Contains(page, `class="tour"`) {
		t.Error("a house shows the tour of a demo")
	}

	inDemo(t, s)
	demo := newSite(t, s)
	if to := visit(demo, s, "", "GET", "/", nil).Header().Get("Location"); to != "/try" {
		t.Errorf("a demo sends nobody to %q", to)
	}
	if page := visit(demo, s, "", "GET", "/try", nil).Body.String(); !strings.Contains(page, "Call Maya") || strings.Contains(page, `class="tour"`) {
		t.Errorf("the front page: %s", page)
	}
	came := visit(demo, s, "", "POST", "/try", nil)
	if to := came.Header().Get("Location"); came.Code != http.StatusSeeOther || to != "/call#to=%2B12025550199" {
		t.Errorf("a visitor is answered %d and sent to %q", came.Code, to)
	}
	if cookie := came.Header().Get("Set-Cookie"); !strings.Contains(cookie, s.cookies["eve"]) || !strings.Contains(cookie, "HttpOnly") {
		t.Errorf("the visitor's cookie: %q", cookie)
	}
	if again := visit(demo, s, "ann", "POST", "/try", nil); again.Header().Get("Set-Cookie") != "" {
		t.Error("who is signed in became somebody else")
	}
}

// A demo makes so many visitors and no more, and tells the next why.
func TestADemoMakesSoManyVisitors(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	inDemo(t, s)
	s.House.Try.Visitor = func(context.Context) (string, error) { return "", fmt.Errorf("one too many: %w", yesline.TooMany) }
	if got := visit(newSite(t, s), s, "", "POST", "/try", nil); got.Code != http.StatusTooManyRequests || got.Header().Get("Set-Cookie") != "" {
		t.Errorf("one visitor too many: got %d", got.Code)
	}
}

// The tour says on each page what to do there, and leads on.
func TestTheTourLeadsOn(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	inDemo(t, s)
	site := newSite(t, s)
	both, gone := "/calls/"+string(callID("both")), "/calls/"+string(callID("withdrawn"))
	for path, want := range map[string]string{
		"/call":                            "Call Maya by your microphone",
		both:                               both + "/log",
		both + "/log":                      both + "/withdraw",
		both + "/withdraw":                 "press the red button",
		gone:                               "/receipts/",
		gone + "/withdraw":                 gone,
		"/receipts/" + string(receipt):     "go run ./cmd/yesline receipt verify",
		"/calls/" + string(callID("live")): "still on",
	} {
		page := visit(site, s, "ann", "GET", path, nil).Body.String()
		_, rest, _ := strings.Cut(page, `<aside class="tour"`)
		strip, _, found := strings.Cut(rest, "</aside>")
		if !found || !strings.Contains(strip, want) || strings.Count(strip, `aria-current="step"`) != 1 {
			t.Errorf("%s: the tour does not say %q: %s", path, want, strip)
		}
	}
	if page := visit(site, s, "op", "GET", "/house", nil).Body.String(); strings.Contains(page, `class="tour"`) {
		t.Error("an operator is led through the tour")
	}
}
