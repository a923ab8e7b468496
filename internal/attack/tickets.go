package attack

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// The third family: a ticket is good for one session or key, one voice and a
// short time, and for nothing beside.

const longestTicket = 10 * time.Minute // that an answer may promise

// pass is a living ticket: a cookie for a path, or an address.
type pass struct {
	door  Door
	who   Identity
	track string
	crumb crumb  // "" name for an address
	path  string // of an address, with its query
}

func (a *assault) streams() []Door {
	return slices.DeleteFunc(slices.Clone(a.doors), func(d Door) bool { return d.Sort != "stream" || !d.named() })
}

func (a *assault) tickets(ctx context.Context) {
	streams := a.streams()
	if a.narrow && len(streams) == 0 && len(a.issuers()) == 0 {
		return
	}
	passes := append(a.cookiePasses(ctx, streams), a.addressPasses(ctx)...)
	if len(passes) == 0 && len(streams) > 0 {
		a.miss("tickets", "the house gave none to anybody who may listen")
	}
	inParallel(ctx, passes, func(p pass) { a.misuse(ctx, p, passes) })
	inParallel(ctx, a.file.Dead, func(d Dead) { a.exhume(ctx, d, streams) })
}

// gather opens the pages of calls, where the house gives tickets to those who
// may listen.
func (a *assault) gather(ctx context.Context) {
	inParallel(ctx, a.file.Identities, func(who Identity) {
		if len(who.May["listen"]) == 0 {
			return
		}
		for _, d := range a.all {
			if d.Sort != "page" || d.Verb != "view" || d.Kind != "call" || !strings.HasSuffix(d.Path, "}") {
				continue
			}
			for _, id := range some(who.rightful(d), 8) {
				a.send(ctx, a.ask("tickets", d, who, id))
			}
		}
	})
}

func some[T any](s []T, n int) []T { return s[:min(len(s), n)] }

// cookiePasses are the tickets of the web player.
func (a *assault) cookiePasses(ctx context.Context, streams []Door) (all []pass) {
	a.gather(ctx)
	for _, who := range a.file.Identities {
		for _, d := range streams {
			for _, track := range some(who.rightful(d), 2) {
				p := pass{door: d, who: who, track: track}
				given := false
				if p.crumb, given = a.crumbFor(who, a.at(d, track)); !given {
					continue
				}
				if a.plays(ctx, p) {
					all = append(all, p)
				}
			}
		}
	}
	return all
}

// plays is the control: the ticket opens what it is for.
func (a *assault) plays(ctx context.Context, p pass) bool {
	got, err := a.send(ctx, a.play(p, p.who))
	if err != nil || got.refused() {
		return false
	}
	a.reach(p.door)
	if next, given := a.crumbFor(p.who, a.at(p.door, p.track)); given && next.value == "" {
		return false
	}
	return true
}

// play uses a ticket as who.
func (a *assault) play(p pass, who Identity) try {
	t := try{family: "tickets", door: p.door, who: who, method: "GET", path: p.path, bare: true, header: http.Header{"Range": {"bytes=0-999"}}}
	if p.crumb.name != "" {
		t.path = a.at(p.door, p.track)
		t.header.Set("Cookie", p.crumb.name+"="+p.crumb.value)
	}
	return t
}

func isIssuer(d Door) bool {
	return d.Sort == "api" && d.Kind == "track" && d.Method == "POST" && strings.HasSuffix(d.Path, "/ticket")
}

// plain reports whether a voice plays there by its address.
func (d Door) plain() bool { return d.Sort == "api" && d.Verb == "listen" && d.Method == "GET" }

// issuers are the doors where programs get tickets. Whoever attacks only the
// door where these play needs them too.
func (a *assault) issuers() []Door {
	from := a.doors
	if slices.ContainsFunc(a.doors, Door.plain) {
		from = a.all
	}
	return slices.DeleteFunc(slices.Clone(from), func(d Door) bool { return !isIssuer(d) })
}

