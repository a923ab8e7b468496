package session

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/icholy/digest"

	"yesline"
	"yesline/internal/db"
	"yesline/internal/db/dbtest"
)

const uri = "sip:+12025550142@calls.example"

// sipPhone is a telephone that knows its password.
type sipPhone struct {
	h                  *house
	device             Device
	username, password string
	algorithm          string // "SHA-256" unless told
}

func (h *house) addPhone(person yesline.PersonID, md5 bool) *sipPhone {
	h.t.Helper()
	d, username, password, err := h.AddDevice(context.Background(), h.program, person, md5)
	if err != nil {
		h.t.Fatal(err)
	}
	return &sipPhone{h, d, username, string(password.Bytes()), "SHA-256"}
}

func ha1Of(username, password string) *ha1 {
	a1 := []byte(username + ":" + realm + ":" + password)
	return &ha1{sha256.Sum256(a1), md5.Sum(a1)}
}

// challenge gives the challenge in the phone's algorithm.
func (p *sipPhone) challenge() *digest.Challenge {
	p.h.t.Helper()
	return p.read(p.h.Challenge(p.username, "", false))
}

// read takes a challenge and answers it in the phone's own algorithm, whatever
// it asks for.
func (p *sipPhone) read(value string) *digest.Challenge {
	p.h.t.Helper()
	c, err := digest.ParseChallenge(value)
	if err != nil {
		p.h.t.Fatal(err)
	}
	c.Algorithm = p.algorithm
	return c
}

func (p *sipPhone) header(c *digest.Challenge, method string, count int) string {
	p.h.t.Helper()
	given, err := digest.Digest(c, digest.Options{Method: method, URI: uri, Username: p.username, Password: p.password, Count: count})
	if err != nil {
		p.h.t.Fatal(err)
	}
	return given.String()
}

func (p *sipPhone) answer(method string) (Device, Principal, error) {
	p.h.t.Helper()
	return p.h.Answer(context.Background(), method, uri, p.header(p.challenge(), method, 1))
}

func (p *sipPhone) isKnown(method string) {
	p.h.t.Helper()
	d, who, err := p.answer(method)
	if err != nil {
		p.h.t.Fatalf("the phone is refused: %v", err)
	}
	if d != p.device || who.Person() != p.device.Person || who.Program() != p.device.Program || who.Session() != "" {
		p.h.t.Fatalf("the phone is %+v of %+v, want %+v", d, who, p.device)
	}
}

func (p *sipPhone) isRefused(method string) {
	p.h.t.Helper()
	_, _, err := p.answer(method)
	p.h.refused(err)
}

// refused wants the one error of a wrong answer.
func (h *house) refused(err error) {
	h.t.Helper()
	if !errors.Is(err, yesline.Denied) || errors.Is(err, Stale) || err.Error() != "answering a challenge: not permitted" {
		h.t.Fatalf("got %v, want the one refusal", err)
	}
}

func (h *house) stale(err error) {
	h.t.Helper()
	if !errors.Is(err, yesline.Denied) || !errors.Is(err, Stale) {
		h.t.Fatalf("got %v, want a stale nonce", err)
	}
}

func TestAPhoneAnswersAChallenge(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		phone := h.addPhone(h.ann, false)
		if len(phone.password) != 26 || !plainWord(phone.username) {
			t.Errorf("a password of %d letters, want 26 (128 bits)", len(phone.password))
		}
		phone.isKnown("INVITE")
		phone.isKnown("REGISTER")
		bobs := h.addPhone(h.bob, false)
		bobs.isKnown("INVITE")
		bobs.username = phone.username
		bobs.isRefused("INVITE")
	})
}

func TestAChallengeIsInTheDevicesOwnAlgorithm(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		strict, old := h.addPhone(h.ann, false), h.addPhone(h.bob, true)
		for user, alg := range map[string]string{strict.username: "SHA-256", old.username: "MD5", "": "SHA-256", "nobody": "SHA-256"} {
			for _, stale := range []bool{false, true} {
				c, err := digest.ParseChallenge(h.Challenge(user, "", stale))
				if err != nil || c.Algorithm != alg || c.Realm != realm || !c.SupportsQOP("auth") || c.Stale != stale || c.Nonce == "" {
					t.Errorf("the challenge for %q is %+v, %v", user, c, err)
				}
			}
		}
	})
}

func TestMD5IsForDevicesThatOptedIn(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		strict, old := h.addPhone(h.ann, false), h.addPhone(h.bob, true)
		old.isKnown("INVITE")
		old.algorithm, strict.algorithm = "MD5", "MD5"
		old.isKnown("INVITE")
		strict.isRefused("INVITE")
		strict.algorithm = "SHA-256"
		strict.isKnown("INVITE")
	})
}

