package vault_test

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audio"
	"yesline/internal/audit"
	"yesline/internal/consent"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
	"yesline/internal/keys"
	"yesline/internal/vault"
	"yesline/internal/vault/vaulttest"
)

// A start looks at what a crash left open, however much was finished before.
func TestAHouseWithManyTracksStarts(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		w := newWorld(t, open, &vaulttest.Memory{})
		done, left := w.record(t, w.ann, 0), w.track(w.bob)
		w.begin(t, left)
		ok(t, w.Content.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			for range db.MaxIn {
				if _, err := tx.Exec(ctx, `INSERT INTO vault_tracks (id, program, call, leg, person, codec, state, floor, sealed, seconds, problem,
					ref_db, ref_leaf, gone_db, gone_leaf, created, closed, finished)
					SELECT CAST($1 AS TEXT), program, call, leg, person, codec, state, floor, sealed, seconds, problem,
					ref_db, ref_leaf, gone_db, gone_leaf, created, closed, finished FROM vault_tracks WHERE id = $2`,
					string(yesline.NewTrackID()), string(done.ID)); err != nil {
					return err
				}
			}
			return nil
		}))
		before := w.state(t, done.ID)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		ok(t, w.opener.Recover(ctx))
		if got := w.state(t, left.ID).State; got != vault.Recovered {
			t.Errorf("what a crash left open is %s", got)
		}
		if w.state(t, done.ID) != before {
			t.Error("a finished track was touched")
		}
	})
}

// meddled keys do something of the story's once a track's key was opened, or
// wrapped anew.
type meddled struct {
	*keys.Keys
	then func()
}

func (m meddled) OpenTrack(ctx context.Context, program yesline.ProgramID, person yesline.PersonID, track yesline.TrackID) (keys.Data, error) {
	defer m.then()
	return m.Keys.OpenTrack(ctx, program, person, track)
}

func (m meddled) CloseTrack(ctx context.Context, program yesline.ProgramID, person yesline.PersonID, track yesline.TrackID) error {
	defer m.then()
	return m.Keys.CloseTrack(ctx, program, person, track)
}

// A voice that is destroyed while somebody works on it is worked on no more:
// nothing is derived from it, no object of it is written, no job follows.
func TestAVoiceThatIsDestroyedMeanwhile(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		m := &vaulttest.Memory{}
		w := newWorld(t, open, m)
		ctx := t.Context()
		shred := func() { ok(t, w.shredder.Shred(ctx, w.call, w.ann)) }

		track := w.record(t, w.ann, 0)
		grant := must[consent.Grant](t)(w.consent.Kept(ctx, w.call, w.ann))
		o := w.newOpener()
		o.Blobs, o.Keys = counted{m, t}, meddled{w.Keys, shred}
		refused(t, o.SealRendition(ctx, grant, track.ID, vault.Peaks, []byte("peaks")), yesline.NotFound)
		if left := m.Names(); len(left) != 0 {
			t.Errorf("%d objects are left", len(left))
		}

		w.newCall(t)
		late := w.track(w.ann)
		writer := w.begin(t, late)
		w.speak(t, writer, late, 0)
		ok(t, writer.End(ctx))
		o = w.newOpener()
		closed := false
		o.Keys = meddled{w.Keys, func() {
			if closed = w.state(t, late.ID).Finished; closed {
				shred()
			}
		}}
		ok(t, o.Finish(ctx, late.ID))
		var followed int64
		ok(t, w.Content.QueryRow(ctx, `SELECT finished FROM vault_tracks WHERE id = $1`, string(late.ID)).Scan(&followed))
		if !closed || followed != 0 || w.state(t, late.ID).State != vault.Destroyed {
			t.Error("what follows a finished track was set off for a destroyed one")
		}
	})
}

// counted blobs are to be read and deleted, and not written.
type counted struct {
	vault.Blobs
	t *testing.T
}

func (c counted) WriteAt(ctx context.Context, name string, p []byte, off int64) error {
	c.t.Errorf("an object of a destroyed track is written")
	return c.Blobs.WriteAt(ctx, name, p, off)
}

