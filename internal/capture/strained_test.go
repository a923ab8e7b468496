package capture

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/consent"
	"yesline/internal/vault"
)

// crowded is a room with as many calls as may strain it.
func crowded() *Room {
	r := &Room{lives: map[yesline.CallID]*Live{}}
	for range fewCalls {
		r.lives[yesline.NewCallID()] = nil
	}
	return r
}

// Three bad seconds within ten make a house full, and ten without one end it.
func TestWhenAHouseIsFull(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for name, c := range map[string]struct {
		bad  []time.Duration // when a second was bad
		full []time.Duration // when the house is full
		not  []time.Duration // and when it is not
	}{
		"a hiccup":                     {bad: []time.Duration{s}, not: []time.Duration{0, s + 1, 2 * s, 9 * s}},
		"one that everybody tells of":  {bad: []time.Duration{s, s + 1, s + 2, s + s/2, 2*s - 1}, not: []time.Duration{2 * s, 9 * s}},
		"two hiccups":                  {bad: []time.Duration{s, 2 * s}, not: []time.Duration{2*s + 1, 5 * s}},
		"a hiccup now and then":        {bad: []time.Duration{s, 7 * s, 13 * s, 19 * s, 25 * s}, not: []time.Duration{13*s + 1, 19*s + 1, 26 * s}},
		"three at once":                {bad: []time.Duration{s, 2 * s, 3 * s}, full: []time.Duration{3*s + 1, 12 * s}, not: []time.Duration{3*s - 1, 13 * s, 60 * s}},
		"three of ten":                 {bad: []time.Duration{s, 6 * s, 11 * s}, full: []time.Duration{11*s + 1, 20 * s}, not: []time.Duration{11*s - 1, 21 * s}},
		"three of eleven":              {bad: []time.Duration{s, 6 * s, 11*s + 1}, not: []time.Duration{11*s + 2}},
		"it goes on, now and then":     {bad: []time.Duration{s, 2 * s, 3 * s, 12 * s, 21 * s}, full: []time.Duration{13 * s, 22 * s, 30 * s}, not: []time.Duration{31 * s}},
		"full, calm, and full again":   {bad: []time.Duration{s, 2 * s, 3 * s, 40 * s, 41 * s, 42 * s}, full: []time.Duration{4 * s, 43 * s}, not: []time.Duration{14 * s, 41*s + 1}},
		"calm is not the end of a rut": {bad: []time.Duration{s, 2 * s, 3 * s, 14 * s}, full: []time.Duration{4 * s}, not: []time.Duration{13 * s, 15 * s}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := crowded()
				for _, at := range c.bad {
					time.AfterFunc(at, func() { r.SoundLate(at) })
				}
				for _, at := range c.full {
					time.AfterFunc(at, func() {
						if !r.Full() {
							t.Errorf("after %v it is not full", at)
						}
					})
				}
				for _, at := range c.not {
					time.AfterFunc(at, func() {
						if r.Full() {
							t.Errorf("after %v it is full", at)
						}
					})
				}
				time.Sleep(time.Hour)
			})
		})
	}
}

// With few calls a busy machine is not full: it is not they that strain it.
func TestFewCallsFillNoHouse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := crowded()
		for id := range r.lives {
			delete(r.lives, id)
			break
		}
		for range 60 {
			r.SoundLate(time.Second)
			time.Sleep(time.Second)
			if r.Full() {
				t.Fatal("nine calls fill a house")
			}
		}
	})
}

// A house that seals its seconds more than a second after they were due is
// full, and so is one whose store is so far behind.
func TestSecondsThatAreSealedLate(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, c := range []struct {
		seals, stores time.Duration
		full          bool
	}{{500 * ms, 900 * ms, false}, {2000 * ms, 0, true}, {0, 1100 * ms, true}} {
		synctest.Test(t, func(t *testing.T) {
			live := &Live{room: crowded(), certain: make(chan struct{})}
			close(live.certain)
			zero := time.Now()
			r := &recorder{leg: &Leg{live: live}, lane: newLane(audio.PCMU, zero, zero),
				renew:  func(context.Context) (consent.Grant, error) { return consent.Grant{}, nil },
				behind: func() time.Duration { return c.stores },
				put: func(consent.Grant, int64, *vault.Second) error {
					time.Sleep(c.seals)
					return nil
				}}
			ctx, end := context.WithTimeout(t.Context(), 9*time.Second)
			defer end()
			for at := time.Duration(0); at < 9*time.Second; at += 20 * ms {
				time.AfterFunc(at, func() { r.lane.place(uint32(at.Milliseconds())*8, make([]byte, 160), time.Now()) })
			}
			if err := r.keep(ctx); err != nil || live.room.Full() != c.full {
				t.Errorf("%+v: full is %v, %v", c, live.room.Full(), err)
			}
		})
	}
}
