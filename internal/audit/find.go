package audit

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"yesline"
	"yesline/internal/db"
)

func (l *Log) origin(name string) (*db.DB, error) {
	for _, d := range l.origins {
		if d.Name == name {
			return d, nil
		}
	}
	return nil, fmt.Errorf("an entry of no database of ours: %w", yesline.NotFound)
}

// entryRow is an entry as it is stored, with its place in the tree.
type entryRow struct {
	id    yesline.EntryID
	seq   int64 // -1 without a number
	leaf  []byte
	mac   []byte
	parts []part
}

const entryColumns = `l.id, l.leaf, l.mac, p.part, p.program, p.person, p.object, p.at, p.sealed`

// scanEntries reads rows of a number and entryColumns, ordered by id and part.
func scanEntries(rows *sql.Rows) ([]*entryRow, error) {
	defer rows.Close()
	var all []*entryRow
	for rows.Next() {
		e := &entryRow{}
		var n, at sql.NullInt64
		var program, object sql.NullString
		var p part
		if err := rows.Scan(&e.seq, &e.id, &e.leaf, &e.mac, &n, &program, &p.person, &object, &at, &p.sealed); err != nil {
			return nil, err
		}
		if len(all) == 0 || all[len(all)-1].id != e.id {
			all = append(all, e)
		}
		if n.Valid { // a leaf whose parts are gone has none
			p.n, p.program, p.object, p.at = int(n.Int64), yesline.ProgramID(program.String), object.String, at.Int64
			e = all[len(all)-1]
			e.parts = append(e.parts, p)
		}
	}
	return all, rows.Err()
}

func (l *Log) stored(ctx context.Context, ref Ref) (*entryRow, error) {
	d, err := l.origin(ref.DB)
	if err != nil {
		return nil, err
	}
	rows, err := d.Query(ctx, `SELECT l.seq, `+entryColumns+` FROM audit_leaves l LEFT JOIN audit_parts p ON p.leaf_id = l.id
		WHERE l.id = $1 ORDER BY p.part`, string(ref.Leaf))
	if err != nil {
		return nil, err
	}
	all, err := scanEntries(rows)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("an entry of the log: %w", yesline.NotFound)
	}
	return all[0], nil
}

// wrong says what of an entry is not as we wrote it; "" when all is.
func (l *Log) wrong(origin string, e *entryRow) string {
	_, _, seals, err := parseLeaf(e.leaf)
	if err != nil {
		return "its leaf cannot be read"
	}
	if len(e.parts) != len(seals) {
		return fmt.Sprintf("it has %d parts and should have %d", len(e.parts), len(seals))
	}
	for i, p := range e.parts {
		if p.n != i || sha256.Sum256(p.sealed) != seals[i] {
			return fmt.Sprintf("part %d does not match its leaf", i)
		}
	}
	if !hmac.Equal(e.mac, l.keys.MAC(marked(origin, e.id, e.leaf, e.parts))) {
		return "it does not carry the house's mark"
	}
	return ""
}

// open opens part i and checks it against the leaf. It gives the salt and the
// words as they were committed to.
func (l *Log) open(ctx context.Context, id yesline.EntryID, leaf []byte, p part) (salt, words []byte, e Entry, err error) {
	if p.person.Valid && p.person.String == "" {
		return nil, nil, e, fmt.Errorf("a part of somebody who was forgotten: %w", yesline.NotFound)
	}
	_, commits, _, err := parseLeaf(leaf)
	if err != nil {
		return nil, nil, e, err
	}
	// What opens here was sealed as this part of this entry, so it has a
	// commitment.
	plain, err := l.keys.Open(ctx, p.program, yesline.PersonID(p.person.String), sealContext(id, p.n), p.sealed)
	if err != nil {
		return nil, nil, e, fmt.Errorf("opening an entry of the log: %w", err)
	}
	salt, words, e, err = splitWords(plain, commits[p.n])
	if err == nil && (e.Object != p.object || e.Program != p.program) {
		err = fmt.Errorf("the index of an entry: %w", yesline.Tampered)
	}
	return salt, words, e, err
}

