package web

import (
	"bytes"
	"context"
	"fmt"
	"io"
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
	"yesline/internal/playback"
	"yesline/internal/session"
)

// Who did not show lately that it is them is told so before the gate is asked,
// with the same words for what is theirs, somebody else's, and nothing.
func TestAnOldProofIsToldBeforeAnythingElse(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	there := s.there(t)
	s.age(t, s.signIn(t, "ann old", ann))
	s.age(t, s.signIn(t, "eve old", eve))
	nowhere := id("pky", "nowhere")
	s.asked = nil
	for _, c := range []struct{ who, passkey string }{{"ann old", there["passkey"]}, {"eve old", there["passkey"]}, {"eve old", nowhere}} {
		got := visit(site, s, c.who, "POST", "/me/passkeys/"+c.passkey+"/remove", url.Values{})
		if got.Code != http.StatusForbidden || !strings.Contains(got.Body.String(), "Show that it is you") {
			t.Fatalf("an old proof of %s: got %d", c.who, got.Code)
		}
		if strings.Contains(got.Body.String(), c.passkey) {
			t.Error("the answer names the object")
		}
	}
	for _, path := range []string{"/me/recovery", "/me/keys", "/me/phones"} {
		got := visit(site, s, "ann old", "POST", path, url.Values{"name": {"x"}, "scope": {"list"}, "days": {"7"}})
		if got.Code != http.StatusForbidden || !strings.Contains(got.Body.String(), `name="next" value="/me/security"`) {
			t.Errorf("%s with an old proof: got %d", path, got.Code)
		}
	}
	s.oldOfficer(t)
	for _, path := range []string{"/house/staff", "/house/staff/" + there["staff"] + "/end", "/programs/" + string(program) + "/staff"} {
		if got := visit(site, s, "officer old", "POST", path, url.Values{"role": {"auditor"}}); got.Code != http.StatusForbidden || !strings.Contains(got.Body.String(), "Show that it is you") {
			t.Errorf("%s with an old proof: got %d", path, got.Code)
		}
	}
	if n := len(s.questions()); n != 0 {
		t.Errorf("the gate was asked %d times", n)
	}
	// Where the gate wants the proof, the way back is the page of the form.
	got := visit(site, s, "ann old", "POST", "/me/number", url.Values{})
	if got.Code != http.StatusForbidden || !strings.Contains(got.Body.String(), `name="next" value="/me"`) || strings.Contains(got.Body.String(), "0142") {
		t.Errorf("one's number with an old proof: got %d", got.Code)
	}
	if got := visit(site, s, "ann old", "POST", "/me/passkeys/marker/remove", url.Values{}); got.Code != http.StatusNotFound || strings.Contains(got.Body.String(), "marker") {
		t.Errorf("what cannot be a name, with an old proof: got %d", got.Code)
	}
	got = visit(site, s, "officer old", "POST", "/calls/"+there["call"]+"/break", url.Values{"reason": {"A complaint about threats."}, "number": {"1"}})
	if got.Code != http.StatusForbidden || !strings.Contains(got.Body.String(), `href="/calls/`+there["call"]+`/break">Go back`) {
		t.Errorf("a case with an old proof: got %d", got.Code)
	}
}

// The way back leads nowhere but into this house.
func TestOurs(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/me/security": "/me/security", "": "/", "me": "/", "//elsewhere.example": "/", "/\\elsewhere.example": "/", "////elsewhere.example": "/", "https://elsewhere.example/": "/",
		"/a\r\nb": "/", "/me?x=1": "/me", "/" + strings.Repeat("a", 300): "/", "/calls/é": "/", "/me#x": "/me",
	} {
		if got := ours(path); got != want {
			t.Errorf("%q leads to %q, want %q", path, got, want)
		}
	}
}

// What we write down of a browser is made of our words.
func TestDeviceWord(t *testing.T) {
	t.Parallel()
	for agent, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0":                                                                  "Firefox on Linux",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1": "Safari on iPhone",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0":           "Edge on Windows",
		"Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36":                            "Chrome on Android",
		"marker<script>": "This device", "": "This device",
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("User-Agent", agent)
		if got := deviceWord(r); got != want {
			t.Errorf("%q is %q, want %q", agent, got, want)
		}
	}
}

