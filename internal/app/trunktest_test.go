package app

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"yesline/internal/capture"
	"yesline/internal/capture/media"
)

const publicTrunk = "203.0.113.9:5060"

// said is a message with CRLFs, its length filled in.
func said(lines ...string) string {
	head, body, _ := strings.Cut(strings.Join(lines, "\r\n")+"\r\n", "\r\n\r\n")
	return head + "\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

// invite is ours, and the answers are a trunk's.
func invite(n string) string {
	return said("INVITE sip:+12025550177@203.0.113.9 SIP/2.0", "Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK1;rport", "From: <sip:+12025550100@10.0.0.5>;tag=a",
		"To: <sip:+12025550177@203.0.113.9>", "Call-ID: x", "CSeq: "+n+" INVITE", "Content-Type: application/sdp", "",
		"v=0", "o=- 1 1 IN IP4 10.0.0.5", "s=-", "c=IN IP4 10.0.0.5", "t=0 0", "m=audio 30000 RTP/AVP 0 8 101")
}

func answer(status, n string, lines ...string) string {
	return said(append([]string{"SIP/2.0 " + status, "Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK1;rport=1024;received=198.51.100.7", "From: <sip:+12025550100@10.0.0.5>;tag=a",
		"To: <sip:+12025550177@203.0.113.9>;tag=b", "Call-ID: x", "CSeq: " + n + " INVITE"}, lines...)...)
}

var picked = answer("200 OK", "2", "Contact: <sip:gw@192.168.7.7:5060>", "Session-Expires: 1800;refresher=uas", "Content-Type: application/sdp", "",
	"v=0", "o=- 1 1 IN IP4 192.168.7.8", "s=-", "c=IN IP4 192.168.7.8", "t=0 0", "m=audio 4000 RTP/AVP 0 101", "a=rtpmap:101 telephone-event/8000", "a=ptime:20")

// hears feeds a wire what was said, over UDP or in pieces over a stream.
func hears(over string, pieces int, messages ...string) traffic {
	w := newTrunkWire(netip.MustParseAddrPort(publicTrunk))
	for _, m := range messages {
		take := w.SIPTraceRead
		if !strings.HasPrefix(m, "SIP/2.0") && !strings.HasPrefix(m, "BYE") {
			take = w.SIPTraceWrite
		}
		for part := range slices.Chunk([]byte(m), max(1, len(m)/pieces)) {
			take(over, "10.0.0.5:5060", publicTrunk, part)
		}
	}
	return w.seen()
}

func TestWhatIsSaidWithATrunk(t *testing.T) {
	t.Parallel()
	for _, over := range []struct {
		name   string
		pieces int
	}{{"UDP", 1}, {"TCP", 1}, {"TCP", 7}} {
		s := hears(over.name, over.pieces, invite("1"), answer("401 Unauthorized", "1"), strings.Replace(invite("2"), "CSeq", "Authorization: Digest a=b\r\nCSeq", 1),
			answer("100 Trying", "2"), answer("180 Ringing", "2"), answer("180 Ringing", "2"), picked,
			said("BYE sip:a SIP/2.0", "Via: SIP/2.0/UDP h;branch=z9hG4bK2", "From: <sip:b>;tag=b", "To: <sip:a>;tag=a", "Call-ID: x", "CSeq: 9 BYE", `Reason: Q.850;cause=34;text="none"`, ""))
		if x := s.invite; !slices.Equal(x.answers, []int{401, 100, 180, 200}) || x.last() != 200 || !x.proven() {
			t.Errorf("%s: the call is %+v", over.name, x)
		}
		if s.ours == nil || s.ours.at.String() != "10.0.0.5:30000" || s.theirs == nil || s.theirs.at.String() != "192.168.7.8:4000" || !s.theirs.keys || s.theirs.frame != 20 {
			t.Errorf("%s: the sounds are %+v and %+v", over.name, s.ours, s.theirs)
		}
		if s.contact != "192.168.7.7" || s.seenAs != "198.51.100.7" || s.sentBy != "10.0.0.5" || s.timer != 1800 || s.refresh != "uas" || !s.bye || s.cause != 34 {
			t.Errorf("%s: got %+v", over.name, s)
		}
	}
	late := newTrunkWire(netip.MustParseAddrPort(publicTrunk)) // what we send may be seen after its answer
	late.SIPTraceRead("UDP", "", publicTrunk, []byte(answer("486 Busy Here", "1")))
	late.SIPTraceWrite("UDP", "", publicTrunk, []byte(invite("1")))
	if got := late.seen().invite.last(); got != 486 {
		t.Errorf("the last answer is %d, want 486", got)
	}
	late.SIPTraceWrite("UDP", "", publicTrunk, []byte(invite("2")))
	if got := late.seen().invite.last(); got != 0 {
		t.Errorf("the last answer to a new call is %d", got)
	}
	other := newTrunkWire(netip.MustParseAddrPort(publicTrunk))
	other.SIPTraceRead("TCP", "", "203.0.113.10:5060", []byte(picked))
	if got := other.seen(); len(got.invite.answers) > 0 {
		t.Errorf("somebody else's connection was heard: %+v", got)
	}
}

// tried is a test of a trunk that came so far.
func tried(t *testing.T) *trunkTrial {
	t.Helper()
	plane, err := media.Open(media.Config{IP: netip.MustParseAddr("127.0.0.1"), From: 30000, To: 30010})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { plane.Close() })
	return &trunkTrial{App: &App{Config: Defaults(), Plane: plane}, wire: newTrunkWire(netip.MustParseAddrPort(publicTrunk))}
}

func (t TrunkTest) all() string {
	text := t.Verdict + ": " + t.Says
	for _, f := range t.Found {
		text += "\n" + f.Level + " " + f.About + " " + f.Says
	}
	return text
}

