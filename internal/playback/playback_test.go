package playback

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audio"
	"yesline/internal/consent"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
	"yesline/internal/keys"
	"yesline/internal/keys/keystest"
	"yesline/internal/program"
	"yesline/internal/session"
	"yesline/internal/vault"
	"yesline/internal/vault/vaulttest"
)

// stage is a player in a real house: keys, log, consent, gate, jobs, vault. Ann
// and bob are on a call; ann's voice is kept.
type stage struct {
	*keystest.House
	Player
	consent  *consent.Consent
	gate     *access.Gate
	sessions *session.Sessions
	sealer   *vault.Sealer
	shredder *vault.Shredder
	register *vault.Register
	program  yesline.ProgramID
	call     yesline.CallID
	ann, bob yesline.PersonID
	asked    []map[string]string
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

func newStage(t testing.TB) *stage {
	t.Helper()
	ctx := context.Background()
	s := &stage{House: keystest.Open(t, dbtest.SQLite(t)), call: yesline.NewCallID()}
	programs := must[*program.Programs](t)(program.Open(ctx, s.Content, s.Log, s.Keys.AddProgram))
	s.program = must[yesline.ProgramID](t)(programs.Add(ctx, program.Terms{Name: "Test", Country: "US"}))
	jobs := must[*db.Jobs](t)(db.NewJobs(ctx, s.Content, slog.New(slog.DiscardHandler)))
	for _, name := range []string{"finish", DrawJob, consent.Shred} { // stories do the jobs by hand
		jobs.Handle(name, func(context.Context, string) error { return nil })
	}
	s.consent = must[*consent.Consent](t)(consent.Open(ctx, s.Content, s.Log, jobs, programs))
	s.gate = must[*access.Gate](t)(access.New(s.Log.Append, map[string]access.Loader{"track": s.tracks, "call": s.calls}))
	seal := func(f func(context.Context, yesline.ProgramID, string, []byte, []byte) ([]byte, error)) func(context.Context, yesline.ProgramID, []byte, []byte) ([]byte, error) {
		return func(ctx context.Context, p yesline.ProgramID, c, b []byte) ([]byte, error) {
			return f(ctx, p, keys.Session, c, b)
		}
	}
	s.sessions = must[*session.Sessions](t)(session.New(ctx, s.Content, "test", session.Sealing{Seal: seal(s.Keys.SealFor), Open: seal(s.Keys.OpenFor)}))
	ok(t, vault.Migrate(ctx, s.Content))
	blobs := &vaulttest.Memory{}
	s.register = vault.NewRegister(s.Content)
	s.shredder = &vault.Shredder{Content: s.Content, Blobs: blobs, Keys: s.Keys, Log: s.Log}
	s.sealer = vault.NewSealer(s.Content, jobs, blobs, s.Keys)
	t.Cleanup(func() { s.sealer.Close() })
	s.Player = Player{
		Voices: &vault.Opener{Content: s.Content, Jobs: jobs, Blobs: blobs, Keys: s.Keys, Log: s.Log, Ask: s.gate.Ask, Standing: s.standing, After: []string{DrawJob}},
		Track:  s.track, Kept: s.consent.Kept, Ask: s.ask,
	}
	s.ann, s.bob = s.Person(t, s.program), s.Person(t, s.program)
	ok(t, s.consent.Open(ctx, s.call, s.program, []consent.Party{{Person: s.ann}, {Person: s.bob}}))
	for _, p := range []yesline.PersonID{s.ann, s.bob} {
		ok(t, s.Keys.MintVoice(ctx, s.program, p))
		ok(t, s.consent.Answer(ctx, consent.Answer{Call: s.call, Person: p, Purpose: consent.Record, Yes: true,
			Evidence: consent.Evidence{Channel: "keypad", AtMillis: time.Now().UnixMilli(), Keys: "1"}}))
	}
	return s
}

func (s *stage) ask(ctx context.Context, who session.Principal, v access.Verb, o access.Object, detail map[string]string) (access.Permit, error) {
	s.asked = append(s.asked, detail)
	return s.gate.Ask(ctx, who, v, o, detail)
}

func (s *stage) track(ctx context.Context, id yesline.TrackID) (vault.Recorded, error) {
	found, err := s.register.ByID(ctx, []string{string(id)})
	if err != nil {
		return vault.Recorded{}, err
	}
	t, there := found[string(id)]
	if !there {
		return t, yesline.NotFound
	}
	return t, nil
}

func (s *stage) tracks(ctx context.Context, ids []string) (map[string]access.Facts, error) {
	facts := map[string]access.Facts{}
	found, err := s.register.ByID(ctx, ids)
	for id, t := range found {
		standing, err := s.consent.Of(ctx, t.Call, t.Person)
		if err != nil {
			return nil, err
		}
		facts[id] = access.Facts{Program: t.Program, Owner: t.Person, Parties: []yesline.PersonID{s.ann, s.bob},
			Kept: standing.Kept() && t.State != vault.Destroyed, Generation: standing.Generation}
	}
	return facts, err
}

func (s *stage) calls(_ context.Context, ids []string) (map[string]access.Facts, error) {
	facts := map[string]access.Facts{}
	for _, id := range ids {
		facts[id] = access.Facts{Program: s.program, Parties: []yesline.PersonID{s.ann, s.bob}}
	}
	return facts, nil
}

func (s *stage) standing(ctx context.Context, track yesline.TrackID) (int64, bool, error) {
	t, err := s.track(ctx, track)
	if err != nil {
		return 0, false, err
	}
	its, err := s.consent.Of(ctx, t.Call, t.Person)
	return its.Generation, its.Kept(), err
}

// record seals these seconds as ann's voice and finishes the track. It gives
// the seconds as they will come back.
func (s *stage) record(t testing.TB, seconds []vault.Second) yesline.TrackID {
	t.Helper()
	ctx := context.Background()
	lease := must[*consent.Lease](t)(s.consent.Lease(ctx, s.call, s.ann))
	defer lease.Close()
	grant := must[consent.Grant](t)(lease.Grant(ctx))
	track := vault.Track{ID: yesline.NewTrackID(), Call: s.call, Leg: yesline.NewLegID(), Program: s.program, Person: s.ann, Codec: audio.Opus}
	if len(seconds) > 0 {
		track.Codec = seconds[0].Codec
	}
	w := must[*vault.Writer](t)(s.sealer.Begin(ctx, grant, track))
	for n := range seconds {
		if seconds[n].Present != [13]byte{} {
			ok(t, w.Put(grant, int64(n), &seconds[n]))
		}
	}
	ok(t, w.End(ctx))
	ok(t, s.Voices.Finish(ctx, track.ID))
	return track.ID
}

// listens gives a person's permit for a track.
func (s *stage) listens(t testing.TB, person yesline.PersonID, track yesline.TrackID) (access.Permit, error) {
	t.Helper()
	token := must[string](t)(s.sessions.LinkFor(context.Background(), s.program, person))
	_, who, err := s.sessions.Redeem(context.Background(), token)
	ok(t, err)
	return s.gate.Ask(context.Background(), who, access.Listen, access.Object{Kind: "track", ID: string(track)}, nil)
}

// say makes seconds as the vault takes them: full, with holes in some.
func say(n int) []vault.Second {
	r := rand.New(rand.NewPCG(7, 8))
	seconds := make([]vault.Second, n)
	for i := range seconds {
		if i == 2 {
			continue // a second that never came
		}
		s := &seconds[i]
		s.Codec, s.Payload = audio.PCMU, make([]byte, audio.Rate)
		for j := range s.Payload {
			s.Payload[j] = byte(r.Uint32())
		}
		for unit := range units {
			if i != 3 || unit%3 > 0 {
				s.Present[unit/8] |= 1 << (unit % 8)
				continue
			}
			for j := range unitSamples {
				s.Payload[unit*unitSamples+j] = s.Codec.Silence()
			}
		}
	}
	return seconds
}

// What was said is what is heard, in whatever windows it is asked for.
func TestTheOwnerHearsTheirVoice(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	said := say(12)
	track := s.record(t, said)
	whole := reference(t, said)
	if got := must[int64](t)(s.Seconds(t.Context(), track)); got != 12 {
		t.Fatalf("the books say %d s, want 12", got)
	}
	permit := must[access.Permit](t)(s.listens(t, s.ann, track))
	for _, c := range [][2]int64{{0, Size(12)}, {0, 44}, {0, 100}, {44, 45}, {16000, 50000}, {Size(2), Size(4)}, {Size(12) - 3, Size(12)}} {
		got := must[[]byte](t)(s.Window(t.Context(), permit, track, c[0], c[1]))
		if !bytes.Equal(got, whole[c[0]:c[1]]) {
			t.Errorf("%v: the bytes differ from what was said", c)
		}
	}
	for _, c := range [][2]int64{{-1, 5}, {5, 5}, {9, 3}, {0, WindowLimit + 1}} {
		if _, err := s.Window(t.Context(), permit, track, c[0], c[1]); !errors.Is(err, yesline.Invalid) {
			t.Errorf("%v: got %v, want invalid", c, err)
		}
	}
	if _, err := s.Window(t.Context(), permit, track, Size(11), Size(13)); !errors.Is(err, yesline.Tampered) {
		t.Errorf("beyond the end: got %v, want tampered", err)
	}
}

// A window that is given back is wiped, and the next one in its place is right.
func TestAWindowIsGivenBack(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	said := say(14)
	track := s.record(t, said)
	whole := reference(t, said)
	permit := must[access.Permit](t)(s.listens(t, s.ann, track))
	for _, c := range [][2]int64{{0, 100_000}, {44, 60_000}, {100_000, 100_001}, {0, Size(12)}, {51, 51 + sheetSize - 2*unitBytes}, {51, 52 + sheetSize - 2*unitBytes}, {50, 50 + sheetSize}} {
		got := must[[]byte](t)(s.Window(t.Context(), permit, track, c[0], c[1]))
		if !bytes.Equal(got, whole[c[0]:c[1]]) {
			t.Errorf("%v: the bytes differ from what was said", c)
		}
		if most := max(sheetSize, len(got)+2*unitBytes); cap(got) > most {
			t.Errorf("%v: it moved in memory, to %d bytes: nobody wiped where it was", c, cap(got))
		}
		s.Done(got)
		if len(bytes.Trim(got[:cap(got)], "\x00")) > 0 {
			t.Errorf("%v: it was given back and is still in memory", c)
		}
	}
	s.Done(nil)
}

// Nobody hears without a permit for this very track, nor after the voice was
// taken back, whatever permit they still hold.
func TestWhoHearsNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	track, other := s.record(t, say(5)), s.record(t, say(5))
	ctx := context.Background()
	if _, err := s.listens(t, s.bob, track); !errors.Is(err, yesline.NotFound) {
		t.Errorf("the other party without share: got %v", err)
	}
	if _, err := s.Window(ctx, access.Permit{}, track, 0, 100); !errors.Is(err, yesline.Denied) {
		t.Errorf("without a permit: got %v", err)
	}
	permit := must[access.Permit](t)(s.listens(t, s.ann, track))
	if _, err := s.Window(ctx, permit, other, 0, 100); !errors.Is(err, yesline.Denied) {
		t.Errorf("with the permit of another track: got %v", err)
	}
	ok(t, s.Draw(ctx, string(track)))
	ok(t, s.Draw(ctx, string(other)))
	ok(t, s.shredder.Shred(ctx, s.call, s.ann))
	for _, window := range [][2]int64{{0, 44}, {44, 500}} {
		if data, err := s.Window(ctx, permit, track, window[0], window[1]); err == nil {
			t.Errorf("after shredding %v gives %d bytes", window, len(data))
		}
	}
	if _, err := s.Peaks(ctx, permit, track); err == nil {
		t.Error("after shredding the waveform is still drawn")
	}
	if _, err := s.Seconds(ctx, track); !errors.Is(err, yesline.NotFound) {
		t.Errorf("the books after shredding: got %v", err)
	}
}

