package app

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"yesline/internal/web/webtest"

	"golang.org/x/net/http2"

	"yesline"
)

const ourHost = "calls.example.org"

// wire is a house whose pages are open and nothing else.
type wire struct {
	*App
	t     *testing.T
	roots *x509.CertPool
}

// openWire opens the pages of a house for ourHost by TLS, unless change says
// otherwise.
func openWire(t *testing.T, change func(*Config)) *wire {
	t.Helper()
	ca := newAuthority(t)
	cfg := Defaults()
	folder := t.TempDir()
	cfg.Data, cfg.HTTP, cfg.URL = filepath.Join(folder, "data"), "127.0.0.1:0", "https://"+ourHost
	cfg.TLS = TLS{Certificate: filepath.Join(folder, "certificate.pem"), Key: filepath.Join(folder, "key.pem")}
	ca.issue(t, 2, cfg.TLS)
	if change != nil {
		change(&cfg)
	}
	a, err := New(t.Context(), cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := a.openPages(); err != nil {
		t.Fatal(err)
	}
	return &wire{a, t, ca.roots}
}

// client is a browser that finds every name here.
func (w *wire) client(http2 bool) *http.Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", w.PagesAddress())
		},
		TLSClientConfig:   &tls.Config{RootCAs: w.roots, ServerName: ourHost},
		ForceAttemptHTTP2: http2,
	}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (w *wire) get(c *http.Client, url, host string) *http.Response {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Host = host
	answer, err := c.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { answer.Body.Close() })
	return answer
}

// raw writes bytes to an address and gives what comes back.
func (w *wire) raw(address, text string) string {
	w.t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, text)
	got, _ := io.ReadAll(c)
	return string(got)
}

type authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
	roots       *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	like := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, like, like, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, roots: x509.NewCertPool()}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.roots.AddCert(a.certificate)
	return a
}

// issue writes a certificate for ourHost, one year long, and its key.
func (a *authority) issue(t *testing.T, serial int64, to TLS) {
	t.Helper()
	a.issueFor(t, serial, to, 365*24*time.Hour, ourHost, "localhost")
}

func (a *authority) issueFor(t *testing.T, serial int64, to TLS, life time.Duration, names ...string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: names,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(life),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, to.Certificate, "CERTIFICATE", der)
	writePEM(t, to.Key, "PRIVATE KEY", secret)
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Both browsers' protocols reach the same pages by TLS, with the headers of the
// house; what is older than TLS 1.2, or in clear, reaches nothing.
func TestPagesByTLS(t *testing.T) {
	t.Parallel()
	w := openWire(t, nil)
	for _, http2 := range []bool{false, true} {
		answer := w.get(w.client(http2), "https://"+ourHost+"/in", "")
		want := map[bool]int{false: 1, true: 2}[http2]
		if answer.StatusCode != http.StatusOK || answer.ProtoMajor != want {
			t.Errorf("got %s %s, want 200 by HTTP/%d", answer.Proto, answer.Status, want)
		}
		if h := answer.Header; !strings.HasPrefix(h.Get("Strict-Transport-Security"), "max-age=") || h.Get("Content-Security-Policy") == "" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("HTTP/%d lacks headers of the house: %v", want, h)
		}
	}
	old := &tls.Config{RootCAs: w.roots, ServerName: ourHost, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	if c, err := tls.Dial("tcp", w.PagesAddress(), old); err == nil {
		c.Close()
		t.Error("TLS 1.1 was taken")
	}
	weak := &tls.Config{RootCAs: w.roots, ServerName: ourHost, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}
	if c, err := tls.Dial("tcp", w.PagesAddress(), weak); err == nil {
		c.Close()
		t.Error("a cipher without authentication was taken")
	}
	if got := w.raw(w.PagesAddress(), "GET /in HTTP/1.1\r\nHost: "+ourHost+"\r\n\r\n"); !strings.Contains(got, " 400 ") || strings.Contains(got, "<html") {
		t.Errorf("plain HTTP got %.100q", got)
	}
}

