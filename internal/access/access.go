// Package access decides whether this principal may do this to this object
// now. The yes is a Permit, and its entry in the log is durable before it.
package access

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go/types"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/session"
)

const (
	// PermitTime is how long a Permit lives, counted from before the facts
	// were read.
	PermitTime = 30 * time.Second

	// MaxSet is how many objects one decision may name.
	MaxSet = 500

	maxSubjects = 16  // audit's limit of one entry
	maxNamed    = 16  // ids of a set that its entry spells out
	maxDetails  = 8   // of the caller
	maxValue    = 128 // bytes of a caller's key or value
)

// Gate decides. It is made by New.
type Gate struct {
	log     func(context.Context, audit.Entry) (audit.Ref, error)
	facts   map[string]Loader
	rules   *rules
	askers  askers
	denials denials
}

// New checks the embedded policies and refuses to make a gate of bad ones: the
// error names file and line, and is a reason not to start. appendEntry is
// audit's Log.Append; facts has a Loader for each kind of object but the house.
// A kind without one cannot be asked for.
func New(appendEntry func(context.Context, audit.Entry) (audit.Ref, error), facts map[string]Loader) (*Gate, error) {
	if appendEntry == nil {
		return nil, errors.New("a gate needs a log")
	}
	for kind := range facts {
		if _, known := entityTypes[kind]; !known || kind == "house" {
			return nil, fmt.Errorf("facts of %q: the gate knows no such kind of object", kind)
		}
	}
	r, err := readRules(policyText, schemaText)
	if err != nil {
		return nil, fmt.Errorf("reading the policies: %w", err)
	}
	return &Gate{log: appendEntry, facts: maps.Clone(facts), rules: r, askers: askers{seed: maphash.MakeSeed()}}, nil
}

// Close writes the denials that were counted and not yet written.
func (g *Gate) Close(ctx context.Context) error {
	g.denials.end()
	return g.settle(ctx, maxCounted)
}

// Ask decides about one object. The no is always yesline.NotFound, in the same
// words and at the same cost whether the object is absent or forbidden. Who has
// to prove first that it is them hears yesline.Stale, and whose key does not
// cover the verb hears yesline.NotFound, both before anything is read of the
// object. Yes and no are durable in the log before Ask returns; if the log
// fails, there is no permit and the error is yesline.Unavailable. detail tells
// the route: at most 8 short values, no content, no numbers.
func (g *Gate) Ask(ctx context.Context, who session.Principal, v Verb, o Object, detail map[string]string) (Permit, error) {
	return g.AskSet(ctx, who, v, []Object{o}, detail)
}

// AskSet decides about up to 500 objects of one program at once. The permit
// covers those that pass; it is refused like a single one if none does.
func (g *Gate) AskSet(ctx context.Context, who session.Principal, v Verb, objects []Object, detail map[string]string) (Permit, error) {
	if len(objects) == 0 || len(objects) > MaxSet || len(detail) > maxDetails {
		return Permit{}, fmt.Errorf("asking to %s %d objects with %d details, at most %d and %d: %w",
			v, len(objects), len(detail), MaxSet, maxDetails, yesline.Invalid)
	}
	asker, somebody := g.askers.find(who)
	if !somebody {
		return Permit{}, refusal(v, objects[0].Kind) // web counts who has no session
	}
	if err := g.settle(ctx, settleAtOnce); err != nil {
		return Permit{}, err
	}
	d := decision{who: who, verb: v, asked: objects, detail: detail}
	if err := g.mayAsk(ctx, &d); err != nil {
		return Permit{}, err
	}
	until := time.Now().Add(PermitTime)
	facts, err := g.load(ctx, objects)
	if err != nil {
		return Permit{}, fmt.Errorf("reading the facts to %s: %w", v, err)
	}
	for _, o := range objects {
		f := facts[o]
		if !f.there {
			f.Facts = phantom
			f.Program = cmp.Or(who.Program(), f.Program)
		}
		if g.passes(asker, v, o, f.Facts) && f.there {
			d.allow(o, f.Facts)
			delete(facts, o) // once, however often it was named
		}
	}
	if len(d.items) == 0 {
		return Permit{}, g.refuse(ctx, &d)
	}
	ref, err := g.write(ctx, d.allowed()...)
	if err != nil {
		return Permit{}, err
	}
	return Permit{who: who, verb: v, items: d.items, until: until, entry: ref}, nil
}

