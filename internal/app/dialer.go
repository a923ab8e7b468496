package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audio"
	"yesline/internal/capture"
	"yesline/internal/capture/tolls"
	"yesline/internal/session"
	"yesline/internal/web"
)

// dialer hands the page that telephones its doors; the zero value where
// browsers may not call.
func (a *App) dialer() web.Dialer {
	if a.Browsers == nil {
		return web.Dialer{}
	}
	return web.Dialer{Look: a.look, Servers: a.iceServers, Dial: a.dialFromPage, RingMe: a.ringMe, Incoming: a.incoming,
		Answer: a.answerFromPage, Reconnect: a.reconnect, Say: a.sayInCall, State: a.callState,
		RelayOnly: a.Browsers.RelayOnly(), Friends: a.Config.Stage.Friends, SampleVoice: a.Config.Stage.SampleVoice}
}

const noUrgent = "Yesline does not carry emergency calls from a browser. Use any other telephone."

// look says what a number is, where it is and who is asked there.
func (a *App) look(ctx context.Context, program yesline.ProgramID, person yesline.PersonID, written string) (web.Look, error) {
	if slices.Contains(a.Config.Urgent.Numbers, dialled(written)) {
		return web.Look{Refused: noUrgent}, nil
	}
	number, err := a.Capture.Number(ctx, program, dialled(written))
	if errors.Is(err, yesline.Invalid) {
		return web.Look{Refused: "This is not a whole telephone number yet."}, nil
	}
	if err != nil {
		return web.Look{}, err
	}
	found := web.Look{Shown: tolls.Shown(number), Place: tolls.Place(number)}
	about, err := a.Tolls.Look(ctx, tolls.Who{Program: program, Person: person, Trunk: theTrunk}, number)
	var refusal *tolls.Refusal
	switch {
	case errors.As(err, &refusal):
		found.Refused = refusal.Says
		return found, nil
	case err != nil:
		return web.Look{}, err
	}
	if found.Place == "" {
		found.Place = about.Country
	}
	found.Rule, err = a.Consent.Foresee(ctx, program)
	return found, err
}

// dialled keeps what counts of a number as people write it.
func dialled(written string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(" -.()/\u00a0", r) {
			return -1
		}
		return r
	}, strings.TrimSpace(written))
}

func (a *App) iceServers(person yesline.PersonID) (all []web.ICEServer) {
	for _, s := range a.Browsers.Servers(person) {
		all = append(all, web.ICEServer{URLs: s.URLs, Username: s.Username, Credential: s.Credential})
	}
	return all
}

// dialFromPage begins a call from a browser and answers its offer. Who it calls
// is rung meanwhile.
func (a *App) dialFromPage(ctx context.Context, permit access.Permit, offer, to string) (yesline.CallID, string, error) {
	from, number, err := a.wants(ctx, permit, to)
	if err != nil {
		return "", "", err
	}
	wants := audio.PCMU
	if a.onlyBrowsers(ctx, from.Program, number) {
		wants = audio.Opus
	}
	phone, answer, err := a.Browsers.Handset(offer, wants)
	if errors.Is(err, yesline.Invalid) || errors.Is(err, capture.ErrNoCodec) { // in one way: which it is hangs on who has the number
		err = fmt.Errorf("%w: %w", capture.ErrNoCodec, yesline.Invalid)
	}
	if err != nil {
		return "", "", inWords(err)
	}
	live, err := a.Capture.Dial(a.showing(ctx, permit), from, number)
	if err != nil {
		phone.Hangup()
		return "", "", a.noRoom(err)
	}
	a.carry(live, phone, permit.Who())
	return live.ID, answer, nil
}

// onlyBrowsers reports whether a number is reached at open pages alone; then
// both speak Opus.
func (a *App) onlyBrowsers(ctx context.Context, program yesline.ProgramID, number yesline.Phone) bool {
	person, err := a.People.Find(ctx, program, number)
	return err == nil && a.Browsers.Here(person) && (a.Phones == nil || len(a.Phones.Ring(person)) == 0)
}

