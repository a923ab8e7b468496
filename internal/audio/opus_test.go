package audio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pion/opus"
)

// The voices in testdata were made by opusenc: telephone speech in SILK, a
// made-up voice in hybrid frames of 20 ms, in CELT frames of 10 ms, and in
// SILK frames of 60 ms.
var voices = []string{"speech.opus", "voice.opus", "celt.opus", "long.opus"}

// packetsOf reads the packets of a voice that somebody else wrote.
func packetsOf(t testing.TB, file []byte) (packets [][]byte) {
	t.Helper()
	r, err := NewOggReader(bytes.NewReader(file))
	for err == nil {
		var packet []byte
		if packet, err = r.Next(); err == nil {
			packets = append(packets, bytes.Clone(packet))
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return packets
}

func voiceFile(t testing.TB, name string) []byte {
	t.Helper()
	file, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// row is a voice in seconds, as a lane keeps it: from a unit on, without the
// packets that lose says are lost.
func row(t testing.TB, packets [][]byte, from int, lose func(i int) bool) (seconds []Packets) {
	t.Helper()
	for i, packet := range packets {
		lasts, err := PacketUnits(packet)
		if err != nil {
			t.Fatal(err)
		}
		for from/secondUnits >= len(seconds) {
			seconds = append(seconds, nil)
		}
		if lose == nil || !lose(i) {
			s, fits := seconds[from/secondUnits].Add(from%secondUnits, packet)
			if !fits {
				t.Fatal("a packet does not fit into its second")
			}
			seconds[from/secondUnits] = s
		}
		from += lasts
	}
	return seconds
}

// second gives one of the seconds, or none.
func second(seconds []Packets, n int) Packets {
	if n < 0 || n >= len(seconds) {
		return nil
	}
	return seconds[n]
}

// decodeOn decodes packets by one decoder from the first to the last.
func decodeOn(t testing.TB, packets [][]byte, rate int) (samples []int16) {
	t.Helper()
	d, err := opus.NewDecoderWithOutput(rate, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, packet := range packets {
		units, _ := PacketUnits(packet)
		sound := make([]int16, units*rate/secondUnits)
		if _, err := d.DecodeToInt16(packet, sound); err != nil {
			t.Fatal(err)
		}
		samples = append(samples, sound...)
	}
	return samples
}

func decodeSeconds(seconds []Packets, rate int) (samples []int16) {
	v := NewVoice(rate)
	for n := range seconds {
		samples = v.Second(samples, second(seconds, n-1), seconds[n])
	}
	return samples
}

func TestPacketUnits(t *testing.T) {
	t.Parallel()
	frame := func(n int) []byte { return make([]byte, n) }
	packet := func(config, code byte, rest ...byte) []byte { return append([]byte{config<<3 | code}, rest...) }
	for name, c := range map[string]struct {
		packet []byte
		units  int // 0: refused
	}{
		"nothing":                      {nil, 0},
		"a frame of nothing":           {packet(9, 0), 2},
		"10 ms":                        {packet(8, 0, 1), 1},
		"60 ms":                        {packet(3, 0, 1), 6},
		"hybrid":                       {packet(13, 0, 1), 2},
		"2.5 ms":                       {packet(16, 0, 1), 0},
		"5 ms":                         {packet(17, 0, 1), 0},
		"20 ms in CELT":                {packet(31, 0, 1), 2},
		"the longest frame":            {packet(9, 0, frame(1275)...), 2},
		"a longer frame":               {packet(9, 0, frame(1276)...), 0},
		"two equal":                    {packet(9, 1, 1, 2), 4},
		"two equal, odd":               {packet(9, 1, 1, 2, 3), 0},
		"two equal, too long":          {packet(9, 1, frame(2552)...), 0},
		"two of 5 ms":                  {packet(17, 1, 1, 2), 1},
		"two":                          {packet(9, 2, 1, 7, 8, 9), 4},
		"two, the first of 252":        {packet(9, 2, append([]byte{252, 0}, frame(252)...)...), 4},
		"two, the first cut":           {packet(9, 2, 4, 7, 8, 9), 0},
		"two, the second too long":     {packet(9, 2, append([]byte{0}, frame(1276)...)...), 0},
		"two, without a length":        {packet(9, 2), 0},
		"two, half a length":           {packet(9, 2, 252), 0},
		"six of 20 ms":                 {packet(9, 3, append([]byte{6}, frame(12)...)...), 12},
		"seven of 20 ms":               {packet(9, 3, append([]byte{7}, frame(14)...)...), 0},
		"no frames":                    {packet(9, 3, 0), 0},
		"no count":                     {packet(9, 3), 0},
		"three of 5 ms":                {packet(17, 3, 3, 1, 2, 3), 0},
		"48 of 2.5 ms":                 {packet(16, 3, append([]byte{48}, frame(48)...)...), 12},
		"equal ones that are not":      {packet(9, 3, 2, 1, 2, 3), 0},
		"padded":                       {packet(9, 3, 0x42, 2, 1, 2, 0, 0), 4},
		"padded by 255":                {packet(9, 3, append([]byte{0x41, 255, 1, 9}, frame(255)...)...), 2},
		"more padding than there is":   {packet(9, 3, 0x41, 3, 0, 0), 0},
		"padding without an end":       {packet(9, 3, 0x41), 0},
		"of different lengths":         {packet(9, 3, 0x83, 1, 2, 1, 2, 3, 4), 6},
		"of different lengths, cut":    {packet(9, 3, 0x83, 1, 9, 1, 2, 3, 4), 0},
		"of different lengths, halved": {packet(9, 3, 0x83, 1), 0},
		"the last too long":            {packet(9, 3, append([]byte{0x82, 0}, frame(1276)...)...), 0},
	} {
		got, err := PacketUnits(c.packet)
		if got != c.units || (err == nil) != (c.units > 0) {
			t.Errorf("%s: %d units and %v, want %d", name, got, err, c.units)
		}
	}
}

func TestPackets(t *testing.T) {
	t.Parallel()
	ten, twenty, sixty := []byte{8 << 3, 1}, []byte{9 << 3, 2, 3}, []byte{11 << 3, 4}
	var p Packets
	for _, c := range []struct {
		unit   int
		packet []byte
	}{{10, twenty}, {98, sixty}, {4, ten}, {12, ten}} {
		var fits bool
		if p, fits = p.Add(c.unit, c.packet); !fits {
			t.Fatal("a packet does not fit")
		}
	}
	var units []int
	for unit, packet := range p.All() {
		units = append(units, unit)
		if want := map[int][]byte{4: ten, 10: twenty, 12: ten, 98: sixty}[unit]; !bytes.Equal(packet, want) {
			t.Errorf("the packet at %d is %x, want %x", unit, packet, want)
		}
	}
	if !slices.Equal(units, []int{4, 10, 12, 98}) {
		t.Errorf("they lie at %v", units)
	}
	present := marks(0, 1, 2, 4, 10, 11, 12, 98, 99)
	if err := p.Check(present); err != nil {
		t.Error(err)
	}
	for end, want := range map[int]int{0: 0, 4: 0, 5: 5, 11: 5, 12: 11, 13: 16, 100: 16, 103: 16, 104: 21, 200: 21} {
		if got := len(p.Cut(end)); got != want {
			t.Errorf("cut at %d there are %d bytes, want %d", end, got, want)
		}
	}
	for name, wrong := range map[string]struct {
		p       Packets
		present [13]byte
	}{
		"half a head":                     {p[:2], [13]byte{}},
		"half a packet":                   {p[:6], marks(4)},
		"no length":                       {Packets{4, 0, 0}, marks(4)},
		"unit 100":                        {Packets{100, 0, 1, 8 << 3}, [13]byte{}},
		"no packet of Opus":               {Packets{4, 0, 1, 8<<3 | 3}, marks(4)},
		"5 ms":                            {Packets{4, 0, 1, 17 << 3}, marks(4)},
		"one over another":                {Packets{4, 0, 1, 9 << 3, 5, 0, 1, 8 << 3}, marks(4, 5)},
		"one before another":              {Packets{4, 0, 1, 8 << 3, 3, 0, 1, 8 << 3}, marks(3, 4)},
		"a unit that is not marked":       {p, marks(0, 1, 2, 4, 10, 11, 12, 98)},
		"a mark without a packet":         {p, marks(0, 1, 2, 4, 10, 11, 12, 13, 98, 99)},
		"a mark with a gap before":        {p, marks(0, 1, 3, 4, 10, 11, 12, 98, 99)},
		"a packet that reaches too far":   {nil, marks(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)},
		"more than a second holds":        {overfull(), marks(0, 1, 2, 3, 4, 5, 6)},
		"marks without packets elsewhere": {nil, marks(5)},
	} {
		if wrong.p.Check(wrong.present) == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	full := make(Packets, 0, PacketsMost)
	for u := 0; ; u++ {
		more, fits := full.Add(u, make([]byte, 1276)) // six and a rest
		if !fits {
			if len(full) != 6*1279 || len(more) != len(full) {
				t.Errorf("%d bytes fit", len(full))
			}
			break
		}
		full = more
	}
}

// overfull is a row of packets that are good one by one.
func overfull() (p Packets) {
	for u := range 7 {
		p = append(append(p, byte(u), 0x04, 0xfc), make([]byte, 1276)...)
		p[len(p)-1276] = 8 << 3
	}
	return p
}

func marks(units ...int) (present [13]byte) {
	for _, u := range units {
		present[u/8] |= 1 << (u % 8)
	}
	return present
}

// Second by second a voice sounds like one that is decoded in one go.
func TestASecondFitsTheOneBefore(t *testing.T) {
	t.Parallel()
	for _, name := range voices {
		for _, rate := range []int{Rate, WideRate} {
			packets := packetsOf(t, voiceFile(t, name))
			whole, parts := decodeOn(t, packets, rate), decodeSeconds(row(t, packets, 0, nil), rate)
			if name == "long.opus" { // the last packet reaches into a second that is not there
				whole = whole[:min(len(whole), len(parts))]
			}
			var most int
			for i, s := range whole {
				most = max(most, int(s)-int(parts[i]), int(parts[i])-int(s))
			}
			if most > 16 { // of 32,768: 66 dB below full scale
				t.Errorf("%s at %d Hz: differs by %d", name, rate, most)
			}
		}
	}
}

// The samples of a second are the same whichever seconds were decoded before.
func TestASecondIsTheSameFromAnywhere(t *testing.T) {
	t.Parallel()
	seconds := row(t, packetsOf(t, voiceFile(t, "voice.opus")), 37, nil)
	one := NewVoice(WideRate)
	whole := decodeSeconds(seconds, WideRate)
	for _, n := range []int{3, 0, 2, 1, 2} {
		want := whole[n*WideRate : (n+1)*WideRate]
		if !slices.Equal(one.Second(nil, second(seconds, n-1), seconds[n]), want) ||
			!slices.Equal(NewVoice(WideRate).Second(nil, second(seconds, n-1), seconds[n]), want) {
			t.Errorf("second %d is another than in one go", n)
		}
	}
}

// Where nothing came there is silence, to the sample; what came stays there.
func TestGapsAreSilent(t *testing.T) {
	t.Parallel()
	packets := packetsOf(t, voiceFile(t, "voice.opus"))
	lost := func(i int) bool { return i >= 60 && i < 115 }
	got := decodeSeconds(row(t, packets, 0, lost), Rate)
	if gap := got[60*160 : 115*160]; Energy(gap) != 0 {
		t.Error("there is sound where nothing came")
	}
	whole := decodeOn(t, packets, Rate)
	if fit, lag := Correlate(got[140*160:], whole[140*160:], 800); fit < 0.999 || lag != 0 {
		t.Errorf("after the gap the voice fits by %.4f, %d samples late", fit, lag)
	}
}

// A packet that cannot be decoded is silent, and the next ones are heard.
func TestAPacketThatCannotBeDecoded(t *testing.T) {
	t.Parallel()
	packets := packetsOf(t, voiceFile(t, "voice.opus"))
	for i := 20; i < 30; i++ {
		packets[i] = append([]byte{packets[i][0]}, bytes.Repeat([]byte{byte(i * 37)}, 40)...)
	}
	got := decodeSeconds(row(t, packets, 0, nil), Rate)
	if fit, _ := Correlate(got[2*Rate:3*Rate], decodeOn(t, packetsOf(t, voiceFile(t, "voice.opus")), Rate)[2*Rate:3*Rate], 0); fit < 0.99 {
		t.Errorf("after the broken packets the voice fits by %.3f", fit)
	}
}

// Nor does a decoder that fails take anybody with it.
func TestADecoderThatFails(t *testing.T) {
	t.Parallel()
	seconds := row(t, packetsOf(t, voiceFile(t, "voice.opus")), 0, nil)
	v := NewVoice(Rate)
	v.sound = nil // there is no room for what it decodes
	if got := v.Second(nil, seconds[0], seconds[1]); len(got) != Rate || Energy(got) != 0 {
		t.Errorf("%d samples of energy %.0f", len(got), Energy(got))
	}
}

// opusTools gives the way to a tool of opus-tools, or skips.
func opusTools(t *testing.T, tool string) string {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing: scripts/setup.sh installs it", tool)
	}
	if err != nil {
		t.Skipf("%s is not installed; scripts/setup.sh installs it", tool)
	}
	return path
}

// ogg writes seconds as an Ogg file.
func ogg(seconds []Packets) []byte {
	o := OggOpus{Serial: 0x1234abcd}
	file := o.Head(nil)
	for n := range seconds {
		file = o.Second(file, int64(n), second(seconds, n-1), seconds[n], n == len(seconds)-1)
	}
	return file
}

// run gives what a tool prints about a file.
func run(t *testing.T, tool string, args ...string) string {
	t.Helper()
	out, err := exec.Command(tool, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", filepath.Base(tool), err, out)
	}
	return string(out)
}

// What we write is an Ogg file to opusinfo and opusdec: without a complaint,
// as long as it should be, and each sound in its place, also after gaps.
func TestOpusToolsReadWhatWeWrite(t *testing.T) {
	t.Parallel()
	opusinfo, opusdec := opusTools(t, "opusinfo"), opusTools(t, "opusdec")
	for _, name := range voices {
		for story, lose := range map[string]func(i int) bool{
			"whole": nil,
			"gaps":  func(i int) bool { return i%10 == 3 || i >= 60 && i < 125 },
		} {
			for _, from := range []int{0, 137} {
				t.Run(fmt.Sprintf("%s %s from %d", name, story, from), func(t *testing.T) {
					t.Parallel()
					packets := packetsOf(t, voiceFile(t, name))
					seconds := row(t, packets, from, lose)
					folder := t.TempDir()
					file, wav := filepath.Join(folder, "x.opus"), filepath.Join(folder, "x.wav")
					if err := os.WriteFile(file, ogg(seconds), 0o600); err != nil {
						t.Fatal(err)
					}
					said := run(t, opusinfo, file)
					if low := strings.ToLower(said); strings.Contains(low, "warning") || strings.Contains(low, "error") || !strings.Contains(said, "Logical stream 1 ended") {
						t.Errorf("opusinfo: %s", said)
					}
					run(t, opusdec, "--quiet", "--rate", "8000", file, wav)
					data, err := os.ReadFile(wav)
					if err != nil {
						t.Fatal(err)
					}
					theirs, err := ReadWAV(data)
					if err != nil {
						t.Fatal(err)
					}
					ours := decodeSeconds(seconds, Rate)
					if short := len(ours) - len(theirs); short < 0 && name != "long.opus" || short > preSkip/6+1 {
						t.Errorf("opusdec gives %d samples, we %d", len(theirs), len(ours))
					}
					bar := 0.98 // another resampler; concealment where packets are lost
					if story == "gaps" {
						bar = 0.7
					}
					ours = ours[preSkip/6:]
					for at := 0; at+Rate <= len(theirs) && at+Rate <= len(ours); at += Rate {
						a, b := ours[at:at+Rate], theirs[at:at+Rate]
						if Energy(a) < 1000 {
							continue
						}
						if fit, lag := Correlate(a, b, 20); fit < bar || lag < -4 || lag > 4 {
							t.Errorf("the second at %d fits by %.3f, %d samples apart", at/Rate, fit, lag)
						}
					}
					if story == "gaps" && name == "voice.opus" {
						units := func(from, to int, s []int16) []int16 { return s[from*UnitSamples : to*UnitSamples] }
						said, made := Energy(units(from, from+100, ours)), Energy(units(from+180, from+240, theirs))
						if made*500 > said { // a decoder makes up a little noise
							t.Errorf("half a second into a gap there is sound of %.0f, where the voice has %.0f", made, said)
						}
					}
				})
			}
		}
	}
}

// An Ogg file of ours can be read back, packet by packet; parts of it that are
// written at other times are the same bytes.
func TestOggOfOurOwn(t *testing.T) {
	t.Parallel()
	packets := packetsOf(t, voiceFile(t, "celt.opus"))
	seconds := row(t, packets, 0, nil)
	file := ogg(seconds)
	if got := packetsOf(t, file); len(got) < len(packets) || !slices.EqualFunc(got[:len(packets)], packets, bytes.Equal) {
		t.Error("the packets that are read are not those that were written")
	}
	if !bytes.Equal(file, ogg(seconds)) {
		t.Error("written again it is another file")
	}
	if bytes.Contains(file, []byte("ENCODER")) || bytes.Count(file, []byte("yesline")) != 1 {
		t.Error("the file says more of itself than who wrote it")
	}
	empty := OggOpus{}.End(OggOpus{}.Head(nil))
	if got := packetsOf(t, empty); len(got) != 0 {
		t.Errorf("a voice of no second has %d packets", len(got))
	}
}

func TestOggThatIsBroken(t *testing.T) {
	t.Parallel()
	good := voiceFile(t, "speech.opus")
	var at []int // where pages begin
	for i := 0; i+4 <= len(good); i++ {
		if string(good[i:i+4]) == "OggS" {
			at = append(at, i)
		}
	}
	flip := func(i int) []byte {
		b := bytes.Clone(good)
		b[i] ^= 1
		return b
	}
	if got := packetsOf(t, made(oggBegins, 2, 0)); len(got) != 1 {
		t.Errorf("a good file has %d packets", len(got))
	}
	for name, file := range map[string][]byte{
		"nothing":                   nil,
		"not Ogg":                   []byte("RIFF....WAVEfmt "),
		"a bit of sound":            flip(len(good) - 100),
		"a bit of a checksum":       flip(at[3] + 22),
		"a bit of a granule":        flip(at[3] + 6),
		"a page is missing":         append(bytes.Clone(good[:at[3]]), good[at[4]:]...),
		"a page comes twice":        append(bytes.Clone(good[:at[4]]), good[at[3]:]...),
		"the first is missing":      good[at[1]:],
		"cut at a page":             good[:at[4]],
		"cut in a head":             good[:at[4]+20],
		"cut in a page":             good[:at[4]+200],
		"no tags":                   append(bytes.Clone(good[:at[1]]), good[at[2]:]...),
		"another stream":            append(bytes.Clone(good[:at[2]]), OggOpus{Serial: 9}.page(nil, oggEnds, 0, 2, []byte{1})...),
		"other tags":                OggOpus{}.page(OggOpus{}.page(OggOpus{}.Head(nil)[:47], 0, 0, 1, []byte("OpusTag")), oggEnds, 0, 2, []byte{1}),
		"a beginning that is none":  made(0, 1, 0),
		"a beginning in the middle": made(oggBegins, 1, oggBegins),
		"surround":                  made(oggBegins, 6, 0),
		"of no channel":             made(oggBegins, 0, 0),
		"a packet without end":      endless(),
		"continued from nowhere":    append(OggOpus{}.Head(nil), OggOpus{}.page(nil, oggContinued|oggEnds, 0, 2, []byte{1})...),
	} {
		r, err := NewOggReader(bytes.NewReader(file))
		for err == nil {
			_, err = r.Next()
		}
		if errors.Is(err, io.EOF) {
			t.Errorf("%s: read to its end", name)
		}
	}
}

// made is a file whose first and last pages have these flags, of a voice of so
// many channels.
func made(first, channels, last byte) []byte {
	file := OggOpus{}.page(nil, first, 0, 0, append([]byte{'O', 'p', 'u', 's', 'H', 'e', 'a', 'd', 1, channels}, make([]byte, 9)...))
	file = OggOpus{}.page(file, 0, 0, 1, []byte("OpusTags"))
	return OggOpus{}.page(file, last|oggEnds, 0, 2, []byte{8 << 3})
}

// endless is a file whose one packet goes on and on.
func endless() []byte {
	file := OggOpus{}.Head(nil)
	for n := range uint32(4) {
		flags := byte(oggContinued)
		if n == 0 {
			flags = 0
		}
		from := len(file)
		file = append(OggOpus{}.page(file, flags, 0, n+2), make([]byte, 255+255*255)...)
		file[from+26] = 255
		copy(file[from+27:], bytes.Repeat([]byte{255}, 255))
		clear(file[from+22 : from+26])
		sum := oggSum(file[from:])
		file[from+22], file[from+23], file[from+24], file[from+25] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
	}
	return OggOpus{}.page(file, oggContinued|oggEnds, 0, 6, []byte{1})
}

// FuzzOgg reads any file: it ends, with packets of a bounded size.
func FuzzOgg(f *testing.F) {
	f.Add(OggOpus{Serial: 1}.Second(OggOpus{Serial: 1}.Head(nil), 0, nil, Packets{4, 0, 2, 8 << 3, 1}, true))
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := NewOggReader(bytes.NewReader(file))
		for n := 0; err == nil; n++ {
			var packet []byte
			packet, err = r.Next()
			if len(packet) > oggPacketMost || n > len(file) {
				t.Fatalf("packet %d of %d bytes", n, len(packet))
			}
		}
	})
}

// FuzzPackets reads any second: one that Check accepts is written and decoded
// like any other, and is the only way to write what it holds.
func FuzzPackets(f *testing.F) {
	f.Add([]byte{4, 0, 2, 8 << 3, 1, 98, 0, 1, 11 << 3}, []byte{1, 2})
	f.Fuzz(func(t *testing.T, row, before []byte) {
		p := Packets(row)
		var present [13]byte
		for unit, packet := range p.All() {
			lasts, _ := PacketUnits(packet)
			for u := unit; u < min(unit+lasts, secondUnits); u++ {
				present[u/8] |= 1 << (u % 8)
			}
		}
		good := p.Check(present) == nil
		var again Packets
		for unit, packet := range p.All() {
			again, _ = again.Add(unit, packet)
		}
		if good && !bytes.Equal(again, p) {
			t.Fatal("what was read is not what is written")
		}
		if got := NewVoice(Rate).Second(nil, before, p); len(got) != Rate {
			t.Fatalf("a second of %d samples", len(got))
		}
		head := OggOpus{}.Head(nil)
		file := OggOpus{}.Second(head, 0, before, p, true)
		if len(head) > OggHeadMost || len(file)-len(head) > OggSecondMost {
			t.Fatalf("a head of %d bytes and a page of %d", len(head), len(file)-len(head))
		}
		if r, err := NewOggReader(bytes.NewReader(file)); err != nil {
			t.Fatal(err)
		} else {
			for err == nil {
				_, err = r.Next()
			}
			if good && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
	})
}

// FuzzVoice decodes packets that somebody made up, after good ones.
func FuzzVoice(f *testing.F) {
	for _, name := range voices {
		for _, packet := range packetsOf(f, voiceFile(f, name))[50:53] {
			f.Add(packet, packet)
		}
	}
	good := row(f, packetsOf(f, voiceFile(f, "voice.opus")), 0, nil)
	f.Fuzz(func(t *testing.T, one, other []byte) {
		units, err := PacketUnits(one)
		if err != nil {
			return
		}
		p, _ := Packets(nil).Add(0, one)
		p, _ = p.Add(units, other)
		if got := NewVoice(WideRate).Second(nil, good[1], p); len(got) != WideRate {
			t.Fatalf("a second of %d samples", len(got))
		}
	})
}

// A second of Opus as it is heard and as its waveform is drawn, beside a second
// of G.711.
func BenchmarkVoice(b *testing.B) {
	for _, name := range voices {
		seconds := row(b, packetsOf(b, voiceFile(b, name)), 0, nil)
		for _, rate := range []int{Rate, WideRate} {
			b.Run(fmt.Sprintf("%s/%d", name, rate), func(b *testing.B) {
				b.ReportAllocs()
				v, samples := NewVoice(rate), []int16(nil)
				for b.Loop() {
					samples = v.Second(samples[:0], seconds[0], seconds[1])
				}
			})
		}
	}
}
