package web

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"yesline"
)

// problem is how the API says no (RFC 9457). It never repeats what was sent:
// every sentence of it is written in this file, and a place is named only if
// it is one that the door knows.
type problem struct {
	Type   string  `json:"type" doc:"What is wrong, as a name that does not change" example:"urn:yesline:problem:absent"`
	Title  string  `json:"title" doc:"The same for people"`
	Status int     `json:"status" doc:"The HTTP status code"`
	Errors []fault `json:"errors,omitempty" doc:"What is wrong with what was sent"`

	retry int // seconds until it may work; 0: not said
}

// fault names one thing that was sent and what is wrong with it. At most one
// of the places is set.
type fault struct {
	Pointer   string `json:"pointer,omitempty" doc:"Where in the body: a JSON pointer (RFC 6901) in a fragment"`
	Parameter string `json:"parameter,omitempty" doc:"Which parameter of the address"`
	Header    string `json:"header,omitempty" doc:"Which header"`
	Detail    string `json:"detail" doc:"What is wrong"`
}

const problemType = "application/problem+json"

func (p *problem) Error() string               { return p.Title }
func (p *problem) GetStatus() int              { return p.Status }
func (p *problem) ContentType(_ string) string { return problemType }

// sayings are the titles of the problems, by the last word of their type.
var sayings = map[string]string{
	"key":         "An API key is needed: send it in the header Authorization, as a Bearer token.",
	"ticket":      "A ticket is needed that is good now, here, and for this. Ask for one by the key.",
	"absent":      "There is nothing here, or nothing for this key.",
	"method":      "This does not work by this method.",
	"proof":       "This needs somebody who just showed who they are; a key cannot.",
	"invalid":     "What was sent cannot be what was meant.",
	"media":       "A body is application/json, in UTF-8, and not compressed.",
	"large":       "That is more than this door reads.",
	"slow":        "The body did not arrive in time.",
	"conflict":    "It is not as it was a moment ago. Look again.",
	"repeated":    "This Idempotency-Key belongs to another request, or to one that is not finished.",
	"changed":     "It is not as it was when you looked. Look again.",
	"words":       "These are not the words that people are asked with now. Show them the words of the call's answer.",
	"many":        "Too many. Later may work.",
	"unavailable": "A part of the house does not answer. Later may work.",
	"cross":       "Another site sent this. The API is not for pages of other sites.",
	"internal":    "Something here is broken. It was written down.",
}

func newProblem(status int, name string, faults ...fault) *problem {
	return &problem{Type: "urn:yesline:problem:" + name, Title: sayings[name], Status: status, Errors: faults}
}

// problemOf turns a kind of error into a problem. What went wrong stays in the
// log.
func problemOf(err error) *problem {
	var p *problem
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, errNoSession):
		return newProblem(http.StatusUnauthorized, "key")
	case errors.Is(err, errNoTicket):
		return newProblem(http.StatusUnauthorized, "ticket")
	case errors.Is(err, yesline.NotFound), errors.Is(err, yesline.Denied):
		return newProblem(http.StatusNotFound, "absent")
	case errors.Is(err, yesline.Stale):
		return newProblem(http.StatusForbidden, "proof")
	case errors.As(err, &large):
		return newProblem(http.StatusRequestEntityTooLarge, "large")
	case errors.Is(err, yesline.Invalid):
		return newProblem(http.StatusUnprocessableEntity, "invalid")
	case errors.Is(err, yesline.Conflict):
		return newProblem(http.StatusConflict, "conflict")
	case errors.Is(err, yesline.TooMany):
		p = newProblem(http.StatusTooManyRequests, "many")
		p.retry = 60
		return p
	case errors.Is(err, yesline.Unavailable), errors.Is(err, yesline.Full), errors.Is(err, context.DeadlineExceeded):
		p = newProblem(http.StatusServiceUnavailable, "unavailable")
		p.retry = 5
		return p
	}
	return newProblem(http.StatusInternalServerError, "internal")
}

// refuseAPI answers with a problem, and writes down what is ours to mend.
func (s *Site) refuseAPI(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	if p.Status >= 500 {
		s.failures.Add(1)
		s.house.Log.ErrorContext(r.Context(), "a request of a program failed", "door", r.Pattern, "status", p.Status, "error", err)
	}
	writeProblem(w, p)
}

func writeProblem(w http.ResponseWriter, p *problem) {
	var data bytes.Buffer
	if err := marshal(&data, p); err != nil { // it holds strings and a number
		panic(err)
	}
	h := w.Header()
	h.Set("Content-Type", problemType)
	h.Set("Content-Length", strconv.Itoa(data.Len()))
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	if p.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retry))
	}
	w.WriteHeader(p.Status)
	w.Write(data.Bytes())
}

// unhuma takes what the library found wrong and says it in our words: its own
// hold the value, and a name in a body can be somebody's number.
func (o *operation) unhuma(m *huma.ErrorModel) *problem {
	var p *problem
	switch m.Status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		p = newProblem(m.Status, "invalid")
	case http.StatusRequestEntityTooLarge:
		return newProblem(m.Status, "large")
	case http.StatusRequestTimeout:
		return newProblem(m.Status, "slow")
	case http.StatusUnsupportedMediaType:
		return newProblem(m.Status, "media")
	default:
		return newProblem(http.StatusInternalServerError, "internal")
	}
	for _, d := range m.Errors {
		if d != nil && len(p.Errors) < maxFaults {
			p.Errors = append(p.Errors, o.fault(d.Location, d.Message))
		}
	}
	return p
}

const maxFaults = 8

// complaints are the library's findings, each with ours. What is not here is
// only "not as it should be".
var complaints = []struct{ begins, ours string }{
	{"unexpected property", "there is a field here that this door does not know"},
	{"unknown query parameter", "there is a parameter that this door does not know"},
	{"expected required property", "a field is missing"},
	{"required ", "this is missing"},
	{"expected length", "this is too short or too long"},
	{"expected number", "this is not a number of that size"},
	{"expected integer", "this is not a whole number"},
	{"invalid integer", "this is not a whole number"},
	{"expected boolean", "this is neither true nor false"},
	{"expected string to be RFC 3339 date-time", "this is not a time as RFC 3339 writes it"},
	{"expected string to match", "this does not have the form that it must have"},
	{"expected string", "this is not a text"},
	{"expected object", "this is not an object"},
	{"expected array", "this is not a list"},
}

func (o *operation) fault(location, message string) fault {
	f := fault{Detail: "this is not as it should be"}
	for _, c := range complaints {
		if strings.HasPrefix(message, c.begins) {
			f.Detail = c.ours
			break
		}
	}
	where, name, _ := strings.Cut(location, ".")
	known := o.knows(where, name)
	switch {
	case where == "query" && known:
		f.Parameter = name
	case where == "header" && known:
		f.Header = name
	case where == "body" && known:
		f.Pointer = "#/" + name
	case where == "body":
		f.Pointer = "#"
	}
	return f
}
