// Package vault keeps voices sealed: a Grant is needed to put a byte in, a
// Permit to take one out, and there is no third door.
//
// A track is one voice of one call. Its object is a file of 8,192-byte slots,
// one for each second, sealed as the second ends (docs/format.md). The Sealer
// writes and cannot open; the Opener closes tracks into the log and reads them
// against it; the Shredder destroys. Each has its own hands: app gives a room
// the one it needs.
package vault

import (
	"context"
	"embed"
	"fmt"
	"strings"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/audit"
	"yesline/internal/db"
	"yesline/internal/keys"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrate brings the vault's tables in the content database up to date.
func Migrate(ctx context.Context, content *db.DB) error {
	return content.Migrate(ctx, "vault", migrations)
}

// Track names one voice of one call. Rendition is "voice" or "".
type Track struct {
	ID        yesline.TrackID
	Call      yesline.CallID
	Leg       yesline.LegID
	Program   yesline.ProgramID
	Person    yesline.PersonID
	Codec     audio.Codec // that the track begins with; one that begins in Opus is in Opus throughout, another never
	Rendition string
}

func (t Track) check() error {
	switch {
	case !yesline.IsID("trk", string(t.ID)), !yesline.IsID("cal", string(t.Call)), !yesline.IsID("prg", string(t.Program)),
		!yesline.IsID("per", string(t.Person)), !yesline.IsID("leg", string(t.Leg)):
		return fmt.Errorf("a track without its ids: %w", yesline.Invalid)
	case t.Rendition != "" && t.Rendition != Voice:
		return fmt.Errorf("a track that is not a voice: %w", yesline.Invalid)
	}
	return nil
}

// place is where the track's rendition belongs, which its seal is bound to.
func (t Track) place(rendition string) place {
	return place{string(t.Program), string(t.Call), string(t.ID), rendition}
}

// Second is one second of a track, or one piece of a derived object.
type Second struct {
	Codec   audio.Codec
	Present [13]byte // bit i%8 of byte i/8: the 10 ms unit i (0 to 99) was received; empty for an absent second
	Payload []byte   // at most 8,000 bytes; G.711: byte i is sample i, what is absent is the codec's silence; Opus: audio.Packets
}

// Blobs keep sealed bytes by name and know nothing of what they hold. A name
// is an id that CheckName accepts. Drivers: disk, and vaulttest's memory.
type Blobs interface {
	// WriteAt writes all of p at off and makes the blob when it is new; what
	// lies between is zero. yesline.Full when there is no room: then any part
	// of p may have been written.
	WriteAt(ctx context.Context, name string, p []byte, off int64) error
	// ReadAt is io.ReaderAt's: short only with an error, io.EOF at the end.
	// yesline.NotFound when there is no such blob.
	ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error)
	// Sync returns when all that was written to the blob survives a power cut.
	Sync(ctx context.Context, name string) error
	// Delete takes the blob away, durably. An absent one is no error.
	Delete(ctx context.Context, name string) error
}

// MaxBlob is the most bytes a blob may have: the longest track.
const MaxBlob = (MaxSeconds + 1) * slotSize

// CheckName refuses what is not the name of a blob: a track's id, or that and
// a dot and at most 32 letters of the same alphabet.
func CheckName(name string) error {
	id, part, dotted := strings.Cut(name, ".")
	if !yesline.IsID("trk", id) || dotted && (part == "" || len(part) > 32 || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz234567") != "") {
		return fmt.Errorf("the name of a blob: %w", yesline.Invalid)
	}
	return nil
}

// CheckSpan refuses to write where no blob may reach.
func CheckSpan(off, length int64) error {
	if off < 0 || length < 0 || off > MaxBlob || length > MaxBlob-off {
		return fmt.Errorf("a blob of more than %d bytes: %w", MaxBlob, yesline.Invalid)
	}
	return nil
}

func voiceBlob(t yesline.TrackID) string  { return string(t) }
func leavesBlob(t yesline.TrackID) string { return string(t) + ".leaves" }

// What each of the three needs of the keys room, and no more.
type (
	minter interface {
		MintTrack(ctx context.Context, program yesline.ProgramID, person yesline.PersonID, track yesline.TrackID) (keys.Data, error)
	}
	opener interface {
		OpenTrack(ctx context.Context, program yesline.ProgramID, person yesline.PersonID, track yesline.TrackID) (keys.Data, error)
		CloseTrack(ctx context.Context, program yesline.ProgramID, person yesline.PersonID, track yesline.TrackID) error
	}
	destroyer interface {
		DestroyTrack(ctx context.Context, program yesline.ProgramID, person yesline.PersonID, track yesline.TrackID) (audit.Ref, error)
	}
)
