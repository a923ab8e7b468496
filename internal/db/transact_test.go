package db_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"yesline"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
)

// shelf is the room of these tests: named things with a count.
var shelf = fstest.MapFS{"migrations/00001_things.sql": {Data: []byte(`-- +goose Up
CREATE TABLE things (name TEXT PRIMARY KEY, count BIGINT NOT NULL);
`)}}

// each gives a test one database with the shelf in it, on SQLite and on
// PostgreSQL at once, and a way to open it a second time.
func each(t *testing.T, test func(t *testing.T, d *db.DB, again func() *db.DB)) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		t.Parallel()
		d := open("content")
		if err := d.Migrate(t.Context(), "shelf", shelf); err != nil {
			t.Fatal(err)
		}
		test(t, d, func() *db.DB { return open("content") })
	})
}

func put(ctx context.Context, tx *db.Tx, name string, count int64) error {
	_, err := tx.Exec(ctx, `INSERT INTO things (name, count) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET count = excluded.count`, name, count)
	return err
}

// counted is the count of a thing, or -1 when there is none.
func counted(t *testing.T, d *db.DB, name string) int64 {
	t.Helper()
	var n int64
	err := d.QueryRow(t.Context(), `SELECT count FROM things WHERE name = $1`, name).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return -1
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWhatIsCommittedStaysAndWhatFailsLeavesNothing(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, again func() *db.DB) {
		ctx := t.Context()
		if err := d.Transact(ctx, func(ctx context.Context, tx *db.Tx) error { return put(ctx, tx, "kept", 7) }); err != nil {
			t.Fatal(err)
		}
		oops := errors.New("oops")
		err := d.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
			if err := put(ctx, tx, "lost", 1); err != nil {
				return err
			}
			return oops
		})
		if !errors.Is(err, oops) {
			t.Errorf("the error of the body came back as %v", err)
		}
		func() {
			defer func() { recover() }()
			d.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
				put(ctx, tx, "panicked", 1)
				panic("in the body")
			})
		}()
		ctx, cancel := context.WithCancel(ctx)
		err = d.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
			defer cancel()
			return put(ctx, tx, "cancelled", 1)
		})
		if err == nil {
			t.Error("a transaction whose context ended before the commit was committed")
		}
		for name, want := range map[string]int64{"kept": 7, "lost": -1, "panicked": -1, "cancelled": -1} {
			if got := counted(t, again(), name); got != want {
				t.Errorf("%s: got %d, want %d", name, got, want)
			}
		}
	})
}

// Read, add, write: every addition must count, whatever the writers do to one
// another. Three writers of three additions lose at most six times each, fewer
// than Transact tries.
func TestWritersDoNotLoseEachOthersWork(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, again func() *db.DB) {
		if err := d.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error { return put(ctx, tx, "sum", 0) }); err != nil {
			t.Fatal(err)
		}
		var writers sync.WaitGroup
		for range 3 {
			own := again()
			writers.Go(func() {
				for range 3 {
					err := own.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
						var n int64
						if err := tx.QueryRow(ctx, `SELECT count FROM things WHERE name = $1`, "sum").Scan(&n); err != nil {
							return err
						}
						return put(ctx, tx, "sum", n+1)
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		writers.Wait()
		if got := counted(t, d, "sum"); got != 9 {
			t.Errorf("nine additions made %d", got)
		}
	})
}

// Somebody else commits between our read and our write: the body runs again
// and sees it, and what the failed try asked for on commit is forgotten.
func TestAConflictRunsTheBodyAgain(t *testing.T) {
	t.Parallel()
	open := dbtest.Postgres(t) // SQLite has one writer at a time: nothing can come between
	d, other := open("content"), open("content")
	if err := d.Migrate(t.Context(), "shelf", shelf); err != nil {
		t.Fatal(err)
	}
	set := func(d *db.DB, count int64) error {
		return d.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error { return put(ctx, tx, "sum", count) })
	}
	if err := set(d, 1); err != nil {
		t.Fatal(err)
	}
	tries, told := 0, 0
	err := d.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		tries++
		tx.OnCommit(func() { told++ })
		var n int64
		if err := tx.QueryRow(ctx, `SELECT count FROM things WHERE name = $1`, "sum").Scan(&n); err != nil {
			return err
		}
		if tries == 1 {
			if err := set(other, 10); err != nil {
				return err
			}
		}
		return put(ctx, tx, "sum", n+1)
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := counted(t, d, "sum"); tries != 2 || got != 11 || told != 1 {
		t.Errorf("%d tries, count %d, told %d times; want 2, 11, 1", tries, got, told)
	}
}

