// Package webrtc is the browser door of capture: it carries the voice of a
// browser, encrypted all the way to us, into a call, and tells no party where
// the other one is.
//
// A browser is one Handset. It reaches us by ICE on one UDP port, or on one TCP
// port, directly or through TURN; we are an ICE-lite peer with configured
// addresses, so an answer holds those and nothing of anybody else. DTLS and
// SRTP are pion's; what lies between a packet and its call is ours, because a
// call's share of a core depends on it.
package webrtc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/capture/media"
)

// Config is how the door is set up. UDP or TCP is required.
type Config struct {
	UDP       netip.AddrPort // the one port for all browsers; the zero value: none
	TCP       netip.AddrPort // for those whose network lets no UDP through; the zero value: none
	Public    []netip.Addr   // shown in place of the addresses above, which they are mapped to one to one
	TURN      []TURN
	RelayOnly bool          // browsers come through TURN, or not at all
	MaxPeers  int           // browsers at once; 0: 1000
	MaxRing   time.Duration // of a person's pages; 0: 60 s
	Loopback  bool          // this machine alone: the demo and tests
	Report    *slog.Logger  // nil is silent. It is told no address and no person
}

// Counters count what the door saw since it was made.
type Counters struct {
	Peers    atomic.Int64 // browsers that got an answer
	Refused  atomic.Int64 // too many at once
	Unread   atomic.Int64 // offers that could not be taken
	Unproved atomic.Int64 // connectivity checks without a password of ours
	Foreign  atomic.Int64 // packets from where no browser of ours is, or of another SSRC
	Forged   atomic.Int64 // voice without its key
	Replayed atomic.Int64 // voice that came before
	Odd      atomic.Int64 // not to be read
	Unsent   atomic.Int64 // that the network did not take
}

// Door is the browser door.
type Door struct {
	cfg   Config
	plane *media.Plane
	count Counters
	began time.Time // monotonic: every "heard" counts from it

	ctx      context.Context
	stop     context.CancelFunc
	owned    sync.WaitGroup
	ports    []*port
	listener *net.TCPListener
	udp, tcp []netip.AddrPort // what answers say

	mu       sync.RWMutex // guards the rest
	closed   bool
	unproved map[*stream]struct{} // TCP connections that showed no password yet
	names    map[string]proof     // by our ICE name
	handsets map[*Handset]struct{}
	seats    map[seat]*Handset
	desks    map[yesline.PersonID]*ringer
}

// New sets a door up. It opens nothing: Start does.
func New(cfg Config, plane *media.Plane) (*Door, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	return &Door{cfg: cfg, plane: plane, began: time.Now(), unproved: map[*stream]struct{}{}, names: map[string]proof{}, handsets: map[*Handset]struct{}{},
		seats: map[seat]*Handset{}, desks: map[yesline.PersonID]*ringer{}}, nil
}

func (c *Config) check() error {
	if !c.UDP.IsValid() && !c.TCP.IsValid() {
		return fmt.Errorf("the browser door needs a UDP or a TCP port: %w", yesline.Invalid)
	}
	for _, at := range []netip.AddrPort{c.UDP, c.TCP} {
		for _, shown := range c.shown(at) {
			switch {
			case shown.IsUnspecified():
				return fmt.Errorf("the browser door listens everywhere: say by which public addresses browsers reach it: %w", yesline.Invalid)
			case shown.IsLoopback() && !c.Loopback:
				return fmt.Errorf("no browser elsewhere reaches an address of this machine alone: %w", yesline.Invalid)
			case shown.IsMulticast() || !shown.IsValid():
				return fmt.Errorf("the browser door's address is none that browsers reach: %w", yesline.Invalid)
			}
		}
	}
	for i := range c.TURN {
		if err := c.TURN[i].check(); err != nil {
			return err
		}
	}
	if c.RelayOnly && len(c.TURN) == 0 {
		return fmt.Errorf("relay only, and no TURN server: %w", yesline.Invalid)
	}
	c.TURN = slices.Clone(c.TURN)
	if c.MaxPeers <= 0 {
		c.MaxPeers = 1000
	}
	if c.MaxRing <= 0 {
		c.MaxRing = time.Minute
	}
	if c.Report == nil {
		c.Report = slog.New(slog.DiscardHandler)
	}
	return nil
}

// shown is the addresses that answers give for a port.
func (c *Config) shown(at netip.AddrPort) []netip.Addr {
	switch {
	case !at.IsValid():
		return nil
	case len(c.Public) > 0:
		return c.Public
	}
	return []netip.Addr{at.Addr().Unmap()}
}

