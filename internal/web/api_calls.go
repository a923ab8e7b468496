package web

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/consent"
)

// operations are the doors for programs, each with its rule.
func operations() []*operation {
	return []*operation{
		api("GET /api/v1/me", own(access.Manage, "account"), "me", "Whose key this is", (*desk).apiMe),

		api("GET /api/v1/calls", own(access.List, "person"), "calls", "The calls of the person whose key it is, newest first", (*desk).apiCalls).ofPeople(),
		api("GET /api/v1/calls/{call}", of(access.View, "call", "call"), "call", "One call: its voices, choices and receipts", (*desk).apiCall).ofPeople(),
		api("GET /api/v1/calls/{call}/log", of(access.Log, "call", "call"), "call-log", "Who did what to one's own voice in a call, newest first", (*desk).apiCallLog).ofPeople(),
		choose("withdraw", access.Withdraw, "Take one's voice in a call back: it is destroyed", consent.Record, false).ofPeople(),
		choose("share", access.Allow, "Let the other party hear one's voice", consent.Share, true).ofPeople(),
		choose("share/stop", access.Withdraw, "No longer let them", consent.Share, false).ofPeople(),
		choose("license", access.Allow, "License one's voice in a call", consent.License, true).ofPeople(),
		choose("license/stop", access.Withdraw, "No longer license it", consent.License, false).ofPeople(),

		api("POST /api/v1/tracks/{track}/ticket", of(access.Listen, "track", "track"), "ticket", "An address to hear a voice at, good for two minutes", (*desk).apiTicket).ofPeople(),
		sound("GET /api/v1/tracks/{track}/audio", of(access.Listen, "track", "track"), "audio", "The sound, by a ticket in the address", (*desk).play).ofPeople(),
		sound("GET /api/v1/tracks/{track}/original", of(access.Listen, "track", "track"), "original", "A voice that is kept in Opus, as it came: an Ogg file, by a ticket in the address", (*desk).playOriginal).ofPeople(),
		api("GET /api/v1/receipts/{receipt}", of(access.Receipt, "receipt", "receipt"), "receipt", "A receipt that one holds", (*desk).apiReceipt).ofPeople(),

		api("GET /api/v1/lasting", own(access.Manage, "account"), "lasting", "Yeses that last for later calls with somebody, newest first", (*desk).apiLasting).ofPeople(),
		api("POST /api/v1/lasting/end", own(access.Manage, "account"), "end-lasting", "End one of them: later calls ask anew", (*desk).apiEndLasting).said(http.StatusNoContent).ofPeople().takesBack().
			like(map[string]string{"id": "ent_" + strings.Repeat("a", 32)}),
		api("GET /api/v1/sessions", own(access.Manage, "account"), "sessions", "Where the account is signed in", (*desk).apiSessions),
		api("DELETE /api/v1/sessions/{session}", of(access.Manage, "session", "session"), "end-session", "End one of its sessions", (*desk).apiEndSession).said(http.StatusNoContent),
		api("GET /api/v1/keys", own(access.Manage, "account"), "keys", "The account's API keys", (*desk).apiKeys),
		api("DELETE /api/v1/keys/{key}", of(access.Manage, "key", "key"), "end-key", "End one of them", (*desk).apiEndKey).said(http.StatusNoContent),

		api("GET /api/v1/programs", place(access.Staff), "programs", "The programs one works for", (*desk).apiPrograms),
		api("POST /api/v1/programs/{program}/people", of(access.Invite, "program", "program"), "invite", "Add a contributor", (*desk).apiInvite).
			said(http.StatusCreated).like(map[string]string{"phone": "+12025550142"}),
		api("POST /api/v1/programs/{program}/tickets/revoke", of(access.Contain, "program", "program"), "revoke-tickets", "Recall tickets that were issued before now", (*desk).apiRevoke).
			like(map[string]string{"what": "all"}),
		api("GET /api/v1/house/checkpoint", house(access.Verify), "checkpoint", "The newest signed state of the log", (*desk).apiCheckpoint),
	}
}

