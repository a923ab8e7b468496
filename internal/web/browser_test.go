package web

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audio"
	"yesline/internal/audit"
	"yesline/internal/consent"
	"yesline/internal/web/webtest"
)

// scenes are every page in every state that a person can meet.
var scenes = []struct {
	name, cookie, path string
	change             func(testing.TB, *sample)
}{
	{"in", "", "/in", nil},
	{"landing", "", "/in/anything", nil},
	{"missing", "", "/nowhere", nil},
	{"calls", "ann", "/calls", nil},
	{"calls-empty", "eve", "/calls", nil},
	{"call-live", "ann", "/calls/" + string(callID("live")), nil},
	{"call-both", "ann", "/calls/" + string(callID("both")), nil},
	{"call-private", "ann", "/calls/" + string(callID("private")), nil},
	{"call-refused", "ann", "/calls/" + string(callID("refused")), nil},
	{"call-onesided", "ann", "/calls/" + string(callID("onesided")), nil},
	{"call-stopped", "ann", "/calls/" + string(callID("stopped")), nil},
	{"call-withdrawn", "ann", "/calls/" + string(callID("withdrawn")) + "?done=withdrawn", nil},
	{"call-silent", "ann", "/calls/" + string(callID("silent")), nil},
	{"log", "ann", "/calls/" + string(callID("both")) + "/log", nil},
	{"withdraw", "ann", "/calls/" + string(callID("both")) + "/withdraw", nil},
	{"withdraw-nothing", "ann", "/calls/" + string(callID("withdrawn")) + "/withdraw", nil},
	{"receipt", "ann", "/receipts/" + string(receipt), nil},
	{"me", "ann", "/me", nil},
	{"me-opened", "ann", "/me", func(t testing.TB, s *sample) { s.breakGlass(t, callID("both"), true) }},
	{"calls-opened", "ann", "/calls", func(t testing.TB, s *sample) { s.breakGlass(t, callID("both"), true) }},
	{"dial", "ann", "/call", nil},
	{"dial-demo", "ann", "/call", func(_ testing.TB, s *sample) { s.House.Dialer = s.exchange.demo() }},
	{"offline", "", "/offline", nil},
	{"join", "", "/join", nil},
	{"join-programs", "", "/join?over", func(_ testing.TB, s *sample) {
		s.Programs = func(context.Context) ([]Program, error) {
			return []Program{{program, "Field recordings"}, {yesline.ProgramID(id("prg", "other")), "Studio voices"}}, nil
		}
	}},
	{"join-code", "", "/join/code", func(t testing.TB, s *sample) { s.claim(t, 1) }},
	{"join-terms", "", "/join/terms", func(t testing.TB, s *sample) { s.claim(t, 2) }},
	{"join-passkey", "", "/join/passkey", func(t testing.TB, s *sample) { s.claim(t, 3) }},
	{"recover", "", "/in/recover", nil},
	{"terms", "ann", "/me/terms?done=saved", func(_ testing.TB, s *sample) { s.chosen[ann] = consent.Choice{Record: true} }},
	{"lasting", "ann", "/me/lasting?done=ended", func(_ testing.TB, s *sample) { s.say() }},
	{"lasting-none", "ann", "/me/lasting", nil},
	{"told-opus", "ann", "/calls/" + string(callID("both")), func(_ testing.TB, s *sample) { s.codec = audio.Opus }},
	{"told-paused", "ann", "/calls/" + string(callID("private")), func(_ testing.TB, s *sample) {
		s.lines = []audit.Line{said(bob, "call.paused", 70*time.Second), said(ann, "call.resumed", 40*time.Second), said(ann, "call.paused", 20*time.Second), said(ann, "lasting.used", 9*time.Second)}
	}},
	{"told-given", "ann", "/calls/" + string(callID("live")), func(_ testing.TB, s *sample) {
		s.lines = []audit.Line{said(ann, "call.paused", 20*time.Second), said(ann, "lasting.given", 9*time.Second)}
	}},
	{"told-unasked", "ann", "/calls/" + string(callID("silent")), func(_ testing.TB, s *sample) {
		for i := range s.calls {
			s.calls[i].Later = true
		}
	}},
	{"house-refused", "op", "/house", func(_ testing.TB, s *sample) { s.refused = refusals }},
	{"security", "ann", "/me/security", func(t testing.TB, s *sample) { s.furnish(t) }},
	{"security-old", "ann old", "/me/security?done=named", func(t testing.TB, s *sample) { s.age(t, s.signIn(t, "ann old", ann)) }},
	{"security-staff", "buyer", "/me/security", nil},
	{"prove", "officer old", "/calls/" + string(callID("both")) + "/break", func(t testing.TB, s *sample) { s.oldOfficer(t) }},
	{"staff", "op", "/house/staff", nil},
	{"staff-program", "second", "/programs/" + string(program) + "/staff", nil},
	{"cases-empty", "second", "/cases", nil},
	{"cases", "officer", "/cases", func(t testing.TB, s *sample) {
		s.breakGlass(t, callID("both"), true)
		s.breakGlass(t, callID("private"), false)
	}},
	{"break", "officer", "/calls/" + string(callID("both")) + "/break", nil},
	{"case-asked", "second", caseScene, func(t testing.TB, s *sample) { s.breakGlass(t, callID("both"), false) }},
	{"case-open", "officer", caseScene, func(t testing.TB, s *sample) { s.breakGlass(t, callID("both"), true) }},
	{"opened", "officer", "/calls/" + string(callID("both")), func(t testing.TB, s *sample) { s.breakGlass(t, callID("both"), true) }},
	{"opened-log", "officer", "/calls/" + string(callID("both")) + "/log", func(t testing.TB, s *sample) { s.breakGlass(t, callID("both"), true) }},
	{"house-officer", "officer", "/house", nil},
	{"outbox", "", "/outbox", func(t testing.TB, s *sample) {
		s.House.Outbox = func() []Message { return []Message{{day, "+1 ••• ••42", "Your Yesline code is 246810."}} }
	}},
	{"outbox-empty", "", "/outbox", func(t testing.TB, s *sample) { s.House.Outbox = func() []Message { return nil } }},
	{"try", "", "/try", inDemo},
	{"tour-dial", "ann", "/call", inDemo},
	{"tour-listen", "ann", "/calls/" + string(callID("private")), inDemo},
	{"tour-gone", "ann", "/calls/" + string(callID("withdrawn")), inDemo},
	{"tour-list", "ann", "/calls/" + string(callID("both")) + "/log", inDemo},
	{"tour-withdraw", "ann", "/calls/" + string(callID("both")) + "/withdraw", inDemo},
	{"tour-receipt", "ann", "/receipts/" + string(receipt), inDemo},
	{"house", "op", "/house", nil},
	{"house-empty", "op", "/house", func(_ testing.TB, s *sample) {
		s.Programs = func(context.Context) ([]Program, error) { return nil, nil }
	}},
}

