package demo

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/phone"
	"yesline/internal/session"
	"yesline/internal/web/webtest"
)

var sixDigits = regexp.MustCompile(`\b\d{6}\b`)

// A newcomer gets an account in the whole house, with nothing pretended but the
// finger on the sensor: a number, the code out of the demo's outbox, the terms,
// a passkey. They add a telephone, call, and are recorded as they agreed; they
// lose everything and come back by a code. An officer opens their call with a
// second person, and they are told.
func TestANewcomerSignsUpAndCalls(t *testing.T) {
	t.Parallel()
	webtest.Whole(t)
	b := webtest.Open(t)
	d := house(t)
	home := d.Config.URL
	look := func(name string) {
		t.Helper()
		for _, f := range b.Axe() {
			t.Errorf("%s: %v", name, f)
		}
		if folder := os.Getenv("YESLINE_STORY"); folder != "" {
			b.Shot(filepath.Join(folder, "join-"+name+".png"))
		}
	}
	b.As(webtest.Look{})
	finger := b.Authenticator(true)
	number, _, err := d.number()
	if err != nil {
		t.Fatal(err)
	}

	b.Go(home + "/join")
	look("number")
	b.Fill("#phone", number)
	b.Click(".sheet button")
	b.WaitText("h1", "Your code")
	code := ""
	for deadline := time.Now().Add(10 * time.Second); code == "" && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		for _, m := range d.Config.Desk.Sheets() {
			code = sixDigits.FindString(m.Text)
		}
	}
	look("code")
	b.Fill("#code", code)
	b.Click(".sheet button")
	b.WaitText("h1", "What may we do")
	look("terms")
	b.Click("input[name=record]")
	b.Click("input[name=share]")
	b.Fill("#birth", "1990-05-17")
	b.Click(".choice button")
	b.WaitText("h1", "Your passkey")
	b.Click("yes-passkey button")
	b.WaitText("h1", "Keep these codes")
	codes := strings.Fields(webtest.Eval[string](b, `[...document.querySelectorAll(".codes code")].map(c => c.textContent).join(" ")`))
	if len(codes) != 10 {
		t.Fatalf("%d recovery codes", len(codes))
	}
	b.Click(".choice a")
	b.WaitText("h1", "Calls")

	// A telephone of their own, and a call in which both agree.
	b.Go(home + "/me/security")
	look("security")
	b.Click(`form[action="/me/phones"] button`)
	b.Wait(`document.querySelector("code.secret")`)
	user := webtest.Eval[string](b, `document.querySelector("code.secret").closest("dl").querySelector("div:nth-child(2) code").textContent`)
	password := webtest.Eval[string](b, `document.querySelector("code.secret").textContent`)
	p, err := yesline.NewPhone(number)
	if err != nil {
		t.Fatal(err)
	}
	me := &somebody{name: "Ann", program: d.strict, number: number}
	if me.id, err = d.People.Meet(t.Context(), d.strict, p); err != nil {
		t.Fatal(err)
	}
	if me.voice, err = d.voice("Ann"); err != nil {
		t.Fatal(err)
	}
	if me.phone, err = d.newPhone(phone.Config{Listen: "127.0.0.1:0", User: user, Password: password}); err != nil {
		t.Fatal(err)
	}
	maya, err := d.contact(t.Context(), "Maya", d.strict)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	talk, err := d.ring(ctx, me, maya, "1", "1")
	if err != nil {
		t.Fatal(err)
	}
	if err := talk.speak(ctx, 0, 5); err != nil {
		t.Fatal(err)
	}
	if err := talk.hangUp(ctx); err != nil {
		t.Fatal(err)
	}
	if err := talk.countTracks(ctx, 2); err != nil {
		t.Error(err)
	}
	standings, err := d.Consent.Standings(ctx, []yesline.CallID{talk.id})
	if err != nil || !standings[talk.id][me.id].Share || standings[talk.id][me.id].License {
		t.Errorf("what they switched on in the terms did not come into the call: %+v, %v", standings[talk.id][me.id], err)
	}

	// Everything is lost but the codes.
	finger.Lose()
	b.Forget()
	b.Go(home + "/in/recover")
	b.Fill("#code", codes[0])
	b.Click("main button")
	b.WaitText(".notice", "You are in")
	b.Go(home + "/calls")
	b.WaitText("main", "••• ••")

	// Two officers open the call; its owner is told by whom and why.
	d.breaksOpen(t, talk.id)
	b.Go(home + "/calls")
	b.WaitText("main", "C-2026-7")
	look("opened")
	check(t, d)
}

// breaksOpen has an officer ask for a call, another approve, and the first look.
func (d *Demo) breaksOpen(t *testing.T, call yesline.CallID) {
	t.Helper()
	ctx := t.Context()
	var officers []session.Principal
	var cookies []string
	for range 2 {
		_, token, err := d.Sessions.Appoint(ctx, session.Local(1), session.Officer, "", func(bool) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		cookie, who, err := d.Sessions.Redeem(ctx, token)
		if err != nil {
			t.Fatal(err)
		}
		officers, cookies = append(officers, who), append(cookies, cookie)
	}
	page := func() int {
		r, err := http.NewRequestWithContext(ctx, "GET", d.Config.URL+"/calls/"+string(call), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.AddCookie(&http.Cookie{Name: "yesline", Value: cookies[0]})
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	if got := page(); got != http.StatusNotFound {
		t.Errorf("without a case an officer's page of the call answers %d", got)
	}
	permit, err := d.Gate.Ask(ctx, officers[0], access.Break, access.Object{Kind: "call", ID: string(call)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	calls, err := d.Capture.ByID(ctx, []string{string(call)})
	if err != nil {
		t.Fatal(err)
	}
	var owners []yesline.PersonID
	for _, p := range calls[string(call)].Parties {
		owners = append(owners, p.Person)
	}
	asked, err := d.Cases.Ask(ctx, permit, owners, "somebody says they were not asked", "C-2026-7")
	if err != nil {
		t.Fatal(err)
	}
	if got := page(); got != http.StatusNotFound {
		t.Errorf("before the second person an officer's page of the call answers %d", got)
	}
	if permit, err = d.Gate.Ask(ctx, officers[1], access.Approve, access.Object{Kind: "case", ID: string(asked.ID)}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Cases.Approve(ctx, permit); err != nil {
		t.Fatal(err)
	}
	if got := page(); got != http.StatusOK {
		t.Errorf("with an open case an officer's page of the call answers %d", got)
	}
}
