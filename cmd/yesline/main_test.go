package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"yesline"
	"yesline/internal/app"
	"yesline/internal/program"
)

// asCommand makes the test binary the command itself, so that a test runs the
// real thing as a process of its own, built once and with the race detector
// where the tests have it.
const asCommand = "YESLINE_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func process(ctx context.Context, args ...string) *exec.Cmd {
	// The command runs with the most careless of masks: what it makes is closed
	// to others because it says so.
	c := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", `umask 0; exec "$0" "$@"`, os.Args[0]}, args...)...)
	c.Env = []string{asCommand + "=1", "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}
	return c
}

// ran is what came of a command.
type ran struct {
	code      int
	out, errs string
}

func run(t *testing.T, args ...string) ran {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c := process(ctx, args...)
	c.Dir = t.TempDir()
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return ran{c.ProcessState.ExitCode(), out.String(), errs.String()}
}

// wants checks the exit code and a part of what was said.
func (r ran) wants(t *testing.T, code int, words ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("it exits %d, want %d; it says: %s%s", r.code, code, r.out, r.errs)
	}
	for _, w := range words {
		if !strings.Contains(r.out+r.errs, w) {
			t.Errorf("it does not say %q but: %s%s", w, r.out, r.errs)
		}
	}
}

// keeps checks that what was typed is not said again.
func (r ran) keeps(t *testing.T, secrets ...string) {
	t.Helper()
	for _, s := range secrets {
		if strings.Contains(r.out+r.errs, s) {
			t.Errorf("it repeats %q: %s%s", s, r.out, r.errs)
		}
	}
}

// house is a folder with a configuration file, and the server on it.
type house struct {
	t      *testing.T
	cfg    app.Config
	file   string // the configuration
	server *exec.Cmd
	sip    string // where the server's telephones are

	ended chan struct{} // closed when it said its last

	mu    sync.Mutex // guards lines
	lines []string   // what the server said
}

// newHouse configures a house on loopback. trunk may be "".
func newHouse(t *testing.T, trunk string) *house {
	t.Helper()
	h := &house{t: t, cfg: app.Defaults(), file: filepath.Join(t.TempDir(), "yesline.toml")}
	h.cfg.Data = filepath.Join(filepath.Dir(h.file), "data")
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free now
	if err != nil {
		t.Fatal(err)
	}
	h.cfg.HTTP = l.Addr().String()
	_, port, _ := net.SplitHostPort(h.cfg.HTTP)
	h.cfg.URL = "http://localhost:" + port // passkeys need a name
	l.Close()
	text := fmt.Sprintf("data = %q\nhttp = %q\nurl = %q\nsip = \"127.0.0.1:0\"\n", h.cfg.Data, h.cfg.HTTP, h.cfg.URL)
	text += "[sms]\n" + provider(t)
	if trunk != "" {
		text += fmt.Sprintf("[trunk]\naddress = %q\ncaller_id = \"+12025550100\"\n", trunk)
	}
	h.write(text)
	return h
}

