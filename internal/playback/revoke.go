package playback

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audit"
	"yesline/internal/db"
)

// Revocation says which tickets to recall: exactly one of All, Object, Session,
// Key and Since is set. Only chains that began before the recall are meant:
// whoever may still listen gets a new ticket by asking again. In JSON all but
// one member is left out.
type Revocation struct {
	All     bool              `json:"all,omitempty"`
	Object  string            `json:"object,omitempty"`  // a track or a call
	Session yesline.SessionID `json:"session,omitempty"` // all that it holds
	Key     yesline.KeyID     `json:"key,omitempty"`     // all that it holds
	Since   time.Time         `json:"since,omitzero"`    // RFC 3339; all chains that began then or later

	// Program is whose tickets. It comes from the permit, not from outside.
	Program yesline.ProgramID `json:"-"`
}

// Contained is the answer to a recall or a rotation.
type Contained struct {
	Entry yesline.EntryID `json:"entry"` // where the log tells of it
}

// Revoke recalls tickets: in this process at once, on every node within a
// second. The permit is to contain the house, or one program: then no ticket
// of another is touched. What is named need not exist, so that the answer
// tells nothing of it.
func (t *Tickets) Revoke(ctx context.Context, permit access.Permit, what Revocation) (Contained, error) {
	program, err := contains(permit, what.Program)
	if err != nil {
		return Contained{}, err
	}
	what.Program = program
	return t.revoke(ctx, permit.Who().String(), what)
}

// contains gives the program that the permit is for, or "" for the house.
func contains(permit access.Permit, program yesline.ProgramID) (yesline.ProgramID, error) {
	if _, err := permit.Allows(access.Contain, "house", access.HouseID); err == nil {
		return program, nil
	}
	items, err := permit.Items(access.Contain, "program")
	if err != nil {
		return "", err
	}
	if len(items) != 1 || program != "" && string(program) != items[0].ID {
		return "", fmt.Errorf("tickets of a program that the permit does not cover: %w", yesline.Denied)
	}
	return yesline.ProgramID(items[0].ID), nil
}

// line is one row of the recalls.
type line struct{ track, holder string }

