package yesline_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The house rules of docs/architecture.md as a test. Files are parsed in
// process: a test that shells out to `go list` is cached by go test and misses
// violations. arch_mistakes_test.go shows each rule its mistake.

// line is the order of the rooms: a room imports only rooms to its left.
var line = strings.Fields(`audio db audit keys program session access people notify consent vault
	capture speech ledger market playback export erase incident web attack app`)

// offTheLine are imported by cmd and tests only, and import no more than this.
var offTheLine = map[string][]string{
	"phone":   {},                    // shares no code with capture: the words of yesline.go and nothing else
	"demo":    append(line, "phone"), // looks into every store, to check what it claims
	"scripts": {},                    // tools for those who build the house: they know nothing of it
}

// ofTheWordsOnly are rooms that import nothing of ours beyond what is listed.
var ofTheWordsOnly = map[string][]string{
	"audio":  nil,         // not even yesline
	"db":     {"yesline"}, // not audio either
	"attack": {"yesline"}, // the enemy knows what outsiders know
}

// commands is what cmd may import: it is thin.
var commands = []string{"app", "demo", "audit", "attack", "phone"}

// drivers are imported, besides by tests, only from here: their room calls them
// through its own interface, and app wires them.
var driversImportedBy = []string{"app", "demo", "cmd"}

// partsOfARoom are folders below a room that are neither driver nor door but a
// piece of the room itself, which therefore may import them.
var partsOfARoom = []string{"web/pages", "capture/media", "capture/tolls"}

// holders is who may name the three pairs of hands of the vault, and the plain
// sound that goes through them. A byte of audio leaves only through the Opener.
var holders = map[string][]string{
	"Opener":   {"playback", "app"},
	"Sealer":   {"capture", "app"},
	"Shredder": {"app"},
	"Second":   {"capture", "playback", "app"},
}

// callers is who may use a name that unlocks something, wherever the name
// comes from. The room that defines it is listed too.
var callers = map[string][]string{
	"Digits":       {"yesline", "people", "notify/sms", "capture/sip", "capture/tolls", "web", "app"}, // a number in clear: to seal, to send a code there, to judge, to dial, to show people their own
	"Own":          {"people", "app"},                                                                 // one's own number, to have it rung
	"Reveal":       {"people", "web", "app"},                                                          // the same, with a permit
	"OpenTrack":    {"keys", "vault", "demo"},                                                         // the one place where a track's key is unwrapped; demo --check sees that it fails after a withdrawal
	"OpenFor":      {"keys", "people", "session", "app"},                                              // fields under a program's key; app gives a room its own purpose
	"SealFor":      {"keys", "people", "session", "app"},                                              // and the other way
	"Unwrap":       {"keys", "keys/file", "keys/pkcs11", "keys/transit"},                              // the root key
	"DestroyTrack": {"keys", "vault"},                                                                 // destroying is the Shredder's
}

// makers is who may call what makes hands and proofs.
var makers = map[string]map[string][]string{
	"vault":   {"New": {"app"}, "NewSealer": {"app"}, "NewOpener": {"app"}, "NewShredder": {"app"}},
	"access":  {"New": {"app"}},
	"session": {"Local": {"web", "app", "demo"}},
}

// noNames are names for packages whose author did not find a word.
var noNames = strings.Fields(`model models util utils common helper helpers manager managers
	service services type types misc shared lib base core dto entity entities impl internal2`)

func TestTheHouseKeepsItsRules(t *testing.T) {
	h, err := readHouse(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	if len(h.files) < 20 {
		t.Fatalf("only %d files found: the walk is broken", len(h.files))
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for _, problem := range r.check(h) {
				t.Error(problem)
			}
		})
	}
}

