package audit_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
	"yesline/internal/keys/keystest"
)

// fork is a log that the house signed and that is not the house's log: its
// leaves are made up, its tiles are right for them unless lie changes one.
type fork struct {
	h      *keystest.House
	hashes []tlog.Hash
	size   int64 // that is signed
	lie    func(path string, tile []byte) []byte
}

func newFork(h *keystest.House, leaves int, salt string) *fork {
	f := &fork{h: h, size: int64(leaves)}
	for i := range leaves {
		f.hashes = append(f.hashes, tlog.RecordHash(fmt.Append(nil, salt, i)))
	}
	return f
}

func rootOf(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	half := 1
	for half*2 < len(hashes) {
		half *= 2
	}
	return tlog.NodeHash(rootOf(hashes[:half]), rootOf(hashes[half:]))
}

func (f *fork) get(_ context.Context, path string) ([]byte, error) {
	if path == "checkpoint" {
		return signed(f.h, fmt.Sprintf("%s\n%d\n%s\n", f.h.Keys.House(), f.size, rootOf(f.hashes[:f.size])))
	}
	level, n, width, err := audit.ParseTilePath(strings.TrimPrefix(path, "tile/"))
	if err != nil {
		return nil, err
	}
	each := 1 << (8 * level)
	var tile []byte
	for i := range width {
		at := (int(n)*256 + i) * each
		h := rootOf(f.hashes[at : at+each])
		tile = append(tile, h[:]...)
	}
	if f.lie != nil {
		tile = f.lie(path, tile)
	}
	return tile, nil
}

func signed(h *keystest.House, text string) ([]byte, error) {
	return note.Sign(&note.Note{Text: text}, h.Keys.Audit().Signer)
}

// Whoever keeps a bundle is not fooled by a log that the house's own key signed:
// it may neither shrink nor change what it began with, and no tile may differ
// from what the leaves give.
func TestABundleHoldsTheHouseToItsWord(t *testing.T) {
	t.Parallel()
	ctx, h := t.Context(), keystest.Open(t, dbtest.SQLite(t))
	key := h.Log.VerifierKey()
	first := newFork(h, 300, "one")
	folder := t.TempDir()
	if _, err := audit.Fetch(ctx, first.get, folder, key); err != nil {
		t.Fatal(err)
	}
	bend := func(prefix string, change func([]byte) []byte) func(string, []byte) []byte {
		return func(path string, tile []byte) []byte {
			if strings.HasPrefix(path, prefix) {
				return change(tile)
			}
			return tile
		}
	}
	flip := func(b []byte) []byte { b[0] ^= 1; return b }
	shrunk := newFork(h, 300, "one")
	shrunk.size = 299
	rewritten := newFork(h, 600, "two") // the first tile is the folder's own: only its second differs
	copy(rewritten.hashes, first.hashes[:256])
	for name, f := range map[string]*fork{
		"shrunk":                  shrunk,
		"another beginning":       rewritten,
		"a short tile":            {h: h, hashes: append(newFork(h, 300, "one").hashes, newFork(h, 400, "more").hashes...), size: 700, lie: bend("tile/0/002", func(b []byte) []byte { return b[:32] })},
		"a tile with more behind": {h: h, hashes: append(newFork(h, 300, "one").hashes, newFork(h, 400, "more").hashes...), size: 700, lie: bend("tile/0/002", func(b []byte) []byte { return append(b, 7) })},
		"an upper tile that lies": {h: h, hashes: append(newFork(h, 300, "one").hashes, newFork(h, 300, "more").hashes...), size: 600, lie: bend("tile/1/", flip)},
	} {
		if _, err := audit.Fetch(ctx, f.get, folder, key); !errors.Is(err, yesline.Tampered) {
			t.Errorf("%s: got %v, want Tampered", name, err)
		}
	}
	if f, err := audit.VerifyBundle(ctx, folder, key); err != nil || f.Entries != 300 {
		t.Errorf("the folder is not as it was: %+v %v", f, err)
	}
	large := newFork(h, 1<<16, "many") // one full tile of level 1
	large.lie = bend("tile/1/000", flip)
	if _, err := audit.Fetch(ctx, large.get, t.TempDir(), key); !errors.Is(err, yesline.Tampered) {
		t.Errorf("a full upper tile that lies: got %v, want Tampered", err)
	}
	large.lie = nil
	if f, err := audit.Fetch(ctx, large.get, t.TempDir(), key); err != nil || f.Tiles != 256+1+1 {
		t.Errorf("without the lie: %+v %v", f, err)
	}
	if _, err := audit.VerifyBundle(ctx, t.TempDir(), key); !errors.Is(err, yesline.NotFound) {
		t.Errorf("an empty folder: got %v, want not found", err)
	}
}

