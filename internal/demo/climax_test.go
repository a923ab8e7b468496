package demo

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"yesline/internal/audio"
	"yesline/internal/audit"
	"yesline/internal/web/webtest"
)

// climax is a visitor in a browser, on the way from the demo's one address to
// the end of the tour.
type climax struct {
	*webtest.Browser
	t     *testing.T
	d     *Demo
	began time.Time
}

var fourLooks = map[string]webtest.Look{
	"light-1280": {Width: 1280, Height: 800},
	"dark-1280":  {Width: 1280, Height: 800, Dark: true},
	"light-360":  {Width: 360, Height: 740},
	"dark-360":   {Width: 360, Height: 740, Dark: true},
}

// look reads the page with axe-core, in both shapes; with YESLINE_STORY=folder
// it leaves pictures of it.
func (c *climax) look(state string) {
	c.t.Helper()
	for name, look := range fourLooks {
		folder := os.Getenv("YESLINE_STORY")
		if folder == "" && look.Dark != (look.Width == 360) {
			continue
		}
		c.As(look)
		time.Sleep(150 * time.Millisecond) // colours fade over
		if !c.Fits() {
			c.t.Errorf("%s at %s has to be scrolled sideways", state, name)
		}
		for _, f := range c.Axe() {
			c.t.Errorf("%s at %s: axe: %s", state, name, f)
		}
		if folder != "" {
			c.Shot(filepath.Join(folder, "climax-"+state+"-"+name+".png"))
		}
	}
	c.As(webtest.Look{})
}

// until waits longer than Wait does: a question takes its time.
func (c *climax) until(expression string) {
	c.t.Helper()
	for deadline := time.Now().Add(45 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if webtest.Eval[bool](c.Browser, "Boolean("+expression+")") {
			return
		}
	}
	c.t.Fatalf("waited in vain for %s; the dialer says %q", expression, webtest.Eval[string](c.Browser, `document.querySelector("main")?.innerText ?? ""`))
}

func (c *climax) looks(look string) {
	c.t.Helper()
	c.until(`document.querySelector("yes-dialer").dataset.look === "` + look + `"`)
}

