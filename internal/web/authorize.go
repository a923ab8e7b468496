package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/session"
)

// asked is a request whose row has let it through: who asks and the permit
// they were given. For a stream the permit is empty.
type asked struct {
	*http.Request
	Who    session.Principal
	Permit access.Permit
}

func (a asked) call() yesline.CallID { return yesline.CallID(a.PathValue("call")) }

// showFunc reads or acts, and says what to show.
type showFunc func(ctx context.Context, a asked) (answer, error)

// tellFunc reads or acts, and gives what a script is answered as JSON.
type tellFunc func(ctx context.Context, a asked) (any, error)

// askFunc asks the gate for the row's object, each time anew; detail goes into
// the entry, which is durable before the permit is.
type askFunc func(detail map[string]string) (access.Permit, error)

// serveFunc writes a stream itself. An error before the first byte becomes the
// usual answer.
type serveFunc func(w http.ResponseWriter, a asked, ask askFunc) error

var errNoSession = errors.New("no session")

// build hangs every row behind the same walls.
func (s *Site) build() http.Handler {
	mux := http.NewServeMux()
	for _, r := range s.table {
		if r.sort != "local" {
			mux.Handle(r.pattern, s.door(r))
		}
	}
	same := http.NewCrossOriginProtection()
	same.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.crossOrigin.Add(1)
		if strings.HasPrefix(r.URL.Path, "/api/") {
			writeProblem(w, newProblem(http.StatusForbidden, "cross"))
			return
		}
		s.page(w, http.StatusForbidden, problemView{Status: http.StatusForbidden}, session.Nobody)
	}))
	return s.headers(s.recover(http.MaxBytesHandler(same.Handler(s.brakes(mux)), requestBytes)))
}

func (s *Site) door(r row) http.Handler {
	switch r.sort {
	case "public", "api":
		return r.open
	case "stream":
		return s.streamDoor(r)
	case "ask", "say":
		return s.scriptDoor(r)
	}
	return s.pageDoor(r)
}

func (s *Site) pageDoor(row row) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), answerTime-time.Second)
		defer cancel()
		r = r.WithContext(ctx)
		who, permit, err := s.enter(r, row)
		switch {
		case errors.Is(err, errNoSession) && row.sort == "page":
			http.Redirect(w, r, "/in", http.StatusSeeOther)
			return
		case errors.Is(err, errNoSession):
			s.absent(w)
			return
		case errors.Is(err, yesline.Stale):
			s.stale(w, r, who, row.back)
			return
		case err != nil:
			s.refuse(w, r, err)
			return
		}
		a, err := row.show(ctx, asked{r, who, permit})
		switch {
		case errors.Is(err, yesline.Stale):
			s.stale(w, r, who, row.back)
		case err != nil:
			s.refuse(w, r, err)
		default:
			s.send(w, r, a, who)
		}
	})
}

// enter lets somebody through a row's door, or says why not.
func (s *Site) enter(r *http.Request, row row) (session.Principal, access.Permit, error) {
	who, err := s.who(r)
	if err != nil {
		return who, access.Permit{}, err
	}
	object, err := s.named(r, who, row.rule)
	if err != nil {
		return who, access.Permit{}, err
	}
	if row.isFresh && !who.Fresh() { // before the gate: the answer tells nothing of the object
		return who, access.Permit{}, fmt.Errorf("a door for those who proved it just now: %w", yesline.Stale)
	}
	permit, err := s.house.Ask(r.Context(), who, row.rule.Verb, object, row.detail)
	return who, permit, err
}

// streamDoor looks the session up before anything else: a stranger reaches
// neither the gate nor the books that its question is worded by.
func (s *Site) streamDoor(row row) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := s.who(r)
		if err == nil {
			r = s.carrying(r, who)
			err = row.serve(w, asked{Request: r, Who: who}, s.asking(r, who, row.rule))
		}
		switch {
		case err == nil:
		case errors.Is(err, errNoSession):
			s.absent(w)
		default:
			s.refuse(w, r, err)
		}
	})
}

// asking is how a stream asks: first as the session that let it in, then each
// time with the session looked up anew.
func (s *Site) asking(r *http.Request, who session.Principal, rule Rule) askFunc {
	first := true
	return func(detail map[string]string) (access.Permit, error) {
		if first {
			first = false
			return s.askFor(r, who, rule, detail)
		}
		_, permit, err := s.authorize(r, rule, detail)
		return permit, err
	}
}

// authorize is the one place where a request becomes permitted: session,
// object, gate. Without a session, or with a name that no object can have, the
// gate is not troubled; such requests are counted.
func (s *Site) authorize(r *http.Request, rule Rule, detail map[string]string) (session.Principal, access.Permit, error) {
	who, err := s.who(r)
	if err != nil {
		return who, access.Permit{}, err
	}
	permit, err := s.askFor(r, who, rule, detail)
	return who, permit, err
}

// askFor asks the gate about the object that the request names.
func (s *Site) askFor(r *http.Request, who session.Principal, rule Rule, detail map[string]string) (access.Permit, error) {
	object, err := s.named(r, who, rule)
	if err != nil {
		return access.Permit{}, err
	}
	return s.house.Ask(r.Context(), who, rule.Verb, object, detail)
}

// named is the object that a request names, by its row's rule.
func (s *Site) named(r *http.Request, who session.Principal, rule Rule) (access.Object, error) {
	object := access.Object{Kind: rule.Kind}
	switch rule.Param {
	case theAsker:
		object.ID = string(who.Person())
		if rule.Kind == "account" {
			object.ID = who.Account()
		}
	case theHouse:
		object.ID = access.HouseID
	case thePlace:
		object = placeOf(who)
	default:
		object.ID = r.PathValue(rule.Param)
		if !yesline.IsID(prefixes[rule.Kind], object.ID) {
			s.malformed.Add(1)
			return object, yesline.NotFound
		}
	}
	if object.ID == "" { // an operator has no calls of their own
		return object, yesline.NotFound
	}
	return object, nil
}

// placeOf is where somebody works: their program, or the whole house.
func placeOf(who session.Principal) access.Object {
	if who.Program() != "" {
		return access.Object{Kind: "program", ID: string(who.Program())}
	}
	return access.Object{Kind: "house", ID: access.HouseID}
}

// who looks the session up. A cookie that is unknown, ended or too old is no
// session.
func (s *Site) who(r *http.Request) (session.Principal, error) {
	c, err := r.Cookie(s.cookieName())
	if err != nil || c.Value == "" || len(c.Value) > 512 {
		s.noSession.Add(1)
		return session.Principal{}, errNoSession
	}
	who, err := s.house.Who(r.Context(), c.Value)
	if errors.Is(err, yesline.NotFound) {
		s.noSession.Add(1)
		return session.Principal{}, errNoSession
	}
	return who, err
}

// recover keeps one broken request from taking the others along. What a
// handler said when it broke may hold anything, so only the place is logged.
func (s *Site) recover(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler {
				panic(p)
			}
			s.failures.Add(1)
			s.house.Log.Error("a handler panicked", "door", r.Pattern, "stack", string(debug.Stack()))
			s.page(w, http.StatusInternalServerError, problemView{Status: http.StatusInternalServerError}, session.Nobody)
		}()
		next.ServeHTTP(w, r)
	})
}
