package sip_test

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// raw is a telephone by hand: it sends any bytes and reads what comes back.
type raw struct {
	t    *testing.T
	conn *net.UDPConn
	to   netip.AddrPort
	seq  int
	// Over a connection these are used instead of conn.
	stream net.Conn
	lines  *bufio.Reader
}

// newLine is a raw over TCP, or TLS where config is not nil.
func newLine(t *testing.T, to netip.AddrPort, config *tls.Config) *raw {
	t.Helper()
	conn := must(net.Dial("tcp", to.String()))(t)
	t.Cleanup(func() { conn.Close() })
	if config != nil {
		conn = tls.Client(conn, config)
	}
	return &raw{t: t, to: to, stream: conn, lines: bufio.NewReader(conn)}
}

// over is the transport as a Via names it.
func (r *raw) over() string {
	if r.stream == nil {
		return "UDP"
	}
	if _, is := r.stream.(*tls.Conn); is {
		return "TLS"
	}
	return "TCP"
}

// read gives the next message; "" when none comes.
func (r *raw) read(wait time.Duration) string {
	r.t.Helper()
	if r.stream == nil {
		buf := make([]byte, 65536)
		r.conn.SetReadDeadline(time.Now().Add(wait))
		n, _ := r.conn.Read(buf)
		return string(buf[:n])
	}
	r.stream.SetReadDeadline(time.Now().Add(wait))
	head, length := "", 0
	for {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			return ""
		}
		if line == "\r\n" && head == "" {
			return "\r\n" // kept alive
		}
		head += line
		fmt.Sscanf(line, "Content-Length: %d", &length)
		if line == "\r\n" {
			body := make([]byte, length)
			io.ReadFull(r.lines, body)
			return head + string(body)
		}
	}
}

func newRaw(t *testing.T, to netip.AddrPort) *raw { return newRawAt(t, to, "127.0.0.1") }

// newRawAt is newRaw at another address of this machine.
func newRawAt(t *testing.T, to netip.AddrPort, ip string) *raw {
	t.Helper()
	conn := must(net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(ip)}))(t)
	t.Cleanup(func() { conn.Close() })
	return &raw{t: t, conn: conn, to: to}
}

func (r *raw) here() string {
	if r.stream != nil {
		return r.stream.LocalAddr().String()
	}
	return r.conn.LocalAddr().String()
}

func (r *raw) send(lines ...string) { r.sendBody("", lines...) }

// sendBody sends a message; "VIA", "HERE" and "THERE" stand for our Via, our
// address and the door's.
func (r *raw) sendBody(body string, lines ...string) {
	r.t.Helper()
	r.seq++
	via := fmt.Sprintf("Via: SIP/2.0/%s %s;rport;branch=z9hG4bK%s%d", r.over(), r.here(), hex.EncodeToString([]byte(r.here()))[:12], r.seq)
	msg := strings.Join(lines, "\r\n") + fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	msg = strings.NewReplacer("VIA", via, "HERE", r.here(), "THERE", r.to.String()).Replace(msg)
	r.write(msg)
}

