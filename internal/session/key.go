package session

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"yesline"
	"yesline/internal/db"
)

const (
	keyPrefix  = "yk_"
	maxKeyLife = 365 * 24 * time.Hour
	minKeyLife = time.Minute
	maxScopes  = 32
	maxScope   = 20 // letters
)

// keyRow is an API key as it lies in the table. The mark is over all but its
// name and use.
type keyRow struct {
	id, hash, account, kind, program, name, scopes string
	created, used, expires                         int64
	mac                                            string
}

func (r *keyRow) parts() []string {
	return []string{"key", r.id, r.hash, r.account, r.kind, r.program, r.scopes, strconv.FormatInt(r.created, 10), strconv.FormatInt(r.expires, 10)}
}

func (r *keyRow) shown() Key {
	return Key{yesline.KeyID(r.id), r.name, strings.Fields(r.scopes), r.created, r.used, r.expires}
}

// isScope: a scope is the name of a verb, which only the gate knows.
func isScope(s string) bool {
	return s != "" && len(s) <= maxScope && !strings.ContainsFunc(s, func(r rune) bool { return r < 'a' || r > 'z' })
}

// MakeKey gives who an API key that acts as them, with no more than the verbs
// of its scopes, for at most a year. The key is shown once and kept hashed.
// The error is yesline.Stale if they have not proved lately that it is them,
// yesline.Invalid for a name, scope or life that cannot be, and
// yesline.TooMany for the fifty-first.
func (s *Sessions) MakeKey(ctx context.Context, who Principal, name string, scopes []string, life time.Duration) (Key, yesline.Secret, error) {
	if err := proven(who); err != nil {
		return Key{}, yesline.Secret{}, err
	}
	if !isName(name) || len(scopes) == 0 || len(scopes) > maxScopes || !allOf(scopes, isScope) || life < minKeyLife || life > maxKeyLife {
		return Key{}, yesline.Secret{}, fmt.Errorf("a key has a name, 1 to %d scopes and at most a year: %w", maxScopes, yesline.Invalid)
	}
	token, _ := newToken()
	bearer := keyPrefix + token
	now := time.Now()
	r := keyRow{id: string(yesline.NewKeyID()), hash: hashOf(bearer), account: who.name, kind: string(who.kind), program: string(who.program),
		name: name, scopes: scopesOf(scopes), created: db.Millis(now), expires: db.Millis(now.Add(life))}
	err := s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := alive(ctx, tx, who, now); err != nil {
			return err
		}
		if err := s.putKey(ctx, tx, r, now); err != nil {
			return err
		}
		e := detailed(told("key-made", who, who.program, who.Person()), "key", r.id)
		e.Detail["scopes"] = strings.TrimSpace(r.scopes)
		return s.tell(ctx, tx, e)
	})
	if err != nil {
		return Key{}, yesline.Secret{}, fmt.Errorf("making an API key: %w", err)
	}
	return r.shown(), yesline.NewSecret([]byte(bearer)), nil
}

func allOf(words []string, ok func(string) bool) bool {
	return !slices.ContainsFunc(words, func(w string) bool { return !ok(w) })
}

func (s *Sessions) putKey(ctx context.Context, tx *db.Tx, r keyRow, now time.Time) (err error) {
	if _, err := tx.Exec(ctx, `DELETE FROM api_keys WHERE expires < $1`, db.Millis(now)); err != nil {
		return err
	}
	var have int
	if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM api_keys WHERE account = $1`, r.account).Scan(&have); err != nil {
		return err
	}
	if have >= MaxKeys {
		return yesline.TooMany
	}
	if r.mac, err = s.mark(ctx, r.program, r.parts()...); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO api_keys (id, key_hash, account, kind, program, name, scopes, created, used, expires, mac)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $10)`,
		r.id, r.hash, r.account, r.kind, r.program, r.name, r.scopes, r.created, r.expires, r.mac)
	return err
}

