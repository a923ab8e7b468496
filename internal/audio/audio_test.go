package audio

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
)

// The output values of ITU-T G.711 tables 1a and 2a at the ends of the
// segments, in our 16 bits (A-law's 13 bits times 8, mu-law's 14 times 4).
func TestG711KnownValues(t *testing.T) {
	t.Parallel()
	known := map[Codec]map[byte]int16{
		PCMU: {0x80: 8031 * 4, 0x8f: 4191 * 4, 0x9f: 2079 * 4, 0xaf: 1023 * 4, 0xbf: 495 * 4, 0xcf: 231 * 4, 0xdf: 99 * 4, 0xef: 33 * 4, 0xfe: 2 * 4, 0xff: 0, 0x00: -8031 * 4, 0x7e: -2 * 4, 0x7f: 0},
		PCMA: {0xaa: 4032 * 8, 0xa5: 2112 * 8, 0xb5: 1056 * 8, 0x85: 528 * 8, 0x95: 264 * 8, 0xe5: 132 * 8, 0xf5: 66 * 8, 0xd5: 8, 0x2a: -4032 * 8, 0x55: -8},
	}
	for codec, values := range known {
		for b, want := range values {
			if got := codec.Decode(nil, []byte{b})[0]; got != want {
				t.Errorf("%v %#02x: got %d, want %d", codec, b, got, want)
			}
		}
	}
}

func TestG711RoundTrip(t *testing.T) {
	t.Parallel()
	for _, codec := range []Codec{PCMU, PCMA} {
		for b := range 256 {
			in := []byte{byte(b)}
			want := byte(b)
			if codec == PCMU && b == 0x7f {
				want = 0xff // minus zero comes back as zero
			}
			if got := codec.Encode(nil, codec.Decode(nil, in))[0]; got != want {
				t.Errorf("%v %#02x: came back as %#02x, want %#02x", codec, b, got, want)
			}
		}
	}
}

// Each sample must come back as one of the two steps around it, and nearly the
// nearer one: within half of the step at that loudness.
func TestG711EncodesToTheNearestStep(t *testing.T) {
	t.Parallel()
	for _, codec := range []Codec{PCMU, PCMA} {
		top := int(codec.Decode(nil, codec.Encode(nil, []int16{math.MaxInt16}))[0])
		for s := math.MinInt16; s <= math.MaxInt16; s++ {
			got := int(codec.Decode(nil, codec.Encode(nil, []int16{int16(s)}))[0])
			magnitude := max(s, -s)
			allowed := max(magnitude/31, 8) + 4
			if magnitude > top {
				allowed = max(allowed, magnitude-top)
			}
			if off := max(got-s, s-got); off > allowed {
				t.Fatalf("%v %d came back as %d: off by %d, allowed %d", codec, s, got, off, allowed)
			}
		}
	}
}

func TestCodec(t *testing.T) {
	t.Parallel()
	for _, codec := range []Codec{PCMU, PCMA} {
		if !codec.Known() {
			t.Errorf("%v is not known", codec)
		}
		if s := codec.Decode(nil, []byte{codec.Silence()})[0]; s < 0 || s > 8 {
			t.Errorf("%v: silence decodes to %d", codec, s)
		}
		if codec.Encode(nil, []int16{0})[0] != codec.Silence() {
			t.Errorf("%v: zero is not encoded as silence", codec)
		}
	}
	if PCMU.String() != "PCMU" || PCMA.String() != "PCMA" || Codec(3).String() != "codec 3" {
		t.Errorf("names: %v %v %v", PCMU, PCMA, Codec(3))
	}
	if PCMU.PayloadType() != 0 || PCMA.PayloadType() != 8 {
		t.Errorf("payload types: %d %d", PCMU.PayloadType(), PCMA.PayloadType())
	}
	if !Opus.Known() || Opus.String() != "opus" || Opus.PayloadType() != 111 || Opus.Clock() != 48000 || PCMA.Clock() != 8000 {
		t.Errorf("opus is %s, payload type %d, clock %d", Opus, Opus.PayloadType(), Opus.Clock())
	}
	if Opus.Decode(nil, []byte{1}) != nil || Opus.Encode(nil, []int16{1}) != nil {
		t.Error("a byte of opus is no sample")
	}
	if Codec(3).Known() || Codec(3).Decode(nil, []byte{1})[0] != 0 || len(Codec(3).Encode(nil, []int16{5})) != 1 {
		t.Error("an unknown codec must be silent")
	}
}

