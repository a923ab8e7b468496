package webrtc

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/capture"
)

const (
	pollTime  = 25 * time.Second // that a page waits for a call
	awayTime  = 6 * time.Second  // after its last question a page still counts as open
	maxPages  = 8                // of one person that wait at once
	maxRings  = 4                // calls that ring at one person at once
	maxPeople = 100_000          // whose pages are open
)

// Incoming is what rings at a person, as their page asks for it. Version moves
// with every change; Call is empty when nothing rings.
type Incoming struct {
	Version int64
	Call    yesline.CallID
}

// ringer is one person who has pages open.
type ringer struct {
	version int64
	pages   int           // that are asking now
	seen    time.Time     // when the last one asked
	changed chan struct{} // closed at the next change
	rings   []*ringing    // the oldest first
}

func newRinger(now time.Time) *ringer {
	return &ringer{version: now.UnixMilli(), seen: now, changed: make(chan struct{})}
}

func (r *ringer) move() {
	r.version++
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *ringer) here(now time.Time) bool { return r.pages > 0 || now.Sub(r.seen) < awayTime }

func (r *ringer) incoming() Incoming {
	in := Incoming{Version: r.version}
	for _, at := range r.rings {
		if !at.taken {
			in.Call = at.call
			break
		}
	}
	return in
}

// tidy forgets people whose pages are gone.
func (d *Door) tidy(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for person, r := range d.desks {
		if !r.here(now) && len(r.rings) == 0 {
			delete(d.desks, person)
		}
	}
}

// Here reports whether a person has a page open that would ring.
func (d *Door) Here(person yesline.PersonID) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	r := d.desks[person]
	return r != nil && r.here(time.Now())
}

// Incoming says what rings at a person, when that is something else than the
// page saw in version after, and after 25 seconds at the latest. While it waits
// the person's page counts as open.
func (d *Door) Incoming(ctx context.Context, person yesline.PersonID, after int64) (Incoming, error) {
	r, in, changed, err := d.arrive(person)
	if err != nil {
		return Incoming{}, err
	}
	defer d.depart(r)
	if in.Version != after {
		return in, nil
	}
	wait := time.NewTimer(pollTime)
	defer wait.Stop()
	select {
	case <-changed:
	case <-wait.C:
	case <-ctx.Done():
		return Incoming{}, context.Cause(ctx)
	case <-d.ctx.Done():
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	return r.incoming(), nil
}

func (d *Door) arrive(person yesline.PersonID) (*ringer, Incoming, <-chan struct{}, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.desks[person]
	switch {
	case d.closed || d.ctx == nil:
		return nil, Incoming{}, nil, fmt.Errorf("the browser door is closed: %w", yesline.Unavailable)
	case r == nil && len(d.desks) >= maxPeople, r != nil && r.pages >= maxPages:
		return nil, Incoming{}, nil, fmt.Errorf("too many pages wait for calls: %w", yesline.TooMany)
	case r == nil:
		r = newRinger(time.Now())
		d.desks[person] = r
	}
	r.pages++
	return r, r.incoming(), r.changed, nil
}

func (d *Door) depart(r *ringer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r.pages--
	r.seen = time.Now()
}

// Ring is the telephone that a person's open pages are together.
func (d *Door) Ring(person yesline.PersonID) capture.Handset {
	r := &ringing{door: d, person: person, answered: make(chan *Handset, 1)}
	r.ctx, r.end = context.WithCancelCause(context.Background())
	return r
}

// ringing is one call that rings at a person's pages.
type ringing struct {
	door   *Door
	person yesline.PersonID

	ctx      context.Context // ends with Hangup or when the person declines
	end      context.CancelCauseFunc
	answered chan *Handset

	call  yesline.CallID // these three belong to the door's mu
	ends  capture.Ends
	taken bool // a page is answering it

	mu      sync.Mutex // guards handset
	handset *Handset
}

// Connect rings the person's pages and returns when one of them answered and
// its voice can flow; capture.ErrNoAnswer when none did for Config.MaxRing.
func (r *ringing) Connect(ctx context.Context, o capture.Ends) (capture.Line, error) {
	if err := r.begin(o); err != nil {
		return capture.Line{}, err
	}
	defer r.stop()
	ring := time.NewTimer(r.door.cfg.MaxRing)
	defer ring.Stop()
	select {
	case <-ring.C:
		return capture.Line{}, capture.ErrNoAnswer
	case <-ctx.Done():
		return capture.Line{}, context.Cause(ctx)
	case <-r.ctx.Done():
		return capture.Line{}, context.Cause(r.ctx)
	case h := <-r.answered:
		if !r.hold(h) {
			h.Hangup()
			return capture.Line{}, context.Cause(r.ctx)
		}
		return h.Connect(ctx, o)
	}
}

func (r *ringing) begin(o capture.Ends) error {
	p, ok := o.Listener.(party)
	if !ok {
		return fmt.Errorf("ringing for nobody's call: %w", capture.ErrUnreached)
	}
	call, _ := p.Party()
	d := r.door
	d.mu.Lock()
	defer d.mu.Unlock()
	at := d.desks[r.person]
	switch {
	case d.closed || at == nil || !at.here(time.Now()):
		return fmt.Errorf("no page is open: %w", capture.ErrUnreached)
	case len(at.rings) >= maxRings:
		return capture.ErrBusy
	}
	r.call, r.ends = call, o
	at.rings = append(at.rings, r)
	at.move()
	return nil
}

// stop takes the call off the person's pages. A page that answered at the same
// moment answered nobody.
func (r *ringing) stop() {
	r.door.unring(r)
	select {
	case h := <-r.answered:
		h.Hangup()
	default:
	}
}

func (d *Door) unring(r *ringing) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := d.desks[r.person]
	if at == nil {
		return
	}
	if i := slices.Index(at.rings, r); i >= 0 {
		at.rings = slices.Delete(at.rings, i, i+1)
		at.seen = time.Now()
		at.move()
	}
}

