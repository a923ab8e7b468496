package session

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"yesline"
	"yesline/internal/db"
)

// Device is a SIP phone of a person.
type Device struct {
	ID      yesline.DeviceID
	Program yesline.ProgramID
	Person  yesline.PersonID
}

func (d Device) principal() Principal {
	return Principal{kind: Person, name: string(d.Person), program: d.Program}
}

// storedDevice is a Device with its user name and sealed HA1.
type storedDevice struct {
	Device
	username string
	ha1      []byte
}

// bound is what the sealed HA1 opens with: so nobody who can only write the
// table gives a phone to another person or a password to another phone.
func (d storedDevice) bound() []byte {
	return joined([]string{"device", string(d.ID), string(d.Program), string(d.Person), d.username})
}

// ha1 are the hashes of username, realm and password (RFC 7616 section 3.4.2).
// They are as good as the password. For a device that did not opt into MD5,
// md5 is that of nobody.
type ha1 struct {
	sha256 [sha256.Size]byte
	md5    [md5.Size]byte
}

// of gives the hash in hexadecimal, as digests use it.
func (h *ha1) of(a algorithm) string {
	if a == algSHA256 {
		return hex.EncodeToString(h.sha256[:])
	}
	return hex.EncodeToString(h.md5[:])
}

// randomHA1 is one that no password has and nobody can answer.
func randomHA1() (h ha1) {
	rand.Read(h.sha256[:])
	rand.Read(h.md5[:])
	return h
}

// How user names begin: it tells which algorithm the device is challenged with.
const (
	shaPrefix = "u"
	md5Prefix = "m"
)

var letters = base32.StdEncoding.WithPadding(base32.NoPadding)

func randomWord(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b)
	return strings.ToLower(letters.EncodeToString(b))
}

