// Package sip is the telephone door of capture: one back-to-back user agent
// between a contributor's phone and a trunk, over UDP, TCP and TLS, with the
// sound of both sides passing through it.
//
// sipgo parses, transports and keeps transactions; dialogs, offers and answers
// are ours. Nobody calls without a digest, strangers get no answer, nothing is
// answered twice as dearly as it was asked, and no error or log line repeats
// what was dialled.
package sip

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"

	"yesline"
	"yesline/internal/capture"
	"yesline/internal/capture/media"
	"yesline/internal/session"
)

// Config is how the door is set up. Listen and Trunk are required.
type Config struct {
	Listen    netip.AddrPort // SIP over UDP; port 0 takes any
	ListenTCP netip.AddrPort // and over TCP there; zero: not; port 0: the same as for UDP
	ListenTLS netip.AddrPort // and over TLS there; zero: not
	TLS       *tls.Config    // with our certificate. ClientCAs and ClientAuth say which certificates peers may or must show

	Trunk        netip.AddrPort // where calls go out
	TrunkFrom    []netip.Prefix // where the trunk's messages come from; none: the trunk's address
	TrunkOver    string         // "udp", also when it is "", "tcp" or "tls"
	TrunkTLS     *tls.Config    // for calls to it over TLS: whom we trust, and the certificate that we show. nil: the system's authorities
	TrunkAccount Account        // what it asks of us; zero: nothing
	TrunkSRTP    bool           // its sound is encrypted, by keys inside of TLS; it is not called otherwise
	TrunkName    string         // only who shows a certificate with this name over TLS is the trunk; "": its address tells
	CallerID     string         // what the callee sees: + and digits

	Emergency   []string // numbers that pass at once; nil: 911 112 999 000 110 119
	NoEmergency bool     // there is no way to carry them: the caller is told so

	MaxCalls  int           // at once; 0: 500. Emergency calls are not counted
	MaxDevice int           // of them by one device; 0: 4
	MaxRing   time.Duration // of the callee's phone; 0: 60 s

	// Whose is the person that a number of a call from outside belongs to;
	// yesline.NotFound when nobody of ours has it. nil: no calls come in.
	Whose func(ctx context.Context, number string) (yesline.ProgramID, yesline.PersonID, error)

	// Turned is told why somebody was turned away before anybody knew whom, and
	// how often since it was last told: for each word at most once a second, and
	// once more by Close. A word has 1 to 20 letters a-z; nothing that was sent is
	// in it. It is never called from where messages are read, and must not wait:
	// it holds up the others. nil: nobody is told.
	Turned func(word string, times int64)

	MaxSilence time.Duration // of a party that should speak; then the call ends. 0: 60 s

	Media     media.Config // where sockets for DTLS-SRTP are opened; zero: it is not offered
	Encrypted bool         // calls whose sound would be in clear are refused, on both sides

	Report *slog.Logger // nil is silent. It is never told a number
}

