package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/session"
)

func sameAnswer(a, b *httptest.ResponseRecorder) bool {
	return a.Code == b.Code && bytes.Equal(a.Body.Bytes(), b.Body.Bytes()) && maps.EqualFunc(a.Header(), b.Header(), slices.Equal)
}

// Without a key that is good now there is one answer, at every door, and the
// gate is not troubled. A session's cookie is nothing here.
func TestOnlyAKeyOpensTheAPI(t *testing.T) {
	t.Parallel()
	h := newKeyHouse(t)
	ended := h.makeKey("ann", allScopes...)
	who, err := h.sessions.WhoKey(t.Context(), ended)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.sessions.EndKey(t.Context(), h.signedIn["ann"], who.Key()); err != nil {
		t.Fatal(err)
	}
	good := "Bearer " + h.key["ann"]
	want := h.want(http.StatusUnauthorized, "", "GET", "/api/v1/me", "")
	if want.Header().Get("WWW-Authenticate") != "Bearer" {
		t.Error("it does not say what is needed")
	}
	for name, headers := range map[string][]string{
		"nothing":             nil,
		"a cookie":            {"Cookie", "yesline=" + h.cookie["ann"]},
		"a cookie as a key":   {"Authorization", "Bearer " + h.cookie["ann"]},
		"unknown":             {"Authorization", "Bearer yk_" + strings.Repeat("A", 43)},
		"ended":               {"Authorization", "Bearer " + ended},
		"ended, and a cookie": {"Authorization", "Bearer " + ended, "Cookie", "yesline=" + h.cookie["ann"]},
		"longer":              {"Authorization", good + "A"},
		"shorter":             {"Authorization", good[:len(good)-1]},
		"another scheme":      {"Authorization", "Basic " + h.key["ann"]},
		"no scheme":           {"Authorization", h.key["ann"]},
		"two keys":            {"Authorization", good, "Authorization", good},
		"very long":           {"Authorization", "Bearer yk_" + strings.Repeat("A", 1<<20)},
		"in another case":     {"Authorization", "Bearer " + strings.ToUpper(h.key["ann"])},
		"a space more":        {"Authorization", "Bearer  " + h.key["ann"]},
		"not ours":            {"Authorization", "Bearer xx_" + h.key["ann"][3:]},
	} {
		for o, path := range h.doors(h.real("ann")) {
			got := h.as("", o.method(), path, "", headers...)
			if o.stream != nil {
				if got.Code != http.StatusUnauthorized {
					t.Errorf("%s at %s: got %d", name, o.pattern, got.Code)
				}
				continue
			}
			if !sameAnswer(got, want) {
				t.Errorf("%s at %s: got %d %s", name, o.pattern, got.Code, got.Body)
			}
		}
	}
	if len(h.questions) != 0 {
		t.Errorf("the gate was asked %d times", len(h.questions))
	}
	if h.site.Counts().NoSession == 0 {
		t.Error("strangers are not counted")
	}
	h.want(http.StatusOK, "ann", "GET", "/api/v1/me", "")
	h.site.house.API.WhoKey = func(context.Context, string) (session.Principal, error) { return h.signedIn["ann"], nil }
	if !sameAnswer(h.as("ann", "GET", "/api/v1/me", ""), want) {
		t.Error("a house that takes sessions for keys lets them in")
	}
}

// Each door asks the gate its rule about the object that it names, says by
// which key, and does nothing when the gate says no.
func TestEachAPIDoorAsksItsRule(t *testing.T) {
	t.Parallel()
	for _, staff := range []bool{false, true} {
		h := newKeyHouse(t)
		name := "ann"
		if staff {
			name = "pia"
		}
		for o, path := range h.doors(h.real(name)) {
			if o.stream != nil || o.people && staff || !o.people && !staff && o.rule.Verb != access.Manage || o.rule.Verb == access.Manage && o.method() == "DELETE" {
				continue
			}
			body := h.sample(o)
			h.questions, h.verbs, h.told = nil, nil, nil
			w := h.as(name, o.method(), path, body)
			if (staff || o.people) && w.Code >= 300 {
				t.Errorf("%s as %s: got %d %s", o.pattern, name, w.Code, w.Body)
			}
			if len(h.verbs) == 0 || h.verbs[0] != o.rule.Verb {
				t.Errorf("%s: the gate was asked to %v", o.pattern, h.verbs)
				continue
			}
			object := access.Object{Kind: o.rule.Kind, ID: h.real(name)[o.rule.Param]}
			switch {
			case o.rule.Param == theAsker && o.rule.Kind == "person":
				object.ID = string(h.person[name])
			case o.rule.Param == theAsker:
				object.ID = h.signedIn[name].Account()
			case o.rule.Param == theHouse:
				object.ID = access.HouseID
			case o.rule.Param == thePlace:
				object = access.Object{Kind: "program", ID: string(h.program)}
			}
			if h.questions[0] != object {
				t.Errorf("%s: the gate was asked about %v, want %v", o.pattern, h.questions[0], object)
			}
			if h.told[0] != string(h.who[name].Key()) {
				t.Errorf("%s: the gate was not told which key", o.pattern)
			}
		}
	}
}

