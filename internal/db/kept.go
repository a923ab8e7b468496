package db

import (
	"context"
	"sync"
	"time"
)

// keptLife is how long something is kept though its watch stands still.
const keptLife = time.Minute

// Kept keeps what was read of things for as long as their watches stand still:
// it is never older than a second, and not a moment in the process that
// changed it. A node whose watches are not Fresh reads each time.
type Kept[V any] struct {
	db   *DB
	most int

	mu  sync.Mutex // guards all
	all map[string]*kept[V]
}

type kept[V any] struct {
	held     *Held
	revision int64 // of the watch, from before the reading
	until    time.Time
	value    V
}

// Keep makes a Kept of at most so many things, each of which is one subject
// more in the query that this node asks every second. Values are shared: who
// gets one does not change it.
func Keep[V any](d *DB, most int) *Kept[V] {
	return &Kept[V]{db: d, most: most, all: map[string]*kept[V]{}}
}

// Get gives what read gave for key while the watch of subject stood still, or
// what it gives now. Whoever changes what is read touches the subject in the
// same transaction. An error is not kept.
func (k *Kept[V]) Get(ctx context.Context, key, subject string, read func(context.Context) (V, error)) (V, error) {
	if v, ok := k.find(key); ok && k.db.Fresh() {
		return v, nil
	}
	held, err := k.db.Hold(ctx, subject)
	if err != nil {
		return read(ctx)
	}
	revision := held.Revision() // before reading, so that what is read is at least as new
	v, err := read(ctx)
	if err != nil {
		held.Release()
		return v, err
	}
	k.put(key, &kept[V]{held, revision, time.Now().Add(keptLife), v})
	return v, nil
}

func (k *Kept[V]) find(key string) (v V, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.all[key]
	if e == nil || !e.good() {
		return v, false
	}
	return e.value, true
}

func (e *kept[V]) good() bool {
	return e.held.Revision() == e.revision && time.Now().Before(e.until)
}

// put also looks at a few others, so that what nobody asks for again does not
// stay for long, and makes room.
func (k *Kept[V]) put(key string, e *kept[V]) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if old := k.all[key]; old != nil {
		old.held.Release()
		delete(k.all, key)
	}
	looked := 0
	for name, other := range k.all { // in random order
		if len(k.all) >= k.most || !other.good() {
			other.held.Release()
			delete(k.all, name)
		}
		if looked++; looked == 4 {
			break
		}
	}
	k.all[key] = e
}

// Close forgets all.
func (k *Kept[V]) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.all {
		e.held.Release()
	}
	clear(k.all)
}
