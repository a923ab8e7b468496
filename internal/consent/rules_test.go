package consent_test

import (
	"errors"
	"testing"

	"yesline"
)

// The rules of a page of calls come with one look; a call that nobody knows is
// under the strict one.
func TestTheRulesOfManyCalls(t *testing.T) {
	t.Parallel()
	for oneSided, r := range map[bool]*room{false: open(t, true, "US-ME", "US-CA"), true: open(t, true, "US-ME", "US-KS")} {
		unknown := yesline.NewCallID()
		found, err := r.OneSided(t.Context(), []yesline.CallID{unknown, r.call})
		if err != nil {
			t.Fatal(err)
		}
		if found[r.call] != oneSided || found[unknown] {
			t.Errorf("one-sided is %v, want %v; of an unknown call %v", found[r.call], oneSided, found[unknown])
		}
		if _, err := r.OneSided(t.Context(), make([]yesline.CallID, 501)); !errors.Is(err, yesline.Invalid) {
			t.Errorf("the rules of 501 calls: got %v, want invalid", err)
		}
	}
}
