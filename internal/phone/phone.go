// Package phone is a telephone for tests and the demo: it calls and answers
// over SIP and RTP, speaks, presses keys and remembers all that it hears. It
// shares no code with the rest of the house, so that a mistake in the one does
// not hide the same mistake in the other.
//
// It is for a loopback or a laboratory: UDP only, no proxies between, no NAT,
// G.711, 20 ms a packet. A message goes to where the call's messages come
// from; sound is taken only from the address and port that the other side named.
package phone

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// The codecs, by their RTP payload types.
const (
	PCMU uint8 = 0
	PCMA uint8 = 8
)

// Config is how a phone is set up; only Listen is required.
type Config struct {
	Listen   string        // "127.0.0.1:0": one address, and a port or 0 for any
	User     string        // its name in From and Contact, and for the digest
	Password string        // for the digest; "" answers no challenge
	OldMD5   bool          // knows MD5 only, like many phones on desks
	Codecs   []uint8       // what it speaks, best first; nil is PCMU, then PCMA
	Event    uint8         // payload type it offers for keys; 0 is 101
	Quiet    bool          // sends nothing while it has nothing to say, instead of silence
	Rings    time.Duration // how long Answer lets it ring
}

// waiting is how many calls may ring at a phone at once. The next hears busy.
const waiting = 16

// A Phone calls and is called. Close it.
type Phone struct {
	config Config
	wire   *wire
	queue  chan *Ringing

	mu     sync.Mutex
	calls  map[*Call]struct{} // that stand
	closed bool
	media  sync.WaitGroup // the goroutines of the calls, two each
}

// New opens a phone. The error says what of the config cannot be, or that the
// address is taken.
func New(config Config) (*Phone, error) {
	if config.User == "" {
		config.User = "phone"
	}
	if config.Codecs == nil {
		config.Codecs = []uint8{PCMU, PCMA}
	}
	if config.Event == 0 {
		config.Event = 101
	}
	if len(config.Codecs) == 0 || config.Event < 96 || config.Event > 127 {
		return nil, errors.New("opening a phone: it needs a codec, and 96 to 127 for keys")
	}
	for _, codec := range config.Codecs {
		if codec != PCMU && codec != PCMA {
			return nil, errors.New("opening a phone: it speaks only PCMU and PCMA")
		}
	}
	p := &Phone{config: config, queue: make(chan *Ringing, waiting), calls: map[*Call]struct{}{}}
	wire, err := listen(config.Listen, p.take)
	if err != nil {
		return nil, err
	}
	p.wire = wire
	return p, nil
}

// Address is where the phone takes SIP: "127.0.0.1:49152".
func (p *Phone) Address() string { return p.wire.address.String() }

// Ignored is how many packets came that were not SIP, or answered nothing.
func (p *Phone) Ignored() int {
	p.wire.mu.Lock()
	defer p.wire.mu.Unlock()
	return p.wire.ignored
}

// Close hangs up, closes the phone, and waits until nothing of it runs.
func (p *Phone) Close() {
	p.mu.Lock()
	p.closed = true
	var calls []*Call
	for call := range p.calls {
		calls = append(calls, call)
	}
	p.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var hanging sync.WaitGroup
	for _, call := range calls {
		hanging.Go(func() { call.Hangup(ctx) })
	}
	hanging.Wait()
	p.wire.close()
	p.media.Wait()
}

// take queues a call that came in for Answer or Ringing to find.
func (p *Phone) take(r *Ringing) (refuse int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 480
	}
	r.phone = p
	select {
	case p.queue <- r:
		return 0
	default:
		return 486
	}
}

// adopt makes the call one of the phone's and starts its two goroutines, which
// end with it. Close waits for them.
func (p *Phone) adopt(call *Call) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return net.ErrClosed
	}
	select {
	case <-call.media.ended: // before it is adopted; release has run or will find nothing
		return errors.New("the other side hung up at once")
	default:
	}
	p.calls[call] = struct{}{}
	p.media.Go(call.media.speak)
	p.media.Go(call.media.listen)
	return nil
}

