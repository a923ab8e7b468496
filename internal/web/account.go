package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/consent"
	"yesline/internal/session"
)

// Accounts are the ways into an account, and what hangs on them.
type Accounts struct {
	// Ceremonies. The options are what a browser's navigator.credentials takes,
	// as JSON; they are good for five minutes and for one use.
	RegisterOptions func(ctx context.Context, account string, handle []byte) ([]byte, error)
	SignInOptions   func(ctx context.Context) ([]byte, error)
	ProofOptions    func(ctx context.Context, who session.Principal) ([]byte, error)
	AddPasskey      func(ctx context.Context, who session.Principal, name string, credential []byte) (session.Passkey, error)
	SignIn          func(ctx context.Context, credential []byte, from session.Client) (cookie string, who session.Principal, err error)
	Prove           func(ctx context.Context, who session.Principal, credential []byte) (session.Principal, error)

	PasskeysOf    func(ctx context.Context, account string) ([]session.Passkey, error)
	RenamePasskey func(ctx context.Context, who session.Principal, id yesline.PasskeyID, name string) error
	RemovePasskey func(ctx context.Context, who session.Principal, id yesline.PasskeyID) error // yesline.Conflict for the last way in

	RecoveryCodes func(ctx context.Context, who session.Principal) ([]string, error)
	RecoveryLeft  func(ctx context.Context, account string) (int, error)
	Recover       func(ctx context.Context, code string, from session.Client) (cookie string, who session.Principal, err error)

	SessionsOf  func(ctx context.Context, who session.Principal, before int64, limit int) ([]session.Open, error)
	NameSession func(ctx context.Context, who session.Principal, id yesline.SessionID, name string) error
	EndSession  func(ctx context.Context, who session.Principal, id yesline.SessionID) error
	EndOthers   func(ctx context.Context, who session.Principal) (int, error)

	MakeKey func(ctx context.Context, who session.Principal, name string, scopes []string, life time.Duration) (session.Key, yesline.Secret, error)
	KeysOf  func(ctx context.Context, account string) ([]session.Key, error)
	EndKey  func(ctx context.Context, who session.Principal, id yesline.KeyID) error

	DevicesOf func(ctx context.Context, account string) ([]session.Phone, error)
	// AddPhone makes a SIP phone of the person who is permitted to manage their
	// account; EndPhone ends one.
	AddPhone func(ctx context.Context, permit access.Permit) (Phone, error)
	EndPhone func(ctx context.Context, permit access.Permit, id yesline.DeviceID) error

	// The terms, and what a person chose there: yesline.NotFound before they did.
	Cards   func() (consent.Terms, error)
	Choices func(ctx context.Context, person yesline.PersonID) (consent.Choice, error)
	Agree   func(ctx context.Context, person yesline.PersonID, program yesline.ProgramID, termsHash string, choices map[consent.Purpose]bool, ev consent.Evidence) error
}

// Phone is a telephone account. It is shown once.
type Phone struct {
	Server   string // host and port of the SIP door
	Username string
	Password yesline.Secret
}

const (
	sessionsOnAPage = 20
	nameBytes       = 64
	credentialBytes = 16 << 10
)

// securityDone are the notices that the page may show after an act.
var securityDone = map[string]bool{"proved": true, "passkey": true, "removed": true, "named": true, "ended": true, "others": true,
	"key": true, "phone": true, "recovered": true}

func securityPage(done string) answer { return goTo("/me/security?done=" + done) }

// security shows every way into one's account.
func (s *Site) security(ctx context.Context, a asked) (answer, error) {
	v, err := s.readSecurity(ctx, a)
	if err != nil {
		return answer{}, err
	}
	if done := a.URL.Query().Get("done"); securityDone[done] {
		v.Done = done
	}
	return show(v), nil
}

