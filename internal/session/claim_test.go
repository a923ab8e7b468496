package session

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"yesline"
	"yesline/internal/db/dbtest"
)

func (h *house) claims() (cookie string, claim yesline.ClaimID) {
	h.t.Helper()
	claim = yesline.NewClaimID()
	cookie, err := h.BeginClaim(context.Background(), h.program, claim, yesline.NewSecret([]byte(code)))
	if err != nil {
		h.t.Fatal(err)
	}
	return cookie, claim
}

func TestTheStepsOfAClaim(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		cookie, claim := h.claims()
		sees := func(want Claim) {
			t.Helper()
			if got, err := h.ClaimOf(t.Context(), cookie); err != nil || got != want {
				t.Errorf("the claim is %+v, %v; want %+v", got, err, want)
			}
		}
		join := func(cookie string, program yesline.ProgramID, person yesline.PersonID) error {
			_, _, _, err := h.Join(t.Context(), cookie, program, person, newAuthenticator(t).makes(h.registerOptions("")), "x", Client{})
			return err
		}
		sees(Claim{ID: claim, Program: h.program})
		is(t, "agreeing before the code", h.AgreeClaim(t.Context(), cookie, "abc", ""), yesline.Denied)
		is(t, "joining before the code", join(cookie, h.program, h.ann), yesline.Denied)
		is(t, "a wrong code", h.ProveClaim(t.Context(), cookie, "000000"), yesline.Denied)
		is(t, "no code", h.ProveClaim(t.Context(), cookie, ""), yesline.Denied)
		is(t, "the right code", h.ProveClaim(t.Context(), cookie, code), nil)
		is(t, "the right code again", h.ProveClaim(t.Context(), cookie, code), nil)
		sees(Claim{ID: claim, Program: h.program, Proven: true})
		is(t, "joining before the terms", join(cookie, h.program, h.ann), yesline.Denied)
		for _, hash := range []string{"", "a b", strings.Repeat("a", 129)} {
			is(t, "bad terms", h.AgreeClaim(t.Context(), cookie, hash, ""), yesline.Invalid)
		}
		is(t, "long choices", h.AgreeClaim(t.Context(), cookie, "abc", strings.Repeat("a", maxChoices+1)), yesline.Invalid)
		is(t, "agreeing", h.AgreeClaim(t.Context(), cookie, "abc", "share license"), nil)
		sees(Claim{ID: claim, Program: h.program, Proven: true, Terms: "abc", Choices: "share license"})
		is(t, "joining another program", join(cookie, yesline.NewProgramID(), h.ann), yesline.Denied)
		is(t, "joining as nobody", join(cookie, h.program, ""), yesline.Invalid)
		is(t, "joining", join(cookie, h.program, h.ann), nil)
		_, err := h.ClaimOf(t.Context(), cookie)
		is(t, "a claim that is over", err, yesline.NotFound)
		is(t, "joining twice", join(cookie, h.program, h.bob), yesline.NotFound)
		is(t, "joining as somebody who did", join(h.agreed(), h.program, h.ann), yesline.Conflict)
		_, err = h.ClaimOf(t.Context(), "")
		is(t, "no cookie", err, yesline.NotFound)
		for _, bad := range []func() (string, error){
			func() (string, error) { return h.BeginClaim(t.Context(), "", claim, yesline.NewSecret([]byte(code))) },
			func() (string, error) {
				return h.BeginClaim(t.Context(), h.program, "", yesline.NewSecret([]byte(code)))
			},
			func() (string, error) { return h.BeginClaim(t.Context(), h.program, claim, yesline.Secret{}) },
		} {
			_, err := bad()
			is(t, "a claim without its parts", err, yesline.Invalid)
		}
	})
}

// Terms that came into the row without a code make nobody a member, be it in a
// house that marks nothing, and one set of options makes one account.
func TestJoiningHasItsOwnLocks(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.Sessions.sealing.MAC = nil
		cookie, claim := h.claims()
		h.exec(`UPDATE signups SET terms = 'abc' WHERE claim = $1`, string(claim))
		options := h.registerOptions("")
		join := func(cookie string, person yesline.PersonID) error {
			_, _, _, err := h.Join(t.Context(), cookie, h.program, person, newAuthenticator(t).makes(options), "x", Client{})
			return err
		}
		is(t, "without a code", join(cookie, h.ann), yesline.Denied)
		is(t, "joining", join(h.agreed(), h.ann), nil)
		is(t, "by the same options", join(h.agreed(), h.bob), yesline.Invalid)
	})
}

func TestFiveWrongCodesEndAClaim(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		cookie, _ := h.claims()
		for range claimTries - 1 {
			is(t, "a wrong code", h.ProveClaim(t.Context(), cookie, "000000"), yesline.Denied)
		}
		is(t, "the fifth", h.ProveClaim(t.Context(), cookie, "000000"), yesline.NotFound)
		is(t, "the right code too late", h.ProveClaim(t.Context(), cookie, code), yesline.NotFound)
		other, _ := h.claims()
		for range claimTries - 1 {
			is(t, "a wrong code", h.ProveClaim(t.Context(), other, "000000"), yesline.Denied)
		}
		is(t, "the right code as the fifth", h.ProveClaim(t.Context(), other, code), nil)
	})
}

