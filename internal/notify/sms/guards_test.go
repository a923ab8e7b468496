package sms_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"yesline/internal/notify"
	"yesline/internal/notify/notifytest"
)

// A provider who takes the message and says nothing is left after ten seconds,
// however long the caller would wait.
func TestAProviderWhoNeverAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := driver(t, "http://127.0.0.1/send")
		d.DialBy(func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go io.Copy(io.Discard, theirs) // until ours is closed
			return ours, nil
		})
		began := time.Now()
		if err := d.Send(t.Context(), notifytest.New(t, "text")); !errors.Is(err, notify.Unsure) {
			t.Errorf("got %v, want perhaps sent", err)
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("it was left after %v", took)
		}
	})
}
