package access

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
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
	told  []audit.Entry
	full  bool                 // the log is
	hired map[string]Colleague // by account; others were long ago, by nobody of them
	burnt bool                 // the programs' keys are
}

func newDesk(t *testing.T, content *db.DB) *desk {
	t.Helper()
	d := &desk{house: newHouse(t), hired: map[string]Colleague{}}
	d.Cases = d.another(content)
	var err error
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

// another is the desk on another node.
func (d *desk) another(content *db.DB) *Cases {
	d.t.Helper()
	c, err := Open(d.t.Context(), CaseParts{Content: content, Record: d.tell, MAC: d.mark, Colleague: d.colleague})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(c.Release)
	return c
}

// mark is a MAC whose key is a program's.
func (d *desk) mark(_ context.Context, program yesline.ProgramID, data []byte) ([]byte, error) {
	if d.burnt {
		return nil, fmt.Errorf("the key of a program: %w", yesline.NotFound)
	}
	m := hmac.New(sha256.New, []byte(program))
	m.Write(data)
	return m.Sum(nil), nil
}

func (d *desk) colleague(_ context.Context, account string) (Colleague, error) {
	if c, ok := d.hired[account]; ok {
		return c, nil
	}
	return Colleague{By: "svc:house", Created: db.Millis(time.Now().Add(-100 * 24 * time.Hour))}, nil
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
		again := d.another(content) // a node that reads it later
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
		if open(d.another(content)) {
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
		far := d.another(open("content"))
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
		if _, err := Open(t.Context(), CaseParts{Content: open("content")}); err == nil {
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
		{why, ""}, {why, strings.Repeat("1", 65)}, {why, " 1"}, {why, "<b>"}, {why, "1\n2"}, {why, "é"},
	} {
		_, err := d.Ask(t.Context(), permit, d.both(), bad.reason, bad.number)
		if !errors.Is(err, yesline.Invalid) {
			t.Errorf("%q, %q: got %v, want invalid", bad.reason, bad.number, err)
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
	if c, err = d.Ask(t.Context(), permit, d.both(), long, "2026-07/14 A_b.c #3:D"); err != nil || c.Reason != long {
		t.Errorf("the longest: got %q, %v", c.Reason, err)
	}
	if told := d.told[len(d.told)-1].Detail["reason"]; len(told) > 480 || !strings.HasPrefix(long, told) || len(told) < 470 {
		t.Errorf("the log has %d bytes of it: %q", len(told), told)
	}
}

// People read the reason and the number who may not have each other's. A date
// and the number of a matter still pass.
func TestACaseTellsNoTelephoneNumber(t *testing.T) {
	t.Parallel()
	d := newDesk(t, dbtest.SQLite(t)("content"))
	permit := d.permit("olga", Break, d.object("call"))
	for _, number := range []string{"+1 202 555 0142", "12025550142", "2025550142", "(202) 555-0142", "202.555.0142", "202/555/0142", "202 - 555 - 0142",
		"202\u00a0555\u00a00142", "202_555#0142", "555-0142", "5550142", "2025 550142", "2025-550-142", "1999 2025550142", "+2025 5501", "x12025550142x", "2026-0042-1",
		"٢٠٢٥٥٥٠١٤٢", "٢٠٢ ٥٥٥ ٠١٤٢", "２０２５５５０１４２", "2️⃣0️⃣2️⃣5️⃣5️⃣5️⃣0️⃣1️⃣4️⃣2️⃣", "②⓪②⑤⑤⑤⓪①④②"} {
		for _, c := range [][2]string{{"he rang from " + number + " twice", "1"}, {why, number}} {
			if _, err := d.Ask(t.Context(), permit, d.both(), c[0], c[1]); !errors.Is(err, yesline.Invalid) {
				t.Errorf("%q, %q: got %v, want invalid", c[0], c[1], err)
			} else if strings.Contains(err.Error(), number) {
				t.Errorf("the error repeats the number: %v", err)
			}
		}
	}
	for _, number := range []string{"2026-0042", "0042/2026", "D-17/4", "SUP-1042", "123456", "2026-07-14", "14.7.2026", "K-1234-B-5678"} {
		if telephone(number) {
			t.Errorf("%q counts as a telephone number", number)
		}
		c, err := d.Ask(t.Context(), permit, d.both(), "as was written on "+number+" to us", number)
		if err != nil || c.Number != number {
			t.Errorf("%q: %v", number, err)
		}
	}
}

// Whoever writes the database makes no case and changes none: of a row that
// somebody else wrote, nobody knows.
func TestARowThatNobodyMarkedIsNoCase(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		t.Parallel()
		content := open("content")
		d := newDesk(t, content)
		olga, o := d.as("olga").Account(), d.object("call")
		now := db.Millis(time.Now())
		forged := yesline.NewCaseID()
		d.write(content, `INSERT INTO cases (id, program, kind, object, asker, approver, reason, number, state, asked_at, opened_at, until_at)
			VALUES ($1, $2, 'call', $3, $4, 'stf_x', 'because', '1', 'open', $5, $5, $6)`, string(forged), string(d.program), o.ID, olga, now, now+1000000)
		d.write(content, `INSERT INTO case_people (case_id, person, opened_at) VALUES ($1, $2, $3)`, string(forged), string(d.person("ann")), now)
		d.noCase(forged)

		asked, opened := d.asks("olga"), d.asks("olga")
		opened = d.approves("oscar", opened)
		d.write(content, `UPDATE cases SET state = 'open', approver = 'stf_x', opened_at = $1, until_at = $2 WHERE id = $3`, now, now+1000, string(asked.ID))
		d.noCase(asked.ID)
		for _, c := range []struct {
			column string
			value  any
		}{
			{"id", string(yesline.NewCaseID())}, {"program", string(d.other)}, {"kind", "person"}, {"object", string(yesline.NewCallID())},
			{"asker", d.as("hugo").Account()}, {"approver", d.as("hugo").Account()}, {"reason", "another one"}, {"number", "2"},
			{"state", CaseAsked}, {"state", CaseClosed}, {"asked_at", opened.Asked - 1}, {"opened_at", opened.Opened + 1}, {"until_at", opened.Until - 1}, {"mac", ""},
		} {
			var was any
			id := opened.ID
			if err := content.QueryRow(t.Context(), `SELECT `+c.column+` FROM cases WHERE id = $1`, string(id)).Scan(&was); err != nil {
				t.Fatal(err)
			}
			change := func(value any) {
				d.write(content, `UPDATE cases SET `+c.column+` = $1 WHERE id = $2`, value, string(id))
			}
			change(c.value)
			if c.column == "id" {
				id = yesline.CaseID(c.value.(string))
			}
			d.noCase(id)
			change(was)
			id = opened.ID
			if open, err := d.another(content).OpenBy(t.Context(), olga); err != nil || !slices.Equal(open, []Case{opened}) {
				t.Fatalf("with its own %s again: %v, %v; want %v", c.column, open, err, opened)
			}
		}

		d.burnt = true
		d.noCase(opened.ID)
	})
}

// noCase makes sure that a case is nowhere: not in a list, and nothing is done
// with it or seen by it.
func (d *desk) noCase(id yesline.CaseID) {
	d.t.Helper()
	ctx := d.t.Context()
	for what, list := range map[string]func() ([]Case, error){
		"all":    func() ([]Case, error) { return d.Cases.List(ctx, "", 0, 10) },
		"here":   func() ([]Case, error) { return d.Cases.List(ctx, d.program, 0, 10) },
		"ann's":  func() ([]Case, error) { return d.About(ctx, d.person("ann"), 10) },
		"olga's": func() ([]Case, error) { return d.another(d.content).OpenBy(ctx, d.as("olga").Account()) },
		"by name": func() ([]Case, error) {
			found, err := d.ByID(ctx, []yesline.CaseID{id})
			return slices.Collect(maps.Values(found)), err
		},
	} {
		if all, err := list(); err != nil || slices.ContainsFunc(all, func(c Case) bool { return c.ID == id }) {
			d.t.Errorf("%s: %v, %v", what, all, err)
		}
	}
	if facts, err := d.Facts(ctx, []string{string(id)}); err != nil || len(facts) != 0 {
		d.t.Errorf("the gate knows %v, %v", facts, err)
	}
	o := Object{"case", string(id)}
	for what, err := range map[string]error{
		"approving": second(d.Approve(ctx, d.forged("oscar", Approve, o))),
		"refusing":  second(d.Refuse(ctx, d.forged("oscar", Approve, o))),
		"closing":   second(d.Close(ctx, d.forged("olga", Break, o))),
	} {
		if !errors.Is(err, yesline.NotFound) {
			d.t.Errorf("%s: got %v, want not found", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// write changes the database as somebody does who has only that.
func (d *desk) write(content *db.DB, q string, args ...any) {
	d.t.Helper()
	if err := content.Transact(d.t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, q, args...)
		return err
	}); err != nil {
		d.t.Fatal(err)
	}
}

// Without marks a case still has an end.
func TestNoCaseIsOpenForLonger(t *testing.T) {
	t.Parallel()
	content := dbtest.SQLite(t)("content")
	d := newDesk(t, content)
	d.mac = nil
	c := d.approves("oscar", d.asks("olga"))
	d.write(content, `UPDATE cases SET until_at = until_at + 1`)
	d.mayNot("olga", View, "call")
	if found, err := d.ByID(t.Context(), []yesline.CaseID{c.ID}); err != nil || len(found) != 0 {
		t.Errorf("got %v, %v", found, err)
	}
	d.write(content, `UPDATE cases SET until_at = until_at - 1`)
	if d.state(c) != CaseOpen {
		t.Errorf("it is %s", d.state(c))
	}
}

// If the keys do not answer, nothing is said of any case.
func TestWithoutKeysThereIsNoAnswer(t *testing.T) {
	t.Parallel()
	d := newDesk(t, dbtest.SQLite(t)("content"))
	c := d.asks("olga")
	permit, o := d.permit("olga", Break, d.object("call")), Object{"case", string(c.ID)}
	d.mac = func(context.Context, yesline.ProgramID, []byte) ([]byte, error) { return nil, yesline.Unavailable }
	for what, err := range map[string]error{
		"asking":     second(d.Ask(t.Context(), permit, d.both(), why, "1")),
		"looking":    second(d.ByID(t.Context(), []yesline.CaseID{c.ID})),
		"approving":  second(d.Approve(t.Context(), d.forged("oscar", Approve, o))),
		"refusing":   second(d.Refuse(t.Context(), d.forged("oscar", Approve, o))),
		"forgetting": d.Cases.Forget(t.Context(), d.person("ann")),
	} {
		if !errors.Is(err, yesline.Unavailable) {
			t.Errorf("%s: got %v, want unavailable", what, err)
		}
	}
}

// An old row of a case opens it again only for what was left of its time.
func TestAnOldRowOpensNothingForLong(t *testing.T) {
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
		defer d.Release()
		c := d.approves("oscar", d.asks("olga"))
		d.write(content, `CREATE TABLE kept AS SELECT * FROM cases`)
		if _, err := d.Close(t.Context(), d.permit("olga", Break, Object{"case", string(c.ID)})); err != nil {
			t.Fatal(err)
		}
		time.Sleep(CaseTime)
		d.write(content, `DELETE FROM cases`)
		d.write(content, `INSERT INTO cases SELECT * FROM kept`)
		far := d.another(content)
		defer far.Release()
		if own, err := far.OpenBy(t.Context(), c.Asker); err != nil || len(own) != 0 || d.state(c) != CaseExpired {
			t.Errorf("it is open once more: %v, %v, %s", own, err, d.state(c))
		}
	})
}

// The second person has worked here for three days, and neither of the two
// appointed the other. They may refuse.
func TestTheSecondPersonIsAnotherOne(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		t.Parallel()
		content := open("content")
		d := newDesk(t, content)
		olga, oscar, hugo := d.as("olga").Account(), d.as("oscar").Account(), d.as("hugo").Account()
		long, young := db.Millis(time.Now().Add(-SecondPersonAge)), db.Millis(time.Now().Add(time.Minute-SecondPersonAge))
		c := d.asks("olga")
		permit := d.permit("oscar", Approve, Object{"case", string(c.ID)})
		for name, hired := range map[string]map[string]Colleague{
			"too young":              {oscar: {hugo, young}},
			"from tomorrow":          {oscar: {hugo, db.Millis(time.Now().Add(24 * time.Hour))}},
			"who was appointed":      {oscar: {olga, long}},
			"who appointed":          {oscar: {hugo, long}, olga: {oscar, long}},
			"who appointed just now": {oscar: {hugo, long}, olga: {oscar, db.Millis(time.Now())}},
		} {
			d.hired = hired
			if _, err := d.Approve(t.Context(), permit); !errors.Is(err, TooNear) || !errors.Is(err, yesline.Denied) {
				t.Errorf("a second person %s: got %v, want too near", name, err)
			}
			if d.state(c) != CaseAsked {
				t.Fatalf("a second person %s: the case is %s", name, d.state(c))
			}
		}
		no := d.asks("olga")
		if is, err := d.Refuse(t.Context(), d.permit("oscar", Approve, Object{"case", string(no.ID)})); err != nil || is.State != CaseRefused {
			t.Errorf("refusing: %v, %v", is, err)
		}
		d.Cases.colleague = func(_ context.Context, account string) (Colleague, error) {
			if account == olga {
				return Colleague{}, yesline.Unavailable
			}
			return Colleague{hugo, long}, nil
		}
		if _, err := d.Approve(t.Context(), permit); !errors.Is(err, yesline.Unavailable) {
			t.Errorf("nobody knows who asked: %v", err)
		}
		d.Cases.colleague = func(_ context.Context, account string) (Colleague, error) {
			if account == oscar {
				return Colleague{}, yesline.Unavailable
			}
			return Colleague{hugo, long}, nil
		}
		if _, err := d.Approve(t.Context(), permit); !errors.Is(err, yesline.Unavailable) {
			t.Errorf("nobody knows the second person: %v", err)
		}
		d.Cases.colleague = nil
		if _, err := d.Approve(t.Context(), permit); !errors.Is(err, yesline.Denied) {
			t.Errorf("nobody knows anybody: got %v, want denied", err)
		}
		d.Cases.colleague = d.colleague
		d.hired = map[string]Colleague{oscar: {hugo, long}, olga: {hugo, db.Millis(time.Now())}}
		if is, err := d.Approve(t.Context(), permit); err != nil || is.State != CaseOpen {
			t.Errorf("a second person for three days: %v, %v", is, err)
		}
	})
}

