package playback

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audio"
	"yesline/internal/vault"
)

// decoding turns the seconds of one window from Opus into PCM.
type decoding struct {
	player  *Player
	shape   Shape
	voice   *audio.Voice
	samples []int16
	before  audio.Packets // of the last second, as long as Hear holds it
	err     error
}

// second appends the part of [from, to) that lies in this second, which is
// number n of its track: nothing of the one before the window, which is only
// listened to.
func (d *decoding) second(ctx context.Context, out []byte, s *vault.Second, n, from, to int64) []byte {
	before := d.before
	d.before = s.Payload
	begin := d.shape.begin(n)
	lo, hi := max(from-begin, 0), min(to-begin, d.shape.bytes())
	if d.err != nil || lo >= hi {
		return out
	}
	release, err := d.player.turn(ctx)
	if err != nil {
		d.err = err
		return out
	}
	defer release()
	if d.voice == nil {
		d.voice = audio.NewVoice(int(d.shape.rate()))
	}
	d.samples = d.voice.Second(d.samples[:0], before, s.Payload)
	at := len(out)
	out = audio.PCM(slices.Grow(out, int(hi-lo)+2), d.samples[lo/2:(hi+1)/2])
	clear(d.samples)
	if lo%2 == 1 {
		copy(out[at:], out[at+1:])
	}
	end := at + int(hi-lo)
	clear(out[end:]) // Done wipes only what it gets
	return out[:end]
}

// turn waits until one may decode. A second of Opus takes milliseconds where
// one of G.711 takes microseconds, so at most half of the processors decode at
// once: the calls go on beside it.
func (p *Player) turn(ctx context.Context) (release func(), err error) {
	p.deciding.Do(func() { p.turns = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)) })
	select {
	case p.turns <- struct{}{}:
		return func() { <-p.turns }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// OriginalSeconds bounds one decision of the gate about a voice as it came.
const OriginalSeconds = 60

// Original gives seconds from to from+count-1 (OriginalSeconds at most) of a
// voice that is kept in Opus as they came: as part of an Ogg file (RFC 7845),
// which is these parts, one after another from 0 until there is no more. A part
// is the same each time, and is given back by Done. The permit is to Listen,
// and each part needs one that is good when it is asked for; SaidOriginal words
// the question to the gate. yesline.NotFound for a voice that is kept otherwise.
func (p *Player) Original(ctx context.Context, permit access.Permit, track yesline.TrackID, from, count int64) (part []byte, more bool, err error) {
	if from < 0 || count < 1 || count > OriginalSeconds {
		return nil, false, fmt.Errorf("%d seconds of a voice as it came, from %d: %w", count, from, yesline.Invalid)
	}
	length, err := p.Voices.Length(ctx, permit, track)
	if err != nil {
		return nil, false, err
	}
	if from >= max(1, length) {
		return nil, false, fmt.Errorf("second %d of a voice, which has %d: %w", from, length, yesline.Invalid)
	}
	count = min(count, length-from)
	file := audio.OggOpus{Serial: serial(track)}
	part = make([]byte, 0, audio.OggHeadMost+count*audio.OggSecondMost)
	if from == 0 {
		part = file.Head(part)
	}
	if length == 0 {
		return file.End(part), false, nil
	}
	if part, err = p.pages(ctx, permit, track, file, part, from, count, length); err != nil {
		p.Done(part)
		return nil, false, err
	}
	return part, from+count < length, nil
}

func (p *Player) pages(ctx context.Context, permit access.Permit, track yesline.TrackID, file audio.OggOpus, part []byte, from, count, length int64) ([]byte, error) {
	heard, before := int64(0), audio.Packets(nil)
	if err := p.Voices.Hear(ctx, permit, track, from, count, func(n int64, s *vault.Second) {
		if s.Codec != audio.Opus {
			return
		}
		if n >= from {
			part = file.Second(part, n, before, s.Payload, n == length-1)
			heard++
		}
		before = s.Payload
	}); err != nil {
		return part, err
	}
	switch heard {
	case count:
		return part, nil
	case 0:
		return part, fmt.Errorf("a voice in opus: %w", yesline.NotFound)
	}
	return part, fmt.Errorf("a track that is not what its books say: %w", yesline.Tampered)
}

// serial tells the files of two tracks apart, and nothing of the tracks.
func serial(track yesline.TrackID) uint32 {
	sum := sha256.Sum256([]byte("yesline/ogg/serial\n" + string(track)))
	return binary.BigEndian.Uint32(sum[:])
}

// SaidOriginal words a part of a voice as it came for the log.
func SaidOriginal(from, count int64) map[string]string { return said("original", from, count) }
