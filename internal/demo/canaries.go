package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"yesline"
	"yesline/internal/attack"
	"yesline/internal/session"
	"yesline/internal/vault"
)

// Canaries runs a house for the enemy until ctx ends: two programs with people
// who really called each other and with staff, and a file of who they are and
// what each may do. What they may is written here by the story, and not asked
// of the house: the file is what the house is measured by.
func Canaries(ctx context.Context, o Options, path string) (err error) {
	d, err := open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	file, err := d.canaries(ctx)
	if err != nil {
		return fmt.Errorf("making the canaries: %w", err)
	}
	data, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return err
	}
	if err := writeWhole(path, data); err != nil {
		return fmt.Errorf("writing the canaries: %w", err)
	}
	fmt.Fprintf(o.Out, "pages %s\nlog %s\ncanaries %s\n", d.Config.URL, d.logFile.Name(), path)
	<-ctx.Done()
	return nil
}

// writeWhole writes a file that only we can read, and that is there only when
// it is whole.
func writeWhole(path string, data []byte) error {
	part := path + ".part"
	if err := os.WriteFile(part, data, 0o600); err != nil {
		return err
	}
	return os.Rename(part, filepath.Clean(path))
}

// cast is the people of the house and what became of them.
type cast struct {
	d    *Demo
	file *attack.File

	ann, maya, alice, carol, bea, ben, mona *somebody
	cleo, mia                               *somebody
	annMaya, aliceCarol, benMona            *talk
	cleoMia                                 *talk                // goes on until the house is closed
	lasting                                 map[*somebody]string // a yes of theirs that lasts
	tracks                                  map[*somebody]string
	withdrawnTrack, receipt                 string

	staff  map[string]*colleague
	opened []opened
}

// colleague is somebody who works here.
type colleague struct {
	name    string
	role    session.Kind
	program yesline.ProgramID
	id      string
	cookie  string
	who     session.Principal
}

func (d *Demo) canaries(ctx context.Context) (*attack.File, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	c := &cast{d: d, file: &attack.File{Version: 1, Canary: true}, tracks: map[*somebody]string{}, lasting: map[*somebody]string{}, staff: map[string]*colleague{}}
	for _, step := range []func(context.Context) error{c.hire, c.calls, c.cases, c.people, c.colleagues, c.dead, c.measured} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	for _, n := range d.numbers {
		if !c.isAnybodys(n) && n != mayaNumber { // whom the demo offers to everybody
			c.secret("a number of a telephone", n)
		}
	}
	c.secret("the house's caller id", "+12025550100")
	c.file.Public = []string{string(c.d.strict), string(c.d.oneSided)} // the page to join tells which programs there are
	return c.file, nil
}

func (c *cast) isAnybodys(number string) bool {
	for _, i := range c.file.Identities {
		if i.Number == number {
			return true
		}
	}
	return false
}

func (c *cast) secret(what, value string, allowed ...string) {
	if allowed == nil {
		allowed = []string{}
	}
	c.file.Secrets = append(c.file.Secrets, attack.Secret{What: what, Value: value, Allowed: allowed})
}

