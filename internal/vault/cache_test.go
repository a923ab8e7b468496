package vault

import (
	"testing"
	"testing/synctest"
	"time"

	"yesline/internal/audit"
)

// What was checked against the log is trusted for a minute, and not beyond a
// change of consent or of the entry.
func TestACheckedTreeIsNotTrustedForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o, reads := &Opener{}, 0
		read := func() (*tree, error) { reads++; return &tree{leaves: make([]hash, 10)}, nil }
		first, second := audit.Ref{DB: "content", Leaf: "ent_1"}, audit.Ref{DB: "content", Leaf: "ent_2"}
		for _, step := range []struct {
			wait       time.Duration
			ref        audit.Ref
			generation int64
			reads      int
		}{
			{0, first, 1, 1}, {59 * time.Second, first, 1, 1}, {time.Second, first, 1, 2},
			{0, first, 2, 3}, {0, first, 2, 3}, {0, second, 2, 4}, {0, second, 2, 4},
		} {
			time.Sleep(step.wait)
			if _, err := o.tree("x", step.ref, step.generation, read); err != nil || reads != step.reads {
				t.Fatalf("after %+v: read %d times, %v", step, reads, err)
			}
		}
		for i := range 2 * treesMost / 11 { // and it does not grow for ever
			if _, err := o.tree(string(rune(i)), first, 1, read); err != nil || o.held > treesMost+11 {
				t.Fatalf("%d leaves are held, %v", o.held, err)
			}
		}
	})
}
