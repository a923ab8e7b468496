package media

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"yesline"
)

// places are the addresses and even ports at which streams can be: each has one
// at most. Where there are several addresses the streams gather at few ports,
// as those of one port share a socket.
type places struct {
	addrs    []netip.Addr
	from, to uint16
	taken    map[netip.AddrPort]bool
	at       map[uint16]int          // streams at each port
	rests    map[netip.AddrPort]bool // given back a short while ago
	resting  []rest                  // the same, the oldest first
}

type rest struct {
	at    netip.AddrPort
	since time.Time
}

// restTime is how long a place that was used is left alone while there are
// others: a party's phone may not have heard yet that its call is over (RFC
// 3261, timer B), and what it says is not to come to the next party.
const restTime = 32 * time.Second

// MaxAddrs is how many addresses a plane has at most, and so how many streams
// share a socket.
const MaxAddrs = 64

// addresses are those of a plane that are this machine's; yesline.Invalid when
// one is not, or cannot be told from the others.
func (c *Config) addresses() ([]netip.Addr, error) {
	all := append([]netip.Addr{c.IP}, c.More...)
	if len(all) == 1 {
		return all, nil
	}
	if len(all) > MaxAddrs {
		return nil, fmt.Errorf("a sound plane has %d addresses at most: %w", MaxAddrs, yesline.Invalid)
	}
	for i, at := range all {
		if !at.IsValid() || at.IsUnspecified() || at.Is4() != c.IP.Is4() || at.Is4In6() || slices.Contains(all[:i], at) {
			return nil, fmt.Errorf("the addresses of a sound plane are of one kind and differ: %w", yesline.Invalid)
		}
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
		if err != nil {
			return nil, fmt.Errorf("an address of the sound plane is not this machine's: %w", yesline.Invalid)
		}
		conn.Close()
	}
	return all, nil
}

func newPlaces(addrs []netip.Addr, from, to uint16) places {
	return places{addrs: addrs, from: from + from%2, to: to,
		taken: map[netip.AddrPort]bool{}, at: map[uint16]int{}, rests: map[netip.AddrPort]bool{}}
}

func (p *places) ports() int { return (int(p.to)-int(p.from))/2 + 1 }
func (p *places) count() int { return p.ports() * len(p.addrs) }
func (p *places) free() int  { return p.count() - len(p.taken) }

// take marks a place: at a port that others use already, if there is room; at
// another one by chance; where somebody was a moment ago if there is no other.
func (p *places) take(strange map[uint16]bool, now time.Time) (netip.AddrPort, bool) {
	for len(p.resting) > 0 && now.Sub(p.resting[0].since) > restTime {
		p.wake(0)
	}
	at, ok := p.gather(strange)
	if !ok {
		at, ok = p.anywhere(strange)
	}
	if !ok {
		at, ok = p.rested(strange)
	}
	if ok {
		p.taken[at] = true
		p.at[at.Port()]++
	}
	return at, ok
}

func (p *places) gather(strange map[uint16]bool) (netip.AddrPort, bool) {
	if len(p.addrs) == 1 {
		return netip.AddrPort{}, false
	}
	for port, streams := range p.at {
		if streams == len(p.addrs) || strange[port] {
			continue
		}
		if at, ok := p.atPort(port); ok {
			return at, true
		}
	}
	return netip.AddrPort{}, false
}

func (p *places) anywhere(strange map[uint16]bool) (netip.AddrPort, bool) {
	ports := p.ports()
	start := rand.IntN(ports)
	for i := range ports {
		port := p.from + uint16((start+i)%ports*2)
		if p.at[port] > 0 || strange[port] {
			continue
		}
		if at, ok := p.atPort(port); ok {
			return at, true
		}
	}
	return netip.AddrPort{}, false
}

// atPort gives a place of a port that is free and does not rest.
func (p *places) atPort(port uint16) (netip.AddrPort, bool) {
	for _, addr := range p.addrs {
		if at := netip.AddrPortFrom(addr, port); !p.taken[at] && !p.rests[at] {
			return at, true
		}
	}
	return netip.AddrPort{}, false
}

func (p *places) rested(strange map[uint16]bool) (netip.AddrPort, bool) {
	i := slices.IndexFunc(p.resting, func(r rest) bool { return !strange[r.at.Port()] })
	if i < 0 {
		return netip.AddrPort{}, false
	}
	at := p.resting[i].at
	p.wake(i)
	return at, true
}

func (p *places) wake(i int) {
	delete(p.rests, p.resting[i].at)
	if i == 0 {
		p.resting = p.resting[1:]
		return
	}
	p.resting = slices.Delete(p.resting, i, i+1)
}

// release gives a place back, to rest from then on; the zero time: it needs no
// rest.
func (p *places) release(at netip.AddrPort, since time.Time) {
	delete(p.taken, at)
	if p.at[at.Port()]--; p.at[at.Port()] == 0 {
		delete(p.at, at.Port())
	}
	if !since.IsZero() {
		p.rests[at] = true
		p.resting = append(p.resting, rest{at, since})
	}
}

// owns says whether somebody is at a place of ours.
func (p *places) owns(at netip.AddrPort) bool {
	if p.addrs[0].IsUnspecified() && at.Addr().IsLoopback() {
		at = netip.AddrPortFrom(p.addrs[0], at.Port())
	}
	return p.taken[at]
}
