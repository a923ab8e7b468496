package media

import (
	"bytes"
	"crypto/aes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"yesline"
)

// pions are the profiles by which pion knows them.
var pions = map[string]srtp.ProtectionProfile{
	"AES_CM_128_HMAC_SHA1_80": srtp.ProtectionProfileAes128CmHmacSha1_80,
	"AES_CM_128_HMAC_SHA1_32": srtp.ProtectionProfileAes128CmHmacSha1_32,
	"AEAD_AES_128_GCM":        srtp.ProtectionProfileAeadAes128Gcm,
	"AEAD_AES_256_GCM":        srtp.ProtectionProfileAeadAes256Gcm,
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// roomy is a copy with room for a tag.
func roomy(packet []byte) []byte { return append(make([]byte, 0, len(packet)+gcmTag), packet...) }

func testTransform(t testing.TB, profile string) *transform {
	t.Helper()
	k, err := newTransform(testKey(profile, 1))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// RFC 3711, B.2.
func TestKeystreamOfTheRFC(t *testing.T) {
	t.Parallel()
	block, err := aes.NewCipher(unhex(t, "2B7E151628AED2A6ABF7158809CF4F3C"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := counterMode(block, unhex(t, "F0F1F2F3F4F5F6F7F8F9FAFBFCFD"), make([]byte, 20), 10)
	if err != nil {
		t.Fatal(err)
	}
	packet := make([]byte, 12+48, 12+48+10)
	packet[0] = 0x80
	sealed, err := k.seal(&tools{}, packet)
	if err != nil {
		t.Fatal(err)
	}
	want := unhex(t, "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB 41E95B3BB0A2E8DD477901E4FCA894C0")
	if got := sealed[12:60]; !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

// RFC 3711, B.3.
func TestKeysOfTheRFC(t *testing.T) {
	t.Parallel()
	master, err := aes.NewCipher(unhex(t, "E1F97A0D3E018BE0D64FA32C06DE4139"))
	if err != nil {
		t.Fatal(err)
	}
	salt := unhex(t, "0EC675AD498AFEEBB6960B3AABE6")
	for label, want := range []string{
		"C61E7A93744F39EE10734AFE3FF7A087",
		"CEBE321F6FF7716B6FD4AB49AF256A15 6D38BAA48F0A0ACF3C34E2359E6CDBCE E049646C43D9327AD175578EF7227098" +
			"6371C10C9A369AC2F94A8C5FBCDDDC25 6D6E919A48B610EF17C2041E47403576 6B68642C59BBFC2F34DB60DBDFB2",
		"30CBBC08863D8C85D49DB34A9AE1",
	} {
		want := unhex(t, want)
		if got := derive(master, salt, byte(label), len(want)); !bytes.Equal(got, want) {
			t.Errorf("label %d: got %x, want %x", label, got, want)
		}
	}
}

// RFC 7714, 16.1.1 and 16.1.2, 16.2.1 and 16.2.2.
func TestGCMOfTheRFC(t *testing.T) {
	t.Parallel()
	clear := unhex(t, "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465 73207472 6573")
	for key, want := range map[string]string{
		"000102030405060708090a0b0c0d0e0f": "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5" +
			"0d294e6f 42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
		"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f": "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238" +
			"9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
	} {
		want := unhex(t, want)
		end := func() *transform {
			block, err := aes.NewCipher(unhex(t, key))
			if err != nil {
				t.Fatal(err)
			}
			k, err := gcm(block, unhex(t, "517569642070726f2071756f"))
			if err != nil {
				t.Fatal(err)
			}
			return k
		}
		got, err := end().seal(&tools{}, roomy(clear))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("sealed as %x, %v\nwant %x", got, err, want)
		}
		got, err = end().open(&tools{}, want)
		if err != nil || !bytes.Equal(got, clear) {
			t.Errorf("opened as %x, %v", got, err)
		}
	}
}

// peers are one key in both directions, ours and pion's, and what a sender
// really did.
type peers struct {
	ours, oursIn   *transform
	pion, pionIn   *srtp.Context
	tools          tools
	sources        [maxSources]model
	sealed, waited [][]byte
}

// model is a source as its sender knows it: whole indexes, no guesses.
type model struct {
	begun bool
	top   int64
	used  map[int64]bool
}

func newPeers(t testing.TB, profile string) *peers {
	t.Helper()
	k := testKey(profile, 1)
	p := &peers{ours: testTransform(t, profile), oursIn: testTransform(t, profile)}
	p.pion, p.pionIn = sealed(t, k)
	return p
}

// say seals a packet on both sides, so far from the source's newest, which must
// give the same bytes, or none of ours where the number was used.
func (p *peers) say(t testing.TB, of byte, by int64, header, payload int) {
	m := &p.sources[of%maxSources]
	if !m.begun {
		*m = model{begun: true, top: int64(of) * 257, used: map[int64]bool{}} // below 2^15 or above, by source
		by = 0
	}
	index := m.top + by
	if index < 0 {
		return
	}
	packet := clearPacket(uint32(of%maxSources), uint16(index), header, payload)
	want, err := p.pion.EncryptRTP(nil, packet, nil)
	if err != nil {
		t.Fatal(err)
	}
	spent := m.used[index] || m.top-index >= replayWindow
	got, err := p.ours.seal(&p.tools, roomy(packet))
	switch {
	case spent && !errors.Is(err, errReplayed):
		t.Fatalf("index %d of %d was sealed twice, or may have been: %v", index, m.top, err)
	case spent:
		return
	case err != nil || !bytes.Equal(got, want):
		t.Fatalf("index %d of %d: sealed as %x, %v, pion as %x", index, m.top, got, err, want)
	}
	m.used[index], m.top = true, max(m.top, index)
	p.sealed = append(p.sealed, got)
}

// clearPacket has contributing sources and an extension as header's bits say.
func clearPacket(ssrc uint32, seq uint16, header, payload int) []byte {
	h := rtp.Header{Version: 2, SSRC: ssrc, SequenceNumber: seq, Timestamp: uint32(seq) * 160, CSRC: []uint32{1, 2, 3}[:header&3]}
	if header&4 != 0 {
		h.SetExtension(1, make([]byte, 1+header&7))
	}
	b, err := (&rtp.Packet{Header: h, Payload: bytes.Repeat([]byte{byte(seq)}, payload)}).Marshal()
	if err != nil {
		panic(err)
	}
	return b
}

// hear opens a packet on both sides: both take it and give the same, or both
// refuse it for the same reason and nothing changed.
func (p *peers) hear(t testing.TB, packet []byte) {
	want, pionErr := p.pionIn.DecryptRTP(nil, packet, nil)
	before, others := *p.oursIn, [maxSources - 1]source{}
	if before.others != nil {
		others = *before.others
	}
	got, err := p.oursIn.open(&p.tools, bytes.Clone(packet))
	why := reason(pionErr)
	switch {
	case why == nil && err == nil && bytes.Equal(got, want):
		return
	case why == nil:
		t.Fatalf("pion opens %x as %x, we as %x, %v", packet, want, got, err)
	case err == nil, why != errShort && !errors.Is(err, why): // pion reads extensions, we do not
		t.Fatalf("pion refuses %x: %v; ours is %v", packet, pionErr, err)
	case got != nil, *p.oursIn != before, others != [maxSources - 1]source{} && others != *before.others:
		t.Fatalf("a packet that was refused left something: %x", packet)
	}
}

// reason is our word for what pion says; errShort is anything about the form.
func reason(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, srtp.ErrFailedToVerifyAuthTag):
		return errForged
	case strings.Contains(err.Error(), "duplicated packet"):
		return errReplayed
	case strings.Contains(err.Error(), "cryptex"):
		return errCryptex
	}
	return errShort
}

// play does what a script says, four bytes a step: what, and how.
func (p *peers) play(t testing.TB, script []byte) {
	for ; len(script) >= 4; script = script[4:] {
		what, of, how := script[0], script[1], binary.BigEndian.Uint16(script[2:])
		last := []byte(nil)
		switch what % 8 {
		case 0: // the next, or after some that are lost
			p.say(t, of, 1+int64(how%4), int(what>>3), int(how>>2)%64)
		case 1: // as far as can be told
			p.say(t, of, int64(int16(how)), int(what>>3), 20)
		case 2: // a late one, or again
			p.say(t, of, -int64(how%160), int(what>>3), 160)
		case 3: // it waits, and those that waited come in another order
			if len(p.sealed) > 0 {
				p.waited = append(p.waited, p.sealed[len(p.sealed)-1])
				p.sealed = p.sealed[:len(p.sealed)-1]
			}
			if how%8 == 0 {
				for _, packet := range slices.Backward(p.waited) {
					p.hear(t, packet)
				}
				p.waited = nil
			}
			continue
		case 4: // one of before, again
			if len(p.sealed) > 0 {
				p.hear(t, p.sealed[len(p.sealed)-1-int(how)%len(p.sealed)])
			}
			continue
		case 5: // bent
			if len(p.sealed) > 0 {
				last = bytes.Clone(p.sealed[len(p.sealed)-1])
				last[int(how>>3)%len(last)] ^= 1 << (how & 7)
				p.hear(t, last)
			}
			continue
		case 6: // cut
			if len(p.sealed) > 0 {
				last = p.sealed[len(p.sealed)-1]
				p.hear(t, last[:int(how)%len(last)])
			}
			continue
		case 7: // anything
			p.hear(t, script[:min(len(script), int(of))])
			continue
		}
		if len(p.sealed) > 0 && of&0x80 == 0 {
			p.hear(t, p.sealed[len(p.sealed)-1])
		}
	}
	for _, packet := range p.sealed { // all once more: taken or not, both agree
		p.hear(t, packet)
	}
}

// What pion seals we open, what we seal pion opens, and what one refuses the
// other does, whatever the network does in between.
func TestSRTPBesidePion(t *testing.T) {
	t.Parallel()
	for profile := range profiles {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(60) {
				dice := rand.New(rand.NewPCG(seed, 7))
				script := make([]byte, 4*300)
				for i := range script {
					script[i] = byte(dice.Uint32())
				}
				newPeers(t, profile).play(t, script)
			}
		})
	}
}

