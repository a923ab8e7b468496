package app

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/emiago/sipgo/sip"
)

// trunkWire watches what is said between us and the trunk, and remembers of it what
// tells how the trunk is: never a name, a number or a password. It is sipgo's
// one tracer of the process.
type trunkWire struct {
	at netip.AddrPort // the trunk

	mu      sync.Mutex    // guards the rest
	moved   chan struct{} // closed, and made anew, with every message
	in, out []byte        // what is not a whole message yet, over a stream
	traffic
}

// traffic is what was said.
type traffic struct {
	register exchange
	invite   exchange
	ours     *sounds // our description, theirs before the answer, and theirs
	early    *sounds
	theirs   *sounds
	contact  string // host of the Contact of what answered
	seenAs   string // where the trunk sees us come from
	sentBy   string // and where we say that we are
	timer    int    // seconds; 0: none
	refresh  string // who shows that the call lives, "uac" or "uas"
	changes  int    // INVITEs and UPDATEs of theirs inside the call
	bye      bool   // they ended it
	cause    int    // of Q.850, in what ended it
}

// exchange is what was answered to one method.
type exchange struct {
	sent    uint32 // CSeq of our newest request. What we send may be seen after its answer
	proof   uint32 // and of the first that had our password; 0: none
	ended   uint32 // and of the newest that has its final answer
	code    int    // which is this
	answers []int  // status codes in order, none twice in a row
	words   string // what it gave as reason or warning, without digits
	retry   int    // seconds, of Retry-After
	granted int    // seconds, of Expires
}

// sounds is a session description, as far as it tells of one line's sound.
type sounds struct {
	at       netip.AddrPort // an unspecified address is a hold of the old way
	kinds    []string       // payload types, in order
	profile  string         // "RTP/AVP" and the like
	frame    int            // milliseconds; 0: not said
	keys     bool           // telephone-events
	inactive bool
}

const (
	wireMost    = 64 << 10 // bytes that wait to be a message
	answersMost = 32
	linesMost   = 200
)

func newTrunkWire(at netip.AddrPort) *trunkWire {
	return &trunkWire{at: at, moved: make(chan struct{})}
}

// SIPTraceRead takes what came.
func (w *trunkWire) SIPTraceRead(over, _, from string, data []byte) {
	w.take(over, from, data, &w.in, false)
}

// SIPTraceWrite takes what we sent.
func (w *trunkWire) SIPTraceWrite(over, _, to string, data []byte) {
	w.take(over, to, data, &w.out, true)
}

