package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
	"yesline/internal/session"
)

const why = "ann wrote that her call was cut off; we look whether it was kept"

// desk is a house whose officers break the glass: facts about cases and open
// calls come from Cases, as app has it.
type desk struct {
	*house
	*Cases
	told []audit.Entry
	full bool // the log is
}

func newDesk(t *testing.T, content *db.DB) *desk {
	t.Helper()
	d := &desk{house: newHouse(t)}
	var err error
	d.Cases, err = OpenCases(t.Context(), content, d.tell)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Release)
	loaders := d.loaders()
	loaders["case"] = d.Facts
	for _, kind := range []string{"call", "track", "person"} {
		plain := loaders[kind]
		loaders[kind] = func(ctx context.Context, ids []string) (map[string]Facts, error) {
			facts, err := plain(ctx, ids)
			if err != nil {
				return nil, err
			}
			for id, f := range facts {
				about := Object{kind, id}
				if kind == "track" {
					about = d.object("call")
				}
				open, err := d.OpenTo(ctx, []Object{about})
				if err != nil {
					return nil, err
				}
				f.OpenTo = open[about]
				facts[id] = f
			}
			return facts, nil
		}
	}
	if d.gate, err = New(d.append, loaders); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *desk) tell(_ context.Context, _ *db.Tx, e audit.Entry) (audit.Ref, error) {
	if d.full {
		return audit.Ref{}, yesline.Full
	}
	d.told = append(d.told, e)
	return audit.Ref{DB: "content", Leaf: yesline.NewEntryID()}, nil
}

func (d *desk) both() []yesline.PersonID {
	people := []yesline.PersonID{d.person("ann"), d.person("bob")}
	slices.Sort(people)
	return people
}

func (d *desk) permit(name string, v Verb, o Object) Permit {
	d.t.Helper()
	p, err := d.ask(name, v, o)
	if err != nil {
		d.t.Fatalf("%s may not %s a %s: %v", name, v, o.Kind, err)
	}
	return p
}