// rules in the order of the house. Each check gives one line a problem.
var rules = []struct {
	name  string
	check func(*house) []string
}{
	{"a room imports only to its left", (*house).importLine},
	{"drivers and doors are wired by app", (*house).driversAndDoors},
	{"only tests import test kits", (*house).testKits},
	{"no dot imports", (*house).dotImports},
	{"few hold the vault's hands", (*house).vaultHolders},
	{"few use the names that unlock", (*house).unlockers},
	{"proofs have one maker", (*house).proofMakers},
	{"a package promises something", (*house).sentences},
	{"a package has a word for a name", (*house).names},
	{"nothing happens at import", (*house).noInit},
	{"no package state", (*house).noState},
	{"no SQL asks the time", (*house).noSQLTime},
	{"tables of persons can forget", (*house).forgetting},
	{"a room uses its own tables", (*house).ownTables},
}

// house is what the rules look at.
type house struct {
	files  []file
	tables []table
	sql    map[string]string // migrations by path
}

// file is one Go file. Its room is "audio", "capture" (also for capture/sip),
// "cmd" or "yesline"; its folder is "capture/sip" for internal/capture/sip.
type file struct {
	path, folder, room string
	test               bool
	fset               *token.FileSet
	ast                *ast.File
}

func (f file) at(pos token.Pos) string {
	return fmt.Sprintf("%s:%d", f.path, f.fset.Position(pos).Line)
}

type table struct {
	name, room, path string
	columns          []string
}

func readHouse(tree fs.FS) (*house, error) {
	h := &house{sql: map[string]string{}}
	fset := token.NewFileSet()
	err := fs.WalkDir(tree, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if name != "." && (name == "testdata" || name == "node_modules" || strings.ContainsAny(name[:1], "._")) {
				return fs.SkipDir
			}
			return nil
		}
		sql := strings.HasSuffix(name, ".sql") && path.Base(path.Dir(p)) == "migrations"
		if !sql && !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := fs.ReadFile(tree, p)
		if err != nil {
			return err
		}
		folder, room := place(path.Dir(p))
		if sql {
			h.sql[p] = string(text)
			h.tables = append(h.tables, tablesOf(string(text), room, p)...)
			return nil
		}
		parsed, err := parser.ParseFile(fset, p, text, parser.ParseComments)
		if err != nil {
			return err
		}
		h.files = append(h.files, file{p, folder, room, strings.HasSuffix(name, "_test.go"), fset, parsed})
		return nil
	})
	return h, err
}

// place names a folder of the repository: "internal/capture/sip" is folder
// "capture/sip" in room "capture".
func place(dir string) (folder, room string) {
	switch rest, inside := strings.CutPrefix(dir, "internal/"); {
	case inside:
		room, _, _ = strings.Cut(rest, "/")
		return rest, room
	case dir == ".":
		return "yesline", "yesline"
	default:
		room, _, _ = strings.Cut(dir, "/")
		return dir, room
	}
}

// product gives the files that are not tests.
func (h *house) product() []file {
	return slices.DeleteFunc(slices.Clone(h.files), func(f file) bool { return f.test || isKit(f.folder) })
}

// isKit tells a test kit by its name: db/dbtest, vault/vaulttest.
func isKit(folder string) bool { return strings.HasSuffix(folder, "test") }

// ours gives the imports of ours: "yesline", "audio", "capture/sip".
func (f file) ours() map[string]*ast.ImportSpec {
	found := map[string]*ast.ImportSpec{}
	for _, spec := range f.ast.Imports {
		p, _ := strconv.Unquote(spec.Path.Value)
		if p == "yesline" {
			found[p] = spec
		} else if rest, ok := strings.CutPrefix(p, "yesline/"); ok {
			folder, _ := place(rest)
			found[folder] = spec
		}
	}
	return found
}

func (h *house) importLine() (problems []string) {
	for _, f := range h.product() {
		from := slices.Index(line, f.room)
		if from < 0 && offTheLine[f.room] == nil && f.room != "cmd" && f.room != "yesline" {
			problems = append(problems, fmt.Sprintf("%s: the room %s is not on the line", f.path, f.room))
			continue
		}
		imports := f.ours()
		for _, folder := range slices.Sorted(maps.Keys(imports)) {
			room, _, _ := strings.Cut(folder, "/")
			if room == f.room || isKit(folder) {
				continue
			}
			if why := mayNot(f.room, from, room); why != "" {
				problems = append(problems, fmt.Sprintf("%s imports %s: %s", f.at(imports[folder].Pos()), folder, why))
			}
		}
	}
	return problems
}

