package sip_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/selfsign"
	"github.com/pion/srtp/v3"

	"yesline/internal/capture"
	"yesline/internal/capture/media"
	"yesline/internal/capture/sip"
)

// A call with its keys inside of TLS: what is spoken is encrypted both ways, a
// changed packet is not taken, and hold keeps the key.
func TestKeysInsideTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	w := byLine(t, a, nil)
	r := newLine(t, w.door.Secure(), &tls.Config{RootCAs: a.pool(), ServerName: "calls.test"})
	sound := must(net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}))(t)
	defer sound.Close()
	mine := []byte("1234567890123456" + "12345678901234")
	body := func(more string) string {
		return strings.Replace(sdp("127.0.0.1", sound.LocalAddr().(*net.UDPAddr).Port,
			"a=crypto:1 AES_CM_128_HMAC_SHA1_32 inline:MTIzNDU2Nzg5MDEyMzQ1NjEyMzQ1Njc4OTAxMjM0\r\na=crypto:7 AES_CM_128_HMAC_SHA1_80 inline:MTIzNDU2Nzg5MDEyMzQ1NjEyMzQ1Njc4OTAxMjM0|2^31\r\n"+
				"a=crypto:8 AEAD_AES_256_GCM inline:dG9vIHNob3J0\r\na=crypto:9 AES_CM_128_HMAC_SHA1_80 inline:MTIzNDU2Nzg5MDEyMzQ1NjEyMzQ1Njc4OTAxMjM0 UNENCRYPTED_SRTP\r\n"+more), "RTP/AVP", "RTP/SAVP", 1)
	}
	answer := r.invite(w, bobNumber, "sdes", body(""))
	theirs, tag := keyOf(t, answer)
	if code(answer) != "200" || tag != "7" || !strings.Contains(answer, "m=audio "+fmt.Sprint(mediaPort(answer))+" RTP/SAVP") {
		t.Fatalf("got %q", answer)
	}
	in := must(srtp.CreateContext(theirs[:16], theirs[16:], srtp.ProtectionProfileAes128CmHmacSha1_80))(t)
	out := must(srtp.CreateContext(mine[:16], mine[16:], srtp.ProtectionProfileAes128CmHmacSha1_80))(t)
	door := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: mediaPort(answer)}
	buf := make([]byte, 2048)
	sound.SetReadDeadline(time.Now().Add(5 * time.Second))
	n := must(sound.Read(buf))(t)
	if plain, err := in.DecryptRTP(nil, buf[:n], nil); err != nil || len(plain) != 172 {
		t.Errorf("what the door sends cannot be decrypted: %v", err)
	}
	bob := must(w.bobPhone.Answer(w.ctx))(t)
	ok(t, bob.Press(w.ctx, "2"))
	seq := uint16(0)
	say := func(d time.Duration, hz float64) {
		frames := tone(hz, d)
		for at := 0; at+160 <= len(frames); at += 160 {
			seq++
			sealed := must(out.EncryptRTP(nil, rtp(0, seq, uint32(seq)*160, 7, frames[at:at+160]), nil))(t)
			if at%1600 == 0 {
				forged := bytes.Clone(sealed)
				forged[20] ^= 1
				sound.WriteToUDP(forged, door)
				sound.WriteToUDP(rtp(0, seq, uint32(seq)*160, 7, voice), door) // in clear
			}
			sound.WriteToUDP(sealed, door)
			time.Sleep(20 * time.Millisecond)
		}
	}
	say(time.Second, 440)
	sealed := must(out.EncryptRTP(nil, rtp(101, 900, 900*160, 7, []byte{2, 0x8a, 3, 0xc0}), nil))(t)
	sound.WriteToUDP(sealed, door)
	w.hears(bob, "not_recorded")
	held := r.within(answer, "INVITE", 3, body("a=sendonly\r\n"))
	r.ack(held)
	again, _ := keyOf(t, held)
	if !bytes.Equal(again, theirs) || !strings.Contains(held, "a=recvonly") {
		t.Errorf("on hold the answer is %q", held)
	}
	if got := r.within(answer, "INVITE", 4, strings.Replace(body(""), "RTP/SAVP", "RTP/AVP", 1)); code(got) != "488" {
		t.Errorf("going on in clear gives %q", got)
	}
	resumed := r.within(answer, "INVITE", 5, body(""))
	r.ack(resumed)
	seq = 1000
	say(1500*time.Millisecond, 440)
	w.hear(bob, 440)
	if got := w.plane.Counters().Forged.Load(); got == 0 {
		t.Error("no forged packet was counted")
	}
	r.within(answer, "BYE", 9, "")
}

