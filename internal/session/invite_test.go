package session

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/db"
)

// records makes the house tell a log, whose entries come back. A failing log
// tells nothing.
func (h *house) records(failing *atomic.Bool) func() []audit.Entry {
	var mu sync.Mutex
	var told []audit.Entry
	h.Record = func(_ context.Context, tx *db.Tx, e audit.Entry) (audit.Ref, error) {
		if failing.Load() {
			return audit.Ref{}, yesline.Full
		}
		tx.OnCommit(func() { mu.Lock(); defer mu.Unlock(); told = append(told, e) })
		return audit.Ref{}, nil
	}
	return func() []audit.Entry { mu.Lock(); defer mu.Unlock(); return slices.Clone(told) }
}

func (h *house) notInvited(what string, person yesline.PersonID) {
	h.t.Helper()
	made, err := h.Invite(context.Background(), Local(1000), h.program, person, false)
	if !errors.Is(err, yesline.Conflict) || made.Token != "" || made.Username != "" || made.Password.Bytes() != nil {
		h.t.Errorf("inviting somebody with %s: got a token %v and %v, want a conflict and nothing", what, made.Token != "", err)
	}
}

// An invitation is the way in of somebody who has none. Whoever has or had
// one, in whatever state, gets nothing by an operator's word, and the log of
// their account stays as it was.
func TestOnlyNewPeopleAreInvited(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		told := h.records(new(atomic.Bool))
		made, err := h.Invite(t.Context(), Local(1000), h.program, h.ann, false)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(made.Username, shaPrefix) || len(made.Password.Bytes()) < 26 {
			t.Errorf("the phone is %q with a password of %d letters", made.Username, len(made.Password.Bytes()))
		}
		if es := told(); len(es) != 1 || es[0].Verb != "invited" || es[0].Actor != "os:1000" || es[0].Program != h.program ||
			es[0].Object != string(h.ann) || !slices.Equal(es[0].Subjects, []yesline.PersonID{h.ann}) {
			t.Errorf("the log says %+v, want that the operator invited ann", es)
		}
		h.notInvited("a link and a phone", h.ann)
		if _, who, err := h.Redeem(t.Context(), made.Token); err != nil || who.Person() != h.ann {
			t.Errorf("the link signs in %v, %v", who, err)
		}
		h.notInvited("a session", h.ann)

		h.link(h.bob)
		h.notInvited("a link", h.bob)
		device := yesline.NewPersonID()
		d, _, _, err := h.AddDevice(t.Context(), h.program, device, false)
		if err != nil {
			t.Fatal(err)
		}
		h.notInvited("a phone", device)
		if err := h.EndDevice(t.Context(), device, d.ID); err != nil {
			t.Fatal(err)
		}
		h.notInvited("a phone that ended", device)
		if n := len(told()); n != 4 { // invited, signed-in, phone-added, phone-ended
			t.Errorf("the log has %d entries, want 4", n)
		}
	})
}

// When link and session are gone for their age, the invitation still counts.
func TestAnOldInvitationCounts(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house) {
		h.records(new(atomic.Bool))
		if _, err := h.Invite(t.Context(), Local(1000), h.program, h.ann, false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * SessionTime)
		h.signIn(h.bob) // sweeps what is old
		h.notInvited("an old invitation", h.ann)
		time.Sleep(2 * LinkTime)
		h.link(yesline.NewPersonID())
		h.notInvited("a session whose link is swept", h.bob)
	})
}

// Of many invitations of one person at the same time one is made.
func TestOfManyInvitationsOneIsMade(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.records(new(atomic.Bool))
		var made, refused atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				_, err := h.Invite(t.Context(), Local(1000), h.program, h.ann, false)
				switch {
				case err == nil:
					made.Add(1)
				case errors.Is(err, yesline.Conflict):
					refused.Add(1)
				default:
					t.Errorf("inviting: %v", err)
				}
			})
		}
		wg.Wait()
		if made.Load() != 1 || refused.Load() != 7 {
			t.Errorf("%d were made and %d refused, want 1 and 7", made.Load(), refused.Load())
		}
	})
}

// What the log does not take did not happen: no invitation, no session.
func TestNobodyGetsInUntold(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		if _, err := h.Invite(t.Context(), Local(1000), h.program, h.ann, false); err == nil {
			t.Error("somebody was invited without a log")
		}
		var failing atomic.Bool
		told := h.records(&failing)
		failing.Store(true)
		if made, err := h.Invite(t.Context(), Local(1000), h.program, h.ann, false); !errors.Is(err, yesline.Full) || made.Token != "" {
			t.Errorf("inviting on a full log: %v", err)
		}
		token := h.link(h.bob)
		if cookie, who, err := h.Redeem(t.Context(), token); !errors.Is(err, yesline.Full) || cookie != "" || who != (Principal{}) {
			t.Errorf("signing in on a full log: %v, %v", who, err)
		}
		failing.Store(false)
		if _, err := h.Invite(t.Context(), Local(1000), h.program, h.ann, false); err != nil {
			t.Errorf("inviting afterwards: %v", err)
		}
		if _, _, err := h.Redeem(t.Context(), token); err != nil {
			t.Errorf("signing in afterwards: %v", err)
		}
		operator, err := h.Link(t.Context(), Local(1000))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := h.Redeem(t.Context(), operator); err != nil {
			t.Fatal(err)
		}
		es := told()
		if len(es) != 3 || es[1].Verb != "signed-in" || es[1].Actor != string(h.bob) || !slices.Equal(es[1].Subjects, []yesline.PersonID{h.bob}) ||
			es[2].Verb != "signed-in" || es[2].Actor != "os:1000" || len(es[2].Subjects) != 0 || es[2].Object != "" {
			t.Errorf("the log says %+v", es)
		}
	})
}