func TestWAV(t *testing.T) {
	t.Parallel()
	samples := Tone(440, 30, 9000)
	header, err := WAVHeader(int64(len(samples)))
	if err != nil {
		t.Fatal(err)
	}
	file := PCM(header[:], samples)
	if len(file) != WAVHeaderBytes+2*len(samples) {
		t.Fatalf("got %d bytes", len(file))
	}
	got, err := ReadWAV(file)
	if err != nil {
		t.Fatal(err)
	}
	if best, lag := Correlate(got, samples, 0); best < 0.999999 || lag != 0 || len(got) != len(samples) {
		t.Errorf("read back something else: %v at %d, %d samples", best, lag, len(got))
	}
	for cut := range len(file) {
		if _, err := ReadWAV(file[:cut]); err == nil {
			t.Fatalf("cut at %d was read", cut)
		}
	}
	if _, err := WAVHeader(maxWAVSamples); err != nil {
		t.Error(err)
	}
	for _, samples := range []int64{-1, maxWAVSamples + 1} {
		if _, err := WAVHeader(samples); err == nil {
			t.Errorf("a header for %d samples", samples)
		}
	}
}

func TestToneHasItsFrequencyAlone(t *testing.T) {
	t.Parallel()
	beep := Tone(1400, 500, 4000)
	if len(beep) != 4000 {
		t.Fatalf("got %d samples", len(beep))
	}
	if beep[0] != 0 || beep[len(beep)-1] != 0 || amplitude(beep[:8]) > 400 {
		t.Errorf("the edges are hard: %v", beep[:8])
	}
	if amplitude(beep) > 4000 || amplitude(beep) < 3900 {
		t.Errorf("amplitude %d", amplitude(beep))
	}
	if share := Power(beep, 1400) / Energy(beep); share < 0.9 {
		t.Errorf("1400 Hz is %.3f of it", share)
	}
	if share := Power(beep, 1000) / Energy(beep); share > 0.001 {
		t.Errorf("1000 Hz is %.3f of it", share)
	}
	if got, want := Power(beep[400:3600], 1400), 4000.0*4000/2; math.Abs(got-want) > want/100 {
		t.Errorf("power %.0f, want %.0f", got, want)
	}
	for _, nothing := range [][]int16{Tone(5000, 10, 1), Tone(100, -1, 1), Tone(100, 10, -1), Tone(0, 10, 1)} {
		if len(nothing) != 0 {
			t.Error("a tone that cannot be")
		}
	}
	if Power(nil, 1) != 0 || Energy(nil) != 0 {
		t.Error("nothing has power")
	}
}

func noise(seed uint64, n int) []int16 {
	r := rand.New(rand.NewPCG(seed, 0))
	samples := make([]int16, n)
	for i := range samples {
		samples[i] = int16(r.IntN(8000) - 4000)
	}
	return samples
}

func TestCorrelate(t *testing.T) {
	t.Parallel()
	ann, bob := noise(1, 3*Rate), noise(2, 3*Rate)
	late := append(make([]int16, 700), ann...)
	quieter := make([]int16, len(late))
	both := make([]int16, len(late))
	for i := range late {
		quieter[i] = late[i] / 5
		both[i] = late[i]
		if i < len(bob) {
			both[i] += bob[i]
		}
	}
	if best, lag := Correlate(quieter, ann, 1000); best < 0.99 || lag != 700 {
		t.Errorf("ann, later and quieter: %.3f at %d", best, lag)
	}
	if best, lag := Correlate(ann, quieter, 1000); best < 0.99 || lag != -700 {
		t.Errorf("the other way: %.3f at %d", best, lag)
	}
	if best, _ := Correlate(quieter, ann, 100); best > 0.1 {
		t.Errorf("beyond the window: %.3f", best)
	}
	for _, maxLag := range []int{8000, 10 * Rate} { // the second would end in overlaps of a few samples
		if best, _ := Correlate(ann, bob, maxLag); best > 0.1 {
			t.Errorf("ann and bob: %.3f", best)
		}
	}
	if best, _ := Correlate(both, bob, 8000); best < 0.6 {
		t.Errorf("bob hidden under ann: %.3f", best)
	}
	if best, _ := Correlate(ann, make([]int16, len(ann)), 8000); best != 0 {
		t.Errorf("silence: %.3f", best)
	}
	if best, _ := Correlate(nil, ann, 10); best != 0 {
		t.Errorf("nothing: %.3f", best)
	}
	if best, _ := Correlate([]int16{5}, []int16{-5}, 3); best < 0.99 {
		t.Errorf("one sample: %.3f", best)
	}
}