// sample is a body that the door takes.
func (h *keyHouse) sample(o *operation) string {
	body := maps.Clone(o.sample)
	if slices.Contains(o.accepts, "words_sha256") {
		body = map[string]string{"words_sha256": h.words(o.name)}
	}
	if body == nil {
		return ""
	}
	data, err := json.Marshal(body)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(data)
}

// words is the hash that a yes goes with, as the call's answer gives it.
func (h *keyHouse) words(purpose string) string {
	var call callBody
	h.decode(h.want(http.StatusOK, "ann", "GET", "/api/v1/calls/"+string(h.call), ""), &call)
	for _, ask := range call.Asks {
		if ask.Purpose == purpose && ask.Words != "" {
			return ask.SHA256
		}
	}
	h.t.Fatalf("the call does not say with which words to ask for %s", purpose)
	return ""
}

func (h *keyHouse) decode(w *httptest.ResponseRecorder, into any) {
	h.t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
		h.t.Fatalf("an answer is not JSON: %v", err)
	}
}

// What is absent, somebody else's, of another program, or no name at all gets
// one answer, whatever else was sent.
func TestAPIAbsentIsForbidden(t *testing.T) {
	t.Parallel()
	h := newKeyHouse(t)
	absent := map[string]string{"call": string(yesline.NewCallID()), "track": string(yesline.NewTrackID()), "receipt": string(yesline.NewReceiptID()),
		"program": string(yesline.NewProgramID()), "session": string(yesline.NewSessionID()), "key": string(yesline.NewKeyID())}
	nonsense := map[string]string{"call": "x", "track": "trk_1", "receipt": "%2e%2e", "program": "cal_" + strings.Repeat("a", 32), "session": "+12025550142", "key": "yk_" + strings.Repeat("A", 43)}
	want := h.want(http.StatusNotFound, "eve", "GET", "/api/v1/calls/"+absent["call"], "")
	if want.Header().Get("RateLimit") != "" || want.Header().Get("ETag") != "" {
		t.Error("the answer for what is absent tells more than that")
	}
	sent := [][]string{
		{""}, {`{"phone":"+12025550142"}`}, {"{"}, {strings.Repeat("x", 20_000)}, {"<a/>", "Content-Type", "text/xml"},
		{"", "If-Match", `"x"`}, {"", "If-None-Match", "*"}, {"", "Idempotency-Key", "x"}, {"", "Idempotency-Key", "a-good-key"}, {"", "Accept", "text/html"},
	}
	for _, who := range []string{"eve", "zoe", "pia", "olga", "bea", "otto"} {
		for i, ids := range []map[string]string{h.real("ann"), absent, nonsense} {
			if who == "pia" && i == 0 {
				ids["program"] = string(h.other) // her own is hers
			}
			if who == "olga" && i == 0 {
				ids["program"] = string(h.other) // officers contain in their own
			}
			for o, path := range h.doors(ids) {
				if o.stream != nil || !strings.Contains(o.pattern, "{") {
					continue
				}
				for _, s := range sent {
					got := h.as(who, o.method(), path+"?limit=x&unknown=1", s[0], s[1:]...)
					if !sameAnswer(got, want) {
						t.Errorf("%s as %s with %.20q: got %d %s %v", o.pattern, who, s, got.Code, got.Body, got.Header())
					}
				}
			}
		}
	}
	if len(h.acts) != 0 {
		t.Errorf("something was done: %v", h.acts)
	}
	for _, q := range h.questions {
		if prefixes[q.Kind] != "" && !yesline.IsID(prefixes[q.Kind], q.ID) {
			t.Errorf("the gate was asked about a %s that cannot be", q.Kind)
		}
	}
}

