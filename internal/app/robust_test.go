package app_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/app"
	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/phone"
	"yesline/internal/session"
	"yesline/internal/vault"
)

// home is a house on loopback with a contributor, a contact, and their phones.
type home struct {
	*app.App
	t              *testing.T
	program        yesline.ProgramID
	people         [2]yesline.PersonID // caller, callee
	caller, callee *phone.Phone
}

const calleeNumber = "+12025550102"

// newHome opens a house in folder. Its prompts are the ends of the real ones,
// so that a call is bridged in seconds.
func newHome(t *testing.T, folder string) *home {
	t.Helper()
	trunk, err := phone.NewTrunk("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(trunk.Close)
	cfg := app.Defaults()
	cfg.Data, cfg.HTTP, cfg.SIP = folder, "127.0.0.1:0", "127.0.0.1:0"
	cfg.Trunk = app.Trunk{Address: trunk.Address(), CallerID: "+12025550100"}
	h := &home{t: t}
	if h.App, err = app.New(t.Context(), cfg, slog.New(slog.NewTextHandler(testLog{t}, nil))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	sounds := fstest.MapFS{}
	for _, name := range []string{"notice", "ask", "thanks_recording", "not_recorded", "stopped"} {
		sounds[name+".ul"] = &fstest.MapFile{Data: promptEnd(t, name)}
	}
	h.Capture.Sounds = sounds
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
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
	permit, err := h.Gate.Ask(t.Context(), session.Local(0), access.Invite, access.Object{Kind: "program", ID: string(h.program)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	made, err := h.Invite(t.Context(), permit, h.program, numbers[0], false)
	if err != nil {
		t.Fatal(err)
	}
	h.caller = h.phone(phone.Config{Listen: "127.0.0.1:0", User: made.Username, Password: string(made.Password.Bytes())})
	h.callee = h.phone(phone.Config{Listen: "127.0.0.1:0", User: calleeNumber[1:]})
	trunk.Connect(calleeNumber, h.callee)
	return h
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
	for i := range k.ends {
		heard, err := k.ends[i].Hear(k.h.t.Context(), 2*time.Second)
		if err != nil {
			k.h.t.Fatalf("one side hears nothing: %v; the call: %s", err, k.ends[i].Ended())
		}
		sent := k.ends[1-i].Sent()
		sent = sent[max(0, len(sent)-4*audio.Rate):]
		if got, _ := audio.Correlate(audio.PCMU.Decode(nil, sent), audio.PCMU.Decode(nil, heard), len(sent)); got < 0.7 {
			k.h.t.Errorf("one side hears the other only by %.2f", got)
		}
	}
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
		if own < 0.9 || other > 0.2 || r.Seconds < 4 {
			t.Errorf("%d s, own voice by %.2f, the other's by %.2f", r.Seconds, own, other)
		}
	}
	k.hangUp()
	h.check()

	if err := syscall.Mount("", objects, "", syscall.MS_REMOUNT, "size=8m"); err != nil {
		t.Fatal(err)
	}
	again := h.ring()
	again.bridged()
	again.say("maya", "carl")
	time.Sleep(3 * time.Second)
	again.hangUp()
	for _, r := range again.finished(2) {
		if own, _, other := again.opens(r); r.State != vault.Closed || own < 0.9 || other > 0.2 {
			t.Errorf("with room again: %q, own voice by %.2f, the other's by %.2f", r.State, own, other)
		}
	}
	h.check()
}
var _ = io.EOF
var _ = math.Pi
var _ = http.MethodGet
var _ cookiejar.Jar
