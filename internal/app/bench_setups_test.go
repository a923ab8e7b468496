//go:build linux

package app_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// measureSetups prints what a call costs besides its sound.
func measureSetups(t *testing.T) {
	measureSignalling(t)
	measureWhole(t)
}

// measureSignalling makes emergency calls: digest, both sides of the call, and
// its end, and none of the house's other rooms.
func measureSignalling(t *testing.T) {
	t.Run("signalling", func(t *testing.T) {
		rate, seconds := setting("BENCH_SETUPS", 400), setting("BENCH_SECONDS", 10)
		l := openLine(t, 400, true, suite{})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		var failed atomic.Int64
		var waits []time.Duration
		var mu sync.Mutex
		var all sync.WaitGroup
		calls := rate * seconds
		cpu, mine, others, began := cpuOf(l.pid()), cpuOf(os.Getpid()), busy(), time.Now()
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for i := range calls {
			<-tick.C
			all.Go(func() {
				start := time.Now()
				d, _, err := l.handsets[i%handsets].dial(ctx, l.house, l.server.offer.Callers[i%400], urgent, describe(l.load.legs[0].addr, ""))
				took := time.Since(start)
				if err == nil {
					time.Sleep(300 * time.Millisecond) // the far end picks up
					err = d.hangUp(ctx)
				}
				mu.Lock()
				defer mu.Unlock()
				waits = append(waits, took)
				if err != nil && failed.Add(1) <= 3 {
					fmt.Println("  a call failed:", err)
				}
			})
		}
		all.Wait()
		took := time.Since(began)
		time.Sleep(time.Second)
		used := cpuOf(l.pid()) - cpu
		strangers := max(0, busy()-others-used-(cpuOf(os.Getpid())-mine))
		each := perCall(used, calls)
		fmt.Printf("\n%-26s %6d calls at %.0f a second: %.2f ms each, %.0f set-ups a core and second (bar: 1000), %d failed, %d answered by the far end; picked up after %.1f ms at the median, %.1f at 99 %%; others %.2f\n",
			"signalling", calls, float64(calls)/took.Seconds(), each, 1000/each, failed.Load(), l.far.Answered.Load(),
			percentile([][]time.Duration{waits}, 0.5), percentile([][]time.Duration{waits}, 0.99), float64(strangers)/float64(took))
		if failed.Load() > 0 || l.far.Answered.Load() != int64(calls) {
			t.Errorf("%d of %d calls failed, the far end answered %d", failed.Load(), calls, l.far.Answered.Load())
		}
	})
}

