package audit

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"yesline"
	"yesline/internal/db"
)

// An entry in the journal is its id, leaf and mark and the number of its parts;
// a part is its program, whether it is a person's and whose, its object, its
// moment and its sealed words. Numbers are varints, strings have their length
// before them. One row holds what was committed together: to be durable, an
// entry costs one place in one table, and its indexes are written later, many
// at a time.

func (r *row) appendTo(b []byte) []byte {
	b = appendString(b, string(r.id))
	b = appendString(b, string(r.leaf))
	b = appendString(b, string(r.mac))
	b = binary.AppendUvarint(b, uint64(len(r.parts)))
	for _, p := range r.parts {
		b = appendString(b, string(p.program))
		if p.person.Valid {
			b = append(b, 1)
			b = appendString(b, p.person.String)
		} else {
			b = append(b, 0)
		}
		b = appendString(b, p.object)
		b = binary.AppendUvarint(b, uint64(p.at))
		b = appendString(b, string(p.sealed))
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// reader takes a journal's bytes apart. The first thing that cannot be leaves
// it broken.
type reader struct {
	b      []byte
	broken bool
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.b, r.broken = nil, true
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) bytes() []byte {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.b, r.broken = nil, true
		return nil
	}
	s := r.b[:n:n]
	r.b = r.b[n:]
	return s
}

// readJournal gives the entries of one row of the journal.
func readJournal(b []byte) ([]*entryRow, error) {
	var all []*entryRow
	for r := (&reader{b: b}); len(r.b) > 0 || r.broken; {
		e := &entryRow{seq: -1, id: yesline.EntryID(r.bytes()), leaf: r.bytes(), mac: r.bytes()}
		n := r.number()
		if n > maxSubjects {
			r.broken = true
		}
		for i := 0; i < int(n) && !r.broken; i++ {
			p := part{n: i, program: yesline.ProgramID(r.bytes())}
			if r.number() == 1 {
				p.person = sql.NullString{String: string(r.bytes()), Valid: true}
			}
			p.object, p.at, p.sealed = string(r.bytes()), int64(r.number()), r.bytes()
			e.parts = append(e.parts, p)
		}
		if r.broken {
			return nil, fmt.Errorf("an entry that waits in the journal: %w", yesline.Tampered)
		}
		all = append(all, e)
	}
	return all, nil
}

// together is a row of the journal: entries that were committed at once.
type together struct {
	id      string
	entries []*entryRow
}

// pending reads the oldest rows of the journal, batchMost entries or a row
// more, and drops none quietly: one that does not carry the house's mark stops
// the numbering.
func (l *Log) pending(ctx context.Context, origin string, query queryFunc) ([]together, error) {
	rows, err := query(ctx, `SELECT id, entries FROM audit_pending ORDER BY id LIMIT $1`, batchMost)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []together
	for count := 0; count < batchMost && rows.Next(); {
		var t together
		var b []byte
		if err := rows.Scan(&t.id, &b); err != nil {
			return nil, err
		}
		if t.entries, err = readJournal(b); err != nil {
			return nil, err
		}
		all = append(all, t)
		count += len(t.entries)
		for _, e := range t.entries {
			if why := l.wrong(origin, e); why != "" {
				return nil, fmt.Errorf("an entry waiting in %s is not as we wrote it (%s): %w", origin, why, yesline.Tampered)
			}
		}
	}
	return all, rows.Err()
}

// take removes rows from the journal and gives those that were still in it:
// the others are another node's.
func take(ctx context.Context, tx *db.Tx, waiting []together) ([]together, error) {
	taken := make([]together, 0, len(waiting))
	for _, t := range waiting {
		n, err := tx.Exec(ctx, `DELETE FROM audit_pending WHERE id = $1`, t.id)
		if err != nil {
			return nil, err
		}
		if n == 1 {
			taken = append(taken, t)
		}
	}
	return taken, nil
}

// keep writes numbered entries with their index.
func keep(ctx context.Context, tx *db.Tx, taken []together) error {
	leaves := insert{head: `INSERT INTO audit_leaves (seq, id, leaf, mac) VALUES `, columns: 4}
	parts := insert{head: `INSERT INTO audit_parts (leaf_id, part, program, person, object, at, sealed) VALUES `, columns: 7}
	for _, t := range taken {
		for _, e := range t.entries {
			leaves.add(e.seq, string(e.id), e.leaf, e.mac)
			for _, p := range e.parts {
				parts.add(string(e.id), p.n, string(p.program), p.person, p.object, p.at, p.sealed)
			}
		}
	}
	if err := leaves.run(ctx, tx); errors.Is(err, yesline.Conflict) {
		return fmt.Errorf("an entry waits that has its number: %w: %w", yesline.Tampered, err)
	} else if err != nil {
		return err
	}
	return parts.run(ctx, tx)
}

// waits reports whether anything in a database waits for its number.
func waits(ctx context.Context, d *db.DB) (yes bool, err error) {
	err = d.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM audit_pending)`).Scan(&yes)
	return yes, err
}

// rowsMost is how many rows one INSERT writes. What is left over goes in
// statements of half as many and so on, so that there are few texts to parse.
const rowsMost = 16

// insert gathers the values of an INSERT of many rows.
type insert struct {
	head    string
	columns int
	args    []any
}

func (in *insert) add(values ...any) { in.args = append(in.args, values...) }

func (in *insert) run(ctx context.Context, tx *db.Tx) error {
	for rows := rowsMost; rows > 0; rows /= 2 {
		n := rows * in.columns
		if len(in.args) < n {
			continue
		}
		q := in.text(rows)
		for len(in.args) >= n {
			if _, err := tx.Exec(ctx, q, in.args[:n]...); err != nil {
				return err
			}
			in.args = in.args[n:]
		}
	}
	return nil
}

func (in *insert) text(rows int) string {
	var q strings.Builder
	q.WriteString(in.head)
	for i := range rows {
		if i > 0 {
			q.WriteString(", ")
		}
		q.WriteString("(" + db.In(i*in.columns+1, in.columns) + ")")
	}
	return q.String()
}
