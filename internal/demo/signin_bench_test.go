package demo

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// signs answers a challenge to sign in (Web Authentication, section 7.2).
func (p *softPasskey) signs(options []byte) ([]byte, error) {
	var asked struct {
		Challenge string `json:"challenge"`
	}
	if err := json.Unmarshal(options, &asked); err != nil {
		return nil, err
	}
	client, err := json.Marshal(map[string]any{"type": "webauthn.get", "challenge": asked.Challenge, "origin": p.origin, "crossOrigin": false})
	if err != nil {
		return nil, err
	}
	rp, hash := sha256.Sum256([]byte(p.rp)), sha256.Sum256(client)
	data := append(rp[:], 1|4, 0, 0, 0, 0)
	digest := sha256.Sum256(append(bytes.Clone(data), hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, p.key, digest[:])
	if err != nil {
		return nil, err
	}
	encode := base64.RawURLEncoding.EncodeToString
	return json.Marshal(map[string]any{"id": encode(p.id), "rawId": encode(p.id), "type": "public-key", "clientExtensionResults": map[string]any{},
		"response": map[string]any{"clientDataJSON": encode(client), "authenticatorData": encode(data), "signature": encode(signature), "userHandle": encode(p.handle)}})
}

const signInsASecond = 200

// Sign-ins by passkey over HTTP at 200 a second, while somebody plays: how long
// a sign-in takes, and what a player waits for a window before and meanwhile.
// Clients and house share the machine, so both pay for both.
func BenchmarkSignInWhilePlaying(b *testing.B) {
	ctx := b.Context()
	d, err := open(ctx, Options{Out: io.Discard, HTTP: "127.0.0.1:0"})
	if err != nil {
		b.Fatal(err)
	}
	defer d.close()
	ann, maya, err := d.pair(ctx, "Ann", "Maya", false)
	if err != nil {
		b.Fatal(err)
	}
	t, err := d.ring(ctx, ann, maya, "1", "1")
	if err == nil {
		err = t.speak(ctx, 0, 5)
	}
	if err == nil {
		err = t.hangUp(ctx)
	}
	if err != nil {
		b.Fatal(err)
	}
	kept, err := t.kept(ctx)
	if err != nil {
		b.Fatal(err)
	}
	track := ""
	for _, k := range kept {
		if k.Person == ann.id {
			track = "/tracks/" + string(k.ID) + "/audio"
		}
	}
	passkeys := d.software(b, 20)

	before := d.plays(b, t, track, 2*time.Second, nil)
	b.ResetTimer()
	ended := make(chan struct{})
	var took []time.Duration
	go func() {
		defer close(ended)
		took = d.signIns(b, passkeys, b.N)
	}()
	during := d.plays(b, t, track, time.Hour, ended)
	b.ReportMetric(percent(took, 50), "sign-in-p50-ms")
	b.ReportMetric(percent(took, 99), "sign-in-p99-ms")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sign-ins/s")
	b.ReportMetric(percent(before, 99), "window-p99-before-ms")
	b.ReportMetric(percent(during, 99), "window-p99-ms")
}

// software gives n people an account each, and a passkey in software.
func (d *Demo) software(b *testing.B, n int) (all []*softPasskey) {
	b.Helper()
	ctx := b.Context()
	for i := range n {
		who, err := d.contributor(ctx, "Bob", d.strict)
		if err != nil {
			b.Fatal(i, err)
		}
		_, me, err := d.Sessions.Redeem(ctx, strings.TrimPrefix(who.link, "/in/"))
		if err != nil {
			b.Fatal(err)
		}
		options, err := d.Sessions.RegisterOptions(ctx, me.Account(), nil)
		if err != nil {
			b.Fatal(err)
		}
		p, credential, err := newPasskey(options, d.Config.URL)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := d.Sessions.AddPasskey(ctx, me, "software", credential); err != nil {
			b.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// signIns signs in n times at the rate, and says how long each took.
func (d *Demo) signIns(b *testing.B, passkeys []*softPasskey, n int) []time.Duration {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	one := func(p *softPasskey) error {
		options, err := d.Sessions.SignInOptions(context.Background())
		if err != nil {
			return err
		}
		credential, err := p.signs(options)
		if err != nil {
			return err
		}
		answer, err := client.PostForm(d.Config.URL+"/in/passkey", url.Values{"credential": {string(credential)}})
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		io.Copy(io.Discard, answer.Body)
		if answer.StatusCode != http.StatusSeeOther {
			return fmt.Errorf("signing in answers %d", answer.StatusCode)
		}
		return nil
	}
	var mu sync.Mutex
	var took []time.Duration
	var running sync.WaitGroup
	tick := time.NewTicker(time.Second / signInsASecond)
	defer tick.Stop()
	for i := range n {
		<-tick.C
		running.Go(func() {
			began := time.Now()
			if err := one(passkeys[i%len(passkeys)]); err != nil {
				b.Error(err)
			}
			mu.Lock()
			took = append(took, time.Since(began))
			mu.Unlock()
		})
	}
	running.Wait()
	return took
}

// plays has four players fetch 64 KiB windows 20 times a second each, for a
// while or until ended, and says how long each window took.
func (d *Demo) plays(b *testing.B, t *talk, track string, most time.Duration, ended <-chan struct{}) []time.Duration {
	b.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var playing sync.WaitGroup
	until := time.Now().Add(most)
	for range 4 {
		player, err := d.browser(b.Context(), t.caller)
		if err != nil {
			b.Fatal(err)
		}
		if code, _, _, err := player.do(b.Context(), "GET", "/calls/"+string(t.id), ""); err != nil || code != http.StatusOK {
			b.Fatal(code, err)
		}
		playing.Go(func() {
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for time.Now().Before(until) {
				select {
				case <-ended:
					return
				case <-tick.C:
				}
				began := time.Now()
				code, _, _, err := player.do(context.Background(), "GET", track, "bytes=0-65535")
				if err != nil || code != http.StatusPartialContent {
					b.Errorf("a window answers %d, %v", code, err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
			}
		})
	}
	playing.Wait()
	return took
}

func percent(took []time.Duration, p int) float64 {
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return float64(took[min(len(took)*p/100, len(took)-1)].Microseconds()) / 1000
}
