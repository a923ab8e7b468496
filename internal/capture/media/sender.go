package media

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pion/rtp"

	"yesline/internal/audio"
)

// spoken says whether we can make sound of this codec ourselves.
func spoken(c audio.Codec) bool { return c == audio.PCMU || c == audio.PCMA }

// clockOf is the rate of a codec's RTP timestamps: Opus counts 48,000 a second
// whatever it carries (RFC 7587, 4.1).
func clockOf(c audio.Codec) uint32 {
	if spoken(c) {
		return audio.Rate
	}
	return 48000
}

// sender makes one continuous RTP stream out of prompts, tones and the other
// party's packets: one SSRC, sequence numbers without a break of ours, and
// timestamps that run with the clock.
type sender struct {
	count *Counters

	mu      sync.Mutex // guards the rest
	wire    wire
	closed  bool
	there   bool // we know where to send
	seen    bool // something came from there
	listens bool
	payload uint8
	event   uint8
	codec   audio.Codec
	clock   uint32
	blind   uint32 // packets that may still go to where nothing came from
	keys    keyring
	Numbers // of what was sent
	ssrc    uint32
	stamp   uint32
	sent    time.Time
	mapped  bool // the other party's packets go out with these differences
	seqBy   uint16
	stampBy uint32
	relayed time.Time

	prompts  []*prompt // being played: the first
	beeping  int       // samples of the tone that are still to be heard
	beepDue  time.Time
	beepLeft int // frames until it is given up

	// Not needed for each packet.
	aimed   netip.Addr    // where we send
	proved  netip.Addr    // where something came from last
	patient time.Duration // what blind was made of
}

func (s *sender) attach(w wire) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wire = w
}

func (s *sender) agree(to netip.AddrPort, a *Agreement, loose bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.codec, s.clock, s.payload, s.event, s.listens = a.Codec, a.Clock, a.Payload, a.Events, a.Listens
	if s.keys.use(a.Out) {
		s.ssrc = rand.Uint32() // under that key, the numbers that come are perhaps used
	}
	s.there = to.IsValid() || loose
	s.allow(cmp.Or(a.Unseen, unseenTime))
	s.point(to)
	s.seen = s.seen || loose
}

// unseenTime is how long we send to where nothing of a party came from: a
// description may name somebody who never asked for our sound.
const unseenTime = 30 * time.Second

// allow gives a stream its packets for that time, once in its life: whoever
// names one address after another gets no more of them.
func (s *sender) allow(d time.Duration) {
	if more := d - s.patient; more > 0 {
		s.blind += uint32(more / frame)
		s.patient = d
	}
}

// point sends to an address from now on. Called with mu held.
func (s *sender) point(to netip.AddrPort) {
	s.aimed = to.Addr().Unmap()
	s.seen = s.aimed.IsValid() && s.aimed == s.proved
	if to.IsValid() && !s.closed {
		s.wire.aim(to)
	}
}

// sees notes that something came from an address, if that is where we send.
func (s *sender) sees(from netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if from == s.aimed {
		s.proved, s.seen = from, true
	}
}

// follow sends where the party's packets really come from.
func (s *sender) follow(to netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.there, s.proved = true, to.Addr()
	s.point(to)
}

// relay passes the other party's packet on.
func (s *sender) relay(d *desk, p *rtp.Packet, k kind, from audio.Codec, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.prompts) > 0 || !s.listens || !s.there || k == event && s.event == 0 {
		return
	}
	if k == voice && from != s.codec && !(spoken(from) && spoken(s.codec)) {
		return // nothing here turns one into the other
	}
	seq, stamp, marker := p.SequenceNumber+s.seqBy, p.Timestamp+s.stampBy, p.Marker
	if !s.mapped || s.breaks(seq, stamp) {
		stamp = s.stamp + s.elapsed(now)
		seq = s.seq + 1
		s.mapped, s.seqBy, s.stampBy, marker = true, seq-p.SequenceNumber, stamp-p.Timestamp, true
	}
	s.relayed = now
	payload, kindOf := p.Payload, s.event
	if k == voice {
		kindOf = s.payload
		if from != s.codec || s.beeping > 0 {
			d.samples = from.Decode(d.samples[:0], payload)
			payload = s.encode(d)
		}
	}
	s.send(d, kindOf, seq, stamp, marker, payload, now)
}