// provider is an SMS provider that takes everything, as lines of a
// configuration. What it got is nobody's.
func provider(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	t.Cleanup(s.Close)
	secret := filepath.Join(t.TempDir(), "sms.secret")
	if err := os.WriteFile(secret, []byte("a secret of thirty-two letters.."), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("url = %q\nsecret_file = %q\n", s.URL, secret)
}

func (h *house) write(text string) {
	h.t.Helper()
	if err := os.WriteFile(h.file, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// member gives a house that is not running yet somebody with an account: a path
// that signs in once, and a SIP phone.
func (h *house) member(t *testing.T, number string) (link, user, password string) {
	t.Helper()
	ctx := t.Context()
	a, err := app.New(ctx, h.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	n, err := yesline.NewPhone(number)
	if err != nil {
		t.Fatal(err)
	}
	id, err := a.Programs.Add(ctx, program.Terms{Name: "Talk", Country: "US"})
	if err != nil {
		t.Fatal(err)
	}
	person, err := a.People.Meet(ctx, id, n)
	if err != nil {
		t.Fatal(err)
	}
	token, err := a.Sessions.LinkFor(ctx, id, person)
	if err != nil {
		t.Fatal(err)
	}
	_, user, secret, err := a.Sessions.AddDevice(ctx, id, person, false)
	if err != nil {
		t.Fatal(err)
	}
	return "/in/" + token, user, string(secret.Bytes())
}

// start runs the server and returns when it is up.
func (h *house) start() {
	h.t.Helper()
	h.server = process(context.Background(), "serve", "--config", h.file)
	out, err := h.server.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	errs, err := h.server.StderrPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.server.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.lines = nil
	server, ended := h.server, make(chan struct{})
	h.ended = ended
	var reading sync.WaitGroup
	for _, from := range []io.Reader{out, errs} {
		reading.Go(func() { h.read(from) })
	}
	go func() { reading.Wait(); close(ended) }()
	h.t.Cleanup(func() {
		if server.ProcessState == nil {
			server.Process.Kill()
			<-ended
			server.Wait()
		}
		if h.t.Failed() {
			h.t.Logf("the server said:\n%s", strings.Join(h.said(), "\n"))
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		for _, l := range h.said() {
			if rest, ok := strings.CutPrefix(l, "Telephones:"); ok {
				h.sip, _, _ = strings.Cut(strings.TrimSpace(rest), " ")
				return
			}
		}
		select {
		case <-ended:
			h.t.Fatalf("the server ended at once: %s", strings.Join(h.said(), "\n"))
		default:
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("the server is not up: %s", strings.Join(h.said(), "\n"))
		}
	}
}

func (h *house) read(from io.Reader) {
	s := bufio.NewScanner(from)
	for s.Scan() {
		h.mu.Lock()
		h.lines = append(h.lines, s.Text())
		h.mu.Unlock()
	}
}

func (h *house) said() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.lines...)
}

// stop ends the server as a system does and gives its exit code.
func (h *house) stop(with syscall.Signal) int {
	h.t.Helper()
	if err := h.server.Process.Signal(with); err != nil {
		h.t.Fatal(err)
	}
	<-h.ended
	h.server.Wait()
	return h.server.ProcessState.ExitCode()
}

// command runs a command of this house.
func (h *house) command(args ...string) ran {
	h.t.Helper()
	return run(h.t, append(args, "--config", h.file)...)
}

func TestWrongUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args  []string
		words string
	}{
		{[]string{"serve", "extra"}, "usage"},
		{[]string{"serve", "--nope"}, "usage"},
		{[]string{"bogus"}, "usage"},
		{[]string{"+12025550142"}, "usage"},
		{[]string{"audit", "verfy"}, "usage"}, // a check that did not run must not look like one that passed
		{[]string{"audit", "verify", "receipt.json"}, "usage"},
		{[]string{"receipt", "check"}, "usage"},
		{[]string{"invite"}, "usage"},
		{[]string{"invite", "+12025550142", "+12025550143"}, "usage"},
		{[]string{"invite", "--json=+12025550142", "+12025550143"}, "--json"},
		{[]string{"invite", "-12025550142"}, "usage"},
		{[]string{"receipt", "verify", "receipt.json"}, "--key"},
		{[]string{"demo", "--check=hunter22"}, "--check"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			t.Parallel()
			r := run(t, c.args...)
			r.wants(t, exitUsage, c.words)
			r.keeps(t, "2025550142", "2025550143", "hunter22")
		})
	}
	run(t, "--help").wants(t, 0, "serve", "audit")
	run(t).wants(t, 0, "serve", "audit")
	run(t, "version").wants(t, 0, "yesline")
}

func TestWrongConfiguration(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, words string }{
		{`nope = 1`, `no setting called "nope"`},
		{"[trunk]\naddres = \"127.0.0.1:5070\"", `no setting called "trunk.addres"`},
		{"[trunk]\ncaller_id = +12025550142", "trunk.caller_id"},
		{"[trunk]\ncaller_id = 12025550142", "trunk.caller_id"},
		{"[trunk]\ncaller_id = \"+12025550142", "line 2"},
		{"[trunk]\ncaller_id = '+12025550142\n'", "line 2"},
		{`people_db = hunter22`, "people_db"},
		{`people_db = postgres://ann:hunter22@db/people`, "people_db"},
		{`hunter22`, "line 1"},
		{"[media]\nfrom_port = \"hunter22\"", "media.from_port"},
		{"[media]\nfrom_port = 80", "media"},
		{"[media]\nip = \"192.0.2.1\"", "media.ip"},
		{"[media]\nip = \"hunter22\"", "media.ip"},
		{"[calls]\nmost = 0", "calls"},
		{"[calls]\nmax_seconds = 99999", "max_seconds"},
		{`http = "0.0.0.0:8080"`, "http listens beyond this machine"},
		{`sip = "192.0.2.1:5060"`, "sip listens beyond this machine"},
		{`url = "calls.example.org"`, "url"},
		{"[emergency]\ncarried = true", "emergency.carried"},
		{`keys_db = "mysql://ann:hunter22@db/keys"`, "keys database"},
		{`keys_db = "postgres://ann:hunter22@127.0.0.1:1/keys"`, "keys database"},
		{`keys_db = "postgres://ann:hunter 22@127.0.0.1:1/keys"`, "keys database"},
		{"[trunk]\naddress = \"hunter22\"", "trunk.address"},
		{"[trunk]\naddress = \"127.0.0.1:5070\"\ncaller_id = \"2025550142\"", "caller id"},
		{"[trunk]\naddress = \"127.0.0.1:5070\"\ncaller_id = \"+12025550142\"\nsources = [\"hunter22\"]", "trunk.sources"},
		{"[program]\ncountry = \"hunter22\"", "country"},
	} {
		t.Run(strings.ReplaceAll(c.text, "\n", " "), func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, "")
			h.write(c.text + "\n")
			args := []string{"serve", "--config", h.file, "--data", h.cfg.Data}
			if !strings.Contains(c.text, "http =") {
				args = append(args, "--http", "127.0.0.1:0")
			}
			if !strings.Contains(c.text, "sip =") {
				args = append(args, "--sip", "127.0.0.1:0")
			}
			r := run(t, args...)
			r.wants(t, exitFailed, c.words)
			r.keeps(t, "2025550142", "hunter")
		})
	}
	h := newHouse(t, "")
	run(t, "serve", "--config", h.file+".absent").wants(t, exitFailed, "configuration")
	h.write(strings.Repeat("# long\n", 1<<18))
	run(t, "serve", "--config", h.file).wants(t, exitFailed, "1 MiB")
}
