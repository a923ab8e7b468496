package app

import (
	"sync"

	"golang.org/x/time/rate"

	"yesline"
	"yesline/internal/web"
)

// An account may ask for so many calls a second, whatever becomes of them:
// looking up who has a number is shared by its whole program.
const (
	callsAsked    = 1
	callsAtOnce   = 20
	eagerAccounts = 4096 // remembered; then all begin anew
)

// eager keeps one account from asking for calls as fast as it can. Its zero
// value is ready.
type eager struct {
	mu sync.Mutex // guards by
	by map[yesline.PersonID]*rate.Limiter
}

// asks counts one call asked for; the error is a *web.Refusal.
func (e *eager) asks(person yesline.PersonID) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.by == nil || len(e.by) >= eagerAccounts {
		e.by = map[yesline.PersonID]*rate.Limiter{}
	}
	one := e.by[person]
	if one == nil {
		one = rate.NewLimiter(callsAsked, callsAtOnce)
		e.by[person] = one
	}
	if !one.Allow() {
		return &web.Refusal{Sentence: "Many calls were asked for. Wait a little.", Why: yesline.TooMany}
	}
	return nil
}
