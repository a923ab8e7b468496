// Package sip is the telephone door of capture: one back-to-back user agent
// between a contributor's phone and a trunk, over UDP, with the sound of both
// sides passing through it.
//
// sipgo parses, transports and keeps transactions; dialogs, offers and answers
// are ours. Nobody calls without a digest, nothing is answered twice as dearly
// as it was asked, and no error or log line repeats what was dialled.
package sip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"

	"yesline"
	"yesline/internal/capture"
	"yesline/internal/session"
)

// Config is how the door is set up. Listen, Trunk and the media range are
// required.
type Config struct {
	Listen    netip.AddrPort // SIP over UDP; port 0 takes any
	MediaIP   netip.Addr     // where RTP is received; zero: Listen's address
	MediaFrom uint16         // ports for RTP, both ends included; even ones are used
	MediaTo   uint16

	Trunk     netip.AddrPort // where calls go out
	TrunkFrom []netip.Prefix // where the trunk's messages come from; none: the trunk's address
	CallerID  string         // what the callee sees: + and digits

	Emergency   []string // numbers that pass at once; nil: 911 112 999 000 110 119
	NoEmergency bool     // there is no way to carry them: the caller is told so

	MaxCalls  int           // at once; 0: 500. Emergency calls are not counted
	MaxDevice int           // of them by one device; 0: 4
	MaxLength time.Duration // of a call; 0: 4 hours, which is also the most
	MaxRing   time.Duration // of the callee's phone; 0: 60 s

	Report *slog.Logger // nil is silent. It is never told a number
}