func (w *trunkWire) take(over, with string, data []byte, rest *[]byte, ours bool) {
	if at, err := netip.ParseAddrPort(with); err != nil || over != "UDP" && netip.AddrPortFrom(at.Addr().Unmap(), at.Port()) != w.at {
		return // somebody else's connection; over UDP what a message says tells enough
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if over == "UDP" {
		w.read(bytes.Clone(data), ours)
		return
	}
	if *rest = append(*rest, data...); len(*rest) > wireMost {
		*rest = nil
	}
	for {
		*rest = bytes.TrimLeft(*rest, "\r\n")
		head, _, whole := bytes.Cut(*rest, []byte("\r\n\r\n"))
		if !whole {
			return
		}
		length := len(head) + 4 + bodyLength(string(head))
		if length > len(*rest) {
			return
		}
		w.read(bytes.Clone((*rest)[:length]), ours)
		*rest = (*rest)[length:]
	}
}

func bodyLength(head string) int {
	for line := range strings.Lines(head) {
		name, value, _ := strings.Cut(line, ":")
		if name = strings.ToLower(strings.TrimSpace(name)); name == "content-length" || name == "l" {
			n, _ := strconv.ParseUint(strings.TrimSpace(value), 10, 16)
			return int(n)
		}
	}
	return 0
}

// read takes one message. Called with mu held. The parser is sipgo's, and the
// message may be anything: the door looks at it again after us.
func (w *trunkWire) read(data []byte, ours bool) {
	defer func() { recover() }() // what makes the parser panic is no message
	msg, err := sip.ParseMessage(data)
	if err != nil || msg.CSeq() == nil {
		return
	}
	switch m := msg.(type) {
	case *sip.Request:
		if ours {
			w.asked(m)
		} else {
			w.told(m)
		}
	case *sip.Response:
		if !ours {
			w.answered(m)
		}
	}
	close(w.moved)
	w.moved = make(chan struct{})
}

// asked takes a request of ours.
func (w *trunkWire) asked(req *sip.Request) {
	if via := req.Via(); via != nil {
		w.sentBy = via.Host
	}
	x := w.exchange(req.Method)
	if x == nil {
		return
	}
	x.sent = max(x.sent, req.CSeq().SeqNo)
	if x.proof == 0 && header(req, "Authorization")+header(req, "Proxy-Authorization") != "" {
		x.proof = req.CSeq().SeqNo
	}
	if s := readSounds(req.Body()); s != nil {
		w.ours = s
	}
}

// last is the final answer to the newest request; 0: there is none yet.
func (x exchange) last() int {
	if x.ended < x.sent {
		return 0
	}
	return x.code
}

// proven reports whether our password was asked for, sent and answered.
func (x exchange) proven() bool { return x.proof != 0 && x.ended >= x.proof }

func (w *trunkWire) exchange(method sip.RequestMethod) *exchange {
	switch method {
	case sip.REGISTER:
		return &w.register
	case sip.INVITE:
		return &w.invite
	}
	return nil
}

// told takes a request of theirs.
func (w *trunkWire) told(req *sip.Request) {
	switch req.Method {
	case sip.BYE:
		w.bye, w.cause = true, q850(req)
	case sip.INVITE, sip.UPDATE:
		w.changes++
	}
}

// answered takes an answer of theirs.
func (w *trunkWire) answered(res *sip.Response) {
	if via := res.Via(); via != nil {
		w.seenAs, _ = via.Params.Get("received")
	}
	x := w.exchange(res.CSeq().MethodName)
	if x == nil {
		return
	}
	code := res.StatusCode
	if len(x.answers) < answersMost && (len(x.answers) == 0 || x.answers[len(x.answers)-1] != code) {
		x.answers = append(x.answers, code)
	}
	s := readSounds(res.Body())
	if code < 200 {
		if s != nil {
			w.early = s
		}
		return
	}
	x.ended, x.code, x.words = max(x.ended, res.CSeq().SeqNo), code, plainWords(res)
	x.retry, x.granted = number(res, "Retry-After"), granted(res)
	if x != &w.invite {
		return
	}
	w.cause = q850(res)
	if code >= 300 {
		return
	}
	if s != nil {
		w.theirs = s
	}
	if c := res.Contact(); c != nil {
		w.contact = c.Address.Host
	}
	w.timer = number(res, "Session-Expires") + number(res, "x")
	w.refresh = parameter(res, "Session-Expires", "refresher")
}

// granted is how long a registration holds, as its answer says.
func granted(res *sip.Response) int {
	if c := res.Contact(); c != nil {
		if own, has := c.Params.Get("expires"); has {
			n, _ := strconv.Atoi(own)
			return n
		}
	}
	return number(res, "Expires")
}

// number reads the digits that a header begins with; 0 when there are none.
func number(msg sip.Message, name string) int {
	digits := strings.TrimSpace(header(msg, name))
	if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		digits = digits[:end]
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n > 1<<30 {
		return 0
	}
	return n
}

// header is what the first header of this name says; "" when there is none.
func header(msg sip.Message, name string) string {
	all := msg.GetHeaders(name)
	if len(all) == 0 {
		return ""
	}
	return all[0].Value()
}

func parameter(msg sip.Message, of, name string) string {
	for p := range strings.SplitSeq(strings.ToLower(header(msg, of)), ";") {
		if key, value, _ := strings.Cut(strings.TrimSpace(p), "="); key == name {
			return strings.Trim(value, `" `)
		}
	}
	return ""
}

// q850 is the telephone network's own cause of an end (RFC 3326); 0: not said.
func q850(msg sip.Message) int {
	if !strings.HasPrefix(strings.ToLower(strings.TrimSpace(header(msg, "Reason"))), "q.850") {
		return 0
	}
	n, err := strconv.Atoi(parameter(msg, "Reason", "cause"))
	if err != nil || n < 1 || n > 127 {
		return 0
	}
	return n
}

// plainWords is what an answer says for people: its warning, or its reason, in
// letters alone, since some repeat the number or a name in it.
func plainWords(res *sip.Response) string {
	said := res.Reason
	if _, quoted, found := strings.Cut(header(res, "Warning"), `"`); found {
		said, _, _ = strings.Cut(quoted, `"`)
	}
	said = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r == ' ', r == '-', r == ',', r == '\'':
			return r
		}
		return -1
	}, said[:min(len(said), 80)])
	return strings.Join(strings.Fields(said), " ")
}

// readSounds reads the first audio of a description; nil when there is none.
func readSounds(body []byte) *sounds {
	var s *sounds
	var general, own netip.Addr
	port, lines := uint64(0), 0
	for line := range strings.Lines(string(body[:min(len(body), 8<<10)])) {
		if lines++; lines > linesMost {
			break
		}
		line = strings.TrimRight(line, "\r\n")
		switch f := strings.Fields(line); {
		case strings.HasPrefix(line, "m="):
			if s != nil {
				return s.placed(own, general, port)
			}
			if len(f) >= 4 && f[0] == "m=audio" {
				s = &sounds{profile: f[2], kinds: f[3:]}
				port, _ = strconv.ParseUint(f[1], 10, 16)
			}
		case strings.HasPrefix(line, "c=") && len(f) == 3:
			a, _ := netip.ParseAddr(f[2])
			if own = a; s == nil {
				general, own = a, netip.Addr{}
			}
		case s == nil:
		case strings.HasPrefix(line, "a=ptime:"):
			s.frame, _ = strconv.Atoi(line[len("a=ptime:"):])
		case line == "a=inactive", line == "a=sendonly":
			s.inactive = true
		case strings.HasPrefix(line, "a=rtpmap:") && strings.Contains(line, "telephone-event/8000"):
			s.keys = true
		}
	}
	if s == nil {
		return nil
	}
	return s.placed(own, general, port)
}

func (s *sounds) placed(own, general netip.Addr, port uint64) *sounds {
	if !own.IsValid() {
		own = general
	}
	s.at = netip.AddrPortFrom(own, uint16(port))
	return s
}

// until waits for what was seen to be enough; it reports whether it came to be.
func (w *trunkWire) until(ctx context.Context, enough func(traffic) bool) bool {
	for {
		w.mu.Lock()
		is, moved := enough(w.traffic), w.moved
		w.mu.Unlock()
		if is {
			return true
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return false
		}
	}
}

// seen is what was seen until now.
func (w *trunkWire) seen() traffic {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.traffic
	t.invite.answers, t.register.answers = slices.Clone(t.invite.answers), slices.Clone(t.register.answers)
	return t
}
