package main

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// laboratory is a trunk that a test writes answer by answer, also such as no
// carrier should give.
type laboratory struct {
	t      *testing.T
	signal *net.UDPConn
	sound  *net.UDPConn // where it says that its sound is
	script func(*laboratory, *asked)

	mu    sync.Mutex
	rang  int // INVITEs that came
	owned sync.WaitGroup
	over  chan struct{}
}

// asked is a request that came.
type asked struct {
	method, text string
	from         *net.UDPAddr
}

func newLaboratory(t *testing.T, script func(*laboratory, *asked)) *laboratory {
	t.Helper()
	l := &laboratory{t: t, script: script, over: make(chan struct{})}
	for _, to := range []**net.UDPConn{&l.signal, &l.sound} {
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		*to = conn
	}
	l.owned.Go(l.listen)
	t.Cleanup(func() {
		close(l.over)
		l.signal.Close()
		l.sound.Close()
		l.owned.Wait()
	})
	return l
}

func (l *laboratory) address() string { return l.signal.LocalAddr().String() }

func (l *laboratory) listen() {
	seen := map[string]bool{}
	data := make([]byte, 8<<10)
	for {
		n, from, err := l.signal.ReadFromUDP(data)
		if err != nil {
			return
		}
		a := &asked{text: string(data[:n]), from: from}
		a.method, _, _ = strings.Cut(a.text, " ")
		branch := a.header("Via") + a.method
		if len(strings.TrimSpace(a.text)) == 0 || a.method == "SIP/2.0" || seen[branch] {
			continue
		}
		seen[branch] = true
		switch a.method {
		case "ACK":
		case "BYE", "CANCEL":
			l.answer(a, 200, "OK", "")
		default:
			if a.method == "INVITE" {
				l.mu.Lock()
				l.rang++
				l.mu.Unlock()
			}
			l.script(l, a)
		}
	}
}

func (a *asked) header(name string) string {
	for line := range strings.Lines(a.text) {
		if rest, found := strings.CutPrefix(line, name+": "); found {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// answer sends a response; more are lines of its head.
func (l *laboratory) answer(a *asked, code int, reason, body string, more ...string) {
	to := a.header("To")
	if code > 100 && !strings.Contains(to, "tag=") {
		to += ";tag=lab"
	}
	l.send(a.from, append([]string{fmt.Sprintf("SIP/2.0 %d %s", code, reason), "Via: " + a.header("Via"), "From: " + a.header("From"), "To: " + to,
		"Call-ID: " + a.header("Call-ID"), "CSeq: " + a.header("CSeq"), "Contact: <sip:" + l.address() + ">"}, more...), body)
}

// asks sends a request inside the call.
func (l *laboratory) asks(a *asked, method string, seq int, body string, more ...string) {
	l.send(a.from, append([]string{method + " sip:" + a.from.String() + " SIP/2.0", "Via: SIP/2.0/UDP " + l.address() + ";branch=z9hG4bK" + method + strconv.Itoa(seq),
		"From: " + a.header("To") + ";tag=lab", "To: " + a.header("From"), "Call-ID: " + a.header("Call-ID"), fmt.Sprintf("CSeq: %d %s", seq, method),
		"Max-Forwards: 70", "Contact: <sip:" + l.address() + ">"}, more...), body)
}

func (l *laboratory) send(to *net.UDPAddr, head []string, body string) {
	text := strings.Join(head, "\r\n") + fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	if body != "" && !strings.Contains(text, "Content-Type") {
		text = strings.Replace(text, "\r\nContent-Length", "\r\nContent-Type: application/sdp\r\nContent-Length", 1)
	}
	l.signal.WriteToUDP([]byte(text), to)
}

// description is one of sound of a payload type.
func (l *laboratory) description(kind int) string {
	port := l.sound.LocalAddr().(*net.UDPAddr).Port
	return fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio %d RTP/AVP %d 101\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n", port, kind)
}

// named is where a description says that its sender is.
func named(t *testing.T, text string) netip.AddrPort {
	t.Helper()
	_, rest, _ := strings.Cut(text, "\r\nc=IN IP4 ")
	host, rest, _ := strings.Cut(rest, "\r\n")
	_, rest, _ = strings.Cut(rest, "m=audio ")
	port, _, _ := strings.Cut(rest, " ")
	at, err := netip.ParseAddrPort(host + ":" + port)
	if err != nil {
		t.Errorf("the description names no place: %v", err)
	}
	return at
}

// speaks sends sound from a socket until the laboratory is over.
func (l *laboratory) speaks(from *net.UDPConn, to netip.AddrPort, kind byte) {
	l.owned.Go(func() {
		packet := append([]byte{0x80, kind, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, make([]byte, 160)...)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for seq := 0; ; seq++ {
			select {
			case <-l.over:
				return
			case <-tick.C:
			}
			packet[2], packet[3] = byte(seq>>8), byte(seq)
			packet[5], packet[6], packet[7] = byte(seq*160>>16), byte(seq*160>>8), byte(seq*160)
			from.WriteToUDPAddrPort(packet, to)
		}
	})
}
