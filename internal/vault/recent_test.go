package vault

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
)

// fate is what the story says of destroyed keys.
type fate struct {
	revision atomic.Int64
	blind    atomic.Bool
}

func (f *fate) memory() *recent {
	return &recent{gone: func() (int64, bool) { return f.revision.Load(), !f.blind.Load() }}
}

// size is how many tracks are remembered.
func (m *recent) size() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.tracks)
}

// open puts a track and its key into the memory as a window does.
func (m *recent) open(t *testing.T, track yesline.TrackID, reads *int) *opened {
	t.Helper()
	r, err := m.row(track, func() (*row, error) {
		*reads++
		return &row{Recorded: Recorded{Track: Track{ID: track}, Finished: true}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.voice(context.Background(), r, func(context.Context) (contentKey, error) {
		*reads++
		return contentKey{key: [32]byte{1, 2, 3}, sound: true}, nil
	}); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tracks[track]
}

// A key that was opened is in memory for as long as it may be used and no
// longer: it is overwritten half a minute later, when any key was destroyed,
// when this node cannot see that, and at the end.
func TestAnOpenedKeyIsForgotten(t *testing.T) {
	t.Parallel()
	for what, story := range map[string]func(m *recent, f *fate){
		"half a minute later": func(*recent, *fate) { time.Sleep(30 * time.Second) },
		"a key was destroyed": func(_ *recent, f *fate) { f.revision.Add(1); time.Sleep(sweepEvery) },
		"a blind node":        func(_ *recent, f *fate) { f.blind.Store(true); time.Sleep(sweepEvery) },
		"the end":             func(m *recent, _ *fate) { m.close() },
		"pushed out": func(m *recent, _ *fate) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for len(m.tracks) > 0 {
				for other, e := range m.tracks {
					m.drop(other, e)
				}
			}
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			var f fate
			m, reads := f.memory(), 0
			e := m.open(t, "trk_a", &reads)
			if e == nil || e.voice == nil || e.voice.key == [32]byte{} {
				t.Fatal("the key is not remembered")
			}
			if m.open(t, "trk_a", &reads); reads != 2 {
				t.Errorf("%s: the same track was read anew", what)
			}
			story(m, &f)
			synctest.Wait()
			m.mu.Lock()
			if e.voice.key != [32]byte{} || len(m.tracks) != 0 {
				t.Errorf("%s: the key is still in memory, of %d tracks", what, len(m.tracks))
			}
			m.mu.Unlock()
			m.close()
		})
	}
}

// Before it is swept it is not used either.
func TestWhatIsOverIsReadAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var f fate
		m, reads := f.memory(), 0
		defer m.close()
		wants := func(what string, want int) {
			t.Helper()
			if m.open(t, "trk_a", &reads); reads != want {
				t.Errorf("%s: %d readings, want %d", what, reads, want)
			}
		}
		wants("first", 2)
		wants("again", 2)
		f.revision.Add(1)
		wants("after a key was destroyed", 4)
		time.Sleep(30*time.Second - time.Millisecond)
		wants("at the last moment", 4)
		time.Sleep(time.Millisecond)
		wants("half a minute later", 6)
		f.blind.Store(true)
		wants("blind", 8)
		wants("still blind", 10)
		f.blind.Store(false)
		m.close()
		wants("closed", 12)
		wants("still closed", 14)
		none := &recent{}
		none.open(t, "trk_a", &reads)
		none.open(t, "trk_a", &reads)
		if reads != 18 || none.tracks != nil {
			t.Errorf("a memory that is told nothing remembers: %d readings", reads)
		}
	})
}

// A key that is destroyed while it is being opened is not remembered, nor is
// the row of a track that changes yet, nor an error; and there is a bound.
func TestWhatIsNotRemembered(t *testing.T) {
	t.Parallel()
	var f fate
	m := f.memory()
	defer m.close()
	r, _ := m.row("trk_a", func() (*row, error) { return &row{Recorded: Recorded{Track: Track{ID: "trk_a"}, Finished: true}}, nil })
	if _, err := m.voice(t.Context(), r, func(context.Context) (contentKey, error) { f.revision.Add(1); return contentKey{}, nil }); err != nil || m.size() != 0 {
		t.Errorf("a key that was destroyed meanwhile: %d tracks, %v", m.size(), err)
	}
	if _, err := m.row("trk_b", func() (*row, error) { return &row{}, nil }); err != nil || m.size() != 0 {
		t.Errorf("an unfinished track: %d tracks, %v", m.size(), err)
	}
	if _, err := m.row("trk_b", func() (*row, error) { return nil, yesline.NotFound }); !errors.Is(err, yesline.NotFound) || m.size() != 0 {
		t.Errorf("no track: %d tracks, %v", m.size(), err)
	}
	for range recentMost + 10 {
		m.row(yesline.NewTrackID(), func() (*row, error) { return &row{Recorded: Recorded{Finished: true}}, nil })
	}
	if got := m.size(); got != recentMost {
		t.Errorf("%d tracks are remembered, at most %d", got, recentMost)
	}
}
