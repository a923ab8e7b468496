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
}

// Sessions knows who is asking. It is made by New.
type Sessions struct {
	// Record is the log's, and tells people who got a way into their account:
	// an invitation, a signing in. app sets it before anybody comes. Without it
	// nobody is invited, and signing in is not told.
	Record func(ctx context.Context, tx *db.Tx, e audit.Entry) (audit.Ref, error)

	content *db.DB
	realm   string
	sealing Sealing
	nonces  nonces
	decoy   atomic.Pointer[storedDevice] // opened for an unknown user
	nobody  ha1                          // and what their answer is checked against

	mu       sync.Mutex // guards touching
	touching map[yesline.SessionID]bool
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
	s := &Sessions{content: content, realm: realm, sealing: sealing, nobody: randomHA1(), touching: map[yesline.SessionID]bool{}}
	s.nonces.init()
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

// Link makes a sign-in link's token for who: it works once, within 15 minutes
// (an operator's within 24 hours). Machines and nobody do not sign in.
func (s *Sessions) Link(ctx context.Context, who Principal) (token string, err error) {
	if who.kind != Operator && (who.kind != Person || who.name == "" || who.program == "") {
		return "", fmt.Errorf("a sign-in link is for a person or an operator: %w", yesline.Invalid)
	}
	token, hash := newToken()
	err = s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error { return insertLink(ctx, tx, who, hash) })
	if err != nil {
		return "", fmt.Errorf("making a sign-in link: %w", err)
	}
	return token, nil
}

func insertLink(ctx context.Context, tx *db.Tx, who Principal, hash string) error {
	now, life := time.Now(), LinkTime
	if who.kind == Operator {
		life = OperatorLinkTime
	}
	if _, err := tx.Exec(ctx, `DELETE FROM links WHERE expires < $1`, db.Millis(now)); err != nil {
		return err
	}
	kind, name, program, person := who.columns()
	_, err := tx.Exec(ctx, `INSERT INTO links (token_hash, kind, name, program, person, created, expires, used)
		VALUES ($1, $2, $3, $4, $5, $6, $7, 0)`,
		hash, kind, name, program, person, db.Millis(now), db.Millis(now.Add(life)))
	return err
}

// LinkFor is Link for a person of a program. It asks nobody whether that
// person wants it: an operator's way to a link is Invite.
func (s *Sessions) LinkFor(ctx context.Context, program yesline.ProgramID, person yesline.PersonID) (token string, err error) {
	return s.Link(ctx, Principal{kind: Person, name: string(person), program: program})
}

