package access

import (
	"cmp"
	"context"
	"hash/maphash"
	"slices"
	"sync/atomic"

	"github.com/cedar-policy/cedar-go/types"

	"yesline"
	"yesline/internal/session"
)

// Facts are what the gate must know of an object to decide. The room that owns
// the kind supplies them. What is missing here makes the gate refuse:
//
//	call     Program, Parties; OpenTo as it is
//	track    Program, Owner, Parties; SharedWith, Kept and OpenTo (of its call) as they are
//	person   Program, Owner (the person); OpenTo as it is
//	receipt  Program, Owner
//	program  Program (itself)
//	account, session, passkey, key, device
//	         Account; Program as it is
//	staff    Account (itself), Role; Program as it is
//	case     Program, Asker: see Cases.Facts
//
// A Program "" means the house for what belongs to an account and for staff,
// and is a hole everywhere else.
type Facts struct {
	Program    yesline.ProgramID
	Owner      yesline.PersonID   // whose voice, record or receipt it is
	Parties    []yesline.PersonID // who was on the call
	SharedWith []yesline.PersonID // to whom the owner gave share
	Kept       bool               // the consent to record stands and the key lives
	Generation int64              // the consent revision all this was read at
	OpenTo     []string           // officers ("stf_…") who have an open case about it now: see Cases.OpenTo
	Account    string             // whose account, session, passkey, key or phone it is; of staff, the account itself
	Role       session.Kind       // of staff: what they are
	Asker      string             // of a case: who asked for it ("stf_…")
}

// Loader answers the facts of the objects of one kind that exist; ids that are
// absent are absent from the answer. It gets at most 500 ids.
type Loader = func(ctx context.Context, ids []string) (map[string]Facts, error)

// HouseID is the id of the one object of the kind "house".
const HouseID = "house"

// entityTypes are the object kinds and what the schema calls them.
var entityTypes = map[string]types.EntityType{
	"call": "Call", "track": "Track", "person": "OwnRecord", "receipt": "ReceiptDoc", "program": "Program", "house": "House",
	"account": "Belonging", "session": "Belonging", "passkey": "Belonging", "key": "Belonging", "device": "Belonging",
	"case": "BreakCase", "staff": "Colleague",
}

// phantom stands in for an object that does not exist or was not loaded, so
// that its refusal costs what a stranger's in the same program costs: it is
// decided about like them, in the asker's program, and never permitted.
var phantom = Facts{
	Program: "prg_phantom", Owner: "per_phantom", Kept: true,
	Parties: []yesline.PersonID{"per_phantom", "per_phantasm"},
	Account: "per_phantom", Role: "phantom", Asker: "stf_phantom",
}

// programUID names a program; "" is the house.
func programUID(id yesline.ProgramID) types.EntityUID {
	return types.NewEntityUID("Program", types.String(cmp.Or(id, HouseID)))
}

// askerTypes are those who ask and what the schema calls them.
var askerTypes = map[session.Kind]types.EntityType{
	session.Person: "Person", session.Buyer: "Buyer", session.Operator: "Operator",
	session.Officer: "Officer", session.Auditor: "Auditor", session.Machine: "Machine",
}

// asker is who asks, in Cedar's words, with what was said to them of objects
// lately.
type asker struct {
	types.Entity
	who  session.Principal
	told [32]atomic.Pointer[told]
}

// newAsker gives who asks; false for nobody. Without a program one is of the
// house, and no person is.
func newAsker(who session.Principal) (*asker, bool) {
	name, known := askerTypes[who.Kind()]
	if !known || who.String() == "" || who.Kind() == session.Person && who.Program() == "" {
		return nil, false
	}
	return &asker{who: who, Entity: types.Entity{UID: types.NewEntityUID(name, types.String(who.String())),
		Attributes: types.NewRecord(types.RecordMap{
			"program": programUID(who.Program()),
			"ofHouse": types.Boolean(who.Program() == ""),
			"account": types.String(who.Account()), // "" is nobody's: nothing belongs to it
		})}}, true
}

// standing is all that is said of an object to who asks: which of its attributes
// are read, which of those are theirs (or true), and a colleague's role. The
// rules hold what is an id against the asker and nothing else (lint sees to
// that), so who else an object is about can neither cost nor tell, and what
// does not exist is said like what is a stranger's.
type standing struct {
	reads, theirs attribute
	role          session.Kind
}

// told is a standing in Cedar's words. It is a function of the standing and the
// asker, so it is never stale, and nobody else's questions make it.
type told struct {
	standing
	attributes types.Record
}

// standing says how an object stands to who asks.
func (a *asker) standing(f Facts, reads attribute) standing {
	r := standing{reads: reads}
	is := func(theirs bool, attr attribute) {
		if theirs {
			r.theirs |= attr & reads
		}
	}
	person, account := a.who.Person(), a.who.Account()
	is(f.Program == a.who.Program(), hasProgram)
	is(f.Kept, hasKept)
	is(account != "" && f.Account == account, hasAccount)
	if person != "" {
		is(f.Owner == person, hasOwner|hasSelf)
		is(slices.Contains(f.Parties, person), hasParties)
		is(slices.Contains(f.SharedWith, person), hasSharedWith)
	}
	if a.who.Kind() == session.Officer {
		is(slices.Contains(f.OpenTo, account), hasOpenTo)
		is(f.Asker == account, hasAsker)
	}
	if reads&hasRole != 0 {
		r.role = f.Role
	}
	return r
}

