package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/app"
	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/phone"
	"yesline/internal/program"
	"yesline/internal/vault"
	"yesline/internal/web/webtest"
)

// inside builds the house of cfg in this process, without opening its doors:
// its server must have ended.
func inside(t *testing.T, cfg app.Config) *app.App {
	t.Helper()
	a, err := app.New(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func addProgram(t *testing.T, a *app.App) yesline.ProgramID {
	t.Helper()
	id, err := a.Programs.Add(t.Context(), program.Terms{Name: "Talk", Country: "US"})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func meet(t *testing.T, a *app.App, id yesline.ProgramID, number string) yesline.PersonID {
	t.Helper()
	n, err := yesline.NewPhone(number)
	if err != nil {
		t.Fatal(err)
	}
	person, err := a.People.Meet(t.Context(), id, n)
	if err != nil {
		t.Fatal(err)
	}
	return person
}

func people(ids ...yesline.PersonID) []yesline.PersonID { return ids }

// prompt is the end of something the house says, as its bytes arrive.
func prompt(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("../../internal/capture/prompts/" + name + ".ul")
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.TrimRight(data, "\xff\x7e\xfe\x7f")
	return data[len(data)-4000:]
}

// hears waits until the phone has heard a prompt to its end.
func hears(t *testing.T, c *phone.Call, end []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := c.HeardUntil(ctx, func(heard []byte) bool { return bytes.Contains(heard, end) }); err != nil {
		t.Fatalf("waiting for a prompt: %v; the call: %s", err, c.Ended())
	}
}

// samples are what a phone sent so far.
func samples(c *phone.Call) []int16 { return audio.PCMU.Decode(nil, c.Sent()) }

// place finds a recorded sound in what was sent: how well it fits, and how
// many samples had been sent at its end.
func place(sent, recorded []int16) (fit float64, end int) {
	fit, lag := audio.Correlate(sent, recorded, len(sent))
	return fit, lag + len(recorded)
}

// A server is killed in the middle of a call in which both agreed. Started
// again, it has both voices but for their last two seconds, says that they
// were cut short, and holds nothing that was not sealed before the kill.
func TestKillInTheMiddleOfACall(t *testing.T) {
	webtest.Whole(t)
	t.Parallel()
	ctx := t.Context()
	trunk, err := phone.NewTrunk("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer trunk.Close()
	h := newHouse(t, trunk.Address())
	link, user, password := h.member(t, "+12025550101")
	h.start()

	ann := browser(t)
	if code, _ := ann.get("POST", h.cfg.URL+link, ""); code != http.StatusSeeOther {
		t.Fatalf("signing in answers %d", code)
	}
	caller := newPhone(t, phone.Config{Listen: "127.0.0.1:0", User: user, Password: password})
	callee := newPhone(t, phone.Config{Listen: "127.0.0.1:0", User: "12025550102"})
	trunk.Connect("+12025550102", callee)

	answered := make(chan *phone.Call, 1)
	go func() {
		c, err := callee.Answer(ctx)
		if err != nil {
			t.Error(err)
		}
		answered <- c
	}()
	a, err := caller.Call(ctx, h.sip, "+12025550102")
	if err != nil {
		t.Fatal(err)
	}
	hears(t, a, prompt(t, "ask"))
	time.Sleep(500 * time.Millisecond) // 1 counts after the last word
	if err := a.Press(ctx, "1"); err != nil {
		t.Fatal(err)
	}
	b := <-answered
	if b == nil {
		t.FailNow()
	}
	hears(t, b, prompt(t, "ask"))
	time.Sleep(500 * time.Millisecond)
	if err := b.Press(ctx, "1"); err != nil {
		t.Fatal(err)
	}
	hears(t, a, prompt(t, "thanks_recording"))
	ends := []*phone.Call{a, b}
	for i, name := range []string{"ann", "bob"} {
		voice, err := os.ReadFile("../../internal/demo/speech/" + name + ".ul")
		if err != nil {
			t.Fatal(err)
		}
		if err := ends[i].Say(voice); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(6500 * time.Millisecond)
	sent := [2][]int16{samples(a), samples(b)}
	h.stop(syscall.SIGKILL)
	sealed := content(t, filepath.Join(h.cfg.Data, "objects"))
	if len(sealed) == 0 {
		t.Fatal("no object was written")
	}

	h.start()
	h.command("audit", "verify").wants(t, 0, "The log is whole")
	played := ann.plays(h.cfg.URL)
	if fit, _ := place(sent[0], played); fit < 0.6 {
		t.Errorf("the page plays what she said by %.2f", fit)
	}
	if code := h.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("the server ends with %d", code)
	}

	in := inside(t, h.cfg)
	id, err := in.Programs.First(ctx)
	if err != nil {
		t.Fatal(err)
	}
	people := [2]yesline.PersonID{meet(t, in, id, "+12025550101"), meet(t, in, id, "+12025550102")}
	calls, _, err := in.Capture.Calls(ctx, people[0], "", 2)
	if err != nil || len(calls) != 1 {
		t.Fatalf("%d calls, %v", len(calls), err)
	}
	if c := calls[0]; c.State != capture.Ended || c.Ended == 0 || c.Ending != "the server stopped" || c.Recording != "both" || c.Parties[0].Ended == 0 || c.Parties[1].Ended == 0 {
		t.Errorf("the call's row is %+v", c)
	}
	tracks, err := in.Register.Tracks(ctx, calls[0].ID)
	if err != nil || len(tracks) != 2 {
		t.Fatalf("%d tracks, %v", len(tracks), err)
	}
	for _, k := range tracks {
		who := 0
		if k.Person == people[1] {
			who = 1
		}
		if k.State != vault.Recovered || !k.Finished {
			t.Errorf("a track is %q, finished: %v", k.State, k.Finished)
		}
		recorded := listen(t, in, k)
		fit, end := place(sent[who], recorded)
		lost := time.Duration(len(sent[who])-end) * time.Second / audio.Rate
		t.Logf("%s: %d s recorded, fits by %.3f, %v lost", [2]string{"caller", "callee"}[who], k.Seconds, fit, lost)
		if fit < 0.85 || lost > 2*time.Second {
			t.Errorf("a voice fits by %.3f and has lost %v, want at most 2s", fit, lost)
		}
		if end > len(sent[who])+audio.Rate/2 {
			t.Errorf("a voice goes on for %d samples after the kill", end-len(sent[who]))
		}
		if fit, _ := place(sent[1-who], recorded); fit > 0.25 {
			t.Errorf("a voice holds the other's by %.2f", fit)
		}
	}
	problems, err := in.Check(ctx)
	if err != nil || len(problems) > 0 {
		t.Errorf("the house: %v, %v", problems, err)
	}
	// The starts since then made leaves and waveforms beside the voices, and
	// wrote not one byte into them.
	now := content(t, filepath.Join(h.cfg.Data, "objects"))
	for path, was := range sealed {
		if now[path] != was {
			t.Errorf("%s was changed after the kill", filepath.Base(path))
		}
	}
}

func newPhone(t *testing.T, c phone.Config) *phone.Phone {
	t.Helper()
	p, err := phone.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// listen opens a track as its owner.
func listen(t *testing.T, a *app.App, k vault.Recorded) (recorded []int16) {
	t.Helper()
	token, err := a.Sessions.LinkFor(t.Context(), k.Program, k.Person)
	if err != nil {
		t.Fatal(err)
	}
	_, who, err := a.Sessions.Redeem(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	permit, err := a.Gate.Ask(t.Context(), who, access.Listen, access.Object{Kind: "track", ID: string(k.ID)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	seconds, err := a.Opener.Read(t.Context(), permit, k.ID, 0, 128)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range seconds {
		if s.Payload == nil {
			s.Payload = bytes.Repeat([]byte{s.Codec.Silence()}, audio.Rate)
		}
		recorded = s.Codec.Decode(recorded, s.Payload)
	}
	return recorded
}

// visitor is somebody with a browser.
type visitor struct {
	t      *testing.T
	client *http.Client
}

func browser(t *testing.T) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t, &http.Client{Jar: jar, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (v *visitor) get(method, url, window string) (int, []byte) {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.t.Context(), method, url, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	if window != "" {
		r.Header.Set("Range", window)
	}
	answer, err := v.client.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 8<<20))
	if err != nil {
		v.t.Fatal(err)
	}
	return answer.StatusCode, body
}

var (
	callLink  = regexp.MustCompile(`/calls/cal_[a-z2-7]{32}`)
	trackLink = regexp.MustCompile(`/tracks/trk_[a-z2-7]{32}`)
)

// plays goes from the list of calls to the one call's own voice, as soon as it
// is finished, and plays it.
func (v *visitor) plays(url string) (played []int16) {
	v.t.Helper()
	_, list := v.get("GET", url+"/calls", "")
	call := callLink.FindString(string(list))
	if call == "" {
		v.t.Fatal("the list shows no call")
	}
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		_, page := v.get("GET", url+call, "")
		if track := trackLink.FindString(string(page)); track != "" {
			code, wav := v.get("GET", url+track+"/audio", "bytes=0-")
			if code != http.StatusPartialContent || !strings.HasPrefix(string(wav), "RIFF") {
				v.t.Fatalf("the voice answers %d", code)
			}
			for i := 44; i+1 < len(wav); i += 2 {
				played = append(played, int16(binary.LittleEndian.Uint16(wav[i:])))
			}
			return played
		}
	}
	v.t.Fatal("the voice was never finished")
	return nil
}
