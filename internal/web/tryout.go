package web

import (
	"context"
	"net/http"
	"net/url"

	"yesline/internal/session"
)

// Tryout is how a demo lets whoever comes call somebody, without an account.
type Tryout struct {
	Friend Friend

	// Visitor makes a new person and signs them in; yesline.TooMany when there
	// were enough.
	Visitor func(ctx context.Context) (cookie string, err error)
}

// tryRows are doors of the demo only, and so not in the committed table.
func (s *Site) tryRows() []row {
	if s.house.Try == nil {
		return nil
	}
	return []row{
		public("GET /try", "a demo's front page, where whoever comes may call somebody made up", s.tryPage),
		public("POST /try", "makes a made-up visitor of a demo; no more than the demo allows", s.try),
	}
}

type tryView struct{ Friend Friend }

func (tryView) template() string { return "try" }

func (s *Site) tryPage(w http.ResponseWriter, r *http.Request) {
	kind := session.Nobody
	if who, err := s.who(r); err == nil {
		kind = who.Kind()
	}
	s.page(w, http.StatusOK, tryView{s.house.Try.Friend}, kind)
}

// try leads to the dialer. Who is somebody already calls as that person.
func (s *Site) try(w http.ResponseWriter, r *http.Request) {
	if who, err := s.who(r); err != nil || who.Kind() != session.Person {
		cookie, err := s.house.Try.Visitor(r.Context())
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		http.SetCookie(w, s.cookie(cookie))
	}
	http.Redirect(w, r, "/call#to="+url.QueryEscape(s.house.Try.Friend.Number), http.StatusSeeOther)
}

// tour is where a visitor of a demo is on their way: what to do on this page,
// and where to go on.
type tour struct {
	Step    int    // 1 call, 2 listen, 3 who listened, 4 withdraw, 5 verify
	Now     string // the words of the page: dial, live, forming, listen, nothing, gone, list, withdraw, empty, receipt
	Friend  string // whom they call
	Call    string
	Receipt string
	Key     string // of the log
}

// tourOf is the tour's part of a page; nil where the tour does not lead.
func (s *Site) tourOf(v view, kind session.Kind) *tour {
	if s.house.Try == nil || kind != session.Person {
		return nil
	}
	t := &tour{Friend: s.house.Try.Friend.Name}
	switch v := v.(type) {
	case dialView:
		t.Step, t.Now = 1, "dial"
	case callView:
		t.Step, t.Now, t.Call = 2, v.tourWord(), v.ID
		if t.Now == "gone" {
			t.Step = 5
		}
		if len(v.Receipts) > 0 {
			t.Receipt = v.Receipts[0]
		}
	case logView:
		t.Step, t.Now, t.Call = 3, "list", v.Call
	case withdrawView:
		t.Step, t.Now, t.Call = 4, "withdraw", v.Call
		if v.Already {
			t.Now = "empty"
		}
	case receiptView:
		t.Step, t.Now, t.Call, t.Key = 5, "receipt", v.Call, v.Key
	default:
		return nil
	}
	return t
}

// tourWord says how far the asker's own voice is, the first of the page.
func (v callView) tourWord() string {
	if len(v.Voices) == 0 {
		return "nothing"
	}
	switch own := v.Voices[0]; {
	case v.Live:
		return "live"
	case own.Track != "":
		return "listen"
	case own.State == "withdrawn":
		return "gone"
	case own.Why == "forming" || own.Why == "live":
		return "forming"
	}
	return "nothing"
}

// frontDoor is where nobody in particular is sent to.
func (s *Site) frontDoor() string {
	if s.house.Try != nil {
		return "/try"
	}
	return "/in"
}
