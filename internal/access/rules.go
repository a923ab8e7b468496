package access

import (
	_ "embed"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"
	publicast "github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"
)

//go:embed policies.cedar
var policyText []byte

//go:embed schema.cedarschema
var schemaText []byte

const (
	policyFile = "internal/access/policies.cedar"
	schemaFile = "internal/access/schema.cedarschema"
)

// verbs are all there are. Each has one action in the schema.
var verbs = []Verb{List, View, Listen, Allow, Withdraw, Log, Receipt, Reveal, Invite, Verify, Finish,
	Manage, Break, Approve, Staff, Appoint, Contain, Dial, Talk}

// rules are the policies, checked and sorted by the questions they can answer.
type rules struct {
	sorted   map[question]*answering
	actions  map[Verb]types.Entity
	required map[types.EntityType][]types.String // the attributes an entity must have
}

// question is what the scopes of a policy tell apart.
type question struct {
	verb      Verb
	who, what types.EntityType
}

// answering is what answers a question.
type answering struct {
	policies
	reads         attribute      // of the object, by those policies
	asker, object []types.String // the attributes that the two must have
}

// policies are in the order of the file. Authorize runs all of them.
type policies []*cedar.Policy

func (ps policies) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, p := range ps {
			if !yield("", p) { // a position says more than an id
				return
			}
		}
	}
}

// readRules parses and checks policies and schema. Its errors name file and
// line; any of them is a reason not to start.
func readRules(policyText, schemaText []byte) (*rules, error) {
	var text schema.Schema
	text.SetFilename(schemaFile)
	if err := text.UnmarshalCedar(schemaText); err != nil {
		return nil, fmt.Errorf("%s: %w", schemaFile, err)
	}
	s, err := text.Resolve()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", schemaFile, err)
	}
	list, err := cedar.NewPolicyListFromBytes(policyFile, policyText)
	if err != nil {
		return nil, errors.New(strings.ReplaceAll(err.Error(), "<input>", policyFile)) // Cedar knows the line, and not the file
	}
	r := &rules{sorted: map[question]*answering{}, actions: map[Verb]types.Entity{}, required: map[types.EntityType][]types.String{}}
	errs := []error{r.readActions(s), r.readEntities(s)}
	check := validate.New(s, validate.WithStrict())
	for _, p := range list {
		tree := (*ast.Policy)(p.AST())
		if err := errors.Join(check.Policy("", tree), lint(tree, s), lintSets(tree, s), lintIDs(tree)); err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", policyFile, p.Position().Line, err))
			continue
		}
		r.sort(tree)
	}
	for q, a := range r.sorted {
		a.asker, a.object = r.required[q.who], r.readOf(q.what, a.reads)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return r, nil
}

func actionOf(v Verb) types.EntityUID { return types.NewEntityUID("Action", types.String(v)) }

// readActions makes sure that verbs and actions are the same words.
func (r *rules) readActions(s *resolved.Schema) error {
	for _, v := range verbs {
		a, ok := s.Actions[actionOf(v)]
		if !ok {
			return fmt.Errorf("%s: no action for the verb %q", schemaFile, v)
		}
		if a.AppliesTo == nil || len(a.AppliesTo.Context) > 0 {
			return fmt.Errorf("%s: the action %q must apply to something and take no context", schemaFile, v)
		}
		r.actions[v] = a.Entity
	}
	if len(s.Actions) != len(verbs) {
		return fmt.Errorf("%s: %d actions for %d verbs", schemaFile, len(s.Actions), len(verbs))
	}
	return nil
}

func (r *rules) readEntities(s *resolved.Schema) error {
	for name, e := range s.Entities {
		r.required[name] = []types.String{}
		for attr, a := range e.Shape {
			if !a.Optional {
				r.required[name] = append(r.required[name], attr)
			}
		}
	}
	for _, name := range askerTypes {
		if _, ok := s.Entities[name]; !ok {
			return fmt.Errorf("%s: no entity %s for one who asks", schemaFile, name)
		}
	}
	for kind, name := range entityTypes {
		e, ok := s.Entities[name]
		if !ok {
			return fmt.Errorf("%s: no entity %s for the object kind %q", schemaFile, name, kind)
		}
		var shape attribute
		for attr, a := range e.Shape {
			if attributes[attr] == 0 || a.Optional {
				return fmt.Errorf("%s: %s.%s is optional, or no fact gives it", schemaFile, name, attr)
			}
			shape |= attributes[attr]
		}
		if shape != shapes[kind] {
			return fmt.Errorf("%s: the entity %s is not what the facts of a %s give", schemaFile, name, kind)
		}
	}
	return nil
}

