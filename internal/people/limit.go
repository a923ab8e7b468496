package people

import (
	"sync"

	"golang.org/x/time/rate"

	"yesline"
)

// limitsMost bounds the limiters kept. Programs are fewer.
const limitsMost = 1000

// limits holds one limiter for each program that asks.
type limits struct {
	mu    *sync.Mutex
	by    map[yesline.ProgramID]*rate.Limiter
	limit rate.Limit
	burst int
}

func newLimits(limit rate.Limit, burst int) limits {
	return limits{&sync.Mutex{}, map[yesline.ProgramID]*rate.Limiter{}, limit, burst}
}

func (l limits) allow(program yesline.ProgramID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.by[program]
	if one == nil {
		if len(l.by) >= limitsMost && !l.makeRoom() {
			return false
		}
		one = rate.NewLimiter(l.limit, l.burst)
		l.by[program] = one
	}
	return one.Allow()
}

// makeRoom drops limiters that have filled up again: a new one is the same.
// What is still limited stays, so that invented programs free nobody.
func (l limits) makeRoom() bool {
	for program, one := range l.by {
		if one.Tokens() >= float64(l.burst) {
			delete(l.by, program)
		}
	}
	return len(l.by) < limitsMost
}
