package capture

import (
	"bytes"
	"sync"
	"time"

	"yesline/internal/audio"
)

const (
	unit    = audio.Rate / 100 // samples that one bit of a second's presence stands for: 10 ms
	reorder = 200 * time.Millisecond
	ahead   = 500 * time.Millisecond // how far timestamps may run before the clock: jitter, bursts
	longest = audio.Rate / 5         // bytes of the longest packet: 200 ms
)

// second is one second of a voice as it will be sealed.
type second struct {
	n       int64 // counted from the bridging of the call
	present [13]byte
	payload []byte // audio.Rate bytes, silence where nothing came; Opus: audio.Packets
}

// seconds are those that were sealed: a house of many calls needs one for each
// voice, again every second.
var seconds = sync.Pool{New: func() any { return &second{payload: make([]byte, 0, max(audio.Rate, audio.PacketsMost))} }}

// free gives a second back that was sealed, without what was said in it.
func (s *second) free() {
	clear(s.payload[:cap(s.payload)])
	seconds.Put(s)
}

func (s *second) has(u int) bool { return s.present[u/8]&(1<<(u%8)) != 0 }
func (s *second) mark(u int)     { s.present[u/8] |= 1 << (u % 8) }

// lane places the packets of one leg into seconds, by RTP timestamp as long as
// it agrees with the monotonic clock and by the clock when it does not. So a
// voice never earns more time than the call took, a second is handed out once
// and in order, and what comes more than 200 ms late is dropped and counted.
type lane struct {
	// What every packet needs lies together.
	mu       sync.Mutex // guards the rest but codec and zero: the receive loop places, the recorder takes
	codec    audio.Codec
	anchored bool
	closed   bool
	stamp    uint32     // RTP timestamp of the newest packet
	at       int64      // and where it lies, in the same clock
	next     int64      // the first second not handed out
	open     [3]*second // next, next+1, next+2
	zero     time.Time  // the moment of sample 0, with the monotonic clock

	late, odd, twice int64
}

// newLane makes a lane whose sample 0 is at zero. What arrived before now is
// not the lane's business: nothing is placed before the second of now.
func newLane(codec audio.Codec, zero, now time.Time) *lane {
	return &lane{codec: codec, zero: zero, next: max(0, int64(now.Sub(zero)/time.Second))}
}

// samples is how far the clock is, in whole units of 10 ms.
func samples(d time.Duration) int64 { return units(d) * unit }

func units(d time.Duration) int64 { return int64(d / (10 * time.Millisecond)) }

// place puts a packet that arrived now where it belongs.
func (l *lane) place(stamp uint32, payload []byte, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if l.codec == audio.Opus {
		l.placePacket(stamp, payload, now)
		return
	}
	if len(payload) == 0 || len(payload)%unit != 0 || len(payload) > longest {
		l.odd++
		return
	}
	clock := samples(now.Sub(l.zero))
	at, ok := l.locate(stamp, clock, unit)
	if !ok {
		l.late++
		return
	}
	at = at / unit * unit
	if s := l.whole(at, len(payload)); s != nil {
		copy(s.payload[at%audio.Rate:], payload)
		return
	}
	for u := int64(0); u*unit < int64(len(payload)); u++ {
		l.put(at+u*unit, payload[u*unit:(u+1)*unit])
	}
}

// whole is put for nearly every packet: it marks all units of one that lies in
// an open second where nothing was received yet, and gives that second; nil if
// the packet is another kind.
func (l *lane) whole(at int64, size int) *second {
	n, from := at/audio.Rate-l.next, at%audio.Rate
	if n < 0 || n >= int64(len(l.open)) || l.open[n] == nil || from+int64(size) > audio.Rate {
		return nil
	}
	s, first, last := l.open[n], int(from/unit), int(from/unit)+size/unit
	for u := first; u < last; u++ {
		if s.has(u) {
			return nil
		}
	}
	for u := first; u < last; u++ {
		s.mark(u)
	}
	return s
}

