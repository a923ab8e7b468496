package web

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/consent"
)

// said is a line of ann's log of the call "both", so long after its beginning.
func said(actor yesline.PersonID, verb string, after time.Duration) audit.Line {
	at := day.Add(after).UnixMilli()
	return audit.Line{Entry: audit.Entry{Actor: string(actor), Verb: verb, Object: string(callID("both")), Result: "done",
		Detail: map[string]string{"at": strconv.FormatInt(at, 10)}, AtMillis: at + 1500}}
}

// The page of a call tells how one was asked in it, and when it was paused and
// by whom.
func TestACallTellsHowOneWasAskedAndItsPauses(t *testing.T) {
	t.Parallel()
	path := "/calls/" + string(callID("both"))
	for _, c := range []struct {
		name  string
		lines []audit.Line // newest first
		later bool
		wants []string
		lacks []string
	}{
		{"before", []audit.Line{said(ann, "consent.yes", 9*time.Second)}, false, []string{"You were asked before you talked."}, []string{"Pauses", "from now on"}},
		{"during", []audit.Line{said(ann, "consent.yes", 90*time.Second)}, true, []string{"You were asked during the call."}, []string{"Pauses"}},
		{"given", []audit.Line{said(ann, "lasting.given", 9*time.Second)}, false, []string{"asked before", "You said yes from now on.", `href="/me/lasting"`}, nil},
		{"used", []audit.Line{said(ann, "lasting.used", 9*time.Second)}, true, []string{"You were not asked", `href="/me/lasting"`}, []string{"asked during"}},
		{"pauses", []audit.Line{said(bob, "call.paused", 70*time.Second), said(ann, "call.resumed", 40*time.Second), said(bob, "call.resumed", 35*time.Second),
			said(bob, "call.paused", 30*time.Second), said(ann, "call.paused", 20*time.Second)}, false,
			[]string{`You paused the recording at <time datetime="2026-03-03T14:02:20Z">`, `and went on at <time datetime="2026-03-03T14:02:40Z">`,
				`The other person paused the recording at <time datetime="2026-03-03T14:02:30Z">`, "until the call ended"}, nil},
	} {
		s := newSample(t)
		s.lines = append(c.lines, said(ann, "call.begun", 0))
		for i := range s.calls {
			s.calls[i].Later = c.later
		}
		got := visit(newSite(t, s), s, "ann", "GET", path, nil)
		page := got.Body.String()
		if got.Code != http.StatusOK {
			t.Fatalf("%s: answered %d", c.name, got.Code)
		}
		for _, want := range c.wants {
			if !strings.Contains(page, want) {
				t.Errorf("%s: the page lacks %q", c.name, want)
			}
		}
		for _, lack := range c.lacks {
			if strings.Contains(page, lack) {
				t.Errorf("%s: the page has %q", c.name, lack)
			}
		}
	}
}

// A call in which nobody wanted to record was not asked about: nobody is told
// that they gave no answer.
func TestACallThatWasNotAskedAbout(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	for i := range s.calls {
		s.calls[i].Later = true
	}
	s.standings[callID("silent")] = map[yesline.PersonID]consent.Standing{}
	page := visit(newSite(t, s), s, "ann", "GET", "/calls/"+string(callID("silent")), nil).Body.String()
	if !strings.Contains(page, "nobody was asked") || strings.Contains(page, "No answer") || strings.Contains(page, "counts as no") {
		t.Error("the page tells of an answer")
	}
}

// What was looked at since the call is not read for it, however much that is.
func TestOnlyTheTimeOfTheCallIsRead(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	before := int64(-1)
	about := s.About
	s.House.About = reading(about, &before)
	visit(newSite(t, s), s, "ann", "GET", "/calls/"+string(callID("both")), nil)
	end := day.Add(192 * time.Second)
	if before < end.UnixMilli() || before > end.Add(time.Minute).UnixMilli() {
		t.Errorf("the log was read back from %v, want from soon after %v", time.UnixMilli(before).UTC(), end)
	}
}

func reading(about aboutFunc, last *int64) aboutFunc {
	return func(ctx context.Context, person yesline.PersonID, objects []string, before int64, limit int) ([]audit.Line, error) {
		if *last == -1 {
			*last = before
		}
		return about(ctx, person, objects, before, limit)
	}
}

type aboutFunc = func(ctx context.Context, person yesline.PersonID, objects []string, before int64, limit int) ([]audit.Line, error)
