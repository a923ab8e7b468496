package sip_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"yesline/internal/capture"
	"yesline/internal/capture/sip"
	"yesline/internal/phone"
)

func TestBothSayYes(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	ann := w.dial(bobNumber)
	w.hears(ann, "notice")
	bob := must(w.bobPhone.Answer(w.ctx))(t)
	w.hears(ann, "ask")
	ok(t, ann.Press(w.ctx, "1"))
	w.hears(bob, "ask")
	ok(t, bob.Press(w.ctx, "1"))
	w.hears(ann, "thanks_recording")
	w.hears(bob, "thanks_recording")
	if bob.Keys() != "" || ann.Keys() != "" {
		t.Errorf("keys were passed on while an answer was pending: %q, %q", ann.Keys(), bob.Keys())
	}
	ok(t, ann.Say(tone(440, 3*time.Second)))
	ok(t, bob.Say(tone(1000, 3*time.Second)))
	time.Sleep(2500 * time.Millisecond)
	w.hear(bob, 440)
	w.hear(ann, 1000)
	ok(t, ann.Press(w.ctx, "5#"))
	time.Sleep(100 * time.Millisecond)
	if got := bob.Keys(); got != "5#" {
		t.Errorf("bob's phone got the keys %q, want 5# now that they are connected", got)
	}
	ok(t, ann.Hangup(w.ctx))
	<-bob.Done()
	row := w.ended()
	if row.Recording != "both" || row.Ending != "the caller hung up" || row.State != capture.Ended {
		t.Errorf("the row is %+v", row)
	}
	for _, side := range []capture.Side{capture.Caller, capture.Callee} {
		if n := w.sealed(row, side); n < 2 || n > 5 {
			t.Errorf("%d seconds of the %s are sealed", n, side)
		}
	}
	if got := ann.Ignored() + bob.Ignored(); got > 0 {
		t.Errorf("the phones got %d packets they could not use", got)
	}
}

// hear wants a frequency in what a phone heard in the last second.
func (w *world) hear(c *phone.Call, hz float64) {
	w.t.Helper()
	if got := power(c, time.Second, hz); got < 1e6 {
		w.t.Errorf("%g Hz is heard at a power of %g", hz, got)
	}
}

func (w *world) agree(ann, bob *phone.Call, annKey, bobKey string) {
	w.t.Helper()
	w.hears(ann, "ask")
	ok(w.t, ann.Press(w.ctx, annKey))
	w.hears(bob, "ask")
	ok(w.t, bob.Press(w.ctx, bobKey))
}

func TestOneRefuses(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	ann, bob := w.connect()
	w.agree(ann, bob, "1", "2")
	w.hears(bob, "not_recorded")
	ok(t, ann.Say(tone(440, 2*time.Second)))
	time.Sleep(1500 * time.Millisecond)
	w.hear(bob, 440)
	ok(t, bob.Hangup(w.ctx))
	<-ann.Done()
	row := w.ended()
	if row.Recording != "nobody" || row.Ending != "the callee hung up" {
		t.Errorf("the row is %+v", row)
	}
	if n := w.sealed(row, capture.Caller) + w.sealed(row, capture.Callee); n > 0 {
		t.Errorf("%d seconds are sealed", n)
	}
}

func TestStarNine(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	ann, bob := w.connect()
	w.agree(ann, bob, "1", "1")
	w.hears(bob, "thanks_recording")
	ok(t, bob.Press(w.ctx, "*9"))
	w.hears(ann, "stopped")
	ok(t, ann.Hangup(w.ctx))
	if row := w.ended(); !strings.Contains(row.Reason, "the callee stopped it with *9") {
		t.Errorf("the reason is %q", row.Reason)
	}
}

// The two phones speak different codecs: each hears the other, re-encoded.
func TestTwoCodecs(t *testing.T) {
	t.Parallel()
	w := open(t, setup{ann: phone.Config{Codecs: []uint8{phone.PCMA}}, bob: phone.Config{Codecs: []uint8{phone.PCMU}}})
	ann, bob := w.connect()
	if ann.Codec() != phone.PCMA || bob.Codec() != phone.PCMU {
		t.Fatalf("the phones speak %d and %d", ann.Codec(), bob.Codec())
	}
	ok(t, ann.Press(w.ctx, "2"))
	ok(t, bob.Press(w.ctx, "2"))
	w.hears(bob, "not_recorded")
	ok(t, ann.Say(tone(440, 2*time.Second)))
	ok(t, bob.Say(tone(1000, 2*time.Second)))
	time.Sleep(1500 * time.Millisecond)
	w.hear(bob, 440)
	w.hear(ann, 1000)
}

