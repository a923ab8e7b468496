package web

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"yesline"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
)

// An attempt is done once, on both databases and after a restart, for a day.
func TestAnAnswerIsRemembered(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		ctx, content := t.Context(), open("content")
		a, err := OpenAnswers(ctx, content)
		if err != nil {
			t.Fatal(err)
		}
		first := attempt{id: "i", holder: "h", request: "r"}
		begin := func(a *Answers, try attempt) (kept, bool, error) { return a.begin(ctx, &try) }
		if _, done, err := a.begin(ctx, &first); err != nil || done {
			t.Fatalf("the first: got %v, %v", done, err)
		}
		if _, _, err := begin(a, first); status(err) != http.StatusConflict {
			t.Errorf("while it is being done: got %v", err)
		}
		want := kept{http.StatusOK, `{"choice":"yes"}`}
		if err := a.end(ctx, first, want); err != nil {
			t.Fatal(err)
		}
		b, err := OpenAnswers(ctx, open("content"))
		if err != nil {
			t.Fatal(err)
		}
		for _, node := range []*Answers{a, b} {
			if got, done, err := begin(node, first); err != nil || !done || got != want {
				t.Errorf("again: got %v, %v, %v", got, done, err)
			}
			if _, _, err := begin(node, attempt{id: "i", holder: "h", request: "another"}); status(err) != http.StatusConflict {
				t.Errorf("another request: got %v", err)
			}
		}
		set := func(born time.Time) {
			t.Helper()
			err := content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
				_, err := tx.Exec(ctx, `UPDATE web_answers SET born = $1 WHERE id = $2`, born.UnixMilli(), "i")
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		set(time.Now().Add(-24*time.Hour + time.Minute))
		if _, done, err := begin(a, first); err != nil || !done {
			t.Errorf("within a day: got %v, %v", done, err)
		}
		set(time.Now().Add(-24*time.Hour - time.Minute))
		again := first
		if _, done, err := a.begin(ctx, &again); err != nil || done {
			t.Errorf("after a day: got %v, %v", done, err)
		}
		if err := a.end(ctx, first, kept{http.StatusOK, "late"}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := begin(a, first); status(err) != http.StatusConflict {
			t.Error("the end of an older attempt ended a newer one")
		}
		set(time.Now().Add(-50 * time.Second))
		if _, _, err := begin(a, first); status(err) != http.StatusConflict {
			t.Errorf("within a minute: got %v", err)
		}
		set(time.Now().Add(-61 * time.Second))
		if _, done, err := begin(a, first); err != nil || done {
			t.Errorf("after whoever did it died: got %v, %v", done, err)
		}
	})
}

// What one key was answered is nothing to another, even under one name.
func TestAnAnswerIsItsKeysOwn(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		ctx := t.Context()
		a, err := OpenAnswers(ctx, open("content"))
		if err != nil {
			t.Fatal(err)
		}
		anns := attempt{id: "i", holder: "ann", request: "r"}
		if _, _, err := a.begin(ctx, &anns); err != nil {
			t.Fatal(err)
		}
		bobs := anns
		bobs.holder = "bob"
		for _, k := range []kept{{}, {http.StatusOK, "bob's"}} { // neither ended as undone nor answered for her
			if err := a.end(ctx, bobs, k); err != nil {
				t.Fatal(err)
			}
			if _, _, err := a.begin(ctx, &attempt{id: "i", holder: "ann", request: "r"}); status(err) != http.StatusConflict {
				t.Errorf("after bob's end with %d: got %v, want hers to be under way", k.status, err)
			}
		}
		if err := a.end(ctx, anns, kept{http.StatusOK, "ann's"}); err != nil {
			t.Fatal(err)
		}
		if k, done, err := a.begin(ctx, &bobs); err == nil || done || k.body != "" {
			t.Errorf("bob got %q, %v, %v", k.body, done, err)
		}
	})
}

