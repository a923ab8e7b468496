package app_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"yesline"
	"yesline/internal/capture"
	"yesline/internal/consent"
	"yesline/internal/phone"
	"yesline/internal/program"
)

const ownNumber = "+12025550101"

// carried is a home whose trunk is one phone: it takes calls to every number, and
// calls in with the callee's.
type carried struct {
	*home
	carrier *phone.Phone
}

func newCarried(t *testing.T) *carried {
	t.Helper()
	l := &carried{home: &home{t: t}}
	l.carrier = l.phone(phone.Config{Listen: "127.0.0.1:0", User: calleeNumber})
	l.open(filepath.Join(t.TempDir(), "data"), l.carrier.Address())
	l.brief()
	var err error
	if l.program, err = l.Programs.First(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, n := range []string{ownNumber, calleeNumber} {
		number, _ := yesline.NewPhone(n)
		if l.people[i], err = l.People.Meet(t.Context(), l.program, number); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// brief has the house say only the ends of all it says. Nobody may have called
// yet.
func (h *home) brief() {
	h.t.Helper()
	sounds := fstest.MapFS{}
	files, err := fs.Glob(os.DirFS("../capture/prompts"), "*.ul")
	if err != nil || len(files) < 10 {
		h.t.Fatalf("%d prompts, %v", len(files), err)
	}
	for _, name := range files {
		sounds[name] = &fstest.MapFile{Data: promptEnd(h.t, strings.TrimSuffix(name, ".ul"))}
	}
	h.Capture.Sounds = sounds
}

// patient bounds what a test waits for.
func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// rings waits for the house to ring a number at the trunk.
func (l *carried) rings(number string) *phone.Ringing {
	l.t.Helper()
	r, err := l.carrier.Ringing(patient(l.t))
	if err != nil {
		l.t.Fatal(err)
	}
	if r.Number() != number {
		l.t.Fatalf("the house rings %s, want %s", r.Number(), number)
	}
	return r
}

// picksUp answers what the house rings.
func (l *carried) picksUp(number string) *phone.Call {
	l.t.Helper()
	c, err := l.rings(number).Answer(patient(l.t))
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

// hears waits until a phone heard what the house says.
func hears(t *testing.T, c *phone.Call, prompt string) {
	t.Helper()
	said := promptEnd(t, prompt)
	if err := c.HeardUntil(patient(t), func(heard []byte) bool { return bytes.Contains(heard, said) }); err != nil {
		t.Fatalf("waiting to hear %s: %v; the call: %s", prompt, err, c.Ended())
	}
}

// says presses a key when the question was heard to its end.
func says(t *testing.T, c *phone.Call, question, key string) {
	t.Helper()
	hears(t, c, question)
	time.Sleep(300 * time.Millisecond)
	if err := c.Press(patient(t), key); err != nil {
		t.Fatal(err)
	}
}

// posts sends a form as a page's script does, and reads the answer into out.
func (v *visitor) posts(path string, form url.Values, out any) (status int) {
	v.h.t.Helper()
	r, err := http.NewRequestWithContext(v.h.t.Context(), "POST", "http://"+v.h.PagesAddress()+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.h.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return v.reads(r, out)
}

// asks reads what a page's script waits for.
func (v *visitor) asks(path string, out any) (status int) {
	v.h.t.Helper()
	r, err := http.NewRequestWithContext(v.h.t.Context(), "GET", "http://"+v.h.PagesAddress()+path, nil)
	if err != nil {
		v.h.t.Fatal(err)
	}
	return v.reads(r, out)
}

func (v *visitor) reads(r *http.Request, out any) (status int) {
	v.h.t.Helper()
	client := *v.client
	client.Timeout = 30 * time.Second // asks wait for up to 26 s
	got, err := client.Do(r)
	if err != nil {
		v.h.t.Fatal(err)
	}
	defer got.Body.Close()
	body, err := io.ReadAll(io.LimitReader(got.Body, 1<<20))
	if err != nil {
		v.h.t.Fatal(err)
	}
	if err := json.Unmarshal(body, out); err != nil {
		v.h.t.Fatalf("%s %s answers %d and no JSON: %.200s", r.Method, r.URL.Path, got.StatusCode, body)
	}
	return got.StatusCode
}

// decode reads what a script is answered with 200.
func decode(status int, body []byte, out any) error {
	if status != http.StatusOK {
		return fmt.Errorf("it answers %d", status)
	}
	return json.Unmarshal(body, out)
}

// told is what scripts are answered: begun, answered, incoming or refused.
type told struct {
	Call, SDP, Error, From string
	Version                int64
}

// status is a call as a page has it.
type status struct {
	Version                                                   int64
	State, Recording, Mine, Reason, Ending, Other             string
	Question, MayAgree, MayLast, Theirs, Away, Paused, CanAsk bool
}

// follow looks at a call until it is as wanted.
func (v *visitor) follow(call yesline.CallID, what string, is func(status) bool) (s status) {
	v.h.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if code := v.asks(fmt.Sprintf("/calls/%s/state?after=%d", call, s.Version), &s); code != http.StatusOK {
			v.h.t.Fatalf("the state answers %d", code)
		}
		if is(s) {
			return s
		}
		if s.State == "ended" {
			break
		}
	}
	v.h.t.Fatalf("waited in vain on the page: %s; it is %+v", what, s)
	return s
}

// chooses says a word on the page.
func (v *visitor) chooses(call yesline.CallID, word string) {
	v.h.t.Helper()
	var t told
	if code := v.posts("/calls/"+string(call)+"/say", url.Values{"word": {word}}, &t); code != http.StatusOK {
		v.h.t.Fatalf("%s answers %d: %s", word, code, t.Error)
	}
}

// agrees says yes on the page as soon as that counts.
func (v *visitor) agrees(call yesline.CallID) {
	v.h.t.Helper()
	v.follow(call, "the question is said", func(s status) bool { return s.MayAgree })
	v.chooses(call, "agree")
}

// counts is how many rows a table of the content database has.
func (h *home) counts(table string) (n int) {
	h.t.Helper()
	if err := h.ContentDB.QueryRow(h.t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
		h.t.Fatal(err)
	}
	return n
}

// known is how many people the house knows.
func (h *home) known() (n int) {
	h.t.Helper()
	if err := h.PeopleDB.QueryRow(h.t.Context(), "SELECT count(*) FROM people").Scan(&n); err != nil {
		h.t.Fatal(err)
	}
	return n
}

// kept checks both tracks of a call that is over.
func (k *talk) kept() {
	k.h.t.Helper()
	for _, r := range k.finished(2) {
		if own, _, other := k.opens(r); own < same || other > foreign || r.Seconds < 2 {
			k.h.t.Errorf("%d s %q, own voice by %.2f, the other's by %.2f", r.Seconds, r.State, own, other)
		}
	}
}

// The page has the house ring the person's own phone first and then the other;
// both agree by their keys.
func TestRingMeFirst(t *testing.T) {
	t.Parallel()
	l := newCarried(t)
	v := l.browser(l.people[0])
	var begun told
	if code := v.posts("/call/phone", url.Values{"to": {"(202) 555-0102"}}, &begun); code != http.StatusOK || begun.SDP != "" {
		t.Fatalf("ring me answers %d: %+v", code, begun)
	}
	k := &talk{h: l.home, id: yesline.CallID(begun.Call)}
	k.ends[0] = l.picksUp(ownNumber)
	hears(t, k.ends[0], "ring_first")
	var both sync.WaitGroup
	both.Go(func() { says(t, k.ends[0], "ask", "1") })
	k.ends[1] = l.picksUp(calleeNumber)
	says(t, k.ends[1], "ask", "1")
	both.Wait()
	k.hear("thanks_recording")
	s := v.follow(k.id, "both are recorded", func(s status) bool { return s.State == "bridged" && s.Recording == "both" })
	if s.Mine != "yes" || s.Other == "" || strings.Contains(s.Other, "5550102") {
		t.Errorf("the page says %+v", s)
	}
	k.say("ann", "bob")
	k.hearEachOther()
	time.Sleep(time.Second)
	k.hangUp()
	if s := v.follow(k.id, "it is over", func(s status) bool { return s.State == "ended" }); s.Recording != "nobody" {
		t.Errorf("after the call the page says %+v", s)
	}
	k.kept()
	l.check()
}

// Whoever called leaves the page, or says no at their own phone, and the other
// is never rung.
func TestRingMeFirstAndNobodyIsThere(t *testing.T) {
	t.Parallel()
	l := newCarried(t)
	v := l.browser(l.people[0])
	var begun told
	if code := v.posts("/call/phone", url.Values{"to": {calleeNumber}}, &begun); code != http.StatusOK {
		t.Fatalf("ring me answers %d: %+v", code, begun)
	}
	if err := l.rings(ownNumber).Reject(patient(t), 486); err != nil {
		t.Fatal(err)
	}
	v.follow(yesline.CallID(begun.Call), "it is over", func(s status) bool { return s.State == "ended" })
	until(t, "the call is over", 5*time.Second, func() bool { return l.Capture.Going() == 0 })

	if code := v.posts("/call/phone", url.Values{"to": {calleeNumber}}, &begun); code != http.StatusOK {
		t.Fatalf("ring me answers %d: %+v", code, begun)
	}
	r := l.rings(ownNumber)
	v.chooses(yesline.CallID(begun.Call), "hangup")
	select {
	case <-r.GaveUp():
	case <-time.After(5 * time.Second):
		t.Error("hanging up on the page does not stop the ringing")
	}
	until(t, "the call is over", 5*time.Second, func() bool { return l.Capture.Going() == 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if r, err := l.carrier.Ringing(ctx); err == nil {
		t.Errorf("%s was rung", r.Number())
	}
	l.check()
}

// A call to a number of nobody here is refused as one for somebody who is not
// there, and nothing is written of it, not even that its caller exists.
func TestACallForNobody(t *testing.T) {
	t.Parallel()
	l := newCarried(t)
	l.browser(l.people[0]) // has an account, and no telephone that is here
	calls, people := l.counts("calls"), l.known()
	for _, number := range []string{"+12025550199", calleeNumber, ownNumber, "nobody", "+999"} {
		var refused *phone.Refused
		_, err := l.carrier.Call(patient(t), l.Phones.Address().String(), number)
		if !errors.As(err, &refused) || refused.Code != 480 {
			t.Errorf("a call for %s: %v, want 480, as of somebody who is not there", number, err)
		}
	}
	if c, p := l.counts("calls"), l.known(); c != calls || p != people {
		t.Errorf("%d calls and %d people were written", c-calls, p-people)
	}
	if n := l.Capture.Going(); n != 0 {
		t.Errorf("%d calls go on", n)
	}
	l.check()
}

// nat stands between a phone and the house: the phone's messages come from its
// own address, and what the house sends there reaches the phone.
type nat struct {
	t       *testing.T
	out     *net.UDPConn
	house   *net.UDPAddr
	phone   *net.UDPAddr
	answers chan string // to what register sent
}

func newNAT(t *testing.T, house, behind string) *nat {
	t.Helper()
	n := &nat{t: t, answers: make(chan string, 8)}
	var err error
	if n.out, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	for to, written := range map[**net.UDPAddr]string{&n.house: house, &n.phone: behind} {
		if *to, err = net.ResolveUDPAddr("udp", written); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.relay()
	}()
	t.Cleanup(func() { n.out.Close(); <-done })
	return n
}

func (n *nat) relay() {
	b := make([]byte, 8<<10)
	for {
		size, from, err := n.out.ReadFromUDP(b)
		if err != nil {
			return
		}
		to := n.house
		if from.Port == n.house.Port {
			to = n.phone
			if isAnswer.Match(b[:size]) {
				n.answers <- string(b[:size])
				continue
			}
		}
		n.out.WriteToUDP(b[:size], to)
	}
}

var isAnswer = regexp.MustCompile(`(?m)^CSeq: \d+ REGISTER\r$`)

var wordOf = regexp.MustCompile(`(realm|nonce)="([^"]*)"`)

// register says to the house that the phone of this user is here.
func (n *nat) register(user, password string) {
	n.t.Helper()
	proof := ""
	for try := 1; try <= 2; try++ {
		uri := "sip:" + n.house.String()
		n.out.WriteToUDP([]byte(strings.Join([]string{"REGISTER " + uri + " SIP/2.0",
			fmt.Sprintf("Via: SIP/2.0/UDP %s;rport;branch=z9hG4bKr%d", n.out.LocalAddr(), try),
			"From: <sip:" + user + "@" + n.house.String() + ">;tag=r", "To: <sip:" + user + "@" + n.house.String() + ">",
			"Call-ID: r" + n.out.LocalAddr().String(), fmt.Sprintf("CSeq: %d REGISTER", try), "Max-Forwards: 70",
			"Contact: <sip:phone@10.9.9.9>", "Expires: 600", proof + "Content-Length: 0", "", ""}, "\r\n")), n.house)
		var answer string
		select {
		case answer = <-n.answers:
		case <-time.After(5 * time.Second):
			n.t.Fatal("registering is not answered")
		}
		if strings.HasPrefix(answer, "SIP/2.0 200") {
			return
		}
		words := map[string]string{}
		for _, w := range wordOf.FindAllStringSubmatch(answer, -1) {
			words[w[1]] = w[2]
		}
		hash := func(s string) string { sum := sha256.Sum256([]byte(s)); return hex.EncodeToString(sum[:]) }
		response := hash(hash(user+":"+words["realm"]+":"+password) + ":" + words["nonce"] + ":00000001:c:auth:" + hash("REGISTER:"+uri))
		proof = fmt.Sprintf("Authorization: Digest username=\"%s\", realm=\"%s\", nonce=\"%s\", uri=\"%s\", response=\"%s\", algorithm=SHA-256, qop=auth, nc=00000001, cnonce=\"c\"\r\n",
			user, words["realm"], words["nonce"], uri, response)
	}
	n.t.Fatal("registering is refused")
}

// A call comes in by the trunk for somebody whose phone at home is registered,
// behind a NAT: it rings, both agree, and both voices are theirs.
func TestACallComesInForARegisteredPhone(t *testing.T) {
	t.Parallel()
	l := newCarried(t)
	_, user, password, err := l.Sessions.AddDevice(t.Context(), l.program, l.people[0], false)
	if err != nil {
		t.Fatal(err)
	}
	desk := l.phone(phone.Config{Listen: "127.0.0.1:0", User: "phone"})
	newNAT(t, l.Phones.Address().String(), desk.Address()).register(user, string(password.Bytes()))

	k := &talk{h: l.home}
	answered := make(chan *phone.Call, 1)
	go func() {
		c, err := desk.Answer(patient(t))
		if err != nil {
			t.Error(err)
		}
		answered <- c
	}()
	from, err := l.carrier.Call(patient(t), l.Phones.Address().String(), ownNumber)
	if err != nil {
		t.Fatal(err)
	}
	to := <-answered
	if to == nil {
		t.FailNow()
	}
	if shown := to.From(); strings.Contains(shown, "5550102") {
		t.Errorf("the phone shows %s, and its person knows only a mask of it", shown)
	}
	k.ends = [2]*phone.Call{to, from} // talk's first is people[0]
	var both sync.WaitGroup
	both.Go(func() { says(t, from, "ask_once", "1") }) // a number that is shown proves nobody: no lasting yes
	says(t, to, "ask", "1")
	both.Wait()
	k.bridged()
	k.hear("thanks_recording")
	k.say("ann", "bob")
	k.hearEachOther()
	time.Sleep(time.Second)
	k.hangUp()
	k.kept()
	if c := k.row(); c.Recording != "both" || c.Parties[0].Person != l.people[1] || c.Parties[1].Person != l.people[0] {
		t.Errorf("the call's row is %+v", c)
	}
	l.check()
}

// A program may ask in the middle: the two hear each other at once and nothing
// is kept, until one of them presses *8 and both agree.
func TestAskingDuringACall(t *testing.T) {
	t.Parallel()
	h := newHome(t, filepath.Join(t.TempDir(), "data"))
	h.brief()
	if err := h.Programs.SetAsk(t.Context(), h.program, "op:test", program.AskDuring); err != nil {
		t.Fatal(err)
	}
	k := h.connect()
	k.bridged()
	k.say("ann", "bob")
	k.hearEachOther()
	if n := h.sealed(); n != 0 || len(k.tracks()) != 0 {
		t.Errorf("%d bytes in %d tracks before anybody was asked", n, len(k.tracks()))
	}
	for i, end := range k.ends {
		if bytes.Contains(end.Heard(), promptEnd(t, "ask")) || bytes.Contains(end.Heard(), promptEnd(t, "notice")) {
			t.Errorf("party %d was asked before the call", i)
		}
	}
	if err := k.ends[1].Press(patient(t), "1"); err != nil { // an answer to nothing
		t.Fatal(err)
	}
	if err := k.ends[0].Press(patient(t), "*8"); err != nil {
		t.Fatal(err)
	}
	k.hear("asking_during")
	var both sync.WaitGroup
	for _, end := range k.ends {
		both.Go(func() { says(t, end, "ask", "1") })
	}
	both.Wait()
	k.hear("thanks_recording")
	until(t, "both are recorded", 10*time.Second, func() bool { return k.row().Recording == "both" })
	k.say("maya", "carl")
	k.hearEachOther()
	time.Sleep(2 * time.Second)
	k.hangUp()
	for _, r := range k.finished(2) {
		own, _, other := k.opens(r)
		if own < same || other > foreign || r.Seconds < 2 {
			t.Errorf("%d s %q, own voice by %.2f, the other's by %.2f", r.Seconds, r.State, own, other)
		}
		if s, err := h.Consent.Of(t.Context(), k.id, r.Person); err != nil || s.Record != consent.Yes {
			t.Errorf("consent is %+v, %v", s, err)
		}
	}
	for i, end := range k.ends { // what was pressed before reached the other; answers do not
		if keys := end.Keys(); keys != [2]string{"1", "*8"}[i] {
			t.Errorf("party %d hears the keys %q", i, keys)
		}
	}
	h.check()
}

// And a no to *8 is final for the call, which goes on.
func TestANoDuringACall(t *testing.T) {
	t.Parallel()
	h := newHome(t, filepath.Join(t.TempDir(), "data"))
	h.brief()
	if err := h.Programs.SetAsk(t.Context(), h.program, "op:test", program.AskDuring); err != nil {
		t.Fatal(err)
	}
	k := h.connect()
	k.bridged()
	if err := k.ends[0].Press(patient(t), "*8"); err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	both.Go(func() { says(t, k.ends[0], "ask", "1") })
	says(t, k.ends[1], "asking_during", "2")
	both.Wait()
	until(t, "they hear each other again", 15*time.Second, func() bool { return k.row().State == capture.Bridged })
	k.say("ann", "bob")
	k.hearEachOther()
	if err := k.ends[0].Press(patient(t), "*8"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	if s := k.row().State; s != capture.Bridged {
		t.Errorf("after a no they were asked again: %s", s)
	}
	k.hangUp()
	for _, r := range k.tracks() {
		if r.Person == h.people[1] || r.Seconds > 0 {
			t.Errorf("%d s of a voice were kept after a no in a strict place", r.Seconds)
		}
	}
	h.check()
}

// A premium number is refused in words on the page and with 403 by SIP; the
// house remembers that it did and not which number it was.
func TestAPremiumNumberIsRefused(t *testing.T) {
	t.Parallel()
	h := newHome(t, filepath.Join(t.TempDir(), "data"))
	v := h.browser(h.people[0])
	people, calls := h.known(), h.counts("calls")
	const costly = "+19005550142"
	var look struct{ Shown, Place, Rule, Refused string }
	if code := v.posts("/call/look", url.Values{"number": {costly}}, &look); code != http.StatusOK || look.Refused == "" {
		t.Errorf("looking it up answers %d: %+v", code, look)
	}
	for path, form := range map[string]url.Values{"/call/phone": {"to": {costly}}} {
		var no told
		if code := v.posts(path, form, &no); code != http.StatusForbidden || no.Error != look.Refused || strings.Contains(no.Error, "5550142") {
			t.Errorf("%s answers %d: %q", path, code, no.Error)
		}
	}
	var refused *phone.Refused
	if _, err := h.caller.Call(patient(t), h.Phones.Address().String(), costly); !errors.As(err, &refused) || refused.Code != 403 {
		t.Errorf("by SIP: %v, want 403", err)
	}
	all, err := h.Tolls.Refused(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	times := int64(0)
	for _, r := range all {
		if r.Word != "premium" || r.Person != h.people[0] || r.Program != h.program {
			t.Errorf("a refusal is remembered as %+v", r)
		}
		if strings.Contains(fmt.Sprintf("%+v", r), "9005550142") {
			t.Error("a refusal holds the number")
		}
		times += r.Times
	}
	if times < 2 {
		t.Errorf("%d refusals are remembered, want both", times)
	}
	if p, c := h.known(), h.counts("calls"); p != people || c != calls {
		t.Errorf("of refused calls %d people and %d calls were written", p-people, c-calls)
	}
	if n := h.Capture.Going(); n != 0 {
		t.Errorf("%d calls go on", n)
	}
	h.check()
}
