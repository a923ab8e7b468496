package playback

import (
	"context"
	"syscall"
	"testing"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/consent"
	"yesline/internal/vault"
	"yesline/internal/vault/disk"
)

// cpuTime is what this process used, so that a busy machine counts for less.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A window of 64 KiB of a track that is being listened to: permit, consent,
// reading from disk, checking against the log, opening, writing as PCM. The
// gate and the log's entry come on top.
func BenchmarkWindow64KiB(b *testing.B) {
	s := newStage(b)
	blobs, err := disk.Open(b.TempDir())
	ok(b, err)
	b.Cleanup(func() { blobs.Close() })
	s.Voices.Blobs, s.Voices.Gone = blobs, s.Keys.Gone
	s.sealer = vault.NewSealer(s.Content, s.Voices.Jobs, blobs, s.Keys)
	b.Cleanup(func() { s.sealer.Close() })
	views := consent.NewViews(s.consent)
	b.Cleanup(views.Close)
	s.Voices.Standing = func(ctx context.Context, track yesline.TrackID) (int64, bool, error) {
		t, err := s.register.Playing(ctx, track)
		if err != nil {
			return 0, false, err
		}
		all, err := views.Of(ctx, t.Call)
		return all[s.ann].Generation, all[s.ann].Kept(), err
	}
	track := s.record(b, say(120))
	var permit access.Permit
	const window = 64 << 10
	b.SetBytes(window)
	b.ReportAllocs()
	began, n := cpuTime(b), int64(0)
	for b.Loop() {
		if n%10_000 == 0 { // a permit lives for half a minute
			permit = must[access.Permit](b)(s.listens(b, s.ann, track))
		}
		from := HeaderBytes + n*window%(100*BytesPerSecond)
		data, err := s.Window(b.Context(), permit, track, from, from+window)
		if err != nil {
			b.Fatal(err)
		}
		s.Done(data)
		n++
	}
	b.ReportMetric(float64((cpuTime(b)-began).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
}