// A key does what its scopes name and no more.
func TestAKeyDoesWhatItsScopesName(t *testing.T) {
	t.Parallel()
	h := newKeyHouse(t)
	h.key["reader"] = h.makeKey("ann", "view")
	h.want(http.StatusOK, "reader", "GET", "/api/v1/calls/"+string(h.call), "")
	for o, path := range h.doors(h.real("ann")) {
		if o.rule.Verb != access.View && o.stream == nil {
			h.want(http.StatusNotFound, "reader", o.method(), path, h.sample(o))
		}
	}
	if len(h.acts) != 0 {
		t.Errorf("a key that may look did %v", h.acts)
	}
}

// An officer with an open case sees the call by themselves, with a banner, and
// never by a key that runs at night.
func TestNoStaffKeyOpensWhatIsOfPeople(t *testing.T) {
	t.Parallel()
	h := newKeyHouse(t)
	if _, err := h.gate.Ask(t.Context(), h.who["olga"], access.View, access.Object{Kind: "call", ID: string(h.call)}, nil); err != nil {
		t.Fatalf("the story is wrong: the gate lets olga see the call by her case, but: %v", err)
	}
	for o, path := range h.doors(h.real("ann")) {
		if o.people && o.stream == nil {
			h.want(http.StatusNotFound, "olga", o.method(), path, "")
		}
	}
}

// The staff of one program see that program and no other.
func TestStaffSeeTheirOwnProgram(t *testing.T) {
	t.Parallel()
	h := newKeyHouse(t)
	var got struct{ Items []programItem }
	h.decode(h.want(http.StatusOK, "pia", "GET", "/api/v1/programs", ""), &got)
	if len(got.Items) != 1 || got.Items[0].ID != string(h.program) {
		t.Errorf("pia sees %v", got.Items)
	}
	h.decode(h.want(http.StatusOK, "dan", "GET", "/api/v1/programs", ""), &got)
	if len(got.Items) != 2 {
		t.Errorf("dan sees %v", got.Items)
	}
	h.want(http.StatusCreated, "pia", "POST", "/api/v1/programs/"+string(h.program)+"/people", `{"phone":"+12025550142"}`)
	h.want(http.StatusNotFound, "pia", "POST", "/api/v1/programs/"+string(h.other)+"/people", `{"phone":"+12025550142"}`)
	if !slices.Equal(h.acts, []string{"invited"}) {
		t.Errorf("done: %v", h.acts)
	}
}

// An answer has the fields of its type and no other, and its type is in the
// list that the enemy has.
func TestAnswersHaveTheFieldsOfTheirList(t *testing.T) {
	t.Parallel()
	h := newKeyHouse(t)
	for _, name := range []string{"ann", "pia"} {
		for o, path := range h.doors(h.real(name)) {
			if o.stream != nil || o.method() == "DELETE" {
				continue
			}
			w := h.as(name, o.method(), path, h.sample(o))
			if w.Code >= 300 || w.Code == http.StatusNoContent {
				continue
			}
			if w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("%s: got %s", o.pattern, w.Header().Get("Content-Type"))
			}
			var v any
			h.decode(w, &v)
			for _, p := range placesOf(v, "") {
				if !slices.Contains(o.fields, p) {
					t.Errorf("%s: the answer has %s", o.pattern, p)
				}
			}
			for _, other := range []string{"bob", "eve", "zoe"} {
				if strings.Contains(w.Body.String(), string(h.person[other])) {
					t.Errorf("%s: the answer has the id of %s", o.pattern, other)
				}
			}
		}
	}
}

