package session

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/icholy/digest"

	"yesline"
)

// NonceTime is how long a challenge may be answered.
const NonceTime = 60 * time.Second

// Stale is wrapped, beside yesline.Denied, by the error of an Answer that knew
// the password and used a nonce that is old, of another process, or used up.
// The door then answers with Rechallenge, so that the phone tries again by
// itself (RFC 7616 section 3.3).
var Stale = errors.New("the nonce is no longer fresh")

// algorithm is one that we speak (RFC 8760).
type algorithm string

const (
	algSHA256 algorithm = "SHA-256"
	algMD5    algorithm = "MD5"
)

// answer is an Authorization header, read and within bounds.
type answer struct {
	algorithm algorithm
	given     *digest.Credentials
}

const (
	maxAuthorization = 2048 // bytes of the header
	maxUsername      = 64
	maxCnonce        = 256
)

// readAuthorization reads the value of an Authorization header. We speak qop
// "auth" only: without it a nonce could not be counted (RFC 7616 section 3.4).
func readAuthorization(realm, header string) (answer, error) {
	bad := fmt.Errorf("reading an Authorization header: %w", yesline.Denied)
	if len(header) > maxAuthorization || strings.ContainsFunc(header, func(r rune) bool { return r < ' ' || r > '~' }) {
		return answer{}, bad
	}
	c, err := digest.ParseCredentials(header)
	if err != nil {
		return answer{}, bad // its text may repeat what was sent
	}
	a := answer{given: c}
	switch {
	case c.Algorithm == "", strings.EqualFold(c.Algorithm, string(algMD5)):
		a.algorithm = algMD5
	case strings.EqualFold(c.Algorithm, string(algSHA256)):
		a.algorithm = algSHA256
	default:
		return answer{}, bad
	}
	switch {
	case c.Realm != realm, !strings.EqualFold(c.QOP, "auth"), c.Userhash,
		c.Username == "", len(c.Username) > maxUsername,
		c.Cnonce == "", len(c.Cnonce) > maxCnonce,
		c.Nc < 1, c.URI == "", c.Response == "":
		return answer{}, bad
	}
	return a, nil
}

// right reports whether the answer was made with this HA1 for this request.
// It computes by our own parameters, so that what is compared is what we asked.
func (a answer) right(h *ha1, method string) bool {
	want, err := digest.Digest(
		&digest.Challenge{Realm: a.given.Realm, Nonce: a.given.Nonce, Algorithm: string(a.algorithm), QOP: []string{"auth"}},
		digest.Options{Method: method, URI: a.given.URI, Username: a.given.Username,
			A1: h.of(a.algorithm), Cnonce: a.given.Cnonce, Count: a.given.Nc})
	return err == nil && subtle.ConstantTimeCompare([]byte(want.Response), []byte(a.given.Response)) == 1
}

// Challenge gives the value of WWW-Authenticate for a request that says it is
// from user and came from peer, an address, with a new nonce that is good for
// 60 s; stale for an answer that was Stale. The user name tells by its form whether the device opted into
// MD5, so nothing is looked up for a stranger, nobody is offered a weaker
// algorithm than their own, and phones that give up at an algorithm they do
// not know (libre) see only theirs.
func (s *Sessions) Challenge(user, peer string, stale bool) string {
	alg := algSHA256
	if strings.HasPrefix(user, md5Prefix) {
		alg = algMD5
	}
	c := digest.Challenge{Realm: s.realm, Nonce: s.nonces.make(time.Now(), peer), Algorithm: string(alg), QOP: []string{"auth"}, Stale: stale}
	return c.String()
}

// Challenged reports whether an Authorization header uses a nonce that we gave
// to this peer within 60 s. Who only writes the peer's address on a packet does
// not have one, so a wrong answer without it says nothing about the peer.
func (s *Sessions) Challenged(peer, authorization string) bool {
	a, err := readAuthorization(s.realm, authorization)
	if err != nil {
		return false
	}
	id, fresh := s.nonces.read(time.Now(), a.given.Nonce)
	return fresh && a.given.Nonce == s.nonces.write(id, peer)
}

