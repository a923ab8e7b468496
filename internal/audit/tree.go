package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"yesline"
	"yesline/internal/db"
)

// The tree is RFC 6962's, its hashes kept in tiles of height 8 (C2SP
// tlog-tiles): tile n of level 0 holds the hashes of leaves 256n to 256n+255,
// tile n of level 1 the roots of 256 full tiles of level 0, and so on.
const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
	batchMost  = 4096 // leaves numbered in one transaction
)

// number is the sequencer: it numbers and hashes pending leaves within a
// second. Where several nodes run, the row of audit_head admits one at a time.
func (l *Log) number() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		ending := false
		select {
		case <-l.end:
			ending = true
		case <-tick.C:
		case <-l.nudge:
			select { // let a burst gather
			case <-time.After(100 * time.Millisecond):
			case <-l.end:
				ending = true
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		l.Flush(ctx) // what fails stays pending and is tried again
		cancel()
		if ending {
			return
		}
	}
}

// Flush numbers all pending leaves now and signs a checkpoint over them.
func (l *Log) Flush(ctx context.Context) error {
	l.sequencing.Lock()
	defer l.sequencing.Unlock()
	return l.flush(ctx)
}

// flush is Flush for whoever holds sequencing.
func (l *Log) flush(ctx context.Context) error {
	for _, origin := range l.origins {
		for {
			n, err := l.drain(ctx, origin)
			if err != nil {
				return fmt.Errorf("numbering the log: %w", err)
			}
			if n < batchMost {
				break
			}
		}
	}
	return nil
}

