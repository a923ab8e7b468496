//go:build linux

package app_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/pion/srtp/v3"
	"golang.org/x/sys/unix"

	"yesline/internal/audio"
)

// load speaks and listens for the parties of all calls, 50 packets a second
// each: one locked thread sends the legs of one millisecond by sendmmsg and
// empties the sockets by recvmmsg. So it takes little of the machine that is
// measured, and nothing of what it says depends on Go's poller.
//
// Every packet names the leg that spoke it, its number and its moment, so that
// what is heard can be told from what somebody else said, and a loss from a
// delay.
type load struct {
	socks  [4]sock
	legs   []*leg
	slots  [20][]*leg           // who speaks in which millisecond of a frame
	from   [256]map[uint16]*leg // who is heard from a port of the house's, by the last byte of its address
	orders chan func()          // what the thread is to do between two slots
	Late   time.Duration        // how far the thread ever fell behind its slots
	ended  chan struct{}
	quit   atomic.Bool
	began  time.Time
	now    uint32 // microseconds since began
	in     [batch]unix.RawSockaddrInet4
	ivs    [batch]unix.Iovec
	msgs   [batch]mmsg
	bufs   [batch][1500]byte
	Unsent int64        // the system did not take it
	Alien  int64        // came from a port that nobody speaks from
	delays [4096]uint64 // of the window, in steps of 0.25 ms
}

const batch = 64

// mmsg is the system's struct mmsghdr.
type mmsg struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

type sock struct {
	fd   int
	addr netip.AddrPort
	out  [batch]mmsg
	n    int
}

// leg is one party. All but id and addr belong to the load's thread.
type leg struct {
	id    uint32
	addr  netip.AddrPort // where it is heard, for its session description
	sock  *sock
	other *leg

	to      unix.RawSockaddrInet4
	host    byte // where the house hears it: the last byte of the address, and the port
	port    uint16
	talks   bool
	seq     uint16
	count   uint32 // packets spoken; also the number of the next
	stamp   uint32
	iov     unix.Iovec
	packet  [300]byte
	pressed int    // packets of a key that are still to be sent
	keyAt   uint32 // timestamp of the key
	heardAt uint32 // microseconds
	heard   int64  // packets of any kind
	askedAt uint32 // when a key was pressed last
	Bridged bool   // the other's voice was heard

	offset uint16 // between the house's sequence numbers and the other's count
	known  bool
	seen   [1 << 16 / 64]uint64 // of the other's counts, those heard in this window
	window bool
	begin  uint32 // first count of the window, as spoken by this leg
	end    uint32 // first after it
	got    int64  // packets of the window that the other heard of this leg
	twice  int64
	alien  int64 // packets that named somebody else
	mixed  int64 // packets that could not be read: a tone was mixed in

	seal, open *srtp.Context // nil: plain
	plain      []byte
	sealed     []byte
}

const (
	voiceBytes = audio.Rate / 50
	mark       = 0x59455321 // begins what is said
	frameMicro = 20_000
	quarter    = 250 // microseconds
)

