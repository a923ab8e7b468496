package consent_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/consent"
	"yesline/internal/db"
	"yesline/internal/program"
)

var words = consent.Words([]byte("the question"), []byte("the notice"))

func rung() consent.Asked { return consent.Asked{Way: consent.ByRinging, Words: words} }

// lets presses 3 in the call that is now.
func (r *room) lets(t *testing.T, person yesline.PersonID, asked consent.Asked) (lasts bool) {
	t.Helper()
	ev := pressed("3")
	ev.PromptSHA256 = "ab12"
	lasts, err := r.Lasting(t.Context(), r.call, person, "leg_x", asked, ev)
	if err != nil {
		t.Fatal(err)
	}
	return lasts
}

// noticed is evidence of a notice that was said to its end.
func noticed() consent.Evidence {
	now := time.Now().UnixMilli()
	return consent.Evidence{Prompt: "remembered", PromptSHA256: "cd34", Language: "en", FromMillis: now - 7000, ToMillis: now - 300, AtMillis: now}
}

func (r *room) recalls(t *testing.T, person yesline.PersonID, asked consent.Asked) error {
	t.Helper()
	return r.Recall(t.Context(), r.call, person, "leg_y", asked, noticed())
}

func (r *room) remembers(t *testing.T, person yesline.PersonID, asked consent.Asked, want bool) {
	t.Helper()
	if got, err := r.Remembered(t.Context(), r.call, person, asked); err != nil || got != want {
		t.Errorf("remembered: %v, %v, want %v", got, err, want)
	}
}

// neither asserts that a yes is neither announced nor recalled.
func (r *room) neither(t *testing.T, person yesline.PersonID, asked consent.Asked) {
	t.Helper()
	before := r.stands(t, person)
	if err := r.recalls(t, person, asked); !errors.Is(err, yesline.Denied) {
		t.Errorf("recalling: got %v, want denied", err)
	}
	r.remembers(t, person, asked, false)
	if now := r.stands(t, person); now != before {
		t.Errorf("stands at %+v, stood at %+v", now, before)
	}
}

// ages lets time pass for what is kept of lasting yeses.
func (r *room) ages(t *testing.T, by time.Duration) {
	t.Helper()
	r.do(t, `UPDATE consent_lasting SET at = at - $1, used = used - $1, lapses = lapses - $1`, by.Milliseconds())
}

func (r *room) do(t *testing.T, q string, args ...any) {
	t.Helper()
	if err := r.Content.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, q, args...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func (r *room) lastingOf(t *testing.T, person yesline.PersonID) []consent.LastingYes {
	t.Helper()
	all, err := r.LastingOf(t.Context(), person)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// told gives what a person's log says of an object, in the order of the
// alphabet: entries of one moment have none. "verb by".
func (r *room) told(t *testing.T, person yesline.PersonID, object string) (said []string) {
	t.Helper()
	lines, err := r.Log.About(t.Context(), person, object, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		e := line.Entry
		if !strings.HasPrefix(e.Verb, "lasting.") {
			continue
		}
		if e.Detail["lasting"] == "" {
			t.Errorf("%s names no lasting yes", e.Verb)
		}
		said = append(said, strings.TrimSpace(e.Verb+" "+e.Detail["by"]))
	}
	slices.Sort(said)
	return said
}

// A 3 is a yes in its call, and in the next one a notice takes the question's
// place; the other person's yes is their own.
func TestALastingYes(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		first := r.call
		if !r.lets(t, r.ann, rung()) {
			t.Fatal("it does not last")
		}
		if s := r.stands(t, r.ann); s.Record != consent.Yes {
			t.Errorf("ann stands at %q in the call itself", s.Record)
		}
		r.neither(t, r.ann, rung()) // she has answered here
		r.calls(t)
		r.neither(t, r.bob, rung())
		r.remembers(t, r.ann, rung(), true)
		if s := r.stands(t, r.ann); s.Record != consent.None {
			t.Errorf("before the notice ann stands at %q", s.Record)
		}
		if err := r.recalls(t, r.ann, rung()); err != nil {
			t.Fatal(err)
		}
		r.mayRecord(t, r.ann, false) // bob said nothing yet
		r.says(t, r.bob, true)
		r.mayRecord(t, r.ann, true)
		r.mayRecord(t, r.bob, true)
		events, err := r.History(t.Context(), r.call)
		if err != nil || len(events) != 2 || events[0].What != consent.Yes || events[0].Channel != consent.ByMemory ||
			events[0].Prompt != "remembered" || events[0].PromptSHA256 != "cd34" || events[0].Keys != "" || events[0].Leg != "leg_y" {
			t.Errorf("the history: %+v, %v", events, err)
		}
		var kind string
		if err := r.Content.QueryRow(t.Context(), `SELECT kind FROM consent_events WHERE call = $1 AND person = $2`, string(r.call), string(r.ann)).Scan(&kind); err != nil || kind != "remembered" {
			t.Errorf("the event is %q, %v: nobody heard her", kind, err)
		}
		if err := r.recalls(t, r.ann, rung()); !errors.Is(err, yesline.Denied) {
			t.Errorf("recalled twice: %v", err)
		}
		for call, want := range map[yesline.CallID]string{first: "[lasting.given]", r.call: "[lasting.used]"} {
			if got := fmt.Sprint(r.told(t, r.ann, string(call))); got != want {
				t.Errorf("her log says %s, want %s", got, want)
			}
		}
		if got := r.told(t, r.bob, ""); len(got) > 0 {
			t.Errorf("bob's log says %v of what is ann's", got)
		}
	})
}

