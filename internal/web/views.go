package web

import (
	"time"
)

// A view is an allow-list: what is not a field here cannot be on the page.
type view interface{ template() string }

type problemView struct{ Status int }
type landingView struct{}

type callsView struct {
	Dials  bool // calls can be made from a page
	Opened []openedView
	Days   []dayView
	More   string // cursor of the next page
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
	Measured       bool // and Speech is how many of them are speech
	Speech         int64
	Why            string // when there is no track to hear: refused, silent, unasked, withdrawn, held, live, private, forming, lost
	Opus           bool   // the track can be taken home as it came
	Asked          string // of one's own: before, during, lasting; "": no question was answered
	Lasts          bool   // and the answer was a yes from now on
}

type callView struct {
	ID       string
	Other    string
	Began    time.Time
	Seconds  int64
	Live     bool
	Voices   []voiceView // one's own first
	Pauses   []pauseView
	Receipts []string
	Done     string // what was just done: shared, unshared, licensed, unlicensed, withdrawn
}

// pauseView is a time in which nothing of a call was kept; Ended is zero when
// it lasted as long as the call.
type pauseView struct {
	Who          string // you, other
	Began, Ended time.Time
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
	Staff bool // seen by an officer, not by a party
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
	Opened []openedView
}

type houseView struct {
	Live       int
	Entries    int64
	Signed     time.Time
	Note       string
	Refused    []refusedRow
	Programs   []programRow
	MayInvite  bool
	Invitation *invitationView
	Problem    string // "number", "codes"
}

type programRow struct{ ID, Name string }

// invitationView is shown once and kept nowhere.
type invitationView struct{ Path, Mask string }

func (problemView) template() string  { return "problem" }
func (landingView) template() string  { return "landing" }
func (callsView) template() string    { return "calls" }
func (callView) template() string     { return "call" }
func (logView) template() string      { return "log" }
func (withdrawView) template() string { return "withdraw" }
func (receiptView) template() string  { return "receipt" }
func (meView) template() string       { return "me" }
func (houseView) template() string    { return "house" }

type inView struct {
	Options string // of the passkey ceremony, JSON
	Problem string // link, passkey, empty
	Join    bool   // people may sign up here
}

type recoverView struct{ Problem string } // wrong, often

type proveView struct {
	Options string
	Next    string // where they go afterwards
	Again   bool   // they come from a button, and press it again
	None    bool   // there is no passkey to show it by
	Problem string // passkey, empty
}

type joinView struct {
	Programs []programRow
	Problem  string // number, often, over, taken
}

type codeView struct {
	Mask    string
	Problem string // wrong
}

type termsView struct {
	Joining bool
	Hash    string
	Cards   []cardRow
	Done    string // saved
	Problem string // changed, birth
}

type cardRow struct {
	Purpose, Title, Short string
	Full                  []string
	On                    bool
}

type passkeyView struct {
	Options string
	Name    string
	Problem string // passkey, empty
}

type joinedView struct{ Codes []string } // shown once

type securityView struct {
	Person   bool
	Device   string // a word for the browser that asks
	Prove    string // options to show that it is them, when they must first
	New      string // options of a new passkey, when they may make one now
	Again    bool   // they must come in by a recovery code once more to make one
	Passkeys []passkeyRow
	Left     int // recovery codes
	Sessions []sessionRow
	More     int64 // the next page of sessions is before this, unix milliseconds; 0: no more
	Keys     []keyRow
	Scopes   []scopeRow
	Phones   []phoneRow
	Done     string
	Problem  string // passkey, empty, last, name, scopes, many

	// Shown once.
	Codes []string
	Key   *madeKey
	Phone *madePhone
}

type passkeyRow struct {
	ID, Name      string
	Synced        bool
	Created, Used time.Time
}

type sessionRow struct {
	ID, Name, Device string
	Created, Seen    time.Time
	Current          bool
}

type keyRow struct {
	ID, Name, May string
	Used, Expires time.Time
}

type phoneRow struct {
	ID, Short string
	Created   time.Time
}

type madeKey struct{ Name, Secret string }

type madePhone struct{ Server, Username, Password string }

// openedView tells a person that staff opened something of theirs.
type openedView struct {
	Kind, Object   string
	Opened         time.Time
	Reason, Number string
}

type staffView struct {
	Place      string // the name of the program; "" for the house
	Program    string // its id
	Colleagues []colleagueRow
	Programs   []programRow // where the house may appoint to
	MayAppoint bool
	Roles      []string
	Link       string // shown once
	Done       string // ended
	Problem    string // role, last
}

type colleagueRow struct {
	ID, Short, Role, Where, By string
	Created, Ended             time.Time
	Me                         bool
}

type casesView struct {
	Cases   []caseRow
	MayAsk  bool
	More    int64
	Problem string // about
}

type caseRow struct {
	ID, Number, Kind, State string
	Asked                   time.Time
	Mine                    bool
}

type breakView struct {
	Kind, Object   string
	Reason, Number string
	Problem        string // reason
}

type caseView struct {
	ID, Kind, Object, State string
	Reason, Number          string
	Asker, Approver         string
	Asked, Opened, Until    time.Time
	Mine, MayDecide         bool
	Revealed                string // a number in clear; set on one answer only
	Done                    string // asked, approved, refused, closed
	Near                    bool   // whoever tried to approve is too near to who asked
}

type staffCallView struct {
	ID      string
	Began   time.Time
	Seconds int64
	Live    bool
	Voices  []voiceView
}

type outboxView struct{ Messages []Message }

func (inView) template() string        { return "in" }
func (recoverView) template() string   { return "recover" }
func (proveView) template() string     { return "prove" }
func (joinView) template() string      { return "join" }
func (codeView) template() string      { return "code" }
func (termsView) template() string     { return "terms" }
func (passkeyView) template() string   { return "passkey" }
func (joinedView) template() string    { return "joined" }
func (securityView) template() string  { return "security" }
func (staffView) template() string     { return "staff" }
func (casesView) template() string     { return "cases" }
func (breakView) template() string     { return "break" }
func (caseView) template() string      { return "case" }
func (staffCallView) template() string { return "opened" }
func (outboxView) template() string    { return "outbox" }
