// Package consent knows who said yes to what, with the evidence, and hands out
// the only thing that lets a byte be written: a Grant that lives for seconds.
package consent

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"time"

	"database/sql"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audit"
	"yesline/internal/db"
	"yesline/internal/program"
)

//go:embed migrations/*.sql
var migrations embed.FS

// State is how a purpose stands for one person in one call.
type State string

const (
	None      State = ""          // not asked, or no answer yet
	Yes       State = "yes"       //
	No        State = "no"        // refused, or never answered
	Stopped   State = "stopped"   // yes until then; what was kept stays
	Withdrawn State = "withdrawn" // taken back; what was kept is destroyed
)

// Party is a person in a call and where they said they are ("" for unknown).
type Party struct {
	Person yesline.PersonID
	Place  string
}

// Evidence is how an answer came about. It holds no sound of the person.
type Evidence struct {
	Channel      string // "keypad", "page", "call" (the phone said nothing), "sip" (recordpref of RFC 7866), "terms", "remembered"
	Prompt       string // which prompt or text was given
	PromptSHA256 string // of its bytes, in hex
	Language     string // "en"
	FromMillis   int64  // its first word reached the person
	ToMillis     int64  // its last
	AtMillis     int64  // the answer; all three are unix ms
	Keys         string // what was pressed
}

// Answer is a person's own yes or no to a purpose, heard by us.
type Answer struct {
	Call    yesline.CallID
	Person  yesline.PersonID
	Leg     yesline.LegID
	Purpose Purpose
	Yes     bool
	Way     Way // how the house knows that it was them
	Evidence
}

// Event is one line of a call's consent history.
type Event struct {
	Person  yesline.PersonID
	Leg     yesline.LegID
	Purpose Purpose
	What    State
	Evidence
}

// Standing is what a person's consent is now, in one call.
type Standing struct {
	Record         State
	Share, License bool
	Generation     int64 // moves with every change in the call
	AtMillis       int64 // when Record last changed
}

// Kept reports whether what was recorded may still exist and be heard by its
// owner.
func (s Standing) Kept() bool { return s.Record == Yes || s.Record == Stopped }

// Consent is the room.
type Consent struct {
	db       *db.DB
	log      *audit.Log
	jobs     *db.Jobs
	programs *program.Programs
}

// Shred is the job that destroys what a withdrawn consent had allowed; its id
// is "call/person".
const Shred = "shred"

// Open migrates the room's tables in the content database.
func Open(ctx context.Context, content *db.DB, log *audit.Log, jobs *db.Jobs, programs *program.Programs) (*Consent, error) {
	return &Consent{content, log, jobs, programs}, content.Migrate(ctx, "consent", migrations)
}

