package sip_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"

	"yesline/internal/capture"
	"yesline/internal/capture/sip"
)

// registers sends a REGISTER, answers the challenge, and gives the answer.
func (r *raw) registers(w *world, cseq int, contact string, more ...string) string {
	r.t.Helper()
	uri := "sip:" + r.to.String()
	lines := func(n int) []string {
		l := append([]string{"REGISTER " + uri + " SIP/2.0", "VIA", "From: <sip:" + w.annName + "@HERE>;tag=r", "To: <sip:" + w.annName + "@THERE>",
			"Call-ID: reg" + strings.ReplaceAll(r.here(), ":", "-"), fmt.Sprintf("CSeq: %d REGISTER", n)}, more...)
		if contact != "" {
			l = append(l, "Contact: "+contact)
		}
		return l
	}
	r.send(lines(cseq)...)
	challenge := r.answer(2 * time.Second)
	if code(challenge) != "401" {
		return challenge
	}
	r.send(append(lines(cseq+1), proof(challenge, "REGISTER", uri, w.annName, w.annPass))...)
	return r.answer(2 * time.Second)
}

func TestRegister(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	r := newRaw(t, w.door.Address())
	for i, c := range []struct {
		contact string
		more    []string
		want    string
		listed  int
	}{
		{"", nil, "200", 0},
		{"<sip:ann@10.0.0.1:5060>;expires=3600", nil, "200", 1},
		{"<sip:ann@10.0.0.1:5060>", []string{"Expires: 7200"}, "200", 1}, // an hour at most
		{"<sip:ann@10.0.0.2>;expires=59", nil, "423", 0},
		{"<sip:ann@10.0.0.2>;expires=abc", nil, "400", 0},
		{"<sip:ann@10.0.0.2>;expires=99999999999999", nil, "400", 0},
		{"<http://10.0.0.2>", nil, "400", 0},
		{"*", nil, "400", 0}, // without Expires: 0
		{"<sip:ann@10.0.0.2>", []string{"Require: gruu"}, "420", 0},
		{"<sip:ann@10.0.0.2>;+sip.instance=\"<urn:uuid:1>\"", nil, "200", 2},
		{"<sip:ann@10.0.0.3>;+sip.instance=\"<urn:uuid:1>\"", nil, "200", 2},                      // the same phone after a restart
		{"<sip:a@10.0.1.1>, <sip:a@10.0.1.2>, <sip:a@10.0.1.3>, <sip:a@10.0.1.4>", nil, "200", 5}, // five at most
		{"<sip:a@10.0.1.1>, <sip:a@10.0.1.2>, <sip:a@10.0.1.3>, <sip:a@10.0.1.4>, <sip:a@10.0.1.5>, <sip:a@10.0.1.6>", nil, "400", 0},
		{"*", []string{"Expires: 0"}, "200", 0},
	} {
		got := r.registers(w, 10*i+1, c.contact, c.more...)
		if code(got) != c.want || strings.Count(got, "\r\nContact: ") != c.listed {
			t.Errorf("Contact %q %q gives %q, want %s with %d contacts", c.contact, c.more, got, c.want, c.listed)
		}
		if strings.Contains(got, "expires=7200") {
			t.Error("a registration for two hours was taken")
		}
	}
	if w.door.Registered(w.ann.Person) {
		t.Error("a phone is registered that took it back")
	}
	r.registers(w, 900, "<sip:ann@10.0.0.1>")
	if got := r.registers(w, 800, "<sip:ann@10.0.0.1>"); code(got) != "500" {
		t.Errorf("an old REGISTER gives %q", got)
	}
	// Nobody registers for somebody else.
	uri := "sip:" + r.to.String()
	lines := []string{"REGISTER " + uri + " SIP/2.0", "VIA", "From: <sip:" + w.annName + "@HERE>;tag=r", "To: <sip:" + nobodyName + "@THERE>", "Call-ID: other", "CSeq: 1 REGISTER", "Contact: <sip:x@HERE>"}
	r.send(lines...)
	challenge := r.answer(2 * time.Second)
	r.send(append(lines, proof(challenge, "REGISTER", uri, w.annName, w.annPass))...)
	if got := r.answer(2 * time.Second); code(got) != "403" {
		t.Errorf("registering for another gives %q", got)
	}
}

