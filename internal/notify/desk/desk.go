// Package desk keeps messages in memory for the outbox page of a demo, where no
// phone would get them. It sends nothing and refuses a house that is not a demo.
package desk

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"yesline"
	"yesline/internal/notify"
)

// most is how many messages are kept.
const most = 200

// Desk is a notify.Sender that anybody at the screen can read.
type Desk struct {
	mu    sync.Mutex // guards kept
	kept  []Sheet
	known map[string]bool // ids of what is kept
}

// Sheet is one message on the desk.
type Sheet struct {
	ID   string
	At   time.Time
	Mask string // of the number
	Text string
}

// New makes a desk for a demo's data folder, which lies in a temporary folder
// that the demo made ("yesline-demo-…"); for any other it is yesline.Denied:
// whoever reads the desk could be anybody who signs up.
func New(data string) (*Desk, error) {
	for _, part := range strings.Split(filepath.ToSlash(filepath.Clean(data)), "/") {
		if strings.HasPrefix(part, "yesline-demo-") {
			return &Desk{known: map[string]bool{}}, nil
		}
	}
	return nil, fmt.Errorf("a desk for codes outside a demo: %w", yesline.Denied)
}

// Send puts a message on the desk, once for its id.
func (d *Desk) Send(ctx context.Context, m notify.Message) error {
	if err := m.Check(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known[m.ID] {
		return nil
	}
	if len(d.kept) == most {
		delete(d.known, d.kept[0].ID)
		d.kept = slices.Delete(d.kept, 0, 1)
	}
	d.known[m.ID] = true
	d.kept = append(d.kept, Sheet{m.ID, time.Now(), m.Mask, string(m.Text.Bytes())})
	return nil
}

// Sheets are the messages kept, newest first.
func (d *Desk) Sheets() []Sheet {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := slices.Clone(d.kept)
	slices.Reverse(all)
	return all
}
