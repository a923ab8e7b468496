package sip

import (
	"context"
	"crypto/rand"
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
	"yesline/internal/consent"
)

// callee is a telephone that we ring: a number behind the trunk, or a phone
// that is registered with us.
type callee struct {
	door *Door
	to   sip.Uri // whom to ask for
	peer peer    // where the INVITE goes
	from string  // the caller id that they see
	own  bool    // a phone of ours, and not the trunk
	id   yesline.DeviceID
	ways []security // how its sound may be protected, best first

	ctx  context.Context // ends with Hangup
	stop context.CancelCauseFunc

	mu     sync.Mutex // guards dialog
	dialog *dialog
	gone   bool
}

// Trunk is the telephone of a number behind the trunk.
func (d *Door) Trunk(number yesline.Phone) capture.Handset { return d.trunk(number.Digits()) }

// TrunkAs is Trunk for a caller who shows another number than the configured
// one: whoever calls this has made sure that it is theirs (tolls.CallerID).
func (d *Door) TrunkAs(number, shown yesline.Phone) capture.Handset {
	h := d.trunk(number.Digits())
	h.from = shown.Digits()
	return h
}

func (d *Door) trunk(number string) *callee {
	at := d.cfg.Trunk
	h := d.rings(sip.Uri{Scheme: "sip", User: number, Host: at.Addr().String(), Port: int(at.Port())}, peer{at, d.trunkOver()}, false)
	if d.cfg.TrunkSRTP {
		h.ways = []security{bySDES}
	}
	return h
}

func (d *Door) rings(to sip.Uri, at peer, own bool) *callee {
	h := &callee{door: d, to: to, peer: at, ways: []security{plain}, from: d.cfg.CallerID, own: own}
	h.ctx, h.stop = context.WithCancelCause(d.ctx)
	return h
}

// Connect rings the telephone and returns when it was picked up.
func (h *callee) Connect(ctx context.Context, o capture.Ends) (capture.Line, error) {
	d := h.door
	if !d.holds() {
		return capture.Line{}, capture.ErrClosing
	}
	defer d.calling.Done()
	ctx, enough := context.WithCancelCause(ctx)
	defer enough(nil)
	defer context.AfterFunc(h.ctx, func() { enough(context.Cause(h.ctx)) })()
	if ctx.Err() != nil {
		return capture.Line{}, context.Cause(ctx)
	}
	dg, err := h.begin(o)
	if err != nil {
		return capture.Line{}, err
	}
	if err := h.dial(ctx, dg, o); err != nil {
		return capture.Line{}, err
	}
	return dg.picked(ctx)
}

// begin makes the dialog, and keeps it for Hangup.
func (h *callee) begin(o capture.Ends) (*dialog, error) {
	way := consent.ByRinging
	if h.own {
		way = consent.ByAccount
	}
	if len(h.ways) == 0 {
		return nil, capture.ErrUnreached // none that is safe enough
	}
	dg := &dialog{door: h.door, ctx: h.ctx, left: o.Left, device: h.id, way: way, trunk: !h.own, callID: rand.Text(), tag: newTag(),
		target: h.to, peer: h.peer, over: true}
	if err := h.sounds(dg, h.ways[0], o); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone {
		dg.silence()
		return nil, context.Cause(h.ctx)
	}
	h.dialog = dg
	h.door.keep(dg)
	return dg, nil
}

// sounds opens the leg's sound, to be offered with this protection.
func (h *callee) sounds(dg *dialog, how security, o capture.Ends) error {
	if err := dg.openSound(how, o.Listener); err != nil {
		h.door.cfg.Report.Error("a call could not be placed", "error", err)
		return capture.ErrUnreached
	}
	if slices.Contains(o.Like, audio.PCMA) {
		slices.Reverse(dg.ours.codecs) // they are offered what the other speaks first
	}
	if how == bySDES {
		dg.ours.keys = offerKeys()
	}
	return nil
}

