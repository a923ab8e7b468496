package sms_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"yesline"
	"yesline/internal/notify"
	"yesline/internal/notify/notifytest"
	"yesline/internal/notify/sms"
)

const secret = "the provider's shared secret"

// provider is a real one on loopback: it checks what a provider checks.
type provider struct {
	*httptest.Server
	mu   sync.Mutex // guards got
	got  []notifytest.Got
	odds []string
}

func newProvider(t *testing.T) *provider {
	p := &provider{}
	p.Server = httptest.NewServer(http.HandlerFunc(p.take))
	t.Cleanup(p.Close)
	t.Cleanup(func() {
		for _, odd := range p.odds {
			t.Error("the provider: " + odd)
		}
	})
	return p
}

func (p *provider) take(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	p.mu.Lock()
	defer p.mu.Unlock()
	refuse := func(why string) {
		p.odds = append(p.odds, why)
		http.Error(w, why, http.StatusUnauthorized)
	}
	var m struct{ ID, To, From, Text string }
	read := json.NewDecoder(strings.NewReader(string(body)))
	read.DisallowUnknownFields()
	switch {
	case r.Method != "POST" || r.Header.Get("Content-Type") != "application/json":
		refuse("not a POST of JSON")
	case !signed(r.Header.Get("Yesline-Signature"), body):
		refuse("the signature is not of this body")
	case read.Decode(&m) != nil:
		refuse("the body is not as agreed")
	case m.To != "+12025550142" || m.From != "Yesline":
		refuse("not to whom it was, or not from whom")
	case r.Header.Get("Idempotency-Key") != m.ID:
		refuse("no key to tell a second try")
	default:
		p.got = append(p.got, notifytest.Got{ID: m.ID, Text: m.Text})
		w.WriteHeader(http.StatusAccepted)
	}
}

// signed is the provider's own check, written from the description.
func signed(header string, body []byte) bool {
	at, mark, ok := strings.Cut(strings.TrimPrefix(header, "t="), ",v1=")
	seconds, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil || time.Since(time.Unix(seconds, 0)).Abs() > time.Minute {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%d.%s", seconds, body)
	got, err := hex.DecodeString(mark)
	return err == nil && hmac.Equal(got, mac.Sum(nil))
}

func (p *provider) arrived() []notifytest.Got {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]notifytest.Got(nil), p.got...)
}

func driver(t *testing.T, url string) *sms.Driver {
	t.Helper()
	d, err := sms.New(sms.Config{URL: url, Secret: yesline.NewSecret([]byte(secret)), From: "Yesline"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func TestContract(t *testing.T) {
	notifytest.TestSender(t, func(t *testing.T) (notify.Sender, func() []notifytest.Got) {
		p := newProvider(t)
		return driver(t, p.URL), p.arrived
	})
}

// answers is a provider that does only this.
func answers(t *testing.T, f http.HandlerFunc) *sms.Driver {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return driver(t, s.URL)
}

// What the provider's answer means for money: refused for good, perhaps sent,
// or surely not.
func TestWhatAnAnswerMeans(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]error{
		200: nil, 201: nil, 202: nil, 204: nil,
		301: yesline.Unavailable, 302: yesline.Unavailable, 307: yesline.Unavailable, 308: yesline.Unavailable,
		400: notify.Refused, 410: notify.Refused, 413: notify.Refused, 422: notify.Refused,
		401: yesline.Unavailable, 403: yesline.Unavailable, 404: yesline.Unavailable, 408: yesline.Unavailable, 429: yesline.Unavailable,
		503: yesline.Unavailable,
		500: notify.Unsure, 502: notify.Unsure, 504: notify.Unsure,
	} {
		d := answers(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			if status != 204 {
				io.WriteString(w, "no such number +12025550142")
			}
		})
		err := d.Send(t.Context(), notifytest.New(t, "text"))
		if !errors.Is(err, want) {
			t.Errorf("%d: got %v, want %v", status, err, want)
		}
		for _, other := range []error{notify.Refused, notify.Unsure} {
			if other != want && errors.Is(err, other) {
				t.Errorf("%d: got %v too", status, other)
			}
		}
		if err != nil && strings.Contains(err.Error(), "555") {
			t.Errorf("%d: the error repeats the provider's answer: %v", status, err)
		}
	}
}

// A redirect is not followed: it would carry number and code elsewhere.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	t.Cleanup(other.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		d := answers(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, status) })
		if err := d.Send(t.Context(), notifytest.New(t, "text")); !errors.Is(err, yesline.Unavailable) {
			t.Errorf("%d: got %v, want not available", status, err)
		}
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("%d messages went elsewhere", n)
	}
}

// A provider who takes the message and then hangs may have sent it.
func TestAProviderWhoHangs(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	var came atomic.Int32
	d := answers(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		came.Add(1)
		<-end
	})
	defer close(end)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := d.Send(ctx, notifytest.New(t, "text")); !errors.Is(err, notify.Unsure) {
		t.Errorf("got %v, want perhaps sent", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it was given up after %v", took)
	}
	if came.Load() != 1 {
		t.Errorf("the message came %d times", came.Load())
	}
}

