package access

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cedar-policy/cedar-go"
	publicast "github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"

	"yesline"
	"yesline/internal/session"
)

var (
	everybody = slices.Sorted(maps.Keys(cast))
	// things are what can be asked for: a kind, and before it which one.
	things = []string{"call", "track", "person", "receipt", "program", "house", "account", "session", "passkey", "key", "odd key", "device",
		"case", "odd case", "house case", "auditor staff", "officer staff", "house staff"}
)

// askerOf says who asked for the cases. oona of the other program did for one
// about this program's call: she could not.
var askerOf = map[string]string{"case": "olga", "odd case": "oona", "house case": "hugo"}

// should is the rules once more, in plain Go.
func should(asker string, v Verb, thing string, st state) bool {
	is, where := cast[asker], "here"
	if st.foreign {
		where = "there"
	}
	if thing == "program" {
		where = "here" // it is itself
	}
	staff := is.kind != session.Person && is.kind != session.Machine && is.kind != session.Nobody
	inside := is.place == where || staff && is.place == "house"
	own := inside && asker == "ann" // nothing here is anybody else's, but what the cases below say
	operator, officer, auditor := is.kind == session.Operator, is.kind == session.Officer, is.kind == session.Auditor
	opened := officer && inside && st.open && slices.Contains(openers, asker)
	runs := operator || officer
	switch thing {
	case "call":
		return (own || inside && asker == "bob") && oneOf(v, View, Allow, Withdraw, Log, Talk) ||
			officer && inside && v == Break || opened && oneOf(v, View, Log)
	case "track":
		switch v {
		case Listen:
			return st.kept && (own || inside && asker == "bob" && st.shared || opened)
		case Finish:
			return st.kept && asker == "finisher"
		case Log:
			return own || opened
		}
	case "person":
		return own && oneOf(v, List, Log, Reveal, Dial) || officer && inside && v == Break || opened && oneOf(v, Log, Reveal)
	case "receipt":
		return own && v == Receipt
	case "program":
		return inside && (operator && v == Invite || (runs || auditor) && v == Staff || runs && oneOf(v, Appoint, Contain))
	case "house":
		all := is.place == "house"
		return (runs || auditor) && v == Verify || all && (runs || auditor) && v == Staff || all && runs && oneOf(v, Appoint, Contain)
	case "account", "session", "device":
		return own && v == Manage
	case "passkey":
		return asker == "hugo" && v == Manage
	case "key":
		return asker == "bea" && inside && v == Manage
	case "odd key": // says that it is ann's, and is not of her program
	case "case", "odd case", "house case":
		own := asker == askerOf[thing]
		return officer && inside && (v == View || v == Approve && !own || v == Break && own)
	case "auditor staff":
		return inside && runs && v == Appoint
	case "officer staff":
		return inside && officer && v == Appoint
	case "house staff":
		return is.place == "house" && runs && v == Appoint
	}
	return false
}

// forbidden are the great rules once more: what no permit can allow.
func forbidden(asker string, v Verb, thing string, st state) bool {
	is, where := cast[asker], "here"
	if st.foreign && thing != "program" {
		where = "there"
	}
	kind := thing[strings.LastIndex(thing, " ")+1:]
	stays := is.place == where || is.place == "house"
	opened := st.open && slices.Contains(openers, asker)
	if oneOf(is.kind, session.Operator, session.Auditor, session.Buyer) && oneOf(v, List, View, Listen, Log, Reveal, Break, Approve, Dial, Talk) {
		return true
	}
	switch kind {
	case "call", "person":
		return !stays || is.kind == session.Officer && v != Break && !opened
	case "track":
		return !stays || is.kind == session.Officer && !opened || !st.kept && oneOf(v, Listen, Finish)
	case "receipt", "program":
		return !stays
	case "case":
		return !stays || v == Approve && asker == askerOf[thing]
	case "staff":
		if thing == "house staff" {
			stays = is.place == "house"
		}
		return !stays || is.kind == session.Operator && thing == "officer staff" && v == Appoint
	case "house":
		return is.place != "house" && oneOf(v, Staff, Appoint, Contain)
	}
	whose := map[string]string{"account": "ann", "session": "ann", "device": "ann", "key": "bea", "passkey": "hugo"}[thing]
	return asker != whose || thing != "passkey" && is.place != where
}

