package phone

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A peer is a hand-written other side: it sends and receives packets as text,
// so that these tests lean on none of the phone's own code.
type peer struct {
	t      *testing.T
	socket *net.UDPConn
	phone  netip.AddrPort
}

func newPeer(t *testing.T) *peer {
	t.Helper()
	socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	return &peer{t: t, socket: socket}
}

func (p *peer) address() string { return p.socket.LocalAddr().String() }

// next gives the next packet, which must begin with want.
func (p *peer) next(want string) string {
	p.t.Helper()
	buffer := make([]byte, maxPacket)
	p.socket.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, from, err := p.socket.ReadFromUDPAddrPort(buffer)
	if err != nil {
		p.t.Fatalf("waiting for %q: %v", want, err)
	}
	p.phone = from
	text := string(buffer[:n])
	if !strings.HasPrefix(text, want) {
		p.t.Fatalf("got %q, want %q", firstLine(text), want)
	}
	return text
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\r\n")
	return line
}

func (p *peer) send(lines ...string) {
	p.socket.WriteToUDPAddrPort([]byte(strings.Join(lines, "\r\n")), p.phone)
}

// line gives the value of a header line.
func line(packet, name string) string {
	for _, l := range strings.Split(packet, "\r\n") {
		if value, ok := strings.CutPrefix(l, name+": "); ok {
			return value
		}
	}
	return ""
}

// reply answers a request of the phone.
func (p *peer) reply(request, status string, more ...string) {
	to := line(request, "To")
	if !strings.Contains(to, "tag=") {
		to += ";tag=theirs"
	}
	p.send(append([]string{
		"SIP/2.0 " + status, "v: " + line(request, "Via"), "f: " + line(request, "From"), "t: " + to,
		"i: " + line(request, "Call-ID"), "CSeq: " + line(request, "CSeq"),
	}, more...)...)
}

func body(direction string, port int) string {
	return fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"+
		"m=audio %d RTP/AVP 8 0 97\r\na=rtpmap:97 telephone-event/8000\r\na=%s\r\nm=video 9 RTP/AVP 31\r\n", port, direction)
}

func called(p *Phone, ctx context.Context, server string) chan answered {
	result := make(chan answered, 1)
	go func() {
		call, err := p.Call(ctx, server, "+15550100")
		result <- answered{call, err}
	}()
	return result
}

