package media

import (
	"testing"
	"time"
)

// A second is bad when more than one packet in ten waited longer than 20 ms:
// told once, with the longest wait.
func TestBadSeconds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		gaps []time.Duration // between ticks, again and again, for ten seconds
		told int
	}{
		"as it should be":                       {gaps: []time.Duration{tick}},
		"a busy machine":                        {gaps: []time.Duration{tick, 4 * tick, 22 * time.Millisecond}},
		"a short collection each second":        {gaps: append(every(tick, 900*time.Millisecond), 100*time.Millisecond)},
		"one packet in ten just waits too long": {gaps: append(every(20*time.Millisecond, 980*time.Millisecond), 120*time.Millisecond)},
		"half of them do":                       {gaps: []time.Duration{125 * time.Millisecond}, told: 10},
		"ticks that take longer than a second":  {gaps: []time.Duration{2 * time.Second}, told: 5},
	} {
		var told []time.Duration
		p := &Pace{tell: func(worst time.Duration) { told = append(told, worst) }}
		worst, now := time.Duration(0), time.Now()
		p.Tick(now)
		for began, i := now, 0; now.Sub(began) < 10*time.Second; i++ {
			gap := c.gaps[i%len(c.gaps)]
			now, worst = now.Add(gap), max(worst, gap)
			p.Tick(now)
		}
		if len(told) < c.told-1 || len(told) > c.told || c.told > 0 && told[0] != worst {
			t.Errorf("%s: told %v, want %d times %v", name, told, c.told, worst)
		}
	}
}

func every(gap, span time.Duration) (gaps []time.Duration) {
	for range span / gap {
		gaps = append(gaps, gap)
	}
	return gaps
}

// Who rested is late for nothing, however long.
func TestARestIsNotLate(t *testing.T) {
	t.Parallel()
	p := &Pace{tell: func(worst time.Duration) { t.Errorf("told of %v", worst) }}
	now := time.Now()
	for range 5 {
		p.Tick(now)
		p.Rest()
		now = now.Add(time.Hour)
		p.Tick(now)
		now = now.Add(tick)
	}
}
