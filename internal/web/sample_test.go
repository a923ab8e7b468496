package web

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audio"
	"yesline/internal/audit"
	"yesline/internal/consent"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
	"yesline/internal/playback"
	"yesline/internal/session"
)

// ids that look alike in every run.
func id(prefix, name string) string {
	return prefix + "_" + (name + strings.Repeat("a", 32))[:32]
}

var (
	ann     = yesline.PersonID(id("per", "ann"))
	bob     = yesline.PersonID(id("per", "bob"))
	eve     = yesline.PersonID(id("per", "eve"))
	program = yesline.ProgramID(id("prg", "field"))
	other   = yesline.ProgramID(id("prg", "other"))
	trkAnn  = yesline.TrackID(id("trk", "ann"))
	trkBob  = yesline.TrackID(id("trk", "bob"))
	receipt = yesline.ReceiptID(id("rcp", "first"))
	day     = time.Date(2026, 3, 3, 14, 2, 0, 0, time.UTC)
)

func callID(name string) yesline.CallID { return yesline.CallID(id("cal", name)) }

// question is what the gate was asked.
type question struct {
	who    string
	verb   access.Verb
	object access.Object
	detail map[string]string
}

// sample is a house with known people in it. Its gate says yes to a party of
// a call, and remembers what it was asked.
type sample struct {
	House
	mu        sync.Mutex
	asked     []question
	gate      *access.Gate
	sessions  *session.Sessions
	content   *db.DB
	cases     *access.Cases
	tickets   *playback.Tickets
	cookies   map[string]string  // by name
	token     string             // a link of ann's that nobody used
	sent      []Message          // what would have gone to phones
	newcomers []yesline.PersonID // who signed up
	claiming  string             // the cookie of who is signing up
	opened    access.Case        // the case that was made last
	chosen    map[yesline.PersonID]consent.Choice
	closed    bool // the gate says no to everybody from now on
	answers   int  // or after this many more answers, if not 0
	set       []string
	evidence  consent.Evidence
	standings map[yesline.CallID]map[yesline.PersonID]consent.Standing
	calls     []Call
	seconds   int64
	measured  bool // of ann's voice: how much of it is speech
	speech    int64
	codec     audio.Codec
	lines     []audit.Line         // of the log of a call; nil: some
	yeses     []consent.LastingYes // of ann's that last
	tried     int                  // how often one was to be ended
	refused   []Refused
	receipts  []yesline.ReceiptID
	windows   []span
	exchange  *exchange
}

func newSample(t testing.TB) *sample {
	t.Helper()
	s := &sample{seconds: 100, measured: true, speech: 61, codec: audio.PCMU, cookies: map[string]string{}, chosen: map[yesline.PersonID]consent.Choice{}}
	both := []yesline.PersonID{ann, bob}
	add := func(name string, ago time.Duration, seconds int64, mine, theirs consent.Standing) {
		c := Call{ID: callID(name), Parties: both, Began: day.Add(-ago), Seconds: seconds, Strict: name != "onesided"}
		mine.AtMillis, theirs.AtMillis = c.Began.Add(9*time.Second).UnixMilli(), c.Began.Add(14*time.Second).UnixMilli()
		if s.standings == nil {
			s.standings = map[yesline.CallID]map[yesline.PersonID]consent.Standing{}
		}
		s.calls = append(s.calls, c)
		s.standings[c.ID] = map[yesline.PersonID]consent.Standing{ann: mine, bob: theirs}
	}
	add("live", -20*time.Minute, 0, consent.Standing{Record: consent.Yes}, consent.Standing{Record: consent.Yes})
	s.calls[0].Live = true
	add("both", 0, 192, consent.Standing{Record: consent.Yes, Share: true}, consent.Standing{Record: consent.Yes, Share: true, License: true})
	add("private", time.Hour, 754, consent.Standing{Record: consent.Yes, License: true}, consent.Standing{Record: consent.Yes})
	add("refused", 3*time.Hour, 48, consent.Standing{Record: consent.Yes}, consent.Standing{Record: consent.No})
	add("onesided", 25*time.Hour, 301, consent.Standing{Record: consent.Yes}, consent.Standing{Record: consent.No})
	add("stopped", 26*time.Hour, 95, consent.Standing{Record: consent.Stopped}, consent.Standing{Record: consent.Yes})
	add("withdrawn", 27*time.Hour, 4000, consent.Standing{Record: consent.Withdrawn}, consent.Standing{Record: consent.Yes, Share: true})
	add("silent", 28*time.Hour, 12, consent.Standing{}, consent.Standing{})
	s.signUp(t)
	s.employ(t)
	gate, err := access.New(func(context.Context, audit.Entry) (audit.Ref, error) {
		return audit.Ref{DB: "content", Leaf: "ent"}, nil
	}, s.facts())
	if err != nil {
		t.Fatalf("building the gate: %v", err)
	}
	t.Cleanup(func() { gate.Close(context.Background()) })
	s.gate = gate
	s.exchange = newExchange()
	s.House = s.house()
	return s
}

