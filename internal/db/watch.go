package db

import (
	"context"
	"embed"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Staleness is the age at which a node's view of the watches renews nothing.
const Staleness = 3 * time.Second

// Watches keep an eye on subjects: each has a revision that Touch raises, and
// every node sees it within a second (at once in the process that touched).
// All held subjects of a database are asked in one batched query a second.
type Watches struct {
	db    *DB
	mu    sync.Mutex // guards held and their counts
	held  map[string]*watched
	end   chan struct{}
	done  chan struct{}
	start sync.Once
	ended sync.Once
	born  time.Time    // carries the monotonic clock
	seen  atomic.Int64 // nanoseconds since born, of the last successful look
}

type watched struct {
	holders  int
	revision atomic.Int64
}

// Held is somebody's hold on a subject. It is given back by Release.
type Held struct {
	w       *Watches
	subject string
	s       *watched
	once    sync.Once
}

func newWatches(d *DB) *Watches {
	w := &Watches{db: d, held: map[string]*watched{}, born: time.Now(),
		end: make(chan struct{}), done: make(chan struct{})}
	w.seen.Store(-int64(Staleness)) // nothing was seen yet
	return w
}

// Hold begins to watch subject and reads its revision now, so that what the
// caller reads afterwards is at least as new.
func (d *DB) Hold(ctx context.Context, subject string) (*Held, error) {
	w := d.watches
	w.start.Do(func() {
		w.seen.Store(int64(time.Since(w.born)))
		go w.run()
	})
	w.mu.Lock()
	s := w.held[subject]
	if s == nil {
		s = &watched{}
		w.held[subject] = s
	}
	s.holders++
	w.mu.Unlock()
	h := &Held{w: w, subject: subject, s: s}
	if err := w.look(ctx, []string{subject}); err != nil {
		h.Release()
		return nil, err
	}
	return h, nil
}

// Revision is the newest that this node has seen.
func (h *Held) Revision() int64 { return h.s.revision.Load() }

// Release ends the hold; a second call does nothing.
func (h *Held) Release() {
	h.once.Do(func() {
		h.w.mu.Lock()
		defer h.w.mu.Unlock()
		if h.s.holders--; h.s.holders == 0 {
			delete(h.w.held, h.subject)
		}
	})
}

// Fresh reports whether the watches were read within the last 3 s. What hangs
// on a watch stops when it is not. A wall clock that is set back changes nothing.
func (d *DB) Fresh() bool {
	return time.Since(d.watches.born)-time.Duration(d.watches.seen.Load()) < Staleness
}

// Touch raises the revision of subject; holders see it after the commit.
func (tx *Tx) Touch(ctx context.Context, subject string) error {
	_, err := tx.Exec(ctx, `INSERT INTO watches (subject, revision) VALUES ($1, 1)
		ON CONFLICT (subject) DO UPDATE SET revision = watches.revision + 1`, subject)
	if err != nil {
		return fmt.Errorf("touching a watch: %w", err)
	}
	w := tx.DB.watches
	tx.OnCommit(func() {
		w.mu.Lock()
		_, held := w.held[subject]
		w.mu.Unlock()
		if held {
			// At once in process: the caller returns after its own node knows.
			w.look(context.WithoutCancel(ctx), []string{subject})
		}
	})
	return nil
}

func (w *Watches) run() {
	defer close(w.done)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-w.end:
			return
		case <-tick.C:
		}
		w.mu.Lock()
		subjects := make([]string, 0, len(w.held))
		for s := range w.held {
			subjects = append(subjects, s)
		}
		w.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		began := time.Now()
		if w.look(ctx, subjects) == nil { // a failure leaves seen old, and holders stop by Fresh
			w.seen.Store(int64(began.Sub(w.born)))
		}
		cancel()
	}
}

// look reads the revisions of subjects, in batches.
func (w *Watches) look(ctx context.Context, subjects []string) error {
	for part := range slices.Chunk(subjects, MaxIn) {
		if err := w.lookAt(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

func (w *Watches) lookAt(ctx context.Context, subjects []string) error {
	args := make([]any, len(subjects))
	for i, s := range subjects {
		args[i] = s
	}
	rows, err := w.db.Query(ctx, `SELECT subject, revision FROM watches WHERE subject IN (`+In(1, len(args))+`)`, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var subject string
		var revision int64
		if err := rows.Scan(&subject, &revision); err != nil {
			return err
		}
		w.mu.Lock()
		if s := w.held[subject]; s != nil && s.revision.Load() < revision {
			s.revision.Store(revision)
		}
		w.mu.Unlock()
	}
	return rows.Err()
}

func (w *Watches) stop() {
	w.start.Do(func() { close(w.done) }) // it never ran
	w.ended.Do(func() { close(w.end) })
	<-w.done
}