// A lasting yes is of one person to calls with one other, in one program, where
// it is known in the same way that it is them, under the same words and rule.
func TestALastingYesIsNarrow(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		r.lets(t, r.ann, rung())
		between := func(program yesline.ProgramID, people ...yesline.PersonID) {
			t.Helper()
			r.call = yesline.NewCallID()
			parties := make([]consent.Party, len(people))
			for i, p := range people {
				parties[i].Person = p
			}
			if err := r.Open(t.Context(), r.call, program, parties); err != nil {
				t.Fatal(err)
			}
		}
		carol := r.Person(t, r.program)

		between(r.program, r.ann, carol) // somebody else
		r.neither(t, r.ann, rung())
		r.neither(t, carol, rung())

		between(r.program, carol, r.bob) // somebody new has ann's number
		r.neither(t, carol, rung())
		r.neither(t, r.bob, rung())

		between(r.program, r.ann, r.bob, carol) // somebody listens too
		r.neither(t, r.ann, rung())

		elsewhere, err := r.programs.Add(t.Context(), program.Terms{Name: "Elsewhere", Country: "US"})
		if err != nil {
			t.Fatal(err)
		}
		between(elsewhere, r.ann, r.bob)
		r.neither(t, r.ann, rung())

		between(r.program, r.ann, r.bob)
		r.neither(t, r.ann, consent.Asked{Way: consent.ByAccount, Words: words})
		r.neither(t, r.ann, consent.Asked{Way: consent.ByCallerID, Words: words})
		r.do(t, `UPDATE consent_calls SET one_sided = $1 WHERE call = $2`, true, string(r.call))
		r.neither(t, r.ann, rung())
		r.do(t, `UPDATE consent_calls SET one_sided = $1 WHERE call = $2`, false, string(r.call))
		r.remembers(t, r.ann, rung(), true) // and it stands where all is as it was
		if got := r.told(t, r.ann, ""); fmt.Sprint(got) != "[lasting.given]" {
			t.Errorf("her log says %v", got)
		}
		r.do(t, `UPDATE consent_lasting SET way = ''`) // even if somebody wrote one
		r.neither(t, r.ann, consent.Asked{Way: consent.ByCallerID, Words: words})
	})
}

