package app_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/app"
	"yesline/internal/audio"
	"yesline/internal/consent"
	"yesline/internal/playback"
	"yesline/internal/session"
	"yesline/internal/vault"
)

// The benchmarks measure a house in a process of its own, so that what the
// clients cost is not counted. The process is this test binary once more, in
// TestHouseToMeasure.
const measured = "YESLINE_BENCH_HOUSE"

// offer is what the measured house tells those who measure it.
type offer struct {
	URL, Track, Cookie, Ticket string
}

const (
	benchSeconds = 600 // length of the recording that is served
	benchPeople  = 2
	benchAgent   = "bench"
)

// TestHouseToMeasure is no test: it serves until its standard input ends.
func TestHouseToMeasure(t *testing.T) {
	if os.Getenv(measured) == "" {
		t.Skip("it is started by the benchmarks")
	}
	ctx := t.Context()
	cfg := app.Defaults()
	cfg.Data, cfg.HTTP = filepath.Join(t.TempDir(), "data"), "127.0.0.1:0"
	a, err := app.New(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Start(ctx); err != nil {
		t.Fatal(err)
	}
	program, err := a.Programs.First(ctx)
	if err != nil {
		t.Fatal(err)
	}
	o := offer{URL: "http://" + a.PagesAddress()}
	var people []yesline.PersonID
	for i := range benchPeople {
		number, _ := yesline.NewPhone(fmt.Sprintf("+1202555%04d", i))
		person, err := a.People.Meet(ctx, program, number)
		if err != nil {
			t.Fatal(err)
		}
		people = append(people, person)
	}
	o.Track = string(seal(t, a, program, people[0], people[1]))
	token, err := a.Sessions.LinkFor(ctx, program, people[0])
	if err != nil {
		t.Fatal(err)
	}
	var who session.Principal
	if o.Cookie, who, err = a.Sessions.Redeem(ctx, token); err != nil {
		t.Fatal(err)
	}
	permit, err := a.Gate.Ask(ctx, who, access.Listen, access.Object{Kind: "track", ID: o.Track}, nil)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("agent:" + benchAgent)) // as web marks a browser
	if o.Ticket, _, err = a.Tickets.Issue(ctx, permit, playback.Play, hex.EncodeToString(sum[:12])); err != nil {
		t.Fatal(err)
	}
	line, _ := json.Marshal(o)
	fmt.Printf("\nOFFER %s\n", line)
	io.Copy(io.Discard, os.Stdin)
}

// seal records ten minutes as capture does, in one go.
func seal(t *testing.T, a *app.App, program yesline.ProgramID, owner, other yesline.PersonID) yesline.TrackID {
	t.Helper()
	ctx, call := t.Context(), yesline.NewCallID()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(a.Consent.Open(ctx, call, program, []consent.Party{{Person: owner}, {Person: other}}))
	for _, p := range []yesline.PersonID{owner, other} {
		must(a.Consent.Answer(ctx, consent.Answer{Call: call, Person: p, Purpose: consent.Record, Yes: true,
			Evidence: consent.Evidence{Channel: "keypad", AtMillis: time.Now().UnixMilli(), Keys: "1"}}))
	}
	must(a.Keys.MintVoice(ctx, program, owner))
	lease, err := a.Consent.Lease(ctx, call, owner)
	must(err)
	defer lease.Close()
	grant, err := lease.Grant(ctx)
	must(err)
	track := vault.Track{ID: yesline.NewTrackID(), Call: call, Leg: yesline.NewLegID(), Program: program, Person: owner, Codec: audio.PCMU}
	w, err := a.Capture.Sealer.Begin(ctx, grant, track)
	must(err)
	second := &vault.Second{Codec: audio.PCMU, Payload: audio.PCMU.Encode(nil, audio.Tone(300, 1000, 9000))}
	for i := range 100 {
		second.Present[i/8] |= 1 << (i % 8)
	}
	for n := range int64(benchSeconds) {
		if grant, err = lease.Grant(ctx); err != nil {
			t.Fatal(err)
		}
		must(w.Put(grant, n, second))
	}
	must(w.End(ctx))
	for {
		found, err := a.Register.ByID(ctx, []string{string(track.ID)})
		must(err)
		if found[string(track.ID)].Finished {
			return track.ID
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// measuredHouse starts the house and gives its offer and its process.
func measuredHouse(b *testing.B) (offer, int) {
	b.Helper()
	args := []string{"-test.run=^TestHouseToMeasure$", "-test.v"}
	if profile := os.Getenv("YESLINE_BENCH_PROFILE"); profile != "" { // a file for the house's CPU profile
		args = append(args, "-test.cpuprofile="+profile)
	}
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), measured+"=yes", "GOMAXPROCS=2")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "OFFER "); ok {
			var o offer
			if err := json.Unmarshal([]byte(text), &o); err != nil {
				b.Fatal(err)
			}
			go io.Copy(io.Discard, stdout)
			return o, cmd.Process.Pid
		}
	}
	b.Fatal("the house did not open")
	return offer{}, 0
}

