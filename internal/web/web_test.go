package web

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audio"
	"yesline/internal/consent"
	"yesline/internal/playback"
	"yesline/internal/session"
)

// visit asks as somebody known to the sample; "" is nobody.
func visit(site *Site, s *sample, name, method, path string, form url.Values, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if name != "" {
		r.AddCookie(&http.Cookie{Name: "yesline", Value: s.cookies[name]})
	}
	if s.claiming != "" {
		r.AddCookie(&http.Cookie{Name: "yesline-join", Value: s.claiming})
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	if token := s.ticketed(name, r.URL.Path); token != "" {
		r.AddCookie(&http.Cookie{Name: "yesline-ticket", Value: token})
	}
	w := httptest.NewRecorder()
	site.ServeHTTP(w, r)
	return w
}

// addresses fills every pattern of the table with a name.
func addresses(site *Site, fill map[string]string) map[string]row {
	all := map[string]row{}
	for _, r := range site.table {
		if r.sort == "public" || r.sort == "local" || r.sort == "api" {
			continue
		}
		for name, id := range fill {
			r.pattern = strings.ReplaceAll(r.pattern, "{"+name+"}", id)
		}
		all[r.pattern] = r
	}
	return all
}

// What does not exist and what is somebody else's get the same answer, byte
// for byte, at every door; so does what cannot be a name at all.
func TestAbsentIsForbidden(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	there := s.there(t)
	absent, nonsense := map[string]string{}, map[string]string{}
	for param, prefix := range prefixes {
		absent[param], nonsense[param] = id(prefix, "nowhere"), "cal_"+strings.Repeat("1", 32)
	}
	nonsense["call"], nonsense["track"], nonsense["receipt"] = "x", "trk_1", "%2e%2e"
	want := visit(site, s, "eve", "GET", "/calls/"+absent["call"], nil)
	script := visit(site, s, "eve", "GET", "/calls/"+absent["call"]+"/state", nil)
	if script.Code != want.Code || !bytes.Equal(script.Body.Bytes(), site.absentForScripts(t)) {
		t.Fatalf("the state of an absent call: got %d %s", script.Code, script.Body)
	}
	if want.Code != http.StatusNotFound {
		t.Fatalf("an absent call: got %d, want 404", want.Code)
	}
	for _, fill := range []map[string]string{there, absent, nonsense} {
		for pattern, r := range addresses(site, fill) {
			if r.rule.Param == theAsker {
				continue
			}
			method, path, _ := strings.Cut(pattern, " ")
			got := visit(site, s, "eve", method, path, nil)
			want := want
			if r.sort == "ask" || r.sort == "say" {
				want = script
			}
			if got.Code != want.Code || !bytes.Equal(got.Body.Bytes(), want.Body.Bytes()) || !maps.EqualFunc(got.Header(), want.Header(), slices.Equal) {
				t.Errorf("%s as a stranger: got %d and %d bytes, want the page of what is absent", pattern, got.Code, got.Body.Len())
			}
		}
	}
	for _, q := range s.questions() {
		if q.object.ID != access.HouseID && !yesline.IsID(prefixes[q.object.Kind], q.object.ID) {
			t.Errorf("the gate was asked about a %s that cannot be", q.object.Kind)
		}
	}
	if site.Counts().Malformed == 0 {
		t.Error("names that cannot be were not counted")
	}
	if got := visit(site, s, "", "GET", "/no/such/door", nil); !bytes.Equal(got.Body.Bytes(), want.Body.Bytes()) {
		t.Error("a door that is not in the table has a page of its own")
	}
}

// Without a session no door asks the gate: pages lead to signing in, the rest
// is absent, and all of it is counted.
func TestNobodyNeverReachesTheGate(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	s.cookies["unknown"] = "not a session"
	doors := addresses(site, s.there(t))
	s.asked = nil
	for _, who := range []string{"", "unknown"} {
		for pattern, r := range doors {
			method, path, _ := strings.Cut(pattern, " ")
			got := visit(site, s, who, method, path, nil)
			if r.sort == "page" && (got.Code != http.StatusSeeOther || got.Header().Get("Location") != "/in") {
				t.Errorf("%s as nobody: got %d, want to be led to /in", pattern, got.Code)
			}
			if r.sort != "page" && got.Code != http.StatusNotFound {
				t.Errorf("%s as nobody: got %d, want 404", pattern, got.Code)
			}
		}
	}
	if n := len(s.questions()); n != 0 {
		t.Errorf("the gate was asked %d times", n)
	}
	if got, want := site.Counts().NoSession, int64(2*len(doors)); got != want {
		t.Errorf("counted %d requests without a session, want %d", got, want)
	}
}

// Each door asks the gate exactly what its rule says, before its handler runs.
func TestEachDoorAsksItsRule(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	s.codec = audio.Opus
	s.say()
	site := newSite(t, s)
	there := s.there(t)
	// An authenticator's answer, or a state that the door before has changed.
	incomplete := map[string]bool{"/me/passkeys": true, "/me/proof": true, "approve": true, "refuse": true, "close": true}
	terms, err := consent.Cards()
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{"phone": {"+12025550142"}, "name": {"Kitchen"}, "scope": {"manage"}, "days": {"7"}, "role": {"auditor"}, "terms": {terms.SHA256},
		"reason": {"A complaint about threats."}, "number": {"SUP-7"}, "to": {"+12025550123"}, "sdp": {"v=0"}, "word": {"pause"}, "lasting": {string(annsYes)}}
	doors := addresses(site, there)
	rank := func(pattern string) int { // those that end things come last
		switch {
		case pattern == "POST /me/sessions/end":
			return 2
		case strings.HasSuffix(pattern, "/end"), strings.HasSuffix(pattern, "/remove"):
			return 1
		}
		return 0
	}
	for _, pattern := range slices.SortedFunc(maps.Keys(doors), func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) }) {
		r := doors[pattern]
		s.asked = nil
		method, path, _ := strings.Cut(pattern, " ")
		who := s.rightful(r)
		object := access.Object{Kind: r.rule.Kind, ID: there[r.rule.Param]}
		switch r.rule.Param {
		case theAsker:
			object.ID = string(ann)
		case theHouse:
			object.ID = access.HouseID
		case thePlace:
			object = access.Object{Kind: "house", ID: access.HouseID}
		}
		last := path[strings.LastIndex(path, "/")+1:]
		got := visit(site, s, who, method, path, form)
		if got.Code >= 400 && !incomplete[path] && !incomplete[last] {
			t.Errorf("%s as %s: got %d", pattern, who, got.Code)
		}
		if len(s.asked) == 0 || s.asked[0].verb != r.rule.Verb || s.asked[0].object != object {
			t.Errorf("%s as %s: the gate was asked %v", pattern, who, s.asked)
		}
	}
}

