package people_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
	"yesline/internal/people"
)

// each tells a story on both databases.
func each(t *testing.T, story func(t *testing.T, r *room)) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) { story(t, openOn(t, open)) })
}

func (r *room) claims(t *testing.T, program yesline.ProgramID, s string) yesline.ClaimID {
	t.Helper()
	id, err := r.Claim(t.Context(), program, number(t, s))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// knows answers for session and capture.
func knows(account, calls bool) people.Known {
	return func(context.Context, yesline.PersonID) (bool, bool, error) { return account, calls, nil }
}

func (r *room) settles(t *testing.T, id yesline.ClaimID, known people.Known) yesline.PersonID {
	t.Helper()
	person, err := r.Settle(t.Context(), id, known)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Keys.MintVoice(t.Context(), r.programOf(t, person), person); err != nil {
		t.Fatalf("whom a claim became has no keys: %v", err)
	}
	return person
}

func (r *room) programOf(t *testing.T, person yesline.PersonID) yesline.ProgramID {
	t.Helper()
	program, err := r.People.Program(t.Context(), person)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func (r *room) count(t *testing.T, query string) (n int) {
	t.Helper()
	if err := r.House.People.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A claim makes nobody: only settling does, and settling again gives the same.
func TestAClaimBecomesAPerson(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		program := r.House.Program(t)
		claim := r.claims(t, program, "+12025550142")
		if n := r.count(t, `SELECT COUNT(*) FROM people`); n != 0 {
			t.Fatalf("a claim made %d people", n)
		}
		got, number, mask, err := r.Claimed(t.Context(), claim)
		if err != nil || got != program || number.Digits() != "+12025550142" || mask != "+1 ••• ••42" {
			t.Errorf("the claim is to %q of %s: %v", mask, got, err)
		}
		if m, err := r.ClaimMask(t.Context(), claim); err != nil || m != mask {
			t.Errorf("the mask: %q, %v", m, err)
		}
		ann := r.settles(t, claim, knows(false, false))
		// A call came in between; the claim still means the same person.
		if again := r.settles(t, claim, knows(false, true)); again != ann {
			t.Error("settling a claim twice made two people")
		}
		if met := r.meets(t, program, "+12025550142"); met != ann {
			t.Error("who calls the number meets somebody else")
		}
		hers, err := r.Reveal(t.Context(), r.permit(t, r.as(t, program, ann), access.Reveal, ann), ann)
		if err != nil || hers.Digits() != "+12025550142" {
			t.Errorf("her number: %v", err)
		}
		if _, err := r.Settle(t.Context(), yesline.NewClaimID(), knows(false, false)); !errors.Is(err, yesline.NotFound) {
			t.Errorf("a claim nobody made: %v", err)
		}
		if _, err := r.Claim(t.Context(), program, yesline.Phone{}); !errors.Is(err, yesline.Invalid) {
			t.Errorf("a claim to no number: %v", err)
		}
	})
}

// Whom a number belongs to after its claim, by what there is of its holder.
func TestWhoAClaimBecomes(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		program := r.House.Program(t)
		met := r.meets(t, program, "+12025550142")

		if got := r.settles(t, r.claims(t, program, "+12025550142"), knows(false, false)); got != met {
			t.Errorf("somebody without account and calls: got another person")
		}
		if _, err := r.Settle(t.Context(), r.claims(t, program, "+12025550142"), knows(true, false)); !errors.Is(err, yesline.Conflict) {
			t.Errorf("somebody with an account: got %v, want conflict", err)
		}
		if _, err := r.Settle(t.Context(), r.claims(t, program, "+12025550142"), knows(true, true)); !errors.Is(err, yesline.Conflict) {
			t.Errorf("somebody with an account and calls: got %v, want conflict", err)
		}
		broken := errors.New("capture does not answer")
		if _, err := r.Settle(t.Context(), r.claims(t, program, "+12025550142"), func(context.Context, yesline.PersonID) (bool, bool, error) {
			return false, false, broken
		}); !errors.Is(err, broken) {
			t.Errorf("when nobody knows: got %v", err)
		}

		heir := r.settles(t, r.claims(t, program, "+12025550142"), knows(false, true))
		if heir == met {
			t.Fatal("whoever has the number now got the calls of who had it before")
		}
		if again := r.meets(t, program, "+12025550142"); again != heir {
			t.Error("the number still finds who had it before")
		}
		masks, err := r.Masks(t.Context(), []yesline.PersonID{met, heir})
		if err != nil || masks[met] == "" || masks[heir] == "" {
			t.Errorf("the masks: %v, %v", masks, err)
		}
		if r.programOf(t, met) != program {
			t.Error("who had it before is gone")
		}
		about, err := r.Log.About(t.Context(), met, string(met), 0, 10)
		if err != nil || len(about) != 1 || about[0].Entry.Verb != "number.moved" {
			t.Errorf("who had it before was not told: %v, %v", about, err)
		}

		// In another program it is somebody else's business.
		other := r.House.Program(t)
		if got := r.settles(t, r.claims(t, other, "+12025550142"), knows(true, true)); got == heir || r.programOf(t, got) != other {
			t.Error("a claim reached into another program")
		}
	})
}

