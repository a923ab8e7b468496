package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audit"
	"yesline/internal/session"
)

var theCall = "/calls/" + string(callID("both"))

// told reads what a script was answered.
func toldBy[T any](t testing.TB, got *httptest.ResponseRecorder, status int) (v T) {
	t.Helper()
	if kind := got.Header().Get("Content-Type"); got.Code != status || kind != "application/json" {
		t.Fatalf("got %d %q: %s, want %d in JSON", got.Code, kind, got.Body, status)
	}
	if err := json.Unmarshal(got.Body.Bytes(), &v); err != nil {
		t.Fatalf("reading an answer: %v", err)
	}
	return v
}

// A number is looked up, called, answered, steered and followed, and what the
// page sends arrives as it was sent.
func TestACallByScript(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	x := s.exchange
	site := newSite(t, s)
	look := toldBy[Look](t, visit(site, s, "ann", "POST", "/call/look", url.Values{"number": {"202 555 0123"}}), 200)
	if look.Place == "" || look.Rule == "" || look.Refused != "" {
		t.Errorf("looking a number up: got %+v", look)
	}
	if got := visit(site, s, "ann", "GET", "/call/servers", nil); got.Body.String() != "{\"iceServers\":[],\"relayOnly\":false}\n" {
		t.Errorf("without servers: got %s", got.Body)
	}
	call := toldBy[begun](t, visit(site, s, "ann", "POST", "/call", url.Values{"to": {"+1 202 555 0123"}, "sdp": {"v=0 offer"}}), 200)
	if call.Call != callID("both") || call.SDP != "v=0\r\n" || !slices.Equal(x.placed, []string{"+1 202 555 0123"}) || !slices.Equal(x.offers, []string{"v=0 offer"}) {
		t.Errorf("calling: got %+v, placed %v with %v", call, x.placed, x.offers)
	}
	phone := toldBy[begun](t, visit(site, s, "ann", "POST", "/call/phone", url.Values{"to": {"+1 202 555 0199"}}), 200)
	if phone.Call == "" || phone.SDP != "" || x.placed[1] != "+1 202 555 0199" {
		t.Errorf("ring me: got %+v", phone)
	}
	words := append(slices.Clone(callWords), "key=5", "key=*", "key=#")
	for _, word := range words {
		if got := visit(site, s, "ann", "POST", theCall+"/say", url.Values{"word": {word}}); got.Code != 200 || got.Body.String() != "{}\n" {
			t.Errorf("saying %s: got %d %s", word, got.Code, got.Body)
		}
	}
	if !slices.Equal(x.words(), words) {
		t.Errorf("the call was told %v, want %v", x.words(), words)
	}
	for _, door := range []string{"/answer", "/reconnect"} {
		got := toldBy[answered](t, visit(site, s, "ann", "POST", theCall+door, url.Values{"sdp": {"v=0 " + door}}), 200)
		if got.SDP != "v=0\r\n" || !slices.Contains(x.offers, "v=0 "+door) {
			t.Errorf("%s: got %+v", door, got)
		}
	}
	if c := toldBy[CallState](t, visit(site, s, "ann", "GET", theCall+"/state", nil), 200); c.State != "bridged" || c.Version != 1 {
		t.Errorf("the state: got %+v", c)
	}
	s.House.Dialer = x.demo()
	if got := visit(newSite(t, s), s, "", "GET", "/call/voice", nil); got.Code != 200 || got.Header().Get("Content-Type") != "audio/wav" {
		t.Errorf("the sample voice: got %d", got.Code)
	}
}