func (c *Config) check() error {
	digits, plus := strings.CutPrefix(c.CallerID, "+")
	switch {
	case !c.Listen.Addr().IsValid() || c.Listen.Addr().IsUnspecified():
		return fmt.Errorf("the SIP door listens on one address that its peers can reach: %w", yesline.Invalid)
	case !c.Trunk.IsValid() || c.Trunk.Port() == 0:
		return fmt.Errorf("the trunk is an address and a port: %w", yesline.Invalid)
	case c.TrunkOver != "" && c.TrunkOver != "udp" && c.TrunkOver != "tcp" && c.TrunkOver != "tls":
		return fmt.Errorf("the trunk speaks udp, tcp or tls: %w", yesline.Invalid)
	case c.TrunkSRTP && c.TrunkOver != "tls":
		return fmt.Errorf("keys for the trunk's sound go inside of TLS: %w", yesline.Invalid)
	case c.Encrypted && !c.TrunkSRTP:
		return fmt.Errorf("a trunk in clear, though all sound is to be encrypted: %w", yesline.Invalid)
	case c.ListenTLS.IsValid() && (c.TLS == nil || c.ListenTLS.Addr().IsUnspecified()):
		return fmt.Errorf("SIP over TLS needs a certificate and one address: %w", yesline.Invalid)
	case c.TrunkName != "" && (!c.ListenTLS.IsValid() && c.TrunkOver != "tls" || c.TLS != nil && c.TLS.ClientCAs == nil):
		return fmt.Errorf("a trunk that shows a certificate needs TLS and the authority that signed it: %w", yesline.Invalid)
	case !plus || digits == "" || len(digits) > 15 || strings.Trim(digits, "0123456789") != "":
		return fmt.Errorf("the caller id is + and digits: %w", yesline.Invalid)
	}
	if len(c.TrunkFrom) == 0 {
		c.TrunkFrom = []netip.Prefix{netip.PrefixFrom(c.Trunk.Addr(), c.Trunk.Addr().BitLen())}
	}
	if c.MaxCalls <= 0 {
		c.MaxCalls = 500
	}
	if c.MaxDevice <= 0 {
		c.MaxDevice = 4
	}
	if c.MaxSilence <= 0 {
		c.MaxSilence = time.Minute
	}
	if c.MaxRing <= 0 {
		c.MaxRing = time.Minute
	}
	if c.Report == nil {
		c.Report = slog.New(slog.DiscardHandler)
	}
	return nil
}

// isTrunk reports whether messages from addr are the trunk's. A trunk on our
// own machine cannot be told from a phone there by its address alone, so its
// port counts too where it is given.
func (c *Config) isTrunk(from netip.AddrPort) bool {
	if c.Trunk.Addr().IsLoopback() {
		return from == c.Trunk
	}
	for _, p := range c.TrunkFrom {
		if p.Contains(from.Addr()) {
			return true
		}
	}
	return false
}

// isTrunk reports whether a message is the trunk's: it comes by a connection
// that we made to it, with its certificate if one is wanted, or else from its
// address. Who is reached over TLS is not believed over anything less.
func (d *Door) isTrunk(o origin) bool {
	switch {
	case o.line != nil && o.line.ours:
		return true
	case d.cfg.TrunkName != "":
		return o.line != nil && slices.Contains(o.line.names, d.cfg.TrunkName)
	case d.cfg.TrunkOver == "tls" && o.over != overTLS:
		return false
	}
	return d.cfg.isTrunk(o.at)
}

// Counters count what the door saw since it was made.
type Counters struct {
	Calls      atomic.Int64 // begun
	Challenged atomic.Int64 // answered 401
	Strained   atomic.Int64 // refused: the house does not keep up
	Busy       atomic.Int64 // refused: too many calls
	Greedy     atomic.Int64 // refused: too many calls of one device, or too fast
	Malformed  atomic.Int64 // not SIP, or not to be read
	Oversized  atomic.Int64
	Flood      atomic.Int64 // dropped: too much from one address
	Strangers  atomic.Int64 // dropped: of nobody we know
	Wrong      atomic.Int64 // wrong passwords, or names of nobody's, to a challenge of ours
	Barred     atomic.Int64 // dropped: of an address that gave too many of these
	Lines      atomic.Int64 // connections hung up on: too many
	Registered atomic.Int64 // REGISTERs taken
	Panics     atomic.Int64 // requests that our own mistakes could not take
}

// Door is the SIP door. Its Counters may be read at any time.
type Door struct {
	Counters Counters

	cfg      Config
	sessions *session.Sessions
	room     *capture.Room
	plane    *media.Plane
	ua       *sipgo.UserAgent
	server   *sipgo.Server
	gate     *gate
	teller   teller
	conn     *net.UDPConn
	here     netip.AddrPort
	wires    map[string]*wires // by what they are over: TCP, TLS
	stream   netip.AddrPort    // where we listen for TCP
	secure   netip.AddrPort    // and for TLS
	identity identity          // for DTLS

	ctx     context.Context // of every call
	stop    context.CancelCauseFunc
	serving sync.WaitGroup
	calling sync.WaitGroup
	resting sync.WaitGroup // what has a last word to send before the sockets are closed

	mu      sync.Mutex // guards the rest
	dialogs map[string]*dialog
	devices map[yesline.DeviceID]*allowance
	phones  map[yesline.DeviceID]*registration
	pracks  map[string]*pracking // provisional answers of ours that wait
	calls   int
	tunnels int
	closed  bool
}

