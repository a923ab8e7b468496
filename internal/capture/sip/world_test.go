package sip_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/capture/media"
	"yesline/internal/capture/sip"
	"yesline/internal/consent"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
	"yesline/internal/keys"
	"yesline/internal/keys/keystest"
	"yesline/internal/people"
	"yesline/internal/phone"
	"yesline/internal/program"
	"yesline/internal/session"
	"yesline/internal/vault"
	"yesline/internal/vault/vaulttest"
)

// world is the door in a real house, with ann's phone on one side and a trunk
// with bob's phone on the other, all on loopback and in real time.
type world struct {
	*keystest.House
	t        *testing.T
	ctx      context.Context
	door     *sip.Door
	cfg      sip.Config
	sessions *session.Sessions
	room     *capture.Room
	consent  *consent.Consent
	blobs    *vaulttest.Memory
	tracks   *vault.Register
	program  yesline.ProgramID
	ann      session.Device
	annPhone *phone.Phone
	annName  string
	annPass  string
	trunk    *phone.Trunk
	plane    *media.Plane
	bobPhone *phone.Phone
}

const (
	annNumber = "+12025550101"
	bobNumber = "+12025550102"
)

// pitch is the tone of each prompt, so that a phone can tell what it heard.
var pitch = map[string]float64{"notice": 300, "ask": 500, "not_recorded": 700, "one_side": 900, "thanks_recording": 1100,
	"stopped": 1300, "ask_once": 500, "busy": 1500, "cannot_connect": 1700, "no_emergency": 1900}

func prompts() fstest.MapFS {
	sounds := fstest.MapFS{}
	for name, hz := range pitch {
		sounds[name+".ul"] = &fstest.MapFile{Data: audio.PCMU.Encode(nil, append(audio.Tone(hz, 200, 9000), make([]int16, audio.Rate/5)...))}
	}
	return sounds
}

var nextPorts atomic.Int32

// setup is what a test may want otherwise.
type setup struct {
	terms    program.Terms
	ip       string // where the house is; "": 127.0.0.1
	cfg      func(*sip.Config)
	reach    func(capture.Wanted) (capture.Route, error) // nil: everybody is behind the trunk
	ann, bob phone.Config
}

func open(t *testing.T, s setup) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx, House: keystest.Open(t, dbtest.SQLite(t)), blobs: &vaulttest.Memory{}}
	s.terms.Name, s.terms.Country = "Test", "US"
	programs := must(program.Open(ctx, w.Content, w.Log, w.Keys.AddProgram))(t)
	w.program = must(programs.Add(ctx, s.terms))(t)
	folk := must(people.Open(ctx, w.People, w.Log, w.Keys))(t)
	jobs := must(db.NewJobs(ctx, w.Content, slog.New(slog.DiscardHandler)))(t)
	jobs.Handle("finish", func(context.Context, string) error { return nil })
	jobs.Handle(consent.Shred, func(context.Context, string) error { return nil })
	w.consent = must(consent.Open(ctx, w.Content, w.Log, jobs, programs))(t)
	ok(t, vault.Migrate(ctx, w.Content))
	ok(t, capture.Migrate(ctx, w.Content))
	w.tracks = vault.NewRegister(w.Content)
	sealer := vault.NewSealer(w.Content, jobs, w.blobs, w.Keys)
	t.Cleanup(sealer.Close)
	report := slog.New(slog.NewTextHandler(t.Output(), nil))
	w.room = &capture.Room{Content: w.Content, Log: w.Log, People: folk, Programs: programs, Consent: w.consent, Sealer: sealer,
		Voices: w.Keys, Sounds: prompts(), Report: report}
	w.sessions = must(session.New(ctx, w.Content, "yesline.test", session.Sealing{
		Seal: func(ctx context.Context, p yesline.ProgramID, c, b []byte) ([]byte, error) {
			return w.Keys.SealFor(ctx, p, keys.Session, c, b)
		},
		Open: func(ctx context.Context, p yesline.ProgramID, c, b []byte) ([]byte, error) {
			return w.Keys.OpenFor(ctx, p, keys.Session, c, b)
		}}))(t)
	person := must(folk.Meet(ctx, w.program, must(yesline.NewPhone(annNumber))(t)))(t)
	device, name, password, err := w.sessions.AddDevice(ctx, w.program, person, true)
	ok(t, err)
	w.ann, w.annName, w.annPass = device, name, string(password.Bytes())

	w.trunk = must(phone.NewTrunk("127.0.0.1:0"))(t)
	t.Cleanup(w.trunk.Close)
	first := uint16(20000 + nextPorts.Add(1)*40)
	here := netip.MustParseAddr(cmp.Or(s.ip, "127.0.0.1"))
	w.plane = must(media.Open(media.Config{IP: here, From: first, To: first + 38, Report: report}))(t)
	t.Cleanup(func() { ok(t, w.plane.Close()) })
	w.cfg = sip.Config{Listen: netip.AddrPortFrom(here, 0),
		Trunk: netip.MustParseAddrPort(w.trunk.Address()), CallerID: "+12025550100", Report: report}
	if s.cfg != nil {
		s.cfg(&w.cfg)
	}
	w.door = must(sip.New(w.cfg, w.sessions, w.room, w.plane))(t)
	w.room.Reach = func(_ context.Context, to capture.Wanted) (capture.Route, error) {
		if s.reach != nil {
			return s.reach(to)
		}
		return capture.Route{Handset: w.door.Trunk(to.Number), Trunk: "trunk"}, nil
	}
	ok(t, w.door.Start(ctx))
	t.Cleanup(func() { ok(t, w.door.Close()) })

	s.ann.Listen, s.ann.User, s.ann.Password = "127.0.0.1:0", w.annName, w.annPass
	w.annPhone = must(phone.New(s.ann))(t)
	t.Cleanup(w.annPhone.Close)
	s.bob.Listen, s.bob.User = "127.0.0.1:0", "bob"
	w.bobPhone = must(phone.New(s.bob))(t)
	t.Cleanup(w.bobPhone.Close)
	w.trunk.Connect(bobNumber, w.bobPhone)
	return w
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dial calls from ann's phone; the answer comes at once.
func (w *world) dial(number string) *phone.Call {
	w.t.Helper()
	return must(w.annPhone.Call(w.ctx, w.door.Address().String(), number))(w.t)
}