func TestWrongAnswersAreAllRefusedAlike(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		phone := h.addPhone(h.ann, false)
		answer := func(method, uri, header string) error {
			t.Helper()
			_, who, err := h.Answer(t.Context(), method, uri, header)
			if err != nil && who != (Principal{}) {
				t.Error("a refusal names somebody")
			}
			return err
		}
		good := phone.header(phone.challenge(), "INVITE", 1)
		change := func(old, new string) string {
			t.Helper()
			if !strings.Contains(good, old) {
				t.Fatalf("no %q in the header", old)
			}
			return strings.Replace(good, old, new, 1)
		}
		for name, err := range map[string]error{
			"another method":        answer("REGISTER", uri, good),
			"another uri":           answer("INVITE", "sip:+12025550199@calls.example", good),
			"no header":             answer("INVITE", uri, ""),
			"basic":                 answer("INVITE", uri, "Basic dTpw"),
			"another realm":         answer("INVITE", uri, change(`realm="calls.example"`, `realm="elsewhere"`)),
			"no qop":                answer("INVITE", uri, change("qop=auth, nc=00000001, ", "")),
			"auth-int":              answer("INVITE", uri, change("qop=auth", "qop=auth-int")),
			"no algorithm":          answer("INVITE", uri, change("algorithm=SHA-256, ", "")),
			"another algorithm":     answer("INVITE", uri, change("algorithm=SHA-256", "algorithm=SHA-512")),
			"session algorithm":     answer("INVITE", uri, change("algorithm=SHA-256", "algorithm=SHA-256-sess")),
			"another count":         answer("INVITE", uri, change("nc=00000001", "nc=00000002")),
			"count of 0":            answer("INVITE", uri, change("nc=00000001", "nc=00000000")),
			"negative count":        answer("INVITE", uri, change("nc=00000001", "nc=-1")),
			"an unknown user":       answer("INVITE", uri, change(phone.username, "unobody234567")),
			"a hashed user name":    answer("INVITE", uri, change("response=", "userhash=true, response=")),
			"a cut response":        answer("INVITE", uri, good[:len(good)-2]+`"`),
			"an empty response":     answer("INVITE", uri, good[:strings.Index(good, "response=")]+`response=""`),
			"a line break":          answer("INVITE", uri, good+"\r\nX: y"),
			"a header without end":  answer("INVITE", uri, good+strings.Repeat(", a=b", 1000)),
			"a nonce of no one":     answer("INVITE", uri, change(`nonce="`, `nonce="x`)),
			"a user name too long":  answer("INVITE", uri, change(phone.username, strings.Repeat("u", 65))),
			"something not a param": answer("INVITE", uri, good+", x"),
		} {
			if !errors.Is(err, yesline.Denied) || err.Error() != "answering a challenge: not permitted" {
				t.Errorf("%s: got %v, want the one refusal", name, err)
			}
		}
		if err := answer("INVITE", uri, good); err != nil {
			t.Errorf("after all that the right answer is refused: %v", err)
		}
	})
}

// An unknown user costs one opening and one hash, as a wrong password does.
func TestAnUnknownUserCostsWhatAWrongPasswordCosts(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		wrong, unknown := h.addPhone(h.ann, false), h.addPhone(h.ann, false)
		wrong.password = "wrong"
		unknown.username = "unobody234567"
		for name, phone := range map[string]*sipPhone{"wrong password": wrong, "unknown user": unknown} {
			before := h.opened.Load()
			phone.isRefused("INVITE")
			if got := h.opened.Load() - before; got != 1 {
				t.Errorf("%s: %d openings, want 1", name, got)
			}
		}
	})
}

func TestAnAnswerWorksOnce(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		phone := h.addPhone(h.ann, false)
		c := phone.challenge()
		answer := func(count int) error {
			_, _, err := h.Answer(t.Context(), "INVITE", uri, phone.header(c, "INVITE", count))
			return err
		}
		first := phone.header(c, "INVITE", 1)
		if _, _, err := h.Answer(t.Context(), "INVITE", uri, first); err != nil {
			t.Fatal(err)
		}
		_, _, err := h.Answer(t.Context(), "INVITE", uri, first)
		h.stale(err)
		h.stale(answer(1))
		if err := answer(2); err != nil {
			t.Errorf("the next count: %v", err)
		}
		if err := answer(9); err != nil {
			t.Errorf("a count that leaves some out: %v", err)
		}
		h.stale(answer(8))
		h.stale(answer(9))
	})
}