func TestABodyThatAlwaysConflictsIsNotTriedForever(t *testing.T) {
	t.Parallel()
	open := dbtest.Postgres(t)
	d, other := open("content"), open("content")
	if err := d.Migrate(t.Context(), "shelf", shelf); err != nil {
		t.Fatal(err)
	}
	tries := 0
	err := d.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		tries++
		var n int64
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM things`).Scan(&n); err != nil {
			return err
		}
		if err := other.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error { return put(ctx, tx, "sum", n) }); err != nil {
			return err
		}
		return put(ctx, tx, "sum", n)
	})
	if !errors.Is(err, yesline.Conflict) || tries != 8 {
		t.Errorf("%d tries and error %v; want 8 and yesline.Conflict", tries, err)
	}
}

// Read committed sees what others commit meanwhile; serializable does not.
func TestOnlyTheSequencersTransactionSeesWhatOthersCommitMeanwhile(t *testing.T) {
	t.Parallel()
	open := dbtest.Postgres(t)
	d, other := open("content"), open("content")
	if err := d.Migrate(t.Context(), "shelf", shelf); err != nil {
		t.Fatal(err)
	}
	// seen counts the things before and after somebody else adds one.
	seen := func(name string, transact func(context.Context, func(context.Context, *db.Tx) error) error) (before, after int64) {
		t.Helper()
		err := transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			if err := tx.QueryRow(ctx, `SELECT count(*) FROM things`).Scan(&before); err != nil {
				return err
			}
			if err := other.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error { return put(ctx, tx, name, 1) }); err != nil {
				return err
			}
			return tx.QueryRow(ctx, `SELECT count(*) FROM things`).Scan(&after)
		})
		if err != nil {
			t.Fatal(err)
		}
		return before, after
	}
	if before, after := seen("a", d.Transact); after != before {
		t.Errorf("Transact saw %d things, then %d", before, after)
	}
	if before, after := seen("b", d.TransactReadCommitted); after != before+1 {
		t.Errorf("TransactReadCommitted saw %d things, then %d", before, after)
	}
}

func TestOnCommitRunsAfterTheCommitOnly(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, again func() *db.DB) {
		var seen int64 = -2
		err := d.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			tx.OnCommit(func() { seen = counted(t, d, "thing") })
			return put(ctx, tx, "thing", 5)
		})
		if err != nil || seen != 5 {
			t.Errorf("OnCommit saw %d, want 5 (%v)", seen, err)
		}
		d.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			tx.OnCommit(func() { t.Error("OnCommit ran after a rollback") })
			return errors.New("no")
		})
	})
}

func TestTransactionsDoNotNest(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, again func() *db.DB) {
		if db.Inside(t.Context()) {
			t.Error("inside a transaction before there was one")
		}
		ran := false
		outer, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		err := d.Transact(outer, func(ctx context.Context, tx *db.Tx) error {
			if !db.Inside(ctx) {
				t.Error("not inside in the body of Transact")
			}
			return d.Transact(ctx, func(context.Context, *db.Tx) error { ran = true; return nil })
		})
		if err == nil || ran || outer.Err() != nil {
			t.Errorf("a transaction inside a transaction: ran %v, error %v", ran, err)
		}
	})
}

// Other drivers bind by order of appearance, silently: this is why modernc's
// was chosen.
func TestPlaceholdersAreOrdinals(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, again func() *db.DB) {
		err := d.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO things (count, name) VALUES ($2, $1)`, "six", 6)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		var name string
		var count int64
		err = d.QueryRow(t.Context(), `SELECT name, count FROM things WHERE count = $2 AND name = $1 AND $2 > 0`, "six", 6).Scan(&name, &count)
		if err != nil || name != "six" || count != 6 {
			t.Errorf("got %q %d (%v), want six 6", name, count, err)
		}
	})
}

func TestInIsBounded(t *testing.T) {
	t.Parallel()
	if got := db.In(3, 2); got != "$3, $4" {
		t.Errorf("In(3, 2) = %q", got)
	}
	if n := strings.Count(db.In(1, db.MaxIn), "$"); n != 500 {
		t.Errorf("In(1, MaxIn) has %d placeholders", n)
	}
	for _, n := range []int{-1, 0, 501} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("In(1, %d) did not panic", n)
				}
			}()
			db.In(1, n)
		}()
	}
}

