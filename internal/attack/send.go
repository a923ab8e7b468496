package attack

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// try is one request.
type try struct {
	family string
	door   Door // the door it is about; zero for none
	who    Identity
	method string
	path   string // with its query, sent as it is written
	header http.Header
	form   url.Values
	body   []byte
	host   string // "" for the house's own
	bare   bool   // without the small cookies that the house gave them
	cross  bool   // the header says already where it comes from
}

type answer struct {
	status int
	header http.Header
	body   []byte
	took   time.Duration
}

// crumb is a cookie that the house gave for some of its paths.
type crumb struct{ path, name, value string }

func (c crumb) isFor(path string) bool {
	path, _, _ = strings.Cut(path, "?")
	return path == c.path || strings.HasPrefix(path, strings.TrimSuffix(c.path, "/")+"/")
}

// cookieName is what the house calls its session.
func (a *assault) cookieName() string {
	if a.base.Scheme == "https" {
		return "__Host-yesline"
	}
	return "yesline"
}

// send makes the try, looks at what came back, and waits a little when the
// house says "later".
func (a *assault) send(ctx context.Context, t try) (answer, error) {
	for again := 0; ; again++ {
		got, err := a.once(ctx, t)
		if err != nil || got.status != http.StatusTooManyRequests {
			return got, err
		}
		wait, _ := strconv.Atoi(got.header.Get("Retry-After"))
		if again == 2 || wait > 3 || t.door.Sort == "public" || t.family == "guessing" {
			a.braked.Add(1)
			return got, nil
		}
		select {
		case <-time.After(time.Duration(max(wait, 1)) * time.Second):
		case <-ctx.Done():
			return got, ctx.Err()
		}
	}
}

func (a *assault) once(ctx context.Context, t try) (answer, error) {
	r, err := a.request(ctx, t)
	if err != nil {
		return answer{}, err
	}
	a.tries.Add(1)
	began := time.Now()
	resp, err := a.client.Do(r)
	if err != nil {
		return answer{}, fmt.Errorf("%s %s: %w", t.method, t.door.Path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerSize))
	got := answer{resp.StatusCode, resp.Header, body, time.Since(began)}
	if err != nil && resp.StatusCode < 300 && !strings.HasPrefix(resp.Header.Get("Content-Type"), "audio/") {
		return got, fmt.Errorf("%s %s: reading the answer: %w", t.method, t.door.Path, err)
	}
	a.keepCrumbs(t, got)
	a.look(t, got)
	return got, nil
}

func (a *assault) request(ctx context.Context, t try) (*http.Request, error) {
	body := t.body
	if t.form != nil {
		body = []byte(t.form.Encode())
	}
	r, err := http.NewRequestWithContext(ctx, t.method, a.base.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("a request: %w", err)
	}
	if len(body) == 0 {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	u := *a.base
	if path, query, _ := strings.Cut(t.path, "?"); strings.HasPrefix(path, "//") {
		u.Path, u.RawQuery = path, query
	} else {
		u.Opaque, u.RawQuery = path, query
	}
	r.URL = &u
	for k, v := range t.header {
		r.Header[k] = v
	}
	r.Header.Set("User-Agent", "yesline-attack")
	if ua := t.header.Get("User-Agent"); ua != "" {
		r.Header.Set("User-Agent", ua)
	}
	if t.form != nil && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if !t.cross {
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	if t.host != "" {
		r.Host = t.host
	}
	a.identify(r, t)
	return r, nil
}

// identify adds what the identity has to show.
func (a *assault) identify(r *http.Request, t try) {
	if t.who.Cookie != "" {
		r.Header.Add("Cookie", a.cookieName()+"="+t.who.Cookie)
	}
	if t.who.Key != "" && r.Header.Get("Authorization") == "" {
		r.Header.Set("Authorization", "Bearer "+t.who.Key)
	}
	if t.bare {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.jars[t.who.Name] {
		if c.isFor(t.path) {
			r.Header.Add("Cookie", c.name+"="+c.value)
		}
	}
}

// keepCrumbs keeps cookies that are for a part of the house, as tickets are.
// The sessions are those of the file.
func (a *assault) keepCrumbs(t try, got answer) {
	for _, c := range (&http.Response{Header: got.header}).Cookies() {
		if c.Path == "" || c.Path == "/" || t.who.Name == nobody.Name || t.bare {
			continue
		}
		a.mu.Lock()
		jar := slices.DeleteFunc(a.jars[t.who.Name], func(old crumb) bool { return old.path == c.Path && old.name == c.Name })
		if c.Value != "" && len(jar) < 1000 {
			jar = append(jar, crumb{c.Path, c.Name, c.Value})
		}
		a.jars[t.who.Name] = jar
		a.mu.Unlock()
	}
}

// crumbFor is the cookie that the identity has for a path, such as a ticket.
func (a *assault) crumbFor(who Identity, path string) (crumb, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.IndexFunc(a.jars[who.Name], func(c crumb) bool { return c.isFor(path) })
	if i < 0 {
		return crumb{}, false
	}
	return a.jars[who.Name][i], true
}

// refused reports whether the house let nobody through: it answers as to what
// is not there, or leads to the sign-in page.
func (g answer) refused() bool {
	switch g.status {
	case http.StatusNotFound, http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusTooManyRequests, http.StatusMisdirectedRequest:
		return true
	case http.StatusSeeOther, http.StatusFound:
		return g.header.Get("Location") == "/in"
	}
	return false
}

// denied is refused, or told that what was sent cannot be meant.
func (g answer) denied() bool {
	switch g.status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity,
		http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge, http.StatusNotImplemented, http.StatusHTTPVersionNotSupported,
		http.StatusPreconditionFailed, http.StatusConflict:
		return true
	}
	return g.refused()
}

// sounds reports whether a voice is in the answer.
func (g answer) sounds() bool {
	return g.status < 300 && (strings.HasPrefix(g.header.Get("Content-Type"), "audio/") || bytes.HasPrefix(g.body, []byte("RIFF")))
}

// differs says in what two answers are not the same to who gets them, or "".
func (g answer) differs(other answer) string {
	if g.status != other.status {
		return fmt.Sprintf("status %d and %d", g.status, other.status)
	}
	if !bytes.Equal(g.body, other.body) {
		return "the bodies"
	}
	for _, h := range []http.Header{g.header, other.header} {
		for name := range h {
			if name == "Date" || strings.HasPrefix(strings.ToLower(name), "ratelimit") || name == "Retry-After" {
				continue
			}
			if !slices.Equal(g.header[name], other.header[name]) {
				return "the header " + name
			}
		}
	}
	return ""
}

// respells reports whether the answer only leads to a cleaner spelling of what
// was asked for, and so repeats it.
func (g answer) respells() bool {
	switch g.status {
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}
