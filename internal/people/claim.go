package people

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/nyaruka/phonenumbers"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/db"
	"yesline/internal/keys"
)

// ClaimTime is how long a claim to a number stands.
const ClaimTime = 15 * time.Minute

// A storm of sign-ups is bounded three times: claims of a program are taken at
// this rate by each node, this many at once, and this many stand in the table.
const (
	claimRate  = 20
	claimBurst = 200
	claimsMost = 20_000
)

// costly are the kinds of number that no code is sent to: who calls or texts
// them pays, and somebody else earns.
var costly = map[phonenumbers.PhoneNumberType]bool{
	phonenumbers.PREMIUM_RATE: true, phonenumbers.SHARED_COST: true, phonenumbers.TOLL_FREE: true,
	phonenumbers.UAN: true, phonenumbers.PAGER: true, phonenumbers.VOICEMAIL: true,
}

// Claim notes that somebody says a number is theirs. It does the same for
// numbers that somebody has and that nobody has, tells nothing of either, and
// makes no person: Settle does, once the number is proven. yesline.TooMany
// beyond the program's limits, yesline.Invalid for a number that costs money.
func (p *People) Claim(ctx context.Context, program yesline.ProgramID, number yesline.Phone) (yesline.ClaimID, error) {
	if number.Digits() == "" {
		return "", fmt.Errorf("a claim to no number: %w", yesline.Invalid)
	}
	if !p.claims.allow(program) {
		return "", fmt.Errorf("claims to numbers: %w", yesline.TooMany)
	}
	if n, err := phonenumbers.Parse(number.Digits(), ""); err == nil && costly[phonenumbers.GetNumberType(n)] {
		return "", fmt.Errorf("no code is sent to a number of that kind: %w", yesline.Invalid)
	}
	if err := p.sweepSometimes(ctx); err != nil {
		return "", err
	}
	full, err := p.claimsFull(ctx, program)
	if err != nil {
		return "", err
	}
	if full {
		return "", fmt.Errorf("claims that stand: %w", yesline.TooMany)
	}
	blind, err := p.keys.MACFor(ctx, program, keys.Index, []byte(number.Digits()))
	if err != nil {
		return "", err
	}
	id := yesline.NewClaimID()
	sealed, err := p.keys.SealFor(ctx, program, keys.People, claimContext(id), []byte(number.Digits()))
	if err != nil {
		return "", err
	}
	now := time.Now()
	err = p.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO claims (id, program, blind, number, mask, person, created, expires)
			VALUES ($1, $2, $3, $4, $5, '', $6, $7)`,
			string(id), string(program), blind, sealed, mask(number), db.Millis(now), db.Millis(now.Add(ClaimTime)))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("keeping a claim: %w", err)
	}
	return id, nil
}

func claimContext(id yesline.ClaimID) []byte { return []byte("claim/" + string(id)) }

// claimsFull counts outside the transaction: a few too many do no harm, and
// claims of one program do not wait for one another.
func (p *People) claimsFull(ctx context.Context, program yesline.ProgramID) (full bool, err error) {
	err = p.db.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM claims WHERE program = $1 LIMIT 1 OFFSET $2)`,
		string(program), claimsMost-1).Scan(&full)
	return full, err
}

// claim is a row that still stands.
type claim struct {
	program yesline.ProgramID
	blind   []byte
	number  yesline.Phone
	mask    string
	person  yesline.PersonID // "" until settled
}

func (p *People) claimed(ctx context.Context, id yesline.ClaimID) (c claim, err error) {
	var sealed []byte
	err = p.db.QueryRow(ctx, `SELECT program, blind, number, mask, person FROM claims WHERE id = $1 AND expires > $2`,
		string(id), db.Millis(time.Now())).Scan(&c.program, &c.blind, &sealed, &c.mask, &c.person)
	if errors.Is(err, sql.ErrNoRows) {
		return claim{}, fmt.Errorf("a claim: %w", yesline.NotFound)
	}
	if err != nil {
		return claim{}, err
	}
	plain, err := p.keys.OpenFor(ctx, c.program, keys.People, claimContext(id), sealed)
	if err != nil {
		return claim{}, fmt.Errorf("opening the number of a claim: %w", err)
	}
	c.number, err = yesline.NewPhone(string(plain))
	return c, err
}

// Claimed gives the number of a claim, so that a code can be sent to it, or
// yesline.NotFound. Who may call it is one line in arch_test.go.
func (p *People) Claimed(ctx context.Context, id yesline.ClaimID) (program yesline.ProgramID, number yesline.Phone, mask string, err error) {
	c, err := p.claimed(ctx, id)
	return c.program, c.number, c.mask, err
}

// ClaimMark tells two claims to one number apart from claims to two: equal for
// one number in one program, and not what the index of people finds by.
func (p *People) ClaimMark(ctx context.Context, id yesline.ClaimID) ([]byte, error) {
	c, err := p.claimed(ctx, id)
	if err != nil {
		return nil, err
	}
	return p.keys.MACFor(ctx, c.program, keys.Index, []byte("codes/"+c.number.Digits()))
}

// ClaimMask is how pages show the number of a claim, or yesline.NotFound.
func (p *People) ClaimMask(ctx context.Context, id yesline.ClaimID) (string, error) {
	var m string
	err := p.db.QueryRow(ctx, `SELECT mask FROM claims WHERE id = $1 AND expires > $2`, string(id), db.Millis(time.Now())).Scan(&m)
	if errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("a claim: %w", yesline.NotFound)
	}
	return m, err
}

