//go:build linux

package app_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/app"
	"yesline/internal/audio"
	"yesline/internal/program"
	"yesline/internal/vault"
)

// The figures of calls, as scripts/bench.sh asks for them: a house in a process
// of its own, telephones and a trunk in this one (bench_load_test.go), and
// rtpengine and the bare system calls beside them in the same run.

// askedFor names what is to be measured: "calls", "setups", "soak".
const askedFor = "YESLINE_BENCH"

// TestFiguresOfCalls is no test: it prints a table.
func TestFiguresOfCalls(t *testing.T) {
	asked := strings.Fields(strings.ReplaceAll(os.Getenv(askedFor), ",", " "))
	if len(asked) == 0 {
		t.Skip("scripts/bench.sh starts it")
	}
	for _, what := range asked {
		switch what {
		case "calls":
			measureCalls(t)
		case "setups":
			measureSetups(t)
		case "soak":
			soak(t)
		default:
			t.Fatalf("%s=%s: calls, setups or soak", askedFor, what)
		}
	}
}

// setting reads a number from the environment.
func setting(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n >= 0 {
		return n
	}
	return otherwise
}

// ---- the house

// ofCalls carries what a house of calls is to be to its process.
const ofCalls = "YESLINE_BENCH_OF_CALLS"

type callHouse struct {
	Trunk        string
	Calls        int    // telephones, and people they may call
	Addresses    int    // of its sound
	Short        bool   // prompts of a fifth of a second
	Certificates string // folder; "" for SIP over UDP and RTP in clear
}

type account struct{ User, Password string }

// called is what the house tells those who call.
type called struct {
	SIP     string
	Secret  bool // SIP goes over TLS there
	Callers []account
	Numbers []string
}

// inside is what only the house can say of itself.
type inside struct {
	Goroutines       int
	Heap             uint64
	GC               uint32
	GCPart           float64 // of the processor since it began
	Calls            int
	Tracks, Finished int
	Whole            int      // tracks with at least the seconds that were asked for
	Seconds          int64    // sealed, of all tracks
	Sample           [2]voice // of the caller and the callee
	Error            string
}

// voice is what was found in a track.
type voice struct {
	Seconds, Packets, Missing, Others int
}

// perProgram keeps below what one program may look up at once.
const perProgram = 100

