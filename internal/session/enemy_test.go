package session

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"yesline"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
)

// The enemy in these stories can write the database, or held an account before
// its owner did.

func TestAClaimIsNotProvenInTheTable(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		join := func(cookie string) error {
			_, _, _, err := h.Join(t.Context(), cookie, h.program, h.ann, newAuthenticator(t).makes(h.registerOptions("")), "x", Client{})
			return err
		}
		cookie, claim := h.claims()
		h.exec(`UPDATE signups SET code = '', state = 'proven', terms = 'abc' WHERE claim = $1`, string(claim))
		_, err := h.ClaimOf(t.Context(), cookie)
		is(t, "a claim that was proven by hand", err, yesline.NotFound)
		is(t, "agreeing", h.AgreeClaim(t.Context(), cookie, "abc", ""), yesline.NotFound)
		is(t, "joining", join(cookie), yesline.NotFound)

		agreed, other := h.agreed(), h.agreed()
		for column, value := range map[string]any{"state": "asked", "terms": "other", "choices": "license", "program": string(yesline.NewProgramID()),
			"claim": string(yesline.NewClaimID()), "expires": int64(1) << 60, "mac": ""} {
			var old any
			if err := h.db.QueryRow(t.Context(), `SELECT `+column+` FROM signups WHERE cookie_hash = $1`, hashOf(agreed)).Scan(&old); err != nil {
				t.Fatal(err)
			}
			h.exec(`UPDATE signups SET `+column+` = $1 WHERE cookie_hash = $2`, value, hashOf(agreed))
			_, err := h.ClaimOf(t.Context(), agreed)
			is(t, "another "+column, err, yesline.NotFound)
			is(t, "joining with another "+column, join(agreed), yesline.NotFound)
			h.exec(`UPDATE signups SET `+column+` = $1 WHERE cookie_hash = $2`, old, hashOf(agreed))
		}
		h.exec(`DELETE FROM signups WHERE cookie_hash = $1`, hashOf(other))
		h.exec(`UPDATE signups SET cookie_hash = $1 WHERE cookie_hash = $2`, hashOf(other), hashOf(agreed))
		_, err = h.ClaimOf(t.Context(), other)
		is(t, "somebody else's steps", err, yesline.NotFound)
		h.exec(`UPDATE signups SET cookie_hash = $1 WHERE cookie_hash = $2`, hashOf(agreed), hashOf(other))
		is(t, "the claim as it was", join(agreed), nil)
	})
}

// holding is all that a person can hold, and what of it works.
type holding struct {
	h          *house
	a          *authenticator
	who        Principal
	cookie     string
	link       string
	codes      []string
	key        Key
	bearer     string
	phone      *sipPhone
	watch, own *db.Held // of the session and the key
}

func (h *house) holds(person yesline.PersonID) *holding {
	h.t.Helper()
	all := &holding{h: h}
	all.a, all.cookie, all.who, all.codes = h.joins(person)
	key, secret, err := h.MakeKey(h.t.Context(), all.who, "x", []string{"list"}, time.Hour)
	if err != nil {
		h.t.Fatal(err)
	}
	all.key, all.bearer = key, string(secret.Bytes())
	all.phone, all.link = h.addPhone(person, false), h.link(person)
	for watch, held := range map[string]**db.Held{Watch(all.who.Session()): &all.watch, WatchKey(key.ID): &all.own} {
		if *held, err = h.db.Hold(h.t.Context(), watch); err != nil {
			h.t.Fatal(err)
		}
		h.t.Cleanup((*held).Release)
	}
	return all
}

// working are the ways in that work. It uses the link and a code.
func (all *holding) working() (ways []string) {
	all.h.t.Helper()
	ctx := all.h.t.Context()
	_, who := all.h.Who(ctx, all.cookie)
	_, key := all.h.WhoKey(ctx, all.bearer)
	_, _, phone := all.phone.answer("INVITE")
	_, _, link := all.h.Redeem(ctx, all.link)
	_, _, code := all.h.Recover(ctx, all.codes[0], Client{})
	for _, w := range []struct {
		name string
		err  error
		no   error
	}{{"session", who, yesline.NotFound}, {"key", key, yesline.NotFound}, {"phone", phone, yesline.Denied}, {"link", link, yesline.NotFound}, {"code", code, yesline.NotFound}} {
		if w.err == nil {
			ways = append(ways, w.name)
		} else if !errors.Is(w.err, w.no) {
			all.h.t.Errorf("the %s: %v", w.name, w.err)
		}
	}
	return ways
}