// FuzzSRTP plays a script, behind a byte that names the profile.
func FuzzSRTP(f *testing.F) {
	var names []string
	for name := range profiles {
		names = append(names, name)
	}
	slices.Sort(names)
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 0 && len(script) < 1<<14 {
			newPeers(t, names[int(script[0])%len(names)]).play(t, script[1:])
		}
	})
}

// Late packets of before the numbers wrapped are taken, once, and those after
// it wherever the window stands.
func TestNumbersThatWrap(t *testing.T) {
	t.Parallel()
	for profile := range profiles {
		p := newPeers(t, profile)
		for range 7 {
			p.say(t, 0, 30000, 0, 20)
		}
		p.say(t, 0, 65535-p.sources[0].top%65536, 0, 20) // the last before a wrap
		p.say(t, 0, 3, 0, 20)
		for _, by := range []int64{-1, -3, -4, -127, -3, -128, 0} { // -128 and those again are refused
			p.say(t, 0, by, 0, 20)
		}
		if len(p.sealed) != 12 {
			t.Fatalf("%s: only %d packets", profile, len(p.sealed))
		}
		for _, packet := range p.sealed {
			p.hear(t, packet)
		}
		for _, packet := range p.sealed {
			if _, err := p.oursIn.open(&p.tools, bytes.Clone(packet)); !errors.Is(err, errReplayed) && !errors.Is(err, errForged) {
				t.Errorf("%s: again: %v", profile, err)
			}
		}
	}
}