func TestAMomentSurvivesStorage(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 5, 4, 3, 2, 1, 987_000_000, time.FixedZone("", 3600))
	if got := db.Time(db.Millis(at)); !got.Equal(at) || got.Location() != time.UTC {
		t.Errorf("got %v, want %v in UTC", got, at)
	}
}

func TestRoomsMigrateWithoutAskingOneAnother(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, again func() *db.DB) {
		if err := d.Migrate(t.Context(), "shelf", shelf); err != nil {
			t.Errorf("migrating again: %v", err)
		}
		other := fstest.MapFS{"migrations/00001_others.sql": {Data: []byte("-- +goose Up\nCREATE TABLE others (name TEXT PRIMARY KEY);\n")}}
		if err := d.Migrate(t.Context(), "other", other); err != nil {
			t.Errorf("another room's first version: %v", err)
		}
		wrong := fstest.MapFS{"migrations/00001_wrong.sql": {Data: []byte("-- +goose Up\nCREATE TABEL wrong;\n")}}
		if err := d.Migrate(t.Context(), "wrong", wrong); err == nil || !strings.Contains(err.Error(), "migrating wrong in the content database") {
			t.Errorf("a wrong migration: %v", err)
		}
	})
}

func TestAddressesAreCheckedAndNotRepeated(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"", "mysql://ann:opensesame@somewhere/x", "postgres://ann:opensesame@127.0.0.1:1/x?connect_timeout=1",
		"postgres://ann:opensesame@:::/x", "postgres://ann:opensesame@127.0.0.1:1/x?sslmode=opensesame",
		"sqlite:" + t.TempDir() + "/opensesame?mode=memory", "sqlite:/no/such/folder/opensesame.db",
	} {
		d, err := db.Open(t.Context(), "keys", address)
		if err == nil {
			d.Close()
			t.Errorf("address %q was opened", address)
			continue
		}
		if strings.Contains(err.Error(), "opensesame") && strings.Contains(address, "ann:") {
			t.Errorf("the error repeats the password: %v", err)
		}
		if strings.Contains(address, "@127.0.0.1:1/x?connect") && !errors.Is(err, yesline.Unavailable) {
			t.Errorf("a database that does not answer gave %v, want yesline.Unavailable", err)
		}
		if !strings.Contains(err.Error(), "keys database") {
			t.Errorf("the error does not name the database: %v", err)
		}
	}
}

// The readers of SQLite cannot write, so a write outside Transact is found on
// a laptop, before PostgreSQL would let it pass.
func TestReadsCannotWriteOnSQLite(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)("content")
	if err := d.Migrate(t.Context(), "shelf", shelf); err != nil {
		t.Fatal(err)
	}
	var name string
	if err := d.QueryRow(t.Context(), `INSERT INTO things (name, count) VALUES ('x', 1) RETURNING name`).Scan(&name); err == nil {
		t.Error("a read wrote a row")
	}
}

func TestTheSameRowTwiceIsAConflict(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, again func() *db.DB) {
		insert := func() error {
			return d.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				_, err := tx.Exec(ctx, `INSERT INTO things (name, count) VALUES ($1, $2)`, "once", 1)
				return err
			})
		}
		if err := insert(); err != nil {
			t.Fatal(err)
		}
		if err := insert(); !errors.Is(err, yesline.Conflict) {
			t.Errorf("the second insert gave %v, want yesline.Conflict", err)
		}
	})
}

func TestALockedDatabaseIsNotAvailable(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/content.db"
	d, err := db.Open(t.Context(), "content", "sqlite:"+file)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Migrate(t.Context(), "shelf", shelf); err != nil {
		t.Fatal(err)
	}
	stranger, err := sql.Open("sqlite", "file:"+file+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	lock, err := stranger.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Rollback()

	// The driver waits 5 s for the lock; after that the caller is told, not made
	// to wait again.
	ctx, cancel := context.WithTimeout(t.Context(), 9*time.Second)
	defer cancel()
	began := time.Now()
	err = d.Transact(ctx, func(ctx context.Context, tx *db.Tx) error { return put(ctx, tx, "thing", 1) })
	if !errors.Is(err, yesline.Unavailable) || !strings.Contains(fmt.Sprint(err), "content database") {
		t.Errorf("writing to a locked database: %v (after %v)", err, time.Since(began))
	}
	if counted(t, d, "thing") != -1 {
		t.Error("reads should go on beside a lock, and see nothing new")
	}
	lock.Rollback()
	if err := d.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error { return put(ctx, tx, "thing", 1) }); err != nil {
		t.Errorf("after the lock: %v", err)
	}
}