// What a door reads of an address. The gate has asked about the object before
// these are looked at. None is embedded in another: huma would not see it.
type (
	nothing struct{}

	callIn struct {
		Call string `path:"call" doc:"A call's id"`
	}
	trackIn struct {
		Track string `path:"track" doc:"A track's id"`
	}
	receiptIn struct {
		Receipt string `path:"receipt" doc:"A receipt's id"`
	}
	pageIn struct {
		Cursor string `query:"cursor" maxLength:"256" doc:"Where to go on, from the answer before"`
		Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"50" doc:"At most this many"`
	}
	callPageIn struct {
		Call   string `path:"call" doc:"A call's id"`
		Cursor string `query:"cursor" maxLength:"256" doc:"Where to go on, from the answer before"`
		Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"50" doc:"At most this many"`
	}
)

// What a door answers. What is not a field here cannot be in an answer.
type (
	callItem struct {
		ID      string    `json:"id"`
		Began   time.Time `json:"began"`
		Seconds int64     `json:"seconds"`
		Live    bool      `json:"live"`
		Other   string    `json:"other" doc:"The other party's number, masked"`
		Mine    string    `json:"mine" doc:"What became of one's own voice"`
		Theirs  string    `json:"theirs" doc:"What became of theirs"`
	}
	callsOut struct {
		Link string `header:"Link"`
		Body struct {
			Items []callItem `json:"items" nullable:"false"`
			Next  string     `json:"next" doc:"The cursor of the next page; empty when this is the last"`
		}
	}
	voiceItem struct {
		Mine    bool       `json:"mine"`
		Number  string     `json:"number" doc:"Masked"`
		State   string     `json:"state" enum:"recording,kept,stopped,refused,silent,withdrawn,held"`
		At      *time.Time `json:"at" doc:"When they last chose"`
		Share   bool       `json:"share"`
		License bool       `json:"license" doc:"One's own only"`
		Track   string     `json:"track" doc:"Empty when one may not hear it"`
		Seconds int64      `json:"seconds"`
		Speech  *int64     `json:"speech" doc:"How many of these seconds are speech, by their loudness: silence and a steady hum are not, music is. Null where that was not measured, or not yet"`
		Why     string     `json:"why" doc:"Why there is no track to hear"`
	}
	askItem struct {
		Purpose string `json:"purpose" enum:"share,license"`
		Words   string `json:"words" doc:"Show people these words before they say yes"`
		SHA256  string `json:"sha256" doc:"Of the words; it goes with the yes"`
	}
	callBody struct {
		ID       string      `json:"id"`
		Began    time.Time   `json:"began"`
		Seconds  int64       `json:"seconds"`
		Live     bool        `json:"live"`
		Ask      string      `json:"ask" enum:"before,during" doc:"Whether both were asked before they talked, or when one of them wanted to record"`
		Voices   []voiceItem `json:"voices" nullable:"false"`
		Receipts []string    `json:"receipts" nullable:"false"`
		Asks     []askItem   `json:"asks" nullable:"false"`
	}
	callOut struct{ Body callBody }
	logItem struct {
		At      time.Time `json:"at"`
		Who     string    `json:"who" doc:"What they are to the reader: you, other, house, staff, somebody"`
		What    string    `json:"what"`
		Part    string    `json:"part"`
		Purpose string    `json:"purpose"`
		Whose   string    `json:"whose" doc:"yours, theirs, or empty: not about a voice"`
		From    int64     `json:"from" doc:"Seconds into the call"`
		Seconds int64     `json:"seconds"`
		Times   int64     `json:"times"`
		Refused bool      `json:"refused"`
	}
	logOut struct {
		Link string `header:"Link"`
		Body struct {
			Items []logItem `json:"items" nullable:"false"`
			Next  string    `json:"next"`
		}
	}
	choiceOut struct {
		Body struct {
			Call    string `json:"call"`
			Purpose string `json:"purpose" enum:"record,share,license"`
			Choice  string `json:"choice" enum:"yes,no"`
		}
	}
	ticketOut struct {
		Body struct {
			URL      string    `json:"url" doc:"Good for whoever asked, from where they asked, by the program they asked with"`
			Original string    `json:"original" doc:"The same for the sound as it came, of a voice that is kept in Opus; else empty"`
			Expires  time.Time `json:"expires"`
		}
	}
	receiptOut struct {
		Body struct {
			ID       string    `json:"id"`
			Call     string    `json:"call"`
			What     string    `json:"what"`
			Object   string    `json:"object"`
			At       time.Time `json:"at"`
			Document string    `json:"document" doc:"What yesline receipt verify reads, byte for byte"`
			Key      string    `json:"key" doc:"The log's public key"`
		}
	}
)

