package web

import (
	"context"
	"strconv"
	"strings"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audit"
	"yesline/internal/session"
)

const linesOnAPage = 100

// callLog shows a person who did what to their own voice in one call.
func (s *Site) callLog(ctx context.Context, a asked) (answer, error) {
	me := a.Who.Person()
	c, masks, _, err := s.one(ctx, a)
	if err != nil {
		return answer{}, err
	}
	tracks, err := s.house.Tracks(ctx, c.ID)
	if err != nil {
		return answer{}, err
	}
	before, err := cursor(a.URL.Query().Get("before"))
	if err != nil {
		return answer{}, err
	}
	objects := []string{string(c.ID)}
	owner := map[string]yesline.PersonID{}
	for _, t := range tracks {
		objects = append(objects, string(t.ID))
		owner[string(t.ID)] = t.Person
	}
	var lines []audit.Line
	more := int64(0)
	v := logView{Call: string(c.ID), Began: c.Began.UTC(), Staff: me == ""}
	if v.Staff {
		lines, more, err = s.openedLog(ctx, c, objects, before)
	} else {
		v.Other = masks[otherThan(c.Parties, me)]
		lines, more, err = s.deeds(ctx, me, objects, before, linesOnAPage)
	}
	if err != nil {
		return answer{}, err
	}
	v.More = more
	for _, l := range lines {
		line := inWords(l.Entry, c, me, owner)
		if v.Staff { // who is not a party sees no sides
			line.Who, line.Whose = strings.Replace(line.Who, "other", "party", 1), ""
		}
		v.Lines = fold(v.Lines, line)
	}
	return show(v), nil
}

const (
	deedsAtOnce = 200 // entries that are read of the log at once
	deedReads   = 5   // how often, at most, until a page has enough
)

// deeds are entries of a person's log, newest first, and where those before
// them begin; 0: there are none. A page that waits for news asks the gate twice
// a minute: that stands in the log and hides nothing here.
func (s *Site) deeds(ctx context.Context, me yesline.PersonID, objects []string, before int64, most int) (lines []audit.Line, more int64, err error) {
	for range deedReads {
		some, err := s.house.About(ctx, me, objects, before, deedsAtOnce)
		if err != nil {
			return nil, 0, err
		}
		for _, l := range some {
			if len(lines) == most {
				return lines, lines[most-1].Entry.AtMillis, nil
			}
			if !onlyWaited(l.Entry) {
				lines = append(lines, l)
			}
		}
		if len(some) < deedsAtOnce {
			return lines, 0, nil
		}
		before = some[len(some)-1].Entry.AtMillis
	}
	return lines, before, nil
}

// onlyWaited reports whether an entry is of a page that looked what there is to see
// of one's own.
func onlyWaited(e audit.Entry) bool {
	return (e.Verb == string(access.Dial) || e.Verb == string(access.Talk)) && e.Detail["part"] == "wait"
}

func cursor(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, yesline.NotFound
	}
	return n, nil
}

// inWords gives one entry in the few words that the page knows. It shows ids
// of nobody: who acted is told by what they are to the reader.
func inWords(e audit.Entry, c Call, me yesline.PersonID, owner map[string]yesline.PersonID) logLine {
	l := logLine{At: time.UnixMilli(e.AtMillis).UTC(), Who: actor(e.Actor, c, me), What: e.Verb, Part: e.Detail["part"], Purpose: e.Detail["purpose"],
		Refused: e.Result == "refused", Times: 1}
	l.From, _ = strconv.ParseInt(e.Detail["from"], 10, 64)
	if l.Part == "sound" || l.Part == "original" { // other entries tell seconds that never left
		l.Seconds, _ = strconv.ParseInt(e.Detail["seconds"], 10, 64)
	}
	if p, ok := owner[e.Object]; ok {
		l.Whose = "theirs"
		if p == me {
			l.Whose = "yours"
		}
	}
	return l
}

func actor(name string, c Call, me yesline.PersonID) string {
	switch {
	case name == string(me):
		return "you"
	case strings.HasPrefix(name, "svc:"):
		return "house"
	case strings.HasPrefix(name, "os:"), strings.HasPrefix(name, string(session.Operator)):
		return "operator"
	case strings.HasPrefix(name, "stf_"):
		return "staff"
	}
	for _, p := range c.Parties {
		if name == string(p) {
			return "other"
		}
	}
	return "somebody"
}

// fold joins the windows of one listening into one line, newest first: the
// line above begins where this one ends.
func fold(lines []logLine, l logLine) []logLine {
	if len(lines) > 0 && l.Seconds > 0 {
		above := &lines[len(lines)-1]
		same := above.Who == l.Who && above.What == l.What && above.Part == l.Part && above.Whose == l.Whose && above.Refused == l.Refused
		if same && above.From == l.From+l.Seconds && above.At.Sub(l.At) < 10*time.Minute {
			above.From, above.Seconds, above.Times, above.At = l.From, above.Seconds+l.Seconds, above.Times+1, l.At
			return lines
		}
	}
	return append(lines, l)
}

func (s *Site) receipt(ctx context.Context, a asked) (answer, error) {
	id := yesline.ReceiptID(a.PathValue("receipt"))
	r, err := s.house.Receipt(ctx, a.Permit, id)
	if err != nil {
		return answer{}, err
	}
	return show(receiptView{ID: string(id), Call: string(r.Call), What: r.Statement.Verb, Track: r.Statement.Object,
		At: time.UnixMilli(r.Statement.AtMillis).UTC(), Key: s.house.LogKey}), nil
}

func (s *Site) receiptJSON(ctx context.Context, a asked) (answer, error) {
	r, err := s.house.Receipt(ctx, a.Permit, yesline.ReceiptID(a.PathValue("receipt")))
	if err != nil {
		return answer{}, err
	}
	return file("yesline-receipt.json", r.JSON), nil
}
