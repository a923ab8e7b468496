package vault

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/db"
	"yesline/internal/keys"
	"yesline/internal/session"
)

var shredder = session.Service("shred")

// Shredder destroys voices: their keys first, so that nothing of ours opens
// them from then on, then all their objects. It opens nothing.
type Shredder struct {
	Content *db.DB
	Blobs   Blobs
	Keys    destroyer
	Log     logbook
}

// Shred destroys every track of a person in a call, with all that was derived
// from it. When it returns without error, all is done and logged, and the
// Register names the entry that a receipt proves. It may be repeated, in part
// or whole.
func (s *Shredder) Shred(ctx context.Context, call yesline.CallID, person yesline.PersonID) error {
	if call == "" || person == "" {
		return fmt.Errorf("shredding a person's voice of a call without both ids: %w", yesline.Invalid)
	}
	rows, err := scanRows(s.Content.Query(ctx, `SELECT `+rowColumns+` FROM vault_tracks WHERE call = $1 AND person = $2 ORDER BY id`, string(call), string(person)))
	if err != nil {
		return fmt.Errorf("shredding a voice of %s: %w", call, err)
	}
	destroyed := make([]audit.Ref, len(rows))
	var errs []error
	for i, r := range rows { // all keys before any object
		if destroyed[i], err = s.Keys.DestroyTrack(ctx, r.Program, r.Person, r.ID); err != nil {
			errs = append(errs, fmt.Errorf("destroying the key of %s: %w", r.ID, err))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	for i, r := range rows {
		if err := s.remove(ctx, r, destroyed[i]); err != nil {
			errs = append(errs, fmt.Errorf("shredding %s: %w", r.ID, err))
		}
	}
	return errors.Join(errs...)
}

// Sweep destroys the key and what there is of the object of a track that has no
// row: a crash came between the two. One that has a row is left alone. It is
// for the start of a house, before anything is sealed.
func (s *Shredder) Sweep(ctx context.Context, k keys.TrackKey) error {
	if _, err := readRow(ctx, s.Content, k.Track); !errors.Is(err, yesline.NotFound) {
		return err
	}
	if _, err := s.Keys.DestroyTrack(ctx, k.Program, k.Person, k.Track); err != nil {
		return fmt.Errorf("sweeping the key of %s: %w", k.Track, err)
	}
	return s.Blobs.Delete(ctx, voiceBlob(k.Track))
}

// remove deletes a track's objects and commits its end. Objects that appear
// between the two make it fail, and the job comes again.
func (s *Shredder) remove(ctx context.Context, r *row, key audit.Ref) error {
	derived, err := derivedFrom(s.Content.Query(ctx, derivedObjects, string(r.ID)))
	if err != nil {
		return err
	}
	deleted := append([]string{voiceBlob(r.ID), leavesBlob(r.ID)}, slices.Sorted(maps.Keys(derived))...)
	for _, name := range deleted {
		if err := s.Blobs.Delete(ctx, name); err != nil {
			return err
		}
	}
	return s.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		now, err := readRowIn(ctx, tx, r.ID)
		if err != nil || now.State == Destroyed {
			return err
		}
		there, err := derivedFrom(tx.Query(ctx, derivedObjects, string(r.ID)))
		if err != nil {
			return err
		}
		if !maps.Equal(derived, there) || now.Closing != r.Closing {
			return fmt.Errorf("it was finished, or something derived from it, meanwhile: %w", yesline.Conflict)
		}
		ref, err := s.Log.Record(ctx, tx, audit.Entry{Program: r.Program, Actor: shredder.String(), Verb: "track.destroyed", Object: string(r.ID), Result: "done",
			Detail:   map[string]string{"call": string(r.Call), "objects": strconv.Itoa(len(deleted)), "key": string(key.Leaf)},
			Subjects: []yesline.PersonID{r.Person}})
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM vault_renditions WHERE track = $1`, string(r.ID)); err != nil {
			return err
		}
		millis := db.Millis(time.Now())
		_, err = tx.Exec(ctx, `UPDATE vault_tracks SET state = 'destroyed', gone_db = $1, gone_leaf = $2, root = NULL, closed = CASE WHEN closed = 0 THEN $3 ELSE closed END WHERE id = $4`,
			ref.DB, string(ref.Leaf), millis, string(r.ID))
		if err != nil {
			return err
		}
		return tx.Touch(ctx, watch(r.ID))
	})
}

const derivedObjects = `SELECT object, state FROM vault_renditions WHERE track = $1`

func derivedFrom(rows *sql.Rows, err error) (map[string]string, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	objects := map[string]string{}
	for rows.Next() {
		var object, state string
		if err := rows.Scan(&object, &state); err != nil {
			return nil, err
		}
		objects[object] = state
	}
	return objects, rows.Err()
}
