package session

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
)

func verbs(es []audit.Entry) (all []string) {
	for _, e := range es {
		all = append(all, e.Verb+" "+e.Result)
	}
	return all
}

func TestSomebodyJoinsAndComesInAgain(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		told := h.records(new(atomic.Bool))
		a, cookie, who, codes := h.joins(h.ann)
		if again := h.knows(cookie); again != who || who.Person() != h.ann || who.Program() != h.program || !who.Fresh() {
			t.Errorf("joined as %+v, and behind the cookie is %+v", who, again)
		}
		if len(codes) != 10 {
			t.Errorf("%d recovery codes, want 10", len(codes))
		}
		if has, err := h.HasAccount(t.Context(), h.ann); err != nil || !has {
			t.Errorf("ann has an account: %v, %v", has, err)
		}
		if has, err := h.HasAccount(t.Context(), h.bob); err != nil || has {
			t.Errorf("bob has an account: %v, %v", has, err)
		}
		second, me := h.comesIn(a)
		if me.Person() != h.ann || me.Program() != h.program || me.Session() == who.Session() || h.knows(second) != me {
			t.Errorf("came in as %+v", me)
		}
		if got := verbs(told()); !slices.Equal(got, []string{"joined done", "signed-in done"}) {
			t.Errorf("the log says %v", got)
		}
		for _, e := range told() {
			if e.Program != h.program || e.Object != string(h.ann) || !slices.Equal(e.Subjects, []yesline.PersonID{h.ann}) || e.Actor != string(h.ann) {
				t.Errorf("the entry %+v is not ann's", e)
			}
		}
		keys, err := h.PasskeysOf(t.Context(), string(h.ann))
		if err != nil || len(keys) != 1 || keys[0].Name != "laptop" || keys[0].Synced || keys[0].Created == 0 || keys[0].Used == 0 {
			t.Errorf("ann's passkeys are %+v, %v", keys, err)
		}
	})
}

func TestWhatTheOptionsAsk(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		a, _, who, _ := h.joins(h.ann)
		o := a.read(h.registerOptions(string(h.ann)))
		if o.Selection.ResidentKey != "required" || o.Selection.UserVerification != "required" || o.RP.ID != "calls.example" {
			t.Errorf("registering asks for %+v", o)
		}
		if len(o.Exclude) != 1 || o.Exclude[0].ID != b64(a.id) || o.User.ID != b64(a.handle) {
			t.Errorf("a second passkey: %+v, want the first one excluded and the same handle", o)
		}
		if bytes.Contains(h.registerOptions(string(h.ann)), []byte(h.ann)) {
			t.Error("the options name the person")
		}
		o = a.read(h.signInOptions())
		if len(o.Allow) != 0 || o.UserVerification != "required" || o.RPID != "calls.example" {
			t.Errorf("signing in asks for %+v", o)
		}
		proof, err := h.ProofOptions(t.Context(), who)
		if o = a.read(proof); err != nil || len(o.Allow) != 1 || o.Allow[0].ID != b64(a.id) {
			t.Errorf("a proof asks for %+v, %v", o, err)
		}
		_, err = h.ProofOptions(t.Context(), Local(1000))
		is(t, "a proof of the local operator", err, yesline.Denied)
		_, err = h.RegisterOptions(t.Context(), "", make([]byte, maxHandle+1))
		is(t, "a long handle", err, yesline.Invalid)
		handle := randomBytes(16)
		given, err := h.RegisterOptions(t.Context(), "", handle)
		if o = a.read(given); err != nil || o.User.ID != b64(handle) {
			t.Errorf("the handle given is not used: %+v, %v", o, err)
		}
	})
}

