package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"

	"yesline"
)

// Size of every symmetric key of the house, in bytes.
const Size = 32

// Data is a key that does not print. Its zero value is no key.
type Data struct{ b *[Size]byte }

func newData() Data {
	var d Data
	d.b = new([Size]byte)
	rand.Read(d.b[:])
	return d
}

func dataFrom(b []byte) (Data, error) {
	if len(b) != Size {
		return Data{}, fmt.Errorf("a key of %d bytes: %w", len(b), yesline.Tampered)
	}
	return Data{(*[Size]byte)(b)}, nil
}

// Bytes gives the key, or nil. The caller neither keeps nor changes it.
func (d Data) Bytes() []byte {
	if d.b == nil {
		return nil
	}
	return d.b[:]
}

func (Data) Format(s fmt.State, _ rune) { io.WriteString(s, "[key]") }
func (Data) LogValue() slog.Value       { return slog.StringValue("[key]") }

// A wrapped value is: version 1 | 12-byte random nonce | AES-256-GCM of the
// value, with the context as associated data. Contexts are built by bind, so
// that no two places share one.
const (
	wrapVersion = 1
	nonceSize   = 12
	tagSize     = 16
)

// bind joins the parts of a context, each with its length before it.
func bind(parts ...string) []byte {
	var b []byte
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

func aead(key Data) cipher.AEAD {
	block, err := aes.NewCipher(key.b[:])
	if err != nil {
		panic(err) // only for another key size, which Data excludes
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return gcm
}

func wrap(under Data, context, plain []byte) []byte {
	out := make([]byte, 1+nonceSize, 1+nonceSize+len(plain)+tagSize)
	out[0] = wrapVersion
	rand.Read(out[1:])
	return aead(under).Seal(out, out[1:], plain, context)
}

func unwrap(under Data, context, wrapped []byte) ([]byte, error) {
	if len(wrapped) < 1+nonceSize+tagSize || wrapped[0] != wrapVersion {
		return nil, fmt.Errorf("a wrapped value: %w", yesline.Tampered)
	}
	plain, err := aead(under).Open(nil, wrapped[1:1+nonceSize], wrapped[1+nonceSize:], context)
	if err != nil {
		return nil, fmt.Errorf("a wrapped value: %w", yesline.Tampered)
	}
	return plain, nil
}

func unwrapKey(under Data, context, wrapped []byte) (Data, error) {
	plain, err := unwrap(under, context, wrapped)
	if err != nil {
		return Data{}, err
	}
	return dataFrom(plain)
}
