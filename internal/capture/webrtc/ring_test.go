package webrtc_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/capture/webrtc"
)

// ringing is a call that rings at a person, and what came of it.
type ringing struct {
	handset capture.Handset
	ear     *ear
	line    chan capture.Line
	failed  chan error
}

func (w *world) ring(ctx context.Context, person yesline.PersonID, like ...audio.Codec) *ringing {
	r := &ringing{handset: w.door.Ring(person), ear: newEar(), line: make(chan capture.Line, 1), failed: make(chan error, 1)}
	r.ear.person = person
	w.t.Cleanup(r.handset.Hangup)
	go func() {
		line, err := r.handset.Connect(ctx, capture.Ends{Listener: r.ear, Like: like, Left: func(error) {}})
		if err != nil {
			r.failed <- err
			return
		}
		r.line <- line
	}()
	return r
}

// open is a page that asks once what rings.
func (w *world) open(person yesline.PersonID) (version int64) {
	w.t.Helper()
	at, err := w.door.Incoming(w.t.Context(), person, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return at.Version
}

func TestACallRingsAtOpenPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	person := yesline.NewPersonID()
	if w.door.Here(person) {
		t.Error("somebody is here who never was")
	}
	away := w.ring(t.Context(), person)
	if err := <-away.failed; !errors.Is(err, capture.ErrUnreached) {
		t.Errorf("ringing where no page is open: %v", err)
	}

	version := w.open(person)
	if !w.door.Here(person) {
		t.Error("a person with an open page is not here")
	}
	seen := make(chan yesline.CallID, 2)
	for range 2 { // two tabs wait
		go func() {
			at, err := w.door.Incoming(t.Context(), person, version)
			if err != nil {
				t.Error(err)
			}
			seen <- at.Call
		}()
	}
	r := w.ring(t.Context(), person, audio.PCMA)
	for range 2 {
		if call := <-seen; call != r.ear.call {
			t.Fatalf("a tab hears that %q rings", call)
		}
	}

	b := newBrowser(t, form{codecs: []string{"PCMA"}})
	if _, err := w.door.Answer(yesline.NewPersonID(), r.ear.call, b.offer(false)); !errors.Is(err, yesline.NotFound) {
		t.Errorf("another person answers: %v", err)
	}
	if _, err := w.door.Answer(person, r.ear.call, "v=0"); !errors.Is(err, yesline.Invalid) {
		t.Errorf("an answer that is none: %v", err)
	}
	house := newBrowser(t, form{codecs: []string{"PCMA"}, noHouse: true})
	answer, err := w.door.Answer(person, r.ear.call, house.offer(false))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.door.Answer(person, r.ear.call, b.offer(false)); !errors.Is(err, yesline.NotFound) {
		t.Errorf("a second tab answers: %v", err)
	}
	house.accept(answer)
	select {
	case line := <-r.line:
		if line.Voice != audio.PCMA {
			t.Errorf("the line is %v though the other side speaks PCMA", line.Voice)
		}
	case err := <-r.failed:
		t.Fatal(err)
	}
	if at, err := w.door.Incoming(t.Context(), person, 0); err != nil || at.Call != "" {
		t.Errorf("what was answered still rings: %v %v", at.Call, err)
	}
	if _, err := w.door.Reconnect(person, r.ear.call, house.offer(true)); err != nil {
		t.Errorf("the one who was rung changes the network: %v", err)
	}
}

func TestACallIsDeclinedOrGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	person := yesline.NewPersonID()
	version := w.open(person)
	r := w.ring(t.Context(), person)
	at, err := w.door.Incoming(t.Context(), person, version)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.door.Decline(person, at.Call); err != nil {
		t.Fatal(err)
	}
	if err := <-r.failed; !errors.Is(err, capture.ErrDeclined) {
		t.Errorf("a call that was declined: %v", err)
	}
	if err := w.door.Decline(person, at.Call); !errors.Is(err, yesline.NotFound) {
		t.Errorf("declining twice: %v", err)
	}

	version = w.open(person)
	ctx, cancel := context.WithCancelCause(t.Context())
	r = w.ring(ctx, person)
	if at, err = w.door.Incoming(t.Context(), person, version); err != nil || at.Call != r.ear.call {
		t.Fatalf("the second call: %v %v", at, err)
	}
	cancel(capture.ErrNoAnswer)
	if err := <-r.failed; !errors.Is(err, capture.ErrNoAnswer) {
		t.Errorf("a call that nobody answered: %v", err)
	}
	if at, err = w.door.Incoming(t.Context(), person, at.Version); err != nil || at.Call != "" {
		t.Errorf("what was given up still rings: %v %v", at, err)
	}
	if _, err := w.door.Answer(person, r.ear.call, newBrowser(t, form{}).offer(false)); !errors.Is(err, yesline.NotFound) {
		t.Errorf("answering what was given up: %v", err)
	}

	r = w.ring(t.Context(), person)
	wait(t, "it rings", func() bool { return w.open(person) != at.Version })
	r.handset.Hangup()
	if err := <-r.failed; !errors.Is(err, capture.ErrHungUp) {
		t.Errorf("a ringing that was hung up: %v", err)
	}
}

// A page that nobody sits at does not keep a caller for hours.
func TestNobodyAnswersAtThePage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *webrtc.Config) { c.MaxRing = 50 * time.Millisecond })
	person := yesline.NewPersonID()
	version := w.open(person)
	select {
	case err := <-w.ring(t.Context(), person).failed:
		if !errors.Is(err, capture.ErrNoAnswer) {
			t.Errorf("a page that nobody sits at: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it rings on")
	}
	if at, err := w.door.Incoming(t.Context(), person, version); err != nil || at.Call != "" {
		t.Errorf("it still rings at the page: %v %v", at, err)
	}
}

func TestRingingIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	person := yesline.NewPersonID()
	w.open(person)
	all := map[*ringing]bool{}
	for range 5 {
		all[w.ring(t.Context(), person)] = true
	}
	busy := func() (n int) {
		for r := range all {
			select {
			case err := <-r.failed:
				if !errors.Is(err, capture.ErrBusy) {
					t.Errorf("the fifth call: %v", err)
				}
				n++
			default:
			}
		}
		return n
	}
	wait(t, "the fifth call is told that the line is busy", func() bool { return busy() == 1 })

	version := w.open(person)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	refused := make(chan error, 20)
	for range 9 {
		go func() {
			_, err := w.door.Incoming(ctx, person, version)
			refused <- err
		}()
	}
	select {
	case err := <-refused:
		if !errors.Is(err, yesline.TooMany) {
			t.Errorf("a ninth page: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("nine pages of one person wait at once")
	}
}

func TestTheOtherSideSpeaksOpus(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	person := yesline.NewPersonID()
	version := w.open(person)
	r := w.ring(t.Context(), person, audio.Opus)
	if _, err := w.door.Incoming(t.Context(), person, version); err != nil {
		t.Fatal(err)
	}
	if _, err := w.door.Answer(person, r.ear.call, newBrowser(t, form{codecs: []string{"PCMU"}}).offer(false)); !errors.Is(err, capture.ErrNoCodec) {
		t.Errorf("a browser without Opus answers one that speaks nothing else: %v", err)
	}
	b := newBrowser(t, form{})
	answer, err := w.door.Answer(person, r.ear.call, b.offer(false))
	if err != nil {
		t.Fatal(err)
	}
	b.accept(answer)
	if line := <-r.line; line.Voice != audio.Opus || line.Codec != audio.PCMU {
		t.Errorf("the line is %v, the house speaks %v", line.Voice, line.Codec)
	}
}