// Each of these replies is wrong in one thing, and all get the same answer.
func TestWrongRepliesStayOut(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		good, _, who, _ := h.joins(h.ann)
		h.comesIn(good) // the control
		used := good.signs(h.signInOptions())
		if _, _, err := h.SignIn(t.Context(), used, Client{}); err != nil {
			t.Fatal(err)
		}
		h.staysOut("a reply that was used", used)
		for what, lie := range map[string]func(a *authenticator){
			"another origin":        func(a *authenticator) { a.origin = "https://calls.example.evil" },
			"another port":          func(a *authenticator) { a.origin = "https://calls.example:8443" },
			"another scheme":        func(a *authenticator) { a.origin = "http://calls.example" },
			"a subdomain":           func(a *authenticator) { a.origin = "https://www.calls.example" },
			"an upper-case origin":  func(a *authenticator) { a.origin = "https://CALLS.example" },
			"inside a frame":        func(a *authenticator) { a.crossOrigin = true },
			"another relying party": func(a *authenticator) { a.rpID = "evil.example" },
			"without verification":  func(a *authenticator) { a.unverified = true },
			"another ceremony":      func(a *authenticator) { a.ceremony = "webauthn.create" },
			"another key":           func(a *authenticator) { a.key = newAuthenticator(t).key },
			"an unknown passkey":    func(a *authenticator) { a.id = randomBytes(32) },
			"another handle":        func(a *authenticator) { a.handle = randomBytes(32) },
			"no handle":             func(a *authenticator) { a.handle = nil },
			"suddenly synced":       func(a *authenticator) { a.synced = true },
			"an id and another":     func(a *authenticator) { a.spoil = func(r map[string]any) { r["rawId"] = b64(randomBytes(32)) } },
			"a long reply": func(a *authenticator) {
				a.spoil = func(r map[string]any) { r["more"] = strings.Repeat("x", maxCredential) }
			},
			"a password": func(a *authenticator) { a.spoil = func(r map[string]any) { r["type"] = "password" } },
		} {
			a := *good
			lie(&a)
			h.staysOut(what, a.signs(h.signInOptions()))
		}
		h.staysOut("options for registering", good.signs(h.registerOptions("")))
		h.staysOut("options for registering in an account", good.signs(h.registerOptions(string(h.ann))))
		proof, err := h.ProofOptions(t.Context(), who)
		if err != nil {
			t.Fatal(err)
		}
		h.staysOut("options of a proof", good.signs(proof))
		h.staysOut("a challenge of nobody", good.signs([]byte(`{"challenge":"`+b64(randomBytes(57))+`"}`)))
		h.staysOut("no challenge", good.signs([]byte(`{}`)))
		h.staysOut("nothing", nil)
		h.staysOut("a megabyte", []byte(`{"id":"`+strings.Repeat("A", 1<<20)+`"}`))
		h.staysOut("deep JSON", []byte(strings.Repeat("[", 8000)))
		h.staysOut("two replies", append(good.signs(h.signInOptions()), good.signs(h.signInOptions())...))
		good.count += 100
		h.comesIn(good)
	})
}

// A challenge is changed bit by bit: none of it is taken.
func TestChallengesAreOurs(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		text := b64(h.newChallenge(registering, string(h.ann), []byte("handle")))
		if handle, err := h.readChallenge(text, registering, string(h.ann)); err != nil || string(handle) != "handle" {
			t.Fatalf("got %q, %v", handle, err)
		}
		b, _ := base64.RawURLEncoding.DecodeString(text)
		for i := range b {
			c := bytes.Clone(b)
			c[i] ^= 1
			if _, err := h.readChallenge(b64(c), registering, string(h.ann)); !errors.Is(err, yesline.NotFound) {
				t.Errorf("byte %d was changed: %v", i, err)
			}
		}
		for what, c := range map[string]struct {
			text    string
			kind    ceremony
			account string
		}{
			"another account": {text, registering, string(h.bob)}, "no account": {text, registering, ""},
			"another kind": {text, proving, string(h.ann)}, "cut": {text[:len(text)-4], registering, string(h.ann)},
			"long": {text + strings.Repeat("A", 1000), registering, string(h.ann)}, "empty": {"", registering, string(h.ann)},
		} {
			_, err := h.readChallenge(c.text, c.kind, c.account)
			is(t, what, err, yesline.NotFound)
		}
	})
}

func TestAChallengeLastsFiveMinutes(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house) {
		a, _, _, _ := h.joins(h.ann)
		early, late := h.signInOptions(), h.signInOptions()
		time.Sleep(5*time.Minute - time.Millisecond)
		if _, _, err := h.SignIn(t.Context(), a.signs(early), Client{}); err != nil {
			t.Errorf("just before its end: %v", err)
		}
		time.Sleep(time.Millisecond)
		h.staysOut("a late reply", a.signs(late))
	})
}