func TestOfferedWhatTheCallerSpeaks(t *testing.T) {
	t.Parallel()
	w := open(t, setup{ann: phone.Config{Codecs: []uint8{phone.PCMA, phone.PCMU}}, bob: phone.Config{Codecs: []uint8{phone.PCMA}, Event: 96}})
	ann, bob := w.connect()
	if ann.Codec() != phone.PCMA || bob.Codec() != phone.PCMA {
		t.Errorf("the phones speak %d and %d, want A-law on both", ann.Codec(), bob.Codec())
	}
	ok(t, ann.Hangup(w.ctx))
}

func TestBusyAndUnreachable(t *testing.T) {
	t.Parallel()
	for prompt, c := range map[string]struct {
		code   int
		ending string
	}{"busy": {486, "the callee was busy"}, "cannot_connect": {503, "the callee could not be reached"}} {
		t.Run(prompt, func(t *testing.T) {
			t.Parallel()
			w := open(t, setup{})
			ann := w.dial(bobNumber)
			ring := must(w.bobPhone.Ringing(w.ctx))(t)
			ok(t, ring.Reject(w.ctx, c.code))
			w.hears(ann, prompt)
			<-ann.Done()
			if row := w.ended(); row.Ending != c.ending || row.Recording != "nobody" {
				t.Errorf("the row is %+v", row)
			}
		})
	}
}

func TestManyProvisionalAnswers(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	ann := w.dial(bobNumber)
	ring := must(w.bobPhone.Ringing(w.ctx))(t)
	for range 30 {
		ring.Ring()
		time.Sleep(5 * time.Millisecond)
	}
	bob := must(ring.Answer(w.ctx))(t)
	w.hears(bob, "ask")
	ok(t, ann.Hangup(w.ctx))
	<-bob.Done()
}

