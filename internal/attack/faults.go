package attack

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// The eighth family replays what the app that failed let everybody do:
//
//	permanent public links: what is linked on somebody's page opens to nobody else;
//	any signed-in user reads all: neither to anybody signed in;
//	answers with hidden fields: what no screen shows is in no answer;
//	nobody can say who read: each reading is on its owner's list.

var links = regexp.MustCompile(`(?:href|src|action|poster|data-[a-z-]+)="(/[^"]*)"|"((?:https?://[^"/]+)?/[^"\s]*)"`)

// found is a link on a page of somebody's.
type found struct {
	link string
	of   Identity
}

func (a *assault) faults(ctx context.Context) {
	all := a.collect(ctx)
	inParallel(ctx, all, func(f found) {
		a.follow(ctx, f, nobody, "permanent public links: what a page links to opens to nobody")
		for _, who := range a.file.Identities {
			if who.Cookie != "" && who.Person != f.of.Person && a.names(f.link, who) {
				a.follow(ctx, f, who, "any signed-in user reads all: what somebody's page links to opens to others")
			}
		}
	})
	for _, who := range a.file.Identities {
		a.whoRead(ctx, who)
	}
}

// collect opens everybody's own pages and gathers what they link to. On the
// way every answer is looked at for what no screen shows.
func (a *assault) collect(ctx context.Context) (all []found) {
	seen := map[string]bool{}
	for _, who := range a.file.Identities {
		for _, d := range a.doors {
			if d.method() != "GET" || d.Sort != "page" && d.Sort != "api" {
				continue
			}
			for _, id := range some(who.rightful(d), 3) {
				t := a.ask("faults", d, who, id)
				got, err := a.send(ctx, t)
				if err != nil || got.status != http.StatusOK {
					continue
				}
				for _, m := range links.FindAllStringSubmatch(string(got.body), 400) {
					link := strings.TrimPrefix(m[1]+m[2], a.base.String())
					if !seen[link] && strings.HasPrefix(link, "/") && len(all) < 1000 {
						seen[link] = true
						all = append(all, found{link, who})
					}
				}
			}
		}
	}
	return all
}

// names reports whether the link names something of the story that is none of
// theirs.
func (a *assault) names(link string, who Identity) bool {
	return slices.ContainsFunc(ids.FindAllString(link, 10), func(id string) bool { return !a.idents[who.Name][id] })
}

func (a *assault) follow(ctx context.Context, f found, who Identity, what string) {
	path, _, _ := strings.Cut(f.link, "?")
	if !ids.MatchString(f.link) && (a.isOpen(path) || path == "/call/voice") {
		return // the demo has a made-up voice for whoever comes, and no other house has one
	}
	t := try{family: "faults", who: who, method: "GET", path: f.link}
	if got, err := a.send(ctx, t); err == nil && !got.denied() && !got.respells() {
		a.leak(t, got, what)
	}
}

// isOpen reports whether a path is in the table as open to everybody, or is a
// page that is everybody's own.
func (a *assault) isOpen(path string) bool {
	return slices.ContainsFunc(a.all, func(d Door) bool {
		if d.Sort != "public" && d.named() || strings.HasSuffix(d.Path, "{rest}") {
			return false
		}
		pattern := strings.ReplaceAll(regexp.QuoteMeta(a.at(d, "x")), regexp.QuoteMeta("yesline.css"), "[^/]+")
		match, err := regexp.MatchString("^"+pattern+"$", path)
		return err == nil && match && d.Sort == "public"
	})
}

var (
	row   = regexp.MustCompile(`(?s)<tr[ >].*?</tr>`)
	tag   = regexp.MustCompile(`(?s)<[^>]*>`)
	moved = regexp.MustCompile(`[0-9:.,]+|\s+`)
)

// deeds are the lines of an access list, newest first, without their times.
func deeds(page []byte) (lines []string) {
	for _, r := range row.FindAllString(string(page), 200) {
		if strings.Contains(r, "<th scope=\"col\"") {
			continue
		}
		lines = append(lines, strings.TrimSpace(moved.ReplaceAllString(tag.ReplaceAllString(r, " "), " ")))
	}
	return lines
}

// whoRead has an owner read what is theirs, and looks whether each reading
// came onto the list. Opening the list is a reading too, so after a quiet
// moment its two newest lines are alike, and after a reading they are not.
func (a *assault) whoRead(ctx context.Context, who Identity) {
	list, ok := a.door("GET /calls/{call}/log")
	if !ok || who.Role == "officer" {
		return
	}
	calls := list0(who.rightful(list))
	if calls == "" || a.narrow && !slices.ContainsFunc(a.doors, func(d Door) bool { return d.Kind == "call" || d.Kind == "track" }) {
		return
	}
	read := func() ([]string, try) {
		t := a.ask("faults", list, who, calls)
		got, err := a.send(ctx, t)
		if err != nil || got.status != http.StatusOK {
			return nil, t
		}
		return deeds(got.body), t
	}
	read()
	quiet, t := read()
	if len(quiet) < 2 {
		a.leak(t, answer{status: http.StatusOK}, "nobody can say who read: the list of a call that was read is empty")
		return
	}
	if quiet[0] != quiet[1] {
		a.leak(t, answer{status: http.StatusOK}, "nobody can say who read: opening the list is not on the list")
		return
	}
	a.gather(ctx)
	for _, d := range a.doors {
		if d.method() != "GET" || !d.named() || d.Verb == "log" || d.Kind != "call" && d.Kind != "track" || d.Sort != "page" && d.Sort != "stream" {
			continue
		}
		id := calls
		if d.Kind == "track" {
			if id = a.trackOn(ctx, who, calls); id == "" {
				continue
			}
		}
		if !slices.Contains(who.rightful(d), id) {
			continue
		}
		read()
		reading := a.ask("faults", d, who, id)
		if d.Sort == "stream" {
			reading.header = http.Header{"Range": {"bytes=0-20000"}}
		}
		got, err := a.send(ctx, reading)
		if err != nil || got.status >= 300 {
			continue
		}
		if lines, _ := read(); len(lines) >= 2 && lines[0] == lines[1] {
			a.leak(reading, got, "nobody can say who read: it was read, and the list does not tell")
		}
	}
}

func list0(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}

// trackOn is a track of theirs that the page of the call plays.
func (a *assault) trackOn(ctx context.Context, who Identity, call string) string {
	d, ok := a.door("GET /calls/{call}")
	if !ok {
		return ""
	}
	got, err := a.send(ctx, a.ask("faults", d, who, call))
	if err != nil {
		return ""
	}
	for _, id := range ids.FindAllString(string(got.body), 100) {
		if slices.Contains(who.May["listen"], id) {
			return id
		}
	}
	return ""
}
