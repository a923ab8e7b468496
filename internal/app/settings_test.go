package app

import (
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"

	"yesline"
	"yesline/internal/program"
	"yesline/internal/session"
)

// The first program is what the configuration says; what is said later changes
// nothing about it.
func TestTheFirstProgram(t *testing.T) {
	t.Parallel()
	cfg := Defaults()
	cfg.Data, cfg.HTTP = filepath.Join(t.TempDir(), "data"), "127.0.0.1:0"
	cfg.Tolls.International = []string{"CA", "GB"}
	cfg.Program = Program{Name: "Talk", Country: "DE", Ask: program.AskDuring, International: []string{"GB"}}
	for range 2 {
		a, err := New(t.Context(), cfg, slog.New(slog.NewTextHandler(io.Discard, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		first, err := a.Programs.First(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := a.Programs.Terms(t.Context(), first)
		if err != nil || got.Name != "Talk" || got.Country != "DE" || got.Ask != program.AskDuring || !slices.Equal(got.International, []string{"GB"}) {
			t.Errorf("the first program is %+v, %v", got, err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		cfg.Program = Program{Name: "Another", Country: "FR"}
	}
}

// The operator's page counts every call that goes on, by whatever door.
func TestHowManyCallsGoOn(t *testing.T) {
	t.Parallel()
	h := newClosed(t)
	counts := func(want int) {
		t.Helper()
		if got, err := h.live(t.Context()); err != nil || got != want {
			t.Errorf("%d calls go on, %v, want %d", got, err, want)
		}
	}
	counts(0)
	number, err := yesline.NewPhone("+12025550102")
	if err != nil {
		t.Fatal(err)
	}
	call, err := h.Capture.Begin(t.Context(), session.Device{Program: h.program, Person: h.meet("+12025550101")}, number)
	if err != nil {
		t.Fatal(err)
	}
	counts(1)
	call.End("it was over")
	counts(0)
}
