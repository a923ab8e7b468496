package session

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"yesline"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
)

// house is a session room with a real database and real sealing.
type house struct {
	*Sessions
	t       testing.TB
	db      *db.DB
	program yesline.ProgramID
	ann     yesline.PersonID
	bob     yesline.PersonID
	opened  atomic.Int64 // how often something was unsealed
	key     cipher.AEAD
	lost    atomic.Bool // the program's key is destroyed
	macKey  [32]byte
}

const (
	realm  = "calls.example"
	origin = "https://calls.example"
)

func newHouse(t testing.TB, content *db.DB) *house {
	t.Helper()
	key := make([]byte, 32)
	rand.Read(key)
	block, _ := aes.NewCipher(key)
	h := &house{t: t, db: content, program: yesline.NewProgramID(), ann: yesline.NewPersonID(), bob: yesline.NewPersonID()}
	h.key, _ = cipher.NewGCMWithRandomNonce(block)
	rand.Read(h.macKey[:])
	s, err := New(context.Background(), content, realm, h.sealing())
	if err != nil {
		t.Fatal(err)
	}
	h.Sessions = s
	if err := s.UsePasskeys(Passkeys{RPID: "calls.example", Origin: origin, Name: "Yesline"}); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) sealing() Sealing {
	return Sealing{
		Seal: func(_ context.Context, program yesline.ProgramID, context, plain []byte) ([]byte, error) {
			return h.key.Seal(nil, nil, plain, append([]byte(program), context...)), nil
		},
		Open: func(_ context.Context, program yesline.ProgramID, context, sealed []byte) ([]byte, error) {
			h.opened.Add(1)
			if h.lost.Load() {
				return nil, yesline.NotFound
			}
			return h.key.Open(nil, nil, sealed, append([]byte(program), context...))
		},
		MAC: func(_ context.Context, program yesline.ProgramID, data []byte) ([]byte, error) {
			if h.lost.Load() {
				return nil, yesline.NotFound
			}
			m := hmac.New(sha256.New, h.macKey[:])
			m.Write(append([]byte(program), data...))
			return m.Sum(nil), nil
		},
	}
}

// exec changes the tables as somebody would who can write the database and has
// no key of ours.
func (h *house) exec(q string, args ...any) {
	h.t.Helper()
	err := h.db.Transact(context.Background(), func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, q, args...)
		return err
	})
	if err != nil {
		h.t.Fatalf("%s: %v", q, err)
	}
}

// each tells a story on both databases.
func each(t *testing.T, story func(t *testing.T, h *house)) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, open func(string) *db.DB) { story(t, newHouse(t, open("content"))) })
}

// inBubble tells a story about time, on SQLite. Nothing is remembered, because
// what is remembered is looked at every second, and stories last for days.
func inBubble(t *testing.T, story func(t *testing.T, h *house)) {
	t.Parallel()
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		content, err := db.Open(t.Context(), "content", "sqlite:"+filepath.Join(folder, "content.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer content.Close()
		h := newHouse(t, content)
		h.known.most = 0
		story(t, h)
	})
}

func (h *house) link(person yesline.PersonID) string {
	h.t.Helper()
	token, err := h.LinkFor(context.Background(), h.program, person)
	if err != nil {
		h.t.Fatal(err)
	}
	return token
}

func (h *house) signIn(person yesline.PersonID) (cookie string, who Principal) {
	h.t.Helper()
	cookie, who, err := h.Redeem(context.Background(), h.link(person))
	if err != nil {
		h.t.Fatal(err)
	}
	return cookie, who
}

func (h *house) knows(cookie string) Principal {
	h.t.Helper()
	who, err := h.Who(context.Background(), cookie)
	if err != nil {
		h.t.Fatalf("the session is not known: %v", err)
	}
	return who
}

func (h *house) doesNotKnow(cookie string) {
	h.t.Helper()
	if who, err := h.Who(context.Background(), cookie); !errors.Is(err, yesline.NotFound) || who != (Principal{}) {
		h.t.Fatalf("got %v, %v for a session that should not be, want nobody and not found", who, err)
	}
}

func (h *house) redeemFails(token string) {
	h.t.Helper()
	cookie, who, err := h.Redeem(context.Background(), token)
	if !errors.Is(err, yesline.NotFound) || cookie != "" || who != (Principal{}) {
		h.t.Fatalf("got %q, %v, %v for a link that should not work, want not found", cookie, who, err)
	}
}

