package session

import (
	"context"
	"crypto/sha256"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
)

// second is another node of the same house.
func (h *house) second(content *db.DB) *house {
	h.t.Helper()
	s, err := New(context.Background(), content, realm, h.sealing())
	if err != nil {
		h.t.Fatal(err)
	}
	if err := s.UsePasskeys(Passkeys{RPID: "calls.example", Origin: origin, Name: "Yesline"}); err != nil {
		h.t.Fatal(err)
	}
	return &house{Sessions: s, t: h.t, db: content, program: h.program, ann: h.ann, bob: h.bob, key: h.key, macKey: h.macKey}
}

// Who is remembered here and on another node, until the session ends: at once
// here, within a second there. So is a key.
func TestAnEndReachesEveryNode(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		h := newHouse(t, open("content"))
		other := h.second(open("content"))
		_, cookie, ann, _ := h.joins(h.ann)
		made, secret, err := h.MakeKey(t.Context(), ann, "x", []string{"list"}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		knowsKey := func(h *house) bool {
			_, err := h.WhoKey(t.Context(), string(secret.Bytes()))
			_, byID := h.WhoKeyID(t.Context(), made.ID)
			if (err == nil) != (byID == nil) {
				t.Logf("by its words %v, by its id %v", err, byID) // the two are looked at one after another
			}
			return err == nil || byID == nil
		}
		for range 2 {
			h.knows(cookie)
			other.knows(cookie)
			if !knowsKey(h) || !knowsKey(other) {
				t.Fatal("the key is not known")
			}
		}
		if len(h.known.byHash) != 3 || len(other.known.byHash) != 3 {
			t.Errorf("%d and %d are remembered, want 3 on each node", len(h.known.byHash), len(other.known.byHash))
		}
		if err := h.EndKey(t.Context(), ann, made.ID); err != nil {
			t.Fatal(err)
		}
		if err := h.EndSession(t.Context(), ann, ann.Session()); err != nil {
			t.Fatal(err)
		}
		h.doesNotKnow(cookie)
		if knowsKey(h) {
			t.Error("the node that ended the key knows it")
		}
		began := time.Now()
		for {
			_, err := other.Who(t.Context(), cookie)
			if errors.Is(err, yesline.NotFound) && !knowsKey(other) {
				break
			}
			if time.Since(began) > 2*time.Second {
				t.Fatalf("the other node still knows them after %v", time.Since(began))
			}
			time.Sleep(5 * time.Millisecond)
		}
		if len(h.known.byHash) != 0 {
			t.Errorf("%d are still remembered", len(h.known.byHash))
		}
	})
}

// A passkey's options of one node are answered on another, once for both.
func TestCeremoniesAreOfTheWholeHouse(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		h := newHouse(t, open("content"))
		other := h.second(open("content"))
		a, _, _, _ := h.joins(h.ann)
		reply := a.signs(h.signInOptions())
		if _, _, err := other.SignIn(t.Context(), reply, Client{}); err != nil {
			t.Errorf("the other node: %v", err)
		}
		h.staysOut("the same reply here", reply)
	})
}

