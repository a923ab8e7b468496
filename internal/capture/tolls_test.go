package capture_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"yesline"
	"yesline/internal/capture"
	"yesline/internal/capture/tolls"
	"yesline/internal/program"
)

const cent = 10_000 // millionths of a dollar

// pays lets the world's calls by the trunk cost something, under rules that the
// test tightens. Nobody of theirs is connected, except where here says so.
func (w *world) pays(tighten func(*tolls.Rules)) *carrier {
	w.t.Helper()
	many := tolls.Limit{Account: 100, Trunk: 100}
	rules := tolls.Rules{PerMinute: map[string]int64{"": cent}, DayMicros: 1000 * cent, AccountDayMicros: 1000 * cent, TrunkDayMicros: 1000 * cent,
		Calls: many, PerMinuteCalls: many, MaxLength: 10 * time.Minute}
	tighten(&rules)
	var err error
	w.room.Tolls, err = tolls.Open(context.Background(), tolls.Parts{Content: w.Content,
		Program: func(context.Context, yesline.ProgramID) (string, []string, error) { return "US", nil, nil }}, rules)
	ok(w.t, err)
	w.t.Cleanup(w.room.Tolls.Close)
	c := &carrier{}
	w.room.Reach = func(_ context.Context, to capture.Wanted) (capture.Route, error) {
		if to.Number.Digits() == "" {
			return capture.Route{}, yesline.NotFound
		}
		if to.Call != "" {
			c.rung = append(c.rung, to)
		}
		c.phones = append(c.phones, newHandset())
		return capture.Route{Handset: c.phones[len(c.phones)-1], Trunk: "trunk"}, nil
	}
	return c
}

// carrier is what a trunk was asked for.
type carrier struct {
	rung   []capture.Wanted
	phones []*handset
}

// kept is how many telephones were not given back.
func (c *carrier) kept() (n int) {
	for _, h := range c.phones {
		h.mu.Lock()
		if h.downs == 0 {
			n++
		}
		h.mu.Unlock()
	}
	return n
}

func (w *world) folk() (n int) {
	w.t.Helper()
	ok(w.t, w.People.QueryRow(context.Background(), `SELECT COUNT(*) FROM people`).Scan(&n))
	return n
}

func (w *world) calling(number string) (*capture.Live, error) {
	w.t.Helper()
	return w.room.Dial(context.Background(), w.ann, must(yesline.NewPhone(number))(w.t))
}

func wordOf(err error) string {
	if r := (*tolls.Refusal)(nil); errors.As(err, &r) {
		return r.Word
	}
	return ""
}

// Of a call that is refused nothing is kept but that it was: nobody new is met,
// whatever it was refused for.
func TestARefusedCallMeetsNobody(t *testing.T) {
	t.Parallel()
	for word, c := range map[string]struct {
		rules func(*tolls.Rules)
		goes  int // calls that go on already, to somebody known
	}{
		"busy":    {func(r *tolls.Rules) { r.Calls.Account = 1 }, 1},
		"rate":    {func(r *tolls.Rules) { r.PerMinuteCalls.Account = 1 }, 1},
		"full":    {func(r *tolls.Rules) { r.Calls.Trunk = 1 }, 1},
		"crowd":   {func(r *tolls.Rules) { r.PerMinuteCalls.Trunk = 1 }, 1},
		"budget":  {func(r *tolls.Rules) { r.AccountDayMicros = cent }, 0},
		"program": {func(r *tolls.Rules) { r.DayMicros = 12 * cent }, 1},
		"trunk":   {func(r *tolls.Rules) { r.TrunkDayMicros = 12 * cent }, 1},
		"price":   {func(r *tolls.Rules) { r.PerMinute = nil }, 0},
	} {
		t.Run(word, func(t *testing.T) {
			t.Parallel()
			w := open(t, program.Terms{})
			carrier := w.pays(c.rules)
			for range c.goes {
				live := must(w.calling(bobNumber))(t)
				defer live.End("it was over")
			}
			before := w.folk()
			_, err := w.calling("+12025550177")
			if got := wordOf(err); got != word || w.folk() != before {
				t.Errorf("refused for %q (%v), and %d were met", got, err, w.folk()-before)
			}
			if got := w.room.Going(); got != c.goes {
				t.Errorf("%d calls are counted, want %d", got, c.goes)
			}
			told := must(w.room.Tolls.Refused(t.Context(), 10))(t)
			if len(told) != 1 || told[0].Word != word || told[0].Times != 1 {
				t.Errorf("the operator sees %+v", told)
			}
			if _, err := w.calling(bobNumber); wordOf(err) != word {
				t.Errorf("somebody known is called all the same: %v", err)
			}
			if n := carrier.kept(); n != c.goes {
				t.Errorf("%d telephones were not given back, for %d calls", n, c.goes)
			}
		})
	}
}

// What was held to find out that a call may be is held once, and for the call.
func TestAHeldCallIsPlacedOnce(t *testing.T) {
	t.Parallel()
	w := open(t, program.Terms{})
	w.pays(func(r *tolls.Rules) { r.PerMinuteCalls.Account, r.AccountDayMicros = 3, 30*cent })
	held := func() int64 {
		t.Helper()
		return must(w.room.Tolls.Spent(t.Context(), tolls.Who{Program: w.program, Person: w.ann.Person, Trunk: "trunk"}))(t).Account.Micros
	}
	for n, number := range []string{"+12025550177", "+12025550178"} {
		live, err := w.calling(number)
		if err != nil {
			t.Fatalf("call %d: %v", n, err)
		}
		defer live.End("it was over")
	}
	if got := held(); got != 2*11*cent {
		t.Errorf("%d are held for two calls of eleven cents", got)
	}
	w.room.Most = 2
	if _, err := w.calling("+12025550179"); !errors.Is(err, yesline.TooMany) || wordOf(err) != "" {
		t.Errorf("a third call in a house of two: %v", err)
	}
	if got := held(); got != 2*11*cent {
		t.Errorf("%d are held, also for a call that is none", got)
	}
	if _, err := w.calling("+12025550179"); wordOf(err) != "rate" {
		t.Errorf("a fourth call within a minute: %v", err)
	}
}