// asks is a case about the call of ann and bob.
func (d *desk) asks(name string) Case {
	d.t.Helper()
	c, err := d.Ask(d.t.Context(), d.permit(name, Break, d.object("call")), d.both(), why, "D-17/4")
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

func (d *desk) approves(name string, c Case) Case {
	d.t.Helper()
	is, err := d.Approve(d.t.Context(), d.permit(name, Approve, Object{"case", string(c.ID)}))
	if err != nil {
		d.t.Fatal(err)
	}
	return is
}

func (d *desk) state(c Case) string {
	d.t.Helper()
	found, err := d.ByID(d.t.Context(), []yesline.CaseID{c.ID})
	if err != nil || len(found) != 1 {
		d.t.Fatalf("got %v, %v", found, err)
	}
	return found[c.ID].State
}

// The whole story: asked, approved by another, looked at, closed; everybody it
// touches is told of each step.
func TestBreakingTheGlass(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		t.Parallel()
		d := newDesk(t, open("content"))
		olga, oscar := d.as("olga").Account(), d.as("oscar").Account()
		for _, v := range []Verb{View, Log} {
			d.mayNot("olga", v, "call")
		}
		d.mayNot("olga", Listen, "track")
		c := d.asks("olga")
		if want := (Case{ID: c.ID, Program: d.program, Object: d.object("call"), Asker: olga, Reason: why, Number: "D-17/4", State: CaseAsked, Asked: c.Asked}); c != want {
			t.Errorf("got %+v, want %+v", c, want)
		}
		d.mayNot("olga", Listen, "track")
		if about, err := d.About(t.Context(), d.person("ann"), 10); err != nil || len(about) != 0 {
			t.Errorf("before it is open: %v, %v", about, err)
		}

		is := d.approves("oscar", c)
		if is.State != CaseOpen || is.Approver != oscar || is.Until-is.Opened != CaseTime.Milliseconds() || is.Opened < c.Asked {
			t.Errorf("approved: %+v", is)
		}
		d.may("olga", View, "call")
		d.may("olga", Log, "call")
		d.may("olga", Listen, "track")
		d.mayNot("olga", Reveal, "person") // the case is about the call
		d.mayNot("oscar", View, "call")    // and olga's
		for _, name := range []string{"ann", "bob"} {
			about, err := d.About(t.Context(), d.person(name), 10)
			if err != nil || len(about) != 1 || about[0] != is {
				t.Errorf("%s is told %+v, %v; want %+v", name, about, err, is)
			}
		}
		if own, err := d.OpenBy(t.Context(), olga); err != nil || !slices.Equal(own, []Case{is}) {
			t.Errorf("olga's banner: %v, %v", own, err)
		}
		if own, err := d.OpenBy(t.Context(), oscar); err != nil || len(own) != 0 {
			t.Errorf("oscar's banner: %v, %v", own, err)
		}

		closed, err := d.Close(t.Context(), d.permit("olga", Break, Object{"case", string(c.ID)}))
		if err != nil || closed.State != CaseClosed || closed.Opened != is.Opened || closed.Until >= is.Until {
			t.Errorf("closed: %+v, %v", closed, err)
		}
		d.mayNot("olga", View, "call")
		if about, err := d.About(t.Context(), d.person("bob"), 10); err != nil || len(about) != 1 || about[0].State != CaseClosed {
			t.Errorf("bob is told %+v, %v", about, err)
		}

		verbs, actors := []string{"case.asked", "case.opened", "case.closed"}, []string{olga, oscar, olga}
		if len(d.told) < 3 {
			t.Fatalf("%d entries, want 3", len(d.told))
		}
		for i, e := range d.told[len(d.told)-3:] {
			if e.Verb != verbs[i] || e.Actor != actors[i] || !slices.Equal(e.Subjects, d.both()) || e.Program != d.program || e.Result != "done" ||
				e.Object != string(d.call) || e.Detail["case"] != string(c.ID) || e.Detail["number"] != "D-17/4" || e.Detail["reason"] != why || e.Detail["asker"] != olga {
				t.Errorf("entry %d is %+v", i, e)
			}
		}
	})
}

// A case about a person opens their number and their log to who asked.
func TestACaseAboutAPerson(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		t.Parallel()
		d := newDesk(t, open("content"))
		ann := d.person("ann")
		permit := d.permit("hugo", Break, d.object("person"))
		for _, owners := range [][]yesline.PersonID{nil, d.both(), {d.person("bob")}, {""}} {
			if _, err := d.Ask(t.Context(), permit, owners, why, "1"); !errors.Is(err, yesline.Invalid) {
				t.Errorf("told to %d others: got %v, want invalid", len(owners), err)
			}
		}
		c, err := d.Ask(t.Context(), permit, []yesline.PersonID{ann}, why, "1")
		if err != nil {
			t.Fatal(err)
		}
		d.approves("oscar", c)
		d.may("hugo", Reveal, "person")
		d.may("hugo", Log, "person")
		d.mayNot("hugo", View, "call")
		d.mayNot("hugo", List, "person")
	})
}