// New sets a door up. It opens nothing: Start does.
func New(cfg Config, sessions *session.Sessions, room *capture.Room, plane *media.Plane) (*Door, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	d := &Door{cfg: cfg, sessions: sessions, room: room, plane: plane, dialogs: map[string]*dialog{},
		devices: map[yesline.DeviceID]*allowance{}, phones: map[yesline.DeviceID]*registration{}, pracks: map[string]*pracking{}, wires: map[string]*wires{}}
	d.teller = teller{to: cfg.Turned, count: &d.Counters, told: map[string]int64{}}
	return d, nil
}

var silent = slog.New(slog.DiscardHandler) // sipgo logs whole messages, with numbers in them

// Start listens and serves until Close.
func (d *Door) Start(ctx context.Context) error {
	unbound()
	ua, err := sipgo.NewUA(sipgo.WithUserAgent("yesline"), sipgo.WithUserAgentHostname(d.cfg.Listen.Addr().String()),
		sipgo.WithUserAgentDNSResolver(noNames),
		sipgo.WithUserAgentTransportLayerOptions(sip.WithTransportLayerLogger(silent),
			sip.WithTransportLayerTransports(sip.TransportsConfig{TCP: &sip.TransportTCP{DialerCreate: refuseDial},
				TLS: &sip.TransportTLS{TransportTCP: &sip.TransportTCP{DialerCreate: refuseDial}}})),
		sipgo.WithUserAgentTransactionLayerOptions(sip.WithTransactionLayerLogger(silent),
			sip.WithTransactionLayerTerminateOnConnClose(),
			sip.WithTransactionLayerUnhandledResponseHandler(func(*sip.Response) {})))
	if err != nil {
		return fmt.Errorf("preparing SIP: %w", err)
	}
	d.ua = ua
	if d.server, err = sipgo.NewServer(ua, sipgo.WithServerLogger(silent)); err != nil {
		return fmt.Errorf("preparing SIP: %w", err)
	}
	if d.cfg.Media.IP.IsValid() {
		if d.identity, err = newIdentity(); err != nil {
			return err
		}
	}
	if err := d.listen(); err != nil {
		d.conn = nil
		return err
	}
	d.ctx, d.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	d.handle()
	d.serving.Go(func() { d.server.ServeUDP(d.gate) })
	<-d.gate.reading // sipgo knows our socket now, and sends by it
	if w := d.wires[overTCP]; w != nil {
		d.serving.Go(func() { d.server.ServeTCP(w) })
	}
	if w := d.wires[overTLS]; w != nil {
		d.serving.Go(func() { d.server.ServeTLS(w) })
	}
	d.serving.Go(d.keepOpen)
	d.serving.Go(d.tend)
	d.serving.Go(d.tellTurned)
	if d.cfg.TrunkAccount.Register {
		d.resting.Go(d.register)
	}
	return nil
}

// listen opens what the configuration names.
func (d *Door) listen() (err error) {
	var tcp, secure net.Listener
	with := d.cfg.ListenTCP
	for try := 0; ; try++ {
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(d.cfg.Listen))
		if err != nil {
			return fmt.Errorf("listening for SIP on %s: %w", d.cfg.Listen, err)
		}
		d.here, d.conn = conn.LocalAddr().(*net.UDPAddr).AddrPort(), conn
		if !with.IsValid() {
			break
		}
		at := with
		if at.Port() == 0 {
			at = netip.AddrPortFrom(at.Addr(), d.here.Port())
		}
		if tcp, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at)); err == nil {
			d.stream = at
			break
		}
		conn.Close()
		if d.cfg.Listen.Port() != 0 || with.Port() != 0 || try == sameTries {
			return fmt.Errorf("listening for SIP over TCP on %s: %w", at, err)
		}
	}
	d.conn.SetReadBuffer(readBuffer) // as much of it as the system allows
	d.gate = &gate{PacketConn: d.conn, door: d, reading: make(chan struct{}), seen: map[netip.Addr]*visitor{}}
	if d.cfg.ListenTLS.IsValid() {
		if secure, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(d.cfg.ListenTLS)); err != nil {
			d.conn.Close()
			if tcp != nil {
				tcp.Close()
			}
			return fmt.Errorf("listening for SIP over TLS on %s: %w", d.cfg.ListenTLS, err)
		}
		d.secure = secure.Addr().(*net.TCPAddr).AddrPort()
	}
	if tcp != nil || d.cfg.TrunkOver == "tcp" {
		d.wires[overTCP] = newWires(d, overTCP, tcp, nil)
	}
	if secure != nil || d.cfg.TrunkOver == "tls" {
		d.wires[overTLS] = newWires(d, overTLS, secure, d.cfg.TLS)
	}
	return nil
}

