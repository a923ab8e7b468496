package playback

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audio"
	"yesline/internal/consent"
	"yesline/internal/vault"
)

// sayOpus makes seconds of a voice that opusenc made: from unit 37 on, packets
// reach over the ends of seconds; second 2 never came, and of others some units
// are missing. It is said over and over.
func sayOpus(t testing.TB, n int) []vault.Second {
	t.Helper()
	file, err := os.ReadFile("../audio/testdata/voice.opus")
	ok(t, err)
	r := must[*audio.OggReader](t)(audio.NewOggReader(bytes.NewReader(file)))
	var packets [][]byte
	for packet, err := r.Next(); err == nil; packet, err = r.Next() {
		packets = append(packets, bytes.Clone(packet))
	}
	seconds := make([]vault.Second, n)
	for at, i := 37, 0; at+2 <= n*units; at, i = at+2, i+1 {
		if at/units == 2 || i%11 == 5 {
			continue
		}
		s := &seconds[at/units]
		s.Codec = audio.Opus
		row, fits := audio.Packets(s.Payload).Add(at%units, packets[i%len(packets)])
		if !fits {
			t.Fatal("a packet does not fit")
		}
		s.Payload = row
		for u := at; u < at+2; u++ {
			s := &seconds[u/units]
			s.Codec = audio.Opus
			s.Present[u%units/8] |= 1 << (u % units % 8)
		}
	}
	if n > 2 {
		seconds[2] = vault.Second{}
	}
	return seconds
}

// opusReference is the whole virtual file, second by second.
func opusReference(t testing.TB, seconds []vault.Second) []byte {
	t.Helper()
	h, err := audio.WAVHeaderAt(audio.WideRate, int64(len(seconds))*audio.WideRate)
	ok(t, err)
	file, before, voice := h[:], audio.Packets(nil), audio.NewVoice(audio.WideRate)
	for _, s := range seconds {
		file = audio.PCM(file, voice.Second(nil, before, s.Payload))
		before = s.Payload
	}
	return file
}

// What is kept in Opus is heard at 16 kHz, and a byte is the same byte in
// whatever window it comes.
func TestTheOwnerHearsTheirVoiceInOpus(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	said := sayOpus(t, 20)
	track := s.record(t, said)
	whole := opusReference(t, said)
	shape := must[Shape](t)(s.Shape(t.Context(), track))
	if shape.Seconds() != 20 || shape.Size() != int64(len(whole)) {
		t.Fatalf("the books say %d s and %d bytes, want 20 and %d", shape.Seconds(), shape.Size(), len(whole))
	}
	permit := must[access.Permit](t)(s.listens(t, s.ann, track))
	second := func(n int64) int64 { return HeaderBytes + n*2*audio.WideRate }
	for _, c := range [][2]int64{{0, 44}, {0, 100}, {44, 45}, {45, 47}, {second(1), second(4)}, {second(3), second(4)}, {second(4) - 3, second(4) + 3},
		{second(7) + 1, second(9) - 1}, {second(20) - 3, second(20)}, {0, second(16)}, {second(4), second(20)}} {
		got := must[[]byte](t)(s.Part(t.Context(), permit, track, shape, c[0], c[1]))
		if !bytes.Equal(got, whole[c[0]:c[1]]) {
			t.Errorf("%v: the bytes differ from what was said", c)
		}
		s.Done(got)
		if len(bytes.Trim(got[:cap(got)], "\x00")) > 0 {
			t.Errorf("%v: it was given back and is still in memory", c)
		}
	}
	if _, err := s.Part(t.Context(), permit, track, shape, second(19), second(21)); !errors.Is(err, yesline.Tampered) {
		t.Errorf("beyond the end: got %v, want tampered", err)
	}
	ended, end := context.WithTimeout(t.Context(), 100*time.Millisecond) // it waits for a turn that never comes
	defer end()
	for range cap(s.turns) {
		s.turns <- struct{}{}
	}
	if _, err := s.Part(ended, permit, track, shape, second(4), second(5)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it was decoded out of turn: %v", err)
	}
}