func (s *sample) house() House {
	return House{
		Accounts:  s.accounts(),
		Joining:   s.joining(),
		Work:      s.work(),
		Tickets:   Tickets{Issue: s.tickets.Issue, Check: s.tickets.Check, Slide: s.tickets.Slide},
		Dialer:    s.exchange.dialer(),
		API:       API{WhoKey: s.sessions.WhoKey, WhoKeyID: s.sessions.WhoKeyID, KeyOf: s.tickets.KeyOf},
		LogKey:    "yesline.example/log+1f2e3d4c+AWr8pJ0v1nJm6fB7Yw0cQ9eXH1b2c3d4e5f6g7h8i9j0",
		RedeemAny: s.sessions.RedeemAny,
		Who:       s.sessions.Who,
		End:       s.sessions.End,
		Ask:       s.ask,
		AskSet:    s.askSet,
		Calls:     s.listCalls,
		Call:      s.oneCall,
		Masks:     masks,
		Standings: s.someStandings,
		Tracks:    s.tracks,
		Set: func(_ context.Context, _ access.Permit, call yesline.CallID, p consent.Purpose, ev consent.Evidence) error {
			s.set, s.evidence = append(s.set, "set "+string(p)), ev
			return nil
		},
		Withdraw: func(_ context.Context, _ access.Permit, call yesline.CallID, p consent.Purpose, ev consent.Evidence) error {
			s.set, s.evidence = append(s.set, "withdraw "+string(p)), ev
			if p == consent.Record {
				s.receipts = []yesline.ReceiptID{receipt}
			}
			return nil
		},
		Shape: func(_ context.Context, t yesline.TrackID) (playback.Shape, error) {
			if t == trkAnn || t == trkBob {
				return playback.ShapeOf(s.seconds, s.codec), nil
			}
			return playback.Shape{}, fmt.Errorf("looking up a track: %w", yesline.NotFound)
		},
		Original: s.original,
		Done:     func([]byte) {},
		Part: func(_ context.Context, p access.Permit, t yesline.TrackID, shape playback.Shape, from, to int64) ([]byte, error) {
			if _, err := p.Allows(access.Listen, "track", string(t)); err != nil {
				return nil, err
			}
			s.mu.Lock()
			s.windows = append(s.windows, span{from: from, to: to})
			s.mu.Unlock()
			if shape != playback.ShapeOf(s.seconds, s.codec) {
				return nil, fmt.Errorf("a part of another shape: %w", yesline.Invalid)
			}
			if s.codec == audio.Opus {
				return wide(t, s.seconds)[from:min(to, shape.Size())], nil
			}
			return tone(t, s.seconds, from, to), nil
		},
		Peaks: func(_ context.Context, p access.Permit, t yesline.TrackID) (audio.Peaks, error) {
			if _, err := p.Allows(access.Listen, "track", string(t)); err != nil {
				return audio.Peaks{}, err
			}
			return drawn(t, s.seconds), nil
		},
		About: func(_ context.Context, person yesline.PersonID, objects []string, before int64, limit int) ([]audit.Line, error) {
			if objects[0] == string(person) || objects[0] == "" {
				return accountEntriesOf(person, objects[0]), nil
			}
			if s.lines != nil {
				return s.lines, nil
			}
			return sampleLines(objects), nil
		},
		Receipts: func(_ context.Context, call yesline.CallID, _ yesline.PersonID) ([]yesline.ReceiptID, error) {
			if call == callID("withdrawn") {
				return []yesline.ReceiptID{receipt}, nil
			}
			return s.receipts, nil
		},
		Receipt: func(context.Context, access.Permit, yesline.ReceiptID) (Receipt, error) {
			return Receipt{Statement: audit.Entry{Verb: "track.destroyed", Object: string(trkAnn), AtMillis: day.UnixMilli()},
				Call: callID("withdrawn"), JSON: []byte(`{"receipt":1}`)}, nil
		},
		Reveal: func(context.Context, access.Permit, yesline.PersonID) (yesline.Phone, error) {
			return yesline.NewPhone("+12025550142")
		},
		Lasting: Lasting{Of: s.lastingOf, End: s.endLasting},
		Refused: func(context.Context) ([]Refused, error) { return s.refused, nil },
		Live:    func(context.Context) (int, error) { return 3, nil },
		Checkpoint: func(context.Context) (Checkpoint, error) {
			return Checkpoint{Entries: 18204, At: day, Note: "yesline.example/log\n18204\nq1Zt0mCqW8XoE4lLkq3sZ1i0cPjX0vN0m3hJrT2bG4c=\n\n— yesline.example/log Hy49TAb2xvQy0m7rS1kq8p3Yw==\n"}, nil
		},
		Programs: func(context.Context) ([]Program, error) { return []Program{{program, "Field recordings"}}, nil },
		Verify:   func(context.Context) (audit.Report, error) { return audit.Report{Entries: 18204}, nil },
		Number: func(_ context.Context, _ yesline.ProgramID, written string) (yesline.Phone, error) {
			return yesline.NewPhone(strings.NewReplacer(" ", "", "-", "", "(", "", ")", "").Replace(written))
		},
		Invite: func(context.Context, access.Permit, yesline.ProgramID, yesline.Phone) (Invitation, error) {
			return Invitation{Token: "k3v5sample7link2token4only6here", Mask: "+1 ••• ••42"}, nil
		},
		LogCheckpoint: func(context.Context) (string, error) { return "yesline.example/log\n18204\n", nil },
		LogTile: func(_ context.Context, path string) ([]byte, error) {
			if path != "0/000" {
				return nil, yesline.NotFound
			}
			return bytes.Repeat([]byte{7}, 8192), nil
		},
	}
}

