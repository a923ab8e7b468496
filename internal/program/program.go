// Package program is the tenant: one operator's campaign with its own terms
// and its own keys. Every call, person and key belongs to exactly one.
package program

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nyaruka/phonenumbers"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/db"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Terms are what a program permits. The zero value permits the least.
type Terms struct {
	ID       yesline.ProgramID
	Name     string // shown to people
	OneSided bool   // one voice may be recorded after the other's no, where both places permit it
	Country  string // ISO 3166 code that a number without a + belongs to: "US"

	// Ask is when people are asked: AskBefore they hear each other, or AskDuring
	// their talk, which is not recorded until somebody wants it to be.
	Ask string

	// International is where calls may go besides Country: ISO 3166 codes, sorted.
	International []string
}

const (
	AskBefore = "before" // what "" means
	AskDuring = "during"
)

// Programs is the room of programs.
type Programs struct {
	db  *db.DB
	log *audit.Log
	// Mint makes the program's keys; app takes it from the keys room.
	mint func(context.Context, yesline.ProgramID) error
}

// Open migrates the room's table in the content database.
func Open(ctx context.Context, content *db.DB, log *audit.Log, mint func(context.Context, yesline.ProgramID) error) (*Programs, error) {
	return &Programs{content, log, mint}, content.Migrate(ctx, "program", migrations)
}

const (
	nameMost    = 80
	regionsMost = 100
)

var countryForm = regexp.MustCompile(`^[A-Z]{2}$`)

// Add makes a program: keys first, then the row.
func (p *Programs) Add(ctx context.Context, t Terms) (yesline.ProgramID, error) {
	t.Name = strings.TrimSpace(t.Name)
	t.Country = strings.ToUpper(t.Country)
	if t.Name == "" || utf8.RuneCountInString(t.Name) > nameMost || !countryForm.MatchString(t.Country) {
		return "", fmt.Errorf("a program has a name of 1 to %d letters and a country of two: %w", nameMost, yesline.Invalid)
	}
	var err error
	if t.Ask, err = asks(t.Ask); err != nil {
		return "", err
	}
	if t.International, err = regions(t.International); err != nil {
		return "", err
	}
	t.ID = yesline.NewProgramID()
	if err := p.mint(ctx, t.ID); err != nil {
		return "", err
	}
	err = p.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO programs (id, name, one_sided, country, ask, international, created) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			string(t.ID), t.Name, t.OneSided, t.Country, t.Ask, strings.Join(t.International, " "), db.Millis(time.Now())); err != nil {
			return err
		}
		_, err := p.log.Record(ctx, tx, audit.Entry{Program: t.ID, Actor: "svc:program", Verb: "program.added", Object: string(t.ID), Result: "done"})
		return err
	})
	return t.ID, err
}

func asks(s string) (string, error) {
	switch s {
	case "", AskBefore:
		return AskBefore, nil
	case AskDuring:
		return AskDuring, nil
	}
	return "", fmt.Errorf("a program asks %s or %s: %w", AskBefore, AskDuring, yesline.Invalid)
}

// regions reads where calls may go: each a country that has numbers, once.
func regions(list []string) ([]string, error) {
	if len(list) > regionsMost {
		return nil, fmt.Errorf("calls may go to at most %d more countries: %w", regionsMost, yesline.Invalid)
	}
	known := phonenumbers.GetSupportedRegions()
	var read []string
	for _, s := range list {
		s = strings.ToUpper(strings.TrimSpace(s))
		if !countryForm.MatchString(s) || !known[s] {
			return nil, fmt.Errorf("calls may go to countries of two letters that have telephone numbers: %w", yesline.Invalid)
		}
		if !slices.Contains(read, s) {
			read = append(read, s)
		}
	}
	slices.Sort(read)
	return read, nil
}

const columns = `id, name, one_sided, country, ask, international`

func scan(row interface{ Scan(...any) error }) (t Terms, err error) {
	var international string
	err = row.Scan(&t.ID, &t.Name, &t.OneSided, &t.Country, &t.Ask, &international)
	t.International = strings.Fields(international)
	return t, err
}

// Terms gives a program's terms, or yesline.NotFound.
func (p *Programs) Terms(ctx context.Context, id yesline.ProgramID) (Terms, error) {
	t, err := scan(p.db.QueryRow(ctx, `SELECT `+columns+` FROM programs WHERE id = $1`, string(id)))
	if errors.Is(err, sql.ErrNoRows) {
		return Terms{}, fmt.Errorf("a program: %w", yesline.NotFound)
	}
	return t, err
}

// SetAsk says when a program asks, for calls that begin from then on. Actor is
// who said so, as the log names them.
func (p *Programs) SetAsk(ctx context.Context, id yesline.ProgramID, actor, ask string) error {
	ask, err := asks(ask)
	if err != nil {
		return err
	}
	return p.set(ctx, id, actor, "program.ask", ask, func(t Terms) string { return t.Ask },
		`UPDATE programs SET ask = $1 WHERE id = $2`)
}

// SetInternational says where a program's calls may go besides its own country.
func (p *Programs) SetInternational(ctx context.Context, id yesline.ProgramID, actor string, list []string) error {
	list, err := regions(list)
	if err != nil {
		return err
	}
	return p.set(ctx, id, actor, "program.international", strings.Join(list, " "), func(t Terms) string { return strings.Join(t.International, " ") },
		`UPDATE programs SET international = $1 WHERE id = $2`)
}

// set changes one of the terms, with an entry that says what it was before. What
// is so already is not written.
func (p *Programs) set(ctx context.Context, id yesline.ProgramID, actor, verb, to string, was func(Terms) string, update string) error {
	err := p.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		before, err := scan(tx.QueryRow(ctx, `SELECT `+columns+` FROM programs WHERE id = $1`, string(id)))
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("a program: %w", yesline.NotFound)
		}
		if err != nil || was(before) == to {
			return err
		}
		if _, err := tx.Exec(ctx, update, to, string(id)); err != nil {
			return err
		}
		_, err = p.log.Record(ctx, tx, audit.Entry{Program: id, Actor: actor, Verb: verb, Object: string(id), Result: "done",
			Detail: map[string]string{"from": was(before), "to": to}})
		return err
	})
	if err != nil {
		return fmt.Errorf("changing a program: %w", err)
	}
	return nil
}

// First gives the oldest program, or yesline.NotFound in an empty house.
func (p *Programs) First(ctx context.Context) (yesline.ProgramID, error) {
	var id yesline.ProgramID
	err := p.db.QueryRow(ctx, `SELECT id FROM programs ORDER BY created, id LIMIT 1`).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("no program yet: %w", yesline.NotFound)
	}
	return id, err
}

// All lists the programs of the house, oldest first: at most 500.
func (p *Programs) All(ctx context.Context) ([]Terms, error) {
	rows, err := p.db.Query(ctx, `SELECT `+columns+` FROM programs ORDER BY created, id LIMIT 500`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Terms
	for rows.Next() {
		t, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, rows.Err()
}
