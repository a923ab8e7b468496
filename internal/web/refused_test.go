package web

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"yesline"
	"yesline/internal/session"
)

var refusals = []Refused{
	{At: day, Program: program, Word: "premium", Region: "United Kingdom", Times: 3},
	{At: day.Add(-time.Minute), Program: program, Word: "premium", Region: "United Kingdom", Times: 4},
	{At: day.Add(-time.Hour), Program: other, Word: "rate", Times: 900},
	{At: day.Add(-time.Hour).Truncate(time.Hour), Word: "stranger", Times: 12},
	{At: day.Add(-25 * time.Hour), Program: program, Word: "budget", Times: 1},
}

// Who runs a program sees why its calls were refused and how often, who runs the
// house sees it all, and nobody whose calls they were.
func TestRefusedCallsOnTheHousePage(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	s.refused = refusals
	site := newSite(t, s)
	for who, wants := range map[string]map[string]bool{
		"op":      {"A number that charges extra": true, "United Kingdom": true, "too many calls in a minute": true, "Somebody unknown rang": true, ">7<": true, ">900<": true},
		"second":  {"A number that charges extra": true, "too many calls in a minute": false, "Somebody unknown rang": false, ">7<": true, ">900<": false},
		"auditor": {"money of the day": true, ">900<": false},
	} {
		page := visit(site, s, who, "GET", "/house", nil).Body.String()
		for want, there := range wants {
			if strings.Contains(page, want) != there {
				t.Errorf("the page for %s: %q is there: %v", who, want, !there)
			}
		}
	}
	page := visit(site, s, "op", "GET", "/house", nil).Body.String()
	if n := strings.Count(page, "last at"); n != 2 || regexp.MustCompile(`last at[^\n]*Somebody unknown`).MatchString(page) {
		t.Errorf("%d lines have a last minute, want 2: strangers are known by the hour", n)
	}
	if got := visit(site, s, "ann", "GET", "/house", nil); got.Code != 404 {
		t.Errorf("for a contributor the page answers %d", got.Code)
	}
}

// Every reason for which a call is refused, or somebody turned away at a door,
// has words on the page, and there are none for what nobody tells.
func TestEveryRefusalHasWords(t *testing.T) {
	t.Parallel()
	told := map[string]string{"many": "tolls"}
	for word := range firstTexts(t, filepath.Join("..", "capture", "sip", "turned.go"), "[]turning") {
		told[word] = "the SIP door"
		if !regexp.MustCompile(`^[a-z]{1,20}$`).MatchString(word) {
			t.Errorf("%q is no word that is kept", word)
		}
	}
	explained, err := os.ReadFile(filepath.Join("..", "..", "docs", "trunk.md"))
	if err != nil {
		t.Fatal(err)
	}
	for word := range told {
		if !strings.Contains(string(explained), "`"+word+"`") {
			t.Errorf("%s is not explained in docs/trunk.md", word)
		}
	}
	if len(told) < 6 {
		t.Errorf("only %d words of the SIP door were found: %v", len(told)-1, told)
	}
	for word := range firstTexts(t, filepath.Join("..", "capture", "tolls", "refusal.go"), "sentences") {
		told[word] = "tolls"
	}
	if len(told) < 25 {
		t.Errorf("only %d words were found: %v", len(told), told)
	}
	site := newSite(t, newSample(t))
	for word, where := range told {
		var out strings.Builder
		if err := site.pages["house"].ExecuteTemplate(&out, "refusal", word); err != nil {
			t.Fatal(err)
		}
		if text := strings.TrimSpace(out.String()); text == "" || strings.Contains(text, "A rule called") {
			t.Errorf("%s (%s) has no words on the page: %q", word, where, text)
		}
	}
	worded, err := files.ReadFile("pages/house.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`eq \. "([^"]+)"`).FindAllSubmatch(worded, -1) {
		if told[string(m[1])] == "" {
			t.Errorf("there are words for %s, which nobody tells", m[1])
		}
	}
}

// firstTexts are the texts that come first in the rows of a table in a source
// file: of the type "[]turning", or of the name that the table has. A constant
// of that package stands for its text.
func firstTexts(t *testing.T, path, table string) map[string]bool {
	t.Helper()
	set := token.NewFileSet()
	texts, found := map[string]string{}, map[string]bool{}
	paths, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []ast.Expr
	for _, p := range paths {
		if strings.HasSuffix(p, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, p, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				for i, name := range n.Names {
					if i >= len(n.Values) {
						continue
					}
					if s := text(n.Values[i]); s != "" {
						texts[name.Name] = s
					}
					if c, is := n.Values[i].(*ast.CompositeLit); is && p == path && name.Name == table {
						rows = c.Elts
					}
				}
			case *ast.CompositeLit:
				if of, is := n.Type.(*ast.ArrayType); is && p == path && "[]"+fmt.Sprint(of.Elt) == table {
					rows = n.Elts
				}
			}
			return true
		})
	}
	for _, row := range rows {
		var first ast.Expr
		switch row := row.(type) {
		case *ast.KeyValueExpr:
			first = row.Key
		case *ast.CompositeLit:
			first = row.Elts[0]
		}
		word := text(first)
		if name, is := first.(*ast.Ident); is {
			word = texts[name.Name]
		}
		if word == "" {
			t.Errorf("%s: a word that this test cannot read", set.Position(row.Pos()))
		}
		found[word] = true
	}
	return found
}

// The page is bounded, newest first.
func TestRefusedRows(t *testing.T) {
	t.Parallel()
	var many []Refused
	for i := range 5 * refusedOnAPage {
		many = append(many, Refused{At: day.Add(-time.Duration(i) * time.Hour), Word: "rate", Times: 1})
	}
	rows := refusedRows(many, session.Principal{})
	if len(rows) != refusedOnAPage || !rows[0].Hour.Equal(day.Truncate(time.Hour)) || rows[1].Hour.After(rows[0].Hour) {
		t.Errorf("%d rows, the first of %v", len(rows), rows[0].Hour)
	}
	if got := refusedRows([]Refused{{At: day, Program: yesline.ProgramID("prg_a"), Word: "rate", Times: 1}}, session.Principal{}); len(got) != 1 {
		t.Errorf("%d rows for the house, want 1", len(got))
	}
}
