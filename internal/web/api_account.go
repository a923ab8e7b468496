package web

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"yesline"
	"yesline/internal/playback"
)

type (
	sessionIn struct {
		Session string `path:"session" doc:"A session's id"`
	}
	keyIn struct {
		Key string `path:"key" doc:"An API key's id, not the key"`
	}
	inviteIn struct {
		Program string `path:"program" doc:"A program's id"`
		Body    struct {
			Phone string `json:"phone" minLength:"3" maxLength:"40" doc:"Their number, as people write it"`
		}
	}
	revokeIn struct {
		Program string `path:"program" doc:"A program's id"`
		Body    struct {
			What string `json:"what" enum:"all,object,session,key,since" doc:"Which tickets"`
			ID   string `json:"id,omitempty" maxLength:"36" doc:"Of a track or call, a session or a key"`
			Time string `json:"time,omitempty" format:"date-time" maxLength:"40" doc:"For since: tickets issued then or later"`
		}
	}

	meOut struct {
		Body struct {
			Account string   `json:"account"`
			Kind    string   `json:"kind" enum:"person,buyer,operator,officer,auditor"`
			Program string   `json:"program" doc:"Empty for staff of the whole house"`
			Number  string   `json:"number" doc:"Masked; empty for staff"`
			Key     string   `json:"key" doc:"The id of the key that asks"`
			Scopes  []string `json:"scopes" nullable:"false"`
		}
	}
	sessionItem struct {
		ID      string    `json:"id"`
		Name    string    `json:"name"`
		Device  string    `json:"device"`
		Created time.Time `json:"created"`
		Seen    time.Time `json:"seen"`
	}
	sessionsOut struct {
		Link string `header:"Link"`
		Body struct {
			Items []sessionItem `json:"items" nullable:"false"`
			Next  string        `json:"next"`
		}
	}
	keyItem struct {
		ID      string     `json:"id"`
		Name    string     `json:"name"`
		Scopes  []string   `json:"scopes" nullable:"false"`
		Created time.Time  `json:"created"`
		Used    *time.Time `json:"used"`
		Expires time.Time  `json:"expires"`
		Current bool       `json:"current" doc:"It is the one that asks"`
	}
	keysOut struct {
		Body struct {
			Items []keyItem `json:"items" nullable:"false"`
		}
	}
	programItem struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}
	programsOut struct {
		Body struct {
			Items []programItem `json:"items" nullable:"false"`
		}
	}
	inviteOut struct {
		Body struct {
			Link   string `json:"link" doc:"For them, once; not shown again"`
			Number string `json:"number" doc:"Masked"`
		}
	}
	revokeOut struct {
		Body struct {
			Entry string `json:"entry" doc:"Where the log tells of it"`
		}
	}
	checkpointOut struct {
		Body struct {
			Entries int64     `json:"entries"`
			At      time.Time `json:"at"`
			Note    string    `json:"note" doc:"As signed"`
		}
	}
	noAnswer struct{}
)

func millis(n int64) time.Time { return time.UnixMilli(n).UTC() }

func (d *desk) apiMe(ctx context.Context, a asked, _ *nothing) (*meOut, error) {
	out := &meOut{}
	out.Body.Account, out.Body.Kind, out.Body.Program = a.Who.Account(), string(a.Who.Kind()), string(a.Who.Program())
	out.Body.Key, out.Body.Scopes = string(a.Who.Key()), a.Who.Scopes()
	me := a.Who.Person()
	if me == "" {
		return out, nil
	}
	masks, err := d.house.Masks(ctx, []yesline.PersonID{me})
	out.Body.Number = masks[me]
	return out, err
}

