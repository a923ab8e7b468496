package web

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"yesline"
	"yesline/internal/db"
	"yesline/internal/session"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Answers remembers for a day what was answered to requests that carried an
// Idempotency-Key. It is a table and not memory, because what it prevents is a
// repeated old yes that arrives after a newer no, and that must hold after a
// restart and on every node.
type Answers struct{ db *db.DB }

// OpenAnswers migrates the room's one table in the content database.
func OpenAnswers(ctx context.Context, content *db.DB) (*Answers, error) {
	return &Answers{content}, content.Migrate(ctx, "web", migrations)
}

const (
	answerLife   = 24 * time.Hour
	pendingLife  = time.Minute // then whoever began is taken for dead
	answersMost  = 2000        // that one API key has at a time
	answersSwept = 20          // old ones that go with each new one
	answerBytes  = 4 << 10
)

// attempt is one request with an Idempotency-Key. Its zero value is one
// without.
type attempt struct {
	id, holder, request string
	born                int64
}

// kept is what was answered before.
type kept struct {
	status int
	body   string
}

func hashOf(parts ...string) string {
	sum := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(sum, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func attemptOf(who session.Principal, key, method, path string, body []byte) attempt {
	return attempt{id: hashOf(string(who.Key()), key), holder: hashOf(string(who.Key())), request: hashOf(method, path, string(body))}
}

// begin writes the attempt down, or gives what was answered to it before.
// A problem (409) when the key belongs to another request, or to one that is
// still being answered; yesline.TooMany when a key has very many.
func (a *Answers) begin(ctx context.Context, t *attempt) (k kept, done bool, err error) {
	now := time.Now()
	t.born = now.UnixMilli()
	err = a.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		k, done = kept{}, false
		if _, err := tx.Exec(ctx, `DELETE FROM web_answers WHERE id IN (SELECT id FROM web_answers WHERE born < $1 ORDER BY born LIMIT $2)`,
			now.Add(-answerLife).UnixMilli(), answersSwept); err != nil {
			return err
		}
		var request string
		var born int64
		err := tx.QueryRow(ctx, `SELECT request, status, body, born FROM web_answers WHERE id = $1 AND holder = $2`, t.id, t.holder).
			Scan(&request, &k.status, &k.body, &born)
		old := born < now.Add(-answerLife).UnixMilli()
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return a.insert(ctx, tx, *t)
		case err != nil:
			return err
		case !old && (request != t.request || k.status == 0 && born >= now.Add(-pendingLife).UnixMilli()):
			return newProblem(http.StatusConflict, "repeated", fault{Header: idempotencyKey, Detail: "use another one for another request"})
		case !old && k.status != 0:
			done = true
			return nil
		}
		_, err = tx.Exec(ctx, `UPDATE web_answers SET request = $1, status = 0, body = '', born = $2 WHERE id = $3`, t.request, t.born, t.id)
		return err
	})
	if err != nil {
		err = fmt.Errorf("writing down a request with an %s: %w", idempotencyKey, err)
	}
	return k, done, err
}

func (a *Answers) insert(ctx context.Context, tx *db.Tx, t attempt) error {
	var n int
	if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM (SELECT 1 FROM web_answers WHERE holder = $1 LIMIT $2) AS few`, t.holder, answersMost).Scan(&n); err != nil {
		return err
	}
	if n >= answersMost {
		return fmt.Errorf("a key with %d answers that are remembered: %w", n, yesline.TooMany)
	}
	_, err := tx.Exec(ctx, `INSERT INTO web_answers (id, holder, request, status, body, born) VALUES ($1, $2, $3, 0, '', $4)`, t.id, t.holder, t.request, t.born)
	return err
}

// end writes down what was answered. A problem is not remembered: nothing was
// done, and asking again may go otherwise. It is the caller that keeps what is
// about people out of body.
func (a *Answers) end(ctx context.Context, t attempt, k kept) error {
	again := k.status == 0 || k.status >= 400 || len(k.body) > answerBytes
	err := a.db.Transact(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if again {
			_, err = tx.Exec(ctx, `DELETE FROM web_answers WHERE id = $1 AND holder = $2 AND born = $3 AND status = 0`, t.id, t.holder, t.born)
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE web_answers SET status = $1, body = $2 WHERE id = $3 AND holder = $4 AND born = $5 AND status = 0`,
			k.status, k.body, t.id, t.holder, t.born)
		return err
	})
	if err != nil {
		err = fmt.Errorf("writing down an answer: %w", err)
	}
	return err
}

const (
	idempotencyKey    = "Idempotency-Key"
	maxIdempotencyKey = 64
)

// readIdempotencyKey takes 8 to 64 visible characters, with or without the
// quotes of a structured field. "" when there is none.
func readIdempotencyKey(h http.Header) (string, error) {
	values := h.Values(idempotencyKey)
	if len(values) == 0 {
		return "", nil
	}
	key := values[0]
	if inner, ok := strings.CutPrefix(key, `"`); ok {
		key, ok = strings.CutSuffix(inner, `"`)
		if !ok {
			key = ""
		}
	}
	odd := strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' })
	if len(values) != 1 || len(key) < 8 || len(key) > maxIdempotencyKey || odd {
		return "", newProblem(http.StatusBadRequest, "invalid", fault{Header: idempotencyKey, Detail: "this is not 8 to 64 visible characters"})
	}
	return key, nil
}