// another opens it again with the next protection; false when there is none, or
// it was hung up on.
func (h *callee) another(dg *dialog, o capture.Ends) bool {
	at := slices.Index(h.ways, dg.ours.secured)
	if at+1 >= len(h.ways) {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone {
		return false
	}
	dg.silence()
	dg.tunnel = nil
	return h.sounds(dg, h.ways[at+1], o) == nil
}

// Hangup ends the ringing or the call, and gives the port back.
func (h *callee) Hangup() {
	h.stop(errStopped)
	h.mu.Lock()
	was, dg := h.gone, h.dialog
	h.gone = true
	h.mu.Unlock()
	if !was && dg != nil {
		dg.close()
	}
}

// errStopped ends a Connect whose Hangup came first.
var errStopped = errors.New("the ringing was stopped")

// dial sends the INVITE and returns when it was answered. The error is one of
// those that calls end with. An INVITE that is asked for a password, for
// another session timer, or for sound in clear is sent again with it.
func (h *callee) dial(ctx context.Context, dg *dialog, o capture.Ends) error {
	proof := ""
	ring := time.NewTimer(h.door.cfg.MaxRing)
	defer ring.Stop()
	for tries := 0; ; tries++ {
		invite := dg.invite(h.to, h.from, proof)
		res, tx, err := h.ring(ctx, dg, invite, ring, o)
		if err != nil {
			return err
		}
		again := false
		switch code := res.StatusCode; {
		case tries >= maxTries:
		case code == 401 || code == 407:
			proof, again = h.door.account(h.own).prove(invite, res)
		case code == 422: // its session timer is longer (RFC 4028, 7.3)
			again = dg.timer.raise(res)
		case code == 488 || code == 415 || code == 606: // not in this way
			again = h.another(dg, o)
		}
		if !again {
			return dg.outcome(tx, invite, res)
		}
	}
}

const maxTries = 3 // times that an INVITE is sent again

// ring sends one INVITE and gives its final answer.
func (h *callee) ring(ctx context.Context, dg *dialog, invite *sip.Request, ring *time.Timer, o capture.Ends) (*sip.Response, sip.ClientTransaction, error) {
	d := h.door
	tx, err := d.ask(ctx, invite)
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		d.cfg.Report.Warn("a call could not be placed", "over", invite.Transport(), "error", err)
		return nil, nil, capture.ErrUnreached
	}
	early := map[string]uint32{}   // the last reliable provisional answer, of each fork
	alive, sounded := false, false // something was heard of the callee's side: only then may a CANCEL be sent
	for {
		select {
		case res := <-tx.Responses(): // however many; a carrier may repeat 18x for ever
			if res.StatusCode >= 200 {
				return res, tx, nil
			}
			alive = true
			if !dg.provisional(ctx, invite, res, early) {
				continue
			}
			if dg.progress(res) && !sounded && o.Early != nil {
				sounded = true
				o.Early(dg.media)
			}
		case <-tx.Done():
			return nil, nil, capture.ErrUnreached
		case <-ring.C:
			d.calling.Go(func() { d.giveUp(tx, dg, invite, alive) })
			return nil, nil, capture.ErrNoAnswer
		case <-ctx.Done():
			d.calling.Go(func() { d.giveUp(tx, dg, invite, alive) })
			return nil, nil, context.Cause(ctx)
		}
	}
}