// Many settle claims to one number at once: it is one person.
func TestManySettleOneNumber(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		program := r.House.Program(t)
		before := r.meets(t, program, "+12025550142")
		ids := make([]yesline.PersonID, 8)
		claims := make([]yesline.ClaimID, len(ids))
		for i := range claims {
			claims[i] = r.claims(t, program, "+12025550142")
		}
		// Only who had the number before had calls.
		known := func(_ context.Context, p yesline.PersonID) (bool, bool, error) { return false, p == before, nil }
		var settling sync.WaitGroup
		for i, claim := range claims {
			settling.Go(func() {
				var err error
				if ids[i], err = r.Settle(t.Context(), claim, known); err != nil {
					t.Error(err)
				}
			})
		}
		settling.Wait()
		for _, id := range ids {
			if id != ids[0] || id == before {
				t.Errorf("got %s and %s, want one new person", id, ids[0])
			}
		}
		if n := r.count(t, `SELECT COUNT(*) FROM people`); n != 2 {
			t.Errorf("%d people, want 2", n)
		}
	})
}

// A claim stands for 15 minutes; then it is nothing, and swept.
func TestClaimsExpire(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		program := r.House.Program(t)
		old, young := r.claims(t, program, "+12025550142"), r.claims(t, program, "+12025550143")
		age := func(by time.Duration) {
			if err := r.House.People.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				_, err := tx.Exec(ctx, `UPDATE claims SET expires = expires - $1 WHERE id = $2`, by.Milliseconds(), string(old))
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		age(people.ClaimTime - 30*time.Second)
		if _, _, _, err := r.Claimed(t.Context(), old); err != nil {
			t.Errorf("it ended early: %v", err)
		}
		age(30 * time.Second)
		for name, try := range map[string]func() error{
			"its number": func() error { _, _, _, err := r.Claimed(t.Context(), old); return err },
			"its mark":   func() error { _, err := r.ClaimMark(t.Context(), old); return err },
			"its mask":   func() error { _, err := r.ClaimMask(t.Context(), old); return err },
			"settling":   func() error { _, err := r.Settle(t.Context(), old, knows(false, false)); return err },
		} {
			if err := try(); !errors.Is(err, yesline.NotFound) {
				t.Errorf("%s after 15 minutes: got %v, want not found", name, err)
			}
		}
		if err := r.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := r.count(t, `SELECT COUNT(*) FROM claims`); n != 1 {
			t.Errorf("%d claims are left, want 1", n)
		}
		if _, _, _, err := r.Claimed(t.Context(), young); err != nil {
			t.Errorf("the other was swept too: %v", err)
		}
	})
}

// A claim is renewed while it stands, and ends an hour after it began.
func TestRenewingAClaim(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		claim := r.claims(t, r.House.Program(t), "+12025550142")
		passes := func(by time.Duration) {
			t.Helper()
			if err := r.House.People.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				_, err := tx.Exec(ctx, `UPDATE claims SET expires = expires - $1, created = created - $1`, by.Milliseconds())
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		for range 4 { // 14, 28, 42, 56 minutes
			passes(14 * time.Minute)
			if err := r.Renew(t.Context(), claim); err != nil {
				t.Fatal(err)
			}
		}
		passes(3 * time.Minute)
		if _, err := r.ClaimMask(t.Context(), claim); err != nil {
			t.Errorf("after 59 minutes: %v", err)
		}
		passes(2 * time.Minute)
		if err := r.Renew(t.Context(), claim); !errors.Is(err, yesline.NotFound) {
			t.Errorf("after an hour: got %v, want not found", err)
		}
		if err := r.Renew(t.Context(), yesline.NewClaimID()); !errors.Is(err, yesline.NotFound) {
			t.Errorf("a claim nobody made: %v", err)
		}
	})
}

