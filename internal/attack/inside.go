package attack

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// Some doors are about one's own account, and name what they act on inside what
// is sent. Somebody else's is answered there as what is nowhere, and stays.

// inside are the fields that name a thing of an account, with how its ids begin.
var inside = map[string]string{"lasting": "ent", "id": "ent"}

// namesInside is the field by which a door names what it acts on, "" for none.
func (d Door) namesInside() string {
	if d.Param != theAsker || d.method() == "GET" {
		return ""
	}
	for field, prefix := range inside {
		if slices.Contains(d.Form, field) || bytes.Contains(d.Body, []byte(`"`+field+`":"`+prefix+`_`)) || bytes.Contains(d.Body, []byte(`"`+field+`": "`+prefix+`_`)) {
			return field
		}
	}
	return ""
}

// naming is the request that the door expects, with id inside.
func (a *assault) naming(family string, d Door, who Identity, id string) try {
	t := a.ask(family, d, who, "")
	field := d.namesInside()
	if t.form != nil {
		t.form.Set(field, id)
		return t
	}
	var doc map[string]any
	if json.Unmarshal(t.body, &doc) != nil {
		return t
	}
	doc[field] = id
	if out, err := json.Marshal(doc); err == nil {
		t.body = out
	}
	return t
}

// own is a thing of an identity that a door names inside, or one that is nowhere.
func (a *assault) own(d Door, who Identity) string {
	for _, id := range a.known[inside[d.namesInside()]] {
		if a.idents[who.Name][id] {
			return id
		}
	}
	return absentID(inside[d.namesInside()])
}

func (a *assault) nameOthers(ctx context.Context) {
	before := a.listed(ctx)
	for _, d := range a.doors {
		if d.namesInside() == "" {
			continue
		}
		for _, who := range a.file.Identities {
			if len(who.rightful(d)) > 0 {
				a.nameOthersAs(ctx, d, who)
			}
		}
	}
	after := a.listed(ctx)
	for id, t := range before {
		if _, still := after[id]; !still {
			a.leak(t, answer{status: http.StatusOK}, "what somebody else named is gone from its owner's page")
		}
	}
}

func (a *assault) nameOthersAs(ctx context.Context, d Door, who Identity) {
	prefix := inside[d.namesInside()]
	absent, err := a.send(ctx, a.naming("inside", d, who, absentID(prefix)))
	if err != nil {
		return
	}
	if !absent.refused() {
		a.leak(a.naming("inside", d, who, absentID(prefix)), absent, "what is nowhere is not refused")
	}
	for _, id := range a.known[prefix] {
		if a.idents[who.Name][id] {
			continue
		}
		t := a.naming("inside", d, who, id)
		if got, err := a.send(ctx, t); err == nil {
			a.judge(t, got, absent)
		}
	}
}

// listed are the things that stand on their owners' own pages, by id.
func (a *assault) listed(ctx context.Context) map[string]try {
	found := map[string]try{}
	for _, d := range a.all {
		if d.method() != "GET" || d.Sort != "page" || d.Param != theAsker {
			continue
		}
		for _, who := range a.file.Identities {
			if len(who.rightful(d)) == 0 {
				continue
			}
			t := a.ask("inside", d, who, "")
			got, err := a.send(ctx, t)
			if err != nil || got.status != http.StatusOK {
				continue
			}
			for _, id := range ids.FindAllString(string(got.body), 500) {
				if prefix, _, _ := strings.Cut(id, "_"); a.idents[who.Name][id] && slices.Contains(a.known[prefix], id) && isInside(prefix) {
					found[id] = t
				}
			}
		}
	}
	return found
}

func isInside(prefix string) bool {
	for _, p := range inside {
		if p == prefix {
			return true
		}
	}
	return false
}
