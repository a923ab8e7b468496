package access

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"

	"yesline"
)

var (
	everybody = []string{"ann", "bob", "eve", "zoe", "operator", "finisher", "machine", "nobody"}
	kinds     = []string{"call", "track", "person", "receipt", "program", "house"}
)

// should is the rules once more, in plain Go. kept and shared are the state of
// ann's track; shared means with bob.
func should(asker string, v Verb, kind string, kept, shared bool) bool {
	ann, party := asker == "ann", asker == "ann" || asker == "bob"
	switch kind {
	case "call":
		return party && (v == View || v == Allow || v == Withdraw || v == Log)
	case "track":
		switch v {
		case Listen:
			return kept && (ann || asker == "bob" && shared)
		case Finish:
			return kept && asker == "finisher"
		case Log:
			return ann
		}
	case "person":
		return ann && (v == List || v == Log || v == Reveal)
	case "receipt":
		return ann && v == Receipt
	case "program":
		return asker == "operator" && v == Invite
	case "house":
		return asker == "operator" && v == Verify
	}
	return false
}

// everything runs f over every asker, verb, kind and state.
func (h *house) everything(f func(asker string, v Verb, kind string, kept, shared bool)) {
	for _, kept := range []bool{true, false} {
		for _, shared := range []bool{true, false} {
			if shared {
				h.kept(kept, "bob")
			} else {
				h.kept(kept)
			}
			for _, kind := range kinds {
				for _, v := range verbs {
					for _, asker := range everybody {
						f(asker, v, kind, kept, shared)
					}
				}
			}
		}
	}
}

func TestTruthTable(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	yes := 0
	h.everything(func(asker string, v Verb, kind string, kept, shared bool) {
		o := h.object(kind)
		p, err := h.ask(asker, v, o)
		want := should(asker, v, kind, kept, shared)
		if (err == nil) != want {
			t.Errorf("%s %s %s, kept %v, shared %v: got %v, want %v", asker, v, kind, kept, shared, err, want)
			return
		}
		if err != nil {
			h.refused(p, err)
			return
		}
		yes++
		for _, other := range verbs {
			if _, err := p.Allows(other, kind, o.ID); (err == nil) != (other == v) {
				t.Errorf("a permit to %s and %s: %v", v, other, err)
			}
		}
	})
	if want := 65; yes != want {
		t.Errorf("%d of the table are yes, want %d: look at the rules again", yes, want)
	}
}

// The forbids only repeat: every permit says program, person and consent
// itself, so that a skipped forbid opens nothing.
func TestEveryPermitStandsAlone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for q, ps := range h.gate.rules.sorted {
		h.gate.rules.sorted[q] = slices.DeleteFunc(slices.Clone(ps), func(p *cedar.Policy) bool { return p.Effect() == cedar.Forbid })
	}
	for _, from := range []yesline.ProgramID{h.program, h.other} { // also when ann's things are of another program than ann
		h.everything(func(asker string, v Verb, kind string, kept, shared bool) {
			o := h.object(kind)
			if from != h.program && kind != "house" && kind != "program" {
				f := h.facts[kind][o.ID]
				f.Program = from
				h.set(kind, o.ID, f)
			}
			foreign := from != h.program && asker != "finisher" && asker != "operator"
			_, err := h.ask(asker, v, o)
			if want := should(asker, v, kind, kept, shared) && !foreign; (err == nil) != want {
				t.Errorf("without forbids %s %s %s, kept %v, shared %v, foreign %v: got %v, want %v", asker, v, kind, kept, shared, foreign, err, want)
			}
		})
	}
}