// signUp gives everybody a link, and keeps the cookies of those who used one.
func (s *sample) signUp(t testing.TB) {
	t.Helper()
	plain := func(_ context.Context, _ yesline.ProgramID, _, data []byte) ([]byte, error) { return data, nil }
	var err error
	s.content = dbtest.SQLite(t)("content")
	s.sessions, err = session.New(t.Context(), s.content, "yesline.example", session.Sealing{Seal: plain, Open: plain})
	if err != nil {
		t.Fatalf("opening the sessions: %v", err)
	}
	for name, person := range map[string]yesline.PersonID{"ann": ann, "bob": bob, "eve": eve, "link": ann} {
		token, err := s.sessions.LinkFor(t.Context(), program, person)
		if err != nil {
			t.Fatalf("making a link: %v", err)
		}
		s.use(t, name, token)
	}
	if err := s.sessions.UsePasskeys(session.Passkeys{RPID: "localhost", Origin: "http://localhost", Name: "Yesline"}); err != nil {
		t.Fatalf("setting passkeys up: %v", err)
	}
}

// use redeems a token, except the one that a test wants to use itself.
func (s *sample) use(t testing.TB, name, token string) {
	t.Helper()
	if name == "link" {
		s.token = token
		return
	}
	cookie, _, err := s.sessions.Redeem(t.Context(), token)
	if err != nil {
		t.Fatalf("signing %s in: %v", name, err)
	}
	s.cookies[name] = cookie
}