// What only an operator may, a person may not, and the other way round.
func TestOperatorsAndPeopleHaveDifferentDoors(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	for _, c := range []struct{ who, method, path string }{
		{"ann", "GET", "/house"},
		{"ann", "POST", "/house/" + string(program) + "/invite"},
		{"op", "GET", "/cases/" + id("cas", "nowhere")},
		{"op", "GET", "/calls/" + string(callID("both")) + "/break"},
		{"op", "POST", "/people/" + string(ann) + "/number"},
		{"officer", "GET", "/calls/" + string(callID("both"))}, // without a case
		{"officer", "POST", "/people/" + string(ann) + "/number"},
		{"officer", "GET", "/tracks/" + string(trkAnn) + "/audio"},
		{"officer", "GET", "/calls/" + string(callID("both")) + "/log"},
		{"auditor", "GET", "/calls/" + string(callID("both")) + "/break"},
		{"auditor", "POST", "/programs/" + string(program) + "/staff"},
		{"buyer", "GET", "/house"},
		{"buyer", "GET", "/cases"},
		{"ann", "GET", "/cases"},
		{"ann", "GET", "/house/staff"},
		{"ann", "POST", "/house/staff"},
		{"ann", "GET", "/calls/" + string(callID("both")) + "/break"},
		{"op", "GET", "/me/terms"},
		{"op", "GET", "/calls"},
		{"op", "GET", "/me"},
		{"op", "POST", "/me/number"},
		{"op", "GET", "/calls/" + string(callID("both"))},
		{"op", "GET", "/tracks/" + string(trkAnn) + "/audio"},
		{"op", "GET", "/tracks/" + string(trkAnn) + "/peaks"},
		{"bob", "GET", "/tracks/" + string(trkAnn) + "/audio"}, // ann did not share with him
	} {
		if got := visit(site, s, c.who, c.method, c.path, nil); got.Code != http.StatusNotFound {
			t.Errorf("%s %s as %s: got %d, want 404", c.method, c.path, c.who, got.Code)
		}
	}
}

// Every answer carries every header, whatever it is an answer to.
func TestHeaders(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	want := map[string]string{
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; media-src 'self'; " +
			"connect-src 'self'; manifest-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; " +
			"require-trusted-types-for 'script'; trusted-types yesline; report-uri /csp",
		"X-Content-Type-Options":       "nosniff",
		"Referrer-Policy":              "no-referrer",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Permissions-Policy":           "microphone=(), camera=(), geolocation=(), payment=(), usb=()",
		"Cache-Control":                "no-store",
	}
	answers := map[string]*httptest.ResponseRecorder{
		"a page":        visit(site, s, "ann", "GET", "/calls", nil),
		"a file":        visit(site, s, "ann", "GET", "/receipts/"+string(receipt)+"/json", nil),
		"a redirect":    visit(site, s, "", "GET", "/calls", nil),
		"absent":        visit(site, s, "ann", "GET", "/nowhere", nil),
		"untidy":        visit(site, s, "ann", "GET", "/calls//x", nil),
		"sound":         visit(site, s, "ann", "GET", "/tracks/"+string(trkAnn)+"/audio", nil, "Range", "bytes=0-"),
		"a bad range":   visit(site, s, "ann", "GET", "/tracks/"+string(trkAnn)+"/audio", nil, "Range", "bytes=5-1"),
		"peaks":         visit(site, s, "ann", "GET", "/tracks/"+string(trkAnn)+"/peaks", nil),
		"an act":        visit(site, s, "ann", "POST", "/calls/"+string(callID("both"))+"/share", url.Values{}),
		"another site":  visit(site, s, "ann", "POST", "/out", nil, "Sec-Fetch-Site", "cross-site"),
		"a wrong form":  visit(site, s, "op", "POST", "/house/"+string(program)+"/invite", url.Values{"phone": {"one"}}),
		"health":        visit(site, s, "", "GET", "/health", nil),
		"another verb":  visit(site, s, "ann", "DELETE", "/calls", nil),
		"a browser's":   visit(site, s, "", "POST", "/csp", nil),
		"the very root": visit(site, s, "ann", "GET", "/", nil),
	}
	for name, got := range answers {
		for header, value := range want {
			if g := got.Header().Get(header); g != value {
				t.Errorf("%s: %s is %q, want %q", name, header, g, value)
			}
		}
		if g := got.Header().Get("Strict-Transport-Security"); g != "" {
			t.Errorf("%s: HSTS without TLS: %q", name, g)
		}
	}
	style := visit(site, s, "", "GET", site.assets.prefix+"yesline.css", nil)
	if got := style.Header().Get("Cache-Control"); style.Code != 200 || got != "public, max-age=31536000, immutable" {
		t.Errorf("a style sheet: got %d and Cache-Control %q", style.Code, got)
	}
	for name, kind := range map[string]string{"yesline.css": "text/css; charset=utf-8", "player.js": "text/javascript; charset=utf-8", "mark.svg": "image/svg+xml"} {
		if got := visit(site, s, "", "GET", site.assets.prefix+name, nil).Header().Get("Content-Type"); got != kind {
			t.Errorf("%s is served as %q, want %q", name, got, kind)
		}
	}
}

