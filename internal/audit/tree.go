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
	batchMost  = 512 // leaves numbered in one transaction: others wait for the writer meanwhile
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
		if err := l.Flush(ctx); err != nil { // what fails stays pending and is tried again
			l.report.Error("entries of the log get no numbers; if this lasts, reads stop", "error", err)
		}
		cancel()
		if ending {
			return
		}
	}
}

// Flush numbers all pending leaves now, signs a checkpoint over them, and keeps
// it in all three databases.
func (l *Log) Flush(ctx context.Context) error {
	l.sequencing.Lock()
	defer l.sequencing.Unlock()
	return l.flush(ctx)
}

// flush is Flush with sequencing held.
func (l *Log) flush(ctx context.Context) error {
	before := l.newest.Size
	for _, origin := range l.origins {
		for {
			n, err := l.drain(ctx, origin)
			if err != nil {
				return fmt.Errorf("numbering the log: %w", err)
			}
			l.wholeAt.Store(time.Now().UnixMilli())
			if n < batchMost {
				break
			}
		}
	}
	if l.newest.Size == before {
		return nil
	}
	return l.witness(ctx)
}

// witness keeps the newest checkpoint in the databases that hold no tree, so
// that who rewrites the one contradicts the others.
func (l *Log) witness(ctx context.Context) error {
	for _, d := range l.origins[1:] {
		err := d.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
			if _, err := tx.Exec(ctx, `DELETE FROM audit_checkpoints WHERE size < $1`, l.newest.Size); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `INSERT INTO audit_checkpoints (size, note, at) VALUES ($1, $2, $3) ON CONFLICT (size) DO NOTHING`,
				l.newest.Size, l.newest.Note, db.Millis(time.Now()))
			return err
		})
		if err != nil {
			return fmt.Errorf("keeping a checkpoint in the %s database: %w", d.Name, err)
		}
	}
	return nil
}

// witnessed gives the newest checkpoint that any database or this process
// remembers; the zero Checkpoint for a new log. One that is not signed by us
// is an error.
func (l *Log) witnessed(ctx context.Context) (Checkpoint, error) {
	newest := l.newest
	for _, d := range l.origins {
		cp, err := l.newestIn(ctx, d)
		if errors.Is(err, yesline.NotFound) {
			continue
		}
		if err != nil {
			return cp, fmt.Errorf("the newest checkpoint in the %s database: %w", d.Name, err)
		}
		if cp.Size > newest.Size {
			newest = cp
		}
	}
	return newest, nil
}

// drain numbers at most batchMost pending leaves of one database. For another
// database than content it does so in two steps: first the number in the
// content database, once for each leaf, then the leaf out of the journal. A
// crash between the two is mended by the next run.
func (l *Log) drain(ctx context.Context, origin *db.DB) (int, error) {
	if yes, err := waits(ctx, origin); err != nil || !yes {
		return 0, err
	}
	newest, err := l.witnessed(ctx)
	if err != nil {
		return 0, err
	}
	waiting, err := l.pending(ctx, origin.Name, origin.Query)
	if err != nil || len(waiting) == 0 {
		return 0, err
	}
	var signed Checkpoint
	foreign := origin != l.content
	err = l.content.TransactReadCommitted(ctx, func(ctx context.Context, tx *db.Tx) error {
		signed = Checkpoint{}
		size, err := lockHead(ctx, tx)
		if err != nil {
			return err
		}
		taken := waiting
		if !foreign {
			if taken, err = take(ctx, tx, waiting); err != nil {
				return err
			}
		}
		hashes, err := assign(ctx, tx, origin.Name, foreign, size, taken)
		if err != nil || len(hashes) == 0 {
			return err
		}
		if !foreign {
			if err := keep(ctx, tx, taken); err != nil {
				return err
			}
		}
		signed, err = l.grow(ctx, tx, newest, size, hashes)
		return err
	})
	if err != nil {
		return 0, err
	}
	if signed.Size > 0 {
		l.newest = signed
	}
	if foreign {
		err = origin.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
			taken, err := take(ctx, tx, waiting)
			if err != nil {
				return err
			}
			return keep(ctx, tx, taken)
		})
	}
	n := 0
	for _, t := range waiting {
		n += len(t.entries)
	}
	return n, err
}

type queryFunc = func(ctx context.Context, q string, args ...any) (*sql.Rows, error)

