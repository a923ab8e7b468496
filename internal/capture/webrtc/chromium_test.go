package webrtc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/capture/media"
	"yesline/internal/capture/webrtc"
)

// page is what a browser's page does in a call, and no more.
const page = `<!doctype html><title>call</title><body><script>
let pc, mic, sender, parts = [], states = [];
async function start(config) {
	mic ||= await navigator.mediaDevices.getUserMedia({audio: {echoCancellation: false, noiseSuppression: false, autoGainControl: false}});
	pc = new RTCPeerConnection(config);
	pc.onconnectionstatechange = () => states.push(pc.connectionState);
	pc.ontrack = e => { const a = new Audio(); a.srcObject = e.streams[0]; a.play(); parts.push(e.streams[0].id); };
	const t = pc.addTransceiver(mic.getAudioTracks()[0], {direction: "sendrecv", streams: [mic]});
	sender = t.sender;
	pc.addTransceiver("audio", {direction: "recvonly"});
	return offer(false);
}
async function offer(restart) {
	await pc.setLocalDescription(await pc.createOffer({iceRestart: restart}));
	await new Promise(done => {
		if (pc.iceGatheringState == "complete") return done();
		pc.onicegatheringstatechange = () => pc.iceGatheringState == "complete" && done();
		setTimeout(done, 3000);
	});
	return pc.localDescription.sdp;
}
async function accept(sdp) { await pc.setRemoteDescription({type: "answer", sdp}); return true; }
async function heard() {
	const out = {};
	for (const s of (await pc.getStats()).values()) {
		if (s.type == "inbound-rtp") out[s.mid] = {packets: s.packetsReceived, lost: s.packetsLost, energy: s.totalAudioEnergy, concealed: s.concealedSamples};
		if (s.type == "transport") out.transport = {dtls: s.tlsVersion, srtp: s.srtpCipher, state: s.dtlsState, ice: s.iceState};
		if (s.type == "candidate-pair" && s.nominated) out.pair = s.state;
		if (s.type == "local-candidate") (out.local ||= []).push(s.candidateType + " " + s.protocol);
	}
	return JSON.stringify(out);
}
</script>`

// chromium is a real browser with a tone for a microphone.
type chromium struct {
	t   testing.TB
	ctx context.Context
	url string
}

func openChromium(t testing.TB, hertz float64) *chromium {
	t.Helper()
	binary, err := exec.LookPath("chromium")
	if err != nil {
		missing(t, "there is no chromium on this machine: apt-get install chromium")
	}
	samples := audio.Tone(hertz, 5000, 12000)
	header, err := audio.WAVHeader(int64(len(samples)))
	if err != nil {
		t.Fatal(err)
	}
	wav := filepath.Join(t.TempDir(), "microphone.wav")
	if err := os.WriteFile(wav, audio.PCM(header[:], samples), 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, page)
	}))
	t.Cleanup(server.Close)
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(binary), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"), chromedp.Flag("mute-audio", true),
		chromedp.Flag("use-fake-ui-for-media-stream", true), chromedp.Flag("use-fake-device-for-media-stream", true),
		chromedp.Flag("use-file-for-fake-audio-capture", wav), chromedp.Flag("allow-loopback-in-peer-connection", true))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, stop := chromedp.NewExecAllocator(ctx, opts...)
	t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(closeTab)
	c := &chromium{t, ctx, server.URL}
	if err := chromedp.Do(ctx, chromedp.Navigate(server.URL)); err != nil {
		t.Fatalf("opening the page: %v", err)
	}
	t.Cleanup(func() { chromedp.Cancel(ctx) })
	return c
}

// another is a second tab of the same browser.
func (c *chromium) another() *chromium {
	c.t.Helper()
	ctx, closeTab := chromedp.NewContext(c.ctx)
	c.t.Cleanup(closeTab)
	if err := chromedp.Do(ctx, chromedp.Navigate(c.url)); err != nil {
		c.t.Fatalf("opening another tab: %v", err)
	}
	return &chromium{c.t, ctx, c.url}
}

