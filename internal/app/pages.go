package app

import (
	"context"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/capture/tolls"
	"yesline/internal/web"
)

// lasting hands the pages what a person said yes to for later calls. To end one
// is a no, so it may spend the reserve.
func (a *App) lasting() web.Lasting {
	return web.Lasting{Of: a.Consent.LastingOf, End: func(ctx context.Context, permit access.Permit, id yesline.EntryID) error {
		return a.reserve.first(func() error { return a.Consent.EndLasting(ctx, permit, id) })
	}}
}

// refusedMost is how many kinds of refusal, each of a minute, staff look at.
const refusedMost = 500

// refused is why calls were not placed, without who wanted to place them.
func (a *App) refused(ctx context.Context) ([]web.Refused, error) {
	all, err := a.Tolls.Refused(ctx, refusedMost)
	views := make([]web.Refused, len(all))
	for i, r := range all {
		views[i] = web.Refused{At: r.At, Program: r.Program, Word: r.Word, Times: r.Times}
		if r.Region != "" {
			views[i].Region = tolls.Country(r.Region)
		}
	}
	return views, err
}
