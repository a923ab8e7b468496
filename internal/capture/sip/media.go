package sip

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/capture"
)

const (
	frame     = 20 * time.Millisecond
	frameSize = audio.Rate / 50 // bytes of G.711 in a frame
	maxRTP    = 1500
)

// beepTone is heard by both while anything is recorded: 1400 Hz, 0.2 s.
var beepTone = audio.Tone(1400, 200, 5000)

// media is one leg's sound: a socket, the goroutine that reads it, and the one
// stream that this party hears.
type media struct {
	conn  *net.UDPConn
	local netip.AddrPort // what our session descriptions say
	count *Counters
	leg   *capture.Leg // nil on an emergency call: nothing may be kept
	out   sender

	hears  atomic.Pointer[media] // who hears this party; nil while nobody may
	events atomic.Bool           // keys are passed on; never while an answer is pending
	owned  sync.WaitGroup

	mu      sync.Mutex // guards the rest: signalling agrees, the receive loop reads
	agreed  bool
	allowed [2]netip.Addr // where this party's packets may come from
	codec   audio.Codec
	event   uint8
	named   netip.AddrPort // where its description said that it is
	locked  bool
	source  netip.AddrPort
	ssrc    uint32
	before  bool // source and ssrc are what was given up: the same again is nothing new
	keypad  capture.Keypad
}

// openMedia takes an even port of the range; yesline.TooMany when none is free.
func openMedia(cfg *Config, count *Counters, leg *capture.Leg) (*media, error) {
	first, ports := cfg.MediaFrom+cfg.MediaFrom%2, (int(cfg.MediaTo)-int(cfg.MediaFrom))/2+1
	start := rand.IntN(ports)
	for i := range ports {
		port := int(first) + (start+i)%ports*2
		if port > int(cfg.MediaTo) {
			continue
		}
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(cfg.MediaIP, uint16(port))))
		if err != nil {
			continue
		}
		m := &media{conn: conn, local: netip.AddrPortFrom(cfg.MediaIP, uint16(port)), count: count, leg: leg}
		m.out = sender{conn: conn, ssrc: rand.Uint32(), seq: uint16(rand.Uint32()), stamp: rand.Uint32()}
		m.owned.Go(m.receive)
		return m, nil
	}
	return nil, fmt.Errorf("no media port is free: %w", yesline.TooMany)
}

// agree says what was negotiated: where this party's packets may come from (the
// address it named and the one its signalling came from) and where ours go.
// Relearn gives up the source that was locked; only an authenticated party's
// new description may do that. The leg is told when the party moved: another
// address now, or another source or SSRC with its next packet.
func (m *media) agree(d description, codec audio.Codec, signalling netip.Addr, relearn bool) {
	m.mu.Lock()
	m.allowed = [2]netip.Addr{d.addr.Addr(), signalling}
	m.codec, m.event = codec, d.events
	moved := false
	if relearn || !m.agreed {
		moved = m.agreed && !d.addr.Addr().IsUnspecified() && d.addr != m.named
		m.before = (m.before || m.locked) && m.agreed && !moved
		m.locked, m.keypad = false, capture.Keypad{}
	}
	if !d.addr.Addr().IsUnspecified() {
		m.named = d.addr
	}
	m.agreed = true
	locked, source := m.locked, m.source
	m.mu.Unlock()
	to := d.addr
	if locked {
		to = source
	}
	if to.Addr().IsUnspecified() {
		to = netip.AddrPort{}
	}
	m.out.agree(to, codec, d.events, d.dir.listens())
	if m.leg == nil {
		return
	}
	m.leg.Hold(!d.dir.speaks())
	if moved {
		m.leg.Relearn()
	}
}

// renew forgets what the network sent before the party answered.
func (m *media) renew() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.agreed = false
}

// receive reads the socket until it is closed.
func (m *media) receive() {
	buf := make([]byte, maxRTP)
	var p rtp.Packet
	for {
		n, from, err := m.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(frame) // nothing we know of; do not spin
			continue
		}
		m.packet(&p, buf[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), time.Now())
	}
}

