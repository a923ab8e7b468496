package app_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/app"
	"yesline/internal/audio"
	"yesline/internal/audit"
	"yesline/internal/capture"
	"yesline/internal/consent"
	"yesline/internal/phone"
	"yesline/internal/session"
	"yesline/internal/vault"
	"yesline/internal/web/webtest"
)

// TestMain lets more stories run at once than there are processors: they wait
// for sound. With the race detector they do not wait, and who says -parallel is
// heard.
func TestMain(m *testing.M) {
	flag.Parse()
	told := racing
	flag.Visit(func(f *flag.Flag) { told = told || f.Name == "test.parallel" })
	if !told {
		flag.Set("test.parallel", "6")
	}
	os.Exit(m.Run())
}

// home is a house on loopback with a contributor, a contact, and their phones.
type home struct {
	*app.App
	t              *testing.T
	program        yesline.ProgramID
	people         [2]yesline.PersonID // caller, callee
	caller, callee *phone.Phone
}

const calleeNumber = "+12025550102"

// How well two sounds fit: at least, where they are the same, and at most,
// where they are not. On a quiet machine the one is 1.00; on a busy one packets
// come too late and are not kept.
const (
	same    = 0.6
	foreign = 0.25
)

// newHome opens a house in folder. Its prompts are the ends of the real ones,
// so that a call is bridged in seconds.
func newHome(t *testing.T, folder string) *home {
	t.Helper()
	trunk, err := phone.NewTrunk("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(trunk.Close)
	h := &home{t: t}
	h.open(folder, trunk.Address())
	if h.program, err = h.Programs.First(t.Context()); err != nil {
		t.Fatal(err)
	}
	numbers := [2]yesline.Phone{}
	for i, n := range []string{"+12025550101", calleeNumber} {
		numbers[i], _ = yesline.NewPhone(n)
		if h.people[i], err = h.People.Meet(t.Context(), h.program, numbers[i]); err != nil {
			t.Fatal(err)
		}
	}
	_, user, password, err := h.Sessions.AddDevice(t.Context(), h.program, h.people[0], false)
	if err != nil {
		t.Fatal(err)
	}
	h.caller = h.phone(phone.Config{Listen: "127.0.0.1:0", User: user, Password: string(password.Bytes())})
	h.callee = h.phone(phone.Config{Listen: "127.0.0.1:0", User: calleeNumber[1:]})
	trunk.Connect(calleeNumber, h.callee)
	return h
}

// open opens the house and its doors.
func (h *home) open(folder, trunk string) {
	h.t.Helper()
	cfg := app.Defaults()
	cfg.Data, cfg.HTTP, cfg.SIP = folder, "127.0.0.1:0", "127.0.0.1:0"
	cfg.Trunk = app.Trunk{Address: trunk, CallerID: "+12025550100"}
	cfg.Media.MoreIPs = []string{"127.0.0.2", "127.0.0.3"} // both parties share a socket
	a, err := app.New(h.t.Context(), cfg, slog.New(slog.NewTextHandler(testLog{h.t}, nil)))
	if err != nil {
		h.t.Fatal(err)
	}
	h.App = a
	h.t.Cleanup(func() {
		if err := a.Close(); err != nil {
			h.t.Error(err)
		}
	})
	sounds := fstest.MapFS{}
	for _, name := range []string{"notice", "ask", "thanks_recording", "not_recorded", "stopped"} {
		sounds[name+".ul"] = &fstest.MapFile{Data: promptEnd(h.t, name)}
	}
	h.Capture.Sounds = sounds
	if err := h.Start(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

func (h *home) phone(c phone.Config) *phone.Phone {
	h.t.Helper()
	p, err := phone.New(c)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(p.Close)
	return p
}

// promptEnd is the last second of something the house says.
func promptEnd(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("../capture/prompts/" + name + ".ul")
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.TrimRight(data, "\xff\x7e\xfe\x7f")
	return data[len(data)-audio.Rate:]
}

// talk is a call between the two.
type talk struct {
	h    *home
	id   yesline.CallID
	ends [2]*phone.Call
}

// ring has the caller dial the callee; both hear the question and press 1, and
// then they hear each other.
func (h *home) ring() *talk {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 30*time.Second)
	defer cancel()
	k := &talk{h: h}
	failed := make(chan error, 1)
	go func() (err error) {
		defer func() { failed <- err }()
		if k.ends[1], err = h.callee.Answer(ctx); err != nil {
			return err
		}
		return h.yes(ctx, k.ends[1])
	}()
	var err error
	if k.ends[0], err = h.caller.Call(ctx, h.Phones.Address().String(), calleeNumber); err != nil {
		h.t.Fatal(err)
	}
	if err := h.yes(ctx, k.ends[0]); err != nil {
		h.t.Fatal(err)
	}
	if err := <-failed; err != nil {
		h.t.Fatal(err)
	}
	return k
}

// yes hears the question to its end and presses 1.
func (h *home) yes(ctx context.Context, c *phone.Call) error {
	question := promptEnd(h.t, "ask")
	if err := c.HeardUntil(ctx, func(heard []byte) bool { return bytes.Contains(heard, question) }); err != nil {
		return fmt.Errorf("waiting for the question: %w; the call: %s", err, c.Ended())
	}
	time.Sleep(300 * time.Millisecond) // 1 counts after the last word
	return c.Press(ctx, "1")
}

// hear waits until both have heard what the house says to both.
func (k *talk) hear(prompt string) {
	k.h.t.Helper()
	ctx, cancel := context.WithTimeout(k.h.t.Context(), 20*time.Second)
	defer cancel()
	said := promptEnd(k.h.t, prompt)
	for _, end := range k.ends {
		if err := end.HeardUntil(ctx, func(heard []byte) bool { return bytes.Contains(heard, said) }); err != nil {
			k.h.t.Fatalf("waiting to hear %s: %v; the call: %s", prompt, err, end.Ended())
		}
	}
}

// bridged waits until the house says that the two hear each other.
func (k *talk) bridged() {
	k.h.t.Helper()
	until(k.h.t, "the two hear each other", 15*time.Second, func() bool {
		calls, _, err := k.h.Capture.Calls(k.h.t.Context(), k.h.people[0], "", 1)
		if err == nil && len(calls) == 1 && calls[0].State == capture.Bridged {
			k.id = calls[0].ID
			return true
		}
		return false
	})
}

// say has both begin to talk, for 17 seconds.
func (k *talk) say(names ...string) {
	k.h.t.Helper()
	for i, name := range names {
		voice, err := os.ReadFile("../demo/speech/" + name + ".ul")
		if err != nil {
			k.h.t.Fatal(err)
		}
		if err := k.ends[i].Say(voice); err != nil {
			k.h.t.Fatal(err)
		}
	}
}

// hearEachOther listens for two seconds to what both say now.
func (k *talk) hearEachOther() {
	k.h.t.Helper()
	var both sync.WaitGroup
	var problems [2]string
	for i := range k.ends {
		both.Go(func() { problems[i] = k.hears(i) })
	}
	both.Wait()
	for i, p := range problems {
		if p != "" {
			k.h.t.Fatalf("the %s hears %s; the call: %s", [2]string{"caller", "callee"}[i], p, k.ends[i].Ended())
		}
	}
}

func (k *talk) hears(i int) (problem string) {
	ctx, cancel := context.WithTimeout(k.h.t.Context(), 10*time.Second)
	defer cancel()
	heard, err := k.ends[i].Hear(ctx, 2*time.Second)
	if err != nil {
		return "nothing"
	}
	sent := k.ends[1-i].Sent()
	sent = sent[max(0, len(sent)-4*audio.Rate):]
	if got, _ := audio.Correlate(audio.PCMU.Decode(nil, sent), audio.PCMU.Decode(nil, heard), len(sent)); got < same {
		return fmt.Sprintf("the other only by %.2f", got)
	}
	return ""
}

func (k *talk) row() capture.Call {
	k.h.t.Helper()
	c, err := k.h.Capture.Call(k.h.t.Context(), k.id)
	if err != nil {
		k.h.t.Fatal(err)
	}
	return c
}

func (k *talk) tracks() []vault.Recorded {
	k.h.t.Helper()
	tracks, err := k.h.Register.Tracks(k.h.t.Context(), k.id)
	if err != nil {
		k.h.t.Fatal(err)
	}
	return tracks
}

// finished waits until so many tracks are closed into the log.
func (k *talk) finished(n int) []vault.Recorded {
	k.h.t.Helper()
	until(k.h.t, "the tracks are finished", 30*time.Second, func() bool {
		tracks := k.tracks()
		for _, r := range tracks {
			if !r.Finished {
				return false
			}
		}
		return len(tracks) == n
	})
	return k.tracks()
}

func (k *talk) hangUp() {
	k.h.t.Helper()
	if err := k.ends[0].Hangup(k.h.t.Context()); err != nil {
		k.h.t.Error(err)
	}
	until(k.h.t, "the call ends", 15*time.Second, func() bool { return k.row().Ended != 0 })
}

// opens reads a track as its owner does, and says how well it fits what the
// owner's phone sent, how many of its samples were sent after the track's end
// (negative: the track goes on for longer), and how well it fits the other's.
func (k *talk) opens(r vault.Recorded) (own float64, after int, other float64) {
	k.h.t.Helper()
	who := 0
	if r.Person == k.h.people[1] {
		who = 1
	}
	permit, err := k.h.Gate.Ask(k.h.t.Context(), k.h.signedIn(r.Person), access.Listen, access.Object{Kind: "track", ID: string(r.ID)}, nil)
	if err != nil {
		k.h.t.Fatal(err)
	}
	seconds, err := k.h.Opener.Read(k.h.t.Context(), permit, r.ID, 0, 128)
	if err != nil {
		k.h.t.Fatal(err)
	}
	var recorded []int16
	for _, s := range seconds {
		if s.Payload == nil {
			s.Payload = bytes.Repeat([]byte{s.Codec.Silence()}, audio.Rate)
		}
		recorded = s.Codec.Decode(recorded, s.Payload)
	}
	sent := [2][]int16{}
	for i, end := range k.ends {
		sent[i] = audio.PCMU.Decode(nil, end.Sent())
	}
	own, lag := audio.Correlate(sent[who], recorded, len(sent[who]))
	other, _ = audio.Correlate(sent[1-who], recorded, len(sent[1-who]))
	return own, len(sent[who]) - lag - len(recorded), other
}

func (h *home) signedIn(person yesline.PersonID) session.Principal {
	h.t.Helper()
	token, err := h.Sessions.LinkFor(h.t.Context(), h.program, person)
	if err != nil {
		h.t.Fatal(err)
	}
	_, who, err := h.Sessions.Redeem(h.t.Context(), token)
	if err != nil {
		h.t.Fatal(err)
	}
	return who
}

func (h *home) check() {
	h.t.Helper()
	problems, err := h.Check(h.t.Context())
	if err != nil || len(problems) > 0 {
		h.t.Errorf("the house: %v %v", problems, err)
	}
}

// smallDisk mounts a file system of so many bytes.
func smallDisk(t *testing.T, folder string, size int) {
	t.Helper()
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size)); err != nil {
		missing(t, "no right to mount a small file system: "+err.Error())
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, 0); err != nil {
			t.Error(err)
		}
	})
}

