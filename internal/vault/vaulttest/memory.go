// Package vaulttest holds what every driver of the vault must do, and a driver
// in memory that does it.
package vaulttest

import (
	"context"
	"fmt"
	"io"
	"sync"

	"yesline"
	"yesline/internal/vault"
)

const page = 8192

// Memory is a vault.Blobs in memory. Its zero value is ready.
type Memory struct {
	Room int // pages it has room for; 0 for no limit

	mu    sync.Mutex
	blobs map[string]*blob
	used  int
}

type blob struct {
	pages map[int64]*[page]byte // a missing page is a hole
	size  int64
}

func check(ctx context.Context, name string, off, length int64) error {
	if err := vault.CheckName(name); err != nil {
		return err
	}
	if err := vault.CheckSpan(off, length); err != nil {
		return err
	}
	return ctx.Err()
}

func (m *Memory) WriteAt(ctx context.Context, name string, p []byte, off int64) error {
	if err := check(ctx, name, off, int64(len(p))); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.blobs == nil {
		m.blobs = map[string]*blob{}
	}
	b := m.blobs[name]
	if b == nil {
		b = &blob{pages: map[int64]*[page]byte{}}
		m.blobs[name] = b
	}
	for len(p) > 0 {
		at, from := off/page, off%page
		if b.pages[at] == nil {
			if m.Room > 0 && m.used >= m.Room {
				return fmt.Errorf("writing a blob: %w", yesline.Full)
			}
			b.pages[at] = new([page]byte)
			m.used++
		}
		n := copy(b.pages[at][from:], p)
		p, off = p[n:], off+int64(n)
		b.size = max(b.size, off)
	}
	return nil
}

func (m *Memory) ReadAt(ctx context.Context, name string, p []byte, off int64) (n int, err error) {
	if err := check(ctx, name, off, int64(len(p))); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.blobs[name]
	if b == nil {
		return 0, fmt.Errorf("opening a blob: %w", yesline.NotFound)
	}
	for n < len(p) && off < b.size {
		at, from := off/page, off%page
		part := p[n:min(len(p), n+int(min(page-from, b.size-off)))]
		if held := b.pages[at]; held != nil {
			copy(part, held[from:])
		} else {
			clear(part)
		}
		n, off = n+len(part), off+int64(len(part))
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *Memory) Sync(ctx context.Context, name string) error {
	if err := check(ctx, name, 0, 0); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.blobs[name] == nil {
		return fmt.Errorf("opening a blob to sync: %w", yesline.NotFound)
	}
	return nil
}

func (m *Memory) Delete(ctx context.Context, name string) error {
	if err := check(ctx, name, 0, 0); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if b := m.blobs[name]; b != nil {
		m.used -= len(b.pages)
		delete(m.blobs, name)
	}
	return nil
}

// Names lists the blobs, for the checks of a test.
func (m *Memory) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name := range m.blobs {
		names = append(names, name)
	}
	return names
}
