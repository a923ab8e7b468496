package tolls_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"yesline"
	"yesline/internal/capture/tolls"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
)

const (
	american = yesline.ProgramID("prg_america")
	british  = yesline.ProgramID("prg_britain")
	narrow   = yesline.ProgramID("prg_narrow") // American, and its terms list Canada alone
	ann      = yesline.PersonID("per_ann")
	bob      = yesline.PersonID("per_bob")

	cent   = int64(10_000)
	dollar = 100 * cent
)

// world is a house whose tolls can be opened again.
type world struct {
	t      *testing.T
	parts  tolls.Parts
	rules  tolls.Rules
	report *journal
	*tolls.Tolls
}

// journal keeps what was reported.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// generous rules stand in nobody's way.
func generous() tolls.Rules {
	many := tolls.Limit{Account: 1_000_000, Trunk: 1_000_000}
	return tolls.Rules{International: []string{"CA", "GB"}, PerMinute: map[string]int64{"": cent, "GB": 2 * cent},
		DayMicros: 10_000 * dollar, AccountDayMicros: 10_000 * dollar, TrunkDayMicros: 10_000 * dollar,
		Calls: many, PerMinuteCalls: many, MaxLength: 10 * time.Minute}
}

func programs(_ context.Context, id yesline.ProgramID) (string, []string, error) {
	switch id {
	case american:
		return "US", nil, nil
	case british:
		return "GB", nil, nil
	case narrow:
		return "US", []string{"CA", "JM"}, nil
	}
	return "", nil, yesline.NotFound
}

func enter(t *testing.T, content *db.DB, rules tolls.Rules) *world {
	t.Helper()
	w := &world{t: t, report: &journal{}, rules: rules}
	w.parts = tolls.Parts{Content: content, Program: programs, Report: slog.New(slog.NewTextHandler(w.report, nil))}
	w.open()
	t.Cleanup(func() { w.Close() })
	return w
}

func (w *world) open() {
	w.t.Helper()
	var err error
	if w.Tolls, err = tolls.Open(context.Background(), w.parts, w.rules); err != nil {
		w.t.Fatal(err)
	}
}

// restarts ends the house as a crash does not, and opens it again. What still
// lasts is not told of its end.
func (w *world) restarts() {
	w.t.Helper()
	w.Close()
	w.open()
}

func each(t *testing.T, story func(t *testing.T, content func() *db.DB)) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		story(t, func() *db.DB { return open("content") })
	})
}

func phone(t testing.TB, e164 string) yesline.Phone {
	t.Helper()
	p, err := yesline.NewPhone(e164)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var domestic = "+12025550142"

func by(person yesline.PersonID) tolls.Who {
	return tolls.Who{Program: american, Person: person, Trunk: "trunk"}
}

func (w *world) places(who tolls.Who) *tolls.Call {
	w.t.Helper()
	c, err := w.Place(w.t.Context(), who, phone(w.t, domestic))
	if err != nil {
		w.t.Fatalf("placing a call: %v", err)
	}
	return c
}

func (w *world) refuses(who tolls.Who, word string) {
	w.t.Helper()
	c, err := w.Place(w.t.Context(), who, phone(w.t, domestic))
	if got := wordOf(err); got != word {
		w.t.Errorf("got %q (%v), want %q", got, err, word)
	}
	if c != nil {
		w.t.Error("a call came with it")
	}
}

// wordOf is why a call was refused, or "".
func wordOf(err error) string {
	if r := (*tolls.Refusal)(nil); errors.As(err, &r) {
		return r.Word
	}
	return ""
}

func (w *world) spent(who tolls.Who) tolls.Spent {
	w.t.Helper()
	s, err := w.Spent(w.t.Context(), who)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// owes checks what stands on all three purses of somebody who alone calls.
func (w *world) owes(who tolls.Who, micros int64) {
	w.t.Helper()
	s := w.spent(who)
	if s.Program.Micros != micros || s.Account.Micros != micros || s.Trunk.Micros != micros {
		w.t.Errorf("got %d, %d and %d, want %d", s.Program.Micros, s.Account.Micros, s.Trunk.Micros, micros)
	}
}

func (w *world) exec(q string, args ...any) {
	w.t.Helper()
	if err := w.parts.Content.Transact(w.t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, q, args...)
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) rows(table string) (n int) {
	w.t.Helper()
	if err := w.parts.Content.QueryRow(w.t.Context(), `SELECT COUNT(*) FROM `+table).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// passes lets days pass, as far as the books know: negative, the clock is set
// back. It needs a quiet house.
func (w *world) passes(days int) {
	w.t.Helper()
	w.spent(by(ann))
	w.exec(`UPDATE tolls_spent SET day = day - $1`, days)
	w.exec(`UPDATE tolls_calls SET day = day - $1`, days)
}

func noNumber(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(text, domestic) || strings.Contains(text, domestic[1:]) || strings.Contains(text, domestic[5:]) {
			t.Errorf("it holds a number: %s", text)
		}
	}
}
