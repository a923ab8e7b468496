package vault_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audio"
	"yesline/internal/audit"
	"yesline/internal/consent"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
	"yesline/internal/keys"
	"yesline/internal/keys/keystest"
	"yesline/internal/program"
	"yesline/internal/session"
	"yesline/internal/vault"
	"yesline/internal/vault/disk"
	"yesline/internal/vault/vaulttest"
)

// world is a vault in a real house: three databases, log, keys, consent, gate,
// jobs; with one call of ann and bob, both of whom said yes.
type world struct {
	*keystest.House
	consent  *consent.Consent
	gate     *access.Gate
	sessions *session.Sessions
	jobs     *db.Jobs
	blobs    vault.Blobs

	sealer   *vault.Sealer
	opener   *vault.Opener
	shredder *vault.Shredder
	register *vault.Register

	program  yesline.ProgramID
	call     yesline.CallID
	ann, bob yesline.PersonID

	mu       sync.Mutex
	followed []string // tracks that the job "peaks" was set off for
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func refused(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

func newWorld(t testing.TB, open func(string) *db.DB, blobs vault.Blobs) *world {
	t.Helper()
	ctx := context.Background()
	w := &world{House: keystest.Open(t, open), blobs: blobs, call: yesline.NewCallID()}
	programs := must[*program.Programs](t)(program.Open(ctx, w.Content, w.Log, w.Keys.AddProgram))
	w.program = must[yesline.ProgramID](t)(programs.Add(ctx, program.Terms{Name: "Test", Country: "US"}))
	w.jobs = must[*db.Jobs](t)(db.NewJobs(ctx, w.Content, slog.New(slog.DiscardHandler)))
	w.consent = must[*consent.Consent](t)(consent.Open(ctx, w.Content, w.Log, w.jobs, programs))
	w.gate = must[*access.Gate](t)(access.New(w.Log.Append, map[string]access.Loader{"track": w.trackFacts, "call": w.callFacts}))
	w.sessions = must[*session.Sessions](t)(session.New(ctx, w.Content, "test", session.Sealing{
		Seal: func(ctx context.Context, p yesline.ProgramID, c, b []byte) ([]byte, error) {
			return w.Keys.SealFor(ctx, p, keys.Session, c, b)
		},
		Open: func(ctx context.Context, p yesline.ProgramID, c, b []byte) ([]byte, error) {
			return w.Keys.OpenFor(ctx, p, keys.Session, c, b)
		}}))
	ok(t, vault.Migrate(ctx, w.Content))
	w.register = vault.NewRegister(w.Content)
	w.opener = w.newOpener()
	w.shredder = &vault.Shredder{Content: w.Content, Blobs: blobs, Keys: w.Keys, Log: w.Log}
	w.jobs.Handle("finish", func(context.Context, string) error { return nil }) // stories finish by hand
	w.jobs.Handle("peaks", func(_ context.Context, id string) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.followed = append(w.followed, id)
		return nil
	})
	w.jobs.Handle(consent.Shred, func(context.Context, string) error { return nil })
	w.sealer = vault.NewSealer(w.Content, w.jobs, blobs, w.Keys)
	t.Cleanup(func() { w.sealer.Close() })
	w.ann, w.bob = w.speaker(t), w.speaker(t)
	w.newCall(t)
	return w
}

// memory is a world on SQLite with blobs in memory: enough where the story is
// not of databases or disks.
func memory(t testing.TB) *world { return newWorld(t, dbtest.SQLite(t), &vaulttest.Memory{}) }

func onDisk(t testing.TB, folder string) *disk.Disk {
	d := must[*disk.Disk](t)(disk.Open(folder))
	t.Cleanup(func() { d.Close() })
	return d
}

func (w *world) newOpener() *vault.Opener {
	return &vault.Opener{Content: w.Content, Jobs: w.jobs, Blobs: w.blobs, Keys: w.Keys, Log: w.Log,
		Ask: w.gate.Ask, Standing: w.standing, After: []string{"peaks"}}
}

func (w *world) speaker(t testing.TB) yesline.PersonID {
	p := w.Person(t, w.program)
	ok(t, w.Keys.MintVoice(context.Background(), w.program, p))
	return p
}

func (w *world) newCall(t testing.TB) {
	ctx := context.Background()
	w.call = yesline.NewCallID()
	ok(t, w.consent.Open(ctx, w.call, w.program, []consent.Party{{Person: w.ann}, {Person: w.bob}}))
	for _, p := range []yesline.PersonID{w.ann, w.bob} {
		ok(t, w.consent.Answer(ctx, consent.Answer{Call: w.call, Person: p, Purpose: consent.Record, Yes: true, Evidence: pressed("1")}))
	}
}

func pressed(key string) consent.Evidence {
	return consent.Evidence{Channel: "keypad", AtMillis: time.Now().UnixMilli(), Keys: key}
}

// What app does: facts for the gate, and how consent stands for the vault.
func (w *world) trackFacts(ctx context.Context, ids []string) (map[string]access.Facts, error) {
	tracks, err := w.register.ByID(ctx, ids)
	if err != nil {
		return nil, err
	}
	facts := map[string]access.Facts{}
	for id, t := range tracks {
		s, err := w.consent.Of(ctx, t.Call, t.Person)
		if err != nil {
			return nil, err
		}
		facts[id] = access.Facts{Program: t.Program, Owner: t.Person, Parties: []yesline.PersonID{w.ann, w.bob},
			Kept: s.Kept() && t.State != vault.Destroyed, Generation: s.Generation}
	}
	return facts, nil
}

func (w *world) callFacts(ctx context.Context, ids []string) (map[string]access.Facts, error) {
	facts := map[string]access.Facts{}
	for _, id := range ids {
		facts[id] = access.Facts{Program: w.program, Parties: []yesline.PersonID{w.ann, w.bob}}
	}
	return facts, nil
}

func (w *world) standing(ctx context.Context, track yesline.TrackID) (int64, bool, error) {
	t, err := w.register.ByID(ctx, []string{string(track)})
	if err != nil {
		return 0, false, err
	}
	its := t[string(track)]
	s, err := w.consent.Of(ctx, its.Call, its.Person)
	return s.Generation, s.Kept(), err
}

func (w *world) signIn(t testing.TB, person yesline.PersonID) session.Principal {
	token := must[string](t)(w.sessions.LinkFor(context.Background(), w.program, person))
	_, who, err := w.sessions.Redeem(context.Background(), token)
	ok(t, err)
	return who
}

func (w *world) permit(t testing.TB, who session.Principal, v access.Verb, track yesline.TrackID) access.Permit {
	t.Helper()
	return must[access.Permit](t)(w.gate.Ask(context.Background(), who, v, access.Object{Kind: "track", ID: string(track)}, nil))
}

func (w *world) lease(t testing.TB, person yesline.PersonID) *consent.Lease {
	t.Helper()
	l := must[*consent.Lease](t)(w.consent.Lease(context.Background(), w.call, person))
	t.Cleanup(l.Close)
	return l
}

func (w *world) grant(t testing.TB, person yesline.PersonID) consent.Grant {
	t.Helper()
	return must[consent.Grant](t)(w.lease(t, person).Grant(context.Background()))
}

func (w *world) track(person yesline.PersonID) vault.Track {
	return vault.Track{ID: yesline.NewTrackID(), Call: w.call, Leg: yesline.NewLegID(), Program: w.program, Person: person, Codec: audio.PCMU}
}

func (w *world) begin(t testing.TB, track vault.Track) *vault.Writer {
	t.Helper()
	return must[*vault.Writer](t)(w.sealer.Begin(context.Background(), w.grant(t, track.Person), track))
}

// sound is what a voice says in second n: no two seconds of two voices are alike.
func sound(track yesline.TrackID, n int64) *vault.Second {
	s := &vault.Second{Codec: audio.PCMU, Payload: make([]byte, vault.MaxPayload)}
	copy(s.Payload, strings.Repeat(string(track)+" says the number ", 200))
	for i := range s.Payload {
		s.Payload[i] += byte(n)
	}
	for i := range s.Present {
		s.Present[i] = 0xff
	}
	s.Present[12] = 0x0f
	return s
}

func (w *world) speak(t testing.TB, writer *vault.Writer, track vault.Track, seconds ...int64) {
	t.Helper()
	g := w.grant(t, track.Person)
	for _, n := range seconds {
		ok(t, writer.Put(g, n, sound(track.ID, n)))
	}
}

// record makes a finished track of these seconds.
func (w *world) record(t testing.TB, person yesline.PersonID, seconds ...int64) vault.Track {
	t.Helper()
	track := w.track(person)
	writer := w.begin(t, track)
	w.speak(t, writer, track, seconds...)
	ok(t, writer.End(context.Background()))
	ok(t, w.opener.Finish(context.Background(), track.ID))
	return track
}

func (w *world) state(t testing.TB, track yesline.TrackID) vault.Recorded {
	t.Helper()
	return must[map[string]vault.Recorded](t)(w.register.ByID(context.Background(), []string{string(track)}))[string(track)]
}

func (w *world) entry(t testing.TB, ref audit.Ref) audit.Entry {
	t.Helper()
	return must[audit.Entry](t)(w.Log.Find(context.Background(), ref))
}

// hears checks that the owner hears exactly these seconds of count in all.
func (w *world) hears(t testing.TB, track vault.Track, count int64, seconds ...int64) {
	t.Helper()
	p := w.permit(t, w.signIn(t, track.Person), access.Listen, track.ID)
	if got := must[int64](t)(w.opener.Length(context.Background(), p, track.ID)); got != count {
		t.Fatalf("length: got %d, want %d", got, count)
	}
	got := must[[]vault.Second](t)(w.opener.Read(context.Background(), p, track.ID, 0, count+1))
	if int64(len(got)) != count {
		t.Fatalf("read %d seconds, want %d", len(got), count)
	}
	for n, s := range got {
		want := &vault.Second{Codec: audio.PCMU}
		if slices.Contains(seconds, int64(n)) {
			want = sound(track.ID, int64(n))
		}
		if s.Codec != want.Codec || s.Present != want.Present || string(s.Payload) != string(want.Payload) {
			t.Fatalf("second %d is not what was said", n)
		}
	}
}

// upTo gives 0 to n-1.
func upTo(n int64) (all []int64) {
	for i := range n {
		all = append(all, i)
	}
	return all
}

// file gives the whole blob.
func (w *world) file(t testing.TB, name string) []byte {
	t.Helper()
	b := make([]byte, 1<<20)
	n, err := w.blobs.ReadAt(context.Background(), name, b, 0)
	if !errors.Is(err, io.EOF) {
		t.Fatalf("reading the file: %v", err)
	}
	return b[:n]
}

// replace puts other bytes in the place of a blob, as a thief of the store would.
func (w *world) replace(t testing.TB, name string, b []byte) {
	t.Helper()
	ok(t, w.blobs.Delete(context.Background(), name))
	ok(t, w.blobs.WriteAt(context.Background(), name, b, 0))
}

func slot(b []byte, n int) []byte { return b[(n+1)*vault.SlotSize : (n+2)*vault.SlotSize] }

// grep looks for plain sound in every file of a folder.
func grep(t testing.TB, folder string, words ...string) {
	t.Helper()
	ok(t, filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, word := range words {
			if strings.Contains(string(b), word) {
				t.Errorf("%s holds plain sound", filepath.Base(path))
			}
		}
		return err
	}))
}
