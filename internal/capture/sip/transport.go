package sip

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/emiago/sipgo/sip"

	"yesline"
)

// SIP over connections: TCP, and TLS over it. sipgo reads and writes them; what
// it reads are whole messages that the gate let pass, so its own reader never
// holds half of anything.
const (
	overUDP = "UDP"
	overTCP = "TCP"
	overTLS = "TLS"

	maxWires     = 2000             // connections at once
	maxUnproven  = 200              // of them, of peers that have not answered a challenge
	maxOfOne     = 20               // of one address, unless it is the trunk's
	proveTime    = 30 * time.Second // for the first right answer to a challenge
	messageTime  = 10 * time.Second // from a message's first byte to its last
	silenceTime  = 65 * time.Minute // between two signs of life: a bit more than a registration may last
	writeTime    = 5 * time.Second  // for a peer to take what we send it
	greetingTime = 10 * time.Second // for a TLS handshake, and for the trunk to take a call of ours
)

// origin is where a message came from.
type origin struct {
	at   netip.AddrPort
	over string
	line *line // its connection; nil over UDP
}

// wires are the connections of one transport: those that peers made, and those
// that we made to the trunk. To sipgo they look like one listener.
type wires struct {
	door     *Door
	over     string
	listener net.Listener
	config   *tls.Config // nil: TCP
	ready    chan *line  // to sipgo
	done     chan struct{}
	owned    sync.WaitGroup

	dialling sync.Mutex // held while a connection to the trunk is made: one is enough

	mu     sync.Mutex // guards the rest
	open   map[netip.AddrPort]*line
	of     map[netip.Addr]int
	closed bool
}

func newWires(d *Door, over string, listener net.Listener, config *tls.Config) *wires {
	w := &wires{door: d, over: over, listener: listener, config: config, ready: make(chan *line), done: make(chan struct{}),
		open: map[netip.AddrPort]*line{}, of: map[netip.Addr]int{}}
	if listener != nil {
		w.owned.Go(w.take)
	}
	return w
}

// take accepts until the listener is closed. Who is over a bound is hung up on
// without a word.
func (w *wires) take() {
	for {
		conn, err := w.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(50 * time.Millisecond) // out of files, most likely: do not spin
			continue
		}
		l := w.newLine(conn, false)
		if !w.enter(l) {
			w.door.Counters.Lines.Add(1)
			conn.Close()
			continue
		}
		w.owned.Go(func() { w.greet(l) })
	}
}

func (w *wires) newLine(conn net.Conn, ours bool) *line {
	at, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	return &line{Conn: conn, raw: conn, wires: w, at: netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), ours: ours,
		since: time.Now(), reading: make(chan struct{})}
}

// enter counts a connection in. When too many have proven nothing, any of them
// gives way: who waits without a word cannot keep the others out.
func (w *wires) enter(l *line) bool {
	w.mu.Lock()
	trunk := l.ours || w.door.cfg.isTrunk(l.at)
	if w.closed || !trunk && (len(w.open) >= maxWires || w.of[l.at.Addr()] >= maxOfOne) {
		w.mu.Unlock()
		return false
	}
	var gives *line
	unproven := 0
	for _, o := range w.open {
		if !o.proven.Load() {
			unproven++
			gives = o
		}
	}
	w.open[l.at], l.counted = l, true
	w.of[l.at.Addr()]++
	w.mu.Unlock()
	if unproven >= maxUnproven {
		gives.Close()
	}
	return true
}

func (w *wires) leave(l *line) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !l.counted {
		return
	}
	l.counted = false
	if w.open[l.at] == l {
		delete(w.open, l.at)
	}
	if w.of[l.at.Addr()]--; w.of[l.at.Addr()] <= 0 {
		delete(w.of, l.at.Addr())
	}
}

// find gives the connection from an address, or nil.
func (w *wires) find(at netip.AddrPort) *line {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open[at]
}

// greet shakes hands and gives the connection to sipgo.
func (w *wires) greet(l *line) {
	if w.config != nil {
		conn := tls.Server(l.Conn, w.config)
		ctx, cancel := context.WithTimeout(context.Background(), greetingTime)
		defer cancel()
		if conn.HandshakeContext(ctx) != nil {
			l.Close()
			return
		}
		l.shown(conn)
	}
	w.give(l)
}