// mayAsk looks at how they came in, before anything is read: a key asks for
// what its scopes name and never where a fresh proof is needed, and a session
// needs one there.
func (g *Gate) mayAsk(ctx context.Context, d *decision) error {
	proof := slices.ContainsFunc(d.asked, func(o Object) bool { return needsProof(d.verb, o.Kind) })
	switch {
	case !d.who.May(string(d.verb)), d.verb.Fresh() && d.who.Key() != "":
		d.why = "its key does not cover it"
		return g.refuse(ctx, d)
	case proof && !d.who.Fresh():
		d.why = "not proved lately"
		if err := g.refuse(ctx, d); !errors.Is(err, yesline.NotFound) {
			return err
		}
		return fmt.Errorf("asking to %s: %w", d.verb, yesline.Stale)
	}
	return nil
}

func refusal(v Verb, kind string) error {
	return fmt.Errorf("asking to %s a %s: %w", v, kind, yesline.NotFound)
}

// passes decides about one object with these facts, which must have no hole,
// also where no policy looks.
func (g *Gate) passes(asker *asker, v Verb, o Object, f Facts) bool {
	if f.given(o.Kind) != shapes[o.Kind] {
		return false
	}
	answer := g.rules.sorted[question{v, asker.UID.Type, entityTypes[o.Kind]}]
	if answer == nil {
		return false
	}
	object := objectEntity(o, f, answer.reads, asker)
	return answer.decide(v, asker.UID, object.UID, &scene{loaded: [3]types.Entity{asker.Entity, object, g.rules.actions[v]}})
}

// known is what was found of an object; not there is as much work as there.
type known struct {
	Facts
	there bool
}

// load asks each room once for the facts of its objects.
func (g *Gate) load(ctx context.Context, objects []Object) (map[Object]known, error) {
	ids := map[string][]string{}
	found := make(map[Object]known, len(objects))
	for _, o := range objects {
		switch {
		case o.Kind == "house":
			if o.ID == HouseID {
				found[o] = known{there: true}
			}
		case g.facts[o.Kind] == nil:
			return nil, fmt.Errorf("no room knows the kind of object asked for: %w", yesline.Unavailable)
		case wellFormed(o.ID):
			ids[o.Kind] = append(ids[o.Kind], o.ID)
		}
	}
	for kind, some := range ids {
		facts, err := g.facts[kind](ctx, some)
		if err != nil {
			return nil, err
		}
		for _, id := range some {
			f, ok := facts[id]
			found[Object{kind, id}] = known{f, ok && !ofAnother(kind, id, f)}
		}
	}
	return found, nil
}

// ofAnother reports whether these are the facts of something else.
func ofAnother(kind, id string, f Facts) bool {
	switch kind {
	case "person":
		return string(f.Owner) != id
	case "program":
		return string(f.Program) != id
	case "account", "staff":
		return f.Account != id
	}
	return false
}

// wellFormed keeps what cannot be an id of ours from the rooms and the log.
func wellFormed(id string) bool { return len(id) > 4 && yesline.IsID(id[:3], id) }

// decision is one question with what the gate found.
type decision struct {
	who     session.Principal
	verb    Verb
	asked   []Object
	detail  map[string]string
	why     string // of a no that came before the facts
	items   []Item
	program yesline.ProgramID
	about   []yesline.PersonID // whose access lists it belongs to
}

// allow adds an object that passed. A set is of one program, that of its first
// object: the keys that seal its entry are a program's.
func (d *decision) allow(o Object, f Facts) {
	if len(d.items) == 0 {
		d.program = f.Program
		d.about = append(d.about, d.who.Person())
	}
	if f.Program != d.program {
		return
	}
	item := Item{Object: o, Program: f.Program, Owner: f.Owner, Generation: f.Generation}
	if o.Kind == "call" { // a call is about all its parties
		item.Owner = ""
		d.about = append(d.about, f.Parties...)
	} else {
		d.about = append(d.about, f.Owner)
	}
	d.items = append(d.items, item)
}

