package capture

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/db"
)

// Call is one call as it is written down. It holds no number and no name.
type Call struct {
	ID        yesline.CallID
	Program   yesline.ProgramID
	Started   int64 // milliseconds
	Ended     int64 // 0 while it lasts
	State     State
	Recording string // "nobody", "one", "both"
	Reason    string // in words: why it is recorded or not
	Ending    string // in words: how it ended
	Parties   []Party
}

// Party is one side of a call.
type Party struct {
	Call     yesline.CallID
	Leg      yesline.LegID
	Person   yesline.PersonID // "" once forgotten
	Side     Side
	Device   yesline.DeviceID // "" for the callee
	Track    yesline.TrackID  // "" when nothing of this voice was kept
	Answered int64            // milliseconds; 0 if they never picked up
	Ended    int64
	Why      string // in words: why this voice is or is not recorded
}

// insert writes a new call down, with its entry in the log.
func (r *Room) insert(ctx context.Context, c *Live) error {
	return r.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		started := c.began.UnixMilli()
		if _, err := tx.Exec(ctx, `INSERT INTO calls (id, program, started, state, recording, reason) VALUES ($1, $2, $3, $4, $5, $6)`,
			c.ID, c.program, started, Ringing, "nobody", "nobody was asked yet"); err != nil {
			return fmt.Errorf("writing a call down: %w", err)
		}
		for _, l := range c.legs() {
			if _, err := tx.Exec(ctx, `INSERT INTO parties (leg, call, person, side, device, started) VALUES ($1, $2, $3, $4, $5, $6)`,
				l.ID, c.ID, l.Person, l.Side, l.Device, started); err != nil {
				return fmt.Errorf("writing a party down: %w", err)
			}
		}
		_, err := r.Log.Record(ctx, tx, c.entry("call.begun", nil))
		return err
	})
}

// entry is one of the log about the call. A caller who does not say who they are
// is nobody's subject.
func (c *Live) entry(verb string, detail map[string]string) audit.Entry {
	e := audit.Entry{Program: c.program, Actor: string(c.Caller.Person), Verb: verb, Object: string(c.ID), Result: "done", Detail: detail}
	if e.Actor == "" {
		e.Actor = "svc:capture"
	}
	for _, l := range c.legs() {
		if l.Person != "" {
			e.Subjects = append(e.Subjects, l.Person)
		}
	}
	return e
}

func (r *Room) moved(ctx context.Context, c *Live, s State) error {
	return r.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE calls SET state = $1 WHERE id = $2 AND ended = 0`, s, c.ID)
		return err
	})
}

func (r *Room) answered(ctx context.Context, l *Leg, at int64) error {
	return r.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE parties SET answered = $1 WHERE leg = $2 AND person = $3`, at, l.ID, l.Person)
		return err
	})
}

func (r *Room) recorded(ctx context.Context, c *Live) error {
	return r.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error { return c.writeRecording(ctx, tx) })
}

func (c *Live) writeRecording(ctx context.Context, tx *db.Tx) error {
	recording, reason := c.words()
	if _, err := tx.Exec(ctx, `UPDATE calls SET recording = $1, reason = $2 WHERE id = $3`, recording, reason, c.ID); err != nil {
		return err
	}
	for _, l := range c.legs() {
		l.mu.Lock()
		track, why := l.track, l.why
		l.mu.Unlock()
		if _, err := tx.Exec(ctx, `UPDATE parties SET track = $1, why = $2 WHERE leg = $3 AND call = $4`, track, why, l.ID, c.ID); err != nil {
			return err
		}
	}
	return nil
}

func (r *Room) ended(ctx context.Context, c *Live, ending string) error {
	now := c.wall(time.Now())
	return r.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := c.writeRecording(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE calls SET state = $1, ended = $2, ending = $3 WHERE id = $4 AND ended = 0`, Ended, now, ending, c.ID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE parties SET ended = $1 WHERE call = $2`, now, c.ID); err != nil {
			return err
		}
		recording, _ := c.words()
		e := c.entry("call.ended", map[string]string{"recording": recording, "ending": ending})
		e.Actor = "svc:capture" // either may have hung up
		_, err := r.Log.Record(ctx, tx, e)
		return err
	})
}

// told writes something that a party did in the call into the log, for both.
func (r *Room) told(ctx context.Context, c *Live, l *Leg, verb string, at int64) error {
	return r.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		e := c.entry(verb, map[string]string{"at": strconv.FormatInt(at, 10), "leg": string(l.ID)})
		e.Actor = string(l.Person)
		_, err := r.Log.Record(ctx, tx, e)
		return err
	})
}

