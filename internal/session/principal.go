// Package session says who is asking: links that work once, sessions, SIP
// devices. It knows no names, numbers or addresses.
package session

import (
	"fmt"

	"yesline"
)

// Kind tells what sort of asker a Principal is.
type Kind string

const (
	Nobody   Kind = ""         // the zero Principal: may do nothing
	Person   Kind = "person"   // somebody signed in, or calling from their device
	Operator Kind = "operator" // runs the house; never listens and never reveals
	Machine  Kind = "machine"  // a named part of the house, such as the one that finishes tracks
)

// Principal is who asks. It is made by this package only and its zero value is
// nobody.
type Principal struct {
	kind    Kind
	name    string // "per_…", "os:1000", "svc:finish"
	program yesline.ProgramID
	session yesline.SessionID
}

func (p Principal) Kind() Kind                 { return p.kind }
func (p Principal) Program() yesline.ProgramID { return p.program } // "" for operators and machines of the house
func (p Principal) Session() yesline.SessionID { return p.session } // "" without one
func (p Principal) String() string             { return p.name }    // how the log names them

// Person is the person who asks, or "".
func (p Principal) Person() yesline.PersonID {
	if p.kind != Person {
		return ""
	}
	return yesline.PersonID(p.name)
}

// Service is a named part of the house. Machines ask the gate like everybody.
func Service(name string) Principal { return Principal{kind: Machine, name: "svc:" + name} }

// Local is whoever holds the house's own socket: an operator who never
// listens, reveals, or counts as the second person.
func Local(uid uint32) Principal { return Principal{kind: Operator, name: fmt.Sprintf("os:%d", uid)} }
