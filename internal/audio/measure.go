package audio

import (
	"math"
	"math/bits"
	"math/cmplx"
	"slices"
)

// edge is how long a tone takes to rise and to fall, so that it does not click.
const edge = Rate * 5 / 1000

// Tone gives a sine of so many milliseconds with soft edges of 5 ms. The
// amplitude is that of a sample, at most 32767; a frequency beyond half the
// rate, or a length or amplitude that is not positive, gives nothing.
func Tone(freqHz float64, ms int, amplitude float64) []int16 {
	if ms <= 0 || amplitude <= 0 || freqHz <= 0 || freqHz > Rate/2 {
		return nil
	}
	amplitude = min(amplitude, math.MaxInt16)
	samples := make([]int16, ms*Rate/1000)
	for i := range samples {
		fromEdge := min(i, len(samples)-1-i)
		gain := 1.0
		if fromEdge < edge {
			gain = (1 - math.Cos(math.Pi*float64(fromEdge)/edge)) / 2
		}
		samples[i] = int16(math.Round(gain * amplitude * math.Sin(2*math.Pi*freqHz*float64(i)/Rate)))
	}
	return samples
}

// Energy is the mean square of the samples: a sine of amplitude A has A²/2.
func Energy(samples []int16) float64 {
	if len(samples) == 0 {
		return 0
	}
	sum := 0.0
	for _, s := range samples {
		sum += float64(s) * float64(s)
	}
	return sum / float64(len(samples))
}

// Power is what one frequency gives to the Energy of the samples, by Goertzel's
// recurrence: a sine of amplitude A at freqHz has A²/2. Power / Energy is near
// 1 for that tone alone and near 0 where it is missing. The longer the samples
// the narrower it hears: 10 Hz for 100 ms.
func Power(samples []int16, freqHz float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	turn := 2 * math.Cos(2*math.Pi*freqHz/Rate)
	var last, before float64
	for _, s := range samples {
		last, before = float64(s)+turn*last-before, last
	}
	magnitude := max(0, last*last+before*before-turn*last*before)
	n := float64(len(samples))
	return 2 * magnitude / (n * n)
}

// correlated is how much of each side Correlate looks at: a minute.
const correlated = 60 * Rate

// Correlate says how much of the one sound is in the other, from 0 (nothing)
// to 1 (the same, whatever its loudness), and by how many samples a is later
// than b where they fit best. It looks at the first minute of each, tries each
// lag of at most maxLag samples either way, and only where they overlap by at
// least half of the shorter one: so the value is of what both hold.
func Correlate(a, b []int16, maxLag int) (best float64, lag int) {
	a, b = a[:min(len(a), correlated)], b[:min(len(b), correlated)]
	shorter := min(len(a), len(b))
	if shorter == 0 {
		return 0, 0
	}
	products := crossProducts(a, b)
	energyA, energyB := runningEnergy(a), runningEnergy(b)
	for d := max(-maxLag, -len(b)); d <= min(maxLag, len(a)); d++ {
		// a[i+d] lies over b[i] for i in [from, to)
		from, to := max(0, -d), min(len(b), len(a)-d)
		if to-from < (shorter+1)/2 {
			continue
		}
		energy := (energyA[to+d] - energyA[from+d]) * (energyB[to] - energyB[from])
		if energy <= 0 {
			continue
		}
		here := math.Abs(products[(d+len(products))%len(products)]) / math.Sqrt(energy)
		if here > best {
			best, lag = here, d
		}
	}
	return min(best, 1), lag
}

// crossProducts gives the sum of a[i+d]*b[i] at index d (negative d count from
// the end), for all d at once by Fourier's transform.
func crossProducts(a, b []int16) []float64 {
	size := 1 << bits.Len(uint(len(a)+len(b)))
	one, other := make([]complex128, size), make([]complex128, size)
	for i, s := range a {
		one[i] = complex(float64(s), 0)
	}
	for i, s := range b {
		other[i] = complex(float64(s), 0)
	}
	transform(one)
	transform(other)
	for i := range one {
		// The transform of the conjugate is the inverse up to conjugate and size.
		one[i] = cmplx.Conj(one[i]) * other[i]
	}
	transform(one)
	products := make([]float64, size)
	for i, v := range one {
		products[i] = real(v) / float64(size)
	}
	return products
}

// transform is the fast Fourier transform in place; len(x) is a power of two.
func transform(x []complex128) {
	shift := 64 - bits.TrailingZeros(uint(len(x)))
	for i := range x {
		if j := int(bits.Reverse64(uint64(i)) >> shift); i < j {
			x[i], x[j] = x[j], x[i]
		}
	}
	turns := make([]complex128, len(x)/2)
	for i := range turns {
		turns[i] = cmplx.Rect(1, -2*math.Pi*float64(i)/float64(len(x)))
	}
	for half := 1; half < len(x); half *= 2 {
		stride := len(x) / (2 * half)
		for start := 0; start < len(x); start += 2 * half {
			for i := range half {
				u, v := x[start+i], x[start+half+i]*turns[i*stride]
				x[start+i], x[start+half+i] = u+v, u-v
			}
		}
	}
}

// runningEnergy gives at i the sum of the squares of the first i samples.
func runningEnergy(samples []int16) []float64 {
	sums := make([]float64, len(samples)+1)
	for i, s := range samples {
		sums[i+1] = sums[i] + float64(s)*float64(s)
	}
	return sums
}

// A unit of Voiced, and of a track's presence map, is 10 ms.
const (
	UnitMillis  = 10
	UnitSamples = Rate * UnitMillis / 1000
)

// Voiced tells for each whole 10 ms whether somebody speaks there. It compares
// the unit's loudness with the quietest tenth of all it was given, so a steady
// hum is not speech; give it seconds at a time. It is a plain measure of
// energy: music is speech to it.
func Voiced(samples []int16) []bool {
	loudness := make([]float64, len(samples)/UnitSamples)
	for i := range loudness {
		loudness[i] = math.Sqrt(Energy(samples[i*UnitSamples : (i+1)*UnitSamples]))
	}
	if len(loudness) == 0 {
		return nil
	}
	threshold := voiceOver(loudness)
	voiced := make([]bool, len(loudness))
	for i, unit := range loudness {
		voiced[i] = unit >= threshold
	}
	return voiced
}

// voiceOver is how loud one of these units must be to be speech.
func voiceOver(loudness []float64) float64 {
	const quiet, loud = 150.0, 2000.0 // of the mean amplitude; at loud, no hum excuses it
	sorted := slices.Sorted(slices.Values(loudness))
	floor := sorted[len(sorted)/10]
	return min(max(quiet, 2.5*floor), loud)
}
