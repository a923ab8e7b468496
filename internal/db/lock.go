package db

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"yesline"
)

// LockFolder takes a data folder for this process; a second server on the same
// folder is refused and told who holds it. Closing the file gives it back, and
// so does the end of the process, however it ends.
func LockFolder(folder string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(folder, "LOCK"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder := make([]byte, 32)
		n, _ := f.ReadAt(holder, 0)
		f.Close()
		return nil, fmt.Errorf("the data folder %s is in use by another yesline (process %s); stop it first, or choose another folder: %w",
			folder, strings.TrimSpace(string(holder[:n])), yesline.Conflict)
	}
	f.Truncate(0)
	fmt.Fprintf(f, "%d\n", os.Getpid())
	return f, nil
}
