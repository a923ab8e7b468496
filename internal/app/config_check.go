package app

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"yesline"
	"yesline/internal/capture/media"
	"yesline/internal/capture/tolls"
	"yesline/internal/program"
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
	c.lookAtSignalling(&l)
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
	for _, check := range []func(*findings){c.checkPages, c.checkTLS, c.checkACME, c.checkProxy, c.checkPhones, c.checkBrowsers, c.checkTrunk, c.checkTolls, c.checkCalls, c.checkProgram, c.checkSMS, c.checkStores} {
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
	if c.SIPTCP.Listen != "" && !isAddress(c.SIPTCP.Listen) {
		l.refuse("sip_tcp.listen", "is not an address and a port", "write it like 127.0.0.1:5060")
	} else if c.SIPTCP.Listen != "" && !loopback(c.SIPTCP.Listen) {
		c.plainly(l, "sip_tcp.listen", "listens beyond this machine without TLS")
	}
	c.checkSIPTLS(l)
	c.checkMediaIPs(l)
	if c.Media.FromPort < 1024 || c.Media.ToPort > 65535 || c.Media.ToPort-c.Media.FromPort < 4 {
		l.refuse("media", "has a range of ports that cannot be used", "from_port to to_port lie in 1024 to 65535 and hold at least 5 ports")
	}
}

func (c Config) checkMediaIPs(l *findings) {
	ip, err := netip.ParseAddr(c.Media.IP)
	if err != nil {
		l.refuse("media.ip", "is not an address", "write it like 127.0.0.1")
		return
	}
	beyond := !ip.IsLoopback()
	seen := []netip.Addr{ip}
	for _, text := range c.Media.MoreIPs {
		more, err := netip.ParseAddr(text)
		if err != nil || ip.IsUnspecified() || more.IsUnspecified() || more.Is4() != ip.Is4() || slices.Contains(seen, more) {
			l.refuse("media.more_ips", "has one that is no address, not of the kind of media.ip, or there twice", "name further addresses of this machine, all IPv4 or all IPv6")
			return
		}
		seen, beyond = append(seen, more), beyond || !more.IsLoopback()
	}
	if len(seen) > media.MaxAddrs {
		l.refuse("media.more_ips", "has too many", fmt.Sprintf("name %d at most", media.MaxAddrs-1))
	}
	if beyond && !c.Media.Encrypted {
		c.plainly(l, "media.ip", "receives unencrypted sound beyond this machine")
	}
}

func (c Config) checkSIPTLS(l *findings) {
	s := c.SIPTLS
	if s.Listen == "" {
		return // the files may be the pages'
	}
	if !isAddress(s.Listen) {
		l.refuse("sip_tls.listen", "is not an address and a port", "write it like 192.0.2.1:5061")
	}
	switch {
	case (s.Certificate == "") != (s.Key == ""):
		l.refuse("sip_tls", "names one file of two", "give certificate and key, or neither for those of the pages")
	case s.Certificate == "" && !c.byTLS():
		l.refuse("sip_tls", "has no certificate, and the pages have none", "give certificate and key here, or in [tls]")
	}
}

const (
	peersMost   = 10_000
	relaysMost  = 8
	publicsMost = 8
)