func (d *desk) apiCalls(ctx context.Context, a asked, in *pageIn) (*callsOut, error) {
	place, err := d.place(a, in.Cursor)
	if err != nil {
		return nil, err
	}
	me := a.Who.Person()
	calls, more, err := d.house.Calls(ctx, me, place, in.Limit)
	if err != nil {
		return nil, err
	}
	if calls, err = d.viewed(ctx, a, calls); err != nil {
		return nil, err
	}
	ids := make([]yesline.CallID, len(calls))
	var people []yesline.PersonID
	for i, c := range calls {
		ids[i] = c.ID
		people = append(people, c.Parties...)
	}
	standings, err := d.house.Standings(ctx, ids)
	if err != nil {
		return nil, err
	}
	masks, err := d.house.Masks(ctx, people)
	if err != nil {
		return nil, err
	}
	out := &callsOut{}
	out.Body.Items = []callItem{}
	for _, c := range calls {
		other := otherThan(c.Parties, me)
		out.Body.Items = append(out.Body.Items, callItem{ID: string(c.ID), Began: c.Began.UTC(), Seconds: c.Seconds, Live: c.Live,
			Other: masks[other], Mine: state(c, standings[c.ID], me), Theirs: state(c, standings[c.ID], other)})
	}
	out.Body.Next = d.cursor(a, more)
	out.Link = next(a, out.Body.Next, in.Limit)
	return out, nil
}

func (d *desk) apiCall(ctx context.Context, a asked, _ *callIn) (*callOut, error) {
	body, err := d.callBody(ctx, a)
	return &callOut{body}, err
}

func (d *desk) callBody(ctx context.Context, a asked) (callBody, error) {
	me := a.Who.Person()
	c, masks, standings, err := d.one(ctx, a)
	if err != nil {
		return callBody{}, err
	}
	tracks, err := d.house.Tracks(ctx, c.ID)
	if err != nil {
		return callBody{}, err
	}
	receipts, err := d.house.Receipts(ctx, c.ID, me)
	if err != nil {
		return callBody{}, err
	}
	body := callBody{ID: string(c.ID), Began: c.Began.UTC(), Seconds: c.Seconds, Live: c.Live, Ask: "before", Voices: []voiceItem{}, Receipts: []string{}}
	if c.Later {
		body.Ask = "during"
	}
	for _, r := range receipts {
		body.Receipts = append(body.Receipts, string(r))
	}
	for _, p := range append([]yesline.PersonID{me}, c.Parties...) {
		if p == me && len(body.Voices) > 0 {
			continue // one's own is first
		}
		body.Voices = append(body.Voices, itemOf(voice(c, standings, tracks, p, p == me, masks[p])))
	}
	for _, p := range []consent.Purpose{consent.Share, consent.License} {
		ev, words, err := d.wordsFor(p)
		if err != nil {
			return callBody{}, err
		}
		body.Asks = append(body.Asks, askItem{string(p), words, ev.PromptSHA256})
	}
	return body, nil
}

func itemOf(v voiceView) voiceItem {
	item := voiceItem{Mine: v.Mine, Number: v.Mask, State: v.State, Share: v.Share, License: v.License, Track: v.Track, Seconds: v.Seconds, Why: v.Why}
	if !v.At.IsZero() {
		item.At = &v.At
	}
	if v.Measured {
		item.Speech = &v.Speech
	}
	return item
}

// wordsFor are the words that people are asked with on the page, and the
// evidence of a yes to them.
func (d *desk) wordsFor(p consent.Purpose) (consent.Evidence, string, error) {
	part := "ask-" + string(p)
	words, err := d.pages.said(part)
	if err != nil {
		return consent.Evidence{}, "", err
	}
	ev, err := d.evidence(part)
	ev.Channel = "api"
	return ev, words, err
}