// Two claims to one number have one mark, and it is not what people are found by.
func TestMarksOfClaims(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		one, other := r.House.Program(t), r.House.Program(t)
		mark := func(id yesline.ClaimID) string {
			m, err := r.ClaimMark(t.Context(), id)
			if err != nil || len(m) != 32 {
				t.Fatalf("%d bytes, %v", len(m), err)
			}
			return string(m)
		}
		first := mark(r.claims(t, one, "+12025550142"))
		if mark(r.claims(t, one, "+12025550142")) != first {
			t.Error("one number has two marks")
		}
		if mark(r.claims(t, one, "+12025550143")) == first || mark(r.claims(t, other, "+12025550142")) == first {
			t.Error("two numbers, or two programs, have one mark")
		}
		var found int
		if err := r.House.People.QueryRow(t.Context(), `SELECT COUNT(*) FROM claims WHERE blind = $1`, []byte(first)).Scan(&found); err != nil || found != 0 {
			t.Errorf("the mark ties %d rows of another database to people (%v)", found, err)
		}
	})
}

// A sealed number of a claim is bound to it.
func TestASwappedClaimDoesNotOpen(t *testing.T) {
	t.Parallel()
	r := open(t)
	program := r.House.Program(t)
	ann, bob := r.claims(t, program, "+12025550142"), r.claims(t, program, "+12025550143")
	if err := r.House.People.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE claims SET number = (SELECT number FROM claims WHERE id = $1) WHERE id = $2`, string(bob), string(ann))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := r.Claimed(t.Context(), ann); !errors.Is(err, yesline.Tampered) {
		t.Errorf("got %v, want does not match", err)
	}
}

// Numbers that cost whoever calls them are nobody's to claim.
func TestCostlyNumbersAreNotClaimed(t *testing.T) {
	t.Parallel()
	r := open(t)
	program := r.House.Program(t)
	for _, s := range []string{"+19002345678", "+18002345678", "+449012345678", "+498001234567", "+491801234567"} {
		if _, err := r.Claim(t.Context(), program, number(t, s)); !errors.Is(err, yesline.Invalid) {
			t.Errorf("%s: got %v, want invalid", s, err)
		}
	}
	for _, s := range []string{"+12025550142", "+447400123456", "+4915123456789"} {
		r.claims(t, program, s)
	}
}

// 100,000 sign-ups at once cost a bounded number of rows, and another program
// does not feel them.
func TestAStormOfClaims(t *testing.T) {
	t.Parallel()
	r := open(t)
	program, other := r.House.Program(t), r.House.Program(t)
	began := time.Now()
	var storming sync.WaitGroup
	for w := range 20 {
		storming.Go(func() {
			for i := range 5000 {
				_, err := r.Claim(t.Context(), program, number(t, fmt.Sprintf("+1202%07d", 2000000+w*5000+i)))
				if err != nil && !errors.Is(err, yesline.TooMany) {
					t.Error(err)
					return
				}
			}
		})
	}
	storming.Wait()
	took := time.Since(began)
	if rows, most := r.count(t, `SELECT COUNT(*) FROM claims`), 200+20*int(took/time.Second+1); rows > most || rows < 200 {
		t.Errorf("%d claims stand after %v, want 200 to %d", rows, took, most)
	}
	if n := r.count(t, `SELECT COUNT(*) FROM people`); n != 0 {
		t.Errorf("the storm made %d people", n)
	}
	r.claims(t, other, "+12025550142")
	t.Logf("100,000 claims in %v", took)
}

// What stands is bounded whoever lets claims in, as many nodes might.
func TestTheTableOfClaimsIsBounded(t *testing.T) {
	t.Parallel()
	r := open(t)
	program := r.House.Program(t)
	claim := r.claims(t, program, "+12025550142")
	if err := r.House.People.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 19998)
			INSERT INTO claims (id, program, blind, number, mask, person, created, expires)
			SELECT 'x' || i, program, blind, number, mask, person, created, expires FROM n, claims WHERE id = $1`, string(claim))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	r.claims(t, program, "+12025550143") // the 20,000th
	if _, err := r.Claim(t.Context(), program, number(t, "+12025550144")); !errors.Is(err, yesline.TooMany) {
		t.Errorf("one more than can stand: got %v, want too many", err)
	}
	r.claims(t, r.House.Program(t), "+12025550144")
}

// Who is forgotten leaves no claim behind, settled or not.
func TestForgetTakesClaims(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		program := r.House.Program(t)
		ann := r.settles(t, r.claims(t, program, "+12025550142"), knows(false, false))
		r.claims(t, program, "+12025550142")
		bobs := r.claims(t, program, "+12025550143")
		carl := r.settles(t, r.claims(t, program, "+12025550144"), knows(false, false))
		r.settles(t, r.claims(t, program, "+12025550144"), knows(false, true))
		for _, gone := range []yesline.PersonID{ann, carl} {
			if err := r.Forget(t.Context(), gone); err != nil {
				t.Fatal(err)
			}
		}
		if n := r.count(t, `SELECT COUNT(*) FROM claims`); n != 2 {
			t.Errorf("%d claims are left, want bob's and that of who has carl's number now", n)
		}
		r.settles(t, bobs, knows(false, false))
	})
}