const (
	readBuffer = 1 << 20 // bytes of messages that wait while the gate is busy
	sameTries  = 16      // any port is to be free for both UDP and TCP
)

// Address is where the door listens for UDP.
func (d *Door) Address() netip.AddrPort { return d.here }

// Secure is where the door listens for TLS; the zero address if it does not.
func (d *Door) Secure() netip.AddrPort { return d.secure }

// Calls is how many calls are going on.
func (d *Door) Calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

// Close takes no more calls, ends those that are going on with a BYE to both,
// waits until what they recorded is sealed, and stops listening.
func (d *Door) Close() error {
	d.mu.Lock()
	was := d.closed
	d.closed = true
	d.mu.Unlock()
	if was || d.conn == nil {
		return nil
	}
	d.stop(capture.ErrClosing)
	d.calling.Wait()
	d.resting.Wait()
	err := d.conn.Close()
	for _, w := range d.wires {
		err = errors.Join(err, w.Close())
	}
	d.serving.Wait()
	d.teller.tell()
	return errors.Join(err, d.ua.Close())
}

func (d *Door) handle() {
	d.server.OnInvite(d.guard(d.invited))
	d.server.OnAck(d.guard(func(req *sip.Request, _ sip.ServerTransaction) {
		if dg := d.find(req); dg != nil {
			dg.acknowledge(req)
		}
	}))
	d.server.OnBye(d.guard(d.ended))
	d.server.OnUpdate(d.guard(d.updated))
	d.server.OnPrack(d.guard(d.pracked))
	d.server.OnInfo(d.guard(d.informed))
	d.server.OnCancel(d.guard(func(req *sip.Request, tx sip.ServerTransaction) {
		d.answer(req, tx, 481, "Call/Transaction Does Not Exist")
	}))
	d.server.OnRegister(d.guard(d.registered))
	d.server.OnOptions(d.guard(func(req *sip.Request, tx sip.ServerTransaction) { d.answer(req, tx, 200, "OK") }))
	d.server.OnNoRoute(d.guard(func(req *sip.Request, tx sip.ServerTransaction) { d.answer(req, tx, 405, "Method Not Allowed") }))
}

// guard stands around every handler: a request that lacks what all must have
// goes no further, and a mistake of ours costs one request and not the server.
func (d *Door) guard(handle sipgo.RequestHandler) sipgo.RequestHandler {
	return func(req *sip.Request, tx sip.ServerTransaction) {
		if !whole(req) {
			d.Counters.Malformed.Add(1)
			return
		}
		defer func() {
			if recover() != nil { // what it says may repeat what was sent
				d.Counters.Panics.Add(1)
				d.cfg.Report.Error("a request was not taken: our mistake", "at", string(debug.Stack()))
			}
		}()
		handle(req, tx)
	}
}

const (
	allow     = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO, PRACK, REGISTER"
	supported = "timer, 100rel, record-aware"
)

// answer sends a response without a body.
func (d *Door) answer(req *sip.Request, tx sip.ServerTransaction, code int, reason string) {
	res := sip.NewResponseFromRequest(req, code, reason, nil)
	switch code {
	case 200, 405:
		res.AppendHeader(sip.NewHeader("Allow", allow))
	case 503:
		res.AppendHeader(sip.NewHeader("Retry-After", "30"))
	}
	tx.Respond(res) // a lost one is asked for again
}