// facts are what the sample knows of its objects. Bob shares with ann.
func (s *sample) facts() map[string]access.Loader {
	both := []yesline.PersonID{ann, bob}
	known := map[string]access.Facts{
		string(trkAnn):  {Program: program, Owner: ann, Parties: both, Kept: true},
		string(trkBob):  {Program: program, Owner: bob, Parties: both, SharedWith: []yesline.PersonID{ann}, Kept: true},
		string(receipt): {Program: program, Owner: ann},
		string(program): {Program: program},
		string(other):   {Program: other},
	}
	for _, p := range []yesline.PersonID{ann, bob, eve} {
		known[string(p)] = access.Facts{Program: program, Owner: p}
	}
	for _, c := range s.calls {
		known[string(c.ID)] = access.Facts{Program: program, Parties: c.Parties}
	}
	load := func(kind string) access.Loader {
		return func(ctx context.Context, ids []string) (map[string]access.Facts, error) {
			found := map[string]access.Facts{}
			for _, id := range ids {
				f, ok := known[id]
				if !ok && s.joined(yesline.PersonID(id)) {
					f, ok = access.Facts{Program: program, Owner: yesline.PersonID(id)}, true
				}
				if !ok {
					continue
				}
				about := []access.Object{{Kind: kind, ID: id}}
				if kind == "track" { // the sample's two voices are in all its calls
					for _, c := range s.calls {
						about = append(about, access.Object{Kind: "call", ID: string(c.ID)})
					}
				}
				open, err := s.cases.OpenTo(ctx, about)
				if err != nil {
					return nil, err
				}
				for _, staff := range open {
					f.OpenTo = append(f.OpenTo, staff...)
				}
				found[id] = f
			}
			return found, nil
		}
	}
	all := map[string]access.Loader{"case": s.cases.Facts}
	for _, kind := range []string{"call", "track", "person", "receipt", "program"} {
		all[kind] = load(kind)
	}
	for _, kind := range []string{"account", "session", "passkey", "key", "device"} {
		all[kind] = s.belongings
	}
	all["staff"] = s.colleagues
	return all
}

func (s *sample) joined(p yesline.PersonID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.newcomers, p)
}

// ask is the real gate, whose questions are kept. It can be told to refuse.
func (s *sample) ask(ctx context.Context, who session.Principal, v access.Verb, o access.Object, detail map[string]string) (access.Permit, error) {
	return s.askSet(ctx, who, v, []access.Object{o}, detail)
}

func (s *sample) askSet(ctx context.Context, who session.Principal, v access.Verb, objects []access.Object, detail map[string]string) (access.Permit, error) {
	s.mu.Lock()
	for _, o := range objects {
		s.asked = append(s.asked, question{who.String(), v, o, maps.Clone(detail)})
	}
	closed := s.closed
	if s.answers > 0 {
		s.answers--
		s.closed = s.answers == 0
	}
	s.mu.Unlock()
	if closed {
		return access.Permit{}, fmt.Errorf("asking the gate: %w", yesline.NotFound)
	}
	return s.gate.AskSet(ctx, who, v, objects, detail)
}