// A drawing that a crash cut off hinders nobody: it is not read, and the next
// one is drawn and read.
func TestADrawingThatWasCutOffIsDrawnAgain(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		w := newWorld(t, open, &vaulttest.Memory{})
		ctx := t.Context()
		track := w.track(w.ann)
		writer := w.begin(t, track)
		w.speak(t, writer, track, 0)
		grant := must[consent.Grant](t)(w.consent.Kept(ctx, w.call, w.ann))
		refused(t, w.opener.SealRendition(ctx, grant, track.ID, vault.Peaks, []byte("peaks")), yesline.Unavailable)
		ok(t, writer.End(ctx))
		refused(t, w.opener.SealRendition(ctx, grant, track.ID, vault.Peaks, []byte("peaks")), yesline.Unavailable)
		ok(t, w.opener.Finish(ctx, track.ID))
		w.exec(t, `INSERT INTO vault_renditions (object, track, rendition, state, ref_db, ref_leaf, created) VALUES ($1, $2, 'peaks', 'open', '', '', 0)`,
			string(track.ID)+".aaaa", string(track.ID))
		p := w.permit(t, w.signIn(t, w.ann), access.Listen, track.ID)
		_, err := w.opener.ReadRendition(ctx, p, track.ID, vault.Peaks)
		refused(t, err, yesline.NotFound)
		ok(t, w.opener.SealRendition(ctx, grant, track.ID, vault.Peaks, []byte("peaks")))
		reads := func() {
			t.Helper()
			if got, err := w.opener.ReadRendition(ctx, p, track.ID, vault.Peaks); err != nil || string(got) != "peaks" {
				t.Errorf("the waveform is %q, %v", got, err)
			}
		}
		reads()

		// The commit went through and its answer was lost: it is the track's.
		var object string
		ok(t, w.Content.QueryRow(ctx, `SELECT object FROM vault_renditions WHERE track = $1 AND state = 'closed'`, string(track.ID)).Scan(&object))
		ok(t, w.opener.DropRendition(ctx, object))
		w.opener = w.newOpener() // nothing cached
		reads()
	})
}

// intruded blobs do something of the story's before the first is deleted.
type intruded struct {
	vault.Blobs
	before func()
}

func (i *intruded) Delete(ctx context.Context, name string) error {
	if f := i.before; f != nil {
		i.before = nil
		f()
	}
	return i.Blobs.Delete(ctx, name)
}

// What appears while a voice is being shredded is not left behind: shredding
// fails, and the next time takes it too.
func TestWhatAppearsWhileShredding(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		m := &vaulttest.Memory{}
		w := newWorld(t, open, m)
		ctx := t.Context()
		for what, appear := range map[string]func(track string){
			"a waveform": func(track string) {
				w.exec(t, `INSERT INTO vault_renditions (object, track, rendition, state, ref_db, ref_leaf, created) VALUES ($1, $2, 'peaks', 'open', '', '', 0)`, track+".aaaa", track)
			},
			"the drawing's end": func(track string) {
				w.exec(t, `UPDATE vault_renditions SET state = 'closed' WHERE track = $1`, track)
			},
			"the track's end": func(track string) {
				w.exec(t, `UPDATE vault_tracks SET ref_db = 'content', ref_leaf = 'ent_x' WHERE id = $1`, track)
			},
		} {
			w.newCall(t)
			track := w.track(w.ann)
			writer := w.begin(t, track)
			w.speak(t, writer, track, 0)
			ok(t, writer.End(ctx))
			if what == "the drawing's end" {
				w.exec(t, `INSERT INTO vault_renditions (object, track, rendition, state, ref_db, ref_leaf, created) VALUES ($1, $2, 'peaks', 'open', '', '', 0)`, string(track.ID)+".aaaa", string(track.ID))
			}
			w.shredder.Blobs = &intruded{m, func() {
				appear(string(track.ID))
				ok(t, m.WriteAt(ctx, string(track.ID)+".aaaa", []byte("sealed"), 0))
				ok(t, m.WriteAt(ctx, string(track.ID)+".leaves", []byte("leaves"), 0))
			}}
			if err := w.shredder.Shred(ctx, w.call, w.ann); !errors.Is(err, yesline.Conflict) {
				t.Errorf("%s appeared: got %v, want a conflict", what, err)
			}
			if what == "the track's end" {
				ok(t, m.Delete(ctx, string(track.ID)+".aaaa")) // of no row
			}
			ok(t, w.shredder.Shred(ctx, w.call, w.ann))
			if left := m.Names(); len(left) != 0 {
				t.Errorf("%s appeared: %d objects are left", what, len(left))
			}
		}
	})
}

