package session

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"yesline"
	"yesline/internal/db"
)

// CeremonyTime is how long the options of a passkey ceremony may be answered.
const CeremonyTime = 5 * time.Minute

// A challenge says by itself what it is for and when it was made, so that
// asking for one stores nothing:
//
//	16 random bytes, 8 of the time in milliseconds, 1 of the ceremony,
//	the account's handle (registering), 32 of HMAC-SHA-256 over these and the account
//
// It works once: ceremonies that succeed note it in spent_challenges.
const (
	challengeHead = 16 + 8 + 1
	maxHandle     = 64 // WebAuthn section 5.4.3
	clockSkew     = 10 * time.Second
	spentTime     = time.Hour // longer than a challenge lives, for clocks that are set back
)

// ceremony is what a challenge is for. A reply to one is none to another.
type ceremony byte

const (
	registering ceremony = 'r' // of an account, or while joining of none
	signingIn   ceremony = 's'
	proving     ceremony = 'p' // of an account
)

func (s *Sessions) findChallengeKey(ctx context.Context) error {
	made := make([]byte, 32)
	rand.Read(made)
	err := s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		err := tx.QueryRow(ctx, `SELECT key FROM challenge_keys WHERE id = 1`).Scan(&s.challenges)
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		s.challenges = made
		_, err = tx.Exec(ctx, `INSERT INTO challenge_keys (id, key) VALUES (1, $1)`, made)
		return err
	})
	if err != nil {
		return fmt.Errorf("reading the key of challenges: %w", err)
	}
	return nil
}

func (s *Sessions) challengeMAC(head []byte, account string) []byte {
	m := hmac.New(sha256.New, s.challenges)
	m.Write(joined([]string{"yesline passkey challenge", string(head), account}))
	return m.Sum(nil)
}

func (s *Sessions) newChallenge(what ceremony, account string, handle []byte) []byte {
	head := make([]byte, 16, challengeHead+len(handle))
	rand.Read(head)
	head = binary.BigEndian.AppendUint64(head, uint64(db.Millis(time.Now())))
	head = append(head, byte(what))
	head = append(head, handle...)
	return append(head, s.challengeMAC(head, account)...)
}

// readChallenge gives the handle in a challenge of ours that is not too old.
// The error is yesline.NotFound.
func (s *Sessions) readChallenge(text string, what ceremony, account string) (handle []byte, err error) {
	refused := fmt.Errorf("reading a challenge: %w", yesline.NotFound)
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < challengeHead+sha256.Size {
		return nil, refused
	}
	head, mac := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if !hmac.Equal(mac, s.challengeMAC(head, account)) || ceremony(head[challengeHead-1]) != what {
		return nil, refused
	}
	age := time.Since(db.Time(int64(binary.BigEndian.Uint64(head[16:24]))))
	if age < -clockSkew || age >= CeremonyTime {
		return nil, refused
	}
	return slices.Clone(head[challengeHead:]), nil
}

// spend notes that a challenge was used. The error is yesline.NotFound when it
// was used before.
func spend(ctx context.Context, tx *db.Tx, text string, now time.Time) error {
	if _, err := tx.Exec(ctx, `DELETE FROM spent_challenges WHERE expires < $1`, db.Millis(now)); err != nil {
		return err
	}
	n, err := tx.Exec(ctx, `INSERT INTO spent_challenges (challenge, expires) VALUES ($1, $2) ON CONFLICT DO NOTHING`,
		hashOf(text), db.Millis(now.Add(spentTime)))
	if err == nil && n != 1 {
		err = yesline.NotFound
	}
	return err
}
