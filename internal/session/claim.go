package session

import (
	"context"
	"crypto/hmac"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"yesline"
	"yesline/internal/db"
)

const (
	ClaimTime  = 15 * time.Minute // from the sending of a code to the passkey
	claimTries = 5
	maxChoices = 1024 // bytes
)

// BeginClaim lets somebody who says that a number is theirs go on by a cookie,
// for 15 minutes, and keeps a mark of the code that was sent to the number. A
// claim has one such cookie: beginning again ends the one before.
func (s *Sessions) BeginClaim(ctx context.Context, program yesline.ProgramID, claim yesline.ClaimID, code yesline.Secret) (cookie string, err error) {
	if program == "" || claim == "" || len(code.Bytes()) < 4 {
		return "", fmt.Errorf("a claim is to a program and has a code: %w", yesline.Invalid)
	}
	mark, err := s.codeMark(ctx, string(program), string(claim), string(code.Bytes()))
	if err != nil {
		return "", fmt.Errorf("beginning a claim: %w", err)
	}
	cookie, hash := newToken()
	now := time.Now()
	r := signup{hash: hash, state: codeSent, expires: db.Millis(now.Add(ClaimTime))}
	r.ID, r.Program = claim, program
	if r.mac, err = s.mark(ctx, string(program), r.parts()...); err != nil {
		return "", fmt.Errorf("beginning a claim: %w", err)
	}
	err = s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM signups WHERE expires < $1 OR claim = $2`, db.Millis(now), string(claim)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO signups (cookie_hash, claim, program, code, tries, state, terms, choices, expires, mac)
			VALUES ($1, $2, $3, $4, 0, $5, '', '', $6, $7)`, r.hash, string(claim), string(program), mark, r.state, r.expires, r.mac)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("beginning a claim: %w", err)
	}
	return cookie, nil
}

// ClaimOf is how far the holder of a claim's cookie is. The error is
// yesline.NotFound when it is unknown or over.
func (s *Sessions) ClaimOf(ctx context.Context, cookie string) (Claim, error) {
	r, err := s.readClaim(ctx, s.content.QueryRow, cookie)
	if err != nil {
		return Claim{}, fmt.Errorf("looking up a claim: %w", err)
	}
	return r.Claim, nil
}

// signup is a claim as it lies in the table. The mark is over all but the code,
// which has a mark of its own, and the tries.
type signup struct {
	Claim
	hash, code, state string
	expires           int64
	mac               string
}

// The states of a signup.
const (
	codeSent  = "asked"
	codeShown = "proven"
)

func (r signup) parts() []string {
	return []string{"signup", r.hash, string(r.ID), string(r.Program), r.state, r.Terms, r.Choices, strconv.FormatInt(r.expires, 10)}
}

func (s *Sessions) readClaim(ctx context.Context, row func(context.Context, string, ...any) *sql.Row, cookie string) (r signup, err error) {
	if len(cookie) != tokenLength {
		return signup{}, yesline.NotFound
	}
	r.hash = hashOf(cookie)
	err = row(ctx, `SELECT claim, program, code, state, terms, choices, expires, mac FROM signups WHERE cookie_hash = $1 AND expires > $2`,
		r.hash, db.Millis(time.Now())).Scan(&r.ID, &r.Program, &r.code, &r.state, &r.Terms, &r.Choices, &r.expires, &r.mac)
	if errors.Is(err, sql.ErrNoRows) {
		err = yesline.NotFound
	}
	if err == nil {
		err = s.checkMark(ctx, r.mac, string(r.Program), r.parts()...)
	}
	if err != nil {
		return signup{}, err
	}
	r.Proven = r.state == codeShown
	return r, nil
}

