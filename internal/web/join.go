package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"yesline"
	"yesline/internal/consent"
	"yesline/internal/session"
)

// Joining is how somebody who has nothing here gets an account: their number,
// the code we sent there, the terms, a passkey. Between the steps a cookie
// names their claim; each step is done only after the one before it.
type Joining struct {
	Open bool // people may sign up without an invitation

	// Begin takes a number as people write it, sends a code there, and gives the
	// claim's cookie. yesline.Invalid for what is no number, yesline.TooMany when
	// no more codes may be sent. Whether the number is known it does not tell.
	Begin func(ctx context.Context, program yesline.ProgramID, number string) (cookie string, err error)
	// Resume sends the code of an invitation's claim, and gives its cookie.
	Resume func(ctx context.Context, claim yesline.ClaimID) (cookie string, err error)

	ClaimOf    func(ctx context.Context, cookie string) (session.Claim, error) // yesline.NotFound when it is over
	ClaimMask  func(ctx context.Context, claim yesline.ClaimID) (string, error)
	ProveClaim func(ctx context.Context, cookie, code string) error // yesline.Denied for a wrong code, yesline.NotFound when it is over
	// Adult looks at a date of birth (2006-01-02) and keeps nothing of it:
	// yesline.Denied for who is not 18, yesline.Invalid for what is no date.
	Adult      func(birth string, now time.Time) error
	AgreeClaim func(ctx context.Context, cookie, termsHash, choices string) error

	// Finish makes the account of a claim that is proven and agreed, with its
	// first passkey, and signs in. yesline.Conflict when the number has one.
	Finish func(ctx context.Context, cookie string, credential []byte, name string, from session.Client) (sessionCookie string, who session.Principal, codes []string, err error)
}

// NoCodes says that this house has no way to send a code, and so nobody can
// show that a number is theirs.
var NoCodes = fmt.Errorf("codes cannot be sent from this house: %w", yesline.Unavailable)

// The purposes that are on are kept with a claim as words with commas between,
// after the word that says that they are 18 or older.
var purposes = []consent.Purpose{consent.Record, consent.Share, consent.License}

func spellChoices(on map[consent.Purpose]bool) string {
	words := []string{"adult"}
	for _, p := range purposes {
		if on[p] {
			words = append(words, string(p))
		}
	}
	return strings.Join(words, ",")
}

// ReadChoices reads what a claim keeps of the switches: session.Claim.Choices.
func ReadChoices(s string) map[consent.Purpose]bool {
	words := strings.Split(s, ",")
	on := map[consent.Purpose]bool{}
	for _, p := range purposes {
		on[p] = slices.Contains(words, string(p))
	}
	return on
}

func (s *Site) claimCookieName() string {
	if s.house.Secure {
		return "__Host-yesline-join"
	}
	return "yesline-join"
}

func (s *Site) claimCookie(value string) *http.Cookie {
	return &http.Cookie{Name: s.claimCookieName(), Value: value, Path: "/", HttpOnly: true, Secure: s.house.Secure, SameSite: http.SameSiteStrictMode}
}

func (s *Site) endClaimCookie(w http.ResponseWriter) {
	gone := s.claimCookie("")
	gone.MaxAge = -1
	http.SetCookie(w, gone)
}

// claim reads how far somebody is, and leads them to the step where they are
// when that is another than the one they ask for.
func (s *Site) claim(w http.ResponseWriter, r *http.Request, step string) (cookie string, c session.Claim, here bool) {
	if k, err := r.Cookie(s.claimCookieName()); err == nil && k.Value != "" && len(k.Value) <= 512 {
		cookie = k.Value
	}
	err := error(yesline.NotFound)
	if cookie != "" {
		c, err = s.house.ClaimOf(r.Context(), cookie)
	}
	switch {
	case errors.Is(err, yesline.NotFound):
		s.joinOver(w, r)
		return "", c, false
	case err != nil:
		s.refuse(w, r, err)
		return "", c, false
	}
	if at := stepOf(c); at != step {
		http.Redirect(w, r, at, http.StatusSeeOther)
		return "", c, false
	}
	return cookie, c, true
}

func stepOf(c session.Claim) string {
	switch {
	case !c.Proven:
		return "/join/code"
	case c.Terms == "":
		return "/join/terms"
	}
	return "/join/passkey"
}

// joinOver begins anew: a claim ends with time, and with wrong codes.
func (s *Site) joinOver(w http.ResponseWriter, r *http.Request) {
	s.endClaimCookie(w)
	http.Redirect(w, r, "/join?over", http.StatusSeeOther)
}

func (s *Site) join(w http.ResponseWriter, r *http.Request) {
	problem := ""
	if r.URL.Query().Has("over") {
		problem = "over"
	}
	s.joinPage(w, r, http.StatusOK, problem)
}

func (s *Site) joinPage(w http.ResponseWriter, r *http.Request, status int, problem string) {
	if !s.house.Open {
		s.absent(w)
		return
	}
	programs, err := s.house.Programs(r.Context())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	v := joinView{Problem: problem}
	for _, p := range programs {
		v.Programs = append(v.Programs, programRow{string(p.ID), p.Name})
	}
	s.page(w, status, v, session.Nobody)
}

