package web

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"reflect"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/session"
)

// API is what the doors for programs need of the house beyond what the pages
// need. They are asked by API key only: a cookie is nothing to them.
type API struct {
	// WhoKey and WhoKeyID give the principal of an API key, by what was sent
	// and by its id; yesline.NotFound when it is none, ended or too old.
	WhoKey   func(ctx context.Context, bearer string) (session.Principal, error)
	WhoKeyID func(ctx context.Context, key yesline.KeyID) (session.Principal, error)

	// KeyOf tells which key holds a ticket that is good for this track and
	// client; Tickets.Check comes after.
	KeyOf func(ctx context.Context, token, track, client string) (yesline.KeyID, error)

	// Address is the client's, through the proxies that the house believes.
	Address func(*http.Request) netip.Addr `may:"be missing"`

	Answers   *Answers       // nil: a request with an Idempotency-Key that gives something is refused
	CursorKey yesline.Secret // the same on all nodes; none: cursors end with the process
	PerMinute int            // requests of one API key, on each node; 0: 600
}

// operation is one door for programs, as it is asked and as it is described.
type operation struct {
	pattern string
	rule    Rule
	name    string // operationId
	summary string
	status  int
	people  bool              // only a person's key opens it
	once    bool              // it takes an Idempotency-Key, and its answer is about nobody
	back    bool              // it only takes a yes back: see TakesBack
	sample  map[string]string // a body that it would take

	accepts []string // the fields of its body
	asks    []string // the parameters of its address
	heads   []string // the headers that it reads
	fields  []string // every place in its answer, as a pointer with * for the elements of a list

	join   func(*desk, *operation)                  // makes it known to huma
	handle http.HandlerFunc                         // what huma made of it
	stream func(*desk, *operation) http.HandlerFunc // instead of handle: sound
}

// api is a door for programs. I says what it reads (huma's tags) and O what it
// answers: what is not a field of O cannot be in the answer.
func api[I, O any](pattern string, rule Rule, name, summary string, f func(d *desk, ctx context.Context, a asked, in *I) (*O, error)) *operation {
	o := &operation{pattern: pattern, rule: rule, name: name, summary: summary, status: http.StatusOK}
	o.learn(reflect.TypeFor[I](), reflect.TypeFor[O]())
	o.join = func(d *desk, o *operation) {
		huma.Register(d.huma, o.described(), func(ctx context.Context, in *I) (*O, error) {
			v, ok := ctx.Value(errandKey{}).(*errand)
			if !ok { // nobody was let through, so nobody is here
				return nil, problemOf(yesline.NotFound)
			}
			out, err := f(d, ctx, v.asked, in)
			if err != nil {
				v.err = err
				return nil, problemOf(err)
			}
			return out, nil
		})
	}
	return o
}

// said makes the answer's status another than 200.
func (o *operation) said(status int) *operation { o.status = status; return o }

// ofPeople keeps the door for the keys of people. An officer opens what is
// theirs by a case, as themselves, where everybody sees it: never by a key.
func (o *operation) ofPeople() *operation { o.people = true; return o }

// repeatable lets the door take an Idempotency-Key. Its answer may hold
// nothing about people.
func (o *operation) repeatable() *operation { o.once = true; return o }

// takesBack is row's, for programs.
func (o *operation) takesBack() *operation { o.back = true; return o }

// like gives a body that the door would take.
func (o *operation) like(sample map[string]string) *operation { o.sample = sample; return o }

func (o *operation) method() string { m, _, _ := strings.Cut(o.pattern, " "); return m }
func (o *operation) path() string   { _, p, _ := strings.Cut(o.pattern, " "); return p }

// knows reports whether a place in a request is one that the door reads.
func (o *operation) knows(where, name string) bool {
	switch where {
	case "body":
		return slices.Contains(o.accepts, name)
	case "query":
		return slices.Contains(o.asks, name)
	case "header":
		return slices.Contains(o.heads, name)
	}
	return false
}

// learn reads from its types what the door reads and can answer.
func (o *operation) learn(in, out reflect.Type) {
	for i := range in.NumField() {
		f := in.Field(i)
		if q := f.Tag.Get("query"); q != "" {
			o.asks = append(o.asks, q)
		}
		if h := f.Tag.Get("header"); h != "" {
			o.heads = append(o.heads, h)
		}
		if f.Name == "Body" {
			for _, field := range reflect.VisibleFields(f.Type) {
				name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
				o.accepts = append(o.accepts, name)
			}
		}
	}
	if body, ok := out.FieldByName("Body"); ok {
		o.fields = pointers(nil, "", body.Type)
	}
}

// pointers lists every place that a type can have in JSON.
func pointers(to []string, at string, t reflect.Type) []string {
	switch t.Kind() {
	case reflect.Pointer:
		return pointers(to, at, t.Elem())
	case reflect.Slice:
		return pointers(append(to, at+"/*"), at+"/*", t.Elem())
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			return to
		}
		for _, f := range reflect.VisibleFields(t) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous || name == "" || name == "-" {
				continue
			}
			to = pointers(append(to, at+"/"+name), at+"/"+name, f.Type)
		}
	}
	return to
}

