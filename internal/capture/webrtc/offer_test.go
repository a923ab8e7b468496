package webrtc

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"yesline/internal/audio"
	"yesline/internal/capture/media"
)

// FuzzOffer: whatever is offered, an answer has a line for each of the offer's,
// says nothing but what is ours, and repeats no bytes that could be read as
// something else.
func FuzzOffer(f *testing.F) {
	f.Add(chromiumOffer, uint8(0))
	f.Add(chromiumOffer, uint8(111))
	f.Add(strings.ReplaceAll(chromiumOffer, "\r\n", "\n"), uint8(8))
	f.Add("v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n", uint8(0))
	self := answer{name: "ours", secret: "secret", udp: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:3479")}, voice: 1, house: 2}
	f.Fuzz(func(t *testing.T, text string, wants uint8) {
		o, err := readOffer(text)
		if err != nil {
			return
		}
		c, err := o.choose(audio.Codec(wants))
		if err != nil {
			return
		}
		out := self.write(o, c)
		if got := strings.Count(out, "m="); got != len(o.lines) {
			t.Fatalf("%d lines are answered with %d:\n%s", len(o.lines), got, out)
		}
		if o.print.sum == "" || o.theirs == "" || c.voice.index < 0 {
			t.Fatal("an offer without a name, a fingerprint or a voice is taken")
		}
		for row := range strings.SplitSeq(strings.TrimSuffix(out, "\r\n"), "\r\n") {
			if len(row) < 3 || row[1] != '=' || strings.IndexByte("vostacm", row[0]) < 0 || strings.ContainsAny(row, "\r\n\x00") {
				t.Fatalf("the answer has the line %q", row)
			}
			if strings.HasPrefix(row, "a=candidate:") && !strings.Contains(row, " 192.0.2.1 3479 ") {
				t.Fatalf("the answer has the candidate %q", row)
			}
		}
		again, err := readOffer(out)
		if err != nil || len(again.lines) != len(o.lines) {
			t.Fatalf("our own answer cannot be read: %v", err)
		}
	})
}

// FuzzCheck: nothing is answered but what has a password of ours.
func FuzzCheck(f *testing.F) {
	w := &ways{ours: "ours", secret: "a password of 22 and more", theirs: "theirs"}
	d := &Door{names: map[string]proof{"ours": {ways: w, handset: &Handset{}}}}
	from := netip.MustParseAddrPort("192.0.2.1:4000")
	good := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername("ours:theirs"), stun.NewShortTermIntegrity(w.secret), stun.Fingerprint)
	f.Add(good.Raw)
	f.Add(stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername("ours:theirs"), stun.NewShortTermIntegrity("another"), stun.Fingerprint).Raw)
	f.Add([]byte{0, 1, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(stun.Message)
		_, reply := d.check(b, from, m)
		if reply == nil {
			return
		}
		again := &stun.Message{Raw: append([]byte(nil), b...)}
		if again.Decode() != nil || stun.NewShortTermIntegrity(w.secret).Check(again) != nil {
			t.Fatal("a check without our password is answered")
		}
	})
}

func TestOnlyWhatIntegrityCoversNominates(t *testing.T) {
	use := stun.RawAttribute{Type: stun.AttrUseCandidate}
	before := stun.MustBuild(stun.TransactionID, stun.BindingRequest, use, stun.NewShortTermIntegrity("x"))
	after := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewShortTermIntegrity("x"), use)
	if !nominates(before) || nominates(after) {
		t.Error("a nomination is believed though anybody may have added it")
	}
}

func TestAPlainAlertIsUnsafe(t *testing.T) {
	record := func(kind byte, epoch byte, n int) []byte {
		return append([]byte{kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 1, 0, byte(n)}, make([]byte, n)...)
	}
	for name, c := range map[string]struct {
		datagram []byte
		unsafe   bool
	}{
		"an alert in clear":              {record(21, 0, 2), true},
		"behind a handshake":             {append(record(22, 0, 40), record(21, 0, 2)...), true},
		"cut short":                      {record(22, 0, 40)[:30], true},
		"with a tail":                    {append(record(22, 0, 40), 1), true},
		"a cipher that changes in clear": {record(20, 0, 1), true},
		"an encrypted alert":             {record(21, 1, 30), false},
		"a handshake again":              {record(22, 0, 40), false},
		"its last flight again":          {append(record(22, 0, 40), record(22, 1, 40)...), false},
	} {
		if got := unsafePlain(c.datagram); got != c.unsafe {
			t.Errorf("%s: unsafe is %v", name, got)
		}
	}
}

