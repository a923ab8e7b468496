package sip

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/capture/tolls"
	"yesline/internal/consent"
	"yesline/internal/session"
)

// invited takes an INVITE. The goroutine it runs on belongs to the call until
// its end.
func (d *Door) invited(req *sip.Request, tx sip.ServerTransaction) {
	if req.To().Params.Has("tag") {
		d.reinvited(req, tx)
		return
	}
	if d.extended(req, tx) {
		return
	}
	if d.isTrunk(d.originOf(req)) {
		d.comesIn(req, tx)
		return
	}
	device, ok := d.whose(req, tx)
	if !ok {
		return
	}
	p, emergency, ok := d.takes(req, tx, device)
	if !ok {
		return
	}
	defer d.leave()
	if emergency {
		d.urgent(p)
		return
	}
	d.ordinary(p)
}

// takes checks what every call needs, counts it in, and gives the telephone it
// comes from. On a refusal it has answered already.
func (d *Door) takes(req *sip.Request, tx sip.ServerTransaction, device session.Device) (p *caller, emergency, ok bool) {
	if d.tooBrief(req, tx) {
		return nil, false, false
	}
	emergency = device.ID != "" && d.cfg.isEmergency(&req.Recipient) // decided before anything is known or written of the callee
	may := d.means(d.originOf(req).over)
	may.safe = may.safe && !emergency // better heard by somebody than not connected
	offer, late, err := readOffer(req, may)
	if err == nil && late && may.safe && !may.sdes {
		err = inClear
	}
	if err != nil {
		d.unacceptable(req, tx, err)
		return nil, false, false
	}
	if req.Contact() == nil {
		d.answer(req, tx, 400, "Bad Request")
		return nil, false, false
	}
	if !emergency && d.room.Full() {
		d.Counters.Strained.Add(1)
		d.full(req, tx)
		return nil, false, false
	}
	if d.ctx.Err() != nil { // the door closes
		d.answer(req, tx, 503, "Service Unavailable")
		return nil, false, false
	}
	if !d.enter(device.ID == "", emergency) {
		d.Counters.Busy.Add(1)
		d.full(req, tx)
		return nil, false, false
	}
	d.Counters.Calls.Add(1)
	p = &caller{door: d, req: req, tx: tx, device: device, offer: offer, late: late, safe: may.safe, tag: newTag()}
	p.ctx, p.leave = context.WithCancelCause(d.ctx)
	tx.OnCancel(func(*sip.Request) { p.leave(capture.ErrCancelled) })
	return p, emergency, true
}

// ordinary is a call of one of our people to a number.
func (d *Door) ordinary(p *caller) {
	defer p.leave(nil)
	to, err := d.room.Number(p.ctx, p.device.Program, p.req.Recipient.User)
	if err != nil {
		d.answer(p.req, p.tx, 404, "Not Found")
		return
	}
	if refusal := d.begins(p.device.ID, time.Now()); refusal != 0 {
		d.Counters.Greedy.Add(1)
		d.answer(p.req, p.tx, refusal, map[int]string{486: "Busy Here", 503: "Service Unavailable"}[refusal])
		return
	}
	defer d.ends(p.device.ID)
	live, err := d.room.Dial(p.ctx, p.device, to)
	if err != nil {
		d.refuse(p, err)
		return
	}
	live.Carry(p.ctx, p)
	p.decline(live.Wait(p.ctx, live.Caller, 0).Ending)
}

// full answers a call that the house has no room for, until calls have ended.
func (d *Door) full(req *sip.Request, tx sip.ServerTransaction) {
	res := sip.NewResponseFromRequest(req, 503, reasons[503], nil)
	res.AppendHeader(warning(399, "The house is full. Please try again in a minute."))
	res.AppendHeader(sip.NewHeader("Retry-After", "60"))
	tx.Respond(res)
}

// counts counts a call that the room had no place for.
func (d *Door) counts(err error) {
	switch {
	case errors.Is(err, capture.ErrFull):
		d.Counters.Strained.Add(1)
	case errors.Is(err, capture.ErrMost):
		d.Counters.Busy.Add(1)
	}
}

// refuse answers a call that may not be, in words where there are any.
func (d *Door) refuse(p *caller, err error) {
	d.counts(err)
	if no := (*tolls.Refusal)(nil); errors.As(err, &no) {
		code := map[bool]int{true: 503, false: 403}[errors.Is(err, yesline.TooMany)]
		if errors.Is(err, yesline.Invalid) {
			code = 404
		}
		res := sip.NewResponseFromRequest(p.req, code, reasons[code], nil)
		res.AppendHeader(warning(399, no.Says))
		if code == 503 {
			res.AppendHeader(sip.NewHeader("Retry-After", "60"))
		}
		p.tx.Respond(res)
		return
	}
	switch {
	case errors.Is(err, capture.ErrFull), errors.Is(err, capture.ErrMost):
		d.full(p.req, p.tx)
	case errors.Is(err, yesline.TooMany), errors.Is(err, yesline.Unavailable):
		d.answer(p.req, p.tx, 503, "Service Unavailable")
	case errors.Is(err, yesline.Denied):
		d.answer(p.req, p.tx, 403, "Forbidden")
	default:
		d.answer(p.req, p.tx, 404, "Not Found")
	}
}

