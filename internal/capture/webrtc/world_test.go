package webrtc_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/rtp"
	pion "github.com/pion/webrtc/v4"
	pionmedia "github.com/pion/webrtc/v4/pkg/media"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/capture/media"
	"yesline/internal/capture/webrtc"
)

// missing ends a test that lacks its peer: it fails where CI is true.
func missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// whole marks a test that takes as long as the times it is about.
func whole(t testing.TB) {
	t.Helper()
	if os.Getenv("YESLINE_WHOLE") == "" {
		missing(t, "it takes long: make test runs it, or set YESLINE_WHOLE=1")
	}
}

var loopback = netip.MustParseAddr("127.0.0.1")

// world is a door on loopback and the plane behind it.
type world struct {
	t     testing.TB
	plane *media.Plane
	door  *webrtc.Door
}

func newWorld(t testing.TB, change ...func(*webrtc.Config)) *world {
	t.Helper()
	plane, err := media.Open(media.Config{IP: loopback, From: 42000, To: 46000})
	if err != nil {
		t.Fatal(err)
	}
	cfg := webrtc.Config{UDP: netip.AddrPortFrom(loopback, 0), Loopback: true, Report: slog.New(slog.DiscardHandler)}
	if testing.Verbose() {
		cfg.Report = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	for _, c := range change {
		c(&cfg)
	}
	door, err := webrtc.New(cfg, plane)
	if err != nil {
		t.Fatal(err)
	}
	if err := door.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := door.Close(); err != nil {
			t.Errorf("closing the door: %v", err)
		}
		if err := plane.Close(); err != nil {
			t.Errorf("closing the plane: %v", err)
		}
	})
	return &world{t, plane, door}
}

// ear is told what a party says; it stands in for the room's leg.
type ear struct {
	call   yesline.CallID
	person yesline.PersonID

	mu    sync.Mutex
	sound []byte
	each  []int // bytes of each payload
	packs int
	keys  string
	moved int
}

func newEar() *ear { return &ear{call: yesline.NewCallID(), person: yesline.NewPersonID()} }

func (e *ear) Party() (yesline.CallID, yesline.PersonID) { return e.call, e.person }

func (e *ear) Heard(_ uint32, payload []byte, _ time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.packs++
	if len(e.sound) < 1<<20 {
		e.sound = append(e.sound, payload...)
		e.each = append(e.each, len(payload))
	}
}

func (e *ear) Key(key byte, _ time.Time, locked bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !locked {
		key = '?'
	}
	e.keys += string(key)
}

func (e *ear) Hold(bool) {}
func (e *ear) Relearn()  { e.mu.Lock(); e.moved++; e.mu.Unlock() }

func (e *ear) packets() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.packs
}

func (e *ear) pressed() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.keys
}

func (e *ear) heard() []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]byte(nil), e.sound...)
}

// opus is the packets that were heard.
func (e *ear) opus() (all [][]byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	at := 0
	for _, n := range e.each {
		all = append(all, e.sound[at:at+n])
		at += n
	}
	return all
}

// wait waits for what must become true soon.
func wait(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("waited in vain: %s", what)
}

// browser is a pion client that does what a page does.
type browser struct {
	t     testing.TB
	pc    *pion.PeerConnection
	voice *pion.TrackLocalStaticSample
	api   *pion.API

	mu    sync.Mutex
	heard map[string][]byte // by the stream's name: "voice", "house"
	packs map[string][]*rtp.Packet
	state pion.PeerConnectionState
}

// form is how a browser differs from the usual one.
type form struct {
	codecs   []string // "PCMU", "PCMA", "opus"; nil: all three
	noHouse  bool     // offers no second line
	networks []pion.NetworkType
	servers  []pion.ICEServer
	relay    bool
	setting  func(*pion.SettingEngine)
}

