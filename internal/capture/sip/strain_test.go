package sip_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"yesline"
	"yesline/internal/capture/sip"
	"yesline/internal/phone"
	"yesline/internal/session"
)

// strained makes the house full: three bad seconds, and so many calls that it
// may be they.
func (w *world) strained() {
	w.t.Helper()
	for n := range 10 {
		number := must(yesline.NewPhone(fmt.Sprintf("+120255502%02d", n)))(w.t)
		live := must(w.room.Begin(w.ctx, session.Device{Program: w.program, Person: w.ann.Person}, number))(w.t)
		w.t.Cleanup(func() { live.End("it was a crowd's") })
	}
	for i := range 3 {
		if i > 0 {
			time.Sleep(time.Second + 10*time.Millisecond)
		}
		w.room.SoundLate(time.Second)
	}
}

// A full house refuses new calls with when to try again, its operators are told,
// and a call that goes on is not touched. Calls for help pass.
func TestAFullHouse(t *testing.T) {
	t.Parallel()
	told := &sums{times: map[string]int64{}, calls: map[string]int{}}
	w := open(t, setup{cfg: func(c *sip.Config) { c.Turned = told.turned }})
	w.trunk.Connect("911", w.bobPhone)
	ann, bob := w.connect()
	w.strained()

	r := newRaw(t, w.door.Address())
	got := r.invited(w, bobNumber, "full", sdp("127.0.0.1", 4000, ""))
	if code(got) != "503" || header(got, "Retry-After") != "60" || header(got, "Warning") == "" {
		t.Errorf("a call of a full house gets %q", got)
	}
	help := w.dial("911")
	answered := must(w.bobPhone.Answer(w.ctx))(t)
	ok(t, answered.Hangup(w.ctx))
	<-help.Done()
	ok(t, ann.Say(tone(440, time.Second)))
	time.Sleep(500 * time.Millisecond)
	select {
	case <-ann.Done():
		t.Error("a full house ended a call")
	case <-bob.Done():
		t.Error("a full house ended a call")
	default:
	}
	ok(t, ann.Hangup(w.ctx))
	<-bob.Done()
	ok(t, w.door.Close())
	if n, _ := told.of("strained"); n != 1 {
		t.Errorf("operators are told of %d calls, want 1", n)
	}
}

// What the trunk brings gets the same answer from a full house whomever it is
// for.
func TestAFullHouseFromOutside(t *testing.T) {
	t.Parallel()
	w, c, _ := withIncoming(t)
	w.strained()
	for id, number := range map[string]string{"1": annNumber, "2": bobNumber} {
		c.calls(w, number, id)
		if got := c.status(); code(got) != "503" || header(got, "Retry-After") != "60" {
			t.Errorf("a call for %s gets %q", number, got)
		}
	}
	if n := w.door.Counters.Strained.Load(); n != 2 {
		t.Errorf("%d calls are counted, want 2", n)
	}
}

// A house that has all the calls that it may, pages' calls included, says the
// same.
func TestTheRoomHasNoPlace(t *testing.T) {
	t.Parallel()
	told := &sums{times: map[string]int64{}, calls: map[string]int{}}
	w := open(t, setup{cfg: func(c *sip.Config) { c.Turned = told.turned }})
	w.room.Most = 1
	ann, bob := w.connect()
	got := newRaw(t, w.door.Address()).invited(w, bobNumber, "many", sdp("127.0.0.1", 4000, ""))
	if code(got) != "503" || header(got, "Retry-After") != "60" {
		t.Errorf("it gets %q", got)
	}
	ok(t, ann.Hangup(w.ctx))
	<-bob.Done()
	w.ended()
	ok(t, w.door.Close())
	if n, _ := told.of("most"); n != 1 {
		t.Errorf("it is told %d times, want 1", n)
	}
}

// Who has all the calls that they may is told of, too.
func TestTellsWhoHasAllTheirCalls(t *testing.T) {
	t.Parallel()
	told := &sums{times: map[string]int64{}, calls: map[string]int{}}
	w := open(t, setup{cfg: func(c *sip.Config) { c.Turned, c.MaxDevice, c.MaxCalls = told.turned, 1, 2 }})
	ann, bob := w.connect()
	_, err := w.annPhone.Call(w.ctx, w.door.Address().String(), bobNumber)
	if refused := (*phone.Refused)(nil); !errors.As(err, &refused) || refused.Code != 486 {
		t.Errorf("a device's call too many: %v", err)
	}
	other := otherPhone(w)
	second := must(other.Call(w.ctx, w.door.Address().String(), bobNumber))(t)
	_, err = other.Call(w.ctx, w.door.Address().String(), bobNumber)
	if refused := (*phone.Refused)(nil); !errors.As(err, &refused) || refused.Code != 503 {
		t.Errorf("the house's call too many: %v", err)
	}
	for _, c := range []*phone.Call{ann, second} {
		ok(t, c.Hangup(w.ctx))
	}
	<-bob.Done()
	ok(t, w.door.Close())
	for _, word := range []string{"most", "device"} {
		if n, _ := told.of(word); n != 1 {
			t.Errorf("%s is told %d times, want 1", word, n)
		}
	}
}