// Recover closes the rows of calls that a killed server left open. It is for
// the start of a house of one node, before its doors open.
func (r *Room) Recover(ctx context.Context) error {
	now := time.Now().UnixMilli()
	return r.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE parties SET ended = $1 WHERE ended = 0 AND call IN (SELECT id FROM calls WHERE ended = 0)`, now); err != nil {
			return fmt.Errorf("closing parties that were left open: %w", err)
		}
		_, err := tx.Exec(ctx, `UPDATE calls SET state = $1, ended = $2, ending = $3 WHERE ended = 0`, Ended, now, "the server stopped")
		if err != nil {
			return fmt.Errorf("closing calls that were left open: %w", err)
		}
		return nil
	})
}

const columns = `id, program, started, ended, state, recording, reason, ending`

// Calls lists a person's calls, newest first: at most limit (1 to 500) that
// come after the cursor. An empty cursor begins at the newest; next is "" at
// the end.
func (r *Room) Calls(ctx context.Context, person yesline.PersonID, cursor string, limit int) (calls []Call, next string, err error) {
	if person == "" || limit < 1 || limit > db.MaxIn {
		return nil, "", fmt.Errorf("listing calls of nobody, or %d of them: %w", limit, yesline.Invalid)
	}
	before, last, err := readCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	rows, err := r.Content.Query(ctx, `SELECT call, started FROM parties WHERE person = $1 AND (started < $2 OR started = $2 AND call < $3)
		ORDER BY started DESC, call DESC LIMIT $4`, person, before, last, limit)
	if err != nil {
		return nil, "", fmt.Errorf("listing calls: %w", err)
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		if err := rows.Scan(&last, &before); err != nil {
			return nil, "", fmt.Errorf("listing calls: %w", err)
		}
		ids = append(ids, last)
	}
	if err := rows.Err(); err != nil {
		return nil, "", fmt.Errorf("listing calls: %w", err)
	}
	if len(ids) == 0 {
		return nil, "", nil
	}
	if len(ids) == limit {
		next = strconv.FormatInt(before, 10) + "." + last
	}
	found, err := r.ByID(ctx, ids)
	if err != nil {
		return nil, "", err
	}
	for _, id := range ids {
		if c, ok := found[id]; ok {
			calls = append(calls, c)
		}
	}
	return calls, next, nil
}

func readCursor(s string) (before int64, last string, err error) {
	if s == "" {
		return 1 << 62, "", nil
	}
	millis, last, _ := strings.Cut(s, ".")
	before, err = strconv.ParseInt(millis, 10, 64)
	if err != nil || !yesline.IsID("cal", last) {
		return 0, "", fmt.Errorf("a cursor: %w", yesline.Invalid)
	}
	return before, last, nil
}

// Call gives one call with its parties; yesline.NotFound when there is none.
func (r *Room) Call(ctx context.Context, id yesline.CallID) (Call, error) {
	found, err := r.ByID(ctx, []string{string(id)})
	if err != nil {
		return Call{}, err
	}
	c, ok := found[string(id)]
	if !ok {
		return Call{}, fmt.Errorf("the call: %w", yesline.NotFound)
	}
	return c, nil
}

// ByID looks up to 500 calls up with their parties, caller first. Those that
// do not exist are missing in the answer.
func (r *Room) ByID(ctx context.Context, ids []string) (map[string]Call, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	if len(ids) > db.MaxIn {
		return nil, fmt.Errorf("looking up %d calls, more than %d: %w", len(ids), db.MaxIn, yesline.Invalid)
	}
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	found := map[string]Call{}
	err := r.scan(ctx, `SELECT `+columns+` FROM calls WHERE id IN (`+db.In(1, len(ids))+`)`, args, func(rows *sql.Rows) error {
		var c Call
		err := rows.Scan(&c.ID, &c.Program, &c.Started, &c.Ended, &c.State, &c.Recording, &c.Reason, &c.Ending)
		found[string(c.ID)] = c
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking calls up: %w", err)
	}
	err = r.scan(ctx, `SELECT call, leg, person, side, device, track, answered, ended, why FROM parties
		WHERE call IN (`+db.In(1, len(ids))+`) ORDER BY call, side DESC`, args, func(rows *sql.Rows) error {
		var p Party
		err := rows.Scan(&p.Call, &p.Leg, &p.Person, &p.Side, &p.Device, &p.Track, &p.Answered, &p.Ended, &p.Why)
		if c, ok := found[string(p.Call)]; ok {
			c.Parties = append(c.Parties, p)
			found[string(p.Call)] = c
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking parties up: %w", err)
	}
	return found, nil
}

func (r *Room) scan(ctx context.Context, q string, args []any, row func(*sql.Rows) error) error {
	rows, err := r.Content.Query(ctx, q, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Forget takes a person out of the calls they had: the rows stay, for the
// other party, and no longer say with whom. Idempotent.
func (r *Room) Forget(ctx context.Context, person yesline.PersonID) error {
	if r.Tolls != nil {
		if err := r.Tolls.Forget(ctx, person); err != nil {
			return err
		}
	}
	return r.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE parties SET person = '', device = '' WHERE person = $1`, person); err != nil {
			return fmt.Errorf("forgetting a person's calls: %w", err)
		}
		return nil
	})
}
