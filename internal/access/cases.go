package access

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/db"
	"yesline/internal/session"
)

//go:embed migrations/*.sql
var migrations embed.FS

// How far a case has come.
const (
	CaseAsked   = "asked"   // nobody else has said yes or no
	CaseOpen    = "open"    // its asker may look, until Until
	CaseRefused = "refused" // the second person said no
	CaseClosed  = "closed"  // its asker was done with it, or took it back
	CaseExpired = "expired" // its time is over, or nobody answered within WaitTime
)

const (
	CaseTime = 30 * time.Minute // how long an approved case is open
	WaitTime = 24 * time.Hour   // how long a case waits for the second person

	SecondPersonAge = 72 * time.Hour // how old the account of who approves is at least

	reasonLeast = 10 // runes
	reasonMost  = 500
	reasonTold  = 480 // bytes of it in the log; its SHA-256 stands for the rest

	maxWaiting  = 20   // cases of one asker that wait or are open
	maxOpenKept = 1000 // open cases that are kept in memory
	maxListed   = 100
	maxInARow   = 100 // cases that are asked for in the same millisecond

	casesWatch = "cases"
)

// TooNear is why somebody cannot be the second person of a case: their account
// is younger than SecondPersonAge, or one of the two appointed the other. It
// comes with yesline.Denied.
var TooNear = errors.New("the second person is too near to who asked")

// Case is what somebody who works here asked to open that is not theirs, why,
// and what a second person said. Times are unix milliseconds, 0 for never.
type Case struct {
	ID       yesline.CaseID
	Program  yesline.ProgramID
	Object   Object // a call or a person; its ID is "" once the person is erased
	Asker    string // "stf_…"
	Approver string // who said yes or no; "" before that
	Reason   string // in the asker's words; the people it touches read it
	Number   string // under which the matter is filed elsewhere
	State    string // CaseAsked, CaseOpen, ...
	Asked    int64
	Opened   int64
	Until    int64
}

// Colleague is what a case must know of a staff account: who appointed them, as
// the log names them, and when, in unix milliseconds.
type Colleague struct {
	By      string
	Created int64
}

// CaseParts are what cases are made of.
type CaseParts struct {
	Content *db.DB

	// Record is audit's Log.Record.
	Record func(context.Context, *db.Tx, audit.Entry) (audit.Ref, error)

	// MAC marks each case under its program's key, so that nobody who can only
	// write the database makes or changes one. Its error is yesline.NotFound when
	// that key is destroyed. Without it cases are not marked.
	MAC func(ctx context.Context, program yesline.ProgramID, data []byte) ([]byte, error)

	// Colleague looks up a staff account. Without it nobody approves.
	Colleague func(ctx context.Context, account string) (Colleague, error)
}

// Cases is the glass that staff break: a case is asked for by one officer,
// approved by another, open for CaseTime, and told to everybody it touches. It
// is made by Open.
type Cases struct {
	content   *db.DB
	record    func(context.Context, *db.Tx, audit.Entry) (audit.Ref, error)
	mac       func(context.Context, yesline.ProgramID, []byte) ([]byte, error)
	colleague func(context.Context, string) (Colleague, error)
	watch     *db.Held
	kept      atomic.Pointer[openCases]
}

// openCases are all cases that were open at a revision of the watch. Their
// time is looked at whenever they are used.
type openCases struct {
	revision int64
	cases    []Case
}

// Open migrates the tables in the content database.
func Open(ctx context.Context, parts CaseParts) (*Cases, error) {
	if parts.Record == nil {
		return nil, errors.New("cases need a log")
	}
	if err := parts.Content.Migrate(ctx, "access", migrations); err != nil {
		return nil, err
	}
	watch, err := parts.Content.Hold(ctx, casesWatch)
	if err != nil {
		return nil, fmt.Errorf("watching the cases: %w", err)
	}
	return &Cases{content: parts.Content, record: parts.Record, mac: parts.MAC, colleague: parts.Colleague, watch: watch}, nil
}