// KeysOf lists an account's keys that may be used, newest first.
func (s *Sessions) KeysOf(ctx context.Context, account string) ([]Key, error) {
	rows, err := s.content.Query(ctx, `SELECT id, name, scopes, created, used, expires FROM api_keys
		WHERE account = $1 AND expires > $2 ORDER BY created DESC, id LIMIT $3`, account, db.Millis(time.Now()), MaxKeys)
	if err != nil {
		return nil, fmt.Errorf("listing API keys: %w", err)
	}
	defer rows.Close()
	all := []Key{}
	for rows.Next() {
		var r keyRow
		if err := rows.Scan(&r.id, &r.name, &r.scopes, &r.created, &r.used, &r.expires); err != nil {
			return nil, fmt.Errorf("listing API keys: %w", err)
		}
		all = append(all, r.shown())
	}
	return all, rows.Err()
}

// EndKey ends a key of who, at once here and within a second everywhere.
func (s *Sessions) EndKey(ctx context.Context, who Principal, id yesline.KeyID) error {
	if who.Account() == "" {
		return fmt.Errorf("ending a key of nobody's account: %w", yesline.Denied)
	}
	err := s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `DELETE FROM api_keys WHERE id = $1 AND account = $2`, string(id), who.name)
		if err == nil && n == 0 {
			err = yesline.NotFound
		}
		if err != nil {
			return err
		}
		if err := tx.Touch(ctx, WatchKey(id)); err != nil {
			return err
		}
		return s.tell(ctx, tx, detailed(told("key-ended", who, who.program, who.Person()), "key", string(id)))
	})
	if err != nil {
		return fmt.Errorf("ending an API key: %w", err)
	}
	return nil
}

// WhoKey is who asks by an API key: its maker, with no more than its scopes.
// The error is yesline.NotFound when the key is unknown or too old, and when its
// maker does not work here any more.
func (s *Sessions) WhoKey(ctx context.Context, bearer string) (Principal, error) {
	if len(bearer) != len(keyPrefix)+tokenLength || !strings.HasPrefix(bearer, keyPrefix) {
		return Principal{}, fmt.Errorf("looking up an API key: %w", yesline.NotFound)
	}
	return s.whoKey(ctx, sha256.Sum256([]byte(bearer)), `key_hash = $1`, hashOf(bearer))
}

// WhoKeyID is who asks by what a key was given, such as a ticket: WhoKey for
// those who remember only the key's id.
func (s *Sessions) WhoKeyID(ctx context.Context, id yesline.KeyID) (Principal, error) {
	if !yesline.IsID("key", string(id)) {
		return Principal{}, fmt.Errorf("looking up an API key: %w", yesline.NotFound)
	}
	return s.whoKey(ctx, sha256.Sum256([]byte("id of "+id)), `id = $1`, string(id))
}

func (s *Sessions) whoKey(ctx context.Context, sum [sha256.Size]byte, where, value string) (Principal, error) {
	now := time.Now()
	if e := s.known.find(sum, now, s.content.Fresh()); e != nil {
		s.use(ctx, e, now)
		return e.who, nil
	}
	e, err := s.readKey(ctx, where, value)
	if err == nil && !e.good(now) {
		err = yesline.NotFound
	}
	if err != nil {
		return Principal{}, fmt.Errorf("looking up an API key: %w", err)
	}
	e = s.remember(ctx, sum, e, func(ctx context.Context) (*seen, error) { return s.readKey(ctx, where, value) })
	s.use(ctx, e, now)
	return e.who, nil
}

func (s *Sessions) readKey(ctx context.Context, where, value string) (*seen, error) {
	var r keyRow
	err := s.content.QueryRow(ctx, `SELECT id, key_hash, account, kind, program, scopes, created, used, expires, mac FROM api_keys WHERE `+where, value).
		Scan(&r.id, &r.hash, &r.account, &r.kind, &r.program, &r.scopes, &r.created, &r.used, &r.expires, &r.mac)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, yesline.NotFound
	}
	if err != nil {
		return nil, err
	}
	if err := s.checkMark(ctx, r.mac, r.program, r.parts()...); err != nil {
		return nil, err
	}
	e := &seen{ends: r.expires, who: Principal{kind: Kind(r.kind), name: r.account, program: yesline.ProgramID(r.program),
		key: yesline.KeyID(r.id), scopes: r.scopes}}
	e.last.Store(r.used)
	return e, s.works(ctx, s.content.QueryRow, e.who)
}
