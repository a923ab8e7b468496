// Package notifytest is the contract that every driver of notify passes.
package notifytest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"yesline"
	"yesline/internal/notify"
)

// Got is a message as it arrived.
type Got struct{ ID, Text string }

// TestSender is the contract. open gives a new driver and what has arrived by
// it, in the order in which it came.
func TestSender(t *testing.T, open func(t *testing.T) (s notify.Sender, arrived func() []Got)) {
	for name, story := range map[string]func(*testing.T, notify.Sender, func() []Got){
		"brings id and text":             brings,
		"refuses what is no message":     refusesNothing,
		"takes the longest text":         longest,
		"sends nothing for who has gone": gone,
		"takes many at once":             many,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, arrived := open(t)
			story(t, s, arrived)
		})
	}
}

const digits = "+12025550142"

// New makes a message to a number that is kept free for stories.
func New(t testing.TB, text string) notify.Message {
	t.Helper()
	to, err := yesline.NewPhone(digits)
	if err != nil {
		t.Fatal(err)
	}
	return notify.Message{ID: string(yesline.NewEntryID()), To: to, Mask: "+1 ••• ••42", Text: yesline.NewSecret([]byte(text))}
}

func brings(t *testing.T, s notify.Sender, arrived func() []Got) {
	for _, text := range []string{"123456 is your code", "a \"quoted\" & <marked> naïve 🙂\n\n@localhost #123456"} {
		m := New(t, text)
		if err := s.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		all := arrived()
		if len(all) == 0 || all[len(all)-1] != (Got{m.ID, text}) {
			t.Errorf("got %q, want %q with its id", all, text)
		}
	}
}

func refusesNothing(t *testing.T, s notify.Sender, arrived func() []Got) {
	noNumber, noID := New(t, "text"), New(t, "text")
	noNumber.To, noID.ID = yesline.Phone{}, ""
	for name, m := range map[string]notify.Message{
		"nothing": {}, "no number": noNumber, "no id": noID, "no text": New(t, ""), "too much text": New(t, strings.Repeat("x", notify.TextMost+1)),
	} {
		err := s.Send(t.Context(), m)
		if !errors.Is(err, yesline.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
		tells(t, err, "xxxx")
	}
	if n := len(arrived()); n != 0 {
		t.Errorf("%d of them arrived", n)
	}
}

func longest(t *testing.T, s notify.Sender, arrived func() []Got) {
	m := New(t, strings.Repeat("ü", notify.TextMost/2))
	if err := s.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if all := arrived(); len(all) != 1 || all[0].Text != string(m.Text.Bytes()) {
		t.Errorf("%d messages, or a text that was cut", len(all))
	}
}

func gone(t *testing.T, s notify.Sender, arrived func() []Got) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	began := time.Now()
	err := s.Send(ctx, New(t, "secret text"))
	if err == nil || time.Since(began) > time.Second {
		t.Errorf("got %v after %v, want an error at once", err, time.Since(began))
	}
	tells(t, err, "secret text")
	if n := len(arrived()); n != 0 {
		t.Error("it was sent nevertheless")
	}
}

func many(t *testing.T, s notify.Sender, arrived func() []Got) {
	const n = 50
	var sending sync.WaitGroup
	for i := range n {
		m := New(t, fmt.Sprint("message ", i))
		sending.Go(func() {
			if err := s.Send(t.Context(), m); err != nil {
				t.Error(err)
			}
		})
	}
	sending.Wait()
	texts := map[string]bool{}
	for _, got := range arrived() {
		texts[got.Text] = true
	}
	if len(texts) != n {
		t.Errorf("%d different texts arrived, want %d", len(texts), n)
	}
}

// tells fails the test if the error repeats the number or the text.
func tells(t *testing.T, err error, text string) {
	t.Helper()
	if err != nil && (strings.Contains(err.Error(), digits[1:]) || strings.Contains(err.Error(), text)) {
		t.Errorf("the error repeats the message: %v", err)
	}
}