func TestCallerGivesUpWhileItRings(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	ann := w.dial(bobNumber)
	ring := must(w.bobPhone.Ringing(w.ctx))(t)
	ok(t, ann.Hangup(w.ctx))
	select {
	case <-ring.GaveUp():
	case <-w.ctx.Done():
		t.Fatal("the callee's phone was not told")
	}
	if row := w.ended(); row.Ending != "the caller hung up" {
		t.Errorf("the row is %+v", row)
	}
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	w := open(t, setup{cfg: func(c *sip.Config) { c.MaxRing = 1500 * time.Millisecond }})
	ann := w.dial(bobNumber)
	ring := must(w.bobPhone.Ringing(w.ctx))(t)
	<-ring.GaveUp()
	w.hears(ann, "cannot_connect")
	<-ann.Done()
	if row := w.ended(); row.Ending != "the callee did not answer" {
		t.Errorf("the row is %+v", row)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	w := open(t, setup{cfg: func(c *sip.Config) { c.MaxCalls = 1 }})
	w.room.Longest = 2 * time.Second
	w.trunk.Connect("911", w.bobPhone)
	ann, bob := w.connect()
	_, err := w.annPhone.Call(w.ctx, w.door.Address().String(), bobNumber)
	if refused := (*phone.Refused)(nil); !errors.As(err, &refused) || refused.Code != 503 {
		t.Errorf("a call too many gives %v, want 503", err)
	}
	help := w.dial("911") // is not counted
	answered := must(w.bobPhone.Answer(w.ctx))(t)
	ok(t, answered.Hangup(w.ctx))
	<-help.Done()
	<-ann.Done()
	<-bob.Done()
	if row := w.ended(); row.Ending != "the longest time was reached" {
		t.Errorf("the row is %+v", row)
	}
}

func TestEmergency(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	w.trunk.Connect("911", w.bobPhone)
	ann := w.dial("911")
	bob := must(w.bobPhone.Answer(w.ctx))(t)
	ok(t, ann.Say(tone(440, 2*time.Second)))
	ok(t, bob.Say(tone(1000, 2*time.Second)))
	time.Sleep(1500 * time.Millisecond)
	w.hear(bob, 440)
	w.hear(ann, 1000)
	if power(ann, 2*time.Second, pitch["notice"]) > 1e6 || power(bob, 2*time.Second, pitch["ask"]) > 1e6 {
		t.Error("an emergency call was talked into")
	}
	ok(t, ann.Press(w.ctx, "1"))
	ok(t, ann.Hangup(w.ctx))
	<-bob.Done()
	calls, _, err := w.room.Calls(w.ctx, w.ann.Person, "", 10)
	ok(t, err)
	if len(calls) > 0 {
		t.Error("an emergency call was written down")
	}
}

func TestEmergencyCannotBeCarried(t *testing.T) {
	t.Parallel()
	w := open(t, setup{cfg: func(c *sip.Config) { c.NoEmergency, c.Emergency = true, []string{"117"} }})
	ann := w.dial("117")
	w.hears(ann, "no_emergency")
	<-ann.Done()
	if calls, _, _ := w.room.Calls(w.ctx, w.ann.Person, "", 10); len(calls) > 0 {
		t.Error("an emergency call was written down")
	}
}

// nobodyName has the form of a user name and is nobody's.
const nobodyName = "m22222222aaaaaaaa"

func TestWhoMayCall(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	var answers []string
	for _, c := range []struct{ user, pass string }{{w.annName, "wrong"}, {nobodyName, "wrong"}} {
		p := must(phone.New(phone.Config{Listen: "127.0.0.1:0", User: c.user, Password: c.pass}))(t)
		_, err := p.Call(w.ctx, w.door.Address().String(), bobNumber)
		answers = append(answers, fmt.Sprint(err))
		p.Close()
	}
	if answers[0] != answers[1] || !strings.Contains(answers[0], "401") {
		t.Errorf("a wrong password and an unknown user get %q", answers)
	}
	old := must(phone.New(phone.Config{Listen: "127.0.0.1:0", User: w.annName, Password: w.annPass, OldMD5: true}))(t)
	t.Cleanup(old.Close)
	call := must(old.Call(w.ctx, w.door.Address().String(), bobNumber))(t)
	ok(t, call.Hangup(w.ctx))
	for _, number := range []string{"12", "abc", annNumber, "911;x=y", "+12025550102%0d%0aX: y"} {
		_, err := w.annPhone.Call(w.ctx, w.door.Address().String(), number)
		if refused := (*phone.Refused)(nil); !errors.As(err, &refused) || refused.Code != 404 {
			t.Errorf("calling %q gives %v, want 404", number, err)
		}
	}
	if got := len(mustCalls(w)); got != 1 {
		t.Errorf("%d calls are written down, want 1", got)
	}
}

func mustCalls(w *world) []capture.Call {
	calls, _, err := w.room.Calls(w.ctx, w.ann.Person, "", 10)
	ok(w.t, err)
	return calls
}

func TestWrongPasswordsEnd(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	r := newRaw(t, w.door.Address())
	for i := range 10 {
		if got := r.invited(&world{annName: nobodyName, annPass: fmt.Sprint(i)}, bobNumber, fmt.Sprint("g", i), sdp("127.0.0.1", 4000, "")); code(got) != "401" {
			t.Fatalf("guess %d gets %q, want 401", i, got)
		}
	}
	if got := newRaw(t, w.door.Address()).invited(w, bobNumber, "g11", sdp("127.0.0.1", 4000, "")); got != "" {
		t.Errorf("after ten wrong passwords the address is still answered: %q", got)
	}
	if got := newRaw(t, w.door.Address()).invited(w, "911", "g12", sdp("127.0.0.1", 4000, "")); code(got) != "200" {
		t.Errorf("after wrong passwords a call for help gets %q", got)
	}
}

// Who forges an address cannot read what we asked it, and so cannot silence it:
// neither with a nonce made up nor with one given to another.
func TestForgedAnswersSilenceNobody(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	forger := newRawAt(t, w.door.Address(), "127.0.0.7")
	uri := "sip:" + bobNumber + "@" + w.door.Address().String()
	lines := func(i int) []string {
		return []string{"INVITE " + uri + " SIP/2.0", "VIA", "From: <sip:" + w.annName + "@HERE>;tag=a1", "To: <" + uri + ">",
			fmt.Sprint("Call-ID: forged", i), "CSeq: 1 INVITE", "Contact: <sip:x@HERE>"}
	}
	forger.send(lines(0)...)
	theirs := forger.answer(2 * time.Second)
	victim := newRaw(t, w.door.Address()) // stands for packets that say they are from there
	for i := range 24 {
		challenge := theirs
		if i%2 == 0 {
			challenge = "WWW-Authenticate: Digest algorithm=MD5, realm=\"yesline.test\", nonce=\"made-up\"\r\n"
		}
		victim.send(append(lines(i+1), proof(challenge, "INVITE", uri, w.annName, "wrong"))...)
		if got := victim.answer(2 * time.Second); code(got) != "401" || !strings.Contains(got, "stale=true") {
			t.Fatalf("forged answer %d gets %q, want 401 for an old challenge", i, got)
		}
	}
	victim.send("OPTIONS sip:THERE SIP/2.0", "VIA", "From: <sip:"+w.annName+"@HERE>;tag=1", "To: <sip:THERE>", "Call-ID: o", "CSeq: 1 OPTIONS")
	if got := victim.answer(200 * time.Millisecond); got != "" {
		t.Errorf("forged answers made an acquaintance: %q", got)
	}
	if got := newRaw(t, w.door.Address()).invited(w, bobNumber, "true", sdp("127.0.0.1", 4000, "")); code(got) != "200" {
		t.Errorf("after forged answers the address gets %q", got)
	}
}

func TestADeviceCannotTakeAllCalls(t *testing.T) {
	t.Parallel()
	w := open(t, setup{cfg: func(c *sip.Config) { c.MaxDevice = 1 }})
	ann, bob := w.connect()
	_, err := w.annPhone.Call(w.ctx, w.door.Address().String(), bobNumber)
	if refused := (*phone.Refused)(nil); !errors.As(err, &refused) || refused.Code != 486 || w.door.Counters.Greedy.Load() != 1 {
		t.Errorf("a device's call too many gives %v, want 486", err)
	}
	w.trunk.Connect("911", w.bobPhone)
	help := w.dial("911") // is not counted
	answered := must(w.bobPhone.Answer(w.ctx))(t)
	ok(t, answered.Hangup(w.ctx))
	<-help.Done()
	ok(t, ann.Hangup(w.ctx))
	<-bob.Done()
	w.ended()
	again := w.dial(bobNumber)
	ok(t, again.Hangup(w.ctx))
}

// Whoever sends it, no message ends the server: those that lack what all must
// have, spell their method otherwise, or are cut or changed anywhere.
func TestNoMessageEndsTheServer(t *testing.T) {
	t.Parallel()
	w, c := withCarrier(t)
	at := w.door.Address()
	head := []string{"", "Via: SIP/2.0/UDP 127.0.0.1:9;rport;branch=z9hG4bKBRANCH", "From: <sip:a@b>;tag=1", "To: <sip:x@b>;tag=2", "Call-ID: q",
		"CSeq: 1 METHOD", "Contact: <sip:a@b>", "Authorization: Digest username=\"x\"", "Content-Type: application/sdp", "Content-Length: 0"}
	random := rand.New(rand.NewPCG(1, 2))
	n := 0
	from := func() *raw { return newRawAt(t, at, fmt.Sprintf("127.0.1.%d", n/60%250+1)) } // more than one address may send
	sender := from()
	send := func(method, first string, lines []string, change bool) {
		if n++; n%60 == 0 {
			sender = from()
		}
		msg := first + "\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
		msg = strings.NewReplacer("BRANCH", fmt.Sprint(n), "METHOD", method).Replace(msg)
		data := []byte(msg)
		for range 3 {
			if change {
				data[random.IntN(len(data))] = byte(random.IntN(128))
			}
		}
		sender.conn.WriteToUDPAddrPort(data, at)
		c.conn.WriteToUDPAddrPort(data, at)
	}
	for _, method := range []string{"INVITE", "invite", "Invite", "ACK", "ack", "BYE", "bye", "CANCEL", "UPDATE", "update", "INFO", "OPTIONS", "REFER", "info"} {
		first := method + " sip:x@" + at.String() + " SIP/2.0"
		for i := 1; i < len(head); i++ {
			send(method, first, slices.Delete(slices.Clone(head[1:]), i-1, i), false)
			send(method, first, head[1:i], false)
		}
		for range 40 {
			send(method, first, head[1:], true)
		}
		send(method, "SIP/2.0 200 OK", head[2:5], false)
		send(method, "SIP/2.0 99999 "+method, head[1:3], false)
	}
	time.Sleep(300 * time.Millisecond)
	if got := w.door.Counters.Panics.Load(); got != 0 {
		t.Errorf("%d panics", got)
	}
	r := newRawAt(t, at, "127.0.2.1")
	if !r.challenged(w.annName) {
		t.Error("the server does not answer any more")
	}
}

// A caller's phone proves who it is and describes itself anew. The same source
// goes on; another is not who said yes.
func TestAnotherSourceAfterTheYes(t *testing.T) {
	t.Parallel()
	for name, moves := range map[string]bool{"another SSRC": false, "another address": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			anotherSource(t, moves)
		})
	}
}

