package sip

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"
)

const (
	maxSIP     = 8 << 10   // bytes of a message; anything longer is not for us
	burst      = 100       // messages at once from one address
	perSecond  = 50        // and in the long run
	strangers  = 4096      // addresses remembered
	maxFailure = 10        // wrong passwords an address may try in a minute, each to a challenge of ours to it
	acquainted = time.Hour // how long an address that answered a challenge of ours may say more than that
)

// gate stands before the transactions, whatever a message came over: it drops
// what is too large, too much or not SIP, gives strangers no answer, and
// challenges a caller by itself, keeping nothing. So a flood from strangers
// costs a parse at most, and memory never.
type gate struct {
	net.PacketConn
	door    *Door
	begun   sync.Once
	reading chan struct{} // closed when sipgo begins to read

	mu       sync.Mutex // guards the rest
	seen     map[netip.Addr]*visitor
	unheard  int // strangers since the operator was told
	reported time.Time
}

type visitor struct {
	left     float64
	at       time.Time
	failures int
	since    time.Time
	asked    time.Time // when a challenge was last sent there
	answered time.Time // one of those: so somebody is there
}

// ReadFrom gives the next message over UDP that is worth a transaction.
func (g *gate) ReadFrom(b []byte) (int, net.Addr, error) {
	g.begun.Do(func() { close(g.reading) })
	for {
		n, from, err := g.PacketConn.ReadFrom(b)
		if err != nil {
			return n, from, err
		}
		udp, is := from.(*net.UDPAddr)
		if !is {
			continue
		}
		at := udp.AddrPort()
		o := origin{at: netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), over: overUDP}
		if g.admit(b[:n], o, func(answer []byte) { g.PacketConn.WriteTo(answer, from) }, time.Now()) {
			return n, from, nil
		}
	}
}

// admit decides about one message. What it answers by itself goes by reply.
func (g *gate) admit(data []byte, o origin, reply func([]byte), now time.Time) bool {
	count := &g.door.Counters
	if len(bytes.Trim(data, "\r\n\x00")) == 0 {
		return false // a keep-alive
	}
	if len(data) > maxSIP {
		count.Oversized.Add(1)
		return false
	}
	trunk := g.door.isTrunk(o)
	if !trunk && !g.take(o.at.Addr(), now) {
		count.Flood.Add(1)
		return false
	}
	if !looksLikeSIP(data) || !clean(data) {
		count.Malformed.Add(1)
		return false
	}
	msg, ok := g.door.read(data)
	if !ok || o.line != nil && !framed(msg) {
		count.Malformed.Add(1)
		return false
	}
	if !trunk && !g.knows(msg, o, reply, now) {
		return false
	}
	if ack, is := msg.(*sip.Request); is && ack.Method == sip.ACK {
		if dg := g.door.find(ack); dg != nil {
			dg.comes(ack) // in the order of the wire, which sipgo's goroutines do not keep
		}
	}
	return true
}

// knows decides about a message that is not the trunk's: it belongs to a call
// of ours, answers a challenge of ours, or comes from where one was answered.
// A first call or registration is challenged; all else is not answered.
func (g *gate) knows(msg sip.Message, o origin, reply func([]byte), now time.Time) bool {
	req, is := msg.(*sip.Request)
	if !is {
		return g.door.asked(msg.(*sip.Response)) || g.knew(o.at.Addr(), now) || g.stranger(o, "an answer to nothing", now)
	}
	if g.door.find(req) != nil {
		return true
	}
	if req.Method == sip.ACK && g.asked(o.at.Addr(), now) {
		return g.knew(o.at.Addr(), now) // after a challenge of ours every phone sends one; it is nobody strange
	}
	first := (req.Method == sip.INVITE || req.Method == sip.REGISTER) && !req.To().Params.Has("tag")
	if !first {
		return g.knew(o.at.Addr(), now) || g.stranger(o, string(req.Method)+" outside of a call", now)
	}
	if !ourName(req.From().Address.User) {
		return g.stranger(o, "a user name that is none of ours", now)
	}
	if g.banned(o.at.Addr(), now) && !(req.Method == sip.INVITE && g.door.cfg.isEmergency(&req.Recipient)) {
		return g.unanswered(&g.door.Counters.Barred, o, "too many wrong passwords", now)
	}
	proof := req.GetHeader("Authorization")
	if proof != nil && g.door.sessions.Challenged(o.at.Addr().String(), proof.Value()) {
		g.met(o.at.Addr(), now)
		return true
	}
	g.asks(o.at.Addr(), now)
	g.challenge(req, o, proof != nil, reply)
	return false
}

// challenge asks for a password without a transaction. An answer to what we did
// not ask there lately is told so: a phone then answers anew by itself.
func (g *gate) challenge(req *sip.Request, o origin, stale bool, reply func([]byte)) {
	req.SetSource(o.at.String())
	req.SetTransport(o.over)
	res := []byte(g.door.challenge(req, stale).String())
	if via := req.Via(); o.over == overUDP && !via.Params.Has("rport") && via.Port != 0 {
		g.PacketConn.WriteTo(res, net.UDPAddrFromAddrPort(netip.AddrPortFrom(o.at.Addr(), uint16(via.Port))))
		return
	}
	reply(res)
}

// stranger counts somebody whom nobody here knows.
func (g *gate) stranger(o origin, why string, now time.Time) (pass bool) {
	return g.unanswered(&g.door.Counters.Strangers, o, why, now)
}