func oneOf[T comparable](one T, some ...T) bool { return slices.Contains(some, one) }

// everything runs f over every asker, verb, thing and state.
func (h *house) everything(f func(asker string, v Verb, thing string, st state)) {
	for _, st := range states() {
		h.arrange(st)
		for _, thing := range things {
			for _, v := range verbs {
				for _, asker := range everybody {
					f(asker, v, thing, st)
				}
			}
		}
	}
}

func TestTruthTable(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	yes := 0
	h.everything(func(asker string, v Verb, thing string, st state) {
		o := h.object(thing)
		p, err := h.ask(asker, v, o)
		if (err == nil) != should(asker, v, thing, st) {
			t.Errorf("%s %s %s, %+v: got %v, want %v", asker, v, thing, st, err, err != nil)
			return
		}
		h.entries = h.entries[:0]
		if err != nil {
			h.refused(p, err)
			return
		}
		yes++
		for _, other := range verbs {
			if _, err := p.Allows(other, o.Kind, o.ID); (err == nil) != (other == v) {
				t.Errorf("a permit to %s and %s: %v", v, other, err)
			}
		}
	})
	if want := 1478; yes != want {
		t.Errorf("%d of the table are yes, want %d: look at the rules again", yes, want)
	}
}

// question in full: who asks what of which thing in which state, and what the
// gate loads for it.
type asked struct {
	asker     string
	v         Verb
	thing     string
	st        state
	q         question
	who, what types.Entity
	asks      *asker
	facts     Facts
}

// questions are all of everything that somebody can ask.
func (h *house) questions() (all []asked) {
	for _, st := range states() {
		h.arrange(st)
		for _, thing := range things {
			o := h.object(thing)
			for _, asker := range everybody {
				who, somebody := newAsker(h.as(asker))
				if !somebody {
					continue
				}
				what := objectEntity(o, h.facts[o.Kind][o.ID], allAttributes, who)
				for _, v := range verbs {
					all = append(all, asked{asker, v, thing, st, question{v, who.UID.Type, what.UID.Type}, who.Entity, what, who, h.facts[o.Kind][o.ID]})
				}
			}
		}
	}
	return all
}

func (r *rules) answer(a asked) bool {
	answer := r.sorted[a.q]
	return answer != nil && answer.decide(a.v, a.who.UID, a.what.UID, &scene{loaded: [3]types.Entity{a.who, a.what, r.actions[a.v]}})
}

// without gives the rules without the policies of one effect.
func (r *rules) without(effect cedar.Effect) *rules {
	part := *r
	part.sorted = map[question]*answering{}
	for q, ps := range r.sorted {
		some := *ps
		some.policies = slices.DeleteFunc(slices.Clone(ps.policies), func(p *cedar.Policy) bool { return p.Effect() == effect })
		part.sorted[q] = &some
	}
	return &part
}

// The forbids only repeat: every permit says program, person, consent and case
// itself, so that a skipped forbid opens nothing.
func TestEveryPermitStandsAlone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := h.gate.rules.without(cedar.Forbid)
	for _, a := range h.questions() {
		if got, want := r.answer(a), should(a.asker, a.v, a.thing, a.st); got != want {
			t.Errorf("without forbids %s %s %s, %+v: got %v, want %v", a.asker, a.v, a.thing, a.st, got, want)
		}
	}
}

// And the forbids alone hold if every permit were too wide.
func TestTheForbidsHoldAgainstAWidePermit(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r, err := readRules([]byte(widePermit+string(policyText)), schemaText)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range h.questions() {
		if got, want := r.answer(a), !forbidden(a.asker, a.v, a.thing, a.st); got != want {
			t.Errorf("with a wide permit %s %s %s, %+v: got %v, want %v", a.asker, a.v, a.thing, a.st, got, want)
		}
		if forbidden(a.asker, a.v, a.thing, a.st) && should(a.asker, a.v, a.thing, a.st) {
			t.Errorf("%s should %s %s, %+v, and it is forbidden", a.asker, a.v, a.thing, a.st)
		}
	}
}