// fetched is what a path answers in the visitor's own page.
func (c *climax) fetched(path string) (status int, body []byte) {
	c.t.Helper()
	got := webtest.Eval[struct {
		Status int
		Body   string
	}](c.Browser, `fetch("`+path+`").then(async r => ({Status: r.status, Body: btoa(Array.from(new Uint8Array(await r.arrayBuffer()), b => String.fromCharCode(b)).join(""))}))`)
	body, err := base64.StdEncoding.DecodeString(got.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return got.Status, body
}

// visits opens a browser whose microphone hears Bob, before a demo's front page.
func visits(t *testing.T, d *Demo, withMicrophone bool) *climax {
	t.Helper()
	with := []chromedp.ExecAllocatorOption{webtest.Loopback}
	if withMicrophone {
		said, err := d.voice("Bob")
		if err != nil {
			t.Fatal(err)
		}
		samples := audio.PCMU.Decode(nil, said)
		head, err := audio.WAVHeader(int64(len(samples)))
		if err != nil {
			t.Fatal(err)
		}
		wav := filepath.Join(t.TempDir(), "bob.wav")
		if err := os.WriteFile(wav, audio.PCM(head[:], samples), 0o600); err != nil {
			t.Fatal(err)
		}
		with = webtest.Microphone(wav)
	}
	c := &climax{webtest.Open(t, with...), t, d, time.Now()}
	c.As(webtest.Look{})
	c.Go(d.Config.URL)
	c.Wait(`location.pathname === "/try"`)
	return c
}

// enters takes the visitor from the front page to the dialer.
func (c *climax) enters() {
	c.t.Helper()
	c.Click(".try-card button")
	c.Wait(`document.querySelector("yes-dialer")?.ready`)
	c.WaitText(".place", "Washington")
	if to := webtest.Eval[string](c.Browser, `document.querySelector("#to").value`); to != mayaNumber {
		c.t.Errorf("the dialer is filled with %q", to)
	}
}

// agrees hears the question out and says yes, and talks until Maya heard it.
func (c *climax) agrees(seconds int) {
	c.t.Helper()
	c.looks("yours")
	c.look("question")
	c.until(`document.querySelector("[data-do=agree]").getAttribute("aria-disabled") === "false"`)
	c.Press("1")
	c.until(`document.querySelector("yes-dialer").dataset.look !== "yours"`)
	c.look("agreed")
	c.looks("both")
	time.Sleep(time.Duration(seconds) * time.Second)
}

// speaks counts the seconds of sound that are not silence.
func speaks(samples []int16) float64 { return float64(loud(samples)) / audio.Rate }

// The moment that convinces: from the demo's one address to a verified receipt
// in two minutes, in a real browser with real media, without an account.
func TestTheCallThatConvinces(t *testing.T) {
	t.Parallel()
	webtest.Whole(t)
	d := house(t)
	c := visits(t, d, true)
	said := c.Console()
	c.look("front")
	c.enters()
	c.look("dial")
	c.Click(".friend button")
	c.agrees(6)
	c.look("talking")
	c.pictures()
	c.Click(`[data-do="hang"]`)
	c.looks("ended")
	c.WaitText(".detail", "You hung up.")
	c.look("ended")
	if told := c.Text(".detail"); told != "You hung up." {
		t.Errorf("afterwards the end of the call is %q", told)
	}

	maya := d.maya.last()
	if maya == nil {
		t.Fatal("nobody rang at Maya's")
	}
	<-maya.Done()
	if heard := speaks(audio.PCMU.Decode(nil, maya.Heard())); heard < 3 {
		t.Errorf("Maya heard %.1f seconds of sound", heard)
	}

	// Their own lane plays, and is theirs alone.
	c.Click(`[data-part="see"]`)
	c.Wait(`location.pathname.startsWith("/calls/")`)
	call := c.Place()
	for range 20 { // the voice is being closed
		if webtest.Eval[bool](c.Browser, `Boolean(document.querySelector(".transport:not([hidden])"))`) {
			break
		}
		time.Sleep(300 * time.Millisecond)
		c.Go(d.Config.URL + call)
	}
	c.Wait(`document.querySelector(".transport:not([hidden])")`)
	time.Sleep(500 * time.Millisecond) // the waveform is drawn
	c.look("listen")
	c.Click(".transport .play")
	c.Wait(`document.querySelector("audio")?.currentTime > 0.5`)
	tracks := webtest.Eval[[]string](c.Browser, `[...document.querySelectorAll("audio")].map(a => new URL(a.src).pathname)`)
	if len(tracks) != 1 {
		t.Fatalf("the page plays %d voices, want the own one", len(tracks))
	}
	status, wav := c.fetched(tracks[0])
	samples, err := audio.ReadWAV(wav)
	if status/100 != 2 || err != nil {
		t.Fatalf("the own voice answers %d, %v", status, err)
	}
	if got := speaks(samples); got < 2 {
		t.Errorf("the own voice holds %.1f seconds of sound of %.1f", got, float64(len(samples))/audio.Rate)
	}
	if got := fits(samples, maya); got > foreign {
		t.Errorf("the own voice holds Maya's by %.2f", got)
	}

	// It stands on the list; then it is taken back.
	c.Click(`.tour a`)
	c.WaitText("main", "listened to your voice")
	c.look("who-listened")
	c.Click(`.tour a`)
	c.Wait(`location.pathname.endsWith("/withdraw")`)
	c.look("withdraw")
	c.Click("main form button")
	c.WaitText("main h1", "eceipt")
	c.look("receipt")
	receipt := c.Place()
	if status, _ := c.fetched(tracks[0]); status != 404 {
		t.Errorf("after it was taken back the voice answers %d", status)
	}
	status, kept := c.fetched(receipt + "/json")
	entry, err := audit.VerifyReceipt(kept, d.Log.VerifierKey())
	if status != 200 || err != nil || entry.Verb != "track.destroyed" || !strings.Contains(tracks[0], entry.Object) {
		t.Errorf("the receipt answers %d: %v, %v", status, entry.Verb, err)
	}
	c.Click(`.tour a`)
	c.WaitText("main", "Taken back")
	if n := webtest.Eval[int](c.Browser, `document.querySelectorAll("audio").length`); n != 0 {
		t.Errorf("%d voices can still be played", n)
	}
	c.look("gone")
	if took := time.Since(c.began); took > 2*time.Minute && os.Getenv("YESLINE_STORY") == "" {
		t.Errorf("it took %v", took)
	}

	if n := d.Site.Counts().Reports; n != 0 {
		t.Errorf("the browser reported %d violations of the policy", n)
	}
	for _, line := range said() {
		if strings.Contains(line, "Content Security Policy") || strings.Contains(line, "TrustedType") {
			t.Error(line)
		}
	}
	check(t, d)
}

// Who has no microphone borrows a voice of the demo, and Maya hears that.
func TestAVisitorWithoutAMicrophone(t *testing.T) {
	t.Parallel()
	webtest.Whole(t)
	d := house(t)
	c := visits(t, d, false)
	c.enters()
	c.Click(".friend button")
	c.WaitText("[data-part=problem]", "sample voice")
	c.look("no-microphone")
	c.Click("[data-part=sample]")
	c.Click(".friend button")
	c.agrees(5)
	c.WaitText("[data-part=own-word]", "sample voice")
	c.look("sample")
	maya := d.maya.last()
	c.Click(`[data-do="hang"]`)
	c.looks("ended")
	<-maya.Done()
	if heard := speaks(audio.PCMU.Decode(nil, maya.Heard())); heard < 2 {
		t.Errorf("Maya heard %.1f seconds of the sample voice", heard)
	}
	check(t, d)
}

// A demo makes so many visitors and no more, each somebody else.
func TestVisitorsAreCounted(t *testing.T) {
	t.Parallel()
	webtest.Whole(t)
	d := house(t)
	seen := map[string]bool{}
	for range visitorsMost {
		cookie, err := d.visitor(t.Context())
		if err != nil {
			t.Fatalf("visitor %d: %v", len(seen)+1, err)
		}
		who, err := d.Sessions.Who(t.Context(), cookie)
		if err != nil || seen[who.Account()] {
			t.Fatalf("visitor %d is somebody who was there: %v", len(seen)+1, err)
		}
		seen[who.Account()] = true
	}
	if _, err := d.visitor(t.Context()); err == nil {
		t.Errorf("visitor %d came in", visitorsMost+1)
	}
}
