package sip

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/session"
)

// call is one call through the door: a is the contributor's phone, b the trunk.
type call struct {
	door  *Door
	ctx   context.Context // of the call; its cause says in words how it ended
	end   context.CancelCauseFunc
	live  *capture.Live // nil on an emergency call: the room is not told
	a, b  *dialog
	offer description // the caller\'s
	late  bool        // or it comes with the ACK

	early    context.Context // ended by sounding when the callee's side sends sound before the answer
	sounding context.CancelFunc
}

// How calls end, in the words of their rows.
var (
	errCallerLeft = errors.New("the caller hung up")
	errCalleeLeft = errors.New("the callee hung up")
	errCancelled  = errors.New("the caller gave up")
	errNoACK      = errors.New("the caller's phone did not confirm")
	errTooLong    = errors.New("the longest time was reached")
	errDone       = errors.New("it was over")
	errBusy       = errors.New("the callee was busy")
	errUnreached  = errors.New("the callee could not be reached")
	errNoAnswer   = errors.New("the callee did not answer")
)

// invited takes an INVITE. The goroutine it runs on belongs to the call until
// its end.
func (d *Door) invited(req *sip.Request, tx sip.ServerTransaction) {
	if req.To().Params.Has("tag") {
		d.reinvited(req, tx)
		return
	}
	if d.cfg.isTrunk(source(req)) {
		d.answer(req, tx, 404, "Not Found") // nobody is called through us from outside
		return
	}
	if h := req.GetHeader("Require"); h != nil {
		res := sip.NewResponseFromRequest(req, sip.StatusBadExtension, "Bad Extension", nil)
		res.AppendHeader(sip.NewHeader("Unsupported", h.Value()))
		tx.Respond(res)
		return
	}
	device, ok := d.whose(req, tx)
	if !ok {
		return
	}
	offer, late, ok := readOffer(req)
	if !ok {
		d.answer(req, tx, 488, "Not Acceptable Here")
		return
	}
	if req.Contact() == nil {
		d.answer(req, tx, 400, "Bad Request")
		return
	}
	emergency := d.cfg.isEmergency(&req.Recipient) // decided before anything is known or written of the callee
	if !d.enter(emergency) {
		d.Counters.Busy.Add(1)
		d.answer(req, tx, 503, "Service Unavailable")
		return
	}
	defer d.leave()
	d.Counters.Calls.Add(1)
	c := &call{door: d, offer: offer, late: late}
	c.ctx, c.end = context.WithCancelCause(d.ctx)
	c.early, c.sounding = context.WithCancel(context.Background())
	defer c.end(errDone)
	defer c.sounding()
	tx.OnCancel(func(*sip.Request) { c.end(errCancelled) })
	if emergency {
		c.emergency(req, tx)
		return
	}
	c.ordinary(req, tx, device)
}

// ordinary is the story of a call: answer, notice, dial and ask, bridge, end.
func (c *call) ordinary(req *sip.Request, tx sip.ServerTransaction, device session.Device) {
	d := c.door
	to, err := d.room.Number(c.ctx, device.Program, req.Recipient.User)
	if err != nil {
		d.answer(req, tx, 404, "Not Found")
		return
	}
	if refusal := d.begins(device.ID, time.Now()); refusal != 0 {
		d.Counters.Greedy.Add(1)
		d.answer(req, tx, refusal, map[int]string{486: "Busy Here", 503: "Service Unavailable"}[refusal])
		return
	}
	defer d.ends(device.ID)
	live, err := d.room.Begin(c.ctx, device, to)
	switch {
	case errors.Is(err, yesline.TooMany):
		d.answer(req, tx, 503, "Service Unavailable")
		return
	case err != nil:
		d.answer(req, tx, 404, "Not Found")
		return
	}
	c.live = live
	defer func() { live.End(context.Cause(c.ctx).Error()) }()
	defer c.finish()
	if !c.pickUp(req, tx, live.Caller) {
		return
	}
	limit := time.AfterFunc(d.cfg.MaxLength, func() { c.end(errTooLong) })
	defer limit.Stop()
	live.Caller.Attach(c.a.media.line())
	live.Answered(c.ctx, live.Caller)
	live.Notice(c.ctx)

	asking, enough := context.WithCancel(c.ctx)
	defer enough()
	ringing, answered := context.WithCancel(asking)
	defer answered()
	var asked sync.WaitGroup
	asked.Go(func() {
		live.Caller.Ask(asking)
		c.ringback(ringing)
	})
	if err := c.dial(to.Digits(), live.Callee); err != nil {
		enough()
		asked.Wait()
		c.sorry(err)
		return
	}
	answered()
	c.b.media.hears.Store(nil) // what came before the answer is over; they hear each other once both were asked
	live.Callee.Attach(c.b.media.line())
	live.Answered(c.ctx, live.Callee)
	asked.Go(func() { live.Callee.Ask(c.ctx) })
	asked.Wait()
	live.Bridge(c.ctx)
	c.join()
	live.Run(c.ctx)
}

