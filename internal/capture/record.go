package capture

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"yesline"
	"yesline/internal/consent"
	"yesline/internal/vault"
)

const (
	renewEvery = time.Second
	doubtEvery = 50 * time.Millisecond // how soon a second that waits for a no is looked at again
)

// recorder keeps one voice: when a second is 200 ms old it renews the lease and
// seals it, away from the receive loop, and sleeps until the next is. The first
// refusal of either is the last byte of the voice.
type recorder struct {
	leg  *Leg
	lane *lane

	renew  func(ctx context.Context) (consent.Grant, error)
	put    func(consent.Grant, int64, *vault.Second) error
	finish func(ctx context.Context) error // no more seconds
	behind func() time.Duration            // how long the store takes for what is sealed
	grant  consent.Grant

	again   chan struct{}   // has one when the lease should be asked again now
	halted  <-chan struct{} // closed when the party stopped it
	refused bool            // the rule ended it; read by close
	running bool            // used by the goroutine of Live.Run alone
	closing atomic.Bool
	done    atomic.Bool
}

// begin prepares the recording of a leg that said yes: lease, key, object. All
// is committed before it returns; nothing is kept yet.
func (l *Leg) begin(ctx context.Context) {
	l.mu.Lock()
	wanted := l.answer == yes
	l.mu.Unlock()
	if !wanted {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	defer l.live.room.entered(time.Now())
	r, err := l.prepare(ctx)
	if err == nil {
		// A withdrawal may have come before the track had a row to be shredded by.
		if err = r.ask(ctx); err != nil {
			r.refused = errors.Is(err, yesline.Denied)
			r.close()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.track, l.why = "", "said yes, but "+cause(err)
		if !errors.Is(err, yesline.Denied) {
			l.live.room.report().Error("a voice is not recorded", "call", l.live.ID, "leg", l.ID, "error", err)
		}
		return
	}
	l.recorded = true
	halted, stop := context.WithCancel(context.Background())
	r.halted, l.stop = halted.Done(), stop
	if l.answer != yes {
		stop() // changed their mind while the key was made
	}
	l.live.mu.Lock()
	l.live.recorders = append(l.live.recorders, r)
	l.live.mu.Unlock()
}

func (l *Leg) prepare(ctx context.Context) (*recorder, error) {
	c := l.live
	lease, err := c.room.Consent.Lease(ctx, c.ID, l.Person)
	if err != nil {
		return nil, fmt.Errorf("asking for a lease: %w", err)
	}
	grant, err := lease.Grant(ctx)
	if err != nil {
		lease.Close()
		return nil, fmt.Errorf("asking for a grant: %w", err)
	}
	if err := c.room.Voices.MintVoice(ctx, c.program, l.Person); err != nil {
		lease.Close()
		return nil, fmt.Errorf("minting at the yes: %w", err)
	}
	t := vault.Track{ID: yesline.NewTrackID(), Call: c.ID, Leg: l.ID, Program: c.program, Person: l.Person,
		Codec: l.line.Voice, Rendition: vault.Voice}
	w, err := c.room.Sealer.Begin(ctx, grant, t)
	if err != nil {
		lease.Close()
		return nil, fmt.Errorf("beginning a track: %w", err)
	}
	l.mu.Lock()
	l.track = t.ID
	l.mu.Unlock()
	return &recorder{leg: l, grant: grant, renew: lease.Grant, put: w.Put, behind: c.room.Sealer.Behind, again: make(chan struct{}, 1),
		finish: func(ctx context.Context) error {
			lease.Close()
			return w.End(ctx)
		}}, nil
}

// listen opens the lane: packets count from now. They belong to seconds that
// are counted from zero.
func (l *Leg) listen(r *recorder, zero time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.lane = newLane(l.line.Voice, zero, time.Now())
	if l.answer == yes && l.stop != nil && !l.live.feared.Load() {
		l.lane.Store(r.lane)
	}
}

// look makes the recorder ask for its lease now.
func (r *recorder) look() {
	select {
	case r.again <- struct{}{}:
	default:
	}
}

// run keeps the voice until ctx ends, the party stops it, or it may not be kept.
func (r *recorder) run(ctx context.Context) {
	why := r.keep(ctx)
	r.leg.lane.CompareAndSwap(r.lane, nil)
	if late, odd, twice := r.lane.dropped(); late+odd+twice > 0 {
		r.leg.live.room.report().Info("packets were not kept", "call", r.leg.live.ID, "leg", r.leg.ID, "late", late, "odd", odd, "twice", twice)
	}
	if why != nil {
		r.lane.drop()
		r.refused = errors.Is(why, yesline.Denied)
		r.leg.mu.Lock()
		if r.leg.answer == yes && !r.isHalted() {
			r.leg.why = "said yes; it ended because " + cause(why)
		}
		r.leg.mu.Unlock()
	}
	r.close()
}

func (r *recorder) isHalted() bool {
	select {
	case <-r.halted:
		return true
	default:
		return false
	}
}

var errHalted = errors.New("the party stopped it")

// keep returns nil when the call ended, or why no more is kept.
func (r *recorder) keep(ctx context.Context) error {
	due := time.NewTimer(min(renewEvery, time.Until(r.lane.due())))
	defer due.Stop()
	for {
		select {
		case <-r.halted:
			return errHalted
		case <-ctx.Done():
			return r.last(ctx)
		case <-r.again:
		case <-due.C:
		}
		if err := r.ask(ctx); err != nil {
			return err // not renewed: no more bytes, whatever the reason
		}
		if r.leg.live.inDoubt() {
			due.Reset(doubtEvery) // somebody said no and it is being written down; the seconds wait, or are lost
			continue
		}
		ended := r.lane.due()
		if err := r.seal(r.lane.take(time.Now())); err != nil {
			return err
		}
		r.leg.live.room.sealed(ended, r.behind())
		due.Reset(min(renewEvery, time.Until(r.lane.due())))
	}
}

// last seals what the call left, under a grant renewed after every no that was
// said before the end is written down. Until that is sure, nothing is sealed.
func (r *recorder) last(ctx context.Context) error {
	seconds := r.lane.finish(time.Now())
	sure := time.NewTimer(patience)
	defer sure.Stop()
	select {
	case <-r.leg.live.certainty():
	case <-r.halted:
		return errHalted
	case <-sure.C:
		return fmt.Errorf("waiting for a no to be written down: %w", yesline.Unavailable)
	}
	if err := r.ask(ctx); err != nil {
		return err
	}
	if r.leg.live.inDoubt() {
		return fmt.Errorf("a no at the very end: %w", yesline.Denied)
	}
	return r.seal(seconds)
}

// ask renews the grant, also when the call has just ended.
func (r *recorder) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), renewEvery)
	defer cancel()
	grant, err := r.renew(ctx)
	if err != nil {
		return err
	}
	r.grant = grant
	return nil
}

