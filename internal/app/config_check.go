package app

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"yesline"
)

// Level is how bad a Finding is.
type Level string

const (
	Refuse Level = "refuse" // serve does not start
	Warn   Level = "warn"   // serve starts, and somebody can be hurt
	Note   Level = "note"   // good to know
)

// Finding is one thing about a configuration or a data folder that is not as
// it should be. It repeats no value: a setting may hold a password by mistake.
type Finding struct {
	Level Level  `json:"level"`
	About string `json:"about"` // the setting, or the file
	Says  string `json:"says"`
	Fix   string `json:"fix"`
}

// String is the finding as one sentence.
func (f Finding) String() string { return f.About + " " + f.Says + ": " + f.Fix }

type findings []Finding

func (l *findings) refuse(about, says, fix string) {
	*l = append(*l, Finding{Refuse, about, says, fix})
}
func (l *findings) warn(about, says, fix string) { *l = append(*l, Finding{Warn, about, says, fix}) }
func (l *findings) note(about, says, fix string) { *l = append(*l, Finding{Note, about, says, fix}) }

// Check says everything that serve refuses at once: of the settings, and of
// the files they name. The root key is the keys' own to refuse.
func (c *Config) Check() error {
	l := findings(c.settings())
	c.lookAtCertificate(&l)
	c.lookAtSecret(&l)
	var errs []error
	for _, f := range l {
		if f.Level == Refuse {
			errs = append(errs, errors.New(f.String()))
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("the configuration is %w: %w", yesline.Invalid, errors.Join(errs...))
	}
	return nil
}

// settings are the findings that need no look at a disk.
func (c Config) settings() []Finding {
	var l findings
	for _, check := range []func(*findings){c.checkPages, c.checkTLS, c.checkACME, c.checkProxy, c.checkPhones, c.checkCalls, c.checkSMS, c.checkStores} {
		check(&l)
	}
	return l
}

func (c Config) checkPages(l *findings) {
	if c.Data == "" {
		l.refuse("data", "is empty", "name a folder")
	}
	if !isAddress(c.HTTP) {
		l.refuse("http", "is not an address and a port", "write it like 127.0.0.1:8080")
	} else if !loopback(c.HTTP) && !c.byTLS() {
		const says = "listens beyond this machine without TLS"
		if !c.Insecure {
			l.refuse("http", says, "give a certificate ([tls] or [acme]), or use a loopback address behind a TLS proxy, or set insecure = true knowingly")
		} else {
			l.warn("http", says, "give a certificate ([tls] or [acme]); whoever is on the way reads every page and takes every session over")
		}
	}
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		l.refuse("url", "is not how a house is reached", "write it like https://calls.example.org")
		return
	case isIP(u.Hostname()):
		l.warn("url", "names an address: passkeys need a name, so nobody can make one or sign in by one", "write a name, such as https://calls.example.org or http://localhost:8080")
	case !isHost(u.Hostname()):
		l.refuse("url", "has a host that browsers do not send", "write the name in ASCII (xn--...), like calls.example.org")
	case u.Scheme == "http" && c.byTLS():
		l.refuse("url", "says http, and the pages are served by TLS", "write https://")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		l.warn("url", "says http: browsers offer no passkeys there, and cookies travel in clear", "put TLS before the pages and write https://")
	case u.Scheme == "http":
		l.note("url", "is for this machine alone", "for people elsewhere write how they reach you, like https://calls.example.org")
	}
	if c.Pages.Connections < 16 || c.Pages.Connections > 1_000_000 || c.Pages.PerAddress < 4 || c.Pages.PerAddress > c.Pages.Connections {
		l.refuse("pages", "has limits of connections that cannot be meant", "connections is 16 to 1000000, per_address 4 to connections")
	}
}

func (c Config) checkTLS(l *findings) {
	if (c.TLS.Certificate == "") != (c.TLS.Key == "") {
		l.refuse("tls", "names one file of two", "give certificate and key")
	}
	if c.TLS.Certificate != "" && c.ACME.Agree {
		l.refuse("tls", "and acme both give a certificate", "keep one of the two")
	}
	if c.TLS.Redirect == "" {
		return
	}
	if !isAddress(c.TLS.Redirect) {
		l.refuse("tls.redirect", "is not an address and a port", "write it like 0.0.0.0:80")
	}
	if !strings.HasPrefix(c.URL, "https://") {
		l.refuse("tls.redirect", "leads to HTTPS, and the url says http", "write https:// in url, or take redirect away")
	}
}

