package keys_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
	"yesline/internal/keys"
	"yesline/internal/keys/keystest"
)

func each(t *testing.T, story func(t *testing.T, h *keystest.House, open func(string) *db.DB)) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) { story(t, keystest.Open(t, open), open) })
}

func change(t *testing.T, d *db.DB, q string, args ...any) {
	t.Helper()
	if err := d.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, q, args...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// bind spells a context as keys does, so that a story can wrap with the true
// root what keys never would.
func bind(parts ...string) []byte {
	var b []byte
	for _, p := range parts {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(p))), p...)
	}
	return b
}

// voiced makes a person with a key pair and one track.
func voiced(t *testing.T, h *keystest.House, program yesline.ProgramID) (yesline.PersonID, yesline.TrackID, keys.Data) {
	t.Helper()
	person, track := h.Person(t, program), yesline.NewTrackID()
	if err := h.Keys.MintVoice(t.Context(), program, person); err != nil {
		t.Fatal(err)
	}
	key, err := h.Keys.MintTrack(t.Context(), program, person, track)
	if err != nil {
		t.Fatal(err)
	}
	return person, track, key
}

// A house does not open, and makes no new key, when that of its log was
// changed: by who has the database alone, or the root too.
func TestAChangedSigningKeyOpensNoHouse(t *testing.T) {
	each(t, func(t *testing.T, h *keystest.House, open func(string) *db.DB) {
		ctx := t.Context()
		short, err := h.Root.Wrap(ctx, bind("house", h.Keys.House(), "signer"), make([]byte, 31))
		if err != nil {
			t.Fatal(err)
		}
		var was []byte
		if err := h.KeysDB.QueryRow(ctx, `SELECT signer FROM house_keys`).Scan(&was); err != nil {
			t.Fatal(err)
		}
		for name, signer := range map[string][]byte{"31 bytes": short, "nothing": {}, "cut": was[:len(was)-1]} {
			change(t, h.KeysDB, `UPDATE house_keys SET signer = $1`, signer)
			if _, err := keys.Open(ctx, open("keys"), h.Root, h.Log); !errors.Is(err, yesline.Tampered) {
				t.Errorf("%s: got %v, want does not match", name, err)
			}
		}
		change(t, h.KeysDB, `UPDATE house_keys SET signer = $1`, was)
		again, err := keys.Open(ctx, open("keys"), h.Root, h.Log)
		if err != nil {
			t.Fatal(err)
		}
		again.Close()
	})
}

// A key of another size is none, whoever wrapped it.
func TestAShortKeyIsNone(t *testing.T) {
	each(t, func(t *testing.T, h *keystest.House, _ func(string) *db.DB) {
		program := h.Program(t)
		for _, size := range []int{0, 31, 33} {
			wrapped, err := h.Root.Wrap(t.Context(), bind("program", string(program), keys.Index), make([]byte, size))
			if err != nil {
				t.Fatal(err)
			}
			change(t, h.KeysDB, `UPDATE program_keys SET wrapped = $1 WHERE program = $2 AND purpose = $3`, wrapped, string(program), keys.Index)
			if _, err := h.Keys.MACFor(t.Context(), program, keys.Index, []byte("x")); !errors.Is(err, yesline.Tampered) {
				t.Errorf("a key of %d bytes: got %v, want does not match", size, err)
			}
		}
	})
}

// Each program has its own keys; one that nobody added has none.
func TestEachProgramHasItsKeys(t *testing.T) {
	each(t, func(t *testing.T, h *keystest.House, _ func(string) *db.DB) {
		ctx := t.Context()
		for _, program := range []yesline.ProgramID{h.Program(t), h.Program(t), h.Program(t)} {
			sealed, err := h.Keys.SealFor(ctx, program, keys.People, []byte("row"), []byte("word"))
			if err != nil {
				t.Fatalf("sealing: %v", err)
			}
			if plain, err := h.Keys.OpenFor(ctx, program, keys.People, []byte("row"), sealed); err != nil || string(plain) != "word" {
				t.Errorf("opening: %q, %v", plain, err)
			}
		}
		stranger := yesline.NewProgramID()
		if _, err := h.Keys.SealFor(ctx, stranger, keys.People, nil, nil); !errors.Is(err, yesline.NotFound) {
			t.Errorf("sealing for a program that is not there: got %v, want not found", err)
		}
		if err := h.Keys.AddPerson(ctx, stranger, yesline.NewPersonID()); !errors.Is(err, yesline.NotFound) {
			t.Errorf("a person of a program that is not there: got %v, want not found", err)
		}
	})
}

// What was sealed opens whole and unchanged, or not at all.
func TestAChangedFieldDoesNotOpen(t *testing.T) {
	t.Parallel()
	h := keystest.Open(t, dbtest.SQLite(t))
	program := h.Program(t)
	sealed, err := h.Keys.SealFor(t.Context(), program, keys.People, []byte("row"), []byte("word"))
	if err != nil {
		t.Fatal(err)
	}
	refuses := func(what string, at int, sealed []byte) {
		t.Helper()
		if plain, err := h.Keys.OpenFor(t.Context(), program, keys.People, []byte("row"), sealed); !errors.Is(err, yesline.Tampered) || plain != nil {
			t.Errorf("%s at %d: got %q, %v, want does not match", what, at, plain, err)
		}
	}
	for i := range sealed {
		refuses("cut", i, sealed[:i])
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		refuses("changed", i, changed)
	}
	refuses("longer", len(sealed), append(bytes.Clone(sealed), 0))
}