// mayNot says why the room at place from of the line may not import another,
// or "".
func mayNot(room string, from int, other string) string {
	if only, narrow := ofTheWordsOnly[room]; narrow {
		if !slices.Contains(only, other) {
			return room + " imports nothing of ours but the words"
		}
		return ""
	}
	if other == "yesline" {
		return ""
	}
	if room == "yesline" {
		return "the shared words import nothing of ours"
	}
	if room == "cmd" {
		if !slices.Contains(commands, other) {
			return "cmd is thin: " + strings.Join(commands, ", ") + " and no more"
		}
		return ""
	}
	if allowed, off := offTheLine[room]; off {
		if !slices.Contains(allowed, other) {
			return room + " may import " + strings.Join(append(allowed, "the words"), ", ")
		}
		return ""
	}
	if _, off := offTheLine[other]; off {
		return other + " is off the line: only cmd and tests import it"
	}
	to := slices.Index(line, other)
	if to < 0 {
		return "there is no such room on the line"
	}
	if to > from {
		return "it stands to the right of " + room
	}
	return ""
}

func (h *house) driversAndDoors() (problems []string) {
	for _, f := range h.product() {
		for folder, spec := range f.ours() {
			room, _, below := strings.Cut(folder, "/")
			if !below || isKit(folder) || f.room == "cmd" && room == "cmd" {
				continue
			}
			if slices.Contains(partsOfARoom, folder) && f.room == room || slices.Contains(driversImportedBy, f.room) {
				continue
			}
			problems = append(problems, fmt.Sprintf("%s imports %s: drivers and doors are imported only by %s and tests",
				f.at(spec.Pos()), folder, strings.Join(driversImportedBy, ", ")))
		}
	}
	return problems
}

func (h *house) testKits() (problems []string) {
	for _, f := range h.product() {
		for folder, spec := range f.ours() {
			if isKit(folder) {
				problems = append(problems, fmt.Sprintf("%s imports %s, which is for tests", f.at(spec.Pos()), folder))
			}
		}
	}
	return problems
}

func (h *house) dotImports() (problems []string) {
	for _, f := range h.files {
		for folder, spec := range f.ours() {
			if spec.Name != nil && spec.Name.Name == "." {
				problems = append(problems, fmt.Sprintf("%s imports %s into its own names: who holds what must be readable", f.at(spec.Pos()), folder))
			}
		}
	}
	return problems
}

// called is the name by which the file knows a package of ours, or "".
func (f file) called(folder string) string {
	spec := f.ours()[folder]
	if spec == nil {
		return ""
	}
	if spec.Name != nil {
		return spec.Name.Name
	}
	return path.Base(folder)
}

// selections calls see for each X.Sel of the file whose X is a plain name.
func (f file) selections(see func(x string, sel *ast.Ident)) {
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok {
				see(x.Name, s.Sel)
			}
		}
		return true
	})
}

func (h *house) vaultHolders() (problems []string) {
	for _, f := range h.product() {
		vault := f.called("vault")
		if vault == "" || f.room == "vault" {
			continue
		}
		f.selections(func(x string, sel *ast.Ident) {
			may, guarded := holders[sel.Name]
			if x == vault && guarded && !slices.Contains(may, f.room) {
				problems = append(problems, fmt.Sprintf("%s: %s holds vault.%s; it is for %s", f.at(sel.Pos()), f.folder, sel.Name, strings.Join(may, ", ")))
			}
		})
	}
	return problems
}

