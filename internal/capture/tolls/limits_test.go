package tolls_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
	"yesline/internal/capture/tolls"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
)

// Any 60 seconds hold as many calls as the rules say, whatever the wall clock
// says.
func TestThePaceIsAnySixtySeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rules := generous()
		rules.PerMinuteCalls = tolls.Limit{Account: 2, Trunk: 3}
		rules.PerMinute[""] = 0 // and so without the books
		w := enter(t, dbtest.SQLite(t)("content"), rules)
		w.places(by(ann)).End(time.Now())
		time.Sleep(30 * time.Second)
		w.places(by(ann)).End(time.Now())
		w.refuses(by(ann), "rate")
		w.places(by(bob)).End(time.Now())
		w.refuses(by(bob), "crowd")
		time.Sleep(30*time.Second - 1)
		w.refuses(by(ann), "rate")
		w.refuses(by(bob), "crowd")
		time.Sleep(time.Nanosecond)
		w.places(by(ann)).End(time.Now())
		w.refuses(by(ann), "rate")
		w.refuses(by(bob), "crowd")
		time.Sleep(30 * time.Second)
		w.places(by(bob)).End(time.Now())
		w.places(by(ann)).End(time.Now())
		w.refuses(by(ann), "rate")
	})
}

// Calls at once are counted until they end, each once.
func TestCallsAtOnce(t *testing.T) {
	each(t, func(t *testing.T, content func() *db.DB) {
		rules := generous()
		rules.Calls = tolls.Limit{Account: 2, Trunk: 3}
		w := enter(t, content(), rules)
		one, two := w.places(by(ann)), w.places(by(ann))
		w.refuses(by(ann), "busy")
		w.places(by(bob))
		w.refuses(by(bob), "full")
		inside := tolls.Who{Program: american, Person: bob, Inside: true}
		c, err := w.Place(t.Context(), inside, phone(t, "+881612345678")) // no trunk, so neither number nor line matters
		if err != nil || c.Longest() != rules.MaxLength {
			t.Fatalf("inside: %v", err)
		}
		if _, err := w.Place(t.Context(), inside, phone(t, domestic)); wordOf(err) != "busy" {
			t.Errorf("inside: got %v, want busy", err)
		}
		c.End(time.Now())
		for range 3 {
			one.End(time.Now())
		}
		w.places(by(ann))
		w.refuses(by(ann), "busy")
		two.End(time.Now())
		w.places(by(ann))
		w.refuses(by("per_cid"), "full")
		w.refuses(by(""), "full") // the house itself has no line of its own
	})
}

// What is refused for money counts for the pace, and holds no line.
func TestARefusalHoldsNoLine(t *testing.T) {
	each(t, func(t *testing.T, content func() *db.DB) {
		rules := generous()
		rules.Calls.Account, rules.PerMinuteCalls.Account, rules.AccountDayMicros = 1, 3, cent
		w := enter(t, content(), rules)
		for _, word := range []string{"budget", "budget", "budget", "rate"} {
			w.refuses(by(ann), word)
		}
	})
}

// A call that costs nothing needs no money.
func TestACallThatCostsNothing(t *testing.T) {
	each(t, func(t *testing.T, content func() *db.DB) {
		rules := generous()
		rules.PerMinute["US"], rules.DayMicros, rules.AccountDayMicros, rules.TrunkDayMicros = 0, 0, 0, 0
		w := enter(t, content(), rules)
		c := w.places(by(ann))
		c.Answered(time.Now())
		c.End(time.Now())
		w.owes(by(ann), 0)
		if _, err := w.Place(t.Context(), by(ann), phone(t, "+442079460123")); wordOf(err) != "budget" && wordOf(err) != "program" {
			t.Errorf("got %v", err)
		}
	})
}

// Rules that say nothing permit nothing, and those that cannot be meant are
// refused.
func TestRules(t *testing.T) {
	each(t, func(t *testing.T, content func() *db.DB) {
		d := content()
		w := enter(t, d, tolls.Rules{})
		w.refuses(by(ann), "price")
		if _, err := w.Place(t.Context(), tolls.Who{Program: american, Person: ann, Inside: true}, phone(t, domestic)); wordOf(err) != "busy" {
			t.Errorf("inside: got %v", err)
		}
		for name, spoil := range map[string]func(*tolls.Rules){
			"a region":          func(r *tolls.Rules) { r.International = []string{"GBR"} },
			"the world":         func(r *tolls.Rules) { r.International = []string{""} },
			"regions":           func(r *tolls.Rules) { r.International = make([]string, 501) },
			"a prefix":          func(r *tolls.Rules) { r.Never = []string{"4470"} },
			"an empty prefix":   func(r *tolls.Rules) { r.Never = []string{"+"} },
			"a price":           func(r *tolls.Rules) { r.PerMinute["GB"] = -1 },
			"a price of all":    func(r *tolls.Rules) { r.PerMinute["*"] = 1 },
			"a day":             func(r *tolls.Rules) { r.DayMicros = -1 },
			"an account's day":  func(r *tolls.Rules) { r.AccountDayMicros = 1 << 62 },
			"a trunk's day":     func(r *tolls.Rules) { r.TrunkDayMicros = -1 },
			"calls at once":     func(r *tolls.Rules) { r.Calls.Trunk = -1 },
			"calls in a minute": func(r *tolls.Rules) { r.PerMinuteCalls.Account = 1 << 40 },
			"no length":         func(r *tolls.Rules) { r.MaxLength = 0 },
			"too long":          func(r *tolls.Rules) { r.MaxLength = 4*time.Hour + 1 },
		} {
			rules := generous()
			spoil(&rules)
			if other, err := tolls.Open(t.Context(), w.parts, rules); !errors.Is(err, yesline.Invalid) {
				t.Errorf("%s: got %v", name, err)
				other.Close()
			}
		}
	})
}

