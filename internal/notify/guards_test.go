package notify_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
	"yesline/internal/db"
	"yesline/internal/notify"
	"yesline/internal/notify/notifytest"
)

// No driver is given what is no message.
func TestWhatIsNoMessage(t *testing.T) {
	t.Parallel()
	noNumber, noID := notifytest.New(t, "text"), notifytest.New(t, "text")
	noNumber.To, noID.ID = yesline.Phone{}, ""
	for name, m := range map[string]notify.Message{
		"no number": noNumber, "no id": noID, "no text": notifytest.New(t, ""), "481 bytes": notifytest.New(t, strings.Repeat("x", 481)),
	} {
		if err := m.Check(); !errors.Is(err, yesline.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
	for _, text := range []string{"x", strings.Repeat("x", 480)} {
		if err := notifytest.New(t, text).Check(); err != nil {
			t.Errorf("%d bytes: %v", len(text), err)
		}
	}
}

// A message waits for a quarter of an hour, whether jobs run or not.
func TestAMessageWaitsForAQuarterOfAnHour(t *testing.T) {
	each(t, func(t *testing.T, open1 func(string) *db.DB) {
		o := &odd{f: func(context.Context, int) error { return fmt.Errorf("away: %w", yesline.Unavailable) }}
		r := open(t, open1, by(o))
		program := r.Program(t)
		passes := func(d time.Duration) {
			t.Helper()
			if err := r.Content.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				_, err := tx.Exec(ctx, `UPDATE notify_outbox SET created = created - $1`, d.Milliseconds())
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		for how, ends := range map[string]func(id string) error{
			"swept": func(string) error { return r.Sweep(t.Context()) },
			"tried": func(id string) error { r.Send(t.Context(), id); return nil },
		} {
			r.asks(t, program, r.claims(t, program, "+12025550142"))
			id := r.waiting(t)
			passes(14 * time.Minute)
			if err := ends(id); err != nil || r.rows(t, "notify_outbox") != 1 {
				t.Errorf("%s after 14 minutes: it is gone (%v)", how, err)
			}
			passes(time.Minute)
			tried := o.tried()
			if err := ends(id); err != nil || r.rows(t, "notify_outbox") != 0 || o.tried() != tried {
				t.Errorf("%s after 15 minutes: it waits on or was sent (%v)", how, err)
			}
		}
	})
}

// A house that can send nothing for a while keeps what waits, and pays nothing
// more for it.
func TestAHouseWithoutASenderKeepsWhatWaits(t *testing.T) {
	each(t, func(t *testing.T, open1 func(string) *db.DB) {
		r := open(t, open1)
		program := r.Program(t)
		r.asks(t, program, r.claims(t, program, "+12025550142"))
		id := r.waiting(t)
		silent := *r.Outbox
		silent.Sender = nil
		if err := silent.Send(t.Context(), id); err == nil {
			t.Error("the job says that it is done")
		}
		if n := r.rows(t, "notify_outbox"); n != 1 {
			t.Errorf("%d wait, want 1", n)
		}
		if err := r.Send(t.Context(), id); err != nil || len(r.desk.Sheets()) != 1 {
			t.Errorf("with a sender again: %d sent, %v", len(r.desk.Sheets()), err)
		}
		if sent, _, err := r.Spent(t.Context(), program); sent != 1 || err != nil {
			t.Errorf("%d were paid for, want 1 (%v)", sent, err)
		}
	})
}

// A sender who never comes back is left after ten seconds, and the message is
// not lost.
func TestATryEndsAfterTenSeconds(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o := &odd{f: func(ctx context.Context, _ int) error {
			<-ctx.Done()
			return fmt.Errorf("no answer: %w", notify.Unsure)
		}}
		r := open(t, func(name string) *db.DB {
			d, err := db.Open(t.Context(), name, "sqlite:"+filepath.Join(folder, name+".db"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { d.Close() })
			return d
		}, by(o))
		program := r.Program(t)
		r.asks(t, program, r.claims(t, program, "+12025550142"))
		began := time.Now()
		if err := r.Send(t.Context(), r.waiting(t)); err == nil {
			t.Error("the job says that it is done")
		}
		if took := time.Since(began); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("it was left after %v", took)
		}
		if n := r.rows(t, "notify_outbox"); n != 1 {
			t.Errorf("%d wait, want 1", n)
		}
	})
}
