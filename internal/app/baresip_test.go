package app_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/app"
	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/consent"
	"yesline/internal/vault"
	"yesline/internal/web/webtest"
)

// network is a namespace of its own with a wire to it: baresip refuses to run
// on loopback, and so is on another machine as far as SIP can tell.
type network struct{ name string }

// The wire's addresses: of this process alone, so that two runs do not meet.
var (
	wire     = fmt.Sprintf("10.203.%d.", 1+os.Getpid()%250)
	serverIP = wire + "1"
	trunkIP  = wire + "2" // the contacts' phones, which the server takes for its trunk
	callerIP = wire + "3"
)

// missing skips a test that lacks its peer, and fails it in CI.
func missing(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	webtest.Whole(t)
	for _, tool := range []string{"baresip", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing(t, "there is no "+tool+" on this machine: run make setup")
		}
	}
	if os.Getuid() != 0 {
		missing(t, "a network namespace needs root")
	}
	n := &network{fmt.Sprintf("yl%d", os.Getpid())}
	near, far := n.name+"a", n.name+"b"
	t.Cleanup(func() { exec.Command("ip", "netns", "del", n.name).Run() })
	for _, line := range []string{
		"netns add " + n.name,
		"link add " + near + " type veth peer name " + far,
		"link set " + far + " netns " + n.name,
		"addr add " + serverIP + "/24 dev " + near,
		"link set " + near + " up",
		"-n " + n.name + " addr add " + trunkIP + "/24 dev " + far,
		"-n " + n.name + " addr add " + callerIP + "/24 dev " + far,
		"-n " + n.name + " link set " + far + " up",
		"-n " + n.name + " link set lo up",
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			missing(t, fmt.Sprintf("no network namespace here: ip %s: %s", line, out))
		}
	}
	return n
}

// baresip is a real phone.
type baresip struct {
	t       *testing.T
	folder  string
	control net.Conn
}

// start runs a baresip that sends a steady tone. account is its SIP address
// with parameters, address where it is reached, control its control port.
func (n *network) start(t *testing.T, address string, control int, account string, toneHz float64) *baresip {
	t.Helper()
	b := &baresip{t: t, folder: t.TempDir()}
	ip, _, _ := net.SplitHostPort(address)
	samples := audio.Tone(toneHz, 60_000, 8000)
	header, err := audio.WAVHeader(int64(len(samples)))
	if err != nil {
		t.Fatal(err)
	}
	b.write("tone.wav", string(header[:])+string(audio.PCM(nil, samples)))
	b.write("accounts", account+"\n")
	b.write("contacts", "")
	b.write("config", fmt.Sprintf(`
sip_listen %s
audio_source aufile,%s/tone.wav
audio_player aubridge,nowhere
audio_alert aubridge,nowhere
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
audio_level no
rtp_timeout 0
call_local_timeout 120
module_path /usr/lib/baresip/modules
module g711.so
module aufile.so
module aubridge.so
module sndfile.so
module_tmp uuid.so
module_tmp account.so
module_app contact.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen %s:%d
snd_path %s
`, address, b.folder, ip, control, b.folder))
	cmd := exec.Command("ip", "netns", "exec", n.name, "baresip", "-f", b.folder, "-v")
	log, err := os.Create(filepath.Join(b.folder, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		ended := make(chan struct{})
		go func() { cmd.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			cmd.Process.Kill()
			<-ended
		}
		log.Close()
		if t.Failed() {
			data, _ := os.ReadFile(log.Name())
			t.Logf("baresip %s:\n%s", address, data[max(0, len(data)-4000):])
		}
	})
	for try := 0; ; try++ {
		b.control, err = net.Dial("tcp", net.JoinHostPort(ip, strconv.Itoa(control)))
		if err == nil {
			break
		}
		if try == 100 {
			t.Fatalf("baresip does not answer: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Cleanup(func() { b.control.Close() })
	go io.Copy(io.Discard, bufio.NewReader(b.control)) // its events; ends with the connection
	return b
}

func (b *baresip) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.folder, name), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// do sends a command: a netstring of JSON.
func (b *baresip) do(command, params string) {
	b.t.Helper()
	data, _ := json.Marshal(map[string]string{"command": command, "params": params})
	if _, err := fmt.Fprintf(b.control, "%d:%s,", len(data), data); err != nil {
		b.t.Fatal(err)
	}
}

// press sends keys one after the other.
func (b *baresip) press(keys string) {
	for _, k := range keys {
		b.do("sndcode", string(k))
		time.Sleep(350 * time.Millisecond)
	}
}

// heard is what the phone played to its person, which its sndfile module dumps.
func (b *baresip) heard() []int16 {
	b.t.Helper()
	files, _ := filepath.Glob(filepath.Join(b.folder, "*dec*.wav"))
	var longest []int16
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			b.t.Fatal(err)
		}
		// The header's lengths are written at the end of the call: take what is there.
		if at := bytes.Index(data, []byte("data")); at > 0 && len(data) > at+8 {
			samples := make([]int16, (len(data)-at-8)/2)
			for i := range samples {
				samples[i] = int16(binary.LittleEndian.Uint16(data[at+8+2*i:]))
			}
			if len(samples) > len(longest) {
				longest = samples
			}
		}
	}
	return longest
}

