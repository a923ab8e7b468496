package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"yesline"
	"yesline/internal/access"
)

// Dialer is how a person telephones from a page. Every func that gets a permit
// acts for permit.Who().Person(); the others are asked for them only after the
// gate said yes.
//
// What a func refuses with words for the person is a *Refusal; any other error
// is told by its kind alone. yesline.NotFound for a call means that it is not
// going on: only its parties hear that.
type Dialer struct {
	// Look says what a number is, as far as it was typed.
	Look func(ctx context.Context, program yesline.ProgramID, person yesline.PersonID, written string) (Look, error)

	// Servers are what the browser's RTCPeerConnection may use; none is good.
	Servers func(person yesline.PersonID) []ICEServer

	// Dial calls a number from the browser: it takes its whole offer (no trickle)
	// and gives the call and our answer. It does not wait for anybody.
	Dial func(ctx context.Context, permit access.Permit, offer, to string) (yesline.CallID, string, error)

	// RingMe rings the person's own number first, and then the other.
	RingMe func(ctx context.Context, permit access.Permit, to string) (yesline.CallID, error)

	// Incoming waits until what rings for the person is another than Version
	// after says, or ctx ends; then it gives what is true now.
	Incoming func(ctx context.Context, permit access.Permit, after int64) (Incoming, error)

	// Answer picks a ringing call up, Reconnect brings another offer of a browser
	// whose network changed.
	Answer, Reconnect func(ctx context.Context, permit access.Permit, call yesline.CallID, offer string) (string, error)

	// Say does in a call what a word says, and the same as the key that means it:
	// agree, agree_always, decline, stop, pause, resume, record, hangup, or "key=" and one of
	// 0123456789*#. "hangup" to a call that rings turns it away.
	Say func(ctx context.Context, permit access.Permit, call yesline.CallID, word string) error

	// State waits until the call's version is above after, or ctx ends; then it
	// gives the call as the person has it now.
	State func(ctx context.Context, permit access.Permit, call yesline.CallID, after int64) (CallState, error)

	RelayOnly   bool     // the browser's line goes by the servers only
	Friends     []Friend // whom the page offers to call; a demo has some
	SampleVoice []byte   // a WAV that may be sent in place of a microphone's sound; nil: none
}

// Look is what is known of a number before it is called.
type Look struct {
	Shown   string `json:"shown"`   // as people write it
	Place   string `json:"place"`   // where it is
	Rule    string `json:"rule"`    // who is asked there, in a sentence
	Refused string `json:"refused"` // why it cannot be called, in a sentence; "" when it can
}

// ICEServer is one of RTCPeerConnection's iceServers.
type ICEServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username"`
	Credential string   `json:"credential"`
}

// Incoming is what rings for a person now; Call is "" when nothing does.
type Incoming struct {
	Version int64          `json:"version"` // above 0, another with every change
	Call    yesline.CallID `json:"call"`
	From    string         `json:"from"` // the caller's mask
}

// CallState is a call as one of its parties has it: capture's Status of their
// leg, and the other's mask.
type CallState struct {
	Version    int64  `json:"version"`    // above 0, greater with every change
	State      string `json:"state"`      // ringing, notice, asking, bridged, ended
	Recording  string `json:"recording"`  // both, me, them, nobody
	Question   bool   `json:"question"`   // an answer of mine is waited for
	MayAgree   bool   `json:"mayAgree"`   // and the question's last word was said
	MayLast    bool   `json:"mayLast"`    // and agree_always says yes to all calls with the other
	LeftMillis int64  `json:"leftMillis"` // how long my answer is still waited for; 0: not counted yet
	Mine       string `json:"mine"`       // yes, no; "": none yet
	Theirs     bool   `json:"theirs"`     // an answer of the other's is waited for
	Away       bool   `json:"away"`       // and they did not pick up yet
	Paused     bool   `json:"paused"`
	CanAsk     bool   `json:"canAsk"`  // record asks both
	Reason     string `json:"reason"`  // in words, why nothing of this call can be recorded; "" when it can
	Ending     string `json:"ending"`  // in words, how it ended
	Other      string `json:"other"`   // the other's mask
	Seconds    int64  `json:"seconds"` // since both hear each other
}

// Friend is somebody whom a demo offers to call.
type Friend struct {
	Name, Number string
	About        string // who that is, in a sentence
}

// callWords are what a party may say to a call by its page, beside "key=" and a
// key.
var callWords = []string{"agree", "agree_always", "decline", "stop", "pause", "resume", "record", "hangup"}

// Refusal is a no with a sentence for whoever asked. The sentence repeats
// nothing that was sent.
type Refusal struct {
	Sentence string
	Why      error // its kind decides the status
}

