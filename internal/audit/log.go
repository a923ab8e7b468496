package audit

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"yesline"
	"yesline/internal/db"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Keys seal the parts and sign the checkpoints. app takes them from the keys
// room, which stands to the right of audit.
type Keys struct {
	// Seal seals a part under the audit key of person, or of program when
	// person is "", or of the house when program is "" too.
	Seal func(ctx context.Context, program yesline.ProgramID, person yesline.PersonID, context, plain []byte) ([]byte, error)
	// Open opens what Seal sealed; yesline.NotFound when that key is destroyed.
	Open func(ctx context.Context, program yesline.ProgramID, person yesline.PersonID, context, sealed []byte) ([]byte, error)

	// MAC is the house's mark on data.
	MAC func(data []byte) []byte

	Signer      note.Signer
	Verifier    note.Verifier
	VerifierKey string // Verifier as text, as it is published
}

// Log is the house's one log over its three databases.
type Log struct {
	content *db.DB
	origins []*db.DB // content first
	keys    Keys

	report  *slog.Logger
	wholeAt atomic.Int64 // unix ms: when all that was pending had its number, or the log began

	queue chan *waiting // entries that Append waits for; bounded
	nudge chan struct{}
	end   chan struct{}
	ended sync.Once
	wg    sync.WaitGroup

	sequencing sync.Mutex // one numbering at a time in this process; guards newest
	newest     Checkpoint // that this process has signed or seen
}

type waiting struct {
	row  *row
	done chan error
}

// Open prepares the log's tables. Begin starts writing and numbering once the
// keys are known.
func Open(ctx context.Context, people, keys, content *db.DB) (*Log, error) {
	l := &Log{content: content, origins: []*db.DB{content, people, keys},
		queue: make(chan *waiting, 1024), nudge: make(chan struct{}, 1), end: make(chan struct{})}
	for _, d := range l.origins {
		if err := d.Migrate(ctx, "audit", migrations); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Begin starts the two workers of the log; Close ends and waits for them.
// report is told why numbering fails, if it does.
func (l *Log) Begin(k Keys, report *slog.Logger) {
	l.keys, l.report = k, report
	l.wholeAt.Store(time.Now().UnixMilli())
	l.wg.Go(l.commit)
	l.wg.Go(l.number)
}

// Close writes what is queued, numbers what is pending, and ends.
func (l *Log) Close() {
	l.ended.Do(func() { close(l.end) })
	l.wg.Wait()
}

// Append writes an entry about something that is about to be answered. When
// it returns, the entry is durable; on an error nothing may be answered. It
// refuses to run inside a transaction, where it would wait for itself, and
// while entries get no numbers: a read whose entry may never be signed is none.
func (l *Log) Append(ctx context.Context, e Entry) (Ref, error) {
	if db.Inside(ctx) {
		return Ref{}, errors.New("audit.Append inside a transaction: use Record")
	}
	if time.Since(time.UnixMilli(l.wholeAt.Load())) > stalled {
		return Ref{}, fmt.Errorf("entries of the log get no numbers: %w", yesline.Unavailable)
	}
	r, err := l.seal(ctx, l.content.Name, e)
	if err != nil {
		return Ref{}, err
	}
	w := &waiting{r, make(chan error, 1)}
	select {
	case l.queue <- w:
	case <-l.end:
		return Ref{}, fmt.Errorf("the log is closed: %w", yesline.Unavailable)
	case <-ctx.Done():
		return Ref{}, ctx.Err()
	}
	select {
	case err := <-w.done:
		return Ref{l.content.Name, r.id}, err
	case <-ctx.Done():
		return Ref{}, ctx.Err() // it may become durable; nobody answers on it
	}
}

// Record writes an entry in the transaction of what it tells.
func (l *Log) Record(ctx context.Context, tx *db.Tx, e Entry) (Ref, error) {
	r, err := l.seal(ctx, tx.DB.Name, e)
	if err != nil {
		return Ref{}, err
	}
	if err := l.write(ctx, tx, []*row{r}); err != nil {
		return Ref{}, err
	}
	tx.OnCommit(l.wake)
	return Ref{tx.DB.Name, r.id}, nil
}

func (l *Log) wake() {
	select {
	case l.nudge <- struct{}{}:
	default:
	}
}

func (l *Log) seal(ctx context.Context, origin string, e Entry) (*row, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	now := time.Now()
	e.AtMillis = db.Millis(now)
	words, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	r := &row{id: newEntryID(now)}
	subjects := slices.Clone(e.Subjects)
	slices.Sort(subjects)
	subjects = slices.Compact(subjects)
	if len(subjects) == 0 {
		subjects = []yesline.PersonID{""}
	}
	r.leaf = append(r.leaf, leafMagic...)
	r.leaf = binary.BigEndian.AppendUint64(r.leaf, uint64(e.AtMillis))
	r.leaf = binary.BigEndian.AppendUint16(r.leaf, uint16(len(subjects)))
	for i, person := range subjects {
		salt := newSalt()
		commit := commitment(salt, words)
		sealed, err := l.keys.Seal(ctx, e.Program, person, sealContext(r.id, i), append(salt, words...))
		if err != nil {
			return nil, fmt.Errorf("sealing an entry of the log: %w", err)
		}
		hash := sha256.Sum256(sealed)
		r.leaf = append(append(r.leaf, commit[:]...), hash[:]...)
		r.parts = append(r.parts, part{i, e.Program, sql.NullString{String: string(person), Valid: person != ""}, e.Object, e.AtMillis, sealed})
	}
	r.mac = l.keys.MAC(marked(origin, r.id, r.leaf, r.parts))
	return r, nil
}

// stalled is how long entries may go without numbers before reads stop.
const stalled = 10 * time.Second

const groupMost = 1024 // entries in one commit

// commit takes what is queued, at most groupMost, writes it in one transaction
// and answers all who wait. It never waits for a timer: alone, an entry costs
// one sync; together, they share it.
func (l *Log) commit() {
	for {
		var group []*waiting
		select {
		case w := <-l.queue:
			group = append(group, w)
		case <-l.end:
			for { // what was accepted is written
				select {
				case w := <-l.queue:
					group = append(group, w)
					continue
				default:
				}
				break
			}
			if len(group) > 0 {
				l.writeGroup(group)
			}
			return
		}
		for more := true; more && len(group) < groupMost; {
			select {
			case w := <-l.queue:
				group = append(group, w)
			default:
				more = false
			}
		}
		l.writeGroup(group)
	}
}

func (l *Log) writeGroup(group []*waiting) {
	rows := make([]*row, len(group))
	for i, w := range group {
		rows[i] = w.row
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := l.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error { return l.write(ctx, tx, rows) })
	if err != nil {
		err = fmt.Errorf("writing the log: %w", err)
	}
	for _, w := range group {
		w.done <- err
	}
	l.wake()
}

// write adds rows to the journal, as one.
func (l *Log) write(ctx context.Context, tx *db.Tx, rows []*row) error {
	var b []byte
	for _, r := range rows {
		b = r.appendTo(b)
	}
	_, err := tx.Exec(ctx, `INSERT INTO audit_pending (id, entries) VALUES ($1, $2)`, string(rows[0].id), b)
	return err
}
