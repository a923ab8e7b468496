package capture

import (
	"context"
	"sync"
	"time"
)

// What happens to the recording while two people talk: asking now, and pausing.

// want asks both, if nobody was asked yet.
func (c *Live) want() bool {
	if !c.mayAsk() {
		return false
	}
	select {
	case c.wanted <- struct{}{}:
	default: // they are about to be asked
	}
	return true
}

// mayAsk reports whether the call goes on unrecorded and nobody was asked yet. A
// no is final for its call.
func (c *Live) mayAsk() bool {
	c.mu.Lock()
	state := c.state
	c.mu.Unlock()
	if c.unable != "" || state != Bridged {
		return false
	}
	for _, l := range c.legs() {
		l.mu.Lock()
		fresh := l.answer == open && !l.asking
		l.mu.Unlock()
		if !fresh {
			return false
		}
	}
	return true
}

// askNow asks both in the middle of their talk; it goes on, recorded or not.
func (c *Live) askNow(ctx context.Context) {
	if !c.mayAsk() {
		return
	}
	c.together(false) // what is pressed now is an answer
	defer func() {
		if ctx.Err() == nil {
			c.together(true)
		}
	}()
	c.move(ctx, Asking)
	c.tell(ctx, "asking_during")
	var asked sync.WaitGroup
	for _, l := range c.legs() {
		asked.Go(func() { l.Ask(ctx) })
	}
	asked.Wait()
	c.Bridge(ctx)
	c.move(ctx, Bridged)
	c.keep(ctx)
	c.saveRecording(ctx)
}

// pauseEvery is how often a party's pausing changes at most. A pause itself
// waits for nothing: it is the going on that does, and the log.
const pauseEvery = time.Second

// rest is how one party has the recording paused.
type rest struct {
	wanted  bool
	on      bool
	since   time.Time     // on changed
	pressed chan struct{} // has one when wanted changed; nil before it first did
	over    chan struct{} // closed with the leg
}

func (r *rest) end() {
	if r.pressed != nil {
		close(r.pressed)
		close(r.over)
	}
}

// Pause keeps nothing of anybody, at once, until this party goes on, which may
// take a moment: their seconds stay empty, and the time of what follows is
// right. Either party who is recorded may pause, and only who paused goes on. It
// reports whether that changed anything, and does not wait.
func (l *Leg) Pause(on bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.rest
	if l.closed || on == r.wanted || on && l.answer != yes {
		return false
	}
	r.wanted = on
	if on && !r.on {
		l.rests(true)
	}
	if r.pressed == nil {
		r.pressed, r.over = make(chan struct{}, 1), make(chan struct{})
		l.live.writers.Go(l.writePauses) // before close, so End waits for it
	}
	select {
	case r.pressed <- struct{}{}:
	default: // it is about to be looked at
	}
	return true
}

// rests makes a pause or its end true. Called with mu held.
func (l *Leg) rests(on bool) {
	c := l.live
	l.rest.on, l.rest.since = on, time.Now()
	by, prompt := int32(-1), "resumed"
	if on {
		by, prompt = 1, "paused"
	}
	c.pause(by)
	select {
	case c.said <- prompt:
	default: // they hear the first of several in a row
	}
	c.news.ring()
}

// writePauses writes this party's pauses down, one after the other, and lets
// them go on. Of what is pressed to and fro meanwhile the last counts. It ends
// with the call.
func (l *Leg) writePauses() {
	c, told := l.live, false
	for range l.rest.pressed {
		for on, since := l.rested(told); on != told; on, since = l.rested(told) {
			told = on
			verb := map[bool]string{true: "call.paused", false: "call.resumed"}[on]
			c.save(context.Background(), func(ctx context.Context) error { return c.room.told(ctx, c, l, verb, c.wall(since)) })
			breath := time.NewTimer(pauseEvery)
			select {
			case <-breath.C:
			case <-l.rest.over:
				breath.Stop()
			}
		}
	}
}

// rested tells whether this party has the recording paused, and since when. Told
// says that a pause was written down: now it may end.
func (l *Leg) rested(told bool) (on bool, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if told && l.rest.on && !l.rest.wanted && !l.closed {
		l.rests(false)
	}
	return l.rest.on, l.rest.since
}

// pause tells both legs, where each packet looks.
func (c *Live) pause(by int32) {
	c.Caller.pauses.Add(by)
	c.Callee.pauses.Add(by)
}

func (c *Live) paused() bool { return c.Caller.pauses.Load() > 0 }
