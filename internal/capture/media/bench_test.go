//go:build linux && (amd64 || arm64)

package media

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"yesline/internal/audio"
)

// TestMain is also the load generator, a process of its own, so that its CPU is
// not counted as the plane's; and a process with few files.
func TestMain(m *testing.M) {
	for name, run := range map[string]func() error{"YESLINE_MEDIA_LOAD": generate, "YESLINE_MEDIA_FEW_FILES": fewFiles} {
		if os.Getenv(name) == "" {
			continue
		}
		if err := run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// load is what the generator is asked to send: 50 packets a second to each port.
type load struct {
	Ports   []uint16
	Seconds int
	Profile string // of SRTP with a key of zeros, for all: their SSRCs differ
}

// seen is what it says afterwards.
type seen struct{ Sent, Heard int64 }

const loadSockets = 16

// generate sends in slots of a millisecond. Its sockets are ours too, unknown
// to Go's poller: to be woken for each packet would cost those who send it.
func generate() error {
	var lines [loadSockets]*line
	var ports [loadSockets]uint16
	for i := range lines {
		fd, err := bind(netip.AddrPortFrom(loopback, 0), 0)
		if err != nil {
			return err
		}
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<20)
		name, err := syscall.Getsockname(fd)
		if err != nil {
			return err
		}
		lines[i], ports[i] = &line{inlet: &inlet{fd: fd}}, uint16(name.(*syscall.SockaddrInet4).Port)
	}
	if err := json.NewEncoder(os.Stdout).Encode(ports); err != nil {
		return err
	}
	var l load
	if err := json.NewDecoder(os.Stdin).Decode(&l); err != nil {
		return err
	}
	var out *srtp.Context
	if k := zeros(l.Profile); k != nil {
		var err error
		if out, err = srtp.CreateContext(k.Key, k.Salt, pions[k.Profile]); err != nil {
			return err
		}
	}
	var result seen
	var payload [frameSize]byte
	t := &thread{}
	start := time.Now()
	last := 0 // slot in which something was heard
	for slot := 0; slot < l.Seconds*1000 || slot < last+1000; slot++ {
		time.Sleep(time.Until(start.Add(time.Duration(slot) * time.Millisecond)))
		for i := slot % 20; i < len(l.Ports) && slot < l.Seconds*1000; i += 20 {
			p := rtp.Packet{Header: rtp.Header{Version: 2, SSRC: uint32(i + 1), SequenceNumber: uint16(slot / 20), Timestamp: uint32(slot / 20 * frameSize)}, Payload: payload[:]}
			n, err := p.MarshalTo(t.desk.data[:])
			b := t.desk.data[:n]
			if out != nil {
				b, err = out.EncryptRTP(b, b, nil)
			}
			if err != nil {
				return err
			}
			w := lines[i%loadSockets]
			w.aim(netip.AddrPortFrom(loopback, l.Ports[i]))
			if err := w.send(b); err != nil {
				return err
			}
			result.Sent++
		}
		for _, w := range lines {
			for slot%5 == 0 && t.take(w.inlet.fd) > 0 {
				result.Heard++
				last = slot
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// recorder is a listener that does what the room does: it copies a party's
// packets into seconds, and another goroutine seals them.
type recorder struct {
	seal chan []byte
	open []byte
	at   int
}

func (r *recorder) Heard(_ uint32, payload []byte, _ time.Time) {
	r.at += copy(r.open[r.at:], payload)
	if r.at < len(r.open) {
		return
	}
	select {
	case r.seal <- r.open:
	default:
	}
	r.open, r.at = make([]byte, audio.Rate), 0
}
func (*recorder) Key(byte, time.Time, bool) {}
func (*recorder) Hold(bool)                 {}
func (*recorder) Relearn()                  {}

func sealAll(seconds <-chan []byte) {
	block, _ := aes.NewCipher(make([]byte, 32))
	gcm, _ := cipher.NewGCM(block)
	out, nonce := make([]byte, 0, audio.Rate+64), make([]byte, gcm.NonceSize())
	for s := range seconds {
		gcm.Seal(out, nonce, s, nil)
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBridge carries calls whose two parties are recorded and hear each
// other, and says what it costs this process. Run it with -benchtime=1x; a
// profile of it is the plane's (-cpuprofile).
func BenchmarkBridge(b *testing.B) {
	calls := 400
	if n, err := strconv.Atoi(os.Getenv("YESLINE_MEDIA_CALLS")); err == nil {
		calls = n
	}
	for _, way := range []string{"sockets", "threads"} {
		for _, profile := range []string{"", "AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80"} {
			b.Run(way+"/"+cmp.Or(profile, "RTP"), func(b *testing.B) { bridge(b, way == "sockets", calls, profile) })
		}
	}
}

// zeros is a key for tests; nil for no profile.
func zeros(profile string) *Crypto {
	if profile == "" {
		return nil
	}
	p := profiles[profile]
	return &Crypto{Profile: profile, Key: make([]byte, p.key), Salt: make([]byte, p.salt)}
}

func bridge(b *testing.B, plain bool, calls int, profile string) {
	for range b.N {
		p := testPlane(b, Config{From: 10000, To: 10000 + uint16(4*calls+2*16), plain: plain})
		seconds := make(chan []byte, 2*calls)
		var sealing sync.WaitGroup
		sealing.Go(func() { sealAll(seconds) })
		child := exec.Command(os.Args[0], "-test.run=^$")
		child.Env = append(os.Environ(), "YESLINE_MEDIA_LOAD=1")
		child.Stderr = os.Stderr
		in, _ := child.StdinPipe()
		out, _ := child.StdoutPipe()
		if err := child.Start(); err != nil {
			b.Fatal(err)
		}
		answers := json.NewDecoder(out)
		var ports [loadSockets]uint16
		if err := answers.Decode(&ports); err != nil {
			b.Fatal(err)
		}
		l := load{Seconds: 5, Profile: profile}
		var before *Stream
		var streams []*Stream
		for i := range 2 * calls {
			s := p.testStream(b, &recorder{seal: seconds, open: make([]byte, audio.Rate), at: i * 7919 % audio.Rate / frameSize * frameSize})
			s.Agree(Agreement{Addr: netip.AddrPortFrom(loopback, ports[i%loadSockets]), Codec: audio.PCMU, Speaks: true, Listens: true, In: zeros(profile), Out: zeros(profile)})
			l.Ports = append(l.Ports, s.Local().Port())
			if i%2 == 1 {
				Join(before, s)
			}
			before, streams = s, append(streams, s)
		}
		start := cpu()
		if err := json.NewEncoder(in).Encode(l); err != nil {
			b.Fatal(err)
		}
		var result seen
		if err := answers.Decode(&result); err != nil {
			b.Fatal(err)
		}
		used := cpu() - start
		if err := child.Wait(); err != nil {
			b.Fatal(err)
		}
		each := used.Seconds() / float64(result.Sent)
		b.ReportMetric(each*1e6, "us/packet")
		b.ReportMetric(1/(each*100), "calls/core")
		b.ReportMetric(float64(result.Sent-result.Heard), "lost")
		b.ReportMetric(float64(p.count.Probes.Load()+p.count.Odd.Load()), "odd")
		b.ReportMetric(0, "ns/op")
		for _, s := range streams {
			s.Close()
		}
		close(seconds)
		sealing.Wait()
	}
}
