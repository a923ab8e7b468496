package media

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtp"

	"yesline"
	"yesline/internal/audio"
)

// The carriers keep the same promises, and parties that share a socket are as
// far from each other as those that do not.
var carriers = map[string]Config{"threads": {}, "sockets": {plain: true}, "shared": {More: moreHere}}

var moreHere = []netip.Addr{netip.MustParseAddr("127.0.9.2"), netip.MustParseAddr("127.0.9.3")}

// ports is a plane's setting with these ports.
func (c Config) ports(from, to uint16) Config {
	c.From, c.To = from, to
	return c
}

var loopback = netip.MustParseAddr("127.0.0.1")

func testPlane(t testing.TB, cfg Config) *Plane {
	t.Helper()
	cfg.IP = loopback
	p, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *Plane) testStream(t testing.TB, l Listener) *Stream {
	t.Helper()
	s, err := p.Stream(l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// testPhone is a socket of a party.
func testPhone(t testing.TB) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	there, at := testPhoneOf(t)
	t.Cleanup(func() { there.Close() })
	return there, at
}

// testPhoneOf is one that its user closes.
func testPhoneOf(t testing.TB) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	there, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Error(err)
		return nil, netip.AddrPort{}
	}
	return there, there.LocalAddr().(*net.UDPAddr).AddrPort()
}

// agreed is a usual agreement.
func agreed(at netip.AddrPort) Agreement {
	return Agreement{Addr: at, Codec: audio.PCMU, Events: 101, Speaks: true, Listens: true}
}

// heard is what arrives at a telephone.
func heard(t *testing.T, conn *net.UDPConn, until time.Duration) (all []rtp.Packet) {
	t.Helper()
	end := time.Now().Add(until)
	buf := make([]byte, 2000)
	for {
		conn.SetReadDeadline(end)
		n, err := conn.Read(buf)
		if err != nil {
			return all
		}
		var p rtp.Packet
		if err := p.Unmarshal(bytes.Clone(buf[:n])); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// Prompt, the other's voice, a pause, its keys, the beep with and without a
// voice, and a prompt again: to the party it is one stream without a seam.
func TestOneContinuousStream(t *testing.T) {
	t.Parallel()
	for name, carrier := range carriers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := testPlane(t, carrier.ports(30000, 30020)).testStream(t, nil)
			there, at := testPhone(t)
			m.Agree(agreed(at))
			oneContinuousStream(t, m, there)
		})
	}
}

func oneContinuousStream(t *testing.T, m *Stream, there *net.UDPConn) {
	prompt := bytes.Repeat([]byte{0x11}, 800)
	go func() {
		m.Play(context.Background(), prompt)
		var d desk
		relay := func(n int, seq uint16, stamp uint32) {
			for i := range n {
				m.out.relay(&d, &rtp.Packet{Header: rtp.Header{SequenceNumber: seq + uint16(i), Timestamp: stamp + uint32(i*160)}, Payload: bytes.Repeat([]byte{0xff}, 160)}, voice, audio.PCMU, time.Now())
				time.Sleep(frame)
			}
		}
		relay(5, 65533, 1<<32-300) // both wrap
		time.Sleep(100 * time.Millisecond)
		relay(3, 2, 4000)
		relay(3, 40000, 90_000_000) // another source: numbers jump
		m.Beep()
		relay(12, 40003, 90_000_480) // mixed in
		time.Sleep(100 * time.Millisecond)
		m.Beep() // alone
		time.Sleep(350 * time.Millisecond)
		m.Play(context.Background(), prompt)
	}()
	all := heard(t, there, 1800*time.Millisecond)
	if len(all) < 5+5+3+3+12+10+5 {
		t.Fatalf("%d packets arrived", len(all))
	}
	for i := 1; i < len(all); i++ {
		p, before := all[i], all[i-1]
		if p.SSRC != before.SSRC {
			t.Fatalf("packet %d has another SSRC", i)
		}
		if p.SequenceNumber != before.SequenceNumber+1 {
			t.Errorf("packet %d has number %d after %d", i, p.SequenceNumber, before.SequenceNumber)
		}
		if by := int32(p.Timestamp - before.Timestamp); by < 160 || by > 8000 {
			t.Errorf("packet %d is %d samples after the one before", i, by)
		}
	}
	total := int32(all[len(all)-1].Timestamp-all[0].Timestamp) / 8
	if total < 1000 || total > 2000 {
		t.Errorf("the stream spans %d ms by its timestamps", total)
	}
	var sound []int16
	for _, p := range all {
		sound = audio.PCMU.Decode(sound, p.Payload)
	}
	if audio.Power(sound[16*160:28*160], 1400) < 1e5 {
		t.Error("no tone of 1400 Hz was mixed in")
	}
}

