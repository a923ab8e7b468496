package people_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audit"
	"yesline/internal/db"
	"yesline/internal/keys"
	"yesline/internal/keys/keystest"
	"yesline/internal/people"
	"yesline/internal/session"
)

// room is the room of people over a real log and real keys.
type room struct {
	*keystest.House
	*people.People
	folder   string // of the databases
	gate     *access.Gate
	sessions *session.Sessions
}

func open(t *testing.T) *room {
	t.Helper()
	folder := t.TempDir()
	r := openOn(t, func(name string) *db.DB {
		d, err := db.Open(t.Context(), name, "sqlite:"+filepath.Join(folder, name+".db"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		return d
	})
	r.folder = folder
	return r
}

func openOn(t *testing.T, open func(name string) *db.DB) *room {
	t.Helper()
	ctx := t.Context()
	r := &room{House: keystest.Open(t, open)}
	var err error
	if r.People, err = people.Open(ctx, r.House.People, r.Log, r.Keys); err != nil {
		t.Fatal(err)
	}
	if r.gate, err = access.New(r.Log.Append, map[string]access.Loader{"person": r.facts}); err != nil {
		t.Fatal(err)
	}
	r.sessions, err = session.New(ctx, r.Content, "test", session.Sealing{
		Seal: func(ctx context.Context, p yesline.ProgramID, c, b []byte) ([]byte, error) {
			return r.Keys.SealFor(ctx, p, keys.Session, c, b)
		},
		Open: func(ctx context.Context, p yesline.ProgramID, c, b []byte) ([]byte, error) {
			return r.Keys.OpenFor(ctx, p, keys.Session, c, b)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *room) facts(ctx context.Context, ids []string) (map[string]access.Facts, error) {
	found := map[string]access.Facts{}
	for _, id := range ids {
		program, err := r.People.Program(ctx, yesline.PersonID(id))
		if err == nil {
			found[id] = access.Facts{Program: program, Owner: yesline.PersonID(id)}
		}
	}
	return found, nil
}

func number(t *testing.T, s string) yesline.Phone {
	t.Helper()
	p, err := yesline.NewPhone(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (r *room) meets(t *testing.T, program yesline.ProgramID, s string) yesline.PersonID {
	t.Helper()
	id, err := r.Meet(t.Context(), program, number(t, s))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// as signs a person in.
func (r *room) as(t *testing.T, program yesline.ProgramID, person yesline.PersonID) session.Principal {
	t.Helper()
	token, err := r.sessions.LinkFor(t.Context(), program, person)
	if err != nil {
		t.Fatal(err)
	}
	_, who, err := r.sessions.Redeem(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return who
}

func (r *room) permit(t *testing.T, who session.Principal, v access.Verb, id yesline.PersonID) access.Permit {
	t.Helper()
	p, err := r.gate.Ask(t.Context(), who, v, access.Object{Kind: "person", ID: string(id)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Many meet one person at the same time: there is one row, and everybody gets
// the same id, with keys.
func TestManyMeetOnePerson(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		program := r.House.Program(t)
		ids := make([]yesline.PersonID, 16)
		var meeting sync.WaitGroup
		for i := range ids {
			meeting.Go(func() {
				id, err := r.Meet(t.Context(), program, number(t, "+12025550142"))
				if err != nil {
					t.Error(err)
				}
				ids[i] = id
			})
		}
		meeting.Wait()
		for _, id := range ids {
			if id != ids[0] || !yesline.IsID("per", string(id)) {
				t.Errorf("got %q and %q, want one person", id, ids[0])
			}
		}
		var rows int
		if err := r.House.People.QueryRow(t.Context(), `SELECT COUNT(*) FROM people`).Scan(&rows); err != nil || rows != 1 {
			t.Errorf("%d rows (%v), want 1", rows, err)
		}
		if err := r.Keys.MintVoice(t.Context(), program, ids[0]); err != nil {
			t.Errorf("the person has no keys: %v", err)
		}
		if other := r.meets(t, program, "+12025550143"); other == ids[0] {
			t.Error("two numbers are one person")
		}
	})
}

// A number is another person in another program, and nothing in the rows ties
// the two together.
func TestProgramsAreApart(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		one, other := r.House.Program(t), r.House.Program(t)
		here, there := r.meets(t, one, "+12025550142"), r.meets(t, other, "+12025550142")
		if here == there {
			t.Fatal("one person in two programs")
		}
		rows, err := r.House.People.Query(t.Context(), `SELECT id, program, blind, number FROM people ORDER BY created`)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var blinds, sealed [][]byte
		for rows.Next() {
			var id, program string
			var blind, number []byte
			if err := rows.Scan(&id, &program, &blind, &number); err != nil {
				t.Fatal(err)
			}
			blinds, sealed = append(blinds, blind), append(sealed, number)
		}
		if len(blinds) != 2 || bytes.Equal(blinds[0], blinds[1]) || bytes.Equal(sealed[0], sealed[1]) {
			t.Errorf("%d rows; the blind index or the sealed number is the same in both programs", len(blinds))
		}
		for id, want := range map[yesline.PersonID]yesline.ProgramID{here: one, there: other} {
			if got, err := r.People.Program(t.Context(), id); err != nil || got != want {
				t.Errorf("got %s, %v, want %s", got, err, want)
			}
		}
		if _, err := r.Meet(t.Context(), yesline.NewProgramID(), number(t, "+12025550142")); err == nil {
			t.Error("somebody was met in a program that does not exist")
		}
		if _, err := r.Meet(t.Context(), one, yesline.Phone{}); !errors.Is(err, yesline.Invalid) {
			t.Errorf("nobody's number: got %v, want Invalid", err)
		}
	})
}

// A crash came between the person's row and their keys: the next meeting
// finds the same person and mints what is missing.
func TestACrashBeforeTheKeysIsMended(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		program := r.House.Program(t)
		id := r.meets(t, program, "+12025550142")
		if err := r.KeysDB.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `DELETE FROM person_keys WHERE person = $1`, string(id))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if again := r.meets(t, program, "+12025550142"); again != id {
			t.Errorf("got %s, want %s", again, id)
		}
		if err := r.Keys.MintVoice(t.Context(), program, id); err != nil {
			t.Errorf("the person has no keys: %v", err)
		}
	})
}

// Whoever tries numbers out is stopped, for known and unknown numbers alike,
// and another program does not feel it.
func TestLookingNumbersUpIsLimited(t *testing.T) {
	t.Parallel()
	r := open(t)
	program, other := r.House.Program(t), r.House.Program(t)
	r.meets(t, program, "+12025550142")
	began, tries := time.Now(), 0
	for ; tries < 5000; tries++ {
		_, err := r.Meet(t.Context(), program, number(t, "+12025550142"))
		if errors.Is(err, yesline.TooMany) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if most := 500 + 50*int(time.Since(began)/time.Second+1); tries > most {
		t.Errorf("%d numbers were looked up in %v, want at most %d", tries, time.Since(began), most)
	}
	if tries < 450 {
		t.Errorf("the limit came after %d", tries)
	}
	if _, err := r.Meet(t.Context(), program, number(t, "+12025550199")); !errors.Is(err, yesline.TooMany) {
		t.Errorf("a new number: got %v, want TooMany", err)
	}
	if _, err := r.Meet(t.Context(), other, number(t, "+12025550142")); err != nil {
		t.Errorf("another program: %v", err)
	}
}

// The bytes of the databases hold masks and no number, in any form.
func TestNumbersAreNeverInTheRows(t *testing.T) {
	t.Parallel()
	r := open(t)
	program := r.House.Program(t)
	r.as(t, program, r.meets(t, program, "+12025550142"))
	r.meets(t, program, "+442079460987")
	masked := false
	files, _ := filepath.Glob(filepath.Join(r.folder, "*"))
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, digits := range []string{"2025550142", "2079460987", "7946", "555014"} {
			if bytes.Contains(data, []byte(digits)) {
				t.Errorf("%s holds %s", filepath.Base(f), digits)
			}
		}
		masked = masked || bytes.Contains(data, []byte("+44 ••• ••87"))
	}
	if !masked {
		t.Errorf("not even the mask was found in %d files: the search is broken", len(files))
	}
}

func TestMasks(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		program := r.House.Program(t)
		want := map[yesline.PersonID]string{}
		for number, mask := range map[string]string{"+12025550142": "+1 ••• ••42", "+442079460987": "+44 ••• ••87", "+35312345678": "+353 ••• ••78",
			"+99912345": "+ ••• ••45"} {
			want[r.meets(t, program, number)] = mask
		}
		ids := []yesline.PersonID{yesline.NewPersonID()} // nobody
		for id := range want {
			ids = append(ids, id)
		}
		got, err := r.Masks(t.Context(), ids)
		if err != nil || len(got) != len(want) {
			t.Errorf("got %d masks, %v, want %d", len(got), err, len(want))
		}
		for id, mask := range want {
			if got[id] != mask {
				t.Errorf("got %q, want %q", got[id], mask)
			}
		}
		if got, err := r.Masks(t.Context(), nil); err != nil || len(got) != 0 {
			t.Errorf("nobody's masks: %v, %v", got, err)
		}
		if _, err := r.Masks(t.Context(), make([]yesline.PersonID, 500)); err != nil {
			t.Errorf("500 at once: %v", err)
		}
		if _, err := r.Masks(t.Context(), make([]yesline.PersonID, 501)); !errors.Is(err, yesline.Invalid) {
			t.Errorf("501 at once: got %v, want Invalid", err)
		}
	})
}

// A number opens with a permit to reveal exactly this person, and with nothing
// else that somebody could hold.
func TestRevealNeedsItsPermit(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		program, other := r.House.Program(t), r.House.Program(t)
		ann, bob := r.meets(t, program, "+12025550142"), r.meets(t, program, "+12025550143")
		carl := r.meets(t, other, "+12025550142")
		annHerself := r.as(t, program, ann)

		got, err := r.Reveal(t.Context(), r.permit(t, annHerself, access.Reveal, ann), ann)
		if err != nil || got.Digits() != "+12025550142" {
			t.Errorf("her own number: %v", err)
		}
		if s := fmt.Sprintf("%v %+v %s %q", got, got, got, got); strings.Contains(s, "555") {
			t.Error("the number prints")
		}
		for name, p := range map[string]access.Permit{
			"the zero permit":   {},
			"of another person": r.permit(t, r.as(t, program, bob), access.Reveal, bob),
			"of another verb":   r.permit(t, annHerself, access.List, ann),
			"of another house":  r.permit(t, r.as(t, other, carl), access.Reveal, carl),
		} {
			if got, err := r.Reveal(t.Context(), p, ann); !errors.Is(err, yesline.Denied) || got.Digits() != "" {
				t.Errorf("a permit %s: got %v, want not permitted", name, err)
			}
		}
		for name, who := range map[string]session.Principal{"nobody": {}, "bob": r.as(t, program, bob), "carl": r.as(t, other, carl),
			"an operator": session.Local(0), "a machine": session.Service("finish")} {
			if _, err := r.gate.Ask(t.Context(), who, access.Reveal, access.Object{Kind: "person", ID: string(ann)}, nil); !errors.Is(err, yesline.NotFound) {
				t.Errorf("%s asks for ann's number: got %v, want not found", name, err)
			}
		}
	})
}

// A permit for one program does not open a row that says another.
func TestRevealStaysInItsProgram(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		program, other := r.House.Program(t), r.House.Program(t)
		ann := r.meets(t, program, "+12025550142")
		p := r.permit(t, r.as(t, program, ann), access.Reveal, ann)
		if err := r.House.People.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE people SET program = $1 WHERE id = $2`, string(other), string(ann))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Reveal(t.Context(), p, ann); !errors.Is(err, yesline.NotFound) {
			t.Errorf("got %v, want not found", err)
		}
	})
}

// A sealed number is bound to its person: moved to another row, it does not
// open there.
func TestASwappedNumberDoesNotOpen(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		program := r.House.Program(t)
		ann, bob := r.meets(t, program, "+12025550142"), r.meets(t, program, "+12025550143")
		if err := r.House.People.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE people SET number = (SELECT number FROM people WHERE id = $1) WHERE id = $2`, string(bob), string(ann))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Reveal(t.Context(), r.permit(t, r.as(t, program, ann), access.Reveal, ann), ann); !errors.Is(err, yesline.Tampered) {
			t.Errorf("got %v, want does not match", err)
		}
	})
}

