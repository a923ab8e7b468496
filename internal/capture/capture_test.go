package capture_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/consent"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
	"yesline/internal/keys"
	"yesline/internal/program"
	"yesline/internal/vault"
)

// sealedSeconds counts the seconds of a track that lie in the store.
func (s *story) sealedSeconds(id yesline.TrackID) (n int) {
	s.t.Helper()
	slot := make([]byte, 8192)
	for off := int64(8192); ; off += 8192 {
		_, err := s.blobs.ReadAt(context.Background(), string(id), slot, off)
		if errors.Is(err, yesline.NotFound) || errors.Is(err, io.EOF) {
			return n
		}
		ok(s.t, err)
		for _, b := range slot {
			if b != 0 {
				n++
				break
			}
		}
	}
}

func (s *story) records(e *ear, want int) {
	s.t.Helper()
	track, there := s.kept()[e.leg.ID]
	if !there {
		s.t.Fatalf("nothing of the %s is kept", e.leg.Side)
	}
	if got := s.sealedSeconds(track.ID); got != want {
		s.t.Errorf("%d seconds of the %s are sealed, want %d", got, e.leg.Side, want)
	}
}

func (s *story) keepsNothing(e *ear) {
	s.t.Helper()
	if track, there := s.kept()[e.leg.ID]; there {
		if n := s.sealedSeconds(track.ID); n > 0 {
			s.t.Errorf("%d seconds of the %s are sealed, want none", n, e.leg.Side)
		}
	}
}

func (s *story) says(row capture.Call, recording string, words ...string) {
	s.t.Helper()
	if row.Recording != recording {
		s.t.Errorf("recording is %q (%s), want %q", row.Recording, row.Reason, recording)
	}
	for _, w := range words {
		if !strings.Contains(row.Reason, w) {
			s.t.Errorf("the reason is %q and does not say %q", row.Reason, w)
		}
	}
}

// asked lets notice and question be spoken.
func asked() { time.Sleep(2*spoken + 50*time.Millisecond) }

func TestBothSayYes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, program.Terms{}).call()
		s.talk(s.ann, 'a', 20*time.Second) // she talks all the time: before the yes nothing is kept
		s.talk(s.bob, 'b', 20*time.Second)
		asked()
		s.ann.press("1")
		s.bob.press("1")
		time.Sleep(4*time.Second + 500*time.Millisecond)
		if got := s.row(); got.State != capture.Bridged || got.Ended != 0 {
			t.Errorf("the call is %s, want bridged", got.State)
		}
		row := s.end()
		s.says(row, "both", "the caller said yes", "the callee said yes")
		s.records(s.ann, 5)
		s.records(s.bob, 5)
		if row.State != capture.Ended || row.Ending != "the caller hung up" || len(row.Parties) != 2 {
			t.Errorf("the row is %+v", row)
		}
		if p := row.Parties[0]; p.Side != capture.Caller || p.Person != s.world.ann.Person || p.Device != s.world.ann.ID || p.Track == "" {
			t.Errorf("the caller's row is %+v", p)
		}
		if got := string(s.bob.heard); got != "\x01\x04" {
			t.Errorf("the callee heard prompts %q, want the question and the thanks", got)
		}
	})
}

func TestEvidence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := open(t, program.Terms{})
		w.codec = audio.PCMA
		s := w.call()
		began := time.Now()
		asked()
		s.ann.press("1")
		s.bob.press("2")
		time.Sleep(time.Second)
		s.end()
		history := must(s.consent.History(t.Context(), s.live.ID))(t)
		if len(history) != 2 {
			t.Fatalf("%d answers were written down, want 2", len(history))
		}
		for _, e := range history {
			if e.Prompt != "ask" || len(e.PromptSHA256) != 64 || e.Channel != "keypad" || e.Language != "en" || e.Purpose != consent.Record {
				t.Errorf("evidence %+v", e)
			}
			if e.ToMillis-e.FromMillis != spoken.Milliseconds() || e.AtMillis < e.ToMillis || e.FromMillis < began.UnixMilli() {
				t.Errorf("evidence from %d to %d at %d", e.FromMillis, e.ToMillis, e.AtMillis)
			}
		}
		if history[0].PromptSHA256 == history[1].PromptSHA256 {
			t.Error("mu-law and A-law bytes have one hash: not the bytes that were played")
		}
	})
}

func TestOneRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		terms  program.Terms
		places []string
		one    bool
	}{
		"strict":                       {},
		"one-sided, place unknown":     {terms: program.Terms{OneSided: true}, places: []string{"US-KS"}},
		"one-sided where both permit":  {terms: program.Terms{OneSided: true}, places: []string{"US-KS", "US-ME"}, one: true},
		"both places, program refuses": {places: []string{"US-KS", "US-ME"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := open(t, c.terms, c.places...).call()
				s.talk(s.ann, 'a', 8*time.Second)
				s.talk(s.bob, 'b', 8*time.Second)
				asked()
				s.ann.press("1")
				s.bob.press("2")
				time.Sleep(3*time.Second + 500*time.Millisecond)
				row := s.end()
				s.keepsNothing(s.bob)
				if !c.one {
					s.keepsNothing(s.ann)
					s.says(row, "nobody", "the callee said no", "the rule does not allow it")
					return
				}
				s.records(s.ann, 4)
				s.says(row, "one", "the callee said no")
			})
		})
	}
}

func TestSilenceIsNo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, program.Terms{}).call()
		s.talk(s.ann, 'a', 30*time.Second)
		asked()
		s.ann.press("1")
		time.Sleep(15 * time.Second)
		if s.row().State == capture.Bridged {
			t.Error("the call is bridged before 8 s of silence twice")
		}
		time.Sleep(5 * time.Second)
		if got := s.row().State; got != capture.Bridged {
			t.Errorf("the call is %s, want bridged", got)
		}
		s.bob.press("1") // too late
		time.Sleep(2 * time.Second)
		row := s.end()
		s.says(row, "nobody", "the callee did not answer the question")
		s.keepsNothing(s.ann)
		s.keepsNothing(s.bob)
		if got := string(s.bob.heard); got != "\x01\x01\x02" {
			t.Errorf("the callee heard prompts %q, want the question twice and that nothing is recorded", got)
		}
	})
}

// What is no yes: a 1 before the last word, from another source, by a phone
// that did not take the prompt, or after a 2.
func TestWhatIsNoYes(t *testing.T) {
	t.Parallel()
	for name, press := range map[string]func(s *story){
		"before the last word": func(s *story) {
			time.Sleep(spoken + 100*time.Millisecond)
			s.bob.press("1")
			asked()
		},
		"not from the locked source": func(s *story) {
			asked()
			s.bob.leg.Key('1', time.Now(), false)
		},
		"the prompt was not heard": func(s *story) {
			s.bob.deaf.Store(true)
			asked()
			s.bob.press("1")
		},
		"after a 2": func(s *story) {
			asked()
			s.bob.press("21")
		},
		"taken back before the bridge": func(s *story) {
			asked()
			s.bob.press("12")
		},
		"*9": func(s *story) {
			asked()
			s.bob.press("*91")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := open(t, program.Terms{}).call()
				s.talk(s.ann, 'a', 25*time.Second)
				s.talk(s.bob, 'b', 25*time.Second)
				press(s)
				s.ann.press("1")
				time.Sleep(21 * time.Second)
				if got := s.row().State; got != capture.Bridged {
					t.Errorf("the call is %s, want bridged", got)
				}
				s.says(s.end(), "nobody")
				s.keepsNothing(s.ann)
				s.keepsNothing(s.bob)
			})
		})
	}
}

func TestTwoCountsBeforeTheQuestion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, program.Terms{}).call()
		s.ann.press("2")
		s.bob.press("2")
		time.Sleep(3 * spoken)
		if got := s.row().State; got != capture.Bridged {
			t.Errorf("the call is %s, want bridged at once", got)
		}
		s.says(s.end(), "nobody", "the caller said no", "the callee said no")
	})
}

func TestStarNineStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, program.Terms{}).call()
		s.talk(s.ann, 'a', 20*time.Second)
		s.talk(s.bob, 'b', 20*time.Second)
		asked()
		s.ann.press("1")
		s.bob.press("1")
		time.Sleep(3*time.Second + 500*time.Millisecond)
		s.bob.press("2") // a key like any other by now
		time.Sleep(time.Second)
		s.bob.press("*9")
		time.Sleep(5 * time.Second)
		if got := s.row().State; got != capture.Bridged {
			t.Errorf("the call is %s, want bridged: stopping does not end it", got)
		}
		row := s.end()
		s.says(row, "both", "the callee stopped it with *9")
		s.records(s.bob, 4)
		s.records(s.ann, 4) // the strict rule: with one gone, nobody
		if got := string(s.ann.heard); !strings.HasSuffix(got, "\x05") {
			t.Errorf("the caller heard prompts %q, want to be told that it stopped", got)
		}
	})
}

func TestBeeps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, program.Terms{}).call()
		asked()
		s.ann.press("1")
		s.bob.press("1")
		time.Sleep(31 * time.Second)
		for _, e := range []*ear{s.ann, s.bob} {
			if got := e.beeped(); got != 3 {
				t.Errorf("the %s heard %d beeps in 31 s, want 3", e.leg.Side, got)
			}
		}
		s.ann.press("*9")
		time.Sleep(31 * time.Second)
		if got := s.bob.beeped(); got != 3 {
			t.Errorf("%d beeps after it stopped, want none more", got-3)
		}
		s.end()
	})
}