// call calls the door as a page does.
func (c *chromium) call(w *world, wants audio.Codec, cfg config) *webrtc.Handset {
	c.t.Helper()
	offer := evaluate[string](c, "start(%s)", cfg)
	h, answer, err := w.door.Handset(offer, wants)
	if err != nil {
		c.t.Fatalf("%v\n%s", err, offer)
	}
	c.t.Cleanup(h.Hangup)
	evaluate[bool](c, "accept(%s)", answer)
	return h
}

// speaks waits until more of the voice is heard.
func (c *chromium) speaks(e *ear) {
	c.t.Helper()
	before := e.packets()
	wait(c.t, "the browser's voice is heard", func() bool { return e.packets() > before+25 })
}

func evaluate[T any](c *chromium, script string, args ...any) T {
	c.t.Helper()
	for i, a := range args {
		b, err := json.Marshal(a)
		if err != nil {
			c.t.Fatal(err)
		}
		args[i] = string(b)
	}
	v, err := chromedp.Run(c.ctx, chromedp.Evaluate[T](fmt.Sprintf(script, args...), chromedp.EvalAwaitPromise))
	if err != nil {
		c.t.Fatalf("in the page: %v", err)
	}
	return v
}

// account is what the browser counts.
type account struct {
	Voice     inward `json:"0"`
	House     inward `json:"1"`
	Transport struct{ DTLS, SRTP, State, ICE string }
	Pair      string
	Local     []string
}

type inward struct {
	Packets, Lost, Concealed int
	Energy                   float64
}

func (c *chromium) heard() (a account) {
	c.t.Helper()
	if err := json.Unmarshal([]byte(evaluate[string](c, "heard()")), &a); err != nil {
		c.t.Fatal(err)
	}
	return a
}

// config is what the page gives its RTCPeerConnection.
type config struct {
	ICEServers []server `json:"iceServers,omitempty"`
	Policy     string   `json:"iceTransportPolicy,omitempty"`
}

type server struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username"`
	Credential string   `json:"credential"`
}

func TestChromiumCallsInG711(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := openChromium(t, 600)
	h := c.call(w, audio.PCMU, config{})
	ear := newEar()
	left := make(chan error, 1)
	line := w.connect(h, capture.Ends{Listener: ear, Left: func(why error) { left <- why }})
	if err := line.Play(t.Context(), tone(440, 1000)); err != nil {
		t.Fatal(err)
	}
	wait(t, "the voice is heard", func() bool { return ear.packets() >= 60 })
	if sound := ear.heard(); !isTone(sound[len(sound)/2:], 600) {
		t.Error("what was heard is not the microphone's tone")
	}
	a := c.heard()
	if a.House.Packets < 48 || a.House.Energy == 0 {
		t.Errorf("the prompt was not heard: %+v", a.House)
	}
	evaluate[bool](c, "sender.dtmf.insertDTMF('19#', 100, 50), true")
	wait(t, "the keys are heard", func() bool { return ear.pressed() == "19#" })
	evaluate[bool](c, "pc.close(), true")
	select {
	case why := <-left:
		if why != capture.ErrHungUp {
			t.Errorf("left because %v", why)
		}
	case <-time.After(5 * time.Second):
		t.Error("nobody says that the browser hung up")
	}
}