// packet takes one datagram: from this party's locked source it goes to the
// room and to whoever hears this party, from anybody else nowhere.
func (m *media) packet(p *rtp.Packet, data []byte, from netip.AddrPort, now time.Time) {
	kind, codec := m.admit(p, data, from)
	switch kind {
	case dropped:
		return
	case voice:
		if m.leg != nil {
			m.leg.Heard(p.Timestamp, p.Payload, now)
		}
	case event:
		m.mu.Lock()
		key, pressed := m.keypad.Read(p.Timestamp, p.Payload)
		m.mu.Unlock()
		if pressed && m.leg != nil {
			m.leg.Key(key, now, true)
		}
		if !m.events.Load() {
			return
		}
	}
	if to := m.hears.Load(); to != nil {
		to.out.relay(p, kind, codec, now)
	}
}

type kind int

const (
	dropped kind = iota
	voice
	event
)

// admit parses a packet and lets it pass if it comes from where this party is:
// any port of the agreed addresses at first, then the first packet's source
// and SSRC alone.
func (m *media) admit(p *rtp.Packet, data []byte, from netip.AddrPort) (kind, audio.Codec) {
	if err := p.Unmarshal(data); err != nil || p.Version != 2 || len(p.Payload) == 0 {
		m.count.Odd.Add(1)
		return dropped, 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.agreed {
		m.count.Odd.Add(1) // sound ahead of its answer
		return dropped, 0
	}
	if !m.locked && !slices.Contains(m.allowed[:], from.Addr()) || m.locked && (from != m.source || p.SSRC != m.ssrc) {
		m.count.Foreign.Add(1)
		return dropped, 0
	}
	k := dropped
	switch {
	case p.PayloadType == m.codec.PayloadType():
		k = voice
	case p.PayloadType == m.event && m.event != 0:
		k = event
	default:
		m.count.Odd.Add(1)
		return dropped, 0
	}
	if !m.locked {
		if m.before && (m.source != from || m.ssrc != p.SSRC) && m.leg != nil {
			m.leg.Relearn()
		}
		m.locked, m.before, m.source, m.ssrc = true, false, from, p.SSRC
		m.out.follow(from)
	}
	return k, m.codec
}

// play sends sound at the pace it is spoken; whoever else this party hears is
// silent meanwhile.
func (m *media) play(ctx context.Context, sound []byte) error {
	m.out.hush(1)
	defer m.out.hush(-1)
	start := time.Now()
	wait := time.NewTimer(0)
	defer wait.Stop()
	missed := false
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wait.C:
		}
		from := i * frameSize
		if from >= len(sound) {
			break
		}
		missed = !m.out.local(sound[from:min(from+frameSize, len(sound))], i > 0, time.Now()) || missed
		wait.Reset(time.Until(start.Add(time.Duration(i+1) * frame)))
	}
	if missed {
		return errors.New("the party was not listening")
	}
	return nil
}

// beep mixes the recording tone into what this party hears, and sends it alone
// when nobody speaks to it.
func (m *media) beep() {
	if !m.out.startBeep() {
		return
	}
	m.owned.Go(func() {
		tick := time.NewTicker(frame)
		defer tick.Stop()
		for range 2 * len(beepTone) / frameSize { // twice its length at most
			now := <-tick.C
			if !m.out.beepAlone(now) {
				return
			}
		}
		m.out.endBeep()
	})
}

// close ends the socket and waits for what uses it.
func (m *media) close() {
	m.hears.Store(nil)
	m.conn.Close()
	m.owned.Wait()
}

// sender makes one continuous RTP stream out of prompts, tones and the other
// party's packets: one SSRC, sequence numbers without a break of ours, and
// timestamps that run with the clock.
type sender struct {
	conn *net.UDPConn

	mu      sync.Mutex // guards the rest
	to      netip.AddrPort
	listens bool
	codec   audio.Codec
	event   uint8
	ssrc    uint32
	seq     uint16 // of the newest packet sent
	stamp   uint32
	sent    time.Time
	silent  int  // prompts being played
	mapped  bool // the other party's packets go out with these differences
	seqBy   uint16
	stampBy uint32
	beeping int // samples of the tone that are still to be heard
	relayed time.Time
	packet  [maxRTP]byte
	samples []int16
	payload []byte
}

func (s *sender) agree(to netip.AddrPort, codec audio.Codec, event uint8, listens bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to, s.codec, s.event, s.listens = to, codec, event, listens
}