// A node whose clock is ahead a little gives challenges that the others take;
// one that is far ahead does not. What was used stays used, whichever clock
// sweeps.
func TestChallengesOfClocksThatDiffer(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house) {
		a := newAuthenticator(t)
		a.synced, a.counting = true, false // no counter stands in for what is tested
		if _, _, _, err := h.Join(t.Context(), h.agreed(), h.program, h.ann, a.makes(h.registerOptions("")), "cloud", Client{}); err != nil {
			t.Fatal(err)
		}
		reply := a.signs(h.signInOptions())
		if _, _, err := h.SignIn(t.Context(), reply, Client{}); err != nil {
			t.Fatal(err)
		}
		err := h.db.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			return spend(ctx, tx, "another", time.Now().Add(30*time.Minute)) // a clock that is ahead sweeps
		})
		if err != nil {
			t.Fatal(err)
		}
		h.staysOut("a used reply after a sweep of the future", reply)
		now := time.Now()
		at := func(ahead time.Duration) string {
			b := h.newChallenge(signingIn, "", nil)
			head := b[:challengeHead]
			millis := uint64(db.Millis(now.Add(ahead)))
			for i := range 8 {
				head[23-i] = byte(millis >> (8 * i))
			}
			return b64(append(bytes.Clone(head), h.challengeMAC(head, "")...))
		}
		if _, err := h.readChallenge(at(2*time.Second), signingIn, ""); err != nil {
			t.Errorf("two seconds ahead: %v", err)
		}
		_, err = h.readChallenge(at(11*time.Second), signingIn, "")
		is(t, "far ahead", err, yesline.NotFound)
		_, err = h.readChallenge(at(-5*time.Minute), signingIn, "")
		is(t, "five minutes behind", err, yesline.NotFound)
		time.Sleep(2 * time.Hour)
		h.comesIn(a)
		var spent int
		if err := h.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM spent_challenges`).Scan(&spent); err != nil || spent != 1 {
			t.Errorf("%d spent challenges are kept, %v; want the new one", spent, err)
		}
	})
}

func TestOfManyWhoReplayAReplyOneComesIn(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		a, _, _, _ := h.joins(h.ann)
		a.counting, a.count = false, 0 // a synced passkey would not tell by its counter
		h.db.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE passkeys SET sign_count = 0`)
			return err
		})
		reply := a.signs(h.signInOptions())
		var in, out atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				switch _, _, err := h.SignIn(t.Context(), reply, Client{}); {
				case err == nil:
					in.Add(1)
				case errors.Is(err, yesline.NotFound):
					out.Add(1)
				default:
					t.Errorf("signing in: %v", err)
				}
			})
		}
		wg.Wait()
		if in.Load() != 1 || out.Load() != 7 {
			t.Errorf("%d came in and %d were refused, want 1 and 7", in.Load(), out.Load())
		}
	})
}

// A counter that goes back or stands still says that there are two of a
// passkey: neither comes in with such a count, and the owner is told once.
func TestACopiedPasskeyIsRefusedAndTold(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		told := h.records(new(atomic.Bool))
		a, _, who, _ := h.joins(h.ann)
		h.comesIn(a)
		copied := *a
		copied.count -= 2
		reply := copied.signs(h.signInOptions())
		h.staysOut("a counter that went back", reply)
		h.staysOut("the same once more", reply)
		copied = *a
		copied.counting = false
		h.staysOut("a counter that stands still", copied.signs(h.signInOptions()))
		copied = *a
		copied.count -= 2
		_, err := h.Prove(t.Context(), who, copied.signs(h.signInOptions()))
		is(t, "a proof by it", err, yesline.Denied)
		es := told()
		if got := verbs(es); !slices.Equal(got, []string{"joined done", "signed-in done", "passkey-copied refused", "passkey-copied refused", "passkey-copied refused"}) {
			t.Errorf("the log says %v", got)
		}
		if last := es[len(es)-1]; !slices.Equal(last.Subjects, []yesline.PersonID{h.ann}) {
			t.Errorf("%+v is not told to ann", last)
		}
		h.comesIn(a) // the one that counts on still works
	})
}

func TestASyncedPasskeyDoesNotCount(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		a := newAuthenticator(t)
		a.synced, a.counting = true, false
		if _, _, _, err := h.Join(t.Context(), h.agreed(), h.program, h.ann, a.makes(h.registerOptions("")), "cloud", Client{}); err != nil {
			t.Fatal(err)
		}
		h.comesIn(a)
		h.comesIn(a)
		if keys, err := h.PasskeysOf(t.Context(), string(h.ann)); err != nil || len(keys) != 1 || !keys[0].Synced {
			t.Errorf("ann's passkeys are %+v, %v", keys, err)
		}
	})
}

