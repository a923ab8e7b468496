package people

import (
	"testing"

	"yesline"
)

// However many programs somebody invents, few limiters are kept, and nobody
// is freed of theirs.
func TestInventedProgramsDoNotLiftALimit(t *testing.T) {
	t.Parallel()
	l := newLimits(0.0001, 1) // each is spent by one question, for hours
	program := yesline.NewProgramID()
	if !l.allow(program) {
		t.Fatal("the first question is refused")
	}
	for range 3 * limitsMost {
		l.allow(yesline.NewProgramID())
	}
	if l.allow(program) {
		t.Error("a look into other programs lifted a limit")
	}
	if len(l.by) > limitsMost {
		t.Errorf("%d limiters are kept, want at most %d", len(l.by), limitsMost)
	}
}

// A limiter that filled up again makes room for another.
func TestOldLimitersMakeRoom(t *testing.T) {
	t.Parallel()
	l := newLimits(1e9, 1)
	for range 3 * limitsMost {
		if !l.allow(yesline.NewProgramID()) {
			t.Fatal("a new program is refused though the others are done")
		}
	}
	if len(l.by) > limitsMost {
		t.Errorf("%d limiters are kept, want at most %d", len(l.by), limitsMost)
	}
}
