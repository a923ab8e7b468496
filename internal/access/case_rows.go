package access

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"yesline"
	"yesline/internal/db"
)

var errNoCase = fmt.Errorf("a case: %w", yesline.NotFound)

const selectCases = `SELECT id, program, kind, object, asker, approver, reason, number, state, asked_at, opened_at, until_at, mac FROM cases`

// read gives the cases of a query as they stand now. What nobody marked is none.
func (c *Cases) read(ctx context.Context, where string, args ...any) ([]Case, error) {
	rows, err := c.content.Query(ctx, selectCases+where, args...)
	if err != nil {
		return nil, fmt.Errorf("reading cases: %w", err)
	}
	defer rows.Close()
	now := time.Now()
	var found []Case
	for rows.Next() {
		one, err := scanCase(rows)
		if err != nil {
			return nil, fmt.Errorf("reading a case: %w", err)
		}
		genuine, err := c.genuine(ctx, one)
		if err != nil {
			return nil, err
		}
		if genuine {
			found = append(found, one.asOf(now))
		}
	}
	return found, rows.Err()
}

// marked is a case as it is kept, with its mark.
type marked struct {
	Case
	mac string
}

func scanCase(row interface{ Scan(...any) error }) (m marked, err error) {
	err = row.Scan(&m.ID, &m.Program, &m.Object.Kind, &m.Object.ID, &m.Asker, &m.Approver, &m.Reason, &m.Number, &m.State, &m.Asked, &m.Opened, &m.Until, &m.mac)
	return m, err
}

// asOf says how a case stands at a moment: nobody writes that its time is over.
func (m marked) asOf(now time.Time) Case {
	at := db.Millis(now)
	if m.State == CaseOpen && m.Until <= at || m.State == CaseAsked && m.Asked <= at-WaitTime.Milliseconds() {
		m.State = CaseExpired
	}
	return m.Case
}

// genuine reports whether a row is a case that we wrote. It does not tell the
// newest row from an older one of the same case: whoever writes the database
// can put back one that was open, until the 30 minutes that its mark covers are
// over, and one that waited, until its day is.
func (c *Cases) genuine(ctx context.Context, one marked) (bool, error) {
	if one.Until > one.Opened+CaseTime.Milliseconds() {
		return false, nil
	}
	want, err := c.mark(ctx, one.Case)
	if errors.Is(err, yesline.NotFound) {
		return false, nil
	}
	return err == nil && hmac.Equal([]byte(want), []byte(one.mac)), err
}

// mark is the MAC of a case as it is kept, or "" without CaseParts.MAC. Each
// part comes behind its length, and the first names the table, so that no row
// is another's.
func (c *Cases) mark(ctx context.Context, one Case) (string, error) {
	if c.mac == nil {
		return "", nil
	}
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	var all []byte
	for _, part := range []string{"case", string(one.ID), string(one.Program), one.Object.Kind, one.Object.ID, one.Asker, one.Approver,
		one.State, number(one.Asked), number(one.Opened), number(one.Until), one.Reason, one.Number} {
		all = binary.BigEndian.AppendUint32(all, uint32(len(part)))
		all = append(all, part...)
	}
	mac, err := c.mac(ctx, one.Program, all)
	if err != nil {
		return "", fmt.Errorf("marking a case: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(mac), nil
}

func peopleOf(ctx context.Context, tx *db.Tx, id yesline.CaseID) (people []yesline.PersonID, err error) {
	rows, err := tx.Query(ctx, `SELECT person FROM case_people WHERE case_id = $1 ORDER BY person`, string(id))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var p yesline.PersonID
		if err := rows.Scan(&p); err != nil {
			return nil, err
		}
		people = append(people, p)
	}
	return people, rows.Err()
}