func TestASecondPasskeyNeedsAProofOfTheFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house) {
		told := h.records(new(atomic.Bool))
		first, cookie, who, _ := h.joins(h.ann)
		time.Sleep(ProofTime)
		second := newAuthenticator(t)
		add := func() error {
			_, err := h.AddPasskey(t.Context(), h.knows(cookie), "phone", second.makes(h.registerOptions(string(h.ann))))
			return err
		}
		is(t, "adding a passkey with an old proof", add(), yesline.Stale)
		proof, err := h.ProofOptions(t.Context(), who)
		if err != nil {
			t.Fatal(err)
		}
		proved, err := h.Prove(t.Context(), h.knows(cookie), first.signs(proof))
		if err != nil || !proved.Fresh() || proved.Session() != who.Session() || h.knows(cookie) != proved {
			t.Fatalf("proved as %+v, %v", proved, err)
		}
		if err := add(); err != nil {
			t.Fatalf("adding a passkey after a proof: %v", err)
		}
		is(t, "adding it twice", add(), yesline.Conflict)
		if _, me := h.comesIn(second); me.Person() != h.ann {
			t.Errorf("the second passkey is %v", me)
		}
		time.Sleep(ProofTime)
		if h.knows(cookie).Fresh() {
			t.Error("a proof lasts longer than five minutes")
		}
		if got := verbs(told()); !slices.Equal(got, []string{"joined done", "proved done", "passkey-added done", "signed-in done"}) {
			t.Errorf("the log says %v", got)
		}
	})
}

func TestOnlyOnesOwnPasskeyProves(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		_, _, ann, _ := h.joins(h.ann)
		bobs, cookie, bob, _ := h.joins(h.bob)
		h.knows(cookie) // and remembers
		_, err := h.Prove(t.Context(), ann, bobs.signs(h.signInOptions()))
		is(t, "bob's passkey proves ann", err, yesline.Denied)
		options, err := h.ProofOptions(t.Context(), ann)
		if err != nil {
			t.Fatal(err)
		}
		_, err = h.Prove(t.Context(), bob, bobs.signs(options))
		is(t, "ann's options prove bob", err, yesline.Denied)
		time.Sleep(2 * time.Millisecond)
		reply := bobs.signs(h.signInOptions())
		if proved, err := h.Prove(t.Context(), bob, reply); err != nil || proved == bob || h.knows(cookie) != proved {
			t.Errorf("bob proves bob: %v, %v", proved, err)
		}
		_, err = h.Prove(t.Context(), bob, reply)
		is(t, "the same reply again", err, yesline.Denied)
		h.staysOut("a reply that proved", reply)
		for _, who := range []Principal{{}, Local(1000), Service("finish"), {kind: Person, name: string(h.bob), program: h.program}} {
			_, err = h.Prove(t.Context(), who, bobs.signs(h.signInOptions()))
			is(t, fmt.Sprintf("proving %v", who), err, yesline.Denied)
		}
		if err := h.End(t.Context(), bob); err != nil {
			t.Fatal(err)
		}
		_, err = h.Prove(t.Context(), bob, bobs.signs(h.signInOptions()))
		is(t, "proving an ended session", err, yesline.Denied)
	})
}

