package web

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audit"
	"yesline/internal/consent"
	"yesline/internal/db"
	"yesline/internal/playback"
	"yesline/internal/session"
	"yesline/internal/vault"
)

// What belongs to ann beside her sessions, by fixed names.
var (
	annsPasskey = yesline.PasskeyID(id("pky", "ann"))
)

const rightCode = "246810"

func (s *sample) record(context.Context, *db.Tx, audit.Entry) (audit.Ref, error) {
	return audit.Ref{DB: "content", Leaf: "ent"}, nil
}

// employ lets staff in, opens the books of cases and tickets, and gives ann a
// passkey that no authenticator has.
func (s *sample) employ(t testing.TB) {
	t.Helper()
	ctx := t.Context()
	plain := func(_ context.Context, _ yesline.ProgramID, _, data []byte) ([]byte, error) { return data, nil }
	var err error
	if s.cases, err = access.Open(ctx, access.CaseParts{Content: s.content, Record: s.record,
		Colleague: func(context.Context, string) (access.Colleague, error) { return access.Colleague{}, nil }}); err != nil {
		t.Fatalf("opening the cases: %v", err)
	}
	t.Cleanup(s.cases.Release)
	s.tickets, err = playback.OpenTickets(ctx, s.content, playback.House{
		Sealing: playback.Sealing{Seal: plain, Open: plain}, Record: s.record,
		Tracks: func(context.Context, yesline.CallID) ([]vault.Recorded, error) { return nil, nil }})
	if err != nil {
		t.Fatalf("opening the tickets: %v", err)
	}
	t.Cleanup(s.tickets.Close)
	for _, c := range []struct {
		name string
		role session.Kind
		in   yesline.ProgramID
	}{{"op", session.Operator, ""}, {"officer", session.Officer, ""}, {"second", session.Officer, program}, {"auditor", session.Auditor, program}, {"buyer", session.Buyer, program}} {
		_, token, err := s.sessions.Appoint(ctx, session.Local(1000), c.role, c.in, func(bool) error { return nil })
		if err != nil {
			t.Fatalf("appointing %s: %v", c.name, err)
		}
		s.use(t, c.name, token)
	}
	if err := s.exec(ctx, `INSERT INTO passkeys (id, account, kind, program, credential, public_key, handle, transports, sign_count, flags, name, created, used, mac)
		VALUES ($1, $2, 'person', $3, 'nothing', $4, 'aGFuZGxl', 'internal', 0, 13, 'Firefox on Android', $5, $6, '')`,
		string(annsPasskey), string(ann), string(program), []byte{1}, day.Add(-90*24*time.Hour).UnixMilli(), day.UnixMilli()); err != nil {
		t.Fatalf("giving ann a passkey: %v", err)
	}
}

func (s *sample) exec(ctx context.Context, query string, args ...any) error {
	return s.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, query, args...)
		return err
	})
}

// signIn gives somebody one more session.
func (s *sample) signIn(t testing.TB, name string, person yesline.PersonID) session.Principal {
	t.Helper()
	token, err := s.sessions.LinkFor(t.Context(), program, person)
	if err != nil {
		t.Fatalf("making a link: %v", err)
	}
	got, err := s.sessions.RedeemAny(t.Context(), token, session.Client{Device: "Safari on iPhone"})
	if err != nil {
		t.Fatalf("signing in: %v", err)
	}
	s.cookies[name] = got.Cookie
	return got.Who
}

// age makes the proof of whoever holds a session that nobody looked up yet old.
func (s *sample) age(t testing.TB, who session.Principal) {
	t.Helper()
	if err := s.exec(t.Context(), `UPDATE sessions SET proved = 1 WHERE id = $1`, string(who.Session())); err != nil {
		t.Fatalf("ageing a session: %v", err)
	}
}

