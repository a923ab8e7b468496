package media

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// sockets is the plain carrier: a goroutine for each socket, and one for all
// prompts while there are any. It works everywhere and costs a wake-up for each
// packet.
type sockets struct {
	plane   *Plane
	playing sync.WaitGroup

	mu      sync.Mutex // guards the rest
	feeding []*Stream
	desk    desk
	closed  bool
}

func newSockets(p *Plane) *sockets { return &sockets{plane: p} }

func (c *sockets) open(s *Stream, at netip.AddrPort) (wire, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	w := &socket{conn: conn}
	w.reading.Go(func() { w.read(s) })
	return w, nil
}

func (c *sockets) feed(s *Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		s.out.abandon(errClosed)
		return
	}
	if slices.Contains(c.feeding, s) {
		return
	}
	c.feeding = append(c.feeding, s)
	if len(c.feeding) == 1 {
		c.playing.Go(c.play)
	}
}

// play feeds until nothing is played any more.
func (c *sockets) play() {
	clock := time.NewTicker(tick)
	defer clock.Stop()
	for c.round(<-clock.C) {
	}
}

// round is one tick. mu is held while the streams are asked, so that none is
// taken off the list between its last frame and its next prompt.
func (c *sockets) round(now time.Time) (more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.feeding = slices.DeleteFunc(c.feeding, func(s *Stream) bool { return !s.out.feed(&c.desk, now) })
	return len(c.feeding) > 0
}

func (c *sockets) close() {
	c.mu.Lock()
	c.closed = true
	for _, s := range c.feeding {
		s.out.abandon(errClosed)
	}
	c.feeding = nil
	c.mu.Unlock()
	c.playing.Wait()
}

// socket is one UDP socket and the goroutine that reads it.
type socket struct {
	conn    *net.UDPConn
	to      netip.AddrPort
	reading sync.WaitGroup
}

func (w *socket) aim(to netip.AddrPort) { w.to = to }

func (w *socket) send(packet []byte) error {
	_, err := w.conn.WriteToUDPAddrPort(packet, w.to)
	return err
}

func (w *socket) close() {
	w.conn.Close()
	w.reading.Wait()
}

// read reads the socket until it is closed.
func (w *socket) read(s *Stream) {
	var d desk
	for {
		n, from, err := w.conn.ReadFromUDPAddrPort(d.data[:])
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(frame) // nothing we know of; do not spin
			continue
		}
		s.read(&d, d.data[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), time.Now())
	}
}
