package web

import (
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"strings"

	"yesline/internal/access"
)

// rows is every door of the house. Each says what the asker must be permitted
// to do and to what, or why it needs no permission.
func (s *Site) rows() []row {
	table := []row{
		public("GET /{$}", "leads to the calls, and so to signing in", s.front),
		public("GET /join", "begins a sign-up", s.join),
		public("POST /join", "sends a code to a number; the answer is the same whether or not the number is known", s.beginJoin).needs("program", "phone"),
		public("GET /join/code", "asks for the code; the cookie of the claim says whose", s.joinCode),
		public("POST /join/code", "the code is the proof that the number is theirs; five tries", s.proveCode).needs("code"),
		public("GET /join/terms", "shows the terms to whoever proved a number", s.joinTerms),
		public("POST /join/terms", "keeps what somebody who proved a number agreed to", s.agreeJoin).needs("terms", "birth", "record", "share", "license"),
		public("GET /join/passkey", "offers to make a passkey to whoever agreed", s.joinPasskey),
		public("POST /join/passkey", "the number is proven, the terms are agreed: the account begins", s.finishJoin).needs("credential", "name"),

		public("GET /in", "offers to sign in by a passkey", s.in),
		public("POST /in/passkey", "the passkey is the proof", s.signInByPasskey).needs("credential"),
		public("GET /in/recover", "asks for a recovery code", s.askRecovery),
		public("POST /in/recover", "a recovery code is the proof, once", s.useCode).needs("code"),
		public("GET /in/{token}", "shows a button only, so that a link preview does not use the link up", s.landing),
		public("POST /in/{token}", "the link itself is the proof, and works once", s.useLink),
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
		stream("GET /tracks/{track}/original", of(access.Listen, "track", "track"), s.original),
		stream("GET /tracks/{track}/peaks", of(access.Listen, "track", "track"), s.peaks),

		page("GET /receipts/{receipt}", of(access.Receipt, "receipt", "receipt"), s.receipt),
		page("GET /receipts/{receipt}/json", of(access.Receipt, "receipt", "receipt"), s.receiptJSON),

		page("GET /me", own(access.Log, "person"), s.me),
		act("POST /me/number", own(access.Reveal, "person"), s.showNumber).from("/me"),
		page("GET /me/terms", own(access.Manage, "account"), s.terms),
		act("POST /me/terms", own(access.Manage, "account"), s.agree).needs("terms", "record", "share", "license"),

		page("GET /me/lasting", own(access.Manage, "account"), s.lasting),
		act("POST /me/lasting/end", own(access.Manage, "account"), s.endLasting).needs("lasting").takesBack(),

		page("GET /me/security", own(access.Manage, "account"), s.security),
		act("POST /me/proof", own(access.Manage, "account"), s.prove).needs("credential", "next"),
		act("POST /me/passkeys", own(access.Manage, "account"), s.addPasskey).needs("credential", "name").from("/me/security"),
		act("POST /me/passkeys/{passkey}/name", of(access.Manage, "passkey", "passkey"), s.namePasskey).needs("name"),
		act("POST /me/passkeys/{passkey}/remove", of(access.Manage, "passkey", "passkey"), s.removePasskey).fresh().from("/me/security"),
		act("POST /me/recovery", own(access.Manage, "account"), s.newCodes).fresh().from("/me/security"),
		act("POST /me/sessions/end", own(access.Manage, "account"), s.endOthers),
		act("POST /me/sessions/{session}/name", of(access.Manage, "session", "session"), s.nameSession).needs("name"),
		act("POST /me/sessions/{session}/end", of(access.Manage, "session", "session"), s.endSession),
		act("POST /me/keys", own(access.Manage, "account"), s.makeKey).needs("name", "scope", "days").fresh().from("/me/security"),
		act("POST /me/keys/{key}/end", of(access.Manage, "key", "key"), s.endKey),
		act("POST /me/phones", own(access.Manage, "account"), s.addPhone).fresh().from("/me/security"),
		act("POST /me/phones/{device}/end", of(access.Manage, "device", "device"), s.endPhone),

		page("GET /house", house(access.Verify), s.housePage),
		act("POST /house/{program}/invite", of(access.Invite, "program", "program"), s.invite).needs("phone"),

		page("GET /house/staff", house(access.Staff), s.staff),
		act("POST /house/staff", house(access.Appoint), s.appoint).needs("role", "program").fresh().from("/house/staff"),
		act("POST /house/staff/{staff}/end", of(access.Appoint, "staff", "staff"), s.dismiss).fresh().from("/"),
		page("GET /programs/{program}/staff", of(access.Staff, "program", "program"), s.staff),
		act("POST /programs/{program}/staff", of(access.Appoint, "program", "program"), s.appoint).needs("role").fresh().from("/programs/{program}/staff"),

		page("GET /cases", place(access.Staff), s.cases).needs("about"),
		page("GET /calls/{call}/break", of(access.Break, "call", "call"), s.askBreakCall),
		act("POST /calls/{call}/break", of(access.Break, "call", "call"), s.breakCall).needs("reason", "number").from("/calls/{call}/break"),
		page("GET /people/{person}/break", of(access.Break, "person", "person"), s.askBreakPerson),
		act("POST /people/{person}/break", of(access.Break, "person", "person"), s.breakPerson).needs("reason", "number").from("/people/{person}/break"),
		page("GET /cases/{case}", of(access.View, "case", "case"), s.oneCase),
		act("POST /cases/{case}/approve", of(access.Approve, "case", "case"), s.approve).from("/cases/{case}"),
		act("POST /cases/{case}/refuse", of(access.Approve, "case", "case"), s.refuseCase).from("/cases/{case}"),
		act("POST /cases/{case}/close", of(access.Break, "case", "case"), s.closeCase).from("/cases/{case}"),
		act("POST /people/{person}/number", of(access.Reveal, "person", "person"), s.revealNumber).from("/cases"),

		local("GET /local/log", house(access.Verify), s.localLog),
		local("GET /local/programs", house(access.Verify), s.localPrograms),
		local("POST /local/programs/{program}/people", of(access.Invite, "program", "program"), s.localInvite),
		local("POST /local/tickets/revoke", house(access.Contain), s.localRevoke),
		local("POST /local/programs/{program}/tickets/rotate", of(access.Contain, "program", "program"), s.localRotate),

		public("GET /log/checkpoint", "whoever keeps it holds the house to its log; it tells nothing of anybody", s.logCheckpoint),
		public("GET /log/tile/{tile...}", "hashes under the checkpoint, as C2SP tlog-tiles has them: they tell nothing of their entries", s.logTile),

		public("GET /health", "says only that the server is up", s.health),
		public("POST /csp", "browsers report broken pages without saying who they are; counted, never stored", s.report),
		public("GET "+s.assets.prefix+"{file}", "styles and scripts, the same for everybody", s.asset),
		public("/", "whatever is not in this table is absent", s.nothing),
	}
	if s.house.Outbox != nil {
		table = append(table, public("GET /outbox", "a demo has no phones to send to; it shows what it would have sent", s.outbox))
	}
	table = append(table, s.tryRows()...)
	table = append(table, s.dialRows()...)
	return append(table, s.apiRows()...)
}

