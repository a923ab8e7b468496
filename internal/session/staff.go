package session

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"yesline"
	"yesline/internal/db"
)

// houseItself appoints the first operator, when nobody is there to do it.
const houseItself = "svc:house"

// isStaff reports whether somebody is appointed to be of a kind.
func isStaff(k Kind) bool {
	return k == Buyer || k == Operator || k == Officer || k == Auditor
}

// Appoint makes an account for somebody who works for a program, or with
// program "" for the house, and a link by which they get in: it works once,
// within 24 hours. Who may appoint whom is the gate's to say.
func (s *Sessions) Appoint(ctx context.Context, by Principal, role Kind, program yesline.ProgramID) (id yesline.StaffID, token string, err error) {
	if by.kind == Nobody || !isStaff(role) {
		return "", "", fmt.Errorf("appointing is somebody's, to a role: %w", yesline.Invalid)
	}
	id = yesline.NewStaffID()
	token, hash := newToken()
	p := Principal{kind: role, name: string(id), program: program}
	err = s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := putStaff(ctx, tx, p, by.name, time.Now()); err != nil {
			return err
		}
		if err := s.insertLink(ctx, tx, p, hash); err != nil {
			return err
		}
		e := detailed(told("appointed", by, program, ""), "role", string(role))
		e.Object = string(id)
		return s.tell(ctx, tx, e)
	})
	if err != nil {
		return "", "", fmt.Errorf("appointing somebody: %w", err)
	}
	return id, token, nil
}

func putStaff(ctx context.Context, tx *db.Tx, p Principal, by string, now time.Time) error {
	_, err := tx.Exec(ctx, `INSERT INTO staff (id, role, program, created, ended, appointed_by) VALUES ($1, $2, $3, $4, 0, $5)`,
		p.name, string(p.kind), string(p.program), db.Millis(now), by)
	return err
}

// FirstOperator makes a link for the first operator of the house. It works
// once, within 24 hours, and only while there is no staff: whoever of several
// such links is redeemed first is the one. The error is yesline.Conflict when
// somebody works here already.
func (s *Sessions) FirstOperator(ctx context.Context) (token string, err error) {
	token, hash := newToken()
	p := Principal{kind: Operator, name: string(yesline.NewStaffID())}
	err = s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		staffed, err := isStaffed(ctx, tx)
		if err == nil && staffed {
			err = yesline.Conflict
		}
		if err != nil {
			return err
		}
		return s.insertLink(ctx, tx, p, hash)
	})
	if err != nil {
		return "", fmt.Errorf("making the first operator's link: %w", err)
	}
	return token, nil
}

