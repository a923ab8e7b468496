package sip

import (
	"cmp"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"

	"yesline"
	"yesline/internal/session"
)

const (
	shortestRegistration = 60 * time.Second
	longestRegistration  = time.Hour
	usualRegistration    = 10 * time.Minute // where the phone names none
	maxContacts          = 5                // of a device; the one that ends first gives way
	maxRegistered        = 100_000          // devices
	maxContactURI        = 512              // bytes
	openEvery            = 25 * time.Second // a packet to each phone behind a NAT: most forget after 30 s
)

// registration is where one device can be rung. It is in memory alone: phones
// register again by themselves.
type registration struct {
	device   session.Device
	name     string // the user name that it registered with
	contacts []binding
	secured  security // how its own last call was
}

// binding is one contact (RFC 3261, 10.3). Calls go to where its REGISTER came
// from, whatever address it names: that way they pass its NAT.
type binding struct {
	contact  sip.Uri
	instance string // +sip.instance, "" none: the same phone after a restart
	peer     peer
	callID   string
	cseq     uint32
	until    time.Time
}

// registered takes a REGISTER.
func (d *Door) registered(req *sip.Request, tx sip.ServerTransaction) {
	if d.isTrunk(d.originOf(req)) {
		d.answer(req, tx, 403, "Forbidden")
		return
	}
	if d.extended(req, tx) {
		return
	}
	device, ok := d.whose(req, tx)
	if !ok {
		return
	}
	name := req.To().Address.User
	if c, err := digest.ParseCredentials(req.GetHeader("Authorization").Value()); err != nil || c.Username != name {
		d.answer(req, tx, 403, "Forbidden") // nobody registers for another
		return
	}
	now := time.Now()
	changes, code := readContacts(req, peer{source(req), sip.NetworkToUpper(req.Transport())}, now)
	if code == 0 {
		code = d.rebind(device, name, changes, req, now)
	}
	switch code {
	case 0:
		d.Counters.Registered.Add(1)
		tx.Respond(d.bound(req, device.ID, now))
	case 423:
		res := sip.NewResponseFromRequest(req, 423, "Interval Too Brief", nil)
		res.AppendHeader(sip.NewHeader("Min-Expires", strconv.Itoa(int(shortestRegistration.Seconds()))))
		tx.Respond(res)
	default:
		d.answer(req, tx, code, map[int]string{400: "Bad Request", 500: "Server Internal Error", 503: "Service Unavailable"}[code])
	}
}

// readContacts gives the bindings that a REGISTER asks for; one whose time is
// over is to be removed. None and no error: it only asks which there are.
func readContacts(req *sip.Request, from peer, now time.Time) (asked []binding, code int) {
	general := ""
	if h := req.GetHeader("Expires"); h != nil {
		general = h.Value()
	}
	all := req.GetHeaders("Contact")
	if len(all) > maxContacts {
		return nil, 400
	}
	for _, h := range all {
		c, is := h.(*sip.ContactHeader)
		if !is {
			return nil, 400
		}
		if c.Address.Wildcard {
			if len(all) > 1 || general != "0" {
				return nil, 400 // RFC 3261, 10.3, step 6
			}
			return []binding{{contact: c.Address}}, 0
		}
		own, _ := c.Params.Get("expires")
		life, ok := lifetime(cmp.Or(own, general))
		switch {
		case !ok, c.Address.Scheme != "sip" && c.Address.Scheme != "sips", len(c.Address.String()) > maxContactURI:
			return nil, 400
		case life > 0 && life < shortestRegistration:
			return nil, 423
		}
		b := binding{contact: *c.Address.Clone(), peer: from, callID: req.CallID().Value(), cseq: req.CSeq().SeqNo, until: now.Add(life)}
		b.instance, _ = c.Params.Get("+sip.instance")
		if len(b.instance) > maxContactURI {
			return nil, 400
		}
		asked = append(asked, b)
	}
	return asked, 0
}

// lifetime reads how long a binding is to last, at most the longest that we
// grant.
func lifetime(seconds string) (time.Duration, bool) {
	if seconds == "" {
		return usualRegistration, true
	}
	n, err := strconv.ParseUint(seconds, 10, 32)
	if err != nil {
		return 0, false
	}
	return min(time.Duration(n)*time.Second, longestRegistration), true
}