// addressPasses are the tickets of programs.
func (a *assault) addressPasses(ctx context.Context) (all []pass) {
	for _, d := range a.issuers() {
		for _, who := range a.file.Identities {
			for _, track := range some(who.rightful(d), 1) {
				p, given := a.address(ctx, d, who, track)
				if !given {
					continue
				}
				all = append(all, p)
				path, query, _ := strings.Cut(p.path, "?")
				for _, other := range a.all { // a ticket is for the voice, in every shape
					if to := a.at(other, track); other.plain() && to != path {
						p.path = to + "?" + query
						all = append(all, p)
					}
				}
			}
		}
	}
	return slices.DeleteFunc(all, func(p pass) bool {
		if a.plays(ctx, p) {
			a.reachListening()
			return false
		}
		a.miss("tickets of programs", "an address that was given does not play")
		return true
	})
}

// address asks for a ticket as a program does.
func (a *assault) address(ctx context.Context, d Door, who Identity, track string) (p pass, given bool) {
	t := a.ask("tickets", d, who, track)
	got, err := a.send(ctx, t)
	if err != nil || got.status >= 300 {
		return p, false
	}
	var said struct {
		URL     string    `json:"url"`
		Expires time.Time `json:"expires"`
	}
	if json.Unmarshal(got.body, &said) != nil {
		a.leak(t, got, "a ticket that cannot be read")
		return p, false
	}
	if until := time.Until(said.Expires); until > longestTicket {
		a.leak(t, got, "a ticket that lives for "+until.Round(time.Minute).String())
	}
	u, err := url.Parse(said.URL)
	if err != nil {
		return p, false
	}
	return pass{door: d, who: Identity{Name: who.Name, Program: who.Program}, track: track, path: u.RequestURI()}, true
}

// reachListening notes that the door of addresses let its ticket through.
func (a *assault) reachListening() {
	for _, d := range a.doors {
		if d.plain() {
			a.reach(d)
		}
	}
}

// misuse tries a living ticket in every way that is not its own.
func (a *assault) misuse(ctx context.Context, p pass, others []pass) {
	must := func(what string, t try) {
		if got, err := a.send(ctx, t); err == nil && !got.denied() {
			a.leak(t, got, what)
		}
	}
	with := func(value string) pass {
		q := p
		if q.crumb.name != "" {
			q.crumb.value = value
		} else {
			q.path = strings.Replace(p.path, a.secretPart(p.path), value, 1)
		}
		return q
	}
	secret := p.crumb.value
	if p.crumb.name == "" {
		secret = a.secretPart(p.path)
		t := a.play(p, p.who)
		t.header.Set("User-Agent", "another-client/1.0")
		must("a ticket that plays for another client", t)
	} else {
		must("a voice plays without a ticket", func() try { t := a.play(p, p.who); t.header.Del("Cookie"); return t }())
		must("a ticket that plays without its session", a.play(p, nobody))
		for _, other := range a.file.Identities {
			if other.Name != p.who.Name && other.Cookie != "" {
				must("a ticket that plays in another session", a.play(p, other))
			}
		}
		if p.who.Spare != "" {
			must("a ticket that plays in another session of the same person", a.play(p, Identity{Name: p.who.Name + " (spare)", Cookie: p.who.Spare}))
		}
	}
	for i := range 32 {
		at := i * len(secret) / 32
		must("a ticket with a sign changed", a.play(with(flip(secret, at)), p.who))
	}
	must("a ticket with its last sign changed", a.play(with(flip(secret, len(secret)-1)), p.who))
	must("a ticket cut short", a.play(with(secret[:len(secret)-1]), p.who))
	must("a ticket cut in half", a.play(with(secret[:len(secret)/2]), p.who))
	must("a ticket with a sign too many", a.play(with(secret+"A"), p.who))
	must("a ticket of many thousand signs", a.play(with(strings.Repeat("A", 8<<10)), p.who))
	must("an empty ticket", a.play(with("A"), p.who))
	for _, prefix := range prefixes["track"] {
		for _, track := range a.known[prefix] {
			if track == p.track {
				continue
			}
			moved := p
			moved.track, moved.path = track, strings.ReplaceAll(p.path, p.track, track)
			if moved.crumb.name != "" || moved.path != p.path {
				must("a ticket that plays another voice", a.play(moved, p.who))
			}
		}
	}
	for _, other := range others {
		if other.crumb.name != "" && p.crumb.name != "" && other.who.Name != p.who.Name {
			theirs := p
			theirs.crumb.value = other.crumb.value
			must("somebody else's ticket plays", a.play(theirs, p.who))
		}
	}
}