// The waveform is drawn from what was said by the machine's own permit, stays
// as it is when the job runs again, and a voice that is gone by then is left
// alone.
func TestDrawing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	said := say(70) // more than is read at once
	track := s.record(t, said)
	ctx := context.Background()
	permit := must[access.Permit](t)(s.listens(t, s.ann, track))
	if _, err := s.Peaks(ctx, permit, track); !errors.Is(err, yesline.NotFound) {
		t.Errorf("before it is drawn: got %v", err)
	}
	for range 2 {
		ok(t, s.Draw(ctx, string(track)))
	}
	if len(s.asked) == 0 || s.asked[0]["part"] != "waveform" {
		t.Errorf("the machine asked the gate %v", s.asked)
	}
	var want audio.Peaks
	for _, sec := range said {
		want.Add(sec.Codec.Decode(nil, sec.Payload), sec.Present)
	}
	got := must[audio.Peaks](t)(s.Peaks(ctx, permit, track))
	if !bytes.Equal(got.Values, want.Values) || len(got.Present) != len(want.Present) || got.PerSecond != audio.PeaksPerSecond {
		t.Errorf("the waveform has %d values, want %d, or they differ", len(got.Values), len(want.Values))
	}
	gone := s.record(t, say(5))
	ok(t, s.shredder.Shred(ctx, s.call, s.ann))
	ok(t, s.Draw(ctx, string(gone)))
	ok(t, s.Draw(ctx, string(yesline.NewTrackID())))
}