const widePermit = "permit (principal, action, resource);\n"

// Every word of the policies counts: whatever part of one is dropped or
// widened, some answer of the table changes. Permits are looked at without the
// forbids, and forbids under a permit for everything.
func TestEveryConditionCounts(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	list, err := cedar.NewPolicyListFromBytes(policyFile, []byte(widePermit+string(policyText)))
	if err != nil {
		t.Fatal(err)
	}
	var trees []*ast.Policy
	for _, p := range list {
		trees = append(trees, (*ast.Policy)(p.AST()))
	}
	questions := map[question][]asked{}
	for _, a := range h.questions() {
		questions[a.q] = append(questions[a.q], a)
	}
	tried := 0
	for i, p := range trees[1:] {
		beside := permits(trees[1:])
		want := should
		if p.Effect == ast.EffectForbid {
			beside = append(forbids(trees), trees[0])
			want = func(asker string, v Verb, thing string, st state) bool { return !forbidden(asker, v, thing, st) }
		}
		beside = slices.DeleteFunc(beside, func(other *ast.Policy) bool { return other == p })
		where := list[i+1].Position().Line - 1
		for _, m := range mutants(p) {
			tried++
			if !h.differs(questions, beside, p, m.policy, want) {
				t.Errorf("%s:%d: %s, and no answer changes", policyFile, where, m.what)
			}
		}
	}
	if tried < 200 {
		t.Errorf("only %d mutants were tried", tried)
	}
}

func permits(ps []*ast.Policy) []*ast.Policy {
	return slices.DeleteFunc(slices.Clone(ps), func(p *ast.Policy) bool { return p.Effect == ast.EffectForbid })
}

func forbids(ps []*ast.Policy) []*ast.Policy {
	return slices.DeleteFunc(slices.Clone(ps), func(p *ast.Policy) bool { return p.Effect == ast.EffectPermit })
}

// differs reports whether a question that the mutant or what it came from
// answers is answered wrongly, or cannot be answered any more.
func (h *house) differs(questions map[question][]asked, beside []*ast.Policy, was, is *ast.Policy, want func(string, Verb, string, state) bool) bool {
	for q, all := range questions {
		_, before := narrow(was, q)
		if _, after := narrow(is, q); !before && !after {
			continue
		}
		var ps policies
		for _, p := range append(slices.Clone(beside), is) {
			if part, ok := narrow(p, q); ok {
				ps = append(ps, cedar.NewPolicyFromAST((*publicast.Policy)(part)))
			}
		}
		for _, a := range all {
			s := &scene{loaded: [3]types.Entity{a.who, a.what, h.gate.rules.actions[a.v]}}
			decision, diagnostic := cedar.Authorize(ps, s, cedar.Request{Principal: a.who.UID, Action: actionOf(a.v), Resource: a.what.UID})
			if len(diagnostic.Errors) != 0 || bool(decision) != want(a.asker, a.v, a.thing, a.st) {
				return true
			}
		}
	}
	return false
}

type mutant struct {
	what   string
	policy *ast.Policy
}

// mutants are a policy with one of its parts dropped or widened: each scope,
// each action of a list, each side of each && and ||.
func mutants(p *ast.Policy) (all []mutant) {
	add := func(what string, change func(*ast.Policy)) {
		m := *p
		m.Conditions = slices.Clone(p.Conditions)
		change(&m)
		all = append(all, mutant{what, &m})
	}
	anything := ast.Scope{}.All()
	never := ast.ConditionType{Condition: ast.ConditionWhen, Body: ast.NodeValue{Value: types.False}}
	add("the policy is dropped", func(m *ast.Policy) { m.Conditions = append(m.Conditions, never) })
	if _, all := p.Principal.(ast.ScopeTypeAll); !all && !tied(p) {
		add("the principal is anybody", func(m *ast.Policy) { m.Principal = anything })
	}
	if _, all := p.Resource.(ast.ScopeTypeAll); !all {
		add("the resource is anything", func(m *ast.Policy) { m.Resource = anything })
	}
	if _, all := p.Action.(ast.ScopeTypeAll); !all {
		add("the action is any", func(m *ast.Policy) { m.Action = anything })
	}
	if in, ok := p.Action.(ast.ScopeTypeInSet); ok {
		for i, action := range in.Entities {
			add(fmt.Sprintf("%s is dropped", action.ID), func(m *ast.Policy) {
				m.Action = ast.ScopeTypeInSet{Entities: slices.Delete(slices.Clone(in.Entities), i, i+1)}
			})
		}
	}
	for i, c := range p.Conditions {
		add(fmt.Sprintf("condition %d is dropped", i), func(m *ast.Policy) { m.Conditions = slices.Delete(m.Conditions, i, i+1) })
		for j, body := range smaller(c.Body) {
			add(fmt.Sprintf("part %d of condition %d is dropped", j, i), func(m *ast.Policy) { m.Conditions[i].Body = body })
		}
	}
	return all
}

