// Package app builds the house: it is the only package that knows every room,
// driver and door, and it hands each the one thing it needs.
package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audit"
	"yesline/internal/capture"
	"yesline/internal/capture/media"
	"yesline/internal/capture/sip"
	"yesline/internal/capture/tolls"
	"yesline/internal/capture/webrtc"
	"yesline/internal/consent"
	"yesline/internal/db"
	"yesline/internal/keys"
	"yesline/internal/keys/file"
	"yesline/internal/notify"
	"yesline/internal/people"
	"yesline/internal/playback"
	"yesline/internal/program"
	"yesline/internal/session"
	"yesline/internal/vault"
	"yesline/internal/vault/disk"
	"yesline/internal/web"
)

// App is a built house. Its fields are the rooms, for the commands and tests
// that stand inside; they are set by New and not changed.
type App struct {
	Config Config
	Report *slog.Logger

	PeopleDB, KeysDB, ContentDB *db.DB

	Jobs     *db.Jobs
	Log      *audit.Log
	Keys     *keys.Keys
	Programs *program.Programs
	Sessions *session.Sessions
	Gate     *access.Gate
	Cases    *access.Cases
	People   *people.People
	Outbox   *notify.Outbox
	Consent  *consent.Consent
	Views    *consent.Views
	Register *vault.Register
	Opener   *vault.Opener
	Shredder *vault.Shredder
	Capture  *capture.Room
	Player   *playback.Player
	Tickets  *playback.Tickets
	Site     *web.Site
	Plane    *media.Plane
	Tolls    *tolls.Tolls
	Phones   *sip.Door    // nil without a trunk
	Browsers *webrtc.Door // nil where none may call

	shows func(wanted, proven yesline.Phone) (yesline.Phone, error) // which number a callee is shown

	eager    eager
	talking  sync.WaitGroup  // calls that a page began
	calling  context.Context // of all of them
	lock     *os.File
	reserve  *reserve
	undo     []func() // what New and Start took, given back in reverse by Close
	closing  sync.Once
	failures error

	canSend bool // codes reach people's phones
	pages   net.Listener
}

// New builds a house in cfg.Data and migrates its databases; it serves nothing
// yet. What it took is given back by Close, also after an error of Start.
func New(ctx context.Context, cfg Config, report *slog.Logger) (a *App, err error) {
	cfg.complete()
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	a = &App{Config: cfg, Report: report}
	defer func() {
		if err != nil {
			a.Close()
			a = nil
		}
	}()
	for _, build := range []func(context.Context) error{a.openFolder, a.openDatabases, a.openKeys, a.openReserve, a.openRooms, a.openVault, a.openDoors} {
		if err := build(ctx); err != nil {
			return a, err
		}
	}
	return a, nil
}

func (a *App) later(undo func()) { a.undo = append(a.undo, undo) }

func (a *App) openFolder(context.Context) error {
	if err := os.MkdirAll(a.Config.Data, 0o700); err != nil {
		return fmt.Errorf("making the data folder: %w", err)
	}
	if err := os.Chmod(a.Config.Data, 0o700); err != nil {
		return fmt.Errorf("closing the data folder to others: %w", err)
	}
	var err error
	if a.lock, err = db.LockFolder(a.Config.Data); err != nil {
		return err
	}
	a.later(func() { a.lock.Close() })
	return nil
}

func (a *App) openDatabases(ctx context.Context) (err error) {
	for _, d := range []struct {
		to            **db.DB
		name, address string
	}{{&a.PeopleDB, "people", a.Config.PeopleDB}, {&a.KeysDB, "keys", a.Config.KeysDB}, {&a.ContentDB, "content", a.Config.ContentDB}} {
		if *d.to, err = db.Open(ctx, d.name, d.address); err != nil {
			return err
		}
		opened := *d.to
		a.later(func() { a.note(opened.Close()) })
	}
	return nil
}