// Asked for under another program, a person is not there: the answer is that
// for nobody, and nothing is made.
func TestAPersonIsInOneProgram(t *testing.T) {
	each(t, func(t *testing.T, h *keystest.House, _ func(string) *db.DB) {
		ctx := t.Context()
		program, other := h.Program(t), h.Program(t)
		ann, track, _ := voiced(t, h, program)
		for _, c := range []struct {
			name    string
			program yesline.ProgramID
			person  yesline.PersonID
		}{{"ann in another program", other, ann}, {"nobody", program, yesline.NewPersonID()}} {
			if err := h.Keys.MintVoice(ctx, c.program, c.person); !errors.Is(err, yesline.NotFound) {
				t.Errorf("%s, a key pair: got %v, want not found", c.name, err)
			}
			if _, err := h.Keys.MintTrack(ctx, c.program, c.person, yesline.NewTrackID()); !errors.Is(err, yesline.NotFound) {
				t.Errorf("%s, a track: got %v, want not found", c.name, err)
			}
			if _, err := h.Keys.OpenTrack(ctx, c.program, c.person, track); !errors.Is(err, yesline.NotFound) {
				t.Errorf("%s, opening: got %v, want not found", c.name, err)
			}
		}
	})
}

// A row that was moved to another program serves neither: not this one, though
// its key is remembered here, and not the other, whose key never wrapped it.
func TestAMovedRowServesNoProgram(t *testing.T) {
	each(t, func(t *testing.T, h *keystest.House, _ func(string) *db.DB) {
		ctx := t.Context()
		program, other := h.Program(t), h.Program(t)
		ann, track, _ := voiced(t, h, program)
		if _, err := h.Keys.OpenTrack(ctx, program, ann, track); err != nil {
			t.Fatal(err)
		}
		change(t, h.KeysDB, `UPDATE track_keys SET program = $1 WHERE track = $2`, string(other), string(track))
		for _, p := range []yesline.ProgramID{program, other} {
			if _, err := h.Keys.OpenTrack(ctx, p, ann, track); !errors.Is(err, yesline.NotFound) {
				t.Errorf("opening a moved track: got %v, want not found", err)
			}
		}
		change(t, h.KeysDB, `UPDATE person_keys SET program = $1, public = NULL, vouched = NULL, private = NULL WHERE person = $2`, string(other), string(ann))
		h.Keys.MintVoice(ctx, program, ann) // whatever it says, it writes nothing there
		var has bool
		if err := h.KeysDB.QueryRow(ctx, `SELECT public IS NOT NULL FROM person_keys WHERE person = $1`, string(ann)).Scan(&has); err != nil || has {
			t.Errorf("the other program's row got a key pair of this one (%v)", err)
		}
		if _, err := h.Keys.MintTrack(ctx, program, ann, yesline.NewTrackID()); !errors.Is(err, yesline.NotFound) {
			t.Errorf("a track for a moved person: got %v, want not found", err)
		}
	})
}

// Who is forgotten takes their own keys and nobody else's.
func TestForgettingOneLeavesTheOthers(t *testing.T) {
	each(t, func(t *testing.T, h *keystest.House, open func(string) *db.DB) {
		ctx := t.Context()
		program := h.Program(t)
		ann, hers, _ := voiced(t, h, program)
		bob, his, key := voiced(t, h, program)
		if err := h.Keys.Forget(ctx, ann); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Keys.OpenTrack(ctx, program, ann, hers); !errors.Is(err, yesline.NotFound) {
			t.Errorf("ann's track: got %v, want not found", err)
		}
		if got, err := h.Keys.OpenTrack(ctx, program, bob, his); err != nil || !bytes.Equal(got.Bytes(), key.Bytes()) {
			t.Errorf("bob's track does not open: %v", err)
		}
		for _, table := range []string{"track_keys", "person_keys"} {
			var ofAnn, all int
			if err := h.KeysDB.QueryRow(ctx, `SELECT COUNT(*), SUM(CASE WHEN person = $1 THEN 1 ELSE 0 END) FROM `+table, string(ann)).Scan(&all, &ofAnn); err != nil || ofAnn != 0 || all != 1 {
				t.Errorf("%s has %d rows, %d of ann (%v)", table, all, ofAnn, err)
			}
		}
	})
}

// A key is remembered for a minute, a program's for five: then the database is
// asked again, which alone says what there is.
func TestHowLongAKeyIsRemembered(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := keystest.Open(t, func(name string) *db.DB {
			d, err := db.Open(t.Context(), name, "sqlite:"+filepath.Join(folder, name+".db"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { d.Close() })
			return d
		})
		program := h.Program(t)
		ann, track, _ := voiced(t, h, program)
		later := h.Program(t)
		mark := func() error { _, err := h.Keys.MACFor(t.Context(), later, keys.Index, []byte("x")); return err }
		opens := func() error { _, err := h.Keys.OpenTrack(t.Context(), program, ann, track); return err }
		for name, c := range map[string]struct {
			uses func() error
			life time.Duration
			lose string
			id   string
		}{
			"a person's":  {opens, time.Minute, `UPDATE person_keys SET wrapped = private WHERE person = $1`, string(ann)},
			"a program's": {mark, 5 * time.Minute, `DELETE FROM program_keys WHERE program = $1`, string(later)},
		} {
			time.Sleep(c.life) // what was remembered before is asked for again
			if err := c.uses(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			change(t, h.KeysDB, c.lose, c.id) // without a word to anybody
			time.Sleep(c.life - 100*time.Millisecond)
			if err := c.uses(); err != nil {
				t.Errorf("%s key is not remembered for %v: %v", name, c.life, err)
			}
			time.Sleep(200 * time.Millisecond)
			if err := c.uses(); err == nil {
				t.Errorf("%s key is remembered for more than %v", name, c.life)
			}
		}
	})
}
