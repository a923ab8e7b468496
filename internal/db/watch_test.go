package db_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"yesline/internal/db"
)

func touch(t *testing.T, d *db.DB, subject string) {
	t.Helper()
	if err := d.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error { return tx.Touch(ctx, subject) }); err != nil {
		t.Fatal(err)
	}
}

func hold(t *testing.T, d *db.DB, subject string) *db.Held {
	t.Helper()
	h, err := d.Hold(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Release)
	return h
}

// within waits until ok, or fails after about the time that the house promises.
func within(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > limit {
			t.Fatalf("%s: not within %v", what, limit)
		}
	}
}

func TestAWatchReachesItsOwnNodeAtOnceAndOthersWithinASecond(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, again func() *db.DB) {
		other := again()
		if d.Fresh() {
			t.Error("fresh before anything was watched")
		}
		touch(t, d, "session/ann") // before anybody holds it
		mine, theirs := hold(t, d, "session/ann"), hold(t, other, "session/ann")
		bobs := hold(t, other, "session/bob")
		first := mine.Revision()
		if first == 0 || theirs.Revision() != first || bobs.Revision() != 0 {
			t.Fatalf("revisions at the start: %d, %d, %d", first, theirs.Revision(), bobs.Revision())
		}
		touch(t, d, "session/ann")
		if mine.Revision() <= first {
			t.Error("the node that touched does not know it")
		}
		within(t, 2*time.Second, "the other node's look", func() bool { return theirs.Revision() == mine.Revision() })
		if bobs.Revision() != 0 {
			t.Error("touching ann moved bob")
		}
		if !d.Fresh() || !other.Fresh() {
			t.Error("not fresh although the database answers")
		}
	})
}

func TestATouchThatIsNotCommittedMovesNothing(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, again func() *db.DB) {
		h := hold(t, d, "grant")
		d.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			if err := tx.Touch(ctx, "grant"); err != nil {
				t.Error(err)
			}
			if h.Revision() != 0 {
				t.Error("the holder moved before the commit")
			}
			return errors.New("no")
		})
		if again := hold(t, d, "grant"); again.Revision() != 0 {
			t.Errorf("revision %d after a rollback", again.Revision())
		}
	})
}

func TestAReleasedWatchIsLookedAtNoMoreAndTheOtherHolderKeepsIt(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, again func() *db.DB) {
		one, two := hold(t, d, "key"), hold(t, d, "key")
		one.Release()
		one.Release() // a second time gives nothing back
		touch(t, d, "key")
		if two.Revision() != 1 {
			t.Errorf("the remaining holder sees revision %d, want 1", two.Revision())
		}
		two.Release()
		touch(t, d, "key")
		if two.Revision() != 1 {
			t.Error("a released watch moved")
		}
	})
}

// More subjects than one query takes, and than two looks of one query each.
func TestManyWatchesAreLookedAtInBatches(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, again func() *db.DB) {
		other := again()
		var held []*db.Held
		for i := range 2*db.MaxIn + 20 {
			held = append(held, hold(t, other, fmt.Sprintf("many/%d", i)))
		}
		err := d.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			for i := range held {
				if err := tx.Touch(ctx, fmt.Sprintf("many/%d", i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		within(t, 2500*time.Millisecond, "all revisions", func() bool {
			for _, h := range held {
				if h.Revision() != 1 {
					return false
				}
			}
			return true
		})
	})
}

// A node that cannot read the watches must not think that nothing changed.
func TestANodeThatCannotLookIsStaleAfterThreeSeconds(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, again func() *db.DB) {
		hold(t, d, "grant")
		within(t, 2*time.Second, "fresh", d.Fresh)
		err := d.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `ALTER TABLE watches RENAME TO hidden`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		within(t, 2*db.Staleness, "stale", func() bool { return !d.Fresh() })
		err = d.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `ALTER TABLE hidden RENAME TO watches`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		within(t, 3*time.Second, "fresh again", d.Fresh)
	})
}