// measureWhole makes ordinary calls with prompts of a fifth of a second: both
// are asked, both agree, keys are minted, two tracks begin and are finished.
func measureWhole(t *testing.T) {
	t.Run("whole", func(t *testing.T) {
		const calls = 400
		l := openLine(t, calls, true, suite{})
		profile := os.Getenv("YESLINE_BENCH_PROFILE")
		if profile != "" {
			l.server.tell(t, "profile "+profile+".whole")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		cpu, mine, others, began := cpuOf(l.pid()), cpuOf(os.Getpid()), busy(), time.Now()
		var failed atomic.Int64
		var all sync.WaitGroup
		tick := time.NewTicker(time.Second / time.Duration(setting("BENCH_RAMP", 40)))
		defer tick.Stop()
		for i := range calls {
			<-tick.C
			all.Go(func() {
				if err := l.whole(ctx, i); err != nil && failed.Add(1) <= 3 {
					fmt.Println("  a call failed:", err)
				}
			})
		}
		all.Wait()
		is := l.settled(2*(calls-int(failed.Load())), time.Second)
		took, used := time.Since(began), cpuOf(l.pid())-cpu
		if profile != "" {
			l.server.tell(t, "profiled")
		}
		strangers := max(0, busy()-others-used-(cpuOf(os.Getpid())-mine))
		fmt.Printf("%-26s %6d calls in %.0f s: %.1f ms each, from ring to the end of the last job; %d failed, %d tracks finished; others %.2f\n",
			"a whole call", calls, took.Seconds(), perCall(used, calls), failed.Load(), is.Finished, float64(strangers)/float64(took))
		if failed.Load() > 0 || is.Finished != 2*calls {
			t.Errorf("%d of %d calls failed, %d tracks were finished", failed.Load(), calls, is.Finished)
		}
	})
}

// whole makes call i, waits until the two hear each other for two seconds, and
// ends it.
func (l *line) whole(ctx context.Context, i int) error {
	if err := l.up(ctx, i); err != nil {
		return err
	}
	defer l.down(ctx, i)
	for range 300 {
		hear := false
		l.load.do(func() { g := l.load.legs[2*i]; hear = g.Bridged && g.other.Bridged })
		if hear {
			time.Sleep(2 * time.Second)
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("the two never heard each other")
}

// soak holds calls for a long time, ends one every second and makes it anew,
// and tells each minute what was lost and what the house holds.
func soak(t *testing.T) {
	span, err := time.ParseDuration(os.Getenv("SOAK"))
	if err != nil {
		span = 30 * time.Minute
	}
	calls, between := setting("SOAK_CALLS", 875), time.Minute
	if span < 4*between {
		between = span / 4
	}
	t.Run("soak", func(t *testing.T) {
		var with suite
		if os.Getenv("SOAK_SRTP") == "yes" {
			with = suites[0]
		}
		l := openLine(t, calls, false, with)
		fmt.Printf("\n%d calls for %s; one every second is ended and made anew\n", calls, span)
		f := measure(t, "soak", l, l.load, calls, 5*time.Second, nil)
		title()
		f.print("at the beginning")
		fmt.Printf("%8s %9s %6s %7s %7s %7s %9s %9s %7s %6s %7s %7s\n", "after", "spoken", "lost", "p50ms", "p99ms", "worst", "RSS MiB", "heap MiB", "routines", "files", "cores", "others")
		ended := make(chan struct{})
		stop, cancel := context.WithCancel(t.Context())
		go func() {
			defer close(ended)
			l.renew(stop, calls)
		}()
		lost := int64(0)
		began := time.Now()
		for time.Since(began) < span {
			l.load.open()
			cpu, mine, all, from := cpuOf(l.pid()), cpuOf(os.Getpid()), busy(), time.Now()
			time.Sleep(min(between, span-time.Since(began)))
			l.load.shut()
			used, took := cpuOf(l.pid())-cpu, time.Since(from)
			strangers := max(0, busy()-all-used-(cpuOf(os.Getpid())-mine))
			time.Sleep(500 * time.Millisecond)
			c, how := l.load.result(), l.server.tell(t, "how")
			lost += c.Lost
			fmt.Printf("%8s %9d %6d %7.1f %7.1f %7.1f %9d %9d %7d %6d %7.2f %7.2f\n", time.Since(began).Round(time.Second), c.Sent, c.Lost,
				float64(c.Median.Microseconds())/1000, float64(c.P99.Microseconds())/1000, float64(c.Worst.Microseconds())/1000,
				memoryOf(l.pid())>>10, how.Heap>>20, how.Goroutines, filesOf(l.pid()), float64(used)/float64(took), float64(strangers)/float64(took))
		}
		cancel()
		<-ended
		fall(t, l, calls)
		time.Sleep(5 * time.Second)
		how := l.server.tell(t, "how")
		fmt.Printf("after the last call: %d calls, %d goroutines, %d files, RSS %d MiB; %d packets lost\n", how.Calls, how.Goroutines, filesOf(l.pid()), memoryOf(l.pid())>>10, lost)
		if lost > 0 || how.Calls > 0 {
			t.Errorf("%d packets were lost, %d calls are left", lost, how.Calls)
		}
	})
}

// renew ends one call a second and makes it anew.
func (l *line) renew(ctx context.Context, calls int) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for i := 0; ; i = (i + 1) % calls {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		within, cancel := context.WithTimeout(ctx, 20*time.Second)
		l.down(within, i)
		time.Sleep(100 * time.Millisecond)
		if err := l.up(within, i); err != nil && ctx.Err() == nil {
			fmt.Println("  a call was not made anew:", err)
		}
		cancel()
	}
}
