package audio

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// WAVHeaderBytes is the length of the headers that we write.
const WAVHeaderBytes = 44

// maxWAVSamples is as much as the 32-bit lengths of a WAV file can say.
const maxWAVSamples = (1<<32 - 1 - (WAVHeaderBytes - 8)) / 2

// WAVHeader gives the header of a WAV file of 16-bit mono PCM at 8 kHz that
// holds that many samples. The error says that the count is negative or more
// than a WAV file can hold (74 hours).
func WAVHeader(samples int64) ([WAVHeaderBytes]byte, error) { return WAVHeaderAt(Rate, samples) }

// WAVHeaderAt is WAVHeader at another rate, in samples a second.
func WAVHeaderAt(rate int, samples int64) ([WAVHeaderBytes]byte, error) {
	var h [WAVHeaderBytes]byte
	if samples < 0 || samples > maxWAVSamples {
		return h, fmt.Errorf("writing the header of a wav file of %d samples: it can hold 0 to %d", samples, maxWAVSamples)
	}
	bytes := uint32(samples) * 2
	copy(h[0:], "RIFF")
	binary.LittleEndian.PutUint32(h[4:], WAVHeaderBytes-8+bytes)
	copy(h[8:], "WAVEfmt ")
	binary.LittleEndian.PutUint32(h[16:], 16) // length of the format chunk
	binary.LittleEndian.PutUint16(h[20:], 1)  // PCM
	binary.LittleEndian.PutUint16(h[22:], 1)  // mono
	binary.LittleEndian.PutUint32(h[24:], uint32(rate))
	binary.LittleEndian.PutUint32(h[28:], uint32(rate)*2)
	binary.LittleEndian.PutUint16(h[32:], 2)  // bytes a sample
	binary.LittleEndian.PutUint16(h[34:], 16) // bits a sample
	copy(h[36:], "data")
	binary.LittleEndian.PutUint32(h[40:], bytes)
	return h, nil
}

// PCM appends the samples as WAV stores them: 16 bits, low byte first.
func PCM(data []byte, samples []int16) []byte {
	for _, s := range samples {
		data = binary.LittleEndian.AppendUint16(data, uint16(s))
	}
	return data
}

// ReadWAV gives the samples of a WAV file of 16-bit mono PCM at 8 kHz. It
// skips other chunks and refuses every other format. A data chunk that says it
// is longer than the file is an error.
func ReadWAV(file []byte) ([]int16, error) {
	if len(file) < 12 || string(file[:4]) != "RIFF" || string(file[8:12]) != "WAVE" {
		return nil, errors.New("reading a wav file: it does not begin as one")
	}
	formatSeen := false
	for rest := file[12:]; len(rest) >= 8; {
		name, length := string(rest[:4]), int64(binary.LittleEndian.Uint32(rest[4:]))
		rest = rest[8:]
		if length > int64(len(rest)) {
			return nil, fmt.Errorf("reading a wav file: a chunk says %d bytes where %d are left", length, len(rest))
		}
		chunk := rest[:length]
		switch {
		case name == "fmt ":
			if !ours(chunk) {
				return nil, errors.New("reading a wav file: it is not 16-bit mono pcm at 8 kHz")
			}
			formatSeen = true
		case name == "data" && formatSeen:
			return fromPCM(chunk)
		}
		rest = rest[min(length+length%2, int64(len(rest))):] // chunks are padded to even lengths
	}
	return nil, errors.New("reading a wav file: it holds no sound")
}

// ours reports whether a format chunk is 16-bit mono PCM at 8 kHz.
func ours(format []byte) bool {
	return len(format) >= 16 &&
		binary.LittleEndian.Uint16(format[0:]) == 1 &&
		binary.LittleEndian.Uint16(format[2:]) == 1 &&
		binary.LittleEndian.Uint32(format[4:]) == Rate &&
		binary.LittleEndian.Uint16(format[14:]) == 16
}

func fromPCM(data []byte) ([]int16, error) {
	if len(data)%2 != 0 {
		return nil, errors.New("reading a wav file: it ends in half a sample")
	}
	samples := make([]int16, len(data)/2)
	for i := range samples {
		samples[i] = int16(binary.LittleEndian.Uint16(data[2*i:]))
	}
	return samples, nil
}
