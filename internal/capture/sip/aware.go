package sip

import (
	"context"
	"time"

	"yesline"
	"yesline/internal/capture"
)

// Phones that show their person whether they are recorded, and tell us whether
// that person wants to be (RFC 7866, 6 and 8.1).

// heed takes what a phone says that its person wishes. "off" and "pause" take
// consent back, as *9 does; nothing in a message can be a yes.
func (d *dialog) heed(wishes string) {
	if wishes != "off" && wishes != "pause" {
		return
	}
	if l, is := d.ear.to.(interface{ Unwanted(at time.Time) }); is {
		l.Unwanted(time.Now())
	}
}

// inform keeps a phone that is aware of recording informed until the call ends.
func (d *dialog) inform() {
	leg, is := d.ear.to.(interface {
		Party() (yesline.CallID, yesline.PersonID)
	})
	d.mu.Lock()
	aware := d.aware
	d.mu.Unlock()
	if !is || !aware || !d.door.holds() {
		return
	}
	call, person := leg.Party()
	live := d.door.room.Live(call)
	if live == nil {
		d.door.calling.Done()
		return
	}
	mine := live.Leg(person)
	if mine == nil {
		d.door.calling.Done()
		return
	}
	go func() {
		defer d.door.calling.Done()
		d.tellState(live, mine)
	}()
}

// tellState sends an offer with each change of whether anybody is recorded.
func (d *dialog) tellState(live *capture.Live, mine *capture.Leg) {
	ctx, cancel := context.WithCancel(d.ctx)
	defer cancel()
	told, seen := "off", int64(0)
	for ctx.Err() == nil && !d.ended() {
		round, enough := context.WithTimeout(ctx, lookEvery)
		s := live.Wait(round, mine, seen)
		enough()
		seen = s.Version
		if s.State == capture.Ended {
			return
		}
		now := "on"
		switch {
		case s.Paused:
			now = "paused"
		case s.Recording == "nobody":
			now = "off"
		}
		if now == told {
			continue
		}
		d.mu.Lock()
		d.ours.record = now
		d.mu.Unlock()
		if res, err := d.propose(ctx, true); err == nil && res.IsSuccess() {
			told = now
		} else if err == nil {
			return // it does not take it
		}
	}
}

func (d *dialog) ended() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.over
}
