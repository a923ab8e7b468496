package webrtc

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/capture"
)

// What is read of a browser's offer (RFC 8866, 8829) is bounded: it comes from
// outside. Chromium's has two or three kilobytes for a voice.
const (
	maxOffer  = 32 << 10
	maxLines  = 800
	maxMedia  = 8
	maxTypes  = 64
	maxRelays = 16
	maxWord   = 256 // an ICE name or password (RFC 8445, 5.3)
)

// offer is what we use of a session description.
type offer struct {
	theirs string       // the browser's ICE name
	print  fingerprint  // of its certificate
	bundle []string     // the lines that share one transport
	lines  []line       // every m= line, to refuse the others in place
	relays []netip.Addr // where its TURN servers would send from
	lite   bool
}

// line is one m= section.
type line struct {
	kind, proto, mid string
	closed           bool // port 0
	types            []string
	rtpmap           map[uint8]string // in lower case
	dir              direction
	mux              bool
	name             string // ICE name
	secret           bool   // it has an ICE password: not needed here, and never kept
	print            fingerprint
	setup            string
	ssrcs            []uint32 // that it says it will send
}

// fingerprint is a certificate's digest (RFC 8122).
type fingerprint struct {
	hash string // "sha-256"
	sum  string // the bytes of it
}

// direction of an audio stream as its sender sees it (RFC 3264).
type direction string

const (
	sendrecv direction = "sendrecv"
	sendonly direction = "sendonly"
	recvonly direction = "recvonly"
	inactive direction = "inactive"
)

// invalid is a mistake of an offer, in words for the person. It repeats
// nothing of what was sent.
func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, yesline.Invalid)...)
}

// readOffer reads a whole offer of a browser.
func readOffer(text string) (*offer, error) {
	if len(text) == 0 || len(text) > maxOffer {
		return nil, invalid("an offer of %d bytes", len(text))
	}
	rows := strings.Split(text, "\n") // the last may lack its newline
	if len(rows) > maxLines {
		return nil, invalid("an offer of %d lines", len(rows))
	}
	o := &offer{}
	session := line{dir: sendrecv}
	at := &session
	for _, row := range rows {
		row = strings.TrimRight(row, "\r")
		if len(row) < 2 || row[1] != '=' {
			continue
		}
		if row[0] != 'm' {
			if row[0] == 'a' {
				o.attribute(at, row[2:])
			}
			continue
		}
		if len(o.lines) == maxMedia {
			return nil, invalid("an offer of more than %d streams", maxMedia)
		}
		l, err := readLine(row[2:])
		if err != nil {
			return nil, err
		}
		l.dir, l.name, l.secret, l.print, l.setup = session.dir, session.name, session.secret, session.print, session.setup
		o.lines = append(o.lines, l)
		at = &o.lines[len(o.lines)-1]
	}
	return o, nil
}

// readLine reads "audio 49170 UDP/TLS/RTP/SAVPF 111 0 8 126".
func readLine(value string) (line, error) {
	words := strings.Fields(value)
	if len(words) < 4 || len(words) > 3+maxTypes {
		return line{}, invalid("an m= line of %d words", len(words))
	}
	port, err := strconv.ParseUint(words[1], 10, 16)
	if err != nil {
		return line{}, invalid("an m= line without a port")
	}
	for _, w := range []string{words[0], strings.ReplaceAll(words[2], "/", ""), strings.Join(words[3:], "")} {
		if !isToken(w) {
			return line{}, invalid("an m= line that is not to be read")
		}
	}
	return line{kind: words[0], proto: words[2], closed: port == 0, types: words[3:], rtpmap: map[uint8]string{}}, nil
}