func (r *Refusal) Error() string { return "refused in words: " + r.Why.Error() }
func (r *Refusal) Unwrap() error { return r.Why }

const (
	waitTime     = 26 * time.Second // at most, until an ask is answered with what was known before; rooms that wait 25 s by themselves come first
	writtenBytes = 64               // of a number
	offerBytes   = 32 << 10
)

// dialRows are the doors of the dialer. Numbers and offers come in bodies, so
// that no proxy writes them down with the address.
func (s *Site) dialRows() []row {
	if s.house.Dialer.Dial == nil {
		return nil
	}
	me, call := own(access.Dial, "person"), of(access.Talk, "call", "call")
	rows := []row{
		page("GET /call", me, s.dialer),
		say("POST /call/look", me, s.look).needs("number").quiet(),
		ask("GET /call/servers", me, s.servers),
		say("POST /call", me, s.place).needs("to", "sdp"),
		say("POST /call/phone", me, s.ringMe).needs("to"),
		ask("GET /call/incoming", me, s.incoming).needs("after"),
		say("POST /calls/{call}/answer", call, s.pickUp).needs("sdp"),
		say("POST /calls/{call}/reconnect", call, s.reconnect).needs("sdp"),
		say("POST /calls/{call}/say", call, s.sayWord).needs("word"),
		ask("GET /calls/{call}/state", call, s.callState).needs("after"),

		public("GET /manifest.webmanifest", "tells a browser how to install the dialer; the same for everybody", s.manifest),
		public("GET /sw.js", "keeps styles and scripts for when there is no network, and nothing about anybody", s.worker),
		public("GET /offline", "the page that is shown when there is no network", s.offline),
	}
	if s.house.Dialer.SampleVoice != nil {
		rows = append(rows, public("GET /call/voice", "a made-up voice for those without a microphone; it is nobody's", s.sampleVoice))
	}
	return rows
}

type dialView struct {
	Mask    string // of the asker's own number
	Friends []Friend
	Sample  bool // there is a voice for those without a microphone
	Keys    []dialKey
}

// dialKey is a key of the keypad; Name is how it is read out, if not as it looks.
type dialKey struct{ Key, Letters, Name string }

var keypad = []dialKey{{"1", "", ""}, {"2", "ABC", ""}, {"3", "DEF", ""}, {"4", "GHI", ""}, {"5", "JKL", ""}, {"6", "MNO", ""},
	{"7", "PQRS", ""}, {"8", "TUV", ""}, {"9", "WXYZ", ""}, {"*", "", "Star"}, {"0", "+", ""}, {"#", "", "Hash"}}

func (dialView) template() string { return "dial" }

// dialer is the one page that may use the microphone.
func (s *Site) dialer(ctx context.Context, a asked) (answer, error) {
	me := a.Who.Person()
	masks, err := s.house.Masks(ctx, []yesline.PersonID{me})
	if err != nil {
		return answer{}, err
	}
	d := s.house.Dialer
	page := show(dialView{Mask: masks[me], Friends: d.Friends, Sample: d.SampleVoice != nil, Keys: keypad})
	page.speaks = true
	return page, nil
}

func (s *Site) look(ctx context.Context, a asked) (Look, error) {
	written, err := field(a, "number", writtenBytes)
	if err != nil {
		return Look{}, err
	}
	return s.house.Dialer.Look(ctx, a.Who.Program(), a.Who.Person(), written)
}

type iceServers struct {
	ICEServers []ICEServer `json:"iceServers"`
	RelayOnly  bool        `json:"relayOnly"`
}

func (s *Site) servers(_ context.Context, a asked) (iceServers, error) {
	list := s.house.Dialer.Servers(a.Who.Person())
	return iceServers{append([]ICEServer{}, list...), s.house.Dialer.RelayOnly}, nil
}

// begun is a call that was placed; SDP is "" when no browser speaks in it.
type begun struct {
	Call yesline.CallID `json:"call"`
	SDP  string         `json:"sdp"`
}

func (s *Site) place(ctx context.Context, a asked) (begun, error) {
	to, err := field(a, "to", writtenBytes)
	if err != nil {
		return begun{}, err
	}
	offer, err := field(a, "sdp", offerBytes)
	if err != nil {
		return begun{}, err
	}
	call, sdp, err := s.house.Dialer.Dial(ctx, a.Permit, offer, to)
	return begun{call, sdp}, err
}

