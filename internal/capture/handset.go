package capture

import (
	"context"
	"errors"
	"slices"
	"sync"

	"yesline/internal/audio"
	"yesline/internal/capture/media"
	"yesline/internal/consent"
)

// Handset is a party's telephone, as its door carries it: a SIP phone, a
// browser, a number behind the trunk.
type Handset interface {
	// Connect takes the call that this telephone made, or rings it, and returns
	// when it was picked up and sound can flow. Its error is one of those below,
	// or the cause of ctx.
	Connect(ctx context.Context, o Ends) (Line, error)

	// Hangup ends it and gives back what it holds. It may be called again, and
	// before and during Connect.
	Hangup()
}

// Ends is what a handset is told of the call it belongs to.
type Ends struct {
	Listener media.Listener      // is told what this party says and presses; nil: nobody is
	Like     []audio.Codec       // what the other side speaks, once that is known: preferred, so that nothing is transcoded
	Left     func(why error)     // this party hung up (ErrHungUp), or its line died
	Early    func(*media.Stream) // once at most: sound comes before the answer. It may be relayed and never kept
}

// Line is what a door gives for one party that was picked up.
type Line struct {
	Codec  audio.Codec   // what is played to this party
	Voice  audio.Codec   // what this party speaks; its track is in it
	Stream *media.Stream // its voice, and what it hears of the other's
	Way    consent.Way   // how the house knows whose telephone it is

	// Play sends sound, in Codec, at the pace it is spoken. It returns nil when
	// the last of it was sent, and an error when ctx ended or the line did.
	Play func(ctx context.Context, sound []byte) error

	// Beep begins to mix the recording tone into what this party hears. It does
	// not wait.
	Beep func()
}

// How a handset ends or is not reached, in the words of a call's row. What is
// said of "the callee" is said of whoever was rung.
var (
	ErrHungUp    = errors.New("hung up")
	ErrLost      = errors.New("the line was lost")
	ErrCancelled = errors.New("the caller gave up")
	ErrNoACK     = errors.New("the caller's phone did not confirm")
	ErrNoCodec   = errors.New("the two telephones share no codec")
	ErrBusy      = errors.New("the callee was busy")
	ErrUnreached = errors.New("the callee could not be reached")
	ErrNoAnswer  = errors.New("the callee did not answer")
	ErrDeclined  = errors.New("the callee declined")
	ErrClosing   = errors.New("the server stopped")
)

// AnyOf rings several telephones of one person at once: the first that is
// picked up carries the call, and the others stop ringing.
func AnyOf(phones ...Handset) Handset {
	if len(phones) == 1 {
		return phones[0]
	}
	return &fork{phones: phones}
}

// fork is telephones that ring together.
type fork struct {
	phones []Handset

	mu    sync.Mutex // guards what follows
	taken Handset
}

func (f *fork) Connect(ctx context.Context, o Ends) (Line, error) {
	if len(f.phones) == 0 {
		return Line{}, ErrUnreached
	}
	type outcome struct {
		from Handset
		line Line
		err  error
	}
	outcomes := make(chan outcome, len(f.phones))
	for _, p := range f.phones {
		go func() { // ends when Hangup or ctx ends its Connect; Connect below waits for all
			line, err := p.Connect(ctx, f.ends(p, o))
			outcomes <- outcome{p, line, err}
		}()
	}
	var won outcome
	errs := make([]error, 0, len(f.phones))
	for range f.phones {
		got := <-outcomes
		if got.err != nil {
			errs = append(errs, got.err)
			continue
		}
		if f.take(got.from) {
			won = got
			f.hangUpOthers(got.from)
			continue
		}
		got.from.Hangup() // answered at the same moment
	}
	if won.from != nil {
		return won.line, nil
	}
	return Line{}, worst(errs)
}

// ends lets only the telephone that carries the call end it.
func (f *fork) ends(p Handset, o Ends) Ends {
	left := o.Left
	o.Left = func(why error) {
		f.mu.Lock()
		mine := f.taken == p
		f.mu.Unlock()
		if mine {
			left(why)
		}
	}
	o.Early = nil // of several that ring, none is heard
	return o
}

func (f *fork) take(p Handset) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.taken != nil {
		return false
	}
	f.taken = p
	return true
}

func (f *fork) hangUpOthers(but Handset) {
	for _, p := range f.phones {
		if p != but {
			p.Hangup()
		}
	}
}

func (f *fork) Hangup() {
	for _, p := range f.phones {
		p.Hangup()
	}
}

// worst is what to tell of several that were not picked up: that somebody said
// no or was busy says more than that nobody came.
func worst(errs []error) error {
	for _, known := range []error{ErrDeclined, ErrBusy, ErrNoAnswer} {
		if slices.ContainsFunc(errs, func(err error) bool { return errors.Is(err, known) }) {
			return known
		}
	}
	return errs[0]
}
