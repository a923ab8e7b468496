//go:build !linux

package webrtc

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/pion/stun/v4"
)

// port is the door's UDP port, read by a goroutine. It works everywhere and
// costs a wake-up for each packet.
type port struct {
	ground
	conn *net.UDPConn
}

type address struct{ from netip.AddrPort }

func (a *address) source() netip.AddrPort { return a.from }

func (p *port) addressed(from netip.AddrPort) address { return address{from} }

func openPorts(d *Door, at netip.AddrPort, _ int) ([]*port, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("opening the browsers' port %s: %w", at, err)
	}
	return []*port{{ground: ground{door: d, paths: map[netip.AddrPort]*path{}}, conn: conn}}, nil
}

func (p *port) local() uint16 { return p.conn.LocalAddr().(*net.UDPAddr).AddrPort().Port() }

func (p *port) send(b []byte, to *address) bool {
	_, err := p.conn.WriteToUDPAddrPort(b, to.from)
	return err == nil
}

// read reads until the port is closed.
func (p *port) read() {
	var data [maxDatagram]byte
	var check stun.Message
	for {
		n, from, err := p.conn.ReadFromUDPAddrPort(data[:])
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(drained) // nothing we know of; do not spin
			continue
		}
		p.datagram(data[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), &check, time.Now())
	}
}

func (p *port) close() { p.conn.Close() }