// Other words in the question or the notice, and other terms, end it for good.
func TestALastingYesIsToWordsThatWereSaid(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		other := consent.Asked{Way: consent.ByRinging, Words: consent.Words([]byte("the question"), []byte("another notice"))}
		for name, change := range map[string]func(){
			"the words": func() {
				if err := r.recalls(t, r.ann, other); !errors.Is(err, yesline.Denied) {
					t.Errorf("other words are recalled: %v", err)
				}
				r.remembers(t, r.ann, other, false)
			},
			"the terms": func() {
				r.do(t, `UPDATE consent_lasting SET terms = $1`, strings.Repeat("0", 64))
				if err := r.recalls(t, r.ann, rung()); !errors.Is(err, yesline.Denied) {
					t.Errorf("other terms are recalled: %v", err)
				}
				r.remembers(t, r.ann, rung(), false)
			},
		} {
			r.calls(t)
			r.lets(t, r.ann, rung())
			r.calls(t)
			change()
			r.neither(t, r.ann, rung()) // nor when the old ones are back
			if all := r.lastingOf(t, r.ann); len(all) > 0 {
				t.Errorf("%s changed, and she has %+v", name, all)
			}
			if got := r.told(t, r.ann, string(r.call)); fmt.Sprint(got) != "[lasting.ended other words]" {
				t.Errorf("%s: her log says %v", name, got)
			}
		}
	})
}

// Where a caller's number is all that says who it is, and among more than two,
// a 3 is a yes to that call alone.
func TestWhatCannotLast(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		if r.lets(t, r.ann, consent.Asked{Words: words}) {
			t.Error("a caller's number gives a lasting yes")
		}
		if s := r.stands(t, r.ann); s.Record != consent.Yes {
			t.Errorf("and in the call itself ann stands at %q", s.Record)
		}
		r.call = yesline.NewCallID()
		if err := r.Open(t.Context(), r.call, r.program, []consent.Party{{Person: r.ann}, {Person: r.bob}, {Person: r.Person(t, r.program)}}); err != nil {
			t.Fatal(err)
		}
		if r.lets(t, r.ann, rung()) {
			t.Error("a yes among three lasts")
		}
		r.calls(t)
		r.neither(t, r.ann, rung())
		if all := r.lastingOf(t, r.ann); len(all) > 0 {
			t.Errorf("she has %+v", all)
		}

		r.says(t, r.ann, false)
		if _, err := r.Lasting(t.Context(), r.call, r.ann, "", rung(), pressed("3")); !errors.Is(err, yesline.Conflict) {
			t.Errorf("a 3 after a no: got %v, want conflict", err)
		}
		r.calls(t)
		if _, err := r.Lasting(t.Context(), r.call, yesline.NewPersonID(), "", rung(), pressed("3")); !errors.Is(err, yesline.NotFound) {
			t.Errorf("a 3 of nobody in the call: got %v, want not found", err)
		}
		memory := pressed("3")
		memory.Channel = consent.ByMemory
		for name, try := range map[string]func() error{
			"no words":    func() error { return lasting(r, consent.Asked{Way: consent.ByRinging}, pressed("3")) },
			"no such way": func() error { return lasting(r, consent.Asked{Way: "guessed", Words: words}, pressed("3")) },
			"no time":     func() error { return lasting(r, rung(), consent.Evidence{Channel: "keypad"}) },
			"by memory":   func() error { return lasting(r, rung(), memory) },
			"asked in no words": func() error {
				_, err := r.Remembered(t.Context(), r.call, r.ann, consent.Asked{Way: consent.ByRinging})
				return err
			},
			"recalled in no words": func() error { return r.recalls(t, r.ann, consent.Asked{Way: consent.ByRinging}) },
		} {
			if err := try(); !errors.Is(err, yesline.Invalid) {
				t.Errorf("%s: got %v, want invalid", name, err)
			}
		}
		if s := r.stands(t, r.ann); s.Record != consent.None {
			t.Errorf("after all that ann stands at %q", s.Record)
		}
	})
}

func lasting(r *room, asked consent.Asked, ev consent.Evidence) error {
	_, err := r.Lasting(context.Background(), r.call, r.ann, "", asked, ev)
	return err
}

