package playback

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audit"
	"yesline/internal/db"
	"yesline/internal/session"
	"yesline/internal/vault"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	watched     = "tickets" // the subject that moves with every recall and every key
	secretSize  = 32
	maxRecalls  = 500 // of one program that are told apart; beyond, one recalls all
	maxKeys     = 16  // of one program that are still accepted
	longestLife = ChainTime + TicketTime + skew
	againEvery  = 100 * time.Millisecond
)

// refused is the one answer to a ticket that is not good, whyever.
var refused = fmt.Errorf("a ticket: %w", yesline.NotFound)

// Sealing seals what is as good as a password under a program's key. app takes
// the two from keys.
type Sealing struct {
	Seal, Open func(ctx context.Context, program yesline.ProgramID, context, data []byte) ([]byte, error)
}

// House is what tickets need of the rooms around them.
type House struct {
	Sealing Sealing
	Record  func(ctx context.Context, tx *db.Tx, e audit.Entry) (audit.Ref, error)
	// Tracks are the voices of a call, to recall all of them.
	Tracks func(ctx context.Context, call yesline.CallID) ([]vault.Recorded, error)
}

// Tickets issues, checks and recalls tickets. It is made by OpenTickets.
type Tickets struct {
	content *db.DB
	house   House
	moved   *db.Held

	reading sync.Mutex // one reads the tables, the others wait
	again   time.Time  // guarded by reading: when that was last done for an unknown key
	view    atomic.Pointer[view]
}

// OpenTickets prepares the tables in the content database. Close gives back
// what it took.
func OpenTickets(ctx context.Context, content *db.DB, house House) (*Tickets, error) {
	if house.Sealing.Seal == nil || house.Sealing.Open == nil || house.Record == nil || house.Tracks == nil {
		return nil, errors.New("tickets need keys to seal with, a log and the vault's books")
	}
	if err := content.Migrate(ctx, "playback", migrations); err != nil {
		return nil, err
	}
	moved, err := content.Hold(ctx, watched)
	if err != nil {
		return nil, fmt.Errorf("watching the tickets: %w", err)
	}
	return &Tickets{content: content, house: house, moved: moved}, nil
}

func (t *Tickets) Close() { t.moved.Release() }

// Issue makes a ticket for the one track that the permit lets its principal
// listen to, good for TicketTime and for nobody but this client of theirs. The
// client is a caller's word of at most MaxClient bytes for what the holder's
// requests have in common; it is not stored.
func (t *Tickets) Issue(ctx context.Context, permit access.Permit, purpose, client string) (token string, until time.Time, err error) {
	code, err := purposeCode(purpose)
	if err != nil {
		return "", time.Time{}, err
	}
	if len(client) > MaxClient {
		return "", time.Time{}, fmt.Errorf("a ticket for a client of %d bytes: %w", len(client), yesline.Invalid)
	}
	items, err := permit.Items(access.Listen, "track")
	if err != nil {
		return "", time.Time{}, err
	}
	if len(items) != 1 {
		return "", time.Time{}, fmt.Errorf("a ticket for %d tracks: %w", len(items), yesline.Invalid)
	}
	now := time.Now().UnixMilli()
	made := Ticket{purpose: code, born: now, expires: now + TicketTime.Milliseconds(), client: client}
	var known [3]bool
	made.holder, known[0] = holderOf(permit.Who())
	made.program, known[1] = idOf("prg", string(items[0].Program))
	made.track, known[2] = idOf("trk", items[0].ID)
	if known != [3]bool{true, true, true} {
		return "", time.Time{}, fmt.Errorf("a ticket for what has no id: %w", yesline.Invalid)
	}
	v, k, err := t.signer(ctx, made.program)
	if err != nil {
		return "", time.Time{}, err
	}
	made.epoch = v.epoch
	return t.write(ctx, made, k)
}

func (t *Tickets) write(ctx context.Context, made Ticket, k *key) (string, time.Time, error) {
	with, err := t.open(ctx, k)
	if err != nil {
		return "", time.Time{}, err
	}
	made.key = k.id
	return made.sign(with), made.Until(), nil
}

// Check gives the ticket that a token holds if it is good now, for this
// principal, this track and this client. Whatever is wrong with it, the error
// is yesline.NotFound. yesline.Unavailable on a node that cannot see what was
// recalled.
func (t *Tickets) Check(ctx context.Context, token string, who session.Principal, track, client string) (Ticket, error) {
	found, err := t.check(ctx, token, track, client)
	if err != nil {
		return Ticket{}, err
	}
	if its, ok := holderOf(who); !ok || its != found.holder {
		return Ticket{}, refused
	}
	return found, nil
}

// KeyOf tells which API key holds a ticket that is good now for this track and
// client, so that the key can be asked for; Check comes after. A session's
// ticket is yesline.NotFound: it travels in a cookie beside the session's.
func (t *Tickets) KeyOf(ctx context.Context, token, track, client string) (yesline.KeyID, error) {
	found, err := t.check(ctx, token, track, client)
	if err != nil {
		return "", err
	}
	if found.holder.kind != ofKey {
		return "", refused
	}
	return yesline.KeyID(found.holder.String()), nil
}

