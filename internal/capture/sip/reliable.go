package sip

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
)

// Reliable provisional answers (RFC 3262).

const maxForks = 8 // whose provisional answers of one INVITE are told apart

// containsTag reports whether a header lists an option.
func containsTag(msg sip.Message, header, tag string) bool {
	return slices.Contains(optionTags(msg, header), tag)
}

// learn keeps what a peer says that it can do.
func (d *dialog) learn(msg sip.Message) {
	methods := ""
	for _, h := range msg.GetHeaders("Allow") {
		methods += "," + h.Value()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.updates = slices.ContainsFunc(strings.Split(methods, ","), func(m string) bool { return strings.TrimSpace(m) == "UPDATE" })
	d.aware = containsTag(msg, "Supported", "record-aware")
}

// provisional acknowledges an answer that wants to be. It reports whether the
// answer is to be taken: not one that came before, nor one ahead of its turn.
func (d *dialog) provisional(ctx context.Context, invite *sip.Request, res *sip.Response, early map[string]uint32) bool {
	number := res.GetHeader("RSeq")
	to, contact := res.To(), res.Contact()
	if number == nil || !containsTag(res, "Require", "100rel") || to == nil || res.StatusCode == 100 {
		return true
	}
	tag, _ := to.Params.Get("tag")
	n, err := strconv.ParseUint(strings.TrimSpace(number.Value()), 10, 32)
	if err != nil || n == 0 || tag == "" {
		return false
	}
	last, known := early[tag]
	if known && uint32(n) != last+1 || !known && len(early) >= maxForks {
		return false
	}
	early[tag] = uint32(n)
	fork := &dialog{door: d.door, callID: d.callID, tag: d.tag, local: d.local, remote: sip.HeaderClone(to), target: d.target, peer: from(res)}
	if contact != nil {
		fork.target = contact.Address
	}
	fork.routes = routeSet(res, true)
	d.mu.Lock()
	d.cseq++
	prack := fork.numbered(sip.PRACK, d.cseq)
	d.mu.Unlock()
	prack.AppendHeader(sip.NewHeader("RAck", fmt.Sprintf("%d %d INVITE", n, invite.CSeq().SeqNo)))
	d.door.calling.Go(func() { // Connect holds the door open meanwhile
		ctx, cancel := context.WithTimeout(ctx, giveUp)
		defer cancel()
		fork.transact(ctx, prack)
	})
	return true
}

// ringing tells the caller that it rings; reliably, where that is required. The
// function that it gives ends the repeating.
func (p *caller) ringing() (stop func()) {
	d := p.door
	res := sip.NewResponseFromRequest(p.req, 180, "Ringing", nil)
	res.To().Params.Add("tag", p.tag)
	res.AppendHeader(d.contact(sip.NetworkToUpper(p.req.Transport())))
	res.AppendHeader(sip.NewHeader("Allow", allow))
	if !containsTag(p.req, "Require", "100rel") {
		p.tx.Respond(res)
		return func() {}
	}
	n := 1 + rand.Uint32N(1<<31-1)
	res.AppendHeader(sip.NewHeader("Require", "100rel"))
	res.AppendHeader(sip.NewHeader("RSeq", strconv.FormatUint(uint64(n), 10)))
	key := dialogKey(p.req.CallID().Value(), p.tag)
	w := &pracking{rack: fmt.Sprintf("%d %d INVITE", n, p.req.CSeq().SeqNo), came: make(chan struct{})}
	d.mu.Lock()
	d.pracks[key] = w
	d.mu.Unlock()
	ctx, cancel := context.WithCancel(p.ctx)
	done := make(chan struct{})
	go func() { // stop waits for it
		defer close(done)
		for wait, total := firstAgain, time.Duration(0); total < giveUp; total, wait = total+wait, 2*wait {
			p.tx.Respond(res)
			select {
			case <-w.came:
				return
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		}
	}()
	return func() {
		cancel()
		<-done
		d.mu.Lock()
		delete(d.pracks, key)
		d.mu.Unlock()
	}
}

// pracking is a provisional answer that waits for its PRACK.
type pracking struct {
	rack string
	came chan struct{} // closed when it came
}

// pracked takes a PRACK.
func (d *Door) pracked(req *sip.Request, tx sip.ServerTransaction) {
	tag, _ := req.To().Params.Get("tag")
	rack := req.GetHeader("RAck")
	d.mu.Lock()
	w := d.pracks[dialogKey(req.CallID().Value(), tag)]
	ok := w != nil && rack != nil && strings.Join(strings.Fields(rack.Value()), " ") == w.rack
	if ok {
		select {
		case <-w.came:
		default:
			close(w.came)
		}
	}
	d.mu.Unlock()
	if !ok {
		d.answer(req, tx, 481, "Call/Transaction Does Not Exist")
		return
	}
	d.answer(req, tx, 200, "OK")
}