func (r *raw) write(msg string) {
	r.t.Helper()
	var err error
	if r.stream != nil {
		_, err = r.stream.Write([]byte(msg))
	} else {
		_, err = r.conn.WriteToUDPAddrPort([]byte(msg), r.to)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// answer reads the next final response, or "" when none comes.
func (r *raw) answer(wait time.Duration) string {
	r.t.Helper()
	for {
		if msg := r.read(wait); !strings.HasPrefix(msg, "SIP/2.0 1") {
			return msg
		}
	}
}

// gets waits for a request of the door.
func (r *raw) gets(method string) string {
	r.t.Helper()
	return r.getsWithin(method, 5*time.Second)
}

func (r *raw) getsWithin(method string, wait time.Duration) string {
	r.t.Helper()
	for {
		msg := r.read(wait)
		if msg == "" {
			r.t.Fatalf("no %s came", method)
		}
		if strings.HasPrefix(msg, method+" ") {
			return msg
		}
	}
}

// says answers a request of the door.
func (r *raw) says(to, status, body string, more ...string) {
	r.t.Helper()
	remote := header(to, "To")
	if !strings.Contains(remote, "tag=") {
		remote += ";tag=raw"
	}
	lines := append([]string{"SIP/2.0 " + status, "Via: " + header(to, "Via"), "From: " + header(to, "From"), "To: " + remote,
		"Call-ID: " + header(to, "Call-ID"), "CSeq: " + header(to, "CSeq"), "Contact: <sip:x@" + r.here() + ">"}, more...)
	if body != "" {
		lines = append(lines, "Content-Type: application/sdp")
	}
	r.write(strings.Join(lines, "\r\n") + fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
}

// challenged reports whether the door still asks who calls.
func (r *raw) challenged(user string) bool {
	r.send("INVITE sip:+12025550102@THERE SIP/2.0", "VIA", "From: <sip:"+user+"@HERE>;tag=alive", "To: <sip:+12025550102@THERE>",
		fmt.Sprintf("Call-ID: alive%d", r.seq), "CSeq: 1 INVITE", "Contact: <sip:x@HERE>")
	return code(r.answer(2*time.Second)) == "401"
}

func code(answer string) string {
	if len(answer) < 11 {
		return ""
	}
	return answer[8:11]
}

func header(msg, name string) string {
	for line := range strings.SplitSeq(msg, "\r\n") {
		if rest, found := strings.CutPrefix(line, name+": "); found {
			return rest
		}
	}
	return ""
}

func word(s, name string) string {
	_, rest, _ := strings.Cut(s, name+"=")
	rest = strings.TrimPrefix(rest, `"`)
	end := strings.IndexAny(rest, `",`)
	if end < 0 {
		end = len(rest)
	}
	return rest[:end]
}

// proof answers a challenge in its own algorithm.
func proof(challenge, method, uri, user, pass string) string {
	ch := header(challenge, "WWW-Authenticate")
	alg, realm, nonce := word(ch, "algorithm"), word(ch, "realm"), word(ch, "nonce")
	hash := func(s string) string {
		if alg == "MD5" {
			sum := md5.Sum([]byte(s))
			return hex.EncodeToString(sum[:])
		}
		sum := sha256.Sum256([]byte(s))
		return hex.EncodeToString(sum[:])
	}
	response := hash(hash(user+":"+realm+":"+pass) + ":" + nonce + ":00000001:c:auth:" + hash(method+":"+uri))
	return fmt.Sprintf(`Authorization: Digest username="%s", realm="%s", nonce="%s", uri="%s", response="%s", algorithm=%s, qop=auth, nc=00000001, cnonce="c"`,
		user, realm, nonce, uri, response, alg)
}

func sdp(ip string, port int, more string) string {
	return fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 %s\r\ns=-\r\nc=IN IP4 %s\r\nt=0 0\r\nm=audio %d RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n%s",
		ip, ip, port, more)
}

// invite places a call by hand, digest and ACK included, and gives the 200.
func (r *raw) invite(w *world, number, callID, body string) string {
	r.t.Helper()
	answer := r.invited(w, number, callID, body)
	if code(answer) == "200" {
		r.ack(answer)
	}
	return answer
}

func (r *raw) invited(w *world, number, callID, body string) string {
	r.t.Helper()
	uri := "sip:" + number + "@" + r.to.String()
	lines := []string{"INVITE " + uri + " SIP/2.0", "VIA", "From: <sip:" + w.annName + "@HERE>;tag=a1", "To: <" + uri + ">", "Call-ID: " + callID,
		"CSeq: 1 INVITE", "Contact: <sip:x@HERE>", "Max-Forwards: 70"}
	if body != "" {
		lines = append(lines, "Content-Type: application/sdp")
	}
	r.sendBody(body, lines...)
	challenge := r.answer(2 * time.Second)
	if code(challenge) != "401" {
		return challenge
	}
	lines[5] = "CSeq: 2 INVITE"
	r.sendBody(body, append(lines, proof(challenge, "INVITE", uri, w.annName, w.annPass))...)
	return r.answer(2 * time.Second)
}

func (r *raw) ack(ok string) { r.ackWith(ok, "CSeq: 2 ACK", "") }

func (r *raw) ackWith(ok, cseq, body string) {
	lines := []string{"ACK sip:THERE SIP/2.0", "VIA", "From: " + header(ok, "From"), "To: " + header(ok, "To"), "Call-ID: " + header(ok, "Call-ID"), cseq}
	if body != "" {
		lines = append(lines, "Content-Type: application/sdp")
	}
	r.sendBody(body, lines...)
}

// within sends a request in the call that ok began.
func (r *raw) within(ok, method string, cseq int, body string, more ...string) string {
	lines := append([]string{method + " sip:THERE SIP/2.0", "VIA", "From: " + header(ok, "From"), "To: " + header(ok, "To"),
		"Call-ID: " + header(ok, "Call-ID"), fmt.Sprintf("CSeq: %d %s", cseq, method), "Contact: <sip:x@HERE>"}, more...)
	if body != "" && len(more) == 0 {
		lines = append(lines, "Content-Type: application/sdp")
	}
	r.sendBody(body, lines...)
	return r.answer(2 * time.Second)
}

func mediaPort(answer string) (port int) {
	_, rest, _ := strings.Cut(answer, "m=audio ")
	fmt.Sscanf(rest, "%d", &port)
	return port
}

// rtp makes a packet of 20 ms.
func rtp(kind byte, seq uint16, stamp, ssrc uint32, payload []byte) []byte {
	b := []byte{0x80, kind, byte(seq >> 8), byte(seq), byte(stamp >> 24), byte(stamp >> 16), byte(stamp >> 8), byte(stamp),
		byte(ssrc >> 24), byte(ssrc >> 16), byte(ssrc >> 8), byte(ssrc)}
	return append(b, payload...)
}

var voice = bytes.Repeat([]byte{0x20}, 160)

// speaks sends sound to where an answer says until stop; say sends one packet
// of another kind in between.
func (r *raw) speaks(answer string) (say func(kind byte, payload []byte), stop func()) {
	r.t.Helper()
	conn := must(net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}))(r.t)
	door := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: mediaPort(answer)}
	done, ended, other := make(chan struct{}), make(chan struct{}), make(chan []byte)
	go func() {
		defer close(ended)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for seq := uint16(1); ; {
			select {
			case <-done:
				return
			case p := <-other:
				conn.WriteToUDP(rtp(p[0], seq, uint32(seq)*160, 7, p[1:]), door)
			case <-tick.C:
				conn.WriteToUDP(rtp(0, seq, uint32(seq)*160, 7, voice), door)
			}
			seq++
		}
	}()
	return func(kind byte, payload []byte) { other <- append([]byte{kind}, payload...) }, func() {
		close(done)
		<-ended
		conn.Close()
	}
}
