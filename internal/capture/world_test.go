package capture_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/consent"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
	"yesline/internal/keys/keystest"
	"yesline/internal/people"
	"yesline/internal/program"
	"yesline/internal/session"
	"yesline/internal/vault"
	"yesline/internal/vault/vaulttest"
)

// world is a capture room in a real house: databases, log, keys, people,
// consent and a vault with its objects in memory. The clock is the bubble's.
type world struct {
	*keystest.House
	t       *testing.T
	room    *capture.Room
	consent *consent.Consent
	sealer  *vault.Sealer
	jobs    *db.Jobs
	blobs   *vaulttest.Memory
	tracks  *vault.Register
	program yesline.ProgramID
	ann     session.Device
	codec   audio.Codec // of the callee's phone
}

// Each prompt lasts a fifth of a second.
const spoken = 200 * time.Millisecond

func prompts() fstest.MapFS {
	sounds := fstest.MapFS{}
	for i, name := range []string{"notice", "ask", "not_recorded", "one_side", "thanks_recording", "stopped",
		"ask_once", "asking_during", "remembered", "paused", "resumed", "ring_first", "busy", "cannot_connect"} {
		b := make([]byte, audio.Rate/5)
		for j := range b {
			b[j] = byte(i)
		}
		sounds[name+".ul"] = &fstest.MapFile{Data: b}
	}
	return sounds
}

func open(t *testing.T, terms program.Terms, places ...string) *world {
	t.Helper()
	return openOn(t, dbtest.SQLite(t), terms, places...)
}

func openOn(t *testing.T, databases func(string) *db.DB, terms program.Terms, places ...string) *world {
	t.Helper()
	ctx := context.Background()
	w := &world{t: t, House: keystest.Open(t, databases), blobs: &vaulttest.Memory{}}
	terms.Name, terms.Country = "Test", "US"
	programs := must(program.Open(ctx, w.Content, w.Log, w.Keys.AddProgram))(t)
	w.program = must(programs.Add(ctx, terms))(t)
	folk := must(people.Open(ctx, w.People, w.Log, w.Keys))(t)
	w.jobs = must(db.NewJobs(ctx, w.Content, slog.New(slog.DiscardHandler)))(t)
	w.jobs.Handle("finish", func(context.Context, string) error { return nil })
	w.jobs.Handle(consent.Shred, func(context.Context, string) error { return nil })
	w.consent = must(consent.Open(ctx, w.Content, w.Log, w.jobs, programs))(t)
	ok(t, vault.Migrate(ctx, w.Content))
	ok(t, capture.Migrate(ctx, w.Content))
	w.tracks = vault.NewRegister(w.Content)
	w.sealer = vault.NewSealer(w.Content, w.jobs, w.blobs, w.Keys)
	t.Cleanup(w.sealer.Close)
	w.room = &capture.Room{Content: w.Content, Log: w.Log, People: folk, Programs: programs, Consent: w.consent, Sealer: w.sealer,
		Voices: w.Keys, Sounds: prompts(), Report: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for i, number := range []string{"+12025550101", "+12025550102"} {
		id := must(folk.Meet(ctx, w.program, must(yesline.NewPhone(number))(t)))(t)
		if i == 0 {
			w.ann = session.Device{ID: yesline.NewDeviceID(), Program: w.program, Person: id}
		}
		if i < len(places) {
			ok(t, folk.SetPlace(ctx, id, places[i]))
		}
	}
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

// story is one call of ann to bob, with both telephones in the test's hands.
type story struct {
	*world
	live     *capture.Live
	ctx      context.Context
	hangUp   context.CancelFunc
	ann, bob *ear
	over     chan struct{}
	sending  sync.WaitGroup
}

// ear is one telephone: it hears at the pace of speech.
type ear struct {
	leg   *capture.Leg
	deaf  atomic.Bool // does not hear prompts to their end
	mu    sync.Mutex
	heard []byte // the first byte of each prompt
	beeps []time.Time
}

func (e *ear) line(codec audio.Codec) capture.Line {
	return capture.Line{Codec: codec, Voice: codec, Way: consent.ByAccount,
		Play: func(ctx context.Context, sound []byte) error {
			e.mu.Lock()
			e.heard = append(e.heard, sound[0])
			e.mu.Unlock()
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Duration(len(sound)) * time.Second / audio.Rate):
			}
			if e.deaf.Load() {
				return errors.New("not listening")
			}
			return nil
		},
		Beep: func() {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.beeps = append(e.beeps, time.Now())
		}}
}

func (e *ear) beeped() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.beeps)
}

// call begins a call as a door does; both are asked at once.
func (w *world) call() *story {
	w.t.Helper()
	s := &story{world: w, over: make(chan struct{})}
	s.ctx, s.hangUp = context.WithCancel(context.Background())
	s.live = must(w.room.Begin(s.ctx, w.ann, must(yesline.NewPhone("+12025550102"))(w.t)))(w.t)
	s.ann, s.bob = &ear{leg: s.live.Caller}, &ear{leg: s.live.Callee}
	s.live.Caller.Attach(s.ann.line(audio.PCMU))
	s.live.Callee.Attach(s.bob.line(w.codec))
	go func() {
		defer close(s.over)
		s.live.Notice(s.ctx)
		var asked sync.WaitGroup
		asked.Go(func() { s.live.Caller.Ask(s.ctx) })
		asked.Go(func() { s.live.Callee.Ask(s.ctx) })
		asked.Wait()
		s.live.Bridge(s.ctx)
		s.live.Run(s.ctx)
		s.live.End("the caller hung up")
	}()
	return s
}

// press presses keys after the question was heard.
func (e *ear) press(keys string) {
	for i := range keys {
		e.leg.Key(keys[i], time.Now(), true)
	}
}

// talk sends packets of 20 ms, all bytes b, for d, and returns at once.
func (s *story) talk(e *ear, b byte, d time.Duration) {
	s.sending.Go(func() {
		payload := make([]byte, 160)
		for i := range payload {
			payload[i] = b
		}
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for stamp := uint32(4_000_000_000); d > 0; d -= 20 * time.Millisecond {
			e.leg.Heard(stamp, payload, time.Now())
			stamp += 160
			<-tick.C
		}
	})
}

// end hangs up and gives the call's row.
func (s *story) end() capture.Call {
	s.t.Helper()
	s.hangUp()
	<-s.over
	s.sending.Wait()
	return s.row()
}

func (s *story) row() capture.Call {
	s.t.Helper()
	return must(s.room.Call(context.Background(), s.live.ID))(s.t)
}

// kept gives the tracks of the call by the person's leg.
func (s *story) kept() map[yesline.LegID]vault.Recorded {
	s.t.Helper()
	found := map[yesline.LegID]vault.Recorded{}
	for _, t := range must(s.tracks.Tracks(context.Background(), s.live.ID))(s.t) {
		found[t.Leg] = t
	}
	return found
}
