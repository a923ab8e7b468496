package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"yesline/internal/app"
)

// findings is what doctor --json says.
func (r ran) findings(t *testing.T) []app.Finding {
	t.Helper()
	var said struct {
		Version  int
		Findings []app.Finding
	}
	if err := json.Unmarshal([]byte(r.out), &said); err != nil || said.Version != 1 || said.Findings == nil {
		t.Fatalf("%v in %q, %s", err, r.out, r.errs)
	}
	return said.Findings
}

// What doctor refuses serve refuses, in the same words, and neither repeats
// what stands there.
func TestDoctorAndServeAgree(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	h.write("data = \"" + h.cfg.Data + "\"\nhttp = \"0.0.0.0:80\"\nproxy.from = [\"0.0.0.0/0\"]\nsms.url = \"http://ann:hunter22@sms.example\"\n")
	r := run(t, "doctor", "--config", h.file)
	r.wants(t, exitProblems, "serve refuses this:")
	serve := run(t, "serve", "--config", h.file)
	serve.wants(t, exitFailed)
	refused := 0
	for _, f := range run(t, "doctor", "--json", "--config", h.file).findings(t) {
		if !strings.Contains(r.out, f.Says) || !strings.Contains(r.out, f.Fix) {
			t.Errorf("%q is not told: %s", f, r.out)
		}
		if f.Level != app.Refuse {
			continue
		}
		if refused++; !strings.Contains(serve.errs, f.String()) {
			t.Errorf("serve does not say %q: %s", f, serve.errs)
		}
	}
	if refused < 4 {
		t.Errorf("%d are refused, want http, proxy.from, sms.url and sms.secret_file", refused)
	}
	r.keeps(t, "hunter")
	serve.keeps(t, "hunter")
	if _, err := os.Stat(h.cfg.Data); !os.IsNotExist(err) {
		t.Errorf("looking made something: %v", err)
	}
}

// A house that runs has nothing that is refused; a key that was opened to
// others meanwhile is.
func TestDoctorOfARunningHouse(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	h.start()
	found := run(t, "doctor", "--json", "--config", h.file).findings(t)
	if slices.ContainsFunc(found, func(f app.Finding) bool {
		return f.Level == app.Refuse || f.Level == app.Warn && strings.HasPrefix(f.About, "data/")
	}) {
		t.Errorf("got %v", found)
	}
	if err := os.Chmod(filepath.Join(h.cfg.Data, "root.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, "doctor", "--config", h.file).wants(t, exitProblems, "root_key may be read by others (mode 644)", "chmod 600")
	run(t, "doctor", "--config", h.file, "more").wants(t, exitUsage)
	run(t, "doctor", "--config", h.file+".absent").wants(t, exitFailed, "configuration")
}
