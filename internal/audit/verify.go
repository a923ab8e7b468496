package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"yesline"
	"yesline/internal/db"
)

// Report is the result of checking the whole log.
type Report struct {
	Entries    int64    `json:"entries"`    // numbered and signed
	Pending    int64    `json:"pending"`    // durable, not yet numbered; at most some hundreds are counted
	Checkpoint string   `json:"checkpoint"` // the newest signed note
	Key        string   `json:"key"`        // the house's verifier key
	Problems   []string `json:"problems"`   // empty: the log is whole
}

const problemsMost = 100

func (r *Report) problem(format string, args ...any) {
	if len(r.Problems) < problemsMost {
		r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
	}
}

// Verify reads the whole log and checks every row against the tree and the
// tree against every signed checkpoint. A removed, changed, inserted or
// reordered row is named. Memory stays flat; time is linear in the log.
func (l *Log) Verify(ctx context.Context) (Report, error) {
	r := Report{Problems: []string{}, Key: l.VerifierKey()}
	checkpoints, err := l.settled(ctx, &r)
	if err != nil {
		return r, err
	}
	if len(checkpoints) > 0 {
		last := checkpoints[len(checkpoints)-1]
		r.Entries, r.Checkpoint = last.Size, last.Note
	}
	head, signed, err := l.ends(ctx)
	if err != nil {
		return r, err
	}
	if head != signed {
		r.problem("the tree counts %d entries, the newest checkpoint signed %d", head, signed)
	}
	if err := l.verifyRows(ctx, &r, checkpoints); err != nil {
		return r, err
	}
	return r, l.strays(ctx, &r)
}

// settled numbers what is pending and reads the checkpoints before anything
// else is numbered: each number they sign stands beside its leaf by then.
func (l *Log) settled(ctx context.Context, r *Report) ([]Checkpoint, error) {
	l.sequencing.Lock()
	defer l.sequencing.Unlock()
	if err := l.flush(ctx); errors.Is(err, yesline.Tampered) {
		r.problem("%v", err)
	} else if err != nil {
		return nil, err
	}
	all, err := l.checkpoints(ctx, r)
	if err != nil {
		return nil, err
	}
	newest, err := l.witnessed(ctx)
	if err != nil {
		r.problem("%v", err)
	}
	if newest.Size > 0 && !slices.ContainsFunc(all, func(cp Checkpoint) bool { return cp.Size == newest.Size && cp.Root == newest.Root }) {
		r.problem("the checkpoint of %d entries that was kept elsewhere is not in the log", newest.Size)
	}
	return all, nil
}

// ends reads, in one look, where the tree ends and where the newest checkpoint
// does: the log of a running house grows meanwhile.
func (l *Log) ends(ctx context.Context) (head, signed int64, err error) {
	err = l.content.QueryRow(ctx, `SELECT size, (SELECT COALESCE(MAX(size), 0) FROM audit_checkpoints) FROM audit_head WHERE one = 1`).Scan(&head, &signed)
	return head, signed, err
}

