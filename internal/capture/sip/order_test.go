package sip_test

import (
	"fmt"
	"testing"
	"time"
)

// What a phone sends right behind the ACK that answers an offer of ours does
// not cross that offer: it is taken, however late we get to the ACK.
func TestWhatComesBehindAnACK(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	r := newRaw(t, w.door.Address())
	body := sdp("127.0.0.1", 4000, "")
	call := r.invite(w, bobNumber, "order", body)
	if code(call) != "200" {
		t.Fatalf("the call: %q", call)
	}
	for n := range 25 { // the gate takes a hundred messages at once
		cseq := 10 + 2*n
		late := r.within(call, "INVITE", cseq, "")
		if code(late) != "200" {
			t.Fatalf("round %d: an INVITE without an offer gets %q", n, late)
		}
		r.ackWith(late, fmt.Sprintf("CSeq: %d ACK", cseq), body)
		if got := r.within(call, "UPDATE", cseq+1, body); code(got) != "200" {
			t.Fatalf("round %d: an UPDATE behind the ACK gets %s", n, code(got))
		}
	}
	late := r.within(call, "INVITE", 200, "")
	if got := r.within(call, "UPDATE", 201, body); code(got) != "491" {
		t.Errorf("an UPDATE that crosses our offer gets %s", code(got))
	}
	r.ackWith(late, "CSeq: 200 ACK", body)
	if got := r.within(call, "BYE", 202, ""); code(got) != "200" {
		t.Errorf("the BYE gets %s", code(got))
	}
}

// The ACK to our own challenge is nobody strange; one to nothing is, and gets
// no answer either.
func TestTheACKToAChallenge(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	ask := func(r *raw, user string) string {
		r.send("INVITE sip:"+bobNumber+"@THERE SIP/2.0", "VIA", "From: <sip:"+user+"@HERE>;tag=a", "To: <sip:"+bobNumber+"@THERE>",
			"Call-ID: ack", "CSeq: 1 INVITE", "Contact: <sip:x@HERE>")
		return r.answer(300 * time.Millisecond)
	}
	ack := func(r *raw, to string) {
		r.send("ACK sip:"+bobNumber+"@THERE SIP/2.0", "VIA", "From: <sip:x@HERE>;tag=a", "To: "+to, "Call-ID: ack", "CSeq: 1 ACK")
		if got := r.answer(100 * time.Millisecond); got != "" {
			t.Errorf("an ACK gets %q", got)
		}
	}
	r := newRaw(t, w.door.Address())
	no := ask(r, w.annName)
	if code(no) != "401" {
		t.Fatalf("the first INVITE gets %q", no)
	}
	ack(r, header(no, "To"))
	if n := w.door.Counters.Strangers.Load(); n != 0 {
		t.Errorf("who acknowledged our challenge counts as %d strangers", n)
	}
	ack(newRawAt(t, w.door.Address(), "127.0.0.9"), "<sip:"+bobNumber+"@THERE>;tag=b")
	if n := w.door.Counters.Strangers.Load(); n != 1 {
		t.Errorf("an ACK to nothing counts as %d strangers", n)
	}
}