// One that is slow is waited for.
func TestASlowProvider(t *testing.T) {
	t.Parallel()
	d := answers(t, func(w http.ResponseWriter, r *http.Request) { time.Sleep(300 * time.Millisecond) })
	if err := d.Send(t.Context(), notifytest.New(t, "text")); err != nil {
		t.Error(err)
	}
}

// One that cuts the line after reading is asked once: no second try by the way.
func TestAProviderWhoCutsTheLine(t *testing.T) {
	t.Parallel()
	var came atomic.Int32
	d := answers(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if came.Add(1) == 1 {
			return // the first is answered, so that its connection is kept
		}
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			c.Close()
		}
	})
	if err := d.Send(t.Context(), notifytest.New(t, "text")); err != nil {
		t.Fatal(err)
	}
	if err := d.Send(t.Context(), notifytest.New(t, "text")); !errors.Is(err, notify.Unsure) {
		t.Errorf("got %v, want perhaps sent", err)
	}
	if n := came.Load(); n != 2 {
		t.Errorf("two messages came %d times", n)
	}
}

func TestAnEndlessAnswerIsNotRead(t *testing.T) {
	t.Parallel()
	d := answers(t, func(w http.ResponseWriter, r *http.Request) {
		junk := make([]byte, 1<<16)
		for r.Context().Err() == nil {
			if _, err := w.Write(junk); err != nil {
				return
			}
		}
	})
	began := time.Now()
	if err := d.Send(t.Context(), notifytest.New(t, "text")); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the answer was read for %v", took)
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	d := driver(t, "http://"+address+"/send?token=hidden")
	err = d.Send(t.Context(), notifytest.New(t, "text"))
	if !errors.Is(err, yesline.Unavailable) || errors.Is(err, notify.Unsure) {
		t.Errorf("got %v, want not available", err)
	}
	if strings.Contains(fmt.Sprint(err), "hidden") {
		t.Errorf("the error repeats the address: %v", err)
	}
}

// A certificate that nobody vouches for is refused before anything is said.
func TestTLSIsChecked(t *testing.T) {
	t.Parallel()
	var came atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { came.Add(1) }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	if err := driver(t, s.URL).Send(t.Context(), notifytest.New(t, "text")); !errors.Is(err, yesline.Unavailable) || came.Load() != 0 {
		t.Errorf("got %v, %d came", err, came.Load())
	}
}

func TestPlainHTTPIsForLoopback(t *testing.T) {
	t.Parallel()
	for url, good := range map[string]bool{
		"https://sms.example/v1/send": true, "http://127.0.0.1:8080/": true, "http://localhost/": true, "http://[::1]:99/x": true,
		"http://sms.example/": false, "http://10.0.0.1/": false, "http://localhost.example/": false, "http://127.0.0.1.example/": false,
		"ftp://sms.example/": false, "sms.example/send": false, "": false, "https://": false, "https://user:hidden@sms.example/": false,
		"https://sms.example/#x": false, "https://sms.example/" + strings.Repeat("x", 3000): false, "https://sms.example\x00/": false,
	} {
		_, err := sms.New(sms.Config{URL: url, Secret: yesline.NewSecret([]byte(secret))})
		if good != (err == nil) || !good && !errors.Is(err, yesline.Invalid) {
			t.Errorf("%.40q: got %v, want good: %v", url, err, good)
		}
		if err != nil && strings.Contains(err.Error(), "hidden") {
			t.Errorf("the error repeats the address: %v", err)
		}
	}
	for name, cfg := range map[string]sms.Config{
		"no secret":         {URL: "https://sms.example/"},
		"a short secret":    {URL: "https://sms.example/", Secret: yesline.NewSecret([]byte("short"))},
		"a sender in lines": {URL: "https://sms.example/", Secret: yesline.NewSecret([]byte(secret)), From: "a\r\nb"},
	} {
		if _, err := sms.New(cfg); !errors.Is(err, yesline.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
}

// Twilio's form: the account and its token as the password, no header of ours.
func TestTwiliosForm(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		account, token, ok := r.BasicAuth()
		if !ok || account != "AC0123" || token != secret || r.Header.Get(sms.Signature) != "" {
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		if r.FormValue("To") != "+12025550142" || r.FormValue("From") != "+12025550100" || r.FormValue("Body") != "a & b = 1" {
			http.Error(w, "what", http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusCreated)
	}))
	t.Cleanup(s.Close)
	d, err := sms.New(sms.Config{URL: s.URL, Secret: yesline.NewSecret([]byte(secret)), From: "+12025550100", Twilio: "AC0123"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	if err := d.Send(t.Context(), notifytest.New(t, "a & b = 1")); err != nil {
		t.Error(err)
	}
}