// tied reports whether a condition holds the principal against a person or an
// officer by name: then it says the kind of the principal once more.
func tied(p *ast.Policy) bool {
	found := false
	for _, c := range p.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			var right ast.IsNode
			switch n := n.(type) {
			case ast.NodeTypeContains:
				right = n.Right
			case ast.NodeTypeEquals:
				right = n.Right
			}
			v, ok := right.(ast.NodeTypeVariable)
			found = found || ok && v.Name == "principal"
			return true
		})
	}
	return found
}

// smaller gives a condition without each side of each && and || in it.
func smaller(n ast.IsNode) (all []ast.IsNode) {
	var sides ast.BinaryNode
	var join func(l, r ast.IsNode) ast.IsNode
	switch n := n.(type) {
	case ast.NodeTypeAnd:
		sides, join = n.BinaryNode, func(l, r ast.IsNode) ast.IsNode {
			return ast.NodeTypeAnd{BinaryNode: ast.BinaryNode{Left: l, Right: r}}
		}
	case ast.NodeTypeOr:
		sides, join = n.BinaryNode, func(l, r ast.IsNode) ast.IsNode { return ast.NodeTypeOr{BinaryNode: ast.BinaryNode{Left: l, Right: r}} }
	default:
		return nil
	}
	all = append(all, sides.Left, sides.Right)
	for _, l := range smaller(sides.Left) {
		all = append(all, join(l, sides.Right))
	}
	for _, r := range smaller(sides.Right) {
		all = append(all, join(sides.Left, r))
	}
	return all
}

// Whatever is missing, nothing is allowed: neither with an entity that was not
// loaded, nor with one that lacks an attribute that a policy reads. Cedar alone
// would allow it.
func TestNothingIsAllowedWhenSomethingIsMissing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := h.gate.rules
	dropped := 0
	for _, a := range h.questions() {
		answer := r.sorted[a.q]
		if answer == nil || !a.st.shared { // half of the table is enough
			continue
		}
		full := [3]types.Entity{a.who, a.what, r.actions[a.v]}
		never := func(missing string, loaded [3]types.Entity) {
			t.Helper()
			dropped++
			if answer.decide(a.v, a.who.UID, a.what.UID, &scene{loaded: loaded}) {
				t.Errorf("%s may %s a %s, %+v, without %s", a.asker, a.v, a.thing, a.st, missing)
			}
		}
		for i := range full {
			part := full
			part[i] = types.Entity{}
			never(fmt.Sprint("entity ", full[i].UID.Type), part)
			for attr := range full[i].Attributes.Keys() {
				if i == 1 && answer.reads&attributes[attr] == 0 {
					continue // nobody looks
				}
				part := full
				attrs := full[i].Attributes.Map()
				delete(attrs, attr)
				part[i].Attributes = types.NewRecord(attrs)
				never(fmt.Sprintf("%s.%s", full[i].UID.Type, attr), part)
			}
		}
	}
	if dropped < 50000 {
		t.Errorf("only %d drops were tried", dropped)
	}
}

