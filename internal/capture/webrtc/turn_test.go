package webrtc_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/capture"
	door "yesline/internal/capture/webrtc"
)

const turnSecret = "a secret of the relay and of us"

// relay is coturn on loopback, in a folder of its own.
type relay struct {
	port int
	log  string
}

func startRelay(t testing.TB) relay {
	t.Helper()
	binary, err := exec.LookPath("turnserver")
	if err != nil {
		missing(t, "there is no turnserver on this machine: apt-get install coturn")
	}
	probe, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := probe.LocalAddr().(*net.UDPAddr).Port
	probe.Close()
	folder := t.TempDir()
	r := relay{port, filepath.Join(folder, "turn.log")}
	config := documented(t, map[string]string{
		"192.0.2.20": "127.0.0.1", "192.0.2.10": "127.0.0.1", "REPLACE-BY-THE-SECRET": turnSecret,
		"listening-port=3478": fmt.Sprint("listening-port=", port), "tls-listening-port=443": "no-tls",
		"cert=/etc/coturn/fullchain.pem": "no-dtls", "pkey=/etc/coturn/key.pem": "",
		"min-port=49152": "min-port=47000", "max-port=65535": "max-port=47999",
	}) + fmt.Sprintf("allow-loopback-peers\nlog-file=%s\nsimple-log\nverbose\nuserdb=%s\npidfile=%s\n",
		r.log, filepath.Join(folder, "turn.db"), filepath.Join(folder, "turn.pid"))
	file := filepath.Join(folder, "turn.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "-c", file)
	cmd.SysProcAttr = killedWithUs()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	wait(t, "coturn listens", func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return r
}

// documented is the configuration that docs/turn.md gives operators, with other
// addresses: what people copy is what is tested.
func documented(t testing.TB, other map[string]string) string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/turn.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```\nlistening-ip=")
	block, _, ended := strings.Cut(rest, "```")
	if !found || !ended {
		t.Fatal("docs/turn.md has no configuration")
	}
	block = "listening-ip=" + block
	for was, is := range other {
		if !strings.Contains(block, was) {
			t.Fatalf("docs/turn.md does not have %q", was)
		}
		block = strings.ReplaceAll(block, was, is)
	}
	return block
}

// served is the door's servers as a page gets them.
func served(w *world, person yesline.PersonID) (c config) {
	for _, s := range w.door.Servers(person) {
		c.ICEServers = append(c.ICEServers, server{s.URLs, s.Username, s.Credential})
	}
	if w.door.RelayOnly() {
		c.Policy = "relay"
	}
	return c
}

func relayed(r relay) func(*door.Config) {
	return func(c *door.Config) {
		c.RelayOnly = true
		c.TURN = []door.TURN{{URLs: []string{fmt.Sprintf("turn:127.0.0.1:%d?transport=udp", r.port)}, Secret: yesline.NewSecret([]byte(turnSecret))}}
	}
}

func TestChromiumThroughTURNAlone(t *testing.T) {
	t.Parallel()
	r := startRelay(t)
	w := newWorld(t, relayed(r))
	c := openChromium(t, 600)
	ear := newEar()
	line := w.connect(c.call(w, audio.PCMU, served(w, ear.person)), capture.Ends{Listener: ear})
	c.speaks(ear)
	if err := line.Play(t.Context(), tone(440, 400)); err != nil {
		t.Fatal(err)
	}
	wait(t, "the prompt is heard", func() bool { return c.heard().House.Packets >= 19 })
	for _, local := range c.heard().Local {
		if !strings.HasPrefix(local, "relay ") {
			t.Errorf("the browser has a candidate %q beside its relay", local)
		}
	}
	log, err := os.ReadFile(r.log)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(log), string(ear.person)) {
		t.Error("the relay was told who it is")
	}
}

func TestRelayOnlyTakesNobodyElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, relayed(relay{port: 9}))
	h := w.call(newBrowser(t, form{codecs: []string{"PCMU"}}), audio.PCMU)
	wait(t, "its checks are seen", func() bool { return w.door.Counters().Unproved.Load() > 3 })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := h.Connect(ctx, capture.Ends{Listener: newEar()}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a browser that did not come through the relay: %v", err)
	}
}

// The server itself is asked: an expired name, a wrong password and a good one.
func TestTURNPasswordsEnd(t *testing.T) {
	t.Parallel()
	r := startRelay(t)
	w := newWorld(t, relayed(r), func(c *door.Config) { c.TURN[0].Seconds = 2 })
	person := yesline.NewPersonID()
	good := w.door.Servers(person)[0]
	if !regexp.MustCompile(`^\d{10}:[0-9a-f]{16}$`).MatchString(good.Username) {
		t.Errorf("the name is %q", good.Username)
	}
	other := w.door.Servers(yesline.NewPersonID())[0]
	if strings.Split(other.Username, ":")[1] == strings.Split(good.Username, ":")[1] {
		t.Error("two people have one label")
	}
	gathers := func(name, password string) bool {
		offer := newBrowser(t, form{codecs: []string{"PCMU"}, relay: true, servers: []webrtc.ICEServer{{URLs: good.URLs, Username: name, Credential: password}}}).offer(false)
		return strings.Contains(offer, "typ relay")
	}
	if !gathers(good.Username, good.Credential) {
		t.Error("coturn does not take our password")
	}
	if gathers(good.Username, other.Credential+"x") {
		t.Error("coturn takes another password")
	}
	time.Sleep(3100 * time.Millisecond)
	if gathers(good.Username, good.Credential) {
		t.Error("coturn takes a password that ended")
	}
}

func TestConfigsThatCannotWork(t *testing.T) {
	t.Parallel()
	at := netip.MustParseAddrPort
	secret := yesline.NewSecret([]byte("0123456789abcdef"))
	for name, c := range map[string]door.Config{
		"no port":                     {},
		"loopback, and not a demo":    {UDP: at("127.0.0.1:0")},
		"everywhere, and no address":  {UDP: at("0.0.0.0:3479")},
		"a public address of nowhere": {UDP: at("0.0.0.0:3479"), Public: []netip.Addr{netip.MustParseAddr("224.0.0.1")}},
		"relay only without a relay":  {UDP: at("192.0.2.9:3479"), RelayOnly: true},
		"a relay without a secret":    {UDP: at("192.0.2.9:3479"), TURN: []door.TURN{{URLs: []string{"turn:x:1"}}}},
		"a relay that is none":        {UDP: at("192.0.2.9:3479"), TURN: []door.TURN{{URLs: []string{"https://x"}, Secret: secret}}},
	} {
		if _, err := door.New(c, nil); !errors.Is(err, yesline.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := door.New(door.Config{UDP: at("0.0.0.0:3479"), Public: []netip.Addr{netip.MustParseAddr("192.0.2.9")}}, nil); err != nil {
		t.Errorf("a door behind a mapped address: %v", err)
	}
}
