package sip

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/pion/transport/v5/deadline"

	"yesline"
	"yesline/internal/capture/media"
)

const (
	maxPacket     = 1500
	handshakeTime = 10 * time.Second // for a phone to finish DTLS
	waitingDTLS   = 32               // datagrams of a handshake that wait to be read
)

// tunnel carries a leg's sound over DTLS-SRTP (RFC 5763, 5764): a socket on
// which the phone shakes hands with us and then sends what only it can have
// encrypted. Nothing goes to an address before it finished a handshake with the
// certificate that its description promised.
type tunnel struct {
	door   *Door
	stream *media.Stream
	conn   *net.UDPConn
	local  netip.AddrPort
	ready  chan struct{} // closed when sound can flow, or never will: see err

	mu      sync.Mutex // guards the rest
	allowed [2]netip.Addr
	print   fingerprint
	begun   bool // a first handshake message came from source, or went there
	source  netip.AddrPort
	in, out *srtp.Context // nil until the handshake is over
	sealed  []byte
	err     error

	hello chan []byte   // datagrams of the handshake, to pipe
	first chan struct{} // closed when it is us who begin
	done  chan struct{}
	once  sync.Once
	owned sync.WaitGroup
}

// identity is the certificate that we show in every handshake. It lives as long
// as the door; a description binds it to the call.
type identity struct {
	certificate tls.Certificate
	print       fingerprint
}

func newIdentity() (identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return identity{}, fmt.Errorf("making a key for DTLS: %w", err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sound"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().AddDate(10, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		return identity{}, fmt.Errorf("making a certificate for DTLS: %w", err)
	}
	return identity{tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, fingerprintOf(der)}, nil
}

// openTunnel takes an odd port of the range: the even ones are the plane's. As
// of those, some are kept for who calls for help.
func (d *Door) openTunnel(l media.Listener, urgent bool) (*tunnel, error) {
	from, to := int(d.cfg.Media.From)|1, int(d.cfg.Media.To)
	ports := (to-from)/2 + 1
	if !d.digs(ports, urgent) {
		return nil, fmt.Errorf("no port for DTLS is free: %w", yesline.TooMany)
	}
	start := mrand.IntN(ports)
	for i := range ports {
		at := netip.AddrPortFrom(d.cfg.Media.IP, uint16(from+(start+i)%ports*2))
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		if err != nil {
			continue
		}
		t := &tunnel{door: d, conn: conn, local: at, ready: make(chan struct{}), hello: make(chan []byte, waitingDTLS), first: make(chan struct{}), done: make(chan struct{})}
		t.stream = d.plane.Loose(l, t.send)
		t.owned.Go(t.read)
		t.owned.Go(func() { t.shake(d.identity) })
		return t, nil
	}
	d.fills()
	return nil, fmt.Errorf("no port for DTLS is free: %w", yesline.TooMany)
}

// digs counts a tunnel in, if enough of so many ports are free besides.
func (d *Door) digs(ports int, urgent bool) bool {
	kept := media.Kept(ports)
	if urgent {
		kept = 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if ports-d.tunnels <= kept {
		return false
	}
	d.tunnels++
	return true
}

// fills counts it out.
func (d *Door) fills() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tunnels--
}

// expects says whose handshake is taken: from these addresses, with this
// certificate. Once one was taken, no other is.
func (t *tunnel) expects(print fingerprint, allowed ...netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.print = print
	copy(t.allowed[:], allowed)
}

// begin makes us the one who begins, towards where the phone says it is.
func (t *tunnel) begin(at netip.AddrPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.begun && at.IsValid() && !at.Addr().IsUnspecified() {
		t.begun, t.source = true, at
		close(t.first)
	}
}

// keeps reports whether a new description speaks of the same certificate.
func (t *tunnel) keeps(print fingerprint) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Equal(t.print, print)
}

