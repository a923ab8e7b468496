package vault

import (
	"crypto/sha256"
	"math/bits"
)

// The tree over a track's seconds is RFC 6962's. Leaf n is the 8,192 sealed
// bytes of second n, or nothing at all for an absent second.
type hash = [sha256.Size]byte

var absent = leafHash(nil)

func leafHash(slot []byte) hash {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(slot)
	return hash(h.Sum(nil))
}

func nodeHash(left, right hash) hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

// treeRoot is the Merkle tree hash of the leaves (RFC 6962, section 2.1).
func treeRoot(leaves []hash) hash {
	switch len(leaves) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	}
	left := 1 << (bits.Len(uint(len(leaves)-1)) - 1) // the largest power of two below
	return nodeHash(treeRoot(leaves[:left]), treeRoot(leaves[left:]))
}
