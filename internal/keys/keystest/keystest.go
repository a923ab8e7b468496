// Package keystest is the contract that every root driver passes, and the
// smallest real house (three databases, a log, keys) for tests of other rooms.
package keystest

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/db"
	"yesline/internal/keys"
	"yesline/internal/keys/file"
)

// TestRoot is the contract of keys.Root. make gives a new, independent root.
func TestRoot(t *testing.T, make func(t *testing.T) keys.Root) {
	ctx := context.Background()
	root := make(t)
	wrapped, err := root.Wrap(ctx, []byte("here"), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(wrapped, []byte("secret")) {
		t.Error("the wrapped value shows the secret")
	}
	if plain, err := root.Unwrap(ctx, []byte("here"), wrapped); err != nil || string(plain) != "secret" {
		t.Errorf("unwrapping gives %q, %v", plain, err)
	}
	again, _ := root.Wrap(ctx, []byte("here"), []byte("secret"))
	if bytes.Equal(again, wrapped) {
		t.Error("the same secret wraps to the same bytes")
	}
	refuses := func(what string, r keys.Root, context, wrapped []byte) {
		t.Helper()
		if plain, err := r.Unwrap(ctx, context, wrapped); !errors.Is(err, yesline.Tampered) || plain != nil {
			t.Errorf("%s: got %q, %v, want Tampered", what, plain, err)
		}
	}
	refuses("another context", root, []byte("there"), wrapped)
	refuses("another root", make(t), []byte("here"), wrapped)
	refuses("cut", root, []byte("here"), wrapped[:len(wrapped)-1])
	refuses("nothing", root, []byte("here"), nil)
	for i := range wrapped {
		flipped := bytes.Clone(wrapped)
		flipped[i] ^= 1
		refuses("flipped", root, []byte("here"), flipped)
	}
}

// House is a log and keys over real databases.
type House struct {
	People, KeysDB, Content *db.DB
	Log                     *audit.Log
	Keys                    *keys.Keys
	Root                    keys.Root
}

// Open builds a House on the databases that open gives (dbtest) and closes it
// with the test.
func Open(t testing.TB, open func(name string) *db.DB) *House {
	t.Helper()
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "root.key")
	if err := file.Create(path); err != nil {
		t.Fatal(err)
	}
	root, err := file.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	h := &House{People: open("people"), KeysDB: open("keys"), Content: open("content"), Root: root}
	if h.Log, err = audit.Open(ctx, h.People, h.KeysDB, h.Content); err != nil {
		t.Fatal(err)
	}
	if h.Keys, err = keys.Open(ctx, h.KeysDB, root, h.Log); err != nil {
		t.Fatal(err)
	}
	h.Log.Begin(h.Keys.Audit(), slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		h.Log.Close()
		h.Keys.Close()
	})
	return h
}

// Program makes a program with keys.
func (h *House) Program(t testing.TB) yesline.ProgramID {
	t.Helper()
	id := yesline.NewProgramID()
	if err := h.Keys.AddProgram(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	return id
}

// Person makes a person with keys.
func (h *House) Person(t testing.TB, program yesline.ProgramID) yesline.PersonID {
	t.Helper()
	id := yesline.NewPersonID()
	if err := h.Keys.AddPerson(context.Background(), program, id); err != nil {
		t.Fatal(err)
	}
	return id
}