// The last index, 2^48-1, is sealed as pion does, and nothing after it: the next
// would be the first again.
func TestNumbersEnd(t *testing.T) {
	t.Parallel()
	for profile := range profiles {
		out, in, w := testTransform(t, profile), testTransform(t, profile), &tools{}
		for _, k := range []*transform{out, in} {
			k.last = source{ssrc: 1, begun: true, top: maxIndex - 1, seen: [2]uint64{1}}
		}
		pion, _ := sealed(t, testKey(profile, 1))
		pion.SetROC(1, maxIndex>>16)
		last, err := out.seal(w, roomy(packet(1, 65535)))
		want, pionErr := pion.EncryptRTP(nil, packet(1, 65535), nil)
		if err != nil || pionErr != nil || !bytes.Equal(last, want) {
			t.Errorf("%s: the last is sealed as %x, %v, by pion as %x, %v", profile, last, err, want, pionErr)
		}
		if opened, err := in.open(w, last); err != nil || !bytes.Equal(opened, packet(1, 65535)) {
			t.Errorf("%s: the last opens as %x, %v", profile, opened, err)
		}
		if _, err := out.seal(w, roomy(packet(1, 0))); !errors.Is(err, errSpent) {
			t.Errorf("%s: sealed after the last: %v", profile, err)
		}
		if _, err := in.open(w, append(packet(1, 0), make([]byte, gcmTag)...)); !errors.Is(err, errSpent) {
			t.Errorf("%s: opened after the last: %v", profile, err)
		}
	}
}

