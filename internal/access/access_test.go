package access

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/session"
)

func TestAPermitNamesWhatItIsFor(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	p := h.may("bob", Listen, "track")
	item, err := p.Allows(Listen, "track", string(h.track))
	if err != nil {
		t.Fatal(err)
	}
	if want := (Item{Object: h.object("track"), Program: h.program, Owner: h.person("ann"), Generation: 7}); item != want {
		t.Errorf("got %+v, want %+v", item, want)
	}
	if p.Who() != h.as("bob") || p.Entry().Leaf == "" {
		t.Errorf("the permit is of %v with the entry %v", p.Who(), p.Entry())
	}
	for _, no := range []struct {
		v        Verb
		kind, id string
	}{{Listen, "track", string(yesline.NewTrackID())}, {Listen, "call", string(h.track)}, {View, "track", string(h.track)}, {"", "track", string(h.track)}} {
		if _, err := p.Allows(no.v, no.kind, no.id); !errors.Is(err, yesline.Denied) {
			t.Errorf("%v: got %v, want not permitted", no, err)
		}
	}
	call := h.may("bob", View, "call")
	if item, err := call.Allows(View, "call", string(h.call)); err != nil || item.Owner != "" {
		t.Errorf("a call has the owner %q (%v), want none", item.Owner, err)
	}
}

func TestTheZeroPermitPermitsNothing(t *testing.T) {
	t.Parallel()
	var p Permit
	for _, v := range append(verbs, "") {
		if _, err := p.Allows(v, "track", "trk_x"); !errors.Is(err, yesline.Denied) {
			t.Errorf("%q: got %v, want not permitted", v, err)
		}
		if _, err := p.Items(v, "track"); !errors.Is(err, yesline.Denied) {
			t.Errorf("%q: got %v, want not permitted", v, err)
		}
	}
}

func TestAPermitLasts30Seconds(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	synctest.Test(t, func(t *testing.T) {
		p := h.may("ann", Listen, "track")
		good := func() bool {
			_, one := p.Allows(Listen, "track", string(h.track))
			_, all := p.Items(Listen, "track")
			if (one == nil) != (all == nil) {
				t.Errorf("Allows says %v and Items %v", one, all)
			}
			return one == nil
		}
		time.Sleep(30*time.Second - 1)
		if !good() {
			t.Error("it ended early")
		}
		time.Sleep(time.Nanosecond)
		if good() {
			t.Error("it lives after 30 s")
		}
	})
}

// The time that reading the facts and writing the log take is the permit's.
func TestASlowLogDoesNotLengthenAPermit(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	synctest.Test(t, func(t *testing.T) {
		h.onEntry = func(audit.Entry) { time.Sleep(30 * time.Second) }
		p := h.may("ann", Listen, "track")
		if _, err := p.Allows(Listen, "track", string(h.track)); err == nil {
			t.Error("a permit on facts that are 30 s old")
		}
	})
}

func TestTheEntryIsThereBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, story := range []struct {
		who    string
		result string
	}{{"ann", "allowed"}, {"eve", "refused"}} {
		reached, release := make(chan audit.Entry), make(chan struct{})
		h.onEntry = func(e audit.Entry) { reached <- e; <-release }
		answered := make(chan error, 1)
		go func() {
			_, err := h.ask(story.who, Listen, h.object("track"))
			answered <- err
		}()
		if e := <-reached; e.Result != story.result || e.Actor != h.as(story.who).String() || e.Verb != "listen" {
			t.Errorf("%s: the entry is %+v", story.who, e)
		}
		select {
		case <-answered:
			t.Errorf("%s had an answer before the log", story.who)
		default:
		}
		close(release)
		if err := <-answered; (err == nil) != (story.result == "allowed") {
			t.Errorf("%s: got %v", story.who, err)
		}
	}
}

func TestWithoutALogThereIsNoAnswer(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	full := fmt.Errorf("writing the log: %w", yesline.Full)
	for _, who := range []string{"ann", "eve"} {
		h.logErr = full
		p, err := h.ask(who, Listen, h.object("track"))
		if !errors.Is(err, yesline.Unavailable) || !errors.Is(err, full) || errors.Is(err, yesline.NotFound) {
			t.Errorf("%s: got %v, want not available", who, err)
		}
		h.useless(p)
	}
	h.logErr = nil
	h.may("ann", Listen, "track")
}