func (t *Tickets) check(ctx context.Context, token, track, client string) (Ticket, error) {
	v, err := t.look(ctx)
	if err != nil {
		return Ticket{}, err
	}
	p, ok := parse(token)
	if !ok || len(client) > MaxClient {
		return Ticket{}, refused
	}
	now := time.Now()
	k := v.keys[p.key]
	if k == nil { // another node may have minted it within this second
		if v, err = t.lookAgain(ctx); err != nil {
			return Ticket{}, err
		}
		k = v.keys[p.key]
	}
	if k == nil || k.retired(now) || k.program != p.program {
		return Ticket{}, refused
	}
	with, err := t.open(ctx, k)
	if err != nil {
		return Ticket{}, err
	}
	var mac [sha256.Size]byte
	if !hmac.Equal(with.mac(mac[:0], p.body(), client), p.mac()) {
		return Ticket{}, refused
	}
	p.client = client
	if asked, ok := idOf("trk", track); !ok || asked != p.track || !p.times(now) || v.recalled(&p.Ticket) {
		return Ticket{}, refused
	}
	return p.Ticket, nil
}

// Slide gives the next ticket of a chain: the same birth, a new end, and never
// beyond ChainTime. It takes the ticket that was checked for this window, and
// the permit of this window.
func (t *Tickets) Slide(ctx context.Context, old Ticket, permit access.Permit) (token string, until time.Time, err error) {
	its, ok := holderOf(permit.Who())
	if old.purpose == 0 || !ok || its != old.holder {
		return "", time.Time{}, refused
	}
	item, err := permit.Allows(access.Listen, "track", old.track.as("trk"))
	if err != nil {
		return "", time.Time{}, err
	}
	now := time.Now()
	v, k, err := t.signer(ctx, old.program)
	if err != nil {
		return "", time.Time{}, err
	}
	if string(item.Program) != old.program.as("prg") || !old.times(now) || v.recalled(&old) {
		return "", time.Time{}, refused
	}
	next := old
	next.expires = min(now.Add(TicketTime).UnixMilli(), old.born+ChainTime.Milliseconds())
	return t.write(ctx, next, k)
}

// signer gives the key that signs a program's tickets, and makes the first.
func (t *Tickets) signer(ctx context.Context, program id) (*view, *key, error) {
	for range 2 {
		v, err := t.look(ctx)
		if err != nil {
			return nil, nil, err
		}
		if k := v.signs[program]; k != nil {
			return v, k, nil
		}
		if err := t.mint(ctx, yesline.ProgramID(program.as("prg"))); err != nil {
			return nil, nil, fmt.Errorf("minting a key for tickets: %w", err)
		}
	}
	return nil, nil, fmt.Errorf("the key that was minted for tickets is not seen: %w", yesline.Unavailable)
}

func (t *Tickets) open(ctx context.Context, k *key) (*pen, error) {
	if with := k.pen.Load(); with != nil {
		return with, nil
	}
	plain, err := t.house.Sealing.Open(ctx, yesline.ProgramID(k.program.as("prg")), sealedFor(k.id), k.sealed)
	if err != nil {
		return nil, fmt.Errorf("opening a key for tickets: %w: %w", yesline.Unavailable, err)
	}
	if len(plain) != secretSize {
		return nil, fmt.Errorf("a key for tickets: %w", yesline.Tampered)
	}
	with := newPen(plain)
	k.pen.Store(with)
	return with, nil
}

func sealedFor(k keyID) []byte { return []byte("ticket/" + k.String()) }

func (t *Tickets) mint(ctx context.Context, program yesline.ProgramID) error {
	made, err := t.newKey(ctx, program)
	if err != nil {
		return err
	}
	return t.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `INSERT INTO ticket_keys (id, program, sealed, created, until)
			VALUES ($1, $2, $3, $4, 0) ON CONFLICT DO NOTHING`, made.id.String(), string(program), made.sealed, time.Now().UnixMilli())
		if err != nil || n == 0 {
			return err // another was first
		}
		if _, err := t.house.Record(ctx, tx, audit.Entry{Program: program, Actor: "svc:tickets", Verb: "tickets.minted", Object: string(program), Result: "done"}); err != nil {
			return err
		}
		return tx.Touch(ctx, watched)
	})
}

func (t *Tickets) newKey(ctx context.Context, program yesline.ProgramID) (*key, error) {
	k := &key{}
	var secret [secretSize]byte
	rand.Read(k.id[:])
	rand.Read(secret[:])
	var err error
	k.sealed, err = t.house.Sealing.Seal(ctx, program, sealedFor(k.id), secret[:])
	clear(secret[:])
	return k, err
}

// view is what this node knows of keys and recalls. It is read anew when the
// watch moves and not changed after that.
type view struct {
	revision int64
	epoch    int64
	keys     map[keyID]*key
	signs    map[id]*key // by program
	programs map[id][]recall
	tracks   map[id][]recall
	holders  map[holder][]recall
}