// unlockers looks at names alone, so a method of another type with such a name
// is refused too, and so is an interface that asks for it: choose another word.
func (h *house) unlockers() (problems []string) {
	for _, f := range h.product() {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			var id *ast.Ident
			switch n := n.(type) {
			case *ast.SelectorExpr:
				id = n.Sel
			case *ast.Field: // a method that an interface asks for
				if _, method := n.Type.(*ast.FuncType); method && len(n.Names) == 1 {
					id = n.Names[0]
				}
			}
			if id == nil {
				return true
			}
			if may, guarded := callers[id.Name]; guarded && !slices.Contains(may, f.folder) && !isConstant(n, f) {
				problems = append(problems, fmt.Sprintf("%s: %s uses %s; it is for %s", f.at(id.Pos()), f.folder, id.Name, strings.Join(may, ", ")))
			}
			return true
		})
	}
	return problems
}

// isConstant: access.Reveal is a verb, not a way in.
func isConstant(n ast.Node, f file) bool {
	s, ok := n.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == f.called("access") && x.Name != ""
}

func (h *house) proofMakers() (problems []string) {
	for _, f := range h.product() {
		for room, guarded := range makers {
			name := f.called(room)
			if name == "" || f.room == room {
				continue
			}
			f.selections(func(x string, sel *ast.Ident) {
				may, found := guarded[sel.Name]
				if x == name && found && !slices.Contains(may, f.room) {
					problems = append(problems, fmt.Sprintf("%s: %s calls %s.%s; it is for %s", f.at(sel.Pos()), f.folder, room, sel.Name, strings.Join(may, ", ")))
				}
			})
		}
	}
	return problems
}

func (h *house) sentences() (problems []string) {
	said, where := map[string]bool{}, map[string]string{}
	for _, f := range h.files {
		if f.test {
			continue
		}
		dir := path.Dir(f.path)
		where[dir] = f.ast.Name.Name
		opening := "Package " + f.ast.Name.Name + " "
		if f.ast.Name.Name == "main" {
			opening = "Command " + path.Base(dir) + " "
		}
		first, _, ended := strings.Cut(strings.Join(strings.Fields(f.ast.Doc.Text()), " "), ". ")
		ended = ended || strings.HasSuffix(first, ".")
		if strings.HasPrefix(first, opening) && ended && len(strings.Fields(first)) >= 6 {
			said[dir] = true
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(where)) {
		if !said[dir] {
			problems = append(problems, fmt.Sprintf("%s: package %s has no first sentence that says what it promises", dir, where[dir]))
		}
	}
	return problems
}

func (h *house) names() (problems []string) {
	for _, f := range h.files {
		for _, part := range append(strings.Split(path.Dir(f.path), "/"), strings.TrimSuffix(f.ast.Name.Name, "_test")) {
			if slices.Contains(noNames, part) {
				problems = append(problems, fmt.Sprintf("%s: %q says nothing: is there a word of the trade?", f.path, part))
				break
			}
		}
	}
	return problems
}

func (h *house) noInit() (problems []string) {
	for _, f := range h.files {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				problems = append(problems, f.at(fn.Pos())+": an init function; let app do it")
			}
		}
	}
	return problems
}

// noState allows package variables that are written once, at their line:
// errors, embedded files, compiled patterns, tables. It refuses those that are
// made to change and those that something assigns to.
func (h *house) noState() (problems []string) {
	vars := map[string]map[string]bool{} // folder -> names
	values := map[any]bool{}             // the declarations themselves
	for _, f := range h.product() {
		for _, d := range f.ast.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				v := s.(*ast.ValueSpec)
				values[v] = true
				for i, name := range v.Names {
					if vars[f.folder] == nil {
						vars[f.folder] = map[string]bool{}
					}
					vars[f.folder][name.Name] = name.Name != "_"
					embedded := strings.Contains(commentText(g.Doc)+commentText(v.Doc), "//go:embed")
					array, _ := v.Type.(*ast.ArrayType)
					zeros := array != nil && array.Len != nil // a table of nothing but zeros
					if len(v.Values) == 0 && !embedded && !zeros || i < len(v.Values) && isMutable(v.Values[i]) {
						problems = append(problems, fmt.Sprintf("%s: the package variable %s is made to change", f.at(name.Pos()), name.Name))
					}
				}
			}
		}
	}
	for _, f := range h.product() {
		changed := func(e ast.Expr) {
			id := root(e)
			if id == nil || !vars[f.folder][id.Name] {
				return
			}
			if id.Obj == nil || values[id.Obj.Decl] { // not a local of the same name
				problems = append(problems, fmt.Sprintf("%s: the package variable %s is changed", f.at(id.Pos()), id.Name))
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					for _, e := range n.Lhs {
						changed(e)
					}
				}
			case *ast.IncDecStmt:
				changed(n.X)
			case *ast.CallExpr:
				if fn, ok := n.Fun.(*ast.Ident); ok && (fn.Name == "delete" || fn.Name == "clear" || fn.Name == "copy") && len(n.Args) > 0 {
					changed(n.Args[0])
				}
			}
			return true
		})
	}
	return problems
}

