package consent

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/db"
)

// ByTerms is the channel of what follows from a person's choices in the terms.
const ByTerms = "terms"

// Choice is what a person chose in the terms, and which text they saw.
type Choice struct {
	Terms                  string // SHA-256 of the text as it was shown
	Record, Share, License bool
	AtMillis               int64
}

// choicesADay bounds a person's changes of mind that are kept.
const choicesADay = 50

// Agree keeps a person's choices under the terms with that hash, which are the
// ones shown now: for others it is yesline.Conflict, and they are shown anew. A
// purpose that choices leave out is a no. They hold for calls that begin from
// then on:
//
//   - record no: the person is not recorded in any call, whatever is pressed,
//     and no lasting yes of theirs stands any more;
//   - share or license yes: takes effect in a call when they say yes in it, and
//     more than a caller's number says that it is them.
//
// Evidence needs AtMillis; channel and hash are set here.
func (c *Consent) Agree(ctx context.Context, person yesline.PersonID, program yesline.ProgramID, termsHash string, choices map[Purpose]bool, ev Evidence) error {
	ev.Channel, ev.Prompt, ev.PromptSHA256 = ByTerms, ByTerms, termsHash
	if err := ev.check(); err != nil {
		return err
	}
	if err := mayChoose(termsHash, choices); err != nil {
		return err
	}
	next := Choice{termsHash, choices[Record], choices[Share], choices[License], ev.AtMillis}
	err := c.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		return c.agree(ctx, tx, person, program, next, ev)
	})
	if err != nil {
		return fmt.Errorf("agreeing to the terms: %w", err)
	}
	return nil
}

func mayChoose(hash string, choices map[Purpose]bool) error {
	for p := range choices {
		if p != Record && p != Share && p != License {
			return fmt.Errorf("the terms do not ask for that purpose: %w", yesline.Invalid)
		}
	}
	now, err := Cards()
	if err != nil {
		return err
	}
	if hash != now.SHA256 {
		return fmt.Errorf("agreeing to terms that are not the ones shown now: %w", yesline.Conflict)
	}
	return nil
}

func (c *Consent) agree(ctx context.Context, tx *db.Tx, person yesline.PersonID, program yesline.ProgramID, next Choice, ev Evidence) error {
	now := time.Now()
	var n, today int64
	var last Choice
	err := tx.QueryRow(ctx, `SELECT n, record, share, license FROM consent_terms WHERE person = $1 ORDER BY n DESC LIMIT 1`, string(person)).
		Scan(&n, &last.Record, &last.Share, &last.License)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM consent_terms WHERE person = $1 AND kept > $2`,
		string(person), db.Millis(now.AddDate(0, 0, -1))).Scan(&today); err != nil {
		return err
	}
	if today >= choicesADay && !next.takesFrom(last) {
		return fmt.Errorf("changes of mind on one day: %w", yesline.TooMany)
	}
	if _, err := tx.Exec(ctx, `INSERT INTO consent_terms (person, n, program, terms, record, share, license, channel, language, from_ms, to_ms, at_ms, kept)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		string(person), n+1, string(program), next.Terms, next.Record, next.Share, next.License,
		ev.Channel, ev.Language, ev.FromMillis, ev.ToMillis, ev.AtMillis, db.Millis(now)); err != nil {
		return err
	}
	_, err = c.log.Record(ctx, tx, audit.Entry{Program: program, Actor: string(person), Verb: "terms.agreed", Object: string(person), Result: "done",
		Detail: map[string]string{"sha256": next.Terms, "record": strconv.FormatBool(next.Record),
			"share": strconv.FormatBool(next.Share), "license": strconv.FormatBool(next.License)},
		Subjects: []yesline.PersonID{person}})
	if err != nil || next.Record {
		return err
	}
	gone, err := endLasting(ctx, tx, `DELETE FROM consent_lasting WHERE person = $1 RETURNING `+endedColumns, string(person))
	if err != nil {
		return err
	}
	return c.tellEnded(ctx, tx, gone, string(person), "", ByTerms)
}

// takesFrom reports whether a choice only takes back something of another: that
// is never too much, and cannot go on for long.
func (c Choice) takesFrom(last Choice) bool {
	gives := c.Record && !last.Record || c.Share && !last.Share || c.License && !last.License
	takes := last.Record && !c.Record || last.Share && !c.Share || last.License && !c.License
	return takes && !gives
}

const choiceColumns = `terms, record, share, license, at_ms FROM consent_terms WHERE person = $1 ORDER BY n DESC`

// Choices gives what a person chose last; yesline.NotFound for who never saw
// the terms, such as a contact: they are asked in each call and no more.
func (c *Consent) Choices(ctx context.Context, person yesline.PersonID) (Choice, error) {
	all, err := c.ChoicesBefore(ctx, person, 1)
	if err != nil {
		return Choice{}, err
	}
	if len(all) == 0 {
		return Choice{}, fmt.Errorf("the choices of a person: %w", yesline.NotFound)
	}
	return all[0], nil
}

// ChoicesBefore lists what a person chose, newest first, at most limit (500).
func (c *Consent) ChoicesBefore(ctx context.Context, person yesline.PersonID, limit int) ([]Choice, error) {
	rows, err := c.db.Query(ctx, `SELECT `+choiceColumns+` LIMIT $2`, string(person), min(max(limit, 0), db.MaxIn))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Choice
	for rows.Next() {
		var one Choice
		if err := rows.Scan(&one.Terms, &one.Record, &one.Share, &one.License, &one.AtMillis); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

func chosen(ctx context.Context, tx *db.Tx, person yesline.PersonID) (one Choice, found bool, err error) {
	err = tx.QueryRow(ctx, `SELECT `+choiceColumns+` LIMIT 1`, string(person)).
		Scan(&one.Terms, &one.Record, &one.Share, &one.License, &one.AtMillis)
	if errors.Is(err, sql.ErrNoRows) {
		return Choice{}, false, nil
	}
	return one, err == nil, err
}

// evidence is that of an effect of the choice, at that moment.
func (one Choice) evidence(atMillis int64) Evidence {
	return Evidence{Channel: ByTerms, Prompt: ByTerms, PromptSHA256: one.Terms, AtMillis: atMillis}
}

// keepOut puts the no of who chose never to be recorded into a call that opens.
func (c *Consent) keepOut(ctx context.Context, tx *db.Tx, call yesline.CallID, person yesline.PersonID, atMillis int64) error {
	one, found, err := chosen(ctx, tx, person)
	if err != nil || !found || one.Record {
		return err
	}
	_, err = c.set(ctx, tx, call, person, "", Record, No, one.evidence(atMillis), string(person))
	return err
}

// carryOver gives share and license to a call in which a person just said yes,
// as they had chosen.
func (c *Consent) carryOver(ctx context.Context, tx *db.Tx, call yesline.CallID, person yesline.PersonID, leg yesline.LegID, atMillis int64) error {
	one, found, err := chosen(ctx, tx, person)
	if err != nil || !found {
		return err
	}
	for _, p := range []Purpose{Share, License} {
		if p == Share && !one.Share || p == License && !one.License {
			continue
		}
		now, err := standing(ctx, tx, call, person, p)
		if err != nil && !errors.Is(err, yesline.NotFound) {
			return err
		}
		if now != None { // they said otherwise about this call already
			continue
		}
		if _, err := c.set(ctx, tx, call, person, leg, p, Yes, one.evidence(atMillis), string(person)); err != nil {
			return err
		}
	}
	return nil
}
