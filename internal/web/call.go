package web

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/consent"
)

const callsOnAPage = 50

// calls lists a person's calls by day, in UTC. A row tells of the other party
// too, so each call is asked for before it is looked into, and the entry is in
// the log of everybody on the page.
func (s *Site) calls(ctx context.Context, a asked) (answer, error) {
	me := a.Who.Person()
	cursor := a.URL.Query().Get("after")
	if len(cursor) > 256 {
		return answer{}, yesline.NotFound
	}
	calls, more, err := s.house.Calls(ctx, me, cursor, callsOnAPage)
	if err != nil {
		return answer{}, err
	}
	if calls, err = s.viewed(ctx, a, calls); err != nil {
		return answer{}, err
	}
	ids := make([]yesline.CallID, len(calls))
	var people []yesline.PersonID
	for i, c := range calls {
		ids[i] = c.ID
		people = append(people, c.Parties...)
	}
	standings, err := s.house.Standings(ctx, ids)
	if err != nil {
		return answer{}, err
	}
	masks, err := s.house.Masks(ctx, people)
	if err != nil {
		return answer{}, err
	}
	told, err := s.openedOf(ctx, me, openedOnAPage)
	if err != nil {
		return answer{}, err
	}
	v := callsView{Dials: s.house.Dialer.Dial != nil, More: more, Opened: recent(told)}
	for _, c := range calls {
		other := otherThan(c.Parties, me)
		r := callRow{ID: string(c.ID), Began: c.Began.UTC(), Other: masks[other], Seconds: c.Seconds, Live: c.Live,
			Mine: state(c, standings[c.ID], me), Theirs: state(c, standings[c.ID], other)}
		day := r.Began.Truncate(24 * time.Hour)
		if n := len(v.Days); n == 0 || !v.Days[n-1].Day.Equal(day) {
			v.Days = append(v.Days, dayView{Day: day})
		}
		last := &v.Days[len(v.Days)-1]
		last.Calls = append(last.Calls, r)
	}
	return show(v), nil
}

// viewed keeps the calls that the gate lets the asker see, by one question.
func (s *Site) viewed(ctx context.Context, a asked, calls []Call) ([]Call, error) {
	if len(calls) == 0 {
		return nil, nil
	}
	objects := make([]access.Object, len(calls))
	for i, c := range calls {
		objects[i] = access.Object{Kind: "call", ID: string(c.ID)}
	}
	permit, err := s.house.AskSet(ctx, a.Who, access.View, objects, map[string]string{"part": "list"})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(calls, func(c Call) bool {
		_, err := permit.Allows(access.View, "call", string(c.ID))
		return err != nil
	}), nil
}

func otherThan(parties []yesline.PersonID, me yesline.PersonID) yesline.PersonID {
	for _, p := range parties {
		if p != me {
			return p
		}
	}
	return ""
}

// state says in one word what became of a voice. Held is a yes that the no of
// somebody else overruled.
func state(c Call, all map[yesline.PersonID]consent.Standing, person yesline.PersonID) string {
	switch all[person].Record {
	case consent.No:
		return "refused"
	case consent.Withdrawn:
		return "withdrawn"
	case consent.Yes, consent.Stopped:
		if c.Strict && !everyoneAgreed(c, all) {
			return "held"
		}
		if all[person].Record == consent.Stopped {
			return "stopped"
		}
		if c.Live {
			return "recording"
		}
		return "kept"
	}
	return "silent"
}

// everyoneAgreed is so when each party said yes at the time, whatever they did
// afterwards.
func everyoneAgreed(c Call, all map[yesline.PersonID]consent.Standing) bool {
	for _, p := range c.Parties {
		if r := all[p].Record; r == consent.None || r == consent.No {
			return false
		}
	}
	return true
}

// call shows one call: who said what, and what can be heard.
func (s *Site) call(ctx context.Context, a asked) (answer, error) {
	me := a.Who.Person()
	if me == "" {
		v, err := s.openedCall(ctx, a)
		if err != nil {
			return answer{}, err
		}
		return s.withTickets(ctx, a, v, v.Voices)
	}
	c, masks, standings, err := s.one(ctx, a)
	if err != nil {
		return answer{}, err
	}
	tracks, err := s.house.Tracks(ctx, c.ID)
	if err != nil {
		return answer{}, err
	}
	receipts, err := s.house.Receipts(ctx, c.ID, me)
	if err != nil {
		return answer{}, err
	}
	v := callView{ID: string(c.ID), Other: masks[otherThan(c.Parties, me)], Began: c.Began.UTC(), Seconds: c.Seconds, Live: c.Live}
	for _, r := range receipts {
		v.Receipts = append(v.Receipts, string(r))
	}
	parties := []yesline.PersonID{me}
	for _, p := range c.Parties {
		if p != me {
			parties = append(parties, p)
		}
	}
	for _, p := range parties {
		v.Voices = append(v.Voices, voice(c, standings, tracks, p, p == me, masks[p]))
	}
	if v.Voices[0].Asked, v.Voices[0].Lasts, v.Pauses, err = s.during(ctx, c, me, standings[me]); err != nil {
		return answer{}, err
	}
	if done := a.URL.Query().Get("done"); outcomes[done] {
		v.Done = done
	}
	return s.withTickets(ctx, a, v, v.Voices)
}

