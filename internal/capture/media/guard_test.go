package media

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"yesline"
	"yesline/internal/audio"
)

// ear is a listener that remembers.
type ear struct {
	mu    sync.Mutex
	heard []string
}

func (e *ear) note(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = append(e.heard, fmt.Sprintf(format, args...))
}
func (e *ear) Heard(stamp uint32, payload []byte, _ time.Time) { e.note("%d %s", stamp, payload) }
func (e *ear) Key(key byte, _ time.Time, locked bool)          { e.note("key %c %v", key, locked) }
func (e *ear) Hold(on bool)                                    { e.note("hold %v", on) }
func (e *ear) Relearn()                                        { e.note("relearn") }
func (e *ear) LogValue() slog.Value                            { return slog.StringValue("leg_1") }

// said gives what was heard since the last time.
func (e *ear) said() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := strings.Join(e.heard, ", ")
	e.heard = nil
	return all
}

// couple is a stream without a socket that keeps the rules of one with a
// socket, and what whoever hears it is sent.
type couple struct {
	*Stream
	ear  *ear
	sent [][]byte
	desk desk
}

var (
	home    = netip.MustParseAddrPort("192.0.2.7:4000")
	thief   = netip.MustParseAddrPort("203.0.113.9:4000")
	wayback = netip.MustParseAddrPort("198.51.100.7:5555")
)

func newCouple(p *Plane) *couple {
	c := &couple{ear: &ear{}}
	c.Stream = p.Loose(c.ear, func([]byte) error { return nil })
	c.loose = false
	a := agreed(home)
	a.Signalling = wayback.Addr()
	c.Agree(a)
	other := p.Loose(nil, func(b []byte) error { c.sent = append(c.sent, bytes.Clone(b)); return nil })
	other.Agree(agreed(netip.AddrPort{}))
	c.Hears(other)
	c.ear.said()
	return c
}

// from is a datagram that comes now, or later.
func (c *couple) from(at netip.AddrPort, data []byte, now time.Time) {
	c.read(&c.desk, data, at, now)
}

// packet spells a packet: SSRC, number, and a payload that says the number.
func packet(ssrc uint32, seq uint16) []byte {
	p := rtp.Packet{Header: rtp.Header{Version: 2, SSRC: ssrc, SequenceNumber: seq, Timestamp: uint32(seq) * 160}, Payload: fmt.Appendf(nil, "no%d", seq)}
	b, err := p.Marshal()
	if err != nil {
		panic(err)
	}
	return b
}

// Whoever is not the party gets nothing in and nothing out, is counted, and is
// told of once a minute, by ids.
func TestNobodyElseGetsIn(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	p := testPlane(t, Config{From: 30400, To: 30420, Report: slog.New(slog.NewJSONHandler(&log, nil))})
	c := newCouple(p)
	now := time.Now()
	c.from(thief, packet(1, 1), now) // ahead of the party
	c.from(wayback, packet(1, 1), now)
	if got := c.ear.said(); got != "160 no1" || len(c.sent) != 1 {
		t.Fatalf("the party said %q, %d went out", got, len(c.sent))
	}
	for what, probe := range map[string]func(){
		"another address":              func() { c.from(thief, packet(1, 2), now) },
		"another port":                 func() { c.from(netip.AddrPortFrom(wayback.Addr(), 5556), packet(1, 2), now) },
		"the address that it named":    func() { c.from(home, packet(1, 2), now) },
		"another SSRC":                 func() { c.from(wayback, packet(2, 2), now) },
		"a far number":                 func() { c.from(wayback, packet(1, 9000), now) },
		"the next far number":          func() { c.from(wayback, packet(1, 9001), now) },
		"a number far back":            func() { c.from(wayback, packet(1, 65000), now) },
		"reports of another":           func() { c.from(thief, append([]byte{0x81, 200}, make([]byte, 26)...), now) },
		"reports from another port":    func() { c.from(home, []byte{0x80, 201, 0, 1, 0, 0, 0, 1}, now) },
		"a thief that begins anew too": func() { c.from(thief, packet(1, 2), now.Add(10*time.Second)) },
	} {
		before := c.Probes()
		probe()
		if got := c.ear.said(); got != "" || len(c.sent) != 1 {
			t.Errorf("%s: the room heard %q, %d went out", what, got, len(c.sent)-1)
		}
		if c.Probes() != before+1 {
			t.Errorf("%s was not counted", what)
		}
	}
	if n := p.Counters(); n.Probes.Load() != c.Probes() || n.Foreign.Load()+n.Jumped.Load() != c.Probes() || n.Jumped.Load() != 3 {
		t.Errorf("%d probes, %d foreign, %d jumped; the stream has %d", n.Probes.Load(), n.Foreign.Load(), n.Jumped.Load(), c.Probes())
	}
	c.from(wayback, packet(1, 2), now)
	if got := c.ear.said(); got != "320 no2" {
		t.Errorf("the party said %q after the probes", got)
	}
	c.from(thief, packet(1, 3), now.Add(59*time.Second))
	c.from(thief, packet(1, 3), now.Add(61*time.Second))
	lines := log.lines(t, 2)
	var all []map[string]any
	for _, l := range lines {
		var words map[string]any
		if err := json.Unmarshal([]byte(l), &words); err != nil {
			t.Fatal(err)
		}
		all = append(all, words)
	}
	if all[0]["packets"] != 1.0 || all[1]["packets"] != float64(c.Probes()-1) || all[0]["leg"] != "leg_1" {
		t.Errorf("the alarms are %s", lines)
	}
	if s := strings.Join(lines, ""); strings.Contains(s, "203.0.113") || strings.Contains(s, "no2") {
		t.Errorf("an alarm repeats what came: %s", s)
	}
}

