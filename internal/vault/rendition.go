package vault

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audit"
	"yesline/internal/consent"
	"yesline/internal/db"
)

// RenditionMost is how long a derived object may be, in bytes.
const RenditionMost = 4 << 20

// SealRendition keeps what was derived from a track under the track's own key,
// so that it goes when the voice goes. The grant is to derive from that
// person's voice of that call. What is there already stays as it is.
func (o *Opener) SealRendition(ctx context.Context, g consent.Grant, track yesline.TrackID, rendition string, data []byte) error {
	return o.derive(ctx, g, track, derived{rendition: rendition, data: data})
}

// SealPeaks is SealRendition for the waveform, together with what was counted
// as it was drawn: how many milliseconds of the track are speech. The count is
// in the entry of the log that closes the waveform, and in the books, or there
// is neither. It is never more than the track is long.
func (o *Opener) SealPeaks(ctx context.Context, g consent.Grant, track yesline.TrackID, data []byte, speechMillis int64) error {
	return o.derive(ctx, g, track, derived{rendition: Peaks, data: data, measured: true, speechMillis: speechMillis})
}

// derived is what is made of a voice.
type derived struct {
	rendition    string
	data         []byte
	measured     bool // and so is how much of the voice is speech
	speechMillis int64
}

func (o *Opener) derive(ctx context.Context, g consent.Grant, track yesline.TrackID, d derived) error {
	r, err := readRow(ctx, o.Content, track)
	if err != nil {
		return err
	}
	if err := r.allowed(g, consent.Derive); err != nil {
		return err
	}
	if err := o.sealRendition(ctx, r, d); err != nil {
		return fmt.Errorf("sealing the %s of %s: %w", d.rendition, track, err)
	}
	return nil
}

func (o *Opener) sealRendition(ctx context.Context, r *row, d derived) error {
	switch {
	case d.rendition == Voice || kinds[d.rendition] == 0:
		return fmt.Errorf("no such rendition: %w", yesline.Invalid)
	case len(d.data) > RenditionMost:
		return fmt.Errorf("%d bytes, more than %d: %w", len(d.data), RenditionMost, yesline.Invalid)
	case !r.Finished:
		return fmt.Errorf("a track that is not finished yet: %w", yesline.Unavailable)
	case d.speechMillis < 0 || d.speechMillis > 1000*r.Seconds:
		return fmt.Errorf("%d ms of speech in %d s: %w", d.speechMillis, r.Seconds, yesline.Invalid)
	}
	if _, _, err := o.closedRendition(ctx, r.ID, d.rendition); !errors.Is(err, yesline.NotFound) {
		return err
	}
	// The object has a name and a salt of its own, so two who seal at once
	// never write one file or use one key.
	object := string(r.ID) + "." + strings.ToLower(rand.Text())
	key, err := o.Keys.OpenTrack(ctx, r.Program, r.Person, r.ID)
	if err != nil {
		return err
	}
	file, leaves, err := sealPieces(key.Bytes(), newHeader(byte(pieces), d.rendition), r.place(d.rendition), d.data)
	if err != nil {
		return err
	}
	if err := o.beginRendition(ctx, r.ID, d.rendition, object); err != nil {
		return err
	}
	err = errors.Join(o.Blobs.WriteAt(ctx, object, file, 0), o.Blobs.Sync(ctx, object))
	kept := false
	if err == nil {
		kept, err = o.closeRendition(ctx, r, d, object, leaves)
	}
	if kept {
		return nil
	}
	return errors.Join(err, o.dropRendition(context.WithoutCancel(ctx), object))
}

// sealPieces makes the whole file of a derived object.
func sealPieces(dataKey []byte, h header, p place, data []byte) (file []byte, leaves []hash, err error) {
	file = h.slot()
	seal, err := newSeal(dataKey, file, p)
	if err != nil {
		return nil, nil, err
	}
	var slot [slotSize]byte
	for n := int64(0); len(data) > 0; n++ {
		part := data[:min(len(data), MaxPayload)]
		data = data[len(part):]
		if err := seal.second(&slot, n, &Second{Codec: pieces, Payload: part}); err != nil {
			return nil, nil, err
		}
		file = append(file, slot[:]...)
		leaves = append(leaves, leafHash(slot[:]))
	}
	return file, leaves, nil
}

// beginRendition writes the name down before there is a file of that name, so
// that whoever shreds the track finds it.
func (o *Opener) beginRendition(ctx context.Context, track yesline.TrackID, rendition, object string) error {
	return o.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		gone, err := isDestroyed(ctx, tx, track)
		if err != nil {
			return err
		}
		if gone {
			return fmt.Errorf("a track: %w", yesline.NotFound)
		}
		_, err = tx.Exec(ctx, `INSERT INTO vault_renditions (object, track, rendition, state, ref_db, ref_leaf, created)
			VALUES ($1, $2, $3, 'open', '', '', $4)`, object, string(track), rendition, db.Millis(time.Now()))
		return err
	})
}

