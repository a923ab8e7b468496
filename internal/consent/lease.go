package consent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"yesline"
	"yesline/internal/db"
)

// Lease watches one person's consent in one live call and gives Grants while
// it stands. Capture holds one for each voice it writes.
type Lease struct {
	c       *Consent
	call    yesline.CallID
	person  yesline.PersonID
	program yesline.ProgramID
	held    *db.Held

	mu       sync.Mutex // guards what was read, and when it was true
	read     bool
	revision int64
	allowed  bool
}

// Lease begins to watch. yesline.Denied while the rule allows no byte of this
// person.
func (c *Consent) Lease(ctx context.Context, call yesline.CallID, person yesline.PersonID) (*Lease, error) {
	l := &Lease{c: c, call: call, person: person}
	if err := c.db.QueryRow(ctx, `SELECT program FROM consent_calls WHERE call = $1`, string(call)).Scan(&l.program); err != nil {
		return nil, absent(err)
	}
	var err error
	if l.held, err = c.db.Hold(ctx, subject(call)); err != nil {
		return nil, fmt.Errorf("watching consent: %w", err)
	}
	if _, err := l.Grant(ctx); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Grant renews the lease: from memory while nothing changed, by a look at the
// database when the watch moved. yesline.Denied once consent no longer stands,
// or when this node has not seen the watches for 3 s.
func (l *Lease) Grant(ctx context.Context) (Grant, error) {
	if !l.c.db.Fresh() {
		return Grant{}, fmt.Errorf("renewing a grant on news that is too old: %w", yesline.Denied)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	revision := l.held.Revision() // before reading, so that what is read is at least as new
	if !l.read || revision != l.revision {
		if err := l.look(ctx, revision); err != nil {
			return Grant{}, err
		}
	}
	if !l.allowed {
		return Grant{}, fmt.Errorf("recording this voice: %w", yesline.Denied)
	}
	return Grant{program: l.program, call: l.call, person: l.person, purpose: Record,
		revision: revision, until: time.Now().Add(LeaseTime)}, nil
}

func (l *Lease) look(ctx context.Context, revision int64) error {
	oneSided, _, err := l.c.Rule(ctx, l.call)
	if err != nil {
		return err
	}
	all, err := l.c.Standings(ctx, []yesline.CallID{l.call})
	if err != nil {
		return err
	}
	l.allowed = allowed(oneSided, all[l.call], l.person)
	l.read, l.revision = true, revision
	return nil
}

// Close ends the watch.
func (l *Lease) Close() { l.held.Release() }

// Kept gives a Grant for deriving something (a waveform) from a voice that is
// kept: not for new sound of a call. yesline.Denied when it is not kept.
func (c *Consent) Kept(ctx context.Context, call yesline.CallID, person yesline.PersonID) (Grant, error) {
	var g Grant
	if err := c.db.QueryRow(ctx, `SELECT program, revision FROM consent_calls WHERE call = $1`, string(call)).Scan(&g.program, &g.revision); err != nil {
		return Grant{}, absent(err)
	}
	s, err := c.Of(ctx, call, person)
	if err != nil {
		return Grant{}, err
	}
	if !s.Kept() {
		return Grant{}, fmt.Errorf("deriving from a voice that is not kept: %w", yesline.Denied)
	}
	g.call, g.person, g.purpose, g.until = call, person, Derive, time.Now().Add(LeaseTime)
	return g, nil
}
