package tolls_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
	"yesline/internal/capture/tolls"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
)

// What a call may cost at most is held when it is placed; an unanswered one
// costs nothing, an answered one its minutes, begun ones whole.
func TestACallHoldsWhatItMayCost(t *testing.T) {
	each(t, func(t *testing.T, content func() *db.DB) {
		w := enter(t, content(), generous())
		c := w.places(by(ann))
		if c.Longest() != 10*time.Minute {
			t.Errorf("it may last %s, want 10 minutes", c.Longest())
		}
		w.owes(by(ann), 11*cent) // ten minutes, and the one that begins while it is hung up
		c.End(time.Now())
		w.owes(by(ann), 0)
		if n := w.rows("tolls_calls"); n != 0 {
			t.Errorf("%d calls are left in the books", n)
		}

		for _, one := range []struct {
			lasts   time.Duration
			minutes int64
		}{{0, 1}, {time.Second, 1}, {time.Minute, 1}, {time.Minute + 1, 2}, {9*time.Minute + 59*time.Second, 10}, {12 * time.Minute, 12}, {-time.Hour, 1}} {
			before := w.spent(by(ann)).Account.Micros
			c := w.places(by(ann))
			at := time.Now()
			c.Answered(at)
			c.Answered(at.Add(-time.Hour)) // only the first counts
			c.End(at.Add(one.lasts))
			c.End(at.Add(time.Hour))
			c.Answered(at.Add(-time.Hour))
			if got := w.spent(by(ann)).Account.Micros - before; got != one.minutes*cent {
				t.Errorf("%s cost %d, want %d minutes", one.lasts, got, one.minutes)
			}
		}
		noNumber(t, w.report.String())
	})
}

// Each of the three purses ends calls, in its own word, and the last minutes
// of one make a call shorter.
func TestTheMoneyOfADay(t *testing.T) {
	for word, spoil := range map[string]func(*tolls.Rules, int64){
		"budget":  func(r *tolls.Rules, m int64) { r.AccountDayMicros = m },
		"program": func(r *tolls.Rules, m int64) { r.DayMicros = m },
		"trunk":   func(r *tolls.Rules, m int64) { r.TrunkDayMicros = m },
	} {
		t.Run(word, func(t *testing.T) {
			each(t, func(t *testing.T, content func() *db.DB) {
				rules := generous()
				spoil(&rules, 11*cent+5*cent+2*cent)
				w := enter(t, content(), rules)
				w.places(by(ann))
				c := w.places(by(ann))
				if want := 7*time.Minute - 5*time.Second; c.Longest() != want {
					t.Errorf("it may last %s, want %s", c.Longest(), want)
				}
				w.refuses(by(ann), word)
				w.owes(by(ann), 18*cent)
				switch _, err := w.Place(t.Context(), by(bob), phone(t, domestic)); {
				case word == "budget" && err != nil:
					t.Errorf("another account is refused: %v", err)
				case word != "budget" && wordOf(err) != word:
					t.Errorf("another account: got %v", err)
				}
				c.End(time.Now()) // seven minutes come back
				if c := w.places(by(ann)); c.Longest() != 7*time.Minute-5*time.Second {
					t.Errorf("what came back is not to be had: %s", c.Longest())
				}
				if _, err := w.Place(t.Context(), by(ann), phone(t, domestic)); !errors.Is(err, yesline.TooMany) {
					t.Errorf("got %v, want too many", err)
				}
			})
		})
	}
}

// Below three minutes nobody is called.
func TestTooLittleMoneyIsNone(t *testing.T) {
	each(t, func(t *testing.T, content func() *db.DB) {
		rules := generous()
		rules.AccountDayMicros = 3*cent - 1
		w := enter(t, content(), rules)
		w.refuses(by(ann), "budget")
		w.owes(by(ann), 0)
	})
}

// A new day has new money; what was held yesterday is settled with yesterday.
func TestANewDay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // which begins at midnight, UTC
		rules := generous()
		rules.AccountDayMicros, rules.MaxLength = 61*cent, time.Hour
		w := enter(t, dbtest.SQLite(t)("content"), rules)
		time.Sleep(23*time.Hour + 30*time.Minute)
		c := w.places(by(ann))
		c.Answered(time.Now())
		w.refuses(by(ann), "budget")
		time.Sleep(30*time.Minute - 1)
		w.refuses(by(ann), "budget")
		time.Sleep(time.Nanosecond)
		w.owes(by(ann), 0)
		w.places(by(ann))
		w.owes(by(ann), 61*cent)
		time.Sleep(29 * time.Minute)
		c.End(time.Now())
		w.owes(by(ann), 61*cent) // what came back is yesterday's
		var yesterday int64
		if err := w.parts.Content.QueryRow(t.Context(), `SELECT micros FROM tolls_spent WHERE purse = $1 AND day = $2`, string(ann),
			time.Now().Unix()/86400-1).Scan(&yesterday); err != nil || yesterday != 59*cent {
			t.Errorf("yesterday cost %d (%v), want 59 cents", yesterday, err)
		}
		time.Sleep(50 * 24 * time.Hour)
		w.places(by(ann)) // and with it the books are swept
		w.spent(by(ann))
		if n := w.rows("tolls_spent"); n != 3 {
			t.Errorf("%d days of purses are kept, want 3", n)
		}
		if n := w.rows("tolls_calls"); n != 1 {
			t.Errorf("%d calls are kept, want 1: nobody told how the second ended", n)
		}
	})
}