// ringMe calls the person's own number by the trunk, and the other from there.
func (a *App) ringMe(ctx context.Context, permit access.Permit, to string) (yesline.CallID, error) {
	from, number, err := a.wants(ctx, permit, to)
	if err != nil {
		return "", err
	}
	if a.Phones == nil {
		return "", &web.Refusal{Sentence: "This house has no way to ring your phone.", Why: yesline.Unavailable}
	}
	own, err := a.People.Own(ctx, permit)
	if err != nil {
		return "", err
	}
	live, err := a.Capture.RingFirst(a.showing(ctx, permit), from, own, number)
	if err != nil {
		return "", a.noRoom(err)
	}
	a.carry(live, nil, permit.Who())
	return live.ID, nil
}

// wants reads who calls whom.
func (a *App) wants(ctx context.Context, permit access.Permit, to string) (session.Device, yesline.Phone, error) {
	who := permit.Who()
	if _, err := permit.Allows(access.Dial, "person", string(who.Person())); err != nil {
		return session.Device{}, yesline.Phone{}, err
	}
	if slices.Contains(a.Config.Urgent.Numbers, dialled(to)) {
		return session.Device{}, yesline.Phone{}, &web.Refusal{Sentence: noUrgent, Why: yesline.Denied}
	}
	if err := a.eager.asks(who.Person()); err != nil {
		return session.Device{}, yesline.Phone{}, err
	}
	if a.Capture.Full() { // before a line is opened for it
		return session.Device{}, yesline.Phone{}, a.noRoom(capture.ErrFull)
	}
	number, err := a.Capture.Number(ctx, who.Program(), dialled(to))
	if errors.Is(err, yesline.Invalid) {
		err = &web.Refusal{Sentence: "This is not a telephone number that we can call.", Why: yesline.Invalid}
	}
	return session.Device{Program: who.Program(), Person: who.Person()}, number, err
}

// carry sees a call through that a page began, also when the page is gone; but
// not beyond the session that began it.
func (a *App) carry(live *capture.Live, phone capture.Handset, who session.Principal) {
	a.endsWith(who, live.Caller, live)
	a.talking.Go(func() { live.Carry(a.calling, phone) })
}

const signedOutEvery = time.Second

// endsWith hangs up a leg when the session is ended in which it was begun or
// picked up: perhaps somebody else did, in their name.
func (a *App) endsWith(who session.Principal, leg *capture.Leg, live *capture.Live) {
	held, err := a.ContentDB.Hold(a.calling, session.Watch(who.Session()))
	if err != nil {
		leg.Choose("hangup") // nobody would notice
		return
	}
	began := held.Revision()
	a.talking.Go(func() {
		defer held.Release()
		look := time.NewTicker(signedOutEvery)
		defer look.Stop()
		for a.Capture.Live(live.ID) == live {
			select {
			case <-a.calling.Done():
				return
			case <-look.C:
			}
			if held.Revision() != began {
				leg.Choose("hangup")
			}
		}
	})
}

func (a *App) incoming(ctx context.Context, permit access.Permit, after int64) (web.Incoming, error) {
	person := permit.Who().Person()
	in, err := a.Browsers.Incoming(ctx, person, after)
	if err != nil || in.Call == "" {
		return web.Incoming{Version: in.Version}, err
	}
	from, err := a.other(ctx, in.Call, person)
	return web.Incoming{Version: in.Version, Call: in.Call, From: from}, err
}

// other is the mask of the other party of a live call; "" when that is not
// known.
func (a *App) other(ctx context.Context, call yesline.CallID, person yesline.PersonID) (string, error) {
	live := a.Capture.Live(call)
	if live == nil {
		return "", nil
	}
	them := live.Caller.Person
	if them == person {
		them = live.Callee.Person
	}
	if them == "" {
		return "", nil
	}
	masks, err := a.People.Masks(ctx, []yesline.PersonID{them})
	return masks[them], err
}

func (a *App) answerFromPage(_ context.Context, permit access.Permit, call yesline.CallID, offer string) (string, error) {
	live, leg, err := a.leg(permit, call)
	if err != nil {
		return "", err
	}
	answer, err := a.Browsers.Answer(permit.Who().Person(), call, offer)
	if err == nil {
		a.endsWith(permit.Who(), leg, live)
	}
	return answer, inWords(err)
}

func (a *App) reconnect(_ context.Context, permit access.Permit, call yesline.CallID, offer string) (string, error) {
	answer, err := a.Browsers.Reconnect(permit.Who().Person(), call, offer)
	return answer, inWords(err)
}

