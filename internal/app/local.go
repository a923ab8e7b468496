package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/playback"
	"yesline/internal/session"
	"yesline/internal/web"
)

// The command line reaches a running server through a socket of mode 0600 in a
// folder of mode 0700. It is the same table, gate and log; the kernel's word
// for the peer's uid names the principal.

func socketPath(cfg Config) string { return filepath.Join(cfg.Data, "run", "yesline.sock") }

func (a *App) startLocal() error {
	path := socketPath(a.Config)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("making the folder of the local socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) { // left by a crash: the folder's lock is ours
		return err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("listening on the local socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return err
	}
	s := a.Site.Server()
	s.Handler = a.Site.Local()
	s.WriteTimeout = 10 * time.Minute // checking a long log takes its time
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		uid, err := peer(c)
		if err != nil {
			return ctx // nobody: every row refuses
		}
		return web.WithPeer(ctx, session.Local(uid))
	}
	a.serve(s, l)
	return nil
}

// peer asks the kernel who is at the other end (SO_PEERCRED).
func peer(c net.Conn) (uid uint32, err error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("not a local socket: %w", yesline.Denied)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *syscall.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return cred.Uid, nil
}

// Client is the command line's end of the local socket.
type Client struct {
	http http.Client
	url  string
}

// Local gives a client of the server that runs on this configuration.
func Local(cfg Config) *Client {
	cfg.complete()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", socketPath(cfg))
		if err != nil {
			return nil, fmt.Errorf("no server answers for %s; is it running? %w", cfg.Data, err)
		}
		return c, nil
	}
	return &Client{http.Client{Transport: &http.Transport{DialContext: dial}}, cfg.URL}
}

const answerMost = 4 << 20

// VerifyLog has the server check its whole log.
func (c *Client) VerifyLog(ctx context.Context) (audit.Report, error) {
	var r audit.Report
	return r, c.do(ctx, http.MethodGet, "/local/log", nil, &r)
}

// RevokeTickets recalls what is meant by exactly one of the four, the zero value
// being none, and gives the entry of the log that tells of it.
func (c *Client) RevokeTickets(ctx context.Context, all bool, object, session string, since time.Time) (entry string, err error) {
	what := playback.Revocation{All: all, Object: object, Since: since}
	if yesline.IsID("key", session) {
		what.Key = yesline.KeyID(session)
	} else {
		what.Session = yesline.SessionID(session)
	}
	body, err := json.Marshal(what)
	if err != nil {
		return "", err
	}
	var done playback.Contained
	err = c.do(ctx, http.MethodPost, "/local/tickets/revoke", bytes.NewReader(body), &done)
	return string(done.Entry), err
}

// RotateTicketKeys gives a program, or each if it is "", a new key.
func (c *Client) RotateTicketKeys(ctx context.Context, program string) (entries []string, err error) {
	programs := []web.LocalProgram{{ID: yesline.ProgramID(program)}}
	if program == "" {
		if err := c.do(ctx, http.MethodGet, "/local/programs", nil, &programs); err != nil {
			return nil, err
		}
	}
	for _, p := range programs {
		if !yesline.IsID("prg", string(p.ID)) {
			return entries, fmt.Errorf("a program has an id of the form prg_…: %w", yesline.Invalid)
		}
		var done playback.Contained
		if err := c.do(ctx, http.MethodPost, "/local/programs/"+string(p.ID)+"/tickets/rotate", nil, &done); err != nil {
			return entries, err
		}
		entries = append(entries, string(done.Entry))
	}
	return entries, nil
}

// Invite adds a contributor to the oldest program.
func (c *Client) Invite(ctx context.Context, number string) (web.LocalInvited, error) {
	var made web.LocalInvited
	var programs []web.LocalProgram
	if err := c.do(ctx, http.MethodGet, "/local/programs", nil, &programs); err != nil {
		return made, err
	}
	if len(programs) == 0 {
		return made, fmt.Errorf("a program to invite to: %w", yesline.NotFound)
	}
	body, err := json.Marshal(web.LocalInvite{Number: number})
	if err != nil {
		return made, err
	}
	err = c.do(ctx, http.MethodPost, "/local/programs/"+string(programs[0].ID)+"/people", bytes.NewReader(body), &made)
	made.Link = c.url + made.Link
	return made, err
}

func (c *Client) do(ctx context.Context, method, path string, body io.Reader, out any) error {
	r, err := http.NewRequestWithContext(ctx, method, "http://yesline"+path, body)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := c.http.Do(r)
	if asked := (*url.Error)(nil); errors.As(err, &asked) {
		return asked.Err // its own text has an address that nobody can open
	}
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, answerMost))
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		var problem struct{ Title string }
		json.Unmarshal(data, &problem)
		return fmt.Errorf("the server says: %s (%d)", problem.Title, answer.StatusCode)
	}
	return json.Unmarshal(data, out)
}
