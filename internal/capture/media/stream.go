package media

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"

	"yesline/internal/audio"
)

// Stream is one party's sound: where it comes from, and the one stream that
// this party hears.
type Stream struct {
	plane    *Plane
	listener Listener
	local    netip.AddrPort
	loose    bool // no socket: another transport authenticates what it brings
	out      sender

	hears  atomic.Pointer[Stream] // who hears this party; nil while nobody may
	keys   atomic.Bool            // keys are passed on; never while an answer is pending
	closed sync.Once

	mu      sync.Mutex // guards the rest: signalling agrees, the thread reads
	agreed  bool
	allowed [2]netip.Addr // where this party's packets may come from
	codec   audio.Codec
	payload uint8
	event   uint8
	in      keyring
	named   netip.AddrPort // where its description said that it is
	locked  bool
	source  netip.AddrPort
	ssrc    uint32
	before  bool // source and ssrc are what was given up: the same again is nothing new
	order   order
	keypad  Keypad
	probes  int64
	told    int64 // of probes, in alarms
	alarmed time.Time
}

// Agreement is what was negotiated with a party.
type Agreement struct {
	Addr       netip.AddrPort // where its description says it is; an unspecified address is the old hold
	Signalling netip.Addr     // where its signalling comes from
	Codec      audio.Codec    // of both directions
	Clock      uint32         // of the RTP timestamps, in hertz; 0: the codec's
	Payload    uint8          // payload type of Codec; G.711 has its static one
	Events     uint8          // payload type of telephone-event (RFC 4733); 0: none
	Speaks     bool           // what its direction says (RFC 3264); a party that does not speak sends music or nothing
	Listens    bool
	Relearn    bool          // give up the locked source: only an authenticated party's new description
	Unseen     time.Duration // how long we send to where nothing of this party came from; 0: 30 s
	In, Out    *Crypto       // SRTP: what it encrypts with, what we encrypt with; nil: plain
}

func newStream(p *Plane, l Listener) *Stream {
	s := &Stream{plane: p, listener: l}
	// The first number is low, so that whoever misses some of an encrypted stream's
	// beginning does not take a wrap for none (RFC 3711, 3.3.1).
	s.out = sender{count: &p.count, ssrc: rand.Uint32(), Numbers: Numbers{seq: uint16(rand.Uint32N(1 << 15)), used: 1}, stamp: rand.Uint32()}
	return s
}

// Local is what our session description says; the zero value for a loose one.
func (s *Stream) Local() netip.AddrPort { return s.local }

// Codec is what was agreed on last.
func (s *Stream) Codec() audio.Codec {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.codec
}

// Source is where this party's packets come from; the zero value before the
// first, and for a loose one.
func (s *Stream) Source() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.source
}

// Probes is how many packets pretended to be this party's, and were not.
func (s *Stream) Probes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.probes
}

// Agree says what was negotiated: where this party's packets may come from (the
// address it named and the one its signalling came from) and where ours go.
// Relearn gives up the source that was locked; only an authenticated party's
// new description may do that. The listener is told when the party moved:
// another address now, or another source or SSRC with its next packet.
func (s *Stream) Agree(a Agreement) {
	if spoken(a.Codec) {
		a.Payload = a.Codec.PayloadType()
	}
	if a.Clock == 0 {
		a.Clock = clockOf(a.Codec)
	}
	moved := s.agree(&a)
	if s.listener == nil {
		return
	}
	s.listener.Hold(!a.Speaks)
	if moved {
		s.listener.Relearn()
	}
}

func (s *Stream) agree(a *Agreement) (moved bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	nowhere := !a.Addr.IsValid() || a.Addr.Addr().IsUnspecified() || s.plane.owns(a.Addr)
	s.allowed = [2]netip.Addr{a.Addr.Addr().Unmap(), a.Signalling.Unmap()}
	s.codec, s.payload, s.event = a.Codec, a.Payload, a.Events
	s.in.use(a.In)
	if a.Relearn || !s.agreed {
		moved = s.agreed && !nowhere && a.Addr != s.named
		s.before = (s.before || s.locked) && s.agreed && !moved
		s.locked, s.keypad, s.order = false, Keypad{}, order{}
	}
	if !nowhere {
		s.named = a.Addr
	}
	s.agreed = true
	to := a.Addr
	switch {
	case s.locked:
		to = s.source
	case nowhere:
		to = netip.AddrPort{}
	}
	s.out.agree(to, a, s.loose)
	return moved
}

// Renew forgets what the network sent before the party answered.
func (s *Stream) Renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agreed = false
}

// Hears lets to hear this party from now on; nil: nobody.
func (s *Stream) Hears(to *Stream) { s.hears.Store(to) }

