package sip

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"

	"yesline"
	"yesline/internal/audio"
)

// What is read of a session description (RFC 8866) is bounded: it comes from
// outside.
const (
	maxSDP   = 8 << 10
	maxLines = 200
	maxMedia = 8
)

// direction of an audio stream as its sender sees it (RFC 3264).
type direction string

const (
	sendrecv direction = "sendrecv"
	sendonly direction = "sendonly"
	recvonly direction = "recvonly"
	inactive direction = "inactive"
)

// mirror is what the other side answers: never more than it was offered.
func (d direction) mirror() direction {
	switch d {
	case sendonly:
		return recvonly
	case recvonly:
		return sendonly
	case inactive:
		return inactive
	}
	return sendrecv
}

// speaks reports whether the sender of d will send its own voice to us: one
// that puts us on hold sends music or nothing.
func (d direction) speaks() bool { return d == sendrecv }

// listens reports whether the sender of d wants to receive.
func (d direction) listens() bool { return d == sendrecv || d == recvonly }

// description is what we use of an offer or an answer: one audio stream.
type description struct {
	addr   netip.AddrPort // where the sender wants its packets
	codecs []audio.Codec  // that we know, in the sender's order
	events uint8          // payload type of telephone-event, 0 when there is none
	dir    direction
	media  []string // every m= line's kind and protocol, to refuse the others in place
	audio  int      // which of them is ours
}

// stream is one m= section while it is read.
type stream struct {
	kind, proto string
	port        int
	types       []uint8
	rtpmap      map[uint8]string
	addr        netip.Addr
	dir         direction
}

// readSDP reads a session description. yesline.Invalid when it has no audio
// stream over plain RTP at a usable IP address, or is too large.
func readSDP(body []byte) (description, error) {
	if len(body) == 0 || len(body) > maxSDP {
		return description{}, fmt.Errorf("a session description of %d bytes: %w", len(body), yesline.Invalid)
	}
	lines := strings.Split(string(body), "\n") // the last may lack its newline
	if len(lines) > maxLines {
		return description{}, fmt.Errorf("a session description of %d lines: %w", len(lines), yesline.Invalid)
	}
	session := stream{dir: sendrecv}
	var all []*stream
	at := &session
	for _, line := range lines {
		line = strings.TrimRight(line, "\r")
		if len(line) < 2 || line[1] != '=' {
			continue
		}
		if line[0] == 'm' {
			if len(all) == maxMedia {
				return description{}, fmt.Errorf("a session description of more than %d streams: %w", maxMedia, yesline.Invalid)
			}
			m, err := readMedia(line[2:])
			if err != nil {
				return description{}, err
			}
			m.addr, m.dir = session.addr, session.dir
			all = append(all, m)
			at = m
			continue
		}
		at.attribute(line[0], line[2:])
	}
	return choose(all)
}

// readMedia reads "audio 49170 RTP/AVP 0 8 101".
func readMedia(value string) (*stream, error) {
	f := strings.Fields(value)
	if len(f) < 4 || len(f) > 64 {
		return nil, fmt.Errorf("an m= line of %d words: %w", len(f), yesline.Invalid)
	}
	port, _, _ := strings.Cut(f[1], "/")
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || !isToken(f[0]) || !isToken(f[2]) {
		return nil, fmt.Errorf("an m= line: %w", yesline.Invalid)
	}
	m := &stream{kind: f[0], port: int(n), proto: f[2], rtpmap: map[uint8]string{}}
	for _, s := range f[3:] {
		if t, err := strconv.ParseUint(s, 10, 7); err == nil {
			m.types = append(m.types, uint8(t))
		}
	}
	return m, nil
}

// isToken keeps what we repeat in an answer to letters, digits and a slash.
func isToken(s string) bool {
	for _, c := range s {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '/' || c == '-') {
			return false
		}
	}
	return s != ""
}

// attribute reads a c= or a= line of a section.
func (m *stream) attribute(kind byte, value string) {
	if kind == 'c' {
		f := strings.Fields(value)
		if len(f) == 3 && f[0] == "IN" {
			host, _, _ := strings.Cut(f[2], "/")
			m.addr, _ = netip.ParseAddr(host)
			m.addr = m.addr.Unmap()
		}
		return
	}
	if kind != 'a' {
		return
	}
	switch d := direction(value); d {
	case sendrecv, sendonly, recvonly, inactive:
		m.dir = d
		return
	}
	mapping, ok := strings.CutPrefix(value, "rtpmap:")
	if !ok || m.rtpmap == nil {
		return
	}
	number, name, _ := strings.Cut(mapping, " ")
	if t, err := strconv.ParseUint(number, 10, 7); err == nil {
		m.rtpmap[uint8(t)] = strings.ToLower(strings.TrimSpace(name))
	}
}

