package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audit"
	"yesline/internal/consent"
	"yesline/internal/db"
	"yesline/internal/program"
	"yesline/internal/session"
	"yesline/internal/web"
)

// closed is a house with a program whose doors are not open.
type closed struct {
	*App
	t       *testing.T
	program yesline.ProgramID
}

func newClosed(t *testing.T) *closed {
	t.Helper()
	cfg := Defaults()
	cfg.Data = filepath.Join(t.TempDir(), "data")
	a, err := New(t.Context(), cfg, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	h := &closed{App: a, t: t}
	if h.program, err = a.Programs.Add(t.Context(), program.Terms{Name: "Talk", Country: "US"}); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *closed) meet(number string) yesline.PersonID {
	h.t.Helper()
	n, err := yesline.NewPhone(number)
	if err != nil {
		h.t.Fatal(err)
	}
	person, err := h.People.Meet(h.t.Context(), h.program, n)
	if err != nil {
		h.t.Fatal(err)
	}
	return person
}

func (h *closed) do(d *db.DB, query string, args ...any) {
	h.t.Helper()
	if err := d.Transact(h.t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, query, args...)
		return err
	}); err != nil {
		h.t.Fatal(err)
	}
}

// called writes a call of these people down, as capture does.
func (h *closed) called(people ...yesline.PersonID) yesline.CallID {
	h.t.Helper()
	call, at := yesline.NewCallID(), time.Now().UnixMilli()
	h.do(h.ContentDB, `INSERT INTO calls (id, program, started, state, recording, reason) VALUES ($1, $2, $3, 'ended', 'nobody', '')`,
		string(call), string(h.program), at)
	for _, p := range people {
		h.do(h.ContentDB, `INSERT INTO parties (leg, call, person, side, device, started) VALUES ($1, $2, $3, 'caller', '', $4)`,
			string(yesline.NewLegID()), string(call), string(p), at)
	}
	return call
}