func (s *sample) accounts() Accounts {
	a := s.sessions
	return Accounts{
		RegisterOptions: a.RegisterOptions, SignInOptions: a.SignInOptions, ProofOptions: a.ProofOptions, AddPasskey: a.AddPasskey, SignIn: a.SignIn, Prove: a.Prove,
		PasskeysOf: a.PasskeysOf, RenamePasskey: a.RenamePasskey, RemovePasskey: a.RemovePasskey,
		RecoveryCodes: a.RecoveryCodes, RecoveryLeft: a.RecoveryLeft, Recover: a.Recover,
		SessionsOf: a.SessionsOf, NameSession: a.NameSession, EndSession: a.EndSession, EndOthers: a.EndOthers,
		MakeKey: a.MakeKey, KeysOf: a.KeysOf, EndKey: a.EndKey, DevicesOf: a.DevicesOf,
		AddPhone: func(ctx context.Context, permit access.Permit) (Phone, error) {
			_, user, password, err := a.AddDevice(ctx, program, permit.Who().Person(), false)
			return Phone{Server: "127.0.0.1:5060", Username: user, Password: password}, err
		},
		EndPhone: func(ctx context.Context, permit access.Permit, id yesline.DeviceID) error {
			return a.EndDevice(ctx, permit.Who().Person(), id)
		},
		Cards: consent.Cards,
		Choices: func(_ context.Context, p yesline.PersonID) (consent.Choice, error) {
			c, ok := s.chosen[p]
			if !ok {
				return c, yesline.NotFound
			}
			return c, nil
		},
		Agree: func(_ context.Context, p yesline.PersonID, _ yesline.ProgramID, hash string, on map[consent.Purpose]bool, _ consent.Evidence) error {
			s.chosen[p] = consent.Choice{Terms: hash, Record: on[consent.Record], Share: on[consent.Share], License: on[consent.License]}
			return nil
		},
	}
}

func (s *sample) joining() Joining {
	begin := func(ctx context.Context, claim yesline.ClaimID) (string, error) {
		s.mu.Lock()
		s.sent = append([]Message{{At: time.Now(), To: "+1 ••• ••42", Text: "Your Yesline code is " + rightCode + ". Nobody of ours will ever ask you for it."}}, s.sent...)
		s.mu.Unlock()
		return s.sessions.BeginClaim(ctx, program, claim, yesline.NewSecret([]byte(rightCode)))
	}
	return Joining{
		Open: true,
		Begin: func(ctx context.Context, id yesline.ProgramID, number string) (string, error) {
			if _, err := s.House.Number(ctx, id, number); err != nil {
				return "", err
			}
			return begin(ctx, yesline.NewClaimID())
		},
		Resume:     begin,
		ClaimOf:    s.sessions.ClaimOf,
		ClaimMask:  func(context.Context, yesline.ClaimID) (string, error) { return "+1 ••• ••42", nil },
		ProveClaim: s.sessions.ProveClaim,
		Adult: func(birth string, now time.Time) error {
			born, err := time.Parse(time.DateOnly, birth)
			if err != nil {
				return yesline.Invalid
			}
			if born.AddDate(18, 0, 0).After(now) {
				return yesline.Denied
			}
			return nil
		},
		AgreeClaim: s.sessions.AgreeClaim,
		Finish: func(ctx context.Context, cookie string, credential []byte, name string, from session.Client) (string, session.Principal, []string, error) {
			if _, err := s.sessions.ClaimOf(ctx, cookie); err != nil {
				return "", session.Principal{}, nil, err
			}
			newcomer := yesline.NewPersonID()
			s.mu.Lock()
			s.newcomers = append(s.newcomers, newcomer)
			s.mu.Unlock()
			return s.sessions.Join(ctx, cookie, program, newcomer, credential, name, from)
		},
	}
}