func (l *Log) checkpoints(ctx context.Context, r *Report) ([]Checkpoint, error) {
	rows, err := l.content.Query(ctx, `SELECT size, note FROM audit_checkpoints ORDER BY size`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Checkpoint
	for rows.Next() {
		var size int64
		var text string
		if err := rows.Scan(&size, &text); err != nil {
			return nil, err
		}
		cp, err := readCheckpoint(text, l.keys.Verifier)
		if err != nil || cp.Size != size {
			r.problem("checkpoint %d: its signature does not hold", size)
			continue
		}
		cp.Note = text
		all = append(all, cp)
	}
	return all, rows.Err()
}

// verifyRows walks the numbers from 0, rebuilding the tree as it goes.
func (l *Log) verifyRows(ctx context.Context, r *Report, checkpoints []Checkpoint) error {
	var edge compact
	stored := &tiles{read: l.content.QueryRow, held: map[tlog.Tile][]byte{}}
	moved := map[tlog.Hash]int64{} // rows whose hash stands under another number
	var wrong []int64
	signed := checkpoints
	named := 0
	for seq := int64(0); seq < r.Entries; seq++ {
		if seq%tileWidth == 0 {
			clear(stored.held)
		}
		data, err := stored.load(ctx, 0, seq/tileWidth)
		if err != nil {
			return err
		}
		var want tlog.Hash
		if at := int(seq%tileWidth) * tlog.HashSize; at+tlog.HashSize <= len(data) {
			copy(want[:], data[at:])
		}
		e, where, err := l.bySeq(ctx, seq)
		switch {
		case err != nil:
			return err
		case e == nil:
			r.problem("entry %d is gone (removed)", seq)
			edge.add(want)
		default:
			got := tlog.RecordHash(e.leaf)
			if got != want {
				moved[got] = seq
				wrong = append(wrong, seq)
			} else if why := l.wrong(where, e); why != "" {
				r.problem("entry %d in %s was changed: %s", seq, where, why)
			}
			edge.add(want)
		}
		for len(signed) > 0 && signed[0].Size == seq+1 {
			if edge.root() != signed[0].Root && named == 0 {
				r.problem("the tree does not give the root that was signed at %d entries", signed[0].Size)
				named++
			}
			signed = signed[1:]
		}
	}
	return l.nameWrong(ctx, r, wrong, moved)
}

// nameWrong tells a changed row from rows that changed places.
func (l *Log) nameWrong(ctx context.Context, r *Report, wrong []int64, moved map[tlog.Hash]int64) error {
	t := &tiles{read: l.content.QueryRow, held: map[tlog.Tile][]byte{}}
	for _, seq := range wrong {
		want, err := t.reader(ctx).ReadHashes([]int64{tlog.StoredHashIndex(0, seq)})
		if err != nil {
			r.problem("entry %d does not match the tree, and the tree is damaged", seq)
			continue
		}
		if other, ok := moved[want[0]]; ok && other != seq {
			r.problem("entry %d was reordered: its row stands at %d", seq, other)
		} else {
			r.problem("entry %d was changed: its row does not match the tree", seq)
		}
	}
	return nil
}

// bySeq finds the row of a number in whichever database holds it; nil if none.
func (l *Log) bySeq(ctx context.Context, seq int64) (*entryRow, string, error) {
	origin, id := l.content, ""
	rows, err := l.content.Query(ctx, `SELECT id, '' FROM audit_leaves WHERE seq = $1
		UNION ALL SELECT leaf_id, origin FROM audit_foreign WHERE seq = $1`, seq)
	if err != nil {
		return nil, "", err
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		var name string
		if err := rows.Scan(&id, &name); err != nil {
			return nil, "", err
		}
		if name != "" {
			if origin, err = l.origin(name); err != nil {
				return nil, "", nil
			}
		}
		n++
	}
	if err := rows.Err(); err != nil || n != 1 {
		return nil, "", err
	}
	e, err := l.stored(ctx, Ref{origin.Name, yesline.EntryID(id)})
	if isNotFound(err) || err == nil && e.seq != seq {
		return nil, "", nil
	}
	return e, origin.Name, err
}

// strays finds rows that stand outside the signed numbers.
func (l *Log) strays(ctx context.Context, r *Report) error {
	for _, d := range l.origins {
		if err := l.straysOf(ctx, d, r); err != nil {
			return err
		}
	}
	slices.SortFunc(r.Problems, cmp.Compare[string])
	return nil
}

func (l *Log) straysOf(ctx context.Context, d *db.DB, r *Report) error {
	waiting, err := l.pending(ctx, d.Name, d.Query)
	if err != nil && !errors.Is(err, yesline.Tampered) { // which was told when it could not be numbered
		return err
	}
	for _, t := range waiting {
		r.Pending += int64(len(t.entries))
	}
	rows, err := d.Query(ctx, `SELECT seq FROM audit_leaves WHERE seq >= $1 OR seq < 0 ORDER BY seq < 0 DESC, seq DESC LIMIT 100`, r.Entries)
	if err != nil {
		return err
	}
	defer rows.Close()
	var outside []int64
	for rows.Next() {
		var seq int64
		if err := rows.Scan(&seq); err != nil {
			return err
		}
		outside = append(outside, seq)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	rows.Close()
	_, signed, err := l.ends(ctx) // after the rows: what was numbered meanwhile is no stray
	if err != nil {
		return err
	}
	for _, seq := range outside {
		if seq < 0 || seq >= signed {
			r.problem("entry %d in %s was inserted: the signed log ends at %d", seq, d.Name, signed)
		}
	}
	if d == l.content {
		return nil
	}
	return l.insertedForeign(ctx, d, r)
}

// insertedForeign finds numbered rows of another database that the content
// database never numbered.
func (l *Log) insertedForeign(ctx context.Context, d *db.DB, r *Report) error {
	rows, err := d.Query(ctx, `SELECT id, seq FROM audit_leaves ORDER BY id`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var seq int64
		if err := rows.Scan(&id, &seq); err != nil {
			return err
		}
		var known bool
		if err := l.content.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM audit_foreign WHERE origin = $1 AND leaf_id = $2 AND seq = $3)`,
			d.Name, id, seq).Scan(&known); err != nil {
			return err
		}
		if !known {
			r.problem("entry %d in %s was inserted: the log never numbered it", seq, d.Name)
		}
	}
	return rows.Err()
}

// compact is the right edge of an RFC 6962 tree: one hash per full subtree.
type compact struct {
	hashes []tlog.Hash
	size   int64
}

func (c *compact) add(h tlog.Hash) {
	for n := c.size; n&1 == 1; n >>= 1 {
		h = tlog.NodeHash(c.hashes[len(c.hashes)-1], h)
		c.hashes = c.hashes[:len(c.hashes)-1]
	}
	c.hashes = append(c.hashes, h)
	c.size++
}

func (c *compact) root() tlog.Hash {
	h := c.hashes[len(c.hashes)-1]
	for i := len(c.hashes) - 2; i >= 0; i-- {
		h = tlog.NodeHash(c.hashes[i], h)
	}
	return h
}