// Release stops watching; the cases are not used afterwards.
func (c *Cases) Release() { c.watch.Release() }

// Ask asks for a case about the one call or person that the permit (Break)
// names. owners are all whom it touches: the person, or a call's parties. Each
// of them finds it in their log at once. reason is 10 to 500 characters, in
// words that those people may read; number is how the matter is filed.
func (c *Cases) Ask(ctx context.Context, permit Permit, owners []yesline.PersonID, reason, number string) (Case, error) {
	item, err := only(permit, Break, "call", "person")
	if err != nil {
		return Case{}, err
	}
	owners, err = touched(item, owners)
	if err != nil {
		return Case{}, err
	}
	reason, err = plainReason(reason)
	if err != nil {
		return Case{}, err
	}
	if !plainNumber.MatchString(number) || telephone(number) {
		return Case{}, fmt.Errorf("a case number is 1 to 64 letters, digits, spaces and . _ / # : - , and no telephone number: %w", yesline.Invalid)
	}
	asker, err := officer(permit)
	if err != nil {
		return Case{}, err
	}
	now := time.Now()
	made := Case{ID: yesline.NewCaseID(), Program: item.Program, Object: item.Object, Asker: asker,
		Reason: reason, Number: number, State: CaseAsked}
	err = c.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := room(ctx, tx, asker, now); err != nil {
			return err
		}
		var err error
		if made.Asked, err = freeMoment(ctx, tx, now); err != nil {
			return err
		}
		mac, err := c.mark(ctx, made)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO cases (id, program, kind, object, asker, approver, reason, number, state, asked_at, opened_at, until_at, mac)
			VALUES ($1, $2, $3, $4, $5, '', $6, $7, $8, $9, 0, 0, $10)`, string(made.ID), string(made.Program), made.Object.Kind, made.Object.ID,
			asker, reason, number, made.State, made.Asked, mac); err != nil {
			return err
		}
		for _, p := range owners {
			if _, err := tx.Exec(ctx, `INSERT INTO case_people (case_id, person, opened_at) VALUES ($1, $2, 0)`, string(made.ID), string(p)); err != nil {
				return err
			}
		}
		return c.tell(ctx, tx, "case.asked", asker, made, owners)
	})
	if err != nil {
		return Case{}, fmt.Errorf("asking for a case: %w", err)
	}
	return made, nil
}

// Approve opens a case for CaseTime. The permit (Approve) is somebody else's
// than the asker's; the error is TooNear, and yesline.Denied, if they are not
// second person enough. It is a Conflict if the case no longer waits.
func (c *Cases) Approve(ctx context.Context, permit Permit) (Case, error) {
	if err := c.apart(ctx, permit); err != nil { // before the transaction: it asks another room
		return Case{}, fmt.Errorf("approving a case: %w", err)
	}
	return c.answer(ctx, permit, CaseOpen)
}

// Refuse says no to a case, like Approve. Anybody else than the asker may.
func (c *Cases) Refuse(ctx context.Context, permit Permit) (Case, error) {
	return c.answer(ctx, permit, CaseRefused)
}

func (c *Cases) answer(ctx context.Context, permit Permit, state string) (Case, error) {
	item, second, err := toAnswer(permit)
	if err != nil {
		return Case{}, err
	}
	now := time.Now()
	return c.change(ctx, item, now, func(was Case) (Case, error) {
		if was.Asker == second {
			return was, fmt.Errorf("answering one's own case: %w", yesline.Denied)
		}
		if was.State != CaseAsked {
			return was, fmt.Errorf("answering a case that no longer waits: %w", yesline.Conflict)
		}
		is := was
		is.State, is.Approver = state, second
		if state == CaseOpen {
			is.Opened, is.Until = db.Millis(now), db.Millis(now.Add(CaseTime))
		}
		return is, nil
	})
}

// toAnswer is the case that a permit (Approve) names, and the officer's account
// behind it.
func toAnswer(permit Permit) (item Item, second string, err error) {
	if item, err = only(permit, Approve, "case"); err != nil {
		return Item{}, "", err
	}
	second, err = officer(permit)
	return item, second, err
}

// apart makes it dearer for one person to be two: whoever gives roles would
// have to wait for days, in which others see the new colleague.
func (c *Cases) apart(ctx context.Context, permit Permit) error {
	item, second, err := toAnswer(permit)
	if err != nil {
		return err
	}
	if c.colleague == nil {
		return fmt.Errorf("nobody knows who works here: %w", yesline.Denied)
	}
	id := yesline.CaseID(item.ID)
	found, err := c.ByID(ctx, []yesline.CaseID{id})
	if err != nil {
		return err
	}
	asked, there := found[id]
	if !there {
		return errNoCase
	}
	first, err := c.colleague(ctx, asked.Asker)
	if err != nil {
		return fmt.Errorf("looking up who asked: %w", err)
	}
	other, err := c.colleague(ctx, second)
	if err != nil {
		return fmt.Errorf("looking up the second person: %w", err)
	}
	young := other.Created > db.Millis(time.Now().Add(-SecondPersonAge))
	if young || first.By == second || other.By == asked.Asker {
		return fmt.Errorf("%w: %w", TooNear, yesline.Denied)
	}
	return nil
}

// Close ends a case before its time, or takes it back before it was answered.
// The permit (Break on the case) is the asker's.
func (c *Cases) Close(ctx context.Context, permit Permit) (Case, error) {
	item, err := only(permit, Break, "case")
	if err != nil {
		return Case{}, err
	}
	now := time.Now()
	return c.change(ctx, item, now, func(was Case) (Case, error) {
		if was.Asker != permit.Who().Account() {
			return was, fmt.Errorf("closing somebody else's case: %w", yesline.Denied)
		}
		if was.State != CaseAsked && was.State != CaseOpen {
			return was, fmt.Errorf("closing a case that is over: %w", yesline.Conflict)
		}
		is := was
		is.State = CaseClosed
		if was.State == CaseOpen {
			is.Until = db.Millis(now)
		}
		return is, nil
	})
}

// change takes a case from what it was to what it is, tells everybody it
// touches, and every node.
func (c *Cases) change(ctx context.Context, item Item, now time.Time, to func(was Case) (is Case, err error)) (is Case, err error) {
	err = c.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		was, err := scanCase(tx.QueryRow(ctx, selectCases+` WHERE id = $1 AND program = $2`, item.ID, string(item.Program)))
		if errors.Is(err, sql.ErrNoRows) {
			return errNoCase
		}
		if err != nil {
			return err
		}
		genuine, err := c.genuine(ctx, was)
		if err != nil {
			return err
		}
		if !genuine {
			return errNoCase
		}
		if is, err = to(was.asOf(now)); err != nil {
			return err
		}
		mac, err := c.mark(ctx, is)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE cases SET state = $1, approver = $2, opened_at = $3, until_at = $4, mac = $5 WHERE id = $6`,
			is.State, is.Approver, is.Opened, is.Until, mac, string(is.ID)); err != nil {
			return err
		}
		if is.Opened != was.Opened {
			if _, err := tx.Exec(ctx, `UPDATE case_people SET opened_at = $1 WHERE case_id = $2`, is.Opened, string(is.ID)); err != nil {
				return err
			}
		}
		owners, err := peopleOf(ctx, tx, is.ID)
		if err != nil {
			return err
		}
		actor, verb := is.Asker, "case.closed"
		switch is.State {
		case CaseOpen:
			actor, verb = is.Approver, "case.opened"
		case CaseRefused:
			actor, verb = is.Approver, "case.refused"
		}
		if err := c.tell(ctx, tx, verb, actor, is, owners); err != nil {
			return err
		}
		return tx.Touch(ctx, casesWatch)
	})
	if err != nil {
		return Case{}, fmt.Errorf("changing a case: %w", err)
	}
	return is, nil
}