func (s *sample) work() Work {
	return Work{
		Staff: s.sessions.Staff, Dismiss: s.sessions.Dismiss,
		Appoint: func(ctx context.Context, permit access.Permit, role session.Kind, in yesline.ProgramID) (yesline.StaffID, string, error) {
			return s.sessions.Appoint(ctx, permit.Who(), role, in, func(has bool) error { return permit.MayAppoint(role, in, has) })
		},
		AskCase: s.cases.Ask, ApproveCase: s.cases.Approve, RefuseCase: s.cases.Refuse, CloseCase: s.cases.Close,
		CasesByID: s.cases.ByID, ListCases: s.cases.List, OpenBy: s.cases.OpenBy, CasesAbout: s.cases.About,
		RevokeTickets: s.tickets.Revoke, RotateTickets: s.tickets.Rotate,
	}
}

// belongings are the facts of what belongs to an account.
func (s *sample) belongings(ctx context.Context, ids []string) (map[string]access.Facts, error) {
	found := map[string]access.Facts{}
	for _, id := range ids {
		account, err := s.accountOf(ctx, id)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, err
		}
		f := access.Facts{Account: account, Program: program}
		if strings.HasPrefix(account, "stf_") {
			c, err := s.sessions.ColleagueByID(ctx, yesline.StaffID(account))
			if err != nil {
				return nil, err
			}
			f.Program = c.Program
		}
		found[id] = f
	}
	return found, nil
}

func (s *sample) accountOf(ctx context.Context, id string) (account string, err error) {
	query := map[string]string{"ses": `SELECT account FROM sessions WHERE id = $1`, "pky": `SELECT account FROM passkeys WHERE id = $1`,
		"key": `SELECT account FROM api_keys WHERE id = $1`, "dev": `SELECT person FROM devices WHERE id = $1`}[id[:3]]
	if query == "" {
		return id, nil
	}
	err = s.content.QueryRow(ctx, query, id).Scan(&account)
	return account, err
}

