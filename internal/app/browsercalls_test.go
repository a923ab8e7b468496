package app_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/logging"
	pion "github.com/pion/webrtc/v4"
	pionmedia "github.com/pion/webrtc/v4/pkg/media"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audio"
	"yesline/internal/phone"
	"yesline/internal/vault"
	"yesline/internal/web/webtest"
)

// page is the open page of somebody who is signed in, with a microphone: a pion
// peer that does what the page's script does.
type page struct {
	*visitor
	pc    *pion.PeerConnection
	voice *pion.TrackLocalStaticSample

	mu    sync.Mutex
	heard map[string][]byte   // by the stream's name: "voice", "house"
	packs map[string][][]byte // the same, packet by packet
}

// opens the page of a person whose browser prefers a codec and knows the others.
func (h *home) opens(person yesline.PersonID, prefers string) *page {
	h.t.Helper()
	p := &page{visitor: h.browser(person), heard: map[string][]byte{}, packs: map[string][][]byte{}}
	p.connect(prefers)
	return p
}

// connect makes the page another line, of two: the voice, and the house.
func (p *page) connect(prefers string) {
	t := p.h.t
	t.Helper()
	known := map[string]pion.RTPCodecParameters{
		"opus": {RTPCodecCapability: pion.RTPCodecCapability{MimeType: pion.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1"}, PayloadType: 111},
		"PCMU": {RTPCodecCapability: pion.RTPCodecCapability{MimeType: pion.MimeTypePCMU, ClockRate: 8000}, PayloadType: 0},
		"PCMA": {RTPCodecCapability: pion.RTPCodecCapability{MimeType: pion.MimeTypePCMA, ClockRate: 8000}, PayloadType: 8},
	}
	engine := &pion.MediaEngine{}
	for _, name := range []string{"opus", "PCMU", "PCMA"} {
		if err := engine.RegisterCodec(known[name], pion.RTPCodecTypeAudio); err != nil {
			t.Fatal(err)
		}
	}
	setting := pion.SettingEngine{LoggerFactory: &logging.DefaultLoggerFactory{Writer: io.Discard}}
	setting.SetIncludeLoopbackCandidate(true)
	setting.SetIPFilter(func(ip net.IP) bool { return ip.IsLoopback() && ip.To4() != nil })
	setting.SetNetworkTypes([]pion.NetworkType{pion.NetworkTypeUDP4})
	var err error
	if p.pc, err = pion.NewAPI(pion.WithMediaEngine(engine), pion.WithSettingEngine(setting)).NewPeerConnection(pion.Configuration{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.pc.Close() })
	p.pc.OnTrack(p.listen)
	if p.voice, err = pion.NewTrackLocalStaticSample(known[prefers].RTPCodecCapability, "mic", "mic"); err != nil {
		t.Fatal(err)
	}
	if _, err = p.pc.AddTransceiverFromTrack(p.voice, pion.RTPTransceiverInit{Direction: pion.RTPTransceiverDirectionSendrecv}); err != nil {
		t.Fatal(err)
	}
	if _, err = p.pc.AddTransceiverFromKind(pion.RTPCodecTypeAudio, pion.RTPTransceiverInit{Direction: pion.RTPTransceiverDirectionRecvonly}); err != nil {
		t.Fatal(err)
	}
}

func (p *page) listen(track *pion.TrackRemote, _ *pion.RTPReceiver) {
	for {
		packet, _, err := track.ReadRTP()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.heard[track.StreamID()] = append(p.heard[track.StreamID()], packet.Payload...)
		p.packs[track.StreamID()] = append(p.packs[track.StreamID()], packet.Payload)
		p.mu.Unlock()
	}
}

func (p *page) sound(stream string) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.heard[stream])
}

func (p *page) packets(stream string) [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([][]byte(nil), p.packs[stream]...)
}

func (p *page) offer() string {
	t := p.h.t
	t.Helper()
	o, err := p.pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	gathered := pion.GatheringCompletePromise(p.pc)
	if err := p.pc.SetLocalDescription(o); err != nil {
		t.Fatal(err)
	}
	<-gathered
	return p.pc.LocalDescription().SDP
}

