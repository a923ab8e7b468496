package vault_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audio"
	"yesline/internal/consent"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
	"yesline/internal/keys"
	"yesline/internal/vault"
	"yesline/internal/vault/vaulttest"
)

// counting keys tell how often a track's key was unwrapped.
type counting struct {
	*keys.Keys
	opened atomic.Int64
}

func (c *counting) OpenTrack(ctx context.Context, program yesline.ProgramID, person yesline.PersonID, track yesline.TrackID) (keys.Data, error) {
	c.opened.Add(1)
	return c.Keys.OpenTrack(ctx, program, person, track)
}

// listener is a node on which somebody listens, with all that it remembers.
type listener struct {
	*vault.Opener
	keys     *counting
	register *vault.Register
	views    *consent.Views
}

// node opens a second process of the same house.
func (w *world) node(t testing.TB, open func(string) *db.DB) *listener {
	t.Helper()
	ctx := context.Background()
	content := open("content")
	k := must[*keys.Keys](t)(keys.Open(ctx, open("keys"), w.Root, w.Log))
	t.Cleanup(k.Close)
	there := must[*consent.Consent](t)(consent.Open(ctx, content, w.Log, w.jobs, nil))
	return w.listener(t, content, k, there)
}

func (w *world) listener(t testing.TB, content *db.DB, k *keys.Keys, there *consent.Consent) *listener {
	l := &listener{keys: &counting{Keys: k}, register: vault.NewRegister(content), views: consent.NewViews(there)}
	l.Opener = &vault.Opener{Content: content, Jobs: w.jobs, Blobs: w.blobs, Keys: l.keys, Log: w.Log, Gone: k.Gone,
		Standing: func(ctx context.Context, track yesline.TrackID) (int64, bool, error) {
			its, err := l.register.Playing(ctx, track)
			if err != nil {
				return 0, false, err
			}
			all, err := l.views.Of(ctx, its.Call)
			return all[its.Person].Generation, all[its.Person].Kept(), err
		}}
	t.Cleanup(func() { l.Close(); l.register.Close(); l.views.Close() })
	return l
}

// stops wants that what is asked again and again is refused, at once in the
// process that changed it (limit 0) and else within the limit.
func stops(t *testing.T, what string, limit time.Duration, ask func() error) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		err := ask()
		if err != nil {
			if !errors.Is(err, yesline.NotFound) && !errors.Is(err, yesline.Conflict) {
				t.Errorf("%s: %v", what, err)
			}
			return
		}
		if time.Since(began) >= limit {
			t.Errorf("%s: it went on for more than %v", what, limit)
			return
		}
	}
}

// aSecond is how soon the other nodes know, on a loaded machine.
const aSecond = 1900 * time.Millisecond

// Windows of one listening unwrap a key once. Withdrawing stops them, with a
// permit that is still good: at once where it happens, within a second on every
// other node; and so does the key's end when nothing else tells of it.
func TestListeningStopsWhereverItIsRemembered(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		w := newWorld(t, open, &vaulttest.Memory{})
		ctx := t.Context()
		near, far := w.listener(t, w.Content, w.Keys, w.consent), w.node(t, open)
		hearing := func(l *listener, track yesline.TrackID) func() error {
			p := w.permit(t, w.signIn(t, w.ann), access.Listen, track)
			return func() error {
				_, err := l.Read(ctx, p, track, 0, 2)
				return err
			}
		}
		warm := func(l *listener, track yesline.TrackID) func() error {
			t.Helper()
			f, before := hearing(l, track), l.keys.opened.Load()
			for range 5 {
				ok(t, f())
			}
			if got := l.keys.opened.Load() - before; got != 1 {
				t.Errorf("five windows unwrapped the key %d times", got)
			}
			return f
		}

		withdrawn := w.record(t, w.ann, upTo(3)...)
		here, there := warm(near, withdrawn.ID), warm(far, withdrawn.ID)
		permit := must[access.Permit](t)(w.gate.Ask(ctx, w.signIn(t, w.ann), access.Withdraw, access.Object{Kind: "call", ID: string(w.call)}, nil))
		ok(t, w.consent.Withdraw(ctx, permit, w.call, consent.Record, pressed("withdraw")))
		stops(t, "consent withdrawn, here", 0, here) // and nothing is shredded yet
		stops(t, "consent withdrawn, on another node", aSecond, there)

		w.newCall(t)
		destroyed, other := w.record(t, w.ann, upTo(3)...), w.record(t, w.ann, upTo(3)...)
		here, there = warm(near, destroyed.ID), warm(far, destroyed.ID)
		beside := warm(near, other.ID)
		_, err := w.Keys.DestroyTrack(ctx, w.program, w.ann, destroyed.ID) // and consent stands
		ok(t, err)
		stops(t, "key destroyed, here", 0, here)
		stops(t, "key destroyed, on another node", aSecond, there)
		before := near.keys.opened.Load()
		ok(t, beside())
		ok(t, beside())
		if got := near.keys.opened.Load() - before; got != 1 {
			t.Errorf("after another key was destroyed this one was unwrapped %d times, want once", got)
		}
		near.Close()
		before = near.keys.opened.Load()
		ok(t, beside())
		ok(t, beside())
		if got := near.keys.opened.Load() - before; got != 2 {
			t.Errorf("after closing two windows unwrapped the key %d times", got)
		}
	})
}