// A phone that begins its numbers anew is believed once the old ones are
// silent, and a reordered packet passes.
func TestNumbersThatBeginAnew(t *testing.T) {
	t.Parallel()
	c := newCouple(testPlane(t, Config{From: 30430, To: 30440}))
	now := time.Now()
	var want []string
	send := func(seq uint16, after time.Duration, heard bool) {
		now = now.Add(after)
		c.from(home, packet(1, seq), now)
		if heard {
			want = append(want, fmt.Sprintf("%d no%d", uint32(seq)*160, seq))
		}
	}
	send(65534, 0, true)
	send(1, frame, true) // two are lost around the wrap
	send(0, 0, true)     // and one comes late
	send(20000, frame, false)
	send(20001, frame, false)
	send(20002, frame, false)
	send(20003, frame, true)
	send(20004, frame, true)
	send(50000, time.Second, false) // one alone is nobody
	send(20005, frame, true)
	if got := c.ear.said(); got != strings.Join(want, ", ") {
		t.Errorf("heard %s, want %s", got, want)
	}
}

func TestReportsOnTheSamePortArePolite(t *testing.T) {
	t.Parallel()
	p := testPlane(t, Config{From: 30450, To: 30460})
	c := newCouple(p)
	for _, report := range [][]byte{{0x80, 201, 0, 1, 0, 0, 0, 1}, append([]byte{0x81, 200, 0, 6}, make([]byte, 24)...)} {
		c.from(home, report, time.Now()) // ahead of the sound
		c.from(home, packet(1, 1), time.Now())
		c.from(home, report, time.Now())
	}
	if n := p.Counters(); n.Odd.Load()+n.Probes.Load() != 0 {
		t.Errorf("%d odd, %d probes", n.Odd.Load(), n.Probes.Load())
	}
}

// What is odd is dropped, and is nobody's attack.
func TestOdd(t *testing.T) {
	t.Parallel()
	p := testPlane(t, Config{From: 30470, To: 30480})
	c := newCouple(p)
	another, _ := (&rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: 13}, Payload: []byte{1}}).Marshal()
	odd := [][]byte{nil, {0x80}, another, packet(1, 1)[:12], append([]byte{0x40}, packet(1, 1)[1:]...), append(packet(1, 1), make([]byte, maxRTP)...), {22, 1, 2, 3}}
	for _, data := range odd {
		c.from(home, data, time.Now())
	}
	early := newCouple(p)
	early.Renew()
	early.from(home, packet(1, 1), time.Now())
	if n := p.Counters(); n.Odd.Load() != int64(len(odd)+1) || n.Probes.Load() != 0 || c.ear.said() != "" {
		t.Errorf("%d odd of %d, %d probes", n.Odd.Load(), len(odd)+1, n.Probes.Load())
	}
}

