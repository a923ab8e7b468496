package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	_ "modernc.org/sqlite" // a second connection, as somebody with the file has

	"yesline/internal/app"
	"yesline/internal/audit"
	"yesline/internal/web"
)

// content is what every file of a folder holds, with its mode. LOCK is left
// out: it names the process that looked last.
func content(t *testing.T, folder string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() == "LOCK" {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		found[path] = info.Mode().String()
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			found[path] += fmt.Sprintf(" %x", sha256.Sum256(data))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// untouched compares two looks at a folder.
func untouched(t *testing.T, before, after map[string]string) {
	t.Helper()
	for path, was := range before {
		if after[path] != was {
			t.Errorf("%s was changed", filepath.Base(path))
		}
	}
	for path := range after {
		if before[path] == "" {
			t.Errorf("%s is new", filepath.Base(path))
		}
	}
}

// One folder is one server's. The second says who has it, leaves it alone, and
// the first goes on.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	h.start()
	pid := fmt.Sprint(h.server.Process.Pid)
	second := run(t, "serve", "--config", h.file, "--http", "127.0.0.1:0")
	second.wants(t, exitConflict, "in use by another yesline", "process "+pid)
	h.command("audit", "verify").wants(t, 0, "The log is whole")
	if code := h.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("the first server ends with %d", code)
	}
	h.start() // and is free again
	if h.stop(syscall.SIGKILL); h.server.ProcessState.Success() {
		t.Error("it survived kill -9")
	}
	h.start() // and after a kill, too
}

// The house's own socket is for its user alone.
func TestTheLocalSocketIsClosedToOthers(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	h.start()
	for path, want := range map[string]fs.FileMode{"": fs.ModeDir | 0o700, "run": fs.ModeDir | 0o700, "run/yesline.sock": fs.ModeSocket | 0o600,
		"root.key": 0o600, "objects": fs.ModeDir | 0o700} {
		info, err := os.Stat(filepath.Join(h.cfg.Data, path))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%q has the mode %v, want %v", path, info.Mode(), want)
		}
	}
	h.stop(syscall.SIGTERM)
	r := h.command("audit", "verify")
	r.wants(t, exitFailed, "is it running?")
}

// Without its own root key a house does not start, names itself, and stays as
// it was to the last byte.
func TestTheWrongRootKey(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	h.start()
	h.command("invite", "+12025550142").wants(t, 0)
	var report audit.Report
	r := h.command("audit", "verify", "--json")
	if err := json.Unmarshal([]byte(r.out), &report); err != nil {
		t.Fatal(err)
	}
	name, _, _ := strings.Cut(report.Key, "+")
	if h.stop(syscall.SIGTERM) != 0 {
		t.Fatal("the server did not end well")
	}
	key := filepath.Join(h.cfg.Data, "root.key")
	right, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.Clone(right)
	other[0] ^= 1
	for _, c := range []struct {
		name  string
		spoil func() error
		code  int
		words []string
	}{
		{"another key", func() error { return os.WriteFile(key, other, 0o600) }, exitDenied, []string{name, "does not belong to this house", "nothing was touched"}},
		{"a short key", func() error { return os.WriteFile(key, right[1:], 0o600) }, exitFailed, []string{"31 bytes"}},
		{"an empty key", func() error { return os.WriteFile(key, nil, 0o600) }, exitFailed, []string{"0 bytes"}},
		{"no key", func() error { return os.Remove(key) }, exitFailed, []string{"is gone", "nothing was touched"}},
		{"a key that others may read", func() error { return errors.Join(os.WriteFile(key, right, 0o600), os.Chmod(key, 0o644)) }, exitDenied, []string{"may be read by others", "0600"}},
		{"a key that the group may read", func() error { return os.Chmod(key, 0o640) }, exitDenied, []string{"may be read by others"}},
		{"a folder", func() error { return errors.Join(os.Remove(key), os.Mkdir(key, 0o700)) }, exitDenied, []string{"root key"}},
	} {
		if err := c.spoil(); err != nil {
			t.Fatal(err)
		}
		before := content(t, h.cfg.Data)
		r := h.command("serve")
		r.wants(t, c.code, c.words...)
		r.keeps(t, string(right), string(other), fmt.Sprintf("%x", right), "2025550142")
		untouched(t, before, content(t, h.cfg.Data))
		if t.Failed() {
			t.Fatalf("with %s", c.name)
		}
	}
	if err := errors.Join(os.Remove(key), os.WriteFile(key, right, 0o600)); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.command("audit", "verify").wants(t, 0, "The log is whole", name)
}

