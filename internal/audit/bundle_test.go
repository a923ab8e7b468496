package audit_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
	"yesline/internal/keys/keystest"
)

// published reads the log as outsiders do.
func published(l *audit.Log) func(ctx context.Context, path string) ([]byte, error) {
	return func(ctx context.Context, path string) ([]byte, error) {
		if path == "checkpoint" {
			cp, err := l.Checkpoint(ctx)
			return []byte(cp.Note), err
		}
		level, n, width, err := audit.ParseTilePath(strings.TrimPrefix(path, "tile/"))
		if err != nil {
			return nil, err
		}
		return l.Tile(ctx, level, n, width)
	}
}

// foreign is the tree as somebody else's implementation of RFC 6962 computes
// it from the leaf hashes that a bundle holds.
func foreign(t *testing.T, folder string) (leaves [][]byte, root []byte) {
	t.Helper()
	edge := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	size, _ := readNote(t, folder)
	for n := uint64(0); n*256 < size; n++ {
		width := min(256, size-n*256)
		data, err := os.ReadFile(filepath.Join(folder, "tile", filepath.FromSlash(audit.TilePath(0, int64(n), int(width)))))
		if err != nil {
			t.Fatal(err)
		}
		for ; len(data) > 0; data = data[32:] {
			leaves = append(leaves, data[:32])
			if err := edge.Append(data[:32], nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	root, err := edge.GetRootHash(nil)
	if err != nil {
		t.Fatal(err)
	}
	return leaves, root
}

func readNote(t *testing.T, folder string) (size uint64, root []byte) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	if size, err = strconv.ParseUint(lines[1], 10, 64); err != nil {
		t.Fatal(err)
	}
	if root, err = base64.StdEncoding.DecodeString(lines[2]); err != nil {
		t.Fatal(err)
	}
	return size, root
}

// What an outsider saves holds the house to its word: another implementation of
// RFC 6962 finds the same root, and a receipt's leaf in it.
func TestAForeignVerifierAgrees(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		ctx, h, folder := t.Context(), keystest.Open(t, open), t.TempDir()
		_, ann, refs := story(t, h, 300)
		f, err := audit.Fetch(ctx, published(h.Log), folder, h.Log.VerifierKey())
		if err != nil || f.Before != 0 {
			t.Fatalf("fetching: %+v %v", f, err)
		}
		size, signed := readNote(t, folder)
		leaves, root := foreign(t, folder)
		if string(root) != string(signed) || uint64(len(leaves)) != size {
			t.Fatalf("the foreign root of %d leaves is not the one signed over %d", len(leaves), size)
		}
		data, err := h.Log.Receipt(ctx, refs[299], ann)
		if err != nil {
			t.Fatal(err)
		}
		var receipt struct {
			Leaf       []byte
			Index      uint64
			Proof      [][]byte
			Checkpoint string
		}
		if err := json.Unmarshal(data, &receipt); err != nil {
			t.Fatal(err)
		}
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, receipt.Index, size, rfc6962.DefaultHasher.HashLeaf(receipt.Leaf), receipt.Proof, signed); err != nil {
			t.Errorf("a receipt by the foreign verifier: %v", err)
		}
		if _, err := note.Open([]byte(receipt.Checkpoint), note.VerifierList(verifier(t, h.Log))); err != nil {
			t.Errorf("the signature: %v", err)
		}

		// The log grows, and still begins with what was saved.
		story(t, h, 500)
		f, err = audit.Fetch(ctx, published(h.Log), folder, h.Log.VerifierKey())
		if err != nil || f.Before != int64(size) || f.Entries <= f.Before {
			t.Errorf("fetching again: %+v %v", f, err)
		}
		if _, root := foreign(t, folder); f.Root != base64.StdEncoding.EncodeToString(root) {
			t.Error("the foreign root differs after the log grew")
		}
		if f, err = audit.VerifyBundle(ctx, folder, h.Log.VerifierKey()); err != nil || f.Tiles < 4 {
			t.Errorf("verifying offline: %+v %v", f, err)
		}
	})
}