// What was not measured is null, and 0 is a silent voice. Who may not hear it
// is not told.
func TestSpeechThatWasNotMeasuredIsNull(t *testing.T) {
	t.Parallel()
	h := newKeyHouse(t)
	speech := func(name string, voice int) string {
		t.Helper()
		var call struct {
			Voices []struct{ Speech json.RawMessage }
		}
		h.decode(h.want(http.StatusOK, name, "GET", "/api/v1/calls/"+string(h.call), ""), &call)
		return string(call.Voices[voice].Speech)
	}
	if got := speech("ann", 0); got != "null" {
		t.Errorf("not measured: got %s", got)
	}
	h.measured = true
	if got := speech("ann", 0); got != "0" {
		t.Errorf("silent: got %s", got)
	}
	if got := speech("bob", 1); got != "null" {
		t.Errorf("bob is told of ann's: got %s", got)
	}
}

func placesOf(v any, at string) (all []string) {
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			all = append(append(all, at+"/"+k), placesOf(inner, at+"/"+k)...)
		}
	case []any:
		for _, inner := range v {
			all = append(append(all, at+"/*"), placesOf(inner, at+"/*")...)
		}
	}
	return all
}

// A method that a door does not know, and an address that no door has, are
// told in JSON, to whoever asks.
func TestOtherMethodsAndAddresses(t *testing.T) {
	t.Parallel()
	h := newKeyHouse(t)
	for _, c := range []struct {
		method, path, allow string
		status              int
	}{
		{"POST", "/api/v1/me", "GET", http.StatusMethodNotAllowed},
		{"PUT", "/api/v1/calls/" + string(h.call), "GET", http.StatusMethodNotAllowed},
		{"OPTIONS", "/api/v1/calls/" + string(h.call) + "/share", "POST", http.StatusMethodNotAllowed},
		{"GET", "/api/v1/sessions/" + string(yesline.NewSessionID()), "DELETE", http.StatusMethodNotAllowed},
		{"GET", "/api/v1/nothing", "", http.StatusNotFound},
		{"GET", "/api/v2/me", "", http.StatusNotFound},
		{"GET", "/api/v1/me/", "", http.StatusNotFound},
		{"GET", "/api/v1/calls/" + string(h.call) + "/audio", "", http.StatusNotFound},
	} {
		for _, who := range []string{"", "ann"} {
			w := h.want(c.status, who, c.method, c.path, "")
			if w.Header().Get("Allow") != c.allow {
				t.Errorf("%s %s: Allow is %q", c.method, c.path, w.Header().Get("Allow"))
			}
		}
	}
	head := h.as("ann", "HEAD", "/api/v1/me", "")
	if head.Code != http.StatusOK || head.Body.Len() != 0 || head.Header().Get("ETag") == "" {
		t.Errorf("HEAD: got %d and %d bytes", head.Code, head.Body.Len())
	}
}

// A door that breaks, a room that fails and a gate that cannot log answer with
// a problem that tells nothing.
func TestWhatBreaksTellsNothing(t *testing.T) {
	t.Parallel()
	h := newKeyHouse(t)
	h.site.house.Call = nil // a panic
	w := h.want(http.StatusInternalServerError, "ann", "GET", "/api/v1/calls/"+string(h.call), "")
	h.site.house.Call = func(context.Context, yesline.CallID) (Call, error) { return Call{}, errBroken }
	again := h.want(http.StatusInternalServerError, "ann", "GET", "/api/v1/calls/"+string(h.call), "")
	if !bytes.Equal(w.Body.Bytes(), again.Body.Bytes()) || strings.Contains(again.Body.String(), "555") {
		t.Errorf("got %s and %s", w.Body, again.Body)
	}
	for _, c := range []struct {
		err    error
		status int
	}{{yesline.Unavailable, 503}, {yesline.Full, 503}, {yesline.Tampered, 500}, {yesline.TooMany, 429}, {yesline.Conflict, 409}, {yesline.Invalid, 422}, {yesline.Stale, 403}, {yesline.Denied, 404}, {yesline.NotFound, 404}} {
		h.site.house.Call = func(context.Context, yesline.CallID) (Call, error) {
			return Call{}, fmt.Errorf("+12025550142: %w", c.err)
		}
		w := h.want(c.status, "ann", "GET", "/api/v1/calls/"+string(h.call), "")
		if strings.Contains(w.Body.String(), "555") || (c.status == 503 || c.status == 429) != (w.Header().Get("Retry-After") != "") {
			t.Errorf("%v: got %s, retry after %q", c.err, w.Body, w.Header().Get("Retry-After"))
		}
	}
	if h.site.Counts().Failures == 0 {
		t.Error("failures are not counted")
	}
}

