package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audio"
	"yesline/internal/audit"
	"yesline/internal/consent"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
	"yesline/internal/playback"
	"yesline/internal/session"
	"yesline/internal/vault"
)

// keyHouse is a house with API keys in it: the real rooms of sessions, tickets
// and answers, the real gate, and two people with one call. Dan, an operator,
// works for the house; pia, an operator, for the program.
type keyHouse struct {
	House
	t        testing.TB
	site     *Site
	content  *db.DB
	sessions *session.Sessions
	tickets  *playback.Tickets
	gate     *access.Gate

	program    yesline.ProgramID
	other      yesline.ProgramID // zoe is there
	call       yesline.CallID
	track      yesline.TrackID // ann's
	receipt    yesline.ReceiptID
	person     map[string]yesline.PersonID
	key        map[string]string
	who        map[string]session.Principal // by key
	signedIn   map[string]session.Principal
	cookie     map[string]string
	from       string // the address that everybody asks from
	belongings map[string]access.Facts
	codec      audio.Codec // of the voice; the zero one is G.711

	mu        sync.Mutex
	questions []access.Object
	verbs     []access.Verb
	told      []string // keys, as the gate was told
	acts      []string
	evidence  consent.Evidence
	shared    bool
	measured  bool // ann's voice was, and is silent
	recalls   []playback.Revocation
	more      []Call
}

var allScopes = []string{"list", "view", "listen", "allow", "withdraw", "log", "receipt", "manage", "invite", "contain", "staff", "verify", "reveal"}

func newKeyHouse(t testing.TB, change ...func(*keyHouse)) *keyHouse {
	t.Helper()
	ctx := t.Context()
	h := &keyHouse{t: t, program: yesline.NewProgramID(), other: yesline.NewProgramID(), call: yesline.NewCallID(), track: yesline.NewTrackID(), receipt: yesline.NewReceiptID(),
		person: map[string]yesline.PersonID{}, key: map[string]string{}, who: map[string]session.Principal{}, signedIn: map[string]session.Principal{},
		cookie: map[string]string{}, belongings: map[string]access.Facts{}, from: "192.0.2.7:4711"}
	plain := func(_ context.Context, _ yesline.ProgramID, _, data []byte) ([]byte, error) { return data, nil }
	h.content = dbtest.SQLite(t)("content")
	var err error
	if h.sessions, err = session.New(ctx, h.content, "yesline.example", session.Sealing{Seal: plain, Open: plain}); err != nil {
		t.Fatalf("opening the sessions: %v", err)
	}
	for _, name := range []string{"ann", "bob", "eve"} {
		h.person[name] = yesline.NewPersonID()
		token, err := h.sessions.LinkFor(ctx, h.program, h.person[name])
		h.join(name, token, err)
	}
	h.person["zoe"] = yesline.NewPersonID()
	token, err := h.sessions.LinkFor(ctx, h.other, h.person["zoe"])
	h.join("zoe", token, err)
	token, err = h.sessions.FirstOperator(ctx)
	h.join("dan", token, err)
	for name, role := range map[string]session.Kind{"pia": session.Operator, "olga": session.Officer, "bea": session.Buyer, "otto": session.Auditor} {
		_, token, err = h.sessions.Appoint(ctx, h.signedIn["dan"], role, h.program, func(bool) error { return nil })
		h.join(name, token, err)
	}
	if h.tickets, err = playback.OpenTickets(ctx, h.content, playback.House{Sealing: playback.Sealing{Seal: plain, Open: plain},
		Record: func(context.Context, *db.Tx, audit.Entry) (audit.Ref, error) {
			return audit.Ref{DB: "content", Leaf: yesline.NewEntryID()}, nil
		},
		Tracks: func(context.Context, yesline.CallID) ([]vault.Recorded, error) { return nil, nil },
	}); err != nil {
		t.Fatalf("opening the tickets: %v", err)
	}
	t.Cleanup(h.tickets.Close)
	answers, err := OpenAnswers(ctx, h.content)
	if err != nil {
		t.Fatalf("opening the answers: %v", err)
	}
	if h.gate, err = access.New(func(context.Context, audit.Entry) (audit.Ref, error) {
		return audit.Ref{DB: "content", Leaf: "ent"}, nil
	}, h.loaders()); err != nil {
		t.Fatalf("building the gate: %v", err)
	}
	t.Cleanup(func() { h.gate.Close(context.Background()) })
	h.House = h.rooms()
	h.API.Answers = answers
	fill(reflect.ValueOf(&h.House).Elem())
	for _, f := range change {
		f(h)
	}
	h.open()
	return h
}