var everyWay = []string{"session", "key", "phone", "link", "code"}

// Who held an account before, and let its passkey go, does not share it with
// the one who joins.
func TestWhoHeldAnAccountBeforeStaysOut(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		before, bobs := h.holds(h.ann), h.holds(h.bob)
		h.knows(before.cookie) // and remembers
		_, gone := h.comesIn(before.a)
		if err := h.End(t.Context(), gone); err != nil {
			t.Fatal(err)
		}
		old, err := h.db.Hold(t.Context(), Watch(gone.Session()))
		if err != nil {
			t.Fatal(err)
		}
		defer old.Release()
		ended := func() (at int64) {
			t.Helper()
			if err := h.db.QueryRow(t.Context(), `SELECT ended FROM sessions WHERE id = $1`, string(gone.Session())).Scan(&at); err != nil {
				t.Fatal(err)
			}
			return at
		}
		endedAt, oldAt := ended(), old.Revision()
		time.Sleep(2 * time.Millisecond)
		keys, err := h.PasskeysOf(t.Context(), string(h.ann))
		if err != nil {
			t.Fatal(err)
		}
		_, _, _, err = h.Join(t.Context(), h.agreed(), h.program, h.ann, newAuthenticator(t).makes(h.registerOptions("")), "x", Client{})
		is(t, "joining while the passkey is there", err, yesline.Conflict)
		if err := h.RemovePasskey(t.Context(), before.who, keys[0].ID); err != nil {
			t.Fatal(err)
		}
		if has, err := h.HasAccount(t.Context(), h.ann); err != nil || !has {
			t.Errorf("without a passkey, ann has an account: %v, %v", has, err)
		}
		session, key := before.watch.Revision(), before.own.Revision()
		bobsSession, bobsKey := bobs.watch.Revision(), bobs.own.Revision()
		_, cookie, who, codes := h.joins(h.ann)
		if ways := before.working(); len(ways) != 0 {
			t.Errorf("who held the account before comes in by %v", ways)
		}
		if before.watch.Revision() == session || before.own.Revision() == key {
			t.Error("other nodes are not told")
		}
		if bobs.watch.Revision() != bobsSession || bobs.own.Revision() != bobsKey || old.Revision() != oldAt || ended() != endedAt {
			t.Error("other sessions and keys changed")
		}
		var links int
		if err := h.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM links WHERE person = $1`, string(h.ann)).Scan(&links); err != nil || links != 0 {
			t.Errorf("%d links are kept, %v", links, err)
		}
		if h.knows(cookie) != who {
			t.Error("who joined is not in")
		}
		if _, _, err := h.Recover(t.Context(), codes[0], Client{}); err != nil {
			t.Errorf("the new codes: %v", err)
		}
		if ways := bobs.working(); !slices.Equal(ways, everyWay) {
			t.Errorf("bob is left with %v", ways)
		}
		h.comesIn(bobs.a)
	})
}

// Each way in is an account, as long as it works.
func TestWhatIsAnAccount(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.holds(h.bob) // who has everything all the time
		has := func(what string, person yesline.PersonID, want bool) {
			t.Helper()
			if got, err := h.HasAccount(t.Context(), person); err != nil || got != want {
				t.Errorf("%s: an account is %v, %v", what, got, err)
			}
		}
		has("nothing", h.ann, false)
		owner := map[string]string{"passkeys": "account", "recovery_codes": "account", "sessions": "account", "api_keys": "account", "devices": "person", "links": "person"}
		for _, c := range []struct{ way, end string }{
			{"passkeys", ""}, {"recovery_codes", ""}, {"sessions", "ended = 1"}, {"sessions", "expires = 1"}, {"sessions", "seen = 1"},
			{"api_keys", "expires = 1"}, {"links", "used = 1"}, {"links", "expires = 1"},
		} {
			person := yesline.NewPersonID()
			h.holds(person)
			for way, column := range owner {
				if way != c.way {
					h.exec(`DELETE FROM `+way+` WHERE `+column+` = $1`, string(person))
				}
			}
			has(c.way+" alone", person, true)
			if c.end != "" {
				h.exec(`UPDATE `+c.way+` SET `+c.end+` WHERE `+owner[c.way]+` = $1`, string(person))
				has(c.way+" with "+c.end, person, false)
			}
		}
	})
}

// Whoever has recovery codes left shows first that it is them: a stolen old
// cookie gets no passkey.
func TestAStolenCookieGetsNoPasskey(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		_, _, who, _ := h.joins(h.ann)
		h.joins(h.bob)
		keys, _ := h.PasskeysOf(t.Context(), string(h.ann))
		if err := h.RemovePasskey(t.Context(), who, keys[0].ID); err != nil {
			t.Fatal(err)
		}
		stolen := who
		stolen.proved = 1
		add := func() error {
			_, err := h.AddPasskey(t.Context(), stolen, "x", newAuthenticator(t).makes(h.registerOptions(string(h.ann))))
			return err
		}
		is(t, "with codes left", add(), yesline.Stale)
		h.exec(`DELETE FROM recovery_codes WHERE account = $1`, string(h.ann))
		is(t, "the first one of somebody who has nothing else", add(), nil)
	})
}

// A dismissed officer has a friend who can write the database.
func TestADismissedColleagueStaysOut(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.hired(Operator, "")
		cookie, who := h.hired(Officer, h.program)
		a := newAuthenticator(t)
		if _, err := h.AddPasskey(t.Context(), who, "x", a.makes(h.registerOptions(who.String()))); err != nil {
			t.Fatal(err)
		}
		codes, err := h.RecoveryCodes(t.Context(), who)
		if err != nil {
			t.Fatal(err)
		}
		made, secret, err := h.MakeKey(t.Context(), who, "x", []string{"verify"}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		bearer := string(secret.Bytes())
		tables := []string{"sessions", "api_keys", "passkeys", "recovery_codes"}
		for _, table := range tables {
			h.exec(`CREATE TABLE old_` + table + ` AS SELECT * FROM ` + table)
		}
		h.knows(cookie)
		if _, err := h.WhoKey(t.Context(), bearer); err != nil {
			t.Fatal(err)
		}
		if err := h.Dismiss(t.Context(), Local(1000), yesline.StaffID(who.String())); err != nil {
			t.Fatal(err)
		}
		for _, table := range tables {
			h.exec(`DELETE FROM `+table+` WHERE account = $1`, who.String())
			h.exec(`INSERT INTO `+table+` SELECT * FROM old_`+table+` WHERE account = $1`, who.String())
		}
		out := func(when string) {
			t.Helper()
			_, err := h.Who(t.Context(), cookie)
			is(t, "a session "+when, err, yesline.NotFound)
			_, err = h.WhoKey(t.Context(), bearer)
			is(t, "a key "+when, err, yesline.NotFound)
			_, err = h.WhoKeyID(t.Context(), made.ID)
			is(t, "a key by its id "+when, err, yesline.NotFound)
			h.staysOut("a passkey "+when, a.signs(h.signInOptions()))
			_, _, err = h.Recover(t.Context(), codes[0], Client{})
			is(t, "a recovery code "+when, err, yesline.NotFound)
		}
		out("that was put back")
		h.exec(`UPDATE staff SET ended = 0 WHERE id = $1`, who.String())
		out("of an end that was taken back")
		_, err = h.ColleagueByID(t.Context(), yesline.StaffID(who.String()))
		is(t, "a colleague whose end was taken back", err, yesline.NotFound)
		h.exec(`DELETE FROM staff WHERE id = $1`, who.String())
		out("of nobody")
	})
}

// A session that is hidden from its owner's list, and from Dismiss, is none;
// nor is it once it was remembered.
func TestAHiddenSessionIsNone(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		cookie, _ := h.signIn(h.ann)
		h.exec(`UPDATE sessions SET account = $1`, string(h.bob))
		h.doesNotKnow(cookie)

		remembered, who := h.hired(Officer, "")
		h.knows(remembered)
		h.exec(`UPDATE sessions SET account = 'x' WHERE account = $1`, who.String())
		if err := h.Dismiss(t.Context(), Local(1000), yesline.StaffID(who.String())); err != nil {
			t.Fatal(err)
		}
		h.doesNotKnow(remembered)
	})
}

// What the staff table says of somebody is what we wrote, or they are nobody.
func TestStaffIsNotMadeInTheTable(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.known.most = 0
		cookie, who := h.hired(Buyer, h.program)
		id := yesline.StaffID(who.String())
		was, err := h.ColleagueByID(t.Context(), id)
		if err != nil || was.By != "os:1000" || was.Created == 0 || was.Ended != 0 || was.Role != Buyer || was.Program != h.program {
			t.Errorf("the colleague is %+v, %v", was, err)
		}
		for column, value := range map[string]any{"role": "officer", "program": "", "appointed_by": "stf_x", "created": int64(1), "ended": int64(1), "mac": ""} {
			var old any
			if err := h.db.QueryRow(t.Context(), `SELECT `+column+` FROM staff WHERE id = $1`, string(id)).Scan(&old); err != nil {
				t.Fatal(err)
			}
			h.exec(`UPDATE staff SET `+column+` = $1`, value)
			_, err := h.ColleagueByID(t.Context(), id)
			is(t, "another "+column, err, yesline.NotFound)
			h.doesNotKnow(cookie)
			is(t, "dismissing with another "+column, h.Dismiss(t.Context(), Local(1000), id), yesline.NotFound)
			h.exec(`UPDATE staff SET `+column+` = $1`, old)
		}
		h.knows(cookie)
		// A link of ours says what somebody was; the staff says what they are.
		token, err := h.Link(t.Context(), Principal{kind: Operator, name: string(id), program: h.program})
		if err != nil {
			t.Fatal(err)
		}
		h.redeemFails(token)
		if token, err = h.Link(t.Context(), Principal{kind: Operator, name: string(id)}); err != nil {
			t.Fatal(err)
		}
		h.redeemFails(token)
		_, operator := h.hired(Operator, h.program)
		if token, err = h.Link(t.Context(), Principal{kind: Operator, name: operator.String()}); err != nil {
			t.Fatal(err)
		}
		h.redeemFails(token)
		// The house still knows who works for a program that is gone.
		h.lost.Store(true)
		h.doesNotKnow(cookie)
	})
}

// What is sealed opens for the same phone of the same person only.
func TestAPhoneIsNotGivenAwayInTheTable(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		phone := h.addPhone(h.ann, false)
		id := string(phone.device.ID)
		for column, value := range map[string]string{"person": string(h.bob), "program": string(yesline.NewProgramID()), "id": string(yesline.NewDeviceID())} {
			var old string
			if err := h.db.QueryRow(t.Context(), `SELECT `+column+` FROM devices WHERE username = $1`, phone.username).Scan(&old); err != nil {
				t.Fatal(err)
			}
			h.exec(`UPDATE devices SET `+column+` = $1 WHERE username = $2`, value, phone.username)
			if d, who, err := phone.answer("INVITE"); err == nil {
				t.Errorf("with another %s the phone is %+v of %v", column, d, who)
			}
			h.exec(`UPDATE devices SET `+column+` = $1 WHERE username = $2`, old, phone.username)
		}
		phone.isKnown("INVITE")
		d, found, err := h.device(t.Context(), phone.username)
		if err != nil || !found {
			t.Fatal(found, err)
		}
		d.username = h.addPhone(h.ann, false).username
		if _, err := h.Sessions.open(t.Context(), d); err == nil {
			t.Error("a password opens for another phone of the same person")
		}
		if err := h.EndDevice(t.Context(), h.ann, yesline.DeviceID(id)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := phone.answer("INVITE"); err == nil {
			t.Error("a phone that ended is known")
		}
	})
}

// A thief's phone is in the list, whatever came after it.
func TestPhonesAreBoundedAndNoneIsHidden(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.addPhone(h.bob, false)
		first := h.addPhone(h.ann, false)
		phones := []*sipPhone{first}
		for range MaxPhones - 1 {
			phones = append(phones, h.addPhone(h.ann, false))
		}
		_, _, _, err := h.AddDevice(t.Context(), h.program, h.ann, false)
		is(t, "one too many", err, yesline.TooMany)
		h.addPhone(h.bob, false)
		h.records(new(atomic.Bool))
		cal := yesline.NewPersonID()
		cals := h.addPhone(cal, false)
		if err := h.EndDevice(t.Context(), cal, cals.device.ID); err != nil {
			t.Fatal(err)
		}
		// One whose row stays, because no other's id is higher.
		slices.SortFunc(phones[1:], func(a, b *sipPhone) int { return cmp.Compare(a.device.ID, b.device.ID) })
		last := phones[len(phones)-1]
		if err := h.EndDevice(t.Context(), h.ann, last.device.ID); err != nil {
			t.Fatal(err)
		}
		phones[len(phones)-1] = h.addPhone(h.ann, false) // in its place
		for _, p := range phones[1:] {
			if err := h.EndDevice(t.Context(), h.ann, p.device.ID); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 * MaxPhones {
			p := h.addPhone(h.ann, false)
			if err := h.EndDevice(t.Context(), h.ann, p.device.ID); err != nil {
				t.Fatal(err)
			}
		}
		all, err := h.DevicesOf(t.Context(), string(h.ann))
		if err != nil || len(all) != 1 || all[0].ID != first.device.ID {
			t.Errorf("ann's phones are %+v, %v; want the first", all, err)
		}
		var rows int
		if err := h.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM devices`).Scan(&rows); err != nil || rows > 5 {
			t.Errorf("%d rows are kept, %v; want ann's phone and perhaps one more, cal's, and bob's two", rows, err)
		}
		first.isKnown("INVITE")
		if err := h.EndDevice(t.Context(), h.ann, first.device.ID); err != nil {
			t.Fatal(err)
		}
	})
}