// The headers of every page are with every answer of the API too.
func TestTheAPIHasTheHeadersOfTheHouse(t *testing.T) {
	t.Parallel()
	h := newKeyHouse(t)
	for _, w := range []*httptest.ResponseRecorder{
		h.as("ann", "GET", "/api/v1/me", ""), h.as("", "GET", "/api/v1/me", ""), h.as("ann", "GET", "/api/v1/x", ""), h.as("ann", "PUT", "/api/v1/me", ""),
	} {
		for _, name := range []string{"Content-Security-Policy", "X-Content-Type-Options", "Cache-Control"} {
			if w.Header().Get(name) == "" {
				t.Errorf("%d: no %s", w.Code, name)
			}
		}
		for name := range w.Header() {
			if strings.HasPrefix(name, "Access-Control-") || name == "Set-Cookie" {
				t.Errorf("%d: has %s", w.Code, name)
			}
		}
	}
}

// A tag says which answer one has: it is the same for the same answer, it
// saves sending it again, and a choice can be held to it.
func TestTagsAndConditions(t *testing.T) {
	t.Parallel()
	h := newKeyHouse(t)
	path := "/api/v1/calls/" + string(h.call)
	first := h.want(http.StatusOK, "ann", "GET", path, "")
	tag := first.Header().Get("ETag")
	if tag == "" || h.want(http.StatusOK, "ann", "GET", path, "").Header().Get("ETag") != tag {
		t.Fatal("the same answer has another tag")
	}
	for _, condition := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
		asked := len(h.questions)
		w := h.as("ann", "GET", path, "", "If-None-Match", condition)
		if w.Code != http.StatusNotModified || w.Body.Len() != 0 || w.Header().Get("ETag") != tag {
			t.Errorf("If-None-Match %s: got %d and %d bytes", condition, w.Code, w.Body.Len())
		}
		if len(h.questions) == asked {
			t.Error("an answer was confirmed without asking the gate")
		}
	}
	if w := h.as("bob", "GET", path, "", "If-None-Match", tag); w.Code != http.StatusOK {
		t.Errorf("what ann has, bob does not: got %d", w.Code)
	}
	yes := `{"words_sha256":"` + h.words("share") + `"}`
	for _, no := range []string{`"x"`, "W/" + tag, `""`, strings.Repeat(`"x",`, maxTags/4) + tag} { // the last is longer than we look
		h.want(http.StatusPreconditionFailed, "ann", "POST", path+"/share", yes, "If-Match", no)
		h.want(http.StatusPreconditionFailed, "ann", "POST", path+"/withdraw", "", "If-Match", no)
	}
	if len(h.acts) != 0 {
		t.Errorf("done although it was not as they saw it: %v", h.acts)
	}
	h.want(http.StatusOK, "ann", "POST", path+"/share", yes, "If-Match", tag)
	h.want(http.StatusPreconditionFailed, "ann", "POST", path+"/share/stop", "", "If-Match", tag)
	if !slices.Equal(h.acts, []string{"yes to share"}) {
		t.Errorf("done: %v", h.acts)
	}
}

// A yes goes with the words that it was given to, and the evidence says so.
func TestAYesNamesItsWords(t *testing.T) {
	t.Parallel()
	h := newKeyHouse(t)
	path := "/api/v1/calls/" + string(h.call)
	for _, body := range []string{"", "{}", `{"words_sha256":"x"}`, `{"words_sha256":"` + strings.Repeat("0", 64) + `"}`, `{"words_sha256":"` + h.words("license") + `"}`} {
		if w := h.as("ann", "POST", path+"/share", body); w.Code < 400 {
			t.Errorf("a yes to %q: got %d", body, w.Code)
		}
	}
	if len(h.acts) != 0 {
		t.Errorf("done without the words: %v", h.acts)
	}
	h.want(http.StatusOK, "ann", "POST", path+"/share", `{"words_sha256":"`+h.words("share")+`"}`)
	if h.evidence.Channel != "api" || h.evidence.PromptSHA256 != h.words("share") || h.evidence.AtMillis == 0 {
		t.Errorf("the evidence is %+v", h.evidence)
	}
	h.want(http.StatusOK, "ann", "POST", path+"/withdraw", "")
	if h.evidence.Channel != "api" || h.evidence.PromptSHA256 != "" {
		t.Errorf("the evidence of a no is %+v", h.evidence)
	}
}