// Open opens a call's consent: who is in it and which rule holds. Nothing is
// allowed until somebody answers; who chose in the terms never to be recorded
// has answered.
func (c *Consent) Open(ctx context.Context, call yesline.CallID, id yesline.ProgramID, parties []Party) error {
	terms, err := c.programs.Terms(ctx, id)
	if err != nil {
		return err
	}
	if len(parties) < 2 || len(parties) > 16 {
		return fmt.Errorf("a call with %d parties: %w", len(parties), yesline.Invalid)
	}
	oneSided, why := rule(terms.OneSided, parties)
	now := db.Millis(time.Now())
	return c.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO consent_calls (call, program, one_sided, why, ask, revision) VALUES ($1, $2, $3, $4, $5, 0)`,
			string(call), string(id), oneSided, why, terms.Ask); err != nil {
			return err
		}
		for _, p := range parties {
			if _, err := tx.Exec(ctx, `INSERT INTO consent_standings (call, person, purpose, state, at) VALUES ($1, $2, $3, '', $4)`,
				string(call), string(p.Person), string(Record), now); err != nil {
				return err
			}
			if err := c.keepOut(ctx, tx, call, p.Person, now); err != nil {
				return err
			}
		}
		return nil
	})
}

// Rule tells in words why one voice may or may not be kept after a no.
func (c *Consent) Rule(ctx context.Context, call yesline.CallID) (oneSided bool, why string, err error) {
	err = c.db.QueryRow(ctx, `SELECT one_sided, why FROM consent_calls WHERE call = $1`, string(call)).Scan(&oneSided, &why)
	return oneSided, why, absent(err)
}

// Rule is what holds in a call, as it was when the call opened.
type Rule struct {
	OneSided bool   // one voice may be kept after the other's no
	Why      string // in words
	Ask      string // program.AskBefore or program.AskDuring
}

// Rules gives the rules of at most 500 calls. Of a call that consent does not
// know there is none; the zero Rule is the strict one.
func (c *Consent) Rules(ctx context.Context, calls []yesline.CallID) (map[yesline.CallID]Rule, error) {
	found := map[yesline.CallID]Rule{}
	if len(calls) == 0 {
		return found, nil
	}
	if len(calls) > db.MaxIn {
		return nil, fmt.Errorf("the rules of %d calls at once: %w", len(calls), yesline.Invalid)
	}
	args := make([]any, len(calls))
	for i, id := range calls {
		args[i] = string(id)
	}
	rows, err := c.db.Query(ctx, `SELECT call, one_sided, why, ask FROM consent_calls WHERE call IN (`+db.In(1, len(args))+`)`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var call yesline.CallID
		var r Rule
		if err := rows.Scan(&call, &r.OneSided, &r.Why, &r.Ask); err != nil {
			return nil, err
		}
		found[call] = r
	}
	return found, rows.Err()
}

// OneSided tells which of at most 500 calls let a voice be kept against
// another's no. A call that consent does not know does not.
func (c *Consent) OneSided(ctx context.Context, calls []yesline.CallID) (map[yesline.CallID]bool, error) {
	rules, err := c.Rules(ctx, calls)
	if err != nil {
		return nil, err
	}
	found := map[yesline.CallID]bool{}
	for call, r := range rules {
		found[call] = r.OneSided
	}
	return found, nil
}

func absent(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("the consent of a call: %w", yesline.NotFound)
	}
	return err
}

func subject(call yesline.CallID) string { return "consent/" + string(call) }

// Answer keeps a yes or no to being recorded. A no is final for the call; a no
// after a yes takes the yes back and destroys what it had allowed. Every no
// ends a lasting yes to calls with the same other person. With a yes comes what
// the person chose in the terms, but not with that of a caller's number: it
// proves nothing, and whoever shows it speaks for themselves alone.
func (c *Consent) Answer(ctx context.Context, a Answer) error {
	if a.Purpose != Record {
		return fmt.Errorf("in a call only %s is asked: %w", Record, yesline.Invalid)
	}
	if a.Yes && a.Channel == ByMemory {
		return fmt.Errorf("a remembered yes is recalled: %w", yesline.Invalid)
	}
	if a.Yes {
		return c.change(ctx, a, answered(Yes), false)
	}
	return c.change(ctx, a, answered(No), true)
}

// answered tells what follows from a yes or no.
func answered(what State) func(State) (State, error) {
	return func(now State) (State, error) {
		switch {
		case now == what:
			return now, nil
		case now == None:
			return what, nil
		case now == Yes && what == No:
			return Withdrawn, nil
		}
		return now, fmt.Errorf("an answer after %s: %w: %w", now, errLate, yesline.Conflict)
	}
}

// errLate is an answer that says nothing about its call any more.
var errLate = errors.New("too late")

// Stop ends a person's recording in the call: no further byte of theirs, and
// under the strict rule of anybody. What was kept stays until withdrawn. It is
// about this call alone: a lasting yes stays.
func (c *Consent) Stop(ctx context.Context, call yesline.CallID, person yesline.PersonID, leg yesline.LegID, ev Evidence) error {
	return c.change(ctx, Answer{Call: call, Person: person, Leg: leg, Evidence: ev}, func(now State) (State, error) {
		switch now {
		case Yes:
			return Stopped, nil
		case None:
			return No, nil
		}
		return now, nil
	}, false)
}

// change moves the Record standing of one person and tells everybody. Takes
// says that it ends a lasting yes too, also where the standing does not move.
func (c *Consent) change(ctx context.Context, a Answer, next func(State) (State, error), takes bool) error {
	if err := a.check(); err != nil {
		return err
	}
	var late error
	err := c.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		late = nil
		_, err := c.move(ctx, tx, a, next)
		if errors.Is(err, errLate) && takes {
			late, err = err, nil // too late for this call, and in time for those to come
		}
		if err != nil || !takes {
			return err
		}
		return c.takeBack(ctx, tx, a.Call, a.Person, string(a.Person), "no")
	})
	if err = errors.Join(err, late); err != nil {
		return fmt.Errorf("keeping an answer: %w", err)
	}
	return nil
}

// move moves the Record standing of one person and gives the id of the event,
// "" where it does not move.
func (c *Consent) move(ctx context.Context, tx *db.Tx, a Answer, next func(State) (State, error)) (event string, err error) {
	now, err := standing(ctx, tx, a.Call, a.Person, Record)
	if err != nil {
		return "", err
	}
	to, err := next(now)
	if err != nil || to == now {
		return "", err
	}
	event, err = c.set(ctx, tx, a.Call, a.Person, a.Leg, Record, to, a.Evidence, string(a.Person))
	if err != nil || to != Yes || a.Way != ByRinging && a.Way != ByAccount {
		return event, err
	}
	return event, c.carryOver(ctx, tx, a.Call, a.Person, a.Leg, a.AtMillis)
}

func standing(ctx context.Context, tx *db.Tx, call yesline.CallID, person yesline.PersonID, p Purpose) (State, error) {
	var s State
	err := tx.QueryRow(ctx, `SELECT state FROM consent_standings WHERE call = $1 AND person = $2 AND purpose = $3`,
		string(call), string(person), string(p)).Scan(&s)
	return s, absent(err)
}

// set writes a standing, its event, its log entry, and moves the generation. It
// gives the id of the event.
func (c *Consent) set(ctx context.Context, tx *db.Tx, call yesline.CallID, person yesline.PersonID, leg yesline.LegID, p Purpose, to State, ev Evidence, actor string) (event string, err error) {
	if _, err := tx.Exec(ctx, `INSERT INTO consent_standings (call, person, purpose, state, at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (call, person, purpose) DO UPDATE SET state = excluded.state, at = excluded.at`,
		string(call), string(person), string(p), string(to), ev.AtMillis); err != nil {
		return "", err
	}
	kind := "heard"
	if ev.Channel == ByMemory {
		kind = ByMemory
	}
	event = string(yesline.NewEntryID())
	if _, err := tx.Exec(ctx, `INSERT INTO consent_events (id, call, person, leg, purpose, what, kind, channel, prompt, prompt_sha256, language, from_ms, to_ms, at_ms, keys)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
		event, string(call), string(person), string(leg), string(p), string(to), kind,
		ev.Channel, ev.Prompt, ev.PromptSHA256, ev.Language, ev.FromMillis, ev.ToMillis, ev.AtMillis, ev.Keys); err != nil {
		return "", err
	}
	var program yesline.ProgramID
	var ask string
	if err := tx.QueryRow(ctx, `UPDATE consent_calls SET revision = revision + 1 WHERE call = $1 RETURNING program, ask`, string(call)).Scan(&program, &ask); err != nil {
		return "", absent(err)
	}
	if err := tx.Touch(ctx, subject(call)); err != nil {
		return "", err
	}
	if p == Record && to == Withdrawn {
		if err := c.jobs.Enqueue(ctx, tx, Shred, string(call)+"/"+string(person)); err != nil {
			return "", err
		}
	}
	_, err = c.log.Record(ctx, tx, audit.Entry{Program: program, Actor: actor, Verb: "consent." + string(to), Object: string(call), Result: "done",
		Detail:   map[string]string{"purpose": string(p), "channel": ev.Channel, "prompt": ev.Prompt, "sha256": ev.PromptSHA256, "keys": ev.Keys, "ask": ask},
		Subjects: []yesline.PersonID{person}})
	return event, err
}

