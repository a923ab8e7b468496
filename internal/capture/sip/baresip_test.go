package sip_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/capture/media"
	"yesline/internal/capture/sip"
)

// laboratory is a namespace of its own with a wire to it: baresip refuses to
// run on loopback. It has no name, and the kernel takes it away with all that
// runs in it when the test ends, killed or not: its first process reads a pipe
// of ours, and ends with it.
type laboratory struct {
	first                   int // that process
	near, far, house, phone string
}

func newLaboratory(t *testing.T) *laboratory {
	t.Helper()
	slow(t)
	missing := func(why string) {
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	for _, tool := range []string{"baresip", "ip", "tcpdump", "unshare", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing("there is no " + tool + " on this machine: run make setup")
		}
	}
	if os.Getuid() != 0 {
		missing("a network namespace needs root")
	}
	wire := fmt.Sprintf("10.204.%d.", 1+os.Getpid()%250)
	l := &laboratory{near: fmt.Sprintf("ylb%da", os.Getpid()), far: fmt.Sprintf("ylb%db", os.Getpid()), house: wire + "1", phone: wire + "2"}
	holder := exec.Command("unshare", "--net", "--pid", "--fork", "sh", "-c", "echo up; exec cat")
	pipe, says := must(holder.StdinPipe())(t), must(holder.StdoutPipe())(t)
	ok(t, holder.Start())
	t.Cleanup(func() {
		pipe.Close()
		holder.Wait()
	})
	if line, _ := bufio.NewReader(says).ReadString('\n'); line != "up\n" {
		missing("no network namespace here")
	}
	own := strconv.Itoa(holder.Process.Pid)
	children := must(os.ReadFile("/proc/" + own + "/task/" + own + "/children"))(t)
	l.first = must(strconv.Atoi(strings.TrimSpace(string(children))))(t)
	for _, line := range []string{
		fmt.Sprintf("ip link add %s type veth peer name %s netns %d", l.near, l.far, l.first),
		"ip addr add " + l.house + "/24 dev " + l.near,
		"ip link set " + l.near + " up",
		l.inside() + " ip addr add " + l.phone + "/24 dev " + l.far,
		l.inside() + " ip link set " + l.far + " up",
		l.inside() + " ip link set lo up",
	} {
		words := strings.Fields(line)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			missing(fmt.Sprintf("no network namespace here: %s: %s", line, out))
		}
	}
	return l
}

// inside begins a command that runs in the namespace.
func (l *laboratory) inside() string { return fmt.Sprintf("nsenter --target %d --net --pid", l.first) }

// The kernel takes a laboratory away when the process that made it is gone.
func TestALaboratoryLeavesNothing(t *testing.T) {
	l := newLaboratory(t)
	words := strings.Fields(l.inside() + " sleep 60")
	left := exec.Command(words[0], words[1:]...)
	ok(t, left.Start())
	ok(t, syscall.Kill(l.first, syscall.SIGKILL)) // as the end of the pipe does
	left.Wait()                                   // what ran inside was killed, or this waits for a minute
	until(t, "the wire is gone", 5*time.Second, func() bool {
		_, err := net.InterfaceByName(l.near)
		return err != nil
	})
}

// baresip is a real phone.
type baresip struct {
	t       *testing.T
	folder  string
	control net.Conn
}

// phone runs one that sends a steady tone. account is its SIP address with
// parameters.
func (l *laboratory) start(t *testing.T, port int, account string, authority []byte, toneHz float64) *baresip {
	t.Helper()
	b := &baresip{t: t, folder: t.TempDir()}
	samples := audio.Tone(toneHz, 60_000, 8000)
	head := must(audio.WAVHeader(int64(len(samples))))(t)
	b.write("tone.wav", string(head[:])+string(audio.PCM(nil, samples)))
	b.write("accounts", account+"\n")
	b.write("contacts", "")
	b.write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority})))
	b.write("config", fmt.Sprintf(`
sip_listen %[1]s:%[2]d
sip_cafile %[3]s/ca.pem
audio_source aufile,%[3]s/tone.wav
audio_player aubridge,nowhere
audio_alert aubridge,nowhere
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
rtp_timeout 0
call_local_timeout 120
module_path /usr/lib/baresip/modules
module g711.so
module aufile.so
module aubridge.so
module sndfile.so
module srtp.so
module dtls_srtp.so
module_tmp uuid.so
module_tmp account.so
module_app contact.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen %[1]s:%[4]d
snd_path %[3]s
`, l.phone, port, b.folder, port+1000))
	words := append(strings.Fields(l.inside()), "baresip", "-f", b.folder, "-v")
	cmd := exec.Command(words[0], words[1:]...)
	log := must(os.Create(filepath.Join(b.folder, "log")))(t)
	cmd.Stdout, cmd.Stderr = log, log
	ok(t, cmd.Start())
	t.Cleanup(func() {
		if b.control != nil {
			b.do("quit", "")
			b.control.Close()
		}
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
			t.Logf("baresip:\n%s", data[max(0, len(data)-6000):])
		}
	})
	until(t, "baresip answers", 10*time.Second, func() (up bool) {
		var err error
		b.control, err = net.Dial("tcp", net.JoinHostPort(l.phone, strconv.Itoa(port+1000)))
		return err == nil
	})
	go io.Copy(io.Discard, bufio.NewReader(b.control)) // its events; ends with the connection
	return b
}

