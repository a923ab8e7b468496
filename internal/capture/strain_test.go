package capture_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
	"yesline/internal/capture"
	"yesline/internal/capture/media"
	"yesline/internal/keys"
	"yesline/internal/program"
)

// crowd begins so many calls that it may be they that strain the house.
func (w *world) crowd() (end func()) {
	w.t.Helper()
	var lives []*capture.Live
	for n := range 10 {
		lives = append(lives, must(w.room.Begin(context.Background(), w.ann, must(yesline.NewPhone(fmt.Sprintf("+120255502%02d", n)))(w.t)))(w.t))
	}
	return func() {
		for _, live := range lives {
			live.End("it was a crowd's")
		}
	}
}

// strained makes a room full: three bad seconds.
func (w *world) strained() (end func()) {
	w.t.Helper()
	end = w.crowd()
	for i := range 3 {
		if i > 0 {
			time.Sleep(time.Second)
		}
		w.room.SoundLate(time.Second)
	}
	return end
}

// A full house begins no call of any kind, and nothing is kept of one that it
// refused. What goes on goes on, is recorded, and a call for help passes.
func TestAFullHouse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		w := open(t, program.Terms{})
		l := w.dials()
		l.agree()
		end := w.strained()
		someone, own := must(yesline.NewPhone("+12025550199"))(t), must(yesline.NewPhone("+12025550101"))(t)
		for name, begin := range map[string]func() (*capture.Live, error){
			"a call":             func() (*capture.Live, error) { return w.room.Dial(ctx, w.ann, someone) },
			"one to be rung for": func() (*capture.Live, error) { return w.room.RingFirst(ctx, w.ann, own, someone) },
			"one that comes in":  func() (*capture.Live, error) { return w.room.Receive(ctx, w.program, &someone, w.ann.Person) },
			"one with both ends": func() (*capture.Live, error) { return w.room.Begin(ctx, w.ann, someone) },
		} {
			if _, err := begin(); !errors.Is(err, capture.ErrFull) || !errors.Is(err, yesline.TooMany) {
				t.Errorf("%s of a full house: %v", name, err)
			}
		}
		if _, err := w.room.People.Find(ctx, w.program, someone); !errors.Is(err, yesline.NotFound) {
			t.Errorf("who was not called is written down: %v", err)
		}
		plane := must(media.Open(media.Config{IP: netip.MustParseAddr("127.0.0.1"), From: 40020, To: 40030}))(t)
		defer plane.Close()
		phone := func() forgotten { return forgotten{plane.Loose(nil, func([]byte) error { return nil })} }
		help, over := context.WithTimeout(ctx, 2*time.Second)
		defer over()
		if err := w.room.Pass(help, phone(), phone()); err != nil || help.Err() == nil {
			t.Errorf("a call for help does not pass: %v", err)
		}
		if s := l.status(l.a); s.Recording != "both" || s.State != capture.Bridged {
			t.Errorf("a call that went on is %+v", s)
		}
		time.Sleep(10 * time.Second)
		again, err := w.room.Dial(ctx, w.ann, someone)
		if err != nil {
			t.Fatalf("ten seconds later: %v", err)
		}
		gone, cancel := context.WithCancel(ctx)
		cancel()
		again.Carry(gone, newHandset())
		end()
		l.a.hangsUp()
		if row := l.ended(); row.Recording != "both" {
			t.Errorf("the row is %+v", row)
		}
	})
}

// A database that takes longer than two seconds for what calls need makes the
// house full before it has them go on unrecorded.
func TestSlowEntriesMakeAHouseFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := open(t, program.Terms{})
		defer w.crowd()()
		for i := range 3 {
			if w.room.Full() {
				t.Fatalf("full after %d slow entries", i)
			}
			locked := (&story{world: w}).lockContent(2500 * time.Millisecond)
			l := w.dials()
			ok(t, <-locked)
			time.Sleep(time.Second)
			l.a.hangsUp()
			<-l.over
		}
		if !w.room.Full() {
			t.Error("three slow entries, and the house is not full")
		}
	})
}

// minter takes its time for the key of a voice.
type minter struct{ *keys.Keys }

func (m minter) MintVoice(ctx context.Context, program yesline.ProgramID, person yesline.PersonID) error {
	time.Sleep(2500 * time.Millisecond)
	return m.Keys.MintVoice(ctx, program, person)
}

// And so do keys and objects that are made too slowly.
func TestSlowKeysMakeAHouseFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := open(t, program.Terms{})
		defer w.crowd()()
		for _, slow := range []bool{false, true} {
			if slow {
				w.room.Voices = minter{w.Keys}
			}
			for range 2 {
				l := w.dials()
				l.agree()
				l.a.hangsUp()
				<-l.over
			}
			if w.room.Full() != slow {
				t.Errorf("slow keys: %v, and full is %v", slow, !slow)
			}
		}
	})
}

// agree has both say yes, and waits until both are recorded.
func (l *line) agree() {
	l.t.Helper()
	asked()
	l.a.ear.press("1")
	time.Sleep(2 * time.Second)
	l.b.ear.press("1")
	time.Sleep(6 * time.Second)
	if s := l.status(l.a); s.Recording != "both" {
		l.t.Fatalf("after two yeses: %+v", s)
	}
}