// The one who listens is told when a party moved, and before what it says there.
func TestRelearn(t *testing.T) {
	t.Parallel()
	c := newCouple(testPlane(t, Config{From: 30490, To: 30498}))
	a := agreed(home)
	c.from(home, packet(1, 1), time.Now())
	a.Relearn, a.Speaks = true, false
	c.Agree(a) // the same place: a hold
	c.from(home, packet(1, 2), time.Now())
	a.Speaks = true
	c.Agree(a)
	c.from(home, packet(2, 7), time.Now()) // another source there
	a.Addr = netip.AddrPortFrom(home.Addr(), 4002)
	c.Agree(a)
	a.Relearn, a.Addr = false, netip.AddrPortFrom(home.Addr(), 4004)
	c.Agree(a) // not proven: nothing moves
	const want = "160 no1, hold true, 320 no2, hold false, relearn, 1120 no7, hold false, relearn, hold false"
	if got := c.ear.said(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Keys are pressed always and passed on only when they may.
func TestKeysArePassedOnlyWhenTheyMay(t *testing.T) {
	t.Parallel()
	c := newCouple(testPlane(t, Config{From: 30500, To: 30508}))
	key := func(seq uint16) []byte {
		b, _ := (&rtp.Packet{Header: rtp.Header{Version: 2, SSRC: 1, PayloadType: 101, SequenceNumber: seq, Timestamp: uint32(seq) * 1000}, Payload: telephoneEvent('1', false, 160)}).Marshal()
		return b
	}
	c.from(home, key(1), time.Now())
	if len(c.sent) != 0 {
		t.Error("a key went on while an answer may be pending")
	}
	c.PassKeys(true)
	c.from(home, key(2), time.Now())
	if got := c.ear.said(); got != "key 1 true, key 1 true" || len(c.sent) != 1 || c.sent[0][1]&0x7f != 101 {
		t.Errorf("heard %q, %d went on", got, len(c.sent))
	}
}

// While a prompt is played nobody else is heard, and after the end nothing is
// sent: the file's number may be somebody else's.
func TestNothingBesidesThePromptOrAfterTheEnd(t *testing.T) {
	t.Parallel()
	c := newCouple(testPlane(t, Config{From: 30640, To: 30648}))
	to := c.hears.Load()
	to.out.begin(&prompt{sound: make([]byte, frameSize), done: make(chan struct{})})
	now := time.Now()
	c.from(home, packet(1, 1), now)
	if len(c.sent) != 0 {
		t.Error("the other party was heard in a prompt")
	}
	for to.out.feed(&c.desk, now) {
		now = now.Add(frame)
	}
	c.from(home, packet(1, 2), now)
	if len(c.sent) != 2 {
		t.Errorf("%d packets went", len(c.sent))
	}
	to.Close()
	c.from(home, packet(1, 3), now)
	if len(c.sent) != 2 {
		t.Error("a closed stream sent")
	}
}

// A party that names a socket of ours would have us talk to ourselves.
func TestWeDoNotTalkToOurselves(t *testing.T) {
	t.Parallel()
	p := testPlane(t, Config{From: 30510, To: 30520})
	a, b := p.testStream(t, &ear{}), p.testStream(t, nil)
	a.Agree(agreed(b.Local()))
	b.Agree(agreed(a.Local()))
	Join(a, b)
	if err := a.Play(t.Context(), make([]byte, 480)); !errors.Is(err, errMissed) {
		t.Errorf("a prompt went to a socket of ours: %v", err)
	}
	if k, _ := a.admit(&desk{}, packet(1, 1), b.Local(), time.Now()); k != dropped {
		t.Error("a stream locked to a socket of ours")
	}
}

// sealed gives the two ends of a party's SRTP: what encrypts as it does, and
// what opens what it is sent.
func sealed(t testing.TB, k *Crypto) (out, in *srtp.Context) {
	t.Helper()
	out, err := srtp.CreateContext(k.Key, k.Salt, pions[k.Profile])
	if err != nil {
		t.Fatal(err)
	}
	in, err = srtp.CreateContext(k.Key, k.Salt, pions[k.Profile], srtp.SRTPReplayProtection(replayWindow))
	if err != nil {
		t.Fatal(err)
	}
	return out, in
}

// testKey is a key of one byte, repeated.
func testKey(profile string, of byte) *Crypto {
	p := profiles[profile]
	return &Crypto{Profile: profile, Key: bytes.Repeat([]byte{of}, p.key), Salt: bytes.Repeat([]byte{of + 1}, p.salt)}
}

// Two parties with keys of their own, in both directions: what one says the
// other hears, and what is forged, repeated or in clear nobody hears.
func TestSRTP(t *testing.T) {
	t.Parallel()
	for profile := range profiles {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			p := testPlane(t, Config{From: 30530, To: 30540})
			c := newCouple(p)
			a := agreed(home)
			a.In = testKey(profile, 1)
			c.Agree(a)
			theirs := agreed(netip.AddrPort{})
			theirs.Out = testKey(profile, 7)
			c.hears.Load().Agree(theirs)
			c.ear.said()
			out, _ := sealed(t, a.In)
			_, in := sealed(t, theirs.Out)
			stranger, _ := sealed(t, testKey(profile, 3))
			seal := func(with *srtp.Context, b []byte) []byte {
				b, err := with.EncryptRTP(nil, b, nil)
				if err != nil {
					t.Fatal(err)
				}
				return b
			}
			now := time.Now()
			first := seal(out, packet(1, 65535))
			c.from(home, seal(stranger, packet(1, 65534)), now)
			c.from(home, append(packet(1, 65534), make([]byte, 40)...), now)
			c.from(home, seal(stranger, packet(9, 65534)), now)
			if c.locked {
				t.Fatal("a forger was believed")
			}
			c.from(home, first, now)
			c.from(home, first, now)
			c.from(home, seal(out, packet(1, 0)), now) // the numbers wrap
			bent := seal(out, packet(1, 1))
			bent[len(bent)-1] ^= 1
			c.from(home, bent, now)
			c.from(home, seal(out, packet(1, 30000)), now) // authenticated: no jump
			if got := c.ear.said(); got != "10485600 no65535, 0 no0, 4800000 no30000" {
				t.Errorf("heard %q", got)
			}
			n := p.Counters()
			if n.Forged.Load() != 4 || n.Replayed.Load() != 1 || n.Probes.Load() != 5 {
				t.Errorf("%d forged, %d replayed, %d probes", n.Forged.Load(), n.Replayed.Load(), n.Probes.Load())
			}
			for i, want := range []string{"no65535", "no0", "no30000"} {
				if bytes.Contains(c.sent[i], []byte(want)) {
					t.Error("a packet went out in clear")
				}
				b, err := in.DecryptRTP(nil, c.sent[i], nil)
				if err != nil || string(b[12:]) != want {
					t.Errorf("packet %d opens as %q, %v", i, b, err)
				}
			}
		})
	}
}