// A clock that is set back, or was ahead, makes nothing new to spend, and the
// operator reads why.
func TestAClockThatIsSetBack(t *testing.T) {
	each(t, func(t *testing.T, content func() *db.DB) {
		rules := generous()
		rules.AccountDayMicros = 11 * cent
		w := enter(t, content(), rules)
		c, at := w.places(by(ann)), time.Now()
		c.Answered(at)
		c.End(at.Add(9 * time.Minute))
		w.passes(-1)
		w.refuses(by(ann), "clock")
		w.owes(by(ann), 9*cent)
		w.passes(300)
		w.places(by(ann)).End(time.Now())
	})
}

// After a restart the money of the day is as it was; calls that were cut off
// cost what they may have, and unanswered ones nothing.
func TestARestart(t *testing.T) {
	each(t, func(t *testing.T, content func() *db.DB) {
		d := content()
		w := enter(t, d, generous())
		over, at := w.places(by(ann)), time.Now()
		over.Answered(at)
		over.End(at.Add(4 * time.Minute))
		unanswered, fresh, old, ahead := w.places(by(ann)), w.places(by(ann)), w.places(by(ann)), w.places(by(ann))
		fresh.Answered(time.Now().Add(-90 * time.Second))
		old.Answered(time.Now().Add(-3 * time.Hour))
		ahead.Answered(time.Now().Add(time.Hour)) // the clock was set back in between
		w.owes(by(ann), (4+4*11)*cent)
		if d.Postgres {
			w.restarts()
			w.owes(by(ann), (4+4*11)*cent) // another node may carry them
			w.exec(`UPDATE tolls_calls SET until = 0`)
		}
		w.restarts()
		w.owes(by(ann), (4+0+2+11+11)*cent)
		if n := w.rows("tolls_calls"); n != 0 {
			t.Errorf("%d calls are left in the books", n)
		}
		for _, c := range []*tolls.Call{unanswered, fresh, old, ahead} {
			c.End(time.Now()) // too late, of a house that is gone
		}
		w.owes(by(ann), (4+0+2+11+11)*cent)
	})
}

// A call whose end nobody told is settled once, and its end changes nothing.
func TestAnEndThatIsToldTooLate(t *testing.T) {
	each(t, func(t *testing.T, content func() *db.DB) {
		w := enter(t, content(), generous())
		c := w.places(by(ann))
		c.Answered(time.Now())
		w.owes(by(ann), 11*cent)
		w.exec(`DELETE FROM tolls_calls`) // by another node, which counted it as eleven minutes
		c.End(time.Now())
		w.owes(by(ann), 11*cent)
	})
}

// A thousand at once: the limits hold exactly, and what is held is what was
// permitted.
func TestAThousandAtOnce(t *testing.T) {
	each(t, func(t *testing.T, content func() *db.DB) {
		for name, one := range map[string]struct {
			spoil func(*tolls.Rules)
			most  int64
			word  string
		}{
			"the account's money": {func(r *tolls.Rules) { r.AccountDayMicros = 37 * 11 * cent }, 37, "budget"},
			"the trunk's money":   {func(r *tolls.Rules) { r.TrunkDayMicros = 290 * 11 * cent }, 290, "trunk"},
			"the account at once": {func(r *tolls.Rules) { r.Calls.Account = 4 }, 4, "busy"},
			"the trunk at once":   {func(r *tolls.Rules) { r.Calls.Trunk = 200 }, 200, "full"},
			"the account's pace":  {func(r *tolls.Rules) { r.PerMinuteCalls.Account = 10 }, 10, "rate"},
			"the trunk's pace":    {func(r *tolls.Rules) { r.PerMinuteCalls.Trunk = 300 }, 300, "crowd"},
		} {
			rules := generous()
			one.spoil(&rules)
			w := enter(t, content(), rules)
			w.exec(`DELETE FROM tolls_spent`)
			var placed, refused atomic.Int64
			var all sync.WaitGroup
			for range 1000 {
				all.Go(func() {
					_, err := w.Place(t.Context(), by(ann), phone(t, domestic))
					switch {
					case err == nil:
						placed.Add(1)
					case wordOf(err) == one.word:
						refused.Add(1)
					default:
						t.Errorf("%s: got %v", name, err)
					}
				})
			}
			all.Wait()
			if placed.Load() != one.most || refused.Load() != 1000-one.most {
				t.Errorf("%s: %d placed and %d refused, want %d placed", name, placed.Load(), refused.Load(), one.most)
			}
			w.owes(by(ann), one.most*11*cent)
			found, err := w.Refused(t.Context(), 10)
			times := int64(0)
			for _, r := range found {
				if r.Word == one.word {
					times += r.Times
				}
			}
			if err != nil || times != refused.Load() {
				t.Errorf("%s: operators see %d refusals of %d (%v)", name, times, refused.Load(), err)
			}
			w.Close()
			w.exec(`DELETE FROM tolls_refused`)
			w.exec(`DELETE FROM tolls_calls`)
		}
	})
}