// leg is the permitted person's own leg of a call that goes on here.
func (a *App) leg(permit access.Permit, call yesline.CallID) (*capture.Live, *capture.Leg, error) {
	if _, err := permit.Allows(access.Talk, "call", string(call)); err != nil {
		return nil, nil, err
	}
	if live := a.Capture.Live(call); live != nil {
		if leg := live.Leg(permit.Who().Person()); leg != nil {
			return live, leg, nil
		}
	}
	return nil, nil, fmt.Errorf("a call that is not going on: %w", yesline.NotFound)
}

// sayInCall does what a page's button or key says. While the call rings at the
// page, hanging up and declining mean that it is not picked up.
func (a *App) sayInCall(_ context.Context, permit access.Permit, call yesline.CallID, word string) error {
	_, leg, err := a.leg(permit, call)
	if err != nil {
		return err
	}
	if key, is := strings.CutPrefix(word, "key="); is {
		return leg.Press(key)
	}
	if word == "hangup" || word == "decline" {
		if err := a.Browsers.Decline(permit.Who().Person(), call); err == nil {
			return nil
		}
	}
	return leg.Choose(word)
}

func (a *App) callState(ctx context.Context, permit access.Permit, call yesline.CallID, after int64) (web.CallState, error) {
	if _, err := permit.Allows(access.Talk, "call", string(call)); err != nil {
		return web.CallState{}, err
	}
	person := permit.Who().Person()
	other, err := a.other(ctx, call, person)
	if err != nil {
		return web.CallState{}, err
	}
	s, side, err := a.Capture.Status(ctx, call, person, after)
	if err != nil {
		return web.CallState{}, err
	}
	away := s.Theirs && s.State != capture.Bridged && a.isAway(ctx, call, side)
	return web.CallState{Version: s.Version, State: string(s.State), Recording: s.Recording, Question: s.Question, MayAgree: s.MayAgree, MayLast: s.MayLast,
		LeftMillis: s.Left.Milliseconds(), Mine: s.Mine, Theirs: s.Theirs, Away: away, Paused: s.Paused, CanAsk: s.CanAsk, Reason: s.Unable,
		Ending: told(s.Ending, side), Other: other, Seconds: int64(s.Talking.Seconds())}, nil
}

// isAway reports whether the other party of a call did not pick up yet, as far
// as it is written down. The picking up itself moves no version; the question
// that follows it does.
func (a *App) isAway(ctx context.Context, id yesline.CallID, mine capture.Side) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second) // Status may have used up all of ctx
	defer cancel()
	call, err := a.Capture.Call(ctx, id)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(call.Parties, func(p capture.Party) bool { return p.Side != mine && p.Answered == 0 })
}

// told is how a call ended, as the party of one side is told it.
func told(ending string, side capture.Side) string {
	who, hungUp := strings.CutSuffix(ending, " hung up")
	switch {
	case !hungUp:
		return ending
	case who == "the "+string(side):
		return "you hung up"
	}
	return "they hung up"
}

// noRoom is inWords for a call that was not begun: what the house has no room
// for is counted for its operators, as at the telephones' door.
func (a *App) noRoom(err error) error {
	switch {
	case errors.Is(err, capture.ErrFull):
		a.Tolls.Turned(tolls.Who{}, "strained", 1)
	case errors.Is(err, capture.ErrMost):
		a.Tolls.Turned(tolls.Who{}, "most", 1)
	}
	return inWords(err)
}

// inWords puts a refusal into a sentence for the person.
func inWords(err error) error {
	var refusal *tolls.Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refusal):
		return &web.Refusal{Sentence: refusal.Says, Why: err}
	case errors.Is(err, capture.ErrFull), errors.Is(err, capture.ErrMost):
		return &web.Refusal{Sentence: "This house is full: it carries as many calls as it can. Try again in a minute.", Why: err}
	case errors.Is(err, capture.ErrNoCodec):
		return &web.Refusal{Sentence: "Your browser and the other telephone have no way of speaking in common.", Why: err}
	case errors.Is(err, yesline.Unavailable):
		return &web.Refusal{Sentence: "Yesline takes no new calls at the moment. Try again in a few minutes.", Why: err}
	}
	return err
}
