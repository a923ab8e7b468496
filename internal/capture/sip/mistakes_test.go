package sip

import (
	"net/netip"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"yesline"
)

func testDoor(t *testing.T) *Door {
	t.Helper()
	d, err := New(Config{Listen: netip.MustParseAddrPort("127.0.0.1:0"),
		Trunk: netip.MustParseAddrPort("192.0.2.9:5060"), CallerID: "+12025550100"}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	d.gate = &gate{door: d, seen: map[netip.Addr]*visitor{}}
	return d
}

// A mistake of ours costs a request, never the server.
func TestAPanicCostsOneRequest(t *testing.T) {
	t.Parallel()
	d := testDoor(t)
	msg, err := sip.ParseMessage([]byte(options))
	if err != nil {
		t.Fatal(err)
	}
	req := msg.(*sip.Request)
	d.guard(func(*sip.Request, sip.ServerTransaction) { panic("+12025550102") })(req, nil)
	if got := d.Counters.Panics.Load(); got != 1 {
		t.Errorf("%d panics were counted, want 1", got)
	}
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
		without := req.Clone()
		for without.RemoveHeader(name) {
		}
		d.guard(func(*sip.Request, sip.ServerTransaction) { t.Errorf("a request without %s was handled", name) })(without, nil)
	}
}

const options = "OPTIONS sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: a\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"

func TestADeviceHasItsShare(t *testing.T) {
	t.Parallel()
	d := testDoor(t)
	now := time.Now()
	ann, bob := yesline.NewDeviceID(), yesline.NewDeviceID()
	begins := func(id yesline.DeviceID, want int) {
		t.Helper()
		if got := d.begins(id, now); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	}
	for range 4 {
		begins(ann, 0)
	}
	begins(ann, 486)
	begins(bob, 0) // each has its own
	for range 4 {
		d.ends(ann)
	}
	begins(ann, 0)
	d.ends(ann)
	begins(ann, 503) // five at once; then one a second
	now = now.Add(time.Second)
	begins(ann, 0)
	d.ends(ann)
	begins(ann, 503)
	now = now.Add(time.Hour)
	for range 5 {
		begins(ann, 0)
		d.ends(ann)
	}
	begins(ann, 503)
	now = now.Add(time.Minute)
	for range devicesKept {
		id := yesline.NewDeviceID()
		begins(id, 0)
		d.ends(id)
		now = now.Add(time.Millisecond)
	}
	if d.devices[bob] == nil || d.devices[ann] != nil {
		t.Error("a device with a call was forgotten, or an idle one kept")
	}
}

// FuzzAdmit: whatever the gate lets pass to sipgo is a message that sipgo reads
// as we did, with all that an answer needs. The sender is the trunk, whom the
// gate trusts most.
func FuzzAdmit(f *testing.F) {
	f.Add([]byte(options))
	f.Add([]byte("invite sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP a\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: a\r\nCSeq: 1 INVITE\r\n\r\n"))
	f.Add([]byte("INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP a\r\nFrom: <sip:a@b>;tag=1\r\nCall-ID: a\r\nCSeq: 1 INVITE\r\n\r\n"))
	f.Add([]byte("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a\r\nFrom: <sip:a@b>\r\nTo: <sip:a@b>\r\nCall-ID: a\r\nCSeq: 1 INVITE\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := &Door{cfg: Config{Trunk: netip.MustParseAddrPort("127.0.0.1:5060")}}
		d.gate = &gate{door: d, seen: map[netip.Addr]*visitor{}}
		if !d.gate.admit(data, origin{at: netip.MustParseAddrPort("127.0.0.1:5060"), over: overUDP}, func([]byte) {}, time.Now()) {
			return
		}
		msg, err := sip.ParseMessage(data)
		if err != nil || !whole(msg) {
			t.Fatalf("passed %q", data)
		}
		if req, is := msg.(*sip.Request); is {
			if string(data[:len(req.Method)+1]) != string(req.Method)+" " {
				t.Fatalf("passed the method of %q as %s", data, req.Method)
			}
			_ = sip.NewResponseFromRequest(req, 200, "OK", nil).String()
		}
	})
}

// An ACK is for the 2xx of its number, whatever other waits; one with a wrong
// number is for the oldest, and one that comes again for none.
func TestWhichACK(t *testing.T) {
	t.Parallel()
	first, second := &awaited{cseq: 2, came: make(chan *sip.Request, 1)}, &awaited{cseq: 3, answers: true, came: make(chan *sip.Request, 1)}
	d := &dialog{ctx: t.Context(), acks: []*awaited{first, second}, owed: make(chan struct{}), offering: true, promised: true}
	owed := d.owed
	ack := func(n uint32) *sip.Request {
		req := sip.NewRequest(sip.ACK, sip.Uri{})
		req.AppendHeader(&sip.CSeqHeader{SeqNo: n, MethodName: sip.ACK})
		return req
	}
	took := func(a *awaited) bool { return len(a.came) == 1 }
	early, late := &awaited{cseq: 7, came: make(chan *sip.Request, 1)}, &awaited{cseq: 8, came: make(chan *sip.Request, 1)}
	other := &dialog{acks: []*awaited{early, late}}
	if other.acknowledge(ack(8)); took(early) || !took(late) {
		t.Errorf("of two the older was acknowledged: %t, and the one with the number: %t", took(early), took(late))
	}
	d.comes(ack(2))
	if d.taking != nil {
		t.Error("an ACK without an answer to our offer is waited for")
	}
	d.acknowledge(ack(2))
	d.acknowledge(ack(2))
	if !took(first) || took(second) {
		t.Errorf("the first was acknowledged: %t, and the second: %t", took(first), took(second))
	}
	d.comes(ack(99))
	if d.taking == nil {
		t.Fatal("nobody waits for the answer that an ACK brings")
	}
	took491 := make(chan int, 1)
	update := sip.NewRequest(sip.UPDATE, sip.Uri{})
	go func() { took491 <- d.offers(update, false) }()
	select {
	case code := <-took491:
		t.Errorf("an offer behind the ACK gets %d before that was read", code)
	case <-time.After(50 * time.Millisecond):
	}
	d.acknowledge(ack(99))
	select {
	case <-owed:
	default:
		t.Error("an ACK is owed though all came")
	}
	d.settled()
	if code := <-took491; code != 0 || !took(second) {
		t.Errorf("an offer behind the ACK gets %d", code)
	}
}
