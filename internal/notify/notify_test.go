package notify_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"yesline"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
	"yesline/internal/keys"
	"yesline/internal/keys/keystest"
	"yesline/internal/notify"
	"yesline/internal/notify/desk"
	"yesline/internal/people"
)

// room is an outbox over a real house with real people, jobs and keys.
type room struct {
	*keystest.House
	*notify.Outbox
	people *people.People
	jobs   *db.Jobs
	desk   *desk.Desk
}

// wish changes what the outbox is made of.
type wish func(*notify.Parts)

func open(t *testing.T, open func(string) *db.DB, wishes ...wish) *room {
	t.Helper()
	ctx := t.Context()
	r := &room{House: keystest.Open(t, open)}
	var err error
	if r.people, err = people.Open(ctx, r.House.People, r.Log, r.Keys); err != nil {
		t.Fatal(err)
	}
	if r.desk, err = desk.New("yesline-demo-test"); err != nil {
		t.Fatal(err)
	}
	if r.jobs, err = db.NewJobs(ctx, r.Content, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	p := notify.Parts{Content: r.Content, Jobs: r.jobs, Record: r.Log.Record,
		Seal: func(ctx context.Context, p yesline.ProgramID, c, b []byte) ([]byte, error) {
			return r.Keys.SealFor(ctx, p, keys.Session, c, b)
		},
		Open: func(ctx context.Context, p yesline.ProgramID, c, b []byte) ([]byte, error) {
			return r.Keys.OpenFor(ctx, p, keys.Session, c, b)
		},
		To: r.people.Claimed, Mark: r.people.ClaimMark, Sender: r.desk, PerDay: 100, Host: "yesline.example"}
	for _, w := range wishes {
		w(&p)
	}
	if r.Outbox, err = notify.New(ctx, p); err != nil {
		t.Fatal(err)
	}
	r.jobs.Handle(notify.SendJob, r.Send)
	return r
}

// start works jobs off until the test ends.
func (r *room) start(t *testing.T) {
	t.Helper()
	if err := r.jobs.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.jobs.Stop(context.Background()) })
}

func each(t *testing.T, story func(t *testing.T, db func(string) *db.DB)) {
	t.Parallel()
	dbtest.Each(t, story)
}

func (r *room) claims(t *testing.T, program yesline.ProgramID, number string) yesline.ClaimID {
	t.Helper()
	phone, err := yesline.NewPhone(number)
	if err != nil {
		t.Fatal(err)
	}
	claim, err := r.people.Claim(t.Context(), program, phone)
	if err != nil {
		t.Fatal(err)
	}
	return claim
}

func code(s string) yesline.Secret { return yesline.NewSecret([]byte(s)) }

func (r *room) asks(t *testing.T, program yesline.ProgramID, claim yesline.ClaimID) {
	t.Helper()
	if err := r.SendCode(t.Context(), program, claim, code("123456")); err != nil {
		t.Fatal(err)
	}
}