// A stream of ours begins where nobody takes a lost beginning for another
// rollover.
func TestAStreamBeginsLow(t *testing.T) {
	t.Parallel()
	for range 100 {
		if s := newStream(&Plane{}, nil); s.out.seq >= 1<<15 {
			t.Fatalf("its first number is %d", s.out.seq)
		}
	}
}

// A key keeps what it carried of each source, and takes no more than so many:
// of whom it forgot, a packet could come twice.
func TestSourcesOfAKey(t *testing.T) {
	t.Parallel()
	for profile := range profiles {
		out, in, w := testTransform(t, profile), testTransform(t, profile), &tools{}
		_, far := sealed(t, testKey(profile, 1))
		from, _ := sealed(t, testKey(profile, 1))
		for round := range uint16(3) {
			for ssrc := range uint32(maxSources + 2) {
				clear := packet(ssrc, round+1)
				got, err := out.seal(w, roomy(clear))
				theirs, _ := from.EncryptRTP(nil, clear, nil)
				opened, openErr := in.open(w, theirs)
				if ssrc >= maxSources {
					if got != nil || opened != nil || !errors.Is(err, errSources) || !errors.Is(openErr, errSources) {
						t.Errorf("%s: source %d: %v, %v", profile, ssrc, err, openErr)
					}
					continue
				}
				if err != nil || openErr != nil || !bytes.Equal(opened, clear) {
					t.Fatalf("%s: source %d: %v, %v", profile, ssrc, err, openErr)
				}
				if clear, err = far.DecryptRTP(nil, got, nil); err != nil || !bytes.Equal(clear, opened) {
					t.Errorf("%s: source %d is not heard: %v", profile, ssrc, err)
				}
			}
		}
		for ssrc := range uint32(maxSources) {
			for seq := range uint16(3) {
				if _, err := out.seal(w, roomy(packet(ssrc, seq+1))); !errors.Is(err, errReplayed) {
					t.Errorf("%s: number %d of source %d was sealed again: %v", profile, seq+1, ssrc, err)
				}
			}
		}
	}
}

