package sip

import (
	"sync/atomic"
	"time"
)

// Who is turned away before anybody knows whom, or for the house's sake and not
// their own, is told in sums. A message of a flood costs what its counter costs,
// and no more.

// tellEvery is how often sums are told, each of which is something to write
// down.
const tellEvery = time.Second

// turning is a reason to turn somebody away.
type turning struct {
	word  string // 1 to 20 letters a-z; the operators' page has a sentence for each
	times *atomic.Int64
}

func (c *Counters) turnings() []turning {
	return []turning{
		{"stranger", &c.Strangers},
		{"digest", &c.Wrong},
		{"password", &c.Barred},
		{"flood", &c.Flood},
		{"malformed", &c.Malformed},
		{"oversized", &c.Oversized},
		{"lines", &c.Lines},
		{"strained", &c.Strained},
		{"most", &c.Busy},
		{"device", &c.Greedy},
	}
}

// teller tells what was not told yet. One goroutine uses it, and Close after
// that one has ended.
type teller struct {
	to    func(word string, times int64) // nil: nobody
	count *Counters
	told  map[string]int64
}

func (t *teller) tell() {
	if t.to == nil {
		return
	}
	for _, why := range t.count.turnings() {
		n := why.times.Load()
		if more := n - t.told[why.word]; more > 0 {
			t.told[why.word] = n
			t.to(why.word, more)
		}
	}
}

// tellTurned tells until the door closes, which then tells the rest.
func (d *Door) tellTurned() {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-tick.C:
			d.teller.tell()
		}
	}
}
