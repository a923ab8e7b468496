// Package media carries the sound of calls: each party is one Stream, which
// takes packets from the one source it is locked to and from nowhere else, and
// lets one other party hear them.
package media

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"yesline"
	"yesline/internal/audio"
)

const (
	frame     = 20 * time.Millisecond
	frameSize = audio.Rate / 50 // bytes of G.711 in a frame
	maxRTP    = 1500
	tick      = 2 * time.Millisecond // how long a packet waits for its thread at most, and the step of prompts
)

// beepTone is heard by both while anything is recorded: 1400 Hz, 0.2 s.
var beepTone = audio.Tone(1400, 200, 5000)

// Listener is told what a party says and presses. It is called from the thread
// that carries other parties too: it never blocks, never closes a stream, and
// the payload is only valid during the call.
type Listener interface {
	Heard(stamp uint32, payload []byte, now time.Time)
	Key(key byte, at time.Time, locked bool)
	Hold(on bool)
	Relearn()
}

// Config is how a plane is set up. Report may be nil.
type Config struct {
	IP       netip.Addr // where its sockets listen, and what Local says
	From, To uint16     // ports; only the even ones are used
	Report   *slog.Logger

	plain bool // a goroutine for each socket, as where there is no epoll; tests compare
}

// Counters count what a plane saw since it was opened.
type Counters struct {
	Foreign  atomic.Int64 // of another address, port or SSRC than the stream's
	Jumped   atomic.Int64 // of the stream's source, but far from its sequence
	Forged   atomic.Int64 // their SRTP tag is not of the stream's key
	Replayed atomic.Int64 // SRTP that came before, or is cut short
	Probes   atomic.Int64 // the sum of these four: packets that pretended to be a party's
	Odd      atomic.Int64 // no RTP, of a kind not agreed on, or ahead of the answer
	Unsent   atomic.Int64 // ours, which the kernel did not take
}

// Plane has the sockets and the threads that all streams share. A plane without
// sound rests.
type Plane struct {
	cfg     Config
	count   Counters
	carrier carrier
	alarms  chan alarm
	ended   chan struct{}
	telling sync.WaitGroup
	desks   sync.Pool // for Take

	mu     sync.Mutex // guards the rest
	taken  map[uint16]bool
	closed bool
}

// carrier brings datagrams to streams, and time to those that play something.
type carrier interface {
	// open binds a socket; s is given what arrives there.
	open(s *Stream, at netip.AddrPort) (wire, error)
	// feed calls the stream's sender.feed every tick until it has no more.
	feed(s *Stream)
	// close ends threads. The wires were closed before.
	close()
}

// wire is how packets leave. The sender's mu is held in aim and send; close
// waits until nothing reads the wire any more.
type wire interface {
	aim(to netip.AddrPort)
	send(packet []byte) error
	close()
}

// Open makes a plane; yesline.Invalid when it has no even port.
func Open(cfg Config) (*Plane, error) {
	if !cfg.IP.IsValid() || cfg.From == 0 || uint32(cfg.From)+uint32(cfg.From%2) > uint32(cfg.To) {
		return nil, fmt.Errorf("a sound plane needs an address and a range of ports: %w", yesline.Invalid)
	}
	p := &Plane{cfg: cfg, taken: map[uint16]bool{}, alarms: make(chan alarm, 64), ended: make(chan struct{})}
	p.carrier = newCarrier(p)
	if cfg.plain {
		p.carrier = newSockets(p)
	}
	p.telling.Go(p.tell)
	return p, nil
}

// Close ends the plane's threads. Its streams must be closed before;
// yesline.Conflict when some are open, which are deaf and dumb then.
func (p *Plane) Close() error {
	p.mu.Lock()
	closed, open := p.closed, len(p.taken)
	p.closed = true
	p.mu.Unlock()
	if closed {
		return nil
	}
	p.carrier.close()
	close(p.ended)
	p.telling.Wait()
	if open > 0 {
		return fmt.Errorf("closing the sound plane: %d streams are open: %w", open, yesline.Conflict)
	}
	return nil
}