// secretPart is the part of a ticket's address that nobody can guess: its
// longest word that is no id.
func (a *assault) secretPart(path string) string {
	longest := ""
	for _, word := range strings.FieldsFunc(path, func(r rune) bool { return strings.ContainsRune("/?&=", r) }) {
		if len(word) > len(longest) && !ids.MatchString(word) {
			longest = word
		}
	}
	return longest
}

// exhume tries a dead ticket, as whose it was and as nobody.
func (a *assault) exhume(ctx context.Context, dead Dead, streams []Door) {
	of, _ := a.file.named(dead.Of)
	for _, d := range streams {
		if dead.Ticket == "" {
			return
		}
		for _, who := range []Identity{of, nobody} {
			p := pass{door: d, who: who, track: dead.Track, crumb: crumb{name: a.ticketName(), value: dead.Ticket}}
			t := a.play(p, who)
			if got, err := a.send(ctx, t); err == nil && !got.denied() {
				a.leak(t, got, "the door opens to "+dead.Name)
			}
		}
	}
}

func (a *assault) ticketName() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, jar := range a.jars {
		for _, c := range jar {
			if strings.Contains(c.name, "ticket") {
				return c.name
			}
		}
	}
	return "yesline-ticket"
}

// recall looks whether what was ended is over at once: a share that was taken
// back, a session that was ended, tickets that were revoked.
func (a *assault) recall(ctx context.Context) {
	if len(a.streams()) == 0 && len(a.issuers()) == 0 {
		return
	}
	a.gather(ctx)
	a.unshare(ctx)
	a.signOut(ctx)
	a.revoke(ctx)
}

// door finds a door of the whole table.
func (a *assault) door(name string) (Door, bool) {
	i := slices.IndexFunc(a.all, func(d Door) bool { return d.String() == name })
	if i < 0 {
		return Door{}, false
	}
	return a.all[i], true
}

// unshare has an owner let the other party listen and take it back: the
// ticket that the other got meanwhile must be worth nothing.
func (a *assault) unshare(ctx context.Context) {
	share, ok := a.door("POST /calls/{call}/share")
	stop, ok2 := a.door("POST /calls/{call}/share/stop")
	view, ok3 := a.door("GET /calls/{call}")
	if !ok || !ok2 || !ok3 {
		return
	}
	for _, owner := range a.file.Identities {
		for _, call := range some(owner.rightful(share), 1) {
			for _, other := range a.file.Identities {
				if other.Person == owner.Person || other.Role == "officer" || !slices.Contains(other.rightful(view), call) {
					continue
				}
				a.shareAndStop(ctx, owner, other, call, share, stop, view)
			}
		}
	}
}