// keep writes a step of a signup down, under a new mark.
func (s *Sessions) keep(ctx context.Context, tx *db.Tx, r signup) error {
	mac, err := s.mark(ctx, string(r.Program), r.parts()...)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE signups SET code = $1, state = $2, terms = $3, choices = $4, mac = $5 WHERE claim = $6 AND cookie_hash = $7`,
		r.code, r.state, r.Terms, r.Choices, mac, string(r.ID), r.hash)
	return err
}

// ProveClaim checks the code that somebody read in the message to the number.
// A wrong one is yesline.Denied; the fifth ends the claim, and then and for
// whatever is over the error is yesline.NotFound.
func (s *Sessions) ProveClaim(ctx context.Context, cookie, code string) error {
	if len(code) > 64 {
		code = ""
	}
	var outcome error
	err := s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		outcome, err = s.tryCode(ctx, tx, cookie, code)
		return err
	})
	if err == nil {
		err = outcome
	}
	if err != nil {
		return fmt.Errorf("proving a number by its code: %w", err)
	}
	return nil
}

// tryCode counts a try and gives its outcome beside the error of the database,
// so that the count of a wrong one is kept.
func (s *Sessions) tryCode(ctx context.Context, tx *db.Tx, cookie, code string) (outcome, err error) {
	r, err := s.readClaim(ctx, tx.QueryRow, cookie)
	if err != nil || r.Proven {
		return nil, err
	}
	given, err := s.codeMark(ctx, string(r.Program), string(r.ID), code)
	if err != nil {
		return nil, err
	}
	if hmac.Equal([]byte(given), []byte(r.code)) {
		r.code, r.state = "", codeShown
		return nil, s.keep(ctx, tx, r)
	}
	if _, err := tx.Exec(ctx, `UPDATE signups SET tries = tries + 1 WHERE claim = $1 AND cookie_hash = $2`, string(r.ID), r.hash); err != nil {
		return nil, err
	}
	n, err := tx.Exec(ctx, `DELETE FROM signups WHERE claim = $1 AND tries >= $2`, string(r.ID), claimTries)
	if n > 0 {
		return yesline.NotFound, err
	}
	return yesline.Denied, err
}

// AgreeClaim notes which terms somebody agreed to while signing up, by the
// hash of what they were shown, and what they chose. The number must be proven
// (yesline.Denied).
func (s *Sessions) AgreeClaim(ctx context.Context, cookie, termsHash, choices string) error {
	if termsHash == "" || len(termsHash) > 128 || !plainWord(termsHash) || len(choices) > maxChoices {
		return fmt.Errorf("agreeing needs the hash of the terms and short choices: %w", yesline.Invalid)
	}
	err := s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		r, err := s.readClaim(ctx, tx.QueryRow, cookie)
		if err == nil && !r.Proven {
			err = yesline.Denied
		}
		if err != nil {
			return err
		}
		r.Terms, r.Choices = termsHash, choices
		return s.keep(ctx, tx, r)
	})
	if err != nil {
		return fmt.Errorf("agreeing to the terms: %w", err)
	}
	return nil
}

// Join makes an account of a claim: a first passkey from the reply to
// RegisterOptions for "", a session and ten recovery codes, in one transaction
// that ends the claim. The person must be of the claim's program and have no
// passkey (yesline.Conflict); number and terms must be done (yesline.Denied).
// Every other way in that the person had ends: whoever held one stays out.
func (s *Sessions) Join(ctx context.Context, cookie string, program yesline.ProgramID, person yesline.PersonID, credentialJSON []byte, name string, from Client) (
	sessionCookie string, who Principal, codes []string, err error) {
	if program == "" || person == "" || !isName(name) {
		return "", Principal{}, nil, fmt.Errorf("joining needs a person of a program and a name for the passkey: %w", yesline.Invalid)
	}
	r, challenge, err := s.registered("", credentialJSON)
	if err != nil {
		return "", Principal{}, nil, err
	}
	r.name = name
	p := Principal{kind: Person, name: string(person), program: program}
	err = s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		now := time.Now()
		if err := s.endClaim(ctx, tx, cookie, program); err != nil {
			return err
		}
		var has bool
		err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM passkeys WHERE account = $1)`, p.name).Scan(&has)
		if err == nil && has {
			err = yesline.Conflict
		}
		if err != nil {
			return err
		}
		if err := spend(ctx, tx, challenge, now); err != nil {
			return yesline.Invalid
		}
		if err := closeAccount(ctx, tx, p.name, db.Millis(now)); err != nil {
			return err
		}
		if err := s.putPasskey(ctx, tx, p, r); err != nil {
			return err
		}
		if codes, err = s.putCodes(ctx, tx, p); err != nil {
			return err
		}
		if sessionCookie, who, err = s.begin(ctx, tx, p, from, now); err != nil {
			return err
		}
		return s.tell(ctx, tx, detailed(told("joined", who, program, person), "passkey", r.id))
	})
	if err != nil {
		return "", Principal{}, nil, fmt.Errorf("joining: %w", err)
	}
	return sessionCookie, who, codes, nil
}

// endClaim takes a claim whose steps are done.
func (s *Sessions) endClaim(ctx context.Context, tx *db.Tx, cookie string, program yesline.ProgramID) error {
	r, err := s.readClaim(ctx, tx.QueryRow, cookie)
	if err != nil {
		return err
	}
	if !r.Proven || r.Terms == "" || r.Program != program {
		return yesline.Denied
	}
	_, err = tx.Exec(ctx, `DELETE FROM signups WHERE claim = $1 AND cookie_hash = $2`, string(r.ID), r.hash)
	return err
}
