package people_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
	"yesline/internal/db"
)

func change(t *testing.T, d *db.DB, q string, args ...any) {
	t.Helper()
	if err := d.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, q, args...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// A row that was moved to another program is met by nobody in its old one: who
// calls there is somebody new, and stays who they are.
func TestAMovedRowIsNotMet(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		program, other := r.House.Program(t), r.House.Program(t)
		ann := r.meets(t, program, "+12025550142")
		change(t, r.House.People, `UPDATE people SET program = $1 WHERE id = $2`, string(other), string(ann))
		now := r.meets(t, program, "+12025550142")
		if now == ann {
			t.Error("a row of another program was met")
		}
		if r.programOf(t, now) != program || r.meets(t, program, "+12025550142") != now {
			t.Error("who was met instead does not stay")
		}
	})
}

// inBubble tells a story about time, on SQLite.
func inBubble(t *testing.T, story func(t *testing.T, r *room)) {
	t.Parallel()
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		story(t, openOn(t, func(name string) *db.DB {
			d, err := db.Open(t.Context(), name, "sqlite:"+filepath.Join(folder, name+".db"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { d.Close() })
			return d
		}))
	})
}

// Claims that ended go when somebody claims ten seconds later, also if nobody
// else sweeps; within ten seconds nothing is swept twice.
func TestClaimsSweepByThemselves(t *testing.T) {
	inBubble(t, func(t *testing.T, r *room) {
		program := r.House.Program(t)
		old := r.claims(t, program, "+12025550142")
		change(t, r.House.People, `UPDATE claims SET expires = created WHERE id = $1`, string(old))
		claimsAfter := func(pause time.Duration, want int) {
			t.Helper()
			time.Sleep(pause)
			r.claims(t, program, "+12025550143")
			if n := r.count(t, `SELECT COUNT(*) FROM claims`); n != want {
				t.Errorf("%d claims are kept, want %d", n, want)
			}
		}
		claimsAfter(9900*time.Millisecond, 2)
		claimsAfter(200*time.Millisecond, 2) // the one that ended is gone
	})
}

// A program takes 200 claims at once and twenty a second from then on.
func TestClaimsAreTakenAtARate(t *testing.T) {
	inBubble(t, func(t *testing.T, r *room) {
		program := r.House.Program(t)
		for _, c := range []struct {
			pause time.Duration
			taken int
		}{{0, 200}, {0, 0}, {time.Second, 20}, {time.Minute, 200}} {
			time.Sleep(c.pause)
			taken := 0
			for range 250 {
				_, err := r.Claim(t.Context(), program, number(t, "+12025550142"))
				if err == nil {
					taken++
				} else if !errors.Is(err, yesline.TooMany) {
					t.Fatal(err)
				}
			}
			if taken != c.taken {
				t.Errorf("%d claims were taken after a pause of %v, want %d", taken, c.pause, c.taken)
			}
		}
	})
}