// newLoad opens the sockets of so many calls and starts the thread.
func newLoad(calls int) (*load, error) {
	l := &load{orders: make(chan func(), 64), ended: make(chan struct{}), began: time.Now()}
	for i := range l.socks {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
		if err != nil {
			return nil, fmt.Errorf("opening a socket: %w", err)
		}
		l.socks[i].fd = fd
		const room = 8 << 20
		if syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) != nil {
			syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, room)
		}
		if syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, unix.SO_SNDBUFFORCE, room) != nil {
			syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, room)
		}
		if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 2, byte(1 + i)}}); err != nil {
			return nil, fmt.Errorf("opening a socket: %w", err)
		}
		at, err := syscall.Getsockname(fd)
		if err != nil {
			return nil, fmt.Errorf("opening a socket: %w", err)
		}
		in := at.(*syscall.SockaddrInet4)
		l.socks[i].addr = netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port))
	}
	sound := audio.PCMU.Encode(nil, audio.Tone(400, 20, 6000))
	for i := range 2 * calls {
		g := &leg{id: uint32(i), sock: &l.socks[i/2%len(l.socks)]} // both of a call share a socket
		g.addr = g.sock.addr
		copy(g.packet[12:], sound)
		g.iov.Base = &g.packet[0]
		slot := (i*7 + i/20) % len(l.slots)
		l.slots[slot] = append(l.slots[slot], g)
		l.legs = append(l.legs, g)
		if i%2 == 1 {
			g.other, l.legs[i-1].other = l.legs[i-1], g
		}
	}
	for i := range l.msgs {
		l.ivs[i].Base = &l.bufs[i][0]
		l.ivs[i].SetLen(len(l.bufs[i]))
		h := &l.msgs[i].hdr
		h.Name, h.Iov, h.Iovlen = (*byte)(unsafe.Pointer(&l.in[i])), &l.ivs[i], 1
	}
	go l.run()
	return l, nil
}

// close ends the thread and gives the sockets back.
func (l *load) close() {
	l.quit.Store(true)
	<-l.ended
	for i := range l.socks {
		syscall.Close(l.socks[i].fd)
	}
}

// do runs f in the thread and waits for it.
func (l *load) do(f func()) {
	done := make(chan struct{})
	select {
	case l.orders <- func() { f(); close(done) }:
		select {
		case <-done:
		case <-l.ended:
		}
	case <-l.ended:
	}
}

// talk lets a leg speak to where the house hears it.
func (l *load) talk(g *leg, to netip.AddrPort) {
	l.do(func() {
		g.to = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: to.Addr().As4(), Port: to.Port()<<8 | to.Port()>>8}
		g.host, g.port, g.talks = to.Addr().As4()[3], to.Port(), true
		if l.from[g.host] == nil {
			l.from[g.host] = map[uint16]*leg{}
		}
		l.from[g.host][g.port] = g
		g.Bridged, g.known, g.pressed, g.heard, g.askedAt, g.window = false, false, 0, 0, l.now, false
	})
}

// hush ends what talk began.
func (l *load) hush(g *leg) {
	l.do(func() {
		if g.talks {
			g.talks, g.window = false, false
			delete(l.from[g.host], g.port)
		}
	})
}

func (l *load) run() {
	defer close(l.ended)
	runtime.LockOSThread() // and never given back: the thread ends with the load
	// The network does not wait for a processor; neither does this thread, where it may.
	unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1}, 0)
	next := time.Now()
	for slot := 0; !l.quit.Load(); slot++ {
		next = next.Add(time.Millisecond)
		for range len(l.orders) {
			(<-l.orders)()
		}
		if wait := time.Until(next); wait > 0 {
			pause := unix.NsecToTimespec(int64(wait))
			unix.Nanosleep(&pause, nil)
		} else {
			l.Late = max(l.Late, -wait)
		}
		l.now = uint32(time.Since(l.began).Microseconds())
		for _, g := range l.slots[slot%len(l.slots)] {
			l.speak(g)
		}
		for i := range l.socks {
			l.flush(&l.socks[i])
		}
		l.now = uint32(time.Since(l.began).Microseconds())
		for i := range l.socks {
			l.listen(&l.socks[i])
		}
	}
}

