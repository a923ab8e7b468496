package vault

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/db"
)

// State is where a track's life stands.
type State string

const (
	Open      State = "open"      // being written, or left so by a crash
	Closed    State = "closed"    // ended as it should
	Recovered State = "recovered" // a crash cut it short; what was sealed is kept
	Full      State = "full"      // the disk was full; what was sealed is kept
	Destroyed State = "destroyed" // its key is gone and its objects are deleted
)

// Recorded is what the vault tells of a track to those who may not hear it.
type Recorded struct {
	Track
	State         State
	Finished      bool      // its length is known and it can be read
	Seconds       int64     // as the table says; who reads it gets the log's word
	Measured      bool      // how much of it is speech was counted; not of a track that is older than counting
	SpeechMillis  int64     // that, as the table says; the log's word is in the entry "rendition.closed" of its waveform
	Closing       audit.Ref // the entry "track.closed", once finished
	Destruction   audit.Ref // the entry "track.destroyed": what a receipt proves
	CreatedMillis int64
	ClosedMillis  int64 // 0 while open
}

// row is a track as it is stored.
type row struct {
	Recorded
	mark
	problem string
	root    []byte
	settled bool // all that follows the closing was set off
}

const rowColumns = `id, program, call, leg, person, codec, state, floor, sealed, seconds, root, problem,
	ref_db, ref_leaf, gone_db, gone_leaf, created, closed, finished, speech`

func scanRow(scan func(...any) error) (*row, error) {
	var r row
	var settled int64
	var speech sql.Null[int64]
	err := scan(&r.ID, &r.Program, &r.Call, &r.Leg, &r.Person, &r.Codec, &r.State, &r.floor, &r.sealed, &r.Seconds, &r.root, &r.problem,
		&r.Closing.DB, &r.Closing.Leaf, &r.Destruction.DB, &r.Destruction.Leaf, &r.CreatedMillis, &r.ClosedMillis, &settled, &speech)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("a track: %w", yesline.NotFound)
	}
	r.Rendition, r.Finished, r.settled = Voice, r.Closing.Leaf != "" && r.State != Destroyed, settled != 0
	r.Measured, r.SpeechMillis = speech.Valid, speech.V
	return &r, err
}