// Pages follow one another by cursors that nobody can make, move or borrow.
func TestCursors(t *testing.T) {
	t.Parallel()
	h := newKeyHouse(t)
	for range 4 {
		h.more = append(h.more, Call{ID: yesline.NewCallID(), Parties: h.oneCall().Parties})
	}
	type page struct {
		Items []callItem
		Next  string
	}
	seen, path, cursor := map[string]bool{}, "/api/v1/calls?limit=2", ""
	for n := range 3 {
		var p page
		at := path
		if cursor != "" {
			at += "&cursor=" + cursor
		}
		w := h.want(http.StatusOK, "ann", "GET", at, "")
		h.decode(w, &p)
		for _, item := range p.Items {
			seen[item.ID] = true
		}
		if link := w.Header().Get("Link"); (p.Next == "") != (link == "") || !strings.Contains(link, p.Next) {
			t.Errorf("page %d: the link is %q", n, link)
		}
		if p.Next != "" {
			cursor = p.Next
		}
	}
	if len(seen) != 5 {
		t.Errorf("saw %d calls, want 5", len(seen))
	}
	h.want(http.StatusBadRequest, "bob", "GET", "/api/v1/calls?cursor="+cursor, "")                        // he is in the same calls
	h.want(http.StatusBadRequest, "ann", "GET", "/api/v1/calls/"+string(h.call)+"/log?cursor="+cursor, "") // another list
	last := cursor[len(cursor)-1:]
	flip := cursor[:len(cursor)-1] + map[bool]string{true: "B", false: "A"}[last == "A"]
	for _, bad := range []string{flip, cursor + "AA", cursor[1:], "from.2", "AAAA", strings.Repeat("A", 256), cursor + "%0A", "%00"} {
		w := h.want(http.StatusBadRequest, "ann", "GET", "/api/v1/calls?cursor="+bad, "")
		if strings.Contains(w.Body.String(), bad) {
			t.Errorf("the answer repeats %s", bad)
		}
	}
	for _, limit := range []string{"0", "-1", "101", "x", "1e3", "999999999999999999999"} {
		h.want(http.StatusUnprocessableEntity, "ann", "GET", "/api/v1/calls?limit="+limit, "")
	}
	var log struct {
		Items []logItem
		Next  string
	}
	h.decode(h.want(http.StatusOK, "ann", "GET", "/api/v1/calls/"+string(h.call)+"/log?limit=100", ""), &log)
	if len(log.Items) != 100 || log.Next == "" {
		t.Errorf("got %d lines and %q", len(log.Items), log.Next)
	}
	h.want(http.StatusOK, "ann", "GET", "/api/v1/calls/"+string(h.call)+"/log?cursor="+log.Next, "")
}

// A key has its pace, and no other key feels it.
func TestAKeyHasItsPace(t *testing.T) {
	t.Parallel()
	h := newKeyHouse(t, func(h *keyHouse) { h.API.PerMinute = 5 })
	for i := range 5 {
		w := h.want(http.StatusOK, "ann", "GET", "/api/v1/me", "")
		if !strings.HasPrefix(w.Header().Get("RateLimit"), `"key";r=`+strconv.Itoa(4-i)+";") || w.Header().Get("RateLimit-Policy") != `"key";q=5;w=60` {
			t.Errorf("request %d: %v", i, w.Header())
		}
	}
	w := h.want(http.StatusTooManyRequests, "ann", "GET", "/api/v1/me", "")
	if after, err := strconv.Atoi(w.Header().Get("Retry-After")); err != nil || after < 1 || after > 12 {
		t.Errorf("Retry-After is %q, want at most the 12 s of one request", w.Header().Get("Retry-After"))
	}
	asked := len(h.questions)
	real := h.want(http.StatusTooManyRequests, "ann", "GET", "/api/v1/calls/"+string(h.call), "")
	none := h.want(http.StatusTooManyRequests, "ann", "GET", "/api/v1/calls/"+string(yesline.NewCallID()), "")
	if !bytes.Equal(real.Body.Bytes(), none.Body.Bytes()) || len(h.questions) != asked {
		t.Error("who is too fast still reaches the gate")
	}
	h.want(http.StatusOK, "bob", "GET", "/api/v1/me", "")
}

