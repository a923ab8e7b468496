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
	View     Verb = "view"     // one call, without sound; a case
	Listen   Verb = "listen"   // a track's sound, and its waveform
	Allow    Verb = "allow"    // give share or license on one's own voice in a call
	Withdraw Verb = "withdraw" // take back one's own consent in a call
	Log      Verb = "log"      // read who did what to one's own voice
	Receipt  Verb = "receipt"  // fetch a receipt that one holds
	Reveal   Verb = "reveal"   // a number in clear
	Invite   Verb = "invite"   // add a contributor to a program
	Verify   Verb = "verify"   // check the log
	Finish   Verb = "finish"   // machines: close a track and draw its waveform
	Manage   Verb = "manage"   // one's own account: sessions, passkeys, keys, phones, terms; and to remove each
	Break    Verb = "break"    // ask for a case about a call or a person; close one's own
	Approve  Verb = "approve"  // say yes or no, as the second person, to a case that somebody else asked for
	Staff    Verb = "staff"    // see who works here, and the cases
	Appoint  Verb = "appoint"  // give somebody a role here; end a colleague's account
	Contain  Verb = "contain"  // revoke tickets and rotate what signs them
	Dial     Verb = "dial"     // place calls and take them, as oneself
	Talk     Verb = "talk"     // act in a call that one is a party of: answer, agree, hang up
)

// Fresh reports whether the gate wants the verb's asker to have shown within
// session.ProofTime that it is them. An API key never can. To close one's case
// (Break on a case) needs none: it only takes away.
func (v Verb) Fresh() bool { return v == Reveal || v == Break || v == Approve || v == Appoint }

// needsProof is Fresh with the exception.
func needsProof(v Verb, kind string) bool { return v.Fresh() && !(v == Break && kind == "case") }

// Object is what a request names: its kind ("call", "track", "person",
// "receipt", "program", "house", "account", "session", "passkey", "key",
// "device", "case", "staff") and its id.
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

// MayAppoint reports whether the permit (Appoint) lets its holder give this
// role there: in the program, or with "" in the house. It names the object,
// and this the role: an operator appoints anybody but officers, and the first
// officer of a place that has none; an officer appoints officers and auditors.
// So nobody who runs a place chooses who watches over it.
func (p Permit) MayAppoint(role session.Kind, program yesline.ProgramID, hasOfficer bool) error {
	kind, id := "program", string(program)
	if program == "" {
		kind, id = "house", HouseID
	}
	if _, err := p.Allows(Appoint, kind, id); err != nil {
		return err
	}
	may := false
	switch p.who.Kind() {
	case session.Operator:
		may = role == session.Operator || role == session.Buyer || role == session.Auditor || role == session.Officer && !hasOfficer
	case session.Officer:
		may = role == session.Officer || role == session.Auditor
	}
	if !may {
		return fmt.Errorf("giving a role that is not theirs to give: %w", yesline.Denied)
	}
	return nil
}
