package app

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/capture"
	"yesline/internal/capture/media"
	"yesline/internal/capture/tolls"
	"yesline/internal/capture/webrtc"
	"yesline/internal/people"
)

// openTelephones builds what carries calls: the plane of sound, the tolls, the
// SIP door where there is a trunk, the browser door, and the ways between them.
func (a *App) openTelephones(ctx context.Context) (err error) {
	cfg := a.Config
	sound, err := cfg.Media.plane()
	if err != nil {
		return err
	}
	sound.Report, sound.Late = a.Report, a.Capture.SoundLate
	if a.Plane, err = media.Open(sound); err != nil {
		return err
	}
	a.later(func() { a.note(a.Plane.Close()) })
	rules, err := cfg.TollRules()
	if err != nil {
		return err
	}
	if a.Tolls, err = tolls.Open(ctx, tolls.Parts{Content: a.ContentDB, Program: a.tollTerms, Report: a.Report}, rules); err != nil {
		return err
	}
	a.later(a.Tolls.Close)
	a.shows = rules.CallerID
	a.Capture.Tolls, a.Capture.Reach, a.Capture.Most = a.Tolls, a.reach, cfg.Calls.Most
	a.Capture.Longest = time.Duration(cfg.Calls.MaxSeconds) * time.Second
	if cfg.Trunk.Address != "" {
		if err := a.openPhones(ctx, sound); err != nil {
			return err
		}
	}
	return a.openBrowsers()
}

// plane is how the plane of sound is set up.
func (m Media) plane() (media.Config, error) {
	at, err := netip.ParseAddr(m.IP)
	if err != nil {
		return media.Config{}, fmt.Errorf("media.ip: an address: %w", yesline.Invalid)
	}
	sound := media.Config{IP: at, From: uint16(m.FromPort), To: uint16(m.ToPort)}
	for _, more := range m.MoreIPs {
		if at, err = netip.ParseAddr(more); err != nil {
			return media.Config{}, fmt.Errorf("media.more_ips: addresses: %w", yesline.Invalid)
		}
		sound.More = append(sound.More, at)
	}
	return sound, nil
}

// tollTerms is what a program says about whom it may call.
func (a *App) tollTerms(ctx context.Context, id yesline.ProgramID) (country string, international []string, err error) {
	terms, err := a.Programs.Terms(ctx, id)
	return terms.Country, terms.International, err
}

func (a *App) openBrowsers() (err error) {
	cfg := a.Config.WebRTC
	if cfg.UDP == "" && cfg.TCP == "" {
		return nil
	}
	to := webrtc.Config{RelayOnly: cfg.RelayOnly, MaxPeers: cfg.MaxPeers, Report: a.Report}
	for _, port := range []struct {
		name, written string
		at            *netip.AddrPort
	}{{"webrtc.udp", cfg.UDP, &to.UDP}, {"webrtc.tcp", cfg.TCP, &to.TCP}} {
		if port.written == "" {
			continue
		}
		if *port.at, err = netip.ParseAddrPort(port.written); err != nil {
			return fmt.Errorf("%s: an address and a port, like 192.0.2.1:3479: %w", port.name, yesline.Invalid)
		}
		to.Loopback = to.Loopback || port.at.Addr().IsLoopback()
	}
	for _, written := range cfg.Public {
		p, err := netip.ParseAddr(written)
		if err != nil {
			return fmt.Errorf("webrtc.public: addresses: %w", yesline.Invalid)
		}
		to.Public = append(to.Public, p)
	}
	if len(cfg.TURN.URLs) > 0 {
		secret, err := cfg.TURN.Secret()
		if err != nil {
			return err
		}
		to.TURN = []webrtc.TURN{{URLs: cfg.TURN.URLs, Secret: secret}}
	}
	a.Browsers, err = webrtc.New(to, a.Plane)
	return err
}

