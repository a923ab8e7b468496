package attack

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ids are found also where they are stuck to something else.
var ids = regexp.MustCompile(`(?:prg|per|dev|ses|cal|leg|trk|ent|rcp|stf|pky|key|clm|cas)_[a-z2-7]{32}`)

// look is what is checked of every answer, whatever it was asked for.
func (a *assault) look(t try, got answer) {
	text := slices.Concat(headerText(got.header), got.body)
	a.findSecrets(t, got, text)
	a.findIDs(t, got, text)
	a.findFields(t, got)
	a.lookAtHeaders(t, got)
	switch {
	case got.status >= 500 && got.status != http.StatusNotImplemented && got.status != http.StatusHTTPVersionNotSupported:
		a.leak(t, got, "it breaks")
	case bytes.Contains(text, []byte(a.marker)) && !got.respells():
		a.leak(t, got, "it repeats what was sent")
	case bytes.Contains(got.body, []byte("goroutine ")) || bytes.Contains(got.body, []byte(".go:")) || bytes.Contains(got.body, []byte("SQLITE_")):
		a.leak(t, got, "it tells what is inside")
	}
}

func headerText(h http.Header) []byte {
	var out bytes.Buffer
	h.Write(&out)
	return out.Bytes()
}

func (a *assault) findSecrets(t try, got answer, text []byte) {
	runs := digitRuns(text)
	for _, n := range a.numbers {
		mine := slices.Contains(n.allowed, t.who.Name) && t.door.Verb == "reveal" || t.family == "numbers" && t.form.Get("number") == n.text
		if !mine && n.in(text, runs) {
			a.leak(t, got, "the answer holds "+n.what)
		}
	}
}

// findIDs finds ids that the story made and that are none of theirs, and those
// of people whom the story does not know at all: an attack makes cases, keys and
// sessions, but nobody. What they asked for they know.
func (a *assault) findIDs(t try, got answer, text []byte) {
	mine := a.idents[t.who.Name]
	for _, id := range ids.FindAllString(string(text), 500) {
		prefix, _, _ := strings.Cut(id, "_")
		if mine[id] || t.door.Sort == "public" && slices.Contains(a.file.Public, id) || strings.Contains(t.path, id) || bytes.Contains(t.body, []byte(id)) {
			continue
		}
		if prefix == "per" || slices.Contains(a.known[prefix], id) {
			a.leak(t, got, "the answer holds the id of a "+prefix+" that is none of theirs")
		}
	}
}

// findFields finds what an answer in JSON has beyond the door's own list.
func (a *assault) findFields(t try, got answer) {
	allowed := t.door.Fields
	switch {
	case got.status >= 400 && t.door.forScript():
		allowed = []string{"/error"}
	case got.status >= 400:
		allowed = a.problem
	}
	if allowed == nil || t.door.Sort != "api" && !t.door.forScript() || len(got.body) == 0 || !isJSON(got.header) {
		return
	}
	var value any
	if json.Unmarshal(got.body, &value) != nil {
		a.leak(t, got, "the answer says that it is JSON and is not")
		return
	}
	for _, p := range pointers("", value) {
		if !slices.Contains(allowed, p) {
			a.leak(t, got, "the answer has a field that the door does not list: "+p)
		}
	}
}

func isJSON(h http.Header) bool {
	kind, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	return kind == "application/json" || strings.HasSuffix(kind, "+json")
}

// pointers are the leaves of a JSON value, with * for an array's elements.
func pointers(at string, value any) (found []string) {
	switch v := value.(type) {
	case map[string]any:
		for name, inner := range v {
			name = strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
			found = append(found, pointers(at+"/"+name, inner)...)
		}
	case []any:
		for _, inner := range v {
			found = append(found, pointers(at+"/*", inner)...)
		}
	case nil:
	default:
		found = []string{at}
	}
	return found
}

// always are the headers that go with every answer.
var always = map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Content-Security-Policy": "default-src 'none'"}

func (a *assault) lookAtHeaders(t try, got answer) {
	h := got.header
	ours := t.host == "" && got.status != http.StatusMisdirectedRequest && got.status != http.StatusBadRequest &&
		got.status != http.StatusRequestHeaderFieldsTooLarge && got.status != http.StatusNotImplemented // net/http answers some of these by itself
	for name, want := range always {
		if ours && !strings.Contains(h.Get(name), want) {
			a.leak(t, got, "the answer lacks the header "+name)
		}
	}
	if ours && a.base.Scheme == "https" && h.Get("Strict-Transport-Security") == "" {
		a.leak(t, got, "the answer lacks the header Strict-Transport-Security")
	}
	if ours && h.Get("Cache-Control") != "no-store" && t.door.Sort != "public" && t.door.Path != "" {
		a.leak(t, got, "the answer may be kept by caches")
	}
	for _, name := range []string{"Server", "X-Powered-By", "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "X-Enemy"} {
		if h.Get(name) != "" {
			a.leak(t, got, "the answer has the header "+name)
		}
	}
	if to := h.Get("Location"); to != "" {
		u, err := url.Parse(to)
		if err != nil || u.Host != "" && u.Host != a.base.Host || strings.HasPrefix(to, "//") || strings.HasPrefix(to, `/\`) {
			a.leak(t, got, "it leads to another site")
		}
	}
	for _, c := range (&http.Response{Header: h}).Cookies() {
		if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode && c.SameSite != http.SameSiteStrictMode || c.Domain != "" || a.base.Scheme == "https" && !c.Secure {
			a.leak(t, got, "a cookie is not HttpOnly, SameSite, without a domain and Secure on TLS: "+c.Name)
		}
	}
}

// searchLog reads the server's log for what must stand in no log: numbers,
// sessions, keys, tickets, and whatever we sent to be repeated.
func (a *assault) searchLog(context.Context) {
	if a.log == "" {
		return
	}
	f, err := os.Open(a.log)
	if err != nil {
		a.miss("the server's log", "it cannot be opened")
		return
	}
	defer f.Close()
	t := try{family: "secrets", method: "LOG", path: "(the server's log)"}
	lines := bufio.NewScanner(f)
	lines.Buffer(make([]byte, 64<<10), 4<<20)
	for n := 1; lines.Scan(); n++ {
		runs := digitRuns(lines.Bytes())
		for _, s := range a.numbers {
			if s.in(lines.Bytes(), runs) {
				a.leak(t, answer{}, "line "+strconv.Itoa(n)+" holds "+s.what)
			}
		}
		if bytes.Contains(lines.Bytes(), []byte(a.marker)) {
			a.leak(t, answer{}, fmt.Sprintf("line %d repeats what a stranger sent", n))
		}
	}
	if lines.Err() != nil {
		a.miss("the server's log", "a line is too long to be read")
	}
}
