package audit

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

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
	seq   int64
	leaf  []byte
	parts []storedPart
}

type storedPart struct {
	n       int
	program yesline.ProgramID
	person  yesline.PersonID // "" under the program's key, or forgotten
	object  string
	sealed  []byte
}

func (l *Log) stored(ctx context.Context, ref Ref) (*entryRow, error) {
	d, err := l.origin(ref.DB)
	if err != nil {
		return nil, err
	}
	var e entryRow
	var seq sql.NullInt64
	err = d.QueryRow(ctx, `SELECT seq, leaf FROM audit_leaves WHERE id = $1`, string(ref.Leaf)).Scan(&seq, &e.leaf)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("an entry of the log: %w", yesline.NotFound)
	}
	if err != nil {
		return nil, err
	}
	e.seq = -1
	if seq.Valid {
		e.seq = seq.Int64
	}
	rows, err := d.Query(ctx, `SELECT part, program, person, object, sealed FROM audit_parts WHERE leaf_id = $1 ORDER BY part`, string(ref.Leaf))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var p storedPart
		var person sql.NullString
		if err := rows.Scan(&p.n, &p.program, &person, &p.object, &p.sealed); err != nil {
			return nil, err
		}
		p.person = yesline.PersonID(person.String)
		e.parts = append(e.parts, p)
	}
	return &e, rows.Err()
}

// open opens part i and checks it against the leaf. It gives the salt and the
// words as they were committed to.
func (l *Log) open(ctx context.Context, id yesline.EntryID, leaf []byte, p storedPart) (salt, words []byte, e Entry, err error) {
	_, commits, seals, err := parseLeaf(leaf)
	if err != nil {
		return nil, nil, e, err
	}
	if p.n < 0 || p.n >= len(commits) || sha256.Sum256(p.sealed) != seals[p.n] {
		return nil, nil, e, fmt.Errorf("a part of an entry: %w", yesline.Tampered)
	}
	plain, err := l.keys.Open(ctx, p.program, p.person, sealContext(id, p.n), p.sealed)
	if err != nil {
		return nil, nil, e, fmt.Errorf("opening an entry of the log: %w", err)
	}
	salt, words, e, err = splitWords(plain, commits[p.n])
	if err == nil && (e.Object != p.object || e.Program != p.program) {
		err = fmt.Errorf("the index of an entry: %w", yesline.Tampered)
	}
	return salt, words, e, err
}

const numberedWithin = 2 * time.Second

// numbered waits until the entry has its place in the signed tree.
func (l *Log) numbered(ctx context.Context, ref Ref) (*entryRow, Checkpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, numberedWithin)
	defer cancel()
	for {
		e, err := l.stored(ctx, ref)
		if err != nil {
			return nil, Checkpoint{}, err
		}
		if e.seq >= 0 {
			cp, err := l.Checkpoint(ctx)
			if err != nil {
				return nil, cp, err
			}
			if cp.Size <= e.seq {
				return nil, cp, fmt.Errorf("an entry numbered beyond the signed log: %w", yesline.Tampered)
			}
			return e, cp, nil
		}
		if err := l.Flush(ctx); err != nil {
			return nil, Checkpoint{}, err
		}
	}
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

// Find opens the entry and checks it against the signed log. It waits up to
// 2 s for an entry that has no number yet. yesline.Tampered if leaf, part or
// tree do not match.
func (l *Log) Find(ctx context.Context, ref Ref) (Entry, error) {
	row, cp, err := l.numbered(ctx, ref)
	if err != nil {
		return Entry{}, err
	}
	if _, err := l.prove(ctx, row, cp); err != nil {
		return Entry{}, err
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
	Seq   int64 // -1 while it has no number
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
		var seq sql.NullInt64
		var leaf []byte
		var p storedPart
		if err := rows.Scan(&id, &seq, &leaf, &p.n, &p.program, &p.person, &p.object, &p.sealed); err != nil {
			return nil, err
		}
		_, _, e, err := l.open(ctx, id, leaf, p)
		if err != nil {
			return nil, err
		}
		line := Line{Ref{d.Name, id}, -1, e}
		if seq.Valid {
			line.Seq = seq.Int64
		}
		lines = append(lines, line)
	}
	return lines, rows.Err()
}

// Forget removes the person from the index of the log. The entries stay, and
// stay provable; with the person's audit key destroyed nothing opens them.
func (l *Log) Forget(ctx context.Context, person yesline.PersonID) error {
	for _, d := range l.origins {
		if err := d.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
			if _, err := tx.Exec(ctx, `DELETE FROM audit_receipts WHERE person = $1`, string(person)); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `UPDATE audit_parts SET person = NULL WHERE person = $1`, string(person))
			return err
		}); err != nil {
			return fmt.Errorf("forgetting a person in the log: %w", err)
		}
	}
	return nil
}

func isNotFound(err error) bool { return errors.Is(err, yesline.NotFound) }

func newestFirst(lines []Line) {
	slices.SortFunc(lines, func(a, b Line) int {
		return cmp.Or(cmp.Compare(b.Entry.AtMillis, a.Entry.AtMillis), cmp.Compare(b.Ref.Leaf, a.Ref.Leaf))
	})
}
