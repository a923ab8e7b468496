package capture

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/consent"
)

// Side is which end of the call a party is on.
type Side string

const (
	Caller Side = "caller"
	Callee Side = "callee"
)

// Line is what a door gives for one party.
type Line struct {
	Codec audio.Codec

	// Play sends sound, in Codec, at the pace it is spoken. It returns nil when
	// the last of it was sent, and an error when ctx ended or the line did.
	Play func(ctx context.Context, sound []byte) error

	// Beep begins to mix the recording tone into what this party hears. It does
	// not wait.
	Beep func()
}

const (
	answerTime = 8 * time.Second // silence after the question; asked twice at most
	starTime   = 3 * time.Second // from * to 9
)

type answer int

const (
	open answer = iota
	yes
	no
)

// Leg is one party's side of a call.
type Leg struct {
	ID     yesline.LegID
	Side   Side
	Person yesline.PersonID
	Device yesline.DeviceID

	live *Live
	line Line
	lane atomic.Pointer[lane] // where packets go; nil: they are dropped
	held atomic.Bool          // this party put us on hold: what comes is music, not a voice

	mu       sync.Mutex // guards the rest: the receive loop presses keys, the call asks
	answer   answer
	settled  bool     // bridged: 2 is a key like any other from here on
	heard    *hearing // the last question that was played to its end
	star     time.Time
	notes    chan note // what to tell consent, in order
	closed   bool
	track    yesline.TrackID
	why      string             // in words, why this voice is or is not recorded
	recorded bool               // a track was begun
	stop     context.CancelFunc // ends the recorder

	decided context.Context // ended by decide at the first answer
	decide  context.CancelFunc
	written chan struct{} // closed when the first answer is written down, or could not be
}

// hearing is a prompt that was sent to a leg from its first word to its last.
type hearing struct {
	prompt   Prompt
	hash     string
	from, to time.Time
}

// note is an answer on its way to consent.
type note struct {
	yes, stop bool
	keys      string
	at        time.Time
	heard     *hearing
}

func newLeg(c *Live, side Side, person yesline.PersonID, device yesline.DeviceID) *Leg {
	l := &Leg{ID: yesline.NewLegID(), Side: side, Person: person, Device: device, live: c,
		notes: make(chan note, 8), written: make(chan struct{}), why: "was not asked"}
	l.decided, l.decide = context.WithCancel(context.Background())
	return l
}

// Attach gives the leg its line, before anything is played.
func (l *Leg) Attach(line Line) { l.line = line }

// Heard takes a voice packet of this leg's locked source, as it arrives. It
// never blocks; while nothing may be kept the packet is dropped.
func (l *Leg) Heard(stamp uint32, payload []byte, now time.Time) {
	if lane := l.lane.Load(); lane != nil && !l.held.Load() {
		lane.place(stamp, payload, now)
	}
}

// Hold says that this party put the call on hold, or took it back. What a
// phone sends meanwhile is music and nobody's voice.
func (l *Leg) Hold(on bool) { l.held.Store(on) }

// Relearn says that the door agreed on another source for this leg: somebody
// else may speak there now. What was asked before, the new one did not hear;
// and a yes was the old one's, so the voice ends and consent is told to stop.
func (l *Leg) Relearn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard, l.star = nil, time.Time{}
	if lane := l.lane.Load(); lane != nil {
		lane.forget()
	}
	if l.answer != yes {
		return
	}
	l.answer = no
	l.halt("said yes; another source took over the line")
	l.tell(note{stop: true, at: time.Now()})
}

// Key takes a key of this party. Locked says that it came in telephone-events
// from the source and SSRC this leg is locked to; only then can a 1 be a yes,
// and only after the last word of the question was sent. 2 and *9 count at
// once. Key never blocks.
func (l *Leg) Key(key byte, at time.Time, locked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	stop := key == '9' && !l.star.IsZero() && at.Sub(l.star) <= starTime
	l.star = time.Time{}
	switch {
	case key == '*':
		l.star = at
	case stop && l.settled && l.answer == yes:
		l.answer = no // once: what is pressed again says nothing new
		l.halt("stopped it with *9")
		l.tell(note{stop: true, keys: "*9", at: at})
	case stop:
		l.refuse("*9", at)
	case key == '2' && !l.settled:
		l.refuse("2", at)
	case key == '1' && locked && l.heard != nil && l.answer == open:
		l.answer, l.why = yes, "said yes"
		l.tell(note{yes: true, keys: "1", at: at})
		l.decide()
	}
}

// refuse is called with mu held.
func (l *Leg) refuse(keys string, at time.Time) {
	if l.answer == no {
		return
	}
	l.answer = no
	l.halt("said no")
	l.tell(note{keys: keys, at: at})
	l.decide()
}