func anotherSource(t *testing.T, moves bool) {
	w := open(t, setup{})
	r := newRaw(t, w.door.Address())
	sound := must(net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}))(t)
	defer sound.Close()
	body := sdp("127.0.0.1", sound.LocalAddr().(*net.UDPAddr).Port, "")
	call := r.invite(w, bobNumber, "relearn", body)
	door := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: mediaPort(call)}
	seq := uint16(0)
	say := func(ssrc uint32, d time.Duration) {
		for ; d > 0; d -= 20 * time.Millisecond {
			seq++
			sound.WriteToUDP(rtp(0, seq, uint32(seq)*160, ssrc, voice), door)
			time.Sleep(20 * time.Millisecond)
		}
	}
	bob := must(w.bobPhone.Answer(w.ctx))(t)
	say(7, 1600*time.Millisecond) // through notice and question
	seq++
	sound.WriteToUDP(rtp(101, seq, uint32(seq)*160, 7, []byte{1, 0x8a, 3, 0xc0}), door)
	w.hears(bob, "ask")
	ok(t, bob.Press(w.ctx, "1"))
	w.hears(bob, "thanks_recording")
	say(7, 1200*time.Millisecond)
	again := func(cseq int, body string) {
		t.Helper()
		asked := r.within(call, "UPDATE", cseq, body, "Content-Type: application/sdp", "Authorization: Digest username=\"x\"")
		proven := proof(asked, "UPDATE", "sip:"+r.to.String(), w.annName, w.annPass)
		if got := r.within(call, "UPDATE", cseq+1, body, "Content-Type: application/sdp", proven); code(got) != "200" {
			t.Fatalf("UPDATE gives %q", got)
		}
	}
	again(10, body)
	say(7, 1200*time.Millisecond)
	if row := w.row(); row.Reason != "the caller said yes; the callee said yes" {
		t.Errorf("after a new description of the same source the reason is %q", row.Reason)
	}
	if moves {
		again(20, sdp("127.0.0.1", 4000, "")) // and nothing is heard from there
	} else {
		again(20, body)
		say(8, 200*time.Millisecond)
	}
	r.within(call, "BYE", 30, "")
	<-bob.Done()
	if row := w.ended(); !strings.Contains(row.Reason, "the caller said yes; another source took over the line") {
		t.Errorf("the reason is %q", row.Reason)
	}
}

