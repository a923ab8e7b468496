package attack

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"yesline"
)

// model is a small house that is tight but for one leak, which has a name.
type model struct {
	leak     string
	log      *os.File
	file     File
	key      []byte
	host     string
	mu       sync.Mutex
	shared   map[string]bool // calls whose owner shares
	ended    map[string]bool
	paused   map[string]bool
	lasting  map[string]string   // a lasting yes's person
	list     map[string][]string // a call's access list
	guesses  int
	lateness time.Duration
}

const modelDoors = `{"version":1,"doors":[
{"method":"GET","path":"/in","sort":"public","verb":"","kind":"","param":"","reason":"r","fresh":false,"form":[],"body":null,"fields":null},
{"method":"POST","path":"/in/{token}","sort":"public","verb":"","kind":"","param":"","reason":"r","fresh":false,"form":[],"body":null,"fields":null},
{"method":"POST","path":"/out","sort":"public","verb":"","kind":"","param":"","reason":"r","fresh":false,"form":[],"body":null,"fields":null},
{"method":"GET","path":"/a/{hash}/{file}","sort":"public","verb":"","kind":"","param":"","reason":"r","fresh":false,"form":[],"body":null,"fields":null},
{"method":"","path":"/{rest}","sort":"public","verb":"","kind":"","param":"","reason":"r","fresh":false,"form":[],"body":null,"fields":null},
{"method":"GET","path":"/calls","sort":"page","verb":"list","kind":"person","param":"(the asker)","reason":"","fresh":false,"form":[],"body":null,"fields":null},
{"method":"GET","path":"/calls/{call}","sort":"page","verb":"view","kind":"call","param":"call","reason":"","fresh":false,"form":[],"body":null,"fields":null},
{"method":"GET","path":"/calls/{call}/log","sort":"page","verb":"log","kind":"call","param":"call","reason":"","fresh":false,"form":[],"body":null,"fields":null},
{"method":"POST","path":"/calls/{call}/share","sort":"act","verb":"allow","kind":"call","param":"call","reason":"","fresh":false,"form":[],"body":null,"fields":null},
{"method":"POST","path":"/calls/{call}/share/stop","sort":"act","verb":"withdraw","kind":"call","param":"call","reason":"","fresh":false,"form":[],"body":null,"fields":null},
{"method":"POST","path":"/me/number","sort":"act","verb":"reveal","kind":"person","param":"(the asker)","reason":"","fresh":false,"form":[],"body":null,"fields":null},
{"method":"POST","path":"/call/look","sort":"say","verb":"dial","kind":"person","param":"(the asker)","reason":"","fresh":false,"form":["number"],"body":null,"fields":["/shown","/rule"]},
{"method":"GET","path":"/calls/{call}/state","sort":"ask","verb":"talk","kind":"call","param":"call","reason":"","fresh":false,"form":["after"],"body":null,"fields":["/version","/paused"]},
{"method":"POST","path":"/calls/{call}/say","sort":"say","verb":"talk","kind":"call","param":"call","reason":"","fresh":false,"form":["word"],"body":null,"fields":[]},
{"method":"GET","path":"/me/lasting","sort":"page","verb":"manage","kind":"account","param":"(the asker)","reason":"","fresh":false,"form":[],"body":null,"fields":null},
{"method":"POST","path":"/me/lasting/end","sort":"act","verb":"manage","kind":"account","param":"(the asker)","reason":"","fresh":false,"form":["lasting"],"body":null,"fields":null},
{"method":"GET","path":"/house","sort":"page","verb":"verify","kind":"house","param":"(the house)","reason":"","fresh":false,"form":[],"body":null,"fields":null},
{"method":"GET","path":"/tracks/{track}/audio","sort":"stream","verb":"listen","kind":"track","param":"track","reason":"","fresh":false,"form":[],"body":null,"fields":null},
{"method":"GET","path":"/api/v1/calls/{call}","sort":"api","verb":"view","kind":"call","param":"call","reason":"","fresh":false,"form":[],"body":null,"fields":["/id","/shared"]},
{"method":"POST","path":"/api/v1/calls/{call}/share","sort":"api","verb":"allow","kind":"call","param":"call","reason":"","fresh":false,"form":[],"body":{"share":false},"fields":["/ok"]},
{"method":"POST","path":"/api/v1/tracks/{track}/ticket","sort":"api","verb":"listen","kind":"track","param":"track","reason":"","fresh":false,"form":[],"body":null,"fields":["/url","/expires"]},
{"method":"GET","path":"/local/log","sort":"local","verb":"verify","kind":"house","param":"(the house)","reason":"","fresh":false,"form":[],"body":null,"fields":null}
]}`

