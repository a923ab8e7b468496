// Package file keeps the house's root key in a file of mode 0600.
package file

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"io"
	"os"

	"yesline"
)

const size = 32

// Root is a root key read from a file. It does not print.
type Root struct{ seal cipher.AEAD }

func (*Root) Format(s fmt.State, _ rune) { io.WriteString(s, "[root key]") }

// Create writes a new random root key to path, which must not exist.
func Create(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("creating the root key: %w", err)
	}
	defer f.Close()
	key := make([]byte, size)
	rand.Read(key)
	if _, err := f.Write(key); err != nil {
		return fmt.Errorf("writing the root key: %w", err)
	}
	return f.Sync()
}

// Open reads the root key. It refuses a file that others may read, and one
// that is not exactly 32 bytes.
func Open(path string) (*Root, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the root key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("the root key %s may be read by others (mode %o); make it 0600: %w", path, info.Mode().Perm(), yesline.Denied)
	}
	if info.Size() != size {
		return nil, fmt.Errorf("the root key %s has %d bytes, not %d: %w", path, info.Size(), size, yesline.Invalid)
	}
	key := make([]byte, size)
	if _, err := io.ReadFull(f, key); err != nil {
		return nil, fmt.Errorf("reading the root key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &Root{gcm}, nil
}

// Wrap seals plain under the root; context is bound in.
func (r *Root) Wrap(_ context.Context, context, plain []byte) ([]byte, error) {
	return r.seal.Seal(nil, nil, plain, context), nil
}

// Unwrap opens what Wrap sealed with the same context under the same root.
func (r *Root) Unwrap(_ context.Context, context, wrapped []byte) ([]byte, error) {
	plain, err := r.seal.Open(nil, nil, wrapped, context)
	if err != nil {
		return nil, fmt.Errorf("unwrapping under the root key: %w", yesline.Tampered)
	}
	return plain, nil
}
