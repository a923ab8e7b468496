package sip_test

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
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
}

func newRaw(t *testing.T, to netip.AddrPort) *raw { return newRawAt(t, to, "127.0.0.1") }

// newRawAt is newRaw at another address of this machine.
func newRawAt(t *testing.T, to netip.AddrPort, ip string) *raw {
	t.Helper()
	conn := must(net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(ip)}))(t)
	t.Cleanup(func() { conn.Close() })
	return &raw{t: t, conn: conn, to: to}
}

func (r *raw) here() string { return r.conn.LocalAddr().String() }

func (r *raw) send(lines ...string) { r.sendBody("", lines...) }

// sendBody sends a message; "VIA", "HERE" and "THERE" stand for our Via, our
// address and the door's.
func (r *raw) sendBody(body string, lines ...string) {
	r.t.Helper()
	r.seq++
	via := fmt.Sprintf("Via: SIP/2.0/UDP %s;rport;branch=z9hG4bK%s%d", r.here(), hex.EncodeToString([]byte(r.here()))[:12], r.seq)
	msg := strings.Join(lines, "\r\n") + fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	msg = strings.NewReplacer("VIA", via, "HERE", r.here(), "THERE", r.to.String()).Replace(msg)
	if _, err := r.conn.WriteToUDPAddrPort([]byte(msg), r.to); err != nil {
		r.t.Fatal(err)
	}
}

// answer reads the next final response, or "" when none comes.
func (r *raw) answer(wait time.Duration) string {
	r.t.Helper()
	buf := make([]byte, 65536)
	r.conn.SetReadDeadline(time.Now().Add(wait))
	for {
		n, err := r.conn.Read(buf)
		if err != nil {
			return ""
		}
		if msg := string(buf[:n]); !strings.HasPrefix(msg, "SIP/2.0 1") {
			return msg
		}
	}
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