// rings takes a call that the room sends to ann's registered phones.
func (w *world) rings(phones []capture.Handset) (line func() (capture.Line, error), hangup func()) {
	w.t.Helper()
	if len(phones) == 0 {
		w.t.Fatal("no phone is registered")
	}
	h := capture.AnyOf(phones...)
	type outcome struct {
		line capture.Line
		err  error
	}
	got := make(chan outcome, 1)
	ctx, cancel := context.WithTimeout(w.ctx, 20*time.Second)
	w.t.Cleanup(cancel)
	go func() {
		line, err := h.Connect(ctx, capture.Ends{Left: func(error) {}})
		got <- outcome{line, err}
	}()
	return func() (capture.Line, error) { o := <-got; return o.line, o.err }, h.Hangup
}

func background(do func()) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	return done
}

// A registered phone is rung where it registered from, whatever it names: that
// is how calls pass its NAT. Over a connection they come on that connection,
// and over TLS their sound is encrypted by keys inside of it.
func TestRegisteredPhoneRings(t *testing.T) {
	t.Parallel()
	for _, over := range []string{"UDP", "TCP", "TLS"} {
		t.Run(over, func(t *testing.T) {
			t.Parallel()
			a := newAuthority(t)
			w := byLine(t, a, nil)
			r := map[string]func() *raw{
				"UDP": func() *raw { return newRaw(t, w.door.Address()) },
				"TCP": func() *raw { return newLine(t, w.door.Address(), nil) },
				"TLS": func() *raw {
					return newLine(t, w.door.Secure(), &tls.Config{RootCAs: a.pool(), ServerName: "calls.test"})
				},
			}[over]()
			if got := r.registers(w, 1, "<sip:ann@10.9.9.9:5060>"); code(got) != "200" {
				t.Fatalf("REGISTER gives %q", got)
			}
			picked, hangup := w.rings(w.door.Ring(w.ann.Person))
			defer hangup()
			invite := r.gets("INVITE")
			if !strings.HasPrefix(invite, "INVITE sip:ann@10.9.9.9:5060") || strings.Contains(invite, bobNumber) || !strings.Contains(header(invite, "From"), "anonymous") {
				t.Errorf("the INVITE is %s", invite)
			}
			body := sdp("127.0.0.1", 4000, "")
			if over == "TLS" {
				if !strings.Contains(invite, "RTP/SAVP") || strings.Count(invite, "a=crypto:") != 4 {
					t.Fatalf("over TLS the INVITE is %s", invite)
				}
				r.says(invite, "488 Not Acceptable Here", "") // this phone does not encrypt
				r.gets("ACK")
				invite = r.gets("INVITE")
			}
			if strings.Contains(invite, "crypto") {
				t.Errorf("the INVITE is %s", invite)
			}
			r.says(invite, "200 OK", body)
			r.gets("ACK")
			if line, err := picked(); err != nil || line.Stream == nil {
				t.Errorf("picking up gives %v", err)
			}
			gone := background(hangup)
			r.says(r.gets("BYE"), "200 OK", "")
			<-gone
		})
	}
}