// invite is what an operator does, by page or by command.
func (h *closed) invite(number string) (web.Invitation, error) {
	h.t.Helper()
	n, err := yesline.NewPhone(number)
	if err != nil {
		h.t.Fatal(err)
	}
	permit, err := h.Gate.Ask(h.t.Context(), session.Local(1000), access.Invite, access.Object{Kind: "program", ID: string(h.program)}, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return h.Invite(h.t.Context(), permit, h.program, n)
}

// An operator who knows Bob's number does not become Bob: an invitation leads
// to a claim, and to an account only by the code that was sent to the number.
// Who was on a call before keeps it for themselves.
func TestAnOperatorBecomesNobody(t *testing.T) {
	t.Parallel()
	h := newClosed(t)
	if made, err := h.invite("+12025550102"); !errors.Is(err, web.NoCodes) || made != (web.Invitation{}) {
		t.Errorf("inviting from a house that cannot send: %v", err)
	}
	h.canSend = true // the outbox keeps what nobody sends: nobody reads the code
	bob := h.meet("+12025550102")
	h.called(h.meet("+12025550101"), bob)
	made, err := h.invite("+12025550102")
	if err != nil || made.Token == "" || made.Mask != "+1 ••• ••02" {
		t.Fatalf("inviting a contact: %q, %v", made.Mask, err)
	}
	if _, who, err := h.Sessions.Redeem(t.Context(), made.Token); !errors.Is(err, yesline.NotFound) {
		t.Fatalf("the invitation signs in %v, %v", who, err)
	}
	got, err := h.Sessions.RedeemAny(t.Context(), made.Token, session.Client{})
	if err != nil || got.Claim == "" || got.Cookie != "" || got.Who != (session.Principal{}) {
		t.Fatalf("the invitation gives %+v, %v; want a claim and no more", got, err)
	}
	if _, err := h.Sessions.RedeemAny(t.Context(), made.Token, session.Client{}); !errors.Is(err, yesline.NotFound) {
		t.Errorf("it works twice: %v", err)
	}
	program, _, _, err := h.People.Claimed(t.Context(), got.Claim)
	if err != nil {
		t.Fatal(err)
	}
	cookie, err := h.Sessions.BeginClaim(t.Context(), program, got.Claim, yesline.NewSecret([]byte("482910")))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := h.finishJoin(t.Context(), cookie, nil, "", session.Client{}); !errors.Is(err, yesline.Denied) {
		t.Errorf("an account without the code: %v", err)
	}
	if err := h.Sessions.ProveClaim(t.Context(), cookie, "482910"); err != nil {
		t.Fatal(err)
	}
	person, err := h.People.Settle(t.Context(), got.Claim, h.known)
	if err != nil || person == bob {
		t.Errorf("who proved the number is bob: %v, %v", person == bob, err)
	}
	if calls, _, err := h.Capture.Calls(t.Context(), person, "", 10); err != nil || len(calls) > 0 {
		t.Errorf("they have %d calls, %v", len(calls), err)
	}
}

// Whose mask and consent somebody saw in a list of calls has that in their own
// log, before the list is shown.
func TestAListIsInEverybodysLog(t *testing.T) {
	t.Parallel()
	h := newClosed(t)
	ann, bob, eve := h.meet("+12025550101"), h.meet("+12025550102"), h.meet("+12025550103")
	h.called(ann, bob)
	h.called(ann, h.meet("+12025550104"))
	token, err := h.Sessions.LinkFor(t.Context(), h.program, ann)
	if err != nil {
		t.Fatal(err)
	}
	cookie, _, err := h.Sessions.Redeem(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/calls", nil)
	r.AddCookie(&http.Cookie{Name: "yesline", Value: cookie})
	w := httptest.NewRecorder()
	h.Site.ServeHTTP(w, r)
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "••• ••02") {
		t.Fatalf("the list: got %d", w.Code)
	}
	for person, want := range map[yesline.PersonID]int{bob: 1, eve: 0} {
		lines, err := h.Log.About(t.Context(), person, "", 0, 50)
		if err != nil || len(lines) != want {
			t.Errorf("%d entries are somebody's, want %d, %v", len(lines), want, err)
		}
		for _, l := range lines {
			if l.Entry.Verb != "view" || l.Entry.Actor != string(ann) || l.Entry.Detail["part"] != "list" || l.Entry.Result != "allowed" {
				t.Errorf("the entry is %+v", l.Entry)
			}
		}
	}
}

// A page says of each call which rule it was under, and without a record of it
// the strict one.
func TestACallIsShownUnderItsRule(t *testing.T) {
	t.Parallel()
	h := newClosed(t)
	ann, bob := h.meet("+12025550101"), h.meet("+12025550102")
	lenient, err := h.Programs.Add(t.Context(), program.Terms{Name: "Only my side", Country: "US", OneSided: true})
	if err != nil {
		t.Fatal(err)
	}
	strict := map[yesline.CallID]bool{h.called(ann, bob): true}
	for id, want := range map[yesline.ProgramID]bool{h.program: true, lenient: false} {
		call := h.called(ann, bob)
		strict[call] = want
		if err := h.Consent.Open(t.Context(), call, id, []consent.Party{{Person: ann, Place: "US-ME"}, {Person: bob, Place: "US-KS"}}); err != nil {
			t.Fatal(err)
		}
	}
	calls, _, err := h.calls(t.Context(), ann, "", 50)
	if err != nil || len(calls) != len(strict) {
		t.Fatalf("%d calls, %v", len(calls), err)
	}
	for _, c := range calls {
		if c.Strict != strict[c.ID] || len(c.Parties) != 2 {
			t.Errorf("a call is strict: %v, want %v; of %d", c.Strict, strict[c.ID], len(c.Parties))
		}
	}
}

// Of a voice the pages say how much of it is speech, and of an old one that
// nobody counted it, which is not nothing.
func TestAVoiceIsShownWithItsSpeech(t *testing.T) {
	t.Parallel()
	h := newClosed(t)
	ann := h.meet("+12025550101")
	call := h.called(ann)
	want := map[yesline.TrackID]any{yesline.NewTrackID(): 151_999, yesline.NewTrackID(): 0, yesline.NewTrackID(): nil}
	for track, speech := range want {
		h.do(h.ContentDB, `INSERT INTO vault_tracks (id, program, call, leg, person, codec, state, floor, sealed, seconds, root, problem,
			ref_db, ref_leaf, gone_db, gone_leaf, created, closed, finished, speech) VALUES ($1, $2, $3, '', $4, 0, 'closed', 0, 0, 250, NULL, '', 'content', 'ent', '', '', 1, 2, 3, $5)`,
			string(track), string(h.program), string(call), string(ann), speech)
	}
	tracks, err := h.tracks(t.Context(), call)
	if err != nil || len(tracks) != len(want) {
		t.Fatalf("%d tracks, %v", len(tracks), err)
	}
	for _, its := range tracks {
		switch speech := want[its.ID]; {
		case speech == nil && its.Measured, speech != nil && !its.Measured, speech == 151_999 && its.Speech != 151, speech == 0 && its.Speech != 0:
			t.Errorf("counted %v: shown %v, %d s", speech, its.Measured, its.Speech)
		}
	}
}

// An absent id asks every table that a stranger's asks: without one of them
// both fail. None of them is read for the one and not for the other.
func TestAbsentAsksWhatForeignAsks(t *testing.T) {
	t.Parallel()
	h := newClosed(t)
	ann, bob := h.meet("+12025550101"), h.meet("+12025550102")
	call, track := h.called(ann, bob), yesline.NewTrackID()
	h.do(h.ContentDB, `INSERT INTO vault_tracks (id, program, call, leg, person, codec, state, floor, sealed, seconds, problem, ref_db, ref_leaf, gone_db, gone_leaf, created, closed, finished)
		VALUES ($1, $2, $3, '', $4, 0, 'closed', 0, 0, 0, '', '', '', '', '', 0, 0, 0)`, string(track), string(h.program), string(call), string(ann))
	ref, err := h.Log.Append(t.Context(), audit.Entry{Program: h.program, Actor: "svc:shred", Verb: "track.destroyed", Object: string(track), Result: "done",
		Subjects: []yesline.PersonID{ann}})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Log.KeepReceipt(t.Context(), ann, string(call), ref); err != nil {
		t.Fatal(err)
	}
	receipts, err := h.Log.Receipts(t.Context(), ann, string(call))
	if err != nil || len(receipts) != 1 {
		t.Fatalf("%d receipts, %v", len(receipts), err)
	}
	asked := 0
	for kind, ids := range map[string][2]string{
		"call":    {string(call), string(yesline.NewCallID())},
		"track":   {string(track), string(yesline.NewTrackID())},
		"receipt": {string(receipts[0].ID), string(yesline.NewReceiptID())},
		"person":  {string(ann), string(yesline.NewPersonID())},
		"program": {string(h.program), string(yesline.NewProgramID())},
	} {
		load := h.facts()[kind]
		reads := func(id string) bool { _, err := load(t.Context(), []string{id}); return err != nil }
		for i, id := range ids {
			if facts, err := load(t.Context(), []string{id}); err != nil || len(facts) != 1-i {
				t.Errorf("%s: %d facts, %v", kind, len(facts), err)
			}
		}
		for d, tables := range map[*db.DB][]string{
			h.ContentDB: {"calls", "parties", "vault_tracks", "consent_calls", "consent_standings", "audit_receipts", "programs"},
			h.PeopleDB:  {"people"},
		} {
			for _, table := range tables {
				h.do(d, fmt.Sprintf(`ALTER TABLE %s RENAME TO away`, table))
				foreign, absent := reads(ids[0]), reads(ids[1])
				h.do(d, fmt.Sprintf(`ALTER TABLE away RENAME TO %s`, table))
				if foreign != absent {
					t.Errorf("a %s: %s is read for a foreign one: %v, for an absent one: %v", kind, table, foreign, absent)
				}
				if foreign {
					asked++
				}
			}
		}
	}
	if asked < 9 {
		t.Errorf("only %d tables were seen to be read", asked)
	}
}
