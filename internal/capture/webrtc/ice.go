package webrtc

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pion/stun/v4"
)

// We are an ICE-lite peer (RFC 8445, 2.5): we have addresses that browsers
// reach, answer their checks and follow them. We send no check of our own, so
// there is nothing to gather, nothing to wait for and no goroutine; and of
// whoever does not know a password of ours we keep nothing.

const (
	maxCheck = 548 // bytes of a connectivity check that we read
	maxPaths = 6   // of one browser at a time
)

// ways is one pair of ICE names and passwords: each offer has one of its own.
type ways struct {
	ours, secret string
	theirs       string
	relays       []netip.Addr // nil: from anywhere
}

func newWays(o *offer, relayOnly bool) *ways {
	w := &ways{ours: iceWord(12), secret: iceWord(24), theirs: o.theirs}
	if relayOnly {
		w.relays = append([]netip.Addr{}, o.relays...) // none: then from nowhere
	}
	return w
}

// iceWord is random and of ice-chars: n bytes, a multiple of three.
func iceWord(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return base64.StdEncoding.EncodeToString(b)
}

// path is one way to a browser that its own checks proved. Exactly one of port
// and conn is set.
type path struct {
	handset *Handset
	live    atomic.Bool // what only the browser can have sent came by it: a check's sender is easily forged
	port    *port
	to      address
	conn    *stream
}

// errUnsent says that the network did not take a datagram.
var errUnsent = errors.New("the network did not take it")

// send gives a datagram to the network and never waits.
func (p *path) send(b []byte) error {
	sent := false
	if p.conn != nil {
		sent = p.conn.send(b)
	} else {
		sent = p.port.send(b, &p.to)
	}
	if !sent {
		p.handset.door.count.Unsent.Add(1)
		return errUnsent
	}
	return nil
}

// end is for a path that is not used any more.
func (p *path) end() {
	if p.conn != nil {
		p.conn.conn.Close()
		return
	}
	p.port.forget(p)
}

// check reads a connectivity check (RFC 8445, 7.3). It gives whose it is, and
// what to answer; a check without a password of ours gets no answer. The answer
// is as long as the check at most, but for a few bytes: nothing is to be gained
// by forged addresses.
func (d *Door) check(b []byte, from netip.AddrPort, m *stun.Message) (p proof, reply []byte) {
	if len(b) > maxCheck {
		d.count.Odd.Add(1)
		return proof{}, nil
	}
	m.Raw = append(m.Raw[:0], b...)
	if m.Decode() != nil || m.Type != stun.BindingRequest {
		d.count.Odd.Add(1)
		return proof{}, nil
	}
	p = d.named(m)
	w := p.ways
	if w == nil || stun.NewShortTermIntegrity(w.secret).Check(m) != nil || w.relays != nil && !slices.Contains(w.relays, from.Addr()) {
		d.count.Unproved.Add(1)
		return proof{}, nil
	}
	answer, err := stun.Build(stun.NewTransactionIDSetter(m.TransactionID), stun.BindingSuccess,
		&stun.XORMappedAddress{IP: net.IP(from.Addr().AsSlice()), Port: int(from.Port())},
		stun.NewShortTermIntegrity(w.secret), stun.Fingerprint)
	if err != nil {
		d.count.Odd.Add(1)
		return proof{}, nil
	}
	p.nominated = nominates(m)
	return p, answer.Raw
}

// proof is what a check that had its password shows.
type proof struct {
	ways      *ways
	handset   *Handset
	nominated bool // the browser means to use this way
}

// named finds the handset whose names a check carries: "ours:theirs".
func (d *Door) named(m *stun.Message) proof {
	name, err := m.Get(stun.AttrUsername)
	if err != nil || len(name) > 2*maxWord {
		return proof{}
	}
	ours, theirs, found := strings.Cut(string(name), ":")
	if !found {
		return proof{}
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	at := d.names[ours]
	if at.ways == nil || at.ways.theirs != theirs {
		return proof{}
	}
	return at
}

// nominates reads USE-CANDIDATE among what the integrity covers: what comes
// after it anybody may have added.
func nominates(m *stun.Message) bool {
	for _, a := range m.Attributes {
		switch a.Type {
		case stun.AttrUseCandidate:
			return true
		case stun.AttrMessageIntegrity:
			return false
		}
	}
	return false
}

// prove takes a path that a check came by.
func (h *Handset) prove(p *path, by proof, now time.Time) {
	h.sign(p, now)
	if gone := h.follow(p, by); gone != nil {
		gone.end()
	}
}

// came takes note that what only the browser can have sent came by a path: from
// then on it may be sent more than answers to its checks there.
func (h *Handset) came(p *path, now time.Time) {
	if !p.live.Load() {
		h.mu.Lock()
		p.live.Store(true)
		h.use(p)
		h.mu.Unlock()
	}
	h.sign(p, now)
}

// shakes lets a handshake go on by the path that it comes by. It shows that the
// browser is there when it ends well: see key.
func (h *Handset) shakes(p *path, now time.Time) {
	if h.isUp() {
		return
	}
	h.mu.Lock()
	h.use(p)
	h.mu.Unlock()
	h.sign(p, now)
}

// use sends by a path if it is the one that is wanted, or there is no other.
// Called with mu held.
func (h *Handset) use(p *path) {
	if slices.Contains(h.paths, p) && (p == h.wanted || h.out.Load() == nil) {
		h.out.Store(p)
	}
}

// sign keeps when the browser was last heard of where its voice goes.
func (h *Handset) sign(p *path, now time.Time) {
	if h.out.Load() == p {
		h.heard.Store(int64(now.Sub(h.door.began)))
	}
}

// follow gives the path that gives way to p, if there is one: a browser has
// only so many, and after the end none. What it nominates by its newest names
// is the path that is wanted; its older names end then.
func (h *Handset) follow(p *path, by proof) (gone *path) {
	h.mu.Lock()
	defer h.mu.Unlock()
	newest := len(h.ways) - 1
	if h.ctx.Err() != nil || newest < 0 {
		return p
	}
	out := h.out.Load()
	if !slices.Contains(h.paths, p) {
		if len(h.paths) == maxPaths {
			at := slices.IndexFunc(h.paths, func(p *path) bool { return p != out })
			gone = h.paths[at]
			h.paths = slices.Delete(h.paths, at, at+1)
		}
		h.paths = append(h.paths, p)
	}
	chosen := by.nominated && by.ways == h.ways[newest]
	if chosen {
		h.wanted = p
	}
	if p.live.Load() {
		h.use(p)
	}
	if chosen && newest > 0 {
		h.door.unname(h.ways[0])
		h.ways = h.ways[newest:]
	}
	return gone
}

// lose takes a path away that is no more, such as a connection that ended.
func (h *Handset) lose(p *path) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at := slices.Index(h.paths, p); at >= 0 {
		h.paths = slices.Delete(h.paths, at, at+1)
	}
	if h.out.Load() == p {
		h.out.Store(nil)
	}
}