// The disk of the objects is full in the middle of a call: the recording ends
// and says why, the call goes on, and what was sealed before is its owners'.
// With room again, a call is recorded again.
func TestTheDiskIsFullInACall(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "data")
	objects := filepath.Join(folder, "objects")
	smallDisk(t, objects, 14*8192) // two headers, and six seconds of each
	h := newHome(t, folder)
	k := h.ring()
	k.bridged()
	k.say("ann", "bob")
	until(t, "the recording ends", 15*time.Second, func() bool {
		tracks := k.tracks()
		return len(tracks) == 2 && tracks[0].State == vault.Full && tracks[1].State == vault.Full
	})
	k.hear("stopped")
	k.hearEachOther()
	if c := k.row(); c.State != capture.Bridged || strings.Count(c.Reason, "the disk is full") != 2 {
		t.Errorf("the call is %q, and its row says: %s", c.State, c.Reason)
	}
	for _, r := range k.finished(2) {
		own, after, other := k.opens(r)
		t.Logf("%d s were recorded, fit by %.3f, and %.1f s were said since", r.Seconds, own, float64(after)/audio.Rate)
		if own < same || other > foreign || r.Seconds < 4 {
			t.Errorf("%d s, own voice by %.2f, the other's by %.2f", r.Seconds, own, other)
		}
	}
	k.hangUp()
	h.check()

	none := h.ring() // a call that begins on the full disk
	none.hear("not_recorded")
	none.bridged()
	none.say("ann", "bob")
	none.hearEachOther()
	none.hangUp()
	if c := none.row(); c.Recording != "nobody" || strings.Count(c.Reason, "the disk is full") != 2 || len(none.tracks()) != 0 {
		t.Errorf("on the full disk %s is recorded in %d tracks: %s", c.Recording, len(none.tracks()), c.Reason)
	}
	if err := syscall.Mount("", objects, "", syscall.MS_REMOUNT, "size=8m"); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	h.open(folder, h.Config.Trunk.Address) // which sweeps the keys of the tracks that never came to be
	h.check()
	again := h.ring()
	again.bridged()
	again.say("maya", "carl")
	time.Sleep(3 * time.Second)
	again.hangUp()
	for _, r := range again.finished(2) {
		if own, _, other := again.opens(r); r.State != vault.Closed || own < same || other > foreign {
			t.Errorf("with room again: %q, own voice by %.2f, the other's by %.2f", r.State, own, other)
		}
	}
	h.check()
}

