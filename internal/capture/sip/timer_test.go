package sip_test

import (
	"strings"
	"testing"
	"time"

	"yesline/internal/capture/sip"
)

// timed places a call with a session timer of 90 s.
func timed(t *testing.T, refresher string) (w *world, r *raw, answer string) {
	t.Helper()
	w = open(t, setup{cfg: func(c *sip.Config) { c.MaxSilence, c.MaxRing = 5*time.Minute, 5*time.Minute }})
	r = newRaw(t, w.door.Address())
	uri := "sip:" + bobNumber + "@" + r.to.String()
	lines := []string{"INVITE " + uri + " SIP/2.0", "VIA", "From: <sip:" + w.annName + "@HERE>;tag=a1", "To: <" + uri + ">", "Call-ID: timed",
		"CSeq: 1 INVITE", "Contact: <sip:x@HERE>", "Supported: timer", "Allow: INVITE, ACK, BYE, UPDATE", "Session-Expires: 90;refresher=" + refresher, "Content-Type: application/sdp"}
	body := sdp("127.0.0.1", 4000, "")
	r.sendBody(body, lines...)
	challenge := r.answer(2 * time.Second)
	lines[5] = "CSeq: 2 INVITE"
	r.sendBody(body, append(lines, proof(challenge, "INVITE", uri, w.annName, w.annPass))...)
	answer = r.answer(2 * time.Second)
	if got := header(answer, "Session-Expires"); got != "90;refresher="+refresher {
		t.Fatalf("the timer is %q", got)
	}
	r.ack(answer)
	return w, r, answer
}

// A phone that said it would show that it lives, and does not, has left.
func TestNoSignOfLife(t *testing.T) {
	t.Parallel()
	slow(t)
	w, r, _ := timed(t, "uac")
	began := time.Now()
	r.says(r.getsWithin("BYE", 70*time.Second), "200 OK", "")
	if took := time.Since(began); took < 58*time.Second || took > 64*time.Second {
		t.Errorf("hung up on after %s, want 60 s", took)
	}
	for w.door.Calls() > 0 {
		time.Sleep(10 * time.Millisecond)
	}
	if row := w.row(); row.Ending != "a phone gave no sign of life any more" {
		t.Errorf("the row is %+v", row)
	}
}

// We show that we live where that was agreed; a phone that knows nothing of the
// call has lost it.
func TestSignsOfLife(t *testing.T) {
	t.Parallel()
	slow(t)
	w, r, _ := timed(t, "uas")
	update := r.getsWithin("UPDATE", 50*time.Second)
	if header(update, "Session-Expires") != "90;refresher=uac" || strings.Contains(update, "m=audio") {
		t.Errorf("the UPDATE is %s", update)
	}
	r.says(update, "200 OK", "", "Session-Expires: 90;refresher=uac", "Require: timer")
	r.says(r.getsWithin("UPDATE", 50*time.Second), "481 Call/Transaction Does Not Exist", "")
	r.says(r.gets("BYE"), "200 OK", "")
	for w.door.Calls() > 0 {
		time.Sleep(10 * time.Millisecond)
	}
	if row := w.row(); row.Ending != "the line was lost" {
		t.Errorf("the row is %+v", row)
	}
}