// A house without a good pair of files does not open its pages.
func TestCertificatesThatDoNotServe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(t *testing.T, to TLS)
		words string
		kind  error
	}{
		"a key that others may read": {func(t *testing.T, to TLS) { os.Chmod(to.Key, 0o644) }, "tls.key may be read by others", yesline.Denied},
		"no key":                     {func(t *testing.T, to TLS) { os.Remove(to.Key) }, "opening tls.key", os.ErrNotExist},
		"a key of another": {func(t *testing.T, to TLS) {
			newAuthority(t).issue(t, 9, TLS{filepath.Join(t.TempDir(), "c"), to.Key, ""})
		}, "do not make a pair", yesline.Invalid},
		"a folder":              {func(t *testing.T, to TLS) { os.Remove(to.Key); os.Mkdir(to.Key, 0o700) }, "not a file", yesline.Invalid},
		"a file without an end": {func(t *testing.T, to TLS) { os.WriteFile(to.Certificate, make([]byte, 1<<20+1), 0o600) }, "over 1 MiB", yesline.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to := TLS{Certificate: filepath.Join(t.TempDir(), "certificate.pem"), Key: filepath.Join(t.TempDir(), "key.pem")}
			newAuthority(t).issue(t, 2, to)
			c.spoil(t, to)
			a := &App{Config: Config{TLS: to}}
			_, err := a.openCertificates()
			if err == nil || !strings.Contains(err.Error(), c.words) || !errors.Is(err, c.kind) {
				t.Errorf("got %v, want %q", err, c.words)
			}
		})
	}
}

// Files that change are taken from the next handshake on; files that do not
// belong together never are, and the certificate from before goes on.
func TestNewCertificatesAreTaken(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	to := TLS{Certificate: filepath.Join(t.TempDir(), "certificate.pem"), Key: filepath.Join(t.TempDir(), "key.pem")}
	ca.issue(t, 2, to)
	var said lines
	p := &pair{certificate: to.Certificate, key: to.Key, report: slog.New(slog.NewTextHandler(&said, nil))}
	if err := p.look(); err != nil {
		t.Fatal(err)
	}
	defer p.watch(2 * time.Millisecond)()
	l, err := tls.Listen("tcp", "127.0.0.1:0", certificates{get: p.get}.config())
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler()}
	go server.Serve(l)
	defer server.Close()
	serial := func() int64 {
		c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: ca.roots, ServerName: ourHost})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 2 {
		t.Fatalf("got certificate %d, want 2", got)
	}

	good, _ := os.ReadFile(to.Key)
	newAuthority(t).issue(t, 3, TLS{Certificate: filepath.Join(t.TempDir(), "c"), Key: to.Key})
	said.wait(t, "cannot be used")
	if got := serial(); got != 2 {
		t.Fatalf("with a key of another got certificate %d, want 2", got)
	}
	time.Sleep(20 * time.Millisecond)
	if n := said.count("cannot be used"); n != 1 {
		t.Errorf("the same failure was told %d times, want once", n)
	}
	os.WriteFile(to.Key, good, 0o600)
	ca.issue(t, 4, to)
	said.wait(t, "was changed")
	if got := serial(); got != 4 {
		t.Fatalf("got certificate %d, want the new one, 4", got)
	}
	ca.issueFor(t, 5, to, 24*time.Hour, ourHost)
	said.wait(t, "ends soon")
}

// lines is a report that can be waited for.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(words string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), words)
}

func (l *lines) wait(t *testing.T, words string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); l.count(words) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			l.mu.Lock()
			defer l.mu.Unlock()
			t.Fatalf("the report does not say %q:\n%s", words, l.text.String())
		}
	}
}