// With TLS, or behind a proxy that has it, cookies are Secure and the browser
// is told to stay.
func TestWithTLS(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	s.Secure = true
	site := newSite(t, s)
	w := visit(site, s, "", "POST", "/in/"+s.token, nil)
	c := w.Result().Cookies()
	if len(c) != 1 || c[0].Name != "__Host-yesline" || !c[0].Secure || !c[0].HttpOnly || c[0].SameSite != http.SameSiteLaxMode || c[0].Path != "/" || c[0].Domain != "" {
		t.Errorf("the cookie: got %v", c)
	}
	if got := w.Header().Get("Strict-Transport-Security"); got != "max-age=31536000" {
		t.Errorf("HSTS: got %q", got)
	}
}

// Opening a link uses nothing up; the button does, once.
func TestALinkWorksOnce(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	for range 3 {
		if got := visit(site, s, "", "GET", "/in/"+s.token, nil); got.Code != http.StatusOK || len(got.Result().Cookies()) != 0 {
			t.Fatalf("looking at a link: got %d and cookies %v", got.Code, got.Result().Cookies())
		}
	}
	first := visit(site, s, "", "POST", "/in/"+s.token, nil)
	if first.Code != http.StatusSeeOther || first.Header().Get("Location") != "/calls" {
		t.Fatalf("signing in: got %d", first.Code)
	}
	c := first.Result().Cookies()
	if len(c) != 1 || c[0].Name != "yesline" || !c[0].HttpOnly || c[0].Secure || c[0].SameSite != http.SameSiteLaxMode {
		t.Errorf("the cookie: got %v", c)
	}
	second := visit(site, s, "", "POST", "/in/"+s.token, nil)
	if second.Code != http.StatusNotFound || len(second.Result().Cookies()) != 0 || !strings.Contains(second.Body.String(), "no longer works") {
		t.Errorf("signing in again: got %d", second.Code)
	}
	s.cookies["new"] = c[0].Value
	if got := visit(site, s, "new", "GET", "/calls", nil); got.Code != http.StatusOK {
		t.Errorf("the calls after signing in: got %d", got.Code)
	}
	out := visit(site, s, "new", "POST", "/out", nil)
	if out.Code != http.StatusSeeOther || len(out.Result().Cookies()) != 1 || out.Result().Cookies()[0].MaxAge >= 0 {
		t.Errorf("signing out: got %d %v", out.Code, out.Result().Cookies())
	}
	if got := visit(site, s, "new", "GET", "/calls", nil); got.Header().Get("Location") != "/in" {
		t.Errorf("the calls after signing out: got %d", got.Code)
	}
}

// A form on another site changes nothing here.
func TestOtherSitesCannotPressOurButtons(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	for _, h := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://elsewhere.example"}} {
		got := visit(site, s, "ann", "POST", "/calls/"+string(callID("both"))+"/withdraw", url.Values{}, h...)
		if got.Code != http.StatusForbidden {
			t.Errorf("%v: got %d, want 403", h, got.Code)
		}
	}
	if len(s.set) != 0 || len(s.asked) != 0 {
		t.Errorf("something was done: %v, %v", s.set, s.asked)
	}
	if got := site.Counts().CrossOrigin; got != 3 {
		t.Errorf("counted %d, want 3", got)
	}
}

// Each button does what it says, with the hash of the words beside it.
func TestChoices(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	call := "/calls/" + string(callID("both"))
	for _, c := range []struct{ path, did, words, to string }{
		{"/share", "set share", "ask-share", call + "?done=shared"},
		{"/share/stop", "withdraw share", "stop-share", call + "?done=unshared"},
		{"/license", "set license", "ask-license", call + "?done=licensed"},
		{"/license/stop", "withdraw license", "stop-license", call + "?done=unlicensed"},
		{"/withdraw", "withdraw record", "stop-record", "/receipts/" + string(receipt)},
	} {
		s.set = nil
		got := visit(site, s, "ann", "POST", call+c.path, url.Values{})
		if got.Code != http.StatusSeeOther || got.Header().Get("Location") != c.to {
			t.Errorf("%s: got %d to %q, want %q", c.path, got.Code, got.Header().Get("Location"), c.to)
		}
		if !slices.Equal(s.set, []string{c.did}) {
			t.Errorf("%s: did %v, want %s", c.path, s.set, c.did)
		}
		ev := s.evidence
		if ev.Channel != "page" || ev.Prompt != c.words || len(ev.PromptSHA256) != 64 || ev.Language != "en" || ev.AtMillis == 0 {
			t.Errorf("%s: the evidence is %+v", c.path, ev)
		}
	}
	said, err := site.pages.said("ask-share")
	if err != nil || !strings.HasPrefix(said, "Let the other person") {
		t.Errorf("the words beside the button: %q, %v", said, err)
	}
	private := visit(site, s, "ann", "GET", "/calls/"+string(callID("private")), nil)
	if !strings.Contains(private.Body.String(), said) {
		t.Error("the page does not show the words that consent keeps")
	}
}

