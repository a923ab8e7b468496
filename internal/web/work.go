package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audit"
	"yesline/internal/playback"
	"yesline/internal/session"
)

// Work is what those who work here do: who they are, and the cases in which
// two of them agree to open what is not theirs.
type Work struct {
	Staff func(ctx context.Context, program yesline.ProgramID) ([]session.Colleague, error) // "": all
	// Appoint gives a role: yesline.Denied for one that the permit's holder may not.
	Appoint func(ctx context.Context, permit access.Permit, role session.Kind, program yesline.ProgramID) (yesline.StaffID, string, error)
	Dismiss func(ctx context.Context, by session.Principal, id yesline.StaffID) error // yesline.Conflict for the last operator of the house

	AskCase     func(ctx context.Context, permit access.Permit, owners []yesline.PersonID, reason, number string) (access.Case, error)
	ApproveCase func(ctx context.Context, permit access.Permit) (access.Case, error)
	RefuseCase  func(ctx context.Context, permit access.Permit) (access.Case, error)
	CloseCase   func(ctx context.Context, permit access.Permit) (access.Case, error)
	CasesByID   func(ctx context.Context, ids []yesline.CaseID) (map[yesline.CaseID]access.Case, error)
	ListCases   func(ctx context.Context, program yesline.ProgramID, before int64, limit int) ([]access.Case, error)
	OpenBy      func(ctx context.Context, asker string) ([]access.Case, error)                       // an officer's open cases
	CasesAbout  func(ctx context.Context, person yesline.PersonID, limit int) ([]access.Case, error) // those that were opened

	RevokeTickets func(ctx context.Context, permit access.Permit, what playback.Revocation) (playback.Contained, error)
	RotateTickets func(ctx context.Context, permit access.Permit, program yesline.ProgramID) (playback.Contained, error)
}

const casesOnAPage = 50

var roles = []session.Kind{session.Operator, session.Officer, session.Auditor, session.Buyer}

// staff lists who works for the house, or for the program that the path names.
func (s *Site) staff(ctx context.Context, a asked) (answer, error) {
	v, err := s.readStaff(ctx, a)
	if a.URL.Query().Get("done") == "ended" {
		v.Done = "ended"
	}
	return show(v), err
}

func (s *Site) readStaff(ctx context.Context, a asked) (staffView, error) {
	program := yesline.ProgramID(a.PathValue("program"))
	kind := a.Who.Kind()
	v := staffView{Program: string(program), MayAppoint: kind == session.Operator || kind == session.Officer}
	programs, err := s.house.Programs(ctx)
	if err != nil {
		return v, err
	}
	names := map[yesline.ProgramID]string{"": "The house"}
	for _, p := range programs {
		names[p.ID] = p.Name
		if p.ID == program {
			v.Place = p.Name
		}
		v.Programs = append(v.Programs, programRow{string(p.ID), p.Name})
	}
	colleagues, err := s.house.Staff(ctx, program)
	if err != nil {
		return v, err
	}
	for _, r := range roles {
		if r == session.Officer || offers(kind, r, program, colleagues) { // of officers it hangs on the place that the form names
			v.Roles = append(v.Roles, string(r))
		}
	}
	for _, c := range colleagues {
		v.Colleagues = append(v.Colleagues, colleagueRow{ID: string(c.ID), Short: short(string(c.ID)), Role: string(c.Role), Where: names[c.Program],
			By: byWhom(c.By, a.Who), Created: moment(c.Created), Ended: moment(c.Ended), Me: string(c.ID) == a.Who.Account()})
	}
	return v, nil
}

func byWhom(name string, me session.Principal) string {
	switch {
	case name == "":
		return ""
	case name == me.String():
		return "you"
	case strings.HasPrefix(name, "os:"), strings.HasPrefix(name, "svc:"):
		return "the house"
	}
	return short(name)
}

