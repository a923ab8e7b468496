package playback

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audit"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
	"yesline/internal/keys"
	"yesline/internal/keys/keystest"
	"yesline/internal/session"
	"yesline/internal/vault"
)

// office is where tickets are issued: keys, log, gate and sessions are real,
// and every track there is is ann's, bob's or of another program by its owner
// in owners.
type office struct {
	*keystest.House
	*Tickets
	t        testing.TB
	gate     *access.Gate
	sessions *session.Sessions
	program  yesline.ProgramID
	ann, bob yesline.PersonID
	owners   map[string]access.Facts
	calls    map[yesline.CallID][]vault.Recorded
}

func newOffice(t testing.TB, open func(string) *db.DB) *office {
	t.Helper()
	ctx := context.Background()
	o := &office{House: keystest.Open(t, open), t: t, owners: map[string]access.Facts{}, calls: map[yesline.CallID][]vault.Recorded{}}
	o.program = o.House.Program(t)
	o.ann, o.bob = o.Person(t, o.program), o.Person(t, o.program)
	o.gate = must[*access.Gate](t)(access.New(o.Log.Append, map[string]access.Loader{"track": func(_ context.Context, ids []string) (map[string]access.Facts, error) {
		found := map[string]access.Facts{}
		for _, i := range ids {
			if f, ok := o.owners[i]; ok {
				found[i] = f
			}
		}
		return found, nil
	}, "program": func(_ context.Context, ids []string) (map[string]access.Facts, error) {
		found := map[string]access.Facts{}
		for _, i := range ids {
			found[i] = access.Facts{Program: yesline.ProgramID(i)}
		}
		return found, nil
	}}))
	o.sessions = must[*session.Sessions](t)(session.New(ctx, o.Content, "test", session.Sealing{Seal: o.sealing().Seal, Open: o.sealing().Open}))
	o.Tickets = o.node(o.Content)
	return o
}

func (o *office) sealing() Sealing {
	return Sealing{
		Seal: func(ctx context.Context, p yesline.ProgramID, c, b []byte) ([]byte, error) {
			return o.Keys.SealFor(ctx, p, keys.Session, c, b)
		},
		Open: func(ctx context.Context, p yesline.ProgramID, c, b []byte) ([]byte, error) {
			return o.Keys.OpenFor(ctx, p, keys.Session, c, b)
		},
	}
}

// node is another process of the same house on this handle.
func (o *office) node(content *db.DB) *Tickets {
	o.t.Helper()
	tickets := must[*Tickets](o.t)(OpenTickets(context.Background(), content, House{Sealing: o.sealing(), Record: o.Log.Record,
		Tracks: func(_ context.Context, call yesline.CallID) ([]vault.Recorded, error) { return o.calls[call], nil }}))
	o.t.Cleanup(tickets.Close)
	return tickets
}

func voice(track string) vault.Recorded {
	return vault.Recorded{Track: vault.Track{ID: yesline.TrackID(track)}}
}

// track is a new voice of somebody's.
func (o *office) track(program yesline.ProgramID, owner yesline.PersonID) string {
	i := string(yesline.NewTrackID())
	o.owners[i] = access.Facts{Program: program, Owner: owner, Parties: []yesline.PersonID{owner}, Kept: true}
	return i
}

func (o *office) signIn(program yesline.ProgramID, person yesline.PersonID) session.Principal {
	o.t.Helper()
	token := must[string](o.t)(o.sessions.LinkFor(context.Background(), program, person))
	_, who, err := o.sessions.Redeem(context.Background(), token)
	ok(o.t, err)
	return who
}

func (o *office) permit(who session.Principal, track string) access.Permit {
	o.t.Helper()
	return must[access.Permit](o.t)(o.gate.Ask(context.Background(), who, access.Listen, access.Object{Kind: "track", ID: track}, nil))
}

const browser = "Firefox, 192.0.2.1"

func (o *office) issue(who session.Principal, track string) string {
	o.t.Helper()
	token, until, err := o.Issue(context.Background(), o.permit(who, track), Play, browser)
	ok(o.t, err)
	if left := time.Until(until); left <= 0 || left > TicketTime {
		o.t.Errorf("a ticket for %v", left)
	}
	if len(token) != TokenLength || len(token) > 300 {
		o.t.Errorf("a token of %d letters", len(token))
	}
	return token
}

// refuses wants the one answer there is to a bad ticket.
func refuses(t testing.TB, what string, at *Tickets, token string, who session.Principal, track, client string) {
	t.Helper()
	found, err := at.Check(context.Background(), token, who, track, client)
	if !errors.Is(err, yesline.NotFound) || err.Error() != refused.Error() || found != (Ticket{}) {
		t.Errorf("%s: got %v, want %v", what, err, refused)
	}
}