// Two nodes share the money of a day exactly.
func TestTwoNodesShareTheMoney(t *testing.T) {
	t.Parallel()
	open := dbtest.Postgres(t)
	rules := generous()
	rules.TrunkDayMicros = 50 * 11 * cent
	one, two := enter(t, open("content"), rules), enter(t, open("content"), rules)
	var placed atomic.Int64
	var all sync.WaitGroup
	for i := range 200 {
		w := []*world{one, two}[i%2]
		all.Go(func() {
			c, err := w.Place(t.Context(), by(ann), phone(t, domestic))
			if err == nil {
				placed.Add(1)
				defer c.Answered(time.Now())
			} else if wordOf(err) != "trunk" {
				t.Errorf("got %v", err)
			}
		})
	}
	all.Wait()
	if placed.Load() != 50 {
		t.Errorf("%d were placed, want 50", placed.Load())
	}
	one.owes(by(ann), 50*11*cent)
	two.owes(by(ann), 50*11*cent)
}

// Somebody who gives up while their call is looked at holds nothing.
func TestWhoGivesUpHoldsNothing(t *testing.T) {
	each(t, func(t *testing.T, content func() *db.DB) {
		rules := generous()
		rules.Calls.Account = 1
		w := enter(t, content(), rules)
		for range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			go cancel()
			if c, err := w.Place(ctx, by(ann), phone(t, domestic)); err == nil {
				c.End(time.Now())
			} else if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			cancel()
		}
		deadline := time.Now().Add(10 * time.Second)
		for w.spent(by(ann)).Account.Micros != 0 && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
		}
		w.owes(by(ann), 0)
		w.places(by(ann)) // the one line is free again
	})
}

