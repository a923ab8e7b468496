package phone

import (
	"bytes"
	"context"
	"errors"
	"math"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// The stories: phones call each other with no server between.

func open(t *testing.T, config Config) *Phone {
	t.Helper()
	config.Listen = "127.0.0.1:0"
	p, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

type answered struct {
	call *Call
	err  error
}

// connect lets one phone call the other, which answers.
func connect(t *testing.T, ctx context.Context, from, to *Phone) (caller, callee *Call) {
	t.Helper()
	there := make(chan answered, 1)
	go func() {
		call, err := to.Answer(ctx)
		there <- answered{call, err}
	}()
	caller, err := from.Call(ctx, to.Address(), "+15550100")
	if err != nil {
		t.Fatal(err)
	}
	other := <-there
	if other.err != nil {
		t.Fatal(other.err)
	}
	return caller, other.call
}

// tone is a sine in mu-law, made from this package's own expansion.
func tone(hz float64, ms int) []byte {
	out := make([]byte, ms*rate/1000)
	for i := range out {
		wanted := 8000 * math.Sin(2*math.Pi*hz*float64(i)/rate)
		best := math.Inf(1)
		for b := range 256 {
			if off := math.Abs(float64(fromMu(byte(b))) - wanted); off < best {
				out[i], best = byte(b), off
			}
		}
	}
	return out
}

// share is how much of the energy of what was heard has one frequency.
func share(codec uint8, heard []byte, hz float64) float64 {
	var re, im, energy float64
	for i, b := range heard {
		v := float64(fromMu(b))
		if codec == PCMA {
			v = float64(fromA(b))
		}
		turn := 2 * math.Pi * hz * float64(i) / rate
		re, im, energy = re+v*math.Cos(turn), im+v*math.Sin(turn), energy+v*v
	}
	if energy == 0 {
		return 0
	}
	return 2 * (re*re + im*im) / float64(len(heard)) / energy
}

// hears waits until a good part of the tone has come.
func hears(t *testing.T, ctx context.Context, c *Call, hz float64) {
	t.Helper()
	err := c.HeardUntil(ctx, func(heard []byte) bool {
		return len(heard) >= 2400 && len(heard)%800 == 0 && share(c.media.codec, heard[len(heard)-1600:], hz) > 0.95
	})
	if err != nil {
		t.Errorf("%v Hz was not heard: %v", hz, err)
	}
}

// It runs alone, before the parallel ones, so that it can count goroutines.
func TestNothingRunsAfterClose(t *testing.T) {
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for range 3 {
		ann, err := New(Config{Listen: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		bob, err := New(Config{Listen: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		_, callee := connect(t, ctx, ann, bob)
		ann.Close()
		<-callee.Done()
		bob.Close()
		ann.Close() // twice is once
		if _, err := bob.Answer(ctx); err == nil {
			t.Error("a closed phone answers")
		}
		if _, err := ann.Call(ctx, bob.Address(), "1"); err == nil {
			t.Error("a closed phone calls")
		}
	}
	// Close has waited for all; the last may be between its last act and its end.
	for wait := time.Now().Add(time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(wait) {
			t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
		}
	}
}

func TestBothHearEachOther(t *testing.T) {
	t.Parallel()
	for _, codec := range []uint8{PCMU, PCMA} {
		t.Run(map[uint8]string{PCMU: "mu-law", PCMA: "A-law"}[codec], func(t *testing.T) {
			t.Parallel()
			ctx := deadline(t)
			ann := open(t, Config{User: "ann", Codecs: []uint8{codec}})
			bob := open(t, Config{User: "bob"})
			caller, callee := connect(t, ctx, ann, bob)
			if callee.Number() != "+15550100" || callee.From() != "ann" {
				t.Errorf("bob sees %q calling %q", callee.From(), callee.Number())
			}
			if caller.Codec() != codec || callee.Codec() != codec {
				t.Errorf("they speak %d and %d", caller.Codec(), callee.Codec())
			}
			caller.Say(tone(440, 800))
			callee.Say(tone(1000, 800))
			hears(t, ctx, callee, 440)
			hears(t, ctx, caller, 1000)
			if err := caller.Spoken(ctx); err != nil {
				t.Error(err)
			}
			if _, err := callee.Hear(ctx, 100*time.Millisecond); err != nil {
				t.Error(err)
			}
			if !bytes.HasPrefix(caller.Sent(), callee.Heard()[:4000]) {
				t.Error("what was heard is not what was sent")
			}
			if err := caller.Hangup(ctx); err != nil {
				t.Error(err)
			}
			<-callee.Done()
			if caller.Ended() != "we hung up" || callee.Ended() != "the other side hung up" {
				t.Errorf("ended: %q, %q", caller.Ended(), callee.Ended())
			}
			if caller.Hangup(ctx) != nil || caller.Say(tone(440, 20)) == nil {
				t.Error("after the end: hanging up again is fine, speaking is not")
			}
			if len(callee.Heard()) == 0 {
				t.Error("what was heard is gone")
			}
		})
	}
}

func TestTheOneCalledHangsUp(t *testing.T) {
	t.Parallel()
	ctx := deadline(t)
	caller, callee := connect(t, ctx, open(t, Config{}), open(t, Config{}))
	if err := callee.Hangup(ctx); err != nil {
		t.Fatal(err)
	}
	<-caller.Done()
	if caller.Ended() != "the other side hung up" {
		t.Errorf("ended: %q", caller.Ended())
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	ctx := deadline(t)
	caller, callee := connect(t, ctx, open(t, Config{Event: 110}), open(t, Config{Event: 97}))
	if err := caller.Press(ctx, "1"); err != nil {
		t.Fatal(err)
	}
	if err := caller.Press(ctx, "*9"); err != nil {
		t.Fatal(err)
	}
	if err := callee.Press(ctx, "#"); err != nil {
		t.Fatal(err)
	}
	caller.Hear(ctx, 100*time.Millisecond)
	callee.Hear(ctx, 100*time.Millisecond)
	if caller.Keys() != "#" || callee.Keys() != "1*9" {
		t.Errorf("keys: %q, %q", caller.Keys(), callee.Keys())
	}
	for _, e := range append(callee.Events(), caller.Events()...) {
		// 110 both ways: it is what the offer names.
		if e.PayloadType != 110 || e.Duration != 800 || !e.Marked || e.Packets != 7 || e.Ends != 3 {
			t.Errorf("got %+v", e)
		}
	}
	if events := callee.Events(); events[1].Timestamp-events[0].Timestamp < 800 {
		t.Errorf("two keys at one time: %+v", events)
	}
	for _, bad := range []string{"x", strings.Repeat("1", maxKeys+1)} {
		if caller.Press(ctx, bad) == nil {
			t.Errorf("pressed %q", bad)
		}
	}
	caller.Hangup(ctx)
	if caller.Press(ctx, "1") == nil {
		t.Error("pressed a key after the end")
	}
}

func TestSayingPausesForKeysAndSilenceFills(t *testing.T) {
	t.Parallel()
	ctx := deadline(t)
	caller, callee := connect(t, ctx, open(t, Config{}), open(t, Config{Quiet: true}))
	quiet, err := callee.Hear(ctx, 100*time.Millisecond)
	if err != nil || bytes.Trim(quiet, "\xff") != nil {
		t.Errorf("a caller who says nothing sends silence: %v", err)
	}
	caller.Say(tone(500, 200))
	caller.Press(ctx, "5")
	caller.Spoken(ctx)
	callee.Hear(ctx, 100*time.Millisecond)
	loud := 0
	for _, b := range callee.Heard() {
		if max(fromMu(b), -fromMu(b)) > 500 {
			loud++
		}
	}
	if callee.Keys() != "5" || loud < 1400 || loud > 1600 {
		t.Errorf("keys %q, %d loud samples of the 1600 that were said", callee.Keys(), loud)
	}
	if len(caller.Heard()) != 0 {
		t.Error("a quiet phone sends nothing")
	}
}

func TestRefusing(t *testing.T) {
	t.Parallel()
	ctx := deadline(t)
	ann, bob := open(t, Config{}), open(t, Config{})
	rejected := make(chan error, 1)
	go func() {
		r, err := bob.Ringing(ctx)
		if err == nil {
			r.Ring()
			err = r.Reject(ctx, 486)
		}
		rejected <- err
	}()
	_, err := ann.Call(ctx, bob.Address(), "2")
	var refused *Refused
	if !errors.As(err, &refused) || refused.Code != 486 {
		t.Errorf("got %v, want 486", err)
	}
	if err := <-rejected; err != nil {
		t.Errorf("the refusal was not acknowledged: %v", err)
	}
}

func TestGivingUpWhileItRings(t *testing.T) {
	t.Parallel()
	ann, bob := open(t, Config{}), open(t, Config{Rings: 10 * time.Second})
	ctx, cancel := context.WithCancel(deadline(t))
	ringing := make(chan *Ringing, 1)
	go func() {
		r, _ := bob.Ringing(context.Background())
		ringing <- r
		cancel()
	}()
	if _, err := ann.Call(ctx, bob.Address(), "2"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	r := <-ringing
	<-r.GaveUp()
	if _, err := r.Answer(deadline(t)); err == nil || !strings.HasSuffix(err.Error(), "is over") {
		t.Errorf("answering a call that was given up: %v", err)
	}
	if err := r.Reject(deadline(t), 603); err == nil || !strings.HasSuffix(err.Error(), "is over") {
		t.Errorf("refusing a call that was given up: %v", err)
	}
}

func TestItRingsForAWhile(t *testing.T) {
	t.Parallel()
	ctx := deadline(t)
	ann, bob := open(t, Config{}), open(t, Config{Rings: 300 * time.Millisecond})
	start := time.Now()
	connect(t, ctx, ann, bob)
	if rang := time.Since(start); rang < 300*time.Millisecond {
		t.Errorf("rang %v", rang)
	}
}

func TestNobodyPicksUp(t *testing.T) {
	t.Parallel()
	ann, bob := open(t, Config{}), open(t, Config{Rings: time.Minute})
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	there := make(chan error, 1)
	go func() {
		_, err := bob.Answer(short)
		there <- err
	}()
	var refused *Refused
	if _, err := ann.Call(deadline(t), bob.Address(), "4"); !errors.As(err, &refused) || refused.Code != 480 {
		t.Errorf("got %v, want 480", err)
	}
	if err := <-there; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestTrunk(t *testing.T) {
	t.Parallel()
	ctx := deadline(t)
	trunk, err := NewTrunk("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(trunk.Close)
	server, maya, bob := open(t, Config{User: "server"}), open(t, Config{}), open(t, Config{})
	trunk.Connect("+15550101", maya)
	trunk.Connect("+15550102", bob)
	for number, p := range map[string]*Phone{"+15550101": maya, "+15550102": bob} {
		there := make(chan answered, 1)
		go func() {
			call, err := p.Answer(ctx)
			there <- answered{call, err}
		}()
		caller, err := server.Call(ctx, trunk.Address(), number)
		if err != nil {
			t.Fatal(err)
		}
		other := <-there
		if other.err != nil || other.call.Number() != number {
			t.Fatalf("rang at the wrong phone: %v", other.err)
		}
		caller.Say(tone(700, 500))
		hears(t, ctx, other.call, 700)
		if number == "+15550101" {
			maya.Close() // hangs up, though the line is the trunk's
			<-caller.Done()
		}
	}
	trunk.Connect("+15550102", nil)
	var refused *Refused
	if _, err := server.Call(ctx, trunk.Address(), "+15550102"); !errors.As(err, &refused) || refused.Code != 404 {
		t.Errorf("nobody there: got %v, want 404", err)
	}
	if _, err := server.Call(ctx, trunk.Address(), "+15550101"); !errors.As(err, &refused) || refused.Code != 480 {
		t.Errorf("closed phone: got %v, want 480", err)
	}
}

func TestManyCallsAtOnceAndBusy(t *testing.T) {
	t.Parallel()
	ctx := deadline(t)
	bob := open(t, Config{})
	ann := open(t, Config{})
	results := make(chan error, waiting+4)
	short, cancel := context.WithCancel(ctx)
	for range waiting + 4 {
		go func() {
			_, err := ann.Call(short, bob.Address(), "3")
			results <- err
		}()
	}
	for range 4 {
		var refused *Refused
		if err := <-results; !errors.As(err, &refused) || refused.Code != 486 {
			t.Errorf("got %v, want busy", err)
		}
	}
	cancel()
	for range waiting {
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	// Those that gave up are passed over.
	connect(t, ctx, ann, bob)
}

func TestBadPacketsAreIgnored(t *testing.T) {
	t.Parallel()
	ctx := deadline(t)
	ann, bob := open(t, Config{}), open(t, Config{})
	stranger, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	send := func(to netip.AddrPort, packet []byte) { stranger.WriteToUDPAddrPort(packet, to) }
	sip := netip.MustParseAddrPort(bob.Address())
	for _, packet := range []string{
		"", "\x00\x01", "\r\n\r\n", "SIP/2.0 200 OK\r\n\r\n", "INVITE sip:a@b SIP/2.0\r\n\r\n",
		"INVITE sip:a@b SIP/2.0\r\nVia: x\r\nFrom: a\r\nTo: b\r\nCall-ID: c\r\nCSeq: 1 BYE\r\n\r\n",
		strings.Repeat("A", 60000),
	} {
		send(sip, []byte(packet))
	}
	caller, callee := connect(t, ctx, ann, bob)
	if bob.Ignored() != 7 {
		t.Errorf("ignored %d packets", bob.Ignored())
	}
	port, _ := callee.Media()
	rtp := append([]byte{0x80, 0, 0, 1, 0, 0, 0, 1, 9, 9, 9, 9}, tone(2000, 20)...)
	for range 10 {
		send(port, rtp)
	}
	caller.Say(tone(440, 500))
	hears(t, ctx, callee, 440)
	if callee.Ignored() != 10 {
		t.Errorf("ignored %d foreign packets of sound", callee.Ignored())
	}
	if share(PCMU, callee.Heard(), 2000) > 0.01 {
		t.Error("heard a stranger")
	}
}

func TestWhatCannotBeSetUp(t *testing.T) {
	t.Parallel()
	for _, config := range []Config{
		{}, {Listen: "0.0.0.0:0"}, {Listen: "127.0.0.1:0", Codecs: []uint8{3}},
		{Listen: "127.0.0.1:0", Codecs: []uint8{}}, {Listen: "127.0.0.1:0", Event: 8},
	} {
		if p, err := New(config); err == nil {
			p.Close()
			t.Errorf("%+v was opened", config)
		}
	}
	ann := open(t, Config{})
	if _, err := New(Config{Listen: ann.Address()}); err == nil {
		t.Error("two phones at one address")
	}
	if _, err := ann.Call(t.Context(), "nowhere", "1"); err == nil {
		t.Error("called nowhere")
	}
}

func TestTheSoundOfALaw(t *testing.T) {
	t.Parallel()
	for mu := range 256 {
		want, got := fromMu(byte(mu)), fromA(muToA[mu])
		if off := max(want-got, got-want); off > max(max(want, -want)/24, 8) {
			t.Errorf("%#02x: %d became %d", mu, want, got)
		}
	}
	if fromMu(0x80) != 32124 || fromMu(0xff) != 0 || fromA(0xaa) != 32256 || fromA(0xd5) != 8 {
		t.Error("the ends of the curves are not those of G.711")
	}
}

// Packets that come late, twice, from a new source, or far off in time.
func TestPlacingByTimestamp(t *testing.T) {
	t.Parallel()
	m := &media{codec: PCMU, moved: make(chan struct{})}
	now := time.Now()
	hear := func(source, timestamp uint32, b byte, after time.Duration) {
		t.Helper()
		p := []byte{0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(source)}
		for i := range 4 {
			p[4+i] = byte(timestamp >> (24 - 8*i))
		}
		if !m.hear(append(p, bytes.Repeat([]byte{b}, frame)...), now.Add(after)) {
			t.Errorf("packet %c was not taken", b)
		}
	}
	start := uint32(1<<32 - 100) // wraps
	hear(1, start, 'a', 0)
	hear(1, start+2*frame, 'c', 40*time.Millisecond)
	hear(1, start+frame, 'b', 45*time.Millisecond) // late
	hear(1, start+frame, 'b', 46*time.Millisecond) // twice
	hear(1, start+4*frame, 'e', 80*time.Millisecond)
	hear(2, 77, 'f', 100*time.Millisecond) // a new source begins where it arrives
	hear(2, 77+9*jump, 'g', 120*time.Millisecond)
	var got []byte
	for i := 0; i < len(m.heard); i += frame {
		got = append(got, m.heard[i])
	}
	if want := "abc\xffefg"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, bad := range [][]byte{
		{}, {0x80}, bytes.Repeat([]byte{0}, 40), // version 0
		append([]byte{0xa0}, make([]byte, 20)...),                   // padding of 0
		append([]byte{0x8f}, make([]byte, 20)...),                   // sources beyond the end
		append([]byte{0x90}, bytes.Repeat([]byte{0xff}, 20)...),     // extension beyond the end
		append([]byte{0x80, 3}, make([]byte, 40)...),                // GSM
		slices.Concat([]byte{0xa0}, make([]byte, 20), []byte{0xff}), // padding beyond the start
		slices.Concat([]byte{0x80}, make([]byte, 11)),               // no sound
	} {
		if m.hear(bad, now) {
			t.Errorf("% x was taken", bad)
		}
	}
}
