package sip

import (
	"context"
	"crypto/rand"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/capture/media"
	"yesline/internal/consent"
)

// dialog is one leg's signalling, matched by Call-ID and our own tag (RFC 3261
// section 12). Our tags are 128 random bits: who knows one has seen the call.
type dialog struct {
	door   *Door
	ctx    context.Context // of the leg
	left   func(why error) // ends the call: this party left
	ear    *ear            // hears this party, for its listener
	device yesline.DeviceID
	way    consent.Way // how the house knows whose phone it is
	media  *media.Stream
	tunnel *tunnel // DTLS-SRTP; nil otherwise
	callID string
	tag    string // ours

	local, remote sip.Header // From and To of our requests
	target        sip.Uri
	routes        []sip.Header
	peer          peer // where its messages come from, and ours go
	trunk         bool
	invited       bool // they called us

	mu        sync.Mutex // guards the rest
	ours      ours       // our last session description
	theirs    description
	invite1   uint32 // the number of the INVITE that began it, if we did; set once
	cseq      uint32 // of our last request
	theirCSeq uint32
	acks      []*awaited    // the ACKs that 2xx of ours wait for, oldest first
	acked     uint32        // the number of the last that came: a repeated one is for nothing else
	owed      chan struct{} // closed when all of them came; nil when none is owed
	offering  bool          // an offer of ours waits for its answer
	promised  bool          // that answer comes with an ACK
	taking    chan struct{} // closed when that answer was taken; nil until its ACK came
	answering bool          // an offer of theirs is being answered
	updates   bool          // they take UPDATE
	aware     bool          // they show their person whether they are recorded (RFC 7866)
	wishes    string        // their recordpref
	timer     timer
	talking   bool      // it was picked up
	heard     time.Time // when anything was last heard of them, or they had no need to speak
	over      bool
}

// ear is the listener of a leg. It notices that anything is sent at all, and
// passes it on to who is to hear it; nobody, on an emergency call.
type ear struct {
	to    media.Listener
	heard atomic.Bool
}

func (e *ear) Heard(stamp uint32, payload []byte, now time.Time) {
	if !e.heard.Load() { // storing costs more, and this is for each packet
		e.heard.Store(true)
	}
	if e.to != nil {
		e.to.Heard(stamp, payload, now)
	}
}

func (e *ear) Key(key byte, at time.Time, locked bool) {
	if locked { // else it came by the signalling, and says nothing of the sound
		e.heard.Store(true)
	}
	if e.to != nil {
		e.to.Key(key, at, locked)
	}
}

func (e *ear) Hold(on bool) {
	if e.to != nil {
		e.to.Hold(on)
	}
}

func (e *ear) Relearn() {
	if e.to != nil {
		e.to.Relearn()
	}
}

// LogValue names the leg, where it has a name.
func (e *ear) LogValue() slog.Value {
	if named, is := e.to.(slog.LogValuer); is {
		return named.LogValue()
	}
	return slog.StringValue("")
}

func newTag() string { return strings.ToLower(rand.Text()) }

func dialogKey(callID, tag string) string { return callID + "\x00" + tag }

func (d *dialog) key() string { return dialogKey(d.callID, d.tag) }

// request makes an in-dialog request.
func (d *dialog) request(method sip.RequestMethod) *sip.Request {
	d.mu.Lock()
	d.cseq++
	n := d.cseq
	d.mu.Unlock()
	return d.numbered(method, n)
}

func (d *dialog) numbered(method sip.RequestMethod, n uint32) *sip.Request {
	req := sip.NewRequest(method, *d.target.Clone())
	d.door.route(req, d.at())
	for _, r := range d.routes {
		req.AppendHeader(sip.HeaderClone(r))
	}
	req.AppendHeader(sip.HeaderClone(d.local))
	req.AppendHeader(sip.HeaderClone(d.remote))
	id := sip.CallIDHeader(d.callID)
	req.AppendHeader(&id)
	req.AppendHeader(&sip.CSeqHeader{SeqNo: n, MethodName: method})
	req.SetBody(nil)
	return req
}