// sort puts a policy under each question that it can match, without the scopes
// that the question already answers: it then costs only its conditions.
func (r *rules) sort(p *ast.Policy) {
	objects := slices.Compact(slices.Sorted(maps.Values(entityTypes)))
	for v := range r.actions {
		for _, who := range askerTypes {
			for _, what := range objects {
				if part, ok := narrow(p, question{v, who, what}); ok {
					q := question{v, who, what}
					if r.sorted[q] == nil {
						r.sorted[q] = &answering{}
					}
					r.sorted[q].policies = append(r.sorted[q].policies, cedar.NewPolicyFromAST((*publicast.Policy)(part)))
					r.sorted[q].reads |= readsOf(p)
				}
			}
		}
	}
}

// readsOf are the object's attributes that a policy looks at.
func readsOf(p *ast.Policy) (reads attribute) {
	for _, c := range p.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			if n, ok := n.(ast.NodeTypeAccess); ok {
				reads |= attributes[n.Value] // the asker's of the same name too: then one is loaded for nothing
			}
			return true
		})
	}
	return reads
}

// readOf are the required attributes of an object that somebody reads.
func (r *rules) readOf(what types.EntityType, reads attribute) []types.String {
	return slices.DeleteFunc(slices.Clone(r.required[what]), func(name types.String) bool { return attributes[name]&reads == 0 })
}

// narrow gives the policy without scopes that q answers, and false if it cannot
// match q. When in doubt the scope stays and the policy itself decides.
func narrow(p *ast.Policy, q question) (*ast.Policy, bool) {
	part := *p
	all := ast.Scope{}.All()
	switch sc := p.Action.(type) {
	case ast.ScopeTypeEq:
		if sc.Entity != actionOf(q.verb) {
			return nil, false
		}
		part.Action = all
	case ast.ScopeTypeInSet:
		if slices.Contains(sc.Entities, actionOf(q.verb)) {
			part.Action = all
		}
	}
	if is, ok := p.Principal.(ast.ScopeTypeIs); ok {
		if is.Type != q.who {
			return nil, false
		}
		part.Principal = all
	}
	if is, ok := p.Resource.(ast.ScopeTypeIs); ok {
		if is.Type != q.what {
			return nil, false
		}
		part.Resource = all
	}
	return &part, true
}

// lintSets: of a set the gate loads only whether it contains the asker, so
// that is all a policy may ask of it.
func lintSets(p *ast.Policy, s *resolved.Schema) error {
	sets, asked := 0, 0
	for _, c := range p.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			switch n := n.(type) {
			case ast.NodeTypeAccess:
				if isSet(n.Value, s) {
					sets++
				}
			case ast.NodeTypeContains:
				of, isAccess := n.Left.(ast.NodeTypeAccess)
				who, isVariable := n.Right.(ast.NodeTypeVariable)
				if isAccess && isSet(of.Value, s) && isVariable && who.Name == "principal" {
					asked++
				}
			}
			return true
		})
	}
	if sets != asked {
		return errors.New("a policy asks of a set only whether it contains the principal")
	}
	return nil
}

// heldAgainst are the attributes of objects that are somebody's id, and what of
// the principal they may be held against: an attribute, or "" for itself.
var heldAgainst = map[types.String]types.String{"program": "program", "owner": "", "self": "", "account": "account", "asker": ""}

// lintIDs: of whoever is not the asker the gate tells nothing but that, so all
// that a policy may ask is whether it is the asker.
func lintIDs(p *ast.Policy) error {
	ids, held := 0, 0
	for _, c := range p.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			var sides ast.BinaryNode
			switch n := n.(type) {
			case ast.NodeTypeAccess:
				if _, is := heldAgainst[n.Value]; is && isVariable(n.Arg, "resource") {
					ids++
				}
			case ast.NodeTypeEquals:
				sides = n.BinaryNode
			case ast.NodeTypeNotEquals:
				sides = n.BinaryNode
			}
			if isHeld(sides.Left, sides.Right) || isHeld(sides.Right, sides.Left) {
				held++
			}
			return true
		})
	}
	if ids != held {
		return errors.New("a policy holds an id of the resource against the principal's, and against nothing else")
	}
	return nil
}