func TestALinkSignsInOnce(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		token := h.link(h.ann)
		cookie, who, err := h.Redeem(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if who.Kind() != Person || who.Person() != h.ann || who.Program() != h.program || who.Session() == "" {
			t.Errorf("signed in as %+v, want ann of her program with a session", who)
		}
		if again := h.knows(cookie); again != who {
			t.Errorf("got %+v behind the cookie, want %+v", again, who)
		}
		h.redeemFails(token)
		h.redeemFails("")
		h.redeemFails(cookie)
		h.doesNotKnow(token)
		h.doesNotKnow(cookie + "x")
		h.doesNotKnow("")
		cookie2, _ := h.signIn(h.bob)
		if cookie2 == cookie || h.knows(cookie2).Person() != h.bob {
			t.Error("bob is not bob")
		}
	})
}

func TestOfManyWhoRedeemALinkOneSignsIn(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		token := h.link(h.ann)
		var in, out atomic.Int64
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				_, _, err := h.Redeem(t.Context(), token)
				switch {
				case err == nil:
					in.Add(1)
				case errors.Is(err, yesline.NotFound):
					out.Add(1)
				default:
					t.Errorf("redeeming: %v", err)
				}
			})
		}
		wg.Wait()
		if in.Load() != 1 || out.Load() != 15 {
			t.Errorf("%d signed in and %d were refused, want 1 and 15", in.Load(), out.Load())
		}
	})
}

func TestMachinesAndNobodyGetNoLink(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		for _, who := range []Principal{{}, Service("finish"), {kind: Person}, {kind: Person, name: string(h.ann)}} {
			if token, err := h.Link(t.Context(), who); !errors.Is(err, yesline.Invalid) || token != "" {
				t.Errorf("got %v for a link of %+v, want invalid", err, who)
			}
		}
	})
}

func TestLinksEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house) {
		early, late := h.link(h.ann), h.link(h.ann)
		time.Sleep(15*time.Minute - time.Millisecond)
		if _, _, err := h.Redeem(t.Context(), early); err != nil {
			t.Errorf("a link just before its end: %v", err)
		}
		time.Sleep(time.Millisecond)
		h.redeemFails(late)
	})
}

func TestOperatorsLinksLastADay(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house) {
		early, err := h.Link(t.Context(), Local(1000))
		if err != nil {
			t.Fatal(err)
		}
		late, _ := h.Link(t.Context(), Local(1000))
		time.Sleep(24*time.Hour - time.Millisecond)
		cookie, who, err := h.Redeem(t.Context(), early)
		if err != nil || who.Kind() != Operator || who.String() != "os:1000" || who.Person() != "" || h.knows(cookie) != who {
			t.Errorf("got %+v, %v; want the operator", who, err)
		}
		time.Sleep(time.Millisecond)
		h.redeemFails(late)
	})
}

func TestSessionsEndWhenIdle(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house) {
		cookie, _ := h.signIn(h.ann)
		time.Sleep(12*time.Hour - time.Millisecond)
		h.knows(cookie) // and this use counts
		time.Sleep(12*time.Hour - time.Millisecond)
		h.knows(cookie)
		time.Sleep(12 * time.Hour)
		h.doesNotKnow(cookie)
	})
}

func TestSessionsEndAfter30DaysOfUse(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house) {
		cookie, _ := h.signIn(h.ann)
		for range 30*24/8 - 1 {
			time.Sleep(8 * time.Hour)
			h.knows(cookie)
		}
		time.Sleep(8*time.Hour - time.Millisecond)
		who := h.knows(cookie)
		time.Sleep(time.Millisecond)
		h.doesNotKnow(cookie)
		if all := h.open(who); len(all) != 0 {
			t.Errorf("%d sessions are listed after their end", len(all))
		}
	})
}

func TestLastSeenIsCoarse(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house) {
		cookie, who := h.signIn(h.ann)
		seen := func() (ms int64) {
			t.Helper()
			if err := h.db.QueryRow(t.Context(), `SELECT seen FROM sessions WHERE id = $1`, string(who.Session())).Scan(&ms); err != nil {
				t.Fatal(err)
			}
			return ms
		}
		first := seen()
		time.Sleep(time.Minute - time.Millisecond)
		h.knows(cookie)
		if got := seen(); got != first {
			t.Errorf("last seen was written within a minute: %d, want %d", got, first)
		}
		time.Sleep(time.Millisecond)
		h.knows(cookie)
		if got := seen(); got != first+60_000 {
			t.Errorf("got last seen %d, want %d", got, first+60_000)
		}
	})
}

