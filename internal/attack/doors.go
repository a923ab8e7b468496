package attack

import (
	"context"
	"net/http"
	"slices"
	"strings"
)

// The first family: every door as everybody, with ids that are foreign, absent
// and malformed. What is there and not theirs must answer as what is nowhere
// does, byte for byte.

const foreignEach = 8 // foreign ids that one identity tries at one door

// visit is one identity before one door.
type visit struct {
	door Door
	who  Identity
}

func (a *assault) visits(guarded bool) (all []visit) {
	for _, d := range a.doors {
		if d.guarded() != guarded {
			continue
		}
		for _, who := range a.file.everybody() {
			all = append(all, visit{d, who})
		}
	}
	return all
}

func (a *assault) walk(ctx context.Context) {
	inParallel(ctx, a.visits(true), func(v visit) {
		if v.door.named() {
			a.walkNamed(ctx, v)
		} else {
			a.walkOwn(ctx, v)
		}
	})
	inParallel(ctx, a.visits(false), func(v visit) { a.walkOpen(ctx, v) })
	inParallel(ctx, a.file.everybody(), func(who Identity) { a.wander(ctx, who) })
}

// forScript reports whether a page's own script is who asks there.
func (d Door) forScript() bool { return d.Sort == "ask" || d.Sort == "say" }

// method is what the door is tried with.
func (d Door) method() string {
	if d.Method == "" {
		return "GET"
	}
	return d.Method
}

// ask is the request that the door expects, with id as its object.
func (a *assault) ask(family string, d Door, who Identity, id string) try {
	t := try{family: family, door: d, who: who, method: d.method(), path: a.at(d, id)}
	if len(d.Body) > 0 && string(d.Body) != "null" {
		t.body = d.Body
		t.header = http.Header{"Content-Type": {"application/json"}}
	}
	if len(d.Form) > 0 && d.method() != "GET" {
		t.form = a.fill(d)
	}
	if d.Sort == "api" && t.method != "GET" {
		t.header = set(t.header, "Idempotency-Key", strings.TrimPrefix(absentID("ent"), "ent_"))
	}
	return t
}

func set(h http.Header, name, value string) http.Header {
	if h == nil {
		h = http.Header{}
	}
	h = h.Clone()
	h.Set(name, value)
	return h
}

// walkNamed tries a door that names an object.
func (a *assault) walkNamed(ctx context.Context, v visit) {
	mine := v.who.rightful(v.door)
	absent, err := a.send(ctx, a.ask("doors", v.door, v.who, absentID(v.door.prefixOf())))
	if err != nil {
		return
	}
	if !absent.refused() {
		a.leak(a.ask("doors", v.door, v.who, absentID(v.door.prefixOf())), absent, "what is nowhere is not refused")
	}
	foreign := a.foreign(v.door, v.who)
	if !v.who.can(v.door) {
		foreign = some(foreign, 2) // as nobody, whoever they are elsewhere
	}
	for _, id := range foreign {
		t := a.ask("doors", v.door, v.who, id)
		got, err := a.send(ctx, t)
		if err != nil {
			continue
		}
		a.judge(t, got, absent)
	}
	if v.who.Name != nobody.Name && (len(mine) == 0 || v.who.Role == "officer" && v.who.Program == "") {
		return // the rightful get furthest, and nobody least
	}
	for _, id := range malformed(v.door.prefixOf()) {
		t := a.ask("doors", v.door, v.who, id)
		if got, err := a.send(ctx, t); err == nil && !got.denied() && !got.respells() {
			a.leak(t, got, "a name that no object can have is not refused")
		}
	}
}

// judge looks whether a try at what is not theirs was refused, and so that
// nobody can tell it from a try at what is nowhere.
func (a *assault) judge(t try, got, absent answer) {
	switch what := got.differs(absent); {
	case got.status == http.StatusTooManyRequests || absent.status == http.StatusTooManyRequests:
	case got.sounds():
		a.leak(t, got, "they hear a voice that is not theirs to hear")
	case !got.refused():
		a.leak(t, got, "the door opens to somebody without a right")
	case what != "":
		a.leak(t, got, "what is there can be told from what is not by "+what)
	}
}

// foreign are ids of the door's kind for which the identity has no right,
// those of different owners before more of the same.
func (a *assault) foreign(d Door, who Identity) (found []string) {
	mine := who.rightful(d)
	for _, prefix := range prefixes[d.Kind] {
		for _, id := range a.known[prefix] {
			if !slices.Contains(mine, id) {
				found = append(found, id)
			}
		}
	}
	if len(found) > foreignEach {
		step := len(found) / foreignEach
		for i := range foreignEach {
			found[i] = found[i*step]
		}
		found = found[:foreignEach]
	}
	return found
}

// walkOwn tries a door that is about the asker or the house, as somebody
// without a right to it.
func (a *assault) walkOwn(ctx context.Context, v visit) {
	if len(v.who.rightful(v.door)) > 0 {
		return // what they may is tried last: it changes things
	}
	t := a.ask("doors", v.door, v.who, "")
	if got, err := a.send(ctx, t); err == nil && !got.refused() {
		a.leak(t, got, "the door opens to somebody without a right")
	}
}

// walkOpen tries what is open to everybody, and what is open on the house's
// own socket only and must be nothing here.
func (a *assault) walkOpen(ctx context.Context, v visit) {
	if v.door.Sort == "public" {
		t := a.ask("doors", v.door, v.who, "")
		if t.method != "GET" && v.who.Name != nobody.Name {
			return // signing out is for the end
		}
		if got, err := a.send(ctx, t); err == nil {
			a.reach(v.door)
			if got.status < 300 && strings.HasSuffix(v.door.Path, "{rest}") {
				a.leak(t, got, "what is not in the table answers")
			}
		}
		return
	}
	ids := []string{absentID(v.door.prefixOf())}
	if v.door.named() {
		for _, prefix := range prefixes[v.door.Kind] {
			ids = append(ids, a.known[prefix]...)
		}
	}
	for _, id := range ids[:min(len(ids), 4)] {
		t := a.ask("doors", v.door, v.who, id)
		got, err := a.send(ctx, t)
		if err != nil {
			continue
		}
		if got.status != http.StatusNotFound {
			a.leak(t, got, "a door of the house's own socket answers to the world")
		} else {
			a.reach(v.door)
		}
	}
}

// unlisted are places where others left doors open.
var unlisted = strings.Fields(`/debug/pprof/ /debug/vars /metrics /.git/config /.env /admin /api /api/ /api/v1 /api/v1/ /api/v2/me /api/v1/users
	/api/v1/people /api/v1/tracks /api/v1/openapi.json /openapi.json /openapi.yaml /docs /swagger /schemas/ /graphql /server-status /robots.txt /backup.zip
	/demo /outbox /data/ /objects/ /people /tracks /receipts /house/ /local /local/ /calls/export /calls.json /login /static/ /a/ /a/x/ /in/ /.well-known/`)

// wander tries doors that are in no table.
func (a *assault) wander(ctx context.Context, who Identity) {
	if a.narrow {
		return
	}
	for _, path := range unlisted {
		if slices.ContainsFunc(a.all, func(d Door) bool { return d.Path == path }) || path == "/outbox" {
			continue // the demo shows its outbox to everybody on its machine, and no other house has one
		}
		t := try{family: "doors", who: who, method: "GET", path: path}
		if got, err := a.send(ctx, t); err == nil && !got.denied() && !got.respells() {
			a.leak(t, got, "what is not in the table answers")
		}
	}
}
