package sip

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"yesline/internal/capture/media"
)

// maxKeys is how many a=crypto lines of a stream are looked at.
const maxKeys = 8

// suite is one way to encrypt that SDES names (RFC 4568, 6.2; RFC 7714, 14.2).
type suite struct {
	name      string
	key, salt int // bytes
}

// suites that we speak, best first.
var suites = []suite{
	{"AEAD_AES_256_GCM", 32, 12},
	{"AEAD_AES_128_GCM", 16, 12},
	{"AES_CM_128_HMAC_SHA1_80", 16, 14},
	{"AES_CM_128_HMAC_SHA1_32", 16, 14},
}

// offeredKey is an a=crypto line of the peer: what it encrypts with.
type offeredKey struct {
	tag  int
	rank int // in suites
	key  media.Crypto
}

// agreedKey is a line of ours.
type agreedKey struct {
	tag int
	key media.Crypto
}

// readCrypto reads "1 AES_CM_128_HMAC_SHA1_80 inline:KEY|2^20". A line with a
// parameter that changes how packets look, and that we do not do, is passed
// over as if it were not there (RFC 4568, 6.3.7): above all one that says not
// to encrypt.
func readCrypto(line string) (k offeredKey, ok bool) {
	f := strings.Fields(line)
	if len(line) > 512 || len(f) < 3 {
		return k, false
	}
	tag, err := strconv.ParseUint(f[0], 10, 31)
	rank := slices.IndexFunc(suites, func(s suite) bool { return s.name == f[1] })
	if err != nil || len(f[0]) > 9 || rank < 0 {
		return k, false
	}
	for _, p := range f[3:] {
		if !strings.HasPrefix(p, "-") && p != "KDR=0" && !strings.HasPrefix(p, "WSH=") {
			return k, false
		}
	}
	inline, found := strings.CutPrefix(f[2], "inline:")
	if !found || strings.Contains(inline, ";") { // several keys go by a number in each packet
		return k, false
	}
	text, more, _ := strings.Cut(inline, "|")
	if strings.Contains(more, ":") { // such a number
		return k, false
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		data, err = base64.RawStdEncoding.DecodeString(text) // some leave the padding out
	}
	s := suites[rank]
	if err != nil || len(data) != s.key+s.salt || bytes.Count(data, data[:1]) == len(data) {
		return k, false // not as long as its suite says, or no key at all
	}
	return offeredKey{int(tag), rank, media.Crypto{Profile: s.name, Key: data[:s.key], Salt: data[s.key:]}}, true
}

// bestKeys puts what was offered in our order.
func bestKeys(keys []offeredKey) []offeredKey {
	slices.SortStableFunc(keys, func(a, b offeredKey) int { return a.rank - b.rank })
	return keys
}

// newKey makes a key of ours.
func newKey(tag int, profile string) agreedKey {
	at := slices.IndexFunc(suites, func(s suite) bool { return s.name == profile })
	data := make([]byte, suites[at].key+suites[at].salt)
	rand.Read(data)
	return agreedKey{tag, media.Crypto{Profile: profile, Key: data[:suites[at].key], Salt: data[suites[at].key:]}}
}

// offerKeys makes one key for each suite.
func offerKeys() (keys []agreedKey) {
	for i, s := range suites {
		keys = append(keys, newKey(i+1, s.name))
	}
	return keys
}

// write writes the line. It is the one place where a key becomes text: inside
// of TLS.
func (k agreedKey) write(b *strings.Builder) {
	fmt.Fprintf(b, "a=crypto:%d %s inline:%s\r\n", k.tag, k.key.Profile,
		base64.StdEncoding.EncodeToString(slices.Concat(k.key.Key, k.key.Salt)))
}

// fingerprint is the SHA-256 of a certificate (RFC 8122).
type fingerprint []byte

func (f fingerprint) usable() bool { return len(f) == sha256.Size }

func fingerprintOf(certificate []byte) fingerprint {
	sum := sha256.Sum256(certificate)
	return sum[:]
}

// String writes it as a=fingerprint does.
func (f fingerprint) String() string {
	var b strings.Builder
	b.WriteString("sha-256 ")
	for i, c := range f {
		if i > 0 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02X", c)
	}
	return b.String()
}

// readFingerprint reads "sha-256 AB:CD:...". Weaker hashes are as none.
func readFingerprint(value string) (f fingerprint, ok bool) {
	name, text, _ := strings.Cut(strings.TrimSpace(value), " ")
	if !strings.EqualFold(name, "sha-256") || len(text) != 3*sha256.Size-1 {
		return nil, false
	}
	f, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	return f, err == nil && f.usable()
}
