package db_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"yesline/internal/db"
)

// diary remembers which ids a handler was given.
type diary struct {
	mu  sync.Mutex
	ids []string
}

func (d *diary) write(id string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ids = append(d.ids, id)
	return d.countLocked(id)
}

func (d *diary) count(id string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.countLocked(id)
}

func (d *diary) countLocked(id string) (n int) {
	for _, got := range d.ids {
		if got == id {
			n++
		}
	}
	return n
}

func jobs(t *testing.T, d *db.DB, name string, handle func(context.Context, string) error) *db.Jobs {
	t.Helper()
	j, err := db.NewJobs(t.Context(), d, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	j.Handle(name, handle)
	return j
}

func start(t *testing.T, j *db.Jobs) {
	t.Helper()
	if err := j.Start(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := j.Stop(ctx); err != nil {
			t.Errorf("stopping the jobs: %v", err)
		}
	})
}

func enqueue(ctx context.Context, d *db.DB, j *db.Jobs, name, id string) error {
	return d.Transact(ctx, func(ctx context.Context, tx *db.Tx) error { return j.Enqueue(ctx, tx, name, id) })
}

func TestAJobRunsOnceIfItsTransactionCommitted(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, again func() *db.DB) {
		var seen diary
		j := jobs(t, d, "shred", func(_ context.Context, id string) error { seen.write(id); return nil })
		if err := enqueue(t.Context(), d, j, "shred", "before"); err != nil {
			t.Fatal(err)
		}
		start(t, j)
		d.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			if err := j.Enqueue(ctx, tx, "shred", "rolled back"); err != nil {
				t.Error(err)
			}
			return errors.New("no")
		})
		if err := enqueue(t.Context(), d, j, "shred", "after"); err != nil {
			t.Fatal(err)
		}
		within(t, 10*time.Second, "both jobs", func() bool { return seen.count("before") > 0 && seen.count("after") > 0 })
		time.Sleep(300 * time.Millisecond) // a second run would have come by now
		if b, a, r := seen.count("before"), seen.count("after"), seen.count("rolled back"); b != 1 || a != 1 || r != 0 {
			t.Errorf("ran %d, %d and %d times; want 1, 1 and 0", b, a, r)
		}
	})
}

func TestAFailedJobIsTriedAgain(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, again func() *db.DB) {
		var seen diary
		j := jobs(t, d, "finish", func(_ context.Context, id string) error {
			if seen.write(id) == 1 {
				return errors.New("not this time")
			}
			return nil
		})
		start(t, j)
		if err := enqueue(t.Context(), d, j, "finish", "trk"); err != nil {
			t.Fatal(err)
		}
		within(t, 15*time.Second, "the second try", func() bool { return seen.count("trk") == 2 })
	})
}

// Two nodes work off the same database; a job goes to one of them. (Two
// processes never share SQLite: the folder is locked.)
func TestAJobGoesToOneNode(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, again func() *db.DB) {
		if !d.Postgres {
			t.Skip("one node only on SQLite")
		}
		var seen diary
		handle := func(_ context.Context, id string) error { seen.write(id); return nil }
		one, two := jobs(t, d, "shred", handle), jobs(t, again(), "shred", handle)
		start(t, one)
		start(t, two)
		ids := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
		for _, id := range ids {
			if err := enqueue(t.Context(), d, one, "shred", id); err != nil {
				t.Fatal(err)
			}
		}
		within(t, 10*time.Second, "all jobs", func() bool {
			for _, id := range ids {
				if seen.count(id) == 0 {
					return false
				}
			}
			return true
		})
		for _, id := range ids {
			if n := seen.count(id); n != 1 {
				t.Errorf("job %s ran %d times", id, n)
			}
		}
	})
}

func TestAJobNobodyHandlesOrInAnotherDatabaseIsRefused(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, again func() *db.DB) {
		j := jobs(t, d, "shred", func(context.Context, string) error { return nil })
		if err := enqueue(t.Context(), d, j, "shrad", "x"); err == nil {
			t.Error("a job that nobody handles was taken")
		}
		if err := enqueue(t.Context(), again(), j, "shred", "x"); err == nil {
			t.Error("a job was taken in another database's transaction")
		}
		defer func() {
			if recover() == nil {
				t.Error("two handlers for one job were taken")
			}
		}()
		j.Handle("shred", func(context.Context, string) error { return nil })
	})
}
