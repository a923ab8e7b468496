package app

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"yesline"
)

const (
	reserveBytes = 8 << 20
	reserveEvery = 5 * time.Second // how often a reserve that was spent is tried again
	reserveLow   = 256 << 10       // a disk with less than this is full
	reserveTries = 20
	reservePause = 100 * time.Millisecond
)

// reserve is disk held back, as a file beside the databases, for what a full
// disk must not keep from being written: a no, a stop, a withdrawal. Whoever
// finds the disk full doing one of these spends it; it is made again when there
// is room for twice as much. It does nothing for databases elsewhere.
type reserve struct {
	path   string
	report *slog.Logger

	end  chan struct{}
	done sync.WaitGroup
}

// holdReserve makes the reserve, or leaves that to its goroutine where there is
// no room. Close ends it; the file stays.
func holdReserve(folder string, report *slog.Logger) *reserve {
	r := &reserve{path: filepath.Join(folder, "reserve"), report: report, end: make(chan struct{})}
	if err := r.fill(); err != nil {
		report.Warn("no disk is held back for withdrawals", "error", err)
	}
	r.done.Go(r.keep)
	return r
}

func (r *reserve) Close() {
	close(r.end)
	r.done.Wait()
}

// first does something, and again with the reserve where the disk is full. It
// tries for a while: a log that could not number its entries comes back within
// a second or two.
func (r *reserve) first(do func() error) error {
	err := do()
	if !errors.Is(err, yesline.Full) && !(errors.Is(err, yesline.Unavailable) && r.free() < reserveLow) {
		return err
	}
	switch gone := os.Remove(r.path); {
	case gone == nil:
		r.report.Warn("the disk is full: the reserve was spent on a withdrawal or a stop")
	case !errors.Is(gone, os.ErrNotExist): // it was spent a moment ago, and there may be room yet
		return errors.Join(err, gone)
	}
	for try := 0; ; try++ {
		err = do()
		if try == reserveTries || !errors.Is(err, yesline.Unavailable) {
			return err
		}
		time.Sleep(reservePause)
	}
}

// free is how many bytes of the disk are free.
func (r *reserve) free() uint64 {
	var disk syscall.Statfs_t
	if syscall.Statfs(filepath.Dir(r.path), &disk) != nil {
		return 0
	}
	return disk.Bavail * uint64(disk.Bsize)
}

// keep makes the reserve again.
func (r *reserve) keep() {
	tick := time.NewTicker(reserveEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.end:
			return
		case <-tick.C:
			r.fill() // what fails now is tried again
		}
	}
}

// fill makes the reserve unless it is there. It never takes the last room.
func (r *reserve) fill() error {
	if info, err := os.Lstat(r.path); err == nil && info.Size() == reserveBytes {
		return nil
	}
	if r.free() < 2*reserveBytes {
		return fmt.Errorf("fewer than %d bytes are free: %w", 2*reserveBytes, yesline.Full)
	}
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("making the reserve: %w", err)
	}
	if err = syscall.Fallocate(int(f.Fd()), 0, 0, reserveBytes); errors.Is(err, syscall.EOPNOTSUPP) {
		_, err = f.Write(make([]byte, reserveBytes))
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("making the reserve: %w", errors.Join(err, os.Remove(r.path)))
	}
	return nil
}