var looks = map[string]webtest.Look{
	"light-1280": {Width: 1280, Height: 800},
	"dark-1280":  {Width: 1280, Height: 800, Dark: true},
	"light-360":  {Width: 360, Height: 740},
	"dark-360":   {Width: 360, Height: 740, Dark: true},
}

// Every page in every state, wide and narrow, light and dark: nothing that
// axe-core objects to, nothing the policy blocks, nothing to scroll sideways.
// With YESLINE_STORY=folder it looks in both colours at both widths, and leaves
// a picture of each.
func TestStoryOfEveryPage(t *testing.T) {
	webtest.Whole(t)
	b := webtest.Open(t)
	said := b.Console()
	folder := os.Getenv("YESLINE_STORY")
	for _, scene := range scenes {
		house := newSample(t)
		if scene.change != nil {
			scene.change(t, house)
		}
		site := newSite(t, house)
		server := httptest.NewServer(site)
		b.Forget()
		if scene.cookie != "" {
			b.Cookie(server.URL, "yesline", house.cookies[scene.cookie])
		}
		if house.claiming != "" {
			b.Cookie(server.URL, "yesline-join", house.claiming)
		}
		for name, look := range looks {
			if folder == "" && look.Dark != (look.Width == 360) {
				continue
			}
			b.As(look)
			b.Go(server.URL + house.address(scene.path))
			if !b.Fits() {
				t.Errorf("%s at %s has to be scrolled sideways", scene.name, name)
			}
			for _, f := range b.Axe() {
				t.Errorf("%s at %s: axe: %s", scene.name, name, f)
			}
			if folder != "" {
				b.Shot(filepath.Join(folder, scene.name+"-"+name+".png"))
			}
		}
		if n := site.Counts().Reports; n != 0 {
			t.Errorf("%s: the browser reported %d violations of the policy", scene.name, n)
		}
		server.Close()
	}
	for _, line := range said() {
		known := strings.Contains(line, "404") || strings.Contains(line, "403") || // the page of what is not there
			strings.Contains(line, "beforeinstallprompt") || strings.Contains(line, "ERR_CONNECTION_REFUSED") // a dialer that waits while its house goes
		if !known {
			t.Errorf("the console says: %s", line)
		}
	}
}