func (c Config) checkACME(l *findings) {
	a := c.ACME
	if !a.Agree {
		if a.Contact != "" || a.Directory != "" || a.Roots != "" {
			l.refuse("acme.agree", "is missing", "read the authority's terms and set agree = true, or take [acme] away")
		}
		return
	}
	if host := c.Host(); !strings.Contains(strings.Trim(host, "."), ".") || isIP(host) {
		l.refuse("acme", "makes certificates for names such as calls.example.org, and the url has none", "give the url a name, or the files of a certificate ([tls])")
	}
	if m, err := mail.ParseAddress(a.Contact); a.Contact != "" && (err != nil || m.Address != a.Contact) {
		l.refuse("acme.contact", "is not a mail address", "write it like operator@example.org")
	} else if a.Contact == "" {
		l.note("acme.contact", "is empty", "name a mail address, so that the authority can tell you before a certificate ends")
	}
	if u, err := url.Parse(a.Directory); a.Directory != "" && (err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil) {
		l.refuse("acme.directory", "is not an https address", "write the authority's directory, or nothing for Let's Encrypt")
	}
	if port(c.HTTP) != "443" && port(c.TLS.Redirect) != "80" {
		l.note("acme", "is answered on port 443 of http or port 80 of tls.redirect, and neither is listened on", "see to it that one of these ports is led here")
	}
}

const (
	byXForwardedFor = "x-forwarded-for"
	byForwarded     = "forwarded"
	proxiesMost     = 64
)

func (c Config) checkProxy(l *findings) {
	if h := strings.ToLower(c.Proxy.Header); h != byXForwardedFor && h != byForwarded {
		l.refuse("proxy.header", "is not known", `write "x-forwarded-for" or "forwarded", the one that your proxy sets itself`)
	}
	if len(c.Proxy.From) > proxiesMost {
		l.refuse("proxy.from", "is too long", "name prefixes instead of addresses")
		return
	}
	for _, s := range c.Proxy.From {
		p, err := prefix(s)
		switch {
		case err != nil:
			l.refuse("proxy.from", "has something that is no address or prefix", "write them like 10.0.0.5 or 10.0.0.0/24")
		case p.Bits() == 0:
			l.refuse("proxy.from", "believes everybody", "name the proxy's own address: whoever is believed says from where they come, and no brake holds them")
		case p.Addr().Is4() && p.Bits() < 8 || p.Addr().Is6() && p.Bits() < 16:
			l.warn("proxy.from", "believes a large part of the world", "name the proxy's own address")
		}
	}
	if len(c.Proxy.From) == 0 && strings.HasPrefix(c.URL, "https://") && !c.byTLS() {
		l.warn("proxy.from", "is empty, and a TLS proxy stands before the pages", "name the proxy's address: else all people look like one, and the brakes hold all of them at once")
	}
}

func (c Config) checkPhones(l *findings) {
	if !isAddress(c.SIP) {
		l.refuse("sip", "is not an address and a port", "write it like 127.0.0.1:5060")
	} else if !loopback(c.SIP) {
		c.plainly(l, "sip", "listens beyond this machine without TLS")
	}
	if ip, err := netip.ParseAddr(c.Media.IP); err != nil {
		l.refuse("media.ip", "is not an address", "write it like 127.0.0.1")
	} else if !ip.IsLoopback() {
		c.plainly(l, "media.ip", "receives unencrypted sound beyond this machine")
	}
	if c.Media.FromPort < 1024 || c.Media.ToPort > 65535 || c.Media.ToPort-c.Media.FromPort < 4 {
		l.refuse("media", "has a range of ports that cannot be used", "from_port to to_port lie in 1024 to 65535 and hold at least 5 ports")
	}
	if len(c.Trunk.Sources) > proxiesMost {
		l.refuse("trunk.sources", "is too long", "name prefixes instead of addresses")
		return
	}
	for _, s := range c.Trunk.Sources {
		p, err := prefix(s)
		if err != nil {
			l.refuse("trunk.sources", "has something that is no address or prefix", "write them like 192.0.2.10 or 192.0.2.0/24")
		} else if p.Bits() == 0 {
			l.refuse("trunk.sources", "takes everybody for the trunk", "name the carrier's addresses")
		}
	}
}

// plainly is what holds for sound and signalling beyond this machine.
func (c Config) plainly(l *findings, about, says string) {
	if !c.Insecure {
		l.refuse(about, says, "use a loopback address, or set insecure = true knowingly")
		return
	}
	l.warn(about, says, "keep it inside a network or tunnel that is yours: whoever is on the way hears the calls")
}

