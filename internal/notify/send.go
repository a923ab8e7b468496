package notify

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/riverqueue/river"

	"yesline"
	"yesline/internal/db"
)

const (
	// slotsMost is how many messages a node sends at once: fewer than jobs are
	// worked off, so that a provider who hangs never holds up a shredding.
	slotsMost = 2
	slotTime  = 20 * time.Millisecond // that a job waits for one of them

	sendTime  = 10 * time.Second // for one try
	triesMost = 5                // that reached the provider
)

// Send is the job SendJob: it tries to send one message. What could not be sent
// is tried again, later each time and not in step with others, until it is Keep
// old. A message that may have been sent is paid for once more before it is
// tried again.
func (o *Outbox) Send(ctx context.Context, id string) error {
	w, err := o.waiting(ctx, id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // sent, or too old
	}
	if err != nil {
		return fmt.Errorf("looking up a message: %w", err)
	}
	age := time.Since(db.Time(w.created))
	if age >= Keep || w.tries >= triesMost {
		return o.drop(ctx, w, "code.failed", "refused")
	}
	select {
	case o.slots <- struct{}{}:
		defer func() { <-o.slots }()
	case <-time.After(slotTime):
		return later(age)
	}
	err = o.try(ctx, w)
	// What became of it is written down also when the house is being stopped.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTime)
	defer cancel()
	switch {
	case err == nil:
		return o.drop(ctx, w, "code.sent", "done")
	case errors.Is(err, Refused), errors.Is(err, yesline.NotFound), errors.Is(err, yesline.Invalid), errors.Is(err, yesline.Tampered):
		return o.drop(ctx, w, "code.failed", "refused")
	case errors.Is(err, Unsure):
		if err := o.payAgain(ctx, w); err != nil {
			return err
		}
	}
	return later(age)
}

// later puts a job off by about its age, from half a second to a minute.
func later(age time.Duration) error {
	pause := min(max(age, time.Second/2), time.Minute)
	return river.JobSnooze(pause/2 + rand.N(pause))
}

// waiting is a row of the outbox.
type waiting struct {
	id      string
	program yesline.ProgramID
	claim   yesline.ClaimID
	text    []byte
	tries   int
	created int64
}

func (o *Outbox) waiting(ctx context.Context, id string) (waiting, error) {
	w := waiting{id: id}
	err := o.Content.QueryRow(ctx, `SELECT program, claim, text, tries, created FROM notify_outbox WHERE id = $1`, id).
		Scan(&w.program, &w.claim, &w.text, &w.tries, &w.created)
	return w, err
}

func (o *Outbox) try(ctx context.Context, w waiting) error {
	if o.Sender == nil {
		return fmt.Errorf("sending a message: %w", yesline.Unavailable)
	}
	program, number, mask, err := o.To(ctx, w.claim)
	if err != nil {
		return err
	}
	if program != w.program {
		return fmt.Errorf("a message of another program: %w", yesline.Tampered)
	}
	text, err := o.Open(ctx, w.program, textContext(w.id), w.text)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	return o.Sender.Send(ctx, Message{ID: w.id, To: number, Mask: mask, Text: yesline.NewSecret(text)})
}

// drop removes a message and says in the log what became of it.
func (o *Outbox) drop(ctx context.Context, w waiting, verb, result string) error {
	err := o.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `DELETE FROM notify_outbox WHERE id = $1`, w.id)
		if err != nil || n == 0 {
			return err
		}
		return o.tell(ctx, tx, verb, w.program, w.claim, result)
	})
	if err != nil {
		return fmt.Errorf("taking a message out of the outbox: %w", err)
	}
	return nil
}

// payAgain counts a try that may have been paid for, and takes the next one out
// of the budget; without any left there is no next.
func (o *Outbox) payAgain(ctx context.Context, w waiting) error {
	err := o.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := o.reserve(ctx, tx, w.program, time.Now()); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE notify_outbox SET tries = tries + 1 WHERE id = $1`, w.id)
		return err
	})
	if errors.Is(err, yesline.TooMany) {
		return o.drop(ctx, w, "code.failed", "refused")
	}
	return err
}

// budgetDays is how long the table of what was spent goes back.
const budgetDays = 31

// Sweep removes messages that are too old, which it finds only while jobs do
// not run, and what the limits and budgets no longer need. app calls it every
// minute.
func (o *Outbox) Sweep(ctx context.Context) error {
	now := time.Now()
	err := o.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM notify_outbox WHERE created <= $1`, db.Millis(now.Add(-Keep))); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM notify_codes WHERE created <= $1`, db.Millis(now.Add(-numberFor))); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM notify_spent WHERE day < $1`, day(now)-budgetDays)
		return err
	})
	if err != nil {
		return fmt.Errorf("sweeping the outbox: %w", err)
	}
	return nil
}
