// Package capture carries a call from ring to end and keeps, as a track of its
// own, each voice whose person said yes, from the moment the rule allows it.
//
// A refusal, a fault or a full disk ends the recording and never the call: no
// more bytes, and the call's row says why in words. How sound reaches us is a
// door's affair (capture/sip); a door hands packets and keys to a Leg and gives
// it a Line to speak on.
package capture

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"time"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/capture/tolls"
	"yesline/internal/consent"
	"yesline/internal/db"
	"yesline/internal/people"
	"yesline/internal/program"
	"yesline/internal/session"
	"yesline/internal/vault"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Room knows every call and lets doors begin them.
type Room struct {
	Content  *db.DB
	Log      *audit.Log
	People   *people.People
	Programs *program.Programs
	Voices   minter // keys, which capture may mint at the yes and never open
	Consent  *consent.Consent
	Sealer   *vault.Sealer
	Report   *slog.Logger                                                                  // what went wrong, with ids and never a number; nil is silent
	First    func(do func() error) error                                                   // does what a full disk must not keep from being written: a no, a stop; nil: just does it
	Shred    func(ctx context.Context, call yesline.CallID, person yesline.PersonID) error // sets off the destruction of a withdrawn voice; idempotent. nil: consent's own job is all
	Sounds   fs.FS                                                                         // prompts in other words or another language: "ask.ul" and so on; nil: ours
	Reach    func(ctx context.Context, w Wanted) (Route, error)                            // how somebody is reached: by a telephone that is connected, or a trunk
	Tolls    *tolls.Tolls                                                                  // whether a call by a trunk may be placed; nil: each may
	Most     int                                                                           // calls at once; 0: no limit of its own
	Longest  time.Duration                                                                 // of a call; 0, and at most: 4 hours less a minute

	said    sync.Map // prompts by name, read once
	wording sync.Once
	words   string // what a lasting yes was a yes to; set by wording
	strain  strain

	mu       sync.Mutex // guards the rest
	lives    map[yesline.CallID]*Live
	draining bool
	news     bell // rings when a draining room is empty
}

type minter interface {
	MintVoice(ctx context.Context, program yesline.ProgramID, person yesline.PersonID) error
}

// Migrate brings the room's tables in the content database up to date.
func Migrate(ctx context.Context, content *db.DB) error {
	return content.Migrate(ctx, "capture", migrations)
}

func (r *Room) report() *slog.Logger {
	if r.Report == nil {
		return slog.New(slog.DiscardHandler)
	}
	return r.Report
}

// patience bounds each thing that a call asks of the rest of the house.
const patience = 5 * time.Second

// Wanted is whom a call is to reach.
type Wanted struct {
	Call    yesline.CallID
	Program yesline.ProgramID
	From    yesline.PersonID // who calls; "" when that is not known
	To      yesline.PersonID
	Number  yesline.Phone
	Outside bool // by the trunk, although a telephone of theirs may be connected
}

// Route is how somebody is reached.
type Route struct {
	Handset Handset
	Trunk   string // by which trunk, where it costs something; "" for a telephone that is connected to us
}

// Dial opens a call from a device's person to a number and finds the way there;
// Carry carries it. It fails only where the call itself cannot be: a number
// that is the caller's own (Invalid), one that may not be called (*tolls.Refusal),
// too many new numbers (TooMany), a house that is full (ErrFull, ErrMost) or one
// that is closing (Unavailable). If the house cannot write it down, the call goes on,
// unrecorded and unwritten.
func (r *Room) Dial(ctx context.Context, from session.Device, to yesline.Phone) (*Live, error) {
	return r.dial(ctx, from, to, nil)
}

// Begin is Dial for whoever brings both telephones. End must be called.
func (r *Room) Begin(ctx context.Context, from session.Device, to yesline.Phone) (*Live, error) {
	return r.begin(ctx, from, to, func(context.Context, *Live, yesline.PersonID) error { return nil })
}

// RingFirst opens a call that the room places on both sides: to the person's
// own telephone first, and from there to a number.
func (r *Room) RingFirst(ctx context.Context, who session.Device, own, to yesline.Phone) (*Live, error) {
	return r.dial(ctx, who, to, &own)
}

func (r *Room) dial(ctx context.Context, from session.Device, to yesline.Phone, own *yesline.Phone) (*Live, error) {
	if r.Reach == nil {
		return nil, fmt.Errorf("a room without a way out: %w", yesline.Unavailable)
	}
	held, err := r.turnAway(ctx, from, to)
	if err != nil {
		return nil, err
	}
	defer held.giveBack()
	return r.begin(ctx, from, to, func(ctx context.Context, c *Live, callee yesline.PersonID) (err error) {
		if own != nil {
			if c.a, err = r.way(ctx, c, Wanted{Call: c.ID, Program: from.Program, From: from.Person, To: from.Person, Number: *own, Outside: true}, nil); err != nil {
				return err
			}
		}
		c.b, err = r.way(ctx, c, Wanted{Call: c.ID, Program: from.Program, From: from.Person, To: callee, Number: to}, &held)
		return err
	})
}

