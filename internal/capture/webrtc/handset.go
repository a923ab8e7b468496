package webrtc

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/capture/media"
	"yesline/internal/consent"
)

const (
	silence   = 10 * time.Second // without a sign of a browser: then its tab is dead
	unclaimed = 30 * time.Second // that a browser waits for its call
	sealRoom  = 64               // bytes more than a packet that a cipher may need
)

// Handset is one browser that is in a call, or about to be.
type Handset struct {
	door        *Door
	made        time.Time
	chosen      chosen
	print       fingerprint
	certificate tls.Certificate
	records     *records
	up          chan struct{} // closed when its voice can flow
	owned       sync.WaitGroup

	ctx context.Context // ends with the handset; its cause says why
	end context.CancelCauseFunc

	out     atomic.Pointer[path] // by which it is reached; nil while there is none
	heard   atomic.Int64         // when the last proved thing came, since the door began
	prompts atomic.Int32         // being played: the other's voice is silent meanwhile
	in      inbound
	sealer  outbound

	mu      sync.Mutex // guards the rest
	self    answer
	ways    []*ways // the newest last; the one before it lives until the browser came by the newest
	paths   []*path
	wanted  *path // what the browser nominated last: out, once it came by it
	claimed bool
	started bool // run is
	left    func(error)
	voice   *media.Stream
	house   *media.Stream
	at      *seat // where Reconnect finds it
}

// seat is a party of a call.
type seat struct {
	call   yesline.CallID
	person yesline.PersonID
}

// party is a listener that can say whose line it is; capture.Leg is one.
type party interface {
	Party() (yesline.CallID, yesline.PersonID)
}

// newHandset answers an offer.
func (d *Door) newHandset(o *offer, c chosen) (*Handset, string, error) {
	certificate, print, err := newCertificate()
	if err != nil {
		return nil, "", err
	}
	h := &Handset{door: d, made: time.Now(), chosen: c, print: o.print, certificate: certificate, up: make(chan struct{})}
	h.ctx, h.end = context.WithCancelCause(context.Background())
	h.records = newRecords(h)
	h.heard.Store(int64(h.made.Sub(d.began)))
	h.in.declared = c.voice.ssrcs
	var r [16]byte
	rand.Read(r[:]) // never fails
	w := newWays(o, d.cfg.RelayOnly)
	h.ways = []*ways{w}
	h.self = answer{session: binary.BigEndian.Uint64(r[:]) >> 2, version: 1, name: w.ours, secret: w.secret, print: print,
		udp: d.udp, tcp: d.tcp, voice: binary.BigEndian.Uint32(r[8:]), house: binary.BigEndian.Uint32(r[12:])}
	if h.self.voice == h.self.house {
		h.self.house++
	}
	h.sealer.voice.ssrc, h.sealer.house.ssrc = h.self.voice, h.self.house
	if err := d.admit(h, w); err != nil {
		h.end(err)
		return nil, "", err
	}
	return h, h.self.write(o, c), nil
}