// PassKeys says whether this party's keys go on to whoever hears it. They never
// do while an answer is pending.
func (s *Stream) PassKeys(on bool) { s.keys.Store(on) }

// Join lets both hear each other, keys included.
func Join(a, b *Stream) {
	for _, s := range [2]*Stream{a, b} {
		s.PassKeys(true)
	}
	a.Hears(b)
	b.Hears(a)
}

// Close gives the port back, ends what is played, and waits for what uses the
// stream.
func (s *Stream) Close() {
	s.closed.Do(func() {
		s.hears.Store(nil)
		s.out.close()
		if !s.loose {
			s.plane.release(s.local, time.Now())
		}
	})
}

// desk is what those who carry packets work at: one at a time.
type desk struct {
	data    [roomRTP]byte     // as it came
	out     [maxRTP + 32]byte // ours, and an SRTP tag
	packet  rtp.Packet
	tools   tools
	samples []int16
	encoded []byte
}

// read takes a datagram: from this party's locked source it goes to the listener
// and to whoever hears this party, from anybody else nowhere.
func (s *Stream) read(d *desk, data []byte, from netip.AddrPort, now time.Time) {
	kind, codec := s.admit(d, data, from, now)
	s.pass(d, &d.packet, kind, codec, now)
}

// Take is how another transport brings a packet that it authenticated.
func (s *Stream) Take(p *rtp.Packet, now time.Time) {
	d, _ := s.plane.desks.Get().(*desk)
	if d == nil {
		d = &desk{}
	}
	defer s.plane.desks.Put(d)
	kind, codec := s.accept(p, now)
	s.pass(d, p, kind, codec, now)
}

func (s *Stream) pass(d *desk, p *rtp.Packet, k kind, codec audio.Codec, now time.Time) {
	switch k {
	case dropped:
		return
	case voice:
		if s.listener != nil {
			s.listener.Heard(p.Timestamp, p.Payload, now)
		}
	case event:
		s.press(p, now)
		if !s.keys.Load() {
			return
		}
	}
	if to := s.hears.Load(); to != nil {
		to.out.relay(d, p, k, codec, now)
	}
}

func (s *Stream) press(p *rtp.Packet, now time.Time) {
	s.mu.Lock()
	key, pressed := s.keypad.Read(p.Timestamp, p.Payload)
	s.mu.Unlock()
	if pressed && s.listener != nil {
		s.listener.Key(key, now, true)
	}
}

type kind int

const (
	dropped kind = iota
	voice
	event
)

// admit parses a datagram and lets it pass if it comes from where this party
// is: any port of the agreed addresses at first, then the first packet's
// source and SSRC alone. The packet is on the desk then.
func (s *Stream) admit(d *desk, data []byte, from netip.AddrPort, now time.Time) (kind, audio.Codec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.agreed {
		return s.odd()
	}
	if isRTCP(data) { // reports on the same port (RFC 5761): polite, and all that a silent party may send
		if !s.known(from) {
			return s.probe(&s.plane.count.Foreign, now)
		}
		s.sees(from)
		return dropped, 0
	}
	if isSTUN(data) && s.known(from) {
		s.sees(from)
	}
	p := &d.packet
	if _, err := p.Header.Unmarshal(data); err != nil || p.Version != 2 || len(data) > maxRTP {
		return s.odd()
	}
	if !s.known(from) || s.locked && p.SSRC != s.ssrc {
		return s.probe(&s.plane.count.Foreign, now)
	}
	k := s.kindOf(p.PayloadType)
	if k == dropped {
		s.sees(from) // comfort noise, most likely (RFC 3389)
		return s.odd()
	}
	if s.in.on {
		plain, err := s.in.open(&d.tools, data)
		if err != nil {
			return s.unproven(err, now)
		}
		data = plain
	}
	if err := p.Unmarshal(data); err != nil || len(p.Payload) == 0 {
		return s.odd()
	}
	if !s.locked {
		s.lock(from, p.SSRC)
	}
	if !s.in.on && !s.order.follows(p.SequenceNumber, now) {
		return s.probe(&s.plane.count.Jumped, now)
	}
	return k, s.codec
}

// accept is admit for a packet that another transport authenticated.
func (s *Stream) accept(p *rtp.Packet, now time.Time) (kind, audio.Codec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.kindOf(p.PayloadType)
	if !s.agreed || k == dropped || len(p.Payload) == 0 || len(p.Payload) > maxRTP {
		return s.odd()
	}
	if s.locked && p.SSRC != s.ssrc {
		return s.probe(&s.plane.count.Foreign, now)
	}
	if !s.locked {
		s.lock(netip.AddrPort{}, p.SSRC)
	}
	return k, s.codec
}