// give hands a connection to sipgo.
func (w *wires) give(l *line) {
	if l.ours || w.door.isTrunk(origin{l.at, w.over, l}) {
		l.proven.Store(true)
	}
	select {
	case w.ready <- l:
	case <-w.done:
		l.Close()
	}
}

// Accept gives sipgo the next connection.
func (w *wires) Accept() (net.Conn, error) {
	select {
	case l := <-w.ready:
		return l, nil
	case <-w.done:
		return nil, net.ErrClosed
	}
}

// Addr is where we listen; for connections that are only made, where from.
func (w *wires) Addr() net.Addr {
	if w.listener == nil {
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(w.door.here.Addr(), 0))
	}
	return w.listener.Addr()
}

// Close hangs up on everybody.
func (w *wires) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	var all []*line
	for _, l := range w.open {
		all = append(all, l)
	}
	w.mu.Unlock()
	close(w.done)
	if w.listener != nil {
		w.listener.Close()
	}
	for _, l := range all {
		l.Close()
	}
	w.owned.Wait()
	return nil
}

// trunk makes sure of a connection to the trunk.
func (w *wires) trunk(ctx context.Context) error {
	to := w.door.cfg.Trunk
	w.dialling.Lock()
	defer w.dialling.Unlock()
	if w.find(to) != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, greetingTime)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", to.String())
	if err != nil {
		return fmt.Errorf("connecting to the trunk: %w", err)
	}
	if w.over == overTLS {
		config := w.door.cfg.TrunkTLS.Clone()
		if config == nil {
			config = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		if config.ServerName == "" {
			config.ServerName = to.Addr().String()
		}
		shaken := tls.Client(conn, config)
		if err := shaken.HandshakeContext(ctx); err != nil {
			conn.Close()
			return fmt.Errorf("shaking hands with the trunk: %w", err)
		}
		conn = shaken
	}
	l := w.newLine(conn, true)
	if !w.enter(l) {
		conn.Close()
		return fmt.Errorf("connecting to the trunk: %w", yesline.TooMany)
	}
	w.give(l)
	select {
	case <-l.reading: // sipgo knows it now
		return nil
	case <-w.done:
		return net.ErrClosed
	case <-ctx.Done():
		l.Close()
		return fmt.Errorf("connecting to the trunk: %w", ctx.Err())
	}
}

// line is one connection.
type line struct {
	net.Conn
	raw     net.Conn // below TLS
	wires   *wires
	at      netip.AddrPort
	ours    bool     // we made it, to the trunk
	names   []string // in the certificate that the peer showed and our authority signed
	since   time.Time
	proven  atomic.Bool // a challenge was answered well, or it is the trunk's
	counted bool        // among the open ones; guarded by wires.mu

	begun   sync.Once
	reading chan struct{} // closed when sipgo begins to read
	ended   sync.Once

	// Only Read uses these.
	data  []byte
	first time.Time // when the first byte of the message in data came
}

// shown keeps whose certificate was verified.
func (l *line) shown(conn *tls.Conn) {
	l.Conn = conn
	if chains := conn.ConnectionState().VerifiedChains; len(chains) > 0 {
		leaf := chains[0][0]
		l.names = append(slices.Clone(leaf.DNSNames), leaf.Subject.CommonName)
	}
}

// Close hangs up.
func (l *line) Close() (err error) {
	l.ended.Do(func() {
		l.wires.leave(l)
		err = l.raw.Close()
	})
	return err
}

// Write sends a message. A peer that does not take it in time is hung up on:
// what it missed cannot be said again.
func (l *line) Write(b []byte) (int, error) {
	l.Conn.SetWriteDeadline(time.Now().Add(writeTime))
	n, err := l.Conn.Write(b)
	if err != nil {
		l.Close()
	}
	return n, err
}

// Read gives the next whole message that the gate lets pass.
func (l *line) Read(b []byte) (int, error) {
	l.begun.Do(func() { close(l.reading) })
	for {
		message, err := l.next()
		if err != nil {
			l.Close()
			return 0, err
		}
		if len(message) > len(b) {
			return 0, io.ErrShortBuffer
		}
		pass := l.wires.door.gate.admit(message, origin{l.at, l.wires.over, l}, func(answer []byte) { l.Write(answer) }, time.Now())
		n := 0
		if pass {
			n = copy(b, message)
		}
		l.data = append(l.data[:0], l.data[len(message):]...)
		l.first = time.Time{}
		if pass {
			return n, nil
		}
	}
}

