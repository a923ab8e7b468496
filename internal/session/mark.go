package session

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

	"yesline"
)

// mark is the MAC of a row that lets somebody in, or "" in a house without
// Sealing.MAC. The first part names the table, so that no row is another's.
//
// A mark says that we made a row, and not that it is the newest: whoever can
// write the database can put back a row that they saw before it ended, mark and
// all. For staff that is not enough, because their row in staff, whose end is
// under its mark, is looked at too; who put that one back as well would be in.
// For a person nothing but the log tells: it has the end, and the reads after.
func (s *Sessions) mark(ctx context.Context, program string, parts ...string) (string, error) {
	if s.sealing.MAC == nil {
		return "", nil
	}
	mac, err := s.sealing.MAC(ctx, yesline.ProgramID(program), joined(parts))
	if err != nil {
		return "", fmt.Errorf("marking a row: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(mac), nil
}

// checkMark says whether a row is one that we made. One that is not is both
// yesline.Tampered and, to those outside, yesline.NotFound; so is one whose
// program's keys are destroyed.
func (s *Sessions) checkMark(ctx context.Context, mac, program string, parts ...string) error {
	want, err := s.mark(ctx, program, parts...)
	if errors.Is(err, yesline.NotFound) {
		return err
	}
	if err != nil {
		return err
	}
	if want != "" && !hmac.Equal([]byte(want), []byte(mac)) {
		return fmt.Errorf("the mark of a row: %w: %w", yesline.Tampered, yesline.NotFound)
	}
	return nil
}

// codeMark is what is kept of a code that somebody must repeat. It has too few
// digits for a hash without a key.
func (s *Sessions) codeMark(ctx context.Context, program, claim, code string) (string, error) {
	if s.sealing.MAC != nil {
		return s.mark(ctx, program, "code", program, claim, code)
	}
	m := hmac.New(sha256.New, s.codes)
	m.Write(joined([]string{"code", program, claim, code}))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil)), nil
}

// joined puts parts behind one another, each with its length, so that no two
// lists give the same bytes.
func joined(parts []string) (all []byte) {
	for _, p := range parts {
		all = binary.BigEndian.AppendUint32(all, uint32(len(p)))
		all = append(all, p...)
	}
	return all
}