// find gives the dialog that a request belongs to: its Call-ID and our tag.
func (d *Door) find(req *sip.Request) *dialog {
	to, id := req.To(), req.CallID()
	if to == nil || id == nil {
		return nil
	}
	tag, _ := to.Params.Get("tag")
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dialogs[dialogKey(id.Value(), tag)]
}

func (d *Door) keep(dg *dialog) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dialogs[dg.key()] = dg
}

func (d *Door) drop(dg *dialog) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.dialogs, dg.key())
}

// asked reports whether a response answers a request of ours in a call that we
// know: its From is ours.
func (d *Door) asked(res *sip.Response) bool {
	tag, _ := res.From().Params.Get("tag")
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dialogs[dialogKey(res.CallID().Value(), tag)] != nil
}

// enter counts a call in, if there is room for it. Calls from outside leave a
// quarter of it to our own people.
func (d *Door) enter(outside, emergency bool) bool {
	most := d.cfg.MaxCalls
	if outside {
		most -= most / 4
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.calls >= most && !emergency {
		return false
	}
	d.calls++
	d.calling.Add(1)
	return true
}

// holds keeps the door from closing until calling.Done; not once it closes.
func (d *Door) holds() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.calling.Add(1)
	return true
}

// allowance is what one device may still do.
type allowance struct {
	calls  int     // going on
	urgent int     // and calls for help
	left   float64 // calls it may begin now
	at     time.Time
}

const (
	deviceBurst     = 5    // calls a device may begin at once
	devicePerSecond = 1    // and in the long run
	deviceUrgent    = 4    // calls for help at once, by any of those who share the device
	devicesKept     = 4096 // above this the idle ones are forgotten
)

// allowed gives what a device may still do. Called with mu held.
func (d *Door) allowed(id yesline.DeviceID, now time.Time) *allowance {
	a := d.devices[id]
	if a == nil {
		if len(d.devices) >= devicesKept {
			maps.DeleteFunc(d.devices, func(_ yesline.DeviceID, a *allowance) bool { return a.idle(now) })
		}
		a = &allowance{left: deviceBurst, at: now}
		d.devices[id] = a
	}
	return a
}

// helps counts a device's call for help in, unless it has as many as it may: no
// other call of anybody's stands in its way, nor does it in that of others. Each
// that is let in is given back by helped.
func (d *Door) helps(id yesline.DeviceID, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.allowed(id, now)
	if a.urgent >= deviceUrgent {
		return false
	}
	a.urgent++
	return true
}

func (d *Door) helped(id yesline.DeviceID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.devices[id].urgent--
}

// begins counts a call of a device in: 0, or the status that refuses it. Each
// call that is let in is given back by ends.
func (d *Door) begins(id yesline.DeviceID, now time.Time) (refusal int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.allowed(id, now)
	a.left, a.at = min(deviceBurst, a.left+now.Sub(a.at).Seconds()*devicePerSecond), now
	switch {
	case a.calls >= d.cfg.MaxDevice:
		return 486
	case a.left < 1:
		return 503
	}
	a.left--
	a.calls++
	return 0
}

// idle reports whether forgetting the device changes nothing.
func (a *allowance) idle(now time.Time) bool {
	return a.calls+a.urgent == 0 && a.left+now.Sub(a.at).Seconds()*devicePerSecond >= deviceBurst
}

func (d *Door) ends(id yesline.DeviceID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.devices[id].calls--
}

func (d *Door) leave() {
	d.mu.Lock()
	d.calls--
	d.mu.Unlock()
	d.calling.Done()
}

// peer is where a party's messages come from and ours go: over UDP an address,
// else the connection from there.
type peer struct {
	at   netip.AddrPort
	over string
}