// numbered waits until the entry has its place in the signed tree.
func (l *Log) numbered(ctx context.Context, ref Ref) (*entryRow, Checkpoint, error) {
	e, err := l.stored(ctx, ref)
	for isNotFound(err) { // it may wait, here or while another node moves it
		d, originErr := l.origin(ref.DB)
		if originErr != nil {
			return nil, Checkpoint{}, err
		}
		more, waitsErr := waits(ctx, d)
		if waitsErr != nil {
			return nil, Checkpoint{}, waitsErr
		}
		if err := l.Flush(ctx); err != nil {
			return nil, Checkpoint{}, err
		}
		if e, err = l.stored(ctx, ref); isNotFound(err) && !more {
			break
		}
	}
	if err != nil {
		return nil, Checkpoint{}, err
	}
	cp, err := l.Checkpoint(ctx)
	if err != nil {
		return nil, cp, err
	}
	return e, cp, nil
}

// prove shows that the leaf stands at its number under the signed root.
func (l *Log) prove(ctx context.Context, e *entryRow, cp Checkpoint) (tlog.RecordProof, error) {
	t := &tiles{read: l.content.QueryRow, held: map[tlog.Tile][]byte{}}
	proof, err := tlog.ProveRecord(cp.Size, e.seq, t.reader(ctx))
	if err != nil {
		return nil, fmt.Errorf("proving an entry: %w: %w", yesline.Tampered, err)
	}
	if err := tlog.CheckRecord(proof, cp.Size, cp.Root, e.seq, tlog.RecordHash(e.leaf)); err != nil {
		return nil, fmt.Errorf("an entry against the signed root: %w", yesline.Tampered)
	}
	return proof, nil
}

// Find opens the entry and checks it against the signed log. An entry
// without a number gets it first. yesline.Tampered if leaf, part or
// tree do not match.
func (l *Log) Find(ctx context.Context, ref Ref) (Entry, error) {
	row, cp, err := l.numbered(ctx, ref)
	if err != nil {
		return Entry{}, err
	}
	if _, err := l.prove(ctx, row, cp); err != nil {
		return Entry{}, err
	}
	if why := l.wrong(ref.DB, row); why != "" {
		return Entry{}, fmt.Errorf("an entry of the log, %s: %w", why, yesline.Tampered)
	}
	for _, p := range row.parts {
		_, _, e, err := l.open(ctx, ref.Leaf, row.leaf, p)
		if errors.Is(err, yesline.NotFound) {
			continue // this subject was erased; another's part tells the same
		}
		return e, err
	}
	return Entry{}, fmt.Errorf("all subjects of the entry are erased: %w", yesline.NotFound)
}

// Line is an entry in a list.
type Line struct {
	Ref   Ref
	Seq   int64
	Entry Entry
}

// About lists a person's own part of the log, newest first: what was done to
// their things, by whom, and what they did. With object it lists only entries
// about that object. before (unix ms, 0 for now) and limit (at most 200) page.
func (l *Log) About(ctx context.Context, person yesline.PersonID, object string, before int64, limit int) ([]Line, error) {
	if person == "" {
		return nil, fmt.Errorf("whose part of the log: %w", yesline.Invalid)
	}
	if before <= 0 {
		before = 1 << 62
	}
	limit = min(max(limit, 1), 200)
	var lines []Line
	for _, d := range l.origins {
		if more, err := waits(ctx, d); err != nil {
			return nil, err
		} else if more { // only what has its number is in the index
			if err := l.Flush(ctx); err != nil {
				return nil, err
			}
		}
		found, err := l.about(ctx, d, person, object, before, limit)
		if err != nil {
			return nil, err
		}
		lines = append(lines, found...)
	}
	newestFirst(lines)
	return lines[:min(len(lines), limit)], nil
}

