package session

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

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

// What the log does not take did not happen: no invitation, no session.
func TestNobodyGetsInUntold(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		var failing atomic.Bool
		told := h.records(&failing)
		failing.Store(true)
		claim := yesline.NewClaimID()
		if token, err := h.InviteLink(t.Context(), Local(1000), h.program, claim); !errors.Is(err, yesline.Full) || token != "" {
			t.Errorf("inviting on a full log: %v", err)
		}
		token := h.link(h.bob)
		if cookie, who, err := h.Redeem(t.Context(), token); !errors.Is(err, yesline.Full) || cookie != "" || who != (Principal{}) {
			t.Errorf("signing in on a full log: %v, %v", who, err)
		}
		failing.Store(false)
		if _, err := h.InviteLink(t.Context(), Local(1000), h.program, claim); err != nil {
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
		if len(es) != 3 || es[0].Verb != "invited" || es[0].Object != string(claim) || es[1].Verb != "signed-in" || es[1].Actor != string(h.bob) ||
			!slices.Equal(es[1].Subjects, []yesline.PersonID{h.bob}) ||
			es[2].Verb != "signed-in" || es[2].Actor != "os:1000" || len(es[2].Subjects) != 0 || es[2].Object != "" {
			t.Errorf("the log says %+v", es)
		}
	})
}
