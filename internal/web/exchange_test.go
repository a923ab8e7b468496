package web

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pion/webrtc/v4"

	"yesline"
	"yesline/internal/access"
)

// exchange is a made-up telephone house behind the dialer: it answers offers,
// keeps what was said to it, and is where the test says it is.
type exchange struct {
	mu      sync.Mutex
	changed chan struct{} // closed with every change
	state   CallState
	rings   Incoming
	call    yesline.CallID // the one that is going on; "": none
	refuse  error          // of whatever places a call
	over    bool           // the line's end comes before the word that hangs up
	placed  []string
	said    []string
	offers  []string
	answer  func(offer string) (string, error)
}

func newExchange() *exchange {
	return &exchange{changed: make(chan struct{}), call: callID("both"), state: CallState{Version: 1, State: "bridged", Recording: "nobody", Other: "+44 •••• ••07"},
		rings: Incoming{Version: 1}, answer: func(string) (string, error) { return "v=0\r\n", nil }}
}

// set changes what is true, and wakes those who wait for it.
func (x *exchange) set(change func(x *exchange)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	change(x)
	x.state.Version++
	x.rings.Version++
	close(x.changed)
	x.changed = make(chan struct{})
}

// becomes is set for a call's state.
func (x *exchange) becomes(c CallState) {
	x.set(func(x *exchange) {
		c.Version, c.Other = x.state.Version, "+1 ••• ••23"
		x.state = c
	})
}

// wait waits until is is so, or ctx ends.
func (x *exchange) wait(ctx context.Context, is func() bool) {
	for {
		x.mu.Lock()
		now, changed := is(), x.changed
		x.mu.Unlock()
		if now {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func (x *exchange) words() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.said)
}

func (x *exchange) took(offer string) (string, error) {
	x.mu.Lock()
	x.offers = append(x.offers, offer)
	answer := x.answer
	x.mu.Unlock()
	return answer(offer)
}

// came are the numbers that were called and the offers that came.
func (x *exchange) came() (numbers, offers []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.placed), slices.Clone(x.offers)
}

func (x *exchange) dialer() Dialer {
	place := func(to string) (yesline.CallID, error) {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.refuse != nil {
			return "", x.refuse
		}
		x.placed = append(x.placed, to)
		return x.call, nil
	}
	offered := func(_ context.Context, permit access.Permit, call yesline.CallID, offer string) (string, error) {
		if err := x.mine(permit, call); err != nil {
			return "", err
		}
		return x.took(offer)
	}
	return Dialer{
		Look: func(_ context.Context, _ yesline.ProgramID, _ yesline.PersonID, written string) (Look, error) {
			if strings.HasPrefix(written, "+1900") {
				return Look{Shown: "+1 900-555-0100", Refused: "Yesline does not call numbers that cost extra."}, nil
			}
			return Look{Shown: "+1 202-555-0123", Place: "Washington D.C., United States", Rule: "Both of you are asked. One no, and nothing is recorded."}, nil
		},
		Servers: func(yesline.PersonID) []ICEServer { return nil },
		Dial: func(_ context.Context, permit access.Permit, offer, to string) (yesline.CallID, string, error) {
			if _, err := permit.Allows(access.Dial, "person", string(permit.Who().Person())); err != nil {
				return "", "", err
			}
			call, err := place(to)
			if err != nil {
				return "", "", err
			}
			sdp, err := x.took(offer)
			return call, sdp, err
		},
		RingMe: func(_ context.Context, _ access.Permit, to string) (yesline.CallID, error) { return place(to) },
		Incoming: func(ctx context.Context, _ access.Permit, after int64) (Incoming, error) {
			x.wait(ctx, func() bool { return x.rings.Version > after })
			x.mu.Lock()
			defer x.mu.Unlock()
			return x.rings, nil
		},
		Answer: offered, Reconnect: offered,
		Say: func(_ context.Context, permit access.Permit, call yesline.CallID, word string) error {
			if err := x.mine(permit, call); err != nil {
				return err
			}
			x.mu.Lock()
			defer x.mu.Unlock()
			x.said = append(x.said, word)
			if x.over && word == "hangup" {
				go x.becomes(CallState{State: "ended", Recording: "nobody", Ending: "You hung up."})
				return fmt.Errorf("a call that is over: %w", yesline.Conflict)
			}
			return nil
		},
		State: func(ctx context.Context, permit access.Permit, call yesline.CallID, after int64) (CallState, error) {
			if err := x.mine(permit, call); err != nil {
				return CallState{}, err
			}
			x.wait(ctx, func() bool { return x.state.Version > after })
			x.mu.Lock()
			defer x.mu.Unlock()
			return x.state, nil
		},
	}
}

// demo is the dialer of a demo: it has a friend to call, and a voice for those
// without a microphone.
func (x *exchange) demo() Dialer {
	d := x.dialer()
	d.Friends, d.SampleVoice = []Friend{{"Maya", "+1 202 555 0123", "She is made up. She picks up at once, says yes, and talks with you."}}, tone(trkAnn, 4, 0, 1<<20)
	return d
}

// mine is what the room behind the doors knows and the gate cannot: whether the
// call is going on.
func (x *exchange) mine(permit access.Permit, call yesline.CallID) error {
	if _, err := permit.Allows(access.Talk, "call", string(call)); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if call != x.call {
		return fmt.Errorf("looking for a call that is going on: %w", yesline.NotFound)
	}
	return nil
}

// wired puts a real peer at the other end of the browser's line, on this
// machine alone. heard counts the packets that came.
func (x *exchange) wired(t testing.TB) (heard func() int) {
	t.Helper()
	var settings webrtc.SettingEngine
	settings.SetIncludeLoopbackCandidate(true)
	media := &webrtc.MediaEngine{}
	if err := media.RegisterDefaultCodecs(); err != nil {
		t.Fatal(err)
	}
	maker := webrtc.NewAPI(webrtc.WithSettingEngine(settings), webrtc.WithMediaEngine(media))
	peer, err := maker.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatalf("opening a peer: %v", err)
	}
	t.Cleanup(func() { peer.Close() })
	var mu sync.Mutex
	packets := 0
	peer.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			if _, _, err := track.ReadRTP(); err != nil {
				return
			}
			mu.Lock()
			packets++
			mu.Unlock()
		}
	})
	x.answer = func(offer string) (string, error) {
		if err := peer.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
			return "", fmt.Errorf("reading an offer: %w", err)
		}
		answer, err := peer.CreateAnswer(nil)
		if err != nil {
			return "", fmt.Errorf("answering: %w", err)
		}
		gathered := webrtc.GatheringCompletePromise(peer)
		if err := peer.SetLocalDescription(answer); err != nil {
			return "", fmt.Errorf("answering: %w", err)
		}
		<-gathered
		return peer.LocalDescription().SDP, nil
	}
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return packets
	}
}
