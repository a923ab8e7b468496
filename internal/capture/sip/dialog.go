package sip

import (
	"context"
	"crypto/rand"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

// dialog is one leg's signalling, matched by Call-ID and our own tag (RFC 3261
// section 12). Our tags are 128 random bits: who knows one has seen the call.
type dialog struct {
	door   *Door
	call   *call
	media  *media
	callID string
	tag    string // ours

	local, remote sip.Header // From and To of our requests
	target        sip.Uri
	routes        []sip.Header
	peer          netip.AddrPort // where its messages come from, and ours go
	trunk         bool

	mu        sync.Mutex // guards the rest
	ours      ours       // our last session description
	theirs    description
	cseq      uint32 // of our last request
	theirCSeq uint32
	ack       chan *sip.Request // has the ACK that a 2xx of ours waits for
	over      bool
}

func newTag() string { return strings.ToLower(rand.Text()) }

func dialogKey(callID, tag string) string { return callID + "\x00" + tag }

func (d *dialog) key() string { return dialogKey(d.callID, d.tag) }

// host is the peer's address for the transport layer.
func (d *dialog) host() string { return d.peer.String() }

// request makes an in-dialog request.
func (d *dialog) request(method sip.RequestMethod) *sip.Request {
	d.mu.Lock()
	d.cseq++
	n := d.cseq
	d.mu.Unlock()
	return d.numbered(method, n)
}

func (d *dialog) numbered(method sip.RequestMethod, n uint32) *sip.Request {
	req := sip.NewRequest(method, *d.target.Clone())
	d.door.address(req, d.host())
	for _, r := range d.routes {
		req.AppendHeader(sip.HeaderClone(r))
	}
	req.AppendHeader(sip.HeaderClone(d.local))
	req.AppendHeader(sip.HeaderClone(d.remote))
	id := sip.CallIDHeader(d.callID)
	req.AppendHeader(&id)
	req.AppendHeader(&sip.CSeqHeader{SeqNo: n, MethodName: method})
	req.SetBody(nil)
	return req
}

// bye ends the dialog, once, and waits a little for the answer.
func (d *dialog) bye() {
	if d.end() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), byeTime)
	defer cancel()
	tx, err := d.door.ua.TransactionLayer().Request(ctx, d.request(sip.BYE))
	if err != nil {
		return
	}
	defer tx.Terminate()
	for {
		select {
		case res := <-tx.Responses():
			if !res.IsProvisional() {
				return
			}
		case <-tx.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// end marks the dialog over; it reports whether it already was.
func (d *dialog) end() (was bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	was, d.over = d.over, true
	return was
}

// rises reports whether a request of the peer is newer than its last.
func (d *dialog) rises(cseq uint32) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if cseq <= d.theirCSeq {
		return false
	}
	d.theirCSeq = cseq
	return true
}

// acknowledge hands the peer's ACK to whoever waits for it. Which CSeq it has
// is not looked at: real trunks send a wrong one.
func (d *dialog) acknowledge(req *sip.Request) {
	d.mu.Lock()
	ch := d.ack
	d.mu.Unlock()
	if ch == nil {
		return
	}
	select {
	case ch <- req:
	default:
	}
}

// respond sends a 2xx to an INVITE and sends it again, ever later, until its
// ACK comes (RFC 3261, 13.3.1.4): the ACK, or nil when none came in 32 s.
func (d *dialog) respond(ctx context.Context, tx sip.ServerTransaction, res *sip.Response) *sip.Request {
	ch := make(chan *sip.Request, 1)
	d.mu.Lock()
	d.ack = ch
	d.mu.Unlock()
	if tx.Respond(res) != nil {
		return nil
	}
	for wait, total := firstAgain, time.Duration(0); total < giveUp; total, wait = total+wait, min(2*wait, longestAgain) {
		again := time.NewTimer(wait)
		select {
		case ack := <-ch:
			again.Stop()
			return ack
		case ack := <-tx.Acks(): // with the branch of the INVITE
			again.Stop()
			return ack
		case <-ctx.Done():
			again.Stop()
			return nil
		case <-again.C:
			tx.Respond(res)
		}
	}
	return nil
}

const (
	firstAgain   = 500 * time.Millisecond // T1
	longestAgain = 4 * time.Second        // T2
	giveUp       = 32 * time.Second       // 64*T1
	byeTime      = 4 * time.Second
)

// routeSet takes the Record-Route of the message that made a dialog as the
// Route of our requests, reversed for a dialog that we began.
func routeSet(msg sip.Message, reverse bool) (routes []sip.Header) {
	all := msg.GetHeaders("Record-Route")
	for i := range all {
		h := all[i]
		if reverse {
			h = all[len(all)-1-i]
		}
		routes = append(routes, sip.NewHeader("Route", h.Value()))
	}
	return routes
}
