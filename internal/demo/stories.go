package demo

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"yesline/internal/consent"
	"yesline/internal/vault"
)

// claim is one thing the product says of itself, how it was looked at, and
// what was found. An empty wrong means that it holds.
type claim struct {
	says  string
	how   string
	wrong string
}

// result is what came of a story.
type result struct {
	name   string
	claims []claim
}

func (r *result) holds(says, how string, wrong error) {
	c := claim{says: says, how: how}
	if wrong != nil {
		c.wrong = wrong.Error()
	}
	r.claims = append(r.claims, c)
}

type story struct {
	name string
	run  func(context.Context, *result) error
}

// link is a sign-in that the newcomer is offered at the end.
type link struct {
	what string
	who  *somebody
}

// stories runs all calls at once, then what needs a finished call, then what
// needs a quiet house.
func (d *Demo) stories(ctx context.Context) ([]*result, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	calls := []story{
		{"both agree", d.bothAgree},
		{"one refuses, strict rule", d.oneRefuses},
		{"one refuses, one-sided", d.oneRefusesOneSided},
		{"*9 in the call", d.starNine},
		{"withdrawn afterwards", d.withdrawn},
	}
	results := make([]*result, len(calls))
	errs := make([]error, len(calls))
	var running sync.WaitGroup
	for i, s := range calls {
		results[i] = &result{name: s.name}
		running.Go(func() {
			if err := s.run(ctx, results[i]); err != nil {
				errs[i] = fmt.Errorf("%s: %w", s.name, err)
			} else {
				d.say("%s: done", s.name)
			}
		})
	}
	running.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	for _, s := range []story{{"a stranger tries everything", d.stranger}, {"the house", d.house}} {
		r := &result{name: s.name}
		if err := s.run(ctx, r); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		d.say("%s: done", s.name)
		results = append(results, r)
	}
	return results, nil
}

