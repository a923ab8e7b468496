package webrtc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/capture/webrtc"
)

// check is a connectivity check under a name and password.
func check(t testing.TB, name, password string, more ...stun.Setter) []byte {
	t.Helper()
	parts := append([]stun.Setter{stun.TransactionID, stun.BindingRequest, stun.NewUsername(name)}, more...)
	m, err := stun.Build(append(parts, stun.NewShortTermIntegrity(password), stun.Fingerprint)...)
	if err != nil {
		t.Fatal(err)
	}
	return m.Raw
}

// names is the ICE name for a check, and its password.
func names(t testing.TB, offer, answer string) (name, password string) {
	t.Helper()
	return value(t, answer, "a=ice-ufrag:") + ":" + value(t, offer, "a=ice-ufrag:"), value(t, answer, "a=ice-pwd:")
}

func value(t testing.TB, sdp, prefix string) string {
	return strings.TrimPrefix(line(t, sdp, prefix), prefix)
}

// stranger sends to the door from an address of its own.
type stranger struct {
	t    testing.TB
	conn net.Conn
}

func newStranger(t testing.TB, to netip.AddrPort) *stranger {
	t.Helper()
	conn, err := net.Dial("udp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &stranger{t, conn}
}

// says sends a datagram and gives what comes back within a moment.
func (s *stranger) says(b []byte) []byte {
	s.t.Helper()
	if _, err := s.conn.Write(b); err != nil {
		s.t.Fatal(err)
	}
	s.conn.SetReadDeadline(time.Now().Add(150 * time.Millisecond))
	back := make([]byte, 2000)
	n, err := s.conn.Read(back)
	if err != nil {
		return nil
	}
	return back[:n]
}

func TestChecksWithoutAPasswordGetNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	offer := newBrowser(t, form{}).offer(false)
	_, answer, err := w.door.Handset(offer, audio.PCMU)
	if err != nil {
		t.Fatal(err)
	}
	name, password := names(t, offer, answer)
	s := newStranger(t, candidate(t, answer))
	ours, _, _ := strings.Cut(name, ":")
	for what, b := range map[string][]byte{
		"a wrong password":            check(t, name, password+"x"),
		"another name":                check(t, "x"+name, password),
		"no name":                     check(t, "", password),
		"our name and another's":      check(t, ours+":abcd", password),
		"no integrity":                stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername(name)).Raw,
		"an indication":               stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodBinding, stun.ClassIndication), stun.NewUsername(name), stun.NewShortTermIntegrity(password)).Raw,
		"a TURN allocation":           stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest), stun.NewUsername(name), stun.NewShortTermIntegrity(password)).Raw,
		"half a check":                check(t, name, password)[:30],
		"a check that is very long":   check(t, name, password, stun.NewSoftware(strings.Repeat("x", 700))),
		"sound":                       append([]byte{0x80, 0}, make([]byte, 170)...),
		"a handshake":                 append([]byte{22, 0xfe, 0xfd}, make([]byte, 100)...),
		"nothing":                     {},
		"a byte":                      {1},
		"as much as a datagram holds": bytes.Repeat([]byte{1}, 60000),
	} {
		if back := s.says(b); back != nil {
			t.Errorf("%s is answered with %d bytes", what, len(back))
		}
	}
	good := check(t, name, password)
	back := s.says(good)
	if back == nil {
		t.Fatal("a good check is not answered")
	}
	if len(back) > len(good)+16 {
		t.Errorf("a check of %d bytes is answered with %d", len(good), len(back))
	}
	m := &stun.Message{Raw: back}
	if err := m.Decode(); err != nil || stun.NewShortTermIntegrity(password).Check(m) != nil {
		t.Errorf("the answer is not ours: %v", err)
	}
	if seen := s.says(append([]byte{0x80, 0}, make([]byte, 170)...)); seen != nil {
		t.Error("sound without a key is answered")
	}
}