// hold keeps the browser that answered; false when it was hung up meanwhile.
func (r *ringing) hold(h *Handset) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handset = h
	return r.ctx.Err() == nil
}

// Hangup ends the ringing, or the line of the page that answered.
func (r *ringing) Hangup() {
	r.end(capture.ErrHungUp)
	r.mu.Lock()
	h := r.handset
	r.mu.Unlock()
	if h != nil {
		h.Hangup()
	}
}

// Answer is a page's answer to a call that rings there: its offer, for which it
// gets ours. The first page has it: yesline.NotFound when nothing rings, or
// another page was quicker.
func (d *Door) Answer(person yesline.PersonID, call yesline.CallID, offer string) (string, error) {
	r, err := d.pick(person, call)
	if err != nil {
		return "", err
	}
	h, answer, err := d.reply(offer, r.ends.Like)
	if err != nil {
		d.unpick(r) // another try, or another page
		return "", err
	}
	if !d.hand(r, h) {
		h.Hangup()
		return "", errNotRinging()
	}
	return answer, nil
}

func errNotRinging() error { return fmt.Errorf("no such call rings here: %w", yesline.NotFound) }

// hand gives the browser that answered to the call that rang, if it still does.
func (d *Door) hand(r *ringing, h *Handset) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at := d.desks[r.person]; at == nil || !slices.Contains(at.rings, r) {
		return false
	}
	r.answered <- h // has room: only who picked it gives one
	return true
}

// reply answers an offer in a codec of which the other side hears something: the
// two of G.711 are turned into each other, Opus into nothing.
func (d *Door) reply(offer string, like []audio.Codec) (*Handset, string, error) {
	wants := audio.PCMU
	if len(like) > 0 {
		wants = like[0]
	}
	h, answer, err := d.Handset(offer, wants)
	if err != nil {
		return nil, "", err
	}
	if got := h.chosen.voice.codec; len(like) > 0 && (got == audio.Opus) != (wants == audio.Opus) {
		h.Hangup()
		return nil, "", fmt.Errorf("this browser does not speak what the other one does: %w: %w", capture.ErrNoCodec, yesline.Invalid)
	}
	return h, answer, nil
}

// Decline says no for all pages of a person.
func (d *Door) Decline(person yesline.PersonID, call yesline.CallID) error {
	r, err := d.pick(person, call)
	if err != nil {
		return err
	}
	r.end(capture.ErrDeclined)
	return nil
}

// pick takes a ringing call for one page.
func (d *Door) pick(person yesline.PersonID, call yesline.CallID) (*ringing, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at := d.desks[person]; at != nil {
		for _, r := range at.rings {
			if r.call == call && !r.taken && r.ctx.Err() == nil {
				r.taken = true
				at.move()
				return r, nil
			}
		}
	}
	return nil, errNotRinging()
}

func (d *Door) unpick(r *ringing) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r.taken = false
	if at := d.desks[r.person]; at != nil {
		at.move()
	}
}