func (r *room) rows(t *testing.T, table string) (n int) {
	t.Helper()
	if err := r.Content.QueryRow(t.Context(), `SELECT COUNT(*) FROM `+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// soon waits until ok, at most 10 s.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s: not within 10 s", what)
}

// waiting is the id of the one message in the outbox.
func (r *room) waiting(t *testing.T) (id string) {
	t.Helper()
	if err := r.Content.QueryRow(t.Context(), `SELECT id FROM notify_outbox`).Scan(&id); err != nil {
		t.Fatal(err)
	}
	return id
}

// A code goes out once, by a job, and leaves nothing behind.
func TestACodeGoesOut(t *testing.T) {
	each(t, func(t *testing.T, db func(string) *db.DB) {
		r := open(t, db)
		program := r.Program(t)
		r.asks(t, program, r.claims(t, program, "+12025550142"))
		var sealed []byte
		if err := r.Content.QueryRow(t.Context(), `SELECT text FROM notify_outbox`).Scan(&sealed); err != nil || strings.Contains(string(sealed), "123456") {
			t.Errorf("the outbox shows the code (%v)", err)
		}
		if sent, of, err := r.Spent(t.Context(), program); sent != 1 || of != 100 || err != nil {
			t.Errorf("spent %d of %d, %v", sent, of, err)
		}
		r.start(t)
		soon(t, "the message", func() bool { return len(r.desk.Sheets()) == 1 })
		sheet := r.desk.Sheets()[0]
		if want := "123456 is your Yesline code."; !strings.HasPrefix(sheet.Text, want) || sheet.Mask != "+1 ••• ••42" {
			t.Errorf("got %q to %s", sheet.Text, sheet.Mask)
		}
		if !strings.HasSuffix(sheet.Text, "\n\n@yesline.example #123456") {
			t.Errorf("a browser cannot fill it in: %q", sheet.Text)
		}
		soon(t, "the outbox is empty", func() bool { return r.rows(t, "notify_outbox") == 0 })
	})
}

// Nobody gets more than three codes a claim and five a number within an hour.
func TestCodesToOneNumberAreFew(t *testing.T) {
	each(t, func(t *testing.T, open1 func(string) *db.DB) {
		r := open(t, open1)
		program := r.Program(t)
		claim := r.claims(t, program, "+12025550142")
		tooMany := func(claim yesline.ClaimID, why string) {
			t.Helper()
			before, _, _ := r.Spent(t.Context(), program)
			if err := r.SendCode(t.Context(), program, claim, code("123456")); !errors.Is(err, yesline.TooMany) {
				t.Errorf("%s: got %v, want too many", why, err)
			}
			if after, _, _ := r.Spent(t.Context(), program); after != before {
				t.Errorf("%s was paid for", why)
			}
		}
		for range notify.PerClaim {
			r.asks(t, program, claim)
		}
		tooMany(claim, "a fourth code for a claim")
		second := r.claims(t, program, "+12025550142")
		r.asks(t, program, second)
		r.asks(t, program, second)
		tooMany(second, "a sixth code to a number")
		tooMany(r.claims(t, program, "+12025550142"), "one more by another claim")
		r.asks(t, program, r.claims(t, program, "+12025550143")) // somebody else's number
		other := r.Program(t)
		r.asks(t, other, r.claims(t, other, "+12025550142"))

		if err := r.Content.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE notify_codes SET created = created - $1`, time.Hour.Milliseconds())
			return err
		}); err != nil {
			t.Fatal(err)
		}
		r.asks(t, program, r.claims(t, program, "+12025550142")) // an hour later
		if err := r.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := r.rows(t, "notify_codes"); n != 1 {
			t.Errorf("%d codes are remembered, want 1", n)
		}
	})
}

// The budget is of a program and a day, and is kept when many ask at once.
func TestTheBudgetOfTheDay(t *testing.T) {
	each(t, func(t *testing.T, open1 func(string) *db.DB) {
		r := open(t, open1, func(p *notify.Parts) { p.PerDay = 7 })
		program, other := r.Program(t), r.Program(t)
		claims := make([]yesline.ClaimID, 20)
		for i := range claims {
			claims[i] = r.claims(t, program, fmt.Sprintf("+120255501%02d", i))
		}
		var asking sync.WaitGroup
		var sent atomic.Int32
		for _, claim := range claims {
			asking.Go(func() {
				switch err := r.SendCode(t.Context(), program, claim, code("123456")); {
				case err == nil:
					sent.Add(1)
				case !errors.Is(err, yesline.TooMany) && !errors.Is(err, yesline.Conflict):
					t.Error(err)
				}
			})
		}
		asking.Wait()
		for _, claim := range claims { // whoever lost to the others by chance comes again
			if r.SendCode(t.Context(), program, claim, code("123456")) == nil {
				sent.Add(1)
			}
		}
		if n, of, err := r.Spent(t.Context(), program); sent.Load() != 7 || n != 7 || of != 7 || err != nil {
			t.Errorf("%d were sent, %d of %d spent, %v", sent.Load(), n, of, err)
		}
		if n := r.rows(t, "notify_outbox"); n != int(sent.Load()) {
			t.Errorf("%d wait, want %d", n, sent.Load())
		}
		r.asks(t, other, r.claims(t, other, "+12025550142"))
		if err := r.Content.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE notify_spent SET day = day - 40`)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		r.asks(t, program, r.claims(t, program, "+12025550199")) // another day
		if err := r.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := r.rows(t, "notify_spent"); n != 1 {
			t.Errorf("%d days are remembered, want 1", n)
		}
		none := *r.Outbox
		none.PerDay = 0
		if err := none.SendCode(t.Context(), program, claims[0], code("123456")); !errors.Is(err, yesline.TooMany) {
			t.Errorf("a house without a budget: got %v, want too many", err)
		}
	})
}