// desk is where programs are served.
type desk struct {
	*Site
	operations []*operation
	huma       huma.API
	paces      *buckets[yesline.KeyID]
	perMinute  int
	cursorKey  []byte
}

const maxPacedKeys = 20_000

func (s *Site) newDesk() *desk {
	d := &desk{Site: s, operations: operations(), perMinute: cmp.Or(s.house.API.PerMinute, 600), cursorKey: s.house.API.CursorKey.Bytes()}
	if len(d.cursorKey) == 0 {
		d.cursorKey = make([]byte, 32)
		rand.Read(d.cursorKey)
	}
	d.paces = newBuckets[yesline.KeyID](pace{d.perMinute, time.Minute / time.Duration(d.perMinute)}, maxPacedKeys)
	d.huma = huma.NewAPI(d.config(), counter{d})
	for _, o := range d.operations {
		if o.join != nil {
			o.join(d, o)
		}
	}
	return d
}

// counter is huma's way to us: it hands over what it made of each operation,
// and hangs nothing anywhere by itself.
type counter struct{ desk *desk }

func (c counter) Handle(op *huma.Operation, f func(huma.Context)) {
	for _, o := range c.desk.operations {
		if o.name == op.OperationID {
			o.handle = func(w http.ResponseWriter, r *http.Request) { f(humago.NewContext(op, r, w)) }
		}
	}
}

func (c counter) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.desk.nothingHere(w, r) }

// config has none of huma's own doors: no schemas, no documents, no links.
func (d *desk) config() huma.Config {
	form := huma.Format{Marshal: marshal, Unmarshal: unmarshal}
	return huma.Config{
		OpenAPI:                      description(),
		Formats:                      map[string]huma.Format{"application/json": form, problemType: form},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers: []huma.Transformer{func(ctx huma.Context, _ string, v any) (any, error) {
			if m, is := v.(*huma.ErrorModel); is {
				return d.find(ctx.Operation().OperationID).unhuma(m), nil
			}
			return v, nil
		}},
	}
}

func (d *desk) find(name string) *operation {
	for _, o := range d.operations {
		if o.name == name {
			return o
		}
	}
	return &operation{}
}

// apiRows are the doors under /api/v1.
func (s *Site) apiRows() []row {
	d := s.newDesk()
	rows := make([]row, 0, len(d.operations)+1)
	for _, o := range d.operations {
		r := row{pattern: o.pattern, sort: "api", rule: o.rule}
		switch {
		case o.stream != nil:
			r.open = d.door(o, o.stream(d, o))
		case o.handle != nil:
			r.open = d.door(o, nil)
		}
		rows = append(rows, r)
	}
	return append(rows, public("/api/", "whatever is not in this table is absent, and told in JSON", d.nothingHere))
}

// errand is what huma hands through to the door behind it, and back.
type errand struct {
	asked
	err error // what went wrong there; what huma wrote then is thrown away
}

type errandKey struct{}

// door lets a program in: key, pace, gate, and only then what it sent. So
// whatever a request holds besides, the answer about an object that is absent
// or withheld is the same.
func (d *desk) door(o *operation, stream http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		defer d.recoverAPI(w, r)
		if stream != nil {
			stream(w, r)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), answerTime-time.Second)
		defer cancel()
		r = r.WithContext(ctx)
		who, err := d.whoKey(r)
		if err != nil {
			d.refuseAPI(w, r, err)
			return
		}
		if o.people && who.Person() == "" {
			d.refuseAPI(w, r, yesline.NotFound)
			return
		}
		left, wait := d.paces.take(who.Key(), time.Now())
		if wait > 0 {
			d.tooFast(w, wait)
			return
		}
		detail := map[string]string{"key": string(who.Key())}
		if o.back {
			detail["part"] = TakesBack
		}
		permit, err := d.askFor(r, who, o.rule, detail)
		if err != nil {
			d.refuseAPI(w, r, err)
			return
		}
		h := newHeld()
		if err := d.serve(h, o, asked{r, who, permit}); err != nil {
			d.refuseAPI(w, r, err)
			return
		}
		if h.status < 400 {
			d.paceHeaders(h.header, left)
		}
		h.send(w, r)
	}
}

// serve reads what was sent and answers into h.
func (d *desk) serve(h *held, o *operation, a asked) error {
	body, err := o.readBody(a.Request)
	if err != nil {
		return err
	}
	run := func() error { return d.run(h, o, a, body) }
	key, err := readIdempotencyKey(a.Header)
	if err != nil {
		return err
	}
	if !o.once || key == "" {
		return run()
	}
	return d.serveOnce(h, o, attemptOf(a.Who, key, a.Method, a.URL.Path, body), a, run)
}