func TestAWrongAnswerDoesNotUseTheNonceUp(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		phone := h.addPhone(h.ann, false)
		c := phone.challenge()
		wrong := *phone
		wrong.password = "wrong"
		_, _, err := h.Answer(t.Context(), "INVITE", uri, wrong.header(c, "INVITE", 5))
		h.refused(err)
		if _, _, err := h.Answer(t.Context(), "INVITE", uri, phone.header(c, "INVITE", 1)); err != nil {
			t.Errorf("somebody's wrong answer spoiled the right one: %v", err)
		}
	})
}

func TestAChallengeLastsAMinute(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house) {
		phone := h.addPhone(h.ann, false)
		c := phone.challenge()
		answer := func(count int) error {
			_, _, err := h.Answer(t.Context(), "INVITE", uri, phone.header(c, "INVITE", count))
			return err
		}
		time.Sleep(60*time.Second - time.Millisecond)
		if err := answer(1); err != nil {
			t.Errorf("just before the end: %v", err)
		}
		time.Sleep(time.Millisecond)
		h.stale(answer(2))
		wrong := *phone
		wrong.password = "wrong"
		_, _, err := h.Answer(t.Context(), "INVITE", uri, wrong.header(c, "INVITE", 2))
		h.refused(err) // who does not know the password is not told that the nonce is old
		phone.isKnown("INVITE")
	})
}

// A used nonce is remembered until it is stale, however the tables turn.
func TestNoReplayAtAnySecond(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house) {
		phone := h.addPhone(h.ann, false)
		for wait := range 30 {
			time.Sleep(time.Duration(wait) * 7 * time.Second)
			c := phone.challenge()
			header := phone.header(c, "INVITE", 1)
			time.Sleep(time.Duration(wait) * 2 * time.Second)
			if _, _, err := h.Answer(t.Context(), "INVITE", uri, header); err != nil {
				t.Fatal(err)
			}
			for range 30 {
				_, _, err := h.Answer(t.Context(), "INVITE", uri, header)
				h.stale(err)
				time.Sleep(4 * time.Second)
				phone.isKnown("INVITE") // turns the tables
			}
		}
	})
}

func TestTheMemoryOfNoncesIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house) {
		for i := range maxUsed {
			if !h.nonces.use(time.Now(), h.nonces.make(time.Now(), ""), 1) {
				t.Fatalf("nonce %d is refused", i)
			}
		}
		if h.nonces.use(time.Now(), h.nonces.make(time.Now(), ""), 1) || len(h.nonces.current) > maxUsed {
			t.Error("the memory of nonces grows without end")
		}
		time.Sleep(2 * NonceTime)
		if !h.nonces.use(time.Now(), h.nonces.make(time.Now(), ""), 1) || len(h.nonces.current) != 1 {
			t.Error("the memory of nonces does not empty")
		}
	})
}

func TestANonceOfAnotherProcessIsStale(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		phone := h.addPhone(h.ann, false)
		other, err := New(t.Context(), h.db, realm, h.sealing())
		if err != nil {
			t.Fatal(err)
		}
		c := phone.read(other.Challenge(phone.username, "", false))
		_, _, err = h.Answer(t.Context(), "INVITE", uri, phone.header(c, "INVITE", 1))
		h.stale(err)
		if _, _, err = other.Answer(t.Context(), "INVITE", uri, phone.header(c, "INVITE", 1)); err != nil {
			t.Errorf("the process that asked: %v", err)
		}
	})
}

// A wrong answer tells of its sender only when the nonce was given to it.
func TestWhoWasChallenged(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house) {
		phone := h.addPhone(h.ann, false)
		phone.password = "wrong"
		header := phone.header(phone.read(h.Challenge(phone.username, "192.0.2.1", false)), "INVITE", 1)
		if !h.Challenged("192.0.2.1", header) {
			t.Error("whom we asked is not known")
		}
		if h.Challenged("192.0.2.2", header) || h.Challenged("", header) {
			t.Error("a nonce counts for an address that it was not given to")
		}
		if h.Challenged("192.0.2.1", "Digest nonsense") || h.Challenged("192.0.2.1", strings.Replace(header, `nonce="`, `nonce="A`, 1)) {
			t.Error("a nonce that we did not make counts")
		}
		time.Sleep(NonceTime)
		if h.Challenged("192.0.2.1", header) {
			t.Error("an old nonce counts")
		}
	})
}

func TestAnEndedDeviceIsUnknown(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		phone := h.addPhone(h.ann, false)
		if err := h.EndDevice(t.Context(), h.bob, phone.device.ID); !errors.Is(err, yesline.NotFound) {
			t.Errorf("got %v when bob ends ann's phone, want not found", err)
		}
		phone.isKnown("INVITE")
		if err := h.EndDevice(t.Context(), h.ann, phone.device.ID); err != nil {
			t.Fatal(err)
		}
		phone.isRefused("INVITE")
		if err := h.EndDevice(t.Context(), h.ann, phone.device.ID); !errors.Is(err, yesline.NotFound) {
			t.Errorf("got %v for ending it again, want not found", err)
		}
	})
}