// While nothing can be written, calls go on, the limits hold from memory, and
// the books are made up for when it can.
func TestADatabaseThatCannotWrite(t *testing.T) {
	each(t, func(t *testing.T, content func() *db.DB) {
		d := content()
		rules := generous()
		rules.AccountDayMicros = 33 * cent
		rules.TrunkDayMicros = 44 * cent
		w := enter(t, d, rules)
		before := w.places(by(ann))
		before.Answered(time.Now())
		w.owes(by(ann), 11*cent)
		w.exec(`INSERT INTO tolls_spent (purse, day, micros) VALUES ('per_cid', $1, $2)`, time.Now().Unix()/86400, 31*cent)
		w.exec(`ALTER TABLE tolls_calls RENAME TO tolls_away`)
		first := w.places(by(ann))
		w.refuses(by("per_cid"), "budget") // of whom nothing is in memory, but it can still be read
		w.places(by(ann))
		w.refuses(by(ann), "budget")
		w.places(by(bob))
		w.refuses(by(bob), "trunk")
		at := time.Now()
		first.Answered(at)
		first.End(at.Add(2 * time.Minute)) // gives nine minutes back
		deadline := time.Now().Add(10 * time.Second)
		for {
			c, err := w.Place(t.Context(), by(bob), phone(t, domestic))
			if err == nil {
				if c.Longest() != 9*time.Minute-5*time.Second {
					t.Errorf("%s, want nine minutes", c.Longest())
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("what came back is not to be had: %v", err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if !strings.Contains(w.report.String(), "limits hold from memory") {
			t.Error("nobody is told")
		}
		w.exec(`ALTER TABLE tolls_away RENAME TO tolls_calls`)
		for deadline := time.Now().Add(10 * time.Second); ; {
			s, err := w.Spent(t.Context(), by(ann))
			if err == nil {
				if s.Trunk.Micros != 44*cent || s.Account.Micros != 24*cent {
					t.Errorf("got %+v, want 44 and 24 cents", s)
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		times := int64(0)
		found, err := w.Refused(t.Context(), 500)
		for _, r := range found {
			if r.Word == "budget" {
				times += r.Times
			}
		}
		if err != nil || times != 2 {
			t.Errorf("%d refusals for money were written, want 2 (%v)", times, err)
		}
		if n := w.rows("tolls_calls"); n != 4 {
			t.Errorf("%d calls are in the books, want 4", n)
		}
		noNumber(t, w.report.String())
	})
}

// Operators are told once when most of a day's money is gone.
func TestOperatorsAreToldBeforeTheMoneyIsGone(t *testing.T) {
	each(t, func(t *testing.T, content func() *db.DB) {
		rules := generous()
		rules.TrunkDayMicros, rules.AccountDayMicros = 55*cent, 33*cent
		w := enter(t, content(), rules)
		for i := range 5 {
			w.places(by(yesline.PersonID(fmt.Sprint("per_", i))))
			if got := strings.Count(w.report.String(), "most of a day's money"); got != max(0, min(1, i-2)) {
				t.Errorf("after %d of 5 calls: told %d times", i+1, got)
			}
		}
	})
}

// Books that make no sense are not opened.
func TestBooksThatWereTamperedWith(t *testing.T) {
	each(t, func(t *testing.T, content func() *db.DB) {
		w := enter(t, content(), generous())
		w.places(by(ann))
		w.Close()
		w.exec(`UPDATE tolls_calls SET price = 0, until = 0`)
		if other, err := tolls.Open(t.Context(), w.parts, w.rules); !errors.Is(err, yesline.Tampered) {
			t.Errorf("got %v", err)
			other.Close()
		}
	})
}

// Of what was refused the books keep 30 days, and no more than ten thousand
// lines.
func TestTheBooksAreSwept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := enter(t, dbtest.SQLite(t)("content"), generous())
		now := time.Now()
		line := func(at time.Time) int64 { return at.UnixMilli() }
		if err := w.parts.Content.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			for i := range 10_050 {
				if _, err := tx.Exec(ctx, `INSERT INTO tolls_refused (minute, program, person, word, region, times) VALUES ($1, '', '', 'rate', '', 1)`,
					line(now.Add(-time.Duration(i)*time.Minute))); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		w.places(by(ann))
		w.spent(by(ann))
		if n := w.rows("tolls_refused"); n != 10_001 {
			t.Errorf("%d lines are kept, want 10001", n)
		}
		time.Sleep(29 * 24 * time.Hour)
		w.places(by(ann))
		w.spent(by(ann))
		if n := w.rows("tolls_refused"); n < 1 || n > 1440 {
			t.Errorf("%d lines are kept, want those of the last day of 30", n)
		}
	})
}

// A closed house places nothing.
func TestAClosedHousePlacesNothing(t *testing.T) {
	each(t, func(t *testing.T, content func() *db.DB) {
		w := enter(t, content(), generous())
		c := w.places(by(ann))
		c.Answered(time.Now())
		c.End(time.Now())
		w.Close()
		if _, err := w.Place(t.Context(), by(ann), phone(t, domestic)); !errors.Is(err, yesline.Unavailable) {
			t.Errorf("got %v", err)
		}
		w.open()
		w.owes(by(ann), cent) // what ended before was written
	})
}

// What is forgotten is gone, and an end that comes later brings nothing back.
func TestForgettingAPerson(t *testing.T) {
	each(t, func(t *testing.T, content func() *db.DB) {
		w := enter(t, content(), generous())
		c := w.places(by(ann))
		w.places(by(bob))
		if _, err := w.Place(t.Context(), by(ann), phone(t, "+442079460123")); err != nil {
			t.Fatal(err)
		}
		w.Turned(by(ann), "digest", 1)
		w.Turned(by(bob), "digest", 1)
		if err := w.Forget(t.Context(), ""); !errors.Is(err, yesline.Invalid) {
			t.Errorf("forgetting nobody: %v", err)
		}
		for range 2 {
			if err := w.Forget(t.Context(), ann); err != nil {
				t.Fatal(err)
			}
		}
		c.End(time.Now())
		w.spent(by(ann))
		for table, q := range map[string]string{"spent": `SELECT COUNT(*) FROM tolls_spent WHERE purse = $1`,
			"calls": `SELECT COUNT(*) FROM tolls_calls WHERE person = $1`, "refused": `SELECT COUNT(*) FROM tolls_refused WHERE person = $1`} {
			for person, want := range map[yesline.PersonID]int{ann: 0, bob: 1} {
				var n int
				if err := w.parts.Content.QueryRow(t.Context(), q, string(person)).Scan(&n); err != nil || n != want {
					t.Errorf("%s of %s: %d rows, want %d (%v)", table, person, n, want, err)
				}
			}
		}
		if s := w.spent(by(ann)); s.Trunk.Micros != (11+22)*cent || s.Account.Micros != 0 {
			t.Errorf("got %+v", s)
		}
	})
}