// The wrong hands get nothing from memory: each window looks at permit, owner
// and consent whether or not the track was opened a moment ago.
func TestMemoryOpensNothingForOthers(t *testing.T) {
	t.Parallel()
	w := memory(t)
	ctx := t.Context()
	l := w.listener(t, w.Content, w.Keys, w.consent)
	track, other := w.record(t, w.ann, upTo(3)...), w.record(t, w.ann, upTo(3)...)
	ann := w.signIn(t, w.ann)
	mine := w.permit(t, ann, access.Listen, track.ID)
	_, err := l.Read(ctx, mine, track.ID, 0, 2)
	ok(t, err)
	for what, p := range map[string]access.Permit{"none": {}, "another track's": w.permit(t, ann, access.Listen, other.ID)} {
		if got, err := l.Read(ctx, p, track.ID, 0, 2); got != nil || !errors.Is(err, yesline.Denied) {
			t.Errorf("a permit, %s: got %v", what, err)
		}
	}
	stale := w.permit(t, ann, access.Listen, track.ID)
	allow := must[access.Permit](t)(w.gate.Ask(ctx, ann, access.Allow, access.Object{Kind: "call", ID: string(w.call)}, nil))
	ok(t, w.consent.Set(ctx, allow, w.call, consent.Share, pressed("share")))
	if got, err := l.Read(ctx, stale, track.ID, 0, 2); got != nil || !errors.Is(err, yesline.Conflict) {
		t.Errorf("a permit from before consent moved: got %v", err)
	}
	_, err = l.Read(ctx, w.permit(t, ann, access.Listen, track.ID), track.ID, 0, 2)
	ok(t, err)
}

// What was heard is wiped when hearing ends, and hearing is all that reading is.
func TestWhatIsHeardIsWiped(t *testing.T) {
	t.Parallel()
	w := memory(t)
	ctx := t.Context()
	l := w.listener(t, w.Content, w.Keys, w.consent)
	track := w.record(t, w.ann, 0, 1, 3)
	p := w.permit(t, w.signIn(t, w.ann), access.Listen, track.ID)
	want := must[[]vault.Second](t)(l.Read(ctx, p, track.ID, 1, 9))
	var heard []*vault.Second
	for range 2 {
		next := int64(1)
		heard = heard[:0]
		ok(t, l.Hear(ctx, p, track.ID, 1, 9, func(n int64, s *vault.Second) {
			said := want[n-1]
			if n != next || s.Codec != said.Codec || s.Present != said.Present || string(s.Payload) != string(said.Payload) {
				t.Errorf("second %d is not what is read", n)
			}
			kept := *s
			heard, next = append(heard, &kept), next+1
		}))
	}
	if len(heard) != len(want) || len(want) != 3 {
		t.Fatalf("%d seconds, and %d were read", len(heard), len(want))
	}
	for n, s := range heard {
		for _, b := range s.Payload {
			if b != 0 {
				t.Fatalf("second %d is in memory after hearing it", n)
			}
		}
	}
	for _, c := range [][2]int64{{-1, 2}, {0, 0}, {0, 1000}} {
		if err := l.Hear(ctx, p, track.ID, c[0], c[1], nil); !errors.Is(err, yesline.Invalid) {
			t.Errorf("hearing %v: got %v", c, err)
		}
	}
	if err := l.Hear(ctx, access.Permit{}, track.ID, 0, 1, nil); !errors.Is(err, yesline.Denied) {
		t.Errorf("hearing without a permit: got %v", err)
	}
}

