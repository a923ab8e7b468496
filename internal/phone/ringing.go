package phone

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// Ringing is a call that came in and was neither answered nor refused. The
// caller hears it ring from the start.
type Ringing struct {
	wire   *wire
	phone  *Phone // where it rings
	invite *message
	peer   netip.AddrPort
	tag    string
	over   atomic.Bool   // answered, refused or given up: whoever sets it acts
	gaveUp chan struct{} // closed when the caller cancelled
	acked  chan *message // takes the ACK
}

// Number is what was dialled, as the request names it.
func (r *Ringing) Number() string { return user(r.invite.uri) }

// From is the number or name that the caller shows.
func (r *Ringing) From() string { return user(address(r.invite.get("From"))) }

// GaveUp is closed when the caller hangs up before an answer.
func (r *Ringing) GaveUp() <-chan struct{} { return r.gaveUp }

// Ring says once more that the phone rings (180).
func (r *Ringing) Ring() {
	ringing := r.invite.reply(180, r.tag, r.peer)
	ringing.add("Contact", r.contact())
	r.wire.respond(r.peer, r.invite, ringing)
}

// Reject refuses the call with a SIP status of 300 to 699, and returns when
// the caller has acknowledged it.
func (r *Ringing) Reject(ctx context.Context, code int) error {
	if code < 300 || code > 699 {
		return errors.New("refusing a call: the status is 300 to 699")
	}
	if !r.claim() {
		return errors.New("refusing a call: it is over")
	}
	defer r.wire.forget(r)
	_, err := r.final(ctx, r.invite.reply(code, r.tag, r.peer))
	return err
}

// Answer picks up, and returns when the caller has acknowledged. Sound flows
// from then on and not before: sound that overtakes the answer would come to
// the caller from an address it does not know yet. The error says that the
// caller gave up, or offers nothing that the phone speaks: the call is then
// refused with 488.
func (r *Ringing) Answer(ctx context.Context) (*Call, error) {
	if !r.claim() {
		return nil, errors.New("answering: the call is over")
	}
	defer r.wire.forget(r)
	call, err := r.answer(ctx)
	if err != nil {
		return nil, fmt.Errorf("answering: %w", err)
	}
	return call, nil
}

func (r *Ringing) answer(ctx context.Context) (*Call, error) {
	media, err := openMedia(r.phone.config, r.wire.address.Addr())
	if err != nil {
		return nil, r.sorry(ctx, 500, err)
	}
	late := len(r.invite.body) == 0 // the offer is ours then, and the ACK brings the answer
	body := media.offer()
	if !late {
		if body, err = media.answer(r.invite.body); err != nil {
			media.stop()
			return nil, r.sorry(ctx, 488, err)
		}
	}
	call := r.call(media)
	call.join()
	ok := r.invite.reply(200, r.tag, r.peer)
	ok.add("Contact", r.contact())
	ok.add("Allow", allowed)
	ok.add("Content-Type", "application/sdp")
	ok.body = body
	ack, err := r.final(ctx, ok)
	if err == nil && late {
		err = media.agree(ack.body)
	}
	if err == nil {
		err = r.phone.adopt(call)
	}
	if err != nil {
		call.Hangup(ctx)
		return nil, err
	}
	return call, nil
}

// call is this call from the phone's side.
func (r *Ringing) call(media *media) *Call {
	target := address(r.invite.get("Contact"))
	if target == "" {
		target = address(r.invite.get("From"))
	}
	return &Call{
		phone: r.phone, wire: r.wire, peer: r.peer,
		number: r.Number(), from: r.From(),
		id:     r.invite.get("Call-ID"),
		local:  r.invite.get("To") + ";tag=" + r.tag,
		remote: r.invite.get("From"),
		target: target,
		media:  media,
		done:   make(chan struct{}),
	}
}

// sorry refuses the call and gives back why.
func (r *Ringing) sorry(ctx context.Context, code int, why error) error {
	_, err := r.final(ctx, r.invite.reply(code, r.tag, r.peer))
	return errors.Join(why, err)
}

// final sends the final response until the ACK comes (RFC 3261 section 13.3.1.4).
func (r *Ringing) final(ctx context.Context, response *message) (ack *message, err error) {
	r.wire.respond(r.peer, r.invite, response)
	limit := time.NewTimer(giveUp)
	defer limit.Stop()
	for wait := t1; ; wait = min(2*wait, t2) {
		select {
		case ack := <-r.acked:
			return ack, nil
		case <-time.After(wait):
			r.wire.respond(r.peer, r.invite, response)
		case <-limit.C:
			return nil, errors.New("the caller did not acknowledge in time")
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the caller to acknowledge: %w", ctx.Err())
		case <-r.wire.closed:
			return nil, net.ErrClosed
		}
	}
}

func (r *Ringing) acknowledged(ack *message) {
	select {
	case r.acked <- ack:
	default: // one is enough
	}
}

// claim is true for the one who may end the ringing.
func (r *Ringing) claim() bool { return r.over.CompareAndSwap(false, true) }

func (r *Ringing) key() string { return r.invite.get("Call-ID") + " " + r.tag }

func (r *Ringing) contact() string {
	return fmt.Sprintf("<sip:%s@%s>", escape(r.Number()), r.wire.address)
}
