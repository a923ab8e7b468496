package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// guarded are the rooms whose guards are broken. Not capture/sip: its tests talk
// to real telephones, by the clock, which a machine that is busy with mutants
// does not keep.
var guarded = strings.Fields(`audit keys program session access people notify notify/sms consent vault
	capture capture/media capture/tolls capture/webrtc playback web`)

// edit changes the bytes from from up to to of a file. What it makes of them
// may hold the mark \x00, for the mutant's name in quotes.
type edit struct {
	file     string // from the top of the repository
	from, to int
	change   func(old string) string
}

// collect finds every guard of the house.
func collect(root string) ([]*mutant, error) {
	var all []*mutant
	for _, room := range guarded {
		files, err := filepath.Glob(filepath.Join(root, "internal", room, "*.go"))
		if err != nil {
			return nil, err
		}
		var constants []constant
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			s, err := inFile(root, "internal/"+room, file)
			if err != nil {
				return nil, err
			}
			all = append(all, s.found...)
			constants = append(constants, s.constants...)
		}
		all = append(all, lasting(constants)...)
	}
	policies, err := inPolicies(root)
	if err != nil {
		return nil, err
	}
	all = append(all, policies...)
	doors, err := inDoors(root)
	if err != nil {
		return nil, err
	}
	all = append(all, doors...)
	named, err := byHand(root)
	if err != nil {
		return nil, err
	}
	all = append(all, named...)
	seen := map[string]int{}
	for _, m := range all {
		if m.hidden {
			continue
		}
		seen[m.name]++
		if n := seen[m.name]; n > 1 {
			m.name += fmt.Sprintf(" (%d)", n)
		}
	}
	return all, nil
}

// source is a parsed file with its bytes.
type source struct {
	room, path string
	text       []byte
	set        *token.FileSet
	tree       *ast.File
	found      []*mutant
	constants  []constant
}

func inFile(root, room, file string) (*source, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	path, err := filepath.Rel(root, file)
	if err != nil {
		return nil, err
	}
	s := &source{room: room, path: filepath.ToSlash(path), text: text, set: token.NewFileSet()}
	if s.tree, err = parser.ParseFile(s.set, file, text, parser.SkipObjectResolution); err != nil {
		return nil, err
	}
	for _, d := range s.tree.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			s.inFunc(d)
		case *ast.GenDecl:
			s.inDecl(d)
		}
	}
	return s, nil
}

func (s *source) at(p token.Pos) int { return s.set.Position(p).Offset }

func (s *source) words(n ast.Node) string {
	var b bytes.Buffer
	printer.Fprint(&b, s.set, n)
	return strings.Join(strings.Fields(b.String()), " ")
}

func (s *source) add(what, where string, n ast.Node, change func(old string) string) {
	s.found = append(s.found, &mutant{
		name:  fmt.Sprintf("%s %s: %s", strings.TrimPrefix(s.path, "internal/"), where, what),
		room:  s.room,
		edits: []edit{{s.path, s.at(n.Pos()), s.at(n.End()), change}},
	})
}

// on is how planted code asks whether its fault is switched on. plant fills in
// the mutant's name, which is known only when all are collected.
const on = "mutantOn(\x00)"

func (s *source) inFunc(f *ast.FuncDecl) {
	if f.Body == nil {
		return
	}
	where := f.Name.Name
	if f.Recv != nil {
		where = strings.Trim(s.words(f.Recv.List[0].Type), "*") + "." + where
	}
	ast.Inspect(f.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.IfStmt:
			if refuses(n) {
				s.add("without `"+s.words(n.Cond)+"`", where, n.Cond, func(old string) string { return "(" + old + ") && !" + on })
			}
		case *ast.CaseClause:
			if len(n.List) == 1 && len(n.Body) > 0 && refusal(n.Body[len(n.Body)-1]) && isCondition(n.List[0]) {
				s.add("without `"+s.words(n.List[0])+"`", where, n.List[0], func(old string) string { return "(" + old + ") && !" + on })
			}
		case *ast.BasicLit:
			if n.Kind == token.STRING && strings.HasPrefix(n.Value, "`") {
				s.inSQL(where, n)
			}
		}
		return true
	})
}

func isCondition(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BinaryExpr:
		return slices.Contains([]token.Token{token.EQL, token.NEQ, token.LSS, token.GTR, token.LEQ, token.GEQ, token.LAND, token.LOR}, e.Op)
	case *ast.UnaryExpr:
		return e.Op == token.NOT
	}
	return false
}

// refuses reports whether an if is a guard: it ends by saying no, and does not
// just pass on what another said.
func refuses(n *ast.IfStmt) bool {
	return n.Else == nil && len(n.Body.List) > 0 && refusal(n.Body.List[len(n.Body.List)-1]) && !onlyPassesOn(n)
}

