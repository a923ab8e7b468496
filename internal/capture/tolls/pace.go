package tolls

import (
	"sync"
	"time"
)

// pace keeps how many calls each account and trunk has at once, and how many it
// placed within the last 60 s. It is in memory, of this node alone, and goes
// by the monotonic clock.
type pace struct {
	mu   *sync.Mutex
	by   map[string]*going
	born time.Time
}

// going are the calls of one account or trunk.
type going struct {
	now    int
	placed []int64 // nanoseconds since born, oldest first; as many as its limit at most
}

const (
	window    = time.Minute
	goingMost = 100_000 // accounts that called within a minute, or do
)

func newPace() pace {
	return pace{&sync.Mutex{}, map[string]*going{}, time.Now()}
}

// begin counts a call, or gives the word that refuses it.
func (p pace) begin(who Who, r Rules, at time.Time) (word string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	since := int64(at.Sub(p.born))
	account, line, word := p.look(who, r, since)
	if word != "" {
		return word
	}
	if len(p.by) >= goingMost {
		if p.sweep(since); len(p.by) >= goingMost {
			return crowd
		}
	}
	p.count(who.account(), account, since)
	if line != nil {
		p.count(trunkPurse(who.Trunk), line, since)
	}
	return ""
}

// may gives the word that would refuse a call now, and counts nothing.
func (p pace) may(who Who, r Rules, at time.Time) (word string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _, word = p.look(who, r, int64(at.Sub(p.born)))
	return word
}

// look finds the calls of an account and, where one is used, of its trunk, and
// the word that refuses one more. Called with the mutex held.
func (p pace) look(who Who, r Rules, since int64) (account, line *going, word string) {
	account = p.of(who.account(), since)
	switch {
	case account.now >= r.Calls.Account:
		return account, nil, busy
	case len(account.placed) >= r.PerMinuteCalls.Account:
		return account, nil, tooFast
	case who.Inside:
		return account, nil, ""
	}
	line = p.of(trunkPurse(who.Trunk), since)
	switch {
	case line.now >= r.Calls.Trunk:
		word = full
	case len(line.placed) >= r.PerMinuteCalls.Trunk:
		word = crowd
	}
	return account, line, word
}

func (p pace) count(name string, g *going, since int64) {
	p.by[name] = g
	g.now++
	g.placed = append(g.placed, since)
}

// of gives the calls of one, without those placed a minute ago and longer.
func (p pace) of(name string, since int64) *going {
	g := p.by[name]
	if g == nil {
		return &going{}
	}
	g.forget(since)
	return g
}

// forget drops what was placed a minute ago and longer.
func (g *going) forget(since int64) {
	old := 0
	for old < len(g.placed) && since-g.placed[old] >= int64(window) {
		old++
	}
	g.placed = g.placed[old:] // append moves to a new array in time
}

// sweep drops those that nothing is known of.
func (p pace) sweep(since int64) {
	for name, g := range p.by {
		if g.forget(since); g.now == 0 && len(g.placed) == 0 {
			delete(p.by, name)
		}
	}
}

// end counts a call out.
func (p pace) end(who Who) {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := []string{who.account()}
	if !who.Inside {
		names = append(names, trunkPurse(who.Trunk))
	}
	for _, name := range names {
		if g := p.by[name]; g != nil && g.now > 0 {
			g.now--
		}
	}
}