// A file at 8 kHz of it is one too; one at 16 kHz of mu-law there is none.
func TestShapesThatDoNotFit(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	said := sayOpus(t, 5)
	inOpus, inMuLaw := s.record(t, said), s.record(t, say(5))
	permit := must[access.Permit](t)(s.listens(t, s.ann, inOpus))
	narrow := must[[]byte](t)(s.Window(t.Context(), permit, inOpus, 0, Size(5)))
	want := audio.NewVoice(audio.Rate).Second(nil, said[3].Payload, said[4].Payload)
	if int64(len(narrow)) != Size(5) || !bytes.Equal(narrow[Size(4):], audio.PCM(nil, want)) {
		t.Error("at 8 kHz it is not what was said")
	}
	permit = must[access.Permit](t)(s.listens(t, s.ann, inMuLaw))
	if _, err := s.Part(t.Context(), permit, inMuLaw, ShapeOf(5, audio.Opus), 0, 100); !errors.Is(err, yesline.Tampered) {
		t.Errorf("a voice in mu-law as one in Opus: got %v", err)
	}
}

func TestShape(t *testing.T) {
	t.Parallel()
	for _, codec := range []audio.Codec{audio.PCMU, audio.PCMA, audio.Opus} {
		shape, bytes := ShapeOf(100, codec), int64(16000)
		if codec == audio.Opus {
			bytes = 32000
		}
		if shape.Size() != 44+100*bytes {
			t.Errorf("%s: 100 s have %d bytes", codec, shape.Size())
		}
		if got := shape.Cut(0, shape.Size(), true); got != 44+8*bytes {
			t.Errorf("%s: the first window ends at %d", codec, got)
		}
		for from := int64(0); from < shape.Size(); {
			to := shape.Cut(from, shape.Size(), from > 0)
			if to <= from || to-from > WindowLimit || (to-44)%bytes != 0 {
				t.Fatalf("%s: a window from %d to %d", codec, from, to)
			}
			if first, count := shape.Touched(max(from, 44), to); first != max(from-44, 0)/bytes || (first+count)*bytes != to-44 {
				t.Errorf("%s: %d to %d are seconds %d and %d more", codec, from, to, first, count)
			}
			from = to
		}
	}
	if got := ShapeOf(9, audio.Opus).Served(44+32000, 44+64000); got["from"] != "1" || got["seconds"] != "1" || got["part"] != "sound" {
		t.Errorf("for the log: %v", got)
	}
}

// original reads a voice as it came, so many seconds at a time, each part with
// the permit that is asked for then.
func (s *stage) original(t testing.TB, track yesline.TrackID, count int64) (file []byte) {
	t.Helper()
	for from, more := int64(0), true; more; from += count {
		permit := must[access.Permit](t)(s.listens(t, s.ann, track))
		part, goesOn, err := s.Original(t.Context(), permit, track, from, count)
		ok(t, err)
		file, more = append(file, part...), goesOn
		if most := audio.OggHeadMost + min(count, 20)*audio.OggSecondMost; cap(part) > int(most)+8192 { // an allocator rounds up
			t.Errorf("it moved in memory, to %d bytes: nobody wiped where it was", cap(part))
		}
		s.Done(part)
	}
	return file
}

// As it came, a voice is an Ogg file: the same in whatever parts, with each
// packet that was kept, and good to opusinfo.
func TestTheOwnerGetsTheirVoiceAsItCame(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	said := sayOpus(t, 20)
	track := s.record(t, said)
	file := s.original(t, track, 60)
	for _, count := range []int64{1, 7, 20} {
		if !bytes.Equal(s.original(t, track, count), file) {
			t.Errorf("in parts of %d s it is another file", count)
		}
	}
	r := must[*audio.OggReader](t)(audio.NewOggReader(bytes.NewReader(file)))
	at, kept := 0, 0
	for packet, err := r.Next(); err == nil; packet, err = r.Next() {
		lasts := must[int](t)(audio.PacketUnits(packet))
		for unit, its := range audio.Packets(said[at/units].Payload).All() {
			if unit == at%units && bytes.Equal(its, packet) {
				kept++
			}
		}
		at += lasts
	}
	want := 0
	for _, s := range said {
		for range audio.Packets(s.Payload).All() {
			want++
		}
	}
	if kept != want || at != 20*units {
		t.Errorf("%d packets of %d lie where they were, in %d units", kept, want, at)
	}
	if strings.Contains(string(file), string(track)) || strings.Contains(string(file), string(s.ann)) {
		t.Error("the file names its track or its person")
	}
	opusinfo, err := exec.LookPath("opusinfo")
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal("opusinfo is missing: scripts/setup.sh installs it")
	}
	if err != nil {
		t.Skip("opusinfo is not installed; scripts/setup.sh installs it")
	}
	path := filepath.Join(t.TempDir(), "x.opus")
	ok(t, os.WriteFile(path, file, 0o600))
	out, err := exec.Command(opusinfo, path).CombinedOutput()
	if low := strings.ToLower(string(out)); err != nil || strings.Contains(low, "warning") || strings.Contains(low, "error") || !strings.Contains(low, "0m:19.993s") {
		t.Errorf("opusinfo: %v\n%s", err, out)
	}
}

