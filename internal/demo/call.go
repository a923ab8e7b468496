package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/phone"
)

// talk is a call between two people, and what each did in it.
type talk struct {
	d                 *Demo
	caller, contact   *somebody
	callers, contacts *phone.Call // the two ends
	id                yesline.CallID
	withdrawn         yesline.TrackID // the track that the caller took back
}

// ring has caller dial contact; each hears their question and presses a key
// ("" for somebody who says nothing). It returns when the two hear each other.
func (d *Demo) ring(ctx context.Context, caller, contact *somebody, callerKey, contactKey string) (*talk, error) {
	t := &talk{d: d, caller: caller, contact: contact}
	failed := make(chan error, 1)
	go func() {
		call, err := contact.phone.Answer(ctx)
		if err == nil {
			t.contacts = call
			err = answer(ctx, call, contactKey)
		}
		failed <- err
	}()
	call, err := caller.phone.Call(ctx, d.Phones.Address().String(), contact.number)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s calls: %w", caller.name, err), <-failed)
	}
	t.callers = call
	if err := answer(ctx, call, callerKey); err != nil {
		return nil, err
	}
	if err := <-failed; err != nil {
		return nil, fmt.Errorf("%s answers: %w", contact.name, err)
	}
	return t, t.bridged(ctx)
}

const pause = 800 * time.Millisecond

// answer listens until the question was asked, and then presses a key.
func answer(ctx context.Context, c *phone.Call, key string) error {
	if key == "" {
		return nil
	}
	if err := asked(ctx, c); err != nil {
		return err
	}
	return c.Press(ctx, key)
}

// asked waits until a voice spoke for three seconds and then paused: people
// answer when the other has finished.
func asked(ctx context.Context, c *phone.Call) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	spoken := 0
	quiet := time.Now()
	for {
		heard := audio.PCMU.Decode(nil, c.Heard())
		if n := loud(heard); n > spoken {
			spoken, quiet = n, time.Now()
		}
		if spoken > 3*audio.Rate/2 && time.Since(quiet) > pause {
			return nil
		}
		select {
		case <-tick.C:
		case <-c.Done():
			return fmt.Errorf("the call ended before the question did: %s", c.Ended())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// loud counts the samples that are not silence.
func loud(samples []int16) (n int) {
	for _, s := range samples {
		if s > 100 || s < -100 {
			n++
		}
	}
	return n
}

// bridged waits until the house says that the two hear each other.
func (t *talk) bridged(ctx context.Context) error {
	for {
		calls, _, err := t.d.Capture.Calls(ctx, t.caller.id, "", 1)
		if err != nil {
			return err
		}
		if len(calls) == 1 && calls[0].State == capture.Bridged {
			t.id = calls[0].ID
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-t.callers.Done():
			return fmt.Errorf("the call ended before it was bridged: %s", t.callers.Ended())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// speak has both say so much of their talk, from the given second on, one
// after the other as people do and a little at once.
func (t *talk) speak(ctx context.Context, from, seconds int) error {
	part := func(who *somebody) []byte { return who.voice[from*audio.Rate : (from+seconds)*audio.Rate] }
	t.d.mu.Lock()
	t.d.sent = append(t.d.sent, part(t.caller), part(t.contact))
	t.d.mu.Unlock()
	if err := errors.Join(t.callers.Say(part(t.caller)), t.contacts.Say(part(t.contact))); err != nil {
		return err
	}
	return errors.Join(t.callers.Spoken(ctx), t.contacts.Spoken(ctx))
}

// hangUp ends the call and waits until its tracks are closed into the log.
func (t *talk) hangUp(ctx context.Context) error {
	if err := t.callers.Hangup(ctx); err != nil {
		return err
	}
	for {
		done, err := t.closed(ctx)
		if err != nil || done {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("waiting for the tracks of a call to close: %w", ctx.Err())
		}
	}
}

func (t *talk) closed(ctx context.Context) (bool, error) {
	c, err := t.d.Capture.Call(ctx, t.id)
	if err != nil || c.Ended == 0 {
		return false, err
	}
	tracks, err := t.d.Register.Tracks(ctx, t.id)
	if err != nil {
		return false, err
	}
	for _, k := range tracks {
		if !k.Finished {
			return false, nil
		}
	}
	return true, nil
}