// Whoever is forgotten is taken out of their own rows.
func TestForgettingIsOfOnePerson(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		w := newWorld(t, open, &vaulttest.Memory{})
		ann, bob := w.record(t, w.ann, 0), w.record(t, w.bob, 0)
		ok(t, w.shredder.Shred(t.Context(), w.call, w.ann))
		ok(t, w.shredder.Shred(t.Context(), w.call, w.bob))
		ok(t, w.register.Forget(t.Context(), w.ann))
		if got := w.state(t, ann.ID).Person; got != "" {
			t.Errorf("the register still names %s", got)
		}
		if got := w.state(t, bob.ID).Person; got != w.bob {
			t.Errorf("with ann bob was forgotten: %q", got)
		}
	})
}

// A track that is destroyed while it is being written ends there, though nobody
// ends it, and what was written since goes too.
func TestATrackThatIsDestroyedIsWrittenNoMore(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		m := &vaulttest.Memory{}
		w := newWorld(t, open, m)
		ctx := t.Context()
		track := w.track(w.ann)
		writer := w.begin(t, track)
		w.speak(t, writer, track, 0)
		w.settle(t, track, 1)
		ok(t, w.shredder.Shred(ctx, w.call, w.ann))
		w.speak(t, writer, track, 1) // the news has not come yet
		var err error
		for n := int64(2); n < 200 && err == nil; n++ {
			time.Sleep(20 * time.Millisecond)
			ok(t, w.sealer.CommitFloors(ctx))
			err = writer.Put(w.grant(t, w.ann), n, sound(track.ID, n))
		}
		refused(t, err, yesline.Denied)
		if left := m.Names(); len(left) != 0 {
			t.Errorf("%d objects are left", len(left))
		}
	})
}

// stuck blobs are those of a disk that stands still when something is deleted.
type stuck struct {
	vault.Blobs
	still atomic.Bool
}

func (s *stuck) Delete(ctx context.Context, name string) error {
	if s.still.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.Blobs.Delete(ctx, name)
}

// Floors are committed every ten seconds, which takes five at most: a house
// that closes does not wait longer for what stands still.
func TestFloorsAreCommittedByThemselves(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		blobs := &stuck{Blobs: &vaulttest.Memory{}}
		w := newWorld(t, func(name string) *db.DB {
			d := must[*db.DB](t)(db.Open(context.Background(), name, "sqlite:"+filepath.Join(folder, name+".db")))
			t.Cleanup(func() { d.Close() })
			return d
		}, blobs)
		ctx := context.Background()
		track := w.track(w.ann)
		writer := w.begin(t, track)
		w.speak(t, writer, track, upTo(3)...)
		time.Sleep(12 * time.Second)
		var floor int64
		ok(t, w.Content.QueryRow(ctx, `SELECT floor FROM vault_tracks WHERE id = $1`, string(track.ID)).Scan(&floor))
		if floor != 3 {
			t.Errorf("after 12 s the floor is %d, want 3", floor)
		}
		ok(t, w.shredder.Shred(ctx, w.call, w.ann))
		w.speak(t, writer, track, 3)
		time.Sleep(2 * time.Second)
		blobs.still.Store(true)
		began := time.Now()
		w.sealer.Close()
		if took := time.Since(began); took > 6*time.Second || took < 4*time.Second {
			t.Errorf("closing took %v, want the five seconds that a commit may take", took)
		}
	})
}

