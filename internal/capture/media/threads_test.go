//go:build linux && (amd64 || arm64)

package media

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pion/rtp"

	"yesline"
)

// own is a listener that hears only packets which name its own port.
type own struct {
	t     *testing.T
	place atomic.Uint32
	n     atomic.Int64
}

// placeOf tells a port of one address from that of another.
func placeOf(at netip.AddrPort) uint32 {
	four := at.Addr().As4()
	return uint32(four[2])<<24 | uint32(four[3])<<16 | uint32(at.Port())
}

func (o *own) Heard(_ uint32, payload []byte, _ time.Time) {
	o.n.Add(1)
	if want := fmt.Appendf(nil, "to %d", o.place.Load()); !bytes.Equal(payload, want) {
		o.t.Errorf("heard %q, want %q", payload, want)
	}
}
func (*own) Key(byte, time.Time, bool) {}
func (*own) Hold(bool)                 {}
func (*own) Relearn()                  {}

// Streams open and close all the time while packets come, and file numbers are
// given to others at once: nobody ever hears or sends under a number that was
// somebody else's.
func TestFileNumbersAreNotMixedUp(t *testing.T) {
	t.Parallel()
	for name, carrier := range carriers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := testPlane(t, carrier.ports(31000, 31200))
			ctx, stop := context.WithTimeout(t.Context(), time.Second)
			defer stop()
			var working sync.WaitGroup
			var heard atomic.Int64
			for range 8 {
				working.Go(func() {
					for ctx.Err() == nil {
						heard.Add(coupleOf(t, p))
					}
				})
			}
			working.Go(func() { // files of others, which take the numbers
				for ctx.Err() == nil {
					if f, err := os.Open(os.DevNull); err == nil {
						f.Close()
					}
				}
			})
			working.Wait()
			if n := p.Counters().Foreign.Load(); n != 0 {
				t.Errorf("%d packets came to another's stream", n)
			}
			if heard.Load() < 100 {
				t.Errorf("only %d packets were heard", heard.Load())
			}
		})
	}
}

// coupleOf is a short call, whose one side ends at any time.
func coupleOf(t *testing.T, p *Plane) int64 {
	conn, at := testPhoneOf(t)
	defer conn.Close()
	a, b := &own{t: t}, &own{t: t}
	one, err := p.Stream(a)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer one.Close()
	two, err := p.Stream(b)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer two.Close()
	a.place.Store(placeOf(one.Local()))
	b.place.Store(placeOf(two.Local()))
	one.Agree(agreed(at))
	two.Agree(agreed(at))
	Join(one, two)
	go one.Play(context.Background(), make([]byte, 800))
	hungUp := false
	for i := range uint16(10) {
		for n, s := range []*Stream{one, two} {
			if n == 1 && hungUp {
				break // its port is perhaps another's
			}
			q := rtp.Packet{Header: rtp.Header{Version: 2, SSRC: 5, SequenceNumber: i}, Payload: fmt.Appendf(nil, "to %d", placeOf(s.Local()))}
			raw, _ := q.Marshal()
			conn.WriteToUDPAddrPort(raw, s.Local())
		}
		if i == 5 && !hungUp && rand.IntN(2) == 0 {
			two.Close()
			hungUp = true
		}
		time.Sleep(time.Millisecond)
	}
	return a.n.Load() + b.n.Load()
}

