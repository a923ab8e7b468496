package main

import (
	"fmt"
	"syscall"
)

// closeMemory keeps keys and links out of core dumps, this process out of the
// reach of debuggers of the same user, and the files it makes to itself.
func closeMemory() error {
	syscall.Umask(0o077)
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("forbidding core dumps: %w", err)
	}
	if _, _, err := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0); err != 0 {
		return fmt.Errorf("closing this process to debuggers: %w", err)
	}
	return nil
}