// keyOf reads the one crypto line of an answer.
func keyOf(t *testing.T, answer string) (key []byte, tag string) {
	t.Helper()
	_, rest, found := strings.Cut(answer, "a=crypto:")
	line, _, _ := strings.Cut(rest, "\r\n")
	f := strings.Fields(line)
	if !found || len(f) != 3 || strings.Count(answer, "a=crypto:") != 1 {
		t.Fatalf("the answer has no one key: %q", answer)
	}
	return must(base64.StdEncoding.DecodeString(strings.TrimPrefix(f[2], "inline:")))(t), f[0]
}

// withDTLS opens a door that takes DTLS-SRTP.
func withDTLS(t *testing.T) *world {
	t.Helper()
	return open(t, setup{cfg: func(c *sip.Config) {
		first := uint16(20000 + nextPorts.Add(1)*40)
		c.Media = media.Config{IP: netip.MustParseAddr("127.0.0.1"), From: first, To: first + 38}
	}})
}

// fromOne lets DTLS talk to one address over a socket.
type fromOne struct {
	*net.UDPConn
	rtp chan []byte
}

func (f fromOne) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := f.UDPConn.ReadFrom(b)
		if err != nil || n > 0 && b[0] >= 20 && b[0] <= 63 {
			return n, from, err
		}
		select {
		case f.rtp <- bytes.Clone(b[:n]):
		default:
		}
	}
}

func TestDTLS(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lies bool // the certificate is another than the description promised
	}{"the promised certificate": {}, "another certificate": {true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := withDTLS(t)
			r := newRaw(t, w.door.Address())
			sound := must(net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}))(t)
			defer sound.Close()
			cert := must(selfsign.GenerateSelfSigned())(t)
			sum := sha256.Sum256(cert.Certificate[0])
			if c.lies {
				sum[0] ^= 1
			}
			hex := strings.TrimSuffix(fmt.Sprintf("% X", sum), " ")
			body := strings.Replace(sdp("127.0.0.1", sound.LocalAddr().(*net.UDPAddr).Port, "a=setup:actpass\r\na=fingerprint:sha-256 "+strings.ReplaceAll(hex, " ", ":")+"\r\n"),
				"RTP/AVP", "UDP/TLS/RTP/SAVP", 1)
			answer := r.invite(w, bobNumber, "dtls"+fmt.Sprint(c.lies), body)
			if code(answer) != "200" || !strings.Contains(answer, "a=setup:passive") || !strings.Contains(answer, "a=fingerprint:sha-256 ") {
				t.Fatalf("got %q", answer)
			}
			door := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: mediaPort(answer)}
			probe := must(net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 77)}))(t) // from elsewhere: nothing comes back
			defer probe.Close()
			probe.WriteToUDP([]byte{22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1}, door)
			one := fromOne{sound, make(chan []byte, 4096)}
			conn := must(dtls.ClientWithOptions(one, door, dtls.WithCertificates(cert), dtls.WithInsecureSkipVerify(true),
				dtls.WithSRTPProtectionProfiles(dtls.SRTP_AES128_CM_HMAC_SHA1_80)))(t)
			ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
			defer cancel()
			err := conn.HandshakeContext(ctx)
			if c.lies {
				r.says(r.gets("BYE"), "200 OK", "")
				if row := w.ended(); row.Ending != "the phone did not finish its DTLS handshake" {
					t.Errorf("with another certificate the call is %+v, %v", row, err)
				}
				return
			}
			ok(t, err)
			go func() {
				for buf := make([]byte, 2048); ; {
					if _, err := conn.Read(buf); err != nil {
						return
					}
				}
			}()
			state, _ := conn.ConnectionState()
			keys := srtp.Config{Profile: srtp.ProtectionProfileAes128CmHmacSha1_80}
			ok(t, keys.ExtractSessionKeysFromDTLS(&state, true))
			in := must(srtp.CreateContext(keys.Keys.RemoteMasterKey, keys.Keys.RemoteMasterSalt, keys.Profile))(t)
			out := must(srtp.CreateContext(keys.Keys.LocalMasterKey, keys.Keys.LocalMasterSalt, keys.Profile))(t)
			select {
			case sealed := <-one.rtp:
				if plain, err := in.DecryptRTP(nil, sealed, nil); err != nil || len(plain) != 172 {
					t.Errorf("what the door sends cannot be decrypted: %v", err)
				}
			case <-ctx.Done():
				t.Fatal("the door sends nothing")
			}
			bob := must(w.bobPhone.Answer(w.ctx))(t)
			ok(t, bob.Press(w.ctx, "2"))
			frames := tone(440, 3500*time.Millisecond)
			for i := 0; i*160+160 <= len(frames); i++ {
				packet := rtp(0, uint16(i), uint32(i)*160, 7, frames[i*160:i*160+160])
				if i == 20 {
					packet = rtp(101, uint16(i), uint32(i)*160, 7, []byte{2, 0x8a, 3, 0xc0})
				}
				sound.WriteToUDP(must(out.EncryptRTP(nil, packet, nil))(t), door)
				time.Sleep(20 * time.Millisecond)
			}
			w.hear(bob, 440)
			if got := r.within(answer, "INVITE", 4, strings.Replace(body, "UDP/TLS/RTP/SAVP", "RTP/AVP", 1)); code(got) != "488" {
				t.Errorf("going on in clear gives %q", got)
			}
			r.within(answer, "BYE", 9, "")
			w.ended()
		})
	}
}