func verifier(t *testing.T, l *audit.Log) note.Verifier {
	t.Helper()
	v, err := note.NewVerifier(l.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A bundle in which anything was changed is refused, and so is a log that goes
// on from something else than what was saved; the folder stays as it was.
func TestAChangedBundleIsRefused(t *testing.T) {
	t.Parallel()
	ctx, h, other := t.Context(), keystest.Open(t, dbtest.SQLite(t)), keystest.Open(t, dbtest.SQLite(t))
	story(t, h, 300)
	story(t, other, 400)
	key := h.Log.VerifierKey()
	fresh := func() string {
		folder := t.TempDir()
		if _, err := audit.Fetch(ctx, published(h.Log), folder, key); err != nil {
			t.Fatal(err)
		}
		return folder
	}
	size, _ := readNote(t, fresh())
	for _, path := range []string{"tile/0/000", "tile/" + audit.TilePath(0, 1, int(size-256)), "tile/1/000.p/1", "checkpoint"} {
		folder := fresh()
		file := filepath.Join(folder, filepath.FromSlash(path))
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := audit.VerifyBundle(ctx, folder, key); !errors.Is(err, yesline.Tampered) {
			t.Errorf("%s changed: %v", path, err)
		}
		if _, err := audit.Fetch(ctx, published(h.Log), folder, key); path != "tile/1/000.p/1" && !errors.Is(err, yesline.Tampered) {
			t.Errorf("fetching on top of a changed %s: %v", path, err)
		}
	}
	folder := fresh()
	if _, err := audit.VerifyBundle(ctx, folder, other.Log.VerifierKey()); !errors.Is(err, yesline.Tampered) {
		t.Errorf("under another key: %v", err)
	}
	if _, err := audit.Fetch(ctx, published(other.Log), folder, other.Log.VerifierKey()); !errors.Is(err, yesline.Tampered) {
		t.Errorf("another log into the folder: %v", err)
	}
	story(t, h, 10)
	lying := func(ctx context.Context, path string) ([]byte, error) {
		data, err := published(h.Log)(ctx, path)
		if strings.HasPrefix(path, "tile/0/001") && err == nil {
			data[len(data)-1] ^= 1
		}
		return data, err
	}
	if _, err := audit.Fetch(ctx, lying, folder, key); !errors.Is(err, yesline.Tampered) {
		t.Errorf("a server that lies about a leaf: %v", err)
	}
	if f, err := audit.VerifyBundle(ctx, folder, key); err != nil || f.Entries != int64(size) {
		t.Errorf("after a refused fetch the folder is not as it was: %+v %v", f, err)
	}
	if _, err := audit.Fetch(ctx, published(h.Log), folder, key); err != nil {
		t.Errorf("and it can go on: %v", err)
	}
}

// Nothing is published beyond what is signed.
func TestTilesEndWhereTheCheckpointDoes(t *testing.T) {
	t.Parallel()
	ctx, h := t.Context(), keystest.Open(t, dbtest.SQLite(t))
	story(t, h, 300)
	cp, err := h.Log.Checkpoint(ctx)
	if err != nil {
		t.Fatal(err)
	}
	rest := int(cp.Size - 256)
	for _, c := range []struct {
		level int
		n     int64
		width int
		there bool
	}{{0, 0, 256, true}, {0, 1, rest, true}, {0, 1, 1, true}, {0, 1, rest + 1, false}, {0, 1, 256, false}, {0, 2, 1, false}, {1, 0, 1, true},
		{1, 0, 2, false}, {1, 0, 256, false}, {2, 0, 1, false}, {7, 0, 1, false}, {-1, 0, 1, false}, {8, 0, 1, false}, {0, -1, 1, false},
		{0, 0, 0, false}, {0, 0, 257, false}, {7, 1 << 61, 256, false}, {0, 1 << 62, 1, false}} {
		data, err := h.Log.Tile(ctx, c.level, c.n, c.width)
		if there := err == nil; there != c.there || there && len(data) != 32*c.width || !there && !errors.Is(err, yesline.NotFound) {
			t.Errorf("tile %d/%d of %d: %d bytes, %v", c.level, c.n, c.width, len(data), err)
		}
	}
}

func TestTilePaths(t *testing.T) {
	t.Parallel()
	for path, want := range map[string][3]int64{"0/000": {0, 0, 256}, "0/067.p/1": {0, 67, 1}, "1/x001/x234/067": {1, 1234067, 256}, "2/x001/000.p/255": {2, 1000, 255}} {
		level, n, width, err := audit.ParseTilePath(path)
		if err != nil || [3]int64{int64(level), n, int64(width)} != want || audit.TilePath(level, n, width) != path {
			t.Errorf("%s: %d %d %d %v", path, level, n, width, err)
		}
	}
	for _, path := range []string{"", "0", "0/", "0/0", "0/0000", "0/x000", "0/x000/000", "8/000", "-1/000", "0/000.p/0", "0/000.p/256", "0/000.p/01", "+0/000",
		"0/../000", "0/000/", "/0/000", "0/001/067", "0/x001/x067", "0/" + strings.Repeat("x999/", 20) + "999"} {
		if _, _, _, err := audit.ParseTilePath(path); !errors.Is(err, yesline.NotFound) {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func FuzzParseTilePath(f *testing.F) {
	f.Add("0/x001/x234/067.p/5")
	f.Fuzz(func(t *testing.T, path string) {
		level, n, width, err := audit.ParseTilePath(path)
		if err == nil && (audit.TilePath(level, n, width) != path || level < 0 || n < 0 || width < 1 || width > 256) {
			t.Errorf("%q is %d %d %d", path, level, n, width)
		}
	})
}
