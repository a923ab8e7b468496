//go:build linux

package webrtc_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/pprof"
	"strconv"
	"syscall"
	"testing"
	"time"

	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/capture/media"
	"yesline/internal/capture/webrtc"
)

// BenchmarkCalls bridges browsers (DTLS-SRTP, AES-GCM) to plain phones, both
// talking without a pause, and says what a call costs the house. The load is a
// process of its own. BENCH_SECONDS and BENCH_CALLS change it;
// YESLINE_BENCH_PROFILE is where a CPU profile is written.
func BenchmarkCalls(b *testing.B) {
	calls := []string{"200", "400"}
	if s := os.Getenv("BENCH_CALLS"); s != "" {
		calls = []string{s}
	}
	for _, n := range calls {
		b.Run(n, func(b *testing.B) { bridged(b, number(b, n)) })
	}
}

func number(b *testing.B, s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

func bridged(b *testing.B, calls int) {
	seconds := 5
	if s := os.Getenv("BENCH_SECONDS"); s != "" {
		seconds = number(b, s)
	}
	w := newWorld(b, func(c *webrtc.Config) { c.MaxPeers = calls })
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), loadVariable+"=1", "GOMAXPROCS=2")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = killedWithUs()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { stdin.Close(); cmd.Process.Kill(); cmd.Wait() }()
	out, in := json.NewEncoder(stdin), json.NewDecoder(stdout)
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	resident := rss(b)
	must(out.Encode(order{calls, seconds}))
	cpu := cpuTime(b)
	handsets := make([]*webrtc.Handset, calls)
	phones := make([]*media.Stream, calls)
	for i := range calls {
		var p proposal
		must(in.Decode(&p))
		h, answer, err := w.door.Handset(p.Offer, audio.PCMU)
		must(err)
		phone, err := w.plane.Stream(newEar())
		must(err)
		phone.Agree(media.Agreement{Addr: p.RTP, Signalling: p.RTP.Addr(), Codec: audio.PCMU, Speaks: true, Listens: true})
		must(out.Encode(reply{answer, phone.Local()}))
		handsets[i], phones[i] = h, phone
	}
	defer func() {
		for i := range calls {
			handsets[i].Hangup()
			phones[i].Close()
		}
	}()
	for i, h := range handsets {
		line, err := h.Connect(b.Context(), capture.Ends{Listener: quiet{}, Left: func(error) {}})
		must(err)
		media.Join(line.Stream, phones[i])
	}
	var r ready
	must(in.Decode(&r))
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(time.Millisecond)/float64(calls), "set-up-ms")
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(int64(after.HeapInuse+after.StackInuse)-int64(before.HeapInuse+before.StackInuse))/1024/float64(calls), "KiB-heap/call")
	b.ReportMetric(float64(rss(b)-resident)/1024/float64(calls), "KiB-rss/call")

	if name := os.Getenv("YESLINE_BENCH_PROFILE"); name != "" {
		f, err := os.Create(fmt.Sprintf("%s.%d", name, calls))
		must(err)
		defer f.Close()
		must(pprof.StartCPUProfile(f))
		defer pprof.StopCPUProfile()
	}
	cpu = cpuTime(b)
	runtime.ReadMemStats(&before)
	must(out.Encode(r))
	var got result
	must(in.Decode(&got))
	spent := cpuTime(b) - cpu
	runtime.ReadMemStats(&after)
	packets := got.Sent + got.PhoneSent
	b.ReportMetric(float64(spent)/float64(time.Microsecond)/float64(packets), "us/packet")
	b.ReportMetric(float64(packets)/100*float64(time.Second)/float64(spent), "calls/core")
	b.ReportMetric(100*(1-float64(got.Heard+got.PhoneHeard)/float64(packets)), "%lost")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(packets), "allocs/packet")
	b.ReportMetric(0, "ns/op")
}

// quiet is a leg that keeps nothing.
type quiet struct{}

func (quiet) Heard(uint32, []byte, time.Time) {}
func (quiet) Key(byte, time.Time, bool)       {}
func (quiet) Hold(bool)                       {}
func (quiet) Relearn()                        {}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func rss(b *testing.B) int64 {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, resident int64
	fmt.Sscan(string(data), &size, &resident)
	return resident * int64(os.Getpagesize())
}