func (s *Site) readSecurity(ctx context.Context, a asked) (v securityView, err error) {
	account := a.Who.Account()
	v.Person, v.Device = a.Who.Person() != "", deviceWord(a.Request)
	v.Scopes = scopesFor(a.Who.Kind())
	passkeys, err := s.house.PasskeysOf(ctx, account)
	if err != nil {
		return v, err
	}
	for _, p := range passkeys {
		v.Passkeys = append(v.Passkeys, passkeyRow{ID: string(p.ID), Name: p.Name, Synced: p.Synced, Created: moment(p.Created), Used: moment(p.Used)})
	}
	if v.Left, err = s.house.RecoveryLeft(ctx, account); err != nil {
		return v, err
	}
	if err := s.offerCeremony(ctx, a.Who, &v); err != nil {
		return v, err
	}
	if err := s.readSessions(ctx, a, &v); err != nil {
		return v, err
	}
	keys, err := s.house.KeysOf(ctx, account)
	if err != nil {
		return v, err
	}
	for _, k := range keys {
		v.Keys = append(v.Keys, keyRow{ID: string(k.ID), Name: k.Name, May: scopesInWords(k.Scopes), Used: moment(k.Used), Expires: moment(k.Expires)})
	}
	if !v.Person {
		return v, nil
	}
	phones, err := s.house.DevicesOf(ctx, account)
	for _, p := range phones {
		v.Phones = append(v.Phones, phoneRow{ID: string(p.ID), Short: short(p.Username), Created: moment(p.Created)})
	}
	return v, err
}

// offerCeremony gives the page what its passkey button needs: to make one for
// those who may now, and else to show once more that it is them.
func (s *Site) offerCeremony(ctx context.Context, who session.Principal, v *securityView) error {
	if !who.Fresh() && len(v.Passkeys) > 0 {
		options, err := s.house.ProofOptions(ctx, who)
		v.Prove = string(options)
		return err
	}
	if !who.Fresh() && v.Left > 0 { // their one way in is a code: the next one is fresh
		v.Again = true
		return nil
	}
	options, err := s.house.RegisterOptions(ctx, who.Account(), nil)
	v.New = string(options)
	return err
}

func (s *Site) readSessions(ctx context.Context, a asked, v *securityView) error {
	before, err := cursor(a.URL.Query().Get("before"))
	if err != nil {
		return err
	}
	open, err := s.house.SessionsOf(ctx, a.Who, before, sessionsOnAPage+1)
	if err != nil {
		return err
	}
	if len(open) > sessionsOnAPage {
		open = open[:sessionsOnAPage]
		v.More = open[len(open)-1].Created
	}
	for _, o := range open {
		name := o.Name
		if name == "" {
			name = o.Device
		}
		if name == "" {
			name = "A device"
		}
		v.Sessions = append(v.Sessions, sessionRow{ID: string(o.ID), Name: name, Device: o.Device, Created: moment(o.Created), Seen: moment(o.Seen), Current: o.Current})
	}
	return nil
}

// again is the page once more, with what was wrong.
func (s *Site) again(ctx context.Context, a asked, status int, problem string) (answer, error) {
	v, err := s.readSecurity(ctx, a)
	v.Problem = problem
	return wrong(status, v), err
}

// nameOf reads a name of a thing: 1 to 64 bytes, or "" when it is no name.
func nameOf(a asked) (string, error) {
	if err := a.ParseForm(); err != nil {
		return "", unread(err)
	}
	name := strings.TrimSpace(a.PostForm.Get("name"))
	if len(name) > nameBytes {
		return "", nil
	}
	return name, nil
}

