package audio

import (
	"github.com/pion/opus"
)

// lead is how much of the second before is decoded again, and not heard, so
// that a decoder that begins there sounds like one that went on: after 400 ms
// the two differ by less than a step of a sample, after 200 ms by what one
// hears (docs/format.md).
const lead = 50 // units of 10 ms

// WideRate is the number of samples a second of a Voice that is heard. It
// costs what Rate costs, and keeps the half of a voice that a telephone cuts.
const WideRate = 16000

// Voice decodes seconds of Opus to samples. What it gives depends on that
// second and the one before it and on nothing else, so whoever asks for a part
// of a track gets the same samples wherever they began. One Voice serves one
// goroutine.
type Voice struct {
	rate    int
	decoder opus.Decoder
	sound   []int16 // of the longest packet
}

// NewVoice decodes to so many samples a second: Rate or WideRate.
func NewVoice(rate int) *Voice {
	v := &Voice{rate: rate, sound: make([]int16, longestUnits*rate/secondUnits)}
	v.decoder = fresh(rate)
	return v
}

// fresh is a decoder that has heard nothing. It fails at rates that no Voice
// has, and is silent then.
func fresh(rate int) opus.Decoder {
	d, _ := opus.NewDecoderWithOutput(rate, 1)
	return d
}

// Second appends the samples of a second, given the one before it: nil where
// there is none. What was not received is zero, and so is a packet that cannot
// be decoded.
func (v *Voice) Second(samples []int16, before, now Packets) []int16 {
	at, unit := len(samples), v.rate/secondUnits
	samples = append(samples, make([]int16, v.rate)...)
	out := samples[at:]
	v.begin()
	for u, packet := range before.All() {
		if u < secondUnits-lead {
			continue
		}
		sound := v.packet(packet)
		if left := (secondUnits - u) * unit; left < len(sound) {
			copy(out, sound[left:])
		}
	}
	for u, packet := range now.All() {
		copy(out[u*unit:], v.packet(packet))
	}
	clear(v.sound)
	return samples
}

// begin forgets what was decoded.
func (v *Voice) begin() {
	if v.decoder.Init(v.rate, 1) != nil {
		v.decoder = fresh(v.rate)
	}
}

// packet decodes one packet. The bytes are a stranger's: should the decoder
// fail at them, they are silent, and what follows is decoded anew.
func (v *Voice) packet(packet []byte) (sound []int16) {
	units, err := PacketUnits(packet)
	if err != nil {
		return nil
	}
	defer func() {
		if recover() != nil {
			clear(sound)
			v.decoder = fresh(v.rate)
		}
	}()
	sound = v.sound[:units*v.rate/secondUnits]
	if n, err := v.decoder.DecodeToInt16(packet, sound); err != nil || n != len(sound) {
		clear(sound)
		v.decoder = fresh(v.rate)
	}
	return sound
}