const deadCookie = "deadcookiedeadcookiedeadcookiedeadcookie"

// newModel opens a model house with two pairs of people, an operator, and one
// leak.
func newModel(t *testing.T, leak string) (*model, Config) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "server.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	m := &model{leak: leak, log: log, key: []byte("a key of the model house"), shared: map[string]bool{}, paused: map[string]bool{}, lasting: map[string]string{}, ended: map[string]bool{}, list: map[string][]string{}}
	p1, p2 := string(yesline.NewProgramID()), string(yesline.NewProgramID())
	secret := func() string { return strings.TrimPrefix(string(yesline.NewEntryID()), "ent_") + "Cookie" }
	pair := func(program, caller, contact, n1, n2 string) {
		call := string(yesline.NewCallID())
		for i, name := range []string{caller, contact} {
			person, track := string(yesline.NewPersonID()), string(yesline.NewTrackID())
			may := map[string][]string{"list": {person}, "log": {person, call}, "reveal": {person}, "view": {call}, "allow": {call}, "withdraw": {call}, "listen": {track},
				"dial": {person}, "talk": {call}, "manage": {person}}
			lasting := string(yesline.NewEntryID())
			m.lasting[lasting] = person
			role := []string{"contributor", "contact"}[i]
			m.file.Identities = append(m.file.Identities,
				Identity{Name: name, Role: role, Program: program, Cookie: secret(), Spare: secret(), Person: person, May: may, Sees: []string{lasting}, Number: []string{n1, n2}[i]},
				Identity{Name: name + "'s key", Role: role, Program: program, Key: "yk_" + secret(), Person: person, May: may, Sees: []string{lasting}})
		}
	}
	pair(p1, "ann", "maya", "+12025550101", "+12025550102")
	pair(p2, "ben", "mona", "+12025550103", "+12025550104")
	m.file.Identities = append(m.file.Identities, Identity{Name: "operator", Role: "operator", Cookie: secret(), Person: string(yesline.NewStaffID()),
		May: map[string][]string{"verify": {"house"}}})
	ann := m.file.Identities[0]
	m.file.Version, m.file.Canary = 1, true
	m.file.Dead = []Dead{{Name: "ann's ended session", Of: "ann", Cookie: deadCookie},
		{Name: "ann's old ticket", Of: "ann", Ticket: "old." + m.sign("old"), Track: ann.May["listen"][0]}}
	server := httptest.NewUnstartedServer(m)
	server.Config.ReadHeaderTimeout = time.Second
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	server.Start()
	t.Cleanup(server.Close)
	m.host = strings.TrimPrefix(server.URL, "http://")
	data, err := json.Marshal(m.file)
	if err != nil {
		t.Fatal(err)
	}
	return m, Config{URL: server.URL, Identities: data, Log: log.Name(), Limit: time.Minute}
}

func (m *model) sign(s string) string {
	h := hmac.New(sha256.New, m.key)
	io.WriteString(h, s)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:18])
}

// who is whose cookie or key the request has.
func (m *model) who(r *http.Request, api bool) (Identity, bool) {
	cookie := ""
	key, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if c, err := r.Cookie("yesline"); err == nil {
		cookie = c.Value
	}
	if m.leak == "an ended session" && cookie == deadCookie {
		return m.file.Identities[0], true
	}
	if m.leak == "a secret in the address" && r.URL.Query().Get("access_token") != "" {
		cookie = r.URL.Query().Get("access_token")
	}
	for _, i := range m.file.Identities {
		if m.leak == "a proxy's word" && r.Header.Get("X-Forwarded-User") == i.Person {
			return i, true
		}
		session := !m.ended[cookie] && cookie != "" && (cookie == i.Cookie || cookie == i.Spare ||
			m.leak == "letters alike" && strings.EqualFold(cookie, i.Cookie) || m.leak == "a cut secret" && len(cookie) > 20 && strings.HasPrefix(i.Cookie, cookie))
		if i.Cookie != "" && session && (!api || m.leak == "a session at the API") {
			if cookie == i.Spare {
				i.Cookie = cookie
			}
			return i, true
		}
		if api && bearer && i.Key != "" && key == i.Key {
			return i, true
		}
	}
	return Identity{}, false
}

