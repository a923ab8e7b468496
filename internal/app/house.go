package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audio"
	"yesline/internal/audit"
	"yesline/internal/capture"
	"yesline/internal/consent"
	"yesline/internal/program"
	"yesline/internal/session"
	"yesline/internal/vault"
	"yesline/internal/web"
)

// house hands the web its rooms.
func (a *App) house(answers *web.Answers, cursors yesline.Secret) web.House {
	return web.House{
		Log: a.Report, Secure: strings.HasPrefix(a.Config.URL, "https:"), LogKey: a.Log.VerifierKey(),
		RedeemAny: a.Sessions.RedeemAny, Who: a.Sessions.Who, End: a.Sessions.End, Ask: a.ask, AskSet: a.Gate.AskSet,
		Accounts: a.accounts(), Joining: a.joining(), Work: a.work(),
		Tickets: web.Tickets{Issue: a.Tickets.Issue, Check: a.Tickets.Check, Slide: a.Tickets.Slide},
		Outbox:  a.outbox(),
		Try:     a.Config.Stage.Try,
		Dialer:  a.dialer(),
		API: web.API{WhoKey: a.Sessions.WhoKey, WhoKeyID: a.Sessions.WhoKeyID, KeyOf: a.Tickets.KeyOf,
			Address: a.Config.ClientAddress, Answers: answers, CursorKey: cursors},
		Calls: a.calls, Call: a.call, Masks: a.People.Masks, Standings: a.Consent.Standings, Tracks: a.tracks,
		Set: a.Consent.Set, Withdraw: a.withdraw,
		Shape: a.Player.Shape, Part: a.Player.Part, Original: a.Player.Original, Done: a.Player.Done, Peaks: a.Player.Peaks,
		Lasting: a.lasting(), Refused: a.refused,
		About: a.about, Receipts: a.receipts, Receipt: a.receipt,
		Reveal: a.People.Reveal,
		Live:   a.live, Checkpoint: a.checkpoint, Programs: a.programs, Verify: a.Log.Verify, Number: a.Number,
		Invite:        a.Invite,
		LogCheckpoint: a.logCheckpoint, LogTile: a.logTile,
	}
}

func (a *App) logCheckpoint(ctx context.Context) (string, error) {
	cp, err := a.Log.Checkpoint(ctx)
	return cp.Note, err
}

func (a *App) logTile(ctx context.Context, path string) ([]byte, error) {
	level, n, width, err := audit.ParseTilePath(path)
	if err != nil {
		return nil, err
	}
	return a.Log.Tile(ctx, level, n, width)
}

// outbox is what a demo would have sent; nil in every other house.
func (a *App) outbox() func() []web.Message {
	if a.Config.Desk == nil {
		return nil
	}
	return func() (all []web.Message) {
		for _, m := range a.Config.Desk.Sheets() {
			all = append(all, web.Message{At: m.At, To: m.Mask, Text: m.Text})
		}
		return all
	}
}

// ask is the gate's. Asking to take a yes back may spend the reserve.
func (a *App) ask(ctx context.Context, who session.Principal, v access.Verb, o access.Object, detail map[string]string) (p access.Permit, err error) {
	ask := func() (err error) { p, err = a.Gate.Ask(ctx, who, v, o, detail); return err }
	if v == access.Withdraw || detail["part"] == web.TakesBack {
		err = a.reserve.first(ask)
	} else {
		err = ask()
	}
	return p, err
}

// withdraw is consent's, and may spend the reserve.
func (a *App) withdraw(ctx context.Context, permit access.Permit, call yesline.CallID, p consent.Purpose, ev consent.Evidence) error {
	return a.reserve.first(func() error { return a.Consent.Withdraw(ctx, permit, call, p, ev) })
}

func (a *App) calls(ctx context.Context, person yesline.PersonID, cursor string, limit int) ([]web.Call, string, error) {
	found, next, err := a.Capture.Calls(ctx, person, cursor, limit)
	if err != nil {
		return nil, "", err
	}
	views, err := a.callViews(ctx, found)
	return views, next, err
}

func (a *App) call(ctx context.Context, id yesline.CallID) (web.Call, error) {
	c, err := a.Capture.Call(ctx, id)
	if err != nil {
		return web.Call{}, err
	}
	views, err := a.callViews(ctx, []capture.Call{c})
	if err != nil {
		return web.Call{}, err
	}
	return views[0], nil
}

