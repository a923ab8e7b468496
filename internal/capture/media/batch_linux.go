//go:build amd64 || arm64

package media

import (
	"net/netip"
	"syscall"
	"unsafe"
)

// batch is what one system call takes of a shared socket.
type batch struct {
	nth      map[netip.Addr]int
	messages []message
	vectors  []syscall.Iovec
	from     []syscall.RawSockaddrInet6 // or Inet4
	infos    []pktinfo
	data     [][roomRTP]byte
}

// message is the system's struct mmsghdr.
type message struct {
	syscall.Msghdr
	size uint32
	_    [4]byte
}

// pktinfo is a control message that says which address of ours a datagram went
// to, or is to come from (ip(7), ipv6(7)).
type pktinfo struct {
	syscall.Cmsghdr
	body [24]byte // in_pktinfo: the interface, ours by the routes, the one in the header; in6_pktinfo: the address, the interface
}

func newBatch(nth map[netip.Addr]int) *batch {
	n := len(nth)
	b := &batch{nth: nth, messages: make([]message, n), vectors: make([]syscall.Iovec, n),
		from: make([]syscall.RawSockaddrInet6, n), infos: make([]pktinfo, n), data: make([][roomRTP]byte, n)}
	for i := range b.messages {
		b.vectors[i] = syscall.Iovec{Base: &b.data[i][0], Len: roomRTP}
		m := &b.messages[i]
		m.Name, m.Control = (*byte)(unsafe.Pointer(&b.from[i])), (*byte)(unsafe.Pointer(&b.infos[i]))
		m.Iov, m.Iovlen = &b.vectors[i], 1
	}
	return b
}

// take fills the batch with up to so many datagrams of a socket, without
// waiting, and says how many there were.
func (b *batch) take(fd, most int) int {
	for i := range most {
		b.messages[i].Namelen, b.messages[i].Controllen = syscall.SizeofSockaddrInet6, uint64(unsafe.Sizeof(pktinfo{}))
	}
	n, _, e := syscall.RawSyscall6(syscall.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.messages[0])), uintptr(most), syscall.MSG_DONTWAIT, 0, 0)
	if e != 0 {
		return 0
	}
	return int(n)
}

func (b *batch) datagram(i int) []byte { return b.data[i][:min(b.messages[i].size, roomRTP)] }

// nthOf is at which of the plane's addresses a datagram came; false when at none,
// or when the system did not say.
func (b *batch) nthOf(i int) (nth int, ok bool) {
	m, info := &b.messages[i], &b.infos[i]
	if m.Controllen < syscall.SizeofCmsghdr || m.Controllen < info.Len {
		return 0, false
	}
	switch {
	case info.Level == syscall.IPPROTO_IP && info.Type == syscall.IP_PKTINFO && info.Len >= syscall.SizeofCmsghdr+syscall.SizeofInet4Pktinfo:
		nth, ok = b.nth[netip.AddrFrom4([4]byte(info.body[8:12]))]
	case info.Level == syscall.IPPROTO_IPV6 && info.Type == syscall.IPV6_PKTINFO && info.Len >= syscall.SizeofCmsghdr+syscall.SizeofInet6Pktinfo:
		nth, ok = b.nth[netip.AddrFrom16([16]byte(info.body[:16]))]
	}
	return nth, ok
}

// from lets a datagram come from an address of ours; the answer is the length of
// the message.
func (p *pktinfo) from(at netip.Addr) (size uint64) {
	if at.Is4() {
		four := at.As4()
		copy(p.body[4:], four[:])
		p.Level, p.Type, p.Len = syscall.IPPROTO_IP, syscall.IP_PKTINFO, syscall.SizeofCmsghdr+syscall.SizeofInet4Pktinfo
		return 32 // with the space up to the next message
	}
	sixteen := at.As16()
	copy(p.body[:], sixteen[:])
	p.Level, p.Type, p.Len = syscall.IPPROTO_IPV6, syscall.IPV6_PKTINFO, syscall.SizeofCmsghdr+syscall.SizeofInet6Pktinfo
	return 40
}
