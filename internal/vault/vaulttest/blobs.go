package vaulttest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"yesline"
	"yesline/internal/vault"
)

// TestBlobs is the contract of a driver: open gives a new and empty one.
func TestBlobs(t *testing.T, open func(t *testing.T) vault.Blobs) {
	for name, story := range map[string]func(*testing.T, vault.Blobs){
		"reads what was written":                readsBack,
		"is like a file, however it is asked":   likeAFile,
		"leaves holes of zeros":                 holes,
		"ends where it was written to":          ends,
		"does not know what is absent":          absent,
		"deletes, and again, and begins anew":   deletes,
		"refuses names that are not ids":        names,
		"refuses what no track can hold":        spans,
		"takes many writers at once":            writers,
		"does nothing for who has gone":         canceled,
		"keeps one blob's bytes from another's": apart,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			story(t, open(t))
		})
	}
}

func newName() string { return string(yesline.NewTrackID()) }

func write(t *testing.T, b vault.Blobs, name string, p []byte, off int64) {
	t.Helper()
	if err := b.WriteAt(t.Context(), name, p, off); err != nil {
		t.Fatalf("writing %d bytes at %d: %v", len(p), off, err)
	}
}

// reads checks that n bytes at off are want, and that the error is io.EOF
// exactly when fewer came.
func reads(t *testing.T, b vault.Blobs, name string, n int, off int64, want []byte) {
	t.Helper()
	got := make([]byte, n)
	read, err := b.ReadAt(t.Context(), name, got, off)
	if !bytes.Equal(got[:read], want) {
		t.Fatalf("reading %d bytes at %d gave %d bytes that are not the %d wanted", n, off, read, len(want))
	}
	if len(want) < n && !errors.Is(err, io.EOF) || len(want) == n && err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("reading %d bytes at %d: got error %v", n, off, err)
	}
}

func readsBack(t *testing.T, b vault.Blobs) {
	name := newName()
	write(t, b, name, []byte("sealed"), 0)
	if err := b.Sync(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	reads(t, b, name, 6, 0, []byte("sealed"))
	reads(t, b, name, 3, 2, []byte("ale"))
	write(t, b, name, []byte("AL"), 2)
	reads(t, b, name, 6, 0, []byte("seALed"))
	part := name + ".leaves"
	write(t, b, part, []byte("leaf"), 0)
	reads(t, b, part, 4, 0, []byte("leaf"))
}

func likeAFile(t *testing.T, b vault.Blobs) {
	name, dice := newName(), rand.New(rand.NewPCG(1, 2))
	var file []byte
	for range 60 {
		off, p := dice.IntN(60_000), make([]byte, 1+dice.IntN(20_000))
		for i := range p {
			p[i] = byte(dice.Uint32())
		}
		write(t, b, name, p, int64(off))
		if grow := off + len(p) - len(file); grow > 0 {
			file = append(file, make([]byte, grow)...)
		}
		copy(file[off:], p)
		from := dice.IntN(len(file))
		n := 1 + dice.IntN(20_000)
		reads(t, b, name, n, int64(from), file[from:min(len(file), from+n)])
	}
}

func holes(t *testing.T, b vault.Blobs) {
	name := newName()
	write(t, b, name, []byte("far"), 10*page+5)
	reads(t, b, name, 3*page, page, make([]byte, 3*page))
	reads(t, b, name, 8, 10*page, []byte("\x00\x00\x00\x00\x00far"))
}

func ends(t *testing.T, b vault.Blobs) {
	name := newName()
	write(t, b, name, []byte("end"), 0)
	reads(t, b, name, 10, 0, []byte("end"))
	reads(t, b, name, 10, 3, nil)
	reads(t, b, name, 10, 100_000, nil)
}

func absent(t *testing.T, b vault.Blobs) {
	if _, err := b.ReadAt(t.Context(), newName(), make([]byte, 1), 0); !errors.Is(err, yesline.NotFound) {
		t.Errorf("reading what is absent: got %v, want not found", err)
	}
	if err := b.Sync(t.Context(), newName()); !errors.Is(err, yesline.NotFound) {
		t.Errorf("syncing what is absent: got %v, want not found", err)
	}
}

func deletes(t *testing.T, b vault.Blobs) {
	name := newName()
	write(t, b, name, bytes.Repeat([]byte("x"), 3*page), 0)
	for range 2 {
		if err := b.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if _, err := b.ReadAt(t.Context(), name, make([]byte, 1), 0); !errors.Is(err, yesline.NotFound) {
			t.Fatalf("reading what was deleted: got %v, want not found", err)
		}
	}
	write(t, b, name, []byte("new"), page)
	reads(t, b, name, page+3, 0, append(make([]byte, page), "new"...))
}

func names(t *testing.T, b vault.Blobs) {
	id := newName()
	for _, name := range []string{"", ".", "..", "/", "../" + id, id + "/x", "/" + id, id + ".", id + "..", id + ".A", id + ".a.b",
		id + "\x00", id[:len(id)-1], id + "a", "per" + id[3:], "trk_" + "../../../../../etc/passwd-of-who",
		id + ".aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "TRK" + id[3:], id + " "} {
		_, readErr := b.ReadAt(t.Context(), name, make([]byte, 1), 0)
		for verb, err := range map[string]error{"write": b.WriteAt(t.Context(), name, []byte("x"), 0), "read": readErr,
			"sync": b.Sync(t.Context(), name), "delete": b.Delete(t.Context(), name)} {
			if !errors.Is(err, yesline.Invalid) {
				t.Errorf("to %s %q: got %v, want invalid", verb, name, err)
			}
		}
	}
}

func spans(t *testing.T, b vault.Blobs) {
	name := newName()
	for _, off := range []int64{-1, vault.MaxBlob, vault.MaxBlob + 1, 1 << 62} {
		if err := b.WriteAt(t.Context(), name, []byte("xy"), off); !errors.Is(err, yesline.Invalid) {
			t.Errorf("writing at %d: got %v, want invalid", off, err)
		}
		if _, err := b.ReadAt(t.Context(), name, make([]byte, 2), off); !errors.Is(err, yesline.Invalid) {
			t.Errorf("reading at %d: got %v, want invalid", off, err)
		}
	}
	write(t, b, name, []byte("xy"), vault.MaxBlob-2)
}

func writers(t *testing.T, b vault.Blobs) {
	shared := newName()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			own, p := newName(), bytes.Repeat([]byte{byte(w + 1)}, page)
			for n := range int64(8) {
				if err := errors.Join(b.WriteAt(t.Context(), own, p, n*page), b.WriteAt(t.Context(), shared, p, int64(w)*page)); err != nil {
					t.Error(err)
				}
			}
			if err := b.Sync(t.Context(), own); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for w := range 8 {
		reads(t, b, shared, page, int64(w)*page, bytes.Repeat([]byte{byte(w + 1)}, page))
	}
}

func canceled(t *testing.T, b vault.Blobs) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	name := newName()
	if err := b.WriteAt(ctx, name, []byte("x"), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("writing: got %v, want canceled", err)
	}
	if _, err := b.ReadAt(t.Context(), name, make([]byte, 1), 0); !errors.Is(err, yesline.NotFound) {
		t.Errorf("something was written: %v", err)
	}
}

func apart(t *testing.T, b vault.Blobs) {
	name := newName()
	write(t, b, name, []byte("voice"), 0)
	write(t, b, name+".leaves", []byte("leaves"), 0)
	if err := b.Delete(t.Context(), name+".leaves"); err != nil {
		t.Fatal(err)
	}
	reads(t, b, name, 5, 0, []byte("voice"))
}