// A number is encrypted once under a key and SSRC, whatever the other party
// repeats, and if the key comes back after all numbers went by.
func TestNoNumberIsEncryptedTwice(t *testing.T) {
	t.Parallel()
	p := testPlane(t, Config{From: 30550, To: 30560})
	c := newCouple(p)
	to := c.hears.Load()
	theirs := agreed(netip.AddrPort{})
	first, second := testKey("AEAD_AES_128_GCM", 1), testKey("AEAD_AES_128_GCM", 9)
	now := time.Now()
	numbers := map[string]bool{}
	begin := to.out.seq
	for round := range 4 {
		theirs.Out = []*Crypto{first, second}[round%2]
		to.Agree(theirs)
		for _, seq := range []uint16{5, 6, 6, 5, 7, 9, 8, 8, 65500, 9} { // repeated, late, far
			to.out.relay(&c.desk, &rtp.Packet{Header: rtp.Header{SequenceNumber: seq, Timestamp: uint32(seq) * 160}, Payload: []byte{byte(round), byte(len(c.sent))}}, voice, audio.PCMU, now)
		}
		to.out.begin(&prompt{sound: make([]byte, 3*frameSize), done: make(chan struct{})})
		for to.out.feed(&c.desk, now) {
			now = now.Add(frame)
		}
		// The other's late packet would fall where the prompt was.
		for _, seq := range []uint16{20, 19, 18, 17, 21} {
			to.out.relay(&c.desk, &rtp.Packet{Header: rtp.Header{SequenceNumber: seq, Timestamp: uint32(seq) * 160}, Payload: []byte{77, byte(seq)}}, voice, audio.PCMU, now)
		}
		to.Agree(theirs) // the same again, as in a hold
		to.out.relay(&c.desk, &rtp.Packet{Header: rtp.Header{SequenceNumber: 22, Timestamp: 22 * 160}, Payload: []byte{78}}, voice, audio.PCMU, now)
		to.out.seq, to.out.used = begin, 1 // as if 65,536 packets went by
	}
	_, in1 := sealed(t, first)
	_, in2 := sealed(t, second)
	for i, b := range c.sent {
		id := fmt.Sprintf("%x of %x", b[2:4], b[8:12])
		if _, err := in1.DecryptRTP(nil, b, nil); err == nil {
			id += " under the first"
		} else if _, err := in2.DecryptRTP(nil, b, nil); err != nil {
			t.Errorf("packet %d does not open: %v", i, err)
		}
		if numbers[id] {
			t.Errorf("packet %d: %s was sent before", i, id)
		}
		numbers[id] = true
	}
	if len(c.sent) < 4*8 {
		t.Errorf("only %d packets went", len(c.sent))
	}
	if len(to.out.keys.known) != 2 {
		t.Errorf("%d states for two keys", len(to.out.keys.known))
	}
	if len(ssrcs(c.sent)) != 3 { // the two keys share the first
		t.Errorf("%d SSRCs", len(ssrcs(c.sent)))
	}
}