func (c Config) checkBrowsers(l *findings) {
	w := c.WebRTC
	if w.UDP == "" {
		if w.TCP != "" || len(w.Public) > 0 || w.RelayOnly || len(w.TURN.URLs) > 0 || w.TURN.SecretFile != "" {
			l.refuse("webrtc.udp", "is empty, and the rest of [webrtc] is set", "name an address and a port, or take the rest away")
		}
		return
	}
	beyond := len(w.Public) > 0
	for _, s := range []struct{ about, address string }{{"webrtc.udp", w.UDP}, {"webrtc.tcp", w.TCP}} {
		if s.address == "" && s.about == "webrtc.tcp" {
			continue
		}
		at, err := netip.ParseAddrPort(s.address)
		switch {
		case err != nil:
			l.refuse(s.about, "is not an address and a port", "write it like 127.0.0.1:0 or 192.0.2.1:3479")
		case at.Addr().IsUnspecified() && len(w.Public) == 0:
			l.refuse(s.about, "listens on all addresses, and browsers are told none", "name one address, or those that browsers use in webrtc.public")
		}
		beyond = beyond || err == nil && !at.Addr().IsLoopback()
	}
	c.checkPublic(l)
	c.checkRelay(l)
	if w.MaxPeers < 1 || w.MaxPeers > peersMost {
		l.refuse("webrtc.max_peers", "is a limit that cannot be meant", "it is 1 to 10000")
	}
	switch elsewhere := !isLoopback(c.Host()); {
	case elsewhere && !beyond && !w.RelayOnly:
		l.note("webrtc.udp", "is on loopback: only browsers on this machine can call", "name an address that people elsewhere reach, like 192.0.2.1:3479")
	case elsewhere && w.TCP == "" && len(w.TURN.URLs) == 0:
		l.note("webrtc", "has neither tcp nor a relay: browsers in networks without UDP cannot call", "set webrtc.tcp, or name a relay in [webrtc.turn]")
	}
}

func (c Config) checkPublic(l *findings) {
	if len(c.WebRTC.Public) > publicsMost {
		l.refuse("webrtc.public", "is too long", "name at most 8 addresses")
		return
	}
	for _, s := range c.WebRTC.Public {
		switch a, err := netip.ParseAddr(s); {
		case err != nil || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "":
			l.refuse("webrtc.public", "has something that is not an address browsers can send to", "write them like 192.0.2.1")
		case a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast():
			l.note("webrtc.public", "names an address that is not public", "that is right inside one network only")
		}
	}
}

var relayAddress = regexp.MustCompile(`^turns?:[A-Za-z0-9._:\[\]-]{1,253}(\?transport=(udp|tcp))?$`)

func (c Config) checkRelay(l *findings) {
	w := c.WebRTC
	if w.RelayOnly && len(w.TURN.URLs) == 0 {
		l.refuse("webrtc.relay_only", "is set and there is no relay", "name it in [webrtc.turn], or take relay_only away")
	}
	if len(w.TURN.URLs) > relaysMost {
		l.refuse("webrtc.turn.urls", "is too long", "name at most 8")
		return
	}
	for _, u := range w.TURN.URLs {
		if !relayAddress.MatchString(u) {
			l.refuse("webrtc.turn.urls", "has something that is no relay", "write them like turns:turn.example.org:5349?transport=tcp; stun: is not needed")
		}
	}
	if (len(w.TURN.URLs) > 0) != (w.TURN.SecretFile != "") {
		l.refuse("webrtc.turn", "needs urls and secret_file, both", "name a file of mode 0600 with the secret that the relay shares with us (coturn: static-auth-secret)")
	}
}

const (
	byUDP   = "udp"
	byTCP   = "tcp"
	bySIPS  = "tls"
	sdes    = "sdes"
	idsMost = 500
)