// open builds the site, as at a start.
func (h *keyHouse) open() {
	h.t.Helper()
	var err error
	if h.site, err = New(h.House); err != nil {
		h.t.Fatalf("building the site: %v", err)
	}
}

// join signs somebody in and makes their key, with all scopes.
func (h *keyHouse) join(name, token string, err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("a link for %s: %v", name, err)
	}
	in, err := h.sessions.RedeemAny(h.t.Context(), token, session.Client{Device: "a test"})
	if err != nil {
		h.t.Fatalf("signing %s in: %v", name, err)
	}
	h.signedIn[name], h.cookie[name] = in.Who, in.Cookie
	h.key[name] = h.makeKey(name, allScopes...)
	if h.who[name], err = h.sessions.WhoKey(h.t.Context(), h.key[name]); err != nil {
		h.t.Fatalf("looking up the key of %s: %v", name, err)
	}
	owns := access.Facts{Program: in.Who.Program(), Account: in.Who.Account(), Owner: in.Who.Person()}
	h.belongings[in.Who.Account()] = owns
	h.belongings[string(in.Who.Session())] = owns
	h.belongings[string(h.who[name].Key())] = owns
}

func (h *keyHouse) makeKey(name string, scopes ...string) string {
	h.t.Helper()
	k, bearer, err := h.sessions.MakeKey(h.t.Context(), h.signedIn[name], "for a test", scopes, time.Hour)
	if err != nil {
		h.t.Fatalf("making a key of %s: %v", name, err)
	}
	h.belongings[string(k.ID)] = access.Facts{Program: h.signedIn[name].Program(), Account: h.signedIn[name].Account()}
	return string(bearer.Bytes())
}

// fill gives every func that this story does not need one that fails.
func fill(v reflect.Value) {
	for i := range v.NumField() {
		f := v.Field(i)
		switch {
		case f.Kind() == reflect.Struct && f.CanSet() && f.Type().PkgPath() == v.Type().PkgPath():
			fill(f)
		case f.Kind() == reflect.Func && f.IsNil() && v.Type().Field(i).Tag.Get("may") != "be missing":
			name, t := v.Type().Field(i).Name, f.Type()
			f.Set(reflect.MakeFunc(t, func([]reflect.Value) []reflect.Value { panic("nobody needs " + name + " here") }))
		}
	}
}

func (h *keyHouse) loaders() map[string]access.Loader {
	load := func(_ context.Context, ids []string) (map[string]access.Facts, error) {
		parties := []yesline.PersonID{h.person["ann"], h.person["bob"]}
		found := map[string]access.Facts{}
		for _, id := range ids {
			f, known := h.belongings[id]
			switch {
			case known:
			case id == string(h.call), slices.ContainsFunc(h.more, func(c Call) bool { return string(c.ID) == id }):
				f, known = access.Facts{Program: h.program, Parties: parties, OpenTo: []string{h.signedIn["olga"].Account()}}, true
			case id == string(h.track):
				f, known = access.Facts{Program: h.program, Owner: h.person["ann"], Parties: parties, OpenTo: []string{h.signedIn["olga"].Account()}, Kept: true}, true
			case id == string(h.receipt):
				f, known = access.Facts{Program: h.program, Owner: h.person["ann"]}, true
			case id == string(h.program), id == string(h.other):
				f, known = access.Facts{Program: yesline.ProgramID(id)}, true
			}
			if known {
				found[id] = f
			}
		}
		return found, nil
	}
	all := map[string]access.Loader{}
	for _, kind := range []string{"call", "track", "receipt", "program", "person", "account", "session", "key"} {
		all[kind] = load
	}
	return all
}

func (h *keyHouse) ask(ctx context.Context, who session.Principal, v access.Verb, objects []access.Object, detail map[string]string) (access.Permit, error) {
	h.mu.Lock()
	h.questions, h.told = append(h.questions, objects...), append(h.told, detail["key"])
	for range objects {
		h.verbs = append(h.verbs, v)
	}
	h.mu.Unlock()
	return h.gate.AskSet(ctx, who, v, objects, detail)
}

