package sip_test

import (
	"testing"
	"time"

	"yesline/internal/capture"
)

func TestBothSayYes(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	ann := w.dial(bobNumber)
	w.hears(ann, "notice")
	bob := must(w.bobPhone.Answer(w.ctx))(t)
	w.hears(ann, "ask")
	ok(t, ann.Press(w.ctx, "1"))
	w.hears(bob, "ask")
	ok(t, bob.Press(w.ctx, "1"))
	w.hears(ann, "thanks_recording")
	w.hears(bob, "thanks_recording")
	if bob.Keys() != "" || ann.Keys() != "" {
		t.Errorf("keys were passed on while an answer was pending: %q, %q", ann.Keys(), bob.Keys())
	}
	ok(t, ann.Say(tone(440, 3*time.Second)))
	ok(t, bob.Say(tone(1000, 3*time.Second)))
	time.Sleep(2500 * time.Millisecond)
	if got := power(bob, time.Second, 440); got < 1e6 {
		t.Errorf("bob hears ann at a power of %g", got)
	}
	if got := power(ann, time.Second, 1000); got < 1e6 {
		t.Errorf("ann hears bob at a power of %g", got)
	}
	ok(t, ann.Hangup(w.ctx))
	<-bob.Done()
	row := w.ended()
	if row.Recording != "both" || row.Ending != "the caller hung up" || row.State != capture.Ended {
		t.Errorf("the row is %+v", row)
	}
	for _, side := range []capture.Side{capture.Caller, capture.Callee} {
		if n := w.sealed(row, side); n < 2 || n > 5 {
			t.Errorf("%d seconds of the %s are sealed", n, side)
		}
	}
}