func (e Evidence) check() error {
	for _, s := range []string{e.Channel, e.Prompt, e.PromptSHA256, e.Language, e.Keys} {
		if len(s) > 512 {
			return fmt.Errorf("evidence over 512 letters: %w", yesline.Invalid)
		}
	}
	if e.Channel == "" || e.AtMillis <= 0 {
		return fmt.Errorf("an answer without channel or time: %w", yesline.Invalid)
	}
	return nil
}

// Set gives share or license on the permitted person's own voice in a call.
// It needs a voice that was recorded with their own yes.
func (c *Consent) Set(ctx context.Context, permit access.Permit, call yesline.CallID, p Purpose, ev Evidence) error {
	return c.permitted(ctx, permit, access.Allow, call, p, ev, Yes)
}

// Withdraw takes back a purpose of the permitted person in a call. Taking back
// record takes all and destroys the voice: the job Shred follows within moments.
// It also ends a lasting yes to calls with the same other person.
func (c *Consent) Withdraw(ctx context.Context, permit access.Permit, call yesline.CallID, p Purpose, ev Evidence) error {
	return c.permitted(ctx, permit, access.Withdraw, call, p, ev, Withdrawn)
}

func (c *Consent) permitted(ctx context.Context, permit access.Permit, v access.Verb, call yesline.CallID, p Purpose, ev Evidence, to State) error {
	if _, err := permit.Allows(v, "call", string(call)); err != nil {
		return err
	}
	person := permit.Who().Person()
	if person == "" || v == access.Allow && p != Share && p != License || v == access.Withdraw && p != Record && p != Share && p != License {
		return fmt.Errorf("consent to %q: %w", p, yesline.Invalid)
	}
	if err := ev.check(); err != nil {
		return err
	}
	err := c.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		err := c.choose(ctx, tx, call, person, p, ev, to, permit.Who().String())
		if err != nil || to != Withdrawn || p != Record {
			return err
		}
		return c.takeBack(ctx, tx, call, person, permit.Who().String(), "withdrawn")
	})
	if err != nil {
		return fmt.Errorf("changing consent: %w", err)
	}
	return nil
}