func commentText(g *ast.CommentGroup) (text string) {
	if g != nil {
		for _, c := range g.List {
			text += c.Text + "\n"
		}
	}
	return text
}

// root is x in x, x.f, x[i] and *x.
func root(e ast.Expr) *ast.Ident {
	for {
		switch n := e.(type) {
		case *ast.Ident:
			return n
		case *ast.SelectorExpr:
			e = n.X
		case *ast.IndexExpr:
			e = n.X
		case *ast.StarExpr:
			e = n.X
		case *ast.ParenExpr:
			e = n.X
		default:
			return nil
		}
	}
}

// isMutable: empty containers, locks, atomics and channels have no use but to
// change. A sync.Pool keeps nothing that means anything.
func isMutable(e ast.Expr) bool {
	switch n := e.(type) {
	case *ast.UnaryExpr:
		return isMutable(n.X)
	case *ast.CallExpr:
		fn, ok := n.Fun.(*ast.Ident)
		if ok && fn.Name == "new" && len(n.Args) == 1 {
			_, zeros := n.Args[0].(*ast.ArrayType)
			return !zeros
		}
		return ok && fn.Name == "make"
	case *ast.CompositeLit:
		if s, ok := n.Type.(*ast.SelectorExpr); ok {
			x, ok := s.X.(*ast.Ident)
			return ok && (x.Name == "sync" && s.Sel.Name != "Pool" || x.Name == "atomic")
		}
		_, isMap := n.Type.(*ast.MapType)
		return isMap && len(n.Elts) == 0
	}
	return false
}

var asksTheTime = regexp.MustCompile(`(?i)\bnow\s*\(\s*\)|\bcurrent_(timestamp|time|date)\b|\blocaltime(stamp)?\b|\b(clock|statement|transaction)_timestamp\b|\bunixepoch\s*\(|\bjulianday\s*\(|\b(datetime|date|strftime)\s*\([^)]*'now'`)

func (h *house) noSQLTime() (problems []string) {
	for _, p := range slices.Sorted(maps.Keys(h.sql)) {
		if found := asksTheTime.FindString(withoutComments(h.sql[p])); found != "" {
			problems = append(problems, fmt.Sprintf("%s asks the database for the time: %s", p, found))
		}
	}
	h.literals(func(f file, pos token.Pos, text string) {
		if found := asksTheTime.FindString(text); found != "" && isSQL.MatchString(text) {
			problems = append(problems, fmt.Sprintf("%s asks the database for the time: %s", f.at(pos), found))
		}
	})
	return problems
}

// literals calls see with each string of the product.
func (h *house) literals(see func(f file, pos token.Pos, text string)) {
	for _, f := range h.product() {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
				if text, err := strconv.Unquote(l.Value); err == nil {
					see(f, l.Pos(), text)
				}
			}
			return true
		})
	}
}

