package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// inProcess has the test close its own memory, in a process of its own.
const inProcess = "YESLINE_TEST_CLOSE_MEMORY"

// What the server knows does not lie about in a core dump, and no debugger of
// the same user reads it.
func TestTheMemoryIsClosedToOthers(t *testing.T) {
	if os.Getenv(inProcess) != "" {
		if err := closeMemory(); err != nil {
			t.Fatal(err)
		}
		if open, _, err := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_GET_DUMPABLE, 0, 0); open != 0 || err != 0 {
			t.Errorf("the process can be dumped: %d, %v", open, err)
		}
		return
	}
	t.Parallel()
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTheMemoryIsClosedToOthers$")
	c.Env = append(os.Environ(), inProcess+"=1")
	if said, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, said)
	}

	var mine syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &mine); err != nil {
		t.Fatal(err)
	}
	if mine.Max == 0 {
		t.Skip("this machine makes no core dumps")
	}
	h := newHouse(t, "")
	h.start()
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", h.server.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok && strings.Join(strings.Fields(rest), " ") != "0 0 bytes" {
			t.Errorf("the server's limit of core dumps is %s", strings.TrimSpace(rest))
		}
	}
}
