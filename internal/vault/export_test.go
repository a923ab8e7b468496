package vault

import "context"

// CommitFloors does now what the Sealer does every 10 s.
func (s *Sealer) CommitFloors(ctx context.Context) error { return s.commitFloors(ctx) }

const SlotSize = slotSize