// cpuOf is the processor time that a process has used, in steps of 10 ms; 0
// where the system does not say.
func cpuOf(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// A 64 KiB range of a ten-minute recording through session, gate, durable
// entry, checking against the log and decryption, by 16 clients at once.
func BenchmarkRange64KiB(b *testing.B) {
	o, pid := measuredHouse(b)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	const window, clients = 64 << 10, 16
	get := func(n int64, ticket *string) error {
		from := 44 + n*window%(benchSeconds*16000-window)
		r, err := http.NewRequestWithContext(context.Background(), "GET", o.URL+"/tracks/"+o.Track+"/audio", nil)
		if err != nil {
			return err
		}
		r.AddCookie(&http.Cookie{Name: "yesline", Value: o.Cookie})
		r.AddCookie(&http.Cookie{Name: "yesline-ticket", Value: *ticket})
		r.Header.Set("User-Agent", benchAgent)
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+window-1))
		answer, err := client.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		size, err := io.Copy(io.Discard, answer.Body)
		if err == nil && (size != window || answer.StatusCode != http.StatusPartialContent) {
			err = fmt.Errorf("%d bytes with status %d", size, answer.StatusCode)
		}
		for _, slid := range answer.Cookies() {
			*ticket = slid.Value
		}
		return err
	}
	first := o.Ticket
	if err := get(0, &first); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(window)
	before := cpuOf(pid)
	b.ResetTimer()
	var running sync.WaitGroup
	next := make(chan int64, clients)
	waits := make([][]time.Duration, clients)
	for c := range clients {
		running.Go(func() {
			ticket := first
			for n := range next {
				began := time.Now()
				if err := get(n, &ticket); err != nil {
					b.Error(err)
				}
				waits[c] = append(waits[c], time.Since(began))
			}
		})
	}
	for n := range b.N {
		next <- int64(n)
	}
	close(next)
	running.Wait()
	b.StopTimer()
	b.ReportMetric(float64((cpuOf(pid)-before).Microseconds())/float64(b.N), "server-cpu-us/op")
	b.ReportMetric(percentile(waits, 0.99), "p99-ms")
}

func percentile(waits [][]time.Duration, p float64) float64 {
	var all []float64
	for _, w := range waits {
		for _, d := range w {
			all = append(all, float64(d.Microseconds())/1000)
		}
	}
	if len(all) == 0 {
		return 0
	}
	// A selection is enough: count how many are below.
	low, high := 0.0, 0.0
	for _, v := range all {
		high = max(high, v)
	}
	for range 40 {
		middle, below := (low+high)/2, 0
		for _, v := range all {
			if v <= middle {
				below++
			}
		}
		if float64(below) < p*float64(len(all)) {
			low = middle
		} else {
			high = middle
		}
	}
	return high
}

// An empty folder to a house that answers.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		cfg := app.Defaults()
		cfg.Data, cfg.HTTP = filepath.Join(b.TempDir(), "data"), "127.0.0.1:0"
		b.StartTimer()
		a, err := app.New(b.Context(), cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			b.Fatal(err)
		}
		if err := a.Start(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := a.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
