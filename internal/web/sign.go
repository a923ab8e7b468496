package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

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
		http.Redirect(w, r, s.frontDoor(), http.StatusSeeOther)
		return
	}
	http.Redirect(w, r, home(who), http.StatusSeeOther)
}

// home is where somebody begins.
func home(who session.Principal) string {
	switch who.Kind() {
	case session.Operator, session.Auditor:
		return "/house"
	case session.Officer:
		return "/cases"
	case session.Buyer:
		return "/me/security"
	}
	return "/calls"
}

func (s *Site) in(w http.ResponseWriter, r *http.Request) { s.inPage(w, r, http.StatusOK, "") }

func (s *Site) inPage(w http.ResponseWriter, r *http.Request, status int, problem string) {
	options, err := s.house.SignInOptions(r.Context())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.page(w, status, inView{Options: string(options), Problem: problem, Join: s.house.Open}, session.Nobody)
}

func (s *Site) signInByPasskey(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		s.refuse(w, r, unread(err))
		return
	}
	credential, problem := credentialOf(r)
	if problem != "" {
		s.inPage(w, r, http.StatusUnprocessableEntity, problem)
		return
	}
	cookie, who, err := s.house.SignIn(r.Context(), credential, clientOf(r))
	switch {
	case refusedPasskey(err):
		s.inPage(w, r, http.StatusUnprocessableEntity, "passkey")
		return
	case err != nil:
		s.refuse(w, r, err)
		return
	}
	http.SetCookie(w, s.cookie(cookie))
	http.Redirect(w, r, home(who), http.StatusSeeOther)
}

// landing looks at nothing: opening a link, as previews do, must neither use it
// up nor tell whether it is good.
func (s *Site) landing(w http.ResponseWriter, r *http.Request) {
	s.page(w, http.StatusOK, landingView{}, session.Nobody)
}

// useLink turns a link into a session, or into a sign-up that goes on with the
// code.
func (s *Site) useLink(w http.ResponseWriter, r *http.Request) {
	token := r.PathValue("token")
	if len(token) > 256 {
		s.inPage(w, r, http.StatusNotFound, "link")
		return
	}
	got, err := s.house.RedeemAny(r.Context(), token, clientOf(r))
	cookie := got.Cookie
	if err == nil && got.Claim != "" {
		cookie, err = s.house.Resume(r.Context(), got.Claim)
	}
	switch {
	case refusedPasskey(err):
		s.inPage(w, r, http.StatusNotFound, "link")
	case err != nil:
		s.refuse(w, r, err)
	case got.Claim != "":
		http.SetCookie(w, s.claimCookie(cookie))
		http.Redirect(w, r, "/join/code", http.StatusSeeOther)
	default:
		http.SetCookie(w, s.cookie(cookie))
		http.Redirect(w, r, s.firstPage(r.Context(), got.Who), http.StatusSeeOther)
	}
}

// firstPage is where somebody begins who came by a link: with a passkey, if
// they have none, for the link does not work twice.
func (s *Site) firstPage(ctx context.Context, who session.Principal) string {
	if passkeys, err := s.house.PasskeysOf(ctx, who.Account()); err == nil && len(passkeys) == 0 {
		return "/me/security"
	}
	return home(who)
}

func (s *Site) askRecovery(w http.ResponseWriter, r *http.Request) {
	s.page(w, http.StatusOK, recoverView{}, session.Nobody)
}

func (s *Site) useCode(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		s.refuse(w, r, unread(err))
		return
	}
	code := strings.TrimSpace(r.PostForm.Get("code"))
	if len(code) > 64 {
		code = ""
	}
	cookie, _, err := s.house.Recover(r.Context(), code, clientOf(r))
	switch {
	case errors.Is(err, yesline.TooMany):
		w.Header().Set("Retry-After", "600")
		s.page(w, http.StatusTooManyRequests, recoverView{Problem: "often"}, session.Nobody)
		return
	case refusedPasskey(err):
		s.page(w, http.StatusUnprocessableEntity, recoverView{Problem: "wrong"}, session.Nobody)
		return
	case err != nil:
		s.refuse(w, r, err)
		return
	}
	http.SetCookie(w, s.cookie(cookie))
	http.Redirect(w, r, "/me/security?done=recovered", http.StatusSeeOther)
}

// prove is the step-up: the passkey once more, by the session that asks.
func (s *Site) prove(ctx context.Context, a asked) (answer, error) {
	if err := a.ParseForm(); err != nil {
		return answer{}, unread(err)
	}
	next := ours(a.PostForm.Get("next"))
	credential, problem := credentialOf(a.Request)
	if problem == "" {
		_, err := s.house.Prove(ctx, a.Who, credential)
		if err == nil {
			if next == "/me/security" {
				next += "?done=proved"
			}
			return goTo(next), nil
		}
		if !refusedPasskey(err) {
			return answer{}, err
		}
		problem = "passkey"
	}
	v, err := s.proof(ctx, a.Who)
	v.Next, v.Problem = next, problem
	return wrong(http.StatusUnprocessableEntity, v), err
}

// proof is the page that asks somebody to show that it is them.
func (s *Site) proof(ctx context.Context, who session.Principal) (proveView, error) {
	passkeys, err := s.house.PasskeysOf(ctx, who.Account())
	if err != nil {
		return proveView{}, err
	}
	options, err := s.house.ProofOptions(ctx, who)
	return proveView{Options: string(options), None: len(passkeys) == 0}, err
}

// ours is a path of this site to go to, or the front.
func ours(path string) string {
	u, err := url.Parse(path)
	if err != nil || len(path) > 256 || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || u.Host != "" ||
		strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r == '\\' || r > '~' }) {
		return "/"
	}
	return u.EscapedPath()
}

// stale is the answer to somebody who must show first that it is them. It looks
// at nothing of what they asked for.
func (s *Site) stale(w http.ResponseWriter, r *http.Request, who session.Principal, back string) {
	v, err := s.proof(r.Context(), who)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	next := r.URL.Path
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		next = parameter.ReplaceAllStringFunc(back, func(name string) string { return url.PathEscape(r.PathValue(strings.Trim(name, "{}"))) })
	}
	v.Next, v.Again = ours(next), r.Method == http.MethodPost
	s.pageFor(w, r, http.StatusForbidden, v, who)
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
