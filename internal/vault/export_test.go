package vault

import (
	"context"

	"yesline/internal/audit"
)

// CommitFloors does now what the Sealer does every 10 s.
func (s *Sealer) CommitFloors(ctx context.Context) error { return s.commitFloors(ctx) }

// DropRendition is what happens when the commit that closes one seems to fail.
func (o *Opener) DropRendition(ctx context.Context, object string) error {
	return o.dropRendition(ctx, object)
}

// ParseTree reads a closing entry.
func ParseTree(e audit.Entry) error {
	_, err := parseTree(e)
	return err
}

// ParseSpans counts the seconds that are called damaged.
func ParseSpans(s string) (int, error) {
	seconds, err := parseSpans(s)
	return len(seconds), err
}

const SlotSize = slotSize
