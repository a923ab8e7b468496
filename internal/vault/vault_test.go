package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audio"
	"yesline/internal/audit"
	"yesline/internal/consent"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
	"yesline/internal/keys"
	"yesline/internal/session"
	"yesline/internal/vault"
	"yesline/internal/vault/disk"
	"yesline/internal/vault/vaulttest"
)

func TestAVoiceFromYesToReceipt(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		t.Parallel()
		folder := t.TempDir()
		w := newWorld(t, open, onDisk(t, folder))
		ctx := t.Context()
		ann, bob := w.record(t, w.ann, 0, 1, 2, 5, 6), w.record(t, w.bob, upTo(3)...)

		is := w.state(t, ann.ID)
		if is.State != vault.Closed || !is.Finished || is.Seconds != 7 || is.ClosedMillis == 0 {
			t.Errorf("the register says %+v", is)
		}
		e := w.entry(t, is.Closing)
		if e.Verb != "track.closed" || e.Object != string(ann.ID) || e.Detail["seconds"] != "7" || e.Detail["absent"] != "2" ||
			e.Detail["state"] != "closed" || e.Detail["problem"] != "" || len(e.Detail["root"]) != 64 {
			t.Errorf("the log says %+v", e)
		}
		w.hears(t, ann, 7, 0, 1, 2, 5, 6)
		w.hears(t, bob, 3, upTo(3)...)
		part := must[[]vault.Second](t)(w.opener.Read(ctx, w.permit(t, w.signIn(t, w.ann), access.Listen, ann.ID), ann.ID, 5, 1))
		if len(part) != 1 || !bytes.Equal(part[0].Payload, sound(ann.ID, 5).Payload) {
			t.Error("a part is not what was said")
		}

		g := must[consent.Grant](t)(w.consent.Kept(ctx, w.call, w.ann))
		ok(t, w.opener.SealRendition(ctx, g, ann.ID, vault.Peaks, []byte("a waveform")))
		drawn := must[[]byte](t)(w.opener.ReadRendition(ctx, w.permit(t, w.signIn(t, w.ann), access.Listen, ann.ID), ann.ID, vault.Peaks))
		if string(drawn) != "a waveform" {
			t.Errorf("the waveform is %q", drawn)
		}
		grep(t, folder, string(ann.ID)+" says", "a waveform")

		ok(t, w.shredder.Shred(ctx, w.call, w.ann))
		is = w.state(t, ann.ID)
		if is.State != vault.Destroyed || is.Finished {
			t.Errorf("the register says %+v", is)
		}
		if e := w.entry(t, is.Destruction); e.Verb != "track.destroyed" || e.Object != string(ann.ID) || e.Detail["objects"] != "3" {
			t.Errorf("the log says %+v", e)
		}
		w.hears(t, bob, 3, upTo(3)...)
		var left []yesline.TrackID
		ok(t, w.Keys.Each(ctx, func(k keys.TrackKey) error { left = append(left, k.Track); return nil }))
		if !slices.Equal(left, []yesline.TrackID{bob.ID}) {
			t.Errorf("keys left: %v, want bob's", left)
		}
		if all := must[[]vault.Recorded](t)(w.register.Tracks(ctx, w.call)); len(all) != 2 || all[0].ID != ann.ID {
			t.Errorf("the tracks of the call: %+v", all)
		}
	})
}

// The proofs' zero values, and proofs of something else, open nothing.
func TestNoProofNoByte(t *testing.T) {
	t.Parallel()
	w := memory(t)
	ctx := t.Context()
	track := w.record(t, w.ann, upTo(2)...)
	ok(t, w.opener.SealRendition(ctx, must[consent.Grant](t)(w.consent.Kept(ctx, w.call, w.ann)), track.ID, vault.Peaks, []byte("peaks")))
	bobs := w.record(t, w.bob, 0)
	listen := func(p access.Permit) {
		t.Helper()
		_, err := w.opener.Read(ctx, p, track.ID, 0, 1)
		refused(t, err, yesline.Denied)
		_, err = w.opener.Length(ctx, p, track.ID)
		refused(t, err, yesline.Denied)
		_, err = w.opener.ReadRendition(ctx, p, track.ID, vault.Peaks)
		refused(t, err, yesline.Denied)
	}
	listen(access.Permit{})
	listen(w.permit(t, w.signIn(t, w.bob), access.Listen, bobs.ID)) // of another track
	listen(w.permit(t, w.signIn(t, w.ann), access.Log, track.ID))   // to do something else

	put := func(g consent.Grant) {
		t.Helper()
		_, err := w.sealer.Begin(ctx, g, w.track(w.ann))
		refused(t, err, yesline.Denied)
		refused(t, w.begin(t, w.track(w.ann)).Put(g, 0, sound(track.ID, 0)), yesline.Denied)
	}
	put(consent.Grant{})
	put(w.grant(t, w.bob))                                          // of another voice
	put(must[consent.Grant](t)(w.consent.Kept(ctx, w.call, w.ann))) // to derive, not to record
	refused(t, w.opener.SealRendition(ctx, consent.Grant{}, track.ID, vault.Peaks, nil), yesline.Denied)
	refused(t, w.opener.SealRendition(ctx, w.grant(t, w.ann), track.ID, vault.Peaks, nil), yesline.Denied)
	refused(t, w.opener.SealRendition(ctx, must[consent.Grant](t)(w.consent.Kept(ctx, w.call, w.bob)), track.ID, vault.Peaks, nil), yesline.Denied)

	other := w.track(w.ann)
	other.Program = w.Program(t)
	_, err := w.sealer.Begin(ctx, w.grant(t, w.ann), other)
	refused(t, err, yesline.Denied)

	_, err = new(vault.Opener).Read(ctx, access.Permit{}, track.ID, 0, 1)
	refused(t, err, yesline.Denied)
	deaf := w.newOpener()
	deaf.Standing = nil
	_, err = deaf.Read(ctx, w.permit(t, w.signIn(t, w.ann), access.Listen, track.ID), track.ID, 0, 1)
	refused(t, err, yesline.Unavailable)
}

