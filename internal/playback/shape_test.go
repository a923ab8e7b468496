package playback

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"yesline/internal/audio"
	"yesline/internal/vault"
)

// voices makes seconds of noise with holes: whole seconds, single units, short
// payloads, both codecs.
func voices(r *rand.Rand, n int) []vault.Second {
	seconds := make([]vault.Second, n)
	for i := range seconds {
		s := &seconds[i]
		if r.IntN(5) == 0 {
			continue // absent
		}
		s.Codec = []audio.Codec{audio.PCMU, audio.PCMA}[r.IntN(2)]
		s.Payload = make([]byte, []int{audio.Rate, audio.Rate, 4321}[r.IntN(3)])
		for j := range s.Payload {
			s.Payload[j] = byte(r.Uint32())
		}
		for unit := range units {
			if r.IntN(8) > 0 {
				s.Present[unit/8] |= 1 << (unit % 8)
			}
		}
	}
	return seconds
}

// reference is the whole file, made sample by sample.
func reference(t testing.TB, seconds []vault.Second) []byte {
	h, err := audio.WAVHeader(int64(len(seconds)) * audio.Rate)
	if err != nil {
		t.Fatal(err)
	}
	file := h[:]
	for _, s := range seconds {
		for i := range audio.Rate {
			var sample []int16
			unit := i / 80
			if i < len(s.Payload) && s.Present[unit/8]>>(unit%8)&1 == 1 {
				sample = s.Codec.Decode(nil, s.Payload[i:i+1])
			} else {
				sample = []int16{0}
			}
			file = audio.PCM(file, sample)
		}
	}
	return file
}

// Any window of the virtual file is the same bytes as that part of the whole.
func TestWindowsAgainstTheWholeFile(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	seconds := voices(r, 40)
	whole := reference(t, seconds)
	if int64(len(whole)) != Size(40) {
		t.Fatalf("the file of 40 s has %d bytes, Size says %d", len(whole), Size(40))
	}
	spans := [][2]int64{{0, 1}, {0, 44}, {0, 45}, {43, 44}, {43, 46}, {44, 45}, {44, 16044}, {45, 16045}, {16043, 16044}, {16043, 16045}, {16044, 32044},
		{Size(40) - 1, Size(40)}, {Size(39), Size(40)}, {0, Size(32)}}
	for range 300 {
		from := r.Int64N(Size(40))
		spans = append(spans, [2]int64{from, from + 1 + r.Int64N(min(WindowLimit, Size(40)-from))})
	}
	for _, s := range spans {
		from, to := s[0], s[1]
		var got []byte
		if from < HeaderBytes {
			got = append(got, whole[from:min(to, HeaderBytes)]...)
		}
		first, count := Touched(from, to)
		if count > 0 {
			got = renderAll(got, seconds[first:first+count], first, from, to)
		}
		if !bytes.Equal(got, whole[from:to]) {
			t.Errorf("[%d, %d): the bytes differ from the whole file's", from, to)
		}
	}
}

// Touched names exactly the seconds that have a byte in the part.
func TestTouched(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ from, to, first, count int64 }{
		{0, 0, 0, 0}, {0, 44, 0, 0}, {10, 20, 0, 0}, {0, 45, 0, 1}, {44, 45, 0, 1}, {44, 16044, 0, 1}, {44, 16045, 0, 2},
		{16043, 16044, 0, 1}, {16043, 16045, 0, 2}, {16044, 16045, 1, 1}, {16044, 32044, 1, 1}, {5, 4, 0, 0}, {1000, 1000, 0, 0},
	} {
		first, count := Touched(c.from, c.to)
		if first != c.first || count != c.count {
			t.Errorf("[%d, %d): got %d seconds from %d, want %d from %d", c.from, c.to, count, first, c.count, c.first)
		}
		if d := Served(c.from, c.to); d["part"] != "sound" {
			t.Errorf("[%d, %d): the log says %v", c.from, c.to, d)
		}
	}
}

// A window is never larger than the limit, always moves on, and once it is on
// a second's edge stays on edges, so that no second is counted twice.
func TestCut(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		total := Size(r.Int64N(300))
		from := r.Int64N(total)
		to := from + 1 + r.Int64N(total-from)
		open := to == total && r.IntN(2) == 0
		end := Cut(from, to, open)
		if end <= from || end > to || end-from > WindowLimit {
			t.Fatalf("Cut(%d, %d): got %d", from, to, end)
		}
		if end != to && (end-HeaderBytes)%BytesPerSecond != 0 {
			t.Fatalf("Cut(%d, %d): %d is within a second", from, to, end)
		}
	}
	var counted, at int64
	for total := Size(100); at < total; {
		end := Cut(at, total, true)
		_, n := Touched(at, end)
		counted, at = counted+n, end
	}
	if counted != 100 {
		t.Errorf("playing 100 s through counted %d", counted)
	}
	if got := Cut(0, Size(100), true); got != Size(8) {
		t.Errorf("the first window of everything ends at %d, want %d", got, Size(8))
	}
}

// renderAll renders these seconds, the first of which is number first.
func renderAll(out []byte, seconds []vault.Second, first, from, to int64) []byte {
	for i := range seconds {
		out = render(out, &seconds[i], first+int64(i), from, to)
	}
	return out
}

func BenchmarkRender64KiB(b *testing.B) {
	seconds := voices(rand.New(rand.NewPCG(1, 2)), 5)
	out := make([]byte, 0, 64<<10)
	b.SetBytes(64 << 10)
	for b.Loop() {
		out = renderAll(out[:0], seconds, 0, 44, 44+64<<10)
	}
}
