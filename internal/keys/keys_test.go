package keys_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
	"yesline/internal/keys"
	"yesline/internal/keys/file"
	"yesline/internal/keys/keystest"
)

func TestFileRoot(t *testing.T) {
	t.Parallel()
	keystest.TestRoot(t, func(t *testing.T) keys.Root {
		path := filepath.Join(t.TempDir(), "root.key")
		if err := file.Create(path); err != nil {
			t.Fatal(err)
		}
		root, err := file.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		return root
	})
}

func TestFileRootRefusesOpenFilesAndWrongSizes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "root.key")
	if err := file.Create(path); err != nil {
		t.Fatal(err)
	}
	if err := file.Create(path); err == nil {
		t.Error("Create wrote over a root key")
	}
	os.Chmod(path, 0o640)
	if _, err := file.Open(path); !errors.Is(err, yesline.Denied) {
		t.Errorf("a root key that others read: %v", err)
	}
	os.Chmod(path, 0o600)
	os.Truncate(path, 31)
	if _, err := file.Open(path); !errors.Is(err, yesline.Invalid) {
		t.Errorf("a short root key: %v", err)
	}
}

func TestTrackKeysLiveAndDie(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		ctx := t.Context()
		h := keystest.Open(t, open)
		program := h.Program(t)
		ann, track := h.Person(t, program), yesline.NewTrackID()
		if _, err := h.Keys.MintTrack(ctx, program, ann, track); !errors.Is(err, yesline.NotFound) {
			t.Fatalf("a track key before the yes: %v", err)
		}
		for range 2 {
			if err := h.Keys.MintVoice(ctx, program, ann); err != nil {
				t.Fatal(err)
			}
		}
		key, err := h.Keys.MintTrack(ctx, program, ann, track)
		if err != nil {
			t.Fatal(err)
		}
		opens := func(when string) {
			t.Helper()
			got, err := h.Keys.OpenTrack(ctx, program, ann, track)
			if err != nil || !bytes.Equal(got.Bytes(), key.Bytes()) {
				t.Fatalf("%s: the key does not open: %v", when, err)
			}
		}
		opens("live")
		for range 2 {
			if err := h.Keys.CloseTrack(ctx, program, ann, track); err != nil {
				t.Fatal(err)
			}
		}
		opens("closed")
		bob := h.Person(t, program)
		if _, err := h.Keys.OpenTrack(ctx, program, bob, track); !errors.Is(err, yesline.NotFound) {
			t.Errorf("bob asks for ann's key: %v", err)
		}
		if _, err := h.Keys.DestroyTrack(ctx, program, bob, track); !errors.Is(err, yesline.Tampered) {
			t.Errorf("bob's row asks to destroy ann's key: %v", err)
		}
		opens("after that")
		if ref, err := h.Keys.DestroyTrack(ctx, program, ann, track); err != nil || ref.Leaf == "" {
			t.Fatalf("destroying: %v %v", ref, err)
		}
		if ref, err := h.Keys.DestroyTrack(ctx, program, ann, track); err != nil || ref.Leaf != "" {
			t.Errorf("destroying again: %v %v", ref, err)
		}
		if _, err := h.Keys.OpenTrack(ctx, program, ann, track); !errors.Is(err, yesline.NotFound) {
			t.Errorf("a destroyed key: %v", err)
		}
	})
}

// A wrapped key moved to another row opens nothing: its place is bound in.
func TestMovedKeysDoNotOpen(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		ctx := t.Context()
		h := keystest.Open(t, open)
		program := h.Program(t)
		ann, bob := h.Person(t, program), h.Person(t, program)
		tracks := map[yesline.PersonID]yesline.TrackID{}
		for _, p := range []yesline.PersonID{ann, bob} {
			tracks[p] = yesline.NewTrackID()
			if err := h.Keys.MintVoice(ctx, program, p); err != nil {
				t.Fatal(err)
			}
			if _, err := h.Keys.MintTrack(ctx, program, p, tracks[p]); err != nil {
				t.Fatal(err)
			}
			if err := h.Keys.CloseTrack(ctx, program, p, tracks[p]); err != nil {
				t.Fatal(err)
			}
		}
		move := func(q string) {
			t.Helper()
			if err := h.KeysDB.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
				_, err := tx.Exec(ctx, q, string(ann), string(bob))
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		move(`UPDATE track_keys SET wrapped = (SELECT wrapped FROM track_keys WHERE person = $1) WHERE person = $2`)
		if _, err := h.Keys.OpenTrack(ctx, program, bob, tracks[bob]); !errors.Is(err, yesline.Tampered) {
			t.Errorf("ann's track key in bob's row: %v", err)
		}
		second := open("keys") // another node, with nothing cached
		k, err := keys.Open(ctx, second, h.Root, h.Log)
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		move(`UPDATE person_keys SET wrapped = (SELECT wrapped FROM person_keys WHERE person = $1) WHERE person = $2`)
		if _, err := k.OpenTrack(ctx, program, bob, tracks[bob]); !errors.Is(err, yesline.Tampered) {
			t.Errorf("ann's person key in bob's row: %v", err)
		}
	})
}

