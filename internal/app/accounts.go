package app

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/big"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/consent"
	"yesline/internal/keys"
	"yesline/internal/notify"
	"yesline/internal/notify/sms"
	"yesline/internal/people"
	"yesline/internal/session"
	"yesline/internal/web"
)

// openSessions makes the room of those who ask, and tells it where passkeys
// are used.
func (a *App) openSessions(ctx context.Context) (err error) {
	if a.Sessions, err = session.New(ctx, a.ContentDB, a.Config.Realm, session.Sealing{Seal: a.sealField, Open: a.openField, MAC: a.markField}); err != nil {
		return err
	}
	a.Sessions.Record = a.Log.Record
	host := a.Config.Host()
	if isIP(host) { // an address has no passkeys, and browsers refuse to make them
		return nil
	}
	return a.Sessions.UsePasskeys(session.Passkeys{RPID: host, Origin: a.Config.URL, Name: "Yesline"})
}

func (a *App) sealField(ctx context.Context, p yesline.ProgramID, context, data []byte) ([]byte, error) {
	return a.Keys.SealFor(ctx, p, keys.Session, context, data)
}

func (a *App) openField(ctx context.Context, p yesline.ProgramID, context, data []byte) ([]byte, error) {
	return a.Keys.OpenFor(ctx, p, keys.Session, context, data)
}

func (a *App) markField(ctx context.Context, p yesline.ProgramID, data []byte) ([]byte, error) {
	return a.Keys.MACFor(ctx, p, keys.Session, data)
}

// openOutbox makes the way to people's phones: the configured provider, or in
// a demo the desk that its page shows, or none.
func (a *App) openOutbox(ctx context.Context) (err error) {
	var sender notify.Sender
	switch {
	case a.Config.Desk != nil:
		sender = a.Config.Desk
	case a.Config.SMS.URL != "":
		secret, err := a.Config.SMS.Secret()
		if err != nil {
			return err
		}
		provider, err := sms.New(sms.Config{URL: a.Config.SMS.URL, Secret: secret, From: a.Config.SMS.From, Twilio: a.Config.SMS.Twilio})
		if err != nil {
			return err
		}
		a.later(provider.Close)
		sender = provider
	}
	a.canSend = sender != nil
	a.Outbox, err = notify.New(ctx, notify.Parts{Content: a.ContentDB, Jobs: a.Jobs, Record: a.Log.Record, Seal: a.sealField, Open: a.openField,
		To: a.People.Claimed, Mark: a.People.ClaimMark, Sender: sender, PerDay: a.Config.SMS.PerDay, Host: a.Config.Host()})
	if err != nil {
		return err
	}
	a.Jobs.Handle(notify.SendJob, a.Outbox.Send)
	return nil
}

// joining is how somebody who has nothing here gets an account.
func (a *App) joining() web.Joining {
	return web.Joining{
		Open: a.canSend, Begin: a.beginJoin, Resume: a.resumeJoin,
		ClaimOf: a.Sessions.ClaimOf, ClaimMask: a.People.ClaimMask, ProveClaim: a.Sessions.ProveClaim,
		Adult: a.People.Adult, AgreeClaim: a.Sessions.AgreeClaim, Finish: a.finishJoin,
	}
}

func (a *App) beginJoin(ctx context.Context, program yesline.ProgramID, written string) (cookie string, err error) {
	if !a.canSend {
		return "", web.NoCodes
	}
	number, err := a.Number(ctx, program, written)
	if err != nil {
		return "", err
	}
	claim, err := a.People.Claim(ctx, program, number)
	if err != nil {
		return "", err
	}
	return a.sendCode(ctx, program, claim)
}

// resumeJoin goes on with the claim of an invitation. Whoever invited knows the
// number, and that is no proof of it: the code is.
func (a *App) resumeJoin(ctx context.Context, claim yesline.ClaimID) (cookie string, err error) {
	if err := a.People.Renew(ctx, claim); err != nil { // it began with the invitation
		return "", err
	}
	program, _, _, err := a.People.Claimed(ctx, claim)
	if err != nil {
		return "", err
	}
	return a.sendCode(ctx, program, claim)
}

func (a *App) sendCode(ctx context.Context, program yesline.ProgramID, claim yesline.ClaimID) (cookie string, err error) {
	if !a.canSend {
		return "", web.NoCodes
	}
	code, err := newCode()
	if err != nil {
		return "", err
	}
	if cookie, err = a.Sessions.BeginClaim(ctx, program, claim, code); err != nil {
		return "", err
	}
	return cookie, a.Outbox.SendCode(ctx, program, claim, code)
}

// newCode is six digits: five tries at it are allowed.
func newCode() (yesline.Secret, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(1_000_000))
	if err != nil {
		return yesline.Secret{}, err
	}
	return yesline.NewSecret(fmt.Appendf(nil, "%06d", n)), nil
}

// finishJoin makes the account of a claim that is proven and agreed.
func (a *App) finishJoin(ctx context.Context, cookie string, credential []byte, name string, from session.Client) (string, session.Principal, []string, error) {
	nobody := func(err error) (string, session.Principal, []string, error) { return "", session.Principal{}, nil, err }
	claim, err := a.Sessions.ClaimOf(ctx, cookie)
	if err != nil {
		return nobody(err)
	}
	if !claim.Proven || claim.Terms == "" {
		return nobody(fmt.Errorf("an account before its number is proven and its terms are agreed: %w", yesline.Denied))
	}
	person, err := a.People.Settle(ctx, claim.ID, a.known)
	if err != nil {
		return nobody(err)
	}
	// First what they agreed to, then the account: it has no moment without. Who
	// tries again agrees again, to the same.
	ev := consent.Evidence{Channel: "page", Language: "en", AtMillis: time.Now().UnixMilli()}
	if err := a.Consent.Agree(ctx, person, claim.Program, claim.Terms, web.ReadChoices(claim.Choices), ev); err != nil {
		return nobody(err)
	}
	if err := a.People.SetAdult(ctx, person); err != nil {
		return nobody(err)
	}
	return a.Sessions.Join(ctx, cookie, claim.Program, person, credential, name, from)
}

