package vault

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audio"
	"yesline/internal/audit"
	"yesline/internal/db"
	"yesline/internal/session"
)

const (
	readMost  = 128            // seconds in one Read: 1 MiB
	treeLife  = time.Minute    // how long a checked tree is trusted
	treesMost = 1 << 20        // leaves held in all: 32 MiB
	closedBy  = "track.closed" // the entry that gives a track's length and root
	drawnBy   = "rendition.closed"
)

// finisher is who closes tracks.
var finisher = session.Service("finish")

// Opener takes voices out, for whoever has a Permit. It also closes tracks,
// which takes opening them. Its zero value opens nothing.
type Opener struct {
	Content *db.DB
	Jobs    *db.Jobs
	Blobs   Blobs
	Keys    opener
	Log     logbook

	// Ask is the gate's: the Opener asks it like everybody before it finishes
	// a track.
	Ask func(ctx context.Context, who session.Principal, v access.Verb, o access.Object, detail map[string]string) (access.Permit, error)
	// Standing is how consent to keep this track stands now. It is asked again
	// at each reading, because it may have changed since the Permit.
	Standing func(ctx context.Context, track yesline.TrackID) (generation int64, kept bool, err error)
	// Gone tells when a key was destroyed anywhere, and whether this node can
	// see that. With it, what was opened is remembered for a moment; without
	// it, nothing is.
	Gone func() (revision int64, seen bool)
	// After names the jobs that follow a finished track, each with its id.
	After []string

	once   sync.Once
	recent recent
	slots  pages

	mu    sync.Mutex // guards trees and held
	trees map[string]*tree
	held  int // leaves in trees
}

// logbook is what the vault needs of the audit log.
type logbook interface {
	Record(ctx context.Context, tx *db.Tx, e audit.Entry) (audit.Ref, error)
	Find(ctx context.Context, ref audit.Ref) (audit.Entry, error)
}

// tree is what the log says of an object, and the leaves that were checked
// against it.
type tree struct {
	closing    audit.Ref
	generation int64
	until      time.Time
	seconds    int64
	leaves     []hash // of a voice; a derived object is always read whole
	root       hash
	damaged    map[int64]bool
	bytes      int64 // of a derived object
}

// Read gives seconds from to from+count-1 of a track, fewer at its end. An
// absent second has nothing Present and no Payload. The permit is to Listen
// (or, for a machine, to Finish) and counts only while consent stands as it
// did when it was given: yesline.Conflict when it moved, yesline.NotFound once
// the track is not kept or destroyed, yesline.Unavailable until it is
// finished, yesline.Tampered when a byte differs from what the log says.
func (o *Opener) Read(ctx context.Context, p access.Permit, track yesline.TrackID, from, count int64) ([]Second, error) {
	r, generation, err := o.permitted(ctx, p, track)
	if err != nil {
		return nil, err
	}
	if from < 0 || count < 1 || count > readMost {
		return nil, fmt.Errorf("reading %d seconds from %d; at most %d are read at once: %w", count, from, readMost, yesline.Invalid)
	}
	return o.read(ctx, r, generation, from, count)
}

// Length gives a track's length in seconds, as the log says.
func (o *Opener) Length(ctx context.Context, p access.Permit, track yesline.TrackID) (seconds int64, err error) {
	r, generation, err := o.permitted(ctx, p, track)
	if err != nil {
		return 0, err
	}
	t, err := o.voiceTree(ctx, r, generation)
	if err != nil {
		return 0, err
	}
	return t.seconds, nil
}

// permitted is the way in, for each reading anew: the permit, then the row of
// that owner, then consent as it stands now.
func (o *Opener) permitted(ctx context.Context, p access.Permit, track yesline.TrackID) (*row, int64, error) {
	item, err := p.Allows(access.Listen, "track", string(track))
	if err != nil && p.Who().Kind() == session.Machine {
		item, err = p.Allows(access.Finish, "track", string(track))
	}
	if err != nil {
		return nil, 0, err
	}
	r, err := o.remembered().row(track, func() (*row, error) { return readRow(ctx, o.Content, track) })
	if err != nil {
		return nil, 0, err
	}
	if r.Person != item.Owner || r.Program != item.Program || r.State == Destroyed {
		return nil, 0, fmt.Errorf("a track: %w", yesline.NotFound)
	}
	generation, err := o.stands(ctx, track, item.Generation)
	return r, generation, err
}