// tell writes what happened into the log of everybody a case touches.
func (c *Cases) tell(ctx context.Context, tx *db.Tx, verb, actor string, is Case, owners []yesline.PersonID) error {
	sum := sha256.Sum256([]byte(is.Reason))
	e := audit.Entry{Program: is.Program, Actor: actor, Verb: verb, Object: is.Object.ID, Result: "done", Subjects: owners,
		Detail: map[string]string{"case": string(is.ID), "number": is.Number, "asker": is.Asker,
			"reason": strings.ToValidUTF8(is.Reason[:min(len(is.Reason), reasonTold)], ""), "reason sha256": hex.EncodeToString(sum[:])}}
	if len(owners) == 0 { // everybody it touched is erased, and the reason with them: what is left names no person
		e.Object = string(is.ID)
	}
	if _, err := c.record(ctx, tx, e); err != nil {
		return fmt.Errorf("the log did not take the case: %w", err)
	}
	return nil
}

// ByID gives the cases that exist of at most 500.
func (c *Cases) ByID(ctx context.Context, ids []yesline.CaseID) (map[yesline.CaseID]Case, error) {
	found := map[yesline.CaseID]Case{}
	if len(ids) == 0 {
		return found, nil
	}
	if len(ids) > MaxSet {
		return nil, fmt.Errorf("looking up %d cases at once: %w", len(ids), yesline.Invalid)
	}
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = string(id)
	}
	cases, err := c.read(ctx, ` WHERE id IN (`+db.In(1, len(args))+`)`, args...)
	for _, one := range cases {
		found[one.ID] = one
	}
	return found, err
}

