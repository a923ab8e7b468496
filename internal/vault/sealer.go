package vault

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"yesline"
	"yesline/internal/consent"
	"yesline/internal/db"
)

const (
	drainEvery = 50 * time.Millisecond // a sealed second waits at most this long for the file
	syncEvery  = time.Second           // and, with all others of that time, this long for the disk itself
	floorEvery = 10 * time.Second      // how many seconds must be there is committed this often
	queueMost  = 4096                  // sealed seconds waiting to be written: 32 MiB
	commitTime = 5 * time.Second       // longest wait for the database
)

// Sealer puts voices in. It mints a track's key and holds only the cipher made
// of it, as long as the track is being written; it can open nothing that was
// closed. One goroutine writes for all tracks and one commits their floors;
// Close ends and waits for both.
type Sealer struct {
	content *db.DB
	jobs    *db.Jobs
	blobs   Blobs
	keys    minter

	queue chan sealed
	took  atomic.Int64 // nanoseconds that the last round of writing took
	end   chan struct{}
	wg    sync.WaitGroup

	mu     sync.Mutex // guards open and closed
	open   map[yesline.TrackID]*Writer
	closed bool
}

// sealed is a second on its way to the disk, or a mark that answers when all
// before it is there.
type sealed struct {
	w    *Writer
	n    int64
	slot *[slotSize]byte
	done chan<- struct{}
}

var slots = sync.Pool{New: func() any { return new([slotSize]byte) }}

// NewSealer starts a Sealer. The job "finish" must have a handler.
func NewSealer(content *db.DB, jobs *db.Jobs, blobs Blobs, keys minter) *Sealer {
	s := &Sealer{content: content, jobs: jobs, blobs: blobs, keys: keys,
		queue: make(chan sealed, queueMost), end: make(chan struct{}), open: map[yesline.TrackID]*Writer{}}
	s.wg.Go(s.drain)
	s.wg.Go(s.floors)
	return s
}

// Close writes and syncs what is queued, commits the floors and ends. Tracks
// that were not ended stay open in the tables, and Recover finishes them.
func (s *Sealer) Close() {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if first {
		close(s.end)
	}
	s.wg.Wait()
}

// Behind is how long what was sealed last had to wait for the store, about: as
// long as it took to write what was sealed before. It is above a second when
// the store does not keep up with what is being sealed, and below 0.1 s when it
// does.
func (s *Sealer) Behind() time.Duration { return time.Duration(s.took.Load()) }

func (s *Sealer) closing() bool {
	select {
	case <-s.end:
		return true
	default:
		return false
	}
}

// Writer takes the seconds of one track. It is made by Begin and ended by End.
type Writer struct {
	s     *Sealer
	track Track

	mu      sync.Mutex // guards what follows
	seal    *seal      // nil once nothing more may be sealed
	last    int64      // the last second sealed, -1 before the first
	failed  error      // why nothing more is written
	settled bool       // no more bytes will be written: the end may be committed
	over    bool       // the end is committed
	// What is written, what of it survives a power cut, and what is committed.
	written, synced, committed mark

	file sync.Mutex // held while the blob is written, synced or deleted; taken before mu
}

// mark says that the seconds below floor are there, and that so many of them
// were sealed; the others are absent.
type mark struct{ floor, sealed int64 }

// Begin opens a track under the grant of the person whose voice it is. When it
// returns, the key is committed, the object has its header and the track its
// row. yesline.Full when there is no room to begin.
func (s *Sealer) Begin(ctx context.Context, g consent.Grant, t Track) (*Writer, error) {
	if err := t.allowed(g, consent.Record); err != nil {
		return nil, err
	}
	return s.begin(ctx, t)
}

func (t Track) allowed(g consent.Grant, purpose consent.Purpose) error {
	if err := g.Allows(purpose, t.Call, t.Person); err != nil {
		return err
	}
	if g.Program() != t.Program {
		return fmt.Errorf("a grant of another program: %w", yesline.Denied)
	}
	return nil
}

func (s *Sealer) begin(ctx context.Context, t Track) (*Writer, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	if !t.Codec.Known() {
		return nil, fmt.Errorf("a track in %s: %w", t.Codec, yesline.Invalid)
	}
	key, err := s.keys.MintTrack(ctx, t.Program, t.Person, t.ID)
	if err != nil {
		return nil, fmt.Errorf("minting the key of %s: %w", t.ID, err)
	}
	slot0 := newHeader(byte(t.Codec), Voice).slot()
	seal, err := newSeal(key.Bytes(), slot0, t.place(Voice))
	if err != nil {
		return nil, err
	}
	if err := s.blobs.WriteAt(ctx, voiceBlob(t.ID), slot0, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("beginning the object of %s: %w", t.ID, err), s.blobs.Delete(ctx, voiceBlob(t.ID)))
	}
	if err := insertTrack(ctx, s.content, t); err != nil {
		return nil, errors.Join(fmt.Errorf("beginning %s: %w", t.ID, err), s.blobs.Delete(ctx, voiceBlob(t.ID)))
	}
	w := &Writer{s: s, track: t, seal: seal, last: -1}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("beginning %s on a closed sealer: %w", t.ID, yesline.Unavailable)
	}
	s.open[t.ID] = w
	return w, nil
}

