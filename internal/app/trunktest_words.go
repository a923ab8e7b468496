package app

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"yesline/internal/capture"
)

// refusal is what a status code of a trunk means, in words.
type refusal struct {
	reached   bool // the trunk works: who was called is not there, busy, or does not want to
	says, fix string
}

var refusals = map[int]refusal{
	400: {says: "did not understand our call", fix: "ask the carrier what it misses; trunk.caller_id may have a form it does not take"},
	401: {says: "refuses our user or password", fix: "look at trunk.user, trunk.domain and the file of trunk.secret_file"},
	402: {says: "wants to be paid first", fix: "look at your account with the carrier"},
	403: {says: "forbids the call", fix: "ask the carrier whether it knows this machine's address or our registration, whether trunk.caller_id is a number it lets us show, and whether the country is open"},
	404: {says: "knows no such number", fix: "check the digits; if the number is right, ask the carrier in which form it wants numbers (we send + and country code)"},
	405: {says: "takes no calls there", fix: "look whether trunk.address leads to the carrier's calls, and not to its registrar"},
	408: {reached: true, says: "got no answer from the phone in time", fix: "try again, or another number"},
	410: {says: "says that the number exists no more", fix: "check the digits"},
	415: {says: "does not take our kind of sound", fix: "ask for G.711 (PCMU or PCMA)"},
	416: {says: "does not take our form of address", fix: "ask the carrier in which form it wants numbers"},
	420: {says: "does not know an extension", fix: "tell the carrier that we ask for none but timer, 100rel and record-aware, and require none"},
	480: {reached: true, says: "says that the phone cannot be reached now", fix: "it may be switched off: try again, or another number"},
	481: {says: "lost the call", fix: "try again; if it stays so, tell the carrier"},
	482: {says: "sees a loop", fix: "trunk.address may lead back to this machine"},
	483: {says: "sees a loop", fix: "trunk.address may lead back to this machine"},
	484: {says: "says that the number is not whole", fix: "ask the carrier in which form it wants numbers (we send + and country code)"},
	486: {reached: true, says: "says that the phone is busy", fix: "try again when it is free"},
	487: {reached: true, says: "ended the ringing", fix: "try again"},
	488: {says: "and we have no sound in common", fix: "the trunk wants another codec than G.711, or sound encrypted in another way: look at trunk.srtp"},
	500: {says: "has a fault of its own", fix: "try again; if it stays so, tell the carrier"},
	501: {says: "cannot do this", fix: "ask the carrier"},
	502: {says: "got nonsense from the network behind it", fix: "try again; if it stays so, tell the carrier"},
	503: {says: "takes no call now: it is full, in repair, or lets us have no more calls at once", fix: "ask the carrier how many calls you may have; set tolls.trunk_calls to that"},
	504: {says: "got no answer from the network behind it", fix: "try again; if it stays so, tell the carrier"},
	600: {reached: true, says: "says that all of the person's phones are busy", fix: "try again when one is free"},
	603: {reached: true, says: "says that the call was declined", fix: "the person, their phone or their carrier's filter did so: tell them that you call"},
	604: {says: "says that the number exists nowhere", fix: "check the digits"},
	606: {says: "and we have no sound in common", fix: "the trunk wants another codec than G.711, or sound encrypted in another way: look at trunk.srtp"},
	607: {reached: true, says: "says that the person does not want such calls", fix: "test with another number"},
	608: {reached: true, says: "says that a filter held the call for unwanted", fix: "ask the carrier to sign your calls (STIR/SHAKEN), and about the reputation of trunk.caller_id"},
}

// refusalOf is what a code means, also one that is not in the list.
func refusalOf(code int) refusal {
	if code == 407 {
		code = 401
	}
	if r, known := refusals[code]; known {
		return r
	}
	switch {
	case code < 400:
		return refusal{says: "sends us elsewhere", fix: "ask the carrier for the address that takes calls itself"}
	case code < 500:
		return refusal{says: "refuses the call", fix: "ask the carrier why"}
	case code < 600:
		return refusal{says: "has a fault", fix: "try again; if it stays so, tell the carrier"}
	}
	return refusal{reached: true, says: "says that the person cannot be called", fix: "test with another number"}
}