func (c Config) checkTrunk(l *findings) {
	t := c.Trunk
	c.checkSources(l)
	if t.Transport != "" && t.Transport != byUDP && t.Transport != byTCP && t.Transport != bySIPS {
		l.refuse("trunk.transport", "is not known", `write "udp", "tcp" or "tls"`)
	}
	if t.SRTP != "" && t.SRTP != sdes {
		l.refuse("trunk.srtp", "is not known", `write "sdes", or nothing for sound in clear`)
	}
	if t.SRTP == sdes && t.Transport != bySIPS {
		l.refuse("trunk.srtp", "sends the keys of the sound with the signalling, which travels in clear", `set trunk.transport = "tls"`)
	}
	if t.Transport != bySIPS && (t.Name != "" || t.CA != "" || t.Certificate != "" || t.Key != "") {
		l.refuse("trunk", "has name, ca, certificate or key, which are for TLS", `set trunk.transport = "tls", or take them away`)
	}
	if (t.Certificate == "") != (t.Key == "") {
		l.refuse("trunk", "names one file of two", "give certificate and key")
	}
	if (t.User == "") != (t.SecretFile == "") || t.Register && t.User == "" {
		l.refuse("trunk.user", "needs secret_file, register needs both, and secret_file a user", "give the user, and a file of mode 0600 with the password")
	}
	if t.Program != "" && !yesline.IsID("prg", t.Program) {
		l.refuse("trunk.program", "is not the name of a program", "write it like prg_..., as the page of programs shows it")
	}
	if shown, err := t.Shown(); err != nil || len(shown) > idsMost {
		l.refuse("trunk.caller_ids", "or trunk.caller_id has something that is no caller id, or too many", "write numbers with + and country code, like +18165550100")
	}
	if t.OwnID {
		l.note("trunk.own_caller_id", "tells callers' own numbers to the carrier and to whom they call", "ask your carrier whether it lets you show numbers that are not its own; many refuse such calls")
	}
	if t.Address != "" {
		c.checkTrunkAddress(l)
	}
}

func (c Config) checkTrunkAddress(l *findings) {
	t := c.Trunk
	host, p, err := net.SplitHostPort(t.Address)
	switch {
	case err != nil || !isAddress(t.Address) || p == "0" || !isHost(host):
		l.refuse("trunk.address", "is not an address and a port", "write it like 192.0.2.10:5060")
		return
	case !isIP(host) && t.Transport != bySIPS:
		l.refuse("trunk.address", "is a name, and without TLS whoever answers for the name is the trunk", `write the carrier's address, or set trunk.transport = "tls"`)
	case t.SRTP == "" && c.Media.Encrypted:
		l.refuse("trunk.srtp", "is empty, and media.encrypted refuses sound in clear: no call could be made", `set trunk.srtp = "sdes"`)
	case !isLoopback(host) && t.Transport != bySIPS:
		c.plainly(l, "trunk.transport", "leads beyond this machine without TLS: who is called, and what is said, travel in clear")
	case !isLoopback(host) && t.SRTP == "":
		c.plainly(l, "trunk.srtp", "is empty: the sound travels in clear beyond this machine")
	}
	if t.CallerID == "" && len(t.CallerIDs) == 0 {
		l.refuse("trunk.caller_id", "is empty", "write a number that your carrier gave you: carriers refuse calls from none")
	}
}

