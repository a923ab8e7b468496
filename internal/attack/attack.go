// Package attack is the enemy: it walks every door of a house from outside and
// tells each that lets somebody have what is not theirs. It knows the committed
// list of doors and who may do what by the story of a made-up house, and
// nothing of how the house decides.
package attack

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"yesline"
)

// Config says what is attacked and with what.
type Config struct {
	URL        string        // "http://localhost:8080": the house as its people reach it
	Identities []byte        // the file of identities; see File
	Log        string        // the server's log, to be searched for secrets; "" for none
	Only       []string      // patterns of doors, as "GET /calls/{call}" or "POST /calls/*"; none: all
	Limit      time.Duration // when the attack gives up; 0 takes 3 minutes
	Progress   io.Writer     // nil for none

	part string // one family only, beside the look at the owners' pages; "": all
}

const (
	atOnce     = 6       // requests under way
	answerSize = 4 << 20 // bytes read of an answer
	mostLeaks  = 500     // told; further ones are counted
)

// assault is one attack under way.
type assault struct {
	base     *url.URL
	file     *File
	doors    []Door   // those to attack
	all      []Door   // the whole table: what the house has
	problem  []string // pointers that a refusal of the API may have
	narrow   bool     // only some doors were asked for
	client   *http.Client
	marker   string // stands in what we send and must not come back
	hash     string // the assets' folder
	progress io.Writer
	log      string

	known   map[string][]string        // ids by prefix, all that the story made
	idents  map[string]map[string]bool // what each identity may see
	numbers []needle
	nothing answer // what an absent page answers to nobody
	tries   atomic.Int64
	braked  atomic.Int64 // tries that the house answered with "later"

	mu      sync.Mutex
	leaks   []Leak
	told    map[string]int // leak by what it is, to tell it once
	more    int
	reached map[string]bool   // doors that somebody with a right got through
	missed  map[string]string // what was not reached, and why
	jars    map[string][]crumb
}

// Run attacks a house. The error says why it could not; what it found is in
// the report. It refuses identities that are not marked as canaries: an attack
// changes what it touches.
func Run(ctx context.Context, c Config) (Report, error) {
	all, err := Doors()
	if err != nil {
		return Report{}, err
	}
	return run(ctx, c, all)
}