// causes are those of the telephone network (Q.850) that tell more than a code.
var causes = map[int]string{
	1: "the number is not assigned", 2: "there is no route to that network", 3: "there is no route there", 16: "an ordinary end",
	17: "busy", 18: "no phone answers", 19: "nobody picks up", 20: "the subscriber is absent", 21: "rejected", 22: "the number has changed",
	27: "the phone is out of order", 28: "the number has a form that is not taken", 31: "an end without a reason", 34: "no line is free",
	38: "the network is out of order", 41: "a passing failure", 42: "the network is crowded", 47: "no resource is free",
	50: "not subscribed to", 55: "calls like this are barred", 57: "this is not permitted to you", 58: "this is not available now", 65: "this sound is not carried",
	88: "the two ends do not fit", 102: "a timer ran out", 111: "a protocol error", 127: "the networks do not understand each other",
}

// toldRegistration tells how the trunk took our registration; it reports
// whether the test goes on.
func (t *TrunkTest) toldRegistration(x exchange) bool {
	const about = "registration"
	switch {
	case x.last() == 0:
		t.wrong(about, "gets no answer", "look at trunk.address and the firewalls between; some carriers answer only addresses that they know")
	case x.last() < 300:
		t.fine(about, "taken"+cmp.Or(inSeconds(", for %s", x.granted), ""))
		return true
	case (x.last() == 401 || x.last() == 407) && !x.proven():
		t.wrong(about, "asks for a password in a way that we do not know", "ask the carrier for digest with SHA-256 or MD5 (RFC 8760)")
	case x.last() == 403, x.last() == 404:
		t.wrong(about, fmt.Sprintf("is refused (%d): the trunk knows no such user, or lets it not register", x.last()), "look at trunk.user and trunk.domain; if the carrier knows you by your address, set register = false")
	case x.last() == 423:
		t.wrong(about, "wants another length than we offer", "ask the carrier for what it takes")
	default:
		r := refusalOf(x.last())
		t.wrong(about, fmt.Sprintf("is refused (%d): the trunk %s", x.last(), r.says), r.fix)
	}
	t.ends(TrunkBroken, "The trunk does not take our registration, so nobody was called.")
	return false
}

func inSeconds(format string, n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(format, time.Duration(n)*time.Second)
}

// diagnose says how the trunk is, by how the call went and what was said on the
// way.
func (t *trunkTrial) diagnose(made capture.Trial, s traffic) {
	t.Answers = append(t.Answers, s.invite.answers...)
	t.toldAddresses(s)
	if !made.Answered {
		t.unanswered(made, s)
		return
	}
	t.fine("call", "rung and picked up"+map[bool]string{true: ", after our password was asked for", false: ""}[s.invite.proven()])
	if made.Early || s.early != nil {
		t.fine("early media", "the trunk sends sound before the answer, which callers hear and which is never kept")
	}
	t.toldTimer(s)
	t.toldSound(made, s)
	t.toldKeys(made)
	t.concludes(made, s)
}