// The second person is an officer of the place, another than who asked; twice
// is once.
func TestWhoMayAnswerACase(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		t.Parallel()
		d := newDesk(t, open("content"))
		c := d.asks("olga")
		o := Object{"case", string(c.ID)}
		for _, who := range []string{"olga", "oona", "petra", "otto", "operator", "ada", "bea", "ann", "finisher"} {
			p, err := d.ask(who, Approve, o)
			d.refused(p, err)
		}
		for _, who := range []string{"oscar", "oona", "petra", "operator", "ann"} {
			p, err := d.ask(who, Break, o)
			d.refused(p, err)
		}
		// Cases sees to it too, whatever the gate would say.
		for name, forged := range map[string]Permit{
			"the asker's own":       d.forged("olga", Approve, o),
			"an operator's":         d.forged("otto", Approve, o),
			"the local socket's":    d.forged("operator", Approve, o),
			"one for breaking":      d.forged("oscar", Break, o),
			"one for two things":    d.forged("oscar", Approve, o, o),
			"of another program":    d.forgedIn(d.other, "oscar", Approve, o),
			"one that is over":      d.late(d.forged("oscar", Approve, o)),
			"one for nothing":       {},
			"one for another thing": d.forged("oscar", Approve, Object{"call", string(c.ID)}),
		} {
			for what, answer := range map[string]func(context.Context, Permit) (Case, error){"approve": d.Approve, "refuse": d.Refuse} {
				if _, err := answer(t.Context(), forged); !errors.Is(err, yesline.Denied) && !errors.Is(err, yesline.NotFound) {
					t.Errorf("%s by a permit that is %s: %v", what, name, err)
				}
			}
		}
		for name, forged := range map[string]Permit{"somebody else's": d.forged("oscar", Break, o), "one to approve": d.forged("olga", Approve, o)} {
			if _, err := d.Close(t.Context(), forged); !errors.Is(err, yesline.Denied) {
				t.Errorf("closing by a permit that is %s: %v", name, err)
			}
		}
		for name, forged := range map[string]Permit{"an operator's": d.forged("otto", Break, d.object("call")), "the local socket's": d.forged("operator", Break, d.object("call")),
			"one to view": d.forged("olga", View, d.object("call")), "for a track": d.forged("olga", Break, d.object("track"))} {
			if _, err := d.Ask(t.Context(), forged, d.both(), why, "1"); !errors.Is(err, yesline.Denied) {
				t.Errorf("asking by a permit that is %s: %v", name, err)
			}
		}
		if d.state(c) != CaseAsked {
			t.Fatalf("the case is %s", d.state(c))
		}

		d.approves("hugo", c) // of the house
		for what, answer := range map[string]func(context.Context, Permit) (Case, error){"approve": d.Approve, "refuse": d.Refuse} {
			if _, err := answer(t.Context(), d.permit("oscar", Approve, o)); !errors.Is(err, yesline.Conflict) {
				t.Errorf("%s once more: got %v, want conflict", what, err)
			}
		}
		refused := d.asks("olga")
		is, err := d.Refuse(t.Context(), d.permit("oscar", Approve, Object{"case", string(refused.ID)}))
		if err != nil || is.State != CaseRefused || is.Opened != 0 || is.Until != 0 || is.Approver != d.as("oscar").Account() {
			t.Errorf("refused: %+v, %v", is, err)
		}
		if e := d.told[len(d.told)-1]; e.Verb != "case.refused" || e.Actor != d.as("oscar").Account() || !slices.Equal(e.Subjects, d.both()) {
			t.Errorf("the entry is %+v", e)
		}
		if _, err := d.Close(t.Context(), d.permit("olga", Break, Object{"case", string(refused.ID)})); !errors.Is(err, yesline.Conflict) {
			t.Errorf("closing what is over: got %v, want conflict", err)
		}
		back := d.asks("olga")
		if is, err := d.Close(t.Context(), d.permit("olga", Break, Object{"case", string(back.ID)})); err != nil || is.State != CaseClosed || is.Opened != 0 {
			t.Errorf("taken back: %+v, %v", is, err)
		}
		if _, err := d.Approve(t.Context(), d.permit("oscar", Approve, Object{"case", string(back.ID)})); !errors.Is(err, yesline.Conflict) {
			t.Errorf("approving what was taken back: got %v, want conflict", err)
		}
	})
}

// forged is a permit that the gate did not make.
func (d *desk) forged(name string, v Verb, objects ...Object) Permit {
	return d.forgedIn(d.program, name, v, objects...)
}

