//go:build linux

package app_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/srtp/v3"
)

// The telephones of a load: many, and each no more than a call needs. They
// share no code with the house, and little with internal/phone, which keeps
// what it hears and paces its own sound.

// handset is an address that calls are made from. The house counts what comes
// from each address, so there are many.
type handset struct {
	path
	mu    sync.Mutex
	calls map[string]*dialing // by Call-ID
}

// path is how messages go to the house and come from it.
type path struct {
	over  string // "UDP" or "TLS"
	at    string // our address
	write func([]byte)
	close func()
}

// dialing is one call that a handset makes.
type dialing struct {
	from   *handset
	house  netip.AddrPort
	user   string
	id     string
	tag    string
	seq    int
	remote string // To, with the house's tag
	target string
	ack    []byte // to send again
	got    chan sipText
	over   chan struct{} // closed by the house's BYE
	once   sync.Once
}

// sipText is a SIP message as it came.
type sipText []byte

func (m sipText) first() string {
	line, _, _ := bytes.Cut(m, []byte("\r\n"))
	return string(line)
}

// status is the code of a response, 0 of a request.
func (m sipText) status() int {
	if !bytes.HasPrefix(m, []byte("SIP/2.0 ")) || len(m) < 11 {
		return 0
	}
	n, _ := strconv.Atoi(string(m[8:11]))
	return n
}

// get gives the first header of a name; long names only, in any case.
func (m sipText) get(name string) string {
	all := m.all(name)
	if len(all) == 0 {
		return ""
	}
	return all[0]
}

func (m sipText) all(name string) (values []string) {
	head, _, _ := bytes.Cut(m, []byte("\r\n\r\n"))
	for len(head) > 0 {
		line, rest, _ := bytes.Cut(head, []byte("\r\n"))
		head = rest
		if k, v, ok := bytes.Cut(line, []byte(":")); ok && len(k) >= len(name) && strings.EqualFold(string(bytes.TrimSpace(k)), name) {
			values = append(values, string(bytes.TrimSpace(v)))
		}
	}
	return values
}

func (m sipText) body() []byte {
	_, body, _ := bytes.Cut(m, []byte("\r\n\r\n"))
	return body
}

// sound is where a session description wants its packets.
func (m sipText) sound() (netip.AddrPort, error) {
	var addr netip.Addr
	var port int
	for _, line := range strings.Split(string(m.body()), "\r\n") {
		if rest, ok := strings.CutPrefix(line, "c=IN IP4 "); ok {
			addr, _ = netip.ParseAddr(rest)
		}
		if rest, ok := strings.CutPrefix(line, "m=audio "); ok {
			word, _, _ := strings.Cut(rest, " ")
			port, _ = strconv.Atoi(word)
		}
	}
	if !addr.Is4() || port == 0 {
		return netip.AddrPort{}, errors.New("a session description that says no place for sound")
	}
	return netip.AddrPortFrom(addr, uint16(port)), nil
}

// newHandset begins to listen at an address of its own, over TLS when trusted
// tells whom to trust.
func newHandset(n int, house netip.AddrPort, trusted *tls.Config) (*handset, error) {
	h, here := &handset{calls: map[string]*dialing{}}, net.IPv4(127, 0, 1, byte(1+n))
	if trusted != nil {
		dialer := tls.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: here}}, Config: trusted}
		conn, err := dialer.Dial("tcp", house.String())
		if err != nil {
			return nil, err
		}
		h.path = path{"TLS", conn.LocalAddr().String(), func(b []byte) { conn.Write(b) }, func() { conn.Close() }}
		go readStream(conn, h.take)
		return h, nil
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: here})
	if err != nil {
		return nil, err
	}
	h.path = path{"UDP", conn.LocalAddr().String(), func(b []byte) { conn.WriteToUDPAddrPort(b, house) }, func() { conn.Close() }}
	go readDatagrams(conn, func(m sipText, _ netip.AddrPort) { h.take(m) })
	return h, nil
}

// readDatagrams reads messages until the socket is closed.
func readDatagrams(conn *net.UDPConn, take func(sipText, netip.AddrPort)) {
	conn.SetReadBuffer(4 << 20)
	buf := make([]byte, 8<<10)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && n >= 16 { // less is a keep-alive
			take(bytes.Clone(buf[:n]), from)
		}
	}
}

// readStream reads messages until the connection ends (RFC 3261, 18.3).
func readStream(conn net.Conn, take func(sipText)) {
	in := bufio.NewReader(conn)
	var m sipText
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		if len(m) == 0 && len(line) <= 2 {
			continue // a keep-alive
		}
		m = append(m, line...)
		if len(line) > 2 {
			continue
		}
		size, _ := strconv.Atoi(m.get("Content-Length"))
		head := len(m)
		m = append(m, make([]byte, min(max(size, 0), 8<<10))...)
		if _, err := io.ReadFull(in, m[head:]); err != nil {
			return
		}
		take(m)
		m = nil
	}
}

