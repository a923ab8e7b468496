package media

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"crypto/subtle"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"yesline"
)

// profile is a way to encrypt and prove RTP. Lengths are in bytes.
type profile struct {
	key, salt int
	tag       int
	gcm       bool // else AES in counter mode with HMAC-SHA1
}

// profiles by name: RFC 3711 and RFC 7714, 14.2.
var profiles = map[string]profile{
	"AES_CM_128_HMAC_SHA1_80": {key: 16, salt: 14, tag: 10},
	"AES_CM_128_HMAC_SHA1_32": {key: 16, salt: 14, tag: 4},
	"AEAD_AES_128_GCM":        {key: 16, salt: 12, tag: gcmTag, gcm: true},
	"AEAD_AES_256_GCM":        {key: 32, salt: 12, tag: gcmTag, gcm: true},
}

const (
	gcmTag       = 16
	replayWindow = 128 // packets; RFC 3711 asks for 64 at least
	maxSources   = 32  // SSRCs under one key; one more is refused, as no state of another may be forgotten
	maxIndex     = 1<<48 - 1
)

// What is wrong with a packet.
var (
	errForged   = errors.New("a packet's tag is not of the key")
	errReplayed = errors.New("a packet's number was used before, or is too old to tell")
	errShort    = errors.New("a packet is too short for its header and tag")
	errLong     = errors.New("a packet is longer than one of ours may be")
	errCryptex  = errors.New("a packet's header is encrypted")
	errSpent    = errors.New("all numbers of a key were used")
	errSources  = errors.New("a key has been used by too many sources")
)

// transform is SRTP (RFC 3711, RFC 7714) under one key in one direction: RTP
// only, without a key identifier. A party's next packet comes when hundreds of
// others have gone by and all of it is cold, so what a packet touches is two
// cache lines here and the key schedule, and whatever can be a thread's own is
// in its tools. One direction: a transform opens or seals, never both.
type transform struct {
	last   source       // the SSRC that was carried last
	block  cipher.Block // counter mode; nil in GCM
	aead   cipher.AEAD  // GCM
	inner  chain        // HMAC's state behind the key and its inner pad
	outer  chain        // and its outer pad
	salt   [14]byte     // 12 in GCM
	tag    uint8
	others *[maxSources - 1]source // nil as long as there was one SSRC
}

// source is what was carried of one SSRC (RFC 3711, 3.2.1). It is kept as long
// as its key: without it a packet could be taken, or a number encrypted, twice.
type source struct {
	ssrc  uint32
	begun bool
	top   uint64 // the highest index, 2^16 * rollovers + number
	seen  [replayWindow / 64]uint64
}

// chain is SHA-1 after whole blocks.
type chain [sha1.Size]byte

// newTransform derives the session keys (RFC 3711, 4.3; RFC 7714, 11).
// yesline.Invalid as Check says.
func newTransform(c *Crypto) (*transform, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	master, err := aes.NewCipher(c.Key)
	if err != nil {
		return nil, fmt.Errorf("taking a key of SRTP: %w", err)
	}
	p := profiles[c.Profile]
	key, salt := derive(master, c.Salt, 0, p.key), derive(master, c.Salt, 2, p.salt)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("taking a key of SRTP: %w", err)
	}
	if p.gcm {
		return gcm(block, salt)
	}
	return counterMode(block, salt, derive(master, c.Salt, 1, sha1.Size), p.tag)
}

// derive is the key derivation of RFC 3711, 4.3.1 and 4.3.3, at a rate of zero.
func derive(master cipher.Block, salt []byte, label byte, n int) []byte {
	var at [aes.BlockSize]byte
	copy(at[:], salt)
	at[7] ^= label
	var key []byte
	for len(key) < n {
		key = append(key, at[:]...)
		master.Encrypt(key[len(key)-len(at):], at[:])
		at[15]++
	}
	return key[:n]
}

func gcm(block cipher.Block, salt []byte) (*transform, error) {
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("taking a key of SRTP: %w", err)
	}
	t := &transform{aead: aead, tag: gcmTag}
	copy(t.salt[:], salt)
	return t, nil
}

func counterMode(block cipher.Block, salt, auth []byte, tag int) (*transform, error) {
	t := &transform{block: block, tag: uint8(tag)}
	copy(t.salt[:], salt)
	var err error
	if t.inner, err = chained(auth, 0x36); err != nil {
		return nil, err
	}
	if t.outer, err = chained(auth, 0x5c); err != nil {
		return nil, err
	}
	return t, nil
}

// chained is SHA-1 after HMAC's first block: the key under a pad (RFC 2104).
func chained(key []byte, pad byte) (c chain, err error) {
	var first [sha1.BlockSize]byte
	copy(first[:], key)
	for i := range first {
		first[i] ^= pad
	}
	h := sha1.New()
	h.Write(first[:])
	state, err := h.(encoding.BinaryAppender).AppendBinary(nil)
	if err != nil || len(state) != len(tools{}.state) || string(state[:len(sha1Magic)]) != sha1Magic {
		return c, fmt.Errorf("keeping a state of SHA-1: it is not as we know it: %w", yesline.Unavailable)
	}
	copy(c[:], state[len(sha1Magic):])
	return c, nil
}