func ssrcs(packets [][]byte) map[string]bool {
	all := map[string]bool{}
	for _, b := range packets {
		all[string(b[8:12])] = true
	}
	return all
}

// A stream whose key is no good is deaf and dumb: rather nothing than clear.
func TestBadKeys(t *testing.T) {
	t.Parallel()
	short := testKey("AEAD_AES_256_GCM", 1)
	short.Key = short.Key[:16]
	for what, k := range map[string]*Crypto{"no profile": {}, "another profile": {Profile: "NULL_HMAC_SHA1_80"}, "a short key": short} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			if err := k.Check(); !errors.Is(err, yesline.Invalid) {
				t.Errorf("checked as %v", err)
			}
			p := testPlane(t, Config{From: 30570, To: 30580})
			c := newCouple(p)
			a := agreed(home)
			a.In = k
			c.Agree(a)
			c.ear.said()
			c.from(home, packet(1, 1), time.Now())
			if c.ear.said() != "" || c.locked {
				t.Error("it was heard")
			}
			a.In = nil
			a.Relearn = true
			c.Agree(a)
			theirs := agreed(netip.AddrPort{})
			theirs.Out = k
			c.hears.Load().Agree(theirs)
			c.from(home, packet(1, 1), time.Now())
			if len(c.sent) != 0 || p.Counters().Unsent.Load() != 1 {
				t.Errorf("%d went out, %d were counted", len(c.sent), p.Counters().Unsent.Load())
			}
		})
	}
	c := newCouple(testPlane(t, Config{From: 30590, To: 30594}))
	for i := range byte(maxKeys + 1) {
		c.in.use(testKey("AEAD_AES_128_GCM", i))
		if ok := c.in.now != nil; ok != (i < maxKeys) {
			t.Errorf("key %d: taken %v", i, ok)
		}
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	t.Parallel()
	k := testKey("AEAD_AES_128_GCM", 'k')
	var log bytes.Buffer
	l := slog.New(slog.NewTextHandler(&log, nil))
	l.Info("key", "a", k, "b", *k, "c", Agreement{In: k})
	fmt.Fprintf(&log, "%v %+v %#v %s %x %d", k, k, *k, k, *k, k)
	if _, err := json.Marshal(k); err == nil {
		t.Error("a key was marshalled")
	}
	for _, secret := range []string{"kkk", "6b6b", "107 107"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("a key was printed: %s", log.String())
		}
	}
}

