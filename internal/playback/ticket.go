package playback

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	"yesline"
	"yesline/internal/session"
)

const (
	// TicketTime is how long a ticket is good for, unless it slides.
	TicketTime = 2 * time.Minute
	// ChainTime is how long a ticket may go on sliding, counted from its birth.
	ChainTime = 6 * time.Hour
	// skew is how far the clocks of two nodes may be apart.
	skew = 3 * time.Second

	// Play is the purpose of hearing a voice in a player.
	Play = "play"

	// MaxClient bounds what a ticket is bound to, in bytes.
	MaxClient = 1024
)

// Ticket says that a holder was permitted to hear a track a moment ago. It is
// no permit: each window asks the gate as well. Its fields are private, Check
// is its only maker, and its zero value slides nowhere.
type Ticket struct {
	key     keyID
	purpose byte
	holder  holder
	program id
	track   id
	epoch   int64 // recalls counted when its chain began
	born    int64 // when its chain began, unix milliseconds
	expires int64
	client  string
}

// Until is when the ticket ends unless it slides.
func (t Ticket) Until() time.Time { return time.UnixMilli(t.expires) }

// Born is when the first ticket of its chain was issued.
func (t Ticket) Born() time.Time { return time.UnixMilli(t.born) }

// id is what an id of ours holds behind its prefix.
type id [20]byte

var spelling = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// idOf reads an id of that kind ("trk").
func idOf(kind, s string) (found id, ok bool) {
	if !yesline.IsID(kind, s) {
		return id{}, false
	}
	n, err := spelling.Decode(found[:], []byte(s[len(kind)+1:]))
	return found, err == nil && n == len(found)
}

func (i id) as(kind string) string { return kind + "_" + spelling.EncodeToString(i[:]) }

// holder is whose ticket it is: a session or an API key.
type holder struct {
	kind byte // ofSession or ofKey
	id   id
}

const (
	ofSession = 's'
	ofKey     = 'k'
)

// holderOf is under what a principal holds tickets. Machines, and whoever has
// only the local socket, hold none.
func holderOf(who session.Principal) (holder, bool) {
	if key := who.Key(); key != "" {
		i, ok := idOf("key", string(key))
		return holder{ofKey, i}, ok
	}
	i, ok := idOf("ses", string(who.Session()))
	return holder{ofSession, i}, ok
}

func (h holder) String() string {
	if h.kind == ofKey {
		return h.id.as("key")
	}
	return h.id.as("ses")
}

// A token is base64url of these bytes, all of fixed size:
//
//	version 1 | purpose 'p' | rendition 'v' | holder's kind | key id 9 |
//	born 6 | expires 6 | epoch 6 | program 20 | track 20 | holder 20 | MAC 32
//
// Times are unix milliseconds and numbers big-endian. The MAC is HMAC-SHA-256
// of all before it and then of the client's words, which do not travel. The
// length is divisible by three, so that no bit of the text is without meaning.
const (
	tokenVersion = 1
	keyIDSize    = 9
	bodySize     = 4 + keyIDSize + 3*6 + 3*20
	tokenSize    = bodySize + sha256.Size

	// TokenLength is the length of every token, in bytes.
	TokenLength = tokenSize / 3 * 4

	voiceCode = 'v'
)

// letters refuses what is not the one spelling of its bytes.
var letters = base64.RawURLEncoding.Strict()

type keyID [keyIDSize]byte

func (k keyID) String() string { return base64.RawURLEncoding.EncodeToString(k[:]) }

// purposes by their code.
func purposeCode(purpose string) (byte, error) {
	if purpose != Play {
		return 0, fmt.Errorf("a ticket for that purpose: %w", yesline.Invalid)
	}
	return 'p', nil
}

// sign writes the ticket as a token.
func (t Ticket) sign(with *pen) string {
	b := make([]byte, 0, tokenSize)
	b = append(b, tokenVersion, t.purpose, voiceCode, t.holder.kind)
	b = append(b, t.key[:]...)
	for _, n := range [...]int64{t.born, t.expires, t.epoch} {
		b = append(b, byte(n>>40), byte(n>>32))
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	b = append(b, t.program[:]...)
	b = append(b, t.track[:]...)
	b = append(b, t.holder.id[:]...)
	b = with.mac(b, b, t.client)
	return base64.RawURLEncoding.EncodeToString(b)
}

// pen signs under one secret. It keeps the hashes that have read the secret:
// beginning one costs as much as a whole ticket.
type pen struct{ macs sync.Pool }

func newPen(secret []byte) *pen {
	return &pen{sync.Pool{New: func() any { return hmac.New(sha256.New, secret) }}}
}

// mac appends the MAC of a body and a client.
func (p *pen) mac(to, body []byte, client string) []byte {
	h := p.macs.Get().(hash.Hash)
	defer p.macs.Put(h)
	h.Reset()
	h.Write(body)
	io.WriteString(h, client)
	return h.Sum(to)
}

// parsed is a token whose MAC nobody has looked at.
type parsed struct {
	Ticket
	bytes [tokenSize]byte
}

func (p *parsed) body() []byte { return p.bytes[:bodySize] }
func (p *parsed) mac() []byte  { return p.bytes[bodySize:] }

// parse reads a token, of any length and from anybody.
func parse(token string) (p parsed, ok bool) {
	if len(token) != TokenLength {
		return p, false
	}
	b := p.bytes[:]
	// The decoder skips line breaks; then there are fewer bytes than there should be.
	if n, err := letters.Decode(b, []byte(token)); err != nil || n != tokenSize {
		return p, false
	}
	if b[0] != tokenVersion || b[1] != 'p' || b[2] != voiceCode || b[3] != ofSession && b[3] != ofKey {
		return p, false
	}
	p.purpose, p.holder.kind = b[1], b[3]
	rest := b[4+copy(p.key[:], b[4:]):]
	for _, to := range [...]*int64{&p.born, &p.expires, &p.epoch} {
		*to = int64(binary.BigEndian.Uint16(rest))<<32 | int64(binary.BigEndian.Uint32(rest[2:]))
		rest = rest[6:]
	}
	for _, to := range [...]*id{&p.program, &p.track, &p.holder.id} {
		rest = rest[copy(to[:], rest):]
	}
	return p, true
}

// times reports whether the ticket is good now by its own times. One that ends
// later than any of ours does was made by a clock that was wrong.
func (t Ticket) times(now time.Time) bool {
	ms := now.UnixMilli()
	return ms < t.expires && t.born <= t.expires &&
		t.expires <= ms+(TicketTime+skew).Milliseconds() && t.expires <= t.born+ChainTime.Milliseconds()
}

type carried struct{}

// Carry gives a context of a request that came with this ticket. Whoever looks
// up the facts of its track for that request may take them from memory: the
// holder knew of the track before, so the faster answer tells nothing.
func Carry(ctx context.Context, t Ticket) context.Context {
	return context.WithValue(ctx, carried{}, t)
}

// Carries reports whether the request came with a ticket for this track.
func Carries(ctx context.Context, track yesline.TrackID) bool {
	t, ok := ctx.Value(carried{}).(Ticket)
	return ok && t.purpose != 0 && t.track.as("trk") == string(track)
}