// joiner asks as somebody who is signing up, and keeps their cookie.
type joiner struct {
	site *Site
	jar  map[string]string
}

func (j *joiner) send(method, path string, form url.Values) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, value := range j.jar {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	j.site.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		if j.jar == nil {
			j.jar = map[string]string{}
		}
		j.jar[c.Name] = c.Value
		if c.MaxAge < 0 {
			delete(j.jar, c.Name)
		}
	}
	return w
}

func leads(t *testing.T, what string, w *httptest.ResponseRecorder, to string) {
	t.Helper()
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != to {
		t.Errorf("%s: got %d to %q, want %q", what, w.Code, w.Header().Get("Location"), to)
	}
}

// The steps of signing up come one after the other, whatever is asked for.
func TestSigningUpSkipsNoStep(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	j := &joiner{site: site}
	for _, path := range []string{"/join/code", "/join/terms", "/join/passkey"} {
		leads(t, path+" without a claim", j.send("GET", path, nil), "/join?over")
		leads(t, path+" without a claim", j.send("POST", path, url.Values{}), "/join?over")
	}
	begun := j.send("POST", "/join", url.Values{"program": {string(program)}, "phone": {"+12025550142"}})
	leads(t, "beginning", begun, "/join/code")
	c := begun.Result().Cookies()
	if len(c) != 1 || c[0].Name != "yesline-join" || !c[0].HttpOnly || c[0].SameSite != http.SameSiteStrictMode {
		t.Errorf("the cookie of the claim: %v", c)
	}
	for _, path := range []string{"/join/terms", "/join/passkey"} {
		leads(t, path+" before the code", j.send("GET", path, nil), "/join/code")
		leads(t, path+" before the code", j.send("POST", path, url.Values{"credential": {"{}"}, "terms": {"x"}}), "/join/code")
	}
	leads(t, "the code", j.send("POST", "/join/code", url.Values{"code": {rightCode}}), "/join/terms")
	leads(t, "the passkey before the terms", j.send("POST", "/join/passkey", url.Values{"credential": {"{}"}}), "/join/terms")
	terms, err := s.House.Cards()
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{"terms": {"another text"}, "birth": {"1990-05-17"}, "record": {"yes"}}
	if got := j.send("POST", "/join/terms", form); got.Code != http.StatusConflict || !strings.Contains(got.Body.String(), "The text has changed") {
		t.Errorf("another text: got %d", got.Code)
	}
	form.Set("terms", terms.SHA256)
	for _, birth := range []string{"", "marker", time.Now().AddDate(-17, 0, 0).Format(time.DateOnly)} {
		form.Set("birth", birth)
		if got := j.send("POST", "/join/terms", form); got.Code != http.StatusUnprocessableEntity || strings.Contains(got.Body.String(), "marker") {
			t.Errorf("born %q: got %d", birth, got.Code)
		}
	}
	form.Set("birth", "1990-05-17")
	leads(t, "the terms", j.send("POST", "/join/terms", form), "/join/passkey")
	claim, err := s.sessions.ClaimOf(t.Context(), j.jar["yesline-join"])
	if err != nil || claim.Terms != terms.SHA256 || claim.Choices != "adult,record" {
		t.Errorf("the claim keeps %q, %v", claim.Choices, err)
	}
	if on := ReadChoices(claim.Choices); !on["record"] || on["share"] || on["license"] {
		t.Errorf("the choices are read as %v", on)
	}
	for _, credential := range []string{"", "{}", "marker", strings.Repeat("x", credentialBytes+1)} {
		got := j.send("POST", "/join/passkey", url.Values{"credential": {credential}, "name": {"My phone"}})
		if got.Code != http.StatusUnprocessableEntity || j.jar["yesline"] != "" || strings.Contains(got.Body.String(), "marker") {
			t.Errorf("a passkey of %d bytes: got %d", len(credential), got.Code)
		}
	}
}

