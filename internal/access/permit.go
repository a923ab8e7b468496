package access

import (
	"fmt"
	"time"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/session"
)

// Verb is what somebody wants to do to an object. The policies name each.
type Verb string

const (
	List     Verb = "list"     // a person's own calls
	View     Verb = "view"     // one call, without sound
	Listen   Verb = "listen"   // a track's sound, and its waveform
	Allow    Verb = "allow"    // give share or license on one's own voice in a call
	Withdraw Verb = "withdraw" // take back one's own consent in a call
	Log      Verb = "log"      // read who did what to one's own voice
	Receipt  Verb = "receipt"  // fetch a receipt that one holds
	Reveal   Verb = "reveal"   // a number in clear
	Invite   Verb = "invite"   // add a contributor to a program
	Verify   Verb = "verify"   // check the log
	Finish   Verb = "finish"   // machines: close a track and draw its waveform
)

// Object is what a request names: its kind ("call", "track", "person",
// "receipt", "program", "house") and its id.
type Object struct{ Kind, ID string }

// Permit is one decision of the gate: this principal may do this verb to these
// objects for a short while. Its fields are private, the Gate is its only
// maker, and its zero value permits nothing.
type Permit struct {
	who   session.Principal
	verb  Verb
	items []Item
	until time.Time
	entry audit.Ref
}

// Item is one object of a Permit with what the gate knew of it. Whoever opens
// checks Generation again: consent may have changed since.
type Item struct {
	Object
	Program    yesline.ProgramID
	Owner      yesline.PersonID // whose voice or record it is; "" for a call or the house
	Generation int64            // the consent revision the decision was made on
}

// Allows gives the item if the permit covers this verb on this object now.
func (p Permit) Allows(v Verb, kind, id string) (Item, error) {
	if p.verb == v && v != "" && time.Now().Before(p.until) {
		for _, it := range p.items {
			if it.Kind == kind && it.ID == id {
				return it, nil
			}
		}
	}
	return Item{}, fmt.Errorf("permit to %s a %s: %w", v, kind, yesline.Denied)
}

// Items gives all that the permit covers for this verb now, in one kind.
func (p Permit) Items(v Verb, kind string) ([]Item, error) {
	if p.verb != v || v == "" || !time.Now().Before(p.until) {
		return nil, fmt.Errorf("permit to %s: %w", v, yesline.Denied)
	}
	var items []Item
	for _, it := range p.items {
		if it.Kind == kind {
			items = append(items, it)
		}
	}
	return items, nil
}

// Who was permitted.
func (p Permit) Who() session.Principal { return p.who }

// Entry is the audit entry of the decision; it was durable before the Permit
// existed.
func (p Permit) Entry() audit.Ref { return p.entry }