// AddDevice gives a person a SIP phone: a random user name, and a password of
// 128 random bits that is shown once and not kept. MD5 (RFC 2617, broken but
// all that some phones speak) is answered only for a device added with md5. The
// error is yesline.TooMany for the twenty-first.
func (s *Sessions) AddDevice(ctx context.Context, program yesline.ProgramID, person yesline.PersonID, md5Too bool) (Device, string, yesline.Secret, error) {
	d, err := s.newDevice(ctx, program, person, md5Too)
	if err != nil {
		return Device{}, "", yesline.Secret{}, err
	}
	err = s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		var have int
		if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM devices WHERE person = $1`, string(person)).Scan(&have); err != nil {
			return err
		}
		if have >= MaxPhones {
			return yesline.TooMany
		}
		if err := d.insert(ctx, tx); err != nil {
			return err
		}
		return s.tell(ctx, tx, detailed(told("phone-added", d.principal(), program, person), "device", string(d.ID)))
	})
	if err != nil {
		return Device{}, "", yesline.Secret{}, fmt.Errorf("adding a device: %w", err)
	}
	s.decoy.CompareAndSwap(nil, &d.storedDevice)
	return d.Device, d.username, d.password, nil
}

// newDevice is a device with what its phone is told, before it is stored.
type newDevice struct {
	storedDevice
	password yesline.Secret
}

func (s *Sessions) newDevice(ctx context.Context, program yesline.ProgramID, person yesline.PersonID, md5Too bool) (newDevice, error) {
	if program == "" || person == "" {
		return newDevice{}, fmt.Errorf("a device belongs to a person of a program: %w", yesline.Invalid)
	}
	prefix := shaPrefix
	if md5Too {
		prefix = md5Prefix
	}
	username, password := prefix+randomWord(10), randomWord(16)
	a1 := []byte(username + ":" + s.realm + ":" + password)
	sum := sha256.Sum256(a1)
	plain := sum[:]
	if md5Too {
		weak := md5.Sum(a1)
		plain = append(plain, weak[:]...)
	}
	d := newDevice{storedDevice{Device{yesline.NewDeviceID(), program, person}, username, nil}, yesline.NewSecret([]byte(password))}
	sealed, err := s.sealing.Seal(ctx, program, d.bound(), plain)
	if err != nil {
		return newDevice{}, fmt.Errorf("sealing a device's password: %w", err)
	}
	d.ha1 = sealed
	return d, nil
}

func (d newDevice) insert(ctx context.Context, tx *db.Tx) error {
	_, err := tx.Exec(ctx, `INSERT INTO devices (id, program, person, username, ha1, created) VALUES ($1, $2, $3, $4, $5, $6)`,
		string(d.ID), string(d.Program), string(d.Person), d.username, d.ha1, db.Millis(time.Now()))
	return err
}

// EndDevice ends a person's SIP phone: from now on its password is wrong. The
// error is yesline.NotFound if that person has no such device in use.
func (s *Sessions) EndDevice(ctx context.Context, person yesline.PersonID, id yesline.DeviceID) error {
	err := s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		p := Principal{kind: Person, name: string(person)}
		err := tx.QueryRow(ctx, `SELECT program FROM devices WHERE id = $1 AND person = $2`, string(id), string(person)).Scan(&p.program)
		if errors.Is(err, sql.ErrNoRows) {
			err = yesline.NotFound
		}
		if err != nil {
			return err
		}
		if err := endDevices(ctx, tx, string(person), string(id)); err != nil {
			return err
		}
		return s.tell(ctx, tx, detailed(told("phone-ended", p, p.program, person), "device", string(id)))
	})
	if err != nil {
		return fmt.Errorf("ending a device: %w", err)
	}
	return nil
}

// endDevices ends a person's phone, or all with id "": nothing of it stays.
func endDevices(ctx context.Context, tx *db.Tx, person, id string) error {
	_, err := tx.Exec(ctx, `DELETE FROM devices WHERE person = $1 AND (id = $2 OR $2 = '')`, person, id)
	return err
}

// DevicesOf lists the SIP phones of an account, newest first.
func (s *Sessions) DevicesOf(ctx context.Context, account string) ([]Phone, error) {
	rows, err := s.content.Query(ctx, `SELECT id, username, created FROM devices
		WHERE person = $1 ORDER BY created DESC, id LIMIT $2`, account, MaxPhones)
	if err != nil {
		return nil, fmt.Errorf("listing phones: %w", err)
	}
	defer rows.Close()
	all := []Phone{}
	for rows.Next() {
		var p Phone
		if err := rows.Scan(&p.ID, &p.Username, &p.Created); err != nil {
			return nil, fmt.Errorf("listing phones: %w", err)
		}
		all = append(all, p)
	}
	return all, rows.Err()
}

// device finds a device in use by its user name; false when there is none.
func (s *Sessions) device(ctx context.Context, username string) (storedDevice, bool, error) {
	return s.scanDevice(s.content.QueryRow(ctx, `SELECT id, program, person, username, ha1 FROM devices WHERE username = $1`, username))
}

func (s *Sessions) scanDevice(row *sql.Row) (d storedDevice, found bool, err error) {
	err = row.Scan(&d.ID, &d.Program, &d.Person, &d.username, &d.ha1)
	if errors.Is(err, sql.ErrNoRows) {
		return storedDevice{}, false, nil
	}
	return d, err == nil, err
}

// findDecoy picks any device, so that an unknown user costs an opening too.
// While there is no device there is nobody to find out about.
func (s *Sessions) findDecoy(ctx context.Context) error {
	d, found, err := s.scanDevice(s.content.QueryRow(ctx, `SELECT id, program, person, username, ha1 FROM devices ORDER BY id LIMIT 1`))
	if err != nil {
		return fmt.Errorf("reading the devices: %w", err)
	}
	s.decoy.Store(nil)
	if found {
		s.decoy.Store(&d)
	}
	return nil
}

// open unseals a device's HA1. This is the one place that does.
func (s *Sessions) open(ctx context.Context, d storedDevice) (h ha1, err error) {
	plain, err := s.sealing.Open(ctx, d.Program, d.bound(), d.ha1)
	if err != nil {
		return ha1{}, fmt.Errorf("opening a device's password: %w", err)
	}
	h = s.nobody
	switch len(plain) {
	case sha256.Size:
	case sha256.Size + md5.Size:
		h.md5 = [md5.Size]byte(plain[sha256.Size:])
	default:
		return ha1{}, fmt.Errorf("a device's password: %w", yesline.Tampered)
	}
	h.sha256 = [sha256.Size]byte(plain)
	return h, nil
}