func (p *Phone) release(call *Call) {
	p.mu.Lock()
	delete(p.calls, call)
	p.mu.Unlock()
}

// Refused says that a call was not taken.
type Refused struct {
	Code   int // SIP status, 300 to 699
	Reason string
}

func (r *Refused) Error() string { return fmt.Sprintf("the call was refused: %d %s", r.Code, r.Reason) }

// Call dials a number at a server ("127.0.0.1:5060") and returns when it is
// answered. It answers one challenge. The error is a *Refused where the server
// said no. When ctx ends before, the call is cancelled.
func (p *Phone) Call(ctx context.Context, server, number string) (*Call, error) {
	to, err := netip.ParseAddrPort(server)
	if err != nil {
		return nil, errors.New("calling: a server is an address and a port")
	}
	media, err := openMedia(p.config, p.wire.address.Addr())
	if err != nil {
		return nil, fmt.Errorf("calling: %w", err)
	}
	call, err := p.dial(ctx, to, number, media)
	if err != nil {
		media.stop()
		return nil, fmt.Errorf("calling: %w", err)
	}
	return call, nil
}

func (p *Phone) dial(ctx context.Context, to netip.AddrPort, number string, media *media) (*Call, error) {
	call := &Call{
		phone: p, wire: p.wire, peer: to, number: number,
		id:     rand.Text(),
		local:  fmt.Sprintf("<sip:%s@%s>;tag=%s", escape(p.config.User), p.wire.address, rand.Text()),
		remote: fmt.Sprintf("<sip:%s@%s>", escape(number), to),
		target: fmt.Sprintf("sip:%s@%s", escape(number), to),
		media:  media,
		done:   make(chan struct{}),
	}
	invite := call.request("INVITE")
	invite.body = media.offer()
	answer, err := p.wire.ask(ctx, to, invite)
	if err != nil {
		return nil, err
	}
	if (answer.code == 401 || answer.code == 407) && p.config.Password != "" && ctx.Err() == nil {
		p.wire.acknowledge(to, invite.branch(), call.rejected(invite, answer))
		if invite, err = call.proved(answer); err != nil {
			return nil, err
		}
		if answer, err = p.wire.ask(ctx, to, invite); err != nil {
			return nil, err
		}
	}
	if answer.code >= 300 {
		p.wire.acknowledge(to, invite.branch(), call.rejected(invite, answer))
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &Refused{answer.code, answer.reason}
	}
	return call, call.established(ctx, invite, answer)
}

// proved is the INVITE again, with the answer to a challenge.
func (c *Call) proved(challenged *message) (*message, error) {
	ask, prove := "WWW-Authenticate", "Authorization"
	if challenged.code == 407 {
		ask, prove = "Proxy-Authenticate", "Proxy-Authorization"
	}
	config := c.phone.config
	chosen, err := choose(challenged.all(ask), config.OldMD5)
	if err != nil {
		return nil, err
	}
	invite := c.request("INVITE")
	invite.add(prove, chosen.answer(config.User, config.Password, "INVITE", invite.uri))
	invite.body = c.media.offer()
	return invite, nil
}

// Ringing waits for a call to ring at the phone, and passes over those that
// gave up meanwhile.
func (p *Phone) Ringing(ctx context.Context) (*Ringing, error) {
	for {
		select {
		case r := <-p.queue:
			if !r.over.Load() {
				return r, nil
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for a call: %w", ctx.Err())
		case <-p.wire.closed:
			return nil, fmt.Errorf("waiting for a call: %w", net.ErrClosed)
		}
	}
}

// Answer waits for a call to ring, lets it ring as the config says, and
// answers it. It returns when the caller has acknowledged that.
func (p *Phone) Answer(ctx context.Context) (*Call, error) {
	r, err := p.Ringing(ctx)
	if err != nil {
		return nil, err
	}
	select {
	case <-time.After(p.config.Rings):
	case <-r.gaveUp:
	case <-ctx.Done():
		r.Reject(ctx, 480) // says so, and does not wait
		return nil, fmt.Errorf("letting a call ring: %w", ctx.Err())
	}
	return r.Answer(ctx)
}
