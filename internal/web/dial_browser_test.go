package web

import (
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
	"yesline/internal/web/webtest"
)

// phoneBooth is a browser of ann's with a microphone, before a demo's dialer.
type phoneBooth struct {
	*webtest.Browser
	t      *testing.T
	x      *exchange
	site   *Site
	server *httptest.Server
	heard  func() int
}

func newBooth(t *testing.T, with ...chromedp.ExecAllocatorOption) *phoneBooth {
	t.Helper()
	if with == nil {
		wav := filepath.Join(t.TempDir(), "voice.wav")
		if err := os.WriteFile(wav, tone(trkAnn, 4, 0, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		with = webtest.Microphone(wav)
	}
	b := webtest.Open(t, with...)
	s := newSample(t)
	s.House.Dialer = s.exchange.demo()
	site := newSite(t, s)
	server := httptest.NewServer(site)
	t.Cleanup(func() { // pages wait for news, and a server for those who wait
		server.CloseClientConnections()
		server.Close()
	})
	b.Cookie(server.URL, "yesline", s.cookies["ann"])
	s.exchange.state = CallState{Version: 1, State: "ringing", Recording: "nobody", Other: "+1 ••• ••23"}
	return &phoneBooth{b, t, s.exchange, site, server, s.exchange.wired(t)}
}

// open looks at the dialer and waits until its script runs.
func (b *phoneBooth) open(look webtest.Look) {
	b.t.Helper()
	b.As(look)
	b.Go(b.server.URL + "/call")
	b.Wait(`document.querySelector("yes-dialer").ready`)
}

// looks waits until the page looks like that.
func (b *phoneBooth) looks(look string) {
	b.t.Helper()
	b.Wait(`document.querySelector("yes-dialer").dataset.look === "` + look + `"`)
}

// calls types a number and calls it.
func (b *phoneBooth) calls() {
	b.t.Helper()
	b.Click("#to")
	b.Press("2025550123")
	b.WaitText(".place", "Washington")
	b.Press(kb.Enter)
	b.looks("ringing")
}

// said waits until the call was told these words, and no others.
func (b *phoneBooth) said(want ...string) {
	b.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if len(b.x.words()) >= len(want) {
			break
		}
	}
	if got := b.x.words(); !slices.Equal(got, want) {
		b.t.Errorf("the call was told %v, want %v", got, want)
	}
}

// shows fails if a button is to be seen that should not, or the other way round.
func (b *phoneBooth) shows(names ...string) {
	b.t.Helper()
	got := webtest.Eval[[]string](b.Browser, `[...document.querySelectorAll(".stage [data-do]")].filter(e => e.checkVisibility()).map(e => e.dataset.do).sort()`)
	slices.Sort(names)
	if !slices.Equal(got, names) {
		b.t.Errorf("as %s the buttons are %v, want %v", b.Text(".word"), got, names)
	}
}

// A call from the first digit to the last word, by mouse and by keyboard, with
// a real line that carries a real voice.
func TestACallInABrowser(t *testing.T) {
	b := newBooth(t)
	b.open(webtest.Look{})
	if label := webtest.Eval[string](b.Browser, `document.querySelector("#to").labels[0].textContent`); label != "Number" {
		t.Errorf("the field is called %q", label)
	}
	b.calls()
	numbers, offers := b.x.came()
	if !slices.Equal(numbers, []string{"2025550123"}) {
		t.Errorf("called %v", numbers)
	}
	if n := strings.Count(offers[0], "m=audio"); n != 2 || !strings.Contains(offers[0], "a=recvonly") || !strings.Contains(offers[0], "a=candidate") {
		t.Errorf("the offer has %d lines for sound:\n%s", n, offers[0])
	}
	if focus := webtest.Eval[string](b.Browser, `document.activeElement.className`); focus != "word" {
		t.Errorf("the focus is on %q, want the word", focus)
	}
	b.shows("hang", "keypad", "mute")
	for deadline := time.Now().Add(10 * time.Second); b.heard() < 25; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the other end heard %d packets", b.heard())
		}
	}
	b.Wait(`Number(document.querySelector(".stage .meter").getAttribute("aria-valuenow")) > 20`)

	// As long as it rings there is nothing to answer; in the notice there is a no.
	b.x.becomes(CallState{State: "ringing", Recording: "nobody", Question: true, Theirs: true, Away: true})
	b.Wait(`document.querySelector("yes-dialer").state.theirs`)
	b.shows("hang", "keypad", "mute")
	b.Press("1")
	b.x.becomes(CallState{State: "notice", Recording: "nobody", Question: true, Theirs: true, Away: true})
	b.looks("notice")
	b.shows("agree", "decline", "hang", "keypad", "mute")
	b.said("key=1") // a key like any other, which is no yes

	// The question: a yes before its last word says nothing, a no always does.
	b.x.becomes(CallState{State: "asking", Recording: "nobody", Question: true})
	b.looks("yours")
	b.shows("agree", "decline", "hang", "keypad", "mute")
	const may = `document.querySelector("[data-do=agree]").getAttribute("aria-disabled") === "false"`
	if webtest.Eval[bool](b.Browser, may) {
		t.Error("Agree looks as if it counted already")
	}
	b.Press("1")
	b.Click(`[data-do="agree"]`)
	b.x.becomes(CallState{State: "asking", Recording: "nobody", Question: true, MayAgree: true, LeftMillis: 8000})
	b.WaitText("[data-part=urgent]", "Press 1 to agree")
	b.Wait(may)
	b.Wait(`parseInt(document.querySelector(".secs").textContent) < 8`)
	if focus := webtest.Eval[string](b.Browser, `document.activeElement.dataset.do ?? "elsewhere"`); focus == "decline" {
		t.Errorf("the focus went to %q by itself", focus)
	}
	b.said("key=1")
	for _, next := range []string{"decline", "mute", "keypad", "hang"} { // Agree was clicked
		b.Press(kb.Tab)
		if got := webtest.Eval[string](b.Browser, `document.activeElement.dataset.do ?? document.activeElement.localName`); got != next {
			t.Errorf("Tab goes to %s, want %s", got, next)
		}
	}
	b.Press("1")
	b.said("key=1", "agree")
	b.x.becomes(CallState{State: "asking", Recording: "nobody", Mine: "yes", Theirs: true, Away: true})
	b.looks("ringing")
	b.WaitText(".detail", "Waiting for them to pick up")
	b.x.becomes(CallState{State: "asking", Recording: "nobody", Mine: "yes", Theirs: true})
	b.looks("theirs")
	b.x.becomes(CallState{State: "asking", Recording: "both", Mine: "yes"})
	b.looks("settled")
	b.x.becomes(CallState{State: "bridged", Recording: "both", Mine: "yes"})
	b.looks("both")
	b.WaitText("[role=status]", "Recording both")
	b.shows("hang", "keypad", "mute", "pause", "stop")
	b.Wait(`document.querySelector(".clock").textContent === "0:01"`)
	b.Click(`[data-do="pause"]`)
	b.said("key=1", "agree", "pause")
	b.x.becomes(CallState{State: "bridged", Recording: "nobody", Mine: "yes", Paused: true, Seconds: 65})
	b.looks("paused")
	b.shows("hang", "keypad", "mute", "resume", "stop")
	b.Wait(`document.querySelector(".clock").textContent.startsWith("1:0")`)
	b.Click(`[data-do="resume"]`)
	b.x.becomes(CallState{State: "bridged", Recording: "both", Mine: "yes"})
	b.looks("both")
	b.Click(`[data-do="stop"]`)
	b.said("key=1", "agree", "pause", "resume", "stop")
	b.x.becomes(CallState{State: "bridged", Recording: "them", Mine: "stopped"})
	b.looks("them")
	b.shows("hang", "keypad", "mute", "pause")

	// The keypad, by mouse and by keyboard; mute, so that nobody hears us.
	b.Click(`[data-do="keypad"]`)
	b.Click(`[data-key="5"]`)
	b.Press("*")
	b.Press("8")
	b.said("key=1", "agree", "pause", "resume", "stop", "key=5", "key=*", "key=8")
	if sent := b.Text(".sent"); sent != "15*8" {
		t.Errorf("the page says that %q was sent", sent)
	}
	b.Click(`[data-do="mute"]`)
	b.Wait(`document.querySelector("[data-do=mute]").getAttribute("aria-pressed") === "true" && !document.querySelector("yes-dialer").line.own.enabled`)
	b.Wait(`document.querySelector(".stage .meter").getAttribute("aria-valuenow") === "0"`)

	// Escape asks; Enter on what it offers first goes on talking.
	b.Press(kb.Escape)
	b.Wait(`document.querySelector("dialog").open`)
	b.Press(kb.Enter)
	b.Wait(`!document.querySelector("dialog").open`)
	b.Press(kb.Escape)
	b.Wait(`document.querySelector("dialog").open`)
	b.Press("2") // is no answer to that
	b.Click(`dialog .end`)
	b.said("key=1", "agree", "pause", "resume", "stop", "key=5", "key=*", "key=8", "hangup")
	b.x.becomes(CallState{State: "ended", Recording: "nobody", Ending: "You hung up."})
	b.looks("ended")
	b.shows("again")
	if to := webtest.Eval[string](b.Browser, `document.querySelector("[data-part=see]").getAttribute("href")`); to != theCall {
		t.Errorf("the end leads to %s", to)
	}
	b.Wait(`!document.querySelector("yes-dialer").line && !document.querySelector("yes-dialer").own`) // the microphone is let go
	b.Press("7")
	b.Click(`[data-do="again"]`)
	b.Wait(`document.activeElement.id === "to"`)
	if n := len(b.x.words()); n != 9 {
		t.Errorf("after its end the call was told %v", b.x.words()[9:])
	}
	if n := b.site.Counts().Reports; n != 0 {
		t.Errorf("the browser reported %d violations of the policy", n)
	}
}