func newBrowser(t testing.TB, f form) *browser {
	t.Helper()
	engine := &pion.MediaEngine{}
	known := map[string]pion.RTPCodecParameters{
		"opus": {RTPCodecCapability: pion.RTPCodecCapability{MimeType: pion.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1"}, PayloadType: 111},
		"PCMU": {RTPCodecCapability: pion.RTPCodecCapability{MimeType: pion.MimeTypePCMU, ClockRate: 8000}, PayloadType: 0},
		"PCMA": {RTPCodecCapability: pion.RTPCodecCapability{MimeType: pion.MimeTypePCMA, ClockRate: 8000}, PayloadType: 8},
		"G722": {RTPCodecCapability: pion.RTPCodecCapability{MimeType: pion.MimeTypeG722, ClockRate: 8000}, PayloadType: 9},
	}
	if f.codecs == nil {
		f.codecs = []string{"opus", "PCMU", "PCMA"}
	}
	for _, name := range f.codecs {
		if err := engine.RegisterCodec(known[name], pion.RTPCodecTypeAudio); err != nil {
			t.Fatal(err)
		}
	}
	for payload, clock := range map[pion.PayloadType]uint32{110: 48000, 126: 8000} {
		event := pion.RTPCodecParameters{RTPCodecCapability: pion.RTPCodecCapability{MimeType: "audio/telephone-event", ClockRate: clock}, PayloadType: payload}
		if err := engine.RegisterCodec(event, pion.RTPCodecTypeAudio); err != nil {
			t.Fatal(err)
		}
	}
	setting := pion.SettingEngine{LoggerFactory: &logging.DefaultLoggerFactory{Writer: io.Discard}}
	setting.SetIncludeLoopbackCandidate(true)
	setting.SetIPFilter(func(ip net.IP) bool { return ip.IsLoopback() && ip.To4() != nil })
	if f.networks == nil {
		f.networks = []pion.NetworkType{pion.NetworkTypeUDP4}
	}
	setting.SetNetworkTypes(f.networks)
	if f.setting != nil {
		f.setting(&setting)
	}
	api := pion.NewAPI(pion.WithMediaEngine(engine), pion.WithSettingEngine(setting))
	cfg := pion.Configuration{ICEServers: f.servers}
	if f.relay {
		cfg.ICETransportPolicy = pion.ICETransportPolicyRelay
	}
	pc, err := api.NewPeerConnection(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, pc: pc, api: api, heard: map[string][]byte{}, packs: map[string][]*rtp.Packet{}}
	t.Cleanup(func() { pc.Close() })
	pc.OnTrack(b.listen)
	pc.OnConnectionStateChange(func(s pion.PeerConnectionState) { b.mu.Lock(); b.state = s; b.mu.Unlock() })
	first := f.codecs[0]
	b.voice, err = pion.NewTrackLocalStaticSample(known[first].RTPCodecCapability, "mic", "mic")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = pc.AddTransceiverFromTrack(b.voice, pion.RTPTransceiverInit{Direction: pion.RTPTransceiverDirectionSendrecv}); err != nil {
		t.Fatal(err)
	}
	if !f.noHouse {
		if _, err = pc.AddTransceiverFromKind(pion.RTPCodecTypeAudio, pion.RTPTransceiverInit{Direction: pion.RTPTransceiverDirectionRecvonly}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func (b *browser) listen(track *pion.TrackRemote, _ *pion.RTPReceiver) {
	for {
		p, _, err := track.ReadRTP()
		if err != nil {
			return
		}
		b.mu.Lock()
		b.heard[track.StreamID()] = append(b.heard[track.StreamID()], p.Payload...)
		b.packs[track.StreamID()] = append(b.packs[track.StreamID()], p)
		b.mu.Unlock()
	}
}

func (b *browser) sound(stream string) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]byte(nil), b.heard[stream]...)
}

func (b *browser) packets(stream string) []*rtp.Packet {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*rtp.Packet(nil), b.packs[stream]...)
}

// offer is a whole offer, when all candidates are in it.
func (b *browser) offer(restart bool) string {
	b.t.Helper()
	if b.pc.SignalingState() == pion.SignalingStateHaveLocalOffer {
		return b.pc.LocalDescription().SDP // the one before was not answered
	}
	o, err := b.pc.CreateOffer(&pion.OfferOptions{ICERestart: restart})
	if err != nil {
		b.t.Fatal(err)
	}
	gathered := pion.GatheringCompletePromise(b.pc)
	if err := b.pc.SetLocalDescription(o); err != nil {
		b.t.Fatal(err)
	}
	<-gathered
	return b.pc.LocalDescription().SDP
}

func (b *browser) accept(answer string) {
	b.t.Helper()
	if err := b.pc.SetRemoteDescription(pion.SessionDescription{Type: pion.SDPTypeAnswer, SDP: answer}); err != nil {
		b.t.Fatalf("the answer is not taken: %v\n%s", err, answer)
	}
}

// call offers, and takes the answer.
func (w *world) call(b *browser, wants audio.Codec) *webrtc.Handset {
	w.t.Helper()
	h, answer, err := w.door.Handset(b.offer(false), wants)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(h.Hangup)
	b.accept(answer)
	return h
}

func (w *world) connect(h capture.Handset, o capture.Ends) capture.Line {
	w.t.Helper()
	if o.Left == nil {
		o.Left = func(error) {}
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 15*time.Second)
	defer cancel()
	line, err := h.Connect(ctx, o)
	if err != nil {
		w.t.Fatalf("connecting a browser: %v", err)
	}
	return line
}

// speak sends sound at its pace, 20 ms of G.711 at a time.
func (b *browser) speak(sound []byte) {
	b.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for len(sound) > 0 {
		n := min(160, len(sound))
		err := b.voice.WriteSample(pionmedia.Sample{Data: sound[:n], Duration: 20 * time.Millisecond})
		if err != nil && !errors.Is(err, io.ErrClosedPipe) {
			b.t.Errorf("speaking: %v", err)
			return
		}
		sound = sound[n:]
		<-tick.C
	}
}

func tone(hertz float64, ms int) []byte {
	return audio.PCMU.Encode(nil, audio.Tone(hertz, ms, 8000))
}

func line(t testing.TB, sdp, prefix string) string {
	t.Helper()
	for row := range strings.SplitSeq(sdp, "\r\n") {
		if strings.HasPrefix(row, prefix) {
			return row
		}
	}
	t.Fatalf("no %s in\n%s", prefix, sdp)
	return ""
}

// isTone reports whether mu-law is a tone of this pitch and of none beside it.
func isTone(sound []byte, hertz float64) bool {
	samples := audio.PCMU.Decode(nil, sound)
	return len(samples) > 800 && audio.Power(samples, hertz) > 0.5*audio.Energy(samples)
}