// Redeem turns a link's token into a session, once: of many who try at the
// same time one succeeds. The others, and any token that is unknown, used or
// late, get yesline.NotFound.
func (s *Sessions) Redeem(ctx context.Context, token string) (cookie string, who Principal, err error) {
	refused := fmt.Errorf("signing in by a link: %w", yesline.NotFound)
	if len(token) != tokenLength {
		return "", Principal{}, refused
	}
	now := time.Now()
	cookie, cookieHash := newToken()
	id := yesline.NewSessionID()
	var p Principal
	err = s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		changed, err := tx.Exec(ctx, `UPDATE links SET used = $1 WHERE token_hash = $2 AND used = 0 AND expires > $1`,
			db.Millis(now), hashOf(token))
		if err != nil {
			return err
		}
		if changed != 1 {
			return refused
		}
		var c principalRow
		if err := tx.QueryRow(ctx, `SELECT kind, name, program, person FROM links WHERE token_hash = $1`, hashOf(token)).
			Scan(&c.kind, &c.name, &c.program, &c.person); err != nil {
			return err
		}
		p = c.principal(id)
		if _, err := tx.Exec(ctx, `DELETE FROM sessions WHERE expires < $1`, db.Millis(now)); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO sessions (cookie_hash, id, kind, name, program, person, created, seen, expires, ended)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8, 0)`,
			cookieHash, string(id), c.kind, c.name, c.program, c.person, db.Millis(now), db.Millis(now.Add(SessionTime)))
		if err != nil || s.Record == nil {
			return err
		}
		_, err = s.Record(ctx, tx, told("signed-in", p, p.program, p.Person()))
		return err
	})
	if err != nil {
		if errors.Is(err, yesline.NotFound) {
			return "", Principal{}, refused
		}
		return "", Principal{}, fmt.Errorf("signing in by a link: %w", err)
	}
	return cookie, p, nil
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

// Who is behind a cookie: one indexed read. The error is yesline.NotFound when
// the session is unknown, ended, idle for 12 hours or 30 days old.
func (s *Sessions) Who(ctx context.Context, cookie string) (Principal, error) {
	refused := fmt.Errorf("looking up a session: %w", yesline.NotFound)
	if len(cookie) != tokenLength {
		return Principal{}, refused
	}
	var c principalRow
	var id string
	var seen, expires, ended int64
	hash := hashOf(cookie)
	err := s.content.QueryRow(ctx, `SELECT id, kind, name, program, person, seen, expires, ended FROM sessions WHERE cookie_hash = $1`, hash).
		Scan(&id, &c.kind, &c.name, &c.program, &c.person, &seen, &expires, &ended)
	if errors.Is(err, sql.ErrNoRows) {
		return Principal{}, refused
	}
	if err != nil {
		return Principal{}, fmt.Errorf("looking up a session: %w", err)
	}
	now := time.Now()
	if ended != 0 || !now.Before(db.Time(expires)) || !now.Before(db.Time(seen).Add(IdleTime)) {
		return Principal{}, refused
	}
	p := c.principal(yesline.SessionID(id))
	if now.Sub(db.Time(seen)) >= seenEvery {
		s.touch(ctx, p.session, now)
	}
	return p, nil
}

// touch writes when a session was last seen, for one of those who ask at once.
// A failure is not theirs: the session then only ends sooner.
func (s *Sessions) touch(ctx context.Context, id yesline.SessionID, now time.Time) {
	s.mu.Lock()
	busy := s.touching[id]
	s.touching[id] = true
	s.mu.Unlock()
	if busy {
		return
	}
	defer func() {
		s.mu.Lock()
		delete(s.touching, id)
		s.mu.Unlock()
	}()
	s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE sessions SET seen = $1 WHERE id = $2 AND seen < $1`, db.Millis(now), string(id))
		return err
	})
}

// Watch is the subject of db's watches that tells when a session ends.
func Watch(id yesline.SessionID) string { return "session/" + string(id) }

// End signs the session of p out, at once and everywhere. Ending what has
// ended does nothing.
func (s *Sessions) End(ctx context.Context, p Principal) error {
	if p.session == "" {
		return fmt.Errorf("ending a session of somebody without one: %w", yesline.Invalid)
	}
	err := s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE sessions SET ended = $1 WHERE id = $2 AND ended = 0`, db.Millis(time.Now()), string(p.session))
		if err != nil {
			return err
		}
		return tx.Touch(ctx, Watch(p.session))
	})
	if err != nil {
		return fmt.Errorf("ending a session: %w", err)
	}
	return nil
}

// Used reports whether anybody ever signed in: an empty house shows its first
// operator's link.
func (s *Sessions) Used(ctx context.Context) (bool, error) {
	var used bool
	err := s.content.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM sessions)`).Scan(&used)
	return used, err
}

// Forget removes a person's links, sessions and devices.
func (s *Sessions) Forget(ctx context.Context, person yesline.PersonID) error {
	if person == "" {
		return fmt.Errorf("forgetting nobody: %w", yesline.Invalid)
	}
	err := s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		ids, err := sessionsOf(ctx, tx, person)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := tx.Touch(ctx, Watch(id)); err != nil {
				return err
			}
		}
		for _, q := range []string{
			`DELETE FROM links WHERE person = $1`,
			`DELETE FROM sessions WHERE person = $1`,
			`DELETE FROM devices WHERE person = $1`,
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

func sessionsOf(ctx context.Context, tx *db.Tx, person yesline.PersonID) (ids []yesline.SessionID, err error) {
	rows, err := tx.Query(ctx, `SELECT id FROM sessions WHERE person = $1`, string(person))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id yesline.SessionID
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// principalRow is how a Principal lies in links and sessions.
type principalRow struct{ kind, name, program, person string }

func (p Principal) columns() (kind, name, program, person string) {
	if p.kind == Person {
		return string(p.kind), "", string(p.program), p.name
	}
	return string(p.kind), p.name, string(p.program), ""
}

func (c principalRow) principal(id yesline.SessionID) Principal {
	name := c.name
	if Kind(c.kind) == Person {
		name = c.person
	}
	return Principal{kind: Kind(c.kind), name: name, program: yesline.ProgramID(c.program), session: id}
}