// A voice in Opus is kept as it came, and heard from the second before.
func TestAVoiceInOpus(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		w := newWorld(t, open, &vaulttest.Memory{})
		ctx := t.Context()
		track := w.track(w.ann)
		track.Codec = audio.Opus
		writer, g := w.begin(t, track), w.grant(t, w.ann)
		said := map[int64]*vault.Second{}
		for _, n := range []int64{0, 1, 3} {
			row, _ := audio.Packets(nil).Add(int(n), []byte{9 << 3, byte(n), 2, 3})
			said[n] = &vault.Second{Codec: audio.Opus, Present: [13]byte{3 << n}, Payload: row}
			ok(t, writer.Put(g, n, said[n]))
		}
		if err := writer.Put(g, 4, sound(track.ID, 4)); !errors.Is(err, yesline.Invalid) {
			t.Errorf("mu-law in a voice in opus: got %v", err)
		}
		ok(t, writer.End(ctx))
		ok(t, w.opener.Finish(ctx, track.ID))
		if got := w.state(t, track.ID); got.Codec != audio.Opus || got.Seconds != 4 {
			t.Errorf("the books say %s and %d s", got.Codec, got.Seconds)
		}
		p := w.permit(t, w.signIn(t, w.ann), access.Listen, track.ID)
		for from, want := range map[int64][]int64{0: {0, 1}, 1: {0, 1, 2}, 3: {2, 3}, 4: {3}, 5: nil} {
			var heard []int64
			ok(t, w.opener.Hear(ctx, p, track.ID, from, 2, func(n int64, s *vault.Second) {
				heard = append(heard, n)
				its := said[n]
				if its == nil {
					its = &vault.Second{Codec: audio.Opus}
				}
				if s.Codec != its.Codec || s.Present != its.Present || string(s.Payload) != string(its.Payload) {
					t.Errorf("second %d is not what was said", n)
				}
			}))
			if !slices.Equal(heard, want) {
				t.Errorf("two seconds from %d: heard %v, want %v", from, heard, want)
			}
		}
		if got := must[[]vault.Second](t)(w.opener.Read(ctx, p, track.ID, 1, 1)); len(got) != 1 || string(got[0].Payload) != string(said[1].Payload) {
			t.Error("reading is not hearing: it gives the seconds that were asked for")
		}
	})
}

// A byte that was changed on the disk is found in every window, also when the
// key is remembered.
func TestAChangedByteIsFoundWhileRemembered(t *testing.T) {
	t.Parallel()
	w := memory(t)
	ctx := t.Context()
	l := w.listener(t, w.Content, w.Keys, w.consent)
	track := w.record(t, w.ann, upTo(3)...)
	p := w.permit(t, w.signIn(t, w.ann), access.Listen, track.ID)
	_, err := l.Read(ctx, p, track.ID, 0, 3)
	ok(t, err)
	file := w.file(t, string(track.ID))
	slot(file, 1)[100] ^= 1
	w.replace(t, string(track.ID), file)
	if got, err := l.Read(ctx, p, track.ID, 0, 3); got != nil || !errors.Is(err, yesline.Tampered) {
		t.Errorf("a changed byte: got %v", err)
	}
	_, err = l.Read(ctx, p, track.ID, 0, 1)
	ok(t, err)
}

// What the Register remembers of a track ends with the track.
func TestPlayingEndsWithTheTrack(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		w := newWorld(t, open, &vaulttest.Memory{})
		ctx := t.Context()
		far := vault.NewRegister(open("content"))
		defer far.Close()
		track := w.record(t, w.ann, upTo(3)...)
		want := w.state(t, track.ID)
		for range 3 {
			for _, r := range []*vault.Register{w.register, far} {
				if got := must[vault.Recorded](t)(r.Playing(ctx, track.ID)); got != want {
					t.Errorf("remembered as %+v, and is %+v", got, want)
				}
			}
		}
		ok(t, w.shredder.Shred(ctx, w.call, w.ann))
		plays := func(r *vault.Register) func() error {
			return func() error {
				its, err := r.Playing(ctx, track.ID)
				if err == nil && its.State == vault.Destroyed {
					err = yesline.NotFound
				}
				return err
			}
		}
		stops(t, "destroyed, here", 0, plays(w.register))
		stops(t, "destroyed, on another node", aSecond, plays(far))
		if _, err := far.Playing(ctx, yesline.NewTrackID()); !errors.Is(err, yesline.NotFound) {
			t.Errorf("an absent track: got %v", err)
		}
		live := w.track(w.bob)
		writer := w.begin(t, live)
		if its := must[vault.Recorded](t)(w.register.Playing(ctx, live.ID)); its.Finished {
			t.Error("a track that is being written is finished")
		}
		w.speak(t, writer, live, 0)
		ok(t, writer.End(ctx))
		ok(t, w.opener.Finish(ctx, live.ID))
		if its := must[vault.Recorded](t)(w.register.Playing(ctx, live.ID)); !its.Finished || its.Seconds != 1 {
			t.Errorf("remembered from before it was finished: %+v", its)
		}
	})
}