// turnAway refuses a call that nobody's telephone here could take and that may
// not go by a trunk, before the number is met: of such a call nothing is kept
// but that it was refused. A caller who has all their calls is refused before
// anything is looked up, whomever they call. What was held to find that out is
// held for the call.
func (r *Room) turnAway(ctx context.Context, from session.Device, to yesline.Phone) (held holding, err error) {
	if r.Tolls == nil {
		return held, nil
	}
	who := tolls.Who{Program: from.Program, Person: from.Person, Inside: true}
	if err := r.Tolls.Ready(who); err != nil {
		return held, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	route, err := r.Reach(ctx, Wanted{Program: from.Program, From: from.Person, Number: to})
	if err != nil {
		return held, nil // whatever failed is found again, and told, where it is needed
	}
	route.Handset.Hangup() // it was only to say which way it is
	who.Trunk, who.Inside = route.Trunk, route.Trunk == ""
	if !r.Tolls.Doubtful(ctx, who, to) {
		return held, nil
	}
	if _, err := r.People.Find(ctx, from.Program, to); !errors.Is(err, yesline.NotFound) {
		return held, nil
	}
	toll, err := r.Tolls.Place(ctx, who, to) // which remembers a refusal
	return holding{toll, route.Trunk}, err
}

// holding is a toll that was placed before its call was opened.
type holding struct {
	toll  *tolls.Call
	trunk string
}

// take gives it to the call, if that goes this way.
func (h *holding) take(trunk string) *tolls.Call {
	if h == nil || h.trunk != trunk {
		return nil
	}
	toll := h.toll
	h.toll = nil
	return toll
}

// giveBack ends what no call took.
func (h *holding) giveBack() {
	if h.toll != nil {
		h.toll.End(time.Now())
	}
}

// way finds how somebody is reached, and whether that may be, unless it is held
// already. What it reserved is given back when the call ends.
func (r *Room) way(ctx context.Context, c *Live, w Wanted, held *holding) (Handset, error) {
	route, err := r.Reach(ctx, w)
	if err != nil || r.Tolls == nil {
		return route.Handset, err
	}
	toll := held.take(route.Trunk)
	if toll == nil {
		toll, err = r.Tolls.Place(ctx, tolls.Who{Program: w.Program, Person: w.From, Trunk: route.Trunk, Inside: route.Trunk == ""}, w.Number)
	}
	if err != nil {
		hangUp(route.Handset)
		return nil, err
	}
	c.tolls = append(c.tolls, toll)
	return &tolled{route.Handset, toll}, nil
}

// tolled is a telephone that costs from when it is picked up.
type tolled struct {
	Handset
	toll *tolls.Call
}

func (t *tolled) Connect(ctx context.Context, o Ends) (Line, error) {
	line, err := t.Handset.Connect(ctx, o)
	if err == nil {
		t.toll.Answered(time.Now())
	}
	return line, err
}

// begin opens a call; way finds how to reach the callee, before anything is
// written down.
func (r *Room) begin(ctx context.Context, from session.Device, to yesline.Phone, way func(context.Context, *Live, yesline.PersonID) error) (*Live, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c := r.newLive(from.Program)
	c.Caller = newLeg(c, Caller, from.Person, from.ID)
	c.Callee = newLeg(c, Callee, "", "")
	if err := r.enter(c); err != nil {
		return nil, err
	}
	callee, err := r.People.Meet(ctx, from.Program, to)
	switch {
	case errors.Is(err, yesline.TooMany), errors.Is(err, yesline.Invalid):
		r.leave(c)
		return nil, fmt.Errorf("meeting the callee: %w", err)
	case err == nil && callee == from.Person:
		r.leave(c)
		return nil, fmt.Errorf("a call to oneself: %w", yesline.Invalid)
	case err == nil:
		c.Callee.Person = callee
	}
	if err := way(ctx, c, callee); err != nil {
		hangUp(c.a, c.b)
		c.settleTolls()
		r.leave(c)
		return nil, err
	}
	if err == nil {
		err = r.open(ctx, c)
	}
	if err != nil {
		r.unrecorded(c, err)
	}
	c.start()
	return c, nil
}

func (r *Room) unrecorded(c *Live, err error) {
	r.report().Error("a call goes on unrecorded", "call", c.ID, "error", err)
	c.unable = "nothing is recorded: the call could not be written down"
}

// Receive opens a call that comes in by a trunk for a person of ours. From is
// nil when the caller does not say who they are: then nothing can be recorded.
// yesline.NotFound when none of the person's telephones is here.
func (r *Room) Receive(ctx context.Context, program yesline.ProgramID, from *yesline.Phone, to yesline.PersonID) (*Live, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c := r.newLive(program)
	c.late = true
	c.Caller = newLeg(c, Caller, "", "")
	c.Callee = newLeg(c, Callee, to, "")
	if r.Reach == nil {
		return nil, fmt.Errorf("a room without a way to anybody: %w", yesline.NotFound)
	}
	if err := r.enter(c); err != nil {
		return nil, err
	}
	route, err := r.Reach(ctx, Wanted{Call: c.ID, Program: program, To: to})
	c.b = route.Handset
	if err != nil {
		r.leave(c)
		return nil, err
	}
	err = fmt.Errorf("a caller who does not say who they are: %w", yesline.Denied)
	if from != nil {
		c.Caller.Person, err = r.People.Meet(ctx, program, *from)
	}
	switch {
	case err != nil:
		c.Caller.Person = ""
		c.unable = "nothing is recorded: the caller is not known"
	case c.Caller.Person == to:
		hangUp(c.b)
		c.settleTolls()
		r.leave(c)
		return nil, fmt.Errorf("a call to oneself: %w", yesline.Invalid)
	}
	if err := r.open(ctx, c); err != nil {
		r.unrecorded(c, err)
	}
	c.start()
	return c, nil
}

func (r *Room) newLive(program yesline.ProgramID) *Live {
	c := &Live{ID: yesline.NewCallID(), room: r, program: program, began: time.Now(), state: Ringing,
		changed: make(chan struct{}, 1), wanted: make(chan struct{}, 1), said: make(chan string, 1), certain: make(chan struct{})}
	close(c.certain)
	return c
}

// enter counts a call in, if there is room for it.
func (r *Room) enter(c *Live) error {
	if r.Full() {
		return ErrFull
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining {
		return fmt.Errorf("a house that closes takes no more calls: %w", yesline.Unavailable)
	}
	most := r.Most
	if c.late {
		most -= most / 4 // calls from outside leave a quarter to our own people
	}
	if r.Most > 0 && len(r.lives) >= most {
		return ErrMost
	}
	if r.lives == nil {
		r.lives = map[yesline.CallID]*Live{}
	}
	r.lives[c.ID] = c
	return nil
}

// leave counts it out; it may be called again.
func (r *Room) leave(c *Live) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.lives, c.ID)
	if r.draining && len(r.lives) == 0 {
		r.news.ring()
	}
}