func TestWithoutFactsThereIsNoAnswer(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	broken := fmt.Errorf("content database is locked: %w", yesline.Unavailable)
	g, err := New(h.append, map[string]Loader{"track": func(context.Context, []string) (map[string]Facts, error) { return nil, broken }})
	if err != nil {
		t.Fatal(err)
	}
	p, err := g.Ask(t.Context(), h.as("ann"), Listen, h.object("track"), nil)
	if !errors.Is(err, broken) || errors.Is(err, yesline.NotFound) {
		t.Errorf("got %v, want not available", err)
	}
	h.useless(p)
	for _, kind := range []string{"call", "nothing", ""} {
		if _, err := g.Ask(t.Context(), h.as("ann"), View, Object{kind, string(h.call)}, nil); !errors.Is(err, yesline.Unavailable) {
			t.Errorf("a kind %q that no room knows: got %v, want not available", kind, err)
		}
	}
}

func TestAGateWithBadWiresDoesNotStart(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	if _, err := New(nil, h.loaders()); err == nil {
		t.Error("a gate without a log")
	}
	for _, kind := range []string{"trak", "house"} {
		if _, err := New(h.append, map[string]Loader{kind: nil}); err == nil {
			t.Errorf("facts of %q are taken", kind)
		}
	}
}

// Absent and forbidden are the same words and the same entry but for the id.
func TestAbsentLooksLikeForbidden(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	entry := func(o Object) (string, audit.Entry) {
		t.Helper()
		p, err := h.ask("eve", Listen, o)
		h.refused(p, err)
		es := h.logged()
		if len(es) != 1 {
			t.Fatalf("got %d entries for a refusal, want 1", len(es))
		}
		return err.Error(), es[0]
	}
	absent := Object{"track", string(yesline.NewTrackID())}
	forbiddenWords, forbidden := entry(h.object("track"))
	absentWords, missing := entry(absent)
	malformedWords, malformed := entry(Object{"track", "+12025550142"})
	if forbiddenWords != absentWords || forbiddenWords != malformedWords {
		t.Errorf("the words differ: %q, %q, %q", forbiddenWords, absentWords, malformedWords)
	}
	for _, id := range []string{string(h.track), absent.ID, "555"} {
		if strings.Contains(forbiddenWords+absentWords+malformedWords, id) {
			t.Error("the refusal repeats what was asked")
		}
	}
	if forbidden.Object != string(h.track) || missing.Object != absent.ID || malformed.Object != "" {
		t.Errorf("the entries name %q, %q and %q", forbidden.Object, missing.Object, malformed.Object)
	}
	if strings.Contains(fmt.Sprint(malformed), "555") {
		t.Error("what somebody typed is in the log")
	}
	forbidden.Object, missing.Object = "", ""
	if !same(forbidden, missing) {
		t.Errorf("the entries differ:\n%+v\n%+v", forbidden, missing)
	}
	if want := []yesline.PersonID{h.person("eve")}; !slices.Equal(forbidden.Subjects, want) || forbidden.Program != h.program {
		t.Errorf("the refusal is in the list of %v, want %v", forbidden.Subjects, want)
	}
}

func same(a, b audit.Entry) bool {
	return a.Program == b.Program && a.Actor == b.Actor && a.Verb == b.Verb && a.Object == b.Object && a.Result == b.Result &&
		maps.Equal(a.Detail, b.Detail) && slices.Equal(a.Subjects, b.Subjects)
}

// Absent and forbidden cost the same: each is one decision over entities of the
// same shape. Allocations are counted because time is not repeatable.
func TestAbsentCostsWhatForbiddenCosts(t *testing.T) {
	h := newHouse(t) // not parallel: AllocsPerRun counts those of all goroutines
	cost := func(there bool) float64 {
		f := phantom
		f.Program = h.program
		found := map[string]Facts{string(yesline.NewTrackID()): f}
		if there {
			found = map[string]Facts{string(h.track): f}
		}
		g, err := New(func(context.Context, audit.Entry) (audit.Ref, error) { return audit.Ref{}, nil },
			map[string]Loader{"track": func(context.Context, []string) (map[string]Facts, error) { return found, nil }})
		if err != nil {
			t.Fatal(err)
		}
		for range loggedDenials { // so that what is measured is not the log
			g.Ask(t.Context(), h.as("eve"), Listen, h.object("track"), nil)
		}
		return testing.AllocsPerRun(200, func() {
			if _, err := g.Ask(t.Context(), h.as("eve"), Listen, h.object("track"), nil); !errors.Is(err, yesline.NotFound) {
				t.Errorf("got %v, want not found", err)
			}
		})
	}
	if there, absent := cost(true), cost(false); absent != there || there < 20 {
		t.Errorf("absent costs %v allocations and forbidden %v, want the same, and over 20 for the decision", absent, there)
	}
}