func TestWhatCannotBeSent(t *testing.T) {
	t.Parallel()
	r := open(t, dbtest.SQLite(t))
	program := r.Program(t)
	claim := r.claims(t, program, "+12025550142")
	for _, s := range []string{"", "123", "12345678901", "12a456", "12 456", "١٢٣٤٥٦", "123456\n"} {
		if err := r.SendCode(t.Context(), program, claim, code(s)); !errors.Is(err, yesline.Invalid) || len(s) > 3 && strings.Contains(err.Error(), s) {
			t.Errorf("the code %q: %v", s, err)
		}
	}
	if err := r.SendCode(t.Context(), program, yesline.NewClaimID(), code("123456")); !errors.Is(err, yesline.NotFound) {
		t.Errorf("a claim nobody made: %v", err)
	}
	silent := *r.Outbox
	silent.Sender = nil
	if err := silent.SendCode(t.Context(), program, claim, code("123456")); !errors.Is(err, yesline.Unavailable) {
		t.Errorf("a house that sends nothing: %v", err)
	}
	if n := r.rows(t, "notify_outbox") + r.rows(t, "notify_codes") + r.rows(t, "notify_spent"); n != 0 {
		t.Errorf("%d rows of what was not sent", n)
	}
	if _, err := notify.New(t.Context(), notify.Parts{}); err == nil {
		t.Error("an outbox made of nothing")
	}
}

// odd is a sender that does what the story says.
type odd struct {
	mu    sync.Mutex // guards tries
	tries []notify.Message
	f     func(ctx context.Context, try int) error
}

func (o *odd) Send(ctx context.Context, m notify.Message) error {
	o.mu.Lock()
	o.tries = append(o.tries, m)
	n := len(o.tries)
	o.mu.Unlock()
	return o.f(ctx, n)
}

func (o *odd) tried() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.tries)
}

func by(s notify.Sender) wish { return func(p *notify.Parts) { p.Sender = s } }

// A provider that is away for a moment gets the same message again, once paid.
func TestSendingIsTriedAgain(t *testing.T) {
	each(t, func(t *testing.T, db func(string) *db.DB) {
		o := &odd{f: func(_ context.Context, try int) error {
			if try < 3 {
				return fmt.Errorf("away: %w", yesline.Unavailable)
			}
			return nil
		}}
		r := open(t, db, by(o))
		program := r.Program(t)
		r.asks(t, program, r.claims(t, program, "+12025550142"))
		r.start(t)
		soon(t, "the message", func() bool { return r.rows(t, "notify_outbox") == 0 })
		if o.tried() != 3 || o.tries[0].ID != o.tries[2].ID || string(o.tries[2].Text.Bytes()) != string(o.tries[0].Text.Bytes()) {
			t.Errorf("%d tries, or not of one message", o.tried())
		}
		if s := fmt.Sprintf("%v %+v", o.tries[0], o.tries[0]); strings.Contains(s, "123456") || strings.Contains(s, "555") {
			t.Errorf("a message prints: %s", s)
		}
		if sent, _, err := r.Spent(t.Context(), program); sent != 1 || err != nil {
			t.Errorf("%d were paid for, want 1 (%v)", sent, err)
		}
	})
}