// connect has the caller dial the callee, and nobody press anything.
func (h *home) connect() *talk {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 30*time.Second)
	defer cancel()
	k := &talk{h: h}
	failed := make(chan error, 1)
	go func() (err error) {
		defer func() { failed <- err }()
		k.ends[1], err = h.callee.Answer(ctx)
		return err
	}()
	var err error
	if k.ends[0], err = h.caller.Call(ctx, h.Phones.Address().String(), calleeNumber); err != nil {
		h.t.Fatal(err)
	}
	if err := <-failed; err != nil {
		h.t.Fatal(err)
	}
	return k
}

// recorded is a call of some seconds in which both agreed, from ring to the
// closing of its tracks.
func (h *home) recorded(seconds time.Duration, names ...string) *talk {
	h.t.Helper()
	k := h.ring()
	k.bridged()
	k.say(names...)
	time.Sleep(seconds)
	k.hangUp()
	k.finished(2)
	return k
}

// of gives the track of one of the two.
func (k *talk) of(person yesline.PersonID) vault.Recorded {
	k.h.t.Helper()
	for _, r := range k.tracks() {
		if r.Person == person {
			return r
		}
	}
	k.h.t.Fatal("a track is not there")
	return vault.Recorded{}
}

// visitor is somebody with a browser.
type visitor struct {
	h      *home
	client *http.Client
}