// A person signs in by link, looks, plays by mouse and by keyboard, and nothing
// is fetched before Play; two voices keep time.
func TestListeningInABrowser(t *testing.T) {
	b := webtest.Open(t)
	s := newSample(t)
	site := newSite(t, s)
	server := httptest.NewServer(site)
	defer server.Close()
	b.As(webtest.Look{})
	b.Go(server.URL + "/in/" + s.token)
	b.Click("main button")
	b.Wait(`location.pathname === "/calls"`)
	b.Click(`a[href="/calls/` + string(callID("both")) + `"]`)
	b.Wait(`document.querySelectorAll("yes-lane [role=slider]").length === 2`)
	time.Sleep(300 * time.Millisecond)
	if n := s.listened("sound"); n != 0 {
		t.Errorf("%d windows of sound were fetched before Play", n)
	}
	if n := s.listened("waveform"); n != 2 {
		t.Errorf("%d waveforms were fetched, want 2", n)
	}
	webtest.Eval[chromedp.Void](b, `document.querySelector("select").value = "2"; document.querySelector("select").dispatchEvent(new Event("change"))`)
	b.Click(".play")
	b.Wait(`document.querySelectorAll("audio")[0].currentTime > 1.5`)
	apart := webtest.Eval[float64](b, `Math.abs(document.querySelectorAll("audio")[0].currentTime - document.querySelectorAll("audio")[1].currentTime)`)
	if apart > 0.3 {
		t.Errorf("the voices are %.2f s apart", apart)
	}
	if r := webtest.Eval[float64](b, `document.querySelector("audio").playbackRate`); r != 2 {
		t.Errorf("the speed is %v, want 2", r)
	}
	b.Click(".play")
	b.Wait(`[...document.querySelectorAll("audio")].every(a => a.paused)`)
	const slider = `document.querySelector("[role=slider]")`
	webtest.Eval[chromedp.Void](b, slider+".focus()")
	b.Press(kb.Home)
	b.Press(kb.ArrowRight)
	b.Press(kb.ArrowRight)
	if now := webtest.Eval[string](b, slider+`.getAttribute("aria-valuetext")`); now != "0:10 of 1:40" {
		t.Errorf("after Home and two arrows the slider says %q", now)
	}
	b.Press(" ")
	b.Wait(`document.querySelector("audio").currentTime > 10.2`)
	b.Press(" ")
	b.Wait(`document.querySelector("audio").paused`)
	b.Press(kb.End)
	if now := webtest.Eval[string](b, slider+`.getAttribute("aria-valuenow")`); now != "100" {
		t.Errorf("after End the slider is at %s", now)
	}
	// The gate closes: the player stops and says so.
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	b.Go(server.URL + "/calls")
	if n := site.Counts().Reports; n != 0 {
		t.Errorf("the browser reported %d violations of the policy", n)
	}
}

// listened counts what the gate was asked to let out.
func (s *sample) listened(part string) (n int) {
	for _, q := range s.questions() {
		if q.verb == access.Listen && q.detail["part"] == part {
			n++
		}
	}
	return n
}

