package consent_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"yesline"
	"yesline/internal/consent"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
)

// A call has two parties or a few more. One of another size leaves nothing.
func TestHowManyAreInACall(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		r := openOn(t, open, false)
		for n, good := range map[int]bool{0: false, 1: false, 2: true, 16: true, 17: false} {
			call := yesline.NewCallID()
			parties := make([]consent.Party, n)
			for i := range parties {
				parties[i].Person = yesline.NewPersonID()
			}
			err := r.Open(t.Context(), call, r.program, parties)
			if good != (err == nil) || !good && !errors.Is(err, yesline.Invalid) {
				t.Errorf("%d parties: got %v, want good: %v", n, err, good)
			}
			if _, _, err := r.Rule(t.Context(), call); good != (err == nil) {
				t.Errorf("%d parties: the rule of the call: %v", n, err)
			}
		}
	})
}

// In a call only recording is asked: share and license go by the page, where
// it is looked at whose voice there is.
func TestACallAsksForRecordingAlone(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		r.says(t, r.ann, true)
		before := r.stands(t, r.ann)
		for _, p := range []consent.Purpose{consent.Share, consent.License, consent.Derive, "", "sell"} {
			for _, yes := range []bool{true, false} {
				err := r.Answer(t.Context(), consent.Answer{Call: r.call, Person: r.ann, Purpose: p, Yes: yes, Evidence: pressed("1")})
				if !errors.Is(err, yesline.Invalid) {
					t.Errorf("an answer to %q: got %v, want invalid", p, err)
				}
			}
		}
		if now := r.stands(t, r.ann); now != before {
			t.Errorf("ann stands at %+v, stood at %+v", now, before)
		}
		if events, err := r.History(t.Context(), r.call); err != nil || len(events) != 1 {
			t.Errorf("%d events, want her yes alone (%v)", len(events), err)
		}
	})
}

// Evidence is short: what a phone or a page sends fills no table.
func TestLongEvidenceIsRefused(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		answers := func(ev consent.Evidence) error {
			return r.Answer(t.Context(), consent.Answer{Call: r.call, Person: r.ann, Purpose: consent.Record, Yes: true, Evidence: ev})
		}
		long := strings.Repeat("x", 513)
		for name, lengthen := range map[string]func(*consent.Evidence){
			"channel":  func(e *consent.Evidence) { e.Channel = long },
			"prompt":   func(e *consent.Evidence) { e.Prompt = long },
			"hash":     func(e *consent.Evidence) { e.PromptSHA256 = long },
			"language": func(e *consent.Evidence) { e.Language = long },
			"keys":     func(e *consent.Evidence) { e.Keys = long },
		} {
			ev := pressed("1")
			lengthen(&ev)
			if err := answers(ev); !errors.Is(err, yesline.Invalid) {
				t.Errorf("a %s of 513 letters: got %v, want invalid", name, err)
			}
		}
		if s := r.stands(t, r.ann); s.Record != consent.None {
			t.Errorf("ann stands at %q, want no answer", s.Record)
		}
		ev := pressed(strings.Repeat("1", 512))
		if err := answers(ev); err != nil {
			t.Errorf("512 letters: %v", err)
		}
	})
}

func TestStandingsAreAskedForAPageAtATime(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		page := make([]yesline.CallID, 500)
		page[499] = r.call
		if all, err := r.Standings(t.Context(), page); err != nil || len(all) != 1 || len(all[r.call]) != 2 {
			t.Errorf("500 calls: %v, %v", all, err)
		}
		if all, err := r.Standings(t.Context(), append(page, r.call)); !errors.Is(err, yesline.Invalid) || len(all) != 0 {
			t.Errorf("501 calls: got %v, want invalid", err)
		}
	})
}

// What one person chose is counted for them alone: it neither uses up another's
// changes of mind nor tells, by its number, how many others chose.
func TestChoicesAreCountedForEach(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		r.chooses(t, r.ann, true, false, false)
		if err := r.Content.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `WITH RECURSIVE c(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM c WHERE i < 50)
				INSERT INTO consent_terms (person, n, program, terms, record, share, license, channel, language, from_ms, to_ms, at_ms, kept)
				SELECT person, i, program, terms, record, share, license, channel, language, from_ms, to_ms, at_ms, kept FROM c, consent_terms WHERE person = $1`, string(r.ann))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if err := r.Agree(t.Context(), r.ann, r.program, cards(t).SHA256, map[consent.Purpose]bool{consent.Record: true, consent.Share: true}, onPage()); !errors.Is(err, yesline.TooMany) {
			t.Errorf("ann's 51st of the day: got %v, want too many", err)
		}
		r.chooses(t, r.bob, true, true, false)
		r.chooses(t, r.bob, true, false, false)
		rows, err := r.Content.Query(t.Context(), `SELECT n FROM consent_terms WHERE person = $1 ORDER BY n`, string(r.bob))
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var numbers []int
		for rows.Next() {
			var n int
			if err := rows.Scan(&n); err != nil {
				t.Fatal(err)
			}
			numbers = append(numbers, n)
		}
		if fmt.Sprint(numbers) != "[1 2]" || rows.Err() != nil {
			t.Errorf("bob's choices have the numbers %v, %v", numbers, rows.Err())
		}
	})
}

// A card without its full text is never shown, for a person would agree to it.
func TestACardThatIsNotWhole(t *testing.T) {
	t.Parallel()
	whole := "Title\n\nOne. Two.\n\nAll of it.\n"
	read := func(share string) (consent.Terms, error) {
		files := fstest.MapFS{}
		for name, text := range map[string]string{"record": whole, "share": share, "license": whole} {
			files["terms/9/"+name+".txt"] = &fstest.MapFile{Data: []byte(text)}
		}
		return consent.ReadTerms(files, "9")
	}
	if terms, err := read(whole); err != nil || len(terms.Cards) != 3 {
		t.Fatalf("%d cards, %v", len(terms.Cards), err)
	}
	for name, share := range map[string]string{"nothing": "", "a title": "Title\n", "no full text": "Title\n\nOne. Two.\n\n", "one paragraph": "Title\nOne. Two.\nAll of it.\n"} {
		if terms, err := read(share); !errors.Is(err, yesline.Invalid) || len(terms.Cards) != 0 || terms.SHA256 != "" {
			t.Errorf("%s: got %+v, %v, want invalid", name, terms, err)
		}
	}
}

// A grant lives for three seconds, to record and to derive alike.
func TestAGrantLivesForSeconds(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := openOn(t, func(name string) *db.DB {
			d, err := db.Open(t.Context(), name, "sqlite:"+filepath.Join(folder, name+".db"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { d.Close() })
			return d
		}, false)
		r.says(t, r.ann, true)
		r.says(t, r.bob, true)
		l, err := r.Lease(t.Context(), r.call, r.ann)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		record, err := l.Grant(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		derive, err := r.Kept(t.Context(), r.call, r.ann)
		if err != nil {
			t.Fatal(err)
		}
		stand := func(want bool) {
			t.Helper()
			for p, g := range map[consent.Purpose]consent.Grant{consent.Record: record, consent.Derive: derive} {
				if err := g.Allows(p, r.call, r.ann); want != (err == nil) || !want && !errors.Is(err, yesline.Denied) {
					t.Errorf("a grant to %s: got %v, want it to stand: %v", p, err, want)
				}
			}
		}
		time.Sleep(2900 * time.Millisecond)
		stand(true)
		time.Sleep(200 * time.Millisecond)
		stand(false)
	})
}
