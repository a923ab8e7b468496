package capture_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/capture/media"
	"yesline/internal/program"
)

// forgotten is a telephone that is picked up at once and never hangs up.
type forgotten struct{ sound *media.Stream }

func (f forgotten) Connect(context.Context, capture.Ends) (capture.Line, error) {
	return capture.Line{Codec: audio.PCMU, Voice: audio.PCMU, Stream: f.sound, Play: func(context.Context, []byte) error { return nil }}, nil
}

func (forgotten) Hangup() {}

// A call for help that both forgot does not hold its line for ever, and lasts
// longer than any other call.
func TestACallForHelpThatWasForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		plane := must(media.Open(media.Config{IP: netip.MustParseAddr("127.0.0.1"), From: 40000, To: 40010}))(t)
		defer plane.Close()
		phone := func() forgotten { return forgotten{plane.Loose(nil, func([]byte) error { return nil })} }
		began := time.Now()
		if err := (&capture.Room{}).Pass(t.Context(), phone(), phone()); err != nil || time.Since(began) != 6*time.Hour {
			t.Errorf("it ended after %s: %v", time.Since(began), err)
		}
	})
}

// Calls from outside leave a quarter of the house to our own people.
func TestCallsFromOutsideLeaveRoom(t *testing.T) {
	t.Parallel()
	w := open(t, program.Terms{})
	w.room.Most = 4
	w.room.Reach = func(context.Context, capture.Wanted) (capture.Route, error) {
		return capture.Route{Handset: newHandset()}, nil
	}
	begin := func(outside bool) (*capture.Live, error) {
		if outside {
			return w.room.Receive(t.Context(), w.program, nil, w.ann.Person)
		}
		return w.room.Dial(t.Context(), w.ann, must(yesline.NewPhone(bobNumber))(t))
	}
	for n, k := range []struct{ outside, fits bool }{{true, true}, {true, true}, {true, true}, {true, false}, {false, true}, {false, false}} {
		live, err := begin(k.outside)
		if err == nil {
			defer live.End("it was over")
		}
		if k.fits != (err == nil) || !k.fits && !errors.Is(err, yesline.TooMany) {
			t.Errorf("call %d, from outside %v: %v", n, k.outside, err)
		}
	}
}