// openKeys takes the root key, making one only for a house that has no keys.
func (a *App) openKeys(ctx context.Context) error {
	root, err := file.Open(a.Config.RootKey)
	if errors.Is(err, fs.ErrNotExist) {
		if used, usedErr := keys.Used(ctx, a.KeysDB); usedErr != nil || used {
			return errors.Join(fmt.Errorf("the root key %s is gone, and this house was sealed with it: bring it back; nothing was touched: %w", a.Config.RootKey, err), usedErr)
		}
		if err := file.Create(a.Config.RootKey); err != nil {
			return err
		}
		root, err = file.Open(a.Config.RootKey)
	}
	if err != nil {
		return err
	}
	if a.Log, err = audit.Open(ctx, a.PeopleDB, a.KeysDB, a.ContentDB); err != nil {
		return err
	}
	if a.Keys, err = keys.Open(ctx, a.KeysDB, root, a.Log); err != nil {
		return err
	}
	a.later(a.Keys.Close)
	a.Log.Begin(a.Keys.Audit(), a.Report)
	a.later(a.Log.Close)
	return nil
}

// openReserve comes after the keys: a house with the wrong root stays untouched.
func (a *App) openReserve(context.Context) error {
	a.reserve = holdReserve(a.Config.Data, a.Report)
	a.later(a.reserve.Close)
	return nil
}

func (a *App) openRooms(ctx context.Context) (err error) {
	if a.Jobs, err = db.NewJobs(ctx, a.ContentDB, quietJobs(a.Report)); err != nil {
		return err
	}
	if a.Programs, err = program.Open(ctx, a.ContentDB, a.Log, a.Keys.AddProgram); err != nil {
		return err
	}
	if err = a.openSessions(ctx); err != nil {
		return err
	}
	if a.Cases, err = access.Open(ctx, access.CaseParts{Content: a.ContentDB, Record: a.Log.Record, MAC: a.markField, Colleague: a.colleague}); err != nil {
		return err
	}
	a.later(a.Cases.Release)
	if a.Gate, err = access.New(a.Log.Append, a.facts()); err != nil {
		return err
	}
	a.later(func() { a.note(a.Gate.Close(context.Background())) })
	if a.People, err = people.Open(ctx, a.PeopleDB, a.Log, a.Keys); err != nil {
		return err
	}
	if err = a.openOutbox(ctx); err != nil {
		return err
	}
	if a.Consent, err = consent.Open(ctx, a.ContentDB, a.Log, a.Jobs, a.Programs); err != nil {
		return err
	}
	a.Views = consent.NewViews(a.Consent)
	a.later(a.Views.Close)
	return nil
}

// openVault makes the three hands of the vault and gives each to one room.
func (a *App) openVault(ctx context.Context) error {
	if err := vault.Migrate(ctx, a.ContentDB); err != nil {
		return err
	}
	blobs, err := disk.Open(filepath.Join(a.Config.Data, "objects"))
	if err != nil {
		return err
	}
	a.later(func() { a.note(blobs.Close()) })
	a.Register = vault.NewRegister(a.ContentDB)
	a.Opener = &vault.Opener{Content: a.ContentDB, Jobs: a.Jobs, Blobs: blobs, Keys: a.Keys, Log: a.Log,
		Ask: a.Gate.Ask, Standing: a.standing, Gone: a.Keys.Gone, After: []string{playback.DrawJob}}
	a.later(a.Opener.Close)
	a.later(a.Register.Close)
	a.Shredder = &vault.Shredder{Content: a.ContentDB, Blobs: blobs, Keys: a.Keys, Log: a.Log}
	if a.Tickets, err = playback.OpenTickets(ctx, a.ContentDB, playback.House{
		Sealing: playback.Sealing{Seal: a.sealField, Open: a.openField}, Record: a.Log.Record, Tracks: a.Register.Tracks}); err != nil {
		return err
	}
	a.later(a.Tickets.Close)
	a.Player = &playback.Player{Voices: a.Opener, Track: a.track, Ask: a.Gate.Ask, Kept: a.Consent.Kept}
	a.Jobs.Handle("finish", func(ctx context.Context, id string) error { return a.Opener.Finish(ctx, yesline.TrackID(id)) })
	a.Jobs.Handle(consent.Shred, a.shred)
	a.Jobs.Handle(playback.DrawJob, a.Player.Draw)
	sealer := vault.NewSealer(a.ContentDB, a.Jobs, blobs, a.Keys)
	a.later(sealer.Close)
	if err := capture.Migrate(ctx, a.ContentDB); err != nil {
		return err
	}
	a.Capture = &capture.Room{Content: a.ContentDB, Log: a.Log, People: a.People, Programs: a.Programs, Consent: a.Consent,
		Sealer: sealer, Voices: a.Keys, Report: a.Report, First: a.reserve.first, Shred: a.shredAgain}
	return nil
}