// unanswered counts somebody who gets no answer, and reports why, once a minute
// at most.
func (g *gate) unanswered(count *atomic.Int64, o origin, why string, now time.Time) (pass bool) {
	count.Add(1)
	g.mu.Lock()
	g.unheard++
	n, tell := g.unheard, now.Sub(g.reported) >= time.Minute
	if tell {
		g.unheard, g.reported = 0, now
	}
	g.mu.Unlock()
	if tell {
		g.door.cfg.Report.Warn("strangers were not answered", "messages", n, "the last from", o.at.Addr(), "over", o.over, "because", why)
	}
	return false
}

// met remembers that somebody at this address reads what we send there.
func (g *gate) met(addr netip.Addr, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if v := g.seen[addr]; v != nil {
		v.answered = now
	}
}

// asks remembers that a challenge is sent to this address.
func (g *gate) asks(addr netip.Addr, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if v := g.seen[addr]; v != nil {
		v.asked = now
	}
}

// asked reports whether a challenge of ours may still be acknowledged there.
func (g *gate) asked(addr netip.Addr, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.seen[addr]
	return v != nil && !v.asked.IsZero() && now.Sub(v.asked) < giveUp
}

// knew reports whether a challenge of ours was answered from there lately.
func (g *gate) knew(addr netip.Addr, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.seen[addr]
	return v != nil && v.knew(now)
}

func (v *visitor) knew(now time.Time) bool {
	return !v.answered.IsZero() && now.Sub(v.answered) < acquainted
}

// banned reports whether an address tried too many passwords.
func (g *gate) banned(addr netip.Addr, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.seen[addr]
	return v != nil && v.failures >= maxFailure && now.Sub(v.since) < time.Minute
}

// take spends one message of an address; false when it has none left.
func (g *gate) take(addr netip.Addr, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.seen[addr]
	if v == nil {
		if len(g.seen) >= strangers {
			g.forget(now)
		}
		v = &visitor{left: burst, at: now}
		g.seen[addr] = v
	}
	v.left = min(burst, v.left+now.Sub(v.at).Seconds()*perSecond)
	v.at = now
	if v.left < 1 {
		return false
	}
	v.left--
	return true
}

// forget makes room: those that were quiet for a minute first, then any
// strangers, then anybody. A sender that only writes addresses on packets
// cannot make us forget a phone.
func (g *gate) forget(now time.Time) {
	for a, v := range g.seen {
		if now.Sub(v.at) > time.Minute && !v.knew(now) {
			delete(g.seen, a)
		}
	}
	for _, strangersOnly := range []bool{true, false} {
		for a, v := range g.seen {
			if len(g.seen) < strangers*3/4 {
				return
			}
			if !strangersOnly || !v.knew(now) {
				delete(g.seen, a)
			}
		}
	}
}

// failed counts a wrong password against an address.
func (g *gate) failed(addr netip.Addr, now time.Time) {
	g.door.Counters.Wrong.Add(1)
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.seen[addr]
	if v == nil {
		return
	}
	if now.Sub(v.since) >= time.Minute {
		v.since, v.failures = now, 0
	}
	v.failures++
}

// ourName reports whether a user name has the form of those that session gives
// to phones, which nobody guesses. Who calls with another one learns nothing,
// not even that we are there.
func ourName(user string) bool {
	return len(user) == 17 && (user[0] == 'u' || user[0] == 'm') && strings.Trim(user[1:], "abcdefghijklmnopqrstuvwxyz234567") == ""
}

// looksLikeSIP reads the first line: a request or a response of SIP/2.0. A
// method is upper-case letters; sipgo would take others for the same.
func looksLikeSIP(data []byte) bool {
	line, _, found := bytes.Cut(data, []byte("\r\n"))
	if !found || bytes.HasPrefix(line, []byte("SIP/2.0 ")) {
		return found
	}
	method, _, _ := bytes.Cut(line, []byte(" "))
	return len(method) > 0 && len(bytes.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")) == 0 && bytes.HasSuffix(line, []byte(" SIP/2.0"))
}

// clean refuses a message whose head holds anything but text in lines that end
// with CR LF: a bare CR, LF or NUL in a name or number is somebody's trick.
func clean(data []byte) bool {
	head, _, found := bytes.Cut(data, []byte("\r\n\r\n"))
	if !found {
		return false
	}
	for i, c := range head {
		switch {
		case c == '\r':
			if i+1 == len(head) || head[i+1] != '\n' {
				return false
			}
		case c == '\n':
			if i == 0 || head[i-1] != '\r' {
				return false
			}
		case c < ' ' && c != '\t', c == 0x7f:
			return false
		}
	}
	return true
}

// read parses a message as sipgo is going to, and wants what every one must
// have. What makes the parser panic ends here.
func (d *Door) read(data []byte) (msg sip.Message, ok bool) {
	defer func() {
		if recover() != nil {
			msg, ok = nil, false
		}
	}()
	msg, err := sip.ParseMessage(data)
	if err != nil || !whole(msg) {
		return nil, false
	}
	if req, is := msg.(*sip.Request); is && req.CSeq().MethodName != req.Method {
		return nil, false
	}
	return msg, true
}

// whole reports whether a message has the headers that every one must have
// (RFC 3261, 8.1.1); without them neither sipgo nor we can answer it.
func whole(msg sip.Message) bool {
	return msg.Via() != nil && msg.From() != nil && msg.To() != nil && msg.CallID() != nil && msg.CSeq() != nil
}

// challenge is the one answer to no password, a wrong one and an unknown user.
func (d *Door) challenge(req *sip.Request, stale bool) *sip.Response {
	d.Counters.Challenged.Add(1)
	res := sip.NewResponseFromRequest(req, sip.StatusUnauthorized, "Unauthorized", nil)
	user := ""
	if from := req.From(); from != nil {
		user = from.Address.User
	}
	res.AppendHeader(sip.NewHeader("WWW-Authenticate", d.sessions.Challenge(user, source(req).Addr().String(), stale)))
	return res
}
