package app

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The way from the wire to the table of doors: who may connect and how often,
// TLS, which Host is answered, and for whom a proxy asks.

// openPages listens for the pages, and where it is configured for plain HTTP
// that is sent on to HTTPS.
func (a *App) openPages() error {
	certificates, err := a.openCertificates()
	if err != nil {
		return err
	}
	if a.pages, err = net.Listen("tcp", a.Config.HTTP); err != nil {
		return fmt.Errorf("listening for the pages: %w", err)
	}
	limits := &limits{most: a.Config.Pages.Connections, perAddress: a.Config.Pages.PerAddress, spared: a.Config.isProxy,
		report: a.Report, by: map[netip.Prefix]int{}}
	var l net.Listener = limited{a.pages, limits}
	server := a.Site.Server()
	server.Handler, server.DisableGeneralOptionsHandler = a.Config.front(server.Handler), true // else OPTIONS * passes us by
	if certificates.get != nil {
		l = tls.NewListener(l, certificates.config())
		server.HTTP2 = http2Limits()
	}
	a.serve(server, l)
	if err := a.openRedirect(certificates, limits); err != nil {
		return err
	}
	if certificates.start != nil {
		a.later(certificates.start())
	}
	return nil
}

func (a *App) openRedirect(c certificates, limits *limits) error {
	if a.Config.TLS.Redirect == "" {
		return nil
	}
	l, err := net.Listen("tcp", a.Config.TLS.Redirect)
	if err != nil {
		return fmt.Errorf("listening for plain HTTP: %w", err)
	}
	server := a.Site.Server()
	server.Handler, server.DisableGeneralOptionsHandler = http.HandlerFunc(a.Config.sendOn), true
	if c.challenge != nil {
		server.Handler = c.challenge(server.Handler)
	}
	server.Handler = a.Config.onlyOurHost(server.Handler)
	a.serve(server, limited{l, limits})
	return nil
}

// http2Limits are those that HTTP/1.1 has no word for. The others, for headers
// and slow clients, are the server's own.
func http2Limits() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams:          100,
		MaxReadFrameSize:              16 << 10,
		MaxReceiveBufferPerConnection: 1 << 20,
		MaxReceiveBufferPerStream:     128 << 10,
		SendPingTimeout:               30 * time.Second,
		PingTimeout:                   10 * time.Second,
		WriteByteTimeout:              15 * time.Second,
	}
}

// front stands before the table of doors: nothing is looked at under a foreign
// Host, and nobody further in reads what a proxy, or somebody who would be
// one, says about the asker.
func (c Config) front(next http.Handler) http.Handler {
	return c.onlyOurHost(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, inClear := c.ClientAddress(r), c.inClear(r)
		for _, name := range saidByProxies {
			delete(r.Header, name)
		}
		if client.IsValid() {
			r.RemoteAddr = netip.AddrPortFrom(client, 0).String()
		}
		if inClear {
			c.sendOn(w, r)
			return
		}
		next.ServeHTTP(w, r)
	}))
}

var saidByProxies = []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Server",
	"X-Forwarded-Prefix", "X-Real-Ip", "X-Original-Url", "X-Rewrite-Url", "X-Original-Host", "X-Host", "True-Client-Ip", "X-Client-Ip", "X-Http-Method-Override"}

// onlyOurHost answers for the configured host and for no other, before
// anything else: links, cookies and passkeys hang on that name.
func (c Config) onlyOurHost(next http.Handler) http.Handler {
	ours, known := c.hosts()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Host == "":
			c.say(w, http.StatusBadRequest, "Name the host you ask.")
		case !known || !ours(r.Host):
			c.say(w, http.StatusMisdirectedRequest, "Nothing of that name is here.")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// hosts tells which Host headers are ours. A house for this machine alone has
// all of loopback's names: a page from elsewhere cannot ask under those.
func (c Config) hosts() (ours func(host string) bool, known bool) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" {
		return nil, false
	}
	if isLoopback(u.Hostname()) {
		return func(host string) bool {
			name, _ := hostPort(host)
			return isLoopback(name)
		}, true
	}
	standard := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	wantName, wantPort := hostPort(u.Host)
	if wantPort == "" {
		wantPort = standard
	}
	return func(host string) bool {
		name, port := hostPort(host)
		return strings.EqualFold(name, wantName) && (port == "" && wantPort == standard || port == wantPort)
	}, true
}

// hostPort cuts a Host header. What has no right form gives a name that is
// nobody's.
func hostPort(host string) (name, port string) {
	name = host
	if at := strings.LastIndexByte(host, ':'); at > strings.LastIndexByte(host, ']') {
		name, port = host[:at], host[at+1:]
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
			return "", ""
		}
	}
	if inner, bracketed := strings.CutPrefix(name, "["); bracketed {
		name = strings.TrimSuffix(inner, "]")
		if len(name) == len(inner) || !isIP(name) {
			return "", ""
		}
		return name, port
	}
	if strings.Contains(name, ":") {
		return "", ""
	}
	return name, port
}

// sendOn leads somebody who asked in clear to HTTPS. What they sent stays
// unread: it was seen on the way.
func (c Config) sendOn(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead || !strings.HasPrefix(r.URL.Path, "/") {
		c.say(w, http.StatusForbidden, "Ask by HTTPS.")
		return
	}
	bare(w.Header())
	w.Header().Set("Location", c.URL+r.URL.RequestURI())
	w.WriteHeader(http.StatusPermanentRedirect)
}