// Answer checks the Authorization header of a SIP request against its method
// and Request-URI, and tells whose phone it is. The error is yesline.Denied,
// the same and at the same cost for a wrong password and an unknown user; it
// is also Stale when everything but the nonce was right.
func (s *Sessions) Answer(ctx context.Context, method, uri, authorization string) (Device, Principal, error) {
	refused := fmt.Errorf("answering a challenge: %w", yesline.Denied)
	a, err := readAuthorization(s.realm, authorization)
	if err != nil || a.given.URI != uri {
		return Device{}, Principal{}, refused
	}
	d, known, err := s.device(ctx, a.given.Username)
	if err != nil {
		return Device{}, Principal{}, fmt.Errorf("looking up a device: %w", err)
	}
	h, err := s.secretOf(ctx, d, known)
	if err != nil {
		return Device{}, Principal{}, err
	}
	if !a.right(&h, method) || !known {
		return Device{}, Principal{}, refused
	}
	if !s.nonces.use(time.Now(), a.given.Nonce, a.given.Nc) {
		return Device{}, Principal{}, fmt.Errorf("answering a challenge: %w: %w", Stale, yesline.Denied)
	}
	return d.Device, d.principal(), nil
}

// secretOf opens a device's HA1, or for an unknown user the decoy's, whose
// result is not used.
func (s *Sessions) secretOf(ctx context.Context, d storedDevice, known bool) (ha1, error) {
	opened := d
	if !known {
		decoy := s.decoy.Load()
		if decoy == nil {
			return s.nobody, nil
		}
		opened = *decoy
	}
	h, err := s.open(ctx, opened)
	if errors.Is(err, yesline.NotFound) || err == nil && !known {
		return s.nobody, nil // a person whose keys are destroyed is unknown
	}
	return h, err
}

// nonces makes nonces and remembers the used ones. A nonce is the monotonic
// time, 8 random bytes, a MAC under a key of this process, so that one that
// nobody used costs no memory, and a mark of the peer it was given to.
type nonces struct {
	key   [32]byte
	start time.Time

	mu      sync.Mutex // guards below
	turned  time.Time
	current map[nonceID]uint32 // the highest count used; of the last NonceTime
	before  map[nonceID]uint32 // of the NonceTime before
}

type nonceID [16]byte

const (
	nonceMAC  = 16
	nonceMark = 8
	// maxUsed bounds each of the two tables: 2,000 calls a second for 60 s.
	// When it is full further nonces are stale, so that nothing is replayed.
	maxUsed = 120_000
)

func (n *nonces) init() {
	rand.Read(n.key[:])
	n.start = time.Now()
	n.current = map[nonceID]uint32{}
}

// clock is milliseconds since the start, whatever happens to the wall clock.
func (n *nonces) clock(now time.Time) uint64 { return uint64(now.Sub(n.start).Milliseconds()) }

func (n *nonces) mac(id nonceID) []byte {
	m := hmac.New(sha256.New, n.key[:])
	m.Write(id[:])
	return m.Sum(nil)[:nonceMAC]
}

func (n *nonces) make(now time.Time, peer string) string {
	var id nonceID
	binary.BigEndian.PutUint64(id[:8], n.clock(now))
	rand.Read(id[8:])
	return n.write(id, peer)
}

// write gives the nonce of an id for a peer.
func (n *nonces) write(id nonceID, peer string) string {
	mark := hmac.New(sha256.New, n.key[:])
	mark.Write(id[:])
	mark.Write([]byte("to peer " + peer)) // longer than an id: never the MAC of one
	return base64.RawURLEncoding.EncodeToString(slices.Concat(id[:], n.mac(id), mark.Sum(nil)[:nonceMark]))
}

// read gives the nonce's id if it is ours and fresh.
func (n *nonces) read(now time.Time, nonce string) (id nonceID, fresh bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(nonce)
	if err != nil || len(b) != len(id)+nonceMAC+nonceMark {
		return id, false
	}
	id = nonceID(b)
	if !hmac.Equal(b[len(id):len(id)+nonceMAC], n.mac(id)) {
		return id, false
	}
	age := n.clock(now) - binary.BigEndian.Uint64(id[:8])
	return id, age < uint64(NonceTime.Milliseconds())
}

// use counts a nonce: each count once, and only rising.
func (n *nonces) use(now time.Time, nonce string, count int) bool {
	id, fresh := n.read(now, nonce)
	if !fresh || count < 1 {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if now.Sub(n.turned) >= NonceTime {
		// Whatever was used before the last turn is older than NonceTime.
		n.before, n.current, n.turned = n.current, map[nonceID]uint32{}, now
	}
	if uint32(count) <= max(n.current[id], n.before[id]) {
		return false
	}
	if len(n.current) >= maxUsed {
		return false
	}
	n.current[id] = uint32(count)
	return true
}

// plainWord reports whether s is letters, digits, dots, dashes or @ only.
func plainWord(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '@')
	})
}