// TestHouseOfCalls is no test: it is the house's process.
func TestHouseOfCalls(t *testing.T) {
	var want callHouse
	if err := json.Unmarshal([]byte(os.Getenv(ofCalls)), &want); err != nil {
		t.Skip("it is started by the figures of calls")
	}
	ctx := t.Context()
	cfg := app.Defaults()
	cfg.Data, cfg.HTTP, cfg.SIP = filepath.Join(t.TempDir(), "data"), "127.0.0.1:0", "127.0.0.1:0"
	cfg.Trunk = app.Trunk{Address: want.Trunk, CallerID: "+12025550100"}
	cfg.Calls.Most, cfg.Urgent.Carried = want.Calls+100, true
	widen(&cfg)
	for i := range want.Addresses - 1 {
		cfg.Media.MoreIPs = append(cfg.Media.MoreIPs, fmt.Sprintf("127.0.3.%d", i+2))
	}
	if want.Certificates != "" {
		encrypt(&cfg, want.Certificates)
	}
	a, err := app.New(ctx, cfg, slog.New(slog.NewTextHandler(&few{}, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if want.Short {
		a.Capture.Sounds = shortPrompts()
	}
	if err := a.Start(ctx); err != nil {
		t.Fatal(err)
	}
	h := houseOfCalls{t: t, a: a}
	offer := h.furnish(want.Calls)
	say := json.NewEncoder(os.Stdout)
	fmt.Println()
	say.Encode(offer)
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		word, rest, _ := strings.Cut(orders.Text(), " ")
		var is inside
		if err := h.obey(word, rest, &is); err != nil {
			is.Error = err.Error()
		}
		say.Encode(is)
	}
}

// few lets the first lines of a log through.
type few struct{ lines atomic.Int64 }

func (f *few) Write(line []byte) (int, error) {
	switch n := f.lines.Add(1); {
	case n <= 3:
		return os.Stderr.Write(line)
	case n == 4:
		fmt.Fprintln(os.Stderr, "  ... and more that the house has to report")
	}
	return len(line), nil
}

type houseOfCalls struct {
	t       *testing.T
	a       *app.App
	callers []yesline.PersonID
	callees []yesline.PersonID
	in      []yesline.ProgramID
	profile *os.File
}

// furnish makes people who call and people who are called, a hundred of each
// in a program.
func (h *houseOfCalls) furnish(calls int) (o called) {
	ctx := h.t.Context()
	must := func(err error) {
		if err != nil {
			h.t.Fatal(err)
		}
	}
	program, err := h.a.Programs.First(ctx)
	must(err)
	at, over := telephones(h.a)
	o.SIP, o.Secret = at.String(), over
	for i := range calls {
		if i > 0 && i%perProgram == 0 {
			program, err = h.a.Programs.Add(ctx, benchTerms(i/perProgram))
			must(err)
		}
		var both [2]yesline.PersonID
		number := fmt.Sprintf("+1303555%04d", i)
		for side, written := range []string{fmt.Sprintf("+1202555%04d", i), number} {
			phone, err := yesline.NewPhone(written)
			must(err)
			both[side], err = h.a.People.Meet(ctx, program, phone)
			must(err)
		}
		_, user, password, err := h.a.Sessions.AddDevice(ctx, program, both[0], i%4 == 3) // every fourth is an old phone: MD5
		must(err)
		h.callers, h.callees, h.in = append(h.callers, both[0]), append(h.callees, both[1]), append(h.in, program)
		o.Callers = append(o.Callers, account{user, string(password.Bytes())})
		o.Numbers = append(o.Numbers, number)
	}
	return o
}

func (h *houseOfCalls) obey(word, rest string, is *inside) (err error) {
	switch word {
	case "profile":
		if h.profile, err = os.Create(rest); err != nil {
			return err
		}
		return pprof.StartCPUProfile(h.profile)
	case "profiled":
		pprof.StopCPUProfile()
		return h.profile.Close()
	case "heap":
		f, err := os.Create(rest)
		if err != nil {
			return err
		}
		runtime.GC()
		return errors.Join(pprof.WriteHeapProfile(f), f.Close())
	case "how":
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		is.Goroutines, is.Heap, is.GC, is.GCPart, is.Calls = runtime.NumGoroutine(), m.HeapAlloc, m.NumGC, m.GCCPUFraction, h.a.Phones.Calls()
		return nil
	case "tracks":
		least, err := strconv.Atoi(rest)
		if err != nil {
			return err
		}
		return h.a.Register.Each(h.t.Context(), func(r vault.Recorded) error {
			is.Tracks++
			if r.Seconds >= int64(least) {
				is.Whole++
			}
			if r.Finished {
				is.Finished++
			}
			is.Seconds += r.Seconds
			return nil
		})
	case "sample":
		call, err := strconv.Atoi(rest)
		if err != nil {
			return err
		}
		for side, person := range []yesline.PersonID{h.callers[call], h.callees[call]} {
			if is.Sample[side], err = h.listen(h.in[call], person, uint32(2*call+side)); err != nil {
				return err
			}
		}
		return nil
	}
	return errors.New("no such order")
}

// listen opens the newest track of a person, as its owner does, and reads what
// its leg said.
func (h *houseOfCalls) listen(in yesline.ProgramID, person yesline.PersonID, leg uint32) (v voice, err error) {
	ctx := h.t.Context()
	var track vault.Recorded
	if err := h.a.Register.Each(ctx, func(r vault.Recorded) error {
		if r.Person == person && r.CreatedMillis >= track.CreatedMillis {
			track = r
		}
		return nil
	}); err != nil {
		return v, err
	}
	token, err := h.a.Sessions.LinkFor(ctx, in, person)
	if err != nil {
		return v, err
	}
	_, who, err := h.a.Sessions.Redeem(ctx, token)
	if err != nil {
		return v, err
	}
	permit, err := h.a.Gate.Ask(ctx, who, access.Listen, access.Object{Kind: "track", ID: string(track.ID)}, nil)
	if err != nil {
		return v, err
	}
	var last uint32
	var sound []byte // packets may lie across two seconds
	for from := int64(0); from < min(track.Seconds, 600); from += 100 {
		seconds, err := h.a.Opener.Read(ctx, permit, track.ID, from, min(100, track.Seconds-from))
		if err != nil {
			return v, err
		}
		for _, s := range seconds {
			v.Seconds++
			sound = append(sound, s.Payload...)
		}
	}
	counts, others := spoken(sound, leg)
	v.Packets, v.Others = len(counts), others
	for i, c := range counts {
		if i > 0 && c > last+1 {
			v.Missing += int(c - last - 1)
		}
		last = c
	}
	return v, nil
}

// benchTerms are those of one more program.
func benchTerms(n int) program.Terms {
	return program.Terms{Name: fmt.Sprintf("Program %d", n), Country: "US"}
}

// shortPrompts say nothing for a fifth of a second each.
func shortPrompts() fstest.MapFS {
	sound := audio.PCMU.Encode(nil, audio.Tone(500, 200, 3000))
	all := fstest.MapFS{}
	for _, name := range strings.Fields(`notice ask thanks_recording one_side not_recorded stopped busy cannot_connect no_emergency remembered asking_during paused resumed recording_now ring_first`) {
		all[name+".ul"] = &fstest.MapFile{Data: sound}
	}
	return all
}

// ---- from outside

// server is a process that carries calls.
type server struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
	mu    sync.Mutex
	offer called
}

func openHouse(t *testing.T, want callHouse) *server {
	t.Helper()
	text, _ := json.Marshal(want)
	s := &server{cmd: preferred(os.Args[0], "-test.run=^TestHouseOfCalls$", "-test.timeout=0")}
	s.cmd.Env = append(os.Environ(), ofCalls+"="+string(text), askedFor+"=")
	s.cmd.Stderr = os.Stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.in, _ = s.cmd.StdinPipe()
	out, _ := s.cmd.StdoutPipe()
	s.lines = bufio.NewScanner(out)
	s.lines.Buffer(nil, 8<<20)
	runtime.LockOSThread() // whose death would take the house along
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	if err := s.next(&s.offer); err != nil {
		t.Fatalf("the house did not open: %v", err)
	}
	return s
}

// preferred is a command that comes before strangers on a busy machine, where
// that is allowed: what a packet costs stays the same, but nothing waits.
func preferred(name string, args ...string) *exec.Cmd {
	return exec.Command("nice", append([]string{"-n", "-15", name}, args...)...)
}

// next reads the next line of JSON.
func (s *server) next(to any) error {
	for s.lines.Scan() {
		if text := s.lines.Bytes(); len(text) > 0 && text[0] == '{' {
			return json.Unmarshal(text, to)
		}
	}
	return errors.Join(s.lines.Err(), io.EOF)
}

// tell gives the house an order and takes its answer.
func (s *server) tell(t *testing.T, order string) (is inside) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(s.in, order)
	if err := s.next(&is); err != nil {
		t.Fatalf("the house does not answer: %v", err)
	}
	if is.Error != "" {
		t.Errorf("the house, asked for %q: %s", order, is.Error)
	}
	return is
}