// invite makes the INVITE. Nothing in it was written by the caller's phone: the
// number is digits, the rest is ours.
func (d *dialog) invite(to sip.Uri, callerID, proof string) *sip.Request {
	req := sip.NewRequest(sip.INVITE, *to.Clone())
	d.door.route(req, d.peer)
	from := &sip.FromHeader{Address: sip.Uri{Scheme: "sip", User: callerID, Host: d.door.hereFor(d.peer.over).Addr().String()}}
	if callerID == anonymous {
		from.DisplayName, from.Address.Host = "Yesline", "anonymous.invalid"
	}
	from.Params.Add("tag", d.tag)
	d.local, d.remote = from, &sip.ToHeader{Address: to}
	d.cseq++
	req.AppendHeader(sip.HeaderClone(d.local))
	req.AppendHeader(sip.HeaderClone(d.remote))
	id := sip.CallIDHeader(d.callID)
	req.AppendHeader(&id)
	req.AppendHeader(&sip.CSeqHeader{SeqNo: d.cseq, MethodName: sip.INVITE})
	req.AppendHeader(sip.NewHeader("Allow", allow))
	req.AppendHeader(sip.NewHeader("Supported", supported))
	d.askTimer(req)
	if name, value, found := strings.Cut(proof, ": "); found {
		req.AppendHeader(sip.NewHeader(name, value))
	}
	req.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
	req.SetBody(d.ours.write())
	return req
}

// anonymous is who calls, to a phone that we ring: its person sees on their
// page who it is, if they may know.
const anonymous = "anonymous"

// progress takes a provisional answer. With a session description the callee's
// side is about to send sound, which the caller is to hear.
func (d *dialog) progress(res *sip.Response) (sounds bool) {
	theirs, err := readSDP(res.Body(), d.door.means(from(res).over))
	if err != nil || len(theirs.codecs) == 0 || theirs.secured == byDTLS { // nobody shakes hands before the answer
		return false
	}
	d.mu.Lock()
	o := d.ours // what is agreed on now is for the time of ringing
	in, out, ok := o.agreeKeys(theirs, true)
	ok = ok && theirs.secured == d.ours.secured
	d.mu.Unlock()
	if !ok {
		return false
	}
	a := theirs.agreement(theirs.codecs[0], from(res).at.Addr(), false)
	a.In, a.Out = in, out
	d.agree(a)
	return true
}

// outcome takes the final answer.
func (d *dialog) outcome(tx sip.ClientTransaction, invite *sip.Request, res *sip.Response) error {
	switch {
	case res.StatusCode == 486 || res.StatusCode == 600:
		return capture.ErrBusy
	case res.StatusCode == 603:
		return capture.ErrDeclined
	case res.StatusCode == 480 || res.StatusCode == 408:
		return capture.ErrNoAnswer
	case res.StatusCode >= 300:
		d.door.cfg.Report.Warn("a call was refused", "by the trunk", d.trunk, "with", res.StatusCode, "in words", inWords(res))
		return capture.ErrUnreached
	}
	d.establish(res)
	d.invite1 = invite.CSeq().SeqNo
	tx.OnRetransmission(func(again *sip.Response) { // our ACK was lost, or the call was forked
		if again.IsSuccess() && d.door.holds() {
			go func() {
				defer d.door.calling.Done()
				d.again(again)
			}()
		}
	})
	d.sendACK(d.invite1) // last, so that no repetition after it is missed
	theirs, err := readSDP(res.Body(), d.door.means(from(res).over))
	if err != nil || len(theirs.codecs) == 0 || theirs.secured != d.ours.secured {
		return capture.ErrNoCodec // Hangup says BYE
	}
	d.media.Renew()
	if d.settle(theirs, true, theirs.codecs[0], from(res).at.Addr(), true) != nil {
		return capture.ErrNoCodec
	}
	d.learn(res)
	d.takeTimer(res)
	return nil
}

// inWords is the reason that the other side gave, without digits: some repeat
// the number in it.
func inWords(res *sip.Response) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r < ' ' || r > '~' {
			return -1
		}
		return r
	}, res.Reason[:min(len(res.Reason), 80)])
}

// confirm makes the dialog of a 2xx and acknowledges it.
func (d *dialog) confirm(res *sip.Response) {
	d.establish(res)
	d.sendACK(d.invite1)
}