// choose sets a purpose of a voice that is kept, and with record all of them.
func (c *Consent) choose(ctx context.Context, tx *db.Tx, call yesline.CallID, person yesline.PersonID, p Purpose, ev Evidence, to State, actor string) error {
	record, err := standing(ctx, tx, call, person, Record)
	if err != nil {
		return err
	}
	if !(Standing{Record: record}).Kept() {
		if to == Withdrawn {
			return nil // nothing of theirs is kept: it is as they wish
		}
		return fmt.Errorf("there is no voice of theirs to allow it for: %w", yesline.Conflict)
	}
	purposes := []Purpose{p}
	if p == Record {
		purposes = []Purpose{License, Share, Record}
	}
	for _, p := range purposes {
		now, err := standing(ctx, tx, call, person, p)
		if errors.Is(err, yesline.NotFound) {
			now, err = None, nil
		}
		if err != nil {
			return err
		}
		if now == to || to == Withdrawn && now == None {
			continue
		}
		if _, err := c.set(ctx, tx, call, person, "", p, to, ev, actor); err != nil {
			return err
		}
	}
	return nil
}

// Standings gives how consent stands for everybody in at most 500 calls.
func (c *Consent) Standings(ctx context.Context, calls []yesline.CallID) (map[yesline.CallID]map[yesline.PersonID]Standing, error) {
	all := map[yesline.CallID]map[yesline.PersonID]Standing{}
	if len(calls) == 0 {
		return all, nil
	}
	if len(calls) > db.MaxIn {
		return nil, fmt.Errorf("the consent of %d calls at once: %w", len(calls), yesline.Invalid)
	}
	args := make([]any, len(calls))
	for i, id := range calls {
		args[i] = string(id)
	}
	rows, err := c.db.Query(ctx, `SELECT s.call, s.person, s.purpose, s.state, s.at, k.revision
		FROM consent_standings s JOIN consent_calls k ON k.call = s.call WHERE s.call IN (`+db.In(1, len(args))+`)`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var call yesline.CallID
		var person yesline.PersonID
		var p Purpose
		var state State
		var at, revision int64
		if err := rows.Scan(&call, &person, &p, &state, &at, &revision); err != nil {
			return nil, err
		}
		if all[call] == nil {
			all[call] = map[yesline.PersonID]Standing{}
		}
		s := all[call][person]
		s.Generation = revision
		switch p {
		case Record:
			s.Record, s.AtMillis = state, at
		case Share:
			s.Share = state == Yes
		case License:
			s.License = state == Yes
		}
		all[call][person] = s
	}
	return all, rows.Err()
}

// Of gives how one person's consent stands in one call.
func (c *Consent) Of(ctx context.Context, call yesline.CallID, person yesline.PersonID) (Standing, error) {
	all, err := c.Standings(ctx, []yesline.CallID{call})
	if err != nil {
		return Standing{}, err
	}
	s, ok := all[call][person]
	if !ok {
		return Standing{}, absent(sql.ErrNoRows)
	}
	return s, nil
}

// History lists what was said in a call, oldest first.
func (c *Consent) History(ctx context.Context, call yesline.CallID) ([]Event, error) {
	rows, err := c.db.Query(ctx, `SELECT person, leg, purpose, what, channel, prompt, prompt_sha256, language, from_ms, to_ms, at_ms, keys
		FROM consent_events WHERE call = $1 ORDER BY at_ms, id LIMIT 500`, string(call))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var events []Event
	for rows.Next() {
		var e Event
		if err := rows.Scan(&e.Person, &e.Leg, &e.Purpose, &e.What, &e.Channel, &e.Prompt, &e.PromptSHA256, &e.Language,
			&e.FromMillis, &e.ToMillis, &e.AtMillis, &e.Keys); err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

// Forget removes a person's consent records, and lasting yeses of others to
// calls with them; their voices are destroyed first.
func (c *Consent) Forget(ctx context.Context, person yesline.PersonID) error {
	return c.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, table := range []string{"consent_events", "consent_standings", "consent_terms"} {
			if _, err := tx.Exec(ctx, `DELETE FROM `+table+` WHERE person = $1`, string(person)); err != nil {
				return err
			}
		}
		return c.forgetLasting(ctx, tx, person)
	})
}

// allowed is the rule of bytes: the speaker's own yes, and, unless one-sided
// recording is permitted, everybody's.
func allowed(oneSided bool, all map[yesline.PersonID]Standing, person yesline.PersonID) bool {
	if all[person].Record != Yes {
		return false
	}
	if oneSided {
		return true
	}
	for _, s := range all {
		if s.Record != Yes {
			return false
		}
	}
	return true
}
