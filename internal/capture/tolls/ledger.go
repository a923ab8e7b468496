package tolls

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"yesline"
	"yesline/internal/db"
)

// ledger is the books as one transaction sees them.
type ledger struct {
	day    int64
	rules  Rules
	by     map[string]balance
	deltas map[posting]int64 // that are still to be written
}

// balance is what a purse spent and holds, as of a day.
type balance struct {
	day   int64
	today int64
	later int64 // on days that are yet to come: a clock was ahead, or is behind
}

// posting is a purse on a day.
type posting struct {
	purse string
	day   int64
}

// limit is what a purse may spend in a day, and the word when it did.
func (r Rules) limit(purse string) (micros int64, word string) {
	switch {
	case strings.HasPrefix(purse, "trunk:"):
		return r.TrunkDayMicros, trunk
	case strings.HasPrefix(purse, "prg_"):
		return r.DayMicros, program
	}
	return r.AccountDayMicros, budget
}

// decide finds how many minutes can be held for a call, and holds them. Money
// that is written down for later days counts too: a clock that is set back
// makes nothing new to spend.
func (l *ledger) decide(e *entry, now time.Time) {
	e.day, e.minutes, e.word = l.day, minutesOf(l.rules.MaxLength+margin), ""
	least := min(leastUseful, e.minutes)
	for _, p := range e.purses {
		limit, word := l.rules.limit(p)
		b := l.at(p)
		left := max(0, limit-b.today-b.later) / e.price
		if left < least {
			if e.minutes, e.word = 0, word; (limit-b.today)/e.price >= least {
				e.word = ahead
			}
			return
		}
		e.minutes = min(e.minutes, left)
	}
	e.until = db.Millis(now.Add(time.Duration(e.minutes)*time.Minute + ringMost))
	for _, p := range e.purses {
		b := l.at(p)
		b.today += e.held()
		l.by[p] = b
	}
}

// at is what is known of a purse; of yesterday nothing counts any more.
func (l *ledger) at(purse string) balance {
	b := l.by[purse]
	switch {
	case b.day < l.day:
		return balance{day: l.day}
	case b.day > l.day: // the clock was set back
		return balance{day: l.day, later: b.today + b.later}
	}
	return b
}

// unknown are the purses of orders that were not looked at yet.
func (l *ledger) unknown(orders []*entry) (purses []string) {
	seen := map[string]bool{}
	for _, e := range orders {
		for _, p := range e.purses {
			if b, ok := l.by[p]; !seen[p] && (!ok || b.day < l.day) {
				seen[p] = true
				purses = append(purses, p)
			}
		}
	}
	return purses
}

// read looks purses up, from today on.
func (l *ledger) read(ctx context.Context, query func(context.Context, string, ...any) (*sql.Rows, error), purses []string) error {
	for _, p := range purses {
		l.by[p] = balance{day: l.day}
	}
	for part := range slices.Chunk(purses, db.MaxIn) {
		args := []any{l.day}
		for _, p := range part {
			args = append(args, p)
		}
		rows, err := query(ctx, `SELECT purse, day, micros FROM tolls_spent WHERE day >= $1 AND purse IN (`+db.In(2, len(part))+`)`, args...)
		if err != nil {
			return err
		}
		if err := l.scan(rows); err != nil {
			return err
		}
	}
	return nil
}

func (l *ledger) scan(rows *sql.Rows) error {
	defer rows.Close()
	for rows.Next() {
		var p posting
		var micros int64
		if err := rows.Scan(&p.purse, &p.day, &micros); err != nil {
			return err
		}
		b := l.by[p.purse]
		if p.day == l.day {
			b.today += micros
		} else {
			b.later += micros
		}
		l.by[p.purse] = b
	}
	return rows.Err()
}

// change makes the row of a call as the call is.
func (l *ledger) change(ctx context.Context, tx *db.Tx, c change) error {
	switch {
	case c.insert && c.gone:
		l.move(c.entry, c.spent)
		return nil
	case c.insert:
		return l.insert(ctx, tx, c)
	case c.gone:
		n, err := tx.Exec(ctx, `DELETE FROM tolls_calls WHERE id = $1`, c.id)
		if n == 1 { // else it was settled already
			l.move(c.entry, c.spent-c.held())
		}
		return err
	}
	_, err := tx.Exec(ctx, `UPDATE tolls_calls SET answered = $1 WHERE id = $2`, millis(c.since), c.id)
	return err
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return db.Millis(t)
}