func TestPortsAreGivenBack(t *testing.T) {
	t.Parallel()
	for name, carrier := range carriers {
		t.Run(name, func(t *testing.T) {
			p := testPlane(t, carrier.ports(30101, 30106))
			var open []*Stream
			for {
				s, err := p.Stream(nil)
				if err != nil {
					break
				}
				if s.Local().Port()%2 != 0 || s.Local().Port() < 30101 || s.Local().Port() > 30106 {
					t.Errorf("port %d", s.Local().Port())
				}
				open = append(open, s)
			}
			if want := 3*(1+len(carrier.More)) - Kept(3*(1+len(carrier.More))); len(open) != want {
				t.Errorf("%d places in a range of three even ports, want %d", len(open), want)
			}
			for _, s := range open {
				s.Close()
				s.Close()
			}
			p.testStream(t, nil)
		})
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	m := testPlane(t, Config{From: 30200, To: 30220}).testStream(t, nil)
	home, nat := netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("198.51.100.7")
	a := agreed(netip.AddrPortFrom(home, 4000))
	a.Signalling, a.Relearn = nat, true
	m.Agree(a)
	var d desk
	pass := func(addr netip.Addr, port uint16, ssrc uint32, pt uint8) kind {
		b, _ := (&rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: pt, SSRC: ssrc}, Payload: []byte{1, 2, 3, 4}}).Marshal()
		k, _ := m.admit(&d, b, netip.AddrPortFrom(addr, port), time.Now())
		return k
	}
	type step struct {
		what string
		got  kind
		want kind
	}
	steps := []step{
		{"a stranger", pass(netip.MustParseAddr("203.0.113.1"), 4000, 1, 0), dropped},
		{"a codec not agreed on", pass(nat, 5555, 1, 8), dropped},
		{"the phone behind its NAT", pass(nat, 5555, 1, 0), voice},
		{"another port of it", pass(nat, 5556, 1, 0), dropped},
		{"another SSRC of it", pass(nat, 5555, 2, 0), dropped},
		{"the address it named", pass(home, 4000, 1, 0), dropped},
		{"its keys", pass(nat, 5555, 1, 101), event},
	}
	a.Relearn = false
	m.Agree(a) // hold and resume
	steps = append(steps, step{"another SSRC after a hold", pass(nat, 5555, 2, 0), dropped})
	a.Relearn = true
	m.Agree(a) // a proven re-INVITE
	steps = append(steps,
		step{"another source after a proven re-INVITE", pass(home, 4000, 3, 0), voice},
		step{"the old source", pass(nat, 5555, 1, 0), dropped})
	for _, s := range steps {
		if s.got != s.want {
			t.Errorf("%s: got %d, want %d", s.what, s.got, s.want)
		}
	}
}

func TestPlayToNobodyIsNotHeard(t *testing.T) {
	t.Parallel()
	for name, carrier := range carriers {
		t.Run(name, func(t *testing.T) {
			m := testPlane(t, carrier.ports(30300, 30320)).testStream(t, nil)
			a := agreed(netip.MustParseAddrPort("127.0.0.1:4000"))
			a.Listens = false // it put us on hold
			m.Agree(a)
			if err := m.Play(t.Context(), make([]byte, 320)); err == nil {
				t.Error("a prompt was heard by a party that does not listen")
			}
		})
	}
}

