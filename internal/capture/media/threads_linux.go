//go:build amd64 || arm64

package media

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

func newCarrier(p *Plane) carrier {
	c := &threads{pace: p.Pace, inlets: map[uint16]*inlet{}}
	if addrs := p.places.addrs; len(addrs) > 1 {
		c.nth = map[netip.Addr]int{}
		for i, at := range addrs {
			c.nth[at] = i
		}
	}
	return c
}

// threads is the carrier of Linux: few threads, each with its own epoll, which
// drain all sockets every tick. The sockets are unknown to Go's poller, which
// would wake somebody for each packet, and the loop's system calls pass by its
// scheduler, so each of them must be one that never waits. The story of it is
// docs/decisions/0013-the-sound-plane.md.
type threads struct {
	nth  map[netip.Addr]int // of the plane's addresses; nil when it has one
	pace func() *Pace       // for one more thread

	mu     sync.Mutex // guards the rest
	all    []*thread
	inlets map[uint16]*inlet // the shared ones, by port
	closed bool
}

// fill is how many streams a thread takes before another is started: about a
// third of a core. Each thread costs its ticks.
const fill = 1024

// pick gives the thread for one more stream: the first that has room, a new
// one, or the one with the fewest. Called with mu held.
func (c *threads) pick() (*thread, error) {
	var least *thread
	for _, t := range c.all {
		if least == nil || t.streams.Load() < least.streams.Load() {
			least = t
		}
		if t.streams.Load() < fill {
			return t, nil
		}
	}
	if len(c.all) >= runtime.GOMAXPROCS(0) {
		return least, nil
	}
	t, err := startThread(c.nth, c.pace())
	switch {
	case err == nil:
		c.all = append(c.all, t)
		return t, nil
	case least != nil:
		return least, nil // slower, but it goes
	}
	return nil, err
}

// open gives a stream its inlet. A thread ends only after the carrier closed, so
// while mu is held it takes what it is asked.
func (c *threads) open(s *Stream, at netip.AddrPort) (wire, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	in := c.inlets[at.Port()]
	if in == nil {
		var err error
		if in, err = c.inlet(at); err != nil {
			return nil, err
		}
	}
	in.users++
	in.thread.streams.Add(1)
	l := &line{inlet: in, carrier: c, stream: s, nth: c.nth[at.Addr()], at: at.Addr(), gone: make(chan struct{})}
	in.thread.ask(request{add: l})
	return l, nil
}

// inlet opens a socket for a port: of one address, or of all that the plane
// has.
func (c *threads) inlet(at netip.AddrPort) (*inlet, error) {
	t, err := c.pick()
	if err != nil {
		return nil, err
	}
	in := &inlet{thread: t, inet6: at.Addr().Is6(), lines: make([]*line, max(1, len(c.nth)))}
	if in.fd, err = bind(at, len(c.nth)); err != nil {
		return nil, err
	}
	if err := t.watch(in.fd); err != nil {
		syscall.Close(in.fd)
		return nil, err
	}
	if len(c.nth) > 0 {
		in.shared = true
		c.inlets[at.Port()] = in
	}
	return in, nil
}

// leave takes a stream from its inlet; last says that nobody is left there, and
// then nobody comes any more.
func (c *threads) leave(l *line) (last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	in := l.inlet
	if in.users--; in.users > 0 {
		return false
	}
	maps.DeleteFunc(c.inlets, func(_ uint16, other *inlet) bool { return other == in })
	return true
}

// feed is given to the stream's own thread; one without a socket to the first.
func (c *threads) feed(s *Stream) {
	t := c.first()
	if l, ok := s.out.wire.(*line); ok {
		t = l.inlet.thread
	}
	if t == nil || !t.ask(request{feed: s}) {
		s.out.abandon(errClosed)
	}
}

// first starts a thread if there is none; nil if that cannot be.
func (c *threads) first() *thread {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) == 0 && !c.closed {
		if t, err := startThread(c.nth, c.pace()); err == nil {
			c.all = append(c.all, t)
		}
	}
	if len(c.all) == 0 {
		return nil
	}
	return c.all[0]
}

func (c *threads) close() {
	c.mu.Lock()
	c.closed = true
	all := c.all
	c.mu.Unlock()
	for _, t := range all {
		t.ask(request{quit: true})
		t.running.Wait()
	}
}

