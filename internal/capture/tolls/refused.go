package tolls

import (
	"context"
	"fmt"
	"strings"
	"time"

	"yesline"
	"yesline/internal/db"
)

// refusedKey is what refusals are counted by.
type refusedKey struct {
	minute       int64
	who          Who // without the trunk
	word, region string
}

// Refused are the refusals of one kind in one minute. It holds no number.
type Refused struct {
	At      time.Time // the minute; of nobody known the hour
	Program yesline.ProgramID
	Person  yesline.PersonID // "" for nobody known
	Word    string
	Region  string // "" when unknown
	Times   int64
}

// Turned tells that a door turned somebody away by a rule of its own, so many
// times, for operators to see. The word is 1 to 20 letters a-z; another one is
// not kept. It does not wait, and what it tells is soon written: what comes in
// floods is to be told in sums.
func (t *Tolls) Turned(who Who, word string, times int64) {
	if word != "" && len(word) <= 20 && strings.Trim(word, "abcdefghijklmnopqrstuvwxyz") == "" && times > 0 {
		t.clerk.note(who, word, "", times)
	}
}

// note counts. Strangers come all day and all night: they are kept by the hour,
// so that they do not push out of the books why our own people were refused.
func (k *clerk) note(who Who, word, region string, times int64) {
	by := window
	if who.Program == "" && who.Person == "" {
		by = time.Hour
	}
	key := refusedKey{time.Now().Truncate(by).UnixMilli(), Who{Program: who.Program, Person: who.Person}, word, region}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.addNote(key, times)
	if len(k.notes) == 1 {
		k.call()
	}
}

// addNote counts, with the mutex held. When many different ones come within a
// moment, who they were is no longer told apart.
func (k *clerk) addNote(key refusedKey, times int64) {
	if _, ok := k.notes[key]; !ok && len(k.notes) >= notesMost {
		key = refusedKey{minute: key.minute, word: many}
	}
	k.notes[key] += times
}

const many = "many"

func writeNotes(ctx context.Context, tx *db.Tx, notes map[refusedKey]int64) error {
	for key, times := range notes {
		if _, err := tx.Exec(ctx, `INSERT INTO tolls_refused (minute, program, person, word, region, times) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (minute, program, person, word, region) DO UPDATE SET times = tolls_refused.times + $6`,
			key.minute, string(key.who.Program), string(key.who.Person), key.word, key.region, times); err != nil {
			return err
		}
	}
	return nil
}

func sweepRefused(ctx context.Context, tx *db.Tx, now time.Time) error {
	if _, err := tx.Exec(ctx, `DELETE FROM tolls_refused WHERE minute < $1`, db.Millis(now.AddDate(0, 0, -refusedDays))); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `DELETE FROM tolls_refused WHERE minute < (SELECT minute FROM tolls_refused ORDER BY minute DESC LIMIT 1 OFFSET $1)`, refusedMost)
	return err
}

// Refused lists what was refused in the last 30 days, newest first: at most
// limit (1 to 500).
func (t *Tolls) Refused(ctx context.Context, limit int) (all []Refused, err error) {
	if limit < 1 || limit > db.MaxIn {
		return nil, fmt.Errorf("listing %d refusals: %w", limit, yesline.Invalid)
	}
	if err := t.clerk.sync(ctx); err != nil {
		return nil, err
	}
	rows, err := t.parts.Content.Query(ctx, `SELECT minute, program, person, word, region, times FROM tolls_refused
		ORDER BY minute DESC, times DESC, word, program, person, region LIMIT $1`, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r Refused
		var minute int64
		if err := rows.Scan(&minute, &r.Program, &r.Person, &r.Word, &r.Region, &r.Times); err != nil {
			return nil, err
		}
		r.At = db.Time(minute)
		all = append(all, r)
	}
	return all, rows.Err()
}

// Sum is what was spent and is held of what may be spent in a day, in
// millionths of a dollar.
type Sum struct{ Micros, Of int64 }

// Spent is a day's money as it stands.
type Spent struct{ Program, Account, Trunk Sum }

// Spent tells what was spent today, and is held, of the purses of somebody who
// calls.
func (t *Tolls) Spent(ctx context.Context, who Who) (s Spent, err error) {
	if err := t.clerk.sync(ctx); err != nil {
		return s, err
	}
	l := ledger{day: dayOf(time.Now()), by: map[string]balance{}, rules: t.rules}
	purses := who.purses()
	if err := l.read(ctx, t.parts.Content.Query, purses[:]); err != nil {
		return s, err
	}
	for i, to := range []*Sum{&s.Program, &s.Account, &s.Trunk} {
		b := l.at(purses[i])
		to.Micros = b.today + b.later
		to.Of, _ = t.rules.limit(purses[i])
	}
	return s, nil
}
