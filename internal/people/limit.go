package people

import (
	"sync"

	"golang.org/x/time/rate"

	"yesline"
)

// limits holds one limiter for each program that looks numbers up. Programs
// are few; past a thousand the map starts anew.
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
	if len(l.by) > 1000 {
		clear(l.by)
	}
	one := l.by[program]
	if one == nil {
		one = rate.NewLimiter(l.limit, l.burst)
		l.by[program] = one
	}
	return one.Allow()
}
