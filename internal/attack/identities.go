package attack

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// The second family: ways in that are dead, forged or swapped must be worth as
// much as none.

func (a *assault) forge(ctx context.Context) {
	var all []visit
	for _, d := range a.doors {
		if !d.guarded() {
			continue
		}
		for _, who := range a.file.Identities {
			if len(who.rightful(d)) > 0 {
				all = append(all, visit{d, who})
				break // one who could, at each door
			}
		}
	}
	inParallel(ctx, all, func(v visit) {
		id := v.who.rightful(v.door)[0]
		none, err := a.send(ctx, a.ask("identities", v.door, nobody, id))
		if err != nil {
			return
		}
		for _, f := range append(forgeries(v.who, v.door), a.swapped(v.who, v.door)...) {
			a.worthNothing(ctx, v.door, id, f, none)
		}
	})
	inParallel(ctx, a.graves(), func(g grave) {
		none, err := a.send(ctx, a.ask("identities", g.door, nobody, g.id))
		if err != nil {
			return
		}
		a.worthNothing(ctx, g.door, g.id, forgery{what: g.dead.Name, who: Identity{Name: g.dead.Name, Cookie: g.dead.Cookie, Key: g.dead.Key}}, none)
	})
}

// grave is something dead before a door that once opened to it.
type grave struct {
	door Door
	id   string
	dead Dead
}

func (a *assault) graves() (all []grave) {
	for _, dead := range a.file.Dead {
		of, known := a.file.named(dead.Of)
		if dead.Cookie == "" && dead.Key == "" {
			continue // a ticket: see the tickets
		}
		for _, d := range a.doors {
			if !d.guarded() || !(Identity{Cookie: dead.Cookie, Key: dead.Key}).can(d) {
				continue
			}
			id := absentID(d.prefixOf())
			if known {
				// What they could with a living way in of this sort.
				of.Cookie, of.Key = dead.Cookie, dead.Key
				if mine := of.rightful(d); len(mine) > 0 {
					id = mine[0]
				}
			}
			all = append(all, grave{d, id, dead})
		}
	}
	return all
}

// forgery is a way in that is none.
type forgery struct {
	what   string
	who    Identity
	header http.Header
	query  string
}

func (a *assault) worthNothing(ctx context.Context, d Door, id string, f forgery, none answer) {
	t := a.ask("identities", d, f.who, id)
	t.bare = true
	for name, values := range f.header {
		t.header = set(t.header, name, values[0])
	}
	t.path += f.query
	got, err := a.send(ctx, t)
	if err != nil {
		return
	}
	switch {
	case got.status == http.StatusTooManyRequests || none.status == http.StatusTooManyRequests:
	case !got.denied():
		a.leak(t, got, "the door opens to "+f.what)
	case got.status != http.StatusRequestHeaderFieldsTooLarge && got.status != http.StatusBadRequest && got.differs(none) != "":
		a.leak(t, got, f.what+" is told from nobody by "+got.differs(none))
	}
}

