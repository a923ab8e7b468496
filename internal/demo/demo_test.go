package demo

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"yesline/internal/audit"
	"yesline/internal/web/webtest"
)

// house opens a demo house for a test.
func house(t *testing.T) *Demo {
	t.Helper()
	d, err := open(t.Context(), Options{Out: io.Discard, HTTP: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// called runs the story in which both agree, and fails on a claim that does
// not hold.
func called(t *testing.T, d *Demo, run func(context.Context, *result) error) *result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var r result
	if err := run(ctx, &r); err != nil {
		t.Fatal(err)
	}
	for _, c := range r.claims {
		if c.wrong != "" {
			t.Errorf("%s: %s", c.says, c.wrong)
		}
	}
	return &r
}

func link1(t *testing.T, d *Demo, who *somebody) string {
	t.Helper()
	token, err := d.Sessions.LinkFor(t.Context(), who.program, who.id)
	if err != nil {
		t.Fatal(err)
	}
	return d.Config.URL + "/in/" + token
}

func check(t *testing.T, d *Demo) {
	t.Helper()
	problems, err := d.App.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Error(p)
	}
}

// Ann signs in by her link, listens in a real browser, sees that it was
// logged, takes her voice back without JavaScript, and holds a receipt that
// verifies offline.
func TestAnnListensAndWithdrawsInABrowser(t *testing.T) {
	t.Parallel()
	webtest.Whole(t)
	b := webtest.Open(t)
	d := house(t)
	called(t, d, d.bothAgree)
	ann, call := d.agreed.caller, "/calls/"+string(d.agreed.id)
	said := b.Console()
	look := func(name string) {
		t.Helper()
		for _, f := range b.Axe() {
			t.Errorf("%s: %v", name, f)
		}
		if folder := os.Getenv("YESLINE_STORY"); folder != "" {
			b.Shot(filepath.Join(folder, "demo-"+name+".png"))
		}
	}

	b.As(webtest.Look{})
	b.Go(link1(t, d, ann))
	b.Click("main button")
	b.Wait(`location.pathname === "/me/security"`) // she came by a link that does not work twice, and has no passkey
	b.Go(d.Config.URL + "/calls")
	look("calls")
	b.Go(d.Config.URL + call)
	b.Wait(`document.querySelector(".transport:not([hidden])")`)
	time.Sleep(500 * time.Millisecond) // the waveform is drawn
	look("call")
	b.Click(".transport .play")
	b.Wait(`document.querySelector("audio")?.currentTime > 0.5`)
	look("playing")
	b.Go(d.Config.URL + call + "/log")
	b.WaitText("main", "You")
	look("log")

	b.As(webtest.Look{NoScript: true, Width: 360, Height: 740, Dark: true})
	b.Go(d.Config.URL + call + "/withdraw")
	b.Click("main form button")
	b.WaitText("main h1", "eceipt")
	receipt := b.Place()
	b.As(webtest.Look{Width: 360, Height: 740, Dark: true}) // axe-core needs scripts
	b.Go(d.Config.URL + receipt)
	look("receipt")
	b.Go(d.Config.URL + call)
	b.WaitText("main", "destroyed")
	look("withdrawn")

	browser, err := d.browser(t.Context(), ann)
	if err != nil {
		t.Fatal(err)
	}
	code, _, data, err := browser.do(t.Context(), "GET", receipt+"/json", "")
	if err != nil || code != http.StatusOK {
		t.Fatalf("the receipt answers %d %v", code, err)
	}
	if e, err := audit.VerifyReceipt(data, d.Log.VerifierKey()); err != nil || e.Verb != "track.destroyed" {
		t.Errorf("the receipt: %v %v", e, err)
	}
	if n := d.Site.Counts().Reports; n != 0 {
		t.Errorf("the browser sent %d reports of blocked content", n)
	}
	for _, s := range said() {
		if strings.Contains(s, "Content Security Policy") || strings.Contains(s, "TrustedType") {
			t.Error(s)
		}
	}
	check(t, d)
}

// What `yesline demo --check` does, whole: every story, every claim.
func TestEveryClaimHolds(t *testing.T) {
	t.Parallel()
	webtest.Whole(t)
	var table strings.Builder
	if err := Run(t.Context(), Options{Out: &table, Check: true, HTTP: "127.0.0.1:0"}); err != nil {
		t.Errorf("%v\n%s", err, &table)
	}
}

// Without Check the demo stays up and offers a link for each role, until it is
// told to end; then nothing of it is left.
func TestTheDemoStaysUpForTheNewcomer(t *testing.T) {
	t.Parallel()
	webtest.Whole(t)
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	out := &printed{offered: make(chan string, 1)}
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, Options{Out: out, HTTP: "127.0.0.1:0"}) }()
	var text string
	select {
	case text = <-out.offered:
	case err := <-ended:
		t.Fatalf("it ended: %v", err)
	}
	links := regexp.MustCompile(`http://localhost:\d+/in/\S+`).FindAllString(text, -1)
	if len(links) != 5 {
		t.Errorf("%d links:\n%s", len(links), text)
	}
	for _, l := range links {
		client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		for n, status := range []int{http.StatusSeeOther, http.StatusNotFound} {
			answer, err := client.Post(l, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if answer.StatusCode != status {
				t.Errorf("a link answers %d at try %d", answer.StatusCode, n+1)
			}
		}
	}
	folder := regexp.MustCompile(`/\S*yesline-demo-\d+`).FindString(text)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(folder); folder == "" || !os.IsNotExist(err) {
		t.Errorf("the folder %q is left: %v", folder, err)
	}
}

// printed gathers what the demo prints and hands it on when the links are out.
type printed struct {
	mu      sync.Mutex
	text    strings.Builder
	offered chan string
}

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text.Write(b)
	if strings.Contains(string(b), "check every claim") {
		p.offered <- p.text.String()
	}
	return len(b), nil
}
