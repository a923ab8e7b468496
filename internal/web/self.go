package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/session"
)

const (
	accountLines   = 50  // on the page
	accountEntries = 200 // looked at for it
	openedOnAPage  = 20  // cases that touched somebody
)

// me shows a person what the house has of them, and what was done with their
// account.
func (s *Site) me(ctx context.Context, a asked) (answer, error) {
	me := a.Who.Person()
	masks, err := s.house.Masks(ctx, []yesline.PersonID{me})
	if err != nil {
		return answer{}, err
	}
	lines, err := s.account(ctx, me)
	if err != nil {
		return answer{}, err
	}
	told, err := s.openedOf(ctx, me, openedOnAPage)
	return show(meView{Mask: masks[me], Lines: lines, Opened: told}), err
}

// account is what was done with a person's record: their links, their number,
// and the lists of calls that they are in. Doing the same again is one line.
func (s *Site) account(ctx context.Context, me yesline.PersonID) ([]logLine, error) {
	entries, _, err := s.deeds(ctx, me, []string{string(me)}, 0, accountEntries)
	if err != nil {
		return nil, err
	}
	all, _, err := s.deeds(ctx, me, []string{""}, 0, accountEntries)
	if err != nil {
		return nil, err
	}
	for _, l := range all {
		if l.Entry.Detail["part"] == "list" && l.Entry.Actor != string(me) { // it is about many calls, and so about no one object
			entries = append(entries, l)
		}
	}
	slices.SortStableFunc(entries, func(x, y audit.Line) int { return cmp.Compare(y.Entry.AtMillis, x.Entry.AtMillis) })
	var lines []logLine
	for _, e := range entries {
		l := inWords(e.Entry, Call{}, me, nil)
		if n := len(lines); n > 0 && lines[n-1].What == l.What && lines[n-1].Who == l.Who && lines[n-1].Refused == l.Refused {
			lines[n-1].Times++
			continue
		}
		if len(lines) == accountLines {
			break
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// showNumber is the one page with a number in clear, and it is the asker's own.
func (s *Site) showNumber(ctx context.Context, a asked) (answer, error) {
	phone, err := s.house.Reveal(ctx, a.Permit, a.Who.Person())
	if err != nil {
		return answer{}, err
	}
	return show(meView{Number: phone.Digits()}), nil
}

func (s *Site) housePage(ctx context.Context, a asked) (answer, error) {
	v, err := s.readHouse(ctx, a.Who)
	if err != nil {
		return answer{}, err
	}
	return show(v), nil
}

func (s *Site) readHouse(ctx context.Context, who session.Principal) (houseView, error) {
	live, err := s.house.Live(ctx)
	if err != nil {
		return houseView{}, err
	}
	cp, err := s.house.Checkpoint(ctx)
	if err != nil {
		return houseView{}, err
	}
	programs, err := s.house.Programs(ctx)
	if err != nil {
		return houseView{}, err
	}
	refused, err := s.house.Refused(ctx)
	if err != nil {
		return houseView{}, err
	}
	v := houseView{Live: live, Entries: cp.Entries, Signed: cp.At.UTC(), Note: cp.Note, Refused: refusedRows(refused, who), MayInvite: who.Kind() == session.Operator}
	for _, p := range programs {
		if who.Program() != "" && p.ID != who.Program() {
			continue
		}
		v.Programs = append(v.Programs, programRow{string(p.ID), p.Name})
	}
	return v, nil
}

// invite adds a contributor and shows their link and telephone account, once.
func (s *Site) invite(ctx context.Context, a asked) (answer, error) {
	v, err := s.readHouse(ctx, a.Who)
	if err != nil {
		return answer{}, err
	}
	if err := a.ParseForm(); err != nil {
		return answer{}, unread(err)
	}
	program := yesline.ProgramID(a.PathValue("program"))
	phone, err := s.house.Number(ctx, program, a.PostForm.Get("phone"))
	if errors.Is(err, yesline.Invalid) {
		v.Problem = "number"
		return wrong(http.StatusUnprocessableEntity, v), nil
	}
	if err != nil {
		return answer{}, err
	}
	made, err := s.house.Invite(ctx, a.Permit, program, phone)
	if errors.Is(err, NoCodes) {
		v.Problem = "codes"
		return wrong(http.StatusServiceUnavailable, v), nil
	}
	if err != nil {
		return answer{}, err
	}
	v.Invitation = &invitationView{Path: "/in/" + made.Token, Mask: made.Mask}
	return show(v), nil
}

// unread is a form that is too large or no form. net/http's error may repeat
// what was sent, so only its kind goes on.
func unread(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return large
	}
	return fmt.Errorf("reading a form: %w", yesline.Invalid)
}