// emergency carries a call at once: no notice, no question, no row, no room.
func (c *call) emergency(req *sip.Request, tx sip.ServerTransaction) {
	defer c.finish()
	if !c.pickUp(req, tx, nil) {
		return
	}
	if c.door.cfg.NoEmergency {
		c.say("no_emergency")
		return
	}
	ringing, answered := context.WithCancel(c.ctx)
	defer answered()
	var ring sync.WaitGroup
	ring.Go(func() { c.ringback(ringing) })
	number := req.Recipient.User
	if number == "" {
		number = "911" // a service URN names no number; the trunk routes this one
		if len(c.door.cfg.Emergency) > 0 {
			number = c.door.cfg.Emergency[0]
		}
	}
	err := c.dial(number, nil)
	answered()
	ring.Wait()
	if err != nil {
		c.sorry(err)
		return
	}
	c.join()
	<-c.ctx.Done()
}

// join lets the two hear each other.
func (c *call) join() {
	a, b := c.a.media, c.b.media
	a.events.Store(true)
	b.events.Store(true)
	a.hears.Store(b)
	b.hears.Store(a)
}

// finish hangs up on both and gives their ports back.
func (c *call) finish() {
	c.end(errDone)
	var both sync.WaitGroup
	for _, dg := range []*dialog{c.a, c.b} {
		if dg != nil {
			dg.media.hears.Store(nil)
			both.Go(dg.bye)
		}
	}
	both.Wait()
	for _, dg := range []*dialog{c.a, c.b} {
		if dg != nil {
			c.door.drop(dg)
			dg.media.close()
		}
	}
}

// sorry tells the caller why nobody answered.
func (c *call) sorry(why error) {
	prompt := "cannot_connect"
	if errors.Is(why, errBusy) {
		prompt = "busy"
	}
	c.say(prompt)
	c.end(why)
}

func (c *call) say(prompt string) {
	m := c.a.media
	m.play(c.ctx, c.door.room.Say(prompt).In(m.speaks())) // whoever hung up meanwhile hears nothing
}

// ringTone is what a caller hears while the callee's phone rings: 440 and 480
// Hz, two seconds in six.
var ringTone = sync.OnceValue(func() []int16 {
	low, high := audio.Tone(440, 2000, 4000), audio.Tone(480, 2000, 4000)
	for i := range low {
		low[i] += high[i]
	}
	return low
})