func TestSigningOutEndsOneSessionAtOnce(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		cookie, who := h.signIn(h.ann)
		other, _ := h.signIn(h.ann)
		held, err := h.db.Hold(t.Context(), Watch(who.Session()))
		if err != nil {
			t.Fatal(err)
		}
		defer held.Release()
		before := held.Revision()
		if err := h.End(t.Context(), who); err != nil {
			t.Fatal(err)
		}
		h.doesNotKnow(cookie)
		h.knows(other)
		if held.Revision() == before {
			t.Error("nobody who watches the session was told")
		}
		if err := h.End(t.Context(), who); err != nil {
			t.Errorf("ending it again: %v", err)
		}
		if err := h.End(t.Context(), Service("finish")); !errors.Is(err, yesline.Invalid) {
			t.Errorf("got %v for ending a machine's session, want invalid", err)
		}
	})
}

func TestForgettingAPersonLeavesNothingOfThem(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		annCookie, _ := h.signIn(h.ann)
		bobCookie, _ := h.signIn(h.bob)
		annLink := h.link(h.ann)
		anns, bobs := h.addPhone(h.ann, false), h.addPhone(h.bob, false)
		if err := h.Forget(t.Context(), h.ann); err != nil {
			t.Fatal(err)
		}
		h.doesNotKnow(annCookie)
		h.redeemFails(annLink)
		anns.isRefused("INVITE")
		h.knows(bobCookie)
		bobs.isKnown("INVITE")
		if strings.Contains(h.dump(), string(h.ann)) {
			t.Error("ann is still in a table")
		}
		if err := h.Forget(t.Context(), ""); !errors.Is(err, yesline.Invalid) {
			t.Errorf("got %v for forgetting nobody, want invalid", err)
		}
	})
}

func TestNoSecretIsStored(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		unused := h.link(h.ann)
		used := h.link(h.ann)
		cookie, _, err := h.Redeem(t.Context(), used)
		if err != nil {
			t.Fatal(err)
		}
		phone := h.addPhone(h.ann, true)
		all := h.dump()
		hashes := ha1Of(phone.username, phone.password)
		for name, secret := range map[string]string{"link": unused, "used link": used, "cookie": cookie,
			"password": phone.password, "HA1": string(hashes.sha256[:]), "MD5 HA1": string(hashes.md5[:])} {
			if strings.Contains(all, secret) {
				t.Errorf("the %s is in a table", name)
			}
		}
		if !strings.Contains(all, phone.username) {
			t.Error("the dump of the tables misses what it should have")
		}
		if h.db.Postgres {
			return
		}
		var file string
		h.db.QueryRow(t.Context(), `SELECT file FROM pragma_database_list WHERE name = 'main'`).Scan(&file)
		wal, err := os.ReadFile(file + "-wal")
		if err != nil || strings.Contains(string(wal), cookie) || strings.Contains(string(wal), phone.password) {
			t.Errorf("a secret is in the write-ahead log, or it cannot be read (%v)", err)
		}
	})
}

// dump is all that the room's tables hold.
func (h *house) dump() string {
	h.t.Helper()
	var all strings.Builder
	for _, table := range []string{"links", "sessions", "devices", "passkeys", "recovery_codes", "api_keys", "signups", "spent_challenges", "staff"} {
		rows, err := h.db.Query(context.Background(), `SELECT * FROM `+table)
		if err != nil {
			h.t.Fatal(err)
		}
		columns, _ := rows.Columns()
		for rows.Next() {
			values := make([]any, len(columns))
			for i := range values {
				values[i] = new(any)
			}
			if err := rows.Scan(values...); err != nil {
				h.t.Fatal(err)
			}
			for _, v := range values {
				switch v := (*v.(*any)).(type) {
				case []byte:
					fmt.Fprintf(&all, "%s\n", v)
				default:
					fmt.Fprintf(&all, "%v\n", v)
				}
			}
		}
		rows.Close()
	}
	return all.String()
}

func TestAPrincipalOfNobodyIsNobody(t *testing.T) {
	var p Principal
	if p.Kind() != Nobody || p.Person() != "" || p.Program() != "" || p.Session() != "" {
		t.Errorf("the zero Principal is %+v", p)
	}
	if p := Service("per_x"); p.Person() != "" {
		t.Error("a machine is a person")
	}
}

func BenchmarkWho(b *testing.B) {
	h := newHouse(b, dbtest.SQLite(b)("content"))
	cookie, _ := h.signIn(h.ann)
	for b.Loop() {
		h.knows(cookie)
	}
}