func (a *assault) shareAndStop(ctx context.Context, owner, other Identity, call string, share, stop, view Door) {
	if got, err := a.send(ctx, a.ask("recall", share, owner, call)); err != nil || got.refused() {
		return
	}
	a.idents[other.Name] = with(a.idents[other.Name], owner.May["listen"])
	a.send(ctx, a.ask("recall", view, other, call))
	var shared []try
	for _, d := range a.streams() {
		for _, track := range owner.rightful(d) {
			p := pass{door: d, who: other, track: track}
			var given bool
			if p.crumb, given = a.crumbFor(other, a.at(d, track)); !given && !a.withoutTickets() {
				continue
			}
			t := a.play(p, other)
			t.family = "recall"
			if got, err := a.send(ctx, t); err == nil && got.status < 300 {
				shared = append(shared, t)
			}
		}
	}
	for _, program := range a.file.Identities {
		for _, d := range a.issuers() {
			if program.Key == "" || program.Person != other.Person {
				continue
			}
			for _, track := range owner.May["listen"] {
				p, given := a.address(ctx, d, program, track)
				if !given {
					continue
				}
				t := a.play(p, p.who)
				t.family = "recall"
				if got, err := a.send(ctx, t); err == nil && got.status < 300 {
					shared = append(shared, t)
				}
			}
		}
	}
	if got, err := a.send(ctx, a.ask("recall", stop, owner, call)); err != nil || got.refused() {
		return
	}
	for _, t := range shared {
		if got, err := a.send(ctx, t); err == nil && !got.denied() {
			a.leak(t, got, "a voice plays on after its owner stopped sharing it")
		}
	}
}

func with(set map[string]bool, ids []string) map[string]bool {
	out := map[string]bool{}
	for id := range set {
		out[id] = true
	}
	for _, id := range ids {
		out[id] = true
	}
	return out
}

// withoutTickets reports whether the house gives no tickets at all.
func (a *assault) withoutTickets() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.jars) == 0
}

// signOut ends a spare session and tries its ticket and itself once more.
func (a *assault) signOut(ctx context.Context) {
	out, ok := a.door("POST /out")
	if !ok {
		return
	}
	for _, who := range a.file.Identities {
		if who.Spare == "" || len(who.May["listen"]) == 0 {
			continue
		}
		spare := who
		spare.Name, spare.Cookie, spare.Key = who.Name+" (spare)", who.Spare, ""
		a.idents[spare.Name] = a.idents[who.Name]
		var open []try
		for _, d := range a.all {
			if d.Sort == "page" && d.Verb == "view" && d.Kind == "call" && strings.HasSuffix(d.Path, "}") {
				for _, call := range some(spare.rightful(d), 4) {
					a.send(ctx, a.ask("recall", d, spare, call))
				}
			}
		}
		for _, d := range a.streams() {
			for _, track := range some(spare.rightful(d), 2) {
				c, _ := a.crumbFor(spare, a.at(d, track))
				t := a.play(pass{door: d, who: spare, track: track, crumb: c}, spare)
				t.path, t.family = a.at(d, track), "recall"
				if got, err := a.send(ctx, t); err == nil && got.status < 300 {
					open = append(open, t)
				}
			}
		}
		if got, err := a.send(ctx, a.ask("recall", out, spare, "")); err != nil || got.status >= 400 {
			continue
		}
		for _, t := range open {
			if got, err := a.send(ctx, t); err == nil && !got.denied() {
				a.leak(t, got, "a voice plays on after its session was ended")
			}
		}
		return
	}
}

// revoke recalls all tickets of a program and tries one of them once more.
func (a *assault) revoke(ctx context.Context) {
	i := slices.IndexFunc(a.all, func(d Door) bool {
		return d.Verb == "contain" && d.Kind == "program" && d.Sort != "local" && strings.HasSuffix(d.Path, "/revoke")
	})
	if i < 0 {
		return
	}
	d := a.all[i]
	for _, by := range a.file.Identities {
		for _, program := range by.rightful(d) {
			passes := append(a.cookiePasses(ctx, a.streams()), a.addressPasses(ctx)...)
			passes = slices.DeleteFunc(passes, func(p pass) bool { return p.who.Program != program })
			t := a.ask("recall", d, by, program)
			got, err := a.send(ctx, t)
			if err != nil || got.status >= 300 || len(passes) == 0 {
				continue
			}
			time.Sleep(time.Second) // what a node is allowed
			for _, p := range passes {
				t := a.play(p, p.who)
				if got, err := a.send(ctx, t); err == nil && !got.denied() {
					a.leak(t, got, fmt.Sprintf("a ticket plays a second after all were revoked by %s", by.Name))
				}
			}
			return
		}
	}
}
