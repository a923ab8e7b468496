package attack

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// The sixth family: other sites that use somebody's session, other hosts,
// headers that proxies write, and clients that take their time.

const otherSite = "https://enemy.example"

func (a *assault) crossing(ctx context.Context) {
	var all []visit
	for _, d := range a.doors {
		if !d.guarded() {
			continue
		}
		if who, ok := a.somebodyFor(d); ok {
			all = append(all, visit{d, who})
		}
	}
	var waiting sync.WaitGroup
	if !a.narrow && a.base.Scheme == "http" {
		waiting.Go(func() { a.slow(ctx) })
	}
	defer waiting.Wait()
	inParallel(ctx, all, func(v visit) {
		if v.door.method() != "GET" && v.door.Sort != "api" {
			a.fromElsewhere(ctx, v)
		}
		a.hosts(ctx, v)
	})
	a.fromElsewherePublic(ctx)
	if !a.narrow && a.base.Scheme == "http" {
		a.split(ctx)
	}
}

// origins are how a browser says that another site sends the form.
func origins() map[string]http.Header {
	return map[string]http.Header{
		"another site":              {"Sec-Fetch-Site": {"cross-site"}, "Origin": {otherSite}},
		"another site, by fetch":    {"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"no-cors"}},
		"a sister of the site":      {"Sec-Fetch-Site": {"same-site"}, "Origin": {"http://evil.localhost"}},
		"another site, old browser": {"Origin": {otherSite}},
		"a page without an origin":  {"Origin": {"null"}},
		"a site that begins alike":  {"Origin": {"http://localhost.enemy.example"}},
		"another port":              {"Origin": {"http://localhost:1"}},
	}
}

// fromElsewhere sends a rightful form as another site would have it sent. The
// door must not act.
func (a *assault) fromElsewhere(ctx context.Context, v visit) {
	for what, header := range origins() {
		t := a.ask("crossing", v.door, v.who, v.who.rightful(v.door)[0])
		t.header, t.cross = header.Clone(), true
		if got, err := a.send(ctx, t); err == nil && !got.refused() {
			a.leak(t, got, "it acts for "+what)
		}
	}
}

// fromElsewherePublic is the same for what is open to all: signing somebody in
// or out from another site.
func (a *assault) fromElsewherePublic(ctx context.Context) {
	for _, d := range a.doors {
		if d.Sort != "public" || d.Method != "POST" || d.Path == "/csp" {
			continue
		}
		for what, header := range origins() {
			t := a.ask("crossing", d, nobody, "")
			t.header, t.cross = header.Clone(), true
			if got, err := a.send(ctx, t); err == nil && !got.refused() {
				a.leak(t, got, "it acts for "+what)
			}
		}
	}
}

// hosts asks under names that are not the house's.
func (a *assault) hosts(ctx context.Context, v visit) {
	if v.door.method() != "GET" {
		return
	}
	id := v.who.rightful(v.door)[0]
	for _, host := range []string{"enemy.example", a.base.Host + ".enemy.example", "enemy.example:80", "127.0.0.1.nip.example"} {
		t := a.ask("crossing", v.door, v.who, id)
		t.host = host
		got, err := a.send(ctx, t)
		if err == nil && got.status != http.StatusBadRequest && got.status != http.StatusMisdirectedRequest {
			a.leak(t, got, "it answers under the name of another host")
		}
	}
	for _, name := range []string{"X-Forwarded-Host", "X-Host", "X-Forwarded-Server", "Forwarded"} {
		t := a.ask("crossing", v.door, v.who, id)
		t.header = set(t.header, name, "host=enemy.example")
		if got, err := a.send(ctx, t); err == nil && strings.Contains(string(headerText(got.header))+string(got.body), "enemy.example") {
			a.leak(t, got, "it believes the header "+name)
		}
	}
}

// split sends requests that two servers in a row would read differently. Of
// each, the answer must be a refusal, and one answer only.
func (a *assault) split(ctx context.Context) {
	host := a.base.Host
	for what, raw := range map[string]string{
		"two lengths":              "POST /csp HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 3\r\nContent-Length: 30\r\n\r\nabcGET /health HTTP/1.1\r\nHost: x\r\n\r\n",
		"a length and chunks":      "POST /csp HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"two hosts":                "GET /health HTTP/1.1\r\nHost: " + host + "\r\nHost: enemy.example\r\n\r\n",
		"no host":                  "GET /health HTTP/1.1\r\n\r\n",
		"a line break in a header": "GET /health HTTP/1.1\r\nHost: " + host + "\r\nX-A: b\n c\x00d\r\n\r\n",
		"a header of a megabyte":   "GET /health HTTP/1.1\r\nHost: " + host + "\r\nX-A: " + strings.Repeat("a", 1<<20) + "\r\n\r\n",
		"an address of 100 kB":     "GET /" + strings.Repeat("a", 100<<10) + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n",
	} {
		t := try{family: "crossing", who: nobody, method: "RAW", path: what}
		status, err := a.raw(ctx, raw, 5*time.Second)
		if err == nil && status < 400 {
			a.leak(t, answer{status: status}, "it takes a request with "+what)
		}
	}
}

// raw sends bytes and gives the status of the first answer; 0 if the house
// only closed.
func (a *assault) raw(ctx context.Context, text string, wait time.Duration) (int, error) {
	a.tries.Add(1)
	c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", a.base.Host)
	if err != nil {
		return 0, fmt.Errorf("calling the house: %w", err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(wait))
	c.Write([]byte(text)) // the house may close while we still write: its answer counts
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	return resp.StatusCode, nil
}

const patience = 20 * time.Second // that the house may have with a header

// slow begins a request and does not end it: the house must hang up.
func (a *assault) slow(ctx context.Context) {
	a.tries.Add(1)
	c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", a.base.Host)
	if err != nil {
		return
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /in HTTP/1.1\r\nHost: %s\r\nX-Slow: ", a.base.Host)
	c.SetReadDeadline(time.Now().Add(patience))
	began := time.Now()
	if _, err := c.Read(make([]byte, 1)); err != nil && time.Since(began) >= patience {
		a.leak(try{family: "crossing", who: nobody, method: "RAW", path: "/in"}, answer{}, "it waits without end for a slow header")
	}
}
