package app

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"yesline"
)

// certificates is where the pages' certificate comes from. All its fields are
// nil for a house that does not end TLS itself.
type certificates struct {
	get       func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	challenge func(http.Handler) http.Handler // answers an authority by plain HTTP
	start     func() (stop func())            // begins what keeps the certificate new; stop waits for its end
	protocols []string                        // beyond HTTP's
}

func (c certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{ // of TLS 1.2: forward secret and authenticated; 1.3 has no others
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		NextProtos:     append([]string{"h2", "http/1.1"}, c.protocols...),
		GetCertificate: c.get,
	}
}

func (a *App) openCertificates() (certificates, error) {
	switch {
	case a.Config.ACME.Agree:
		return a.byAuthority()
	case a.Config.byTLS():
		p := &pair{certificate: a.Config.TLS.Certificate, key: a.Config.TLS.Key, report: a.Report}
		if err := p.look(); err != nil {
			return certificates{}, err
		}
		return certificates{get: p.get, start: func() func() { return p.watch(lookEvery) }}, nil
	}
	return certificates{}, nil
}

const (
	smallMost = 1 << 20
	lookEvery = 10 * time.Second
	endsSoon  = 7 * 24 * time.Hour
)

// pair is a certificate and its key in two files. When they change, and belong
// together, the new ones hold from the next handshake on.
type pair struct {
	certificate, key string
	report           *slog.Logger
	about            string // what its settings are called, if not tls

	now atomic.Pointer[tls.Certificate]

	// Only the one who looks uses these.
	seen    [2][]byte // the files as they were last read
	warned  time.Time // when the report last said that the certificate ends
	failure string    // what the report was last told
}

func (p *pair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.now.Load(), nil }

// look reads the files again. After an error the certificate stays what it was.
func (p *pair) look() error {
	about := cmp.Or(p.about, "tls")
	certificate, err := readSmall(about+".certificate", p.certificate, 0)
	if err != nil {
		return err
	}
	key, err := readSmall(about+".key", p.key, othersMay)
	if err != nil {
		return err
	}
	if bytes.Equal(certificate, p.seen[0]) && bytes.Equal(key, p.seen[1]) && p.now.Load() != nil {
		return nil
	}
	c, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return fmt.Errorf("%s.certificate and %[1]s.key do not make a pair (%w): %w", about, err, yesline.Invalid)
	}
	p.seen = [2][]byte{certificate, key}
	p.now.Store(&c)
	return nil
}

// watch looks at the files every so often until it is stopped.
func (p *pair) watch(every time.Duration) (stop func()) {
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			p.warnOfEnd()
			select {
			case <-end:
				return
			case <-tick.C:
				p.lookAgain()
			}
		}
	}()
	return func() { close(end); <-done }
}

// lookAgain tells of each failure once. Two files are seldom replaced in one
// moment, so some failures mend themselves.
func (p *pair) lookAgain() {
	before := p.now.Load()
	switch err := p.look(); {
	case err != nil && err.Error() != p.failure:
		p.failure = err.Error()
		p.report.Warn("the new certificate cannot be used; the one from before goes on", "error", err)
	case err == nil && p.now.Load() != before:
		p.failure = ""
		p.warned = time.Time{}
		p.report.Info("the certificate was changed", "ends", p.now.Load().Leaf.NotAfter)
	}
}

func (p *pair) warnOfEnd() {
	ends := p.now.Load().Leaf.NotAfter
	if time.Until(ends) > endsSoon || time.Since(p.warned) < 24*time.Hour {
		return
	}
	p.warned = time.Now()
	p.report.Error("the certificate of the pages ends soon, or has ended: put new files in its place", "ends", ends)
}

const othersMay = 0o007

// readSmall reads a file of at most 1 MiB whose mode has none of the forbidden
// bits. Its errors name the setting.
func readSmall(about, path string, forbidden os.FileMode) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe must not keep us
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", about, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file: %w", about, yesline.Invalid)
	}
	if info.Mode().Perm()&forbidden != 0 {
		return nil, fmt.Errorf("%s may be read by others (mode %o); make it 0600: %w", about, info.Mode().Perm(), yesline.Denied)
	}
	data, err := io.ReadAll(io.LimitReader(f, smallMost+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", about, err)
	}
	if len(data) > smallMost {
		return nil, fmt.Errorf("%s is over 1 MiB: %w", about, yesline.Invalid)
	}
	return data, nil
}

