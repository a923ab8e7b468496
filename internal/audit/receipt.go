package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"yesline"
)

// receipt is what a person takes home: the statement in clear, the salt that
// opens its commitment, the leaf, the way from the leaf to the root, and the
// root under the house's signature. It needs no server to check.
type receipt struct {
	Format     string      `json:"format"`     // "yesline-receipt/1"
	Statement  string      `json:"statement"`  // the entry's words, byte for byte
	Salt       []byte      `json:"salt"`       // base64
	Leaf       []byte      `json:"leaf"`       // base64
	Index      int64       `json:"index"`      // the leaf's number in the log
	Proof      []tlog.Hash `json:"proof"`      // RFC 6962 audit path, from the leaf up
	Checkpoint string      `json:"checkpoint"` // signed note: origin, size, root
	Key        string      `json:"key"`        // the house's verifier key; compare it with the published one
}

const (
	receiptFormat = "yesline-receipt/1"
	receiptMost   = 64 << 10
)

// Receipt discloses person's part of an entry with its proof, as JSON.
func (l *Log) Receipt(ctx context.Context, ref Ref, person yesline.PersonID) ([]byte, error) {
	row, cp, err := l.numbered(ctx, ref)
	if err != nil {
		return nil, err
	}
	proof, err := l.prove(ctx, row, cp)
	if err != nil {
		return nil, err
	}
	for _, p := range row.parts {
		if p.person.String != string(person) || person == "" {
			continue
		}
		salt, words, _, err := l.open(ctx, ref.Leaf, row.leaf, p)
		if err != nil {
			return nil, err
		}
		return json.MarshalIndent(receipt{receiptFormat, string(words), salt, row.leaf, row.seq, proof, cp.Note, l.VerifierKey()}, "", "  ")
	}
	return nil, fmt.Errorf("a receipt for somebody the entry is not about: %w", yesline.NotFound)
}

// VerifierKey is the house's published key for checkpoints and receipts.
func (l *Log) VerifierKey() string { return l.keys.VerifierKey }

// VerifyReceipt checks a receipt offline against the house's verifier key,
// which must come from somewhere else than the receipt: every bit of the
// statement is bound by the salt to the leaf, by the proof to the root, and by
// the signature to the house. The error says which of these does not hold.
func VerifyReceipt(data []byte, key string) (Entry, error) {
	var e Entry
	if len(data) > receiptMost {
		return e, fmt.Errorf("a receipt is at most %d bytes: %w", receiptMost, yesline.Invalid)
	}
	var r receipt
	if err := json.Unmarshal(data, &r); err != nil || r.Format != receiptFormat {
		return e, fmt.Errorf("this is not a receipt of Yesline: %w", yesline.Invalid)
	}
	v, err := note.NewVerifier(key)
	if err != nil {
		return e, fmt.Errorf("the verifier key cannot be read: %w", yesline.Invalid)
	}
	cp, err := readCheckpoint(r.Checkpoint, v)
	if err != nil {
		return e, err
	}
	if err := tlog.CheckRecord(r.Proof, cp.Size, cp.Root, r.Index, tlog.RecordHash(r.Leaf)); err != nil {
		return e, fmt.Errorf("the proof from the receipt's leaf to the signed root: %w", yesline.Tampered)
	}
	_, commits, _, err := parseLeaf(r.Leaf)
	if err != nil {
		return e, err
	}
	if !slices.Contains(commits, commitment(r.Salt, []byte(r.Statement))) {
		return e, fmt.Errorf("the receipt's statement: %w", yesline.Tampered)
	}
	if err := json.Unmarshal([]byte(r.Statement), &e); err != nil {
		return e, fmt.Errorf("the receipt's statement: %w", yesline.Tampered)
	}
	return e, nil
}
