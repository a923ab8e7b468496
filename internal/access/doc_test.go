package access

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"yesline"
	"yesline/internal/session"
)

// docs/rules.md is the policies as a table. It is made by asking them about
// model scenes, so that it says what they do and not what somebody meant.

// scene in words: how an object stands to who asks.
type relation struct {
	word  string
	facts func(f *Facts, who session.Principal)
}

var (
	nothing  = func(*Facts, session.Principal) {}
	anybodys = relation{"somebody else's", nothing}
	opened   = relation{"with an open case of their own", func(f *Facts, who session.Principal) { f.OpenTo = []string{who.String()} }}
	theirs   = relation{"their own", func(f *Facts, who session.Principal) {
		f.Owner, f.Account = yesline.PersonID(who.String()), who.String()
		f.Parties = append([]yesline.PersonID{f.Owner}, f.Parties...)
	}}
	shared = relation{"shared with them", func(f *Facts, who session.Principal) {
		f.Parties = append([]yesline.PersonID{yesline.PersonID(who.String())}, f.Parties...)
		f.SharedWith = f.Parties[:1]
	}}
	unshared = relation{"the other party's", func(f *Facts, who session.Principal) {
		f.Parties = append([]yesline.PersonID{yesline.PersonID(who.String())}, f.Parties...)
	}}
	the = []relation{{"yes", nothing}}
)

// documented are the kinds of objects in the order of the page.
var documented = []struct {
	kind, means string
	scenes      []relation
}{
	{"call", "a call", []relation{theirs, anybodys, opened}},
	{"track", "one voice of a call", []relation{theirs, shared, unshared, anybodys, opened}},
	{"person", "a person's record", []relation{theirs, anybodys, opened}},
	{"receipt", "a receipt", []relation{theirs, anybodys}},
	{"account", "an account", []relation{theirs, anybodys}},
	{"session", "a session of an account", []relation{theirs, anybodys}},
	{"passkey", "a passkey of an account", []relation{theirs, anybodys}},
	{"key", "an API key of an account", []relation{theirs, anybodys}},
	{"device", "a phone of an account", []relation{theirs, anybodys}},
	{"case", "a case", []relation{
		{"asked for by them", func(f *Facts, who session.Principal) { f.Asker = who.String() }},
		{"asked for by another", nothing}}},
	{"staff", "a colleague's account", []relation{
		{"an officer's", func(f *Facts, _ session.Principal) { f.Role = session.Officer }},
		{"anybody else's", nothing}}},
	{"program", "a program", the},
	{"house", "the house", the},
}

// column is one sort of asker.
type column struct{ title, name string }

var (
	inAProgram = []column{{"person", "ann"}, {"operator", "petra"}, {"officer", "olga"}, {"auditor", "ada"}, {"buyer", "bea"}}
	ofTheHouse = []column{{"operator", "otto"}, {"officer", "hugo"}, {"auditor", "aki"}, {"buyer", "buck"},
		{"local socket", "operator"}, {"svc:finish", "finisher"}, {"other machines", "machine"}}
)

// cell says in which scenes who may do v to an object of a kind.
func (h *house) cell(v Verb, kind string, scenes []relation, who session.Principal) string {
	asker, _ := newAsker(who)
	may := func(r relation, program yesline.ProgramID, kept bool) bool {
		f := Facts{Program: program, Owner: "per_other", Parties: []yesline.PersonID{"per_other", "per_third"},
			Kept: kept, Account: "per_other", Role: session.Auditor, Asker: "stf_other"}
		r.facts(&f, who)
		id := "id"
		switch kind {
		case "program":
			id = string(program)
		case "house":
			id = HouseID
		}
		return h.gate.passes(asker, v, Object{kind, id}, f)
	}
	in := func(program yesline.ProgramID) (words []string) {
		while := ""
		for _, r := range scenes {
			if may(r, program, true) {
				words = append(words, r.word)
				if !may(r, program, false) {
					while = ", while kept"
				}
			}
		}
		switch {
		case len(words) == 0:
			return nil
		case len(words) == len(scenes):
			return []string{"yes" + while}
		}
		return []string{strings.Join(words, "; ") + while}
	}
	here, there, house := in(h.program), in(h.other), in("")
	if kind == "house" {
		return strings.Join(here, "; ")
	}
	if who.Program() == "" {
		here = in(h.program)
		switch {
		case len(here) > 0 && len(house) > 0 && !slices.Equal(here, house):
			return strings.Join(here, "; ") + " (of the house: " + strings.Join(house, "; ") + ")"
		case len(here) == 0:
			return strings.Join(house, "; ")
		}
		return strings.Join(here, "; ")
	}
	if len(there)+len(house) > 0 {
		return strings.Join(here, "; ") + " AND BEYOND THEIR PROGRAM: " + strings.Join(append(there, house...), "; ")
	}
	return strings.Join(here, "; ")
}