func (b *baresip) write(name, text string) {
	b.t.Helper()
	ok(b.t, os.WriteFile(filepath.Join(b.folder, name), []byte(text), 0o600))
}

// do sends a command: a netstring of JSON.
func (b *baresip) do(command, params string) {
	b.t.Helper()
	data, _ := json.Marshal(map[string]string{"command": command, "params": params})
	_, err := fmt.Fprintf(b.control, "%d:%s,", len(data), data)
	ok(b.t, err)
}

// heard is what the phone played to its person, which its sndfile module dumps.
func (b *baresip) heard() (longest []int16) {
	b.t.Helper()
	files, _ := filepath.Glob(filepath.Join(b.folder, "*dec*.wav"))
	for _, f := range files {
		data, _ := os.ReadFile(f)
		if at := bytes.Index(data, []byte("data")); at > 0 && len(data) > at+8 { // its lengths are written at the end
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

// hears waits until a tone was heard for a tenth of a second.
func (b *baresip) hears(hz float64) {
	b.t.Helper()
	until(b.t, fmt.Sprintf("the phone hears %g Hz", hz), 20*time.Second, func() bool {
		heard := b.heard()
		for at := 0; at+audio.Rate/10 <= len(heard); at += audio.Rate / 20 {
			if s := heard[at : at+audio.Rate/10]; audio.Power(s, hz) > 1e6 {
				return true
			}
		}
		return false
	})
}

func until(t *testing.T, what string, limit time.Duration, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("waited in vain: %s", what)
}

// listens gives a function that stops listening on the wire and gives all that
// crossed it.
func (l *laboratory) listens(t *testing.T) (stop func() []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wire")
	cmd := exec.Command("tcpdump", "-i", l.near, "-U", "-s", "0", "-w", path, "-Z", "root")
	ok(t, cmd.Start())
	time.Sleep(500 * time.Millisecond)
	return func() []byte {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		return must(os.ReadFile(path))(t)
	}
}

// Real phones: their sound encrypted by keys inside of TLS and by DTLS, on hold
// and off it, registered, and rung. Nothing in clear crosses the wire.
func TestBaresipEncrypts(t *testing.T) {
	l := newLaboratory(t)
	for n, c := range []struct{ name, over, encryption string }{
		{"SDES over TLS", "tls", "srtp-mand"},
		{"DTLS", "udp", "dtls_srtp"},
		{"in clear", "udp", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAuthority(t)
			here := netip.MustParseAddr(l.house)
			first := uint16(41000 + 100*n)
			w := byLineAt(t, a, l.house, func(cfg *sip.Config) {
				cfg.ListenTLS = netip.AddrPortFrom(here, 0)
				cfg.Media = media.Config{IP: here, From: first, To: first + 40}
			})
			at := w.door.Address()
			if c.over == "tls" {
				at = w.door.Secure()
			}
			wire := l.listens(t)
			encryption := ""
			if c.encryption != "" {
				encryption = ";mediaenc=" + c.encryption
			}
			b := l.start(t, 5060+10*n, fmt.Sprintf("<sip:%s@%s;transport=%s>;auth_user=%s;auth_pass=%s;regint=120;audio_codecs=pcmu,pcma;answermode=auto%s",
				w.annName, at, c.over, w.annName, w.annPass, encryption), a.cert.Raw, 440)
			until(t, "the phone registers", 10*time.Second, func() bool { return w.door.Registered(w.ann.Person) })

			b.do("dial", fmt.Sprintf("sip:%s@%s;transport=%s", bobNumber, at, c.over))
			bob := must(w.bobPhone.Answer(w.ctx))(t)
			b.hears(pitch["ask"])
			b.do("sndcode", "2")
			ok(t, bob.Press(w.ctx, "2"))
			w.hears(bob, "not_recorded")
			ok(t, bob.Say(tone(1000, 6*time.Second)))
			time.Sleep(1500 * time.Millisecond)
			w.hear(bob, 440)
			b.hears(1000)
			b.do("hold", "")
			time.Sleep(1500 * time.Millisecond)
			b.do("resume", "")
			time.Sleep(2 * time.Second)
			w.hear(bob, 440)
			b.do("hangup", "")
			<-bob.Done()
			if row := w.ended(); row.Ending != "the caller hung up" {
				t.Errorf("the row is %+v", row)
			}
			w.rung(b)
			crossed := wire()
			notice := audio.PCMU.Encode(nil, audio.Tone(pitch["notice"], 200, 9000))[160:280]
			if clear := bytes.Contains(crossed, notice); clear != (c.encryption == "") || len(crossed) < 100_000 {
				t.Errorf("of %d bytes that crossed the wire, sound in clear: %t", len(crossed), clear)
			}
		})
	}
}

// rung rings the registered phone, which picks up by itself, and hears it.
func (w *world) rung(b *baresip) {
	w.t.Helper()
	phones := w.door.Ring(w.ann.Person)
	if len(phones) != 1 {
		w.t.Fatalf("%d phones are registered", len(phones))
	}
	ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
	defer cancel()
	defer phones[0].Hangup()
	heard := &counting{}
	line, err := phones[0].Connect(ctx, capture.Ends{Listener: heard, Left: func(error) {}})
	if err != nil {
		w.t.Fatalf("ringing the phone: %v", err)
	}
	sound := line.Codec.Encode(nil, audio.Tone(2345, 1000, 9000))
	ok(w.t, line.Play(ctx, sound))
	if heard.packets.Load() < 20 {
		w.t.Errorf("%d packets of the phone were heard", heard.packets.Load())
	}
}