func (t *Tickets) revoke(ctx context.Context, by string, what Revocation) (Contained, error) {
	lines, told, err := t.spell(ctx, what)
	if err != nil {
		return Contained{}, err
	}
	told.Program, told.Actor, told.Verb, told.Result = what.Program, by, "tickets.revoked", "done"
	since := int64(0)
	if !what.Since.IsZero() {
		since = what.Since.UnixMilli()
	}
	var ref audit.Ref
	err = t.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		now := time.Now().UnixMilli()
		if err := prune(ctx, tx, now); err != nil {
			return err
		}
		var epoch, live int64
		if _, err := tx.Exec(ctx, `UPDATE ticket_epoch SET epoch = epoch + 1 WHERE one = 1`); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `SELECT epoch FROM ticket_epoch WHERE one = 1`).Scan(&epoch); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM ticket_revocations WHERE program = $1`, string(what.Program)).Scan(&live); err != nil {
			return err
		}
		rows, from := lines, since
		delete(told.Detail, "folded") // of an earlier try
		if live+int64(len(lines)) > maxRecalls {
			// The list is bounded, and a recall always works: from here on one
			// line ends every ticket of the program, which is too many and
			// never too few.
			if _, err := tx.Exec(ctx, `DELETE FROM ticket_revocations WHERE program = $1`, string(what.Program)); err != nil {
				return err
			}
			rows, from = []line{{}}, 0
			told.Detail["folded"] = "yes"
		}
		for _, l := range rows {
			if _, err := tx.Exec(ctx, `INSERT INTO ticket_revocations (epoch, program, track, holder, since, created)
				VALUES ($1, $2, $3, $4, $5, $6)`, epoch, string(what.Program), l.track, l.holder, from, now); err != nil {
				return err
			}
		}
		if ref, err = t.house.Record(ctx, tx, told); err != nil {
			return err
		}
		return tx.Touch(ctx, watched)
	})
	if err != nil {
		return Contained{}, fmt.Errorf("recalling tickets: %w", err)
	}
	return Contained{ref.Leaf}, nil
}

// spell reads what is to be recalled, and words it for the log.
func (t *Tickets) spell(ctx context.Context, what Revocation) ([]line, audit.Entry, error) {
	given := 0
	for _, is := range []bool{what.All, what.Object != "", what.Session != "", what.Key != "", !what.Since.IsZero()} {
		if is {
			given++
		}
	}
	wrong := fmt.Errorf("which tickets to recall: all, an object, a session, a key or a time, and one of them: %w", yesline.Invalid)
	if given != 1 || what.Program != "" && !yesline.IsID("prg", string(what.Program)) {
		return nil, audit.Entry{}, wrong
	}
	e := audit.Entry{Detail: map[string]string{}}
	switch {
	case what.All:
		e.Detail["what"] = "all"
		return []line{{}}, e, nil
	case !what.Since.IsZero():
		e.Detail["what"], e.Detail["since"] = "since", strconv.FormatInt(what.Since.UnixMilli(), 10)
		if what.Since.UnixMilli() < 1 {
			return nil, e, wrong
		}
		return []line{{}}, e, nil
	case yesline.IsID("trk", what.Object):
		e.Object, e.Detail["what"] = what.Object, "track"
		return []line{{track: what.Object}}, e, nil
	case yesline.IsID("cal", what.Object):
		e.Object, e.Detail["what"] = what.Object, "call"
		lines, err := t.ofCall(ctx, yesline.CallID(what.Object))
		return lines, e, err
	case yesline.IsID("ses", string(what.Session)):
		e.Object, e.Detail["what"] = string(what.Session), "session"
		return []line{{holder: e.Object}}, e, nil
	case yesline.IsID("key", string(what.Key)):
		e.Object, e.Detail["what"] = string(what.Key), "key"
		return []line{{holder: e.Object}}, e, nil
	}
	return nil, e, wrong
}

func (t *Tickets) ofCall(ctx context.Context, call yesline.CallID) ([]line, error) {
	tracks, err := t.house.Tracks(ctx, call)
	if err != nil {
		return nil, fmt.Errorf("looking for the voices of a call: %w", err)
	}
	var lines []line
	for _, track := range tracks {
		lines = append(lines, line{track: string(track.ID)})
	}
	return lines, nil
}

// prune takes away what no living ticket can be meant by, or signed with.
func prune(ctx context.Context, tx *db.Tx, now int64) error {
	if _, err := tx.Exec(ctx, `DELETE FROM ticket_revocations WHERE created < $1`, now-longestLife.Milliseconds()); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `DELETE FROM ticket_keys WHERE until > 0 AND until <= $1`, now)
	return err
}

// Rotate gives a program a new key for its tickets. Those that the old one
// signed are accepted until they end, which is two minutes: playing goes on.
// To end them now, Revoke.
func (t *Tickets) Rotate(ctx context.Context, permit access.Permit, program yesline.ProgramID) (Contained, error) {
	program, err := contains(permit, program)
	if err != nil {
		return Contained{}, err
	}
	return t.rotate(ctx, permit.Who().String(), program)
}

func (t *Tickets) rotate(ctx context.Context, by string, program yesline.ProgramID) (Contained, error) {
	if !yesline.IsID("prg", string(program)) {
		return Contained{}, fmt.Errorf("rotating the tickets' key of no program: %w", yesline.Invalid)
	}
	made, err := t.newKey(ctx, program)
	if err != nil {
		return Contained{}, fmt.Errorf("minting a key for tickets: %w", err)
	}
	var ref audit.Ref
	err = t.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		now := time.Now()
		if err := prune(ctx, tx, now.UnixMilli()); err != nil {
			return err
		}
		var live int
		if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM ticket_keys WHERE program = $1`, string(program)).Scan(&live); err != nil {
			return err
		}
		if live >= maxKeys {
			return fmt.Errorf("a program has %d keys for tickets already; the old ones go within minutes: %w", live, yesline.TooMany)
		}
		// A node signs with the old key until it hears of the new one.
		until := now.Add(TicketTime + skew).UnixMilli()
		if _, err := tx.Exec(ctx, `UPDATE ticket_keys SET until = $1 WHERE program = $2 AND until = 0`, until, string(program)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO ticket_keys (id, program, sealed, created, until) VALUES ($1, $2, $3, $4, 0)`,
			made.id.String(), string(program), made.sealed, now.UnixMilli()); err != nil {
			return err
		}
		if ref, err = t.house.Record(ctx, tx, audit.Entry{Program: program, Actor: by, Verb: "tickets.rotated", Object: string(program), Result: "done"}); err != nil {
			return err
		}
		return tx.Touch(ctx, watched)
	})
	if err != nil {
		return Contained{}, fmt.Errorf("rotating the key of tickets: %w", err)
	}
	return Contained{ref.Leaf}, nil
}