func onlyPassesOn(n *ast.IfStmt) bool {
	b, ok := n.Cond.(*ast.BinaryExpr)
	if !ok || b.Op != token.NEQ {
		return false
	}
	x, isErr := b.X.(*ast.Ident)
	y, isNil := b.Y.(*ast.Ident)
	if !isErr || !isNil || y.Name != "nil" || !strings.HasSuffix(strings.ToLower(x.Name), "err") {
		return false
	}
	// A permit that was looked at on the way is a guard all the same.
	as, ok := n.Init.(*ast.AssignStmt)
	if !ok || len(as.Rhs) != 1 {
		return true
	}
	call, ok := as.Rhs[0].(*ast.CallExpr)
	if !ok {
		return true
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	return !ok || sel.Sel.Name != "Allows"
}

// kinds are the words of a no.
var kinds = regexp.MustCompile(`^(NotFound|Denied|Invalid|Conflict|TooMany|Unavailable|Tampered|Stale)$`)

// refusal reports whether a statement returns a no of the house's own.
func refusal(st ast.Stmt) bool {
	r, ok := st.(*ast.ReturnStmt)
	if !ok || len(r.Results) == 0 {
		return false
	}
	last := r.Results[len(r.Results)-1]
	if id, ok := last.(*ast.Ident); ok {
		return strings.HasPrefix(id.Name, "refus") || id.Name == "absent" || id.Name == "bad" || id.Name == "false"
	}
	no := false
	ast.Inspect(last, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && kinds.MatchString(sel.Sel.Name) {
			no = true
		}
		if call, ok := n.(*ast.CallExpr); ok {
			if id, ok := call.Fun.(*ast.Ident); ok && strings.HasPrefix(id.Name, "refus") {
				no = true
			}
		}
		return true
	})
	return no
}

// owners are conditions of a query that keep it to one owner, program or
// moment. Each is replaced by one that is always true of its parameter.
var owners = regexp.MustCompile(`\b(?:\w+\.)?(person|account|program|owner|approver|asker|ended|used|state|expires|until|holder)\s*(=|<>|>|<|>=|<=)\s*(\$\d+|0|''|'\w+')`)

// typeOf is what a column holds, for databases that want to know.
func typeOf(condition string) string {
	if regexp.MustCompile(`\b(ended|used|expires|until)\b`).MatchString(condition) {
		return "BIGINT"
	}
	return "TEXT"
}

func (s *source) inSQL(where string, n *ast.BasicLit) {
	upper := strings.ToUpper(n.Value)
	start := strings.Index(upper, "WHERE ")
	if start < 0 {
		return
	}
	for _, m := range owners.FindAllStringIndex(n.Value, -1) {
		if m[0] < start || strings.Contains(upper[start:m[0]], "SET ") {
			continue
		}
		condition := n.Value[m[0]:m[1]]
		always := "(1 = 1)"
		if i := strings.Index(condition, "$"); i >= 0 {
			always = fmt.Sprintf("(CAST(%s AS %s) IS NOT NULL OR 1 = 1)", condition[i:], typeOf(condition))
		}
		changed := n.Value[:m[0]] + always + n.Value[m[1]:]
		s.add("SQL without `"+condition+"`", where, n, func(old string) string {
			return fmt.Sprintf("mutantText(\x00, %s, %s)", changed, old)
		})
	}
}

// inDecl finds constants that say how long something lasts, and those that
// hang on them.
func (s *source) inDecl(d *ast.GenDecl) {
	if d.Tok != token.CONST {
		return
	}
	for _, spec := range d.Specs {
		v, ok := spec.(*ast.ValueSpec)
		if ok && len(v.Names) == 1 && len(v.Values) == 1 && v.Type == nil {
			s.constants = append(s.constants, constant{s, v, v.Names[0].Name, s.words(v.Values[0])})
		}
	}
}

type constant struct {
	in    *source
	spec  *ast.ValueSpec
	name  string
	words string
}

func (c constant) isTime() bool {
	return strings.Contains(c.words, "time.Hour") || strings.Contains(c.words, "time.Minute") || strings.Contains(c.words, "time.Second")
}

// variable makes the constant a variable of its own declaration.
func (c constant) variable(value string) []edit {
	s := c.in
	return []edit{
		{s.path, s.at(c.spec.Pos()), s.at(c.spec.End()), func(string) string { return "_ = 0" }},
		{s.path, len(s.text), len(s.text), func(old string) string { return old + fmt.Sprintf("\nvar %s = %s\n", c.name, value) }},
	}
}

// lasting makes a mutant of each constant of a room that says how long
// something lasts. What is computed from one becomes a variable with it.
func lasting(constants []constant) (found []*mutant) {
	moved := map[string]bool{}
	for _, c := range constants {
		if c.isTime() {
			moved[c.name] = true
			found = append(found, &mutant{name: fmt.Sprintf("%s %s: lasts a hundred times as long", strings.TrimPrefix(c.in.path, "internal/"), c.name),
				room: c.in.room, edits: c.variable("mutantTime(\x00, " + c.words + ")")})
		}
	}
	word := regexp.MustCompile(`\w+`)
	for more := true; more; {
		more = false
		for _, c := range constants {
			if !moved[c.name] && slices.ContainsFunc(word.FindAllString(c.words, -1), func(w string) bool { return moved[w] }) {
				moved[c.name], more = true, true
				found = append(found, &mutant{hidden: true, room: c.in.room, edits: c.variable(c.words)})
			}
		}
	}
	return found
}
