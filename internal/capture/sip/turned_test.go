package sip_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"yesline/internal/capture/sip"
)

// sums are what a door told of whom it turned away.
type sums struct {
	mu    sync.Mutex
	times map[string]int64
	calls map[string]int
}

func (s *sums) turned(word string, times int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times[word] += times
	s.calls[word]++
}

func (s *sums) of(word string) (times int64, calls int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.times[word], s.calls[word]
}

// Whom the door turns away, and why, is told: each once, in sums that no flood
// makes many, and nothing that was sent is in them.
func TestTellsWhomItTurnsAway(t *testing.T) {
	t.Parallel()
	told := &sums{times: map[string]int64{}, calls: map[string]int{}}
	w := open(t, setup{cfg: func(c *sip.Config) { c.Turned = told.turned }})
	began := time.Now()
	call := func(r *raw, method string) {
		r.send(method+" sip:"+bobNumber+"@THERE SIP/2.0", "VIA", "From: <sip:"+annNumber+"@HERE>;tag=1", "To: <sip:"+bobNumber+"@THERE>",
			fmt.Sprintf("Call-ID: t%d", r.seq), "CSeq: 1 "+method, "Contact: <sip:x@HERE>")
	}

	stranger := newRaw(t, w.door.Address())
	call(stranger, "INVITE")
	call(stranger, "OPTIONS")
	for times := int64(0); times < 2; times, _ = told.of("stranger") {
		select {
		case <-w.ctx.Done():
			t.Fatal("a stranger is not told of while the door is open")
		case <-time.After(20 * time.Millisecond):
		}
	}

	odd := newRawAt(t, w.door.Address(), "127.0.0.5")
	odd.write("GET / HTTP/1.1\r\n\r\n")
	odd.write("OPTIONS sip:x SIP/2.0\r\nX: " + strings.Repeat("x", 9000) + "\r\n\r\n")

	for i := range 11 {
		guess := newRawAt(t, w.door.Address(), "127.0.0.6") // each where no answer to another one comes again
		got := code(guess.invited(&world{annName: nobodyName, annPass: fmt.Sprint(i)}, bobNumber, fmt.Sprint("g", i), sdp("127.0.0.6", 4000, "")))
		if want := map[bool]string{true: "401"}[i < 10]; got != want {
			t.Fatalf("guess %d gets %q, want %q", i, got, want)
		}
	}

	many := newRawAt(t, w.door.Address(), "127.0.0.7")
	for i := range 600 {
		call(many, "OPTIONS")
		if i%50 == 49 {
			time.Sleep(10 * time.Millisecond) // so that the system's own buffer does not drop them
		}
	}
	for time.Sleep(200 * time.Millisecond); w.door.Counters.Oversized.Load() == 0; time.Sleep(10 * time.Millisecond) {
		if w.ctx.Err() != nil {
			t.Fatal("what is too long is not counted")
		}
	}
	ok(t, w.door.Close()) // tells the rest

	count := &w.door.Counters
	for word, want := range map[string][2]int64{
		"stranger":  {102, count.Strangers.Load()},
		"digest":    {10, count.Wrong.Load()},
		"password":  {1, count.Barred.Load()},
		"flood":     {200, count.Flood.Load()},
		"malformed": {1, count.Malformed.Load()},
		"oversized": {1, count.Oversized.Load()},
		"lines":     {0, 0},
	} {
		times, calls := told.of(word)
		if times < want[0] || times != want[1] {
			t.Errorf("%s is told %d times, want %d and at least %d", word, times, want[1], want[0])
		}
		if most := int(time.Since(began)/time.Second) + 2; calls > most {
			t.Errorf("%s is told in %d sums, want %d at most", word, calls, most)
		}
		delete(told.times, word)
	}
	if len(told.times) > 0 {
		t.Errorf("more is told: %v", told.times)
	}
}