// unanswered tells why nobody picked up.
func (t *trunkTrial) unanswered(made capture.Trial, s traffic) {
	x := s.invite
	rang := slices.ContainsFunc(x.answers, func(code int) bool { return code >= 180 && code < 200 })
	network := ""
	if said, known := causes[s.cause]; known {
		network = fmt.Sprintf("; the telephone network's cause is %d, %s", s.cause, said)
	}
	switch {
	case len(x.answers) == 0:
		t.wrong("call", "gets no answer at all, not even that it is being tried"+t.strangers(), "look at trunk.address and trunk.transport, at the firewall for our SIP port, and whether the carrier knows this machine's address")
		t.ends(TrunkBroken, "The trunk does not answer.")
	case x.last() >= 300:
		t.refused(x, network)
	case x.last() >= 200: // and still no call
		t.wrong("call", "was picked up, but with sound that we do not share", "the trunk answered with another codec than G.711, or without the encryption that was agreed: look at trunk.srtp, and ask the carrier for PCMU or PCMA")
		t.ends(TrunkBroken, "The trunk answers with sound that we cannot take.")
	case rang && errors.Is(made.Err, capture.ErrNoAnswer):
		t.hint("call", "it rang, and nobody picked up", "try again with somebody at the phone")
		t.ends(TrunkUnproven, "The trunk rings phones; nobody picked up, so the sound was not tried.")
	case errors.Is(made.Err, capture.ErrNoAnswer):
		t.wrong("call", "is being tried by the trunk, which never says that it rings", "try another number; if it stays so, tell the carrier")
		t.ends(TrunkBroken, "The trunk takes calls and does not ring the phone.")
	case made.Err != nil && len(x.answers) > 0 && errors.Is(made.Err, capture.ErrUnreached):
		t.wrong("call", "began, and then the trunk said nothing more", "try again; if it stays so, tell the carrier")
		t.ends(TrunkBroken, "The trunk goes silent before the answer.")
	default:
		t.ends(TrunkUnproven, "The test was ended before anybody picked up.")
	}
}

// refused tells what a final answer other than yes means.
func (t *trunkTrial) refused(x exchange, network string) {
	r := refusalOf(x.last())
	asks := x.last() == 401 || x.last() == 407
	switch {
	case asks && t.Config.Trunk.User == "":
		r = refusal{says: "asks for a password, and none is configured", fix: "set trunk.user and trunk.secret_file, or have the carrier know you by your address"}
	case asks && !x.proven():
		r = refusal{says: "asks for a password in a way that we do not know", fix: "ask the carrier for digest with SHA-256 or MD5 (RFC 8760)"}
	}
	says := fmt.Sprintf("the trunk %s (%d", r.says, x.last())
	if x.words != "" {
		says += ", “" + x.words + "”"
	}
	says += ")" + inSeconds("; it says to try again in %s", x.retry) + network
	if r.reached {
		t.hint("call", says, r.fix)
		t.ends(TrunkUnproven, "The trunk takes our calls; nobody picked up, so the sound was not tried.")
		return
	}
	t.wrong("call", says, r.fix)
	t.ends(TrunkBroken, "The trunk does not place our call.")
}

// strangers tells of answers that came from where no trunk is.
func (t *trunkTrial) strangers() string {
	if n := t.Phones.Counters.Strangers.Load(); n > 0 {
		return fmt.Sprintf("; %d messages came from addresses that are not the trunk's (trunk.sources)", n)
	}
	return ""
}

// toldAddresses looks for what stands between us and the trunk.
func (t *trunkTrial) toldAddresses(s traffic) {
	outside := !private(t.wire.at.Addr())
	if seen, err := netip.ParseAddr(s.seenAs); err == nil && s.sentBy != "" && seen.String() != s.sentBy {
		t.hint("nat", "the trunk sees us at "+seen.String()+", and we say that we are at "+s.sentBy+": something translates addresses between",
			"give this machine that address, or have the carrier send to where our packets come from (symmetric RTP)")
	}
	if s.ours != nil && outside && private(s.ours.at.Addr()) {
		t.hint("nat", "we name "+s.ours.at.Addr().String()+" for our sound, which nobody reaches from outside", "set media.ip to the address that the trunk reaches us by")
	}
	if theirs := cmp.Or(s.theirs, s.early); theirs != nil && outside && private(theirs.at.Addr()) {
		t.hint("nat", "the trunk names "+theirs.at.Addr().String()+" for its sound, which is an address of its inside", "tell the carrier; our sound gets there only because we send to where theirs comes from")
	}
	if host, err := netip.ParseAddr(strings.Trim(s.contact, "[]")); err == nil && outside && private(host) {
		t.hint("nat", "the trunk names "+host.String()+" as where it is reached in the call, which is an address of its inside", "tell the carrier")
	}
}

