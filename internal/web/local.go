package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"yesline"
	"yesline/internal/playback"
	"yesline/internal/session"
)

// The rows of the house's own socket speak JSON and serve the command line.
// They stand in the one table and ask the one gate; only who asks is known by
// the kernel's word instead of a cookie.

type peerKey struct{}

// WithPeer says who is at the other end of a local connection.
func WithPeer(ctx context.Context, who session.Principal) context.Context {
	return context.WithValue(ctx, peerKey{}, who)
}

// localFunc reads or acts, and gives what is answered as JSON.
type localFunc func(ctx context.Context, a asked) (any, error)

// local is a row that only the house's own socket has.
func local(pattern string, rule Rule, f localFunc) row {
	return row{pattern: pattern, sort: "local", rule: rule, local: f}
}

// Local answers on the house's own socket.
func (s *Site) Local() http.Handler {
	mux := http.NewServeMux()
	for _, r := range s.table {
		if r.sort == "local" {
			mux.Handle(r.pattern, s.localDoor(r))
		}
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.refuseLocal(w, r, yesline.NotFound) })
	return s.recover(http.MaxBytesHandler(mux, requestBytes))
}

func (s *Site) localDoor(row row) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, _ := r.Context().Value(peerKey{}).(session.Principal)
		permit, err := s.askFor(r, who, row.rule, nil)
		if err != nil {
			s.refuseLocal(w, r, err)
			return
		}
		out, err := row.local(r.Context(), asked{r, who, permit})
		if err != nil {
			s.refuseLocal(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(out)
	})
}

// refuseLocal answers a problem document (RFC 9457) that repeats no value.
func (s *Site) refuseLocal(w http.ResponseWriter, r *http.Request, err error) {
	status, title := http.StatusInternalServerError, "something failed; the server's log says what"
	switch {
	case errors.Is(err, yesline.NotFound), errors.Is(err, yesline.Denied):
		status, title = http.StatusNotFound, "there is no such thing, or it is not yours to ask for"
	case errors.Is(err, yesline.Invalid):
		status, title = http.StatusBadRequest, "that cannot be read; look at the number or the form"
	case errors.Is(err, NoCodes):
		status, title = http.StatusServiceUnavailable, "this house has no way to send codes, so nobody can prove a number: name an SMS provider in [sms]"
	case errors.Is(err, yesline.Conflict):
		status, title = http.StatusConflict, "that was true a moment ago and is not any more"
	case errors.Is(err, yesline.TooMany):
		status, title = http.StatusTooManyRequests, "too many at once; try again later"
	case errors.Is(err, yesline.Unavailable), errors.Is(err, yesline.Full):
		status, title = http.StatusServiceUnavailable, "a part of the house does not answer"
	}
	if status >= 500 {
		s.failures.Add(1)
		s.house.Log.ErrorContext(r.Context(), "a local request failed", "door", r.Pattern, "status", status, "error", err)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
	}{title, status})
}

// LocalInvite asks for a contributor.
type LocalInvite struct {
	Number string `json:"number"`
}

// LocalInvited is shown once.
type LocalInvited struct {
	Link string `json:"link"`
	Mask string `json:"mask"`
}

// LocalProgram is a line of the list of programs.
type LocalProgram struct {
	ID   yesline.ProgramID `json:"id"`
	Name string            `json:"name"`
}

func (s *Site) localLog(ctx context.Context, _ asked) (any, error) { return s.house.Verify(ctx) }

func (s *Site) localPrograms(ctx context.Context, _ asked) (any, error) {
	all, err := s.house.Programs(ctx)
	list := []LocalProgram{}
	for _, p := range all {
		list = append(list, LocalProgram(p))
	}
	return list, err
}

func (s *Site) localInvite(ctx context.Context, a asked) (any, error) {
	var in LocalInvite
	d := json.NewDecoder(a.Body)
	d.DisallowUnknownFields()
	if d.Decode(&in) != nil {
		return nil, fmt.Errorf("reading an invitation: %w", yesline.Invalid)
	}
	id := yesline.ProgramID(a.PathValue("program"))
	phone, err := s.house.Number(ctx, id, in.Number)
	if err != nil {
		return nil, err
	}
	made, err := s.house.Invite(ctx, a.Permit, id, phone)
	if err != nil {
		return nil, err
	}
	return LocalInvited{"/in/" + made.Token, made.Mask}, nil
}

// localRevoke recalls tickets: all of the house's, or those it is told.
func (s *Site) localRevoke(ctx context.Context, a asked) (any, error) {
	var what playback.Revocation
	d := json.NewDecoder(a.Body)
	d.DisallowUnknownFields()
	if d.Decode(&what) != nil {
		return nil, fmt.Errorf("reading which tickets to recall: %w", yesline.Invalid)
	}
	return s.house.RevokeTickets(ctx, a.Permit, what)
}

func (s *Site) localRotate(ctx context.Context, a asked) (any, error) {
	return s.house.RotateTickets(ctx, a.Permit, yesline.ProgramID(a.PathValue("program")))
}
