package vault

import (
	"context"
	"sync"
	"time"

	"yesline"
)

const (
	recentLife = 30 * time.Second // how long what was opened is remembered
	recentMost = 2048             // tracks
	sweepEvery = time.Second
)

// recent remembers which tracks were opened a moment ago: their rows, and the
// content keys of their voices, so that the windows of one listening need no
// look-up. It forgets all as soon as any key is destroyed, here or on another
// node, and nothing is remembered while this node cannot see that. A key that
// is forgotten is overwritten.
type recent struct {
	gone func() (revision int64, seen bool) // nil remembers nothing

	mu     sync.Mutex // guards all below, and the keys in tracks
	tracks map[yesline.TrackID]*opened
	sweeps *time.Timer // runs while tracks holds something
	closed bool
}

// opened is a finished track. The row is shared and not changed.
type opened struct {
	row      *row
	voice    *contentKey // nil until its voice was opened
	revision int64       // of destroyed keys, from before the reading
	until    time.Time
}

// row gives the row of a track from memory, or by read.
func (m *recent) row(track yesline.TrackID, read func() (*row, error)) (*row, error) {
	if m.gone == nil {
		return read()
	}
	m.mu.Lock()
	if e := m.good(track); e != nil {
		defer m.mu.Unlock()
		return e.row, nil
	}
	m.mu.Unlock()
	revision, seen := m.gone() // before reading
	r, err := read()
	if err != nil || !seen || !r.Finished {
		return r, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(track, &opened{row: r, revision: revision, until: time.Now().Add(recentLife)})
	return r, nil
}

// voice gives the seal of a track's voice: of the key in memory, or of the one
// that open makes, which is remembered if the row still is.
func (m *recent) voice(ctx context.Context, r *row, open func(context.Context) (contentKey, error)) (*seal, error) {
	if m.gone == nil {
		return sealOf(ctx, open)
	}
	m.mu.Lock()
	if e := m.good(r.ID); e != nil && e.row == r && e.voice != nil {
		defer m.mu.Unlock()
		return e.voice.seal()
	}
	m.mu.Unlock()
	revision, seen := m.gone() // before opening
	key, err := open(ctx)
	if err != nil {
		return nil, err
	}
	defer key.forget()
	m.mu.Lock()
	if e := m.good(r.ID); e != nil && e.row == r && e.voice == nil && seen && e.revision == revision {
		kept := key
		e.voice = &kept
	}
	m.mu.Unlock()
	return key.seal()
}

func sealOf(ctx context.Context, open func(context.Context) (contentKey, error)) (*seal, error) {
	key, err := open(ctx)
	if err != nil {
		return nil, err
	}
	defer key.forget()
	return key.seal()
}

// good gives what may be used of a track now. mu is held.
func (m *recent) good(track yesline.TrackID) *opened {
	e := m.tracks[track]
	if e == nil {
		return nil
	}
	if revision, seen := m.gone(); !seen || revision != e.revision || !time.Now().Before(e.until) {
		m.drop(track, e)
		return nil
	}
	return e
}

// put remembers a track, in the place of any other when there are many. mu is
// held.
func (m *recent) put(track yesline.TrackID, e *opened) {
	if m.closed {
		return
	}
	if old := m.tracks[track]; old != nil {
		m.drop(track, old)
	}
	for other, its := range m.tracks {
		if len(m.tracks) < recentMost {
			break
		}
		m.drop(other, its)
	}
	if m.tracks == nil {
		m.tracks = map[yesline.TrackID]*opened{}
	}
	m.tracks[track] = e
	if m.sweeps == nil {
		m.sweeps = time.AfterFunc(sweepEvery, m.sweep)
	}
}

// drop forgets a track. mu is held.
func (m *recent) drop(track yesline.TrackID, e *opened) {
	if e.voice != nil {
		e.voice.forget()
	}
	delete(m.tracks, track)
}

// sweep forgets what is over, so that no key waits in memory for somebody to
// ask for it, and comes again while there is anything left.
func (m *recent) sweep() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for track := range m.tracks {
		m.good(track)
	}
	if len(m.tracks) == 0 {
		m.sweeps = nil
		return
	}
	m.sweeps.Reset(sweepEvery)
}

// close forgets all, for good.
func (m *recent) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for track, e := range m.tracks {
		m.drop(track, e)
	}
	if m.sweeps != nil {
		m.sweeps.Stop()
		m.sweeps = nil
	}
}