func TestAGrantThatRanOutLetsNothingIn(t *testing.T) {
	t.Parallel()
	w := memory(t)
	track := w.track(w.ann)
	writer, g := w.begin(t, track), w.grant(t, w.ann)
	ok(t, writer.Put(g, 0, sound(track.ID, 0)))
	time.Sleep(consent.LeaseTime + 10*time.Millisecond)
	refused(t, writer.Put(g, 1, sound(track.ID, 1)), yesline.Denied)
}

// A permit counts only while consent stands as it did.
func TestConsentIsAskedAgainAtEachReading(t *testing.T) {
	t.Parallel()
	w := memory(t)
	ctx := t.Context()
	track, ann := w.record(t, w.ann, upTo(3)...), w.signIn(t, w.ann)
	p := w.permit(t, ann, access.Listen, track.ID)
	must[[]vault.Second](t)(w.opener.Read(ctx, p, track.ID, 0, 3)) // now in the cache
	onCall := must[access.Permit](t)(w.gate.Ask(ctx, ann, access.Allow, access.Object{Kind: "call", ID: string(w.call)}, nil))
	ok(t, w.consent.Set(ctx, onCall, w.call, consent.Share, pressed("")))
	_, err := w.opener.Read(ctx, p, track.ID, 0, 3)
	refused(t, err, yesline.Conflict)
	p = w.permit(t, ann, access.Listen, track.ID)
	must[[]vault.Second](t)(w.opener.Read(ctx, p, track.ID, 0, 3))

	withdraw := must[access.Permit](t)(w.gate.Ask(ctx, ann, access.Withdraw, access.Object{Kind: "call", ID: string(w.call)}, nil))
	ok(t, w.consent.Withdraw(ctx, withdraw, w.call, consent.Record, pressed("")))
	_, err = w.opener.Read(ctx, p, track.ID, 0, 3) // before anything was shredded
	refused(t, err, yesline.NotFound)
	_, err = w.opener.Length(ctx, p, track.ID)
	refused(t, err, yesline.NotFound)
}

// The row names the owner as well: two locks.
func TestARowOfSomebodyElseDoesNotOpen(t *testing.T) {
	t.Parallel()
	w := memory(t)
	track := w.record(t, w.ann, upTo(3)...)
	p := w.permit(t, w.signIn(t, w.ann), access.Listen, track.ID)
	w.exec(t, `UPDATE vault_tracks SET person = $1 WHERE id = $2`, string(w.bob), string(track.ID))
	_, err := w.opener.Read(t.Context(), p, track.ID, 0, 1)
	refused(t, err, yesline.NotFound)
	_, err = w.opener.Length(t.Context(), p, track.ID)
	refused(t, err, yesline.NotFound)
}

func (w *world) exec(t testing.TB, q string, args ...any) {
	t.Helper()
	ok(t, w.Content.Transact(context.Background(), func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, q, args...)
		return err
	}))
}

func TestReadingIsBounded(t *testing.T) {
	t.Parallel()
	w := memory(t)
	track := w.record(t, w.ann, upTo(3)...)
	p := w.permit(t, w.signIn(t, w.ann), access.Listen, track.ID)
	for _, span := range [][2]int64{{-1, 1}, {0, 0}, {0, -1}, {0, 129}, {0, 1 << 62}} {
		_, err := w.opener.Read(t.Context(), p, track.ID, span[0], span[1])
		refused(t, err, yesline.Invalid)
	}
	for _, from := range []int64{3, 4, vault.MaxSeconds, 1 << 62} {
		if got := must[[]vault.Second](t)(w.opener.Read(t.Context(), p, track.ID, from, 2)); len(got) != 0 {
			t.Errorf("beyond the end: got %d seconds", len(got))
		}
	}
}

