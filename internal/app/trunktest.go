package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	sipgo "github.com/emiago/sipgo/sip"

	"yesline"
	"yesline/internal/capture"
	"yesline/internal/capture/media"
	"yesline/internal/capture/sip"
	"yesline/internal/capture/tolls"
	"yesline/internal/db"
	"yesline/internal/people"
	"yesline/internal/session"
)

// How a thing stands that a test of the trunk looked at.
const (
	Fine  = "fine"
	Hint  = "note"
	Wrong = "wrong"
)

// TrunkFinding is one thing that a test of the trunk found. It names no number
// and no secret.
type TrunkFinding struct {
	Level string `json:"level"`         // Fine, Hint or Wrong
	About string `json:"about"`         // "dns", "connection", "registration", "call", "sound", "keys" ...
	Says  string `json:"says"`          // a sentence without its full stop
	Fix   string `json:"fix,omitempty"` // what to do
}

// TrunkSound is how sound came in, in figures.
type TrunkSound struct {
	Codec         string  `json:"codec"`
	Encrypted     bool    `json:"encrypted"`
	Packets       int     `json:"packets"`
	Missing       int     `json:"missing"`
	Late          int     `json:"late"`
	JitterMillis  float64 `json:"jitter_ms"`
	FrameMillis   int     `json:"frame_ms"`
	RecordedMilli int64   `json:"recorded_ms"`
	VoicedMillis  int64   `json:"voiced_ms"`
}

// How a test of the trunk ended.
const (
	TrunkWorks    = "works"    // a person heard us and spoke, and was played back
	TrunkDeclined = "declined" // a person heard us and said no: the trunk works
	TrunkUnproven = "unproven" // nothing is known to be wrong, and not all was tried
	TrunkBroken   = "broken"
	TrunkRefused  = "refused" // we do not call that number
)

// TrunkTest is what came of a test of the trunk.
type TrunkTest struct {
	Version int            `json:"version"`
	Verdict string         `json:"verdict"`
	Says    string         `json:"says"`
	Found   []TrunkFinding `json:"found"`
	Answers []int          `json:"answers"` // SIP status codes to our call, in order
	Sound   *TrunkSound    `json:"sound,omitempty"`
}

func (t *TrunkTest) fine(about, says string) {
	t.Found = append(t.Found, TrunkFinding{Fine, about, says, ""})
}
func (t *TrunkTest) hint(about, says, fix string) {
	t.Found = append(t.Found, TrunkFinding{Hint, about, says, fix})
}
func (t *TrunkTest) wrong(about, says, fix string) {
	t.Found = append(t.Found, TrunkFinding{Wrong, about, says, fix})
}

// ends says how it ended.
func (t *TrunkTest) ends(verdict, says string) { t.Verdict, t.Says = verdict, says }

const (
	trunkTestMost = 3 * time.Minute  // of all of it
	connectMost   = 10 * time.Second // of each step before the call
	registerMost  = 15 * time.Second
)

// TestTrunk rings a number by the configured trunk, has the person record a few
// seconds if they agree, plays them back, forgets them, and says in words how
// the trunk is. It touches neither the house's databases nor its folder, and so
// also works beside a server that runs; it is to be the only thing that its
// process does, since it listens to all that sipgo says. The error is that of a
// configuration or command that cannot be; what is wrong with the trunk is in
// the result.
func TestTrunk(ctx context.Context, cfg Config, number string, tell func(step string)) (TrunkTest, error) {
	cfg.complete()
	if err := cfg.Check(); err != nil {
		return TrunkTest{}, err
	}
	if cfg.Trunk.Address == "" {
		return TrunkTest{}, fmt.Errorf("no trunk is configured (trunk.address): %w", yesline.Invalid)
	}
	ctx, cancel := context.WithTimeout(ctx, trunkTestMost)
	defer cancel()
	a := &App{Config: cfg, Report: slog.New(slog.DiscardHandler)}
	defer a.Close()
	t := &trunkTrial{App: a, tell: tell, TrunkTest: TrunkTest{Version: 1, Found: []TrunkFinding{}, Answers: []int{}}}
	for _, step := range []func(context.Context, string) (bool, error){t.permitted, t.resolved, t.connected, t.opened, t.registered, t.rung} {
		if on, err := step(ctx, number); err != nil || !on {
			return t.TrunkTest, err
		}
	}
	return t.TrunkTest, nil
}

// trunkTrial is a test of the trunk while it goes on.
type trunkTrial struct {
	*App
	TrunkTest
	tell func(string)

	number  yesline.Phone
	toll    *tolls.Call
	wire    *trunkWire
	besides bool // a server runs on the same configuration
}

