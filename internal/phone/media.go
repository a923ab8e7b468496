package phone

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	rate       = 8000
	frame      = rate / 50 // samples in a packet of 20 ms
	tick       = 20 * time.Millisecond
	longest    = 10 * 60 * rate // what a phone remembers of a call, and what may wait to be said
	jump       = 5 * rate       // timestamps farther off than this begin anew where they arrive
	maxEvents  = 256
	maxKeys    = 64
	keyUpdates = 4 // packets of a key before the last, which is sent three times
	keyEnds    = 3
	keyGap     = 3 // packets of sound between two keys
)

// silence is the byte that sounds like nothing, in each codec.
var silence = map[uint8]byte{PCMU: 0xff, PCMA: 0xd5}

// An Event is a key that the other side pressed (RFC 4733).
type Event struct {
	Key         byte
	PayloadType uint8
	Timestamp   uint32
	Duration    uint16 // the longest that was said, in samples
	Marked      bool   // whether its first packet had the marker bit
	Packets     int
	Ends        int // packets with the end bit
}

// media is one side's sound: a socket, what is to be sent, what was heard.
type media struct {
	config Config
	socket *net.UDPConn
	local  netip.AddrPort
	ssrc   uint32
	once   sync.Once
	ended  chan struct{}

	mu        sync.Mutex
	moved     chan struct{} // closed, and made anew, when something below has changed
	peer      netip.AddrPort
	codec     uint8
	event     uint8  // payload type for keys that we send; 0 is none
	hears     uint8  // payload type of keys that come
	held      bool   // the other side does not want to hear
	version   uint64 // of our description
	direction string // that it said last

	queue []byte // to be said
	keys  []byte // to be pressed; the first may be half sent
	sent  []byte

	heard   []byte
	began   time.Time // arrival of the first packet
	source  uint32    // SSRC being heard
	anchor  int64     // place in heard of the timestamp zero
	zero    uint32
	events  []Event
	ignored int
}

func openMedia(config Config, at netip.Addr) (*media, error) {
	socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
	if err != nil {
		return nil, fmt.Errorf("opening a media port: %w", err)
	}
	return &media{
		config: config, socket: socket,
		local: unmapped(socket.LocalAddr().(*net.UDPAddr).AddrPort()),
		ssrc:  random32(), ended: make(chan struct{}), moved: make(chan struct{}),
		direction: "sendrecv", version: 1, hears: config.Event,
	}, nil
}

func random32() uint32 {
	var b [4]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint32(b[:])
}

// stop closes the port; what was heard stays.
func (m *media) stop() {
	m.once.Do(func() {
		close(m.ended)
		m.socket.Close()
	})
}

// offer is the phone's own description.
func (m *media) offer() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	codecs := m.config.Codecs
	if m.peer.IsValid() { // agreed already: the same again
		codecs = []uint8{m.codec}
	}
	d := description{media: m.local, codecs: codecs, event: m.hears, direction: "sendrecv"}
	return d.bytes(uint64(m.ssrc), m.version)
}

// agree takes the other side's answer to our offer.
func (m *media) agree(answer []byte) error {
	d, err := parseSDP(answer)
	if err != nil {
		return err
	}
	if !slices.Contains(m.config.Codecs, d.codecs[0]) {
		return errors.New("the answer has a codec that was not offered")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.peer, m.codec, m.event = d.media, d.codecs[0], d.event
	m.held = d.direction == "sendonly" || d.direction == "inactive"
	return nil
}

// answer takes the other side's offer and answers it, with the payload type
// for keys that it named.
func (m *media) answer(offer []byte) ([]byte, error) {
	d, err := parseSDP(offer)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	prefer := m.config.Codecs
	if m.peer.IsValid() { // a call keeps its codec: what was heard is in it
		prefer = []uint8{m.codec}
	}
	codec, ok := d.pick(prefer)
	if !ok {
		return nil, errors.New("nothing is offered that the phone speaks")
	}
	answer := description{
		media: m.local, codecs: []uint8{codec}, event: d.event,
		direction: mirror(d.direction), lines: d.lines,
	}
	if answer.direction != m.direction {
		m.direction = answer.direction
		m.version++
	}
	m.peer, m.codec, m.event, m.hears = d.media, codec, d.event, d.event
	m.held = d.direction == "sendonly" || d.direction == "inactive"
	return answer.bytes(uint64(m.ssrc), m.version), nil
}

func (m *media) speaks() uint8 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.codec
}

