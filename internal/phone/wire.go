package phone

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// The timers of RFC 3261 section 17, simplified: what is asked is asked again
// after t1, then twice as long each time up to t2, and given up after 64 t1.
const (
	t1 = 500 * time.Millisecond
	t2 = 4 * time.Second

	giveUp    = 64 * t1
	cancelled = 2 * time.Second // how long a cancelled call may take to say so
)

const remembered = 512 // answers and ACKs kept for packets that come again

// A wire is a UDP socket that speaks SIP. Its one goroutine reads packets,
// hands responses to who asked, and answers requests without ever waiting.
type wire struct {
	socket  *net.UDPConn
	address netip.AddrPort
	ring    func(*Ringing) (code int) // takes a new call (0), or says how to refuse it; must not block
	reading sync.WaitGroup

	mu      sync.Mutex
	asked   map[string]chan *message // by branch and method: who waits for responses
	calls   map[string]*Call         // by Call-ID and our tag
	ringing map[string]*Ringing      // by Call-ID and our tag, until the ACK
	sent    memory                   // responses by branch and method of the request
	acks    memory                   // ACKs by branch of the INVITE
	ignored int
	closed  chan struct{}
}

func listen(at string, ring func(*Ringing) int) (*wire, error) {
	addr, err := netip.ParseAddrPort(at)
	if err != nil || addr.Addr().IsUnspecified() {
		return nil, errors.New("opening a phone: it listens on one address and a port, such as 127.0.0.1:0")
	}
	socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, fmt.Errorf("opening a phone: %w", err)
	}
	w := &wire{
		socket:  socket,
		address: unmapped(socket.LocalAddr().(*net.UDPAddr).AddrPort()),
		ring:    ring,
		asked:   map[string]chan *message{},
		calls:   map[string]*Call{},
		ringing: map[string]*Ringing{},
		closed:  make(chan struct{}),
	}
	w.reading.Go(w.read)
	return w, nil
}

// close ends the calls on the wire and waits for its goroutine.
func (w *wire) close() {
	w.mu.Lock()
	select {
	case <-w.closed:
		w.mu.Unlock()
		return
	default:
	}
	close(w.closed)
	var calls []*Call
	for _, call := range w.calls {
		calls = append(calls, call)
	}
	w.mu.Unlock()
	for _, call := range calls {
		call.end("the line was closed")
	}
	w.socket.Close()
	w.reading.Wait()
}

func (w *wire) read() {
	buffer := make([]byte, maxPacket)
	for {
		n, from, err := w.socket.ReadFromUDPAddrPort(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // a refused packet of ours comes back as an error
		}
		m, err := parse(buffer[:n])
		if err != nil || m.branch() == "" {
			w.mu.Lock()
			w.ignored++
			w.mu.Unlock()
			continue
		}
		if m.code != 0 {
			w.response(m)
			continue
		}
		w.request(m, unmapped(from))
	}
}

func (w *wire) send(to netip.AddrPort, packet []byte) {
	w.socket.WriteToUDPAddrPort(packet, to) // lost is lost: it is sent again, as all of UDP is
}

// response gives m to who asked. A final response to an INVITE that was
// acknowledged before is acknowledged again.
func (w *wire) response(m *message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ack, again := w.acks.kept[m.branch()]; again && m.seqMethod == "INVITE" && m.code >= 200 {
		w.send(ack.to, ack.packet)
		return
	}
	waiting, ok := w.asked[m.branch()+m.seqMethod]
	if !ok {
		w.ignored++
		return
	}
	select {
	case waiting <- m:
	default: // it has enough to read
	}
}

// ask sends a request until it is answered, and returns the final response. An
// INVITE whose context ends is cancelled; ask then returns what came of it, so
// a caller must be ready for a late yes.
func (w *wire) ask(ctx context.Context, to netip.AddrPort, m *message) (*message, error) {
	answers := make(chan *message, 16)
	key := m.branch() + m.method
	w.mu.Lock()
	w.asked[key] = answers
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.asked, key)
		w.mu.Unlock()
	}()

	packet, invite := m.bytes(), m.method == "INVITE"
	w.send(to, packet)
	wait := t1
	again := time.NewTimer(wait)
	defer again.Stop()
	limit := time.NewTimer(giveUp)
	defer limit.Stop()
	stop := ctx.Done()
	provisional, cancelling := false, false
	for {
		select {
		case answer := <-answers:
			if answer.code >= 200 {
				return answer, nil
			}
			if !provisional && cancelling {
				w.cancel(to, m)
			}
			provisional = true
			if invite && !cancelling {
				again.Stop()
				limit.Stop() // it may ring for as long as the caller waits
			}
		case <-again.C:
			w.send(to, packet)
			wait = min(2*wait, t2)
			again.Reset(wait)
		case <-limit.C:
			return nil, fmt.Errorf("waiting for the answer to %s: none came in time", m.method)
		case <-stop:
			if !invite {
				return nil, fmt.Errorf("waiting for the answer to %s: %w", m.method, ctx.Err())
			}
			stop, cancelling = nil, true
			limit.Reset(cancelled)
			if provisional {
				w.cancel(to, m)
			}
		case <-w.closed:
			return nil, fmt.Errorf("waiting for the answer to %s: %w", m.method, net.ErrClosed)
		}
	}
}