func accepts(t testing.TB, what string, at *Tickets, token string, who session.Principal, track string) Ticket {
	t.Helper()
	found, err := at.Check(context.Background(), token, who, track, browser)
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	return found
}

// A ticket is for one session, one track and one client, and for nothing else.
func TestATicketIsForOneHolderTrackAndClient(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		o := newOffice(t, open)
		ctx := t.Context()
		ann, again, bob := o.signIn(o.program, o.ann), o.signIn(o.program, o.ann), o.signIn(o.program, o.bob)
		track, other := o.track(o.program, o.ann), o.track(o.program, o.ann)
		token := o.issue(ann, track)
		accepts(t, "hers", o.Tickets, token, ann, track)
		accepts(t, "hers, again", o.Tickets, token, ann, track)
		refuses(t, "in another session of hers", o.Tickets, token, again, track, browser)
		refuses(t, "bob's hands", o.Tickets, token, bob, track, browser)
		refuses(t, "nobody", o.Tickets, token, session.Principal{}, track, browser)
		refuses(t, "a machine", o.Tickets, token, session.Service("finish"), track, browser)
		refuses(t, "the local socket", o.Tickets, token, session.Local(0), track, browser)
		refuses(t, "moved to another track", o.Tickets, token, ann, other, browser)
		refuses(t, "no track", o.Tickets, token, ann, "", browser)
		for _, client := range []string{"", browser + " ", "Firefox, 192.0.2.2", strings.Repeat("x", 1<<20)} {
			refuses(t, "another client", o.Tickets, token, ann, track, client)
		}
		for _, bad := range []string{"", "x", token[1:], token + "A", token + "=", token + "\n", "\n" + token[1:], token[:80] + "\r" + token[80:],
			token[:80] + "\r" + token[81:], strings.Repeat("A", TokenLength), strings.Repeat("_", TokenLength), strings.Repeat("A", 1<<20), strings.Repeat("\x00", TokenLength)} {
			refuses(t, fmt.Sprintf("%d letters", len(bad)), o.Tickets, bad, ann, track, browser)
		}
		if key, err := o.KeyOf(ctx, token, track, browser); !errors.Is(err, yesline.NotFound) || key != "" {
			t.Errorf("a session's ticket in a URL: got %q, %v", key, err)
		}

		// Nobody gets one without a permit for one track, or a session.
		if _, _, err := o.Issue(ctx, access.Permit{}, Play, browser); !errors.Is(err, yesline.Denied) {
			t.Errorf("without a permit: got %v", err)
		}
		both := must[access.Permit](t)(o.gate.AskSet(ctx, ann, access.Listen, []access.Object{{Kind: "track", ID: track}, {Kind: "track", ID: other}}, nil))
		if _, _, err := o.Issue(ctx, both, Play, browser); !errors.Is(err, yesline.Invalid) {
			t.Errorf("for two tracks: got %v", err)
		}
		for _, c := range [][2]string{{"", browser}, {"keep", browser}, {Play, strings.Repeat("x", MaxClient+1)}} {
			if _, _, err := o.Issue(ctx, o.permit(ann, track), c[0], c[1]); !errors.Is(err, yesline.Invalid) {
				t.Errorf("for %q: got %v", c[0], err)
			}
		}
	})
}

// The ticket of an API key tells whose it is, to whoever asks with its track
// and client, and works for that key alone.
func TestATicketOfAKey(t *testing.T) {
	t.Parallel()
	o := newOffice(t, dbtest.SQLite(t))
	ctx := t.Context()
	ann := o.signIn(o.program, o.ann)
	track := o.track(o.program, o.ann)
	byKey := func() session.Principal {
		key, _, err := o.sessions.MakeKey(ctx, ann, "player", []string{string(access.Listen)}, time.Hour)
		ok(t, err)
		return must[session.Principal](t)(o.sessions.WhoKeyID(ctx, key.ID))
	}
	who, other := byKey(), byKey()
	token := o.issue(who, track)
	if got, err := o.KeyOf(ctx, token, track, browser); err != nil || got != who.Key() {
		t.Errorf("whose ticket: got %q, %v", got, err)
	}
	accepts(t, "the key's", o.Tickets, token, who, track)
	refuses(t, "another key's", o.Tickets, token, other, track, browser)
	refuses(t, "the session that made the key", o.Tickets, token, ann, track, browser)
	for what, f := range map[string]func() (yesline.KeyID, error){
		"of another track":  func() (yesline.KeyID, error) { return o.KeyOf(ctx, token, o.track(o.program, o.ann), browser) },
		"of another client": func() (yesline.KeyID, error) { return o.KeyOf(ctx, token, track, "curl") },
		"cut":               func() (yesline.KeyID, error) { return o.KeyOf(ctx, token[1:], track, browser) },
	} {
		if got, err := f(); got != "" || !errors.Is(err, yesline.NotFound) {
			t.Errorf("whose ticket, %s: got %q, %v", what, got, err)
		}
	}
	kept := o.issue(other, track)
	o.recall(Revocation{Key: who.Key(), Program: o.program})
	refuses(t, "recalled", o.Tickets, token, who, track, browser)
	if got, err := o.KeyOf(ctx, token, track, browser); got != "" || !errors.Is(err, yesline.NotFound) {
		t.Errorf("whose ticket, recalled: got %q, %v", got, err)
	}
	accepts(t, "of the key that was not meant", o.Tickets, kept, other, track)
}