// locate turns a timestamp into its place in the call. All is in the clock of
// the timestamps, of which tick are 10 ms.
func (l *lane) locate(stamp uint32, clock, tick int64) (at int64, ok bool) {
	step := int64(int32(stamp - l.stamp)) // survives the wrap of the 32 bits
	at = l.at + step
	behind, before := clock-units(reorder)*tick, clock+units(ahead)*tick
	switch {
	case !l.anchored, step > 0 && (at < behind || at > before), step < -200*tick:
		at = clock // the sender's clock is new, jumped, or ran backwards: ours decides
	case step <= 0:
		return at, at >= behind && at >= 0 // an older packet, out of order
	}
	l.anchored, l.stamp, l.at = true, stamp, at
	return at, at >= 0
}

// put writes one unit, once.
func (l *lane) put(at int64, sound []byte) {
	n := at / audio.Rate
	if n < l.next {
		l.late++
		return
	}
	if n >= l.next+int64(len(l.open)) {
		l.odd++ // the recorder fell seconds behind; nothing queues beyond what is here
		return
	}
	s := l.open[n-l.next]
	if s == nil {
		s = l.begin(n)
	}
	from := int(at % audio.Rate)
	if s.has(from / unit) {
		l.twice++
		return
	}
	s.mark(from / unit)
	copy(s.payload[from:], sound)
}

// A second of G.711 in which nothing was received.
var muLawSilence, aLawSilence = silent(audio.PCMU), silent(audio.PCMA)

func silent(codec audio.Codec) []byte {
	return bytes.Repeat([]byte{codec.Silence()}, audio.Rate)
}

func silences(codec audio.Codec) []byte {
	if codec == audio.PCMA {
		return aLawSilence
	}
	return muLawSilence
}

// begin opens second n, which is one of the three and not open yet.
func (l *lane) begin(n int64) *second {
	s := seconds.Get().(*second)
	s.n, s.present, s.payload = n, [13]byte{}, s.payload[:0]
	if l.codec != audio.Opus {
		s.payload = append(s.payload, silences(l.codec)...)
	}
	l.open[n-l.next] = s
	return s
}

// forget makes the next packet begin anew: another source was agreed on.
func (l *lane) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.anchored = false
}

// take hands out the seconds that ended 200 ms before now, without the empty
// ones, in order.
func (l *lane) take(now time.Time) []*second {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shift(now.Sub(l.zero) - reorder)
}

// due is when take has the next second to hand out.
func (l *lane) due() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.zero.Add(time.Duration(l.next+1)*time.Second + reorder)
}

// finish hands out all that is left, cut at now, and takes no more.
func (l *lane) finish(now time.Time) []*second {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.codec == audio.Opus {
		l.cutPackets(units(now.Sub(l.zero)))
		return l.shift(now.Sub(l.zero) + time.Duration(len(l.open))*time.Second)
	}
	for _, s := range l.open {
		if s != nil {
			s.cut(samples(now.Sub(l.zero))-s.n*audio.Rate, l.codec)
		}
	}
	return l.shift(now.Sub(l.zero) + time.Duration(len(l.open))*time.Second)
}

// drop throws away what was not handed out, and takes no more.
func (l *lane) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	clear(l.open[:])
}

// dropped tells how many units came too late or twice, and how many packets
// were of no use. Of Opus all three are packets.
func (l *lane) dropped() (late, odd, twice int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.late, l.odd, l.twice
}

// shift hands out the seconds that end before elapsed.
func (l *lane) shift(elapsed time.Duration) (out []*second) {
	for time.Duration(l.next+1)*time.Second <= elapsed {
		if s := l.open[0]; s != nil && s.present != [13]byte{} {
			out = append(out, s)
		}
		copy(l.open[:], l.open[1:])
		l.open[len(l.open)-1] = nil
		l.next++
	}
	return out
}

// cut removes what lies at or after sample end of the second.
func (s *second) cut(end int64, codec audio.Codec) {
	for u := int64(0); u < 100; u++ {
		if u*unit < end {
			continue
		}
		s.present[u/8] &^= 1 << (u % 8)
		copy(s.payload[u*unit:(u+1)*unit], silences(codec))
	}
}