// What is too long or cut off is refused, and so is a header that is encrypted
// (RFC 9335). A payload may be empty.
func TestFormsOfPackets(t *testing.T) {
	t.Parallel()
	form := func(bits byte, more ...byte) []byte {
		return slices.Concat([]byte{0x80 | bits}, packet(1, 1)[1:12], more)
	}
	for what, c := range map[string]struct {
		packet []byte
		want   error
	}{
		"nothing but a header":           {form(0), nil},
		"the longest":                    {form(0, make([]byte, maxRTP)...), nil},
		"too long":                       {form(0, make([]byte, maxRTP+1)...), errLong},
		"a contributing source":          {form(1, 1, 2, 3, 4), nil},
		"half of one":                    {form(1, 1, 2), errShort},
		"an extension":                   {form(0x10, 0xbe, 0xde, 0, 1, 0, 0, 0, 0), nil},
		"half of one, and its head":      {form(0x10, 0xbe, 0xde, 0, 1, 0, 0, 0), errShort},
		"half of its head":               {form(0x10, 0xbe, 0xde, 0), errShort},
		"an encrypted header":            {form(0x10, 0xc0, 0xde, 0, 1, 0, 0, 0, 0), errCryptex},
		"an encrypted header, the other": {form(0x10, 0xc2, 0xde, 0, 1, 0, 0, 0, 0), errCryptex},
	} {
		for profile, p := range profiles {
			w := &tools{}
			got, err := testTransform(t, profile).seal(w, roomy(c.packet))
			if !errors.Is(err, c.want) {
				t.Errorf("%s: %s: %v", profile, what, err)
			}
			if c.want != nil {
				got = append(bytes.Clone(c.packet), make([]byte, p.tag)...)
			}
			opened, err := testTransform(t, profile).open(w, got)
			if !errors.Is(err, c.want) || c.want == nil && !bytes.Equal(opened, c.packet) {
				t.Errorf("%s: %s opens as %x, %v", profile, what, opened, err)
			}
		}
	}
	for profile, p := range profiles {
		k, w := testTransform(t, profile), &tools{}
		if _, err := k.seal(w, roomy(form(0))[:12:11+p.tag]); !errors.Is(err, errLong) || k.last.begun {
			t.Errorf("%s: sealed where there is no room for a tag: %v", profile, err)
		}
		for n := range 12 {
			if _, err := k.open(w, form(0)[:n]); !errors.Is(err, errShort) {
				t.Errorf("%s: %d bytes: %v", profile, n, err)
			}
			if _, err := k.seal(w, roomy(form(0)[:n])); !errors.Is(err, errShort) {
				t.Errorf("%s: %d bytes: %v", profile, n, err)
			}
		}
	}
	if _, err := newTransform(&Crypto{Profile: "AEAD_AES_128_GCM", Key: make([]byte, 16), Salt: make([]byte, 14)}); !errors.Is(err, yesline.Invalid) {
		t.Errorf("a salt that is too long: %v", err)
	}
}

// A party that begins one source too many under a key is not heard any more, and
// that is counted as what it is.
func TestTooManySourcesOfAParty(t *testing.T) {
	t.Parallel()
	p := testPlane(t, Config{From: 30720, To: 30730})
	c := newCouple(p)
	a := agreed(home)
	a.In, a.Relearn = testKey("AEAD_AES_128_GCM", 1), true
	out, _ := sealed(t, a.In)
	for ssrc := range uint32(maxSources + 1) {
		c.Agree(a)
		c.ear.said()
		b, err := out.EncryptRTP(nil, packet(ssrc, 1), nil)
		if err != nil {
			t.Fatal(err)
		}
		c.from(home, b, time.Now())
		if heard := strings.HasSuffix(c.ear.said(), "160 no1"); heard != (ssrc < maxSources) {
			t.Errorf("source %d: heard %v", ssrc, heard)
		}
	}
	if n := p.Counters(); n.Foreign.Load() != 1 || n.Probes.Load() != 1 {
		t.Errorf("%d foreign of %d probes", n.Foreign.Load(), n.Probes.Load())
	}
}

