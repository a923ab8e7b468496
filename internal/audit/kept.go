package audit

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"yesline"
	"yesline/internal/db"
)

// KeptReceipt is a person's right to take an entry home.
type KeptReceipt struct {
	ID     yesline.ReceiptID
	Person yesline.PersonID
	About  string // what it is listed under: a call's id
	Ref    Ref
}

// KeepReceipt gives person a receipt of an entry, listed under about. Keeping
// it again changes nothing.
func (l *Log) KeepReceipt(ctx context.Context, person yesline.PersonID, about string, ref Ref) error {
	if person == "" || ref.Leaf == "" {
		return fmt.Errorf("a receipt of nothing: %w", yesline.Invalid)
	}
	return l.content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO audit_receipts (id, person, about, origin, leaf_id, at) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (person, leaf_id) DO NOTHING`,
			string(yesline.NewReceiptID()), string(person), about, ref.DB, string(ref.Leaf), db.Millis(time.Now()))
		return err
	})
}

// Receipts lists what a person holds under about, oldest first.
func (l *Log) Receipts(ctx context.Context, person yesline.PersonID, about string) ([]KeptReceipt, error) {
	rows, err := l.content.Query(ctx, `SELECT id, person, about, origin, leaf_id FROM audit_receipts
		WHERE person = $1 AND about = $2 ORDER BY at, id LIMIT 200`, string(person), about)
	return kept(rows, err)
}

// ReceiptsByID gives at most 500 receipts; who is not there is left out.
func (l *Log) ReceiptsByID(ctx context.Context, ids []string) ([]KeptReceipt, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	if len(ids) > db.MaxIn {
		return nil, fmt.Errorf("%d receipts at once: %w", len(ids), yesline.Invalid)
	}
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	rows, err := l.content.Query(ctx, `SELECT id, person, about, origin, leaf_id FROM audit_receipts
		WHERE id IN (`+db.In(1, len(ids))+`)`, args...)
	return kept(rows, err)
}

func kept(rows *sql.Rows, err error) ([]KeptReceipt, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []KeptReceipt
	for rows.Next() {
		var k KeptReceipt
		if err := rows.Scan(&k.ID, &k.Person, &k.About, &k.Ref.DB, &k.Ref.Leaf); err != nil {
			return nil, err
		}
		all = append(all, k)
	}
	return all, rows.Err()
}
