package playback

import (
	"strconv"

	"yesline/internal/audio"
)

// A voice is heard as a virtual WAV file: a header of 44 bytes and then 16,000
// bytes for each second, 16-bit PCM, mono, 8 kHz. Nothing of it is stored.
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

// Size is the length of the virtual file of a voice, in bytes.
func Size(seconds int64) int64 { return HeaderBytes + seconds*BytesPerSecond }

// Cut shortens the part [from, to) of a virtual file to one window. A window
// ends where a second ends, so that no second is served, and logged, twice;
// the first of an open-ended part is small.
func Cut(from, to int64, open bool) int64 {
	if open && from == 0 {
		return min(to, Size(firstSeconds))
	}
	if to-from <= WindowLimit {
		return to
	}
	second := (from + WindowLimit - HeaderBytes) / BytesPerSecond
	return Size(second)
}

// Touched gives the seconds whose sound is in the part [from, to): the first,
// and how many. The header is no sound.
func Touched(from, to int64) (first, count int64) {
	if to <= HeaderBytes || from >= to {
		return 0, 0
	}
	first = max(from-HeaderBytes, 0) / BytesPerSecond
	last := (to - HeaderBytes - 1) / BytesPerSecond
	return first, last - first + 1
}

// Served words the part [from, to) for the log: which seconds, and how many.
func Served(from, to int64) map[string]string {
	first, count := Touched(from, to)
	return map[string]string{
		"part":    "sound",
		"from":    strconv.FormatInt(first, 10),
		"seconds": strconv.FormatInt(count, 10),
	}
}
