//go:build linux

package app_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"yesline/internal/app"
)

// widen takes away the limits that keep people from what a bench does.
func widen(cfg *app.Config) {
	const many = 1_000_000
	cfg.Tolls.Day, cfg.Tolls.AccountDay, cfg.Tolls.TrunkDay = many, many, many
	cfg.Tolls.AccountCalls, cfg.Tolls.TrunkCalls = many, many
	cfg.Tolls.AccountPace, cfg.Tolls.TrunkPace = many, many
}

// encrypt makes a house that takes SIP over TLS and calls its trunk so, with
// the sound of both encrypted by keys that go there (SDES).
func encrypt(cfg *app.Config, folder string) {
	certificate, key, authority := filepath.Join(folder, "certificate.pem"), filepath.Join(folder, "key.pem"), filepath.Join(folder, "authority.pem")
	cfg.SIPTLS = app.SIPTLS{Listen: "127.0.0.1:0", Certificate: certificate, Key: key}
	cfg.Trunk.Transport, cfg.Trunk.CA, cfg.Trunk.SRTP = "tls", authority, "sdes"
	cfg.Media.Encrypted = true
}

// telephones is where a house takes calls, and whether that is over TLS.
func telephones(a *app.App) (at netip.AddrPort, secret bool) {
	if at := a.Phones.Secure(); at.IsValid() {
		return at, true
	}
	return a.Phones.Address(), false
}

// certificates writes those of a house and its trunk into a folder, and gives
// what the trunk shows and whom telephones trust.
func certificates(folder string) (in string, shown, trusted *tls.Config, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", nil, nil, err
	}
	what := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	certificate, err := x509.CreateCertificate(rand.Reader, what, what, &key.PublicKey, key)
	if err != nil {
		return "", nil, nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", nil, nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	for name, data := range map[string][]byte{"certificate.pem": text, "authority.pem": text,
		"key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})} {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o600); err != nil {
			return "", nil, nil, err
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	shown = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}}
	return folder, shown, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}, nil
}