func (d *desk) apiSessions(ctx context.Context, a asked, in *pageIn) (*sessionsOut, error) {
	before, err := d.millis(a, in.Cursor)
	if err != nil {
		return nil, err
	}
	open, err := d.house.SessionsOf(ctx, a.Who, before, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &sessionsOut{}
	out.Body.Items = []sessionItem{}
	for _, o := range open {
		out.Body.Items = append(out.Body.Items, sessionItem{string(o.ID), o.Name, o.Device, millis(o.Created), millis(o.Seen)})
	}
	if len(open) == in.Limit {
		out.Body.Next = d.cursor(a, strconv.FormatInt(open[len(open)-1].Created, 10))
	}
	out.Link = next(a, out.Body.Next, in.Limit)
	return out, nil
}

func (d *desk) apiEndSession(ctx context.Context, a asked, in *sessionIn) (*noAnswer, error) {
	return &noAnswer{}, d.house.EndSession(ctx, a.Who, yesline.SessionID(in.Session))
}

func (d *desk) apiKeys(ctx context.Context, a asked, _ *nothing) (*keysOut, error) {
	keys, err := d.house.KeysOf(ctx, a.Who.Account())
	if err != nil {
		return nil, err
	}
	out := &keysOut{}
	out.Body.Items = []keyItem{}
	for _, k := range keys {
		item := keyItem{ID: string(k.ID), Name: k.Name, Scopes: k.Scopes, Created: millis(k.Created), Expires: millis(k.Expires), Current: k.ID == a.Who.Key()}
		if k.Used > 0 {
			used := millis(k.Used)
			item.Used = &used
		}
		out.Body.Items = append(out.Body.Items, item)
	}
	return out, nil
}

func (d *desk) apiEndKey(ctx context.Context, a asked, in *keyIn) (*noAnswer, error) {
	return &noAnswer{}, d.house.EndKey(ctx, a.Who, yesline.KeyID(in.Key))
}

// apiPrograms lists the one program of its staff, and all for staff of the
// house.
func (d *desk) apiPrograms(ctx context.Context, a asked, _ *nothing) (*programsOut, error) {
	programs, err := d.house.Programs(ctx)
	if err != nil {
		return nil, err
	}
	out := &programsOut{}
	out.Body.Items = []programItem{}
	for _, p := range programs {
		if mine := a.Who.Program(); mine == "" || mine == p.ID {
			out.Body.Items = append(out.Body.Items, programItem{string(p.ID), p.Name})
		}
	}
	return out, nil
}

func (d *desk) apiInvite(ctx context.Context, a asked, in *inviteIn) (*inviteOut, error) {
	program := yesline.ProgramID(in.Program)
	phone, err := d.house.Number(ctx, program, in.Body.Phone)
	if err != nil {
		if problemOf(err).Status == http.StatusUnprocessableEntity {
			err = newProblem(http.StatusUnprocessableEntity, "invalid", fault{Pointer: "#/phone", Detail: "this is not a number that we can call"})
		}
		return nil, err
	}
	made, err := d.house.Invite(ctx, a.Permit, program, phone)
	if err != nil {
		return nil, err
	}
	out := &inviteOut{}
	out.Body.Link, out.Body.Number = "/in/"+made.Token, made.Mask
	return out, nil
}

func (d *desk) apiRevoke(ctx context.Context, a asked, in *revokeIn) (*revokeOut, error) {
	wrong := func(pointer, detail string) (*revokeOut, error) {
		return nil, newProblem(http.StatusUnprocessableEntity, "invalid", fault{Pointer: pointer, Detail: detail})
	}
	what := playback.Revocation{Program: yesline.ProgramID(in.Program)}
	switch in.Body.What {
	case "all":
		what.All = true
	case "object":
		what.Object = in.Body.ID
		if !yesline.IsID("trk", in.Body.ID) && !yesline.IsID("cal", in.Body.ID) {
			return wrong("#/id", "this is no id of a track or a call")
		}
	case "session":
		what.Session = yesline.SessionID(in.Body.ID)
		if !yesline.IsID("ses", in.Body.ID) {
			return wrong("#/id", "this is no id of a session")
		}
	case "key":
		what.Key = yesline.KeyID(in.Body.ID)
		if !yesline.IsID("key", in.Body.ID) {
			return wrong("#/id", "this is no id of a key")
		}
	case "since":
		at, err := time.Parse(time.RFC3339, in.Body.Time)
		if err != nil || at.UnixMilli() < 1 {
			return wrong("#/time", "this is not a time as RFC 3339 writes it")
		}
		what.Since = at
	}
	done, err := d.house.RevokeTickets(ctx, a.Permit, what)
	if err != nil {
		return nil, err
	}
	out := &revokeOut{}
	out.Body.Entry = string(done.Entry)
	return out, nil
}

func (d *desk) apiCheckpoint(ctx context.Context, _ asked, _ *nothing) (*checkpointOut, error) {
	cp, err := d.house.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	out := &checkpointOut{}
	out.Body.Entries, out.Body.At, out.Body.Note = cp.Entries, cp.At.UTC(), cp.Note
	return out, nil
}
