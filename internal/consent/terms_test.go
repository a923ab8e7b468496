package consent_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"yesline"
	"yesline/internal/consent"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
)

// each tells a story on both databases.
func each(t *testing.T, story func(t *testing.T, r *room)) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) { story(t, openOn(t, open, false)) })
}

func cards(t *testing.T) consent.Terms {
	t.Helper()
	terms, err := consent.Cards()
	if err != nil {
		t.Fatal(err)
	}
	return terms
}

func onPage() consent.Evidence {
	return consent.Evidence{Channel: "page", Language: "en", AtMillis: time.Now().UnixMilli()}
}

func (r *room) chooses(t *testing.T, person yesline.PersonID, record, share, license bool) {
	t.Helper()
	choices := map[consent.Purpose]bool{consent.Record: record, consent.Share: share, consent.License: license}
	if err := r.Agree(t.Context(), person, r.program, cards(t).SHA256, choices, onPage()); err != nil {
		t.Fatal(err)
	}
}

// calls opens another call between ann and bob; r is then about that one.
func (r *room) calls(t *testing.T) {
	t.Helper()
	r.call = yesline.NewCallID()
	if err := r.Open(t.Context(), r.call, r.program, []consent.Party{{Person: r.ann}, {Person: r.bob}}); err != nil {
		t.Fatal(err)
	}
}

func (r *room) stands(t *testing.T, person yesline.PersonID) consent.Standing {
	t.Helper()
	s, err := r.Of(t.Context(), r.call, person)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The texts of each version are as they were when somebody agreed to them: a
// new text is a new folder.
func TestTheTermsDoNotChange(t *testing.T) {
	t.Parallel()
	for version, hash := range map[string]string{
		"1": "f038a98438b276d1531f6a0e31514a610a7fd310fadb8db74def4914b7c948d9",
	} {
		terms, err := consent.CardsOf(hash)
		if err != nil {
			t.Errorf("version %s: %v; its text was edited. Now it is %s", version, err, cards(t).SHA256)
			continue
		}
		if terms.SHA256 != hash {
			t.Errorf("version %s gives another text", version)
		}
	}
	if _, err := consent.CardsOf(strings.Repeat("0", 64)); !errors.Is(err, yesline.NotFound) {
		t.Errorf("a text that was never shown: %v", err)
	}
}

// A card is a title, two sentences and a full text, for each of three purposes.
func TestCards(t *testing.T) {
	t.Parallel()
	terms := cards(t)
	want := []consent.Purpose{consent.Record, consent.Share, consent.License}
	if len(terms.Cards) != len(want) || len(terms.SHA256) != 64 {
		t.Fatalf("%d cards with the hash %q", len(terms.Cards), terms.SHA256)
	}
	for i, c := range terms.Cards {
		sentences := strings.Count(c.Short, ". ") + strings.Count(c.Short, ".\n")
		if c.Purpose != want[i] || c.Title == "" || strings.HasSuffix(c.Title, ".") || sentences != 1 || !strings.HasSuffix(c.Short, ".") || len(c.Full) < 2 {
			t.Errorf("the card of %s is not two sentences with a full text: %+v", want[i], c)
		}
	}
}

// Who said no to being recorded in the terms is not, in any call, and neither
// is the other while everybody's yes is needed.
func TestANoInTheTermsHoldsInEveryCall(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		r.chooses(t, r.ann, false, true, true)
		r.calls(t)
		if s := r.stands(t, r.ann); s.Record != consent.No {
			t.Fatalf("ann stands at %q, want no", s.Record)
		}
		err := r.Answer(t.Context(), consent.Answer{Call: r.call, Person: r.ann, Purpose: consent.Record, Yes: true, Evidence: pressed("1")})
		if !errors.Is(err, yesline.Conflict) {
			t.Errorf("a yes after the no of the terms: %v", err)
		}
		r.says(t, r.ann, false) // and a no says nothing new
		r.says(t, r.bob, true)
		r.mayRecord(t, r.ann, false)
		r.mayRecord(t, r.bob, false)
		if s := r.stands(t, r.ann); s.Share || s.License {
			t.Error("a voice that nobody keeps is shared or licensed")
		}
		events, err := r.History(t.Context(), r.call)
		if err != nil || len(events) == 0 || events[0].Channel != consent.ByTerms || events[0].What != consent.No ||
			events[0].PromptSHA256 != cards(t).SHA256 || events[0].Person != r.ann {
			t.Errorf("the history: %+v, %v", events, err)
		}

		r.chooses(t, r.ann, true, false, false) // changed her mind: the next call asks her
		r.calls(t)
		r.says(t, r.ann, true)
		r.says(t, r.bob, true)
		r.mayRecord(t, r.ann, true)
	})
}

