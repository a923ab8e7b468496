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

func personUID(id yesline.PersonID) types.EntityUID {
	return types.NewEntityUID("Person", types.String(id))
}

// programUID names a program; "" is the house.
func programUID(id yesline.ProgramID) types.EntityUID {
	return types.NewEntityUID("Program", types.String(cmp.Or(id, HouseID)))
}

func officerUID(account string) types.EntityUID {
	return types.NewEntityUID("Officer", types.String(account))
}

// askerTypes are those who ask and what the schema calls them.
var askerTypes = map[session.Kind]types.EntityType{
	session.Person: "Person", session.Buyer: "Buyer", session.Operator: "Operator",
	session.Officer: "Officer", session.Auditor: "Auditor", session.Machine: "Machine",
}

// asker is who asks, in Cedar's words.
type asker struct {
	types.Entity
	alone, nobody types.Value // the sets of them and of nobody
}

// newAsker gives who asks; false for nobody. Without a program one is of the
// house, and no person is.
func newAsker(who session.Principal) (*asker, bool) {
	name, known := askerTypes[who.Kind()]
	if !known || who.String() == "" || who.Kind() == session.Person && who.Program() == "" {
		return nil, false
	}
	uid := types.NewEntityUID(name, types.String(who.String()))
	return &asker{
		Entity: types.Entity{UID: uid, Attributes: types.NewRecord(types.RecordMap{
			"program": programUID(who.Program()),
			"ofHouse": types.Boolean(who.Program() == ""),
			"account": types.String(who.Account()), // "" is nobody's: nothing belongs to it
		})},
		alone: types.NewSet(uid), nobody: types.Set{},
	}, true
}

// among is a set of which nothing is kept but the asker: the rules ask of a set
// whether it contains the principal and nothing else (lint sees to that), and
// so who else is in it can neither cost nor tell.
func among[T ~string](ids []T, a *asker, kind types.EntityType) types.Value {
	if a.UID.Type == kind && slices.Contains(ids, T(a.UID.ID)) {
		return a.alone
	}
	return a.nobody
}

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
	reads &= f.given(o.Kind)
	if reads == 0 {
		return e
	}
	attrs := make(types.RecordMap, 6)
	put := func(a attribute, name types.String, value func() types.Value) {
		if reads&a != 0 {
			attrs[name] = value()
		}
	}
	put(hasProgram, "program", func() types.Value { return programUID(f.Program) })
	put(hasOwner, "owner", func() types.Value { return personUID(f.Owner) })
	put(hasSelf, "self", func() types.Value { return personUID(f.Owner) })
	put(hasParties, "parties", func() types.Value { return among(f.Parties, asker, "Person") })
	put(hasSharedWith, "sharedWith", func() types.Value { return among(f.SharedWith, asker, "Person") })
	put(hasKept, "kept", func() types.Value { return types.Boolean(f.Kept) })
	put(hasOpenTo, "openTo", func() types.Value { return among(f.OpenTo, asker, "Officer") })
	put(hasAccount, "account", func() types.Value { return types.String(f.Account) })
	put(hasRole, "role", func() types.Value { return types.String(f.Role) })
	put(hasAsker, "asker", func() types.Value { return officerUID(f.Asker) })
	e.Attributes = types.NewRecord(attrs)
	return e
}
