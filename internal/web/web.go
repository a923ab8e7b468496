// Package web is the only way in by HTTP: every door stands in one table,
// together with the rule that opens it.
package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"sync/atomic"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audio"
	"yesline/internal/audit"
	"yesline/internal/consent"
	"yesline/internal/playback"
	"yesline/internal/session"
)

// House is what the doors need of the rooms behind them. The app fills every
// func; New refuses a house in which one is missing.
type House struct {
	Log    *slog.Logger // nil: nothing is logged
	Secure bool         // people reach us by TLS, ours or a proxy's: cookies are Secure, HSTS is sent
	LogKey string       // the log's public key, as `yesline receipt verify --key` takes it

	// Who asks, and whether they may.
	RedeemAny func(ctx context.Context, token string, from session.Client) (session.Redeemed, error)
	Who       func(ctx context.Context, cookie string) (session.Principal, error)
	End       func(ctx context.Context, who session.Principal) error
	Ask       func(ctx context.Context, who session.Principal, v access.Verb, o access.Object, detail map[string]string) (access.Permit, error)
	AskSet    func(ctx context.Context, who session.Principal, v access.Verb, objects []access.Object, detail map[string]string) (access.Permit, error)

	// Calls, newest first. The cursor is opaque; "" asks for the first page
	// and answers that there are no more.
	Calls     func(ctx context.Context, person yesline.PersonID, cursor string, limit int) ([]Call, string, error)
	Call      func(ctx context.Context, call yesline.CallID) (Call, error)
	Masks     func(ctx context.Context, people []yesline.PersonID) (map[yesline.PersonID]string, error)
	Standings func(ctx context.Context, calls []yesline.CallID) (map[yesline.CallID]map[yesline.PersonID]consent.Standing, error)
	Tracks    func(ctx context.Context, call yesline.CallID) ([]Track, error)

	// Choices. Set and Withdraw act for permit.Who().Person().
	Set      func(ctx context.Context, permit access.Permit, call yesline.CallID, p consent.Purpose, ev consent.Evidence) error
	Withdraw func(ctx context.Context, permit access.Permit, call yesline.CallID, p consent.Purpose, ev consent.Evidence) error

	// Sound. Shape is a track's file by the house's own books, yesline.NotFound
	// when there is no such track; it is used to word the question to the gate,
	// and no answer is made of it without a Permit. Original is the sound as it
	// came, in parts, of a voice that is kept in Opus.
	Shape    func(ctx context.Context, track yesline.TrackID) (playback.Shape, error)
	Part     func(ctx context.Context, permit access.Permit, track yesline.TrackID, shape playback.Shape, from, to int64) ([]byte, error)
	Original func(ctx context.Context, permit access.Permit, track yesline.TrackID, from, count int64) (part []byte, more bool, err error)
	Done     func(part []byte) // takes back what Part and Original gave and was written
	Peaks    func(ctx context.Context, permit access.Permit, track yesline.TrackID) (audio.Peaks, error)

	// What the log says about a person's own voice in these objects, newest
	// first, and the receipts that a person holds for a call.
	About    func(ctx context.Context, person yesline.PersonID, objects []string, before int64, limit int) ([]audit.Line, error)
	Receipts func(ctx context.Context, call yesline.CallID, person yesline.PersonID) ([]yesline.ReceiptID, error)
	Receipt  func(ctx context.Context, permit access.Permit, receipt yesline.ReceiptID) (Receipt, error)

	// A person's own number.
	Reveal func(ctx context.Context, permit access.Permit, person yesline.PersonID) (yesline.Phone, error)

	Lasting Lasting

	// The operator's page. Refused is why calls were not placed, newest first.
	Live       func(ctx context.Context) (int, error)
	Refused    func(ctx context.Context) ([]Refused, error)
	Checkpoint func(ctx context.Context) (Checkpoint, error)
	Programs   func(ctx context.Context) ([]Program, error)
	Verify     func(ctx context.Context) (audit.Report, error)
	Number     func(ctx context.Context, program yesline.ProgramID, written string) (yesline.Phone, error) // a number as people write it
	// Invite makes a link for whoever has the number; NoCodes where it would lead
	// nowhere.
	Invite func(ctx context.Context, permit access.Permit, program yesline.ProgramID, phone yesline.Phone) (Invitation, error)

	// What is published of the log: the signed checkpoint, "" before the first,
	// and tiles of hashes; yesline.NotFound beyond what is signed.
	LogCheckpoint func(ctx context.Context) (string, error)
	LogTile       func(ctx context.Context, path string) ([]byte, error)

	Accounts
	Joining
	Work
	Tickets Tickets
	Dialer  Dialer `may:"be missing"` // a house without one has no page to call from

	// Outbox is what a demo would have sent, newest first. Only a demo has it.
	Outbox func() []Message `may:"be missing"`

	Try *Tryout // of a demo only: whoever comes may call somebody

	API API // what programs ask
}

// Call is what a list and a page need to know of a call.
type Call struct {
	ID      yesline.CallID
	Parties []yesline.PersonID
	Began   time.Time
	Seconds int64
	Live    bool
	Strict  bool // one no means no bytes of anyone
	Later   bool // nobody is asked before somebody wants to record
}