// A checkpoint is of this log and spells its size as we do, whoever signed it.
func TestCheckpointsOfAnotherKindAreRefused(t *testing.T) {
	t.Parallel()
	ctx, h := t.Context(), keystest.Open(t, dbtest.SQLite(t))
	root := tlog.RecordHash(nil)
	for name, text := range map[string]string{
		"another log":             fmt.Sprintf("other\n1\n%s\n", root),
		"no root":                 h.Keys.House() + "\n1\n",
		"a bad root":              h.Keys.House() + "\n1\nAAAA\n",
		"a size in other letters": fmt.Sprintf("%s\n01\n%s\n", h.Keys.House(), root),
		"no size":                 fmt.Sprintf("%s\nx\n%s\n", h.Keys.House(), root),
	} {
		data, err := signed(h, text)
		if err != nil {
			t.Fatal(err)
		}
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, "checkpoint"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(folder, "tile/0"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "tile/0/000.p"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := audit.VerifyBundle(ctx, folder, h.Log.VerifierKey()); !errors.Is(err, yesline.Tampered) {
			t.Errorf("%s: got %v, want Tampered", name, err)
		}
	}
}

// A receipt that the house's own key signed proves what its leaf commits to
// and nothing else.
func TestReceiptsProveTheirLeaf(t *testing.T) {
	t.Parallel()
	h := keystest.Open(t, dbtest.SQLite(t))
	salt, words := make([]byte, 32), []byte(`{"verb":"test"}`)
	commit := audit.Commitment(salt, words)
	leaf := binary.BigEndian.AppendUint16(append([]byte("YLA1"), make([]byte, 8)...), 1)
	leaf = append(append(leaf, commit[:]...), make([]byte, 32)...)
	make := func(leaf []byte, index int64) []byte {
		cp, err := signed(h, fmt.Sprintf("%s\n1\n%s\n", h.Keys.House(), tlog.RecordHash(leaf)))
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(map[string]any{"format": "yesline-receipt/1", "statement": string(words), "salt": salt, "leaf": leaf,
			"index": index, "proof": []string{}, "checkpoint": string(cp)})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	key := h.Log.VerifierKey()
	if e, err := audit.VerifyReceipt(make(leaf, 0), key); err != nil || e.Verb != "test" {
		t.Fatalf("a good one: %v, %v", e, err)
	}
	for name, data := range map[string][]byte{
		"a place before the log": make(leaf, -1),
		"a place behind it":      make(leaf, 1),
		"a leaf that is cut":     make(leaf[:len(leaf)-1], 0),
		"a leaf of another kind": make(append([]byte("YLA2"), leaf[4:]...), 0),
	} {
		if _, err := audit.VerifyReceipt(data, key); !errors.Is(err, yesline.Tampered) {
			t.Errorf("%s: got %v, want Tampered", name, err)
		}
	}
	large := append(make(leaf, 0), []byte(strings.Repeat(" ", 64<<10))...)
	if _, err := audit.VerifyReceipt(large, key); !errors.Is(err, yesline.Invalid) {
		t.Errorf("a receipt of 64 KiB: got %v, want invalid", err)
	}
}

func TestLeavesAndWordsAreTakenApartWithCare(t *testing.T) {
	t.Parallel()
	good := binary.BigEndian.AppendUint16(append([]byte("YLA1"), make([]byte, 8)...), 1)
	good = append(good, make([]byte, 64)...)
	if _, _, _, err := audit.ParseLeaf(good); err != nil {
		t.Fatal(err)
	}
	none := binary.BigEndian.AppendUint16(append([]byte("YLA1"), make([]byte, 8)...), 0)
	many := binary.BigEndian.AppendUint16(append([]byte("YLA1"), make([]byte, 8)...), 17)
	for name, leaf := range map[string][]byte{"nothing": nil, "a head alone": good[:14], "cut": good[:len(good)-1], "longer": append(good, 0), "no parts": none,
		"17 parts": append(many, make([]byte, 17*64)...), "another word": append([]byte("XLA1"), good[4:]...), "short": []byte("YLA1")} {
		if _, _, _, err := audit.ParseLeaf(leaf); !errors.Is(err, yesline.Tampered) {
			t.Errorf("%s: got %v, want Tampered", name, err)
		}
	}
	words := append(make([]byte, 32), `{"verb":"x"}`...)
	if _, _, e, err := audit.SplitWords(words, audit.Commitment(words[:32], words[32:])); err != nil || e.Verb != "x" {
		t.Fatalf("%v, %v", e, err)
	}
	for name, plain := range map[string][]byte{"short": words[:31], "other words": append(make([]byte, 32), `{"verb":"y"}`...)} {
		if _, _, _, err := audit.SplitWords(plain, audit.Commitment(words[:32], words[32:])); !errors.Is(err, yesline.Tampered) {
			t.Errorf("%s: got %v, want Tampered", name, err)
		}
	}
}

// A row that was changed in place is not read as it stands, by whichever way.
func TestAChangedRowIsNotRead(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		ctx := t.Context()
		h := keystest.Open(t, open)
		program, ann, refs := story(t, h, 12)
		cp, err := h.Log.Checkpoint(ctx)
		if err != nil {
			t.Fatal(err)
		}
		same := `SELECT sealed FROM audit_parts WHERE leaf_id = $1`
		change(t, h.Content, `UPDATE audit_parts SET sealed = (`+same+`) WHERE leaf_id = $2`, string(refs[1].Leaf), string(refs[0].Leaf))
		if _, err := h.Log.Find(ctx, refs[0]); !errors.Is(err, yesline.Tampered) {
			t.Errorf("finding an entry with another's part: %v", err)
		}
		if _, err := h.Log.About(ctx, ann, "trk_0", 0, 10); !errors.Is(err, yesline.Tampered) {
			t.Errorf("listing an entry with another's part: %v", err)
		}
		change(t, h.Content, `UPDATE audit_parts SET object = 'trk_x' WHERE leaf_id = $1`, string(refs[2].Leaf))
		if _, err := h.Log.Find(ctx, refs[2]); !errors.Is(err, yesline.Tampered) {
			t.Errorf("finding an entry under another object: %v", err)
		}
		change(t, h.Content, `UPDATE audit_leaves SET seq = $1 WHERE id = $2`, cp.Size+5, string(refs[3].Leaf))
		if _, err := h.Log.Find(ctx, refs[3]); !errors.Is(err, yesline.Tampered) {
			t.Errorf("finding an entry numbered beyond the log: %v", err)
		}
		change(t, h.Content, `UPDATE audit_parts SET at = 5 WHERE leaf_id = $1`, string(refs[4].Leaf))
		if _, err := h.Log.Find(ctx, refs[4]); !errors.Is(err, yesline.Tampered) {
			t.Errorf("finding an entry of another moment: %v", err)
		}
		change(t, h.Content, `UPDATE audit_parts SET part = 7 WHERE leaf_id = $1`, string(refs[5].Leaf))
		if _, err := h.Log.About(ctx, ann, "trk_5", 0, 10); !errors.Is(err, yesline.Tampered) {
			t.Errorf("listing a part that its leaf does not have: %v", err)
		}
		if _, err := h.Log.Find(ctx, audit.Ref{DB: "content", Leaf: yesline.NewEntryID()}); !errors.Is(err, yesline.NotFound) {
			t.Errorf("finding what is not there: %v", err)
		}
		if _, err := h.Log.Find(ctx, audit.Ref{DB: "other", Leaf: refs[0].Leaf}); !errors.Is(err, yesline.NotFound) {
			t.Errorf("finding it nowhere of ours: %v", err)
		}
		if err := h.Log.Forget(ctx, ann); !errors.Is(err, yesline.Tampered) {
			t.Errorf("forgetting over changed rows: %v", err)
		}
		change(t, h.Content, `UPDATE audit_tiles SET hashes = substr(hashes, 1, 40)`)
		if _, err := h.Log.Tile(ctx, 0, 0, int(min(cp.Size, 256))); !errors.Is(err, yesline.Tampered) {
			t.Errorf("publishing a short tile: %v", err)
		}
		if _, err := h.Log.Append(ctx, heard(program, ann, "trk_y")); err != nil {
			t.Fatal(err)
		}
		if err := h.Log.Flush(ctx); !errors.Is(err, yesline.Tampered) {
			t.Errorf("growing a short tile: %v", err)
		}
	})
}