// What may have been sent is paid for again before it is tried again, and not
// for ever.
func TestWhatMayHaveBeenSentIsPaidFor(t *testing.T) {
	for name, c := range map[string]struct{ budget, tries, spent int }{
		"a small budget": {2, 2, 2},
		"a large one":    {100, 5, 6}, // the sixth was taken out before it was given up
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &odd{f: func(context.Context, int) error { return fmt.Errorf("no answer: %w", notify.Unsure) }}
			r := open(t, dbtest.SQLite(t), by(o), func(p *notify.Parts) { p.PerDay = c.budget })
			program := r.Program(t)
			r.asks(t, program, r.claims(t, program, "+12025550142"))
			id := r.waiting(t)
			for range 20 { // as often as the job would run
				r.Send(t.Context(), id)
			}
			if n := r.rows(t, "notify_outbox"); o.tried() != c.tries || n != 0 {
				t.Errorf("%d tries, %d wait, want %d and none", o.tried(), n, c.tries)
			}
			if sent, _, err := r.Spent(t.Context(), program); sent != c.spent || err != nil {
				t.Errorf("%d were paid for, want %d (%v)", sent, c.spent, err)
			}
		})
	}
}

// A house whose budget was taken away pays for no second try either.
func TestNoBudgetNoSecondTry(t *testing.T) {
	t.Parallel()
	o := &odd{f: func(context.Context, int) error { return fmt.Errorf("no answer: %w", notify.Unsure) }}
	r := open(t, dbtest.SQLite(t), by(o))
	program := r.Program(t)
	r.asks(t, program, r.claims(t, program, "+12025550142"))
	id := r.waiting(t)
	r.PerDay = 0
	if err := r.Content.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM notify_spent`) // it is another day
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		r.Send(t.Context(), id)
	}
	if o.tried() != 1 {
		t.Errorf("%d tries, want the one that was paid for", o.tried())
	}
}

// What is refused for good, expired, or of a claim that is no more, is dropped.
func TestWhatIsDropped(t *testing.T) {
	t.Parallel()
	o := &odd{f: func(context.Context, int) error { return fmt.Errorf("no such number: %w", notify.Refused) }}
	r := open(t, dbtest.SQLite(t), by(o))
	program := r.Program(t)
	change := func(d *db.DB, q string, args ...any) {
		t.Helper()
		if err := d.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, q, args...)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range []struct {
		name  string
		do    func()
		tries int
	}{
		{"refused for good", func() {}, 1},
		{"too old", func() {
			change(r.Content, `UPDATE notify_outbox SET created = created - $1`, notify.Keep.Milliseconds())
		}, 0},
		{"its claim is gone", func() { change(r.House.People, `DELETE FROM claims`) }, 0},
		{"moved to another program", func() { change(r.Content, `UPDATE notify_outbox SET program = $1`, string(r.Program(t))) }, 0},
		{"moved to another claim", func() {
			stranger := r.claims(t, r.Program(t), "+12025550199")
			change(r.Content, `UPDATE notify_outbox SET claim = $1`, string(stranger))
		}, 0},
		{"another text", func() { change(r.Content, `UPDATE notify_outbox SET text = $1`, []byte("visit evil.example")) }, 0},
	} {
		r.asks(t, program, r.claims(t, program, fmt.Sprintf("+120255501%02d", i)))
		id, before := r.waiting(t), o.tried()
		c.do()
		if err := r.Send(t.Context(), id); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if n := r.rows(t, "notify_outbox"); n != 0 || o.tried()-before != c.tries {
			t.Errorf("%s: %d wait after %d tries, want none after %d", c.name, n, o.tried()-before, c.tries)
		}
		if err := r.Send(t.Context(), id); err != nil {
			t.Errorf("%s, once more: %v", c.name, err)
		}
	}
}

// While jobs do not run, the sweep takes what is too old.
func TestSweep(t *testing.T) {
	each(t, func(t *testing.T, open1 func(string) *db.DB) {
		r := open(t, open1)
		program := r.Program(t)
		r.asks(t, program, r.claims(t, program, "+12025550142"))
		if err := r.Sweep(t.Context()); err != nil || r.rows(t, "notify_outbox") != 1 {
			t.Fatalf("it swept what is young: %v", err)
		}
		if err := r.Content.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE notify_outbox SET created = created - $1`, notify.Keep.Milliseconds())
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if err := r.Sweep(t.Context()); err != nil || r.rows(t, "notify_outbox") != 0 {
			t.Errorf("what is too old stays: %v", err)
		}
	})
}

