// Package people is the only room that knows names and numbers. Everyone else
// holds a PersonID; a number is stored sealed, found by a blind index that is
// rate-limited, shown as a mask, and opened with a Permit.
package people

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nyaruka/phonenumbers"
	"yesline"
	"yesline/internal/access"
	"yesline/internal/audit"
	"yesline/internal/db"
	"yesline/internal/keys"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Numbers are few (10^10) and hashes fast: finding is limited per program to
// this many a second and this many at once, whoever asks.
const (
	findRate  = 50
	findBurst = 500
)

// People is the room of names and numbers, in a database of its own.
type People struct {
	db     *db.DB
	log    *audit.Log
	keys   *keys.Keys
	limits limits
	claims limits
	swept  atomic.Int64 // when claims were last swept, unix nanoseconds
}

// Open migrates the people database.
func Open(ctx context.Context, d *db.DB, log *audit.Log, k *keys.Keys) (*People, error) {
	return &People{db: d, log: log, keys: k, limits: newLimits(findRate, findBurst), claims: newLimits(claimRate, claimBurst)},
		d.Migrate(ctx, "people", migrations)
}

// Parse reads a number as a person or a phone writes it. country is the ISO
// code that a number without a + belongs to. The error does not repeat it.
func Parse(s, country string) (yesline.Phone, error) {
	bad := fmt.Errorf("that is not a phone number we can call: %w", yesline.Invalid)
	if len(s) > 40 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return yesline.Phone{}, bad
	}
	n, err := phonenumbers.Parse(s, country)
	if err != nil || phonenumbers.IsPossibleNumberWithReason(n) != phonenumbers.IS_POSSIBLE {
		return yesline.Phone{}, bad // IsPossibleNumber takes a local number without its area code for a whole one
	}
	return yesline.NewPhone(phonenumbers.Format(n, phonenumbers.E164))
}

// Meet finds the person who has this number in a program, or adds them. It is
// the blind index's only door and rate-limited: yesline.TooMany beyond it.
func (p *People) Meet(ctx context.Context, program yesline.ProgramID, number yesline.Phone) (yesline.PersonID, error) {
	if number.Digits() == "" {
		return "", fmt.Errorf("meeting a person without a number: %w", yesline.Invalid)
	}
	if !p.limits.allow(program) {
		return "", fmt.Errorf("looking up numbers: %w", yesline.TooMany)
	}
	blind, err := p.keys.MACFor(ctx, program, keys.Index, []byte(number.Digits()))
	if err != nil {
		return "", err
	}
	id, err := p.find(ctx, program, blind)
	if errors.Is(err, yesline.NotFound) {
		id, err = p.add(ctx, program, number, blind)
	}
	if err != nil {
		return "", err
	}
	// Creation commits people, then keys: after a crash between the two, the
	// next meeting mints what is missing.
	return id, p.keys.AddPerson(ctx, program, id)
}

// Find gives the person who has this number in a program and adds nobody:
// yesline.NotFound. It shares Meet's limit.
func (p *People) Find(ctx context.Context, program yesline.ProgramID, number yesline.Phone) (yesline.PersonID, error) {
	if number.Digits() == "" {
		return "", fmt.Errorf("finding a person without a number: %w", yesline.Invalid)
	}
	if !p.limits.allow(program) {
		return "", fmt.Errorf("looking up numbers: %w", yesline.TooMany)
	}
	blind, err := p.keys.MACFor(ctx, program, keys.Index, []byte(number.Digits()))
	if err != nil {
		return "", err
	}
	return p.find(ctx, program, blind)
}

func (p *People) find(ctx context.Context, program yesline.ProgramID, blind []byte) (yesline.PersonID, error) {
	var id yesline.PersonID
	err := p.db.QueryRow(ctx, `SELECT id FROM people WHERE program = $1 AND blind = $2`, string(program), blind).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("a person: %w", yesline.NotFound)
	}
	return id, err
}

func (p *People) add(ctx context.Context, program yesline.ProgramID, number yesline.Phone, blind []byte) (yesline.PersonID, error) {
	id := yesline.NewPersonID()
	sealed, err := p.keys.SealFor(ctx, program, keys.People, numberContext(id), []byte(number.Digits()))
	if err != nil {
		return "", err
	}
	err = p.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `INSERT INTO people (id, program, blind, number, mask, place, created)
			VALUES ($1, $2, $3, $4, $5, '', $6) ON CONFLICT (program, blind) DO NOTHING`,
			string(id), string(program), blind, sealed, mask(number), db.Millis(time.Now()))
		if err != nil || n == 0 {
			return err // somebody met them a moment earlier
		}
		// The person's audit key does not exist yet: this entry names nobody.
		_, err = p.log.Record(ctx, tx, audit.Entry{Program: program, Actor: "svc:people", Verb: "person.added", Result: "done"})
		return err
	})
	if err != nil {
		return "", fmt.Errorf("adding a person: %w", err)
	}
	return p.find(ctx, program, blind)
}

