package people_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"yesline"
	"yesline/internal/people"
)

func TestAdult(t *testing.T) {
	t.Parallel()
	r := open(t)
	at := func(s string) time.Time {
		m, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	noon := at("2026-03-10T12:00:00Z")
	for _, c := range []struct {
		birth string
		now   time.Time
		want  error
	}{
		{"1980-01-01", noon, nil},
		{"2008-03-10", noon, nil},
		{"2008-03-10", at("2026-03-10T11:59:59Z"), yesline.Denied}, // on some island it is still the 9th
		{"2008-03-11", noon, yesline.Denied},
		{"2026-03-10", noon, yesline.Denied},
		{"2008-02-29", at("2026-02-28T23:00:00Z"), yesline.Denied},
		{"2008-02-29", at("2026-03-01T12:00:00Z"), nil},
		{"1896-03-10", noon, nil},
		{"1896-03-09", noon, yesline.Invalid},
		{"2026-04-10", noon, yesline.Invalid}, // not born yet
		{"0001-01-01", noon, yesline.Invalid},
		{"2007-02-29", noon, yesline.Invalid},
		{"1980-13-01", noon, yesline.Invalid},
		{"01/02/1980", noon, yesline.Invalid},
		{"1980-1-1", noon, yesline.Invalid},
		{"", noon, yesline.Invalid},
		{"1980-01-01 ", noon, yesline.Invalid},
		{"-1980-01-01", noon, yesline.Invalid},
		{strings.Repeat("1980-01-01", 1000), noon, yesline.Invalid},
	} {
		err := r.Adult(c.birth, c.now)
		if !errors.Is(err, c.want) {
			t.Errorf("%.12q on %v: got %v, want %v", c.birth, c.now, err, c.want)
		}
		if err != nil && len(c.birth) > 4 && strings.Contains(err.Error(), c.birth[:4]) {
			t.Errorf("the error repeats the date: %v", err)
		}
	}
}

// Only the yes is kept.
func TestTheYesIsKept(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		ann := r.meets(t, r.House.Program(t), "+12025550142")
		if adult, err := r.IsAdult(t.Context(), ann); adult || err != nil {
			t.Errorf("who never said so: %v, %v", adult, err)
		}
		if err := r.SetAdult(t.Context(), ann); err != nil {
			t.Fatal(err)
		}
		if adult, err := r.IsAdult(t.Context(), ann); !adult || err != nil {
			t.Errorf("who said so: %v, %v", adult, err)
		}
		if err := r.SetAdult(t.Context(), yesline.NewPersonID()); !errors.Is(err, yesline.NotFound) {
			t.Errorf("somebody unknown: %v", err)
		}
		if _, err := r.IsAdult(t.Context(), yesline.NewPersonID()); !errors.Is(err, yesline.NotFound) {
			t.Errorf("somebody unknown: %v", err)
		}
	})
}

func FuzzAdult(f *testing.F) {
	f.Add("1980-01-31")
	f.Add("2008-02-29")
	f.Add("0000-00-00")
	f.Add("9999-12-31T00:00:00Z")
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, birth string) {
		err := (*people.People)(nil).Adult(birth, now)
		switch {
		case err != nil && !errors.Is(err, yesline.Invalid) && !errors.Is(err, yesline.Denied):
			t.Errorf("got %v, want invalid or not permitted", err)
		case err == nil && (len(birth) != len(time.DateOnly) || birth > "2008-03-10"):
			t.Errorf("%q is 18 or older", birth)
		}
	})
}
