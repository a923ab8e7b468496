package vault

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"yesline"
	"yesline/internal/audio"
)

// The sealed object, byte by byte in docs/format.md. Nothing here reads a
// clock, a file or a random number.
const (
	slotSize   = 8192
	tagSize    = 16
	chunkSize  = slotSize - tagSize // what is sealed in a slot
	chunkHead  = 176
	MaxPayload = chunkSize - chunkHead // bytes of payload in a second: 8,000
	MaxSeconds = 4 * 60 * 60           // the longest track

	objectMagic   = "YESLOBJ1"
	objectVersion = 1
	saltSize      = 16
	keyLabel      = "yesline/obj/v1"
	units         = 100 // of 10 ms in a second
)

// Rendition names. Each kind of object that is derived from a voice has one.
const (
	Voice = "voice"
	Peaks = "peaks"
)

// kinds are the renditions' numbers in the header. A number is never given twice.
var kinds = map[string]byte{Voice: 1, Peaks: 2}

// pieces is the codec of what is not sound but bytes. Sound has its RTP payload
// type, which is below 128.
const pieces audio.Codec = 255

// place is what an object's seal is bound to.
type place struct{ program, call, track, rendition string }

// words are the four, each behind its length in two bytes, so that no two
// places spell the same.
func (p place) words() []byte {
	var b []byte
	for _, s := range []string{p.program, p.call, p.track, p.rendition} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
		b = append(b, s...)
	}
	return b
}

// header is slot 0, in clear.
type header struct {
	codec byte
	kind  byte
	salt  [saltSize]byte
}

const (
	atVersion = len(objectMagic)
	atCodec   = atVersion + 1
	atKind    = atCodec + 1
	atSalt    = 16
)

func (h header) slot() []byte {
	b := make([]byte, slotSize)
	copy(b, objectMagic)
	b[atVersion], b[atCodec], b[atKind] = objectVersion, h.codec, h.kind
	copy(b[atSalt:], h.salt[:])
	return b
}

func parseHeader(slot []byte) (header, error) {
	if len(slot) != slotSize || !bytes.HasPrefix(slot, []byte(objectMagic)) || slot[atVersion] != objectVersion {
		return header{}, fmt.Errorf("the header of an object: %w", yesline.Tampered)
	}
	h := header{codec: slot[atCodec], kind: slot[atKind], salt: [saltSize]byte(slot[atSalt:])}
	if !isZero(slot[atKind+1:atSalt]) || !isZero(slot[atSalt+saltSize:]) {
		return header{}, fmt.Errorf("the header of an object: %w", yesline.Tampered)
	}
	return h, nil
}

// seal is what opens and closes the slots of one object: it is bound to the
// data key, to the whole of slot 0 and to the place.
type seal struct {
	aead  cipher.AEAD
	aad   [sha256.Size]byte
	sound bool // a voice, and not pieces of something derived
	opus  bool // a voice in Opus, all of it: its seconds hang on one another
}

// contentKey is what an object's seal is made of. Whoever is done with one
// forgets it.
type contentKey struct {
	key   [32]byte
	aad   [sha256.Size]byte
	sound bool
	opus  bool
}

// newSeal derives the content key of the object whose slot 0 this is. The
// header must be of the rendition that the place names.
func newSeal(dataKey, slot0 []byte, p place) (*seal, error) {
	k, err := newContentKey(dataKey, slot0, p)
	if err != nil {
		return nil, err
	}
	defer k.forget()
	return k.seal()
}

func newContentKey(dataKey, slot0 []byte, p place) (contentKey, error) {
	h, err := parseHeader(slot0)
	if err != nil {
		return contentKey{}, err
	}
	if h.kind == 0 || h.kind != kinds[p.rendition] {
		return contentKey{}, fmt.Errorf("an object of another rendition: %w", yesline.Tampered)
	}
	derived, err := deriveKey(dataKey, h.salt[:], p)
	if err != nil {
		return contentKey{}, err
	}
	defer clear(derived)
	return contentKey{[32]byte(derived), additionalData(slot0, p), p.rendition == Voice, h.codec == byte(audio.Opus)}, nil
}

