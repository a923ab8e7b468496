package tolls_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"yesline/internal/db/dbtest"
)

// When the database answers again, what calls hold that were placed meanwhile
// counts from the first decision on, however many they are.
func TestWhatWasHeldFromMemoryCountsAtOnce(t *testing.T) {
	t.Parallel()
	rules := generous()
	rules.TrunkDayMicros = 1000 * 11 * cent
	w := enter(t, dbtest.SQLite(t)("content"), rules)
	w.places(by(ann))
	w.exec(`ALTER TABLE tolls_calls RENAME TO tolls_away`)
	for range 999 {
		w.places(by(ann))
	}
	w.refuses(by(ann), "trunk")
	w.exec(`ALTER TABLE tolls_away RENAME TO tolls_calls`)
	var many sync.WaitGroup
	var over atomic.Int64
	until := time.Now().Add(2 * time.Second)
	for range 16 {
		many.Go(func() {
			for time.Now().Before(until) {
				if _, err := w.Place(t.Context(), by(ann), phone(t, domestic)); err == nil {
					over.Add(1)
				}
			}
		})
	}
	many.Wait()
	if n := over.Load(); n > 0 {
		t.Errorf("%d calls too many were placed: %+v", n, w.spent(by(ann)).Trunk)
	}
}
