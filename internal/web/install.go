package web

import (
	"io"
	"net/http"
	"strings"

	"yesline/internal/session"
)

// What makes the dialer an app on a telephone: a manifest, and a worker that
// keeps styles, scripts and one page for when there is no network. None of it
// is about anybody.

func (s *Site) manifest(w http.ResponseWriter, r *http.Request) {
	s.installed(w, "application/manifest+json", "app.webmanifest")
}

// worker must stand at the root: it is asked about every page below it.
func (s *Site) worker(w http.ResponseWriter, r *http.Request) {
	s.installed(w, "text/javascript; charset=utf-8", "worker.js")
}

// installed gives a file of the app with the place of the assets filled in.
func (s *Site) installed(w http.ResponseWriter, kind, name string) {
	text, err := files.ReadFile("pages/app/" + name)
	if err != nil { // it is embedded
		panic(err)
	}
	w.Header().Set("Content-Type", kind)
	io.WriteString(w, strings.ReplaceAll(string(text), "/a/hash/", s.assets.prefix))
}

func (s *Site) offline(w http.ResponseWriter, r *http.Request) {
	s.page(w, http.StatusOK, offlineView{}, session.Nobody)
}

type offlineView struct{}

func (offlineView) template() string { return "offline" }