// Only a notice that was said to its end makes a remembered yes, and nothing
// but Recall does.
func TestARecalledYesHasANotice(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		r.lets(t, r.ann, rung())
		r.calls(t)
		for name, cut := range map[string]func(*consent.Evidence){
			"no sound":       func(e *consent.Evidence) { e.PromptSHA256 = "" },
			"no first word":  func(e *consent.Evidence) { e.FromMillis = 0 },
			"no last word":   func(e *consent.Evidence) { e.ToMillis = 0 },
			"a last first":   func(e *consent.Evidence) { e.ToMillis = e.FromMillis },
			"yes before it":  func(e *consent.Evidence) { e.AtMillis = e.ToMillis - 1 },
			"no time at all": func(e *consent.Evidence) { e.AtMillis = 0 },
		} {
			ev := noticed()
			cut(&ev)
			if err := r.Recall(t.Context(), r.call, r.ann, "", rung(), ev); !errors.Is(err, yesline.Invalid) {
				t.Errorf("%s: got %v, want invalid", name, err)
			}
		}
		ev := pressed("1")
		ev.Channel = consent.ByMemory
		if err := r.Answer(t.Context(), consent.Answer{Call: r.call, Person: r.ann, Purpose: consent.Record, Yes: true, Evidence: ev}); !errors.Is(err, yesline.Invalid) {
			t.Errorf("an answer that says it is remembered: got %v, want invalid", err)
		}
		if s := r.stands(t, r.ann); s.Record != consent.None {
			t.Errorf("ann stands at %q", s.Record)
		}
	})
}

// Whatever takes a lasting yes back ends it before the next call, and her log
// says by what.
func TestALastingYesIsTakenBack(t *testing.T) {
	answer := func(t *testing.T, r *room, ev consent.Evidence) error {
		return r.Answer(t.Context(), consent.Answer{Call: r.call, Person: r.ann, Purpose: consent.Record, Evidence: ev})
	}
	stop := func(t *testing.T, r *room) error { return r.Stop(t.Context(), r.call, r.ann, "", pressed("*9")) }
	for name, c := range map[string]struct {
		take func(t *testing.T, r *room) error
		by   string
		err  error
		then consent.State
	}{
		"2 in the notice": {take: func(t *testing.T, r *room) error { return answer(t, r, pressed("2")) }, by: "no", then: consent.No},
		"2 after the notice": {take: func(t *testing.T, r *room) error {
			return errors.Join(r.recalls(t, r.ann, rung()), answer(t, r, pressed("2")))
		}, by: "no", then: consent.Withdrawn},
		"*9 and then 2": {take: func(t *testing.T, r *room) error {
			return errors.Join(r.recalls(t, r.ann, rung()), stop(t, r), answer(t, r, pressed("2")))
		}, by: "no", err: yesline.Conflict, then: consent.Stopped},
		"*9 before the notice and then 2": {take: func(t *testing.T, r *room) error { return errors.Join(stop(t, r), answer(t, r, pressed("2"))) }, by: "no", then: consent.No},
		"silence after a question": {take: func(t *testing.T, r *room) error {
			return answer(t, r, consent.Evidence{Channel: "call", AtMillis: time.Now().UnixMilli()})
		}, by: "no", then: consent.No},
		"withdrawing the call": {take: func(t *testing.T, r *room) error {
			if err := r.recalls(t, r.ann, rung()); err != nil {
				return err
			}
			r.withdraw(t, r.ann)
			return nil
		}, by: "withdrawn", then: consent.Withdrawn},
		"withdrawing where nothing was kept": {take: func(t *testing.T, r *room) error { r.withdraw(t, r.ann); return nil }, by: "withdrawn"},
		"never, in the terms":                {take: func(t *testing.T, r *room) error { r.chooses(t, r.ann, false, false, false); return nil }, by: "terms"},
		"its page": {take: func(t *testing.T, r *room) error {
			return r.EndLasting(t.Context(), r.manages(t, r.ann), r.lastingOf(t, r.ann)[0].ID)
		}, by: "page"},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, r *room) {
				r.lets(t, r.ann, rung())
				r.calls(t)
				if err := c.take(t, r); !errors.Is(err, c.err) {
					t.Fatalf("got %v, want %v", err, c.err)
				}
				if s := r.stands(t, r.ann); s.Record != c.then {
					t.Errorf("in this call ann stands at %q, want %q", s.Record, c.then)
				}
				if c.then == consent.None {
					r.neither(t, r.ann, rung())
				}
				if all := r.lastingOf(t, r.ann); len(all) > 0 {
					t.Errorf("she has %+v", all)
				}
				told := r.told(t, r.ann, "")
				if want := "lasting.ended " + c.by; !slices.Contains(told, want) || len(told) > 3 {
					t.Errorf("her log says %q, want %s", told, want)
				}
				if name == "never, in the terms" {
					r.chooses(t, r.ann, true, false, false) // that does not bring it back
				}
				r.calls(t)
				r.neither(t, r.ann, rung())
			})
		})
	}
}

