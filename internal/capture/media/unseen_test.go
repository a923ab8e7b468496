package media

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"

	"yesline/internal/audio"
)

// A description may name somebody who never asked for our sound: it goes there
// for half a minute of a call, whatever addresses are named one after another,
// and no longer until something comes from there.
func TestSoundDoesNotGoOnToWhereNobodyIs(t *testing.T) {
	t.Parallel()
	p := testPlane(t, Config{From: 30660, To: 30670})
	var sent int
	victim, other := netip.MustParseAddrPort("192.0.2.66:7"), netip.MustParseAddrPort("192.0.2.67:7")
	s := p.Loose(nil, func([]byte) error { sent++; return nil })
	s.loose = false
	now, d := time.Now(), &desk{}
	named := func(at netip.AddrPort) {
		a := agreed(at)
		a.Relearn, a.Speaks, a.Signalling = true, false, thief.Addr()
		s.Agree(a)
	}
	said := func(packets int) int { // how many of so many left
		before := sent
		for range packets {
			s.out.mu.Lock()
			s.out.own(d, make([]byte, frameSize), true, now)
			s.out.mu.Unlock()
		}
		return sent - before
	}
	comes := func(data []byte, from netip.AddrPort) { s.read(d, data, from, now) }
	report := []byte{0x80, 201, 0, 1, 0, 0, 0, 1}

	named(victim)
	if n := said(800); n != 800 {
		t.Errorf("in the first 16 s %d packets of 800 left", n)
	}
	named(other) // a new address makes no new time
	if n := said(1000); n != 700 {
		t.Errorf("in the next 20 s %d packets left, want 700: 1500 in all", n)
	}
	named(victim)
	comes(report, thief) // who may send, and is not whom we send to
	comes(report, other)
	if n := said(100); n != 0 {
		t.Errorf("%d packets went on to somebody who sent nothing", n)
	}
	for what, data := range map[string][]byte{
		"reports":       report,
		"a check":       append([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...),
		"comfort noise": bytes.Replace(packet(1, 1), []byte{0x80, 0}, []byte{0x80, 13}, 1),
		"sound":         packet(1, 1),
	} {
		named(other)
		if n := said(10); n != 0 {
			t.Errorf("ahead of %s %d packets left", what, n)
		}
		comes(data, other)
		if n := said(10); n != 10 {
			t.Errorf("after %s %d packets of 10 left", what, n)
		}
		s.out.proved = netip.Addr{} // and nothing of it is remembered
	}
}

// A party that was there once gets its sound again after a hold, though it says
// nothing: it is known.
func TestAPartyThatWasThereIsKnownAfterAHold(t *testing.T) {
	t.Parallel()
	p := testPlane(t, Config{From: 30680, To: 30690})
	c := newCouple(p)
	c.from(home, packet(1, 1), time.Now())
	c.out.blind = 0 // its half minute was used up
	a := agreed(home)
	a.Relearn, a.Speaks, a.Listens = true, false, false
	c.Agree(a)
	a.Listens = true
	c.Agree(a)
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if !c.out.own(&desk{}, make([]byte, frameSize), true, time.Now()) {
		t.Error("it hears nothing any more")
	}
}

// Of a prompt some frames may be lost, as networks lose them; more is another
// question than the one that was asked.
func TestHowMuchOfAPromptMayBeLost(t *testing.T) {
	t.Parallel()
	p := testPlane(t, Config{From: 30700, To: 30710})
	for _, k := range []struct {
		frames, lost int
		said         bool
	}{{100, 0, true}, {100, 3, true}, {100, 4, false}, {20, 2, true}, {20, 3, false}, {5, 1, false}} {
		lose := k.lost
		s := p.Loose(nil, func([]byte) error {
			if lose--; lose >= 0 {
				return errors.New("the network is full")
			}
			return nil
		})
		s.Agree(Agreement{Codec: audio.PCMU, Listens: true, Speaks: true})
		asked := &prompt{sound: make([]byte, k.frames*frameSize), done: make(chan struct{})}
		s.out.begin(asked)
		d, now := &desk{}, time.Now()
		for s.out.feed(d, now) {
			now = now.Add(frame)
		}
		if said := asked.err == nil; said != k.said {
			t.Errorf("%d of %d frames lost: said %v", k.lost, k.frames, said)
		}
	}
}