func TestRefusalsOfMachinesAndOperatorsNameNoPerson(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, who := range []string{"operator", "machine", "finisher"} {
		h.mayNot(who, Reveal, "person")
		h.mayNot(who, Listen, "track")
		if _, err := h.gate.AskSet(t.Context(), h.as(who), Reveal,
			[]Object{{"person", string(h.person("ann"))}, {"person", string(h.person("bob"))}}, nil); !errors.Is(err, yesline.NotFound) {
			t.Errorf("%s: got %v, want not found", who, err)
		}
	}
	for _, e := range h.logged() {
		if len(e.Subjects) != 0 || e.Program != "" || strings.Contains(fmt.Sprint(e), "per_") {
			t.Errorf("an entry under the house's key names a person: %+v", e)
		}
	}
}

// A person is an account too.
func TestRefusedAccountsAreNotNamedEither(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	set := []Object{h.object("account"), {"account", string(h.person("bob"))}}
	for _, who := range []string{"operator", "olga", "bea", "finisher"} {
		h.mayNot(who, Manage, "account")
		p, err := h.gate.AskSet(t.Context(), h.as(who), Manage, set, nil)
		h.refused(p, err)
	}
	for _, e := range h.logged() {
		if len(e.Subjects) != 0 || strings.Contains(fmt.Sprint(e), "per_") {
			t.Errorf("an entry that is nobody's names a person: %+v", e)
		}
	}
}

// Who proved too long ago is told so before anything is read: the answer is
// the same for what is theirs, somebody else's and nobody's.
func TestAnOldProofIsStaleWhateverItIsAbout(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	looked := 0
	loaders := h.loaders()
	for kind, load := range loaders {
		loaders[kind] = func(ctx context.Context, ids []string) (map[string]Facts, error) {
			looked++
			return load(ctx, ids)
		}
	}
	g, err := New(h.append, loaders)
	if err != nil {
		t.Fatal(err)
	}
	old := h.old(h.as("olga"))
	for _, v := range verbs {
		for _, thing := range things {
			if thing == "house" {
				continue
			}
			absent := h.object(thing)
			absent.ID = absent.ID[:4] + strings.Repeat("a", 32)
			for _, o := range []Object{h.object(thing), absent, {absent.Kind, "no id"}} {
				looked = 0
				p, err := g.Ask(t.Context(), old, v, o, nil)
				if stale := errors.Is(err, yesline.Stale); stale != needsProof(v, o.Kind) || stale && looked != 0 {
					t.Errorf("%s a %s with an old proof: got %v after %d looks", v, o.Kind, err, looked)
				}
				if needsProof(v, o.Kind) {
					h.useless(p)
					if errors.Is(err, yesline.NotFound) || strings.Contains(err.Error(), o.Kind) {
						t.Errorf("the answer tells of a %s: %v", o.Kind, err)
					}
				}
			}
		}
	}
	stale := 0
	for _, e := range h.logged() {
		if e.Detail["why"] != "" {
			stale++
			if e.Result != "refused" || e.Actor != h.as("olga").String() {
				t.Errorf("the entry is %+v", e)
			}
		}
	}
	if want := 4 * loggedDenials; stale != want {
		t.Errorf("%d entries of stale proofs, want %d: 20 for each such verb", stale, want)
	}
	h.logErr = yesline.Full
	if _, err := h.gate.Ask(t.Context(), h.old(h.as("hugo")), Break, h.object("call"), nil); !errors.Is(err, yesline.Unavailable) || errors.Is(err, yesline.Stale) {
		t.Errorf("with a full log: got %v, want not available", err)
	}
}

