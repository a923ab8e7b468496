// Package disk keeps sealed bytes in files of one folder and can reach nothing
// outside it: all goes through an os.Root.
package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"sync"
	"syscall"

	"yesline"
	"yesline/internal/vault"
)

// Disk is a vault.Blobs in a folder. A blob trk_abcd… is the file ab/trk_abcd…
// of mode 0600; ids are random, so the 1,024 shards fill evenly.
type Disk struct {
	root *os.Root

	mu    sync.Mutex      // guards fresh
	fresh map[string]bool // made here and its folder not yet synced: at most the blobs of a second

	reading sync.Mutex // guards open
	open    map[string]*os.File

	writing sync.Mutex // guards written; taken after reading
	written map[string]*os.File
}

// Opening a blob costs more than reading or writing a second of it, so those
// that were used last stay open: what is read until others push it out, what is
// written until it is synced by itself, as each is at its end.
const (
	openMost    = 128
	writtenMost = 4096
)

// Open uses folder, and makes it (0700) when it is not there.
func Open(folder string) (*Disk, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of the vault: %w", kind(err))
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("opening the folder of the vault: %w", kind(err))
	}
	return &Disk{root: root, fresh: map[string]bool{}, open: map[string]*os.File{}, written: map[string]*os.File{}}, nil
}

// Close gives the folder back.
func (d *Disk) Close() error {
	d.reading.Lock()
	defer d.reading.Unlock()
	for name := range d.open {
		d.shut(name)
	}
	d.open = nil
	d.writing.Lock()
	defer d.writing.Unlock()
	var errs []error
	for name, f := range d.written {
		errs = append(errs, f.Close())
		delete(d.written, name)
	}
	d.written = nil
	return errors.Join(append(errs, d.root.Close())...)
}

// place is a blob's shard and file.
func place(name string) (shard, file string, err error) {
	if err := vault.CheckName(name); err != nil {
		return "", "", err
	}
	shard = name[len("trk_"):][:2]
	return shard, path.Join(shard, name), nil
}

func (d *Disk) WriteAt(ctx context.Context, name string, p []byte, off int64) error {
	shard, file, err := place(name)
	if err != nil {
		return err
	}
	if err := vault.CheckSpan(off, int64(len(p))); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for range 3 { // pushed out by others meanwhile: hardly ever, and not for ever
		f, err := d.toWrite(shard, file, name)
		if err != nil {
			return fmt.Errorf("opening a blob to write: %w", kind(err))
		}
		if _, err = f.WriteAt(p, off); err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrClosed) {
			return fmt.Errorf("writing a blob: %w", kind(err))
		}
	}
	return fmt.Errorf("writing a blob that others close: %w", yesline.Unavailable)
}

// toWrite gives the blob's file, and makes it when it is new.
func (d *Disk) toWrite(shard, file, name string) (*os.File, error) {
	d.writing.Lock()
	defer d.writing.Unlock()
	if f := d.written[name]; f != nil {
		return f, nil
	}
	f, err := d.openOrMake(shard, file, name)
	if err != nil {
		return nil, err
	}
	if d.written == nil {
		return nil, errors.Join(fs.ErrClosed, f.Close())
	}
	for other, g := range d.written {
		if len(d.written) < writtenMost {
			break
		}
		delete(d.written, other)
		if err := g.Close(); err != nil { // of a network's file system: what was written is perhaps lost
			return nil, errors.Join(err, f.Close())
		}
	}
	d.written[name] = f
	return f, nil
}

// forget takes the blob's file from those that are written; nil if it was none.
func (d *Disk) forget(name string) *os.File {
	d.writing.Lock()
	defer d.writing.Unlock()
	f := d.written[name]
	delete(d.written, name)
	return f
}

func (d *Disk) openOrMake(shard, file, name string) (*os.File, error) {
	f, err := d.root.OpenFile(file, os.O_WRONLY, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	// Before the file is there, so that no Sync overlooks it.
	d.mu.Lock()
	d.fresh[name] = true
	d.mu.Unlock()
	f, err = d.root.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o600)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if err := d.root.Mkdir(shard, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return d.root.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o600)
}