// tools are what a thread needs besides a key, so that no packet allocates. The
// zero value is ready.
type tools struct {
	sha    sha
	state  [len(sha1Magic) + sha1.Size + sha1.BlockSize + 8]byte // of sha
	tail   [2 * sha1.BlockSize]byte
	nonce  [12]byte
	stream [(maxRTP + aes.BlockSize - 1) / aes.BlockSize * aes.BlockSize]byte
}

// sha is SHA-1, which goes on from where another ended.
type sha interface {
	io.Writer
	encoding.BinaryAppender
	encoding.BinaryUnmarshaler
}

// sha1Magic begins a state of crypto/sha1: then come the five words, a block
// that is not full yet, and the length of all that was written.
const sha1Magic = "sha\x01"

// open proves a packet and decrypts it in place. What it gives is the packet
// without its tag. After an error the transform is as before, and the packet not
// to be used.
func (t *transform) open(w *tools, packet []byte) ([]byte, error) {
	body, err := headerSize(packet)
	if err != nil {
		return nil, err
	}
	end := len(packet) - int(t.tag)
	switch {
	case end < body:
		return nil, errShort
	case end-body > maxRTP:
		return nil, errLong
	}
	s, index, err := t.find(packet)
	if err != nil {
		return nil, err
	}
	if t.block == nil {
		if _, err := t.aead.Open(packet[body:body], w.nonceOf(t, s.ssrc, index), packet[body:], packet[:body]); err != nil {
			return nil, errForged
		}
	} else {
		tag, err := w.prove(t, packet[:end], index)
		if err != nil {
			return nil, err
		}
		if subtle.ConstantTimeCompare(packet[end:], tag) != 1 {
			return nil, errForged
		}
		w.encrypt(t, packet[body:end], s.ssrc, index)
	}
	s.take(index)
	if err := t.keep(s); err != nil {
		return nil, err
	}
	return packet[:end], nil
}

// seal encrypts a packet in place and puts its tag behind it, where there must
// be room. A number that was used before is refused.
func (t *transform) seal(w *tools, packet []byte) ([]byte, error) {
	body, err := headerSize(packet)
	if err != nil {
		return nil, err
	}
	end := len(packet)
	if end-body > maxRTP || end+int(t.tag) > cap(packet) {
		return nil, errLong
	}
	s, index, err := t.find(packet)
	if err != nil {
		return nil, err
	}
	s.take(index)
	if err := t.keep(s); err != nil {
		return nil, err
	}
	if t.block == nil {
		sealed := t.aead.Seal(packet[body:body], w.nonceOf(t, s.ssrc, index), packet[body:], packet[:body])
		return packet[:body+len(sealed)], nil
	}
	w.encrypt(t, packet[body:], s.ssrc, index)
	tag, err := w.prove(t, packet, index)
	if err != nil {
		return nil, err
	}
	return append(packet, tag...), nil
}

// headerSize is how much of a packet stays in clear (RFC 3550, 5.1 and 5.3.1).
func headerSize(packet []byte) (int, error) {
	if len(packet) < 12 {
		return 0, errShort
	}
	n := 12 + 4*int(packet[0]&15)
	if packet[0]&0x10 != 0 {
		if len(packet) < n+4 {
			return 0, errShort
		}
		if kind := binary.BigEndian.Uint16(packet[n:]); kind == 0xc0de || kind == 0xc2de {
			return 0, errCryptex // RFC 9335, which we never offer: the sound would be noise
		}
		n += 4 + 4*int(binary.BigEndian.Uint16(packet[n+2:]))
	}
	if len(packet) < n {
		return 0, errShort
	}
	return n, nil
}

// find gives the state of a packet's source and the packet's index, if that was
// not used yet. Nothing is kept of it before keep.
func (t *transform) find(packet []byte) (s source, index uint64, err error) {
	ssrc := binary.BigEndian.Uint32(packet[8:])
	s = t.source(ssrc)
	index = s.index(binary.BigEndian.Uint16(packet[2:]))
	switch {
	case index > maxIndex:
		return s, 0, errSpent
	case s.used(index):
		return s, 0, errReplayed
	}
	return s, index, nil
}

func (t *transform) source(ssrc uint32) source {
	if t.last.ssrc == ssrc {
		return t.last
	}
	if t.others != nil {
		for _, s := range t.others {
			if s.ssrc == ssrc {
				return s
			}
		}
	}
	return source{ssrc: ssrc}
}

// keep puts a source's state back, as the last one. errSources when there is no
// room for one more.
func (t *transform) keep(s source) error {
	if t.last.ssrc == s.ssrc || !t.last.begun {
		t.last = s
		return nil
	}
	if t.others == nil {
		t.others = new([maxSources - 1]source)
	}
	for i := range t.others {
		if o := &t.others[i]; !o.begun || o.ssrc == s.ssrc {
			*o, t.last = t.last, s
			return nil
		}
	}
	return errSources
}

