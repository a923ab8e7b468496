package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"yesline/internal/app"
	"yesline/internal/phone"
)

const tested = "+12025550177"

// aTrunk is a carrier of ours, and the configuration of a house that has it.
func aTrunk(t *testing.T, c phone.Config) (*house, *phone.Phone) {
	t.Helper()
	c.Listen = "127.0.0.1:0"
	carrier, err := phone.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(carrier.Close)
	return newHouse(t, carrier.Address()), carrier
}

// heardPrompt waits until a phone heard the end of what is said.
func heardPrompt(t *testing.T, call *phone.Call, name string) {
	t.Helper()
	data, err := os.ReadFile("../../internal/capture/prompts/" + name + ".ul")
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.TrimRight(data, "\xff\x7e\xfe\x7f")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := call.HeardUntil(ctx, func(heard []byte) bool { return bytes.Contains(heard, data[len(data)-4000:]) }); err != nil {
		t.Errorf("waiting to hear %s: %v; %s", name, err, call.Ended())
	}
}

func speech(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile("../../internal/capture/prompts/notice.ul")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The whole of it: somebody picks up, agrees, speaks and hears themselves; and
// nothing is left of it in the house's folder.
func TestTheTrunkIsTried(t *testing.T) {
	t.Parallel()
	h, carrier := aTrunk(t, phone.Config{})
	said := speech(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		call, err := carrier.Answer(t.Context())
		if err != nil {
			t.Error(err)
			return
		}
		heardPrompt(t, call, "trunk_test_hello")
		time.Sleep(700 * time.Millisecond)
		call.Press(t.Context(), "1")
		heardPrompt(t, call, "trunk_test_speak")
		time.Sleep(time.Second)
		call.Say(said)
		heardPrompt(t, call, "trunk_test_back")
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		if err := call.HeardUntil(ctx, func(heard []byte) bool { return bytes.Contains(heard, said[8000:16000]) }); err != nil {
			t.Errorf("hearing oneself: %v", err)
		}
		<-call.Done()
	}()
	r := testTrunk(t, h, tested)
	<-done
	r.wants(t, 0, "The trunk works", "RFC 4733", "PCMU")
	t.Log(r.out, r.errs)
	if _, err := os.Stat(h.cfg.Data); !os.IsNotExist(err) {
		t.Errorf("the test left something in the house's folder: %v", err)
	}
}

// testTrunk runs the command for longer than others are run for.
func testTrunk(t *testing.T, h *house, number string, more ...string) ran {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := process(ctx, append([]string{"trunk", "test", "-c", h.file, number}, more...)...)
	c.Dir = t.TempDir()
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	c.Run()
	r := ran{c.ProcessState.ExitCode(), out.String(), errs.String()}
	r.keeps(t, number, number[1:])
	return r
}

// onTrunk is a house whose trunk is at an address, with more lines for [trunk].
func onTrunk(t *testing.T, address string, more ...string) *house {
	t.Helper()
	h := newHouse(t, address)
	text, err := os.ReadFile(h.file)
	if err != nil {
		t.Fatal(err)
	}
	h.write(string(text) + strings.Join(more, "\n") + "\n")
	return h
}

// refuses answers every call with a status; the words and headers hold what
// must not be repeated.
func refuses(code int, more ...string) func(*laboratory, *asked) {
	return func(l *laboratory, a *asked) { l.answer(a, code, "No Way to "+tested, "", more...) }
}

const challenge = `WWW-Authenticate: Digest realm="lab", nonce="abcdef", algorithm=MD5`

func TestTrunksThatRefuse(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("hunter22hunter22"), 0o600); err != nil {
		t.Fatal(err)
	}
	account := []string{`user = "yes-42"`, fmt.Sprintf("secret_file = %q", secret)}
	for name, c := range map[string]struct {
		script func(*laboratory, *asked)
		config []string
		rings  int
		want   []string
	}{
		"forbidden":        {refuses(403), nil, 1, []string{"forbids the call (403", "No Way to”", "The trunk does not place our call."}},
		"no such number":   {refuses(404, `Warning: 399 lab "no route for `+tested+` here"`), nil, 1, []string{"knows no such number (404, “no route for here”)"}},
		"no route":         {refuses(404, "Reason: Q.850;cause=3"), nil, 1, []string{"the telephone network's cause is 3, there is no route there"}},
		"full":             {refuses(503, "Retry-After: 120"), nil, 1, []string{"takes no call now", "to try again in 2m0s"}},
		"no codec":         {refuses(488), nil, 1, []string{"we have no sound in common (488", "trunk.srtp"}},
		"busy":             {refuses(486), nil, 1, []string{"the phone is busy (486", "The trunk takes our calls; nobody picked up"}},
		"not reachable":    {refuses(480), nil, 1, []string{"cannot be reached now (480", "The trunk takes our calls"}},
		"declined by them": {refuses(603), nil, 1, []string{"was declined (603", "The trunk takes our calls"}},
		"timed out":        {refuses(408), nil, 1, []string{"no answer from the phone in time (408"}},
		"what nobody says": {refuses(466), nil, 1, []string{"refuses the call (466"}},
		"a password, and we have none": {refuses(407, strings.Replace(challenge, "WWW", "Proxy", 1)), nil, 1,
			[]string{"asks for a password, and none is configured (407"}},
		"a wrong password":   {refuses(401, challenge), account, 2, []string{"refuses our user or password (401"}},
		"a strange password": {refuses(401, strings.Replace(challenge, "MD5", "ROT13", 1)), account, 1, []string{"in a way that we do not know (401"}},
		"a wrong password to register": {func(l *laboratory, a *asked) {
			if a.header("Authorization") == "" {
				l.answer(a, 401, "Unauthorized", "", challenge)
				return
			}
			l.answer(a, 403, "Forbidden", "")
		}, append(account, "register = true"), 0, []string{"registration: is refused (403)", "The trunk does not take our registration, so nobody was called."}},
		"the same for ever": {refuses(401, challenge), append(account, "register = true"), 0, []string{"refuses our user or password", "nobody was called"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t, c.script)
			r := testTrunk(t, onTrunk(t, l.address(), c.config...), tested)
			r.wants(t, exitProblems, c.want...)
			r.keeps(t, "hunter22", "2025550177")
			if l.mu.Lock(); l.rang != c.rings {
				t.Errorf("the trunk was called %d times, want %d", l.rang, c.rings)
			}
			l.mu.Unlock()
		})
	}
}