func (d *Disk) ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	_, file, err := place(name)
	if err != nil {
		return 0, err
	}
	if err := vault.CheckSpan(off, int64(len(p))); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	f, err := d.opened(name, file)
	if err != nil {
		return 0, fmt.Errorf("opening a blob: %w", kind(err))
	}
	n, err := f.ReadAt(p, off)
	if errors.Is(err, fs.ErrClosed) { // pushed out, or deleted, since
		return d.readOnce(file, p, off)
	}
	return n, kind(err)
}

func (d *Disk) readOnce(file string, p []byte, off int64) (int, error) {
	f, err := d.root.Open(file)
	if err != nil {
		return 0, fmt.Errorf("opening a blob: %w", kind(err))
	}
	defer f.Close()
	n, err := f.ReadAt(p, off)
	return n, kind(err)
}

// opened gives the blob's file, which somebody may close at any time: a read
// that has begun still ends well.
func (d *Disk) opened(name, file string) (*os.File, error) {
	d.reading.Lock()
	defer d.reading.Unlock()
	if f := d.open[name]; f != nil {
		return f, nil
	}
	f, err := d.root.Open(file)
	if err != nil {
		return nil, err
	}
	for other := range d.open {
		if len(d.open) < openMost {
			break
		}
		d.shut(other)
	}
	d.open[name] = f
	return f, nil
}

// shut closes a blob that is open for reading. reading is held.
func (d *Disk) shut(name string) {
	if f := d.open[name]; f != nil {
		f.Close() // only read from
		delete(d.open, name)
	}
}

func (d *Disk) Sync(ctx context.Context, name string) error {
	shard, file, err := place(name)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	f := d.forget(name)
	if f == nil {
		if f, err = d.root.OpenFile(file, os.O_RDWR, 0); err != nil {
			return fmt.Errorf("opening a blob to sync: %w", kind(err))
		}
	}
	if err := errors.Join(dataSync(f), f.Close()); err != nil {
		return fmt.Errorf("syncing a blob: %w", kind(err))
	}
	d.mu.Lock()
	fresh := d.fresh[name]
	d.mu.Unlock()
	if !fresh {
		return nil
	}
	if err := errors.Join(d.syncFolder(shard), d.syncFolder(".")); err != nil {
		return fmt.Errorf("syncing the folder of a blob: %w", kind(err))
	}
	d.mu.Lock()
	delete(d.fresh, name)
	d.mu.Unlock()
	return nil
}

// SyncAll returns when all that was written to any blob survives a power cut.
// It costs one sync of the file system, also of what others wrote there.
func (d *Disk) SyncAll(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	fresh := slices.Collect(maps.Keys(d.fresh))
	d.mu.Unlock()
	f, err := d.root.Open(".")
	if err != nil {
		return fmt.Errorf("opening the folder of the vault to sync: %w", kind(err))
	}
	if err := errors.Join(systemSync(f), f.Close()); err != nil {
		return fmt.Errorf("syncing the vault: %w", kind(err))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range fresh {
		delete(d.fresh, name)
	}
	return nil
}

func (d *Disk) Delete(ctx context.Context, name string) error {
	shard, file, err := place(name)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// Under the lock, so that nobody opens it again in between: an open file
	// would keep its bytes on the disk.
	d.reading.Lock()
	d.writing.Lock()
	d.shut(name)
	if f := d.written[name]; f != nil {
		f.Close() // its bytes go with it
		delete(d.written, name)
	}
	err = d.root.Remove(file)
	d.writing.Unlock()
	d.reading.Unlock()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("deleting a blob: %w", kind(err))
	}
	d.mu.Lock()
	delete(d.fresh, name)
	d.mu.Unlock()
	// Also when it was gone already: a crash may have come before this sync.
	if err := d.syncFolder(shard); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("syncing the folder of a deleted blob: %w", kind(err))
	}
	return nil
}

func (d *Disk) syncFolder(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// kind adds the house's kind to an error of the file system.
func kind(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return fmt.Errorf("%w: %w", yesline.Full, err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", yesline.NotFound, err)
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fmt.Errorf("%w: %w", yesline.Unavailable, err)
	}
	return err
}