// Who writes the keys database cannot have voices sealed to a key of their own.
func TestAForeignPublicKeyIsNotSealedTo(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		ctx := t.Context()
		h := keystest.Open(t, open)
		program := h.Program(t)
		ann, eve := h.Person(t, program), h.Person(t, program)
		for _, p := range []yesline.PersonID{ann, eve} {
			if err := h.Keys.MintVoice(ctx, program, p); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.KeysDB.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE person_keys SET public = (SELECT public FROM person_keys WHERE person = $1),
				vouched = (SELECT vouched FROM person_keys WHERE person = $1) WHERE person = $2`, string(eve), string(ann))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Keys.MintTrack(ctx, program, ann, yesline.NewTrackID()); !errors.Is(err, yesline.Tampered) {
			t.Errorf("a track for ann under eve's public key: %v", err)
		}
	})
}

func TestAWrongRootIsNamedAndTouchesNothing(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		ctx := t.Context()
		h := keystest.Open(t, open)
		path := filepath.Join(t.TempDir(), "other.key")
		if err := file.Create(path); err != nil {
			t.Fatal(err)
		}
		other, err := file.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = keys.Open(ctx, h.KeysDB, other, h.Log)
		if !errors.Is(err, yesline.Denied) || !strings.Contains(err.Error(), h.Keys.House()) {
			t.Errorf("a wrong root: %v", err)
		}
		again, err := keys.Open(ctx, h.KeysDB, h.Root, h.Log)
		if err != nil || again.House() != h.Keys.House() {
			t.Fatalf("the right root afterwards: %v", err)
		}
		again.Close()
	})
}

func TestFieldsAreBoundToTheirPlace(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	h := keystest.Open(t, dbtest.SQLite(t))
	a, b := h.Program(t), h.Program(t)
	sealed, err := h.Keys.SealFor(ctx, a, keys.People, []byte("row 1"), []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := h.Keys.OpenFor(ctx, a, keys.People, []byte("row 1"), sealed); err != nil || string(plain) != "hello" {
		t.Errorf("got %q, %v", plain, err)
	}
	for _, c := range []struct {
		program yesline.ProgramID
		purpose string
		place   string
	}{{a, keys.People, "row 2"}, {a, keys.Session, "row 1"}, {b, keys.People, "row 1"}} {
		if _, err := h.Keys.OpenFor(ctx, c.program, c.purpose, []byte(c.place), sealed); !errors.Is(err, yesline.Tampered) {
			t.Errorf("%v: got %v, want Tampered", c, err)
		}
	}
	if _, err := h.Keys.SealFor(ctx, a, "voice", nil, nil); !errors.Is(err, yesline.Invalid) {
		t.Errorf("sealing a field under the voices' key: %v", err)
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	h := keystest.Open(t, dbtest.SQLite(t))
	program := h.Program(t)
	ann := h.Person(t, program)
	h.Keys.MintVoice(ctx, program, ann)
	key, err := h.Keys.MintTrack(ctx, program, ann, yesline.NewTrackID())
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if got := fmt.Sprintf(verb, key); got != "[key]" {
			t.Errorf("%s prints %q", verb, got)
		}
		if got := fmt.Sprintf(verb, struct{ k keys.Data }{key}); strings.Contains(got, fmt.Sprintf("%x", key.Bytes()[:4])) {
			t.Errorf("%s of a struct shows the key", verb)
		}
	}
}

// A node forgets its cached keys when another node destroys some.
func TestADestroyedPersonIsGoneEverywhere(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		ctx := t.Context()
		h := keystest.Open(t, open)
		program := h.Program(t)
		ann := h.Person(t, program)
		if _, err := h.Log.Append(ctx, audit.Entry{Program: program, Actor: string(ann), Verb: "test", Result: "done", Subjects: []yesline.PersonID{ann}}); err != nil {
			t.Fatal(err)
		}
		if err := h.Keys.Forget(ctx, ann); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Log.About(ctx, ann, "", 0, 10); !errors.Is(err, yesline.NotFound) {
			t.Errorf("the log of an erased person: %v", err)
		}
		if r, err := h.Log.Verify(ctx); err != nil || len(r.Problems) > 0 {
			t.Errorf("the log after an erasure: %v %v", r.Problems, err)
		}
	})
}
