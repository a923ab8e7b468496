package phone

import (
	"fmt"
	"sync"
)

// A Trunk is the other end of a server's line to the world: one SIP address
// that takes calls to any number and lets them ring at the phone connected to
// that number. Close the trunk after its phones.
type Trunk struct {
	wire *wire

	mu     sync.Mutex
	phones map[string]*Phone
}

// NewTrunk opens a trunk at "127.0.0.1:0" or the like.
func NewTrunk(at string) (*Trunk, error) {
	t := &Trunk{phones: map[string]*Phone{}}
	wire, err := listen(at, t.take)
	if err != nil {
		return nil, fmt.Errorf("opening a trunk: %w", err)
	}
	t.wire = wire
	return t, nil
}

// Address is where the server sends its calls.
func (t *Trunk) Address() string { return t.wire.address.String() }

// Connect lets calls to a number ("+15550100", as dialled) ring at the phone
// from now on. A nil phone disconnects the number: the caller hears 404.
func (t *Trunk) Connect(number string, p *Phone) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p == nil {
		delete(t.phones, number)
		return
	}
	t.phones[number] = p
}

// Close ends the trunk and the calls on it.
func (t *Trunk) Close() { t.wire.close() }

func (t *Trunk) take(r *Ringing) (refuse int) {
	t.mu.Lock()
	p := t.phones[r.Number()]
	t.mu.Unlock()
	if p == nil {
		return 404
	}
	return p.take(r)
}