// Reconnect takes the offer of a browser whose network changed (an ICE
// restart) and answers it. The voice keeps its keys: yesline.Denied when
// another certificate asks, yesline.Invalid when it is another call's form.
func (h *Handset) Reconnect(text string) (string, error) {
	o, err := readOffer(text)
	if err != nil {
		return "", err
	}
	c, err := o.choose(h.chosen.voice.codec)
	switch {
	case err != nil:
		return "", err
	case o.print != h.print:
		return "", fmt.Errorf("another browser asks for this call's line: %w", yesline.Denied)
	case !c.like(h.chosen):
		return "", invalid("the browser offers another form of this call")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx.Err() != nil {
		return "", fmt.Errorf("the call's line is gone: %w", yesline.NotFound)
	}
	w := newWays(o, h.door.cfg.RelayOnly)
	if len(h.ways) == 2 { // it asked again before it came
		h.door.unname(h.ways[1])
		h.ways = h.ways[:1]
	}
	h.ways = append(h.ways, w)
	h.door.name(w, h)
	h.self.version++
	h.self.name, h.self.secret = w.ours, w.secret
	h.heard.Store(int64(time.Since(h.door.began))) // its time begins anew
	return h.self.write(o, c), nil
}

// like reports whether two offers have the same lines in the same place.
func (c chosen) like(o chosen) bool {
	same := func(a, b lineIn) bool {
		return a.index == b.index && a.mid == b.mid && a.codec == b.codec && a.payload == b.payload && a.events == b.events
	}
	return same(c.voice, o.voice) && same(c.house, o.house)
}

// Connect takes the call that this browser made: it returns when ICE and DTLS
// stand, 10 seconds after the answer at the latest.
func (h *Handset) Connect(ctx context.Context, o capture.Ends) (capture.Line, error) {
	if !h.claim(o) {
		return capture.Line{}, fmt.Errorf("a browser has one call: %w", yesline.Conflict)
	}
	select {
	case <-h.up:
	case <-h.ctx.Done():
		return capture.Line{}, context.Cause(h.ctx)
	case <-ctx.Done():
		return capture.Line{}, context.Cause(ctx)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx.Err() != nil {
		return capture.Line{}, context.Cause(h.ctx)
	}
	v := h.chosen.voice
	h.voice = h.door.plane.Loose(o.Listener, h.carryVoice)
	h.voice.Agree(media.Agreement{Codec: v.codec, Payload: v.payload, Clock: v.codec.Clock(), Events: v.events, Speaks: true, Listens: true})
	line := capture.Line{Codec: v.codec, Voice: v.codec, Stream: h.voice, Way: consent.ByAccount, Play: h.play(h.voice), Beep: h.voice.Beep}
	if h.chosen.house.index >= 0 {
		h.house = h.door.plane.Loose(nil, h.carryHouse)
		h.house.Agree(media.Agreement{Codec: audio.PCMU, Listens: true})
		line.Codec, line.Play, line.Beep = audio.PCMU, h.play(h.house), h.house.Beep
	}
	h.in.into(h.voice)
	h.left = o.Left
	return line, nil
}

// claim binds the handset to its one call.
func (h *Handset) claim(o capture.Ends) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.claimed {
		return false
	}
	h.claimed = true
	if p, ok := o.Listener.(party); ok {
		call, person := p.Party()
		h.at = &seat{call, person}
		h.door.sit(h.at, h)
	}
	return true
}

// play sends what the house says; the other party is silent meanwhile, though
// it comes in a line of its own. Who was out of reach heard nothing: then it is
// an error, for what a party says of a question depends on having heard it.
func (h *Handset) play(to *media.Stream) func(context.Context, []byte) error {
	return func(ctx context.Context, sound []byte) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(h.ctx, func() { cancel(context.Cause(h.ctx)) })()
		if to != h.voice {
			h.prompts.Add(1)
			defer h.prompts.Add(-1)
		}
		if err := to.Play(ctx, sound); err != nil {
			return err
		}
		return h.reached(ctx, time.Now())
	}
}

var errOutOfReach = errors.New("the browser was out of reach")

// signTime is how long a browser that says nothing takes at most to show that
// it is there: its checks come every five seconds, with a fifth more by chance
// (RFC 7675, 5.1).
const signTime = 6 * time.Second

// reached waits for a sign of the browser after a moment. While a microphone is
// on it takes 20 ms.
func (h *Handset) reached(ctx context.Context, after time.Time) error {
	since := int64(after.Sub(h.door.began))
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for h.heard.Load() <= since {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case now := <-look.C:
			if now.Sub(after) > signTime {
				return errOutOfReach
			}
		}
	}
	return nil
}