func scanRows(rows *sql.Rows, err error) ([]*row, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []*row
	for rows.Next() {
		r, err := scanRow(rows.Scan)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

func readRow(ctx context.Context, content *db.DB, id yesline.TrackID) (*row, error) {
	return scanRow(content.QueryRow(ctx, `SELECT `+rowColumns+` FROM vault_tracks WHERE id = $1`, string(id)).Scan)
}

func readRowIn(ctx context.Context, tx *db.Tx, id yesline.TrackID) (*row, error) {
	return scanRow(tx.QueryRow(ctx, `SELECT `+rowColumns+` FROM vault_tracks WHERE id = $1`, string(id)).Scan)
}

func insertTrack(ctx context.Context, content *db.DB, t Track) error {
	return content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO vault_tracks (`+rowColumns+`)
			VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, 0, NULL, '', '', '', '', '', $8, 0, 0, NULL)`,
			string(t.ID), string(t.Program), string(t.Call), string(t.Leg), string(t.Person), int64(t.Codec), string(Open), db.Millis(time.Now()))
		return err
	})
}

// endTrack commits the end of an open track with the job that finishes it. A
// track that is not open any more is left as it is.
func endTrack(ctx context.Context, content *db.DB, jobs *db.Jobs, id yesline.TrackID, state State, problem string, m mark) (destroyed bool, err error) {
	err = content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		destroyed = false
		n, err := tx.Exec(ctx, `UPDATE vault_tracks SET state = $1, problem = $2, floor = $3, sealed = $4, closed = $5 WHERE id = $6 AND state = 'open'`,
			string(state), problem, m.floor, m.sealed, db.Millis(time.Now()), string(id))
		if err != nil {
			return err
		}
		if n == 1 {
			return jobs.Enqueue(ctx, tx, "finish", string(id))
		}
		destroyed, err = isDestroyed(ctx, tx, id)
		return err
	})
	return destroyed, err
}

func isDestroyed(ctx context.Context, tx *db.Tx, id yesline.TrackID) (bool, error) {
	var state State
	err := tx.QueryRow(ctx, `SELECT state FROM vault_tracks WHERE id = $1`, string(id)).Scan(&state)
	if errors.Is(err, sql.ErrNoRows) {
		return true, nil
	}
	return state == Destroyed, err
}

// raiseFloors commits the marks in one transaction and tells whose track was
// destroyed meanwhile.
func raiseFloors(ctx context.Context, content *db.DB, marks map[*Writer]mark) (destroyed []*Writer, err error) {
	if len(marks) == 0 {
		return nil, nil
	}
	err = content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		destroyed = nil
		for w, m := range marks {
			n, err := tx.Exec(ctx, `UPDATE vault_tracks SET floor = $1, sealed = $2 WHERE id = $3 AND state = 'open'`, m.floor, m.sealed, string(w.track.ID))
			if err != nil {
				return err
			}
			if n == 1 {
				continue
			}
			gone, err := isDestroyed(ctx, tx, w.track.ID)
			if err != nil {
				return err
			}
			if gone {
				destroyed = append(destroyed, w)
			}
		}
		return nil
	})
	return destroyed, err
}

// Register tells which tracks there are and how they stand. It has no keys and
// opens nothing.
type Register struct {
	content *db.DB
	played  *db.Kept[Recorded]
}

// playedMost is how many tracks that are being listened to are remembered.
const playedMost = 1000

// NewRegister reads the vault's tables in the content database.
func NewRegister(content *db.DB) *Register {
	return &Register{content, db.Keep[Recorded](content, playedMost)}
}

// Close gives back what the Register took to remember.
func (r *Register) Close() { r.played.Close() }

// watch is the subject that moves when a finished track is destroyed.
func watch(track yesline.TrackID) string { return "track/" + string(track) }

// Playing is ByID for one track that somebody listens to: it is remembered for
// a moment, and not beyond its destruction. It answers faster for what was
// asked before, so it is only for those who may know that there is such a
// track. yesline.NotFound for one that is absent.
func (r *Register) Playing(ctx context.Context, track yesline.TrackID) (Recorded, error) {
	unfinished := errors.New("a track that changes yet")
	var found Recorded
	kept, err := r.played.Get(ctx, string(track), watch(track), func(ctx context.Context) (Recorded, error) {
		its, err := readRow(ctx, r.content, track)
		if err != nil {
			return Recorded{}, err
		}
		if found = its.Recorded; !found.Finished {
			return Recorded{}, unfinished // given, and not kept
		}
		return found, nil
	})
	if errors.Is(err, unfinished) {
		return found, nil
	}
	return kept, err
}

// Tracks gives the tracks of a call, oldest first: at most 500.
func (r *Register) Tracks(ctx context.Context, call yesline.CallID) ([]Recorded, error) {
	return recorded(scanRows(r.content.Query(ctx, `SELECT `+rowColumns+` FROM vault_tracks WHERE call = $1 ORDER BY created, id LIMIT 500`, string(call))))
}

// ByID gives those of the tracks that there are, by id; at most 500 ids.
func (r *Register) ByID(ctx context.Context, ids []string) (map[string]Recorded, error) {
	found := make(map[string]Recorded, len(ids))
	if len(ids) == 0 {
		return found, nil
	}
	if len(ids) > db.MaxIn {
		return nil, fmt.Errorf("%d tracks at once, more than %d: %w", len(ids), db.MaxIn, yesline.TooMany)
	}
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	all, err := recorded(scanRows(r.content.Query(ctx, `SELECT `+rowColumns+` FROM vault_tracks WHERE id IN (`+db.In(1, len(args))+`)`, args...)))
	for _, t := range all {
		found[string(t.ID)] = t
	}
	return found, err
}

func recorded(rows []*row, err error) ([]Recorded, error) {
	all := make([]Recorded, len(rows))
	for i, r := range rows {
		all[i] = r.Recorded
	}
	return all, err
}

// Forget takes a person out of the rows of their destroyed tracks.
// yesline.Conflict while one of theirs is not destroyed: shred it first.
func (r *Register) Forget(ctx context.Context, person yesline.PersonID) error {
	return r.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		var kept int64
		if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM vault_tracks WHERE person = $1 AND state <> 'destroyed'`, string(person)).Scan(&kept); err != nil {
			return err
		}
		if kept > 0 {
			return fmt.Errorf("forgetting a person with %d tracks that are not destroyed: %w", kept, yesline.Conflict)
		}
		_, err := tx.Exec(ctx, `UPDATE vault_tracks SET person = '' WHERE person = $1`, string(person))
		return err // nobody remembers a destroyed track
	})
}

// Each gives every track to f, a page at a time, in the order of their ids.
func (r *Register) Each(ctx context.Context, f func(Recorded) error) error {
	after := ""
	for {
		page, err := recorded(scanRows(r.content.Query(ctx, `SELECT `+rowColumns+` FROM vault_tracks WHERE id > $1 ORDER BY id LIMIT 500`, after)))
		if err != nil || len(page) == 0 {
			return err
		}
		for _, t := range page {
			if err := f(t); err != nil {
				return err
			}
			after = string(t.ID)
		}
	}
}