// stands asks how consent stands and refuses what it no longer covers.
func (o *Opener) stands(ctx context.Context, track yesline.TrackID, decided int64) (int64, error) {
	if o.Standing == nil {
		return 0, fmt.Errorf("nobody tells how consent stands: %w", yesline.Unavailable)
	}
	generation, kept, err := o.Standing(ctx, track)
	switch {
	case err != nil:
		return 0, fmt.Errorf("asking how consent stands: %w", err)
	case !kept:
		return 0, fmt.Errorf("a track: %w", yesline.NotFound)
	case generation != decided:
		return 0, fmt.Errorf("consent changed since the permit: %w", yesline.Conflict)
	}
	return generation, nil
}

// Hear gives the same seconds to hear, one by one. Of a voice in Opus it begins
// with the second before them, where there is one: what they sound like hangs
// on it. What hear is given is wiped when Hear returns, so it keeps nothing of
// it. It may be called for some of them before an error.
func (o *Opener) Hear(ctx context.Context, p access.Permit, track yesline.TrackID, from, count int64, hear func(n int64, s *Second)) error {
	r, generation, err := o.permitted(ctx, p, track)
	if err != nil {
		return err
	}
	if from < 0 || count < 1 || count > readMost {
		return fmt.Errorf("hearing %d seconds from %d; at most %d are read at once: %w", count, from, readMost, yesline.Invalid)
	}
	if r.Codec == audio.Opus && from > 0 {
		from, count = from-1, count+1
	}
	slots := o.slots.take(count * slotSize)
	defer o.slots.give(slots)
	return o.each(ctx, r, generation, from, count, slots, hear)
}

func (o *Opener) read(ctx context.Context, r *row, generation, from, count int64) ([]Second, error) {
	var seconds []Second
	err := o.each(ctx, r, generation, from, count, make([]byte, count*slotSize), func(_ int64, s *Second) { seconds = append(seconds, *s) })
	if err != nil {
		return nil, err
	}
	return seconds, nil
}

// each reads the slots of seconds from to from+count-1, those that the track
// has, and opens them where they lie.
func (o *Opener) each(ctx context.Context, r *row, generation, from, count int64, slots []byte, hear func(n int64, s *Second)) error {
	t, err := o.voiceTree(ctx, r, generation)
	if err != nil {
		return err
	}
	count = min(count, t.seconds-from)
	if count <= 0 {
		return nil
	}
	seal, err := o.remembered().voice(ctx, r, func(ctx context.Context) (contentKey, error) {
		return o.openKey(ctx, r, voiceBlob(r.ID), Voice)
	})
	if err != nil {
		return err
	}
	slots = slots[:count*slotSize]
	if err := readFull(ctx, o.Blobs, voiceBlob(r.ID), slots, (from+1)*slotSize); err != nil {
		return err
	}
	var s Second
	for i := range count {
		var err error
		s, err = t.second(seal, from+i, slots[i*slotSize:(i+1)*slotSize])
		if err != nil {
			return err
		}
		if s.Payload == nil {
			s.Codec = r.Codec
		}
		hear(from+i, &s)
	}
	return nil
}

// pages are buffers for slots that were used before, wiped: a window needs one
// for a moment, and what was said does not wait for the garbage collector.
type pages struct{ pool sync.Pool }

const pageSize = 16 * slotSize

func (p *pages) take(size int64) []byte {
	if size > pageSize {
		return make([]byte, size)
	}
	if b, ok := p.pool.Get().(*[pageSize]byte); ok {
		return b[:size]
	}
	return new([pageSize]byte)[:size]
}

func (p *pages) give(b []byte) {
	clear(b)
	if cap(b) == pageSize {
		p.pool.Put((*[pageSize]byte)(b[:pageSize]))
	}
}

