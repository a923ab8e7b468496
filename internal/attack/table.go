package attack

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"yesline"
)

// Door is a row of the house's table.
type Door struct {
	Method string          `json:"method"` // "" for every method
	Path   string          `json:"path"`
	Sort   string          `json:"sort"` // public, page, act, ask, say, stream, api, local
	Verb   string          `json:"verb"`
	Kind   string          `json:"kind"`
	Param  string          `json:"param"` // the path's parameter that the rule is about, "(the asker)" or "(the house)"
	Reason string          `json:"reason"`
	Fresh  bool            `json:"fresh"`  // the asker must have proved lately that it is them
	Form   []string        `json:"form"`   // fields it reads
	Body   json.RawMessage `json:"body"`   // a sample
	Fields []string        `json:"fields"` // JSON pointers that its answer may have, "*" for elements; null: not said
}

//go:embed doors.json
var table []byte

// Table is what the enemy knows of the house.
type Table struct {
	Version int      `json:"version"`
	Problem []string `json:"problem"` // JSON pointers that a refusal of the API may have
	Doors   []Door   `json:"doors"`
}

// Doors are the house's doors as they were committed.
func Doors() (Table, error) { return readDoors(table) }

func readDoors(data []byte) (list Table, err error) {
	if err := json.Unmarshal(data, &list); err != nil {
		return list, fmt.Errorf("reading the list of doors: %w", err)
	}
	if list.Version != 1 || len(list.Doors) == 0 {
		return list, fmt.Errorf("a list of doors of version %d: %w", list.Version, yesline.Invalid)
	}
	return list, nil
}

func (d Door) String() string { return strings.TrimSpace(d.Method + " " + d.Path) }

func (d Door) matches(patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if before, after, star := strings.Cut(p, "*"); star {
			return strings.HasPrefix(d.String(), before) && strings.HasSuffix(d.String(), after)
		}
		return p == d.String() || p == d.Path
	})
}

const (
	theAsker = "(the asker)"
	theHouse = "(the house)"
	thePlace = "(the place)" // where staff work: a program or the house
	houseID  = "house"       // how the file of identities names the one house
)

// prefixes are how the ids of a kind begin.
var prefixes = map[string][]string{"call": {"cal"}, "track": {"trk"}, "person": {"per"}, "receipt": {"rcp"}, "program": {"prg"}, "house": {houseID}, "place": {"prg", houseID},
	"account": {"per", "stf"}, "session": {"ses"}, "passkey": {"pky"}, "key": {"key"}, "device": {"dev"}, "case": {"cas"}, "staff": {"stf"}}

var parameter = regexp.MustCompile(`\{(\w+)\}`)

// named reports whether the path names an object.
func (d Door) named() bool { return d.Param != "" && d.Param[0] != '(' }

// guarded reports whether the door has a rule and is reached by HTTP.
func (d Door) guarded() bool { return d.Sort != "public" && d.Sort != "local" }

// at is the door's path with id as its object. What else the path names is
// filled with things that are nowhere.
func (a *assault) at(d Door, id string) string {
	return parameter.ReplaceAllStringFunc(d.Path, func(p string) string {
		switch p = strings.Trim(p, "{}"); {
		case p == d.Param:
			return id
		case p == "hash":
			return a.hash
		case p == "file":
			return "yesline.css"
		case p == "rest":
			return a.marker
		default:
			return a.marker + strings.Repeat("x", 26)
		}
	})
}

// absentID is an id that nothing has.
func absentID(prefix string) string {
	return prefix + "_" + strings.TrimPrefix(string(yesline.NewEntryID()), "ent_")
}

// prefixOf is how the ids of the door's object begin; of two kinds the first.
func (d Door) prefixOf() string {
	if p := prefixes[d.Kind]; len(p) > 0 {
		return p[0]
	}
	return "xxx"
}

// malformed are names that no object can have.
func malformed(prefix string) []string {
	good := absentID(prefix)
	return []string{"x", prefix + "_", good[:len(good)-1], good + "a", strings.ToUpper(good), absentID("zzz"), "0", "-1", "null",
		"%00", good + "%00", "'%20or%201=1--", "*", "%F0%9F%98%80", strings.Repeat("a", 3000), "..%2f" + good, good + "%0d%0aX-Enemy:%20yes"}
}
