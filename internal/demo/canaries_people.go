package demo

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"yesline"
	"yesline/internal/attack"
	"yesline/internal/session"
)

// people writes what contributors and contacts may: what is theirs.
func (c *cast) people(ctx context.Context) error {
	for _, p := range []struct {
		who  *somebody
		role string
		talk *talk
	}{
		{c.ann, "contributor", c.annMaya}, {c.maya, "contact", c.annMaya},
		{c.alice, "contributor", c.aliceCarol}, {c.carol, "contact", c.aliceCarol},
		{c.ben, "contributor", c.benMona}, {c.mona, "contact", c.benMona},
		{c.bea, "contributor", nil},
		{c.cleo, "contributor", c.cleoMia}, {c.mia, "contact", c.cleoMia},
	} {
		token, err := c.d.Sessions.LinkFor(ctx, p.who.program, p.who.id)
		if err != nil {
			return err
		}
		cookie, who, err := c.d.Sessions.Redeem(ctx, token)
		if err != nil {
			return err
		}
		self := string(p.who.id)
		may := map[string][]string{"list": {self}, "log": {self}, "reveal": {self}, "dial": {self}}
		var sees []string
		if p.talk != nil {
			call := string(p.talk.id)
			may["log"] = append(may["log"], call)
			may["view"], may["withdraw"] = []string{call}, []string{call}
			may["allow"], may["talk"] = []string{call}, []string{call}
			if track := c.tracks[p.who]; track != "" {
				may["listen"] = []string{track}
				may["log"] = append(may["log"], track)
			}
			if lasting := c.lasting[p.who]; lasting != "" {
				sees = append(sees, lasting)
			}
			if p.who == c.alice {
				may["receipt"] = []string{c.receipt}
				sees = append(sees, c.withdrawnTrack) // her receipt names it
			}
		}
		if err := c.enroll(ctx, attack.Identity{Name: strings.ToLower(p.who.name), Role: p.role, Program: string(p.who.program), Cookie: cookie,
			Person: self, Number: p.who.number, May: may, Sees: sees}, who); err != nil {
			return err
		}
	}
	for _, o := range c.opened { // who opened a record is told its number
		if !o.open || !strings.HasPrefix(o.object, "per_") {
			continue
		}
		for _, i := range c.file.Identities {
			if i.Person == o.object && i.Number != "" {
				c.allow(i, o.asker.name)
			}
		}
	}
	return nil
}

// allow makes a number known to somebody beside its owner.
func (c *cast) allow(owner attack.Identity, names ...string) {
	for n, i := range c.file.Identities {
		if i.Name == owner.Name {
			c.secret("the number of "+i.Name, i.Number, append(names, i.Name, i.Name+", by key")...)
			c.file.Identities[n].Number = ""
		}
	}
}

// dead makes ways in that were ended, and some that never were any.
func (c *cast) dead(ctx context.Context) error {
	s := c.d.Sessions
	bury := func(name, of, cookie, key string) {
		c.file.Dead = append(c.file.Dead, attack.Dead{Name: name, Of: of, Cookie: cookie, Key: key})
	}
	session1 := func() (string, session.Principal, error) {
		token, err := s.LinkFor(ctx, c.ann.program, c.ann.id)
		if err != nil {
			return "", session.Principal{}, err
		}
		bury("ann's link that was used, as a session", "ann", token, "")
		return s.Redeem(ctx, token)
	}
	cookie, who, err := session1()
	if err != nil {
		return err
	}
	if err := c.ticketOf(ctx, cookie); err != nil {
		return err
	}
	if err := s.End(ctx, who); err != nil {
		return err
	}
	bury("ann's session that was ended", "ann", cookie, "")
	if cookie, who, err = session1(); err != nil {
		return err
	}
	key, secret, err := s.MakeKey(ctx, who, "was ended", scopes, 24*time.Hour)
	if err != nil {
		return err
	}
	if err := s.EndKey(ctx, who, key.ID); err != nil {
		return err
	}
	bury("ann's key that was ended", "ann", "", string(secret.Bytes()))
	bury("ann's session as a key", "ann", "", cookie)
	unused, err := s.LinkFor(ctx, c.ann.program, c.ann.id)
	if err != nil {
		return err
	}
	bury("ann's link that was not used, as a session", "ann", unused, "")
	claim, err := s.BeginClaim(ctx, c.ann.program, yesline.NewClaimID(), yesline.NewSecret([]byte("123456")))
	if err != nil {
		return err
	}
	bury("somebody who is signing up", "ann", claim, "")
	return c.dismissed(ctx, bury)
}

// dismissed are an officer and an operator who work here no more.
func (c *cast) dismissed(ctx context.Context, bury func(name, of, cookie, key string)) error {
	by := c.staff["officer of the house"].who
	for role, as := range map[session.Kind]string{session.Officer: "officer of program 1", session.Operator: "operator of the house"} {
		gone, err := c.appoint(ctx, by, "former "+string(role), role, c.staff[as].program)
		if err != nil {
			return err
		}
		delete(c.staff, gone.name)
		_, secret, err := c.d.Sessions.MakeKey(ctx, gone.who, "of somebody dismissed", scopes, 24*time.Hour)
		if err != nil {
			return err
		}
		if err := c.d.Sessions.Dismiss(ctx, by, yesline.StaffID(gone.id)); err != nil {
			return err
		}
		bury("a dismissed "+string(role)+"'s session", as, gone.cookie, "")
		bury("a dismissed "+string(role)+"'s key", as, "", string(secret.Bytes()))
	}
	return nil
}

// ticketOf takes a ticket of a session that is about to end.
func (c *cast) ticketOf(ctx context.Context, cookie string) error {
	answer, _, err := c.ask(ctx, "GET", "/calls/"+string(c.annMaya.id), cookie, nil)
	if err != nil {
		return err
	}
	tickets := answer.Cookies()
	if i := slices.IndexFunc(tickets, func(t *http.Cookie) bool { return strings.Contains(t.Path, c.tracks[c.ann]) }); i >= 0 {
		c.file.Dead = append(c.file.Dead, attack.Dead{Name: "the ticket of a session that was ended", Of: "ann", Ticket: tickets[i].Value, Track: c.tracks[c.ann]})
		return nil
	}
	return fmt.Errorf("the page of a call answers %d and gives no ticket", answer.StatusCode)
}