// next waits until data begins with a whole message, and gives it.
func (l *line) next() ([]byte, error) {
	for {
		l.keptAlive()
		size, err := frameLength(l.data)
		switch {
		case err != nil:
			l.wires.door.Counters.Malformed.Add(1)
			return nil, err
		case size > 0 && size <= len(l.data):
			return l.data[:size], nil
		}
		if len(l.data) > 0 && l.first.IsZero() {
			l.first = time.Now()
		}
		l.Conn.SetReadDeadline(l.deadline())
		l.data = slices.Grow(l.data, maxSIP+1-len(l.data))
		n, err := l.Conn.Read(l.data[len(l.data):cap(l.data)])
		l.data = l.data[:len(l.data)+n]
		if err != nil && n == 0 {
			return nil, err
		}
	}
}

// deadline is until when something must come.
func (l *line) deadline() time.Time {
	at := time.Now().Add(silenceTime)
	if !l.proven.Load() {
		at = l.since.Add(proveTime)
	}
	if whole := l.first.Add(messageTime); !l.first.IsZero() && whole.Before(at) {
		at = whole
	}
	return at
}

// keptAlive takes the line ends between messages: two of them ask for one
// (RFC 5626, 4.4.1).
func (l *line) keptAlive() {
	n := 0
	for n+1 < len(l.data) && l.data[n] == '\r' && l.data[n+1] == '\n' {
		n += 2
	}
	if n == 0 {
		return
	}
	l.data = append(l.data[:0], l.data[n:]...)
	l.first = time.Time{}
	if n >= 4 && len(l.data) == 0 {
		l.Write([]byte("\r\n"))
	}
}

// frameLength is how long the message is that data begins with (RFC 3261,
// 18.3), 0 while that cannot be known. A stream has no way back from an error.
func frameLength(data []byte) (int, error) {
	head := bytes.Index(data, []byte("\r\n\r\n"))
	if head < 0 {
		if len(data) > maxSIP {
			return 0, fmt.Errorf("a head of more than %d bytes: %w", maxSIP, yesline.Invalid)
		}
		return 0, nil
	}
	length, found := 0, false
	for text := range bytes.Lines(data[:head+2]) {
		name, value, colon := bytes.Cut(text, []byte(":"))
		if !colon {
			continue
		}
		if name := strings.ToLower(strings.TrimRight(string(name), " \t")); name != "content-length" && name != "l" {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(string(value)), 10, 16)
		if err != nil || found {
			return 0, fmt.Errorf("a message whose length cannot be told: %w", yesline.Invalid)
		}
		length, found = int(n), true
	}
	switch size := head + 4 + length; {
	case !found:
		return 0, fmt.Errorf("a message without its length: %w", yesline.Invalid)
	case size > maxSIP:
		return 0, fmt.Errorf("a message of more than %d bytes: %w", maxSIP, yesline.Invalid)
	default:
		return size, nil
	}
}

// framed reports whether sipgo, which reads the stream again, sees the same end
// of a message as we did: one length, of what follows the head.
func framed(msg sip.Message) bool {
	all := msg.GetHeaders("Content-Length")
	return len(all) == 1 && all[0].Value() == strconv.Itoa(len(msg.Body()))
}

// errNoDial is what sipgo is told when it wants to call somebody by itself: a
// Via or a Contact must not make us connect to an address of the sender's choice.
var errNoDial = errors.New("only the trunk is connected to")

func refuseDial(net.Addr) net.Dialer {
	return net.Dialer{Control: func(string, string, syscall.RawConn) error { return errNoDial }}
}

// noNames looks no name up: those in messages are their senders'.
var noNames = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errNoDial }}

// unbound takes back what sipgo has for the whole process: its limit for a
// datagram, which a rich description or an Identity exceeds (they are then
// fragmented, as everybody does), and its own log, which holds messages.
var unbound = sync.OnceFunc(func() {
	sip.UDPMTUSize = maxSIP + 200
	sip.SetDefaultLogger(silent)
})
