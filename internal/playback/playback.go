// Package playback is the only room that streams audio: whoever holds a Permit
// hears one bounded window of a voice, or sees its waveform.
package playback

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audio"
	"yesline/internal/consent"
	"yesline/internal/session"
	"yesline/internal/vault"
)

// DrawJob is the job that draws the waveform of a finished track and counts
// the speech in it; its id is the track's.
const DrawJob = "peaks"

// drawer is who draws: the machine that may open tracks to finish them.
var drawer = session.Service("finish")

// readAtOnce is how many seconds Draw reads in one go: half a megabyte.
const readAtOnce = 64

// Player plays. Its fields are set by the app; without Voices it plays
// nothing.
type Player struct {
	Voices *vault.Opener
	// Track tells what the vault's books say of a track, without opening it.
	Track func(ctx context.Context, track yesline.TrackID) (vault.Recorded, error)

	// For drawing: the gate, and the grant to derive from a voice that is kept.
	Ask  func(ctx context.Context, who session.Principal, v access.Verb, o access.Object, detail map[string]string) (access.Permit, error)
	Kept func(ctx context.Context, call yesline.CallID, person yesline.PersonID) (consent.Grant, error)

	sheets sync.Pool

	deciding sync.Once
	turns    chan struct{} // bounds who decodes at once
}

// Shape is a track's virtual file by the vault's books, to word the question to
// the gate. yesline.NotFound where there is nothing to play.
func (p *Player) Shape(ctx context.Context, track yesline.TrackID) (Shape, error) {
	t, err := p.Track(ctx, track)
	if err != nil {
		return Shape{}, err
	}
	if !t.Finished || t.State == vault.Destroyed {
		return Shape{}, fmt.Errorf("a track to play: %w", yesline.NotFound)
	}
	return ShapeOf(t.Seconds, t.Codec), nil
}

// Seconds is a track's length by the vault's books.
func (p *Player) Seconds(ctx context.Context, track yesline.TrackID) (int64, error) {
	shape, err := p.Shape(ctx, track)
	return shape.seconds, err
}

// Window is Part of the virtual file at 8 kHz, whatever the voice is kept in.
func (p *Player) Window(ctx context.Context, permit access.Permit, track yesline.TrackID, from, to int64) ([]byte, error) {
	return p.Part(ctx, permit, track, Shape{}, from, to)
}

// Part gives the bytes [from, to) of the track's virtual WAV file, at most
// WindowLimit of them. It is all or nothing: yesline.Tampered when the track
// is not what its books said. The same bytes are the same each time, whatever
// window they come in. The permit is to Listen; the vault looks at it, and at
// consent, once more. Whoever has written the bytes gives them back by Done.
func (p *Player) Part(ctx context.Context, permit access.Permit, track yesline.TrackID, shape Shape, from, to int64) ([]byte, error) {
	if from < 0 || to <= from || to-from > WindowLimit {
		return nil, fmt.Errorf("a window of %d bytes: %w", to-from, yesline.Invalid)
	}
	out, err := p.window(ctx, permit, track, shape, p.sheet(to-from), from, to)
	if err != nil {
		p.Done(out)
		return nil, err
	}
	return out, nil
}

// window appends to out what it could get, also on an error.
func (p *Player) window(ctx context.Context, permit access.Permit, track yesline.TrackID, shape Shape, out []byte, from, to int64) ([]byte, error) {
	if from < HeaderBytes {
		length, err := p.Voices.Length(ctx, permit, track)
		if err != nil {
			return out, err
		}
		h, err := audio.WAVHeaderAt(int(shape.rate()), length*shape.rate())
		if err != nil {
			return out, err
		}
		out = append(out, h[from:min(to, HeaderBytes)]...)
	}
	first, count := shape.Touched(from, to)
	if count == 0 {
		return out, nil
	}
	heard, opus := int64(0), decoding{player: p, shape: shape}
	if err := p.Voices.Hear(ctx, permit, track, first, count, func(n int64, s *vault.Second) {
		switch {
		case s.Codec == audio.Opus:
			out = opus.second(ctx, out, s, n, from, to)
		case !shape.wide:
			out = render(out, s, n, from, to)
		default:
			return // the books said Opus
		}
		if n >= first {
			heard++
		}
	}); err != nil {
		return out, err
	}
	if opus.err != nil {
		return out, opus.err
	}
	if heard != count {
		return out, fmt.Errorf("a track that is not what its books say: %w", yesline.Tampered)
	}
	return out, nil
}

