package capture_test

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtp"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/capture/media"
	"yesline/internal/program"
)

// voice is a stream in the test's hands, that counts what its party hears.
type voice struct {
	*media.Stream
	sent  uint16
	heard int
}

func voiceOn(p *media.Plane) *voice {
	v := &voice{}
	v.Stream = p.Loose(nil, func([]byte) error { v.heard++; return nil })
	v.Agree(media.Agreement{Codec: audio.PCMU, Speaks: true, Listens: true})
	return v
}

// speaks sends one packet of voice.
func (v *voice) speaks() {
	v.sent++
	v.Take(&rtp.Packet{Header: rtp.Header{Version: 2, SSRC: 7, SequenceNumber: v.sent, Timestamp: uint32(v.sent) * 160}, Payload: make([]byte, 160)}, time.Now())
}

// sounding is a telephone whose sound goes through such streams.
type sounding struct {
	*handset
	early, voice *voice
}

func (s *sounding) Connect(ctx context.Context, o capture.Ends) (capture.Line, error) {
	if o.Early != nil {
		o.Early(s.early.Stream)
	}
	line, err := s.handset.Connect(ctx, o)
	line.Stream = s.voice.Stream
	return line, err
}

// While anybody's answer is pending the two do not hear each other: what one
// plays into the call comes back as an echo, and tones of it are a key to a
// gateway on the way.
func TestWhoIsAskedHearsNobody(t *testing.T) {
	t.Parallel()
	plane := must(media.Open(media.Config{IP: netip.MustParseAddr("127.0.0.1"), From: 30980, To: 30982}))(t)
	t.Cleanup(func() { plane.Close() })
	for name, ask := range map[string]string{"before": "", "in the call": program.AskDuring} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := open(t, program.Terms{Ask: ask})
				a := &sounding{newHandset(), nil, voiceOn(plane)}
				b := &sounding{newHandset(), voiceOn(plane), voiceOn(plane)}
				b.rings = 3 * time.Second
				w.room.Reach = func(context.Context, capture.Wanted) (capture.Route, error) { return capture.Route{Handset: b}, nil }
				live := must(w.room.Dial(t.Context(), w.ann, must(yesline.NewPhone(bobNumber))(t)))(t)
				a.ear.leg, b.ear.leg = live.Caller, live.Callee
				over := make(chan struct{})
				go func() {
					defer close(over)
					live.Carry(context.Background(), a)
				}()
				hear := func(when string, early, each int) {
					t.Helper()
					a.voice.heard, b.voice.heard = 0, 0
					b.early.speaks()
					if a.voice.heard != early {
						t.Errorf("%s the caller hears %d packets of what came before the answer, want %d", when, a.voice.heard, early)
					}
					a.voice.heard = 0
					a.voice.speaks()
					b.voice.speaks()
					if a.voice.heard != each || b.voice.heard != each {
						t.Errorf("%s they hear %d and %d packets of each other, want %d", when, a.voice.heard, b.voice.heard, each)
					}
				}
				time.Sleep(3 * spoken)
				a.ear.press("1") // says nothing where they are asked later
				time.Sleep(spoken)
				hear("while it rings", 1, 0)
				time.Sleep(3 * time.Second)
				if ask == program.AskDuring {
					hear("in the call", 0, 1)
					a.ear.press("*8")
					time.Sleep(3 * spoken)
					a.ear.press("1")
				}
				hear("while one is asked", 0, 0)
				b.ear.press("1")
				time.Sleep(3 * time.Second)
				hear("afterwards", 0, 1)
				b.hangsUp()
				<-over
			})
		})
	}
}