// Five wrong codes end a sign-up, and the answer is the same for a number that
// is known and for one that is not.
func TestGuessingCodes(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	j := &joiner{site: site}
	j.send("POST", "/join", url.Values{"program": {string(program)}, "phone": {"+12025550142"}})
	for i := range 4 {
		if got := j.send("POST", "/join/code", url.Values{"code": {"111111"}}); got.Code != http.StatusUnprocessableEntity || strings.Contains(got.Body.String(), "111111") {
			t.Errorf("try %d: got %d", i, got.Code)
		}
	}
	leads(t, "the fifth", j.send("POST", "/join/code", url.Values{"code": {"111111"}}), "/join?over")
	leads(t, "the right one, too late", j.send("POST", "/join/code", url.Values{"code": {rightCode}}), "/join?over")
	for what, kind := range map[string]error{"over": yesline.TooMany, "wrong": yesline.Invalid} {
		s := newSample(t)
		s.House.Begin = func(context.Context, yesline.ProgramID, string) (string, error) {
			return "", fmt.Errorf("secret words: %w", kind)
		}
		j := &joiner{site: newSite(t, s)}
		got := j.send("POST", "/join", url.Values{"program": {string(program)}, "phone": {"+1202555marker"}})
		if got.Code < 400 || len(j.jar) != 0 || strings.Contains(got.Body.String(), "marker") || strings.Contains(got.Body.String(), "secret") {
			t.Errorf("%s: got %d", what, got.Code)
		}
		if what == "over" && (got.Code != http.StatusTooManyRequests || got.Header().Get("Retry-After") == "") {
			t.Errorf("%s: got %d without Retry-After", what, got.Code)
		}
	}
	closed := newSample(t)
	closed.House.Open = false
	shut := newSite(t, closed)
	for _, method := range []string{"GET", "POST"} {
		if got := (&joiner{site: shut}).send(method, "/join", url.Values{"program": {string(program)}, "phone": {"+12025550142"}}); got.Code != http.StatusNotFound {
			t.Errorf("%s /join where nobody may join: got %d", method, got.Code)
		}
	}
}