func TestTwoChromiumTabsTalkInOpus(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann := openChromium(t, 600)
	ben := ann.another()
	line := w.connect(ann.call(w, audio.Opus, config{}), capture.Ends{Listener: newEar()})
	if line.Voice != audio.Opus || line.Codec != audio.PCMU {
		t.Fatalf("the caller's line is %v, the house speaks %v", line.Voice, line.Codec)
	}

	hers := newEar()
	hers.person = yesline.NewPersonID()
	at, err := w.door.Incoming(t.Context(), hers.person, 0)
	if err != nil || at.Call != "" {
		t.Fatalf("before the call rings: %v, %v", at, err)
	}
	ring := w.door.Ring(hers.person)
	t.Cleanup(ring.Hangup)
	connected := make(chan capture.Line, 1)
	go func() {
		line, err := ring.Connect(t.Context(), capture.Ends{Listener: hers, Like: []audio.Codec{line.Voice}, Left: func(error) {}})
		if err != nil {
			t.Errorf("ringing a tab: %v", err)
		}
		connected <- line
	}()
	for at.Call == "" {
		if at, err = w.door.Incoming(t.Context(), hers.person, at.Version); err != nil {
			t.Fatal(err)
		}
	}
	answer, err := w.door.Answer(hers.person, at.Call, evaluate[string](ben, "start({})"))
	if err != nil {
		t.Fatal(err)
	}
	evaluate[bool](ben, "accept(%s)", answer)
	other := <-connected
	if other.Voice != audio.Opus {
		t.Fatalf("the callee's line is %v", other.Voice)
	}
	media.Join(line.Stream, other.Stream)
	ben.speaks(hers)
	for _, c := range []*chromium{ann, ben} {
		wait(t, "each hears the other's Opus", func() bool { a := c.heard(); return a.Voice.Packets > 30 && a.Voice.Energy > 0 })
	}
	if err := other.Play(t.Context(), tone(440, 600)); err != nil {
		t.Fatal(err)
	}
	wait(t, "the house is heard beside Opus", func() bool { return ben.heard().House.Packets >= 28 })
	evaluate[bool](ben, "sender.dtmf.insertDTMF('2', 100, 50), true")
	wait(t, "a key is heard at 48 kHz", func() bool { return hers.pressed() == "2" })

	for _, packet := range hers.opus() {
		if units, err := audio.PacketUnits(packet); err != nil || units != 2 {
			t.Fatalf("a packet of Opus has %d units of 10 ms: %v", units, err)
		}
	}
}

func TestChromiumChangesItsNetwork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := openChromium(t, 600)
	h := c.call(w, audio.PCMU, config{})
	ear := newEar()
	left := make(chan error, 1)
	w.connect(h, capture.Ends{Listener: ear, Left: func(why error) { left <- why }})
	c.speaks(ear)
	answer, err := w.door.Reconnect(ear.person, ear.call, evaluate[string](c, "offer(true)"))
	if err != nil {
		t.Fatal(err)
	}
	evaluate[bool](c, "accept(%s)", answer)
	wait(t, "it is connected", func() bool { return c.heard().Transport.ICE == "connected" })
	c.speaks(ear)
	if len(left) > 0 || ear.moved != 0 {
		t.Errorf("an ICE restart ended the call or moved its voice")
	}
}

func TestChromiumByTCPAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *webrtc.Config) { c.UDP, c.TCP = netip.AddrPort{}, netip.AddrPortFrom(loopback, 0) })
	c := openChromium(t, 600)
	ear := newEar()
	line := w.connect(c.call(w, audio.PCMU, config{}), capture.Ends{Listener: ear})
	c.speaks(ear)
	if err := line.Play(t.Context(), tone(440, 400)); err != nil {
		t.Fatal(err)
	}
	wait(t, "the prompt is heard", func() bool { return c.heard().House.Packets >= 19 })
}

func TestChromiumTabDies(t *testing.T) {
	whole(t)
	t.Parallel()
	w := newWorld(t)
	c := openChromium(t, 600)
	tab := c.another()
	h := tab.call(w, audio.PCMU, config{})
	ear := newEar()
	left := make(chan error, 1)
	w.connect(h, capture.Ends{Listener: ear, Left: func(why error) { left <- why }})
	tab.speaks(ear)
	go chromedp.Do(tab.ctx, chromedp.Navigate("chrome://crash"))
	began := time.Now()
	select {
	case why := <-left:
		t.Logf("left after %v: %v", time.Since(began).Round(time.Millisecond), why)
	case <-time.After(20 * time.Second):
		t.Error("nobody says that the tab died")
	}
	h.Hangup()
	if n := w.door.Peers(); n != 0 {
		t.Errorf("%d browsers are still here", n)
	}
}
