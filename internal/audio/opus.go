package audio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
)

// OpusRate is the clock of Opus: its timestamps, granules and durations are in
// 48ths of a millisecond (RFC 6716, RFC 7587).
const OpusRate = 48000

const (
	opusFrameMost    = 1275                // bytes of a frame (RFC 6716, section 3.4, R2)
	opusDurationMost = OpusRate * 12 / 100 // of a packet: 120 ms (R5)
	opusUnit         = OpusRate * UnitMillis / 1000
)

// PacketUnits is how many units of 10 ms an Opus packet lasts: 1 to 12. The
// error says that it breaks a rule of RFC 6716, section 3.4, or lasts no whole
// number of them: frames of 2.5 and 5 ms are not for speech, and we agree on
// packets of 10 ms and more.
func PacketUnits(packet []byte) (int, error) {
	samples, err := opusDuration(packet)
	if err != nil {
		return 0, err
	}
	if samples%opusUnit != 0 {
		return 0, errors.New("an opus packet that is no whole number of 10 ms")
	}
	return samples / opusUnit, nil
}

var errOpus = errors.New("not an opus packet")

// opusDuration is how long a packet lasts, in samples of 48 kHz.
func opusDuration(packet []byte) (samples int, err error) {
	if len(packet) == 0 { // R1
		return 0, errOpus
	}
	frame := frameDuration(packet[0])
	rest := packet[1:]
	switch packet[0] & 3 {
	case 0:
		return frame, frames(1, len(rest))
	case 1:
		return 2 * frame, frames(2, len(rest)) // R3
	case 2:
		first, rest, ok := frameLength(rest)
		if !ok {
			return 0, errOpus
		}
		return 2 * frame, frames(1, len(rest)-first) // R4
	}
	return severalFrames(frame, rest)
}

// frameDuration is what the first byte says of each frame (RFC 6716, table 2).
func frameDuration(toc byte) int {
	config := toc >> 3
	switch {
	case config < 12: // SILK: 10, 20, 40, 60 ms
		return [...]int{480, 960, 1920, 2880}[config&3]
	case config < 16: // hybrid: 10, 20 ms
		return [...]int{480, 960}[config&1]
	}
	return 120 << (config & 3) // CELT: 2.5, 5, 10, 20 ms
}

// frames checks n frames of equal length that fill so many bytes.
func frames(n, bytes int) error {
	if bytes < 0 || bytes%n != 0 || bytes/n > opusFrameMost {
		return errOpus
	}
	return nil
}

// frameLength reads the length of a frame (RFC 6716, section 3.2.1).
func frameLength(b []byte) (length int, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, nil, false
	}
	if b[0] < 252 {
		return int(b[0]), b[1:], true
	}
	if len(b) < 2 {
		return 0, nil, false
	}
	return int(b[0]) + 4*int(b[1]), b[2:], true
}

// severalFrames checks a packet of code 3 (RFC 6716, section 3.2.5): how many
// frames, padding, lengths, frames.
func severalFrames(frame int, b []byte) (samples int, err error) {
	if len(b) == 0 { // R6, R7
		return 0, errOpus
	}
	count, padded, varies := int(b[0]&0x3f), b[0]&0x40 != 0, b[0]&0x80 != 0
	b = b[1:]
	if count == 0 || count*frame > opusDurationMost { // R5
		return 0, errOpus
	}
	if padded {
		var ok bool
		if b, ok = unpadded(b); !ok {
			return 0, errOpus
		}
	}
	if !varies {
		return count * frame, frames(count, len(b))
	}
	used := 0
	for range count - 1 {
		length, rest, ok := frameLength(b)
		if !ok {
			return 0, errOpus
		}
		b, used = rest, used+length
	}
	return count * frame, frames(1, len(b)-used)
}

func unpadded(b []byte) (rest []byte, ok bool) {
	for {
		if len(b) == 0 {
			return nil, false
		}
		more := b[0] == 255
		padding := int(b[0])
		if more {
			padding = 254
		}
		b = b[1:]
		if padding > len(b) {
			return nil, false
		}
		b = b[:len(b)-padding]
		if !more {
			return b, true
		}
	}
}

