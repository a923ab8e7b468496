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
	"strings"
	"time"
	"unicode/utf8"

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
}

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

const nameMost = 80

var countryForm = regexp.MustCompile(`^[A-Z]{2}$`)

// Add makes a program: keys first, then the row.
func (p *Programs) Add(ctx context.Context, t Terms) (yesline.ProgramID, error) {
	t.Name = strings.TrimSpace(t.Name)
	t.Country = strings.ToUpper(t.Country)
	if t.Name == "" || utf8.RuneCountInString(t.Name) > nameMost || !countryForm.MatchString(t.Country) {
		return "", fmt.Errorf("a program has a name of 1 to %d letters and a country of two: %w", nameMost, yesline.Invalid)
	}
	t.ID = yesline.NewProgramID()
	if err := p.mint(ctx, t.ID); err != nil {
		return "", err
	}
	err := p.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO programs (id, name, one_sided, country, created) VALUES ($1, $2, $3, $4, $5)`,
			string(t.ID), t.Name, t.OneSided, t.Country, db.Millis(time.Now())); err != nil {
			return err
		}
		_, err := p.log.Record(ctx, tx, audit.Entry{Program: t.ID, Actor: "svc:program", Verb: "program.added", Object: string(t.ID), Result: "done"})
		return err
	})
	return t.ID, err
}

// Terms gives a program's terms, or yesline.NotFound.
func (p *Programs) Terms(ctx context.Context, id yesline.ProgramID) (Terms, error) {
	t := Terms{ID: id}
	err := p.db.QueryRow(ctx, `SELECT name, one_sided, country FROM programs WHERE id = $1`, string(id)).Scan(&t.Name, &t.OneSided, &t.Country)
	if errors.Is(err, sql.ErrNoRows) {
		return Terms{}, fmt.Errorf("a program: %w", yesline.NotFound)
	}
	return t, err
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
	rows, err := p.db.Query(ctx, `SELECT id, name, one_sided, country FROM programs ORDER BY created, id LIMIT 500`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Terms
	for rows.Next() {
		var t Terms
		if err := rows.Scan(&t.ID, &t.Name, &t.OneSided, &t.Country); err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, rows.Err()
}
