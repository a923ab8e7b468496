package yesline_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What our figures stand beside in `make bench`; raw AES-GCM is in the vault's.

// nginx serves 64 KiB ranges of a plaintext recording: no session, no ticket,
// no question to a gate, no entry, no key. scripts/bench.sh starts it.
func BenchmarkNginxRange64KiB(b *testing.B) {
	address, pid := os.Getenv("YESLINE_BENCH_NGINX"), os.Getenv("YESLINE_BENCH_NGINX_PID")
	if address == "" {
		b.Skip("nginx is started by make bench")
	}
	const window = 64 << 10
	client := &http.Client{Timeout: 10 * time.Second}
	b.SetBytes(window)
	before, n := cpu(b, pid), int64(0)
	for b.Loop() {
		from := n * window % (9_600_044 - window)
		n++
		r, err := http.NewRequestWithContext(b.Context(), "GET", address, nil)
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+window-1))
		got, err := client.Do(r)
		if err != nil {
			b.Fatal(err)
		}
		size, err := io.Copy(io.Discard, got.Body)
		got.Body.Close()
		if err != nil || size != window || got.StatusCode != http.StatusPartialContent {
			b.Fatalf("%d bytes with status %d: %v", size, got.StatusCode, err)
		}
	}
	b.ReportMetric(float64((cpu(b, pid)-before).Microseconds())/float64(b.N), "server-cpu-us/op")
}

// cpu is the processor time that a process has used, in steps of 10 ms.
func cpu(b *testing.B, pid string) time.Duration {
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name may hold spaces
	fields := strings.Fields(rest)
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err1 != nil || err2 != nil {
		b.Fatalf("the times of process %s cannot be read", pid)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}
