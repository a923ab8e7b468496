// Package session says who is asking: passkeys, recovery codes, links that work
// once, sessions, API keys, SIP devices. It knows no names, numbers or addresses.
package session

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"yesline"
)

// Kind tells what sort of asker a Principal is. Each account has one kind and
// one place: a program, or for staff the whole house.
type Kind string

const (
	Nobody   Kind = ""         // the zero Principal: may do nothing
	Person   Kind = "person"   // a contributor or a contact: a call's rows tell which
	Buyer    Kind = "buyer"    // licenses what people license
	Operator Kind = "operator" // runs the house or a program; never listens and never reveals
	Officer  Kind = "officer"  // answers for it; opens content only by a case that a second person approved
	Auditor  Kind = "auditor"  // reads the log's proofs
	Machine  Kind = "machine"  // a named part of the house, such as the one that finishes tracks
)

// ProofTime is how long a passkey, a link or a recovery code counts as fresh.
const ProofTime = 5 * time.Minute

// Principal is who asks. It is made by this package only and its zero value is
// nobody. Principals are equal if they are the same asker in the same session.
type Principal struct {
	kind    Kind
	name    string // "per_…", "stf_…", "os:1000", "svc:finish"
	program yesline.ProgramID
	session yesline.SessionID
	key     yesline.KeyID
	scopes  string // of a key: " list view "
	proved  int64  // when they last showed who they are, unix milliseconds
}

func (p Principal) Kind() Kind                 { return p.kind }
func (p Principal) Program() yesline.ProgramID { return p.program } // "" for machines and for staff of the house
func (p Principal) Session() yesline.SessionID { return p.session } // "" without one
func (p Principal) Key() yesline.KeyID         { return p.key }     // "" unless they ask by an API key
func (p Principal) String() string             { return p.name }    // how the log names them

// Person is the person who asks, or "".
func (p Principal) Person() yesline.PersonID {
	if p.kind != Person {
		return ""
	}
	return yesline.PersonID(p.name)
}

// Account is what passkeys, sessions and keys belong to: a person's or a staff
// member's id. It is "" for machines and for whoever holds the local socket.
func (p Principal) Account() string {
	if p.kind == Person || p.isStaff() {
		return p.name
	}
	return ""
}

// isStaff is so for whoever was appointed, and not for who holds the local
// socket.
func (p Principal) isStaff() bool { return strings.HasPrefix(p.name, "stf_") }

// May reports whether the way they came in covers the verb: a session covers
// all, a key what its scopes name.
func (p Principal) May(verb string) bool {
	return p.key == "" || strings.Contains(p.scopes, " "+verb+" ")
}

// Fresh reports whether they showed within ProofTime that it is them. A key
// never is; machines need not be.
func (p Principal) Fresh() bool {
	return p.kind == Machine || p.key == "" && time.Since(time.UnixMilli(p.proved)) < ProofTime
}

// Scopes are the verbs that a key covers; nil for a session.
func (p Principal) Scopes() []string { return strings.Fields(p.scopes) }

func scopesOf(verbs []string) string {
	verbs = slices.Clone(verbs)
	slices.Sort(verbs)
	return " " + strings.Join(slices.Compact(verbs), " ") + " "
}

// Service is a named part of the house. Machines ask the gate like everybody.
func Service(name string) Principal { return Principal{kind: Machine, name: "svc:" + name} }

// Local is whoever holds the house's own socket: an operator who never
// listens, reveals, or counts as the second person.
func Local(uid uint32) Principal {
	return Principal{kind: Operator, name: fmt.Sprintf("os:%d", uid), proved: time.Now().UnixMilli()}
}
