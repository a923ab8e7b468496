package vault

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"yesline"
	"yesline/internal/audio"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

// vector is one object of testdata/vectors.json, for readers of docs/format.md.
type vector struct {
	Name       string         `json:"name"`
	DataKey    hexBytes       `json:"data_key"`
	Program    string         `json:"program"`
	Call       string         `json:"call"`
	Track      string         `json:"track"`
	Rendition  string         `json:"rendition"`
	Codec      byte           `json:"codec"`
	Salt       hexBytes       `json:"salt"`
	ContentKey hexBytes       `json:"content_key"`
	AAD        hexBytes       `json:"aad"`
	Slot0      []byte         `json:"slot0"`
	Seconds    []vectorSecond `json:"seconds"` // those that are not absent
	Count      int64          `json:"count"`
	Root       hexBytes       `json:"root"`
}

type vectorSecond struct {
	N       int64    `json:"n"`
	Codec   byte     `json:"codec"`
	Present hexBytes `json:"present"`
	Payload []byte   `json:"payload"`
	Sealed  []byte   `json:"sealed"`
}

type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }
func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.AppendDecode(nil, b)
	return err
}

const (
	aProgram = "prg_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	aCall    = "cal_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	aTrack   = "trk_cccccccccccccccccccccccccccccccc"
)

func counting(n int, from byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = from + byte(i)
	}
	return b
}

// all is a second of which every unit was received.
func all(payload []byte) Second {
	s := Second{Codec: audio.PCMU, Payload: payload}
	for i := range units {
		s.Present[i/8] |= 1 << (i % 8)
	}
	return s
}

// plans are what the vectors are made of.
func plans() []vector {
	first, second, last := all(counting(MaxPayload, 1)), Second{Codec: audio.PCMU}, all(counting(4000, 9))
	second.Payload = bytes.Repeat([]byte{0xff}, MaxPayload)
	copy(second.Payload[80:], counting(160, 50))
	second.Present[0] = 0b110
	last.Codec = audio.PCMA
	second2 := func(n int64, s Second) vectorSecond {
		return vectorSecond{N: n, Codec: byte(s.Codec), Present: s.Present[:], Payload: s.Payload}
	}
	return []vector{
		{Name: "a voice of five seconds, of which the second and the fourth are absent", DataKey: counting(32, 0), Salt: counting(16, 0x80), Rendition: Voice, Codec: byte(audio.PCMU), Count: 5,
			Seconds: []vectorSecond{second2(0, first), second2(2, second), second2(4, last)}},
		{Name: "a waveform of 8,003 bytes", DataKey: counting(32, 7), Salt: counting(16, 0x40), Rendition: Peaks, Codec: byte(pieces), Count: 2,
			Seconds: []vectorSecond{second2(0, Second{Codec: pieces, Payload: counting(MaxPayload, 3)}), second2(1, Second{Codec: pieces, Payload: counting(3, 0)})}},
		{Name: "a voice in Opus of four seconds, of which the third is absent; a packet reaches from the first into the second", DataKey: counting(32, 3), Salt: counting(16, 0x20), Rendition: Voice, Codec: byte(audio.Opus), Count: 4,
			Seconds: []vectorSecond{second2(0, opusSecond(2, packetAt{10, 20}, packetAt{30, 40}, packetAt{98, 60})), second2(1, opusSecond(4, packetAt{4, 20}, packetAt{6, 10})), second2(3, opusSecond(0))}},
		{Name: "a voice of no second", DataKey: counting(32, 0), Salt: counting(16, 0), Rendition: Voice, Codec: byte(audio.PCMA), Seconds: []vectorSecond{}},
	}
}

// packetAt is a packet of Opus at a unit of its second, lasting so many
// milliseconds: 10, 20, 40 or 60.
type packetAt struct{ unit, millis int }

// opusSecond is a second of such packets in wide band, after one whose last
// packet reaches so many units into it.
func opusSecond(carried int, packets ...packetAt) Second {
	s := Second{Codec: audio.Opus}
	mark := func(u int) { s.Present[u/8] |= 1 << (u % 8) }
	for u := range carried {
		mark(u)
	}
	for _, p := range packets {
		toc := byte(8+map[int]int{10: 0, 20: 1, 40: 2, 60: 3}[p.millis]) << 3
		s.Payload, _ = audio.Packets(s.Payload).Add(p.unit, append([]byte{toc}, counting(p.millis, byte(p.unit))...))
		for u := p.unit; u < min(p.unit+p.millis/10, units); u++ {
			mark(u)
		}
	}
	return s
}

