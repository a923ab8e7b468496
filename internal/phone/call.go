package phone

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// A Call is a standing call, until Done.
type Call struct {
	phone        *Phone
	wire         *wire
	peer         netip.AddrPort // where its messages go
	number, from string

	id            string // Call-ID
	local, remote string // our side and theirs, as From and To name them
	target        string // what to ask for in a request
	seq           atomic.Uint32

	media   *media
	hanging atomic.Bool
	ending  sync.Once
	done    chan struct{}
	why     string // set before done is closed
}

// Number is what was dialled.
func (c *Call) Number() string { return c.number }

// From is what the caller shows; "" on the caller's own phone.
func (c *Call) From() string { return c.from }

// Done is closed when the call has ended.
func (c *Call) Done() <-chan struct{} { return c.done }

// Ended says who ended the call, in words; "" while it stands.
func (c *Call) Ended() string {
	select {
	case <-c.done:
		return c.why
	default:
		return ""
	}
}

// Hangup ends the call and returns when the other side has said yes to it. It
// is no error if the call has ended already.
func (c *Call) Hangup(ctx context.Context) error {
	if !c.hanging.CompareAndSwap(false, true) {
		select {
		case <-c.done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("hanging up: %w", ctx.Err())
		}
	}
	select {
	case <-c.done:
		return nil
	default:
	}
	defer c.end("we hung up")
	c.media.stop()
	if _, err := c.wire.ask(ctx, c.peer, c.request("BYE")); err != nil {
		return fmt.Errorf("hanging up: %w", err)
	}
	return nil
}

// end is the end, whoever brings it. It does not wait: the phone does.
func (c *Call) end(why string) {
	c.ending.Do(func() {
		c.media.stop()
		c.wire.mu.Lock()
		delete(c.wire.calls, c.key())
		c.wire.mu.Unlock()
		c.phone.release(c)
		c.why = why
		close(c.done)
	})
}

// join lets requests of the other side find the call.
func (c *Call) join() {
	c.wire.mu.Lock()
	c.wire.calls[c.key()] = c
	c.wire.mu.Unlock()
}

func (c *Call) key() string { return c.id + " " + param(c.local, "tag") }

// request begins a request within the call.
func (c *Call) request(method string) *message {
	m := &message{method: method, uri: c.target, seq: c.seq.Add(1), seqMethod: method}
	c.address(m, "z9hG4bK"+rand.Text())
	m.add("CSeq", fmt.Sprintf("%d %s", m.seq, method))
	m.add("Contact", fmt.Sprintf("<sip:%s@%s>", escape(c.phone.config.User), c.wire.address))
	if method == "INVITE" {
		m.add("Allow", allowed)
		m.add("Content-Type", "application/sdp")
	}
	return m
}

func (c *Call) address(m *message, branch string) {
	m.add("Via", fmt.Sprintf("SIP/2.0/UDP %s;rport;branch=%s", c.wire.address, branch))
	m.add("Max-Forwards", "70")
	m.add("From", c.local)
	m.add("To", c.remote)
	m.add("Call-ID", c.id)
	m.add("User-Agent", "yesline phone")
}

// rejected is the ACK to a refusal: of the transaction (RFC 3261 section
// 17.1.1.3), so with the INVITE's branch and URI and the refusal's To.
func (c *Call) rejected(invite, refusal *message) *message {
	ack := &message{method: "ACK", uri: invite.uri}
	ack.add("Via", invite.get("Via"))
	ack.add("Max-Forwards", "70")
	ack.add("From", invite.get("From"))
	ack.add("To", refusal.get("To"))
	ack.add("Call-ID", c.id)
	ack.add("CSeq", fmt.Sprintf("%d ACK", invite.seq))
	return ack
}

