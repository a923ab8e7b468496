package web

import (
	"strings"
	"testing"
	"time"

	"yesline"
	"yesline/internal/session"
)

var refusals = []Refused{
	{At: day, Program: program, Word: "premium", Region: "United Kingdom", Times: 3},
	{At: day.Add(-time.Minute), Program: program, Word: "premium", Region: "United Kingdom", Times: 4},
	{At: day.Add(-time.Hour), Program: other, Word: "rate", Times: 900},
	{At: day.Add(-time.Hour), Word: "stranger", Times: 12},
	{At: day.Add(-25 * time.Hour), Program: program, Word: "budget", Times: 1},
}

// Who runs a program sees why its calls were refused and how often, who runs the
// house sees it all, and nobody whose calls they were.
func TestRefusedCallsOnTheHousePage(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	s.refused = refusals
	site := newSite(t, s)
	for who, wants := range map[string]map[string]bool{
		"op":      {"A number that charges extra": true, "United Kingdom": true, "too many calls in a minute": true, "nobody here knows": true, ">7<": true, ">900<": true},
		"second":  {"A number that charges extra": true, "too many calls in a minute": false, "nobody here knows": false, ">7<": true, ">900<": false},
		"auditor": {"money of the day": true, ">900<": false},
	} {
		page := visit(site, s, who, "GET", "/house", nil).Body.String()
		for want, there := range wants {
			if strings.Contains(page, want) != there {
				t.Errorf("the page for %s: %q is there: %v", who, want, !there)
			}
		}
	}
	if got := visit(site, s, "ann", "GET", "/house", nil); got.Code != 404 {
		t.Errorf("for a contributor the page answers %d", got.Code)
	}
}

// The page is bounded, newest first.
func TestRefusedRows(t *testing.T) {
	t.Parallel()
	var many []Refused
	for i := range 5 * refusedOnAPage {
		many = append(many, Refused{At: day.Add(-time.Duration(i) * time.Hour), Word: "rate", Times: 1})
	}
	rows := refusedRows(many, session.Principal{})
	if len(rows) != refusedOnAPage || !rows[0].Hour.Equal(day.Truncate(time.Hour)) || rows[1].Hour.After(rows[0].Hour) {
		t.Errorf("%d rows, the first of %v", len(rows), rows[0].Hour)
	}
	if got := refusedRows([]Refused{{At: day, Program: yesline.ProgramID("prg_a"), Word: "rate", Times: 1}}, session.Principal{}); len(got) != 1 {
		t.Errorf("%d rows for the house, want 1", len(got))
	}
}