func (h *house) table(b *bytes.Buffer, columns []column) {
	b.WriteString("| verb | object |")
	for _, c := range columns {
		fmt.Fprintf(b, " %s |", c.title)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, d := range documented {
		for _, v := range verbs {
			var line strings.Builder
			some := false
			for _, c := range columns {
				cell := h.cell(v, d.kind, d.scenes, h.as(c.name))
				some = some || cell != ""
				fmt.Fprintf(&line, " %s |", cell)
			}
			if !some {
				continue
			}
			mark := ""
			if needsProof(v, d.kind) {
				mark = " \\*"
			}
			fmt.Fprintf(b, "| %s%s | %s |%s\n", v, mark, d.means, line.String())
		}
	}
}

func (h *house) page() []byte {
	var b bytes.Buffer
	b.WriteString(`# Who may do what

This page is made by asking the rules, not by hand: a test asks ` + "`internal/access/policies.cedar`" + ` about model scenes and writes down what they answer. It fails when this page says something else (` + "`YESLINE_UPDATE=1 go test -run TestThePageOfRules ./internal/access`" + ` writes it anew).

An empty cell is a no, and every no reads the same as if the thing did not exist. "their own", "with an open case of their own" and so on say for which objects the answer is yes; "while kept" means while the consent to record stands and the key lives. Contributors and contacts are both persons: a call's rows tell which of the two somebody is. A row that is missing is a no for everybody in its table.

Verbs with \* need a proof by passkey that is at most 5 minutes old; without one the answer is "prove it again", before anything is read of the object. An API key does what its scopes name of what its maker may, and never what needs such a proof.

## In a program

Only on what is of their own program; of every other program the answer is no.

`)
	h.table(&b, inAProgram)
	b.WriteString(`
## Of the house

On what is of any program, and of the house itself. Whoever holds the local socket is an operator of the house without an account.

`)
	h.table(&b, ofTheHouse)
	b.WriteString(`
## Who gives which role

To appoint says where; which role one may give there:

| | operator | officer | auditor | buyer |
|---|---|---|---|---|
`)
	for _, c := range []column{{"operator", "otto"}, {"officer", "hugo"}} {
		permit, err := h.ask(c.name, Appoint, Object{"house", HouseID})
		if err != nil {
			h.t.Fatal(err)
		}
		fmt.Fprintf(&b, "| %s |", c.title)
		for _, role := range []session.Kind{session.Operator, session.Officer, session.Auditor, session.Buyer} {
			word := ""
			switch {
			case permit.MayAppoint(role, "", true) == nil:
				word = "yes"
			case permit.MayAppoint(role, "", false) == nil:
				word = "the first of a place"
			}
			fmt.Fprintf(&b, " %s |", word)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, `
## Breaking the glass

Nobody who works here opens a call, a voice or a person's record without a case. An officer asks (break) with a reason and a case number; another officer of the place answers (approve); an approved case is open to its asker alone for %d minutes, and its asker may close it before, without a new proof. One that nobody answers ends after %d hours. Everybody it touches finds each step in their own log, and is told of a case that was open on their pages. A case about a call opens the call and its voices; a case about a person opens their log and their number.

The second person has had their account for at least %d hours, and neither of the two appointed the other; anybody else of the officers may still refuse. The reason and the case number hold no telephone number, because the other party of a call reads them too.

A case carries a mark under its program's key, so that whoever can write the database cannot make one or change one. What they can do is put back an older row of the same case: one that was closed is open again, until the %d minutes from its approval are over, and one that was refused waits again, until %d hours after it was asked for.

What this cannot stop: two officers who act together, and one person who has two officers' accounts, of which the one that approves is three days old. Whoever gives roles can make both. The appointments are in the log from the day they are made, and each case is in the log of whom it touched.
`, int(CaseTime.Minutes()), int(WaitTime.Hours()), int(SecondPersonAge.Hours()), int(CaseTime.Minutes()), int(WaitTime.Hours()))
	return b.Bytes()
}

func TestThePageOfRules(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	made, file := h.page(), filepath.Join("..", "..", "docs", "rules.md")
	if os.Getenv("YESLINE_UPDATE") == "1" {
		if err := os.WriteFile(file, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	committed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(made, committed) {
		t.Errorf("docs/rules.md does not say what the rules do; YESLINE_UPDATE=1 writes it anew. It should be:\n%s", made)
	}
	if bytes.Contains(made, []byte("BEYOND")) {
		t.Error("somebody of a program may act outside it")
	}
	for _, d := range documented {
		if shapes[d.kind] == 0 && entityTypes[d.kind] == "" {
			t.Errorf("no kind %q", d.kind)
		}
	}
	if len(documented) != len(entityTypes) {
		t.Errorf("%d kinds on the page, and there are %d", len(documented), len(entityTypes))
	}
}
