// Package audio turns telephone sound into samples and back: G.711, Opus, WAV,
// Ogg, tones, peaks for a waveform, and the measures by which a test tells one
// voice from another. It knows nothing of calls or people and imports nothing
// of ours.
package audio

import "fmt"

// Rate is the number of samples a second of everything here. G.711 is one byte
// a sample, so it is also the number of payload bytes a second.
const Rate = 8000

// Codec names how payload bytes stand for sound. The value is what the object
// format stores: for G.711 the RTP payload type of RFC 3551, for Opus, which
// has none of its own, the one that everybody gives it.
type Codec uint8

const (
	PCMU Codec = 0   // ITU-T G.711 mu-law: a byte is a sample
	PCMA Codec = 8   // ITU-T G.711 A-law: a byte is a sample
	Opus Codec = 111 // RFC 6716: a payload is a packet, or in a second of a track a row of them (Packets)
)

// Known reports whether c is a codec that this package decodes. Ask before
// trusting a codec that was read from outside.
func (c Codec) Known() bool { return c == PCMU || c == PCMA || c == Opus }

// PayloadType is the RTP payload type: static for G.711 (RFC 3551, table 4),
// and for Opus the dynamic one that we offer. What a party agreed on for Opus
// may be another.
func (c Codec) PayloadType() uint8 { return uint8(c) }

// Clock is how many RTP timestamps there are in a second: 48,000 in Opus,
// whatever its sound (RFC 7587, section 4.1), and otherwise Rate.
func (c Codec) Clock() uint32 {
	if c == Opus {
		return OpusRate
	}
	return Rate
}

func (c Codec) String() string {
	switch c {
	case PCMU:
		return "PCMU"
	case PCMA:
		return "PCMA"
	case Opus:
		return "opus"
	}
	return fmt.Sprintf("codec %d", uint8(c))
}

// Silence is the byte of G.711 to put where nothing was received: zero in
// mu-law, and in A-law, which has no zero, the step nearest to it. Opus is
// packets and has no such byte: where nothing was received there is none.
func (c Codec) Silence() byte {
	if c == PCMA {
		return 0xd5
	}
	return 0xff
}

// Decode appends one sample for each byte of a G.711 payload. A codec that is
// not Known is silent: it gives zeros. Opus gives nothing: a packet needs what
// was said before it (Voice).
func (c Codec) Decode(samples []int16, payload []byte) []int16 {
	if c == Opus {
		return samples
	}
	table := &silent
	switch c {
	case PCMU:
		table = &muLaw
	case PCMA:
		table = &aLaw
	}
	for _, b := range payload {
		samples = append(samples, table[b])
	}
	return samples
}

// Encode appends one byte of G.711 for each sample. A codec that is not Known
// appends its Silence. We encode no Opus: it gives nothing.
func (c Codec) Encode(payload []byte, samples []int16) []byte {
	if c == Opus {
		return payload
	}
	switch c {
	case PCMU:
		for _, s := range samples {
			payload = append(payload, toMuLaw[uint16(s)>>2])
		}
	case PCMA:
		for _, s := range samples {
			payload = append(payload, toALaw[uint16(s)>>3])
		}
	default:
		for range samples {
			payload = append(payload, c.Silence())
		}
	}
	return payload
}

// The tables are computed once from the two curves and never change. Encoding
// looks at the upper 14 bits of a sample for mu-law and 13 for A-law: G.711
// has no finer step than that.
var (
	silent  [256]int16
	muLaw   = expandAll(expandMu)
	aLaw    = expandAll(expandA)
	toMuLaw = compressAll[[1 << 14]byte](2, compressMu)
	toALaw  = compressAll[[1 << 13]byte](3, compressA)
)

func expandAll(expand func(byte) int) (table [256]int16) {
	for b := range table {
		table[b] = int16(expand(byte(b)))
	}
	return table
}

// compressAll fills a table whose index is a sample's upper bits, taken as
// they stand: the negative half of the samples is the upper half of the table.
func compressAll[T [1 << 14]byte | [1 << 13]byte](shift int, compress func(int) byte) (table T) {
	for i := range len(table) {
		table[i] = compress(int(int16(i << shift)))
	}
	return table
}

// The curves are eight straight segments on each side of zero; each has
// sixteen steps and is twice as steep as the one nearer to zero. Mu-law adds
// a bias of 33 in its 14-bit terms, so that each segment starts at a power of
// two. On the wire all of mu-law's bits, and every other of A-law's, are
// turned over.

func expandMu(b byte) int {
	b = ^b
	segment, step := b>>4&7, int(b&15)
	magnitude := ((2*step+33)<<segment - 33) << 2
	if b&0x80 != 0 {
		return -magnitude
	}
	return magnitude
}

func compressMu(sample int) byte {
	var sign byte
	magnitude := sample >> 2
	if sample < 0 {
		sign = 0x80
		magnitude = ^sample >> 2
	}
	magnitude = min(magnitude+33, 8191)
	segment := 0
	for magnitude>>segment >= 64 {
		segment++
	}
	return ^(sign | byte(segment)<<4 | byte(magnitude>>(segment+1)&15))
}

func expandA(b byte) int {
	b ^= 0x55
	segment, step := b>>4&7, int(b&15)
	magnitude := 2*step + 1
	if segment > 0 {
		magnitude = (magnitude + 32) << (segment - 1)
	}
	magnitude <<= 3
	if b&0x80 == 0 {
		return -magnitude
	}
	return magnitude
}

func compressA(sample int) byte {
	sign := byte(0x80)
	if sample < 0 {
		sign = 0
		sample = ^sample
	}
	magnitude := sample >> 4
	segment := 0
	for magnitude>>segment >= 32 {
		segment++
	}
	if magnitude >= 16 {
		segment++
	}
	step := magnitude
	if segment > 1 {
		step >>= segment - 1
	}
	return (sign | byte(segment)<<4 | byte(step&15)) ^ 0x55
}
