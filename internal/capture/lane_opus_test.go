package capture

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"yesline/internal/audio"
)

// opusTrack drives a lane of Opus. A packet carries a number, so that a story
// can tell which were kept, and where.
type opusTrack struct {
	*track
}

func newOpusTrack(t *testing.T) *opusTrack {
	zero := time.Now()
	return &opusTrack{&track{t: t, zero: zero, lane: newLane(audio.Opus, zero, zero)}}
}

// opusPacket is a packet in wide band of 10, 20, 40 or 60 ms.
func opusPacket(millis int, b ...byte) []byte {
	frame := map[int]byte{10: 0, 20: 1, 40: 2, 60: 3}[millis]
	return append([]byte{(8 + frame) << 3}, b...)
}

// packet arrives at a moment of the call.
func (k *opusTrack) packet(at time.Duration, stamp uint32, packet []byte) {
	k.got = append(k.got, k.lane.take(k.zero.Add(at))...)
	k.lane.place(stamp, packet, k.zero.Add(at))
}

// end wants what every story wants: seconds in order, each of which can be
// sealed, and each packet once.
func (k *opusTrack) end(at time.Duration) {
	k.t.Helper()
	k.got = append(k.got, k.lane.finish(k.zero.Add(at))...)
	last, over := int64(-1), 0 // and how far the second before reaches into this one
	for _, s := range k.got {
		if s.n <= last {
			k.t.Fatalf("second %d came after second %d", s.n, last)
		}
		if s.n > last+1 {
			over = 0
		}
		if err := audio.Packets(s.payload).Check(s.present); err != nil {
			k.t.Fatalf("second %d: %v", s.n, err)
		}
		last = s.n
		k.carried(s, over)
		over = 0
		for unit, packet := range audio.Packets(s.payload).All() {
			lasts, _ := audio.PacketUnits(packet)
			over = max(0, unit+lasts-perSecond)
			if s.n*perSecond+int64(unit+lasts) > units(at) {
				k.t.Errorf("a packet of second %d ends after the call", s.n)
			}
		}
	}
}

// carried wants marked, before the first packet, what the second before
// reaches into and nothing else.
func (k *opusTrack) carried(s *second, over int) {
	k.t.Helper()
	first := perSecond
	for unit := range audio.Packets(s.payload).All() {
		first = unit
		break
	}
	for u := range first {
		if s.has(u) != (u < over) {
			k.t.Errorf("unit %d of second %d: marked %v, and the second before reaches %d units into it", u, s.n, s.has(u), over)
		}
	}
}

// packets are the numbers of what was kept.
func (k *opusTrack) packets() (numbers []byte) {
	for _, s := range k.got {
		for _, packet := range audio.Packets(s.payload).All() {
			numbers = append(numbers, packet[1])
		}
	}
	return numbers
}

func inOrder(n int) (numbers []byte) {
	for i := range n {
		numbers = append(numbers, byte(i))
	}
	return numbers
}

