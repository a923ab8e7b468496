// Package capture carries a call from ring to end and keeps, as a track of its
// own, each voice whose person said yes, from the moment the rule allows it.
//
// A refusal, a fault or a full disk ends the recording and never the call: no
// more bytes, and the call's row says why in words. How sound reaches us is a
// door's affair (capture/sip); a door hands packets and keys to a Leg and gives
// it a Line to speak on.
package capture

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/consent"
	"yesline/internal/db"
	"yesline/internal/people"
	"yesline/internal/program"
	"yesline/internal/session"
	"yesline/internal/vault"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Room knows every call and lets doors begin them.
type Room struct {
	Content  *db.DB
	Log      *audit.Log
	People   *people.People
	Programs *program.Programs
	Voices   minter // keys, which capture may mint at the yes and never open
	Consent  *consent.Consent
	Sealer   *vault.Sealer
	Report   *slog.Logger                                                                  // what went wrong, with ids and never a number; nil is silent
	First    func(do func() error) error                                                   // does what a full disk must not keep from being written: a no, a stop; nil: just does it
	Shred    func(ctx context.Context, call yesline.CallID, person yesline.PersonID) error // sets off the destruction of a withdrawn voice; idempotent. nil: consent's own job is all
	Sounds   fs.FS                                                                         // prompts in other words or another language: "ask.ul" and so on; nil: ours
}

type minter interface {
	MintVoice(ctx context.Context, program yesline.ProgramID, person yesline.PersonID) error
}

// Migrate brings the room's tables in the content database up to date.
func Migrate(ctx context.Context, content *db.DB) error {
	return content.Migrate(ctx, "capture", migrations)
}

func (r *Room) report() *slog.Logger {
	if r.Report == nil {
		return slog.New(slog.DiscardHandler)
	}
	return r.Report
}

// patience bounds each thing that a call asks of the rest of the house.
const patience = 5 * time.Second

// Begin opens a call from a device's person to a number. It fails only where
// the call itself cannot be: a number that is the caller's own (Invalid) or
// too many new numbers (TooMany). If the house cannot write it down, the call
// goes on, unrecorded and unwritten. End must be called.
func (r *Room) Begin(ctx context.Context, from session.Device, to yesline.Phone) (*Live, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c := &Live{ID: yesline.NewCallID(), room: r, program: from.Program, began: time.Now(), changed: make(chan struct{}, 1), certain: make(chan struct{})}
	close(c.certain)
	c.Caller = newLeg(c, Caller, from.Person, from.ID)
	c.Callee = newLeg(c, Callee, "", "")
	callee, err := r.People.Meet(ctx, from.Program, to)
	switch {
	case errors.Is(err, yesline.TooMany), errors.Is(err, yesline.Invalid):
		return nil, fmt.Errorf("meeting the callee: %w", err)
	case err == nil && callee == from.Person:
		return nil, fmt.Errorf("a call to oneself: %w", yesline.Invalid)
	case err == nil:
		c.Callee.Person = callee
		err = r.open(ctx, c)
	}
	if err != nil {
		r.report().Error("a call goes on unrecorded", "call", c.ID, "error", err)
		c.unable = "nothing is recorded: the call could not be written down"
	}
	c.start()
	return c, nil
}

// open writes the call down and tells consent of its parties.
func (r *Room) open(ctx context.Context, c *Live) error {
	if err := r.insert(ctx, c); err != nil {
		return err
	}
	c.written = true
	parties := make([]consent.Party, 0, 2)
	for _, l := range c.legs() {
		place, err := r.People.Place(ctx, l.Person)
		if err != nil {
			place = "" // unknown: the strictest rule
		}
		parties = append(parties, consent.Party{Person: l.Person, Place: place})
	}
	return r.Consent.Open(ctx, c.ID, c.program, parties)
}

// Number reads what a program's caller dialled: digits behind an optional plus
// and nothing else; without the plus it belongs to the program's country.
// yesline.Invalid otherwise; the error does not repeat it.
func (r *Room) Number(ctx context.Context, id yesline.ProgramID, dialled string) (yesline.Phone, error) {
	digits := strings.TrimPrefix(dialled, "+")
	if digits == "" || len(digits) > 18 || strings.Trim(digits, "0123456789") != "" {
		return yesline.Phone{}, fmt.Errorf("a dialled number is digits behind an optional plus: %w", yesline.Invalid)
	}
	terms, err := r.Programs.Terms(ctx, id)
	if err != nil && !strings.HasPrefix(dialled, "+") {
		return yesline.Phone{}, fmt.Errorf("reading a national number: %w", err)
	}
	return people.Parse(dialled, terms.Country)
}