// wait returns when the handshake is over.
func (t *tunnel) wait(ctx context.Context) error {
	select {
	case <-t.ready:
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// read takes what comes until the socket is closed: handshakes and sound on one
// port, told apart by their first byte (RFC 7983).
func (t *tunnel) read() {
	buf, clear := make([]byte, maxPacket+1), make([]byte, 0, maxPacket+1)
	var p rtp.Packet
	for {
		n, from, err := t.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n == 0 || n > maxPacket {
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		switch first := buf[0]; {
		case first >= 20 && first <= 63:
			t.handshake(buf[:n], from)
		case first >= 128 && first <= 191 && (buf[1]&0x7f < 64 || buf[1]&0x7f > 95):
			if plain := t.open(clear, buf[:n], from); plain != nil && p.Unmarshal(plain) == nil {
				t.stream.Take(&p, time.Now())
			}
		}
	}
}

// open decrypts a packet of the phone; nil for anybody's else, a changed one,
// and one that came before.
func (t *tunnel) open(clear, data []byte, from netip.AddrPort) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.in == nil || from != t.source {
		return nil
	}
	plain, err := t.in.DecryptRTP(clear, data, nil)
	if err != nil {
		return nil
	}
	return plain
}

// send encrypts and sends a packet of ours.
func (t *tunnel) send(packet []byte) (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.out == nil {
		return os.ErrDeadlineExceeded // there is nobody yet
	}
	if t.sealed, err = t.out.EncryptRTP(t.sealed[:0], packet, nil); err != nil {
		return err
	}
	_, err = t.conn.WriteToUDPAddrPort(t.sealed, t.source)
	return err
}

// handshake passes a datagram on. The first one from where the phone may be
// tells where it is.
func (t *tunnel) handshake(data []byte, from netip.AddrPort) {
	t.mu.Lock()
	if !t.begun && t.print.usable() && (from.Addr() == t.allowed[0] || from.Addr() == t.allowed[1]) {
		t.begun, t.source = true, from
	}
	mine := t.begun && from == t.source
	t.mu.Unlock()
	if !mine {
		return
	}
	select {
	case t.hello <- bytes.Clone(data):
	default: // they will send it again
	}
}

// shake takes the handshake; it ends with the tunnel.
func (t *tunnel) shake(me identity) {
	var err error
	defer func() {
		t.mu.Lock()
		t.err = err
		t.mu.Unlock()
		close(t.ready)
	}()
	p := &pipe{tunnel: t, late: deadline.New()}
	begins := false
	select {
	case p.first = <-t.hello:
	case <-t.first:
		begins = true
	case <-t.done:
		err = net.ErrClosed
		return
	}
	conn, err := t.greet(p, me, begins)
	if err != nil {
		err = fmt.Errorf("preparing DTLS: %w", err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTime)
	defer cancel()
	if err = conn.HandshakeContext(ctx); err != nil {
		conn.Close()
		err = fmt.Errorf("shaking hands for DTLS-SRTP: %w", err)
		return
	}
	if err = t.use(conn, begins); err != nil {
		conn.Close()
		return
	}
	t.owned.Go(func() { // what comes later: alerts, and messages that were repeated
		defer conn.Close()
		buf := make([]byte, maxPacket)
		for {
			if _, err := conn.Read(buf); err != nil {
				return
			}
		}
	})
}

// greet prepares the handshake. Whoever shows another certificate than the
// description promised is hung up on.
func (t *tunnel) greet(p *pipe, me identity, begins bool) (*dtls.Conn, error) {
	both := []dtls.Option{
		dtls.WithCertificates(me.certificate),
		dtls.WithSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80),
		dtls.WithVerifyPeerCertificate(func(shown [][]byte, _ [][]*x509.Certificate) error {
			if len(shown) == 0 || !t.keeps(fingerprintOf(shown[0])) {
				return fmt.Errorf("another certificate than the description promised: %w", yesline.Denied)
			}
			return nil
		}),
	}
	to := net.UDPAddrFromAddrPort(t.from())
	if begins {
		options := []dtls.ClientOption{dtls.WithInsecureSkipVerify(true)} // the fingerprint says more than an authority
		for _, o := range both {
			options = append(options, o)
		}
		return dtls.ClientWithOptions(p, to, options...)
	}
	options := []dtls.ServerOption{dtls.WithClientAuth(dtls.RequireAnyClientCert)}
	for _, o := range both {
		options = append(options, o)
	}
	return dtls.ServerWithOptions(p, to, options...)
}

func (t *tunnel) from() netip.AddrPort {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.source
}

// use takes the keys that the handshake made.
func (t *tunnel) use(conn *dtls.Conn, begins bool) error {
	chosen, ok := conn.SelectedSRTPProtectionProfile()
	if !ok {
		return fmt.Errorf("a handshake without SRTP: %w", yesline.Invalid)
	}
	state, ok := conn.ConnectionState()
	if !ok {
		return fmt.Errorf("a handshake without keys: %w", yesline.Invalid)
	}
	keys := srtp.Config{Profile: srtp.ProtectionProfile(chosen)}
	if err := keys.ExtractSessionKeysFromDTLS(&state, begins); err != nil {
		return fmt.Errorf("taking the keys of a handshake: %w", err)
	}
	in, err := srtp.CreateContext(keys.Keys.RemoteMasterKey, keys.Keys.RemoteMasterSalt, keys.Profile, srtp.SRTPReplayProtection(128))
	if err != nil {
		return fmt.Errorf("taking the keys of a handshake: %w", err)
	}
	out, err := srtp.CreateContext(keys.Keys.LocalMasterKey, keys.Keys.LocalMasterSalt, keys.Profile)
	if err != nil {
		return fmt.Errorf("taking the keys of a handshake: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.in, t.out = in, out
	return nil
}

// close gives the port back and waits for what uses it.
func (t *tunnel) close() {
	t.once.Do(func() {
		t.stream.Close()
		close(t.done)
		t.conn.Close()
		t.door.fills()
	})
	t.owned.Wait()
}

// pipe is what DTLS reads and writes: the one phone's datagrams.
type pipe struct {
	tunnel *tunnel
	first  []byte
	late   *deadline.Deadline
}

func (p *pipe) ReadFrom(b []byte) (int, net.Addr, error) {
	from := net.UDPAddrFromAddrPort(p.tunnel.from())
	if p.first != nil {
		n := copy(b, p.first)
		p.first = nil
		return n, from, nil
	}
	select {
	case data := <-p.tunnel.hello:
		return copy(b, data), from, nil
	case <-p.late.Done():
		return 0, from, os.ErrDeadlineExceeded
	case <-p.tunnel.done:
		return 0, from, net.ErrClosed
	}
}

func (p *pipe) WriteTo(b []byte, _ net.Addr) (int, error) {
	return p.tunnel.conn.WriteToUDPAddrPort(b, p.tunnel.from())
}

func (p *pipe) Close() error {
	p.late.Set(time.Unix(1, 0)) // whoever reads is woken
	return nil
}

func (p *pipe) LocalAddr() net.Addr                { return net.UDPAddrFromAddrPort(p.tunnel.local) }
func (p *pipe) SetDeadline(t time.Time) error      { return p.SetReadDeadline(t) }
func (p *pipe) SetWriteDeadline(t time.Time) error { return nil }

func (p *pipe) SetReadDeadline(t time.Time) error {
	p.late.Set(t)
	return nil
}