// RFC 7616 section 3.9.1, both algorithms.
func TestDigestOfTheRFC(t *testing.T) {
	t.Parallel()
	for algorithm, want := range map[string]string{
		"MD5":     "8ca523f5e9506fed4657c9700eebdbec",
		"SHA-256": "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
	} {
		ch := challenge{realm: "http-auth@example.org", nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", algorithm: algorithm}
		got := ch.response("Mufasa", "Circle of Life", "GET", "/dir/index.html", "00000001", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ")
		if got != want {
			t.Errorf("%s: got %s, want %s", algorithm, got, want)
		}
	}
}

func TestItAnswersTheStrongestChallengeItKnows(t *testing.T) {
	t.Parallel()
	for _, old := range []bool{false, true} {
		server := newPeer(t)
		ann := open(t, Config{User: `a"nn`, Password: "secret", OldMD5: old})
		result := called(ann, deadline(t), server.address())
		first := server.next("INVITE sip:+15550100@")
		server.reply(first, "401 Unauthorized",
			`WWW-Authenticate: Digest realm="y", nonce="n1", qop="auth,auth-int", algorithm=SHA-512-256`,
			`WWW-Authenticate: Digest realm="y, \"z\"", nonce="n2", qop="auth", algorithm=SHA-256, opaque="o", Digest realm="y", nonce="n3", qop="auth", algorithm=MD5`,
			"", "")
		if ack := server.next("ACK "); line(ack, "Via") != line(first, "Via") || !strings.HasSuffix(line(ack, "To"), ";tag=theirs") {
			t.Errorf("the ACK is not of the refused INVITE: %q", ack)
		}
		second := server.next("INVITE ")
		proof := line(second, "Authorization")
		ch := challenge{realm: `y, "z"`, nonce: "n2", algorithm: "SHA-256"}
		if old {
			ch = challenge{realm: "y", nonce: "n3", algorithm: "MD5"}
		}
		_, rest, _ := strings.Cut(proof, `cnonce="`)
		client, _, _ := strings.Cut(rest, `"`)
		uri := strings.Fields(firstLine(second))[1]
		want := ch.response(`a"nn`, "secret", "INVITE", uri, "00000001", client)
		for _, part := range []string{
			`username="a\"nn"`, "realm=" + quote(ch.realm), `nonce="` + ch.nonce + `"`, `uri="` + uri + `"`,
			`response="` + want + `"`, "qop=auth", "nc=00000001", "algorithm=" + ch.algorithm,
		} {
			if !strings.Contains(proof, part) {
				t.Errorf("%s is not in %s", part, proof)
			}
		}
		if line(second, "CSeq") != "2 INVITE" || line(second, "Call-ID") != line(first, "Call-ID") {
			t.Errorf("the second INVITE: %q", second)
		}
		// A second challenge means that the password is wrong.
		server.reply(second, "401 Unauthorized", `WWW-Authenticate: Digest realm="y", nonce="n4", qop="auth"`, "", "")
		server.next("ACK ")
		if got := <-result; got.err == nil || !strings.Contains(got.err.Error(), "401") {
			t.Errorf("got %v", got.err)
		}
	}
}

func TestChallengesItCannotAnswer(t *testing.T) {
	t.Parallel()
	for _, field := range []string{
		"", "Basic realm=x", `Digest realm="x", nonce="n"`, `Digest nonce="n", qop="auth", algorithm=MD5-sess`,
		`Digest nonce="n", qop="auth-int"`, `Digest qop="auth"`, `Digest nonce="unended`, `=`, `Digest ===`,
	} {
		if ch, err := choose([]string{field}, false); err == nil {
			t.Errorf("%q: chose %+v", field, ch)
		}
	}
}

func TestInviteAndAckAreSentAgain(t *testing.T) {
	t.Parallel()
	ctx := deadline(t)
	server := newPeer(t)
	ann := open(t, Config{})
	result := called(ann, ctx, server.address())
	first := server.next("INVITE ")
	again := server.next("INVITE ") // after T1, since nobody answered
	if first != again {
		t.Error("the second is not the first again")
	}
	for range 12 { // more 18x than any carrier sends
		server.reply(again, "180 Ringing", "", "")
	}
	ok := func() {
		server.reply(again, "200 OK", "Contact: <sip:there@127.0.0.1:9>", "Content-Type: application/sdp", "", body("sendrecv", 40000))
	}
	ok()
	ack := server.next("ACK sip:there@127.0.0.1:9 ")
	ok() // as if the ACK was lost
	if server.next("ACK ") != ack {
		t.Error("another ACK")
	}
	got := <-result
	if got.err != nil {
		t.Fatal(got.err)
	}
	if got.call.Codec() != PCMA {
		t.Error("the answer said A-law first")
	}
	hanging := make(chan error, 1)
	go func() { hanging <- got.call.Hangup(ctx) }()
	server.next("BYE sip:there@127.0.0.1:9 ")
	bye := server.next("BYE ") // again after T1
	if line(bye, "CSeq") != "2 BYE" {
		t.Errorf("BYE has %s", line(bye, "CSeq"))
	}
	server.reply(bye, "200 OK", "", "")
	if err := <-hanging; err != nil {
		t.Error(err)
	}
}

// call is a call from the peer to the phone, answered.
func (p *peer) call(phone *Phone, ctx context.Context, sdp string) (*Call, string) {
	p.t.Helper()
	p.phone = netip.MustParseAddrPort(phone.Address())
	there := make(chan answered, 1)
	go func() {
		call, err := phone.Answer(ctx)
		there <- answered{call, err}
	}()
	p.ask("INVITE", 1, "", sdp)
	p.next("SIP/2.0 180 ")
	ok := p.next("SIP/2.0 200 ")
	ackBody := ""
	if sdp == "" {
		ackBody = body("sendrecv", 40000)
	}
	p.ask("ACK", 1, line(ok, "To"), ackBody)
	got := <-there
	if got.err != nil {
		p.t.Fatal(got.err)
	}
	return got.call, ok
}

func (p *peer) ask(method string, seq int, to, sdp string) {
	if to == "" {
		to = "<sip:+15550100@127.0.0.1>"
	}
	p.send(method+" sip:%2B15550100@127.0.0.1 SIP/2.0",
		fmt.Sprintf("Via: SIP/2.0/UDP %s;rport;branch=z9hG4bK%s%d", p.address(), strings.Replace(method, "CANCEL", "INVITE", 1), seq),
		"Record-Route: <sip:route@127.0.0.1;lr>",
		`From: "The; <Peer" <sip:peer@127.0.0.1>;tag=peers`, "To: "+to, "Call-ID: the call", fmt.Sprintf("CSeq: %d %s", seq, method),
		"Contact: <sip:peer@"+p.address()+">", "Subject: a folded", "\tline", fmt.Sprintf("l: %d", len(sdp)), "", sdp)
}

func TestACallFromOutside(t *testing.T) {
	t.Parallel()
	ctx := deadline(t)
	outside := newPeer(t)
	sound := newPeer(t).socket
	port := int(sound.LocalAddr().(*net.UDPAddr).Port)
	bob := open(t, Config{})
	call, ok := outside.call(bob, ctx, body("sendrecv", port))
	if call.From() != "peer" || call.Number() != "+15550100" || call.Codec() != PCMU {
		t.Errorf("from %q to %q, codec %d", call.From(), call.Number(), call.Codec())
	}
	if line(ok, "Record-Route") != "<sip:route@127.0.0.1;lr>" || !strings.Contains(line(ok, "Via"), "rport=") {
		t.Errorf("answer: %q", ok)
	}
	for _, want := range []string{" RTP/AVP 0 97\r\n", "a=rtpmap:97 telephone-event/8000", "a=sendrecv", "m=video 0 RTP/AVP 31"} {
		if !strings.Contains(ok, want) {
			t.Errorf("the answer has no %q: %q", want, ok)
		}
	}
	to := line(ok, "To")
	packet := make([]byte, 2048)
	sends := func() bool {
		for { // what came before is not what is asked
			sound.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := sound.Read(packet); err != nil {
				break
			}
		}
		sound.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, err := sound.Read(packet)
		return err == nil
	}
	if !sends() {
		t.Error("it sends nothing")
	}

	// Put on hold, and taken back.
	outside.ask("INVITE", 2, to, body("sendonly", port))
	held := outside.next("SIP/2.0 200 ")
	if !strings.Contains(held, "a=recvonly") || !strings.Contains(held, " 2 IN IP4") {
		t.Errorf("the answer to hold: %q", held)
	}
	outside.ask("INVITE", 2, to, body("sendonly", port))
	if outside.next("SIP/2.0 200 ") != held {
		t.Error("the same INVITE again gets another answer")
	}
	if sends() {
		t.Error("it sends while it is held")
	}
	outside.ask("ACK", 2, to, "")
	outside.ask("UPDATE", 3, to, body("sendrecv", 40002))
	if back := outside.next("SIP/2.0 200 "); !strings.Contains(back, "a=sendrecv") {
		t.Errorf("the answer to taking back: %q", back)
	}
	if _, remote := call.Media(); remote.Port() != 40002 {
		t.Errorf("it sends to %v", remote)
	}
	outside.ask("INVITE", 4, to, "") // tell me again
	outside.next("SIP/2.0 200 ")
	outside.ask("INVITE", 5, to, "v=0\r\nm=audio 4 RTP/AVP 3\r\nc=IN IP4 127.0.0.1\r\n")
	outside.next("SIP/2.0 488 ")
	outside.ask("INVITE", 6, to, strings.Replace(body("sendrecv", 40002), "8 0 97", "8", 1))
	outside.next("SIP/2.0 488 ") // a call keeps its codec
	outside.ask("INFO", 7, to, "")
	outside.next("SIP/2.0 200 ")
	outside.ask("OPTIONS", 8, "", "")
	outside.next("SIP/2.0 200 ")
	outside.ask("REFER", 9, to, "")
	outside.next("SIP/2.0 405 ")
	outside.ask("BYE", 10, to+"x", "")
	outside.next("SIP/2.0 481 ")
	outside.ask("INVITE", 11, to+"x", body("sendrecv", 40000))
	outside.next("SIP/2.0 481 ")
	outside.ask("CANCEL", 12, "", "")
	outside.next("SIP/2.0 481 ")
	outside.ask("BYE", 13, to, "")
	outside.next("SIP/2.0 200 ")
	<-call.Done()
	outside.ask("BYE", 13, to, "")
	outside.next("SIP/2.0 200 ") // its answer may have been lost
}

func TestALateOffer(t *testing.T) {
	t.Parallel()
	outside := newPeer(t)
	bob := open(t, Config{})
	call, ok := outside.call(bob, deadline(t), "")
	if !strings.Contains(ok, "RTP/AVP 0 8 101") {
		t.Errorf("the offer: %q", ok)
	}
	if _, remote := call.Media(); remote.Port() != 40000 || call.Codec() != PCMA {
		t.Errorf("the answer in the ACK was not taken: %v", remote)
	}
}

func TestTheAnswerIsSentUntilAcknowledged(t *testing.T) {
	t.Parallel()
	outside := newPeer(t)
	sound := newPeer(t).socket
	bob := open(t, Config{})
	outside.phone = netip.MustParseAddrPort(bob.Address())
	there := make(chan answered, 1)
	go func() {
		call, err := bob.Answer(deadline(t))
		there <- answered{call, err}
	}()
	outside.ask("INVITE", 1, "", body("sendrecv", sound.LocalAddr().(*net.UDPAddr).Port))
	outside.next("SIP/2.0 180 ")
	ok := outside.next("SIP/2.0 200 ")
	if outside.next("SIP/2.0 200 ") != ok {
		t.Error("another answer")
	}
	sound.SetReadDeadline(time.Now())
	if _, err := sound.Read(make([]byte, 1)); err == nil {
		t.Error("it speaks before it knows that it is heard")
	}
	outside.ask("ACK", 1, line(ok, "To"), "")
	if got := <-there; got.err != nil {
		t.Error(got.err)
	}
}

func TestAnOfferItDoesNotSpeak(t *testing.T) {
	t.Parallel()
	outside := newPeer(t)
	bob := open(t, Config{Codecs: []uint8{PCMA}})
	outside.phone = netip.MustParseAddrPort(bob.Address())
	there := make(chan error, 1)
	go func() {
		_, err := bob.Answer(deadline(t))
		there <- err
	}()
	outside.ask("INVITE", 1, "", strings.Replace(body("sendrecv", 40000), "8 0 97", "0", 1))
	outside.next("SIP/2.0 180 ")
	refusal := outside.next("SIP/2.0 488 ")
	outside.ask("ACK", 1, line(refusal, "To"), "")
	if err := <-there; err == nil {
		t.Error("answered")
	}
}

func TestALateYesIsHungUp(t *testing.T) {
	t.Parallel()
	server := newPeer(t)
	ann := open(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	result := called(ann, ctx, server.address())
	invite := server.next("INVITE ")
	server.reply(invite, "180 Ringing", "", "")
	time.Sleep(50 * time.Millisecond) // let it be read before the call is given up
	cancel()
	c := server.next("CANCEL ")
	if line(c, "Via") != line(invite, "Via") || line(c, "CSeq") != "1 CANCEL" {
		t.Errorf("the CANCEL: %q", c)
	}
	server.reply(invite, "200 OK", "Content-Type: application/sdp", "", body("sendrecv", 40000))
	server.next("ACK ")
	server.reply(server.next("BYE "), "200 OK", "", "")
	if got := <-result; got.err == nil {
		t.Error("the call stands")
	}
}

func TestANumberCannotBreakOut(t *testing.T) {
	t.Parallel()
	server := newPeer(t)
	ann := open(t, Config{User: "a\r\nX: y"})
	go ann.Call(deadline(t), server.address(), "1>;tag=x\r\nX-Evil: 1@#%")
	invite := server.next("INVITE sip:1%3E%3Btag=x%0D%0AX-Evil%3A%201%40%23%25@127.0.0.1")
	if strings.Contains(invite, "\nX") {
		t.Errorf("broke out: %q", invite)
	}
	if got := user(strings.Fields(firstLine(invite))[1]); got != "1>;tag=x\r\nX-Evil: 1@#%" {
		t.Errorf("the other side reads %q", got)
	}
	server.reply(invite, "404 Not Found", "", "")
}

func TestMessagesThatAreRefused(t *testing.T) {
	t.Parallel()
	const whole = "BYE sip:a@b SIP/2.0\r\nVia: x;branch=y\r\nFrom: a\r\nTo: b\r\nCall-ID: c\r\nCSeq: 1 BYE\r\nContent-Length: 2\r\n\r\nhi"
	if m, err := parse([]byte(whole)); err != nil || string(m.body) != "hi" {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"longer than it is": {"Length: 2", "Length: 3"},
		"less than nothing": {"Length: 2", "Length: -1"},
		"another CSeq":      {"1 BYE", "1 INVITE"},
		"no CSeq number":    {"1 BYE", "x BYE"},
		"no branch to name": {"Via: x;branch=y\r\n", ""},
		"a lone break":      {"From: a", "From: a\rX: y"},
		"a null":            {"From: a", "From: \x00"},
		"no colon":          {"From: a", "From a"},
		"no name":           {"From: a", ": a"},
		"another protocol":  {"SIP/2.0", "HTTP/1.1"},
		"a status of 99":    {"BYE sip:a@b SIP/2.0", "SIP/2.0 099 Hm"},
		"a status of words": {"BYE sip:a@b SIP/2.0", "SIP/2.0 abc Hm"},
		"too many fields":   {"From: a", strings.Repeat("X: y\r\n", maxFields) + "From: a"},
		"no end":            {"\r\n\r\nhi", ""},
		"too long":          {"hi", strings.Repeat("x", maxPacket)},
	} {
		packet := make([]byte, 0, 2*maxPacket) // room behind it, as in a read buffer
		if _, err := parse(append(packet, strings.Replace(whole, change[0], change[1], 1)...)); err == nil {
			t.Errorf("%s: was read", name)
		}
	}
}

func TestAFieldStaysOnItsLine(t *testing.T) {
	t.Parallel()
	m := &message{code: 200, reason: "OK\r\nA: b"}
	m.add("X\r\nC", "y\r\nD: e\x00")
	if got, want := string(m.bytes()), "SIP/2.0 200 OKA: b\r\nXC: yD: e\r\nContent-Length: 0\r\n\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMemoryForgets(t *testing.T) {
	t.Parallel()
	var m memory
	for i := range 2 * remembered {
		m.keep(fmt.Sprint(i), netip.AddrPort{}, nil)
		m.keep(fmt.Sprint(i), netip.AddrPort{}, []byte{1})
	}
	if len(m.kept) != remembered || len(m.order) != remembered || m.kept[fmt.Sprint(2*remembered-1)].packet == nil {
		t.Errorf("keeps %d", len(m.kept))
	}
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte("INVITE sip:1@127.0.0.1 SIP/2.0\r\nv: SIP/2.0/UDP 127.0.0.1:1;rport;branch=z9hG4bKa\r\nf: \"x\" <sip:a@b>;tag=1\r\nt: <sip:1@c>\r\ni: c\r\nCSeq: 1 INVITE\r\nl: 2\r\n\r\nhi"))
	f.Add([]byte("SIP/2.0 401 Unauthorized\r\nVia: a;branch=b\r\nFrom: a\r\nTo: b\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nWWW-Authenticate: Digest realm=\"r\\\"\", nonce=\"n\", qop=\"auth\"\r\n folded\r\n\r\n"))
	f.Fuzz(func(t *testing.T, packet []byte) {
		m, err := parse(packet)
		if err != nil {
			return
		}
		again, err := parse(m.bytes())
		if err != nil || string(again.bytes()) != string(m.bytes()) {
			t.Fatalf("%q is written as %q: %v", packet, m.bytes(), err)
		}
		m.branch()
		user(m.uri)
		if got := unescape(escape(m.uri)); got != m.uri {
			t.Errorf("%q escaped and back is %q", m.uri, got)
		}
		if ch, err := choose(m.all("WWW-Authenticate"), false); err == nil {
			ch.answer("u", "p", "INVITE", m.uri)
		}
		reply := m.reply(200, "tag", netip.MustParseAddrPort("127.0.0.1:5060"))
		if _, err := parse(reply.bytes()); err != nil && len(m.fields) < maxFields {
			t.Errorf("the reply to %q cannot be read: %v", packet, err)
		}
	})
}

func FuzzSDP(f *testing.F) {
	f.Add([]byte(body("sendrecv", 40000)))
	f.Add([]byte("c=IN IP6 ::1\nm=audio 5/2 RTP/AVP 0 8\na=inactive\nc=IN IP4 10.0.0.1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := parseSDP(text)
		if err != nil {
			return
		}
		again, err := parseSDP(d.bytes(1, 1))
		if err != nil || again.media != d.media || again.direction != d.direction || again.event != d.event || len(again.lines) != len(d.lines) {
			t.Errorf("%q is %+v, written and read %+v: %v", text, d, again, err)
		}
	})
}

func FuzzRTP(f *testing.F) {
	f.Add([]byte("\x80\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01sound"))
	f.Add([]byte("\xb1\xe5\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x01abcd\x01\x8a\x03\x20\x00\x02"))
	f.Fuzz(func(t *testing.T, packet []byte) {
		m := &media{codec: PCMU, hears: 101, moved: make(chan struct{})}
		if m.hear(packet, time.Now()) && len(m.heard) == 0 && len(m.events) == 0 {
			t.Error("taken, but nothing came of it")
		}
	})
}
