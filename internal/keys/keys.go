// Package keys mints, wraps, unwraps and destroys every key of the house: root
// over program over person over track. Its database is the only place where a
// wrapped key stands; a row deleted there is a voice that nothing opens.
package keys

import (
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/db"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Root wraps the house's topmost keys and never leaves its driver: a file of
// mode 0600, an HSM, a key service. The context is bound into what is wrapped.
type Root interface {
	Wrap(ctx context.Context, context, plain []byte) ([]byte, error)
	Unwrap(ctx context.Context, context, wrapped []byte) ([]byte, error) // yesline.Tampered under another root
}

// Purposes of a program's keys: each is its own random key, so that what opens
// numbers opens no voices.
const (
	voice   = "voice"   // over the persons' keys
	entries = "audit"   // over the persons' audit keys, and entries without a subject
	People  = "people"  // names and numbers
	Index   = "index"   // the blind index of numbers
	Session = "session" // what proves a device
)

var purposes = []string{voice, entries, People, Index, Session}

// Cached keys live this long at most, and drop at once when anything is
// destroyed on any node.
const (
	programLife = 5 * time.Minute
	personLife  = time.Minute
	cacheMost   = 10_000
)

// Keys is the keys room.
type Keys struct {
	db    *db.DB
	root  Root
	log   *audit.Log
	house house
	gone  *db.Held // moves when a key is destroyed anywhere

	mu       sync.Mutex // guards the cache and the revision it was filled under
	cache    map[string]cached
	revision int64
}

type cached struct {
	key   Data
	until time.Time
}

type house struct {
	name   string
	audit  Data
	mark   []byte // under which the log marks its rows
	fields Data   // for what belongs to no program, such as sessions of the house's staff
	signer note.Signer
	verify note.Verifier
	public string // verify, as text
	vouch  ed25519.PrivateKey
}

const destroyed = "keys/destroyed"

// Open migrates the keys database and takes the house's keys out of it, or
// mints them when the house is new. A root that did not wrap this house is
// refused before anything is touched.
func Open(ctx context.Context, d *db.DB, root Root, log *audit.Log) (*Keys, error) {
	if err := d.Migrate(ctx, "keys", migrations); err != nil {
		return nil, err
	}
	k := &Keys{db: d, root: root, log: log, cache: map[string]cached{}}
	if err := k.openHouse(ctx); err != nil {
		return nil, err
	}
	var err error
	k.gone, err = d.Hold(ctx, destroyed)
	return k, err
}

// Close gives back what Open took.
func (k *Keys) Close() { k.gone.Release() }

const rootProof = "this root belongs to this house"

func (k *Keys) openHouse(ctx context.Context) error {
	var name string
	var proof, signer, auditKey []byte
	err := k.db.QueryRow(ctx, `SELECT house, proof, signer, audit FROM house_keys WHERE one = 1`).Scan(&name, &proof, &signer, &auditKey)
	if errors.Is(err, sql.ErrNoRows) {
		if err := k.mintHouse(ctx); err != nil {
			return fmt.Errorf("minting the keys of the house: %w", err)
		}
		return k.openHouse(ctx)
	}
	if err != nil {
		return err
	}
	if plain, err := k.root.Unwrap(ctx, bind("house", name, "proof"), proof); err != nil || string(plain) != rootProof {
		return fmt.Errorf("the root key does not belong to this house (%s): nothing was touched; give the root key this house was made with: %w", name, yesline.Denied)
	}
	k.house.name = name
	seed, err := k.root.Unwrap(ctx, bind("house", name, "signer"), signer)
	if err != nil || len(seed) != ed25519.SeedSize {
		return fmt.Errorf("the signing key of the log: %w", yesline.Tampered)
	}
	plain, err := k.root.Unwrap(ctx, bind("house", name, "audit"), auditKey)
	if err != nil {
		return err
	}
	if k.house.audit, err = dataFrom(plain); err != nil {
		return err
	}
	if k.house.mark, err = hkdf.Key(sha256.New, k.house.audit.Bytes(), nil, "yesline/audit/mark/v1", Size); err != nil {
		return err
	}
	fields, err := hkdf.Key(sha256.New, k.house.audit.Bytes(), nil, "yesline/fields/"+Session+"/v1", Size)
	if err != nil {
		return err
	}
	if k.house.fields, err = dataFrom(fields); err != nil {
		return err
	}
	return k.house.sign(ed25519.NewKeyFromSeed(seed))
}

// sign makes the note signer and verifier of the house (C2SP signed-note,
// algorithm 1: Ed25519).
func (h *house) sign(private ed25519.PrivateKey) (err error) {
	h.vouch = private
	public := private.Public().(ed25519.PublicKey)
	if h.public, err = note.NewEd25519VerifierKey(h.name, public); err != nil {
		return err
	}
	if h.verify, err = note.NewVerifier(h.public); err != nil {
		return err
	}
	hash := strings.Split(h.public, "+")[1]
	h.signer, err = note.NewSigner(fmt.Sprintf("PRIVATE+KEY+%s+%s+%s", h.name, hash,
		base64.StdEncoding.EncodeToString(append([]byte{1}, private.Seed()...))))
	return err
}

func (k *Keys) mintHouse(ctx context.Context) error {
	var id [8]byte
	rand.Read(id[:])
	name := "yesline-" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(id[:]))
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	var wrapped [3][]byte
	for i, what := range []struct {
		label string
		plain []byte
	}{{"proof", []byte(rootProof)}, {"signer", seed}, {"audit", newData().Bytes()}} {
		var err error
		if wrapped[i], err = k.root.Wrap(ctx, bind("house", name, what.label), what.plain); err != nil {
			return err
		}
	}
	return k.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO house_keys (one, house, proof, signer, audit, created) VALUES (1, $1, $2, $3, $4, $5)`,
			name, wrapped[0], wrapped[1], wrapped[2], db.Millis(time.Now()))
		return err
	})
}

// House is the name of this house: the origin of its log.
func (k *Keys) House() string { return k.house.name }

// AddProgram mints the keys of a new program. Adding it again changes nothing.
func (k *Keys) AddProgram(ctx context.Context, program yesline.ProgramID) error {
	err := k.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		fresh := int64(0)
		for _, purpose := range purposes {
			wrapped, err := k.root.Wrap(ctx, bind("program", string(program), purpose), newData().Bytes())
			if err != nil {
				return err
			}
			n, err := tx.Exec(ctx, `INSERT INTO program_keys (program, purpose, version, wrapped, created)
				VALUES ($1, $2, 1, $3, $4) ON CONFLICT DO NOTHING`, string(program), purpose, wrapped, db.Millis(time.Now()))
			if err != nil {
				return err
			}
			fresh += n
		}
		if fresh == 0 {
			return nil
		}
		_, err := k.log.Record(ctx, tx, audit.Entry{Actor: "svc:keys", Verb: "keys.minted", Object: string(program), Result: "done"})
		return err
	})
	if err != nil {
		return fmt.Errorf("minting the keys of a program: %w", err)
	}
	return nil
}

// programKey unwraps a program's key for one purpose.
func (k *Keys) programKey(ctx context.Context, program yesline.ProgramID, purpose string) (Data, error) {
	return k.cached("program/"+purpose+"/"+string(program), programLife, func() (Data, error) {
		var wrapped []byte
		err := k.db.QueryRow(ctx, `SELECT wrapped FROM program_keys WHERE program = $1 AND purpose = $2 AND version = 1`,
			string(program), purpose).Scan(&wrapped)
		if errors.Is(err, sql.ErrNoRows) {
			return Data{}, fmt.Errorf("the %s key of a program: %w", purpose, yesline.NotFound)
		}
		if err != nil {
			return Data{}, err
		}
		plain, err := k.root.Unwrap(ctx, bind("program", string(program), purpose), wrapped)
		if err != nil {
			return Data{}, fmt.Errorf("unwrapping the %s key of a program: %w", purpose, err)
		}
		return dataFrom(plain)
	})
}

// cached gives the key called name, or reads it. What was read before anything
// was destroyed is forgotten, and a node that cannot see destructions caches
// nothing.
func (k *Keys) cached(name string, life time.Duration, read func() (Data, error)) (Data, error) {
	now, revision := time.Now(), k.gone.Revision()
	fresh := k.db.Fresh()
	k.mu.Lock()
	if revision != k.revision || len(k.cache) > cacheMost {
		clear(k.cache)
		k.revision = revision
	}
	c, ok := k.cache[name]
	k.mu.Unlock()
	if ok && fresh && now.Before(c.until) {
		return c.key, nil
	}
	key, err := read()
	if err != nil {
		return Data{}, err
	}
	k.mu.Lock()
	if revision == k.revision {
		k.cache[name] = cached{key, now.Add(life)}
	}
	k.mu.Unlock()
	return key, nil
}

// SealFor seals a field of another room under the program's key for that
// purpose (People or Session), or for "" under the house's (Session alone). The
// context binds it to its place.
func (k *Keys) SealFor(ctx context.Context, program yesline.ProgramID, purpose string, context, plain []byte) ([]byte, error) {
	key, err := k.fieldKey(ctx, program, purpose)
	if err != nil {
		return nil, err
	}
	return wrap(key, bind("field", string(program), purpose, string(context)), plain), nil
}

// OpenFor opens what SealFor sealed in the same place.
func (k *Keys) OpenFor(ctx context.Context, program yesline.ProgramID, purpose string, context, sealed []byte) ([]byte, error) {
	key, err := k.fieldKey(ctx, program, purpose)
	if err != nil {
		return nil, err
	}
	return unwrap(key, bind("field", string(program), purpose, string(context)), sealed)
}

// MACFor is HMAC-SHA-256 under the program's key for that purpose (Index), or
// under one derived from it where the key itself seals (Session).
func (k *Keys) MACFor(ctx context.Context, program yesline.ProgramID, purpose string, data []byte) ([]byte, error) {
	key, err := k.fieldKey(ctx, program, purpose)
	if err != nil {
		return nil, err
	}
	secret := key.Bytes()
	if purpose != Index {
		if secret, err = hkdf.Expand(sha256.New, secret, "yesline/fields/mac/v1", Size); err != nil {
			return nil, err
		}
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write(data)
	return mac.Sum(nil), nil
}

func (k *Keys) fieldKey(ctx context.Context, program yesline.ProgramID, purpose string) (Data, error) {
	if purpose != People && purpose != Index && purpose != Session {
		return Data{}, fmt.Errorf("no field is sealed for the purpose %q: %w", purpose, yesline.Invalid)
	}
	if program == "" && purpose == Session {
		return k.house.fields, nil
	}
	return k.programKey(ctx, program, purpose)
}

// Audit gives the log what it seals and signs with.
func (k *Keys) Audit() audit.Keys {
	return audit.Keys{
		Seal: func(ctx context.Context, program yesline.ProgramID, person yesline.PersonID, context, plain []byte) ([]byte, error) {
			key, err := k.auditKey(ctx, program, person)
			if err != nil {
				return nil, err
			}
			return wrap(key, context, plain), nil
		},
		Open: func(ctx context.Context, program yesline.ProgramID, person yesline.PersonID, context, sealed []byte) ([]byte, error) {
			key, err := k.auditKey(ctx, program, person)
			if err != nil {
				return nil, err
			}
			return unwrap(key, context, sealed)
		},
		MAC: func(data []byte) []byte {
			mac := hmac.New(sha256.New, k.house.mark)
			mac.Write(data)
			return mac.Sum(nil)
		},
		Signer: k.house.signer, Verifier: k.house.verify, VerifierKey: k.house.public,
	}
}

func (k *Keys) auditKey(ctx context.Context, program yesline.ProgramID, person yesline.PersonID) (Data, error) {
	switch {
	case person != "":
		return k.personKey(ctx, program, person, entries)
	case program != "":
		return k.programKey(ctx, program, entries)
	}
	return k.house.audit, nil
}

// Used reports whether a house was sealed with keys of this database, so that
// no new root is made for it.
func Used(ctx context.Context, d *db.DB) (bool, error) {
	if err := d.Migrate(ctx, "keys", migrations); err != nil {
		return false, err
	}
	var used bool
	err := d.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM house_keys)`).Scan(&used)
	return used, err
}