// A browser that says nothing any more is gone after ten seconds, one that was
// answered and belongs to no call after thirty, and one that never came after
// ten.
func TestWhoIsGone(t *testing.T) {
	plane, err := media.Open(media.Config{IP: netip.MustParseAddr("127.0.0.1"), From: 46002, To: 46004})
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
	for name, c := range map[string]struct {
		up, claimed bool
		heardAt     time.Duration
		at          time.Duration
		gone        bool
	}{
		"it is coming":              {at: 9 * time.Second},
		"it never came":             {at: 11 * time.Second, gone: true},
		"it talks":                  {up: true, claimed: true, heardAt: time.Hour, at: time.Hour + 9*time.Second},
		"its tab is dead":           {up: true, claimed: true, heardAt: time.Hour, at: time.Hour + 11*time.Second, gone: true},
		"it waits for its call":     {up: true, heardAt: 28 * time.Second, at: 29 * time.Second},
		"nobody asks for its voice": {up: true, heardAt: 30 * time.Second, at: 31 * time.Second, gone: true},
	} {
		h, _, err := d.Handset(chromiumOffer, audio.PCMU)
		if err != nil {
			t.Fatal(err)
		}
		if c.up {
			close(h.up)
		}
		h.claimed = c.claimed
		h.heard.Store(int64(h.made.Add(c.heardAt).Sub(d.began)))
		h.look(h.made.Add(c.at))
		if gone := h.ctx.Err() != nil; gone != c.gone {
			t.Errorf("%s: gone is %v", name, gone)
		}
		h.Hangup()
	}
}

// chromiumOffer is what Chromium 156 offers for a page's two lines, shortened.
const chromiumOffer = "v=0\r\no=- 4611 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS mic\r\n" +
	"m=audio 40123 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126\r\nc=IN IP4 192.0.2.7\r\na=rtcp:9 IN IP4 0.0.0.0\r\n" +
	"a=candidate:1 1 udp 2122260223 192.0.2.7 40123 typ host generation 0 network-id 1\r\n" +
	"a=candidate:2 1 udp 41885695 198.51.100.3 50001 typ relay raddr 192.0.2.7 rport 40123 generation 0 network-id 1\r\n" +
	"a=ice-ufrag:7EYx\r\na=ice-pwd:2kYx2jqNGGJmM0sVqDdYb2yb\r\na=ice-options:trickle\r\n" +
	"a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n" +
	"a=setup:actpass\r\na=mid:0\r\na=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=sendrecv\r\na=msid:mic a\r\na=rtcp-mux\r\na=rtcp-rsize\r\n" +
	"a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:63 red/48000/2\r\na=rtpmap:9 G722/8000\r\n" +
	"a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:13 CN/8000\r\na=rtpmap:110 telephone-event/48000\r\na=rtpmap:126 telephone-event/8000\r\na=ssrc:3735928559 cname:x\r\n" +
	"m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:7EYx\r\na=ice-pwd:2kYx2jqNGGJmM0sVqDdYb2yb\r\n" +
	"a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n" +
	"a=setup:actpass\r\na=mid:1\r\na=recvonly\r\na=rtcp-mux\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:126 telephone-event/8000\r\n"

func TestTheAnswerToChromium(t *testing.T) {
	o, err := readOffer(chromiumOffer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := o.choose(audio.PCMU)
	if err != nil {
		t.Fatal(err)
	}
	if c.voice.codec != audio.PCMU || c.voice.events != 126 || c.house.index != 1 || len(o.relays) != 1 || o.relays[0] != netip.MustParseAddr("198.51.100.3") {
		t.Errorf("chosen is %+v, relays %v", c, o.relays)
	}
	opus, err := o.choose(audio.Opus)
	if err != nil || opus.voice.payload != 111 || opus.voice.events != 110 || opus.house.codec != audio.PCMU {
		t.Errorf("chosen is %+v: %v", opus, err)
	}
	self := answer{session: 7, version: 1, name: "ours", secret: "secret", voice: 1, house: 2,
		udp: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:3479"), netip.MustParseAddrPort("[2001:db8::1]:3479")},
		tcp: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:443")}}
	out := self.write(o, c)
	for _, want := range []string{"a=ice-lite\r\n", "a=group:BUNDLE 0 1\r\n", "m=audio 3479 UDP/TLS/RTP/SAVPF 0 126\r\n", "a=sendonly\r\n",
		"a=candidate:1 1 udp 2130706431 192.0.2.1 3479 typ host\r\n", "a=candidate:2 1 udp 2130706175 2001:db8::1 3479 typ host\r\n",
		"a=candidate:3 1 tcp 1526726655 192.0.2.1 443 typ host tcptype passive\r\n", "a=ssrc:1 cname:yesline\r\n", "a=ssrc:2 cname:yesline\r\n"} {
		if strings.Count(out, want) != 1 {
			t.Errorf("the answer lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "192.0.2.7") || strings.Contains(out, "198.51.100.3") || strings.Contains(out, "7EYx") {
		t.Errorf("the answer repeats what the browser said:\n%s", out)
	}
}
