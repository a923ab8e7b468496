package session

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"yesline"
	"yesline/internal/db"
)

// sessionRow is what a session grants; the mark is over all of it.
type sessionRow struct {
	principalRow
	hash, id                 string
	created, expires, proved int64
	mac                      string
}

func (r sessionRow) parts() []string {
	return []string{"session", r.hash, r.id, r.kind, r.name, r.program, r.person,
		strconv.FormatInt(r.created, 10), strconv.FormatInt(r.expires, 10), strconv.FormatInt(r.proved, 10)}
}

// endAtOnce bounds the work of one signing in. One ends at a time, except when
// a house is found with more than MaxSessions of somebody.
const endAtOnce = 200

// begin opens a session for p, who just showed that it is them. The account's
// oldest sessions end beyond MaxSessions. The error is yesline.NotFound for
// somebody who does not work here any more.
func (s *Sessions) begin(ctx context.Context, tx *db.Tx, p Principal, from Client, now time.Time) (cookie string, who Principal, err error) {
	if err := s.works(ctx, tx.QueryRow, p); err != nil {
		return "", Principal{}, err
	}
	cookie, hash := newToken()
	who = Principal{kind: p.kind, name: p.name, program: p.program, session: yesline.NewSessionID(), proved: db.Millis(now)}
	r := sessionRow{hash: hash, id: string(who.session), created: db.Millis(now), expires: db.Millis(now.Add(SessionTime)), proved: who.proved}
	r.kind, r.name, r.program, r.person = who.columns()
	if r.mac, err = s.mark(ctx, r.program, r.parts()...); err != nil {
		return "", Principal{}, err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM sessions WHERE expires < $1`, db.Millis(now)); err != nil {
		return "", Principal{}, err
	}
	old, err := texts(tx.Query(ctx, `SELECT id FROM sessions WHERE account = $1 AND ended = 0 ORDER BY created DESC, id LIMIT $2 OFFSET $3`,
		p.name, endAtOnce, MaxSessions-1))
	if err != nil {
		return "", Principal{}, err
	}
	for _, id := range old {
		if _, err := endSession(ctx, tx, p.name, id, now); err != nil {
			return "", Principal{}, err
		}
	}
	_, err = tx.Exec(ctx, `INSERT INTO sessions (cookie_hash, id, kind, name, program, person, account, label, device, created, seen, proved, expires, ended, mac)
		VALUES ($1, $2, $3, $4, $5, $6, $7, '', $8, $9, $9, $10, $11, 0, $12)`,
		r.hash, r.id, r.kind, r.name, r.program, r.person, p.name, from.word(), r.created, r.proved, r.expires, r.mac)
	return cookie, who, err
}

// endSession ends one session of an account, for all nodes, and takes its mark.
func endSession(ctx context.Context, tx *db.Tx, account, id string, now time.Time) (ended bool, err error) {
	changed, err := tx.Exec(ctx, `UPDATE sessions SET ended = $1, mac = '' WHERE id = $2 AND account = $3 AND ended = 0`, db.Millis(now), id, account)
	if err != nil || changed == 0 {
		return false, err
	}
	return true, tx.Touch(ctx, Watch(yesline.SessionID(id)))
}

// Watch is the subject of db's watches that tells when a session ends.
func Watch(id yesline.SessionID) string { return "session/" + string(id) }

// watchStaff is the subject that tells when a colleague's account ends.
func watchStaff(account string) string { return "staff/" + account }

// WatchKey is the subject that tells when an API key ends.
func WatchKey(id yesline.KeyID) string { return "key/" + string(id) }

// End signs the session of p out, at once and everywhere. Ending what has
// ended does nothing.
func (s *Sessions) End(ctx context.Context, p Principal) error {
	if p.session == "" {
		return fmt.Errorf("ending a session of somebody without one: %w", yesline.Invalid)
	}
	err := s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		ended, err := endSession(ctx, tx, p.name, string(p.session), time.Now())
		if err != nil || !ended {
			return err
		}
		return s.tell(ctx, tx, told("signed-out", p, p.program, p.Person()))
	})
	if err != nil {
		return fmt.Errorf("ending a session: %w", err)
	}
	return nil
}

// Who is behind a cookie: from memory, or by one indexed read. The error is
// yesline.NotFound when the session is unknown, ended, idle for 12 hours or 30
// days old. A session that ended is unknown at once in this process and within
// a second on every node.
func (s *Sessions) Who(ctx context.Context, cookie string) (Principal, error) {
	if len(cookie) != tokenLength {
		return Principal{}, fmt.Errorf("looking up a session: %w", yesline.NotFound)
	}
	sum := sha256.Sum256([]byte(cookie))
	now := time.Now()
	if e := s.known.find(sum, now, s.content.Fresh()); e != nil {
		s.use(ctx, e, now)
		return e.who, nil
	}
	e, err := s.readSession(ctx, base64.RawURLEncoding.EncodeToString(sum[:]))
	if err == nil && !e.good(now) {
		err = yesline.NotFound
	}
	if err != nil {
		return Principal{}, fmt.Errorf("looking up a session: %w", err)
	}
	e = s.remember(ctx, sum, e, func(ctx context.Context) (*seen, error) {
		return s.readSession(ctx, base64.RawURLEncoding.EncodeToString(sum[:]))
	})
	s.use(ctx, e, now)
	return e.who, nil
}

func (s *Sessions) readSession(ctx context.Context, hash string) (*seen, error) {
	r := sessionRow{hash: hash}
	var account string
	var last, ended int64
	err := s.content.QueryRow(ctx, `SELECT id, kind, name, program, person, account, created, seen, proved, expires, ended, mac FROM sessions WHERE cookie_hash = $1`, hash).
		Scan(&r.id, &r.kind, &r.name, &r.program, &r.person, &account, &r.created, &last, &r.proved, &r.expires, &ended, &r.mac)
	if errors.Is(err, sql.ErrNoRows) || err == nil && ended != 0 {
		return nil, yesline.NotFound
	}
	if err != nil {
		return nil, err
	}
	// By its account a session is listed and ended: one that is hidden from its
	// owner opens nothing.
	if account != r.principal().name {
		return nil, fmt.Errorf("the account of a session: %w: %w", yesline.Tampered, yesline.NotFound)
	}
	if err := s.checkMark(ctx, r.mac, r.program, r.parts()...); err != nil {
		return nil, err
	}
	e := &seen{who: r.principal(), ends: r.expires, idle: IdleTime.Milliseconds()}
	e.who.session, e.who.proved = yesline.SessionID(r.id), r.proved
	e.last.Store(last)
	return e, s.works(ctx, s.content.QueryRow, e.who)
}

// seen is an asker whom we looked up, and until when we may believe it.
type seen struct {
	who  Principal
	ends int64        // milliseconds
	idle int64        // how long it may go unused, in milliseconds; 0 for ever
	last atomic.Int64 // when it was last used, coarse to a minute

	hangs []hold // on these watches; none when it is not remembered
}

// hold is a watch, and its revision when we looked.
type hold struct {
	*db.Held
	revision int64
}

// watches are the subjects whose touch makes us look again. Staff has one of its
// own, so that it counts for sessions that nobody finds.
func (e *seen) watches() []string {
	own := Watch(e.who.session)
	if e.who.key != "" {
		own = WatchKey(e.who.key)
	}
	if e.who.isStaff() {
		return []string{own, watchStaff(e.who.name)}
	}
	return []string{own}
}

func (e *seen) untouched() bool {
	return !slices.ContainsFunc(e.hangs, func(h hold) bool { return h.Revision() != h.revision })
}

func (e *seen) release() {
	for _, h := range e.hangs {
		h.Release()
	}
}

func (e *seen) good(now time.Time) bool {
	ms := db.Millis(now)
	return ms < e.ends && (e.idle == 0 || ms < e.last.Load()+e.idle)
}

// known remembers askers by the hash of what they showed. Each hangs on a
// watch that its ending touches.
type known struct {
	most int

	mu     sync.RWMutex // guards byHash
	byHash map[[sha256.Size]byte]*seen
}

// knownMost bounds the memory (about 5 MB) and the watches asked every second;
// knownTime is how long somebody may be away and still be remembered.
const (
	knownMost = 10_000
	knownTime = 10 * time.Minute
)

func (k *known) init() {
	k.most = knownMost
	k.byHash = map[[sha256.Size]byte]*seen{}
}

// find gives whom we know, or nil: then the database is asked. So it is while
// this node does not see the watches.
func (k *known) find(hash [sha256.Size]byte, now time.Time, fresh bool) *seen {
	k.mu.RLock()
	e := k.byHash[hash]
	k.mu.RUnlock()
	if e == nil || !fresh {
		return nil
	}
	if !e.untouched() || !e.good(now) {
		k.drop(hash, e)
		return nil
	}
	return e
}

func (k *known) drop(hash [sha256.Size]byte, e *seen) {
	k.mu.Lock()
	if k.byHash[hash] == e {
		delete(k.byHash, hash)
	}
	k.mu.Unlock()
	e.release()
}

// put remembers e. It forgets any other when there are too many, and looks at a
// few others, so that a watch that nobody needs is not asked for long.
func (k *known) put(hash [sha256.Size]byte, e *seen, now time.Time) {
	var gone []*seen
	k.mu.Lock()
	if old := k.byHash[hash]; old != nil {
		gone = append(gone, old)
		delete(k.byHash, hash)
	}
	looked := 0
	for h, other := range k.byHash { // in random order
		if len(k.byHash) >= k.most || now.Sub(db.Time(other.last.Load())) > knownTime {
			gone = append(gone, other)
			delete(k.byHash, h)
		}
		if looked++; looked >= 4 && len(k.byHash) < k.most {
			break
		}
	}
	k.byHash[hash] = e
	k.mu.Unlock()
	for _, other := range gone {
		other.release()
	}
}

// remember holds the watches first and reads once more behind them, so that
// nothing that ended in between is remembered. What fails is not remembered.
func (s *Sessions) remember(ctx context.Context, hash [sha256.Size]byte, e *seen, read func(context.Context) (*seen, error)) *seen {
	if s.known.most == 0 {
		return e
	}
	for _, w := range e.watches() {
		held, err := s.content.Hold(ctx, w)
		if err != nil {
			e.release()
			return e
		}
		e.hangs = append(e.hangs, hold{held, held.Revision()})
	}
	again, err := read(ctx)
	if err != nil || again.who != e.who {
		e.release()
		return e
	}
	again.hangs = e.hangs
	s.known.put(hash, again, time.Now())
	return again
}

// use notes once a minute that an asker was seen.
func (s *Sessions) use(ctx context.Context, e *seen, now time.Time) {
	last := e.last.Load()
	if db.Millis(now)-last < seenEvery.Milliseconds() || !e.last.CompareAndSwap(last, db.Millis(now)) {
		return
	}
	if e.who.key != "" {
		s.touch(ctx, `UPDATE api_keys SET used = $1 WHERE id = $2 AND used < $1`, string(e.who.key), now)
		return
	}
	s.touch(ctx, `UPDATE sessions SET seen = $1 WHERE id = $2 AND seen < $1`, string(e.who.session), now)
}

// touch writes when an asker was last seen, for one of those who ask at once.
// A failure is not theirs: the session then only ends sooner.
func (s *Sessions) touch(ctx context.Context, q, id string, now time.Time) {
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
		_, err := tx.Exec(ctx, q, db.Millis(now), id)
		return err
	})
}