// allowed are the entries of a yes: one, or one for each 16 subjects, so that
// nobody misses it in their access list.
func (d *decision) allowed() []audit.Entry {
	permitted := make([]Object, len(d.items))
	for i, it := range d.items {
		permitted[i] = it.Object
	}
	e := d.entry("allowed", d.program, permitted)
	if len(permitted) < len(d.asked) {
		e.Detail["asked"] = strconv.Itoa(len(d.asked))
	}
	slices.Sort(d.about)
	about := slices.DeleteFunc(slices.Compact(d.about), func(p yesline.PersonID) bool { return p == "" })
	if len(about) <= maxSubjects {
		e.Subjects = about
		return []audit.Entry{e}
	}
	parts := (len(about) + maxSubjects - 1) / maxSubjects
	var entries []audit.Entry
	for some := range slices.Chunk(about, maxSubjects) {
		part := e
		part.Subjects = some
		part.Detail = maps.Clone(e.Detail)
		part.Detail["part"] = fmt.Sprintf("%d of %d", len(entries)+1, parts)
		entries = append(entries, part)
	}
	return entries
}

// refused is the entry of a no. It belongs to who asked and to nobody else:
// whose the object is, is not for the log of a refusal to tell. Nor does it
// keep the caller's detail, which may have been worded with knowledge of the
// object (how long a voice is) that one who may not have it could read here.
func (d *decision) refused() audit.Entry {
	d.detail = nil
	e := d.entry("refused", d.who.Program(), d.asked)
	if d.why != "" {
		e.Detail["why"] = d.why
	}
	if p := d.who.Person(); p != "" {
		e.Subjects = []yesline.PersonID{p}
	}
	return e
}

func (d *decision) entry(result string, program yesline.ProgramID, objects []Object) audit.Entry {
	e := audit.Entry{Program: program, Actor: d.who.String(), Verb: string(d.verb), Result: result,
		Detail: make(map[string]string, len(d.detail)+4)}
	for k, v := range d.detail {
		e.Detail[short(k)] = short(v)
	}
	if len(objects) > 1 {
		nameSet(&e, objects)
		return e
	}
	o := objects[0]
	switch {
	case isPerson(o.ID) && d.who.Person() == "" && result == "refused":
		e.Detail["kind"] = short(o.Kind) // under the program's key no entry names a person
	case wellFormed(o.ID) || o == Object{"house", HouseID}:
		e.Object = o.ID
	default:
		e.Detail["kind"] = short(o.Kind) // what somebody typed does not enter the log
	}
	return e
}

// isPerson: a person is also an account.
func isPerson(id string) bool { return strings.HasPrefix(id, "per_") }

// nameSet says which objects without growing with their number: how many, the
// SHA-256 of all ids sorted and joined by newlines, and the first 16 of them.
func nameSet(e *audit.Entry, objects []Object) {
	ids := make([]string, 0, len(objects))
	for _, o := range objects {
		if wellFormed(o.ID) && (!isPerson(o.ID) || e.Result == "allowed") {
			ids = append(ids, o.ID)
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	sum := sha256.Sum256([]byte(strings.Join(ids, "\n")))
	e.Detail["kind"] = short(objects[0].Kind)
	e.Detail["count"] = strconv.Itoa(len(ids))
	e.Detail["sha256"] = hex.EncodeToString(sum[:])
	first := ids[:min(len(ids), maxNamed)]
	e.Detail["ids"] = strings.Join(first[:len(first)/2], " ") // in two halves: a value is short
	e.Detail["ids2"] = strings.Join(first[len(first)/2:], " ")
}

// short bounds what a caller writes into the log.
func short(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxValue)], "")
}

// refuse counts and logs a no, and gives the one error there is for it.
func (g *Gate) refuse(ctx context.Context, d *decision) error {
	if g.denials.add(time.Now(), d.who, d.verb) {
		if _, err := g.write(ctx, d.refused()); err != nil {
			return err
		}
	}
	return refusal(d.verb, d.asked[0].Kind)
}

// settle writes at most n counted denials of minutes that have ended.
func (g *Gate) settle(ctx context.Context, n int) error {
	due := g.denials.take(time.Now(), n)
	for i, c := range due {
		_, err := g.write(ctx, c.entry())
		if errors.Is(err, yesline.NotFound) { // they were erased meanwhile, and their key with them
			_, err = g.write(ctx, c.nameless().entry())
		}
		if err != nil {
			g.denials.putBack(due[i:])
			return err
		}
	}
	return nil
}

// write makes entries durable and gives the first one's place.
func (g *Gate) write(ctx context.Context, entries ...audit.Entry) (first audit.Ref, err error) {
	for i, e := range entries {
		ref, err := g.log(ctx, e)
		if err != nil {
			return audit.Ref{}, fmt.Errorf("the log did not take the decision: %w: %w", yesline.Unavailable, err)
		}
		if i == 0 {
			first = ref
		}
	}
	return first, nil
}