// urgent carries an emergency call: no notice, no question, no row, no room.
func (d *Door) urgent(p *caller) {
	defer p.leave(nil)
	if !d.helps(p.device.ID, time.Now()) {
		d.Counters.Greedy.Add(1)
		d.answer(p.req, p.tx, 486, "Busy Here")
		return
	}
	defer d.helped(p.device.ID)
	if d.cfg.NoEmergency {
		d.room.Pass(p.ctx, p, nil)
		p.decline("")
		return
	}
	number := p.req.Recipient.User
	if number == "" {
		number = "911" // a service URN names no number; the trunk routes this one
		if len(d.cfg.Emergency) > 0 {
			number = d.cfg.Emergency[0]
		}
	}
	d.room.Pass(p.ctx, p, d.trunk(number))
	p.decline("")
}

// comesIn takes a call that the trunk brings for one of our people. Whatever
// keeps it from ringing, the answer is the same: a number of nobody's looks like
// one of somebody who is not there.
func (d *Door) comesIn(req *sip.Request, tx sip.ServerTransaction) {
	if d.cfg.Whose == nil {
		d.answer(req, tx, 404, "Not Found") // nobody is called through us from outside
		return
	}
	p, _, ok := d.takes(req, tx, session.Device{}) // before it is known whose the number is
	if !ok {
		return
	}
	defer d.leave()
	defer p.leave(nil)
	live, err := d.receive(p)
	if err != nil {
		d.counts(err)
		d.answer(req, tx, 480, "Temporarily Unavailable")
		return
	}
	stop := p.ringing()
	live.Carry(p.ctx, p)
	stop()
	p.decline(live.Wait(p.ctx, live.Caller, 0).Ending)
}

// receive opens a call from outside for whoever has its number.
func (d *Door) receive(p *caller) (*capture.Live, error) {
	program, person, err := d.cfg.Whose(p.ctx, p.req.Recipient.User)
	if err != nil {
		return nil, err
	}
	p.device.Program = program
	return d.room.Receive(p.ctx, program, d.says(p.req), person)
}

var reasons = map[int]string{403: "Forbidden", 404: "Not Found", 480: "Temporarily Unavailable", 486: "Busy Here", 488: "Not Acceptable Here",
	503: "Service Unavailable", 603: "Decline"}

// decline answers a call that ended before it was picked up, with why.
func (p *caller) decline(ending string) {
	p.mu.Lock()
	answered, full := p.answered, p.full
	p.mu.Unlock()
	if answered {
		return
	}
	code := 480
	if full {
		code = 503
	}
	switch ending {
	case capture.ErrBusy.Error():
		code = 486
	case capture.ErrDeclined.Error():
		code = 603
	case capture.ErrNoCodec.Error():
		code = 488
	case capture.ErrClosing.Error():
		code = 503
	}
	res := sip.NewResponseFromRequest(p.req, code, reasons[code], nil)
	res.To().Params.Add("tag", p.tag)
	if code == 503 {
		res.AppendHeader(sip.NewHeader("Retry-After", "30"))
	}
	p.tx.Respond(res) // nothing happens if it was cancelled, and so answered, before
}

// says is the number that a caller from outside says they have; nil when they
// keep it back. It is never proof of who they are.
func (d *Door) says(req *sip.Request) *yesline.Phone {
	if h := req.GetHeader("Privacy"); h != nil && strings.Contains(strings.ToLower(h.Value()), "id") {
		return nil
	}
	user := req.From().Address.User
	if h := req.GetHeader("P-Asserted-Identity"); h != nil { // the trunk's own word (RFC 3325)
		var uri sip.Uri
		if _, err := sip.ParseAddressValue(h.Value(), &uri, nil); err == nil && uri.User != "" {
			user = uri.User
		}
	}
	number, err := yesline.NewPhone(user)
	if err != nil {
		return nil
	}
	return &number
}

// caller is the telephone of somebody who calls through us.
type caller struct {
	door   *Door
	req    *sip.Request
	tx     sip.ServerTransaction
	device session.Device
	offer  description
	late   bool            // the offer comes with the ACK
	safe   bool            // and nothing goes in clear
	ctx    context.Context // ends when they give up
	leave  context.CancelCauseFunc
	tag    string // ours

	mu       sync.Mutex // guards the rest
	dialog   *dialog
	gone     bool
	answered bool // with 200, or about to be
	full     bool // there was no port for its sound
}