type key struct {
	id      keyID
	program id
	sealed  []byte
	until   int64               // 0 while it signs
	pen     atomic.Pointer[pen] // nil until it was needed
}

func (k *key) retired(now time.Time) bool { return k.until != 0 && now.UnixMilli() >= k.until }

type recall struct {
	program      id // zero for all
	epoch, since int64
}

// recalled reports whether the ticket's chain began before a recall that means
// it. Epochs and not clocks tell what was before.
func (v *view) recalled(t *Ticket) bool {
	for _, list := range [...][]recall{v.programs[t.program], v.programs[id{}], v.tracks[t.track], v.holders[t.holder]} {
		for _, r := range list {
			if t.epoch < r.epoch && t.born >= r.since && (r.program == id{} || r.program == t.program) {
				return true
			}
		}
	}
	return false
}

// look gives what is known now. A node that cannot see recalls knows nothing.
func (t *Tickets) look(ctx context.Context) (*view, error) {
	if !t.content.Fresh() {
		return nil, fmt.Errorf("this node cannot see which tickets were recalled: %w", yesline.Unavailable)
	}
	if v := t.view.Load(); v != nil && v.revision == t.moved.Revision() {
		return v, nil
	}
	t.reading.Lock()
	defer t.reading.Unlock()
	revision := t.moved.Revision() // before reading: what moves meanwhile is read again
	old := t.view.Load()
	if old != nil && old.revision == revision {
		return old, nil
	}
	v, err := t.read(ctx, old)
	if err != nil {
		return nil, fmt.Errorf("reading the keys and recalls of tickets: %w: %w", yesline.Unavailable, err)
	}
	v.revision = revision
	t.view.Store(v)
	return v, nil
}

// lookAgain reads the tables though the watch has not moved, at most ten times
// a second: whoever makes keys up costs no more than that.
func (t *Tickets) lookAgain(ctx context.Context) (*view, error) {
	t.reading.Lock()
	if now := time.Now(); now.Sub(t.again) >= againEvery {
		t.again = now
		t.view.Store(nil)
	}
	t.reading.Unlock()
	return t.look(ctx)
}

func (t *Tickets) read(ctx context.Context, old *view) (*view, error) {
	v := &view{keys: map[keyID]*key{}, signs: map[id]*key{}, programs: map[id][]recall{}, tracks: map[id][]recall{}, holders: map[holder][]recall{}}
	// The epoch first: a recall between the two then ends a ticket too many,
	// never one too few.
	if err := t.content.QueryRow(ctx, `SELECT epoch FROM ticket_epoch WHERE one = 1`).Scan(&v.epoch); err != nil {
		return nil, err
	}
	if err := t.readKeys(ctx, v, old); err != nil {
		return nil, err
	}
	return v, t.readRecalls(ctx, v)
}

func (t *Tickets) readKeys(ctx context.Context, v, old *view) error {
	rows, err := t.content.Query(ctx, `SELECT id, program, sealed, until FROM ticket_keys`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		k := &key{}
		var name, program string
		if err := rows.Scan(&name, &program, &k.sealed, &k.until); err != nil {
			return err
		}
		n, err := base64.RawURLEncoding.Decode(k.id[:], []byte(name))
		var ok bool
		if k.program, ok = idOf("prg", program); !ok || err != nil || n != keyIDSize {
			return fmt.Errorf("a key for tickets: %w", yesline.Tampered)
		}
		if old != nil && old.keys[k.id] != nil {
			k.pen.Store(old.keys[k.id].pen.Load())
		}
		v.keys[k.id] = k
		if k.until == 0 {
			v.signs[k.program] = k
		}
	}
	return rows.Err()
}

func (t *Tickets) readRecalls(ctx context.Context, v *view) error {
	rows, err := t.content.Query(ctx, `SELECT epoch, program, track, holder, since FROM ticket_revocations`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var r recall
		var program, track, by string
		if err := rows.Scan(&r.epoch, &program, &track, &by, &r.since); err != nil {
			return err
		}
		if err := v.add(r, program, track, by); err != nil {
			return err
		}
	}
	return rows.Err()
}

// add keeps a recall where it is looked for. One that cannot be read stops
// everything: it may have meant anything.
func (v *view) add(r recall, program, track, by string) error {
	known := true
	if program != "" {
		r.program, known = idOf("prg", program)
	}
	switch {
	case !known:
	case track != "":
		var its id
		if its, known = idOf("trk", track); known {
			v.tracks[its] = append(v.tracks[its], r)
		}
	case by != "":
		var its holder
		if its, known = holderNamed(by); known {
			v.holders[its] = append(v.holders[its], r)
		}
	default:
		v.programs[r.program] = append(v.programs[r.program], r)
	}
	if !known {
		return fmt.Errorf("a recall of tickets: %w", yesline.Tampered)
	}
	return nil
}

func holderNamed(name string) (holder, bool) {
	if i, ok := idOf("ses", name); ok {
		return holder{ofSession, i}, true
	}
	i, ok := idOf("key", name)
	return holder{ofKey, i}, ok
}
