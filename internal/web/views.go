package web

import (
	"time"
)

// A view is an allow-list: what is not a field here cannot be on the page.
type view interface{ template() string }

type problemView struct{ Status int }
type needLinkView struct{ Used bool } // Used: the link they followed is no good
type landingView struct{}

type callsView struct {
	Days []dayView
	More string // cursor of the next page
}

type dayView struct {
	Day   time.Time
	Calls []callRow
}

type callRow struct {
	ID      string
	Began   time.Time
	Other   string // a mask
	Seconds int64
	Live    bool
	Mine    string // state of each voice: recording, kept, stopped, refused, silent, withdrawn, held
	Theirs  string
}

// voiceView is one party of a call.
type voiceView struct {
	Mine           bool
	Mask           string
	State          string // recording, kept, stopped, refused, silent, withdrawn, held
	At             time.Time
	Share, License bool
	Track          string // "" when this person may not hear it
	Seconds        int64
	Why            string // when there is no track to hear: refused, silent, withdrawn, held, live, private, forming, lost
}

type callView struct {
	ID       string
	Other    string
	Began    time.Time
	Seconds  int64
	Live     bool
	Voices   []voiceView // one's own first
	Receipts []string
	Done     string // what was just done: shared, unshared, licensed, unlicensed, withdrawn
}

// Audible counts the voices that can be played.
func (v callView) Audible() int {
	n := 0
	for _, voice := range v.Voices {
		if voice.Track != "" {
			n++
		}
	}
	return n
}

type logView struct {
	Call  string
	Other string
	Began time.Time
	Lines []logLine
	More  int64 // the next page is before this, unix milliseconds; 0: no more
}

type logLine struct {
	At      time.Time
	Who     string // you, other, house, operator, somebody
	What    string // the verb
	Part    string // waveform, sound
	Purpose string // record, share, license
	Whose   string // yours, theirs, "": not about a voice
	From    int64  // seconds
	Seconds int64
	Times   int64 // of how many windows or entries this line is the sum
	Refused bool
}

type withdrawView struct {
	Call    string
	Other   string
	Began   time.Time
	Seconds int64
	Shared  bool
	Already bool
}

type receiptView struct {
	ID    string
	Call  string
	What  string // the verb of the statement
	At    time.Time
	Key   string
	Track string
}

type meView struct {
	Mask   string
	Number string // in clear; set on one answer only
	Lines  []logLine
}

type houseView struct {
	Live       int
	Entries    int64
	Signed     time.Time
	Note       string
	Programs   []programRow
	Invitation *invitationView
	Problem    string // "number", "known"
}

type programRow struct{ ID, Name string }

// invitationView is shown once and kept nowhere.
type invitationView struct {
	Path, Server, Username, Password, Mask string
}

func (problemView) template() string  { return "problem" }
func (needLinkView) template() string { return "in" }
func (landingView) template() string  { return "landing" }
func (callsView) template() string    { return "calls" }
func (callView) template() string     { return "call" }
func (logView) template() string      { return "log" }
func (withdrawView) template() string { return "withdraw" }
func (receiptView) template() string  { return "receipt" }
func (meView) template() string       { return "me" }
func (houseView) template() string    { return "house" }