// And the forbids alone hold if every permit were too wide.
func TestTheForbidsHoldAgainstAWidePermit(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	wide, err := readRules([]byte(`permit (principal, action, resource);`+"\n"+string(policyText)), schemaText)
	if err != nil {
		t.Fatal(err)
	}
	h.gate.rules = wide
	h.kept(false, "bob")
	for _, asker := range []string{"ann", "bob", "finisher", "operator"} {
		h.mayNot(asker, Listen, "track")
		h.mayNot(asker, Finish, "track")
	}
	h.kept(true, "bob")
	h.mayNot("operator", Listen, "track")
	h.mayNot("operator", Reveal, "person")
	h.may("eve", Listen, "track") // this is how wide it is
	for _, kind := range []string{"call", "track", "person", "receipt"} {
		h.mayNot("zoe", Log, kind)
		h.mayNot("zoe", Receipt, kind)
	}
}

// Whatever is missing, nothing is allowed: neither with an entity that was not
// loaded, nor with one that lacks an attribute. Cedar alone would allow it.
func TestNothingIsAllowedWhenSomethingIsMissing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	dropped := 0
	h.everything(func(asker string, v Verb, kind string, kept, shared bool) {
		who, somebody := askerEntity(h.as(asker))
		if !somebody {
			return
		}
		o := h.object(kind)
		what := objectEntity(o, h.facts[kind][o.ID])
		full := [3]types.Entity{who, what, h.gate.rules.actions[v]}
		if got, want := h.gate.rules.decide(v, who.UID, what.UID, &scene{loaded: full}), should(asker, v, kind, kept, shared); got != want {
			t.Fatalf("%s %s %s: got %v, want %v with everything there", asker, v, kind, got, want)
		}
		never := func(missing string, loaded [3]types.Entity) {
			t.Helper()
			dropped++
			if h.gate.rules.decide(v, who.UID, what.UID, &scene{loaded: loaded}) {
				t.Errorf("%s may %s a %s without %s", asker, v, kind, missing)
			}
		}
		for i := range full {
			part := full
			part[i] = types.Entity{}
			never(fmt.Sprint("entity ", full[i].UID.Type), part)
			for attr := range full[i].Attributes.Keys() {
				part := full
				attrs := full[i].Attributes.Map()
				delete(attrs, attr)
				part[i].Attributes = types.NewRecord(attrs)
				never(fmt.Sprintf("%s.%s", full[i].UID.Type, attr), part)
			}
		}
	})
	if dropped < 5000 {
		t.Errorf("only %d drops were tried", dropped)
	}
}

// The same through the gate: facts with a hole.
func TestNothingIsAllowedOnFactsWithAHole(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	holes := map[string]func(*Facts){
		"program": func(f *Facts) { f.Program = "" },
		"owner":   func(f *Facts) { f.Owner = "" },
		"parties": func(f *Facts) { f.Parties = nil },
	}
	for kind, needs := range map[string][]string{"call": {"program", "parties"}, "track": {"program", "owner", "parties"},
		"person": {"program", "owner"}, "receipt": {"program", "owner"}, "program": {"program"}} {
		for _, hole := range needs {
			h.kept(true, "bob")
			o := h.object(kind)
			f := h.facts[kind][o.ID]
			holes[hole](&f)
			h.set(kind, o.ID, f)
			for _, v := range verbs {
				for _, asker := range everybody {
					if _, err := h.ask(asker, v, o); err == nil {
						t.Errorf("%s may %s a %s whose facts have no %s", asker, v, kind, hole)
					}
				}
			}
		}
	}
}

// A policy that fails makes the answer no, even when another one permits.
func TestAFailingPolicyIsANo(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.may("ann", Listen, "track")
	var failing cedar.Policy
	if err := failing.UnmarshalCedar([]byte(`permit (principal, action, resource) when { resource.nothing };`)); err != nil {
		t.Fatal(err)
	}
	q := question{Listen, "Person", "Track"}
	h.gate.rules.sorted[q] = append(h.gate.rules.sorted[q], &failing)
	h.mayNot("ann", Listen, "track")
}

