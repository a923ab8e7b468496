package webrtc

import (
	"net/netip"
	"testing"
	"time"

	"github.com/pion/srtp/v3"
)

// Once the handshake is over, a nominated path is used when the browser's key
// spoke there, be it by a report, and only then; what came from elsewhere is no
// sign that its voice arrives.
func TestWhenAPathIsUsed(t *testing.T) {
	t.Parallel()
	cipher := func() *srtp.Context {
		c, err := srtp.CreateContext(make([]byte, 16), make([]byte, 12), srtp.ProtectionProfileAeadAes128Gcm)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	browser, now := cipher(), time.Now()
	w := &ways{}
	h := &Handset{door: &Door{began: now.Add(-time.Hour)}, ways: []*ways{w}, up: make(chan struct{})}
	h.ctx, h.records, h.started = t.Context(), newRecords(h), true
	h.in.use(cipher())
	first, second := &path{handset: h}, &path{handset: h}
	check := func(p *path) { h.prove(p, proof{ways: w, handset: h, nominated: true}, now) }
	shake := func(p *path) { h.shakes(p, now) }
	uses := func(what string, want *path) {
		t.Helper()
		if h.out.Load() != want {
			t.Errorf("%s: another path is used", what)
		}
	}
	check(first)
	uses("after a check", nil)
	shake(first)
	uses("after a handshake's beginning", first)
	first.live.Store(true)
	close(h.up)
	check(second)
	shake(second)
	second.take(make([]byte, 40), now)
	h.heard.Store(0)
	check(second)
	second.take([]byte{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0}, now)
	forged := append([]byte{0x80, 201, 0, 1, 0, 0, 0, 9, 0x80, 0, 0, 1}, make([]byte, 16)...)
	second.take(forged, now)
	uses("after checks, a handshake that is over and forged reports", first)
	if h.heard.Load() != 0 {
		t.Error("what comes elsewhere counts as a sign that the voice arrives")
	}
	report, err := browser.EncryptRTCP(nil, []byte{0x80, 201, 0, 1, 0, 0, 0, 9}, nil)
	if err != nil {
		t.Fatal(err)
	}
	second.take(report, now)
	uses("after a report", second)
	if h.heard.Load() == 0 {
		t.Error("a report is no sign of the browser")
	}
	check(first)
	uses("back to where it was live", first)
}

// Connections that prove nothing give way to others: of one address above 16,
// of IPv6 of one network, and of anybody above 256.
func TestWhoGivesWay(t *testing.T) {
	t.Parallel()
	d := &Door{unproved: map[*stream]struct{}{}}
	enter := func(from string) (gives *stream) {
		return d.enter(&stream{door: d, from: netip.AddrPortFrom(netip.MustParseAddr(from), 1)})
	}
	for i := range 16 {
		if enter("192.0.2.1") != nil || enter(netip.AddrFrom16([16]byte{0x20, 1, 15: byte(i)}).String()) != nil {
			t.Fatal("somebody gives way to 16 of one address")
		}
	}
	for _, from := range []string{"192.0.2.1", "2001::ffff"} {
		if gives := enter(from); gives == nil || gives.home() != (&stream{from: netip.AddrPortFrom(netip.MustParseAddr(from), 1)}).home() {
			t.Errorf("to the 17th from %s gives way %v", from, gives)
		}
	}
	for i := range 256 - 32 {
		if enter(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String()) != nil {
			t.Fatalf("somebody gives way to %d of many addresses", i)
		}
	}
	gives := enter("192.0.2.99")
	if gives == nil || len(d.unproved) != 256 {
		t.Errorf("%d wait, %v gives way", len(d.unproved), gives)
	}
	for s := range d.unproved {
		d.leave(s)
	}
	if enter("192.0.2.1") != nil {
		t.Error("somebody gives way though nobody waits")
	}
}
