package sip

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
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

	secured security
	keys    []offeredKey // SDES: what it may encrypt with, in our order
	print   fingerprint  // DTLS: of the certificate that it is going to show
	setup   string       // and who begins: "passive" is us, else they
	wishes  string       // recordpref (RFC 7866, 8.1.2): "on", "off", "pause", "nopreference"; "" when it says nothing
}

// security is how an audio stream is protected.
type security int

const (
	plain security = iota
	bySDES
	byDTLS
)

// means are the ways to protect sound that may be agreed on where a
// description came from: keys in SDES are only taken inside of TLS. Where safe
// is set nothing goes in clear.
type means struct{ sdes, dtls, safe bool }

// unfit is why a description cannot be taken, in words for the person.
type unfit string

func (u unfit) Error() string { return "a session description: " + string(u) }
func (unfit) Unwrap() error   { return yesline.Invalid }

const (
	noSound     unfit = "it has no audio stream that we can carry"
	noCodec     unfit = "the phone offers no codec that we speak: switch on G.711 (PCMU or PCMA)"
	keysInClear unfit = "the phone sends its SRTP keys in clear: let it use TLS"
	noKeys      unfit = "the phone offers no SRTP keys that we can use"
	inClear     unfit = "the phone does not encrypt its sound: switch on SRTP"
	noDTLS      unfit = "DTLS-SRTP is not offered here"
)

// stream is one m= section while it is read.
type stream struct {
	kind, proto string
	port        int
	types       []uint8
	rtpmap      map[uint8]string
	addr        netip.Addr
	dir         direction
	keys        []offeredKey
	print       fingerprint
	setup       string // "actpass", "active", "passive"
	wishes      string
}

// readSDP reads a session description. yesline.Invalid, with words for the
// person where there are any, when it has no audio stream at a usable IP
// address that may be protected as it wants to be, or is too large.
func readSDP(body []byte, may means) (description, error) {
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
			m.addr, m.dir, m.print, m.setup = session.addr, session.dir, session.print, session.setup
			all = append(all, m)
			at = m
			continue
		}
		at.attribute(line[0], line[2:])
	}
	return choose(all, may)
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
	name, rest, _ := strings.Cut(value, ":")
	switch name {
	case "rtpmap":
		number, format, _ := strings.Cut(rest, " ")
		if t, err := strconv.ParseUint(number, 10, 7); err == nil && m.rtpmap != nil {
			m.rtpmap[uint8(t)] = strings.ToLower(strings.TrimSpace(format))
		}
	case "crypto":
		if k, ok := readCrypto(rest); ok && len(m.keys) < maxKeys {
			m.keys = append(m.keys, k)
		}
	case "fingerprint":
		if f, ok := readFingerprint(rest); ok {
			m.print = f
		}
	case "setup":
		m.setup = rest
	case "recordpref":
		m.wishes = rest
	}
}

// choose takes the best protected of the audio streams that we can carry, and
// of those the first.
func choose(all []*stream, may means) (description, error) {
	var d description
	best, why := -1, noSound
	for i, m := range all {
		d.media = append(d.media, m.kind+" "+m.proto)
		if m.kind != "audio" || m.port == 0 || !m.addr.IsValid() || m.addr.IsMulticast() || m.addr.Zone() != "" {
			continue
		}
		how, unfit := m.protected(may)
		if unfit != "" {
			why = unfit
			continue
		}
		if best < 0 || how != plain && d.secured == plain {
			best, d.secured = i, how
		}
	}
	if best < 0 {
		return description{}, why
	}
	m := all[best]
	d.audio, d.dir, d.addr = best, m.dir, netip.AddrPortFrom(m.addr, uint16(m.port))
	d.codecs, d.events = m.formats()
	d.keys, d.print, d.setup, d.wishes = bestKeys(m.keys), m.print, m.setup, m.wishes
	if m.addr.IsUnspecified() { // the old way to hold (RFC 2543)
		d.dir = map[direction]direction{sendrecv: sendonly, recvonly: inactive, sendonly: sendonly, inactive: inactive}[m.dir]
	}
	return d, nil
}

// protected tells how a stream is to be protected, or why that cannot be.
func (m *stream) protected(may means) (security, unfit) {
	switch strings.TrimSuffix(m.proto, "F") { // with feedback (RFC 4585, 5124), of which we have none to give
	case "RTP/AVP":
		if may.safe {
			return plain, inClear
		}
		return plain, ""
	case "RTP/SAVP":
		switch {
		case len(m.keys) > 0 && may.sdes:
			return bySDES, ""
		case m.print.usable() && m.setup != "" && may.dtls: // as older phones name DTLS-SRTP
			return byDTLS, ""
		case len(m.keys) > 0:
			return plain, keysInClear
		}
		return plain, noKeys
	case "UDP/TLS/RTP/SAVP":
		if m.print.usable() && slices.Contains([]string{"actpass", "active", "passive"}, m.setup) && may.dtls {
			return byDTLS, ""
		}
		return plain, noDTLS
	}
	return plain, noSound
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

	secured security
	key     agreedKey   // SDES: what we encrypt with; in an offer of ours, see keys
	keys    []agreedKey // what we offer to encrypt with
	print   fingerprint // DTLS: of our certificate
	setup   string      // and who begins; "" in an offer of ours
	record  string      // what a phone that is aware of recording is told: "on", "off", "paused"; "" for others
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
		streams = []string{"audio " + map[security]string{plain: "RTP/AVP", bySDES: "RTP/SAVP", byDTLS: "UDP/TLS/RTP/SAVP"}[o.secured]}
	}
	for i, m := range streams {
		if i != o.audio || len(o.codecs) == 0 {
			kind, proto, _ := strings.Cut(m, " ")
			fmt.Fprintf(&b, "m=%s 0 %s 0\r\n", kind, proto) // refused, in its place (RFC 3264, 6)
			continue
		}
		_, proto, _ := strings.Cut(m, " ")
		fmt.Fprintf(&b, "m=audio %d %s", o.addr.Port(), proto)
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
		o.protect(&b)
		fmt.Fprintf(&b, "a=ptime:20\r\na=%s\r\n", o.dir)
		if o.record != "" {
			fmt.Fprintf(&b, "a=record:%s\r\n", o.record)
		}
	}
	return []byte(b.String())
}

// protect writes how our stream is protected.
func (o ours) protect(b *strings.Builder) {
	switch o.secured {
	case bySDES:
		keys := o.keys
		if o.media != nil {
			keys = []agreedKey{o.key}
		}
		for _, k := range keys {
			k.write(b)
		}
	case byDTLS: // if they let us choose they begin: where they are behind a NAT we could not
		fmt.Fprintf(b, "a=fingerprint:%s\r\na=setup:%s\r\n", o.print, cmp.Or(o.setup, "actpass"))
	}
}

func newSDPID() uint64 { return uint64(rand.Uint32()) }