// A house whose only phone has ended costs a stranger what it cost before any.
func TestAnEndedPhoneIsNoDecoy(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		h := newHouse(t, open("content"))
		phone := h.addPhone(h.ann, false)
		if err := h.EndDevice(t.Context(), h.ann, phone.device.ID); err != nil {
			t.Fatal(err)
		}
		other := h.second(open("content"))
		phone.h = other
		phone.isRefused("INVITE")
	})
}

func TestAHouseIsEmptyWithoutStaff(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		staffed := func(when string, want bool) {
			t.Helper()
			if got, err := h.Staffed(t.Context()); err != nil || got != want {
				t.Errorf("%s: staffed is %v, %v", when, got, err)
			}
		}
		h.signIn(h.ann)
		token, err := h.FirstOperator(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		staffed("before anybody came", false)
		id, _, err := h.Appoint(t.Context(), Local(1000), Auditor, h.program, anybody)
		if err != nil {
			t.Fatal(err)
		}
		staffed("with an auditor", true)
		h.redeemFails(token)
		if err := h.Dismiss(t.Context(), Local(1000), id); err != nil {
			t.Fatal(err)
		}
		staffed("without", false)
		if _, who, err := h.Redeem(t.Context(), token); err != nil || who.Kind() != Operator {
			t.Errorf("the first operator is %v, %v", who, err)
		}
		staffed("with an operator", true)
	})
}