// Facts is the Loader of the kind "case".
func (c *Cases) Facts(ctx context.Context, ids []string) (map[string]Facts, error) {
	some := make([]yesline.CaseID, len(ids))
	for i, id := range ids {
		some[i] = yesline.CaseID(id)
	}
	cases, err := c.ByID(ctx, some)
	if err != nil {
		return nil, err
	}
	facts := make(map[string]Facts, len(cases))
	for id, one := range cases {
		facts[string(id)] = Facts{Program: one.Program, Asker: one.Asker}
	}
	return facts, nil
}

// List gives a program's cases, or with "" those of the whole house, newest
// first: at most limit (100) that were asked for before a moment in unix
// milliseconds, 0 for now.
func (c *Cases) List(ctx context.Context, program yesline.ProgramID, before int64, limit int) ([]Case, error) {
	if before <= 0 {
		before = 1 << 62
	}
	limit = min(max(limit, 1), maxListed)
	if program == "" {
		return c.read(ctx, ` WHERE asked_at < $1 ORDER BY asked_at DESC, id LIMIT $2`, before, limit)
	}
	return c.read(ctx, ` WHERE program = $1 AND asked_at < $2 ORDER BY asked_at DESC, id LIMIT $3`, string(program), before, limit)
}

// About gives the cases that were open about a person or about a call of
// theirs, now or once, the latest first: at most limit (100). It is what the
// person is told; a case that was never opened is in their log alone.
func (c *Cases) About(ctx context.Context, person yesline.PersonID, limit int) ([]Case, error) {
	return c.read(ctx, ` WHERE id IN (SELECT case_id FROM case_people WHERE person = $1 AND opened_at > 0 ORDER BY opened_at DESC LIMIT $2)
		ORDER BY opened_at DESC, id`, string(person), min(max(limit, 1), maxListed))
}

// OpenBy gives the open cases of an officer. While nobody has one it costs
// nothing, so that every page can ask.
func (c *Cases) OpenBy(ctx context.Context, asker string) ([]Case, error) {
	all, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	now := db.Millis(time.Now())
	var own []Case
	for _, one := range all {
		if one.Asker == asker && one.Until > now {
			own = append(own, one)
		}
	}
	return own, nil
}

