// Package yesline is the shared words of the house: random ids that cannot be
// mistaken for one another, the kinds of error, and secrets that do not print.
// It has no behaviour and imports nothing of ours.
package yesline

import (
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Ids are random (160 bits), carry the kind of thing in their prefix, and mean
// nothing to anybody outside the house. Different kinds are different types.
type (
	ProgramID string // prg_: the tenant
	PersonID  string // per_: a person, in one program
	DeviceID  string // dev_: a SIP phone that belongs to a person
	SessionID string // ses_: somebody signed in
	CallID    string // cal_
	LegID     string // leg_: one party's side of a call
	TrackID   string // trk_: one voice of one call
	EntryID   string // ent_: a leaf of the audit log
	ReceiptID string // rcp_
	StaffID   string // stf_: somebody who works for the house or for a program
	PasskeyID string // pky_: a passkey of an account
	KeyID     string // key_: an API key of an account
	ClaimID   string // clm_: somebody says that a number is theirs
	CaseID    string // cas_: staff ask to open what is not theirs
)

var spelling = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func random(prefix string) string {
	var b [20]byte
	rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	return prefix + "_" + spelling.EncodeToString(b[:])
}

func NewProgramID() ProgramID { return ProgramID(random("prg")) }
func NewPersonID() PersonID   { return PersonID(random("per")) }
func NewDeviceID() DeviceID   { return DeviceID(random("dev")) }
func NewSessionID() SessionID { return SessionID(random("ses")) }
func NewCallID() CallID       { return CallID(random("cal")) }
func NewLegID() LegID         { return LegID(random("leg")) }
func NewTrackID() TrackID     { return TrackID(random("trk")) }
func NewEntryID() EntryID     { return EntryID(random("ent")) }
func NewReceiptID() ReceiptID { return ReceiptID(random("rcp")) }
func NewStaffID() StaffID     { return StaffID(random("stf")) }
func NewPasskeyID() PasskeyID { return PasskeyID(random("pky")) }
func NewKeyID() KeyID         { return KeyID(random("key")) }
func NewClaimID() ClaimID     { return ClaimID(random("clm")) }
func NewCaseID() CaseID       { return CaseID(random("cas")) }

// IsID reports whether s has the form of an id of the kind that prefix names
// ("trk"). It says nothing of whether the thing exists.
func IsID(prefix, s string) bool {
	rest, ok := strings.CutPrefix(s, prefix+"_")
	if !ok || len(rest) != 32 {
		return false
	}
	for _, c := range rest {
		if !(c >= 'a' && c <= 'z' || c >= '2' && c <= '7') {
			return false
		}
	}
	return true
}

// The kinds of error. A room wraps one of these; web turns the kind into an
// answer and keeps the details for the log.
var (
	NotFound    = errors.New("not found")      // absent, or withheld: nobody outside can tell which
	Denied      = errors.New("not permitted")  // the gate, a grant or a permit says no
	Invalid     = errors.New("invalid")        // the input cannot be what was meant
	Conflict    = errors.New("conflict")       // it was true a moment ago
	TooMany     = errors.New("too many")       // a limit is reached; later may work
	Unavailable = errors.New("not available")  // a part of the house does not answer
	Full        = errors.New("no space left")  // the disk is full
	Tampered    = errors.New("does not match") // bytes are not what we sealed or logged
	Stale       = errors.New("prove it again") // the asker must show once more that it is them, by their passkey
)

// Phone is a telephone number in E.164. It formats as [phone] whichever verb
// asks and refuses to marshal. The digits sit behind a pointer, because %v of
// a struct with an unexported Phone field would bypass Format.
type Phone struct{ e164 *string }

// NewPhone takes a number in E.164 ("+" and 7 to 15 digits). The error does
// not repeat the input.
func NewPhone(e164 string) (Phone, error) {
	if len(e164) < 8 || len(e164) > 16 || e164[0] != '+' || e164[1] == '0' {
		return Phone{}, fmt.Errorf("a phone number is + and 7 to 15 digits: %w", Invalid)
	}
	for _, c := range e164[1:] {
		if c < '0' || c > '9' {
			return Phone{}, fmt.Errorf("a phone number is + and 7 to 15 digits: %w", Invalid)
		}
	}
	return Phone{&e164}, nil
}

// Digits gives the number in E.164, or "". Who may call it is one variable in
// arch_test.go: people, to seal it, and the doors of capture, to dial it.
func (p Phone) Digits() string {
	if p.e164 == nil {
		return ""
	}
	return *p.e164
}

func (Phone) Format(s fmt.State, _ rune) { io.WriteString(s, "[phone]") }
func (Phone) LogValue() slog.Value       { return slog.StringValue("[phone]") }
func (Phone) MarshalText() ([]byte, error) {
	return nil, errors.New("a phone number does not leave as text")
}

// Secret is a password, token or key that does not print or marshal.
type Secret struct{ b *[]byte }

// NewSecret keeps b; the caller must not change it afterwards.
func NewSecret(b []byte) Secret { return Secret{&b} }

// Bytes gives what is inside, or nil.
func (s Secret) Bytes() []byte {
	if s.b == nil {
		return nil
	}
	return *s.b
}

func (Secret) Format(s fmt.State, _ rune) { io.WriteString(s, "[secret]") }
func (Secret) LogValue() slog.Value       { return slog.StringValue("[secret]") }
func (Secret) MarshalText() ([]byte, error) {
	return nil, errors.New("a secret does not leave as text")
}