// bind makes a socket that Go's poller does not know; for several addresses one
// that tells which of them a datagram went to.
func bind(at netip.AddrPort, several int) (fd int, err error) {
	ip := at.Addr()
	family, addr := syscall.AF_INET, syscall.Sockaddr(nil)
	switch {
	case ip.Is4() && several > 0:
		addr = &syscall.SockaddrInet4{Port: int(at.Port())}
	case ip.Is4():
		addr = &syscall.SockaddrInet4{Port: int(at.Port()), Addr: ip.As4()}
	case several > 0:
		family, addr = syscall.AF_INET6, &syscall.SockaddrInet6{Port: int(at.Port())}
	default:
		family, addr = syscall.AF_INET6, &syscall.SockaddrInet6{Port: int(at.Port()), Addr: ip.As16()}
	}
	fd, err = syscall.Socket(family, syscall.SOCK_DGRAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	set := func(level, option, value int) {
		if err == nil {
			err = os.NewSyscallError("setsockopt", syscall.SetsockoptInt(fd, level, option, value))
		}
	}
	switch {
	case several > 0 && ip.Is4():
		set(syscall.IPPROTO_IP, syscall.IP_PKTINFO, 1)
	case several > 0:
		set(syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 1)
		set(syscall.IPPROTO_IPV6, syscall.IPV6_RECVPKTINFO, 1)
	case ip.Is6() && ip.IsUnspecified():
		set(syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 0)
	}
	if err == nil && several > 0 {
		room := several * roomEach
		if syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, room) != nil {
			syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, room) // as much as an ordinary process may
		}
	}
	if err == nil {
		err = os.NewSyscallError("bind", syscall.Bind(fd, addr))
	}
	if err != nil {
		syscall.Close(fd)
		return 0, err
	}
	return fd, nil
}

// roomEach is what a shared socket holds for each party while its thread is
// held up: two seconds of sound, as the kernel counts.
const roomEach = 64 << 10

// inlet is one socket and the thread that reads it. Only the thread closes the
// socket: nobody reads or writes under a number that is somebody else's by now.
//
// A shared one is bound to a port of every address. Whose a datagram is, is told
// by the address that it went to, and by nothing that its sender chose besides:
// no other stream has this address and port, as if the socket were its own.
type inlet struct {
	thread *thread
	fd     int
	inet6  bool
	shared bool
	lines  []*line // the thread's own: by address, or the one
	users  int     // guarded by the carrier's mu
}

// line is a stream at its inlet.
type line struct {
	inlet   *inlet
	carrier *threads
	stream  *Stream
	nth     int // of the inlet's lines
	at      netip.Addr
	gone    chan struct{} // closed when the thread let go

	to     syscall.RawSockaddrInet6 // or Inet4
	toSize uintptr
}

func (l *line) aim(to netip.AddrPort) {
	if l.inlet.inet6 {
		l.to = syscall.RawSockaddrInet6{Family: syscall.AF_INET6, Addr: to.Addr().As16()}
		l.toSize = syscall.SizeofSockaddrInet6
		port(&l.to.Port, to.Port())
		return
	}
	l.toSize = 0
	if !to.Addr().Is4() {
		return // not to be reached from here
	}
	four := (*syscall.RawSockaddrInet4)(unsafe.Pointer(&l.to))
	*four = syscall.RawSockaddrInet4{Family: syscall.AF_INET, Addr: to.Addr().As4()}
	l.toSize = syscall.SizeofSockaddrInet4
	port(&four.Port, to.Port())
}

// port puts a port in the order of the network.
func port(to *uint16, port uint16) {
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(to))[:], port)
}

// send never waits: what the kernel has no room for is lost.
func (l *line) send(packet []byte) error {
	if l.toSize == 0 {
		return syscall.EAFNOSUPPORT
	}
	for {
		e := l.try(packet)
		if e == 0 {
			return nil
		}
		if e != syscall.EINTR {
			return e
		}
	}
}

func (l *line) try(packet []byte) (e syscall.Errno) {
	const flags = syscall.MSG_DONTWAIT | syscall.MSG_NOSIGNAL
	if !l.inlet.shared {
		_, _, e = syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(l.inlet.fd), uintptr(unsafe.Pointer(&packet[0])), uintptr(len(packet)),
			flags, uintptr(unsafe.Pointer(&l.to)), l.toSize)
		return e
	}
	var info pktinfo
	vector := syscall.Iovec{Base: &packet[0], Len: uint64(len(packet))}
	message := syscall.Msghdr{Name: (*byte)(unsafe.Pointer(&l.to)), Namelen: uint32(l.toSize), Iov: &vector, Iovlen: 1}
	message.Control, message.Controllen = (*byte)(unsafe.Pointer(&info)), info.from(l.at)
	_, _, e = syscall.RawSyscall(syscall.SYS_SENDMSG, uintptr(l.inlet.fd), uintptr(unsafe.Pointer(&message)), flags)
	return e
}