func (d *desk) apiCallLog(ctx context.Context, a asked, in *callPageIn) (*logOut, error) {
	before, err := d.millis(a, in.Cursor)
	if err != nil {
		return nil, err
	}
	me := a.Who.Person()
	c, _, _, err := d.one(ctx, a)
	if err != nil {
		return nil, err
	}
	tracks, err := d.house.Tracks(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	objects := []string{string(c.ID)}
	owner := map[string]yesline.PersonID{}
	for _, t := range tracks {
		objects = append(objects, string(t.ID))
		owner[string(t.ID)] = t.Person
	}
	entries, err := d.house.About(ctx, me, objects, before, in.Limit)
	if err != nil {
		return nil, err
	}
	var lines []logLine
	for _, e := range entries {
		lines = fold(lines, inWords(e.Entry, c, me, owner))
	}
	out := &logOut{}
	out.Body.Items = []logItem{}
	for _, l := range lines {
		out.Body.Items = append(out.Body.Items, logItem(l)) // a field more there does not compile here
	}
	if len(entries) == in.Limit {
		out.Body.Next = d.cursor(a, strconv.FormatInt(entries[len(entries)-1].Entry.AtMillis, 10))
	}
	out.Link = next(a, out.Body.Next, in.Limit)
	return out, nil
}

type yesIn struct {
	Call    string `path:"call" doc:"A call's id"`
	IfMatch string `header:"If-Match" doc:"Only if the call's answer still has this tag"`
	Once    string `header:"Idempotency-Key" doc:"Repeating a request with the same one does it once; remembered for 24 hours"`
	Body    struct {
		Words string `json:"words_sha256" pattern:"^[0-9a-f]{64}$" doc:"The hash of the words that the person was shown"`
	}
}

type noIn struct {
	Call    string `path:"call" doc:"A call's id"`
	IfMatch string `header:"If-Match" doc:"Only if the call's answer still has this tag"`
	Once    string `header:"Idempotency-Key" doc:"Repeating a request with the same one does it once; remembered for 24 hours"`
}

// choose is the door of one choice about one's own voice in a call. A yes
// names the words it was given to; taking it back needs none.
func choose(act string, v access.Verb, summary string, p consent.Purpose, yes bool) *operation {
	pattern, rule := "POST /api/v1/calls/{call}/"+act, of(v, "call", "call")
	if yes {
		return api(pattern, rule, string(p), summary, func(d *desk, ctx context.Context, a asked, in *yesIn) (*choiceOut, error) {
			if err := d.unchanged(ctx, a); err != nil {
				return nil, err
			}
			ev, _, err := d.wordsFor(p)
			if err != nil {
				return nil, err
			}
			if in.Body.Words != ev.PromptSHA256 {
				return nil, newProblem(http.StatusConflict, "words", fault{Pointer: "#/words_sha256", Detail: "ask for the call again"})
			}
			return chosen(a, p, "yes"), d.house.Set(ctx, a.Permit, a.call(), p, ev)
		}).repeatable()
	}
	return api(pattern, rule, "stop-"+string(p), summary, func(d *desk, ctx context.Context, a asked, _ *noIn) (*choiceOut, error) {
		if err := d.unchanged(ctx, a); err != nil {
			return nil, err
		}
		ev := consent.Evidence{Channel: "api", AtMillis: time.Now().UnixMilli()}
		return chosen(a, p, "no"), d.house.Withdraw(ctx, a.Permit, a.call(), p, ev)
	}).repeatable()
}

func chosen(a asked, p consent.Purpose, choice string) *choiceOut {
	out := &choiceOut{}
	out.Body.Call, out.Body.Purpose, out.Body.Choice = string(a.call()), string(p), choice
	return out
}

// unchanged holds a choice to what its chooser has seen, if they say so. It
// compares and shows nothing.
func (d *desk) unchanged(ctx context.Context, a asked) error {
	conditions := a.Header.Values("If-Match")
	if len(conditions) == 0 {
		return nil
	}
	body, err := d.callBody(ctx, a)
	if err != nil {
		return err
	}
	var now bytes.Buffer
	if err := marshal(&now, body); err != nil {
		return err
	}
	if !matches(conditions, tagOf(now.Bytes()), false) {
		return newProblem(http.StatusPreconditionFailed, "changed", fault{Header: "If-Match", Detail: "the call's answer has another tag"})
	}
	return nil
}

func (d *desk) apiReceipt(ctx context.Context, a asked, in *receiptIn) (*receiptOut, error) {
	r, err := d.house.Receipt(ctx, a.Permit, yesline.ReceiptID(in.Receipt))
	if err != nil {
		return nil, err
	}
	out := &receiptOut{}
	out.Body.ID, out.Body.Call, out.Body.What, out.Body.Object = in.Receipt, string(r.Call), r.Statement.Verb, r.Statement.Object
	out.Body.At, out.Body.Document, out.Body.Key = time.UnixMilli(r.Statement.AtMillis).UTC(), string(r.JSON), d.house.LogKey
	return out, nil
}
