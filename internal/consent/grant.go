package consent

import (
	"fmt"
	"time"

	"yesline"
)

// Purpose is what a person says yes or no to. All are off until chosen.
type Purpose string

const (
	Record  Purpose = "record"  // keep my voice of this call
	Share   Purpose = "share"   // the other party may listen to my voice
	License Purpose = "license" // my voice may be licensed

	// Derive is what Kept grants: to draw or transcribe what is already kept. No
	// person is asked for it, and it lets no new sound in.
	Derive Purpose = "derive"
)

// LeaseTime is how long a Grant lives. Capture renews it from memory; without
// renewal there are no bytes.
const LeaseTime = 3 * time.Second

// Grant is a lease of seconds to write one person's voice of one call. Its
// fields are private, this package is its only maker, and its zero value
// allows nothing.
type Grant struct {
	program  yesline.ProgramID
	call     yesline.CallID
	person   yesline.PersonID
	purpose  Purpose
	revision int64
	until    time.Time // carries the monotonic clock
}

// Allows says whether the grant stands now for this purpose, call and person.
func (g Grant) Allows(p Purpose, call yesline.CallID, person yesline.PersonID) error {
	if g.purpose != p || p == "" || g.call != call || call == "" || g.person != person || person == "" || !time.Now().Before(g.until) {
		return fmt.Errorf("grant to %s a voice: %w", p, yesline.Denied)
	}
	return nil
}

// Program is the program whose keys seal what the grant allows.
func (g Grant) Program() yesline.ProgramID { return g.program }
func (g Grant) Call() yesline.CallID       { return g.call }
func (g Grant) Person() yesline.PersonID   { return g.person }
