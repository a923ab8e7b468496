package media

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"yesline"
)

// Crypto is a key of SRTP (RFC 3711, 7714) for one direction. Its profile is
// named as SDES does (RFC 4568). It does not print.
type Crypto struct {
	Profile   string
	Key, Salt []byte
}

func (Crypto) Format(s fmt.State, _ rune) { io.WriteString(s, "[srtp key]") }
func (Crypto) LogValue() slog.Value       { return slog.StringValue("[srtp key]") }
func (Crypto) MarshalText() ([]byte, error) {
	return nil, errors.New("a key does not leave as text")
}

// Check reports, as yesline.Invalid, a profile that we do not speak and a key
// or salt that is not as long as the profile says. A stream that is given one
// is deaf and dumb.
func (c *Crypto) Check() error {
	profile, ok := profiles[c.Profile]
	if !ok {
		return fmt.Errorf("a profile of SRTP that we do not speak: %w", yesline.Invalid)
	}
	if len(c.Key) != profile.key || len(c.Salt) != profile.salt {
		return fmt.Errorf("a key or salt of SRTP is not as long as its profile says: %w", yesline.Invalid)
	}
	return nil
}

func (c *Crypto) equal(other *Crypto) bool {
	return c.Profile == other.Profile && bytes.Equal(c.Key, other.Key) && bytes.Equal(c.Salt, other.Salt)
}

const maxKeys = 8 // a party that changes its key more often is not carried any further

// keyring is one direction of a stream. It keeps the state of every key that
// the stream had: with a key that comes back, no packet is taken twice.
type keyring struct {
	on    bool
	now   *transform // nil while on: the key was no good, nothing passes
	known []keyed
	first transform // of the first key, often the only one: beside what else a packet needs
}

type keyed struct {
	crypto    Crypto
	transform *transform
}

// use takes the key of a new agreement; nil: plain. Again says that this key
// was given up before.
func (c *keyring) use(k *Crypto) (again bool) {
	before := c.now
	c.on, c.now = k != nil, nil
	if k == nil {
		return false
	}
	for _, old := range c.known {
		if old.crypto.equal(k) {
			c.now = old.transform
			return before != c.now
		}
	}
	if len(c.known) == maxKeys {
		return false
	}
	t, err := newTransform(k)
	if err != nil {
		return false
	}
	if len(c.known) == 0 {
		c.first = *t
		t = &c.first
	}
	mine := Crypto{k.Profile, bytes.Clone(k.Key), bytes.Clone(k.Salt)}
	c.now, c.known = t, append(c.known, keyed{mine, t})
	return false
}

var errNoKey = errors.New("there is no key to go by")

// open decrypts a packet in place, as transform does.
func (c *keyring) open(w *tools, packet []byte) ([]byte, error) {
	if c.now == nil {
		return nil, errNoKey
	}
	return c.now.open(w, packet)
}

// seal encrypts a packet in place, which must have room for a tag.
func (c *keyring) seal(w *tools, packet []byte) ([]byte, error) {
	if c.now == nil {
		return nil, errNoKey
	}
	return c.now.seal(w, packet)
}