func (c Config) checkSources(l *findings) {
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

const (
	manyCountries = 40
	priceMost     = 100       // dollars a minute
	dayMost       = 1_000_000 // dollars
	paceMost      = 1_000_000
)

var prefixForm = regexp.MustCompile(`^\+[1-9][0-9]{0,14}$`)

func (c Config) checkTolls(l *findings) {
	t := c.Tolls
	c.checkPrices(l)
	for _, m := range []struct {
		about  string
		amount float64
	}{{"tolls.day_usd", t.Day}, {"tolls.account_day_usd", t.AccountDay}, {"tolls.trunk_day_usd", t.TrunkDay}} {
		if !(m.amount >= 0 && m.amount <= dayMost) { // so that what is no number is refused too
			l.refuse(m.about, "is an amount that cannot be meant", "write dollars a day, like 100.0")
		} else if m.amount == 0 {
			l.note(m.about, "is 0: no call that costs anything is placed", "write dollars a day")
		}
	}
	for _, n := range []struct {
		about string
		limit int
	}{{"tolls.account_calls", t.AccountCalls}, {"tolls.trunk_calls", t.TrunkCalls}, {"tolls.account_per_minute", t.AccountPace}, {"tolls.trunk_per_minute", t.TrunkPace}} {
		if n.limit < 1 || n.limit > paceMost {
			l.refuse(n.about, "is a limit that cannot be meant", "it is 1 to 1000000")
		}
	}
	if t.MaxSeconds < 1 || t.MaxSeconds > 4*3600 {
		l.refuse("tolls.max_seconds", "is a length that cannot be meant", "it is 1 to 14400")
	}
	if t.AccountDay > t.TrunkDay || t.AccountDay > t.Day {
		l.warn("tolls.account_day_usd", "lets one person spend the day's money of all", "set it well below day_usd and trunk_day_usd")
	}
	if c.Drain < 0 || c.Drain > 4*3600 {
		l.refuse("drain_seconds", "is a time that cannot be meant", "it is 0 to 14400")
	}
}

func (c Config) checkPrices(l *findings) {
	t := c.Tolls
	for _, prefix := range t.Never {
		if !prefixForm.MatchString(prefix) {
			l.refuse("tolls.never", "has something that is no prefix", `write them like "+4470"`)
		}
	}
	for region, usd := range t.PerMinute {
		if region != defaultPrice && region != premiumPrice && !isCountry(region) {
			l.refuse("tolls.per_minute_usd", "has a price for something that is no country", `write two letters such as GB, "default" or "premium"`)
		}
		if !(usd >= 0 && usd <= priceMost) {
			l.refuse("tolls.per_minute_usd", "has a price that cannot be meant", "write dollars a minute, like 0.02")
		}
	}
	for _, region := range t.International {
		if _, priced := t.PerMinute[region]; !isCountry(region) {
			l.refuse("tolls.international", "has something that is no country", "write two letters such as GB")
		} else if !priced {
			l.warn("tolls.international", "has a country without a price of its own: its calls are counted at the default", "write its price into [tolls.per_minute_usd]")
		}
	}
	if len(t.International) > manyCountries {
		l.warn("tolls.international", "opens a large part of the world: stolen accounts call where it pays the thief", "list the countries that your people do call")
	}
	if _, priced := t.PerMinute[premiumPrice]; t.Premium && !priced {
		l.refuse("tolls.premium", "is set, and what a minute costs is not", `write "premium" into [tolls.per_minute_usd]`)
	} else if t.Premium {
		l.warn("tolls.premium", "lets callers spend on numbers that charge extra, and some of these pay whoever calls them", "leave it false unless you need it")
	}
}

// checkProgram looks at the terms of the first program, which serve would
// refuse only when it makes it.
func (c Config) checkProgram(l *findings) {
	p := c.Program
	if n := utf8.RuneCountInString(strings.TrimSpace(p.Name)); n == 0 || n > 80 {
		l.refuse("program.name", "is no name", "write 1 to 80 letters")
	}
	if !isCountry(strings.ToUpper(p.Country)) {
		l.refuse("program.country", "is no country", "write two letters such as US: its law is asked, and numbers without + belong to it")
	}
	switch p.Ask {
	case "", program.AskBefore:
	case program.AskDuring:
		l.note("program.ask", "lets two people talk before they are asked; what they say then is not recorded", `write "before" if most of its calls are to be recorded`)
	default:
		l.refuse("program.ask", "is not known", `write "before" or "during"`)
	}
	for _, region := range p.International {
		switch {
		case !isCountry(region):
			l.refuse("program.international", "has something that is no country", "write two letters such as GB")
		case !slices.Contains(c.Tolls.International, region):
			l.warn("program.international", "has a country that tolls.international has not: it is not called", "add it there, with its price, or take it out here")
		}
	}
	if len(p.International) > countriesMost {
		l.refuse("program.international", "is too long", "list at most 100 countries")
	}
	if p.OneSided {
		l.warn("program.one_sided", "lets the voice of who said yes be kept although the other said no, where both places permit it", "leave it false unless your counsel agreed")
	}
}

const countriesMost = 100

func isCountry(region string) bool { return tolls.Country(region) != region }

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