// closeRendition logs the object and makes it the track's, unless another was
// first or the track is gone.
func (o *Opener) closeRendition(ctx context.Context, r *row, d derived, object string, leaves []hash) (kept bool, err error) {
	root := treeRoot(leaves)
	err = o.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		kept = false
		gone, err := isDestroyed(ctx, tx, r.ID)
		if err != nil || gone {
			return err
		}
		var others int64
		if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM vault_renditions WHERE track = $1 AND rendition = $2 AND state = 'closed'`,
			string(r.ID), d.rendition).Scan(&others); err != nil || others > 0 {
			return err
		}
		detail := map[string]string{"rendition": d.rendition, "seconds": strconv.Itoa(len(leaves)), "bytes": strconv.Itoa(len(d.data)), "root": hex.EncodeToString(root[:])}
		if d.measured {
			detail["speech_ms"] = strconv.FormatInt(d.speechMillis, 10)
			if _, err := tx.Exec(ctx, `UPDATE vault_tracks SET speech = $1 WHERE id = $2`, d.speechMillis, string(r.ID)); err != nil {
				return err
			}
		}
		ref, err := o.Log.Record(ctx, tx, audit.Entry{Program: r.Program, Actor: finisher.String(), Verb: drawnBy, Object: string(r.ID), Result: "done",
			Detail: detail, Subjects: []yesline.PersonID{r.Person}})
		if err != nil {
			return err
		}
		kept = true
		_, err = tx.Exec(ctx, `UPDATE vault_renditions SET state = 'closed', ref_db = $1, ref_leaf = $2 WHERE object = $3`, ref.DB, string(ref.Leaf), object)
		return err
	})
	return kept && err == nil, err
}

// dropRendition takes away an object that did not become the track's. One that
// did, though the answer of its commit was lost, stays.
func (o *Opener) dropRendition(ctx context.Context, object string) error {
	var closed int64
	if err := o.Content.QueryRow(ctx, `SELECT COUNT(*) FROM vault_renditions WHERE object = $1 AND state = 'closed'`, object).Scan(&closed); err != nil || closed > 0 {
		return err
	}
	if err := o.Blobs.Delete(ctx, object); err != nil {
		return err
	}
	return o.Content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM vault_renditions WHERE object = $1`, object)
		return err
	})
}

func (o *Opener) closedRendition(ctx context.Context, track yesline.TrackID, rendition string) (object string, ref audit.Ref, err error) {
	err = o.Content.QueryRow(ctx, `SELECT object, ref_db, ref_leaf FROM vault_renditions WHERE track = $1 AND rendition = $2 AND state = 'closed'`,
		string(track), rendition).Scan(&object, &ref.DB, &ref.Leaf)
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("the %s of a track: %w", rendition, yesline.NotFound)
	}
	return object, ref, err
}

// ReadRendition gives a derived object, whole. It needs what Read needs.
func (o *Opener) ReadRendition(ctx context.Context, p access.Permit, track yesline.TrackID, rendition string) ([]byte, error) {
	r, generation, err := o.permitted(ctx, p, track)
	if err != nil {
		return nil, err
	}
	return o.readRendition(ctx, r, generation, rendition)
}

func (o *Opener) readRendition(ctx context.Context, r *row, generation int64, rendition string) ([]byte, error) {
	object, ref, err := o.closedRendition(ctx, r.ID, rendition)
	if err != nil {
		return nil, err
	}
	t, err := o.tree(object, ref, generation, func() (*tree, error) {
		e, err := o.entry(ctx, r, ref, drawnBy, rendition)
		if err != nil {
			return nil, err
		}
		return parseTree(e)
	})
	if err != nil {
		return nil, err
	}
	seal, err := sealOf(ctx, func(ctx context.Context) (contentKey, error) { return o.openKey(ctx, r, object, rendition) })
	if err != nil {
		return nil, err
	}
	bytes := make([]byte, t.seconds*slotSize)
	if err := readFull(ctx, o.Blobs, object, bytes, slotSize); err != nil {
		return nil, err
	}
	data, err := openPieces(seal, bytes, t)
	if err != nil {
		return nil, fmt.Errorf("the %s of %s: %w", rendition, r.ID, err)
	}
	return data, nil
}

func openPieces(seal *seal, bytes []byte, t *tree) ([]byte, error) {
	leaves := make([]hash, t.seconds)
	for i := range leaves {
		leaves[i] = leafHash(bytes[i*slotSize : (i+1)*slotSize])
	}
	if treeRoot(leaves) != t.root {
		return nil, fmt.Errorf("its pieces against the log: %w", yesline.Tampered)
	}
	data := make([]byte, 0, t.bytes)
	for i := range leaves {
		s, err := seal.open(bytes[i*slotSize:(i+1)*slotSize], int64(i))
		if err != nil {
			return nil, err
		}
		data = append(data, s.Payload...)
	}
	if int64(len(data)) != t.bytes {
		return nil, fmt.Errorf("its length against the log: %w", yesline.Tampered)
	}
	return data, nil
}