// Prompts go one after the other at the pace they are spoken; what is cancelled
// ends at once, and so does what is played to a stream that closes.
func TestPlay(t *testing.T) {
	t.Parallel()
	for name, carrier := range carriers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := testPlane(t, carrier.ports(30310, 30330))
			there, at := testPhone(t)
			m := p.testStream(t, nil)
			m.Agree(agreed(at))
			start := time.Now()
			second := make(chan error, 1)
			begun := make(chan struct{})
			go func() {
				<-begun
				second <- m.Play(t.Context(), bytes.Repeat([]byte{2}, 400))
			}()
			time.AfterFunc(50*time.Millisecond, func() { close(begun) })
			if err := m.Play(t.Context(), bytes.Repeat([]byte{1}, 1600)); err != nil {
				t.Error(err)
			}
			if took := time.Since(start); took < 199*time.Millisecond || took > 2*time.Second {
				t.Errorf("200 ms of sound took %v", took)
			}
			if err := <-second; err != nil {
				t.Error(err)
			}
			var order []byte
			for _, q := range heard(t, there, 100*time.Millisecond) {
				order = append(order, q.Payload[0])
			}
			if !bytes.Equal(order, []byte{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2}) {
				t.Errorf("heard %d", order)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if err := m.Play(ctx, make([]byte, 80000)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a cancelled prompt ended with %v", err)
			}
			if err := m.Play(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a prompt of a call that ended: %v", err)
			}
			time.AfterFunc(50*time.Millisecond, m.Close)
			if err := m.Play(t.Context(), make([]byte, 80000)); !errors.Is(err, errClosed) {
				t.Errorf("the stream was closed and the prompt ended with %v", err)
			}
			if err := m.Play(t.Context(), nil); !errors.Is(err, errClosed) {
				t.Errorf("a prompt to a closed stream ended with %v", err)
			}
			m.Beep()
			if n := len(heard(t, there, 200*time.Millisecond)); n > 8 {
				t.Errorf("%d packets after what was cancelled", n)
			}
		})
	}
}

// A stream without a socket is played to as well.
func TestPlayToALooseStream(t *testing.T) {
	t.Parallel()
	for name, carrier := range carriers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := testPlane(t, carrier.ports(30340, 30350))
			var sent atomic.Int64
			m := p.Loose(nil, func(b []byte) error { sent.Add(1); return nil })
			m.Agree(agreed(netip.AddrPort{}))
			if err := m.Play(t.Context(), make([]byte, 480)); err != nil || sent.Load() != 3 {
				t.Errorf("%d packets, %v", sent.Load(), err)
			}
			m.Close()
			if err := m.Play(t.Context(), make([]byte, 480)); !errors.Is(err, errClosed) {
				t.Errorf("played to a closed stream: %v", err)
			}
		})
	}
}

