package web

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audit"
	"yesline/internal/consent"
	"yesline/internal/playback"
	"yesline/internal/session"
)

// Behind many doors a room has a lock of its own, and a ticket comes before the
// sound. Here no ticket is bad and no room is reached: whoever may nothing gets
// the absent answer at every door from the gate, and nothing behind it runs.
func TestTheGateAloneKeepsEveryDoor(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	there := s.there(t)
	token, err := s.sessions.LinkFor(t.Context(), other, yesline.PersonID(id("per", "zoe")))
	if err != nil {
		t.Fatal(err)
	}
	s.use(t, "zoe", token)
	for _, name := range []string{"eve", "zoe"} { // of the program and of another
		bearer, asKey := s.keyOf(t, name)
		h, ran := watched(s.House)
		h.Tickets.Check = func(context.Context, string, session.Principal, string, string) (playback.Ticket, error) {
			return playback.Ticket{}, nil
		}
		h.API.KeyOf = func(context.Context, string, string, string) (yesline.KeyID, error) { return asKey.Key(), nil }
		site, err := New(h)
		if err != nil {
			t.Fatal(err)
		}
		samples := site.samples(t)
		for _, r := range site.table {
			if r.sort == "public" || r.rule.Param == theAsker {
				continue // an own door names nobody else's
			}
			s.asked, *ran = nil, nil
			got, want := s.knock(t, site, r, name, bearer, there, samples[r.pattern])
			if got.Code != http.StatusNotFound || !bytes.Equal(got.Body.Bytes(), want) {
				t.Errorf("%s as %s: got %d with %d bytes, want the answer for what is absent", r.pattern, name, got.Code, got.Body.Len())
			}
			if len(*ran) > 0 {
				t.Errorf("%s as %s: behind the door, %v ran", r.pattern, name, *ran)
			}
			if q := s.questions(); len(q) != 1 || q[0].verb != r.rule.Verb {
				t.Errorf("%s as %s: the gate was asked %v", r.pattern, name, q)
			}
		}
	}
}

// knock sends what a door expects, in the way that its sort is asked, and gives
// also the body of what is absent there.
func (s *sample) knock(t testing.TB, site *Site, r row, name, bearer string, there map[string]string, body string) (got *httptest.ResponseRecorder, absent []byte) {
	t.Helper()
	method, path, _ := strings.Cut(r.pattern, " ")
	for param, id := range there {
		path = strings.ReplaceAll(path, "{"+param+"}", id)
	}
	switch r.sort {
	case "api":
		if strings.HasSuffix(path, "/audio") || strings.HasSuffix(path, "/original") {
			path += "?ticket=good"
		}
		nothing := httptest.NewRecorder()
		writeProblem(nothing, newProblem(http.StatusNotFound, "absent"))
		header := http.Header{"Authorization": {"Bearer " + bearer}, "Content-Type": {"application/json"}}
		return sendTo(site, method, path, body, header), nothing.Body.Bytes()
	case "local":
		peer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			site.Local().ServeHTTP(w, r.WithContext(WithPeer(r.Context(), s.as(t, name))))
		})
		return sendTo(peer, method, path, `{"number":"+12025550142"}`, nil), sendTo(peer, "GET", "/local/nothing", "", nil).Body.Bytes()
	}
	if r.sort == "ask" || r.sort == "say" {
		absent = site.absentForScripts(t)
	} else {
		absent = site.missing
	}
	form := url.Values{"phone": {"+12025550142"}, "name": {"Kitchen"}, "role": {"auditor"}, "reason": {"A complaint about threats."}, "number": {"SUP-7"}, "sdp": {"v=0"}, "word": {"pause"}}
	return visit(site, s, name, method, path, form), absent
}

// absentForScripts is what a page's script is told of what is absent.
func (s *Site) absentForScripts(t testing.TB) []byte {
	t.Helper()
	w := httptest.NewRecorder()
	s.refuseScript(w, httptest.NewRequest("GET", "/", nil), yesline.NotFound)
	if w.Code != http.StatusNotFound {
		t.Fatalf("a script is told %d of what is absent", w.Code)
	}
	return w.Body.Bytes()
}

// samples are bodies that the doors for programs take.
func (s *Site) samples(t testing.TB) map[string]string {
	t.Helper()
	all, desk := map[string]string{}, s.newDesk()
	for _, o := range desk.operations {
		fields := o.sample
		if slices.Contains(o.accepts, "words_sha256") {
			ev, _, err := desk.wordsFor(consent.Purpose(o.name))
			if err != nil {
				t.Fatal(err)
			}
			fields = map[string]string{"words_sha256": ev.PromptSHA256}
		}
		if fields == nil {
			continue // the door takes no body
		}
		body, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		all[o.pattern] = string(body)
	}
	return all
}

// keyOf makes a key that covers all that a key can.
func (s *sample) keyOf(t testing.TB, name string) (bearer string, as session.Principal) {
	t.Helper()
	_, secret, err := s.sessions.MakeKey(t.Context(), s.as(t, name), "for a test", allScopes, time.Hour)
	if err != nil {
		t.Fatalf("making a key of %s: %v", name, err)
	}
	if as, err = s.sessions.WhoKey(t.Context(), string(secret.Bytes())); err != nil {
		t.Fatalf("looking the key of %s up: %v", name, err)
	}
	return string(secret.Bytes()), as
}

