package phone

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

const maxLines = 256

// A description is what an SDP body says of the first audio line: where to
// send, and what. Other lines are kept only to be refused in an answer.
type description struct {
	media     netip.AddrPort
	codecs    []uint8 // 0 and 8, in the order preferred
	event     uint8   // payload type of telephone-event/8000; 0 is none
	direction string
	lines     []mediaLine
}

// A mediaLine is an m= line: the answer must have as many (RFC 3264 section 6).
type mediaLine struct {
	kind, protocol, formats string
	chosen                  bool
}

// parseSDP reads a body. It must have an audio line of plain RTP with an
// address and at least one of PCMU and PCMA.
func parseSDP(body []byte) (description, error) {
	d := description{direction: "sendrecv"} // where nothing is said (RFC 4566 section 6)
	lines := strings.Split(string(body), "\n")
	if len(lines) > maxLines {
		return d, errors.New("reading sdp: too many lines")
	}
	var session, own netip.Addr
	var port uint16
	var within, seen bool // whether the line is of the chosen media; whether any media line came
	for _, line := range lines {
		line = strings.TrimSuffix(line, "\r")
		if !printable(line) {
			return d, errors.New("reading sdp: control characters")
		}
		key, value, _ := strings.Cut(line, "=")
		switch {
		case key == "m":
			m, to, codecs, err := parseMedia(value)
			if err != nil {
				return d, err
			}
			within = port == 0 && to != 0 && m.kind == "audio" && m.protocol == "RTP/AVP"
			if within {
				port, d.codecs, m.chosen = to, codecs, true
			}
			seen = true
			d.lines = append(d.lines, m)
		case key == "c" && (within || !seen):
			addr, err := parseConnection(value)
			if err != nil {
				return d, err
			}
			if within {
				own = addr
			} else {
				session = addr
			}
		case key == "a" && (within || !seen):
			d.attribute(value, within)
		}
	}
	if !own.IsValid() {
		own = session
	}
	if port == 0 || !own.IsValid() || own.IsUnspecified() {
		return d, errors.New("reading sdp: no plain audio line with an address")
	}
	d.media = netip.AddrPortFrom(own, port)
	if len(d.codecs) == 0 {
		return d, errors.New("reading sdp: neither PCMU nor PCMA is offered")
	}
	return d, nil
}

// parseMedia reads "audio 4000 RTP/AVP 0 8 101".
func parseMedia(value string) (m mediaLine, port uint16, codecs []uint8, err error) {
	parts := strings.Fields(value)
	if len(parts) < 4 {
		return m, 0, nil, errors.New("reading sdp: half a media line")
	}
	digits, _, _ := strings.Cut(parts[1], "/")
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return m, 0, nil, errors.New("reading sdp: no such port")
	}
	for _, format := range parts[3:] {
		if format == "0" || format == "8" {
			codecs = append(codecs, format[0]-'0')
		}
	}
	m = mediaLine{kind: parts[0], protocol: parts[2], formats: strings.Join(parts[3:], " ")}
	return m, uint16(n), codecs, nil
}

// parseConnection reads "IN IP4 127.0.0.1".
func parseConnection(value string) (netip.Addr, error) {
	parts := strings.Fields(value)
	if len(parts) != 3 || parts[0] != "IN" {
		return netip.Addr{}, errors.New("reading sdp: no such address")
	}
	addr, err := netip.ParseAddr(parts[2])
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, errors.New("reading sdp: no such address")
	}
	return addr, nil
}

func (d *description) attribute(value string, within bool) {
	switch value {
	case "sendrecv", "sendonly", "recvonly", "inactive":
		d.direction = value
		return
	}
	mapped, found := strings.CutPrefix(value, "rtpmap:")
	if !found || !within {
		return
	}
	number, format, _ := strings.Cut(mapped, " ")
	n, err := strconv.ParseUint(number, 10, 7)
	if err == nil && n > 0 && strings.EqualFold(strings.TrimSpace(format), "telephone-event/8000") {
		d.event = uint8(n)
	}
}

// bytes writes a body with one audio line at d.media, or, where lines came in
// an offer, an answer to it that refuses all lines but the chosen one.
func (d description) bytes(session, version uint64) []byte {
	var b strings.Builder
	family := "IP4"
	if d.media.Addr().Is6() {
		family = "IP6"
	}
	fmt.Fprintf(&b, "v=0\r\no=- %d %d IN %s %s\r\ns=-\r\nc=IN %s %s\r\nt=0 0\r\n",
		session, version, family, d.media.Addr(), family, d.media.Addr())
	lines := d.lines
	if len(lines) == 0 {
		lines = []mediaLine{{chosen: true}}
	}
	for _, m := range lines {
		if !m.chosen {
			fmt.Fprintf(&b, "m=%s 0 %s %s\r\n", m.kind, m.protocol, m.formats)
			continue
		}
		d.audioLine(&b)
	}
	return []byte(b.String())
}

func (d description) audioLine(b *strings.Builder) {
	fmt.Fprintf(b, "m=audio %d RTP/AVP", d.media.Port())
	for _, codec := range d.codecs {
		fmt.Fprintf(b, " %d", codec)
	}
	if d.event != 0 {
		fmt.Fprintf(b, " %d", d.event)
	}
	b.WriteString("\r\n")
	for _, codec := range d.codecs {
		fmt.Fprintf(b, "a=rtpmap:%d %s/8000\r\n", codec, map[uint8]string{PCMU: "PCMU", PCMA: "PCMA"}[codec])
	}
	if d.event != 0 {
		fmt.Fprintf(b, "a=rtpmap:%d telephone-event/8000\r\na=fmtp:%d 0-15\r\n", d.event, d.event)
	}
	fmt.Fprintf(b, "a=ptime:20\r\na=%s\r\n", d.direction)
}

// pick gives the first of the phone's codecs that the other side has too.
func (d description) pick(codecs []uint8) (uint8, bool) {
	for _, codec := range codecs {
		if slices.Contains(d.codecs, codec) {
			return codec, true
		}
	}
	return 0, false
}

// mirror is the direction that answers another (RFC 3264 section 6.1).
func mirror(offered string) string {
	switch offered {
	case "sendonly":
		return "recvonly"
	case "recvonly":
		return "sendonly"
	}
	return offered
}