func (h *keyHouse) act(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.acts = append(h.acts, what)
}

func (h *keyHouse) rooms() House {
	masks := func(_ context.Context, people []yesline.PersonID) (map[yesline.PersonID]string, error) {
		m := map[yesline.PersonID]string{}
		for _, p := range people {
			m[p] = "+1 ••• ••42"
		}
		return m, nil
	}
	house := House{
		LogKey: "yesline.example/log+1f2e3d4c+AWr8",
		Who:    h.sessions.Who,
		Ask: func(ctx context.Context, who session.Principal, v access.Verb, o access.Object, detail map[string]string) (access.Permit, error) {
			return h.ask(ctx, who, v, []access.Object{o}, detail)
		},
		AskSet: h.ask,
		Calls: func(_ context.Context, who yesline.PersonID, cursor string, limit int) ([]Call, string, error) {
			if who != h.person["ann"] && who != h.person["bob"] {
				return nil, "", nil
			}
			all := append([]Call{h.oneCall()}, h.more...)
			from := 0
			if cursor != "" {
				if _, err := fmt.Sscanf(cursor, "from.%d", &from); err != nil {
					return nil, "", err
				}
			}
			to, next := min(len(all), from+limit), ""
			if to < len(all) {
				next = fmt.Sprintf("from.%d", to)
			}
			return slices.Clone(all[from:to]), next, nil
		},
		Call:  func(context.Context, yesline.CallID) (Call, error) { return h.oneCall(), nil },
		Masks: masks,
		Standings: func(_ context.Context, ids []yesline.CallID) (map[yesline.CallID]map[yesline.PersonID]consent.Standing, error) {
			all := map[yesline.CallID]map[yesline.PersonID]consent.Standing{}
			for _, id := range ids {
				all[id] = map[yesline.PersonID]consent.Standing{h.person["ann"]: {Record: consent.Yes, Share: h.shared, AtMillis: 1}, h.person["bob"]: {Record: consent.Yes, License: true}}
			}
			return all, nil
		},
		Tracks: func(context.Context, yesline.CallID) ([]Track, error) {
			return []Track{{ID: h.track, Person: h.person["ann"], Seconds: 3, Closed: true, Measured: h.measured}}, nil
		},
		Set: func(_ context.Context, _ access.Permit, _ yesline.CallID, p consent.Purpose, ev consent.Evidence) error {
			h.shared, h.evidence = true, ev
			h.act("yes to " + string(p))
			return nil
		},
		Withdraw: func(_ context.Context, _ access.Permit, _ yesline.CallID, p consent.Purpose, ev consent.Evidence) error {
			h.shared, h.evidence = false, ev
			h.act("no to " + string(p))
			return nil
		},
		Shape: func(context.Context, yesline.TrackID) (playback.Shape, error) {
			return playback.ShapeOf(3, h.codec), nil
		},
		Done: func([]byte) {},
		Lasting: Lasting{
			Of: func(context.Context, yesline.PersonID) ([]consent.LastingYes, error) {
				return []consent.LastingYes{{ID: annsYes, Other: h.person["bob"], Way: consent.ByRinging, Call: h.call, AtMillis: 5, UsedMillis: 5, LapsesMillis: 9}}, nil
			},
			End: func(context.Context, access.Permit, yesline.EntryID) error { return nil },
		},
		Part: func(_ context.Context, p access.Permit, track yesline.TrackID, shape playback.Shape, from, to int64) ([]byte, error) {
			if _, err := p.Allows(access.Listen, "track", string(track)); err != nil {
				return nil, err
			}
			return make([]byte, to-from), nil
		},
		About: func(_ context.Context, _ yesline.PersonID, _ []string, before int64, limit int) ([]audit.Line, error) {
			var lines []audit.Line
			for at := int64(100); at > 0 && len(lines) < limit; at-- {
				if before == 0 || at < before {
					lines = append(lines, audit.Line{Entry: audit.Entry{Actor: string(h.person["bob"]), Verb: "view", Object: string(h.call), Result: "allowed", AtMillis: at}})
				}
			}
			return lines, nil
		},
		Receipts: func(context.Context, yesline.CallID, yesline.PersonID) ([]yesline.ReceiptID, error) {
			return []yesline.ReceiptID{h.receipt}, nil
		},
		Receipt: func(context.Context, access.Permit, yesline.ReceiptID) (Receipt, error) {
			return Receipt{Statement: audit.Entry{Verb: "track.destroyed", Object: string(h.track), AtMillis: 7}, Call: h.call, JSON: []byte(`{"receipt":1}`)}, nil
		},
		Programs: func(context.Context) ([]Program, error) {
			return []Program{{h.program, "Field"}, {h.other, "Other"}}, nil
		},
		Checkpoint: func(context.Context) (Checkpoint, error) {
			return Checkpoint{Entries: 9, Note: "yesline.example/log\n9\n", At: time.UnixMilli(9)}, nil
		},
		LogCheckpoint: func(context.Context) (string, error) { return "yesline.example/log\n9\n", nil },
		LogTile:       func(context.Context, string) ([]byte, error) { return nil, yesline.NotFound },
		Number: func(_ context.Context, _ yesline.ProgramID, written string) (yesline.Phone, error) {
			return yesline.NewPhone(written)
		},
		Invite: func(context.Context, access.Permit, yesline.ProgramID, yesline.Phone) (Invitation, error) {
			h.act("invited")
			return Invitation{Token: "token", Mask: "+1 ••• ••42"}, nil
		},
	}
	house.SessionsOf, house.EndSession, house.KeysOf, house.EndKey = h.sessions.SessionsOf, h.sessions.EndSession, h.sessions.KeysOf, h.sessions.EndKey
	house.Tickets.Issue, house.Tickets.Check = h.tickets.Issue, h.tickets.Check
	house.RevokeTickets = func(ctx context.Context, p access.Permit, what playback.Revocation) (playback.Contained, error) {
		h.recalls = append(h.recalls, what)
		return h.tickets.Revoke(ctx, p, what)
	}
	house.API = API{WhoKey: h.sessions.WhoKey, WhoKeyID: h.sessions.WhoKeyID, KeyOf: h.tickets.KeyOf,
		Address: func(r *http.Request) netip.Addr { a, _ := netip.ParseAddrPort(r.RemoteAddr); return a.Addr() }}
	return house
}