// take takes a message of the house.
func (h *handset) take(m sipText) {
	h.mu.Lock()
	d := h.calls[m.get("Call-ID")]
	h.mu.Unlock()
	code := m.status()
	switch {
	case code == 0:
		h.write(reply(m, 200, "", "", nil)) // a BYE, or something that may be agreed to
		if d != nil && strings.HasPrefix(m.first(), "BYE ") {
			d.once.Do(func() { close(d.over) })
		}
	case d == nil || code < 200:
	case code < 300 && d.acknowledged(m):
		h.write(d.ack)
	default:
		select {
		case d.got <- m:
		default:
		}
	}
}

// acknowledged reports whether a 200 is one that was answered already.
func (d *dialing) acknowledged(m sipText) bool {
	d.from.mu.Lock()
	defer d.from.mu.Unlock()
	return d.ack != nil && strings.HasSuffix(m.get("CSeq"), "INVITE")
}

var branches atomic.Int64

func branch() string { return "z9hG4bKload" + strconv.FormatInt(branches.Add(1), 36) }

// dial makes a call and returns when it was picked up, with the house's yes.
func (h *handset) dial(ctx context.Context, house netip.AddrPort, who account, number, media string) (*dialing, sipText, error) {
	d := &dialing{from: h, house: house, user: who.User, id: "load-" + branch(), tag: branch(), got: make(chan sipText, 8), over: make(chan struct{})}
	h.mu.Lock()
	h.calls[d.id] = d
	h.mu.Unlock()
	uri := fmt.Sprintf("sip:%s@%s%s", number, house, by(h.over))
	d.remote, d.target = "<"+uri+">", uri
	m, err := d.ask(ctx, "INVITE", uri, media, "")
	for range 2 {
		if err != nil || m.status() != 401 {
			break
		}
		d.send(d.request("ACK", uri, m.get("To"), "", "", d.seq, d.lastBranch(m)))
		var proof string
		if proof, err = prove(m.get("WWW-Authenticate"), who, "INVITE", uri); err != nil {
			break
		}
		m, err = d.ask(ctx, "INVITE", uri, media, proof)
	}
	if err == nil && m.status() != 200 {
		err = fmt.Errorf("the house said %s", m.first())
	}
	if err != nil {
		d.forget()
		return nil, nil, fmt.Errorf("dialling: %w", err)
	}
	d.remote = m.get("To")
	if c := inner(m.get("Contact")); c != "" {
		d.target = c
	}
	ack := d.request("ACK", d.target, d.remote, "", "", d.seq, branch())
	h.mu.Lock()
	d.ack = ack
	h.mu.Unlock()
	d.send(ack)
	return d, m, nil
}

func (d *dialing) forget() {
	d.from.mu.Lock()
	delete(d.from.calls, d.id)
	d.from.mu.Unlock()
}

// hangUp ends the call.
func (d *dialing) hangUp(ctx context.Context) error {
	defer d.forget()
	select {
	case <-d.over:
		return nil
	default:
	}
	m, err := d.ask(ctx, "BYE", d.target, "", "")
	if err == nil && m.status() != 200 {
		select {
		case <-d.over: // it crossed one of theirs
		default:
			err = fmt.Errorf("hanging up: the house said %s", m.first())
		}
	}
	return err
}

// ask sends a request until a final answer comes.
func (d *dialing) ask(ctx context.Context, method, uri, body, proof string) (sipText, error) {
	d.seq++
	packet := d.request(method, uri, d.remote, body, proof, d.seq, branch())
	wants := strconv.Itoa(d.seq) + " " + method
	for wait := 500 * time.Millisecond; wait <= 16*time.Second; wait *= 2 {
		d.send(packet)
		again := time.NewTimer(wait)
		for waiting := true; waiting; {
			select {
			case m := <-d.got:
				if m.get("CSeq") == wants {
					again.Stop()
					return m, nil
				}
			case <-again.C:
				waiting = false
			case <-ctx.Done():
				again.Stop()
				return nil, ctx.Err()
			}
		}
	}
	return nil, errors.New("no answer")
}

func (d *dialing) send(packet []byte) { d.from.write(packet) }

func (d *dialing) lastBranch(m sipText) string {
	_, rest, _ := strings.Cut(m.get("Via"), "branch=")
	word, _, _ := strings.Cut(rest, ";")
	return word
}

