package db_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"yesline/internal/db"
	"yesline/internal/db/dbtest"
)

// reader counts how often a thing was really read.
type reader struct {
	*db.Kept[int]
	reads int
	fails error
}

func (s *reader) get(t *testing.T, key string) int {
	t.Helper()
	v, err := s.Get(context.Background(), key, "things/"+key, func(context.Context) (int, error) {
		s.reads++
		return s.reads, s.fails
	})
	if !errors.Is(err, s.fails) {
		t.Fatalf("reading %s: got %v, want %v", key, err, s.fails)
	}
	return v
}

// reads wants that after something it was read so many times in all.
func (s *reader) wants(t *testing.T, what string, reads int) {
	t.Helper()
	if s.reads != reads {
		t.Errorf("%s: read %d times, want %d", what, s.reads, reads)
	}
}

// What is kept goes at once where it is changed, and within a second on every
// other node; what did not change stays.
func TestWhatIsKeptHangsOnItsWatch(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		one, two := open("content"), open("content")
		near, far := &reader{Kept: db.Keep[int](one, 10)}, &reader{Kept: db.Keep[int](two, 10)}
		for range 3 {
			near.get(t, "a")
			near.get(t, "b")
			far.get(t, "a")
		}
		near.wants(t, "nothing moved", 2)
		far.wants(t, "nothing moved", 1)
		touch(t, one, "things/a")
		if near.get(t, "a") != 3 {
			t.Error("an old value in the process that changed it")
		}
		near.get(t, "b")
		near.wants(t, "one moved", 3)
		for began := time.Now(); far.get(t, "a") == 1; time.Sleep(10 * time.Millisecond) {
			if took := time.Since(began); took > 1900*time.Millisecond { // a second, and a loaded machine
				t.Fatalf("another node has the old value after %v", took)
			}
		}
		near.Close()
		near.get(t, "b")
		near.wants(t, "forgotten by Close", 4)
	})
}

// It is read again after a minute, an error is not kept, and a node that sees
// no changes keeps nothing.
func TestHowLongItIsKept(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		content, err := db.Open(t.Context(), "content", "sqlite:"+folder+"/content.db")
		if err != nil {
			t.Fatal(err)
		}
		s := &reader{Kept: db.Keep[int](content, 10)}
		s.fails = errors.New("no")
		s.get(t, "a")
		s.get(t, "a")
		s.fails = nil
		s.get(t, "a")
		time.Sleep(time.Minute - time.Millisecond)
		s.get(t, "a")
		s.wants(t, "two errors and a minute", 3)
		time.Sleep(time.Millisecond)
		s.get(t, "a")
		s.wants(t, "after a minute", 4)
		content.Close()
		s.get(t, "a")
		s.wants(t, "on the last news", 4)
		time.Sleep(db.Staleness)
		s.get(t, "a")
		s.get(t, "a")
		s.wants(t, "without news", 6)
	})
}

// It keeps no more than it may, and the newest.
func TestKeptIsBounded(t *testing.T) {
	t.Parallel()
	s := &reader{Kept: db.Keep[int](dbtest.SQLite(t)("content"), 10)}
	for i := range 200 {
		s.get(t, fmt.Sprint(i))
		s.get(t, fmt.Sprint(i))
		s.wants(t, "the newest is kept", i+1)
	}
	for i := range 200 {
		s.get(t, fmt.Sprint(i))
	}
	if s.reads < 200+180 {
		t.Errorf("%d of 200 were still there; 10 may be", 400-s.reads)
	}
}