// second checks one slot against its leaf and opens it.
func (t *tree) second(seal *seal, n int64, slot []byte) (Second, error) {
	if isZero(slot) {
		if t.leaves[n] != absent {
			return Second{}, tampered(n)
		}
		return Second{}, nil
	}
	if leafHash(slot) != t.leaves[n] {
		return Second{}, tampered(n)
	}
	s, err := seal.open(slot, n)
	if err != nil && t.damaged[n] {
		return Second{}, nil // as the finisher found it, and the log says so
	}
	return s, err
}

// remembered is the memory of what was opened.
func (o *Opener) remembered() *recent {
	o.once.Do(func() { o.recent.gone = o.Gone })
	return &o.recent
}

// Close forgets the keys that were opened. Nothing is remembered after it.
func (o *Opener) Close() { o.remembered().close() }

// openKey unwraps the track's key and derives that of the object. The caller
// forgets it.
func (o *Opener) openKey(ctx context.Context, r *row, blob, rendition string) (contentKey, error) {
	key, err := o.Keys.OpenTrack(ctx, r.Program, r.Person, r.ID)
	if err != nil {
		return contentKey{}, fmt.Errorf("opening the key of %s: %w", r.ID, err)
	}
	slot0, err := o.header(ctx, blob)
	if err != nil {
		return contentKey{}, err
	}
	return newContentKey(key.Bytes(), slot0, r.place(rendition))
}

func (o *Opener) header(ctx context.Context, blob string) ([]byte, error) {
	slot0 := make([]byte, slotSize)
	return slot0, readFull(ctx, o.Blobs, blob, slot0, 0)
}

// readFull reads p and takes what lies beyond the end, or in no blob at all,
// for zeros: what should be there is known from the log and not from the file.
func readFull(ctx context.Context, blobs Blobs, name string, p []byte, off int64) error {
	n, err := blobs.ReadAt(ctx, name, p, off)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, yesline.NotFound) {
		return fmt.Errorf("reading an object: %w", err)
	}
	clear(p[n:])
	return nil
}

// voiceTree gives what the log says of a finished track, with its leaves
// checked. It is kept a minute at most, and dropped when consent moves.
func (o *Opener) voiceTree(ctx context.Context, r *row, generation int64) (*tree, error) {
	return o.tree(voiceBlob(r.ID), r.Closing, generation, func() (*tree, error) {
		e, err := o.entry(ctx, r, r.Closing, closedBy, Voice)
		if err != nil {
			return nil, err
		}
		t, err := parseTree(e)
		if err != nil {
			return nil, err
		}
		if t.leaves, err = readLeaves(ctx, o.Blobs, r.ID, t.seconds); err != nil {
			return nil, err
		}
		if treeRoot(t.leaves) != t.root {
			return nil, fmt.Errorf("the leaves of %s against the log: %w", r.ID, yesline.Tampered)
		}
		return t, nil
	})
}

func (o *Opener) tree(name string, closing audit.Ref, generation int64, read func() (*tree, error)) (*tree, error) {
	if closing.Leaf == "" {
		return nil, fmt.Errorf("a track that is not finished yet: %w", yesline.Unavailable)
	}
	now := time.Now()
	o.mu.Lock()
	t := o.trees[name]
	o.mu.Unlock()
	if t != nil && t.closing == closing && t.generation == generation && now.Before(t.until) {
		return t, nil
	}
	t, err := read()
	if err != nil {
		return nil, err
	}
	t.closing, t.generation, t.until = closing, generation, now.Add(treeLife)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.trees == nil || o.held > treesMost {
		o.trees, o.held = map[string]*tree{}, 0
	}
	o.trees[name] = t
	o.held += len(t.leaves) + 1
	return t, nil
}

// entry finds the closing entry and checks that it speaks of this very object:
// a row that points to another track's entry opens nothing.
func (o *Opener) entry(ctx context.Context, r *row, ref audit.Ref, verb, rendition string) (audit.Entry, error) {
	e, err := o.Log.Find(ctx, ref)
	if err != nil {
		return e, fmt.Errorf("finding the closing of %s in the log: %w", r.ID, err)
	}
	if e.Verb != verb || e.Object != string(r.ID) || e.Program != r.Program || e.Result != "done" || e.Detail["rendition"] != rendition {
		return e, fmt.Errorf("the closing of %s in the log is of something else: %w", r.ID, yesline.Tampered)
	}
	return e, nil
}