// Cases that are asked for in one moment are all in the lists.
func TestNoCaseIsSkippedBetweenPages(t *testing.T) {
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
		defer d.Release()
		want := []Case{d.asks("olga"), d.asks("hugo"), d.asks("olga"), d.asks("hugo")}
		slices.Reverse(want)
		var got []Case
		for before := int64(0); len(got) < len(want); before = got[len(got)-1].Asked {
			page, err := d.Cases.List(t.Context(), "", before, 1)
			if err != nil || len(page) != 1 {
				t.Fatalf("after %d: %v, %v", len(got), page, err)
			}
			got = append(got, page...)
		}
		if !slices.Equal(got, want) || want[0].Asked-want[3].Asked > 3 {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// To close one's case takes away, and needs no proof.
func TestClosingACaseNeedsNoProof(t *testing.T) {
	t.Parallel()
	d := newDesk(t, dbtest.SQLite(t)("content"))
	c := d.approves("oscar", d.asks("olga"))
	o := Object{"case", string(c.ID)}
	permit, err := d.gate.Ask(t.Context(), d.old(d.as("olga")), Break, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	if is, err := d.Close(t.Context(), permit); err != nil || is.State != CaseClosed {
		t.Errorf("got %v, %v", is, err)
	}
	if _, err := d.gate.AskSet(t.Context(), d.old(d.as("olga")), Break, []Object{o, d.object("call")}, nil); !errors.Is(err, yesline.Stale) {
		t.Errorf("beside a call: got %v, want stale", err)
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
		about, err := d.Ask(t.Context(), d.permit("olga", Break, d.object("person")), []yesline.PersonID{d.person("ann")}, why, "21")
		if err != nil {
			t.Fatal(err)
		}
		d.approves("oscar", about)
		if _, err := d.Ask(t.Context(), permit, d.both(), why, "22"); !errors.Is(err, yesline.TooMany) {
			t.Errorf("with one of them about a person: got %v, want too many", err)
		}
		if err := d.Cases.Forget(t.Context(), d.person("ann")); err != nil { // and with her ends the case about her
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
		second := d.asks("hugo")
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
		if own, err := d.OpenBy(t.Context(), d.as("olga").Account()); err != nil || len(own) != 1 || own[0].ID != call.ID {
			t.Errorf("open to olga: %v, %v; want the call's alone", own, err)
		}
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

// To forget somebody takes the keys of their program, and works without them
// when they are destroyed. A row whose people are gone is emptied too.
func TestForgettingNeedsNoOtherProgram(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) {
		t.Parallel()
		content := open("content")
		d := newDesk(t, content)
		ann := d.person("ann")
		here := d.asks("olga")
		about, err := d.Ask(t.Context(), d.permit("olga", Break, d.object("person")), []yesline.PersonID{ann}, why, "2")
		if err != nil {
			t.Fatal(err)
		}
		d.write(content, `DELETE FROM case_people WHERE case_id = $1`, string(about.ID))
		d.arrange(state{kept: true, foreign: true})
		if _, err := d.Ask(t.Context(), d.permit("oona", Break, d.object("call")), []yesline.PersonID{yesline.NewPersonID()}, why, "3"); err != nil {
			t.Fatal(err)
		}
		d.mac = func(ctx context.Context, program yesline.ProgramID, data []byte) ([]byte, error) {
			if program != d.program {
				return nil, yesline.Unavailable
			}
			return d.mark(ctx, program, data)
		}
		if err := d.Cases.Forget(t.Context(), ann); err != nil {
			t.Fatal(err)
		}
		found, err := d.ByID(t.Context(), []yesline.CaseID{here.ID, about.ID})
		if err != nil || found[here.ID] != here || found[about.ID].State != CaseClosed || found[about.ID].Object.ID != "" {
			t.Errorf("got %v, %v", found, err)
		}
		d.nowhere(content, "cases", ann)
		d.burnt = true
		if err := d.Cases.Forget(t.Context(), d.person("bob")); err != nil {
			t.Fatal(err)
		}
		var left int
		if err := content.QueryRow(t.Context(), `SELECT COUNT(*) FROM cases WHERE program = $1 AND reason <> ''`, string(d.program)).Scan(&left); err != nil || left != 0 {
			t.Errorf("%d reasons are left, %v", left, err)
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
