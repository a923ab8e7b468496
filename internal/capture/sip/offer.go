package sip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/capture/media"
)

// readOffer reads the offer of an INVITE; late when it brings none and we are
// to make it.
func readOffer(req *sip.Request, may means) (offer description, late bool, err error) {
	if len(req.Body()) == 0 {
		return description{}, true, nil
	}
	if ct := req.ContentType(); ct == nil || !strings.HasPrefix(strings.ToLower(ct.Value()), "application/sdp") {
		return description{}, false, noSound
	}
	offer, err = readSDP(req.Body(), may)
	if err == nil && len(offer.codecs) == 0 {
		err = noCodec
	}
	return offer, false, err
}

// means are the ways to protect sound that may be agreed on over a transport.
func (d *Door) means(over string) means {
	return means{sdes: over == overTLS, dtls: d.cfg.Media.IP.IsValid(), safe: d.cfg.Encrypted}
}

// unacceptable answers 488, with the reason in words (RFC 3261, 20.43).
func (d *Door) unacceptable(req *sip.Request, tx sip.ServerTransaction, why error) {
	res := sip.NewResponseFromRequest(req, 488, "Not Acceptable Here", nil)
	if words := unfit(""); errors.As(why, &words) {
		res.AppendHeader(warning(305, string(words)))
	}
	tx.Respond(res)
}

