package disk

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// dataSync is fdatasync: the bytes and the length, not the times.
func dataSync(f *os.File) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := c.Control(func(fd uintptr) {
		for {
			if failed = syscall.Fdatasync(int(fd)); failed != syscall.EINTR {
				return
			}
		}
	}); err != nil {
		return err
	}
	return failed
}

// systemSync is syncfs: all that was written to the file system of f, and its
// error if any of it was lost since this one was opened (Linux 5.8).
func systemSync(f *os.File) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := c.Control(func(fd uintptr) { failed = unix.Syncfs(int(fd)) }); err != nil {
		return err
	}
	return failed
}
