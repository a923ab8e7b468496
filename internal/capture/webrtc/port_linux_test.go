package webrtc

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"yesline/internal/capture/media"
)

// The thread of the browsers' port says when it does not keep its tick, and not
// when it rested.
func TestAPortThatIsLate(t *testing.T) {
	t.Parallel()
	told := make(chan time.Duration, 8)
	plane, err := media.Open(media.Config{IP: netip.MustParseAddr("127.0.0.1"), From: 46006, To: 46008, Late: func(worst time.Duration) { told <- worst }})
	if err != nil {
		t.Fatal(err)
	}
	defer plane.Close()
	d, err := New(Config{UDP: netip.MustParseAddrPort("127.0.0.1:0"), Loopback: true}, plane)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	p, somebody := d.ports[0], netip.MustParseAddrPort("127.0.0.1:9")
	comes := func(browser bool) { // while one is there the port does not rest
		p.mu.Lock()
		defer p.mu.Unlock()
		if delete(p.paths, somebody); browser {
			p.paths[somebody] = nil
		}
	}
	defer comes(false)
	wake, err := net.Dial("udp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), p.local()).String())
	if err != nil {
		t.Fatal(err)
	}
	defer wake.Close()
	comes(true)
	wake.Write([]byte{0})
	time.Sleep(100 * time.Millisecond)
	comes(false)
	time.Sleep(3 * time.Second)
	comes(true)
	wake.Write([]byte{0})
	time.Sleep(1200 * time.Millisecond)
	for len(told) > 0 {
		if worst := <-told; worst > 2*time.Second {
			t.Errorf("a rest is %v late", worst)
		}
	}
	for range 3 {
		p.mu.Lock()
		time.Sleep(500 * time.Millisecond) // the thread waits for us
		p.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
	}
	select {
	case worst := <-told:
		if worst < 400*time.Millisecond {
			t.Errorf("the longest wait is %v", worst)
		}
	case <-time.After(20 * time.Second):
		t.Error("nobody is told")
	}
}