// sends posts a form with the page's offer and takes the house's answer.
func (p *page) sends(path string, form url.Values) told {
	t := p.h.t
	t.Helper()
	form.Set("sdp", p.offer())
	var got told
	if code := p.posts(path, form, &got); code != http.StatusOK {
		t.Fatalf("an offer is answered %d: %s", code, got.Error)
	}
	if err := p.pc.SetRemoteDescription(pion.SessionDescription{Type: pion.SDPTypeAnswer, SDP: got.SDP}); err != nil {
		t.Fatalf("the answer is not taken: %v\n%s", err, got.SDP)
	}
	return got
}

func (p *page) calls(number string) yesline.CallID {
	p.h.t.Helper()
	return yesline.CallID(p.sends("/call", url.Values{"to": {number}}).Call)
}

// waits is present for calls until the test ends, as an open page is, and gives
// what rings.
func (p *page) waits() <-chan told {
	ctx, leave := context.WithCancel(p.h.t.Context())
	rings := make(chan told, 8)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(rings)
		version, call := int64(0), ""
		for ctx.Err() == nil {
			in, err := p.incoming(ctx, version)
			if err != nil {
				if ctx.Err() == nil {
					p.h.t.Errorf("waiting for calls: %v", err)
				}
				return
			}
			if version = in.Version; in.Call != call {
				if call = in.Call; call != "" {
					rings <- in
				}
			}
		}
	}()
	p.h.t.Cleanup(func() { leave(); <-done })
	return rings
}

func (p *page) incoming(ctx context.Context, after int64) (in told, err error) {
	r, err := http.NewRequestWithContext(ctx, "GET", fmt.Sprintf("http://%s/call/incoming?after=%d", p.h.PagesAddress(), after), nil)
	if err != nil {
		return in, err
	}
	client := *p.client
	client.Timeout = 40 * time.Second
	got, err := client.Do(r)
	if err != nil {
		return in, err
	}
	defer got.Body.Close()
	body, err := io.ReadAll(io.LimitReader(got.Body, 1<<16))
	if err == nil {
		err = decode(got.StatusCode, body, &in)
	}
	return in, err
}

// here waits until the house knows that the page is open.
func (p *page) here(person yesline.PersonID) {
	p.h.t.Helper()
	until(p.h.t, "the page is open", 10*time.Second, func() bool { return p.h.Browsers.Here(person) })
}

// answers picks up what rings.
func (p *page) answers(rings <-chan told) yesline.CallID {
	p.h.t.Helper()
	select {
	case in := <-rings:
		p.sends("/calls/"+in.Call+"/answer", url.Values{})
		return yesline.CallID(in.Call)
	case <-time.After(20 * time.Second):
		p.h.t.Fatal("nothing rings on the page")
		return ""
	}
}

// speaks sends packets at their pace, 20 ms each, until all are sent.
func (p *page) speaks(packets [][]byte) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, data := range packets {
		if err := p.voice.WriteSample(pionmedia.Sample{Data: data, Duration: 20 * time.Millisecond}); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			p.h.t.Errorf("speaking: %v", err)
			return
		}
		<-tick.C
	}
}

// frames cuts mu-law into packets of 20 ms.
func frames(sound []byte) (all [][]byte) {
	for len(sound) >= 160 {
		all = append(all, sound[:160])
		sound = sound[160:]
	}
	return all
}

func speech(t *testing.T, name string, seconds int) []byte {
	t.Helper()
	voice, err := os.ReadFile("../demo/speech/" + name + ".ul")
	if err != nil {
		t.Fatal(err)
	}
	return voice[:seconds*audio.Rate]
}

// carriedIn is the share of packets that are in a sound, byte for byte. Those
// that hold one byte only, such as silence, say nothing and are not counted.
func carriedIn(sound []byte, packets [][]byte) float64 {
	in, all := 0, 0
	for _, p := range packets {
		if len(bytes.Trim(p, string(p[:1]))) == 0 {
			continue
		}
		all++
		if bytes.Contains(sound, p) {
			in++
		}
	}
	return float64(in) / float64(max(all, 1))
}