// When the network changes a new offer goes out over the same line, and goes
// out again until somebody takes it.
func TestReconnectingInABrowser(t *testing.T) {
	b := newBooth(t)
	b.open(webtest.Look{})
	b.calls()
	b.x.becomes(CallState{State: "bridged", Recording: "both", Mine: "yes"})
	b.looks("both")
	b.Wait(`document.querySelector("yes-dialer").line.peer.connectionState === "connected"`)
	tries := make(chan string, 8)
	b.x.mu.Lock()
	answer := b.x.answer
	b.x.answer = func(offer string) (string, error) {
		select {
		case tries <- offer:
		default:
		}
		if len(tries) < 2 {
			time.Sleep(300 * time.Millisecond)
			return "", &Refusal{"A part of Yesline does not answer.", errBroken}
		}
		return answer(offer)
	}
	b.x.mu.Unlock()
	webtest.Eval[chromedp.Void](b.Browser, `dispatchEvent(new Event("online"))`)
	b.looks("reconnecting")
	b.looks("both")
	if len(tries) < 2 {
		t.Fatalf("%d new offers came, want one more than the one that was not taken", len(tries))
	}
	prints, ways := map[string]bool{}, map[string]bool{}
	_, offers := b.x.came()
	for _, offer := range []string{offers[0], <-tries, <-tries} {
		for line := range strings.Lines(offer) {
			prints[line] = prints[line] || strings.HasPrefix(line, "a=fingerprint:")
			ways[line] = ways[line] || strings.HasPrefix(line, "a=ice-ufrag:")
		}
	}
	count := func(of map[string]bool) (n int) {
		for _, is := range of {
			if is {
				n++
			}
		}
		return n
	}
	if count(prints) != 1 || count(ways) < 2 {
		t.Errorf("the browser came with %d identities over %d ways, want the same one over another way", count(prints), count(ways))
	}
}

