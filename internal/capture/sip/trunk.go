package sip

import (
	"context"
	"crypto/rand"
	"net/netip"
	"time"

	"github.com/emiago/sipgo/sip"

	"yesline/internal/audio"
	"yesline/internal/capture"
)

// dial calls a number by the trunk and returns when it answered. The error is
// one of the words that calls end with.
func (c *call) dial(number string, leg *capture.Leg) error {
	d := c.door
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	m, err := openMedia(&d.cfg, &d.Counters, leg)
	if err != nil {
		d.cfg.Report.Error("a call could not be placed", "error", err)
		return errUnreached
	}
	first := c.a.media.speaks() // the callee is offered what the caller speaks first
	second := audio.PCMU
	if first == audio.PCMU {
		second = audio.PCMA
	}
	dg := &dialog{door: d, call: c, media: m, trunk: true, callID: rand.Text(), tag: newTag(), peer: d.cfg.Trunk, cseq: 1, over: true,
		ours: ours{id: newSDPID(), version: 1, addr: m.local, codecs: []audio.Codec{first, second}, events: defaultEvents, dir: sendrecv}}
	invite := dg.invite(number)
	c.b = dg
	d.keep(dg)
	tx, err := d.ua.TransactionLayer().Request(c.ctx, invite)
	if err != nil {
		return errUnreached
	}
	ring := time.NewTimer(d.cfg.MaxRing)
	defer ring.Stop()
	alive := false // something was heard of the callee's side: only then may a CANCEL be sent
	for {
		select {
		case res := <-tx.Responses(): // however many; a carrier may repeat 18x for ever
			if res.StatusCode < 200 {
				alive = true
				c.progress(res)
				continue
			}
			return c.outcome(tx, res)
		case <-tx.Done():
			return errUnreached
		case <-ring.C:
			d.calling.Go(func() { d.giveUp(tx, dg, invite, alive) })
			return errNoAnswer
		case <-c.ctx.Done():
			d.calling.Go(func() { d.giveUp(tx, dg, invite, alive) })
			return context.Cause(c.ctx)
		}
	}
}

// invite makes the INVITE for the trunk. Nothing in it was written by the
// caller's phone: the number is digits, the rest is ours.
func (d *dialog) invite(number string) *sip.Request {
	trunk := sip.Uri{Scheme: "sip", User: number, Host: d.door.cfg.Trunk.Addr().String(), Port: int(d.door.cfg.Trunk.Port())}
	d.target = trunk
	req := sip.NewRequest(sip.INVITE, trunk)
	d.door.address(req, d.host())
	from := &sip.FromHeader{Address: sip.Uri{Scheme: "sip", User: d.door.cfg.CallerID, Host: d.door.here.Addr().String()}}
	from.Params.Add("tag", d.tag)
	d.local, d.remote = from, &sip.ToHeader{Address: trunk}
	req.AppendHeader(sip.HeaderClone(d.local))
	req.AppendHeader(sip.HeaderClone(d.remote))
	id := sip.CallIDHeader(d.callID)
	req.AppendHeader(&id)
	req.AppendHeader(&sip.CSeqHeader{SeqNo: 1, MethodName: sip.INVITE})
	req.AppendHeader(sip.NewHeader("Allow", allow))
	req.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
	req.SetBody(d.ours.write())
	return req
}

// progress takes a provisional answer: with a session description, the
// caller is to hear what the callee's side sends.
func (c *call) progress(res *sip.Response) {
	theirs, err := readSDP(res.Body())
	if err != nil || len(theirs.codecs) == 0 {
		return
	}
	c.b.media.agree(theirs, theirs.codecs[0], from(res).Addr(), false)
	c.sounding()
}

// outcome takes the final answer of the trunk.
func (c *call) outcome(tx sip.ClientTransaction, res *sip.Response) error {
	switch {
	case res.StatusCode == 486 || res.StatusCode == 600:
		return errBusy
	case res.StatusCode >= 300:
		return errUnreached
	}
	dg := c.b
	dg.establish(res)
	tx.OnRetransmission(func(again *sip.Response) { // our ACK was lost, or the call was forked
		if again.IsSuccess() {
			c.door.calling.Go(func() { dg.again(again) })
		}
	})
	dg.sendACK() // last, so that no repetition after it is missed
	theirs, err := readSDP(res.Body())
	if err != nil || len(theirs.codecs) == 0 {
		return errUnreached // finish hangs up
	}
	dg.media.renew()
	dg.settle(theirs, theirs.codecs[0], from(res).Addr(), true)
	return nil
}

// confirm makes the dialog of a 2xx and acknowledges it.
func (d *dialog) confirm(res *sip.Response) {
	d.establish(res)
	d.sendACK()
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
	if at := from(res); at.IsValid() {
		d.peer = at
	}
	d.mu.Lock()
	d.over = false
	d.mu.Unlock()
}

func (d *dialog) sendACK() {
	ack := d.numbered(sip.ACK, 1) // the number of the INVITE
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
		d.sendACK()
		return
	}
	fork := &dialog{door: d.door, callID: d.callID, tag: d.tag, local: d.local, target: d.target, peer: d.peer, cseq: 1}
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
				late := &dialog{door: d, callID: dg.callID, tag: dg.tag, local: dg.local, target: dg.target, peer: dg.peer, cseq: 1}
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
	req.SetTransport("UDP")
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
	tx, err := d.ua.TransactionLayer().Request(ctx, req)
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
func from(res *sip.Response) netip.AddrPort {
	a, _ := netip.ParseAddrPort(res.Source())
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