// answers picks up with sound of a kind, does what is asked of it, and hangs up.
func answers(kind int, then func(l *laboratory, a *asked), more ...string) func(*laboratory, *asked) {
	return func(l *laboratory, a *asked) {
		switch a.method {
		case "REGISTER":
			l.answer(a, 200, "OK", "", "Expires: 600")
		case "INVITE":
			l.answer(a, 100, "Trying", "")
			l.answer(a, 183, "Session Progress", l.description(kind))
			time.Sleep(100 * time.Millisecond)
			l.answer(a, 200, "OK", l.description(kind), more...)
			l.owned.Go(func() {
				if then != nil {
					then(l, a)
				}
				time.Sleep(2 * time.Second)
				l.asks(a, "BYE", 900, "", "Reason: Q.850;cause=41")
			})
		default:
			l.answer(a, 200, "OK", "")
		}
	}
}

func TestTrunksWhoseSoundIsIll(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script func(*laboratory, *asked)
		want   []string
	}{
		"no sound at all": {answers(0, nil), []string{"sound: does not come in: not one packet", "30000 to 39999", "One way: we hear nothing of the called phone."}},
		"from elsewhere": {answers(0, func(l *laboratory, a *asked) {
			other, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)})
			if err != nil {
				l.t.Error(err)
				return
			}
			l.t.Cleanup(func() { other.Close() })
			l.speaks(other, named(l.t, a.text), 0)
		}), []string{"comes from an address that the trunk named neither for its sound nor speaks from", "packets were dropped", "One way"}},
		"of another kind": {answers(0, func(l *laboratory, a *asked) { l.speaks(l.sound, named(l.t, a.text), 9) }),
			[]string{"comes in another kind than was agreed", "One way"}},
		"a codec that was not offered": {answers(18, nil), []string{"picked up, but with sound that we do not share", "PCMU or PCMA"}},
		"good, and hung up": {answers(0, func(l *laboratory, a *asked) { l.speaks(l.sound, named(l.t, a.text), 0) }, "Session-Expires: 1800;refresher=uas", "Require: timer"),
			[]string{"early media", "session timer: 30m0s; the trunk shows that the call lives", "PCMU, in clear", "packets of 20 ms came in",
				"the other side hung up (the telephone network's cause is 41, a passing failure)"}},
		"keys by INFO": {answers(0, func(l *laboratory, a *asked) {
			l.speaks(l.sound, named(l.t, a.text), 0)
			time.Sleep(8 * time.Second)
			l.asks(a, "INFO", 800, "Signal=1\r\nDuration=160\r\n", "Content-Type: application/dtmf-relay")
		}), []string{"keys: come by SIP INFO alone, which is never a yes", "The person heard us, and their yes does not come through."}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t, c.script)
			r := testTrunk(t, onTrunk(t, l.address()), tested)
			r.wants(t, exitProblems, c.want...)
		})
	}
}

