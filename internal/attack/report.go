package attack

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Leak is something that the house let out, or let happen.
type Leak struct {
	Family string `json:"family"`
	Door   string `json:"door"`
	As     string `json:"as"`
	What   string `json:"what"`
	Status int    `json:"status"`
	Repeat string `json:"repeat"` // a command line; sessions and keys stand in it by name
	Times  int    `json:"times"`
}

// Missed is a door through which nobody with a right got, or a part of the
// attack that could not be tried.
type Missed struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// Report is what came of an attack. It holds no secret, so it may be published.
type Report struct {
	URL      string   `json:"url"`
	Doors    int      `json:"doors"`
	Reached  int      `json:"reached"`
	Missed   []Missed `json:"not_reached"`
	Tries    int64    `json:"tries"`
	Braked   int64    `json:"braked"` // tries that were answered with "later"
	Leaks    []Leak   `json:"leaks"`
	Untold   int      `json:"untold_leaks"`
	Seconds  float64  `json:"seconds"`
	Searched bool     `json:"log_searched"`
}

// leak tells of a leak; the same one at many ids is told once and counted.
func (a *assault) leak(t try, got answer, what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	as := cmp.Or(t.who.Name, nobody.Name)
	key := strings.Join([]string{t.family, t.door.String(), as, what}, "|")
	if i, told := a.told[key]; told {
		a.leaks[i].Times++
		return
	}
	if len(a.leaks) == mostLeaks {
		a.more++
		return
	}
	a.told[key] = len(a.leaks)
	a.leaks = append(a.leaks, Leak{Family: t.family, Door: cmp.Or(t.door.String(), t.method+" "+brief(t.path)), As: as, What: what,
		Status: got.status, Repeat: a.repeat(t), Times: 1})
}

// miss tells what could not be reached, and why.
func (a *assault) miss(what, why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.missed[what] = why
}

func (a *assault) reach(d Door) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reached[d.String()] = true
}

func (a *assault) report(began time.Time) Report {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := Report{URL: a.base.String(), Doors: len(a.doors), Tries: a.tries.Load(), Braked: a.braked.Load(), Leaks: a.leaks, Untold: a.more,
		Seconds: time.Since(began).Seconds(), Searched: a.log != "", Missed: []Missed{}}
	if r.Leaks == nil {
		r.Leaks = []Leak{}
	}
	for _, d := range a.doors {
		if a.reached[d.String()] {
			r.Reached++
		} else if a.missed[d.String()] == "" {
			a.missed[d.String()] = "nobody with a right to it was sent there"
		}
	}
	for _, what := range slices.Sorted(maps.Keys(a.missed)) {
		if !a.reached[what] {
			r.Missed = append(r.Missed, Missed{what, a.missed[what]})
		}
	}
	return r
}

// Write prints the report for people: a line a leak, with the way to repeat it.
func (r Report) Write(w io.Writer) error {
	var out strings.Builder
	for _, l := range r.Leaks {
		fmt.Fprintf(&out, "LEAK  %s: %s, as %s: %s (answer %d, %d times)\n      %s\n", l.Family, l.Door, l.As, l.What, l.Status, l.Times, l.Repeat)
	}
	if r.Untold > 0 {
		fmt.Fprintf(&out, "and %d leaks more\n", r.Untold)
	}
	for _, m := range r.Missed {
		fmt.Fprintf(&out, "NOT REACHED  %s: %s\n", m.What, m.Why)
	}
	fmt.Fprintf(&out, "doors %d, reached %d, tries %d, leaks %d, not reached %d (%.0f s)\n",
		r.Doors, r.Reached, r.Tries, len(r.Leaks)+r.Untold, len(r.Missed), r.Seconds)
	_, err := io.WriteString(w, out.String())
	return err
}

// repeat is a command line that makes the try again.
func (a *assault) repeat(t try) string {
	line := []string{"curl -i --path-as-is"}
	if t.method != "GET" {
		line = append(line, "-X "+t.method)
	}
	if t.who.Cookie != "" {
		line = append(line, fmt.Sprintf("-b %q", a.cookieName()+"=$COOKIE_"+shellName(t.who.Name)))
	}
	if t.who.Key != "" {
		line = append(line, fmt.Sprintf("-H %q", "Authorization: Bearer $KEY_"+shellName(t.who.Name)))
	}
	if t.host != "" {
		line = append(line, quoted("-H", "Host: "+t.host))
	}
	for _, name := range slices.Sorted(maps.Keys(t.header)) {
		value := t.header.Get(name)
		if name == "Cookie" || name == "Authorization" {
			value = "..." // a secret of the house
		}
		line = append(line, quoted("-H", name+": "+brief(value)))
	}
	switch {
	case t.form != nil:
		line = append(line, quoted("--data", brief(t.form.Encode())))
	case len(t.body) > 0:
		line = append(line, quoted("--data-binary", brief(string(t.body))))
	}
	return a.clean(strings.Join(append(line, quoted("", a.base.String()+brief(t.path))), " "))
}

// clean takes out what must not be printed: the report may be published.
func (a *assault) clean(line string) string {
	for _, n := range a.numbers {
		line = strings.ReplaceAll(line, n.text, "["+n.what+"]")
	}
	return line
}

func shellName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name)
}

func quoted(flag, s string) string {
	return strings.TrimSpace(flag + " '" + strings.ReplaceAll(s, "'", `'\''`) + "'")
}

func brief(s string) string {
	if len(s) > 300 {
		return s[:300] + "..."
	}
	return s
}
