package phone

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// What a packet may hold. A phone on a desk has limits, too.
const (
	maxPacket = 65535
	maxFields = 128
)

// A message is a SIP request (method and uri are set) or a response (code is).
type message struct {
	method, uri string
	code        int
	reason      string
	fields      []field
	body        []byte

	seq       uint32 // of CSeq
	seqMethod string
}

// A field is one header line. Names are long ("Via", never "v") but spelled in
// whatever case they came.
type field struct{ name, value string }

// short gives the long name for each short one of RFC 3261 section 7.3.3.
var short = map[string]string{
	"v": "Via", "f": "From", "t": "To", "i": "Call-ID", "m": "Contact",
	"l": "Content-Length", "c": "Content-Type", "s": "Subject", "k": "Supported",
}

// parse reads one datagram. It wants a whole message with the fields that
// every message needs (RFC 3261 section 8.1.1) and refuses everything else.
func parse(packet []byte) (*message, error) {
	if len(packet) > maxPacket {
		return nil, errors.New("reading a sip message: too long")
	}
	head, body, found := bytes.Cut(packet, []byte("\r\n\r\n"))
	if !found {
		return nil, errors.New("reading a sip message: the header does not end")
	}
	lines := strings.Split(string(head), "\r\n")
	m := &message{}
	if err := m.start(lines[0]); err != nil {
		return nil, err
	}
	for _, line := range lines[1:] {
		if err := m.line(line); err != nil {
			return nil, err
		}
	}
	return m, m.finish(body)
}

// start reads the first line.
func (m *message) start(line string) error {
	if !printable(line) {
		return errors.New("reading a sip message: control characters in the first line")
	}
	first, rest, _ := strings.Cut(line, " ")
	second, third, _ := strings.Cut(rest, " ")
	if first == "SIP/2.0" {
		code, err := strconv.Atoi(second)
		if err != nil || len(second) != 3 || code < 100 || code > 699 {
			return errors.New("reading a sip message: no such status")
		}
		m.code, m.reason = code, third
		return nil
	}
	if third != "SIP/2.0" || second == "" || !token(first) {
		return errors.New("reading a sip message: the first line is not of sip")
	}
	m.method, m.uri = first, second
	return nil
}

// line reads one line of the header; one that begins with a blank goes on with
// the line before.
func (m *message) line(line string) error {
	if !printable(line) {
		return errors.New("reading a sip message: control characters in a field")
	}
	if strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
		if len(m.fields) == 0 {
			return errors.New("reading a sip message: it begins with half a field")
		}
		last := &m.fields[len(m.fields)-1]
		last.value = strings.TrimSpace(last.value + " " + strings.TrimSpace(line))
		return nil
	}
	name, value, found := strings.Cut(line, ":")
	name = strings.TrimRight(name, " \t")
	if !found || !token(name) || len(m.fields) == maxFields {
		return errors.New("reading a sip message: a line is not a field, or there are too many")
	}
	if long, ok := short[strings.ToLower(name)]; ok {
		name = long
	}
	m.fields = append(m.fields, field{name, strings.TrimSpace(value)})
	return nil
}

// finish takes as much body as the header says, and looks for the fields that
// must be there.
func (m *message) finish(body []byte) error {
	if said := m.get("Content-Length"); said != "" {
		n, err := strconv.ParseUint(said, 10, 31)
		if err != nil || int(n) > len(body) {
			return errors.New("reading a sip message: its length is not as it says")
		}
		body = body[:n]
	}
	m.body = bytes.Clone(body)
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
		if m.get(name) == "" {
			return fmt.Errorf("reading a sip message: no %s", name)
		}
	}
	number, method, _ := strings.Cut(m.get("CSeq"), " ")
	seq, err := strconv.ParseUint(number, 10, 31)
	method = strings.TrimSpace(method)
	if err != nil || !token(method) || m.method != "" && m.method != method {
		return errors.New("reading a sip message: its CSeq is of another")
	}
	m.seq, m.seqMethod = uint32(seq), method
	return nil
}