// sheetSize is the size of the windows that most players ask for, at most.
const sheetSize = 192 << 10

// sheet gives room for a window, used before if there is some.
func (p *Player) sheet(size int64) []byte {
	size += 2 * unitBytes // render writes whole units before it cuts them
	if size > sheetSize {
		return make([]byte, 0, size)
	}
	if b, ok := p.sheets.Get().(*[sheetSize]byte); ok {
		return b[:0]
	}
	return new([sheetSize]byte)[:0]
}

// Done takes back what Window gave. It is wiped and used again: what was said
// does not wait in memory for the garbage collector.
func (p *Player) Done(window []byte) {
	clear(window)
	if cap(window) == sheetSize {
		p.sheets.Put((*[sheetSize]byte)(window[:sheetSize]))
	}
}

// render appends the part of [from, to) that lies in this second, which is
// number n of its track.
func render(out []byte, s *vault.Second, n, from, to int64) []byte {
	begin := HeaderBytes + n*BytesPerSecond // where this second begins in the file
	lo, hi := max(from-begin, 0), min(to-begin, BytesPerSecond)
	first, last := lo/unitBytes, (hi-1)/unitBytes // only these units are written
	at := len(out)
	size := int(last+1-first) * unitBytes
	out = slices.Grow(out, size)[:at+size]
	sound(out[at:], s, int(first))
	if skip := int(lo - first*unitBytes); skip > 0 {
		copy(out[at:], out[at+skip:])
	}
	end := at + int(hi-lo)
	clear(out[end:]) // Done wipes only what it gets
	return out[:end]
}

// A second is 100 units of 10 ms.
const (
	units       = 100
	unitSamples = audio.Rate / units
	unitBytes   = 2 * unitSamples
)

// The 256 samples that a codec has, computed once. A codec that is not known
// is silent.
var muLaw, aLaw, silent = every(audio.PCMU), every(audio.PCMA), new([256]uint16)

func every(c audio.Codec) *[256]uint16 {
	var table [256]uint16
	for b := range table {
		table[b] = uint16(c.Decode(nil, []byte{byte(b)})[0])
	}
	return &table
}

// sound writes whole units of a second as PCM, beginning with unit first. What
// was not received is digital silence, which a codec's own silence is not
// always.
func sound(pcm []byte, s *vault.Second, first int) {
	table := silent
	switch s.Codec {
	case audio.PCMU:
		table = muLaw
	case audio.PCMA:
		table = aLaw
	}
	for unit := first; len(pcm) >= unitBytes; unit++ {
		out, at := pcm[:unitBytes], unit*unitSamples
		pcm = pcm[unitBytes:]
		if s.Present[unit/8]>>(unit%8)&1 == 0 || at >= len(s.Payload) {
			clear(out)
			continue
		}
		payload := s.Payload[at:min(at+unitSamples, len(s.Payload))]
		clear(out[2*len(payload):])
		spell(out, payload, table)
	}
}