// Nothing is answered under a foreign Host, whichever way it is said.
func TestOnlyOurHost(t *testing.T) {
	t.Parallel()
	w := openWire(t, nil)
	for _, http2 := range []bool{false, true} {
		c := w.client(http2)
		for host, want := range map[string]int{
			ourHost: 200, "CALLS.Example.ORG": 200, ourHost + ":443": 200,
			"evil.example": 421, "127.0.0.1": 421, "localhost": 421, ourHost + ":8443": 421, ourHost + ".evil.example": 421,
			"x." + ourHost: 421, ourHost + ".": 421, "[" + ourHost + "]:443": 421,
		} {
			if answer := w.get(c, "https://"+ourHost+"/in", host); answer.StatusCode != want {
				t.Errorf("HTTP/%d, Host %q: got %d, want %d", answer.ProtoMajor, host, answer.StatusCode, want)
			} else if want == 421 {
				body, _ := io.ReadAll(answer.Body)
				if h := answer.Header; strings.Contains(string(body), host) || h.Get("Content-Security-Policy") == "" || h.Get("Strict-Transport-Security") == "" || h.Get("Cache-Control") != "no-store" {
					t.Errorf("Host %q: got %q with %v", host, body, h)
				}
			}
		}
	}
	plain := openWire(t, func(c *Config) { c.TLS, c.URL = TLS{}, "http://localhost:8080" })
	for request, want := range map[string]string{
		"GET /in HTTP/1.1\r\nHost: localhost:8080\r\n":                                " 200 ",
		"GET /in HTTP/1.1\r\nHost: 127.0.0.1:9\r\n":                                   " 200 ",
		"GET /in HTTP/1.1\r\nHost: [::1]\r\n":                                         " 200 ",
		"GET /in HTTP/1.1\r\nHost: rebind.example:8080\r\n":                           " 421 ",
		"GET http://rebind.example/in HTTP/1.1\r\nHost: localhost:8080\r\n":           " 421 ",
		"GET /in HTTP/1.0\r\n":                                                        " 400 ",
		"GET /in HTTP/1.1\r\n":                                                        " 400 ",
		"GET /in HTTP/1.1\r\nHost: localhost:8080\r\nHost: rebind.example\r\n":        " 400 ",
		"GET /in HTTP/1.1\r\nHost: \r\n":                                              " 400 ",
		"GET /in HTTP/1.1\r\nHost: localhost:8080@rebind.example\r\n":                 " 4",
		"GET /in HTTP/1.1\r\nHost: localhost.rebind.example\r\n":                      " 421 ",
		"GET /in HTTP/1.1\r\nHost: localhost:8080.rebind.example\r\n":                 " 421 ",
		"GET /in HTTP/1.1\r\nHost: localhost:08080\r\n":                               " 421 ",
		"GET /in HTTP/1.1\r\nHost: localhost:+8080\r\n":                               " 421 ",
		"OPTIONS * HTTP/1.1\r\nHost: rebind.example\r\n":                              " 421 ",
		"GET /in HTTP/1.1\r\nX-Forwarded-Host: localhost\r\nHost: rebind.example\r\n": " 421 ",
	} {
		got, _, _ := strings.Cut(plain.raw(plain.PagesAddress(), request+"Connection: close\r\n\r\n"), "\r\n")
		if !strings.Contains(got, want) {
			t.Errorf("%q got %q, want%s", request, got, want)
		}
	}
}

