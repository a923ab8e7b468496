package sip

import (
	"context"
	"slices"
	"time"

	"yesline"
	"yesline/internal/capture"
	"yesline/internal/session"
)

// Ring gives the phones of a person that are registered with us: none, when
// none is. Who calls does not show on them.
func (d *Door) Ring(person yesline.PersonID) (phones []capture.Handset) {
	at := d.reached(person, time.Now())
	if len(at) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(d.ctx, authTime)
	defer cancel()
	still, err := d.sessions.DevicesOf(ctx, string(person)) // one that was ended since does not ring
	if err != nil {
		d.cfg.Report.Error("a person's phones could not be looked up", "error", err)
		return nil
	}
	for _, r := range at {
		if !slices.ContainsFunc(still, func(p session.Phone) bool { return p.ID == r.device.ID }) {
			d.unregister(r.device.ID)
			continue
		}
		h := d.rings(*r.contact.Clone(), r.peer, true)
		h.id, h.from, h.ways = r.device.ID, anonymous, d.waysTo(r)
		phones = append(phones, h)
	}
	return phones
}

func (d *Door) unregister(id yesline.DeviceID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.phones, id)
}

// waysTo is how the sound of a phone may be protected, best first: as in its
// own last call, if that was encrypted. Else it is offered what fits what it
// registered over, and then what it may want instead.
func (d *Door) waysTo(r reach) (ways []security) {
	may := d.means(r.peer.over)
	switch {
	case r.secured == bySDES && may.sdes, r.secured == byDTLS && may.dtls:
		return []security{r.secured}
	case may.sdes:
		ways = append(ways, bySDES)
	}
	if !may.safe {
		ways = append(ways, plain)
	}
	if may.dtls {
		ways = append(ways, byDTLS)
	}
	return ways
}

// remember keeps how a phone that called protected its sound.
func (d *Door) remember(id yesline.DeviceID, how security) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.phones[id]; r != nil {
		r.secured = how
	}
}