// No bit of a token is without meaning, and no letter.
func TestEveryBitOfATicketCounts(t *testing.T) {
	t.Parallel()
	o := newOffice(t, dbtest.SQLite(t))
	ann := o.signIn(o.program, o.ann)
	track := o.track(o.program, o.ann)
	token := o.issue(ann, track)
	raw := must[[]byte](t)(base64.RawURLEncoding.DecodeString(token))
	for bit := range 8 * len(raw) {
		raw[bit/8] ^= 1 << (bit % 8)
		refuses(t, fmt.Sprintf("bit %d", bit), o.Tickets, base64.RawURLEncoding.EncodeToString(raw), ann, track, browser)
		raw[bit/8] ^= 1 << (bit % 8)
	}
	alphabet := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=\n"
	for i := range token {
		for _, c := range alphabet {
			if byte(c) != token[i] {
				refuses(t, fmt.Sprintf("letter %d", i), o.Tickets, token[:i]+string(c)+token[i+1:], ann, track, browser)
			}
		}
	}
	for cut := range token {
		refuses(t, "cut", o.Tickets, token[:cut], ann, track, browser)
	}
	accepts(t, "as it was", o.Tickets, token, ann, track)
}

// A ticket of one program does not pass by another's key, and a key that a
// writer of the database moves opens nowhere else.
func TestProgramsSignForThemselves(t *testing.T) {
	t.Parallel()
	o := newOffice(t, dbtest.SQLite(t))
	ctx := t.Context()
	ann := o.signIn(o.program, o.ann)
	track := o.track(o.program, o.ann)
	theirs := o.House.Program(t)
	eve := o.Person(t, theirs)
	hers := o.track(theirs, eve)
	guest := o.signIn(theirs, eve)
	foreign := accepts(t, "eve's", o.Tickets, o.issue(guest, hers), guest, hers)
	mine := accepts(t, "ann's", o.Tickets, o.issue(ann, track), ann, track)
	_, k, err := o.signer(ctx, foreign.program)
	ok(t, err)
	secret := must[*pen](t)(o.open(ctx, k))
	forged := mine
	forged.key = k.id
	refuses(t, "ann's program by the other's key", o.Tickets, forged.sign(secret), ann, track, browser)
	ok(t, o.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM ticket_keys WHERE program = $1`, string(o.program)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE ticket_keys SET program = $1 WHERE program = $2`, string(o.program), string(theirs)); err != nil {
			return err
		}
		return tx.Touch(ctx, watched)
	}))
	if _, err := o.Check(ctx, mine.sign(secret), ann, track, browser); err == nil {
		t.Error("a moved key signs for another program")
	}
	if _, _, err := o.node(o.Content).Issue(ctx, o.permit(ann, track), Play, browser); err == nil {
		t.Error("a moved key signs for another program on a new node")
	}
}

// bubble runs a story about time on a house of its own.
func bubble(t *testing.T, story func(t *testing.T, o *office)) {
	t.Helper()
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		story(t, newOffice(t, func(name string) *db.DB {
			d := must[*db.DB](t)(db.Open(context.Background(), name, "sqlite:"+filepath.Join(folder, name+".db")))
			t.Cleanup(func() { d.Close() })
			return d
		}))
	})
}

// A letter that the decoder skips does not stand for the end of a MAC.
func TestALineBreakIsNoLetter(t *testing.T) {
	t.Parallel()
	with := newPen([]byte("a secret of thirty-two bytes...."))
	for i := range 100_000 {
		token := Ticket{purpose: 'p', holder: holder{kind: ofSession}, born: int64(i)}.sign(with)
		if !strings.HasSuffix(token, "AA") {
			continue // a MAC that ends in zeros is spelled so
		}
		for _, skipped := range []string{"\n", "\r"} {
			if _, ok := parse(token[:TokenLength-1] + skipped); ok {
				t.Errorf("%q passes for a letter", skipped)
			}
		}
		if _, ok := parse(token); !ok {
			t.Error("the ticket itself does not pass")
		}
		return
	}
	t.Fatal("no such MAC was found")
}