// bye ends the dialog, once, and waits a little for the answer.
func (d *dialog) bye() {
	if d.end() {
		return
	}
	d.mu.Lock()
	owed := d.owed
	d.mu.Unlock()
	if owed != nil { // a BYE may not overtake the ACK (RFC 3261, 15)
		select {
		case <-owed:
		case <-time.After(owedTime):
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), byeTime)
	defer cancel()
	tx, err := d.door.ask(ctx, d.request(sip.BYE))
	if err != nil {
		return
	}
	defer tx.Terminate()
	for {
		select {
		case res := <-tx.Responses():
			if !res.IsProvisional() {
				return
			}
		case <-tx.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// close hangs up and gives the port back.
func (d *dialog) close() {
	d.media.Hears(nil)
	d.bye()
	d.door.drop(d)
	d.silence()
}

// silence gives the port back.
func (d *dialog) silence() {
	if d.tunnel != nil {
		d.tunnel.close()
		return
	}
	d.media.Close()
}

// openSound gives the leg a stream, protected as it is to be.
func (d *dialog) openSound(how security, to media.Listener) (err error) {
	d.ear = &ear{to: to}
	d.ours = ours{id: newSDPID(), version: 1, codecs: []audio.Codec{audio.PCMU, audio.PCMA}, events: defaultEvents, dir: sendrecv, secured: how}
	urgent := to == nil // what anybody listens to is no call for help
	if how == byDTLS {
		if d.tunnel, err = d.door.openTunnel(d.ear, urgent); err != nil {
			return err
		}
		d.media, d.ours.addr, d.ours.print = d.tunnel.stream, d.tunnel.local, d.door.identity.print
		return nil
	}
	stream := d.door.plane.Stream
	if urgent {
		stream = d.door.plane.Urgent
	}
	if d.media, err = stream(d.ear); err != nil {
		return err
	}
	d.ours.addr = d.media.Local()
	return nil
}

// agree gives the sound of the leg what was agreed on. It does not go on and on
// to where nobody answers; but who calls for help may have to be silent.
func (d *dialog) agree(a media.Agreement) {
	a.Unseen = min(unseenTime, d.door.cfg.MaxSilence)
	if d.ear.to == nil {
		a.Unseen = 24 * time.Hour
	}
	d.media.Agree(a)
}

const unseenTime = 30 * time.Second

// talk says that the leg was picked up: from now on it is looked after.
func (d *dialog) talk() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.talking, d.heard = true, time.Now()
	d.timer.since = d.heard
}

// moved sends what follows to where the peer is now.
func (d *dialog) moved(to peer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.peer = to
}

func (d *dialog) at() peer {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.peer
}

// answers reports whether the peer began the dialog.
func (d *dialog) answers() bool { return d.invited }

// end marks the dialog over; it reports whether it already was.
func (d *dialog) end() (was bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	was, d.over = d.over, true
	return was
}

// rises reports whether a request of the peer is newer than its last.
func (d *dialog) rises(cseq uint32) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if cseq <= d.theirCSeq {
		return false
	}
	d.theirCSeq = cseq
	return true
}

// awaited is an ACK that a 2xx of ours waits for.
type awaited struct {
	cseq    uint32
	answers bool              // it brings the answer to an offer of ours
	came    chan *sip.Request // has it when it came
}

// acknowledge hands the peer's ACK to the 2xx that waits for it.
func (d *dialog) acknowledge(req *sip.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if a := d.awaits(req); a != nil {
		a.came <- req // has room: an ACK is awaited once
		d.settleACK(a)
	}
}

// awaits finds what an ACK is for: the 2xx of its number, or else the oldest
// that waits, since real trunks send a wrong one. Called with mu held.
func (d *dialog) awaits(req *sip.Request) *awaited {
	for _, a := range d.acks {
		if a.cseq == req.CSeq().SeqNo {
			return a
		}
	}
	if len(d.acks) > 0 && req.CSeq().SeqNo != d.acked {
		return d.acks[0]
	}
	return nil
}

// settleACK says that this ACK came, or will not. Called with mu held.
func (d *dialog) settleACK(a *awaited) {
	d.acks = slices.DeleteFunc(d.acks, func(other *awaited) bool { return other == a })
	d.acked = a.cseq
	if len(d.acks) == 0 && d.owed != nil {
		close(d.owed)
		d.owed = nil
	}
}

// respond sends a 2xx to an INVITE and sends it again, ever later, until its
// ACK comes (RFC 3261, 13.3.1.4): the ACK, or nil when none came in 32 s.
func (d *dialog) respond(ctx context.Context, tx sip.ServerTransaction, res *sip.Response) *sip.Request {
	d.mu.Lock()
	a := &awaited{res.CSeq().SeqNo, d.promised, make(chan *sip.Request, 1)}
	if d.acks = append(d.acks, a); d.owed == nil {
		d.owed = make(chan struct{})
	}
	d.mu.Unlock()
	if tx.Respond(res) != nil {
		return nil
	}
	for wait, total := firstAgain, time.Duration(0); total < giveUp; total, wait = total+wait, min(2*wait, longestAgain) {
		again := time.NewTimer(wait)
		select {
		case ack := <-a.came:
			again.Stop()
			return ack
		case ack := <-tx.Acks(): // with the branch of the INVITE
			again.Stop()
			d.mu.Lock()
			d.settleACK(a)
			d.mu.Unlock()
			return ack
		case <-ctx.Done():
			again.Stop()
			return nil
		case <-again.C:
			tx.Respond(res)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settleACK(a)
	return nil
}

const (
	firstAgain   = 500 * time.Millisecond // T1
	longestAgain = 4 * time.Second        // T2
	giveUp       = 32 * time.Second       // 64*T1
	byeTime      = 4 * time.Second
	owedTime     = 2 * time.Second
)

// routeSet takes the Record-Route of the message that made a dialog as the
// Route of our requests, reversed for a dialog that we began.
func routeSet(msg sip.Message, reverse bool) (routes []sip.Header) {
	all := msg.GetHeaders("Record-Route")
	for i := range all {
		h := all[i]
		if reverse {
			h = all[len(all)-1-i]
		}
		routes = append(routes, sip.NewHeader("Route", h.Value()))
	}
	return routes
}