// Opus goes through as it came; nothing here makes it, or turns it into G.711.
func TestOpusGoesThrough(t *testing.T) {
	t.Parallel()
	const opus = audio.Codec(111)
	p := testPlane(t, Config{From: 30600, To: 30608})
	var sent [][]byte
	ear := &ear{}
	a := p.Loose(ear, func([]byte) error { return nil })
	b := p.Loose(nil, func(b []byte) error { sent = append(sent, bytes.Clone(b)); return nil })
	for _, s := range []*Stream{a, b} {
		s.Agree(Agreement{Codec: opus, Payload: 111, Speaks: true, Listens: true})
	}
	ear.said()
	Join(a, b)
	now := time.Now()
	say := func(ssrc uint32, seq uint16) {
		now = now.Add(frame)
		a.Take(&rtp.Packet{Header: rtp.Header{PayloadType: 111, SSRC: ssrc, SequenceNumber: seq, Timestamp: uint32(seq) * 960}, Payload: []byte("opus")}, now)
	}
	say(1, 1)
	say(1, 2)
	say(2, 3) // another source of that transport: not agreed on
	say(1, 4)
	if got := ear.said(); got != "960 opus, 1920 opus, 3840 opus" || len(sent) != 3 {
		t.Fatalf("heard %q, %d went on", got, len(sent))
	}
	var at []uint32
	for _, raw := range sent {
		var q rtp.Packet
		if err := q.Unmarshal(raw); err != nil || string(q.Payload) != "opus" || q.PayloadType != 111 {
			t.Errorf("sent %v", &q)
		}
		at = append(at, q.Timestamp)
	}
	if at[1]-at[0] != 960 || at[2]-at[1] != 1920 {
		t.Errorf("the timestamps are %d", at)
	}
	if err := a.Play(t.Context(), make([]byte, 160)); err == nil {
		t.Error("G.711 was played as Opus")
	}
	a.Beep()
	b.Agree(agreed(netip.AddrPort{})) // a telephone
	say(1, 5)
	if len(sent) != 3 {
		t.Error("Opus was sent to a telephone that speaks PCMU")
	}
	if a.Codec() != opus || b.Codec() != audio.PCMU {
		t.Errorf("codecs %v, %v", a.Codec(), b.Codec())
	}
}

// mu-law on one side, A-law on the other.
func TestCodecsMeet(t *testing.T) {
	t.Parallel()
	c := newCouple(testPlane(t, Config{From: 30610, To: 30618}))
	a := agreed(netip.AddrPort{})
	a.Codec = audio.PCMA
	c.hears.Load().Agree(a)
	tone := audio.Tone(440, 20, 8000)
	b, _ := (&rtp.Packet{Header: rtp.Header{Version: 2}, Payload: audio.PCMU.Encode(nil, tone)}).Marshal()
	c.from(home, b, time.Now())
	if len(c.sent) != 1 || c.sent[0][1]&0x7f != 8 {
		t.Fatalf("sent %x", c.sent)
	}
	if got := audio.PCMA.Decode(nil, c.sent[0][12:]); audio.Power(got, 440) < 0.8*audio.Power(tone, 440) {
		t.Error("the tone is another")
	}
}

// No packet costs an allocation: there is no garbage to collect while people
// talk.
func TestPacketsCostNoAllocation(t *testing.T) {
	for _, profile := range append(slices.Sorted(func(yield func(string) bool) {
		for name := range profiles {
			if !yield(name) {
				return
			}
		}
	}), "") {
		p := testPlane(t, Config{From: 30620, To: 30628})
		var in, out *Crypto
		if profile != "" {
			in, out = testKey(profile, 1), testKey(profile, 5)
		}
		s := p.Loose(nil, func([]byte) error { return nil })
		s.loose = false
		a := agreed(home)
		a.In = in
		s.Agree(a)
		other := p.Loose(nil, func([]byte) error { return nil })
		a.Out = out
		other.Agree(a)
		Join(s, other)
		var d desk
		var packets [][]byte
		var context *srtp.Context
		if in != nil {
			context, _ = sealed(t, in)
		}
		for i := range uint16(1002) {
			b := packet(1, i)
			if context != nil {
				b, _ = context.EncryptRTP(nil, b, nil)
			}
			packets = append(packets, b)
		}
		now, i := time.Now(), 0
		each := testing.AllocsPerRun(1000, func() {
			s.read(&d, packets[i], home, now)
			i++
		})
		if each >= 1 && !racing { // the race detector makes pools forget
			t.Errorf("%q: %.1f allocations a packet", profile, each)
		}
		if other.out.seq == 0 || p.Counters().Probes.Load() != 0 {
			t.Error("the packets did not pass")
		}
		foreign := testing.AllocsPerRun(1000, func() { s.read(&d, packets[0], thief, now) })
		if foreign >= 1 {
			t.Errorf("%.1f allocations for a stranger's packet", foreign)
		}
	}
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// lines waits for that many and gives all.
func (b *syncBuffer) lines(t *testing.T, want int) []string {
	t.Helper()
	for range 500 {
		b.mu.Lock()
		text := strings.TrimSpace(b.b.String())
		b.mu.Unlock()
		if all := strings.Split(text, "\n"); text != "" && len(all) >= want {
			if len(all) > want {
				t.Errorf("%d lines, want %d: %s", len(all), want, text)
			}
			return all
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the log is %s", b.b.String())
	return nil
}
