package audio

import (
	"slices"
	"testing"
)

// heard is what Speech makes of these seconds; nothing is received of a nil one.
func heard(seconds ...[]int16) int64 {
	var s Speech
	for _, second := range seconds {
		var present [presenceBytes]byte
		for unit := range secondUnits {
			if second != nil {
				present[unit/8] |= 1 << (unit % 8)
			}
		}
		s.Add(second, present)
	}
	s.Millis() // asking changes nothing
	return s.Millis()
}

func TestSpeech(t *testing.T) {
	t.Parallel()
	silence, word := make([]int16, Rate), Tone(300, 1000, 1500)
	half := slices.Concat(Tone(300, 500, 5000), silence[:Rate/2])
	hum := Tone(100, 2000, 900)[Rate/2 : Rate/2+Rate]
	many := func(n int, of ...[]int16) [][]int16 { return slices.Repeat(of, n) }
	for name, c := range map[string]struct {
		seconds  [][]int16
		from, to int64
	}{
		"nothing":                           {nil, 0, 0},
		"nothing received":                  {many(200, nil), 0, 0},
		"silence":                           {many(200, silence), 0, 0},
		"a hum":                             {many(200, hum), 0, 0},
		"a hum, half of it on hold":         {many(100, hum, nil), 0, 0},
		"half of each second":               {many(190, half), 190 * 480, 190 * 500},
		"half of each second, some on hold": {many(60, half, nil, half), 120 * 480, 120 * 500},
		"a street after a quiet room":       {append(many(180, silence), many(180, hum)...), 0, 0},
		"a word at the very end":            {append(many(60, word, silence), word), 61 * 990, 61 * 1000},
	} {
		if got := heard(c.seconds...); got < c.from || got > c.to {
			t.Errorf("%s: %d ms are speech, want %d to %d", name, got, c.from, c.to)
		}
	}
	var unreceived, short Speech
	unreceived.Add(half, [presenceBytes]byte{})
	short.Add(half[:Rate/2+7:Rate/2+7], [presenceBytes]byte{0: 0xff, 6: 0xff, 12: 0x0f})
	if got, cut := unreceived.Millis(), short.Millis(); got != 0 || cut != 100 {
		t.Errorf("%d ms where nothing was received, and %d of 100 where a second is cut short", got, cut)
	}
}
