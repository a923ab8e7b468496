// Package db opens, migrates and transacts on SQLite and PostgreSQL with one
// SQL text, and tells the house what changed: a job once, a watch everywhere.
//
// SQL uses $1, $2... in any order, BIGINT milliseconds for times, and never
// asks the database for the time.
package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"

	"yesline"
)

// DB is one of the house's three databases. Writes go through Transact, reads
// through Query and QueryRow. On SQLite there is one writer connection.
type DB struct {
	Name     string // "people", "keys" or "content": it appears in errors and logs
	Postgres bool

	write   *sql.DB
	read    *sql.DB
	pool    *pgxpool.Pool // PostgreSQL only: River and serializable transactions need pgx itself
	watches *Watches

	mu       sync.Mutex           // guards what follows
	prepared map[string]*sql.Stmt // reads of SQLite by their text; pgx keeps its own
	writing  map[string]*sql.Stmt // the writer's statements, likewise
	coming   map[string]int       // texts the writer ran unprepared, with how often
}

// Open opens a database by its address: "sqlite:/path/to/file.db" or
// "postgres://...". The address may hold a password: errors do not repeat it.
func Open(ctx context.Context, name, address string) (*DB, error) {
	d := &DB{Name: name, prepared: map[string]*sql.Stmt{}, writing: map[string]*sql.Stmt{}, coming: map[string]int{}}
	path, isSQLite := strings.CutPrefix(address, "sqlite:")
	var err error
	switch {
	case isSQLite:
		err = d.openSQLite(path)
	case strings.HasPrefix(address, "postgres://"), strings.HasPrefix(address, "postgresql://"):
		err = d.openPostgres(ctx, address)
	default:
		err = fmt.Errorf("the address of a database begins with sqlite: or postgres:// : %w", yesline.Invalid)
	}
	if err == nil {
		err = d.Migrate(ctx, "db", migrations)
	}
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("opening the %s database: %w", name, d.kind(err))
	}
	d.watches = newWatches(d)
	return d, nil
}

// sqliteOptions: FULL because consent, audit and key deletion must survive a
// power cut; secure_delete because a deleted key must not linger in the file.
const sqliteOptions = "?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)" +
	"&_pragma=synchronous(FULL)&_pragma=secure_delete(ON)&_pragma=temp_store(MEMORY)&_pragma=cell_size_check(ON)&_pragma=wal_autocheckpoint(4000)"

func (d *DB) openSQLite(path string) (err error) {
	if strings.ContainsAny(path, "?#") {
		return fmt.Errorf("a path with ? or #: %w", yesline.Invalid)
	}
	if d.write, err = sql.Open("sqlite", "file:"+path+sqliteOptions); err != nil {
		return err
	}
	d.write.SetMaxOpenConns(1)
	if err = d.write.Ping(); err != nil {
		return err
	}
	if d.read, err = sql.Open("sqlite", "file:"+path+sqliteOptions+"&_pragma=query_only(ON)"); err != nil {
		return err
	}
	d.read.SetMaxOpenConns(8)
	d.read.SetMaxIdleConns(8)
	return nil
}

func (d *DB) openPostgres(ctx context.Context, address string) error {
	d.Postgres = true
	cfg, err := pgxpool.ParseConfig(address)
	if err != nil {
		return fmt.Errorf("its address cannot be read: %w", yesline.Invalid)
	}
	cfg.MaxConns = max(cfg.MaxConns, 16)
	if d.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return errors.New("its address was refused") // the driver's text may hold the password
	}
	d.write = stdlib.OpenDBFromPool(d.pool)
	d.read = d.write
	return d.write.PingContext(ctx)
}

// Close ends watching and closes the connections.
func (d *DB) Close() error {
	if d.watches != nil {
		d.watches.stop()
	}
	var errs []error
	if d.read != nil && d.read != d.write {
		errs = append(errs, d.read.Close())
	}
	if d.write != nil {
		errs = append(errs, d.write.Close())
	}
	if d.pool != nil {
		d.pool.Close()
	}
	return errors.Join(errs...)
}

