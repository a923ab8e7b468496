package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	testTime = 90 * time.Second // of the tests that are to catch one mutant
	atOnce   = 2
)

// aTest is a test of a room, with the switches it reaches.
type aTest struct {
	name    string
	took    time.Duration
	reaches map[string]bool
}

// inRooms runs, for each mutant, the tests of its room that reach it.
func inRooms(ctx context.Context, o options, folder, overlay string, mutants []*mutant) error {
	byRoom := map[string][]*mutant{}
	for _, m := range mutants {
		byRoom[m.room] = append(byRoom[m.room], m)
	}
	rooms := make([]string, 0, len(byRoom))
	for room := range byRoom {
		rooms = append(rooms, room)
	}
	slices.Sort(rooms)
	for _, room := range rooms {
		began := time.Now()
		if err := inRoom(ctx, o, folder, overlay, room, byRoom[room]); err != nil {
			return fmt.Errorf("%s: %w", room, err)
		}
		caught := 0
		for _, m := range byRoom[room] {
			if m.outcome == "caught" {
				caught++
			}
		}
		fmt.Printf("%-20s %d of %d caught (%.0f s)\n", room, caught, len(byRoom[room]), time.Since(began).Seconds())
	}
	return nil
}

func inRoom(ctx context.Context, o options, folder, overlay, room string, mutants []*mutant) error {
	binary := filepath.Join(folder, strings.ReplaceAll(room, "/", "_")+".test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-overlay", overlay, "-o", binary, "./"+room)
	build.Dir = o.root
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building with the mutants: %w\n%s", err, out)
	}
	if _, err := os.Stat(binary); err != nil {
		return nil // no tests: all stay unreached
	}
	tests, err := look(ctx, o, folder, room, binary)
	if err != nil {
		return err
	}
	work := make(chan *mutant)
	var running sync.WaitGroup
	for range atOnce {
		running.Go(func() {
			for m := range work {
				m.outcome, m.by = hunt(ctx, o, room, binary, tests, m.name)
			}
		})
	}
	for _, m := range mutants {
		work <- m
	}
	close(work)
	running.Wait()
	return ctx.Err()
}

// look runs each test by itself without a mutant and notes what it reaches.
func look(ctx context.Context, o options, folder, room, binary string) ([]*aTest, error) {
	out, _, err := runTest(ctx, o, room, binary, nil, "-test.list", ".")
	if err != nil {
		return nil, err
	}
	var tests []*aTest
	for line := range strings.Lines(string(out)) {
		if name := strings.TrimSpace(line); strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz") {
			tests = append(tests, &aTest{name: name, reaches: map[string]bool{}})
		}
	}
	work := make(chan *aTest)
	errs := make(chan error, len(tests))
	var running sync.WaitGroup
	for range atOnce {
		running.Go(func() {
			for t := range work {
				trace := filepath.Join(folder, strings.ReplaceAll(room, "/", "_")+"."+t.name+".trace")
				out, took, err := runTest(ctx, o, room, binary, []string{"YESLINE_MUTANT_TRACE=" + trace}, "-test.run", "^"+t.name+"$")
				if err != nil {
					errs <- fmt.Errorf("%s fails without any mutant: %w\n%s", t.name, err, tail(out))
					continue
				}
				t.took = took
				data, _ := os.ReadFile(trace)
				for line := range strings.Lines(string(data)) {
					t.reaches[strings.TrimSuffix(line, "\n")] = true
				}
			}
		})
	}
	for _, t := range tests {
		work <- t
	}
	close(work)
	running.Wait()
	close(errs)
	for err := range errs {
		return nil, err
	}
	slices.SortFunc(tests, func(a, b *aTest) int { return cmp.Compare(a.took, b.took) })
	return tests, nil
}

var failed = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// hunt runs the tests that reach a mutant, the quick ones first.
func hunt(ctx context.Context, o options, room, binary string, tests []*aTest, name string) (outcome, by string) {
	var reaching []string
	for _, t := range tests {
		if t.reaches[name] {
			reaching = append(reaching, t.name)
		}
	}
	if len(reaching) == 0 {
		return "unreached", ""
	}
	for some := range slices.Chunk(reaching, 6) {
		out, _, err := runTest(ctx, o, room, binary, []string{"YESLINE_MUTANT=" + name}, "-test.failfast", "-test.run", "^("+strings.Join(some, "|")+")$")
		if err == nil {
			continue
		}
		by = "a test that did not end"
		if m := failed.FindSubmatch(out); m != nil {
			by = string(m[1])
		} else if bytes.Contains(out, []byte("panic:")) {
			by = "a panic in " + strings.Join(some, " or ")
		}
		return "caught", by
	}
	return "survived", ""
}

func runTest(ctx context.Context, o options, room, binary string, env []string, args ...string) (out []byte, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, testTime+10*time.Second)
	defer cancel()
	began := time.Now()
	c := exec.CommandContext(ctx, binary, append(args, "-test.timeout", testTime.String())...)
	c.Dir = filepath.Join(o.root, room)
	c.Env = append(os.Environ(), env...)
	out, err = c.CombinedOutput()
	return out, time.Since(began), err
}

func tail(out []byte) []byte { return out[max(0, len(out)-2000):] }