// established acknowledges the yes and lets the sound flow. A yes that comes
// after ctx has ended, or with a body that cannot be, is hung up at once.
func (c *Call) established(ctx context.Context, invite, ok *message) error {
	c.remote = ok.get("To")
	if contact := address(ok.get("Contact")); contact != "" {
		c.target = contact
	}
	ack := &message{method: "ACK", uri: c.target}
	c.address(ack, "z9hG4bK"+rand.Text())
	ack.add("CSeq", fmt.Sprintf("%d ACK", invite.seq))
	c.join()
	c.wire.acknowledge(c.peer, invite.branch(), ack)

	err := ctx.Err()
	if err == nil {
		err = c.media.agree(ok.body)
	}
	if err == nil {
		err = c.phone.adopt(c)
	}
	if err != nil {
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelled)
		defer cancel()
		c.Hangup(bye)
		return err
	}
	select {
	case <-c.wire.closed: // it closed while the call was made, and may have missed it
		c.end("the line was closed")
		return net.ErrClosed
	default:
		return nil
	}
}

// changed answers a re-INVITE, UPDATE or INFO of the other side.
func (c *Call) changed(m *message, from netip.AddrPort) *message {
	if m.method == "INFO" || m.method == "UPDATE" && len(m.body) == 0 {
		return m.reply(200, "", from)
	}
	body := c.media.offer()
	if len(m.body) > 0 {
		var err error
		if body, err = c.media.answer(m.body); err != nil {
			return m.reply(488, "", from)
		}
	}
	ok := m.reply(200, "", from)
	ok.add("Contact", fmt.Sprintf("<sip:%s@%s>", escape(c.phone.config.User), c.wire.address))
	ok.add("Allow", allowed)
	ok.add("Content-Type", "application/sdp")
	ok.body = body
	return ok
}

// Codec is the RTP payload type that the call speaks: PCMU or PCMA.
func (c *Call) Codec() uint8 { return c.media.speaks() }

// Media gives where the phone takes sound, and the only place it takes it from.
func (c *Call) Media() (local, remote netip.AddrPort) { return c.media.ends() }

// Ignored is how many packets came to the phone's media port that were not
// sound or keys of the other side.
func (c *Call) Ignored() int {
	c.media.mu.Lock()
	defer c.media.mu.Unlock()
	return c.media.ignored
}

// Say queues mu-law sound to be spoken after what is already queued. On an
// A-law call it is converted. The error says that the call has ended, or that
// more than ten minutes are waiting.
func (c *Call) Say(muLaw []byte) error { return c.media.say(muLaw) }

// Spoken waits until all that was queued has been sent.
func (c *Call) Spoken(ctx context.Context) error {
	return c.media.wait(ctx, func() bool { return len(c.media.queue) == 0 })
}

// Press presses keys (0-9, *, #, A-D), each for 100 ms with 60 ms between, and
// returns when the last has been sent. What is being said pauses meanwhile.
func (c *Call) Press(ctx context.Context, keys string) error { return c.media.press(ctx, keys) }

// Heard is all that the phone has heard, from the first packet on, placed by
// RTP timestamp, as bytes of Codec; where nothing came there is silence.
func (c *Call) Heard() []byte { return c.media.since(0) }

// Sent is all that the phone has sent, from its first packet on, as bytes of
// Codec, with silence where it sent a key or nothing.
func (c *Call) Sent() []byte {
	c.media.mu.Lock()
	defer c.media.mu.Unlock()
	return append([]byte(nil), c.media.sent...)
}

// HeardUntil waits until ready says yes to all that was heard. It is asked at
// every packet; it must not keep or change what it is given, nor use the call.
func (c *Call) HeardUntil(ctx context.Context, ready func(heard []byte) bool) error {
	return c.media.wait(ctx, func() bool { return ready(c.media.heard) })
}

// Hear waits for so much more sound than was heard until now, and gives that.
func (c *Call) Hear(ctx context.Context, d time.Duration) ([]byte, error) {
	c.media.mu.Lock()
	from := len(c.media.heard)
	c.media.mu.Unlock()
	until := from + int(d.Milliseconds())*rate/1000
	err := c.HeardUntil(ctx, func(heard []byte) bool { return len(heard) >= until })
	if err != nil {
		return nil, err
	}
	return c.media.since(from)[:until-from], nil
}

// Keys is the keys that came in this call, as keys: "1*9".
func (c *Call) Keys() string {
	keys := ""
	for _, e := range c.Events() {
		keys += string(e.Key)
	}
	return keys
}

// Events is the keys that came, packet by packet: at most the first 256.
func (c *Call) Events() []Event {
	c.media.mu.Lock()
	defer c.media.mu.Unlock()
	return append([]Event(nil), c.media.events...)
}
