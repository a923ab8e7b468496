package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"
	"golang.org/x/time/rate"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/db"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	LinkTime         = 15 * time.Minute    // a person's sign-in link
	OperatorLinkTime = 24 * time.Hour      // an operator's
	IdleTime         = 12 * time.Hour      // a session that nobody used
	SessionTime      = 30 * 24 * time.Hour // a session, however used
	seenEvery        = time.Minute         // how coarse "last seen" is
)

// Sealing seals and opens what is as good as a password. app takes the two
// from keys (SealFor and OpenFor with the purpose "session").
type Sealing struct {
	Seal, Open func(ctx context.Context, program yesline.ProgramID, context, data []byte) ([]byte, error)

	// MAC marks rows under a program's key, or the house's for the program "", so
	// that nobody who can only write the database makes one (MACFor with the same
	// purpose). Without it rows are not marked, and codes are kept under a key of
	// this process.
	MAC func(ctx context.Context, program yesline.ProgramID, data []byte) ([]byte, error)
}

// Sessions knows who is asking. It is made by New.
type Sessions struct {
	// Record is the log's, and tells people who got a way into their account:
	// an invitation, a signing in. app sets it before anybody comes. Without it
	// nobody is invited, and signing in is not told.
	Record func(ctx context.Context, tx *db.Tx, e audit.Entry) (audit.Ref, error)

	content    *db.DB
	realm      string
	sealing    Sealing
	nonces     nonces
	decoy      atomic.Pointer[storedDevice] // opened for an unknown user
	nobody     ha1                          // and what their answer is checked against
	passkeys   atomic.Pointer[webauthn.WebAuthn]
	challenges []byte // the key under which challenges are made
	codes      []byte // and codes, without Sealing.MAC
	known      known
	recovering *rate.Limiter

	mu       sync.Mutex // guards touching
	touching map[string]bool
}

// New prepares the tables in the content database. The realm is part of every
// SIP password's hash: changing it ends all devices.
func New(ctx context.Context, content *db.DB, realm string, sealing Sealing) (*Sessions, error) {
	if !plainWord(realm) || len(realm) > 128 {
		return nil, fmt.Errorf("the SIP realm is 1 to 128 letters, digits, dots, dashes or @: %w", yesline.Invalid)
	}
	if sealing.Seal == nil || sealing.Open == nil {
		return nil, errors.New("sessions need keys to seal with")
	}
	if err := content.Migrate(ctx, "session", migrations); err != nil {
		return nil, err
	}
	s := &Sessions{content: content, realm: realm, sealing: sealing, nobody: randomHA1(), touching: map[string]bool{},
		recovering: rate.NewLimiter(recoverEvery, recoverBurst), codes: make([]byte, 32)}
	s.nonces.init()
	s.known.init()
	rand.Read(s.codes)
	if err := s.findChallengeKey(ctx); err != nil {
		return nil, err
	}
	return s, s.findDecoy(ctx)
}

// newToken is 256 random bits, and what of it is stored.
func newToken() (token, hash string) {
	var b [32]byte
	rand.Read(b[:])
	token = base64.RawURLEncoding.EncodeToString(b[:])
	return token, hashOf(token)
}

const tokenLength = 43

func hashOf(token string) string {
	h := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(h[:])
}

// told is the entry of something that gives a way into a person's account. It
// is theirs to read; an operator's own is the house's.
func told(verb string, by Principal, program yesline.ProgramID, person yesline.PersonID) audit.Entry {
	e := audit.Entry{Program: program, Actor: by.String(), Verb: verb, Object: string(person), Result: "done"}
	if person != "" {
		e.Subjects = []yesline.PersonID{person}
	}
	return e
}

// tell writes an entry, if there is a log.
func (s *Sessions) tell(ctx context.Context, tx *db.Tx, e audit.Entry) error {
	if s.Record == nil {
		return nil
	}
	_, err := s.Record(ctx, tx, e)
	return err
}

// Staffed reports whether anybody works here. In a house without staff the first
// operator's link is shown.
func (s *Sessions) Staffed(ctx context.Context) (bool, error) {
	staffed, err := isStaffed(ctx, s.content.QueryRow)
	if err != nil {
		return false, fmt.Errorf("looking for staff: %w", err)
	}
	return staffed, nil
}

// Forget removes a person's ways in: links, sessions, devices, passkeys,
// recovery codes and keys.
func (s *Sessions) Forget(ctx context.Context, person yesline.PersonID) error {
	if person == "" {
		return fmt.Errorf("forgetting nobody: %w", yesline.Invalid)
	}
	err := s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := touchAll(ctx, tx, string(person)); err != nil {
			return err
		}
		for _, q := range []string{
			`DELETE FROM links WHERE person = $1`,
			`DELETE FROM sessions WHERE person = $1`,
			`DELETE FROM devices WHERE person = $1`,
			`DELETE FROM passkeys WHERE account = $1`,
			`DELETE FROM recovery_codes WHERE account = $1`,
			`DELETE FROM api_keys WHERE account = $1`,
		} {
			if _, err := tx.Exec(ctx, q, string(person)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("forgetting a person's sessions: %w", err)
	}
	return s.findDecoy(ctx)
}

// touchAll tells every node that an account's sessions and keys changed.
func touchAll(ctx context.Context, tx *db.Tx, account string) error {
	sessions, err := texts(tx.Query(ctx, `SELECT id FROM sessions WHERE account = $1 AND ended = 0`, account))
	if err != nil {
		return err
	}
	for _, id := range sessions {
		if err := tx.Touch(ctx, Watch(yesline.SessionID(id))); err != nil {
			return err
		}
	}
	keys, err := texts(tx.Query(ctx, `SELECT id FROM api_keys WHERE account = $1`, account))
	if err != nil {
		return err
	}
	for _, id := range keys {
		if err := tx.Touch(ctx, WatchKey(yesline.KeyID(id))); err != nil {
			return err
		}
	}
	return nil
}

// texts reads rows of one column.
func texts(rows *sql.Rows, err error) (all []string, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	return all, rows.Err()
}

// principalRow is how a Principal lies in tables.
type principalRow struct{ kind, name, program, person string }

func (p Principal) columns() (kind, name, program, person string) {
	if p.kind == Person {
		return string(p.kind), "", string(p.program), p.name
	}
	return string(p.kind), p.name, string(p.program), ""
}

func (c principalRow) principal() Principal {
	name := c.name
	if Kind(c.kind) == Person {
		name = c.person
	}
	return Principal{kind: Kind(c.kind), name: name, program: yesline.ProgramID(c.program)}
}
