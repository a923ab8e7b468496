package capture

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"yesline"
	"yesline/internal/consent"
)

// Side is which end of the call a party is on.
type Side string

const (
	Caller Side = "caller"
	Callee Side = "callee"
)

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

	pauses atomic.Int32 // how many parties of the call have the recording paused

	mu       sync.Mutex // guards the rest: the receive loop presses keys, the call asks
	answer   answer
	turn     int  // how many others took the line over
	asking   bool // from the question on: 2 is an answer
	rest     rest
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
	written chan struct{} // closed by first when the first answer is written down, or could not be
	first   func()
}

// hearing is a prompt that was sent to a leg from its first word to its last.
type hearing struct {
	prompt   Prompt
	hash     string
	from, to time.Time
}

// note is an answer on its way to consent.
type note struct {
	yes, stop, lasting bool
	channel            string // "keypad", "page", "sip"; "call" when nothing was said
	keys               string
	at                 time.Time
	heard              *hearing
	way                consent.Way // how the house knew who it was
}

func newLeg(c *Live, side Side, person yesline.PersonID, device yesline.DeviceID) *Leg {
	l := &Leg{ID: yesline.NewLegID(), Side: side, Person: person, Device: device, live: c,
		notes: make(chan note, 8), written: make(chan struct{}), why: "was not asked", asking: true}
	l.first = sync.OnceFunc(func() { close(l.written) })
	l.decided, l.decide = context.WithCancel(context.Background())
	return l
}

// Party tells whose leg of which call it is.
func (l *Leg) Party() (yesline.CallID, yesline.PersonID) { return l.live.ID, l.Person }

// LogValue names the leg in reports, and nobody.
func (l *Leg) LogValue() slog.Value { return slog.StringValue(string(l.ID)) }

// Unwanted is what a phone says that is aware of recording, and whose person
// does not want it (RFC 7866, 8.1.2: recordpref): the same as *9.
func (l *Leg) Unwanted(at time.Time) { l.stops(at, "sip", "recordpref:off") }

// Attach gives the leg its line, before anything is played.
func (l *Leg) Attach(line Line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line = line
}

// Heard takes a voice packet of this leg's locked source, as it arrives. It
// never blocks; while nothing may be kept the packet is dropped.
func (l *Leg) Heard(stamp uint32, payload []byte, now time.Time) {
	if lane := l.lane.Load(); lane != nil && !l.held.Load() && l.pauses.Load() == 0 {
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
	l.turn++
	l.heard, l.star = nil, time.Time{}
	if lane := l.lane.Load(); lane != nil {
		lane.forget()
	}
	if l.answer == yes {
		l.lost()
	}
}

// lost ends a yes of who had the line before. Called with mu held.
func (l *Leg) lost() {
	l.answer = no
	l.halt("said yes; another source took over the line")
	l.tell(note{stop: true, channel: "call", at: time.Now()})
}

// way is how the house knows who is on the line: not at all, once others took it
// over. Called with mu held.
func (l *Leg) way() consent.Way {
	if l.turn > 0 {
		return consent.ByCallerID
	}
	return l.line.Way
}

// who tells whose turn it is on the line, and how the house knows who that is.
func (l *Leg) who() (turn int, way consent.Way) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.turn, l.way()
}

// Key takes a key of this party. Locked says that it came in telephone-events
// from the source and SSRC this leg is locked to; only then can a 1 or 3 be a
// yes, and only after the last word of the question was sent. 2 and *9 count at
// once. *8 asks both, *5 pauses and *6 goes on. Key never blocks.
func (l *Leg) Key(key byte, at time.Time, locked bool) {
	switch after, star := l.afterStar(key, at), key == '*'; {
	case star:
	case after && key == '9':
		l.stops(at, "keypad", "*9")
	case after && key == '8':
		l.live.want()
	case after && key == '5':
		l.Pause(true)
	case after && key == '6':
		l.Pause(false)
	case key == '2':
		l.declines(at, "keypad", "2")
	case key == '1' && locked:
		l.agree(at, "keypad", "1", false)
	case key == '3' && locked:
		l.agree(at, "keypad", "3", true)
	}
}

// afterStar reports whether a key comes soon after a star, and remembers a star.
func (l *Leg) afterStar(key byte, at time.Time) (after bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	after = !l.star.IsZero() && at.Sub(l.star) <= starTime
	l.star = time.Time{}
	if key == '*' {
		l.star = at
	}
	return after
}

// agree takes a yes, which counts only after the question's last word, and from
// a page only where it speaks for who is on the line. Lasting also lets this
// house record later calls with the same person. It reports whether it counted.
func (l *Leg) agree(at time.Time, channel, keys string, lasting bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.heard == nil || l.answer != open || lasting && !l.lasts() || channel == "page" && !l.pageSpeaks() {
		return false
	}
	l.answer, l.why = yes, "said yes"
	l.tell(note{yes: true, lasting: lasting, channel: channel, keys: keys, at: at})
	l.decide()
	return true
}

// declines takes a no to the question; after it, 2 is a key like any other.
func (l *Leg) declines(at time.Time, channel, keys string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asking && l.refuse(channel, keys, at)
}

// stops ends the recording of this voice for this call, or keeps it from
// beginning; a lasting yes stays.
func (l *Leg) stops(at time.Time, channel, keys string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.answer == no {
		return false // once: what is pressed again says nothing new
	}
	l.answer = no
	l.halt("stopped it with " + keys)
	l.tell(note{stop: true, channel: channel, keys: keys, at: at})
	l.decide()
	return true
}

