package notify

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/db"
)

// How many codes are sent for one claim, and to one number within an hour.
const (
	PerClaim  = 3
	PerNumber = 5
	numberFor = time.Hour
)

// Keep is how long a message waits at most. The code in it ends then too.
const Keep = 15 * time.Minute

// SendCode has a code sent to the number of a claim. It is written down, and
// within the budget of the program's day, when this returns; sending follows.
// yesline.TooMany beyond budget and limits, yesline.NotFound for a claim that
// is no more, yesline.Unavailable in a house that sends nothing.
func (o *Outbox) SendCode(ctx context.Context, program yesline.ProgramID, claim yesline.ClaimID, code yesline.Secret) error {
	if o.Sender == nil {
		return fmt.Errorf("sending a code: %w", yesline.Unavailable)
	}
	digits := string(code.Bytes())
	if len(digits) < 4 || len(digits) > 10 || strings.Trim(digits, "0123456789") != "" {
		return fmt.Errorf("a code is 4 to 10 digits: %w", yesline.Invalid)
	}
	if err := o.leftToday(ctx, program); err != nil { // a storm ends here, at one read each
		return fmt.Errorf("sending a code: %w", err)
	}
	mark, err := o.Mark(ctx, claim)
	if err != nil {
		return fmt.Errorf("sending a code: %w", err)
	}
	id := string(yesline.NewEntryID())
	text, err := o.Seal(ctx, program, textContext(id), []byte(codeText(digits, o.Host)))
	if err != nil {
		return fmt.Errorf("sealing a message: %w", err)
	}
	err = o.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		now := time.Now()
		if err := o.count(ctx, tx, claim, mark, now); err != nil {
			return err
		}
		if err := o.reserve(ctx, tx, program, now); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO notify_outbox (id, program, claim, text, tries, created) VALUES ($1, $2, $3, $4, 0, $5)`,
			id, string(program), string(claim), text, db.Millis(now)); err != nil {
			return err
		}
		if err := o.Jobs.Enqueue(ctx, tx, SendJob, id); err != nil {
			return err
		}
		return o.tell(ctx, tx, "code.asked", program, claim, "done")
	})
	if err != nil {
		return fmt.Errorf("sending a code: %w", err)
	}
	return nil
}

// codeText is what the phone shows. Its last line lets a browser at host fill
// the code in, and at no other (the origin-bound one-time code format).
func codeText(digits, host string) string {
	text := digits + " is your Yesline code. It works for 15 minutes. Tell it to nobody: we never ask for it."
	if host != "" {
		text += "\n\n@" + host + " #" + digits
	}
	return text
}

func textContext(id string) []byte { return []byte("outbox/" + id) }

// count keeps the two limits on codes.
func (o *Outbox) count(ctx context.Context, tx *db.Tx, claim yesline.ClaimID, mark []byte, now time.Time) error {
	hourAgo := db.Millis(now.Add(-numberFor))
	var ofClaim, ofNumber int
	if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM notify_codes WHERE claim = $1`, string(claim)).Scan(&ofClaim); err != nil {
		return err
	}
	if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM notify_codes WHERE mark = $1 AND created > $2`, mark, hourAgo).Scan(&ofNumber); err != nil {
		return err
	}
	if ofClaim >= PerClaim || ofNumber >= PerNumber {
		return fmt.Errorf("codes to one number: %w", yesline.TooMany)
	}
	_, err := tx.Exec(ctx, `INSERT INTO notify_codes (id, claim, mark, created) VALUES ($1, $2, $3, $4)`,
		string(yesline.NewEntryID()), string(claim), mark, db.Millis(now))
	return err
}

func day(t time.Time) int64 { return t.Unix() / (24 * 60 * 60) }

// reserve takes one message out of the budget of the program's day, before
// anything is sent.
func (o *Outbox) reserve(ctx context.Context, tx *db.Tx, program yesline.ProgramID, now time.Time) error {
	spent := fmt.Errorf("the messages of the day: %w", yesline.TooMany)
	if o.PerDay < 1 {
		return spent
	}
	n, err := tx.Exec(ctx, `INSERT INTO notify_spent (program, day, sent) VALUES ($1, $2, 1)
		ON CONFLICT (program, day) DO UPDATE SET sent = notify_spent.sent + 1 WHERE notify_spent.sent < $3`,
		string(program), day(now), o.PerDay)
	if err != nil {
		return err
	}
	if n == 0 {
		return spent
	}
	return nil
}

// Spent tells how many messages a program has spent of its day's budget.
func (o *Outbox) Spent(ctx context.Context, program yesline.ProgramID) (sent, of int, err error) {
	err = o.Content.QueryRow(ctx, `SELECT sent FROM notify_spent WHERE program = $1 AND day = $2`, string(program), day(time.Now())).Scan(&sent)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return sent, o.PerDay, err
}

func (o *Outbox) leftToday(ctx context.Context, program yesline.ProgramID) error {
	sent, of, err := o.Spent(ctx, program)
	if err == nil && sent >= of {
		err = fmt.Errorf("the messages of the day: %w", yesline.TooMany)
	}
	return err
}

// tell is the log's line about a claim: nobody is a person yet.
func (o *Outbox) tell(ctx context.Context, tx *db.Tx, verb string, program yesline.ProgramID, claim yesline.ClaimID, result string) error {
	_, err := o.Record(ctx, tx, audit.Entry{Program: program, Actor: "svc:notify", Verb: verb, Object: string(claim), Result: result})
	return err
}