// choose takes the first audio stream that we can carry.
func choose(all []*stream) (description, error) {
	var d description
	found := false
	for i, m := range all {
		d.media = append(d.media, m.kind+" "+m.proto)
		if found || m.kind != "audio" || m.port == 0 || m.proto != "RTP/AVP" || !m.addr.IsValid() || m.addr.IsMulticast() || m.addr.Zone() != "" {
			continue
		}
		found = true
		d.audio, d.dir, d.addr = i, m.dir, netip.AddrPortFrom(m.addr, uint16(m.port))
		d.codecs, d.events = m.formats()
		if m.addr.IsUnspecified() { // the old way to hold (RFC 2543)
			d.dir = map[direction]direction{sendrecv: sendonly, recvonly: inactive, sendonly: sendonly, inactive: inactive}[m.dir]
		}
	}
	if !found {
		return description{}, fmt.Errorf("a session description without an audio stream for us: %w", yesline.Invalid)
	}
	return d, nil
}

// formats gives the codecs that we know, in order, and telephone-event's type.
func (m *stream) formats() (codecs []audio.Codec, events uint8) {
	for _, t := range m.types {
		name := m.rtpmap[t]
		if t < 96 {
			name = map[uint8]string{0: "pcmu/8000", 8: "pcma/8000"}[t] // static types mean what RFC 3551 says
		}
		switch strings.TrimSuffix(name, "/1") {
		case "pcmu/8000":
			if t == 0 && len(codecs) < 2 {
				codecs = append(codecs, audio.PCMU)
			}
		case "pcma/8000":
			if t == 8 && len(codecs) < 2 {
				codecs = append(codecs, audio.PCMA)
			}
		case "telephone-event/8000":
			if events == 0 {
				events = t
			}
		}
	}
	return codecs, events
}

// ours describes our side of one leg.
type ours struct {
	id, version uint64
	addr        netip.AddrPort
	codecs      []audio.Codec
	events      uint8
	dir         direction
	media       []string // of the offer we answer; nil in an offer of ours
	audio       int
}

// defaultEvents is the payload type that we offer for telephone-event: what
// most phones use.
const defaultEvents = 101

// write makes a session description. It never says 0.0.0.0: media goes where
// it says, on hold or not.
func (o ours) write() []byte {
	var b strings.Builder
	family := "IP4"
	if o.addr.Addr().Is6() {
		family = "IP6"
	}
	fmt.Fprintf(&b, "v=0\r\no=- %d %d IN %s %s\r\ns=-\r\nc=IN %s %s\r\nt=0 0\r\n",
		o.id, o.version, family, o.addr.Addr(), family, o.addr.Addr())
	streams := o.media
	if streams == nil {
		streams = []string{"audio RTP/AVP"}
	}
	for i, m := range streams {
		if i != o.audio || len(o.codecs) == 0 {
			kind, proto, _ := strings.Cut(m, " ")
			fmt.Fprintf(&b, "m=%s 0 %s 0\r\n", kind, proto) // refused, in its place (RFC 3264, 6)
			continue
		}
		fmt.Fprintf(&b, "m=audio %d RTP/AVP", o.addr.Port())
		for _, c := range o.codecs {
			fmt.Fprintf(&b, " %d", c.PayloadType())
		}
		if o.events != 0 {
			fmt.Fprintf(&b, " %d", o.events)
		}
		b.WriteString("\r\n")
		for _, c := range o.codecs {
			fmt.Fprintf(&b, "a=rtpmap:%d %s/8000\r\n", c.PayloadType(), c)
		}
		if o.events != 0 {
			fmt.Fprintf(&b, "a=rtpmap:%d telephone-event/8000\r\na=fmtp:%d 0-15\r\n", o.events, o.events)
		}
		fmt.Fprintf(&b, "a=ptime:20\r\na=%s\r\n", o.dir)
	}
	return []byte(b.String())
}

func newSDPID() uint64 { return uint64(rand.Uint32()) }
