package vault

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
)

// memoryOf is a recent whose keys are destroyed, and seen, by the story.
func memoryOf(revision *int64, seen *bool) *recent {
	return &recent{gone: func() (int64, bool) { return *revision, *seen }}
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
	return m.tracks[track]
}

// A key that was opened is in memory for as long as it may be used and no
// longer: it is overwritten half a minute later, when any key was destroyed,
// when this node cannot see that, and at the end.
func TestAnOpenedKeyIsForgotten(t *testing.T) {
	t.Parallel()
	for what, story := range map[string]func(m *recent, revision *int64, seen *bool){
		"half a minute later": func(*recent, *int64, *bool) { time.Sleep(recentLife) },
		"a key was destroyed": func(_ *recent, revision *int64, _ *bool) { *revision++; time.Sleep(sweepEvery) },
		"a blind node":        func(_ *recent, _ *int64, seen *bool) { *seen = false; time.Sleep(sweepEvery) },
		"the end":             func(m *recent, _ *int64, _ *bool) { m.close() },
		"pushed out": func(m *recent, _ *int64, _ *bool) {
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
			revision, seen, reads := int64(1), true, 0
			m := memoryOf(&revision, &seen)
			e := m.open(t, "trk_a", &reads)
			if e == nil || e.voice == nil || e.voice.key == [32]byte{} {
				t.Fatal("the key is not remembered")
			}
			if m.open(t, "trk_a", &reads); reads != 2 {
				t.Errorf("%s: the same track was read anew", what)
			}
			story(m, &revision, &seen)
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
		revision, seen, reads := int64(1), true, 0
		m := memoryOf(&revision, &seen)
		defer m.close()
		wants := func(what string, want int) {
			t.Helper()
			if m.open(t, "trk_a", &reads); reads != want {
				t.Errorf("%s: %d readings, want %d", what, reads, want)
			}
		}
		wants("first", 2)
		wants("again", 2)
		revision++
		wants("after a key was destroyed", 4)
		time.Sleep(recentLife - time.Millisecond)
		wants("at the last moment", 4)
		time.Sleep(time.Millisecond)
		wants("half a minute later", 6)
		seen = false
		wants("blind", 8)
		wants("still blind", 10)
		seen = true
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
	revision, seen := int64(1), true
	m := memoryOf(&revision, &seen)
	defer m.close()
	r, _ := m.row("trk_a", func() (*row, error) { return &row{Recorded: Recorded{Track: Track{ID: "trk_a"}, Finished: true}}, nil })
	if _, err := m.voice(t.Context(), r, func(context.Context) (contentKey, error) { revision++; return contentKey{}, nil }); err != nil || len(m.tracks) != 0 {
		t.Errorf("a key that was destroyed meanwhile: %d tracks, %v", len(m.tracks), err)
	}
	if _, err := m.row("trk_b", func() (*row, error) { return &row{}, nil }); err != nil || len(m.tracks) != 0 {
		t.Errorf("an unfinished track: %d tracks, %v", len(m.tracks), err)
	}
	if _, err := m.row("trk_b", func() (*row, error) { return nil, yesline.NotFound }); !errors.Is(err, yesline.NotFound) || len(m.tracks) != 0 {
		t.Errorf("no track: %d tracks, %v", len(m.tracks), err)
	}
	for range recentMost + 10 {
		m.row(yesline.NewTrackID(), func() (*row, error) { return &row{Recorded: Recorded{Finished: true}}, nil })
	}
	if len(m.tracks) != recentMost {
		t.Errorf("%d tracks are remembered, at most %d", len(m.tracks), recentMost)
	}
}