// Whatever fails, the call goes on, and not a byte is kept from then on.
func TestFaults(t *testing.T) {
	t.Parallel()
	t.Run("the lease is not renewed", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := open(t, program.Terms{}).call()
			s.talk(s.ann, 'a', 20*time.Second)
			asked()
			s.ann.press("1")
			s.bob.press("1")
			time.Sleep(2*time.Second + 500*time.Millisecond)
			// Somebody else took bob's yes back: another node, a page.
			ok(t, s.consent.Stop(t.Context(), s.live.ID, s.row().Parties[1].Person, s.bob.leg.ID, consent.Evidence{Channel: "page", AtMillis: time.Now().UnixMilli()}))
			time.Sleep(6 * time.Second)
			if got := s.row(); got.State != capture.Bridged {
				t.Errorf("the call is %s, want bridged", got.State)
			}
			s.says(s.end(), "both", "it ended because the rule does not allow it")
			s.records(s.ann, 2)
		})
	})
	t.Run("the disk is full", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := open(t, program.Terms{})
			w.blobs.Room = 5 // two headers and three seconds
			s := w.call()
			s.talk(s.ann, 'a', 20*time.Second)
			asked()
			s.ann.press("1")
			s.bob.press("1")
			time.Sleep(8 * time.Second)
			row := s.row()
			if row.State != capture.Bridged {
				t.Errorf("the call is %s, want bridged", row.State)
			}
			s.says(row, "both", "the disk is full")
			s.end()
		})
	})
	t.Run("no row can be written", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := open(t, program.Terms{})
			ok(t, w.Content.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				_, err := tx.Exec(ctx, `DROP TABLE parties`)
				return err
			}))
			s := w.call()
			s.talk(s.ann, 'a', 3*time.Second)
			s.ann.press("1")
			time.Sleep(3 * time.Second)
			s.hangUp()
			<-s.over
			s.sending.Wait()
			if got := s.kept(); len(got) > 0 {
				t.Errorf("%d tracks are kept of a call that could not be written down", len(got))
			}
		})
	})
	t.Run("a no is being written down", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := open(t, program.Terms{}).call()
			s.talk(s.ann, 'a', 20*time.Second)
			asked()
			s.ann.press("1")
			s.bob.press("1")
			time.Sleep(3 * time.Second)
			locked := s.lockContent(4 * time.Second)
			track := s.kept()[s.ann.leg.ID].ID
			before := s.sealedSeconds(track)
			s.bob.press("*9") // under the strict rule this is about ann's voice too
			time.Sleep(3500 * time.Millisecond)
			if got := s.sealedSeconds(track); got > before {
				t.Errorf("%d seconds of ann were sealed while bob's stop was being written down", got-before)
			}
			ok(t, <-locked)
			time.Sleep(2 * time.Second)
			s.end()
			s.records(s.ann, before)
		})
	})
	t.Run("they hang up while a no is being written down", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := open(t, program.Terms{}).call()
			s.talk(s.ann, 'a', 20*time.Second)
			asked()
			s.ann.press("1")
			s.bob.press("1")
			time.Sleep(3 * time.Second)
			locked := s.lockContent(4 * time.Second)
			track := s.kept()[s.ann.leg.ID].ID
			before := s.sealedSeconds(track)
			s.bob.press("*9")
			time.Sleep(1500 * time.Millisecond)
			s.end()
			ok(t, <-locked)
			s.records(s.ann, before)
		})
	})
	t.Run("they hang up while a no is being written down that is not about all", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := open(t, program.Terms{OneSided: true}, "US-KS", "US-ME").call()
			s.talk(s.ann, 'a', 20*time.Second)
			asked()
			s.ann.press("1")
			s.bob.press("1")
			time.Sleep(3 * time.Second)
			locked := s.lockContent(4 * time.Second)
			s.bob.press("*9")
			time.Sleep(1500 * time.Millisecond)
			s.end()
			ok(t, <-locked)
			s.records(s.ann, 5)
			if n := s.sealedSeconds(s.kept()[s.bob.leg.ID].ID); n > 2 {
				t.Errorf("%d seconds of bob are sealed", n)
			}
		})
	})
	t.Run("they hang up before the lease is refused", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := open(t, program.Terms{}).call()
			s.talk(s.ann, 'a', 20*time.Second)
			asked()
			s.ann.press("1")
			s.bob.press("1")
			time.Sleep(2*spoken + 2500*time.Millisecond)
			track := s.kept()[s.ann.leg.ID].ID
			before := s.sealedSeconds(track)
			ok(t, s.consent.Stop(t.Context(), s.live.ID, s.row().Parties[1].Person, s.bob.leg.ID, consent.Evidence{Channel: "page", AtMillis: time.Now().UnixMilli()}))
			s.end()
			s.records(s.ann, before)
		})
	})
	t.Run("a no is said and hung up on at once", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := open(t, program.Terms{}).call()
			s.talk(s.ann, 'a', 20*time.Second)
			asked()
			s.ann.press("1")
			s.bob.press("1")
			time.Sleep(3 * time.Second)
			s.bob.press("*9")
			s.end()
			s.records(s.ann, 2)
		})
	})
	t.Run("an answer cannot be written", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := open(t, program.Terms{OneSided: true}, "US-KS", "US-ME").call()
			s.talk(s.ann, 'a', 20*time.Second)
			s.talk(s.bob, 'b', 20*time.Second)
			asked()
			s.ann.press("1")
			s.bob.press("1")
			time.Sleep(2*time.Second + 500*time.Millisecond)
			ok(t, s.Content.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				_, err := tx.Exec(ctx, `DROP TABLE consent_standings`)
				return err
			}))
			s.bob.press("*9")
			time.Sleep(6 * time.Second)
			s.says(s.end(), "both", "an answer could not be written down")
			s.records(s.ann, 2)
			s.records(s.bob, 2)
		})
	})
}

func TestHoldIsNotAVoice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, program.Terms{}).call()
		s.talk(s.ann, 'a', 20*time.Second)
		s.talk(s.bob, 'b', 20*time.Second)
		asked()
		s.ann.press("1")
		s.bob.press("1")
		time.Sleep(2*time.Second + 500*time.Millisecond)
		s.bob.leg.Hold(true)
		time.Sleep(4 * time.Second)
		s.bob.leg.Hold(false)
		time.Sleep(2 * time.Second)
		s.end()
		s.records(s.ann, 9)
		s.records(s.bob, 6)
	})
}

