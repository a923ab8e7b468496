package webrtc

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/logging"
	"github.com/pion/srtp/v3"

	"yesline"
)

// setupTime is how long a browser has from our answer until its voice is
// encrypted: what does not end is cut.
const setupTime = 10 * time.Second

// newCertificate makes the certificate of one handset: no key lives longer
// than its call, and two calls cannot be told to be of one house by it.
func newCertificate() (tls.Certificate, [32]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, [32]byte{}, fmt.Errorf("making a call's certificate: %w", err)
	}
	serial := make([]byte, 8)
	rand.Read(serial) // never fails
	now := time.Now()
	form := &x509.Certificate{SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: "call"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, [32]byte{}, fmt.Errorf("making a call's certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, sha256.Sum256(der), nil
}

// is reports whether a certificate is the one of the offer (RFC 8122).
func (f fingerprint) is(der []byte) bool {
	switch f.hash {
	case "sha-256":
		sum := sha256.Sum256(der)
		return string(sum[:]) == f.sum
	case "sha-384":
		sum := sha512.Sum384(der)
		return string(sum[:]) == f.sum
	case "sha-512":
		sum := sha512.Sum512(der)
		return string(sum[:]) == f.sum
	}
	return false
}

// profiles are the SRTP ciphers we take, the cheapest first (RFC 7714, 3711).
var profiles = []dtls.SRTPProtectionProfile{dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80}

// secure is the DTLS server of one browser (RFC 5763, 5764). It returns when
// the connection ended: nil when the browser ended it.
func (h *Handset) secure() error {
	ctx, cancel := context.WithDeadline(h.ctx, h.made.Add(setupTime))
	defer cancel()
	quiet := &logging.DefaultLoggerFactory{Writer: io.Discard}
	conn, err := dtls.ServerWithOptions(h.records, h.records.LocalAddr(), dtls.WithCertificates(h.certificate),
		dtls.WithSRTPProtectionProfiles(profiles...), dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
		dtls.WithClientAuth(dtls.RequireAnyClientCert), dtls.WithInsecureSkipVerify(true), // no authority signs a browser: its fingerprint is checked instead
		dtls.WithVerifyPeerCertificate(h.verify), dtls.WithInsecureSkipVerifyHello(true), // ICE proved where it is
		dtls.WithMTU(1200), dtls.WithFlightInterval(400*time.Millisecond), dtls.WithLoggerFactory(quiet))
	if err != nil {
		return fmt.Errorf("preparing DTLS: %w", err)
	}
	defer conn.Close()
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("agreeing on keys with a browser: %w", err)
	}
	if err := h.key(conn); err != nil {
		return fmt.Errorf("agreeing on keys with a browser: %w", err)
	}
	defer context.AfterFunc(h.ctx, func() { conn.Close() })()
	for nothing := make([]byte, 64); ; { // no data channel: what comes is thrown away
		if _, err := conn.Read(nothing); errors.Is(err, io.EOF) || h.ctx.Err() != nil {
			return nil
		}
	}
}

func (h *Handset) verify(raw [][]byte, _ [][]*x509.Certificate) error {
	if len(raw) == 0 || !h.print.is(raw[0]) {
		return fmt.Errorf("the certificate is not the offer's: %w", yesline.Denied)
	}
	return nil
}

// key takes the keys of the voice out of the handshake (RFC 5764, 4.2).
func (h *Handset) key(conn *dtls.Conn) error {
	chosen, ok := conn.SelectedSRTPProtectionProfile()
	if !ok {
		return fmt.Errorf("no cipher for the voice: %w", yesline.Invalid)
	}
	profile := srtp.ProtectionProfile(chosen)
	keyLen, err := profile.KeyLen()
	if err != nil {
		return err
	}
	saltLen, err := profile.SaltLen()
	if err != nil {
		return err
	}
	state, ok := conn.ConnectionState()
	if !ok {
		return fmt.Errorf("the handshake left no state: %w", yesline.Unavailable)
	}
	secrets, err := state.ExportKeyingMaterial("EXTRACTOR-dtls_srtp", nil, 2*(keyLen+saltLen))
	if err != nil {
		return err
	}
	next := bytes.NewBuffer(secrets)
	theirKey, ourKey, theirSalt, ourSalt := next.Next(keyLen), next.Next(keyLen), next.Next(saltLen), next.Next(saltLen)
	in, err := srtp.CreateContext(theirKey, theirSalt, profile, srtp.SRTPReplayProtection(256), srtp.SRTCPReplayProtection(64))
	if err != nil {
		return err
	}
	out, err := srtp.CreateContext(ourKey, ourSalt, profile)
	if err != nil {
		return err
	}
	h.in.use(in)
	h.sealer.use(out)
	if at := h.out.Load(); at != nil {
		at.live.Store(true) // who finished the handshake read what we sent there
	}
	close(h.up)
	return nil
}

// records is the DTLS connection's network: records come from whichever proved
// path and go out by the one that is in use.
type records struct {
	handset *Handset
	queue   chan []byte
	closed  chan struct{}
	once    sync.Once

	mu      sync.Mutex // guards expired
	expired chan struct{}
}

const maxRecords = 32 // datagrams that wait to be read

func newRecords(h *Handset) *records {
	return &records{handset: h, queue: make(chan []byte, maxRecords), closed: make(chan struct{}), expired: make(chan struct{})}
}

// put copies a datagram; when too many wait it is lost, as networks do.
func (r *records) put(b []byte) {
	select {
	case r.queue <- bytes.Clone(b):
	default:
		r.handset.door.count.Odd.Add(1)
	}
}

func (r *records) ReadFrom(b []byte) (int, net.Addr, error) {
	r.mu.Lock()
	expired := r.expired
	r.mu.Unlock()
	select {
	case <-r.closed:
		return 0, nil, net.ErrClosed
	case <-expired:
		return 0, nil, os.ErrDeadlineExceeded
	case data := <-r.queue:
		return copy(b, data), r.LocalAddr(), nil
	}
}

func (r *records) WriteTo(b []byte, _ net.Addr) (int, error) {
	if at := r.handset.out.Load(); at != nil {
		at.send(b)
	}
	return len(b), nil
}

// SetReadDeadline knows a moment that has passed, which is how dtls ends a
// read, and none.
func (r *records) SetReadDeadline(t time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.expired:
		r.expired = make(chan struct{})
	default:
	}
	if !t.IsZero() && !t.After(time.Now()) {
		close(r.expired)
	}
	return nil
}

func (r *records) Close() error {
	r.once.Do(func() { close(r.closed) })
	return nil
}

func (r *records) LocalAddr() net.Addr              { return &net.UDPAddr{} }
func (r *records) SetDeadline(t time.Time) error    { return r.SetReadDeadline(t) }
func (r *records) SetWriteDeadline(time.Time) error { return nil }

// Of a DTLS record's header (RFC 6347, 4.1).
const (
	recordHeader   = 13
	recordMaxTypes = 64 // first bytes 20 to 63 are DTLS (RFC 7983)
	handshakeType  = 22
)

// unsafePlain reports whether a datagram holds a record in clear that could end
// or change a connection that stands: anybody may have sent it. A handshake's
// record may be the browser's, which did not hear our last flight.
func unsafePlain(b []byte) bool {
	for len(b) >= recordHeader {
		epoch, length := binary.BigEndian.Uint16(b[3:]), int(binary.BigEndian.Uint16(b[11:]))
		if epoch == 0 && b[0] != handshakeType {
			return true
		}
		if length > len(b)-recordHeader {
			return true
		}
		b = b[recordHeader+length:]
	}
	return len(b) > 0
}
