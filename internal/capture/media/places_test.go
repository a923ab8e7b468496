package media

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
)

// A place that somebody left is nobody's for a while, as long as there are
// others.
func TestPlacesRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces([]netip.Addr{loopback}, 41, 45)
		first := mustTake(t, &p)
		p.release(first, time.Now())
		second := mustTake(t, &p)
		if second == first {
			t.Fatal("a place was given on at once")
		}
		if third := mustTake(t, &p); third != first {
			t.Fatalf("got %v, want %v, which rests, as the last that is free", third, first)
		}
		if at, ok := p.take(nil, time.Now()); ok {
			t.Fatalf("got %v of a range that is full", at)
		}
		p.release(first, time.Now())
		time.Sleep(time.Second)
		p.release(second, time.Now())
		if at := mustTake(t, &p); at != first {
			t.Errorf("got %v, want %v, which rests longest", at, first)
		}
		p.release(first, time.Now())
		time.Sleep(restTime)
		mustTake(t, &p)
		if len(p.resting) != 1 || len(p.rests) != 1 {
			t.Errorf("%d places rest, want the one that was left last", len(p.resting))
		}
		time.Sleep(time.Second)
		mustTake(t, &p)
		if len(p.resting) != 0 || len(p.rests) != 0 {
			t.Errorf("%d places still rest", len(p.resting))
		}
	})
}

func mustTake(t *testing.T, p *places) netip.AddrPort {
	t.Helper()
	at, ok := p.take(nil, time.Now())
	if !ok {
		t.Fatal("no place is free")
	}
	if !p.owns(at) {
		t.Fatalf("%v is not ours", at)
	}
	return at
}

// Those who can share a socket do, and nobody is where somebody is.
func TestPlacesGather(t *testing.T) {
	t.Parallel()
	p := newPlaces(append([]netip.Addr{loopback}, moreHere...), 50, 70)
	seen := map[netip.AddrPort]bool{}
	for i := range p.count() {
		at := mustTake(t, &p)
		if seen[at] {
			t.Fatalf("%v was given twice", at)
		}
		seen[at] = true
		if want := i/3 + 1; len(p.at) != want {
			t.Fatalf("%d streams are at %d ports, want %d", i+1, len(p.at), want)
		}
	}
	if _, ok := p.take(nil, time.Now()); ok || p.free() != 0 {
		t.Fatal("there is room in a range that is full")
	}
	for at := range seen {
		p.release(at, time.Time{})
	}
	if p.free() != p.count() || len(p.at) != 0 {
		t.Errorf("%d of %d are free, %d ports are in use", p.free(), p.count(), len(p.at))
	}
	for range 3 * 10 {
		if at, ok := p.take(map[uint16]bool{50: true}, time.Now()); !ok || at.Port() == 50 {
			t.Fatalf("got %v, %v; port 50 is somebody else's", at, ok)
		}
	}
}

// Addresses that cannot be told apart, or are not ours, are refused at the start.
func TestAddressesOfAPlane(t *testing.T) {
	t.Parallel()
	many := make([]netip.Addr, MaxAddrs)
	for i := range many {
		many[i] = netip.AddrFrom4([4]byte{127, 0, 9, byte(i + 1)})
	}
	for what, more := range map[string][]netip.Addr{
		"the same twice":  {moreHere[0], moreHere[0]},
		"the first again": {loopback},
		"any":             {netip.IPv4Unspecified()},
		"none":            {{}},
		"another kind":    {netip.IPv6Loopback()},
		"a disguise":      {netip.MustParseAddr("::ffff:127.0.0.2")},
		"another machine": {netip.MustParseAddr("192.0.2.1")},
		"too many":        many,
	} {
		if p, err := Open(Config{IP: loopback, More: more, From: 50, To: 60}); !errors.Is(err, yesline.Invalid) {
			t.Errorf("%s: %v", what, err)
			p.Close()
		}
	}
	for what, ip := range map[string]netip.Addr{"any address and others": netip.IPv4Unspecified(), "another kind first": netip.IPv6Loopback()} {
		if _, err := Open(Config{IP: ip, More: moreHere, From: 50, To: 60}); !errors.Is(err, yesline.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	disguised := []netip.Addr{netip.MustParseAddr("::ffff:127.0.0.2")}
	if _, err := Open(Config{IP: netip.IPv6Loopback(), More: disguised, From: 50, To: 60}); !errors.Is(err, yesline.Invalid) {
		t.Errorf("IPv4 as IPv6: %v", err)
	}
}