// Who asks is the peer, unless a proxy of ours says for whom it asks; what the
// asker wrote before it reached that proxy counts for nothing.
func TestWhoAsks(t *testing.T) {
	t.Parallel()
	const proxy, inner = "10.0.0.5:4711", "10.1.2.3"
	for _, c := range []struct {
		name, header, peer, said, want string
	}{
		{"nobody else", byXForwardedFor, "203.0.113.9:1", "", "203.0.113.9"},
		{"forged, and no proxy", byXForwardedFor, "203.0.113.9:1", "198.51.100.7", "203.0.113.9"},
		{"a proxy", byXForwardedFor, proxy, "198.51.100.7", "198.51.100.7"},
		{"forged before the proxy", byXForwardedFor, proxy, "192.0.2.1, 198.51.100.7", "198.51.100.7"},
		{"forged as one of ours", byXForwardedFor, proxy, "192.0.2.1, 198.51.100.7, " + inner, "198.51.100.7"},
		{"two proxies", byXForwardedFor, proxy, "198.51.100.7," + inner, "198.51.100.7"},
		{"two lines", byXForwardedFor, proxy, "192.0.2.1\n198.51.100.7", "198.51.100.7"},
		{"only proxies", byXForwardedFor, proxy, inner, inner},
		{"a silent proxy", byXForwardedFor, proxy, "", "10.0.0.5"},
		{"nonsense", byXForwardedFor, proxy, "192.0.2.1, unknown", "10.0.0.5"},
		{"an end without words", byXForwardedFor, proxy, "192.0.2.1,", "10.0.0.5"},
		{"with a port", byXForwardedFor, proxy, "198.51.100.7:99", "198.51.100.7"},
		{"IPv6", byXForwardedFor, proxy, "2001:db8::7", "2001:db8::7"},
		{"IPv6 with a port", byXForwardedFor, proxy, "[2001:db8::7]:99", "2001:db8::7"},
		{"IPv4 in IPv6", byXForwardedFor, "[::ffff:10.0.0.5]:1", "::ffff:198.51.100.7", "198.51.100.7"},
		{"the other header", byXForwardedFor, proxy, "Forwarded: for=198.51.100.7", "10.0.0.5"},
		{"RFC 7239", byForwarded, proxy, `Forwarded: for=192.0.2.1, For="198.51.100.7:99";proto=https;by=10.0.0.5`, "198.51.100.7"},
		{"RFC 7239, IPv6", byForwarded, proxy, `Forwarded: for="[2001:db8::7]:99"`, "2001:db8::7"},
		{"RFC 7239, hidden", byForwarded, proxy, `Forwarded: for=192.0.2.1, for=_hidden`, "10.0.0.5"},
		{"RFC 7239, a comma in quotes", byForwarded, proxy, `Forwarded: for="192.0.2.1, for=192.0.2.2"`, "10.0.0.5"},
		{"RFC 7239, and no proxy", byForwarded, "203.0.113.9:1", `Forwarded: for=198.51.100.7`, "203.0.113.9"},
		{"RFC 7239, a quote left open", byForwarded, proxy, `Forwarded: for=127.0.0.1;x=", for=198.51.100.7`, "10.0.0.5"},
		{"a name for this machine", byXForwardedFor, proxy, "127.0.0.1", "10.0.0.5"},
		{"the header of others", byForwarded, proxy, "198.51.100.7", "10.0.0.5"},
		{"no address", byXForwardedFor, "@", "198.51.100.7", "invalid IP"},
		{"very many", byXForwardedFor, proxy, strings.Repeat(inner+",", 5000) + inner, inner},
	} {
		cfg := Defaults()
		cfg.URL, cfg.Proxy = "https://"+ourHost, Proxy{From: []string{"10.0.0.5", "10.1.0.0/16", "0.0.0.0/0"}, Header: c.header}
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr, r.Host = c.peer, ourHost
		for line := range strings.SplitSeq(c.said, "\n") {
			if forwarded, ok := strings.CutPrefix(line, "Forwarded: "); ok {
				r.Header.Add("Forwarded", forwarded)
			} else if line != "" {
				r.Header.Add("X-Forwarded-For", line)
			}
		}
		if got := cfg.ClientAddress(r).String(); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
		// The doors see the same one, and nothing that could be believed anew.
		var seen string
		cfg.front(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			seen = cfg.ClientAddress(r).String()
			for name := range r.Header {
				if strings.Contains(strings.ToLower(name), "forwarded") {
					t.Errorf("%s: the doors see %s", c.name, name)
				}
			}
		})).ServeHTTP(httptest.NewRecorder(), r)
		if seen != c.want {
			t.Errorf("%s: the doors see %s, want %s", c.name, seen, c.want)
		}
	}
}