// The newest tile may not be shorter or longer than the head says, even if no
// checkpoint tells.
func TestATileOfAnotherLengthDoesNotGrow(t *testing.T) {
	t.Parallel()
	ctx, h := t.Context(), keystest.Open(t, dbtest.SQLite(t))
	program, ann, _ := story(t, h, 5)
	change(t, h.Content, `UPDATE audit_tiles SET hashes = hashes || substr(hashes, 1, 32) WHERE level = 0`)
	if _, err := h.Log.Append(ctx, heard(program, ann, "trk_y")); err != nil {
		t.Fatal(err)
	}
	if err := h.Log.Flush(ctx); !errors.Is(err, yesline.Tampered) {
		t.Errorf("growing a tile that is too long: %v", err)
	}
}

// Erasing one of two subjects leaves the entry to the other, and everybody
// else their receipts.
func TestForgettingOneOfTwo(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		ctx := t.Context()
		h := keystest.Open(t, open)
		program := h.Program(t)
		ann, bob := h.Person(t, program), h.Person(t, program)
		if ann > bob { // the first part is ann's
			ann, bob = bob, ann
		}
		e := heard(program, ann, "cal_1")
		e.Subjects = []yesline.PersonID{ann, bob}
		ref, err := h.Log.Append(ctx, e)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []yesline.PersonID{ann, bob} {
			if err := h.Log.KeepReceipt(ctx, p, "cal_1", ref); err != nil {
				t.Fatal(err)
			}
		}
		if mine, err := h.Log.Receipts(ctx, ann, "cal_1"); err != nil || len(mine) != 1 || mine[0].Person != ann {
			t.Errorf("ann's receipts: %v, %v", mine, err)
		}
		if err := h.Keys.Forget(ctx, ann); err != nil {
			t.Fatal(err)
		}
		if err := h.Log.Forget(ctx, ann); err != nil {
			t.Fatal(err)
		}
		if found, err := h.Log.Find(ctx, ref); err != nil || found.Object != "cal_1" {
			t.Errorf("the entry after one was erased: %+v, %v", found, err)
		}
		if lines, err := h.Log.About(ctx, bob, "cal_1", 0, 10); err != nil || len(lines) != 1 {
			t.Errorf("bob's list: %v, %v", lines, err)
		}
		for p, want := range map[yesline.PersonID]int{ann: 0, bob: 1} {
			if kept, err := h.Log.Receipts(ctx, p, "cal_1"); err != nil || len(kept) != want {
				t.Errorf("%d receipts, want %d, %v", len(kept), want, err)
			}
		}
		if err := h.Log.Forget(ctx, bob); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Log.Find(ctx, ref); !errors.Is(err, yesline.NotFound) {
			t.Errorf("the entry after both: %v", err)
		}
	})
}