func (h *home) browser(person yesline.PersonID) *visitor {
	h.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	v := &visitor{h, &http.Client{Jar: jar, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	token, err := h.Sessions.LinkFor(h.t.Context(), h.program, person)
	if err != nil {
		h.t.Fatal(err)
	}
	if code, _, _, err := v.do("POST", "/in/"+token, ""); err != nil || code != http.StatusSeeOther {
		h.t.Fatalf("signing in answers %d, %v", code, err)
	}
	return v
}

func (v *visitor) do(method, path, window string) (code int, to string, body []byte, err error) {
	r, err := http.NewRequestWithContext(v.h.t.Context(), method, "http://"+v.h.PagesAddress()+path, nil)
	if err != nil {
		return 0, "", nil, err
	}
	if window != "" {
		r.Header.Set("Range", window)
	}
	answer, err := v.client.Do(r)
	if err != nil {
		return 0, "", nil, err
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(io.LimitReader(answer.Body, 8<<20))
	return answer.StatusCode, answer.Header.Get("Location"), body, err
}

// opens looks at the page of a call, which gives the tickets to play it.
func (v *visitor) opens(k *talk) {
	v.h.t.Helper()
	if code, _, _, err := v.do("GET", "/calls/"+string(k.id), ""); err != nil || code != http.StatusOK {
		v.h.t.Fatalf("the page of the call answers %d, %v", code, err)
	}
}

// gone checks that nothing of a destroyed track is left, and that the receipt
// of it verifies.
func (k *talk) gone(v *visitor, r vault.Recorded, receipt string) {
	k.h.t.Helper()
	if code, _, _, err := v.do("GET", "/tracks/"+string(r.ID)+"/audio", "bytes=0-99"); err != nil || code != http.StatusNotFound {
		k.h.t.Errorf("the voice answers %d, %v", code, err)
	}
	if _, err := k.h.Keys.OpenTrack(k.h.t.Context(), r.Program, r.Person, r.ID); !errors.Is(err, yesline.NotFound) {
		k.h.t.Errorf("its key: got %v, want not found", err)
	}
	if files, _ := filepath.Glob(filepath.Join(k.h.Config.Data, "objects", "*", string(r.ID)+"*")); len(files) > 0 {
		k.h.t.Errorf("%d of its objects are left", len(files))
	}
	if !strings.HasPrefix(receipt, "/receipts/") {
		k.h.t.Fatalf("withdrawing leads to %q and not to a receipt", receipt)
	}
	code, _, data, err := v.do("GET", receipt+"/json", "")
	if err != nil || code != http.StatusOK {
		k.h.t.Fatalf("the receipt answers %d, %v", code, err)
	}
	if e, err := audit.VerifyReceipt(data, k.h.Log.VerifierKey()); err != nil || e.Verb != "track.destroyed" || e.Object != string(r.ID) {
		k.h.t.Errorf("the receipt is of %s %s, %v", e.Verb, e.Object, err)
	}
}

// Somebody takes their voice back while five players of theirs read it: from
// the moment that the withdrawal is answered, no window opens.
func TestWithdrawingWhilePlaying(t *testing.T) {
	t.Parallel()
	h := newHome(t, filepath.Join(t.TempDir(), "data"))
	k := h.recorded(5*time.Second, "ann", "bob")
	v, mine, theirs := h.browser(h.people[0]), k.of(h.people[0]), k.of(h.people[1])
	path := "/tracks/" + string(mine.ID) + "/audio"
	v.opens(k)

	type window struct {
		began, ended time.Time
		heard        bool
	}
	ctx, enough := context.WithCancel(t.Context())
	defer enough()
	var mu sync.Mutex
	var windows []window
	var playing sync.WaitGroup
	for player := range 5 {
		playing.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				part := fmt.Sprintf("bytes=%d-%d", n%5*16000, n%5*16000+7999)
				if player == 0 {
					part = "" // the whole, window by window
				}
				w := window{began: time.Now()}
				code, _, body, err := v.do("GET", path, part)
				w.ended = time.Now()
				switch w.heard = code == http.StatusPartialContent || code == http.StatusOK; {
				case w.heard && err == nil && len(body) == 0:
					t.Error("a window of nothing")
				case !w.heard && code != http.StatusNotFound && code != http.StatusConflict:
					t.Errorf("a window answers %d, %v", code, err)
				}
				mu.Lock()
				windows = append(windows, w)
				mu.Unlock()
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	time.Sleep(time.Second)
	sent := time.Now()
	code, receipt, _, err := v.do("POST", "/calls/"+string(k.id)+"/withdraw", "")
	answered := time.Now()
	if err != nil || code != http.StatusSeeOther {
		t.Fatalf("withdrawing answers %d, %v", code, err)
	}
	time.Sleep(time.Second)
	enough()
	playing.Wait()

	before, during, last := 0, 0, sent
	for _, w := range windows {
		switch {
		case !w.heard:
			continue
		case w.began.After(answered):
			t.Errorf("a window opened %v after the withdrawal was answered", w.began.Sub(answered))
		case w.ended.After(answered):
			t.Errorf("a window ended %v after the withdrawal was answered", w.ended.Sub(answered))
		case w.ended.After(sent):
			during++
		default:
			before++
		}
		if w.ended.After(last) {
			last = w.ended
		}
	}
	if before < 10 {
		t.Errorf("only %d windows were heard before", before)
	}
	t.Logf("%d windows were heard before, %d until %v after the form was sent; it was answered after %v", before, during, last.Sub(sent), answered.Sub(sent))
	k.gone(v, mine, receipt)
	if own, _, _ := k.opens(theirs); own < same {
		t.Errorf("the other voice fits by %.2f", own)
	}
	h.check()
}

// fill leaves no room on the disk of a folder, and gives back what makes room
// again.
func fill(t *testing.T, folder string) (free func()) {
	t.Helper()
	path := filepath.Join(folder, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 1 << 12} {
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// The disk of the whole house is full. Reading stops, because nothing is read
// that cannot be logged; calls go on unrecorded; and whoever takes their voice
// back is served out of what was held back for them.
func TestWithdrawingOnAFullDisk(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "data")
	smallDisk(t, folder, 40<<20)
	h := newHome(t, folder)
	k := h.recorded(3*time.Second, "ann", "bob")
	v, mine := h.browser(h.people[0]), k.of(h.people[0])
	v.opens(k)
	free := fill(t, folder)

	for _, path := range []string{"/calls/" + string(k.id), "/tracks/" + string(mine.ID) + "/audio"} {
		if code, _, body, err := v.do("GET", path, "bytes=0-"); err != nil || code != http.StatusServiceUnavailable || bytes.Contains(body, []byte("RIFF")) {
			t.Errorf("%s answers %d, %v", path[:7], code, err)
		}
	}
	unrecorded := h.connect()
	unrecorded.say("maya", "carl")
	unrecorded.hearEachOther()
	if err := unrecorded.ends[0].Hangup(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(folder, "reserve")); err != nil {
		t.Errorf("something else took the reserve: %v", err)
	}

	sent := time.Now()
	code, receipt, _, err := v.do("POST", "/calls/"+string(k.id)+"/withdraw", "")
	if err != nil || code != http.StatusSeeOther {
		t.Fatalf("withdrawing answers %d, %v", code, err)
	}
	t.Logf("withdrawn in %v", time.Since(sent))
	k.gone(v, mine, receipt)
	free()
	until(t, "the reserve is there again", 30*time.Second, func() bool {
		info, err := os.Stat(filepath.Join(folder, "reserve"))
		return err == nil && info.Size() == 8<<20
	})
	h.check()
}

// The disk of the whole house is full in the middle of a call: its recording
// ends, the call goes on, and *9 is written down all the same.
func TestStoppingOnAFullDisk(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "data")
	smallDisk(t, folder, 40<<20)
	h := newHome(t, folder)
	k := h.ring()
	k.bridged()
	k.say("ann", "bob")
	time.Sleep(3 * time.Second)
	free := fill(t, folder)
	k.hear("stopped")
	k.hearEachOther()
	if err := k.ends[1].Press(t.Context(), "*9"); err != nil {
		t.Fatal(err)
	}
	until(t, "the stop is written down", 10*time.Second, func() bool {
		s, err := h.Consent.Of(t.Context(), k.id, h.people[1])
		return err == nil && s.Record == consent.Stopped
	})
	k.hearEachOther()
	free()
	k.hangUp()
	for _, r := range k.finished(2) {
		if own, _, other := k.opens(r); own < same || other > foreign || r.Seconds < 2 {
			t.Errorf("%d s %q, own voice by %.2f, the other's by %.2f", r.Seconds, r.State, own, other)
		}
	}
	h.check()
}

// outsider is another program with its hands on the content database.
type outsider struct {
	t    *testing.T
	conn *sql.Conn
}

func (h *home) outsider() *outsider {
	h.t.Helper()
	d, err := sql.Open("sqlite", "file:"+filepath.Join(h.Config.Data, "content.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { d.Close() })
	conn, err := d.Conn(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	return &outsider{h.t, conn}
}

func (o *outsider) does(q string) {
	o.t.Helper()
	if _, err := o.conn.ExecContext(o.t.Context(), q); err != nil {
		o.t.Fatal(err)
	}
}

func (o *outsider) locks()   { o.t.Helper(); o.does("BEGIN IMMEDIATE") }
func (o *outsider) unlocks() { o.t.Helper(); o.does("ROLLBACK") }

// sealed is how many bytes of voices are on the disk, without what is derived.
func (h *home) sealed() (bytes int64) {
	h.t.Helper()
	err := filepath.WalkDir(filepath.Join(h.Config.Data, "objects"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !yesline.IsID("trk", d.Name()) {
			return err
		}
		info, err := d.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return bytes
}

// nothingIsSealed watches for so long that no byte comes to the disk.
func (h *home) nothingIsSealed(during time.Duration) {
	h.t.Helper()
	before := h.sealed()
	time.Sleep(during)
	if now := h.sealed(); now != before {
		h.t.Errorf("%d bytes of voices were written", now-before)
	}
}

// Somebody holds the content database. The call goes on whatever happens to
// its recording, and no byte is kept after a no, written down or not.
func TestALockedDatabaseInACall(t *testing.T) {
	webtest.Whole(t)
	t.Parallel()
	begun := func(t *testing.T) (*home, *talk, *outsider) {
		t.Parallel()
		h := newHome(t, filepath.Join(t.TempDir(), "data"))
		k := h.ring()
		k.bridged()
		k.say("ann", "bob")
		time.Sleep(2 * time.Second)
		return h, k, h.outsider()
	}
	// Consent stands, is known, and can be read: nothing is lost.
	t.Run("nobody says anything", func(t *testing.T) {
		h, k, o := begun(t)
		o.locks()
		before := h.sealed()
		k.hearEachOther()
		time.Sleep(2 * time.Second)
		if now := h.sealed(); now == before {
			t.Error("nothing was sealed while consent stood")
		}
		o.unlocks()
		k.hearEachOther()
		k.hangUp()
		for _, r := range k.finished(2) {
			if own, after, other := k.opens(r); r.State != vault.Closed || own < 0.9 || other > foreign || after > audio.Rate {
				t.Errorf("%d s %q, own voice by %.2f, the other's by %.2f; %d samples are missing at the end", r.Seconds, r.State, own, other, after)
			}
		}
		h.check()
	})
	t.Run("star nine", func(t *testing.T) {
		h, k, o := begun(t)
		o.locks()
		if err := k.ends[0].Press(t.Context(), "*9"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond) // what was sealed before reaches the disk
		h.nothingIsSealed(2 * time.Second)
		k.hearEachOther()
		o.unlocks()
		until(t, "the stop is written down", 5*time.Second, func() bool {
			s, err := h.Consent.Of(t.Context(), k.id, h.people[0])
			return err == nil && s.Record == consent.Stopped
		})
		h.nothingIsSealed(time.Second)
		k.hearEachOther()
		k.hangUp()
		for _, r := range k.finished(2) {
			if own, after, _ := k.opens(r); own < same || after < 3*audio.Rate || r.Seconds < 1 {
				t.Errorf("%d s, own voice by %.2f; it ends %d samples before the call did", r.Seconds, own, after)
			}
		}
		h.check()
	})
	t.Run("star nine, for too long", func(t *testing.T) {
		h, k, o := begun(t)
		o.locks()
		if err := k.ends[0].Press(t.Context(), "*9"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond)
		h.nothingIsSealed(7 * time.Second)
		k.hearEachOther()
		o.unlocks()
		h.nothingIsSealed(2 * time.Second)
		until(t, "the row says why", 10*time.Second, func() bool { return strings.Contains(k.row().Reason, "could not be written down") })
		k.hangUp()
		for _, r := range k.finished(2) {
			if own, _, _ := k.opens(r); own < same || r.Seconds < 1 {
				t.Errorf("%d s, own voice by %.2f", r.Seconds, own)
			}
		}
		until(t, "the *9 is written down after all", 15*time.Second, func() bool {
			s, err := h.Consent.Of(t.Context(), k.id, h.people[0])
			return err == nil && s.Record == consent.Stopped
		})
		h.check()
	})
	// The house cannot look whether consent still stands.
	t.Run("unreadable", func(t *testing.T) {
		h, k, o := begun(t)
		o.does("ALTER TABLE watches RENAME TO away")
		until(t, "the recording ends", 8*time.Second, func() bool { return strings.Count(k.row().Reason, "it ended because") == 2 })
		h.nothingIsSealed(time.Second)
		k.hearEachOther()
		o.does("ALTER TABLE away RENAME TO watches")
		h.nothingIsSealed(2 * time.Second)
		k.hearEachOther()
		k.hangUp()
		for _, r := range k.finished(2) {
			if own, after, other := k.opens(r); own < same || other > foreign || after < 4*audio.Rate || r.Seconds < 4 || r.Seconds > 8 {
				t.Errorf("%d s, own voice by %.2f, the other's by %.2f", r.Seconds, own, other)
			}
		}
		h.check()
	})
	// A call that cannot be written down is not recorded, and is a call.
	t.Run("from the start", func(t *testing.T) {
		t.Parallel()
		h := newHome(t, filepath.Join(t.TempDir(), "data"))
		o := h.outsider()
		o.locks()
		k := h.connect()
		k.say("ann", "bob")
		k.hearEachOther()
		o.unlocks()
		k.hearEachOther()
		if err := k.ends[0].Hangup(t.Context()); err != nil {
			t.Error(err)
		}
		if n := h.sealed(); n != 0 {
			t.Errorf("%d bytes were sealed", n)
		}
		h.check()
	})
}
