package sip

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/pion/srtp/v3"

	"yesline"
	"yesline/internal/session"
)

const (
	cmKey   = "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw"                     // 30 bytes
	gcmKey  = "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3OA=="                     // 28
	gcmLong = "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ=" // 44
)

func TestReadCrypto(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + cmKey:                                   "1 AES_CM_128_HMAC_SHA1_80",
		"2 AES_CM_128_HMAC_SHA1_32 inline:" + cmKey + "|2^31":                         "2 AES_CM_128_HMAC_SHA1_32",
		"3 AEAD_AES_128_GCM inline:" + gcmKey:                                         "3 AEAD_AES_128_GCM",
		"3 AEAD_AES_128_GCM inline:" + strings.TrimRight(gcmKey, "="):                 "3 AEAD_AES_128_GCM",
		"999999999 AEAD_AES_256_GCM inline:" + gcmLong + " -X WSH=64 KDR=0":           "999999999 AEAD_AES_256_GCM",
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + cmKey + " UNENCRYPTED_SRTP":             "",
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + cmKey + " UNAUTHENTICATED_SRTP":         "",
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + cmKey + " KDR=1":                        "",
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + cmKey + "|2^31|1:4":                     "", // a number in each packet
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + cmKey + "|1:4":                          "",
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + cmKey + ";inline:" + cmKey:              "",
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + gcmKey:                                  "", // too short
		"1 AEAD_AES_256_GCM inline:" + cmKey:                                          "",
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + strings.Repeat("A", 40):                 "", // nothing but zeros
		"1 F8_128_HMAC_SHA1_80 inline:" + cmKey:                                       "",
		"1 NULL_HMAC_SHA1_80 inline:" + cmKey:                                         "",
		"-1 AES_CM_128_HMAC_SHA1_80 inline:" + cmKey:                                  "",
		"1234567890 AES_CM_128_HMAC_SHA1_80 inline:" + cmKey:                          "",
		"1 AES_CM_128_HMAC_SHA1_80 uri:https://keys.example":                          "",
		"1 AES_CM_128_HMAC_SHA1_80 inline:not-base64-at-all-not-base64-at-all-no":     "",
		"1 AES_CM_128_HMAC_SHA1_80":                                                   "",
		"":                                                                            "",
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + cmKey + " -" + strings.Repeat("x", 500): "",
	} {
		k, ok := readCrypto(line)
		got := ""
		if ok {
			got = strconv.Itoa(k.tag) + " " + k.key.Profile
		}
		if got != want {
			t.Errorf("%q reads as %q, want %q", line, got, want)
		}
	}
}

// FuzzCrypto: whatever is taken for a key is one, and never prints.
func FuzzCrypto(f *testing.F) {
	f.Add("1 AES_CM_128_HMAC_SHA1_80 inline:" + cmKey + "|2^31")
	f.Add("3 AEAD_AES_256_GCM inline:" + gcmLong)
	f.Fuzz(func(t *testing.T, line string) {
		k, ok := readCrypto(line)
		if !ok {
			return
		}
		if err := k.key.Check(); err != nil || k.tag < 0 || k.rank < 0 || k.rank >= len(suites) {
			t.Fatalf("%q is taken: %v", line, err)
		}
		mine := newKey(k.tag, k.key.Profile)
		var b strings.Builder
		mine.write(&b)
		again, ok := readCrypto(strings.TrimSuffix(strings.TrimPrefix(b.String(), "a=crypto:"), "\r\n"))
		if !ok || again.tag != k.tag || string(again.key.Key) != string(mine.key.Key) || string(again.key.Salt) != string(mine.key.Salt) {
			t.Fatalf("our line %q reads as %v", b.String(), again)
		}
	})
}

func TestReadFingerprint(t *testing.T) {
	t.Parallel()
	good := strings.Repeat("AB:", 31) + "AB"
	for value, want := range map[string]bool{"sha-256 " + good: true, "SHA-256 " + strings.ToLower(good): true, "sha-1 " + good: false,
		"sha-256 " + good + ":AB": false, "sha-256 " + good[3:]: false, "sha-256 " + strings.ReplaceAll(good, ":", "-"): false, "": false} {
		f, ok := readFingerprint(value)
		if ok != want || ok && !strings.EqualFold(f.String(), value) {
			t.Errorf("%q reads as %v, %t", value, f, ok)
		}
	}
}

func TestTimerIsDue(t *testing.T) {
	t.Parallel()
	start := time.Now()
	for name, c := range map[string]struct {
		timer         timer
		after         time.Duration
		refresh, dead bool
	}{
		"none":                 {timer{}, time.Hour, false, false},
		"theirs, early":        {timer{interval: 90 * time.Second}, 59 * time.Second, false, false},
		"theirs, a third left": {timer{interval: 90 * time.Second}, 60 * time.Second, false, true},
		"theirs, long":         {timer{interval: 1800 * time.Second}, 1767 * time.Second, false, false},
		"theirs, 32 s left":    {timer{interval: 1800 * time.Second}, 1768 * time.Second, false, true},
		"ours, early":          {timer{interval: 1800 * time.Second, ours: true}, 899 * time.Second, false, false},
		"ours, half":           {timer{interval: 1800 * time.Second, ours: true}, 900 * time.Second, true, false},
		"ours, under way":      {timer{interval: 1800 * time.Second, ours: true, asking: true}, 901 * time.Second, false, false},
		"ours, in vain":        {timer{interval: 1800 * time.Second, ours: true, asking: true}, 1768 * time.Second, false, true},
	} {
		c.timer.since = start
		if refresh, dead := c.timer.due(start.Add(c.after)); refresh != c.refresh || dead != c.dead {
			t.Errorf("%s: refresh %t, dead %t", name, refresh, dead)
		}
	}
}