// unsealed reads a track as its owner does.
func (h *home) unsealed(r vault.Recorded) []vault.Second {
	h.t.Helper()
	permit, err := h.Gate.Ask(h.t.Context(), h.signedIn(r.Person), access.Listen, access.Object{Kind: "track", ID: string(r.ID)}, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	seconds, err := h.Opener.Read(h.t.Context(), permit, r.ID, 0, 128)
	if err != nil {
		h.t.Fatal(err)
	}
	return seconds
}

// bytesOf is the bytes of a track, second after second.
func bytesOf(seconds []vault.Second) (all []byte) {
	for _, s := range seconds {
		all = append(all, s.Payload...)
	}
	return all
}

// hearsHouse waits until the page heard what the house says.
func (p *page) hearsHouse(prompt string) {
	p.h.t.Helper()
	said := frames(promptEnd(p.h.t, prompt))
	until(p.h.t, "the page hears "+prompt, 20*time.Second, func() bool { return carriedIn(p.sound("house"), said) > 0.8 })
}

// A browser calls a number behind the trunk. One says yes by the page and one by
// a key; what each says arrives and is kept as it was sent, to the byte.
func TestABrowserCallsAPhone(t *testing.T) {
	t.Parallel()
	l := newCarried(t)
	p := l.opens(l.people[0], "PCMU")
	k := &talk{h: l.home, id: p.calls("(202) 555-0102")}
	other := l.picksUp(calleeNumber)
	var both sync.WaitGroup
	both.Go(func() { says(t, other, "ask", "1") })
	p.agrees(k.id)
	both.Wait()
	hears(t, other, "thanks_recording")
	p.hearsHouse("ask")
	p.follow(k.id, "both are recorded", func(s status) bool { return s.State == "bridged" && s.Recording == "both" })

	mine, theirs := frames(speech(t, "ann", 4)), frames(speech(t, "bob", 4))
	if err := other.Say(bytes.Join(theirs, nil)); err != nil {
		t.Fatal(err)
	}
	p.speaks(mine)
	if err := other.Spoken(patient(t)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	if fit := carriedIn(other.Heard(), mine); fit < 0.9 {
		t.Errorf("the phone hears %.2f of what the page said, byte for byte", fit)
	}
	if fit := carriedIn(p.sound("voice"), theirs); fit < 0.9 {
		t.Errorf("the page hears %.2f of what the phone said, byte for byte", fit)
	}
	if err := p.pressed(k.id, "5"); err != nil {
		t.Error(err)
	}
	p.chooses(k.id, "hangup")
	k.over(other)
	for _, r := range k.finished(2) {
		said, foreign := mine, theirs
		if r.Person == l.people[1] {
			said, foreign = theirs, mine
		}
		kept := bytesOf(l.unsealed(r))
		if fit := carriedIn(kept, said); fit < 0.85 {
			t.Errorf("a track holds %.2f of what was said, byte for byte; %d s %q", fit, r.Seconds, r.State)
		}
		if fit := carriedIn(kept, foreign); fit > 0.02 {
			t.Errorf("a track holds %.2f of the other's voice", fit)
		}
	}
	if c := k.row(); c.Recording != "both" || !strings.Contains(c.Ending, "caller hung up") {
		t.Errorf("the call's row says %q, %q", c.Recording, c.Ending)
	}
	l.check()
}

// over waits until a phone's call has ended.
func (k *talk) over(c *phone.Call) {
	k.h.t.Helper()
	select {
	case <-c.Done():
	case <-time.After(15 * time.Second):
		k.h.t.Error("the call goes on")
	}
}

// pressed presses a key of the page's keypad.
func (p *page) pressed(call yesline.CallID, key string) error {
	var t told
	if code := p.posts("/calls/"+string(call)+"/say", url.Values{"word": {"key=" + key}}, &t); code != http.StatusOK {
		return fmt.Errorf("a key answers %d: %s", code, t.Error)
	}
	return nil
}

// A premium number is refused in words, whatever the page offers, and the line
// for it is given back.
func TestAPremiumNumberIsRefusedOnThePage(t *testing.T) {
	t.Parallel()
	l := newCarried(t)
	people := l.known()
	p := l.opens(l.people[0], "PCMU")
	var no told
	if code := p.posts("/call", url.Values{"to": {"+19005550142"}, "sdp": {p.offer()}}, &no); code != http.StatusForbidden || no.Error == "" || strings.Contains(no.Error, "5550142") {
		t.Errorf("a premium number answers %d: %q", code, no.Error)
	}
	if n := l.known(); n != people {
		t.Errorf("%d people were written", n-people)
	}
	all, err := l.Tolls.Refused(t.Context(), 10)
	if err != nil || len(all) != 1 || all[0].Word != "premium" || all[0].Times != 1 {
		t.Errorf("remembered is %+v, %v", all, err)
	}
	l.check()
}

// opusPackets are real packets of a voice: fullband CELT of a made-up sound
// cannot be made without an encoder, so these are frames that a decoder takes.
func opusPackets(t *testing.T, n int, seed byte) (all [][]byte) {
	t.Helper()
	for i := range n { // code 0, CELT fullband mono of 20 ms (RFC 6716, 3.1)
		all = append(all, []byte{31 << 3, seed, byte(i), byte(i >> 8), 0x5a, seed ^ byte(i*7), 0x33, byte(i * 13), seed})
	}
	return all
}

// Two browsers in a call speak Opus, and it is kept and played as it came.
func TestABrowserCallsABrowser(t *testing.T) {
	t.Parallel()
	l := newCarried(t)
	ann, ben := l.opens(l.people[0], "opus"), l.opens(l.people[1], "opus")
	rings := ben.waits()
	ben.here(l.people[1])
	k := &talk{h: l.home, id: ann.calls(calleeNumber)}
	if id := ben.answers(rings); id != k.id {
		t.Fatalf("%s rings, want %s", id, k.id)
	}
	var both sync.WaitGroup
	both.Go(func() { ben.agrees(k.id) })
	ann.agrees(k.id)
	both.Wait()
	for _, p := range []*page{ann, ben} {
		p.hearsHouse("thanks_recording")
		p.follow(k.id, "both are recorded", func(s status) bool { return s.State == "bridged" && s.Recording == "both" })
	}
	said := [2][][]byte{opusPackets(t, 200, 1), opusPackets(t, 200, 99)}
	both.Go(func() { ben.speaks(said[1]) })
	ann.speaks(said[0])
	both.Wait()
	time.Sleep(300 * time.Millisecond)
	for i, p := range []*page{ben, ann} {
		if fit := carriedIn(bytes.Join(p.packets("voice"), nil), said[i]); fit < 0.9 {
			t.Errorf("the other hears %.2f of the packets of %d", fit, i)
		}
	}
	ben.chooses(k.id, "hangup")
	for _, r := range k.finished(2) {
		who := 0
		if r.Person == l.people[1] {
			who = 1
		}
		seconds := l.unsealed(r)
		for i, s := range seconds {
			if s.Payload != nil && s.Codec != audio.Opus {
				t.Fatalf("second %d is in %v", i, s.Codec)
			}
		}
		kept := bytesOf(seconds)
		if fit := carriedIn(kept, said[who]); fit < 0.85 {
			t.Errorf("a track holds %.2f of the packets that were said; %d s %q", fit, r.Seconds, r.State)
		}
		if fit := carriedIn(kept, said[1-who]); fit > 0 {
			t.Errorf("a track holds %.2f of the other's packets", fit)
		}
		l.plays([]*page{ann, ben}[who], k, r)
	}
	l.check()
}

// plays checks that an owner's page plays a track as WAV.
func (l *carried) plays(p *page, k *talk, r vault.Recorded) {
	l.t.Helper()
	p.visitor.opens(k)
	code, _, wav, err := p.do("GET", "/tracks/"+string(r.ID)+"/audio", "bytes=0-")
	if err != nil || code != http.StatusPartialContent || len(wav) < 44 || !bytes.HasPrefix(wav, []byte("RIFF")) {
		l.t.Fatalf("the voice answers %d, %v, %d bytes", code, err, len(wav))
	}
	rate := binary.LittleEndian.Uint32(wav[24:])
	if seconds := (len(wav) - 44) / 2 / int(rate); int64(seconds) != r.Seconds {
		l.t.Errorf("%d s are played of %d", seconds, r.Seconds)
	}
}

// The other says no on their page while it rings, and the caller is told.
func TestABrowserTurnsACallAway(t *testing.T) {
	t.Parallel()
	l := newCarried(t)
	ann, ben := l.opens(l.people[0], "opus"), l.opens(l.people[1], "opus")
	rings := ben.waits()
	ben.here(l.people[1])
	call := ann.calls(calleeNumber)
	var in told
	select {
	case in = <-rings:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing rings on the page")
	}
	if in.Call != string(call) || in.From == "" || strings.Contains(in.From, "5550101") {
		t.Errorf("what rings is %+v", in)
	}
	ben.chooses(call, "decline")
	s := ann.follow(call, "it is over", func(s status) bool { return s.State == "ended" })
	if s.Recording != "nobody" || !strings.Contains(s.Ending, "declined") {
		t.Errorf("the caller's page says %+v", s)
	}
	until(t, "the call is over", 5*time.Second, func() bool { return l.Capture.Going() == 0 })
	if n := l.sealed(); n != 0 {
		t.Errorf("%d bytes were sealed", n)
	}
	l.check()
}

// A call comes in by the trunk for somebody whose page is open.
func TestACallComesInForAnOpenPage(t *testing.T) {
	t.Parallel()
	l := newCarried(t)
	p := l.opens(l.people[0], "PCMU")
	rings := p.waits()
	p.here(l.people[0])
	k := &talk{h: l.home}
	var both sync.WaitGroup
	both.Go(func() { k.id = p.answers(rings) })
	from, err := l.carrier.Call(patient(t), l.Phones.Address().String(), ownNumber)
	if err != nil {
		t.Fatal(err)
	}
	both.Wait()
	both.Go(func() { says(t, from, "ask_once", "1") })
	p.agrees(k.id)
	both.Wait()
	p.follow(k.id, "both are recorded", func(s status) bool { return s.State == "bridged" && s.Recording == "both" })
	mine, theirs := frames(speech(t, "maya", 3)), frames(speech(t, "carl", 3))
	if err := from.Say(bytes.Join(theirs, nil)); err != nil {
		t.Fatal(err)
	}
	p.speaks(mine)
	time.Sleep(300 * time.Millisecond)
	if fit := carriedIn(from.Heard(), mine); fit < 0.9 {
		t.Errorf("the caller hears %.2f of what the page said", fit)
	}
	if err := from.Hangup(patient(t)); err != nil {
		t.Error(err)
	}
	p.follow(k.id, "it is over", func(s status) bool { return s.State == "ended" })
	for _, r := range k.finished(2) {
		said := mine
		if r.Person == l.people[1] {
			said = theirs
		}
		if fit := carriedIn(bytesOf(l.unsealed(r)), said); fit < 0.85 {
			t.Errorf("a track holds %.2f of what was said; %d s %q", fit, r.Seconds, r.State)
		}
	}
	l.check()
}

// What a party says on the page counts at once: pause keeps nothing, and stop
// ends the recording for good.
func TestPauseAndStopOnThePage(t *testing.T) {
	t.Parallel()
	l := newCarried(t)
	p := l.opens(l.people[0], "PCMU")
	k := &talk{h: l.home, id: p.calls(calleeNumber)}
	other := l.picksUp(calleeNumber)
	var both sync.WaitGroup
	both.Go(func() { says(t, other, "ask", "1") })
	p.agrees(k.id)
	both.Wait()
	p.follow(k.id, "both are recorded", func(s status) bool { return s.State == "bridged" && s.Recording == "both" })
	before, secret, after := frames(speech(t, "ann", 2)), frames(speech(t, "bob", 2)), frames(speech(t, "maya", 2))
	p.speaks(before)
	p.chooses(k.id, "pause")
	p.follow(k.id, "it is paused", func(s status) bool { return s.Paused })
	p.speaks(secret)
	p.chooses(k.id, "resume")
	p.follow(k.id, "it goes on", func(s status) bool { return !s.Paused })
	p.speaks(after)
	time.Sleep(1200 * time.Millisecond)
	p.chooses(k.id, "stop")
	s := p.follow(k.id, "it is stopped", func(s status) bool { return s.Recording == "nobody" || s.Recording == "them" })
	if s.State != "bridged" || s.Mine != "no" {
		t.Errorf("after stop the page says %+v", s)
	}
	p.speaks(secret)
	p.chooses(k.id, "hangup")
	k.over(other)
	for _, r := range k.finished(2) {
		if r.Person != l.people[0] {
			continue
		}
		kept := bytesOf(l.unsealed(r))
		if a, b := carriedIn(kept, before), carriedIn(kept, after); a < 0.7 || b < 0.7 {
			t.Errorf("%.2f and %.2f of what was said before and after are kept", a, b)
		}
		if fit := carriedIn(kept, secret); fit > 0 {
			t.Errorf("%.2f of what was said in the pause is kept", fit)
		}
	}
	l.check()
}

// A tab that dies ends the call of its person, and only what was said is kept.
func TestATabThatDies(t *testing.T) {
	webtest.Whole(t)
	t.Parallel()
	l := newCarried(t)
	p := l.opens(l.people[0], "PCMU")
	k := &talk{h: l.home, id: p.calls(calleeNumber)}
	other := l.picksUp(calleeNumber)
	var both sync.WaitGroup
	both.Go(func() { says(t, other, "ask", "1") })
	p.agrees(k.id)
	both.Wait()
	mine := frames(speech(t, "ann", 3))
	p.speaks(mine)
	p.pc.Close()
	k.over(other)
	for _, r := range k.finished(2) {
		if r.Person == l.people[0] && carriedIn(bytesOf(l.unsealed(r)), mine) < 0.6 {
			t.Error("what was said is not kept")
		}
	}
	l.check()
}

// A real browser calls by the real page: keys typed there dial and agree.
func TestChromiumCallsAPhone(t *testing.T) {
	webtest.Whole(t)
	t.Parallel()
	l := newCarried(t)
	samples := audio.Tone(600, 5000, 12000)
	header, err := audio.WAVHeader(int64(len(samples)))
	if err != nil {
		t.Fatal(err)
	}
	wav := filepath.Join(t.TempDir(), "voice.wav")
	if err := os.WriteFile(wav, audio.PCM(header[:], samples), 0o600); err != nil {
		t.Fatal(err)
	}
	b := webtest.Open(t, webtest.Microphone(wav)...)
	site := "http://" + l.PagesAddress()
	v := l.browser(l.people[0])
	at, _ := url.Parse(site)
	for _, c := range v.client.Jar.Cookies(at) {
		b.Cookie(site, c.Name, c.Value)
	}
	b.As(webtest.Look{})
	b.Go(site + "/call")
	b.Wait(`document.querySelector("yes-dialer").ready`)
	b.Click("#to")
	b.Press("2025550102")
	b.WaitText(".place", "Washington")
	b.Press("\r")
	other := l.picksUp(calleeNumber)
	says(t, other, "ask", "1")
	b.Wait(`document.querySelector("yes-dialer").dataset.look === "yours" && document.querySelector("[data-do=agree]").getAttribute("aria-disabled") === "false" || document.querySelector("yes-dialer").dataset.look === "both"`)
	b.Press("1")
	hears(t, other, "thanks_recording")
	if err := other.Say(audio.PCMU.Encode(nil, audio.Tone(900, 4000, 8000))); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Second)
	heard := audio.PCMU.Decode(nil, other.Heard())
	heard = heard[max(0, len(heard)-2*audio.Rate):]
	if audio.Power(heard, 600) < 0.4*audio.Energy(heard) {
		t.Error("the phone does not hear the browser's tone")
	}
	if err := other.Hangup(patient(t)); err != nil {
		t.Error(err)
	}
	calls, _, err := l.Capture.Calls(t.Context(), l.people[0], "", 1)
	if err != nil || len(calls) != 1 {
		t.Fatalf("%d calls, %v", len(calls), err)
	}
	k := &talk{h: l.home, id: calls[0].ID}
	for _, r := range k.finished(2) {
		var kept []int16
		for _, s := range l.unsealed(r) {
			kept = s.Codec.Decode(kept, s.Payload)
		}
		own, foreign := 600.0, 900.0
		if r.Person == l.people[1] {
			own, foreign = foreign, own
		}
		if audio.Power(kept, own) < 0.2*audio.Energy(kept) || audio.Power(kept, foreign) > 0.02*audio.Energy(kept) {
			t.Errorf("a track's own tone is %.2f of it, the other's %.2f", audio.Power(kept, own)/audio.Energy(kept), audio.Power(kept, foreign)/audio.Energy(kept))
		}
	}
	l.check()
}
