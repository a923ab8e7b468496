package webrtc

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"yesline/internal/audio"
)

// answer is what we say of ourselves to one browser. Of the other party it
// knows nothing, so it can tell nothing.
type answer struct {
	session uint64 // of the o= line
	version uint64
	name    string // our ICE name and password
	secret  string
	print   [32]byte // of our certificate: SHA-256
	udp     []netip.AddrPort
	tcp     []netip.AddrPort
	voice   uint32 // our SSRCs
	house   uint32
}

// write answers an offer of which chosen is taken.
func (a *answer) write(o *offer, c chosen) string {
	var b strings.Builder
	put := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	put("v=0")
	put("o=- %d %d IN IP4 0.0.0.0", a.session, a.version)
	put("s=-")
	put("t=0 0")
	put("a=ice-lite")
	if mids := taken(c); mids != "" {
		put("a=group:BUNDLE%s", mids)
	}
	put("a=msid-semantic: WMS *")
	for i, l := range o.lines {
		switch i {
		case c.voice.index:
			a.line(put, c.voice, sendrecv, "voice", a.voice)
			a.candidates(put)
		case c.house.index:
			a.line(put, c.house, sendonly, "house", a.house)
		default:
			put("m=%s 0 %s %s", l.kind, l.proto, l.types[0])
			put("c=IN IP4 0.0.0.0")
			put("a=inactive")
			if l.mid != "" {
				put("a=mid:%s", l.mid)
			}
		}
	}
	return b.String()
}

func taken(c chosen) (mids string) {
	for _, in := range []lineIn{c.voice, c.house} {
		if in.index >= 0 && in.mid != "" {
			mids += " " + in.mid
		}
	}
	return mids
}

func (a *answer) line(put func(string, ...any), in lineIn, dir direction, stream string, ssrc uint32) {
	types := fmt.Sprint(in.payload)
	if in.events != 0 {
		types += fmt.Sprintf(" %d", in.events)
	}
	at := a.first()
	put("m=audio %d %s %s", at.Port(), in.proto, types)
	put("c=IN IP%d %s", family(at.Addr()), at.Addr())
	put("a=rtcp-mux")
	if in.mid != "" {
		put("a=mid:%s", in.mid)
	}
	put("a=%s", dir)
	put("a=ice-ufrag:%s", a.name)
	put("a=ice-pwd:%s", a.secret)
	put("a=fingerprint:sha-256 %s", colons(a.print[:]))
	put("a=setup:passive")
	put("a=rtpmap:%d %s", in.payload, map[audio.Codec]string{audio.PCMU: "PCMU/8000", audio.PCMA: "PCMA/8000", audio.Opus: "opus/48000/2"}[in.codec])
	if in.codec == audio.Opus {
		// One channel of speech: what is stored of a second is bounded.
		put("a=fmtp:%d minptime=10;useinbandfec=1;stereo=0;maxaveragebitrate=40000", in.payload)
	}
	if in.events != 0 {
		put("a=rtpmap:%d telephone-event/%d", in.events, in.codec.Clock())
		put("a=fmtp:%d 0-15", in.events)
	}
	put("a=ptime:20")
	put("a=maxptime:60")
	put("a=msid:%s %s", stream, stream)
	put("a=ssrc:%d cname:yesline", ssrc)
}

// candidates are our configured addresses and nothing else (RFC 8839, 5.1; TCP:
// RFC 6544).
func (a *answer) candidates(put func(string, ...any)) {
	for i, at := range a.udp {
		put("a=candidate:%d 1 udp %d %s %d typ host", i+1, priority(126, i), at.Addr(), at.Port())
	}
	for i, at := range a.tcp {
		put("a=candidate:%d 1 tcp %d %s %d typ host tcptype passive", len(a.udp)+i+1, priority(90, i), at.Addr(), at.Port())
	}
	put("a=end-of-candidates")
}

// priority of a candidate (RFC 8445, 5.1.2.1): UDP before TCP, in our order.
func priority(kind uint32, place int) uint32 {
	return kind<<24 | uint32(65535-place)<<8 | 255
}

func (a *answer) first() netip.AddrPort {
	if len(a.udp) > 0 {
		return a.udp[0]
	}
	return a.tcp[0]
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}

func colons(sum []byte) string {
	digits := strings.ToUpper(hex.EncodeToString(sum))
	var b strings.Builder
	for i := 0; i < len(digits); i += 2 {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(digits[i : i+2])
	}
	return b.String()
}
