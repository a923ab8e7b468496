package consent

import (
	"context"
	"fmt"

	"yesline"
	"yesline/internal/db"
)

// viewsMost is how many calls' standings a node remembers.
const viewsMost = 1000

// Views remember how consent stands in the calls that are being listened to.
// What they tell is at once as new as any change in this process, and on
// another node within a second.
type Views struct {
	consent *Consent
	kept    *db.Kept[map[yesline.PersonID]Standing]
}

// NewViews looks at what c keeps. Close gives back what it took.
func NewViews(c *Consent) *Views {
	return &Views{c, db.Keep[map[yesline.PersonID]Standing](c.db, viewsMost)}
}

func (v *Views) Close() { v.kept.Close() }

// Of gives how consent stands for everybody in a call. The caller does not
// change it. yesline.NotFound for a call of which there is nothing.
func (v *Views) Of(ctx context.Context, call yesline.CallID) (map[yesline.PersonID]Standing, error) {
	return v.kept.Get(ctx, string(call), subject(call), func(ctx context.Context) (map[yesline.PersonID]Standing, error) {
		all, err := v.consent.Standings(ctx, []yesline.CallID{call})
		if err == nil && len(all[call]) == 0 {
			err = fmt.Errorf("the consent of a call: %w", yesline.NotFound)
		}
		return all[call], err
	})
}