// Going is how many calls are going on here.
func (r *Room) Going() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.lives)
}

// Drain takes no more calls, and returns when those that go on have ended or
// ctx has: how many are left.
func (r *Room) Drain(ctx context.Context) (left int) {
	r.mu.Lock()
	r.draining = true
	r.mu.Unlock()
	for {
		seen := r.news.count()
		if left = r.Going(); left == 0 || ctx.Err() != nil {
			return left
		}
		r.news.wait(ctx, seen)
	}
}

// open writes the call down and tells consent of its parties.
func (r *Room) open(ctx context.Context, c *Live) error {
	defer r.entered(time.Now())
	if err := r.insert(ctx, c); err != nil {
		return err
	}
	c.written = true
	terms, err := r.Programs.Terms(ctx, c.program)
	if err != nil {
		return err
	}
	if c.askLater = terms.Ask == program.AskDuring; c.askLater {
		c.Caller.settle()
		c.Callee.settle()
	}
	if c.unable != "" {
		return nil // somebody who is not known cannot be asked
	}
	parties := make([]consent.Party, 0, 2)
	for _, l := range c.legs() {
		place, err := r.People.Place(ctx, l.Person)
		if err != nil {
			place = "" // unknown: the strictest rule
		}
		parties = append(parties, consent.Party{Person: l.Person, Place: place})
	}
	return r.Consent.Open(ctx, c.ID, c.program, parties)
}

// Number reads what a program's caller dialled: digits behind an optional plus
// and nothing else; without the plus it belongs to the program's country.
// yesline.Invalid otherwise; the error does not repeat it.
func (r *Room) Number(ctx context.Context, id yesline.ProgramID, dialled string) (yesline.Phone, error) {
	digits := strings.TrimPrefix(dialled, "+")
	if digits == "" || len(digits) > 18 || strings.Trim(digits, "0123456789") != "" {
		return yesline.Phone{}, fmt.Errorf("a dialled number is digits behind an optional plus: %w", yesline.Invalid)
	}
	terms, err := r.Programs.Terms(ctx, id)
	if err != nil && !strings.HasPrefix(dialled, "+") {
		return yesline.Phone{}, fmt.Errorf("reading a national number: %w", err)
	}
	return people.Parse(dialled, terms.Country)
}
