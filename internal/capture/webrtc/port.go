package webrtc

import (
	"net/netip"
	"sync"
	"time"

	"github.com/pion/stun/v4"
)

const maxDatagram = 1500

// drained is how long a packet waits at most: the port is emptied each time,
// instead of waking somebody for every packet.
const drained = 2 * time.Millisecond

// ground is what is the same of every port, whatever reads it: which source is
// whose.
type ground struct {
	door *Door

	mu    sync.RWMutex // guards paths
	paths map[netip.AddrPort]*path
}

// path is the one that was proved for a source, or nil.
func (g *ground) path(from netip.AddrPort) *path {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.paths[from]
}

func (g *ground) resting() bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.paths) == 0
}

// forget takes a path away, if it still is what its source is known for.
func (p *port) forget(gone *path) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if from := gone.to.source(); p.paths[from] == gone {
		delete(p.paths, from)
	}
}

// datagram takes what came to the port. The buffer is only lent.
func (p *port) datagram(b []byte, from netip.AddrPort, m *stun.Message, now time.Time) {
	if len(b) > 0 && b[0] < 4 {
		p.proof(b, from, m, now)
		return
	}
	at := p.path(from)
	if at == nil {
		p.door.count.Foreign.Add(1)
		return
	}
	at.take(b, now)
}

// proof takes a connectivity check: it makes its source a path.
func (p *port) proof(b []byte, from netip.AddrPort, m *stun.Message, now time.Time) {
	by, reply := p.door.check(b, from, m)
	h := by.handset
	if reply == nil {
		return
	}
	p.mu.Lock()
	at := p.paths[from]
	if at == nil || at.handset != h {
		at = &path{handset: h, port: p, to: p.addressed(from)}
		p.paths[from] = at
	}
	p.mu.Unlock()
	h.prove(at, by, now)
	at.send(reply)
}
