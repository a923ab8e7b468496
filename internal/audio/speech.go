package audio

import "math"

// speechUnits is how much of a voice Speech judges together: a minute. Less of
// somebody who talks without a pause would pass for a hum, and in more of it a
// street that they walk into would pass for them.
const speechUnits = 60 * secondUnits

// Speech counts for how long somebody speaks in a track, by the measure of
// Voiced: so it says how much sound there is that is no steady hum, and music
// in a voice's place is speech to it. What was not received (a party on hold, a
// pause, a lost packet) is no speech, and does not count as a quiet line either,
// beside which a hum would be one. The zero value has heard nothing.
type Speech struct {
	waiting []float64 // the loudness of units that are not judged yet
	voiced  int64     // units
}

// Add hears the next second: samples of Rate, and presence as in Peaks.Add.
func (s *Speech) Add(samples []int16, present [presenceBytes]byte) {
	for unit := range secondUnits {
		from, to := unit*UnitSamples, (unit+1)*UnitSamples
		if present[unit/8]>>(unit%8)&1 == 0 || to > len(samples) {
			continue
		}
		s.waiting = append(s.waiting, math.Sqrt(Energy(samples[from:to])))
	}
	// A minute is judged when another one waits behind it, so that what is left
	// at the end is never too short to be judged.
	if len(s.waiting) >= 2*speechUnits {
		s.voiced += voicedOf(s.waiting[:speechUnits])
		s.waiting = s.waiting[:copy(s.waiting, s.waiting[speechUnits:])]
	}
}

// Millis is how long somebody spoke in what was heard so far.
func (s *Speech) Millis() int64 {
	return UnitMillis * (s.voiced + voicedOf(s.waiting))
}

func voicedOf(loudness []float64) (units int64) {
	if len(loudness) == 0 {
		return 0
	}
	threshold := voiceOver(loudness)
	for _, unit := range loudness {
		if unit >= threshold {
			units++
		}
	}
	return units
}