// Counters may be read at any time.
func (p *Plane) Counters() *Counters { return &p.count }

// Stream opens a party's stream on an even port of its own. l may be nil: then
// nobody is told. yesline.TooMany when no port or no file is free.
func (p *Plane) Stream(l Listener) (*Stream, error) { return p.open(l, Kept(p.ports())) }

// Urgent is Stream for a call for help, which may have the ports that are kept
// for those.
func (p *Plane) Urgent(l Listener) (*Stream, error) { return p.open(l, 0) }

// Kept is how many of so many ports no ordinary call gets: somebody else may
// have to call for help.
func Kept(ports int) int { return min(16, ports/8) }

// ports is how many even ones the plane has.
func (p *Plane) ports() int { return (int(p.cfg.To)-int(p.cfg.From)-int(p.cfg.From%2))/2 + 1 }

// open opens a stream on a port, if so many are free besides.
func (p *Plane) open(l Listener, besides int) (*Stream, error) {
	s := newStream(p, l)
	first, ports := uint32(p.cfg.From)+uint32(p.cfg.From%2), uint32(p.ports())
	start := rand.Uint32N(ports)
	for i := range ports {
		port := uint16(first + (start+i)%ports*2)
		if !p.take(port, besides) {
			continue
		}
		at := netip.AddrPortFrom(p.cfg.IP, port)
		s.local = at
		w, err := p.carrier.open(s, at)
		if err == nil {
			s.out.attach(w)
			return s, nil
		}
		p.release(port)
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			return nil, fmt.Errorf("opening a media port: no file is free: %w", yesline.TooMany)
		}
	}
	return nil, fmt.Errorf("no media port is free: %w", yesline.TooMany)
}

// Loose makes a stream without a socket: another transport brings packets that
// it authenticated by Take, and carries ours away. send is called with a whole
// RTP packet that is only valid during the call; it must not call the stream.
func (p *Plane) Loose(l Listener, send func(packet []byte) error) *Stream {
	s := newStream(p, l)
	s.loose = true
	s.out.attach(looseWire{send})
	return s
}

// take marks a port as ours; false when it is in use, too few are free besides,
// or the plane is closed.
func (p *Plane) take(port uint16, besides int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.taken[port] || p.ports()-len(p.taken) <= besides {
		return false
	}
	p.taken[port] = true
	return true
}

func (p *Plane) release(port uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.taken, port)
}

// owns says whether an address is a socket of ours. A party that names one
// wants us to talk to ourselves.
func (p *Plane) owns(at netip.AddrPort) bool {
	if at.Addr() != p.cfg.IP && !(p.cfg.IP.IsUnspecified() && at.Addr().IsLoopback()) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken[at.Port()]
}

// looseWire is the wire of a stream without a socket.
type looseWire struct{ carry func([]byte) error }

func (looseWire) aim(netip.AddrPort)         {}
func (l looseWire) send(packet []byte) error { return l.carry(packet) }
func (looseWire) close()                     {}

// alarm says that somebody tried to be a stream's party.
type alarm struct {
	listener Listener
	port     uint16
	packets  int64 // since the last one
}

const alarmPause = time.Minute // between two alarms of a stream

// tell writes alarms down: the threads that carry sound do not wait for a log.
func (p *Plane) tell() {
	for {
		select {
		case a := <-p.alarms:
			if p.cfg.Report != nil {
				p.cfg.Report.Warn("somebody sends sound that is not the party's; nothing of it got in", a.words()...)
			}
		case <-p.ended:
			return
		}
	}
}

// words name the stream by ids only.
func (a alarm) words() []any {
	words := []any{"port", a.port, "packets", a.packets}
	if id, ok := a.listener.(slog.LogValuer); ok { // anything else would print what it holds
		words = append(words, "leg", id.LogValue())
	}
	return words
}