// Share and license take effect when the person says yes in a call, for their
// own voice, with the text they agreed to.
func TestChoicesTakeEffectWithTheYes(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		r.chooses(t, r.ann, true, true, false)
		r.chooses(t, r.bob, true, false, true)
		r.calls(t)
		if s := r.stands(t, r.ann); s.Share || s.License || s.Record != consent.None {
			t.Errorf("before any answer ann stands at %+v", s)
		}
		r.says(t, r.ann, true)
		r.says(t, r.bob, true)
		if s := r.stands(t, r.ann); !s.Share || s.License || s.Record != consent.Yes {
			t.Errorf("ann stands at %+v, want share alone", s)
		}
		if s := r.stands(t, r.bob); s.Share || !s.License || s.Record != consent.Yes {
			t.Errorf("bob stands at %+v, want license alone", s)
		}
		r.mayRecord(t, r.ann, true)
		events, err := r.History(t.Context(), r.call)
		if err != nil {
			t.Fatal(err)
		}
		effects := 0
		for _, e := range events {
			if e.Channel != consent.ByTerms {
				continue
			}
			effects++
			if e.PromptSHA256 != cards(t).SHA256 || e.What != consent.Yes || e.Purpose == consent.Record {
				t.Errorf("an effect of the terms: %+v", e)
			}
		}
		if effects != 2 {
			t.Errorf("%d effects of the terms, want 2", effects)
		}

		// In a call with a no they take no effect, and a withdrawal takes all.
		r.withdraw(t, r.ann)
		if s := r.stands(t, r.ann); s.Share || s.License || s.Kept() {
			t.Errorf("after withdrawing ann stands at %+v", s)
		}
		r.calls(t)
		r.says(t, r.bob, false)
		if s := r.stands(t, r.bob); s.License || s.Share {
			t.Errorf("bob said no and stands at %+v", s)
		}
	})
}

// A caller's number proves nothing: whoever shows it says yes for themselves,
// and gives nothing that its owner chose.
func TestACallersNumberGivesNothingOfTheTerms(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		r.chooses(t, r.ann, true, true, true)
		for i, way := range []consent.Way{consent.ByCallerID, "hearsay", consent.ByRinging, consent.ByAccount} {
			r.calls(t)
			yes := consent.Answer{Call: r.call, Person: r.ann, Purpose: consent.Record, Yes: true, Way: way, Evidence: pressed("1")}
			if err := r.Answer(t.Context(), yes); err != nil {
				t.Fatal(err)
			}
			if s := r.stands(t, r.ann); s.Record != consent.Yes || s.Share != (i > 1) || s.License != (i > 1) {
				t.Errorf("known by %q: ann stands at %+v", way, s)
			}
		}
		r.calls(t)
		if r.lets(t, r.ann, consent.Asked{Way: consent.ByCallerID, Words: words}) {
			t.Error("the yes of a caller's number lasts")
		}
		if s := r.stands(t, r.ann); s.Record != consent.Yes || s.Share || s.License {
			t.Errorf("with a 3 ann stands at %+v", s)
		}
	})
}

// Contacts never saw terms: they are asked in each call and no more.
func TestWhoNeverSawTheTerms(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		if _, err := r.Choices(t.Context(), r.bob); !errors.Is(err, yesline.NotFound) {
			t.Errorf("bob's choices: %v", err)
		}
		r.chooses(t, r.ann, true, true, true)
		r.calls(t)
		r.says(t, r.bob, true)
		if s := r.stands(t, r.bob); s.Record != consent.Yes || s.Share || s.License {
			t.Errorf("bob stands at %+v, want his yes and no more", s)
		}
	})
}