func (s *server) pid() int { return s.cmd.Process.Pid }

func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in == nil {
		return
	}
	s.in.Close()
	s.in = nil
	go func() { // whatever it still says
		for s.lines.Scan() {
		}
	}()
	s.cmd.Wait()
}

// line is all that a load needs to make its calls through the house.
type line struct {
	t        *testing.T
	server   *server
	load     *load
	far      *farEnd
	house    netip.AddrPort
	handsets []*handset
	suite    suite
	mu       sync.Mutex // guards the rest
	standing map[int]*dialing
	heard    map[*leg]netip.AddrPort // where the house hears who is called
}

const handsets = 128

// openLine opens a house with telephones around it, whose signalling goes over
// TLS and whose sound is encrypted where it is to be secret.
func openLine(t *testing.T, calls int, short bool, with suite) *line {
	t.Helper()
	l := &line{t: t, suite: with, standing: map[int]*dialing{}, heard: map[*leg]netip.AddrPort{}}
	var err error
	if l.load, err = newLoad(calls); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.load.close)
	var certain, trusted *tls.Config
	want := callHouse{Calls: calls, Short: short, Addresses: setting("BENCH_ADDRESSES", 32)}
	secret := with.name != ""
	if secret {
		if want.Certificates, certain, trusted, err = certificates(t.TempDir()); err != nil {
			t.Fatal(err)
		}
	}
	if l.far, err = newFarEnd(certain); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.far.close)
	l.far.media, l.far.answered, l.far.ended = l.asked, l.begin, l.end
	want.Trunk = l.far.at
	l.server = openHouse(t, want)
	if secret && !l.server.offer.Secret {
		t.Skip("the house takes no SIP over TLS, and so no keys of SRTP")
	}
	l.house = netip.MustParseAddrPort(l.server.offer.SIP)
	for i := range handsets {
		h, err := newHandset(i, l.house, trusted)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(h.close)
		l.handsets = append(l.handsets, h)
	}
	return l
}