// Packets is one second of a voice in Opus, as a track holds it: packets as
// they came, in the order in which they are heard. Each stands behind the unit
// of 10 ms at which it begins, 0 to 99 (one byte), and its length in two bytes,
// the high one first. The last may last beyond the second: then it is heard in
// the next one too.
type Packets []byte

const (
	secondUnits = 1000 / UnitMillis
	packetHead  = 3

	// PacketsMost is how many bytes a second of packets may have: 62 kbit/s
	// in packets of 20 ms.
	PacketsMost = 8000
)

// Add puts a packet at its place, in the room that p has: append's rules. It is
// false, and p as it was, when there would be more than PacketsMost. The
// caller has checked the packet by PacketUnits, and that its units are free.
func (p Packets) Add(unit int, packet []byte) (Packets, bool) {
	size := packetHead + len(packet)
	if len(p)+size > PacketsMost || unit < 0 || unit >= secondUnits {
		return p, false
	}
	at := 0
	for at < len(p) && int(p[at]) < unit {
		at += packetHead + int(binary.BigEndian.Uint16(p[at+1:]))
	}
	end := len(p)
	p = append(p, zeroPacket[:packetHead]...)
	p = append(p, packet...)
	if at < end { // out of order: make room for it
		copy(p[at+size:], p[at:end])
		copy(p[at+packetHead:], packet)
	}
	p[at] = byte(unit)
	binary.BigEndian.PutUint16(p[at+1:], uint16(len(packet)))
	return p, true
}

var zeroPacket [packetHead]byte

// Cut takes away the packets that end after the first units of the second.
// They lie at its end.
func (p Packets) Cut(units int) Packets {
	size := 0
	for unit, packet := range p.All() {
		lasts, err := PacketUnits(packet)
		if err != nil || unit+lasts > units {
			return p[:size]
		}
		size += packetHead + len(packet)
	}
	return p
}

// All gives each packet with the unit at which it begins. It ends where p is
// none that Check would accept.
func (p Packets) All() iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		for len(p) >= packetHead {
			unit, length := int(p[0]), int(binary.BigEndian.Uint16(p[1:]))
			if unit >= secondUnits || length == 0 || packetHead+length > len(p) {
				return
			}
			if !yield(unit, p[packetHead:packetHead+length:packetHead+length]) {
				return
			}
			p = p[packetHead+length:]
		}
	}
}

// Check says what is wrong with a second of packets whose units are marked as
// received in present: bit i%8 of byte i/8 for unit i. Packets are Opus, do
// not overlap, and cover marked units. A marked unit that none covers lies
// before them all and was brought by a packet of the second before, so within
// its first 110 ms.
func (p Packets) Check(present [presenceBytes]byte) error {
	size, next, covered := 0, 0, [presenceBytes]byte{}
	for unit, packet := range p.All() {
		lasts, err := PacketUnits(packet)
		if err != nil {
			return err
		}
		if unit < next {
			return errors.New("opus packets that overlap")
		}
		size, next = size+packetHead+len(packet), unit+lasts
		for u := unit; u < min(next, secondUnits); u++ {
			covered[u/8] |= 1 << (u % 8)
		}
	}
	if size != len(p) || size > PacketsMost {
		return fmt.Errorf("%d bytes that are no row of opus packets", len(p))
	}
	carried := true // the units so far were brought by the second before
	for u := range secondUnits {
		has, covers := present[u/8]>>(u%8)&1 == 1, covered[u/8]>>(u%8)&1 == 1
		switch {
		case covers && !has:
			return errors.New("an opus packet where nothing is marked as received")
		case has && !covers && (!carried || u >= longestUnits-1):
			return errors.New("marked as received, and no opus packet is there")
		}
		carried = carried && has && !covers
	}
	return nil
}

const longestUnits = opusDurationMost / opusUnit
