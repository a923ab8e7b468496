package media_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"yesline/internal/audio"
	"yesline/internal/capture/media"
)

// A prompt of which nothing left the house was not said: what a party answers
// to a question depends on its having been sent to the end.
func TestAPromptThatDidNotLeaveWasNotSaid(t *testing.T) {
	t.Parallel()
	p, err := media.Open(media.Config{IP: netip.MustParseAddr("127.0.0.1"), From: 47000, To: 47010})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	sound := make([]byte, audio.Rate/5)
	s := p.Loose(nil, func([]byte) error { return errors.New("the network is down") })
	t.Cleanup(s.Close)
	s.Agree(media.Agreement{Codec: audio.PCMU, Listens: true, Speaks: true})
	if s.Play(ctx, sound) == nil {
		t.Error("a question that the network refused counts as said")
	}
	unkeyed := p.Loose(nil, func([]byte) error { return nil })
	t.Cleanup(unkeyed.Close)
	unkeyed.Agree(media.Agreement{Codec: audio.PCMU, Listens: true, Speaks: true, Out: &media.Crypto{Profile: "AES_CM_128_HMAC_SHA1_80"}})
	if unkeyed.Play(ctx, sound) == nil {
		t.Error("a question that could not be encrypted, and so was not sent, counts as said")
	}
}