// One's own sessions and keys can be seen and ended; those of others cannot.
func TestSessionsAndKeys(t *testing.T) {
	t.Parallel()
	h := newKeyHouse(t)
	var got struct {
		Items []struct{ ID, Name string }
	}
	h.decode(h.want(http.StatusOK, "ann", "GET", "/api/v1/sessions", ""), &got)
	if len(got.Items) != 1 || got.Items[0].ID != string(h.signedIn["ann"].Session()) {
		t.Errorf("ann's sessions are %v", got.Items)
	}
	h.want(http.StatusNotFound, "eve", "DELETE", "/api/v1/sessions/"+got.Items[0].ID, "")
	h.want(http.StatusNotFound, "dan", "DELETE", "/api/v1/sessions/"+got.Items[0].ID, "")
	if _, err := h.sessions.Who(t.Context(), h.cookie["ann"]); err != nil {
		t.Fatalf("somebody ended ann's session: %v", err)
	}
	h.want(http.StatusNoContent, "ann", "DELETE", "/api/v1/sessions/"+got.Items[0].ID, "")
	if _, err := h.sessions.Who(t.Context(), h.cookie["ann"]); err == nil {
		t.Error("ann's session goes on")
	}
	h.decode(h.want(http.StatusOK, "ann", "GET", "/api/v1/keys", ""), &got)
	if len(got.Items) != 1 || strings.Contains(fmt.Sprint(got), h.key["ann"]) {
		t.Errorf("ann's keys are %v", got.Items)
	}
	h.want(http.StatusNotFound, "bob", "DELETE", "/api/v1/keys/"+got.Items[0].ID, "")
	h.want(http.StatusOK, "ann", "GET", "/api/v1/me", "")
	h.want(http.StatusNoContent, "ann", "DELETE", "/api/v1/keys/"+got.Items[0].ID, "")
	h.want(http.StatusUnauthorized, "ann", "GET", "/api/v1/me", "")
}

// A ticket plays without a header, for its holder's program, from where it was
// asked for, while the key lives and the gate says yes.
func TestATicketPlays(t *testing.T) {
	t.Parallel()
	h := newKeyHouse(t)
	var got struct {
		URL     string
		Expires time.Time
	}
	door := "/api/v1/tracks/" + string(h.track) + "/ticket"
	h.decode(h.want(http.StatusOK, "ann", "POST", door, "", "User-Agent", "player/1"), &got)
	if left := time.Until(got.Expires); left <= 0 || left > 2*time.Minute {
		t.Errorf("it lives %v", left)
	}
	play := func(url string, headers ...string) *httptest.ResponseRecorder {
		return h.as("", "GET", url, "", append([]string{"User-Agent", "player/1"}, headers...)...)
	}
	h.questions = nil
	w := play(got.URL)
	if w.Code != http.StatusOK || w.Body.Len() == 0 || w.Header().Get("Content-Type") != "audio/wav" {
		t.Fatalf("got %d and %d bytes: %s", w.Code, w.Body.Len(), w.Body)
	}
	if len(h.questions) == 0 || h.told[len(h.told)-1] != string(h.who["ann"].Key()) {
		t.Error("it played without asking the gate as the key")
	}
	if w := play(got.URL, "Range", "bytes=0-43"); w.Code != http.StatusPartialContent || w.Body.Len() != 44 {
		t.Errorf("a range: got %d and %d bytes", w.Code, w.Body.Len())
	}
	if w := play(got.URL, "Range", "bytes=9-1"); w.Code != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("a bad range: got %d", w.Code)
	}
	want := play("/api/v1/tracks/" + string(h.track) + "/audio")
	moved := strings.Replace(got.URL, string(h.track), string(yesline.NewTrackID()), 1)
	other := "A"
	if got.URL[len(got.URL)-9] == 'A' {
		other = "B"
	}
	for name, w := range map[string]*httptest.ResponseRecorder{
		"with the key alone":     h.as("ann", "GET", "/api/v1/tracks/"+string(h.track)+"/audio", ""),
		"another agent":          h.as("", "GET", got.URL, "", "User-Agent", "player/2"),
		"another track":          play(moved),
		"a letter else":          play(got.URL[:len(got.URL)-9] + other + got.URL[len(got.URL)-8:]),
		"longer":                 play(got.URL + "A"),
		"very long":              play("/api/v1/tracks/" + string(h.track) + "/audio?ticket=" + strings.Repeat("A", 100_000)),
		"twice":                  play(got.URL + "&ticket=x"),
		"with something besides": play(got.URL + "&x=1"),
	} {
		if w.Code != http.StatusUnauthorized || !sameAnswer(w, want) {
			t.Errorf("%s: got %d %.60s", name, w.Code, w.Body)
		}
	}
	keyOf := h.site.house.API.KeyOf
	h.site.house.API.KeyOf = func(context.Context, string, string, string) (yesline.KeyID, error) { return h.who["bob"].Key(), nil }
	if w := play(got.URL); w.Code != http.StatusUnauthorized {
		t.Errorf("as another's: got %d", w.Code)
	}
	h.site.house.API.KeyOf = keyOf
	h.from = "198.51.100.9:1"
	if w := play(got.URL); w.Code != http.StatusUnauthorized {
		t.Errorf("from another address: got %d", w.Code)
	}
	h.from = "192.0.2.7:9"
	h.want(http.StatusOK, "pia", "POST", "/api/v1/programs/"+string(h.program)+"/tickets/revoke", `{"what":"object","id":"`+string(h.track)+`"}`)
	if w := play(got.URL); w.Code != http.StatusUnauthorized {
		t.Errorf("after a recall: got %d", w.Code)
	}
	h.decode(h.want(http.StatusOK, "ann", "POST", door, "", "User-Agent", "player/1"), &got)
	if w := play(got.URL); w.Code != http.StatusOK {
		t.Errorf("a new one: got %d", w.Code)
	}
	if err := h.sessions.EndKey(t.Context(), h.signedIn["ann"], h.who["ann"].Key()); err != nil {
		t.Fatal(err)
	}
	if w := play(got.URL); w.Code != http.StatusUnauthorized {
		t.Errorf("after its key ended: got %d", w.Code)
	}
}

