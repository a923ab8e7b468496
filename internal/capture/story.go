package capture

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"yesline/internal/audio"
	"yesline/internal/capture/media"
)

// longestCall keeps a track within what an object holds.
const longestCall = 4*time.Hour - time.Minute

// longestHelp ends a call for help that was forgotten: nobody listens to those.
const longestHelp = 6 * time.Hour

var (
	errTooLong = errors.New("the longest time was reached")
	errDone    = errors.New("it was over")
)

// story is one call while it is carried.
type story struct {
	*Live
	ctx  context.Context // its cause says in words how the call ended
	end  context.CancelCauseFunc
	a, b Handset
}

// Carry carries the call to its end: the caller's telephone is taken, or rung
// if the room is to do that (nil), both are asked when their program says so,
// and then they hear each other until one leaves, ctx ends or time is up. It
// returns when all is sealed and both telephones are given back.
func (c *Live) Carry(ctx context.Context, caller Handset) {
	if caller == nil {
		caller = c.a
	}
	s := &story{Live: c, a: caller, b: c.b}
	s.ctx, s.end = context.WithCancelCause(ctx)
	defer func() { c.End(context.Cause(s.ctx).Error()) }()
	defer s.hangUp()
	longest := longestCall
	if c.room.Longest > 0 {
		longest = min(longest, c.room.Longest)
	}
	for _, t := range c.tolls {
		longest = min(longest, t.Longest())
	}
	limit := time.AfterFunc(longest, func() { s.end(errTooLong) })
	defer limit.Stop()
	c.mu.Lock()
	c.hangUp = s.end
	c.mu.Unlock()
	if c.late {
		s.calleeFirst()
		return
	}
	s.callerFirst()
}

// callerFirst is a call that one of ours makes: the caller is told and asked
// while the callee's telephone rings.
func (s *story) callerFirst() {
	if !s.pick(s.Caller, s.a) {
		return
	}
	if s.a == s.Live.a && s.a != nil {
		s.say("ring_first") // we called them: they are to know who, and what comes
	}
	asking, enough := context.WithCancel(s.ctx)
	defer enough()
	ringing, answered := context.WithCancel(asking)
	defer answered()
	early := make(chan *media.Stream, 1)
	var asked sync.WaitGroup
	if !s.askLater {
		s.Notice(s.ctx)
	}
	asked.Go(func() {
		if !s.askLater {
			s.Caller.Ask(asking)
		}
		ringback(ringing, s.Caller.line, early)
	})
	if _, err := s.connect(s.Callee, s.b, once(early), s.Caller.line.Voice); err != nil {
		enough()
		asked.Wait()
		s.sorry(err)
		return
	}
	answered()
	if !s.askLater {
		asked.Go(func() { s.Callee.Ask(s.ctx) })
	}
	asked.Wait()
	s.bridge()
}

// calleeFirst is a call that comes in: nobody pays for it, and nobody is asked,
// before the one who is called picked up.
func (s *story) calleeFirst() {
	if _, err := s.connect(s.Callee, s.b, nil); err != nil {
		s.end(err)
		return
	}
	if !s.pick(s.Caller, s.a, s.Callee.line.Voice) {
		return
	}
	if !s.askLater {
		s.Notice(s.ctx)
		var asked sync.WaitGroup
		for _, l := range s.legs() {
			asked.Go(func() { l.Ask(s.ctx) })
		}
		asked.Wait()
	}
	s.bridge()
}

// bridge lets the two hear each other, and keeps what may be kept.
func (s *story) bridge() {
	if !s.askLater {
		s.Bridge(s.ctx)
	}
	s.together(true)
	s.Run(s.ctx)
}

// together lets the two hear each other, keys and all, or neither the other:
// while an answer is pending, tones that one plays would come back from the
// other's line as keys.
func (c *Live) together(on bool) {
	a, b := c.Caller.line.Stream, c.Callee.line.Stream
	if a == nil || b == nil {
		return // a telephone without sound of its own, such as a test's
	}
	if on {
		media.Join(a, b)
		return
	}
	for _, s := range [2]*media.Stream{a, b} {
		s.Hears(nil)
		s.PassKeys(false)
	}
}

// pick connects a party's telephone, and ends the call if that fails.
func (s *story) pick(l *Leg, h Handset, like ...audio.Codec) bool {
	if _, err := s.connect(l, h, nil, like...); err != nil {
		s.end(err)
		return false
	}
	return true
}