// The proof ages while the session goes on.
func TestAProofLastsFiveMinutes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	synctest.Test(t, func(t *testing.T) {
		who := session.Local(1000)
		ask := func() error {
			_, err := h.gate.Ask(t.Context(), who, Appoint, h.object("house"), nil)
			return err
		}
		time.Sleep(session.ProofTime - time.Millisecond)
		if err := ask(); err != nil {
			t.Errorf("just before: %v", err)
		}
		time.Sleep(time.Millisecond)
		if err := ask(); !errors.Is(err, yesline.Stale) {
			t.Errorf("just after: got %v, want stale", err)
		}
		if _, err := h.gate.Ask(t.Context(), who, Verify, h.object("house"), nil); err != nil {
			t.Errorf("what needs no proof: %v", err)
		}
	})
}

// A key may what its scopes name of what its maker may, and never what needs a
// fresh proof, whatever its scopes say.
func TestAKeyMayWhatItsScopesName(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.arrange(state{kept: true, shared: true, open: true})
	every := make([]string, len(verbs))
	for i, v := range verbs {
		every[i] = string(v)
	}
	for _, maker := range []string{"ann", "olga", "otto"} {
		few, all := h.key(maker, "view", "listen", "staff"), h.key(maker, every...)
		for _, thing := range things {
			for _, v := range verbs {
				o, mine := h.object(thing), should(maker, v, thing, state{kept: true, shared: true, open: true})
				_, err := h.gate.Ask(t.Context(), all, v, o, nil)
				if want := mine && !v.Fresh(); (err == nil) != want || err != nil && !errors.Is(err, yesline.NotFound) {
					t.Errorf("the key of %s with all scopes, %s %s: got %v, want %v", maker, v, thing, err, want)
				}
				_, err = h.gate.Ask(t.Context(), few, v, o, nil)
				if want := mine && (v == View || v == Listen || v == Staff); (err == nil) != want || err != nil && !errors.Is(err, yesline.NotFound) {
					t.Errorf("the key of %s with few scopes, %s %s: got %v, want %v", maker, v, thing, err, want)
				}
			}
		}
	}
}

func TestWhoGivesWhichRole(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	roles := []session.Kind{session.Person, session.Buyer, session.Operator, session.Officer, session.Auditor, session.Machine, session.Nobody}
	for _, who := range []string{"operator", "otto", "petra", "hugo", "olga"} {
		for _, thing := range []string{"house", "program"} {
			p, err := h.ask(who, Appoint, h.object(thing))
			if err != nil {
				continue // the truth table says who
			}
			here, elsewhere := h.program, yesline.ProgramID("")
			if thing == "house" {
				here, elsewhere = elsewhere, here
			}
			for _, role := range roles {
				for _, has := range []bool{true, false} {
					want := role == session.Auditor || role == session.Officer && (!has || cast[who].kind == session.Officer) ||
						cast[who].kind == session.Operator && (role == session.Operator || role == session.Buyer)
					if err := p.MayAppoint(role, here, has); (err == nil) != want || err != nil && !errors.Is(err, yesline.Denied) {
						t.Errorf("%s makes a %q of the %s, which has an officer %v: got %v, want %v", who, role, thing, has, err, want)
					}
					if err := p.MayAppoint(role, elsewhere, has); !errors.Is(err, yesline.Denied) {
						t.Errorf("%s makes a %q elsewhere than the permit says: %v", who, role, err)
					}
				}
			}
		}
	}
	if err := h.may("hugo", Staff, "house").MayAppoint(session.Auditor, "", true); !errors.Is(err, yesline.Denied) {
		t.Errorf("a permit for something else appoints: %v", err)
	}
	if err := (Permit{}).MayAppoint(session.Auditor, "", false); !errors.Is(err, yesline.Denied) {
		t.Errorf("no permit appoints: %v", err)
	}
}

func TestNobodyIsNeverAllowedAndNeverLogged(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, thing := range things {
		for _, v := range verbs {
			h.mayNot("nobody", v, thing)
		}
	}
	if es := h.logged(); len(es) != 0 {
		t.Errorf("%d entries of nobody", len(es))
	}
}

func TestAnUnknownVerbIsRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, v := range []Verb{"", "hear", "Listen"} {
		for _, who := range everybody {
			for _, thing := range things {
				p, err := h.ask(who, v, h.object(thing))
				h.refused(p, err)
			}
		}
	}
}