func (d *dialing) request(method, uri, to, body, proof string, seq int, branch string) []byte {
	var b bytes.Buffer
	at := d.from.at
	fmt.Fprintf(&b, "%s %s SIP/2.0\r\nVia: SIP/2.0/%s %s;rport;branch=%s\r\nMax-Forwards: 70\r\nFrom: <sip:%s@%s>;tag=%s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\nContact: <sip:%s@%s%s>\r\n",
		method, uri, d.from.over, at, branch, d.user, d.house.Addr(), d.tag, to, d.id, seq, method, d.user, at, by(d.from.over))
	if proof != "" {
		fmt.Fprintf(&b, "Authorization: %s\r\n", proof)
	}
	if body != "" {
		b.WriteString("Content-Type: application/sdp\r\n")
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	return b.Bytes()
}

// by is the parameter of a URI that is reached so.
func by(over string) string {
	if over == "TLS" {
		return ";transport=tls"
	}
	return ""
}

// prove answers a challenge (RFC 7616, 8760) with qop=auth.
func prove(challenge string, who account, method, uri string) (string, error) {
	word := func(name string) string {
		_, rest, found := strings.Cut(challenge, name+"=")
		if !found {
			return ""
		}
		if quoted, ok := strings.CutPrefix(rest, `"`); ok {
			value, _, _ := strings.Cut(quoted, `"`)
			return value
		}
		value, _, _ := strings.Cut(rest, ",")
		return strings.TrimSpace(value)
	}
	var sum func() hash.Hash
	switch algorithm := word("algorithm"); algorithm {
	case "SHA-256":
		sum = sha256.New
	case "MD5", "":
		sum = md5.New
	default:
		return "", fmt.Errorf("a challenge of %q", algorithm)
	}
	h := func(parts ...string) string {
		s := sum()
		s.Write([]byte(strings.Join(parts, ":")))
		return fmt.Sprintf("%x", s.Sum(nil))
	}
	realm, nonce, once := word("realm"), word("nonce"), branch()
	response := h(h(who.User, realm, who.Password), nonce, "00000001", once, "auth", h(method, uri))
	answer := fmt.Sprintf(`Digest username="%s", realm="%s", nonce="%s", uri="%s", response="%s", qop=auth, nc=00000001, cnonce="%s"`,
		who.User, realm, nonce, uri, response, once)
	if a := word("algorithm"); a != "" {
		answer += ", algorithm=" + a
	}
	if o := word("opaque"); o != "" {
		answer += fmt.Sprintf(`, opaque="%s"`, o)
	}
	return answer, nil
}

// reply answers a request.
func reply(m sipText, code int, tag, contact string, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "SIP/2.0 %d %s\r\n", code, map[int]string{100: "Trying", 180: "Ringing", 200: "OK", 487: "Request Terminated"}[code])
	for _, v := range m.all("Via") {
		fmt.Fprintf(&b, "Via: %s\r\n", v)
	}
	to := m.get("To")
	if tag != "" && !strings.Contains(to, ";tag=") {
		to += ";tag=" + tag
	}
	fmt.Fprintf(&b, "From: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %s\r\n", m.get("From"), to, m.get("Call-ID"), m.get("CSeq"))
	if contact != "" {
		fmt.Fprintf(&b, "Contact: <sip:trunk@%s>\r\n", contact)
	}
	if len(body) > 0 {
		b.WriteString("Content-Type: application/sdp\r\n")
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	return b.Bytes()
}

// inner is what stands between < and >.
func inner(value string) string {
	_, rest, found := strings.Cut(value, "<")
	if !found {
		return ""
	}
	uri, _, _ := strings.Cut(rest, ">")
	return uri
}

// describe says where a leg is heard, and by which key it speaks; "": in clear.
func describe(at netip.AddrPort, crypto string) string {
	profile := "AVP"
	if crypto != "" {
		profile, crypto = "SAVP", "a=crypto:"+crypto+"\r\n"
	}
	return fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 %[1]s\r\ns=-\r\nc=IN IP4 %[1]s\r\nt=0 0\r\nm=audio %[2]d RTP/%[3]s 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n%[4]s", at.Addr(), at.Port(), profile, crypto)
}

// suite is an encryption of sound, named as SDES does (RFC 4568). The zero value
// is none.
type suite struct {
	name    string
	size    int // bytes of key and salt
	profile srtp.ProtectionProfile
}

var suites = []suite{
	{"AEAD_AES_128_GCM", 16 + 12, srtp.ProtectionProfileAeadAes128Gcm},
	{"AES_CM_128_HMAC_SHA1_80", 16 + 14, srtp.ProtectionProfileAes128CmHmacSha1_80},
}

// newKey is a key, and how a session description names it.
func (s suite) newKey(tag string) (key []byte, crypto string) {
	key = make([]byte, s.size)
	rand.Read(key)
	return key, tag + " " + s.name + " inline:" + base64.StdEncoding.EncodeToString(key)
}

// key gives the key of a suite that a description names, and its tag.
func (m sipText) key(s suite) (key []byte, tag string) {
	for _, line := range strings.Split(string(m.body()), "\r\n") {
		f := strings.Fields(strings.TrimPrefix(line, "a=crypto:"))
		if !strings.HasPrefix(line, "a=crypto:") || len(f) < 3 || f[1] != s.name {
			continue
		}
		text, _, _ := strings.Cut(strings.TrimPrefix(f[2], "inline:"), "|")
		if key, err := base64.StdEncoding.DecodeString(text); err == nil && len(key) == s.size {
			return key, f[0]
		}
	}
	return nil, ""
}

// farEnd is the trunk: everybody it is asked for rings, picks up, and hangs up
// when told so.
type farEnd struct {
	at       string
	over     string
	shut     func()
	media    func(number string, offer sipText) (answer string) // how the party is reached; "": nobody is
	answered func(number string)
	ended    func(number string)
	mu       sync.Mutex
	calls    map[string]*answering
	Answered atomic.Int64
	Ended    atomic.Int64
	closed   chan struct{}
}

type answering struct {
	number string
	write  func([]byte)
	ok     []byte
	sent   time.Time
	wait   time.Duration
	acked  bool
}

// newFarEnd begins to listen, over TLS with the certificate of certain.
func newFarEnd(certain *tls.Config) (*farEnd, error) {
	f := &farEnd{over: "UDP", calls: map[string]*answering{}, closed: make(chan struct{})}
	if certain == nil {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return nil, err
		}
		f.at, f.shut = conn.LocalAddr().String(), func() { conn.Close() }
		go readDatagrams(conn, func(m sipText, from netip.AddrPort) {
			f.take(m, func(b []byte) { conn.WriteToUDPAddrPort(b, from) })
		})
	} else {
		listener, err := tls.Listen("tcp4", "127.0.0.1:0", certain)
		if err != nil {
			return nil, err
		}
		f.over, f.at, f.shut = "TLS", listener.Addr().String(), func() { listener.Close() }
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					readStream(conn, func(m sipText) { f.take(m, func(b []byte) { conn.Write(b) }) })
				}()
			}
		}()
	}
	go f.repeat()
	return f, nil
}