// Each part of it needs a permit that is good then, and there is none of what
// is not kept in Opus.
func TestWhoGetsNoVoiceAsItCame(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	ctx := t.Context()
	track, other := s.record(t, sayOpus(t, 5)), s.record(t, say(5))
	permit := must[access.Permit](t)(s.listens(t, s.ann, track))
	for name, c := range map[string]struct {
		permit      access.Permit
		track       yesline.TrackID
		from, count int64
		want        error
	}{
		"no permit":         {access.Permit{}, track, 0, 1, yesline.Denied},
		"of another track":  {permit, other, 0, 1, yesline.Denied},
		"before the first":  {permit, track, -1, 1, yesline.Invalid},
		"nothing":           {permit, track, 0, 0, yesline.Invalid},
		"too much":          {permit, track, 0, OriginalSeconds + 1, yesline.Invalid},
		"behind the end":    {permit, track, 5, 1, yesline.Invalid},
		"one kept in G.711": {must[access.Permit](t)(s.listens(t, s.ann, other)), other, 0, 1, yesline.NotFound},
	} {
		if part, _, err := s.Original(ctx, c.permit, c.track, c.from, c.count); part != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %d bytes and %v, want %v", name, len(part), err, c.want)
		}
	}
	none := s.record(t, nil)
	permit = must[access.Permit](t)(s.listens(t, s.ann, none))
	if part, more, err := s.Original(ctx, permit, none, 0, 9); err != nil || more {
		t.Errorf("a voice of no second: %v", err)
	} else if r, err := audio.NewOggReader(bytes.NewReader(part)); err != nil {
		t.Errorf("a voice of no second: %v", err)
	} else if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("a voice of no second has a packet: %v", err)
	}
	if _, _, err := s.Original(ctx, permit, none, 1, 1); !errors.Is(err, yesline.Invalid) {
		t.Errorf("behind a voice of no second: got %v", err)
	}
	permit = must[access.Permit](t)(s.listens(t, s.ann, track))
	withdraw := must[access.Permit](t)(s.gate.Ask(ctx, permit.Who(), access.Withdraw, access.Object{Kind: "call", ID: string(s.call)}, nil))
	ok(t, s.consent.Withdraw(ctx, withdraw, s.call, consent.Record, consent.Evidence{Channel: "page", AtMillis: time.Now().UnixMilli()}))
	if part, _, err := s.Original(ctx, permit, track, 1, 1); err == nil {
		t.Errorf("after withdrawing there are %d bytes", len(part))
	}
}

// The waveform of a voice in Opus shows what is heard.
func TestDrawingOpus(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	said := sayOpus(t, 70) // more than is read at once
	track := s.record(t, said)
	ok(t, s.Draw(t.Context(), string(track)))
	got := must[audio.Peaks](t)(s.Peaks(t.Context(), must[access.Permit](t)(s.listens(t, s.ann, track)), track))
	var want audio.Peaks
	voice, before := audio.NewVoice(audio.Rate), audio.Packets(nil)
	loud := 0
	for _, sec := range said {
		want.Add(voice.Second(nil, before, sec.Payload), sec.Present)
		before = sec.Payload
	}
	for _, v := range want.Values {
		if v > 8 {
			loud++
		}
	}
	if !bytes.Equal(got.Values, want.Values) || len(got.Present) != 70*audio.PeaksPerSecond || loud < 300 {
		t.Errorf("the waveform has %d values, of which %d should be loud, or they differ", len(got.Values), loud)
	}
	if got.Present[2*20+5] || !got.Present[4*20+5] {
		t.Error("it does not show what was received")
	}
}

// A window of 64 KiB, two seconds, of a voice in Opus.
func BenchmarkOpusWindow64KiB(b *testing.B) {
	s := newStage(b)
	track := s.record(b, sayOpus(b, 120))
	shape := ShapeOf(120, audio.Opus)
	var permit access.Permit
	const window = 64 << 10
	b.SetBytes(window)
	b.ReportAllocs()
	began, n := cpuTime(b), int64(0)
	for b.Loop() {
		if n%1000 == 0 {
			permit = must[access.Permit](b)(s.listens(b, s.ann, track))
		}
		from := HeaderBytes + n*window%(100*2*audio.WideRate)
		data, err := s.Part(b.Context(), permit, track, shape, from, from+window)
		if err != nil {
			b.Fatal(err)
		}
		s.Done(data)
		n++
	}
	b.ReportMetric(float64((cpuTime(b)-began).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
}
