package people

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"yesline"
	"yesline/internal/db"
)

const (
	adultYears  = 18
	oldestYears = 130
)

// Adult reports by its error whether somebody born on birth ("2006-01-31") is
// 18 or older everywhere on earth: yesline.Denied when not, yesline.Invalid for
// what is no date of birth. The date is not kept, logged or repeated.
func (p *People) Adult(birth string, now time.Time) error {
	born, err := time.Parse(time.DateOnly, birth)
	if err != nil {
		return fmt.Errorf("a date of birth is year-month-day: %w", yesline.Invalid)
	}
	// The day begins last at UTC-12; who was born on 29 February waits for 1 March.
	y, m, d := now.UTC().Add(-12 * time.Hour).Date()
	today := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	if born.After(today.AddDate(0, 0, 2)) || born.Before(today.AddDate(-oldestYears, 0, 0)) {
		return fmt.Errorf("nobody alive was born then: %w", yesline.Invalid)
	}
	if born.AddDate(adultYears, 0, 0).After(today) {
		return fmt.Errorf("only who is %d or older can join: %w", adultYears, yesline.Denied)
	}
	return nil
}

// SetAdult keeps that a person said they are 18 or older: the yes, not the date.
func (p *People) SetAdult(ctx context.Context, id yesline.PersonID) error {
	return p.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE people SET adult = $1 WHERE id = $2`, true, string(id))
		if err == nil && n == 0 {
			err = fmt.Errorf("a person: %w", yesline.NotFound)
		}
		return err
	})
}

// IsAdult tells whether a person said so. Who never joined did not.
func (p *People) IsAdult(ctx context.Context, id yesline.PersonID) (adult bool, err error) {
	err = p.db.QueryRow(ctx, `SELECT adult FROM people WHERE id = $1`, string(id)).Scan(&adult)
	if errors.Is(err, sql.ErrNoRows) {
		return false, fmt.Errorf("a person: %w", yesline.NotFound)
	}
	return adult, err
}
