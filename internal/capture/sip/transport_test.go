package sip_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"yesline/internal/capture/sip"
)

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	form := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der := must(x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key))(t)
	return &authority{t, must(x509.ParseCertificate(der))(t), key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func (a *authority) signs(name string, ips ...net.IP) tls.Certificate {
	a.t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(a.t)
	form := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name}, IPAddresses: ips,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der := must(x509.CreateCertificate(rand.Reader, form, a.cert, &key.PublicKey, a.key))(a.t)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// byLine opens a world whose door listens on everything.
func byLine(t *testing.T, a *authority, more func(*sip.Config)) *world {
	t.Helper()
	return byLineAt(t, a, "127.0.0.1", more)
}

func byLineAt(t *testing.T, a *authority, ip string, more func(*sip.Config)) *world {
	t.Helper()
	return open(t, setup{ip: ip, cfg: func(c *sip.Config) {
		c.ListenTCP, c.ListenTLS = c.Listen, netip.MustParseAddrPort("127.0.0.1:0")
		c.TLS = &tls.Config{Certificates: []tls.Certificate{a.signs("calls.test", net.ParseIP(ip))}, ClientCAs: a.pool(), ClientAuth: tls.VerifyClientCertIfGiven}
		if more != nil {
			more(c)
		}
	}})
}

// A call by a connection: the answers come on it, and so does the BYE of our
// side (sipgo#361).
func TestCallsOverConnections(t *testing.T) {
	t.Parallel()
	for _, over := range []string{"TCP", "TLS"} {
		t.Run(over, func(t *testing.T) {
			t.Parallel()
			a := newAuthority(t)
			w := byLine(t, a, nil)
			r := newLine(t, w.door.Address(), nil)
			if over == "TLS" {
				r = newLine(t, w.door.Secure(), &tls.Config{RootCAs: a.pool(), ServerName: "calls.test"})
			}
			answer := r.invite(w, bobNumber, "line", sdp("127.0.0.1", 4000, ""))
			if code(answer) != "200" || !strings.Contains(header(answer, "Contact"), "transport="+strings.ToLower(over)) {
				t.Fatalf("got %q", answer)
			}
			bob := must(w.bobPhone.Answer(w.ctx))(t)
			ok(t, bob.Hangup(w.ctx))
			bye := r.gets("BYE")
			if !strings.Contains(header(bye, "Via"), "SIP/2.0/"+over+" ") {
				t.Errorf("the BYE is %s", bye)
			}
			r.says(bye, "200 OK", "")
			if row := w.ended(); row.Ending != "the callee hung up" {
				t.Errorf("the row is %+v", row)
			}
		})
	}
}

func TestMessagesInPieces(t *testing.T) {
	t.Parallel()
	w := byLine(t, newAuthority(t), nil)
	r := newLine(t, w.door.Address(), nil)
	msg := "INVITE sip:x@y SIP/2.0\r\nVia: SIP/2.0/TCP " + r.here() + ";branch=z9hG4bKp\r\nFrom: <sip:" + w.annName + "@b>;tag=1\r\nTo: <sip:x@y>\r\nCall-ID: p\r\nCSeq: 1 INVITE\r\nl: 3\r\n\r\nabc"
	for i := range len(msg) { // byte by byte
		r.write(msg[i : i+1])
	}
	r.write("\r\n\r\n")
	if got := r.read(2 * time.Second); code(got) != "401" {
		t.Errorf("in pieces: %q", got)
	}
	if got := r.read(2 * time.Second); got != "\r\n" {
		t.Errorf("kept alive by %q", got)
	}
	again := strings.Replace(msg, "z9hG4bKp", "z9hG4bKq", 1)
	r.write(msg + again + "\r\n\r\n" + msg) // several at once
	for range 3 {
		if got := r.read(2 * time.Second); code(got) != "401" {
			t.Errorf("several at once: %q", got)
		}
	}
}

// hungUp reports whether the door closes the connection within so long.
func (r *raw) hungUp(within time.Duration) bool {
	r.stream.SetReadDeadline(time.Now().Add(within))
	_, err := io.Copy(io.Discard, r.lines)
	var late net.Error
	return !(errors.As(err, &late) && late.Timeout())
}

func TestStreamsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	w := byLine(t, newAuthority(t), nil)
	head := "INVITE sip:x@y SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bKp\r\nFrom: <sip:" + w.annName + "@b>;tag=1\r\nTo: <sip:x@y>\r\nCall-ID: p\r\nCSeq: 1 INVITE\r\n"
	for name, msg := range map[string]string{
		"no length": head + "\r\n", "two lengths": head + "l: 0\r\nContent-Length: 5\r\n\r\n", "folded length": head + "Content-Length:\r\n 5\r\n\r\nabcde",
		"a negative length": head + "l: -1\r\n\r\n", "too long": head + "l: 9000\r\n\r\n", "an endless head": head + "X: " + strings.Repeat("x", 9000),
		"an endless line": strings.Repeat("x", 9000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newLine(t, w.door.Address(), nil)
			r.write(msg)
			if !r.hungUp(2 * time.Second) {
				t.Error("the connection stays")
			}
		})
	}
}