// breaks says that the other party's numbers jumped; a party of ours is not to
// see that. Called with mu held, as all below.
func (s *sender) breaks(seq uint16, stamp uint32) bool {
	ahead, jump := int16(seq-s.seq), int64(int32(stamp-s.stamp))
	return jump > 10*int64(s.clock) || jump < -2*int64(s.clock) || ahead > maxDropout || ahead < -maxMisorder
}

// own sends a frame of ours; next says that it goes on from the frame before.
// It reports whether the frame left.
func (s *sender) own(d *desk, frame []byte, next bool, now time.Time) bool {
	step := uint32(frameSize)
	if !next {
		step = s.elapsed(now)
	}
	s.mapped = false
	if !s.listens || !s.there {
		return false
	}
	return s.send(d, s.payload, s.seq+1, s.stamp+step, !next, frame, now)
}

// elapsed is how far timestamps are to go since the last packet, at least a
// frame.
func (s *sender) elapsed(now time.Time) uint32 {
	step := s.clock / 50
	if s.sent.IsZero() {
		return step
	}
	return max(step, uint32(now.Sub(s.sent)/frame)*step)
}

// send writes a packet and reports whether it left.
func (s *sender) send(d *desk, kindOf uint8, seq uint16, stamp uint32, marker bool, payload []byte, now time.Time) bool {
	if s.closed || len(payload) > maxRTP-12 || !s.seen && s.blind == 0 || !s.Fresh(seq) {
		return false
	}
	if !s.seen {
		s.blind--
	}
	if int32(stamp-s.stamp) > 0 {
		s.stamp, s.sent = stamp, now
	}
	b := d.out[:12]
	b[0], b[1] = 0x80, kindOf
	if marker {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], seq)
	binary.BigEndian.PutUint32(b[4:], stamp)
	binary.BigEndian.PutUint32(b[8:], s.ssrc)
	b = append(b, payload...)
	if s.keys.on {
		sealed, err := s.keys.seal(&d.tools, b)
		if err != nil {
			s.count.Unsent.Add(1) // rather nothing than in clear
			return false
		}
		b = sealed
	}
	if s.wire.send(b) != nil {
		s.count.Unsent.Add(1)
		return false
	}
	return true
}

// Numbers are the sequence numbers that a stream of ours has sent. The zero
// value has sent none, and takes any below 2^15 first.
type Numbers struct {
	used uint64 // bit n: number seq-n was sent
	seq  uint16 // the newest
}

// Fresh says whether number seq was not sent yet, and notes it. A number that
// is encrypted twice gives both payloads away (RFC 3711, 9.1), and under
// AES-GCM the key of its tags too (RFC 7714, 8.1), so a party that repeats its
// numbers is not followed.
func (n *Numbers) Fresh(seq uint16) bool {
	ahead := int(int16(seq - n.seq))
	if ahead > 0 {
		n.used = n.used<<ahead | 1 // a shift by 64 or more leaves nothing
		n.seq = seq
		return true
	}
	bit := uint64(1) << -ahead
	if bit == 0 || n.used&bit != 0 {
		return false
	}
	n.used |= bit
	return true
}

// prompt is sound on its way to a party.
type prompt struct {
	sound  []byte
	begun  time.Time // when its first frame went
	frames int       // sent
	lost   int       // of them; they did not leave
	missed bool
	done   chan struct{} // closed at its end, with err
	err    error
}

func (p *prompt) end(err error) {
	p.err = err
	close(p.done)
}

