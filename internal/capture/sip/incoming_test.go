package sip_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"yesline"
	"yesline/internal/capture"
	"yesline/internal/capture/sip"
)

// withIncoming opens a world where the trunk may call ann, whose phone is
// registered.
func withIncoming(t *testing.T) (w *world, c *carrier, phone *raw) {
	t.Helper()
	c = newCarrierConn(t)
	var opened atomic.Pointer[world]
	w = open(t, setup{cfg: func(cfg *sip.Config) {
		cfg.Trunk = c.address()
		cfg.Whose = func(_ context.Context, number string) (yesline.ProgramID, yesline.PersonID, error) {
			if number != annNumber {
				return "", "", yesline.NotFound
			}
			w := opened.Load()
			return w.program, w.ann.Person, nil
		}
	}, reach: func(to capture.Wanted) (capture.Route, error) {
		phones := opened.Load().door.Ring(to.To)
		if len(phones) == 0 {
			return capture.Route{}, yesline.NotFound
		}
		return capture.Route{Handset: capture.AnyOf(phones...)}, nil
	}})
	opened.Store(w)
	phone = newRaw(t, w.door.Address())
	if got := phone.registers(w, 1, "<sip:ann@HERE>"); code(got) != "200" {
		t.Fatalf("REGISTER gives %q", got)
	}
	return w, c, phone
}

