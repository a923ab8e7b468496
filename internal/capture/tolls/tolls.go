// Package tolls decides whether a call may be placed: to which number, by
// whom, how often, how long and at what cost. What is not permitted is refused
// in words; what a call may cost at most is held before it is placed, and what
// it did cost is counted when it ended.
//
// Emergency calls never come here.
package tolls

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"yesline"
	"yesline/internal/db"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Rules are what a house permits. The zero value permits nothing.
type Rules struct {
	International []string         // regions (ISO 3166) besides the program's own country; those of +1 are countries of their own
	Premium       bool             // premium and shared-cost numbers of the program's own country, at PerMinute["premium"]
	Never         []string         // prefixes such as "+4470" that are refused whatever else holds
	PerMinute     map[string]int64 // millionths of a dollar a minute by region; "" for all others. Without a price there is no call

	// What may be spent in a day (UTC), in millionths of a dollar.
	DayMicros        int64 // by a program
	AccountDayMicros int64 // by a person
	TrunkDayMicros   int64 // by a trunk

	Calls          Limit // at once
	PerMinuteCalls Limit // placed within any 60 s
	MaxLength      time.Duration

	CallerIDs []yesline.Phone // what a callee may be shown; the first is the default
}

// Limit is how many there may be of one account and of one trunk.
type Limit struct{ Account, Trunk int }

const (
	listMost  = 500
	limitMost = 1_000_000
	moneyMost = 1_000_000_000_000 // a million dollars a day
	priceMost = 100_000_000       // a hundred dollars a minute
	longest   = 4 * time.Hour
)

func (r Rules) check() error {
	if len(r.International) > listMost || len(r.Never) > listMost || len(r.CallerIDs) > listMost {
		return fmt.Errorf("tolls: a list of more than %d: %w", listMost, yesline.Invalid)
	}
	for _, region := range r.International {
		if _, ok := named(region); !ok {
			return fmt.Errorf("tolls: a region is two letters such as GB: %w", yesline.Invalid)
		}
	}
	for _, prefix := range r.Never {
		if digits, plus := strings.CutPrefix(prefix, "+"); !plus || digits == "" || len(digits) > 15 || strings.Trim(digits, "0123456789") != "" {
			return fmt.Errorf("tolls: a prefix is + and digits: %w", yesline.Invalid)
		}
	}
	for region, price := range r.PerMinute {
		if _, ok := named(region); !ok && region != "" && region != premium || price < 0 || price > priceMost {
			return fmt.Errorf("tolls: a price is for a region, for all others, or for premium, and not below nothing: %w", yesline.Invalid)
		}
	}
	for _, money := range []int64{r.DayMicros, r.AccountDayMicros, r.TrunkDayMicros} {
		if money < 0 || money > moneyMost {
			return fmt.Errorf("tolls: what may be spent in a day: %w", yesline.Invalid)
		}
	}
	for _, n := range []int{r.Calls.Account, r.Calls.Trunk, r.PerMinuteCalls.Account, r.PerMinuteCalls.Trunk} {
		if n < 0 || n > limitMost {
			return fmt.Errorf("tolls: a limit is 0 to %d: %w", limitMost, yesline.Invalid)
		}
	}
	if r.MaxLength < 0 || r.MaxLength > longest || r.MaxLength == 0 && r.Calls.Account > 0 {
		return fmt.Errorf("tolls: the longest call is up to 4 hours: %w", yesline.Invalid)
	}
	return nil
}

// CallerID gives the number that the callee is shown: the one that was wanted,
// if it is a configured one or the caller's own proven number; without a wish
// the first configured one. *Refusal otherwise.
func (r Rules) CallerID(wanted, proven yesline.Phone) (yesline.Phone, error) {
	if wanted.Digits() == "" && len(r.CallerIDs) > 0 {
		return r.CallerIDs[0], nil
	}
	mine := func(p yesline.Phone) bool { return p.Digits() != "" && p.Digits() == wanted.Digits() }
	if mine(proven) || slices.ContainsFunc(r.CallerIDs, mine) {
		return wanted, nil
	}
	return yesline.Phone{}, refuse(callerID, "")
}