// Connect answers with 200 and waits for the ACK. The call is theirs from then
// on; before, nothing of it was heard.
func (p *caller) Connect(ctx context.Context, o capture.Ends) (capture.Line, error) {
	d, req := p.door, p.req
	remote := req.From().AsTo()
	way := consent.ByAccount
	if p.device.ID == "" {
		way = consent.ByCallerID
	}
	dg := &dialog{door: d, ctx: p.ctx, left: o.Left, device: p.device.ID, way: way, trunk: p.device.ID == "", invited: true,
		callID: req.CallID().Value(), tag: p.tag, remote: &remote, target: req.Contact().Address, routes: routeSet(req, false),
		peer: d.originOf(req).peer(), theirCSeq: req.CSeq().SeqNo, theirs: p.offer}
	local := req.To().AsFrom()
	local.Params = sip.NewParams()
	local.Params.Add("tag", dg.tag)
	dg.local = &local
	how := p.offer.secured
	if p.late && p.safe {
		how = bySDES // takes saw to it that it is inside of TLS
	}
	if err := dg.openSound(how, o.Listener); err != nil {
		d.cfg.Report.Error("a call was refused", "error", err)
		p.mu.Lock()
		p.full = true
		p.mu.Unlock()
		return capture.Line{}, capture.ErrUnreached
	}
	if !p.holds(dg) {
		dg.silence()
		return capture.Line{}, context.Cause(p.ctx)
	}
	d.keep(dg)
	dg.learn(req)
	if p.late && how == bySDES {
		dg.ours.keys = offerKeys()
	}
	if !p.late {
		dg.settle(p.offer, false, preferred(p.offer.codecs, o.Like), dg.at().at.Addr(), false)
	}
	res := sip.NewResponseFromRequest(req, 200, "OK", nil)
	res.To().Params.Add("tag", dg.tag)
	dg.describe(req, res)
	res.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
	res.SetBody(dg.ours.write())
	if ctx.Err() != nil {
		dg.end() // there is nobody to say BYE to; decline answers
		return capture.Line{}, context.Cause(ctx)
	}
	p.mu.Lock()
	p.answered = true
	p.mu.Unlock()
	dg.answered(p.late)
	ack := dg.respond(ctx, p.tx, res)
	if ack == nil || p.late && !dg.concludes(ack, how) {
		return capture.Line{}, capture.ErrNoACK
	}
	d.remember(p.device.ID, p.offer.secured)
	return dg.picked(ctx)
}

// concludes takes the answer that an ACK brings to the offer that began the
// call. It reports whether that is one to begin with.
func (d *dialog) concludes(ack *sip.Request, how security) bool {
	defer d.settled()
	answer, err := readSDP(ack.Body(), d.door.means(d.at().over))
	return err == nil && len(answer.codecs) > 0 && answer.secured == how && d.settle(answer, true, answer.codecs[0], d.at().at.Addr(), false) == nil
}

// picked returns when sound can flow.
func (d *dialog) picked(ctx context.Context) (capture.Line, error) {
	if d.tunnel != nil {
		ctx, cancel := context.WithTimeoutCause(ctx, handshakeTime, errNoHandshake)
		defer cancel()
		if err := d.tunnel.wait(ctx); err != nil {
			if !errors.Is(err, context.Cause(ctx)) {
				d.door.cfg.Report.Warn("a phone's DTLS handshake failed", "error", err)
				err = errNoHandshake
			}
			return capture.Line{}, err
		}
	}
	d.talk()
	d.inform()
	return d.line(), nil
}

// errNoHandshake ends a call whose phone promised to encrypt and did not.
var errNoHandshake = errors.New("the phone did not finish its DTLS handshake")

// preferred is the codec to answer with: what the other side speaks, where that
// is known and was offered, or else the caller's first.
func preferred(offered, like []audio.Codec) audio.Codec {
	for _, c := range like {
		if slices.Contains(offered, c) {
			return c
		}
	}
	return offered[0]
}

// holds keeps the dialog for Hangup; not if they hung up already.
func (p *caller) holds(dg *dialog) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return false
	}
	p.dialog = dg
	return true
}

// Hangup hangs up and gives the port back. Decline answers a call that was not
// picked up.
func (p *caller) Hangup() {
	p.mu.Lock()
	was, dg := p.gone, p.dialog
	p.gone = true
	p.mu.Unlock()
	if !was && dg != nil {
		dg.close()
	}
}

// line is what the room speaks through.
func (d *dialog) line() capture.Line {
	codec := d.media.Codec()
	return capture.Line{Codec: codec, Voice: codec, Way: d.way, Stream: d.media, Play: d.media.Play, Beep: d.media.Beep}
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
	dg.left(capture.ErrHungUp)
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
	if dg.rises(req.CSeq().SeqNo) {
		if key := infoKey(req); key != 0 {
			dg.ear.Key(key, time.Now(), false)
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