func TestRegisteredPhoneOverTLSEncrypts(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	w := byLine(t, a, nil)
	r := newLine(t, w.door.Secure(), &tls.Config{RootCAs: a.pool(), ServerName: "calls.test"})
	r.registers(w, 1, "<sip:ann@10.9.9.9:5060>")
	for name, c := range map[string]struct {
		line string
		want error
	}{
		"a key of a suite that was offered": {"a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw\r\n", nil},
		"another tag":                       {"a=crypto:9 AES_CM_128_HMAC_SHA1_80 inline:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw\r\n", capture.ErrNoCodec},
		"another suite for the tag":         {"a=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw\r\n", capture.ErrNoCodec},
		"no key":                            {"", capture.ErrNoCodec},
	} {
		picked, hangup := w.rings(w.door.Ring(w.ann.Person))
		invite := r.gets("INVITE")
		r.says(invite, "200 OK", strings.Replace(sdp("127.0.0.1", 4000, c.line), "RTP/AVP", "RTP/SAVP", 1))
		r.gets("ACK")
		if _, err := picked(); err != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		gone := background(hangup)
		r.says(r.gets("BYE"), "200 OK", "")
		<-gone
	}
	picked, hangup := w.rings(w.door.Ring(w.ann.Person))
	defer hangup()
	r.says(r.gets("INVITE"), "200 OK", sdp("127.0.0.1", 4000, "")) // in clear, though it was not offered
	r.gets("ACK")
	if _, err := picked(); err != capture.ErrNoCodec {
		t.Errorf("an answer in clear gives %v", err)
	}
	gone := background(hangup)
	r.says(r.gets("BYE"), "200 OK", "")
	<-gone
	other := newRaw(t, w.door.Address())
	other.registers(w, 20, "<sip:ann@HERE>")
	r.stream.Close()
	time.Sleep(100 * time.Millisecond)
	if got := w.door.Ring(w.ann.Person); len(got) != 1 {
		t.Errorf("%d phones ring, want the one whose connection did not end", len(got))
	}
	ok(t, w.sessions.EndDevice(w.ctx, w.ann.Person, w.ann.ID))
	if got := w.door.Ring(w.ann.Person); len(got) > 0 {
		t.Error("a phone that was disconnected from its account is rung")
	}
}

// A trunk that wants it is told where we are, and told when we go.
func TestTrunkIsRegisteredWith(t *testing.T) {
	t.Parallel()
	conn := newCarrierConn(t)
	w := open(t, setup{cfg: func(c *sip.Config) {
		c.Trunk = conn.address()
		c.TrunkAccount = account("us", "secret")
		c.TrunkAccount.Register = true
	}})
	first := conn.gets("REGISTER")
	if !strings.Contains(header(first, "From"), "sip:us@") || header(first, "Expires") != "600" {
		t.Errorf("the REGISTER is %s", first)
	}
	conn.says(first, "401 Unauthorized", "t", "", `WWW-Authenticate: Digest realm="trunk", nonce="n", algorithm=SHA-256, qop="auth"`)
	second := conn.gets("REGISTER")
	if !strings.Contains(header(second, "Authorization"), `username="us"`) || strings.Contains(second, "secret") || header(second, "CSeq") != "2 REGISTER" {
		t.Errorf("the second REGISTER is %s", second)
	}
	conn.says(second, "200 OK", "t", "", "Expires: 600")
	closed := make(chan error, 1)
	go func() { closed <- w.door.Close() }()
	last := conn.gets("REGISTER")
	if header(last, "Expires") != "0" {
		t.Errorf("the last REGISTER is %s", last)
	}
	conn.says(last, "200 OK", "t", "")
	ok(t, <-closed)
}

// What stands between a phone and us is kept open by a word that says nothing.
func TestPhoneBehindANAT(t *testing.T) {
	t.Parallel()
	slow(t)
	w := open(t, setup{})
	behind, beside := newRaw(t, w.door.Address()), newRawAt(t, w.door.Address(), "127.0.0.3")
	behind.registers(w, 1, "<sip:ann@10.0.0.7:5060>")
	beside.registers(w, 1, "<sip:ann@HERE>")
	if got := behind.read(27 * time.Second); got != "\r\n\r\n" {
		t.Errorf("the phone behind a NAT got %q", got)
	}
	if got := beside.read(time.Second); got != "" {
		t.Errorf("the phone beside us got %q", got)
	}
}