// hire appoints the staff of the house and of both programs.
func (c *cast) hire(ctx context.Context) error {
	s := c.d.Sessions
	token, err := s.FirstOperator(ctx)
	if err != nil {
		return err
	}
	first := &colleague{name: "operator of the house", role: session.Operator}
	if first.cookie, first.who, err = s.Redeem(ctx, token); err != nil {
		return err
	}
	first.id = first.who.Account()
	c.staff[first.name] = first
	for _, place := range []struct {
		name    string
		program yesline.ProgramID
	}{{"the house", ""}, {"program 1", c.d.strict}, {"program 2", c.d.oneSided}} {
		for _, role := range []session.Kind{session.Operator, session.Officer, session.Officer, session.Auditor, session.Buyer} {
			name := string(role) + " of " + place.name
			if c.staff[name] != nil {
				if role != session.Officer {
					continue
				}
				name = "second " + name
			}
			if _, err := c.appoint(ctx, first.who, name, role, place.program); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *cast) appoint(ctx context.Context, by session.Principal, name string, role session.Kind, program yesline.ProgramID) (*colleague, error) {
	id, token, err := c.d.Sessions.Appoint(ctx, by, role, program, func(bool) error { return nil })
	if err != nil {
		return nil, fmt.Errorf("appointing the %s: %w", name, err)
	}
	w := &colleague{name: name, role: role, program: program, id: string(id)}
	if w.cookie, w.who, err = c.d.Sessions.Redeem(ctx, token); err != nil {
		return nil, fmt.Errorf("signing in the %s: %w", name, err)
	}
	c.staff[name] = w
	return w, nil
}

// calls has four pairs talk, all at once: Ann and Maya, who both keep their
// voices and say yes from now on; Alice and Carol, of whom Alice takes hers back; in the other program
// Ben and Mona; and Cleo and Mia, who stay on the line, recorded, as long as the
// house is open. Bea has no calls.
func (c *cast) calls(ctx context.Context) error {
	var running sync.WaitGroup
	errs := make([]error, 4)
	for i, pair := range []struct {
		caller, contact   string
		oneSided          bool
		toCaller, toOther **somebody
		talk              **talk
		yes               string // the key that both press
		stays             bool
	}{
		{"Ann", "Maya", false, &c.ann, &c.maya, &c.annMaya, "3", false},
		{"Alice", "Carol", false, &c.alice, &c.carol, &c.aliceCarol, "1", false},
		{"Ben", "Mona", true, &c.ben, &c.mona, &c.benMona, "3", false},
		{"Cleo", "Mia", false, &c.cleo, &c.mia, &c.cleoMia, "1", true},
	} {
		a, b, err := c.d.pair(ctx, pair.caller, pair.contact, pair.oneSided)
		if err != nil {
			return err
		}
		*pair.toCaller, *pair.toOther = a, b
		running.Go(func() { *pair.talk, errs[i] = c.talk(ctx, a, b, pair.yes, pair.stays) })
	}
	running.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	var err error
	if c.bea, err = c.d.contributor(ctx, "Bea", c.d.strict); err != nil {
		return err
	}
	w, err := c.aliceCarol.withdraw(ctx)
	if err != nil {
		return err
	}
	c.withdrawnTrack = string(w.track)
	for _, t := range []*talk{c.annMaya, c.aliceCarol, c.benMona} {
		if err := c.note(ctx, t); err != nil {
			return err
		}
	}
	for _, who := range []*somebody{c.ann, c.maya, c.ben, c.mona} {
		all, err := c.d.Consent.LastingOf(ctx, who.id)
		if err != nil {
			return err
		}
		if len(all) != 1 {
			return fmt.Errorf("%s, who said yes from now on, has %d that last", who.name, len(all))
		}
		c.lasting[who] = string(all[0].ID)
	}
	receipts, err := c.d.Log.Receipts(ctx, c.alice.id, string(c.aliceCarol.id))
	if err == nil && len(receipts) != 1 {
		err = fmt.Errorf("one who withdrew has %d receipts", len(receipts))
	}
	if err != nil {
		return err
	}
	c.receipt = string(receipts[0].ID)
	return nil
}

func (c *cast) talk(ctx context.Context, a, b *somebody, yes string, stays bool) (*talk, error) {
	t, err := c.d.ring(ctx, a, b, yes, yes)
	if err == nil {
		err = t.speak(ctx, 0, 3)
	}
	if err == nil && !stays {
		err = t.hangUp(ctx)
	}
	return t, err
}

// measured waits until the speech in all tracks was counted, after which nobody
// changes their pages but those who may.
func (c *cast) measured(ctx context.Context) error {
	ids := slices.Collect(maps.Values(c.tracks))
	for {
		all, err := c.d.Register.ByID(ctx, ids)
		if err != nil {
			return err
		}
		left := slices.ContainsFunc(ids, func(id string) bool { return all[id].State != vault.Destroyed && !all[id].Measured })
		if !left {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("waiting for the speech to be counted: %w", ctx.Err())
		}
	}
}

// note takes down whose track is which, once each can be heard.
func (c *cast) note(ctx context.Context, t *talk) error {
	all, err := c.d.Register.Tracks(ctx, t.id)
	if err != nil {
		return err
	}
	if len(all) != 2 {
		return fmt.Errorf("a call of two who agreed has %d tracks", len(all))
	}
	for _, k := range all {
		if k.State == vault.Destroyed {
			continue
		}
		for _, who := range []*somebody{t.caller, t.contact} {
			if k.Person == who.id {
				c.tracks[who] = string(k.ID)
			}
		}
	}
	return nil
}

// ask makes a request of the house as a browser does.
func (c *cast) ask(ctx context.Context, method, path, cookie string, form url.Values) (*http.Response, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.d.Config.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, nil, err
	}
	r.Header.Set("Cookie", "yesline="+cookie)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	client := &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := client.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	return answer, body, err
}