func (k *contentKey) seal() (*seal, error) {
	block, err := aes.NewCipher(k.key[:])
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &seal{aead, k.aad, k.sound, k.opus}, nil
}

func (k *contentKey) forget() { clear(k.key[:]) }

func deriveKey(dataKey, salt []byte, p place) ([]byte, error) {
	if len(dataKey) != 32 {
		return nil, fmt.Errorf("a data key of %d bytes: %w", len(dataKey), yesline.Invalid)
	}
	return hkdf.Key(sha256.New, dataKey, salt, keyLabel+string(p.words()), 32)
}

func additionalData(slot0 []byte, p place) [sha256.Size]byte {
	h := sha256.New()
	h.Write(slot0)
	h.Write(p.words())
	return [sha256.Size]byte(h.Sum(nil))
}

func nonce(n int64) []byte {
	b := make([]byte, 12)
	binary.BigEndian.PutUint64(b[4:], uint64(n))
	return b
}

// second seals s as second n into slot. The caller never does this twice for
// one n of one object.
func (k *seal) second(slot *[slotSize]byte, n int64, s *Second) error {
	if n < 0 || n >= MaxSeconds {
		return fmt.Errorf("second %d of a track: %w", n, yesline.Invalid)
	}
	if err := k.check(s); err != nil {
		return err
	}
	clear(slot[:])
	slot[0], slot[1] = objectVersion, byte(s.Codec)
	binary.BigEndian.PutUint16(slot[2:], uint16(len(s.Payload)))
	copy(slot[4:], s.Present[:])
	copy(slot[chunkHead:], s.Payload)
	k.aead.Seal(slot[:0], nonce(n), slot[:chunkSize], k.aad[:])
	return nil
}

// open opens slot as second n, in place: slot is spent, and the payload lies
// in it.
func (k *seal) open(slot []byte, n int64) (Second, error) {
	if n < 0 || n >= MaxSeconds || len(slot) != slotSize {
		return Second{}, tampered(n)
	}
	plain, err := k.aead.Open(slot[:0], nonce(n), slot, k.aad[:])
	if err != nil {
		return Second{}, tampered(n)
	}
	s, err := parseChunk(plain)
	if err != nil || k.check(&s) != nil {
		return Second{}, tampered(n)
	}
	return s, nil
}

func tampered(n int64) error { return fmt.Errorf("second %d of a track: %w", n, yesline.Tampered) }

func (k *seal) check(s *Second) error {
	if k.sound != s.Codec.Known() || !k.sound && s.Codec != pieces || k.opus != (s.Codec == audio.Opus) {
		return fmt.Errorf("a second in %s: %w", s.Codec, yesline.Invalid)
	}
	if len(s.Payload) > MaxPayload {
		return fmt.Errorf("a second of %d bytes, more than %d: %w", len(s.Payload), MaxPayload, yesline.Invalid)
	}
	if s.Present[units/8]>>(units%8) != 0 {
		return fmt.Errorf("a second with more than %d units: %w", units, yesline.Invalid)
	}
	if !k.opus {
		return nil
	}
	if err := audio.Packets(s.Payload).Check(s.Present); err != nil {
		return fmt.Errorf("a second of opus: %w: %w", yesline.Invalid, err)
	}
	return nil
}

// parseChunk reads what was sealed. All that is reserved must be zero, so that
// a later version cannot be misread as this one.
func parseChunk(plain []byte) (Second, error) {
	if len(plain) != chunkSize || plain[0] != objectVersion {
		return Second{}, fmt.Errorf("a sealed second: %w", yesline.Invalid)
	}
	length := int(binary.BigEndian.Uint16(plain[2:]))
	s := Second{Codec: audio.Codec(plain[1]), Present: [13]byte(plain[4:])}
	if length > MaxPayload || !isZero(plain[4+len(s.Present):chunkHead]) || !isZero(plain[chunkHead+length:]) {
		return Second{}, fmt.Errorf("a sealed second: %w", yesline.Invalid)
	}
	s.Payload = plain[chunkHead : chunkHead+length : chunkHead+length]
	return s, nil
}

var zeros [slotSize]byte

// isZero reports whether b, at most a slot, is all zero: a hole.
func isZero(b []byte) bool { return bytes.Equal(b, zeros[:len(b)]) }
