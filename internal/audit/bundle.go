package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"yesline"
)

// A bundle is a folder with what a log has published: "checkpoint" and
// "tile/…", as C2SP tlog-tiles names them. Whoever keeps one needs no server
// to check a receipt, and holds the log to what it once signed.

// Fetched tells what Fetch or VerifyBundle found.
type Fetched struct {
	Entries    int64  `json:"entries"`     // of the checkpoint
	Before     int64  `json:"before"`      // of the checkpoint that the folder held, 0 for none
	Tiles      int    `json:"tiles"`       // read
	Checkpoint string `json:"checkpoint"`  // the signed note
	Root       string `json:"root_base64"` // of all leaf hashes, computed from them
}

// Fetch copies what the log has published since into folder and checks it
// before anything is kept: the signature under the verifier key, every hash up
// to the root, and that the log still begins with what the folder held. get
// reads a published path ("checkpoint", "tile/0/000"). An error keeps the
// folder as it was.
func Fetch(ctx context.Context, get func(ctx context.Context, path string) ([]byte, error), folder, key string) (Fetched, error) {
	v, err := note.NewVerifier(key)
	if err != nil {
		return Fetched{}, fmt.Errorf("the verifier key cannot be read: %w", yesline.Invalid)
	}
	text, err := get(ctx, "checkpoint")
	if err != nil {
		return Fetched{}, fmt.Errorf("fetching the checkpoint: %w", err)
	}
	cp, err := readCheckpoint(string(text), v)
	if err != nil {
		return Fetched{}, err
	}
	old, err := heldCheckpoint(folder, v)
	if err != nil {
		return Fetched{}, err
	}
	b := &bundle{}
	b.fetch = func(path string) ([]byte, error) {
		file := filepath.Join(folder, filepath.FromSlash(path))
		if data, err := os.ReadFile(file); err == nil {
			return data, nil
		}
		data, err := get(ctx, path)
		if err == nil && len(data) <= tileWidth*tlog.HashSize {
			b.fresh = append(b.fresh, file)
			err = writeBeside(file, data)
		}
		return data, err
	}
	f, err := b.check(ctx, cp, old)
	if err == nil {
		checkpoint := filepath.Join(folder, "checkpoint")
		b.fresh = append(b.fresh, checkpoint) // last: what it signs is there before it is
		err = writeBeside(checkpoint, text)
	}
	for _, file := range b.fresh {
		if err != nil {
			os.Remove(file + beside)
		} else {
			err = os.Rename(file+beside, file)
		}
	}
	return f, err
}

// VerifyBundle checks a folder that Fetch filled, offline: the signature, and
// every hash from the leaves to the signed root.
func VerifyBundle(ctx context.Context, folder, key string) (Fetched, error) {
	v, err := note.NewVerifier(key)
	if err != nil {
		return Fetched{}, fmt.Errorf("the verifier key cannot be read: %w", yesline.Invalid)
	}
	cp, err := heldCheckpoint(folder, v)
	if err != nil {
		return Fetched{}, err
	}
	if cp.Size == 0 {
		return Fetched{}, fmt.Errorf("a bundle with a checkpoint: %w", yesline.NotFound)
	}
	b := &bundle{fetch: func(path string) ([]byte, error) {
		return os.ReadFile(filepath.Join(folder, filepath.FromSlash(path)))
	}}
	return b.check(ctx, cp, Checkpoint{})
}

func heldCheckpoint(folder string, v note.Verifier) (Checkpoint, error) {
	text, err := os.ReadFile(filepath.Join(folder, "checkpoint"))
	if errors.Is(err, fs.ErrNotExist) {
		return Checkpoint{}, nil
	}
	if err != nil {
		return Checkpoint{}, err
	}
	cp, err := readCheckpoint(string(text), v)
	if err != nil {
		return cp, fmt.Errorf("the checkpoint in the folder: %w", err)
	}
	return cp, nil
}

const beside = ".new"

// writeBeside writes a file under another name, to be renamed once all is checked.
func writeBeside(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path+beside, data, 0o644)
}

// bundle reads published tiles.
type bundle struct {
	fetch func(path string) ([]byte, error)
	fresh []string // files that are written beside their names
	tiles int
}

func (b *bundle) tile(level int, n int64, width int) ([]byte, error) {
	data, err := b.fetch("tile/" + TilePath(level, n, width))
	if err != nil {
		return nil, fmt.Errorf("tile %d of level %d: %w", n, level, err)
	}
	if len(data) != width*tlog.HashSize {
		return nil, fmt.Errorf("tile %d of level %d has %d bytes: %w", n, level, len(data), yesline.Tampered)
	}
	b.tiles++
	return data, nil
}

// check rebuilds the tree out of its leaf hashes: every tile above must be what
// they give, and the roots at both sizes what was signed.
func (b *bundle) check(ctx context.Context, cp, old Checkpoint) (Fetched, error) {
	f := Fetched{Entries: cp.Size, Before: old.Size, Checkpoint: cp.Note}
	if cp.Size < old.Size {
		return f, fmt.Errorf("the log has %d entries, and it had signed %d: %w", cp.Size, old.Size, yesline.Tampered)
	}
	var edge compact
	levels := [8][]byte{} // what the leaves give for the tile of each level that is being filled
	for n := int64(0); n*tileWidth < cp.Size; n++ {
		if err := ctx.Err(); err != nil {
			return f, err
		}
		data, err := b.tile(0, n, int(min(tileWidth, cp.Size-n*tileWidth)))
		if err != nil {
			return f, err
		}
		for i := range len(data) / tlog.HashSize {
			edge.add(tlog.Hash(data[i*tlog.HashSize:][:tlog.HashSize]))
			if edge.size == old.Size && edge.root() != old.Root {
				return f, fmt.Errorf("the log no longer begins with the %d entries it had signed: %w", old.Size, yesline.Tampered)
			}
		}
		if len(data) == tileWidth*tlog.HashSize {
			if err := b.above(&levels, 1, n, tileRoot(data)); err != nil {
				return f, err
			}
		}
	}
	for level := 1; level < len(levels); level++ {
		if n := cp.Size >> (tileHeight * (level + 1)); len(levels[level]) > 0 {
			data, err := b.tile(level, n, len(levels[level])/tlog.HashSize)
			if err != nil {
				return f, err
			}
			if string(data) != string(levels[level]) {
				return f, fmt.Errorf("tile %d of level %d against the leaves: %w", n, level, yesline.Tampered)
			}
		}
	}
	root := edge.root()
	f.Tiles, f.Root = b.tiles, root.String()
	if root != cp.Root {
		return f, fmt.Errorf("the root of %d entries against the one that was signed: %w", cp.Size, yesline.Tampered)
	}
	return f, nil
}

// above adds the root of full tile n of the level below. A full tile is what
// the leaves give, or the tile above it is not.
func (b *bundle) above(levels *[8][]byte, level int, n int64, root tlog.Hash) error {
	levels[level] = append(levels[level], root[:]...)
	if len(levels[level]) < tileWidth*tlog.HashSize {
		return nil
	}
	levels[level] = nil
	data, err := b.tile(level, n/tileWidth, tileWidth)
	if err != nil {
		return err
	}
	return b.above(levels, level+1, n/tileWidth, tileRoot(data))
}
