package db

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"

	"database/sql"
)

// Jobs are things that happen once: inserted in the acting transaction, ids
// only, worked off by whichever node is free. A handler re-reads the state, so
// order and repetition do not matter. Jobs live in the content database.
type Jobs struct {
	db       *DB
	handlers map[string]func(ctx context.Context, id string) error
	insert   func(ctx context.Context, tx *Tx, args work) error
	begin    func(ctx context.Context) error
	halt     func(ctx context.Context) error
}

// work is what River stores: which handler, and the id it is about.
type work struct {
	Handler string `json:"handler"`
	ID      string `json:"id"`
}

func (work) Kind() string { return "yesline" }

type worker struct {
	river.WorkerDefaults[work]
	jobs *Jobs
}

func (w *worker) Work(ctx context.Context, job *river.Job[work]) error {
	handle := w.jobs.handlers[job.Args.Handler]
	if handle == nil {
		return fmt.Errorf("no room handles the job %q", job.Args.Handler)
	}
	return handle(ctx, job.Args.ID)
}

// A failed job is tried again soon, then ever later: 1, 4, 9... seconds, at
// most ten minutes apart, for days.
func (w *worker) NextRetry(job *river.Job[work]) time.Time {
	n := time.Duration(len(job.Errors) + 1)
	return time.Now().Add(min(n*n*time.Second, 10*time.Minute))
}

func (w *worker) Timeout(*river.Job[work]) time.Duration { return 10 * time.Minute }

// NewJobs prepares the jobs of the content database. Handlers are set by
// Handle before Start.
func NewJobs(ctx context.Context, content *DB, log *slog.Logger) (*Jobs, error) {
	j := &Jobs{db: content, handlers: map[string]func(context.Context, string) error{}}
	workers := river.NewWorkers()
	river.AddWorker(workers, &worker{jobs: j})
	cfg := &river.Config{
		Workers:           workers,
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 4}},
		Logger:            log,
		FetchCooldown:     20 * time.Millisecond,
		FetchPollInterval: 250 * time.Millisecond,
		PollOnly:          !content.Postgres, // on SQLite it would be told by asking every 50 ms
		MaxAttempts:       1000,
	}
	var err error
	if content.Postgres {
		err = j.usePostgres(ctx, cfg)
	} else {
		err = j.useSQLite(ctx, cfg)
	}
	if err != nil {
		return nil, fmt.Errorf("preparing jobs: %w", err)
	}
	return j, nil
}

func (j *Jobs) useSQLite(ctx context.Context, cfg *river.Config) error {
	driver := riversqlite.New(j.db.write)
	m, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: cfg.Logger})
	if err != nil {
		return err
	}
	if _, err := m.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	client, err := river.NewClient[*sql.Tx](driver, cfg)
	if err != nil {
		return err
	}
	j.insert = func(ctx context.Context, tx *Tx, args work) error {
		_, err := client.InsertTx(ctx, tx.sqlTx, args, nil)
		return err
	}
	j.begin, j.halt = client.Start, client.Stop
	return nil
}

func (j *Jobs) usePostgres(ctx context.Context, cfg *river.Config) error {
	driver := riverpgxv5.New(j.db.pool)
	m, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: cfg.Logger})
	if err != nil {
		return err
	}
	if _, err := m.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	client, err := river.NewClient[pgx.Tx](driver, cfg)
	if err != nil {
		return err
	}
	j.insert = func(ctx context.Context, tx *Tx, args work) error {
		_, err := client.InsertTx(ctx, tx.pgTx, args, nil)
		return err
	}
	j.begin, j.halt = client.Start, client.Stop
	return nil
}

// Handle names who works off jobs of this name. Two handlers of one name, or a
// name nobody handles at Start, are mistakes of the builder.
func (j *Jobs) Handle(name string, f func(ctx context.Context, id string) error) {
	if j.handlers[name] != nil {
		panic("two handlers for the job " + name)
	}
	j.handlers[name] = f
}

// Enqueue adds a job to the transaction: it will run if and only if the
// transaction commits.
func (j *Jobs) Enqueue(ctx context.Context, tx *Tx, name, id string) error {
	if j.handlers[name] == nil {
		return fmt.Errorf("no room handles the job %q", name)
	}
	if tx.DB != j.db {
		return errors.New("jobs are enqueued in the content database only")
	}
	if err := j.insert(ctx, tx, work{name, id}); err != nil {
		return fmt.Errorf("enqueueing %s: %w", name, j.db.kind(err))
	}
	return nil
}

// Start works jobs off until Stop or until ctx ends.
func (j *Jobs) Start(ctx context.Context) error { return j.begin(ctx) }

// Stop lets running jobs finish until ctx ends.
func (j *Jobs) Stop(ctx context.Context) error { return j.halt(ctx) }