// What a packet touches of a transform is two cache lines, and nothing is
// allocated for it.
func TestAPacketTouchesLittle(t *testing.T) {
	if size := reflect.TypeFor[transform]().Size(); size > 128 {
		t.Errorf("a transform has %d bytes", size)
	}
	for profile := range profiles {
		out, in, w := testTransform(t, profile), testTransform(t, profile), &tools{}
		seq, b := uint16(0), make([]byte, 0, 256)
		say := func() {
			seq++
			for ssrc := range uint32(2) {
				b = b[:172]
				b[0], b[11] = 0x80, byte(ssrc)
				binary.BigEndian.PutUint16(b[2:], seq)
				sealed, err := out.seal(w, b)
				if err == nil {
					_, err = in.open(w, sealed)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		say()                                                        // tools and room for a second source are made at first
		if n := testing.AllocsPerRun(1000, say); n != 0 && !racing { // the detector allocates for itself
			t.Errorf("%s: %v allocations for four packets", profile, n)
		}
	}
}

// BenchmarkSRTP decrypts and encrypts packets of many parties in turn, as the
// plane does in a bridge of calls, with our transform and with pion's.
func BenchmarkSRTP(b *testing.B) {
	var w tools
	header, room := &rtp.Header{}, make([]byte, 0, maxRTP)
	ours := func(k *Crypto) (open, seal func([]byte) ([]byte, error)) {
		t, err := newTransform(k)
		if err != nil {
			b.Fatal(err)
		}
		return func(p []byte) ([]byte, error) { return t.open(&w, p) }, func(p []byte) ([]byte, error) { return t.seal(&w, p) }
	}
	pion := func(k *Crypto) (open, seal func([]byte) ([]byte, error)) {
		c, err := srtp.CreateContext(k.Key, k.Salt, pions[k.Profile], srtp.SRTPReplayProtection(replayWindow))
		if err != nil {
			b.Fatal(err)
		}
		return func(p []byte) ([]byte, error) { return c.DecryptRTP(room, p, header) }, func(p []byte) ([]byte, error) { return c.EncryptRTP(p, p, header) }
	}
	for _, profile := range []string{"AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM"} {
		for _, keys := range []int{1, 1600} {
			b.Run(fmt.Sprintf("%s/keys=%d/pion", profile, keys), func(b *testing.B) { benchSRTP(b, profile, keys, pion) })
			b.Run(fmt.Sprintf("%s/keys=%d/ours", profile, keys), func(b *testing.B) { benchSRTP(b, profile, keys, ours) })
		}
	}
}

func benchSRTP(b *testing.B, profile string, parties int, with func(*Crypto) (open, seal func([]byte) ([]byte, error))) {
	const rounds = 8
	type party struct{ far, in, out func([]byte) ([]byte, error) }
	all := make([]party, parties)
	key := func(i int) *Crypto {
		k := testKey(profile, 1)
		binary.BigEndian.PutUint32(k.Key, uint32(i))
		return k
	}
	for i := range all {
		_, all[i].far = with(key(i))
	}
	before := heap()
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(parties) { // calls come and go: who is next in time is not next in memory
		all[i].in, _ = with(key(i))
		_, all[i].out = with(key(i + parties))
	}
	waiting, seq := make([][256]byte, parties*rounds), uint16(0)
	size := 172 + profiles[profile].tag
	speak := func() {
		for at := range waiting {
			if at%parties == 0 {
				seq++
			}
			packet := waiting[at][:172]
			packet[0], packet[11] = 0x80, 1
			binary.BigEndian.PutUint16(packet[2:], seq)
			if _, err := all[at%parties].far(packet); err != nil {
				b.Fatal(err)
			}
		}
	}
	var desk [256]byte
	pass := func(at int) {
		packet, err := all[at%parties].in(desk[:copy(desk[:], waiting[at][:size])])
		if err == nil {
			_, err = all[at%parties].out(packet)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	speak()
	for at := range waiting {
		pass(at)
	}
	after := heap() - int64(len(waiting)*len(waiting[0]))
	b.ReportAllocs()
	at := len(waiting)
	for b.Loop() {
		if at == len(waiting) {
			b.StopTimer()
			speak()
			at = 0
			b.StartTimer()
		}
		pass(at)
		at++
	}
	b.ReportMetric(float64(after-before)/float64(2*parties), "heap-B/key")
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
