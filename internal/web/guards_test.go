package web

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"yesline"
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
	zoe := yesline.PersonID(id("per", "zoe"))
	token, err := s.sessions.LinkFor(t.Context(), other, zoe)
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
		absent := httptest.NewRecorder()
		writeProblem(absent, newProblem(http.StatusNotFound, "absent"))
		samples := site.samples(t)
		for _, r := range site.table {
			if r.sort == "public" || r.rule.Param == theAsker {
				continue // an own door names nobody else's
			}
			method, path, _ := strings.Cut(r.pattern, " ")
			for param, id := range there {
				path = strings.ReplaceAll(path, "{"+param+"}", id)
			}
			s.asked, *ran = nil, nil
			var got *httptest.ResponseRecorder
			want := site.missing
			switch r.sort {
			case "api":
				want = absent.Body.Bytes()
				if strings.HasSuffix(path, "/audio") {
					path += "?ticket=good"
				}
				got = sendTo(site, method, path, samples[r.pattern], http.Header{"Authorization": {"Bearer " + bearer}, "Content-Type": {"application/json"}})
			case "local":
				local := site.Local()
				as := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
					local.ServeHTTP(w, q.WithContext(WithPeer(q.Context(), s.as(t, name))))
				})
				got = sendTo(as, method, path, `{"number":"+12025550142"}`, nil)
				want = sendTo(as, "GET", "/local/nothing", "", nil).Body.Bytes()
			default:
				form := url.Values{"phone": {"+12025550142"}, "name": {"Kitchen"}, "role": {"auditor"}, "reason": {"A complaint about threats."}, "number": {"SUP-7"}}
				got = visit(site, s, name, method, path, form)
			}
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
var beforeTheGate = []string{"Ask", "AskSet", "Who", "WhoKey", "WhoKeyID", "KeyOf", "Check", "Address", "Seconds"}

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
