package capture

import (
	"context"
	"fmt"
	"strings"
	"time"

	"yesline"
	"yesline/internal/consent"
)

// Status is what one party may know of a call of theirs while it goes on.
type Status struct {
	Version   int64 // moves with every change
	State     State
	Recording string        // "both", "me", "them", "nobody": whose voice is being kept now
	Question  bool          // my answer is waited for
	MayAgree  bool          // and the question was said to its end: a yes of this page counts now
	MayLast   bool          // and it may be for all calls with the other: "agree_always"
	Left      time.Duration // how long my answer is still waited for; 0: not counted yet
	Mine      string        // my answer: "yes", "no", "" for none yet
	Theirs    bool          // the other's answer is waited for
	Paused    bool
	CanAsk    bool          // nobody was asked yet: "record" asks both
	Why       string        // in words, how my voice stands
	Unable    string        // in words, why nothing of this call can be recorded; "" when it can
	Talking   time.Duration // since both hear each other
	Ending    string        // in words, once it ended
}

// Live gives a call that is going on here; nil when there is none.
func (r *Room) Live(id yesline.CallID) *Live {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lives[id]
}

// Status is Live.Wait for a person's side of a call. Of one that is over it
// says so, and how it ended, for as long as its row is kept. yesline.NotFound
// when they are no party of it, or it goes on elsewhere.
func (r *Room) Status(ctx context.Context, call yesline.CallID, person yesline.PersonID, after int64) (Status, Side, error) {
	if live := r.Live(call); live != nil {
		if mine := live.Leg(person); mine != nil {
			return live.Wait(ctx, mine, after), mine.Side, nil
		}
		return Status{}, "", fmt.Errorf("the side of somebody in a call: %w", yesline.NotFound)
	}
	row, err := r.Call(ctx, call)
	if err != nil {
		return Status{}, "", err
	}
	for _, p := range row.Parties {
		if person != "" && p.Person == person && row.State == Ended {
			return Status{Version: after + 1, State: Ended, Recording: "nobody", Ending: row.Ending}, p.Side, nil
		}
	}
	return Status{}, "", fmt.Errorf("the side of somebody in a call: %w", yesline.NotFound)
}

// Leg gives the leg of a person in the call; nil when they are no party.
func (c *Live) Leg(person yesline.PersonID) *Leg {
	for _, l := range c.legs() {
		if person != "" && l.Person == person {
			return l
		}
	}
	return nil
}

// Wait returns the status of a party when it is newer than after, or as it is
// when ctx ends.
func (c *Live) Wait(ctx context.Context, mine *Leg, after int64) Status {
	version := c.news.wait(ctx, after)
	theirs := c.Callee
	if mine == c.Callee {
		theirs = c.Caller
	}
	s := Status{Version: version, Paused: c.paused(), CanAsk: c.mayAsk()}
	me, them := mine.kept(), theirs.kept()
	switch {
	case me && them:
		s.Recording = "both"
	case me:
		s.Recording = "me"
	case them:
		s.Recording = "them"
	default:
		s.Recording = "nobody"
	}
	var other Status
	theirs.tells(&other)
	s.Theirs, s.Unable = other.Question, c.unable
	mine.tells(&s)
	c.mu.Lock()
	defer c.mu.Unlock()
	s.State, s.Ending = c.state, c.ending
	if !c.bridged.IsZero() {
		s.Talking = time.Since(c.bridged)
	}
	return s
}

// tells writes down how this party stands to being recorded.
func (l *Leg) tells(s *Status) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.Question = l.asking && l.answer == open && l.live.unable == ""
	s.MayAgree = s.Question && l.heard != nil && l.pageSpeaks()
	s.MayLast = s.MayAgree && l.lasts()
	if s.Question && l.heard != nil {
		s.Left = max(0, time.Until(l.heard.to.Add(answerTime)))
	}
	s.Mine, s.Why = map[answer]string{yes: "yes", no: "no"}[l.answer], l.why
}

// pageSpeaks reports whether the page of this leg's person speaks for who is on
// the line: theirs is the telephone that signed in, or they had us ring their
// own from there. Whoever shows their number, or picks it up, answers by a key.
// Called with mu held.
func (l *Leg) pageSpeaks() bool {
	switch l.way() {
	case consent.ByAccount:
		return true
	case consent.ByRinging:
		return l.Side == Caller && l.live.a != nil
	}
	return false
}

// kept reports whether this voice is being kept now.
func (l *Leg) kept() bool {
	for _, r := range l.live.keeping() {
		if r.leg == l && !r.done.Load() {
			return true
		}
	}
	return false
}

// Choose takes a word from the page of this leg's own person, who is signed in
// there: "agree", "agree_always", "decline", "stop", "pause", "resume",
// "record", "hangup". They mean what the keys 1, 3, 2, *9, *5, *6 and *8 mean,
// under the same rules, and a yes only where the page speaks for who is on the
// line. yesline.Conflict when it means nothing now.
func (l *Leg) Choose(word string) error {
	now := time.Now()
	done := false
	switch word {
	case "agree":
		done = l.agree(now, "page", "1", false)
	case "agree_always":
		done = l.agree(now, "page", "3", true)
	case "decline":
		done = l.declines(now, "page", "2")
	case "stop":
		done = l.stops(now, "page", "*9")
	case "pause":
		done = l.Pause(true)
	case "resume":
		done = l.Pause(false)
	case "record":
		done = l.live.want()
	case "hangup":
		done = l.live.end(fmt.Errorf("the %s hung up", l.Side))
	default:
		return fmt.Errorf("a word for a call: %w", yesline.Invalid)
	}
	if !done {
		return fmt.Errorf("a word that means nothing now: %w", yesline.Conflict)
	}
	return nil
}

// end ends the call for a reason in words. It reports whether there was one to
// end.
func (c *Live) end(why error) bool {
	c.mu.Lock()
	end := c.hangUp
	c.mu.Unlock()
	if end == nil {
		return false
	}
	end(why)
	return true
}

// Press takes a key of the keypad on this person's own page: the same as a word
// where it has a meaning, and no yes, which has a word of its own.
// yesline.Invalid when it is no key.
func (l *Leg) Press(key string) error {
	if len(key) != 1 || !strings.Contains("0123456789*#", key) {
		return fmt.Errorf("a key for a call: %w", yesline.Invalid)
	}
	l.Key(key[0], time.Now(), false)
	return nil
}