func (s *Site) addPasskey(ctx context.Context, a asked) (answer, error) {
	name, err := nameOf(a)
	if err != nil {
		return answer{}, err
	}
	if name == "" {
		return s.again(ctx, a, http.StatusUnprocessableEntity, "name")
	}
	credential, problem := credentialOf(a.Request)
	if problem != "" {
		return s.again(ctx, a, http.StatusUnprocessableEntity, problem)
	}
	_, err = s.house.AddPasskey(ctx, a.Who, name, credential)
	switch {
	case errors.Is(err, yesline.Stale):
		return answer{}, err
	case errors.Is(err, yesline.TooMany):
		return s.again(ctx, a, http.StatusConflict, "many")
	case refusedPasskey(err):
		return s.again(ctx, a, http.StatusUnprocessableEntity, "passkey")
	case err != nil:
		return answer{}, err
	}
	return securityPage("passkey"), nil
}

// credentialOf is what the authenticator said, unread; or what is wrong with
// the form that should hold it.
func credentialOf(r *http.Request) (data []byte, problem string) {
	c := r.PostForm.Get("credential")
	switch {
	case c == "":
		return nil, "empty"
	case len(c) > credentialBytes:
		return nil, "passkey"
	}
	return []byte(c), ""
}

// refusedPasskey are the errors that mean: not by this passkey, or not now.
func refusedPasskey(err error) bool {
	for _, kind := range []error{yesline.NotFound, yesline.Denied, yesline.Invalid, yesline.Conflict, yesline.Tampered} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

func (s *Site) namePasskey(ctx context.Context, a asked) (answer, error) {
	return s.rename(ctx, a, func(name string) error {
		return s.house.RenamePasskey(ctx, a.Who, yesline.PasskeyID(a.PathValue("passkey")), name)
	})
}

func (s *Site) nameSession(ctx context.Context, a asked) (answer, error) {
	return s.rename(ctx, a, func(name string) error {
		return s.house.NameSession(ctx, a.Who, yesline.SessionID(a.PathValue("session")), name)
	})
}

func (s *Site) rename(ctx context.Context, a asked, do func(name string) error) (answer, error) {
	name, err := nameOf(a)
	if err != nil {
		return answer{}, err
	}
	if name == "" {
		return s.again(ctx, a, http.StatusUnprocessableEntity, "name")
	}
	err = do(name)
	if errors.Is(err, yesline.Invalid) {
		return s.again(ctx, a, http.StatusUnprocessableEntity, "name")
	}
	return securityPage("named"), err
}

func (s *Site) removePasskey(ctx context.Context, a asked) (answer, error) {
	err := s.house.RemovePasskey(ctx, a.Who, yesline.PasskeyID(a.PathValue("passkey")))
	if errors.Is(err, yesline.Conflict) {
		return s.again(ctx, a, http.StatusConflict, "last")
	}
	return securityPage("removed"), err
}

func (s *Site) newCodes(ctx context.Context, a asked) (answer, error) {
	codes, err := s.house.RecoveryCodes(ctx, a.Who)
	if err != nil {
		return answer{}, err
	}
	v, err := s.readSecurity(ctx, a)
	v.Codes = codes
	return show(v), err
}

func (s *Site) endSession(ctx context.Context, a asked) (answer, error) {
	return securityPage("ended"), s.house.EndSession(ctx, a.Who, yesline.SessionID(a.PathValue("session")))
}

func (s *Site) endOthers(ctx context.Context, a asked) (answer, error) {
	_, err := s.house.EndOthers(ctx, a.Who)
	return securityPage("others"), err
}

// scopeRow is something a key may be for.
type scopeRow struct{ Verb, Words string }

// scopes are what a key can cover, by what its maker is. A key never covers
// what needs a proof by passkey.
var scopes = map[session.Kind][]scopeRow{
	session.Person: {
		{string(access.List), "list your calls"}, {string(access.View), "open a call"}, {string(access.Listen), "listen"},
		{string(access.Log), "read access lists"}, {string(access.Receipt), "fetch receipts"},
		{string(access.Allow), "allow sharing and licensing"}, {string(access.Withdraw), "take a voice back"},
		{string(access.Manage), "see and end sessions and keys"},
	},
	session.Operator: {
		{string(access.Invite), "invite people"}, {string(access.Verify), "check the log"}, {string(access.Contain), "recall tickets"},
		{string(access.Staff), "see who works here"}, {string(access.Manage), "see and end sessions and keys"},
	},
	session.Officer: {
		{string(access.Verify), "check the log"}, {string(access.Contain), "recall tickets"}, {string(access.Staff), "see who works here"},
		{string(access.Manage), "see and end sessions and keys"},
	},
	session.Auditor: {
		{string(access.Verify), "check the log"}, {string(access.Staff), "see who works here"}, {string(access.Manage), "see and end sessions and keys"},
	},
	session.Buyer: {{string(access.Manage), "see and end sessions and keys"}},
}

func scopesFor(k session.Kind) []scopeRow { return scopes[k] }

func scopesInWords(verbs []string) string {
	var said []string
	for _, kind := range []session.Kind{session.Person, session.Operator} {
		for _, row := range scopes[kind] {
			if slices.Contains(verbs, row.Verb) && !slices.Contains(said, row.Words) {
				said = append(said, row.Words)
			}
		}
	}
	return strings.Join(said, ", ")
}

var keyDays = []string{"7", "30", "90", "365"}

func (s *Site) makeKey(ctx context.Context, a asked) (answer, error) {
	name, err := nameOf(a)
	if err != nil {
		return answer{}, err
	}
	days := a.PostForm.Get("days")
	verbs := a.PostForm["scope"]
	known := func(verb string) bool {
		return slices.ContainsFunc(scopesFor(a.Who.Kind()), func(r scopeRow) bool { return r.Verb == verb })
	}
	unknown := slices.ContainsFunc(verbs, func(v string) bool { return !known(v) })
	if name == "" || len(verbs) == 0 || len(verbs) > 32 || unknown || !slices.Contains(keyDays, days) {
		return s.again(ctx, a, http.StatusUnprocessableEntity, "scopes")
	}
	n, _ := strconv.Atoi(days)
	key, secret, err := s.house.MakeKey(ctx, a.Who, name, verbs, time.Duration(n)*24*time.Hour)
	switch {
	case errors.Is(err, yesline.TooMany), errors.Is(err, yesline.Conflict):
		return s.again(ctx, a, http.StatusConflict, "many")
	case errors.Is(err, yesline.Invalid):
		return s.again(ctx, a, http.StatusUnprocessableEntity, "scopes")
	case err != nil:
		return answer{}, err
	}
	v, err := s.readSecurity(ctx, a)
	v.Key = &madeKey{Name: key.Name, Secret: string(secret.Bytes())}
	return show(v), err
}

func (s *Site) endKey(ctx context.Context, a asked) (answer, error) {
	return securityPage("key"), s.house.EndKey(ctx, a.Who, yesline.KeyID(a.PathValue("key")))
}

func (s *Site) addPhone(ctx context.Context, a asked) (answer, error) {
	if a.Who.Person() == "" { // staff have no phones
		return answer{}, fmt.Errorf("a phone of staff: %w", yesline.NotFound)
	}
	made, err := s.house.AddPhone(ctx, a.Permit)
	if errors.Is(err, yesline.TooMany) || errors.Is(err, yesline.Conflict) {
		return s.again(ctx, a, http.StatusConflict, "many")
	}
	if err != nil {
		return answer{}, err
	}
	v, err := s.readSecurity(ctx, a)
	v.Phone = &madePhone{Server: made.Server, Username: made.Username, Password: string(made.Password.Bytes())}
	return show(v), err
}

func (s *Site) endPhone(ctx context.Context, a asked) (answer, error) {
	return securityPage("phone"), s.house.EndPhone(ctx, a.Permit, yesline.DeviceID(a.PathValue("device")))
}

// terms shows what a person chose, beside the text as it is now.
func (s *Site) terms(ctx context.Context, a asked) (answer, error) {
	if a.Who.Person() == "" {
		return answer{}, fmt.Errorf("the terms of staff: %w", yesline.NotFound)
	}
	t, err := s.house.Cards()
	if err != nil {
		return answer{}, err
	}
	c, err := s.house.Choices(ctx, a.Who.Person())
	if err != nil && !errors.Is(err, yesline.NotFound) {
		return answer{}, err
	}
	v := termsPage(t, map[consent.Purpose]bool{consent.Record: c.Record, consent.Share: c.Share, consent.License: c.License})
	if a.URL.Query().Get("done") == "saved" {
		v.Done = "saved"
	}
	return show(v), nil
}

func termsPage(t consent.Terms, chosen map[consent.Purpose]bool) termsView {
	v := termsView{Hash: t.SHA256}
	for _, c := range t.Cards {
		v.Cards = append(v.Cards, cardRow{Purpose: string(c.Purpose), Title: c.Title, Short: c.Short, Full: c.Full, On: chosen[c.Purpose]})
	}
	return v
}

// choice is what somebody chose on the page of the terms.
type choice struct {
	terms   consent.Terms // as they are now
	on      map[consent.Purpose]bool
	changed bool // the text they saw is another
}

func (s *Site) choiceOf(r *http.Request) (choice, error) {
	if err := r.ParseForm(); err != nil {
		return choice{}, unread(err)
	}
	t, err := s.house.Cards()
	c := choice{terms: t, on: map[consent.Purpose]bool{}, changed: r.PostForm.Get("terms") != t.SHA256}
	for _, card := range t.Cards {
		c.on[card.Purpose] = r.PostForm.Get(string(card.Purpose)) == "yes"
	}
	return c, err
}

func (s *Site) agree(ctx context.Context, a asked) (answer, error) {
	if a.Who.Person() == "" {
		return answer{}, fmt.Errorf("the terms of staff: %w", yesline.NotFound)
	}
	c, err := s.choiceOf(a.Request)
	if err != nil {
		return answer{}, err
	}
	if !c.changed {
		ev := consent.Evidence{Language: c.terms.Language, AtMillis: time.Now().UnixMilli()}
		err = s.house.Agree(ctx, a.Who.Person(), a.Who.Program(), c.terms.SHA256, c.on, ev)
	}
	if c.changed || errors.Is(err, yesline.Conflict) {
		v := termsPage(c.terms, c.on)
		v.Problem = "changed"
		return wrong(http.StatusConflict, v), nil
	}
	return goTo("/me/terms?done=saved"), err
}

// moment reads milliseconds; 0 stays the zero of Unix time, which is never.
func moment(millis int64) time.Time { return time.UnixMilli(millis).UTC() }

// short is enough of an id or name to tell it from its neighbours.
func short(s string) string {
	if len(s) > 12 {
		return s[:12] + "…"
	}
	return s
}

// clientOf is what we keep of the browser somebody signs in from.
func clientOf(r *http.Request) session.Client { return session.Client{Device: deviceWord(r)} }

// deviceWord is a coarse word for a browser. It is made of our own words, and
// nothing of what the browser says goes into it.
func deviceWord(r *http.Request) string {
	agent := r.UserAgent()
	find := func(words [][2]string) string {
		for _, w := range words {
			if strings.Contains(agent, w[0]) {
				return w[1]
			}
		}
		return ""
	}
	browser := find([][2]string{{"Edg", "Edge"}, {"OPR/", "Opera"}, {"SamsungBrowser", "Samsung Internet"}, {"Firefox", "Firefox"}, {"FxiOS", "Firefox"},
		{"CriOS", "Chrome"}, {"Chrome", "Chrome"}, {"Safari", "Safari"}})
	system := find([][2]string{{"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"Windows", "Windows"}, {"CrOS", "ChromeOS"},
		{"Mac OS", "Mac"}, {"Linux", "Linux"}})
	switch {
	case browser != "" && system != "":
		return browser + " on " + system
	case browser != "" || system != "":
		return browser + system
	}
	return "This device"
}