// What is no number, offer, word or version reaches nothing behind the doors,
// and the answer repeats none of it.
func TestScriptsSendWhatIsMeant(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	h, ran := watched(s.House)
	site, err := New(h)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("4711", offerBytes/4+1)
	for _, c := range []struct {
		method, path string
		form         url.Values
	}{
		{"POST", "/call/look", nil}, {"POST", "/call/look", url.Values{"number": {long[:writtenBytes+1]}}},
		{"POST", "/call", url.Values{"to": {"+4711"}}}, {"POST", "/call", url.Values{"sdp": {"v=0"}}},
		{"POST", "/call", url.Values{"to": {"+4711"}, "sdp": {long}}}, {"POST", "/call", url.Values{"to": {long[:65]}, "sdp": {"v=0"}}},
		{"POST", "/call?to=%2B4711&sdp=v", url.Values{"x": {"y"}}}, // an address is written down by proxies: nothing is read of it
		{"POST", "/call/phone", nil}, {"POST", "/call/phone", url.Values{"to": {long[:65]}}},
		{"GET", "/call/incoming?after=-4711", nil}, {"GET", "/call/incoming?after=4711x", nil},
		{"POST", theCall + "/answer", nil}, {"POST", theCall + "/reconnect", url.Values{"sdp": {long}}},
		{"POST", theCall + "/say", nil}, {"POST", theCall + "/say", url.Values{"word": {"key="}}}, {"POST", theCall + "/say", url.Values{"word": {"key=A"}}},
		{"POST", theCall + "/say", url.Values{"word": {"key=4711"}}}, {"POST", theCall + "/say", url.Values{"word": {"sing"}}}, {"POST", theCall + "/say", url.Values{"word": {"5"}}},
		{"GET", theCall + "/state?after=", nil}, {"GET", theCall + "/state?after=-1", nil},
	} {
		if c.path == theCall+"/state?after=" {
			continue // as good as none
		}
		*ran = nil
		got := visit(site, s, "ann", c.method, c.path, c.form)
		if no := toldBy[no](t, got, http.StatusBadRequest); no.Error == "" || strings.Contains(got.Body.String(), "4711") || len(*ran) > 0 {
			t.Errorf("%s %s: got %s, and %v ran", c.method, c.path, got.Body, *ran)
		}
	}
	got := visit(site, s, "ann", "POST", "/call", url.Values{"to": {"+1"}, "sdp": {strings.Repeat(long, 3)}})
	toldBy[no](t, got, http.StatusRequestEntityTooLarge)
}

// A no is told by its kind, and in the words of who refused where there are
// some; nothing else of an error leaves.
func TestScriptsAreRefusedInWords(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	for _, c := range []struct {
		err    error
		status int
		words  string
	}{
		{&Refusal{"Yesline does not call numbers that cost extra.", yesline.Denied}, 403, "cost extra"},
		{fmt.Errorf("+12025550123: %w", yesline.Denied), 404, "There is nothing here"},
		{fmt.Errorf("placing: %w", &Refusal{"Three calls at once are enough.", yesline.TooMany}), 429, "Three calls"},
		{&Refusal{"This number cannot be called.", yesline.Invalid}, 400, "cannot be called"},
		{fmt.Errorf("+12025550123: %w", yesline.Invalid), 400, "cannot be read"},
		{fmt.Errorf("+12025550123: %w", yesline.Conflict), 409, "Look again"},
		{fmt.Errorf("+12025550123: %w", yesline.Unavailable), 503, "does not answer"},
		{fmt.Errorf("+12025550123: %w", yesline.Full), 503, "does not answer"},
		{errors.New("+12025550123"), 500, "broken"},
		{context.DeadlineExceeded, 503, "does not answer"},
	} {
		s.exchange.refuse = c.err
		for path, form := range map[string]url.Values{"/call": {"to": {"+1"}, "sdp": {"v=0"}}, "/call/phone": {"to": {"+1"}}} {
			got := visit(site, s, "ann", "POST", path, form)
			if no := toldBy[no](t, got, c.status); !strings.Contains(no.Error, c.words) || strings.Contains(got.Body.String(), "0123") {
				t.Errorf("%v: got %q, want %q", c.err, no.Error, c.words)
			}
		}
	}
}

// A party of a call that is over hears that it is over; a stranger hears what
// they hear of a call that never was.
func TestACallThatIsOver(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	over := "/calls/" + string(callID("private"))
	if c := toldBy[CallState](t, visit(site, s, "ann", "GET", over+"/state?after=7", nil), 200); c.State != "ended" || c.Version != 8 {
		t.Errorf("the state of a call that is over: got %+v", c)
	}
	for door, form := range map[string]url.Values{"/answer": {"sdp": {"v=0"}}, "/reconnect": {"sdp": {"v=0"}}, "/say": {"word": {"hangup"}}} {
		if no := toldBy[no](t, visit(site, s, "ann", "POST", over+door, form), http.StatusConflict); no.Error != "This call is over." {
			t.Errorf("%s: got %q", door, no.Error)
		}
		never := "/calls/" + id("cal", "never")
		theirs, nowhere := visit(site, s, "eve", "POST", over+door, form), visit(site, s, "eve", "POST", never+door, form)
		if theirs.Code != 404 || theirs.Body.String() != nowhere.Body.String() {
			t.Errorf("%s as a stranger: got %d %s", door, theirs.Code, theirs.Body)
		}
	}
}