// Everybody sees their own things.
func TestListsAreOfOneAccount(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		anns := h.holds(h.ann)
		h.holds(h.bob)
		account := string(h.ann)
		keys, err := h.KeysOf(t.Context(), account)
		if err != nil || len(keys) != 1 || keys[0].ID != anns.key.ID {
			t.Errorf("ann's keys are %+v, %v", keys, err)
		}
		if passkeys, err := h.PasskeysOf(t.Context(), account); err != nil || len(passkeys) != 1 {
			t.Errorf("ann's passkeys are %+v, %v", passkeys, err)
		}
		if phones, err := h.DevicesOf(t.Context(), account); err != nil || len(phones) != 1 || phones[0].ID != anns.phone.device.ID {
			t.Errorf("ann's phones are %+v, %v", phones, err)
		}
		if all := h.open(anns.who); len(all) != 1 || all[0].ID != anns.who.Session() {
			t.Errorf("ann's sessions are %+v", all)
		}
		if left, err := h.RecoveryLeft(t.Context(), account); err != nil || left != recoveryCodes {
			t.Errorf("ann has %d codes, %v", left, err)
		}
	})
}

// Bob in ann's session is nobody: it is not made fresh, and makes nothing.
func TestASessionIsOfItsAccount(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		_, _, ann, _ := h.joins(h.ann)
		bobs, _, mixed, _ := h.joins(h.bob)
		mixed.session = ann.Session()
		_, err := h.Prove(t.Context(), mixed, bobs.signs(h.signInOptions()))
		is(t, "proving", err, yesline.Denied)
		_, _, err = h.MakeKey(t.Context(), mixed, "x", []string{"list"}, time.Hour)
		is(t, "making a key", err, yesline.Denied)
	})
}