// close asks the thread to let go and waits until it did. The sender is closed
// already, so nothing is sent any more.
func (l *line) close() {
	if l.inlet.thread.ask(request{drop: l, last: l.carrier.leave(l)}) {
		<-l.gone
	}
}

// thread drains the sockets of many streams and plays their prompts.
type thread struct {
	epoll, bell int
	streams     atomic.Int32
	asleep      atomic.Bool // it waits for a packet or the bell
	asked       atomic.Bool // there are requests
	running     sync.WaitGroup

	mu       sync.Mutex // guards the rest
	requests []request
	ended    bool

	// These are the thread's own.
	pace    *Pace
	drained time.Time
	inlets  []*inlet // by file number
	feeding []*Stream
	events  [128]syscall.EpollEvent
	desk    desk
	from    syscall.RawSockaddrInet6 // or Inet4
	batch   *batch                   // nil when the plane has one address
}

// request is what others want of a thread; one of these.
type request struct {
	add, drop *line
	last      bool // nobody is left at the inlet of drop
	feed      *Stream
	quit      bool
}

func startThread(nth map[netip.Addr]int, pace *Pace) (*thread, error) {
	t, err := newThread(nth)
	if err == nil {
		t.pace = pace
		t.running.Go(t.run)
	}
	return t, err
}

func newThread(nth map[netip.Addr]int) (*thread, error) {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create", err)
	}
	bell, _, e := syscall.Syscall(syscall.SYS_EVENTFD2, 0, syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if e != 0 {
		syscall.Close(epoll)
		return nil, os.NewSyscallError("eventfd", e)
	}
	t := &thread{epoll: epoll, bell: int(bell)}
	if nth != nil {
		t.batch = newBatch(nth)
	}
	if err := t.watch(t.bell); err != nil {
		t.closeFiles()
		return nil, err
	}
	return t, nil
}

// watch lets epoll tell of a file as long as it is readable.
func (t *thread) watch(fd int) error {
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(t.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}))
}

func (t *thread) closeFiles() {
	syscall.Close(t.epoll)
	syscall.Close(t.bell)
}

// ask hands a request over; false when the thread has ended.
func (t *thread) ask(r request) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return false
	}
	t.requests = append(t.requests, r)
	t.asked.Store(true)
	if t.asleep.Load() {
		one := [8]byte{0: 1}
		syscall.Write(t.bell, one[:]) // it can only be full, and rings then
	}
	return true
}

const restAfter = 250 // ticks without a packet: half a second

func (t *thread) run() {
	quiet := 0
	for {
		now := time.Now()
		t.pace.Tick(now)
		if t.asked.Load() && !t.serve() {
			return
		}
		packets := t.drain(now)
		t.feed(now)
		if quiet++; packets > 0 || len(t.feeding) > 0 {
			quiet = 0
		}
		if quiet < restAfter {
			pause(tick - time.Since(now))
			continue
		}
		t.rest()
		t.pace.Rest()
		quiet = 0
	}
}

// serve does what others asked for; false at the end.
func (t *thread) serve() bool {
	t.mu.Lock()
	requests := t.requests
	t.requests = nil
	t.asked.Store(false)
	t.mu.Unlock()
	goes := true
	for _, r := range requests {
		switch {
		case r.add != nil:
			in := r.add.inlet
			t.inlets = append(t.inlets, make([]*inlet, max(0, in.fd+1-len(t.inlets)))...)
			t.inlets[in.fd], in.lines[r.add.nth] = in, r.add
		case r.drop != nil:
			t.let(r.drop)
			if r.last {
				t.shut(r.drop.inlet)
			}
		case r.feed != nil && !slices.Contains(t.feeding, r.feed):
			t.feeding = append(t.feeding, r.feed)
		case r.quit:
			goes = false
		}
	}
	if !goes {
		t.end()
	}
	return goes
}

// let forgets a line, whose sender is shut already.
func (t *thread) let(l *line) {
	l.inlet.lines[l.nth] = nil
	t.streams.Add(-1)
	close(l.gone)
}

// shut closes a socket. That takes it out of epoll, as nobody has another file
// for it.
func (t *thread) shut(in *inlet) {
	t.inlets[in.fd] = nil
	syscall.Close(in.fd)
}

