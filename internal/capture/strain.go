package capture

import (
	"fmt"
	"sync"
	"time"

	"yesline"
)

// How a new call is refused that the house has no room for. Both are
// yesline.TooMany: a minute later there may be.
var (
	ErrFull = fmt.Errorf("the house does not keep up with the calls it carries: %w", yesline.TooMany)
	ErrMost = fmt.Errorf("the house carries all the calls it may: %w", yesline.TooMany)
)

const (
	// A lane holds a second for 1.8 s after it should have been sealed; then
	// sound is lost.
	sealLate = time.Second

	// What a call needs written down before it can be recorded is given up after
	// patience, and the call goes on unrecorded.
	entryLate = 2 * time.Second

	// So many bad seconds within this time and the house is full. One or two are
	// a hiccup: a collection, a slow sync, a machine that slept.
	badSeconds = 3
	badWithin  = 10 * time.Second

	// With fewer calls than this it is not they that strain the machine, which
	// carries hundreds: to refuse the next one would help nobody.
	fewCalls = 10

	// And it is until there was none for so long. What strains it are the calls
	// that it has, so it would be full again at once if it took more the moment
	// that one of them ends.
	calm = 10 * time.Second
)

// strain tells by what was late whether the house keeps up. A second in which
// anything was too late is bad. The zero value keeps up.
type strain struct {
	mu   sync.Mutex            // guards the rest
	bad  [badSeconds]time.Time // the newest bad seconds, newest first
	full bool
}

// late counts the second of now as bad, once. It reports whether that made the
// house full.
func (s *strain) late(now time.Time) (became bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.bad[0].IsZero() && now.Sub(s.bad[0]) < time.Second {
		return false
	}
	copy(s.bad[1:], s.bad[:])
	s.bad[0] = now
	oldest := s.bad[badSeconds-1]
	if s.full || oldest.IsZero() || now.Sub(oldest) > badWithin {
		return false
	}
	s.full = true
	return true
}

// isFull reports whether the house is full, and whether it was until now.
func (s *strain) isFull(now time.Time) (full, was bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was = s.full
	s.full = was && now.Sub(s.bad[0]) < calm
	return s.full, was && !s.full
}

// Full reports whether the house takes no new calls, because it does not keep up
// with those that it has: sound waits, seconds are sealed late, or what calls
// need is written down too slowly. It never is with few calls, nor for a call
// for help, and calls that go on are not touched. Dial, RingFirst and Receive ask it themselves;
// doors ask before they do anything dear.
func (r *Room) Full() bool {
	full, was := r.strain.isFull(time.Now())
	if was {
		r.report().Warn("the house keeps up again, and takes new calls")
	}
	return full
}

// SoundLate is told of each second in which sound waited too long for whoever
// carries it, and of the longest wait: media.Config.Late.
func (r *Room) SoundLate(worst time.Duration) { r.late("sound was carried", worst) }

// sealed is told when the seconds that were due then are sealed, and how far the
// store is behind.
func (r *Room) sealed(due time.Time, behind time.Duration) {
	if by := time.Since(due); by > sealLate {
		r.late("a second was sealed", by)
	}
	if behind > sealLate {
		r.late("sealed seconds were stored", behind)
	}
}

// entered is told how long it took to write down what a call or a recording
// needs, or to give up on it.
func (r *Room) entered(began time.Time) {
	if took := time.Since(began); took > entryLate {
		r.late("a call was written down", took)
	}
}

func (r *Room) late(what string, by time.Duration) {
	calls := r.Going()
	if calls >= fewCalls && r.strain.late(time.Now()) {
		r.report().Warn("the house is full: it takes no new calls until it keeps up with those it has", "late", what, "by", by, "calls", calls)
	}
}
