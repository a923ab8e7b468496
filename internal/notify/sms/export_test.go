package sms

import (
	"context"
	"net"
	"net/http"
)

// DialBy has the driver reach its provider by dial, so that a story about time
// needs no socket.
func (d *Driver) DialBy(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	d.client.Transport.(*http.Transport).DialContext = dial
}