func newHeader(codec byte, rendition string) header {
	h := header{codec: codec, kind: kinds[rendition]}
	rand.Read(h.salt[:])
	return h
}

// Put seals second n of the track and hands it on; it never waits for a disk.
// n is higher each time, and a second is sealed once whatever becomes of it.
// yesline.Denied when the grant does not stand now, yesline.Full once the disk
// was full (the recording has ended there, and all before it is kept),
// yesline.Unavailable when the disk does not keep up: that second is lost.
func (w *Writer) Put(g consent.Grant, n int64, s *Second) error {
	if err := w.track.allowed(g, consent.Record); err != nil {
		return err
	}
	return w.put(n, s)
}

func (w *Writer) put(n int64, s *Second) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed != nil {
		return w.failed
	}
	if w.seal == nil || w.s.closing() {
		return fmt.Errorf("second %d after the end of a track: %w", n, yesline.Conflict)
	}
	if n <= w.last {
		return fmt.Errorf("second %d after second %d of a track: %w", n, w.last, yesline.Conflict)
	}
	if n >= MaxSeconds {
		return fmt.Errorf("second %d of a track, which holds %d: %w", n, MaxSeconds, yesline.TooMany)
	}
	slot := slots.Get().(*[slotSize]byte)
	if err := w.seal.second(slot, n, s); err != nil {
		slots.Put(slot)
		return err
	}
	w.last = n
	select {
	case w.s.queue <- sealed{w: w, n: n, slot: slot}:
		return nil
	default:
		slots.Put(slot)
		return fmt.Errorf("second %d of a track waits behind %d others: %w", n, queueMost, yesline.Unavailable)
	}
}

// End takes no more seconds, waits until all are on the disk, and commits the
// end of the track with the job that finishes it, also of a recording that a
// full disk ended. When the commit fails the
// Sealer tries again until it is closed; End may be called again.
func (w *Writer) End(ctx context.Context) error {
	w.mu.Lock()
	w.seal = nil
	w.mu.Unlock()
	done := make(chan struct{})
	select {
	case w.s.queue <- sealed{w: w, done: done}:
	case <-w.s.end:
		return fmt.Errorf("ending a track on a closed sealer: %w", yesline.Unavailable)
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
	case <-w.s.end:
		return fmt.Errorf("ending a track on a closed sealer: %w", yesline.Unavailable)
	case <-ctx.Done():
		return ctx.Err()
	}
	return w.commitEnd(ctx)
}

// commitEnd is repeated until it succeeds; only the first success counts.
func (w *Writer) commitEnd(ctx context.Context) error {
	w.mu.Lock()
	over, m, failed := w.over, w.synced, w.failed
	w.mu.Unlock()
	if over {
		return nil
	}
	state, problem := Closed, ""
	switch {
	case errors.Is(failed, yesline.Full):
		state, problem = Full, "the disk was full"
	case failed != nil:
		problem = "writing failed"
	}
	destroyed, err := endTrack(ctx, w.s.content, w.s.jobs, w.track.ID, state, problem, m)
	if err != nil {
		return fmt.Errorf("ending %s: %w", w.track.ID, err)
	}
	if destroyed {
		return w.abandon(ctx)
	}
	w.leave()
	return nil
}

// abandon is for a track that was destroyed while it was being written: what
// was written since then goes too.
func (w *Writer) abandon(ctx context.Context) error {
	w.file.Lock()
	defer w.file.Unlock()
	w.mu.Lock()
	w.fail(fmt.Errorf("a track that was destroyed: %w", yesline.Denied))
	w.mu.Unlock()
	if err := w.s.blobs.Delete(ctx, voiceBlob(w.track.ID)); err != nil {
		return fmt.Errorf("deleting what was written of %s: %w", w.track.ID, err)
	}
	w.leave()
	return nil
}

func (w *Writer) leave() {
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	w.s.mu.Lock()
	delete(w.s.open, w.track.ID)
	w.s.mu.Unlock()
}

// fail ends the recording; the next Put says why. w.mu is held.
func (w *Writer) fail(err error) {
	if w.failed == nil {
		w.failed = err
	}
	w.seal, w.settled = nil, true
}