// Whoever may write the store and the content database, but has no key and no
// hand on the log, can make a reading fail. They cannot make it lie.
func TestAStoreThatWasTamperedWith(t *testing.T) {
	t.Parallel()
	w := memory(t)
	for name, tamper := range map[string]func(t *testing.T, track, other vault.Track){
		"a flipped bit": func(t *testing.T, track, _ vault.Track) {
			b := w.file(t, string(track.ID))
			slot(b, 1)[4000] ^= 4
			w.replace(t, string(track.ID), b)
		},
		"a flipped bit in the header": func(t *testing.T, track, _ vault.Track) {
			b := w.file(t, string(track.ID))
			b[20] ^= 1
			w.replace(t, string(track.ID), b)
		},
		"seconds in another order": func(t *testing.T, track, _ vault.Track) {
			b := w.file(t, string(track.ID))
			first := bytes.Clone(slot(b, 0))
			copy(slot(b, 0), slot(b, 1))
			copy(slot(b, 1), first)
			w.replace(t, string(track.ID), b)
		},
		"a second spliced in from another track": func(t *testing.T, track, other vault.Track) {
			b := w.file(t, string(track.ID))
			copy(slot(b, 1), slot(w.file(t, string(other.ID)), 1))
			w.replace(t, string(track.ID), b)
		},
		"another track's file": func(t *testing.T, track, other vault.Track) {
			w.replace(t, string(track.ID), w.file(t, string(other.ID)))
		},
		"another track's file, leaves and row": func(t *testing.T, track, other vault.Track) {
			w.replace(t, string(track.ID), w.file(t, string(other.ID)))
			w.replace(t, string(track.ID)+".leaves", w.file(t, string(other.ID)+".leaves"))
			is := w.state(t, other.ID)
			w.exec(t, `UPDATE vault_tracks SET ref_leaf = $1, seconds = $2 WHERE id = $3`, string(is.Closing.Leaf), is.Seconds, string(track.ID))
		},
		"a row that points to the closing of an empty waveform": func(t *testing.T, track, _ vault.Track) {
			ok(t, w.opener.SealRendition(t.Context(), must[consent.Grant](t)(w.consent.Kept(t.Context(), w.call, w.ann)), track.ID, vault.Peaks, nil))
			w.exec(t, `UPDATE vault_tracks SET ref_leaf = $1, seconds = 0 WHERE id = $2`, w.drawnRef(t, track.ID), string(track.ID))
		},
		"an end cut off": func(t *testing.T, track, _ vault.Track) {
			b := w.file(t, string(track.ID))
			w.replace(t, string(track.ID), b[:3*vault.SlotSize])
		},
		"an end cut off, leaves and row as well": func(t *testing.T, track, _ vault.Track) {
			w.replace(t, string(track.ID), w.file(t, string(track.ID))[:3*vault.SlotSize])
			w.replace(t, string(track.ID)+".leaves", w.file(t, string(track.ID)+".leaves")[:2*32])
			w.exec(t, `UPDATE vault_tracks SET seconds = 2 WHERE id = $1`, string(track.ID))
		},
		"a second made a hole": func(t *testing.T, track, _ vault.Track) {
			ok(t, w.blobs.WriteAt(t.Context(), string(track.ID), make([]byte, vault.SlotSize), 2*vault.SlotSize))
		},
		"a hole and its leaf": func(t *testing.T, track, _ vault.Track) {
			ok(t, w.blobs.WriteAt(t.Context(), string(track.ID), make([]byte, vault.SlotSize), 2*vault.SlotSize))
			nothing := []byte("\x6e\x34\x0b\x9c\xff\xb3\x7a\x98\x9c\xa5\x44\xe6\xbb\x78\x0a\x2c\x78\x90\x1d\x3f\xb3\x37\x38\x76\x85\x11\xa3\x06\x17\xaf\xa0\x1d") // SHA-256 of 0x00
			ok(t, w.blobs.WriteAt(t.Context(), string(track.ID)+".leaves", nothing, 32))
		},
		"something in a hole": func(t *testing.T, track, _ vault.Track) {
			ok(t, w.blobs.WriteAt(t.Context(), string(track.ID), slot(w.file(t, string(track.ID)), 1), 4*vault.SlotSize))
		},
		"no file": func(t *testing.T, track, _ vault.Track) { ok(t, w.blobs.Delete(t.Context(), string(track.ID))) },
		"a second made a hole, and no leaves": func(t *testing.T, track, _ vault.Track) {
			ok(t, w.blobs.WriteAt(t.Context(), string(track.ID), make([]byte, vault.SlotSize), 2*vault.SlotSize))
			ok(t, w.blobs.Delete(t.Context(), string(track.ID)+".leaves"))
		},
		"a row that points to the destruction of another": func(t *testing.T, track, other vault.Track) {
			_, err := w.Keys.DestroyTrack(t.Context(), w.program, other.Person, other.ID)
			ok(t, err)
			ok(t, w.shredder.Shred(t.Context(), w.call, w.bob))
			w.exec(t, `UPDATE vault_tracks SET ref_leaf = $1 WHERE id = $2`, string(w.state(t, other.ID).Destruction.Leaf), string(track.ID))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w.newCall(t)
			track, other := w.record(t, w.ann, 0, 1, 2, 4), w.record(t, w.bob, 0, 1, 2, 4)
			w.hears(t, track, 5, 0, 1, 2, 4)
			tamper(t, track, other)
			w.opener = w.newOpener() // nothing cached
			p := w.permit(t, w.signIn(t, w.ann), access.Listen, track.ID)
			_, err := w.opener.Read(t.Context(), p, track.ID, 0, 5)
			refused(t, err, yesline.Tampered)
		})
	}
}

// The leaves are there for speed alone: without them, as after a full disk, a
// reader makes them of the voice and compares them with the log.
func TestAVoiceWithoutItsLeaves(t *testing.T) {
	t.Parallel()
	w := memory(t)
	track := w.record(t, w.ann, 0, 1, 2, 4, 70)
	ok(t, w.blobs.Delete(t.Context(), string(track.ID)+".leaves"))
	w.opener = w.newOpener() // nothing cached
	w.hears(t, track, 71, 0, 1, 2, 4, 70)
}

// Not even the length is another track's.
func TestALengthIsTheTracksOwn(t *testing.T) {
	t.Parallel()
	w := memory(t)
	track, other := w.record(t, w.ann, upTo(2)...), w.record(t, w.bob, upTo(9)...)
	w.replace(t, string(track.ID)+".leaves", w.file(t, string(other.ID)+".leaves"))
	w.exec(t, `UPDATE vault_tracks SET ref_leaf = $1, seconds = 9 WHERE id = $2`, string(w.state(t, other.ID).Closing.Leaf), string(track.ID))
	_, err := w.opener.Length(t.Context(), w.permit(t, w.signIn(t, w.ann), access.Listen, track.ID), track.ID)
	refused(t, err, yesline.Tampered)
}

// What is beyond the end that the log states is no part of the track.
func TestAnExtendedFileIsNoLonger(t *testing.T) {
	t.Parallel()
	w := memory(t)
	track := w.record(t, w.ann, upTo(3)...)
	b := w.file(t, string(track.ID))
	w.replace(t, string(track.ID), append(b, slot(b, 0)...))
	leaves := w.file(t, string(track.ID)+".leaves")
	w.replace(t, string(track.ID)+".leaves", append(leaves, leaves...))
	w.exec(t, `UPDATE vault_tracks SET seconds = 6 WHERE id = $1`, string(track.ID))
	w.opener = w.newOpener()
	w.hears(t, track, 3, upTo(3)...)
}

