package web

import (
	"context"
	"errors"
	"fmt"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/consent"
)

// Lasting is what a person said yes to for later calls. It is theirs alone to
// see: the other person learns nothing of it here.
type Lasting struct {
	Of  func(ctx context.Context, person yesline.PersonID) ([]consent.LastingYes, error) // newest first
	End func(ctx context.Context, permit access.Permit, id yesline.EntryID) error        // yesline.NotFound for one that is absent or another's
}

type lastingView struct {
	Yeses []lastingRow
	Done  bool // one was ended just now
}

// lastingRow is one yes; Other and Call are "" when the call in which it was
// given is not there to be seen any more.
type lastingRow struct {
	ID, Other, Call   string
	Way               string // rung, account
	Given, Used, Ends time.Time
}

func (lastingView) template() string { return "lasting" }

// WasUsed reports whether it has counted in a later call.
func (r lastingRow) WasUsed() bool { return r.Used.After(r.Given) }

// lasting shows a person with whom they said yes from now on.
func (s *Site) lasting(ctx context.Context, a asked) (answer, error) {
	rows, err := s.lastingOf(ctx, a)
	return show(lastingView{Yeses: rows, Done: a.URL.Query().Get("done") == "ended"}), err
}

// lastingOf reads the yeses. A row tells of the other person what the list of
// calls tells, so it is asked for like that list, and with it: what the other
// reads in their log does not say with whom a yes lasts.
func (s *Site) lastingOf(ctx context.Context, a asked) ([]lastingRow, error) {
	me := a.Who.Person()
	if me == "" {
		return nil, fmt.Errorf("a lasting yes of staff: %w", yesline.NotFound)
	}
	all, err := s.house.Lasting.Of(ctx, me)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	seen, err := s.listed(ctx, a, all)
	if err != nil {
		return nil, err
	}
	others := make([]yesline.PersonID, len(all))
	for i, y := range all {
		others[i] = y.Other
	}
	masks, err := s.house.Masks(ctx, others)
	if err != nil {
		return nil, err
	}
	rows := make([]lastingRow, len(all))
	for i, y := range all {
		rows[i] = lastingRow{ID: string(y.ID), Way: string(y.Way), Given: millis(y.AtMillis), Used: millis(y.UsedMillis), Ends: millis(y.LapsesMillis)}
		if seen[y.Call] {
			rows[i].Other, rows[i].Call = masks[y.Other], string(y.Call)
		}
	}
	return rows, nil
}

// listed tells which of the yeses' calls their person may see.
func (s *Site) listed(ctx context.Context, a asked, all []consent.LastingYes) (map[yesline.CallID]bool, error) {
	newest, _, err := s.house.Calls(ctx, a.Who.Person(), "", callsOnAPage)
	if err != nil {
		return nil, err
	}
	asked := map[yesline.CallID]bool{}
	var calls []Call
	add := func(call yesline.CallID) {
		if !asked[call] && len(calls) < access.MaxSet {
			asked[call] = true
			calls = append(calls, Call{ID: call})
		}
	}
	for _, y := range all {
		add(y.Call)
	}
	for _, c := range newest {
		add(c.ID)
	}
	calls, err = s.viewed(ctx, a, calls)
	if err != nil && !errors.Is(err, yesline.NotFound) {
		return nil, err
	}
	seen := map[yesline.CallID]bool{}
	for _, c := range calls {
		seen[c.ID] = err == nil
	}
	return seen, nil
}

// endLasting ends one, without a question: a no is never hard.
func (s *Site) endLasting(ctx context.Context, a asked) (answer, error) {
	id, err := field(a, "lasting", len(yesline.NewEntryID()))
	if err != nil {
		return answer{}, err
	}
	return goTo("/me/lasting?done=ended"), s.endYes(ctx, a, id)
}

func (s *Site) endYes(ctx context.Context, a asked, id string) error {
	if a.Who.Person() == "" || !yesline.IsID("ent", id) {
		return fmt.Errorf("ending a lasting yes: %w", yesline.NotFound)
	}
	return s.house.Lasting.End(ctx, a.Permit, yesline.EntryID(id))
}

type (
	lastingItem struct {
		ID    string     `json:"id"`
		Other string     `json:"other" doc:"The other person's number, masked; empty when the call is not there any more"`
		Call  string     `json:"call" doc:"In which it was given; empty when it is not there any more"`
		Way   string     `json:"way" enum:"rung,account" doc:"How the house must know that it is you for it to count: it rang your number, or you are signed in"`
		Given time.Time  `json:"given"`
		Used  *time.Time `json:"used" doc:"When it last counted in a later call"`
		Ends  time.Time  `json:"ends" doc:"When it ends by itself if it is not used before"`
	}
	lastingOut struct {
		Body struct {
			Items []lastingItem `json:"items" nullable:"false"`
		}
	}
	endLastingIn struct {
		Body struct {
			ID string `json:"id" maxLength:"36" doc:"A lasting yes's id"`
		}
	}
)

func (d *desk) apiLasting(ctx context.Context, a asked, _ *nothing) (*lastingOut, error) {
	rows, err := d.lastingOf(ctx, a)
	if err != nil {
		return nil, err
	}
	out := &lastingOut{}
	out.Body.Items = []lastingItem{}
	for _, r := range rows {
		item := lastingItem{ID: r.ID, Other: r.Other, Call: r.Call, Way: r.Way, Given: r.Given, Ends: r.Ends}
		if r.WasUsed() {
			item.Used = &r.Used
		}
		out.Body.Items = append(out.Body.Items, item)
	}
	return out, nil
}

func (d *desk) apiEndLasting(ctx context.Context, a asked, in *endLastingIn) (*noAnswer, error) {
	return &noAnswer{}, d.endYes(ctx, a, in.Body.ID)
}