// *9, and what another does or says, are about the one call.
func TestALastingYesStays(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		r.lets(t, r.ann, rung())
		for name, happens := range map[string]func(){
			"*9 in the notice": func() {
				if err := r.Stop(t.Context(), r.call, r.ann, "", pressed("*9")); err != nil {
					t.Fatal(err)
				}
				if s := r.stands(t, r.ann); s.Record != consent.No {
					t.Errorf("she stands at %q", s.Record)
				}
				r.neither(t, r.ann, rung())
			},
			"recordpref:off after it": func() {
				off := consent.Evidence{Channel: "sip", AtMillis: time.Now().UnixMilli()}
				if err := errors.Join(r.recalls(t, r.ann, rung()), r.Stop(t.Context(), r.call, r.ann, "", off)); err != nil {
					t.Fatal(err)
				}
				if s := r.stands(t, r.ann); s.Record != consent.Stopped {
					t.Errorf("she stands at %q", s.Record)
				}
			},
			"bob's no":            func() { r.says(t, r.bob, false) },
			"bob's withdrawal":    func() { r.says(t, r.bob, true); r.withdraw(t, r.bob) },
			"bob's no in terms":   func() { r.chooses(t, r.bob, false, false, false); r.chooses(t, r.bob, true, false, false) },
			"sharing taken back":  func() { r.says(t, r.ann, true); r.unshares(t, r.ann) },
			"a yes by one's hand": func() { r.says(t, r.ann, true) },
			"a sweep": func() {
				if err := r.Sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
			},
		} {
			r.calls(t)
			happens()
			r.calls(t)
			if ok, err := r.Remembered(t.Context(), r.call, r.ann, rung()); err != nil || !ok {
				t.Errorf("after %s it is gone: %v", name, err)
			}
		}
	})
}

func (r *room) unshares(t *testing.T, person yesline.PersonID) {
	t.Helper()
	page := consent.Evidence{Channel: "page", AtMillis: time.Now().UnixMilli()}
	if err := r.Withdraw(t.Context(), r.permit(t, person, access.Withdraw), r.call, consent.Share, page); err != nil {
		t.Fatal(err)
	}
}

func (r *room) manages(t *testing.T, person yesline.PersonID) access.Permit {
	t.Helper()
	return r.permitFor(t, person, access.Manage, access.Object{Kind: "account", ID: string(person)})
}

// It lasts 180 days at most, and 45 unused: a number that somebody else has got
// rested longer.
func TestALastingYesLapses(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		day := 24 * time.Hour
		r.lets(t, r.ann, rung())
		r.ages(t, 45*day-time.Minute)
		r.calls(t)
		r.remembers(t, r.ann, rung(), true)
		r.ages(t, 2*time.Minute)
		r.neither(t, r.ann, rung())
		if all := r.lastingOf(t, r.ann); len(all) > 0 {
			t.Errorf("unused for 45 days, and she has %+v", all)
		}

		r.lets(t, r.ann, rung()) // given anew
		for range 4 {            // and used each 44 days
			r.ages(t, 44*day)
			r.calls(t)
			if err := r.recalls(t, r.ann, rung()); err != nil {
				t.Fatal(err)
			}
		}
		r.calls(t)
		r.ages(t, 4*day-time.Minute) // 180 days but a minute
		r.remembers(t, r.ann, rung(), true)
		r.ages(t, 2*time.Minute)
		r.neither(t, r.ann, rung())

		r.lets(t, r.ann, rung())
		r.ages(t, -time.Hour) // given in what is the future by a clock that was set back
		r.calls(t)
		r.neither(t, r.ann, rung())
	})
}

