package attack

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// The fifth family: verbs that no door has, content types, sizes, depths, and
// fields that are not theirs to set.

var verbs = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "ENEMY"}

func (a *assault) bodies(ctx context.Context) {
	var all []visit
	for _, d := range a.doors {
		if !d.guarded() {
			continue
		}
		if who, ok := a.somebodyFor(d); ok {
			all = append(all, visit{d, who})
		}
		all = append(all, visit{d, nobody})
	}
	inParallel(ctx, all, func(v visit) {
		a.otherVerbs(ctx, v)
		if v.who.Name != nobody.Name {
			a.pollute(ctx, v)
			a.oddBodies(ctx, v)
		}
	})
	for _, d := range a.doors {
		if d.Sort == "public" && d.Method == "POST" {
			a.oddBodies(ctx, visit{d, nobody})
		}
	}
}

// somebodyFor is the first with a right to a door.
func (a *assault) somebodyFor(d Door) (Identity, bool) {
	i := slices.IndexFunc(a.file.Identities, func(i Identity) bool { return len(i.rightful(d)) > 0 })
	if i < 0 {
		return Identity{}, false
	}
	return a.file.Identities[i], true
}

// samePath reports whether the table has this method for this path.
func (a *assault) samePath(d Door, method string) bool {
	return slices.ContainsFunc(a.all, func(o Door) bool {
		return parameter.ReplaceAllString(o.Path, "{}") == parameter.ReplaceAllString(d.Path, "{}") && (o.Method == method || o.Method == "GET" && method == "HEAD")
	})
}

// otherVerbs tries the door's path with verbs that the table does not have for it.
func (a *assault) otherVerbs(ctx context.Context, v visit) {
	id := absentID(v.door.prefixOf())
	if mine := v.who.rightful(v.door); len(mine) > 0 {
		id = mine[0]
	}
	for _, verb := range verbs {
		if a.samePath(v.door, verb) {
			continue
		}
		t := a.ask("bodies", v.door, v.who, id)
		t.method = verb
		if got, err := a.send(ctx, t); err == nil && !got.denied() {
			a.leak(t, got, "the door answers to the verb "+verb+", which it does not have")
		}
	}
}

// pollute adds to a reading what names somebody else's: every answer is looked
// at for what is not theirs.
func (a *assault) pollute(ctx context.Context, v visit) {
	if v.door.Method != "GET" {
		return
	}
	path := a.at(v.door, v.who.rightful(v.door)[0])
	queries := []string{"after=x", "before=-1", "before=9223372036854775808", "before=x", "limit=-1", "limit=0", "limit=1000000", "limit=x", "after=" + strings.Repeat("A", 4000),
		"cursor=" + a.marker, "fields=*", "expand=all", "include=number,transcript", "debug=1", "format=json", "admin=true", "done=" + a.marker, "%00=1", "a;b=c"}
	for prefix, name := range map[string]string{"per": "person", "prg": "program", "cal": "call", "trk": "track"} {
		for _, id := range a.known[prefix] {
			if !a.idents[v.who.Name][id] {
				queries = append(queries, name+"="+id, "owner="+id, "account="+id, "after="+id)
				break
			}
		}
	}
	for _, q := range queries {
		t := a.ask("bodies", v.door, v.who, "")
		t.path = path + "?" + q
		a.send(ctx, t)
	}
}

// oddBodies sends to a door that reads what it cannot mean. It must be refused
// and not break; where nothing is read, it must at least not break.
func (a *assault) oddBodies(ctx context.Context, v visit) {
	if v.door.method() == "GET" || v.door.Sort != "public" && len(v.door.Form) == 0 && !hasBody(v.door) {
		return
	}
	id := ""
	if v.door.named() && v.who.Name != nobody.Name {
		id = v.who.rightful(v.door)[0]
	}
	for _, odd := range a.odd(v.door) {
		t := a.ask("bodies", v.door, v.who, id)
		t.form, t.body = nil, odd.body
		t.header = set(t.header, "Content-Type", odd.kind)
		if odd.coding != "" {
			t.header.Set("Content-Encoding", odd.coding)
		}
		got, err := a.send(ctx, t)
		if err == nil && hasBody(v.door) && !got.denied() {
			a.leak(t, got, "it takes "+odd.what)
		}
	}
}

func hasBody(d Door) bool { return len(d.Body) > 0 && string(d.Body) != "null" }

type oddBody struct {
	what, kind, coding string
	body               []byte
}