func (d *desk) forgedIn(program yesline.ProgramID, name string, v Verb, objects ...Object) Permit {
	p := Permit{who: d.as(name), verb: v, until: time.Now().Add(time.Minute)}
	for _, o := range objects {
		p.items = append(p.items, Item{Object: o, Program: program})
	}
	return p
}

func (d *desk) late(p Permit) Permit {
	p.until = time.Now()
	return p
}

// A case ends by itself after 30 minutes, and one that nobody answers after a
// day.
func TestACaseEndsByItself(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	everyone() // signs in outside the bubble
	synctest.Test(t, func(t *testing.T) {
		content, err := db.Open(t.Context(), "content", "sqlite:"+folder+"/content.db")
		if err != nil {
			t.Fatal(err)
		}
		defer content.Close()
		d := newDesk(t, content)
		c := d.asks("olga")
		d.approves("oscar", c)
		d.may("olga", Listen, "track")
		again, err := OpenCases(t.Context(), content, d.tell) // a node that reads it later
		if err != nil {
			t.Fatal(err)
		}
		defer again.Release()
		open := func(c *Cases) bool {
			found, err := c.OpenTo(t.Context(), []Object{d.object("call")})
			if err != nil {
				t.Fatal(err)
			}
			return len(found) != 0
		}
		time.Sleep(CaseTime - time.Second)
		synctest.Wait()
		d.may("olga", Listen, "track")
		if !open(d.Cases) || !open(again) || d.state(c) != CaseOpen {
			t.Error("it ended early")
		}
		time.Sleep(time.Second)
		d.mayNot("olga", Listen, "track")
		if own, _ := d.OpenBy(t.Context(), d.as("olga").Account()); open(d.Cases) || open(again) || d.state(c) != CaseExpired || len(own) != 0 {
			t.Error("it is open after 30 minutes")
		}
		late, err := OpenCases(t.Context(), content, d.tell)
		if err != nil {
			t.Fatal(err)
		}
		defer late.Release()
		if open(late) {
			t.Error("it is open to who reads it first after 30 minutes")
		}

		d.who["hugo"] = proved(d.who["hugo"], time.Now())
		unanswered := d.asks("hugo")
		o := Object{"case", string(unanswered.ID)}
		time.Sleep(WaitTime - time.Second)
		if d.state(unanswered) != CaseAsked {
			t.Error("it stopped waiting early")
		}
		time.Sleep(time.Second)
		if _, err := d.Approve(t.Context(), d.forged("oscar", Approve, o)); !errors.Is(err, yesline.Conflict) || d.state(unanswered) != CaseExpired {
			t.Errorf("approved after a day: %v, %s", err, d.state(unanswered))
		}
	})
}

// A node that does not see the watches any more trusts nothing it remembers.
func TestAStaleNodeReadsAnew(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	everyone()
	synctest.Test(t, func(t *testing.T) {
		content, err := db.Open(t.Context(), "content", "sqlite:"+folder+"/content.db")
		if err != nil {
			t.Fatal(err)
		}
		defer content.Close()
		d := newDesk(t, content)
		c := d.asks("olga")
		d.approves("oscar", c)
		d.may("olga", View, "call")
		behind := func(q string, args ...any) {
			t.Helper()
			if err := content.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				_, err := tx.Exec(ctx, q, args...)
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		behind(`ALTER TABLE watches RENAME TO gone`)
		behind(`UPDATE cases SET state = 'closed' WHERE id = $1`, string(c.ID))
		time.Sleep(db.Staleness + 2*time.Second)
		if content.Fresh() {
			t.Fatal("the watches are still read")
		}
		d.mayNot("olga", View, "call")
	})
}

// What one node closes is closed on every node within a second.
func TestEveryNodeKnowsWithinASecond(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		t.Parallel()
		d := newDesk(t, open("content"))
		far, err := OpenCases(t.Context(), open("content"), d.tell)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(far.Release)
		isOpen := func() bool {
			found, err := far.OpenTo(t.Context(), []Object{d.object("call")})
			if err != nil {
				t.Fatal(err)
			}
			return slices.Equal(found[d.object("call")], []string{d.as("olga").Account()})
		}
		until := func(what string, want bool) {
			t.Helper()
			for began := time.Now(); isOpen() != want; time.Sleep(20 * time.Millisecond) {
				if time.Since(began) > 10*time.Second { // a second on a machine that has nothing else to do
					t.Fatalf("the other node does not know that it is %s", what)
				}
			}
		}
		if isOpen() {
			t.Error("open before it was")
		}
		c := d.asks("olga")
		d.approves("oscar", c)
		until("open", true)
		if _, err := d.Close(t.Context(), d.permit("olga", Break, Object{"case", string(c.ID)})); err != nil {
			t.Fatal(err)
		}
		until("closed", false)
	})
}

