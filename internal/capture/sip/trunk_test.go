package sip_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"yesline/internal/capture/sip"
)

// carrier is a trunk by hand.
type carrier struct {
	t      *testing.T
	conn   *net.UDPConn
	invite string
	from   *net.UDPAddr
}

func withCarrier(t *testing.T) (*world, *carrier) {
	t.Helper()
	c := newCarrierConn(t)
	return open(t, setup{cfg: func(cfg *sip.Config) { cfg.Trunk = c.address() }}), c
}

func newCarrierConn(t *testing.T) *carrier {
	t.Helper()
	conn := must(net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}))(t)
	t.Cleanup(func() { conn.Close() })
	return &carrier{t: t, conn: conn}
}

func (c *carrier) address() netip.AddrPort {
	return netip.MustParseAddrPort(c.conn.LocalAddr().String())
}

// gets waits for a request of the door.
func (c *carrier) gets(method string) string {
	c.t.Helper()
	buf := make([]byte, 65536)
	c.conn.SetReadDeadline(time.Now().Add(8 * time.Second))
	for {
		n, from, err := c.conn.ReadFromUDP(buf)
		if err != nil {
			c.t.Fatalf("no %s came: %v", method, err)
		}
		if msg := string(buf[:n]); strings.HasPrefix(msg, method+" ") {
			c.from = from
			if method == "INVITE" {
				c.invite = msg
			}
			return msg
		}
	}
}

// says answers a request.
func (c *carrier) says(to, status, tag, body string, more ...string) {
	c.t.Helper()
	lines := []string{"SIP/2.0 " + status, "Via: " + header(to, "Via"), "From: " + header(to, "From"),
		"To: " + header(to, "To") + ";tag=" + tag, "Call-ID: " + header(to, "Call-ID"), "CSeq: " + header(to, "CSeq"),
		fmt.Sprintf("Contact: <sip:carrier@%s>", c.conn.LocalAddr()), "Record-Route: <sip:127.0.0.9;lr>, <sip:127.0.0.8;lr>"}
	lines = append(lines, more...)
	if body != "" {
		lines = append(lines, "Content-Type: application/sdp")
	}
	msg := strings.Join(lines, "\r\n") + fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	if _, err := c.conn.WriteToUDP([]byte(msg), c.from); err != nil {
		c.t.Fatal(err)
	}
}

func TestWhatTheTrunkIsAsked(t *testing.T) {
	t.Parallel()
	w, c := withCarrier(t)
	ann := w.dial("2025550102")
	invite := c.gets("INVITE")
	for _, want := range []string{"INVITE sip:" + bobNumber + "@", "From: <sip:+12025550100@", "Max-Forwards: 70", "m=audio ", " 0 8 101"} {
		if !strings.Contains(invite, want) {
			t.Errorf("the INVITE has no %q: %s", want, invite)
		}
	}
	if strings.Contains(invite, w.annName) || strings.Contains(invite, annNumber) {
		t.Error("the INVITE tells who calls")
	}
	c.says(invite, "486 Busy Here", "b", "")
	c.gets("ACK")
	<-ann.Done()
}

func TestEarlyMedia(t *testing.T) {
	t.Parallel()
	w, c := withCarrier(t)
	ann := w.dial(bobNumber)
	invite := c.gets("INVITE")
	sound := must(net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}))(t)
	defer sound.Close()
	c.says(invite, "183 Session Progress", "b", sdp("127.0.0.1", sound.LocalAddr().(*net.UDPAddr).Port, ""))
	ok(t, ann.Press(w.ctx, "2")) // asked and done: now she hears the network
	door := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: mediaPort(invite)}
	ringing := tone(620, 3*time.Second)
	for i := 0; i+160 <= len(ringing); i += 160 {
		sound.WriteToUDP(rtp(0, uint16(i/160), uint32(i), 9, ringing[i:i+160]), door)
		time.Sleep(20 * time.Millisecond)
	}
	w.hear(ann, 620)
	ok(t, ann.Hangup(w.ctx))
	c.says(c.gets("CANCEL"), "200 OK", "b", "")
	if row := w.ended(); row.Recording != "nobody" {
		t.Errorf("the row is %+v", row)
	}
	c.says(invite, "487 Request Terminated", "b", "")
}

// What the network sent before the answer is another source than the party's;
// a party that is silent until it presses 1 heard the question all the same.
func TestYesAfterEarlyMedia(t *testing.T) {
	t.Parallel()
	w, c := withCarrier(t)
	ann := w.dial(bobNumber)
	invite := c.gets("INVITE")
	sound := must(net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}))(t)
	defer sound.Close()
	body := sdp("127.0.0.1", sound.LocalAddr().(*net.UDPAddr).Port, "")
	door := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: mediaPort(invite)}
	c.says(invite, "183 Session Progress", "b", body)
	time.Sleep(100 * time.Millisecond)
	sound.WriteToUDP(rtp(0, 1, 160, 9, voice), door)
	time.Sleep(100 * time.Millisecond)
	c.says(invite, "200 OK", "b", body)
	c.gets("ACK")
	time.Sleep(time.Second)
	sound.WriteToUDP(rtp(101, 1, 4000, 10, []byte{1, 0x8a, 3, 0xc0}), door)
	ok(t, ann.Press(w.ctx, "2"))
	time.Sleep(200 * time.Millisecond)
	ok(t, ann.Hangup(w.ctx))
	c.says(c.gets("BYE"), "200 OK", "b", "")
	if row := w.ended(); !strings.Contains(row.Reason, "the callee said yes") {
		t.Errorf("the reason is %q", row.Reason)
	}
}

