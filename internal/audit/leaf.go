package audit

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"yesline"
)

// A leaf is what the tree hashes. It commits to each part twice: to the salted
// words (so that the holder of a receipt can show them to an outsider) and to
// the sealed bytes (so that a changed row is found without any key).
//
//	"YLA1" | at: unix ms, 8 bytes | parts: 2 bytes |
//	parts × ( SHA-256(domain | salt | words) | SHA-256(sealed) )
//
// Integers are big-endian. docs/format.md has a worked example.
const (
	leafMagic  = "YLA1"
	partDomain = "yesline/audit/part/v1\n"
	saltSize   = 32
	partSize   = 2 * sha256.Size
	leafHead   = len(leafMagic) + 8 + 2

	maxSubjects = 16
	maxDetail   = 16
	maxValue    = 512
)

type part struct {
	n       int
	program yesline.ProgramID
	person  sql.NullString // NULL under the program's key, "" once forgotten
	object  string
	at      int64
	sealed  []byte
}

// marked is what the house's mark covers: the leaf in its place, and what its
// parts are found by.
func marked(origin string, id yesline.EntryID, leaf []byte, parts []part) []byte {
	var b []byte
	add := func(s string) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	add("yesline/audit/mark/v1")
	add(origin)
	add(string(id))
	add(string(leaf))
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(p.n))
		b = binary.BigEndian.AppendUint64(b, uint64(p.at))
		add(string(p.program))
		add(p.object)
		if p.person.Valid {
			b = append(b, 1)
			add(p.person.String)
		} else {
			b = append(b, 0)
		}
	}
	return b
}

// row is an entry ready to be written.
type row struct {
	id    yesline.EntryID
	leaf  []byte
	mac   []byte
	parts []part
}

// newEntryID begins with the time, so that new rows go to the end of the index.
func newEntryID(at time.Time) yesline.EntryID {
	const digits = "234567abcdefghijklmnopqrstuvwxyz" // in ASCII order, unlike base32
	var stamp [9]byte
	for i, ms := len(stamp)-1, at.UnixMilli(); i >= 0; i-- {
		stamp[i] = digits[ms&31]
		ms >>= 5
	}
	id := yesline.NewEntryID()
	return id[:4] + yesline.EntryID(stamp[:]) + id[4+len(stamp):]
}

func commitment(salt, words []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte(partDomain))
	h.Write(salt)
	h.Write(words)
	return [sha256.Size]byte(h.Sum(nil))
}

// sealContext binds a sealed part to its place.
func sealContext(id yesline.EntryID, n int) []byte {
	return fmt.Appendf(nil, "%s%s/%d", partDomain, id, n)
}

func (e *Entry) check() error {
	switch {
	case e.Actor == "" || e.Verb == "" || e.Result == "":
		return fmt.Errorf("an entry names actor, verb and result: %w", yesline.Invalid)
	case len(e.Subjects) > maxSubjects:
		return fmt.Errorf("an entry with %d subjects, more than %d: %w", len(e.Subjects), maxSubjects, yesline.Invalid)
	case len(e.Detail) > maxDetail:
		return fmt.Errorf("an entry with %d details, more than %d: %w", len(e.Detail), maxDetail, yesline.Invalid)
	case len(e.Actor) > maxValue || len(e.Verb) > maxValue || len(e.Object) > maxValue:
		return fmt.Errorf("an entry with a value over %d bytes: %w", maxValue, yesline.Invalid)
	}
	for k, v := range e.Detail {
		if len(k) > maxValue || len(v) > maxValue {
			return fmt.Errorf("an entry with a detail over %d bytes: %w", maxValue, yesline.Invalid)
		}
	}
	return nil
}

// parseLeaf gives the moment and the commitments of a leaf.
func parseLeaf(leaf []byte) (at int64, commitments, seals [][sha256.Size]byte, err error) {
	if len(leaf) < leafHead || !bytes.HasPrefix(leaf, []byte(leafMagic)) {
		return 0, nil, nil, fmt.Errorf("a leaf of the log: %w", yesline.Tampered)
	}
	n := int(binary.BigEndian.Uint16(leaf[leafHead-2:]))
	if n < 1 || n > maxSubjects || len(leaf) != leafHead+n*partSize {
		return 0, nil, nil, fmt.Errorf("a leaf of the log: %w", yesline.Tampered)
	}
	for i := range n {
		p := leaf[leafHead+i*partSize:]
		commitments = append(commitments, [sha256.Size]byte(p[:sha256.Size]))
		seals = append(seals, [sha256.Size]byte(p[sha256.Size:partSize]))
	}
	return int64(binary.BigEndian.Uint64(leaf[len(leafMagic):])), commitments, seals, nil
}

// splitWords takes an opened part apart and checks it against its commitment.
func splitWords(plain []byte, want [sha256.Size]byte) (salt, words []byte, e Entry, err error) {
	if len(plain) < saltSize || commitment(plain[:saltSize], plain[saltSize:]) != want {
		return nil, nil, e, fmt.Errorf("the words of an entry: %w", yesline.Tampered)
	}
	salt, words = plain[:saltSize], plain[saltSize:]
	if err := json.Unmarshal(words, &e); err != nil {
		return nil, nil, e, fmt.Errorf("the words of an entry: %w", yesline.Tampered)
	}
	return salt, words, e, nil
}

func newSalt() []byte {
	salt := make([]byte, saltSize)
	rand.Read(salt)
	return salt
}
