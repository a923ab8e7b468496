package sip

import (
	"bytes"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

const (
	maxSIP     = 8 << 10 // bytes of a message; anything longer is not for us
	burst      = 100     // messages at once from one address
	perSecond  = 50      // and in the long run
	strangers  = 4096    // addresses remembered
	maxFailure = 10      // wrong passwords an address may try in a minute, each to a challenge of ours to it
)

// gate stands before the transactions: it drops what is too large, too much or
// not SIP, and answers an INVITE that brings no digest by itself, keeping
// nothing. So a flood from strangers costs a parse at most, and memory never.
type gate struct {
	net.PacketConn
	door *Door

	mu   sync.Mutex // guards the rest
	seen map[netip.Addr]*visitor
}

type visitor struct {
	left     float64
	at       time.Time
	failures int
	since    time.Time
}

// ReadFrom gives the next message that is worth a transaction.
func (g *gate) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := g.PacketConn.ReadFrom(b)
		if err != nil {
			return n, from, err
		}
		if g.admit(b[:n], from, time.Now()) {
			return n, from, nil
		}
	}
}

func (g *gate) admit(data []byte, from net.Addr, now time.Time) bool {
	count := &g.door.Counters
	udp, ok := from.(*net.UDPAddr)
	if !ok {
		return false
	}
	if len(bytes.Trim(data, "\r\n\x00")) == 0 {
		return false // a keep-alive
	}
	if len(data) > maxSIP {
		count.Oversized.Add(1)
		return false
	}
	at := netip.AddrPortFrom(udp.AddrPort().Addr().Unmap(), udp.AddrPort().Port())
	trunk := g.door.cfg.isTrunk(at)
	if !trunk && !g.take(at.Addr(), now) {
		count.Flood.Add(1)
		return false
	}
	if !looksLikeSIP(data) || !clean(data) {
		count.Malformed.Add(1)
		return false
	}
	msg, ok := g.door.read(data)
	if !ok {
		count.Malformed.Add(1)
		return false
	}
	req, is := msg.(*sip.Request)
	if trunk || !is || req.Method != sip.INVITE {
		return true
	}
	if g.banned(at.Addr(), now) && !g.door.cfg.isEmergency(&req.Recipient) {
		count.Flood.Add(1)
		return false
	}
	return g.door.brings(req, udp)
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

// forget makes room: those that were quiet for a minute first, then anybody.
func (g *gate) forget(now time.Time) {
	for a, v := range g.seen {
		if now.Sub(v.at) > time.Minute {
			delete(g.seen, a)
		}
	}
	for a := range g.seen {
		if len(g.seen) < strangers*3/4 {
			return
		}
		delete(g.seen, a)
	}
}

// failed counts a wrong password against an address.
func (g *gate) failed(addr netip.Addr, now time.Time) {
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

// brings reports whether an INVITE carries credentials or belongs to a call we
// know. One that does not is challenged here, without a transaction.
func (d *Door) brings(req *sip.Request, from *net.UDPAddr) bool {
	if req.To().Params.Has("tag") || req.GetHeader("Authorization") != nil {
		return true
	}
	req.SetSource(from.String())
	req.SetTransport("UDP")
	res := d.challenge(req, false)
	to := from
	if via := req.Via(); !via.Params.Has("rport") && via.Port != 0 {
		to = &net.UDPAddr{IP: from.IP, Port: via.Port, Zone: from.Zone}
	}
	d.conn.WriteTo([]byte(res.String()), to)
	return false
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