// Foreign RTP: another port, another SSRC, another kind; none of it is heard,
// and no key in it counts.
func TestForeignRTP(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	ann, bob := w.connect()
	w.hears(ann, "ask")
	_, door := ann.Media()
	stranger := must(net.Dial("udp", door.String()))(t)
	defer stranger.Close()
	for i := range 20 {
		stranger.Write(rtp(101, uint16(i), 5000, 77, []byte{1, 0x8a, 3, 0xc0})) // a 1
		stranger.Write(rtp(0, uint16(i), uint32(i*160), 77, voice))
		time.Sleep(4 * time.Millisecond)
	}
	for range 100 {
		if w.plane.Counters().Foreign.Load() == 40 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if got := w.plane.Counters().Foreign.Load(); got != 40 {
		t.Errorf("%d foreign packets were counted, want 40", got)
	}
	w.hears(bob, "ask")
	ok(t, bob.Press(w.ctx, "1"))
	ok(t, ann.Press(w.ctx, "2"))
	w.hears(bob, "not_recorded")
	ok(t, ann.Hangup(w.ctx))
	if row := w.ended(); row.Recording != "nobody" {
		t.Errorf("a stranger's key was taken for ann's: %+v", row)
	}
}

func TestRTPFromAnotherAddressCannotLock(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	r := newRaw(t, w.door.Address())
	answer := r.invite(w, bobNumber, "lock", sdp("127.0.0.1", 4000, ""))
	if code(answer) != "200" {
		t.Fatalf("got %q", answer)
	}
	from := must(net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: mediaPort(answer)}))(t)
	defer from.Close()
	from.Write(rtp(0, 1, 160, 5, voice))
	time.Sleep(50 * time.Millisecond)
	if got := w.plane.Counters().Foreign.Load(); got != 1 {
		t.Errorf("%d foreign packets were counted, want 1", got)
	}
	r.within(answer, "BYE", 3, "")
}