// callee is the leg of a number; nil of another's.
func (l *line) callee(number string) *leg {
	n, err := strconv.Atoi(number[max(0, len(number)-4):])
	if err != nil || number == urgent || 2*n+1 >= len(l.load.legs) {
		return nil
	}
	return l.load.legs[2*n+1]
}

// asked is how the far end answers an offer.
func (l *line) asked(number string, offer sipText) string {
	g := l.callee(number)
	if g == nil && number == urgent {
		return describe(l.load.legs[1].addr, "")
	}
	house, err := offer.sound()
	if g == nil || err != nil {
		return ""
	}
	crypto := ""
	if l.suite.name != "" {
		theirs, tag := offer.key(l.suite)
		ours, written := l.suite.newKey(tag)
		if theirs == nil || l.load.protect(g, l.suite.profile, ours, theirs) != nil {
			return ""
		}
		crypto = written
	}
	l.mu.Lock()
	l.heard[g] = house
	l.mu.Unlock()
	return describe(g.addr, crypto)
}

func (l *line) begin(number string) {
	if g := l.callee(number); g != nil {
		l.mu.Lock()
		house := l.heard[g]
		l.mu.Unlock()
		l.load.talk(g, house)
	}
}

func (l *line) end(number string) {
	if g := l.callee(number); g != nil {
		l.load.hush(g)
	}
}

const urgent = "911"

// up makes call i.
func (l *line) up(ctx context.Context, i int) error {
	g, crypto := l.load.legs[2*i], ""
	var ours []byte
	if l.suite.name != "" {
		ours, crypto = l.suite.newKey("1")
	}
	d, yes, err := l.handsets[i%handsets].dial(ctx, l.house, l.server.offer.Callers[i], l.server.offer.Numbers[i], describe(g.addr, crypto))
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.standing[i] = d
	l.mu.Unlock()
	if l.suite.name != "" {
		theirs, _ := yes.key(l.suite)
		if theirs == nil {
			return errors.New("the house does not encrypt")
		}
		if err := l.load.protect(g, l.suite.profile, ours, theirs); err != nil {
			return err
		}
	}
	to, err := yes.sound()
	if err == nil {
		l.load.talk(g, to)
	}
	return err
}

// down ends it.
func (l *line) down(ctx context.Context, i int) error {
	l.mu.Lock()
	d := l.standing[i]
	delete(l.standing, i)
	l.mu.Unlock()
	if d == nil {
		return nil
	}
	l.load.hush(l.load.legs[2*i])
	return d.hangUp(ctx)
}

func (l *line) pid() int { return l.server.pid() }

// carrier is what is measured: the house, or a peer.
type carrier interface {
	up(ctx context.Context, call int) error
	down(ctx context.Context, call int) error
	pid() int
}

