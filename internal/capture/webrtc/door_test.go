package webrtc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pion "github.com/pion/webrtc/v4"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/capture/media"
	"yesline/internal/capture/webrtc"
)

func TestABrowserSpeaksAndHears(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := newBrowser(t, form{codecs: []string{"PCMU", "PCMA", "opus"}})
	h := w.call(b, audio.PCMU)
	ear := newEar()
	left := make(chan error, 1)
	line := w.connect(h, capture.Ends{Listener: ear, Left: func(why error) { left <- why }})
	if line.Codec != audio.PCMU || line.Voice != audio.PCMU {
		t.Fatalf("the line is in %v and %v", line.Codec, line.Voice)
	}
	go b.speak(tone(600, 1000))
	if err := line.Play(t.Context(), tone(440, 500)); err != nil {
		t.Fatal(err)
	}
	wait(t, "the voice is heard", func() bool { return ear.packets() >= 45 })
	if !isTone(ear.heard(), 600) {
		t.Errorf("the browser's tone is not what was heard")
	}
	wait(t, "the prompt is heard", func() bool { return len(b.sound("house")) >= 3800 })
	b.pc.Close()
	select {
	case why := <-left:
		if why != capture.ErrHungUp {
			t.Errorf("left because %v", why)
		}
	case <-time.After(5 * time.Second):
		t.Error("nobody says that the browser hung up")
	}
	if err := line.Play(t.Context(), tone(440, 500)); err == nil {
		t.Error("a prompt was played to a browser that is gone")
	}
}

// Two browsers in a call: each hears the other and nothing of where it is; what
// is on the wire is not what is said; while the house speaks the other is not
// heard, and nobody thinks that packets were lost.
func TestTwoBrowsersTalk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	at := map[string]net.IP{"ann": net.IPv4(127, 0, 0, 31), "ben": net.IPv4(127, 0, 0, 32)}
	browsers, offers, answers, lines, taps := map[string]*browser{}, map[string]string{}, map[string]string{}, map[string]capture.Line{}, map[string]*tap{}
	for name, ip := range at {
		b := newBrowser(t, form{codecs: []string{"PCMU"}, setting: func(s *pion.SettingEngine) {
			s.SetIPFilter(func(found net.IP) bool { return found.IsLoopback() && found.To4() != nil })
			s.SetICEAddressRewriteRules(pion.ICEAddressRewriteRule{External: []string{ip.String()}, AsCandidateType: pion.ICECandidateTypeHost})
		}})
		offer := b.offer(false)
		if !strings.Contains(offer, ip.String()) {
			t.Fatalf("the offer of %s does not tell where it is:\n%s", name, offer)
		}
		h, answer, err := w.door.Handset(offer, audio.PCMU)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(h.Hangup)
		taps[name] = newTap(t, answer)
		b.accept(taps[name].answer)
		lines[name] = w.connect(h, capture.Ends{Listener: newEar()})
		browsers[name], offers[name], answers[name] = b, offer, answer
	}
	ann, ben := browsers["ann"], browsers["ben"]
	media.Join(lines["ann"].Stream, lines["ben"].Stream)

	var talking sync.WaitGroup
	talking.Go(func() { ann.speak(tone(600, 2000)) })
	talking.Go(func() { ben.speak(tone(900, 2000)) })
	time.Sleep(300 * time.Millisecond)
	before := len(ben.packets("voice"))
	if err := lines["ben"].Play(t.Context(), tone(440, 500)); err != nil {
		t.Fatal(err)
	}
	if during := len(ben.packets("voice")) - before; during > 5 {
		t.Errorf("%d packets of the other voice came while the house spoke", during)
	}
	talking.Wait()
	wait(t, "both heard the other", func() bool { return len(ann.sound("voice")) > 14000 && len(ben.sound("voice")) > 10000 })
	if !isTone(ann.sound("voice"), 900) || !isTone(ben.sound("voice"), 600) || !isTone(ben.sound("house"), 440) {
		t.Error("somebody heard something else")
	}
	got := ben.packets("voice")
	if got[0].SequenceNumber >= 1<<15 {
		t.Errorf("the first packet is number %d: a browser that misses it cannot read the next", got[0].SequenceNumber)
	}
	for i, p := range got[1:] {
		if p.SequenceNumber != got[i].SequenceNumber+1 {
			t.Fatalf("after packet %d the browser believes that something was lost", i)
		}
		if len(p.CSRC) > 0 || p.Extension {
			t.Fatal("a packet carries more than the voice")
		}
	}

	for name, other := range map[string]string{"ann": "ben", "ben": "ann"} {
		for _, secret := range secrets(t, offers[other]) {
			if strings.Contains(answers[name], secret) {
				t.Errorf("the answer for %s tells %q of %s", name, secret, other)
			}
		}
		for candidate := range strings.SplitSeq(answers[name], "\r\n") {
			if strings.Contains(candidate, "candidate:") && !strings.Contains(candidate, " 127.0.0.1 ") {
				t.Errorf("an answer shows %q", candidate)
			}
		}
		if n := taps[name].plain(tone(600, 2000), tone(900, 2000), tone(440, 500)); n > 0 || taps[name].seen() < 100 {
			t.Errorf("%d of %d datagrams of %s hold sound in clear", n, taps[name].seen(), name)
		}
		if taps[name].holds(at[other]) {
			t.Errorf("a datagram to or from %s holds the address of %s", name, other)
		}
	}
}

