package program_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"yesline"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
	"yesline/internal/keys"
	"yesline/internal/keys/keystest"
	"yesline/internal/program"
)

func open(t *testing.T) (*keystest.House, *program.Programs) {
	t.Helper()
	h := keystest.Open(t, dbtest.SQLite(t))
	p, err := program.Open(t.Context(), h.Content, h.Log, h.Keys.AddProgram)
	if err != nil {
		t.Fatal(err)
	}
	return h, p
}

// A house begins without a program; the first stays the first.
func TestPrograms(t *testing.T) {
	t.Parallel()
	h, p := open(t)
	ctx := t.Context()
	if _, err := p.First(ctx); !errors.Is(err, yesline.NotFound) {
		t.Errorf("an empty house: got %v, want not found", err)
	}
	if all, err := p.All(ctx); err != nil || len(all) != 0 {
		t.Errorf("an empty house has %d programs, %v", len(all), err)
	}
	first, err := p.Add(ctx, program.Terms{ID: "prg_chosen", Name: "  Everyday talk ", Country: "us"})
	if err != nil {
		t.Fatal(err)
	}
	if !yesline.IsID("prg", string(first)) {
		t.Errorf("the id is %q", first)
	}
	time.Sleep(2 * time.Millisecond) // programs are ordered by their millisecond
	second, err := p.Add(ctx, program.Terms{Name: "Nur ich", Country: "DE", OneSided: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.First(ctx); err != nil || got != first {
		t.Errorf("the first is %s, %v, want %s", got, err, first)
	}
	want := []program.Terms{{ID: first, Name: "Everyday talk", Country: "US", Ask: program.AskBefore},
		{ID: second, Name: "Nur ich", Country: "DE", OneSided: true, Ask: program.AskBefore}}
	all, err := p.All(ctx)
	if err != nil || fmt.Sprint(all) != fmt.Sprint(want) {
		t.Errorf("got %v, %v, want %v", all, err, want)
	}
	for _, w := range want {
		if got, err := p.Terms(ctx, w.ID); err != nil || fmt.Sprint(got) != fmt.Sprint(w) {
			t.Errorf("got %v, %v, want %v", got, err, w)
		}
	}
	if got, err := p.Terms(ctx, yesline.NewProgramID()); !errors.Is(err, yesline.NotFound) || !reflect.ValueOf(got).IsZero() {
		t.Errorf("an unknown program: got %v, %v, want not found", got, err)
	}
	// Its keys are there: fields seal under them, and not under another's.
	sealed, err := h.Keys.SealFor(ctx, first, keys.People, []byte("x"), []byte("word"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Keys.OpenFor(ctx, second, keys.People, []byte("x"), sealed); err == nil {
		t.Error("one program opens what is another's")
	}
	if report, err := h.Log.Verify(ctx); err != nil || len(report.Problems) > 0 || report.Entries < 4 {
		t.Errorf("the log: %v, %v", report, err)
	}
}

func TestTermsThatCannotBe(t *testing.T) {
	t.Parallel()
	_, p := open(t)
	for name, c := range map[string]struct {
		terms program.Terms
		good  bool
	}{
		"no name":            {program.Terms{Country: "US"}, false},
		"a name of spaces":   {program.Terms{Name: " \t ", Country: "US"}, false},
		"81 letters":         {program.Terms{Name: strings.Repeat("ä", 81), Country: "US"}, false},
		"80 letters":         {program.Terms{Name: strings.Repeat("ä", 80), Country: "US"}, true},
		"no country":         {program.Terms{Name: "Talk"}, false},
		"a long country":     {program.Terms{Name: "Talk", Country: "USA"}, false},
		"half a country":     {program.Terms{Name: "Talk", Country: "U"}, false},
		"a country of signs": {program.Terms{Name: "Talk", Country: "1!"}, false},
		"half a letter":      {program.Terms{Name: "Talk", Country: "Ü"}, false},
		"asks afterwards":    {program.Terms{Name: "Talk", Country: "US", Ask: "after"}, false},
		"calls to nowhere":   {program.Terms{Name: "Talk", Country: "US", International: []string{"ZZ"}}, false},
	} {
		_, err := p.Add(t.Context(), c.terms)
		if c.good != (err == nil) || !c.good && !errors.Is(err, yesline.Invalid) {
			t.Errorf("%s: got %v, want good: %v", name, err, c.good)
		}
	}
	if all, err := p.All(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("%d programs were made, %v, want 1", len(all), err)
	}
}

// A program without keys never has a row.
func TestNoProgramWithoutKeys(t *testing.T) {
	t.Parallel()
	h, _ := open(t)
	broken := errors.New("no keys today")
	p, err := program.Open(t.Context(), h.Content, h.Log, func(context.Context, yesline.ProgramID) error { return broken })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Add(t.Context(), program.Terms{Name: "Talk", Country: "US"}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if _, err := p.First(t.Context()); !errors.Is(err, yesline.NotFound) {
		t.Errorf("got %v, want not found", err)
	}
}

// A list is at most 500 long, the oldest first, however many there are.
func TestAllIsBounded(t *testing.T) {
	t.Parallel()
	h, p := open(t)
	err := h.Content.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		for i := range 600 {
			if _, err := tx.Exec(ctx, `INSERT INTO programs (id, name, one_sided, country, created) VALUES ($1, $2, $3, 'US', $4)`,
				string(yesline.NewProgramID()), fmt.Sprint("p", i), false, i+1); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	all, err := p.All(t.Context())
	if err != nil || len(all) != 500 || all[0].Name != "p0" || all[499].Name != "p499" {
		t.Errorf("%d programs, %v, want the 500 oldest", len(all), err)
	}
}

// When a program asks and where its calls may go is read as it was said, once
// each and in order, and each change is in the log with what was before.
func TestWhatIsChosenForAProgram(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		h := keystest.Open(t, open)
		p, err := program.Open(t.Context(), h.Content, h.Log, h.Keys.AddProgram)
		if err != nil {
			t.Fatal(err)
		}
		id, err := p.Add(t.Context(), program.Terms{Name: "Talk", Country: "US", Ask: program.AskDuring, International: []string{" gb", "CA", "GB"}})
		if err != nil {
			t.Fatal(err)
		}
		is := func(ask, international string) {
			t.Helper()
			got, err := p.Terms(t.Context(), id)
			if err != nil || got.Ask != ask || strings.Join(got.International, " ") != international {
				t.Errorf("got %q %v, %v, want %q %s", got.Ask, got.International, err, ask, international)
			}
			if all, err := p.All(t.Context()); err != nil || len(all) != 1 || fmt.Sprint(all[0]) != fmt.Sprint(got) {
				t.Errorf("the list has %v, %v, want %v", all, err, got)
			}
		}
		is(program.AskDuring, "CA GB")
		changed := entries(t, h)
		for _, err := range []error{
			p.SetAsk(t.Context(), id, "os:1000", program.AskBefore),
			p.SetInternational(t.Context(), id, "os:1000", []string{"mx", "CA"}),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		is(program.AskBefore, "CA MX")
		if n := entries(t, h) - changed; n != 2 {
			t.Errorf("%d entries of two changes", n)
		}
		for name, err := range map[string]error{
			"the same when":  p.SetAsk(t.Context(), id, "os:1000", ""),
			"the same where": p.SetInternational(t.Context(), id, "os:1000", []string{"CA", "MX"}),
		} {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n := entries(t, h) - changed; n != 2 {
			t.Errorf("%d entries, of which two changed something", n)
		}
		for name, c := range map[string]struct{ got, want error }{
			"an unknown when":        {p.SetAsk(t.Context(), id, "os:1000", "after"), yesline.Invalid},
			"a country without one":  {p.SetInternational(t.Context(), id, "os:1000", []string{"UK"}), yesline.Invalid},
			"a network of no place":  {p.SetInternational(t.Context(), id, "os:1000", []string{"001"}), yesline.Invalid},
			"a hundred and one":      {p.SetInternational(t.Context(), id, "os:1000", slices.Repeat([]string{"CA"}, 101)), yesline.Invalid},
			"when, of no program":    {p.SetAsk(t.Context(), yesline.NewProgramID(), "os:1000", program.AskDuring), yesline.NotFound},
			"where, of no program":   {p.SetInternational(t.Context(), yesline.NewProgramID(), "os:1000", nil), yesline.NotFound},
			"nobody changes it":      {p.SetAsk(t.Context(), id, "", program.AskDuring), yesline.Invalid},
			"nobody changes a place": {p.SetInternational(t.Context(), id, "", nil), yesline.Invalid},
		} {
			if !errors.Is(c.got, c.want) {
				t.Errorf("%s: got %v, want %v", name, c.got, c.want)
			}
		}
		is(program.AskBefore, "CA MX")
		if err := p.SetInternational(t.Context(), id, "os:1000", nil); err != nil {
			t.Fatal(err)
		}
		is(program.AskBefore, "")
	})
}

// entries counts the log's.
func entries(t *testing.T, h *keystest.House) int64 {
	t.Helper()
	if err := h.Log.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	report, err := h.Log.Verify(t.Context())
	if err != nil || len(report.Problems) > 0 {
		t.Fatalf("the log: %v, %v", report, err)
	}
	return report.Entries
}