// A phone that promises DTLS and never shakes hands has no call.
func TestHandshakeThatNeverEnds(t *testing.T) {
	t.Parallel()
	slow(t)
	w := withDTLS(t)
	r := newRaw(t, w.door.Address())
	body := strings.Replace(sdp("127.0.0.1", 4000, "a=setup:active\r\na=fingerprint:sha-256 "+strings.Repeat("AB:", 31)+"AB\r\n"), "RTP/AVP", "UDP/TLS/RTP/SAVP", 1)
	answer := r.invite(w, bobNumber, "never", body)
	began := time.Now()
	conn := must(net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", mediaPort(answer))))(t)
	defer conn.Close()
	conn.Write([]byte{22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1})
	r.says(r.getsWithin("BYE", 12*time.Second), "200 OK", "")
	if took := time.Since(began); took < 9*time.Second {
		t.Errorf("hung up on after %s", took)
	}
	if row := w.ended(); row.Ending != "the phone did not finish its DTLS handshake" {
		t.Errorf("the row is %+v", row)
	}
}

// A house that wants all sound encrypted takes none in clear: not from a phone,
// not towards one, and not by an INVITE without an offer.
func TestNoSoundInClear(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	w := byLine(t, a, func(c *sip.Config) {
		c.Encrypted, c.TrunkOver, c.TrunkSRTP, c.Trunk = true, "tls", true, netip.MustParseAddrPort("127.0.0.1:9")
	})
	r := newRaw(t, w.door.Address())
	for name, body := range map[string]string{"an offer in clear": sdp("127.0.0.1", 4000, ""), "no offer": ""} {
		if got := r.invited(w, bobNumber, strings.ReplaceAll(name, " ", ""), body); code(got) != "488" || !strings.Contains(header(got, "Warning"), "SRTP") {
			t.Errorf("%s gives %q", name, got)
		}
	}
	help := r.invite(w, "911", "help", sdp("127.0.0.1", 4000, ""))
	if code(help) != "200" {
		t.Errorf("a call for help in clear gives %q", help)
	}
	r.within(help, "BYE", 3, "")
	if got := r.registers(w, 1, "<sip:ann@HERE>"); code(got) != "200" {
		t.Fatalf("REGISTER gives %q", got)
	}
	picked, hangup := w.rings(w.door.Ring(w.ann.Person))
	defer hangup()
	if _, err := picked(); err == nil {
		t.Error("a phone that cannot encrypt was rung")
	}
	s := newLine(t, w.door.Secure(), &tls.Config{RootCAs: a.pool(), ServerName: "calls.test"})
	offer := s.invited(w, bobNumber, "late", "")
	if code(offer) != "200" || !strings.Contains(offer, "RTP/SAVP") || strings.Count(offer, "a=crypto:") != 4 {
		t.Fatalf("an INVITE without an offer, over TLS, gives %q", offer)
	}
	s.ackWith(offer, "CSeq: 2 ACK", sdp("127.0.0.1", 4000, ""))
	s.says(s.gets("BYE"), "200 OK", "")
	if row := w.ended(); row.Ending != capture.ErrNoACK.Error() {
		t.Errorf("an answer in clear gives %+v", row)
	}
}
