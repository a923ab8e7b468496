package session

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/db"
)

// proven says no to whoever has no account, and yesline.Stale to whoever has
// not shown within ProofTime that it is them.
func proven(who Principal) error {
	if who.Account() == "" || who.session == "" {
		return fmt.Errorf("managing an account without being signed in to it: %w", yesline.Denied)
	}
	if !who.Fresh() {
		return fmt.Errorf("managing an account: %w", yesline.Stale)
	}
	return nil
}

// alive looks once more, in the transaction that gives a way in, whether the
// session that asks for it has not ended meanwhile.
func alive(ctx context.Context, tx *db.Tx, who Principal, now time.Time) error {
	var ok bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM sessions WHERE id = $1 AND account = $2 AND ended = 0 AND expires > $3)`,
		string(who.session), who.name, db.Millis(now)).Scan(&ok)
	if err == nil && !ok {
		err = fmt.Errorf("the session that asks has ended: %w", yesline.Denied)
	}
	return err
}

// detailed adds a detail to an entry.
func detailed(e audit.Entry, key, value string) audit.Entry {
	e.Detail = map[string]string{key: value}
	return e
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// rename runs an update of one row of an account: $1 the name, $2 its id, $3
// the account.
func (s *Sessions) rename(ctx context.Context, who Principal, q, name, id string) error {
	if who.Account() == "" {
		return fmt.Errorf("naming a thing of nobody's account: %w", yesline.Denied)
	}
	err := s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, q, name, id, who.name)
		if err == nil && n == 0 {
			err = yesline.NotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("naming a thing of an account: %w", err)
	}
	return nil
}

// freshen notes in a session that who proved now that it is them.
func (s *Sessions) freshen(ctx context.Context, tx *db.Tx, who Principal, now time.Time) error {
	var r sessionRow
	err := tx.QueryRow(ctx, `SELECT cookie_hash, id, kind, name, program, person, created, expires, proved, mac FROM sessions
		WHERE id = $1 AND account = $2 AND ended = 0 AND expires > $3`, string(who.session), who.name, db.Millis(now)).
		Scan(&r.hash, &r.id, &r.kind, &r.name, &r.program, &r.person, &r.created, &r.expires, &r.proved, &r.mac)
	if errors.Is(err, sql.ErrNoRows) {
		return yesline.NotFound
	}
	if err != nil {
		return err
	}
	if err := s.checkMark(ctx, r.mac, r.program, r.parts()...); err != nil {
		return err
	}
	r.proved = db.Millis(now)
	if r.mac, err = s.mark(ctx, r.program, r.parts()...); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `UPDATE sessions SET proved = $1, mac = $2 WHERE id = $3`, r.proved, r.mac, r.id); err != nil {
		return err
	}
	return tx.Touch(ctx, Watch(who.session))
}

// SessionsOf lists the sessions of who that are not over, newest first: at most
// limit (100), begun before the given milliseconds, or the newest if that is 0.
func (s *Sessions) SessionsOf(ctx context.Context, who Principal, before int64, limit int) ([]Open, error) {
	if who.Account() == "" {
		return nil, fmt.Errorf("listing the sessions of nobody's account: %w", yesline.Denied)
	}
	now := time.Now()
	if before <= 0 {
		before = db.Millis(now) + clockSkew.Milliseconds()
	}
	rows, err := s.content.Query(ctx, `SELECT id, label, device, created, seen FROM sessions
		WHERE account = $1 AND ended = 0 AND created < $2 AND expires > $3 AND seen > $4 ORDER BY created DESC, id LIMIT $5`,
		who.name, before, db.Millis(now), db.Millis(now.Add(-IdleTime)), min(max(limit, 1), MaxSessions))
	if err != nil {
		return nil, fmt.Errorf("listing sessions: %w", err)
	}
	defer rows.Close()
	all := []Open{}
	for rows.Next() {
		var o Open
		if err := rows.Scan(&o.ID, &o.Name, &o.Device, &o.Created, &o.Seen); err != nil {
			return nil, fmt.Errorf("listing sessions: %w", err)
		}
		o.Current = o.ID == who.session
		all = append(all, o)
	}
	return all, rows.Err()
}

// NameSession gives a session of who a name of theirs.
func (s *Sessions) NameSession(ctx context.Context, who Principal, id yesline.SessionID, name string) error {
	if !isName(name) {
		return fmt.Errorf("a session's name is 1 to %d plain letters: %w", maxName, yesline.Invalid)
	}
	return s.rename(ctx, who, `UPDATE sessions SET label = $1 WHERE id = $2 AND account = $3 AND ended = 0`, name, string(id))
}

// EndSession signs one of the sessions of who out, at once here and within a
// second everywhere.
func (s *Sessions) EndSession(ctx context.Context, who Principal, id yesline.SessionID) error {
	if who.Account() == "" {
		return fmt.Errorf("ending a session of nobody's account: %w", yesline.Denied)
	}
	err := s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		ended, err := endSession(ctx, tx, who.name, string(id), time.Now())
		if err == nil && !ended {
			err = yesline.NotFound
		}
		if err != nil {
			return err
		}
		return s.tell(ctx, tx, detailed(told("session-ended", who, who.program, who.Person()), "session", string(id)))
	})
	if err != nil {
		return fmt.Errorf("ending a session: %w", err)
	}
	return nil
}

// EndOthers signs all other sessions of who out, and says how many.
func (s *Sessions) EndOthers(ctx context.Context, who Principal) (ended int, err error) {
	if who.Account() == "" {
		return 0, fmt.Errorf("ending the sessions of nobody's account: %w", yesline.Denied)
	}
	err = s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		ended = 0
		ids, err := texts(tx.Query(ctx, `SELECT id FROM sessions WHERE account = $1 AND ended = 0 AND id <> $2`, who.name, string(who.session)))
		if err != nil || len(ids) == 0 {
			return err
		}
		for _, id := range ids {
			if _, err := endSession(ctx, tx, who.name, id, time.Now()); err != nil {
				return err
			}
		}
		ended = len(ids)
		return s.tell(ctx, tx, detailed(told("sessions-ended", who, who.program, who.Person()), "count", fmt.Sprint(ended)))
	})
	if err != nil {
		return 0, fmt.Errorf("ending the other sessions: %w", err)
	}
	return ended, nil
}