func (f *farEnd) close() {
	close(f.closed)
	f.shut()
}

// take takes a message of the house.
func (f *farEnd) take(m sipText, write func([]byte)) {
	if m.status() != 0 {
		return
	}
	method, rest, _ := strings.Cut(m.first(), " ")
	id := m.get("Call-ID")
	f.mu.Lock()
	c := f.calls[id]
	f.mu.Unlock()
	switch {
	case method == "INVITE" && c == nil:
		number, _, _ := strings.Cut(strings.TrimPrefix(rest, "sip:"), "@")
		media := f.media(number, m)
		if media == "" {
			write(reply(m, 487, branch(), "", nil))
			return
		}
		tag := branch()
		c = &answering{number: number, write: write, ok: reply(m, 200, tag, f.at+by(f.over), []byte(media)), sent: time.Now(), wait: 500 * time.Millisecond}
		f.mu.Lock()
		f.calls[id] = c
		f.mu.Unlock()
		write(reply(m, 180, tag, f.at+by(f.over), nil))
		write(c.ok)
	case method == "INVITE":
		write(c.ok)
	case method == "ACK":
		if c == nil {
			return
		}
		f.mu.Lock()
		first := !c.acked
		c.acked = true
		f.mu.Unlock()
		if first {
			f.Answered.Add(1)
			f.answered(c.number)
		}
	case method == "BYE":
		write(reply(m, 200, "", "", nil))
		if c == nil {
			return
		}
		f.mu.Lock()
		delete(f.calls, id)
		f.mu.Unlock()
		f.Ended.Add(1)
		f.ended(c.number)
	default:
		write(reply(m, 200, "", "", nil))
	}
}

// repeat sends a 200 again until its ACK comes.
func (f *farEnd) repeat() {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-f.closed:
			return
		case <-tick.C:
		}
		now := time.Now()
		f.mu.Lock()
		for _, c := range f.calls {
			if !c.acked && now.Sub(c.sent) >= c.wait && c.wait < 16*time.Second {
				c.sent, c.wait = now, 2*c.wait
				c.write(c.ok)
			}
		}
		f.mu.Unlock()
	}
}