func TestVoiced(t *testing.T) {
	t.Parallel()
	talk := append(append(make([]int16, Rate), Tone(300, 500, 5000)...), make([]int16, Rate)...)
	count := 0
	for _, v := range Voiced(talk) {
		if v {
			count++
		}
	}
	if count < 48 || count > 50 {
		t.Errorf("%d units of 10 ms, want nearly 50", count)
	}
	for name, quiet := range map[string][]int16{
		"silence":    make([]int16, Rate),
		"hum":        Tone(100, 1000, 900)[80:7900],
		"A-law zero": PCMA.Decode(nil, bytes.Repeat([]byte{PCMA.Silence()}, Rate)),
	} {
		for i, v := range Voiced(quiet) {
			if v {
				t.Errorf("%s is voiced at %d", name, i)
				break
			}
		}
	}
	if Voiced(make([]int16, UnitSamples-1)) != nil {
		t.Error("less than a unit")
	}
}

func TestPeaks(t *testing.T) {
	t.Parallel()
	var p Peaks
	var all, half [13]byte
	for unit := range 100 {
		all[unit/8] |= 1 << (unit % 8)
		if unit < 50 {
			half[unit/8] |= 1 << (unit % 8)
		}
	}
	second := PCMA.Encode(nil, Tone(1000, 1000, 16384))
	p.Add(PCMA.Decode(nil, second), all)
	p.Add(PCMA.Decode(nil, second), half) // what lies where nothing was received is not drawn
	p.Add(nil, [13]byte{})
	p.Add(PCMA.Decode(nil, second[:100]), all)
	if len(p.Values) != 80 || len(p.Present) != 80 || p.PerSecond != 20 {
		t.Fatalf("got %d values, %d present", len(p.Values), len(p.Present))
	}
	for slot, value := range p.Values {
		loud := slot < 30 || slot == 60
		present := slot < 30 || slot >= 60
		if got := value > 120; got != loud || p.Present[slot] != present {
			t.Errorf("slot %d: %d present %v", slot, value, p.Present[slot])
		}
	}
	data, err := p.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var back Peaks
	if err := back.UnmarshalBinary(data); err != nil {
		t.Fatal(err)
	}
	if again, _ := back.MarshalBinary(); !bytes.Equal(again, data) {
		t.Error("came back different")
	}
	for cut := range len(data) {
		if back.UnmarshalBinary(data[:cut]) == nil {
			t.Errorf("cut at %d was read", cut)
		}
	}
	if back.UnmarshalBinary(append(data, 0)) == nil {
		t.Error("a longer one was read")
	}
}

func TestPeaksThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]Peaks{
		"another rate":           {PerSecond: 50, Values: []byte{1}, Present: []bool{true}},
		"presence missing":       {PerSecond: 20, Values: []byte{1}},
		"loud where nothing was": {PerSecond: 20, Values: []byte{1}, Present: []bool{false}},
		"more than a day":        {PerSecond: 20, Values: make([]byte, maxPeaks+1), Present: make([]bool, maxPeaks+1)},
	} {
		if _, err := p.MarshalBinary(); err == nil {
			t.Errorf("%s: was written", name)
		}
	}
	for name, data := range map[string][]byte{
		"stray bits":             {1, 20, 0, 0, 0, 1, 9, 0b11},
		"loud where nothing was": {1, 20, 0, 0, 0, 1, 9, 0},
		"another version":        {2, 20, 0, 0, 0, 0},
		"another rate":           {1, 21, 0, 0, 0, 0},
		"count beyond all":       {1, 20, 255, 255, 255, 255},
	} {
		var p Peaks
		if p.UnmarshalBinary(data) == nil {
			t.Errorf("%s: was read", name)
		}
	}
}

func FuzzPeaks(f *testing.F) {
	f.Add([]byte{1, 20, 0, 0, 0, 0})
	f.Add([]byte{1, 20, 0, 0, 0, 1, 9, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		var p Peaks
		if p.UnmarshalBinary(data) != nil {
			return
		}
		again, err := p.MarshalBinary()
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("%x was read and is written as %x, %v", data, again, err)
		}
	})
}

func FuzzReadWAV(f *testing.F) {
	header, _ := WAVHeader(2)
	f.Add(PCM(header[:], []int16{1, -1}))
	f.Fuzz(func(t *testing.T, file []byte) {
		samples, err := ReadWAV(file)
		if err == nil && len(samples)*2+WAVHeaderBytes > len(file) {
			t.Errorf("%d samples out of %d bytes", len(samples), len(file))
		}
	})
}