// A trunk that wants a password for all is given it, and the registration is
// taken back at the end.
func TestTheTrunkThatWantsAPassword(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("hunter22hunter22"), 0o600); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var lives []string
	good := answers(0, func(l *laboratory, a *asked) { l.speaks(l.sound, named(l.t, a.text), 0) })
	l := newLaboratory(t, func(l *laboratory, a *asked) {
		if a.method == "REGISTER" {
			mu.Lock()
			lives = append(lives, a.header("Expires"))
			mu.Unlock()
		}
		if a.header("Authorization") == "" {
			l.answer(a, 401, "Unauthorized", "", challenge)
			return
		}
		good(l, a)
	})
	r := testTrunk(t, onTrunk(t, l.address(), `user = "yes-42"`, fmt.Sprintf("secret_file = %q", secret), "register = true"), tested)
	r.wants(t, exitProblems, "registration: taken, for 10m0s", "rung and picked up, after our password was asked for", "The trunk's answers: 401, 100, 183, 200.")
	r.keeps(t, "hunter22", "yes-42")
	mu.Lock()
	defer mu.Unlock()
	if len(lives) < 3 || lives[0] != "600" || lives[len(lives)-1] != "0" {
		t.Errorf("it registers for %v seconds, want 600 at first and 0 at last", lives)
	}
}

// What is never called is not tried either, and nobody is asked for it.
func TestNumbersThatAreNotTested(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, refuses(500))
	h := onTrunk(t, l.address())
	for number, want := range map[string]string{
		"911": "is an emergency number: these are never tested", "1-1-2": "emergency number", "+19005550123": "may not be called (premium): numbers that charge extra",
		"+442079460123": "may not be called (country): calls to", "+8816312345678": "may not be called (satellite)", "hello": "is not a telephone number",
	} {
		r := testTrunk(t, h, number)
		r.wants(t, exitProblems, want, "nothing was tried")
	}
	if l.mu.Lock(); l.rang > 0 {
		t.Errorf("%d of them were called", l.rang)
	}
	l.mu.Unlock()
}

func TestTrunksThatAreNotThere(t *testing.T) {
	t.Parallel()
	closed := newLaboratory(t, nil)
	at := closed.address()
	closed.signal.Close()
	testTrunk(t, onTrunk(t, at), tested).wants(t, exitProblems, "connection: is refused: nothing listens at that address and port")
	testTrunk(t, onTrunk(t, at, `transport = "tcp"`), tested).wants(t, exitProblems, "connection: is refused")
	testTrunk(t, onTrunk(t, "nobody.invalid:5061", `transport = "tls"`, `srtp = "sdes"`), tested).wants(t, exitProblems, "finds no address for the name")
	testTrunk(t, newHouse(t, ""), tested).wants(t, exitFailed, "no trunk is configured (trunk.address)")
}

// A trunk that others pretend to be is not called.
func TestTrunksThatProveNothing(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	at := s.Listener.Addr().String()
	testTrunk(t, onTrunk(t, at, `transport = "tls"`), tested).wants(t, exitProblems, "tls: nobody we trust signed the certificate", "trunk.ca")
	testTrunk(t, onTrunk(t, at, `transport = "tls"`, fmt.Sprintf("ca = %q", ca), `name = "sip.carrier.example"`), tested).wants(t, exitProblems, "tls: the certificate is for another name")
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	testTrunk(t, onTrunk(t, plain.Listener.Addr().String(), `transport = "tls"`), tested).wants(t, exitProblems, "does not speak TLS")
}

// Who says no hears no more of it, and the trunk works; a machine can read that.
func TestSomebodyDeclines(t *testing.T) {
	t.Parallel()
	h, carrier := aTrunk(t, phone.Config{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		call, err := carrier.Answer(t.Context())
		if err != nil {
			t.Error(err)
			return
		}
		time.Sleep(500 * time.Millisecond)
		call.Press(t.Context(), "2")
		<-call.Done()
	}()
	r := testTrunk(t, h, tested, "--json")
	<-done
	var tried app.TrunkTest
	if err := json.Unmarshal([]byte(r.out), &tried); err != nil || r.code != 0 || r.errs != "" {
		t.Fatalf("%d, %v: %s%s", r.code, err, r.out, r.errs)
	}
	if tried.Version != 1 || tried.Verdict != app.TrunkDeclined || tried.Sound == nil || tried.Sound.RecordedMilli != 0 || len(tried.Answers) != 2 {
		t.Errorf("got %+v", tried)
	}
}

// A trunk is tested beside the server that uses it, on another port and without
// touching its registration.
func TestTheTrunkOfARunningServer(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("hunter22hunter22"), 0o600); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	registers := 0
	l := newLaboratory(t, func(l *laboratory, a *asked) {
		if a.method == "REGISTER" {
			mu.Lock()
			registers++
			mu.Unlock()
			l.answer(a, 200, "OK", "", "Expires: 600")
			return
		}
		l.answer(a, 486, "Busy Here", "")
	})
	h := onTrunk(t, l.address(), `user = "yes-42"`, fmt.Sprintf("secret_file = %q", secret), "register = true")
	free, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(h.file)
	if err != nil {
		t.Fatal(err)
	}
	h.write(strings.Replace(string(text), `sip = "127.0.0.1:0"`, fmt.Sprintf("sip = %q", free.LocalAddr()), 1))
	free.Close()
	h.start()
	testTrunk(t, h, tested).wants(t, exitProblems, "a server runs on this configuration", "the phone is busy (486")
	mu.Lock()
	defer mu.Unlock()
	if registers != 1 {
		t.Errorf("%d registrations came, want the server's one", registers)
	}
}
