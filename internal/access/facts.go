package access

import (
	"context"
	"hash/maphash"
	"sync/atomic"

	"github.com/cedar-policy/cedar-go/types"

	"yesline"
	"yesline/internal/session"
)

// Facts are what the gate must know of an object to decide. The room that owns
// the kind supplies them. What is missing here makes the gate refuse:
//
//	call     Program, Parties
//	track    Program, Owner, Parties; SharedWith and Kept as they are
//	person   Program, Owner (the person)
//	receipt  Program, Owner
//	program  Program (itself)
type Facts struct {
	Program    yesline.ProgramID
	Owner      yesline.PersonID   // whose voice, record or receipt it is
	Parties    []yesline.PersonID // who was on the call
	SharedWith []yesline.PersonID // to whom the owner gave share
	Kept       bool               // the consent to record stands and the key lives
	Generation int64              // the consent revision all this was read at
}

// Loader answers the facts of the objects of one kind that exist; ids that are
// absent are absent from the answer. It gets at most 500 ids.
type Loader = func(ctx context.Context, ids []string) (map[string]Facts, error)

// HouseID is the id of the one object of the kind "house".
const HouseID = "house"

// entityTypes are the object kinds and what the schema calls them.
var entityTypes = map[string]types.EntityType{
	"call": "Call", "track": "Track", "person": "OwnRecord", "receipt": "ReceiptDoc", "program": "Program", "house": "House",
}

// phantom stands in for an object that does not exist or was not loaded, so
// that its refusal costs what a stranger's in the same program costs: it is
// decided about like them, in the asker's program, and never permitted.
var phantom = Facts{
	Program: "prg_phantom", Owner: "per_phantom", Kept: true,
	Parties: []yesline.PersonID{"per_phantom", "per_phantasm"},
}

func personUID(id yesline.PersonID) types.EntityUID {
	return types.NewEntityUID("Person", types.String(id))
}

func programUID(id yesline.ProgramID) types.EntityUID {
	return types.NewEntityUID("Program", types.String(id))
}

func persons(ids []yesline.PersonID) types.Set {
	if len(ids) == 0 {
		return types.Set{}
	}
	values := make([]types.Value, len(ids))
	for i, id := range ids {
		values[i] = personUID(id)
	}
	return types.NewSet(values...)
}

// askerEntity is who asks, in Cedar's words; false for nobody.
func askerEntity(who session.Principal) (types.Entity, bool) {
	switch who.Kind() {
	case session.Person:
		if who.Program() == "" || who.Person() == "" {
			return types.Entity{}, false
		}
		return types.Entity{UID: personUID(who.Person()),
			Attributes: types.NewRecord(types.RecordMap{"program": programUID(who.Program())})}, true
	case session.Operator:
		return types.Entity{UID: types.NewEntityUID("Operator", types.String(who.String()))}, true
	case session.Machine:
		return types.Entity{UID: types.NewEntityUID("Machine", types.String(who.String()))}, true
	}
	return types.Entity{}, false
}

// askers keeps the entities of those who asked lately. They are pure functions
// of the principal, so what is kept is never stale; a place is simply taken by
// the next. Objects are not kept: their cost would tell who else asks for them.
type askers struct {
	seed   maphash.Seed
	places [256]atomic.Pointer[keptAsker]
}

type keptAsker struct {
	who    session.Principal
	entity types.Entity
}

func (a *askers) entity(who session.Principal) (types.Entity, bool) {
	place := &a.places[maphash.Comparable(a.seed, who)%uint64(len(a.places))]
	if kept := place.Load(); kept != nil && kept.who == who {
		return kept.entity, true
	}
	e, somebody := askerEntity(who)
	if somebody {
		place.Store(&keptAsker{who, e})
	}
	return e, somebody
}

// objectEntity is the object, in Cedar's words. An attribute that the facts do
// not give is left out, and the rules refuse what is incomplete.
func objectEntity(o Object, f Facts) types.Entity {
	e := types.Entity{UID: types.NewEntityUID(entityTypes[o.Kind], types.String(o.ID))}
	if o.Kind == "program" || o.Kind == "house" {
		return e
	}
	attrs := make(types.RecordMap, 5)
	if f.Program != "" {
		attrs["program"] = programUID(f.Program)
	}
	owner := types.String("owner")
	if o.Kind == "person" {
		owner = "self"
	}
	if f.Owner != "" && o.Kind != "call" {
		attrs[owner] = personUID(f.Owner)
	}
	if o.Kind == "call" || o.Kind == "track" {
		if len(f.Parties) > 0 {
			attrs["parties"] = persons(f.Parties)
		}
	}
	if o.Kind == "track" {
		attrs["sharedWith"] = persons(f.SharedWith)
		attrs["kept"] = types.Boolean(f.Kept)
	}
	e.Attributes = types.NewRecord(attrs)
	return e
}