// The page of a call offers the sound of the other party only when they share,
// and the words say why there is none.
func TestLanes(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	mine, theirs := "/tracks/"+string(trkAnn)+"/audio", "/tracks/"+string(trkBob)+"/audio"
	for name, want := range map[string]struct {
		mine, theirs bool
		words        string
	}{
		"both":      {true, true, "Stop sharing"},
		"private":   {true, false, "They have not shared it with you"},
		"refused":   {false, false, "this call needed a yes from both"},
		"onesided":  {true, false, "They said no"},
		"stopped":   {true, false, "stopped during the call"},
		"withdrawn": {false, true, "You took your voice back"},
		"silent":    {false, false, "counts as no"},
		"live":      {false, false, "is being recorded"},
	} {
		page := visit(site, s, "ann", "GET", "/calls/"+string(callID(name)), nil).Body.String()
		if strings.Contains(page, mine) != want.mine || strings.Contains(page, theirs) != want.theirs {
			t.Errorf("%s: the lanes are mine %v theirs %v", name, strings.Contains(page, mine), strings.Contains(page, theirs))
		}
		if !strings.Contains(page, want.words) {
			t.Errorf("%s: the page does not say %q", name, want.words)
		}
	}
}

// A lane says how much of the voice is speech, only where that was measured and
// only to those who may hear it.
func TestALaneSaysHowMuchIsSpeech(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	says := func(name, call string) string {
		t.Helper()
		page := visit(site, s, name, "GET", "/calls/"+string(callID(call)), nil).Body.String()
		if n := strings.Count(page, "of it speech"); n > 1 {
			t.Errorf("%s, %s: %d lanes say it, one was measured", name, call, n)
		}
		_, rest, _ := strings.Cut(page, `spoken">`)
		said, _, _ := strings.Cut(rest, "</p>")
		return regexp.MustCompile("<[^>]*>").ReplaceAllString(said, "")
	}
	if got := says("ann", "private"); got != "1:40 long, 1:01 of it speech" {
		t.Errorf("ann's lane says %q", got)
	}
	if got := says("bob", "both"); got != "1:40 long, 1:01 of it speech" {
		t.Errorf("bob, who may hear ann, sees %q", got)
	}
	if got := says("bob", "private"); got != "" {
		t.Errorf("bob may not hear ann and sees %q", got)
	}
	s.speech = 0
	if got := says("ann", "private"); got != "1:40 long, 0:00 of it speech" {
		t.Errorf("a silent lane says %q", got)
	}
	s.measured = false
	if got := says("ann", "private"); got != "" {
		t.Errorf("a lane that was not measured says %q", got)
	}
}

// Pages hold masks and no ids of people; the number in clear is on one answer,
// to its owner.
func TestNumbersAreMasked(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	call := "/calls/" + string(callID("both"))
	for _, path := range []string{"/calls", call, call + "/log", call + "/withdraw", "/receipts/" + string(receipt), "/me"} {
		page := visit(site, s, "ann", "GET", path, nil).Body.String()
		for _, leak := range []string{"2025550142", string(ann), string(bob)} {
			if strings.Contains(page, leak) {
				t.Errorf("%s holds %q", path, leak)
			}
		}
	}
	if got := visit(site, s, "ann", "POST", "/me/number", url.Values{}).Body.String(); !strings.Contains(got, "12025550142") {
		t.Error("one's own number was asked for and not shown")
	}
}

// What somebody typed never comes back, and what is too long is not read.
func TestBadInput(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	var log bytes.Buffer
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	site := newSite(t, s)
	invite := "/house/" + string(program) + "/invite"
	const typed = "+1202555marker"
	got := visit(site, s, "op", "POST", invite, url.Values{"phone": {typed}})
	if got.Code != http.StatusUnprocessableEntity || strings.Contains(got.Body.String(), "marker") {
		t.Errorf("a bad number: got %d", got.Code)
	}
	large := visit(site, s, "op", "POST", invite, url.Values{"phone": {strings.Repeat("1", requestBytes)}})
	if large.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a large form: got %d, want 413", large.Code)
	}
	for _, path := range []string{"/calls?after=" + strings.Repeat("x", 300), "/calls/" + string(callID("both")) + "/log?before=marker", "/calls/marker"} {
		if got := visit(site, s, "ann", "GET", path, nil); got.Code != http.StatusNotFound || strings.Contains(got.Body.String(), "marker") {
			t.Errorf("%.40s: got %d", path, got.Code)
		}
	}
	if got := visit(site, s, "ann", "GET", "/calls/"+string(callID("both"))+"?done=marker", nil); strings.Contains(got.Body.String(), "marker") {
		t.Error("an unknown notice is repeated")
	}
	good := visit(site, s, "op", "POST", invite, url.Values{"phone": {"+1 (202) 555-0142"}})
	if good.Code != http.StatusOK || !strings.Contains(good.Body.String(), "k3v5sample7link2token4only6here") {
		t.Errorf("a good number: got %d", good.Code)
	}
	if strings.Contains(log.String(), "marker") || strings.Contains(log.String(), "0142") {
		t.Errorf("the log repeats what was typed: %s", log.String())
	}
}