// A call that rings can be taken and turned away, and is not taken while one
// talks.
func TestAnIncomingCallInABrowser(t *testing.T) {
	b := newBooth(t)
	b.open(webtest.Look{})
	ring := func(call bool) {
		b.x.set(func(x *exchange) {
			x.rings.Call, x.rings.From = "", ""
			if call {
				x.rings.Call, x.rings.From = x.call, "+44 •••• ••07"
			}
		})
	}
	ring(true)
	b.WaitText(".ring", "+44 •••• ••07")
	b.WaitText("[data-part=urgent]", "Somebody calls you: +44")
	if title := webtest.Eval[string](b.Browser, "document.title"); !strings.Contains(title, "calls") {
		t.Errorf("the title is %q", title)
	}
	b.Click(`[data-do="turn-away"]`)
	b.said("hangup")
	ring(false)
	b.Wait(`!document.querySelector(".ring").checkVisibility()`)
	// It rings as soon as the page may sound, and stops when nothing rings.
	b.Wait(`document.querySelector("yes-dialer").sound?.state === "running" && !document.querySelector("yes-dialer").bell`)
	ring(true)
	b.WaitText(".ring", "+44")
	b.Wait(`document.querySelector("yes-dialer").bell`)
	// What one tab hears, all do.
	webtest.Eval[chromedp.Void](b.Browser, `new BroadcastChannel("yesline-rings").postMessage({call: "`+string(b.x.call)+`", from: "+33 • •• •• •• 04"})`)
	b.WaitText(".ring", "+33")
	b.Click(`[data-do="accept"]`)
	b.looks("ringing")
	if numbers, offers := b.x.came(); len(offers) != 1 || len(numbers) != 0 {
		t.Errorf("taking a call: %d offers, placed %v", len(offers), numbers)
	}
	b.Wait(`!document.querySelector(".ring").checkVisibility() && !document.querySelector("yes-dialer").bell`)
	b.x.set(func(x *exchange) { x.rings.Call, x.rings.From = callID("private"), "+49 •••• ••11" })
	b.WaitText(".ring", "You are in a call")
	if !webtest.Eval[bool](b.Browser, `document.querySelector("[data-do=accept]").disabled`) {
		t.Error("a second call could be taken")
	}
}