// drain is the one goroutine that writes: what is queued every 50 ms. It has all
// that was written synced once a second, and syncs at once where a track ends.
func (s *Sealer) drain() {
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	dirty := map[*Writer]bool{}
	synced := time.Now()
	var syncing sync.WaitGroup // a disk that is slow to sync must not keep seconds from being written
	idle := make(chan struct{}, 1)
	idle <- struct{}{}
	defer syncing.Wait()
	for ending := false; !ending; {
		select {
		case <-tick.C:
		case <-s.end:
			ending = true
		}
		began := time.Now()
		for range len(s.queue) {
			q := <-s.queue
			if q.done != nil {
				q.w.sync()
				q.w.settle()
				delete(dirty, q.w)
				close(q.done)
				continue
			}
			q.w.write(q.n, q.slot)
			slots.Put(q.slot)
			dirty[q.w] = true
		}
		s.took.Store(int64(time.Since(began)))
		if ending {
			syncing.Wait()
			s.syncAll(dirty)
			return
		}
		if time.Since(synced) < syncEvery || len(dirty) == 0 {
			continue
		}
		select {
		case <-idle:
			written := dirty
			dirty, synced = map[*Writer]bool{}, time.Now()
			syncing.Go(func() {
				s.syncAll(written)
				idle <- struct{}{}
			})
		default: // the one before is not done
		}
	}
}

// together is from how many written tracks on one sync of the whole store is
// cheaper than one of each.
const together = 8

// syncAll syncs what was written to these tracks: all at once where the store
// can and that is worth it. If it fails, each is synced alone, so that only
// those whose bytes are lost end there.
func (s *Sealer) syncAll(dirty map[*Writer]bool) {
	store, can := s.blobs.(interface{ SyncAll(context.Context) error })
	if !can || len(dirty) < together {
		for w := range dirty {
			w.sync()
		}
		return
	}
	before := make(map[*Writer]mark, len(dirty)) // what comes meanwhile is the next one's
	for w := range dirty {
		w.mu.Lock()
		before[w] = w.written
		w.mu.Unlock()
	}
	if store.SyncAll(context.Background()) != nil {
		for w := range dirty {
			w.sync()
		}
		return
	}
	for w, m := range before {
		w.mu.Lock()
		if !w.over && w.failed == nil && w.synced.floor < m.floor { // its end may have been synced already
			w.synced = m
		}
		w.mu.Unlock()
	}
}

func (w *Writer) write(n int64, slot *[slotSize]byte) {
	w.file.Lock()
	defer w.file.Unlock()
	w.mu.Lock()
	failed := w.failed
	w.mu.Unlock()
	if failed != nil {
		return
	}
	err := w.s.blobs.WriteAt(context.Background(), voiceBlob(w.track.ID), slot[:], (n+1)*slotSize)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.fail(fmt.Errorf("writing second %d of a track: %w", n, err))
		return
	}
	w.written = mark{n + 1, w.written.sealed + 1}
}

// sync keeps its error as what ended the recording.
func (w *Writer) sync() {
	w.file.Lock()
	defer w.file.Unlock()
	w.mu.Lock()
	written, over := w.written, w.over
	w.mu.Unlock()
	if over {
		return
	}
	err := w.s.blobs.Sync(context.Background(), voiceBlob(w.track.ID))
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.fail(fmt.Errorf("syncing a track: %w", err))
		return
	}
	w.synced = written
}

func (w *Writer) settle() {
	w.mu.Lock()
	w.settled = true
	w.mu.Unlock()
}

// floors commits, every 10 s and for all open tracks at once, how many seconds
// must be there: a cut below that is an attack and no crash. It also commits
// the ends that a full disk made or that failed to commit.
func (s *Sealer) floors() {
	tick := time.NewTicker(floorEvery)
	defer tick.Stop()
	for ending := false; !ending; {
		select {
		case <-tick.C:
		case <-s.end:
			ending = true
		}
		ctx, cancel := context.WithTimeout(context.Background(), commitTime)
		s.commitFloors(ctx) // what fails is tried again by the next round; the old floors stand
		cancel()
	}
}

func (s *Sealer) commitFloors(ctx context.Context) error {
	s.mu.Lock()
	open := slices.Collect(maps.Values(s.open))
	s.mu.Unlock()
	var errs []error
	grown := map[*Writer]mark{}
	for _, w := range open {
		w.mu.Lock()
		settled, synced, moved := w.settled, w.synced, w.synced != w.committed
		w.mu.Unlock()
		if settled {
			errs = append(errs, w.commitEnd(ctx))
		} else if moved {
			grown[w] = synced
		}
	}
	destroyed, err := raiseFloors(ctx, s.content, grown)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for w, m := range grown {
		w.mu.Lock()
		w.committed = m
		w.mu.Unlock()
	}
	for _, w := range destroyed {
		errs = append(errs, w.abandon(ctx))
	}
	return errors.Join(errs...)
}