func (a *assault) odd(d Door) []oddBody {
	const form, js = "application/x-www-form-urlencoded", "application/json"
	all := []oddBody{
		{what: "a body of a megabyte", kind: js, body: []byte(`{"x":"` + strings.Repeat("a", 1<<20) + `"}`)},
		{what: "a form of a megabyte", kind: form, body: []byte("x=" + strings.Repeat("a", 1<<20))},
		{what: "a form of ten thousand fields", kind: form, body: []byte(strings.Repeat("a=b&", 10_000))},
		{what: "a depth of ten thousand", kind: js, body: []byte(strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000))},
		{what: "half a document", kind: js, body: []byte(`{"` + a.marker + `":`)},
		{what: "letters that are none", kind: js, body: []byte("{\"x\":\"\xff\xfe\x00\"}")},
		{what: "a list instead of an object", kind: js, body: []byte(`["` + a.marker + `"]`)},
		{what: "a field that it does not have", kind: js, body: []byte(`{"` + a.marker + `":"` + a.marker + `"}`)},
		{what: "a document that says it is packed", kind: js, coding: "gzip", body: []byte(`{}`)},
		{what: "a document as a form", kind: form, body: []byte(`{}`)},
		{what: "parts without an end", kind: "multipart/form-data; boundary=x", body: []byte("--x\r\nContent-Disposition: form-data; name=\"" + a.marker + "\"\r\n\r\n1")},
		{what: "a document of entities", kind: "application/xml", body: []byte(`<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>`)},
		{what: "a form with a broken escape", kind: form, body: []byte("a=%zz&" + a.marker + "=%")},
	}
	if hasBody(d) {
		all = append(all, oddBody{what: "its own document as text, as another site could send it", kind: "text/plain", body: d.Body},
			oddBody{what: "two documents at once", kind: js, body: slices.Concat(d.Body, d.Body)})
		for name := range notTheirs {
			all = append(all, oddBody{what: "a field that is not theirs to set: " + name, kind: js, body: a.withField(d.Body, name)})
		}
	}
	return all
}

// notTheirs are fields that an asker does not set, with the kind of id that
// they would name.
var notTheirs = map[string]string{"person": "per", "owner": "per", "account": "per", "program": "prg", "call": "cal", "track": "trk", "role": "", "kind": "", "admin": "",
	"verified": "", "created": "", "approver": "stf", "asker": "stf", "until": ""}

// withField adds a field to a document, or changes nothing if it has it.
func (a *assault) withField(body []byte, name string) []byte {
	var doc map[string]any
	if json.Unmarshal(body, &doc) != nil {
		return []byte(`{"` + name + `":true}`)
	}
	if _, has := doc[name]; has {
		name += "2"
	}
	doc[name] = true
	if known := a.known[notTheirs[name]]; len(known) > 0 {
		doc[name] = known[len(known)-1]
	}
	out, err := json.Marshal(doc)
	if err != nil {
		return body
	}
	return out
}

// extras are the same for a form: the rightful act is sent with fields that
// name somebody else's, and must touch nobody else's.
func (a *assault) extras(d Door, who Identity) url.Values {
	form := url.Values{}
	maps.Copy(form, a.fill(d))
	for name, prefix := range notTheirs {
		if form.Has(name) {
			continue
		}
		for _, id := range a.known[prefix] {
			if !a.idents[who.Name][id] {
				form.Set(name, id)
			}
		}
		if prefix == "" {
			form.Set(name, "operator")
		}
	}
	return form
}

// prints are the owners' pages of their calls, and how the calls stand that
// still go on: what they look like tells what was done to the calls.
func (a *assault) prints(ctx context.Context) map[string]string {
	prints := map[string]string{}
	for _, d := range a.all {
		if d.Method != "GET" || d.Kind != "call" || d.Verb != "talk" && (d.Verb != "view" || d.Sort != "page" && d.Sort != "api") {
			continue
		}
		for _, who := range a.file.Identities {
			for _, id := range some(who.rightful(d), 4) {
				if got, err := a.send(ctx, a.ask("look", d, who, id)); err == nil && got.status == http.StatusOK {
					prints[strings.Join([]string{who.Name, d.String(), id}, "|")] = still(got.body)
				}
			}
		}
	}
	return prints
}

// passing is what a call that goes on changes by itself.
var passing = regexp.MustCompile(`"(version|seconds|leftMillis)":\d+|<span class="length">[^/]*</span>`)

func still(body []byte) string { return passing.ReplaceAllString(string(body), "") }

// unchanged compares the owners' pages with what they were: only tries without
// a right were made meanwhile.
func (a *assault) unchanged(ctx context.Context, before map[string]string) {
	for at, body := range a.prints(ctx) {
		if was, ok := before[at]; ok && was != body {
			parts := strings.Split(at, "|")
			d, _ := a.door(parts[1])
			who, _ := a.file.named(parts[0])
			a.leak(a.ask("unchanged", d, who, parts[2]), answer{status: http.StatusOK}, "the owner's page changed though nobody with a right did anything")
		}
	}
}