// Parts are what tolls stands on.
type Parts struct {
	Content *db.DB
	// Program tells the country of a program and the regions that its own terms
	// list. Its list narrows that of the Rules and never widens it; an empty one
	// does neither.
	Program func(context.Context, yesline.ProgramID) (country string, international []string, err error)
	Report  *slog.Logger // ids and words, never a number; nil is silent
}

// Tolls is what stands between a call and the trunk.
type Tolls struct {
	parts Parts
	rules Rules
	pace  pace
	clerk clerk
}

// Open migrates the tables of tolls, settles the calls that a crash left, and
// begins to keep the books. Close ends that.
func Open(ctx context.Context, parts Parts, rules Rules) (*Tolls, error) {
	if err := rules.check(); err != nil {
		return nil, err
	}
	if parts.Report == nil {
		parts.Report = slog.New(slog.DiscardHandler)
	}
	if err := parts.Content.Migrate(ctx, "tolls", migrations); err != nil {
		return nil, err
	}
	t := &Tolls{parts: parts, rules: rules, pace: newPace()}
	t.clerk = newClerk(parts.Content, rules, parts.Report)
	// A folder has one server, so on SQLite no call of before can live. On
	// PostgreSQL other nodes carry calls: only what must have ended is settled.
	if err := t.clerk.settleLeft(ctx, !parts.Content.Postgres); err != nil {
		return nil, fmt.Errorf("settling the calls that were left: %w", err)
	}
	t.clerk.begin()
	return t, nil
}

// Close writes down what waits. No call is placed afterwards.
func (t *Tolls) Close() { t.clerk.close() }

// Who places a call.
type Who struct {
	Program yesline.ProgramID
	Person  yesline.PersonID // whose account pays; "": the house itself
	Trunk   string           // the trunk's name
	Inside  bool             // it is reached without a trunk: neither its number nor money matters
}

// house is the account that pays for calls that no person makes.
const house = "house"

func (w Who) account() string {
	if w.Person == "" {
		return house
	}
	return string(w.Person)
}

func (w Who) check() error {
	if w.Program == "" || len(w.Trunk) > 64 || w.Inside != (w.Trunk == "") {
		return fmt.Errorf("placing a call for no program, or by a trunk and by none: %w", yesline.Invalid)
	}
	return nil
}

// About is what a call to a number would be.
type About struct {
	Region  string // ISO 3166
	Country string // its name
	Micros  int64  // millionths of a dollar a minute
}

// Look tells what a call to this number would be, or the *Refusal that its
// number and country meet. It counts nothing and writes nothing.
func (t *Tolls) Look(ctx context.Context, who Who, to yesline.Phone) (About, error) {
	if err := who.check(); err != nil {
		return About{}, err
	}
	n := look(to)
	about := About{Region: n.region, Country: Country(n.region)}
	if who.Inside {
		return about, nil
	}
	price, err := t.judge(ctx, who.Program, n, to)
	about.Micros = price
	return about, err
}

// Ready gives the *Refusal that any call of somebody's account meets now,
// whoever is called: it has all its calls, or placed too many. That is counted
// for operators as Place counts it. What is ready, Place may still refuse.
func (t *Tolls) Ready(who Who) error {
	who.Trunk, who.Inside = "", true
	if err := who.check(); err != nil {
		return err
	}
	word := t.pace.may(who, t.rules, time.Now())
	if word == "" {
		return nil
	}
	t.clerk.note(who, word, "", 1)
	return refuse(word, "")
}

// Doubtful reports whether Place may well refuse a call, as far as that is
// known without asking the books: for its number, a trunk that is full, or a
// purse that is not known to have enough. It counts nothing.
func (t *Tolls) Doubtful(ctx context.Context, who Who, to yesline.Phone) bool {
	if _, err := t.Look(ctx, who, to); err != nil {
		return true
	}
	return t.pace.may(who, t.rules, time.Now()) != "" || t.clerk.short(who, dayOf(time.Now()))
}