// Tries at the same time are counted one by one.
func TestManyTriesAtOnceAreFive(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		cookie, _ := h.claims()
		var denied, over atomic.Int64
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() {
				switch err := h.ProveClaim(t.Context(), cookie, "000000"); {
				case errors.Is(err, yesline.Denied):
					denied.Add(1)
				case errors.Is(err, yesline.NotFound), errors.Is(err, yesline.Conflict): // PostgreSQL gave up between others
					over.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if denied.Load() > claimTries-1 {
			t.Errorf("%d tries were answered, want at most 4 and one that ends it", denied.Load())
		}
	})
}

func TestAClaimLasts15Minutes(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house) {
		cookie, _ := h.claims()
		time.Sleep(15*time.Minute - time.Millisecond)
		if err := h.ProveClaim(t.Context(), cookie, code); err != nil {
			t.Errorf("just before its end: %v", err)
		}
		time.Sleep(time.Millisecond)
		_, err := h.ClaimOf(t.Context(), cookie)
		is(t, "afterwards", err, yesline.NotFound)
		is(t, "agreeing afterwards", h.AgreeClaim(t.Context(), cookie, "abc", ""), yesline.NotFound)
		time.Sleep(time.Millisecond)
		h.claims()
		var left int
		if err := h.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM signups`).Scan(&left); err != nil || left != 1 {
			t.Errorf("%d claims are kept, %v; want the new one alone", left, err)
		}
	})
}

func TestAClaimHasOneCookie(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		first, claim := h.claims()
		second, err := h.BeginClaim(t.Context(), h.program, claim, yesline.NewSecret([]byte("777777")))
		if err != nil {
			t.Fatal(err)
		}
		_, err = h.ClaimOf(t.Context(), first)
		is(t, "the cookie from before", err, yesline.NotFound)
		is(t, "the code from before", h.ProveClaim(t.Context(), second, code), yesline.Denied)
		is(t, "the new code", h.ProveClaim(t.Context(), second, "777777"), nil)
	})
}

func TestAnInvitationGivesAClaimAndNoSession(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		told := h.records(new(atomic.Bool))
		claim := yesline.NewClaimID()
		token, err := h.InviteLink(t.Context(), Local(1000), h.program, claim)
		if err != nil {
			t.Fatal(err)
		}
		h.redeemFails(token) // it is no way in
		got, err := h.RedeemAny(t.Context(), token, Client{})
		if err != nil || got != (Redeemed{Claim: claim}) {
			t.Errorf("got %+v, %v; want the claim alone", got, err)
		}
		_, err = h.RedeemAny(t.Context(), token, Client{})
		is(t, "a second time", err, yesline.NotFound)
		if es := told(); len(es) != 1 || es[0].Verb != "invited" || es[0].Object != string(claim) || es[0].Actor != "os:1000" || es[0].Program != h.program {
			t.Errorf("the log says %+v", es)
		}
		_, err = h.InviteLink(t.Context(), Principal{}, h.program, claim)
		is(t, "nobody invites", err, yesline.Invalid)
		_, err = h.InviteLink(t.Context(), Local(1000), "", claim)
		is(t, "to nowhere", err, yesline.Invalid)
	})
}

func FuzzClaim(f *testing.F) {
	h := newHouse(f, dbtest.SQLite(f)("content"))
	cookie, _ := h.claims()
	f.Add(cookie, "000000")
	f.Add("", "")
	f.Add(strings.Repeat("A", tokenLength), code)
	f.Add(strings.Repeat("\x00", tokenLength), "\xff")
	f.Fuzz(func(t *testing.T, given, tried string) {
		if given == cookie || tried == code {
			return
		}
		if _, err := h.ClaimOf(t.Context(), given); !errors.Is(err, yesline.NotFound) {
			t.Errorf("a claim was found: %v", err)
		}
		if err := h.ProveClaim(t.Context(), given, tried); !errors.Is(err, yesline.NotFound) {
			t.Errorf("a claim was tried: %v", err)
		}
	})
}

// FuzzToken: no text from outside is a session, a link, a key or a code.
func FuzzToken(f *testing.F) {
	h := newHouse(f, dbtest.SQLite(f)("content"))
	cookie, who := h.signIn(h.ann)
	f.Add(cookie + "=")
	f.Add(who.String())
	f.Add(h.link(h.bob)[1:])
	f.Add(keyPrefix + strings.Repeat("A", tokenLength))
	f.Add("aaaaa-aaaaa-aaaaa-aaaaa")
	f.Add(strings.Repeat("\x00", tokenLength))
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := h.Who(t.Context(), text); !errors.Is(err, yesline.NotFound) {
			t.Errorf("a session: %v", err)
		}
		if _, err := h.RedeemAny(t.Context(), text, Client{Device: text}); !errors.Is(err, yesline.NotFound) {
			t.Errorf("a link: %v", err)
		}
		if _, err := h.WhoKey(t.Context(), text); !errors.Is(err, yesline.NotFound) {
			t.Errorf("a key: %v", err)
		}
		if _, _, err := h.Recover(t.Context(), text, Client{}); !errors.Is(err, yesline.NotFound) && !errors.Is(err, yesline.TooMany) {
			t.Errorf("a code: %v", err)
		}
		if _, err := h.readChallenge(text, signingIn, ""); !errors.Is(err, yesline.NotFound) {
			t.Errorf("a challenge: %v", err)
		}
	})
}