// speak queues a leg's next packet: its voice, or a key.
func (l *load) speak(g *leg) {
	if !g.talks {
		return
	}
	l.answer(g)
	b := g.packet[:]
	b[0] = 0x80
	binary.BigEndian.PutUint32(b[8:], 0x70000000+g.id)
	size := 12 + voiceBytes
	if g.pressed > 0 {
		size = g.press(b)
	} else {
		b[1] = 0
		binary.BigEndian.PutUint32(b[4:], g.stamp)
		p := b[12:]
		binary.BigEndian.PutUint32(p, mark)
		binary.BigEndian.PutUint32(p[4:], g.id)
		binary.BigEndian.PutUint32(p[8:], g.count)
		binary.BigEndian.PutUint32(p[12:], l.now)
		g.count++
	}
	binary.BigEndian.PutUint16(b[2:], g.seq)
	g.seq++
	g.stamp += voiceBytes
	g.iov.Base = &b[0]
	if g.seal != nil {
		g.sealed, _ = g.seal.EncryptRTP(g.sealed[:0], b[:size], nil)
		size = len(g.sealed)
		g.iov.Base = &g.sealed[0]
	}
	g.iov.SetLen(size)
	s := g.sock
	s.out[s.n].hdr = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&g.to)), Namelen: unix.SizeofSockaddrInet4, Iov: &g.iov, Iovlen: 1}
	if s.n++; s.n == batch {
		l.flush(s)
	}
}

// answer presses 1 when a prompt has been heard and then silence: nobody here
// knows how long the house speaks, and a 1 too many says nothing.
func (l *load) answer(g *leg) {
	const silence, patience = 300_000, 2_000_000
	if g.Bridged || g.heard == 0 || l.now-g.heardAt < silence || l.now-g.askedAt < patience {
		return
	}
	g.askedAt, g.pressed, g.keyAt = l.now, 8, g.stamp
}

// press writes the next packet of the key 1 (RFC 4733): five while it is down,
// three that it is up again.
func (g *leg) press(b []byte) int {
	nth := 8 - g.pressed
	g.pressed--
	b[1] = 101
	if nth == 0 {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint32(b[4:], g.keyAt)
	b[12], b[13] = 1, 10
	if nth >= 5 {
		b[13] |= 0x80
	}
	binary.BigEndian.PutUint16(b[14:], uint16(min(nth+1, 6)*voiceBytes))
	return 16
}

// flush sends what is queued.
func (l *load) flush(s *sock) {
	for from := 0; from < s.n; {
		n, _, e := syscall.Syscall6(unix.SYS_SENDMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.out[from])), uintptr(s.n-from), 0, 0, 0)
		if e == syscall.EINTR {
			continue
		}
		if e != 0 {
			l.Unsent++
			n = 1
		}
		from += int(n)
	}
	s.n = 0
}

// listen empties a socket.
func (l *load) listen(s *sock) {
	for {
		for i := range l.msgs {
			l.msgs[i].hdr.Namelen = unix.SizeofSockaddrInet4
		}
		n, _, e := syscall.Syscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&l.msgs[0])), batch, syscall.MSG_DONTWAIT, 0, 0)
		if e != 0 {
			return
		}
		for i := range int(n) {
			port := l.in[i].Port<<8 | l.in[i].Port>>8
			if g := l.from[l.in[i].Addr[3]][port]; g != nil {
				l.hear(g, l.bufs[i][:l.msgs[i].n])
			} else {
				l.Alien++
			}
		}
		if n < batch {
			return
		}
	}
}

// hear takes a packet that came to a leg.
func (l *load) hear(g *leg, data []byte) {
	if len(data) < 12 {
		g.alien++
		return
	}
	if g.open != nil {
		plain, err := g.open.DecryptRTP(g.plain[:0], data, nil)
		if err != nil {
			g.alien++
			return
		}
		g.plain, data = plain, plain
	}
	g.heard++
	g.heardAt = l.now
	if data[1]&0x7f != 0 || len(data) < 28 {
		return // a key
	}
	from, seq, p := g.other, binary.BigEndian.Uint16(data[2:]), data[12:]
	var count uint16
	switch readable := binary.BigEndian.Uint32(p) == mark; {
	case readable && binary.BigEndian.Uint32(p[4:]) != from.id:
		g.alien++
		return
	case readable:
		count = uint16(binary.BigEndian.Uint32(p[8:]))
		g.offset, g.known, g.Bridged = seq-count, true, true
		l.delays[min(uint32(len(l.delays)-1), (l.now-binary.BigEndian.Uint32(p[12:]))/quarter)]++
	case g.known:
		count = seq - g.offset
		g.mixed++
	default:
		return // the house speaks
	}
	end := from.count
	if from.end != 0 {
		end = from.end
	}
	if !from.window || count-uint16(from.begin) >= uint16(end-from.begin) {
		return // of another window
	}
	if bit := uint64(1) << (count % 64); g.seen[count/64]&bit == 0 {
		g.seen[count/64] |= bit
		from.got++
	} else {
		g.twice++
	}
}

