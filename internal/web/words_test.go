package web

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"yesline/internal/access"
)

// verbsOfTheLog are all that the house's own sources write into its log. The
// gate's are typed, and consent's are its states.
type verbsOfTheLog struct {
	t     *testing.T
	files *token.FileSet
	found map[string]string // verb -> where
	takes map[string]int    // func of this package with a parameter named verb -> which
	texts map[string]string // constants of this package
}

// Every action that the log can hold has words on a page: nobody reads that
// somebody did something else.
func TestEveryActionOfTheLogHasWords(t *testing.T) {
	t.Parallel()
	v := &verbsOfTheLog{t: t, files: token.NewFileSet(), found: map[string]string{}}
	folders := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{"testdata", "demo", "attack", "phone"}, d.Name()) {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			folders[filepath.Dir(path)] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for folder := range folders {
		v.read(folder)
	}
	for _, s := range []string{"yes", "no", "stopped", "withdrawn"} {
		v.found["consent."+s] = "consent"
	}
	delete(v.found, "consent.")
	for _, verb := range gateVerbs(t) {
		v.found[string(verb)] = "the gate"
	}
	if len(v.found) < 60 {
		t.Errorf("only %d actions were found: %v", len(v.found), v.found)
	}
	worded, err := files.ReadFile("pages/deeds.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`eq \.What "([^"]+)"`).FindAllSubmatch(worded, -1) {
		if v.found[string(m[1])] == "" {
			t.Errorf("there are words for %s, which nobody writes", m[1])
		}
	}
	site := newSite(t, newSample(t))
	for verb, where := range v.found {
		for _, page := range []string{"log", "me"} {
			var out strings.Builder
			if err := site.pages[page].ExecuteTemplate(&out, "deed", logLine{What: verb, Who: "you", Whose: "yours"}); err != nil {
				t.Fatal(err)
			}
			if text := strings.TrimSpace(out.String()); text == "" || strings.Contains(text, "something else") {
				t.Errorf("%s (%s) has no words on the page %s: %q", verb, where, page, text)
			}
		}
	}
}

// gateVerbs are the verbs that the rules know, as their table in access says.
func gateVerbs(t *testing.T) (all []access.Verb) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "access", "permit.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if c, ok := n.(*ast.ValueSpec); ok && len(c.Values) == 1 {
			if of, ok := c.Type.(*ast.Ident); ok && of.Name == "Verb" {
				all = append(all, access.Verb(text(c.Values[0])))
			}
		}
		return true
	})
	return all
}

func text(e ast.Expr) string {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return ""
	}
	s, _ := strconv.Unquote(l.Value)
	return s
}

// read finds the verbs of one package: what an audit.Entry gets, and what goes
// into parameters and variables that are called verb.
func (v *verbsOfTheLog) read(folder string) {
	v.t.Helper()
	v.takes, v.texts = map[string]int{}, map[string]string{}
	paths, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		v.t.Fatal(err)
	}
	var files []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(v.files, path, nil, 0)
		if err != nil {
			v.t.Fatal(err)
		}
		files = append(files, file)
		ast.Inspect(file, v.declared)
	}
	for _, file := range files {
		ast.Inspect(file, v.written)
	}
}

// declared remembers the package's constants and who takes a verb.
func (v *verbsOfTheLog) declared(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.ValueSpec:
		for i, name := range n.Names {
			if i < len(n.Values) {
				v.texts[name.Name] = text(n.Values[i])
			}
		}
	case *ast.FuncDecl:
		at := 0
		for _, p := range n.Type.Params.List {
			of, isName := p.Type.(*ast.Ident)
			for _, name := range p.Names {
				if name.Name == "verb" && isName && of.Name == "string" {
					v.takes[n.Name.Name] = at
				}
				at++
			}
		}
	}
	return true
}

func (v *verbsOfTheLog) written(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.CompositeLit:
		if of, ok := n.Type.(*ast.SelectorExpr); !ok || of.Sel.Name != "Entry" || fmt.Sprint(of.X) != "audit" {
			return true
		}
		for _, e := range n.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok && fmt.Sprint(kv.Key) == "Verb" {
				v.take(kv.Value)
			}
		}
	case *ast.CallExpr:
		name := ""
		switch f := n.Fun.(type) {
		case *ast.Ident:
			name = f.Name
		case *ast.SelectorExpr:
			name = f.Sel.Name
		}
		if at, ok := v.takes[name]; ok && at < len(n.Args) {
			v.take(n.Args[at])
		}
	case *ast.AssignStmt:
		for i, to := range n.Lhs {
			id, isName := to.(*ast.Ident)
			field, isField := to.(*ast.SelectorExpr)
			if len(n.Lhs) == len(n.Rhs) && (isName && id.Name == "verb" || isField && field.Sel.Name == "Verb") {
				v.take(n.Rhs[i])
			}
		}
	}
	return true
}

// take notes a verb. What it cannot read is either somebody's variable named
// verb, which is found where it gets its value, or makes the test fail.
func (v *verbsOfTheLog) take(e ast.Expr) {
	where := v.files.Position(e.Pos())
	switch e := e.(type) {
	case *ast.BasicLit:
		v.found[text(e)] = where.String()
		return
	case *ast.Ident:
		if s := v.texts[e.Name]; s != "" {
			v.found[s] = where.String()
			return
		}
		if e.Name == "verb" {
			return
		}
	case *ast.BinaryExpr: // "consent." and a state
		v.found[text(e.X)] = where.String()
		return
	case *ast.IndexExpr: // one of a few
		if few, ok := e.X.(*ast.CompositeLit); ok && len(few.Elts) > 0 {
			for _, one := range few.Elts {
				v.take(one.(*ast.KeyValueExpr).Value)
			}
			return
		}
	case *ast.CallExpr: // string(verb) of the gate's own type
		if of, ok := e.Fun.(*ast.Ident); ok && of.Name == "string" && strings.Contains(where.Filename, "access") {
			return
		}
	}
	v.t.Errorf("%s: a verb of the log that this test cannot read", where)
}