// table prints what was claimed and found, and counts what failed.
func (d *Demo) table(results []*result) (failed int) {
	w := tabwriter.NewWriter(d.options.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\nSTORY\tCLAIM\tCHECKED BY\tHOLDS\n")
	claims := 0
	for _, r := range results {
		name := r.name
		for _, c := range r.claims {
			claims++
			holds := "yes"
			if c.wrong != "" {
				failed++
				holds = "NO: " + strings.ReplaceAll(c.wrong, "\n", "; ")
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", name, c.says, c.how, holds)
			name = ""
		}
	}
	w.Flush()
	fmt.Fprintf(d.options.Out, "\n%d of %d claims hold (%.0f s)\n", claims-failed, claims, time.Since(d.began).Seconds())
	return failed
}

// pair makes a contributor and a contact.
func (d *Demo) pair(ctx context.Context, caller, contact string, oneSided bool) (*somebody, *somebody, error) {
	id := d.strict
	if oneSided {
		id = d.oneSided
	}
	a, err := d.contributor(ctx, caller, id)
	if err != nil {
		return nil, nil, err
	}
	b, err := d.contact(ctx, contact, id)
	return a, b, err
}

func (d *Demo) bothAgree(ctx context.Context, r *result) error {
	ann, maya, err := d.pair(ctx, "Ann", "Maya", false)
	if err != nil {
		return err
	}
	d.say("Ann calls Maya; both will say yes")
	t, err := d.ring(ctx, ann, maya, "1", "1")
	if err != nil {
		return err
	}
	if err := t.speak(ctx, 0, 12); err != nil {
		return err
	}
	if err := t.hangUp(ctx); err != nil {
		return err
	}
	d.mu.Lock()
	d.links = append(d.links, link{"Ann: both agreed", ann}, link{"Maya, on the other end", maya})
	d.agreed = t
	d.mu.Unlock()
	r.holds("two voices, two tracks", "rows and objects of the vault", t.countTracks(ctx, 2))
	r.holds("each track holds only what its leg sent", "decrypted, correlated with both phones", t.onlyTheirOwn(ctx))
	r.holds("Ann hears her voice, and not Maya's", "pages, by Ann's session", t.hearsOnlyOwn(ctx))
	r.holds("what Ann heard is on her access list", "page of the call's log", t.listed(ctx))
	return nil
}

func (d *Demo) oneRefuses(ctx context.Context, r *result) error {
	anna, carl, err := d.pair(ctx, "Anna", "Carl", false)
	if err != nil {
		return err
	}
	d.say("Anna calls Carl; Carl will say no, and where they are all must agree")
	t, err := d.ring(ctx, anna, carl, "1", "2")
	if err != nil {
		return err
	}
	if err := t.speak(ctx, 0, 6); err != nil {
		return err
	}
	r.holds("the call goes on after a no", "what both phones heard of each other", t.heardEachOther(ctx))
	if err := t.hangUp(ctx); err != nil {
		return err
	}
	d.mu.Lock()
	d.links = append(d.links, link{"Anna: Carl refused", anna})
	d.mu.Unlock()
	r.holds("no bytes of anyone", "no track, key or object of the call", t.countTracks(ctx, 0))
	r.holds("the no is kept with its evidence", "history of consent", t.answered(ctx, carl, consent.No, "2"))
	return nil
}

func (d *Demo) oneRefusesOneSided(ctx context.Context, r *result) error {
	bob, maya, err := d.pair(ctx, "Bob", "May", true)
	if err != nil {
		return err
	}
	for who, place := range map[*somebody]string{bob: "US-ME", maya: "US-KS"} {
		if err := d.People.SetPlace(ctx, who.id, place); err != nil {
			return err
		}
	}
	d.say("Bob (Maine) calls May (Kansas); May will say no, and each decides for their own voice")
	t, err := d.ring(ctx, bob, maya, "1", "2")
	if err != nil {
		return err
	}
	if err := t.speak(ctx, 0, 6); err != nil {
		return err
	}
	if err := t.hangUp(ctx); err != nil {
		return err
	}
	r.holds("only Bob's voice is kept", "rows and objects of the vault", t.onlyOf(ctx, bob))
	r.holds("nothing of May is in it", "decrypted, correlated with both phones", t.onlyTheirOwn(ctx))
	return nil
}

func (d *Demo) starNine(ctx context.Context, r *result) error {
	beth, carol, err := d.pair(ctx, "Beth", "Carol", false)
	if err != nil {
		return err
	}
	d.say("Beth calls Carol; Carol will stop the recording with *9")
	t, err := d.ring(ctx, beth, carol, "1", "1")
	if err != nil {
		return err
	}
	if err := t.speak(ctx, 0, 5); err != nil {
		return err
	}
	if err := t.contacts.Press(ctx, "*9"); err != nil {
		return err
	}
	pressed := time.Now().UnixMilli()
	if err := t.speak(ctx, 8, 5); err != nil {
		return err
	}
	if err := t.hangUp(ctx); err != nil {
		return err
	}
	r.holds("after *9 no byte of anyone", "last second of both tracks, decrypted", t.nothingAfter(ctx, pressed))
	r.holds("what was kept until then is theirs", "decrypted, correlated with both phones", t.onlyTheirOwn(ctx))
	r.holds("*9 is kept with its evidence", "history of consent", t.answered(ctx, carol, consent.Stopped, "*9"))
	return nil
}

func (d *Demo) withdrawn(ctx context.Context, r *result) error {
	alice, mary, err := d.pair(ctx, "Alice", "Mary", false)
	if err != nil {
		return err
	}
	d.say("Alice calls Mary; both will say yes, and Alice takes it back afterwards")
	t, err := d.ring(ctx, alice, mary, "1", "1")
	if err != nil {
		return err
	}
	if err := t.speak(ctx, 0, 6); err != nil {
		return err
	}
	if err := t.hangUp(ctx); err != nil {
		return err
	}
	d.mu.Lock()
	d.links = append(d.links, link{"Alice: took her voice back", alice})
	d.mu.Unlock()
	w, err := t.withdraw(ctx)
	if err != nil {
		return err
	}
	d.say("Alice took her voice back; closed %d ms later", w.took.Milliseconds())
	r.holds("closed within a minute", fmt.Sprintf("%d ms from the form to the receipt", w.took.Milliseconds()), w.quick())
	r.holds("nothing of ours opens it", "no key, no object, no page, no opener", t.cannotBeOpened(ctx, alice))
	r.holds("the other voice stays", "decrypted again", t.opens(ctx, mary))
	r.holds("a receipt says so and verifies offline", "leaf, proof, signature; and a forged one fails", w.verifies(d.Log.VerifierKey()))
	return nil
}

// kept are a call's tracks that were not destroyed.
func (t *talk) kept(ctx context.Context) ([]vault.Recorded, error) {
	all, err := t.d.Register.Tracks(ctx, t.id)
	if err != nil {
		return nil, err
	}
	var kept []vault.Recorded
	for _, k := range all {
		if k.State != vault.Destroyed {
			kept = append(kept, k)
		}
	}
	return kept, nil
}