func TestCalls(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, databases func(string) *db.DB) {
		w := openOn(t, databases, program.Terms{})
		ctx := t.Context()
		var all []yesline.CallID
		for range 5 {
			live := must(w.room.Begin(ctx, w.ann, must(yesline.NewPhone("+12025550102"))(t)))(t)
			all = append([]yesline.CallID{live.ID}, all...)
			live.End("it was over")
			time.Sleep(2 * time.Millisecond)
		}
		var got []yesline.CallID
		pages := 0
		for cursor := ""; ; pages++ {
			calls, next, err := w.room.Calls(ctx, w.ann.Person, cursor, 2)
			ok(t, err)
			for _, c := range calls {
				got = append(got, c.ID)
			}
			if cursor = next; cursor == "" {
				break
			}
		}
		if len(got) != 5 {
			t.Fatalf("%d calls in %d pages, want 5", len(got), pages)
		}
		for i := range got {
			if got[i] != all[i] {
				t.Errorf("call %d is %s, want the newest first", i, got[i])
			}
		}
		if _, _, err := w.room.Calls(ctx, w.ann.Person, "1' OR 1=1", 2); !errors.Is(err, yesline.Invalid) {
			t.Errorf("a made-up cursor gives %v", err)
		}
		if _, err := w.room.Call(ctx, yesline.NewCallID()); !errors.Is(err, yesline.NotFound) {
			t.Errorf("an absent call gives %v", err)
		}
		left := must(w.room.Begin(ctx, w.ann, must(yesline.NewPhone("+12025550102"))(t)))(t)
		ok(t, w.room.Recover(ctx))
		if c := must(w.room.Call(ctx, left.ID))(t); c.Ended == 0 || c.Ending != "the server stopped" {
			t.Errorf("a call that was left open is %+v", c)
		}
		left.End("it was over")
		ok(t, w.room.Forget(ctx, w.ann.Person))
		if calls, _, err := w.room.Calls(ctx, w.ann.Person, "", 10); err != nil || len(calls) > 0 {
			t.Errorf("a forgotten person has %d calls, %v", len(calls), err)
		}
		if c := must(w.room.Call(ctx, all[0]))(t); c.Parties[0].Person != "" || c.Parties[1].Person == "" {
			t.Errorf("after forgetting the caller the parties are %+v", c.Parties)
		}
	})
}

func TestWhoMayNotBeCalled(t *testing.T) {
	t.Parallel()
	w := open(t, program.Terms{})
	if _, err := w.room.Begin(t.Context(), w.ann, must(yesline.NewPhone("+12025550101"))(t)); !errors.Is(err, yesline.Invalid) {
		t.Errorf("a call to oneself gives %v", err)
	}
	for _, dialled := range []string{"", "+", "12a", "+1202555\r\n0102", "+1 202 555 0102", "sip:x", "+1202555010２", strings.Repeat("1", 40), "911;x=y"} {
		if _, err := w.room.Number(t.Context(), w.program, dialled); !errors.Is(err, yesline.Invalid) {
			t.Errorf("%q gives %v, want Invalid", dialled, err)
		} else if len(dialled) > 2 && strings.Contains(err.Error(), dialled) {
			t.Errorf("the error repeats what was dialled: %v", err)
		}
	}
	for _, dialled := range []string{"+12025550102", "2025550102", "12025550102", "01112025550102"} {
		if p, err := w.room.Number(t.Context(), w.program, dialled); err != nil || p.Digits() != "+12025550102" {
			t.Errorf("%s gives %v", dialled, err)
		}
	}
}

// lockContent holds the one writer of the content database for so long, as a
// busy house does.
func (s *story) lockContent(d time.Duration) <-chan error {
	done := make(chan error, 1)
	go func() {
		done <- s.Content.Transact(context.Background(), func(context.Context, *db.Tx) error {
			time.Sleep(d)
			return nil
		})
	}()
	time.Sleep(100 * time.Millisecond)
	return done
}

// A key never waits for the house, however often it is pressed: the receive
// loop brings it.
func TestKeysNeverWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, program.Terms{OneSided: true}, "US-KS", "US-ME").call()
		s.talk(s.ann, 'a', 30*time.Second)
		asked()
		s.ann.press("1")
		s.bob.press("1")
		time.Sleep(3 * time.Second)
		locked := s.lockContent(2 * time.Second)
		began := time.Now()
		for range 30 {
			s.bob.press("*9")
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("keys waited %s", took)
		}
		ok(t, <-locked)
		time.Sleep(3 * time.Second)
		s.end()
		s.records(s.ann, 8) // they are of no concern to her where each may decide alone
		if history := must(s.consent.History(t.Context(), s.live.ID))(t); len(history) != 3 {
			t.Errorf("%d answers were written down, want two yes and one stop", len(history))
		}
	})
}