func (a *App) openDoors(ctx context.Context) (err error) {
	if err := a.openTelephones(ctx); err != nil {
		return err
	}
	answers, err := web.OpenAnswers(ctx, a.ContentDB)
	if err != nil {
		return err
	}
	cursors, err := a.Keys.MACFor(ctx, "", keys.Session, []byte("cursors of the API"))
	if err != nil {
		return err
	}
	a.Site, err = web.New(a.house(answers, yesline.NewSecret(cursors)))
	return err
}

func (a *App) track(ctx context.Context, id yesline.TrackID) (vault.Recorded, error) {
	if playback.Carries(ctx, id) {
		return a.Register.Playing(ctx, id)
	}
	found, err := a.Register.ByID(ctx, []string{string(id)})
	if err != nil {
		return vault.Recorded{}, err
	}
	t, ok := found[string(id)]
	if !ok {
		return t, fmt.Errorf("a track: %w", yesline.NotFound)
	}
	return t, nil
}

// standing is how consent to keep a track stands now.
func (a *App) standing(ctx context.Context, track yesline.TrackID) (generation int64, kept bool, err error) {
	f, err := a.playingFacts(ctx, track) // whoever reads has a permit
	if errors.Is(err, yesline.NotFound) {
		return 0, false, nil
	}
	return f.Generation, f.Kept, err
}

// shred works off a withdrawal: destroy the voice, then give its owner the
// receipt of it.
func (a *App) shred(ctx context.Context, id string) error {
	call, person, ok := strings.Cut(id, "/")
	if !ok {
		return fmt.Errorf("a job to shred nothing: %w", yesline.Invalid)
	}
	if err := a.reserve.first(func() error { return a.Shredder.Shred(ctx, yesline.CallID(call), yesline.PersonID(person)) }); err != nil {
		return err
	}
	tracks, err := a.Register.Tracks(ctx, yesline.CallID(call))
	if err != nil {
		return err
	}
	for _, t := range tracks {
		if t.Person != yesline.PersonID(person) || t.Destruction.Leaf == "" {
			continue
		}
		if err := a.Log.KeepReceipt(ctx, t.Person, call, t.Destruction); err != nil {
			return err
		}
	}
	return nil
}

// Start opens the doors: jobs, telephones, pages, the local socket. It makes
// the first program of an empty house.
func (a *App) Start(ctx context.Context) error {
	if _, err := a.Programs.First(ctx); errors.Is(err, yesline.NotFound) {
		p := a.Config.Program
		if _, err := a.Programs.Add(ctx, program.Terms{Name: p.Name, Country: p.Country, OneSided: p.OneSided,
			Ask: p.Ask, International: p.International}); err != nil {
			return fmt.Errorf("making the first program: %w", err)
		}
	} else if err != nil {
		return err
	}
	if err := a.sweepKeys(ctx); err != nil {
		return err
	}
	if err := a.Capture.Recover(ctx); err != nil {
		return err
	}
	if err := a.Opener.Recover(ctx); err != nil {
		return err
	}
	if err := a.Jobs.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("starting the jobs: %w", err)
	}
	a.later(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		a.note(a.Jobs.Stop(ctx))
	})
	a.sweepEveryMinute()
	if err := a.startTelephones(ctx); err != nil {
		return err
	}
	if err := a.openPages(); err != nil {
		return err
	}
	return a.startLocal()
}

