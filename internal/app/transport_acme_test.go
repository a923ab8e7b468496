package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// pebble is Let's Encrypt's test authority, which is unpleasant on purpose: it
// rejects good nonces now and then.
type pebble struct {
	t                     *testing.T
	directory, management string
	http, tls             string // where it looks whether a host is ours
	own                   TLS    // its own certificate
	ca                    *authority
	stop                  func()
}

// startPebble starts an authority for which every name is this machine.
func startPebble(t *testing.T) *pebble {
	t.Helper()
	binary := findPebble(t)
	p := &pebble{t: t, directory: freePort(t), management: freePort(t), http: freePort(t), tls: freePort(t), ca: newAuthority(t)}
	folder := t.TempDir()
	p.own = TLS{Certificate: filepath.Join(folder, "certificate.pem"), Key: filepath.Join(folder, "key.pem")}
	p.ca.issue(t, 2, p.own)
	cfg, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": p.directory, "managementListenAddress": p.management, "certificate": p.own.Certificate, "privateKey": p.own.Key,
		"httpPort": portNumber(p.http), "tlsPort": portNumber(p.tls), "retryAfter": map[string]int{"authz": 1, "order": 1}, "keyAlgorithm": "ecdsa",
		"profiles": map[string]any{"default": map[string]any{"description": "usual", "validityPeriod": 7776000}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "pebble.json")
	if err := os.WriteFile(file, cfg, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, binary, "-config", file, "-dnsserver", namesHere(t))
	c.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=5")
	if testing.Verbose() {
		c.Stdout, c.Stderr = t.Output(), t.Output()
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	p.stop = func() {
		if !stopped {
			stopped = true
			stop()
			c.Wait()
		}
	}
	t.Cleanup(p.stop)
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := p.get("https://" + p.directory + "/dir"); err == nil {
			return p
		} else if time.Now().After(deadline) {
			t.Fatalf("pebble is not up: %v", err)
		}
	}
}

func findPebble(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("pebble"); err == nil {
		return path
	}
	if here, _ := filepath.Glob("../../.cache/pebble-*/pebble"); len(here) > 0 {
		path, err := filepath.Abs(here[len(here)-1])
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("pebble is not installed: run scripts/setup.sh")
	}
	t.Skip("pebble is not installed: run scripts/setup.sh")
	return ""
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func portNumber(address string) (n int) {
	fmt.Sscan(port(address), &n)
	return n
}

// namesHere is a name server, by TCP as pebble asks, for which every name is
// this machine.
func namesHere(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(5 * time.Second))
				for answerName(c) == nil {
				}
			}()
		}
	}()
	return l.Addr().String()
}

func answerName(c net.Conn) error {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return err
	}
	text := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, text); err != nil {
		return err
	}
	var m dnsmessage.Message
	if err := m.Unpack(text); err != nil || len(m.Questions) != 1 {
		return errors.New("not one question")
	}
	m.Response, m.Additionals = true, nil
	if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
		m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}}}
	}
	text, err := m.Pack()
	if err != nil {
		return err
	}
	_, err = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(text))), text...))
	return err
}

func (p *pebble) get(url string) ([]byte, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: p.ca.roots}}}
	answer, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	return io.ReadAll(io.LimitReader(answer.Body, 1<<20))
}

// roots are what pebble's certificates hang on; it makes new ones at each start.
func (p *pebble) roots() *x509.CertPool {
	p.t.Helper()
	data, err := p.get("https://" + p.management + "/roots/0")
	if err != nil {
		p.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		p.t.Fatal("pebble has no root")
	}
	return roots
}

// house is a configuration that has pebble make its certificate.
func (p *pebble) house(data string) Config {
	p.t.Helper()
	roots := filepath.Join(p.t.TempDir(), "roots.pem")
	writePEM(p.t, roots, "CERTIFICATE", p.ca.certificate.Raw)
	cfg := Defaults()
	cfg.Data, cfg.HTTP, cfg.URL = data, p.tls, "https://"+ourHost
	cfg.ACME = ACME{Agree: true, Contact: "operator@example.org", Directory: "https://" + p.directory + "/dir", Roots: roots}
	return cfg
}