// cancel sends CANCEL once, with the branch of the INVITE (RFC 3261 section 9.1).
func (w *wire) cancel(to netip.AddrPort, invite *message) {
	c := &message{method: "CANCEL", uri: invite.uri}
	c.add("Via", invite.get("Via"))
	c.add("Max-Forwards", "70")
	c.add("From", invite.get("From"))
	c.add("To", invite.get("To"))
	c.add("Call-ID", invite.get("Call-ID"))
	c.add("CSeq", fmt.Sprintf("%d CANCEL", invite.seq))
	w.send(to, c.bytes())
}

// acknowledge sends the ACK to a final response, and remembers it for when the
// response comes again.
func (w *wire) acknowledge(to netip.AddrPort, branch string, ack *message) {
	packet := ack.bytes()
	w.mu.Lock()
	w.acks.keep(branch, to, packet)
	w.mu.Unlock()
	w.send(to, packet)
}

// respond answers a request, and remembers it for when the request comes again.
func (w *wire) respond(to netip.AddrPort, request, response *message) {
	packet := response.bytes()
	w.mu.Lock()
	w.sent.keep(request.branch()+request.method, to, packet)
	w.mu.Unlock()
	w.send(to, packet)
}

// request answers what can be answered at once.
func (w *wire) request(m *message, from netip.AddrPort) {
	w.mu.Lock()
	before, again := w.sent.kept[m.branch()+m.method]
	key := m.get("Call-ID") + " " + param(m.get("To"), "tag")
	call, ringing := w.calls[key], w.ringing[key]
	w.mu.Unlock()
	if again && before.to == from && m.method != "ACK" {
		w.send(from, before.packet)
		return
	}
	switch m.method {
	case "ACK":
		if ringing != nil {
			ringing.acknowledged(m)
		}
	case "INVITE":
		w.invited(m, from, call)
	case "CANCEL":
		w.cancelling(m, from)
	case "BYE":
		if call == nil {
			w.respond(from, m, m.reply(481, "", from))
			return
		}
		w.respond(from, m, m.reply(200, "", from))
		call.end("the other side hung up")
	case "OPTIONS":
		r := m.reply(200, rand.Text(), from)
		r.add("Allow", allowed)
		r.add("Accept", "application/sdp")
		w.respond(from, m, r)
	case "UPDATE", "INFO":
		if call == nil {
			w.respond(from, m, m.reply(481, "", from))
			return
		}
		w.respond(from, m, call.changed(m, from))
	default:
		r := m.reply(405, rand.Text(), from)
		r.add("Allow", allowed)
		w.respond(from, m, r)
	}
}

const allowed = "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, INFO"

// invited is for an INVITE: of a call that stands, or a new one.
func (w *wire) invited(m *message, from netip.AddrPort, call *Call) {
	switch {
	case call != nil:
		w.respond(from, m, call.changed(m, from))
		return
	case param(m.get("To"), "tag") != "":
		w.respond(from, m, m.reply(481, "", from))
		return
	}
	r := &Ringing{
		wire: w, invite: m, peer: from, tag: rand.Text(),
		acked: make(chan *message, 1), gaveUp: make(chan struct{}),
	}
	w.mu.Lock()
	w.ringing[r.key()] = r
	w.mu.Unlock()
	// Rings first, so that what the taker sends comes after it.
	r.Ring()
	if code := w.ring(r); code != 0 {
		w.mu.Lock()
		delete(w.ringing, r.key())
		w.mu.Unlock()
		w.respond(from, m, m.reply(code, r.tag, from))
	}
}

// cancelling is for a CANCEL: it belongs to the INVITE of the same branch.
func (w *wire) cancelling(m *message, from netip.AddrPort) {
	w.mu.Lock()
	var found *Ringing
	for _, r := range w.ringing {
		if r.invite.branch() == m.branch() {
			found = r
		}
	}
	w.mu.Unlock()
	if found == nil {
		w.respond(from, m, m.reply(481, rand.Text(), from))
		return
	}
	w.respond(from, m, m.reply(200, found.tag, from))
	if found.claim() {
		close(found.gaveUp)
		w.forget(found)
		w.respond(from, found.invite, found.invite.reply(487, found.tag, from))
	}
}

func (w *wire) forget(r *Ringing) {
	w.mu.Lock()
	delete(w.ringing, r.key())
	w.mu.Unlock()
}

// memory keeps the last packets sent, so that one can be sent again.
type memory struct {
	kept  map[string]packet
	order []string
}

type packet struct {
	to     netip.AddrPort
	packet []byte
}

// keep puts a packet under a key, in place of one that was there.
func (m *memory) keep(key string, to netip.AddrPort, p []byte) {
	if m.kept == nil {
		m.kept = map[string]packet{}
	}
	if _, there := m.kept[key]; !there {
		m.order = append(m.order, key)
	}
	m.kept[key] = packet{to, p}
	if len(m.order) > remembered {
		delete(m.kept, m.order[0])
		m.order = m.order[1:]
	}
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