// drain numbers at most batchMost pending leaves of one database.
func (l *Log) drain(ctx context.Context, origin *db.DB) (n int, err error) {
	if origin == l.content {
		var waits bool
		row := l.content.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM audit_leaves WHERE seq IS NULL)`)
		if err := row.Scan(&waits); err != nil || !waits {
			return 0, err
		}
		err = l.content.TransactReadCommitted(ctx, func(ctx context.Context, tx *db.Tx) error {
			n = 0
			size, err := lockHead(ctx, tx)
			if err != nil {
				return err
			}
			hashes, err := numberOwn(ctx, tx, size)
			if err != nil || len(hashes) == 0 {
				return err
			}
			n = len(hashes)
			return l.grow(ctx, tx, size, hashes)
		})
		return n, err
	}
	return l.drainForeign(ctx, origin)
}

// lockHead reads the size of the tree and keeps other nodes from numbering
// until the transaction ends.
func lockHead(ctx context.Context, tx *db.Tx) (size int64, err error) {
	err = tx.QueryRow(ctx, `UPDATE audit_head SET size = size WHERE one = 1 RETURNING size`).Scan(&size)
	return size, err
}

func numberOwn(ctx context.Context, tx *db.Tx, size int64) ([]tlog.Hash, error) {
	rows, err := tx.Query(ctx, `UPDATE audit_leaves SET seq = $1 + waiting.n
		FROM (SELECT id, row_number() OVER (ORDER BY id) - 1 AS n FROM audit_leaves
		      WHERE seq IS NULL ORDER BY id LIMIT $2) AS waiting
		WHERE audit_leaves.id = waiting.id RETURNING seq, leaf`, size, batchMost)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	numbered := map[int64]tlog.Hash{}
	for rows.Next() {
		var seq int64
		var leaf []byte
		if err := rows.Scan(&seq, &leaf); err != nil {
			return nil, err
		}
		numbered[seq] = tlog.RecordHash(leaf)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	hashes := make([]tlog.Hash, len(numbered))
	for i := range hashes {
		h, ok := numbered[size+int64(i)]
		if !ok {
			return nil, fmt.Errorf("numbers with a hole at %d: %w", size+int64(i), yesline.Tampered)
		}
		hashes[i] = h
	}
	return hashes, nil
}

// drainForeign numbers leaves of another database: first the number in the
// content database, once for each leaf, then the number beside the leaf. A
// crash between the two is mended by the next run.
func (l *Log) drainForeign(ctx context.Context, origin *db.DB) (int, error) {
	type pending struct {
		id   string
		leaf []byte
		seq  int64
	}
	var waiting []pending
	rows, err := origin.Query(ctx, `SELECT id, leaf FROM audit_leaves WHERE seq IS NULL ORDER BY id LIMIT $1`, batchMost)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var p pending
		if err := rows.Scan(&p.id, &p.leaf); err != nil {
			return 0, err
		}
		waiting = append(waiting, p)
	}
	if err := rows.Err(); err != nil || len(waiting) == 0 {
		return 0, err
	}
	rows.Close()
	err = l.content.TransactReadCommitted(ctx, func(ctx context.Context, tx *db.Tx) error {
		size, err := lockHead(ctx, tx)
		if err != nil {
			return err
		}
		var hashes []tlog.Hash
		for i := range waiting {
			p := &waiting[i]
			err := tx.QueryRow(ctx, `SELECT seq FROM audit_foreign WHERE origin = $1 AND leaf_id = $2`, origin.Name, p.id).Scan(&p.seq)
			if err == nil {
				continue // numbered before a crash
			}
			if !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			p.seq = size + int64(len(hashes))
			if _, err := tx.Exec(ctx, `INSERT INTO audit_foreign (seq, origin, leaf_id) VALUES ($1, $2, $3)`, p.seq, origin.Name, p.id); err != nil {
				return err
			}
			hashes = append(hashes, tlog.RecordHash(p.leaf))
		}
		if len(hashes) == 0 {
			return nil
		}
		return l.grow(ctx, tx, size, hashes)
	})
	if err != nil {
		return 0, err
	}
	err = origin.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, p := range waiting {
			if _, err := tx.Exec(ctx, `UPDATE audit_leaves SET seq = $1 WHERE id = $2`, p.seq, p.id); err != nil {
				return err
			}
		}
		return nil
	})
	return len(waiting), err
}

// grow appends leaf hashes to the tiles, moves the head and signs it.
func (l *Log) grow(ctx context.Context, tx *db.Tx, size int64, hashes []tlog.Hash) error {
	t := &tiles{read: tx.QueryRow, held: map[tlog.Tile][]byte{}}
	if err := t.append(ctx, 0, size, hashes); err != nil {
		return err
	}
	if err := t.store(ctx, tx); err != nil {
		return err
	}
	size += int64(len(hashes))
	root, err := tlog.TreeHash(size, t.reader(ctx))
	if err != nil {
		return err
	}
	signed, err := note.Sign(&note.Note{Text: checkpointText(l.keys.Signer.Name(), size, root)}, l.keys.Signer)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `UPDATE audit_head SET size = $1 WHERE one = 1`, size); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO audit_checkpoints (size, note, at) VALUES ($1, $2, $3)`, size, string(signed), db.Millis(time.Now()))
	return err
}

// checkpointText is a C2SP tlog-checkpoint: origin, size, root.
func checkpointText(origin string, size int64, root tlog.Hash) string {
	return fmt.Sprintf("%s\n%d\n%s\n", origin, size, root)
}

// Checkpoint is a signed head of the tree.
type Checkpoint struct {
	Note string // the signed note, as it is published
	Size int64
	Root tlog.Hash
	At   time.Time // when we signed it, by our own clock; the note does not hold it
}

// readCheckpoint checks the signature and the form of a signed note.
func readCheckpoint(text string, v note.Verifier) (Checkpoint, error) {
	n, err := note.Open([]byte(text), note.VerifierList(v))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("the signature of a checkpoint: %w", yesline.Tampered)
	}
	lines := strings.SplitN(n.Text, "\n", 4)
	var size int64
	if len(lines) < 4 || lines[0] != v.Name() {
		return Checkpoint{}, fmt.Errorf("a checkpoint of another log: %w", yesline.Tampered)
	}
	if _, err := fmt.Sscanf(lines[1], "%d", &size); err != nil || fmt.Sprint(size) != lines[1] {
		return Checkpoint{}, fmt.Errorf("the size in a checkpoint: %w", yesline.Tampered)
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return Checkpoint{}, fmt.Errorf("the root in a checkpoint: %w", yesline.Tampered)
	}
	return Checkpoint{Note: text, Size: size, Root: root}, nil
}