// A plane without sound rests: it has no thread, or one that waits for the
// first packet; and both a packet and a prompt wake it.
func TestIdlePlaneRests(t *testing.T) {
	t.Parallel()
	p := testPlane(t, Config{From: 31300, To: 31340})
	threads := p.carrier.(*threads)
	if len(threads.all) != 0 {
		t.Fatal("a thread runs though there is no stream")
	}
	e := &ear{}
	s := p.testStream(t, e)
	conn, at := testPhone(t)
	s.Agree(agreed(at))
	thread := threads.all[0]
	rests := func() {
		t.Helper()
		for range 300 {
			if thread.asleep.Load() {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatal("the thread does not rest")
	}
	rests()
	e.said()
	conn.WriteToUDPAddrPort(packet(1, 1), s.Local())
	for i := 0; e.said() != "160 no1"; i++ {
		if i > 200 {
			t.Fatal("a packet does not wake it")
		}
		time.Sleep(5 * time.Millisecond)
	}
	rests()
	if err := s.Play(t.Context(), make([]byte, 320)); err != nil {
		t.Errorf("a prompt to a plane at rest: %v", err)
	}
	rests()
	another := p.testStream(t, nil)
	another.Close()
}

// However many files others have: a stream that cannot have one is refused,
// and those that are open go on.
func TestNoFilesLeft(t *testing.T) {
	t.Parallel()
	child := exec.Command(os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), "YESLINE_MEDIA_FEW_FILES=1")
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// fewFiles is TestNoFilesLeft in a process of its own.
func fewFiles() error {
	p, err := Open(Config{IP: loopback, From: 31400, To: 31900})
	if err != nil {
		return err
	}
	first, err := p.Stream(nil)
	if err != nil {
		return err
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 40, Max: 40}); err != nil {
		return err
	}
	streams := []*Stream{first}
	for range 60 {
		s, err := p.Stream(nil)
		if errors.Is(err, yesline.TooMany) && strings.Contains(err.Error(), "file") {
			break
		}
		if err != nil {
			return err
		}
		streams = append(streams, s)
	}
	if n := len(streams); n < 10 || n > 40 || len(p.places.taken) != n {
		return fmt.Errorf("%d streams with 40 files, %d ports", n, len(p.places.taken))
	}
	first.Agree(agreed(netip.AddrPortFrom(loopback, 9)))
	if err := first.Play(context.Background(), make([]byte, 320)); err != nil {
		return err
	}
	for _, s := range streams {
		s.Close()
	}
	again, err := p.Stream(nil)
	if err != nil {
		return err
	}
	again.Close()
	return p.Close()
}

// What floods one socket gets a turn as the others do, and no more turns than
// the time that went by is worth.
func TestFloodIsFair(t *testing.T) {
	t.Parallel()
	p := testPlane(t, Config{From: 31950, To: 31990})
	thread, err := newThread(nil) // not running: the test turns it
	if err != nil {
		t.Fatal(err)
	}
	defer thread.end()
	conn, at := testPhone(t)
	_, flooded := testParty(t, p, thread, at, 0)
	_, quiet := testParty(t, p, thread, at, 0)
	thread.serve()
	for i := range uint16(100) {
		say(t, conn, flooded, i)
	}
	say(t, conn, quiet, 0)
	now := time.Now()
	for _, late := range []struct {
		by    time.Duration
		takes int64 // of the flood, all in all
	}{{0, 1}, {tick, 2}, {frame, 7}, {time.Hour, 7 + 1 + maxRounds}} {
		thread.drained = now
		now = now.Add(late.by)
		thread.drain(now)
		if n := flooded.n.Load(); n != late.takes || quiet.n.Load() != 1 {
			t.Errorf("%v late: %d packets of the flood, want %d; %d of the other party", late.by, n, late.takes, quiet.n.Load())
		}
	}
}

// testParty is a party on a thread that the test turns, at a socket of its own
// or, alone, at the first of several addresses.
func testParty(t *testing.T, p *Plane, thread *thread, at netip.AddrPort, several int) (*line, *own) {
	t.Helper()
	fd, err := bind(netip.AddrPortFrom(loopback, 0), several)
	if err != nil {
		t.Fatal(err)
	}
	o := &own{t: t}
	o.place.Store(placeOf(netip.AddrPortFrom(loopback, uint16(portOf(t, fd)))))
	s := p.Loose(o, func([]byte) error { return nil })
	s.loose = false
	s.Agree(agreed(at))
	in := &inlet{thread: thread, fd: fd, shared: several > 0, lines: make([]*line, max(1, several)), users: 1}
	l := &line{inlet: in, carrier: &threads{}, stream: s, gone: make(chan struct{})}
	if err := thread.watch(fd); err != nil {
		t.Fatal(err)
	}
	thread.ask(request{add: l})
	return l, o
}

func portOf(t *testing.T, fd int) int {
	t.Helper()
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return name.(*syscall.SockaddrInet4).Port
}

// Only the thread closes a socket, so it never reads a number that is another's.
func TestTheThreadClosesItsSockets(t *testing.T) {
	t.Parallel()
	thread, err := newThread(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer thread.end()
	l, o := testParty(t, testPlane(t, Config{From: 31992, To: 31998}), thread, netip.AddrPortFrom(loopback, 9), 0)
	thread.serve()
	gone := make(chan struct{})
	go func() {
		l.close()
		close(gone)
	}()
	for !thread.asked.Load() {
		select {
		case <-gone:
			t.Fatal("the socket was closed without its thread")
		case <-time.After(time.Millisecond):
		}
	}
	if got := placeOf(netip.AddrPortFrom(loopback, uint16(portOf(t, l.inlet.fd)))); got != o.place.Load() {
		t.Errorf("the file is port %d by now", got)
	}
	thread.serve()
	<-gone
	if thread.inlets[l.inlet.fd] != nil {
		t.Error("the thread still knows the socket")
	}
}

// say sends a packet to whom it names.
func say(t *testing.T, conn *net.UDPConn, to *own, seq uint16) {
	place := to.place.Load()
	raw, _ := (&rtp.Packet{Header: rtp.Header{Version: 2, SSRC: 5, SequenceNumber: seq}, Payload: fmt.Appendf(nil, "to %d", place)}).Marshal()
	if _, err := conn.WriteToUDPAddrPort(raw, netip.AddrPortFrom(loopback, uint16(place))); err != nil {
		t.Error(err)
	}
}

// blocking holds its thread up for so long: what a listener must never do.
type blocking struct{ atomic.Int64 }

func (b *blocking) Heard(uint32, []byte, time.Time) { time.Sleep(time.Duration(b.Load())) }
func (*blocking) Key(byte, time.Time, bool)         {}
func (*blocking) Hold(bool)                         {}
func (*blocking) Relearn()                          {}

// A thread that does not keep its tick says so; one that rested does not.
func TestAThreadThatIsLate(t *testing.T) {
	t.Parallel()
	told := make(chan time.Duration, 8)
	p := testPlane(t, Config{From: 31910, To: 31912, Late: func(worst time.Duration) { told <- worst }})
	l := &blocking{}
	s := p.testStream(t, l)
	conn, at := testPhone(t)
	s.Agree(agreed(at))
	for i := range uint16(5) {
		if i == 0 {
			time.Sleep(restAfter*tick + 3*time.Second)
		} else {
			l.Store(int64(600 * time.Millisecond))
		}
		raw, _ := (&rtp.Packet{Header: rtp.Header{Version: 2, SSRC: 5, SequenceNumber: i}, Payload: make([]byte, frameSize)}).Marshal()
		if _, err := conn.WriteToUDPAddrPort(raw, s.Local()); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			time.Sleep(1200 * time.Millisecond)
			for len(told) > 0 {
				if worst := <-told; worst > 2*time.Second {
					t.Errorf("a rest is %v late", worst)
				}
			}
		}
	}
	select {
	case worst := <-told:
		if worst < 600*time.Millisecond {
			t.Errorf("the longest wait is %v", worst)
		}
	case <-time.After(20 * time.Second):
		t.Error("nobody is told")
	}
}
