package db_test

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"yesline"
	"yesline/internal/db"
)

func TestAFolderServesOneServer(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	first, err := db.LockFolder(folder)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.LockFolder(folder)
	if !errors.Is(err, yesline.Conflict) {
		t.Fatalf("the second server: %v, want yesline.Conflict", err)
	}
	for _, want := range []string{folder, "process " + strconv.Itoa(os.Getpid()), "another yesline"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the refusal %q does not say %q", err, want)
		}
	}
	if elsewhere, err := db.LockFolder(t.TempDir()); err != nil {
		t.Errorf("another folder: %v", err)
	} else {
		elsewhere.Close()
	}
	first.Close()
	again, err := db.LockFolder(folder)
	if err != nil {
		t.Fatalf("after the first server stopped: %v", err)
	}
	again.Close()
}