// one reads what every page about a call begins with.
func (s *Site) one(ctx context.Context, a asked) (Call, map[yesline.PersonID]string, map[yesline.PersonID]consent.Standing, error) {
	c, err := s.house.Call(ctx, a.call())
	if err != nil {
		return c, nil, nil, err
	}
	masks, err := s.house.Masks(ctx, c.Parties)
	if err != nil {
		return c, nil, nil, err
	}
	standings, err := s.house.Standings(ctx, []yesline.CallID{c.ID})
	return c, masks, standings[c.ID], err
}

// voice decides what the page offers of one party. It decides nothing about
// what may be heard: the gate does, window by window.
func voice(c Call, all map[yesline.PersonID]consent.Standing, tracks []Track, person yesline.PersonID, mine bool, mask string) voiceView {
	standing := all[person]
	v := voiceView{Mine: mine, Mask: mask, State: state(c, all, person), Share: standing.Share}
	if standing.AtMillis > 0 {
		v.At = time.UnixMilli(standing.AtMillis).UTC()
	}
	if mine {
		v.License = standing.License // what others license is their own affair
	}
	switch v.State {
	case "recording":
		v.Why = "live"
		return v
	case "kept", "stopped":
	case "silent":
		v.Why = "silent"
		if c.Later { // with a question, silence is a no, which is written down
			v.Why = "unasked"
		}
		return v
	default:
		v.Why = v.State
		return v
	}
	if !mine && !standing.Share {
		v.Why = "private"
		return v
	}
	for _, t := range tracks {
		if t.Person == person && t.Closed && !t.Gone {
			v.Track, v.Seconds, v.Opus = string(t.ID), t.Seconds, t.Opus
			v.Measured, v.Speech = t.Measured, t.Speech
			return v
		}
	}
	v.Why = "forming"
	if !c.Live && len(tracks) == 0 {
		v.Why = "lost"
	}
	return v
}

// outcomes are the notices that a page of a call may show after an act.
var outcomes = map[string]bool{"shared": true, "unshared": true, "licensed": true, "unlicensed": true, "withdrawn": true}

func (s *Site) share(ctx context.Context, a asked) (answer, error) {
	return s.set(ctx, a, consent.Share, "shared")
}

func (s *Site) license(ctx context.Context, a asked) (answer, error) {
	return s.set(ctx, a, consent.License, "licensed")
}

// set records a yes together with the very words beside the button.
func (s *Site) set(ctx context.Context, a asked, p consent.Purpose, done string) (answer, error) {
	ev, err := s.evidence("ask-" + string(p))
	if err != nil {
		return answer{}, err
	}
	if err := s.house.Set(ctx, a.Permit, a.call(), p, ev); err != nil {
		return answer{}, err
	}
	return goTo("/calls/" + string(a.call()) + "?done=" + done), nil
}

// evidence is how a choice on a page came about: which words stood there (by
// name, language and hash; the words are in the page's parts), and when.
func (s *Site) evidence(part string) (consent.Evidence, error) {
	said, err := s.pages.said(part)
	if err != nil {
		return consent.Evidence{}, err
	}
	sum := sha256.Sum256([]byte(said))
	return consent.Evidence{Channel: "page", Prompt: part, PromptSHA256: hex.EncodeToString(sum[:]), Language: "en", AtMillis: time.Now().UnixMilli()}, nil
}

func (s *Site) stopShare(ctx context.Context, a asked) (answer, error) {
	return s.stop(ctx, a, consent.Share, "unshared")
}

func (s *Site) stopLicense(ctx context.Context, a asked) (answer, error) {
	return s.stop(ctx, a, consent.License, "unlicensed")
}

func (s *Site) stop(ctx context.Context, a asked, p consent.Purpose, done string) (answer, error) {
	ev, err := s.evidence("stop-" + string(p))
	if err != nil {
		return answer{}, err
	}
	if err := s.house.Withdraw(ctx, a.Permit, a.call(), p, ev); err != nil {
		return answer{}, err
	}
	return goTo("/calls/" + string(a.call()) + "?done=" + done), nil
}

func (s *Site) askWithdraw(ctx context.Context, a asked) (answer, error) {
	me := a.Who.Person()
	c, masks, standings, err := s.one(ctx, a)
	if err != nil {
		return answer{}, err
	}
	mine := standings[me]
	return show(withdrawView{Call: string(c.ID), Other: masks[otherThan(c.Parties, me)], Began: c.Began.UTC(), Seconds: c.Seconds,
		Shared: mine.Share, Already: !mine.Kept()}), nil
}

const (
	receiptTime = 4 * time.Second        // how long a person waits for their receipt before the page says it is coming
	receiptStep = 100 * time.Millisecond // between two looks
)

// withdraw takes the voice back. The key is destroyed by a job that follows at
// once; most people see their receipt without waiting.
func (s *Site) withdraw(ctx context.Context, a asked) (answer, error) {
	ev, err := s.evidence("stop-record")
	if err != nil {
		return answer{}, err
	}
	if err := s.house.Withdraw(ctx, a.Permit, a.call(), consent.Record, ev); err != nil {
		return answer{}, err
	}
	later := goTo("/calls/" + string(a.call()) + "?done=withdrawn")
	tick := time.NewTicker(receiptStep)
	defer tick.Stop()
	deadline := time.After(receiptTime)
	for {
		receipts, err := s.house.Receipts(ctx, a.call(), a.Who.Person())
		if err != nil {
			return later, nil // the withdrawal stands; the page of the call shows the receipt when it can
		}
		if len(receipts) > 0 {
			return goTo("/receipts/" + string(receipts[0])), nil
		}
		select {
		case <-tick.C:
		case <-deadline:
			return later, nil
		case <-ctx.Done():
			return later, nil
		}
	}
}