// sweepEveryMinute takes away what has ended, so that a number that somebody
// claimed, and the code sent there, are gone soon after their time.
func (a *App) sweepEveryMinute() {
	ctx, end := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Minute)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := errors.Join(a.People.Sweep(ctx), a.Outbox.Sweep(ctx), a.Consent.Sweep(ctx)); err != nil && ctx.Err() == nil {
				a.Report.Error("sweeping what has ended", "error", err)
			}
		}
	}()
	a.later(func() {
		end()
		<-done
	})
}

// shredAgain sets off the destruction of a voice that was withdrawn while its
// track was being begun: the job that consent set off found no track yet.
func (a *App) shredAgain(ctx context.Context, call yesline.CallID, person yesline.PersonID) error {
	return a.ContentDB.Transact(ctx, func(ctx context.Context, tx *db.Tx) error {
		return a.Jobs.Enqueue(ctx, tx, consent.Shred, string(call)+"/"+string(person))
	})
}

// sweepKeys destroys the keys of tracks that never came to be: creation commits
// keys before content, and a crash or a full disk may come between.
func (a *App) sweepKeys(ctx context.Context) error {
	var orphans []keys.TrackKey
	err := a.Keys.Each(ctx, func(k keys.TrackKey) error {
		_, err := a.track(ctx, k.Track)
		if errors.Is(err, yesline.NotFound) && len(orphans) < 10_000 {
			orphans = append(orphans, k)
			return nil
		}
		return err
	})
	for _, k := range orphans {
		if err == nil {
			err = a.Shredder.Sweep(ctx, k)
		}
	}
	if err != nil {
		return fmt.Errorf("sweeping keys without a track: %w", err)
	}
	return nil
}

// serve serves until Close, which lets running answers finish for a moment.
func (a *App) serve(s *http.Server, l net.Listener) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			a.Report.Error("a listener ended", "error", err)
		}
	}()
	a.later(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		if s.Shutdown(ctx) != nil {
			s.Close()
		}
		<-done
	})
}

// PagesAddress is where the pages listen.
func (a *App) PagesAddress() string { return a.pages.Addr().String() }

// Empty reports whether nobody works here yet.
func (a *App) Empty(ctx context.Context) (bool, error) {
	staffed, err := a.Sessions.Staffed(ctx)
	return !staffed, err
}

// FirstOperator makes the one-use link of a house's first operator.
func (a *App) FirstOperator(ctx context.Context) (url string, err error) {
	token, err := a.Sessions.FirstOperator(ctx)
	if err != nil {
		return "", err
	}
	return a.Config.URL + "/in/" + token, nil
}

func (a *App) note(err error) { a.failures = errors.Join(a.failures, err) }

// Close ends calls with a BYE, seals and syncs what they recorded, and gives
// everything back. It may be called again.
func (a *App) Close() error {
	a.closing.Do(func() {
		for i := len(a.undo) - 1; i >= 0; i-- {
			a.undo[i]()
		}
	})
	return a.failures
}

// quietJobs lets River's warnings through and not its chatter.
func quietJobs(report *slog.Logger) *slog.Logger {
	return slog.New(warnings{report.Handler()})
}

type warnings struct{ slog.Handler }

func (w warnings) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (w warnings) WithAttrs(as []slog.Attr) slog.Handler        { return warnings{w.Handler.WithAttrs(as)} }
func (w warnings) WithGroup(name string) slog.Handler           { return warnings{w.Handler.WithGroup(name)} }