// Whoever asked a proxy in clear is led to HTTPS; only a proxy can say so.
func TestAskedInClear(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, header, peer, method, key, value string
		want                                   int
	}{
		{"by TLS", byXForwardedFor, "10.0.0.5:1", "GET", "X-Forwarded-Proto", "https", 200},
		{"in clear", byXForwardedFor, "10.0.0.5:1", "GET", "X-Forwarded-Proto", "http", 308},
		{"in clear, and inside by TLS", byXForwardedFor, "10.0.0.5:1", "GET", "X-Forwarded-Proto", "HTTP, https", 308},
		{"a form in clear", byXForwardedFor, "10.0.0.5:1", "POST", "X-Forwarded-Proto", "http", 403},
		{"said by nobody", byXForwardedFor, "203.0.113.9:1", "GET", "X-Forwarded-Proto", "http", 200},
		{"RFC 7239, in clear", byForwarded, "10.0.0.5:1", "GET", "Forwarded", "for=192.0.2.1;Proto=http", 308},
		{"RFC 7239, by TLS", byForwarded, "10.0.0.5:1", "GET", "Forwarded", `for=192.0.2.1;proto="https", for=10.0.0.4;proto=http`, 200},
		{"the other header", byForwarded, "10.0.0.5:1", "GET", "X-Forwarded-Proto", "http", 200},
	} {
		cfg := Defaults()
		cfg.URL, cfg.Proxy = "https://"+ourHost, Proxy{From: []string{"10.0.0.0/24"}, Header: c.header}
		r := httptest.NewRequest(c.method, "/calls?after=1", nil)
		r.RemoteAddr, r.Host = c.peer, ourHost
		r.Header.Set(c.key, c.value)
		answer := httptest.NewRecorder()
		cfg.front(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {})).ServeHTTP(answer, r)
		if answer.Code != c.want {
			t.Errorf("%s: got %d, want %d", c.name, answer.Code, c.want)
		}
		if at := answer.Header().Get("Location"); c.want == 308 && at != "https://"+ourHost+"/calls?after=1" {
			t.Errorf("%s: led to %q", c.name, at)
		}
	}
}

// Plain HTTP leads to HTTPS on our host, and nowhere else.
func TestPlainHTTPIsSentOn(t *testing.T) {
	t.Parallel()
	var plain string
	w := openWire(t, func(c *Config) {
		l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free now
		if err != nil {
			t.Fatal(err)
		}
		plain = l.Addr().String()
		l.Close()
		c.TLS.Redirect = plain
	})
	for _, c := range []struct{ request, status, location string }{
		{"GET /calls?x=1 HTTP/1.1\r\nHost: " + ourHost, "308", "https://" + ourHost + "/calls?x=1"},
		{"HEAD / HTTP/1.1\r\nHost: " + ourHost + ":443", "308", "https://" + ourHost + "/"},
		{"GET //evil.example/ HTTP/1.1\r\nHost: " + ourHost, "308", "https://" + ourHost + "//evil.example/"},
		{"GET /a%0d%0aSet-Cookie:x=y HTTP/1.1\r\nHost: " + ourHost, "308", "https://" + ourHost + "/a%0d%0aSet-Cookie:x=y"},
		{"GET http://evil.example/ HTTP/1.1\r\nHost: " + ourHost, "421", ""},
		{"GET / HTTP/1.1\r\nHost: evil.example", "421", ""},
		{"GET * HTTP/1.1\r\nHost: " + ourHost, "4", ""},
		{"OPTIONS * HTTP/1.1\r\nHost: " + ourHost, "4", ""},
		{"POST /in/x HTTP/1.1\r\nHost: " + ourHost + "\r\nContent-Length: 3\r\n\r\na=b", "403", ""},
	} {
		answer := w.raw(plain, c.request+"\r\nConnection: close\r\n\r\n")
		head, _, _ := strings.Cut(answer, "\r\n\r\n")
		if !strings.HasPrefix(head, "HTTP/1.1 "+c.status) {
			t.Errorf("%.60q got %.40q, want %s", c.request, head, c.status)
		}
		if got := strings.Contains(head, "\r\nLocation: "+c.location+"\r\n"); c.location != "" && !got || c.location == "" && strings.Contains(head, "Location:") {
			t.Errorf("%.60q got %q, want it to lead to %q", c.request, head, c.location)
		}
		if strings.Contains(head, "\nSet-Cookie") {
			t.Errorf("%.60q set a cookie in clear", c.request)
		}
	}
}