// ringback lets the caller hear the callee's side before the answer, or a tone
// while it sends nothing. Nothing of it can be kept.
func (c *call) ringback(ctx context.Context) {
	m := c.a.media
	tone := m.speaks().Encode(nil, ringTone())
	ringing, enough := context.WithCancel(ctx)
	defer enough()
	defer context.AfterFunc(c.early, enough)()
	for ringing.Err() == nil {
		m.play(ringing, tone)
		pause := time.NewTimer(4 * time.Second)
		select {
		case <-ringing.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
	if ctx.Err() == nil {
		c.b.media.hears.Store(m)
	}
	<-ctx.Done()
}

// pickUp answers the caller with 200 and waits for the ACK. The call is theirs
// from then on; before, nothing of it was heard.
func (c *call) pickUp(req *sip.Request, tx sip.ServerTransaction, leg *capture.Leg) bool {
	d := c.door
	m, err := openMedia(&d.cfg, &d.Counters, leg)
	if err != nil {
		d.cfg.Report.Error("a call was refused", "error", err)
		d.answer(req, tx, 503, "Service Unavailable")
		return false
	}
	remote := req.From().AsTo()
	dg := &dialog{door: d, call: c, media: m, callID: req.CallID().Value(), tag: newTag(), remote: &remote,
		target: req.Contact().Address, routes: routeSet(req, false), peer: source(req), theirCSeq: req.CSeq().SeqNo, theirs: c.offer}
	local := req.To().AsFrom()
	local.Params = sip.NewParams()
	local.Params.Add("tag", dg.tag)
	dg.local = &local
	c.a = dg
	d.keep(dg)
	dg.ours = ours{id: newSDPID(), version: 1, addr: m.local, codecs: []audio.Codec{audio.PCMU, audio.PCMA}, events: defaultEvents, dir: sendrecv}
	if !c.late {
		dg.settle(c.offer, c.offer.codecs[0], dg.peer.Addr(), false)
	}
	res := sip.NewResponseFromRequest(req, 200, "OK", nil)
	res.To().Params.Add("tag", dg.tag)
	res.AppendHeader(d.contact())
	res.AppendHeader(sip.NewHeader("Allow", allow))
	res.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
	res.SetBody(dg.ours.write())
	if c.ctx.Err() != nil {
		dg.end() // cancelled: sipgo has answered 487
		return false
	}
	ack := dg.respond(c.ctx, tx, res)
	if ack == nil {
		c.end(errNoACK)
		return false
	}
	if !c.late {
		return true
	}
	answer, err := readSDP(ack.Body())
	if err != nil || len(answer.codecs) == 0 {
		c.end(errNoACK)
		return false
	}
	dg.settle(answer, answer.codecs[0], dg.peer.Addr(), false)
	return true
}

// readOffer reads the offer of an INVITE; late when it brings none and we are
// to make it.
func readOffer(req *sip.Request) (offer description, late, ok bool) {
	if len(req.Body()) == 0 {
		return description{}, true, true
	}
	if ct := req.ContentType(); ct == nil || !strings.HasPrefix(strings.ToLower(ct.Value()), "application/sdp") {
		return description{}, false, false
	}
	offer, err := readSDP(req.Body())
	return offer, false, err == nil && len(offer.codecs) > 0
}

// settle takes the peer's description, offer or answer, as agreed: ours mirrors
// it, and media follows.
func (d *dialog) settle(theirs description, codec audio.Codec, from netip.Addr, relearn bool) {
	d.mu.Lock()
	named := d.theirs.addr
	d.theirs = theirs
	if theirs.addr.Addr().IsUnspecified() {
		d.theirs.addr = named // held the old way: it will come back to where it was
	}
	d.ours.codecs, d.ours.events = []audio.Codec{codec}, theirs.events
	d.ours.dir, d.ours.media, d.ours.audio = theirs.dir.mirror(), theirs.media, theirs.audio
	d.mu.Unlock()
	d.media.agree(theirs, codec, from, relearn)
}

// line is what the room speaks through.
func (m *media) line() capture.Line {
	return capture.Line{Codec: m.speaks(), Play: m.play, Beep: m.beep}
}

// speaks is the codec of this leg.
func (m *media) speaks() audio.Codec {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.codec
}

// ended takes a BYE.
func (d *Door) ended(req *sip.Request, tx sip.ServerTransaction) {
	dg := d.find(req)
	if dg == nil {
		d.answer(req, tx, 481, "Call/Transaction Does Not Exist")
		return
	}
	dg.end()
	d.answer(req, tx, 200, "OK")
	why := errCallerLeft
	if dg.trunk {
		why = errCalleeLeft
	}
	dg.call.end(why)
}

// reinvited takes an INVITE inside a call: hold, resume, another address.
func (d *Door) reinvited(req *sip.Request, tx sip.ServerTransaction) {
	dg, late, ok := d.reoffered(req, tx)
	if !ok {
		return
	}
	res := sip.NewResponseFromRequest(req, 200, "OK", nil)
	res.AppendHeader(d.contact())
	res.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
	res.SetBody(dg.redescribe(late))
	ack := dg.respond(dg.call.ctx, tx, res)
	if ack == nil || !late {
		return
	}
	if answer, err := readSDP(ack.Body()); err == nil && dg.keepsCodec(answer) && dg.sameMedia(answer) {
		dg.settle(answer, dg.media.speaks(), dg.peer.Addr(), false)
	}
}

// updated takes an UPDATE: without a body it only says that the peer lives.
func (d *Door) updated(req *sip.Request, tx sip.ServerTransaction) {
	dg, late, ok := d.reoffered(req, tx)
	if !ok {
		return
	}
	res := sip.NewResponseFromRequest(req, 200, "OK", nil)
	res.AppendHeader(d.contact())
	if !late {
		res.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
		res.SetBody(dg.redescribe(false))
	}
	tx.Respond(res)
}

// reoffered checks a new offer inside a dialog and takes it. Media may move to
// another address, and another source be learned, only for the trunk's own
// address or a caller who answers a challenge; hold and resume from where the
// call came from are taken as they are.
func (d *Door) reoffered(req *sip.Request, tx sip.ServerTransaction) (dg *dialog, late, ok bool) {
	dg = d.find(req)
	if dg == nil || dg.call.ctx.Err() != nil {
		d.answer(req, tx, 481, "Call/Transaction Does Not Exist")
		return nil, false, false
	}
	if !dg.rises(req.CSeq().SeqNo) {
		d.answer(req, tx, 500, "Server Internal Error")
		return nil, false, false
	}
	offer, late, ok := readOffer(req)
	if ok && !late {
		ok = dg.keepsCodec(offer)
	}
	if !ok {
		d.answer(req, tx, 488, "Not Acceptable Here")
		return nil, false, false
	}
	from, proven := source(req), false
	switch {
	case dg.trunk:
		if !d.cfg.isTrunk(from) {
			d.answer(req, tx, 403, "Forbidden")
			return nil, false, false
		}
		proven = true
	case req.GetHeader("Authorization") != nil || from != dg.peer || !late && !dg.sameMedia(offer):
		device, known := d.whose(req, tx)
		if !known {
			return nil, false, false
		}
		if dg.call.live != nil && device.ID != dg.call.live.Caller.Device {
			d.answer(req, tx, 403, "Forbidden")
			return nil, false, false
		}
		proven = true
	}
	if !late {
		dg.settle(offer, dg.media.speaks(), from.Addr(), proven)
	}
	return dg, late, true
}

// sameMedia reports whether a description names the address it named before,
// or none, as the old way to hold does.
func (d *dialog) sameMedia(now description) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return now.addr == d.theirs.addr || now.addr.Addr().IsUnspecified()
}

// keepsCodec reports whether the leg's codec is among those offered: a track
// has one, and so has its leg.
func (d *dialog) keepsCodec(now description) bool {
	return slices.Contains(now.codecs, d.media.speaks())
}

// redescribe writes our side again, after settle took an offer, or as an offer
// of ours.
func (d *dialog) redescribe(late bool) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ours.version++
	o := d.ours
	if late {
		o.dir, o.media, o.audio = sendrecv, nil, 0
		if o.events == 0 {
			o.events = defaultEvents
		}
	}
	return o.write()
}