// Two minutes, unless it slides; and a slid one is the same chain.
func TestATicketEndsUnlessItSlides(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, o *office) {
		ann := o.signIn(o.program, o.ann)
		track := o.track(o.program, o.ann)
		token := o.issue(ann, track)
		time.Sleep(TicketTime - time.Millisecond)
		old := accepts(t, "at its last moment", o.Tickets, token, ann, track)
		next, until, err := o.Slide(context.Background(), old, o.permit(ann, track))
		ok(t, err)
		if got := time.Until(until); got != TicketTime {
			t.Errorf("a slid ticket for %v", got)
		}
		time.Sleep(time.Millisecond)
		refuses(t, "expired", o.Tickets, token, ann, track, browser)
		if _, _, err := o.Slide(context.Background(), old, o.permit(ann, track)); !errors.Is(err, yesline.NotFound) {
			t.Errorf("sliding what has ended: got %v", err)
		}
		if slid := accepts(t, "slid", o.Tickets, next, ann, track); slid.Born() != old.Born() {
			t.Error("sliding is no new birth")
		}
		time.Sleep(TicketTime)
		refuses(t, "slid, expired", o.Tickets, next, ann, track, browser)
	})
}

// Times are looked at from all sides: a chain is six hours, and a clock that
// ran ahead made no long tickets.
func TestTheTimesOfATicket(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_800_000_000_000)
	at := func(born, expires time.Duration) Ticket {
		return Ticket{born: now.Add(born).UnixMilli(), expires: now.Add(expires).UnixMilli()}
	}
	for _, c := range []struct {
		what          string
		born, expires time.Duration
		good          bool
	}{
		{"new", 0, TicketTime, true},
		{"made by a node a little ahead", skew, TicketTime + skew, true},
		{"made by a clock an hour ahead", time.Hour, time.Hour + TicketTime, false},
		{"at its end", -TicketTime, 0, false},
		{"of last year", -365 * 24 * time.Hour, -365*24*time.Hour + TicketTime, false},
		{"at the end of a chain", time.Millisecond - ChainTime, time.Millisecond, true},
		{"of a chain that was too long", -ChainTime, time.Millisecond, false},
		{"that lives too long", 0, TicketTime + skew + time.Millisecond, false},
		{"that ends before it began", time.Second, time.Millisecond, false},
	} {
		if got := at(c.born, c.expires).times(now); got != c.good {
			t.Errorf("a ticket %s: got %v, want %v", c.what, got, c.good)
		}
	}
}

// A chain slides to its six hours and not beyond.
func TestAChainEnds(t *testing.T) {
	t.Parallel()
	o := newOffice(t, dbtest.SQLite(t))
	ctx := t.Context()
	ann := o.signIn(o.program, o.ann)
	track := o.track(o.program, o.ann)
	ticket := accepts(t, "new", o.Tickets, o.issue(ann, track), ann, track)
	old := ticket
	old.born = time.Now().Add(time.Minute - ChainTime).UnixMilli()
	old.expires = time.Now().Add(30 * time.Second).UnixMilli()
	_, until, err := o.Slide(ctx, old, o.permit(ann, track))
	ok(t, err)
	if left := time.Until(until); left > time.Minute || left < 50*time.Second {
		t.Errorf("near the end of its chain a ticket slides by %v", left)
	}
	bob := o.signIn(o.program, o.bob)
	bobs, hers := o.track(o.program, o.bob), o.track(o.program, o.ann)
	for what, permit := range map[string]access.Permit{"no permit": {}, "bob's": o.permit(bob, bobs), "another track's": o.permit(ann, hers), "another session's": o.permit(o.signIn(o.program, o.ann), track)} {
		if token, _, err := o.Slide(ctx, ticket, permit); token != "" || !errors.Is(err, yesline.NotFound) && !errors.Is(err, yesline.Denied) {
			t.Errorf("sliding with %s: got %v", what, err)
		}
	}
	if token, _, err := o.Slide(ctx, Ticket{}, o.permit(ann, track)); token != "" || !errors.Is(err, yesline.NotFound) {
		t.Errorf("sliding nothing: got %v", err)
	}
}

