package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/phone"
	"yesline/internal/web"
)

const (
	visitorsMost = 200              // that one demo makes
	mayaStays    = 90 * time.Second // in one call
	mayaPause    = 3 * time.Second  // between two things she says, for the other to speak
	callsMost    = 20               // that she has at once
	mayaNumber   = "+12025550199"
)

// areas are where made-up people live; each has a hundred numbers that no
// subscriber has (NXX 555-01XX).
var areas = []string{"202", "207", "212", "303"}

// maya is somebody whom visitors call: an ordinary telephone behind the trunk
// that is picked up whenever it rings, as long as the demo runs.
type maya struct {
	phone *phone.Phone
	voice []byte
	end   context.CancelFunc
	calls sync.WaitGroup

	mu    sync.Mutex
	took  []*phone.Call // newest last, no more than callsMost
	heads int           // calls that go on
}

// welcome connects Maya to the trunk and lets her answer.
func (d *Demo) welcome() (err error) {
	m := &maya{}
	if m.voice, err = d.voice("Maya"); err != nil {
		return err
	}
	if m.phone, err = d.newPhone(phone.Config{Listen: "127.0.0.1:0", User: "maya", Rings: 1500 * time.Millisecond}); err != nil {
		return err
	}
	d.mu.Lock()
	d.numbers = append(d.numbers, mayaNumber)
	d.mu.Unlock()
	d.trunk.Connect(mayaNumber, m.phone)
	var ctx context.Context
	ctx, m.end = context.WithCancel(context.Background())
	d.maya = m
	m.calls.Go(func() { m.answer(ctx) })
	return nil
}

// close ends what she is in.
func (m *maya) close() {
	m.end()
	m.calls.Wait()
}

// answer picks up each call, also while she is in others.
func (m *maya) answer(ctx context.Context) {
	for ctx.Err() == nil {
		ringing, err := m.phone.Ringing(ctx)
		if err != nil {
			return
		}
		if !m.takes() {
			m.calls.Go(func() { ringing.Reject(ctx, 486) })
			continue
		}
		m.calls.Go(func() {
			defer m.leaves()
			m.pickUp(ctx, ringing)
		})
	}
}

func (m *maya) takes() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.heads >= callsMost {
		return false
	}
	m.heads++
	return true
}

func (m *maya) leaves() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heads--
}

// pickUp is one call of hers: she hears the question out, says yes, talks now
// and then, and hangs up when she stayed long enough.
func (m *maya) pickUp(ctx context.Context, ringing *phone.Ringing) {
	select {
	case <-time.After(1500 * time.Millisecond):
	case <-ringing.GaveUp():
		return
	case <-ctx.Done():
		ringing.Reject(ctx, 480)
		return
	}
	call, err := ringing.Answer(ctx)
	if err != nil {
		return // the caller gave up, and has been told
	}
	m.mu.Lock()
	m.took = append(m.took[max(0, len(m.took)-callsMost+1):], call)
	m.mu.Unlock()
	defer func() {
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		call.Hangup(bye)
	}()
	ctx, cancel := context.WithTimeout(ctx, mayaStays)
	defer cancel()
	if err := answer(ctx, call, "1"); err != nil {
		return // it ended before the question did
	}
	m.talk(ctx, call)
}

// talk says a few seconds of her talk, listens, and goes on, over and over.
func (m *maya) talk(ctx context.Context, call *phone.Call) {
	const turn = 4 * audio.Rate
	for from := 0; ; from += turn {
		select {
		case <-time.After(mayaPause):
		case <-call.Done():
			return
		case <-ctx.Done():
			return
		}
		if from+turn > len(m.voice) {
			from = 0
		}
		if call.Say(m.voice[from:from+turn]) != nil || call.Spoken(ctx) != nil {
			return
		}
	}
}

// last is the newest call that she took; nil before the first.
func (m *maya) last() *phone.Call {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.took) == 0 {
		return nil
	}
	return m.took[len(m.took)-1]
}

// friend is Maya as pages offer her.
func friend() web.Friend {
	return web.Friend{Name: "Maya", Number: mayaNumber,
		About: "Maya is made up: a telephone in this demo that picks up, hears the same question as you, says yes, and talks now and then."}
}

// visitor is a person with a number of the demo's and no account, signed in.
func (d *Demo) visitor(ctx context.Context) (cookie string, err error) {
	d.mu.Lock()
	full := d.visitors >= visitorsMost
	if !full {
		d.visitors++
	}
	d.mu.Unlock()
	if full {
		return "", fmt.Errorf("a demo of more than %d visitors: %w", visitorsMost, yesline.TooMany)
	}
	_, number, err := d.number()
	if err != nil {
		return "", err
	}
	person, err := d.People.Meet(ctx, d.strict, number)
	if err != nil {
		return "", err
	}
	token, err := d.Sessions.LinkFor(ctx, d.strict, person)
	if err != nil {
		return "", err
	}
	cookie, _, err = d.Sessions.Redeem(ctx, token)
	return cookie, err
}

// sampleVoice is what speaks for a visitor without a microphone, as a WAV.
func (d *Demo) sampleVoice() ([]byte, error) {
	said, err := d.voice("Ann")
	if err != nil {
		return nil, err
	}
	samples := audio.PCMU.Decode(nil, said)
	head, err := audio.WAVHeader(int64(len(samples)))
	return audio.PCM(slices.Clone(head[:]), samples), err
}

var errNoNumber = errors.New("the demo has no more numbers")

// made is the nth number that no subscriber has.
func made(n int) (string, error) {
	area := n / 99 // the last of a hundred is Maya's
	if n < 0 || area >= len(areas) {
		return "", errNoNumber
	}
	return fmt.Sprintf("+1%s55501%02d", areas[area], n%99), nil
}