func TestAnAccountsOptionsAreItsOwn(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		_, _, ann, _ := h.joins(h.ann)
		a := newAuthenticator(t)
		for what, options := range map[string][]byte{"bob's": h.registerOptions(string(h.bob)), "those for joining": h.registerOptions(""), "those for signing in": h.signInOptions()} {
			_, err := h.AddPasskey(t.Context(), ann, "other", a.makes(options))
			is(t, "adding by options of "+what, err, yesline.Invalid)
		}
		is2 := func(what string, reply []byte) {
			t.Helper()
			_, err := h.AddPasskey(t.Context(), ann, "other", reply)
			is(t, what, err, yesline.Invalid)
		}
		for what, lie := range map[string]func(a *authenticator){
			"another origin":       func(a *authenticator) { a.origin = "https://evil.example" },
			"an upper-case origin": func(a *authenticator) { a.origin = "https://CALLS.example" },
			"a long reply": func(a *authenticator) {
				a.spoil = func(r map[string]any) { r["more"] = strings.Repeat("x", maxCredential) }
			},
			"another relying party": func(a *authenticator) { a.rpID = "evil.example" },
			"without verification":  func(a *authenticator) { a.unverified = true },
			"another ceremony":      func(a *authenticator) { a.ceremony = "webauthn.get" },
		} {
			liar := newAuthenticator(t)
			lie(liar)
			is2(what, liar.makes(h.registerOptions(string(h.ann))))
		}
		is2("a megabyte", bytes.Repeat([]byte("{"), 1<<20))
		reply := a.makes(h.registerOptions(string(h.ann)))
		if _, err := h.AddPasskey(t.Context(), ann, "other", reply); err != nil {
			t.Fatal(err)
		}
		b := newAuthenticator(t)
		options := h.registerOptions(string(h.ann))
		if _, err := h.AddPasskey(t.Context(), ann, "b", b.makes(options)); err != nil {
			t.Fatal(err)
		}
		is2("options that were used", newAuthenticator(t).makes(options))
		for _, name := range []string{"", " ", "a\nb", strings.Repeat("x", 65), "\xff"} {
			_, err := h.AddPasskey(t.Context(), ann, name, newAuthenticator(t).makes(h.registerOptions(string(h.ann))))
			is(t, fmt.Sprintf("the name %q", name), err, yesline.Invalid)
		}
		for _, who := range []Principal{{}, Local(1000), {kind: Person, name: string(h.ann), program: h.program, proved: db.Millis(time.Now())}} {
			_, err := h.AddPasskey(t.Context(), who, "x", newAuthenticator(t).makes(h.registerOptions(string(h.ann))))
			is(t, "adding without a session", err, yesline.Denied)
		}
	})
}

func TestPasskeysAreBounded(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		_, _, ann, _ := h.joins(h.ann)
		for i := 1; i < MaxPasskeys; i++ {
			if _, err := h.AddPasskey(t.Context(), ann, "more", newAuthenticator(t).makes(h.registerOptions(string(h.ann)))); err != nil {
				t.Fatal(err)
			}
		}
		_, err := h.AddPasskey(t.Context(), ann, "more", newAuthenticator(t).makes(h.registerOptions(string(h.ann))))
		is(t, "one too many", err, yesline.TooMany)
	})
}

func TestPasskeysAreRenamedAndRemovedByTheirOwner(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house) {
		told := h.records(new(atomic.Bool))
		first, cookie, ann, codes := h.joins(h.ann)
		_, _, bob, _ := h.joins(h.bob)
		id := func() yesline.PasskeyID {
			keys, err := h.PasskeysOf(t.Context(), string(h.ann))
			if err != nil || len(keys) == 0 {
				t.Fatalf("ann's passkeys: %v, %v", keys, err)
			}
			return keys[0].ID
		}
		is(t, "bob names ann's", h.RenamePasskey(t.Context(), bob, id(), "mine"), yesline.NotFound)
		is(t, "bob removes ann's", h.RemovePasskey(t.Context(), bob, id()), yesline.NotFound)
		is(t, "a bad name", h.RenamePasskey(t.Context(), ann, id(), ""), yesline.Invalid)
		is(t, "nobody names ann's", h.RenamePasskey(t.Context(), Local(1000), id(), "x"), yesline.Denied)
		if err := h.RenamePasskey(t.Context(), ann, id(), "old laptop"); err != nil {
			t.Fatal(err)
		}
		if keys, _ := h.PasskeysOf(t.Context(), string(h.ann)); keys[0].Name != "old laptop" {
			t.Errorf("the name is %q", keys[0].Name)
		}
		// With codes left even the only passkey may go.
		if err := h.RemovePasskey(t.Context(), ann, id()); err != nil {
			t.Errorf("removing with codes left: %v", err)
		}
		h.staysOut("a removed passkey", first.signs(h.signInOptions()))
		second := newAuthenticator(t)
		if _, err := h.AddPasskey(t.Context(), ann, "second", second.makes(h.registerOptions(string(h.ann)))); err != nil {
			t.Fatal(err)
		}
		for _, c := range codes {
			if _, _, err := h.Recover(t.Context(), c, Client{}); err != nil {
				t.Fatal(err)
			}
		}
		is(t, "removing the last way in", h.RemovePasskey(t.Context(), ann, id()), yesline.Conflict)
		h.comesIn(second)
		time.Sleep(ProofTime)
		is(t, "removing with an old proof", h.RemovePasskey(t.Context(), h.knows(cookie), id()), yesline.Stale)
		var removed int
		for _, e := range told() {
			if e.Verb == "passkey-removed" && slices.Equal(e.Subjects, []yesline.PersonID{h.ann}) {
				removed++
			}
		}
		if removed != 1 {
			t.Errorf("the log tells of %d removals, want 1", removed)
		}
	})
}