// serveOnce does a request with an Idempotency-Key at most once. Taking back a
// yes never fails because it could not be remembered: once more is harmless.
func (d *desk) serveOnce(h *held, o *operation, t attempt, a asked, run func() error) error {
	answers := d.house.API.Answers
	takesBack := o.rule.Verb == access.Withdraw
	if answers == nil {
		if takesBack {
			return run()
		}
		return fmt.Errorf("a request with an %s in a house that remembers none: %w", idempotencyKey, yesline.Unavailable)
	}
	before, done, err := answers.begin(a.Context(), &t)
	var p *problem
	switch {
	case errors.As(err, &p):
		return p
	case err != nil && takesBack:
		d.house.Log.WarnContext(a.Context(), "a withdrawal is done without remembering it", "error", err)
		return run()
	case err != nil:
		return err
	case done:
		h.header.Set("Content-Type", "application/json")
		h.WriteHeader(before.status)
		io.WriteString(h, before.body)
		return nil
	}
	err = run()
	k := kept{status: h.status, body: h.body.String()}
	if err != nil {
		k = kept{}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.Context()), 5*time.Second)
	defer cancel()
	if forgotten := answers.end(ctx, t, k); forgotten != nil {
		d.house.Log.WarnContext(ctx, "an answer was not written down", "error", forgotten) // for a minute, repeating it is refused
	}
	return err
}

// run gives the request to huma, which reads it by the door's types.
func (d *desk) run(h *held, o *operation, a asked, body []byte) error {
	if len(a.URL.RawQuery) > maxQuery {
		return newProblem(http.StatusBadRequest, "invalid")
	}
	v := &errand{asked: a}
	r := a.Request.WithContext(context.WithValue(a.Context(), errandKey{}, v))
	r.Body = io.NopCloser(bytes.NewReader(body))
	if len(body) > 0 { // readBody saw that it is, however it was spelled
		r.Header = r.Header.Clone()
		r.Header.Set("Content-Type", "application/json")
	}
	o.handle(h, r)
	if v.err == nil && h.status == 0 {
		return fmt.Errorf("the door %s gave no answer", o.name)
	}
	return v.err
}

const maxQuery = 1024

// whoKey looks the API key up. A session's cookie is not looked at.
func (d *desk) whoKey(r *http.Request) (session.Principal, error) {
	none := func(err error) (session.Principal, error) {
		d.noSession.Add(1)
		return session.Principal{}, err
	}
	values := r.Header.Values("Authorization")
	if len(values) != 1 || d.house.API.WhoKey == nil {
		return none(errNoSession)
	}
	scheme, bearer, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || !looksLikeKey(bearer) {
		return none(errNoSession)
	}
	who, err := d.house.API.WhoKey(r.Context(), bearer)
	switch {
	case errors.Is(err, yesline.NotFound), err == nil && who.Key() == "":
		return none(errNoSession)
	case err != nil:
		return session.Principal{}, err
	}
	return who, nil
}

// looksLikeKey keeps from the house what cannot be a key: yk_ and 43
// characters of base64url.
func looksLikeKey(s string) bool {
	rest, ok := strings.CutPrefix(s, "yk_")
	if !ok || len(rest) != 43 {
		return false
	}
	for _, c := range []byte(rest) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// paceHeaders tell a program how fast it may go on. They are not with an
// absent answer: that has no header which tells one from another.
func (d *desk) paceHeaders(h http.Header, left int) {
	h.Set("RateLimit-Policy", `"key";q=`+strconv.Itoa(d.perMinute)+`;w=60`)
	h.Set("RateLimit", `"key";r=`+strconv.Itoa(left)+`;t=`+strconv.Itoa(60-60*left/d.perMinute))
}

func (d *desk) tooFast(w http.ResponseWriter, wait time.Duration) {
	p := newProblem(http.StatusTooManyRequests, "many")
	p.retry = wholeSeconds(wait)
	d.paceHeaders(w.Header(), 0)
	writeProblem(w, p)
}

// nothingHere is for addresses that no door has. A door that is asked by a
// method it does not know says which it knows; that tells of the table only,
// which everybody may read.
func (d *desk) nothingHere(w http.ResponseWriter, r *http.Request) {
	var methods []string
	for _, o := range d.operations {
		if samePath(o.path(), r.URL.Path) {
			methods = append(methods, o.method())
		}
	}
	if len(methods) == 0 {
		writeProblem(w, newProblem(http.StatusNotFound, "absent"))
		return
	}
	slices.Sort(methods)
	w.Header().Set("Allow", strings.Join(slices.Compact(methods), ", "))
	writeProblem(w, newProblem(http.StatusMethodNotAllowed, "method"))
}

func samePath(pattern, path string) bool {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return false
	}
	for i, w := range want {
		if w != got[i] && !(strings.HasPrefix(w, "{") && got[i] != "") {
			return false
		}
	}
	return true
}

// recoverAPI answers for a door that broke. What it said when it broke may
// hold anything, so only the place is logged.
func (d *desk) recoverAPI(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p)
	}
	d.failures.Add(1)
	d.house.Log.Error("a door for programs panicked", "door", r.Pattern, "stack", string(debug.Stack()))
	writeProblem(w, newProblem(http.StatusInternalServerError, "internal"))
}