// Without its entry in the log nothing of a case happens.
func TestACaseIsToldOrDoesNotHappen(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		t.Parallel()
		if _, err := OpenCases(t.Context(), open("content"), nil); err == nil {
			t.Error("cases without a log")
		}
		d := newDesk(t, open("content"))
		c := d.asks("olga")
		d.full = true
		if _, err := d.Ask(t.Context(), d.permit("olga", Break, d.object("call")), d.both(), why, "2"); !errors.Is(err, yesline.Full) {
			t.Errorf("asking: got %v, want full", err)
		}
		if all, err := d.Cases.List(t.Context(), "", 0, 10); err != nil || len(all) != 1 {
			t.Errorf("%d cases, %v; want the one that was told", len(all), err)
		}
		o := Object{"case", string(c.ID)}
		if _, err := d.Approve(t.Context(), d.permit("oscar", Approve, o)); !errors.Is(err, yesline.Full) || d.state(c) != CaseAsked {
			t.Errorf("approving: got %v and %s", err, d.state(c))
		}
		d.mayNot("olga", View, "call")
	})
}

func TestWhatACaseSaysIsPlain(t *testing.T) {
	t.Parallel()
	d := newDesk(t, dbtest.SQLite(t)("content"))
	permit := d.permit("olga", Break, d.object("call"))
	for _, bad := range []struct{ reason, number string }{
		{"", "1"}, {"too short", "1"}, {"  too    short  ", "1"}, {strings.Repeat("é", 501), "1"}, {"a reason with \xff in it", "1"},
		{"a reason with \x00 in it", "1"}, {"a reason with \u202e in it", "1"},
		{"he rang from +1 202 555 0142 twice", "1"}, {"he rang from 2025550142 twice", "1"}, {"he rang from +1 (202) 555-0142", "1"},
		{why, ""}, {why, strings.Repeat("1", 65)}, {why, " 1"}, {why, "<b>"}, {why, "1\n2"}, {why, "é"},
	} {
		_, err := d.Ask(t.Context(), permit, d.both(), bad.reason, bad.number)
		if !errors.Is(err, yesline.Invalid) {
			t.Errorf("%q, %q: got %v, want invalid", bad.reason, bad.number, err)
		} else if strings.Contains(err.Error(), "202") {
			t.Errorf("the error repeats the number: %v", err)
		}
	}
	for _, people := range [][]yesline.PersonID{nil, {""}, {"+12025550142"}, make17()} {
		if _, err := d.Ask(t.Context(), permit, people, why, "1"); !errors.Is(err, yesline.Invalid) {
			t.Errorf("touching %d: got %v, want invalid", len(people), err)
		}
	}
	long := strings.Repeat("wört ", 99) + "fünf"
	c, err := d.Ask(t.Context(), permit, append(d.both(), d.both()...), "  a reason\nof two lines,\t"+long[:400]+"  ", strings.Repeat("A", 64))
	if err != nil || !strings.HasPrefix(c.Reason, "a reason of two lines, wört") {
		t.Errorf("got %q, %v", c.Reason, err)
	}
	if c, err = d.Ask(t.Context(), permit, d.both(), long, "2026-07/14 #3:A_b.c"); err != nil || c.Reason != long {
		t.Errorf("the longest: got %q, %v", c.Reason, err)
	}
	if told := d.told[len(d.told)-1].Detail["reason"]; len(told) > 480 || !strings.HasPrefix(long, told) || len(told) < 470 {
		t.Errorf("the log has %d bytes of it: %q", len(told), told)
	}
}