// end lets go of all that was not closed before.
func (t *thread) end() {
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
	t.serve() // what was asked meanwhile
	for _, in := range t.inlets {
		if in == nil {
			continue
		}
		for _, l := range in.lines {
			if l != nil {
				l.stream.out.shut()
				t.let(l)
			}
		}
		t.shut(in)
	}
	for _, s := range t.feeding {
		s.out.abandon(errClosed)
	}
	t.closeFiles()
}

// maxRounds bounds what a thread takes of one socket at once, after it was held
// up: a second of sound.
const maxRounds = 50

// drain takes one packet of each socket that has any, of a shared one as many
// as it has parties, and more where the tick is late: four times what a party
// sends meanwhile. A socket that is flooded gets no more turns than the others,
// and what it cannot hold the kernel drops.
func (t *thread) drain(now time.Time) (packets int) {
	rounds := 1 + min(maxRounds, now.Sub(t.drained)/(frame/4))
	t.drained = now
	for range rounds {
		n := t.round(now)
		if n == 0 {
			break
		}
		packets += n
		now = time.Now()
	}
	return packets
}

// round gives every socket its turn.
func (t *thread) round(now time.Time) (turns int) {
	for {
		n := t.ready()
		for _, e := range t.events[:n] {
			if int(e.Fd) == t.bell {
				t.hush()
			} else if int(e.Fd) < len(t.inlets) && t.inlets[e.Fd] != nil {
				t.receive(t.inlets[e.Fd], now)
				turns++
			}
		}
		if n < len(t.events) || turns > len(t.inlets) {
			return turns
		}
	}
}

// ready asks epoll which sockets have packets, without waiting.
func (t *thread) ready() int {
	n, _, e := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(t.epoll), uintptr(unsafe.Pointer(&t.events[0])), uintptr(len(t.events)), 0, 0, 0)
	if e != 0 {
		return 0 // interrupted; the next tick asks again
	}
	return int(n)
}

// rest waits for the first packet or the bell, however long.
func (t *thread) rest() {
	t.asleep.Store(true)
	if !t.asked.Load() {
		syscall.EpollWait(t.epoll, t.events[:1], -1) // drain asks again who it was
	}
	t.asleep.Store(false)
}

func (t *thread) hush() {
	var count [8]byte
	syscall.RawSyscall(syscall.SYS_READ, uintptr(t.bell), uintptr(unsafe.Pointer(&count[0])), uintptr(len(count)))
}

// receive gives a socket its turn. Whatever else happens is left to the next
// tick.
func (t *thread) receive(in *inlet, now time.Time) {
	if in.shared {
		t.receiveShared(in, now)
		return
	}
	if n := t.take(in.fd); n > 0 && in.lines[0] != nil {
		in.lines[0].stream.read(&t.desk, t.desk.data[:n], origin(&t.from), now)
	}
}

func (t *thread) receiveShared(in *inlet, now time.Time) {
	for i := range t.batch.take(in.fd, len(in.lines)) {
		nth, ok := t.batch.nthOf(i)
		if !ok || in.lines[nth] == nil {
			continue // to an address where nobody is
		}
		in.lines[nth].stream.read(&t.desk, t.batch.datagram(i), origin(&t.batch.from[i]), now)
	}
}

// take puts a datagram on the desk; 0 when there is none.
func (t *thread) take(fd int) int {
	size := uint32(syscall.SizeofSockaddrInet6)
	n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&t.desk.data[0])), uintptr(len(t.desk.data)),
		syscall.MSG_DONTWAIT, uintptr(unsafe.Pointer(&t.from)), uintptr(unsafe.Pointer(&size)))
	if e != 0 {
		return 0
	}
	return int(n)
}

// origin is whom a datagram came from.
func origin(from *syscall.RawSockaddrInet6) netip.AddrPort {
	if from.Family == syscall.AF_INET6 {
		return netip.AddrPortFrom(netip.AddrFrom16(from.Addr).Unmap(), unport(&from.Port))
	}
	four := (*syscall.RawSockaddrInet4)(unsafe.Pointer(from))
	return netip.AddrPortFrom(netip.AddrFrom4(four.Addr), unport(&four.Port))
}

func unport(p *uint16) uint16 { return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(p))[:]) }

// feed plays what is due.
func (t *thread) feed(now time.Time) {
	if len(t.feeding) > 0 {
		t.feeding = slices.DeleteFunc(t.feeding, func(s *Stream) bool { return !s.out.feed(&t.desk, now) })
	}
}

// pause gives the rest of the tick to others. It is Go's own sleep: a system
// call that sleeps costs more, as it keeps Go's watchdog busy.
func pause(rest time.Duration) {
	if rest <= 0 {
		runtime.Gosched()
		return
	}
	time.Sleep(rest)
}
