package capture

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/consent"
	"yesline/internal/vault"
)

// track drives a lane with packets at times of the call, as the recorder does.
type track struct {
	t    *testing.T
	lane *lane
	zero time.Time
	got  []*second
}

func newTrack(t *testing.T) *track {
	zero := time.Now()
	return &track{t: t, zero: zero, lane: newLane(audio.PCMU, zero, zero)}
}

// packet arrives at a moment of the call; all its bytes are b.
func (k *track) packet(at time.Duration, stamp uint32, b byte) {
	k.got = append(k.got, k.lane.take(k.zero.Add(at))...)
	k.lane.place(stamp, bytes.Repeat([]byte{b}, 160), k.zero.Add(at))
}

func (k *track) end(at time.Duration) {
	k.got = append(k.got, k.lane.finish(k.zero.Add(at))...)
	last := int64(-1)
	for _, s := range k.got {
		if s.n <= last {
			k.t.Errorf("second %d came after second %d", s.n, last)
		}
		last = s.n
		if len(s.payload) != audio.Rate {
			k.t.Errorf("second %d has %d bytes", s.n, len(s.payload))
		}
		for u := range 100 {
			if sound := s.payload[u*unit : (u+1)*unit]; !s.has(u) && !bytes.Equal(sound, bytes.Repeat([]byte{0xff}, unit)) {
				k.t.Errorf("unit %d of second %d is absent and not silent", u, s.n)
			}
		}
	}
}

// units is how much was received, in units of 10 ms.
func (k *track) units() (n int) {
	for _, s := range k.got {
		for u := range 100 {
			if s.has(u) {
				n++
			}
		}
	}
	return n
}

func (k *track) want(units, seconds int) {
	k.t.Helper()
	if got := k.units(); got != units || len(k.got) != seconds {
		k.t.Errorf("%d units in %d seconds, want %d in %d", got, len(k.got), units, seconds)
	}
}

const step = 20 * time.Millisecond

func TestLane(t *testing.T) {
	t.Parallel()
	t.Run("in order, across the wrap of timestamps", func(t *testing.T) {
		k := newTrack(t)
		for i := range 150 {
			k.packet(time.Duration(i)*step, uint32(1<<32-8000+i*160), byte(i))
		}
		k.end(3 * time.Second)
		k.want(300, 3)
		if k.got[1].payload[0] != 50 || k.got[2].payload[7999] != 149 {
			t.Error("the packets do not lie in their order")
		}
	})
	t.Run("out of order within 200 ms", func(t *testing.T) {
		k := newTrack(t)
		for i := range 100 {
			j := i ^ 3 // 3 2 1 0 7 6 5 4
			k.packet(time.Duration(i)*step+60*time.Millisecond, uint32(j*160), byte(j))
		}
		k.end(2*time.Second + 100*time.Millisecond)
		if got := k.units(); got < 194 {
			t.Errorf("%d units of 200 were kept", got)
		}
		for i, s := range k.got {
			for u := 2; u < 100; u++ {
				if s.has(u) && s.has(u-2) && s.payload[u*unit]-s.payload[(u-2)*unit] != 1 {
					t.Errorf("second %d is out of order at unit %d", i, u)
				}
			}
		}
	})
	t.Run("lost packets are gaps", func(t *testing.T) {
		k := newTrack(t)
		for i := range 100 {
			if i%10 != 0 || i == 0 {
				k.packet(time.Duration(i)*step, uint32(i*160), 1)
			}
		}
		k.end(2 * time.Second)
		k.want(182, 2)
	})
	t.Run("silence without packets", func(t *testing.T) {
		k := newTrack(t)
		k.packet(0, 0, 1)
		k.packet(10*time.Second, 80000, 1) // timestamps ran on
		k.packet(20*time.Second, 80160, 1) // and stood still
		k.end(21 * time.Second)
		k.want(6, 3)
		if k.got[2].n != 20 {
			t.Errorf("the last lies in second %d, want where the clock says", k.got[2].n)
		}
	})
	t.Run("too late", func(t *testing.T) {
		k := newTrack(t)
		for i := range 70 {
			k.packet(time.Duration(i)*step, uint32(i*160), 1)
		}
		k.packet(1400*time.Millisecond, 10*160, 2)
		k.end(2 * time.Second)
		k.want(140, 2)
		if k.lane.late != 1 {
			t.Errorf("%d counted as late, want 1", k.lane.late)
		}
	})
	t.Run("twice", func(t *testing.T) {
		k := newTrack(t)
		for i := range 50 {
			k.packet(time.Duration(i)*step, uint32(i*160), 1)
			k.packet(time.Duration(i)*step, uint32(i*160), 2)
		}
		k.end(time.Second)
		k.want(100, 1)
		if bytes.IndexByte(k.got[0].payload, 2) >= 0 {
			t.Error("a repeated packet was written over the first")
		}
	})
	t.Run("nothing after the end of the call", func(t *testing.T) {
		k := newTrack(t)
		for i := range 50 {
			k.packet(time.Duration(i)*step, uint32(i*160), 1)
		}
		k.packet(time.Second, 50*160+3000, 1) // 375 ms before the clock
		k.end(time.Second + 10*time.Millisecond)
		k.want(100, 1)
	})
	t.Run("nothing before the beginning", func(t *testing.T) {
		zero := time.Now()
		l := newLane(audio.PCMU, zero, zero.Add(5500*time.Millisecond))
		l.place(0, make([]byte, 160), zero.Add(4*time.Second))
		if got := l.finish(zero.Add(7 * time.Second)); len(got) != 0 || l.late != 2 {
			t.Errorf("%d seconds, %d late", len(got), l.late)
		}
	})
	t.Run("odd sizes", func(t *testing.T) {
		k := newTrack(t)
		for _, n := range []int{0, 1, 79, 81, 1680, 65000} {
			k.lane.place(0, make([]byte, n), k.zero)
		}
		k.end(time.Second)
		k.want(0, 0)
	})
	t.Run("dropped", func(t *testing.T) {
		k := newTrack(t)
		k.packet(0, 0, 1)
		k.lane.drop()
		k.packet(step, 160, 1)
		k.end(5 * time.Second)
		k.want(0, 0)
	})
}