// byAuthority has an ACME authority make the certificate. The account's key
// and the certificates are kept in Data/acme.
func (a *App) byAuthority() (certificates, error) {
	cfg := a.Config.ACME
	roots, err := authorityRoots(cfg.Roots)
	if err != nil {
		return certificates{}, err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, Proxy: http.ProxyFromEnvironment,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10}
	ctx, cancel := context.WithCancel(context.Background())
	a.later(func() { cancel(); transport.CloseIdleConnections() })
	m := &autocert.Manager{
		Prompt:     autocert.AcceptTOS, // the operator agreed, in the configuration
		Cache:      autocert.DirCache(filepath.Join(a.Config.Data, "acme")),
		HostPolicy: autocert.HostWhitelist(a.Config.Host()),
		Email:      cfg.Contact,
		Client: &acme.Client{DirectoryURL: cfg.Directory, UserAgent: "yesline",
			HTTPClient: &http.Client{Timeout: time.Minute, Transport: until{ctx, transport}}},
	}
	p := &patient{get: m.GetCertificate, report: a.Report}
	return certificates{get: p.certificate, challenge: m.HTTPHandler, protocols: []string{acme.ALPNProto},
		start: func() func() { return p.obtain(a.Config.Host(), cancel) }}, nil
}

// authorityRoots reads what a private authority's directory hangs on; nil for
// what this machine trusts.
func authorityRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	data, err := readSmall("acme.roots", path, 0)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("acme.roots holds no certificate: %w", yesline.Invalid)
	}
	return roots, nil
}

// patient keeps handshakes from asking an authority that just refused: it
// would shut us out for the week.
type patient struct {
	get    func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	report *slog.Logger

	mu     sync.Mutex // guards all below
	wait   time.Duration
	before time.Time // nobody is asked before
}

const (
	patienceLeast = time.Minute
	patienceMost  = time.Hour
)

var errPatience = errors.New("the authority refused a moment ago")

func (p *patient) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if slices.Contains(hello.SupportedProtos, acme.ALPNProto) { // the authority looks: it asks nobody
		return p.get(hello)
	}
	p.mu.Lock()
	early := time.Now().Before(p.before)
	p.mu.Unlock()
	if early {
		return nil, errPatience
	}
	return p.get(modern(hello.ServerName))
}

// modern is a client that takes ECDSA: one kind of certificate is enough, and
// nobody can have us ask for another.
func modern(host string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{ServerName: host, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, SupportedCurves: []tls.CurveID{tls.CurveP256}}
}

// failed sets the next moment at which the authority may be asked.
func (p *patient) failed() (wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wait = min(max(2*p.wait, patienceLeast), patienceMost)
	p.before = time.Now().Add(p.wait)
	return p.wait
}

// obtain asks for the certificate before the first visitor does, until there
// is one. Renewal is the authority's client's.
func (p *patient) obtain(host string, cancel func()) (stop func()) {
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := p.get(modern(host))
			if err == nil {
				p.report.Info("the authority's certificate is here", "ends", c.Leaf.NotAfter)
				return
			}
			select {
			case <-end:
				return
			default:
			}
			wait := p.failed()
			p.report.Error("the authority gave no certificate", "again", wait.String(), "error", err)
			select {
			case <-end:
				return
			case <-time.After(wait):
			}
		}
	}()
	return func() { close(end); cancel(); <-done }
}

// until ends requests when a context ends, beside their own.
type until struct {
	ctx  context.Context
	next http.RoundTripper
}

func (u until) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(u.ctx, cancel)
	end := func() { stop(); cancel() }
	answer, err := u.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		end()
		return nil, err
	}
	answer.Body = ending{answer.Body, end}
	return answer, nil
}

type ending struct {
	io.ReadCloser
	end func()
}

func (e ending) Close() error {
	defer e.end()
	return e.ReadCloser.Close()
}
