package web

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"yesline/internal/access"
)

// rows is every door of the house. Each says what the asker must be permitted
// to do and to what, or why it needs no permission.
func (s *Site) rows() []row {
	return []row{
		public("GET /{$}", "leads to the calls, and so to signing in", s.front),
		public("GET /in", "says how one gets a sign-in link", s.needLink),
		public("GET /in/{token}", "shows a button only, so that a link preview does not use the link up", s.landing),
		public("POST /in/{token}", "the link itself is the proof, and works once", s.signIn),
		public("POST /out", "ending one's own session needs no permission and must work when the gate does not", s.signOut),

		page("GET /calls", own(access.List, "person"), s.calls),
		page("GET /calls/{call}", of(access.View, "call", "call"), s.call),
		page("GET /calls/{call}/log", of(access.Log, "call", "call"), s.callLog),
		page("GET /calls/{call}/withdraw", of(access.View, "call", "call"), s.askWithdraw),
		act("POST /calls/{call}/withdraw", of(access.Withdraw, "call", "call"), s.withdraw),
		act("POST /calls/{call}/share", of(access.Allow, "call", "call"), s.share),
		act("POST /calls/{call}/share/stop", of(access.Withdraw, "call", "call"), s.stopShare),
		act("POST /calls/{call}/license", of(access.Allow, "call", "call"), s.license),
		act("POST /calls/{call}/license/stop", of(access.Withdraw, "call", "call"), s.stopLicense),

		stream("GET /tracks/{track}/audio", of(access.Listen, "track", "track"), s.audio),
		stream("GET /tracks/{track}/peaks", of(access.Listen, "track", "track"), s.peaks),

		page("GET /receipts/{receipt}", of(access.Receipt, "receipt", "receipt"), s.receipt),
		page("GET /receipts/{receipt}/json", of(access.Receipt, "receipt", "receipt"), s.receiptJSON),

		page("GET /me", own(access.Log, "person"), s.me),
		act("POST /me/number", own(access.Reveal, "person"), s.showNumber),

		page("GET /house", house(access.Verify), s.housePage),
		act("POST /house/{program}/invite", of(access.Invite, "program", "program"), s.invite),

		local("GET /local/log", house(access.Verify), s.localLog),
		local("GET /local/programs", house(access.Verify), s.localPrograms),
		local("POST /local/programs/{program}/people", of(access.Invite, "program", "program"), s.localInvite),

		public("GET /health", "says only that the server is up", s.health),
		public("POST /csp", "browsers report broken pages without saying who they are; counted, never stored", s.report),
		public("GET "+s.assets.prefix+"{file}", "styles and scripts, the same for everybody", s.asset),
		public("/", "whatever is not in this table is absent", s.nothing),
	}
}

// Rule is what the gate is asked before a door opens: this verb, on the object
// of this kind that the path parameter names.
type Rule struct {
	Verb  access.Verb
	Kind  string
	Param string // a path parameter, or one of the two below
}

const (
	theAsker = "(the asker)" // the person who asks
	theHouse = "(the house)" // there is one
)

func of(v access.Verb, kind, param string) Rule { return Rule{v, kind, param} }
func own(v access.Verb, kind string) Rule       { return Rule{v, kind, theAsker} }
func house(v access.Verb) Rule                  { return Rule{v, "house", theHouse} }

// row is one door. Exactly one of rule and reason is set.
type row struct {
	pattern string
	sort    string // page, act, stream, public
	rule    Rule
	reason  string
	show    showFunc
	serve   serveFunc
	open    http.HandlerFunc
	local   localFunc
}

// page is a document that somebody reads. Without a session it leads to the
// sign-in page.
func page(pattern string, rule Rule, f showFunc) row {
	return row{pattern: pattern, sort: "page", rule: rule, show: f}
}

// act is a form that somebody sends.
func act(pattern string, rule Rule, f showFunc) row {
	return row{pattern: pattern, sort: "act", rule: rule, show: f}
}

// stream is sound and what is drawn of it. It gets no Permit: it asks for one
// window at a time.
func stream(pattern string, rule Rule, f serveFunc) row {
	return row{pattern: pattern, sort: "stream", rule: rule, serve: f}
}

// public is open to everybody, and says why.
func public(pattern, reason string, f http.HandlerFunc) row {
	return row{pattern: pattern, sort: "public", reason: reason, open: f}
}

// prefixes are the kinds of object a path can name, with how their ids begin.
var prefixes = map[string]string{"call": "cal", "track": "trk", "person": "per", "receipt": "rcp", "program": "prg"}

var parameter = regexp.MustCompile(`\{(\w+)(\.\.\.)?\}`)

// check refuses a table in which a door has no rule, or a rule that cannot be
// asked.
func check(table []row) error {
	seen := map[string]bool{}
	for _, r := range table {
		if seen[r.pattern] {
			return fmt.Errorf("two doors for %s", r.pattern)
		}
		seen[r.pattern] = true
		if err := r.check(); err != nil {
			return fmt.Errorf("the door %s: %w", r.pattern, err)
		}
	}
	return nil
}

func (r row) check() error {
	method, path, _ := strings.Cut(r.pattern, " ")
	if r.sort == "public" {
		switch {
		case r.reason == "":
			return fmt.Errorf("is public without a reason")
		case r.rule != (Rule{}):
			return fmt.Errorf("is public and has a rule")
		case r.open == nil:
			return fmt.Errorf("leads nowhere")
		}
		return nil
	}
	if r.rule.Verb == "" || r.rule.Kind == "" || r.rule.Param == "" || r.reason != "" {
		return fmt.Errorf("has no rule")
	}
	want, leads := "", false
	switch r.sort {
	case "page":
		want, leads = "GET", r.show != nil
	case "act":
		want, leads = "POST", r.show != nil
	case "stream":
		want, leads = "GET", r.serve != nil
	case "local":
		want, leads = method, r.local != nil && strings.HasPrefix(path, "/local/")
	}
	if !leads {
		return fmt.Errorf("leads nowhere")
	}
	if method != want {
		return fmt.Errorf("is a %s and so a %s", r.sort, want)
	}
	names := parameter.FindAllStringSubmatch(path, -1)
	switch r.rule.Param {
	case theAsker, theHouse:
		if len(names) != 0 {
			return fmt.Errorf("names an object that its rule does not ask about")
		}
		return nil
	}
	if len(names) != 1 || names[0][1] != r.rule.Param {
		return fmt.Errorf("must name exactly the object of its rule")
	}
	if prefixes[r.rule.Kind] == "" {
		return fmt.Errorf("names an unknown kind of object")
	}
	return nil
}
