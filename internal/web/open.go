package web

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
)

func (s *Site) health(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, "ok\n")
}

// logCheckpoint and logTile publish the log for outsiders (C2SP tlog-tiles): what
// is signed, and nothing beyond. They look at no session.
func (s *Site) logCheckpoint(w http.ResponseWriter, r *http.Request) {
	note, err := s.house.LogCheckpoint(r.Context())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, note)
}

func (s *Site) logTile(w http.ResponseWriter, r *http.Request) {
	path := r.PathValue("tile")
	data, err := s.house.LogTile(r.Context(), path)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.Itoa(len(data)))
	if !strings.Contains(path, ".p/") { // a full tile never changes
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	w.Write(data)
}

func (s *Site) nothing(w http.ResponseWriter, r *http.Request) { s.absent(w) }

const reportBytes = 16 << 10

// directives are the parts of the policy that a report may name in the log.
var directives = map[string]bool{"script-src": true, "script-src-elem": true, "script-src-attr": true, "style-src": true, "style-src-elem": true,
	"style-src-attr": true, "img-src": true, "font-src": true, "media-src": true, "connect-src": true, "form-action": true, "default-src": true,
	"require-trusted-types-for": true, "trusted-types": true, "frame-ancestors": true, "base-uri": true, "manifest-src": true, "worker-src": true}

// report counts what a browser says it blocked. Of what it says only the
// directive is kept, and only if it is one of ours: the rest may hold addresses
// of people's pages, or anything a stranger likes to send.
func (s *Site) report(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, reportBytes))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	s.reports.Add(1)
	var said struct {
		Report struct {
			Directive string `json:"effective-directive"`
		} `json:"csp-report"`
	}
	if json.Unmarshal(body, &said) == nil && directives[said.Report.Directive] {
		s.house.Log.Warn("a browser blocked a part of a page", "directive", said.Report.Directive)
	}
	w.WriteHeader(http.StatusNoContent)
}
