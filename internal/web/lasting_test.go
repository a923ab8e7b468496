package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/consent"
)

var (
	annsYes   = yesline.EntryID(id("ent", "yes"))
	annsOther = yesline.EntryID(id("ent", "other"))
	evesYes   = yesline.EntryID(id("ent", "eves"))
)

// say lets two yeses of ann's last, to bob, and one of eve's.
func (s *sample) say() {
	at := func(d time.Duration) int64 { return day.Add(d).UnixMilli() }
	s.yeses = []consent.LastingYes{
		{ID: annsYes, Other: bob, Way: consent.ByAccount, Call: callID("both"), AtMillis: at(-240 * time.Hour), UsedMillis: at(-time.Hour), LapsesMillis: at(1000 * time.Hour)},
		{ID: annsOther, Other: bob, Way: consent.ByRinging, Call: callID("forgotten"), AtMillis: at(-480 * time.Hour), UsedMillis: at(-480 * time.Hour), LapsesMillis: at(600 * time.Hour)},
	}
}

func (s *sample) lastingOf(_ context.Context, person yesline.PersonID) ([]consent.LastingYes, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if person != ann {
		return nil, nil
	}
	return slices.Clone(s.yeses), nil
}

func (s *sample) endLasting(_ context.Context, permit access.Permit, id yesline.EntryID) error {
	s.tried++
	if _, err := permit.Allows(access.Manage, "account", string(ann)); err != nil {
		return fmt.Errorf("ending: %w", yesline.NotFound)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.yeses)
	s.yeses = slices.DeleteFunc(s.yeses, func(y consent.LastingYes) bool { return y.ID == id })
	if len(s.yeses) == n {
		return fmt.Errorf("ending: %w", yesline.NotFound)
	}
	return nil
}

// A person sees to whom their yes lasts, and ends it by one button: without a
// script, and without showing once more that it is them.
func TestAPersonSeesAndEndsTheirLastingYeses(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	s.say()
	site := newSite(t, s)
	s.age(t, s.signIn(t, "ann old", ann))
	page := visit(site, s, "ann old", "GET", "/me/lasting", nil).Body.String()
	for _, want := range []string{"44 •••• ••07", "Somebody whose call is gone", `href="/calls/` + string(callID("both")) + `"`,
		"Counts when you are signed in", "Counts when we ring your number", `name="lasting" value="` + string(annsYes) + `"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, string(callID("forgotten"))) || strings.Contains(page, string(bob)) {
		t.Error("the page names a call that is not theirs to see, or a person")
	}
	end := visit(site, s, "ann old", "POST", "/me/lasting/end", url.Values{"lasting": {string(annsYes)}})
	if to := end.Header().Get("Location"); end.Code != http.StatusSeeOther || to != "/me/lasting?done=ended" {
		t.Errorf("ending one answers %d, to %q", end.Code, to)
	}
	page = visit(site, s, "ann old", "GET", "/me/lasting?done=ended", nil).Body.String()
	if strings.Contains(page, string(annsYes)) || !strings.Contains(page, "Ended.") || !strings.Contains(page, string(annsOther)) {
		t.Error("the page does not show what was ended")
	}
	if last := s.questions(); !slices.ContainsFunc(last, func(q question) bool { return q.verb == access.Manage && q.detail["part"] == TakesBack }) {
		t.Error("the gate is not told that this takes a yes back")
	}
}

// Of somebody else's, of none and of what is no id the answer is the same.
func TestNobodyEndsAnothersLastingYes(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	s.say()
	site := newSite(t, s)
	absent := visit(site, s, "eve", "POST", "/me/lasting/end", url.Values{"lasting": {string(evesYes)}})
	if absent.Code != http.StatusNotFound {
		t.Errorf("one that is not there answers %d", absent.Code)
	}
	for _, c := range []struct{ who, id string }{{"eve", string(annsYes)}, {"bob", string(annsYes)}, {"eve", "x" + string(annsYes)[1:]}, {"op", string(annsYes)}} {
		got := visit(site, s, c.who, "POST", "/me/lasting/end", url.Values{"lasting": {c.id}})
		if got.Code != absent.Code || got.Body.String() != absent.Body.String() {
			t.Errorf("%s with %.5s is answered %d, and otherwise than of one that is not there", c.who, c.id, got.Code)
		}
	}
	if len(s.yeses) != 2 || s.tried != 3 { // what is no id, and staff, do not come so far
		t.Errorf("%d are left after %d tries", len(s.yeses), s.tried)
	}
	if got := visit(site, s, "op", "GET", "/me/lasting", nil); got.Code != http.StatusNotFound {
		t.Errorf("for staff the page answers %d", got.Code)
	}
	if page := visit(site, s, "bob", "GET", "/me/lasting", nil).Body.String(); strings.Contains(page, string(annsYes)) || !strings.Contains(page, "Nobody") {
		t.Error("bob sees that ann's yes to him lasts")
	}
}

// What the other reads in their log about the page is what they read about the
// list of calls: nothing there names the call of the yes alone.
func TestTheLastingPageIsAskedForLikeTheListOfCalls(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	s.say()
	site := newSite(t, s)
	seen := func(path string) (calls map[string]bool) {
		before := len(s.questions())
		visit(site, s, "ann", "GET", path, nil)
		calls = map[string]bool{}
		for _, q := range s.questions()[before:] {
			if q.verb == access.View {
				if q.detail["part"] != "list" || len(q.detail) != 1 {
					t.Errorf("%s is asked for with %v", path, q.detail)
				}
				calls[q.object.ID] = true
			}
		}
		return calls
	}
	list, lasting := seen("/calls"), seen("/me/lasting")
	delete(lasting, string(callID("forgotten")))
	if len(list) < 2 || len(lasting) != len(list) {
		t.Errorf("the list of calls asks for %d calls, this page for %d", len(list), len(lasting))
	}
}

// A program does the same by a person's key.
func TestLastingYesesByKey(t *testing.T) {
	t.Parallel()
	var ended []yesline.EntryID
	h := newKeyHouse(t, func(h *keyHouse) {
		h.House.Lasting = Lasting{
			Of: func(_ context.Context, person yesline.PersonID) ([]consent.LastingYes, error) {
				if person != h.person["ann"] {
					return nil, nil
				}
				return []consent.LastingYes{{ID: annsYes, Other: h.person["bob"], Way: consent.ByRinging, Call: h.call, AtMillis: 5, UsedMillis: 5, LapsesMillis: 9}}, nil
			},
			End: func(_ context.Context, permit access.Permit, id yesline.EntryID) error {
				if permit.Who().Person() != h.person["ann"] || id != annsYes {
					return yesline.NotFound
				}
				ended = append(ended, id)
				return nil
			},
		}
	})
	got := h.as("ann", "GET", "/api/v1/lasting", "")
	if got.Code != http.StatusOK || !strings.Contains(got.Body.String(), `"id":"`+string(annsYes)+`"`) || !strings.Contains(got.Body.String(), `"used":null`) {
		t.Errorf("answered %d %s", got.Code, got.Body)
	}
	body := `{"id":"` + string(annsYes) + `"}`
	if got := h.as("bob", "POST", "/api/v1/lasting/end", body); got.Code != http.StatusNotFound {
		t.Errorf("another's is answered %d", got.Code)
	}
	if got := h.as("ann", "POST", "/api/v1/lasting/end", body); got.Code != http.StatusNoContent || len(ended) != 1 {
		t.Errorf("ending it is answered %d %s", got.Code, got.Body)
	}
}