// halt ends the keeping of this voice now; what was not sealed is thrown away.
// Called with mu held.
func (l *Leg) halt(why string) {
	l.why = why
	if lane := l.lane.Swap(nil); lane != nil {
		lane.drop()
	}
	if l.stop != nil {
		l.stop()
	}
}

// tell hands a note to the leg's writer and never waits. Called with mu held.
func (l *Leg) tell(n note) {
	if l.closed {
		return
	}
	n.heard = l.heard
	if !n.yes {
		l.live.doubt(1)
	}
	select {
	case l.notes <- n:
	default: // has room: a leg gives at most a yes and a no. If not, nobody is recorded any more
		l.live.feared.Store(true)
		if !n.yes {
			l.live.doubt(-1)
		}
	}
}

// Ask plays the question, at most twice, and returns when this party has
// answered and the answer is written down, or the call ended. Silence is a no.
func (l *Leg) Ask(ctx context.Context) {
	if l.live.unable != "" {
		return
	}
	question := l.live.room.Say("ask")
	sound := question.In(l.line.Codec)
	h := hearing{prompt: question, hash: hash(sound)}
	for range 2 {
		if l.ask(ctx, h, sound) || ctx.Err() != nil {
			break
		}
	}
	l.silent(ctx)
	select {
	case <-l.written:
	case <-ctx.Done():
	}
}

// ask plays the question once and waits for the answer.
func (l *Leg) ask(ctx context.Context, h hearing, sound []byte) (answered bool) {
	playing, enough := context.WithCancel(ctx)
	defer enough()
	defer context.AfterFunc(l.decided, enough)()
	h.from = time.Now()
	if l.line.Play(playing, sound) == nil {
		h.to = time.Now()
		l.mu.Lock()
		l.heard = &h
		l.mu.Unlock()
	}
	silence := time.NewTimer(answerTime)
	defer silence.Stop()
	select {
	case <-l.decided.Done():
		return true
	case <-ctx.Done():
	case <-silence.C:
	}
	return false
}

// silent takes no answer for a no.
func (l *Leg) silent(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.answer != open {
		return
	}
	l.answer = no
	l.decide()
	l.why = "did not answer the question"
	if ctx.Err() != nil {
		l.why = "was not asked to the end"
		return
	}
	l.tell(note{at: time.Now()})
}

// settle ends the time in which 2 is an answer.
func (l *Leg) settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settled = true
}

// write tells consent what this party answered, in order. It ends with the call.
func (l *Leg) write() {
	defer l.decide() // nobody waits for an answer after the call
	first := sync.OnceFunc(func() { close(l.written) })
	for n := range l.notes {
		err := l.note(n)
		if !n.yes {
			if err != nil {
				l.live.fear() // a no that could not be written down: nobody is recorded any more
			}
			l.live.doubt(-1)
		}
		first()
		l.live.wake()
		if err != nil && !n.yes {
			err = l.insist(n)
		}
		if err != nil {
			l.live.room.report().Error("an answer could not be written down", "call", l.live.ID, "leg", l.ID, "error", err)
		}
	}
}

const (
	insistTimes = 12
	insistPause = time.Second
)

// insist writes a no down though the house could not at first: the call goes
// on without being recorded meanwhile, and the person's word must not be lost.
func (l *Leg) insist(n note) (err error) {
	for range insistTimes {
		time.Sleep(insistPause)
		err = l.note(n)
		if !errors.Is(err, yesline.Unavailable) && !errors.Is(err, yesline.Full) && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
	}
	return err
}

func (l *Leg) note(n note) error {
	ev := consent.Evidence{Channel: "keypad", Keys: n.keys, AtMillis: l.live.wall(n.at)}
	if n.keys == "" {
		ev.Channel = "call"
	}
	if h := n.heard; h != nil {
		ev.Prompt, ev.PromptSHA256, ev.Language = h.prompt.Name, h.hash, h.prompt.Language
		ev.FromMillis, ev.ToMillis = l.live.wall(h.from), l.live.wall(h.to)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	write := func() error {
		if n.stop {
			return l.live.room.Consent.Stop(ctx, l.live.ID, l.Person, l.ID, ev)
		}
		return l.live.room.Consent.Answer(ctx, consent.Answer{Call: l.live.ID, Person: l.Person, Leg: l.ID,
			Purpose: consent.Record, Yes: n.yes, Evidence: ev})
	}
	if first := l.live.room.First; first != nil && !n.yes {
		return first(write)
	}
	return write()
}

// close ends the leg's writer, after what it was told.
func (l *Leg) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		close(l.notes)
	}
}