func openHouse(t *testing.T, cfg Config) *App {
	t.Helper()
	a, err := New(t.Context(), cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	if err := a.openPages(); err != nil {
		t.Fatal(err)
	}
	return a
}

// waitForCertificate gives the file that the certificate is kept in. Nobody
// visits meanwhile: the house asks by itself.
func waitForCertificate(t *testing.T, data string) string {
	t.Helper()
	kept := filepath.Join(data, "acme", ourHost)
	for deadline := time.Now().Add(50 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(kept); err == nil {
			return kept
		}
		if time.Now().After(deadline) {
			t.Fatal("there is no certificate, though the house is open")
		}
	}
}

// The authority's certificate is there before the first visitor, is kept
// closed to others, and serves after a restart without the authority. Nobody
// can have us ask for another name.
func TestAnAuthorityMakesTheCertificate(t *testing.T) {
	t.Parallel()
	p := startPebble(t)
	data := filepath.Join(t.TempDir(), "data")
	cfg := p.house(data)
	a := openHouse(t, cfg)
	w := &wire{a, t, p.roots()}
	kept := waitForCertificate(t, data)
	for _, http2 := range []bool{false, true} {
		answer := w.get(w.client(http2), "https://"+ourHost+"/in", "")
		if answer.StatusCode != http.StatusOK || !strings.Contains(answer.TLS.PeerCertificates[0].Issuer.CommonName, "Pebble") {
			t.Errorf("got %s by a certificate of %s", answer.Status, answer.TLS.PeerCertificates[0].Issuer)
		}
	}
	for path, want := range map[string]os.FileMode{filepath.Dir(kept): 0o700, kept: 0o600, filepath.Join(filepath.Dir(kept), "acme_account+key"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: got %v, %v, want mode %o", filepath.Base(path), info, err, want)
		}
	}
	for _, name := range []string{"evil.example", "x." + ourHost, ""} {
		if c, err := tls.Dial("tcp", w.PagesAddress(), &tls.Config{ServerName: name, InsecureSkipVerify: true}); err == nil {
			c.Close()
			t.Errorf("there is a certificate for %q", name)
		}
	}
	old := &tls.Config{ServerName: ourHost, InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}
	if c, err := tls.Dial("tcp", w.PagesAddress(), old); err == nil {
		c.Close()
		t.Error("there is a second certificate, for clients without ECDSA")
	}
	if files, _ := os.ReadDir(filepath.Dir(kept)); len(files) != 2 {
		t.Errorf("the folder holds %v, want the account and one certificate", files)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	p.stop()
	again := &wire{openHouse(t, cfg), t, w.roots}
	if answer := again.get(again.client(true), "https://"+ourHost+"/in", ""); answer.StatusCode != http.StatusOK {
		t.Errorf("after a restart got %s", answer.Status)
	}
}

// Where the authority reaches port 80 alone, plain HTTP answers it, and sends
// everybody else on.
func TestAnAuthorityLooksByPlainHTTP(t *testing.T) {
	t.Parallel()
	p := startPebble(t)
	cfg := p.house(filepath.Join(t.TempDir(), "data"))
	cfg.HTTP, cfg.TLS.Redirect = freePort(t), freePort(t) // not where pebble looks by TLS
	// An authority asks port 80 and so names no port; pebble asks another one.
	eighty, err := net.Listen("tcp", p.http)
	if err != nil {
		t.Fatal(err)
	}
	lead := &http.Server{Handler: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: cfg.TLS.Redirect})
		r.Out.Host = ourHost
	}}}
	go lead.Serve(eighty)
	t.Cleanup(func() { lead.Close() })
	w := &wire{openHouse(t, cfg), t, p.roots()}
	waitForCertificate(t, cfg.Data)
	if answer := w.get(w.client(false), "https://"+ourHost+"/in", ""); answer.StatusCode != http.StatusOK {
		t.Errorf("got %s", answer.Status)
	}
	if got := w.raw(cfg.TLS.Redirect, "GET /.well-known/acme-challenge/x HTTP/1.1\r\nConnection: close\r\nHost: evil.example\r\n\r\n"); !strings.Contains(got, " 421 ") {
		t.Errorf("a foreign host got %.60q", got)
	}
	if got := w.raw(cfg.TLS.Redirect, "GET /.well-known/acme-challenge/../../calls HTTP/1.1\r\nConnection: close\r\nHost: "+ourHost+"\r\n\r\n"); strings.Contains(got, " 200 ") {
		t.Errorf("a path beside the challenges got %.60q", got)
	}
}

// A house closes at once, though an authority hangs.
func TestAHangingAuthority(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := Defaults()
	cfg.Data, cfg.HTTP, cfg.URL = filepath.Join(t.TempDir(), "data"), "127.0.0.1:0", "https://"+ourHost
	cfg.ACME = ACME{Agree: true, Directory: "https://" + l.Addr().String() + "/dir"}
	a := openHouse(t, cfg)
	time.Sleep(50 * time.Millisecond)
	began := time.Now()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("closing took %s", took)
	}
}