// What can go wrong before the call is told in words, and there is a way on.
func TestTroubleInABrowser(t *testing.T) {
	b := newBooth(t, webtest.Loopback) // it has no microphone
	b.open(webtest.Look{Width: 360})
	b.Click(".go")
	b.WaitText("[data-part=problem]", "Type the number first")
	b.Click("#to")
	b.Press("+19005550100")
	b.WaitText(".place", "does not call numbers that cost extra")
	webtest.Eval[chromedp.Void](b.Browser, `document.querySelector("#to").value = ""`)
	b.Press("2025550123")
	b.Click(".go")
	b.WaitText("[data-part=problem]", "No microphone was found")
	if numbers, _ := b.x.came(); len(numbers) != 0 {
		t.Errorf("without a voice %v were called", numbers)
	}
	webtest.Eval[chromedp.Void](b.Browser, `navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("", "NotAllowedError"))`)
	b.Click(".go")
	b.WaitText("[data-part=problem]", "does not let Yesline use the microphone")
	b.Click("[data-part=sample]")
	b.x.set(func(x *exchange) { x.refuse = &Refusal{"Three calls at once are enough.", yesline.TooMany} })
	b.Click(".go")
	b.WaitText("[data-part=problem]", "Three calls at once are enough.")
	b.x.set(func(x *exchange) { x.refuse = nil })
	b.Click(".friend button")
	b.looks("ringing")
	for deadline := time.Now().Add(10 * time.Second); b.heard() < 25; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("of the sample voice %d packets were heard", b.heard())
		}
	}
	b.WaitText("[data-part=own-word]", "sample voice")
	b.x.becomes(CallState{State: "ended", Recording: "nobody", Ending: "They did not pick up."})
	b.looks("ended")
	b.WaitText(".detail", "did not pick up")
	b.Wait(`!document.querySelector("yes-dialer").line && !document.querySelector("yes-dialer").own`)
	b.Click(`[data-do="again"]`)

	// By one's own phone no microphone is needed.
	b.Click(`[value="phone"]`)
	b.WaitText("[data-part=with-phone]", "+1 ••• ••42")
	b.x.becomes(CallState{State: "ringing", Recording: "nobody"})
	b.Click(".go")
	b.looks("ringing-me")
	b.shows("hang", "keypad")
	b.x.becomes(CallState{State: "bridged", Recording: "nobody", CanAsk: true})
	b.looks("nobody")
	b.shows("hang", "keypad", "record")
	b.x.becomes(CallState{State: "bridged", Recording: "nobody", Question: true, MayAgree: true, MayLast: true})
	b.looks("yours")
	b.Click(`[data-do="lasting"]`)
	b.said("agree_always")
	b.x.becomes(CallState{State: "bridged", Recording: "nobody", Reason: "nothing is recorded: there is no room"})
	b.looks("nobody")
	b.WaitText(".detail", "Nothing is recorded: there is no room.")
	b.shows("hang", "keypad")
	b.Go(b.server.URL + "/call") // loaded anew, it goes on: the sound is not here
	b.looks("nobody")
	b.Click(`[data-do="hang"]`)
	b.said("agree_always", "hangup")
	b.x.becomes(CallState{State: "ended", Recording: "nobody"})
	b.looks("ended")
	b.Go(b.server.URL + "/call")
	b.Wait(`document.querySelector("yes-dialer").ready`)
	b.looks("idle")
}

