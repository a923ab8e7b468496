package app_test

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"yesline/internal/audio"
	"yesline/internal/program"
)

// While somebody's answer is waited for, they do not hear the other: the tones
// of a key that the other plays into the call come back as an echo, and a
// gateway on the way takes an echo for their own key.
func TestNobodysTonesReachAPendingAnswer(t *testing.T) {
	t.Parallel()
	h := newHome(t, filepath.Join(t.TempDir(), "data"))
	h.brief()
	if err := h.Programs.SetAsk(t.Context(), h.program, "op:test", program.AskDuring); err != nil {
		t.Fatal(err)
	}
	k := h.connect()
	k.bridged()
	if err := k.ends[0].Press(patient(t), "*8"); err != nil {
		t.Fatal(err)
	}
	k.hear("asking_during")
	hears(t, k.ends[1], "ask")
	time.Sleep(300 * time.Millisecond)
	one, high := audio.Tone(697, 2000, 9000), audio.Tone(1209, 2000, 9000) // the key 1
	for i := range one {
		one[i] += high[i]
	}
	tones := audio.PCMU.Encode(nil, one)
	if err := k.ends[0].Say(tones); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2500 * time.Millisecond)
	if bytes.Contains(k.ends[1].Heard(), tones[8000:8160]) {
		t.Error("the tones of a 1 reach the other party's line while its answer is waited for")
	}
	k.hangUp()
}