// insert writes a call down, with what is held for it.
func (l *ledger) insert(ctx context.Context, tx *db.Tx, c change) error {
	if c.minutes == 0 {
		return nil
	}
	n, err := tx.Exec(ctx, `INSERT INTO tolls_calls (id, program, person, trunk, day, price, held, answered, until)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING`,
		c.id, c.purses[0], c.purses[1], c.purses[2], c.day, c.price, c.held(), millis(c.since), c.until)
	if n == 1 {
		l.move(c.entry, c.held())
	}
	return err
}

// move puts micros on each purse of a call, on the day it was placed.
func (l *ledger) move(e *entry, micros int64) {
	if l.deltas == nil {
		l.deltas = map[posting]int64{}
	}
	for _, p := range e.purses {
		l.deltas[posting{p, e.day}] += micros
	}
}

// post writes what was moved, in one order everywhere, so that nodes do not
// wait for each other in a ring. What is given back to somebody who was
// forgotten makes no row.
func (l *ledger) post(ctx context.Context, tx *db.Tx) error {
	for _, p := range slices.SortedFunc(maps.Keys(l.deltas), func(a, b posting) int {
		return strings.Compare(fmt.Sprint(a.purse, a.day), fmt.Sprint(b.purse, b.day))
	}) {
		micros := l.deltas[p]
		var err error
		switch {
		case micros > 0:
			_, err = tx.Exec(ctx, `INSERT INTO tolls_spent (purse, day, micros) VALUES ($1, $2, $3)
				ON CONFLICT (purse, day) DO UPDATE SET micros = tolls_spent.micros + $3`, p.purse, p.day, micros)
		case micros < 0:
			_, err = tx.Exec(ctx, `UPDATE tolls_spent SET micros = micros + $1 WHERE purse = $2 AND day = $3`, micros, p.purse, p.day)
		}
		if err != nil {
			return err
		}
	}
	clear(l.deltas)
	return nil
}

// settleLeft settles calls that nobody carries any more: all, or those that
// must have ended. One that was not answered cost nothing; one that was may
// have gone on until now, as far as money was held for it.
func (k *clerk) settleLeft(ctx context.Context, all bool) error {
	for {
		now, some := time.Now(), 0
		err := k.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
			left, err := leftBehind(ctx, tx, now, all)
			some = len(left)
			if err != nil {
				return err
			}
			l := ledger{}
			for _, c := range left {
				if err := l.change(ctx, tx, c); err != nil {
					return err
				}
			}
			return l.post(ctx, tx)
		})
		if err != nil || some < batchMost {
			return err
		}
	}
}

func leftBehind(ctx context.Context, tx *db.Tx, now time.Time, all bool) (left []change, err error) {
	rows, err := tx.Query(ctx, `SELECT id, program, person, trunk, day, price, held, answered FROM tolls_calls WHERE until < $1 OR $2 ORDER BY until LIMIT $3`,
		db.Millis(now), all, batchMost)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		e := &entry{}
		var held, answered int64
		if err := rows.Scan(&e.id, &e.purses[0], &e.purses[1], &e.purses[2], &e.day, &e.price, &held, &answered); err != nil {
			return nil, err
		}
		if e.price < 1 || held < e.price {
			return nil, fmt.Errorf("a call in the books: %w", yesline.Tampered)
		}
		e.minutes = held / e.price
		c := change{entry: e, gone: true}
		if answered > 0 {
			c.spent = held
			if went := now.Sub(db.Time(answered)); went >= 0 { // else the clock was set back
				c.spent = min(held, minutesOf(went)*e.price)
			}
		}
		left = append(left, c)
	}
	return left, rows.Err()
}

// sweep drops what the books no longer need, and settles calls whose end was
// never told.
func (k *clerk) sweep(now time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := k.settleLeft(ctx, false)
	if err == nil {
		err = k.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
			if _, err := tx.Exec(ctx, `DELETE FROM tolls_spent WHERE day < $1`, dayOf(now)-spentDays); err != nil {
				return err
			}
			return sweepRefused(ctx, tx, now)
		})
	}
	if err != nil {
		k.report.Error("the books of calls cannot be swept", "error", err)
	}
}