// isToken reports whether s can be repeated in an answer (RFC 8866, token).
func isToken(s string) bool {
	if s == "" || len(s) > maxWord {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', strings.IndexByte("-_.+{}|~!#$%&'*^`", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// isICE reports whether s is made of ice-chars (RFC 8839, 5.4).
func isICE(s string, least int) bool {
	if len(s) < least || len(s) > maxWord {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '+', c == '/':
		default:
			return false
		}
	}
	return true
}

// attribute reads one a= line. What it cannot read it leaves out; what is then
// missing is said by check.
func (o *offer) attribute(at *line, text string) {
	name, value, _ := strings.Cut(text, ":")
	switch name {
	case "group":
		if words := strings.Fields(value); len(words) > 1 && words[0] == "BUNDLE" && len(words) <= maxMedia+1 {
			o.bundle = words[1:]
		}
	case "ice-lite":
		o.lite = true
	case "ice-ufrag":
		if isICE(value, 4) {
			at.name = value
		}
	case "ice-pwd":
		at.secret = isICE(value, 22)
	case "fingerprint":
		at.print = readFingerprint(value)
	case "setup":
		at.setup = value
	case "mid":
		if isToken(value) && len(value) <= 32 {
			at.mid = value
		}
	case "rtcp-mux":
		at.mux = true
	case string(sendrecv), string(sendonly), string(recvonly), string(inactive):
		at.dir = direction(name)
	case "rtpmap":
		at.mapType(value)
	case "ssrc":
		at.source(value)
	case "candidate":
		o.candidate(value)
	}
}

// mapType reads "111 opus/48000/2".
func (l *line) mapType(value string) {
	number, name, _ := strings.Cut(value, " ")
	n, err := strconv.ParseUint(number, 10, 7)
	if err == nil && l.rtpmap != nil && slices.Contains(l.types, number) && len(name) < 64 {
		l.rtpmap[uint8(n)] = strings.ToLower(name)
	}
}

// source reads "3735928559 cname:x".
func (l *line) source(value string) {
	number, _, _ := strings.Cut(value, " ")
	n, err := strconv.ParseUint(number, 10, 32)
	if err == nil && !slices.Contains(l.ssrcs, uint32(n)) && len(l.ssrcs) < 4 {
		l.ssrcs = append(l.ssrcs, uint32(n))
	}
}

// candidate keeps where a TURN server would send from. Other addresses of the
// browser are no business of ours: its checks say where it is.
func (o *offer) candidate(value string) {
	words := strings.Fields(value)
	if len(words) < 8 || words[6] != "typ" || words[7] != "relay" || len(o.relays) == maxRelays {
		return
	}
	if ip, err := netip.ParseAddr(words[4]); err == nil && !slices.Contains(o.relays, ip.Unmap()) {
		o.relays = append(o.relays, ip.Unmap())
	}
}

// readFingerprint reads "sha-256 AB:CD:...".
func readFingerprint(value string) fingerprint {
	hash, digits, _ := strings.Cut(value, " ")
	hash = strings.ToLower(hash)
	size := map[string]int{"sha-256": 32, "sha-384": 48, "sha-512": 64}[hash]
	sum, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(digits), ":", ""))
	if err != nil || size == 0 || len(sum) != size {
		return fingerprint{}
	}
	return fingerprint{hash, string(sum)}
}

// lineIn is an m= section that we take, and how.
type lineIn struct {
	index   int
	mid     string
	proto   string
	codec   audio.Codec
	payload uint8 // type of the codec in this offer
	events  uint8 // type of telephone-event at the codec's clock; 0: none
	dir     direction
	ssrcs   []uint32
}

// chosen is what we take of an offer.
type chosen struct {
	voice lineIn
	house lineIn // index -1: there is none, and the house speaks in the voice's line
}

// choose takes the voice's line in the wanted codec or the next best, and the
// line in which the house speaks.
func (o *offer) choose(wants audio.Codec) (chosen, error) {
	c := chosen{voice: lineIn{index: -1}, house: lineIn{index: -1}}
	audios := 0
	for i := range o.lines {
		l := &o.lines[i]
		if l.kind != "audio" || l.closed {
			continue
		}
		audios++
		switch {
		case c.voice.index < 0 && l.dir == sendrecv:
			in, err := o.take(i, preferred(wants))
			if err != nil {
				return c, err
			}
			c.voice = in
		case c.house.index < 0 && c.voice.index >= 0 && l.dir == recvonly:
			in, err := o.take(i, []audio.Codec{audio.PCMU})
			if err != nil {
				return c, err
			}
			in.events = 0 // the house presses no keys
			c.house = in
		}
	}
	switch {
	case audios == 0:
		return c, invalid("the browser offers no sound")
	case c.voice.index < 0:
		return c, invalid("the browser offers no voice that is heard and spoken")
	case c.house.index < 0 && c.voice.codec == audio.Opus:
		return c, invalid("the browser leaves no line for what this house says")
	}
	return c, nil
}

// preferred is the codecs in which a voice is taken, the best first. G.711 is
// what phones speak; a browser has no other that we could bridge to one.
func preferred(wants audio.Codec) []audio.Codec {
	switch wants {
	case audio.Opus:
		return []audio.Codec{audio.Opus, audio.PCMU, audio.PCMA}
	case audio.PCMA:
		return []audio.Codec{audio.PCMA, audio.PCMU}
	}
	return []audio.Codec{audio.PCMU, audio.PCMA}
}

// take checks that a line can be carried and chooses its codec.
func (o *offer) take(i int, codecs []audio.Codec) (lineIn, error) {
	l := &o.lines[i]
	bundled := slices.Contains(o.bundle, l.mid) && l.mid != ""
	switch {
	case !strings.HasSuffix(l.proto, "TLS/RTP/SAVPF") && !strings.HasSuffix(l.proto, "TLS/RTP/SAVP"):
		return lineIn{}, invalid("the browser offers sound that is not encrypted")
	case !l.mux:
		return lineIn{}, invalid("the browser does not send RTCP with its sound (rtcp-mux)")
	case !bundled && len(o.lines) > 1:
		return lineIn{}, invalid("the browser does not bundle its lines")
	case l.name == "" || !l.secret:
		return lineIn{}, invalid("the offer has no ICE name and password")
	case o.theirs != "" && o.theirs != l.name:
		return lineIn{}, invalid("the offer has two ICE names in one bundle")
	case l.print.sum == "":
		return lineIn{}, invalid("the offer has no certificate's fingerprint that is safe")
	case o.print.sum != "" && o.print != l.print:
		return lineIn{}, invalid("the offer has two certificates in one bundle")
	case l.setup != "actpass" && l.setup != "active":
		return lineIn{}, invalid("the browser must open the encryption (setup)")
	case o.lite:
		return lineIn{}, invalid("an ICE-lite peer cannot call")
	}
	in := lineIn{index: i, mid: l.mid, proto: l.proto, dir: l.dir, ssrcs: l.ssrcs}
	for _, c := range codecs {
		payload, found := l.payload(c)
		if !found {
			continue
		}
		in.codec, in.payload = c, payload
		in.events, _ = l.numbered("telephone-event/" + strconv.Itoa(int(c.Clock())))
		o.theirs, o.print = l.name, l.print
		return in, nil
	}
	return lineIn{}, fmt.Errorf("the browser offers none of the codecs of this call: %w: %w", capture.ErrNoCodec, yesline.Invalid)
}

// payload is the type of a codec in this line.
func (l *line) payload(c audio.Codec) (uint8, bool) {
	switch c {
	case audio.Opus:
		return l.numbered("opus/48000/2")
	case audio.PCMU, audio.PCMA:
		if slices.Contains(l.types, strconv.Itoa(int(c.PayloadType()))) {
			return c.PayloadType(), true // static (RFC 3551), with or without its rtpmap
		}
	}
	return 0, false
}

// numbered finds the type of a name, the first of the line's order.
func (l *line) numbered(name string) (uint8, bool) {
	for _, t := range l.types {
		n, err := strconv.ParseUint(t, 10, 7)
		if err == nil && l.rtpmap[uint8(n)] == name {
			return uint8(n), true
		}
	}
	return 0, false
}
