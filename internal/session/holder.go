package session

import (
	"context"
	"fmt"

	"yesline"
	"yesline/internal/db"
)

// Holder is whose a thing of an account is.
type Holder struct {
	Account string
	Program yesline.ProgramID
}

// Holders tells whose the passkeys, sessions, keys or phones ("passkey",
// "session", "key", "device") with these ids are: at most 500. What is absent
// is left out.
func (s *Sessions) Holders(ctx context.Context, kind string, ids []string) (map[string]Holder, error) {
	of, known := map[string]string{
		"passkey": `SELECT id, account, program FROM passkeys`,
		"session": `SELECT id, account, program FROM sessions`,
		"key":     `SELECT id, account, program FROM api_keys`,
		"device":  `SELECT id, person, program FROM devices`,
	}[kind]
	if !known || len(ids) > db.MaxIn {
		return nil, fmt.Errorf("the holders of %d things: %w", len(ids), yesline.Invalid)
	}
	found := make(map[string]Holder, len(ids))
	if len(ids) == 0 {
		return found, nil
	}
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	rows, err := s.content.Query(ctx, of+` WHERE id IN (`+db.In(1, len(ids))+`)`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var h Holder
		if err := rows.Scan(&id, &h.Account, &h.Program); err != nil {
			return nil, err
		}
		found[id] = h
	}
	return found, rows.Err()
}