// permitted asks whether the number may be called, by the rules of every call.
// What it costs is not written into the house's books.
func (t *trunkTrial) permitted(ctx context.Context, written string) (bool, error) {
	mend := "test with an ordinary number of somebody who knows"
	refused := func(says string) (bool, error) {
		t.wrong("number", says, mend)
		t.ends(TrunkRefused, "That number is not called, and nothing was tried.")
		return false, nil
	}
	if slices.Contains(t.Config.Urgent.Numbers, dialled(written)) {
		return refused("is an emergency number: these are never tested")
	}
	var err error
	if t.number, err = people.Parse(dialled(written), t.Config.Program.Country); err != nil {
		return refused("is not a telephone number that can be called; write it with + and country code")
	}
	folder, err := os.MkdirTemp("", "yesline-trunk-test-")
	if err != nil {
		return false, fmt.Errorf("making a folder for the test: %w", err)
	}
	t.later(func() { t.note(os.RemoveAll(folder)) })
	if t.ContentDB, err = db.Open(ctx, "content", "sqlite:"+filepath.Join(folder, "content.db")); err != nil {
		return false, err
	}
	t.later(func() { t.note(t.ContentDB.Close()) })
	rules, err := t.Config.TollRules()
	if err != nil {
		return false, err
	}
	home := func(context.Context, yesline.ProgramID) (string, []string, error) {
		return t.Config.Program.Country, t.Config.Program.International, nil
	}
	if t.Tolls, err = tolls.Open(ctx, tolls.Parts{Content: t.ContentDB, Program: home}, rules); err != nil {
		return false, err
	}
	t.later(t.Tolls.Close)
	t.toll, err = t.Tolls.Place(ctx, tolls.Who{Program: "prg_test", Trunk: theTrunk}, t.number)
	if no := (*tolls.Refusal)(nil); errors.As(err, &no) {
		if no.Word == "country" {
			mend = "add the country to tolls.international, or test with a number of the program's own"
		}
		return refused("may not be called (" + no.Word + "): " + strings.TrimSuffix(lowered(no.Says), "."))
	}
	if err == nil {
		t.later(func() { t.toll.End(time.Now()) })
	}
	return err == nil, err
}

// lowered begins a sentence as the rest of another.
func lowered(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// resolved finds the trunk's address.
func (t *trunkTrial) resolved(ctx context.Context, _ string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, connectMost)
	defer cancel()
	at, err := trunkAddress(ctx, t.Config.Trunk.Address)
	if err != nil {
		t.wrong("dns", "finds no address for the name of the trunk", "look at trunk.address, and ask this machine's resolver for it (getent hosts NAME)")
		t.ends(TrunkBroken, "The trunk's name has no address, so nothing was tried.")
		return false, nil
	}
	if host, _, _ := net.SplitHostPort(t.Config.Trunk.Address); !isIP(host) {
		t.fine("dns", "the trunk's name leads to "+at.Addr().String())
	}
	t.wire = newTrunkWire(at)
	return true, nil
}

// connected looks whether somebody listens there, and by TLS whether it is the
// trunk.
func (t *trunkTrial) connected(ctx context.Context, _ string) (bool, error) {
	t.tell("connecting")
	ctx, cancel := context.WithTimeout(ctx, connectMost)
	defer cancel()
	if t.Config.Trunk.Transport == byUDP {
		return t.listens(ctx), nil
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", t.wire.at.String())
	if err != nil {
		t.wrong("connection", connectWords(err), "look at the host and port of trunk.address, and at the firewalls between")
		t.ends(TrunkBroken, "The trunk cannot be connected to.")
		return false, nil
	}
	defer conn.Close()
	if t.Config.Trunk.Transport == byTCP {
		t.fine("connection", "TCP to the trunk")
		return true, nil
	}
	var door sip.Config
	if err := t.trunk(ctx, &door); err != nil {
		return false, err
	}
	shaken := tls.Client(conn, door.TrunkTLS)
	if err := shaken.HandshakeContext(ctx); err != nil {
		says, fix := tlsWords(err)
		t.wrong("tls", says, fix)
		t.ends(TrunkBroken, "The trunk does not prove by TLS that it is the trunk, so it is not called.")
		return false, nil
	}
	t.fine("tls", tls.VersionName(shaken.ConnectionState().Version)+", with a certificate for the name that is wanted")
	return true, nil
}

// listens knocks at a UDP port: silence says nothing, and a refusal all.
func (t *trunkTrial) listens(ctx context.Context) bool {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", t.wire.at.String())
	if err == nil {
		defer conn.Close()
		conn.Write([]byte("\r\n\r\n")) // a keep-alive
		conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		if _, err = conn.Read(make([]byte, 64)); errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil
		}
	}
	if err == nil {
		return true
	}
	t.wrong("connection", connectWords(err), "look at the host and port of trunk.address, and whether the trunk speaks UDP (trunk.transport)")
	t.ends(TrunkBroken, "The trunk cannot be reached.")
	return false
}

func connectWords(err error) string {
	var timeout net.Error
	switch {
	case strings.Contains(err.Error(), "connection refused"):
		return "is refused: nothing listens at that address and port"
	case strings.Contains(err.Error(), "no route"), strings.Contains(err.Error(), "unreachable"):
		return "has no way from here to that address"
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "gets no answer: the address is wrong, or something between drops it"
	}
	return "fails"
}