// warning is a sentence for the person, with its number (RFC 3261, 20.43).
func warning(code int, sentence string) sip.Header {
	return sip.NewHeader("Warning", strconv.Itoa(code)+` yesline "`+strings.Map(func(r rune) rune {
		if r == '"' || r == '\\' || r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, sentence)+`"`)
}

// settle takes the peer's description, offer or answer, as agreed: ours mirrors
// it, and media follows. It fails when an answer takes a key that was not
// offered.
func (d *dialog) settle(theirs description, isAnswer bool, codec audio.Codec, from netip.Addr, relearn bool) error {
	d.mu.Lock()
	in, out, ok := d.ours.agreeKeys(theirs, isAnswer)
	if !ok {
		d.mu.Unlock()
		return noKeys
	}
	named := d.theirs.addr
	d.theirs = theirs
	if theirs.addr.Addr().IsUnspecified() {
		d.theirs.addr = named // held the old way: it will come back to where it was
	}
	d.ours.codecs, d.ours.events = []audio.Codec{codec}, theirs.events
	d.ours.dir, d.ours.media, d.ours.audio = theirs.dir.mirror(), theirs.media, theirs.audio
	wishes := d.wishes
	d.wishes = theirs.wishes
	d.mu.Unlock()
	if d.tunnel != nil {
		d.tunnel.expects(theirs.print, theirs.addr.Addr(), from)
		if theirs.setup == "passive" {
			d.tunnel.begin(theirs.addr)
		}
	}
	a := theirs.agreement(codec, from, relearn)
	a.In, a.Out = in, out
	d.agree(a)
	if theirs.wishes != wishes {
		d.heed(theirs.wishes)
	}
	return nil
}

// agreeKeys chooses, for SDES, what the peer encrypts with and what we do.
// Called with the dialog's mu held.
func (o *ours) agreeKeys(theirs description, isAnswer bool) (in, out *media.Crypto, ok bool) {
	o.secured, o.setup = theirs.secured, map[bool]string{true: "active", false: "passive"}[theirs.setup == "passive"]
	if theirs.secured != bySDES {
		return nil, nil, true
	}
	chosen := theirs.keys[0]
	if isAnswer {
		at := slices.IndexFunc(o.keys, func(k agreedKey) bool { return k.tag == chosen.tag && k.key.Profile == chosen.key.Profile })
		if at < 0 || len(theirs.keys) != 1 {
			return nil, nil, false
		}
		o.key = o.keys[at]
		return &chosen.key, &o.key.key, true
	}
	if o.key.key.Profile != chosen.key.Profile { // the same key again: a stream goes on with it (RFC 4568, 7.1.4)
		o.key = newKey(chosen.tag, chosen.key.Profile)
	}
	o.key.tag = chosen.tag
	return &chosen.key, &o.key.key, true
}

// agreement is what the sound of a leg needs to know of a description.
func (d description) agreement(codec audio.Codec, signalling netip.Addr, relearn bool) media.Agreement {
	return media.Agreement{Addr: d.addr, Signalling: signalling, Codec: codec, Payload: codec.PayloadType(), Events: d.events,
		Speaks: d.dir.speaks(), Listens: d.dir.listens(), Relearn: relearn}
}

// reinvited takes an INVITE inside a call: hold, resume, another address.
func (d *Door) reinvited(req *sip.Request, tx sip.ServerTransaction) {
	dg, late, ok := d.reoffered(req, tx)
	if !ok {
		return
	}
	res := sip.NewResponseFromRequest(req, 200, "OK", nil)
	dg.describe(req, res)
	res.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
	res.SetBody(dg.redescribe(late))
	dg.answered(late)
	if late {
		defer dg.settled()
	}
	ack := dg.respond(dg.ctx, tx, res)
	if ack == nil || !late {
		return
	}
	answer, err := readSDP(ack.Body(), d.means(dg.at().over))
	if err == nil && dg.keeps(answer) && dg.sameMedia(answer) {
		dg.settle(answer, true, dg.media.Codec(), dg.at().at.Addr(), false)
	}
}

// updated takes an UPDATE (RFC 3311): without a body it only says that the peer
// lives.
func (d *Door) updated(req *sip.Request, tx sip.ServerTransaction) {
	dg, late, ok := d.reoffered(req, tx)
	if !ok {
		return
	}
	res := sip.NewResponseFromRequest(req, 200, "OK", nil)
	dg.describe(req, res)
	if !late {
		res.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
		res.SetBody(dg.redescribe(false))
		dg.answered(false)
	}
	tx.Respond(res)
}

// describe adds to a 2xx inside a call what all of them say.
func (d *dialog) describe(req *sip.Request, res *sip.Response) {
	res.AppendHeader(d.door.contact(d.at().over))
	res.AppendHeader(sip.NewHeader("Allow", allow))
	res.AppendHeader(sip.NewHeader("Supported", supported))
	d.agreeTimer(req, res)
}

// reoffered checks a new offer inside a dialog and takes it. Media may move to
// another address, and another source be learned, only for the trunk's own
// address or a caller who answers a challenge; hold and resume from where the
// call came from are taken as they are. Who got true says answered once that is
// so; an UPDATE without an offer has nothing to answer.
func (d *Door) reoffered(req *sip.Request, tx sip.ServerTransaction) (dg *dialog, late, ok bool) {
	dg = d.find(req)
	if dg == nil || dg.ctx.Err() != nil {
		d.answer(req, tx, 481, "Call/Transaction Does Not Exist")
		return nil, false, false
	}
	if d.extended(req, tx) || d.tooBrief(req, tx) {
		return nil, false, false
	}
	if !dg.rises(req.CSeq().SeqNo) {
		d.answer(req, tx, 500, "Server Internal Error")
		return nil, false, false
	}
	from := d.originOf(req)
	offer, late, err := readOffer(req, d.means(from.over))
	if err == nil && !late && !dg.keeps(offer) {
		err = noCodec
	}
	if err != nil {
		d.unacceptable(req, tx, err)
		return nil, false, false
	}
	proven, ok := d.mayOffer(dg, from, offer, late, req, tx)
	if !ok {
		return nil, false, false
	}
	if code := dg.offers(req, late); code != 0 {
		d.answer(req, tx, code, map[int]string{491: "Request Pending", 500: "Server Internal Error"}[code])
		return nil, false, false
	}
	if !late {
		dg.settle(offer, false, dg.media.Codec(), from.at.Addr(), proven)
	}
	return dg, late, true
}

// mayOffer checks whose offer it is, and whether they proved it now. On a
// refusal it has answered already.
func (d *Door) mayOffer(dg *dialog, from origin, offer description, late bool, req *sip.Request, tx sip.ServerTransaction) (proven, ok bool) {
	switch {
	case dg.trunk:
		if !d.isTrunk(from) {
			d.answer(req, tx, 403, "Forbidden")
			return false, false
		}
		return true, true
	case req.GetHeader("Authorization") != nil || from.peer() != dg.at() || !late && !dg.sameMedia(offer):
		device, known := d.whose(req, tx)
		if !known {
			return false, false
		}
		if device.ID != dg.device {
			d.answer(req, tx, 403, "Forbidden")
			return false, false
		}
		dg.moved(from.peer())
		return true, true
	}
	return false, true
}

// offers begins an offer of the peer: 0, or the status that refuses it because
// one is being answered (RFC 3261, 14.2; RFC 3311, 5.2). What came behind an
// ACK, whose answer is only being taken, waits for that.
func (d *dialog) offers(req *sip.Request, late bool) (code int) {
	d.mu.Lock()
	taking := d.taking
	d.mu.Unlock()
	if taking != nil {
		select {
		case <-taking:
		case <-d.ctx.Done():
		case <-time.After(owedTime):
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case req.Method == sip.UPDATE && late: // offers nothing
	case d.offering:
		return 491
	case d.answering:
		return 500
	}
	d.answering = true
	return 0
}

// answered ends it. What answers may be an offer of ours, which waits for the
// ACK until settled.
func (d *dialog) answered(ours bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answering, d.offering, d.promised = false, d.offering || ours, ours
}

// comes says that an ACK came from the wire: if it brings the answer to an
// offer of ours, what comes behind it is no offer that crossed ours.
func (d *dialog) comes(ack *sip.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if a := d.awaits(ack); a != nil && a.answers && d.promised && d.taking == nil {
		d.taking = make(chan struct{})
	}
}

// settled says that the answer to an offer of ours was taken, or will not be.
func (d *dialog) settled() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.offering, d.promised = false, false
	if d.taking != nil {
		close(d.taking)
		d.taking = nil
	}
}

// sameMedia reports whether a description names the address it named before,
// or none, as the old way to hold does.
func (d *dialog) sameMedia(now description) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return now.addr == d.theirs.addr || now.addr.Addr().IsUnspecified()
}