// When a room fails, the answer says what to do and nothing about the room.
func TestFailures(t *testing.T) {
	t.Parallel()
	for status, kind := range map[int]error{
		500: fmt.Errorf("secret words"),
		503: fmt.Errorf("secret words: %w", yesline.Unavailable),
		429: fmt.Errorf("secret words: %w", yesline.TooMany),
		409: fmt.Errorf("secret words: %w", yesline.Conflict),
		404: fmt.Errorf("secret words: %w", yesline.Denied),
		400: fmt.Errorf("secret words: %w", yesline.Invalid),
	} {
		s := newSample(t)
		s.House.Set = func(context.Context, access.Permit, yesline.CallID, consent.Purpose, consent.Evidence) error {
			return kind
		}
		site := newSite(t, s)
		got := visit(site, s, "ann", "POST", "/calls/"+string(callID("both"))+"/share", url.Values{})
		if got.Code != status || strings.Contains(got.Body.String(), "secret") {
			t.Errorf("%v: got %d, want %d", kind, got.Code, status)
		}
	}
	short := newSample(t)
	short.House.Part = func(context.Context, access.Permit, yesline.TrackID, playback.Shape, int64, int64) ([]byte, error) {
		return nil, nil
	}
	if got := visit(newSite(t, short), short, "ann", "GET", "/tracks/"+string(trkAnn)+"/audio", nil, "Range", "bytes=0-"); got.Code != 500 || got.Header().Get("Content-Range") != "" {
		t.Errorf("a window that is too short: got %d", got.Code)
	}
	s := newSample(t)
	s.House.Calls = func(context.Context, yesline.PersonID, string, int) ([]Call, string, error) { panic("secret words") }
	var log bytes.Buffer
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	got := visit(newSite(t, s), s, "ann", "GET", "/calls", nil)
	if got.Code != 500 || strings.Contains(got.Body.String(), "secret") || strings.Contains(log.String(), "secret words") {
		t.Errorf("a panic: got %d", got.Code)
	}
}

// Reports of browsers are counted and never stored.
func TestReports(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	var log bytes.Buffer
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	site := newSite(t, s)
	send := func(body string) int {
		r := httptest.NewRequest("POST", "/csp", strings.NewReader(body))
		w := httptest.NewRecorder()
		site.ServeHTTP(w, r)
		return w.Code
	}
	if got := send(`{"csp-report":{"effective-directive":"script-src","document-uri":"https://marker.example"}}`); got != http.StatusNoContent {
		t.Errorf("a report: got %d", got)
	}
	if got := send(`{"csp-report":{"effective-directive":"marker"}}`); got != http.StatusNoContent {
		t.Errorf("an odd report: got %d", got)
	}
	if got := send(strings.Repeat("x", reportBytes+1)); got != http.StatusRequestEntityTooLarge {
		t.Errorf("a large report: got %d", got)
	}
	if got := site.Counts().Reports; got != 2 {
		t.Errorf("counted %d, want 2", got)
	}
	if strings.Contains(log.String(), "marker") || !strings.Contains(log.String(), "script-src") {
		t.Errorf("the log: %s", log.String())
	}
}

// Sound leaves in windows: each asked for, with the seconds it holds, before
// its first byte.
func TestSoundInWindows(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	path := "/tracks/" + string(trkAnn) + "/audio"
	total := playback.Size(s.seconds)
	whole := tone(trkAnn, s.seconds, 0, total)
	for _, c := range []struct {
		header        string
		status        int
		from, to      int64
		first, served string
	}{
		{"bytes=0-", 206, 0, 44 + 8*16000, "0", "8"},
		{"bytes=44-", 206, 44, 44 + 32*16000, "0", "32"},
		{"bytes=128044-", 206, 128044, 128044 + 32*16000, "8", "32"},
		{"bytes=0-43", 206, 0, 44, "0", "0"},
		{"bytes=0-99", 206, 0, 100, "0", "1"},
		{"bytes=16043-16044", 206, 16043, 16045, "0", "2"},
		{"bytes=0-99999999", 206, 0, 44 + 32*16000, "0", "32"},
		{"bytes=-16000", 206, total - 16000, total, "99", "1"},
		{fmt.Sprintf("bytes=%d-", total), 416, 0, 0, "0", "0"},
		{"bytes=0-1,4-5", 416, 0, 0, "0", "0"},
	} {
		s.asked, s.windows = nil, nil
		got := visit(site, s, "ann", "GET", path, nil, "Range", c.header)
		if got.Code != c.status {
			t.Errorf("%s: got %d, want %d", c.header, got.Code, c.status)
			continue
		}
		if len(s.asked) != 1 || s.asked[0].detail["from"] != c.first || s.asked[0].detail["seconds"] != c.served {
			t.Errorf("%s: the gate was asked %v, want seconds %s from %s", c.header, s.asked, c.served, c.first)
		}
		if c.status == 416 {
			if g := got.Header().Get("Content-Range"); g != fmt.Sprintf("bytes */%d", total) || got.Body.Len() != 0 || len(s.windows) != 0 {
				t.Errorf("%s: got Content-Range %q and %d bytes", c.header, g, got.Body.Len())
			}
			continue
		}
		if want := fmt.Sprintf("bytes %d-%d/%d", c.from, c.to-1, total); got.Header().Get("Content-Range") != want {
			t.Errorf("%s: got %q, want %q", c.header, got.Header().Get("Content-Range"), want)
		}
		if !bytes.Equal(got.Body.Bytes(), whole[c.from:c.to]) {
			t.Errorf("%s: the bytes differ", c.header)
		}
	}
	head := visit(site, s, "ann", "HEAD", path, nil)
	if head.Code != 200 || head.Header().Get("Content-Length") != fmt.Sprint(total) || head.Header().Get("Accept-Ranges") != "bytes" || head.Body.Len() != 0 {
		t.Errorf("HEAD: got %d %v", head.Code, head.Header())
	}
}