// A link of an invitation sends the code and leads to it; a link of staff leads
// to their first passkey.
func TestWhereLinksLead(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	token, err := s.sessions.InviteLink(t.Context(), s.as(t, "op"), program, yesline.NewClaimID())
	if err != nil {
		t.Fatal(err)
	}
	j := &joiner{site: site}
	j.send("GET", "/in/"+token, nil)
	if len(s.sent) != 0 {
		t.Error("looking at a link sent a code")
	}
	leads(t, "an invitation", j.send("POST", "/in/"+token, url.Values{}), "/join/code")
	if len(s.sent) != 1 || j.jar["yesline"] != "" || j.jar["yesline-join"] == "" {
		t.Errorf("%d codes were sent, and the cookies are %v", len(s.sent), j.jar)
	}
	leads(t, "the code", j.send("POST", "/join/code", url.Values{"code": {rightCode}}), "/join/terms")
	_, token, err = s.sessions.Appoint(t.Context(), session.Local(1000), session.Officer, program, func(bool) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	leads(t, "a colleague", (&joiner{site: site}).send("POST", "/in/"+token, url.Values{}), "/me/security")
	if got := (&joiner{site: site}).send("POST", "/in/"+token, url.Values{}); got.Code != http.StatusNotFound || len(got.Result().Cookies()) != 0 {
		t.Errorf("the link again: got %d", got.Code)
	}
}

// Codes, keys and passwords stand on one answer and on no page.
func TestSecretsAreShownOnce(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	find := func(page, after, until string) string {
		_, rest, _ := strings.Cut(page, after)
		found, _, _ := strings.Cut(rest, until)
		return found
	}
	codes := visit(site, s, "ann", "POST", "/me/recovery", url.Values{}).Body.String()
	key := visit(site, s, "ann", "POST", "/me/keys", url.Values{"name": {"Backup"}, "scope": {"list", "listen"}, "days": {"30"}}).Body.String()
	phone := visit(site, s, "ann", "POST", "/me/phones", url.Values{}).Body.String()
	secrets := map[string]string{"code": find(codes, `<ol class="codes"><li><code>`, "<"), "key": find(key, `<code class="secret">`, "<"), "password": find(phone, `<code class="secret">`, "<")}
	page := visit(site, s, "ann", "GET", "/me/security", nil).Body.String()
	for name, secret := range secrets {
		if len(secret) < 16 || strings.Contains(page, secret) {
			t.Errorf("the %s is %d characters, and stands on the page: %v", name, len(secret), strings.Contains(page, secret))
		}
	}
	if !strings.HasPrefix(secrets["key"], "yk_") {
		t.Error("that is no key")
	}
	if who, err := s.sessions.WhoKey(t.Context(), secrets["key"]); err != nil || who.Person() != ann || !who.May("listen") || who.May("allow") {
		t.Errorf("the key is %v, %v", who, err)
	}
	aKey := regexp.MustCompile(`yk_[A-Za-z0-9_-]{43}`) // shorter ones may be in any random word
	for name, form := range map[string]url.Values{
		"no scope":       {"name": {"x"}, "days": {"30"}},
		"another scope":  {"name": {"x"}, "days": {"30"}, "scope": {"reveal"}},
		"of an operator": {"name": {"x"}, "days": {"30"}, "scope": {"invite"}},
		"for ever":       {"name": {"x"}, "days": {"36500"}, "scope": {"list"}},
		"another time":   {"name": {"x"}, "days": {"31"}, "scope": {"list"}},
		"no name":        {"days": {"30"}, "scope": {"list"}},
	} {
		if got := visit(site, s, "ann", "POST", "/me/keys", form); got.Code != http.StatusUnprocessableEntity || aKey.MatchString(got.Body.String()) {
			t.Errorf("a key with %s: got %d", name, got.Code)
		}
	}
}

// Nobody touches the sessions, passkeys, keys and phones of somebody else; one's
// own end at once.
func TestWhatBelongsToAnAccount(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	there := s.there(t)
	for _, path := range []string{"/me/sessions/" + there["session"] + "/end", "/me/sessions/" + there["session"] + "/name", "/me/passkeys/" + there["passkey"] + "/remove",
		"/me/passkeys/" + there["passkey"] + "/name", "/me/keys/" + there["key"] + "/end", "/me/phones/" + there["device"] + "/end"} {
		for _, who := range []string{"bob", "op", "officer"} {
			if got := visit(site, s, who, "POST", path, url.Values{"name": {"mine"}}); got.Code != http.StatusNotFound {
				t.Errorf("%s as %s: got %d", path, who, got.Code)
			}
		}
	}
	tablet := s.cookies["ann's tablet"]
	leads(t, "ending a session", visit(site, s, "ann", "POST", "/me/sessions/"+there["session"]+"/end", url.Values{}), "/me/security?done=ended")
	if _, err := s.sessions.Who(t.Context(), tablet); err == nil {
		t.Error("the session goes on")
	}
	for name, want := range map[string]int{"Kitchen": http.StatusSeeOther, "": http.StatusUnprocessableEntity, strings.Repeat("x", 65): http.StatusUnprocessableEntity, "a\nb": http.StatusUnprocessableEntity} {
		if got := visit(site, s, "ann", "POST", "/me/passkeys/"+there["passkey"]+"/name", url.Values{"name": {name}}); got.Code != want {
			t.Errorf("the name %q: got %d, want %d", name, got.Code, want)
		}
	}
	if page := visit(site, s, "ann", "GET", "/me/security", nil).Body.String(); !strings.Contains(page, "<h3>Kitchen</h3>") || strings.Contains(page, string(ann)) {
		t.Error("the page does not show the new name, or shows an id")
	}
}

// Sound needs a ticket beside the session, of this session, track and browser;
// without one the gate is not asked. The ticket slides with each window.
func TestSoundGoesOutByTickets(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	s.signIn(t, "ann's tablet", ann)
	page := visit(site, s, "ann", "GET", "/calls/"+string(callID("both")), nil)
	tickets := map[string]string{}
	for _, c := range page.Result().Cookies() {
		if c.Name != "yesline-ticket" || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.MaxAge < 60 || c.MaxAge > 120 {
			t.Errorf("a cookie of the page: %v", c)
		}
		tickets[c.Path] = c.Value
	}
	mine, theirs := tickets["/tracks/"+string(trkAnn)+"/"], tickets["/tracks/"+string(trkBob)+"/"]
	if len(tickets) != 2 || mine == "" || theirs == "" {
		t.Fatalf("the page gave tickets for %d tracks", len(tickets))
	}
	ask := func(who, track, ticket, agent string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/tracks/"+track+"/audio", nil)
		r.Header.Set("Range", "bytes=0-")
		r.Header.Set("User-Agent", agent)
		r.AddCookie(&http.Cookie{Name: "yesline", Value: s.cookies[who]})
		if ticket != "" {
			r.AddCookie(&http.Cookie{Name: "yesline-ticket", Value: ticket})
		}
		w := httptest.NewRecorder()
		site.ServeHTTP(w, r)
		return w
	}
	missing := visit(site, s, "eve", "GET", "/nowhere", nil)
	s.asked, s.windows = nil, nil
	for name, c := range map[string]struct{ who, track, ticket, agent string }{
		"no ticket":        {"ann", string(trkAnn), "", ""},
		"nonsense":         {"ann", string(trkAnn), "marker", ""},
		"a long one":       {"ann", string(trkAnn), strings.Repeat("a", 4096), ""},
		"of another track": {"ann", string(trkAnn), theirs, ""},
		"another session":  {"ann's tablet", string(trkAnn), mine, ""},
		"another person":   {"bob", string(trkAnn), mine, ""},
		"another browser":  {"ann", string(trkAnn), mine, "Firefox"},
	} {
		got := ask(c.who, c.track, c.ticket, c.agent)
		if got.Code != http.StatusNotFound || !bytes.Equal(got.Body.Bytes(), missing.Body.Bytes()) || len(got.Result().Cookies()) != 0 {
			t.Errorf("%s: got %d", name, got.Code)
		}
	}
	if len(s.asked) != 0 || len(s.windows) != 0 {
		t.Errorf("without a ticket the gate was asked %d times and %d windows left", len(s.asked), len(s.windows))
	}
	got := ask("ann", string(trkAnn), mine, "")
	c := got.Result().Cookies()
	if got.Code != http.StatusPartialContent || len(c) != 1 || c[0].Name != "yesline-ticket" || c[0].Path != "/tracks/"+string(trkAnn)+"/" || c[0].Value == mine {
		t.Errorf("with its ticket: got %d, %v", got.Code, c)
	}
	peaks := visit(site, s, "ann", "GET", "/tracks/"+string(trkAnn)+"/peaks", nil, "Cookie", "yesline="+s.cookies["ann"])
	if peaks.Code != http.StatusOK { // visit brings a ticket
		t.Errorf("the waveform: got %d", peaks.Code)
	}
	s.House.Secure = true
	secure := newSite(t, s)
	r := httptest.NewRequest("GET", "/calls/"+string(callID("both")), nil)
	r.AddCookie(&http.Cookie{Name: "__Host-yesline", Value: s.cookies["ann"]})
	w := httptest.NewRecorder()
	secure.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		if c.Name != "__Secure-yesline-ticket" || !c.Secure {
			t.Errorf("with TLS: %v", c)
		}
	}
}