func tlsWords(err error) (says, fix string) {
	var name x509.HostnameError
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var alert tls.AlertError
	var other tls.RecordHeaderError
	switch {
	case errors.As(err, &name):
		return "the certificate is for another name", "write into trunk.name what the carrier's certificate is for, or correct trunk.address"
	case errors.As(err, &unknown):
		return "nobody we trust signed the certificate", "name the carrier's authority in trunk.ca"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the certificate has ended, or begins later", "tell the carrier; and look at this machine's clock"
	case errors.As(err, &invalid):
		return "the certificate is not one for a server", "tell the carrier"
	case errors.As(err, &other):
		return "what answers does not speak TLS", `look at the port of trunk.address (5061 is usual for TLS), or at trunk.transport`
	case errors.As(err, &alert):
		return "the trunk breaks the handshake off: " + alert.Error(), "it may want a certificate of ours (trunk.certificate and trunk.key)"
	case errors.Is(err, context.DeadlineExceeded):
		return "the handshake does not end", "look whether trunk.address leads to a TLS port"
	}
	return "the handshake fails", "ask the carrier which versions and certificates it takes"
}

// opened opens a door of its own: where the house's is, if no server runs there.
func (t *trunkTrial) opened(ctx context.Context, _ string) (bool, error) {
	if conn, err := net.Dial("unix", socketPath(t.Config)); err == nil {
		conn.Close()
		t.besides = true
		t.alone()
		t.hint("server", "a server runs on this configuration: the test calls from a port of its own, and does not register",
			"if the trunk takes calls from the configured port alone, stop the server for the test")
	}
	if t.Config.ACME.Agree && t.Config.SIPTLS.Certificate == "" {
		t.Config.SIPTLS.Listen = "" // the authority is not troubled for a test
	}
	at, err := netip.ParseAddr(t.Config.Media.IP)
	if err != nil {
		return false, fmt.Errorf("media.ip: an address: %w", yesline.Invalid)
	}
	sound := media.Config{IP: at, From: uint16(t.Config.Media.FromPort), To: uint16(t.Config.Media.ToPort)}
	if t.Plane, err = media.Open(sound); err != nil {
		return false, err
	}
	t.later(func() { t.note(t.Plane.Close()) })
	door, err := t.telephony(ctx, sound)
	if err != nil {
		return false, err
	}
	door.Trunk = t.wire.at
	sealed := func(context.Context, yesline.ProgramID, []byte, []byte) ([]byte, error) { return nil, yesline.Denied }
	if t.Sessions, err = session.New(ctx, t.ContentDB, t.Config.Realm, session.Sealing{Seal: sealed, Open: sealed}); err != nil {
		return false, err
	}
	t.Capture = &capture.Room{}
	if t.Phones, err = sip.New(door, t.Sessions, t.Capture, t.Plane); err != nil {
		return false, err
	}
	sipgo.SIPDebugTracer(t.wire)
	sipgo.SIPDebug = true
	t.later(func() { sipgo.SIPDebug = false })
	if err := t.Phones.Start(ctx); err != nil {
		return false, fmt.Errorf("%w; does something else listen there?", err)
	}
	t.later(func() { t.note(t.Phones.Close()) })
	return true, nil
}

// alone takes ports that nobody has, and no registration.
func (t *trunkTrial) alone() {
	c := &t.Config
	for _, port := range []*string{&c.SIP, &c.SIPTCP.Listen, &c.SIPTLS.Listen} {
		if host, _, err := net.SplitHostPort(*port); err == nil {
			*port = net.JoinHostPort(host, "0")
		}
	}
	c.Trunk.Register = false
}

// registered waits until the trunk took our registration, where it wants one.
func (t *trunkTrial) registered(ctx context.Context, _ string) (bool, error) {
	if !t.Config.Trunk.Register {
		return true, nil
	}
	t.tell("registering")
	waiting, cancel := context.WithTimeout(ctx, registerMost)
	defer cancel()
	t.wire.until(waiting, func(s traffic) bool { return s.register.settled() })
	return t.toldRegistration(t.wire.seen().register), ctx.Err()
}

// settled reports whether there is nothing more to come.
func (x exchange) settled() bool {
	switch {
	case x.last() == 401, x.last() == 407:
		return x.proven()
	case x.last() == 423:
		return false
	}
	return x.last() != 0
}

// rung is the call.
func (t *trunkTrial) rung(ctx context.Context, _ string) (bool, error) {
	t.tell("ringing")
	ctx, cancel := context.WithTimeout(ctx, t.toll.Longest())
	defer cancel()
	made := t.Capture.Try(ctx, t.Phones.Trunk(t.number), func(step string) {
		if step == "answered" {
			t.toll.Answered(time.Now())
		}
		t.tell(step)
	})
	t.diagnose(made, t.wire.seen())
	return true, nil
}