// keeps reports whether a description goes on with the leg's codec, since a
// track has one and so has its leg, and with its protection: what began
// encrypted does not go on in clear.
func (d *dialog) keeps(now description) bool {
	d.mu.Lock()
	was := d.theirs.secured
	d.mu.Unlock()
	return slices.Contains(now.codecs, d.media.Codec()) && now.secured == was && (d.tunnel == nil || d.tunnel.keeps(now.print))
}

// redescribe writes our side again: as an answer, after settle took an offer;
// or as an offer of ours, late when the peer wants us to make it and so may
// take anything, else as things are.
func (d *dialog) redescribe(late bool) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ours.version++
	o := d.ours
	if late {
		o.dir = sendrecv
		d.asOffer(&o)
	}
	return o.write()
}

// asOffer makes an offer of what was agreed. Called with mu held.
func (d *dialog) asOffer(o *ours) {
	o.media, o.audio, o.setup, o.keys = nil, 0, "", []agreedKey{o.key}
	if o.events == 0 {
		o.events = defaultEvents
	}
	d.ours.keys = o.keys
}

// propose sends an offer of ours inside the call, or without one only a sign of
// life: by UPDATE where the peer takes it, else by an INVITE. It gives the last
// answer, or an error when there was none. After a 491 it tries again.
func (d *dialog) propose(ctx context.Context, withOffer bool) (*sip.Response, error) {
	for range 3 {
		res, err := d.proposeOnce(ctx, withOffer)
		if err != nil || res.StatusCode != 491 {
			return res, err
		}
		pause := 2100*time.Millisecond + rand.N(1900*time.Millisecond) // who began the call waits longer (RFC 3261, 14.1)
		if d.answers() {
			pause = rand.N(2 * time.Second)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return nil, fmt.Errorf("offering a change in a call: %w", yesline.Conflict)
}

func (d *dialog) proposeOnce(ctx context.Context, withOffer bool) (*sip.Response, error) {
	method := sip.INVITE
	d.mu.Lock()
	if d.updates {
		method = sip.UPDATE
	}
	withOffer = withOffer || method == sip.INVITE
	if d.over || withOffer && (d.offering || d.answering) {
		d.mu.Unlock()
		return nil, fmt.Errorf("offering a change in a call: %w", yesline.Conflict)
	}
	d.offering = d.offering || withOffer
	var body []byte
	if withOffer {
		d.ours.version++
		o := d.ours
		d.asOffer(&o)
		body = o.write()
	}
	d.mu.Unlock()
	if withOffer {
		defer d.settled()
	}
	req := d.request(method)
	req.AppendHeader(sip.NewHeader("Allow", allow))
	req.AppendHeader(sip.NewHeader("Supported", supported))
	d.askTimer(req)
	if body != nil {
		req.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
		req.SetBody(body)
	}
	res, err := d.transact(ctx, req)
	if err != nil || !res.IsSuccess() {
		return res, err
	}
	if method == sip.INVITE {
		d.sendACK(req.CSeq().SeqNo)
	}
	d.takeTimer(res)
	if body == nil || len(res.Body()) == 0 {
		return res, nil
	}
	answer, err := readSDP(res.Body(), d.door.means(d.at().over))
	if err == nil && d.keeps(answer) && (d.trunk || d.sameMedia(answer)) {
		err = d.settle(answer, true, d.media.Codec(), from(res).at.Addr(), false)
	}
	return res, err
}

// transact sends a request inside the call and gives the final answer.
func (d *dialog) transact(ctx context.Context, req *sip.Request) (*sip.Response, error) {
	tx, err := d.door.ask(ctx, req)
	if err != nil {
		return nil, err
	}
	for {
		select {
		case res := <-tx.Responses():
			if !res.IsProvisional() {
				if res.IsSuccess() && req.Method == sip.INVITE {
					return res, nil // it stays, for repetitions, until its own time
				}
				tx.Terminate()
				return res, nil
			}
		case <-tx.Done():
			return nil, fmt.Errorf("waiting for an answer in a call: %w", yesline.Unavailable)
		case <-ctx.Done():
			tx.Terminate()
			return nil, context.Cause(ctx)
		}
	}
}