func (l *Log) about(ctx context.Context, d *db.DB, person yesline.PersonID, object string, before int64, limit int) ([]Line, error) {
	q := `SELECT l.id, l.seq, l.leaf, p.part, p.program, p.person, p.object, p.sealed
		FROM audit_parts p JOIN audit_leaves l ON l.id = p.leaf_id
		WHERE p.person = $1 AND p.at < $2 `
	args := []any{string(person), before, limit}
	if object != "" {
		q += `AND p.object = $4 `
		args = append(args, object)
	}
	rows, err := d.Query(ctx, q+`ORDER BY p.at DESC LIMIT $3`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var lines []Line
	for rows.Next() {
		var id yesline.EntryID
		var seq int64
		var leaf []byte
		var p part
		if err := rows.Scan(&id, &seq, &leaf, &p.n, &p.program, &p.person, &p.object, &p.sealed); err != nil {
			return nil, err
		}
		_, _, e, err := l.open(ctx, id, leaf, p)
		if err != nil {
			return nil, err
		}
		lines = append(lines, Line{Ref{d.Name, id}, seq, e})
	}
	return lines, rows.Err()
}

// Forget removes the person from the index of the log, under the house's mark.
// The entries stay, and stay provable; with the person's audit key destroyed
// nothing opens them.
func (l *Log) Forget(ctx context.Context, person yesline.PersonID) error {
	if person == "" {
		return fmt.Errorf("forgetting nobody in the log: %w", yesline.Invalid)
	}
	if err := l.Flush(ctx); err != nil { // only what has its number is in the index
		return err
	}
	for _, d := range l.origins {
		if err := d.Transact(ctx, func(ctx context.Context, tx *db.Tx) error { return l.forget(ctx, tx, person) }); err != nil {
			return fmt.Errorf("forgetting a person in the log: %w", err)
		}
	}
	return nil
}

func (l *Log) forget(ctx context.Context, tx *db.Tx, person yesline.PersonID) error {
	if _, err := tx.Exec(ctx, `DELETE FROM audit_receipts WHERE person = $1`, string(person)); err != nil {
		return err
	}
	for {
		rows, err := tx.Query(ctx, `SELECT l.seq, `+entryColumns+` FROM audit_leaves l JOIN audit_parts p ON p.leaf_id = l.id
			WHERE l.id IN (SELECT leaf_id FROM audit_parts WHERE person = $1 ORDER BY at LIMIT 500) ORDER BY l.id, p.part`, string(person))
		if err != nil {
			return err
		}
		theirs, err := scanEntries(rows)
		if err != nil || len(theirs) == 0 {
			return err
		}
		for _, e := range theirs {
			if why := l.wrong(tx.DB.Name, e); why != "" {
				return fmt.Errorf("an entry to forget, %s: %w", why, yesline.Tampered)
			}
			for i := range e.parts {
				if e.parts[i].person.String == string(person) {
					e.parts[i].person.String = ""
				}
			}
			if _, err := tx.Exec(ctx, `UPDATE audit_parts SET person = '' WHERE leaf_id = $1 AND person = $2`, string(e.id), string(person)); err != nil {
				return err
			}
			mac := l.keys.MAC(marked(tx.DB.Name, e.id, e.leaf, e.parts))
			if _, err := tx.Exec(ctx, `UPDATE audit_leaves SET mac = $1 WHERE id = $2`, mac, string(e.id)); err != nil {
				return err
			}
		}
	}
}

func isNotFound(err error) bool { return errors.Is(err, yesline.NotFound) }

func newestFirst(lines []Line) {
	slices.SortFunc(lines, func(a, b Line) int {
		return cmp.Or(cmp.Compare(b.Entry.AtMillis, a.Entry.AtMillis), cmp.Compare(b.Ref.Leaf, a.Ref.Leaf))
	})
}