// A session that ran out while a request of it was going on makes nothing.
func TestAnOldSessionMakesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house) {
		a, _, who, _ := h.joins(h.ann)
		time.Sleep(SessionTime)
		who.proved = db.Millis(time.Now())
		_, _, err := h.MakeKey(t.Context(), who, "x", []string{"list"}, time.Hour)
		is(t, "making a key", err, yesline.Denied)
		_, err = h.Prove(t.Context(), who, a.signs(h.signInOptions()))
		is(t, "proving", err, yesline.Denied)
	})
}

// What cannot be a token of ours is refused without asking the database.
func TestNonsenseAsksNothing(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // so that each question fails
		_, err := h.Who(ctx, strings.Repeat("A", tokenLength))
		is(t, "a session that could be", err, context.Canceled)
		for _, text := range []string{"", "x", strings.Repeat("A", tokenLength+1), strings.Repeat("A", tokenLength-1)} {
			_, err := h.Who(ctx, text)
			is(t, "a session", err, yesline.NotFound)
			_, err = h.ClaimOf(ctx, text)
			is(t, "a claim", err, yesline.NotFound)
			_, err = h.WhoKey(ctx, keyPrefix+text)
			is(t, "a key", err, yesline.NotFound)
			_, err = h.WhoKey(ctx, "yy_"+strings.Repeat("A", tokenLength))
			is(t, "another prefix", err, yesline.NotFound)
			_, err = h.WhoKeyID(ctx, yesline.KeyID("key_"+text))
			is(t, "a key's id", err, yesline.NotFound)
			_, err = h.RedeemAny(ctx, text, Client{})
			is(t, "a link", err, yesline.NotFound)
			_, _, err = h.Recover(ctx, text, Client{})
			is(t, "a recovery code", err, yesline.NotFound)
		}
	})
}

// A wrong recovery code is refused without a transaction, so that a storm of
// them stops nobody who writes.
func TestAWrongCodeWaitsForNobody(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		outside, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		err := h.db.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, _, err := h.Recover(outside, "aaaaa-aaaaa-aaaaa-aaaaa", Client{})
			is(t, "while somebody writes", err, yesline.NotFound)
			_, err = h.useCode(ctx, tx, hashOf("used between the look and the use"))
			is(t, "a code that is used meanwhile", err, yesline.NotFound)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// A node whose clock is behind does not take back when a key was used.
func TestUseOnlyGoesOn(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		anns := h.holds(h.ann)
		late := db.Millis(time.Now().Add(time.Hour))
		h.exec(`UPDATE api_keys SET used = $1`, late)
		h.use(t.Context(), &seen{who: Principal{key: anns.key.ID}}, time.Now())
		if keys, err := h.KeysOf(t.Context(), string(h.ann)); err != nil || keys[0].Used != late {
			t.Errorf("the key was used %+v, %v; want %d", keys, err, late)
		}
	})
}