// A waveform of one track, or an older or changed one, is not another's.
func TestARenditionThatWasTamperedWith(t *testing.T) {
	t.Parallel()
	w := memory(t)
	ctx := t.Context()
	draw := func(track vault.Track, data []byte) string {
		ok(t, w.opener.SealRendition(ctx, must[consent.Grant](t)(w.consent.Kept(ctx, w.call, track.Person)), track.ID, vault.Peaks, data))
		var object string
		ok(t, w.Content.QueryRow(ctx, `SELECT object FROM vault_renditions WHERE track = $1`, string(track.ID)).Scan(&object))
		return object
	}
	long := bytes.Repeat([]byte("peaks of ann "), 2000)
	ann, bob := w.record(t, w.ann, 0), w.record(t, w.bob, 0)
	anns, bobs := draw(ann, long), draw(bob, bytes.Repeat([]byte("peaks of bob "), 2000))
	whole := w.file(t, anns)
	read := func() ([]byte, error) {
		w.opener = w.newOpener()
		return w.opener.ReadRendition(ctx, w.permit(t, w.signIn(t, w.ann), access.Listen, ann.ID), ann.ID, vault.Peaks)
	}
	if got, err := read(); err != nil || !bytes.Equal(got, long) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	flipped := bytes.Clone(whole)
	slot(flipped, 1)[99] ^= 1
	for name, b := range map[string][]byte{"flipped": flipped, "cut": whole[:3*vault.SlotSize], "another's": w.file(t, bobs), "the voice": w.file(t, string(ann.ID))} {
		w.replace(t, anns, b)
		if _, err := read(); !errors.Is(err, yesline.Tampered) {
			t.Errorf("%s: got %v, want does not match", name, err)
		}
	}
	w.replace(t, anns, append(bytes.Clone(whole), slot(whole, 0)...))
	if got, err := read(); err != nil || !bytes.Equal(got, long) {
		t.Errorf("an extended file: got %d bytes, %v", len(got), err)
	}
	// The row of a voice's closing in the place of the waveform's, and bob's.
	for _, ref := range []string{string(w.state(t, ann.ID).Closing.Leaf), w.drawnRef(t, bob.ID)} {
		w.exec(t, `UPDATE vault_renditions SET ref_leaf = $1 WHERE track = $2`, ref, string(ann.ID))
		_, err := read()
		refused(t, err, yesline.Tampered)
	}
}

func (w *world) drawnRef(t testing.TB, track yesline.TrackID) (leaf string) {
	ok(t, w.Content.QueryRow(context.Background(), `SELECT ref_leaf FROM vault_renditions WHERE track = $1`, string(track)).Scan(&leaf))
	return leaf
}

func TestRenditionsAreDrawnOnce(t *testing.T) {
	t.Parallel()
	m := &vaulttest.Memory{}
	w := newWorld(t, dbtest.SQLite(t), m)
	ctx := t.Context()
	track := w.record(t, w.ann, 0)
	g := must[consent.Grant](t)(w.consent.Kept(ctx, w.call, w.ann))
	errs := make(chan error, 8)
	for i := range 8 {
		go func() {
			errs <- w.opener.SealRendition(ctx, g, track.ID, vault.Peaks, bytes.Repeat([]byte{byte(i)}, 20_000))
		}()
	}
	for range 8 {
		ok(t, <-errs)
	}
	if names := m.Names(); len(names) != 3 {
		t.Errorf("%d objects are left, want the voice, its leaves and one waveform", len(names))
	}
	got := must[[]byte](t)(w.opener.ReadRendition(ctx, w.permit(t, w.signIn(t, w.ann), access.Listen, track.ID), track.ID, vault.Peaks))
	if len(got) != 20_000 || len(bytes.Trim(got, string(got[0]))) != 0 {
		t.Error("the waveform is of several hands")
	}
	refused(t, w.opener.SealRendition(ctx, g, track.ID, "transcript", nil), yesline.Invalid)
	refused(t, w.opener.SealRendition(ctx, g, track.ID, vault.Voice, nil), yesline.Invalid)
	refused(t, w.opener.SealRendition(ctx, g, track.ID, vault.Peaks, make([]byte, vault.RenditionMost+1)), yesline.Invalid)
}

// A second is sealed once, in rising order, and refused otherwise.
func TestSecondsRise(t *testing.T) {
	t.Parallel()
	w := memory(t)
	track := w.track(w.ann)
	writer, g := w.begin(t, track), w.grant(t, w.ann)
	ok(t, writer.Put(g, 3, sound(track.ID, 3)))
	for _, n := range []int64{3, 2, 0, -1} {
		refused(t, writer.Put(g, n, sound(track.ID, n)), yesline.Conflict)
	}
	refused(t, writer.Put(g, vault.MaxSeconds, sound(track.ID, 0)), yesline.TooMany)
	refused(t, writer.Put(g, 4, &vault.Second{Codec: audio.PCMU, Payload: make([]byte, vault.MaxPayload+1)}), yesline.Invalid)
	refused(t, writer.Put(g, 4, &vault.Second{Codec: 255}), yesline.Invalid)
	ok(t, writer.Put(g, 4, sound(track.ID, 4)))
	ok(t, writer.End(t.Context()))
	ok(t, writer.End(t.Context()))
	refused(t, writer.Put(g, 5, sound(track.ID, 5)), yesline.Conflict)
	ok(t, w.opener.Finish(t.Context(), track.ID))
	w.hears(t, track, 5, 3, 4)

	again := w.track(w.ann)
	again.ID = track.ID // no second life under an old key
	_, err := w.sealer.Begin(t.Context(), g, again)
	if err == nil {
		t.Fatal("a track began twice")
	}
	w.hears(t, track, 5, 3, 4)
	bad := w.track(w.ann)
	bad.Rendition = vault.Peaks
	_, err = w.sealer.Begin(t.Context(), g, bad)
	refused(t, err, yesline.Invalid)
}