// Whoever knows where a browser is and what its SSRC is gets nothing in.
func TestSoundThatIsNotTheBrowsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := newBrowser(t, form{codecs: []string{"PCMU"}})
	offer := b.offer(false)
	h, answer, err := w.door.Handset(offer, audio.PCMU)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Hangup)
	b.accept(answer)
	ear := newEar()
	w.connect(h, capture.Ends{Listener: ear})
	go b.speak(tone(600, 300))
	wait(t, "the browser is heard", func() bool { return ear.packets() > 5 })
	time.Sleep(500 * time.Millisecond)
	before := ear.packets()

	packet := make([]byte, 12+160+16)
	packet[0] = 0x80
	binary.BigEndian.PutUint16(packet[2:], 1)
	ssrc := strings.Fields(value(t, offer, "a=ssrc:"))[0]
	var number uint32
	for _, c := range ssrc {
		number = number*10 + uint32(c-'0')
	}
	binary.BigEndian.PutUint32(packet[8:], number)
	s := newStranger(t, candidate(t, answer))
	for range 50 {
		s.conn.Write(packet)
	}
	wait(t, "foreign packets are counted", func() bool { return w.door.Counters().Foreign.Load() >= 50 })

	// One who stole the ICE password is a path of the browser, and still has no key.
	name, password := names(t, offer, answer)
	if s.says(check(t, name, password)) == nil {
		t.Fatal("the check is not answered")
	}
	forged := w.door.Counters().Forged.Load()
	for i := range 50 {
		binary.BigEndian.PutUint16(packet[2:], uint16(1000+i))
		s.conn.Write(packet)
	}
	wait(t, "forged packets are counted", func() bool { return w.door.Counters().Forged.Load()+w.door.Counters().Replayed.Load() >= forged+50 })
	binary.BigEndian.PutUint32(packet[8:], number+1)
	foreign := w.door.Counters().Foreign.Load()
	s.conn.Write(packet)
	wait(t, "another SSRC is foreign", func() bool { return w.door.Counters().Foreign.Load() > foreign })
	odd := w.door.Counters().Odd.Load()
	s.conn.Write([]byte{21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 1, 0}) // "close", in clear
	s.conn.Write([]byte{70, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	wait(t, "an alert in clear is odd", func() bool { return w.door.Counters().Odd.Load() >= odd+2 })
	if ear.packets() != before {
		t.Errorf("%d packets of a stranger were heard", ear.packets()-before)
	}
	go b.speak(tone(600, 500))
	wait(t, "the browser is still heard", func() bool { return ear.packets() > before+15 })
}

// Checks of strangers leave nothing behind, and the browser is heard meanwhile.
func TestAFloodOfChecks(t *testing.T) { // not beside others: it counts goroutines and bytes
	w := newWorld(t)
	b := newBrowser(t, form{codecs: []string{"PCMU"}})
	offer := b.offer(false)
	h, answer, err := w.door.Handset(offer, audio.PCMU)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Hangup)
	b.accept(answer)
	ear := newEar()
	w.connect(h, capture.Ends{Listener: ear})
	name, _ := names(t, offer, answer)
	flood := [][]byte{check(t, name, "a wrong password of 22 and more"), check(t, "unknown:unknown", "a wrong password of 22 and more"), {0x80, 0, 0, 1}}
	goroutines := runtime.NumGoroutine()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := newStranger(t, candidate(t, answer))
	spoken := make(chan struct{})
	go func() { b.speak(tone(600, 1000)); close(spoken) }()
	for i := 0; ; i++ {
		s.conn.Write(flood[i%len(flood)])
		if i%50 == 0 {
			time.Sleep(time.Millisecond)
		}
		select {
		case <-spoken:
		default:
			continue
		}
		break
	}
	wait(t, "the browser is heard in the flood", func() bool { return ear.packets() >= 40 })
	runtime.GC()
	runtime.ReadMemStats(&after)
	if n := w.door.Counters().Unproved.Load(); n < 1000 {
		t.Errorf("only %d checks came", n)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("the flood left %d bytes", grown)
	}
	if n := runtime.NumGoroutine() - goroutines; n > 20 {
		t.Errorf("the flood left %d goroutines", n)
	}
}

// A browser may have so many ways, and no more.
func TestOneBrowserHasFewPaths(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	offer := newBrowser(t, form{}).offer(false)
	_, answer, err := w.door.Handset(offer, audio.PCMU)
	if err != nil {
		t.Fatal(err)
	}
	name, password := names(t, offer, answer)
	at := candidate(t, answer)
	var all []*stranger
	for range 20 {
		s := newStranger(t, at)
		if s.says(check(t, name, password)) == nil {
			t.Fatal("a check is not answered")
		}
		all = append(all, s)
	}
	foreign := w.door.Counters().Foreign.Load()
	for _, s := range all {
		s.conn.Write(append([]byte{0x80, 0}, make([]byte, 170)...))
	}
	wait(t, "older ways are forgotten", func() bool { return w.door.Counters().Foreign.Load() == foreign+14 })
}

