package tolls_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
	"yesline/internal/capture/tolls"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
)

// A database that does not answer keeps a call waiting for two seconds, and
// then the limits hold from memory.
func TestADatabaseThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := enter(t, dbtest.SQLite(t)("content"), generous())
		w.places(by(ann)).End(time.Now())
		busy, free := make(chan struct{}), make(chan struct{})
		done := make(chan error, 1)
		go func() {
			done <- w.parts.Content.Transact(context.Background(), func(context.Context, *db.Tx) error {
				close(busy)
				<-free
				return nil
			})
		}()
		<-busy
		began := time.Now()
		c := w.places(by(bob))
		if waited := time.Since(began); waited < time.Second || waited > 5*time.Second {
			t.Errorf("the call waited for %s", waited)
		}
		close(free)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		c.End(time.Now())
	})
}

// A call whose end is never told is settled ten minutes after money was held
// for its last one, and not before.
func TestACallThatNeverEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rules := generous()
		rules.MaxLength = 5 * time.Minute
		w := enter(t, dbtest.SQLite(t)("content"), rules)
		w.places(by(ann)).Answered(time.Now()) // six minutes are held: it ends before the next is billed
		time.Sleep(15 * time.Minute)
		w.spent(by(ann))
		if n := w.rows("tolls_calls"); n != 1 {
			t.Errorf("after a quarter of an hour %d calls are in the books, want 1", n)
		}
		time.Sleep(12 * time.Minute) // swept every ten
		w.spent(by(ann))
		w.owes(by(ann), 6*cent)
		if n := w.rows("tolls_calls"); n != 0 {
			t.Errorf("%d calls are in the books that must be over", n)
		}
	})
}

// After the books are closed nothing is placed, forgotten or read as if it were
// written.
func TestClosedBooks(t *testing.T) {
	each(t, func(t *testing.T, content func() *db.DB) {
		w := enter(t, content(), generous())
		w.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, placed := w.Place(ctx, by(ann), phone(t, domestic))
		_, spent := w.Spent(ctx, by(ann))
		_, refused := w.Refused(ctx, 1)
		for name, err := range map[string]error{"placing": placed, "spent": spent, "refused": refused, "forgetting": w.Forget(ctx, ann)} {
			if !errors.Is(err, yesline.Unavailable) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// What is no region has no country, though a line of our list begins with it.
func TestNoRegion(t *testing.T) {
	t.Parallel()
	for _, region := range []string{"GB United", "gb", "G", "GBR", "", "U1"} {
		if got := tolls.Country(region); got != region {
			t.Errorf("%q is taken for %q", region, got)
		}
	}
}

// Lists of rules have 500 entries at most.
func TestLongLists(t *testing.T) {
	t.Parallel()
	content := dbtest.SQLite(t)("content")
	w := enter(t, content, generous())
	many := func(n int) (regions, prefixes []string, ids []yesline.Phone) {
		for range n {
			regions, prefixes, ids = append(regions, "GB"), append(prefixes, "+4470"), append(ids, phone(t, domestic))
		}
		return regions, prefixes, ids
	}
	for _, n := range []int{500, 501} {
		regions, prefixes, ids := many(n)
		for name, spoil := range map[string]func(*tolls.Rules){
			"regions": func(r *tolls.Rules) { r.International = regions }, "prefixes": func(r *tolls.Rules) { r.Never = prefixes },
			"caller ids": func(r *tolls.Rules) { r.CallerIDs = ids },
		} {
			rules := generous()
			spoil(&rules)
			opened, err := tolls.Open(t.Context(), w.parts, rules)
			if errors.Is(err, yesline.Invalid) != (n > 500) {
				t.Errorf("%d %s: %v", n, name, err)
			}
			if err == nil {
				opened.Close()
			}
		}
	}
}

// A call is doubtful for its number, for a full trunk, and as long as nobody
// knows whether there is money for it; none of that matters to one that needs
// no trunk.
func TestDoubtful(t *testing.T) {
	each(t, func(t *testing.T, content func() *db.DB) {
		rules := generous()
		rules.AccountDayMicros, rules.Calls.Trunk = 35*cent, 2
		w := enter(t, content(), rules)
		doubts := func(when, number string, who tolls.Who, want bool) {
			t.Helper()
			if got := w.Doubtful(t.Context(), who, phone(t, number)); got != want {
				t.Errorf("%s: doubtful is %t", when, got)
			}
		}
		inside := tolls.Who{Program: american, Person: ann, Inside: true}
		doubts("of an account that nobody asked about", domestic, by(ann), true)
		doubts("inside", domestic, inside, false)
		first := w.places(by(ann)) // holds 11 cents; the dearest holds 22
		doubts("with 24 cents left", domestic, by(ann), false)
		doubts("to a premium number", "+19005550142", by(ann), true)
		second := w.places(by(ann))
		doubts("with 13 cents left, and by a full trunk", domestic, by(ann), true)
		first.End(time.Now())
		doubts("with 24 cents left, as far as was seen 13", domestic, by(ann), true)
		w.places(by(ann)).End(time.Now())
		second.End(time.Now())
		w.places(by(ann)).End(time.Now())
		doubts("when all was given back", domestic, by(ann), false)
		if err := w.Ready(tolls.Who{Person: ann}); !errors.Is(err, yesline.Invalid) {
			t.Errorf("ready for no program: %v", err)
		}
	})
}