// figures are one row of the table.
type figures struct {
	name            string
	calls           int
	count           count
	cpu             time.Duration // of the carrier in the window
	mine, strangers time.Duration // of the generator, and of everybody else
	span            time.Duration
	late            time.Duration // of the generator's own pace
	memory, files   float64       // KiB and files a call
	failed          int
	raising         time.Duration // processor time to set all calls up
	bufferDrops     int64         // packets that the system dropped for want of room
	stolen          time.Duration // by the machine's host
}

// perPacket is the processor time of a packet that came in and went out.
func (f figures) perPacket() float64 {
	return float64(f.cpu.Nanoseconds()) / 1000 / float64(max(1, f.count.Heard))
}

// perCore is how many calls a core carries: one is a hundred packets a second.
func (f figures) perCore() float64 { return 1e4 / max(0.01, f.perPacket()) }

// believable reports whether the load was what it should have been.
func (f figures) believable() bool {
	return f.late < 50*time.Millisecond && f.count.Legs == 2*f.calls && float64(f.count.Heard) > 0.98*float64(2*f.calls)*50*f.span.Seconds()
}

// measure sets calls up, counts for a span, and leaves them standing.
func measure(t *testing.T, name string, c carrier, l *load, calls int, span time.Duration, around func(begin bool)) figures {
	t.Helper()
	f := figures{name: name, calls: calls}
	before, filesBefore, cpuBefore := memoryOf(c.pid()), filesOf(c.pid()), cpuOf(c.pid())
	f.failed = raise(t, c, calls, setting("BENCH_RAMP", 40))
	until := time.Now().Add(time.Minute)
	for l.bridged() < calls-f.failed && time.Now().Before(until) {
		time.Sleep(200 * time.Millisecond)
	}
	f.failed = calls - l.bridged()
	time.Sleep(2 * time.Second)
	f.raising = cpuOf(c.pid()) - cpuBefore
	waitForQuiet(c.pid(), time.Duration(setting("BENCH_QUIET", 0))*time.Second)
	if around != nil {
		around(true)
	}
	l.do(func() { l.Late = 0 })
	drops, gone := bufferDrops(), stolen()
	l.open()
	cpu, mine, all, began := cpuOf(c.pid()), cpuOf(os.Getpid()), busy(), time.Now()
	time.Sleep(span)
	f.cpu, f.mine, f.strangers, f.span = cpuOf(c.pid())-cpu, cpuOf(os.Getpid())-mine, busy()-all, time.Since(began)
	l.shut()
	f.strangers = max(0, f.strangers-f.cpu-f.mine)
	if around != nil {
		around(false)
	}
	time.Sleep(time.Second)
	f.count, f.late = l.result(), l.Late
	f.bufferDrops, f.stolen = bufferDrops()-drops, stolen()-gone
	f.memory = float64(memoryOf(c.pid())-before) / float64(calls)
	f.files = float64(filesOf(c.pid())-filesBefore) / float64(calls)
	return f
}

// waitForQuiet waits, so long at most, until strangers take less than a tenth
// of a core.
func waitForQuiet(pid int, patience time.Duration) {
	for until := time.Now().Add(patience); time.Now().Before(until); {
		own, all := cpuOf(pid)+cpuOf(os.Getpid()), busy()
		time.Sleep(2 * time.Second)
		if busy()-all-(cpuOf(pid)+cpuOf(os.Getpid())-own) < 200*time.Millisecond {
			return
		}
	}
}

// raise sets so many calls up, so many a second, and tells how many failed.
func raise(t *testing.T, c carrier, calls, perSecond int) (failed int) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	var first error
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for i := range calls {
		<-tick.C
		all.Go(func() {
			if err := c.up(ctx, i); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed++
				first = errors.Join(first, err)
				if failed > 3 {
					first = errors.New("more than three failed, among them: " + err.Error())
				}
			}
		})
	}
	all.Wait()
	if failed > 0 {
		t.Errorf("%d of %d calls were not set up: %v", failed, calls, first)
	}
	return failed
}