func make17() (people []yesline.PersonID) {
	for range maxSubjects + 1 {
		people = append(people, yesline.NewPersonID())
	}
	return people
}

func TestAnOfficerHasFewCasesAtOnce(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		t.Parallel()
		d := newDesk(t, open("content"))
		var last Case
		for range maxWaiting {
			last = d.asks("olga")
		}
		permit := d.permit("olga", Break, d.object("call"))
		if _, err := d.Ask(t.Context(), permit, d.both(), why, "21"); !errors.Is(err, yesline.TooMany) {
			t.Errorf("one more: got %v, want too many", err)
		}
		d.approves("oscar", last)
		if _, err := d.Ask(t.Context(), permit, d.both(), why, "21"); !errors.Is(err, yesline.TooMany) {
			t.Errorf("with one of them open: got %v, want too many", err)
		}
		if _, err := d.Close(t.Context(), d.permit("olga", Break, Object{"case", string(last.ID)})); err != nil {
			t.Fatal(err)
		}
		d.asks("olga")
		d.asks("hugo")
	})
}

func TestListsOfCases(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		t.Parallel()
		d := newDesk(t, open("content"))
		first := d.asks("olga")
		time.Sleep(2 * time.Millisecond) // lists are by the millisecond
		second := d.asks("hugo")
		time.Sleep(2 * time.Millisecond)
		d.arrange(state{kept: true, foreign: true})
		third := d.asks("oona")
		for _, c := range []struct {
			program yesline.ProgramID
			before  int64
			limit   int
			want    []Case
		}{
			{"", 0, 10, []Case{third, second, first}}, {d.program, 0, 10, []Case{second, first}}, {d.other, 0, 10, []Case{third}},
			{"", 0, 1, []Case{third}}, {"", third.Asked, 1, []Case{second}}, {d.program, second.Asked, 10, []Case{first}},
			{"", first.Asked, 10, nil}, {"", 0, -1, []Case{third}}, {yesline.NewProgramID(), 0, 10, nil},
		} {
			if got, err := d.Cases.List(t.Context(), c.program, c.before, c.limit); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%v: got %v, %v", c, got, err)
			}
		}
		found, err := d.ByID(t.Context(), []yesline.CaseID{first.ID, yesline.NewCaseID()})
		if err != nil || len(found) != 1 || found[first.ID] != first {
			t.Errorf("got %v, %v; want the one that there is", found, err)
		}
		if found, err := d.ByID(t.Context(), nil); err != nil || len(found) != 0 {
			t.Errorf("of none: %v, %v", found, err)
		}
		if _, err := d.ByID(t.Context(), make([]yesline.CaseID, MaxSet+1)); !errors.Is(err, yesline.Invalid) {
			t.Errorf("too many at once: %v", err)
		}
		if _, err := d.OpenTo(t.Context(), make([]Object, MaxSet+1)); !errors.Is(err, yesline.Invalid) {
			t.Errorf("too many at once: %v", err)
		}
		facts, err := d.Facts(t.Context(), []string{string(third.ID), "cas_x"})
		if f := facts[string(third.ID)]; err != nil || len(facts) != 1 || f.Program != d.other || f.Asker != d.as("oona").Account() {
			t.Errorf("the facts are %+v, %v", facts, err)
		}
	})
}