// Migrate brings a room's tables up to date. Each room keeps its own list of
// versions, so rooms change without asking one another. The files lie in
// "migrations" inside fsys and suit both databases.
func (d *DB) Migrate(ctx context.Context, room string, fsys fs.FS) error {
	sub, err := fs.Sub(fsys, "migrations")
	if err != nil {
		return err
	}
	dialect := goose.DialectSQLite3
	if d.Postgres {
		dialect = goose.DialectPostgres
	}
	p, err := goose.NewProvider(dialect, d.write, sub, goose.WithTableName("versions_"+room),
		goose.WithDisableGlobalRegistry(true), goose.WithSlog(slog.New(slog.DiscardHandler)))
	if err != nil {
		return fmt.Errorf("migrations of %s: %w", room, err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrating %s in the %s database: %w", room, d.Name, d.kind(err))
	}
	return nil
}

// Query reads outside a transaction.
func (d *DB) Query(ctx context.Context, q string, args ...any) (*sql.Rows, error) {
	if s := d.statement(ctx, q); s != nil {
		rows, err := s.QueryContext(ctx, args...)
		return rows, d.kind(err)
	}
	rows, err := d.read.QueryContext(ctx, q, args...)
	return rows, d.kind(err)
}

// preparedMost bounds the statements kept; the house has fewer texts, but
// lists of placeholders make many.
const preparedMost = 512

// statement gives a prepared read: parsing its text costs SQLite more than
// running it. nil where the text is to be sent as it is.
func (d *DB) statement(ctx context.Context, q string) *sql.Stmt {
	if d.Postgres {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.prepared[q]
	if s == nil && len(d.prepared) < preparedMost {
		var err error
		if s, err = d.read.PrepareContext(ctx, q); err != nil {
			return nil // the plain way will say what is wrong
		}
		d.prepared[q] = s
	}
	return s
}

// prepare prepares what the writer ran before, so that SQLite parses it once.
// The one writing connection is the transaction's while it runs, so this is
// done after its end.
func (d *DB) prepare(ctx context.Context) {
	for _, q := range d.due() {
		s, err := d.write.PrepareContext(ctx, q)
		if err != nil {
			return // the plain way will say what is wrong
		}
		d.mu.Lock()
		if old := d.writing[q]; old != nil {
			old.Close()
		}
		d.writing[q] = s
		d.mu.Unlock()
	}
}

// due takes the texts that were run twice and are not prepared.
func (d *DB) due() (texts []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for q, times := range d.coming {
		if times > 1 && len(d.writing)+len(texts) < preparedMost {
			texts = append(texts, q)
			delete(d.coming, q)
		}
	}
	return texts
}

// statement gives the writer's prepared statement for a text, or nil.
func (tx *Tx) statement(ctx context.Context, q string) *sql.Stmt {
	if tx.sqlTx == nil {
		return nil
	}
	d := tx.DB
	d.mu.Lock()
	s := d.writing[q]
	if s == nil && len(d.coming) < preparedMost && len(d.writing) < preparedMost {
		d.coming[q]++
	}
	d.mu.Unlock()
	if s == nil {
		return nil
	}
	return tx.sqlTx.StmtContext(ctx, s)
}

// QueryRow reads one row outside a transaction; Scan gives sql.ErrNoRows when
// there is none.
func (d *DB) QueryRow(ctx context.Context, q string, args ...any) *sql.Row {
	if s := d.statement(ctx, q); s != nil {
		return s.QueryRowContext(ctx, args...)
	}
	return d.read.QueryRowContext(ctx, q, args...)
}

// Tx is a transaction: begun by the acting room, passed only to audit,
// program, notify, jobs and watches.
type Tx struct {
	DB        *DB
	q         querier
	sqlTx     *sql.Tx // SQLite
	pgTx      pgx.Tx  // PostgreSQL
	committed []func()
}

type querier interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
	QueryRowContext(context.Context, string, ...any) *sql.Row
}

func (tx *Tx) Exec(ctx context.Context, q string, args ...any) (changed int64, err error) {
	var res sql.Result
	if s := tx.statement(ctx, q); s != nil {
		res, err = s.ExecContext(ctx, args...)
	} else {
		res, err = tx.q.ExecContext(ctx, q, args...)
	}
	if err != nil {
		return 0, tx.DB.kind(err)
	}
	return res.RowsAffected()
}

func (tx *Tx) Query(ctx context.Context, q string, args ...any) (*sql.Rows, error) {
	if s := tx.statement(ctx, q); s != nil {
		rows, err := s.QueryContext(ctx, args...)
		return rows, tx.DB.kind(err)
	}
	rows, err := tx.q.QueryContext(ctx, q, args...)
	return rows, tx.DB.kind(err)
}

func (tx *Tx) QueryRow(ctx context.Context, q string, args ...any) *sql.Row {
	if s := tx.statement(ctx, q); s != nil {
		return s.QueryRowContext(ctx, args...)
	}
	return tx.q.QueryRowContext(ctx, q, args...)
}

// OnCommit runs f after a successful commit, outside the transaction.
func (tx *Tx) OnCommit(f func()) { tx.committed = append(tx.committed, f) }

type inside struct{}

// Inside reports whether ctx belongs to the body of a Transact. What must be
// durable by itself (audit.Append) refuses to run there.
func Inside(ctx context.Context) bool { return ctx.Value(inside{}) != nil }

const tries = 8

// Transact runs body in a serializable transaction and commits it. On a
// conflict the body runs again (at most 8 times), so it has no side effects
// except through OnCommit, Touch and Enqueue. Transactions do not nest.
func (d *DB) Transact(ctx context.Context, body func(ctx context.Context, tx *Tx) error) error {
	return d.transact(ctx, pgx.Serializable, body)
}

// TransactReadCommitted is for the one reader that must see what others commit
// meanwhile and takes its own locks: audit's sequencer.
func (d *DB) TransactReadCommitted(ctx context.Context, body func(ctx context.Context, tx *Tx) error) error {
	return d.transact(ctx, pgx.ReadCommitted, body)
}

func (d *DB) transact(ctx context.Context, level pgx.TxIsoLevel, body func(context.Context, *Tx) error) error {
	if Inside(ctx) {
		return errors.New("a transaction inside a transaction")
	}
	in := context.WithValue(ctx, inside{}, true)
	for try := 1; ; try++ {
		tx := &Tx{DB: d}
		err := d.once(in, level, tx, body)
		if !d.Postgres {
			d.prepare(ctx)
		}
		if err == nil {
			for _, f := range tx.committed {
				f()
			}
			return nil
		}
		if try == tries || !retryable(err) {
			return d.kind(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(rand.Int64N(int64(try) * int64(5*time.Millisecond)))):
		}
	}
}

func (d *DB) once(ctx context.Context, level pgx.TxIsoLevel, tx *Tx, body func(context.Context, *Tx) error) error {
	if !d.Postgres {
		t, err := d.write.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer t.Rollback()
		tx.q, tx.sqlTx = t, t
		if err := body(ctx, tx); err != nil {
			return err
		}
		return t.Commit()
	}
	// The pgx transaction is begun below database/sql on the same connection,
	// because River inserts through pgx and the rooms through database/sql.
	conn, err := d.write.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var t pgx.Tx
	if err := conn.Raw(func(dc any) (err error) {
		t, err = dc.(*stdlib.Conn).Conn().BeginTx(ctx, pgx.TxOptions{IsoLevel: level})
		return err
	}); err != nil {
		return err
	}
	defer t.Rollback(context.WithoutCancel(ctx))
	tx.q, tx.pgTx = conn, t
	if err := body(ctx, tx); err != nil {
		return err
	}
	return t.Commit(ctx)
}

// retryable are PostgreSQL's conflicts between transactions. SQLite has one
// writer and has waited for its lock already.
func retryable(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01" || pg.Code == "23505")
}

// kind adds the house's kind to an error of a driver.
func (d *DB) kind(err error) error {
	if lite := (*sqlite.Error)(nil); errors.As(err, &lite) {
		if code := lite.Code(); code == 1555 || code == 2067 { // CONSTRAINT_PRIMARYKEY, CONSTRAINT_UNIQUE
			return fmt.Errorf("%s database: %w: %w", d.Name, yesline.Conflict, err)
		}
		switch lite.Code() & 0xff {
		case 5, 6: // BUSY, LOCKED
			return fmt.Errorf("%s database is locked: %w: %w", d.Name, yesline.Unavailable, err)
		case 13: // FULL
			return fmt.Errorf("%s database: %w: %w", d.Name, yesline.Full, err)
		case 10: // IOERR
			return fmt.Errorf("%s database: %w: %w", d.Name, yesline.Unavailable, err)
		}
	}
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
		switch pg.Code {
		case "53100":
			return fmt.Errorf("%s database: %w: %w", d.Name, yesline.Full, err)
		case "23505", "40001", "40P01":
			return fmt.Errorf("%s database: %w: %w", d.Name, yesline.Conflict, err)
		}
	}
	if lost := (*pgconn.ConnectError)(nil); errors.As(err, &lost) {
		return fmt.Errorf("%s database: %w: %w", d.Name, yesline.Unavailable, err)
	}
	return err
}

// MaxIn is the longest placeholder list that In makes.
const MaxIn = 500

// In gives "$first, $first+1, ..." for n values, at most 500.
func In(first, n int) string {
	if n < 1 || n > MaxIn {
		panic(fmt.Sprintf("db.In of %d values; it takes 1 to %d", n, MaxIn))
	}
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "$%d", first+i)
	}
	return b.String()
}

// Millis is how the house stores a moment.
func Millis(t time.Time) int64 { return t.UnixMilli() }

// Time is the moment that Millis stored.
func Time(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
