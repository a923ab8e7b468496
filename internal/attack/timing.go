package attack

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"
)

// The seventh family: what is there and not theirs must take as long as what
// is nowhere. The two are asked in turns. A door leaks when in every round the
// ranks of the two differ by more than that round's bound (Mann-Whitney; in the
// last ones surely more than chance: one in 150,000) and their medians by more
// than 200 us and a tenth. A door that looks even in a round is done: most are
// after the first, which is short and so easily made suspicious.
const (
	surely     = 4.5 // standard deviations
	leastShift = 200 * time.Microsecond
	leastPart  = 0.1
)

var rounds = []struct {
	each  int // tries of each of the two
	bound float64
}{{6, 1}, {12, 2}, {60, surely}, {60, surely}, {60, surely}}

func (a *assault) timing(ctx context.Context) {
	for _, d := range a.doors {
		if !d.guarded() || !d.named() || ctx.Err() != nil {
			continue
		}
		who, id, ok := a.outsider(d)
		if !ok {
			continue
		}
		a.clock(ctx, d, who, id)
	}
}

// outsider is somebody signed in who has no right to an object that is there.
func (a *assault) outsider(d Door) (Identity, string, bool) {
	for _, who := range a.file.Identities {
		if !who.can(d) {
			continue
		}
		if foreign := a.foreign(d, who); len(foreign) > 0 {
			return who, foreign[0], true
		}
	}
	return Identity{}, "", false
}

func (a *assault) clock(ctx context.Context, d Door, who Identity, id string) {
	t := a.ask("timing", d, who, id)
	var shift time.Duration
	for _, round := range rounds {
		there, absent, ok := a.sample(ctx, d, who, id, round.each)
		if !ok {
			return
		}
		shift = median(there) - median(absent)
		least := max(leastShift, time.Duration(float64(median(absent))*leastPart))
		if math.Abs(mannWhitney(there, absent)) < round.bound || shift.Abs() < least {
			return
		}
	}
	a.leak(t, answer{}, fmt.Sprintf("what is there takes %d us longer than what is not", shift.Microseconds()))
}

// sample takes n times of each, in turns that change who is first.
func (a *assault) sample(ctx context.Context, d Door, who Identity, id string, n int) (there, absent []time.Duration, ok bool) {
	one := func(id string) (time.Duration, bool) {
		got, err := a.send(ctx, a.ask("timing", d, who, id))
		return got.took, err == nil && got.status != http.StatusTooManyRequests
	}
	for i := range n + 1 {
		first, second := id, absentID(d.prefixOf())
		if i%2 == 1 {
			first, second = second, first
		}
		x, ok1 := one(first)
		y, ok2 := one(second)
		if !ok1 || !ok2 {
			return nil, nil, false
		}
		if i%2 == 1 {
			x, y = y, x
		}
		if i > 0 { // the first warm up
			there, absent = append(there, x), append(absent, y)
		}
	}
	return there, absent, true
}

func median(d []time.Duration) time.Duration {
	d = slices.Clone(d)
	slices.Sort(d)
	return d[len(d)/2]
}

// mannWhitney gives how many standard deviations the ranks of x lie from what
// chance would give them among x and y.
func mannWhitney(x, y []time.Duration) float64 {
	type ranked struct {
		at  time.Duration
		inX bool
	}
	var all []ranked
	for _, v := range x {
		all = append(all, ranked{v, true})
	}
	for _, v := range y {
		all = append(all, ranked{v, false})
	}
	slices.SortFunc(all, func(p, q ranked) int { return int(p.at - q.at) })
	sum := 0.0
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j].at == all[i].at {
			j++
		}
		for k := i; k < j; k++ {
			if all[k].inX {
				sum += float64(i+j+1) / 2 // the mean rank of those alike
			}
		}
		i = j
	}
	n, m := float64(len(x)), float64(len(y))
	u := sum - n*(n+1)/2
	return (u - n*m/2) / math.Sqrt(n*m*(n+m+1)/12)
}