// count is what came of a window.
type count struct {
	Legs                             int
	Sent, Heard, Twice, Alien, Mixed int64
	Median, P99, Worst               time.Duration // from mouth to ear
	Lost                             int64
}

// open begins a window: what is said from now on is to be heard. Windows are
// shorter than ten minutes: counts are 16 bits wide.
func (l *load) open() {
	l.do(func() {
		for _, g := range l.legs {
			g.window = g.talks && g.Bridged && g.other.Bridged
			g.begin, g.end, g.got, g.twice, g.alien, g.mixed = g.count, 0, 0, 0, 0, 0
			clear(g.seen[:])
		}
		clear(l.delays[:])
	})
}

// shut ends a window; what was said in it may still arrive.
func (l *load) shut() {
	l.do(func() {
		for _, g := range l.legs {
			g.end = g.count
		}
	})
}

// result counts a window that was shut a moment ago.
func (l *load) result() (c count) {
	l.do(func() {
		for _, g := range l.legs {
			if !g.window {
				continue
			}
			c.Legs++
			c.Sent += int64(g.end - g.begin)
			c.Heard += g.got
			c.Twice, c.Alien, c.Mixed = c.Twice+g.twice, c.Alien+g.alien, c.Mixed+g.mixed
		}
		all := uint64(0)
		for _, n := range l.delays {
			all += n
		}
		c.Lost = c.Sent - c.Heard
		c.Median, c.P99, c.Worst = atDelay(l.delays[:], all/2), atDelay(l.delays[:], all-all/100), atDelay(l.delays[:], all)
	})
	return c
}

func atDelay(delays []uint64, nth uint64) time.Duration {
	below := uint64(0)
	for i, n := range delays {
		if below += n; below >= nth {
			return time.Duration(i+1) * quarter * time.Microsecond
		}
	}
	return 0
}

// bridged is how many of the first calls have both parties hearing each other.
func (l *load) bridged() (n int) {
	l.do(func() {
		for _, g := range l.legs {
			if g.id%2 == 0 && g.Bridged && g.other.Bridged {
				n++
			}
		}
	})
	return n
}

// protect makes a leg speak and hear SRTP.
func (l *load) protect(g *leg, profile srtp.ProtectionProfile, ours, theirs []byte) error {
	size, err := profile.KeyLen()
	if err != nil {
		return err
	}
	seal, err := srtp.CreateContext(ours[:size], ours[size:], profile)
	if err != nil {
		return err
	}
	open, err := srtp.CreateContext(theirs[:size], theirs[size:], profile, srtp.SRTPReplayProtection(64))
	if err != nil {
		return err
	}
	l.do(func() { g.seal, g.open, g.sealed, g.plain = seal, open, make([]byte, 0, 1500), make([]byte, 0, 1500) })
	return nil
}

// spoken reads the sound of a sealed track: the numbers of the packets that lie
// in it, whole and in their order.
func spoken(payload []byte, of uint32) (counts []uint32, others int) {
	for at := 0; at+voiceBytes <= len(payload); at++ {
		p := payload[at:]
		if binary.BigEndian.Uint32(p) != mark {
			continue
		}
		if binary.BigEndian.Uint32(p[4:]) != of {
			others++
			continue
		}
		counts = append(counts, binary.BigEndian.Uint32(p[8:]))
		at += voiceBytes - 1
	}
	return counts, others
}