func (c *Config) check() error {
	if !c.MediaIP.IsValid() {
		c.MediaIP = c.Listen.Addr()
	}
	digits, plus := strings.CutPrefix(c.CallerID, "+")
	switch {
	case !c.Listen.Addr().IsValid() || c.Listen.Addr().IsUnspecified() || c.MediaIP.IsUnspecified():
		return fmt.Errorf("the SIP door listens on one address that its peers can reach: %w", yesline.Invalid)
	case !c.Trunk.IsValid() || c.Trunk.Port() == 0:
		return fmt.Errorf("the trunk is an address and a port: %w", yesline.Invalid)
	case c.MediaFrom < 1024 || c.MediaTo < c.MediaFrom+2:
		return fmt.Errorf("the media ports are a range above 1023: %w", yesline.Invalid)
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
	if c.MaxLength <= 0 || c.MaxLength > longestCall {
		c.MaxLength = longestCall
	}
	if c.MaxRing <= 0 {
		c.MaxRing = time.Minute
	}
	if c.Report == nil {
		c.Report = slog.New(slog.DiscardHandler)
	}
	return nil
}

// longestCall keeps a track within what an object holds.
const longestCall = 4*time.Hour - time.Minute

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

// Counters count what the door saw since it was made.
type Counters struct {
	Calls      atomic.Int64 // begun
	Challenged atomic.Int64 // answered 401
	Busy       atomic.Int64 // refused: too many calls
	Greedy     atomic.Int64 // refused: too many calls of one device, or too fast
	Malformed  atomic.Int64 // not SIP, or not to be read
	Oversized  atomic.Int64
	Flood      atomic.Int64 // dropped: too much from one address
	Foreign    atomic.Int64 // RTP that is not of the leg it came to
	Odd        atomic.Int64 // RTP that is none, or of a kind not agreed on
	Panics     atomic.Int64 // requests that our own mistakes could not take
}

// Door is the SIP door. Its Counters may be read at any time.
type Door struct {
	Counters Counters

	cfg      Config
	sessions *session.Sessions
	room     *capture.Room
	ua       *sipgo.UserAgent
	server   *sipgo.Server
	gate     *gate
	conn     net.PacketConn
	here     netip.AddrPort

	ctx     context.Context // of every call
	stop    context.CancelCauseFunc
	serving sync.WaitGroup
	calling sync.WaitGroup

	mu      sync.Mutex // guards the rest
	dialogs map[string]*dialog
	devices map[yesline.DeviceID]*allowance
	calls   int
	closed  bool
}

// New sets a door up. It opens nothing: Start does.
func New(cfg Config, sessions *session.Sessions, room *capture.Room) (*Door, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	return &Door{cfg: cfg, sessions: sessions, room: room, dialogs: map[string]*dialog{},
		devices: map[yesline.DeviceID]*allowance{}}, nil
}

// Start listens and serves until Close.
func (d *Door) Start(ctx context.Context) error {
	quiet := slog.New(slog.DiscardHandler) // sipgo logs whole messages, with numbers in them
	ua, err := sipgo.NewUA(sipgo.WithUserAgent("yesline"), sipgo.WithUserAgentHostname(d.cfg.Listen.Addr().String()),
		sipgo.WithUserAgentTransportLayerOptions(sip.WithTransportLayerLogger(quiet)),
		sipgo.WithUserAgentTransactionLayerOptions(sip.WithTransactionLayerLogger(quiet),
			sip.WithTransactionLayerUnhandledResponseHandler(func(*sip.Response) {})))
	if err != nil {
		return fmt.Errorf("preparing SIP: %w", err)
	}
	d.ua = ua
	if d.server, err = sipgo.NewServer(ua, sipgo.WithServerLogger(quiet)); err != nil {
		return fmt.Errorf("preparing SIP: %w", err)
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(d.cfg.Listen))
	if err != nil {
		return fmt.Errorf("listening for SIP on %s: %w", d.cfg.Listen, err)
	}
	conn.SetReadBuffer(readBuffer) // as much of it as the system allows
	d.here = conn.LocalAddr().(*net.UDPAddr).AddrPort()
	d.conn = conn
	d.gate = &gate{PacketConn: conn, door: d, seen: map[netip.Addr]*visitor{}}
	d.ctx, d.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	d.handle()
	d.serving.Go(func() { d.server.ServeUDP(d.gate) })
	return nil
}

const readBuffer = 1 << 20 // bytes of messages that wait while the gate is busy

// Address is where the door listens.
func (d *Door) Address() netip.AddrPort { return d.here }

// Calls is how many calls are going on.
func (d *Door) Calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

// errClosing ends the calls of a door that closes.
var errClosing = errors.New("the server stopped")

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
	d.stop(errClosing)
	d.calling.Wait()
	err := d.conn.Close()
	d.serving.Wait()
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
	d.server.OnInfo(d.guard(d.informed))
	d.server.OnCancel(d.guard(func(req *sip.Request, tx sip.ServerTransaction) {
		d.answer(req, tx, 481, "Call/Transaction Does Not Exist")
	}))
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

const allow = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO"

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

// enter counts a call in, if there is room for it.
func (d *Door) enter(emergency bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.calls >= d.cfg.MaxCalls && !emergency {
		return false
	}
	d.calls++
	d.calling.Add(1)
	return true
}

// allowance is what one device may still do.
type allowance struct {
	calls int     // going on
	left  float64 // calls it may begin now
	at    time.Time
}

const (
	deviceBurst     = 5    // calls a device may begin at once
	devicePerSecond = 1    // and in the long run
	devicesKept     = 4096 // above this the idle ones are forgotten
)

// begins counts a call of a device in: 0, or the status that refuses it. Each
// call that is let in is given back by ends.
func (d *Door) begins(id yesline.DeviceID, now time.Time) (refusal int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.devices[id]
	if a == nil {
		if len(d.devices) >= devicesKept {
			maps.DeleteFunc(d.devices, func(_ yesline.DeviceID, a *allowance) bool { return a.idle(now) })
		}
		a = &allowance{left: deviceBurst, at: now}
		d.devices[id] = a
	}
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
	return a.calls == 0 && a.left+now.Sub(a.at).Seconds()*devicePerSecond >= deviceBurst
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

// address prepares a request of ours: from our socket, to the peer's.
func (d *Door) address(req *sip.Request, to string) {
	req.Laddr = sip.Addr{IP: d.here.Addr().AsSlice(), Port: int(d.here.Port())}
	req.SetTransport("UDP")
	req.SetDestination(to)
	via := &sip.ViaHeader{ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: "UDP",
		Host: d.here.Addr().String(), Port: int(d.here.Port())}
	via.Params.Add("branch", sip.GenerateBranchN(24))
	via.Params.Add("rport", "")
	req.AppendHeader(via)
	hops := sip.MaxForwardsHeader(70)
	req.AppendHeader(&hops)
	req.AppendHeader(d.contact())
}

func (d *Door) contact() sip.Header {
	return &sip.ContactHeader{Address: sip.Uri{Scheme: "sip", Host: d.here.Addr().String(), Port: int(d.here.Port())}}
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