// startTelephones opens the doors. Calls that pages began end before them.
func (a *App) startTelephones(ctx context.Context) error {
	if a.Phones != nil {
		if err := a.Phones.Start(ctx); err != nil {
			return err
		}
		a.later(func() { a.note(a.Phones.Close()) })
	}
	if a.Browsers != nil {
		if err := a.Browsers.Start(ctx); err != nil {
			return err
		}
		a.later(func() { a.note(a.Browsers.Close()) })
	}
	calling, end := context.WithCancelCause(context.WithoutCancel(ctx))
	a.calling = calling
	a.later(func() {
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		a.Capture.Drain(gone) // takes no more, and does not wait
		end(capture.ErrClosing)
		a.talking.Wait()
	})
	return nil
}

// Drain takes no more calls and lets those that go on come to their end, for as
// long as ctx allows: how many are left.
func (a *App) Drain(ctx context.Context) (left int) { return a.Capture.Drain(ctx) }

// theTrunk is how the books of what calls cost name the trunk; there is one.
const theTrunk = "trunk"

// reach finds the way to somebody: their open page and the phones they
// registered here, all at once; else the trunk.
func (a *App) reach(ctx context.Context, w capture.Wanted) (capture.Route, error) {
	var here []capture.Handset
	if !w.Outside && w.To != "" {
		if a.Browsers != nil && a.Browsers.Here(w.To) {
			here = append(here, a.Browsers.Ring(w.To))
		}
		if a.Phones != nil {
			here = append(here, a.Phones.Ring(w.To)...)
		}
	}
	switch {
	case len(here) > 0:
		return capture.Route{Handset: capture.AnyOf(here...)}, nil
	case w.Number.Digits() == "":
		return capture.Route{}, fmt.Errorf("none of their telephones is here: %w", yesline.NotFound)
	case a.Phones == nil:
		return capture.Route{}, fmt.Errorf("a house without a trunk: %w", yesline.Unavailable)
	}
	own, _ := ctx.Value(ownNumber{}).(yesline.Phone)
	if w.To == w.From { // their own phone, which we ring for them
		own = yesline.Phone{}
	}
	shown, err := a.shows(own, own)
	if err != nil {
		return capture.Route{}, err
	}
	return capture.Route{Handset: a.Phones.TrunkAs(w.Number, shown), Trunk: theTrunk}, nil
}

// ownNumber is the key of the number that somebody has proven to be theirs and
// is to be shown as, in the context of a call that they begin.
type ownNumber struct{}

// showing has callees see the caller's own number, where the house wants that.
// Who has an account has proven theirs. If it cannot be opened now, the house's
// is shown.
func (a *App) showing(ctx context.Context, permit access.Permit) context.Context {
	if !a.Config.Trunk.OwnID {
		return ctx
	}
	own, err := a.People.Own(ctx, permit)
	if err != nil {
		a.Report.Warn("a caller's own number could not be opened to be shown", "error", err)
		return ctx
	}
	return context.WithValue(ctx, ownNumber{}, own)
}

// whose is the person with an account here whom a number belongs to, in the
// program that the trunk's numbers are of.
func (a *App) whose(ctx context.Context, written string) (yesline.ProgramID, yesline.PersonID, error) {
	program := yesline.ProgramID(a.Config.Trunk.Program)
	if program == "" {
		first, err := a.Programs.First(ctx)
		if err != nil {
			return "", "", err
		}
		program = first
	}
	terms, err := a.Programs.Terms(ctx, program)
	if err != nil {
		return "", "", err
	}
	number, err := people.Parse(written, terms.Country)
	if err != nil {
		return "", "", err
	}
	person, err := a.People.Find(ctx, program, number)
	if err != nil {
		return "", "", err
	}
	account, err := a.Sessions.HasAccount(ctx, person)
	if err == nil && !account {
		err = fmt.Errorf("a number without an account: %w", yesline.NotFound)
	}
	return program, person, err
}