// One address cannot take all connections, and all together take no more than
// the house has; a place that is left is free again at once.
func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	w := openWire(t, func(c *Config) {
		c.TLS, c.URL = TLS{}, "http://localhost:8080"
		c.Pages = Pages{Connections: 16, PerAddress: 4}
		c.Proxy.From = []string{"127.0.0.9"}
	})
	dial := func(from string) (net.Conn, bool) {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", w.PagesAddress())
		if err != nil {
			return nil, false // refused before we saw it open
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprint(c, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		return c, err == nil && answer.StatusCode == http.StatusOK
	}
	fill := func(from string, want int) (open []net.Conn) {
		t.Helper()
		for i := range want + 2 {
			c, ok := dial(from)
			if ok != (i < want) {
				t.Fatalf("connection %d from %s: got %v, want %d of them", i+1, from, ok, want)
			}
			if ok {
				open = append(open, c)
			}
		}
		return open
	}
	first := fill("127.0.0.2", 4)
	fill("127.0.0.3", 4)
	fill("127.0.0.9", 8) // a proxy has no limit of its own; here the house is full
	if _, ok := dial("127.0.0.4"); ok {
		t.Error("a full house took one more")
	}
	first[0].Close()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, ok := dial("127.0.0.4"); ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the place that was left is not free")
		}
	}
}

// Neighbours in one IPv6 /64 are one asker.
func TestNeighbours(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		same bool
	}{{"2001:db8::1", "2001:db8::ffff", true}, {"2001:db8::1", "2001:db8:0:1::1", false}, {"192.0.2.1", "192.0.2.2", false}} {
		if got := neighbours(netip.MustParseAddr(c.a)) == neighbours(netip.MustParseAddr(c.b)); got != c.same {
			t.Errorf("%s and %s: got %v, want %v", c.a, c.b, got, c.same)
		}
	}
}

// Headers that are too large end in an answer, by both protocols, and the next
// request is served.
func TestLargeHeaders(t *testing.T) {
	t.Parallel()
	w := openWire(t, nil)
	for _, http2 := range []bool{false, true} {
		c := w.client(http2)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+ourHost+"/in", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Cookie", "yesline="+strings.Repeat("x", 64<<10))
		if answer, err := c.Do(r); err == nil {
			answer.Body.Close()
			if answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("64 KiB of headers got %s by %s", answer.Status, answer.Proto)
			}
		} else if !http2 {
			t.Errorf("64 KiB of headers got %v, want 431", err)
		}
		if answer := w.get(c, "https://"+ourHost+"/in", ""); answer.StatusCode != http.StatusOK {
			t.Errorf("the next request got %s", answer.Status)
		}
	}
}

