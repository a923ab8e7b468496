package capture

import (
	"time"

	"yesline/internal/audio"
)

// An Opus packet is kept as it came or not at all: it cannot be cut. It lies in
// the second in which it begins, and marks the next one too where it reaches
// into it.

const (
	opusTick  = audio.OpusRate / 100 // timestamps in 10 ms
	perSecond = 100                  // units of 10 ms
)

// placePacket is place for Opus. What is no packet of whole units of 10 ms, or
// more than a second holds, is odd. mu is held.
func (l *lane) placePacket(stamp uint32, packet []byte, now time.Time) {
	lasts, err := audio.PacketUnits(packet)
	if err != nil {
		l.odd++
		return
	}
	at, ok := l.locate(stamp, units(now.Sub(l.zero))*opusTick, opusTick)
	if !ok {
		l.late++
		return
	}
	l.putPacket(at/opusTick, int64(lasts), packet)
}

// putPacket writes a packet that begins at a unit of the call, once. mu is held.
func (l *lane) putPacket(from, lasts int64, packet []byte) {
	n, most := from/perSecond, (l.next+int64(len(l.open)))*perSecond
	switch {
	case n < l.next:
		l.late++
		return
	case from+lasts > most:
		l.odd++ // the recorder fell seconds behind; nothing queues beyond what is here
		return
	case l.anyOf(from, lasts):
		l.twice++
		return
	}
	s := l.open[n-l.next]
	if s == nil {
		s = l.begin(n)
	}
	row, fits := audio.Packets(s.payload).Add(int(from%perSecond), packet)
	if !fits {
		l.odd++
		return
	}
	s.payload = row
	for u := from; u < from+lasts; u++ {
		s := l.open[u/perSecond-l.next]
		if s == nil {
			s = l.begin(u / perSecond)
		}
		s.mark(int(u % perSecond))
	}
}

// anyOf reports whether something was received in these units already.
func (l *lane) anyOf(from, lasts int64) bool {
	for u := from; u < from+lasts; u++ {
		if s := l.open[u/perSecond-l.next]; s != nil && s.has(int(u%perSecond)) {
			return true
		}
	}
	return false
}

// cutPackets takes away the packets that end after so many units of the call.
func (l *lane) cutPackets(end int64) {
	for _, s := range l.open {
		if s == nil {
			continue
		}
		kept := audio.Packets(s.payload).Cut(int(max(0, end-s.n*perSecond)))
		for at, packet := range audio.Packets(s.payload[len(kept):]).All() {
			lasts, _ := audio.PacketUnits(packet)
			for u := s.n*perSecond + int64(at); u < s.n*perSecond+int64(at+lasts); u++ {
				l.open[u/perSecond-l.next].unmark(int(u % perSecond))
			}
		}
		s.payload = kept
	}
}

func (s *second) unmark(u int) { s.present[u/8] &^= 1 << (u % 8) }