var (
	isSQL       = regexp.MustCompile(`\b(SELECT|INSERT|UPDATE|DELETE|VALUES|WHERE|FROM|JOIN|SET|AND)\b|(?i)^\s*(select|insert into|update|delete from)\s`)
	sqlComment  = regexp.MustCompile(`--[^\n]*`)
	createTable = regexp.MustCompile(`(?i)\bCREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?"?(\w+)"?\s*\(`)
	addColumn   = regexp.MustCompile(`(?i)\bALTER\s+TABLE\s+"?(\w+)"?\s+ADD\s+(?:COLUMN\s+)?"?(\w+)"?`)
	references  = regexp.MustCompile(`(?i)\bREFERENCES\s+"?(\w+)"?`)
	namesTable  = regexp.MustCompile(`\b(?:FROM|INTO|UPDATE|JOIN|TABLE)\s+"?([a-z_][a-z0-9_]*)"?`)
	lowerSQL    = regexp.MustCompile(`(?i)^\s*(?:select|insert|update|delete|with|create|alter|drop)\s`)
	namesLower  = regexp.MustCompile(`(?i)\b(?:from|into|update|join|table)\s+"?([a-z_][a-z0-9_]*)"?`)
	ofAPerson   = regexp.MustCompile(`^(?:.*_)?(?:person|owner)(?:_id)?$`)
)

func withoutComments(sql string) string { return sqlComment.ReplaceAllString(sql, "") }

// tablesOf reads what a migration makes. Columns are the first words between
// the commas of the outermost parentheses.
func tablesOf(sql, room, p string) (found []table) {
	sql, _, _ = strings.Cut(sql, "+goose Down")
	sql = withoutComments(sql)
	for _, m := range createTable.FindAllStringSubmatchIndex(sql, -1) {
		t := table{name: sql[m[2]:m[3]], room: room, path: p}
		for _, part := range topLevel(sql[m[1]:]) {
			if words := strings.Fields(part); len(words) > 0 {
				t.columns = append(t.columns, strings.Trim(words[0], `"`))
			}
		}
		found = append(found, t)
	}
	for _, m := range addColumn.FindAllStringSubmatch(sql, -1) {
		found = append(found, table{name: m[1], room: room, path: p, columns: []string{m[2]}})
	}
	return found
}

// topLevel splits at the commas outside parentheses, up to the one that closes
// what came before.
func topLevel(s string) (parts []string) {
	depth, start := 0, 0
	for i, c := range s {
		switch {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case c == ')':
			return append(parts, s[start:i])
		case c == ',' && depth == 0:
			parts, start = append(parts, s[start:i]), i+1
		}
	}
	return parts
}

func (h *house) forgetting() (problems []string) {
	forgets := map[string]bool{}
	for _, f := range h.product() {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv != nil && fn.Name.Name == "Forget" {
				forgets[f.room] = true
			}
		}
	}
	for _, t := range h.tables {
		for _, column := range t.columns {
			if ofAPerson.MatchString(column) && !forgets[t.room] {
				problems = append(problems, fmt.Sprintf("%s: table %s has the column %s, and %s has no method Forget", t.path, t.name, column, t.room))
			}
		}
	}
	return problems
}

func (h *house) ownTables() (problems []string) {
	owner := map[string]string{}
	for _, t := range h.tables {
		if room, taken := owner[t.name]; taken && room != t.room {
			problems = append(problems, fmt.Sprintf("%s: the table %s belongs to %s", t.path, t.name, room))
			continue
		}
		owner[t.name] = t.room
	}
	check := func(where, room, text string, pattern *regexp.Regexp) {
		for _, m := range pattern.FindAllStringSubmatch(text, -1) {
			if its := owner[strings.ToLower(m[1])]; its != "" && its != room {
				problems = append(problems, fmt.Sprintf("%s: %s names %s, a table of %s", where, room, m[1], its))
			}
		}
	}
	for _, p := range slices.Sorted(maps.Keys(h.sql)) {
		_, room := place(path.Dir(path.Dir(p)))
		text := withoutComments(h.sql[p])
		check(p, room, text, references)
		check(p, room, text, namesLower)
	}
	h.literals(func(f file, pos token.Pos, text string) {
		pattern := namesTable
		if lowerSQL.MatchString(text) {
			pattern = namesLower
		}
		check(f.at(pos), f.room, text, pattern)
	})
	return problems
}