// OpenTo tells for at most 500 calls and persons which officers have an open
// case about them now: the OpenTo of Facts. While no case is open it costs
// nothing. A case that ends is over here at once, and on every node within a
// second.
func (c *Cases) OpenTo(ctx context.Context, objects []Object) (map[Object][]string, error) {
	if len(objects) > MaxSet {
		return nil, fmt.Errorf("the open cases of %d objects at once: %w", len(objects), yesline.Invalid)
	}
	all, err := c.open(ctx)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	now := db.Millis(time.Now())
	var found map[Object][]string
	for _, one := range all {
		if one.Until <= now || !slices.Contains(objects, one.Object) || slices.Contains(found[one.Object], one.Asker) {
			continue
		}
		if found == nil {
			found = map[Object][]string{}
		}
		found[one.Object] = append(found[one.Object], one.Asker)
	}
	return found, nil
}

// open gives all open cases: from memory, while the watch is fresh and has not
// moved. There are few: what staff open they also have to look at. Of more than
// maxOpenKept those that end first are over before their time.
func (c *Cases) open(ctx context.Context) ([]Case, error) {
	revision := c.watch.Revision() // before reading, so that what is kept is at least as new
	kept := c.kept.Load()
	if kept != nil && kept.revision == revision && c.content.Fresh() {
		return kept.cases, nil
	}
	cases, err := c.read(ctx, ` WHERE state = $1 AND until_at > $2 ORDER BY until_at DESC LIMIT $3`, CaseOpen, db.Millis(time.Now()), maxOpenKept)
	if err != nil {
		return nil, err
	}
	c.kept.Store(&openCases{revision, cases})
	return cases, nil
}

// only gives the one item of a permit that is of these kinds. A case is about
// one thing.
func only(p Permit, v Verb, kinds ...string) (Item, error) {
	var found []Item
	for _, kind := range kinds {
		items, err := p.Items(v, kind)
		if err != nil {
			return Item{}, err
		}
		found = append(found, items...)
	}
	if len(found) != 1 {
		return Item{}, fmt.Errorf("a permit to %s %d things, for one: %w", v, len(found), yesline.Denied)
	}
	return found[0], nil
}

// officer is the account behind a permit, if an officer's. The policies say so
// too; whoever holds the local socket has no account and is no second person.
func officer(p Permit) (account string, err error) {
	if p.Who().Kind() != session.Officer || p.Who().Account() == "" {
		return "", fmt.Errorf("a case is between officers: %w", yesline.Denied)
	}
	return p.Who().Account(), nil
}

// touched are those who are told of a case: never nobody.
func touched(item Item, owners []yesline.PersonID) ([]yesline.PersonID, error) {
	owners = slices.Clone(owners)
	slices.Sort(owners)
	owners = slices.Compact(owners)
	bad := len(owners) == 0 || len(owners) > maxSubjects ||
		item.Kind == "person" && (len(owners) != 1 || string(owners[0]) != item.ID) ||
		slices.ContainsFunc(owners, func(p yesline.PersonID) bool { return !yesline.IsID("per", string(p)) })
	if bad {
		return nil, fmt.Errorf("a case that touches %d people: %w", len(owners), yesline.Invalid)
	}
	return owners, nil
}

// room refuses a case more than one person can look at.
func room(ctx context.Context, tx *db.Tx, asker string, now time.Time) error {
	var n int
	err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM cases WHERE asker = $1 AND (state = $2 AND asked_at > $3 OR state = $4 AND until_at > $5)`,
		asker, CaseAsked, db.Millis(now.Add(-WaitTime)), CaseOpen, db.Millis(now)).Scan(&n)
	if err == nil && n >= maxWaiting {
		err = fmt.Errorf("%d cases wait or are open: %w", n, yesline.TooMany)
	}
	return err
}

// freeMoment is now, or the first moment after it in which nobody else asked:
// lists turn their pages by it, and would miss the second of two.
func freeMoment(ctx context.Context, tx *db.Tx, now time.Time) (int64, error) {
	for at := db.Millis(now); at < db.Millis(now)+maxInARow; at++ {
		var taken bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM cases WHERE asked_at = $1)`, at).Scan(&taken); err != nil || !taken {
			return at, err
		}
	}
	return 0, fmt.Errorf("%d cases in a moment: %w", maxInARow, yesline.TooMany)
}