// The same through the gate: facts with a hole, also where no policy looks.
func TestNothingIsAllowedOnFactsWithAHole(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	holes := map[string]func(*Facts){
		"program": func(f *Facts) { f.Program = "" },
		"owner":   func(f *Facts) { f.Owner = "" },
		"parties": func(f *Facts) { f.Parties = nil },
		"account": func(f *Facts) { f.Account = "" },
		"role":    func(f *Facts) { f.Role = "" },
		"asker":   func(f *Facts) { f.Asker = "" },
	}
	for thing, needs := range map[string][]string{"call": {"program", "parties"}, "track": {"program", "owner", "parties"},
		"person": {"program", "owner"}, "receipt": {"program", "owner"}, "program": {"program"},
		"account": {"program", "account"}, "session": {"program", "account"}, "passkey": {"account"}, "key": {"program", "account"},
		"device": {"program", "account"}, "case": {"program", "asker"}, "auditor staff": {"account", "role"}, "house staff": {"account", "role"}} {
		for _, hole := range needs {
			h.arrange(state{kept: true, shared: true, open: true})
			o := h.object(thing)
			f := h.facts[o.Kind][o.ID]
			holes[hole](&f)
			h.set(o.Kind, o.ID, f)
			for _, v := range verbs {
				for _, asker := range everybody {
					if _, err := h.ask(asker, v, o); err == nil {
						t.Errorf("%s may %s a %s whose facts have no %s", asker, v, thing, hole)
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
	h.gate.rules.sorted[q].policies = append(h.gate.rules.sorted[q].policies, &failing)
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
	h.gate.rules.sorted[q].policies = append(h.gate.rules.sorted[q].policies, &looking)
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
	for _, a := range h.questions() {
		if a.v != List { // entities know no verb
			continue
		}
		o := h.object(a.thing)
		for _, e := range []types.Entity{a.who, a.what, objectEntity(o, phantom, allAttributes, a.asks)} {
			if err := check.Entity(e); err != nil {
				t.Errorf("%s and a %s: %v", a.asker, a.thing, err)
			}
		}
		if phantom.given(o.Kind) != shapes[o.Kind] {
			t.Errorf("the phantom of a %s has a hole", a.thing)
		}
	}
	for v, action := range h.gate.rules.actions {
		if err := check.Entity(action); err != nil {
			t.Errorf("the action %s: %v", v, err)
		}
	}
}

// Bad policies and schemas do not start, and the error says where.
func TestBadRulesDoNotStart(t *testing.T) {
	t.Parallel()
	good := string(policyText)
	lines := strings.Count(good, "\n")
	goodSchema := string(schemaText)
	optional := strings.Replace(goodSchema, "owner: Person,            // whose", "note?: Bool, owner: Person, // whose", 1)
	tags := strings.Replace(goodSchema, "entity Operator { program: Program, ofHouse: Bool, account: String };", "entity Operator { program: Program, ofHouse: Bool, account: String } tags Bool;", 1)
	groups := strings.Replace(goodSchema, "entity Operator {", "entity Group; entity Operator in [Group] {", 1)
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
		"a set otherwise than about the asker": {`permit (principal is Person, action == Action::"view", resource is Call) when { resource.parties.containsAll([principal]) };`,
			goodSchema, "contains the principal"},
		"a set about somebody else": {`permit (principal is Person, action == Action::"listen", resource is Track) when { resource.parties.contains(resource.owner) };`,
			goodSchema, "contains the principal"},
		"another's id": {`permit (principal is Person, action == Action::"listen", resource is Track) when { resource.owner == Person::"per_x" };`,
			goodSchema, "against nothing else"},
		"another's program": {`permit (principal is Person, action == Action::"listen", resource is Track) when { resource.program == Program::"prg_x" };`,
			goodSchema, "against nothing else"},
		"another's account": {`permit (principal, action == Action::"manage", resource is Belonging) when { "stf_x" != resource.account };`,
			goodSchema, "against nothing else"},
		"ids of two others": {`permit (principal is Person, action == Action::"listen", resource is Track) when { [resource.owner].contains(principal) };`,
			goodSchema, "against nothing else"},
		"ids of two others, and of two askers": {`permit (principal is Person, action == Action::"listen", resource is Track) when { [resource.owner].contains(principal) && principal.account == principal.account };`,
			goodSchema, "against nothing else"},
		"sums in a forbid": {`forbid (principal, action == Action::"listen", resource) when { 1 + 9223372036854775807 == 0 };`, goodSchema, "calculate"},
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
		"syntax":                    {goodSchema + "entity ;", fmt.Sprintf("%s:%d:", schemaFile, strings.Count(goodSchema, "\n")+1)},
		"a missing action":          {strings.Replace(goodSchema, "action verify", "action check", 1), "verify"},
		"an action too many":        {goodSchema + `action dance appliesTo { principal: [Person], resource: [Call] };`, "20 actions for 19 verbs"},
		"an unknown type":           {strings.Replace(goodSchema, "self: Person", "self: Pirson", 1), "Pirson"},
		"an attribute nobody gives": {strings.Replace(goodSchema, "self: Person,", "self: Person, shade: Bool,", 1), "shade"},
		"an attribute missing":      {strings.Replace(goodSchema, "  asker: Officer,\n", "", 1), "BreakCase"},
		"an attribute optional":     {strings.Replace(goodSchema, "asker: Officer", "asker?: Officer", 1), "asker"},
		"an asker without type":     {strings.ReplaceAll(goodSchema, "Auditor", "Editor"), "Auditor"},
		"a context":                 {strings.Replace(goodSchema, "resource: [House],", "resource: [House], context: { x?: Bool },", 1), "no context"},
		"a kind without type":       {strings.Replace(goodSchema, "ReceiptDoc", "Reseipt", 2), "ReceiptDoc"},
	} {
		_, err := readRules(policyText, []byte(c.schema))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), schemaFile) {
			t.Errorf("schema with %s: got %v, want an error with %q", name, err, c.want)
		}
	}
}

// plainly is an object with all that the facts say, and not only what is the
// asker's.
func plainly(kind string, uid types.EntityUID, f Facts) types.Entity {
	set := func(of types.EntityType, ids ...string) types.Set {
		var all []types.Value
		for _, id := range ids {
			all = append(all, types.NewEntityUID(of, types.String(id)))
		}
		return types.NewSet(all...)
	}
	people := func(ids []yesline.PersonID) types.Set {
		var all []string
		for _, id := range ids {
			all = append(all, string(id))
		}
		return set("Person", all...)
	}
	owner := types.NewEntityUID("Person", types.String(f.Owner))
	attrs := types.RecordMap{"program": programUID(f.Program), "owner": owner, "self": owner, "parties": people(f.Parties),
		"sharedWith": people(f.SharedWith), "kept": types.Boolean(f.Kept), "openTo": set("Officer", f.OpenTo...),
		"account": types.String(f.Account), "role": types.String(f.Role), "asker": types.NewEntityUID("Officer", types.String(f.Asker))}
	for name := range attrs {
		if attributes[name]&shapes[kind] == 0 {
			delete(attrs, name)
		}
	}
	return types.Entity{UID: uid, Attributes: types.NewRecord(attrs)}
}

// Sorting, narrowing, and telling only what is the asker's change no answer: the
// whole file as Cedar reads it, with all that the facts say, says the same.
func TestTheSortedRulesDecideLikeTheWholeFile(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	whole, err := cedar.NewPolicySetFromBytes(policyFile, policyText)
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range h.questions() {
		if i%11 != 0 { // some are enough; the numbers of the table have no common factor with it
			continue
		}
		s := &scene{loaded: [3]types.Entity{a.who, plainly(h.object(a.thing).Kind, a.what.UID, a.facts), h.gate.rules.actions[a.v]}}
		decision, diagnostic := cedar.Authorize(whole, s, cedar.Request{Principal: a.who.UID, Action: actionOf(a.v), Resource: a.what.UID})
		if len(diagnostic.Errors) != 0 || s.missed {
			t.Fatalf("%s %s %s: the whole file fails: %v", a.asker, a.v, a.thing, diagnostic.Errors)
		}
		if got := h.gate.rules.answer(a); got != bool(decision) {
			t.Errorf("%s %s %s: sorted %v, whole %v", a.asker, a.v, a.thing, got, decision)
		}
	}
	for q, want := range map[question]int{{Listen, "Person", "Track"}: 2 + 2, {Listen, "Operator", "Track"}: 3, {View, "Person", "Call"}: 2, {Finish, "Machine", "Track"}: 3} {
		got := 0
		for _, p := range h.gate.rules.sorted[q].policies {
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