func (a *App) known(ctx context.Context, person yesline.PersonID) (account, calls bool, err error) {
	if account, err = a.Sessions.HasAccount(ctx, person); err != nil {
		return false, false, err
	}
	found, _, err := a.Capture.Calls(ctx, person, "", 1)
	return account, len(found) > 0, err
}

// accounts are the ways into an account, and what hangs on them.
func (a *App) accounts() web.Accounts {
	s := a.Sessions
	return web.Accounts{
		RegisterOptions: s.RegisterOptions, SignInOptions: s.SignInOptions, ProofOptions: s.ProofOptions,
		AddPasskey: s.AddPasskey, SignIn: s.SignIn, Prove: s.Prove,
		PasskeysOf: s.PasskeysOf, RenamePasskey: s.RenamePasskey, RemovePasskey: s.RemovePasskey,
		RecoveryCodes: s.RecoveryCodes, RecoveryLeft: s.RecoveryLeft, Recover: s.Recover,
		SessionsOf: s.SessionsOf, NameSession: s.NameSession, EndSession: s.EndSession, EndOthers: s.EndOthers,
		MakeKey: s.MakeKey, KeysOf: s.KeysOf, EndKey: s.EndKey,
		DevicesOf: s.DevicesOf, AddPhone: a.addPhone, EndPhone: a.endPhone,
		Cards: consent.Cards, Choices: a.Consent.Choices, Agree: a.Consent.Agree,
	}
}

func (a *App) addPhone(ctx context.Context, permit access.Permit) (web.Phone, error) {
	who := permit.Who()
	if _, err := permit.Allows(access.Manage, "account", who.Account()); err != nil {
		return web.Phone{}, err
	}
	if who.Person() == "" {
		return web.Phone{}, fmt.Errorf("a phone for somebody who calls nobody: %w", yesline.Invalid)
	}
	_, user, password, err := a.Sessions.AddDevice(ctx, who.Program(), who.Person(), false)
	server := ""
	if a.Phones != nil {
		server = a.Phones.Address().String()
	}
	return web.Phone{Server: server, Username: user, Password: password}, err
}

func (a *App) endPhone(ctx context.Context, permit access.Permit, id yesline.DeviceID) error {
	if _, err := permit.Allows(access.Manage, "device", string(id)); err != nil {
		return err
	}
	return a.Sessions.EndDevice(ctx, permit.Who().Person(), id)
}

// work is what those who work here do.
func (a *App) work() web.Work {
	return web.Work{
		Staff: a.Sessions.Staff, Appoint: a.appoint, Dismiss: a.Sessions.Dismiss,
		AskCase: a.Cases.Ask, ApproveCase: a.Cases.Approve, RefuseCase: a.Cases.Refuse, CloseCase: a.Cases.Close,
		CasesByID: a.Cases.ByID, ListCases: a.Cases.List, OpenBy: a.Cases.OpenBy, CasesAbout: a.Cases.About,
		RevokeTickets: a.Tickets.Revoke, RotateTickets: a.Tickets.Rotate,
	}
}

// appoint has the permit say who may give which role, in the transaction that
// knows whether the place has an officer.
func (a *App) appoint(ctx context.Context, permit access.Permit, role session.Kind, program yesline.ProgramID) (yesline.StaffID, string, error) {
	return a.Sessions.Appoint(ctx, permit.Who(), role, program, func(hasOfficer bool) error {
		return permit.MayAppoint(role, program, hasOfficer)
	})
}

// colleague is what the cases ask of those who work here.
func (a *App) colleague(ctx context.Context, account string) (access.Colleague, error) {
	c, err := a.Sessions.ColleagueByID(ctx, yesline.StaffID(account))
	if a.Config.Desk != nil { // a demo is over before anybody is three days old
		c.Created -= access.SecondPersonAge.Milliseconds()
	}
	return access.Colleague{By: c.By, Created: c.Created}, err
}

// Invite gives a link to whoever has this number: it leads to an account of
// their own, once they have proven that the number is theirs.
func (a *App) Invite(ctx context.Context, permit access.Permit, id yesline.ProgramID, phone yesline.Phone) (web.Invitation, error) {
	if _, err := permit.Allows(access.Invite, "program", string(id)); err != nil {
		return web.Invitation{}, err
	}
	if !a.canSend {
		return web.Invitation{}, web.NoCodes
	}
	claim, err := a.People.Claim(ctx, id, phone)
	if err != nil {
		return web.Invitation{}, err
	}
	mask, err := a.People.ClaimMask(ctx, claim)
	if err != nil {
		return web.Invitation{}, err
	}
	token, err := a.Sessions.InviteLink(ctx, permit.Who(), id, claim)
	return web.Invitation{Token: token, Mask: mask}, err
}

// Number reads a number as a program's people write it.
func (a *App) Number(ctx context.Context, id yesline.ProgramID, s string) (yesline.Phone, error) {
	terms, err := a.Programs.Terms(ctx, id)
	if err != nil {
		return yesline.Phone{}, err
	}
	return people.Parse(s, terms.Country)
}
