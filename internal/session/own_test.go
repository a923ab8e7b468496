package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"yesline"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
)

func (h *house) open(who Principal) []Open {
	h.t.Helper()
	all, err := h.SessionsOf(context.Background(), who, 0, MaxSessions)
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

func TestSessionsAreListedNamedAndEndedByTheirOwner(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		told := h.records(new(atomic.Bool))
		a, first, ann, _ := h.joins(h.ann)
		second, phone := h.comesIn(a)
		_, _, bob, _ := h.joins(h.bob)
		if err := h.NameSession(t.Context(), ann, phone.Session(), "the phone"); err != nil {
			t.Fatal(err)
		}
		all := h.open(ann)
		if len(all) != 2 {
			t.Fatalf("%d sessions, want 2: %+v", len(all), all)
		}
		for _, o := range all {
			want := Open{ID: o.ID, Device: "Firefox on Linux", Created: o.Created, Seen: o.Seen, Current: o.ID == ann.Session()}
			if o.ID == phone.Session() {
				want.Name = "the phone"
			}
			if o != want || o.Created == 0 || o.Seen == 0 {
				t.Errorf("got %+v, want %+v", o, want)
			}
		}
		is(t, "bob names ann's", h.NameSession(t.Context(), bob, phone.Session(), "x"), yesline.NotFound)
		is(t, "bob ends ann's", h.EndSession(t.Context(), bob, phone.Session()), yesline.NotFound)
		is(t, "an empty name", h.NameSession(t.Context(), ann, phone.Session(), ""), yesline.Invalid)
		h.knows(second)
		if err := h.EndSession(t.Context(), ann, phone.Session()); err != nil {
			t.Fatal(err)
		}
		h.doesNotKnow(second)
		h.knows(first)
		is(t, "ending it again", h.EndSession(t.Context(), ann, phone.Session()), yesline.NotFound)
		is(t, "naming what ended", h.NameSession(t.Context(), ann, phone.Session(), "x"), yesline.NotFound)
		third, _ := h.comesIn(a)
		fourth, _ := h.comesIn(a)
		h.knows(third)
		if n, err := h.EndOthers(t.Context(), ann); err != nil || n != 2 {
			t.Errorf("ended %d others, %v; want 2", n, err)
		}
		h.doesNotKnow(third)
		h.doesNotKnow(fourth)
		h.knows(first)
		if n, err := h.EndOthers(t.Context(), ann); err != nil || n != 0 {
			t.Errorf("ended %d others again, %v", n, err)
		}
		if len(h.open(bob)) != 1 || len(h.open(ann)) != 1 {
			t.Error("the wrong sessions ended")
		}
		var ended []string
		for _, e := range told() {
			if strings.HasPrefix(e.Verb, "session") && slices.Equal(e.Subjects, []yesline.PersonID{h.ann}) {
				ended = append(ended, e.Verb)
			}
		}
		if !slices.Equal(ended, []string{"session-ended", "sessions-ended"}) {
			t.Errorf("ann is told %v", ended)
		}
		for _, who := range []Principal{{}, Local(1000)} {
			_, err := h.SessionsOf(t.Context(), who, 0, 10)
			is(t, "listing of nobody", err, yesline.Denied)
			_, err = h.EndOthers(t.Context(), who)
			is(t, "ending of nobody", err, yesline.Denied)
			is(t, "ending one of nobody", h.EndSession(t.Context(), who, ann.Session()), yesline.Denied)
		}
	})
}

func TestSessionsArePaged(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house) {
		_, ann := h.signIn(h.ann)
		for range 6 {
			time.Sleep(time.Second)
			h.signIn(h.ann)
		}
		var pages []int
		seen := map[yesline.SessionID]bool{}
		for before := int64(0); ; {
			part, err := h.SessionsOf(t.Context(), ann, before, 3)
			if err != nil {
				t.Fatal(err)
			}
			if len(part) == 0 {
				break
			}
			pages = append(pages, len(part))
			for _, o := range part {
				seen[o.ID] = true
			}
			before = part[len(part)-1].Created
		}
		if !slices.Equal(pages, []int{3, 3, 1}) || len(seen) != 7 {
			t.Errorf("pages of %v with %d sessions", pages, len(seen))
		}
		time.Sleep(IdleTime)
		if left := h.open(ann); len(left) != 0 {
			t.Errorf("%d idle sessions are listed", len(left))
		}
	})
}

