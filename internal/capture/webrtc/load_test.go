//go:build linux

package webrtc_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/selfsign"
	"github.com/pion/logging"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/pion/stun/v4"
)

// The browsers of a benchmark live in a process of their own, so that the
// house's is measured alone: this binary again, under this variable.
const loadVariable = "YESLINE_WEBRTC_LOAD"

func TestMain(m *testing.M) {
	if os.Getenv(loadVariable) != "" {
		if err := load(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "the load:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// What the two processes tell each other, a line of JSON each.
type (
	order struct { // the house begins
		Calls   int
		Seconds int
	}
	proposal struct { // of one call
		Offer string
		RTP   netip.AddrPort // of the phone it is bridged to
	}
	reply struct {
		Answer string
		RTP    netip.AddrPort
	}
	ready  struct{ Calls int }
	result struct{ Sent, Heard, PhoneSent, PhoneHeard int64 }
)

// client is a browser that does the least: a check, a handshake, packets.
type client struct {
	conn        *net.UDPConn
	phone       *net.UDPConn
	answer      reply
	certificate [32]byte
	dtls        *dtls.Conn
	fd, phoneFD int
	in, out     *srtp.Context
	ssrc        uint32
	seq         uint16
	stamp       uint32
	packet      [400]byte
	header      rtp.Header
}

func load(from io.Reader, to io.Writer) error {
	in, out := json.NewDecoder(from), json.NewEncoder(to)
	var o order
	if err := in.Decode(&o); err != nil {
		return err
	}
	identity, err := selfsign.GenerateSelfSigned()
	if err != nil {
		return err
	}
	print := sha256.Sum256(identity.Certificate[0])
	clients := make([]*client, o.Calls)
	var setting sync.WaitGroup
	failed := make(chan error, o.Calls)
	slots := make(chan struct{}, 8)
	for i := range clients {
		c := &client{ssrc: uint32(1000 + i), certificate: print}
		clients[i] = c
		if err := c.open(); err != nil {
			return err
		}
		if err := out.Encode(proposal{c.offer(), c.phone.LocalAddr().(*net.UDPAddr).AddrPort()}); err != nil {
			return err
		}
		if err := in.Decode(&c.answer); err != nil {
			return err
		}
		slots <- struct{}{}
		setting.Go(func() {
			defer func() { <-slots }()
			if err := c.setUp(dtls.WithCertificates(identity)); err != nil {
				failed <- err
			}
		})
	}
	setting.Wait()
	select {
	case err := <-failed:
		return err
	default:
	}
	if err := out.Encode(ready{o.Calls}); err != nil {
		return err
	}
	var start ready
	if err := in.Decode(&start); err != nil {
		return err
	}
	r := talk(clients, time.Duration(o.Seconds)*time.Second)
	return out.Encode(r)
}

func (c *client) open() (err error) {
	any := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}
	if c.conn, err = net.ListenUDP("udp4", any); err != nil {
		return err
	}
	c.phone, err = net.ListenUDP("udp4", any)
	return err
}

func (c *client) offer() string {
	var digits []string
	for _, b := range c.certificate {
		digits = append(digits, fmt.Sprintf("%02X", b))
	}
	one := "c=IN IP4 0.0.0.0\r\na=ice-ufrag:load\r\na=ice-pwd:loadloadloadloadloadload\r\na=fingerprint:sha-256 " + strings.Join(digits, ":") +
		"\r\na=setup:actpass\r\na=rtcp-mux\r\na=rtpmap:0 PCMU/8000\r\n"
	return "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n" + one +
		fmt.Sprintf("a=mid:0\r\na=sendrecv\r\na=ssrc:%d cname:x\r\n", c.ssrc) + "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n" + one + "a=mid:1\r\na=recvonly\r\n"
}

// handshaking is the client's socket while DTLS uses it.
type handshaking struct {
	*net.UDPConn
	to   net.Addr
	over chan struct{}
}

func (h *handshaking) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		select {
		case <-h.over:
			return 0, nil, net.ErrClosed
		default:
		}
		n, from, err := h.UDPConn.ReadFrom(b)
		if err != nil || n > 0 && b[0] >= 20 && b[0] < 64 {
			return n, from, err
		}
	}
}

func (h *handshaking) Close() error { return nil }