// assign gives each waiting leaf its number and the hashes of those that are
// new to the tree.
func assign(ctx context.Context, tx *db.Tx, origin string, foreign bool, size int64, waiting []together) ([]tlog.Hash, error) {
	var hashes []tlog.Hash
	for _, t := range waiting {
		for _, e := range t.entries {
			if foreign {
				err := tx.QueryRow(ctx, `SELECT seq FROM audit_foreign WHERE origin = $1 AND leaf_id = $2`, origin, string(e.id)).Scan(&e.seq)
				if err == nil {
					continue // numbered before a crash
				}
				if !errors.Is(err, sql.ErrNoRows) {
					return nil, err
				}
			}
			e.seq = size + int64(len(hashes))
			hashes = append(hashes, tlog.RecordHash(e.leaf))
			if foreign {
				if _, err := tx.Exec(ctx, `INSERT INTO audit_foreign (seq, origin, leaf_id) VALUES ($1, $2, $3)`, e.seq, origin, string(e.id)); err != nil {
					return nil, err
				}
			}
		}
	}
	return hashes, nil
}

// lockHead reads the size of the tree and keeps other nodes from numbering
// until the transaction ends.
func lockHead(ctx context.Context, tx *db.Tx) (size int64, err error) {
	err = tx.QueryRow(ctx, `UPDATE audit_head SET size = size WHERE one = 1 RETURNING size`).Scan(&size)
	return size, err
}

// grow appends leaf hashes to the tiles, moves the head and signs it. It signs
// only what goes on from what was signed before: the tiles must give the root
// of the checkpoint at exactly this size, and of the newest one that anybody
// remembers.
func (l *Log) grow(ctx context.Context, tx *db.Tx, newest Checkpoint, size int64, hashes []tlog.Hash) (Checkpoint, error) {
	t := &tiles{read: tx.QueryRow, held: map[tlog.Tile][]byte{}}
	if err := l.goesOn(ctx, tx, t, newest, size); err != nil {
		return Checkpoint{}, err
	}
	if err := t.append(ctx, 0, size, hashes); err != nil {
		return Checkpoint{}, err
	}
	if err := t.store(ctx, tx); err != nil {
		return Checkpoint{}, err
	}
	size += int64(len(hashes))
	root, err := tlog.TreeHash(size, t.reader(ctx))
	if err != nil {
		return Checkpoint{}, err
	}
	signed, err := note.Sign(&note.Note{Text: checkpointText(l.keys.Signer.Name(), size, root)}, l.keys.Signer)
	if err != nil {
		return Checkpoint{}, err
	}
	if _, err := tx.Exec(ctx, `UPDATE audit_head SET size = $1 WHERE one = 1`, size); err != nil {
		return Checkpoint{}, err
	}
	now := time.Now()
	if _, err := tx.Exec(ctx, `INSERT INTO audit_checkpoints (size, note, at) VALUES ($1, $2, $3)`, size, string(signed), db.Millis(now)); err != nil {
		return Checkpoint{}, err
	}
	return Checkpoint{Note: string(signed), Size: size, Root: root, At: now}, nil
}

func (l *Log) goesOn(ctx context.Context, tx *db.Tx, t *tiles, newest Checkpoint, size int64) error {
	if newest.Size > size {
		return fmt.Errorf("the log has %d entries, and %d were signed: %w", size, newest.Size, yesline.Tampered)
	}
	if size == 0 {
		return nil
	}
	var text string
	err := tx.QueryRow(ctx, `SELECT note FROM audit_checkpoints WHERE size = $1`, size).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("the log has %d entries and no checkpoint of them: %w", size, yesline.Tampered)
	}
	if err != nil {
		return err
	}
	here, err := readCheckpoint(text, l.keys.Verifier)
	if err != nil {
		return err
	}
	for _, cp := range []Checkpoint{here, newest} {
		if cp.Size == 0 {
			continue
		}
		root, err := tlog.TreeHash(cp.Size, t.reader(ctx))
		if err != nil {
			return err
		}
		if cp.Size > size || root != cp.Root {
			return fmt.Errorf("the tree against the root that was signed at %d entries: %w", cp.Size, yesline.Tampered)
		}
	}
	return nil
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
func (l *Log) Checkpoint(ctx context.Context) (Checkpoint, error) { return l.newestIn(ctx, l.content) }

func (l *Log) newestIn(ctx context.Context, d *db.DB) (Checkpoint, error) {
	var text string
	var at int64
	err := d.QueryRow(ctx, `SELECT note, at FROM audit_checkpoints ORDER BY size DESC LIMIT 1`).Scan(&text, &at)
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