func (h *keyHouse) oneCall() Call {
	return Call{ID: h.call, Parties: []yesline.PersonID{h.person["ann"], h.person["bob"]}, Began: time.UnixMilli(5), Seconds: 3}
}

// as asks with somebody's key; "" is nobody. A body is sent as JSON unless the
// headers say otherwise.
func (h *keyHouse) as(name, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, path, in)
	r.RemoteAddr = h.from
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if name != "" {
		r.Header.Set("Authorization", "Bearer "+h.key[name])
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
			continue
		}
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.site.ServeHTTP(w, r)
	return w
}

// want asks and insists on the status.
func (h *keyHouse) want(status int, name, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	h.t.Helper()
	w := h.as(name, method, path, body, headers...)
	if w.Code != status {
		h.t.Errorf("%s %s as %s: got %d %s, want %d", method, path, name, w.Code, w.Body, status)
	}
	if w.Code >= 400 && w.Header().Get("Content-Type") != problemType {
		h.t.Errorf("%s %s as %s: a %d is a %s", method, path, name, w.Code, w.Header().Get("Content-Type"))
	}
	return w
}

// doors are the addresses of all operations about these objects.
func (h *keyHouse) doors(ids map[string]string) map[*operation]string {
	all := map[*operation]string{}
	for _, o := range operations() {
		path := o.path()
		for name, id := range ids {
			path = strings.ReplaceAll(path, "{"+name+"}", id)
		}
		all[o] = path
	}
	return all
}

// real are the ids of what is there, as ann sees it.
func (h *keyHouse) real(name string) map[string]string {
	return map[string]string{"call": string(h.call), "track": string(h.track), "receipt": string(h.receipt), "program": string(h.program),
		"session": string(h.signedIn[name].Session()), "key": string(h.who[name].Key())}
}

var errBroken = errors.New("broken on purpose, with +12025550142 in it")