// What to recall is named by one thing, in the program that the path names.
func TestRecallingTickets(t *testing.T) {
	t.Parallel()
	h := newKeyHouse(t)
	path := "/api/v1/programs/" + string(h.program) + "/tickets/revoke"
	for _, body := range []string{`{}`, `{"what":"some"}`, `{"what":"object"}`, `{"what":"object","id":"x"}`, `{"what":"session","id":"` + string(h.track) + `"}`,
		`{"what":"key"}`, `{"what":"since"}`, `{"what":"since","time":"yesterday"}`, `{"what":"since","time":"1969-01-01T00:00:00Z"}`, `{"program":"x"}`} {
		if w := h.as("pia", "POST", path, body); w.Code < 400 || w.Code >= 500 {
			t.Errorf("%s: got %d", body, w.Code)
		}
	}
	if len(h.recalls) != 0 {
		t.Errorf("recalled %v", h.recalls)
	}
	for _, body := range []string{`{"what":"all"}`, `{"what":"object","id":"` + string(h.track) + `"}`, `{"what":"session","id":"` + string(yesline.NewSessionID()) + `"}`,
		`{"what":"key","id":"` + string(yesline.NewKeyID()) + `"}`, `{"what":"since","time":"2026-03-03T14:02:00Z"}`} {
		h.want(http.StatusOK, "pia", "POST", path, body)
	}
	for _, r := range h.recalls {
		if r.Program != h.program {
			t.Errorf("recalled in %q", r.Program)
		}
	}
}

// A table in which an operation leads nowhere does not start.
func TestAnOperationWithoutAHandDoesNotStart(t *testing.T) {
	t.Parallel()
	rule := of(access.View, "call", "call")
	open := func(http.ResponseWriter, *http.Request) {}
	for name, r := range map[string]row{
		"nothing behind it": {pattern: "GET /api/v1/calls/{call}", sort: "api", rule: rule},
		"another place":     {pattern: "GET /calls/{call}", sort: "api", rule: rule, open: open},
		"no rule":           {pattern: "GET /api/v1/calls/{call}", sort: "api", open: open},
		"no method":         {pattern: "/api/v1/calls/{call}", sort: "api", rule: rule, open: open},
	} {
		if err := check([]row{r}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
