package access

import (
	"context"
	"errors"
	"sync"
	"testing"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/db/dbtest"
	"yesline/internal/session"
)

// house is a gate with real principals. ann and bob had a call; ann's voice of
// it is the track. eve is of their program and has nothing to do with it. zoe
// is of another program.
type house struct {
	t        testing.TB
	gate     *Gate
	sessions *session.Sessions
	who      map[string]session.Principal

	program, other yesline.ProgramID
	call           yesline.CallID
	track          yesline.TrackID
	receipt        yesline.ReceiptID

	mu      sync.Mutex
	facts   map[string]map[string]Facts // by kind and id
	entries []audit.Entry
	logErr  error
	onEntry func(audit.Entry)
}

func newHouse(t testing.TB) *house {
	t.Helper()
	h := &house{t: t, who: map[string]session.Principal{}, program: yesline.NewProgramID(), other: yesline.NewProgramID(),
		call: yesline.NewCallID(), track: yesline.NewTrackID(), receipt: yesline.NewReceiptID()}
	none := func(_ context.Context, _ yesline.ProgramID, _, data []byte) ([]byte, error) { return data, nil }
	var err error
	h.sessions, err = session.New(context.Background(), dbtest.SQLite(t)("content"), "calls.example", session.Sealing{Seal: none, Open: none})
	if err != nil {
		t.Fatal(err)
	}
	h.who["nobody"] = session.Principal{}
	h.who["operator"] = session.Local(1000)
	h.who["finisher"] = session.Service("finish")
	h.who["machine"] = session.Service("other")
	for name, program := range map[string]yesline.ProgramID{"ann": h.program, "bob": h.program, "eve": h.program, "zoe": h.other} {
		h.who[name] = h.signIn(program, yesline.NewPersonID())
	}
	h.kept(true, "bob")
	h.gate, err = New(h.append, h.loaders())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) signIn(program yesline.ProgramID, person yesline.PersonID) session.Principal {
	h.t.Helper()
	token, err := h.sessions.LinkFor(context.Background(), program, person)
	if err != nil {
		h.t.Fatal(err)
	}
	_, who, err := h.sessions.Redeem(context.Background(), token)
	if err != nil {
		h.t.Fatal(err)
	}
	return who
}

func (h *house) as(name string) session.Principal {
	who, ok := h.who[name]
	if !ok {
		h.t.Fatalf("there is no %s", name)
	}
	return who
}

func (h *house) person(name string) yesline.PersonID { return h.as(name).Person() }

// kept sets the facts: whether ann's voice is kept, and with whom it is shared.
func (h *house) kept(kept bool, with ...string) {
	parties := []yesline.PersonID{h.person("ann"), h.person("bob")}
	var shared []yesline.PersonID
	for _, name := range with {
		shared = append(shared, h.person(name))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.facts = map[string]map[string]Facts{
		"call":    {string(h.call): {Program: h.program, Parties: parties, Generation: 7}},
		"track":   {string(h.track): {Program: h.program, Owner: h.person("ann"), Parties: parties, SharedWith: shared, Kept: kept, Generation: 7}},
		"person":  {string(h.person("ann")): {Program: h.program, Owner: h.person("ann")}},
		"receipt": {string(h.receipt): {Program: h.program, Owner: h.person("ann")}},
		"program": {string(h.program): {Program: h.program}},
	}
}

func (h *house) set(kind, id string, f Facts) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.facts[kind][id] = f
}

func (h *house) loaders() map[string]Loader {
	all := map[string]Loader{}
	for _, kind := range []string{"call", "track", "person", "receipt", "program"} {
		all[kind] = func(_ context.Context, ids []string) (map[string]Facts, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			found := map[string]Facts{}
			for _, id := range ids {
				if f, ok := h.facts[kind][id]; ok {
					found[id] = f
				}
			}
			return found, nil
		}
	}
	return all
}

// append is the log. It takes only what audit's log takes.
func (h *house) append(_ context.Context, e audit.Entry) (audit.Ref, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.onEntry != nil {
		h.onEntry(e)
	}
	if h.logErr != nil {
		return audit.Ref{}, h.logErr
	}
	h.entries = append(h.entries, e)
	return audit.Ref{DB: "content", Leaf: yesline.NewEntryID()}, nil
}

// logged gives the entries since the last time.
func (h *house) logged() []audit.Entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	es := h.entries
	h.entries = nil
	return es
}

func (h *house) object(kind string) Object {
	h.t.Helper()
	switch kind {
	case "call":
		return Object{kind, string(h.call)}
	case "track":
		return Object{kind, string(h.track)}
	case "person":
		return Object{kind, string(h.person("ann"))}
	case "receipt":
		return Object{kind, string(h.receipt)}
	case "program":
		return Object{kind, string(h.program)}
	case "house":
		return Object{kind, HouseID}
	}
	h.t.Fatalf("no object of kind %q", kind)
	return Object{}
}

func (h *house) ask(name string, v Verb, o Object) (Permit, error) {
	return h.gate.Ask(context.Background(), h.as(name), v, o, nil)
}

func (h *house) may(name string, v Verb, kind string) Permit {
	h.t.Helper()
	p, err := h.ask(name, v, h.object(kind))
	if err != nil {
		h.t.Fatalf("%s may not %s a %s: %v", name, v, kind, err)
	}
	return p
}

func (h *house) mayNot(name string, v Verb, kind string) {
	h.t.Helper()
	p, err := h.ask(name, v, h.object(kind))
	h.refused(p, err)
}

func (h *house) refused(p Permit, err error) {
	h.t.Helper()
	if !errors.Is(err, yesline.NotFound) {
		h.t.Fatalf("got %v, want not found", err)
	}
	h.useless(p)
}

func (h *house) useless(p Permit) {
	h.t.Helper()
	for _, v := range append(verbs, "") {
		if items, err := p.Items(v, "track"); err == nil || items != nil {
			h.t.Fatalf("a permit that should not be lets %s", v)
		}
	}
	if p.Entry().Leaf != "" || p.Who() != (session.Principal{}) {
		h.t.Fatal("a permit that should not be has an entry")
	}
}