// An ask waits for news, and at most 25 seconds; then it tells what is true.
func TestAnAskWaits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		door  string
		after time.Duration // until there is news
		want  time.Duration
	}{
		"news of a call":       {theCall + "/state", 4 * time.Second, 4 * time.Second},
		"no news of a call":    {theCall + "/state", time.Hour, waitTime},
		"somebody calls":       {"/call/incoming", 9 * time.Second, 9 * time.Second},
		"nobody calls":         {"/call/incoming", time.Hour, waitTime},
		"news before the page": {theCall + "/state", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newExchange()
				site := scripted(t, x, nil)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				version := x.state.Version
				if c.after == 0 {
					x.becomes(CallState{State: "ended"})
				} else {
					go func() {
						select {
						case <-time.After(c.after):
							x.becomes(CallState{State: "ended"})
						case <-ctx.Done():
						}
					}()
				}
				began := time.Now()
				got := knockOn(site, "GET", c.door+"?after="+strconv.FormatInt(version, 10))
				if took := time.Since(began); got.Code != 200 || took != c.want {
					t.Errorf("got %d after %v, want %v", got.Code, took, c.want)
				}
			})
		})
	}
}

// Who is signed out while an ask waits is told nothing by it.
func TestAnAskThatWasSignedOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newExchange()
		var out atomic.Bool
		site := scripted(t, x, out.Load)
		go func() {
			time.Sleep(time.Second)
			out.Store(true)
			x.becomes(CallState{State: "ended"})
		}()
		if got := knockOn(site, "GET", theCall+"/state?after=1"); got.Code != 404 || strings.Contains(got.Body.String(), "ended") {
			t.Errorf("got %d %s", got.Code, got.Body)
		}
	})
}

// A page that is closed while it waits is no failure of the house.
func TestAnAskThatIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newExchange()
		site := scripted(t, x, nil)
		site.house.Dialer.Incoming = func(ctx context.Context, _ access.Permit, _ int64) (Incoming, error) {
			<-ctx.Done()
			return Incoming{}, context.Cause(ctx)
		}
		ctx, leave := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, leave)
		r := httptest.NewRequest("GET", "/call/incoming", nil).WithContext(ctx)
		r.AddCookie(&http.Cookie{Name: "yesline", Value: "ann's"})
		w := httptest.NewRecorder()
		site.ServeHTTP(w, r)
		if n := site.Counts().Failures; n != 0 || w.Body.Len() > 0 {
			t.Errorf("%d failures, and the answer %q", n, w.Body)
		}
	})
}

// A few asks of one account wait at once, and one more does not; when one
// leaves there is room again.
func TestAskersDoNotPileUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newExchange()
		site := scripted(t, x, nil)
		for range waitsAtOnce {
			go knockOn(site, "GET", "/call/incoming?after=9")
		}
		synctest.Wait()
		began := time.Now()
		if got := knockOn(site, "GET", "/call/incoming?after=9"); got.Code != 429 || got.Header().Get("Retry-After") == "" || time.Since(began) > 0 {
			t.Errorf("one too many: got %d after %v", got.Code, time.Since(began))
		}
		time.Sleep(waitTime + time.Second)
		if got := knockOn(site, "GET", "/call/incoming"); got.Code != 200 {
			t.Errorf("when the others left: got %d", got.Code)
		}
		if len(site.waits.now) != 0 {
			t.Errorf("%d accounts are still counted", len(site.waits.now))
		}
	})
}

