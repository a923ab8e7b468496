package access

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/db"
	"yesline/internal/session"
)

// house is a gate with real principals. ann and bob had a call; ann's voice of
// it is the track. eve is of their program and has nothing to do with it. zoe
// is of another program. The staff come with staffed.
type house struct {
	t        testing.TB
	gate     *Gate
	sessions *session.Sessions
	who      map[string]session.Principal

	program, other yesline.ProgramID
	call           yesline.CallID
	track          yesline.TrackID
	receipt        yesline.ReceiptID
	ids            map[string]string // of what else there is, by its name

	mu      sync.Mutex
	facts   map[string]map[string]Facts // by kind and id
	entries []audit.Entry
	logErr  error
	onEntry func(audit.Entry)
}

// newHouse is a house of its own with the people of everyone, who have just
// proved that it is them.
func newHouse(t testing.TB) *house {
	t.Helper()
	all := everyone()
	h := &house{t: t, who: map[string]session.Principal{}, sessions: all.sessions, program: all.here, other: all.there,
		call: yesline.NewCallID(), track: yesline.NewTrackID(), receipt: yesline.NewReceiptID(),
		ids: map[string]string{"session": string(yesline.NewSessionID()), "passkey": string(yesline.NewPasskeyID()), "key": string(yesline.NewKeyID()),
			"device": string(yesline.NewDeviceID()), "odd key": string(yesline.NewKeyID()),
			"case": string(yesline.NewCaseID()), "odd case": string(yesline.NewCaseID()), "house case": string(yesline.NewCaseID())}}
	for name, who := range all.who {
		h.who[name] = proved(who, time.Now())
	}
	h.kept(true, "bob")
	var err error
	h.gate, err = New(h.append, h.loaders())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// everyone is the cast, signed in for real, once for all tests: each of them
// costs several writes to a disk.
var everyone = sync.OnceValue(func() (all struct {
	sessions    *session.Sessions
	content     *db.DB
	folder      string
	here, there yesline.ProgramID
	who         map[string]session.Principal
}) {
	ctx := context.Background()
	none := func(_ context.Context, _ yesline.ProgramID, _, data []byte) ([]byte, error) { return data, nil }
	var err error
	check := func() {
		if err != nil {
			panic(err)
		}
	}
	all.folder, err = os.MkdirTemp("", "yesline-access")
	check()
	all.content, err = db.Open(ctx, "content", "sqlite:"+filepath.Join(all.folder, "content.db"))
	check()
	all.sessions, err = session.New(ctx, all.content, "calls.example", session.Sealing{Seal: none, Open: none})
	check()
	all.here, all.there = yesline.NewProgramID(), yesline.NewProgramID()
	programs := map[string]yesline.ProgramID{"here": all.here, "there": all.there}
	all.who = map[string]session.Principal{"nobody": {}, "operator": session.Local(1000),
		"finisher": session.Service("finish"), "machine": session.Service("other")}
	for _, name := range slices.Sorted(maps.Keys(cast)) {
		is := cast[name]
		if _, there := all.who[name]; there {
			continue
		}
		var token string
		if is.kind == session.Person {
			token, err = all.sessions.LinkFor(ctx, programs[is.place], yesline.NewPersonID())
		} else {
			_, token, err = all.sessions.Appoint(ctx, session.Local(1000), is.kind, programs[is.place], func(bool) error { return nil })
		}
		check()
		got, err := all.sessions.RedeemAny(ctx, token, session.Client{})
		if err != nil {
			panic(err)
		}
		all.who[name] = got.Who
	}
	return all
})

func TestMain(m *testing.M) {
	code := m.Run()
	everyone().content.Close()
	os.RemoveAll(everyone().folder)
	os.Exit(code)
}

// proved is who, having proved at that moment that it is them. session would
// have us wait.
func proved(who session.Principal, at time.Time) session.Principal {
	*(*int64)(reflect.ValueOf(&who).Elem().FieldByName("proved").Addr().UnsafePointer()) = at.UnixMilli()
	return who
}

// old is who, in a session whose proof is an hour old.
func (h *house) old(who session.Principal) session.Principal {
	h.t.Helper()
	if who = proved(who, time.Now().Add(-time.Hour)); who.Fresh() {
		h.t.Fatal("the proof is fresh")
	}
	return who
}

// key is who by an API key of theirs.
func (h *house) key(maker string, scopes ...string) session.Principal {
	h.t.Helper()
	key, bearer, err := h.sessions.MakeKey(context.Background(), h.as(maker), "a key", scopes, time.Hour)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { h.sessions.EndKey(context.Background(), h.as(maker), key.ID) })
	who, err := h.sessions.WhoKey(context.Background(), string(bearer.Bytes()))
	if err != nil {
		h.t.Fatal(err)
	}
	return who
}

// role is what somebody of the cast is: "here" is ann's program, "there" the
// other one, "house" the whole house.
type role struct {
	kind  session.Kind
	place string
}