// Who takes over a line has neither heard the question nor said yes.
func TestAnotherSourceTakesOver(t *testing.T) {
	t.Parallel()
	t.Run("before the answer", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := open(t, program.Terms{}).call()
			s.talk(s.ann, 'a', 30*time.Second)
			asked()
			s.ann.press("1")
			s.bob.leg.Relearn()
			s.bob.press("1") // to a question that the other heard
			time.Sleep(7 * time.Second)
			if got := s.row().State; got == capture.Bridged {
				t.Error("a 1 counts from a source that heard no question")
			}
			time.Sleep(2 * time.Second) // asked once more
			s.bob.press("1")
			time.Sleep(3 * time.Second)
			s.says(s.end(), "both", "the callee said yes")
		})
	})
	t.Run("between the yes and the bridge", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := open(t, program.Terms{}).call()
			s.talk(s.ann, 'a', 30*time.Second)
			s.talk(s.bob, 'b', 30*time.Second)
			asked()
			s.bob.press("1")
			s.bob.leg.Relearn()
			s.ann.press("1")
			time.Sleep(5 * time.Second)
			s.says(s.end(), "nobody", "another source took over the line")
			s.keepsNothing(s.ann)
			s.keepsNothing(s.bob)
		})
	})
	t.Run("while it is recorded", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := open(t, program.Terms{}).call()
			s.talk(s.ann, 'a', 30*time.Second)
			s.talk(s.bob, 'b', 30*time.Second)
			asked()
			s.ann.press("1")
			s.bob.press("1")
			time.Sleep(3*time.Second + 500*time.Millisecond)
			s.bob.leg.Relearn()
			s.bob.press("1") // no new yes in the middle of a call
			time.Sleep(5 * time.Second)
			s.says(s.end(), "both", "the callee said yes; another source took over the line")
			s.records(s.bob, 3)
			s.records(s.ann, 3) // whoever is there now said no yes
		})
	})
}

// minting lets something happen while a track is begun.
type minting struct {
	*keys.Keys
	then func(yesline.PersonID)
}

func (m minting) MintVoice(ctx context.Context, program yesline.ProgramID, person yesline.PersonID) error {
	m.then(person)
	return m.Keys.MintVoice(ctx, program, person)
}

// A withdrawal that comes when the lease was given and the track has no row
// yet: its own job finds nothing to destroy.
func TestWithdrawnWhileTheTrackIsBegun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := open(t, program.Terms{})
		var calling atomic.Pointer[story]
		var shredded []string
		w.room.Voices = minting{w.Keys, func(person yesline.PersonID) {
			if person != w.ann.Person {
				return
			}
			s := calling.Load()
			ok(t, w.consent.Answer(t.Context(), consent.Answer{Call: s.live.ID, Person: person, Leg: s.ann.leg.ID, Purpose: consent.Record,
				Evidence: consent.Evidence{Channel: "page", AtMillis: time.Now().UnixMilli()}}))
		}}
		w.room.Shred = func(_ context.Context, call yesline.CallID, person yesline.PersonID) error {
			for _, track := range calling.Load().kept() {
				shredded = append(shredded, string(track.State), string(call), string(person))
			}
			return nil
		}
		s := w.call()
		calling.Store(s)
		s.talk(s.ann, 'a', 30*time.Second)
		s.talk(s.bob, 'b', 30*time.Second)
		asked()
		s.ann.press("1")
		s.bob.press("1")
		time.Sleep(time.Second)
		row := s.end()
		if want := []string{string(vault.Closed), string(s.live.ID), string(w.ann.Person)}; !slices.Equal(shredded, want) {
			t.Errorf("destroyed are %q, want %q", shredded, want)
		}
		s.says(row, "nobody", "the caller said yes, but the rule does not allow it")
		if row.Parties[0].Track != "" {
			t.Error("the row names a track of which nothing was kept")
		}
		s.keepsNothing(s.ann)
		s.keepsNothing(s.bob)
	})
}
