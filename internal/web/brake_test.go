package web

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// braking is a brake before a door that counts who got through.
type braking struct {
	http.Handler
	through int
}

func newBraking(site *Site) *braking {
	b := &braking{}
	b.Handler = site.brakes(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { b.through++ }))
	return b
}

func (b *braking) from(address, method, path string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(address), 4711).String()
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	return w
}

// Who tries too often from one place has to wait as long as the answer says,
// at all these doors together, and nobody else waits.
func TestTheBrakeOfAnAddress(t *testing.T) {
	t.Parallel()
	b := newBraking(newKeyHouse(t).site)
	synctest.Test(t, func(t *testing.T) {
		for i := range perAddress.burst {
			if w := b.from("192.0.2.1", "POST", []string{"/in/passkey", "/join", "/in/recover", "/in/abc", "/join/code"}[i%5]); w.Code != http.StatusOK {
				t.Fatalf("try %d: got %d", i, w.Code)
			}
		}
		w := b.from("192.0.2.1", "POST", "/in/passkey")
		after, err := strconv.Atoi(w.Header().Get("Retry-After"))
		if w.Code != http.StatusTooManyRequests || err != nil || after < 1 {
			t.Fatalf("got %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
		}
		for _, c := range []struct{ from, method, path string }{
			{"192.0.2.2", "POST", "/in/passkey"}, {"192.0.2.1", "GET", "/in"}, {"192.0.2.1", "POST", "/out"}, {"192.0.2.1", "POST", "/inside"}, {"192.0.2.1", "POST", "/calls/x/withdraw"},
		} {
			if w := b.from(c.from, c.method, c.path); w.Code != http.StatusOK {
				t.Errorf("%v: got %d", c, w.Code)
			}
		}
		for _, path := range []string{"/join", "/in/x", "/in/", "//in/x", "/in/../in/x"} {
			if w := b.from("192.0.2.1", "POST", path); w.Code != http.StatusTooManyRequests {
				t.Errorf("%s: got %d", path, w.Code)
			}
		}
		if w := b.from("192.0.2.1", "PUT", "/in/x"); w.Code != http.StatusTooManyRequests {
			t.Error("another method goes around the brake")
		}
		time.Sleep(time.Duration(after) * time.Second)
		if w := b.from("192.0.2.1", "POST", "/in/passkey"); w.Code != http.StatusOK {
			t.Errorf("after waiting as told: got %d", w.Code)
		}
	})
}

// A code costs money and rings somebody's phone: few are sent for one address
// or network, whatever else it may do.
func TestFewCodesAreAskedForFromOnePlace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		from func(i int) string
		pace pace
	}{
		"an address": {func(int) string { return "192.0.2.1" }, codesPerAddress},
		"a network":  {func(i int) string { return fmt.Sprintf("192.0.2.%d", i%250) }, codesPerNetwork},
	} {
		b := newBraking(newKeyHouse(t).site)
		synctest.Test(t, func(t *testing.T) {
			for i := range c.pace.burst {
				if w := b.from(c.from(i), "POST", "/join"); w.Code != http.StatusOK {
					t.Fatalf("%s, code %d: got %d", name, i, w.Code)
				}
			}
			w := b.from(c.from(c.pace.burst), "POST", "/join")
			if wait, _ := strconv.Atoi(w.Header().Get("Retry-After")); w.Code != http.StatusTooManyRequests || wait < 60 {
				t.Errorf("%s, one more: got %d, Retry-After %d", name, w.Code, wait)
			}
			if w := b.from(c.from(0), "POST", "/join/code"); w.Code != http.StatusOK {
				t.Errorf("%s: giving a code got %d", name, w.Code)
			}
			time.Sleep(c.pace.every)
			if w := b.from(c.from(c.pace.burst), "POST", "/join"); w.Code != http.StatusOK {
				t.Errorf("%s, later: got %d", name, w.Code)
			}
		})
	}
}

// An IPv6 household is one place, however many addresses it has; so is a
// network, with more room; so is the house.
func TestTheBrakesOfNetworksAndTheHouse(t *testing.T) {
	t.Parallel()
	site := newKeyHouse(t).site
	for name, c := range map[string]struct {
		address func(i int) string
		bound   pace
	}{
		"a /64":        {func(i int) string { return fmt.Sprintf("2001:db8::%x", i+1) }, perAddress},
		"mapped":       {func(i int) string { return []string{"::ffff:192.0.2.1", "192.0.2.1"}[i%2] }, perAddress},
		"a /48":        {func(i int) string { return fmt.Sprintf("2001:db8:1:%x::1", i) }, perNetwork},
		"a /24":        {func(i int) string { return fmt.Sprintf("192.0.2.%d", i%256) }, perNetwork},
		"all":          {func(i int) string { return fmt.Sprintf("10.%d.%d.1", i/250, i%250) }, inAll},
		"this machine": {func(int) string { return "127.0.0.1" }, inAll},
	} {
		b := newBraking(site)
		synctest.Test(t, func(t *testing.T) {
			for i := range c.bound.burst {
				if w := b.from(c.address(i), "POST", "/join/code"); w.Code != http.StatusOK {
					t.Fatalf("%s: try %d: got %d", name, i, w.Code)
				}
			}
			if w := b.from(c.address(c.bound.burst), "POST", "/join/code"); w.Code != http.StatusTooManyRequests {
				t.Errorf("%s: one more than %d: got %d", name, c.bound.burst, w.Code)
			}
		})
	}
}

// A storm of 100,000 sign-ups takes bounded memory, and few get through.
func TestAStormIsBraked(t *testing.T) {
	t.Parallel()
	addresses := newBuckets[netip.Prefix](perAddress, maxAddresses)
	synctest.Test(t, func(t *testing.T) {
		for i := range 100_000 {
			a := netip.AddrFrom4([4]byte{byte(i >> 16), byte(i >> 8), byte(i), 1})
			addresses.take(place64(a), time.Now())
			if len(addresses.used) > maxAddresses {
				t.Fatalf("%d places are kept, want at most %d", len(addresses.used), maxAddresses)
			}
		}
	})
	b := newBraking(newKeyHouse(t).site)
	synctest.Test(t, func(t *testing.T) {
		for i := range 6_000 { // in 0.3 s
			b.from(fmt.Sprintf("10.%d.%d.1", i/250, i%250), "POST", "/join")
			if i%20 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		if most := inAll.burst + int(300*time.Millisecond/inAll.every) + 1; b.through > most {
			t.Errorf("%d came through, want at most %d", b.through, most)
		}
	})
}

// A place that is pushed out of memory is one that was nearly empty.
func TestTheFullestPlacesAreKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBuckets[int](pace{10, time.Hour}, 8)
		for range 10 {
			b.take(0, time.Now())
		}
		for i := 1; i < 1000; i++ {
			b.take(i, time.Now())
			if _, wait := b.take(0, time.Now()); wait == 0 {
				t.Fatalf("after %d others the first began anew", i)
			}
		}
	})
}