// While a node does not see the watches it asks the database each time.
func TestAStaleNodeAsksTheDatabase(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		cookie, who := h.signIn(h.ann)
		h.knows(cookie)
		// The end comes by a hand that touches no watch, so only the database knows.
		err := h.db.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE sessions SET ended = 1 WHERE id = $1`, string(who.Session()))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		h.knows(cookie) // from memory
		sum := onlyKey(t, h)
		if e := h.known.find(sum, time.Now(), false); e != nil {
			t.Error("a stale node answers from memory")
		}
	})
}

func onlyKey(t *testing.T, h *house) (sum [32]byte) {
	t.Helper()
	if len(h.known.byHash) != 1 {
		t.Fatalf("%d are remembered, want 1", len(h.known.byHash))
	}
	for sum = range h.known.byHash {
	}
	return sum
}

func hashed(cookie string) [32]byte { return sha256.Sum256([]byte(cookie)) }

func TestTheMemoryOfAskersIsBounded(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.known.most = 5
		var cookies []string
		for range 20 {
			cookie, _ := h.signIn(h.ann)
			cookies = append(cookies, cookie)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for _, c := range cookies {
					h.knows(c)
				}
			})
		}
		wg.Wait()
		if n := len(h.known.byHash); n != 5 {
			t.Errorf("%d are remembered, want 5", n)
		}
		for range 100 { // strangers are not remembered
			h.doesNotKnow(strings.Repeat("A", tokenLength))
		}
		if n := len(h.known.byHash); n != 5 {
			t.Errorf("%d are remembered after strangers, want 5", n)
		}
	})
}

// What is remembered ends by time as what is read does, and use is written down.
func TestWhatIsRememberedEndsByTime(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		content, err := db.Open(t.Context(), "content", "sqlite:"+filepath.Join(folder, "content.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer content.Close()
		h := newHouse(t, content)
		cookie, who := h.signIn(h.ann)
		first := h.knows(cookie)
		if !first.Fresh() {
			t.Error("who just came is not fresh")
		}
		for range 3 {
			time.Sleep(90 * time.Second)
			h.knows(cookie)
			var seen int64
			if err := h.db.QueryRow(t.Context(), `SELECT seen FROM sessions WHERE id = $1`, string(who.Session())).Scan(&seen); err != nil || seen != db.Millis(time.Now()) {
				t.Errorf("seen is %d, %v", seen, err)
			}
		}
		// Somebody who is away is forgotten when others come.
		e := h.known.byHash[onlyKey(t, h)]
		e.last.Store(db.Millis(time.Now().Add(-11 * time.Minute)))
		bobs, _ := h.signIn(h.bob)
		h.knows(bobs)
		if n := len(h.known.byHash); n != 1 {
			t.Errorf("%d are remembered, want bob alone", n)
		}
		h.knows(cookie)
		e = h.known.byHash[hashed(cookie)]
		for _, c := range []struct {
			at   time.Time
			good bool
		}{
			{db.Time(e.ends - 1), false}, // idle
			{db.Time(e.last.Load()).Add(IdleTime - time.Millisecond), true},
			{db.Time(e.last.Load()).Add(IdleTime), false},
		} {
			if got := e.good(c.at); got != c.good {
				t.Errorf("at %v it is %v, want %v", c.at, got, c.good)
			}
		}
		e.last.Store(e.ends - 1)
		if !e.good(db.Time(e.ends-1)) || e.good(db.Time(e.ends)) {
			t.Error("a session does not end on the millisecond")
		}
	})
}

// Whoever can write the database but has no key of ours lets nobody in: a row
// changed in any of what it grants, or moved, opens nothing.
func TestForgedRowsLetNobodyIn(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		exec := h.exec
		h.known.most = 0
		a, cookie, ann, codes := h.joins(h.ann)
		_, secret, err := h.MakeKey(t.Context(), ann, "x", []string{"list"}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		for column, value := range map[string]any{"kind": "operator", "program": "prg_other", "person": string(h.bob), "expires": int64(1) << 60,
			"proved": db.Millis(time.Now()) + 1_000_000, "created": int64(7), "id": "ses_other", "mac": ""} {
			exec(`ALTER TABLE sessions RENAME COLUMN ` + column + ` TO old_value`)
			exec(`ALTER TABLE sessions ADD COLUMN ` + column + ` ` + map[bool]string{true: "BIGINT", false: "TEXT"}[column == "expires" || column == "proved" || column == "created"])
			exec(`UPDATE sessions SET `+column+` = $1`, value)
			h.doesNotKnow(cookie)
			exec(`ALTER TABLE sessions DROP COLUMN ` + column)
			exec(`ALTER TABLE sessions RENAME COLUMN old_value TO ` + column)
			h.knows(cookie)
		}
		bearer := string(secret.Bytes())
		change := func(what, q, back string, fails func() error) {
			t.Helper()
			exec(q)
			is(t, what, fails(), yesline.NotFound)
			exec(back)
		}
		key := func() error { _, err := h.WhoKey(t.Context(), bearer); return err }
		change("a key with more scopes", `UPDATE api_keys SET scopes = ' list listen '`, `UPDATE api_keys SET scopes = ' list '`, key)
		change("a key of another", `UPDATE api_keys SET account = 'per_x'`, `UPDATE api_keys SET account = '`+string(h.ann)+`'`, key)
		change("a key of another kind", `UPDATE api_keys SET kind = 'officer'`, `UPDATE api_keys SET kind = 'person'`, key)
		change("a key that lives longer", `UPDATE api_keys SET expires = expires + 1`, `UPDATE api_keys SET expires = expires - 1`, key)
		if err := key(); err != nil {
			t.Errorf("the key as it was: %v", err)
		}
		passkey := func() error { _, _, err := h.SignIn(t.Context(), a.signs(h.signInOptions()), Client{}); return err }
		change("a passkey of another", `UPDATE passkeys SET account = 'per_x'`, `UPDATE passkeys SET account = '`+string(h.ann)+`'`, passkey)
		change("a passkey of another kind", `UPDATE passkeys SET kind = 'operator'`, `UPDATE passkeys SET kind = 'person'`, passkey)
		change("a passkey of another program", `UPDATE passkeys SET program = ''`, `UPDATE passkeys SET program = '`+string(h.program)+`'`, passkey)
		if err := passkey(); err != nil {
			t.Errorf("the passkey as it was: %v", err)
		}
		recover := func() error { _, _, err := h.Recover(t.Context(), codes[0], Client{}); return err }
		change("a code of another", `UPDATE recovery_codes SET account = 'per_x'`, `UPDATE recovery_codes SET account = '`+string(h.ann)+`'`, recover)
		if err := recover(); err != nil {
			t.Errorf("the code as it was: %v", err)
		}
		token := h.link(h.ann)
		redeem := func() error { _, err := h.RedeemAny(t.Context(), token, Client{}); return err }
		change("a link of another", `UPDATE links SET person = 'per_x'`, `UPDATE links SET person = '`+string(h.ann)+`'`, redeem)
		change("a link of an operator", `UPDATE links SET kind = 'operator', name = 'os:0', person = ''`,
			`UPDATE links SET kind = 'person', name = '', person = '`+string(h.ann)+`'`, redeem)
		if err := redeem(); err != nil {
			t.Errorf("the link as it was: %v", err)
		}
		// An ended session has no mark, so taking its end back revives nothing.
		if err := h.End(t.Context(), ann); err != nil {
			t.Fatal(err)
		}
		exec(`UPDATE sessions SET ended = 0`)
		h.doesNotKnow(cookie)
	})
}

// When a program's keys are destroyed nobody of it is known.
func TestWithoutTheProgramsKeyNobodyIsKnown(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		a, cookie, _, codes := h.joins(h.ann)
		h.lost.Store(true)
		h.doesNotKnow(cookie)
		h.staysOut("a passkey", a.signs(h.signInOptions()))
		_, _, err := h.Recover(t.Context(), codes[0], Client{})
		is(t, "a code", err, yesline.NotFound)
	})
}

// A house without Sealing.MAC works within one process.
func TestAHouseWithoutMarks(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.Sessions.sealing.MAC = nil
		a, cookie, who, _ := h.joins(h.ann)
		if h.knows(cookie) != who {
			t.Error("ann is not known")
		}
		h.comesIn(a)
		made, secret, err := h.MakeKey(t.Context(), who, "x", []string{"list"}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		is(t, "ending the key", h.EndKey(t.Context(), who, made.ID), nil)
		_, err = h.WhoKey(t.Context(), string(secret.Bytes()))
		is(t, "an ended key", err, yesline.NotFound)
		is(t, "signing out", h.End(t.Context(), who), nil)
		h.doesNotKnow(cookie)
		_, err = h.Prove(t.Context(), who, a.signs(h.signInOptions()))
		is(t, "proving an ended session", err, yesline.Denied)
		other, _ := h.claims()
		is(t, "a wrong code", h.ProveClaim(t.Context(), other, "000000"), yesline.Denied)
	})
}

func TestForgettingTakesEveryWayIn(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		a, cookie, ann, codes := h.joins(h.ann)
		bobs := h.holds(h.bob)
		_, secret, err := h.MakeKey(t.Context(), ann, "x", []string{"list"}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		h.knows(cookie)
		if _, err := h.WhoKey(t.Context(), string(secret.Bytes())); err != nil {
			t.Fatal(err)
		}
		reply := a.signs(h.signInOptions())
		if err := h.Forget(t.Context(), h.ann); err != nil {
			t.Fatal(err)
		}
		h.doesNotKnow(cookie)
		h.staysOut("a passkey", reply)
		_, err = h.WhoKey(t.Context(), string(secret.Bytes()))
		is(t, "a key", err, yesline.NotFound)
		_, _, err = h.Recover(t.Context(), codes[0], Client{})
		is(t, "a code", err, yesline.NotFound)
		if strings.Contains(h.dump(), string(h.ann)) {
			t.Error("ann is still in a table")
		}
		if ways := bobs.working(); !slices.Equal(ways, everyWay) {
			t.Errorf("bob is left with %v", ways)
		}
		h.comesIn(bobs.a)
	})
}

// Nothing that lets somebody in is in the tables in clear.
func TestNoWayInIsStored(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		_, cookie, ann, codes := h.joins(h.ann)
		_, secret, err := h.MakeKey(t.Context(), ann, "x", []string{"list"}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		_, link, err := h.Appoint(t.Context(), Local(1000), Officer, "", anybody)
		if err != nil {
			t.Fatal(err)
		}
		claim, _ := h.claims()
		all := h.dump()
		for what, s := range map[string]string{"cookie": cookie, "key": string(secret.Bytes()), "link": link, "claim's cookie": claim, "code": code, "recovery code": plainCode(codes[0])} {
			if strings.Contains(all, s) {
				t.Errorf("the %s is in a table", what)
			}
		}
		if !strings.Contains(all, string(ann.Session())) || !strings.Contains(all, "laptop") {
			t.Error("the dump of the tables misses what it should have")
		}
	})
}

func BenchmarkWhoKey(b *testing.B) {
	h := newHouse(b, dbtest.SQLite(b)("content"))
	_, _, ann, _ := h.joins(h.ann)
	_, secret, err := h.MakeKey(b.Context(), ann, "x", []string{"list"}, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	bearer := string(secret.Bytes())
	for b.Loop() {
		if _, err := h.WhoKey(b.Context(), bearer); err != nil {
			b.Fatal(err)
		}
	}
}
