package session

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"yesline"
)

// anybody may appoint anybody.
func anybody(bool) error { return nil }

// hired is somebody of the staff who is signed in by their link.
func (h *house) hired(role Kind, program yesline.ProgramID) (cookie string, who Principal) {
	h.t.Helper()
	_, token, err := h.Appoint(context.Background(), Local(1000), role, program, anybody)
	if err != nil {
		h.t.Fatal(err)
	}
	got, err := h.RedeemAny(context.Background(), token, Client{})
	if err != nil {
		h.t.Fatal(err)
	}
	return got.Cookie, got.Who
}

func TestStaffIsAppointedAndDismissed(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		told := h.records(new(atomic.Bool))
		for _, role := range []Kind{Nobody, Person, Machine, "king"} {
			_, _, err := h.Appoint(t.Context(), Local(1000), role, "", anybody)
			is(t, string(role), err, yesline.Invalid)
		}
		_, _, err := h.Appoint(t.Context(), Principal{}, Officer, "", anybody)
		is(t, "by nobody", err, yesline.Invalid)
		id, token, err := h.Appoint(t.Context(), Local(1000), Officer, h.program, anybody)
		if err != nil {
			t.Fatal(err)
		}
		got, err := h.RedeemAny(t.Context(), token, Client{})
		who := got.Who
		if err != nil || who.Kind() != Officer || who.String() != string(id) || who.Program() != h.program || who.Account() != string(id) || who.Person() != "" || !who.Fresh() {
			t.Fatalf("the officer is %+v, %v", got, err)
		}
		if h.knows(got.Cookie) != who {
			t.Error("the cookie is another's")
		}
		h.redeemFails(token)
		a := newAuthenticator(t)
		if _, err := h.AddPasskey(t.Context(), who, "token", a.makes(h.registerOptions(string(id)))); err != nil {
			t.Fatal(err)
		}
		cookie, again := h.comesIn(a)
		if again.Kind() != Officer || again.Program() != h.program || again.String() != string(id) {
			t.Errorf("the officer came back as %+v", again)
		}
		codes, err := h.RecoveryCodes(t.Context(), again)
		if err != nil {
			t.Fatal(err)
		}
		_, secret, err := h.MakeKey(t.Context(), again, "script", []string{"verify"}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		key, err := h.WhoKey(t.Context(), string(secret.Bytes()))
		if err != nil || key.Kind() != Officer || key.String() != string(id) || key.Program() != h.program {
			t.Errorf("the officer's key is %+v, %v", key, err)
		}
		_, other := h.hired(Auditor, "")
		list, err := h.Staff(t.Context(), h.program)
		if err != nil || len(list) != 1 || list[0].ID != id || list[0].Role != Officer || list[0].By != "os:1000" || list[0].Ended != 0 {
			t.Errorf("the program's staff is %+v, %v", list, err)
		}
		if list, err = h.Staff(t.Context(), ""); err != nil || len(list) != 2 {
			t.Errorf("all staff is %+v, %v", list, err)
		}
		reply := a.signs(h.signInOptions())
		if err := h.Dismiss(t.Context(), other, id); err != nil {
			t.Fatal(err)
		}
		h.doesNotKnow(got.Cookie)
		h.doesNotKnow(cookie)
		h.staysOut("a dismissed officer", reply)
		_, _, err = h.Recover(t.Context(), codes[0], Client{})
		is(t, "recovering", err, yesline.NotFound)
		_, err = h.WhoKey(t.Context(), string(secret.Bytes()))
		is(t, "the key", err, yesline.NotFound)
		is(t, "dismissing again", h.Dismiss(t.Context(), other, id), yesline.NotFound)
		is(t, "dismissing nobody", h.Dismiss(t.Context(), other, yesline.NewStaffID()), yesline.NotFound)
		is(t, "nobody dismisses", h.Dismiss(t.Context(), Principal{}, id), yesline.Invalid)
		if c, err := h.ColleagueByID(t.Context(), id); err != nil || c.Ended == 0 || c.Role != Officer {
			t.Errorf("the colleague is %+v, %v", c, err)
		}
		es := told()
		if got := verbs(es); got[0] != "appointed done" || got[len(got)-1] != "dismissed done" {
			t.Errorf("the log says %v", got)
		}
		for _, e := range es {
			if len(e.Subjects) != 0 {
				t.Errorf("%+v has a person", e)
			}
		}
	})
}

