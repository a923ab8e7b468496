//go:build amd64 || arm64

package media

import (
	"encoding/binary"
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

func newCarrier(*Plane) carrier { return &threads{} }

// threads is the carrier of Linux: few threads, each with its own epoll, which
// drain all sockets every tick. The sockets are unknown to Go's poller, which
// would wake somebody for each packet, and the loop's system calls pass by its
// scheduler, so each of them must be one that never waits. The story of it is
// docs/decisions/0013-the-sound-plane.md.
type threads struct {
	mu     sync.Mutex // guards the rest
	all    []*thread
	closed bool
}

// fill is how many streams a thread takes before another is started: about a
// third of a core. Each thread costs its ticks.
const fill = 1024

// pick gives the thread for one more stream: the first that has room, a new
// one, or the one with the fewest.
func (c *threads) pick() (*thread, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
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
	t, err := startThread()
	switch {
	case err == nil:
		c.all = append(c.all, t)
		return t, nil
	case least != nil:
		return least, nil // slower, but it goes
	}
	return nil, err
}

func (c *threads) open(s *Stream, at netip.AddrPort) (wire, error) {
	t, err := c.pick()
	if err != nil {
		return nil, err
	}
	fd, err := bind(at)
	if err != nil {
		return nil, err
	}
	l := &line{thread: t, stream: s, fd: fd, inet6: at.Addr().Is6(), gone: make(chan struct{})}
	if err := t.watch(fd); err != nil {
		syscall.Close(fd)
		return nil, err
	}
	t.streams.Add(1)
	if !t.ask(request{add: l}) { // the plane was closed meanwhile
		t.streams.Add(-1)
		syscall.Close(fd)
		return nil, errClosed
	}
	return l, nil
}

// feed is given to the stream's own thread; one without a socket to the first.
func (c *threads) feed(s *Stream) {
	t := c.first()
	if l, ok := s.out.wire.(*line); ok {
		t = l.thread
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
		if t, err := startThread(); err == nil {
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

// bind makes a socket that Go's poller does not know.
func bind(at netip.AddrPort) (fd int, err error) {
	family, addr := syscall.AF_INET, syscall.Sockaddr(nil)
	if at.Addr().Is4() {
		addr = &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	} else {
		family, addr = syscall.AF_INET6, &syscall.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	}
	fd, err = syscall.Socket(family, syscall.SOCK_DGRAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	if family == syscall.AF_INET6 && at.Addr().IsUnspecified() {
		err = os.NewSyscallError("setsockopt", syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 0))
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

// line is one socket and the thread that reads it. Only the thread closes the
// socket: nobody reads or writes under a number that is somebody else's by now.
type line struct {
	thread *thread
	stream *Stream
	fd     int
	inet6  bool
	gone   chan struct{} // closed when the thread let go

	to     syscall.RawSockaddrInet6 // or Inet4
	toSize uintptr
}

func (l *line) aim(to netip.AddrPort) {
	if l.inet6 {
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
		_, _, e := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(l.fd), uintptr(unsafe.Pointer(&packet[0])), uintptr(len(packet)),
			syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, uintptr(unsafe.Pointer(&l.to)), l.toSize)
		switch e {
		case 0:
			return nil
		case syscall.EINTR:
		default:
			return e
		}
	}
}

// close asks the thread to let go and waits until it did. The sender is closed
// already, so nothing is sent any more.
func (l *line) close() {
	if l.thread.ask(request{drop: l}) {
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
	drained time.Time
	lines   []*line // by file number
	feeding []*Stream
	events  [128]syscall.EpollEvent
	desk    desk
	from    syscall.RawSockaddrInet6 // or Inet4
}

// request is what others want of a thread; one of these.
type request struct {
	add, drop *line
	feed      *Stream
	quit      bool
}

func startThread() (*thread, error) {
	t, err := newThread()
	if err == nil {
		t.running.Go(t.run)
	}
	return t, err
}

func newThread() (*thread, error) {
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
	for _, r := range requests {
		switch {
		case r.add != nil:
			t.lines = append(t.lines, make([]*line, max(0, r.add.fd+1-len(t.lines)))...)
			t.lines[r.add.fd] = r.add
		case r.drop != nil:
			t.let(r.drop)
		case r.feed != nil && !slices.Contains(t.feeding, r.feed):
			t.feeding = append(t.feeding, r.feed)
		case r.quit:
			t.end()
			return false
		}
	}
	return true
}

// let closes a line's socket. Closing takes it out of epoll, as nobody has
// another file for it. Its sender is shut already.
func (t *thread) let(l *line) {
	t.lines[l.fd] = nil
	syscall.Close(l.fd)
	t.streams.Add(-1)
	close(l.gone)
}

// end lets go of all that was not closed before.
func (t *thread) end() {
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
	t.serve() // what was asked meanwhile
	for _, l := range t.lines {
		if l != nil {
			l.stream.out.shut()
			t.let(l)
		}
	}
	for _, s := range t.feeding {
		s.out.abandon(errClosed)
	}
	t.closeFiles()
}

// maxRounds bounds what a thread takes of one socket at once, after it was held
// up: a second of sound.
const maxRounds = 50

// drain takes one packet of each socket that has any, and more where the tick
// is late: four times what a party sends meanwhile. A socket that is flooded
// gets no more turns than the others, and what it cannot hold the kernel drops.
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
func (t *thread) round(now time.Time) (packets int) {
	for {
		n := t.ready()
		for _, e := range t.events[:n] {
			if int(e.Fd) == t.bell {
				t.hush()
			} else if int(e.Fd) < len(t.lines) && t.lines[e.Fd] != nil {
				t.receive(t.lines[e.Fd], now)
				packets++
			}
		}
		if n < len(t.events) || packets > len(t.lines) {
			return packets
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

// receive takes one datagram. Whatever else happens is left to the next tick.
func (t *thread) receive(l *line, now time.Time) {
	if n := t.take(l); n > 0 {
		l.stream.read(&t.desk, n, t.sender(), now)
	}
}

// take puts a datagram on the desk; 0 when there is none.
func (t *thread) take(l *line) int {
	size := uint32(syscall.SizeofSockaddrInet6)
	n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(l.fd), uintptr(unsafe.Pointer(&t.desk.data[0])), uintptr(len(t.desk.data)),
		syscall.MSG_DONTWAIT, uintptr(unsafe.Pointer(&t.from)), uintptr(unsafe.Pointer(&size)))
	if e != 0 {
		return 0
	}
	return int(n)
}

// sender is whom the datagram on the desk came from.
func (t *thread) sender() netip.AddrPort {
	if t.from.Family == syscall.AF_INET6 {
		return netip.AddrPortFrom(netip.AddrFrom16(t.from.Addr).Unmap(), unport(&t.from.Port))
	}
	four := (*syscall.RawSockaddrInet4)(unsafe.Pointer(&t.from))
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