// Checkpoint gives the newest signed head; yesline.NotFound while the log is empty.
func (l *Log) Checkpoint(ctx context.Context) (Checkpoint, error) {
	var text string
	var at int64
	err := l.content.QueryRow(ctx, `SELECT note, at FROM audit_checkpoints ORDER BY size DESC LIMIT 1`).Scan(&text, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return Checkpoint{}, fmt.Errorf("the log has no checkpoint yet: %w", yesline.NotFound)
	}
	if err != nil {
		return Checkpoint{}, err
	}
	cp, err := readCheckpoint(text, l.keys.Verifier)
	cp.At = db.Time(at)
	return cp, err
}

// tiles reads and extends the tiles of the tree through one reader of rows.
type tiles struct {
	read  func(ctx context.Context, q string, args ...any) *sql.Row
	held  map[tlog.Tile][]byte // by level and number; W is 0
	dirty []tlog.Tile
}

func (t *tiles) load(ctx context.Context, level int, n int64) ([]byte, error) {
	at := tlog.Tile{H: tileHeight, L: level, N: n}
	if data, ok := t.held[at]; ok {
		return data, nil
	}
	var data []byte
	err := t.read(ctx, `SELECT hashes FROM audit_tiles WHERE level = $1 AND n = $2`, level, n).Scan(&data)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	t.held[at] = data
	return data, nil
}

// append adds hashes to a level that holds size of them, and the roots of the
// tiles it fills to the level above.
func (t *tiles) append(ctx context.Context, level int, size int64, hashes []tlog.Hash) error {
	var full []tlog.Hash
	for i, h := range hashes {
		n := (size + int64(i)) / tileWidth
		data, err := t.load(ctx, level, n)
		if err != nil {
			return err
		}
		if int64(len(data)) != (size+int64(i))%tileWidth*tlog.HashSize {
			return fmt.Errorf("tile %d of level %d has %d bytes: %w", n, level, len(data), yesline.Tampered)
		}
		data = append(data, h[:]...)
		at := tlog.Tile{H: tileHeight, L: level, N: n}
		t.held[at] = data
		if len(t.dirty) == 0 || t.dirty[len(t.dirty)-1] != at {
			t.dirty = append(t.dirty, at)
		}
		if len(data) == tileWidth*tlog.HashSize {
			full = append(full, tileRoot(data))
		}
	}
	if len(full) == 0 {
		return nil
	}
	return t.append(ctx, level+1, size/tileWidth, full)
}

// tileRoot is the root over a full tile, the hash that the level above holds.
func tileRoot(data []byte) tlog.Hash {
	var edge compact
	for len(data) > 0 {
		edge.add(tlog.Hash(data[:tlog.HashSize]))
		data = data[tlog.HashSize:]
	}
	return edge.root()
}

func (t *tiles) store(ctx context.Context, tx *db.Tx) error {
	for _, at := range t.dirty {
		if _, err := tx.Exec(ctx, `INSERT INTO audit_tiles (level, n, hashes) VALUES ($1, $2, $3)
			ON CONFLICT (level, n) DO UPDATE SET hashes = excluded.hashes`, at.L, at.N, t.held[at]); err != nil {
			return err
		}
	}
	return nil
}

// reader answers tlog's questions for single hashes out of the tiles.
func (t *tiles) reader(ctx context.Context) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			at := tlog.TileForIndex(tileHeight, index)
			data, err := t.load(ctx, at.L, at.N)
			if err != nil {
				return nil, err
			}
			if len(data) < at.W*tlog.HashSize {
				return nil, fmt.Errorf("tile %d of level %d is short: %w", at.N, at.L, yesline.Tampered)
			}
			if out[i], err = tlog.HashFromTile(at, data[:at.W*tlog.HashSize], index); err != nil {
				return nil, err
			}
		}
		return out, nil
	})
}
