package web

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"yesline/internal/session"
)

//go:embed pages
var files embed.FS

// answer is what a handler wants shown: a page, another place, or a file.
type answer struct {
	status int
	view   view
	to     string
	name   string // of a file
	data   []byte

	cookies []*http.Cookie
	speaks  bool // the page may ask for the microphone
}

func show(v view) answer                   { return answer{status: http.StatusOK, view: v} }
func goTo(path string) answer              { return answer{to: path} }
func file(name string, data []byte) answer { return answer{name: name, data: data} }
func wrong(status int, v view) answer      { return answer{status: status, view: v} }

func (s *Site) send(w http.ResponseWriter, r *http.Request, a answer, who session.Principal) {
	switch {
	case a.to != "":
		http.Redirect(w, r, a.to, http.StatusSeeOther)
	case a.name != "":
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": a.name}))
		w.Header().Set("Content-Length", strconv.Itoa(len(a.data)))
		w.Write(a.data)
	default:
		for _, c := range a.cookies {
			http.SetCookie(w, c)
		}
		if a.speaks {
			w.Header().Set("Permissions-Policy", mayUse("self"))
		}
		s.pageFor(w, r, a.status, a.view, who)
	}
}

// page is a page for somebody of whom no more is known than what they are.
func (s *Site) page(w http.ResponseWriter, status int, v view, kind session.Kind) {
	s.write(w, status, frame{Kind: kind, View: v})
}

// pageFor is a page for somebody who is signed in: it names their place, and
// the cases that they have open.
func (s *Site) pageFor(w http.ResponseWriter, r *http.Request, status int, v view, who session.Principal) {
	f := frame{Kind: who.Kind(), View: v}
	if who.Kind() != session.Person && who.Account() != "" {
		f.Staff = staffPath(who)
	}
	if who.Kind() == session.Officer {
		open, err := s.house.OpenBy(r.Context(), who.Account())
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		for _, c := range open {
			f.Open = append(f.Open, openCase{ID: string(c.ID), Number: c.Number, Kind: c.Object.Kind, Object: c.Object.ID, Until: moment(c.Until)})
		}
	}
	s.write(w, status, f)
}

// write renders into memory first: a page that breaks half-way is never sent.
func (s *Site) write(w http.ResponseWriter, status int, f frame) {
	v := f.View
	f.Dials, f.Tour = s.house.Dialer.Dial != nil, s.tourOf(v, f.Kind)
	data, err := s.pages.render(f)
	if err != nil {
		s.failures.Add(1)
		s.house.Log.Error("a page did not render", "page", v.template(), "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(status)
	w.Write(data)
}

// pages are the templates, one set for each page, all around one layout.
type pages map[string]*template.Template

// frame is what the layout sees.
type frame struct {
	Lang  string
	Kind  session.Kind
	Here  string // the page's name
	Staff string // the page of the asker's colleagues
	Open  []openCase
	Dials bool // the house has a dialer
	Tour  *tour
	View  view
}

// openCase stands on every page of the officer who has it open.
type openCase struct {
	ID, Number, Kind, Object string
	Until                    time.Time
}

var shapes = []string{"in", "landing", "calls", "call", "log", "withdraw", "receipt", "me", "house", "problem",
	"recover", "prove", "join", "code", "terms", "passkey", "joined", "security", "lasting", "staff", "cases", "break", "case", "opened", "outbox", "dial", "offline", "try"}

func loadPages(assets string) (pages, error) {
	base, err := template.New("layout.html").Funcs(words).ParseFS(files, "pages/layout.html", "pages/parts.html", "pages/deeds.html", "pages/tour.html")
	if err != nil {
		return nil, err
	}
	p := pages{"": base}
	for _, name := range shapes {
		t, err := base.Clone()
		if err != nil {
			return nil, err
		}
		if p[name], err = t.ParseFS(files, "pages/"+name+".html"); err != nil {
			return nil, err
		}
		p[name].Option("missingkey=error")
		template.Must(p[name].New("assets").Parse(assets))
	}
	return p, nil
}

func (p pages) render(f frame) ([]byte, error) {
	f.Lang, f.Here = "en", f.View.template()
	t := p[f.Here]
	if t == nil {
		return nil, fmt.Errorf("no page %s", f.Here)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, f); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// said gives the words of a part that has no values in it, as they are read:
// consent keeps the very sentence that stood beside the button.
func (p pages) said(part string) (string, error) {
	var out strings.Builder
	if err := p["call"].ExecuteTemplate(&out, part, nil); err != nil {
		return "", fmt.Errorf("reading the words of %s: %w", part, err)
	}
	return strings.Join(strings.Fields(out.String()), " "), nil
}

// words are the few things a template cannot do by itself. They hold no text.
var words = template.FuncMap{
	"clock":   clock,
	"iso":     func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"utc":     func(t time.Time) time.Time { return t.UTC() },
	"millis":  time.UnixMilli,
	"hours":   func(seconds int64) int64 { return seconds / 3600 },
	"minutes": func(seconds int64) int64 { return seconds / 60 % 60 },
	"rest":    func(seconds int64) int64 { return seconds % 60 },
	"add":     func(a, b int64) int64 { return a + b },
	"number":  func(i int) int { return i + 1 },
}

// clock writes seconds as people read a player: 3:07, 1:02:09.
func clock(seconds int64) string {
	if seconds >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", seconds/3600, seconds/60%60, seconds%60)
	}
	return fmt.Sprintf("%d:%02d", seconds/60, seconds%60)
}