// parseTree reads what an entry says of an object: of a voice its seconds, of a
// derived object its pieces and how many bytes they hold.
func parseTree(e audit.Entry) (*tree, error) {
	seconds, err := strconv.ParseInt(e.Detail["seconds"], 10, 64)
	root, rootErr := hex.DecodeString(e.Detail["root"])
	damaged, damageErr := parseSpans(e.Detail["damaged"])
	most, length, lengthErr := int64(MaxSeconds), int64(0), error(nil)
	if e.Detail["rendition"] != Voice {
		most = RenditionMost/MaxPayload + 1
		length, lengthErr = strconv.ParseInt(e.Detail["bytes"], 10, 64)
	}
	if errors.Join(err, rootErr, damageErr, lengthErr) != nil || seconds < 0 || seconds > most || len(root) != len(hash{}) || length < 0 || length > RenditionMost {
		return nil, fmt.Errorf("an entry that closes a track: %w", yesline.Tampered)
	}
	return &tree{seconds: seconds, root: hash(root), damaged: damaged, bytes: length}, nil
}

// readLeaves reads the leaf hashes that were kept beside a voice. Nobody
// trusts them before their root was compared with the log's.
func readLeaves(ctx context.Context, blobs Blobs, track yesline.TrackID, count int64) ([]hash, error) {
	b := make([]byte, count*int64(len(hash{})))
	read, err := blobs.ReadAt(ctx, leavesBlob(track), b, 0)
	if errors.Is(err, yesline.NotFound) { // the disk was full when the voice was finished
		return hashSeconds(ctx, blobs, voiceBlob(track), count)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading the leaves: %w", err)
	}
	clear(b[read:])
	leaves := make([]hash, count)
	for i := range leaves {
		copy(leaves[i][:], b[i*len(hash{}):])
	}
	return leaves, nil
}

// Recover takes every track that a crash left open for ended, with the job
// that finishes it. It runs at the start, before anything is sealed: an open
// track then has no writer. (Where several nodes write, it must ask whose.)
func (o *Opener) Recover(ctx context.Context) error {
	for {
		rows, err := scanRows(o.Content.Query(ctx, `SELECT `+rowColumns+` FROM vault_tracks WHERE state = 'open' ORDER BY id LIMIT $1`, db.MaxIn))
		if err != nil {
			return fmt.Errorf("looking for tracks that a crash left open: %w", err)
		}
		for _, r := range rows {
			if _, err := endTrack(ctx, o.Content, o.Jobs, r.ID, Recovered, "", r.mark); err != nil {
				return fmt.Errorf("recovering %s: %w", r.ID, err)
			}
		}
		if len(rows) < db.MaxIn {
			return nil
		}
	}
}

// Finish closes a track for good: it opens every second to find which is the
// last, writes length and root into the log, has the key wrapped anew, and
// sets off what follows. It handles the job "finish"; doing it again changes
// nothing.
func (o *Opener) Finish(ctx context.Context, track yesline.TrackID) error {
	r, err := readRow(ctx, o.Content, track)
	if err != nil {
		return fmt.Errorf("finishing a track: %w", err)
	}
	switch {
	case r.State == Destroyed || r.settled:
		return nil
	case r.State == Open:
		return fmt.Errorf("finishing %s, which is still open: %w", track, yesline.Conflict)
	}
	err = o.finish(ctx, r)
	if err == nil {
		return nil
	}
	if now, again := readRow(ctx, o.Content, track); again == nil && now.State == Destroyed {
		return nil // meanwhile; the Shredder does the rest
	}
	return fmt.Errorf("finishing %s: %w", track, err)
}