// informed takes an INFO. A key in it may say stop or no; it can never be a
// yes, because it does not come from where the question was heard.
func (d *Door) informed(req *sip.Request, tx sip.ServerTransaction) {
	dg := d.find(req)
	if dg == nil {
		d.answer(req, tx, 481, "Call/Transaction Does Not Exist")
		return
	}
	d.answer(req, tx, 200, "OK")
	if leg := dg.media.leg; leg != nil && dg.rises(req.CSeq().SeqNo) {
		if key := infoKey(req); key != 0 {
			leg.Key(key, time.Now(), false)
		}
	}
}

// infoKey reads application/dtmf-relay ("Signal=5") or application/dtmf ("5").
func infoKey(req *sip.Request) byte {
	ct, body := req.ContentType(), string(req.Body())
	if ct == nil || len(body) > 256 {
		return 0
	}
	switch strings.ToLower(ct.Value()) {
	case "application/dtmf-relay":
		_, rest, found := strings.Cut(body, "Signal=")
		if !found {
			return 0
		}
		body, _, _ = strings.Cut(rest, "\r\n")
	case "application/dtmf":
	default:
		return 0
	}
	body = strings.TrimSpace(body)
	if len(body) != 1 || !strings.Contains("0123456789*#ABCD", body) {
		return 0
	}
	return body[0]
}