func TestOpusLane(t *testing.T) {
	t.Parallel()
	t.Run("in order, across the wrap of timestamps and the ends of seconds", func(t *testing.T) {
		for _, millis := range []int{10, 20, 40, 60} {
			k := newOpusTrack(t)
			for i := range 240 * 10 / millis {
				at := time.Duration(i*millis) * time.Millisecond
				k.packet(at+10*time.Millisecond, uint32(1<<32-9600+i*millis*48), opusPacket(millis, byte(i)))
			}
			k.end(2500 * time.Millisecond)
			k.want(240, 3)
			if got := k.packets(); !bytes.Equal(got, inOrder(240*10/millis)) {
				t.Errorf("packets of %d ms: kept %v", millis, got)
			}
		}
	})
	t.Run("as they came", func(t *testing.T) {
		k := newOpusTrack(t)
		sent := opusPacket(20, 7, 1, 2, 3, 4)
		k.packet(0, 0, sent)
		k.end(time.Second)
		for _, packet := range audio.Packets(k.got[0].payload).All() {
			if !bytes.Equal(packet, sent) {
				t.Error("the packet that was kept is not the one that came")
			}
		}
	})
	t.Run("out of order within 200 ms", func(t *testing.T) {
		k := newOpusTrack(t)
		for i := range 100 {
			j := max(3, i^3) // 3 3 3 3 7 6 5 4
			k.packet(time.Duration(i)*step+60*time.Millisecond, uint32(j*960), opusPacket(20, byte(j)))
		}
		k.end(2*time.Second + 100*time.Millisecond)
		if got := k.packets(); !bytes.Equal(got, inOrder(100)[3:]) {
			t.Errorf("kept %v", got)
		}
		if k.lane.twice != 3 {
			t.Errorf("%d counted as twice, want 3", k.lane.twice)
		}
	})
	t.Run("a sender that is silent", func(t *testing.T) {
		k := newOpusTrack(t)
		k.packet(0, 0, opusPacket(20, 0))
		k.packet(10*time.Second, 480000, opusPacket(20, 1)) // timestamps ran on
		k.packet(20*time.Second, 480960, opusPacket(20, 2)) // and stood still
		k.end(21 * time.Second)
		k.want(6, 3)
		if k.got[1].n != 10 || k.got[2].n != 20 {
			t.Errorf("they lie in seconds %d and %d", k.got[1].n, k.got[2].n)
		}
	})
	t.Run("too late", func(t *testing.T) {
		k := newOpusTrack(t)
		for i := range 70 {
			k.packet(time.Duration(i)*step, uint32(i*960), opusPacket(20, 1))
		}
		k.packet(1400*time.Millisecond, 10*960, opusPacket(20, 2))
		k.end(2 * time.Second)
		k.want(140, 2)
		if k.lane.late != 1 {
			t.Errorf("%d counted as late, want 1", k.lane.late)
		}
	})
	t.Run("over another", func(t *testing.T) {
		k := newOpusTrack(t)
		k.packet(0, 0, opusPacket(20, 0))
		k.packet(20*time.Millisecond, 1920, opusPacket(20, 1))
		k.packet(40*time.Millisecond, 480, opusPacket(20, 2)) // half of it is there
		k.packet(40*time.Millisecond, 960, opusPacket(40, 3)) // and of this one
		k.end(time.Second)
		k.want(4, 1)
		if !bytes.Equal(k.packets(), []byte{0, 1}) || k.lane.twice != 2 {
			t.Errorf("kept %v, and %d were counted", k.packets(), k.lane.twice)
		}
	})
	t.Run("nothing after the end of the call", func(t *testing.T) {
		k := newOpusTrack(t)
		for i := range 49 {
			k.packet(time.Duration(i)*step, uint32(i*960), opusPacket(20, 1))
		}
		k.packet(980*time.Millisecond, 49*960, opusPacket(60, 2)) // reaches into the next second
		k.packet(980*time.Millisecond, 52*960, opusPacket(20, 3))
		k.end(time.Second + 20*time.Millisecond)
		k.want(98, 1)
	})
	t.Run("nothing before the beginning", func(t *testing.T) {
		zero := time.Now()
		l := newLane(audio.Opus, zero, zero.Add(5500*time.Millisecond))
		l.place(0, opusPacket(20, 0), zero.Add(4*time.Second))
		if got := l.finish(zero.Add(7 * time.Second)); len(got) != 0 || l.late != 1 {
			t.Errorf("%d seconds, %d late", len(got), l.late)
		}
	})
	t.Run("a recorder that fell behind", func(t *testing.T) {
		k := newOpusTrack(t)
		for i := range 250 {
			k.lane.place(uint32(i*960), opusPacket(20, byte(i)), k.zero.Add(time.Duration(i)*step))
		}
		if k.lane.odd != 100 {
			t.Errorf("%d counted as odd, want 100", k.lane.odd)
		}
		k.end(5 * time.Second)
		k.want(300, 3)
		k = newOpusTrack(t)
		k.lane.place(0, opusPacket(60, 1), k.zero.Add(2990*time.Millisecond)) // reaches into a second that is not open
		if k.lane.odd != 1 {
			t.Error("a packet was kept of which a part has no second")
		}
	})
	t.Run("more than a second holds", func(t *testing.T) {
		k := newOpusTrack(t)
		for i := range 50 {
			k.packet(time.Duration(i)*step, uint32(i*960), opusPacket(20, make([]byte, 400)...))
		}
		k.end(time.Second + 50*time.Millisecond)
		k.want(2*(audio.PacketsMost/404), 1)
		if want := int64(50 - audio.PacketsMost/404); k.lane.odd != want {
			t.Errorf("%d counted as odd, want %d", k.lane.odd, want)
		}
	})
	t.Run("what was not agreed", func(t *testing.T) {
		k := newOpusTrack(t)
		for _, p := range [][]byte{nil, make([]byte, 1277), bytes.Repeat([]byte{0xff}, 160), // G.711 silence
			{16 << 3, 1}, {17 << 3, 1}, {17<<3 | 3, 3, 1, 1, 1}, {8<<3 | 3, 0}, {11<<3 | 3, 3, 1, 1, 1}, {8<<3 | 1, 1}, {8<<3 | 2, 9, 1}} {
			k.lane.place(0, p, k.zero)
		}
		k.end(time.Second)
		k.want(0, 0)
		if k.lane.odd != 10 {
			t.Errorf("%d counted as odd, want 10", k.lane.odd)
		}
	})
	t.Run("another source", func(t *testing.T) {
		k := newOpusTrack(t)
		k.packet(0, 5000, opusPacket(20, 0))
		k.lane.forget()
		k.packet(100*time.Millisecond, 10_000, opusPacket(20, 1))
		k.end(time.Second)
		if s := k.got[0]; !s.has(10) || s.has(12) {
			t.Error("a new source is not placed by the clock")
		}
	})
	t.Run("dropped", func(t *testing.T) {
		k := newOpusTrack(t)
		k.packet(0, 0, opusPacket(20, 0))
		k.lane.drop()
		k.packet(step, 960, opusPacket(20, 1))
		k.end(5 * time.Second)
		k.want(0, 0)
	})
}

