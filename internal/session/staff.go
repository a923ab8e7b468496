package session

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
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
// within 24 hours. Who may appoint whom is the gate's to say: may is asked in
// the same transaction, perhaps more than once, with whether the place has an
// officer now, be it one of the house. What may refuses with is given back as
// it is.
func (s *Sessions) Appoint(ctx context.Context, by Principal, role Kind, program yesline.ProgramID, may func(hasOfficer bool) error) (
	id yesline.StaffID, token string, err error) {
	if by.kind == Nobody || !isStaff(role) || may == nil {
		return "", "", fmt.Errorf("appointing is somebody's who may, to a role: %w", yesline.Invalid)
	}
	id = yesline.NewStaffID()
	token, hash := newToken()
	p := Principal{kind: role, name: string(id), program: program}
	var refused error
	err = s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		var hasOfficer bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM staff WHERE role = $1 AND program IN ($2, '') AND ended = 0)`,
			string(Officer), string(program)).Scan(&hasOfficer); err != nil {
			return err
		}
		if refused = may(hasOfficer); refused != nil {
			return refused
		}
		if err := s.putStaff(ctx, tx, p, by.name, time.Now()); err != nil {
			return err
		}
		if err := s.insertLink(ctx, tx, p, hash); err != nil {
			return err
		}
		e := detailed(told("appointed", by, program, ""), "role", string(role))
		e.Object = string(id)
		return s.tell(ctx, tx, e)
	})
	if refused != nil {
		return "", "", refused
	}
	if err != nil {
		return "", "", fmt.Errorf("appointing somebody: %w", err)
	}
	return id, token, nil
}

// parts of a colleague are all that the table knows of them. The mark is the
// house's: a program that is gone changes nothing in who worked for it.
func (c Colleague) parts() []string {
	return []string{"staff", string(c.ID), string(c.Role), string(c.Program), c.By, strconv.FormatInt(c.Created, 10), strconv.FormatInt(c.Ended, 10)}
}

func (s *Sessions) putStaff(ctx context.Context, tx *db.Tx, p Principal, by string, now time.Time) error {
	c := Colleague{ID: yesline.StaffID(p.name), Role: p.kind, Program: p.program, Created: db.Millis(now), By: by}
	mac, err := s.mark(ctx, "", c.parts()...)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO staff (id, role, program, created, ended, appointed_by, mac) VALUES ($1, $2, $3, $4, 0, $5, $6)`,
		string(c.ID), string(c.Role), string(c.Program), c.Created, c.By, mac)
	return err
}

// colleague reads one of the staff, present or past. The error is
// yesline.NotFound; so it is, with yesline.Tampered, for a row that is not ours.
func (s *Sessions) colleague(ctx context.Context, row func(context.Context, string, ...any) *sql.Row, id string) (c Colleague, err error) {
	var mac string
	err = row(ctx, `SELECT id, role, program, created, ended, appointed_by, mac FROM staff WHERE id = $1`, id).
		Scan(&c.ID, &c.Role, &c.Program, &c.Created, &c.Ended, &c.By, &mac)
	if errors.Is(err, sql.ErrNoRows) {
		err = yesline.NotFound
	}
	if err == nil {
		err = s.checkMark(ctx, mac, "", c.parts()...)
	}
	if err != nil {
		return Colleague{}, err
	}
	return c, nil
}

// works says yesline.NotFound of somebody of the staff who does not work here
// any more, or not as that. Of others it says nothing.
func (s *Sessions) works(ctx context.Context, row func(context.Context, string, ...any) *sql.Row, p Principal) error {
	if !p.isStaff() {
		return nil
	}
	c, err := s.colleague(ctx, row, p.name)
	if err != nil {
		return err
	}
	if c.Ended != 0 || c.Role != p.kind || c.Program != p.program {
		return fmt.Errorf("looking for somebody of the staff: %w", yesline.NotFound)
	}
	return nil
}

// FirstOperator makes a link for the first operator of the house. It works
// once, within 24 hours, and only while there is no staff: whoever of several
// such links is redeemed first is the one. The error is yesline.Conflict when
// somebody works here already.
func (s *Sessions) FirstOperator(ctx context.Context) (token string, err error) {
	token, hash := newToken()
	p := Principal{kind: Operator, name: string(yesline.NewStaffID())}
	err = s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		staffed, err := isStaffed(ctx, tx.QueryRow)
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

func isStaffed(ctx context.Context, row func(context.Context, string, ...any) *sql.Row) (staffed bool, err error) {
	err = row(ctx, `SELECT EXISTS (SELECT 1 FROM staff WHERE ended = 0)`).Scan(&staffed)
	return staffed, err
}

// welcome makes the first operator of whoever comes first by such a link. Others
// pass: begin looks at them.
func (s *Sessions) welcome(ctx context.Context, tx *db.Tx, p Principal, now time.Time) error {
	if p.kind != Operator || p.program != "" || !p.isStaff() {
		return nil
	}
	staffed, err := isStaffed(ctx, tx.QueryRow)
	if err != nil || staffed {
		return err
	}
	if err := s.putStaff(ctx, tx, p, houseItself, now); err != nil {
		return err
	}
	e := detailed(told("appointed", p, "", ""), "role", string(Operator))
	e.Actor, e.Object = houseItself, p.name
	return s.tell(ctx, tx, e)
}

// Staff lists who works or worked for a program, or with "" for anybody,
// newest first, at most 1,000. A row that is not ours is listed too, so that it
// is seen: nobody gets in by it.
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
// their account, with who appointed them and when. The error is
// yesline.NotFound, for a row that is not ours too.
func (s *Sessions) ColleagueByID(ctx context.Context, id yesline.StaffID) (Colleague, error) {
	c, err := s.colleague(ctx, s.content.QueryRow, string(id))
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
		c, err := s.colleague(ctx, tx.QueryRow, string(id))
		if err == nil && c.Ended != 0 {
			err = yesline.NotFound
		}
		if err != nil {
			return err
		}
		if c.Role == Operator && c.Program == "" {
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
		c.Ended = now
		mac, err := s.mark(ctx, "", c.parts()...)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE staff SET ended = $1, mac = $2 WHERE id = $3`, c.Ended, mac, string(id)); err != nil {
			return err
		}
		if err := tx.Touch(ctx, watchStaff(string(id))); err != nil {
			return err
		}
		if err := closeAccount(ctx, tx, string(id), now); err != nil {
			return err
		}
		e := detailed(told("dismissed", by, c.Program, ""), "role", string(c.Role))
		e.Object = string(id)
		return s.tell(ctx, tx, e)
	})
	if err != nil {
		return fmt.Errorf("dismissing somebody: %w", err)
	}
	return nil
}

// closeAccount ends every way into an account.
func closeAccount(ctx context.Context, tx *db.Tx, account string, now int64) error {
	if err := touchAll(ctx, tx, account); err != nil {
		return err
	}
	for _, q := range []string{
		`DELETE FROM links WHERE name = $1 OR person = $1`,
		`DELETE FROM passkeys WHERE account = $1`,
		`DELETE FROM recovery_codes WHERE account = $1`,
		`DELETE FROM api_keys WHERE account = $1`,
	} {
		if _, err := tx.Exec(ctx, q, account); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, `UPDATE sessions SET ended = $2, mac = '' WHERE account = $1 AND ended = 0`, account, now); err != nil {
		return err
	}
	return endDevices(ctx, tx, account, "")
}
