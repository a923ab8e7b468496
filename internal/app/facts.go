package app

import (
	"cmp"
	"context"
	"errors"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/consent"
	"yesline/internal/playback"
	"yesline/internal/vault"
)

// The gate's facts: each kind of object is described by the room that owns it.
// An absent object costs the look-ups of one that is there: where a second one
// hangs on what the first found, it asks for the phantoms, which nobody is.
const (
	phantomCall   = yesline.CallID("cal_phantom")
	phantomPerson = yesline.PersonID("per_phantom")
)

func (a *App) facts() map[string]access.Loader {
	return map[string]access.Loader{
		"call": a.callFacts, "track": a.trackFacts, "person": a.personFacts, "receipt": a.receiptFacts, "program": a.programFacts,
		"account": a.accountFacts, "session": a.belongingFacts("session"), "passkey": a.belongingFacts("passkey"),
		"key": a.belongingFacts("key"), "device": a.belongingFacts("device"), "case": a.caseFacts, "staff": a.staffFacts,
	}
}

func (a *App) caseFacts(ctx context.Context, ids []string) (map[string]access.Facts, error) {
	return a.Cases.Facts(ctx, ids)
}

func (a *App) belongingFacts(kind string) access.Loader {
	return func(ctx context.Context, ids []string) (map[string]access.Facts, error) {
		held, err := a.Sessions.Holders(ctx, kind, ids)
		if err != nil {
			return nil, err
		}
		facts := make(map[string]access.Facts, len(held))
		for id, h := range held {
			facts[id] = access.Facts{Program: h.Program, Account: h.Account}
		}
		return facts, nil
	}
}

// accountFacts are those of a person's account, or of a colleague's.
func (a *App) accountFacts(ctx context.Context, ids []string) (map[string]access.Facts, error) {
	return each(ids, func(id string) (access.Facts, error) {
		if yesline.IsID("stf", id) {
			c, err := a.Sessions.ColleagueByID(ctx, yesline.StaffID(id))
			return access.Facts{Program: c.Program, Account: id}, err
		}
		program, err := a.People.Program(ctx, yesline.PersonID(id))
		return access.Facts{Program: program, Account: id}, err
	})
}

func (a *App) staffFacts(ctx context.Context, ids []string) (map[string]access.Facts, error) {
	return each(ids, func(id string) (access.Facts, error) {
		c, err := a.Sessions.ColleagueByID(ctx, yesline.StaffID(id))
		return access.Facts{Program: c.Program, Account: id, Role: c.Role}, err
	})
}

// openTo tells which officers have an open case about an object. An absent one
// costs the same look, which is into memory.
func (a *App) openTo(ctx context.Context, kind string, ids []string) (map[access.Object][]string, error) {
	objects := make([]access.Object, len(ids))
	for i, id := range ids {
		objects[i] = access.Object{Kind: kind, ID: id}
	}
	return a.Cases.OpenTo(ctx, objects)
}

func (a *App) callFacts(ctx context.Context, ids []string) (map[string]access.Facts, error) {
	calls, err := a.Capture.ByID(ctx, ids)
	if err != nil {
		return nil, err
	}
	open, err := a.openTo(ctx, "call", ids)
	if err != nil {
		return nil, err
	}
	facts := map[string]access.Facts{}
	for id, c := range calls {
		f := access.Facts{Program: c.Program, OpenTo: open[access.Object{Kind: "call", ID: id}]}
		for _, p := range c.Parties {
			f.Parties = append(f.Parties, p.Person)
		}
		facts[id] = f
	}
	return facts, nil
}

func (a *App) trackFacts(ctx context.Context, ids []string) (map[string]access.Facts, error) {
	if len(ids) == 1 && playback.Carries(ctx, yesline.TrackID(ids[0])) {
		return each(ids, func(id string) (access.Facts, error) { return a.playingFacts(ctx, yesline.TrackID(id)) })
	}
	tracks, err := a.Register.ByID(ctx, ids)
	if err != nil {
		return nil, err
	}
	var calls []yesline.CallID
	seen := map[yesline.CallID]bool{}
	for _, id := range ids {
		call := phantomCall
		if t, ok := tracks[id]; ok {
			call = t.Call
		}
		if !seen[call] {
			seen[call] = true
			calls = append(calls, call)
		}
	}
	all, err := a.Consent.Standings(ctx, calls)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(calls))
	for i, c := range calls {
		names[i] = string(c)
	}
	open, err := a.openTo(ctx, "call", names)
	if err != nil {
		return nil, err
	}
	facts := map[string]access.Facts{}
	for id, t := range tracks {
		f := factsOf(t, all[t.Call])
		f.OpenTo = open[access.Object{Kind: "call", ID: string(t.Call)}]
		facts[id] = f
	}
	return facts, nil
}

// playingFacts are those of a track that whoever asks knows of already: from
// memory, which hangs on watches. For others the time it takes would tell
// whether there is such a track.
func (a *App) playingFacts(ctx context.Context, id yesline.TrackID) (access.Facts, error) {
	t, err := a.Register.Playing(ctx, id)
	if err != nil {
		return access.Facts{}, err
	}
	standings, err := a.Views.Of(ctx, t.Call)
	if err != nil {
		return access.Facts{}, err
	}
	open, err := a.openTo(ctx, "call", []string{string(t.Call)})
	f := factsOf(t, standings)
	f.OpenTo = open[access.Object{Kind: "call", ID: string(t.Call)}]
	return f, err
}

func factsOf(t vault.Recorded, standings map[yesline.PersonID]consent.Standing) access.Facts {
	s := standings[t.Person]
	f := access.Facts{Program: t.Program, Owner: t.Person, Generation: s.Generation, Kept: s.Kept() && t.State != vault.Destroyed}
	for person := range standings {
		f.Parties = append(f.Parties, person)
		if s.Share && person != t.Person {
			f.SharedWith = append(f.SharedWith, person)
		}
	}
	return f
}

func (a *App) personFacts(ctx context.Context, ids []string) (map[string]access.Facts, error) {
	open, err := a.openTo(ctx, "person", ids)
	if err != nil {
		return nil, err
	}
	return each(ids, func(id string) (access.Facts, error) {
		program, err := a.People.Program(ctx, yesline.PersonID(id))
		return access.Facts{Program: program, Owner: yesline.PersonID(id), OpenTo: open[access.Object{Kind: "person", ID: id}]}, err
	})
}

func (a *App) receiptFacts(ctx context.Context, ids []string) (map[string]access.Facts, error) {
	kept, err := a.Log.ReceiptsByID(ctx, ids)
	if err != nil {
		return nil, err
	}
	owners := map[string]yesline.PersonID{}
	for _, k := range kept {
		owners[string(k.ID)] = k.Person
	}
	return each(ids, func(id string) (access.Facts, error) {
		owner := cmp.Or(owners[id], phantomPerson)
		program, err := a.People.Program(ctx, owner)
		return access.Facts{Program: program, Owner: owner}, err
	})
}

func (a *App) programFacts(ctx context.Context, ids []string) (map[string]access.Facts, error) {
	return each(ids, func(id string) (access.Facts, error) {
		t, err := a.Programs.Terms(ctx, yesline.ProgramID(id))
		return access.Facts{Program: t.ID}, err
	})
}

// each looks ids up one by one; those that are absent are left out.
func each(ids []string, one func(id string) (access.Facts, error)) (map[string]access.Facts, error) {
	facts := map[string]access.Facts{}
	for _, id := range ids {
		f, err := one(id)
		if errors.Is(err, yesline.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		facts[id] = f
	}
	return facts, nil
}