// Track is one voice that is kept, or was.
type Track struct {
	ID      yesline.TrackID
	Person  yesline.PersonID
	Seconds int64
	Closed  bool // finished: its length is in the log, and it can be heard
	Gone    bool // its key is destroyed
	Opus    bool // it is kept as a browser sent it

	Measured bool  // how much of it is speech was counted
	Speech   int64 // seconds, where it was
}

// Receipt is a statement of the log that a person keeps.
type Receipt struct {
	Statement audit.Entry
	Call      yesline.CallID // "" when it is about no call
	JSON      []byte         // what `yesline receipt verify` reads
}

// Checkpoint is the newest signed state of the log.
type Checkpoint struct {
	Entries int64
	Note    string // as signed
	At      time.Time
}

// Program is a tenant that an operator may invite to.
type Program struct {
	ID   yesline.ProgramID
	Name string
}

// Invitation is a link's token, shown once.
type Invitation struct {
	Token string
	Mask  string
}

// Counts are requests that never reached the gate, and reports of browsers.
type Counts struct {
	NoSession, Malformed, CrossOrigin, Reports, Failures int64
}

// Site answers requests.
type Site struct {
	house   House
	pages   pages
	assets  assets
	table   []row
	handler http.Handler
	waits   waits
	missing []byte // the one page for what is absent and what is withheld

	noSession, malformed, crossOrigin, reports, failures atomic.Int64
}

// New checks the table and the house, and prepares the pages.
func New(h House) (*Site, error) {
	if err := complete(reflect.ValueOf(h)); err != nil {
		return nil, err
	}
	if h.Log == nil {
		h.Log = slog.New(slog.DiscardHandler)
	}
	s := &Site{house: h}
	var err error
	if s.assets, err = loadAssets(); err != nil {
		return nil, fmt.Errorf("loading the assets: %w", err)
	}
	if s.pages, err = loadPages(s.assets.prefix); err != nil {
		return nil, fmt.Errorf("reading the pages: %w", err)
	}
	if s.missing, err = s.pages.render(frame{View: problemView{Status: http.StatusNotFound}}); err != nil {
		return nil, err
	}
	s.table = s.rows()
	if err := check(s.table); err != nil {
		return nil, err
	}
	s.handler = s.build()
	return s, nil
}

// complete finds the func that the app forgot.
func complete(v reflect.Value) error {
	for i := range v.NumField() {
		f, field := v.Field(i), v.Type().Field(i)
		if f.Kind() == reflect.Func && f.IsNil() && field.Tag.Get("may") != "be missing" {
			return fmt.Errorf("the house of web has no %s", field.Name)
		}
		if f.Type() == reflect.TypeFor[Dialer]() && f.FieldByName("Dial").IsNil() {
			continue
		}
		if f.Kind() == reflect.Struct {
			if err := complete(f); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Counts since the start.
func (s *Site) Counts() Counts {
	return Counts{s.noSession.Load(), s.malformed.Load(), s.crossOrigin.Load(), s.reports.Load(), s.failures.Load()}
}

// The limits of one request. A slow client is cut off, not waited for.
const (
	headerTime   = 5 * time.Second
	readTime     = 15 * time.Second
	answerTime   = 30 * time.Second // a page, or one window of sound
	idleTime     = 60 * time.Second
	headerBytes  = 16 << 10
	requestBytes = 64 << 10
)

// Server is an http.Server with the limits of this house. Whoever serves and
// shuts it down is the app.
func (s *Site) Server() *http.Server {
	return &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       readTime,
		WriteTimeout:      answerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    headerBytes,
		ErrorLog:          slog.NewLogLogger(s.house.Log.Handler(), slog.LevelDebug),
	}
}

// refuse turns a kind of error into an answer. What went wrong stays in the
// log; the page says only what to do.
func (s *Site) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusInternalServerError
	var large *http.MaxBytesError
	switch {
	case errors.Is(err, yesline.NotFound), errors.Is(err, yesline.Denied):
		s.absent(w)
		return
	case errors.As(err, &large):
		status = http.StatusRequestEntityTooLarge
	case errors.Is(err, yesline.Invalid):
		status = http.StatusBadRequest
	case errors.Is(err, yesline.Conflict):
		status = http.StatusConflict
	case errors.Is(err, yesline.TooMany):
		status = http.StatusTooManyRequests
	case errors.Is(err, yesline.Unavailable), errors.Is(err, yesline.Full), errors.Is(err, context.DeadlineExceeded):
		status = http.StatusServiceUnavailable
	}
	if status >= 500 {
		s.failures.Add(1)
		s.house.Log.ErrorContext(r.Context(), "a request failed", "door", r.Pattern, "status", status, "error", err)
	}
	s.page(w, status, problemView{Status: status}, session.Nobody)
}

// absent is the answer for what is not there and for what is withheld, byte
// for byte the same.
func (s *Site) absent(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(http.StatusNotFound)
	w.Write(s.missing)
}