// What cannot begin leaves nothing behind, and what nobody asks for at once is
// refused.
func TestWhatIsOutOfBounds(t *testing.T) {
	t.Parallel()
	m := &vaulttest.Memory{}
	w := newWorld(t, dbtest.SQLite(t), m)
	ctx := t.Context()
	for _, codec := range []audio.Codec{1, 99, 255} {
		track := w.track(w.ann)
		track.Codec = codec
		_, err := w.sealer.Begin(ctx, w.grant(t, w.ann), track)
		refused(t, err, yesline.Invalid)
	}
	if left := m.Names(); len(left) != 0 {
		t.Errorf("%d objects are left", len(left))
	}
	ok(t, w.Keys.Each(ctx, func(k keys.TrackKey) error {
		t.Error("a key was minted for what cannot begin")
		return nil
	}))
	ids := make([]string, db.MaxIn)
	for i := range ids {
		ids[i] = string(yesline.NewTrackID())
	}
	if found := must[map[string]vault.Recorded](t)(w.register.ByID(ctx, ids)); len(found) != 0 {
		t.Errorf("found %d tracks", len(found))
	}
	_, err := w.register.ByID(ctx, append(ids, string(yesline.NewTrackID())))
	refused(t, err, yesline.TooMany)
}

// A driver's name is a path: only what we name is one, and it ends where the
// longest track does.
func TestNamesAndSpansOfBlobs(t *testing.T) {
	t.Parallel()
	track := string(yesline.NewTrackID())
	for name, good := range map[string]bool{
		track: true, track + ".leaves": true, track + "." + strings.Repeat("a", 32): true, track + ".234567": true,
		"": false, "x": false, ".": false, "..": false, "../" + track: false, "/" + track: false, track + ".": false, track + ".A": false,
		track + ".a/b": false, track + ".a.b": false, track + "..": false, track + ".1": false, track + ".a\x00": false,
		track + "." + strings.Repeat("a", 33): false, string(yesline.NewCallID()): false, strings.ToUpper(track): false,
	} {
		if err := vault.CheckName(name); good != (err == nil) || !good && !errors.Is(err, yesline.Invalid) {
			t.Errorf("the name %q: got %v", name, err)
		}
	}
	for _, c := range []struct {
		off, length int64
		good        bool
	}{
		{0, 0, true}, {0, vault.MaxBlob, true}, {vault.MaxBlob, 0, true}, {vault.MaxBlob - 1, 1, true},
		{-1, 1, false}, {0, -1, false}, {vault.MaxBlob, 1, false}, {1, vault.MaxBlob, false}, {vault.MaxBlob + 1, 0, false}, {1 << 62, 1 << 62, false},
	} {
		if err := vault.CheckSpan(c.off, c.length); c.good != (err == nil) || !c.good && !errors.Is(err, yesline.Invalid) {
			t.Errorf("%d bytes at %d: got %v", c.length, c.off, err)
		}
	}
}