// scripted is a site in which everybody is ann and may everything: for stories
// about time, in which no database can take part.
func scripted(t *testing.T, x *exchange, out func() bool) *Site {
	t.Helper()
	d := x.dialer()
	d.State = func(ctx context.Context, _ access.Permit, _ yesline.CallID, after int64) (CallState, error) {
		x.wait(ctx, func() bool { return x.state.Version > after })
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.state, nil
	}
	s := &Site{house: House{Dialer: d}}
	s.house.Who = func(context.Context, string) (session.Principal, error) {
		if out != nil && out() {
			return session.Principal{}, yesline.NotFound
		}
		return session.Local(1000), nil
	}
	s.house.Ask = func(context.Context, session.Principal, access.Verb, access.Object, map[string]string) (access.Permit, error) {
		return access.Permit{}, nil
	}
	s.table = s.dialRows()
	for i, r := range s.table { // an operator on the socket has no own record
		if r.rule.Param == theAsker {
			s.table[i].rule = house(r.rule.Verb)
		}
	}
	s.handler = s.build()
	return s
}

func knockOn(site *Site, method, path string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	r.AddCookie(&http.Cookie{Name: "yesline", Value: "ann's"})
	w := httptest.NewRecorder()
	site.ServeHTTP(w, r)
	return w
}

// Only the page that telephones may ask for the microphone.
func TestOnlyTheDialerMayListen(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	for path, want := range map[string]string{"/call": "microphone=(self), camera=(), geolocation=(), payment=(), usb=()", "/calls": "microphone=(), camera=(), geolocation=(), payment=(), usb=()"} {
		got := visit(site, s, "ann", "GET", path, nil)
		if p := got.Header().Get("Permissions-Policy"); got.Code != 200 || p != want {
			t.Errorf("%s: got %d and %q", path, got.Code, p)
		}
	}
}

// A house without a dialer has none of its doors and no way to it on its pages.
func TestAHouseWithoutADialer(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	s.House.Dialer = Dialer{}
	site := newSite(t, s)
	for _, door := range []string{"GET /call", "POST /call/look", "GET /manifest.webmanifest", "GET /sw.js", "GET /call/voice", "GET " + theCall + "/state"} {
		method, path, _ := strings.Cut(door, " ")
		if got := visit(site, s, "ann", method, path, nil); got.Code != 404 {
			t.Errorf("%s: got %d", door, got.Code)
		}
	}
	if page := visit(site, s, "ann", "GET", "/calls", nil).Body.String(); strings.Contains(page, `"/call"`) || strings.Contains(page, "manifest") {
		t.Error("a page leads to a dialer that is not there")
	}
	half := newSample(t)
	half.House.Dialer.State = nil
	if _, err := New(half.House); err == nil || !strings.Contains(err.Error(), "no State") {
		t.Errorf("half a dialer: got %v", err)
	}
	quiet := newSample(t)
	site = newSite(t, quiet)
	if got := visit(site, quiet, "ann", "GET", "/call", nil).Body.String(); strings.Contains(got, "sample voice") || strings.Contains(got, "Maya") {
		t.Error("a house that is no demo offers a made-up voice or friend")
	}
	if got := visit(site, quiet, "ann", "GET", "/call/voice", nil); got.Code != 404 {
		t.Errorf("a voice that is not there: got %d", got.Code)
	}
}

// What is installed names the assets of this house, is the same for everybody,
// and is never kept for long.
func TestTheAppIsInstalled(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	var app struct {
		Start string `json:"start_url"`
		Icons []struct{ Src, Type string }
	}
	manifest := visit(site, s, "ann", "GET", "/manifest.webmanifest", nil)
	if err := json.Unmarshal(manifest.Body.Bytes(), &app); err != nil || app.Start != "/call" || len(app.Icons) != 3 {
		t.Fatalf("the manifest: %v, %+v", err, app)
	}
	for _, icon := range app.Icons {
		if got := visit(site, s, "", "GET", icon.Src, nil); got.Code != 200 || got.Header().Get("Content-Type") != icon.Type {
			t.Errorf("the icon %s: got %d %q", icon.Src, got.Code, got.Header().Get("Content-Type"))
		}
	}
	worker := visit(site, s, "", "GET", "/sw.js", nil)
	if !strings.Contains(worker.Body.String(), `"`+site.assets.prefix+`"`) || strings.Contains(worker.Body.String(), "/a/hash/") {
		t.Error("the worker does not know the assets of this house")
	}
	for path, kind := range map[string]string{"/manifest.webmanifest": "application/manifest+json", "/sw.js": "text/javascript; charset=utf-8", "/offline": "text/html; charset=utf-8"} {
		anns, nobodys := visit(site, s, "ann", "GET", path, nil), visit(site, s, "", "GET", path, nil)
		if anns.Body.String() != nobodys.Body.String() || nobodys.Header().Get("Content-Type") != kind || nobodys.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: got %v", path, nobodys.Header())
		}
	}
}