func (m *media) ends() (local, remote netip.AddrPort) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.local, m.peer
}

func (m *media) say(muLaw []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.ended:
		return errors.New("speaking: the call has ended")
	default:
	}
	if len(m.queue)+len(muLaw) > longest {
		return errors.New("speaking: more than ten minutes are waiting")
	}
	for _, b := range muLaw {
		if m.codec == PCMA {
			b = muToA[b]
		}
		m.queue = append(m.queue, b)
	}
	return nil
}

const keypad = "0123456789*#ABCD" // by event number

func (m *media) press(ctx context.Context, keys string) error {
	if len(keys) > maxKeys || strings.Trim(keys, keypad) != "" {
		return fmt.Errorf("pressing keys: at most %d of %s", maxKeys, keypad)
	}
	m.mu.Lock()
	able := m.event != 0
	if able {
		m.keys = append(m.keys, keys...)
	}
	m.mu.Unlock()
	if !able {
		return errors.New("pressing keys: the other side takes none")
	}
	return m.wait(ctx, func() bool { return len(m.keys) == 0 })
}

// wait returns when ready, asked under the lock at every change, says yes.
func (m *media) wait(ctx context.Context, ready func() bool) error {
	for {
		m.mu.Lock()
		yes, moved := ready(), m.moved
		m.mu.Unlock()
		if yes {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("waiting in a call: %w", ctx.Err())
		case <-m.ended:
			m.mu.Lock()
			defer m.mu.Unlock()
			if ready() {
				return nil
			}
			return errors.New("waiting in a call: it has ended")
		}
	}
}

// tell wakes all who wait. The caller holds mu.
func (m *media) tell() {
	close(m.moved)
	m.moved = make(chan struct{})
}

func (m *media) since(from int) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.heard[min(from, len(m.heard)):])
}

// speak sends a packet every 20 ms until the call ends. When the machine was
// late it catches up, so that the sound's clock and ours stay together.
func (m *media) speak() {
	s := sender{seq: uint16(m.ssrc), timestamp: m.ssrc ^ 0x5bd1e995, first: true}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for next := time.Now(); ; next = next.Add(tick) {
		timer.Reset(time.Until(next))
		select {
		case <-m.ended:
			return
		case <-timer.C:
		}
		m.mu.Lock()
		packet, peer := m.next(&s), m.peer
		m.mu.Unlock()
		if packet != nil {
			m.socket.WriteToUDPAddrPort(packet, peer)
		}
	}
}

// A sender is where speak stands in its stream.
type sender struct {
	seq       uint16
	timestamp uint32
	first     bool // the next packet of sound begins a stretch of it: marker
	step      int  // packets sent of the key that is down; then those of the gap
	gap       int
	started   uint32 // timestamp of the key that is down
}

// next makes the packet for this 20 ms, or none. The caller holds mu.
func (m *media) next(s *sender) []byte {
	defer func() { s.timestamp += frame }()
	if s.gap == 0 && len(m.keys) > 0 && !m.held {
		m.spoke(nil)
		return m.key(s)
	}
	s.gap = max(0, s.gap-1)
	if m.held || len(m.queue) == 0 && m.config.Quiet {
		m.spoke(nil)
		s.first = true
		return nil
	}
	sound := m.queue[:min(frame, len(m.queue))]
	m.queue = m.queue[len(sound):]
	payload := append(make([]byte, 0, frame), sound...)
	for len(payload) < frame {
		payload = append(payload, silence[m.codec])
	}
	if len(sound) > 0 && len(m.queue) == 0 {
		m.queue = nil
		m.tell()
	}
	m.spoke(payload)
	packet := m.packet(s, m.codec, s.first, s.timestamp, payload)
	s.first = false
	return packet
}

// spoke notes what was sent; nil is 20 ms of nothing.
func (m *media) spoke(payload []byte) {
	if len(m.sent) >= longest {
		return
	}
	if payload != nil {
		m.sent = append(m.sent, payload...)
		return
	}
	for range frame {
		m.sent = append(m.sent, silence[m.codec])
	}
}

