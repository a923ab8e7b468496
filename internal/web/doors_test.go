package web

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"yesline/internal/consent"
)

// door is a row as the enemy reads it: what it knows of the house is what an
// outsider can know, so it gets the table as a file.
type door struct {
	Method string          `json:"method"` // "" is every method
	Path   string          `json:"path"`
	Sort   string          `json:"sort"`
	Verb   string          `json:"verb"`
	Kind   string          `json:"kind"`
	Param  string          `json:"param"`
	Reason string          `json:"reason"`
	Fresh  bool            `json:"fresh"`
	Form   []string        `json:"form"`
	Body   json.RawMessage `json:"body"`
	Fields []string        `json:"fields"`
}

// The enemy's list of doors is the table: no door is left out, and none is
// described otherwise than it is.
func TestTheEnemyKnowsEveryDoor(t *testing.T) {
	t.Parallel()
	site := newKeyHouse(t).site
	list := struct {
		Version int      `json:"version"`
		Problem []string `json:"problem"` // every place that a problem can have
		Doors   []door   `json:"doors"`
	}{Version: 1, Problem: pointers(nil, "", reflect.TypeFor[problem]())}
	operations := map[string]*operation{}
	desk := site.newDesk()
	for _, o := range desk.operations {
		operations[o.pattern] = o
		if slices.Contains(o.accepts, "words_sha256") {
			ev, _, err := desk.wordsFor(consent.Purpose(o.name))
			if err != nil {
				t.Fatal(err)
			}
			o.like(map[string]string{"words_sha256": ev.PromptSHA256})
		}
	}
	for _, r := range site.table {
		list.Doors = append(list.Doors, doorOf(t, r, operations[r.pattern], site.assets.prefix))
	}
	var got bytes.Buffer
	e := json.NewEncoder(&got)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(list); err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("..", "attack", "doors.json")
	if os.Getenv("YESLINE_UPDATE") != "" {
		if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Error("the doors changed and the enemy was not told; look at each and run with YESLINE_UPDATE=1")
	}
}

func doorOf(t *testing.T, r row, o *operation, assets string) door {
	t.Helper()
	method, path, named := strings.Cut(r.pattern, " ")
	if !named {
		method, path = "", r.pattern
	}
	path = strings.Replace(path, assets, "/a/{hash}/", 1)
	switch {
	case path == "/{$}":
		path = "/"
	case !named && strings.HasSuffix(path, "/"):
		path += "{rest}"
	}
	d := door{Method: method, Path: path, Sort: r.sort, Verb: string(r.rule.Verb), Kind: r.rule.Kind, Param: r.rule.Param,
		Reason: r.reason, Fresh: r.isFresh, Form: r.form}
	if d.Form == nil {
		d.Form = []string{}
	}
	if r.says != nil {
		d.Fields = pointers([]string{}, "", r.says)
	}
	if o == nil {
		return d
	}
	d.Form, d.Fields = append(d.Form, o.asks...), o.fields
	if o.sample != nil {
		var err error
		if d.Body, err = json.Marshal(o.sample); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// What the API does is written down for those who use it, and changes only
// when somebody reads the change.
func TestTheAPIIsAsWrittenDown(t *testing.T) {
	t.Parallel()
	got, err := newKeyHouse(t).site.newDesk().openAPI()
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "openapi.json")
	if os.Getenv("YESLINE_UPDATE") != "" {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the API changed; look at it and run with YESLINE_UPDATE=1")
	}
	for _, word := range []string{"ErrorModel", "$schema", "\"value\""} {
		if bytes.Contains(got, []byte(word)) {
			t.Errorf("the document has %s in it", word)
		}
	}
}