func TestAnExpiredPermitRevealsNothing(t *testing.T) {
	t.Parallel()
	r := open(t)
	program := r.House.Program(t)
	ann := r.meets(t, program, "+12025550142")
	who := r.as(t, program, ann)
	// The gate of this bubble writes no log: only time matters here.
	gate, err := access.New(func(context.Context, audit.Entry) (audit.Ref, error) { return audit.Ref{DB: "content", Leaf: "x"}, nil },
		map[string]access.Loader{"person": func(context.Context, []string) (map[string]access.Facts, error) {
			return map[string]access.Facts{string(ann): {Program: program, Owner: ann}}, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		p, err := gate.Ask(t.Context(), who, access.Reveal, access.Object{Kind: "person", ID: string(ann)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(access.PermitTime - time.Nanosecond)
		if _, err := p.Allows(access.Reveal, "person", string(ann)); err != nil {
			t.Errorf("it ended early: %v", err)
		}
		time.Sleep(time.Nanosecond)
		if _, err := r.Reveal(t.Context(), p, ann); !errors.Is(err, yesline.Denied) {
			t.Errorf("got %v, want not permitted", err)
		}
	})
}

func TestPlace(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		ann := r.meets(t, r.House.Program(t), "+12025550142")
		if place, err := r.Place(t.Context(), ann); place != "" || err != nil {
			t.Errorf("a new person is in %q, %v, want unknown", place, err)
		}
		for place, good := range map[string]bool{
			"US-KS": true, "DE": true, "GB-ENG": true, "US-1": true, "": true,
			"us-ks": false, "USA": false, "U": false, "US-": false, "US-KANS": false, "US-KS ": false, " US": false, "US_KS": false,
			"US-ks": false, "12": false, "US-KS\n": false, "US\x00": false, "ÜS": false, strings.Repeat("US-KS", 100): false,
		} {
			err := r.SetPlace(t.Context(), ann, place)
			if good != (err == nil) || !good && !errors.Is(err, yesline.Invalid) {
				t.Errorf("%q: got %v, want good: %v", place, err, good)
			}
			got, _ := r.Place(t.Context(), ann)
			if good && got != place || !good && got == place {
				t.Errorf("%q was set and %q is kept", place, got)
			}
		}
		if err := r.SetPlace(t.Context(), yesline.NewPersonID(), "DE"); !errors.Is(err, yesline.NotFound) {
			t.Errorf("somebody unknown: got %v, want not found", err)
		}
		if _, err := r.Place(t.Context(), yesline.NewPersonID()); !errors.Is(err, yesline.NotFound) {
			t.Errorf("somebody unknown: got %v, want not found", err)
		}
	})
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ written, country, want string }{
		{"+12025550142", "US", "+12025550142"},
		{"+1 (202) 555-0142", "DE", "+12025550142"},
		{"202-555-0142", "US", "+12025550142"},
		{"(202) 555 0142", "US", "+12025550142"},
		{"020 7946 0987", "GB", "+442079460987"},
		{"+44 20 7946 0987", "US", "+442079460987"},
		{"tel:+12025550142", "US", "+12025550142"},
		{"011 44 20 7946 0987", "US", "+442079460987"},
		{"", "US", ""},
		{"+", "US", ""},
		{"nobody", "US", ""},
		{"202-555-0142", "", ""},
		{"202-555-0142", "ZZ", ""},
		{"555", "US", ""},
		{"555-0142", "US", ""}, // local: without an area code it is nobody's
		{"+49 123", "DE", ""},
		{"911", "US", ""},
		{"+02025550142", "US", ""},
		{"+1202555014", "US", ""},
		{"+1202555014299999", "US", ""},
		{"+12025550142\r\nTo: x", "US", ""},
		{"+1202555\x000142", "US", ""},
		{"+1202555٠١٤٢", "US", ""},
		{"+12025550142" + strings.Repeat(" ", 40), "US", ""},
		{strings.Repeat("1", 10000), "US", ""},
	} {
		got, err := people.Parse(c.written, c.country)
		if c.want == "" {
			if !errors.Is(err, yesline.Invalid) {
				t.Errorf("%q in %q: got %v, want Invalid", c.written, c.country, err)
			} else if strings.ContainsAny(err.Error(), "0123456789") || strings.Contains(err.Error(), "nobody") {
				t.Errorf("%q in %q: the error repeats the input: %v", c.written, c.country, err)
			}
			continue
		}
		if err != nil || got.Digits() != c.want {
			t.Errorf("%q in %q: got %v", c.written, c.country, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("+1 (202) 555-0142", "US")
	f.Add("tel:+12025550142;ext=5", "US")
	f.Add("00", "ZZ")
	f.Fuzz(func(t *testing.T, written, country string) {
		p, err := people.Parse(written, country)
		if err != nil {
			if !errors.Is(err, yesline.Invalid) {
				t.Errorf("got %v, want Invalid", err)
			}
			return
		}
		if _, err := yesline.NewPhone(p.Digits()); err != nil {
			t.Errorf("what was read is no number: %v", err)
		}
	})
}

// Who is forgotten is gone from every answer; their number belongs to a new
// person from then on.
func TestForget(t *testing.T) {
	each(t, func(t *testing.T, r *room) {
		program := r.House.Program(t)
		ann, bob := r.meets(t, program, "+12025550142"), r.meets(t, program, "+12025550143")
		p := r.permit(t, r.as(t, program, ann), access.Reveal, ann)
		for range 2 { // forgetting again does nothing
			if err := r.Forget(t.Context(), ann); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Reveal(t.Context(), p, ann); !errors.Is(err, yesline.NotFound) {
			t.Errorf("her number: got %v, want not found", err)
		}
		if _, err := r.People.Program(t.Context(), ann); !errors.Is(err, yesline.NotFound) {
			t.Errorf("her program: got %v, want not found", err)
		}
		if masks, err := r.Masks(t.Context(), []yesline.PersonID{ann, bob}); err != nil || len(masks) != 1 || masks[bob] == "" {
			t.Errorf("got %d masks, %v, want only bob's", len(masks), err)
		}
		if again := r.meets(t, program, "+12025550142"); again == ann {
			t.Error("a forgotten person came back")
		}
		if again := r.meets(t, program, "+12025550143"); again != bob {
			t.Error("bob was forgotten too")
		}
	})
}
