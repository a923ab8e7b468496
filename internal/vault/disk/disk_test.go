package disk

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"yesline"
	"yesline/internal/vault"
	"yesline/internal/vault/vaulttest"
)

func open(t *testing.T, folder string) *Disk {
	t.Helper()
	d, err := Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestContract(t *testing.T) {
	t.Parallel()
	vaulttest.TestBlobs(t, func(t *testing.T) vault.Blobs { return open(t, t.TempDir()) })
}

func TestFilesAreForTheOwnerAlone(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "vault")
	d, name := open(t, folder), string(yesline.NewTrackID())
	if err := errors.Join(d.WriteAt(t.Context(), name, []byte("x"), 0), d.Sync(t.Context(), name)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{"": 0o700 | fs.ModeDir, name[4:6]: 0o700 | fs.ModeDir, name[4:6] + "/" + name: 0o600} {
		info, err := os.Stat(filepath.Join(folder, path))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("mode of %q: got %v, want %v", path, info.Mode(), want)
		}
	}
	if len(d.fresh) != 0 {
		t.Errorf("a synced blob is still held as fresh")
	}
}

// Whoever may write in the folder cannot make us write, read or delete outside.
func TestLinksLeadNowhere(t *testing.T) {
	t.Parallel()
	folder, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, name := open(t, folder), string(yesline.NewTrackID())
	if err := os.Mkdir(filepath.Join(folder, name[4:6]), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(folder, name[4:6], name)); err != nil {
		t.Fatal(err)
	}
	if err := d.WriteAt(t.Context(), name, []byte("x"), 0); err == nil {
		t.Error("wrote through a link")
	}
	if _, err := d.ReadAt(t.Context(), name, make([]byte, 1), 0); err == nil {
		t.Error("read through a link")
	}
	if got, err := os.ReadFile(outside); err != nil || string(got) != "mine" {
		t.Errorf("the file outside: %q, %v", got, err)
	}
}

func TestKinds(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]error{syscall.ENOSPC: yesline.Full, syscall.EDQUOT: yesline.Full,
		syscall.EIO: yesline.Unavailable, syscall.ENOENT: yesline.NotFound, syscall.EACCES: yesline.Unavailable} {
		if got := kind(&fs.PathError{Op: "write", Path: "x", Err: err}); !errors.Is(got, want) {
			t.Errorf("kind of %v: got %v, want %v", err, got, want)
		}
	}
}

// A blob that is deleted is closed first, so that its bytes leave the disk, and
// what comes under its name afterwards is what is read.
func TestADeletedBlobIsNotKeptOpen(t *testing.T) {
	t.Parallel()
	d, name := open(t, t.TempDir()), string(yesline.NewTrackID())
	for _, want := range []string{"first", "second"} {
		if err := d.WriteAt(t.Context(), name, []byte(want), 0); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			got := make([]byte, len(want))
			if _, err := d.ReadAt(t.Context(), name, got, 0); err != nil || string(got) != want {
				t.Fatalf("read %q, %v, want %q", got, err, want)
			}
		}
		held := d.open[name]
		if held == nil {
			t.Fatal("it is opened anew for every reading")
		}
		if err := d.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if _, err := held.Stat(); !errors.Is(err, fs.ErrClosed) || len(d.open) != 0 {
			t.Errorf("a deleted blob is still open: %v", err)
		}
		if _, err := d.ReadAt(t.Context(), name, make([]byte, 1), 0); !errors.Is(err, yesline.NotFound) {
			t.Errorf("reading what was deleted: %v", err)
		}
	}
}

// Few blobs stay open, and whose file is shut meanwhile reads all the same.
func TestFewBlobsStayOpen(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir())
	names := make([]string, openMost+50)
	for i := range names {
		names[i] = string(yesline.NewTrackID())
		if err := d.WriteAt(t.Context(), names[i], []byte{byte(i)}, 0); err != nil {
			t.Fatal(err)
		}
	}
	var readers sync.WaitGroup
	for r := range 4 {
		readers.Go(func() {
			for i := range names {
				i = (i + r*40) % len(names)
				got := make([]byte, 1)
				if _, err := d.ReadAt(t.Context(), names[i], got, 0); err != nil || got[0] != byte(i) {
					t.Errorf("blob %d: got %v, %v", i, got, err)
				}
			}
		})
	}
	readers.Wait()
	if len(d.open) != openMost {
		t.Errorf("%d blobs are open, want %d", len(d.open), openMost)
	}
	for i := range names {
		if f := d.open[names[i]]; f != nil {
			f.Close() // as if it were pushed out between finding and reading
			if _, err := d.ReadAt(t.Context(), names[i], make([]byte, 1), 0); err != nil {
				t.Fatalf("a file that was shut meanwhile: %v", err)
			}
		}
	}
	d.Close()
	if len(d.open) != 0 {
		t.Errorf("%d blobs are open after closing", len(d.open))
	}
	if _, err := d.ReadAt(t.Context(), names[0], make([]byte, 1), 0); err == nil {
		t.Error("reading after closing")
	}
}

// One sync of all leaves nothing that a later sync of one would have to do.
func TestSyncAll(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir())
	for range 20 {
		if err := d.WriteAt(t.Context(), string(yesline.NewTrackID()), []byte("x"), 0); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.fresh) != 20 {
		t.Fatalf("%d new blobs are known, want 20", len(d.fresh))
	}
	if err := d.SyncAll(t.Context()); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	} else if err == nil && len(d.fresh) != 0 {
		t.Errorf("%d blobs are still held as fresh", len(d.fresh))
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.SyncAll(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("for who has gone: %v", err)
	}
}

// What is written stays open until it is synced by itself or deleted, few at
// once, and a file that was shut meanwhile is opened again.
func TestWhatIsWrittenStaysOpen(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir())
	write := func(name string, off int64) *os.File {
		t.Helper()
		if err := d.WriteAt(t.Context(), name, []byte("x"), off); err != nil {
			t.Fatal(err)
		}
		f := d.written[name]
		if f == nil {
			t.Fatal("it is opened anew for every writing")
		}
		return f
	}
	closed := func(f *os.File) {
		t.Helper()
		if _, err := f.Stat(); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("a file is still open: %v", err)
		}
	}
	name := string(yesline.NewTrackID())
	first := write(name, 0)
	if write(name, 1) != first {
		t.Error("another file for the same blob")
	}
	if err := d.Sync(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	closed(first)
	second := write(name, 2)
	second.Close() // as if it were pushed out between finding and writing
	delete(d.written, name)
	third := write(name, 3)
	if err := d.Delete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	closed(third)
	if len(d.written) != 0 {
		t.Errorf("%d are held", len(d.written))
	}
	for range writtenMost + 20 {
		write(string(yesline.NewTrackID()), 0)
	}
	if len(d.written) != writtenMost {
		t.Errorf("%d are open, want %d", len(d.written), writtenMost)
	}
	var last *os.File
	for _, last = range d.written {
		break
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	closed(last)
	if err := d.WriteAt(t.Context(), name, []byte("x"), 0); err == nil {
		t.Error("writing after closing")
	}
}