// kill -9: nothing says goodbye, and the next start finds what was sealed.
func TestACrashKeepsWhatWasSealed(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	w := newWorld(t, dbtest.SQLite(t), onDisk(t, folder))
	ctx := t.Context()
	track, empty := w.track(w.ann), w.track(w.bob)
	writer := w.begin(t, track)
	w.begin(t, empty)
	w.speak(t, writer, track, upTo(4)...)
	w.settle(t, track, 4)
	// The last slot is torn in the middle by the power cut.
	ok(t, w.blobs.WriteAt(ctx, string(track.ID), bytes.Repeat([]byte("torn"), 1000), 5*vault.SlotSize))

	refused(t, w.opener.Finish(ctx, track.ID), yesline.Conflict) // it might still be written
	ok(t, w.opener.Recover(ctx))
	ok(t, w.opener.Finish(ctx, track.ID))
	ok(t, w.opener.Finish(ctx, empty.ID))
	is := w.state(t, track.ID)
	if is.State != vault.Recovered || is.Seconds != 4 {
		t.Errorf("the register says %+v", is)
	}
	if e := w.entry(t, is.Closing); e.Detail["state"] != "recovered" || e.Detail["seconds"] != "4" || e.Detail["problem"] != "" {
		t.Errorf("the log says %+v", e)
	}
	w.hears(t, track, 4, upTo(4)...)
	if is := w.state(t, empty.ID); is.State != vault.Recovered || is.Seconds != 0 || !is.Finished {
		t.Errorf("the register says of a track of no second: %+v", is)
	}
}

// settle waits until count seconds are written and synced, and commits floors.
func (w *world) settle(t testing.TB, track vault.Track, count int64) {
	t.Helper()
	for range 200 {
		time.Sleep(20 * time.Millisecond)
		ok(t, w.sealer.CommitFloors(context.Background()))
		var floor int64
		ok(t, w.Content.QueryRow(context.Background(), `SELECT floor FROM vault_tracks WHERE id = $1`, string(track.ID)).Scan(&floor))
		if floor == count {
			return
		}
	}
	t.Fatal("the seconds were not written in 4 s")
}

// A cut before the end was known is told from a crash by the floor.
func TestACutBelowTheFloorIsAProblem(t *testing.T) {
	t.Parallel()
	w := memory(t)
	for name, c := range map[string]struct {
		cut              func(t *testing.T, track vault.Track)
		problem, damaged string
		count            int64
		heard            []int64
	}{
		"nothing": {func(*testing.T, vault.Track) {}, "", "", 6, []int64{0, 1, 3, 4, 5}},
		"the end cut off": {func(t *testing.T, track vault.Track) {
			w.replace(t, string(track.ID), w.file(t, string(track.ID))[:3*vault.SlotSize])
		}, "cut below floor", "", 2, upTo(2)},
		"all but the header": {func(t *testing.T, track vault.Track) {
			w.replace(t, string(track.ID), w.file(t, string(track.ID))[:vault.SlotSize])
		}, "cut below floor", "", 0, nil},
		"the whole file": {func(t *testing.T, track vault.Track) { ok(t, w.blobs.Delete(t.Context(), string(track.ID))) }, "cut below floor", "", 0, nil},
		"the header": {func(t *testing.T, track vault.Track) {
			ok(t, w.blobs.WriteAt(t.Context(), string(track.ID), []byte("X"), 0))
		}, "cut below floor", "", 0, nil},
		"a second made a hole": {func(t *testing.T, track vault.Track) {
			ok(t, w.blobs.WriteAt(t.Context(), string(track.ID), make([]byte, vault.SlotSize), 4*vault.SlotSize))
		}, "seconds lost below floor", "", 6, []int64{0, 1, 4, 5}},
		"two seconds broken": {func(t *testing.T, track vault.Track) {
			ok(t, w.blobs.WriteAt(t.Context(), string(track.ID), []byte("broken"), 4*vault.SlotSize))
			ok(t, w.blobs.WriteAt(t.Context(), string(track.ID), []byte("broken"), 5*vault.SlotSize))
		}, "seconds lost below floor", "3-4", 6, []int64{0, 1, 5}},
		"seconds swapped": {func(t *testing.T, track vault.Track) {
			b := w.file(t, string(track.ID))
			first := bytes.Clone(slot(b, 0))
			copy(slot(b, 0), slot(b, 1))
			copy(slot(b, 1), first)
			w.replace(t, string(track.ID), b)
		}, "seconds lost below floor", "0-1", 6, []int64{3, 4, 5}},
		"a second added beyond": {func(t *testing.T, track vault.Track) {
			b := w.file(t, string(track.ID))
			w.replace(t, string(track.ID), append(b, slot(b, 0)...))
		}, "", "", 6, []int64{0, 1, 3, 4, 5}},
	} {
		t.Run(name, func(t *testing.T) {
			w.newCall(t)
			track := w.track(w.ann)
			writer := w.begin(t, track)
			w.speak(t, writer, track, 0, 1, 3, 4, 5)
			ok(t, writer.End(t.Context()))
			c.cut(t, track)
			ok(t, w.opener.Finish(t.Context(), track.ID))
			e := w.entry(t, w.state(t, track.ID).Closing)
			if e.Detail["problem"] != c.problem || e.Detail["damaged"] != c.damaged {
				t.Errorf("the log says %v", e.Detail)
			}
			w.hears(t, track, c.count, c.heard...)
		})
	}
}

