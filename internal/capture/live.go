package capture

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"yesline"
	"yesline/internal/capture/tolls"
)

// State is how far a call is.
type State string

const (
	Ringing State = "ringing"
	Notice  State = "notice"
	Asking  State = "asking"
	Bridged State = "bridged"
	Ended   State = "ended"
)

// beepEvery is how often both hear that something is recorded.
const beepEvery = 15 * time.Second

// Live is a call that is going on. Carry tells its story with two handsets. Its
// parts, in this order, are: Notice, Ask on each Leg, Bridge, Run, End; any of
// them may be skipped, End never.
type Live struct {
	ID             yesline.CallID
	Caller, Callee *Leg

	room     *Room
	program  yesline.ProgramID
	began    time.Time     // wall and monotonic: every time of the call is told from it
	zero     time.Time     // the moment of bridging: both tracks count their seconds from here
	unable   string        // why nothing of this call can be recorded; "" when it can
	written  bool          // it has a row
	askLater bool          // the program asks when somebody wants to record, and not before
	late     bool          // the callee is picked up first: the call came from outside
	a, b     Handset       // b is the callee's telephone; a the caller's, where the room is to ring it
	tolls    []*tolls.Call // what was reserved for it

	feared  atomic.Bool   // a no could not be written down
	changed chan struct{} // has one when a recording began, ended or may have
	wanted  chan struct{} // has one when somebody wants to record
	said    chan string   // a prompt that both are to hear now
	writers sync.WaitGroup
	keepers sync.WaitGroup // the recorders that run
	news    bell           // rings with every change that a page shows

	mu        sync.Mutex // guards the rest
	hangUp    context.CancelCauseFunc
	state     State
	bridged   time.Time // zero, for those who look from outside
	recorders []*recorder
	doubts    int           // answers of no that are not written down yet
	certain   chan struct{} // closed when there is none
	ending    string
}

func (c *Live) legs() [2]*Leg { return [2]*Leg{c.Caller, c.Callee} }

// wall tells a moment of the call by the wall clock at its beginning and the
// monotonic clock since: a clock that is set back moves no evidence.
func (c *Live) wall(t time.Time) int64 {
	return c.began.UnixMilli() + t.Sub(c.began).Milliseconds()
}

func (c *Live) start() {
	for _, l := range c.legs() {
		c.writers.Go(l.write)
	}
}

// wake makes the recorders look again now.
func (c *Live) wake() {
	for _, r := range c.keeping() {
		r.look()
	}
}

// doubt counts a no that is being written down: until it is, nobody's bytes are
// certain. By is -1 when it is written, or could not be.
func (c *Live) doubt(by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.doubts == 0 {
		c.certain = make(chan struct{})
	}
	if c.doubts += by; c.doubts == 0 {
		close(c.certain)
	}
}

func (c *Live) inDoubt() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.doubts > 0
}

// settled waits until every no is written down. Writing is bounded by patience.
func (c *Live) settled() {
	<-c.certainty()
}

// certainty is closed when every no of now is written down.
func (c *Live) certainty() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.certain
}

// fear ends every recording of the call.
func (c *Live) fear() {
	c.feared.Store(true)
	for _, l := range c.legs() {
		l.mu.Lock()
		if l.answer == yes {
			l.halt("is not recorded: an answer could not be written down")
		}
		l.mu.Unlock()
	}
}

// Notice tells the caller what this house does. It returns when it was said.
func (c *Live) Notice(ctx context.Context) {
	if c.unable != "" {
		return
	}
	c.move(ctx, Notice)
	c.Caller.line.Play(ctx, c.room.Say("notice").In(c.Caller.line.Codec)) // a line that broke ends ctx by itself
	c.move(ctx, Asking)
}

// Answered writes down when a party picked up.
func (c *Live) Answered(ctx context.Context, l *Leg) {
	c.save(ctx, func(ctx context.Context) error { return c.room.answered(ctx, l, c.wall(time.Now())) })
}

// Bridge is called when both were asked, before they hear each other: it gets
// a lease, a key and an object for each who said yes, and then tells both
// whether anything is recorded.
func (c *Live) Bridge(ctx context.Context) {
	for _, l := range c.legs() {
		l.settle()
	}
	if c.unable != "" {
		return
	}
	c.settled()
	for _, l := range c.legs() {
		l.begin(ctx)
	}
	c.tell(ctx, map[int]string{0: "not_recorded", 1: "one_side", 2: "thanks_recording"}[c.recording()])
}

