// Package webtest looks at pages as people do: a real Chromium, in light and
// dark, wide and narrow, by keyboard, with axe-core reading along. It is for
// tests only.
package webtest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// Look is how a page is looked at. The zero value is a light desktop.
type Look struct {
	Width, Height int64 // CSS pixels; 0: 1280 by 800
	Dark          bool
	Contrast      bool // forced colours
	Still         bool // prefers reduced motion
	NoScript      bool
}

// Browser is one Chromium. The test ends it.
type Browser struct {
	t   testing.TB
	ctx context.Context
	axe string
}

// Whole marks a test that takes long because it looks at everything or because
// its calls take as long as calls do. make test and make race run it; a plain
// go test of the inner loop skips it.
func Whole(t testing.TB) {
	t.Helper()
	if os.Getenv("YESLINE_WHOLE") == "" {
		missing(t, "it takes long: make test runs it, or set YESLINE_WHOLE=1")
	}
}

// Microphone gives a browser a microphone that hears a WAV over and over, and
// people who let every page of theirs use it. Lines between browser and house
// may run over loopback.
func Microphone(wav string) []chromedp.ExecAllocatorOption {
	return []chromedp.ExecAllocatorOption{chromedp.Flag("use-fake-device-for-media-stream", true), chromedp.Flag("use-fake-ui-for-media-stream", true),
		chromedp.Flag("use-file-for-fake-audio-capture", wav), Loopback}
}

// Loopback lets a browser's lines run over loopback.
var Loopback = chromedp.Flag("allow-loopback-in-peer-connection", true)

// Open starts a browser, or skips the test with a reason. Where CI is true a
// missing part fails the test instead.
func Open(t testing.TB, with ...chromedp.ExecAllocatorOption) *Browser {
	t.Helper()
	binary := findChromium()
	if binary == "" {
		missing(t, "there is no chromium on this machine: apt-get install chromium")
	}
	axe := readAxe(t)
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(binary), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("autoplay-policy", "no-user-gesture-required"), chromedp.Flag("mute-audio", true))
	opts = append(opts, with...)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	ctx, stop := chromedp.NewExecAllocator(ctx, opts...)
	t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(closeTab)
	b := &Browser{t: t, ctx: ctx, axe: axe}
	b.do("starting chromium", chromedp.Do(ctx))
	t.Cleanup(func() { chromedp.Cancel(ctx) })
	return b
}

func findChromium() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// readAxe finds what webtest/fetch-axe fetched.
func readAxe(t testing.TB) string {
	t.Helper()
	path := os.Getenv("YESLINE_AXE")
	if path == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			missing(t, "there is no cache folder for axe-core")
		}
		path = filepath.Join(cache, "yesline", "axe", "axe.min.js")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		missing(t, "there is no axe-core: run internal/web/webtest/fetch-axe")
	}
	return string(data)
}

func missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func (b *Browser) do(what string, err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
}

// As sets how the next pages are looked at.
func (b *Browser) As(l Look) {
	b.t.Helper()
	if l.Width == 0 {
		l.Width, l.Height = 1280, 800
	}
	if l.Height == 0 {
		l.Height = 800
	}
	b.do("setting the size", chromedp.Do(b.ctx, chromedp.EmulateViewport(l.Width, l.Height)))
	pick := func(on bool, yes, no string) string {
		if on {
			return yes
		}
		return no
	}
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: pick(l.Dark, "dark", "light")},
		{Name: "forced-colors", Value: pick(l.Contrast, "active", "none")},
		{Name: "prefers-reduced-motion", Value: pick(l.Still, "reduce", "no-preference")},
	}})
	b.do("setting the colours", err)
	_, err = chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: l.NoScript})
	b.do("switching scripts", err)
}

// Cookie gives the browser a cookie for a site.
func (b *Browser) Cookie(site, name, value string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, network.SetCookie, network.SetCookieParams{Name: name, Value: value, URL: site})
	b.do("setting a cookie", err)
}

// Forget takes all cookies away.
func (b *Browser) Forget() {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, network.ClearBrowserCookies, cdp.Empty{})
	b.do("clearing cookies", err)
}

// Go opens an address and waits until it has loaded and settled.
func (b *Browser) Go(url string) {
	b.t.Helper()
	b.do("opening a page", chromedp.Do(b.ctx, chromedp.Navigate(url), chromedp.Sleep(250*time.Millisecond)))
}