func (o *office) recall(what Revocation) {
	o.t.Helper()
	made, err := o.revoke(context.Background(), "os:0", what)
	ok(o.t, err)
	e, err := o.Log.Find(context.Background(), audit.Ref{DB: "content", Leaf: made.Entry})
	if ok(o.t, err); e.Verb != "tickets.revoked" || e.Actor != "os:0" || e.Detail["what"] == "" || e.Program != what.Program {
		o.t.Errorf("the log tells of a recall as %+v", e)
	}
}

// What is recalled stops in this process at once and on another node within a
// second, also in the hands of one who checked a moment before; what is not
// meant plays on, and who may still listen gets a new ticket.
func TestRecalling(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		o := newOffice(t, open)
		ctx := t.Context()
		far := o.node(open("content"))
		theirs := o.House.Program(t)
		eve := o.Person(t, theirs)
		ann, bob, foreign := o.signIn(o.program, o.ann), o.signIn(o.program, o.bob), o.signIn(theirs, eve)
		call, track, second, bobs, hers := yesline.NewCallID(), o.track(o.program, o.ann), o.track(o.program, o.ann), o.track(o.program, o.bob), o.track(theirs, eve)
		o.calls[call] = []vault.Recorded{voice(track), voice(bobs)}
		holds := map[string]struct {
			who   session.Principal
			track string
		}{"track": {ann, track}, "second": {ann, second}, "bob": {bob, bobs}, "eve": {foreign, hers}}
		for _, c := range []struct {
			what Revocation
			ends string
		}{
			{Revocation{Object: track}, "track"},
			{Revocation{Object: track, Program: o.program}, "track"},
			{Revocation{Object: track, Program: theirs}, ""},
			{Revocation{Object: string(call)}, "track bob"},
			{Revocation{Object: string(call), Program: theirs}, ""},
			{Revocation{Object: string(yesline.NewCallID())}, ""},
			{Revocation{Session: ann.Session()}, "track second"},
			{Revocation{Session: ann.Session(), Program: theirs}, ""},
			{Revocation{Key: yesline.NewKeyID()}, ""},
			{Revocation{Since: time.Now().Add(-time.Hour)}, "track second bob eve"},
			{Revocation{Since: time.Now().Add(-time.Hour), Program: theirs}, "eve"},
			{Revocation{Since: time.Now().Add(time.Hour)}, ""},
			{Revocation{All: true, Program: o.program}, "track second bob"},
			{Revocation{All: true}, "track second bob eve"},
		} {
			tokens, before := map[string]string{}, map[string]Ticket{}
			for name, h := range holds {
				tokens[name] = o.issue(h.who, h.track)
				before[name] = accepts(t, name+" before", far, tokens[name], h.who, h.track)
				accepts(t, name+" before", o.Tickets, tokens[name], h.who, h.track)
			}
			o.recall(c.what)
			began := time.Now()
			for name, h := range holds {
				ended := strings.Contains(c.ends, name)
				if _, err := o.Check(ctx, tokens[name], h.who, h.track, browser); (err != nil) != ended {
					t.Errorf("%+v: the ticket of %s in this process: %v", c.what, name, err)
				}
				if _, _, err := o.Slide(ctx, before[name], o.permit(h.who, h.track)); (err != nil) != ended {
					t.Errorf("%+v: sliding the ticket of %s that was checked before: %v", c.what, name, err)
				}
				accepts(t, name+" anew", o.Tickets, o.issue(h.who, h.track), h.who, h.track)
			}
			for name, h := range holds {
				for strings.Contains(c.ends, name) && time.Since(began) < 3*time.Second {
					if _, err := far.Check(ctx, tokens[name], h.who, h.track, browser); err != nil {
						break
					}
					time.Sleep(10 * time.Millisecond)
				}
			}
			if took := time.Since(began); took > 1900*time.Millisecond { // a second, and a loaded machine
				t.Errorf("%+v: the other node knew after %v", c.what, took)
			}
			for name, h := range holds {
				if _, err := far.Check(ctx, tokens[name], h.who, h.track, browser); (err != nil) != strings.Contains(c.ends, name) {
					t.Errorf("%+v: the ticket of %s on the other node: %v", c.what, name, err)
				}
			}
		}
	})
}