// judge finds the price of a number, or why it is not called.
func (t *Tolls) judge(ctx context.Context, program yesline.ProgramID, n number, to yesline.Phone) (int64, error) {
	r := t.rules
	if slices.ContainsFunc(r.Never, func(prefix string) bool { return strings.HasPrefix(to.Digits(), prefix) }) {
		return 0, refuse(never, n.region)
	}
	home, narrower, err := t.parts.Program(ctx, program)
	if err != nil {
		return 0, fmt.Errorf("looking up whose call it is: %w", err)
	}
	word, priced := n.word, n.region
	switch word {
	case freephone:
		if n.region == home || n.code == 1 && n.region != "" && america(home) {
			word = ""
		}
	case premium, shared:
		if r.Premium && n.region == home {
			word, priced = "", premium
		}
	}
	if word != "" {
		return 0, refuse(word, n.region)
	}
	if n.region != home && (!slices.Contains(r.International, n.region) || len(narrower) > 0 && !slices.Contains(narrower, n.region)) && n.word != freephone {
		return 0, refuse(country, n.region)
	}
	price, known := r.PerMinute[priced]
	if !known && priced != premium {
		price, known = r.PerMinute[""]
	}
	if !known {
		return 0, refuse(noPrice, n.region)
	}
	return price, nil
}

// Place permits a call, and holds what it may cost at most until End. It is
// durable when this returns. *Refusal when it may not be; any other error says
// that it could not be found out, and then it is not placed either.
//
// While the database does not answer, the limits hold from memory, and the
// books are made up for later.
func (t *Tolls) Place(ctx context.Context, who Who, to yesline.Phone) (*Call, error) {
	if err := who.check(); err != nil {
		return nil, err
	}
	c, err := t.place(ctx, who, to)
	if r := (*Refusal)(nil); errors.As(err, &r) {
		t.clerk.note(who, r.Word, r.Region, 1)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (t *Tolls) place(ctx context.Context, who Who, to yesline.Phone) (*Call, error) {
	n := look(to)
	var price int64
	if !who.Inside {
		var err error
		if price, err = t.judge(ctx, who.Program, n, to); err != nil {
			return nil, err
		}
	}
	if word := t.pace.begin(who, t.rules, time.Now()); word != "" {
		return nil, refuse(word, n.region)
	}
	c := &Call{tolls: t, who: who, price: price, longest: t.rules.MaxLength}
	if price == 0 {
		return c, nil
	}
	word, err := t.clerk.hold(ctx, c)
	if err == nil && word != "" {
		err = refuse(word, n.region)
	}
	if err != nil {
		c.once.Do(func() { t.pace.end(who) })
		return nil, err
	}
	return c, nil
}

// Call is a call that was permitted. End must be called.
type Call struct {
	tolls   *Tolls
	who     Who
	price   int64 // of a minute
	longest time.Duration
	once    sync.Once
	entry   *entry // nil: it costs nothing
}

// Longest is how long the call may last from the moment it is answered. It
// ends a little before the next minute would be billed.
func (c *Call) Longest() time.Duration { return c.longest }

// Answered tells that the callee answered; at is time.Now. An unanswered call
// costs nothing. Only the first time counts. It does not wait.
func (c *Call) Answered(at time.Time) {
	if c.entry != nil {
		c.tolls.clerk.answered(c.entry, at)
	}
}

// End tells that the call is over, answered or not; at is time.Now. Only the
// first time counts. It does not wait.
func (c *Call) End(at time.Time) {
	c.once.Do(func() {
		c.tolls.pace.end(c.who)
		if c.entry != nil {
			c.tolls.clerk.ended(c.entry, at)
		}
	})
}

// Forget takes a person out of the books: what was spent in all stays, and so
// does what their calls still hold of program and trunk.
func (t *Tolls) Forget(ctx context.Context, person yesline.PersonID) error {
	if person == "" {
		return fmt.Errorf("forgetting nobody: %w", yesline.Invalid)
	}
	if err := t.clerk.sync(ctx); err != nil {
		return err
	}
	err := t.parts.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, q := range []string{
			`DELETE FROM tolls_spent WHERE purse = $1`,
			`DELETE FROM tolls_refused WHERE person = $1`,
			`UPDATE tolls_calls SET person = '' WHERE person = $1`,
		} {
			if _, err := tx.Exec(ctx, q, string(person)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("forgetting what a person spent: %w", err)
	}
	return nil
}