// What has lapsed is swept and told, and nothing else is.
func TestLapsedYesesAreSwept(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		r.lets(t, r.ann, rung())
		r.ages(t, consent.LastingIdle)
		r.lets(t, r.bob, rung())
		if err := r.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := r.told(t, r.ann, string(r.call)); fmt.Sprint(got) != "[lasting.ended time lasting.given]" {
			t.Errorf("ann's log says %v", got)
		}
		if got := r.told(t, r.bob, string(r.call)); fmt.Sprint(got) != "[lasting.given]" {
			t.Errorf("bob's log says %v", got)
		}
		if n := r.rows(t); n != 1 {
			t.Errorf("%d rows, want bob's", n)
		}
		// Somebody who is being erased does not hold up the sweep.
		r.ages(t, consent.LastingTime)
		if err := r.Keys.Forget(t.Context(), r.bob); err != nil {
			t.Fatal(err)
		}
		if err := r.Sweep(t.Context()); err != nil {
			t.Error(err)
		}
		if n := r.rows(t); n != 0 {
			t.Errorf("%d rows, want none", n)
		}
	})
}

func (r *room) rows(t *testing.T) (n int) {
	t.Helper()
	if err := r.Content.QueryRow(t.Context(), `SELECT COUNT(*) FROM consent_lasting`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A remembered yes records and does nothing else, whatever was chosen in the
// terms; a 3 does in its own call what a 1 does.
func TestALastingYesNeverLicenses(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		r.chooses(t, r.ann, true, true, true)
		r.calls(t)
		r.lets(t, r.ann, rung())
		if s := r.stands(t, r.ann); !s.Share || !s.License {
			t.Errorf("by her yes in the call ann stands at %+v, want what she chose", s)
		}
		r.calls(t)
		if err := r.recalls(t, r.ann, rung()); err != nil {
			t.Fatal(err)
		}
		r.says(t, r.bob, true)
		if s := r.stands(t, r.ann); s.Share || s.License || s.Record != consent.Yes {
			t.Errorf("by memory ann stands at %+v, want recorded and nothing else", s)
		}
		if events, err := r.History(t.Context(), r.call); err != nil || len(events) != 2 {
			t.Errorf("%d events, want two yeses (%v)", len(events), err)
		}
	})
}

// A person sees what they let last, with whom, and ends it; nobody else does.
func TestLastingYesesAreTheirPersons(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		r.lets(t, r.ann, rung())
		account := consent.Asked{Way: consent.ByAccount, Words: words}
		r.lets(t, r.bob, account)
		mine, theirs := r.lastingOf(t, r.ann), r.lastingOf(t, r.bob)
		if len(mine) != 1 || len(theirs) != 1 {
			t.Fatalf("ann has %+v, bob has %+v", mine, theirs)
		}
		y := mine[0]
		if y.Other != r.bob || y.Call != r.call || y.Way != consent.ByRinging || y.UsedMillis != y.AtMillis || y.LapsesMillis != y.AtMillis+consent.LastingIdle.Milliseconds() {
			t.Errorf("ann has %+v", y)
		}
		permit := r.manages(t, r.ann)
		for name, c := range map[string]struct {
			permit access.Permit
			id     yesline.EntryID
			want   error
		}{
			"nothing in hand":    {access.Permit{}, y.ID, yesline.Denied},
			"a permit to view":   {r.permit(t, r.ann, access.View), y.ID, yesline.Denied},
			"bob's permit":       {r.manages(t, r.bob), y.ID, yesline.NotFound},
			"bob's lasting yes":  {permit, theirs[0].ID, yesline.NotFound},
			"one that never was": {permit, yesline.NewEntryID(), yesline.NotFound},
			"none":               {permit, "", yesline.NotFound},
		} {
			if err := r.EndLasting(t.Context(), c.permit, c.id); !errors.Is(err, c.want) {
				t.Errorf("%s: got %v, want %v", name, err, c.want)
			}
		}
		if n := r.rows(t); n != 2 {
			t.Fatalf("%d rows, want both", n)
		}
		if err := r.EndLasting(t.Context(), permit, y.ID); err != nil {
			t.Fatal(err)
		}
		if all := r.lastingOf(t, r.ann); len(all) != 0 {
			t.Errorf("ann has %+v", all)
		}
		if all := r.lastingOf(t, r.bob); len(all) != 1 {
			t.Errorf("bob has %+v", all)
		}
		if got := r.told(t, r.ann, string(r.call)); fmt.Sprint(got) != "[lasting.ended page lasting.given]" {
			t.Errorf("ann's log says %v", got)
		}
		if err := r.EndLasting(t.Context(), permit, y.ID); !errors.Is(err, yesline.NotFound) {
			t.Errorf("ended twice: %v", err)
		}
	})
}

