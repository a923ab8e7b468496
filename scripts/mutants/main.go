// Command mutants breaks each guard of the house, one at a time, and tells
// which of them nobody misses: `make mutants`.
//
// The faults are planted in copies of the files, which go build takes instead
// of the real ones (-overlay): the product has no hooks. All faults of a
// package are built at once, each behind a switch that is read from a file, so
// that a fault costs a run of the tests that reach it and not a build. A fault
// is caught by a test of its room, or by the attack on a demo house.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	flag.StringVar(&o.only, "only", "", "regular expression: only mutants whose name matches")
	flag.IntVar(&o.sample, "sample", 0, "only every n-th mutant of those that remain")
	flag.BoolVar(&o.list, "list", false, "name the mutants and do nothing")
	flag.BoolVar(&o.noDoors, "no-doors", false, "leave out those that need the demo and the attack")
	flag.BoolVar(&o.noRooms, "no-rooms", false, "leave out those that tests of rooms catch")
	flag.BoolVar(&o.verbose, "v", false, "tell by what each was caught")
	flag.Parse()
	caught, all, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
	if caught < all {
		os.Exit(3)
	}
}

type options struct {
	only, root       string
	sample           int
	list, verbose    bool
	noDoors, noRooms bool
}

// mutant is one fault. Its name says where and what, without a line number, so
// that it stays the same when lines move.
type mutant struct {
	name    string
	room    string // "internal/access": whose tests are to catch it; "" when the attack is
	doors   string // for the attack: which doors it concerns
	edits   []edit
	hidden  bool   // no fault, but needed by others
	by      string // what caught it
	outcome string // caught, survived, unreached
}

func run(ctx context.Context, o options) (caught, all int, err error) {
	began := time.Now()
	if o.root, err = os.Getwd(); err != nil {
		return 0, 0, err
	}
	if _, err := os.Stat(filepath.Join(o.root, "go.mod")); err != nil {
		return 0, 0, errors.New("run it from the top of the repository: go run ./scripts/mutants")
	}
	every, err := collect(o.root)
	if err != nil {
		return 0, 0, err
	}
	chosen, err := choose(every, o)
	if err != nil {
		return 0, 0, err
	}
	if o.list {
		for _, m := range chosen {
			fmt.Println(m.name)
		}
		return 0, 0, nil
	}
	folder, err := os.MkdirTemp("", "yesline-mutants-")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(folder)
	overlay, err := plant(o.root, folder, every)
	if err != nil {
		return 0, 0, err
	}
	var rooms, doors []*mutant
	for _, m := range chosen {
		if m.room == "" {
			doors = append(doors, m)
		} else {
			rooms = append(rooms, m)
		}
	}
	if len(doors) > 0 {
		if err := atDoors(ctx, o, folder, overlay, doors); err != nil {
			return 0, 0, err
		}
		// Behind some doors the room has a lock of its own, which holds. That the
		// door asks at all, the tests of web are to see.
		for _, m := range doors {
			if m.outcome == "survived" {
				m.room = "internal/web"
				rooms = append(rooms, m)
			}
		}
	}
	if len(rooms) > 0 {
		if err := inRooms(ctx, o, folder, overlay, rooms); err != nil {
			return 0, 0, err
		}
	}
	return tell(chosen, o, began)
}

func choose(every []*mutant, o options) ([]*mutant, error) {
	only, err := regexp.Compile(o.only)
	if err != nil {
		return nil, err
	}
	var chosen []*mutant
	for _, m := range every {
		if !m.hidden && only.MatchString(m.name) && !(o.noDoors && m.room == "") && !(o.noRooms && m.room != "") {
			chosen = append(chosen, m)
		}
	}
	if o.sample > 1 {
		var some []*mutant
		for i := 0; i < len(chosen); i += o.sample {
			some = append(some, chosen[i])
		}
		chosen = some
	}
	return chosen, nil
}

func tell(chosen []*mutant, o options, began time.Time) (caught, all int, err error) {
	var left []string
	for _, m := range chosen {
		if m.outcome == "caught" {
			caught++
			if o.verbose {
				fmt.Printf("caught    %s (by %s)\n", m.name, m.by)
			}
			continue
		}
		left = append(left, fmt.Sprintf("%-9s %s", m.outcome, m.name))
	}
	slices.Sort(left)
	fmt.Println(strings.Join(left, "\n"))
	fmt.Printf("\n%d of %d caught (%.0f s)\n", caught, len(chosen), time.Since(began).Seconds())
	return caught, len(chosen), nil
}
