package sip

import (
	"testing"
	"time"

	"yesline"
)

// A device may call for help four times at once, whatever else it does, and is
// as free as before when those are over.
func TestCallsForHelpAreCountedApart(t *testing.T) {
	t.Parallel()
	d := testDoor(t)
	now, ann := time.Now(), yesline.NewDeviceID()
	for range 4 {
		if d.begins(ann, now) != 0 || !d.helps(ann, now) {
			t.Fatal("four calls of each kind do not fit")
		}
	}
	if d.begins(ann, now) != 486 || d.helps(ann, now) {
		t.Error("five do")
	}
	for range 4 {
		d.ends(ann)
	}
	if d.devices[ann].idle(now.Add(time.Hour)) {
		t.Error("a device that calls for help may be forgotten")
	}
	d.helped(ann)
	if !d.helps(ann, now) {
		t.Error("what ended still counts")
	}
}

// Calls from outside leave a quarter of the lines to our own people, and those
// leave them all to who calls for help.
func TestCallsFromOutsideLeaveLinesFree(t *testing.T) {
	t.Parallel()
	d := testDoor(t)
	d.cfg.MaxCalls = 8
	fill := func(outside, emergency bool) (n int) {
		for n < 20 && d.enter(outside, emergency) {
			n++
		}
		return n
	}
	if n := fill(true, false); n != 6 {
		t.Errorf("%d calls from outside fit, want 6 of 8", n)
	}
	if n := fill(false, false); n != 2 {
		t.Errorf("%d calls of our people fit besides, want 2", n)
	}
	if n := fill(false, true); n != 20 {
		t.Errorf("%d calls for help fit besides, want however many", n)
	}
}

// Of DTLS ports, too, some are kept for who calls for help.
func TestSomeDTLSPortsAreKeptForHelp(t *testing.T) {
	t.Parallel()
	d := testDoor(t)
	ordinary := 0
	for d.digs(40, false) {
		ordinary++
	}
	urgent := 0
	for d.digs(40, true) {
		urgent++
	}
	if d.fills(); ordinary != 35 || urgent != 5 || !d.digs(40, true) {
		t.Errorf("%d ordinary and %d urgent ports, want 35 and 5", ordinary, urgent)
	}
}

// A key that comes by the signalling is no sign that a phone still sends sound.
func TestAKeyInINFOIsNoSound(t *testing.T) {
	t.Parallel()
	for locked, want := range map[bool]bool{false: false, true: true} {
		e := &ear{}
		if e.Key('5', time.Now(), locked); e.heard.Load() != want {
			t.Errorf("locked %v: heard %v", locked, !want)
		}
	}
}