// key makes the next packet of the key that is down (RFC 4733 section 2.5.1):
// one timestamp, a growing duration, the last three times with the end bit.
func (m *media) key(s *sender) []byte {
	if s.step == 0 {
		s.started = s.timestamp
	}
	s.step++
	payload := []byte{byte(strings.IndexByte(keypad, m.keys[0])), 10, 0, 0} // volume -10 dBm0
	binary.BigEndian.PutUint16(payload[2:], uint16(min(s.step, keyUpdates+1)*frame))
	if s.step > keyUpdates {
		payload[1] |= 0x80
	}
	packet := m.packet(s, m.event, s.step == 1, s.started, payload)
	if s.step == keyUpdates+keyEnds {
		s.step, s.gap, s.first = 0, keyGap, true
		m.keys = m.keys[1:]
		m.tell()
	}
	return packet
}

// packet is RTP (RFC 3550 section 5.1).
func (m *media) packet(s *sender, kind uint8, marker bool, timestamp uint32, payload []byte) []byte {
	p := make([]byte, 12, 12+len(payload))
	p[0], p[1] = 0x80, kind
	if marker {
		p[1] |= 0x80
	}
	binary.BigEndian.PutUint16(p[2:], s.seq)
	binary.BigEndian.PutUint32(p[4:], timestamp)
	binary.BigEndian.PutUint32(p[8:], m.ssrc)
	s.seq++
	return append(p, payload...)
}

// listen takes packets until the port is closed.
func (m *media) listen() {
	buffer := make([]byte, 2048)
	for {
		n, from, err := m.socket.ReadFromUDPAddrPort(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		arrived := time.Now()
		m.mu.Lock()
		if unmapped(from) != m.peer || !m.hear(buffer[:n], arrived) {
			m.ignored++
		}
		m.tell()
		m.mu.Unlock()
	}
}

// hear takes one RTP packet; false is for what is not sound or a key. The
// caller holds mu.
func (m *media) hear(p []byte, arrived time.Time) bool {
	kind, marker, timestamp, source, payload, ok := readRTP(p)
	switch {
	case !ok:
		return false
	case kind == m.hears && m.hears != 0:
		return m.pressed(kind, marker, timestamp, payload)
	case kind != m.codec || len(payload) == 0:
		return false
	}
	if m.began.IsZero() {
		m.began, m.source, m.zero = arrived, source, timestamp
	}
	now := arrived.Sub(m.began).Milliseconds() * rate / 1000
	place := m.anchor + int64(int32(timestamp-m.zero))
	if source != m.source || place > now+jump || place < now-jump {
		m.source, m.zero, m.anchor, place = source, timestamp, now, now
	}
	if place < 0 || place+int64(len(payload)) > longest {
		return false
	}
	for int64(len(m.heard)) < place+int64(len(payload)) {
		m.heard = append(m.heard, silence[m.codec])
	}
	copy(m.heard[place:], payload)
	return true
}

// readRTP takes a packet apart: RFC 3550 section 5.1.
func readRTP(p []byte) (kind uint8, marker bool, timestamp, source uint32, payload []byte, ok bool) {
	if len(p) < 12 || p[0]>>6 != 2 {
		return
	}
	start := 12 + 4*int(p[0]&15)
	if p[0]&0x10 != 0 { // an extension: its length is in words after four bytes
		if len(p) < start+4 {
			return
		}
		start += 4 + 4*int(binary.BigEndian.Uint16(p[start+2:]))
	}
	end := len(p)
	if p[0]&0x20 != 0 { // padding: its length is the last byte
		end -= int(p[len(p)-1])
	}
	if start > end || p[0]&0x20 != 0 && p[len(p)-1] == 0 {
		return
	}
	return p[1] & 0x7f, p[1]&0x80 != 0, binary.BigEndian.Uint32(p[4:]), binary.BigEndian.Uint32(p[8:]), p[start:end], true
}

// pressed takes a packet of a key. Packets of one timestamp are one key.
func (m *media) pressed(kind uint8, marker bool, timestamp uint32, payload []byte) bool {
	if len(payload) < 4 || int(payload[0]) >= len(keypad) {
		return false
	}
	known := slices.IndexFunc(m.events, func(e Event) bool { return e.Timestamp == timestamp })
	if known < 0 {
		if len(m.events) == maxEvents {
			return false
		}
		known = len(m.events)
		m.events = append(m.events, Event{Key: keypad[payload[0]], PayloadType: kind, Timestamp: timestamp, Marked: marker})
	}
	e := &m.events[known]
	e.Packets++
	e.Duration = max(e.Duration, binary.BigEndian.Uint16(payload[2:]))
	if payload[1]&0x80 != 0 {
		e.Ends++
	}
	return true
}