// rebind changes where a device is reached: 0, or the status that refuses it.
func (d *Door) rebind(device session.Device, name string, asked []binding, req *sip.Request, now time.Time) (code int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.phones[device.ID]
	if r == nil {
		if len(asked) == 0 {
			return 0
		}
		if len(d.phones) >= maxRegistered {
			maps.DeleteFunc(d.phones, func(_ yesline.DeviceID, r *registration) bool { return !r.lives(now) })
		}
		if d.closed || len(d.phones) >= maxRegistered {
			return 503
		}
		r = &registration{device: device}
	}
	for _, b := range r.contacts {
		for _, a := range asked {
			if b.is(a) && b.callID == req.CallID().Value() && req.CSeq().SeqNo <= b.cseq {
				return 500 // an old one that comes late (RFC 3261, 10.3, step 7)
			}
		}
	}
	r.name = name
	r.contacts = slices.DeleteFunc(r.contacts, func(b binding) bool {
		return !now.Before(b.until) || slices.ContainsFunc(asked, b.is)
	})
	for _, a := range asked {
		if now.Before(a.until) {
			r.contacts = append(r.contacts, a)
		}
	}
	slices.SortStableFunc(r.contacts, func(a, b binding) int { return b.until.Compare(a.until) })
	if len(r.contacts) > maxContacts {
		r.contacts = r.contacts[:maxContacts]
	}
	if len(r.contacts) == 0 {
		delete(d.phones, device.ID)
		return 0
	}
	d.phones[device.ID] = r
	return 0
}

// is reports whether an asked binding stands for this one: all, the same
// address, or the same phone.
func (b binding) is(asked binding) bool {
	return asked.contact.Wildcard || b.instance != "" && b.instance == asked.instance || b.contact.String() == asked.contact.String()
}

func (r *registration) lives(now time.Time) bool {
	return slices.ContainsFunc(r.contacts, func(b binding) bool { return now.Before(b.until) })
}

// bound is the answer that lists what a device has registered.
func (d *Door) bound(req *sip.Request, id yesline.DeviceID, now time.Time) *sip.Response {
	res := sip.NewResponseFromRequest(req, 200, "OK", nil)
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.phones[id]; r != nil {
		for _, b := range r.contacts {
			left := int(b.until.Sub(now).Seconds())
			if left <= 0 {
				continue
			}
			c := &sip.ContactHeader{Address: *b.contact.Clone(), Params: sip.NewParams()}
			c.Params.Add("expires", strconv.Itoa(left))
			if b.instance != "" {
				c.Params.Add("+sip.instance", b.instance)
			}
			res.AppendHeader(c)
		}
	}
	return res
}

// reached gives where the phones of a person can be rung now.
func (d *Door) reached(person yesline.PersonID, now time.Time) (at []reach) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.phones {
		if r.device.Person != person {
			continue
		}
		for _, b := range r.contacts {
			if now.Before(b.until) && (b.peer.over == overUDP || d.wires[b.peer.over].find(b.peer.at) != nil) {
				at = append(at, reach{r.device, r.secured, b})
			}
		}
	}
	return at
}

// reach is one place where a device can be rung.
type reach struct {
	device  session.Device
	secured security
	binding
}

// Registered reports whether a phone of this person can be rung now.
func (d *Door) Registered(person yesline.PersonID) bool {
	return len(d.reached(person, time.Now())) > 0
}

// keepOpen sends a word that says nothing to phones whose address is not the
// one they named, so that what stands between forgets neither; and forgets
// those whose time is over. It ends with the door.
func (d *Door) keepOpen() {
	tick := time.NewTicker(openEvery)
	defer tick.Stop()
	for {
		select {
		case <-d.ctx.Done():
			return
		case now := <-tick.C:
			for _, at := range d.behind(now) {
				d.conn.WriteTo([]byte("\r\n\r\n"), at)
			}
		}
	}
}

// behind gives the phones that seem to be behind a NAT.
func (d *Door) behind(now time.Time) (at []*net.UDPAddr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, r := range d.phones {
		r.contacts = slices.DeleteFunc(r.contacts, func(b binding) bool { return !now.Before(b.until) })
		if len(r.contacts) == 0 {
			delete(d.phones, id)
			continue
		}
		for _, b := range r.contacts {
			named, err := netip.ParseAddr(b.contact.Host)
			if b.peer.over == overUDP && (err != nil || named.Unmap() != b.peer.at.Addr()) {
				at = append(at, net.UDPAddrFromAddrPort(b.peer.at))
			}
		}
	}
	return at
}