// bytes writes the message with its true length. What would break out of a
// line is left out.
func (m *message) bytes() []byte {
	var b strings.Builder
	if m.method != "" {
		fmt.Fprintf(&b, "%s %s SIP/2.0\r\n", oneLine(m.method), oneLine(m.uri))
	} else {
		fmt.Fprintf(&b, "SIP/2.0 %d %s\r\n", m.code, oneLine(m.reason))
	}
	for _, f := range m.fields {
		if !strings.EqualFold(f.name, "Content-Length") {
			fmt.Fprintf(&b, "%s: %s\r\n", oneLine(f.name), oneLine(f.value))
		}
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", len(m.body))
	return append([]byte(b.String()), m.body...)
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}

func (m *message) add(name, value string) { m.fields = append(m.fields, field{name, value}) }

// get gives the first field of that name, or "".
func (m *message) get(name string) string {
	for _, f := range m.fields {
		if strings.EqualFold(f.name, name) {
			return f.value
		}
	}
	return ""
}

func (m *message) all(name string) []string {
	var values []string
	for _, f := range m.fields {
		if strings.EqualFold(f.name, name) {
			values = append(values, f.value)
		}
	}
	return values
}

// branch names the transaction: the branch of the topmost Via.
func (m *message) branch() string {
	via, _, _ := strings.Cut(m.get("Via"), ",")
	return param(via, "branch")
}

// reply begins the response to a request that came from there: it copies what
// RFC 3261 section 8.2.6 wants copied and fills in rport (RFC 3581).
func (m *message) reply(code int, tag string, from netip.AddrPort) *message {
	r := &message{code: code, reason: reasons[code]}
	for i, via := range m.all("Via") {
		if i == 0 {
			via = filled(via, from)
		}
		r.add("Via", via)
	}
	for _, route := range m.all("Record-Route") {
		r.add("Record-Route", route)
	}
	to := m.get("To")
	if param(to, "tag") == "" && tag != "" {
		to += ";tag=" + tag
	}
	r.add("From", m.get("From"))
	r.add("To", to)
	r.add("Call-ID", m.get("Call-ID"))
	r.add("CSeq", m.get("CSeq"))
	return r
}

var reasons = map[int]string{
	180: "Ringing", 200: "OK", 404: "Not Found", 405: "Method Not Allowed", 480: "Temporarily Unavailable",
	481: "Call Does Not Exist", 486: "Busy Here", 487: "Request Terminated", 488: "Not Acceptable Here",
	500: "Server Error", 503: "Service Unavailable", 600: "Busy Everywhere", 603: "Decline",
}

// filled answers an rport that the topmost hop asked for.
func filled(via string, from netip.AddrPort) string {
	first, others, more := strings.Cut(via, ",")
	parts := strings.Split(first, ";")
	for i, part := range parts {
		if strings.EqualFold(strings.TrimSpace(part), "rport") {
			parts[i] = fmt.Sprintf("rport=%d;received=%s", from.Port(), from.Addr())
		}
	}
	first = strings.Join(parts, ";")
	if more {
		return first + "," + others
	}
	return first
}

// param gives a parameter of a field like From or Via: of the field, not of the
// address in its angle brackets.
func param(value, name string) string {
	if end := strings.LastIndexByte(value, '>'); end >= 0 {
		value = value[end:]
	}
	for i, part := range strings.Split(value, ";") {
		key, v, _ := strings.Cut(part, "=")
		if i > 0 && strings.EqualFold(strings.TrimSpace(key), name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// address gives the URI in a field like From or Contact.
func address(value string) string {
	if _, rest, found := strings.Cut(value, "<"); found {
		uri, _, _ := strings.Cut(rest, ">")
		return uri
	}
	uri, _, _ := strings.Cut(value, ";")
	return strings.TrimSpace(uri)
}

// user gives what is before the @ of a sip URI, unescaped: the number dialled.
func user(uri string) string {
	_, rest, found := strings.Cut(uri, ":")
	name, _, at := strings.Cut(rest, "@")
	if !found || !at {
		return ""
	}
	name, _, _ = strings.Cut(name, ";") // RFC 3966 parameters, as in +1555;ext=2
	return unescape(name)
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(v))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// escape writes a number or name so that it fits into a URI whatever it holds:
// a phone that is told to dial a line break dials %0D%0A.
func escape(s string) string {
	const plain = "-_.!~*'()&=+$,?/" // RFC 3261 section 25.1, user, without ";"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte(plain, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// printable refuses line breaks and other controls; a tab may pass.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// token is a word of RFC 3261 section 25.1.
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("-.!%*_+`'~", c) >= 0) {
			return false
		}
	}
	return s != ""
}