// Whoever is erased is in no case any more; the other party still is.
func TestACaseForgets(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		t.Parallel()
		content := open("content")
		d := newDesk(t, content)
		ann, bob := d.person("ann"), d.person("bob")
		call := d.asks("olga")
		d.approves("oscar", call)
		about, err := d.Ask(t.Context(), d.permit("olga", Break, d.object("person")), []yesline.PersonID{ann}, "to find out whose number it was", "2")
		if err != nil {
			t.Fatal(err)
		}
		d.approves("oscar", about)
		d.may("olga", Reveal, "person")
		for range 2 {
			if err := d.Cases.Forget(t.Context(), ann); err != nil {
				t.Fatal(err)
			}
		}
		d.mayNot("olga", Reveal, "person")
		d.may("olga", View, "call") // it is bob's too
		found, err := d.ByID(t.Context(), []yesline.CaseID{call.ID, about.ID})
		if err != nil {
			t.Fatal(err)
		}
		if got := found[about.ID]; got.Object.ID != "" || got.Reason != "" || got.State != CaseClosed {
			t.Errorf("the case about ann is %+v", got)
		}
		if got := found[call.ID]; got.Object != d.object("call") || got.Reason != why || got.State != CaseOpen {
			t.Errorf("the case about the call is %+v", got)
		}
		if told, err := d.About(t.Context(), ann, 10); err != nil || len(told) != 0 {
			t.Errorf("ann is in %v, %v", told, err)
		}
		if told, err := d.About(t.Context(), bob, 10); err != nil || len(told) != 1 {
			t.Errorf("bob is in %v, %v", told, err)
		}
		if err := d.Cases.Forget(t.Context(), bob); err != nil {
			t.Fatal(err)
		}
		for _, table := range []string{"cases", "case_people"} {
			d.nowhere(content, table, ann, bob)
		}
		// What is left can be closed, and the entry names nobody.
		is, err := d.Close(t.Context(), d.permit("olga", Break, Object{"case", string(call.ID)}))
		if e := d.told[len(d.told)-1]; err != nil || is.Reason != "" || len(e.Subjects) != 0 || e.Object != string(call.ID) || e.Detail["reason"] != "" {
			t.Errorf("closing it: %+v, %v; the entry is %+v", is, err, e)
		}
		if err := d.Cases.Forget(t.Context(), ""); !errors.Is(err, yesline.Invalid) {
			t.Errorf("forgetting nobody: %v", err)
		}
	})
}

// nowhere looks for people in all columns of a table.
func (d *desk) nowhere(content *db.DB, table string, people ...yesline.PersonID) {
	d.t.Helper()
	rows, err := content.Query(d.t.Context(), `SELECT * FROM `+table)
	if err != nil {
		d.t.Fatal(err)
	}
	defer rows.Close()
	columns, _ := rows.Columns()
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		if err := rows.Scan(values...); err != nil {
			d.t.Fatal(err)
		}
		for i, v := range values {
			for _, p := range people {
				if strings.Contains(fmt.Sprint(*v.(*any)), string(p)) {
					d.t.Errorf("%s.%s still names them", table, columns[i])
				}
			}
		}
	}
}

// While no case is open, asking costs nothing: no query and no allocation.
func TestWithoutOpenCasesAskingIsFree(t *testing.T) {
	d := newDesk(t, dbtest.SQLite(t)("content")) // not parallel: AllocsPerRun counts those of all goroutines
	objects := []Object{d.object("call")}
	ctx := t.Context()
	cost := testing.AllocsPerRun(100, func() {
		if found, err := d.OpenTo(ctx, objects); err != nil || len(found) != 0 {
			t.Errorf("got %v, %v", found, err)
		}
		if own, err := d.OpenBy(ctx, "stf_x"); err != nil || len(own) != 0 {
			t.Errorf("got %v, %v", own, err)
		}
	})
	if cost > 1 { // the watch's own look now and then
		t.Errorf("it costs %v allocations", cost)
	}
	if d.as("operator").Kind() != session.Operator || d.as("operator").Account() != "" {
		t.Error("whoever holds the local socket has an account")
	}
}