// tell says the same to both, at the same time.
func (c *Live) tell(ctx context.Context, prompt string) {
	p := c.room.Say(prompt)
	var both sync.WaitGroup
	for _, l := range c.legs() {
		both.Go(func() { l.line.Play(ctx, p.In(l.line.Codec)) })
	}
	both.Wait()
}

// Run keeps the voices that may be kept, from now until ctx ends. The two hear
// each other meanwhile.
func (c *Live) Run(ctx context.Context) {
	c.zero = time.Now()
	c.mu.Lock()
	c.bridged = c.zero
	c.mu.Unlock()
	c.move(ctx, Bridged)
	c.keep(ctx)
	c.saveRecording(ctx)
	c.attend(ctx)
	c.keepers.Wait()
}

// keep starts the recorders that were prepared and do not run yet.
func (c *Live) keep(ctx context.Context) {
	for _, r := range c.keeping() {
		if r.running {
			continue
		}
		r.running = true
		r.leg.listen(r, c.zero)
		c.keepers.Go(func() {
			r.run(ctx)
			c.note()
		})
	}
}

// attend beeps while anything is recorded, and writes down what changes.
func (c *Live) attend(ctx context.Context) {
	beep := time.NewTicker(beepEvery)
	defer beep.Stop()
	was := c.recording()
	if was > 0 {
		c.beep()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-beep.C:
			if c.recording() > 0 && !c.paused() {
				c.beep()
			}
		case <-c.changed:
			now := c.recording()
			c.saveRecording(ctx)
			c.news.ring()
			if was > 0 && now == 0 {
				c.tell(ctx, "stopped")
			}
			was = now
		case prompt := <-c.said:
			c.tell(ctx, prompt)
		case <-c.wanted:
			c.askNow(ctx)
			if now := c.recording(); now > was {
				was = now
				c.beep()
			}
		}
	}
}

func (c *Live) beep() {
	for _, l := range c.legs() {
		l.line.Beep()
	}
}

// note says that a recording began or ended.
func (c *Live) note() {
	select {
	case c.changed <- struct{}{}:
	default: // it is about to be looked at anyway
	}
}

// recording is how many voices are being kept now.
func (c *Live) recording() (n int) {
	for _, r := range c.keeping() {
		if !r.done.Load() {
			n++
		}
	}
	return n
}

func (c *Live) keeping() []*recorder {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.recorders)
}

// End closes the call: nothing more is kept, what may be kept is sealed, and
// the row says how it ended. Run must have returned.
func (c *Live) End(reason string) {
	for _, l := range c.legs() {
		l.close()
	}
	c.writers.Wait()
	for _, r := range c.keeping() {
		r.close() // those that Run never reached
	}
	c.settleTolls()
	c.mu.Lock()
	c.state, c.ending = Ended, reason
	c.mu.Unlock()
	defer c.news.ring()
	defer c.room.leave(c) // last: who asks late finds either the call or its row, and both say how it ended
	c.save(context.Background(), func(ctx context.Context) error { return c.room.ended(ctx, c, reason) })
}

// settleTolls gives back what was reserved and not used.
func (c *Live) settleTolls() {
	now := time.Now()
	for _, t := range c.tolls {
		t.End(now)
	}
}

func (c *Live) move(ctx context.Context, s State) {
	c.mu.Lock()
	c.state = s
	c.mu.Unlock()
	c.news.ring()
	c.save(ctx, func(ctx context.Context) error { return c.room.moved(ctx, c, s) })
}

func (c *Live) saveRecording(ctx context.Context) {
	c.save(ctx, func(ctx context.Context) error { return c.room.recorded(ctx, c) })
}

// save writes something down about the call. That it fails is reported and
// never ends the call.
func (c *Live) save(ctx context.Context, write func(context.Context) error) {
	if !c.written {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if err := write(ctx); err != nil && !errors.Is(err, context.Canceled) {
		c.room.report().Error("the call's row was not written", "call", c.ID, "error", err)
	}
}

// words tell how the recording stands: who, and why.
func (c *Live) words() (recording, reason string) {
	kept := 0
	for _, l := range c.legs() {
		l.mu.Lock()
		if l.recorded {
			kept++
		}
		if reason != "" {
			reason += "; "
		}
		reason += "the " + string(l.Side) + " " + l.why
		l.mu.Unlock()
	}
	if c.unable != "" {
		reason = c.unable
	}
	return map[int]string{0: "nobody", 1: "one", 2: "both"}[kept], reason
}
