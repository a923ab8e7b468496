package attack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"yesline"
)

// File is who takes part in the attack: people of a made-up house, with what
// the story of that house lets each do. It is the oracle, so nothing in it may
// come from the house's own rules.
type File struct {
	Version    int        `json:"version"` // 1
	Canary     bool       `json:"canary"`  // everything in the house is made up and may be broken
	Identities []Identity `json:"identities"`
	Dead       []Dead     `json:"dead"`
	Secrets    []Secret   `json:"secrets"`
	Public     []string   `json:"public"` // ids that the doors open to everybody may tell
}

// Identity is somebody who can ask, by a session's cookie or by a key.
type Identity struct {
	Name    string              `json:"name"`
	Role    string              `json:"role"`
	Program string              `json:"program"`
	Cookie  string              `json:"cookie,omitempty"`
	Spare   string              `json:"spare,omitempty"` // another session of theirs, which the attack ends
	Key     string              `json:"key,omitempty"`
	Person  string              `json:"person"` // their account's id: per_ or stf_
	May     map[string][]string `json:"may"`    // verb -> ids; "house" is the one house
	Sees    []string            `json:"sees"`   // further ids that may stand in their answers
	Number  string              `json:"number,omitempty"`
}

// Dead is what used to open doors, or never did.
type Dead struct {
	Name   string `json:"name"`
	Of     string `json:"of"` // the identity whose it was
	Cookie string `json:"cookie,omitempty"`
	Key    string `json:"key,omitempty"`
	Ticket string `json:"ticket,omitempty"`
	Track  string `json:"track,omitempty"` // that the ticket was for
}

// Secret must stand in no answer, redirect or log, but in the answers of the
// allowed at the door that reveals it.
type Secret struct {
	What    string   `json:"what"`
	Value   string   `json:"value"`
	Allowed []string `json:"allowed"`
}

// ReadFile reads a file of identities. yesline.Denied for a house whose people
// are not marked as made up.
func ReadFile(data []byte) (*File, error) {
	f := &File{}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(f); err != nil {
		return nil, fmt.Errorf("reading the identities: not the JSON that it should be: %w", yesline.Invalid)
	}
	if !f.Canary {
		return nil, fmt.Errorf("these identities are not marked as canaries, and an attack breaks what it touches: %w", yesline.Denied)
	}
	if f.Version != 1 || len(f.Identities) == 0 {
		return nil, fmt.Errorf("reading the identities: version %d with %d: %w", f.Version, len(f.Identities), yesline.Invalid)
	}
	names := map[string]bool{"": true, nobody.Name: true}
	for _, i := range f.Identities {
		if names[i.Name] || i.Cookie == "" && i.Key == "" {
			return nil, fmt.Errorf("reading the identities: one without a name of its own, or without a way in: %w", yesline.Invalid)
		}
		names[i.Name] = true
	}
	return f, nil
}

// nobody is who has no way in.
var nobody = Identity{Name: "nobody"}

// everybody is nobody and all identities.
func (f *File) everybody() []Identity { return append([]Identity{nobody}, f.Identities...) }

func (f *File) named(name string) (Identity, bool) {
	i := slices.IndexFunc(f.Identities, func(i Identity) bool { return i.Name == name })
	if i < 0 {
		return Identity{}, false
	}
	return f.Identities[i], true
}

// can reports whether the way they come in is of the door's sort: keys for
// programs, cookies for pages.
func (i Identity) can(d Door) bool {
	if d.Sort == "api" {
		return i.Key != ""
	}
	return i.Cookie != ""
}

// rightful are the ids with which the identity may pass the door, by the story.
func (i Identity) rightful(d Door) []string {
	if !i.can(d) {
		return nil
	}
	var ids []string
	for _, id := range i.May[d.Verb] {
		prefix, _, _ := strings.Cut(id, "_")
		if !slices.Contains(prefixes[d.Kind], prefix) || d.Param == theAsker && id != i.Person || d.Param == theHouse && id != houseID ||
			d.Param == thePlace && id != i.Program && (id != houseID || i.Program != "") {
			continue
		}
		ids = append(ids, id)
	}
	return ids
}

// ids are all that the story made, by prefix, and what each identity may see.
func (f *File) ids() (known map[string][]string, sees map[string]map[string]bool) {
	all, sees := map[string]bool{}, map[string]map[string]bool{"nobody": {}}
	for _, i := range f.Identities {
		mine := map[string]bool{i.Person: true, i.Program: true}
		for _, id := range i.Sees {
			mine[id] = true
		}
		for _, ids := range i.May {
			for _, id := range ids {
				mine[id] = true
			}
		}
		maps.Copy(all, mine)
		sees[i.Name] = mine
	}
	known = map[string][]string{}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if prefix, rest, ok := strings.Cut(id, "_"); ok && rest != "" {
			known[prefix] = append(known[prefix], id)
		}
	}
	return known, sees
}

// needle is what a secret looks like in an answer.
type needle struct {
	what    string
	allowed []string
	digits  string // of a phone number: without its country
	text    string
}

func (f *File) needles() []needle {
	var all []needle
	add := func(what, value string, allowed ...string) {
		if len(value) < 8 {
			return // too short to mean anything
		}
		n := needle{what: what, text: value, allowed: allowed}
		if value[0] == '+' {
			n.digits = strings.TrimPrefix(strings.TrimPrefix(value, "+1"), "+")
		}
		all = append(all, n)
	}
	for _, s := range f.Secrets {
		add(s.What, s.Value, s.Allowed...)
	}
	for _, i := range f.Identities {
		add("the number of "+i.Name, i.Number, i.Name)
		add("the session of "+i.Name, i.Cookie)
		add("the spare session of "+i.Name, i.Spare)
		add("the key of "+i.Name, i.Key)
	}
	for _, d := range f.Dead {
		add(d.Name, d.Cookie)
		add(d.Name, d.Key)
		add(d.Name, d.Ticket)
	}
	return all
}

// in reports whether the secret stands in the text, of which runs are the
// digits as people group them.
func (n needle) in(text []byte, runs []string) bool {
	if n.digits != "" {
		return slices.ContainsFunc(runs, func(run string) bool { return strings.Contains(run, n.digits) })
	}
	return bytes.Contains(text, []byte(n.text))
}

// digitRuns are the digits of a text that stand together, with at most two
// signs between them that people write in numbers.
func digitRuns(text []byte) (runs []string) {
	var run []byte
	gap := 0
	end := func() {
		if len(run) >= 7 {
			runs = append(runs, string(run))
		}
		run, gap = run[:0], 0
	}
	for _, c := range text {
		switch {
		case c >= '0' && c <= '9':
			run, gap = append(run, c), 0
		case len(run) > 0 && gap < 2 && strings.IndexByte(" ().-/", c) >= 0:
			gap++
		case len(run) > 0:
			end()
		}
	}
	end()
	return runs
}
