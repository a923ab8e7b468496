package audio

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// PeaksPerSecond is the only rate that peaks are drawn at: 50 ms each.
	PeaksPerSecond = 20

	unitsPerPeak  = 1000 / PeaksPerSecond / UnitMillis
	peaksVersion  = 1
	peaksHeader   = 6                          // version, rate, count
	maxPeaks      = PeaksPerSecond * 24 * 3600 // a day
	presenceBytes = 13                         // 100 units of 10 ms
)

// Peaks is what a waveform is drawn from: the loudest sample of each twentieth
// of a second. It tells how loud somebody was and when, so it is sealed and
// consented like the voice it was drawn from.
type Peaks struct {
	PerSecond int    // always 20
	Values    []byte // 0 (silence, or nothing received) to 255
	Present   []bool // as long as Values: whether any of it was received
}

// Add appends the peaks of the next second: samples of Rate, with bit i of
// present (bit i%8 of byte i/8) set where the 10 ms unit i was received. A second
// of which nothing was received is Add(nil, zero).
func (p *Peaks) Add(samples []int16, present [presenceBytes]byte) {
	p.PerSecond = PeaksPerSecond
	for slot := range PeaksPerSecond {
		var loudest int
		var received bool
		for unit := slot * unitsPerPeak; unit < (slot+1)*unitsPerPeak; unit++ {
			if present[unit/8]>>(unit%8)&1 == 0 {
				continue
			}
			received = true
			from, to := unit*UnitSamples, (unit+1)*UnitSamples
			loudest = max(loudest, amplitude(samples[min(from, len(samples)):min(to, len(samples))]))
		}
		p.Values = append(p.Values, byte(loudest*255/32768))
		p.Present = append(p.Present, received)
	}
}

// amplitude is the distance from zero of the sample farthest from it.
func amplitude(samples []int16) int {
	loudest := 0
	for _, s := range samples {
		loudest = max(loudest, int(s), -int(s))
	}
	return loudest
}

// MarshalBinary writes version, rate, count (32 bits, high byte first), one
// byte a value, and one bit a value for presence. The error says that the
// peaks could not have been drawn by Add.
func (p Peaks) MarshalBinary() ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("writing peaks: %w", err)
	}
	data := make([]byte, 0, peaksBytes(len(p.Values)))
	data = append(data, peaksVersion, PeaksPerSecond)
	data = binary.BigEndian.AppendUint32(data, uint32(len(p.Values)))
	data = append(data, p.Values...)
	bitmap := make([]byte, (len(p.Present)+7)/8)
	for i, present := range p.Present {
		if present {
			bitmap[i/8] |= 1 << (i % 8)
		}
	}
	return append(data, bitmap...), nil
}

// UnmarshalBinary reads what MarshalBinary wrote and nothing else: there is
// one way to write given peaks. On an error p is as it was.
func (p *Peaks) UnmarshalBinary(data []byte) error {
	if len(data) < peaksHeader || data[0] != peaksVersion || data[1] != PeaksPerSecond {
		return errors.New("reading peaks: the header is not of version 1")
	}
	count := int64(binary.BigEndian.Uint32(data[2:]))
	if count > maxPeaks || int64(len(data)) != peaksBytes(int(count)) {
		return fmt.Errorf("reading peaks: %d bytes cannot be %d peaks", len(data), count)
	}
	read := Peaks{PerSecond: PeaksPerSecond, Values: make([]byte, count), Present: make([]bool, count)}
	copy(read.Values, data[peaksHeader:])
	bitmap := data[peaksHeader+count:]
	for i := range read.Present {
		read.Present[i] = bitmap[i/8]>>(i%8)&1 == 1
	}
	if count%8 != 0 && bitmap[len(bitmap)-1]>>(count%8) != 0 {
		return errors.New("reading peaks: bits beyond the last peak are set")
	}
	if err := read.check(); err != nil {
		return fmt.Errorf("reading peaks: %w", err)
	}
	*p = read
	return nil
}

func peaksBytes(count int) int64 { return peaksHeader + int64(count) + int64(count+7)/8 }

// check says what Add would never have made.
func (p Peaks) check() error {
	if p.PerSecond != PeaksPerSecond && len(p.Values) > 0 {
		return fmt.Errorf("%d a second where only %d can be", p.PerSecond, PeaksPerSecond)
	}
	if len(p.Values) != len(p.Present) || len(p.Values) > maxPeaks {
		return fmt.Errorf("%d values and %d marks of presence, at most %d of each", len(p.Values), len(p.Present), maxPeaks)
	}
	for i, value := range p.Values {
		if value > 0 && !p.Present[i] {
			return errors.New("a value where nothing was received")
		}
	}
	return nil
}