func (s *sample) questions() []question {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func (s *sample) listCalls(_ context.Context, who yesline.PersonID, cursor string, limit int) ([]Call, string, error) {
	if who != ann {
		return nil, "", nil
	}
	return slices.Clone(s.calls), "cursor", nil
}

func (s *sample) oneCall(_ context.Context, id yesline.CallID) (Call, error) {
	for _, c := range s.calls {
		if c.ID == id {
			return c, nil
		}
	}
	return Call{}, yesline.NotFound
}

func (s *sample) someStandings(_ context.Context, ids []yesline.CallID) (map[yesline.CallID]map[yesline.PersonID]consent.Standing, error) {
	return s.standings, nil
}

func (s *sample) tracks(_ context.Context, id yesline.CallID) ([]Track, error) {
	c, err := s.oneCall(context.Background(), id)
	return []Track{{ID: trkAnn, Person: ann, Seconds: s.seconds, Closed: !c.Live, Opus: s.codec == audio.Opus, Measured: s.measured, Speech: s.speech}, {ID: trkBob, Person: bob, Seconds: s.seconds, Closed: !c.Live, Opus: s.codec == audio.Opus}}, err
}

func masks(_ context.Context, people []yesline.PersonID) (map[yesline.PersonID]string, error) {
	return map[yesline.PersonID]string{ann: "+1 ••• ••42", bob: "+44 •••• ••07"}, nil
}

// tone is the virtual WAV of a track in the sample: a tone that swells.
func tone(t yesline.TrackID, seconds, from, to int64) []byte {
	h, _ := audio.WAVHeader(seconds * audio.Rate)
	whole := h[:]
	pitch := 330.0
	if t == trkBob {
		pitch = 220
	}
	for i := range seconds * audio.Rate {
		at := float64(i) / audio.Rate
		whole = audio.PCM(whole, []int16{int16(9000 * loud(t, at) * math.Sin(2*math.Pi*pitch*at))})
	}
	return whole[from:min(to, playback.Size(seconds))]
}

// loud is how loud a voice is at a moment: turns of speaking, with syllables.
func loud(t yesline.TrackID, at float64) float64 {
	turn := math.Sin(at/7 + 0.4)
	if t == trkBob {
		turn = -turn
	}
	if turn < 0.08 {
		return 0.015
	}
	return math.Min(1, turn+0.2) * (0.35 + 0.65*math.Abs(math.Sin(at*2.9)*math.Sin(at*1.3+1)))
}

func drawn(t yesline.TrackID, seconds int64) audio.Peaks {
	p := audio.Peaks{PerSecond: audio.PeaksPerSecond}
	for i := range int(seconds) * audio.PeaksPerSecond {
		at := float64(i) / audio.PeaksPerSecond
		gap := t == trkBob && at > 61 && at < 66
		v := byte(110 * loud(t, at))
		if gap {
			v = 0
		}
		p.Values, p.Present = append(p.Values, v), append(p.Present, !gap)
	}
	return p
}

func sampleLines(objects []string) []audit.Line {
	at := day.Add(40 * time.Minute)
	var lines []audit.Line
	say := func(actor, verb, object, result string, detail map[string]string) {
		at = at.Add(-time.Minute)
		lines = append(lines, audit.Line{Entry: audit.Entry{Actor: actor, Verb: verb, Object: object, Result: result, Detail: detail, AtMillis: at.UnixMilli()}})
	}
	call := objects[0]
	say(string(ann), "log", call, "allowed", nil)
	say(string(bob), "listen", string(trkAnn), "allowed", map[string]string{"part": "sound", "from": "40", "seconds": "32"})
	say(string(bob), "listen", string(trkAnn), "allowed", map[string]string{"part": "sound", "from": "8", "seconds": "32"})
	say(string(bob), "listen", string(trkAnn), "allowed", map[string]string{"part": "sound", "from": "0", "seconds": "8"})
	say(string(bob), "listen", string(trkAnn), "allowed", map[string]string{"part": "waveform"})
	say(string(ann), "consent.yes", call, "done", map[string]string{"purpose": "share"})
	say(string(ann), "allow", call, "allowed", nil)
	say(string(ann), "view", call, "allowed", nil)
	say(string(bob), "view", call, "allowed", map[string]string{"part": "list"})
	say(string(ann), "listen", string(trkBob), "refused", nil)
	say("svc:finish", "finish", string(trkAnn), "allowed", nil)
	return lines
}

// accountEntriesOf is what the sample's log says of a person's record, or, with
// no object, of anything: then with the entries about voices in between.
func accountEntriesOf(person yesline.PersonID, object string) []audit.Line {
	at := day.Add(time.Hour)
	var lines []audit.Line
	say := func(actor, verb, object, result string, detail map[string]string) {
		at = at.Add(-time.Minute)
		lines = append(lines, audit.Line{Entry: audit.Entry{Actor: actor, Verb: verb, Object: object, Result: result, Detail: detail, AtMillis: at.UnixMilli()}})
	}
	me := string(person)
	say(me, "log", me, "allowed", nil)
	say(me, "list", me, "allowed", nil)
	say(me, "list", me, "allowed", nil)
	say(string(bob), "view", "", "allowed", map[string]string{"part": "list", "count": "3"})
	say(me, "view", "", "allowed", map[string]string{"part": "list", "count": "8"})
	say(me, "reveal", me, "allowed", nil)
	say(string(bob), "listen", string(trkAnn), "allowed", map[string]string{"part": "sound", "from": "0", "seconds": "8"})
	say("os:1000", "list", me, "refused", nil)
	say(me, "signed-in", me, "done", nil)
	say("os:1000", "invited", me, "done", nil)
	return slices.DeleteFunc(lines, func(l audit.Line) bool { return object != "" && l.Entry.Object != object })
}

func newSite(t testing.TB, s *sample) *Site {
	t.Helper()
	site, err := New(s.House)
	if err != nil {
		t.Fatalf("building the site: %v", err)
	}
	return site
}
