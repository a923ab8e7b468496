package web

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"yesline/internal/access"
)

// Every door has a rule that the gate can be asked, or a reason why it needs
// none, and the whole table is read by a person whenever it changes.
func TestEveryDoorHasARuleOrAReason(t *testing.T) {
	t.Parallel()
	site := newSite(t, newSample(t))
	var table strings.Builder
	for _, r := range site.table {
		if err := r.check(); err != nil {
			t.Errorf("%s: %v", r.pattern, err)
		}
		pattern := strings.Replace(r.pattern, site.assets.prefix, "/a/<hash>/", 1)
		line := pattern + "\t" + r.sort + "\t" + string(r.rule.Verb) + " " + r.rule.Kind + " " + r.rule.Param
		if r.sort == "public" {
			line = pattern + "\tpublic\t" + r.reason
		}
		table.WriteString(line + "\n")
	}
	golden := filepath.Join("testdata", "doors.tsv")
	if os.Getenv("YESLINE_UPDATE") != "" {
		if err := os.WriteFile(golden, []byte(table.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if table.String() != string(want) {
		t.Errorf("the doors changed; look at each and run with YESLINE_UPDATE=1. got:\n%s", table.String())
	}
}

// A table with a door that cannot be authorized does not start.
func TestABadDoorDoesNotStart(t *testing.T) {
	t.Parallel()
	f := func(context.Context, asked) (answer, error) { return answer{}, nil }
	g := func(http.ResponseWriter, asked, askFunc) error { return nil }
	h := func(http.ResponseWriter, *http.Request) {}
	k := func(context.Context, asked) (done, error) { return done{}, nil }
	view := of(access.View, "call", "call")
	for name, table := range map[string][]row{
		"no rule":              {page("GET /calls/{call}", Rule{}, f)},
		"no verb":              {page("GET /calls/{call}", of("", "call", "call"), f)},
		"no kind":              {page("GET /calls/{call}", of(access.View, "", "call"), f)},
		"no parameter":         {page("GET /calls/{call}", of(access.View, "call", ""), f)},
		"another parameter":    {page("GET /calls/{call}", of(access.View, "call", "track"), f)},
		"two parameters":       {page("GET /calls/{call}/tracks/{track}", view, f)},
		"an unasked object":    {page("GET /people/{person}", own(access.List, "person"), f)},
		"an unknown kind":      {page("GET /calls/{call}", of(access.View, "cat", "call"), f)},
		"a page that acts":     {page("POST /calls/{call}", view, f)},
		"an act that is got":   {act("GET /calls/{call}", view, f)},
		"a stream by POST":     {stream("POST /calls/{call}", view, g)},
		"any method":           {page("/calls/{call}", view, f)},
		"nothing behind it":    {page("GET /calls/{call}", view, nil)},
		"public, no reason":    {public("GET /secret", "", h)},
		"public, nothing":      {public("GET /secret", "because", nil)},
		"public with a rule":   {{pattern: "GET /x", sort: "public", reason: "because", rule: view, open: h}},
		"two of the same":      {page("GET /calls/{call}", view, f), page("GET /calls/{call}", view, f)},
		"a reason and a rule":  {{pattern: "GET /calls/{call}", sort: "page", reason: "because", rule: view, show: f}},
		"no sort":              {{pattern: "GET /calls/{call}", rule: view, show: f}},
		"a fresh stream":       {stream("GET /calls/{call}", view, g).fresh()},
		"public and fresh":     {public("GET /secret", "because", h).fresh()},
		"an api elsewhere":     {{pattern: "GET /calls/{call}", sort: "api", rule: view, open: h}},
		"a case by its number": {page("GET /cases/{number}", of(access.View, "case", "number"), f), page("GET /cases/{number}/{case}", of(access.View, "case", "case"), f)},
		"an ask that says":     {ask("POST /calls/{call}", view, k)},
		"a say that is got":    {say("GET /calls/{call}", view, k)},
		"an ask with no rule":  {ask("GET /calls/{call}", Rule{}, k)},
		"an ask, nothing":      {{pattern: "GET /calls/{call}", sort: "ask", rule: view}},
		"a say, nothing":       {{pattern: "POST /calls/{call}", sort: "say", rule: view}},
		"a fresh say":          {say("POST /calls/{call}", view, k).fresh()},
		"a stream with no ask": {stream("GET /tracks/{track}/audio", of(access.Listen, "track", "track"), nil)},
	} {
		if err := check(table); err == nil {
			t.Errorf("%s: the table was accepted", name)
		}
	}
	if err := check([]row{page("GET /calls/{call}", view, f), public("GET /health", "up", h)}); err != nil {
		t.Errorf("a good table: %v", err)
	}
}

// A house in which the app forgot a room does not start, and the error says
// which.
func TestAHouseWithAHoleDoesNotStart(t *testing.T) {
	t.Parallel()
	for name, take := range map[string]func(*House){
		"Ask":    func(h *House) { h.Ask = nil },
		"SignIn": func(h *House) { h.SignIn = nil },
		"Finish": func(h *House) { h.Joining = Joining{} },
		"OpenBy": func(h *House) { h.OpenBy = nil },
		"Check":  func(h *House) { h.Tickets.Check = nil },
		"WhoKey": func(h *House) { h.API.WhoKey = nil },
	} {
		h := newSample(t).House
		take(&h)
		if _, err := New(h); err == nil || !strings.Contains(err.Error(), "has no") {
			t.Errorf("a house without %s: got %v", name, err)
		}
	}
}
