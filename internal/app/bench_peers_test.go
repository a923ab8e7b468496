//go:build linux

package app_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// socketFloor is the processor time, in microseconds, of taking one packet of
// a call in and sending it on, by nothing but the system calls.
func socketFloor() float64 {
	open := func() (int, syscall.Sockaddr) {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
		if err != nil {
			return -1, nil
		}
		syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
		at, _ := syscall.Getsockname(fd)
		return fd, at
	}
	a, _ := open()
	b, at := open()
	defer syscall.Close(a)
	defer syscall.Close(b)
	packet, buf := make([]byte, 172), make([]byte, 1500)
	best := 1e9
	for range 5 {
		const times = 50_000
		var before, after unix.Rusage
		unix.Getrusage(unix.RUSAGE_SELF, &before)
		for range times {
			syscall.Sendto(a, packet, 0, at)
			syscall.Recvfrom(b, buf, 0)
		}
		unix.Getrusage(unix.RUSAGE_SELF, &after)
		used := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
		best = min(best, float64(used)/1000/times)
	}
	return best
}

// rtpengine is Debian's, in userspace, recording what it relays in clear.
type rtpengine struct {
	cmd   *exec.Cmd
	load  *load
	conn  *net.UDPConn
	mu    sync.Mutex
	asked map[string]chan string
	n     int
}

func measureRTPEngine(t *testing.T, calls int, span time.Duration) (f figures, ok bool) {
	t.Run(fmt.Sprintf("rtpengine %d", calls), func(t *testing.T) {
		path, err := exec.LookPath("rtpengine")
		if err != nil {
			fmt.Println("no rtpengine here: its line is left out")
			return
		}
		l, err := newLoad(calls)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.close)
		r, err := openRTPEngine(t, path, l)
		if err != nil {
			t.Fatal(err)
		}
		f = measure(t, "rtpengine", r, l, calls, span, nil)
		fall(t, r, calls)
		ok = true
	})
	return f, ok
}

func openRTPEngine(t *testing.T, path string, l *load) (*rtpengine, error) {
	free, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	control := free.LocalAddr().(*net.UDPAddr)
	free.Close()
	r := &rtpengine{load: l, asked: map[string]chan string{}}
	r.cmd = preferred(path, "--foreground", "--log-stderr", "--log-level=1", "--table=-1", "--interface=127.0.0.1",
		"--listen-ng="+control.String(), "--port-min=30000", "--port-max=49999",
		"--recording-dir="+t.TempDir(), "--recording-method=pcap", "--recording-format=raw")
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // whose death would take it along
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		r.cmd.Process.Kill()
		r.cmd.Wait()
	})
	if r.conn, err = net.DialUDP("udp4", nil, control); err != nil {
		return nil, err
	}
	t.Cleanup(func() { r.conn.Close() })
	go r.read()
	for range 50 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err = r.ask(ctx, map[string]string{"command": "ping"})
		cancel()
		if err == nil {
			return r, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil, fmt.Errorf("rtpengine did not start: %w", err)
}

func (r *rtpengine) read() {
	buf := make([]byte, 64<<10)
	for {
		n, err := r.conn.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		cookie, answer, _ := strings.Cut(string(buf[:n]), " ")
		r.mu.Lock()
		to := r.asked[cookie]
		delete(r.asked, cookie)
		r.mu.Unlock()
		if to != nil {
			to <- answer
		}
	}
}

// ask speaks the ng protocol: a cookie and a bencoded dictionary.
func (r *rtpengine) ask(ctx context.Context, what map[string]string) (string, error) {
	var b strings.Builder
	b.WriteString("d")
	for k, v := range what {
		fmt.Fprintf(&b, "%d:%s%d:%s", len(k), k, len(v), v)
	}
	b.WriteString("e")
	got := make(chan string, 1)
	r.mu.Lock()
	r.n++
	cookie := fmt.Sprintf("load%d", r.n) // never twice: answers are kept by it
	r.asked[cookie] = got
	r.mu.Unlock()
	for range 5 {
		r.conn.Write([]byte(cookie + " " + b.String()))
		select {
		case answer := <-got:
			if strings.Contains(answer, "6:result5:error") {
				return "", fmt.Errorf("rtpengine refuses: %q", answer)
			}
			return answer, nil
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return "", errors.New("rtpengine does not answer")
}

// port is where the description within an answer wants its packets.
func (r *rtpengine) port(answer string) (netip.AddrPort, error) {
	_, rest, _ := strings.Cut(answer, "m=audio ")
	word, _, _ := strings.Cut(rest, " ")
	port, err := strconv.ParseUint(word, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("an answer without a port: %w", err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port)), nil
}

func (r *rtpengine) up(ctx context.Context, i int) error {
	a, b := r.load.legs[2*i], r.load.legs[2*i+1]
	id := fmt.Sprintf("call-%d", i)
	offer, err := r.ask(ctx, map[string]string{"command": "offer", "call-id": id, "from-tag": "a", "sdp": describe(a.addr, ""), "ICE": "remove", "record-call": "yes"})
	if err != nil {
		return err
	}
	answer, err := r.ask(ctx, map[string]string{"command": "answer", "call-id": id, "from-tag": "a", "to-tag": "b", "sdp": describe(b.addr, ""), "ICE": "remove", "record-call": "yes"})
	if err != nil {
		return err
	}
	forB, err := r.port(offer)
	if err != nil {
		return err
	}
	forA, err := r.port(answer)
	if err != nil {
		return err
	}
	r.load.talk(a, forA)
	r.load.talk(b, forB)
	return nil
}

func (r *rtpengine) down(ctx context.Context, i int) error {
	r.load.hush(r.load.legs[2*i])
	r.load.hush(r.load.legs[2*i+1])
	_, err := r.ask(ctx, map[string]string{"command": "delete", "call-id": fmt.Sprintf("call-%d", i), "from-tag": "a"})
	return err
}

func (r *rtpengine) pid() int { return r.cmd.Process.Pid }