// appoint makes the link of a new colleague, and shows it once. On the page of
// the house the form says for which place; on a program's it is that program.
func (s *Site) appoint(ctx context.Context, a asked) (answer, error) {
	if err := a.ParseForm(); err != nil {
		return answer{}, unread(err)
	}
	v, err := s.readStaff(ctx, a)
	if err != nil {
		return answer{}, err
	}
	role := session.Kind(a.PostForm.Get("role"))
	program := yesline.ProgramID(cmp.Or(v.Program, a.PostForm.Get("program")))
	known := program == "" || slices.ContainsFunc(v.Programs, func(p programRow) bool { return p.ID == string(program) })
	if !known {
		v.Problem = "role"
		return wrong(http.StatusUnprocessableEntity, v), nil
	}
	permit := a.Permit
	if program != "" && v.Program == "" { // the door asked about the house, and the form names a program
		if permit, err = s.house.Ask(ctx, a.Who, access.Appoint, access.Object{Kind: "program", ID: string(program)}, nil); err != nil {
			return answer{}, err
		}
	}
	_, token, err := s.house.Appoint(ctx, permit, role, program)
	switch {
	case errors.Is(err, yesline.Denied), errors.Is(err, yesline.Invalid), errors.Is(err, yesline.Conflict):
		v.Problem = "role"
		return wrong(http.StatusUnprocessableEntity, v), nil
	case err != nil:
		return answer{}, err
	}
	if v, err = s.readStaff(ctx, a); err != nil {
		return answer{}, err
	}
	v.Link = "/in/" + token
	return show(v), nil
}

// offers says which roles the page offers to give. It decides nothing: the permit
// does, where the role is given.
func offers(by, role session.Kind, program yesline.ProgramID, all []session.Colleague) bool {
	watched := slices.ContainsFunc(all, func(c session.Colleague) bool {
		return c.Role == session.Officer && c.Ended == 0 && (c.Program == program || c.Program == "")
	})
	switch role {
	case session.Officer:
		return by == session.Officer || by == session.Operator && !watched
	case session.Auditor:
		return by == session.Officer || by == session.Operator
	case session.Operator, session.Buyer:
		return by == session.Operator
	}
	return false
}

func (s *Site) dismiss(ctx context.Context, a asked) (answer, error) {
	err := s.house.Dismiss(ctx, a.Who, yesline.StaffID(a.PathValue("staff")))
	if errors.Is(err, yesline.Conflict) {
		return wrong(http.StatusConflict, problemView{Status: http.StatusConflict}), nil
	}
	return goTo(staffPath(a.Who) + "?done=ended"), err
}

// staffPath is the page of the colleagues of somebody who works here.
func staffPath(who session.Principal) string {
	if who.Program() != "" {
		return "/programs/" + string(who.Program()) + "/staff"
	}
	return "/house/staff"
}

// cases lists the cases of the asker's place. A name of a call or a person
// leads to the form that asks for one about it.
func (s *Site) cases(ctx context.Context, a asked) (answer, error) {
	v := casesView{MayAsk: a.Who.Kind() == session.Officer}
	if about := strings.TrimSpace(a.URL.Query().Get("about")); about != "" && v.MayAsk {
		switch {
		case yesline.IsID("cal", about):
			return goTo("/calls/" + about + "/break"), nil
		case yesline.IsID("per", about):
			return goTo("/people/" + about + "/break"), nil
		}
		v.Problem = "about"
	}
	before, err := cursor(a.URL.Query().Get("before"))
	if err != nil {
		return answer{}, err
	}
	found, err := s.house.ListCases(ctx, a.Who.Program(), before, casesOnAPage)
	for _, c := range found {
		v.Cases = append(v.Cases, caseRow{ID: string(c.ID), Number: c.Number, Kind: c.Object.Kind, State: c.State, Asked: moment(c.Asked),
			Mine: c.Asker == a.Who.Account()})
	}
	if len(found) == casesOnAPage {
		v.More = found[len(found)-1].Asked
	}
	return show(v), err
}