var sharedSpace = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598

// private reports whether an address is reached only from the same inside.
func private(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || sharedSpace.Contains(a)
}

func (t *trunkTrial) toldTimer(s traffic) {
	if s.timer == 0 {
		t.hint("session timer", "the trunk knows none: a call whose end is lost goes on until it is silent for a minute", "ask the carrier for session timers (RFC 4028)")
		return
	}
	who := map[string]string{"uac": "we show that the call lives", "uas": "the trunk shows that the call lives"}[s.refresh]
	t.fine("session timer", strings.TrimPrefix(inSeconds("%s", s.timer)+map[bool]string{true: "; " + who, false: ""}[who != ""], "; "))
}

// toldSound tells what came in, and from where.
func (t *trunkTrial) toldSound(made capture.Trial, s traffic) {
	in := made.In
	t.Sound = &TrunkSound{Codec: made.Line.Voice.String(), Encrypted: t.Config.Trunk.SRTP == sdes, Packets: in.Packets, Missing: in.Missing, Late: in.Late,
		JitterMillis: float64(in.Jitter.Round(100*time.Microsecond)) / float64(time.Millisecond), FrameMillis: int(in.Frame.Milliseconds()),
		RecordedMilli: made.Recorded.Milliseconds(), VoicedMillis: made.Voiced.Milliseconds()}
	if t.Sound.Encrypted {
		t.fine("codec", made.Line.Voice.String()+", encrypted")
	} else {
		t.fine("codec", made.Line.Voice.String()+", in clear")
	}
	named := netip.AddrPort{}
	if s.theirs != nil {
		named = s.theirs.at
	}
	if in.Packets == 0 {
		t.nothingIn(named)
		return
	}
	from := named
	if stream := made.Line.Stream; stream != nil && stream.Source().IsValid() {
		from = stream.Source()
	}
	says := fmt.Sprintf("%d packets of %d ms came in", in.Packets, in.Frame.Milliseconds())
	if from.IsValid() {
		says += ", from " + from.String()
	}
	if from != named && named.IsValid() {
		says += ", where the trunk named " + named.String()
	}
	t.fine("sound", says)
	t.toldQuality(in)
	if n := t.Plane.Counters().Foreign.Load(); n > 0 {
		t.hint("sound", fmt.Sprintf("%d packets came from another place than the call's, and were dropped", n), "if words were missing, ask the carrier to send a call's sound from one address and port")
	}
	if in.Held {
		t.hint("sound", "the other side put us on hold meanwhile", "try again")
	}
}

// nothingIn tells of sound that does not come.
func (t *trunkTrial) nothingIn(named netip.AddrPort) {
	count, from := t.Plane.Counters(), ""
	if named.IsValid() {
		from = " (the trunk named " + named.String() + ")"
	}
	switch {
	case count.Foreign.Load() > 0:
		t.wrong("sound", fmt.Sprintf("comes from an address that the trunk named neither for its sound nor speaks from%s: %d packets were dropped", from, count.Foreign.Load()), "ask the carrier to name in its SDP where its sound comes from")
	case count.Forged.Load()+count.Replayed.Load() > 0:
		t.wrong("sound", "comes encrypted by another key than was agreed", "tell the carrier; look at trunk.srtp")
	case count.Odd.Load() > 0:
		t.wrong("sound", fmt.Sprintf("comes in another kind than was agreed: %d packets were dropped", count.Odd.Load()), "ask the carrier for G.711 (PCMU or PCMA) with the payload type it named")
	default:
		t.wrong("sound", "does not come in: not one packet"+from, fmt.Sprintf("open the UDP ports %d to %d of media.ip towards the carrier, and see that media.ip is the address that it reaches", t.Config.Media.FromPort, t.Config.Media.ToPort))
	}
}

const (
	jitterMuch = 30 * time.Millisecond
	lossMuch   = 0.01
)