// What cannot be meant recalls nothing, and nobody recalls without a permit to
// contain.
func TestWhatCannotBeRecalled(t *testing.T) {
	t.Parallel()
	o := newOffice(t, dbtest.SQLite(t))
	ctx := t.Context()
	ann := o.signIn(o.program, o.ann)
	track := o.track(o.program, o.ann)
	token := o.issue(ann, track)
	for _, what := range []Revocation{
		{}, {All: true, Object: track}, {Object: "track"}, {Object: string(o.ann)}, {Session: "ses_x"}, {Key: "key_x"},
		{All: true, Program: "prg_x"}, {Since: time.UnixMilli(-5)}, {Object: strings.Repeat("x", 1<<20)}, {Session: ann.Session(), Since: time.Now()},
	} {
		if _, err := o.revoke(ctx, "os:0", what); !errors.Is(err, yesline.Invalid) {
			t.Errorf("%.60v: got %v", what, err)
		}
	}
	for _, permit := range []access.Permit{{}, o.permit(ann, track)} {
		if _, err := o.Revoke(ctx, permit, Revocation{All: true}); !errors.Is(err, yesline.Denied) {
			t.Errorf("without a permit to contain: got %v", err)
		}
		if _, err := o.Rotate(ctx, permit, o.program); !errors.Is(err, yesline.Denied) {
			t.Errorf("rotating without a permit: got %v", err)
		}
	}
	accepts(t, "after all that", o.Tickets, token, ann, track)
}

// A permit to contain one program recalls and rotates there and nowhere else,
// whatever the request says; one for the house does both everywhere.
func TestWhoContainsWhat(t *testing.T) {
	t.Parallel()
	o := newOffice(t, dbtest.SQLite(t))
	ctx := t.Context()
	theirs := o.House.Program(t)
	eve := o.Person(t, theirs)
	ann, guest := o.signIn(o.program, o.ann), o.signIn(theirs, eve)
	track, hers := o.track(o.program, o.ann), o.track(theirs, eve)
	may := func(kind, id string) access.Permit {
		t.Helper()
		return must[access.Permit](t)(o.gate.Ask(ctx, session.Local(0), access.Contain, access.Object{Kind: kind, ID: id}, nil))
	}
	theirsOnly, house := may("program", string(theirs)), may("house", access.HouseID)
	for _, c := range []struct {
		permit     access.Permit
		program    yesline.ProgramID
		mine, hers bool // end
		err        error
	}{
		{theirsOnly, "", false, true, nil},
		{theirsOnly, theirs, false, true, nil},
		{theirsOnly, o.program, false, false, yesline.Denied},
		{house, o.program, true, false, nil},
		{house, "", true, true, nil},
	} {
		one, two := o.issue(ann, track), o.issue(guest, hers)
		made, err := o.Revoke(ctx, c.permit, Revocation{All: true, Program: c.program})
		if !errors.Is(err, c.err) || (err == nil) != (made.Entry != "") {
			t.Errorf("recalling in %q: got %v, %v", c.program, made, err)
		}
		_, mine := o.Check(ctx, one, ann, track, browser)
		_, other := o.Check(ctx, two, guest, hers, browser)
		if (mine != nil) != c.mine || (other != nil) != c.hers {
			t.Errorf("recalling in %q: mine %v, theirs %v", c.program, mine, other)
		}
	}
	for _, c := range []struct {
		permit  access.Permit
		program yesline.ProgramID
		err     error
	}{{theirsOnly, o.program, yesline.Denied}, {theirsOnly, theirs, nil}, {theirsOnly, "", nil}, {house, o.program, nil}, {house, "", yesline.Invalid}, {house, "prg_x", yesline.Invalid}} {
		if _, err := o.Rotate(ctx, c.permit, c.program); !errors.Is(err, c.err) {
			t.Errorf("rotating in %q: got %v", c.program, err)
		}
	}
}

