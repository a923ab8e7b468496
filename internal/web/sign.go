package web

import (
	"errors"
	"net/http"

	"yesline"
	"yesline/internal/session"
)

// cookieName carries the __Host- promise (Secure, no domain, whole site) where
// there is TLS to keep it.
func (s *Site) cookieName() string {
	if s.house.Secure {
		return "__Host-yesline"
	}
	return "yesline"
}

func (s *Site) cookie(value string) *http.Cookie {
	return &http.Cookie{Name: s.cookieName(), Value: value, Path: "/", HttpOnly: true, Secure: s.house.Secure, SameSite: http.SameSiteLaxMode}
}

func (s *Site) front(w http.ResponseWriter, r *http.Request) {
	who, err := s.who(r)
	if err != nil {
		http.Redirect(w, r, "/in", http.StatusSeeOther)
		return
	}
	http.Redirect(w, r, home(who), http.StatusSeeOther)
}

func home(who session.Principal) string {
	if who.Kind() == session.Operator {
		return "/house"
	}
	return "/calls"
}

func (s *Site) needLink(w http.ResponseWriter, r *http.Request) {
	s.page(w, http.StatusOK, needLinkView{}, session.Nobody)
}

// landing looks at nothing: opening a link, as previews do, must neither use it
// up nor tell whether it is good.
func (s *Site) landing(w http.ResponseWriter, r *http.Request) {
	s.page(w, http.StatusOK, landingView{}, session.Nobody)
}

func (s *Site) signIn(w http.ResponseWriter, r *http.Request) {
	token := r.PathValue("token")
	if len(token) > 256 {
		s.page(w, http.StatusNotFound, needLinkView{Used: true}, session.Nobody)
		return
	}
	cookie, who, err := s.house.Redeem(r.Context(), token)
	switch {
	case errors.Is(err, yesline.NotFound), errors.Is(err, yesline.Denied), errors.Is(err, yesline.Conflict), errors.Is(err, yesline.Invalid):
		s.page(w, http.StatusNotFound, needLinkView{Used: true}, session.Nobody)
		return
	case err != nil:
		s.refuse(w, r, err)
		return
	}
	http.SetCookie(w, s.cookie(cookie))
	http.Redirect(w, r, home(who), http.StatusSeeOther)
}

func (s *Site) signOut(w http.ResponseWriter, r *http.Request) {
	who, err := s.who(r)
	if err == nil {
		err = s.house.End(r.Context(), who)
	}
	if err != nil && !errors.Is(err, errNoSession) && !errors.Is(err, yesline.NotFound) {
		s.refuse(w, r, err)
		return
	}
	gone := s.cookie("")
	gone.MaxAge = -1
	http.SetCookie(w, gone)
	http.Redirect(w, r, "/in", http.StatusSeeOther)
}