func (r *recorder) seal(seconds []*second) error {
	for _, s := range seconds {
		if r.isHalted() || r.leg.live.feared.Load() {
			return errHalted
		}
		if err := r.put(r.grant, s.n, &vault.Second{Codec: r.lane.codec, Present: s.present, Payload: s.payload}); err != nil {
			return err
		}
		s.free()
	}
	return nil
}

// close ends the track, once.
func (r *recorder) close() {
	if r.closing.Swap(true) {
		return
	}
	defer r.done.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := r.finish(ctx)
	if err == nil && r.refused {
		err = r.leg.shredAgain(ctx)
	}
	if err != nil {
		r.leg.live.room.report().Error("a track was not closed", "call", r.leg.live.ID, "leg", r.leg.ID, "error", err)
	}
}

// shredAgain asks for the voice to be destroyed if its person withdrew: the
// withdrawal's own job may have come before the track had a row.
func (l *Leg) shredAgain(ctx context.Context) error {
	c := l.live
	standing, err := c.room.Consent.Of(ctx, c.ID, l.Person)
	if err != nil {
		return fmt.Errorf("asking whether it was withdrawn: %w", err)
	}
	if standing.Record != consent.Withdrawn || c.room.Shred == nil {
		return nil
	}
	return c.room.Shred(ctx, c.ID, l.Person)
}

// cause puts the kind of an error into the words of a call's row.
func cause(err error) string {
	switch {
	case errors.Is(err, yesline.Denied):
		return "the rule does not allow it"
	case errors.Is(err, yesline.Full):
		return "the disk is full"
	case errors.Is(err, yesline.Unavailable), errors.Is(err, context.DeadlineExceeded):
		return "a part of the house did not answer"
	default:
		return "it could not be sealed"
	}
}