// Who hangs up is told so, also when the end of the line reaches the house
// before the word does.
func TestTheLineEndsBeforeTheWord(t *testing.T) {
	b := newBooth(t)
	b.open(webtest.Look{})
	b.calls()
	b.x.set(func(x *exchange) { x.over = true })
	b.Click(`[data-do="hang"]`)
	b.said("hangup")
	b.looks("ended")
	b.WaitText(".detail", "You hung up.")
	time.Sleep(200 * time.Millisecond)
	if told := b.Text(".detail"); told != "You hung up." {
		t.Errorf("afterwards the end is %q", told)
	}
}

// Hanging up before there is a call leaves none behind.
func TestGivingUpInABrowser(t *testing.T) {
	b := newBooth(t)
	placing, go1 := make(chan struct{}, 1), make(chan struct{})
	answer := b.x.answer
	b.x.answer = func(offer string) (string, error) {
		placing <- struct{}{}
		<-go1
		return answer(offer)
	}
	b.open(webtest.Look{})
	b.Click(".friend button")
	<-placing
	b.Click(`[data-do="hang"]`)
	b.looks("idle")
	close(go1)
	b.said("hangup")
	b.looks("idle")
	time.Sleep(100 * time.Millisecond)
	if b.Text("[data-part=problem]") != "" {
		t.Errorf("who gave up is told %q", b.Text("[data-part=problem]"))
	}
	if webtest.Eval[bool](b.Browser, `Boolean(document.querySelector("yes-dialer").own || document.querySelector("yes-dialer").line)`) {
		t.Error("the microphone is still held")
	}
}

// Installed, the dialer keeps styles and scripts and nothing about anybody, and
// has a page for when there is no network.
func TestInstalledInABrowser(t *testing.T) {
	b := newBooth(t)
	b.open(webtest.Look{})
	b.Wait(`navigator.serviceWorker.controller`)
	b.Go(b.server.URL + "/call")
	b.Go(b.server.URL + theCall)
	b.Go(b.server.URL + "/calls")
	kept := webtest.Eval[[]string](b.Browser, `caches.keys().then(async names => (await Promise.all(names.map(async n => (await (await caches.open(n)).keys()).map(r => new URL(r.url).pathname)))).flat())`)
	for _, path := range kept {
		if path != "/offline" && !strings.HasPrefix(path, b.site.assets.prefix) {
			t.Errorf("%s is kept on the device", path)
		}
	}
	if !slices.Contains(kept, b.site.assets.prefix+"dial.js") || !slices.Contains(kept, "/offline") {
		t.Errorf("kept is only %v", kept)
	}
	b.server.CloseClientConnections()
	b.server.Listener.Close()
	b.Go(b.server.URL + "/call")
	b.WaitText("h1", "No network")
	if color := webtest.Eval[string](b.Browser, `getComputedStyle(document.querySelector(".button")).backgroundColor`); color == "rgba(0, 0, 0, 0)" {
		t.Error("the page without network has no styles")
	}
}

