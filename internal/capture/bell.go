package capture

import (
	"context"
	"sync"
)

// bell tells those who wait that something changed, and how often it has, from
// 1 on: who knows nothing yet says 0. The zero value is ready.
type bell struct {
	mu    sync.Mutex    // guards the rest
	rings int64         // after the first
	next  chan struct{} // closed with the next ring; nil while nobody waits
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rings++
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}

// count is how often it has rung.
func (b *bell) count() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rings + 1
}

// wait returns when it has rung more often than after, or ctx ended: how often
// it has.
func (b *bell) wait(ctx context.Context, after int64) int64 {
	for {
		b.mu.Lock()
		rings := b.rings + 1
		if b.next == nil {
			b.next = make(chan struct{})
		}
		next := b.next
		b.mu.Unlock()
		if rings > after {
			return rings
		}
		select {
		case <-next:
		case <-ctx.Done():
			return rings
		}
	}
}