// Start listens and serves until Close.
func (d *Door) Start(ctx context.Context) (err error) {
	if d.cfg.UDP.IsValid() {
		if d.ports, err = openPorts(d, d.cfg.UDP, max(1, runtime.GOMAXPROCS(0)/4)); err != nil {
			return err
		}
		d.udp = d.answered(d.cfg.UDP, d.ports[0].local())
	}
	if d.cfg.TCP.IsValid() {
		if d.listener, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(d.cfg.TCP)); err != nil {
			for _, p := range d.ports {
				p.close()
			}
			return fmt.Errorf("listening for browsers on %s: %w", d.cfg.TCP, err)
		}
		d.tcp = d.answered(d.cfg.TCP, d.listener.Addr().(*net.TCPAddr).AddrPort().Port())
	}
	d.ctx, d.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, p := range d.ports {
		d.owned.Go(p.read)
	}
	if d.listener != nil {
		d.owned.Go(d.accept)
	}
	d.owned.Go(d.watch)
	return nil
}

func (d *Door) answered(at netip.AddrPort, port uint16) (all []netip.AddrPort) {
	for _, shown := range d.cfg.shown(at) {
		all = append(all, netip.AddrPortFrom(shown, port))
	}
	return all
}

// Counters may be read at any time.
func (d *Door) Counters() *Counters { return &d.count }

// Peers is how many browsers are here now.
func (d *Door) Peers() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return len(d.handsets)
}

// Close takes no more browsers, hangs up on those that are here, and stops
// listening.
func (d *Door) Close() error {
	d.mu.Lock()
	was := d.closed
	d.closed = true
	all := slices.Collect(maps.Keys(d.handsets))
	d.mu.Unlock()
	if was || d.ctx == nil {
		return nil
	}
	for _, h := range all {
		h.leave(capture.ErrClosing, true)
		h.Hangup()
	}
	d.stop()
	var err error
	if d.listener != nil {
		err = d.listener.Close()
	}
	for _, p := range d.ports {
		p.close()
	}
	d.owned.Wait()
	return err
}

// Handset takes a browser's whole offer (its candidates may be in it, and are
// not needed) and answers it. Wants is what the other side speaks. The error is
// yesline.Invalid in words for the person, and wraps capture.ErrNoCodec when
// there is none in common; yesline.TooMany when no more browsers fit.
func (d *Door) Handset(text string, wants audio.Codec) (*Handset, string, error) {
	o, err := readOffer(text)
	if err != nil {
		d.count.Unread.Add(1)
		return nil, "", err
	}
	c, err := o.choose(wants)
	if err != nil {
		d.count.Unread.Add(1)
		return nil, "", err
	}
	return d.newHandset(o, c)
}

// admit lets a new browser in.
func (d *Door) admit(h *Handset, w *ways) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed || d.ctx == nil:
		return fmt.Errorf("the browser door is closed: %w", yesline.Unavailable)
	case len(d.handsets) >= d.cfg.MaxPeers:
		d.count.Refused.Add(1)
		return fmt.Errorf("all lines for browsers are taken: %w", yesline.TooMany)
	}
	d.count.Peers.Add(1)
	d.handsets[h] = struct{}{}
	d.names[w.ours] = proof{ways: w, handset: h}
	return nil
}

func (d *Door) name(w *ways, h *Handset) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[w.ours] = proof{ways: w, handset: h}
}

func (d *Door) unname(w *ways) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.names, w.ours)
}

func (d *Door) sit(at *seat, h *Handset) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seats[*at] = h
}

// dismiss forgets a handset and by what it was found.
func (d *Door) dismiss(h *Handset, all []*ways, at *seat) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.handsets, h)
	for _, w := range all {
		delete(d.names, w.ours)
	}
	if at != nil && d.seats[*at] == h {
		delete(d.seats, *at)
	}
}

// Reconnect finds the line of a person's call and takes the offer of its
// browser, whose network changed. yesline.NotFound when it has none here.
func (d *Door) Reconnect(person yesline.PersonID, call yesline.CallID, offer string) (string, error) {
	d.mu.RLock()
	h := d.seats[seat{call, person}]
	d.mu.RUnlock()
	if h == nil {
		return "", fmt.Errorf("the call has no browser's line here: %w", yesline.NotFound)
	}
	answer, err := h.Reconnect(offer)
	if errors.Is(err, yesline.Invalid) {
		d.count.Unread.Add(1)
	}
	return answer, err
}

// watch looks once a second for browsers that say nothing any more, and for
// pages that are gone.
func (d *Door) watch() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-d.ctx.Done():
			return
		case now := <-tick.C:
			d.mu.RLock()
			all := slices.Collect(maps.Keys(d.handsets))
			d.mu.RUnlock()
			for _, h := range all {
				h.look(now)
			}
			d.tidy(now)
		}
	}
}