// One that is given again takes the old one's place.
func TestALastingYesIsGivenOnce(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		r.lets(t, r.ann, rung())
		old := r.lastingOf(t, r.ann)[0]
		r.ages(t, 20*24*time.Hour)
		r.calls(t)
		r.lets(t, r.ann, rung())
		now := r.lastingOf(t, r.ann)
		if len(now) != 1 || now[0].ID == old.ID || now[0].Call != r.call || now[0].AtMillis < old.AtMillis {
			t.Errorf("ann has %+v, had %+v", now, old)
		}
		r.calls(t)
		r.says(t, r.ann, false)
		if n := r.rows(t); n != 0 {
			t.Errorf("%d rows after a no", n)
		}
	})
}

// A no is said to one person, by one person: what others let last with either
// of them stays, and what she lets last with others.
func TestANoIsBetweenTwo(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		ann, bob, carol := r.ann, r.bob, r.Person(t, r.program)
		lets := func(a, b yesline.PersonID) {
			r.ann, r.bob = a, b
			r.calls(t)
			r.lets(t, a, rung())
		}
		lets(carol, bob)
		lets(bob, ann)
		lets(ann, carol)
		lets(ann, bob)
		r.calls(t)
		r.says(t, ann, false)
		for who, want := range map[yesline.PersonID]yesline.PersonID{carol: bob, bob: ann, ann: carol} {
			if all := r.lastingOf(t, who); len(all) != 1 || all[0].Other != want {
				t.Errorf("of a no of ann's to bob there remains %+v", all)
			}
		}
	})
}

// Forgetting either person leaves nothing of it, and of others' all.
func TestALastingYesIsForgottenWithEither(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		for _, who := range []*yesline.PersonID{&r.ann, &r.bob} {
			r.ann, r.bob = r.Person(t, r.program), r.Person(t, r.program)
			r.calls(t)
			r.lets(t, r.ann, rung())
			ann, bob, carol := r.ann, r.bob, r.Person(t, r.program)
			stays := *who
			if stays == ann {
				stays = bob
			} else {
				stays = ann
			}
			r.ann, r.bob = stays, carol
			r.calls(t)
			r.lets(t, stays, rung())
			r.ann, r.bob = ann, bob
			gone := *who
			before := r.entries(t)
			for range 2 { // again is no news
				if err := r.Forget(t.Context(), gone); err != nil {
					t.Fatal(err)
				}
			}
			if n := r.entries(t) - before; n != 1 {
				t.Errorf("%d entries of forgetting, want one", n)
			}
			var left int
			if err := r.Content.QueryRow(t.Context(), `SELECT COUNT(*) FROM consent_lasting WHERE person = $1 OR other_person = $1`, string(gone)).Scan(&left); err != nil || left != 0 {
				t.Errorf("%d rows name who is forgotten (%v)", left, err)
			}
			if all := r.lastingOf(t, stays); len(all) != 1 || all[0].Other != carol {
				t.Errorf("who stays has %+v", all)
			}
			r.calls(t)
			r.neither(t, ann, rung())
		}
	})
}

func (r *room) entries(t *testing.T) int64 {
	t.Helper()
	if err := r.Log.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	report, err := r.Log.Verify(t.Context())
	if err != nil || len(report.Problems) > 0 {
		t.Fatalf("the log: %v, %v", report, err)
	}
	return report.Entries
}