// index is where a number belongs, by what came last (RFC 3711, 3.3.1 and
// appendix A).
func (s *source) index(seq uint16) uint64 {
	if !s.begun {
		return uint64(seq)
	}
	const half = 1 << 15
	rollovers, last := s.top>>16, int(s.top&0xffff)
	switch {
	case last < half && int(seq)-last > half && rollovers > 0:
		rollovers--
	case last >= half && last-half > int(seq):
		rollovers++
	}
	return rollovers<<16 | uint64(seq)
}

// used says that an index was taken, or is too far back to know.
func (s *source) used(index uint64) bool {
	if !s.begun || index > s.top {
		return false
	}
	back := s.top - index
	return back >= replayWindow || s.seen[back/64]>>(back%64)&1 != 0
}

// take notes an index as used.
func (s *source) take(index uint64) {
	if s.begun && index <= s.top {
		back := s.top - index
		s.seen[back/64] |= 1 << (back % 64)
		return
	}
	on := index - s.top
	s.seen[1] = s.seen[1]<<on | s.seen[0]>>(64-on) | s.seen[0]<<(on-64) // a shift by 64 or more, or by less than 0, leaves nothing
	s.seen[0] = s.seen[0]<<on | 1
	s.begun, s.top = true, index
}

// nonceOf is the initialization vector of RFC 7714, 8.1.
func (w *tools) nonceOf(t *transform, ssrc uint32, index uint64) []byte {
	high, low := uint64(ssrc)<<16|index>>32, uint32(index)
	binary.BigEndian.PutUint64(w.nonce[:], binary.BigEndian.Uint64(t.salt[:])^high)
	binary.BigEndian.PutUint32(w.nonce[8:], binary.BigEndian.Uint32(t.salt[8:])^low)
	return w.nonce[:]
}

// encrypt adds AES in counter mode (RFC 3711, 4.1.1) to a payload; twice is
// nothing. A block at a time, as a cipher.Stream would be allocated.
func (w *tools) encrypt(t *transform, payload []byte, ssrc uint32, index uint64) {
	high := binary.BigEndian.Uint64(t.salt[:]) ^ uint64(ssrc)
	low := binary.BigEndian.Uint64(t.salt[6:])<<16 ^ index<<16
	stream := w.stream[:(len(payload)+aes.BlockSize-1)/aes.BlockSize*aes.BlockSize]
	for rest := stream; len(rest) > 0; rest = rest[aes.BlockSize:] {
		binary.BigEndian.PutUint64(rest, high)
		binary.BigEndian.PutUint64(rest[8:], low)
		low++
	}
	for rest := stream; len(rest) > 0; rest = rest[aes.BlockSize:] {
		t.block.Encrypt(rest, rest)
	}
	subtle.XORBytes(payload, payload, stream)
}

// prove gives the tag of a packet (RFC 3711, 4.2): HMAC-SHA1 of it and the
// rollovers. It is valid until the next one. Both hashes are padded here, as
// hash.Hash would copy itself to tell its sum.
func (w *tools) prove(t *transform, packet []byte, index uint64) ([]byte, error) {
	if w.sha == nil {
		w.sha = sha1.New().(sha)
		copy(w.state[:], sha1Magic)
	}
	whole := len(packet) / sha1.BlockSize * sha1.BlockSize
	tail := append(w.tail[:0], packet[whole:]...)
	tail = binary.BigEndian.AppendUint32(tail, uint32(index>>16))
	inner, err := w.sum(&t.inner, packet[:whole], padded(tail, len(packet)+4))
	if err != nil {
		return nil, err
	}
	outer, err := w.sum(&t.outer, nil, padded(append(w.tail[:0], inner...), sha1.Size))
	if err != nil {
		return nil, err
	}
	return outer[:t.tag], nil
}

// padded ends a message (RFC 3174, 4) that began with a block of HMAC's and has
// n bytes besides; tail is those after its last whole block.
func padded(tail []byte, n int) []byte {
	used := len(tail)
	tail = tail[:(used+1+8+sha1.BlockSize-1)/sha1.BlockSize*sha1.BlockSize]
	clear(tail[used:])
	tail[used] = 0x80
	binary.BigEndian.PutUint64(tail[len(tail)-8:], 8*uint64(sha1.BlockSize+n))
	return tail
}

// sum is SHA-1 from a chain on, over whole blocks.
func (w *tools) sum(from *chain, head, tail []byte) ([]byte, error) {
	copy(w.state[len(sha1Magic):], from[:])
	if err := w.sha.UnmarshalBinary(w.state[:]); err != nil {
		return nil, err
	}
	w.sha.Write(head)
	w.sha.Write(tail)
	if _, err := w.sha.AppendBinary(w.state[:0]); err != nil {
		return nil, err
	}
	return w.state[len(sha1Magic):][:sha1.Size], nil
}