// A GET without Range is every window in turn; when the gate closes between
// two of them the rest does not leave, and the answer looks cut off.
func TestSoundWithoutRange(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	server := httptest.NewServer(newSite(t, s))
	defer server.Close()
	get := func() (*http.Response, []byte, error) {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/tracks/"+string(trkAnn)+"/audio", nil)
		r.AddCookie(&http.Cookie{Name: "yesline", Value: s.cookies["ann"]})
		r.Header.Set("User-Agent", "")
		r.AddCookie(&http.Cookie{Name: "yesline-ticket", Value: s.ticketed("ann", r.URL.Path)})
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return nil, nil, err
		}
		defer answer.Body.Close()
		data, err := io.ReadAll(answer.Body)
		return answer, data, err
	}
	total := playback.Size(s.seconds)
	answer, data, err := get()
	if err != nil || answer.StatusCode != 200 || !bytes.Equal(data, tone(trkAnn, s.seconds, 0, total)) {
		t.Fatalf("the whole: got %d bytes, %v", len(data), err)
	}
	at := int64(0)
	for _, w := range s.windows {
		if w.from != at || w.to-w.from > playback.WindowLimit {
			t.Errorf("window %v does not follow %d", w, at)
		}
		at = w.to
	}
	if n := len(s.questions()); at != total || n != len(s.windows) || n < 4 {
		t.Errorf("%d questions for %d windows to %d of %d", n, len(s.windows), at, total)
	}
	s.mu.Lock()
	s.windows, s.answers = nil, 2
	s.mu.Unlock()
	if _, data, err = get(); err == nil {
		t.Errorf("after a refusal the answer looks complete: %d bytes", len(data))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := s.windows[len(s.windows)-1]; len(s.windows) != 2 || int64(len(data)) > last.to {
		t.Errorf("after a refusal %d windows were opened and %d bytes left", len(s.windows), len(data))
	}
}

// A signed-out listener gets no further window.
func TestSigningOutStopsTheSound(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	path := "/tracks/" + string(trkAnn) + "/audio"
	if got := visit(site, s, "ann", "GET", path, nil, "Range", "bytes=0-"); got.Code != 206 {
		t.Fatalf("before: got %d", got.Code)
	}
	visit(site, s, "ann", "POST", "/out", nil)
	if got := visit(site, s, "ann", "GET", path, nil, "Range", "bytes=128044-"); got.Code != 404 || len(s.windows) != 1 {
		t.Errorf("after: got %d, %d windows", got.Code, len(s.windows))
	}
}

// Who has no session does not reach the books that a question is worded by,
// whatever their cookie says.
func TestStrangersDoNotReachTheBooks(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	looked := 0
	shape := s.House.Shape
	s.House.Shape = func(ctx context.Context, track yesline.TrackID) (playback.Shape, error) {
		looked++
		return shape(ctx, track)
	}
	site := newSite(t, s)
	s.cookies["unknown"], s.cookies["made up"] = "not a session", strings.Repeat("a", 43)
	s.cookies["signed out"] = s.cookies["bob"]
	visit(site, s, "signed out", "POST", "/out", nil)
	for _, who := range []string{"", "unknown", "made up", "signed out"} {
		for _, track := range []string{string(trkAnn), id("trk", "nowhere")} {
			for _, what := range []string{"/audio", "/original"} {
				if got := visit(site, s, who, "GET", "/tracks/"+track+what, nil, "Range", "bytes=0-"); got.Code != http.StatusNotFound {
					t.Errorf("the sound%s as %q: got %d", what, who, got.Code)
				}
			}
		}
	}
	if looked != 0 || len(s.questions()) != 0 {
		t.Errorf("strangers reached the books %d times and the gate %d times", looked, len(s.questions()))
	}
	if got := visit(site, s, "ann", "GET", "/tracks/"+string(trkAnn)+"/audio", nil, "Range", "bytes=0-"); got.Code != http.StatusPartialContent || looked != 1 {
		t.Errorf("the sound as ann: got %d, and %d looks", got.Code, looked)
	}
}

