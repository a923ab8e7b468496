package media

import "time"

// Pace tells whether a loop that carries sound comes as often as it should. It
// belongs to that loop: nothing in it locks, waits or allocates.
type Pace struct {
	tell  func(worst time.Duration) // never waits
	last  time.Time                 // when the loop came; zero after a rest
	since time.Time                 // the second that is counted
	late  time.Duration             // of that second, in which a packet that came would have waited too long
	worst time.Duration             // between two ticks of it
}

const (
	// Of a party whose packet waited longer than this the next one is there
	// already. A house on two cores that took calls until then lost 2 packets in
	// 100,000, and 44 in 100 where it took them until one in ten waited 60 ms: by
	// the time that a loop is so late, the calls that will sink it have begun.
	waits = frame

	waitShare = 10 // a second is bad when more than one packet in so many waited longer
)

// Pace is for one more loop that brings sound: its bad seconds are told to
// Config.Late.
func (p *Plane) Pace() *Pace { return &Pace{tell: p.late} }

// Tick is called whenever the loop begins to look what came. What comes between
// two ticks waits for the second of them: of a longer gap, those who came first
// wait too long.
func (p *Pace) Tick(now time.Time) {
	if p.last.IsZero() {
		p.last, p.since, p.late, p.worst = now, now, 0, 0
		return
	}
	gap := now.Sub(p.last)
	p.last = now
	p.late += max(0, gap-waits)
	p.worst = max(p.worst, gap)
	span := now.Sub(p.since)
	if span < time.Second {
		return
	}
	if p.late*waitShare > span {
		p.tell(p.worst)
	}
	p.since, p.late, p.worst = now, 0, 0
}

// Rest is called when the loop sleeps until something comes.
func (p *Pace) Rest() { p.last = time.Time{} }

// late hands a bad second over to whoever tells.
func (p *Plane) late(worst time.Duration) {
	select {
	case p.lates <- worst:
	default: // one of the same moment waits to be told
	}
}
