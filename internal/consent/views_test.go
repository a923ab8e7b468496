package consent_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/consent"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
)

// What views tell is what Standings would: at once after every kind of change
// in this process, and within a second on another node.
func TestViewsMoveWithConsent(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		r := openOn(t, open, false)
		there, err := consent.Open(t.Context(), open("content"), r.Log, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		near, far := consent.NewViews(r.Consent), consent.NewViews(there)
		defer near.Close()
		defer far.Close()
		look := func(v *consent.Views) map[yesline.PersonID]consent.Standing {
			t.Helper()
			all, err := v.Of(t.Context(), r.call)
			if err != nil {
				t.Fatal(err)
			}
			return all
		}
		agrees := func(what string) {
			t.Helper()
			all, err := r.Standings(t.Context(), []yesline.CallID{r.call})
			if err != nil {
				t.Fatal(err)
			}
			if got := look(near); !reflect.DeepEqual(got, all[r.call]) {
				t.Errorf("%s: here %+v, want %+v", what, got, all[r.call])
			}
			for began := time.Now(); !reflect.DeepEqual(look(far), all[r.call]); time.Sleep(10 * time.Millisecond) {
				if time.Since(began) > 1900*time.Millisecond { // a second, and a loaded machine
					t.Fatalf("%s: another node has %+v, want %+v", what, look(far), all[r.call])
				}
			}
		}
		agrees("asked")
		for _, p := range []yesline.PersonID{r.ann, r.bob} {
			r.says(t, p, true)
			agrees("a yes")
		}
		if err := r.Set(t.Context(), r.permit(t, r.ann, access.Allow), r.call, consent.Share, pressed("share")); err != nil {
			t.Fatal(err)
		}
		agrees("shared")
		if err := r.Stop(t.Context(), r.call, r.bob, "", pressed("*9")); err != nil {
			t.Fatal(err)
		}
		agrees("stopped")
		if err := r.Withdraw(t.Context(), r.permit(t, r.ann, access.Withdraw), r.call, consent.Record, pressed("withdraw")); err != nil {
			t.Fatal(err)
		}
		if look(near)[r.ann].Kept() {
			t.Error("withdrawn, and still kept in this process")
		}
		agrees("withdrawn")
		if _, err := near.Of(t.Context(), yesline.NewCallID()); !errors.Is(err, yesline.NotFound) {
			t.Errorf("a call of which there is nothing: got %v", err)
		}
		later := yesline.NewCallID()
		if _, err := near.Of(t.Context(), later); !errors.Is(err, yesline.NotFound) {
			t.Errorf("a call to come: got %v", err)
		}
		if err := r.Open(t.Context(), later, r.program, []consent.Party{{Person: r.ann}, {Person: r.bob}}); err != nil {
			t.Fatal(err)
		}
		if all, err := near.Of(t.Context(), later); err != nil || len(all) != 2 {
			t.Errorf("what was absent was remembered as absent: %v", err)
		}
	})
}