// A person has 500: one more ends the oldest, and the list has all. What others
// have is neither counted nor ended.
func TestLastingYesesAreBounded(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		ann, bob, carol := r.ann, r.bob, r.Person(t, r.program)
		lets := func(a, b yesline.PersonID) {
			t.Helper()
			r.ann, r.bob = a, b
			r.calls(t)
			if !r.lets(t, a, rung()) {
				t.Error("the newest does not last")
			}
		}
		lets(bob, ann) // the oldest of all
		r.ages(t, time.Hour)
		lets(ann, bob)
		r.ages(t, time.Minute)
		oldest := r.lastingOf(t, ann)[0]
		r.do(t, `WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 499)
			INSERT INTO consent_lasting (id, person, other_person, program, way, event, call, words, terms, one_sided, at, used, lapses)
			SELECT id || i, person, other_person || i, program, way, event, call, words, terms, one_sided, at + 1000, used + 1000, lapses + 1000 FROM c, consent_lasting WHERE person = $1`, string(ann))
		lets(carol, bob)
		lets(carol, ann)
		lets(ann, carol)
		all := r.lastingOf(t, ann)
		if n := r.rows(t) - 3; n > consent.LastingMost || n != len(all) || all[0].Other != carol {
			t.Errorf("%d rows, %d in the list", n, len(all))
		}
		for _, y := range all {
			if y.ID == oldest.ID {
				t.Error("the oldest is still there")
			}
		}
		if b, c := len(r.lastingOf(t, bob)), len(r.lastingOf(t, carol)); b != 1 || c != 2 {
			t.Errorf("bob has %d, carol has %d, want 1 and 2", b, c)
		}
		if told := r.told(t, ann, ""); fmt.Sprint(told) != "[lasting.ended too many lasting.given lasting.given]" {
			t.Errorf("her log says %v", told)
		}
	})
}

// What somebody pressed while the house looked counts: of two at once, one wins,
// and never is there a yes after a no.
func TestANoWhileItIsRecalled(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		for range 10 {
			r.calls(t)
			r.lets(t, r.ann, rung())
			r.calls(t)
			said := make(chan error)
			go func() {
				said <- r.Answer(t.Context(), consent.Answer{Call: r.call, Person: r.ann, Purpose: consent.Record, Evidence: pressed("2")})
			}()
			recalled := r.recalls(t, r.ann, rung())
			if err := <-said; err != nil {
				t.Fatal(err)
			}
			want := consent.No
			if recalled == nil {
				want = consent.Withdrawn
			} else if !errors.Is(recalled, yesline.Denied) {
				t.Fatal(recalled)
			}
			if s := r.stands(t, r.ann); s.Record != want {
				t.Errorf("ann stands at %q, want %q", s.Record, want)
			}
			if n := r.rows(t); n != 0 {
				t.Errorf("%d rows after a no", n)
			}
		}
	})
}

// A call keeps when its program asked as it opened, and so does its log.
func TestACallKeepsWhenItsProgramAsks(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		before := r.call
		if err := r.programs.SetAsk(t.Context(), r.program, "os:1000", program.AskDuring); err != nil {
			t.Fatal(err)
		}
		r.calls(t)
		during, unknown := r.call, yesline.NewCallID()
		rules, err := r.Rules(t.Context(), []yesline.CallID{before, during, unknown})
		if err != nil || len(rules) != 2 || rules[before].Ask != program.AskBefore || rules[during].Ask != program.AskDuring ||
			rules[during].Why == "" || rules[during].OneSided {
			t.Errorf("the rules are %+v, %v", rules, err)
		}
		for call, want := range map[yesline.CallID]string{before: program.AskBefore, during: program.AskDuring} {
			r.call = call
			r.says(t, r.ann, true)
			lines, err := r.Log.About(t.Context(), r.ann, string(call), 0, 10)
			if err != nil || len(lines) != 1 || lines[0].Entry.Detail["ask"] != want {
				t.Errorf("her log of that call: %+v, %v, want %s", lines, err, want)
			}
		}
		if _, err := r.Rules(t.Context(), make([]yesline.CallID, 501)); !errors.Is(err, yesline.Invalid) {
			t.Errorf("the rules of 501 calls: %v", err)
		}
	})
}

// Which words they are depends on each sound and on where one ends.
func TestWords(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for name, w := range map[string]string{
		"two":       consent.Words([]byte("ab"), []byte("c")),
		"cut other": consent.Words([]byte("a"), []byte("bc")),
		"turned":    consent.Words([]byte("c"), []byte("ab")),
		"one":       consent.Words([]byte("abc")),
		"none":      consent.Words(),
	} {
		if other, taken := seen[w]; taken || len(w) != 64 {
			t.Errorf("%s has the name %q, as has %s", name, w, other)
		}
		seen[w] = name
	}
}
