package people

import (
	"testing"

	"yesline"
)

// However many programs somebody invents, few limiters are kept.
func TestLimitsAreFew(t *testing.T) {
	t.Parallel()
	l := newLimits(0.001, 1) // each is spent by one question, for a quarter of an hour
	for range 3 * limitsMost {
		l.allow(yesline.NewProgramID())
	}
	if len(l.by) > limitsMost {
		t.Errorf("%d limiters are kept, want at most %d", len(l.by), limitsMost)
	}
}
