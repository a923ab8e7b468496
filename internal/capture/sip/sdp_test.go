package sip

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"yesline/internal/audio"
)

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
			d, err := readSDP([]byte(c.body), means{})
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
	d, err := readSDP([]byte("v=0\r\nc=IN IP4 192.0.2.1\r\nm=video 5000 RTP/AVP 96\r\nm=audio 4000 RTP/AVP 0\r\nm=audio 4002 RTP/AVP 8\r\n"), means{})
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
	f.Add([]byte("v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw|2^31\r\na=recordpref:off\r\n"))
	f.Add([]byte("v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 UDP/TLS/RTP/SAVP 0\r\na=setup:actpass\r\na=fingerprint:sha-256 " + strings.Repeat("AB:", 31) + "AB\r\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := readSDP(body, means{sdes: true, dtls: true})
		if err != nil || len(d.codecs) == 0 {
			return
		}
		if !d.addr.IsValid() || d.addr.Port() == 0 || len(d.media) > maxMedia || len(d.codecs) > 2 || len(d.keys) > maxKeys {
			t.Fatalf("read %+v", d)
		}
		o := ours{addr: netip.MustParseAddrPort("192.0.2.5:7000"), codecs: d.codecs[:1], events: d.events, dir: d.dir.mirror(), media: d.media, audio: d.audio}
		in, out, ok := o.agreeKeys(d, false)
		if !ok || (in != nil) != (d.secured == bySDES) || in != nil && (in.Check() != nil || out.Check() != nil || in.Profile != out.Profile || string(in.Key) == string(out.Key)) {
			t.Fatalf("agreed on %v and %v", in, out)
		}
		answer := o.write()
		if bytes.Count(answer, []byte("\nm=")) != len(d.media) {
			t.Fatalf("the answer %q has not %d streams", answer, len(d.media))
		}
		if d.secured == byDTLS {
			return // its answer is passive, which no offer is
		}
		again, err := readSDP(answer, means{sdes: true, dtls: true})
		if err != nil || len(again.codecs) != 1 || again.codecs[0] != d.codecs[0] || again.dir != d.dir.mirror() || len(again.media) != len(d.media) || again.secured != d.secured {
			t.Fatalf("the answer %q reads as %+v, %v", answer, again, err)
		}
		if in != nil && (len(again.keys) != 1 || again.keys[0].tag != d.keys[0].tag || string(again.keys[0].key.Key) != string(out.Key)) {
			t.Fatalf("the answer %q has the keys %v", answer, again.keys)
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