func TestFinishingAgainChangesNothing(t *testing.T) {
	t.Parallel()
	w := memory(t)
	ctx := t.Context()
	ok(t, w.jobs.Start(context.Background()))
	t.Cleanup(func() { w.jobs.Stop(context.Background()) })
	track := w.track(w.ann)
	writer := w.begin(t, track)
	w.speak(t, writer, track, upTo(3)...)
	ok(t, writer.End(ctx))
	errs := make(chan error, 8)
	for range 8 {
		go func() { errs <- w.opener.Finish(ctx, track.ID) }()
	}
	for range 8 {
		ok(t, <-errs)
	}
	before := w.state(t, track.ID)
	ok(t, w.opener.Finish(ctx, track.ID))
	if after := w.state(t, track.ID); after != before {
		t.Errorf("before %+v, after %+v", before, after)
	}
	closings := 0
	for _, l := range must[[]audit.Line](t)(w.Log.About(ctx, w.ann, string(track.ID), 0, 100)) {
		if l.Entry.Verb == "track.closed" {
			closings++
		}
	}
	if closings != 1 {
		t.Errorf("closed %d times in the log", closings)
	}
	for range 100 {
		if time.Sleep(20 * time.Millisecond); w.peaked() == 1 {
			break
		}
	}
	if got := w.peaked(); got != 1 {
		t.Errorf("the job that follows ran %d times, want once", got)
	}
	refused(t, w.opener.Finish(ctx, yesline.NewTrackID()), yesline.NotFound)
}

func (w *world) peaked() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.followed)
}

// Finishing opens a voice, so the gate is asked, and a voice that was taken
// back meanwhile is not opened any more.
func TestFinishingAsksTheGate(t *testing.T) {
	t.Parallel()
	w := memory(t)
	ctx := t.Context()
	other, track := w.record(t, w.bob, 0), w.track(w.ann)
	writer := w.begin(t, track)
	w.speak(t, writer, track, upTo(2)...)
	ok(t, writer.End(ctx))
	withdraw := must[access.Permit](t)(w.gate.Ask(ctx, w.signIn(t, w.ann), access.Withdraw, access.Object{Kind: "call", ID: string(w.call)}, nil))
	ok(t, w.consent.Withdraw(ctx, withdraw, w.call, consent.Record, pressed("")))
	refused(t, w.opener.Finish(ctx, track.ID), yesline.NotFound)
	alone := w.newOpener()
	alone.Ask = nil
	refused(t, alone.Finish(ctx, track.ID), yesline.Unavailable)
	lax := w.newOpener() // a gate that errs: what it gives is not for this track
	lax.Ask = func(ctx context.Context, who session.Principal, v access.Verb, _ access.Object, _ map[string]string) (access.Permit, error) {
		return w.gate.Ask(ctx, who, v, access.Object{Kind: "track", ID: string(other.ID)}, nil)
	}
	refused(t, lax.Finish(ctx, track.ID), yesline.Denied)
	ok(t, w.shredder.Shred(ctx, w.call, w.ann))
	ok(t, w.opener.Finish(ctx, track.ID)) // there is nothing left to do
}

// A full disk ends the recording, says so, and keeps what was sealed before.
func TestAFullDiskEndsTheRecording(t *testing.T) {
	t.Parallel()
	m := &vaulttest.Memory{Room: 4} // a header and three seconds
	w := newWorld(t, dbtest.SQLite(t), m)
	ctx := t.Context()
	track := w.track(w.ann)
	writer, g := w.begin(t, track), w.grant(t, w.ann)
	for n := range int64(5) {
		ok(t, writer.Put(g, n, sound(track.ID, n)))
	}
	var err error
	for n := int64(5); n < 100 && err == nil; n++ {
		time.Sleep(20 * time.Millisecond)
		err = writer.Put(w.grant(t, w.ann), n, sound(track.ID, n))
	}
	refused(t, err, yesline.Full)
	_, err = w.sealer.Begin(ctx, g, w.track(w.ann))
	refused(t, err, yesline.Full)

	ok(t, w.sealer.CommitFloors(ctx)) // the recording ends though nobody called End
	if got := w.state(t, track.ID).State; got != vault.Full {
		t.Errorf("state: got %s, want full", got)
	}
	ok(t, writer.End(ctx))
	m.Room = 0
	ok(t, w.opener.Finish(ctx, track.ID))
	if e := w.entry(t, w.state(t, track.ID).Closing); e.Detail["state"] != "full" || e.Detail["problem"] != "the disk was full" {
		t.Errorf("the log says %v", e.Detail)
	}
	w.hears(t, track, 3, upTo(3)...)
}

// moody is a disk that is full for one write and has room again for the next.
type moody struct {
	vault.Blobs
	off int64
}

func (m moody) WriteAt(ctx context.Context, name string, p []byte, off int64) error {
	if off == m.off {
		return fmt.Errorf("writing: %w", yesline.Full)
	}
	return m.Blobs.WriteAt(ctx, name, p, off)
}

// A recording that a full disk ended does not go on when there is room again:
// what is kept has no hole that nobody knows of.
func TestARecordingThatEndedDoesNotGoOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dbtest.SQLite(t), moody{&vaulttest.Memory{}, 4 * vault.SlotSize})
	track := w.track(w.ann)
	writer := w.begin(t, track)
	w.speak(t, writer, track, upTo(6)...)
	ok(t, writer.End(t.Context()))
	ok(t, w.opener.Finish(t.Context(), track.ID))
	if got := w.state(t, track.ID); got.State != vault.Full || got.Seconds != 3 {
		t.Errorf("the register says %+v", got)
	}
	w.hears(t, track, 3, upTo(3)...)
}

// slow is a disk that stands still until it is released.
type slow struct {
	vault.Blobs
	release chan struct{}
}

func (s slow) WriteAt(ctx context.Context, name string, p []byte, off int64) error {
	if off > 0 {
		<-s.release
	}
	return s.Blobs.WriteAt(ctx, name, p, off)
}

