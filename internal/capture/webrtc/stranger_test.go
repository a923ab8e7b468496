package webrtc_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/capture/webrtc"
)

// One address that connects and says nothing does not keep a browser out that
// can only come by TCP: neither one from elsewhere, nor one of the same house.
func TestOneStrangerKeepsNobodyOutOfTCP(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *webrtc.Config) { c.TCP = netip.AddrPortFrom(loopback, 0) })
	offer := newBrowser(t, form{}).offer(false)
	_, answer, err := w.door.Handset(offer, audio.PCMU)
	if err != nil {
		t.Fatal(err)
	}
	tcp := ""
	for row := range strings.SplitSeq(answer, "\r\n") {
		if f := strings.Fields(row); len(f) > 5 && f[2] == "tcp" {
			tcp = f[4] + ":" + f[5]
		}
	}
	connect := func(from string) net.Conn {
		t.Helper()
		conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", tcp)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	var strangers []net.Conn
	for range 300 {
		strangers = append(strangers, connect("127.0.0.1"))
	}
	wait(t, "most gave way", func() bool { return w.door.Counters().Refused.Load() == 300-16 })
	kept := 0
	for _, s := range strangers {
		s.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := s.Read(make([]byte, 1)); isTimeout(err) {
			kept++
		}
	}
	if kept != 16 {
		t.Errorf("%d connections of one address are kept, want 16", kept)
	}
	name, password := names(t, offer, answer)
	for _, from := range []string{"127.0.0.2", "127.0.0.1"} {
		conn, check := connect(from), check(t, name, password)
		conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(check))), check...))
		conn.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, err := conn.Read(make([]byte, 2)); err != nil {
			t.Errorf("a browser from %s is kept out by silent connections: %v", from, err)
		}
	}
}

// The sender of a check is easily forged: where nothing but checks came from
// gets answers to them, and no voice.
func TestTheVoiceDoesNotFollowAForgedCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := newBrowser(t, form{codecs: []string{"PCMU"}})
	offer := b.offer(false)
	h, answer, err := w.door.Handset(offer, audio.PCMU)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Hangup)
	name, password := names(t, offer, answer)
	useCandidate := stun.RawAttribute{Type: stun.AttrUseCandidate}
	s := newStranger(t, candidate(t, answer))
	if s.says(check(t, name, password, useCandidate)) == nil { // ahead of the browser
		t.Fatal("the check is not answered")
	}
	b.accept(answer)
	line := w.connect(h, capture.Ends{Listener: newEar()})
	if back := s.says(check(t, name, password, useCandidate)); back == nil { // and after it
		t.Fatal("the check is not answered")
	}
	said := make(chan error, 1)
	go func() { said <- line.Play(t.Context(), tone(500, 600)) }()
	s.conn.SetReadDeadline(time.Now().Add(700 * time.Millisecond))
	if n, err := s.conn.Read(make([]byte, 2000)); err == nil {
		t.Errorf("%d bytes of the house's voice went where only checks came from", n)
	}
	b.speak(tone(600, 100))
	if err := <-said; err != nil {
		t.Errorf("saying it to the browser: %v", err)
	}
	if !isTone(b.sound("house"), 500) {
		t.Error("the browser did not hear it")
	}
}