// begin puts a prompt behind those that are played.
func (s *sender) begin(p *prompt) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	if !spoken(s.codec) {
		return errors.New("we do not make sound of the party's codec")
	}
	s.prompts, s.mapped = append(s.prompts, p), false
	return nil
}

var (
	errClosed = errors.New("the stream is closed")
	errMissed = errors.New("the party was not listening, or out of reach")
)

// stop takes a prompt away before its end.
func (s *sender) stop(p *prompt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mapped = false
	s.prompts = slices.DeleteFunc(s.prompts, func(q *prompt) bool { return q == p })
}

func (s *sender) startBeep(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.beeping > 0 || len(s.prompts) > 0 || s.closed || !spoken(s.codec) {
		return false
	}
	s.beeping, s.beepDue, s.beepLeft = len(beepTone), now.Add(frame), 2*len(beepTone)/frameSize // twice its length at most
	return true
}

// feed sends what is due of the prompt and the tone. It reports whether there
// is more to come. The carrier calls it every tick.
func (s *sender) feed(d *desk, now time.Time) (more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.prompts) > 0 {
		s.beeping = 0
		s.feedPrompt(d, s.prompts[0], now)
	}
	if s.beeping > 0 && !now.Before(s.beepDue) {
		s.feedBeep(d, now)
	}
	return len(s.prompts) > 0 || s.beeping > 0
}

const (
	maxBurst = 5 // frames at once, after the thread was held up
	maxLost  = 3 // frames of a prompt that may be lost, and a tenth of it
)

func (s *sender) feedPrompt(d *desk, p *prompt, now time.Time) {
	if p.begun.IsZero() {
		p.begun = now
	}
	for range maxBurst {
		if now.Before(p.begun.Add(time.Duration(p.frames) * frame)) {
			return
		}
		from := p.frames * frameSize
		if from >= len(p.sound) {
			s.mapped = false
			s.prompts = slices.Delete(s.prompts, 0, 1)
			if p.missed || p.lost > min(maxLost, p.frames/10) {
				p.end(errMissed)
			} else {
				p.end(nil)
			}
			return
		}
		if !s.own(d, p.sound[from:min(from+frameSize, len(p.sound))], p.frames > 0, now) {
			p.missed = p.missed || !s.listens || !s.there
			p.lost++
		}
		p.frames++
	}
}

// feedBeep sends the next frame of the tone if nobody's packets carry it.
func (s *sender) feedBeep(d *desk, now time.Time) {
	s.beepDue = s.beepDue.Add(frame)
	if s.beepLeft--; s.beepLeft <= 0 {
		s.beeping = 0
		return
	}
	if now.Sub(s.relayed) < 3*frame {
		return
	}
	next := s.beeping < len(beepTone) && !s.mapped
	d.samples = append(d.samples[:0], silence[:min(frameSize, s.beeping)]...)
	s.own(d, s.encode(d), next, now)
}

var silence [frameSize]int16

// encode adds what is left of the tone to the samples on the desk, and makes a
// payload of them.
func (s *sender) encode(d *desk) []byte {
	n := min(s.beeping, len(d.samples))
	tone := beepTone[len(beepTone)-s.beeping:]
	for i := range n {
		d.samples[i] = int16(max(-32768, min(32767, int(d.samples[i])+int(tone[i]))))
	}
	s.beeping -= n
	d.encoded = s.codec.Encode(d.encoded[:0], d.samples)
	return d.encoded
}

// abandon ends what is played.
func (s *sender) abandon(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beeping = 0
	for _, p := range s.prompts {
		p.end(err)
	}
	s.prompts = nil
}

// close ends what is played, and then the wire. mu is not held then: the thread
// that must let go of it may be at relay.
func (s *sender) close() {
	s.shut()
	s.wire.close()
}

// shut sends nothing more.
func (s *sender) shut() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.abandon(errClosed)
}