// What stands between us and a trunk is named, where it does harm.
func TestAddressesOfTheInside(t *testing.T) {
	t.Parallel()
	a := tried(t)
	a.toldAddresses(hears("UDP", 1, invite("2"), picked))
	for _, want := range []string{"the trunk sees us at 198.51.100.7, and we say that we are at 10.0.0.5", "we name 10.0.0.5 for our sound",
		"the trunk names 192.168.7.8 for its sound", "the trunk names 192.168.7.7 as where it is reached"} {
		if !strings.Contains(a.all(), want) {
			t.Errorf("it does not say %q: %s", want, a.all())
		}
	}
	inside := tried(t)
	inside.wire = newTrunkWire(netip.MustParseAddrPort("10.0.0.9:5060"))
	inside.toldAddresses(hears("UDP", 1, invite("2"), strings.Replace(picked, "198.51.100.7", "10.0.0.5", 1)))
	if len(inside.Found) > 0 {
		t.Errorf("of a trunk inside the same network it says %s", inside.all())
	}
}

// Each end of a call has its words.
func TestWordsOfTheEnds(t *testing.T) {
	t.Parallel()
	rang := hears("UDP", 1, invite("1"), answer("180 Ringing", "1"))
	up := hears("UDP", 1, invite("2"), picked)
	good := capture.Incoming{Packets: 1000, Events: "1"}
	good.Frame = 20e6
	for name, c := range map[string]struct {
		made    capture.Trial
		traffic traffic
		verdict string
		want    string
	}{
		"nobody picks up":      {capture.Trial{Err: capture.ErrNoAnswer}, rang, TrunkUnproven, "it rang, and nobody picked up"},
		"it never rings":       {capture.Trial{Err: capture.ErrNoAnswer}, hears("UDP", 1, invite("1"), answer("100 Trying", "1")), TrunkBroken, "never says that it rings"},
		"silence before":       {capture.Trial{Err: capture.ErrUnreached}, rang, TrunkBroken, "the trunk said nothing more"},
		"ended by us":          {capture.Trial{Err: errors.New("interrupted")}, rang, TrunkUnproven, "ended before anybody picked up"},
		"all is well":          {capture.Trial{Answered: true, Asked: true, Said: "yes", Back: true, Voiced: 1e9, Recorded: 10e9, In: good}, up, TrunkWorks, "played back 10 seconds"},
		"silence":              {capture.Trial{Answered: true, Asked: true, Said: "yes", Back: true, In: good}, up, TrunkBroken, "what came in is silence"},
		"a no":                 {capture.Trial{Answered: true, Said: "no", In: good}, up, TrunkDeclined, "the trunk works"},
		"no key":               {capture.Trial{Answered: true, Asked: true, In: capture.Incoming{Packets: 9, Frame: 20e6}}, up, TrunkUnproven, "nobody pressed a key"},
		"one way, with a key":  {capture.Trial{Answered: true, Asked: true, Said: "yes", Back: true, In: capture.Incoming{Events: "1"}}, up, TrunkBroken, "It hears us, since a key came."},
		"another took over":    {capture.Trial{Answered: true, Asked: true, Said: "yes", Err: capture.ErrMoved, In: good}, up, TrunkBroken, "changed its source after the yes"},
		"too soon":             {capture.Trial{Answered: true, Asked: true, In: capture.Incoming{Packets: 9, Frame: 20e6, Events: "1", Soon: true}}, up, TrunkUnproven, "test again"},
		"a bad line":           {capture.Trial{Answered: true, Said: "no", In: capture.Incoming{Packets: 900, Missing: 100, Frame: 20e6, Jitter: 50e6, Leaps: 2, Held: true}}, up, TrunkDeclined, "wrong loss 10.0 % missing, 0 late, jitter 50.0 ms"},
		"a line of many leaps": {capture.Trial{Answered: true, Said: "no", In: capture.Incoming{Packets: 900, Frame: 20e6, Leaps: 2}}, up, TrunkDeclined, "leapt 2 times"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := tried(t)
			a.diagnose(c.made, c.traffic)
			if a.Verdict != c.verdict || !strings.Contains(a.all(), c.want) {
				t.Errorf("it says %s", a.all())
			}
		})
	}
}

// Every code has words, and what a carrier says is repeated in letters alone.
func TestWordsOfCodes(t *testing.T) {
	t.Parallel()
	for code := 300; code < 700; code++ {
		if r := refusalOf(code); r.says == "" || r.fix == "" {
			t.Errorf("%d has no words", code)
		}
	}
	s := hears("UDP", 1, invite("1"), answer("403 +12025550177 <sip:ann@x> is barred", "1", ""))
	if got := s.invite.words; got != "sipannx is barred" {
		t.Errorf("got %q", got)
	}
}

// Whatever comes, the test of a trunk lives, and remembers little.
func FuzzTrunkWire(f *testing.F) {
	for _, m := range []string{picked, invite("1"), answer("183 Session Progress", "1"), "\r\n\r\n", "SIP/2.0 200 OK\r\nContent-Length: 99999\r\n\r\n"} {
		f.Add([]byte(m))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, over := range []string{"UDP", "TCP"} {
			w := newTrunkWire(netip.MustParseAddrPort(publicTrunk))
			for range 2 {
				w.SIPTraceRead(over, "", publicTrunk, data)
				w.SIPTraceWrite(over, "", publicTrunk, data)
			}
			if s := w.seen(); len(w.in) > wireMost || len(s.invite.answers) > answersMost || len(s.invite.words) > 80 || strings.ContainsAny(s.invite.words, "0123456789@<>") {
				t.Errorf("it remembers %+v", s)
			}
		}
	})
}
