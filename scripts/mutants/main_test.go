package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// top is the repository: what this tool works on.
func top(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// Every kind of mutant is still found: a pattern that matches nothing any more
// would let guards go unbroken.
func TestEveryKindOfMutantIsFound(t *testing.T) {
	t.Parallel()
	all, err := collect(top(t))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, m := range all {
		if !m.hidden && names[m.name] {
			t.Errorf("two mutants are called %q", m.name)
		}
		names[m.name] = true
	}
	for kind, least := range map[string]int{": without `": 300, ": SQL without `": 40, "lasts a hundred times": 20, "policies.cedar ": 50,
		": asks nobody": 50, ": needs no proof": 5, "field of ": 5, "entry before the answer: ": 5} {
		n := 0
		for name := range names {
			if strings.Contains(name, kind) {
				n++
			}
		}
		if n < least {
			t.Errorf("%d mutants are %q, want at least %d", n, kind, least)
		}
	}
}

// A sample of the mutants, in two small rooms, is built and caught; and a guard
// that no test reaches is not taken for caught.
func TestASampleIsCaught(t *testing.T) {
	if os.Getenv("YESLINE_WHOLE") == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("YESLINE_WHOLE is not set: run the tests by `make test`")
		}
		t.Skip("it builds two rooms with mutants: run `make test`, or set YESLINE_WHOLE=1")
	}
	o := options{root: top(t), noDoors: true}
	for only, want := range map[string]string{`^(program/|keys/wrap|audit/receipt|playback/ticket\.go)`: "caught", "": "unreached"} {
		o.only = only
		every, err := collect(o.root)
		if err != nil {
			t.Fatal(err)
		}
		if only == "" { // a fault in a guard that is not there
			every = append(every, &mutant{name: "nowhere", room: "internal/program"})
			o.only = "^nowhere$"
		}
		chosen, err := choose(every, o)
		if err != nil || len(chosen) == 0 {
			t.Fatalf("%d mutants chosen, %v", len(chosen), err)
		}
		folder := t.TempDir()
		overlay, err := plant(o.root, folder, every)
		if err != nil {
			t.Fatal(err)
		}
		if err := inRooms(t.Context(), o, folder, overlay, chosen); err != nil {
			t.Fatal(err)
		}
		for _, m := range chosen {
			if m.outcome != want {
				t.Errorf("%s: %s, want %s", m.name, m.outcome, want)
			}
		}
	}
}
