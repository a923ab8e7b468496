package media

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

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

// profiles by name.
var profiles = map[string]srtp.ProtectionProfile{
	"AES_CM_128_HMAC_SHA1_80": srtp.ProtectionProfileAes128CmHmacSha1_80,
	"AES_CM_128_HMAC_SHA1_32": srtp.ProtectionProfileAes128CmHmacSha1_32,
	"AEAD_AES_128_GCM":        srtp.ProtectionProfileAeadAes128Gcm,
	"AEAD_AES_256_GCM":        srtp.ProtectionProfileAeadAes256Gcm,
}

// Check reports, as yesline.Invalid, a profile that we do not speak and a key
// or salt that is not as long as the profile says. A stream that is given one
// is deaf and dumb.
func (c *Crypto) Check() error {
	profile, ok := profiles[c.Profile]
	if !ok {
		return fmt.Errorf("a profile of SRTP that we do not speak: %w", yesline.Invalid)
	}
	key, _ := profile.KeyLen()
	salt, _ := profile.SaltLen()
	if len(c.Key) != key || len(c.Salt) != salt {
		return fmt.Errorf("a key or salt of SRTP is not as long as its profile says: %w", yesline.Invalid)
	}
	return nil
}

func (c *Crypto) equal(other *Crypto) bool {
	return c.Profile == other.Profile && bytes.Equal(c.Key, other.Key) && bytes.Equal(c.Salt, other.Salt)
}

const (
	replayWindow = 128 // packets; RFC 3711 asks for 64 at least
	maxKeys      = 8   // a party that changes its key more often is not carried any further
)

// keyring is one direction of a stream. It keeps the state of every key that
// the stream had: with a key that comes back, no packet is taken twice.
type keyring struct {
	on      bool
	context *srtp.Context // nil while on: the key was no good, nothing passes
	known   []keyed
}

type keyed struct {
	crypto  Crypto
	context *srtp.Context
}

// use takes the key of a new agreement; nil: plain. Again says that this key
// was given up before.
func (c *keyring) use(k *Crypto) (again bool) {
	before := c.context
	c.on, c.context = k != nil, nil
	if k == nil {
		return false
	}
	for _, old := range c.known {
		if old.crypto.equal(k) {
			c.context = old.context
			return before != c.context
		}
	}
	if k.Check() != nil || len(c.known) == maxKeys {
		return false
	}
	context, err := srtp.CreateContext(k.Key, k.Salt, profiles[k.Profile], srtp.SRTPReplayProtection(replayWindow))
	if err != nil {
		return false
	}
	mine := Crypto{k.Profile, bytes.Clone(k.Key), bytes.Clone(k.Salt)}
	c.context, c.known = context, append(c.known, keyed{mine, context})
	return false
}

var errNoKey = errors.New("there is no key to go by")

// open decrypts a packet into room. The error wraps what srtp says.
func (c *keyring) open(room, packet []byte, header *rtp.Header) ([]byte, error) {
	if c.context == nil {
		return nil, errNoKey
	}
	return c.context.DecryptRTP(room, packet, header)
}

// seal encrypts a packet in place; its room must have some bytes more. Header is
// somewhere to write.
func (c *keyring) seal(packet []byte, header *rtp.Header) ([]byte, error) {
	if c.context == nil {
		return nil, errNoKey
	}
	return c.context.EncryptRTP(packet, packet, header)
}