func (t *trunkTrial) toldQuality(in capture.Incoming) {
	all := in.Packets + in.Missing
	share := float64(in.Missing) / float64(all)
	says := fmt.Sprintf("%.1f %% missing, %d late, jitter %.1f ms at most", 100*share, in.Late, float64(in.Jitter.Microseconds())/1000)
	if share > lossMuch || in.Jitter > jitterMuch {
		t.wrong("loss", says, "look for a crowded or wireless link on the way; voices will have holes")
	} else {
		t.fine("loss", says)
	}
	if in.Leaps > 0 {
		t.hint("sound", fmt.Sprintf("its timestamps leapt %d times", in.Leaps), "the trunk put the sound of several sources together: tell the carrier if recordings have gaps")
	}
}

// toldKeys tells how keys come, if they do.
func (t *trunkTrial) toldKeys(made capture.Trial) {
	in := made.In
	switch {
	case in.Events != "":
		t.fine("keys", "come as telephone-events (RFC 4733)")
	case in.Infos != "":
		t.wrong("keys", "come by SIP INFO alone, which is never a yes: nobody could agree", "ask the carrier for telephone-events (RFC 4733)")
	case made.Asked && in.Packets > 0:
		t.hint("keys", "none came", "if the person pressed one, ask the carrier for telephone-events (RFC 4733): keys in the sound itself, or by nothing, are no yes")
	}
}

const voicedLeast = 300 * time.Millisecond

// concludes says what all of it means.
func (t *trunkTrial) concludes(made capture.Trial, s traffic) {
	in, keys := made.In, made.In.Events+made.In.Infos
	switch {
	case made.Said == "no":
		t.ends(TrunkDeclined, "The person heard us and said no: the trunk works. Nothing was recorded.")
	case in.Packets == 0:
		t.ends(TrunkBroken, "One way: we hear nothing of the called phone."+map[bool]string{true: " It hears us, since a key came.", false: ""}[keys != ""])
	case made.Said == "yes" && made.Back && made.Voiced >= voicedLeast:
		t.ends(TrunkWorks, fmt.Sprintf("The trunk works: the person heard us, spoke, and was played back %.0f seconds, which are forgotten.", made.Recorded.Seconds()))
	case made.Said == "yes" && made.Back:
		t.wrong("sound", "what came in is silence", "if the person spoke, sound is lost on the way in; else test again")
		t.ends(TrunkBroken, "The person heard us, and we heard nothing of what they said.")
	case errors.Is(made.Err, capture.ErrMoved):
		t.wrong("sound", "changed its source after the yes, so the yes was not taken for it", "ask the carrier to send a call's sound from one address, port and SSRC")
		t.ends(TrunkBroken, "The trunk changed where the sound comes from in the middle of the call.")
	case made.Asked && keys == "" && !s.bye:
		t.hint("sound", "ours goes to where theirs comes from; nobody confirmed by a key that they heard it", "ask the person; if they heard nothing, it is one way: look at media.ip and the ports of [media]")
		t.ends(TrunkUnproven, "The call stood and sound came in; nobody pressed a key, so it is not known whether we were heard.")
	case in.Soon:
		t.ends(TrunkUnproven, "The person heard us and pressed 1 before the question was said to its end, which is no yes in any call: test again.")
	case in.Events == "" && keys != "":
		t.ends(TrunkBroken, "The person heard us, and their yes does not come through.")
	default:
		t.ends(TrunkUnproven, "The call stood, and ended before all was tried"+endedBy(made, s)+".")
	}
}

func endedBy(made capture.Trial, s traffic) string {
	said := ""
	if words, known := causes[s.cause]; known && s.cause != 16 {
		said = fmt.Sprintf(" (the telephone network's cause is %d, %s)", s.cause, words)
	}
	switch {
	case s.bye:
		return ": the other side hung up" + said
	case made.Err != nil:
		return ": " + made.Err.Error() + said
	}
	return ""
}