// connect connects a party's telephone and writes down that it was picked up.
func (s *story) connect(l *Leg, h Handset, early func(*media.Stream), like ...audio.Codec) (Line, error) {
	if h == nil {
		return Line{}, ErrUnreached
	}
	line, err := h.Connect(s.ctx, Ends{Listener: l, Like: like, Early: early, Left: func(why error) {
		if errors.Is(why, ErrHungUp) {
			why = fmt.Errorf("the %s hung up", l.Side)
		}
		s.end(why)
	}})
	if cause := context.Cause(s.ctx); cause != nil {
		return line, cause
	}
	if err != nil {
		return line, err
	}
	l.Attach(line)
	both := s.Caller.line.Play != nil && s.Callee.line.Play != nil
	if both && !bridges(s.Caller.line.Voice, s.Callee.line.Voice) {
		return line, ErrNoCodec
	}
	s.Answered(s.ctx, l)
	return line, nil
}

// bridges reports whether one side's voice can be heard by the other as it is,
// or with the little work that G.711 takes.
func bridges(a, b audio.Codec) bool {
	return (a == audio.Opus) == (b == audio.Opus)
}

// hangUp ends both telephones at once.
func (s *story) hangUp() {
	s.end(errDone)
	hangUp(s.a, s.b)
}

func hangUp(phones ...Handset) {
	var all sync.WaitGroup
	for _, h := range phones {
		if h != nil {
			all.Go(h.Hangup)
		}
	}
	all.Wait()
}

// sorry tells the caller why nobody answered.
func (s *story) sorry(why error) {
	prompt := "cannot_connect"
	if errors.Is(why, ErrBusy) || errors.Is(why, ErrDeclined) {
		prompt = "busy"
	}
	s.say(prompt)
	s.end(why)
}

func (s *story) say(prompt string) {
	l := s.Caller.line
	l.Play(s.ctx, s.room.Say(prompt).In(l.Codec)) // whoever hung up meanwhile hears nothing
}

// ringTone is what a caller hears while the callee's phone rings: 440 and 480
// Hz, two seconds in six.
var ringTone = sync.OnceValue(func() []int16 {
	low, high := audio.Tone(440, 2000, 4000), audio.Tone(480, 2000, 4000)
	for i := range low {
		low[i] += high[i]
	}
	return low
})

// once passes on the first stream that sounds, and never waits.
func once(early chan<- *media.Stream) func(*media.Stream) {
	return func(s *media.Stream) {
		select {
		case early <- s:
		default:
		}
	}
}

// ringback lets the caller hear the callee's side before the answer, or a tone
// while it sends nothing. Nothing of it can be kept.
func ringback(ctx context.Context, to Line, early <-chan *media.Stream) {
	tone := to.Codec.Encode(nil, ringTone())
	for {
		ringing, enough := context.WithCancel(ctx)
		played := make(chan struct{})
		go func() {
			defer close(played)
			to.Play(ringing, tone)
			pause := time.NewTimer(4 * time.Second)
			defer pause.Stop()
			select {
			case <-ringing.Done():
			case <-pause.C:
			}
		}()
		var heard *media.Stream
		select {
		case heard = <-early:
		case <-played:
		case <-ctx.Done():
		}
		enough()
		<-played
		if ctx.Err() != nil {
			return
		}
		if heard != nil {
			heard.Hears(to.Stream)
			<-ctx.Done()
			heard.Hears(nil) // they hear each other once both were asked
			return
		}
	}
}

// Pass carries an emergency call: at once, without notice, question, row or
// anybody who listens. It returns when it ended.
func (r *Room) Pass(ctx context.Context, a, b Handset) error {
	ctx, end := context.WithCancelCause(ctx)
	defer hangUp(a, b)
	defer end(errDone)
	limit := time.AfterFunc(longestHelp, func() { end(errTooLong) })
	defer limit.Stop()
	left := func(error) { end(ErrHungUp) }
	from, err := a.Connect(ctx, Ends{Left: left})
	if err != nil {
		return err
	}
	if b == nil {
		from.Play(ctx, r.Say("no_emergency").In(from.Codec))
		return nil
	}
	ringing, answered := context.WithCancel(ctx)
	early := make(chan *media.Stream, 1)
	var ring sync.WaitGroup
	ring.Go(func() { ringback(ringing, from, early) })
	to, err := b.Connect(ctx, Ends{Like: []audio.Codec{from.Voice}, Left: left, Early: once(early)})
	answered()
	ring.Wait()
	if err != nil {
		from.Play(ctx, r.Say("cannot_connect").In(from.Codec))
		return err
	}
	media.Join(from.Stream, to.Stream)
	<-ctx.Done()
	return nil
}