// A session that ends while its sound streams gets no further window.
func TestSigningOutEndsAStream(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	window := s.House.Part
	s.House.Part = func(ctx context.Context, p access.Permit, track yesline.TrackID, shape playback.Shape, from, to int64) ([]byte, error) {
		if err := s.sessions.End(ctx, p.Who()); err != nil {
			t.Error(err)
		}
		return window(ctx, p, track, shape, from, to)
	}
	server := httptest.NewServer(newSite(t, s))
	defer server.Close()
	r, _ := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/tracks/"+string(trkAnn)+"/audio", nil)
	r.AddCookie(&http.Cookie{Name: "yesline", Value: s.cookies["ann"]})
	r.Header.Set("User-Agent", "")
	r.AddCookie(&http.Cookie{Name: "yesline-ticket", Value: s.ticketed("ann", r.URL.Path)})
	answer, err := http.DefaultClient.Do(r)
	if err == nil {
		defer answer.Body.Close()
		_, err = io.ReadAll(answer.Body)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil || len(s.windows) != 1 {
		t.Errorf("%d windows left, and the answer ends with %v", len(s.windows), err)
	}
}

// A list tells of the other party too: each call is asked for, in words that
// say it is a list, before anything is read of those in it; what the gate does
// not let through is not looked into.
func TestAListIsAskedForBeforeItIsRead(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	mine := len(s.calls)
	hers := Call{ID: callID("hers"), Parties: []yesline.PersonID{bob, eve}, Began: day}
	s.calls = append(s.calls, hers)
	s.Masks = func(ctx context.Context, people []yesline.PersonID) (map[yesline.PersonID]string, error) {
		if n := len(s.questions()); n != 1+mine+1 {
			t.Errorf("masks are read after %d questions, want %d", n, 1+mine+1)
		}
		if slices.Contains(people, eve) {
			t.Error("a call that the gate does not let through was looked into")
		}
		return masks(ctx, people)
	}
	standings := s.Standings
	s.Standings = func(ctx context.Context, calls []yesline.CallID) (map[yesline.CallID]map[yesline.PersonID]consent.Standing, error) {
		if len(calls) != mine || slices.Contains(calls, hers.ID) {
			t.Errorf("the consent of %d calls was read, want %d", len(calls), mine)
		}
		return standings(ctx, calls)
	}
	site := newSite(t, s)
	got := visit(site, s, "ann", "GET", "/calls", nil)
	if got.Code != http.StatusOK || strings.Contains(got.Body.String(), string(hers.ID)) || !strings.Contains(got.Body.String(), string(callID("both"))) {
		t.Errorf("the list: got %d", got.Code)
	}
	for i, q := range s.questions()[1:] {
		if q.verb != access.View || q.object != (access.Object{Kind: "call", ID: string(s.calls[i].ID)}) || q.detail["part"] != "list" {
			t.Errorf("question %d is %+v", i, q)
		}
	}
	s.asked, s.answers = nil, 1 // the gate closes after the first question
	if got := visit(site, s, "ann", "GET", "/calls", nil); got.Code != http.StatusNotFound {
		t.Errorf("after a refusal: got %d", got.Code)
	}
}

// That nobody could prove a number is told to the operator in words, on the
// page and by the command, and nothing else is.
func TestInvitingWhereNoCodesAreSent(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	s.Invite = func(context.Context, access.Permit, yesline.ProgramID, yesline.Phone) (Invitation, error) {
		return Invitation{}, fmt.Errorf("secret words: %w", NoCodes)
	}
	site := newSite(t, s)
	page := visit(site, s, "op", "POST", "/house/"+string(program)+"/invite", url.Values{"phone": {"+12025550142"}})
	r := httptest.NewRequest("POST", "/local/programs/"+string(program)+"/people", strings.NewReader(`{"number":"+12025550142"}`))
	command := httptest.NewRecorder()
	site.Local().ServeHTTP(command, r.WithContext(WithPeer(r.Context(), session.Local(1000))))
	for _, got := range []*httptest.ResponseRecorder{page, command} {
		body := strings.ToLower(got.Body.String())
		if got.Code != http.StatusServiceUnavailable || !strings.Contains(body, "no way to send codes") ||
			strings.Contains(body, "secret") || strings.Contains(body, "5550142") || strings.Contains(body, "/in/") {
			t.Errorf("inviting: got %d", got.Code)
		}
	}
}

// Who got a way into an account, or saw something of it, stands on its owner's
// page, in words and once.
func TestWhatWasDoneWithAnAccount(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	page := visit(site, s, "ann", "GET", "/me", nil).Body.String()
	page = strings.Join(strings.Fields(page), " ")
	at := 0
	for _, want := range []string{"opened this page", `opened the list of your calls <span class="quiet small">2 times`, "Somebody else</th>", "saw a call with you in their own list of calls",
		"had your number shown", "tried something that was not allowed", "signed in", "An operator</th>", "invited you"} {
		next := strings.Index(page[at:], want)
		if next < 0 {
			t.Errorf("the page does not say %q there", want)
			continue
		}
		at += next
	}
	if n := strings.Count(page, "<tr"); n != 1+7 {
		t.Errorf("%d lines, want 7", n-1)
	}
	if number := visit(site, s, "ann", "POST", "/me/number", url.Values{}).Body.String(); strings.Contains(number, "invited you") {
		t.Error("the answer with the number reads a log that it did not ask for")
	}
}

// The access list joins the windows of one listening and names nobody by id.
func TestAccessListInWords(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	page := visit(newSite(t, s), s, "ann", "GET", "/calls/"+string(callID("both"))+"/log", nil).Body.String()
	page = strings.Join(strings.Fields(page), " ")
	for _, want := range []string{"saw this call in their list of calls", "opened the page of this call", "listened to your voice, from 0:00 to 1:12", "in 3 parts", "saw the waveform of your voice", "let the other person listen", "The other person", "Yesline itself", "refused"} {
		if !strings.Contains(page, want) {
			t.Errorf("the list does not say %q", want)
		}
	}
}

// Every page is rendered in every state with a view that has all its fields,
// and says which language it is in.
func TestEveryPageRenders(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, scene := range scenes {
		s := newSample(t)
		if scene.change != nil {
			scene.change(t, s)
		}
		got := visit(newSite(t, s), s, scene.cookie, "GET", s.address(scene.path), nil)
		page := got.Body.String()
		if got.Code >= 500 || !strings.HasPrefix(page, "<!doctype html>\n<html lang=\"en\">") || !strings.HasSuffix(page, "</html>\n") {
			t.Errorf("%s: got %d", scene.name, got.Code)
		}
		if strings.Contains(page, "<style") || strings.Contains(page, " style=") || strings.Contains(page, " onclick=") || strings.Contains(page, "ZgotmplZ") {
			t.Errorf("%s holds inline style or script, or what the templates would not write", scene.name)
		}
		for _, shape := range shapes {
			seen[shape] = seen[shape] || strings.Contains(page, `class="on-`+shape+`"`)
		}
	}
	seen["joined"] = true // it answers a form: TestSigningUpAndLosingEverything looks at it
	for _, shape := range shapes {
		if !seen[shape] {
			t.Errorf("no scene shows the page %s", shape)
		}
	}
	site := newSite(t, newSample(t))
	for _, v := range []view{inView{Problem: "link"}, inView{Problem: "passkey"}, recoverView{Problem: "often"}, joinView{Problem: "taken"}, termsView{Problem: "changed"}, meView{Number: "+1"}, houseView{Problem: "codes", Programs: []programRow{{"p", "n"}}}, houseView{Problem: "number", Programs: []programRow{{"p", "n"}}, Invitation: &invitationView{}},
		callView{Done: "shared"}, callView{Done: "unshared"}, callView{Done: "licensed"}, callView{Done: "unlicensed"}, callView{Done: "withdrawn"}} {
		if _, err := site.pages.render(frame{View: v, Kind: "person"}); err != nil {
			t.Errorf("%T: %v", v, err)
		}
	}
	for _, status := range []int{400, 403, 404, 409, 413, 429, 500, 503} {
		if _, err := site.pages.render(frame{View: problemView{Status: status}}); err != nil {
			t.Errorf("the page for %d: %v", status, err)
		}
	}
}

// Only windows that follow each other in one listening become one line.
func TestFold(t *testing.T) {
	t.Parallel()
	at := day
	line := func(who string, from, seconds int64, ago time.Duration) logLine {
		return logLine{At: at.Add(-ago), Who: who, What: "listen", Part: "sound", Whose: "yours", From: from, Seconds: seconds, Times: 1}
	}
	for name, c := range map[string]struct {
		below logLine
		want  int
	}{
		"the window before":      {line("you", 8, 32, time.Second), 1},
		"somebody else's":        {line("other", 8, 32, time.Second), 2},
		"a gap between":          {line("you", 7, 32, time.Second), 2},
		"the same again":         {line("you", 40, 32, time.Second), 2},
		"from another afternoon": {line("you", 8, 32, time.Hour), 2},
	} {
		lines := fold(fold(nil, line("you", 40, 32, 0)), c.below)
		if len(lines) != c.want {
			t.Errorf("%s: %d lines, want %d", name, len(lines), c.want)
		}
		if c.want == 1 && (lines[0].From != 8 || lines[0].Seconds != 64 || lines[0].Times != 2) {
			t.Errorf("%s: got %+v", name, lines[0])
		}
	}
}

// The house's own socket has doors that the web does not, and asks the same
// gate about whoever the kernel says is there.
func TestLocalDoors(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	ask := func(who session.Principal, method, path, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		w := httptest.NewRecorder()
		site.Local().ServeHTTP(w, r.WithContext(WithPeer(r.Context(), who)))
		return w
	}
	invite := "/local/programs/" + string(program) + "/people"
	for _, c := range []struct{ method, path, body string }{{"GET", "/local/log", ""}, {"GET", "/local/programs", ""}, {"POST", invite, `{"number":"+12025550142"}`}} {
		if got := ask(session.Local(1000), c.method, c.path, c.body); got.Code != 200 {
			t.Errorf("%s as an operator: got %d", c.path, got.Code)
		}
		if got := ask(session.Principal{}, c.method, c.path, c.body); got.Code != 404 {
			t.Errorf("%s as nobody: got %d", c.path, got.Code)
		}
		if got := ask(session.Service("finish"), c.method, c.path, c.body); got.Code != 404 {
			t.Errorf("%s as a machine: got %d", c.path, got.Code)
		}
		if got := visit(site, s, "op", c.method, c.path, nil); got.Code != 404 {
			t.Errorf("%s by the web: got %d", c.path, got.Code)
		}
	}
	if got := ask(session.Local(1000), "GET", "/calls", ""); got.Code != 404 {
		t.Errorf("a page by the socket: got %d", got.Code)
	}
	if got := ask(session.Local(1000), "POST", invite, `{"number":"marker"}`); got.Code != 400 || strings.Contains(got.Body.String(), "marker") {
		t.Errorf("a bad number: got %d", got.Code)
	}
}

// A client that is slow or says too much is cut off.
func TestTheServerHasLimits(t *testing.T) {
	t.Parallel()
	server := newSite(t, newSample(t)).Server()
	for what, c := range map[string]struct{ got, most time.Duration }{"headers": {server.ReadHeaderTimeout, 10 * time.Second}, "a request": {server.ReadTimeout, 30 * time.Second},
		"an answer": {server.WriteTimeout, time.Minute}, "the next request": {server.IdleTimeout, 2 * time.Minute}} {
		if c.got <= 0 || c.got > c.most {
			t.Errorf("it waits %v for %s, want at most %v", c.got, what, c.most)
		}
	}
	if server.MaxHeaderBytes <= 0 || server.MaxHeaderBytes > 64<<10 {
		t.Errorf("headers may have %d bytes", server.MaxHeaderBytes)
	}
}

// What is published of the log is there for everybody, with its length of life:
// a full tile never changes, a checkpoint is never kept.
func TestTheLogIsPublished(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	note := visit(site, s, "", "GET", "/log/checkpoint", nil)
	if note.Code != http.StatusOK || note.Body.String() != "yesline.example/log\n18204\n" || note.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("the checkpoint: got %d, %q", note.Code, note.Body.String())
	}
	tile := visit(site, s, "", "GET", "/log/tile/0/000", nil)
	if tile.Code != http.StatusOK || tile.Body.Len() != 8192 || !strings.Contains(tile.Header().Get("Cache-Control"), "immutable") {
		t.Errorf("a full tile: got %d, %d bytes, %q", tile.Code, tile.Body.Len(), tile.Header().Get("Cache-Control"))
	}
	s.LogTile = func(context.Context, string) ([]byte, error) { return make([]byte, 32), nil }
	if part := visit(newSite(t, s), s, "", "GET", "/log/tile/0/001.p/1", nil); part.Code != http.StatusOK || part.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("a tile that is not full: got %d, %q", part.Code, part.Header().Get("Cache-Control"))
	}
	for _, path := range []string{"/log/tile/0/002", "/log/tile/marker", "/log/tile/", "/log/"} {
		if got := visit(site, s, "", "GET", path, nil); got.Code != http.StatusNotFound || strings.Contains(got.Body.String(), "marker") {
			t.Errorf("%s: got %d", path, got.Code)
		}
	}
}

// A request that another site's page sends to a door for programs is refused as
// programs read it.
func TestAnotherSiteAtTheAPI(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	r := httptest.NewRequest("POST", "/api/v1/calls/"+string(callID("both"))+"/withdraw", strings.NewReader("{}"))
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	newSite(t, s).ServeHTTP(w, r)
	if w.Code != http.StatusForbidden || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("got %d, %q", w.Code, w.Header().Get("Content-Type"))
	}
}