// beforeTheGate are the funcs of a house that a door may need to ask the gate:
// who asks, what is asked, and for how much.
var beforeTheGate = []string{"Ask", "AskSet", "Who", "WhoKey", "WhoKeyID", "KeyOf", "Check", "Address", "Shape"}

// watched is a house that notes which of its other funcs ran.
func watched(h House) (House, *[]string) {
	var mu sync.Mutex
	ran := &[]string{}
	var watch func(v reflect.Value)
	watch = func(v reflect.Value) {
		for i := range v.NumField() {
			f, name := v.Field(i), v.Type().Field(i).Name
			switch {
			case f.Kind() == reflect.Struct && f.Type().PkgPath() == v.Type().PkgPath():
				watch(f)
			case f.Kind() == reflect.Func && !f.IsNil() && !slices.Contains(beforeTheGate, name):
				inner := reflect.ValueOf(f.Interface())
				f.Set(reflect.MakeFunc(f.Type(), func(in []reflect.Value) []reflect.Value {
					mu.Lock()
					*ran = append(*ran, name)
					mu.Unlock()
					return inner.Call(in)
				}))
			}
		}
	}
	watch(reflect.ValueOf(&h).Elem())
	return h, ran
}

func sendTo(to http.Handler, method, path, body string, header http.Header) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for name, values := range header {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	to.ServeHTTP(w, r)
	return w
}

// A house's books are asked about a key only if it can be one.
func TestOnlyWhatCanBeAKeyIsLookedUp(t *testing.T) {
	t.Parallel()
	h := newKeyHouse(t)
	lookedUp := 0
	h.site.house.API.WhoKey = func(context.Context, string) (session.Principal, error) {
		lookedUp++
		return h.who["ann"], nil
	}
	letters := strings.Repeat("Az09-_", 8)[:43]
	for _, bearer := range []string{"", "yk_", letters, "yk_" + letters[1:], "yk_" + letters + "A", "ym_" + letters, "YK_" + letters,
		"yk_" + letters[:42] + "=", "yk_" + letters[:42] + "+", "yk_ " + letters[1:], "yk_" + letters[:41] + "é", "yk_" + letters[:42] + "/"} {
		h.want(http.StatusUnauthorized, "", "GET", "/api/v1/me", "", "Authorization", "Bearer "+bearer)
		if lookedUp > 0 {
			t.Fatalf("%q was looked up", bearer)
		}
	}
	if h.as("", "GET", "/api/v1/calls/"+string(h.call), "", "Authorization", "Bearer yk_"+letters); lookedUp != 1 {
		t.Errorf("what can be a key was looked up %d times", lookedUp)
	}
}

// What the library hangs behind our doors answers to nobody who did not come
// through one.
func TestNoDoorForProgramsOpensByTheLibrary(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	there := s.there(t)
	h, ran := watched(s.House)
	site, err := New(h)
	if err != nil {
		t.Fatal(err)
	}
	desk, samples := site.newDesk(), site.samples(t)
	for _, o := range desk.operations {
		if o.handle == nil {
			continue // sound has no part of the library in it
		}
		path := o.path()
		for param, id := range there {
			path = strings.ReplaceAll(path, "{"+param+"}", id)
		}
		mux := http.NewServeMux()
		mux.Handle(o.pattern, o.handle)
		got := sendTo(mux, o.method(), path, samples[o.pattern], http.Header{"Content-Type": {"application/json"}})
		if got.Code != http.StatusNotFound || len(*ran) > 0 {
			t.Errorf("%s: got %d, and %v ran", o.pattern, got.Code, *ran)
		}
	}
}

// Staff have no calls, no phones and no terms: the gate is not troubled with a
// person that is none, and nothing is made for one.
func TestStaffAreNoPeople(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	h, ran := watched(s.House)
	site, err := New(h)
	if err != nil {
		t.Fatal(err)
	}
	terms, err := h.Cards()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ door, must string }{
		{"GET /calls", "Calls"}, {"GET /me", "About"}, {"POST /me/number", "Reveal"},
		{"POST /me/phones", "AddPhone"}, {"GET /me/terms", "Choices"}, {"POST /me/terms", "Agree"},
	} {
		s.asked, *ran = nil, nil
		method, path, _ := strings.Cut(c.door, " ")
		got := visit(site, s, "op", method, path, url.Values{"terms": {terms.SHA256}, "record": {"yes"}})
		if got.Code != http.StatusNotFound || slices.Contains(*ran, c.must) {
			t.Errorf("%s as an operator: got %d, and %v ran", c.door, got.Code, *ran)
		}
		for _, q := range s.questions() {
			if q.object.ID == "" {
				t.Errorf("%s as an operator: the gate was asked about nobody", c.door)
			}
		}
	}
}

