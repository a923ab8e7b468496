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
	c.together(false) // what is pressed now is an answer, and the other's line does not hear it
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

// Pause keeps nothing of anybody until this party goes on: their seconds stay
// empty, and the time of what follows is right. Either party who is recorded
// may pause, and only who paused goes on. It reports whether that changed
// anything, and does not wait.
func (l *Leg) Pause(on bool) bool {
	c, at := l.live, time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || on == l.pausing || on && l.answer != yes {
		return false
	}
	l.pausing = on
	verb, prompt := "call.resumed", "resumed"
	if on {
		c.pausing.Add(1)
		verb, prompt = "call.paused", "paused"
	} else {
		c.pausing.Add(-1)
	}
	c.writers.Go(func() { // before close, so End waits for it
		c.save(context.Background(), func(ctx context.Context) error { return c.room.told(ctx, c, l, verb, c.wall(at)) })
	})
	select {
	case c.said <- prompt:
	default: // they hear the first of several in a row
	}
	c.news.ring()
	return true
}

func (c *Live) paused() bool { return c.pausing.Load() > 0 }