// connect calls bob, who picks up.
func (w *world) connect() (ann, bob *phone.Call) {
	w.t.Helper()
	ann = w.dial(bobNumber)
	bob = must(w.bobPhone.Answer(w.ctx))(w.t)
	return ann, bob
}

// hears waits until a phone has heard a prompt, and the silence at its end.
func (w *world) hears(c *phone.Call, prompt string) {
	w.t.Helper()
	codec := audio.Codec(c.Codec())
	err := c.HeardUntil(w.ctx, func(heard []byte) bool { return loudest(codec, heard, prompt) })
	if err != nil {
		w.t.Fatalf("waiting for %s: %v (%s)", prompt, err, c.Ended())
	}
	time.Sleep(200 * time.Millisecond)
}

// loudest reports whether a prompt was heard and then ended.
func loudest(codec audio.Codec, heard []byte, prompt string) bool {
	const window = audio.Rate / 10
	in := false
	for at := 0; at+window <= len(heard); at += window / 4 {
		samples := codec.Decode(nil, heard[at:at+window])
		power := audio.Power(samples, pitch[prompt])
		is := power > 1000*1000/4
		if in && !is {
			return true
		}
		in = in || is
	}
	return false
}

// row is the one call of the test.
func (w *world) row() capture.Call {
	w.t.Helper()
	calls, _, err := w.room.Calls(context.Background(), w.ann.Person, "", 10)
	ok(w.t, err)
	if len(calls) != 1 {
		w.t.Fatalf("%d calls are written down, want 1", len(calls))
	}
	return calls[0]
}

// ended waits until the door has no call and gives the row.
func (w *world) ended() capture.Call {
	w.t.Helper()
	for w.door.Calls() > 0 {
		select {
		case <-w.ctx.Done():
			w.t.Fatal("the call does not end")
		case <-time.After(5 * time.Millisecond):
		}
	}
	return w.row()
}

// sealed counts the seconds that lie in the store for a party of the call.
func (w *world) sealed(c capture.Call, side capture.Side) (n int) {
	w.t.Helper()
	slot := make([]byte, 8192)
	for _, p := range c.Parties {
		for off := int64(8192); p.Side == side && p.Track != ""; off += 8192 {
			_, err := w.blobs.ReadAt(context.Background(), string(p.Track), slot, off)
			if errors.Is(err, io.EOF) {
				break
			}
			ok(w.t, err)
			if slot[8191]|slot[8190]|slot[8189] != 0 {
				n++
			}
		}
	}
	return n
}

func tone(hz float64, d time.Duration) []byte {
	return audio.PCMU.Encode(nil, audio.Tone(hz, int(d.Milliseconds()), 8000))
}

// power of a frequency in what a phone heard in the last so long.
func power(c *phone.Call, d time.Duration, hz float64) float64 {
	heard := c.Heard()
	heard = heard[max(0, len(heard)-int(d.Milliseconds())*8):]
	return audio.Power(audio.Codec(c.Codec()).Decode(nil, heard), hz)
}

// shortly is a context for what should not happen.
func shortly(w *world) context.Context {
	ctx, cancel := context.WithTimeout(w.ctx, 300*time.Millisecond)
	w.t.Cleanup(cancel)
	return ctx
}

func secret(s string) yesline.Secret { return yesline.NewSecret([]byte(s)) }

// counting is a listener that counts what it hears.
type counting struct{ packets atomic.Int64 }

func (c *counting) Heard(uint32, []byte, time.Time) { c.packets.Add(1) }
func (c *counting) Key(byte, time.Time, bool)       {}
func (c *counting) Hold(bool)                       {}
func (c *counting) Relearn()                        {}