func isStaffed(ctx context.Context, tx *db.Tx) (staffed bool, err error) {
	err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM staff)`).Scan(&staffed)
	return staffed, err
}

// welcome looks at whoever comes by a link: a colleague must be one still, and
// the first operator becomes one. Others pass.
func (s *Sessions) welcome(ctx context.Context, tx *db.Tx, p Principal, now time.Time) error {
	if p.kind == Person || p.Account() == "" {
		return nil
	}
	var ended int64
	err := tx.QueryRow(ctx, `SELECT ended FROM staff WHERE id = $1 AND role = $2 AND program = $3`, p.name, string(p.kind), string(p.program)).Scan(&ended)
	if err == nil && ended != 0 {
		return yesline.NotFound
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	staffed, err := isStaffed(ctx, tx)
	if err == nil && (staffed || p.kind != Operator || p.program != "") {
		err = yesline.NotFound
	}
	if err != nil {
		return err
	}
	if err := putStaff(ctx, tx, p, houseItself, now); err != nil {
		return err
	}
	e := detailed(told("appointed", p, "", ""), "role", string(Operator))
	e.Actor, e.Object = houseItself, p.name
	return s.tell(ctx, tx, e)
}

// Staff lists who works or worked for a program, or with "" for anybody,
// newest first, at most 1,000.
func (s *Sessions) Staff(ctx context.Context, program yesline.ProgramID) ([]Colleague, error) {
	rows, err := s.content.Query(ctx, `SELECT id, role, program, created, ended, appointed_by FROM staff
		WHERE program = $1 OR $1 = '' ORDER BY created DESC, id LIMIT 1000`, string(program))
	if err != nil {
		return nil, fmt.Errorf("listing the staff: %w", err)
	}
	defer rows.Close()
	all := []Colleague{}
	for rows.Next() {
		var c Colleague
		if err := rows.Scan(&c.ID, &c.Role, &c.Program, &c.Created, &c.Ended, &c.By); err != nil {
			return nil, fmt.Errorf("listing the staff: %w", err)
		}
		all = append(all, c)
	}
	return all, rows.Err()
}

// ColleagueByID is one of the staff, present or past: the gate's facts about
// their account. The error is yesline.NotFound.
func (s *Sessions) ColleagueByID(ctx context.Context, id yesline.StaffID) (c Colleague, err error) {
	err = s.content.QueryRow(ctx, `SELECT id, role, program, created, ended, appointed_by FROM staff WHERE id = $1`, string(id)).
		Scan(&c.ID, &c.Role, &c.Program, &c.Created, &c.Ended, &c.By)
	if errors.Is(err, sql.ErrNoRows) {
		err = yesline.NotFound
	}
	if err != nil {
		return Colleague{}, fmt.Errorf("looking up a colleague: %w", err)
	}
	return c, nil
}

// Dismiss ends a colleague's account with all its ways in, at once here and
// within a second everywhere. The last operator of the house cannot be
// dismissed (yesline.Conflict).
func (s *Sessions) Dismiss(ctx context.Context, by Principal, id yesline.StaffID) error {
	if by.kind == Nobody {
		return fmt.Errorf("dismissing is somebody's: %w", yesline.Invalid)
	}
	now := db.Millis(time.Now())
	err := s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		var role Kind
		var program yesline.ProgramID
		err := tx.QueryRow(ctx, `SELECT role, program FROM staff WHERE id = $1 AND ended = 0`, string(id)).Scan(&role, &program)
		if errors.Is(err, sql.ErrNoRows) {
			err = yesline.NotFound
		}
		if err != nil {
			return err
		}
		if role == Operator && program == "" {
			var others bool
			err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM staff WHERE role = $1 AND program = '' AND ended = 0 AND id <> $2)`,
				string(Operator), string(id)).Scan(&others)
			if err == nil && !others {
				err = yesline.Conflict
			}
			if err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `UPDATE staff SET ended = $1 WHERE id = $2`, now, string(id)); err != nil {
			return err
		}
		if err := closeAccount(ctx, tx, string(id), now); err != nil {
			return err
		}
		e := detailed(told("dismissed", by, program, ""), "role", string(role))
		e.Object = string(id)
		return s.tell(ctx, tx, e)
	})
	if err != nil {
		return fmt.Errorf("dismissing somebody: %w", err)
	}
	return nil
}

// closeAccount ends every way into the account of a colleague.
func closeAccount(ctx context.Context, tx *db.Tx, account string, now int64) error {
	if err := touchAll(ctx, tx, account); err != nil {
		return err
	}
	for _, q := range []string{
		`DELETE FROM links WHERE name = $1`,
		`DELETE FROM passkeys WHERE account = $1`,
		`DELETE FROM recovery_codes WHERE account = $1`,
	} {
		if _, err := tx.Exec(ctx, q, account); err != nil {
			return err
		}
	}
	for _, q := range []string{
		`UPDATE sessions SET ended = $2, mac = '' WHERE account = $1 AND ended = 0`,
		`UPDATE api_keys SET ended = $2, mac = '' WHERE account = $1 AND ended = 0`,
	} {
		if _, err := tx.Exec(ctx, q, account, now); err != nil {
			return err
		}
	}
	return nil
}