// Whose call it is must be said, and by which way it goes.
func TestWhoPlacesACall(t *testing.T) {
	each(t, func(t *testing.T, content func() *db.DB) {
		w := enter(t, content(), generous())
		for name, who := range map[string]tolls.Who{
			"no program":   {Person: ann, Trunk: "trunk"},
			"no way":       {Program: american, Person: ann},
			"two ways":     {Program: american, Person: ann, Trunk: "trunk", Inside: true},
			"a long trunk": {Program: american, Person: ann, Trunk: strings.Repeat("t", 65)},
		} {
			if _, err := w.Place(t.Context(), who, phone(t, domestic)); !errors.Is(err, yesline.Invalid) {
				t.Errorf("%s: got %v", name, err)
			}
			if _, err := w.Look(t.Context(), who, phone(t, domestic)); !errors.Is(err, yesline.Invalid) {
				t.Errorf("%s: got %v", name, err)
			}
		}
		who := by(ann)
		who.Program = "prg_unknown"
		if _, err := w.Place(t.Context(), who, phone(t, domestic)); !errors.Is(err, yesline.NotFound) || wordOf(err) != "" {
			t.Errorf("an unknown program: got %v", err)
		}
		if _, err := w.Place(t.Context(), by(ann), yesline.Phone{}); wordOf(err) != "unknown" {
			t.Errorf("no number: got %v", err)
		}
	})
}

// Operators see what was refused, by minute, strangers by the hour, and no number.
func TestWhatOperatorsSee(t *testing.T) {
	each(t, func(t *testing.T, content func() *db.DB) {
		d := content()
		w := enter(t, d, generous())
		for _, number := range []string{"+18765550142", "+18765550143", "+19005550142", "+12125551212"} {
			if _, err := w.Place(t.Context(), by(ann), phone(t, number)); err == nil {
				t.Errorf("it was placed")
			}
		}
		w.Turned(tolls.Who{}, "stranger", 3)
		w.Turned(tolls.Who{}, "stranger", 1)
		w.Turned(tolls.Who{}, "stranger", -1)
		for _, word := range []string{"", "+12025550142", "St", strings.Repeat("a", 21)} {
			w.Turned(tolls.Who{}, word, 1)
		}
		got := func() (all []string) {
			t.Helper()
			found, err := w.Refused(t.Context(), 500)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range found {
				by := time.Minute
				if r.Person == "" { // strangers come all day
					by = time.Hour
				}
				if age := time.Since(r.At); age < 0 || age > by+2*time.Minute || !r.At.Equal(r.At.Truncate(by)) {
					t.Errorf("%s was at %s", r.Word, r.At)
				}
				for range r.Times {
					all = append(all, fmt.Sprintf("%s %s %s", r.Person, r.Word, r.Region))
				}
			}
			return all
		}
		count := map[string]int{}
		for _, s := range got() {
			count[s]++
		}
		if want := map[string]int{"per_ann country JM": 2, "per_ann premium US": 2, " stranger ": 4}; fmt.Sprint(count) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", count, want)
		}
		w.restarts()
		if n := len(got()); n != 8 {
			t.Errorf("after a restart %d are left, want 8", n)
		}
		for _, limit := range []int{0, 501} {
			if _, err := w.Refused(t.Context(), limit); !errors.Is(err, yesline.Invalid) {
				t.Errorf("%d of them: got %v", limit, err)
			}
		}
		for i := range 5000 { // a storm of many
			w.Turned(tolls.Who{Person: yesline.PersonID(fmt.Sprint("per_", i))}, "flood", 1)
		}
		if _, err := w.Refused(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		var times int
		if err := d.QueryRow(t.Context(), `SELECT SUM(times) FROM tolls_refused WHERE word IN ('flood', 'many')`).Scan(&times); err != nil || times != 5000 {
			t.Errorf("%d of the storm were counted (%v)", times, err)
		}
	})
}

// The number that callees are shown is a configured one, or proven.
func TestCallerIDs(t *testing.T) {
	t.Parallel()
	ours, other, mine := phone(t, "+18165550100"), phone(t, "+18165550101"), phone(t, "+12025550142")
	rules := tolls.Rules{CallerIDs: []yesline.Phone{ours, other}}
	for name, one := range map[string]struct {
		rules          tolls.Rules
		wanted, proven yesline.Phone
		want           string
	}{
		"no wish":            {rules, yesline.Phone{}, mine, "+18165550100"},
		"a configured one":   {rules, other, yesline.Phone{}, "+18165550101"},
		"one's own":          {rules, mine, mine, "+12025550142"},
		"somebody else's":    {rules, mine, other, ""},
		"an unproven one":    {rules, mine, yesline.Phone{}, ""},
		"nothing configured": {tolls.Rules{}, yesline.Phone{}, yesline.Phone{}, ""},
		"nobody's wish":      {tolls.Rules{}, yesline.Phone{}, mine, ""},
	} {
		got, err := one.rules.CallerID(one.wanted, one.proven)
		if got.Digits() != one.want || (one.want == "") != (wordOf(err) == "callerid") {
			t.Errorf("%s: got %q and %v", name, got.Digits(), err)
		}
	}
}
