package web

import (
	"context"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audio"
	"yesline/internal/playback"
	"yesline/internal/session"
	"yesline/internal/web/webtest"
)

// atHome serves a sample by a name that passkeys can belong to.
func (s *sample) atHome(t *testing.T) (site *Site, address string) {
	t.Helper()
	site = newSite(t, s)
	server := httptest.NewServer(site)
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	address = "http://localhost:" + port
	if err := s.sessions.UsePasskeys(session.Passkeys{RPID: "localhost", Origin: address, Name: "Yesline"}); err != nil {
		t.Fatal(err)
	}
	return site, address
}

func picture(b *webtest.Browser, name string) {
	if folder := os.Getenv("YESLINE_STORY"); folder != "" {
		b.Shot(filepath.Join(folder, name+".png"))
	}
}

// Somebody signs up with their number, a code, the terms and a passkey; signs
// in again; adds a second passkey; loses the first; and with the last of their
// devices gone gets in by a recovery code.
func TestSigningUpAndLosingEverything(t *testing.T) {
	b := webtest.Open(t)
	said := b.Console()
	s := newSample(t)
	site, home := s.atHome(t)
	phone := b.Authenticator(true)
	b.As(webtest.Look{})

	b.Go(home + "/in")
	b.Click(`a[href="/join"]`)
	b.WaitText("h1", "Your number")
	b.Fill("#phone", "12025550142")
	b.Click(".sheet button")
	b.WaitText(".wrong", "not a phone number")
	b.Fill("#phone", "+1 202 555 0142")
	b.Click(".sheet button")
	b.WaitText("h1", "Your code")
	b.Fill("#code", "000000")
	b.Click(".sheet button")
	b.WaitText(".wrong", "not the code")
	b.Fill("#code", "246 810")
	b.Click(".sheet button")
	b.WaitText("h1", "What may we do")
	b.Click("input[name=record]")
	b.Fill("#birth", time.Now().AddDate(-17, 0, 0).Format(time.DateOnly))
	b.Click(".choice button")
	b.WaitText(".wrong", "18 or older")
	if !webtest.Eval[bool](b, `document.querySelector("input[name=record]").checked`) {
		t.Error("what was switched on is off after a mistake elsewhere")
	}
	b.Fill("#birth", "1990-05-17")
	b.Click(".choice button")
	b.WaitText("h1", "Your passkey")
	b.Click("yes-passkey button")
	b.WaitText("h1", "Keep these codes")
	for _, f := range b.Axe() {
		t.Errorf("the codes: axe: %s", f)
	}
	picture(b, "story-codes")
	codes := strings.Fields(webtest.Eval[string](b, `[...document.querySelectorAll(".codes code")].map(c => c.textContent).join(" ")`))
	if len(codes) != 10 || phone.Passkeys() != 1 {
		t.Fatalf("%d codes and %d passkeys after signing up", len(codes), phone.Passkeys())
	}
	b.Click(".choice a")
	b.WaitText("h1", "Calls")

	// Out, and in again: the field offers the passkey, and the finger is there.
	b.Go(home + "/me")
	b.Click(`form[action="/out"] button`)
	b.WaitText("h1", "Calls")
	// The same by the button, in a browser that offers nothing by itself.
	b.Before(`PublicKeyCredential.isConditionalMediationAvailable = async () => false`)
	b.Go(home + "/me")
	b.Click(`form[action="/out"] button`)
	b.WaitText("h1", "Sign in")
	b.Click("yes-passkey button")
	b.WaitText("h1", "Calls")

	// A second one, on a key.
	b.Go(home + "/me/security")
	key := b.Authenticator(false)
	phone.Answers(false)
	b.Fill("#passkey-name", "My key")
	b.Click(`form[action="/me/passkeys"] button`)
	b.WaitText(".notice", "Your new passkey works")
	b.WaitText("#passkeys ~ .things", "My key")
	for _, f := range b.Axe() {
		t.Errorf("two passkeys: axe: %s", f)
	}
	picture(b, "story-two-passkeys")

	// The first is lost, and removed with the second.
	phone.Lose()
	b.Click(`#passkeys ~ .things li:first-child summary`)
	b.Click(`#passkeys ~ .things li:first-child form[action$="/remove"] button`)
	b.WaitText(".notice", "no longer opens")
	if n := webtest.Eval[int](b, `document.querySelectorAll("#passkeys ~ .things li").length`); n != 1 {
		t.Errorf("%d passkeys stand on the page, want 1", n)
	}

	// Everything is lost: a code lets them in, once.
	key.Lose()
	b.Forget()
	b.Go(home + "/in/recover")
	b.Fill("#code", codes[3])
	b.Click("main button")
	b.WaitText(".notice", "You are in")
	tablet := b.Authenticator(true)
	b.Click(`form[action="/me/passkeys"] button`)
	b.WaitText(".notice", "Your new passkey works")
	if tablet.Passkeys() != 1 {
		t.Errorf("the tablet keeps %d passkeys", tablet.Passkeys())
	}
	b.Forget()
	b.Go(home + "/in/recover")
	b.Fill("#code", codes[3])
	b.Click("main button")
	b.WaitText(".wrong", "used already")
	if n := site.Counts().Reports; n != 0 {
		t.Errorf("the browser reported %d violations of the policy", n)
	}
	for _, line := range said() {
		if !strings.Contains(line, "422") {
			t.Errorf("the console says: %s", line)
		}
	}
}