// Pages that wait ask the gate over and over. It stands in the log, and hides
// nothing of what was done before.
func TestWaitingDoesNotFloodTheLog(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	at := day.Add(24 * time.Hour)
	var lines []audit.Line
	add := func(verb, object string, detail map[string]string) {
		at = at.Add(-time.Second)
		lines = append(lines, audit.Line{Entry: audit.Entry{Actor: string(ann), Verb: verb, Object: object, Result: "allowed", Detail: detail, AtMillis: at.UnixMilli()}})
	}
	for range 450 {
		add("dial", string(ann), map[string]string{"part": "wait"})
		add("talk", string(callID("both")), map[string]string{"part": "wait"})
	}
	add("dial", string(ann), nil)
	add("talk", string(callID("both")), nil)
	add("reveal", string(ann), nil)
	add("withdraw", string(callID("both")), nil)
	s.House.About = func(_ context.Context, _ yesline.PersonID, objects []string, before int64, limit int) ([]audit.Line, error) {
		found := slices.DeleteFunc(slices.Clone(lines), func(l audit.Line) bool {
			return before != 0 && l.Entry.AtMillis >= before || objects[0] != "" && !slices.Contains(objects, l.Entry.Object)
		})
		return found[:min(len(found), limit)], nil
	}
	site := newSite(t, s)
	me := visit(site, s, "ann", "GET", "/me", nil).Body.String()
	if !strings.Contains(me, "had your number shown") || strings.Count(me, "opened the dialer") != 1 {
		t.Errorf("one's page hides what was done, or tells of waiting")
	}
	log := visit(site, s, "ann", "GET", theCall+"/log", nil).Body.String()
	if !strings.Contains(log, "take something back") || strings.Count(log, "pressed a button, in this call") != 1 {
		t.Errorf("the access list hides what was done, or tells of waiting")
	}
	for _, door := range []string{"GET /call/servers", "GET /call/incoming", "POST /call/look", "GET " + theCall + "/state"} {
		s.asked = nil
		method, path, _ := strings.Cut(door, " ")
		visit(site, s, "ann", method, path, url.Values{"number": {"1"}})
		if q := s.questions(); len(q) != 1 || q[0].detail["part"] != "wait" {
			t.Errorf("%s: the gate was asked %v", door, q)
		}
	}
}

// The access list tells where to go on when there are more deeds than it read.
func TestDeedsGoOn(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	site := newSite(t, s)
	for name, c := range map[string]struct{ waits, deeds, lines, more int }{
		"few":             {0, 7, 7, 0},
		"a full page":     {0, 100, 100, 0},
		"more than fit":   {0, 130, 100, 100},
		"behind waits":    {550, 130, 100, 650},
		"too many waits":  {5000, 10, 0, 1000},
		"only some waits": {1000, 0, 0, 1000},
	} {
		site.house.About = func(_ context.Context, _ yesline.PersonID, _ []string, before int64, limit int) (lines []audit.Line, _ error) {
			first := 0
			if before != 0 {
				first = int(10_000 - before + 1)
			}
			for i := first; i < c.waits+c.deeds && len(lines) < limit; i++ {
				e := audit.Entry{Verb: "talk", Detail: map[string]string{"part": "wait"}, AtMillis: int64(10_000 - i)}
				if i >= c.waits {
					e.Detail = nil
				}
				lines = append(lines, audit.Line{Entry: e})
			}
			return lines, nil
		}
		lines, more, err := site.deeds(t.Context(), ann, []string{""}, 0, linesOnAPage)
		want := int64(0)
		if c.more > 0 {
			want = int64(10_000 - c.more + 1)
		}
		if err != nil || len(lines) != c.lines || more != want {
			t.Errorf("%s: got %d lines and more from %d, %v; want %d and %d", name, len(lines), more, err, c.lines, want)
		}
	}
}