// Facts under the wrong id do not count.
func TestFactsOfSomethingElseDoNotCount(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.set("person", string(h.person("bob")), Facts{Program: h.program, Owner: h.person("ann")})
	p, err := h.ask("ann", Reveal, Object{"person", string(h.person("bob"))})
	h.refused(p, err)
	h.set("program", string(h.other), Facts{Program: h.program})
	p, err = h.ask("operator", Invite, Object{"program", string(h.other)})
	h.refused(p, err)
	bobs := Object{"account", string(h.person("bob"))}
	h.set("account", bobs.ID, Facts{Program: h.program, Account: h.as("ann").Account()})
	p, err = h.ask("ann", Manage, bobs)
	h.refused(p, err)
	hugos := Object{"staff", h.as("hugo").Account()}
	h.set("staff", hugos.ID, Facts{Account: h.as("otto").Account(), Role: session.Operator})
	p, err = h.ask("otto", Appoint, hugos)
	h.refused(p, err)
	p, err = h.ask("operator", Verify, Object{"house", "another"})
	h.refused(p, err)
}

// A person without a program is nobody, and not of the house.
func TestOnlyStaffAndMachinesAreOfTheHouse(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	stray := h.as("ann")
	reflect.NewAt(reflect.TypeFor[yesline.ProgramID](), reflect.ValueOf(&stray).Elem().FieldByName("program").Addr().UnsafePointer()).Elem().SetString("")
	if e, somebody := newAsker(stray); stray.Program() != "" || somebody {
		t.Errorf("a person without a program is %v", e)
	}
}

// Of an object the gate says what is the asker's, by id and by kind, and of
// nobody else who they are.
func TestAnObjectIsSaidInTermsOfTheAsker(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ids := func(names ...string) (people []yesline.PersonID, officers []string) {
		for _, name := range names {
			people, officers = append(people, yesline.PersonID(h.as(name).String())), append(officers, h.as(name).String())
		}
		return people, officers
	}
	full := func(name string) Facts {
		people, officers := ids("eve", name, "oscar")
		return Facts{Program: h.as(name).Program(), Owner: people[1], Parties: people, SharedWith: people, Kept: true,
			OpenTo: officers, Account: officers[1], Role: session.Auditor, Asker: officers[1]}
	}
	const personal, official = hasOwner | hasSelf | hasParties | hasSharedWith, hasOpenTo | hasAsker
	for name, want := range map[string]attribute{
		"ann":     hasProgram | hasKept | hasAccount | personal,
		"olga":    hasProgram | hasKept | hasAccount | official,
		"hugo":    hasProgram | hasKept | hasAccount | official,
		"petra":   hasProgram | hasKept | hasAccount,
		"machine": hasProgram | hasKept, // has no account
	} {
		is, _ := newAsker(h.as(name))
		if got := is.standing(full(name), allAttributes); got != (standing{allAttributes, want, session.Auditor}) {
			t.Errorf("%s: got %b, want %b", name, got.theirs, want)
		}
		if got := is.standing(full("bob"), allAttributes); got.theirs&^(hasProgram|hasKept) != 0 {
			t.Errorf("what is bob's is said to be %s's: %b", name, got.theirs)
		}
		if got := is.standing(full(name), hasKept); got != (standing{hasKept, hasKept, ""}) {
			t.Errorf("%s: what nobody reads is said: %+v", name, got)
		}
		strangers, others := is.standing(full("zoe"), allAttributes), full("zoe")
		others.Owner, others.Account, others.Asker = "per_x", "per_x", "stf_x"
		if got := is.standing(others, allAttributes); got != strangers {
			t.Errorf("%s can tell two strangers: %+v, %+v", name, got, strangers)
		}
		for range 2 { // made, and kept
			if said := fmt.Sprint(is.tell(strangers)); strings.Contains(said, h.as("zoe").String()) || strings.Contains(said, string(h.other)) && name != "zoe" {
				t.Errorf("%s hears %s", name, said)
			}
		}
	}
}

