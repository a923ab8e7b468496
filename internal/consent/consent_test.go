package consent_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/consent"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
	"yesline/internal/keys"
	"yesline/internal/keys/keystest"
	"yesline/internal/program"
	"yesline/internal/session"
)

// room is a consent room over a real house, with one call in it.
type room struct {
	*keystest.House
	*consent.Consent
	gate     *access.Gate
	sessions *session.Sessions
	programs *program.Programs
	program  yesline.ProgramID
	call     yesline.CallID
	ann, bob yesline.PersonID
	shredded atomic.Value
}

func open(t *testing.T, oneSided bool, places ...string) *room {
	t.Helper()
	return openOn(t, dbtest.SQLite(t), oneSided, places...)
}

func openOn(t *testing.T, open func(string) *db.DB, oneSided bool, places ...string) *room {
	t.Helper()
	ctx := t.Context()
	r := &room{House: keystest.Open(t, open), call: yesline.NewCallID()}
	var err error
	if r.programs, err = program.Open(ctx, r.Content, r.Log, r.Keys.AddProgram); err != nil {
		t.Fatal(err)
	}
	if r.program, err = r.programs.Add(ctx, program.Terms{Name: "Test", Country: "US", OneSided: oneSided}); err != nil {
		t.Fatal(err)
	}
	jobs, err := db.NewJobs(ctx, r.Content, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	jobs.Handle(consent.Shred, func(ctx context.Context, id string) error { r.shredded.Store(id); return nil })
	if err := jobs.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { jobs.Stop(context.Background()) })
	if r.Consent, err = consent.Open(ctx, r.Content, r.Log, jobs, r.programs); err != nil {
		t.Fatal(err)
	}
	r.ann, r.bob = r.Person(t, r.program), r.Person(t, r.program)
	parties := []consent.Party{{Person: r.ann}, {Person: r.bob}}
	for i, place := range places {
		parties[i].Place = place
	}
	if err := r.Open(ctx, r.call, r.program, parties); err != nil {
		t.Fatal(err)
	}
	if r.gate, err = access.New(r.Log.Append, map[string]access.Loader{
		"call": func(ctx context.Context, ids []string) (map[string]access.Facts, error) {
			return map[string]access.Facts{string(r.call): {Program: r.program, Parties: []yesline.PersonID{r.ann, r.bob}}}, nil
		},
		"account": func(ctx context.Context, ids []string) (map[string]access.Facts, error) {
			return map[string]access.Facts{ids[0]: {Program: r.program, Account: ids[0]}}, nil
		},
	}); err != nil {
		t.Fatal(err)
	}
	seal := func(f func(context.Context, yesline.ProgramID, string, []byte, []byte) ([]byte, error)) func(context.Context, yesline.ProgramID, []byte, []byte) ([]byte, error) {
		return func(ctx context.Context, p yesline.ProgramID, c, b []byte) ([]byte, error) {
			return f(ctx, p, keys.Session, c, b)
		}
	}
	if r.sessions, err = session.New(ctx, r.Content, "test", session.Sealing{Seal: seal(r.Keys.SealFor), Open: seal(r.Keys.OpenFor)}); err != nil {
		t.Fatal(err)
	}
	return r
}

func pressed(key string) consent.Evidence {
	return consent.Evidence{Channel: "keypad", Prompt: "ask", Language: "en", AtMillis: time.Now().UnixMilli(), Keys: key}
}

func (r *room) says(t *testing.T, person yesline.PersonID, yes bool) {
	t.Helper()
	key := "2"
	if yes {
		key = "1"
	}
	if err := r.Answer(t.Context(), consent.Answer{Call: r.call, Person: person, Purpose: consent.Record, Yes: yes, Way: consent.ByRinging, Evidence: pressed(key)}); err != nil {
		t.Fatal(err)
	}
}

// permit asks the gate as a signed-in person.
func (r *room) permit(t *testing.T, person yesline.PersonID, v access.Verb) access.Permit {
	t.Helper()
	return r.permitFor(t, person, v, access.Object{Kind: "call", ID: string(r.call)})
}