// fill seals what the vector plans.
func (v *vector) fill(t *testing.T) {
	v.Program, v.Call, v.Track = aProgram, aCall, aTrack
	p := place{v.Program, v.Call, v.Track, v.Rendition}
	v.Slot0 = header{codec: v.Codec, kind: kinds[v.Rendition], salt: [16]byte(v.Salt)}.slot()
	seal, err := newSeal(v.DataKey, v.Slot0, p)
	if err != nil {
		t.Fatal(err)
	}
	v.ContentKey, _ = deriveKey(v.DataKey, v.Salt, p)
	v.AAD = seal.aad[:]
	leaves := make([]hash, v.Count)
	for i := range leaves {
		leaves[i] = absent
	}
	for i := range v.Seconds {
		s := &v.Seconds[i]
		var slot [slotSize]byte
		if err := seal.second(&slot, s.N, &Second{Codec: audio.Codec(s.Codec), Present: [13]byte(s.Present), Payload: s.Payload}); err != nil {
			t.Fatal(err)
		}
		s.Sealed, leaves[s.N] = slot[:], leafHash(slot[:])
	}
	root := treeRoot(leaves)
	v.Root = root[:]
}

func TestVectors(t *testing.T) {
	t.Parallel()
	const file = "testdata/vectors.json"
	ours := plans()
	for i := range ours {
		ours[i].fill(t)
	}
	written, err := json.MarshalIndent(ours, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	written = append(written, '\n')
	if *update {
		if err := os.WriteFile(file, written, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	committed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(committed, written) {
		t.Errorf("what we seal is not what %s says", file)
	}
	// And the other way: what the file says opens.
	var vectors []vector
	if err := json.Unmarshal(committed, &vectors); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors {
		seal, err := newSeal(v.DataKey, v.Slot0, place{v.Program, v.Call, v.Track, v.Rendition})
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		for _, want := range v.Seconds {
			got, err := seal.open(want.Sealed, want.N)
			if err != nil {
				t.Errorf("%s: %v", v.Name, err)
				continue
			}
			if byte(got.Codec) != want.Codec || !bytes.Equal(got.Present[:], want.Present) || !bytes.Equal(got.Payload, want.Payload) {
				t.Errorf("%s: second %d differs", v.Name, want.N)
			}
		}
	}
}

// object is a sealed voice in parts, for those who tamper with it.
type object struct {
	key   []byte
	place place
	slot0 []byte
	slots [][]byte
}

func newObject(t *testing.T, p place, seconds int) *object {
	t.Helper()
	o := &object{key: counting(32, byte(seconds)), place: p, slot0: newHeader(byte(audio.PCMU), p.rendition).slot()}
	seal, err := newSeal(o.key, o.slot0, p)
	if err != nil {
		t.Fatal(err)
	}
	for n := range seconds {
		var slot [slotSize]byte
		s := all(counting(MaxPayload, byte(n)))
		if p.rendition != Voice {
			s = Second{Codec: pieces, Payload: s.Payload}
		}
		if err := seal.second(&slot, int64(n), &s); err != nil {
			t.Fatal(err)
		}
		o.slots = append(o.slots, slot[:])
	}
	return o
}

func (o *object) open(p place, slot0, slot []byte, n int64) error {
	seal, err := newSeal(o.key, slot0, p)
	if err != nil {
		return err
	}
	_, err = seal.open(bytes.Clone(slot), n)
	return err
}

func TestWhatWasMovedOrChangedDoesNotOpen(t *testing.T) {
	t.Parallel()
	home := place{aProgram, aCall, aTrack, Voice}
	o, other := newObject(t, home, 3), newObject(t, home, 3) // the same key and place, another salt
	if err := o.open(home, o.slot0, o.slots[1], 1); err != nil {
		t.Fatal(err)
	}
	flipped := func(b []byte, bit int) []byte {
		b = bytes.Clone(b)
		b[bit/8] ^= 1 << (bit % 8)
		return b
	}
	another := "trk_" + "dddddddddddddddddddddddddddddddd"
	for name, err := range map[string]error{
		"another program":             o.open(place{"prg_" + another[4:], aCall, aTrack, Voice}, o.slot0, o.slots[1], 1),
		"another call":                o.open(place{aProgram, "cal_" + another[4:], aTrack, Voice}, o.slot0, o.slots[1], 1),
		"another track":               o.open(place{aProgram, aCall, another, Voice}, o.slot0, o.slots[1], 1),
		"another rendition":           o.open(place{aProgram, aCall, aTrack, Peaks}, o.slot0, o.slots[1], 1),
		"shifted words":               o.open(place{aProgram + "c", aCall[1:], aTrack, Voice}, o.slot0, o.slots[1], 1),
		"another place in the order":  o.open(home, o.slot0, o.slots[1], 2),
		"spliced from another":        o.open(home, o.slot0, other.slots[1], 1),
		"another header":              o.open(home, other.slot0, o.slots[1], 1),
		"another codec in the header": o.open(home, header{codec: byte(audio.PCMA), kind: kinds[Voice], salt: [16]byte(o.slot0[atSalt:])}.slot(), o.slots[1], 1),
		"a rendition's header":        o.open(home, header{kind: kinds[Peaks], salt: [16]byte(o.slot0[atSalt:])}.slot(), o.slots[1], 1),
		"a hole":                      o.open(home, o.slot0, make([]byte, slotSize), 1),
		"a short slot":                o.open(home, o.slot0, o.slots[1][:slotSize-1], 1),
		"a long slot":                 o.open(home, o.slot0, append(bytes.Clone(o.slots[1]), 0), 1),
		"before the first":            o.open(home, o.slot0, o.slots[1], -1),
		"beyond the longest":          o.open(home, o.slot0, o.slots[1], MaxSeconds),
	} {
		if !errors.Is(err, yesline.Tampered) {
			t.Errorf("%s: got %v, want does not match", name, err)
		}
	}
	dice := rand.New(rand.NewPCG(3, 4))
	for _, bit := range append([]int{0, 8*chunkHead - 1, 8 * chunkHead, 8*chunkSize - 1, 8 * chunkSize, 8*slotSize - 1}, dice.Perm(8 * slotSize)[:100]...) {
		if err := o.open(home, o.slot0, flipped(o.slots[1], bit), 1); !errors.Is(err, yesline.Tampered) {
			t.Errorf("bit %d of a slot flipped: got %v, want does not match", bit, err)
		}
		if err := o.open(home, flipped(o.slot0, bit), o.slots[1], 1); !errors.Is(err, yesline.Tampered) {
			t.Errorf("bit %d of the header flipped: got %v, want does not match", bit, err)
		}
	}
	wrong := *o
	wrong.key = counting(32, 99)
	if err := wrong.open(home, o.slot0, o.slots[1], 1); !errors.Is(err, yesline.Tampered) {
		t.Errorf("another key: got %v, want does not match", err)
	}
}

// A header that says it is of another rendition is refused, whatever it seals.
func TestAHeaderOfAnotherRendition(t *testing.T) {
	t.Parallel()
	for _, kind := range []byte{0, kinds[Peaks], 99} {
		_, err := newSeal(counting(32, 0), header{kind: kind}.slot(), place{aProgram, aCall, aTrack, Voice})
		if !errors.Is(err, yesline.Tampered) {
			t.Errorf("kind %d: got %v, want does not match", kind, err)
		}
	}
	if _, err := newSeal(counting(32, 0), header{}.slot(), place{aProgram, aCall, aTrack, "nonsense"}); !errors.Is(err, yesline.Tampered) {
		t.Errorf("a rendition nobody knows: got %v, want does not match", err)
	}
}

// Even who has a track's key cannot put another second in its place, nor other
// rubbish in the place of a damaged one: the log knows each by its hash.
func TestASecondThatIsNotTheLogs(t *testing.T) {
	t.Parallel()
	home := place{aProgram, aCall, aTrack, Voice}
	o := newObject(t, home, 2)
	seal, _ := newSeal(o.key, o.slot0, home)
	rubbish := bytes.Repeat([]byte("rubbish "), slotSize/8)
	logged := &tree{leaves: []hash{leafHash(o.slots[0]), leafHash(rubbish)}, damaged: map[int64]bool{1: true}}
	if s, err := logged.second(seal, 1, bytes.Clone(rubbish)); err != nil || s.Payload != nil || s.Present != [13]byte{} {
		t.Errorf("a second that the log calls damaged: %v", err)
	}
	var forged [slotSize]byte
	s := all([]byte("words that were never said"))
	if err := seal.second(&forged, 0, &s); err != nil {
		t.Fatal(err)
	}
	if _, err := logged.second(seal, 0, forged[:]); !errors.Is(err, yesline.Tampered) {
		t.Errorf("a forged second: got %v, want does not match", err)
	}
	if _, err := logged.second(seal, 1, append(rubbish[1:], 'x')); !errors.Is(err, yesline.Tampered) {
		t.Errorf("other rubbish: got %v, want does not match", err)
	}
}

// Nor is one waveform of a track another: both are sealed under its key.
func TestAWaveformThatIsNotTheLogs(t *testing.T) {
	t.Parallel()
	p, key, h := place{aProgram, aCall, aTrack, Peaks}, counting(32, 0), newHeader(byte(pieces), Peaks)
	logged, leaves, err := sealPieces(key, h, p, counting(9000, 1))
	if err != nil {
		t.Fatal(err)
	}
	other, _, _ := sealPieces(key, h, p, counting(9000, 2))
	t1 := &tree{seconds: 2, bytes: 9000, root: treeRoot(leaves)}
	seal, _ := newSeal(key, h.slot(), p)
	if got, err := openPieces(seal, bytes.Clone(logged[slotSize:]), t1); err != nil || !bytes.Equal(got, counting(9000, 1)) {
		t.Fatalf("the one that is in the log: %v", err)
	}
	if _, err := openPieces(seal, other[slotSize:], t1); !errors.Is(err, yesline.Tampered) {
		t.Errorf("another: got %v, want does not match", err)
	}
	t1.bytes = 8999
	if _, err := openPieces(seal, logged[slotSize:], t1); !errors.Is(err, yesline.Tampered) {
		t.Errorf("of another length: got %v, want does not match", err)
	}
}

// A chunk of a form that we never seal does not open, though its seal is good.
func TestForeignChunksDoNotOpen(t *testing.T) {
	t.Parallel()
	home := place{aProgram, aCall, aTrack, Voice}
	o := newObject(t, home, 1)
	seal, _ := newSeal(o.key, o.slot0, home)
	for name, change := range map[string]func(chunk []byte){
		"version 2":           func(c []byte) { c[0] = 2 },
		"bytes in a voice":    func(c []byte) { c[1] = byte(pieces) },
		"an unknown codec":    func(c []byte) { c[1] = 99 },
		"too long":            func(c []byte) { c[2], c[3] = 0x1f, 0x41 },
		"unit 100":            func(c []byte) { c[4+12] |= 0x10 },
		"a reserved byte":     func(c []byte) { c[17] = 1 },
		"the last reserved":   func(c []byte) { c[chunkHead-1] = 1 },
		"bytes after the end": func(c []byte) { c[2], c[3] = 0, 4 },
	} {
		slot := make([]byte, slotSize)
		slot[0], slot[1], slot[3] = 1, byte(audio.PCMU), 8
		copy(slot[chunkHead:], "payload!")
		change(slot)
		seal.aead.Seal(slot[:0], nonce(0), slot[:chunkSize], seal.aad[:])
		if _, err := seal.open(slot, 0); !errors.Is(err, yesline.Tampered) {
			t.Errorf("%s: got %v, want does not match", name, err)
		}
	}
}

func TestWhatCannotBeSealed(t *testing.T) {
	t.Parallel()
	home := place{aProgram, aCall, aTrack, Voice}
	o := newObject(t, home, 0)
	seal, _ := newSeal(o.key, o.slot0, home)
	unit100 := all(nil)
	unit100.Present[12] |= 0x10
	for name, s := range map[string]Second{
		"too long": all(make([]byte, MaxPayload+1)), "unit 100": unit100, "bytes": {Codec: pieces}, "a codec nobody knows": {Codec: 77},
	} {
		var slot [slotSize]byte
		if err := seal.second(&slot, 0, &s); !errors.Is(err, yesline.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
	for _, n := range []int64{-1, MaxSeconds} {
		var slot [slotSize]byte
		s := all(nil)
		if err := seal.second(&slot, n, &s); !errors.Is(err, yesline.Invalid) {
			t.Errorf("second %d: got %v, want invalid", n, err)
		}
	}
	if _, err := newSeal(o.key[:16], o.slot0, home); !errors.Is(err, yesline.Invalid) {
		t.Errorf("a short key: got %v, want invalid", err)
	}
	if _, err := newSeal(nil, o.slot0, home); !errors.Is(err, yesline.Invalid) {
		t.Errorf("no key: got %v, want invalid", err)
	}
}

// A voice in Opus holds well-formed packets and nothing else, another voice no
// Opus: neither is sealed, nor opens though its seal is good.
func TestWhatIsNoSecondOfOpus(t *testing.T) {
	t.Parallel()
	home := place{aProgram, aCall, aTrack, Voice}
	sealOf := func(codec audio.Codec) *seal {
		k, err := newSeal(counting(32, 0), header{codec: byte(codec), kind: kinds[Voice]}.slot(), home)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	inOpus, inMuLaw := sealOf(audio.Opus), sealOf(audio.PCMU)
	good := opusSecond(3, packetAt{3, 20}, packetAt{99, 60})
	var slot [slotSize]byte
	if err := inOpus.second(&slot, 0, &good); err != nil {
		t.Fatal(err)
	}
	changed := func(change func(s *Second)) Second {
		s := good
		s.Payload = bytes.Clone(s.Payload)
		change(&s)
		return s
	}
	for name, c := range map[string]struct {
		in *seal
		s  Second
	}{
		"opus in mu-law":            {inMuLaw, good},
		"mu-law in opus":            {inOpus, all(counting(MaxPayload, 1))},
		"no mark":                   {inOpus, changed(func(s *Second) { s.Present[0] &^= 0x10 })},
		"a mark without a packet":   {inOpus, changed(func(s *Second) { s.Present[5] = 1 })},
		"half a packet":             {inOpus, changed(func(s *Second) { s.Payload = s.Payload[:len(s.Payload)-1] })},
		"a byte behind the packets": {inOpus, changed(func(s *Second) { s.Payload = append(s.Payload, 0) })},
		"packets out of order":      {inOpus, changed(func(s *Second) { s.Payload[0] = 100 - 1 })},
		"a packet that is none":     {inOpus, changed(func(s *Second) { s.Payload[3] |= 3; s.Payload[4] = 0 })},
	} {
		if err := c.in.second(&slot, 0, &c.s); !errors.Is(err, yesline.Invalid) {
			t.Errorf("sealing %s: got %v, want invalid", name, err)
		}
		chunk := make([]byte, slotSize)
		chunk[0], chunk[1], chunk[2], chunk[3] = objectVersion, byte(c.s.Codec), byte(len(c.s.Payload)>>8), byte(len(c.s.Payload))
		copy(chunk[4:], c.s.Present[:])
		copy(chunk[chunkHead:], c.s.Payload)
		c.in.aead.Seal(chunk[:0], nonce(0), chunk[:chunkSize], c.in.aad[:])
		if _, err := c.in.open(chunk, 0); !errors.Is(err, yesline.Tampered) {
			t.Errorf("opening %s: got %v, want does not match", name, err)
		}
	}
	if MaxPayload != audio.PacketsMost {
		t.Errorf("a second holds %d bytes, of packets %d", MaxPayload, audio.PacketsMost)
	}
}

// The tree is the one of RFC 6962, by somebody else's code.
func TestTreeRoot(t *testing.T) {
	t.Parallel()
	var leaves []hash
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(at []int64) (out []tlog.Hash, err error) {
		for _, i := range at {
			out = append(out, stored[i])
		}
		return out, nil
	})
	for n := range int64(300) {
		want, err := tlog.TreeHash(n, reader)
		if err != nil {
			t.Fatal(err)
		}
		if got := treeRoot(leaves); n > 0 && got != hash(want) {
			t.Fatalf("root of %d leaves: got %x, want %x", n, got, want)
		}
		slot := counting(slotSize, byte(n))
		if n%3 == 0 {
			slot = nil
		}
		leaves = append(leaves, leafHash(slot))
		more, err := tlog.StoredHashes(n, slot, reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, more...)
	}
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // RFC 6962, section 2.1: SHA-256()
	if got := treeRoot(nil); hex.EncodeToString(got[:]) != empty {
		t.Errorf("root of nothing: got %x", got)
	}
}

func FuzzHeader(f *testing.F) {
	f.Add(newHeader(byte(audio.PCMU), Voice).slot())
	f.Fuzz(func(t *testing.T, slot []byte) {
		h, err := parseHeader(slot)
		if err != nil {
			if !errors.Is(err, yesline.Tampered) {
				t.Fatalf("got %v, want does not match", err)
			}
			return
		}
		if !bytes.Equal(h.slot(), slot) {
			t.Fatal("a header that is read is not the one that is written")
		}
	})
}

// FuzzChunk reads what was sealed, and the slot as it comes from a file.
func FuzzChunk(f *testing.F) {
	home := place{aProgram, aCall, aTrack, Voice}
	slot0 := header{kind: kinds[Voice]}.slot()
	seal, err := newSeal(counting(32, 0), slot0, home)
	if err != nil {
		f.Fatal(err)
	}
	var whole [slotSize]byte
	s := all(counting(100, 0))
	if err := seal.second(&whole, 0, &s); err != nil {
		f.Fatal(err)
	}
	f.Add(whole[:])
	plain, err := seal.aead.Open(nil, nonce(0), whole[:], seal.aad[:])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := seal.open(bytes.Clone(b), 0); (err == nil) != bytes.Equal(b, whole[:]) {
			t.Fatalf("opening a slot: %v", err)
		}
		if len(b) > chunkSize {
			b = b[:chunkSize]
		}
		s, err := parseChunk(b)
		if err != nil || seal.check(&s) != nil {
			return
		}
		var again [slotSize]byte
		if err := seal.second(&again, 1, &s); err != nil {
			t.Fatalf("what was read cannot be sealed: %v", err)
		}
		plain, err := seal.aead.Open(nil, nonce(1), again[:], seal.aad[:])
		if err != nil || !bytes.Equal(plain, b) {
			t.Fatal("a chunk that is read is not the one that is written")
		}
	})
}

// FuzzOpusChunk is FuzzChunk for a voice in Opus.
func FuzzOpusChunk(f *testing.F) {
	seal, err := newSeal(counting(32, 0), header{codec: byte(audio.Opus), kind: kinds[Voice]}.slot(), place{aProgram, aCall, aTrack, Voice})
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []Second{opusSecond(0), opusSecond(2, packetAt{10, 20}, packetAt{98, 60})} {
		f.Add(s.Present[:], s.Payload)
	}
	f.Fuzz(func(t *testing.T, present, payload []byte) {
		s := Second{Codec: audio.Opus, Payload: payload}
		copy(s.Present[:], present)
		var slot [slotSize]byte
		if seal.second(&slot, 1, &s) != nil {
			return
		}
		got, err := seal.open(slot[:], 1)
		if err != nil || got.Present != s.Present || !bytes.Equal(got.Payload, payload) {
			t.Fatalf("what was sealed is not what opens: %v", err)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	home := place{aProgram, aCall, aTrack, Voice}
	seal, _ := newSeal(counting(32, 0), header{kind: kinds[Voice]}.slot(), home)
	s, slot := all(counting(MaxPayload, 0)), new([slotSize]byte)
	b.SetBytes(slotSize)
	for n := int64(0); b.Loop(); n++ {
		if err := seal.second(slot, n%MaxSeconds, &s); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen is what reading does to a slot: check it against its leaf and
// open it.
func BenchmarkOpen(b *testing.B) {
	home := place{aProgram, aCall, aTrack, Voice}
	seal, _ := newSeal(counting(32, 0), header{kind: kinds[Voice]}.slot(), home)
	s, slot, spent := all(counting(MaxPayload, 0)), new([slotSize]byte), make([]byte, slotSize)
	if err := seal.second(slot, 0, &s); err != nil {
		b.Fatal(err)
	}
	t := &tree{leaves: []hash{leafHash(slot[:])}}
	b.SetBytes(slotSize)
	for b.Loop() {
		copy(spent, slot[:])
		if _, err := t.second(seal, 0, spent); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRawGCM is the limit that the two stand beside.
func BenchmarkRawGCM(b *testing.B) {
	block, _ := aes.NewCipher(counting(32, 0))
	aead, _ := cipher.NewGCM(block)
	plain, iv, aad := make([]byte, chunkSize), make([]byte, 12), make([]byte, 32)
	sealed := aead.Seal(nil, iv, plain, aad)
	b.Run("seal", func(b *testing.B) {
		b.SetBytes(slotSize)
		for b.Loop() {
			sealed = aead.Seal(sealed[:0], iv, plain, aad)
		}
	})
	b.Run("open", func(b *testing.B) {
		b.SetBytes(slotSize)
		for b.Loop() {
			if _, err := aead.Open(plain[:0], iv, sealed, aad); err != nil {
				b.Fatal(err)
			}
		}
	})
}