func TestADTLSThatNeverEnds(t *testing.T) {
	whole(t)
	t.Parallel()
	w := newWorld(t)
	offer := newBrowser(t, form{}).offer(false)
	h, answer, err := w.door.Handset(offer, audio.PCMU)
	if err != nil {
		t.Fatal(err)
	}
	silent, answered, err := w.door.Handset(offer, audio.PCMU) // this one never even checks
	if err != nil {
		t.Fatal(err)
	}
	_ = answered
	name, password := names(t, offer, answer)
	s := newStranger(t, candidate(t, answer))
	began := time.Now()
	var dragging sync.WaitGroup
	defer dragging.Wait()
	dragging.Go(func() {
		// The first fragment of a greeting of 200 bytes, again and again.
		hello := []byte{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 22, 1, 0, 0, 200, 0, 0, 0, 0, 0, 0, 0, 10, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0}
		for time.Since(began) < 10500*time.Millisecond {
			s.says(check(t, name, password, stun.NewSoftware("x")))
			hello[10]++
			s.says(hello)
		}
	})
	for what, h := range map[string]*webrtc.Handset{"a DTLS that does not end": h, "a browser that never comes": silent} {
		_, err = h.Connect(t.Context(), capture.Ends{Listener: newEar(), Left: func(error) {}})
		if took := time.Since(began); !errors.Is(err, capture.ErrLost) || took > 12*time.Second || took < 9*time.Second {
			t.Errorf("%s: %v after %v", what, err, took)
		}
		h.Hangup()
	}
	if n := w.door.Peers(); n != 0 {
		t.Errorf("%d browsers are kept", n)
	}
}

// Another certificate than the offer's gets no line.
func TestACertificateOfSomebodyElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := newBrowser(t, form{codecs: []string{"PCMU"}})
	other := newBrowser(t, form{codecs: []string{"PCMU"}})
	offer := b.offer(false)
	forged := strings.ReplaceAll(offer, value(t, offer, "a=fingerprint:"), value(t, other.offer(false), "a=fingerprint:"))
	h, answer, err := w.door.Handset(forged, audio.PCMU)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Hangup)
	b.accept(answer)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := h.Connect(ctx, capture.Ends{Listener: newEar()}); !errors.Is(err, capture.ErrLost) {
		t.Errorf("a browser with another certificate: %v", err)
	}
}

// Connections that show no password end, and there are only so many.
func TestTCPOfStrangers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *webrtc.Config) { c.TCP = netip.AddrPortFrom(loopback, 0) })
	offer := newBrowser(t, form{}).offer(false)
	_, answer, err := w.door.Handset(offer, audio.PCMU)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(answer, "tcptype passive") {
		t.Fatal("the answer shows no TCP")
	}
	tcp := ""
	for row := range strings.SplitSeq(answer, "\r\n") {
		if f := strings.Fields(row); len(f) > 5 && f[2] == "tcp" {
			tcp = f[4] + ":" + f[5]
		}
	}
	for what, b := range map[string][]byte{
		"a long frame": {0xff, 0xff, 1},
		"HTTP":         []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n" + strings.Repeat("x", 30000)),
		"no password":  append([]byte{0, 28}, make([]byte, 28)...),
	} {
		conn, err := net.Dial("tcp", tcp)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.Write(b)
		conn.SetReadDeadline(time.Now().Add(4 * time.Second))
		if n, err := conn.Read(make([]byte, 1)); n > 0 || errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			t.Errorf("%s: the connection goes on", what)
		}
	}
	var held []net.Conn
	for range 300 {
		conn, err := net.Dial("tcp", tcp)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		held = append(held, conn)
	}
	wait(t, "too many are refused", func() bool { return w.door.Counters().Refused.Load() >= 44 })
	held[0].SetReadDeadline(time.Now().Add(8 * time.Second))
	if _, err := held[0].Read(make([]byte, 1)); isTimeout(err) {
		t.Error("a connection that says nothing is kept")
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}