func (c Config) checkCalls(l *findings) {
	if c.Calls.Most < 1 || c.Calls.MaxSeconds < 1 || c.Calls.MaxSeconds > 4*3600 {
		l.refuse("calls", "has limits that cannot be meant", "most is at least 1, max_seconds 1 to 14400")
	}
	if c.Urgent.Carried && c.Trunk.Address == "" {
		l.refuse("emergency.carried", "is set and there is no trunk to carry them", "set trunk.address, or carried = false")
	}
	if len(c.Urgent.Numbers) == 0 {
		l.warn("emergency.numbers", "is empty: an emergency call would be asked for consent first", "name the emergency numbers of where your people are")
	} else if c.Trunk.Address != "" && !c.Urgent.Carried {
		l.warn("emergency.carried", "is false: a voice says that emergency calls cannot be carried", "set carried = true if your trunk carries them; else tell your people to keep another phone")
	}
	if c.Program.OneSided {
		l.warn("program.one_sided", "lets the voice of who said yes be kept although the other said no, where both places permit it", "leave it false unless your counsel agreed")
	}
}

const smsManyADay = 10_000

func (c Config) checkSMS(l *findings) {
	s := c.SMS
	if s.PerDay < 0 {
		l.refuse("sms.per_day", "is below nothing", "say how many messages a program may send in a day")
	}
	if s.URL == "" {
		if s.SecretFile != "" {
			l.refuse("sms.url", "is missing, and there is a secret for it", "name where messages are posted, or take [sms] away")
		}
		l.note("sms.url", "is empty: nobody can prove a number, and so nobody can join", "name your provider in [sms]")
		return
	}
	u, err := url.Parse(s.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		l.refuse("sms.url", "is not where a message can be posted", "write it like https://sms.example.org/send")
	case u.User != nil:
		l.refuse("sms.url", "holds a password", "put it into the file that secret_file names")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		l.refuse("sms.url", "sends numbers and codes in clear", "write https://")
	}
	if s.SecretFile == "" {
		l.refuse("sms.secret_file", "is missing", "name a file of mode 0600 with 16 random letters and more, which the provider knows too")
	}
	if s.PerDay > smsManyADay {
		l.warn("sms.per_day", "lets a storm of sign-ups spend much", "set it to what a good day needs")
	}
}

func (c Config) checkStores(l *findings) {
	stores := []struct{ name, address string }{{"people_db", c.PeopleDB}, {"keys_db", c.KeysDB}, {"content_db", c.ContentDB}}
	for i, s := range stores {
		for _, other := range stores[:i] {
			if s.address != "" && s.address == other.address {
				l.refuse(s.name, "is the same database as "+other.name, "give each of the three its own, with its own role: names, keys and recordings live apart")
			}
		}
		c.checkPostgres(l, s.name, s.address)
	}
	if a, b := login(c.PeopleDB), login(c.KeysDB); a != "" && (a == b || a == login(c.ContentDB)) || b != "" && b == login(c.ContentDB) {
		l.warn("people_db, keys_db, content_db", "share a role", "give each database its own role, so that one that is taken opens one")
	}
}

func (c Config) checkPostgres(l *findings, name, address string) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return
	}
	if _, set := u.User.Password(); set || u.Query().Has("password") {
		l.warn(name, "holds a password", "put it into a file of mode 0600 that PGPASSFILE names")
	}
	if mode := u.Query().Get("sslmode"); u.Hostname() != "" && !isLoopback(u.Hostname()) && mode != "verify-full" && mode != "verify-ca" {
		l.warn(name, "is reached without checking who answers", "add sslmode=verify-full")
	}
}

// login is who signs in to a PostgreSQL database, or "".
func login(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.User == nil {
		return ""
	}
	return u.User.Username()
}

// prefix reads an address or a prefix.
func prefix(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("an address or a prefix: %w", yesline.Invalid)
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), nil
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?$`)

func isHost(s string) bool { return len(s) <= 253 && (isIP(s) || hostName.MatchString(s)) }

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// isLoopback reports whether a host, without a port, is this machine.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// loopback reports whether an address with a port is reached by this machine
// alone.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && isLoopback(host)
}

func isAddress(s string) bool {
	_, p, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(p, 10, 16)
	return err == nil
}

func port(address string) string {
	_, p, _ := net.SplitHostPort(address)
	return p
}