// A provider that hangs holds up two workers at most: other jobs run.
func TestAHangingProviderHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	var inside, most atomic.Int32
	o := &odd{f: func(ctx context.Context, _ int) error {
		if n := inside.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer inside.Add(-1)
		<-end
		return nil
	}}
	r := open(t, dbtest.SQLite(t), by(o))
	shredded := make(chan string, 1)
	r.jobs.Handle("shred", func(_ context.Context, id string) error { shredded <- id; return nil })
	program := r.Program(t)
	for i := range 10 {
		r.asks(t, program, r.claims(t, program, fmt.Sprintf("+120255501%02d", i)))
	}
	r.start(t)
	t.Cleanup(func() { close(end) }) // before the jobs are stopped
	soon(t, "two are being sent", func() bool { return inside.Load() == 2 })
	if err := r.Content.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		return r.jobs.Enqueue(ctx, tx, "shred", "now")
	}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-shredded:
	case <-time.After(10 * time.Second):
		t.Error("a shredding waits for messages")
	}
	if n := most.Load(); n != 2 {
		t.Errorf("%d were sent at once, want 2", n)
	}
}

// 100,000 sign-ups in a moment, each asking for a code: rows, memory and money
// are bounded, and another program does not feel it.
func TestAStormOfSignUps(t *testing.T) {
	t.Parallel()
	const budget = 50
	r := open(t, dbtest.SQLite(t), func(p *notify.Parts) { p.PerDay = budget })
	r.start(t)
	program, other := r.Program(t), r.Program(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	var claimed atomic.Int32
	var storming sync.WaitGroup
	for w := range 20 {
		storming.Go(func() {
			for i := range 5000 {
				phone, err := yesline.NewPhone(fmt.Sprintf("+1202%07d", 2000000+w*5000+i))
				if err != nil {
					t.Error(err)
					return
				}
				claim, err := r.people.Claim(t.Context(), program, phone)
				if err == nil {
					claimed.Add(1)
					err = r.SendCode(t.Context(), program, claim, code("123456"))
				}
				if err != nil && !errors.Is(err, yesline.TooMany) {
					t.Error(err)
					return
				}
			}
		})
	}
	storming.Wait()
	took := time.Since(began)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if most := int32(200 + 20*(took/time.Second+1)); claimed.Load() > most || claimed.Load() < budget {
		t.Errorf("%d claims in %v, want at most %d", claimed.Load(), took, most)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("%d bytes stay in memory", grown)
	}
	r.asks(t, other, r.claims(t, other, "+12025550142"))
	soon(t, "the messages", func() bool { return r.rows(t, "notify_outbox") == 0 })
	if sent := len(r.desk.Sheets()); sent != budget+1 {
		t.Errorf("%d messages were sent, want the budget of %d and the other program's", sent, budget)
	}
	if n := r.rows(t, "notify_codes"); n != budget+1 {
		t.Errorf("%d codes are remembered, want %d", n, budget+1)
	}
	t.Logf("100,000 sign-ups in %v: %d claims, %d messages", took, claimed.Load(), budget)
}