// fall ends so many calls.
func fall(t *testing.T, c carrier, calls int) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all sync.WaitGroup
	for i := range calls {
		time.Sleep(time.Millisecond)
		all.Go(func() {
			if err := c.down(ctx, i); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	all.Wait()
}

// best is what counts for a comparison.
func (f figures) best() float64 {
	if !f.believable() {
		return 0
	}
	return f.perCore()
}

const header = "%-26s %6s %8s %7s %7s %9s %6s %6s %6s %8s %6s %6s %6s  %s\n"

func title() {
	fmt.Printf("\n"+header, "what", "calls", "a core", "us/pkt", "lost", "lost %", "p50ms", "p99ms", "worst", "KiB/call", "files", "load", "others", "and")
}

func (f figures) print(bar string) {
	and := bar
	if !f.believable() {
		and = "NOT TO BE BELIEVED, the machine was too busy; " + and
	}
	if f.failed > 0 {
		and += fmt.Sprintf("; %d CALLS NOT BRIDGED", f.failed)
	}
	if f.count.Alien > 0 {
		and += fmt.Sprintf("; %d PACKETS OF ANOTHER CALL", f.count.Alien)
	}
	if f.late > 10*time.Millisecond {
		and += fmt.Sprintf("; the load was up to %d ms late", f.late.Milliseconds())
	}
	if f.bufferDrops > 0 {
		and += fmt.Sprintf("; %d dropped by full buffers", f.bufferDrops)
	}
	if f.stolen > f.span/50 {
		and += fmt.Sprintf("; the host took %.2f cores", float64(f.stolen)/float64(f.span))
	}
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Microseconds())/1000) }
	cores := func(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/float64(f.span)) }
	fmt.Printf(header, f.name, fmt.Sprint(f.count.Legs/2), fmt.Sprintf("%.0f", f.perCore()), fmt.Sprintf("%.2f", f.perPacket()),
		fmt.Sprint(f.count.Lost), fmt.Sprintf("%.4f", 100*float64(f.count.Lost)/float64(max(1, f.count.Sent))),
		ms(f.count.Median), ms(f.count.P99), ms(f.count.Worst), fmt.Sprintf("%.0f", f.memory), fmt.Sprintf("%.1f", f.files),
		cores(f.mine), cores(f.strangers), and)
}

// measureCalls prints the table of bridged calls beside its peers.
func measureCalls(t *testing.T) {
	span := time.Duration(setting("BENCH_SECONDS", 10)) * time.Second
	sizes := strings.Fields(os.Getenv("BENCH_CALLS"))
	if len(sizes) == 0 {
		sizes = strings.Fields("200 400 800")
	}
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Printf("load of the machine: %s", load)
	title()
	floor := socketFloor()
	fmt.Printf(header, "sendto + recvfrom alone", "", fmt.Sprintf("%.0f", 1e4/floor), fmt.Sprintf("%.2f", floor), "", "", "", "", "", "", "", "", "", "the limit of one call at a time")
	var ours, secret, theirs float64
	for _, size := range sizes {
		n, err := strconv.Atoi(size)
		if err != nil || n < 1 || n > 5000 {
			t.Fatalf("BENCH_CALLS: %q", size)
		}
		if os.Getenv("BENCH_PEERS") != "no" {
			if f, ok := measureRTPEngine(t, n, span); ok {
				f.print("recording pcap in clear")
				theirs = max(theirs, f.best())
			}
		}
		if f, ok := measureYesline(t, n, span, suite{}); ok {
			f.print("bar: 1250 a core, none lost, 100 KiB")
			ours = max(ours, f.best())
		}
		if os.Getenv("BENCH_SRTP") == "no" {
			continue
		}
		for _, s := range suites {
			if f, ok := measureYesline(t, n, span, s); ok {
				f.print(s.name + " on both legs; bar: 1100 a core")
				secret = max(secret, f.best())
			}
		}
	}
	if secret > 0 && ours > 0 {
		fmt.Printf("yesline with SRTP / without: %.2f\n", secret/ours)
	}
	if theirs > 0 && ours > 0 {
		fmt.Printf("yesline at its best / rtpengine at its best: %.2f (bar: 1.20)\n", ours/theirs)
	}
}