// A policy that looks at something that was not loaded makes the answer no.
func TestLookingAtWhatIsNotLoadedIsANo(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var looking cedar.Policy
	if err := looking.UnmarshalCedar([]byte(`forbid (principal, action, resource) when { resource.owner in House::"x" };`)); err != nil {
		t.Fatal(err)
	}
	h.may("bob", Listen, "track") // shared
	q := question{Listen, "Person", "Track"}
	h.gate.rules.sorted[q] = append(h.gate.rules.sorted[q], &looking)
	h.mayNot("bob", Listen, "track") // the owner is ann, and she was not loaded
}

func TestTheEntitiesWeBuildSuitTheSchema(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var text schema.Schema
	if err := text.UnmarshalCedar(schemaText); err != nil {
		t.Fatal(err)
	}
	s, err := text.Resolve()
	if err != nil {
		t.Fatal(err)
	}
	check := validate.New(s, validate.WithStrict())
	h.everything(func(asker string, v Verb, kind string, _, _ bool) {
		o := h.object(kind)
		for _, f := range []Facts{h.facts[kind][o.ID], phantom} {
			if err := check.Entity(objectEntity(o, f)); err != nil {
				t.Errorf("the entity of a %s: %v", kind, err)
			}
		}
		if who, ok := askerEntity(h.as(asker)); ok {
			if err := check.Entity(who); err != nil {
				t.Errorf("the entity of %s: %v", asker, err)
			}
		}
		if err := check.Entity(h.gate.rules.actions[v]); err != nil {
			t.Errorf("the action %s: %v", v, err)
		}
	})
}

// Bad policies and schemas do not start, and the error says where.
func TestBadRulesDoNotStart(t *testing.T) {
	t.Parallel()
	good := string(policyText)
	lines := strings.Count(good, "\n")
	goodSchema := string(schemaText)
	optional := strings.Replace(goodSchema, "owner: Person,            // whose", "note?: Bool, owner: Person, // whose", 1)
	tags := strings.Replace(goodSchema, "entity Operator;", "entity Operator tags Bool;", 1)
	groups := strings.Replace(goodSchema, "entity Operator;", "entity Group; entity Operator in [Group];", 1)
	for name, c := range map[string]struct{ policy, schema, want string }{
		"syntax":               {"permit (principal, action, resource) wen { true };", goodSchema, ""},
		"a mistyped attribute": {`permit (principal, action == Action::"listen", resource is Track) when { resource.kpt };`, goodSchema, "kpt"},
		"an unknown action":    {`permit (principal, action == Action::"hear", resource);`, goodSchema, "hear"},
		"an impossible scope":  {`permit (principal, action == Action::"listen", resource is Call);`, goodSchema, "applicable"},
		"a wrong type":         {`permit (principal, action == Action::"listen", resource is Track) when { resource.owner == "ann" };`, goodSchema, "compatible"},
		"has in a forbid": {`forbid (principal, action == Action::"listen", resource is Track) when { resource has kept && !resource.kept };`,
			goodSchema, "`has`"},
		"an optional attribute in a forbid": {`forbid (principal, action == Action::"listen", resource is Track) when { resource has note && resource.note };`,
			optional, "optional"},
		"tags in a forbid": {`forbid (principal is Operator, action == Action::"verify", resource) when { principal.hasTag("x") };`,
			tags, "tags"},
		"in in a forbid": {`forbid (principal is Operator, action == Action::"verify", resource) when { principal in Group::"g" };`,
			groups, "`in`"},
		"is in in a forbid": {`forbid (principal is Operator, action == Action::"verify", resource) when { principal is Operator in Group::"g" };`,
			groups, "`in`"},
		"in in a forbid's principal": {`forbid (principal in Group::"g", action == Action::"verify", resource);`, groups, "`in`"},
		"is in in a forbid's principal": {`forbid (principal is Operator in Group::"g", action == Action::"verify", resource);`,
			groups, "`in`"},
		"something behind an attribute in a forbid": {`forbid (principal is Person, action == Action::"listen", resource is Track) unless { resource.owner.program == principal.program };`,
			goodSchema, "principal and resource only"},
		"the context in a forbid": {`forbid (principal, action == Action::"listen", resource) when { context has x };`, goodSchema, "`has`"},
		"sums in a forbid":        {`forbid (principal, action == Action::"listen", resource) when { 1 + 9223372036854775807 == 0 };`, goodSchema, "calculate"},
	} {
		_, err := readRules([]byte(good+c.policy), []byte(c.schema))
		if err == nil {
			t.Errorf("%s: the rules start", name)
			continue
		}
		if where := fmt.Sprintf("%s:%d:", policyFile, lines+1); !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), where) {
			t.Errorf("%s: the error is\n%v\nwant %q and %q in it", name, err, where, c.want)
		}
	}
	for name, c := range map[string]struct{ schema, want string }{
		"syntax":              {goodSchema + "entity ;", fmt.Sprintf("%s:%d:", schemaFile, strings.Count(goodSchema, "\n")+1)},
		"a missing action":    {strings.Replace(goodSchema, "action verify", "action check", 1), "verify"},
		"an action too many":  {goodSchema + `action dance appliesTo { principal: [Person], resource: [Call] };`, "12 actions for 11 verbs"},
		"an unknown type":     {strings.Replace(goodSchema, "self: Person", "self: Pirson", 1), "Pirson"},
		"a context":           {strings.Replace(goodSchema, "resource: [House],", "resource: [House], context: { x?: Bool },", 1), "no context"},
		"a kind without type": {strings.Replace(goodSchema, "ReceiptDoc", "Reseipt", 2), "ReceiptDoc"},
	} {
		_, err := readRules(policyText, []byte(c.schema))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), schemaFile) {
			t.Errorf("schema with %s: got %v, want an error with %q", name, err, c.want)
		}
	}
}

