package tolls

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"yesline"
)

// What is kept in memory is bounded, whoever comes.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	k := newClerk(nil, Rules{}, slog.New(slog.DiscardHandler))
	for i := range 10 * notesMost {
		k.note(Who{Person: yesline.PersonID(fmt.Sprint("per_", i))}, "flood", "", 1)
	}
	sum := int64(0)
	for _, times := range k.notes {
		sum += times
	}
	if len(k.notes) > notesMost+2 || sum != 10*notesMost { // a minute may end in between
		t.Errorf("%d refusals are kept apart, %d counted", len(k.notes), sum)
	}
	for i := range 10 * ordersMost {
		k.remember(ledger{by: map[string]balance{fmt.Sprint("per_", i): {today: 1}, fmt.Sprint("prg_", i): {today: 1}}})
	}
	if len(k.known) > 2*ordersMost || len(k.warned) > 2*ordersMost {
		t.Errorf("%d purses are known, %d were told of", len(k.known), len(k.warned))
	}
}

// As many accounts as are kept may call within a minute; then the house is
// full, until a minute is over.
func TestAccountsAreBounded(t *testing.T) {
	t.Parallel()
	many := Limit{Account: 1, Trunk: 2 * goingMost}
	p, rules, now := newPace(), Rules{Calls: many, PerMinuteCalls: many}, time.Now()
	who := func(i int) Who { return Who{Person: yesline.PersonID(fmt.Sprint("per_", i)), Trunk: "trunk"} }
	placed := 0
	for i := range goingMost + 10 {
		if p.begin(who(i), rules, now) == "" {
			placed++
			p.end(who(i))
		}
	}
	if placed > goingMost || placed < goingMost-1 || len(p.by) > goingMost+1 {
		t.Errorf("%d were placed, %d are kept", placed, len(p.by))
	}
	if word := p.begin(who(-1), rules, now.Add(window-1)); word != crowd {
		t.Errorf("one more: got %q", word)
	}
	if word := p.begin(who(-1), rules, now.Add(window)); word != "" || len(p.by) != 2 {
		t.Errorf("a minute later: got %q, and %d are kept", word, len(p.by))
	}
}

// What is in memory of yesterday does not count, and of tomorrow it does.
func TestMemoryOfOtherDays(t *testing.T) {
	t.Parallel()
	rules := Rules{DayMicros: 100, AccountDayMicros: 100, TrunkDayMicros: 100, MaxLength: 55 * time.Second}
	for _, c := range []struct {
		name    string
		known   balance
		minutes int64
		word    string
	}{
		{"nothing", balance{}, 1, ""},
		{"yesterday", balance{day: 9, today: 100}, 1, ""},
		{"today", balance{day: 10, today: 100}, 0, budget},
		{"some of today", balance{day: 10, today: 90}, 1, ""},
		{"tomorrow", balance{day: 11, today: 100}, 0, ahead},
		{"the day after", balance{day: 11, later: 100}, 0, ahead},
	} {
		l := ledger{day: 10, rules: rules, by: map[string]balance{"per_ann": c.known}}
		e := &entry{price: 10, purses: [3]string{"prg_a", "per_ann", "trunk:t"}}
		if l.decide(e, time.Now()); e.minutes != c.minutes || e.word != c.word || e.day != 10 {
			t.Errorf("%s: got %d minutes and %q on day %d", c.name, e.minutes, e.word, e.day)
		}
	}
}