func measureYesline(t *testing.T, calls int, span time.Duration, with suite) (f figures, ok bool) {
	name := strings.TrimSuffix("yesline "+with.name, " ")
	t.Run(fmt.Sprintf("%s %d", name, calls), func(t *testing.T) {
		l := openLine(t, calls, false, with)
		profile := os.Getenv("YESLINE_BENCH_PROFILE")
		if profile != "" && with.name != "" {
			profile += "." + with.name
		}
		f = measure(t, name, l, l.load, calls, span, func(begin bool) {
			switch {
			case profile != "" && begin:
				l.server.tell(t, fmt.Sprintf("profile %s.%d", profile, calls))
			case profile != "":
				l.server.tell(t, "profiled")
				l.server.tell(t, fmt.Sprintf("heap %s.%d.heap", profile, calls))
			}
		})
		how, bridged := l.server.tell(t, "how"), l.load.bridged()
		before := cpuOf(l.pid())
		fall(t, l, calls)
		is := l.settled(2*bridged, span)
		closing := cpuOf(l.pid()) - before
		fmt.Printf("  %d goroutines, heap %d MiB, GC %.1f %% of the processor; %.1f ms of it to set a call up (prompts too), %.1f to end one; %d of %d tracks finished, %d hold all of the time, %d s sealed\n",
			how.Goroutines, how.Heap>>20, 100*how.GCPart, perCall(f.raising, calls), perCall(closing, calls), is.Finished, 2*bridged, is.Whole, is.Seconds)
		if is.Finished != 2*bridged || is.Whole != 2*bridged {
			t.Errorf("%d of %d tracks were finished, and %d hold all of the time", is.Finished, 2*bridged, is.Whole)
		}
		call := calls / 2
		for side, v := range l.server.tell(t, fmt.Sprintf("sample %d", call)).Sample {
			fmt.Printf("  call %d, %s: %d s sealed, %d packets whole and in order, %d missing, %d of somebody else\n",
				call, [2]string{"caller", "callee"}[side], v.Seconds, v.Packets, v.Missing, v.Others)
			if v.Packets == 0 || v.Others > 0 {
				t.Errorf("a sealed track holds %+v", v)
			}
		}
		ok = true
	})
	return f, ok
}

// settled waits until so many tracks are finished, and counts those that are
// at least so long.
func (l *line) settled(tracks int, long time.Duration) (is inside) {
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(500 * time.Millisecond) {
		if is = l.server.tell(l.t, fmt.Sprintf("tracks %d", int(long.Seconds()))); is.Finished >= tracks {
			break
		}
	}
	return is
}

func perCall(d time.Duration, calls int) float64 {
	return float64(d.Microseconds()) / 1000 / float64(max(1, calls))
}

// ---- what the machine says

// busy is the processor time that the whole machine has used.
func busy() (d time.Duration) {
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	for i, f := range strings.Fields(line) {
		if n, err := strconv.Atoi(f); err == nil && i != 4 && i != 5 && i < 8 { // not idle, not waiting for disks, not what its host took
			d += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return d
}

// stolen is the processor time that the machine's host gave to others.
func stolen() time.Duration {
	text, _ := os.ReadFile("/proc/stat")
	if f := strings.Fields(strings.SplitN(string(text), "\n", 2)[0]); len(f) > 8 {
		n, _ := strconv.Atoi(f[8])
		return time.Duration(n) * 10 * time.Millisecond
	}
	return 0
}

// memoryOf is what a process holds of the memory, in KiB.
func memoryOf(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(fields[0])
	return n
}

func filesOf(pid int) int {
	all, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(all)
}

// bufferDrops is how many datagrams the system dropped because a socket's
// buffer was full.
func bufferDrops() int64 {
	text, _ := os.ReadFile("/proc/net/snmp")
	var names []string
	for _, line := range strings.Split(string(text), "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "Udp:" {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		for i, name := range names {
			if name == "RcvbufErrors" {
				n, _ := strconv.ParseInt(f[i], 10, 64)
				return n
			}
		}
	}
	return 0
}