// Who connects and says nothing, or not all, keeps nobody else out.
func TestBoundedConnections(t *testing.T) {
	t.Parallel()
	w := byLine(t, newAuthority(t), nil)
	var all []*raw
	for range 25 {
		all = append(all, newLine(t, w.door.Address(), nil))
	}
	time.Sleep(100 * time.Millisecond)
	if got := w.door.Counters.Lines.Load(); got != 5 {
		t.Errorf("%d connections of one address were hung up on, want 5 of 25", got)
	}
	all[0].write("INVITE sip:x@y SIP/2.0\r\n")
	other := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
	var gone atomic.Int32
	var looking sync.WaitGroup
	for range 230 { // of many addresses
		other.LocalAddr.(*net.TCPAddr).IP[15]++
		conn := must(other.Dial("tcp", w.door.Address().String()))(t)
		t.Cleanup(func() { conn.Close() })
		looking.Go(func() {
			conn.SetReadDeadline(time.Now().Add(2 * time.Second))
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				gone.Add(1)
			}
		})
	}
	looking.Wait()
	if got := gone.Load(); got < 20 || got > 60 {
		t.Errorf("%d of 250 connections that prove nothing were hung up on, want about 50", got)
	}
	other.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 9, 9)}
	conn := must(other.Dial("tcp", w.door.Address().String()))(t)
	defer conn.Close()
	r := newLine(t, w.door.Address(), nil)
	r.stream.Close()
	r.stream, r.lines = conn, nil
	r.lines = bufio.NewReader(conn)
	if !r.challenged(w.annName) {
		t.Error("200 connections that prove nothing keep a phone out")
	}
}

// A peer that begins a message and does not end it, or never proves who it is,
// is hung up on.
func TestSlowPeers(t *testing.T) {
	t.Parallel()
	slow(t)
	w := byLine(t, newAuthority(t), nil)
	halting, mute, shy := newLine(t, w.door.Address(), nil), newLine(t, w.door.Address(), nil), newLine(t, w.door.Secure(), nil)
	began := time.Now()
	halting.write("INVITE sip:x")
	if !halting.hungUp(12*time.Second) || time.Since(began) < 9*time.Second {
		t.Errorf("half a message ended after %s", time.Since(began))
	}
	if !shy.hungUp(time.Second) {
		t.Error("a handshake that never comes keeps the connection")
	}
	if !mute.hungUp(32*time.Second) || time.Since(began) < 29*time.Second {
		t.Errorf("silence ended after %s", time.Since(began))
	}
}

// The trunk over TCP and TLS: we connect to it, and what comes by that
// connection is the trunk's.
func TestTrunkByConnection(t *testing.T) {
	t.Parallel()
	for _, over := range []string{"tcp", "tls"} {
		t.Run(over, func(t *testing.T) {
			t.Parallel()
			a := newAuthority(t)
			listener := must(net.Listen("tcp", "127.0.0.1:0"))(t)
			if over == "tls" {
				listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{a.signs("trunk.test")}, ClientCAs: a.pool(), ClientAuth: tls.RequireAndVerifyClientCert})
			}
			defer listener.Close()
			w := byLine(t, a, func(c *sip.Config) {
				c.Trunk, c.TrunkOver = netip.MustParseAddrPort(listener.Addr().String()), over
				c.TrunkTLS = &tls.Config{RootCAs: a.pool(), ServerName: "trunk.test", Certificates: []tls.Certificate{a.signs("us.test")}}
			})
			ann := w.dial(bobNumber)
			conn := must(listener.Accept())(t)
			defer conn.Close()
			trunk := &raw{t: t, stream: conn, lines: bufio.NewReader(conn)}
			invite := trunk.gets("INVITE")
			if !strings.Contains(invite, "SIP/2.0/"+strings.ToUpper(over)+" ") {
				t.Errorf("the INVITE is %s", invite)
			}
			trunk.says(invite, "180 Ringing", "")
			trunk.says(invite, "200 OK", sdp("127.0.0.1", 4000, ""))
			ack := trunk.gets("ACK")
			trunk.write("BYE sip:x@y SIP/2.0\r\nVia: SIP/2.0/" + strings.ToUpper(over) + " 127.0.0.1:9;branch=z9hG4bKb\r\nFrom: " + header(ack, "To") + "\r\nTo: " + header(ack, "From") +
				"\r\nCall-ID: " + header(ack, "Call-ID") + "\r\nCSeq: 9 BYE\r\nContent-Length: 0\r\n\r\n")
			if got := trunk.answer(2 * time.Second); code(got) != "200" {
				t.Errorf("the trunk's BYE gives %q", got)
			}
			<-ann.Done()
			if row := w.ended(); row.Ending != "the callee hung up" {
				t.Errorf("the row is %+v", row)
			}
		})
	}
}

