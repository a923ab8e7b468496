package playback

import (
	"strconv"

	"yesline/internal/audio"
)

// A voice is heard as a virtual WAV file: a header of 44 bytes and then 16-bit
// PCM, mono: at 8 kHz, 16,000 bytes for each second, what was said into a
// telephone, and at 16 kHz what is kept in Opus. Nothing of it is stored.
const (
	HeaderBytes    = audio.WAVHeaderBytes
	BytesPerSecond = 2 * audio.Rate

	// WindowLimit bounds one decision of the gate: at most this many bytes
	// leave before the next question.
	WindowLimit = 512 << 10

	// firstSeconds is what a player gets that asks for everything: enough to
	// begin, and little to log for somebody who only looks.
	firstSeconds = 8
)

// Shape is the virtual file of one voice: how long it is, and in which bytes
// each second lies. Its zero value is that of no second.
type Shape struct {
	seconds int64
	wide    bool
}

// ShapeOf is the virtual file of a voice of so many seconds in that codec.
func ShapeOf(seconds int64, codec audio.Codec) Shape {
	return Shape{seconds, codec == audio.Opus}
}

// Seconds is how long the voice is.
func (s Shape) Seconds() int64 { return s.seconds }

// Size is the length of the file, in bytes.
func (s Shape) Size() int64 { return s.begin(s.seconds) }

// Cut shortens the part [from, to) of the file to one window. A window ends
// where a second ends, so that no second is served, and logged, twice; the
// first of an open-ended part is small.
func (s Shape) Cut(from, to int64, open bool) int64 {
	if open && from == 0 {
		return min(to, s.begin(firstSeconds))
	}
	if to-from <= WindowLimit {
		return to
	}
	return s.begin((from + WindowLimit - HeaderBytes) / s.bytes())
}

// Touched gives the seconds whose sound is in the part [from, to): the first,
// and how many. The header is no sound.
func (s Shape) Touched(from, to int64) (first, count int64) {
	if to <= HeaderBytes || from >= to {
		return 0, 0
	}
	first = max(from-HeaderBytes, 0) / s.bytes()
	last := (to - HeaderBytes - 1) / s.bytes()
	return first, last - first + 1
}

// Served words the part [from, to) for the log: which seconds, and how many.
func (s Shape) Served(from, to int64) map[string]string {
	first, count := s.Touched(from, to)
	return said("sound", first, count)
}

func said(part string, first, count int64) map[string]string {
	return map[string]string{
		"part":    part,
		"from":    strconv.FormatInt(first, 10),
		"seconds": strconv.FormatInt(count, 10),
	}
}

// rate is in samples a second.
func (s Shape) rate() int64 {
	if s.wide {
		return audio.WideRate
	}
	return audio.Rate
}

func (s Shape) bytes() int64 { return 2 * s.rate() }

// begin is where second n begins in the file.
func (s Shape) begin(n int64) int64 { return HeaderBytes + n*s.bytes() }

// What follows is Shape for a voice at 8 kHz.

// Size is the length of the virtual file of a voice, in bytes.
func Size(seconds int64) int64 { return Shape{seconds: seconds}.Size() }

// Cut is Shape.Cut.
func Cut(from, to int64, open bool) int64 { return Shape{}.Cut(from, to, open) }

// Touched is Shape.Touched.
func Touched(from, to int64) (first, count int64) { return Shape{}.Touched(from, to) }

// Served is Shape.Served.
func Served(from, to int64) map[string]string { return Shape{}.Served(from, to) }
