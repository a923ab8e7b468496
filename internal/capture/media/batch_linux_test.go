//go:build amd64 || arm64

package media

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// Three parties share a socket: whatever else their packets have in common, each
// is heard at the address that it was told, and hears from there.
func TestWhoseASharedPacketIs(t *testing.T) {
	t.Parallel()
	p := testPlane(t, Config{From: 31700, To: 31720, More: moreHere})
	there, at := testPhone(t)
	var ears [3]ear
	var all [3]*Stream
	for i := range all {
		all[i] = p.testStream(t, &ears[i])
		all[i].Agree(agreed(at))
		ears[i].said()
		if all[i].Local().Port() != all[0].Local().Port() {
			t.Fatalf("stream %d has port %d, the first %d", i, all[i].Local().Port(), all[0].Local().Port())
		}
	}
	for i, s := range all {
		there.WriteToUDPAddrPort(packet(1, uint16(i)), s.Local())
	}
	for i := range all {
		waitFor(t, func() bool { return ears[i].said() == fmt.Sprintf("%d no%d", i*160, i) })
	}
	for i, s := range all {
		if err := s.Play(t.Context(), make([]byte, 160)); err != nil {
			t.Fatal(err)
		}
		there.SetReadDeadline(time.Now().Add(time.Second))
		var data [200]byte
		if _, from, err := there.ReadFromUDPAddrPort(data[:]); err != nil || from != s.Local() {
			t.Errorf("stream %d is heard from %v, want %v: %v", i, from, s.Local(), err)
		}
	}
	gone := all[1].Local()
	all[1].Close()
	there.WriteToUDPAddrPort(packet(1, 9), gone)
	there.WriteToUDPAddrPort(packet(1, 7), netip.AddrPortFrom(netip.MustParseAddr("127.0.9.77"), gone.Port())) // ours by the socket, nobody's by the plane
	there.WriteToUDPAddrPort(packet(1, 3), all[2].Local())
	waitFor(t, func() bool { return ears[2].said() == "480 no3" })
	if a, b := ears[0].said(), ears[1].said(); a+b != "" {
		t.Errorf("the first heard %q, who left %q", a, b)
	}
	if n := p.Counters().Probes.Load(); n != 0 {
		t.Errorf("%d packets were taken for another's", n)
	}
	all[0].Close()
	all[2].Close()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{Port: int(gone.Port())})
	if err != nil {
		t.Fatalf("the socket was not closed with its last party: %v", err)
	}
	conn.Close()
}

// A port whose parties are all gone is as new for the next ones.
func TestASharedPortIsUsedAgain(t *testing.T) {
	t.Parallel()
	p := testPlane(t, Config{From: 31742, To: 31742, More: moreHere})
	there, at := testPhone(t)
	for i := range uint16(3) {
		var e ear
		s := p.testStream(t, &e)
		s.Agree(agreed(at))
		e.said()
		there.WriteToUDPAddrPort(packet(1, i), s.Local())
		waitFor(t, func() bool { return e.said() == fmt.Sprintf("%d no%d", i*160, i) })
		if err := s.Play(t.Context(), make([]byte, 160)); err != nil {
			t.Error(err)
		}
		s.Close()
	}
}

// Whose a packet is, of IPv6, of which this machine has one address.
func TestWhoseAPacketOfIPv6Is(t *testing.T) {
	t.Parallel()
	there, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Skip("this machine has no IPv6:", err)
	}
	defer there.Close()
	at := netip.AddrPortFrom(netip.IPv6Loopback(), 0)
	fd, err := bind(at, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	ours := netip.AddrPortFrom(at.Addr(), uint16(name.(*syscall.SockaddrInet6).Port))
	there.WriteToUDPAddrPort([]byte("hello"), ours)
	b := newBatch(map[netip.Addr]int{netip.MustParseAddr("2001:db8::1"): 0, at.Addr(): 1})
	waitFor(t, func() bool { return b.take(fd, 2) == 1 })
	if nth, ok := b.nthOf(0); nth != 1 || !ok || string(b.datagram(0)) != "hello" {
		t.Errorf("got address %d, %v, %q", nth, ok, b.datagram(0))
	}
	phone := there.LocalAddr().(*net.UDPAddr).AddrPort()
	if from := origin(&b.from[0]); from != phone {
		t.Errorf("it came from %v, want %v", from, phone)
	}
	l := &line{inlet: &inlet{fd: fd, inet6: true, shared: true}, at: at.Addr()}
	l.aim(phone)
	if err := l.send([]byte("good day")); err != nil {
		t.Fatal(err)
	}
	there.SetReadDeadline(time.Now().Add(time.Second))
	var data [200]byte
	if n, from, err := there.ReadFromUDPAddrPort(data[:]); err != nil || from != ours || string(data[:n]) != "good day" {
		t.Errorf("got %q from %v, %v; want it from %v", data[:n], from, err, ours)
	}
}

// A shared socket that is flooded gets as many turns as it has parties, and the
// sockets of others get theirs.
func TestSharedFloodIsFair(t *testing.T) {
	t.Parallel()
	p := testPlane(t, Config{From: 31722, To: 31740})
	thread, err := newThread(map[netip.Addr]int{loopback: 0, moreHere[0]: 1}) // not running: the test turns it
	if err != nil {
		t.Fatal(err)
	}
	defer thread.end()
	conn, at := testPhone(t)
	_, flooded := testParty(t, p, thread, at, 2)
	_, quiet := testParty(t, p, thread, at, 0)
	thread.serve()
	for i := range uint16(20) {
		say(t, conn, flooded, i)
	}
	say(t, conn, quiet, 0)
	for turn := range int64(3) {
		thread.drained = time.Now()
		thread.drain(thread.drained)
		if n := flooded.n.Load(); n != 2*(turn+1) || quiet.n.Load() != 1 {
			t.Errorf("turn %d: %d packets of the flood, %d of the other party", turn, n, quiet.n.Load())
		}
	}
}

func waitFor(t *testing.T, is func() bool) {
	t.Helper()
	for range 400 {
		if is() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("it did not come")
}
