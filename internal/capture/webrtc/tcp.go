package webrtc

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/stun/v4"
)

// Browsers whose network lets no UDP through come by TCP (RFC 6544): the same
// datagrams, each behind its length (RFC 4571).

const (
	proveTime   = 5 * time.Second  // until a connection has shown a password of ours
	silentTime  = 30 * time.Second // that a connection may say nothing
	tcpQueue    = 64               // datagrams that wait for a slow network, then they are lost
	tcpBuffer   = 32 << 10
	maxUnproved = 256 // connections that have shown none yet
	maxOfOne    = 16  // of them, of one address
)

// stream is one TCP connection of a browser.
type stream struct {
	door  *Door
	conn  net.Conn
	from  netip.AddrPort
	queue chan *[]byte
	done  chan struct{} // closed when nobody reads it any more
	spare *sync.Pool
}

// accept takes connections until the door closes.
func (d *Door) accept() {
	spare := &sync.Pool{New: func() any { return new([]byte) }}
	for {
		conn, err := d.listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(drained) // out of files, or gone already; do not spin
			continue
		}
		conn.SetWriteBuffer(tcpBuffer)
		from := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
		s := &stream{door: d, conn: conn, from: netip.AddrPortFrom(from.Addr().Unmap(), from.Port()),
			queue: make(chan *[]byte, tcpQueue), done: make(chan struct{}), spare: spare}
		if gives := d.enter(s); gives != nil {
			d.count.Refused.Add(1)
			gives.conn.Close()
		}
		d.owned.Go(s.serve)
	}
}

// enter takes a connection in that has proved nothing. When there are too many
// of those, of its address or in all, it gives one that gives way: who waits
// without a word keeps nobody out.
func (d *Door) enter(s *stream) (gives *stream) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var any, neighbour *stream
	beside := 0
	for o := range d.unproved {
		any = o
		if o.home() == s.home() {
			neighbour = o
			beside++
		}
	}
	switch {
	case beside >= maxOfOne:
		gives = neighbour
	case len(d.unproved) >= maxUnproved:
		gives = any
	}
	delete(d.unproved, gives)
	d.unproved[s] = struct{}{}
	return gives
}

// leave is for a connection that has proved whose it is, or never will.
func (d *Door) leave(s *stream) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.unproved, s)
}

// home is what one neighbour has of addresses: of IPv6 a whole network.
func (s *stream) home() netip.Prefix {
	bits := 32
	if s.from.Addr().Is6() {
		bits = 64
	}
	return netip.PrefixFrom(s.from.Addr(), bits).Masked()
}

// serve reads a connection to its end. It is closed when it shows no password
// in time, when its browser is silent, with its call, and with the door.
func (s *stream) serve() {
	defer context.AfterFunc(s.door.ctx, func() { s.conn.Close() })()
	defer s.conn.Close()
	s.conn.SetReadDeadline(time.Now().Add(proveTime))
	in := bufio.NewReaderSize(s.conn, 4<<10)
	var check stun.Message
	var data [maxDatagram]byte
	at := s.prove(in, &data, &check)
	s.door.leave(s)
	if at == nil {
		return
	}
	h := at.handset
	defer h.lose(at)
	defer context.AfterFunc(h.ctx, func() { s.conn.Close() })()
	var writing sync.WaitGroup
	writing.Go(s.write)
	defer writing.Wait()
	defer s.conn.Close()
	defer close(s.done)
	for {
		s.conn.SetReadDeadline(time.Now().Add(silentTime))
		b, err := readFramed(in, &data)
		if err != nil {
			return
		}
		if len(b) > 0 && b[0] >= 4 {
			at.take(b, time.Now())
			continue
		}
		if by, reply := s.door.check(b, s.from, &check); reply != nil && by.handset == h {
			h.prove(at, by, time.Now())
			at.send(reply)
		}
	}
}

// prove waits for the first thing that a browser sends, its check.
func (s *stream) prove(in *bufio.Reader, data *[maxDatagram]byte, check *stun.Message) *path {
	b, err := readFramed(in, data)
	if err != nil {
		return nil
	}
	by, reply := s.door.check(b, s.from, check)
	if reply == nil {
		return nil
	}
	at := &path{handset: by.handset, conn: s}
	at.live.Store(true) // nobody connects from where they are not
	by.handset.prove(at, by, time.Now())
	at.send(reply)
	return at
}

// readFramed reads one datagram behind its length.
func readFramed(in *bufio.Reader, data *[maxDatagram]byte) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(in, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint16(length[:])
	if n > maxDatagram {
		return nil, errors.New("a framed datagram is too long")
	}
	_, err := io.ReadFull(in, data[:n])
	return data[:n], err
}

// send leaves a datagram to the writer, if it has room. It never waits: a network
// that is too slow for a voice loses some of it.
func (s *stream) send(b []byte) bool {
	frame := s.spare.Get().(*[]byte)
	*frame = binary.BigEndian.AppendUint16((*frame)[:0], uint16(len(b)))
	*frame = append(*frame, b...)
	select {
	case s.queue <- frame:
		return true
	default:
		s.spare.Put(frame)
		return false
	}
}

// write sends what waits, until the reader ends or the network does.
func (s *stream) write() {
	for {
		select {
		case <-s.done:
			return
		case frame := <-s.queue:
			_, err := s.conn.Write(*frame)
			s.spare.Put(frame)
			if err != nil {
				s.conn.Close() // the reader ends
				return
			}
		}
	}
}