func (m *model) may(who Identity, verb, id string) bool {
	return slices.Contains(who.May[verb], id)
}

func (m *model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var late time.Duration
	defer func() { time.Sleep(late) }()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lateness = 0
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'")
	h.Set("Cache-Control", "no-store")
	m.serve(w, r)
	late = m.lateness
}

func (m *model) absent(w http.ResponseWriter) {
	w.WriteHeader(http.StatusNotFound)
	io.WriteString(w, "there is no such thing\n")
}

func (m *model) serve(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	switch m.leak {
	case "a header too few":
		w.Header().Del("X-Content-Type-Options")
	case "other sites may read":
		w.Header().Set("Access-Control-Allow-Origin", "*")
	case "an echo":
		fmt.Fprintln(w, r.URL.String())
	case "secrets in the log":
		fmt.Fprintln(m.log, "cookies", r.Cookies())
	case "numbers in the log":
		fmt.Fprintln(m.log, "call from (202) 555-0101")
	case "another spelling":
		if strings.HasSuffix(path, ".json") {
			fmt.Fprint(w, "{}")
			return
		}
	case "an address in a header":
		if to := r.Header.Get("X-Original-Url"); to != "" && strings.HasPrefix(to, "/calls/cal_") {
			io.WriteString(w, "RIFF")
			return
		}
	case "a door that is not in the table":
		if path == "/metrics" {
			return
		}
	case "it breaks":
		if strings.Contains(r.URL.RawQuery, "before=x") {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
	case "any verb":
		if r.Method == "PUT" {
			r.Method = "POST"
		}
	}
	if m.leak != "any host" && r.Host != m.host {
		w.WriteHeader(http.StatusMisdirectedRequest)
		return
	}
	cross := r.Method != "GET" && (r.Header.Get("Sec-Fetch-Site") != "" && r.Header.Get("Sec-Fetch-Site") != "same-origin" || r.Header.Get("Origin") != "")
	if cross && m.leak != "other sites may act" {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	switch {
	case r.Method == "GET" && path == "/in":
		io.WriteString(w, `<link href="/a/abc/yesline.css">`)
	case r.Method == "GET" && path == "/a/abc/yesline.css":
	case r.Method == "POST" && strings.HasPrefix(path, "/in/"):
		m.guesses++
		if m.guesses > 100 && m.leak != "guessing without end" {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		m.absent(w)
	case r.Method == "POST" && path == "/out":
		if c, err := r.Cookie("yesline"); err == nil && m.leak != "signing out ends nothing" {
			m.ended[c.Value] = true
		}
		w.Header().Set("Location", "/in")
		w.WriteHeader(http.StatusSeeOther)
	case path == "/local/log" && m.leak == "the socket's doors":
		io.WriteString(w, "{}")
	case len(parts) == 2 && parts[0] == "media":
		m.media(w, r, parts[1])
	case len(parts) > 2 && parts[0] == "api":
		m.api(w, r, parts[2:])
	default:
		m.pages(w, r, parts)
	}
}

func (m *model) pages(w http.ResponseWriter, r *http.Request, parts []string) {
	who, in := m.who(r, false)
	door := r.Method + " " + parts[0]
	if len(parts) > 2 {
		door += "/x/" + strings.Join(parts[2:], "/")
	} else if len(parts) == 2 && parts[0] == "calls" {
		door += "/x"
	} else if len(parts) == 2 && parts[0] == "call" {
		door += "/" + parts[1]
	}
	if path := strings.Join(parts, "/"); path == "me/lasting" || path == "me/lasting/end" {
		m.yeses(w, r, who, in)
		return
	}
	verb := map[string]string{"GET calls": "list", "GET calls/x": "view", "GET calls/x/log": "log", "POST calls/x/share": "allow", "POST calls/x/share/stop": "withdraw",
		"POST me": "reveal", "GET house": "verify", "GET tracks/x/audio": "listen",
		"POST call/look": "dial", "GET calls/x/state": "talk", "POST calls/x/say": "talk"}[door]
	if verb == "" || parts[0] == "me" && (len(parts) != 2 || parts[1] != "number") || parts[0] == "house" && len(parts) > 1 {
		m.absent(w)
		return
	}
	if !in && !(m.leak == "permanent public links" && verb == "listen") {
		if r.Method == "GET" && verb != "listen" && verb != "talk" {
			w.Header().Set("Location", "/in")
			w.WriteHeader(http.StatusSeeOther)
			return
		}
		m.absent(w)
		return
	}
	id := ""
	switch {
	case len(parts) > 1 && parts[0] != "me" && parts[0] != "call":
		id = parts[1]
	case parts[0] == "house":
		id = houseID
	default:
		id = who.Person
	}
	if !m.opens(w, who, verb, id) {
		return
	}
	m.show(w, r, who, verb, id)
}

// yeses shows what lasts of an identity, and ends one that a form names.
func (m *model) yeses(w http.ResponseWriter, r *http.Request, who Identity, in bool) {
	ends := strings.HasSuffix(r.URL.Path, "/end")
	switch {
	case ends && r.Method != "POST", !ends && r.Method != "GET", !in && ends, in && !m.may(who, "manage", who.Person):
		m.absent(w)
	case !in:
		w.Header().Set("Location", "/in")
		w.WriteHeader(http.StatusSeeOther)
	case !ends:
		for id, of := range m.lasting {
			if of == who.Person {
				fmt.Fprintf(w, `<input name="lasting" value="%s">`, id)
			}
		}
	default:
		id := r.PostFormValue("lasting")
		of, there := m.lasting[id]
		switch {
		case there && (of == who.Person || m.leak == "a form that ends another's"):
			delete(m.lasting, id)
			w.Header().Set("Location", "/me/lasting")
			w.WriteHeader(http.StatusSeeOther)
		case there && m.leak == "a refusal that ends":
			delete(m.lasting, id)
			m.absent(w)
		case there && m.leak == "a form that knows another's":
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, "this is not yours\n")
		default:
			m.absent(w)
		}
	}
}

// opens is the gate of the model, with its leaks.
func (m *model) opens(w http.ResponseWriter, who Identity, verb, id string) bool {
	there := false
	for _, i := range m.file.Identities {
		there = there || slices.Contains(i.May[verb], id)
	}
	switch {
	case m.may(who, verb, id), verb == "listen" && (m.sharedWith(who, id) || m.leak == "permanent public links"):
		return true
	case m.leak == "tickets for any voice" && verb == "listen" && there:
		return true // the ticket is the only lock
	case m.leak == "any signed-in user reads all" && there && verb == "view":
		return true
	case m.leak == "any signed-in user acts" && there && verb == "withdraw":
		return true
	case m.leak == "strangers talk" && there && verb == "talk":
		return true
	case m.leak == "anybody sees the house" && verb == "verify":
		return true
	case m.leak == "forbidden differs in words" && there:
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, "this is not yours\n")
		return false
	case m.leak == "forbidden differs in a header" && there:
		w.Header().Set("X-Request", "1")
	case m.leak == "forbidden takes longer" && there:
		m.lateness = 3 * time.Millisecond
	case m.leak == "a refusal that acts" && there && verb == "allow":
		m.shared[id] = true
	case m.leak == "a refusal that speaks" && there && verb == "talk":
		m.paused[id] = true
	case m.leak == "a refusal with its reason" && verb == "talk":
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"error":"no","reason":"not a party"}`)
		return false
	}
	m.absent(w)
	return false
}

// sharedWith: whoever is on a call hears the tracks of it that are shared.
func (m *model) sharedWith(who Identity, track string) bool {
	for _, owner := range m.file.Identities {
		if m.may(owner, "listen", track) && len(who.May["view"]) > 0 && m.may(owner, "view", who.May["view"][0]) {
			return m.shared[who.May["view"][0]] || m.leak == "sharing does not stop"
		}
	}
	return false
}

func (m *model) show(w http.ResponseWriter, r *http.Request, who Identity, verb, id string) {
	if verb == "view" || verb == "log" || verb == "listen" {
		m.tell(who, verb, id)
	}
	switch verb {
	case "view":
		m.showCall(w, who, id)
	case "log":
		io.WriteString(w, "<table>")
		for i := len(m.list[id]) - 1; i >= 0; i-- {
			fmt.Fprintf(w, "<tr><td>%s</td></tr>", m.list[id][i])
		}
	case "allow", "withdraw":
		r.ParseForm()
		m.shared[id] = verb == "allow"
		if other := r.PostForm.Get("call"); other != "" && m.leak == "a form that names another" {
			m.shared[other] = true
		}
		w.Header().Set("Location", "/calls/"+id)
		w.WriteHeader(http.StatusSeeOther)
	case "list":
		fmt.Fprintf(w, `<a href="/calls/%s">`, who.May["view"][0])
	case "reveal":
		io.WriteString(w, who.Number)
	case "dial":
		m.look(w, r.PostFormValue("number"))
	case "talk":
		m.talk(w, r, who, id)
	case "listen":
		m.play(w, r, who, id)
	default:
		io.WriteString(w, "fine")
	}
}

// look tells what a number is.
func (m *model) look(w http.ResponseWriter, number string) {
	w.Header().Set("Content-Type", "application/json")
	rule := "both are asked"
	if m.leak == "a look that knows who is here" && slices.ContainsFunc(m.file.Identities, func(i Identity) bool { return i.Number == number }) {
		rule = "they are asked"
	}
	if len(number) > 20 || strings.Trim(number, "+0123456789") != "" {
		number = ""
	}
	fmt.Fprintf(w, `{"shown":%q,"rule":%q}`, number, rule)
}

// talk is what a page says to a call that goes on, and how the call stands.
func (m *model) talk(w http.ResponseWriter, r *http.Request, who Identity, call string) {
	w.Header().Set("Content-Type", "application/json")
	if r.Method == "POST" {
		m.paused[call] = r.PostFormValue("word") == "pause"
		io.WriteString(w, "{}")
		return
	}
	fmt.Fprintf(w, `{"version":%d,"paused":%v`, time.Now().UnixMilli(), m.paused[call])
	if m.leak == "a field too many for a script" {
		io.WriteString(w, `,"other":"somebody"`)
	}
	io.WriteString(w, "}")
}

func (m *model) showCall(w http.ResponseWriter, who Identity, id string) {
	page := fmt.Sprintf("<p>shared: %v</p>", m.shared[id])
	for _, i := range m.file.Identities {
		if !m.may(i, "view", id) || i.Cookie == "" {
			continue
		}
		track := i.May["listen"][0]
		if i.Person == who.Person || m.sharedWith(who, track) {
			page += fmt.Sprintf(`<audio src="/tracks/%s/audio"></audio>`, track)
			text := track + "," + who.Cookie[:8]
			w.Header().Add("Set-Cookie", fmt.Sprintf("yesline-ticket=%s.%s; Path=/tracks/%s/; HttpOnly; SameSite=Strict", base64.RawURLEncoding.EncodeToString([]byte(text)), m.sign(text), track))
		}
		if m.leak == "answers with hidden fields" {
			page += fmt.Sprintf(`<p data-number="%s">`, i.Number)
		}
	}
	if m.leak == "an id of somebody else" {
		page += m.file.Identities[len(m.file.Identities)-1].Person
	}
	if m.leak == "an id of somebody whom nobody knows" {
		page += "42" + string(yesline.NewPersonID())
	}
	io.WriteString(w, page)
}

// tell writes an access list.
func (m *model) tell(who Identity, verb, id string) {
	if m.leak == "nobody can say who read" && verb != "log" {
		return
	}
	for _, i := range m.file.Identities {
		if m.may(i, verb, id) && i.Cookie != "" {
			call := i.May["view"][0]
			m.list[call] = append(m.list[call], fmt.Sprintf("%s did %s at %d", who.Role, verb, time.Now().UnixNano()))
			return
		}
	}
}

func (m *model) play(w http.ResponseWriter, r *http.Request, who Identity, track string) {
	c, err := r.Cookie("yesline-ticket")
	if err != nil && m.leak != "sound without a ticket" && m.leak != "permanent public links" {
		m.absent(w)
		return
	}
	if err == nil {
		text, mac, _ := strings.Cut(c.Value, ".")
		raw, _ := base64.RawURLEncoding.Strict().DecodeString(text)
		forTrack, session, _ := strings.Cut(string(raw), ",")
		good := hmac.Equal([]byte(mac), []byte(m.sign(string(raw)))) && base64.RawURLEncoding.EncodeToString(raw) == text || m.leak == "tickets without a signature" && len(mac) > 10
		good = good && (forTrack == track || m.leak == "tickets for any voice") && (session == who.Cookie[:8] || m.leak == "tickets for any session")
		if m.leak == "old tickets" && text == "old" {
			good = true
		}
		if !good {
			m.absent(w)
			return
		}
	}
	w.Header().Set("Content-Type", "audio/wav")
	w.WriteHeader(http.StatusPartialContent)
	io.WriteString(w, "RIFF0000WAVE")
}

// media plays by an address: bound to the client's name, and good as long as
// its holder may listen.
func (m *model) media(w http.ResponseWriter, r *http.Request, ticket string) {
	text, mac, _ := strings.Cut(ticket, ".")
	if r.Method != "GET" || mac != m.sign(text+r.Header.Get("User-Agent")) && (m.leak != "addresses for any client" || mac != m.sign(text+"yesline-attack")) {
		m.absent(w)
		return
	}
	track, person, _ := strings.Cut(text, "-")
	i := slices.IndexFunc(m.file.Identities, func(i Identity) bool { return i.Person == "per_"+person })
	if i < 0 || !m.may(m.file.Identities[i], "listen", "trk_"+track) && !m.sharedWith(m.file.Identities[i], "trk_"+track) && m.leak != "an address outlives sharing" {
		m.absent(w)
		return
	}
	w.Header().Set("Content-Type", "audio/wav")
	io.WriteString(w, "RIFF0000WAVE")
}

func (m *model) api(w http.ResponseWriter, r *http.Request, parts []string) {
	w.Header().Set("Content-Type", "application/json")
	who, in := m.who(r, true)
	verb := map[string]string{"GET calls": "view", "POST calls share": "allow", "POST tracks ticket": "listen"}[strings.Join(append([]string{r.Method, parts[0]}, parts[min(2, len(parts)):]...), " ")]
	if verb == "" || len(parts) < 2 {
		m.absent(w)
		return
	}
	if !in {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	id := parts[1]
	if !m.may(who, verb, id) && !(verb == "listen" && m.sharedWith(who, id)) {
		m.absent(w)
		return
	}
	switch verb {
	case "view":
		fmt.Fprintf(w, `{"id":%q,"shared":%v`, id, m.shared[id])
		if m.leak == "a field too many" {
			io.WriteString(w, `,"earned":12`)
		}
		io.WriteString(w, "}")
	case "allow":
		m.apiShare(w, r, id)
	case "listen":
		until := time.Now().Add(2 * time.Minute)
		if m.leak == "tickets for a day" {
			until = until.Add(24 * time.Hour)
		}
		text := id[4:] + "-" + who.Person[4:]
		fmt.Fprintf(w, `{"url":"/media/%s.%s","expires":%q}`, text, m.sign(text+r.Header.Get("User-Agent")), until.Format(time.RFC3339))
	}
}

func (m *model) apiShare(w http.ResponseWriter, r *http.Request, id string) {
	var in struct {
		Share *bool `json:"share"`
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	if m.leak == "a body without end" {
		d = json.NewDecoder(r.Body)
	}
	if m.leak != "fields that nobody asked for" {
		d.DisallowUnknownFields()
	}
	kind := r.Header.Get("Content-Type")
	if kind != "application/json" && m.leak != "text as a document" || r.Header.Get("Content-Encoding") != "" || d.Decode(&in) != nil || in.Share == nil ||
		func() bool { _, err := d.Token(); return err != io.EOF }() {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	m.shared[id] = *in.Share
	io.WriteString(w, `{"ok":true}`)
}