func numberContext(id yesline.PersonID) []byte { return []byte("number/" + string(id)) }

// mask keeps the country and the last two digits.
func mask(number yesline.Phone) string {
	country := "+"
	if n, err := phonenumbers.Parse(number.Digits(), ""); err == nil {
		country = fmt.Sprintf("+%d", n.GetCountryCode())
	}
	d := number.Digits()
	return country + " ••• ••" + d[len(d)-2:]
}

// Masks gives the masks of at most 500 people; who is not there is left out.
func (p *People) Masks(ctx context.Context, ids []yesline.PersonID) (map[yesline.PersonID]string, error) {
	masks := map[yesline.PersonID]string{}
	if len(ids) == 0 {
		return masks, nil
	}
	if len(ids) > db.MaxIn {
		return nil, fmt.Errorf("the masks of %d people at once: %w", len(ids), yesline.Invalid)
	}
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = string(id)
	}
	rows, err := p.db.Query(ctx, `SELECT id, mask FROM people WHERE id IN (`+db.In(1, len(ids))+`)`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id yesline.PersonID
		var m string
		if err := rows.Scan(&id, &m); err != nil {
			return nil, err
		}
		masks[id] = m
	}
	return masks, rows.Err()
}

// Program tells which program a person belongs to, or yesline.NotFound.
func (p *People) Program(ctx context.Context, id yesline.PersonID) (yesline.ProgramID, error) {
	var program yesline.ProgramID
	err := p.db.QueryRow(ctx, `SELECT program FROM people WHERE id = $1`, string(id)).Scan(&program)
	if errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("a person: %w", yesline.NotFound)
	}
	return program, err
}

// Place is where the person said they are ("US-KS"), or "" when they did not.
func (p *People) Place(ctx context.Context, id yesline.PersonID) (string, error) {
	var place string
	err := p.db.QueryRow(ctx, `SELECT place FROM people WHERE id = $1`, string(id)).Scan(&place)
	if errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("a person: %w", yesline.NotFound)
	}
	return place, err
}

var placeForm = regexp.MustCompile(`^[A-Z]{2}(-[A-Z0-9]{1,3})?$`)

// SetPlace keeps where a person says they are: an ISO 3166 code, or "".
func (p *People) SetPlace(ctx context.Context, id yesline.PersonID, place string) error {
	if place != "" && !placeForm.MatchString(place) {
		return fmt.Errorf("a place is a code such as US-KS: %w", yesline.Invalid)
	}
	return p.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE people SET place = $1 WHERE id = $2`, place, string(id))
		if err == nil && n == 0 {
			err = fmt.Errorf("a person: %w", yesline.NotFound)
		}
		return err
	})
}

// Reveal opens a person's number. The permit is the gate's yes to exactly
// this, and its entry in the log is already durable.
func (p *People) Reveal(ctx context.Context, permit access.Permit, id yesline.PersonID) (yesline.Phone, error) {
	item, err := permit.Allows(access.Reveal, "person", string(id))
	if err != nil {
		return yesline.Phone{}, fmt.Errorf("revealing a number: %w", err)
	}
	return p.open(ctx, item.Program, id)
}

// Own opens the number of the one who asks, so that the house can ring it for
// them: the permit is to dial, as themselves.
func (p *People) Own(ctx context.Context, permit access.Permit) (yesline.Phone, error) {
	id := permit.Who().Person()
	item, err := permit.Allows(access.Dial, "person", string(id))
	if err != nil {
		return yesline.Phone{}, fmt.Errorf("ringing one's own number: %w", err)
	}
	return p.open(ctx, item.Program, id)
}

func (p *People) open(ctx context.Context, program yesline.ProgramID, id yesline.PersonID) (yesline.Phone, error) {
	var sealed []byte
	err := p.db.QueryRow(ctx, `SELECT number FROM people WHERE id = $1 AND program = $2`, string(id), string(program)).Scan(&sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return yesline.Phone{}, fmt.Errorf("a person: %w", yesline.NotFound)
	}
	if err != nil {
		return yesline.Phone{}, err
	}
	plain, err := p.keys.OpenFor(ctx, program, keys.People, numberContext(id), sealed)
	if err != nil {
		return yesline.Phone{}, fmt.Errorf("opening a number: %w", err)
	}
	return yesline.NewPhone(string(plain))
}

// Forget removes a person, and whatever claim stands to their number.
func (p *People) Forget(ctx context.Context, person yesline.PersonID) error {
	return p.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM claims WHERE person = $1 OR blind IN (SELECT blind FROM people WHERE id = $1)`, string(person)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM people WHERE id = $1`, string(person))
		return err
	})
}