// tell gives a standing in Cedar's words.
func (a *asker) tell(r standing) types.Record {
	place := &a.told[(uint(r.reads)*7+uint(r.theirs))%uint(len(a.told))]
	if kept := place.Load(); kept != nil && kept.standing == r {
		return kept.attributes
	}
	attrs := types.RecordMap{}
	put := func(attr attribute, name types.String, theirs, anothers types.Value) {
		switch {
		case r.reads&attr == 0:
		case r.theirs&attr != 0:
			attrs[name] = theirs
		default:
			attrs[name] = anothers
		}
	}
	person, officer := types.NewEntityUID("Person", another), types.NewEntityUID("Officer", another)
	put(hasProgram, "program", programUID(a.who.Program()), programUID(another))
	put(hasOwner, "owner", a.UID, person)
	put(hasSelf, "self", a.UID, person)
	put(hasParties, "parties", types.NewSet(a.UID), types.NewSet())
	put(hasSharedWith, "sharedWith", types.NewSet(a.UID), types.NewSet())
	put(hasKept, "kept", types.True, types.False)
	put(hasOpenTo, "openTo", types.NewSet(a.UID), types.NewSet())
	put(hasAccount, "account", types.String(a.who.Account()), types.String(another))
	put(hasRole, "role", types.String(r.role), types.String(r.role))
	put(hasAsker, "asker", a.UID, officer)
	kept := &told{r, types.NewRecord(attrs)}
	place.Store(kept)
	return kept.attributes
}

// another is whoever does not ask. It is nobody's id.
const another = "another"

// askers keeps those who asked lately. What is kept is a pure function of the
// principal, so it is never stale; a place is simply taken by the next. Objects
// are not kept: their cost would tell who else asks for them.
type askers struct {
	seed   maphash.Seed
	places [256]atomic.Pointer[keptAsker]
}

type keptAsker struct {
	who   session.Principal
	asker *asker
}

func (a *askers) find(who session.Principal) (*asker, bool) {
	place := &a.places[maphash.Comparable(a.seed, who)%uint64(len(a.places))]
	if kept := place.Load(); kept != nil && kept.who == who {
		return kept.asker, true
	}
	is, somebody := newAsker(who)
	if somebody {
		place.Store(&keptAsker{who, is})
	}
	return is, somebody
}

// attribute is a set of the attributes that objects have in the schema.
type attribute uint16

const (
	hasProgram attribute = 1 << iota
	hasOwner
	hasSelf
	hasParties
	hasSharedWith
	hasKept
	hasOpenTo
	hasAccount
	hasRole
	hasAsker
	allAttributes attribute = 1<<iota - 1
)

// attributes are those that facts can give, by the schema's names.
var attributes = map[types.String]attribute{
	"program": hasProgram, "owner": hasOwner, "self": hasSelf, "parties": hasParties, "sharedWith": hasSharedWith,
	"kept": hasKept, "openTo": hasOpenTo, "account": hasAccount, "role": hasRole, "asker": hasAsker,
}

// shapes are the attributes of each kind of object; what an empty fact leaves
// out must not be missing.
var shapes = map[string]attribute{
	"call":   hasProgram | hasParties | hasOpenTo,
	"track":  hasProgram | hasOwner | hasParties | hasSharedWith | hasKept | hasOpenTo,
	"person": hasProgram | hasSelf | hasOpenTo, "receipt": hasProgram | hasOwner,
	"account": hasProgram | hasAccount, "session": hasProgram | hasAccount, "passkey": hasProgram | hasAccount,
	"key": hasProgram | hasAccount, "device": hasProgram | hasAccount,
	"staff": hasProgram | hasAccount | hasRole, "case": hasProgram | hasAsker,
	"program": 0, "house": 0,
}

// given are the attributes that facts of a kind give. A set may be empty, and
// what belongs to an account or works here may be of no program but the house.
func (f Facts) given(kind string) attribute {
	has := shapes[kind]
	lacks := func(empty bool, a attribute) {
		if empty {
			has &^= a
		}
	}
	lacks(f.Program == "" && has&hasAccount == 0, hasProgram)
	lacks(f.Owner == "", hasOwner|hasSelf)
	lacks(len(f.Parties) == 0, hasParties)
	lacks(f.Account == "", hasAccount)
	lacks(f.Role == "", hasRole)
	lacks(f.Asker == "", hasAsker)
	return has
}

// objectEntity is the object, in Cedar's words, with those of its attributes
// that somebody reads, for this asker. What the facts do not give is left out,
// and the rules refuse what is incomplete.
func objectEntity(o Object, f Facts, reads attribute, asker *asker) types.Entity {
	e := types.Entity{UID: types.NewEntityUID(entityTypes[o.Kind], types.String(o.ID))}
	if reads &= f.given(o.Kind); reads != 0 {
		e.Attributes = asker.tell(asker.standing(f, reads))
	}
	return e
}