func TestWhoseListAnEntryIsIn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	detail := map[string]string{"route": "GET /tracks/{track}/audio"}
	for _, c := range []struct {
		who  string
		v    Verb
		kind string
		want []string
	}{
		{"bob", Listen, "track", []string{"ann", "bob"}}, // the voice's owner and who heard it
		{"ann", Listen, "track", []string{"ann"}},        // not bob: it is not his voice
		{"bob", View, "call", []string{"ann", "bob"}},    // a call is about both
		{"finisher", Finish, "track", []string{"ann"}},
		{"operator", Invite, "program", nil},
		{"operator", Verify, "house", nil},
	} {
		if _, err := h.gate.Ask(t.Context(), h.as(c.who), c.v, h.object(c.kind), detail); err != nil {
			t.Errorf("%s %s: %v", c.who, c.v, err)
			continue
		}
		var want []yesline.PersonID
		for _, name := range c.want {
			want = append(want, h.person(name))
		}
		slices.Sort(want)
		es := h.logged()
		if len(es) != 1 {
			t.Fatalf("got %d entries, want 1", len(es))
		}
		e := es[0]
		if !slices.Equal(e.Subjects, want) || e.Object != h.object(c.kind).ID || e.Result != "allowed" ||
			e.Actor != h.as(c.who).String() || e.Detail["route"] != detail["route"] {
			t.Errorf("%s %s: the entry is %+v, want it in the lists of %v", c.who, c.v, e, c.want)
		}
		if wantProgram := h.program; c.kind != "house" && e.Program != wantProgram {
			t.Errorf("%s %s: the entry is of program %q", c.who, c.v, e.Program)
		}
	}
}

// aSet gives n more calls of ann's: each with another person.
func (h *house) aSet(n int) (objects []Object, others []yesline.PersonID) {
	for range n {
		id, other := string(yesline.NewCallID()), yesline.NewPersonID()
		h.set("call", id, Facts{Program: h.program, Parties: []yesline.PersonID{h.person("ann"), other}, Generation: 3})
		objects, others = append(objects, Object{"call", id}), append(others, other)
	}
	return objects, others
}

func TestASetSkipsWhatDoesNotPass(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	set, _ := h.aSet(3)
	foreign := Object{"call", string(yesline.NewCallID())}
	h.set("call", foreign.ID, Facts{Program: h.program, Parties: []yesline.PersonID{h.person("eve")}})
	asked := append([]Object{foreign, {"call", string(yesline.NewCallID())}, {"call", "+12025550142"}}, set...)
	asked = append(asked, set[0]) // twice
	p, err := h.gate.AskSet(t.Context(), h.as("ann"), View, asked, map[string]string{"route": "GET /calls"})
	if err != nil {
		t.Fatal(err)
	}
	items, err := p.Items(View, "call")
	if err != nil || len(items) != 3 {
		t.Fatalf("got %d items, %v; want 3", len(items), err)
	}
	for i, it := range items {
		if it.Object != set[i] || it.Generation != 3 {
			t.Errorf("item %d is %+v, want %v", i, it, set[i])
		}
	}
	if _, err := p.Allows(View, "call", foreign.ID); err == nil {
		t.Error("the permit covers what did not pass")
	}
	es := h.logged()
	if len(es) != 1 {
		t.Fatalf("got %d entries for one decision, want 1", len(es))
	}
	ids := []string{set[0].ID, set[1].ID, set[2].ID}
	slices.Sort(ids)
	sum := sha256.Sum256([]byte(strings.Join(ids, "\n")))
	d := es[0].Detail
	if d["count"] != "3" || d["asked"] != "7" || d["kind"] != "call" || d["route"] != "GET /calls" || d["sha256"] != hex.EncodeToString(sum[:]) {
		t.Errorf("the entry says %v", d)
	}
	if got := strings.Fields(d["ids"] + " " + d["ids2"]); !slices.Equal(got, ids) {
		t.Errorf("the entry names %v, want %v", got, ids)
	}
	if strings.Contains(fmt.Sprint(es[0]), "2025550142") || strings.Contains(fmt.Sprint(es[0]), foreign.ID) {
		t.Error("an entry of a yes names what was refused")
	}
}

func TestASetOfWhichNonePassesIsRefusedLikeOne(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	set, _ := h.aSet(3)
	p, err := h.gate.AskSet(t.Context(), h.as("eve"), View, set, nil)
	h.refused(p, err)
	_, one := h.ask("eve", View, set[0])
	if err.Error() != one.Error() {
		t.Errorf("the words differ: %q, %q", err, one)
	}
	es := h.logged()
	if len(es) != 2 || es[0].Detail["count"] != "3" || !slices.Equal(es[0].Subjects, []yesline.PersonID{h.person("eve")}) {
		t.Errorf("the entries are %+v", es)
	}
}

func TestASetIsBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	set, others := h.aSet(MaxSet + 1)
	for _, bad := range [][]Object{nil, set} {
		p, err := h.gate.AskSet(t.Context(), h.as("ann"), View, bad, nil)
		if !errors.Is(err, yesline.Invalid) {
			t.Errorf("a set of %d: got %v, want invalid", len(bad), err)
		}
		h.useless(p)
	}
	many := map[string]string{}
	for i := range maxDetails + 1 {
		many[strconv.Itoa(i)] = "x"
	}
	if _, err := h.gate.Ask(t.Context(), h.as("ann"), View, set[0], many); !errors.Is(err, yesline.Invalid) {
		t.Errorf("too many details: got %v, want invalid", err)
	}
	p, err := h.gate.AskSet(t.Context(), h.as("ann"), View, set[:MaxSet], map[string]string{"route": strings.Repeat("é", 1000)})
	if err != nil {
		t.Fatal(err)
	}
	if items, _ := p.Items(View, "call"); len(items) != MaxSet {
		t.Errorf("got %d items, want %d", len(items), MaxSet)
	}
	// Nobody whose call was seen is left out, and no entry is too big for the log.
	told := map[yesline.PersonID]bool{}
	for _, e := range h.logged() {
		if len(e.Subjects) > 16 || len(e.Detail) > 16 {
			t.Errorf("an entry with %d subjects and %d details", len(e.Subjects), len(e.Detail))
		}
		for k, v := range e.Detail {
			if len(k) > 512 || len(v) > 512 {
				t.Errorf("the detail %s has %d bytes", k, len(v))
			}
		}
		if n := len(strings.Fields(e.Detail["ids"] + " " + e.Detail["ids2"])); n != maxNamed || e.Detail["count"] != "500" {
			t.Errorf("an entry names %d of %s", n, e.Detail["count"])
		}
		for _, s := range e.Subjects {
			told[s] = true
		}
	}
	for _, person := range append(others[:MaxSet], h.person("ann")) {
		if !told[person] {
			t.Fatal("somebody's access list misses that their call was seen")
		}
	}
}

// A set with an entry that fails half-way gives no permit.
func TestASetIsAllLoggedOrNotAllowed(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	set, _ := h.aSet(40)
	n := 0
	h.onEntry = func(audit.Entry) {
		if n++; n == 2 {
			h.logErr = yesline.Full
		}
	}
	p, err := h.gate.AskSet(t.Context(), h.as("ann"), View, set, nil)
	if !errors.Is(err, yesline.Unavailable) {
		t.Errorf("got %v, want not available", err)
	}
	h.useless(p)
}

