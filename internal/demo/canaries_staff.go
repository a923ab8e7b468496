package demo

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"yesline/internal/attack"
	"yesline/internal/session"
)

// opened is a case as the story made it.
type opened struct {
	id      string
	asker   *colleague
	object  string
	program string
	open    bool
}

// cases has officers break the glass by the pages: some wait, some are open.
func (c *cast) cases(ctx context.Context) error {
	o1, o2 := c.staff["officer of program 1"], c.staff["second officer of program 1"]
	p2, h := c.staff["officer of program 2"], c.staff["officer of the house"]
	p2Second := c.staff["second officer of program 2"]
	annMaya, benMona := "/calls/"+string(c.annMaya.id), "/calls/"+string(c.benMona.id)
	for _, story := range []struct {
		asker    *colleague
		approver *colleague
		about    string
	}{
		{o1, o2, annMaya},
		{o1, o2, "/people/" + string(c.carol.id)},
		{o1, nil, annMaya},
		{o1, nil, "/people/" + string(c.ann.id)},
		{o1, nil, "/people/" + string(c.maya.id)},
		{o2, nil, annMaya},
		{p2, p2Second, benMona},
		{p2, nil, benMona},
		{p2, nil, "/people/" + string(c.ben.id)},
		{h, nil, benMona},
	} {
		answer, _, err := c.ask(ctx, "POST", story.about+"/break", story.asker.cookie, url.Values{"reason": {"a canary looks whether the glass holds"}, "number": {"CANARY-1"}})
		if err != nil {
			return err
		}
		id, ok := strings.CutPrefix(answer.Header.Get("Location"), "/cases/")
		id, _, _ = strings.Cut(id, "?")
		if answer.StatusCode != http.StatusSeeOther || !ok {
			return fmt.Errorf("the %s asks to open something and is answered %d", story.asker.name, answer.StatusCode)
		}
		made := opened{id: id, asker: story.asker, object: story.about[strings.LastIndex(story.about, "/")+1:], program: string(story.asker.program)}
		if story.asker == h {
			made.program = string(c.d.oneSided)
		}
		if story.approver != nil {
			answer, _, err := c.ask(ctx, "POST", "/cases/"+id+"/approve", story.approver.cookie, nil)
			if err != nil {
				return err
			}
			if answer.StatusCode != http.StatusSeeOther {
				return fmt.Errorf("the %s approves a case and is answered %d", story.approver.name, answer.StatusCode)
			}
			made.open = true
		}
		c.opened = append(c.opened, made)
	}
	return nil
}

// colleagues writes what staff may, by what they are and where.
func (c *cast) colleagues(ctx context.Context) error {
	expendable := map[string][]string{}
	for _, place := range []string{"the house", "program 1", "program 2"} {
		operator := c.staff["operator of "+place]
		for range 4 { // to be dismissed
			gone, err := c.appoint(ctx, operator.who, "somebody of "+place, session.Buyer, operator.program)
			if err != nil {
				return err
			}
			expendable[place] = append(expendable[place], gone.id)
		}
		delete(c.staff, "somebody of "+place)
	}
	for _, name := range slices.Sorted(maps.Keys(c.staff)) {
		w := c.staff[name]
		_, place, _ := strings.Cut(name, " of ")
		dismissed := expendable[place]
		if w.program == "" {
			dismissed = slices.Concat(expendable["the house"], expendable["program 1"], expendable["program 2"])
		}
		may, sees := c.mayWork(w, dismissed)
		if err := c.enroll(ctx, attack.Identity{Name: name, Role: string(w.role), Program: string(w.program), Cookie: w.cookie, Person: w.id, May: may, Sees: sees}, w.who); err != nil {
			return err
		}
	}
	return nil
}

// places are the programs in which somebody works.
func (c *cast) places(w *colleague) []string {
	if w.program != "" {
		return []string{string(w.program)}
	}
	return []string{string(c.d.strict), string(c.d.oneSided)}
}

func (c *cast) mayWork(w *colleague, dismissed []string) (may map[string][]string, sees []string) {
	may = map[string][]string{}
	places := c.places(w)
	placesAndHouse := places
	if w.program == "" {
		placesAndHouse = append(slices.Clone(places), "house")
	}
	if w.role == session.Buyer {
		return may, nil
	}
	may["verify"] = []string{"house"}
	may["staff"] = placesAndHouse
	for _, other := range c.staff {
		if w.program == "" || other.program == w.program {
			sees = append(sees, other.id)
		}
	}
	sees = append(sees, dismissed...)
	for _, o := range c.opened { // whoever sees the staff sees which cases there are
		if slices.Contains(places, o.program) {
			sees = append(sees, o.id, o.asker.id)
		}
	}
	if w.role == session.Auditor {
		return may, sees
	}
	may["appoint"] = slices.Concat(placesAndHouse, dismissed)
	may["contain"] = placesAndHouse
	for _, other := range c.staff {
		if (w.program == "" || other.program == w.program) && (w.role == session.Officer || other.role != session.Officer) {
			may["appoint"] = append(may["appoint"], other.id)
		}
	}
	if w.role == session.Operator {
		may["invite"] = places
		return may, sees
	}
	c.mayBreak(w, may, places)
	return may, sees
}