// follow sends where the party's packets really come from.
func (s *sender) follow(to netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to = to
}

func (s *sender) hush(by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent += by
	s.mapped = false
}

// relay passes the other party's packet on.
func (s *sender) relay(p *rtp.Packet, k kind, from audio.Codec, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.silent > 0 || !s.listens || k == event && s.event == 0 {
		return
	}
	seq, stamp, marker := p.SequenceNumber+s.seqBy, p.Timestamp+s.stampBy, p.Marker
	if jump := int32(stamp - s.stamp); !s.mapped || jump > 10*audio.Rate || jump < -2*audio.Rate {
		stamp = s.stamp + s.elapsed(now)
		seq = s.seq + 1
		s.mapped, s.seqBy, s.stampBy, marker = true, seq-p.SequenceNumber, stamp-p.Timestamp, true
	}
	s.relayed = now
	payload, kindOf := p.Payload, s.event
	if k == voice {
		kindOf = s.codec.PayloadType()
		if from != s.codec || s.beeping > 0 {
			s.samples = from.Decode(s.samples[:0], payload)
			s.mix(s.samples)
			s.payload = s.codec.Encode(s.payload[:0], s.samples)
			payload = s.payload
		}
	}
	s.send(kindOf, seq, stamp, marker, payload, now)
}

// local sends a frame of our own; next says that it goes on from the frame
// before. It reports whether the party is there to hear it.
func (s *sender) local(frame []byte, next bool, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.own(frame, next, now)
}

func (s *sender) own(frame []byte, next bool, now time.Time) bool {
	step := uint32(frameSize)
	if !next {
		step = s.elapsed(now)
	}
	s.mapped = false
	if !s.listens || !s.to.IsValid() {
		return false
	}
	s.send(s.codec.PayloadType(), s.seq+1, s.stamp+step, !next, frame, now)
	return true
}

// elapsed is how far timestamps are to go since the last packet, at least a
// frame. Called with mu held.
func (s *sender) elapsed(now time.Time) uint32 {
	if s.sent.IsZero() {
		return frameSize
	}
	return max(frameSize, uint32(now.Sub(s.sent)/frame)*frameSize)
}

// send writes a packet. That the network refuses it is the network's affair.
func (s *sender) send(kindOf uint8, seq uint16, stamp uint32, marker bool, payload []byte, now time.Time) {
	if int16(seq-s.seq) > 0 {
		s.seq = seq
	}
	if int32(stamp-s.stamp) > 0 {
		s.stamp, s.sent = stamp, now
	}
	if !s.to.IsValid() || len(payload) > maxRTP-12 {
		return
	}
	b := s.packet[:12]
	b[0], b[1] = 0x80, kindOf
	if marker {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], seq)
	binary.BigEndian.PutUint32(b[4:], stamp)
	binary.BigEndian.PutUint32(b[8:], s.ssrc)
	s.conn.WriteToUDPAddrPort(append(b, payload...), s.to)
}

// mix adds what is left of the tone. Called with mu held.
func (s *sender) mix(samples []int16) {
	n := min(s.beeping, len(samples))
	tone := beepTone[len(beepTone)-s.beeping:]
	for i := range n {
		samples[i] = int16(max(-32768, min(32767, int(samples[i])+int(tone[i]))))
	}
	s.beeping -= n
}

func (s *sender) startBeep() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.beeping > 0 || s.silent > 0 {
		return false
	}
	s.beeping = len(beepTone)
	return true
}

func (s *sender) endBeep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beeping = 0
}

// beepAlone sends the next frame of the tone if nobody's packets carry it. It
// reports whether there is more to come.
func (s *sender) beepAlone(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.silent > 0 {
		s.beeping = 0
	}
	if s.beeping == 0 {
		return false
	}
	if now.Sub(s.relayed) < 3*frame {
		return true
	}
	next := s.beeping < len(beepTone) && !s.mapped
	s.samples = append(s.samples[:0], make([]int16, min(frameSize, s.beeping))...)
	s.mix(s.samples)
	s.payload = s.codec.Encode(s.payload[:0], s.samples)
	s.own(s.payload, next, now)
	return s.beeping > 0
}