func (s *sample) colleagues(ctx context.Context, ids []string) (map[string]access.Facts, error) {
	found := map[string]access.Facts{}
	for _, id := range ids {
		c, err := s.sessions.ColleagueByID(ctx, yesline.StaffID(id))
		if errors.Is(err, yesline.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found[id] = access.Facts{Account: id, Role: c.Role, Program: c.Program}
	}
	return found, nil
}

func (s *sample) as(t testing.TB, name string) session.Principal {
	t.Helper()
	p, err := s.sessions.Who(t.Context(), s.cookies[name])
	if err != nil {
		t.Fatalf("looking %s up: %v", name, err)
	}
	return p
}

// breakGlass makes a case about a call, and lets the second officer approve it.
func (s *sample) breakGlass(t testing.TB, call yesline.CallID, approve bool) access.Case {
	t.Helper()
	return s.breakOpen(t, access.Object{Kind: "call", ID: string(call)}, []yesline.PersonID{ann, bob}, approve)
}

func (s *sample) breakOpen(t testing.TB, object access.Object, owners []yesline.PersonID, approve bool) access.Case {
	t.Helper()
	ctx := t.Context()
	permit, err := s.gate.Ask(ctx, s.as(t, "officer"), access.Break, object, nil)
	if err != nil {
		t.Fatalf("asking to break: %v", err)
	}
	c, err := s.cases.Ask(ctx, permit, owners, "A complaint about threats in this call, made by a party.", "SUP-1042")
	if err != nil {
		t.Fatalf("asking for a case: %v", err)
	}
	s.opened = c
	if !approve {
		return c
	}
	if permit, err = s.gate.Ask(ctx, s.as(t, "second"), access.Approve, access.Object{Kind: "case", ID: string(c.ID)}, nil); err != nil {
		t.Fatalf("asking to approve: %v", err)
	}
	if c, err = s.cases.Approve(ctx, permit); err != nil {
		t.Fatalf("approving: %v", err)
	}
	return c
}

// caseScene is the page of the case that breakGlass made.
const caseScene = "(the case)"

// address is where a scene is.
func (s *sample) address(path string) string {
	if path == caseScene {
		return "/cases/" + string(s.opened.ID)
	}
	return path
}

// claim is somebody who has done so many steps of signing up.
func (s *sample) claim(t testing.TB, steps int) {
	t.Helper()
	ctx := t.Context()
	cookie, err := s.House.Begin(ctx, program, "+12025550142")
	if err == nil && steps > 1 {
		err = s.sessions.ProveClaim(ctx, cookie, rightCode)
	}
	if err == nil && steps > 2 {
		err = s.sessions.AgreeClaim(ctx, cookie, strings.Repeat("a", 64), "record")
	}
	if err != nil {
		t.Fatalf("beginning to sign up: %v", err)
	}
	s.claiming = cookie
}

// furnish gives ann more of everything that an account can have.
func (s *sample) furnish(t testing.TB) {
	t.Helper()
	ctx := t.Context()
	who, err := s.sessions.Who(ctx, s.cookies["ann"])
	if err == nil {
		_, _, err = s.sessions.MakeKey(ctx, who, "Backup at home", []string{"list", "view", "listen"}, 30*24*time.Hour)
	}
	if err == nil {
		_, err = s.sessions.RecoveryCodes(ctx, who)
	}
	if err == nil {
		_, _, _, err = s.sessions.AddDevice(ctx, program, ann, false)
	}
	if err != nil {
		t.Fatalf("furnishing an account: %v", err)
	}
	s.signIn(t, "ann's tablet", ann)
}

// oldOfficer is an officer who signed in a while ago.
func (s *sample) oldOfficer(t testing.TB) {
	t.Helper()
	_, token, err := s.sessions.Appoint(t.Context(), session.Local(1000), session.Officer, "", func(bool) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.sessions.RedeemAny(t.Context(), token, session.Client{})
	if err != nil {
		t.Fatal(err)
	}
	s.cookies["officer old"] = got.Cookie
	s.age(t, got.Who)
}

// there names one of every kind of object, so that for each door somebody may
// pass: see rightful.
func (s *sample) there(t testing.TB) map[string]string {
	t.Helper()
	ctx := t.Context()
	s.furnish(t)
	phones, err := s.sessions.DevicesOf(ctx, string(ann))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := s.sessions.KeysOf(ctx, string(ann))
	if err != nil {
		t.Fatal(err)
	}
	s.breakOpen(t, access.Object{Kind: "person", ID: string(bob)}, []yesline.PersonID{bob}, true)
	waiting := s.breakGlass(t, callID("private"), false)
	s.asked = nil
	return map[string]string{"call": string(callID("both")), "track": string(trkAnn), "receipt": string(receipt), "program": string(program),
		"person": string(bob), "session": string(s.as(t, "ann's tablet").Session()), "passkey": string(annsPasskey), "key": string(keys[0].ID),
		"device": string(phones[0].ID), "case": string(waiting.ID), "staff": s.as(t, "auditor").Account()}
}

// rightful is somebody who may pass a door on what there names.
func (s *sample) rightful(r row) string {
	switch r.rule.Kind {
	case "house", "place", "program", "staff":
		if r.rule.Verb == access.Staff {
			return "officer"
		}
		return "op"
	case "case":
		if r.rule.Verb == access.Approve {
			return "second"
		}
		return "officer"
	}
	if r.rule.Verb == access.Break || r.rule.Kind == "person" && r.rule.Param == "person" {
		return "officer"
	}
	return "ann"
}

// ticketed is a ticket of somebody who may hear the track that a path names, as
// the page of its call would have given it.
func (s *sample) ticketed(name, path string) string {
	ctx := context.Background()
	parts := strings.Split(path, "/")
	if len(parts) != 4 || parts[1] != "tracks" || s.cookies[name] == "" {
		return ""
	}
	who, err := s.sessions.Who(ctx, s.cookies[name])
	if err != nil {
		return ""
	}
	permit, err := s.gate.Ask(ctx, who, access.Listen, access.Object{Kind: "track", ID: parts[2]}, nil)
	if err != nil {
		return ""
	}
	token, _, err := s.tickets.Issue(ctx, permit, toPlay, clientMark(&http.Request{Header: http.Header{}}))
	if err != nil {
		return ""
	}
	return token
}
