package main

import "context"

func inDoors(root string) ([]*mutant, error) { return nil, nil }
func byHand(root string) ([]*mutant, error)  { return nil, nil }
func atDoors(ctx context.Context, o options, folder, overlay string, mutants []*mutant) error {
	return nil
}