func (c *cast) talks() []*talk { return []*talk{c.annMaya, c.aliceCarol, c.benMona, c.cleoMia} }

// mayBreak is what officers may: ask for anything of their place, approve what
// others asked, and open what was approved to them.
func (c *cast) mayBreak(w *colleague, may map[string][]string, places []string) {
	for _, t := range c.talks() {
		if slices.Contains(places, string(t.caller.program)) {
			may["break"] = append(may["break"], string(t.id), string(t.caller.id), string(t.contact.id))
		}
	}
	if slices.Contains(places, string(c.bea.program)) {
		may["break"] = append(may["break"], string(c.bea.id))
	}
	for _, o := range c.opened {
		if !slices.Contains(places, o.program) {
			continue
		}
		may["view"] = append(may["view"], o.id)
		switch {
		case o.asker != w && !o.open:
			may["approve"] = append([]string{o.id}, may["approve"]...) // those that wait come first
		case o.asker != w:
			may["approve"] = append(may["approve"], o.id)
		case !o.open:
			may["break"] = append([]string{o.id}, may["break"]...)
		default:
			may["break"] = append(may["break"], o.id)
			c.mayOpen(may, o.object)
		}
	}
}

func (c *cast) mayOpen(may map[string][]string, object string) {
	if strings.HasPrefix(object, "per_") {
		may["log"] = append(may["log"], object)
		may["reveal"] = append(may["reveal"], object)
		return
	}
	may["view"] = append(may["view"], object)
	may["log"] = append(may["log"], object)
	for _, t := range c.talks() {
		if string(t.id) == object {
			for _, who := range []*somebody{t.caller, t.contact} {
				may["listen"] = append(may["listen"], c.tracks[who])
				may["log"] = append(may["log"], c.tracks[who])
			}
		}
	}
}

// enroll writes an identity down, together with its account: what it manages,
// another session, and a key that can do the same except what needs a proof.
func (c *cast) enroll(ctx context.Context, i attack.Identity, who session.Principal) error {
	account, spare, err := c.account(ctx, i, who)
	if err != nil {
		return fmt.Errorf("the account of %s: %w", i.Name, err)
	}
	i.Spare = spare
	i.May["manage"] = account
	key, secret, err := c.d.Sessions.MakeKey(ctx, who, "the enemy's", scopes, 24*time.Hour)
	if err != nil {
		return err
	}
	few, fewSecret, err := c.d.Sessions.MakeKey(ctx, who, "for lists", []string{"list"}, 24*time.Hour)
	if err != nil {
		return err
	}
	i.May["manage"] = append(i.May["manage"], string(key.ID), string(few.ID))
	byKey := i
	byKey.Name, byKey.Cookie, byKey.Spare, byKey.Number = i.Name+", by key", "", "", ""
	byKey.Key = string(secret.Bytes())
	c.file.Identities = append(c.file.Identities, i, byKey)
	if i.Role != "contributor" || i.Program != string(c.d.strict) {
		return nil
	}
	// A key of few scopes is a way in that may less than its maker.
	narrow := byKey
	narrow.Name, narrow.Key = i.Name+", by a key for lists", string(fewSecret.Bytes())
	narrow.May = map[string][]string{"list": i.May["list"]}
	narrow.Sees = slices.Concat(i.Sees, i.May["view"], i.May["listen"])
	c.file.Identities = append(c.file.Identities, narrow)
	return nil
}

// scopes are all verbs: what a key may is then what its maker may.
var scopes = strings.Fields("list view listen allow withdraw log receipt reveal invite verify manage break approve staff appoint contain")

// account gives the ids of what belongs to an account, what is there to be
// ended before what is needed, and the cookie of another session.
func (c *cast) account(ctx context.Context, i attack.Identity, who session.Principal) (ids []string, spare string, err error) {
	s := c.d.Sessions
	for range 3 { // to be ended
		key, _, err := s.MakeKey(ctx, who, "to be ended", []string{"list"}, 24*time.Hour)
		if err != nil {
			return nil, "", err
		}
		ids = append(ids, string(key.ID))
	}
	passkeys, err := c.passkeys(ctx, i.Name, who)
	if err != nil {
		return nil, "", err
	}
	ids = append(ids, passkeys...)
	if person := who.Person(); person != "" {
		for range 3 {
			device, _, _, err := s.AddDevice(ctx, who.Program(), person, false)
			if err != nil {
				return nil, "", err
			}
			ids = append(ids, string(device.ID))
		}
		for n := range 3 {
			token, err := s.LinkFor(ctx, who.Program(), person)
			if err != nil {
				return nil, "", err
			}
			cookie, other, err := s.Redeem(ctx, token)
			if err != nil {
				return nil, "", err
			}
			if n == 2 {
				spare = cookie
			}
			ids = append(ids, string(other.Session()))
		}
	}
	return append(ids, string(who.Session()), i.Person), spare, nil
}
