package sip

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"

	"yesline/internal/audio"
)

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

func testMedia(t *testing.T, ports uint16) (*media, *net.UDPConn) {
	t.Helper()
	there, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { there.Close() })
	m, err := openMedia(&Config{MediaIP: netip.MustParseAddr("127.0.0.1"), MediaFrom: ports, MediaTo: ports + 20}, &Counters{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.close)
	at := there.LocalAddr().(*net.UDPAddr).AddrPort()
	m.agree(description{addr: netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), dir: sendrecv, events: 101}, audio.PCMU, netip.Addr{}, false)
	return m, there
}

// Prompt, the other's voice, a pause, its keys, the beep with and without a
// voice, and a prompt again: to the party it is one stream without a seam.
func TestOneContinuousStream(t *testing.T) {
	t.Parallel()
	m, there := testMedia(t, 30000)
	prompt := bytes.Repeat([]byte{0x11}, 800)
	go func() {
		m.play(context.Background(), prompt)
		relay := func(n int, seq uint16, stamp uint32) {
			for i := range n {
				m.out.relay(&rtp.Packet{Header: rtp.Header{SequenceNumber: seq + uint16(i), Timestamp: stamp + uint32(i*160)}, Payload: bytes.Repeat([]byte{0xff}, 160)}, voice, audio.PCMU, time.Now())
				time.Sleep(frame)
			}
		}
		relay(5, 65533, 1<<32-300) // both wrap
		time.Sleep(100 * time.Millisecond)
		relay(3, 2, 4000)
		relay(3, 40000, 90_000_000) // another source: numbers jump
		m.beep()
		relay(12, 40003, 90_000_480) // mixed in
		time.Sleep(100 * time.Millisecond)
		m.beep() // alone
		time.Sleep(350 * time.Millisecond)
		m.play(context.Background(), prompt)
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
	cfg := &Config{MediaIP: netip.MustParseAddr("127.0.0.1"), MediaFrom: 30101, MediaTo: 30106}
	var open []*media
	for {
		m, err := openMedia(cfg, &Counters{}, nil)
		if err != nil {
			break
		}
		if m.local.Port()%2 != 0 || m.local.Port() < 30101 || m.local.Port() > 30106 {
			t.Errorf("port %d", m.local.Port())
		}
		open = append(open, m)
	}
	if len(open) != 3 {
		t.Errorf("%d ports in a range of three even ones", len(open))
	}
	for _, m := range open {
		m.close()
	}
	m, err := openMedia(cfg, &Counters{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.close()
}

func TestLock(t *testing.T) {
	t.Parallel()
	m, _ := testMedia(t, 30200)
	home, nat := netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("198.51.100.7")
	d := description{addr: netip.AddrPortFrom(home, 4000), dir: sendrecv, events: 101}
	m.agree(d, audio.PCMU, nat, true)
	var p rtp.Packet
	pass := func(addr netip.Addr, port uint16, ssrc uint32, pt uint8) kind {
		b, _ := (&rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: pt, SSRC: ssrc}, Payload: []byte{1, 2, 3, 4}}).Marshal()
		k, _ := m.admit(&p, b, netip.AddrPortFrom(addr, port))
		return k
	}
	steps := []struct {
		what string
		got  kind
		want kind
	}{
		{"a stranger", pass(netip.MustParseAddr("203.0.113.1"), 4000, 1, 0), dropped},
		{"a codec not agreed on", pass(nat, 5555, 1, 8), dropped},
		{"the phone behind its NAT", pass(nat, 5555, 1, 0), voice},
		{"another port of it", pass(nat, 5556, 1, 0), dropped},
		{"another SSRC of it", pass(nat, 5555, 2, 0), dropped},
		{"the address it named", pass(home, 4000, 1, 0), dropped},
		{"its keys", pass(nat, 5555, 1, 101), event},
	}
	m.agree(d, audio.PCMU, nat, false) // hold and resume
	steps = append(steps, []struct {
		what string
		got  kind
		want kind
	}{{"another SSRC after a hold", pass(nat, 5555, 2, 0), dropped}}...)
	m.agree(d, audio.PCMU, nat, true) // a proven re-INVITE
	steps = append(steps, []struct {
		what string
		got  kind
		want kind
	}{{"another source after a proven re-INVITE", pass(home, 4000, 3, 0), voice}, {"the old source", pass(nat, 5555, 1, 0), dropped}}...)
	for _, s := range steps {
		if s.got != s.want {
			t.Errorf("%s: got %d, want %d", s.what, s.got, s.want)
		}
	}
}

func TestPlayToNobodyIsNotHeard(t *testing.T) {
	t.Parallel()
	m, _ := testMedia(t, 30300)
	d := description{addr: netip.MustParseAddrPort("127.0.0.1:4000"), dir: sendonly} // it put us on hold
	m.agree(d, audio.PCMU, netip.Addr{}, false)
	if err := m.play(t.Context(), make([]byte, 320)); err == nil {
		t.Error("a prompt was heard by a party that does not listen")
	}
}

func TestReadSDP(t *testing.T) {
	t.Parallel()
	const head = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
	for name, c := range map[string]struct {
		body string
		want string // codecs, events, direction, address; "" for refused
	}{
		"plain":                       {head + "m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n", "[PCMU PCMA] 101 sendrecv 192.0.2.1:4000"},
		"A-law first, odd event":      {head + "m=audio 4000 RTP/AVP 8 0 97\r\na=rtpmap:97 Telephone-Event/8000/1\r\na=fmtp:97 0-16\r\n", "[PCMA PCMU] 97 sendrecv 192.0.2.1:4000"},
		"bare newlines, none at last": {strings.ReplaceAll(head, "\r", "") + "m=audio 4000 RTP/AVP 0\na=sendonly", "[PCMU] 0 sendonly 192.0.2.1:4000"},
		"direction of the session":    {head + "a=inactive\r\nm=audio 4000 RTP/AVP 0\r\n", "[PCMU] 0 inactive 192.0.2.1:4000"},
		"address of the stream":       {head + "m=audio 4000 RTP/AVP 0\r\nc=IN IP4 192.0.2.9/127\r\n", "[PCMU] 0 sendrecv 192.0.2.9:4000"},
		"the old hold":                {head + "m=audio 4000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n", "[PCMU] 0 sendonly 0.0.0.0:4000"},
		"video first":                 {head + "m=video 5000 RTP/AVP 96\r\nm=audio 4000 RTP/AVP 0\r\n", "[PCMU] 0 sendrecv 192.0.2.1:4000"},
		"IPv6":                        {strings.ReplaceAll(head, "IP4 192.0.2.1", "IP6 2001:db8::1") + "m=audio 4000 RTP/AVP 0\r\n", "[PCMU] 0 sendrecv [2001:db8::1]:4000"},
		"only other codecs":           {head + "m=audio 4000 RTP/AVP 18\r\n", "[] 0 sendrecv 192.0.2.1:4000"},
		"PCMU by another number":      {head + "m=audio 4000 RTP/AVP 99\r\na=rtpmap:99 PCMU/8000\r\n", "[] 0 sendrecv 192.0.2.1:4000"},
		"a lie about type 0":          {head + "m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 telephone-event/8000\r\n", "[PCMU] 0 sendrecv 192.0.2.1:4000"},
		"wide band events":            {head + "m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/48000\r\n", "[PCMU] 0 sendrecv 192.0.2.1:4000"},
		"refused stream":              {head + "m=audio 0 RTP/AVP 0\r\n", ""},
		"encrypted":                   {head + "m=audio 4000 RTP/SAVP 0\r\n", ""},
		"no address":                  {"v=0\r\nm=audio 4000 RTP/AVP 0\r\n", ""},
		"a name for an address":       {strings.ReplaceAll(head, "192.0.2.1", "phone.example") + "m=audio 4000 RTP/AVP 0\r\n", ""},
		"multicast":                   {strings.ReplaceAll(head, "192.0.2.1", "224.0.0.1") + "m=audio 4000 RTP/AVP 0\r\n", ""},
		"port of 70000":               {head + "m=audio 70000 RTP/AVP 0\r\n", ""},
		"too many streams":            {head + strings.Repeat("m=audio 4000 RTP/AVP 0\r\n", 9), ""},
		"too many lines":              {head + strings.Repeat("a=x\r\n", 300), ""},
		"too large":                   {head + strings.Repeat("x", 9000), ""},
		"empty":                       {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := readSDP([]byte(c.body))
			if c.want == "" {
				if err == nil {
					t.Errorf("got %+v, want it refused", d)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := spell(d); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func spell(d description) string {
	var names []string
	for _, c := range d.codecs {
		names = append(names, c.String())
	}
	return "[" + strings.Join(names, " ") + "] " + itoa(int(d.events)) + " " + string(d.dir) + " " + d.addr.String()
}

func itoa(n int) string {
	if n == 0 {
		return "0"
	}
	return strings.TrimLeft(string([]byte{byte('0' + n/100), byte('0' + n/10%10), byte('0' + n%10)}), "0")
}

// Streams that we do not take are refused in their place.
func TestAnswerKeepsTheOrderOfStreams(t *testing.T) {
	t.Parallel()
	d, err := readSDP([]byte("v=0\r\nc=IN IP4 192.0.2.1\r\nm=video 5000 RTP/AVP 96\r\nm=audio 4000 RTP/AVP 0\r\nm=audio 4002 RTP/AVP 8\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	o := ours{addr: netip.MustParseAddrPort("192.0.2.5:7000"), codecs: []audio.Codec{audio.PCMU}, dir: sendrecv, media: d.media, audio: d.audio}
	got := string(o.write())
	if v, a, b := strings.Index(got, "m=video 0 "), strings.Index(got, "m=audio 7000 RTP/AVP 0\r\n"), strings.Index(got, "m=audio 0 "); v < 0 || a < v || b < a {
		t.Errorf("the answer is %s", got)
	}
}

// FuzzSDP: whatever is read can be answered, and the answer can be read.
func FuzzSDP(f *testing.F) {
	f.Add([]byte("v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendonly"))
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := readSDP(body)
		if err != nil || len(d.codecs) == 0 {
			return
		}
		if !d.addr.IsValid() || d.addr.Port() == 0 || len(d.media) > maxMedia || len(d.codecs) > 2 {
			t.Fatalf("read %+v", d)
		}
		o := ours{addr: netip.MustParseAddrPort("192.0.2.5:7000"), codecs: d.codecs[:1], events: d.events, dir: d.dir.mirror(), media: d.media, audio: d.audio}
		answer := o.write()
		again, err := readSDP(answer)
		if err != nil || len(again.codecs) != 1 || again.codecs[0] != d.codecs[0] || again.dir != d.dir.mirror() || len(again.media) != len(d.media) {
			t.Fatalf("the answer %q reads as %+v, %v", answer, again, err)
		}
		if bytes.Count(answer, []byte("\nm=")) != len(d.media) {
			t.Fatalf("the answer %q has not %d streams", answer, len(d.media))
		}
	})
}

// FuzzRTP plays datagrams, each behind two bytes of length, from an address
// that is allowed: what is let pass is of an agreed kind and of one source.
func FuzzRTP(f *testing.F) {
	f.Add([]byte{0, 16, 0x80, 101, 0, 1, 0, 0, 0, 1, 0, 0, 0, 9, 1, 0x8a, 3, 0xc0})
	f.Fuzz(func(t *testing.T, script []byte) {
		m := &media{count: &Counters{}, agreed: true, codec: audio.PCMU, event: 101}
		m.allowed[0] = netip.MustParseAddr("127.0.0.1")
		from := netip.MustParseAddrPort("127.0.0.1:4000")
		var p rtp.Packet
		pressed, stamps := 0, map[uint32]bool{}
		for len(script) >= 2 {
			n := min(int(binary.BigEndian.Uint16(script))%maxRTP, len(script)-2)
			data := script[2 : 2+n]
			script = script[2+n:]
			k, codec := m.admit(&p, data, from)
			switch k {
			case dropped:
				continue
			case voice:
				if p.PayloadType != 0 || codec != audio.PCMU {
					t.Fatalf("a voice of type %d", p.PayloadType)
				}
			case event:
				if p.PayloadType != 101 {
					t.Fatalf("a key of type %d", p.PayloadType)
				}
				stamps[p.Timestamp] = true
				if _, is := m.keypad.Read(p.Timestamp, p.Payload); is {
					pressed++
				}
			}
			if !m.locked || p.SSRC != m.ssrc || len(p.Payload) == 0 || p.Version != 2 {
				t.Fatal("a packet of another source passed")
			}
		}
		if pressed > len(stamps) {
			t.Fatalf("%d keys from %d timestamps", pressed, len(stamps))
		}
	})
}

// FuzzGate: no message makes the gate panic, and none with a trick in its head
// passes.
func FuzzGate(f *testing.F) {
	f.Add([]byte("OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP a\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if !looksLikeSIP(data) || !clean(data) {
			return
		}
		head, _, _ := bytes.Cut(data, []byte("\r\n\r\n"))
		if rest := bytes.ReplaceAll(head, []byte("\r\n"), nil); bytes.ContainsAny(rest, "\r\n\x00\x7f") {
			t.Fatalf("passed %q", head)
		}
	})
}