// refuse takes a no, which also ends a lasting yes. Called with mu held.
func (l *Leg) refuse(channel, keys string, at time.Time) bool {
	if l.answer == no {
		return false
	}
	l.answer = no
	l.halt("said no")
	l.tell(note{channel: channel, keys: keys, at: at})
	l.decide()
	return true
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
	n.heard, n.way = l.heard, l.way()
	l.live.news.ring()
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
// answered and the answer is written down, or the call ended. Silence is a no,
// and a yes is one of who heard the whole question. Who once said yes for all
// calls with this other person is told so instead, and can say no to it.
func (l *Leg) Ask(ctx context.Context) {
	if l.live.unable != "" {
		return
	}
	l.mu.Lock()
	l.asking = true
	l.mu.Unlock()
	l.live.news.ring()
	if l.recall(ctx) {
		return
	}
	for range 2 {
		if l.ask(ctx) || ctx.Err() != nil {
			break
		}
	}
	l.silent(ctx)
	l.wait(ctx)
}

// lasts reports whether the house knows well enough who this is for a yes to
// hold for later calls. Called with mu held.
func (l *Leg) lasts() bool { return l.way() != consent.ByCallerID }

func (l *Leg) hearing(name string) (hearing, []byte) {
	p := l.live.room.Say(name)
	sound := p.In(l.line.Codec)
	return hearing{prompt: p, hash: hash(sound)}, sound
}

// recall takes a yes that this person gave for all calls with the other one,
// after telling them; a 2 or *9 meanwhile comes first, and it is nothing to
// whoever takes the line over. It reports whether that settled it, and no
// question is needed.
func (l *Leg) recall(ctx context.Context) bool {
	c := l.live
	turn, way := l.who()
	asked := c.room.asked(way)
	known, err := c.room.Consent.Remembered(ctx, c.ID, l.Person, asked)
	if err != nil {
		c.room.report().Error("a lasting yes could not be looked up", "call", c.ID, "leg", l.ID, "error", err)
	}
	if err != nil || !known {
		return false
	}
	playing, enough := context.WithCancel(ctx)
	defer enough()
	defer context.AfterFunc(l.decided, enough)()
	h, sound := l.hearing("remembered")
	h.from = time.Now()
	said := l.line.Play(playing, sound) == nil
	h.to = time.Now()
	if l.answered() {
		l.wait(ctx) // a no that is being written down
		return true
	}
	if now, _ := l.who(); !said || now != turn {
		return false
	}
	err = c.room.Consent.Recall(ctx, c.ID, l.Person, l.ID, asked, l.evidence(note{heard: &h, at: time.Now()}))
	if errors.Is(err, yesline.Denied) || errors.Is(err, yesline.Conflict) {
		return l.answered() // it was ended meanwhile: they are asked
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.answer != open {
		return true
	}
	defer l.decide()
	switch {
	case l.turn != turn: // while it was written down
		l.lost()
		return true
	case err != nil:
		l.answer, l.why = no, "said yes before, but "+cause(err)
	default:
		l.answer, l.why = yes, "said yes before, for calls with this person"
	}
	l.first()
	c.news.ring()
	return true
}

func (l *Leg) answered() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answer != open
}

// wait returns when the answer is written down, or the call ended.
func (l *Leg) wait(ctx context.Context) {
	select {
	case <-l.written:
	case <-ctx.Done():
	}
}

// ask plays the question once and waits for the answer, but not for that of
// somebody who took the line over before its last word.
func (l *Leg) ask(ctx context.Context) (answered bool) {
	playing, enough := context.WithCancel(ctx)
	defer enough()
	defer context.AfterFunc(l.decided, enough)()
	turn, way := l.who()
	name := "ask"
	if way == consent.ByCallerID {
		name = "ask_once"
	}
	h, sound := l.hearing(name)
	h.from = time.Now()
	if l.line.Play(playing, sound) == nil {
		h.to = time.Now()
		if !l.hears(h, turn) {
			return false
		}
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

// hears keeps that the question was said to its end, to who has the line now.
func (l *Leg) hears(h hearing, turn int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.turn != turn {
		return false
	}
	l.heard = &h
	l.live.news.ring()
	return true
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
	l.tell(note{channel: "call", at: time.Now()})
}

// settle ends the time in which 2 is an answer.
func (l *Leg) settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asking = false
}

// write tells consent what this party answered, in order. It ends with the call.
func (l *Leg) write() {
	defer l.decide() // nobody waits for an answer after the call
	for n := range l.notes {
		err := l.note(n)
		if !n.yes {
			if err != nil {
				l.live.fear() // a no that could not be written down: nobody is recorded any more
			}
			l.live.doubt(-1)
		}
		l.first()
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

// evidence tells how an answer came about.
func (l *Leg) evidence(n note) consent.Evidence {
	ev := consent.Evidence{Channel: n.channel, Keys: n.keys, AtMillis: l.live.wall(n.at)}
	if h := n.heard; h != nil {
		ev.Prompt, ev.PromptSHA256, ev.Language = h.prompt.Name, h.hash, h.prompt.Language
		ev.FromMillis, ev.ToMillis = l.live.wall(h.from), l.live.wall(h.to)
	}
	return ev
}

func (l *Leg) note(n note) error {
	ev := l.evidence(n)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	write := func() error {
		if n.stop {
			return l.live.room.Consent.Stop(ctx, l.live.ID, l.Person, l.ID, ev)
		}
		if n.lasting {
			_, err := l.live.room.Consent.Lasting(ctx, l.live.ID, l.Person, l.ID, l.live.room.asked(n.way), ev)
			return err
		}
		return l.live.room.Consent.Answer(ctx, consent.Answer{Call: l.live.ID, Person: l.Person, Leg: l.ID,
			Purpose: consent.Record, Yes: n.yes, Way: n.way, Evidence: ev})
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
		l.rest.end()
	}
}