// Rule is what the gate is asked before a door opens: this verb, on the object
// of this kind that the path parameter names.
type Rule struct {
	Verb  access.Verb
	Kind  string
	Param string // a path parameter, or one of the three below
}

const (
	theAsker = "(the asker)" // the person or the account that asks
	theHouse = "(the house)" // there is one
	thePlace = "(the place)" // where the asker works: their program, or the house
)

func of(v access.Verb, kind, param string) Rule { return Rule{v, kind, param} }
func own(v access.Verb, kind string) Rule       { return Rule{v, kind, theAsker} }
func house(v access.Verb) Rule                  { return Rule{v, "house", theHouse} }
func place(v access.Verb) Rule                  { return Rule{v, "place", thePlace} }

// row is one door. Exactly one of rule and reason is set.
type row struct {
	pattern string
	sort    string // page, act, ask, say, stream, public, local, api
	rule    Rule
	reason  string
	show    showFunc
	serve   serveFunc
	open    http.HandlerFunc // public; and api, which asks for a key and authorizes by it
	local   localFunc
	tell    tellFunc          // ask and say
	says    reflect.Type      // what tell answers
	detail  map[string]string // that goes into the gate's entry

	isFresh bool     // the asker must have shown within session.ProofTime that it is them
	form    []string // the fields it reads of a form, in the body or in the address
	back    string   // of an act: the page its form stands on, with the act's own parameters
}

// fresh is a door for those who showed just now that it is them. Whoever did
// not is told so before the gate is asked, and so learns nothing of the object.
func (r row) fresh() row { r.isFresh = true; return r }

// needs names the fields of the form that the door reads.
func (r row) needs(fields ...string) row { r.form = fields; return r }

// from names the page that an act's form stands on. Whoever has to prove first
// that it is them comes back there.
func (r row) from(page string) row { r.back = page; return r }

// TakesBack is the part, in the gate's detail, of an act that only takes a yes
// back: a full disk must not keep it from being written.
const TakesBack = "back"

// takesBack marks such an act.
func (r row) takesBack() row { r.detail = map[string]string{"part": TakesBack}; return r }

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
var prefixes = map[string]string{"call": "cal", "track": "trk", "person": "per", "receipt": "rcp", "program": "prg",
	"session": "ses", "passkey": "pky", "key": "key", "device": "dev", "case": "cas", "staff": "stf"}

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
		case r.isFresh:
			return fmt.Errorf("is public and wants a proof")
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
	case "ask":
		want, leads = "GET", r.tell != nil
	case "say":
		want, leads = "POST", r.tell != nil
	case "stream":
		want, leads = "GET", r.serve != nil
	case "local":
		want, leads = method, r.local != nil && strings.HasPrefix(path, "/local/")
	case "api":
		want, leads = method, r.open != nil && strings.HasPrefix(path, "/api/v1/")
	}
	if !leads {
		return fmt.Errorf("leads nowhere")
	}
	if method != want {
		return fmt.Errorf("is a %s and so a %s", r.sort, want)
	}
	if r.isFresh && r.sort != "page" && r.sort != "act" {
		return fmt.Errorf("wants a proof that only a page can ask for")
	}
	if method == "" {
		return fmt.Errorf("has no method")
	}
	names := parameter.FindAllStringSubmatch(path, -1)
	switch r.rule.Param {
	case theAsker, theHouse, thePlace:
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