// However a sender lies with its timestamps and whatever it floods, no more
// time is kept than the call took.
func TestNobodyEarnsMoreThanTheCall(t *testing.T) {
	t.Parallel()
	for name, stamp := range map[string]func(i int) uint32{
		"twice as fast":   func(i int) uint32 { return uint32(i * 320) },
		"jumping ahead":   func(i int) uint32 { return uint32(i * 4000) },
		"hours ahead":     func(i int) uint32 { return uint32(i * 100_000_000) },
		"backwards":       func(i int) uint32 { return uint32(-i * 160) },
		"far backwards":   func(i int) uint32 { return uint32(-i * 80000) },
		"to and fro":      func(i int) uint32 { return uint32((i%2)*1_000_000 + i*160) },
		"standing still":  func(i int) uint32 { return 7 },
		"at random":       func(i int) uint32 { return rand.New(rand.NewPCG(1, uint64(i))).Uint32() },
		"half the wrap":   func(i int) uint32 { return uint32(i) << 31 },
		"within a second": func(i int) uint32 { return uint32(i * 160 % 8000) },
	} {
		t.Run(name, func(t *testing.T) {
			k := newTrack(t)
			for i := range 1500 { // 500 packets a second for 3 s
				k.packet(time.Duration(i)*2*time.Millisecond, stamp(i), 1)
			}
			k.end(3 * time.Second)
			if got := k.units(); got > 300 {
				t.Errorf("%d units in 3 s of call, at most 300 are possible", got)
			}
		})
	}
}

// FuzzLane plays any packets at any times: a second comes once, in order, and
// never later than the clock.
func FuzzLane(f *testing.F) {
	f.Add([]byte("0000000000000000"))
	f.Fuzz(func(t *testing.T, script []byte) {
		k := newTrack(t)
		at := time.Duration(0)
		for len(script) >= 6 && at < time.Minute {
			at += time.Duration(script[0]) * 3 * time.Millisecond
			k.got = append(k.got, k.lane.take(k.zero.Add(at))...)
			k.lane.place(binary.BigEndian.Uint32(script[1:]), make([]byte, int(script[5])*16), k.zero.Add(at))
			script = script[6:]
		}
		k.end(at)
		if got, most := k.units(), int(at/(10*time.Millisecond)); got > most {
			t.Errorf("%d units in %s of call", got, at)
		}
	})
}

// A no that is said while the last lease is asked for.
func TestANoAtTheVeryEnd(t *testing.T) {
	t.Parallel()
	live := &Live{certain: make(chan struct{})}
	close(live.certain)
	zero := time.Now()
	r := &recorder{leg: &Leg{live: live}, lane: newLane(audio.PCMU, zero, zero),
		renew: func(context.Context) (consent.Grant, error) {
			live.doubt(1)
			return consent.Grant{}, nil
		},
		put: func(consent.Grant, int64, *vault.Second) error {
			t.Error("a second was sealed while a no was being written down")
			return nil
		}}
	r.lane.place(0, make([]byte, 160), zero)
	if err := r.last(t.Context()); !errors.Is(err, yesline.Denied) {
		t.Errorf("the end gives %v", err)
	}
}
