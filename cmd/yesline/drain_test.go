package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pion/logging"
	pion "github.com/pion/webrtc/v4"
	pionmedia "github.com/pion/webrtc/v4/pkg/media"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/phone"
	"yesline/internal/vault"
	"yesline/internal/web/webtest"
)

// talking is a house with a call that goes on, and a phone that has none.
type talking struct {
	*house
	caller, callee *phone.Call
	another        *phone.Phone
	way            *wiretap // to the house
}

func newTalking(t *testing.T) *talking {
	t.Helper()
	trunk, err := phone.NewTrunk("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(trunk.Close)
	k := &talking{house: newHouse(t, trunk.Address())}
	_, user, password := k.member(t, "+12025550101")
	k.start()
	from := newPhone(t, phone.Config{Listen: "127.0.0.1:0", User: user, Password: password})
	k.another = newPhone(t, phone.Config{Listen: "127.0.0.1:0", User: user, Password: password})
	to := newPhone(t, phone.Config{Listen: "127.0.0.1:0", User: "12025550102"})
	trunk.Connect("+12025550102", to)
	k.way = newWiretap(t, k.sip)

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var answering sync.WaitGroup
	answering.Go(func() {
		if k.callee, err = to.Answer(ctx); err != nil {
			t.Error(err)
		}
	})
	call, callErr := from.Call(ctx, k.sip, "+12025550102")
	answering.Wait()
	if callErr != nil || k.callee == nil {
		t.Fatal(callErr)
	}
	k.caller = call
	return k
}

// told sends the house a signal and waits until it says that it heard.
func (k *talking) told(s syscall.Signal) {
	k.t.Helper()
	if err := k.server.Process.Signal(s); err != nil {
		k.t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if strings.Contains(strings.Join(k.said(), "\n"), "draining") {
			return
		}
	}
	k.t.Fatal("the house does not say that it is draining")
}

// ends waits until the process has ended, and gives its exit code.
func (k *talking) ends(within time.Duration) int {
	k.t.Helper()
	select {
	case <-k.ended:
	case <-time.After(within):
		k.t.Fatalf("the process goes on after %v", within)
	}
	k.server.Wait()
	return k.server.ProcessState.ExitCode()
}

// wiretap carries messages between a phone and a house and remembers those of
// the house.
type wiretap struct {
	socket *net.UDPConn

	mu    sync.Mutex // guards heard
	heard []string
}

func newWiretap(t *testing.T, house string) *wiretap {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp", house)
	if err != nil {
		t.Fatal(err)
	}
	w := &wiretap{}
	if w.socket, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.carry(to)
	}()
	t.Cleanup(func() { w.socket.Close(); <-done })
	return w
}

func (w *wiretap) carry(house *net.UDPAddr) {
	b := make([]byte, 8<<10)
	phone := house
	for {
		n, from, err := w.socket.ReadFromUDP(b)
		if err != nil {
			return
		}
		if from.Port != house.Port {
			phone = from
			w.socket.WriteToUDP(b[:n], house)
			continue
		}
		w.mu.Lock()
		w.heard = append(w.heard, string(bytes.Clone(b[:n])))
		w.mu.Unlock()
		w.socket.WriteToUDP(b[:n], phone)
	}
}

// said is the first message of the house that begins so.
func (w *wiretap) said(begin string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.heard {
		if strings.HasPrefix(m, begin) {
			return m
		}
	}
	return ""
}