func TestPasskeysNeedAPlace(t *testing.T) {
	h := newHouse(t, dbtest.SQLite(t)("content"))
	for _, p := range []Passkeys{{}, {"calls.example", "https://calls.example/", "x"}, {"calls.example", "calls.example", "x"}, {"calls.example", "https://evil.example", "x"},
		{"calls.example", "https://calls.example", ""}, {"", "https://calls.example", "x"}, {"ample", "https://calls.example", "x"}} {
		is(t, fmt.Sprintf("%+v", p), h.UsePasskeys(p), yesline.Invalid)
	}
	for _, p := range []Passkeys{{"localhost", "http://localhost:8080", "Yesline"}, {"example.org", "https://calls.example.org:8443", "Yesline"}} {
		if err := h.UsePasskeys(p); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
	h.passkeys.Store(nil)
	_, err := h.SignInOptions(t.Context())
	is(t, "before they are set up", err, yesline.Unavailable)
}

// Who cannot be written down does not come in, and the challenge is not used up.
func TestNobodyComesInByAPasskeyUntold(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		var failing atomic.Bool
		h.records(&failing)
		a, _, ann, codes := h.joins(h.ann)
		failing.Store(true)
		reply := a.signs(h.signInOptions())
		_, _, err := h.SignIn(t.Context(), reply, Client{})
		is(t, "signing in", err, yesline.Full)
		_, _, err = h.Recover(t.Context(), codes[0], Client{})
		is(t, "recovering", err, yesline.Full)
		_, err = h.AddPasskey(t.Context(), ann, "x", newAuthenticator(t).makes(h.registerOptions(string(h.ann))))
		is(t, "adding a passkey", err, yesline.Full)
		_, _, err = h.MakeKey(t.Context(), ann, "x", []string{"list"}, time.Hour)
		is(t, "making a key", err, yesline.Full)
		_, err = h.RecoveryCodes(t.Context(), ann)
		is(t, "making codes", err, yesline.Full)
		_, _, err = h.Appoint(t.Context(), Local(1000), Officer, "", anybody)
		is(t, "appointing", err, yesline.Full)
		b := newAuthenticator(t)
		_, _, _, err = h.Join(t.Context(), h.agreed(), h.program, h.bob, b.makes(h.registerOptions("")), "x", Client{})
		is(t, "joining", err, yesline.Full)
		failing.Store(false)
		if _, _, err := h.SignIn(t.Context(), reply, Client{}); err != nil {
			t.Errorf("signing in afterwards: %v", err)
		}
		if _, _, err := h.Recover(t.Context(), codes[0], Client{}); err != nil {
			t.Errorf("recovering afterwards: %v", err)
		}
		if has, _ := h.HasAccount(t.Context(), h.bob); has {
			t.Error("bob joined untold")
		}
	})
}

func FuzzCredential(f *testing.F) {
	h := newHouse(f, dbtest.SQLite(f)("content"))
	a, _, who, _ := h.joins(h.ann)
	f.Add(a.signs(h.signInOptions()))
	f.Add(a.makes(h.registerOptions("")))
	f.Add([]byte(`{"id":"AA","rawId":"AA","type":"public-key","response":{}}`))
	f.Add([]byte(`null`))
	sample, _ := json.Marshal(map[string]any{"id": "AAAA", "response": map[string]any{"attestationObject": b64([]byte{0xbf, 0xff})}})
	f.Add(sample)
	f.Fuzz(func(t *testing.T, reply []byte) {
		// Nothing from outside makes it panic, and only the seeds could be right.
		if _, me, err := h.SignIn(t.Context(), reply, Client{}); err == nil && me.Person() != h.ann {
			t.Errorf("came in as %v", me)
		}
		if _, _, err := h.registered(who.name, reply); err == nil {
			t.Error("a reply to other options was taken")
		}
	})
}

func BenchmarkSignIn(b *testing.B) {
	h := newHouse(b, dbtest.SQLite(b)("content"))
	a, _, _, _ := h.joins(h.ann)
	for b.Loop() {
		h.comesIn(a)
	}
}
