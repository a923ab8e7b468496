package sip_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yesline/internal/capture/sip"
)

// The traps of real phones and carriers, one scenario of SIPp each. The comment
// in each scenario says which.

// sipp starts one and gives what waits for its end, which must be a good one.
func sipp(t *testing.T, scenario string, args ...string) (wait func()) {
	t.Helper()
	tool, err := exec.LookPath("sipp")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("there is no sipp on this machine: apt-get install sip-tester")
		}
		t.Skip("there is no sipp on this machine: apt-get install sip-tester")
	}
	folder := t.TempDir()
	path := must(filepath.Abs("testdata/sipp/" + scenario + ".xml"))(t)
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	cmd := exec.CommandContext(ctx, tool, append([]string{"-sf", path, "-m", "1", "-i", "127.0.0.1", "-mi", "127.0.0.1", "-nostdin",
		"-timeout", "30s", "-timeout_error", "-recv_timeout", "20000", "-max_socket", "100", "-trace_err", "-error_file", folder + "/errors",
		"-trace_msg", "-message_file", folder + "/messages"}, args...)...)
	cmd.Dir = folder
	done := make(chan error, 1)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { done <- cmd.Wait() }()
	t.Cleanup(cancel)
	return func() {
		t.Helper()
		defer cancel()
		if err := <-done; err != nil {
			errors, _ := os.ReadFile(folder + "/errors")
			messages, _ := os.ReadFile(folder + "/messages")
			t.Fatalf("%s: %v\n%s\n%s", scenario, err, errors, messages[max(0, len(messages)-6000):])
		}
	}
}

// freePort is one of UDP that nobody has now.
func freePort(t *testing.T) int {
	t.Helper()
	conn := must(net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}))(t)
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).Port
}

func TestTrapsOfCallers(t *testing.T) {
	t.Parallel()
	for name, reason := range map[string]string{"late_offer": "", "hold": "", "lost_ack": "", "timer": "", "compact": "", "bye_at_once": "", "glare": "",
		"info": "the caller said no", "require": "-", "no_codec": "-", "hundred_streams": "-", "keys_in_clear": "-"} {
		for _, over := range []string{"u1", "t1"} {
			if name == "lost_ack" && over == "t1" {
				continue // SIPp takes no answer twice over TCP
			}
			t.Run(name+" "+over, func(t *testing.T) {
				t.Parallel()
				w := open(t, setup{cfg: func(c *sip.Config) { c.ListenTCP = c.Listen }})
				sipp(t, "caller_"+name, w.door.Address().String(), "-t", over, "-s", bobNumber, "-key", "user", w.annName, "-au", w.annName, "-ap", w.annPass,
					"-auth_uri", bobNumber+"@"+w.door.Address().String())()
				if reason == "-" {
					if got := len(mustCalls(w)); got > 0 {
						t.Errorf("%d calls are written down that could not be", got)
					}
					return
				}
				if row := w.ended(); !strings.Contains(row.Reason, reason) || row.Ending != "the caller hung up" {
					t.Errorf("the row is %+v", row)
				}
			})
		}
	}
}

func TestTrapsOfTrunks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ending string
		ends   bool // the trunk hangs up, or we do by ourselves
	}{
		"many_provisionals": {ending: "the caller hung up"}, "repeated_200": {ending: "the caller hung up"}, "prack": {ending: "the caller hung up"},
		"422": {ending: "the caller hung up"}, "407": {ending: "the caller hung up"}, "reinvite_at_once": {ending: "the caller hung up"},
		"big": {ending: "the caller hung up"}, "cancel_crosses": {ending: "the caller hung up"},
		"bye_in_reinvite": {ending: "the callee hung up", ends: true}, "mute": {ending: "the trunk sent no sound for 3 s", ends: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			port := freePort(t)
			w := open(t, setup{cfg: func(cfg *sip.Config) {
				cfg.Trunk = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))
				cfg.TrunkAccount = account("us", "secret")
				if name == "mute" {
					cfg.MaxSilence = 3 * time.Second
				}
			}})
			wait := sipp(t, "trunk_"+name, "-p", fmt.Sprint(port))
			time.Sleep(300 * time.Millisecond) // until it listens
			ann := w.dial(bobNumber)
			if !c.ends {
				w.hears(ann, "ask")
				time.Sleep(2 * time.Second)
				ok(t, ann.Hangup(w.ctx))
			}
			<-ann.Done()
			wait()
			if row := w.ended(); row.Ending != c.ending {
				t.Errorf("the row is %+v", row)
			}
		})
	}
}

func TestRegistrationBySIPp(t *testing.T) {
	t.Parallel()
	for _, over := range []string{"u1", "t1"} {
		t.Run(over, func(t *testing.T) {
			t.Parallel()
			w := open(t, setup{cfg: func(c *sip.Config) { c.ListenTCP = c.Listen }})
			sipp(t, "register", w.door.Address().String(), "-t", over, "-s", "x", "-key", "user", w.annName, "-au", w.annName, "-ap", w.annPass)()
			if w.door.Registered(w.ann.Person) || w.door.Counters.Registered.Load() != 2 {
				t.Errorf("%d registrations, and a phone is registered: %t", w.door.Counters.Registered.Load(), w.door.Registered(w.ann.Person))
			}
		})
	}
}

func account(user, password string) sip.Account {
	return sip.Account{User: user, Password: secret(password)}
}