// A server that is told to stop takes no new call, says when to come again, and
// lets the call that goes on come to its end; then it ends.
func TestStoppingWaitsForCalls(t *testing.T) {
	t.Parallel()
	k := newTalking(t)
	k.told(syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	var refused *phone.Refused
	if _, err := k.another.Call(ctx, k.way.socket.LocalAddr().String(), "+12025550102"); !errors.As(err, &refused) || refused.Code != 503 {
		t.Errorf("a new call: %v, want 503", err)
	}
	if no := k.way.said("SIP/2.0 503"); !strings.Contains(no, "\r\nRetry-After: ") {
		t.Errorf("the refusal does not say when to come again:\n%s", no)
	}
	for _, end := range []*phone.Call{k.caller, k.callee} {
		if why := end.Ended(); why != "" {
			t.Errorf("the call that went on was ended: %s", why)
		}
	}
	if _, err := k.caller.Hear(ctx, 500*time.Millisecond); err != nil {
		t.Errorf("the house is silent: %v", err)
	}
	if err := k.caller.Hangup(ctx); err != nil {
		t.Error(err)
	}
	if code := k.ends(15 * time.Second); code != 0 {
		t.Errorf("the process ends with %d", code)
	}
	if why := k.callee.Ended(); why == "" {
		t.Error("the other was not hung up on")
	}
}

// A second signal ends the calls that go on, with a BYE to both.
func TestASecondSignalEndsCalls(t *testing.T) {
	t.Parallel()
	k := newTalking(t)
	k.told(syscall.SIGTERM)
	time.Sleep(300 * time.Millisecond)
	began := time.Now()
	if err := k.server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := k.ends(15 * time.Second); code != 0 {
		t.Errorf("the process ends with %d", code)
	}
	t.Logf("it ended %v after the second signal", time.Since(began))
	for i, end := range []*phone.Call{k.caller, k.callee} {
		select {
		case <-end.Done():
		case <-time.After(2 * time.Second):
			t.Errorf("phone %d was not told that the call is over", i)
		}
	}
}

// posts sends a form as a page's script does.
func (v *visitor) posts(url string, form url.Values, out any) (status int) {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.t.Context(), "POST", url, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := v.client.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(out); err != nil {
		v.t.Fatalf("%d is answered, and no JSON: %v", answer.StatusCode, err)
	}
	return answer.StatusCode
}

// microphone is a browser's line: an offer, and where its voice goes.
func microphone(t *testing.T) (*pion.PeerConnection, *pion.TrackLocalStaticSample, string) {
	t.Helper()
	codec := pion.RTPCodecCapability{MimeType: pion.MimeTypePCMU, ClockRate: 8000}
	engine := &pion.MediaEngine{}
	if err := engine.RegisterCodec(pion.RTPCodecParameters{RTPCodecCapability: codec}, pion.RTPCodecTypeAudio); err != nil {
		t.Fatal(err)
	}
	setting := pion.SettingEngine{LoggerFactory: &logging.DefaultLoggerFactory{Writer: io.Discard}}
	setting.SetIncludeLoopbackCandidate(true)
	setting.SetIPFilter(func(ip net.IP) bool { return ip.IsLoopback() && ip.To4() != nil })
	setting.SetNetworkTypes([]pion.NetworkType{pion.NetworkTypeUDP4})
	pc, err := pion.NewAPI(pion.WithMediaEngine(engine), pion.WithSettingEngine(setting)).NewPeerConnection(pion.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	voice, err := pion.NewTrackLocalStaticSample(codec, "mic", "mic")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pc.AddTransceiverFromTrack(voice, pion.RTPTransceiverInit{Direction: pion.RTPTransceiverDirectionSendrecv}); err != nil {
		t.Fatal(err)
	}
	if _, err := pc.AddTransceiverFromKind(pion.RTPCodecTypeAudio, pion.RTPTransceiverInit{Direction: pion.RTPTransceiverDirectionRecvonly}); err != nil {
		t.Fatal(err)
	}
	o, err := pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	gathered := pion.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(o); err != nil {
		t.Fatal(err)
	}
	<-gathered
	return pc, voice, pc.LocalDescription().SDP
}

// A server is killed in the middle of a browser's call. Started again, it has
// both voices, says that they were cut short, and the call is over.
func TestKillInABrowserCall(t *testing.T) {
	webtest.Whole(t)
	t.Parallel()
	ctx := t.Context()
	trunk, err := phone.NewTrunk("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer trunk.Close()
	h := newHouse(t, trunk.Address())
	link, _, _ := h.member(t, "+12025550101")
	h.start()
	ann := browser(t)
	if code, _ := ann.get("POST", h.cfg.URL+link, ""); code != http.StatusSeeOther {
		t.Fatalf("signing in answers %d", code)
	}
	callee := newPhone(t, phone.Config{Listen: "127.0.0.1:0", User: "12025550102"})
	trunk.Connect("+12025550102", callee)

	pc, mic, offer := microphone(t)
	var begun struct {
		Call       yesline.CallID
		SDP, Error string
	}
	if code := ann.posts(h.cfg.URL+"/call", url.Values{"to": {"+12025550102"}, "sdp": {offer}}, &begun); code != http.StatusOK {
		t.Fatalf("calling answers %d: %s", code, begun.Error)
	}
	if err := pc.SetRemoteDescription(pion.SessionDescription{Type: pion.SDPTypeAnswer, SDP: begun.SDP}); err != nil {
		t.Fatal(err)
	}
	b, err := callee.Answer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	at := h.cfg.URL + "/calls/" + string(begun.Call)
	agreed := false
	for deadline := time.Now().Add(30 * time.Second); !agreed && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		var told struct{ Error string }
		agreed = ann.posts(at+"/say", url.Values{"word": {"agree"}}, &told) == http.StatusOK // a conflict before the last word
	}
	hears(t, b, prompt(t, "ask"))
	time.Sleep(500 * time.Millisecond)
	if err := b.Press(ctx, "1"); err != nil {
		t.Fatal(err)
	}
	hears(t, b, prompt(t, "thanks_recording"))
	theirs, err := os.ReadFile("../../internal/demo/speech/bob.ul")
	if err == nil {
		err = b.Say(theirs)
	}
	mine, mineErr := os.ReadFile("../../internal/demo/speech/ann.ul")
	if err = errors.Join(err, mineErr); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	said := mine[:6*8000]
	for i := 0; i+160 <= len(said); i += 160 {
		if err := mic.WriteSample(pionmedia.Sample{Data: said[i : i+160], Duration: 20 * time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		<-tick.C
	}
	h.stop(syscall.SIGKILL)
	sent := [2][]int16{decoded(said), samples(b)}

	h.start()
	h.command("audit", "verify").wants(t, 0, "The log is whole")
	if fit, _ := place(sent[0], ann.plays(h.cfg.URL)); fit < 0.6 {
		t.Errorf("the page plays what she said by %.2f", fit)
	}
	if code := h.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("the server ends with %d", code)
	}
	in := inside(t, h.cfg)
	c, err := in.Capture.Call(ctx, begun.Call)
	if err != nil || c.Ended == 0 || c.Ending != "the server stopped" || c.Recording != "both" {
		t.Errorf("the call's row is %+v, %v", c, err)
	}
	tracks, err := in.Register.Tracks(ctx, begun.Call)
	if err != nil || len(tracks) != 2 {
		t.Fatalf("%d tracks, %v", len(tracks), err)
	}
	for _, k := range tracks {
		who := 0
		if k.Person == c.Parties[1].Person {
			who = 1
		}
		fit, _ := place(sent[who], listen(t, in, k))
		other, _ := place(sent[1-who], listen(t, in, k))
		t.Logf("%s: %d s recorded, fits by %.3f", [2]string{"caller", "callee"}[who], k.Seconds, fit)
		if k.State != vault.Recovered || !k.Finished || k.Seconds < 3 || fit < 0.8 || other > 0.25 {
			t.Errorf("a track is %q with %d s, its own voice by %.2f, the other's by %.2f", k.State, k.Seconds, fit, other)
		}
	}
	if problems, err := in.Check(ctx); err != nil || len(problems) > 0 {
		t.Errorf("the house: %v, %v", problems, err)
	}
}

func decoded(sound []byte) []int16 { return audio.PCMU.Decode(nil, sound) }
