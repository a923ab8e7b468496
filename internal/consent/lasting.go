package consent

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audit"
	"yesline/internal/db"
)

// A lasting yes is a person's yes to being recorded in later calls of this
// program with the same other person. It is asked again nowhere, so it is
// narrow: it is between two persons, never between numbers, and holds only
// where the house knows in the same way that it is them, under the same words
// and the same rule. It records and does nothing else: what share and license
// need is a yes in the call.

const (
	// LastingTime is the longest that a lasting yes stands.
	LastingTime = 180 * 24 * time.Hour

	// LastingIdle is how long it stands unused. A disconnected number rests at
	// least 45 days before somebody else gets it (47 CFR 52.15(f)(1)(ii)), so
	// the yes of who had it is gone by then.
	LastingIdle = 45 * 24 * time.Hour

	// LastingMost is how many a person has; one more ends the oldest.
	LastingMost = 500
)

// ByMemory is the channel of a yes that follows from a lasting one.
const ByMemory = "remembered"

// Way is how the house knows that it is this person who is on a leg.
type Way string

const (
	ByCallerID Way = ""        // at most a caller's number says so, which proves nothing
	ByRinging  Way = "rung"    // we rang their number and somebody picked up
	ByAccount  Way = "account" // a browser or phone of theirs that signed in
)

// Asked is how a person is asked on a leg. A lasting yes is used only where
// both are as they were when it was given.
type Asked struct {
	Way   Way
	Words string // which words were said: see Words
}