// secrets is what an offer says of its browser: addresses, names, keys.
func secrets(t *testing.T, offer string) (all []string) {
	t.Helper()
	for _, pattern := range []string{`a=candidate:\S+ \d \S+ \d+ (\S+) (\d+)`, `a=ice-ufrag:(\S+)`, `a=ice-pwd:(\S+)`, `a=fingerprint:\S+ (\S+)`, `a=ssrc:(\d+)`} {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(offer, -1) {
			for _, s := range m[1:] {
				if s != "127.0.0.1" {
					all = append(all, s)
				}
			}
		}
	}
	if len(all) < 6 {
		t.Fatalf("the offer says only %q", all)
	}
	return all
}

// tap is a network between a browser and the door that keeps what it carries.
type tap struct {
	answer string // that leads through it

	cut atomic.Bool // nothing comes through

	mu   sync.Mutex
	data [][]byte
}

func newTap(t *testing.T, answer string) *tap {
	t.Helper()
	door := candidate(t, answer)
	here, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	there, err := net.Dial("udp", door.String())
	if err != nil {
		t.Fatal(err)
	}
	tp := &tap{answer: strings.ReplaceAll(answer, fmt.Sprint(" ", door.Port(), " "), fmt.Sprint(" ", here.LocalAddr().(*net.UDPAddr).Port, " "))}
	var browser net.Addr
	var mu sync.Mutex
	var carrying sync.WaitGroup
	carrying.Go(func() {
		for b := make([]byte, 2000); ; {
			n, from, err := here.ReadFrom(b)
			if err != nil {
				return
			}
			mu.Lock()
			browser = from
			mu.Unlock()
			tp.keep(b[:n])
			if tp.cut.Load() {
				continue
			}
			there.Write(b[:n])
		}
	})
	carrying.Go(func() {
		for b := make([]byte, 2000); ; {
			n, err := there.Read(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			mu.Lock()
			to := browser
			mu.Unlock()
			tp.keep(b[:n])
			if tp.cut.Load() {
				continue
			}
			here.WriteTo(b[:n], to)
		}
	})
	t.Cleanup(func() { here.Close(); there.Close(); carrying.Wait() })
	return tp
}

func (tp *tap) keep(b []byte) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tp.data = append(tp.data, bytes.Clone(b))
}

func (tp *tap) seen() int {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	return len(tp.data)
}

// plain counts the datagrams that hold sixteen bytes of a sound.
func (tp *tap) plain(sounds ...[]byte) (n int) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	for _, b := range tp.data {
		for at := 12; at+16 <= len(b); at++ {
			for _, s := range sounds {
				if bytes.Contains(s, b[at:at+16]) {
					n++
					at = len(b)
					break
				}
			}
		}
	}
	return n
}

func (tp *tap) holds(ip net.IP) bool {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	for _, b := range tp.data {
		if bytes.Contains(b, ip.To4()) || bytes.Contains(b, []byte(ip.String())) {
			return true
		}
	}
	return false
}

// A question that was not heard to its end is none: the network went away while
// it was asked.
func TestAPromptThatNobodyHears(t *testing.T) {
	whole(t)
	t.Parallel()
	w := newWorld(t)
	b := newBrowser(t, form{codecs: []string{"PCMU"}})
	h, answer, err := w.door.Handset(b.offer(false), audio.PCMU)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Hangup)
	tp := newTap(t, answer)
	b.accept(tp.answer)
	line := w.connect(h, capture.Ends{Listener: newEar()})
	go b.speak(tone(600, 9000))
	if err := line.Play(t.Context(), tone(440, 300)); err != nil {
		t.Errorf("a prompt that was heard: %v", err)
	}
	time.AfterFunc(200*time.Millisecond, func() { tp.cut.Store(true) })
	if err := line.Play(t.Context(), tone(440, 400)); err == nil {
		t.Error("a prompt that nobody heard was played to its end")
	}
}

