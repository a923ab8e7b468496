package access

import (
	"strconv"
	"sync"
	"time"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/session"
)

const (
	loggedDenials = 20   // of a principal and verb in a minute that get an entry each
	maxCounted    = 4096 // principals and verbs that are counted at once
	settleAtOnce  = 4    // counts of past minutes that one question writes first
)

// denials counts refusals, so that somebody who knocks a thousand times fills
// the log with 20 entries and one that says how often. It is in memory: what
// was counted and not yet written is lost with the process. It starts no
// goroutine: the next question writes what is due.
type denials struct {
	mu     sync.Mutex // guards all below
	minute int64
	counts map[counted]*count
	due    []count // of minutes that ended; at most maxCounted
}

// counted is whose denials are counted together: all sessions of a principal.
type counted struct {
	actor   string
	program yesline.ProgramID
	person  yesline.PersonID // "" for operators and machines
	verb    Verb
}

type count struct {
	counted
	minute int64
	n      int // all denials; those beyond loggedDenials have no entry yet
}

// add counts a denial and reports whether it gets an entry of its own. When
// the table is full, denials of further principals do.
func (d *denials) add(now time.Time, who session.Principal, v Verb) (write bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn(now)
	key := counted{who.String(), who.Program(), who.Person(), v}
	c := d.counts[key]
	if c == nil {
		if len(d.counts) >= maxCounted {
			return true
		}
		c = &count{counted: key, minute: d.minute}
		d.counts[key] = c
	}
	c.n++
	return c.n <= loggedDenials
}

// turn begins a new minute: counts with something to tell become due. One for
// which there is no room stays and grows.
func (d *denials) turn(now time.Time) {
	minute := now.Unix() / 60
	if d.counts == nil {
		d.counts = map[counted]*count{}
	}
	if minute == d.minute {
		return
	}
	d.minute = minute
	d.endMinute()
}

func (d *denials) endMinute() {
	for key, c := range d.counts {
		if c.n > loggedDenials {
			if len(d.due) >= maxCounted {
				continue
			}
			d.due = append(d.due, *c)
		}
		delete(d.counts, key)
	}
}

// end ends the minute before its time.
func (d *denials) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.endMinute()
}

// take gives at most n counts that are due; the caller writes them or puts
// them back.
func (d *denials) take(now time.Time, n int) []count {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn(now)
	n = min(n, len(d.due))
	taken := append([]count(nil), d.due[:n]...)
	d.due = append(d.due[:0], d.due[n:]...)
	return taken
}

func (d *denials) putBack(cs []count) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.due = append(d.due, cs[:min(len(cs), maxCounted-len(d.due))]...)
}

// nameless is the count of a person who was erased: it still tells that
// somebody knocked, and not who.
func (c count) nameless() count {
	c.actor, c.person = "somebody", ""
	return c
}

// entry tells of the denials of a minute that had none of their own.
func (c count) entry() audit.Entry {
	e := audit.Entry{Program: c.program, Actor: c.actor, Verb: string(c.verb), Result: "refused",
		Detail: map[string]string{
			"times":  strconv.Itoa(c.n - loggedDenials),
			"minute": time.Unix(c.minute*60, 0).UTC().Format("2006-01-02T15:04Z"),
		}}
	if c.person != "" {
		e.Subjects = []yesline.PersonID{c.person}
	}
	return e
}
