package web

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"yesline/internal/session"
)

// A brake on the doors where strangers try: signing up, signing in, links and
// recovery codes. It counts what comes from an address, from a network and in
// all, in memory and in a bounded number of places; each node has its own. It
// is not what keeps a code secret or a budget whole (those who own them do),
// but it keeps a storm from reaching them.

// pace is how much may come: burst at once, and then each that often.
type pace struct {
	burst int
	every time.Duration
}

var (
	perAddress = pace{30, 2 * time.Second}
	perNetwork = pace{300, 100 * time.Millisecond} // a carrier puts thousands behind one
	inAll      = pace{2000, 2 * time.Millisecond}

	// A code that is sent costs money and reaches somebody's phone, so asking
	// for one is slower by far.
	codesPerAddress = pace{10, 6 * time.Minute}
	codesPerNetwork = pace{50, 72 * time.Second}
)

const (
	maxAddresses = 20_000
	maxNetworks  = 10_000
)

// buckets hold how much each key used up lately. A bucket that ran empty again
// is as good as none, so those make room first.
type buckets[K comparable] struct {
	pace pace
	most int

	mu   sync.Mutex
	used map[K]bucket
}

type bucket struct {
	level float64 // of pace.burst
	at    time.Time
}

func newBuckets[K comparable](p pace, most int) *buckets[K] {
	return &buckets[K]{pace: p, most: most, used: map[K]bucket{}}
}

// take counts one more of k. It gives how many are left, or how long to wait.
func (b *buckets[K]) take(k K, now time.Time) (left int, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	one, known := b.used[k]
	one = b.drained(one, now)
	if over := one.level + 1 - float64(b.pace.burst); over > 0 {
		return 0, time.Duration(over * float64(b.pace.every))
	}
	if !known && len(b.used) >= b.most {
		b.makeRoom(now)
	}
	one.level++
	b.used[k] = one
	return b.pace.burst - int(one.level+0.999), 0
}

func (b *buckets[K]) drained(one bucket, now time.Time) bucket {
	gone := float64(now.Sub(one.at)) / float64(b.pace.every)
	return bucket{max(0, one.level-max(0, gone)), now}
}

// makeRoom looks at a few places and gives up the emptiest. Whoever comes from
// very many addresses can push single ones out, and is met by the network's
// brake and the house's.
func (b *buckets[K]) makeRoom(now time.Time) {
	var least K
	level, seen := -1.0, 0
	for k, one := range b.used {
		if l := b.drained(one, now).level; level < 0 || l < level {
			least, level = k, l
		}
		if seen++; seen == 8 || level == 0 {
			break
		}
	}
	delete(b.used, least)
}

// brakes slows down what strangers may send to the doors of signing up and in.
func (s *Site) brakes(next http.Handler) http.Handler {
	addresses := newBuckets[netip.Prefix](perAddress, maxAddresses)
	networks := newBuckets[netip.Prefix](perNetwork, maxNetworks)
	codesHere := newBuckets[netip.Prefix](codesPerAddress, maxAddresses)
	codesAround := newBuckets[netip.Prefix](codesPerNetwork, maxNetworks)
	house := newBuckets[struct{}](inAll, 1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !braked(r) {
			next.ServeHTTP(w, r)
			return
		}
		now, from := time.Now(), s.address(r)
		var wait time.Duration
		if !from.IsLoopback() { // who is on this machine has no address that tells them from others
			if _, wait = addresses.take(place64(from), now); wait == 0 {
				_, wait = networks.take(place48(from), now)
			}
			if wait == 0 && r.URL.Path == "/join" {
				if _, wait = codesHere.take(place64(from), now); wait == 0 {
					_, wait = codesAround.take(place48(from), now)
				}
			}
		}
		if wait == 0 {
			_, wait = house.take(struct{}{}, now)
		}
		if wait > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(wholeSeconds(wait)))
			s.page(w, http.StatusTooManyRequests, problemView{Status: http.StatusTooManyRequests}, session.Nobody)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func braked(r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return false
	}
	first, _, _ := strings.Cut(strings.TrimLeft(r.URL.Path, "/"), "/")
	return first == "join" || first == "in"
}

func wholeSeconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// address is where a request comes from, as far as the house believes it.
func (s *Site) address(r *http.Request) netip.Addr {
	if s.house.API.Address != nil {
		return s.house.API.Address(r).Unmap()
	}
	from, _ := netip.ParseAddrPort(r.RemoteAddr)
	return from.Addr().Unmap()
}

// place64 is what one household or phone has: an IPv4 address or an IPv6 /64.
func place64(a netip.Addr) netip.Prefix { return prefixOf(a, 32, 64) }

// place48 is the network that it is in.
func place48(a netip.Addr) netip.Prefix { return prefixOf(a, 24, 48) }

func prefixOf(a netip.Addr, four, six int) netip.Prefix {
	bits := six
	if a.Is4() {
		bits = four
	}
	p, _ := a.WithZone("").Prefix(bits) // the zero address gives the zero prefix: all who come from nowhere share one
	return p
}