func (s *Site) askBreakCall(ctx context.Context, a asked) (answer, error) {
	return show(breakView{Kind: "call", Object: a.PathValue("call")}), nil
}

func (s *Site) askBreakPerson(ctx context.Context, a asked) (answer, error) {
	return show(breakView{Kind: "person", Object: a.PathValue("person")}), nil
}

func (s *Site) breakCall(ctx context.Context, a asked) (answer, error) {
	c, err := s.house.Call(ctx, a.call())
	if err != nil {
		return answer{}, err
	}
	return s.askCase(ctx, a, breakView{Kind: "call", Object: string(c.ID)}, c.Parties)
}

func (s *Site) breakPerson(ctx context.Context, a asked) (answer, error) {
	person := a.PathValue("person")
	return s.askCase(ctx, a, breakView{Kind: "person", Object: person}, []yesline.PersonID{yesline.PersonID(person)})
}

// askCase asks for a case that touches these people. What was typed stands in
// the form again when it will not do: it is the asker's own.
func (s *Site) askCase(ctx context.Context, a asked, v breakView, owners []yesline.PersonID) (answer, error) {
	if err := a.ParseForm(); err != nil {
		return answer{}, unread(err)
	}
	v.Reason, v.Number = strings.TrimSpace(a.PostForm.Get("reason")), strings.TrimSpace(a.PostForm.Get("number"))
	if !utf8.ValidString(v.Reason) || len(v.Reason) > 2000 || len(v.Number) > 64 {
		v.Reason, v.Number, v.Problem = "", "", "reason"
		return wrong(http.StatusUnprocessableEntity, v), nil
	}
	made, err := s.house.AskCase(ctx, a.Permit, owners, v.Reason, v.Number)
	if errors.Is(err, yesline.Invalid) {
		v.Problem = "reason"
		return wrong(http.StatusUnprocessableEntity, v), nil
	}
	return goTo("/cases/" + string(made.ID) + "?done=asked"), err
}

var caseDone = map[string]bool{"asked": true, "approved": true, "refused": true, "closed": true}

func (s *Site) oneCase(ctx context.Context, a asked) (answer, error) {
	c, err := s.findCase(ctx, yesline.CaseID(a.PathValue("case")))
	if err != nil {
		return answer{}, err
	}
	v := caseShown(c, a.Who)
	if done := a.URL.Query().Get("done"); caseDone[done] {
		v.Done = done
	}
	return show(v), nil
}

func (s *Site) findCase(ctx context.Context, id yesline.CaseID) (access.Case, error) {
	found, err := s.house.CasesByID(ctx, []yesline.CaseID{id})
	if err != nil {
		return access.Case{}, err
	}
	c, ok := found[id]
	if !ok {
		return c, fmt.Errorf("a case: %w", yesline.NotFound)
	}
	return c, nil
}

func caseShown(c access.Case, me session.Principal) caseView {
	mine := c.Asker == me.Account()
	return caseView{ID: string(c.ID), Kind: c.Object.Kind, Object: c.Object.ID, State: c.State, Reason: c.Reason, Number: c.Number,
		Asker: byWhom(c.Asker, me), Approver: byWhom(c.Approver, me), Asked: moment(c.Asked), Opened: moment(c.Opened), Until: moment(c.Until),
		Mine: mine, MayDecide: c.State == access.CaseAsked && !mine && me.Kind() == session.Officer}
}

func (s *Site) approve(ctx context.Context, a asked) (answer, error) {
	c, err := s.house.ApproveCase(ctx, a.Permit)
	if !errors.Is(err, access.TooNear) {
		return decided(c, err)("approved")
	}
	id := yesline.CaseID(a.PathValue("case"))
	found, err := s.house.CasesByID(ctx, []yesline.CaseID{id})
	if err != nil {
		return answer{}, err
	}
	v := caseShown(found[id], a.Who)
	v.Near = true
	return wrong(http.StatusForbidden, v), nil
}

