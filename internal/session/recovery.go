package session

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"yesline"
	"yesline/internal/db"
)

const (
	recoveryCodes = 10
	codeBytes     = 12 // 96 random bits: 20 letters in four groups of five
	recoverEvery  = 50 // tries a second in this process; the doors have brakes for each address
	recoverBurst  = 100
)

// codeRow is a recovery code as it lies in the table.
type codeRow struct {
	hash, account, kind, program string
	created                      int64
	mac                          string
}

func (r codeRow) parts() []string {
	return []string{"recovery", r.hash, r.account, r.kind, r.program, strconv.FormatInt(r.created, 10)}
}

// RecoveryCodes gives who ten new codes, each of which signs in once without a
// passkey. They are shown once and kept hashed; the codes from before end.
func (s *Sessions) RecoveryCodes(ctx context.Context, who Principal) (codes []string, err error) {
	if err := proven(who); err != nil {
		return nil, err
	}
	err = s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := alive(ctx, tx, who, time.Now()); err != nil {
			return err
		}
		if codes, err = s.putCodes(ctx, tx, who); err != nil {
			return err
		}
		return s.tell(ctx, tx, told("recovery-codes-made", who, who.program, who.Person()))
	})
	if err != nil {
		return nil, fmt.Errorf("making recovery codes: %w", err)
	}
	return codes, nil
}

func (s *Sessions) putCodes(ctx context.Context, tx *db.Tx, p Principal) (codes []string, err error) {
	if _, err := tx.Exec(ctx, `DELETE FROM recovery_codes WHERE account = $1`, p.name); err != nil {
		return nil, err
	}
	for range recoveryCodes {
		code := randomWord(codeBytes)
		r := codeRow{hash: hashOf(code), account: p.name, kind: string(p.kind), program: string(p.program), created: db.Millis(time.Now())}
		if r.mac, err = s.mark(ctx, r.program, r.parts()...); err != nil {
			return nil, err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO recovery_codes (code_hash, account, kind, program, created, mac) VALUES ($1, $2, $3, $4, $5, $6)`,
			r.hash, r.account, r.kind, r.program, r.created, r.mac); err != nil {
			return nil, err
		}
		codes = append(codes, code[:5]+"-"+code[5:10]+"-"+code[10:15]+"-"+code[15:])
	}
	return codes, nil
}

// plainCode reads a code as people write it: in capitals, with spaces, and with
// digits where we have only letters.
func plainCode(code string) string {
	if len(code) > 64 {
		return ""
	}
	return strings.NewReplacer("-", "", " ", "", "0", "o", "1", "l", "8", "b").Replace(strings.ToLower(code))
}

// RecoveryLeft counts the codes of an account that may still be used.
func (s *Sessions) RecoveryLeft(ctx context.Context, account string) (left int, err error) {
	if err = s.content.QueryRow(ctx, `SELECT COUNT(*) FROM recovery_codes WHERE account = $1`, account).Scan(&left); err != nil {
		return 0, fmt.Errorf("counting recovery codes: %w", err)
	}
	return left, nil
}

// Recover opens a session by a recovery code, once. Sessions and passkeys of
// the account stay: their owner may end them. A wrong or used code is
// yesline.NotFound, and a storm of tries yesline.TooMany.
func (s *Sessions) Recover(ctx context.Context, code string, from Client) (cookie string, who Principal, err error) {
	if !s.recovering.Allow() {
		return "", Principal{}, fmt.Errorf("recovering an account: %w", yesline.TooMany)
	}
	refused := fmt.Errorf("recovering an account: %w", yesline.NotFound)
	code = plainCode(code)
	if len(code) != letters.EncodedLen(codeBytes) {
		return "", Principal{}, refused
	}
	// Most tries of a stranger end here, without a transaction.
	var found bool
	if err := s.content.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM recovery_codes WHERE code_hash = $1)`, hashOf(code)).Scan(&found); err != nil {
		return "", Principal{}, fmt.Errorf("recovering an account: %w", err)
	}
	if !found {
		return "", Principal{}, refused
	}
	err = s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, err := s.useCode(ctx, tx, hashOf(code))
		if err != nil {
			return err
		}
		if cookie, who, err = s.begin(ctx, tx, p, from, time.Now()); err != nil {
			return err
		}
		return s.tell(ctx, tx, told("recovered", who, who.program, who.Person()))
	})
	if err != nil {
		return "", Principal{}, fmt.Errorf("recovering an account: %w", err)
	}
	return cookie, who, nil
}

func (s *Sessions) useCode(ctx context.Context, tx *db.Tx, hash string) (Principal, error) {
	r := codeRow{hash: hash}
	err := tx.QueryRow(ctx, `SELECT account, kind, program, created, mac FROM recovery_codes WHERE code_hash = $1`, hash).
		Scan(&r.account, &r.kind, &r.program, &r.created, &r.mac)
	if errors.Is(err, sql.ErrNoRows) {
		return Principal{}, yesline.NotFound
	}
	if err != nil {
		return Principal{}, err
	}
	if err := s.checkMark(ctx, r.mac, r.program, r.parts()...); err != nil {
		return Principal{}, err
	}
	_, err = tx.Exec(ctx, `DELETE FROM recovery_codes WHERE code_hash = $1`, hash)
	return Principal{kind: Kind(r.kind), name: r.account, program: yesline.ProgramID(r.program)}, err
}