// route prepares a request of ours: over UDP it leaves from our socket, else by
// the connection that the peer has with us, whoever made it.
func (d *Door) route(req *sip.Request, to peer) {
	here := d.hereFor(to.over)
	if to.over == overUDP {
		req.Laddr = sip.Addr{IP: here.Addr().AsSlice(), Port: int(here.Port())}
	}
	req.SetTransport(to.over)
	req.SetDestination(to.at.String())
	via := &sip.ViaHeader{ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: to.over,
		Host: here.Addr().String(), Port: int(here.Port())}
	via.Params.Add("branch", sip.GenerateBranchN(24))
	via.Params.Add("rport", "")
	req.AppendHeader(via)
	hops := sip.MaxForwardsHeader(70)
	req.AppendHeader(&hops)
	req.AppendHeader(d.contact(to.over))
}

// hereFor is the address that peers are told.
func (d *Door) hereFor(over string) netip.AddrPort {
	switch {
	case over == overTLS && d.secure.IsValid():
		return d.secure
	case over == overTCP && d.stream.IsValid():
		return d.stream
	}
	return d.here
}

func (d *Door) contact(over string) sip.Header {
	here := d.hereFor(over)
	uri := sip.Uri{Scheme: "sip", Host: here.Addr().String(), Port: int(here.Port())}
	if over != overUDP {
		uri.UriParams = sip.NewParams()
		uri.UriParams.Add("transport", strings.ToLower(over))
	}
	return &sip.ContactHeader{Address: uri}
}

// ask sends a request and gives its transaction. The trunk is connected to if
// need be; a phone that hung up is not called back.
func (d *Door) ask(ctx context.Context, req *sip.Request) (*sip.ClientTx, error) {
	over, to := req.Transport(), req.Destination()
	if w := d.wires[over]; w != nil && to == d.cfg.Trunk.String() {
		if err := w.trunk(ctx); err != nil {
			return nil, err
		}
	}
	return d.ua.TransactionLayer().Request(ctx, req)
}

// trunkOver is what the trunk is reached over.
func (d *Door) trunkOver() string { return cmp.Or(strings.ToUpper(d.cfg.TrunkOver), overUDP) }

func (o origin) peer() peer { return peer{o.at, o.over} }

// originOf is where a request came from.
func (d *Door) originOf(req *sip.Request) origin {
	o := origin{at: source(req), over: sip.NetworkToUpper(req.Transport())}
	if w := d.wires[o.over]; w != nil {
		o.line = w.find(o.at)
	}
	return o
}

// whose checks the digest of a request. On a refusal it has answered already.
func (d *Door) whose(req *sip.Request, tx sip.ServerTransaction) (session.Device, bool) {
	h := req.GetHeader("Authorization")
	if h == nil {
		tx.Respond(d.challenge(req, false))
		return session.Device{}, false
	}
	ctx, cancel := context.WithTimeout(d.ctx, authTime)
	defer cancel()
	device, _, err := d.sessions.Answer(ctx, string(req.Method), asWritten(req, h.Value()), h.Value())
	switch {
	case err == nil:
		d.gate.met(source(req).Addr(), time.Now())
		if l := d.originOf(req).line; l != nil {
			l.proven.Store(true)
		}
		return device, true
	case errors.Is(err, session.Stale):
		tx.Respond(d.challenge(req, true))
	case errors.Is(err, yesline.Denied):
		if at := source(req).Addr(); d.sessions.Challenged(at.String(), h.Value()) { // anybody can forge a sender
			d.gate.failed(at, time.Now())
		}
		tx.Respond(d.challenge(req, false))
	default:
		d.cfg.Report.Error("a digest could not be checked", "error", err)
		d.answer(req, tx, 503, "Service Unavailable")
	}
	return session.Device{}, false
}

const authTime = 5 * time.Second

// asWritten gives the Request-URI as the phone wrote it: the digest's own uri
// if that says the same, since sipgo keeps only what a URI means.
func asWritten(req *sip.Request, authorization string) string {
	uri := req.Recipient.String()
	_, rest, found := strings.Cut(authorization, `uri="`)
	if !found {
		return uri
	}
	said, _, _ := strings.Cut(rest, `"`)
	var parsed sip.Uri
	if len(said) > 512 || sip.ParseUri(said, &parsed) != nil || parsed.String() != uri {
		return uri
	}
	return said
}

// source is where a request came from.
func source(req *sip.Request) netip.AddrPort {
	a, _ := netip.ParseAddrPort(req.Source())
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