// Put never waits for a disk: what does not fit in the queue is lost, said so,
// and never sealed again.
func TestADiskThatStandsStill(t *testing.T) {
	t.Parallel()
	s := slow{&vaulttest.Memory{}, make(chan struct{})}
	w := newWorld(t, dbtest.SQLite(t), s)
	track := w.track(w.ann)
	writer, lease := w.begin(t, track), w.lease(t, w.ann)
	second := sound(track.ID, 0)
	began, n := time.Now(), int64(0)
	for ; n < 10_000; n++ {
		g := must[consent.Grant](t)(lease.Grant(t.Context()))
		if err := writer.Put(g, n, second); err != nil {
			refused(t, err, yesline.Unavailable)
			refused(t, writer.Put(g, n, second), yesline.Conflict)
			break
		}
	}
	if n == 10_000 || time.Since(began) > 5*time.Second {
		t.Errorf("after %d seconds and %v no end of the queue", n, time.Since(began))
	}
	close(s.release)
	ok(t, writer.End(t.Context()))
	ok(t, w.opener.Finish(t.Context(), track.ID))
	if got := w.state(t, track.ID).Seconds; got != n {
		t.Errorf("kept %d seconds, want %d", got, n)
	}
}

// lazy is a disk that takes its time for each second.
type lazy struct {
	vault.Blobs
	takes time.Duration
}

func (l lazy) WriteAt(ctx context.Context, name string, p []byte, off int64) error {
	if off > 0 {
		time.Sleep(l.takes)
	}
	return l.Blobs.WriteAt(ctx, name, p, off)
}

// The Sealer knows how far its disk is behind, and when it no longer is.
func TestHowFarADiskIsBehind(t *testing.T) {
	t.Parallel()
	const takes = 400 * time.Millisecond
	w := newWorld(t, dbtest.SQLite(t), lazy{&vaulttest.Memory{}, takes})
	track := w.track(w.ann)
	writer := w.begin(t, track)
	n, worst := int64(0), time.Duration(0)
	for began := time.Now(); worst < takes && time.Since(began) < 3*time.Second; n++ {
		ok(t, writer.Put(w.grant(t, w.ann), n, sound(track.ID, n)))
		time.Sleep(100 * time.Millisecond)
		worst = w.sealer.Behind()
	}
	if worst < takes {
		t.Errorf("a disk that takes %v for a second is %v behind", takes, worst)
	}
	ok(t, writer.End(t.Context()))
	for began := time.Now(); w.sealer.Behind() >= takes; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatal("a disk with nothing to do is behind")
		}
	}
}

func TestShreddingAgainAndInTheMiddle(t *testing.T) {
	t.Parallel()
	m := &vaulttest.Memory{}
	w := newWorld(t, dbtest.SQLite(t), m)
	ctx := t.Context()
	done, live := w.record(t, w.ann, upTo(2)...), w.track(w.ann)
	bob := w.record(t, w.bob, 0)
	writer, g := w.begin(t, live), w.grant(t, w.ann)
	ok(t, writer.Put(g, 0, sound(live.ID, 0)))

	ok(t, w.shredder.Shred(ctx, w.call, w.ann))
	first := w.state(t, done.ID)
	writer.Put(g, 1, sound(live.ID, 1)) // the news has not come yet
	ok(t, writer.End(ctx))              // and when it ends, it leaves nothing
	for _, name := range m.Names() {
		if !strings.HasPrefix(name, string(bob.ID)) {
			t.Error("an object is left")
		}
	}
	ok(t, w.shredder.Shred(ctx, w.call, w.ann))
	if again := w.state(t, done.ID); again != first {
		t.Errorf("shredded again: %+v, before %+v", again, first)
	}
	if is := w.state(t, live.ID); is.State != vault.Destroyed {
		t.Errorf("the register says %+v", is)
	}
	refused(t, w.shredder.Shred(ctx, w.call, ""), yesline.Invalid)
	ok(t, w.shredder.Shred(ctx, yesline.NewCallID(), w.ann)) // nothing to do

	refused(t, w.register.Forget(ctx, w.bob), yesline.Conflict)
	ok(t, w.register.Forget(ctx, w.ann))
	if is := w.state(t, done.ID); is.Person != "" {
		t.Errorf("the register still names a person: %+v", is)
	}
}

// A destroyed voice is not read, though its file was kept by a thief.
func TestADestroyedVoiceDoesNotOpen(t *testing.T) {
	t.Parallel()
	w := memory(t)
	ctx := t.Context()
	track := w.record(t, w.ann, upTo(3)...)
	p := w.permit(t, w.signIn(t, w.ann), access.Listen, track.ID)
	file, leaves := w.file(t, string(track.ID)), w.file(t, string(track.ID)+".leaves")
	closing := w.state(t, track.ID).Closing
	ok(t, w.shredder.Shred(ctx, w.call, w.ann))
	_, err := w.opener.Read(ctx, p, track.ID, 0, 3)
	refused(t, err, yesline.NotFound)
	w.replace(t, string(track.ID), file)
	w.replace(t, string(track.ID)+".leaves", leaves)
	w.exec(t, `UPDATE vault_tracks SET state = 'closed', ref_leaf = $1 WHERE id = $2`, string(closing.Leaf), string(track.ID))
	_, err = w.opener.Read(ctx, p, track.ID, 0, 3)
	refused(t, err, yesline.NotFound)
}

// What was not finished is not read: nobody could say where it ends.
func TestAnOpenTrackIsNotRead(t *testing.T) {
	t.Parallel()
	w := memory(t)
	track := w.track(w.ann)
	writer := w.begin(t, track)
	w.speak(t, writer, track, 0)
	p := w.permit(t, w.signIn(t, w.ann), access.Listen, track.ID)
	_, err := w.opener.Read(t.Context(), p, track.ID, 0, 1)
	refused(t, err, yesline.Unavailable)
	ok(t, writer.End(t.Context()))
	_, err = w.opener.Read(t.Context(), p, track.ID, 0, 1)
	refused(t, err, yesline.Unavailable)
}

