package access

import (
	"context"
	"fmt"

	"yesline"
	"yesline/internal/db"
)

// Forget takes a person out of the cases that touched them. A case about the
// person ends and says no more about whom; one about a call stays for the other
// party, and loses its reason with the last of them. Idempotent.
func (c *Cases) Forget(ctx context.Context, person yesline.PersonID) error {
	if person == "" {
		return fmt.Errorf("forgetting nobody: %w", yesline.Invalid)
	}
	err := c.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		touched, err := c.touching(ctx, tx, person)
		if err != nil {
			return err
		}
		for _, one := range touched {
			if err := c.forgetIn(ctx, tx, one, person); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `DELETE FROM case_people WHERE person = $1`, string(person)); err != nil {
			return err
		}
		return tx.Touch(ctx, casesWatch)
	})
	if err != nil {
		return fmt.Errorf("forgetting a person's cases: %w", err)
	}
	return nil
}

// touching are the cases about a person, and those that they are told of.
func (c *Cases) touching(ctx context.Context, tx *db.Tx, person yesline.PersonID) (all []marked, err error) {
	rows, err := tx.Query(ctx, selectCases+` WHERE kind = 'person' AND object = $1 OR id IN (SELECT case_id FROM case_people WHERE person = $1)`, string(person))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		one, err := scanCase(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// forgetIn takes a person out of one case. One that nobody marked, or whose
// program's keys are destroyed, is emptied too, and stays without a mark.
func (c *Cases) forgetIn(ctx context.Context, tx *db.Tx, was marked, person yesline.PersonID) error {
	var others bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM case_people WHERE case_id = $1 AND person <> $2)`, string(was.ID), string(person)).Scan(&others); err != nil {
		return err
	}
	is := was
	if !others {
		is.Reason = ""
	}
	if is.Object == (Object{"person", string(person)}) {
		is.Object.ID = ""
		if is.State == CaseAsked || is.State == CaseOpen {
			is.State = CaseClosed
		}
	}
	genuine, err := c.genuine(ctx, was)
	if err != nil {
		return err
	}
	if genuine {
		if is.mac, err = c.mark(ctx, is.Case); err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, `UPDATE cases SET object = $1, reason = $2, state = $3, mac = $4 WHERE id = $5`, is.Object.ID, is.Reason, is.State, is.mac, string(is.ID))
	return err
}
