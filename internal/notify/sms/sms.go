// Package sms sends messages through a provider over HTTP: one signed POST
// each, over TLS beyond loopback, followed nowhere, and given up in time.
package sms

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"yesline"
	"yesline/internal/notify"
)

// Config says where and how. URL and Secret are required.
type Config struct {
	URL    string         // "https://…", or plain http to loopback only
	Secret yesline.Secret // signs each request; with Twilio it is the auth token
	From   string         // who it is from, as the provider wants it; may be ""

	// Twilio is the account (AC…) of a provider that takes Twilio's form
	// instead of our JSON. "" for JSON.
	Twilio string
}

// Signature is the header that carries "t=<unix seconds>,v1=<hex>": the
// HMAC-SHA-256, under the secret, of the seconds, a dot and the body.
const Signature = "Yesline-Signature"

const (
	secretLeast = 16
	answerMost  = 16 << 10 // bytes of an answer that are read
	sendTime    = 10 * time.Second
)

// Driver is a notify.Sender.
type Driver struct {
	cfg    Config
	client http.Client
}

// New checks the configuration and connects to nothing yet. Close gives its
// connections back.
func New(cfg Config) (*Driver, error) {
	if err := checkURL(cfg.URL); err != nil {
		return nil, err
	}
	if len(cfg.Secret.Bytes()) < secretLeast {
		return nil, fmt.Errorf("the secret of the SMS provider has at least %d bytes: %w", secretLeast, yesline.Invalid)
	}
	if len(cfg.From) > 64 || len(cfg.Twilio) > 64 || strings.ContainsFunc(cfg.From+cfg.Twilio, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil, fmt.Errorf("the sender of texts is at most 64 plain letters: %w", yesline.Invalid)
	}
	return &Driver{cfg: cfg, client: http.Client{
		Timeout: sendTime,
		// A redirect would carry the number to where nobody meant it to go.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  nil, // not from the environment: what sends numbers is configured
			DialContext:            (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
			TLSHandshakeTimeout:    3 * time.Second,
			MaxResponseHeaderBytes: answerMost,
			MaxConnsPerHost:        4,
			MaxIdleConnsPerHost:    2,
			IdleConnTimeout:        30 * time.Second,
			ForceAttemptHTTP2:      true,
		},
	}}, nil
}

// Close closes idle connections.
func (d *Driver) Close() { d.client.CloseIdleConnections() }

// checkURL refuses plain HTTP beyond loopback. Its errors do not repeat it: it
// may hold a password.
func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || len(s) > 2048 || u.Host == "" || u.User != nil || u.Fragment != "" {
		return fmt.Errorf("the address of the SMS provider is https://host/path, without a password in it: %w", yesline.Invalid)
	}
	if u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()) {
		return nil
	}
	return fmt.Errorf("the SMS provider is reached by https: %w", yesline.Invalid)
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Send posts one message and waits at most 10 s for the answer.
func (d *Driver) Send(ctx context.Context, m notify.Message) error {
	if err := m.Check(); err != nil {
		return err
	}
	var begun atomic.Bool // something of the request may have gone out
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { begun.Store(true) }})
	r, err := d.request(ctx, m)
	if err != nil {
		return err
	}
	answer, err := d.client.Do(r)
	if err != nil {
		return failed(err, begun.Load())
	}
	defer answer.Body.Close()
	io.Copy(io.Discard, io.LimitReader(answer.Body, answerMost)) // so that the connection serves again
	return verdict(answer.StatusCode)
}

func (d *Driver) request(ctx context.Context, m notify.Message) (*http.Request, error) {
	kind, body, err := d.body(m)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, d.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the request to the SMS provider could not be made")
	}
	r.GetBody = nil // never sent again by the transport: the outbox counts tries
	r.Header.Set("Content-Type", kind)
	r.Header.Set("User-Agent", "yesline")
	if d.cfg.Twilio != "" {
		r.SetBasicAuth(d.cfg.Twilio, string(d.cfg.Secret.Bytes()))
		return r, nil
	}
	r.Header.Set("Idempotency-Key", m.ID)
	r.Header.Set(Signature, Sign(d.cfg.Secret, time.Now(), body))
	return r, nil
}

func (d *Driver) body(m notify.Message) (kind string, body []byte, err error) {
	if d.cfg.Twilio != "" {
		form := url.Values{"To": {m.To.Digits()}, "From": {d.cfg.From}, "Body": {string(m.Text.Bytes())}}
		return "application/x-www-form-urlencoded", []byte(form.Encode()), nil
	}
	body, err = json.Marshal(struct {
		ID   string `json:"id"`
		To   string `json:"to"`
		From string `json:"from,omitempty"`
		Text string `json:"text"`
	}{m.ID, m.To.Digits(), d.cfg.From, string(m.Text.Bytes())})
	return "application/json", body, err
}

// Sign gives the value of the header Signature for a body sent at t.
func Sign(secret yesline.Secret, t time.Time, body []byte) string {
	seconds := strconv.FormatInt(t.Unix(), 10)
	mac := hmac.New(sha256.New, secret.Bytes())
	mac.Write([]byte(seconds + "."))
	mac.Write(body)
	return "t=" + seconds + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// failed tells what no answer means. The error of the client holds the whole
// address, so only what lies inside is told.
func failed(err error, begun bool) error {
	if inner := (*url.Error)(nil); errors.As(err, &inner) {
		err = inner.Err
	}
	if begun {
		return fmt.Errorf("the SMS provider did not answer: %w: %w", notify.Unsure, err)
	}
	return fmt.Errorf("reaching the SMS provider: %w: %w", yesline.Unavailable, err)
}

// verdict reads the status; what else the provider says is not kept, for it may
// repeat the number.
func verdict(status int) error {
	switch {
	case status >= 200 && status < 300:
		return nil
	case status == 400, status == 410, status == 413, status == 422:
		return fmt.Errorf("the SMS provider refused the message (%d): %w", status, notify.Refused)
	case status >= 500 && status != http.StatusServiceUnavailable: // it broke somewhere on the way
		return fmt.Errorf("the SMS provider failed (%d): %w", status, notify.Unsure)
	}
	// Busy, wrong password, or a redirect, which is not followed.
	return fmt.Errorf("the SMS provider does not take messages (%d): %w", status, yesline.Unavailable)
}