// What was not done is not remembered as done.
func TestAProblemIsNotRemembered(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		a, err := OpenAnswers(t.Context(), open("content"))
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range []kept{{}, {404, ""}, {409, ""}, {429, ""}, {503, ""}, {200, strings.Repeat("x", answerBytes+1)}} {
			try := attempt{id: "i", holder: "h", request: "r"}
			if _, done, err := a.begin(t.Context(), &try); err != nil || done {
				t.Fatalf("before %d: got %v, %v", k.status, done, err)
			}
			if err := a.end(t.Context(), try, k); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// One key cannot fill the table, and old answers go as new ones come.
func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		ctx, content := t.Context(), open("content")
		a, err := OpenAnswers(ctx, content)
		if err != nil {
			t.Fatal(err)
		}
		fill := func(holder string, n int, born time.Time) {
			t.Helper()
			err := content.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
				for i := range n {
					if _, err := tx.Exec(ctx, `INSERT INTO web_answers (id, holder, request, status, body, born) VALUES ($1, $2, 'r', 200, '', $3)`,
						hashOf(holder, string(rune(i))), holder, born.UnixMilli()); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		fill("full", answersMost, time.Now())
		if _, _, err := a.begin(ctx, &attempt{id: "one more", holder: "full", request: "r"}); !errors.Is(err, yesline.TooMany) {
			t.Errorf("one more than %d: got %v", answersMost, err)
		}
		fill("old", 3*answersSwept, time.Now().Add(-answerLife-time.Hour))
		for i := range 4 {
			if _, _, err := a.begin(ctx, &attempt{id: hashOf("new", string(rune(i))), holder: "other", request: "r"}); err != nil {
				t.Fatal(err)
			}
		}
		var left int
		if err := content.QueryRow(ctx, `SELECT COUNT(*) FROM web_answers WHERE holder = $1`, "old").Scan(&left); err != nil || left != 0 {
			t.Errorf("%d old answers are left (%v)", left, err)
		}
	})
}

func status(err error) int {
	if err == nil {
		return 0
	}
	return problemOf(err).Status
}

// Repeating a request with its key does it once. A repeated yes that arrives
// after a no, and after a restart, does not undo the no.
func TestARepeatedYesDoesNotUndoANo(t *testing.T) {
	t.Parallel()
	h := newKeyHouse(t)
	path := "/api/v1/calls/" + string(h.call)
	yes := `{"words_sha256":"` + h.words("share") + `"}`
	first := h.want(http.StatusOK, "ann", "POST", path+"/share", yes, "Idempotency-Key", `"yes-number-1"`)
	h.want(http.StatusOK, "ann", "POST", path+"/share/stop", "", "Idempotency-Key", "no-number-1")
	h.open()
	again := h.want(http.StatusOK, "ann", "POST", path+"/share", yes, "Idempotency-Key", "yes-number-1")
	if again.Body.String() != first.Body.String() || again.Header().Get("Content-Type") != "application/json" {
		t.Errorf("got %s, want %s", again.Body, first.Body)
	}
	if !slices.Equal(h.acts, []string{"yes to share", "no to share"}) || h.shared {
		t.Errorf("done: %v", h.acts)
	}
	h.want(http.StatusConflict, "ann", "POST", path+"/share/stop", "", "Idempotency-Key", "yes-number-1")
	h.want(http.StatusConflict, "ann", "POST", path+"/license", `{"words_sha256":"`+h.words("license")+`"}`, "Idempotency-Key", "yes-number-1")
	h.want(http.StatusOK, "bob", "POST", path+"/share", yes, "Idempotency-Key", "yes-number-1") // his own
	h.want(http.StatusNotFound, "eve", "POST", path+"/share", yes, "Idempotency-Key", "yes-number-1")
	if err := h.sessions.EndKey(t.Context(), h.signedIn["ann"], h.who["ann"].Key()); err != nil {
		t.Fatal(err)
	}
	h.want(http.StatusUnauthorized, "ann", "POST", path+"/share", yes, "Idempotency-Key", "yes-number-1")
}

// Where nothing can be remembered, a yes waits and a no does not.
func TestANoIsDoneEvenIfItCannotBeRemembered(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*keyHouse){
		"no table": func(h *keyHouse) { h.API.Answers = nil },
		"broken":   func(h *keyHouse) { h.API.Answers = &Answers{h.content}; h.drop() },
	} {
		h := newKeyHouse(t, change)
		path := "/api/v1/calls/" + string(h.call)
		if w := h.as("ann", "POST", path+"/share", `{"words_sha256":"`+h.words("share")+`"}`, "Idempotency-Key", "yes-number-1"); w.Code < 500 {
			t.Errorf("%s: a yes: got %d", name, w.Code)
		}
		h.want(http.StatusOK, "ann", "POST", path+"/withdraw", "", "Idempotency-Key", "no-number-1")
		if !slices.Equal(h.acts, []string{"no to record"}) {
			t.Errorf("%s: done: %v", name, h.acts)
		}
	}
}

func (h *keyHouse) drop() {
	h.t.Helper()
	err := h.content.Transact(h.t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `DROP TABLE web_answers`)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
}
