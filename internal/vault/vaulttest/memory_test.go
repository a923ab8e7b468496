package vaulttest_test

import (
	"errors"
	"testing"

	"yesline"
	"yesline/internal/vault"
	"yesline/internal/vault/vaulttest"
)

func TestContract(t *testing.T) {
	t.Parallel()
	vaulttest.TestBlobs(t, func(t *testing.T) vault.Blobs { return &vaulttest.Memory{} })
}

func TestFull(t *testing.T) {
	t.Parallel()
	m, name := &vaulttest.Memory{Room: 2}, string(yesline.NewTrackID())
	if err := m.WriteAt(t.Context(), name, make([]byte, 3*8192), 0); !errors.Is(err, yesline.Full) {
		t.Fatalf("got %v, want no space left", err)
	}
	if err := m.Delete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if err := m.WriteAt(t.Context(), name, make([]byte, 2*8192), 0); err != nil {
		t.Fatal(err)
	}
}