func run(ctx context.Context, c Config, all Table) (Report, error) {
	a, err := prepare(c, all)
	if err != nil {
		return Report{}, err
	}
	limit := c.Limit
	if limit == 0 {
		limit = 3 * time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer a.client.CloseIdleConnections()
	began := time.Now()
	if err := a.begin(ctx); err != nil {
		return Report{}, err
	}
	for _, f := range a.families() {
		if ctx.Err() != nil {
			break
		}
		if c.part != "" && f.name != "look" && f.name != c.part {
			continue
		}
		from, braked, at := a.tries.Load(), a.braked.Load(), time.Now()
		f.run(ctx)
		fmt.Fprintf(a.progress, "%-11s %6d tries %4d braked  %5.1fs  %s\n", f.name, a.tries.Load()-from, a.braked.Load()-braked, time.Since(at).Seconds(), f.says)
	}
	r := a.report(began)
	if err := ctx.Err(); err != nil {
		return r, fmt.Errorf("attacking, after %d tries: %w", r.Tries, err)
	}
	return r, nil
}

// family is one kind of attack.
type family struct {
	name, says string
	run        func(context.Context)
}

// families are in the order of the damage they do to the house's state: first
// what must change nothing, then proof that it did not, then the clock, then
// rightful acts, then what gets us locked out.
func (a *assault) families() []family {
	before := map[string]string{}
	list := []family{
		{"look", "the owners' pages before", func(ctx context.Context) { before = a.prints(ctx) }},
		{"doors", "every door, as everybody, with ids that are foreign, absent and malformed", a.walk},
		{"identities", "sessions and keys that are dead, forged, swapped", a.forge},
		{"tickets", "tickets that are tampered with, moved, dead, of somebody else", a.tickets},
		{"paths", "other spellings of the same door", a.paths},
		{"bodies", "verbs, content types, sizes, fields that are not ours to set", a.bodies},
		{"crossing", "other sites, other hosts, other headers", a.crossing},
		{"inside", "what is named inside of what is sent, and is somebody else's", a.nameOthers},
		{"numbers", "whether a number is somebody's here", a.askNumbers},
		{"faults", "what the app that failed let everybody do", a.faults},
		{"unchanged", "the owners' pages after", func(ctx context.Context) { a.unchanged(ctx, before) }},
		{"timing", "absent against forbidden, by the clock", a.timing},
		{"control", "the rightful do get through", a.control},
		{"recall", "what was shared and is not any more; what was ended", a.recall},
		{"guessing", "codes and links guessed until the house says no", a.guess},
		{"secrets", "the server's log", a.searchLog},
	}
	return list
}

func prepare(c Config, all Table) (*assault, error) {
	base, err := url.Parse(c.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || strings.Trim(base.Path, "/") != "" {
		return nil, fmt.Errorf("the address of a house, like http://localhost:8080: %w", yesline.Invalid)
	}
	file, err := ReadFile(c.Identities)
	if err != nil {
		return nil, err
	}
	a := &assault{base: &url.URL{Scheme: base.Scheme, Host: base.Host}, file: file, all: all.Doors, doors: all.Doors, problem: all.Problem, narrow: len(c.Only) > 0,
		marker: "enemy" + strings.TrimPrefix(string(yesline.NewEntryID()), "ent_")[:12], progress: c.Progress, log: c.Log,
		told: map[string]int{}, reached: map[string]bool{}, missed: map[string]string{}, jars: map[string][]crumb{}}
	if a.narrow {
		a.doors = slices.DeleteFunc(slices.Clone(all.Doors), func(d Door) bool { return !d.matches(c.Only) })
		if len(a.doors) == 0 {
			return nil, fmt.Errorf("there is no door of that name: %w", yesline.Invalid)
		}
	}
	if a.progress == nil {
		a.progress = io.Discard
	}
	if a.log != "" {
		if _, err := os.Stat(a.log); err != nil {
			return nil, fmt.Errorf("looking for the server's log: %w", err)
		}
	}
	a.client = &http.Client{
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{MaxIdleConnsPerHost: 2 * atOnce, MaxConnsPerHost: 4 * atOnce, DisableCompression: true, Proxy: nil},
	}
	a.known, a.idents = file.ids()
	a.numbers = file.needles()
	return a, nil
}

// begin looks whether the house is there, and learns what its front tells
// everybody: where its styles are, and what nothing looks like.
func (a *assault) begin(ctx context.Context) error {
	front, err := a.send(ctx, try{family: "begin", method: "GET", path: "/in"})
	if err != nil {
		return fmt.Errorf("asking the house for its sign-in page: %w", err)
	}
	if _, rest, ok := strings.Cut(string(front.body), "/a/"); ok {
		a.hash, _, _ = strings.Cut(rest, "/")
	}
	a.nothing, err = a.send(ctx, try{family: "begin", method: "GET", path: "/" + absentID("cal")})
	if err == nil && a.nothing.status != http.StatusNotFound {
		a.leak(try{family: "doors", method: "GET", path: "/" + absentID("cal")}, a.nothing, "what is not there does not answer 404")
	}
	return err
}

// inParallel works off items with few workers, until ctx ends.
func inParallel[T any](ctx context.Context, items []T, work func(T)) {
	var running sync.WaitGroup
	next := make(chan T)
	for range min(atOnce, len(items)) {
		running.Go(func() {
			for item := range next {
				work(item)
			}
		})
	}
	for _, item := range items {
		if ctx.Err() != nil {
			break
		}
		next <- item
	}
	close(next)
	running.Wait()
}