func (r *room) permitFor(t *testing.T, person yesline.PersonID, v access.Verb, about access.Object) access.Permit {
	t.Helper()
	token, err := r.sessions.LinkFor(t.Context(), r.program, person)
	if err != nil {
		t.Fatal(err)
	}
	_, who, err := r.sessions.Redeem(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.gate.Ask(t.Context(), who, v, about, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (r *room) mayRecord(t *testing.T, person yesline.PersonID, want bool) {
	t.Helper()
	l, err := r.Lease(t.Context(), r.call, person)
	if err == nil {
		l.Close()
	} else if !errors.Is(err, yesline.Denied) {
		t.Fatal(err)
	}
	if (err == nil) != want {
		t.Errorf("a lease for %s: %v, want allowed %v", person[:8], err, want)
	}
}

func TestStrictNeedsEverybodysYes(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		r.mayRecord(t, r.ann, false)
		r.says(t, r.ann, true)
		r.mayRecord(t, r.ann, false)
		r.says(t, r.bob, true)
		r.mayRecord(t, r.ann, true)
		r.mayRecord(t, r.bob, true)
	})
}

func TestOneNoMeansNoBytesOfAnyone(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		r.says(t, r.ann, true)
		r.says(t, r.bob, false)
		r.mayRecord(t, r.ann, false)
		r.mayRecord(t, r.bob, false)
		err := r.Answer(t.Context(), consent.Answer{Call: r.call, Person: r.bob, Purpose: consent.Record, Yes: true, Evidence: pressed("1")})
		if !errors.Is(err, yesline.Conflict) {
			t.Errorf("a yes after a no: %v", err)
		}
	})
}

func TestOneSidedNeedsProgramAndBothPlaces(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		oneSided bool
		places   []string
		want     bool
	}{
		{"program and both places", true, []string{"US-KS", "US-ME"}, true},
		{"the program does not", false, []string{"US-KS", "US-ME"}, false},
		{"one place unknown", true, []string{"US-KS", ""}, false},
		{"one place strict", true, []string{"US-KS", "US-CA"}, false},
		{"no place known", true, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := open(t, c.oneSided, c.places...)
			r.says(t, r.ann, true)
			r.says(t, r.bob, false)
			r.mayRecord(t, r.ann, c.want)
			r.mayRecord(t, r.bob, false) // never against their own no
		})
	}
}

// A lease held over a change gives nothing from the very next renewal.
func TestALeaseEndsWithTheYes(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testing.T, *room){
		"star nine": func(t *testing.T, r *room) {
			if err := r.Stop(t.Context(), r.call, r.bob, "", pressed("*9")); err != nil {
				t.Fatal(err)
			}
		},
		"two":       func(t *testing.T, r *room) { r.says(t, r.bob, false) },
		"withdrawn": func(t *testing.T, r *room) { r.withdraw(t, r.bob) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := open(t, false)
			r.says(t, r.ann, true)
			r.says(t, r.bob, true)
			l, err := r.Lease(t.Context(), r.call, r.ann)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			g, err := l.Grant(t.Context())
			if err != nil || g.Allows(consent.Record, r.call, r.ann) != nil {
				t.Fatalf("while it stands: %v", err)
			}
			end(t, r)
			if _, err := l.Grant(t.Context()); !errors.Is(err, yesline.Denied) {
				t.Errorf("after it: %v", err)
			}
		})
	}
}

func (r *room) withdraw(t *testing.T, person yesline.PersonID) {
	t.Helper()
	ev := consent.Evidence{Channel: "page", AtMillis: time.Now().UnixMilli()}
	if err := r.Withdraw(t.Context(), r.permit(t, person, access.Withdraw), r.call, consent.Record, ev); err != nil {
		t.Fatal(err)
	}
}

func TestWithdrawingShredsAndLeavesTheOther(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		r.says(t, r.ann, true)
		r.says(t, r.bob, true)
		page := consent.Evidence{Channel: "page", AtMillis: time.Now().UnixMilli()}
		if err := r.Set(t.Context(), r.permit(t, r.ann, access.Allow), r.call, consent.Share, page); err != nil {
			t.Fatal(err)
		}
		before, err := r.Of(t.Context(), r.call, r.ann)
		if err != nil || !before.Share || !before.Kept() {
			t.Fatalf("%+v %v", before, err)
		}
		r.withdraw(t, r.ann)
		after, err := r.Of(t.Context(), r.call, r.ann)
		if err != nil || after.Share || after.Kept() || after.Generation == before.Generation {
			t.Errorf("ann after: %+v %v", after, err)
		}
		if bob, err := r.Of(t.Context(), r.call, r.bob); err != nil || !bob.Kept() {
			t.Errorf("bob after: %+v %v", bob, err)
		}
		if _, err := r.Kept(t.Context(), r.call, r.ann); !errors.Is(err, yesline.Denied) {
			t.Errorf("deriving from a withdrawn voice: %v", err)
		}
		want := string(r.call) + "/" + string(r.ann)
		for range 100 {
			if r.shredded.Load() == want {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Errorf("the job that destroys the voice did not run: %v", r.shredded.Load())
	})
}