// An entry that no finisher of ours writes opens nothing, and nobody makes room
// for what it says.
func TestAnEntryThatClosesNothing(t *testing.T) {
	t.Parallel()
	root := strings.Repeat("00", 32)
	entry := func(change ...string) audit.Entry {
		d := map[string]string{"rendition": vault.Voice, "seconds": "3", "root": root}
		for i := 0; i < len(change); i += 2 {
			d[change[i]] = change[i+1]
		}
		return audit.Entry{Detail: d}
	}
	longest := strconv.Itoa(vault.RenditionMost)
	for _, e := range []audit.Entry{
		entry(), entry("seconds", "0"), entry("seconds", "14400", "damaged", "0-14399"),
		entry("rendition", vault.Peaks, "bytes", "17000"), entry("rendition", vault.Peaks, "seconds", "525", "bytes", longest),
	} {
		if err := vault.ParseTree(e); err != nil {
			t.Errorf("%v: %v", e.Detail, err)
		}
	}
	for _, e := range []audit.Entry{
		{}, entry("seconds", ""), entry("seconds", "-1"), entry("seconds", "14401"), entry("seconds", "99999999999999999999"),
		entry("root", ""), entry("root", root+"00"), entry("root", root[1:]), entry("root", "no"), entry("damaged", "2-1"),
		entry("rendition", vault.Peaks), entry("rendition", vault.Peaks, "bytes", "-1"), entry("rendition", vault.Peaks, "bytes", "x"),
		entry("rendition", vault.Peaks, "seconds", "525", "bytes", strconv.Itoa(vault.RenditionMost+1)),
		entry("rendition", vault.Peaks, "seconds", "526", "bytes", "1"),
	} {
		if err := vault.ParseTree(e); !errors.Is(err, yesline.Tampered) {
			t.Errorf("%v: got %v", e.Detail, err)
		}
	}
	for s, want := range map[string]int{"": 0, "0": 1, "3-5,9": 4, "0-14399": 14400} {
		if got, err := vault.ParseSpans(s); err != nil || got != want {
			t.Errorf("%q: got %d, %v", s, got, err)
		}
	}
	for _, s := range []string{",", "x", "-", "-1", "1-", "5-3", "1-x", "14400", "14390-14400", "1,,2", "1-2-3", " 1"} {
		if _, err := vault.ParseSpans(s); !errors.Is(err, yesline.Tampered) {
			t.Errorf("%q: got %v", s, err)
		}
	}
}

// whole is a store that can sync all of its blobs at once.
type whole struct {
	vault.Blobs
	all, each atomic.Int32
	fails     atomic.Bool
}

func (b *whole) SyncAll(context.Context) error {
	b.all.Add(1)
	if b.fails.Load() {
		return errors.New("some bytes were lost")
	}
	return nil
}

func (b *whole) Sync(ctx context.Context, name string) error {
	b.each.Add(1)
	return b.Blobs.Sync(ctx, name)
}

// Many tracks are synced at once, a few one by one; and one by one as well when
// syncing all failed, so that only those that lost bytes end.
func TestManyTracksAreSyncedAtOnce(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		blobs := &whole{Blobs: &vaulttest.Memory{}}
		w := newWorld(t, func(name string) *db.DB {
			d := must[*db.DB](t)(db.Open(context.Background(), name, "sqlite:"+filepath.Join(folder, name+".db")))
			t.Cleanup(func() { d.Close() })
			return d
		}, blobs)
		defer w.sealer.Close()
		var tracks []vault.Track
		var writers []*vault.Writer
		for range 10 {
			tracks = append(tracks, w.track(w.ann))
			writers = append(writers, w.begin(t, tracks[len(tracks)-1]))
		}
		speak := func(n int64, tracksOf int) {
			for i := range tracksOf {
				w.speak(t, writers[i], tracks[i], n)
			}
			time.Sleep(1500 * time.Millisecond)
		}
		speak(0, 2)
		if all, each := blobs.all.Load(), blobs.each.Load(); all != 0 || each != 2 {
			t.Errorf("two tracks: %d syncs of all and %d of one, want 0 and 2", all, each)
		}
		speak(1, 10)
		if all, each := blobs.all.Load(), blobs.each.Load(); all != 1 || each != 2 {
			t.Errorf("ten tracks: %d syncs of all and %d of one, want 1 and still 2", all, each)
		}
		blobs.fails.Store(true)
		speak(2, 10)
		if each := blobs.each.Load(); each != 12 {
			t.Errorf("after a failure %d syncs of one, want 12", each)
		}
		time.Sleep(12 * time.Second)
		var floor int64
		for _, k := range tracks {
			ok(t, w.Content.QueryRow(context.Background(), `SELECT floor FROM vault_tracks WHERE id = $1`, string(k.ID)).Scan(&floor))
			if floor != 3 {
				t.Errorf("the floor is %d, want 3: what is synced is committed", floor)
			}
		}
	})
}
