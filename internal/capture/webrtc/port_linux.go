package webrtc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"github.com/pion/stun/v4"
	"golang.org/x/sys/unix"

	"yesline/internal/capture/media"
)

// port is one socket of the door's UDP port, outside Go's poller, which would
// wake a thread for every packet: its own thread empties it every two
// milliseconds, with one system call for many packets. While no browser is
// there the thread sleeps in the kernel.
type port struct {
	ground
	fd   int
	wake int // an eventfd: the door closes
	six  bool
}

// address is a source as the kernel wants it.
type address struct {
	from netip.AddrPort
	raw  [unix.SizeofSockaddrInet6]byte
	size uint32
}

func (a *address) source() netip.AddrPort { return a.from }

func addressOf(from netip.AddrPort) (a address) {
	a.from = from
	binary.BigEndian.PutUint16(a.raw[2:], from.Port())
	if from.Addr().Is4() {
		*(*uint16)(unsafe.Pointer(&a.raw[0])) = unix.AF_INET
		ip := from.Addr().As4()
		copy(a.raw[4:], ip[:])
		a.size = unix.SizeofSockaddrInet4
		return a
	}
	*(*uint16)(unsafe.Pointer(&a.raw[0])) = unix.AF_INET6
	ip := from.Addr().As16()
	copy(a.raw[8:], ip[:])
	a.size = unix.SizeofSockaddrInet6
	return a
}

// addressed gives an IPv4 address the form in which a socket of both families
// wants it.
func (p *port) addressed(from netip.AddrPort) address {
	if p.six && from.Addr().Is4() {
		a := addressOf(netip.AddrPortFrom(netip.AddrFrom16(from.Addr().As16()), from.Port()))
		a.from = from
		return a
	}
	return addressOf(from)
}

// readSource is where a packet came from.
func readSource(raw *[unix.SizeofSockaddrInet6]byte) netip.AddrPort {
	at := binary.BigEndian.Uint16(raw[2:])
	if *(*uint16)(unsafe.Pointer(&raw[0])) == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(raw[4:8])), at)
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(raw[8:24])).Unmap(), at)
}

// openPorts binds n sockets to one port; the kernel gives each source always to
// the same one. Port 0 takes any.
func openPorts(d *Door, at netip.AddrPort, n int) (ports []*port, err error) {
	for range n {
		p, err := openPort(d, at)
		if err != nil {
			for _, p := range ports {
				p.close()
			}
			return nil, fmt.Errorf("opening the browsers' port %s: %w", at, err)
		}
		ports = append(ports, p)
		at = netip.AddrPortFrom(at.Addr(), p.local())
	}
	return ports, nil
}

// openPort lets Go make the socket, and takes a copy of it out of Go's poller.
func openPort(d *Door, at netip.AddrPort) (*port, error) {
	shared := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		return err
	}}
	conn, err := shared.ListenPacket(context.Background(), "udp", at.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	udp := conn.(*net.UDPConn)
	udp.SetReadBuffer(portBuffer) // as much of it as the system allows
	udp.SetWriteBuffer(portBuffer)
	p := &port{ground: ground{door: d, paths: map[netip.AddrPort]*path{}}, six: !at.Addr().Is4()}
	raw, err := udp.SyscallConn()
	if err != nil {
		return nil, err
	}
	failed := error(nil)
	err = raw.Control(func(fd uintptr) { p.fd, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	if p.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(p.fd)
		return nil, err
	}
	return p, nil
}

const portBuffer = 8 << 20

// local is the port's number.
func (p *port) local() uint16 {
	at, err := unix.Getsockname(p.fd)
	if err != nil {
		return 0
	}
	switch at := at.(type) {
	case *unix.SockaddrInet4:
		return uint16(at.Port)
	case *unix.SockaddrInet6:
		return uint16(at.Port)
	}
	return 0
}

// send gives a datagram to the kernel, which copies it and does not wait. It
// reports whether the kernel took it.
func (p *port) send(b []byte, to *address) bool {
	if len(b) == 0 {
		return true
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(p.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, uintptr(unsafe.Pointer(&to.raw)), uintptr(to.size))
	return errno == 0
}

const batch = 64

// message is the kernel's struct mmsghdr.
type message struct {
	header unix.Msghdr
	length uint32
}

// desk is what one reading of the port fills.
type desk struct {
	messages [batch]message
	vectors  [batch]unix.Iovec
	sources  [batch][unix.SizeofSockaddrInet6]byte
	data     [batch][maxDatagram]byte
	check    stun.Message
}

func newDesk() *desk {
	k := &desk{}
	for i := range k.messages {
		k.vectors[i].Base = &k.data[i][0]
		k.vectors[i].SetLen(maxDatagram)
		k.messages[i].header.Name = &k.sources[i][0]
		k.messages[i].header.Iov = &k.vectors[i]
		k.messages[i].header.SetIovlen(1)
	}
	return k
}

// read empties the port until it is closed.
func (p *port) read() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	k := newDesk() // on the heap: the kernel holds pointers into it
	pace := p.door.plane.Pace()
	for p.rest(pace) {
		pace.Tick(time.Now())
		for p.empty(k) == batch {
		}
	}
	unix.Close(p.fd)
	unix.Close(p.wake)
}

// empty reads what is there, at most one batch, and gives how much it was.
func (p *port) empty(k *desk) int {
	for i := range k.messages {
		k.messages[i].header.Namelen = unix.SizeofSockaddrInet6
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(p.fd), uintptr(unsafe.Pointer(&k.messages[0])), batch, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0 // nothing there, or nothing we know of
	}
	now := time.Now()
	for i := range int(n) {
		m := &k.messages[i]
		if m.header.Flags&unix.MSG_TRUNC != 0 {
			p.door.count.Odd.Add(1)
			continue
		}
		p.datagram(k.data[i][:m.length], readSource(&k.sources[i]), &k.check, now)
	}
	return int(n)
}

// rest sleeps until the next emptying; without browsers, until something comes.
// It is false when the port is to close.
func (p *port) rest(pace *media.Pace) bool {
	fds := [2]unix.PollFd{{Fd: int32(p.wake), Events: unix.POLLIN}, {Fd: int32(p.fd), Events: unix.POLLIN}}
	if p.resting() {
		unix.Ppoll(fds[:], nil, nil)
		pace.Rest()
	} else {
		unix.Ppoll(fds[:1], &unix.Timespec{Nsec: int64(drained)}, nil)
	}
	return fds[0].Revents == 0
}

// close wakes the reader, which closes the sockets.
func (p *port) close() {
	unix.Write(p.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}
