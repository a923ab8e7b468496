package web

import (
	"context"
	"slices"
	"strconv"
	"time"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/consent"
)

// afterCall is how long after its end the log may still tell what was done in a
// call: entries are written beside it.
const afterCall = 30 * time.Second

// during is how a person was asked in a call, whether they then said yes from
// now on, and when it was paused, by their own part of the log. What is the other's alone is not in it.
func (s *Site) during(ctx context.Context, c Call, me yesline.PersonID, mine consent.Standing) (asked string, lasts bool, pauses []pauseView, err error) {
	before := int64(0)
	if !c.Live { // what was looked at since is no deed in the call
		before = c.Began.Add(time.Duration(c.Seconds)*time.Second + afterCall).UnixMilli()
	}
	lines, _, err := s.deeds(ctx, me, []string{string(c.ID)}, before, deedsAtOnce*deedReads)
	if err != nil {
		return "", false, nil, err
	}
	slices.Reverse(lines)
	has := func(verb string) bool {
		return slices.ContainsFunc(lines, func(l audit.Line) bool { return l.Entry.Verb == verb })
	}
	switch {
	case has("lasting.used"):
		asked = "lasting"
	case mine.Record == consent.None:
	case c.Later:
		asked = "during"
	default:
		asked = "before"
	}
	open := map[string]int{} // whose pause goes on: where it is
	for _, l := range lines {
		who, at := actor(l.Entry.Actor, c, me), happened(l.Entry)
		i, paused := open[l.Entry.Actor]
		switch {
		case l.Entry.Verb == "call.paused" && !paused:
			open[l.Entry.Actor] = len(pauses)
			pauses = append(pauses, pauseView{Who: who, Began: at})
		case l.Entry.Verb == "call.resumed" && paused:
			pauses[i].Ended = at
			delete(open, l.Entry.Actor)
		}
	}
	return asked, has("lasting.given"), pauses, nil
}

// happened is when something was done in a call: its entry comes a little later.
func happened(e audit.Entry) time.Time {
	if at, err := strconv.ParseInt(e.Detail["at"], 10, 64); err == nil {
		return millis(at)
	}
	return millis(e.AtMillis)
}