// renewMost is how long a claim stands at most, however it is renewed.
const renewMost = time.Hour

// Renew lets a claim stand for ClaimTime from now, at most an hour from its
// beginning: an invitation may be opened late. yesline.NotFound once it ended.
func (p *People) Renew(ctx context.Context, id yesline.ClaimID) error {
	now := time.Now()
	err := p.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		var created, expires int64
		err := tx.QueryRow(ctx, `SELECT created, expires FROM claims WHERE id = $1 AND expires > $2`, string(id), db.Millis(now)).Scan(&created, &expires)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("a claim: %w", yesline.NotFound)
		}
		if err != nil {
			return err
		}
		until := min(db.Millis(now.Add(ClaimTime)), created+renewMost.Milliseconds())
		_, err = tx.Exec(ctx, `UPDATE claims SET expires = $1 WHERE id = $2`, max(until, expires), string(id))
		return err
	})
	if err != nil {
		return fmt.Errorf("renewing a claim: %w", err)
	}
	return nil
}

// Known tells of a person whether they have an account (a passkey, not only a
// link) and whether they ever had a call. app asks session and capture.
type Known func(ctx context.Context, person yesline.PersonID) (account, calls bool, err error)

// Settle says who a claim makes one, once the caller has seen the number
// proven. Nobody has the number: a new person. Somebody has it without account
// and calls: that one. Somebody with calls but no account: a new person takes
// the number over and the old one keeps their calls, for a number is not a
// person. Somebody with an account: yesline.Conflict. Settling a claim again
// gives the same person; nothing but account and calls is asked anew.
func (p *People) Settle(ctx context.Context, id yesline.ClaimID, known Known) (yesline.PersonID, error) {
	c, err := p.claimed(ctx, id)
	if err != nil {
		return "", err
	}
	const turns = 4 // others may settle the same number meanwhile
	for range turns {
		person, done, err := p.settle(ctx, id, c, known)
		if err != nil {
			return "", fmt.Errorf("settling a claim: %w", err)
		}
		if done {
			// As in Meet: people first, then keys; settling again mends a crash.
			return person, p.keys.AddPerson(ctx, c.program, person)
		}
	}
	return "", fmt.Errorf("settling a claim that many settle: %w", yesline.Conflict)
}

// settle is one turn: done is false when somebody was quicker.
func (p *People) settle(ctx context.Context, id yesline.ClaimID, c claim, known Known) (person yesline.PersonID, done bool, err error) {
	holder, err := p.find(ctx, c.program, c.blind)
	if errors.Is(err, yesline.NotFound) {
		return p.enter(ctx, id, c, "")
	}
	if err != nil {
		return "", false, err
	}
	account, calls, err := known(ctx, holder)
	switch {
	case err != nil:
		return "", false, err
	case account:
		return "", false, fmt.Errorf("the number has an account: %w", yesline.Conflict)
	case calls && holder != c.person: // whom this claim made already keeps the number
		return p.enter(ctx, id, c, holder)
	}
	return holder, true, p.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error { return give(ctx, tx, id, holder) })
}

// enter adds a person for a claim; before is who has the number until now.
func (p *People) enter(ctx context.Context, id yesline.ClaimID, c claim, before yesline.PersonID) (person yesline.PersonID, done bool, err error) {
	person = yesline.NewPersonID()
	sealed, err := p.keys.SealFor(ctx, c.program, keys.People, numberContext(person), []byte(c.number.Digits()))
	if err != nil {
		return "", false, err
	}
	now := db.Millis(time.Now())
	err = p.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		done = false
		e := audit.Entry{Program: c.program, Actor: "svc:people", Verb: "person.added", Result: "done"}
		if before != "" {
			e.Verb, e.Object, e.Subjects = "number.moved", string(before), []yesline.PersonID{before}
			n, err := tx.Exec(ctx, `UPDATE people SET blind = $1, moved = $2 WHERE id = $3 AND blind = $4`,
				[]byte(before), now, string(before), c.blind)
			if err != nil || n == 0 {
				return err
			}
		}
		n, err := tx.Exec(ctx, `INSERT INTO people (id, program, blind, number, mask, place, created)
			VALUES ($1, $2, $3, $4, $5, '', $6) ON CONFLICT (program, blind) DO NOTHING`,
			string(person), string(c.program), c.blind, sealed, c.mask, now)
		if err != nil || n == 0 {
			return err
		}
		if err := give(ctx, tx, id, person); err != nil {
			return err
		}
		done = true
		_, err = p.log.Record(ctx, tx, e)
		return err
	})
	return person, done, err
}

// give notes whom a claim became.
func give(ctx context.Context, tx *db.Tx, id yesline.ClaimID, person yesline.PersonID) error {
	_, err := tx.Exec(ctx, `UPDATE claims SET person = $1 WHERE id = $2`, string(person), string(id))
	return err
}

// Sweep removes claims that have expired. app calls it every minute, so that no
// number of a stranger stays.
func (p *People) Sweep(ctx context.Context) error {
	err := p.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM claims WHERE expires <= $1`, db.Millis(time.Now()))
		return err
	})
	if err != nil {
		return fmt.Errorf("sweeping claims: %w", err)
	}
	return nil
}

// sweepEvery is how often claims sweep by themselves, before they add to the table.
const sweepEvery = 10 * time.Second

func (p *People) sweepSometimes(ctx context.Context) error {
	now := time.Now().UnixNano()
	last := p.swept.Load()
	if now-last < int64(sweepEvery) || !p.swept.CompareAndSwap(last, now) {
		return nil
	}
	return p.Sweep(ctx)
}