// A recall ends what streams: the window that is out is the last.
func TestARecallEndsAStream(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	window := s.House.Part
	s.House.Part = func(ctx context.Context, p access.Permit, track yesline.TrackID, shape playback.Shape, from, to int64) ([]byte, error) {
		permit, err := s.gate.Ask(ctx, session.Local(1000), access.Contain, access.Object{Kind: "house", ID: access.HouseID}, nil)
		if err == nil {
			_, err = s.tickets.Revoke(ctx, permit, playback.Revocation{All: true})
		}
		if err != nil {
			t.Error(err)
		}
		return window(ctx, p, track, shape, from, to)
	}
	server := httptest.NewServer(newSite(t, s))
	defer server.Close()
	r, _ := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/tracks/"+string(trkAnn)+"/audio", nil)
	r.Header.Set("User-Agent", "")
	r.AddCookie(&http.Cookie{Name: "yesline", Value: s.cookies["ann"]})
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

// Tickets are recalled by whoever holds the house's socket, and by nobody who
// only comes by it.
func TestRecallingByTheSocket(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	ask := func(who session.Principal, path, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", path, strings.NewReader(body))
		w := httptest.NewRecorder()
		site.Local().ServeHTTP(w, r.WithContext(WithPeer(r.Context(), who)))
		return w
	}
	rotate := "/local/programs/" + string(program) + "/tickets/rotate"
	for _, c := range []struct{ path, body string }{{"/local/tickets/revoke", `{"all":true}`}, {rotate, ""}} {
		if got := ask(session.Local(1000), c.path, c.body); got.Code != http.StatusOK || !strings.Contains(got.Body.String(), `"entry"`) {
			t.Errorf("%s: got %d %s", c.path, got.Code, got.Body)
		}
		for _, who := range []session.Principal{{}, session.Service("finish"), s.as(t, "ann"), s.as(t, "auditor")} {
			if got := ask(who, c.path, c.body); got.Code != http.StatusNotFound {
				t.Errorf("%s as %v: got %d", c.path, who, got.Code)
			}
		}
	}
	for _, body := range []string{"", "{}", `{"all":true,"since":"2026-01-01T00:00:00Z"}`, `{"marker":1}`, `{"all":true,"marker":1}`, "marker"} {
		if got := ask(session.Local(1000), "/local/tickets/revoke", body); got.Code != http.StatusBadRequest || strings.Contains(got.Body.String(), "marker") {
			t.Errorf("%q: got %d", body, got.Code)
		}
	}
}

// Staff open a call only while a case of theirs is open: with a banner on every
// page of theirs, no one else's, and a notice to those it touches.
func TestBreakingTheGlass(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	call := "/calls/" + string(callID("private"))
	body := func(who, path string) string { return visit(site, s, who, "GET", path, nil).Body.String() }
	asked := visit(site, s, "officer", "POST", call+"/break", url.Values{"reason": {"A complaint about threats in this call."}, "number": {"SUP-77"}})
	page := strings.TrimSuffix(asked.Header().Get("Location"), "?done=asked")
	if asked.Code != http.StatusSeeOther || !strings.HasPrefix(page, "/cases/cas_") {
		t.Fatalf("asking: got %d to %q", asked.Code, page)
	}
	if got := visit(site, s, "officer", "GET", call, nil); got.Code != http.StatusNotFound {
		t.Errorf("the call before the second yes: got %d", got.Code)
	}
	if strings.Contains(body("officer", page), "/approve") || !strings.Contains(body("second", page), page+"/approve") {
		t.Error("the asker is offered to approve, or the second person is not")
	}
	if got := visit(site, s, "officer", "POST", page+"/approve", url.Values{}); got.Code != http.StatusNotFound {
		t.Errorf("approving one's own: got %d", got.Code)
	}
	for _, who := range []string{"op", "auditor", "ann"} {
		if got := visit(site, s, who, "POST", page+"/approve", url.Values{}); got.Code != http.StatusNotFound {
			t.Errorf("approving as %s: got %d", who, got.Code)
		}
	}
	if strings.Contains(body("ann", "/me"), "SUP-77") {
		t.Error("a case that was not opened is told as opened")
	}
	leads(t, "approving", visit(site, s, "second", "POST", page+"/approve", url.Values{}), page+"?done=approved")
	for _, path := range []string{"/cases", "/house", "/me/security", page, call, call + "/log", "/house/staff"} {
		if !strings.Contains(body("officer", path), "Case SUP-77 is open") {
			t.Errorf("%s has no banner", path)
		}
		if strings.Contains(body("second", path), "Case SUP-77 is open") {
			t.Errorf("%s has the banner of somebody else", path)
		}
	}
	opened := body("officer", call)
	if !strings.Contains(opened, "/tracks/"+string(trkAnn)+"/audio") || !strings.Contains(opened, "/tracks/"+string(trkBob)+"/audio") || strings.Contains(opened, "/withdraw") ||
		strings.Contains(opened, string(ann)) {
		t.Error("the opened call has not both voices, or has buttons or ids")
	}
	if got := visit(site, s, "officer", "GET", "/tracks/"+string(trkAnn)+"/audio", nil, "Range", "bytes=0-"); got.Code != http.StatusPartialContent {
		t.Errorf("a voice of the opened call: got %d", got.Code)
	}
	if got := visit(site, s, "second", "GET", call, nil); got.Code != http.StatusNotFound {
		t.Errorf("the opened call as the second person: got %d", got.Code)
	}
	for _, who := range []string{"ann", "bob"} {
		for _, path := range []string{"/me", "/calls"} {
			if page := body(who, path); !strings.Contains(page, "SUP-77") || !strings.Contains(page, "A complaint about threats in this call.") || strings.Contains(page, "stf_") {
				t.Errorf("%s of %s does not tell of the case", path, who)
			}
		}
	}
	if strings.Contains(body("eve", "/me"), "SUP-77") {
		t.Error("somebody is told who is not touched")
	}
	s.asked = nil
	if visit(site, s, "second", "GET", "/cases", nil).Code != http.StatusOK || s.asked[0].object != (access.Object{Kind: "program", ID: string(program)}) {
		t.Errorf("the cases of a program: the gate was asked %v", s.asked)
	}
	leads(t, "closing", visit(site, s, "officer", "POST", page+"/close", url.Values{}), page+"?done=closed")
	if got := visit(site, s, "officer", "GET", call, nil); got.Code != http.StatusNotFound {
		t.Errorf("the call after closing: got %d", got.Code)
	}
	if strings.Contains(body("officer", "/cases"), "is open</strong>") {
		t.Error("the banner stays")
	}
	for _, form := range []url.Values{{"reason": {"short"}, "number": {"1"}}, {"reason": {"long enough a reason"}}, {"reason": {strings.Repeat("x", 3000)}, "number": {"1"}}} {
		if got := visit(site, s, "officer", "POST", call+"/break", form); got.Code != http.StatusUnprocessableEntity {
			t.Errorf("a reason of %d: got %d", len(form.Get("reason")), got.Code)
		}
	}
}

// A number is shown to an officer with an open case about its owner, and to no
// other.
func TestRevealingByACase(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	path := "/people/" + string(bob) + "/number"
	for _, who := range []string{"officer", "op", "ann"} {
		if got := visit(site, s, who, "POST", path, url.Values{}); got.Code != http.StatusNotFound {
			t.Errorf("without a case as %s: got %d", who, got.Code)
		}
	}
	s.breakOpen(t, access.Object{Kind: "person", ID: string(bob)}, []yesline.PersonID{bob}, true)
	s.breakGlass(t, callID("both"), true)
	if got := visit(site, s, "officer", "POST", path, url.Values{}); got.Code != http.StatusOK || !strings.Contains(got.Body.String(), "12025550142") || !strings.Contains(got.Body.String(), "<code>"+string(bob)) {
		t.Errorf("with a case: got %d", got.Code)
	}
	if got := visit(site, s, "second", "POST", path, url.Values{}); got.Code != http.StatusNotFound {
		t.Errorf("as the second person: got %d", got.Code)
	}
}

// Staff are appointed by a link that is shown once; a program's staff have no
// say in the house.
func TestAppointing(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	made := visit(site, s, "op", "POST", "/house/staff", url.Values{"role": {"auditor"}, "program": {string(program)}})
	_, rest, found := strings.Cut(made.Body.String(), `<code class="secret">/in/`)
	token, _, _ := strings.Cut(rest, "<")
	if made.Code != http.StatusOK || !found || strings.Contains(visit(site, s, "op", "GET", "/house/staff", nil).Body.String(), token) {
		t.Fatalf("appointing: got %d", made.Code)
	}
	who, err := s.sessions.RedeemAny(t.Context(), token, session.Client{})
	if err != nil || who.Who.Kind() != session.Auditor || who.Who.Program() != program {
		t.Errorf("the link is %v's, %v", who.Who.Kind(), err)
	}
	for name, form := range map[string]url.Values{"no role": {}, "a person": {"role": {"person"}}, "a machine": {"role": {"machine"}},
		"an officer more": {"role": {"officer"}, "program": {string(program)}},
		"nowhere":         {"role": {"auditor"}, "program": {id("prg", "nowhere")}}} {
		if got := visit(site, s, "op", "POST", "/house/staff", form); got.Code != http.StatusUnprocessableEntity || strings.Contains(got.Body.String(), "/in/") {
			t.Errorf("%s: got %d", name, got.Code)
		}
	}
	for _, path := range []string{"/house/staff", "/programs/" + string(program) + "/staff"} {
		if got := visit(site, s, "auditor", "POST", path, url.Values{"role": {"auditor"}}); got.Code != http.StatusNotFound {
			t.Errorf("%s as an auditor: got %d", path, got.Code)
		}
	}
	staff := visit(site, s, "second", "GET", "/programs/"+string(program)+"/staff", nil)
	if staff.Code != http.StatusOK || strings.Contains(staff.Body.String(), s.as(t, "op").Account()) {
		t.Errorf("the staff of a program: got %d", staff.Code)
	}
	ended := s.as(t, "buyer")
	leads(t, "ending", visit(site, s, "op", "POST", "/house/staff/"+ended.Account()+"/end", url.Values{}), "/house/staff?done=ended")
	if got := visit(site, s, "buyer", "GET", "/me/security", nil); got.Header().Get("Location") != "/in" {
		t.Errorf("somebody whose account ended: got %d", got.Code)
	}
	if got := visit(site, s, "op", "POST", "/house/staff/"+s.as(t, "op").Account()+"/end", url.Values{}); got.Code != http.StatusConflict && got.Code != http.StatusNotFound {
		t.Errorf("ending the last operator: got %d", got.Code)
	}
}

// Whoever runs a place does not choose who watches over it.
func TestWhoAppointsWhom(t *testing.T) {
	t.Parallel()
	none := []session.Colleague{{Role: session.Officer, Program: program, Ended: 1}, {Role: session.Officer, Program: other}, {Role: session.Operator}}
	one := append(slices.Clone(none), session.Colleague{Role: session.Officer, Program: program})
	above := append(slices.Clone(none), session.Colleague{Role: session.Officer})
	for _, c := range []struct {
		by, role session.Kind
		all      []session.Colleague
		want     bool
	}{
		{session.Operator, session.Officer, none, true}, {session.Operator, session.Officer, one, false}, {session.Operator, session.Officer, above, false},
		{session.Officer, session.Officer, one, true}, {session.Officer, session.Auditor, one, true}, {session.Officer, session.Operator, one, false},
		{session.Officer, session.Buyer, one, false}, {session.Operator, session.Operator, one, true}, {session.Operator, session.Auditor, one, true},
		{session.Operator, session.Buyer, one, true}, {session.Auditor, session.Auditor, one, false}, {session.Operator, session.Person, one, false},
		{session.Operator, session.Machine, none, false},
	} {
		if got := offers(c.by, c.role, program, c.all); got != c.want {
			t.Errorf("a %s appoints a %s among %d: %v", c.by, c.role, len(c.all), got)
		}
	}
}

// A recovery code that is wrong, and too many of them, are told in words.
func TestWrongRecoveryCodes(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	if got := visit(site, s, "", "POST", "/in/recover", url.Values{"code": {"marker"}}); got.Code != http.StatusUnprocessableEntity || strings.Contains(got.Body.String(), "marker") || len(got.Result().Cookies()) != 0 {
		t.Errorf("a wrong code: got %d", got.Code)
	}
	s.House.Recover = func(context.Context, string, session.Client) (string, session.Principal, error) {
		return "", session.Principal{}, yesline.TooMany
	}
	if got := visit(newSite(t, s), s, "", "POST", "/in/recover", url.Values{"code": {"x"}}); got.Code != http.StatusTooManyRequests || got.Header().Get("Retry-After") == "" {
		t.Errorf("too many: got %d", got.Code)
	}
	for _, credential := range []string{"", "{}", "marker", `{"id":"marker"}`} {
		got := visit(site, s, "", "POST", "/in/passkey", url.Values{"credential": {credential}})
		if got.Code != http.StatusUnprocessableEntity || strings.Contains(got.Body.String(), "marker") || len(got.Result().Cookies()) != 0 {
			t.Errorf("signing in by %q: got %d", credential, got.Code)
		}
	}
}

// The outbox is a demo's alone.
func TestOnlyADemoHasAnOutbox(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	if got := visit(newSite(t, s), s, "", "GET", "/outbox", nil); got.Code != http.StatusNotFound {
		t.Errorf("an outbox in a house: got %d", got.Code)
	}
	s.House.Outbox = func() []Message { return []Message{{day, "+1 ••• ••42", "Your code is 1."}} }
	site := newSite(t, s)
	if got := visit(site, s, "", "GET", "/outbox", nil); got.Code != http.StatusOK || !strings.Contains(got.Body.String(), "Your code is 1.") {
		t.Errorf("an outbox in a demo: got %d", got.Code)
	}
	if !slices.ContainsFunc(site.table, func(r row) bool { return r.pattern == "GET /outbox" && r.sort == "public" }) {
		t.Error("the outbox is not in the table")
	}
}
