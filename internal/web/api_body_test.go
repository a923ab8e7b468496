package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

const canary = "+12025550142"

// bodies that are refused, and with which status, at the door that takes a
// number.
var bodies = []struct {
	name, body string
	status     int
	headers    []string
}{
	{"nothing", "", 400, nil},
	{"not JSON", canary, 400, nil},
	{"cut off", `{"phone":"` + canary, 400, nil},
	{"no quotes", `{phone:"` + canary + `"}`, 400, nil},
	{"a list", `["` + canary + `"]`, 400, nil},
	{"a text", `"` + canary + `"`, 400, nil},
	{"null", `null`, 400, nil},
	{"two", `{"phone":"` + canary + `"}{"phone":"` + canary + `"}`, 400, nil},
	{"something after", `{"phone":"` + canary + `"} x`, 400, nil},
	{"twice", `{"phone":"` + canary + `","phone":"+12025550143"}`, 400, nil},
	{"twice in another case", `{"phone":"` + canary + `","Phone":"+12025550143"}`, 400, nil},
	{"twice by an escape", `{"phone":"` + canary + `","ph\u006fne":"+12025550143"}`, 400, nil},
	{"in another case", `{"Phone":"` + canary + `"}`, 400, nil},
	{"by a letter that folds", `{"phone":"` + canary + "\",\"\u212aey\":1}", 400, nil},
	{"an unknown field", `{"phone":"` + canary + `","role":"operator"}`, 400, nil},
	{"a field that is a number", `{"phone":"` + canary + `","` + canary + `":1}`, 400, nil},
	{"deep", `{"phone":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, 400, nil},
	{"very deep", `{"phone":` + strings.Repeat("[", 4000), 400, nil},
	{"long", `{"phone":[` + strings.Repeat("1,", 1000) + `1]}`, 400, nil},
	{"large", `{"phone":"` + strings.Repeat(canary, 1000) + `"}`, 413, nil},
	{"very large", `{"phone":"` + strings.Repeat(canary, 100_000) + `"}`, 413, nil},
	{"not UTF-8", "{\"phone\":\"" + canary + "\xff\"}", 415, nil},
	{"a number", `{"phone":12025550142}`, 422, nil},
	{"an object", `{"phone":{"number":"` + canary + `"}}`, 422, nil},
	{"nothing in it", `{}`, 422, nil},
	{"null in it", `{"phone":null}`, 422, nil},
	{"too long", `{"phone":"` + strings.Repeat(canary, 10) + `"}`, 422, nil},
	{"no number", `{"phone":"` + canary + `555555555555"}`, 422, nil},
	{"a form", `phone=` + canary, 415, []string{"Content-Type", "", "Content-Type", "application/x-www-form-urlencoded"}},
	{"no type", `{"phone":"` + canary + `"}`, 415, []string{"Content-Type", ""}},
	{"a text type", `{"phone":"` + canary + `"}`, 415, []string{"Content-Type", "", "Content-Type", "text/plain"}},
	{"a type with a number", `{"phone":"` + canary + `"}`, 415, []string{"Content-Type", "", "Content-Type", "application/json; x=" + canary}},
	{"another parameter", `{"phone":"` + canary + `"}`, 415, []string{"Content-Type", "", "Content-Type", "application/json; boundary=utf-8"}},
	{"almost", `{"phone":"` + canary + `"}`, 415, []string{"Content-Type", "", "Content-Type", "application/problem+json"}},
	{"two types", `{"phone":"` + canary + `"}`, 415, []string{"Content-Type", "text/plain"}},
	{"Latin 1", `{"phone":"` + canary + `"}`, 415, []string{"Content-Type", "", "Content-Type", "application/json; charset=latin1"}},
	{"compressed", `{"phone":"` + canary + `"}`, 415, []string{"Content-Encoding", "gzip"}},
	{"a bad key", `{"phone":"` + canary + `"}`, 400, []string{"Idempotency-Key", "a b " + canary}},
	{"two keys", `{"phone":"` + canary + `"}`, 400, []string{"Idempotency-Key", "aaaaaaaa", "Idempotency-Key", "bbbbbbbb"}},
}

// Every bad body is refused as what it is, nothing is done, and nothing of it
// comes back.
func TestBadBodies(t *testing.T) {
	t.Parallel()
	h := newKeyHouse(t)
	door := "/api/v1/programs/" + string(h.program) + "/people"
	for _, b := range bodies {
		w := h.as("pia", "POST", door, b.body, b.headers...)
		if w.Code != b.status || w.Header().Get("Content-Type") != problemType {
			t.Errorf("%s: got %d %s %s, want %d", b.name, w.Code, w.Header().Get("Content-Type"), w.Body, b.status)
		}
		h.echoes(w, b.name)
	}
	if len(h.acts) != 0 {
		t.Errorf("somebody was invited: %v", h.acts)
	}
	for _, kind := range []string{"application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"} {
		h.want(http.StatusCreated, "pia", "POST", door, `{"phone":"`+canary+`"}`, "Content-Type", "", "Content-Type", kind)
	}
	for _, c := range []struct{ method, path string }{
		{"GET", "/api/v1/me"}, {"POST", "/api/v1/calls/" + string(h.call) + "/withdraw"}, {"DELETE", "/api/v1/keys/" + string(h.who["ann"].Key())}, {"POST", "/api/v1/tracks/" + string(h.track) + "/ticket"},
	} {
		h.echoes(h.want(http.StatusBadRequest, "ann", c.method, c.path, `{"phone":"`+canary+`"}`), c.path)
		h.want(http.StatusBadRequest, "ann", c.method, c.path, "{}")
		h.want(http.StatusRequestEntityTooLarge, "ann", c.method, c.path, strings.Repeat(" ", bodyBytes+1))
	}
	if slices.Contains(h.acts, "no to record") {
		t.Error("a withdrawal with a body that it does not take was done")
	}
}

// Deeper in, too, a field is there once, in whatever case.
func TestAFieldIsThereOnceInEachObject(t *testing.T) {
	t.Parallel()
	known := []string{"id"}
	for body, taken := range map[string]bool{
		`{"id":{"a":1,"A":2}}`: false, `{"id":[{"a":1,"a":2}]}`: false, `{"id":[{"a":1},{"a":2}]}`: true, `{"id":{"id":{"id":1}}}`: true,
	} {
		if err := strict([]byte(body), known); (err == nil) != taken {
			t.Errorf("%s: got %v", body, err)
		}
	}
}

// Faults name the place, and only a place that the door knows.
func TestFaultsNamePlaces(t *testing.T) {
	t.Parallel()
	h := newKeyHouse(t)
	for _, c := range []struct {
		method, path, body string
		want               fault
		headers            []string
	}{
		{"POST", "/api/v1/calls/" + string(h.call) + "/share", `{"words_sha256":"` + canary + `"}`, fault{Pointer: "#/words_sha256", Detail: "this does not have the form that it must have"}, nil},
		{"POST", "/api/v1/calls/" + string(h.call) + "/share", `{"words_sha256":1}`, fault{Pointer: "#/words_sha256", Detail: "this is not a text"}, nil},
		{"POST", "/api/v1/calls/" + string(h.call) + "/share", `{}`, fault{Pointer: "#", Detail: "a field is missing"}, nil},
		{"POST", "/api/v1/calls/" + string(h.call) + "/share", `{"` + canary + `":1}`, fault{Pointer: "#", Detail: "there is a field here that this door does not know"}, nil},
		{"GET", "/api/v1/calls?limit=" + canary, "", fault{Parameter: "limit", Detail: "this is not a whole number"}, nil},
		{"GET", "/api/v1/calls?limit=1000", "", fault{Parameter: "limit", Detail: "this is not a number of that size"}, nil},
		{"GET", "/api/v1/calls?%2B12025550142=1", "", fault{Detail: "there is a parameter that this door does not know"}, nil},
		{"GET", "/api/v1/calls?cursor=" + canary, "", fault{Parameter: "cursor", Detail: "this is no cursor of this list"}, nil},
		{"POST", "/api/v1/calls/" + string(h.call) + "/withdraw", "", fault{Header: "Idempotency-Key", Detail: "this is not 8 to 64 visible characters"}, []string{"Idempotency-Key", "\"" + canary}},
	} {
		w := h.as("ann", c.method, c.path, c.body, c.headers...)
		var p problem
		h.decode(w, &p)
		if len(p.Errors) != 1 || p.Errors[0] != c.want || p.Status != w.Code || !strings.HasPrefix(p.Type, "urn:yesline:problem:") || p.Title == "" {
			t.Errorf("%s %s %s: got %d %+v, want %+v", c.method, c.path, c.body, w.Code, p, c.want)
		}
		h.echoes(w, c.path)
	}
}

// The library's own findings hold names and values; ours hold neither, even
// where a door before it has let something through.
func TestTheLibrarysFindingsRepeatNothing(t *testing.T) {
	t.Parallel()
	o := &operation{accepts: []string{"phone"}, asks: []string{"limit"}, heads: []string{"If-Match"}}
	for location, want := range map[string]fault{
		"body." + canary: {Pointer: "#"}, "body.phone": {Pointer: "#/phone"}, "body": {Pointer: "#"}, "body.phone[0]": {Pointer: "#"},
		"query." + canary: {}, "query.limit": {Parameter: "limit"}, "header." + canary: {}, "header.If-Match": {Header: "If-Match"}, "path.call": {}, canary: {},
	} {
		want.Detail = "this is not as it should be"
		if got := o.fault(location, "no "+canary); got != want {
			t.Errorf("%s: got %+v, want %+v", location, got, want)
		}
	}
	var many []*huma.ErrorDetail
	for range 100 {
		many = append(many, &huma.ErrorDetail{Message: canary, Location: canary, Value: canary})
	}
	p := o.unhuma(&huma.ErrorModel{Status: 422, Title: canary, Detail: canary, Errors: many})
	if len(p.Errors) != maxFaults || strings.Contains(fmt.Sprintf("%+v", *p), canary) {
		t.Errorf("got %+v", *p)
	}
}

// echoes fails if the answer has something of what was sent in it.
func (h *keyHouse) echoes(w *httptest.ResponseRecorder, name string) {
	h.t.Helper()
	all := w.Body.String()
	for _, vs := range w.Header() {
		all += strings.Join(vs, "\n")
	}
	for _, part := range []string{"2025550", "gzip", "latin1", "operator"} {
		if strings.Contains(all, part) {
			h.t.Errorf("%s: the answer repeats what was sent: %s", name, w.Body)
		}
	}
}

// A body that takes its time is not waited for longer than the server does.
func TestASlowBody(t *testing.T) {
	t.Parallel()
	h := newKeyHouse(t)
	r := httptest.NewRequest("POST", "/api/v1/programs/"+string(h.program)+"/people", slow{})
	r.Header.Set("Authorization", "Bearer "+h.key["pia"])
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.site.ServeHTTP(w, r)
	if w.Code != http.StatusRequestTimeout {
		t.Errorf("got %d", w.Code)
	}
}

type slow struct{}

func (slow) Read([]byte) (int, error) { time.Sleep(time.Millisecond); return 0, timedOut{} }

type timedOut struct{}

func (timedOut) Error() string { return "i/o timeout reading " + canary }
func (timedOut) Timeout() bool { return true }

// Whatever arrives, strict takes only what every reader of JSON understands
// alike: one object, each of its fields once, and only the known ones.
func FuzzBody(f *testing.F) {
	for _, b := range bodies {
		if len(b.body) < 1000 {
			f.Add([]byte(b.body))
		}
	}
	f.Add([]byte(`{"phone":"x","id":[{"a":1}]}`))
	known := []string{"phone", "id"}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := strict(data, known)
		if err != nil {
			if p := problemOf(err); p.Status != 400 && p.Status != 415 {
				t.Errorf("got %d", p.Status)
			}
			return
		}
		var m map[string]json.RawMessage
		if err := json.Unmarshal(data, &m); err != nil || m == nil || !utf8.Valid(data) {
			t.Fatalf("it took what is no object: %v", err)
		}
		for name := range maps.Keys(m) {
			if !slices.Contains(known, name) {
				t.Errorf("it took the field %q", name)
			}
		}
		names := 0
		d := json.NewDecoder(bytes.NewReader(data))
		for depth := 0; ; {
			token, err := d.Token()
			if err != nil {
				break
			}
			switch token {
			case json.Delim('{'), json.Delim('['):
				depth++
			case json.Delim('}'), json.Delim(']'):
				depth--
			}
			if depth > bodyDepth {
				t.Fatal("it took what is too deep")
			}
			if depth == 1 && (token == "phone" || token == "id") {
				names++
			}
		}
		if names < len(m) {
			t.Fatalf("it took %d fields of %d", len(m), names)
		}
	})
}

// Whatever is sent to a door for programs, it answers, it breaks nothing, and
// it repeats nothing.
func FuzzDoor(f *testing.F) {
	h := newKeyHouse(f, func(h *keyHouse) { h.API.PerMinute = 60_000_000 })
	for _, b := range bodies {
		if len(b.body) < 1000 {
			f.Add("POST", "application/json", "limit=1", b.body)
		}
	}
	f.Add("GET", "", "cursor=x&limit=2", "")
	f.Fuzz(func(t *testing.T, method, kind, query, body string) {
		if method != "GET" && method != "POST" && method != "DELETE" {
			return
		}
		for _, path := range []string{"/api/v1/programs/" + string(h.program) + "/people", "/api/v1/programs/" + string(h.program) + "/tickets/revoke", "/api/v1/sessions", "/api/v1/nothing"} {
			r := httptest.NewRequest(method, path, strings.NewReader(body+canary))
			r.URL.RawQuery = query
			r.Header.Set("Content-Type", kind)
			r.Header.Set("Authorization", "Bearer "+h.key["pia"])
			w := httptest.NewRecorder()
			h.site.ServeHTTP(w, r)
			if w.Code >= 500 || w.Code == http.StatusCreated || strings.Contains(w.Body.String(), canary) {
				t.Errorf("%s %s: got %d %s", method, path, w.Code, w.Body)
			}
		}
	})
}