// Click presses what the CSS selector finds.
func (b *Browser) Click(selector string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
	defer cancel()
	b.do("clicking "+selector, chromedp.Do(ctx, chromedp.Click(chromedp.CSS(selector))))
}

// Fill types into what the CSS selector finds, in place of what was there.
func (b *Browser) Fill(selector, text string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
	defer cancel()
	b.do("filling "+selector, chromedp.Do(ctx, chromedp.SetValue(chromedp.CSS(selector), text)))
}

// Press sends keys to what has the focus.
func (b *Browser) Press(keys string) {
	b.t.Helper()
	b.do("pressing keys", chromedp.Do(b.ctx, chromedp.KeyEvent(keys)))
}

// Wait waits until the JavaScript expression is true. A page that is on its
// way to another is waited for too.
func (b *Browser) Wait(expression string) {
	b.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if is, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("Boolean("+expression+")")); err == nil && is {
			return
		}
	}
	b.t.Fatalf("waited in vain for %s", expression)
}

// WaitText waits until what the CSS selector finds contains the words. It works
// without scripts in the page.
func (b *Browser) WaitText(selector, words string) {
	b.t.Helper()
	said := ""
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		said, _ = chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.querySelector("+quote(selector)+")?.innerText ?? \"\""))
		if strings.Contains(said, words) {
			return
		}
	}
	b.t.Fatalf("%s says %q, want %q", selector, said, words)
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// Text is the text of what the CSS selector finds.
func (b *Browser) Text(selector string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS(selector)))
	b.do("reading "+selector, err)
	return text
}

// Eval gives the value of a JavaScript expression. The debugger evaluates it,
// so the page's policy does not stand in its way.
func Eval[T any](b *Browser, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	b.do("evaluating", err)
	return v
}

// Place is the path that the browser is at.
func (b *Browser) Place() string {
	b.t.Helper()
	return Eval[string](b, "location.pathname")
}

// Before runs a script in every page from now on, before those of the page.
func (b *Browser) Before(script string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
	b.do("preparing pages", err)
}

// Console gives what the page says on its console from now on: complaints of
// the policy appear there as errors. Call the func for what was said so far.
func (b *Browser) Console() func() []string {
	said := make(chan string, 256)
	ctx, cancel := context.WithCancel(b.ctx)
	messages := chromedp.Console(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for m, err := range messages {
			if err != nil {
				return
			}
			select {
			case said <- m.String():
			default:
			}
		}
	}()
	b.t.Cleanup(func() { cancel(); <-done })
	return func() []string {
		var all []string
		for {
			select {
			case s := <-said:
				all = append(all, s)
			case <-time.After(100 * time.Millisecond):
				return all
			}
		}
	}
}

// Shot writes the whole page as a PNG.
func (b *Browser) Shot(path string) {
	b.t.Helper()
	size := Eval[[]int64](b, "[document.documentElement.clientWidth, Math.max(document.documentElement.scrollHeight, innerHeight)]")
	res, err := chromedp.Call(b.ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{
		Format: page.CaptureScreenshotFormatPng, CaptureBeyondViewport: new(true),
		Clip: &page.Viewport{Width: float64(size[0]), Height: float64(size[1]), Scale: 1},
	})
	b.do("taking a picture", err)
	b.do("writing a picture", os.WriteFile(path, res.Data, 0o600))
}

// Finding is one rule of axe-core that a page breaks.
type Finding struct {
	Rule, Impact, Help string
	Where              []string
}

func (f Finding) String() string {
	return fmt.Sprintf("%s (%s): %s: %s", f.Rule, f.Impact, f.Help, strings.Join(f.Where, "; "))
}

// Axe reads the page with axe-core: WCAG 2.2 A and AA and its best practices.
func (b *Browser) Axe() []Finding {
	b.t.Helper()
	Eval[chromedp.Void](b, b.axe+";undefined")
	const run = `axe.run(document, {resultTypes: ["violations"]}).then(r => JSON.stringify(r.violations.map(v =>
		({Rule: v.id, Impact: v.impact, Help: v.help, Where: v.nodes.slice(0, 5).map(n => n.target.join(" "))}))))`
	var found []Finding
	if err := json.Unmarshal([]byte(Eval[string](b, run)), &found); err != nil {
		b.t.Fatalf("reading what axe found: %v", err)
	}
	return found
}

// Fits says whether nothing has to be scrolled sideways.
func (b *Browser) Fits() bool {
	b.t.Helper()
	return Eval[bool](b, "document.documentElement.scrollWidth <= document.documentElement.clientWidth")
}
