package web

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"reflect"
	"strconv"
	"sync"
	"time"

	"yesline"
)

// Two sorts of rows are for a page's script: an ask reads, a say acts. They
// stand behind the same session, gate and walls as the page itself, and answer
// the JSON of one struct: what is no field of it cannot be in the answer.

// ask is something that a page's script reads, and may wait for.
func ask[T any](pattern string, rule Rule, f func(context.Context, asked) (T, error)) row {
	return told("ask", pattern, rule, f).quiet()
}

// quiet is a say that only reads. Its entries are as those of an ask: there are
// many, and they are about what is the asker's own.
func (r row) quiet() row { r.detail = map[string]string{"part": "wait"}; return r }

// say is something that a page's script sends, as a form.
func say[T any](pattern string, rule Rule, f func(context.Context, asked) (T, error)) row {
	return told("say", pattern, rule, f)
}

func told[T any](sort, pattern string, rule Rule, f func(context.Context, asked) (T, error)) row {
	return row{pattern: pattern, sort: sort, rule: rule, says: reflect.TypeFor[T](),
		tell: func(ctx context.Context, a asked) (any, error) { return f(ctx, a) }}
}

func (s *Site) scriptDoor(row row) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), answerTime-time.Second)
		defer cancel()
		r = r.WithContext(ctx)
		who, permit, err := s.enter(r, row)
		if err != nil {
			s.refuseScript(w, r, err)
			return
		}
		out, err := row.tell(ctx, asked{r, who, permit})
		if err != nil {
			s.refuseScript(w, r, err)
			return
		}
		s.tellScript(w, r, http.StatusOK, out)
	})
}

// no is how a script is refused: a sentence that it can show.
type no struct {
	Error string `json:"error"`
}

// refuseScript turns a kind of error into a sentence. What went wrong stays in
// the log.
func (s *Site) refuseScript(w http.ResponseWriter, r *http.Request, err error) {
	status, sentence := http.StatusInternalServerError, "Something here is broken. It was written down."
	if errors.Is(r.Context().Err(), context.Canceled) { // a page that was closed while it waited
		return
	}
	var large *http.MaxBytesError
	var refusal *Refusal
	inWords := errors.As(err, &refusal)
	switch {
	case inWords && (errors.Is(err, yesline.NotFound) || errors.Is(err, yesline.Denied)): // whoever hears words passed the gate
		status = http.StatusForbidden
	case errors.Is(err, errNoSession), errors.Is(err, yesline.NotFound), errors.Is(err, yesline.Denied):
		s.tellScript(w, r, http.StatusNotFound, no{"There is nothing here, or nothing for you."})
		return
	case errors.As(err, &large):
		status, sentence = http.StatusRequestEntityTooLarge, "That is more than can be read here."
	case errors.Is(err, yesline.Invalid):
		status, sentence = http.StatusBadRequest, "That cannot be read."
	case errors.Is(err, yesline.Conflict):
		status, sentence = http.StatusConflict, "It is not as it was a moment ago. Look again."
	case errors.Is(err, yesline.TooMany):
		status, sentence = http.StatusTooManyRequests, "Too many at once. Try again in a moment."
		w.Header().Set("Retry-After", "2")
	case errors.Is(err, yesline.Unavailable), errors.Is(err, yesline.Full), errors.Is(err, context.DeadlineExceeded):
		status, sentence = http.StatusServiceUnavailable, "A part of Yesline does not answer. Try again in a moment."
	}
	if inWords {
		sentence = refusal.Sentence
	}
	if status >= 500 {
		s.failures.Add(1)
		s.house.Log.ErrorContext(r.Context(), "a request of a page failed", "door", r.Pattern, "status", status, "error", err)
	}
	s.tellScript(w, r, status, no{sentence})
}

func (s *Site) tellScript(w http.ResponseWriter, r *http.Request, status int, out any) {
	var data bytes.Buffer
	if err := marshal(&data, out); err != nil { // strings, numbers and truths
		panic(err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(data.Len()))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(data.Bytes())
	}
}

// waits counts the asks of each account that wait now.
type waits struct {
	mu  sync.Mutex
	now map[string]int
}

func (w *waits) enter(account string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.now == nil {
		w.now = map[string]int{}
	}
	if w.now[account] >= waitsAtOnce {
		return false
	}
	w.now[account]++
	return true
}

func (w *waits) leave(account string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.now[account]--; w.now[account] == 0 {
		delete(w.now, account)
	}
}