// An HTTP/2 connection is told its limits before anything else.
func TestLimitsOfHTTP2(t *testing.T) {
	t.Parallel()
	w := openWire(t, nil)
	c, err := tls.Dial("tcp", w.PagesAddress(), &tls.Config{RootCAs: w.roots, ServerName: ourHost, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, http2.ClientPreface)
	framer := http2.NewFramer(c, c)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	frame, err := framer.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	told, ok := frame.(*http2.SettingsFrame)
	if !ok {
		t.Fatalf("got %v first, want the settings", frame)
	}
	for id, most := range map[http2.SettingID]uint32{http2.SettingMaxConcurrentStreams: 100, http2.SettingMaxHeaderListSize: 32 << 10,
		http2.SettingInitialWindowSize: 128 << 10, http2.SettingMaxFrameSize: 16 << 10} {
		if v, ok := told.Value(id); !ok || v > most {
			t.Errorf("%v is %d (%v), want at most %d", id, v, ok, most)
		}
	}
}

// Somebody who is slow with a handshake, a header or a body is cut off.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	webtest.Whole(t)
	w := openWire(t, nil)
	start := func() *tls.Conn {
		c, err := tls.Dial("tcp", w.PagesAddress(), &tls.Config{RootCAs: w.roots, ServerName: ourHost})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	drip := func(c net.Conn, text string) {
		for _, b := range []byte(text) {
			if _, err := c.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(250 * time.Millisecond)
		}
	}
	for name, s := range map[string]struct {
		open  func() net.Conn
		first string
		then  string
		most  time.Duration
	}{
		"handshake": {func() net.Conn {
			c, err := net.Dial("tcp", w.PagesAddress())
			if err != nil {
				t.Fatal(err)
			}
			return c
		}, "\x16\x03\x01\x02\x00\x01", strings.Repeat("\x00", 200), 7 * time.Second},
		"header": {func() net.Conn { return start() }, "GET /in HTTP/1.1\r\nHost: " + ourHost + "\r\n", strings.Repeat("X-A: b\r\n", 50), 7 * time.Second},
		"body": {func() net.Conn { return start() }, "POST /in/x HTTP/1.1\r\nHost: " + ourHost + "\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\n",
			strings.Repeat("a", 1000), 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := s.open()
			defer c.Close()
			began := time.Now()
			io.WriteString(c, s.first)
			go drip(c, s.then)
			c.SetReadDeadline(time.Now().Add(s.most))
			_, err := io.Copy(io.Discard, c)
			if wait := (net.Error)(nil); errors.As(err, &wait) && wait.Timeout() {
				t.Errorf("still open after %s", time.Since(began).Round(time.Second))
			}
		})
	}
}

// An authority that refused is left alone for longer and longer, and the
// handshakes of visitors do not ask it meanwhile.
func TestPatienceWithAnAuthority(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		asked, good := 0, false
		p := &patient{report: slog.New(slog.DiscardHandler), get: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			mu.Lock()
			defer mu.Unlock()
			asked++
			if !good {
				return nil, errors.New("too many certificates")
			}
			return &tls.Certificate{Leaf: &x509.Certificate{}}, nil
		}}
		count := func() int { mu.Lock(); defer mu.Unlock(); return asked }
		stop := p.obtain(ourHost, func() {})
		synctest.Wait()
		for range 1000 {
			if _, err := p.certificate(modern(ourHost)); !errors.Is(err, errPatience) {
				t.Fatalf("a visitor got %v", err)
			}
		}
		if got := count(); got != 1 {
			t.Fatalf("the authority was asked %d times, want once", got)
		}
		look := modern(ourHost)
		look.SupportedProtos = []string{"acme-tls/1"}
		p.certificate(look)
		if got := count(); got != 2 {
			t.Fatal("the authority's own look was turned away")
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if got := count(); got < 20 || got > 35 {
			t.Fatalf("the authority was asked %d times in a day", got)
		}
		mu.Lock()
		good = true
		mu.Unlock()
		time.Sleep(patienceMost + time.Second)
		synctest.Wait()
		if _, err := p.certificate(modern(ourHost)); err != nil {
			t.Errorf("with a certificate a visitor got %v", err)
		}
		stop()
	})
}