func TestSessionExpires(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{"Session-Expires: 1800;refresher=uac": "30m0s uac", "x: 90": "1m30s ", "Session-Expires: 4000 ; Refresher=UAS": "1h6m40s uas",
		"Session-Expires: 90;refresher=me": "1m30s ", "Session-Expires: -5": "", "Session-Expires: 99999999999": "", "Session-Expires: ": "", "Expires: 5": ""} {
		name, value, _ := strings.Cut(line, ": ")
		req := sip.NewRequest(sip.INVITE, sip.Uri{})
		req.AppendHeader(sip.NewHeader(name, value))
		d, who, ok := expires(req)
		got := ""
		if ok {
			got = d.String() + " " + who
		}
		if got != want {
			t.Errorf("%q reads as %q, want %q", line, got, want)
		}
	}
}

// The names that session gives are those that the gate knows.
func TestOurNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"m22222222aaaaaaaa": true, "uabcdefgh234567ij": true, "100": false, "": false, "admin": false,
		"x22222222aaaaaaaa": false, "m22222222aaaaaaa1": false, "m22222222aaaaaaaaa": false, "M22222222AAAAAAAA": false} {
		if got := ourName(name); got != want {
			t.Errorf("%q is ours: %t", name, got)
		}
	}
}

// FuzzRegister: whatever a REGISTER says, what is kept is bounded and can be
// answered.
func FuzzRegister(f *testing.F) {
	f.Add("<sip:a@10.0.0.1:5060>;expires=3600", "", uint32(1))
	f.Add("*", "0", uint32(2))
	f.Add("<sip:a@10.0.0.1>;+sip.instance=\"<urn:uuid:1>\", <sips:b@c>;expires=0", "60", uint32(3))
	d := &Door{phones: map[yesline.DeviceID]*registration{}}
	device := session.Device{ID: yesline.NewDeviceID()}
	f.Fuzz(func(t *testing.T, contact, expires string, cseq uint32) {
		msg := "REGISTER sip:a SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: a\r\nCSeq: " +
			strconv.FormatUint(uint64(cseq), 10) + " REGISTER\r\nContact: " + contact + "\r\nExpires: " + expires + "\r\nContent-Length: 0\r\n\r\n"
		if !clean([]byte(msg)) || len(msg) > maxSIP {
			return
		}
		parsed, ok := d.read([]byte(msg))
		if !ok {
			return
		}
		req := parsed.(*sip.Request)
		now := time.Now()
		asked, code := readContacts(req, peer{}, now)
		if code != 0 {
			return
		}
		for _, a := range asked {
			if life := a.until.Sub(now); !a.contact.Wildcard && (life < 0 || life > longestRegistration || life > 0 && life < shortestRegistration) {
				t.Fatalf("%q is taken for %s", contact, life)
			}
		}
		d.rebind(device, "a", asked, req, now)
		if r := d.phones[device.ID]; r != nil && (len(r.contacts) > maxContacts || len(r.contacts) == 0) {
			t.Fatalf("%d contacts are kept", len(r.contacts))
		}
		_ = d.bound(req, device.ID, now).String()
	})
}

// FuzzFrame: whatever a stream begins with, the length that we take is one that
// sipgo takes too, and never more than a message may have.
func FuzzFrame(f *testing.F) {
	f.Add([]byte("OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/TCP a\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: a\r\nCSeq: 1 OPTIONS\r\nl: 3\r\n\r\nabcOPTIONS"))
	f.Fuzz(func(t *testing.T, data []byte) {
		size, err := frameLength(data)
		if err != nil || size == 0 || size > len(data) {
			if size > maxSIP {
				t.Fatalf("a message of %d bytes", size)
			}
			return
		}
		d := &Door{}
		if !looksLikeSIP(data[:size]) || !clean(data[:size]) {
			return
		}
		msg, ok := d.read(data[:size])
		if !ok || !framed(msg) {
			return
		}
		var seen int
		err = sip.NewParser().NewSIPStream().ParseSIPStream(data[:size], func(sip.Message) { seen++ })
		if seen != 1 && err == nil {
			t.Fatalf("sipgo sees %d messages in %q", seen, data[:size])
		}
	})
}

// What is encrypted with the right key is taken from the right source alone.
func TestTunnelHearsOneSource(t *testing.T) {
	t.Parallel()
	key, salt := []byte("1234567890123456"), []byte("12345678901234")
	out, err := srtp.CreateContext(key, salt, srtp.ProtectionProfileAes128CmHmacSha1_80)
	if err != nil {
		t.Fatal(err)
	}
	in, err := srtp.CreateContext(key, salt, srtp.ProtectionProfileAes128CmHmacSha1_80, srtp.SRTPReplayProtection(128))
	if err != nil {
		t.Fatal(err)
	}
	here, there := netip.MustParseAddrPort("127.0.0.1:4000"), netip.MustParseAddrPort("127.0.0.1:4001")
	tun := &tunnel{source: here}
	packet, err := out.EncryptRTP(nil, []byte{0x80, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7, 1, 2, 3}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := tun.open(nil, packet, here); got != nil {
		t.Error("something is heard before the handshake")
	}
	tun.in = in
	if got := tun.open(nil, packet, there); got != nil {
		t.Error("another source is heard")
	}
	if got := tun.open(nil, packet, here); len(got) != 15 {
		t.Errorf("the phone is not heard: %x", got)
	}
	if got := tun.open(nil, packet, here); got != nil {
		t.Error("a packet is heard twice")
	}
}