func (c *client) setUp(identity dtls.Option) error {
	var at netip.AddrPort
	var name, password string
	for row := range strings.SplitSeq(c.answer.Answer, "\r\n") {
		key, value, _ := strings.Cut(row, ":")
		words := strings.Fields(value)
		switch {
		case key == "a=candidate" && words[2] == "udp":
			at = netip.MustParseAddrPort(words[4] + ":" + words[5])
		case key == "a=ice-ufrag":
			name = value
		case key == "a=ice-pwd":
			password = value
		}
	}
	to := net.UDPAddrFromAddrPort(at)
	m, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername(name+":load"),
		stun.RawAttribute{Type: stun.AttrUseCandidate}, stun.NewShortTermIntegrity(password), stun.Fingerprint)
	if err != nil {
		return err
	}
	back := make([]byte, 1500)
	c.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err = c.conn.WriteTo(m.Raw, to); err != nil {
		return err
	}
	if _, _, err = c.conn.ReadFrom(back); err != nil {
		return fmt.Errorf("the check is not answered: %w", err)
	}
	c.conn.SetReadDeadline(time.Time{})
	h := &handshaking{c.conn, to, make(chan struct{})}
	conn, err := dtls.ClientWithOptions(h, to, identity.(dtls.ClientOption), dtls.WithInsecureSkipVerify(true),
		dtls.WithSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM), dtls.WithLoggerFactory(&logging.DefaultLoggerFactory{Writer: io.Discard}))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	c.dtls = conn
	state, ok := conn.ConnectionState()
	if !ok {
		return errors.New("no state after the handshake")
	}
	secrets, err := state.ExportKeyingMaterial("EXTRACTOR-dtls_srtp", nil, 2*(16+12))
	if err != nil {
		return err
	}
	next := bytes.NewBuffer(secrets)
	ours, theirs, ourSalt, theirSalt := next.Next(16), next.Next(16), next.Next(12), next.Next(12)
	if c.out, err = srtp.CreateContext(ours, ourSalt, srtp.ProtectionProfileAeadAes128Gcm); err != nil {
		return err
	}
	if c.in, err = srtp.CreateContext(theirs, theirSalt, srtp.ProtectionProfileAeadAes128Gcm); err != nil {
		return err
	}
	close(h.over)
	c.conn.SetReadDeadline(time.Unix(1, 0)) // dtls reads no more
	if c.fd, err = takeOver(c.conn, to.AddrPort()); err != nil {
		return err
	}
	c.phoneFD, err = takeOver(c.phone, c.answer.RTP)
	return err
}

// talk sends a packet each 20 ms from each browser and each phone, spread over
// the milliseconds, and counts what comes back.
func talk(clients []*client, long time.Duration) (r result) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const slots = 20
	start := time.Now()
	var b [1500]byte
	drain := func(i int) {
		for {
			n := receive(clients[i].fd, b[:])
			if n <= 0 {
				break
			}
			if b[0] >= 128 && b[0] < 192 {
				r.Heard++
				if r.Heard%64 == 0 {
					if _, err := clients[i].in.DecryptRTP(nil, b[:n], nil); err != nil {
						r.Heard -= 1 << 40 // it shows
					}
				}
			}
		}
		for receive(clients[i].phoneFD, b[:]) > 0 {
			r.PhoneHeard++
		}
	}
	sound := bytes.Repeat([]byte{0x55}, 160)
	for slot := 0; time.Since(start) < long; slot++ {
		time.Sleep(time.Until(start.Add(time.Duration(slot) * time.Millisecond)))
		for i := slot % slots; i < len(clients); i += slots {
			c := clients[i]
			drain(i)
			c.seq++
			c.stamp += 160
			n := c.plain(sound)
			if send(c.phoneFD, c.packet[:n]) {
				r.PhoneSent++
			}
			sealed, err := c.out.EncryptRTP(c.packet[:0], c.packet[:n], &c.header)
			if err == nil && send(c.fd, sealed) {
				r.Sent++
			}
		}
	}
	time.Sleep(300 * time.Millisecond)
	for i := range clients {
		drain(i)
	}
	return r
}

func (c *client) plain(sound []byte) int {
	b := c.packet[:12]
	b[0], b[1] = 0x80, 0
	binary.BigEndian.PutUint16(b[2:], c.seq)
	binary.BigEndian.PutUint32(b[4:], c.stamp)
	binary.BigEndian.PutUint32(b[8:], c.ssrc)
	return 12 + copy(c.packet[12:], sound)
}