func (o *Opener) finish(ctx context.Context, r *row) error {
	if !r.Finished {
		if err := o.close(ctx, r.ID); err != nil {
			return err
		}
	}
	if err := o.Keys.CloseTrack(ctx, r.Program, r.Person, r.ID); err != nil {
		return fmt.Errorf("wrapping its key anew: %w", err)
	}
	return o.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE vault_tracks SET finished = $1 WHERE id = $2 AND finished = 0 AND state <> 'destroyed'`, db.Millis(time.Now()), string(r.ID))
		if err != nil || n == 0 {
			return err
		}
		for _, job := range o.After {
			if err := o.Jobs.Enqueue(ctx, tx, job, string(r.ID)); err != nil {
				return err
			}
		}
		return nil
	})
}

// close asks the gate, opens every second, and writes down what is there.
func (o *Opener) close(ctx context.Context, track yesline.TrackID) error {
	if o.Ask == nil {
		return fmt.Errorf("nobody to ask for a permit: %w", yesline.Unavailable)
	}
	p, err := o.Ask(ctx, finisher, access.Finish, access.Object{Kind: "track", ID: string(track)}, nil)
	if err != nil {
		return err
	}
	r, _, err := o.permitted(ctx, p, track)
	if err != nil {
		return err
	}
	return o.closeRow(ctx, r)
}

func (o *Opener) closeRow(ctx context.Context, r *row) error {
	found, err := o.look(ctx, r)
	if err != nil {
		return err
	}
	if err := o.keepLeaves(ctx, r.ID, found.leaves); err != nil {
		return fmt.Errorf("keeping the leaves: %w", err)
	}
	root, destroyed := treeRoot(found.leaves), false
	err = o.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		now, err := readRowIn(ctx, tx, r.ID)
		if err != nil {
			return err
		}
		if destroyed = now.State == Destroyed; destroyed || now.Finished {
			return nil
		}
		ref, err := o.Log.Record(ctx, tx, audit.Entry{Program: r.Program, Actor: finisher.String(), Verb: closedBy, Object: string(r.ID),
			Result: "done", Detail: found.detail(now, root), Subjects: []yesline.PersonID{r.Person}})
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE vault_tracks SET seconds = $1, root = $2, ref_db = $3, ref_leaf = $4 WHERE id = $5`,
			int64(len(found.leaves)), root[:], ref.DB, string(ref.Leaf), string(r.ID))
		return err
	})
	if err == nil && destroyed {
		return o.Blobs.Delete(ctx, leavesBlob(r.ID))
	}
	return err
}

// keepLeaves keeps the leaf hashes beside the voice, so that a range is checked
// without reading all of it. On a full disk there are none, and whoever reads
// makes them of the voice: they are compared with the log either way.
func (o *Opener) keepLeaves(ctx context.Context, track yesline.TrackID, leaves []hash) error {
	b := make([]byte, 0, len(leaves)*len(hash{}))
	for _, l := range leaves {
		b = append(b, l[:]...)
	}
	err := o.Blobs.WriteAt(ctx, leavesBlob(track), b, 0)
	if err == nil {
		err = o.Blobs.Sync(ctx, leavesBlob(track))
	}
	if errors.Is(err, yesline.Full) {
		return o.Blobs.Delete(ctx, leavesBlob(track))
	}
	return err
}

// look opens what there is of a track. A voice whose header does not match, or
// that is not there, has no second that opens.
func (o *Opener) look(ctx context.Context, r *row) (*found, error) {
	// What the log will promise survives a power cut first.
	if err := o.Blobs.Sync(ctx, voiceBlob(r.ID)); err != nil && !errors.Is(err, yesline.NotFound) {
		return nil, err
	}
	key, err := o.Keys.OpenTrack(ctx, r.Program, r.Person, r.ID)
	if err != nil {
		return nil, fmt.Errorf("opening its key: %w", err)
	}
	slot0, err := o.header(ctx, voiceBlob(r.ID))
	if err != nil {
		return nil, err
	}
	seal, err := newSeal(key.Bytes(), slot0, r.place(Voice))
	if err != nil && !errors.Is(err, yesline.Tampered) {
		return nil, err
	}
	return scan(ctx, o.Blobs, voiceBlob(r.ID), seal)
}