func TestOpenAndClose(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{{}, {IP: loopback}, {IP: loopback, From: 31, To: 31}, {IP: loopback, From: 9, To: 8}} {
		if _, err := Open(cfg); !errors.Is(err, yesline.Invalid) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
	p, err := Open(Config{IP: loopback, From: 30360, To: 30361})
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.Stream(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); !errors.Is(err, yesline.Conflict) {
		t.Errorf("closed with an open stream: %v", err)
	}
	if _, err := p.Stream(nil); !errors.Is(err, yesline.TooMany) {
		t.Errorf("opened on a closed plane: %v", err)
	}
	s.Agree(agreed(netip.MustParseAddrPort("127.0.0.1:9")))
	if err := s.Play(t.Context(), make([]byte, 160)); err == nil {
		t.Error("played on a closed plane")
	}
	loose := p.Loose(nil, func([]byte) error { return nil })
	loose.Agree(agreed(netip.AddrPort{}))
	if err := loose.Play(t.Context(), make([]byte, 160)); !errors.Is(err, errClosed) {
		t.Errorf("played on a closed plane: %v", err)
	}
	s.Close()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// Sound over IPv6, and to both worlds from a socket of any address.
func TestIPv6(t *testing.T) {
	t.Parallel()
	for _, plain := range []bool{false, true} {
		p, err := Open(Config{IP: netip.IPv6Unspecified(), From: 30370, To: 30380, plain: plain})
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{"::1", "127.0.0.1"} {
			there, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(host)})
			if err != nil {
				t.Skip("this machine has no IPv6:", err)
			}
			m, err := p.Stream(nil)
			if err != nil {
				t.Fatal(err)
			}
			at := there.LocalAddr().(*net.UDPAddr).AddrPort()
			m.Agree(agreed(netip.AddrPortFrom(at.Addr().Unmap(), at.Port())))
			there.WriteToUDPAddrPort(packet(1, 1), netip.AddrPortFrom(at.Addr(), m.Local().Port()))
			if err := m.Play(t.Context(), make([]byte, 320)); err != nil {
				t.Error(err)
			}
			if got := heard(t, there, 20*time.Millisecond); len(got) != 2 {
				t.Errorf("%s: %d packets of 2 arrived", host, len(got))
			}
			m.mu.Lock()
			if !m.locked {
				t.Errorf("%s: its packet did not arrive", host)
			}
			m.mu.Unlock()
			m.Close()
			there.Close()
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

// FuzzRTP plays datagrams, each behind two bytes of length, from an address
// that is allowed: what is let pass is of an agreed kind and of one source. A
// stream with a key lets nothing of it pass.
func FuzzRTP(f *testing.F) {
	f.Add([]byte{0, 16, 0x80, 101, 0, 1, 0, 0, 0, 1, 0, 0, 0, 9, 1, 0x8a, 3, 0xc0})
	p := testPlane(f, Config{From: 2, To: 3})
	f.Fuzz(func(t *testing.T, script []byte) {
		m := p.Loose(nil, func([]byte) error { return nil })
		m.loose = false
		m.Agree(agreed(netip.MustParseAddrPort("127.0.0.1:4000")))
		from := netip.MustParseAddrPort("127.0.0.1:4000")
		locked := p.Loose(nil, func([]byte) error { return nil })
		locked.loose = false
		a := agreed(from)
		a.In = testKey("AEAD_AES_128_GCM", 1)
		locked.Agree(a)
		var d desk
		now := time.Now()
		pressed, stamps := 0, map[uint32]bool{}
		for len(script) >= 2 {
			n := min(int(binary.BigEndian.Uint16(script))%maxRTP, len(script)-2)
			copy(d.data[:], script[2:2+n])
			script = script[2+n:]
			if k, _ := locked.admit(&d, d.data[:n], from, now); k != dropped || locked.locked {
				t.Fatal("a packet without the key passed")
			}
			k, codec := m.admit(&d, d.data[:n], from, now)
			switch k {
			case dropped:
				continue
			case voice:
				if d.packet.PayloadType != 0 || codec != audio.PCMU {
					t.Fatalf("a voice of type %d", d.packet.PayloadType)
				}
			case event:
				if d.packet.PayloadType != 101 {
					t.Fatalf("a key of type %d", d.packet.PayloadType)
				}
				stamps[d.packet.Timestamp] = true
				if _, is := m.keypad.Read(d.packet.Timestamp, d.packet.Payload); is {
					pressed++
				}
			}
			m.pass(&d, &d.packet, k, codec, now)
			if !m.locked || d.packet.SSRC != m.ssrc || len(d.packet.Payload) == 0 || d.packet.Version != 2 {
				t.Fatal("a packet of another source passed")
			}
		}
		if pressed > len(stamps) {
			t.Fatalf("%d keys from %d timestamps", pressed, len(stamps))
		}
	})
}
