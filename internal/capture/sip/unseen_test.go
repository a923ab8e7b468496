package sip_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"yesline/internal/capture/sip"
)

// A caller whose description names somebody else's address: what the house says
// and the other party's voice do not go on and on to where nobody ever sent
// anything. Keys in INFO are no sign of it.
func TestSoundDoesNotGoOnToAVictim(t *testing.T) {
	t.Parallel()
	w := open(t, setup{cfg: func(c *sip.Config) { c.MaxSilence = time.Second }})
	victim := must(net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.3:0"))))(t)
	t.Cleanup(func() { victim.Close() })
	r := newRaw(t, w.door.Address())
	answer := r.invite(w, bobNumber, "victim", sdp("127.0.0.3", victim.LocalAddr().(*net.UDPAddr).Port, "a=recvonly\r\n"))
	if code(answer) != "200" {
		t.Fatalf("answered %q", answer)
	}
	r.ack(answer)
	bob := must(w.bobPhone.Answer(w.ctx))(t)
	go func() {
		for bob.Say(tone(440, time.Second)) == nil && w.ctx.Err() == nil {
		}
	}()
	if r.within(answer, "INFO", 3, "Signal=2\r\n", "Content-Type: application/dtmf-relay"); bob.Press(w.ctx, "2") != nil {
		t.Fatal("bob is gone")
	}
	buf, came := make([]byte, 2000), 0
	for victim.SetReadDeadline(time.Now().Add(4 * time.Second)); ; came++ {
		if _, err := victim.Read(buf); err != nil {
			break
		}
	}
	if came == 0 || came > 50 {
		t.Errorf("who never sent anything got %d packets, though a party may be silent for 1 s", came)
	}
}