func candidate(t testing.TB, answer string) netip.AddrPort {
	t.Helper()
	words := strings.Fields(line(t, answer, "a=candidate:"))
	at, err := netip.ParseAddrPort(words[4] + ":" + words[5])
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestANetworkChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := newBrowser(t, form{codecs: []string{"PCMU"}})
	h := w.call(b, audio.PCMU)
	ear := newEar()
	w.connect(h, capture.Ends{Listener: ear})
	b.speak(tone(600, 400))
	before := ear.packets()
	if before < 15 {
		t.Fatalf("%d packets were heard before", before)
	}
	answer, err := h.Reconnect(b.offer(true))
	if err != nil {
		t.Fatal(err)
	}
	b.accept(answer)
	go b.speak(tone(600, 3000))
	wait(t, "it is heard by its new way", func() bool { return ear.packets() > before+60 })

	thief := newBrowser(t, form{codecs: []string{"PCMU"}})
	if _, err := h.Reconnect(thief.offer(false)); !errors.Is(err, yesline.Denied) {
		t.Errorf("another browser takes the line: %v", err)
	}
	if _, err := h.Reconnect("v=0"); !errors.Is(err, yesline.Invalid) {
		t.Errorf("an offer of nothing: %v", err)
	}
	if _, err := w.door.Reconnect(yesline.NewPersonID(), ear.call, b.offer(true)); !errors.Is(err, yesline.NotFound) {
		t.Errorf("another person takes the line: %v", err)
	}
	h.Hangup()
	if _, err := h.Reconnect(b.offer(true)); !errors.Is(err, yesline.NotFound) {
		t.Errorf("a line that is gone: %v", err)
	}
	if _, err := w.door.Reconnect(ear.person, ear.call, b.offer(true)); !errors.Is(err, yesline.NotFound) {
		t.Errorf("a seat that is empty: %v", err)
	}
}

func TestNoCommonCodec(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, _, err := w.door.Handset(newBrowser(t, form{codecs: []string{"G722"}}).offer(false), audio.PCMU)
	if !errors.Is(err, capture.ErrNoCodec) || !errors.Is(err, yesline.Invalid) || !strings.Contains(err.Error(), "none of the codecs") {
		t.Errorf("a browser that speaks only G.722: %v", err)
	}
	_, _, err = w.door.Handset(newBrowser(t, form{codecs: []string{"opus"}}).offer(false), audio.PCMU)
	if !errors.Is(err, capture.ErrNoCodec) {
		t.Errorf("a browser that speaks only Opus, towards a phone: %v", err)
	}
	for wants, want := range map[audio.Codec]string{audio.PCMU: "PCMU/8000", audio.PCMA: "PCMA/8000", audio.Opus: "opus/48000/2"} {
		_, answer, err := w.door.Handset(newBrowser(t, form{}).offer(false), wants)
		if err != nil || !strings.HasSuffix(line(t, answer, "a=rtpmap:"), want) {
			t.Errorf("towards %v the browser is answered %q: %v", wants, answer, err)
		}
	}
}

func TestOneLineIsEnoughForG711(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := newBrowser(t, form{codecs: []string{"PCMU"}, noHouse: true})
	line := w.connect(w.call(b, audio.PCMU), capture.Ends{Listener: newEar()})
	if err := line.Play(t.Context(), tone(440, 500)); err != nil {
		t.Fatal(err)
	}
	wait(t, "the prompt is heard in the voice's line", func() bool { return isTone(b.sound("voice"), 440) })
	if _, _, err := w.door.Handset(newBrowser(t, form{codecs: []string{"opus"}, noHouse: true}).offer(false), audio.Opus); !errors.Is(err, yesline.Invalid) {
		t.Errorf("Opus, and no line for the house: %v", err)
	}
}

func TestOffersThatAreNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := newBrowser(t, form{}).offer(false)
	if _, _, err := w.door.Handset(good, audio.PCMU); err != nil {
		t.Fatal(err)
	}
	hundred := good + strings.Repeat("m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n", 100)
	for name, offer := range map[string]string{
		"nothing":           "",
		"no line":           "v=0\r\n",
		"garbage":           strings.Repeat("\x00\xff", 500),
		"too long":          good + strings.Repeat("a=x\r\n", 8000),
		"a long line":       good + "a=" + strings.Repeat("x", 40000) + "\r\n",
		"too many lines":    good + strings.Repeat("a\n", 900),
		"a hundred streams": hundred,
		"video alone":       strings.ReplaceAll(good, "m=audio", "m=video"),
		"no port":           strings.Replace(good, "m=audio 9", "m=audio x", 1),
		"in clear":          strings.ReplaceAll(good, "UDP/TLS/RTP/SAVPF", "RTP/AVP"),
		"no fingerprint":    without(good, "a=fingerprint"),
		"a weak one":        regexp.MustCompile(`a=fingerprint:\S+ \S+`).ReplaceAllString(good, "a=fingerprint:sha-1 "+strings.Repeat("00:", 19)+"00"),
		"a short one":       regexp.MustCompile(`a=fingerprint:\S+ \S+`).ReplaceAllString(good, "a=fingerprint:sha-256 00:11"),
		"no ICE":            without(good, "a=ice-ufrag"),
		"no ICE password":   without(good, "a=ice-pwd"),
		"ICE-lite":          strings.Replace(good, "m=audio", "a=ice-lite\r\nm=audio", 1),
		"passive":           strings.ReplaceAll(good, "setup:actpass", "setup:passive"),
		"no bundle":         without(good, "a=group"),
		"no rtcp-mux":       without(good, "a=rtcp-mux"),
		"nothing is spoken": strings.ReplaceAll(good, "a=sendrecv", "a=inactive"),
		"only spoken":       strings.ReplaceAll(good, "a=sendrecv", "a=sendonly"),
		"closed":            strings.ReplaceAll(good, "m=audio 9", "m=audio 0"),
		"a forged line":     strings.Replace(good, "SAVPF 111", "SAVPF \x00111", 1),
	} {
		if _, _, err := w.door.Handset(offer, audio.PCMU); !errors.Is(err, yesline.Invalid) {
			t.Errorf("%s: %v", name, err)
		} else if len(err.Error()) > 200 {
			t.Errorf("%s: the error repeats what was sent: %v", name, err)
		}
	}
	if n := w.door.Peers(); n != 1 {
		t.Errorf("%d browsers are kept after offers that are none", n)
	}
}

func without(sdp, prefix string) string {
	var b strings.Builder
	for row := range strings.SplitSeq(sdp, "\r\n") {
		if row != "" && !strings.HasPrefix(row, prefix) {
			b.WriteString(row + "\r\n")
		}
	}
	return b.String()
}

func TestThereIsRoomForSoMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *webrtc.Config) { c.MaxPeers = 2 })
	offer := newBrowser(t, form{}).offer(false)
	first, _, err := w.door.Handset(offer, audio.PCMU)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err = w.door.Handset(offer, audio.PCMU); err != nil {
		t.Fatal(err)
	}
	if _, _, err = w.door.Handset(offer, audio.PCMU); !errors.Is(err, yesline.TooMany) {
		t.Errorf("a third browser of two: %v", err)
	}
	first.Hangup()
	if _, _, err = w.door.Handset(offer, audio.PCMU); err != nil {
		t.Errorf("after one left: %v", err)
	}
	if _, err := first.Connect(t.Context(), capture.Ends{}); !errors.Is(err, capture.ErrHungUp) {
		t.Errorf("connecting what was hung up: %v", err)
	}
}

func TestHangupWhileConnecting(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h, _, err := w.door.Handset(newBrowser(t, form{}).offer(false), audio.PCMU)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, h.Hangup)
	if _, err := h.Connect(t.Context(), capture.Ends{Listener: newEar()}); !errors.Is(err, capture.ErrHungUp) {
		t.Errorf("a call that was hung up: %v", err)
	}
	if _, err := h.Connect(t.Context(), capture.Ends{Listener: newEar()}); !errors.Is(err, yesline.Conflict) {
		t.Errorf("a handset with two calls: %v", err)
	}
}

func TestADoorThatCloses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := newBrowser(t, form{codecs: []string{"PCMU"}})
	h := w.call(b, audio.PCMU)
	left := make(chan error, 1)
	w.connect(h, capture.Ends{Listener: newEar(), Left: func(why error) { left <- why }})
	late := newBrowser(t, form{}).offer(false)
	if err := w.door.Close(); err != nil {
		t.Fatal(err)
	}
	if why := <-left; why != capture.ErrClosing {
		t.Errorf("left because %v", why)
	}
	if _, _, err := w.door.Handset(late, audio.PCMU); !errors.Is(err, yesline.Unavailable) {
		t.Errorf("a door that is closed: %v", err)
	}
	if _, err := w.door.Incoming(context.Background(), yesline.NewPersonID(), 0); !errors.Is(err, yesline.Unavailable) {
		t.Errorf("a door that is closed: %v", err)
	}
}