func TestHold(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	r := newRaw(t, w.door.Address())
	body := sdp("127.0.0.1", 4000, "")
	call := r.invite(w, bobNumber, "hold", body)
	bob := must(w.bobPhone.Answer(w.ctx))(t)
	for i, c := range []struct{ offer, want string }{
		{sdp("127.0.0.1", 4000, "a=sendonly"), "a=recvonly"}, // without a newline at the end
		{sdp("127.0.0.1", 4000, "a=inactive\r\n"), "a=inactive"},
		{sdp("127.0.0.1", 4000, "a=recvonly\n"), "a=sendonly"},
		{sdp("0.0.0.0", 4000, ""), "a=recvonly"},
		{sdp("127.0.0.1", 4000, "a=sendrecv\r\n"), "a=sendrecv"},
	} {
		answer := r.within(call, "INVITE", 3+i, c.offer)
		if code(answer) != "200" || !strings.Contains(answer, c.want) || strings.Contains(answer, "0.0.0.0") {
			t.Errorf("to %q the answer is %q, want %s", c.offer, answer, c.want)
		}
		if mediaPort(answer) != mediaPort(call) {
			t.Error("our media port changed")
		}
		r.ackWith(answer, "CSeq: 99 ACK", "") // a wrong number is no matter
	}
	late := r.within(call, "INVITE", 20, "")
	if code(late) != "200" || !strings.Contains(late, "m=audio") {
		t.Errorf("to an INVITE without an offer the answer is %q, want ours", late)
	}
	r.ackWith(late, "CSeq: 20 ACK", body)
	moved := r.within(call, "INVITE", 21, sdp("127.0.0.1", 5000, ""))
	if code(moved) != "401" {
		t.Errorf("media moved without a proof: %q", moved)
	}
	moved = r.within(call, "INVITE", 22, sdp("127.0.0.1", 5000, ""), "Content-Type: application/sdp", proof(moved, "INVITE", "sip:"+r.to.String(), w.annName, w.annPass))
	if code(moved) != "200" {
		t.Errorf("media may not move with a proof: %q", moved)
	}
	r.ack(moved)
	if got := r.within(call, "INVITE", 23, strings.Replace(body, " 0 101", " 18 101", 1)); code(got) != "488" {
		t.Errorf("an unknown codec gives %q, want 488", got)
	}
	if got := r.within(call, "INVITE", 2, body); code(got) != "500" {
		t.Errorf("an old number gives %q, want 500", got)
	}
	if got := r.within(call, "UPDATE", 24, ""); code(got) != "200" {
		t.Errorf("UPDATE gives %q", got)
	}
	if got := r.within(call, "INFO", 25, "Signal=2\r\nDuration=160\r\n", "Content-Type: application/dtmf-relay"); code(got) != "200" {
		t.Errorf("INFO gives %q", got)
	}
	if got := r.within(call, "REFER", 26, "", "Refer-To: <sip:x@y>"); code(got) != "405" {
		t.Errorf("REFER gives %q", got)
	}
	if got := r.within(strings.Replace(call, "tag=", "tag=x", 2), "BYE", 27, ""); code(got) != "481" {
		t.Errorf("a BYE with another tag gives %q, want 481", got)
	}
	if got := r.within(call, "BYE", 28, ""); code(got) != "200" {
		t.Errorf("BYE gives %q", got)
	}
	<-bob.Done()
	if row := w.ended(); !strings.Contains(row.Reason, "the caller said no") {
		t.Errorf("a 2 by INFO did not count: %q", row.Reason)
	}
}