// Whoever did not show lately that it is them is asked for the passkey, comes
// back, and can then do it.
func TestProvingItAgain(t *testing.T) {
	b := webtest.Open(t)
	s := newSample(t)
	_, home := s.atHome(t)
	b.Authenticator(true)
	b.As(webtest.Look{})
	b.Cookie(home, "yesline", s.cookies["bob"])
	b.Go(home + "/me/security")
	b.Click(`form[action="/me/passkeys"] button`)
	b.WaitText(".notice", "Your new passkey works")
	who := s.signIn(t, "bob later", bob)
	s.age(t, who)
	b.Cookie(home, "yesline", s.cookies["bob later"])
	b.Go(home + "/me/security")
	b.Click(`form[action="/me/recovery"] button`)
	b.WaitText("h1", "Show that it is you")
	if n := webtest.Eval[int](b, `document.querySelectorAll(".codes").length`); n != 0 {
		t.Error("there are codes before the proof")
	}
	b.Click("yes-passkey button")
	b.WaitText(".notice", "Thank you")
	b.Click(`form[action="/me/recovery"] button`)
	b.WaitText(".shown-once", "recovery codes")
	// One's own number wants the same proof, by the gate.
	who = s.signIn(t, "bob much later", bob)
	s.age(t, who)
	b.Cookie(home, "yesline", s.cookies["bob much later"])
	b.Go(home + "/me")
	b.Click(`form[action="/me/number"] button`)
	b.WaitText("h1", "Show that it is you")
	b.Click("yes-passkey button")
	b.WaitText("h1", "You")
	b.Click(`form[action="/me/number"] button`)
	b.WaitText(".revealed", "+12025550142")
}

// A device that plays is signed out from another, and gets no further window.
func TestRevokingTheOtherDeviceWhileItPlays(t *testing.T) {
	b, other := webtest.Open(t), webtest.Open(t)
	s := newSample(t)
	s.seconds = 3600
	s.House.Part = func(_ context.Context, p access.Permit, t yesline.TrackID, shape playback.Shape, from, to int64) ([]byte, error) {
		h, err := audio.WAVHeader(s.seconds * audio.Rate)
		data := make([]byte, to-from) // an hour of silence
		if from < int64(len(h)) {
			copy(data, h[from:])
		}
		return data, err
	}
	_, home := s.atHome(t)
	s.signIn(t, "ann's tablet", ann)
	other.As(webtest.Look{})
	other.Cookie(home, "yesline", s.cookies["ann's tablet"])
	other.Go(home + "/calls/" + string(callID("private")))
	other.Wait(`document.querySelectorAll("yes-lane [role=slider]").length === 1`)
	other.Click(".play")
	other.Wait(`document.querySelector("audio").currentTime > 1`)

	b.As(webtest.Look{})
	b.Cookie(home, "yesline", s.cookies["ann"])
	b.Go(home + "/me/security")
	b.Click(`#sessions ~ .things li:first-child summary`)
	b.Click(`#sessions ~ .things form[action$="/end"] button`)
	b.WaitText(".notice", "That session is over")
	ended := time.Now()
	before := s.listened("sound")
	webtest.Eval[chromedp.Void](other, `document.querySelector("audio").currentTime = 3000`)
	other.Wait(`!document.querySelector(".unheard").hidden`)
	if n := s.listened("sound"); n != before {
		t.Errorf("%d windows were asked for after the device was signed out", n-before)
	}
	if took := time.Since(ended); took > 10*time.Second {
		t.Errorf("the player stopped after %v", took)
	}
	if n := len(s.questions()); n == 0 || s.listened("ticket") == 0 {
		t.Error("nothing was asked of the gate")
	}
}