// cast is everybody who asks.
var cast = map[string]role{
	"ann": {session.Person, "here"}, "bob": {session.Person, "here"}, "eve": {session.Person, "here"}, "zoe": {session.Person, "there"},
	"operator": {session.Operator, "house"}, "finisher": {session.Machine, "house"}, "machine": {session.Machine, "house"}, "nobody": {},
	"petra": {session.Operator, "here"}, "quinn": {session.Operator, "there"}, "otto": {session.Operator, "house"},
	"olga": {session.Officer, "here"}, "oscar": {session.Officer, "here"}, "oona": {session.Officer, "there"}, "hugo": {session.Officer, "house"},
	"ada": {session.Auditor, "here"}, "alba": {session.Auditor, "there"}, "aki": {session.Auditor, "house"},
	"bea": {session.Buyer, "here"}, "bo": {session.Buyer, "there"}, "buck": {session.Buyer, "house"},
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
	h.arrange(state{kept: kept, shared: len(with) > 0})
}

// state is how things stand with what is ann's: her voice is kept, and shared
// with bob; officers have a case open (olga, and oona of another program, and
// hugo of the house); and all of it is of the other program than ann is.
type state struct{ kept, shared, open, foreign bool }

// openers are the officers who have a case while one is open.
var openers = []string{"olga", "oona", "hugo"}

// states are all there are.
func states() (all []state) {
	for i := range 16 {
		all = append(all, state{i&1 != 0, i&2 != 0, i&4 != 0, i&8 != 0})
	}
	return all
}

// arrange sets the facts.
func (h *house) arrange(st state) {
	parties := []yesline.PersonID{h.person("ann"), h.person("bob")}
	program := h.program
	if st.foreign {
		program = h.other
	}
	var shared []yesline.PersonID
	if st.shared {
		shared = append(shared, h.person("bob"), h.person("eve")) // and eve was never on the call
	}
	account := func(name string) string { return h.who[name].Account() }
	var open []string
	if st.open {
		for _, name := range openers {
			open = append(open, account(name))
		}
	}
	anns := Facts{Program: program, Account: account("ann")}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.facts = map[string]map[string]Facts{
		"call": {string(h.call): {Program: program, Parties: parties, OpenTo: open, Generation: 7}},
		"track": {string(h.track): {Program: program, Owner: h.person("ann"), Parties: parties, SharedWith: shared, Kept: st.kept,
			OpenTo: open, Generation: 7}},
		"person":  {string(h.person("ann")): {Program: program, Owner: h.person("ann"), OpenTo: open}},
		"receipt": {string(h.receipt): {Program: program, Owner: h.person("ann")}},
		"program": {string(h.program): {Program: h.program}},
		"account": {account("ann"): anns},
		"session": {h.ids["session"]: anns},
		"passkey": {h.ids["passkey"]: {Account: account("hugo")}},
		"key":     {h.ids["key"]: {Program: program, Account: account("bea")}, h.ids["odd key"]: {Account: account("ann")}},
		"device":  {h.ids["device"]: anns},
		"case": {h.ids["case"]: {Program: program, Asker: account("olga")},
			h.ids["odd case"]:   {Program: program, Asker: account("oona")},
			h.ids["house case"]: {Program: program, Asker: account("hugo")}},
		"staff": {account("ada"): {Program: program, Account: account("ada"), Role: session.Auditor},
			account("oscar"): {Program: program, Account: account("oscar"), Role: session.Officer},
			account("otto"):  {Account: account("otto"), Role: session.Operator}},
	}
}

func (h *house) set(kind, id string, f Facts) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.facts[kind][id] = f
}

func (h *house) loaders() map[string]Loader {
	all := map[string]Loader{}
	for kind := range h.facts {
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

// object is what the name of one of things stands for.
func (h *house) object(name string) Object {
	h.t.Helper()
	kind := name[strings.LastIndex(name, " ")+1:]
	switch name {
	case "call":
		return Object{kind, string(h.call)}
	case "track":
		return Object{kind, string(h.track)}
	case "person", "account":
		return Object{kind, string(h.person("ann"))}
	case "receipt":
		return Object{kind, string(h.receipt)}
	case "program":
		return Object{kind, string(h.program)}
	case "house":
		return Object{kind, HouseID}
	case "auditor staff":
		return Object{kind, h.as("ada").Account()}
	case "officer staff":
		return Object{kind, h.as("oscar").Account()}
	case "house staff":
		return Object{kind, h.as("otto").Account()}
	}
	if h.ids[name] == "" {
		h.t.Fatalf("there is no %q", name)
	}
	return Object{kind, h.ids[name]}
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

// again is another session of somebody.
func (h *house) again(name string) session.Principal {
	h.t.Helper()
	token, err := h.sessions.LinkFor(context.Background(), h.as(name).Program(), h.person(name))
	if err != nil {
		h.t.Fatal(err)
	}
	_, who, err := h.sessions.Redeem(context.Background(), token)
	if err != nil {
		h.t.Fatal(err)
	}
	return who
}