func TestADestroyedKeyMakesTheDeviceUnknown(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		phone := h.addPhone(h.ann, false)
		h.lost.Store(true)
		phone.isRefused("INVITE")
		phone.username = "unobody234567"
		phone.isRefused("INVITE")
	})
}

// Whoever can write the table cannot make bob's phone ann's: what is sealed
// opens under its own device's id only.
func TestAMovedPasswordDoesNotOpen(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		anns, bobs := h.addPhone(h.ann, false), h.addPhone(h.bob, false)
		var sealed []byte
		if err := h.db.QueryRow(t.Context(), `SELECT ha1 FROM devices WHERE id = $1`, string(bobs.device.ID)).Scan(&sealed); err != nil {
			t.Fatal(err)
		}
		err := h.db.Transact(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			if _, err := tx.Exec(ctx, `DELETE FROM devices WHERE id = $1`, string(bobs.device.ID)); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `UPDATE devices SET username = $1, ha1 = $2 WHERE id = $3`, bobs.username, sealed, string(anns.device.ID))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, who, err := bobs.answer("INVITE"); err == nil || who != (Principal{}) {
			t.Errorf("bob's phone is %v (%v), want an error", who, err)
		}
	})
}

// RFC 7616 section 3.9.1.
func TestTheDigestsOfTheRFC(t *testing.T) {
	const realm = "http-auth@example.org"
	a1 := []byte("Mufasa:" + realm + ":Circle of Life")
	h := &ha1{sha256.Sum256(a1), md5.Sum(a1)}
	for algorithm, response := range map[string]string{
		"MD5":     "8ca523f5e9506fed4657c9700eebdbec",
		"SHA-256": "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
	} {
		a, err := readAuthorization(realm, `Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm=`+algorithm+
			`, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth, response="`+
			response+`", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`)
		if err != nil || !a.right(h, "GET") {
			t.Errorf("%s: the RFC's own answer is not right (%v)", algorithm, err)
		}
		if err == nil && a.right(h, "POST") {
			t.Errorf("%s: right for another method", algorithm)
		}
	}
}

func TestARealmIsAPlainWord(t *testing.T) {
	content := dbtest.SQLite(t)("content")
	for _, realm := range []string{"", `a"b`, "a b", "a\r\n", strings.Repeat("a", 129)} {
		if _, err := New(t.Context(), content, realm, Sealing{}); !errors.Is(err, yesline.Invalid) {
			t.Errorf("got %v for a bad realm, want invalid", err)
		}
	}
	if _, err := New(t.Context(), content, realm, Sealing{}); err == nil {
		t.Error("a room without keys")
	}
}

// FuzzAuthorization: whatever is sent, reading ends, keeps its bounds, and is
// never right for a password that the sender does not know.
func FuzzAuthorization(f *testing.F) {
	f.Add(`Digest username="u", realm="calls.example", nonce="n", uri="sip:a@b", response="r", algorithm=SHA-256, cnonce="c", qop=auth, nc=00000001`)
	h := randomHA1()
	f.Fuzz(func(t *testing.T, header string) {
		a, err := readAuthorization(realm, header)
		if err != nil {
			if !errors.Is(err, yesline.Denied) || len(header) > 8 && strings.Contains(err.Error(), header) {
				t.Errorf("got %v", err)
			}
			return
		}
		c := a.given
		if c.Username == "" || len(c.Username) > maxUsername || c.Realm != realm || c.Cnonce == "" || len(c.Cnonce) > maxCnonce || c.Nc < 1 || c.URI == "" {
			t.Errorf("read %+v", c)
		}
		if strings.ContainsFunc(c.Username+c.URI+c.Cnonce+c.Nonce+c.Response, unicode.IsControl) {
			t.Errorf("read control characters in %+v", c)
		}
		if a.right(&h, "INVITE") {
			t.Error("right without the password")
		}
		var n nonces
		n.init()
		if n.use(time.Now(), c.Nonce, c.Nc) {
			t.Error("a nonce that we did not make")
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	h := newHouse(b, dbtest.SQLite(b)("content"))
	phone := h.addPhone(h.ann, false)
	c := phone.challenge()
	n := 0
	headers := make([]string, 0, 1000)
	for i := range 1000 {
		headers = append(headers, phone.header(c, "INVITE", i+1))
	}
	for b.Loop() {
		if n%len(headers) == 0 { // a new process, which has seen no count
			h.nonces.current = map[nonceID]uint32{}
		}
		if _, _, err := h.Answer(b.Context(), "INVITE", uri, headers[n%len(headers)]); err != nil && !errors.Is(err, Stale) {
			b.Fatal(err)
		}
		n++
	}
}