// With a name, only who shows a certificate with it is the trunk.
func TestTrunkByCertificate(t *testing.T) {
	t.Parallel()
	a, other := newAuthority(t), newAuthority(t)
	w := byLine(t, a, func(c *sip.Config) {
		c.Trunk, c.TrunkFrom, c.TrunkName = netip.MustParseAddrPort("192.0.2.1:5061"), []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, "trunk.test"
	})
	options := func(r *raw) string {
		r.send("OPTIONS sip:THERE SIP/2.0", "VIA", "From: <sip:t@HERE>;tag=1", "To: <sip:THERE>", "Call-ID: o", "CSeq: 1 OPTIONS")
		return code(r.answer(300 * time.Millisecond))
	}
	if got := options(newRaw(t, w.door.Address())); got != "" {
		t.Errorf("without a certificate the trunk's address gets %s", got)
	}
	for name, c := range map[string]struct {
		certificate tls.Certificate
		want        string
	}{"the trunk's": {a.signs("trunk.test"), "200"}, "another's": {a.signs("phone.test"), ""}} {
		r := newLine(t, w.door.Secure(), &tls.Config{RootCAs: a.pool(), ServerName: "calls.test", Certificates: []tls.Certificate{c.certificate}})
		if got := options(r); got != c.want {
			t.Errorf("with %s certificate the answer is %q, want %q", name, got, c.want)
		}
	}
	forged := newLine(t, w.door.Secure(), &tls.Config{RootCAs: a.pool(), ServerName: "calls.test", Certificates: []tls.Certificate{other.signs("trunk.test")}})
	fmt.Fprint(forged.stream, "\r\n\r\n")
	if !forged.hungUp(2 * time.Second) {
		t.Error("a certificate that nobody we trust signed is taken")
	}
}

// Strangers get no answer, whatever they ask; a phone that answered a challenge
// does.
func TestStrangersGetNoAnswer(t *testing.T) {
	t.Parallel()
	w := byLine(t, newAuthority(t), nil)
	r := newRaw(t, w.door.Address())
	ask := func(r *raw, method, user string, more ...string) string {
		r.send(append([]string{method + " sip:" + user + "@THERE SIP/2.0", "VIA", "From: <sip:" + user + "@HERE>;tag=1", "To: <sip:" + user + "@THERE>",
			fmt.Sprintf("Call-ID: s%d", r.seq), "CSeq: 1 " + method, "Contact: <sip:x@HERE>"}, more...)...)
		return code(r.answer(150 * time.Millisecond))
	}
	for _, method := range []string{"OPTIONS", "REGISTER", "INVITE", "SUBSCRIBE", "MESSAGE", "BYE", "CANCEL", "ACK", "UPDATE", "NOTIFY", "PUBLISH", "REFER", "PRACK", "INFO"} {
		for _, user := range []string{"100", "admin", "911"} {
			if got := ask(r, method, user); got != "" {
				t.Errorf("%s %s of a stranger gives %s", method, user, got)
			}
		}
	}
	if got := ask(r, "OPTIONS", w.annName); got != "" {
		t.Errorf("OPTIONS before any password gives %s", got)
	}
	if w.door.Counters.Strangers.Load() < 40 {
		t.Errorf("%d strangers were counted", w.door.Counters.Strangers.Load())
	}
	answer := r.invite(w, bobNumber, "known", sdp("127.0.0.1", 4000, ""))
	if got := ask(r, "OPTIONS", w.annName); code(answer) != "200" || got != "200" {
		t.Errorf("OPTIONS of a phone that called gives %q", got)
	}
	if got := ask(newRawAt(t, w.door.Address(), "127.0.0.8"), "OPTIONS", w.annName); got != "" {
		t.Errorf("OPTIONS of another address gives %q", got)
	}
	r.within(answer, "BYE", 3, "")
}