// Hangup ends it, gives back what it holds, and waits for it. It may be called
// again, and before and during Connect.
func (h *Handset) Hangup() {
	h.leave(capture.ErrHungUp, false)
	h.owned.Wait()
	h.in.into(nil)
	h.mu.Lock()
	voice, house := h.voice, h.house
	h.voice, h.house = nil, nil
	h.mu.Unlock()
	for _, s := range []*media.Stream{voice, house} {
		if s != nil {
			s.Close()
		}
	}
}

// leave ends the handset once: its names are forgotten, the browser is told,
// and, if tell says so, its call is told why.
func (h *Handset) leave(why error, tell bool) {
	h.mu.Lock()
	if h.ctx.Err() != nil {
		h.mu.Unlock()
		return
	}
	h.end(why)
	ways, left, at, started := h.ways, h.left, h.at, h.started
	h.ways = nil
	h.mu.Unlock()
	h.door.dismiss(h, ways, at)
	if !started {
		h.vacate() // otherwise run does, when it has said goodbye
	}
	if tell && left != nil {
		left(why)
	}
}

// vacate gives the paths back.
func (h *Handset) vacate() {
	h.mu.Lock()
	paths := h.paths
	h.paths = nil
	h.out.Store(nil)
	h.mu.Unlock()
	for _, p := range paths {
		p.end()
	}
}

// run is the handset's one goroutine: it begins with the first DTLS record and
// ends with the connection.
func (h *Handset) run() {
	why := capture.ErrHungUp
	if err := h.secure(); err != nil {
		why = capture.ErrLost
		h.door.cfg.Report.Info("a browser's line could not be encrypted", "error", err)
	}
	h.leave(why, true)
	h.vacate()
}

// look ends a handset that says nothing any more. It is called once a second.
func (h *Handset) look(now time.Time) {
	h.mu.Lock()
	claimed := h.claimed
	h.mu.Unlock()
	age := now.Sub(h.made)
	switch {
	case !h.isUp():
		if age > setupTime {
			h.leave(capture.ErrLost, true)
		}
	case now.Sub(h.door.began)-time.Duration(h.heard.Load()) > silence:
		h.leave(capture.ErrLost, true)
	case !claimed && age > unclaimed:
		h.leave(capture.ErrLost, true)
	}
}

func (h *Handset) isUp() bool {
	select {
	case <-h.up:
		return true
	default:
		return false
	}
}

// take is given what came by a proved path and is no check (RFC 7983): sound,
// reports, or the records of DTLS. The buffer is only lent.
func (p *path) take(b []byte, now time.Time) {
	h := p.handset
	switch {
	case len(b) < 12:
		h.door.count.Odd.Add(1)
	case b[0] >= 128 && b[0] < 192:
		if h.hear(b, now) {
			h.came(p, now)
		}
	case b[0] >= 20 && b[0] < recordMaxTypes:
		h.shakes(p, now)
		h.record(b)
	default:
		h.door.count.Odd.Add(1)
	}
}

// record leaves a datagram to DTLS, and begins it with the first.
func (h *Handset) record(b []byte) {
	if h.isUp() && unsafePlain(b) {
		h.door.count.Odd.Add(1)
		return
	}
	h.mu.Lock()
	if !h.started && h.ctx.Err() == nil {
		h.started = true
		h.owned.Go(h.run)
	}
	h.mu.Unlock()
	h.records.put(b)
}

// inbound is the voice that a browser sends.
type inbound struct {
	declared []uint32 // the SSRCs of its offer; none: the first that has its key

	mu     sync.Mutex // guards the rest
	cipher *srtp.Context
	stream *media.Stream // nil: nobody hears yet, or any more
	locked bool
	ssrc   uint32
	header rtp.Header
	packet rtp.Packet
	clear  [maxDatagram]byte
}

func (i *inbound) use(c *srtp.Context) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.cipher = c
}

// into says where the voice goes; when it returns, nothing goes elsewhere.
func (i *inbound) into(s *media.Stream) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.stream = s
}