// The log of a running server is checked from the command line; somebody with
// the database file changes a row, and it is found and named.
func TestVerifyOfALiveServer(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	h.start()
	h.command("invite", "+12025550142").wants(t, 0)
	h.command("audit", "verify").wants(t, 0, "The log is whole", "Key: yesline-")
	r := h.command("audit", "verify", "--json")
	r.wants(t, 0)
	var report audit.Report
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || report.Entries == 0 || report.Checkpoint == "" || len(report.Problems) > 0 {
		t.Errorf("the report is %+v, %v", report, err)
	}
	d, err := sql.Open("sqlite", "file:"+filepath.Join(h.cfg.Data, "content.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var seq int64
	if err := d.QueryRow(`UPDATE audit_parts SET sealed = zeroblob(length(sealed))
		WHERE leaf_id = (SELECT id FROM audit_leaves WHERE seq IS NOT NULL ORDER BY seq DESC LIMIT 1)
		RETURNING (SELECT seq FROM audit_leaves WHERE id = leaf_id)`).Scan(&seq); err != nil {
		t.Fatal(err)
	}
	h.command("audit", "verify").wants(t, exitProblems, fmt.Sprintf("entry %d in content was changed", seq))
	r = h.command("audit", "verify", "--json")
	r.wants(t, exitProblems)
	report = audit.Report{}
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || len(report.Problems) != 1 {
		t.Errorf("the report is %+v, %v", report, err)
	}
}

// The log of a house at work grows while it is checked, in all three
// databases. What came meanwhile is no problem.
func TestVerifyWhileTheLogGrows(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	h.start()
	local := app.Local(h.cfg)
	ctx, enough := context.WithCancel(t.Context())
	var inviting sync.WaitGroup
	for i := range 4 {
		inviting.Go(func() {
			for n := 0; ctx.Err() == nil && n < 45; n++ {
				if _, err := local.Invite(ctx, fmt.Sprintf("+1202555%d1%02d", i, n)); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	var last int64
	for range 40 {
		r, err := local.VerifyLog(t.Context())
		if err != nil || len(r.Problems) > 0 || r.Entries < last {
			t.Errorf("%d entries after %d: %v %v", r.Entries, last, r.Problems, err)
		}
		last = r.Entries
	}
	enough()
	inviting.Wait()
	if last < 10 {
		t.Errorf("only %d entries were written meanwhile", last)
	}
}

// A link of an invitation signs one person in, once. A preview that only looks
// does not use it up.
func TestAnInvitationWorksOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "127.0.0.1:9")
	h.start()
	r := h.command("invite", "(202) 555-0142", "--json")
	r.wants(t, 0)
	r.keeps(t, "5550142")
	var made web.LocalInvited
	if err := json.Unmarshal([]byte(r.out), &made); err != nil {
		t.Fatal(err)
	}
	if made.Mask != "+1 ••• ••42" || !strings.HasPrefix(made.Link, h.cfg.URL+"/in/") {
		t.Errorf("the link is %d letters long, the mask %q", len(made.Link), made.Mask)
	}
	answer := func(method, url string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		got.Body.Close()
		return got.StatusCode
	}
	for _, c := range []struct {
		method string
		want   int
	}{{"GET", http.StatusOK}, {"GET", http.StatusOK}, {"POST", http.StatusSeeOther}, {"POST", http.StatusNotFound}, {"POST", http.StatusNotFound}} {
		if got := answer(c.method, made.Link); got != c.want {
			t.Errorf("%s of the link answers %d, want %d", c.method, got, c.want)
		}
	}
	h.command("invite", "+12025550143").wants(t, 0, h.cfg.URL+"/in/", "••• ••43")
	for _, wrong := range []string{"", "nobody", "555-0142", "+0025550142", "+12025550142\nTo: x", strings.Repeat("2025550142", 20)} {
		r := h.command("invite", wrong)
		r.wants(t, exitFailed, "cannot be read")
		r.keeps(t, "5550142", "555-0142", "nobody")
	}
	for _, l := range h.said() {
		if strings.Contains(l, "5550142") || strings.Contains(l, strings.TrimPrefix(made.Link, h.cfg.URL)) {
			t.Errorf("the server's log tells too much: %s", l)
		}
	}
}

// A receipt is checked offline against a key that came another way.
func TestReceipts(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	first, key := receipt(t, filepath.Join(folder, "one"))
	_, otherKey := receipt(t, filepath.Join(folder, "other"))
	file := func(name string, data []byte) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("receipt.json", first)
	run(t, "receipt", "verify", good, "--key", key).wants(t, 0, "OK", "track.destroyed")
	r := run(t, "receipt", "verify", good, "--key", key, "--json")
	var e audit.Entry
	if err := json.Unmarshal([]byte(r.out), &e); r.code != 0 || err != nil || e.Verb != "track.destroyed" {
		t.Errorf("it exits %d with %+v, %v", r.code, e, err)
	}
	for name, forged := range map[string][]byte{
		"another verb":  bytes.Replace(first, []byte("track.destroyed"), []byte("track.preserved"), 1),
		"another time":  bytes.Replace(first, []byte(`\"at\":1`), []byte(`\"at\":2`), 1),
		"another place": bytes.Replace(first, []byte(`"index": `), []byte(`"index": 1`), 1),
		"cut":           first[:len(first)/2],
		"nothing":       nil,
		"something":     []byte(`{"format":"yesline-receipt/1"}`),
	} {
		if bytes.Equal(forged, first) {
			t.Errorf("%s: it is not forged", name)
		}
		run(t, "receipt", "verify", file("forged.json", forged), "--key", key).wants(t, exitProblems, "not OK")
	}
	run(t, "receipt", "verify", good, "--key", otherKey).wants(t, exitProblems, "not OK", "signature")
	run(t, "receipt", "verify", good, "--key", "nonsense").wants(t, exitProblems, "not OK", "key")
	run(t, "receipt", "verify", good).wants(t, exitUsage, "--key")
	run(t, "receipt", "verify", good, "--key", "").wants(t, exitUsage, "--key")
	run(t, "receipt", "verify").wants(t, exitUsage)
	run(t, "receipt", "verify", good+".absent", "--key", key).wants(t, exitFailed, "no such file")
	run(t, "receipt", "verify", file("large.json", make([]byte, 1<<20+1)), "--key", key).wants(t, exitFailed, "much smaller")
}

// receipt makes a house in a folder, an entry about somebody, and their
// receipt of it.
func receipt(t *testing.T, folder string) (data []byte, key string) {
	t.Helper()
	cfg := app.Defaults()
	cfg.Data = folder
	a := inside(t, cfg)
	program := addProgram(t, a)
	person := meet(t, a, program, "+12025550142")
	ref, err := a.Log.Append(t.Context(), audit.Entry{Program: program, Actor: "svc:shred", Verb: "track.destroyed", Object: "trk_x", Result: "done",
		Subjects: people(person)})
	if err != nil {
		t.Fatal(err)
	}
	if data, err = a.Log.Receipt(t.Context(), ref, person); err != nil {
		t.Fatal(err)
	}
	return data, a.Log.VerifierKey()
}