// Whoever appoints is asked with whether the place has an officer; what they
// say is given back as it is, and nobody was appointed.
func TestAppointingKnowsWhetherAnOfficerIsThere(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		told := h.records(new(atomic.Bool))
		no := errors.New("no")
		other := yesline.NewProgramID()
		has := func(when string, program yesline.ProgramID, want bool) {
			t.Helper()
			asked := 0
			id, token, err := h.Appoint(t.Context(), Local(1000), Auditor, program, func(hasOfficer bool) error {
				if asked++; hasOfficer != want {
					t.Errorf("%s: there is an officer: %v", when, hasOfficer)
				}
				return no
			})
			if err != no || id != "" || token != "" || asked == 0 {
				t.Errorf("%s: got %q, %v; want the refusal itself", when, id, err)
			}
		}
		h.hired(Operator, "")
		h.hired(Operator, h.program)
		has("an operator alone", "", false)
		has("an operator of it alone", h.program, false)
		_, ours := h.hired(Officer, h.program)
		has("an officer of it", h.program, true)
		has("an officer of a program", "", false)
		has("an officer of another", other, false)
		is(t, "dismissing", h.Dismiss(t.Context(), Local(1000), yesline.StaffID(ours.String())), nil)
		has("a dismissed officer", h.program, false)
		h.hired(Officer, "")
		has("an officer of the house", "", true)
		has("an officer of the house, for a program", h.program, true)
		if list, err := h.Staff(t.Context(), ""); err != nil || len(list) != 4 {
			t.Errorf("the staff is %+v, %v", list, err)
		}
		if n := len(told()); n != 9 { // four came and signed in, one went
			t.Errorf("the log has %d entries, want 9", n)
		}
		_, _, err := h.Appoint(t.Context(), Local(1000), Auditor, "", nil)
		is(t, "asking nobody", err, yesline.Invalid)
	})
}

// Of many who appoint a place's first officer at the same time, one does.
func TestOfManyFirstOfficersOneIs(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		taken := errors.New("there is one")
		var made, refused atomic.Int64
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				_, _, err := h.Appoint(t.Context(), Local(1000), Officer, h.program, func(hasOfficer bool) error {
					if hasOfficer {
						return taken
					}
					return nil
				})
				switch {
				case err == nil:
					made.Add(1)
				case err == taken:
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if made.Load() != 1 || refused.Load() != 5 {
			t.Errorf("%d were appointed and %d refused, want 1 and 5", made.Load(), refused.Load())
		}
	})
}

func TestALinkOfTheDismissedIsNone(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.hired(Operator, "")
		id, token, err := h.Appoint(t.Context(), Local(1000), Operator, "", anybody)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Dismiss(t.Context(), Local(1000), id); err != nil {
			t.Fatal(err)
		}
		h.redeemFails(token)
		var links int
		if err := h.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM links WHERE name = $1`, string(id)).Scan(&links); err != nil || links != 0 {
			t.Errorf("%d of their links are kept, %v", links, err)
		}
		later, err := h.Link(t.Context(), Principal{kind: Operator, name: string(id)})
		if err != nil {
			t.Fatal(err)
		}
		h.redeemFails(later)
	})
}

func TestTheLastOperatorStays(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		_, one := h.hired(Operator, "")
		_, ofProgram := h.hired(Operator, h.program)
		h.hired(Officer, "")
		is(t, "the last one", h.Dismiss(t.Context(), one, yesline.StaffID(one.String())), yesline.Conflict)
		if err := h.Dismiss(t.Context(), one, yesline.StaffID(ofProgram.String())); err != nil {
			t.Errorf("a program's operator: %v", err)
		}
		_, two := h.hired(Operator, "")
		var gone, stay atomic.Int64
		var wg sync.WaitGroup
		for _, who := range []Principal{one, two} {
			wg.Go(func() {
				switch err := h.Dismiss(t.Context(), Local(1000), yesline.StaffID(who.String())); {
				case err == nil:
					gone.Add(1)
				case errors.Is(err, yesline.Conflict):
					stay.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if gone.Load() != 1 || stay.Load() != 1 {
			t.Errorf("%d of the two last operators went at the same time, want 1", gone.Load())
		}
	})
}

func TestTheFirstOperator(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		told := h.records(new(atomic.Bool))
		early, err := h.FirstOperator(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		late, err := h.FirstOperator(t.Context())
		if err != nil {
			t.Fatalf("a second link while nobody came: %v", err)
		}
		cookie, who, err := h.Redeem(t.Context(), late)
		if err != nil || who.Kind() != Operator || who.Program() != "" || !yesline.IsID("stf", who.String()) || h.knows(cookie) != who {
			t.Fatalf("the first operator is %+v, %v", who, err)
		}
		h.redeemFails(early)
		_, err = h.FirstOperator(t.Context())
		is(t, "a link when somebody works here", err, yesline.Conflict)
		list, err := h.Staff(t.Context(), "")
		if err != nil || len(list) != 1 || string(list[0].ID) != who.String() || list[0].Role != Operator || list[0].By != "svc:house" {
			t.Errorf("the staff is %+v, %v", list, err)
		}
		if got := verbs(told()); !slices.Equal(got, []string{"appointed done", "signed-in done"}) {
			t.Errorf("the log says %v", got)
		}
	})
}

func TestOfManyFirstOperatorsOneIs(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		var tokens []string
		for range 6 {
			token, err := h.FirstOperator(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			tokens = append(tokens, token)
		}
		var in atomic.Int64
		var wg sync.WaitGroup
		for _, token := range tokens {
			wg.Go(func() {
				_, _, err := h.Redeem(t.Context(), token)
				if err == nil {
					in.Add(1)
				} else if !errors.Is(err, yesline.NotFound) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if in.Load() != 1 {
			t.Errorf("%d first operators, want 1", in.Load())
		}
	})
}
