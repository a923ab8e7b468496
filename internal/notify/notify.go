// Package notify sends short texts to numbers that others only claim: at once
// written to an outbox, sent from there within a budget, and gone when sent or
// 15 minutes old. It stores no number.
package notify

import (
	"context"
	"embed"
	"errors"
	"fmt"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/db"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Message is a text on its way. Neither number nor text prints.
type Message struct {
	ID   string // the same whenever the message is tried again: a provider sends it once
	To   yesline.Phone
	Mask string // of the number, for a screen
	Text yesline.Secret
}

// TextMost is the longest text in bytes.
const TextMost = 480

// Check says whether a driver can take the message; yesline.Invalid if not.
func (m Message) Check() error {
	if m.To == (yesline.Phone{}) || m.ID == "" {
		return fmt.Errorf("a message without number or id: %w", yesline.Invalid)
	}
	if n := len(m.Text.Bytes()); n == 0 || n > TextMost {
		return fmt.Errorf("a message of %d bytes, where 1 to %d can be: %w", n, TextMost, yesline.Invalid)
	}
	return nil
}

// Sender sends one message. It is safe for concurrent use, ends with ctx, and
// its errors repeat neither number nor text. nil says that the message was
// taken; an error that is Refused, that it never will be; one that is Unsure,
// that it may have been. After any other it surely was not.
type Sender interface {
	Send(ctx context.Context, m Message) error
}

var (
	Refused = errors.New("refused for good")
	Unsure  = errors.New("perhaps sent")
)

// Parts are what app hands to the outbox.
type Parts struct {
	Content *db.DB
	Jobs    *db.Jobs
	Record  func(ctx context.Context, tx *db.Tx, e audit.Entry) (audit.Ref, error)

	// Seal and Open are keys' SealFor and OpenFor for the purpose "session":
	// the text holds a code.
	Seal, Open func(ctx context.Context, program yesline.ProgramID, context, data []byte) ([]byte, error)

	// To and Mark are people's: the number of a claim, and what is equal for
	// one number of a program.
	To   func(ctx context.Context, claim yesline.ClaimID) (program yesline.ProgramID, number yesline.Phone, mask string, err error)
	Mark func(ctx context.Context, claim yesline.ClaimID) ([]byte, error)

	// Sender is nil in a house that can send nothing.
	Sender Sender

	// PerDay is how many messages a program may send on a day (UTC). 0: none.
	PerDay int

	// Host is where codes are typed ("yesline.example"): a browser there may
	// fill them in by itself. "" for no such line.
	Host string
}

// Outbox is the room.
type Outbox struct {
	Parts
	slots chan struct{}
}

// SendJob is the name of the job that sends one message; app gives it to Send.
const SendJob = "send"

// New migrates the room's tables in the content database.
func New(ctx context.Context, p Parts) (*Outbox, error) {
	if p.Content == nil || p.Jobs == nil || p.Record == nil || p.Seal == nil || p.Open == nil || p.To == nil || p.Mark == nil {
		return nil, errors.New("an outbox needs a database, jobs, a log, keys and numbers")
	}
	return &Outbox{Parts: p, slots: make(chan struct{}, slotsMost)}, p.Content.Migrate(ctx, "notify", migrations)
}
