package desk_test

import (
	"errors"
	"fmt"
	"testing"

	"yesline"
	"yesline/internal/notify"
	"yesline/internal/notify/desk"
	"yesline/internal/notify/notifytest"
)

func open(t *testing.T) *desk.Desk {
	t.Helper()
	d, err := desk.New("/tmp/yesline-demo-123/data")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestContract(t *testing.T) {
	notifytest.TestSender(t, func(t *testing.T) (notify.Sender, func() []notifytest.Got) {
		d := open(t)
		return d, func() (all []notifytest.Got) {
			for _, s := range d.Sheets() { // newest first
				all = append([]notifytest.Got{{ID: s.ID, Text: s.Text}}, all...)
			}
			return all
		}
	})
}

// Codes on a screen are for a demo: a house that people live in has no desk.
func TestNoDeskOutsideADemo(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"", "/", "/var/lib/yesline", "data", "/tmp/yesline", "/tmp/yesline-demo", "/tmp/my-yesline-demo-1/data", "/tmp/yesline-demo-1/../house"} {
		if d, err := desk.New(data); !errors.Is(err, yesline.Denied) || d != nil {
			t.Errorf("a desk in %q: got %v, want not permitted", data, err)
		}
	}
}

func TestTheDeskKeepsTheLast200(t *testing.T) {
	t.Parallel()
	d := open(t)
	var first notify.Message
	for i := range 250 {
		m := notifytest.New(t, fmt.Sprint(i))
		if i == 0 {
			first = m
		}
		for range 2 { // tried again: still one sheet
			if err := d.Send(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
	}
	sheets := d.Sheets()
	if len(sheets) != 200 || sheets[0].Text != "249" || sheets[199].Text != "50" {
		t.Errorf("%d sheets, from %q to %q", len(sheets), sheets[0].Text, sheets[len(sheets)-1].Text)
	}
	if sheets[0].Mask != first.Mask || sheets[0].At.IsZero() {
		t.Errorf("the sheet says %q at %v", sheets[0].Mask, sheets[0].At)
	}
}
