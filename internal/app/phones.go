package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"

	"yesline"
	"yesline/internal/capture/media"
	"yesline/internal/capture/sip"
	"yesline/internal/capture/tolls"
)

// openPhones builds the SIP door of a house with a trunk.
func (a *App) openPhones(ctx context.Context, sound media.Config) error {
	to, err := a.telephony(ctx, sound)
	if err != nil {
		return err
	}
	to.Whose = a.whose
	to.Turned = func(word string, times int64) { a.Tolls.Turned(tolls.Who{}, word, times) }
	a.Phones, err = sip.New(to, a.Sessions, a.Capture, a.Plane)
	return err
}

// telephony is how the SIP door is set up.
func (a *App) telephony(ctx context.Context, sound media.Config) (to sip.Config, err error) {
	cfg := a.Config
	to = sip.Config{CallerID: cfg.Trunk.CallerID, Emergency: cfg.Urgent.Numbers, NoEmergency: !cfg.Urgent.Carried,
		MaxCalls: cfg.Calls.Most, Media: sound, Encrypted: cfg.Media.Encrypted, Report: a.Report}
	if to.CallerID == "" && len(cfg.Trunk.CallerIDs) > 0 {
		to.CallerID = cfg.Trunk.CallerIDs[0]
	}
	if to.Listen, err = netip.ParseAddrPort(cfg.SIP); err != nil {
		return to, fmt.Errorf("sip: an address and a port, like 127.0.0.1:5060: %w", yesline.Invalid)
	}
	if cfg.SIPTCP.Listen != "" {
		if to.ListenTCP, err = netip.ParseAddrPort(cfg.SIPTCP.Listen); err != nil {
			return to, fmt.Errorf("sip_tcp.listen: an address and a port, like 127.0.0.1:5060: %w", yesline.Invalid)
		}
	}
	if err := a.overTLS(&to); err != nil {
		return to, err
	}
	return to, a.trunk(ctx, &to)
}

// overTLS has phones and the trunk reach us by TLS, by a certificate of its own
// or the pages'.
func (a *App) overTLS(to *sip.Config) (err error) {
	cfg := a.Config.SIPTLS
	if cfg.Listen == "" {
		return nil
	}
	if to.ListenTLS, err = netip.ParseAddrPort(cfg.Listen); err != nil {
		return fmt.Errorf("sip_tls.listen: an address and a port, like 192.0.2.1:5061: %w", yesline.Invalid)
	}
	ours := a.Config
	if cfg.Certificate != "" {
		ours.TLS.Certificate, ours.TLS.Key, ours.ACME.Agree = cfg.Certificate, cfg.Key, false
	}
	certificates, err := (&App{Config: ours, Report: a.Report}).openCertificates()
	if err != nil {
		return err
	}
	if certificates.start != nil {
		a.later(certificates.start())
	}
	to.TLS = certificates.config()
	to.TLS.NextProtos = nil
	if cfg.ClientCA != "" {
		if to.TLS.ClientCAs, err = readRoots("sip_tls.client_ca", cfg.ClientCA); err != nil {
			return err
		}
		to.TLS.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return nil
}

// trunk tells the door where calls go out, and by what it knows the trunk.
func (a *App) trunk(ctx context.Context, to *sip.Config) (err error) {
	cfg := a.Config.Trunk
	if to.Trunk, err = trunkAddress(ctx, cfg.Address); err != nil {
		return err
	}
	if to.TrunkFrom, err = trunkSources(cfg.Sources); err != nil {
		return err
	}
	password, err := cfg.Secret()
	if err != nil {
		return err
	}
	to.TrunkOver, to.TrunkSRTP = cfg.Transport, cfg.SRTP == "sdes"
	to.TrunkAccount = sip.Account{User: cfg.User, Password: password, Register: cfg.Register, Domain: cfg.Domain}
	if cfg.Transport != "tls" {
		return nil
	}
	host, _, _ := net.SplitHostPort(cfg.Address)
	to.TrunkTLS = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if cfg.Name != "" {
		to.TrunkTLS.ServerName = cfg.Name
	}
	if a.Config.SIPTLS.ClientCA != "" {
		to.TrunkName = to.TrunkTLS.ServerName
	}
	if cfg.CA != "" {
		if to.TrunkTLS.RootCAs, err = readRoots("trunk.ca", cfg.CA); err != nil {
			return err
		}
	}
	if cfg.Certificate == "" {
		return nil
	}
	ours := &pair{certificate: cfg.Certificate, key: cfg.Key, report: a.Report, about: "trunk"}
	if err := ours.look(); err != nil {
		return err
	}
	a.later(ours.watch(lookEvery))
	to.TrunkTLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return ours.get(nil) }
	return nil
}

// trunkAddress finds the address of a trunk that is named; it is looked up once.
func trunkAddress(ctx context.Context, written string) (netip.AddrPort, error) {
	if at, err := netip.ParseAddrPort(written); err == nil {
		return at, nil
	}
	host, port, err := net.SplitHostPort(written)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("trunk.address: an address and a port, like 192.0.2.1:5060: %w", yesline.Invalid)
	}
	n, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("trunk.address: its port: %w", yesline.Invalid)
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(found) == 0 {
		return netip.AddrPort{}, fmt.Errorf("trunk.address: its name has no address now: %w", yesline.Unavailable)
	}
	return netip.AddrPortFrom(found[0].Unmap(), uint16(n)), nil
}

func trunkSources(written []string) (sources []netip.Prefix, err error) {
	for _, s := range written {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			one, oneErr := netip.ParseAddr(s)
			if oneErr != nil {
				return nil, fmt.Errorf("trunk.sources: addresses or prefixes: %w", yesline.Invalid)
			}
			p = netip.PrefixFrom(one, one.BitLen())
		}
		sources = append(sources, p)
	}
	return sources, nil
}

func readRoots(about, path string) (*x509.CertPool, error) {
	data, err := readSmall(about, path, 0)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s holds no certificate: %w", about, yesline.Invalid)
	}
	return roots, nil
}
