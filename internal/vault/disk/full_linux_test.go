package disk

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"yesline"
)

// A real full disk: a file system of 64 KiB, where we may mount one.
func TestFull(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=64k"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no right to mount a small file system: %v", err)
		}
		t.Skipf("no right to mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, 0); err != nil {
			t.Error(err)
		}
	})
	d, err := Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	name, slot := string(yesline.NewTrackID()), make([]byte, 8192)
	for n := range int64(20) {
		if err = d.WriteAt(t.Context(), name, slot, n*8192); err != nil {
			break
		}
	}
	if !errors.Is(err, yesline.Full) {
		t.Fatalf("writing 160 KiB on 64: got %v, want no space left", err)
	}
	if err := d.Delete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if err := d.WriteAt(t.Context(), name, slot, 0); err != nil {
		t.Errorf("after making room: %v", err)
	}
}