func TestTheHundredAndFirstSessionEndsTheOldest(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house) {
		var cookies []string
		var ann Principal
		bobs, _ := h.signIn(h.bob) // older than all of ann's
		for range MaxSessions + 50 {
			time.Sleep(time.Second)
			cookie, who := h.signIn(h.ann)
			cookies, ann = append(cookies, cookie), who
		}
		other, _ := h.signIn(h.bob)
		h.knows(bobs)
		for i, c := range cookies {
			if i < 50 {
				h.doesNotKnow(c)
			} else {
				h.knows(c)
			}
		}
		h.knows(other)
		if all := h.open(ann); len(all) != MaxSessions || !all[0].Current {
			t.Errorf("%d sessions are left, want %d with the new one first", len(all), MaxSessions)
		}
		for range MaxSessions {
			time.Sleep(time.Second)
			_, who := h.signIn(h.bob)
			is(t, "signing out", h.End(t.Context(), who), nil)
		}
		h.knows(other) // the ended ones do not count
	})
}

// A house that is found with 10,000 sessions of one person stays quick, and
// gets rid of them bit by bit.
func TestTenThousandSessionsOfOnePerson(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		first, _ := h.signIn(h.ann)
		h.knows(first)
		const many = 10_000
		err := h.db.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			now := db.Millis(time.Now())
			for i := range many / 1000 {
				var rows []string
				for j := range 1000 {
					n := i*1000 + j
					rows = append(rows, fmt.Sprintf(`('hash%d', 'ses_%d', 'person', '', '%s', '%s', '%s', %d, %d, %d, 0)`,
						n, n, h.program, h.ann, h.ann, now-1000-int64(n), now, now+1_000_000))
				}
				if _, err := tx.Exec(ctx, `INSERT INTO sessions (cookie_hash, id, kind, name, program, person, account, created, seen, expires, ended) VALUES `+
					strings.Join(rows, ", ")); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		cookie, ann := h.signIn(h.ann)
		h.knows(cookie)
		h.knows(first)
		if all := h.open(ann); len(all) != MaxSessions || !slices.ContainsFunc(all, func(o Open) bool { return o.Current }) {
			t.Errorf("%d sessions are listed, want %d with the new one", len(all), MaxSessions)
		}
		var left int
		if err := h.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM sessions WHERE account = $1 AND ended = 0`, string(h.ann)).Scan(&left); err != nil || left != many+2-endAtOnce {
			t.Errorf("%d are left, %v; want %d", left, err, many+2-endAtOnce)
		}
	})
}

func TestAMegabyteIsNoToken(t *testing.T) {
	h := newHouse(t, dbtest.SQLite(t)("content"))
	long := strings.Repeat("A", 1<<20)
	_, err := h.Who(t.Context(), long)
	is(t, "a cookie", err, yesline.NotFound)
	_, _, err = h.Redeem(t.Context(), long)
	is(t, "a link", err, yesline.NotFound)
	_, err = h.WhoKey(t.Context(), keyPrefix+long)
	is(t, "a key", err, yesline.NotFound)
	_, err = h.WhoKeyID(t.Context(), yesline.KeyID(long))
	is(t, "a key's id", err, yesline.NotFound)
	_, _, err = h.Recover(t.Context(), long, Client{})
	is(t, "a code", err, yesline.NotFound)
	_, err = h.ClaimOf(t.Context(), long)
	is(t, "a claim's cookie", err, yesline.NotFound)
	is(t, "proving a claim", h.ProveClaim(t.Context(), long, code), yesline.NotFound)
	is(t, "a long code", h.ProveClaim(t.Context(), h.agreed(), long), nil) // it is proven
	_, err = h.readChallenge(long, signingIn, "")
	is(t, "a challenge", err, yesline.NotFound)
}

func TestTheDeviceOfASessionIsAWord(t *testing.T) {
	for _, c := range []struct{ given, kept string }{
		{"Safari on iPhone", "Safari on iPhone"}, {"", ""}, {strings.Repeat("x", 64), strings.Repeat("x", 64)},
		{strings.Repeat("x", 65), ""}, {"a\nb", ""}, {"\x1b[31m", ""}, {"\xff", ""},
	} {
		if got := (Client{c.given}).word(); got != c.kept {
			t.Errorf("%q is kept as %q, want %q", c.given, got, c.kept)
		}
	}
}

func TestRecoveryCodesWorkOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house) {
		told := h.records(new(atomic.Bool))
		_, cookie, ann, codes := h.joins(h.ann)
		for i, c := range codes {
			if len(c) != 23 || strings.Count(c, "-") != 3 || slices.Index(codes, c) != i {
				t.Errorf("the code %q has another form, or is there twice", c)
			}
		}
		second, me, err := h.Recover(t.Context(), " "+strings.ToUpper(strings.ReplaceAll(codes[3], "-", " "))+" ", Client{Device: "x"})
		if err != nil || me.Person() != h.ann || me.Program() != h.program || !me.Fresh() || h.knows(second) != me {
			t.Fatalf("recovered as %+v, %v", me, err)
		}
		h.knows(cookie) // other sessions stay
		for what, c := range map[string]string{"a used code": codes[3], "a wrong code": "aaaaa-aaaaa-aaaaa-aaaaa", "no code": "", "half a code": codes[4][:11]} {
			cookie, who, err := h.Recover(t.Context(), c, Client{})
			if !errors.Is(err, yesline.NotFound) || cookie != "" || who != (Principal{}) {
				t.Errorf("%s: %v, %v", what, who, err)
			}
		}
		if left, err := h.RecoveryLeft(t.Context(), string(h.ann)); err != nil || left != 9 {
			t.Errorf("%d codes are left, %v", left, err)
		}
		fresh, err := h.RecoveryCodes(t.Context(), ann)
		if err != nil || len(fresh) != 10 {
			t.Fatalf("new codes: %d, %v", len(fresh), err)
		}
		_, _, err = h.Recover(t.Context(), codes[0], Client{})
		is(t, "a code from before", err, yesline.NotFound)
		if _, _, err := h.Recover(t.Context(), fresh[0], Client{}); err != nil {
			t.Errorf("a new code: %v", err)
		}
		var got []string
		for _, e := range told() {
			if slices.Equal(e.Subjects, []yesline.PersonID{h.ann}) {
				got = append(got, e.Verb)
			}
		}
		if !slices.Equal(got, []string{"joined", "recovered", "recovery-codes-made", "recovered"}) {
			t.Errorf("ann is told %v", got)
		}
		time.Sleep(ProofTime)
		_, err = h.RecoveryCodes(t.Context(), h.knows(cookie))
		is(t, "codes by an old proof", err, yesline.Stale)
		for _, who := range []Principal{{}, Local(1000)} {
			_, err = h.RecoveryCodes(t.Context(), who)
			is(t, "codes for nobody", err, yesline.Denied)
		}
	})
}

func TestAStormOfRecoveriesIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house) {
		_, _, _, codes := h.joins(h.ann)
		var most int
		for {
			_, _, err := h.Recover(t.Context(), "aaaaa-aaaaa-aaaaa-aaaaa", Client{})
			if errors.Is(err, yesline.TooMany) {
				break
			}
			if most++; most > 2*recoverBurst {
				t.Fatal("nobody stops the storm")
			}
		}
		_, _, err := h.Recover(t.Context(), codes[0], Client{})
		is(t, "in the storm", err, yesline.TooMany)
		time.Sleep(time.Second)
		if _, _, err := h.Recover(t.Context(), codes[0], Client{}); err != nil {
			t.Errorf("after it: %v", err)
		}
	})
}

func TestAKeyActsAsItsMakerWithLess(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		told := h.records(new(atomic.Bool))
		_, _, ann, _ := h.joins(h.ann)
		_, _, bob, _ := h.joins(h.bob)
		made, secret, err := h.MakeKey(t.Context(), ann, "my script", []string{"view", "list", "view"}, 24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		bearer := string(secret.Bytes())
		if len(bearer) != 46 || !strings.HasPrefix(bearer, "yk_") || !slices.Equal(made.Scopes, []string{"list", "view"}) {
			t.Errorf("made %+v of %d letters", made, len(bearer))
		}
		for range 2 {
			who, err := h.WhoKey(t.Context(), bearer)
			if err != nil || who.Person() != h.ann || who.Program() != h.program || who.Key() != made.ID || who.Session() != "" || who.Fresh() ||
				!who.May("list") || who.May("listen") || who.May("") {
				t.Errorf("the key is %+v, %v", who, err)
			}
			if again, err := h.WhoKeyID(t.Context(), made.ID); err != nil || again != who {
				t.Errorf("by its id it is %+v, %v", again, err)
			}
		}
		key, _ := h.WhoKey(t.Context(), bearer)
		_, _, err = h.MakeKey(t.Context(), key, "child", []string{"list"}, time.Hour)
		is(t, "a key makes a key", err, yesline.Denied)
		_, err = h.AddPasskey(t.Context(), key, "x", newAuthenticator(t).makes(h.registerOptions(string(h.ann))))
		is(t, "a key adds a passkey", err, yesline.Denied)
		_, err = h.RecoveryCodes(t.Context(), key)
		is(t, "a key makes codes", err, yesline.Denied)
		for what, b := range map[string]string{"another key": keyPrefix + strings.Repeat("A", 43), "cut": bearer[:45], "empty": "", "without its beginning": bearer[3:] + "abc"} {
			_, err := h.WhoKey(t.Context(), b)
			is(t, what, err, yesline.NotFound)
		}
		_, err = h.WhoKeyID(t.Context(), yesline.NewKeyID())
		is(t, "an unknown id", err, yesline.NotFound)
		all, err := h.KeysOf(t.Context(), string(h.ann))
		if err != nil || len(all) != 1 || all[0].Name != "my script" || all[0].Used == 0 || all[0].ID != made.ID {
			t.Errorf("ann's keys are %+v, %v", all, err)
		}
		is(t, "bob ends ann's", h.EndKey(t.Context(), bob, made.ID), yesline.NotFound)
		is(t, "nobody ends ann's", h.EndKey(t.Context(), Local(1000), made.ID), yesline.Denied)
		if err := h.EndKey(t.Context(), ann, made.ID); err != nil {
			t.Fatal(err)
		}
		_, err = h.WhoKey(t.Context(), bearer)
		is(t, "an ended key", err, yesline.NotFound)
		_, err = h.WhoKeyID(t.Context(), made.ID)
		is(t, "an ended key by its id", err, yesline.NotFound)
		is(t, "ending it again", h.EndKey(t.Context(), ann, made.ID), yesline.NotFound)
		es := told()
		if got := verbs(es[2:]); !slices.Equal(got, []string{"key-made done", "key-ended done"}) || es[2].Detail["scopes"] != "list view" {
			t.Errorf("the log says %v, %v", got, es[2].Detail)
		}
	})
}

func TestKeysAreBoundedAndEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house) {
		_, cookie, ann, _ := h.joins(h.ann)
		for what, make := range map[string]func() (Key, yesline.Secret, error){
			"no name": func() (Key, yesline.Secret, error) {
				return h.MakeKey(t.Context(), ann, "", []string{"list"}, time.Hour)
			},
			"no scope": func() (Key, yesline.Secret, error) { return h.MakeKey(t.Context(), ann, "x", nil, time.Hour) },
			"two in one": func() (Key, yesline.Secret, error) {
				return h.MakeKey(t.Context(), ann, "x", []string{"list view"}, time.Hour)
			},
			"an odd scope": func() (Key, yesline.Secret, error) { return h.MakeKey(t.Context(), ann, "x", []string{"*"}, time.Hour) },
			"many scopes": func() (Key, yesline.Secret, error) {
				return h.MakeKey(t.Context(), ann, "x", slices.Repeat([]string{"list"}, 33), time.Hour)
			},
			"no life": func() (Key, yesline.Secret, error) { return h.MakeKey(t.Context(), ann, "x", []string{"list"}, 0) },
			"a long life": func() (Key, yesline.Secret, error) {
				return h.MakeKey(t.Context(), ann, "x", []string{"list"}, 366*24*time.Hour)
			},
		} {
			_, _, err := make()
			is(t, what, err, yesline.Invalid)
		}
		var first string
		for i := range MaxKeys {
			_, secret, err := h.MakeKey(t.Context(), ann, "x", []string{"list"}, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				first = string(secret.Bytes())
			}
		}
		_, _, err := h.MakeKey(t.Context(), ann, "x", []string{"list"}, time.Hour)
		is(t, "one too many", err, yesline.TooMany)
		_, _, bob, _ := h.joins(h.bob)
		_, _, err = h.MakeKey(t.Context(), bob, "x", []string{"list"}, time.Hour)
		is(t, "bob's first", err, nil)
		time.Sleep(ProofTime)
		_, _, err = h.MakeKey(t.Context(), h.knows(cookie), "x", []string{"list"}, time.Hour)
		is(t, "with an old proof", err, yesline.Stale)
		time.Sleep(time.Hour - ProofTime - time.Millisecond)
		if _, err := h.WhoKey(t.Context(), first); err != nil {
			t.Errorf("just before its end: %v", err)
		}
		time.Sleep(time.Millisecond)
		_, err = h.WhoKey(t.Context(), first)
		is(t, "an old key", err, yesline.NotFound)
		if all, err := h.KeysOf(t.Context(), string(h.ann)); err != nil || len(all) != 0 {
			t.Errorf("%d old keys are listed, %v", len(all), err)
		}
	})
}

func TestWhatASessionThatEndedMeanwhileCannotMake(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		_, _, ann, _ := h.joins(h.ann)
		if err := h.End(t.Context(), ann); err != nil {
			t.Fatal(err)
		}
		// ann is still in the hands of a request that began before.
		_, _, err := h.MakeKey(t.Context(), ann, "x", []string{"list"}, time.Hour)
		is(t, "a key", err, yesline.Denied)
		_, err = h.RecoveryCodes(t.Context(), ann)
		is(t, "codes", err, yesline.Denied)
		_, err = h.AddPasskey(t.Context(), ann, "x", newAuthenticator(t).makes(h.registerOptions(string(h.ann))))
		is(t, "a passkey", err, yesline.Denied)
	})
}

func TestPhonesAreListed(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		told := h.records(new(atomic.Bool))
		phone := h.addPhone(h.ann, false)
		h.addPhone(h.bob, false)
		_, _, _, err := h.AddDevice(t.Context(), "", h.ann, false)
		is(t, "a phone of no program", err, yesline.Invalid)
		_, _, _, err = h.AddDevice(t.Context(), h.program, "", false)
		is(t, "a phone of nobody", err, yesline.Invalid)
		all, err := h.DevicesOf(t.Context(), string(h.ann))
		if err != nil || len(all) != 1 || all[0].Username != phone.username || all[0].Created == 0 {
			t.Fatalf("ann's phones are %+v, %v", all, err)
		}
		if err := h.EndDevice(t.Context(), h.ann, all[0].ID); err != nil {
			t.Fatal(err)
		}
		if all, err = h.DevicesOf(t.Context(), string(h.ann)); err != nil || len(all) != 0 {
			t.Errorf("afterwards they are %+v, %v", all, err)
		}
		es := told()
		if got := verbs(es); !slices.Equal(got, []string{"phone-added done", "phone-added done", "phone-ended done"}) || es[2].Program != h.program {
			t.Errorf("the log says %v", got)
		}
	})
}

func TestWhoseThingsAre(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		_, _, ann, _ := h.joins(h.ann)
		_, _, bob, _ := h.joins(h.bob)
		made, _, err := h.MakeKey(t.Context(), ann, "x", []string{"list"}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		h.addPhone(h.ann, false)
		phones, _ := h.DevicesOf(t.Context(), string(h.ann))
		keys, _ := h.PasskeysOf(t.Context(), string(h.ann))
		for kind, id := range map[string]string{"passkey": string(keys[0].ID), "session": string(ann.Session()), "key": string(made.ID), "device": string(phones[0].ID)} {
			got, err := h.Holders(t.Context(), kind, []string{id, "absent"})
			if err != nil || len(got) != 1 || got[id] != (Holder{string(h.ann), h.program}) {
				t.Errorf("the holder of a %s is %+v, %v", kind, got, err)
			}
		}
		got, err := h.Holders(t.Context(), "session", []string{string(ann.Session()), string(bob.Session())})
		if err != nil || len(got) != 2 || got[string(bob.Session())].Account != string(h.bob) {
			t.Errorf("the holders of two sessions are %+v, %v", got, err)
		}
		if got, err = h.Holders(t.Context(), "session", nil); err != nil || len(got) != 0 {
			t.Errorf("the holders of nothing are %+v, %v", got, err)
		}
		_, err = h.Holders(t.Context(), "staff", []string{"x"})
		is(t, "another kind", err, yesline.Invalid)
		_, err = h.Holders(t.Context(), "key", make([]string, db.MaxIn+1))
		is(t, "too many", err, yesline.Invalid)
	})
}