// While the books of claims are out of reach, nobody gets a step on.
func TestNoStepWithoutTheBooksOfClaims(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	s.claim(t, 1)
	h, ran := watched(s.House)
	site, err := New(h)
	if err != nil {
		t.Fatal(err)
	}
	site.house.ClaimOf = func(context.Context, string) (session.Claim, error) { return session.Claim{}, errBroken }
	for _, door := range []string{"GET /join/code", "POST /join/code", "GET /join/terms", "POST /join/terms", "GET /join/passkey", "POST /join/passkey"} {
		method, path, _ := strings.Cut(door, " ")
		got := visit(site, s, "", method, path, url.Values{"code": {rightCode}})
		if got.Code != http.StatusInternalServerError || strings.Contains(got.Body.String(), "0142") {
			t.Errorf("%s: got %d", door, got.Code)
		}
	}
	if len(*ran) > 0 {
		t.Errorf("%v ran", *ran)
	}
}

// The socket invites nobody by a form that it does not know.
func TestTheSocketReadsWholeForms(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	h, ran := watched(s.House)
	site, err := New(h)
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]int{
		`{"number":"+12025550142"}`:                   http.StatusOK,
		`{"number":"+12025550142","role":"operator"}`: http.StatusBadRequest,
		`{"number":"+12025550142"`:                    http.StatusBadRequest,
		`[]`:                                          http.StatusBadRequest,
	} {
		*ran = nil
		r := httptest.NewRequest("POST", "/local/programs/"+string(program)+"/people", strings.NewReader(body))
		w := httptest.NewRecorder()
		site.Local().ServeHTTP(w, r.WithContext(WithPeer(r.Context(), session.Local(1000))))
		if w.Code != want || slices.Contains(*ran, "Invite") != (want == http.StatusOK) {
			t.Errorf("%s: got %d, and %v ran", body, w.Code, *ran)
		}
	}
}

// A case that went while somebody asked for it is absent.
func TestACaseThatIsGoneIsAbsent(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	made := s.breakGlass(t, callID("both"), false)
	s.House.CasesByID = func(context.Context, []yesline.CaseID) (map[yesline.CaseID]access.Case, error) { return nil, nil }
	site := newSite(t, s)
	got := visit(site, s, "officer", "GET", "/cases/"+string(made.ID), nil)
	if got.Code != http.StatusNotFound || !bytes.Equal(got.Body.Bytes(), site.missing) {
		t.Errorf("got %d", got.Code)
	}
}

// Who takes their voice back waits a few seconds for the receipt, and then is
// told that it is coming.
func TestNobodyWaitsLongForAReceipt(t *testing.T) {
	t.Parallel()
	site := newSite(t, newSample(t))
	site.house.Withdraw = func(context.Context, access.Permit, yesline.CallID, consent.Purpose, consent.Evidence) error {
		return nil
	}
	for name, receipts := range map[string][]yesline.ReceiptID{"never": nil, "at once": {receipt}} {
		synctest.Test(t, func(t *testing.T) {
			site.house.Receipts = func(context.Context, yesline.CallID, yesline.PersonID) ([]yesline.ReceiptID, error) {
				return receipts, nil
			}
			r := httptest.NewRequest("POST", "/", nil)
			r.SetPathValue("call", string(callID("both")))
			began := time.Now()
			got, err := site.withdraw(t.Context(), asked{Request: r})
			want := "/calls/" + string(callID("both")) + "?done=withdrawn"
			if receipts != nil {
				want = "/receipts/" + string(receipt)
			}
			if took := time.Since(began); err != nil || got.to != want || took > 5*time.Second || receipts != nil && took > 0 {
				t.Errorf("a receipt that comes %s: got %q after %v, %v", name, got.to, took, err)
			}
		})
	}
}

// Who did something to a voice is told by what they are to its owner, and never
// by an id: not even that of somebody whom the house did not expect there.
func TestALogNamesNobody(t *testing.T) {
	t.Parallel()
	actors := map[string]string{"svc:finish": "house", "os:1000": "operator", string(yesline.NewStaffID()): "staff",
		string(yesline.NewPersonID()): "somebody", string(yesline.NewKeyID()): "somebody", "": "somebody"}
	h := newKeyHouse(t, func(h *keyHouse) {
		actors[string(h.person["ann"])], actors[string(h.person["bob"])], actors[string(h.person["eve"])] = "you", "other", "somebody"
		h.About = func(context.Context, yesline.PersonID, []string, int64, int) ([]audit.Line, error) {
			var lines []audit.Line
			for _, name := range slices.Sorted(maps.Keys(actors)) {
				lines = append(lines, audit.Line{Entry: audit.Entry{Actor: name, Verb: "view", Object: string(h.call), Result: "allowed", AtMillis: 5}})
			}
			return lines, nil
		}
	})
	var log struct{ Items []logItem }
	h.decode(h.want(http.StatusOK, "ann", "GET", "/api/v1/calls/"+string(h.call)+"/log", ""), &log)
	var got, want []string
	for _, item := range log.Items {
		got = append(got, item.Who)
	}
	for _, name := range slices.Sorted(maps.Keys(actors)) {
		want = append(want, actors[name])
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