// spell writes samples by their table. Eight at a time cost a third less than
// one by one: their lengths are looked at once.
func spell(out, payload []byte, table *[256]uint16) {
	for len(payload) >= 8 && len(out) >= 16 {
		from, to := (*[8]byte)(payload), (*[16]byte)(out)
		binary.LittleEndian.PutUint16(to[0:], table[from[0]])
		binary.LittleEndian.PutUint16(to[2:], table[from[1]])
		binary.LittleEndian.PutUint16(to[4:], table[from[2]])
		binary.LittleEndian.PutUint16(to[6:], table[from[3]])
		binary.LittleEndian.PutUint16(to[8:], table[from[4]])
		binary.LittleEndian.PutUint16(to[10:], table[from[5]])
		binary.LittleEndian.PutUint16(to[12:], table[from[6]])
		binary.LittleEndian.PutUint16(to[14:], table[from[7]])
		payload, out = payload[8:], out[16:]
	}
	for i, b := range payload {
		binary.LittleEndian.PutUint16(out[2*i:], table[b])
	}
}

// Peaks gives what the track's waveform is drawn from. yesline.NotFound until
// it is drawn, a moment after the track is finished.
func (p *Player) Peaks(ctx context.Context, permit access.Permit, track yesline.TrackID) (audio.Peaks, error) {
	var drawn audio.Peaks
	data, err := p.Voices.ReadRendition(ctx, permit, track, vault.Peaks)
	if err != nil {
		return drawn, err
	}
	if err := drawn.UnmarshalBinary(data); err != nil {
		return drawn, fmt.Errorf("the waveform of %s: %w: %w", track, yesline.Tampered, err)
	}
	return drawn, nil
}

// Draw handles DrawJob: it opens a finished track by the machine's own permit,
// draws its peaks, counts how much of it is speech, and has both kept at once:
// the peaks sealed under the track's key, the count in the log and the vault's
// books. Doing it again changes nothing; a track that is gone by then is left
// alone.
func (p *Player) Draw(ctx context.Context, id string) error {
	track := yesline.TrackID(id)
	err := p.draw(ctx, track)
	if err == nil {
		return nil
	}
	t, again := p.Track(ctx, track)
	if errors.Is(again, yesline.NotFound) || again == nil && t.State == vault.Destroyed {
		return nil
	}
	return fmt.Errorf("drawing the waveform of %s: %w", id, err)
}

func (p *Player) draw(ctx context.Context, track yesline.TrackID) error {
	t, err := p.Track(ctx, track)
	if err != nil {
		return err
	}
	drawn, speech, err := p.look(ctx, t)
	if err != nil {
		return err
	}
	data, err := drawn.MarshalBinary()
	if err != nil {
		return err
	}
	grant, err := p.Kept(ctx, t.Call, t.Person) // last: it lives for seconds
	if err != nil {
		return err
	}
	return p.Voices.SealPeaks(ctx, grant, track, data, speech)
}

// look opens a whole track, a minute at a time, each minute with a permit of
// its own: for its waveform, and for how many milliseconds of it are speech.
func (p *Player) look(ctx context.Context, t vault.Recorded) (drawn audio.Peaks, speechMillis int64, err error) {
	drawn.PerSecond = audio.PeaksPerSecond
	var speech audio.Speech
	voice, samples, before := audio.NewVoice(audio.Rate), []int16(nil), audio.Packets(nil)
	for from := int64(0); from < vault.MaxSeconds; from += readAtOnce {
		permit, err := p.Ask(ctx, drawer, access.Finish, access.Object{Kind: "track", ID: string(t.ID)}, map[string]string{"part": "waveform"})
		if err != nil {
			return drawn, 0, err
		}
		seconds, err := p.Voices.Read(ctx, permit, t.ID, from, readAtOnce)
		if err != nil {
			return drawn, 0, err
		}
		for _, s := range seconds {
			if s.Codec == audio.Opus {
				samples = voice.Second(samples[:0], before, s.Payload)
				before = s.Payload
			} else {
				samples = s.Codec.Decode(samples[:0], s.Payload)
			}
			drawn.Add(samples, s.Present)
			speech.Add(samples, s.Present)
		}
		if len(seconds) < readAtOnce {
			break
		}
	}
	return drawn, speech.Millis(), nil
}