// calls sends an INVITE of the trunk.
func (c *carrier) calls(w *world, number, id string, more ...string) {
	c.t.Helper()
	at := w.door.Address()
	body := sdp("127.0.0.1", 4000, "")
	lines := append([]string{"INVITE sip:" + number + "@" + at.String() + " SIP/2.0", "Via: SIP/2.0/UDP " + c.conn.LocalAddr().String() + ";rport;branch=z9hG4bK" + id,
		"From: <sip:" + bobNumber + "@trunk>;tag=c" + id, "To: <sip:" + number + "@" + at.String() + ">", "Call-ID: in" + id, "CSeq: 1 INVITE",
		fmt.Sprintf("Contact: <sip:carrier@%s>", c.conn.LocalAddr()), "Content-Type: application/sdp"}, more...)
	c.write(w, strings.Join(lines, "\r\n")+fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
}

func (c *carrier) write(w *world, msg string) {
	c.t.Helper()
	if _, err := c.conn.WriteToUDPAddrPort([]byte(msg), w.door.Address()); err != nil {
		c.t.Fatal(err)
	}
}

// status waits for an answer of the door with another status than 100.
func (c *carrier) status() string {
	c.t.Helper()
	for {
		if msg := c.gets("SIP/2.0"); code(msg) != "100" {
			return msg
		}
	}
}

// How a call that comes in ends before it is picked up, told to the trunk.
func TestIncomingCallsThatNobodyTakes(t *testing.T) {
	t.Parallel()
	w, c, phone := withIncoming(t)
	for i, k := range []struct{ says, want string }{
		{"486 Busy Here", "486"}, {"603 Decline", "603"}, {"480 Temporarily Unavailable", "480"}, {"500 Oops", "480"},
	} {
		c.calls(w, annNumber, fmt.Sprint("n", i))
		if got := c.status(); code(got) != "180" {
			t.Fatalf("an incoming call gives %q", got)
		}
		phone.says(phone.gets("INVITE"), k.says, "")
		phone.gets("ACK")
		got := c.status()
		if code(got) != k.want {
			t.Errorf("after %s the trunk is told %q", k.says, got)
		}
		c.ackFor(w, got, fmt.Sprint("n", i))
	}
	c.calls(w, "+12025550999", "nobody")
	if got := c.status(); code(got) != "480" { // as of somebody who is not there: which numbers are ours is nobody's business
		t.Errorf("a number of nobody gives %q", got)
	} else {
		c.ackFor(w, got, "nobody")
	}
	for id, number := range map[string]string{"brief1": "+12025550999", "brief2": annNumber} {
		c.calls(w, number, id, "Session-Expires: 10")
		if got := c.status(); code(got) != "422" {
			t.Errorf("what cannot be taken of anybody gives %q", got)
		} else {
			c.ackFor(w, got, id)
		}
	}
	phone.registers(w, 50, "*", "Expires: 0")
	c.calls(w, annNumber, "gone")
	if got := c.status(); code(got) != "480" {
		t.Errorf("without a phone the answer is %q", got)
	}
}

// ackFor acknowledges a refusal.
func (c *carrier) ackFor(w *world, refused, id string) {
	c.write(w, strings.Join([]string{"ACK sip:x@y SIP/2.0", "Via: SIP/2.0/UDP " + c.conn.LocalAddr().String() + ";rport;branch=z9hG4bK" + id,
		"From: " + header(refused, "From"), "To: " + header(refused, "To"), "Call-ID: " + header(refused, "Call-ID"), "CSeq: 1 ACK", "Content-Length: 0", "", ""}, "\r\n"))
}

// A trunk that wants it gets its 180 reliably: again until its PRACK comes.
func TestReliableRinging(t *testing.T) {
	t.Parallel()
	w, c, phone := withIncoming(t)
	c.calls(w, annNumber, "rel", "Require: 100rel")
	first := c.status()
	again := c.status()
	if code(first) != "180" || first != again || header(first, "RSeq") == "" || header(first, "Require") != "100rel" {
		t.Fatalf("got %q and %q", first, again)
	}
	prack := func(n string, cseq int) string {
		c.write(w, strings.Join([]string{"PRACK sip:x@y SIP/2.0", "Via: SIP/2.0/UDP " + c.conn.LocalAddr().String() + ";rport;branch=z9hG4bKp" + fmt.Sprint(cseq),
			"From: " + header(first, "From"), "To: " + header(first, "To"), "Call-ID: " + header(first, "Call-ID"), fmt.Sprintf("CSeq: %d PRACK", cseq),
			"RAck: " + n + " 1 INVITE", "Content-Length: 0", "", ""}, "\r\n"))
		for {
			if got := c.status(); strings.HasSuffix(header(got, "CSeq"), "PRACK") {
				return code(got)
			}
		}
	}
	if got := prack("12", 2); got != "481" {
		t.Errorf("a PRACK of nothing gives %s", got)
	}
	if got := prack(header(first, "RSeq"), 3); got != "200" {
		t.Errorf("the PRACK gives %s", got)
	}
	invite := phone.gets("INVITE")
	phone.says(invite, "200 OK", sdp("127.0.0.1", 4000, ""))
	phone.gets("ACK")
	ok200 := c.status()
	if code(ok200) != "200" || header(ok200, "To") != header(first, "To") {
		t.Errorf("after the pick-up came %q", ok200)
	}
	c.write(w, strings.Join([]string{"ACK sip:x@y SIP/2.0", "Via: SIP/2.0/UDP " + c.conn.LocalAddr().String() + ";rport;branch=z9hG4bKack",
		"From: " + header(ok200, "From"), "To: " + header(ok200, "To"), "Call-ID: " + header(ok200, "Call-ID"), "CSeq: 1 ACK", "Content-Length: 0", "", ""}, "\r\n"))
	go func() {
		for {
			if bye := phone.read(5 * time.Second); strings.HasPrefix(bye, "BYE ") {
				phone.says(bye, "200 OK", "")
				return
			}
		}
	}()
	c.write(w, strings.Join([]string{"BYE sip:x@y SIP/2.0", "Via: SIP/2.0/UDP " + c.conn.LocalAddr().String() + ";rport;branch=z9hG4bKbye",
		"From: " + header(ok200, "From"), "To: " + header(ok200, "To"), "Call-ID: " + header(ok200, "Call-ID"), "CSeq: 9 BYE", "Content-Length: 0", "", ""}, "\r\n"))
	if got := c.status(); code(got) != "200" {
		t.Errorf("BYE gives %q", got)
	}
	for w.door.Calls() > 0 && w.ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
}

// A phone that shows its person whether they are recorded is told, and what it
// says of their wish is heeded (RFC 7866).
func TestPhoneThatIsAwareOfRecording(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	r := newRaw(t, w.door.Address())
	body := sdp("127.0.0.1", 4000, "a=recordpref:on\r\n")
	uri := "sip:" + bobNumber + "@" + r.to.String()
	lines := []string{"INVITE " + uri + " SIP/2.0", "VIA", "From: <sip:" + w.annName + "@HERE>;tag=a1", "To: <" + uri + ">", "Call-ID: aware",
		"CSeq: 1 INVITE", "Contact: <sip:x@HERE>", "Supported: record-aware", "Allow: INVITE, ACK, BYE, UPDATE", "Content-Type: application/sdp"}
	r.sendBody(body, lines...)
	challenge := r.answer(2 * time.Second)
	lines[5] = "CSeq: 2 INVITE"
	r.sendBody(body, append(lines, proof(challenge, "INVITE", uri, w.annName, w.annPass))...)
	answer := r.answer(2 * time.Second)
	r.ack(answer)
	sound, stop := r.speaks(answer)
	defer stop()
	bob := must(w.bobPhone.Answer(w.ctx))(t)
	time.Sleep(1500 * time.Millisecond)
	sound(101, []byte{1, 0x8a, 3, 0xc0})
	w.hears(bob, "ask")
	ok(t, bob.Press(w.ctx, "1"))
	update := r.gets("UPDATE")
	if !strings.Contains(update, "a=record:on\r\n") || !strings.Contains(update, "m=audio ") {
		t.Errorf("the UPDATE is %s", update)
	}
	if got := r.within(answer, "UPDATE", 20, body); code(got) != "491" {
		t.Errorf("an offer of theirs during ours gives %q", got)
	}
	r.says(update, "200 OK", body)
	time.Sleep(300 * time.Millisecond)
	off := strings.Replace(body, "recordpref:on", "recordpref:off", 1)
	r.sendBody(off, "UPDATE sip:THERE SIP/2.0", "VIA", "From: "+header(answer, "From"), "To: "+header(answer, "To"), "Call-ID: aware", "CSeq: 21 UPDATE", "Content-Type: application/sdp")
	told := false
	for !told {
		msg := r.read(5 * time.Second)
		switch {
		case msg == "":
			t.Fatal("the phone is not told that the recording ended")
		case strings.HasPrefix(msg, "UPDATE "):
			told = strings.Contains(msg, "a=record:off\r\n")
			r.says(msg, "200 OK", off)
		}
	}
	r.within(answer, "BYE", 30, "")
	if row := w.ended(); !strings.Contains(row.Reason, "the caller stopped it") {
		t.Errorf("the reason is %q", row.Reason)
	}
}

// Scanners of Debian's sipvicious find nothing: no server, no user, no password.
func TestScannersFindNothing(t *testing.T) {
	t.Parallel()
	slow(t)
	w := open(t, setup{cfg: func(c *sip.Config) { c.ListenTCP = c.Listen }})
	port := fmt.Sprint(w.door.Address().Port())
	for _, k := range []struct {
		tool string
		args []string
	}{
		{"svmap", []string{"-p", port, "127.0.0.1"}},
		{"svmap", []string{"-p", port, "-m", "INVITE", "127.0.0.1"}},
		{"svmap", []string{"-p", port, "-m", "REGISTER", "127.0.0.1"}},
		{"svwar", []string{"-p", port, "-e", "100-140", "127.0.0.1"}},
		{"svwar", []string{"-p", port, "-e", "100-140", "-m", "INVITE", "127.0.0.1"}},
		{"svcrack", []string{"-p", port, "-u", "100", "-r", "100-140", "127.0.0.1"}},
	} {
		tool, err := exec.LookPath(k.tool)
		if err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal("there is no " + k.tool + " on this machine: apt-get install sipvicious")
			}
			t.Skip("there is no " + k.tool + " on this machine: apt-get install sipvicious")
		}
		ctx, cancel := context.WithTimeout(w.ctx, 25*time.Second)
		cmd := exec.CommandContext(ctx, tool, k.args...)
		cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "HOME="+t.TempDir(), "TERM=dumb")
		out, _ := cmd.CombinedOutput()
		cancel()
		found := string(out)
		for _, sign := range []string{"127.0.0.1:" + port, "reqauth", "noauth", "| 100", "yesline"} {
			if strings.Contains(found, sign) {
				t.Errorf("%s %q finds %q:\n%s", k.tool, k.args, sign, found)
			}
		}
		t.Logf("%s %q says: %s", k.tool, k.args, found[max(0, len(found)-200):])
	}
	if w.door.Counters.Strangers.Load() < 5 || w.door.Counters.Challenged.Load() > 0 {
		t.Errorf("%d strangers, %d challenged", w.door.Counters.Strangers.Load(), w.door.Counters.Challenged.Load())
	}
}