func (s *Site) ringMe(ctx context.Context, a asked) (begun, error) {
	to, err := field(a, "to", writtenBytes)
	if err != nil {
		return begun{}, err
	}
	call, err := s.house.Dialer.RingMe(ctx, a.Permit, to)
	return begun{Call: call}, err
}

func (s *Site) incoming(ctx context.Context, a asked) (Incoming, error) {
	after, err := version(a)
	if err != nil {
		return Incoming{}, err
	}
	return waiting(s, ctx, a, func(ctx context.Context) (Incoming, error) { return s.house.Dialer.Incoming(ctx, a.Permit, after) })
}

// answered is our side of a browser's offer.
type answered struct {
	SDP string `json:"sdp"`
}

func (s *Site) pickUp(ctx context.Context, a asked) (answered, error) {
	return s.offered(ctx, a, s.house.Dialer.Answer)
}

func (s *Site) reconnect(ctx context.Context, a asked) (answered, error) {
	return s.offered(ctx, a, s.house.Dialer.Reconnect)
}

func (s *Site) offered(ctx context.Context, a asked, f func(context.Context, access.Permit, yesline.CallID, string) (string, error)) (answered, error) {
	offer, err := field(a, "sdp", offerBytes)
	if err != nil {
		return answered{}, err
	}
	sdp, err := f(ctx, a.Permit, a.call(), offer)
	return answered{sdp}, over(err)
}

// done is the answer of a door that has nothing to tell.
type done struct{}

func (s *Site) sayWord(ctx context.Context, a asked) (done, error) {
	word, err := field(a, "word", len("agree_always"))
	if err != nil {
		return done{}, err
	}
	key, isKey := strings.CutPrefix(word, "key=")
	if isKey && (len(key) != 1 || !strings.Contains("0123456789*#", key)) || !isKey && !slices.Contains(callWords, word) {
		return done{}, fmt.Errorf("reading a word for a call: %w", yesline.Invalid)
	}
	return done{}, over(s.house.Dialer.Say(ctx, a.Permit, a.call(), word))
}

// callState tells a party that their call is over also when nothing more is
// known of it.
func (s *Site) callState(ctx context.Context, a asked) (CallState, error) {
	after, err := version(a)
	if err != nil {
		return CallState{}, err
	}
	state, err := waiting(s, ctx, a, func(ctx context.Context) (CallState, error) {
		return s.house.Dialer.State(ctx, a.Permit, a.call(), after)
	})
	if errors.Is(err, yesline.NotFound) {
		return CallState{Version: after + 1, State: "ended", Recording: "nobody"}, nil
	}
	return state, err
}

// over is what a party hears of a call of theirs that is not going on. Only a
// party comes so far, so it tells nobody else that there was one.
func over(err error) error {
	if errors.Is(err, yesline.NotFound) {
		return &Refusal{"This call is over.", yesline.Conflict}
	}
	return err
}

// field is one field of a form that must be there and not be longer.
func field(a asked, name string, most int) (string, error) {
	if err := a.ParseForm(); err != nil {
		return "", unread(err)
	}
	value := a.PostForm.Get(name)
	if value == "" || len(value) > most {
		return "", fmt.Errorf("reading the field %s: %w", name, yesline.Invalid)
	}
	return value, nil
}

// version is what an asker knows already; without one they know nothing.
func version(a asked) (int64, error) {
	v, err := strconv.ParseInt(cmp.Or(a.URL.Query().Get("after"), "0"), 10, 64)
	if err != nil || v < 0 {
		return 0, fmt.Errorf("reading what is known already: %w", yesline.Invalid)
	}
	return v, nil
}

// waitsAtOnce is how many asks of one account may wait: a few tabs.
const waitsAtOnce = 8

// waiting lets an ask wait for news, a few for each account at once. Who was
// signed out meanwhile gets none.
func waiting[T any](s *Site, ctx context.Context, a asked, f func(context.Context) (T, error)) (T, error) {
	var nothing T
	if !s.waits.enter(a.Who.Account()) {
		return nothing, fmt.Errorf("waiting with more than %d: %w", waitsAtOnce, yesline.TooMany)
	}
	defer s.waits.leave(a.Who.Account())
	ctx, cancel := context.WithTimeout(ctx, waitTime)
	defer cancel()
	news, err := f(ctx)
	if err != nil {
		return nothing, err
	}
	if who, err := s.who(a.Request); err != nil || who.Account() != a.Who.Account() {
		return nothing, cmp.Or(err, errNoSession)
	}
	return news, nil
}

func (s *Site) sampleVoice(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "audio/wav")
	h.Set("Content-Length", strconv.Itoa(len(s.house.Dialer.SampleVoice)))
	w.Write(s.house.Dialer.SampleVoice)
}