// house is a server on the near end of the wire.
type house struct {
	*app.App
	program        yesline.ProgramID
	caller, callee yesline.PersonID
	account        string
}

func newHouse(t *testing.T, n int, to string) *house {
	t.Helper()
	cfg := app.Defaults()
	cfg.Data = filepath.Join(t.TempDir(), "data")
	cfg.HTTP, cfg.Insecure = "127.0.0.1:0", true
	cfg.SIP = fmt.Sprintf("%s:%d", serverIP, 5060+n)
	cfg.Media = app.Media{IP: serverIP, FromPort: 30000 + 100*n, ToPort: 30099 + 100*n}
	cfg.Trunk = app.Trunk{Address: fmt.Sprintf("%s:%d", trunkIP, 5070+2*n), CallerID: "+12025550100"}
	h := &house{}
	var err error
	if h.App, err = app.New(t.Context(), cfg, slog.New(slog.NewTextHandler(testLog{t}, nil))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h.program, err = h.Programs.First(t.Context()); err != nil {
		t.Fatal(err)
	}
	me, _ := yesline.NewPhone("+12025550101")
	if h.caller, err = h.People.Meet(t.Context(), h.program, me); err != nil {
		t.Fatal(err)
	}
	_, user, password, err := h.Sessions.AddDevice(t.Context(), h.program, h.caller, true)
	if err != nil {
		t.Fatal(err)
	}
	them, _ := yesline.NewPhone(to)
	if h.callee, err = h.People.Meet(t.Context(), h.program, them); err != nil {
		t.Fatal(err)
	}
	h.account = fmt.Sprintf("<sip:%s@%s>;auth_user=%s;auth_pass=%s;regint=0;audio_codecs=pcmu,pcma", user, cfg.SIP, user, password.Bytes())
	return h
}

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// until waits for something of the house to become so.
func until(t *testing.T, what string, limit time.Duration, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("waited in vain: %s", what)
}

func (h *house) call(t *testing.T) (c capture.Call, ok bool) {
	t.Helper()
	calls, _, err := h.Capture.Calls(t.Context(), h.caller, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(calls) == 0 {
		return c, false
	}
	return calls[0], true
}

// tones says how much of each track is its own phone's tone and the other's.
func (h *house) tones(t *testing.T, k vault.Recorded, hz float64) (share float64, seconds int64) {
	t.Helper()
	token, err := h.Sessions.LinkFor(t.Context(), k.Program, k.Person)
	if err != nil {
		t.Fatal(err)
	}
	_, who, err := h.Sessions.Redeem(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	permit, err := h.Gate.Ask(t.Context(), who, access.Listen, access.Object{Kind: "track", ID: string(k.ID)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	read, err := h.Opener.Read(t.Context(), permit, k.ID, 0, 128)
	if err != nil {
		t.Fatal(err)
	}
	var samples []int16
	for _, s := range read {
		samples = s.Codec.Decode(samples, s.Payload)
	}
	energy := audio.Energy(samples)
	if energy == 0 {
		return 0, k.Seconds
	}
	power := 0.0 // in steps of a tenth of a second, so that a phase jump costs nothing
	for i := 0; i+audio.Rate/10 <= len(samples); i += audio.Rate / 10 {
		power += audio.Power(samples[i:i+audio.Rate/10], hz)
	}
	return power / energy / math.Max(1, float64(len(samples)/(audio.Rate/10))), k.Seconds
}

// Two real phones: the person says yes, no, nothing, or stops with *9.
func TestBaresip(t *testing.T) {
	net := newNetwork(t)
	ask, err := os.ReadFile("../capture/prompts/ask.ul")
	if err != nil {
		t.Fatal(err)
	}
	question := audio.PCMU.Decode(nil, ask)
	const callerHz, calleeHz = 440, 1000
	for n, c := range []struct {
		name, key  string
		want       consent.State
		recorded   bool
		starNine   bool
		oncePerLeg bool
	}{
		{name: "yes", key: "1", want: consent.Yes, recorded: true},
		{name: "no", key: "2", want: consent.No},
		{name: "silence", key: "", want: consent.No},
		{name: "star nine", key: "1", want: consent.Stopped, recorded: true, starNine: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			number := fmt.Sprintf("+120255502%02d", n)
			h := newHouse(t, n, number)
			callee := net.start(t, fmt.Sprintf("%s:%d", trunkIP, 5070+2*n), 4470+n,
				fmt.Sprintf("<sip:%s@%s>;regint=0;answermode=auto;audio_codecs=pcmu,pcma", number, trunkIP), calleeHz)
			caller := net.start(t, fmt.Sprintf("%s:%d", callerIP, 5090+2*n), 4480+n, h.account, callerHz)

			caller.do("dial", fmt.Sprintf("sip:%s@%s:%d", number, serverIP, 5060+n))
			until(t, "the call begins", 10*time.Second, func() bool { _, ok := h.call(t); return ok })
			asked := func(person yesline.PersonID, phone *baresip, key string) {
				// The person answers when they have heard the whole question.
				until(t, "the question was heard", 40*time.Second, func() bool {
					heard := phone.heard()
					return len(heard) > len(question) && fits(heard, question) > 0.8
				})
				time.Sleep(300 * time.Millisecond)
				if key != "" {
					phone.press(key)
				}
			}
			asked(h.caller, caller, "1")
			asked(h.callee, callee, c.key)
			until(t, "the two hear each other", 45*time.Second, func() bool { call, _ := h.call(t); return call.State == capture.Bridged })
			call, _ := h.call(t)
			time.Sleep(5 * time.Second)
			if c.starNine {
				callee.press("*9")
				until(t, "the stop is kept", 5*time.Second, func() bool {
					s, err := h.Consent.Of(t.Context(), call.ID, h.callee)
					return err == nil && s.Record == consent.Stopped
				})
				time.Sleep(4 * time.Second)
			}
			if heard := caller.heard(); share(heard[len(heard)-audio.Rate:], calleeHz) < 0.5 {
				t.Error("the caller does not hear the callee")
			}
			caller.do("hangup", "")
			until(t, "the call ends and its tracks close", 15*time.Second, func() bool {
				now, _ := h.call(t)
				tracks, err := h.Register.Tracks(t.Context(), call.ID)
				for _, k := range tracks {
					if !k.Finished {
						return false
					}
				}
				return err == nil && now.Ended != 0
			})

			s, err := h.Consent.Of(t.Context(), call.ID, h.callee)
			if err != nil || s.Record != c.want {
				t.Errorf("the callee's consent is %q, %v; want %q", s.Record, err, c.want)
			}
			tracks, err := h.Register.Tracks(t.Context(), call.ID)
			if err != nil {
				t.Fatal(err)
			}
			if want := map[bool]int{false: 0, true: 2}[c.recorded]; len(tracks) != want {
				t.Fatalf("%d tracks, want %d", len(tracks), want)
			}
			for _, k := range tracks {
				own, other := float64(callerHz), float64(calleeHz)
				if k.Person == h.callee {
					own, other = other, own
				}
				mine, seconds := h.tones(t, k, own)
				theirs, _ := h.tones(t, k, other)
				if mine < 0.8 || theirs > 0.01 {
					t.Errorf("a track holds %.2f of its own tone and %.3f of the other's", mine, theirs)
				}
				if c.starNine && seconds > 7 {
					t.Errorf("a track of %d s, though it was stopped after 5", seconds)
				}
			}
			problems, err := h.Check(context.Background())
			if err != nil || len(problems) > 0 {
				t.Errorf("the house: %v %v", problems, err)
			}
		})
	}
}

// fits looks for the question anywhere in what was heard.
func fits(heard, question []int16) float64 {
	best := 0.0
	for from := 0; from+len(question) <= len(heard); from += audio.Rate / 2 {
		to := min(len(heard), from+len(question)+audio.Rate)
		got, _ := audio.Correlate(heard[from:to], question, audio.Rate)
		best = math.Max(best, got)
	}
	return best
}

// share is how much of the samples one tone is.
func share(samples []int16, hz float64) float64 {
	if e := audio.Energy(samples); e > 0 {
		return audio.Power(samples, hz) / e
	}
	return 0
}