func TestLateOffer(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	r := newRaw(t, w.door.Address())
	answer := r.invited(w, bobNumber, "late", "")
	if code(answer) != "200" || !strings.Contains(answer, "m=audio") {
		t.Fatalf("got %q, want an offer", answer)
	}
	r.ackWith(answer, "CSeq: 2 ACK", sdp("127.0.0.1", 4000, ""))
	bob := must(w.bobPhone.Answer(w.ctx))(t)
	r.within(answer, "BYE", 3, "")
	<-bob.Done()
}

// The 200 is sent again until its ACK comes.
func TestLostACK(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	r := newRaw(t, w.door.Address())
	first := r.invited(w, bobNumber, "ack", sdp("127.0.0.1", 4000, ""))
	if again := r.answer(2 * time.Second); again != first {
		t.Errorf("got %q again, want the same 200", again)
	}
	r.ack(first)
	if more := r.answer(3 * time.Second); strings.HasPrefix(more, "SIP/2.0") {
		t.Errorf("after the ACK came %q", more)
	}
	r.within(first, "BYE", 3, "")
}

func TestNoCommonCodec(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	r := newRaw(t, w.door.Address())
	for i, body := range []string{
		strings.Replace(sdp("127.0.0.1", 4000, ""), " 0 101", " 18 101", 1),
		strings.Replace(sdp("127.0.0.1", 4000, ""), "RTP/AVP", "RTP/SAVP", 1),
		sdp("127.0.0.1", 0, ""), "nonsense", strings.Repeat("a=x\r\n", 300),
	} {
		if got := r.invited(w, bobNumber, fmt.Sprint("c", i), body); code(got) != "488" {
			t.Errorf("%.40q gives %q, want 488", body, got)
		}
	}
	if got := len(mustCalls(w)); got > 0 {
		t.Errorf("%d calls are written down that could not be", got)
	}
}

func TestBadSIP(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	r := newRaw(t, w.door.Address())
	whole := "INVITE sip:" + bobNumber + "@THERE SIP/2.0\r\nVIA\r\nFrom: <sip:x@HERE>;tag=1\r\nTo: <sip:y@THERE>\r\nCall-ID: b\r\nCSeq: 1 INVITE\r\nContact: <sip:x@HERE>"
	for at := 1; at < len(whole); at += 7 { // truncated everywhere
		r.conn.WriteToUDPAddrPort([]byte(whole[:at]), r.to)
	}
	for _, name := range []string{"\"a\nX-Evil: 1\"", "\"a\rX-Evil: 1\"", "\"a\x00\"", "\"\x1b[2J\""} {
		r.send(strings.Replace(whole, "From: <", "From: "+name+" <", 1))
	}
	r.send(strings.Replace(whole, bobNumber, bobNumber+"\nX: 1", 1))
	r.conn.WriteToUDPAddrPort([]byte(whole+"\r\nX: "+strings.Repeat("x", 20000)+"\r\n\r\n"), r.to)
	r.conn.WriteToUDPAddrPort([]byte("\r\n\r\n"), r.to)
	r.conn.WriteToUDPAddrPort([]byte("GET / HTTP/1.1\r\n\r\n"), r.to)
	if got := r.answer(300 * time.Millisecond); got != "" {
		t.Errorf("nonsense was answered: %q", got)
	}
	if w.door.Counters.Malformed.Load() < 5 || w.door.Counters.Oversized.Load() != 1 {
		t.Errorf("%d malformed and %d oversized were counted", w.door.Counters.Malformed.Load(), w.door.Counters.Oversized.Load())
	}
	if !r.challenged(w.annName) {
		t.Error("the server does not answer any more")
	}
}

func TestFlood(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	r := newRaw(t, w.door.Address())
	for i := range 400 {
		r.send("INVITE sip:"+bobNumber+"@THERE SIP/2.0", "VIA", "From: <sip:x@HERE>;tag=1", "To: <sip:y@THERE>", fmt.Sprintf("Call-ID: f%d", i), "CSeq: 1 INVITE")
	}
	time.Sleep(200 * time.Millisecond)
	if answered := w.door.Counters.Challenged.Load(); answered > 150 || w.door.Counters.Flood.Load() < 50 {
		t.Errorf("%d of 400 were answered, %d dropped", answered, w.door.Counters.Flood.Load())
	}
}