func (s *Site) refuseCase(ctx context.Context, a asked) (answer, error) {
	return decided(s.house.RefuseCase(ctx, a.Permit))("refused")
}

func (s *Site) closeCase(ctx context.Context, a asked) (answer, error) {
	return decided(s.house.CloseCase(ctx, a.Permit))("closed")
}

func decided(c access.Case, err error) func(done string) (answer, error) {
	return func(done string) (answer, error) { return goTo("/cases/" + string(c.ID) + "?done=" + done), err }
}

// openedCall is a call as an officer sees it who has an open case about it: who
// said what, and each voice that is kept. There is nothing to decide here.
func (s *Site) openedCall(ctx context.Context, a asked) (staffCallView, error) {
	c, masks, standings, err := s.one(ctx, a)
	if err != nil {
		return staffCallView{}, err
	}
	tracks, err := s.house.Tracks(ctx, c.ID)
	v := staffCallView{ID: string(c.ID), Began: c.Began.UTC(), Seconds: c.Seconds, Live: c.Live}
	for _, p := range c.Parties {
		one := voice(c, standings, tracks, p, true, masks[p])
		one.Mine, one.Share, one.License = false, false, false
		v.Voices = append(v.Voices, one)
	}
	return v, err
}

// openedLog is the access list of a call as an officer sees it who has an open
// case about it: what stands in the lists of its parties, each line once.
func (s *Site) openedLog(ctx context.Context, c Call, objects []string, before int64) (lines []audit.Line, more int64, err error) {
	seen := map[string]bool{}
	for _, p := range c.Parties {
		found, from, err := s.deeds(ctx, p, objects, before, linesOnAPage)
		if err != nil {
			return nil, 0, err
		}
		more = max(more, from)
		for _, l := range found {
			key := fmt.Sprint(l.Entry.AtMillis, l.Entry.Actor, l.Entry.Verb, l.Entry.Object, l.Entry.Detail["from"])
			if !seen[key] {
				seen[key] = true
				lines = append(lines, l)
			}
		}
	}
	slices.SortStableFunc(lines, func(x, y audit.Line) int { return cmp.Compare(y.Entry.AtMillis, x.Entry.AtMillis) })
	if len(lines) > linesOnAPage {
		lines = lines[:linesOnAPage]
		more = lines[linesOnAPage-1].Entry.AtMillis
	}
	return lines, more, nil
}

// revealNumber shows a number to an officer who has an open case about the
// person, on the page of that case.
func (s *Site) revealNumber(ctx context.Context, a asked) (answer, error) {
	person := a.PathValue("person")
	phone, err := s.house.Reveal(ctx, a.Permit, yesline.PersonID(person))
	if err != nil {
		return answer{}, err
	}
	if a.Who.Person() != "" { // their own
		return show(meView{Number: phone.Digits()}), nil
	}
	open, err := s.house.OpenBy(ctx, a.Who.Account())
	if err != nil {
		return answer{}, err
	}
	for _, c := range open {
		if c.Object.ID == person {
			v := caseShown(c, a.Who)
			v.Revealed = phone.Digits()
			return show(v), nil
		}
	}
	return answer{}, fmt.Errorf("the case closed meanwhile: %w", yesline.NotFound)
}

// openedOf tells a person which of their things staff opened.
func (s *Site) openedOf(ctx context.Context, me yesline.PersonID, limit int) ([]openedView, error) {
	found, err := s.house.CasesAbout(ctx, me, limit)
	var told []openedView
	for _, c := range found {
		told = append(told, openedView{Kind: c.Object.Kind, Object: c.Object.ID, Opened: moment(c.Opened), Reason: c.Reason, Number: c.Number})
	}
	return told, err
}

// recent are those that a page which is about something else should tell too.
func recent(told []openedView) []openedView {
	return slices.DeleteFunc(told, func(o openedView) bool { return time.Since(o.Opened) > 30*24*time.Hour })
}