// Words names what is said of a lasting yes, by the question and by the notice
// of later calls: SHA-256 in hex.
func Words(sounds ...[]byte) string {
	h := sha256.New()
	for _, s := range sounds {
		fmt.Fprintf(h, "%d\n", len(s))
		h.Write(s)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (a Asked) check() error {
	if a.Way != ByCallerID && a.Way != ByRinging && a.Way != ByAccount {
		return fmt.Errorf("an unknown way to know a person: %w", yesline.Invalid)
	}
	if len(a.Words) != hex.EncodedLen(sha256.Size) {
		return fmt.Errorf("a lasting yes to no words: %w", yesline.Invalid)
	}
	return nil
}

// LastingYes is one that stands, as its person sees it.
type LastingYes struct {
	ID           yesline.EntryID
	Other        yesline.PersonID // to calls with whom
	Way          Way
	Call         yesline.CallID // in which it was given
	AtMillis     int64
	UsedMillis   int64 // when it last was, at first AtMillis
	LapsesMillis int64 // when it ends by itself, if it is not used before
}

// Lasting keeps a yes to being recorded in this call and in those to come with
// the same other person. Lasts is false where it is a yes to this call alone:
// nothing but a caller's number says who it is, they are more than two, or they
// had said yes already.
func (c *Consent) Lasting(ctx context.Context, call yesline.CallID, person yesline.PersonID, leg yesline.LegID, asked Asked, ev Evidence) (lasts bool, err error) {
	if err := errors.Join(ev.check(), asked.check()); err != nil {
		return false, err
	}
	if ev.Channel == ByMemory {
		return false, fmt.Errorf("a lasting yes out of a lasting yes: %w", yesline.Invalid)
	}
	terms, err := Cards()
	if err != nil {
		return false, err
	}
	err = c.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		lasts = false
		event, err := c.move(ctx, tx, Answer{Call: call, Person: person, Leg: leg, Way: asked.Way, Evidence: ev}, answered(Yes))
		if err != nil || event == "" || asked.Way == ByCallerID {
			return err
		}
		lasts, err = c.keepLasting(ctx, tx, call, person, asked, terms.SHA256, event, ev)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("keeping a lasting yes: %w", err)
	}
	return lasts, nil
}

func (c *Consent) keepLasting(ctx context.Context, tx *db.Tx, call yesline.CallID, person yesline.PersonID, asked Asked, terms, event string, ev Evidence) (bool, error) {
	var program yesline.ProgramID
	var oneSided bool
	var other yesline.PersonID
	var others int
	err := tx.QueryRow(ctx, `SELECT k.program, k.one_sided, MIN(o.person), COUNT(*) FROM consent_calls k
		JOIN consent_standings o ON o.call = k.call AND o.purpose = $3 AND o.person <> $2
		WHERE k.call = $1 GROUP BY k.program, k.one_sided`, string(call), string(person), string(Record)).Scan(&program, &oneSided, &other, &others)
	if errors.Is(err, sql.ErrNoRows) || err == nil && others != 1 {
		return false, nil // nobody, or not one person, to last with
	}
	if err != nil {
		return false, err
	}
	if err := c.makeRoom(ctx, tx, person, other); err != nil {
		return false, err
	}
	now := db.Millis(time.Now())
	id := yesline.NewEntryID()
	if _, err := tx.Exec(ctx, `INSERT INTO consent_lasting (id, person, other_person, program, way, event, call, words, terms, one_sided, at, used, lapses)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12)
		ON CONFLICT (person, other_person, program, way) DO UPDATE SET id = excluded.id, event = excluded.event, call = excluded.call,
			words = excluded.words, terms = excluded.terms, one_sided = excluded.one_sided, at = excluded.at, used = excluded.used, lapses = excluded.lapses`,
		string(id), string(person), string(other), string(program), string(asked.Way), event, string(call), asked.Words, terms, oneSided, now, lapses(now, now)); err != nil {
		return false, err
	}
	_, err = c.log.Record(ctx, tx, audit.Entry{Program: program, Actor: string(person), Verb: "lasting.given", Object: string(call), Result: "done",
		Detail: map[string]string{"lasting": string(id), "way": string(asked.Way), "channel": ev.Channel, "prompt": ev.Prompt,
			"sha256": ev.PromptSHA256, "keys": ev.Keys, "words": asked.Words, "terms": terms},
		Subjects: []yesline.PersonID{person}})
	return true, err
}

// lapses is when a lasting yes that was given and used then ends by itself.
func lapses(at, used int64) int64 {
	return min(at+LastingTime.Milliseconds(), used+LastingIdle.Milliseconds())
}

// makeRoom ends the oldest of a person who has LastingMost with others.
func (c *Consent) makeRoom(ctx context.Context, tx *db.Tx, person, other yesline.PersonID) error {
	var have int
	if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM consent_lasting WHERE person = $1 AND other_person <> $2`, string(person), string(other)).Scan(&have); err != nil {
		return err
	}
	if have < LastingMost-1 { // with this other there may be two
		return nil
	}
	over, err := endLasting(ctx, tx, `DELETE FROM consent_lasting WHERE id IN
		(SELECT id FROM consent_lasting WHERE person = $1 AND other_person <> $2 ORDER BY lapses, id LIMIT $3) RETURNING `+endedColumns,
		string(person), string(other), have-(LastingMost-2))
	if err != nil {
		return err
	}
	return c.tellEnded(ctx, tx, over, string(person), "", "too many")
}

// Remembered reports whether a lasting yes of this person stands in a call that
// opened and in which they said nothing yet. It is then a short notice that is
// said to them and not the question, and Recall that makes it a yes.
func (c *Consent) Remembered(ctx context.Context, call yesline.CallID, person yesline.PersonID, asked Asked) (bool, error) {
	if err := asked.check(); err != nil {
		return false, err
	}
	terms, err := Cards()
	if err != nil {
		return false, err
	}
	found, err := remembered(ctx, c.db, call, person, asked.Way)
	if errors.Is(err, yesline.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if found.words == asked.Words && found.terms == terms.SHA256 {
		return true, nil
	}
	// They said yes to other words: it does not come back with those either.
	err = c.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		old, err := endLasting(ctx, tx, `DELETE FROM consent_lasting WHERE id = $1 RETURNING `+endedColumns, string(found.id))
		if err != nil {
			return err
		}
		return c.tellEnded(ctx, tx, old, "svc:consent", call, "other words")
	})
	return false, err
}

// found is a lasting yes that would stand in a call, if its words are those of
// the call.
type found struct {
	id           yesline.EntryID
	words, terms string
	at           int64
}

type rower interface {
	QueryRow(ctx context.Context, q string, args ...any) *sql.Row
}

// remembered looks for a lasting yes between the two of a call, in its program
// and under its rule, whose person said nothing in the call yet.
func remembered(ctx context.Context, q rower, call yesline.CallID, person yesline.PersonID, way Way) (f found, err error) {
	if way == ByCallerID {
		return found{}, fmt.Errorf("a lasting yes of a caller's number: %w", yesline.NotFound)
	}
	err = q.QueryRow(ctx, `SELECT l.id, l.words, l.terms, l.at FROM consent_calls k
		JOIN consent_standings s ON s.call = k.call AND s.purpose = $3 AND s.person = $2 AND s.state = ''
		JOIN consent_standings o ON o.call = k.call AND o.purpose = $3 AND o.person <> $2
		JOIN consent_lasting l ON l.person = s.person AND l.other_person = o.person AND l.program = k.program AND l.one_sided = k.one_sided
		WHERE k.call = $1 AND l.way = $4 AND l.at <= $5 AND l.lapses > $5
		AND (SELECT COUNT(*) FROM consent_standings n WHERE n.call = $1 AND n.purpose = $3) = 2`,
		string(call), string(person), string(Record), string(way), db.Millis(time.Now())).Scan(&f.id, &f.words, &f.terms, &f.at)
	if errors.Is(err, sql.ErrNoRows) {
		return found{}, fmt.Errorf("a lasting yes: %w", yesline.NotFound)
	}
	return f, err
}

// Recall makes a lasting yes the yes of a call, once the notice of it was said
// to its end: the evidence is of the notice. yesline.Denied when it does not
// stand any more, or when something was said meanwhile: they are asked then.
// Share and license do not follow, whatever was chosen in the terms.
func (c *Consent) Recall(ctx context.Context, call yesline.CallID, person yesline.PersonID, leg yesline.LegID, asked Asked, ev Evidence) error {
	ev.Channel, ev.Keys = ByMemory, ""
	if err := errors.Join(ev.check(), asked.check()); err != nil {
		return err
	}
	if ev.PromptSHA256 == "" || ev.FromMillis <= 0 || ev.ToMillis <= ev.FromMillis || ev.AtMillis < ev.ToMillis {
		return fmt.Errorf("recalling a yes without a notice that was said to its end: %w", yesline.Invalid)
	}
	terms, err := Cards()
	if err != nil {
		return err
	}
	err = c.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		f, err := remembered(ctx, tx, call, person, asked.Way)
		if errors.Is(err, yesline.NotFound) || err == nil && (f.words != asked.Words || f.terms != terms.SHA256) {
			return fmt.Errorf("a yes that is not remembered: %w", yesline.Denied)
		}
		if err != nil {
			return err
		}
		if _, err := c.set(ctx, tx, call, person, leg, Record, Yes, ev, string(person)); err != nil {
			return err
		}
		now := db.Millis(time.Now())
		var program yesline.ProgramID
		if err := tx.QueryRow(ctx, `UPDATE consent_lasting SET used = $1, lapses = $2 WHERE id = $3 RETURNING program`,
			now, lapses(f.at, now), string(f.id)).Scan(&program); err != nil {
			return err
		}
		_, err = c.log.Record(ctx, tx, audit.Entry{Program: program, Actor: string(person), Verb: "lasting.used", Object: string(call), Result: "done",
			Detail:   map[string]string{"lasting": string(f.id), "prompt": ev.Prompt, "sha256": ev.PromptSHA256},
			Subjects: []yesline.PersonID{person}})
		return err
	})
	if err != nil {
		return fmt.Errorf("recalling a lasting yes: %w", err)
	}
	return nil
}

// LastingOf lists what a person lets last, newest first: LastingMost at most.
func (c *Consent) LastingOf(ctx context.Context, person yesline.PersonID) ([]LastingYes, error) {
	rows, err := c.db.Query(ctx, `SELECT id, other_person, way, call, at, used, lapses FROM consent_lasting
		WHERE person = $1 AND lapses > $2 ORDER BY at DESC, id LIMIT $3`, string(person), db.Millis(time.Now()), LastingMost)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []LastingYes
	for rows.Next() {
		var y LastingYes
		if err := rows.Scan(&y.ID, &y.Other, &y.Way, &y.Call, &y.AtMillis, &y.UsedMillis, &y.LapsesMillis); err != nil {
			return nil, err
		}
		all = append(all, y)
	}
	return all, rows.Err()
}

// EndLasting ends one of the permitted person's own; the permit is to Manage
// their account. yesline.NotFound for one that is absent or another's. Calls
// that go on are not stopped by it.
func (c *Consent) EndLasting(ctx context.Context, permit access.Permit, id yesline.EntryID) error {
	if _, err := permit.Allows(access.Manage, "account", permit.Who().Account()); err != nil {
		return err
	}
	err := c.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		gone, err := endLasting(ctx, tx, `DELETE FROM consent_lasting WHERE id = $1 AND person = $2 RETURNING `+endedColumns,
			string(id), string(permit.Who().Person()))
		if err != nil {
			return err
		}
		if len(gone) == 0 {
			return yesline.NotFound
		}
		return c.tellEnded(ctx, tx, gone, permit.Who().String(), "", "page")
	})
	if err != nil {
		return fmt.Errorf("ending a lasting yes: %w", err)
	}
	return nil
}

// takeBack ends a person's lasting yes to calls with whoever else is in a call.
func (c *Consent) takeBack(ctx context.Context, tx *db.Tx, call yesline.CallID, person yesline.PersonID, actor, by string) error {
	gone, err := endLasting(ctx, tx, `DELETE FROM consent_lasting WHERE person = $1 AND other_person IN
		(SELECT person FROM consent_standings WHERE call = $2) RETURNING `+endedColumns, string(person), string(call))
	if err != nil {
		return err
	}
	return c.tellEnded(ctx, tx, gone, actor, call, by)
}

// ended is a lasting yes that is gone.
type ended struct {
	id      yesline.EntryID
	person  yesline.PersonID
	program yesline.ProgramID
	call    yesline.CallID
}

const endedColumns = `id, person, program, call`

// endLasting runs a DELETE that returns endedColumns.
func endLasting(ctx context.Context, tx *db.Tx, q string, args ...any) (gone []ended, err error) {
	rows, err := tx.Query(ctx, q, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var e ended
		if err := rows.Scan(&e.id, &e.person, &e.program, &e.call); err != nil {
			return nil, err
		}
		gone = append(gone, e)
	}
	return gone, rows.Err()
}

// tellEnded writes into the log that lasting yeses of one person ended. Call is
// where it happened; "" stands for the one in which the first was given.
func (c *Consent) tellEnded(ctx context.Context, tx *db.Tx, gone []ended, actor string, call yesline.CallID, by string) error {
	if len(gone) == 0 {
		return nil
	}
	first := gone[0]
	if call == "" {
		call = first.call
	}
	e := audit.Entry{Program: first.program, Actor: actor, Verb: "lasting.ended", Object: string(call), Result: "done",
		Detail:   map[string]string{"lasting": string(first.id), "by": by, "count": strconv.Itoa(len(gone))},
		Subjects: []yesline.PersonID{first.person}}
	_, err := c.log.Record(ctx, tx, e)
	if errors.Is(err, yesline.NotFound) { // they are being erased, and their key is gone
		e.Actor, e.Object, e.Subjects = "svc:consent", "", nil
		_, err = c.log.Record(ctx, tx, e)
	}
	return err
}

// sweepMost is how many lasting yeses one Sweep ends.
const sweepMost = 100

// Sweep ends lasting yeses whose time is up: they count for nothing already,
// and who talks with whom is not kept longer than it is needed. app calls it
// every minute.
func (c *Consent) Sweep(ctx context.Context) error {
	err := c.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		gone, err := endLasting(ctx, tx, `DELETE FROM consent_lasting WHERE id IN
			(SELECT id FROM consent_lasting WHERE lapses <= $1 ORDER BY lapses LIMIT $2) RETURNING `+endedColumns, db.Millis(time.Now()), sweepMost)
		if err != nil {
			return err
		}
		for _, one := range gone {
			if err := c.tellEnded(ctx, tx, []ended{one}, "svc:consent", "", "time"); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("sweeping lasting yeses: %w", err)
	}
	return nil
}

// forgetLasting removes what either side of a lasting yes left. The entry names
// nobody: who is forgotten must not stay in what another person reads.
func (c *Consent) forgetLasting(ctx context.Context, tx *db.Tx, person yesline.PersonID) error {
	gone, err := endLasting(ctx, tx, `DELETE FROM consent_lasting WHERE person = $1 OR other_person = $1 RETURNING `+endedColumns, string(person))
	if err != nil || len(gone) == 0 {
		return err
	}
	_, err = c.log.Record(ctx, tx, audit.Entry{Program: gone[0].program, Actor: "svc:consent", Verb: "lasting.ended", Result: "done",
		Detail: map[string]string{"by": "forgotten", "count": strconv.Itoa(len(gone))}})
	return err
}