func TestASetIsOfOneProgram(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	foreign := Object{"track", string(yesline.NewTrackID())}
	zoe := h.person("zoe")
	h.set("track", foreign.ID, Facts{Program: h.other, Owner: zoe, Parties: []yesline.PersonID{zoe}, Kept: true})
	p, err := h.gate.AskSet(t.Context(), h.as("finisher"), Finish, []Object{h.object("track"), foreign}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if items, _ := p.Items(Finish, "track"); len(items) != 1 || items[0].Program != h.program {
		t.Errorf("got %+v, want ann's track", items)
	}
	for _, e := range h.logged() {
		if e.Program != h.program || slices.Contains(e.Subjects, zoe) {
			t.Errorf("the entry is of %q with %v", e.Program, e.Subjects)
		}
	}
}

func TestKnockingAThousandTimesIsTwentyOneEntries(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	again := h.again("eve") // another session of the same person
	synctest.Test(t, func(t *testing.T) {
		for i := range 1000 {
			who := h.as("eve")
			if i%2 == 1 {
				who = again
			}
			o := h.object("track")
			if i%3 == 0 {
				o.ID = string(yesline.NewTrackID())
			}
			p, err := h.gate.Ask(t.Context(), who, Listen, o, nil)
			h.refused(p, err)
		}
		if n := len(h.logged()); n != 20 {
			t.Errorf("got %d entries within the minute, want 20", n)
		}
		h.mayNot("eve", View, "call") // another verb has its own count
		h.mayNot("bob", Reveal, "person")
		if n := len(h.logged()); n != 2 {
			t.Errorf("got %d entries of others, want 2", n)
		}
		time.Sleep(time.Minute)
		h.may("ann", Listen, "track")
		es := h.logged()
		if len(es) != 2 {
			t.Fatalf("got %d entries, want the count and the yes: %+v", len(es), es)
		}
		e := es[0]
		if e.Result != "refused" || e.Verb != "listen" || e.Detail["times"] != "980" || e.Detail["minute"] != "2000-01-01T00:00Z" ||
			e.Actor != h.as("eve").String() || e.Program != h.program || !slices.Equal(e.Subjects, []yesline.PersonID{h.person("eve")}) {
			t.Errorf("the count is %+v", e)
		}
		h.mayNot("eve", Listen, "track") // a new minute
		if n := len(h.logged()); n != 1 {
			t.Errorf("got %d entries in the new minute, want 1", n)
		}
	})
}

// Whoever knocked and was erased before their count was written stops nobody:
// that somebody knocked is told, and not who.
func TestAnErasedKnockerStopsNobody(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	eve := h.person("eve")
	synctest.Test(t, func(t *testing.T) {
		for range 25 {
			h.mayNot("eve", Listen, "track")
		}
		h.logged()
		h.onEntry = func(e audit.Entry) { // the key that eve's parts are sealed with is gone
			h.logErr = nil
			if slices.Contains(e.Subjects, eve) {
				h.logErr = fmt.Errorf("the keys of a person: %w", yesline.NotFound)
			}
		}
		time.Sleep(time.Minute)
		h.may("ann", Listen, "track")
		es := h.logged()
		if len(es) != 2 || es[0].Detail["times"] != "5" || es[0].Result != "refused" || es[0].Program != h.program || len(es[0].Subjects) != 0 {
			t.Fatalf("the entries are %+v, want the count and the yes", es)
		}
		if strings.Contains(fmt.Sprintf("%+v", es[0]), string(eve)) {
			t.Errorf("the count names who was erased: %+v", es[0])
		}
		h.may("ann", Listen, "track")
		if n := len(h.logged()); n != 1 {
			t.Errorf("%d entries, want the yes alone: the count is written once", n)
		}
	})
}

func TestClosingWritesWhatWasCounted(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	synctest.Test(t, func(t *testing.T) {
		for range 25 {
			h.mayNot("operator", Listen, "track")
		}
		h.logged()
		h.logErr = yesline.Full
		if err := h.gate.Close(t.Context()); !errors.Is(err, yesline.Unavailable) {
			t.Errorf("closing with a full log: got %v, want not available", err)
		}
		h.logErr = nil
		if err := h.gate.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		es := h.logged()
		if len(es) != 1 || es[0].Detail["times"] != "5" || len(es[0].Subjects) != 0 || es[0].Actor != "os:1000" {
			t.Errorf("the entries are %+v, want one that says 5 times", es)
		}
		if err := h.gate.Close(t.Context()); err != nil || len(h.logged()) != 0 {
			t.Errorf("closing again: %v", err)
		}
	})
}

// The table of counts is bounded; who finds no place there is logged in full.
func TestTheCountsAreBounded(t *testing.T) {
	t.Parallel()
	var d denials
	now := time.Unix(0, 0)
	for round := range 3 {
		for i := range maxCounted + 100 {
			who := session.Service(strconv.Itoa(i))
			for n := range loggedDenials + 2 {
				own := d.add(now, who, Listen)
				if placed := i < maxCounted; round == 0 && own != (!placed || n < loggedDenials) {
					t.Fatalf("denial %d of principal %d has its own entry: %v", n, i, own)
				}
			}
		}
		if len(d.counts) > maxCounted || len(d.due) > maxCounted {
			t.Fatalf("%d counts and %d due, at most %d", len(d.counts), len(d.due), maxCounted)
		}
		now = now.Add(time.Minute) // and nobody writes them
	}
	taken := d.take(now, maxCounted)
	if len(taken) != maxCounted {
		t.Errorf("took %d, want %d", len(taken), maxCounted)
	}
	d.putBack(taken)
	d.putBack(taken)
	if len(d.due) > maxCounted {
		t.Errorf("%d are due, at most %d", len(d.due), maxCounted)
	}
}

func TestManyAskAtOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	done := make(chan error)
	for i := range 16 {
		name := []string{"ann", "bob", "eve", "zoe"}[i%4]
		go func() {
			var err error
			for range 50 {
				_, e := h.ask(name, Listen, h.object("track"))
				if should(name, Listen, "track", state{kept: true, shared: true}) != (e == nil) {
					err = fmt.Errorf("%s: %w", name, e)
				}
			}
			done <- err
		}()
	}
	for range 16 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