// beginJoin answers alike for every number, known or not.
func (s *Site) beginJoin(w http.ResponseWriter, r *http.Request) {
	if !s.house.Open {
		s.absent(w)
		return
	}
	if err := r.ParseForm(); err != nil {
		s.refuse(w, r, unread(err))
		return
	}
	program := r.PostForm.Get("program")
	phone := r.PostForm.Get("phone")
	if !yesline.IsID("prg", program) || len(phone) > 40 {
		s.joinPage(w, r, http.StatusUnprocessableEntity, "number")
		return
	}
	cookie, err := s.house.Begin(r.Context(), yesline.ProgramID(program), phone)
	switch {
	case errors.Is(err, yesline.Invalid), errors.Is(err, yesline.NotFound):
		s.joinPage(w, r, http.StatusUnprocessableEntity, "number")
		return
	case errors.Is(err, yesline.TooMany):
		w.Header().Set("Retry-After", "3600")
		s.joinPage(w, r, http.StatusTooManyRequests, "often")
		return
	case err != nil:
		s.refuse(w, r, err)
		return
	}
	http.SetCookie(w, s.claimCookie(cookie))
	http.Redirect(w, r, "/join/code", http.StatusSeeOther)
}

func (s *Site) joinCode(w http.ResponseWriter, r *http.Request) {
	if _, c, here := s.claim(w, r, "/join/code"); here {
		s.codePage(w, r, http.StatusOK, c, "")
	}
}

func (s *Site) codePage(w http.ResponseWriter, r *http.Request, status int, c session.Claim, problem string) {
	mask, err := s.house.ClaimMask(r.Context(), c.ID)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.page(w, status, codeView{Mask: mask, Problem: problem}, session.Nobody)
}

func (s *Site) proveCode(w http.ResponseWriter, r *http.Request) {
	cookie, c, here := s.claim(w, r, "/join/code")
	if !here {
		return
	}
	if err := r.ParseForm(); err != nil {
		s.refuse(w, r, unread(err))
		return
	}
	code := strings.Join(strings.Fields(r.PostForm.Get("code")), "")
	if len(code) > 12 {
		code = ""
	}
	err := s.house.ProveClaim(r.Context(), cookie, code)
	switch {
	case errors.Is(err, yesline.Invalid), errors.Is(err, yesline.Denied):
		s.codePage(w, r, http.StatusUnprocessableEntity, c, "wrong")
	case errors.Is(err, yesline.NotFound):
		s.joinOver(w, r)
	case err != nil:
		s.refuse(w, r, err)
	default:
		http.Redirect(w, r, "/join/terms", http.StatusSeeOther)
	}
}

func (s *Site) joinTerms(w http.ResponseWriter, r *http.Request) {
	if _, _, here := s.claim(w, r, "/join/terms"); !here {
		return
	}
	t, err := s.house.Cards()
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	v := termsPage(t, nil)
	v.Joining = true
	s.page(w, http.StatusOK, v, session.Nobody)
}

func (s *Site) agreeJoin(w http.ResponseWriter, r *http.Request) {
	cookie, _, here := s.claim(w, r, "/join/terms")
	if !here {
		return
	}
	c, err := s.choiceOf(r)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	v := termsPage(c.terms, c.on)
	v.Joining = true
	if c.changed {
		v.Problem = "changed"
		s.page(w, http.StatusConflict, v, session.Nobody)
		return
	}
	if err := s.house.Adult(r.PostForm.Get("birth"), time.Now()); err != nil {
		v.Problem = "birth"
		s.page(w, http.StatusUnprocessableEntity, v, session.Nobody)
		return
	}
	err = s.house.AgreeClaim(r.Context(), cookie, c.terms.SHA256, spellChoices(c.on))
	switch {
	case errors.Is(err, yesline.NotFound):
		s.joinOver(w, r)
	case err != nil:
		s.refuse(w, r, err)
	default:
		http.Redirect(w, r, "/join/passkey", http.StatusSeeOther)
	}
}

func (s *Site) joinPasskey(w http.ResponseWriter, r *http.Request) {
	if _, c, here := s.claim(w, r, "/join/passkey"); here {
		s.passkeyPage(w, r, http.StatusOK, c, "")
	}
}

func (s *Site) passkeyPage(w http.ResponseWriter, r *http.Request, status int, c session.Claim, problem string) {
	options, err := s.house.RegisterOptions(r.Context(), "", nil)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.page(w, status, passkeyView{Options: string(options), Name: deviceWord(r), Problem: problem}, session.Nobody)
}

// finishJoin ends the claim and begins the account. The recovery codes stand on
// this one answer.
func (s *Site) finishJoin(w http.ResponseWriter, r *http.Request) {
	cookie, c, here := s.claim(w, r, "/join/passkey")
	if !here {
		return
	}
	if err := r.ParseForm(); err != nil {
		s.refuse(w, r, unread(err))
		return
	}
	name := strings.TrimSpace(r.PostForm.Get("name"))
	if name == "" || len(name) > nameBytes {
		name = deviceWord(r)
	}
	credential, problem := credentialOf(r)
	if problem != "" {
		s.passkeyPage(w, r, http.StatusUnprocessableEntity, c, problem)
		return
	}
	signed, who, codes, err := s.house.Finish(r.Context(), cookie, credential, name, clientOf(r))
	switch {
	case errors.Is(err, yesline.Conflict): // they hold the number, and so may know that it has an account
		s.endClaimCookie(w)
		s.joinPage(w, r, http.StatusConflict, "taken")
		return
	case errors.Is(err, yesline.NotFound):
		s.joinOver(w, r)
		return
	case refusedPasskey(err):
		s.passkeyPage(w, r, http.StatusUnprocessableEntity, c, "passkey")
		return
	case err != nil:
		s.refuse(w, r, err)
		return
	}
	s.endClaimCookie(w)
	http.SetCookie(w, s.cookie(signed))
	s.pageFor(w, r, http.StatusOK, joinedView{Codes: codes}, who)
}