// When the waveform is drawn, the speech in what was sealed is counted: nothing
// of silence, of a hold (which seals nothing), or of a voice of no second. What
// failed is counted when the job comes again, and a waveform that is there
// already is not counted after.
func TestSpeechIsCounted(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	ctx := context.Background()
	talk := func(c audio.Codec, n int, amplitude float64) []vault.Second {
		seconds := make([]vault.Second, n)
		payload := make([]byte, audio.Rate)
		for i := range payload {
			payload[i] = c.Silence()
		}
		c.Encode(payload[:0], audio.Tone(400, 300, amplitude))
		for i := range seconds {
			if i%5 == 3 { // on hold
				continue
			}
			seconds[i] = vault.Second{Codec: c, Payload: payload}
			for unit := range units {
				seconds[i].Present[unit/8] |= 1 << (unit % 8)
			}
		}
		return seconds
	}
	counted := func(name string, track yesline.TrackID, measured bool, from, to int64) {
		t.Helper()
		is := must[vault.Recorded](t)(s.track(ctx, track))
		if is.Measured != measured || is.SpeechMillis < from || is.SpeechMillis > to {
			t.Errorf("%s: %v, %d ms are speech, want %v, %d to %d", name, is.Measured, is.SpeechMillis, measured, from, to)
		}
	}
	opus := sayOpus(t, 70)
	var spoken audio.Speech
	voice, before := audio.NewVoice(audio.Rate), audio.Packets(nil)
	for _, sec := range opus {
		spoken.Add(voice.Second(nil, before, sec.Payload), sec.Present)
		before = sec.Payload
	}
	for name, c := range map[string]struct {
		said     []vault.Second
		from, to int64
	}{
		"mu-law":  {talk(audio.PCMU, 130, 5000), 104 * 280, 104 * 300}, // more than is read at once
		"A-law":   {talk(audio.PCMA, 10, 5000), 8 * 280, 8 * 300},
		"silence": {talk(audio.PCMA, 10, 0), 0, 0},
		"nothing": {nil, 0, 0},
		"opus":    {opus, spoken.Millis(), spoken.Millis()},
	} {
		track := s.record(t, c.said)
		counted(name+", before", track, false, 0, 0)
		kept := s.Kept
		s.Kept = func(context.Context, yesline.CallID, yesline.PersonID) (consent.Grant, error) {
			return consent.Grant{}, yesline.Unavailable
		}
		if err := s.Draw(ctx, string(track)); !errors.Is(err, yesline.Unavailable) {
			t.Errorf("%s: the job should come again, and says %v", name, err)
		}
		counted(name+", cut off", track, false, 0, 0)
		s.Kept = kept
		for range 2 {
			ok(t, s.Draw(ctx, string(track)))
			counted(name, track, true, c.from, c.to)
		}
	}
	if spoken.Millis() < 10_000 {
		t.Errorf("the voice in opus speaks for %d ms only", spoken.Millis())
	}
	old := s.record(t, talk(audio.PCMU, 2, 5000))
	ok(t, s.Voices.SealRendition(ctx, must[consent.Grant](t)(s.Kept(ctx, s.call, s.ann)), old, vault.Peaks, nil))
	ok(t, s.Draw(ctx, string(old)))
	counted("an old one", old, false, 0, 0)
}