func TestRepeatedAnswerIsConfirmedAgain(t *testing.T) {
	t.Parallel()
	w, c := withCarrier(t)
	ann := w.dial(bobNumber)
	invite := c.gets("INVITE")
	for range 3 {
		c.says(invite, "200 OK", "b", sdp("127.0.0.1", 4000, ""))
		if ack := c.gets("ACK"); !strings.Contains(header(ack, "To"), "tag=b") || !strings.HasPrefix(header(ack, "CSeq"), "1 ") {
			t.Errorf("the ACK is %s", ack)
		}
	}
	c.says(invite, "200 OK", "fork", sdp("127.0.0.1", 4000, "")) // another phone picked up too
	if bye := c.gets("BYE"); !strings.Contains(header(bye, "To"), "tag=fork") {
		t.Errorf("the BYE is for %s, want the second phone", header(bye, "To"))
	} else {
		c.says(bye, "200 OK", "fork", "")
	}
	ok(t, ann.Hangup(w.ctx))
	bye := c.gets("BYE")
	if !strings.HasPrefix(bye, "BYE sip:carrier@") || !strings.Contains(header(bye, "To"), "tag=b") || header(bye, "Route") == "" {
		t.Errorf("the BYE is %s", bye)
	}
	c.says(bye, "200 OK", "b", "")
}

// The callee picks up in the moment in which the caller hangs up.
func TestAnswerCrossesCancel(t *testing.T) {
	t.Parallel()
	w, c := withCarrier(t)
	ann := w.dial(bobNumber)
	invite := c.gets("INVITE")
	c.says(invite, "180 Ringing", "b", "")
	time.Sleep(50 * time.Millisecond)
	ok(t, ann.Hangup(w.ctx))
	cancel := c.gets("CANCEL")
	if word(header(cancel, "Via")+",", "branch") != word(header(invite, "Via")+",", "branch") {
		t.Error("the CANCEL has another branch than its INVITE")
	}
	c.says(cancel, "200 OK", "b", "")
	c.says(invite, "200 OK", "b", sdp("127.0.0.1", 4000, ""))
	c.gets("ACK")
	c.says(c.gets("BYE"), "200 OK", "b", "")
}

// A CANCEL waits for a sign of life (RFC 3261, 9.1).
func TestCancelWaitsForAnAnswer(t *testing.T) {
	t.Parallel()
	w, c := withCarrier(t)
	ann := w.dial(bobNumber)
	invite := c.gets("INVITE")
	ok(t, ann.Hangup(w.ctx))
	buf := make([]byte, 2048)
	c.conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if n, err := c.conn.Read(buf); err == nil && strings.HasPrefix(string(buf[:n]), "CANCEL ") {
		t.Error("a CANCEL came before any sign of life")
	}
	c.says(invite, "100 Trying", "b", "")
	c.says(c.gets("CANCEL"), "200 OK", "b", "")
	c.says(invite, "487 Request Terminated", "b", "")
}

func TestTrunkAnswersWithoutACodec(t *testing.T) {
	t.Parallel()
	w, c := withCarrier(t)
	ann := w.dial(bobNumber)
	invite := c.gets("INVITE")
	c.says(invite, "200 OK", "b", strings.Replace(sdp("127.0.0.1", 4000, ""), " 0 101", " 18", 1))
	c.gets("ACK")
	w.hears(ann, "cannot_connect")
	c.says(c.gets("BYE"), "200 OK", "b", "")
	<-ann.Done()
}

func TestTrunkMayNotCall(t *testing.T) {
	t.Parallel()
	w, c := withCarrier(t)
	at := w.door.Address()
	msg := fmt.Sprintf("INVITE sip:x@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;rport;branch=z9hG4bKq\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:x@%s>\r\nCall-ID: q\r\nCSeq: 1 INVITE\r\nContact: <sip:a@b>\r\nContent-Length: 0\r\n\r\n", at, c.conn.LocalAddr(), at)
	c.conn.WriteToUDPAddrPort([]byte(msg), at)
	buf := make([]byte, 2048)
	c.conn.SetReadDeadline(time.Now().Add(2 * time.Second))
	n := must(c.conn.Read(buf))(t)
	if code(string(buf[:n])) != "404" {
		t.Errorf("the trunk's INVITE gives %s", buf[:n])
	}
}