func TestTheSealerClosesAndTracksAreRecovered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dbtest.SQLite(t), must[*disk.Disk](t)(disk.Open(t.TempDir())))
	track := w.track(w.ann)
	writer := w.begin(t, track)
	w.speak(t, writer, track, upTo(3)...)
	w.sealer.Close()
	refused(t, writer.Put(w.grant(t, w.ann), 3, sound(track.ID, 3)), yesline.Conflict)
	refused(t, writer.End(t.Context()), yesline.Unavailable)
	_, err := w.sealer.Begin(t.Context(), w.grant(t, w.ann), w.track(w.ann))
	refused(t, err, yesline.Unavailable)
	ok(t, w.opener.Recover(t.Context()))
	ok(t, w.opener.Finish(t.Context(), track.ID))
	w.hears(t, track, 3, upTo(3)...)
}

// BenchmarkRead is a 64 KiB range of a voice in a file: consent asked again,
// key unwrapped, eight seconds checked and opened. Session, gate and log entry
// come on top.
func BenchmarkRead(b *testing.B) {
	w := newWorld(b, dbtest.SQLite(b), onDisk(b, b.TempDir()))
	track := w.record(b, w.ann, upTo(120)...)
	who := w.signIn(b, w.ann)
	p, at := w.permit(b, who, access.Listen, track.ID), time.Now()
	b.SetBytes(8 * vault.SlotSize)
	for n := int64(0); b.Loop(); n++ {
		if time.Since(at) > access.PermitTime/2 {
			p, at = w.permit(b, who, access.Listen, track.ID), time.Now()
		}
		if got, err := w.opener.Read(b.Context(), p, track.ID, n*7%112, 8); err != nil || len(got) != 8 {
			b.Fatal(len(got), err)
		}
	}
}

// BenchmarkPut is a second of one voice on its way to the queue.
func BenchmarkPut(b *testing.B) {
	w := newWorld(b, dbtest.SQLite(b), onDisk(b, b.TempDir()))
	lease := w.lease(b, w.ann)
	var writer *vault.Writer
	second := sound("trk", 0)
	for n := int64(0); b.Loop(); n++ {
		n := n % vault.MaxSeconds
		if n == 0 {
			writer = w.begin(b, w.track(w.ann))
		}
		g, err := lease.Grant(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if err := writer.Put(g, n, second); err != nil && !errors.Is(err, yesline.Unavailable) {
			b.Fatal(err)
		}
	}
}

// How much of a voice is speech is counted once, with its waveform: in the log,
// and in the books, or in neither.
func TestSpeechIsCountedOnce(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		w := newWorld(t, open, &vaulttest.Memory{})
		ctx := t.Context()
		g := must[consent.Grant](t)(w.consent.Kept(ctx, w.call, w.ann))
		counted := func(track vault.Track, measured bool, millis int64) {
			t.Helper()
			if is := w.state(t, track.ID); is.Measured != measured || is.SpeechMillis != millis {
				t.Errorf("the books say %v %d ms, want %v %d", is.Measured, is.SpeechMillis, measured, millis)
			}
		}
		track := w.record(t, w.ann, 0, 1)
		for _, millis := range []int64{-1, 2001} {
			refused(t, w.opener.SealPeaks(ctx, g, track.ID, []byte("peaks"), millis), yesline.Invalid)
		}
		refused(t, w.opener.SealPeaks(ctx, consent.Grant{}, track.ID, []byte("peaks"), 10), yesline.Denied)
		counted(track, false, 0)

		log := w.opener.Log
		w.opener.Log = unwritten{w.Log}
		refused(t, w.opener.SealPeaks(ctx, g, track.ID, []byte("peaks"), 1510), yesline.Unavailable)
		counted(track, false, 0)
		w.opener.Log = log
		for _, millis := range []int64{1510, 900} {
			ok(t, w.opener.SealPeaks(ctx, g, track.ID, []byte("peaks"), millis))
			counted(track, true, 1510)
		}
		var ref audit.Ref
		ok(t, w.Content.QueryRow(ctx, `SELECT ref_db, ref_leaf FROM vault_renditions WHERE track = $1`, string(track.ID)).Scan(&ref.DB, &ref.Leaf))
		if e := w.entry(t, ref); e.Verb != "rendition.closed" || e.Object != string(track.ID) || e.Detail["speech_ms"] != "1510" {
			t.Errorf("the log says %+v", e)
		}

		empty := w.record(t, w.ann)
		ok(t, w.opener.SealPeaks(ctx, g, empty.ID, nil, 0))
		counted(empty, true, 0)

		old := w.record(t, w.ann, 0)
		ok(t, w.opener.SealRendition(ctx, g, old.ID, vault.Peaks, []byte("peaks")))
		ok(t, w.opener.SealPeaks(ctx, g, old.ID, []byte("peaks"), 500))
		counted(old, false, 0) // the log would not say so

		cut := w.track(w.ann) // by a crash, before the first floor
		w.speak(t, w.begin(t, cut), cut, 0, 1, 2)
		w.sealer.Close()
		w.exec(t, `UPDATE vault_tracks SET state = 'open', floor = 0, sealed = 0 WHERE id = $1`, string(cut.ID))
		ok(t, w.opener.Recover(ctx))
		ok(t, w.opener.Finish(ctx, cut.ID))
		ok(t, w.opener.SealPeaks(ctx, g, cut.ID, []byte("peaks"), 2900))
		counted(cut, true, 2900)
	})
}

// unwritten is a log that fails as it writes, so the transaction is rolled back.
type unwritten struct{ *audit.Log }

func (l unwritten) Record(ctx context.Context, tx *db.Tx, e audit.Entry) (audit.Ref, error) {
	_, err := l.Log.Record(ctx, tx, e)
	return audit.Ref{}, errors.Join(err, yesline.Unavailable)
}