// callViews are calls as pages show them: at most 500, with one look-up.
func (a *App) callViews(ctx context.Context, calls []capture.Call) ([]web.Call, error) {
	ids := make([]yesline.CallID, len(calls))
	for i, c := range calls {
		ids[i] = c.ID
	}
	rules, err := a.Consent.Rules(ctx, ids)
	if err != nil {
		return nil, err
	}
	views := make([]web.Call, len(calls))
	for i, c := range calls {
		views[i] = callView(c, rules[c.ID])
	}
	return views, nil
}

func callView(c capture.Call, rule consent.Rule) web.Call {
	v := web.Call{ID: c.ID, Began: time.UnixMilli(c.Started).UTC(), Live: c.Ended == 0, Strict: !rule.OneSided, Later: rule.Ask == program.AskDuring}
	end := c.Ended
	if v.Live {
		end = time.Now().UnixMilli()
	}
	v.Seconds = (end - c.Started) / 1000
	for _, p := range c.Parties {
		v.Parties = append(v.Parties, p.Person)
	}
	return v
}

func (a *App) tracks(ctx context.Context, call yesline.CallID) ([]web.Track, error) {
	found, err := a.Register.Tracks(ctx, call)
	if err != nil {
		return nil, err
	}
	views := make([]web.Track, len(found))
	for i, t := range found {
		views[i] = web.Track{ID: t.ID, Person: t.Person, Seconds: t.Seconds, Closed: t.Finished, Gone: t.State == vault.Destroyed, Opus: t.Codec == audio.Opus,
			Measured: t.Measured, Speech: t.SpeechMillis / 1000}
	}
	return views, nil
}

// about merges the person's lines about several objects, newest first.
func (a *App) about(ctx context.Context, person yesline.PersonID, objects []string, before int64, limit int) ([]audit.Line, error) {
	var lines []audit.Line
	for _, o := range objects {
		found, err := a.Log.About(ctx, person, o, before, limit)
		if err != nil {
			return nil, err
		}
		lines = append(lines, found...)
	}
	slices.SortStableFunc(lines, func(x, y audit.Line) int { return cmp.Compare(y.Entry.AtMillis, x.Entry.AtMillis) })
	return lines[:min(len(lines), limit)], nil
}

func (a *App) receipts(ctx context.Context, call yesline.CallID, person yesline.PersonID) ([]yesline.ReceiptID, error) {
	kept, err := a.Log.Receipts(ctx, person, string(call))
	var ids []yesline.ReceiptID
	for _, k := range kept {
		ids = append(ids, k.ID)
	}
	return ids, err
}

func (a *App) receipt(ctx context.Context, permit access.Permit, id yesline.ReceiptID) (web.Receipt, error) {
	if _, err := permit.Allows(access.Receipt, "receipt", string(id)); err != nil {
		return web.Receipt{}, err
	}
	kept, err := a.Log.ReceiptsByID(ctx, []string{string(id)})
	if err != nil {
		return web.Receipt{}, err
	}
	if len(kept) != 1 || kept[0].Person != permit.Who().Person() {
		return web.Receipt{}, fmt.Errorf("a receipt: %w", yesline.NotFound)
	}
	json, err := a.Log.Receipt(ctx, kept[0].Ref, kept[0].Person)
	if err != nil {
		return web.Receipt{}, err
	}
	statement, err := audit.VerifyReceipt(json, a.Log.VerifierKey())
	if err != nil {
		return web.Receipt{}, err
	}
	return web.Receipt{Statement: statement, Call: yesline.CallID(kept[0].About), JSON: json}, nil
}

func (a *App) live(context.Context) (int, error) { return a.Capture.Going(), nil }

func (a *App) checkpoint(ctx context.Context) (web.Checkpoint, error) {
	cp, err := a.Log.Checkpoint(ctx)
	if errors.Is(err, yesline.NotFound) {
		return web.Checkpoint{}, nil
	}
	return web.Checkpoint{Entries: cp.Size, Note: cp.Note, At: cp.At}, err
}

func (a *App) programs(ctx context.Context) ([]web.Program, error) {
	all, err := a.Programs.All(ctx)
	var views []web.Program
	for _, t := range all {
		views = append(views, web.Program{ID: t.ID, Name: t.Name})
	}
	return views, err
}