func TestCloseEndsCalls(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	ann, bob := w.connect()
	w.agree(ann, bob, "1", "1")
	w.hears(bob, "thanks_recording")
	ok(t, ann.Say(tone(440, 3*time.Second)))
	time.Sleep(1200 * time.Millisecond)
	began := time.Now()
	ok(t, w.door.Close())
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("closing took %s", took)
	}
	<-ann.Done()
	<-bob.Done()
	row := w.row()
	if row.Ending != "the server stopped" || w.sealed(row, capture.Caller) < 1 {
		t.Errorf("the row is %+v, with %d seconds of the caller", row, w.sealed(row, capture.Caller))
	}
	if _, err := w.annPhone.Call(shortly(w), w.door.Address().String(), bobNumber); err == nil {
		t.Error("a closed door answers")
	}
}

// A message of more than a datagram's usual 1,300 bytes goes out all the same.
func TestLargeAnswers(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	r := newRaw(t, w.door.Address())
	uri := "sip:" + bobNumber + "@" + r.to.String()
	way := "Record-Route: <sip:127.0.0.1:9;lr;x=" + strings.Repeat("r", 2000) + ">"
	lines := []string{"INVITE " + uri + " SIP/2.0", "VIA", "From: <sip:" + w.annName + "@HERE>;tag=a1", "To: <" + uri + ">", "Call-ID: large",
		"CSeq: 1 INVITE", "Contact: <sip:x@HERE>", way, "Content-Type: application/sdp"}
	body := sdp("127.0.0.1", 4000, "")
	r.sendBody(body, lines...)
	challenge := r.answer(2 * time.Second)
	lines[5] = "CSeq: 2 INVITE"
	r.sendBody(body, append(lines, proof(challenge, "INVITE", uri, w.annName, w.annPass))...)
	answer := r.answer(2 * time.Second)
	if code(answer) != "200" || !strings.Contains(answer, way) {
		t.Fatalf("got %.200q", answer)
	}
	r.ack(answer)
	if got := r.within(answer, "BYE", 3, ""); code(got) != "200" {
		t.Errorf("BYE gives %q", got)
	}
}

// A phone that sends another codec than agreed is not heard, and one whose
// timestamps jump is: the call goes on either way.
func TestOddSound(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	r := newRaw(t, w.door.Address())
	answer := r.invite(w, bobNumber, "odd", sdp("127.0.0.1", 4000, ""))
	sound := must(net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}))(t)
	defer sound.Close()
	door := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: mediaPort(answer)}
	bob := must(w.bobPhone.Answer(w.ctx))(t)
	ok(t, bob.Press(w.ctx, "2"))
	stamp := uint32(0)
	frames := tone(440, 3500*time.Millisecond)
	for i := 0; i*160+160 <= len(frames); i++ {
		stamp += 160
		if i%25 == 24 {
			stamp = stamp*2654435761 + 7 // anywhere, also back
		}
		sound.WriteToUDP(rtp(0, uint16(i), stamp, 7, frames[i*160:i*160+160]), door)
		sound.WriteToUDP(rtp(18, uint16(i), stamp, 7, voice[:20]), door)
		if i == 20 {
			sound.WriteToUDP(rtp(101, uint16(i), stamp, 7, []byte{2, 0x8a, 3, 0xc0}), door)
		}
		time.Sleep(20 * time.Millisecond)
	}
	w.hear(bob, 440)
	if got := w.plane.Counters().Odd.Load(); got < 100 {
		t.Errorf("%d odd packets were counted", got)
	}
	r.within(answer, "BYE", 3, "")
	if row := w.ended(); row.Ending != "the caller hung up" {
		t.Errorf("the row is %+v", row)
	}
}

// A BYE does not overtake the ACK that it follows (RFC 3261, 15).
func TestByeWaitsForTheACK(t *testing.T) {
	t.Parallel()
	w := open(t, setup{})
	r := newRaw(t, w.door.Address())
	answer := r.invited(w, bobNumber, "overtake", sdp("127.0.0.1", 4000, ""))
	closed := background(func() { w.door.Close() })
	for deadline := time.Now().Add(700 * time.Millisecond); time.Now().Before(deadline); {
		if got := r.read(100 * time.Millisecond); strings.HasPrefix(got, "BYE ") {
			t.Fatal("the BYE came before the ACK")
		}
	}
	r.ack(answer)
	r.says(r.gets("BYE"), "200 OK", "")
	<-closed
}