// The list of recalls is bounded: beyond it one line ends all of the program's
// tickets. Lines go when the longest chain is over, and epochs never go back.
func TestTheListOfRecallsIsBounded(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		o := newOffice(t, open)
		ctx := t.Context()
		ann := o.signIn(o.program, o.ann)
		track := o.track(o.program, o.ann)
		token := o.issue(ann, track)
		call := yesline.NewCallID()
		for range maxRecalls {
			o.calls[call] = append(o.calls[call], voice(string(yesline.NewTrackID())))
		}
		o.recall(Revocation{Object: string(call), Program: o.program})
		accepts(t, "not meant", o.Tickets, token, ann, track)
		o.recall(Revocation{Session: yesline.NewSessionID(), Program: o.program})
		refuses(t, "after the list was full", o.Tickets, token, ann, track, browser)
		count := func() (n int) {
			t.Helper()
			ok(t, o.Content.QueryRow(ctx, `SELECT COUNT(*) FROM ticket_revocations`).Scan(&n))
			return n
		}
		if got := count(); got != 1 {
			t.Errorf("a full list is folded to %d lines", got)
		}
		fresh := o.issue(ann, track)
		ok(t, o.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE ticket_revocations SET created = created - $1`, longestLife.Milliseconds()+1)
			return err
		}))
		o.recall(Revocation{Session: yesline.NewSessionID()})
		if got := count(); got != 1 {
			t.Errorf("after the longest chain there are %d lines, want the new one", got)
		}
		accepts(t, "not meant, after pruning", o.Tickets, fresh, ann, track)
		ok(t, o.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `DELETE FROM ticket_revocations`)
			return err
		}))
		o.recall(Revocation{Session: ann.Session()})
		refuses(t, "recalled after all lines went", o.Tickets, fresh, ann, track, browser)
	})
}

// A node that does not see recalls accepts and issues nothing, and neither does
// one that cannot read them.
func TestABlindNodeAcceptsNothing(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, o *office) {
		ctx := context.Background()
		ann := o.signIn(o.program, o.ann)
		track := o.track(o.program, o.ann)
		token := o.issue(ann, track)
		permit := o.permit(ann, track)
		ticket := accepts(t, "seeing", o.Tickets, token, ann, track)
		o.Content.Close()
		time.Sleep(db.Staleness)
		if _, err := o.Check(ctx, token, ann, track, browser); !errors.Is(err, yesline.Unavailable) {
			t.Errorf("blind: got %v", err)
		}
		if _, _, err := o.Slide(ctx, ticket, permit); !errors.Is(err, yesline.Unavailable) {
			t.Errorf("sliding blind: got %v", err)
		}
		if _, _, err := o.Issue(ctx, permit, Play, browser); !errors.Is(err, yesline.Unavailable) {
			t.Errorf("issuing blind: got %v", err)
		}
	})
}

func TestARecallThatCannotBeReadStopsAll(t *testing.T) {
	t.Parallel()
	for _, column := range []string{"program", "track", "holder"} {
		o := newOffice(t, dbtest.SQLite(t))
		ctx := t.Context()
		ann := o.signIn(o.program, o.ann)
		track := o.track(o.program, o.ann)
		token := o.issue(ann, track)
		o.recall(Revocation{All: true})
		ok(t, o.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
			if _, err := tx.Exec(ctx, `UPDATE ticket_revocations SET `+column+` = 'x'`); err != nil {
				return err
			}
			return tx.Touch(ctx, watched)
		}))
		if _, err := o.Check(ctx, token, ann, track, browser); !errors.Is(err, yesline.Unavailable) {
			t.Errorf("a recall with a wrong %s: got %v", column, err)
		}
	}
}

// After a rotation the old key's tickets are accepted until they end and slide
// to the new key; then the old key opens nothing, whoever holds it.
func TestRotating(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, o *office) {
		ctx := context.Background()
		ann := o.signIn(o.program, o.ann)
		track := o.track(o.program, o.ann)
		token := o.issue(ann, track)
		old := accepts(t, "before", o.Tickets, token, ann, track)
		_, k, err := o.signer(ctx, old.program)
		ok(t, err)
		secret := must[*pen](t)(o.open(ctx, k))
		made, err := o.rotate(ctx, "os:0", o.program)
		ok(t, err)
		if e := must[audit.Entry](t)(o.Log.Find(ctx, audit.Ref{DB: "content", Leaf: made.Entry})); e.Verb != "tickets.rotated" || e.Object != string(o.program) || e.Actor != "os:0" {
			t.Errorf("the log tells of a rotation as %+v", e)
		}
		accepts(t, "after", o.Tickets, token, ann, track)
		slid, _, err := o.Slide(ctx, old, o.permit(ann, track))
		ok(t, err)
		if next := accepts(t, "slid", o.Tickets, slid, ann, track); next.key == old.key {
			t.Error("the old key still signs")
		}
		time.Sleep(TicketTime + skew - time.Millisecond)
		late := old
		late.expires = time.Now().Add(TicketTime).UnixMilli()
		accepts(t, "signed with the old key at its last moment", o.Tickets, late.sign(secret), ann, track)
		time.Sleep(time.Millisecond)
		late.expires = time.Now().Add(TicketTime).UnixMilli()
		refuses(t, "signed with the retired key", o.Tickets, late.sign(secret), ann, track, browser)
		for range maxKeys - 1 { // the retired one goes, the new one stays until it is retired
			_, err := o.rotate(ctx, "os:0", o.program)
			ok(t, err)
		}
		if _, err := o.rotate(ctx, "os:0", o.program); !errors.Is(err, yesline.TooMany) {
			t.Errorf("rotating without end: got %v", err)
		}
		time.Sleep(TicketTime + skew + time.Millisecond)
		_, err = o.rotate(ctx, "os:0", o.program)
		ok(t, err)
		var n int
		if ok(t, o.Content.QueryRow(ctx, `SELECT COUNT(*) FROM ticket_keys`).Scan(&n)); n != 2 {
			t.Errorf("%d keys are kept, want the new one and the last", n)
		}
	})
}

// Another node takes the ticket of a key it has not heard of yet, and made-up
// keys do not have it read the tables each time.
func TestAnotherNodeKnowsANewKeyAtOnce(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		o := newOffice(t, open)
		ctx := t.Context()
		far := o.node(open("content"))
		ann := o.signIn(o.program, o.ann)
		track := o.track(o.program, o.ann)
		accepts(t, "of the first key", far, o.issue(ann, track), ann, track)
		_, err := o.rotate(ctx, "os:0", o.program)
		ok(t, err)
		token := o.issue(ann, track)
		time.Sleep(againEvery)
		accepts(t, "of the next key", far, token, ann, track)
		made := must[[]byte](t)(base64.RawURLEncoding.DecodeString(token))
		known, readings, began := far.view.Load(), 0, time.Now()
		for i := range 1000 {
			made[4], made[5] = byte(i), byte(i>>8)
			refuses(t, "a made-up key", far, base64.RawURLEncoding.EncodeToString(made), ann, track, browser)
			if now := far.view.Load(); now != known {
				known, readings = now, readings+1
			}
		}
		if most := int(time.Since(began)/againEvery) + 1; readings > most {
			t.Errorf("made-up keys had the tables read %d times, at most %d", readings, most)
		}
	})
}

// A request carries the ticket it came with, for that track alone.
func TestCarrying(t *testing.T) {
	t.Parallel()
	o := newOffice(t, dbtest.SQLite(t))
	ann := o.signIn(o.program, o.ann)
	track := o.track(o.program, o.ann)
	ticket := accepts(t, "hers", o.Tickets, o.issue(ann, track), ann, track)
	none := Ticket{}.track.as("trk")
	for what, c := range map[string]struct {
		ctx   context.Context
		track string
		want  bool
	}{
		"its track":     {Carry(t.Context(), ticket), track, true},
		"another track": {Carry(t.Context(), ticket), o.track(o.program, o.ann), false},
		"no ticket":     {t.Context(), track, false},
		"a zero ticket": {Carry(t.Context(), Ticket{}), none, false},
	} {
		if got := Carries(c.ctx, yesline.TrackID(c.track)); got != c.want {
			t.Errorf("%s: got %v", what, got)
		}
	}
}

func TestTicketsNeedTheirHouse(t *testing.T) {
	t.Parallel()
	o := newOffice(t, dbtest.SQLite(t))
	for _, h := range []House{{}, {Sealing: o.sealing()}, {Sealing: o.sealing(), Record: o.Log.Record}} {
		if _, err := OpenTickets(t.Context(), o.Content, h); err == nil {
			t.Error("tickets without keys, log or books")
		}
	}
}

// FuzzTicket: whatever is not the very token that was signed is refused, and
// what is parsed is written back as it was.
func FuzzTicket(f *testing.F) {
	secret := newPen([]byte("a secret of thirty-two bytes...."))
	now := time.UnixMilli(1_800_000_000_000)
	r := rand.New(rand.NewPCG(1, 2))
	var k keyID
	made := Ticket{purpose: 'p', holder: holder{kind: ofSession}, born: now.UnixMilli(), expires: now.Add(TicketTime).UnixMilli(), epoch: 7, client: browser}
	for _, b := range [][]byte{k[:], made.program[:], made.track[:], made.holder.id[:]} {
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	}
	made.key = k
	real := made.sign(secret)
	f.Add(real)
	f.Add(real[1:])
	f.Add(strings.ToLower(real))
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		p, ok := parse(token)
		if !ok {
			if token == real {
				t.Fatal("ours is refused")
			}
			return
		}
		good := string(secret.mac(nil, p.body(), browser)) == string(p.mac())
		if good != (token == real) {
			t.Fatalf("a token passes: %v, and is ours: %v", good, token == real)
		}
		p.client = browser
		if again := p.sign(secret); again[:bodySize/3*4] != token[:bodySize/3*4] {
			t.Fatal("what was parsed is written back differently")
		}
		p.times(now)
	})
}

// The bar is 2 us.
func BenchmarkTicketCheck(b *testing.B) {
	o := newOffice(b, dbtest.SQLite(b))
	ann := o.signIn(o.program, o.ann)
	track := o.track(o.program, o.ann)
	token := o.issue(ann, track)
	for range 20 {
		_, err := o.revoke(b.Context(), "os:0", Revocation{Session: yesline.NewSessionID()})
		ok(b, err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := o.Check(b.Context(), token, ann, track, browser); err != nil {
			b.Fatal(err)
		}
	}
}
