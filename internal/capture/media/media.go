// Package media carries the sound of calls: each party is one Stream, which
// takes packets from the one source it is locked to and from nowhere else, and
// lets one other party hear them.
package media

import (
	"errors"
	"fmt"
	"log/slog"
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
	roomRTP   = maxRTP + 1           // a byte more, by which a longer datagram shows
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
	IP       netip.Addr   // where its sockets listen, and what Local says
	More     []netip.Addr // further addresses of this machine, of IP's kind: then parties share sockets, told apart by where their packets go to
	From, To uint16       // ports; only the even ones are used
	Report   *slog.Logger

	// Late is told of each second in which more than one packet in ten waited
	// longer than 20 ms for us, and of the longest wait. nil: nobody is told.
	Late func(worst time.Duration)

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
	lates   chan time.Duration
	ended   chan struct{}
	telling sync.WaitGroup
	desks   sync.Pool // for Take

	mu     sync.Mutex // guards the rest
	places places
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
	addrs, err := cfg.addresses()
	if err != nil {
		return nil, err
	}
	p := &Plane{cfg: cfg, places: newPlaces(addrs, cfg.From, cfg.To), alarms: make(chan alarm, 64), lates: make(chan time.Duration, 1), ended: make(chan struct{})}
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
	closed, open := p.closed, len(p.places.taken)
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

// Stream opens a party's stream at an address and an even port that no other
// has. l may be nil: then nobody is told. yesline.TooMany when no port or no file
// is free.
func (p *Plane) Stream(l Listener) (*Stream, error) { return p.open(l, Kept(p.places.count())) }

// Urgent is Stream for a call for help, which may have the places that are kept
// for those.
func (p *Plane) Urgent(l Listener) (*Stream, error) { return p.open(l, 0) }

// Kept is how many of so many places no ordinary call gets: somebody else may
// have to call for help.
func Kept(places int) int { return min(16, places/8) }

// open opens a stream at a place, if so many are free besides.
func (p *Plane) open(l Listener, besides int) (*Stream, error) {
	s := newStream(p, l)
	var strange map[uint16]bool // ports that somebody else has
	for {
		at, ok := p.take(besides, strange)
		if !ok {
			return nil, fmt.Errorf("no media port is free: %w", yesline.TooMany)
		}
		s.local = at
		w, err := p.carrier.open(s, at)
		if err == nil {
			s.out.attach(w)
			return s, nil
		}
		p.release(at, time.Time{})
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			return nil, fmt.Errorf("opening a media port: no file is free: %w", yesline.TooMany)
		}
		if strange == nil {
			strange = map[uint16]bool{}
		}
		strange[at.Port()] = true
	}
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

// take marks a place as ours; false when too few are free besides, or the plane
// is closed.
func (p *Plane) take(besides int, strange map[uint16]bool) (netip.AddrPort, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.places.free() <= besides {
		return netip.AddrPort{}, false
	}
	return p.places.take(strange, time.Now())
}

// release gives a place back, which rests from now on; the zero time: nobody was
// told of it.
func (p *Plane) release(at netip.AddrPort, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.places.release(at, now)
}

// owns says whether an address is a socket of ours. A party that names one
// wants us to talk to ourselves.
func (p *Plane) owns(at netip.AddrPort) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.places.owns(at)
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
		case worst := <-p.lates:
			if p.cfg.Late != nil {
				p.cfg.Late(worst)
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
