package session

import (
	"context"
	"errors"
	"fmt"

	"yesline"
	"yesline/internal/db"
)

// Invitation is a new person's way in: a sign-in link's token and a SIP phone.
// Both secrets are shown once.
type Invitation struct {
	Token    string
	Username string
	Password yesline.Secret
}

// Invite gives a link and a phone to a person who never had a link, a session
// or a device, and tells them in the log who asked. For anybody else it does
// nothing and the error is yesline.Conflict: a second way into an account would
// be its owner's only if its owner had asked for it.
func (s *Sessions) Invite(ctx context.Context, by Principal, program yesline.ProgramID, person yesline.PersonID, md5Too bool) (Invitation, error) {
	if s.Record == nil {
		return Invitation{}, errors.New("an invitation needs a log")
	}
	d, err := s.newDevice(ctx, program, person, md5Too)
	if err != nil {
		return Invitation{}, err
	}
	token, hash := newToken()
	err = s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		known, err := isKnown(ctx, tx, person)
		if err != nil {
			return err
		}
		if known {
			return yesline.Conflict
		}
		if err := d.insert(ctx, tx); err != nil {
			return err
		}
		if err := s.insertLink(ctx, tx, d.principal(), hash); err != nil {
			return err
		}
		_, err = s.Record(ctx, tx, told("invited", by, program, person))
		return err
	})
	if err != nil {
		return Invitation{}, fmt.Errorf("inviting a person: %w", err)
	}
	s.decoy.CompareAndSwap(nil, &d.storedDevice)
	return Invitation{token, d.username, d.password}, nil
}

// isKnown is so for whoever has or had a way in. Old links and sessions go, a
// row of a device stays: an invitation is remembered by its phone.
func isKnown(ctx context.Context, tx *db.Tx, person yesline.PersonID) (known bool, err error) {
	err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM links WHERE person = $1)
		OR EXISTS (SELECT 1 FROM sessions WHERE person = $1)
		OR EXISTS (SELECT 1 FROM devices WHERE person = $1)
		OR EXISTS (SELECT 1 FROM passkeys WHERE account = $1)
		OR EXISTS (SELECT 1 FROM recovery_codes WHERE account = $1)
		OR EXISTS (SELECT 1 FROM api_keys WHERE account = $1)`, string(person)).Scan(&known)
	return known, err
}