// The newest choice stands, all are kept and told, and forgetting takes them.
func TestChoicesAreKept(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		r.chooses(t, r.ann, true, true, true)
		r.chooses(t, r.ann, true, false, false)
		now, err := r.Choices(t.Context(), r.ann)
		if err != nil || !now.Record || now.Share || now.License || now.Terms != cards(t).SHA256 || now.AtMillis == 0 {
			t.Errorf("she chose %+v, %v", now, err)
		}
		all, err := r.ChoicesBefore(t.Context(), r.ann, 10)
		if err != nil || len(all) != 2 || all[0] != now || !all[1].License {
			t.Errorf("the history: %+v, %v", all, err)
		}
		told, err := r.Log.About(t.Context(), r.ann, string(r.ann), 0, 10)
		if err != nil || len(told) != 2 || told[0].Entry.Verb != "terms.agreed" || told[0].Entry.Detail["license"] != "false" || told[1].Entry.Detail["license"] != "true" ||
			told[0].Entry.Detail["sha256"] != now.Terms {
			t.Errorf("her log: %+v, %v", told, err)
		}
		r.chooses(t, r.bob, true, true, true)
		if err := r.Forget(t.Context(), r.ann); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Choices(t.Context(), r.ann); !errors.Is(err, yesline.NotFound) {
			t.Errorf("after forgetting: %v", err)
		}
		if _, err := r.Choices(t.Context(), r.bob); err != nil {
			t.Errorf("bob was forgotten too: %v", err)
		}
	})
}

func TestWhatIsNoAgreement(t *testing.T) {
	t.Parallel()
	r := open(t, false)
	hash := cards(t).SHA256
	for name, c := range map[string]struct {
		hash    string
		choices map[consent.Purpose]bool
		ev      consent.Evidence
		want    error
	}{
		"another text":       {strings.Repeat("0", 64), nil, onPage(), yesline.Conflict},
		"no text":            {"", nil, onPage(), yesline.Conflict},
		"a purpose unasked":  {hash, map[consent.Purpose]bool{consent.Derive: true}, onPage(), yesline.Invalid},
		"an unknown purpose": {hash, map[consent.Purpose]bool{"sell": false}, onPage(), yesline.Invalid},
		"no time":            {hash, nil, consent.Evidence{}, yesline.Invalid},
	} {
		if err := r.Agree(t.Context(), r.ann, r.program, c.hash, c.choices, c.ev); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	if _, err := r.Choices(t.Context(), r.ann); !errors.Is(err, yesline.NotFound) {
		t.Errorf("something was kept: %v", err)
	}
	if err := r.Agree(t.Context(), r.ann, r.program, hash, nil, onPage()); err != nil {
		t.Fatal(err)
	}
	if now, err := r.Choices(t.Context(), r.ann); err != nil || now.Record || now.Share || now.License {
		t.Errorf("what was not chosen is %+v, want off (%v)", now, err)
	}
}

// A switch that somebody flips all day fills no table.
// A day of yes upon yes, by whoever holds the session, does not keep their owner
// from taking it all back.
func TestANoInTheTermsIsNeverTooMuch(t *testing.T) {
	t.Parallel()
	r := open(t, false)
	hash := cards(t).SHA256
	all := map[consent.Purpose]bool{consent.Record: true, consent.Share: true, consent.License: true}
	for range 50 {
		if err := r.Agree(t.Context(), r.ann, r.program, hash, all, onPage()); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Agree(t.Context(), r.ann, r.program, hash, all, onPage()); !errors.Is(err, yesline.TooMany) {
		t.Errorf("one more yes: got %v, want too many", err)
	}
	for _, some := range []map[consent.Purpose]bool{{consent.Record: true, consent.Share: true}, {consent.Record: true}, nil} {
		if err := r.Agree(t.Context(), r.ann, r.program, hash, some, onPage()); err != nil {
			t.Errorf("taking back: %v", err)
		}
	}
	for name, next := range map[string]map[consent.Purpose]bool{"the same again": nil, "a yes": {consent.Share: true}} {
		if err := r.Agree(t.Context(), r.ann, r.program, hash, next, onPage()); !errors.Is(err, yesline.TooMany) {
			t.Errorf("%s: got %v, want too many", name, err)
		}
	}
	if c, err := r.Choices(t.Context(), r.ann); err != nil || c.Record || c.Share || c.License {
		t.Errorf("in the end: %+v, %v", c, err)
	}
}

func TestChangesOfMindAreBounded(t *testing.T) {
	t.Parallel()
	r := open(t, false)
	hash := cards(t).SHA256
	var flips sync.WaitGroup
	for range 60 {
		flips.Go(func() {
			err := r.Agree(t.Context(), r.ann, r.program, hash, nil, onPage())
			if err != nil && !errors.Is(err, yesline.TooMany) {
				t.Error(err)
			}
		})
	}
	flips.Wait()
	all, err := r.ChoicesBefore(t.Context(), r.ann, 500)
	if err != nil || len(all) != 50 {
		t.Errorf("%d choices are kept, want 50 (%v)", len(all), err)
	}
	if err := r.Content.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE consent_terms SET kept = kept - $1`, (25 * time.Hour).Milliseconds())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	r.chooses(t, r.ann, true, false, false)
}