// A no on the keypad after a yes takes the yes back.
func TestTwoAfterOneDestroys(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		r.says(t, r.ann, true)
		r.says(t, r.ann, false)
		if s, err := r.Of(t.Context(), r.call, r.ann); err != nil || s.Record != consent.Withdrawn {
			t.Errorf("%+v %v", s, err)
		}
	})
}

func TestPermitsAreForOneVerbAndCall(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		r.says(t, r.ann, true)
		page := consent.Evidence{Channel: "page", AtMillis: time.Now().UnixMilli()}
		view, allow := r.permit(t, r.ann, access.View), r.permit(t, r.ann, access.Allow)
		for name, try := range map[string]func() error{
			"nothing in hand":   func() error { return r.Set(t.Context(), access.Permit{}, r.call, consent.Share, page) },
			"another verb":      func() error { return r.Set(t.Context(), view, r.call, consent.Share, page) },
			"withdraw by allow": func() error { return r.Withdraw(t.Context(), allow, r.call, consent.Record, page) },
			"another call":      func() error { return r.Set(t.Context(), allow, yesline.NewCallID(), consent.Share, page) },
		} {
			if err := try(); !errors.Is(err, yesline.Denied) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, p := range []consent.Purpose{consent.Record, consent.Derive, "", "sell"} {
			if err := r.Set(t.Context(), allow, r.call, p, page); !errors.Is(err, yesline.Invalid) {
				t.Errorf("allowing %q on the page: %v", p, err)
			}
		}
		if err := r.Set(t.Context(), r.permit(t, r.bob, access.Allow), r.call, consent.License, page); !errors.Is(err, yesline.Conflict) {
			t.Errorf("licensing a voice that nobody recorded: %v", err)
		}
	})
}

func TestTheZeroGrantAllowsNothing(t *testing.T) {
	t.Parallel()
	var g consent.Grant
	for _, p := range []consent.Purpose{"", consent.Record, consent.Derive} {
		if g.Allows(p, "", "") == nil || g.Allows(p, yesline.NewCallID(), yesline.NewPersonID()) == nil {
			t.Errorf("the zero grant allows %q", p)
		}
	}
}

func TestAGrantIsForOnePurposeAndPerson(t *testing.T) {
	t.Parallel()
	r := open(t, false)
	r.says(t, r.ann, true)
	r.says(t, r.bob, true)
	g, err := r.Kept(t.Context(), r.call, r.ann)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Allows(consent.Record, r.call, r.ann); err == nil {
		t.Error("a grant to derive lets new sound in")
	}
	if err := g.Allows(consent.Derive, r.call, r.bob); err == nil {
		t.Error("a grant for ann serves for bob")
	}
	l, err := r.Lease(t.Context(), r.call, r.ann)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	live, err := l.Grant(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if live.Allows(consent.Derive, r.call, r.ann) == nil {
		t.Error("a grant to record serves to derive")
	}
}

// When the database no longer answers, a lease ends within 3 s.
func TestStaleNewsRenewsNothing(t *testing.T) {
	t.Parallel()
	r := open(t, false)
	r.says(t, r.ann, true)
	r.says(t, r.bob, true)
	l, err := r.Lease(t.Context(), r.call, r.ann)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := r.Content.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `ALTER TABLE watches RENAME TO away`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(db.Staleness + 200*time.Millisecond)
	if _, err := l.Grant(t.Context()); !errors.Is(err, yesline.Denied) {
		t.Errorf("a grant on old news: %v", err)
	}
}

func TestHistoryKeepsTheEvidence(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		ev := pressed("1")
		ev.PromptSHA256, ev.FromMillis, ev.ToMillis = "ab12", ev.AtMillis-8000, ev.AtMillis-1000
		if err := r.Answer(t.Context(), consent.Answer{Call: r.call, Person: r.ann, Leg: "leg_x", Purpose: consent.Record, Yes: true, Evidence: ev}); err != nil {
			t.Fatal(err)
		}
		events, err := r.History(t.Context(), r.call)
		if err != nil || len(events) != 1 || events[0].Evidence != ev || events[0].Person != r.ann || events[0].What != consent.Yes {
			t.Errorf("%+v %v", events, err)
		}
		if err := r.Answer(t.Context(), consent.Answer{Call: r.call, Person: r.bob, Purpose: consent.Record, Yes: true}); !errors.Is(err, yesline.Invalid) {
			t.Errorf("an answer without evidence: %v", err)
		}
		if err := r.Answer(t.Context(), consent.Answer{Call: r.call, Person: yesline.NewPersonID(), Purpose: consent.Record, Yes: true, Evidence: ev}); !errors.Is(err, yesline.NotFound) {
			t.Errorf("an answer of somebody else: %v", err)
		}
	})
}