// Sorting and narrowing change no answer: the whole file as Cedar reads it says
// the same.
func TestTheSortedRulesDecideLikeTheWholeFile(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	whole, err := cedar.NewPolicySetFromBytes(policyFile, policyText)
	if err != nil {
		t.Fatal(err)
	}
	h.everything(func(asker string, v Verb, kind string, kept, shared bool) {
		who, somebody := askerEntity(h.as(asker))
		if !somebody {
			return
		}
		o := h.object(kind)
		what := objectEntity(o, h.facts[kind][o.ID])
		s := &scene{loaded: [3]types.Entity{who, what, h.gate.rules.actions[v]}}
		decision, diagnostic := cedar.Authorize(whole, s, cedar.Request{Principal: who.UID, Action: actionOf(v), Resource: what.UID})
		if len(diagnostic.Errors) != 0 || s.missed {
			t.Errorf("%s %s %s: the whole file fails: %v", asker, v, kind, diagnostic.Errors)
		}
		if got := h.gate.rules.decide(v, who.UID, what.UID, s); got != bool(decision) {
			t.Errorf("%s %s %s: sorted %v, whole %v", asker, v, kind, got, decision)
		}
	})
	for q, want := range map[question]int{{Listen, "Person", "Track"}: 2 + 2, {Listen, "Operator", "Track"}: 2, {View, "Person", "Call"}: 2} {
		got := 0
		for _, p := range h.gate.rules.sorted[q] {
			if _, all := p.AST().Action.(ast.ScopeTypeAll); all {
				got++
			}
		}
		if got != want {
			t.Errorf("%d narrowed policies answer %v, want %d", got, q, want)
		}
	}
}

// A set of actions is a list of them: none is a group.
func TestActionsHaveNoParents(t *testing.T) {
	t.Parallel()
	r, err := readRules(policyText, schemaText)
	if err != nil {
		t.Fatal(err)
	}
	for v, a := range r.actions {
		if a.Parents.Len() != 0 {
			t.Errorf("the action %s is in a group", v)
		}
	}
}