func TestNobodyAndTooManyAreRefused(t *testing.T) {
	t.Parallel()
	ctx, h := t.Context(), keystest.Open(t, dbtest.SQLite(t))
	_, ann, refs := story(t, h, 1)
	_, aboutErr := h.Log.About(ctx, "", "", 0, 10)
	_, idsErr := h.Log.ReceiptsByID(ctx, make([]string, db.MaxIn+1))
	for name, err := range map[string]error{
		"a list of nobody":      aboutErr,
		"forgetting nobody":     h.Log.Forget(ctx, ""),
		"a receipt for nobody":  h.Log.KeepReceipt(ctx, "", "cal_1", refs[0]),
		"a receipt of nothing":  h.Log.KeepReceipt(ctx, ann, "cal_1", audit.Ref{DB: "content"}),
		"501 receipts at once":  idsErr,
		"an actor of 513 bytes": appended(h, audit.Entry{Actor: strings.Repeat("a", 513), Verb: "x", Result: "done"}),
		"a verb of 513 bytes":   appended(h, audit.Entry{Actor: "a", Verb: strings.Repeat("a", 513), Result: "done"}),
		"an object of 513":      appended(h, audit.Entry{Actor: "a", Verb: "x", Object: strings.Repeat("a", 513), Result: "done"}),
		"17 details":            appended(h, audit.Entry{Actor: "a", Verb: "x", Result: "done", Detail: details(17)}),
	} {
		if !errors.Is(err, yesline.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
}

func appended(h *keystest.House, e audit.Entry) error {
	_, err := h.Log.Append(context.Background(), e)
	return err
}

func details(n int) map[string]string {
	d := map[string]string{}
	for i := range n {
		d[fmt.Sprint(i)] = base64.StdEncoding.EncodeToString([]byte{byte(i)})
	}
	return d
}

// An entry that could not be written is no entry: whoever appends is told, and
// the log is whole without it.
func TestWhatIsNotWrittenIsNotAnswered(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		ctx, h := t.Context(), keystest.Open(t, open)
		program, ann, _ := story(t, h, 2)
		change(t, h.Content, `ALTER TABLE audit_pending RENAME TO away`)
		if _, err := h.Log.Append(ctx, heard(program, ann, "trk_lost")); err == nil {
			t.Error("an entry that was not written was answered")
		}
		change(t, h.Content, `ALTER TABLE away RENAME TO audit_pending`)
		if lines, err := h.Log.About(ctx, ann, "trk_lost", 0, 10); err != nil || len(lines) != 0 {
			t.Errorf("%d entries of it, %v", len(lines), err)
		}
		if r, err := h.Log.Verify(ctx); err != nil || len(r.Problems) > 0 {
			t.Errorf("%v, %v", r.Problems, err)
		}
	})
}