// A state of a call, as it is looked at.
var callScenes = []struct {
	name, look string
	state      CallState
	do         func(b *phoneBooth)
}{
	{"ringing", "ringing", CallState{State: "ringing"}, nil},
	{"notice", "notice", CallState{State: "notice"}, nil},
	{"notice-may-decline", "notice", CallState{State: "notice", Question: true, Theirs: true, Away: true}, nil},
	{"question", "yours", CallState{State: "asking", Question: true}, nil},
	{"question-answerable", "yours", CallState{State: "asking", Question: true, MayAgree: true, MayLast: true, LeftMillis: 8000}, nil},
	{"theirs", "theirs", CallState{State: "asking", Mine: "yes", Theirs: true}, nil},
	{"answered-alone", "ringing", CallState{State: "asking", Mine: "yes", Theirs: true, Away: true}, nil},
	{"settled", "settled", CallState{State: "asking", Mine: "yes", Recording: "both"}, nil},
	{"both", "both", CallState{State: "bridged", Recording: "both", Mine: "yes", Seconds: 42}, nil},
	{"me", "me", CallState{State: "bridged", Recording: "me", Mine: "yes", Seconds: 61}, nil},
	{"them", "them", CallState{State: "bridged", Recording: "them", Mine: "stopped", Seconds: 75}, nil},
	{"nobody", "nobody", CallState{State: "bridged", Mine: "no", Seconds: 3671}, nil},
	{"not-asked", "nobody", CallState{State: "bridged", CanAsk: true, Seconds: 12}, nil},
	{"paused", "paused", CallState{State: "bridged", Mine: "yes", Paused: true, Seconds: 80}, nil},
	{"keypad", "both", CallState{State: "bridged", Recording: "both", Mine: "yes", Seconds: 42}, func(b *phoneBooth) { b.Click(`[data-do="keypad"]`); b.Click(`[data-key="4"]`) }},
	{"muted", "both", CallState{State: "bridged", Recording: "both", Mine: "yes", Seconds: 42}, func(b *phoneBooth) { b.Click(`[data-do="keypad"]`); b.Click(`[data-do="mute"]`) }},
	{"asked-meanwhile", "yours", CallState{State: "bridged", Question: true, MayAgree: true, LeftMillis: 6000, Seconds: 95}, nil},
	{"sure", "both", CallState{State: "bridged", Recording: "both", Mine: "yes", Seconds: 42}, func(b *phoneBooth) { b.Press(kb.Escape) }},
	{"stayed", "both", CallState{State: "bridged", Recording: "both", Mine: "yes", Seconds: 42}, func(b *phoneBooth) { b.Press(kb.Escape) }},
	{"reconnecting", "reconnecting", CallState{State: "bridged", Recording: "both", Mine: "yes", Seconds: 99}, func(b *phoneBooth) {
		b.x.mu.Lock()
		b.x.answer = func(string) (string, error) { time.Sleep(time.Second); return "", errBroken }
		b.x.mu.Unlock()
		webtest.Eval[chromedp.Void](b.Browser, `dispatchEvent(new Event("online"))`)
	}},
	{"incoming-meanwhile", "reconnecting", CallState{State: "bridged", Recording: "both", Mine: "yes", Seconds: 99}, func(b *phoneBooth) {
		b.x.set(func(x *exchange) { x.rings.Call, x.rings.From = callID("private"), "+44 •••• ••07" })
		b.WaitText(".ring", "+44")
	}},
	{"ended", "ended", CallState{State: "ended", Ending: "You hung up after 1 minute 39 seconds."}, nil},
}

// Every state of a call, wide and narrow, light and dark: nothing that axe-core
// objects to, nothing the policy blocks, nothing to scroll sideways. With
// YESLINE_STORY=folder it leaves a picture of each.
func TestStoryOfACall(t *testing.T) {
	webtest.Whole(t)
	folder := os.Getenv("YESLINE_STORY")
	for name, look := range looks {
		if folder == "" && look.Dark != (look.Width == 360) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			b := newBooth(t)
			said := b.Console()
			b.open(look)
			b.Click(`[data-do="try"]`)
			b.Click("#to")
			b.Press("2025550123")
			b.WaitText(".place", "Washington")
			b.x.set(func(x *exchange) { x.rings.Call, x.rings.From = callID("private"), "+44 •••• ••07" })
			b.WaitText(".ring", "+44")
			b.examine(folder, "call-typed-"+name)
			b.x.set(func(x *exchange) { x.rings.Call, x.rings.From = "", "" })
			b.Click(".go")
			for _, scene := range callScenes {
				if scene.state.Recording == "" {
					scene.state.Recording = "nobody"
				}
				b.x.becomes(scene.state)
				if scene.do == nil || scene.look != "reconnecting" {
					b.looks(scene.look)
				}
				if scene.do != nil {
					scene.do(b)
				}
				b.looks(scene.look)
				time.Sleep(350 * time.Millisecond)
				b.examine(folder, "call-"+scene.name+"-"+name)
			}
			if n := b.site.Counts().Reports; n != 0 {
				t.Errorf("the browser reported %d violations of the policy", n)
			}
			for _, line := range said() {
				if !strings.Contains(line, "500") && !strings.Contains(line, "beforeinstallprompt") {
					t.Errorf("the console says: %s", line)
				}
			}
		})
	}
}

// examine looks at the page as it is.
func (b *phoneBooth) examine(folder, name string) {
	b.t.Helper()
	if !b.Fits() {
		b.t.Errorf("%s has to be scrolled sideways", name)
	}
	for _, f := range b.Axe() {
		b.t.Errorf("%s: axe: %s", name, f)
	}
	for _, small := range webtest.Eval[[]string](b.Browser, `[...document.querySelectorAll(".dialer button, .dialer a, .dialer input")].filter(e => e.checkVisibility() && !e.closest(".segments, .switch-line"))
		.filter(e => e.getBoundingClientRect().height < 43.9).map(e => e.textContent.trim() + " " + Math.round(e.getBoundingClientRect().height))`) {
		b.t.Errorf("%s: too small to be touched: %s", name, small)
	}
	if folder != "" {
		b.Shot(filepath.Join(folder, name+".png"))
	}
}