// isRTCP tells reports from sound on one port (RFC 5761, 4).
func isRTCP(data []byte) bool {
	return len(data) >= 8 && data[0]>>6 == 2 && data[1] >= 192 && data[1] <= 223
}

// isSTUN tells the checks of a party's ICE, or what keeps its NAT open (RFC
// 8489, 5).
func isSTUN(data []byte) bool {
	return len(data) >= 20 && data[0] < 4 && binary.BigEndian.Uint32(data[4:]) == 0x2112a442
}

// sees notes that the party sent something, though no sound yet. Called with mu
// held.
func (s *Stream) sees(from netip.AddrPort) {
	if !s.locked {
		s.out.sees(from.Addr())
	}
}

// known says whether a datagram comes from where this party may be.
func (s *Stream) known(from netip.AddrPort) bool {
	if s.locked {
		return from == s.source
	}
	return slices.Contains(s.allowed[:], from.Addr()) && !s.plane.owns(from)
}

func (s *Stream) kindOf(payload uint8) kind {
	switch {
	case payload == s.payload:
		return voice
	case payload == s.event && s.event != 0:
		return event
	}
	return dropped
}

// lock is at the first packet of a party. Called with mu held.
func (s *Stream) lock(from netip.AddrPort, ssrc uint32) {
	if s.before && (s.source != from || s.ssrc != ssrc) && s.listener != nil {
		s.listener.Relearn()
	}
	s.locked, s.before, s.source, s.ssrc = true, false, from, ssrc
	if !s.loose {
		s.out.follow(from)
	}
}

func (s *Stream) odd() (kind, audio.Codec) {
	s.plane.count.Odd.Add(1)
	return dropped, 0
}

// unproven counts what did not come from the key we agreed on.
func (s *Stream) unproven(err error, now time.Time) (kind, audio.Codec) {
	switch {
	case errors.Is(err, errForged), errors.Is(err, errNoKey):
		return s.probe(&s.plane.count.Forged, now)
	case errors.Is(err, errSources):
		return s.probe(&s.plane.count.Foreign, now)
	}
	return s.probe(&s.plane.count.Replayed, now)
}

// probe counts a packet that pretended to be this party's, and sounds the
// alarm, once a minute at most. Called with mu held.
func (s *Stream) probe(count *atomic.Int64, now time.Time) (kind, audio.Codec) {
	count.Add(1)
	s.plane.count.Probes.Add(1)
	s.probes++
	if !s.alarmed.IsZero() && now.Sub(s.alarmed) < alarmPause {
		return dropped, 0
	}
	select {
	case s.plane.alarms <- alarm{s.listener, s.local.Port(), s.probes - s.told}:
		s.alarmed, s.told = now, s.probes
	default: // very many at once; the next one tells
	}
	return dropped, 0
}

// order watches the sequence of a plain source (RFC 3550, A.1): who knows a
// party's address and SSRC but not its numbers gets nothing in. A source that
// began anew is believed at its second packet in order, once the old numbers
// are silent.
type order struct {
	begun bool
	seq   uint16
	seen  time.Time // when the newest in order came
	far   bool
	next  uint16 // after the last one far away
}

const (
	maxDropout  = 3000
	maxMisorder = 100
)

func (o *order) follows(seq uint16, now time.Time) bool {
	ahead := int16(seq - o.seq)
	switch {
	case !o.begun, o.far && seq == o.next && now.Sub(o.seen) > 3*frame:
		*o = order{begun: true, seq: seq, seen: now}
		return true
	case ahead < -maxMisorder || ahead > maxDropout:
		o.far, o.next = true, seq+1
		return false
	case ahead > 0:
		o.seq = seq
	}
	o.seen = now
	return true
}

// Play sends sound, in Codec (G.711 only), at the pace it is spoken; whoever
// else this party hears is silent meanwhile. It returns nil when the last of it
// was sent. What was begun before is played first.
func (s *Stream) Play(ctx context.Context, sound []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p := &prompt{sound: sound, done: make(chan struct{})}
	if err := s.out.begin(p); err != nil {
		return err
	}
	s.plane.carrier.feed(s)
	select {
	case <-ctx.Done():
		s.out.stop(p)
		return ctx.Err()
	case <-p.done:
		return p.err
	}
}

// Beep mixes the recording tone into what this party hears, and sends it alone
// when nobody speaks to it. It does not wait. G.711 only.
func (s *Stream) Beep() {
	if s.out.startBeep(time.Now()) {
		s.plane.carrier.feed(s)
	}
}