// hear opens one packet: of the one SSRC that this browser's voice has, and
// only with its key. It reports whether the browser sent it.
func (h *Handset) hear(b []byte, now time.Time) bool {
	i := &h.in
	ssrc := binary.BigEndian.Uint32(b[8:])
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.cipher == nil:
		return false // ahead of its key
	case b[1] >= 192 && b[1] < 224: // reports (RFC 5761): polite, and all that a silent browser sends
		_, err := i.cipher.DecryptRTCP(nil, b, nil)
		return err == nil
	case i.locked && ssrc != i.ssrc, !i.locked && len(i.declared) > 0 && !slices.Contains(i.declared, ssrc):
		h.door.count.Foreign.Add(1)
		return false
	}
	clear, err := i.cipher.DecryptRTP(i.clear[:0], b, &i.header)
	if errors.Is(err, srtp.ErrFailedToVerifyAuthTag) {
		h.door.count.Forged.Add(1)
		return false
	}
	if err != nil {
		h.door.count.Replayed.Add(1)
		return false
	}
	i.locked, i.ssrc = true, ssrc
	if i.stream == nil {
		return true
	}
	if err := i.packet.Unmarshal(clear); err != nil {
		h.door.count.Odd.Add(1)
		return true
	}
	i.stream.Take(&i.packet, now)
	return true
}

// outbound is what a browser hears: the other party's voice and the house's,
// each in its line.
type outbound struct {
	mu     sync.Mutex // guards the rest
	cipher *srtp.Context
	voice  lineOut
	house  lineOut
	header rtp.Header
	packet [maxDatagram + sealRoom]byte
}

// lineOut is one of our lines.
type lineOut struct {
	ssrc  uint32 // that our answer gave it
	begun bool
	by    uint16 // by which our sequence numbers are behind the stream's
	sent  media.Numbers
}

// number is the sequence number under which a packet goes out. The first is
// below 2^15, so that a browser that misses it cannot be wrong about what came
// before (RFC 3711, 3.3.1).
func (l *lineOut) number(seq uint16) uint16 {
	if !l.begun {
		l.begun, l.by = true, seq&0x8000
	}
	return seq - l.by
}

func (o *outbound) use(c *srtp.Context) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cipher = c
}

// carryVoice sends the other party's packet; while the house speaks it is
// dropped, and the browser is not to think that the network lost it.
func (h *Handset) carryVoice(packet []byte) error {
	o := &h.sealer
	o.mu.Lock()
	defer o.mu.Unlock()
	if h.prompts.Load() > 0 {
		o.voice.by++
		return nil
	}
	return h.carry(packet, &o.voice)
}

func (h *Handset) carryHouse(packet []byte) error {
	o := &h.sealer
	o.mu.Lock()
	defer o.mu.Unlock()
	return h.carry(packet, &o.house)
}

// carry seals a packet of one of our lines and sends it. Called with the
// sealer's mu held.
func (h *Handset) carry(packet []byte, l *lineOut) error {
	o, to := &h.sealer, h.out.Load()
	if to == nil {
		return errOutOfReach // on its way to another network
	}
	if len(packet) < 12 || len(packet) > maxDatagram-sealRoom {
		return fmt.Errorf("a packet of %d bytes: %w", len(packet), yesline.Invalid)
	}
	number := l.number(binary.BigEndian.Uint16(packet[2:]))
	if !l.sent.Fresh(number) {
		return nil // it comes behind what was dropped while the house spoke
	}
	n := copy(o.packet[:], packet)
	binary.BigEndian.PutUint16(o.packet[2:], number)
	binary.BigEndian.PutUint32(o.packet[8:], l.ssrc)
	sealed, err := o.cipher.EncryptRTP(o.packet[:0], o.packet[:n], &o.header)
	if err != nil {
		return fmt.Errorf("sealing a packet: %w", err)
	}
	return to.send(sealed)
}