// A refusal in the middle stops the player, and the page says so in words.
func TestARefusalWhilePlaying(t *testing.T) {
	b := webtest.Open(t)
	s := newSample(t)
	server := httptest.NewServer(newSite(t, s))
	defer server.Close()
	b.As(webtest.Look{})
	b.Cookie(server.URL, "yesline", s.cookies["ann"])
	b.Go(server.URL + "/calls/" + string(callID("private")))
	b.Wait(`document.querySelectorAll("yes-lane [role=slider]").length === 1`)
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	b.Click(".play")
	b.Wait(`!document.querySelector(".unheard").hidden`)
	if webtest.Eval[bool](b, `document.querySelector(".play").classList.contains("on")`) {
		t.Error("the button still says that it plays")
	}
}

// Everything that matters works without scripts: listening by the browser's
// own controls, allowing, stopping, withdrawing, the receipt.
func TestWithoutScripts(t *testing.T) {
	b := webtest.Open(t)
	s := newSample(t)
	server := httptest.NewServer(newSite(t, s))
	defer server.Close()
	b.As(webtest.Look{NoScript: true, Width: 360})
	b.Cookie(server.URL, "yesline", s.cookies["ann"])
	call := "/calls/" + string(callID("both"))
	b.Go(server.URL + call)
	if n := webtest.Eval[int](b, `[...document.querySelectorAll("audio")].filter(a => a.controls && a.preload === "none" && a.getBoundingClientRect().height > 20).length`); n != 2 {
		t.Errorf("%d voices can be played without scripts, want 2", n)
	}
	b.Click(`form[action$="/share/stop"] button`)
	b.WaitText(".notice", "can no longer listen")
	b.Click(`form[action$="/license"] button`)
	b.WaitText(".notice", "may be licensed")
	b.Click(`a[href$="/withdraw"]`)
	b.WaitText("h1", "Withdraw your voice")
	b.Click(`form.choice button`)
	b.WaitText("h1", "Receipt")
	if want := []string{"withdraw share", "set license", "withdraw record"}; !slices.Equal(s.set, want) {
		t.Errorf("did %v, want %v", s.set, want)
	}
	if n := s.listened("sound"); n != 0 {
		t.Errorf("%d windows were fetched and nobody pressed play", n)
	}
}

// The harness finds what it is there to find.
func TestTheHarnessSeesFaults(t *testing.T) {
	b := webtest.Open(t)
	site := newSite(t, newSample(t))
	server := httptest.NewServer(site.headers(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/csp" {
			site.report(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, `<!doctype html><html lang="en"><title>x</title><main><h1>x</h1><button></button><input><p style="width:2000px">x</p><script>alert(1)</script></main>`)
	})))
	defer server.Close()
	b.As(webtest.Look{Width: 360})
	b.Go(server.URL)
	rules := map[string]bool{}
	for _, f := range b.Axe() {
		rules[f.Rule] = true
	}
	if !rules["button-name"] || !rules["label"] {
		t.Errorf("axe found %v", rules)
	}
	time.Sleep(200 * time.Millisecond)
	if site.Counts().Reports < 2 {
		t.Errorf("an inline script and style made %d reports", site.Counts().Reports)
	}
}

// Forced colours and reduced motion keep every page usable.
func TestOtherEyes(t *testing.T) {
	b := webtest.Open(t)
	s := newSample(t)
	server := httptest.NewServer(newSite(t, s))
	defer server.Close()
	b.Cookie(server.URL, "yesline", s.cookies["ann"])
	for name, look := range map[string]webtest.Look{"contrast": {Contrast: true, Still: true}, "320": {Width: 320}} {
		b.As(look)
		for _, path := range []string{"/call", "/calls", "/calls/" + string(callID("both")), "/calls/" + string(callID("both")) + "/log"} {
			b.Go(server.URL + path)
			if !b.Fits() {
				t.Errorf("%s at %s has to be scrolled sideways", path, name)
			}
			for _, f := range b.Axe() {
				t.Errorf("%s at %s: axe: %s", path, name, f)
			}
			if folder := os.Getenv("YESLINE_STORY"); folder != "" {
				b.Shot(filepath.Join(folder, name+"-"+filepath.Base(path)+".png"))
			}
		}
	}
}