// forgeries are made of a living way in.
func forgeries(who Identity, d Door) (all []forgery) {
	secret := who.Cookie
	if d.Sort == "api" {
		secret = who.Key
	}
	as := func(what, secret string) {
		f := forgery{what: what, who: Identity{Name: what}}
		if d.Sort == "api" {
			f.who.Key = secret
		} else {
			f.who.Cookie = secret
		}
		all = append(all, f)
	}
	last := len(secret) - 1
	as("a secret with its first sign changed", flip(secret, 0))
	as("a secret with a sign in the middle changed", flip(secret, len(secret)/2))
	as("a secret with its last sign changed", flip(secret, last))
	as("a secret cut short", secret[:last])
	as("a secret with a sign too many", secret+"A")
	as("a secret in other letters", swapCase(secret))
	as("a secret twice", secret+secret)
	as("a name instead of a secret", who.Person)
	as("an empty secret", " ")
	as("a secret of many thousand signs", strings.Repeat("A", 12<<10))
	as("a wildcard", "*")
	as("a query instead of a secret", "' OR 1=1 --")
	as("a document instead of a secret", base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))+"."+base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"`+who.Person+`"}`))+".")
	return all
}

// swapped are living secrets where they do not belong, and words of a proxy
// that nobody proved to be.
func (a *assault) swapped(who Identity, d Door) []forgery {
	secret, name := who.Cookie, a.cookieName()
	var all []forgery
	if d.Sort == "api" {
		secret = who.Key
		all = append(all,
			forgery{what: "a key in a cookie", header: http.Header{"Cookie": {name + "=" + secret}}},
			forgery{what: "a key by another scheme", header: http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("key:"+secret))}}},
			forgery{what: "a key without a scheme", header: http.Header{"Authorization": {secret}}},
			forgery{what: "a key in a header of another house", header: http.Header{"X-Api-Key": {secret}}})
		for _, other := range a.file.Identities {
			if other.Person == who.Person && other.Cookie != "" {
				all = append(all, forgery{what: "a session where a key is needed", header: http.Header{"Cookie": {name + "=" + other.Cookie}}},
					forgery{what: "a session's secret as a key", header: http.Header{"Authorization": {"Bearer " + other.Cookie}}})
				break
			}
		}
	} else {
		all = append(all,
			forgery{what: "a session's secret as a key", header: http.Header{"Authorization": {"Bearer " + secret}}},
			forgery{what: "a session in a cookie of another name", header: http.Header{"Cookie": {"session=" + secret + "; yesline-join=" + secret + "; Yesline=" + secret}}})
		for _, other := range a.file.Identities {
			if other.Person == who.Person && other.Key != "" {
				all = append(all, forgery{what: "a key where a session is needed", header: http.Header{"Authorization": {"Bearer " + other.Key}}},
					forgery{what: "a key in a cookie", header: http.Header{"Cookie": {name + "=" + other.Key}}})
				break
			}
		}
	}
	for _, q := range []string{"access_token", "key", "token", "session", name} {
		all = append(all, forgery{what: "a secret in the address", query: "?" + q + "=" + secret})
	}
	for _, h := range []string{"X-Forwarded-User", "X-Remote-User", "Remote-User", "X-User-Id", "X-Original-User", "X-Auth-Request-User"} {
		all = append(all, forgery{what: "the word of a proxy", header: http.Header{h: {who.Person}}})
	}
	for i := range all {
		all[i].who.Name = all[i].what
	}
	return all
}

func flip(s string, at int) string {
	if s == "" {
		return "A"
	}
	other := byte('A')
	if s[at] == 'A' {
		other = 'B'
	}
	return s[:at] + string(other) + s[at+1:]
}

func swapCase(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return r
	}, s)
}

// How many guesses a house may bear before it says "later". Who is on its own
// machine has no address to be braked by, and meets only what the house bears
// in all.
const (
	mostGuesses     = 400
	mostFromLoop    = 8000
	leastGuessSpeed = 1000 // a second; slower than that, a house's own brake is not met
)

// guess tries to sign in with made-up codes, from addresses that it makes up
// too, until the house says "later". It is the last but the log: it locks us
// out.
func (a *assault) guess(ctx context.Context) {
	for _, d := range a.doors {
		if d.Sort == "public" && d.Method == "POST" && (d.Path == "/in/recover" || d.Path == "/in/{token}" || d.Path == "/join/code") && !a.isBraked(ctx, d) {
			a.leak(a.ask("guessing", d, nobody, ""), answer{}, "it lets a stranger guess without end")
		}
	}
}

func (a *assault) isBraked(ctx context.Context, d Door) bool {
	most := mostGuesses
	local := net.ParseIP(a.base.Hostname()).IsLoopback() || a.base.Hostname() == "localhost"
	if local {
		most = mostFromLoop
	}
	var stopped atomic.Bool
	var sent atomic.Int64
	began := time.Now()
	inParallel(ctx, make([]struct{}, most), func(struct{}) {
		if stopped.Load() {
			return
		}
		n := sent.Add(1)
		t := a.ask("guessing", d, nobody, "")
		t.path = strings.ReplaceAll(d.Path, "{token}", strings.Repeat(strings.TrimPrefix(absentID("ent"), "ent_"), 2)[:43])
		from := fmt.Sprintf("203.0.113.%d", n%250)
		t.header = set(set(set(t.header, "X-Forwarded-For", from), "Forwarded", "for="+from), "X-Real-IP", from)
		got, err := a.send(ctx, t)
		if err != nil || got.status != http.StatusTooManyRequests {
			return
		}
		if got.header.Get("Retry-After") == "" {
			a.leak(t, got, "it says later and not when")
		}
		stopped.Store(true)
	})
	slow := local && float64(sent.Load()) < leastGuessSpeed*time.Since(began).Seconds()
	return stopped.Load() || slow
}