// In Opus too no more time is kept than the call took.
func TestNobodyEarnsMoreThanTheCallInOpus(t *testing.T) {
	t.Parallel()
	for name, stamp := range map[string]func(i int) uint32{
		"twice as fast":  func(i int) uint32 { return uint32(i * 1920) },
		"jumping ahead":  func(i int) uint32 { return uint32(i * 24000) },
		"backwards":      func(i int) uint32 { return uint32(-i * 960) },
		"to and fro":     func(i int) uint32 { return uint32((i%2)*6_000_000 + i*960) },
		"standing still": func(i int) uint32 { return 7 },
		"at random":      func(i int) uint32 { return rand.New(rand.NewPCG(1, uint64(i))).Uint32() },
		"off the grid":   func(i int) uint32 { return uint32(i * 97) },
	} {
		t.Run(name, func(t *testing.T) {
			k := newOpusTrack(t)
			for i := range 1500 { // 500 packets a second for 3 s
				k.packet(time.Duration(i)*2*time.Millisecond, stamp(i), opusPacket([]int{10, 20, 40, 60}[i%4], byte(i)))
			}
			k.end(3 * time.Second)
			if got := k.track.units(); got > 300 {
				t.Errorf("%d units in 3 s of call, at most 300 are possible", got)
			}
		})
	}
}

// FuzzOpusLane plays any packets at any times: what is handed out can be
// sealed, comes once and in order, and is never later than the clock.
func FuzzOpusLane(f *testing.F) {
	f.Add([]byte("0000\x48100000000\x5820"))
	f.Fuzz(func(t *testing.T, script []byte) {
		k := newOpusTrack(t)
		at := time.Duration(0)
		for len(script) >= 7 && at < time.Minute {
			at += time.Duration(script[0]) * 3 * time.Millisecond
			stamp, size := binary.BigEndian.Uint32(script[1:]), min(int(script[5]), len(script)-6)
			k.packet(at, stamp, script[6:6+size])
			script = script[6+size:]
		}
		k.end(at)
		if got, most := k.track.units(), int(at/(10*time.Millisecond)); got > most {
			t.Errorf("%d units in %s of call", got, at)
		}
	})
}

// A packet into a lane that is emptied as it fills, in each codec.
func BenchmarkLane(b *testing.B) {
	for _, c := range []struct {
		codec  audio.Codec
		tick   uint32
		packet []byte
	}{{audio.PCMU, 160, make([]byte, 160)}, {audio.Opus, 960, opusPacket(20, make([]byte, 79)...)}} {
		b.Run(c.codec.String(), func(b *testing.B) {
			b.ReportAllocs()
			zero := time.Now()
			l, stamp, at := newLane(c.codec, zero, zero), uint32(0), zero
			for n := 0; b.Loop(); n++ {
				l.place(stamp, c.packet, at)
				stamp, at = stamp+c.tick, at.Add(20*time.Millisecond)
				if n%50 == 49 {
					l.take(at)
				}
			}
		})
	}
}