// say answers with a line of ours, before the table of doors and its headers.
func (c Config) say(w http.ResponseWriter, status int, line string) {
	h := w.Header()
	bare(h)
	if c.byTLS() {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, line+"\n")
}

// bare are the headers of an answer that is no page.
func bare(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// ClientAddress is who asks: the peer, or whom a configured proxy asks for.
// Each proxy adds an address at the end, so they are read from there, and only
// as long as proxies of ours wrote them. It is not valid for a peer without an
// address, such as a local socket.
func (c Config) ClientAddress(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	at := peer.Addr().Unmap().WithZone("")
	if !c.isProxy(at) {
		return at
	}
	hops := c.hops(r)
	for i := len(hops) - 1; i >= 0 && i >= len(hops)-hopsMost; i-- {
		hop, ok := hopAddress(hops[i].from)
		if !ok || hop.IsLoopback() && !c.isProxy(hop) {
			return at // hidden, nonsense, or a name for this machine: the last one that we know
		}
		if at = hop; !c.isProxy(at) {
			return at
		}
	}
	return at
}

const hopsMost = 32

// isProxy reports whether an address is a configured proxy's.
func (c Config) isProxy(a netip.Addr) bool {
	for _, s := range c.Proxy.From {
		if p, err := prefix(s); err == nil && p.Bits() > 0 && p.Contains(a) {
			return true
		}
	}
	return false
}

// inClear reports whether a configured proxy says that it was asked in clear,
// for a house that people reach by HTTPS.
func (c Config) inClear(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !strings.HasPrefix(c.URL, "https://") || !c.isProxy(peer.Addr().Unmap().WithZone("")) {
		return false
	}
	if c.Proxy.Header == byForwarded {
		for _, h := range c.hops(r) {
			if h.proto != "" {
				return h.proto == "http" // as it came to the first of them
			}
		}
		return false
	}
	first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	return strings.EqualFold(strings.TrimSpace(first), "http")
}

// hop is what one proxy says: from whom a request came to it, and how.
type hop struct{ from, proto string }

// hops reads the one header that is configured, the newest hop last.
func (c Config) hops(r *http.Request) (hops []hop) {
	if c.Proxy.Header != byForwarded {
		for _, line := range r.Header.Values("X-Forwarded-For") {
			for from := range strings.SplitSeq(line, ",") {
				hops = append(hops, hop{from: strings.TrimSpace(from)})
			}
		}
		return hops
	}
	for _, line := range r.Header.Values("Forwarded") {
		elements, whole := splitQuoted(line, ',')
		if !whole { // who wrote the open quote took what a proxy wrote behind it
			return nil
		}
		for _, element := range elements {
			var h hop
			pairs, _ := splitQuoted(element, ';')
			for _, pair := range pairs {
				name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
				switch strings.ToLower(name) {
				case "for":
					h.from = unquote(value)
				case "proto":
					h.proto = strings.ToLower(unquote(value))
				}
			}
			hops = append(hops, h)
		}
	}
	return hops
}

// splitQuoted splits outside of quoted strings (RFC 9110, 5.6.4). It is not
// whole if one of them does not end.
func splitQuoted(s string, at byte) (parts []string, whole bool) {
	quoted, from := false, 0
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case !quoted && s[i] == at:
			parts, from = append(parts, s[from:i]), i+1
		}
	}
	return append(parts, s[from:]), !quoted
}

func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	return s[1 : len(s)-1] // no address has a backslash in it
}

// hopAddress reads an address with or without a port.
func hopAddress(s string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	if rest, ok := strings.CutPrefix(s, "["); ok {
		s, ok = strings.CutSuffix(rest, "]")
		if !ok {
			return netip.Addr{}, false
		}
	}
	a, err := netip.ParseAddr(s)
	return a.Unmap().WithZone(""), err == nil
}

// limits hold connections down, in all and for each address. One too many is
// closed at once: waiting would let the slow ones decide who comes in.
type limits struct {
	most, perAddress int
	spared           func(netip.Addr) bool // proxies: many come by one address
	report           *slog.Logger

	mu      sync.Mutex // guards all below
	all     int
	by      map[netip.Prefix]int
	refused int64
	told    time.Time // when the report last said so
}

const tellEvery = time.Minute

// neighbours are what counts as one asker: an IPv4 address, an IPv6 /64.
func neighbours(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}

func (l *limits) admit(from netip.Prefix, spared bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all < l.most && (spared || l.by[from] < l.perAddress) {
		l.all++
		l.by[from]++
		return true
	}
	l.refused++
	if time.Since(l.told) > tellEvery {
		l.told = time.Now()
		l.report.Warn("connections to the pages are refused: too many", "open", l.all, "refused", l.refused)
	}
	return false
}

func (l *limits) release(from netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.by[from]--; l.by[from] == 0 {
		delete(l.by, from)
	}
}

// limited is a listener that admits as many as limits says.
type limited struct {
	net.Listener
	limits *limits
}

func (l limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		var from netip.Prefix
		var spared bool
		if t, ok := c.RemoteAddr().(*net.TCPAddr); ok {
			a := t.AddrPort().Addr().Unmap().WithZone("")
			from, spared = neighbours(a), l.limits.spared(a)
		}
		if l.limits.admit(from, spared) {
			return &admitted{Conn: c, leave: sync.OnceFunc(func() { l.limits.release(from) })}, nil
		}
		if t, ok := c.(*net.TCPConn); ok {
			t.SetLinger(0) // leaves nothing behind in the kernel
		}
		c.Close()
	}
}

// admitted is a connection that counts until it is closed.
type admitted struct {
	net.Conn
	leave func()
}

func (c *admitted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