// establish makes the dialog of a 2xx.
func (d *dialog) establish(res *sip.Response) {
	if to := res.To(); to != nil {
		d.remote = sip.HeaderClone(to)
	}
	if contact := res.Contact(); contact != nil {
		d.target = contact.Address
	}
	d.routes = routeSet(res, true)
	d.mu.Lock()
	defer d.mu.Unlock()
	if at := from(res); at.at.IsValid() {
		d.peer = at
	}
	d.over = false
}

// sendACK acknowledges the answer to the INVITE with this number.
func (d *dialog) sendACK(invite uint32) {
	ack := d.numbered(sip.ACK, invite)
	d.door.ua.TransportLayer().WriteMsg(ack)
}

// again answers a repeated 2xx: the same dialog's ACK was lost; another's is a
// fork that nobody talks to.
func (d *dialog) again(res *sip.Response) {
	mine, _ := d.remote.(*sip.ToHeader)
	to := res.To()
	if mine == nil || to == nil {
		return
	}
	tag, _ := to.Params.Get("tag")
	if known, _ := mine.Params.Get("tag"); known == tag {
		d.sendACK(d.invite1)
		return
	}
	fork := &dialog{door: d.door, callID: d.callID, tag: d.tag, local: d.local, target: d.target, peer: d.at(), invite1: d.invite1, cseq: d.invite1}
	fork.confirm(res)
	fork.bye()
}

// giveUp cancels an INVITE that nobody waits for any more and sees it to its
// end: a callee who answered at the same moment is hung up on.
func (d *Door) giveUp(tx sip.ClientTransaction, dg *dialog, invite *sip.Request, alive bool) {
	defer tx.Terminate()
	limit := time.NewTimer(giveUp)
	defer limit.Stop()
	closing := d.ctx.Done()
	if alive {
		d.cancel(invite)
	}
	for {
		select {
		case res := <-tx.Responses():
			switch {
			case res.IsProvisional() && !alive:
				alive = true
				d.cancel(invite)
			case res.IsProvisional():
			case res.IsSuccess():
				late := &dialog{door: d, callID: dg.callID, tag: dg.tag, local: dg.local, target: dg.target, peer: dg.at(),
					invite1: invite.CSeq().SeqNo, cseq: invite.CSeq().SeqNo}
				late.remote = dg.remote
				late.confirm(res)
				late.bye()
				return
			default:
				return
			}
		case <-tx.Done():
			return
		case <-limit.C:
			return
		case <-closing:
			closing = nil
			limit.Reset(byeTime)
		}
	}
}

// cancel sends the CANCEL of an INVITE (RFC 3261, 9.1): its branch and numbers.
func (d *Door) cancel(invite *sip.Request) {
	req := sip.NewRequest(sip.CANCEL, *invite.Recipient.Clone())
	req.Laddr = invite.Laddr
	req.SetTransport(invite.Transport())
	req.SetDestination(invite.Destination())
	req.AppendHeader(invite.Via().Clone())
	hops := sip.MaxForwardsHeader(70)
	req.AppendHeader(&hops)
	for _, name := range []string{"From", "To", "Call-ID"} {
		sip.CopyHeaders(name, invite, req)
	}
	req.AppendHeader(&sip.CSeqHeader{SeqNo: invite.CSeq().SeqNo, MethodName: sip.CANCEL})
	req.SetBody(nil)
	ctx, cancel := context.WithTimeout(context.Background(), byeTime)
	defer cancel()
	tx, err := d.ask(ctx, req)
	if err != nil {
		return
	}
	d.calling.Go(func() {
		defer tx.Terminate()
		select {
		case <-tx.Responses():
		case <-tx.Done():
		case <-time.After(byeTime):
		}
	})
}

// from is where a response came from.
func from(res *sip.Response) peer {
	a, _ := netip.ParseAddrPort(res.Source())
	return peer{netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), sip.NetworkToUpper(res.Transport())}
}