// isHeld reports whether one side is an id of the resource and the other side
// the same of the principal.
func isHeld(one, other ast.IsNode) bool {
	of, ok := one.(ast.NodeTypeAccess)
	if !ok || !isVariable(of.Arg, "resource") {
		return false
	}
	against, ok := heldAgainst[of.Value]
	if !ok || against == "" {
		return ok && isVariable(other, "principal")
	}
	theirs, ok := other.(ast.NodeTypeAccess)
	return ok && theirs.Value == against && isVariable(theirs.Arg, "principal")
}

func isVariable(n ast.IsNode, name types.String) bool {
	v, ok := n.(ast.NodeTypeVariable)
	return ok && v.Name == name
}

func isSet(name types.String, s *resolved.Schema) bool {
	for _, e := range s.Entities {
		if a, ok := e.Shape[name]; ok {
			if _, set := a.Type.(resolved.SetType); set {
				return true
			}
		}
	}
	return false
}

// lint keeps a forbid from being skipped or fooled: Cedar skips a forbid that
// errors, and `has`, `in` and tags over what was not loaded are quietly false.
// So a forbid reads required attributes of principal and resource, and nothing
// behind them.
func lint(p *ast.Policy, s *resolved.Schema) error {
	if p.Effect != ast.EffectForbid {
		return nil
	}
	var errs []error
	for _, scope := range []ast.IsScopeNode{p.Principal, p.Resource} {
		switch scope.(type) {
		case ast.ScopeTypeIn, ast.ScopeTypeIsIn:
			errs = append(errs, errors.New("a forbid must not use `in` for principal or resource: what is not loaded would not be forbidden"))
		}
	}
	if _, group := p.Action.(ast.ScopeTypeIn); group {
		errs = append(errs, errors.New("a forbid must list its actions, not name a group"))
	}
	for _, c := range p.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			if err := lintNode(n, s); err != nil {
				errs = append(errs, err)
			}
			return true
		})
	}
	return errors.Join(errs...)
}

func lintNode(n ast.IsNode, s *resolved.Schema) error {
	switch n := n.(type) {
	case ast.NodeTypeHas, ast.NodeTypeHasTag, ast.NodeTypeGetTag:
		return errors.New("a forbid must not use `has` or tags: what is missing would not be forbidden")
	case ast.NodeTypeIn, ast.NodeTypeIsIn:
		return errors.New("a forbid must not use `in`: what is not loaded would not be forbidden")
	case ast.NodeTypeExtensionCall, ast.NodeTypeAdd, ast.NodeTypeSub, ast.NodeTypeMult, ast.NodeTypeNegate:
		return errors.New("a forbid must not calculate: an overflow or a bad value would skip it")
	case ast.NodeTypeAccess:
		of, ok := n.Arg.(ast.NodeTypeVariable)
		if !ok || of.Name != "principal" && of.Name != "resource" {
			return fmt.Errorf("a forbid reads attributes of principal and resource only, not %q of something else", n.Value)
		}
		for name, e := range s.Entities {
			if a, ok := e.Shape[n.Value]; ok && a.Optional {
				return fmt.Errorf("a forbid must not read %q: it is optional in %s", n.Value, name)
			}
		}
	}
	return nil
}

// scene is what was loaded for one decision. It remembers whether a policy
// looked for something else.
type scene struct {
	loaded [3]types.Entity // who asks, what for, the action
	missed bool
}

func (s *scene) Get(uid types.EntityUID) (types.Entity, bool) {
	for i := range s.loaded {
		if s.loaded[i].UID == uid {
			return s.loaded[i], true
		}
	}
	s.missed = true
	return types.Entity{}, false
}

// decide says yes only if a policy permits, none forbids, none failed, and all
// that the request names is loaded with every attribute that is read of it.
func (a *answering) decide(v Verb, who, what types.EntityUID, s *scene) bool {
	if !complete(who, a.asker, s) || !complete(what, a.object, s) {
		return false
	}
	s.Get(actionOf(v)) // it remembers what is not loaded
	decision, diagnostic := cedar.Authorize(&a.policies, s, cedar.Request{Principal: who, Action: actionOf(v), Resource: what})
	return decision == cedar.Allow && len(diagnostic.Errors) == 0 && !s.missed
}

// complete reports whether an entity has all of these attributes.
func complete(uid types.EntityUID, required []types.String, s *scene) bool {
	e, _ := s.Get(uid)
	for _, name := range required {
		if _, ok := e.Attributes.Get(name); !ok {
			return false
		}
	}
	return true
}
