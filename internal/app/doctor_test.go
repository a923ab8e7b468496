package app

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patient whose house is whole: a data folder as serve leaves it, a root key
// elsewhere, a certificate, a secret.
func healthy(t *testing.T) Config {
	t.Helper()
	folder := t.TempDir() // is 0755, and below a folder for temporary files
	write := func(path, text string, mode os.FileMode) string {
		t.Helper()
		path = filepath.Join(folder, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cfg, err := read(safe)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Data, cfg.PeopleDB, cfg.KeysDB, cfg.ContentDB = filepath.Join(folder, "data"), "", "", ""
	cfg.RootKey = write("etc/root.key", strings.Repeat("k", 32), 0o600)
	cfg.SMS.SecretFile = write("etc/sms", strings.Repeat("s", 32)+"\n", 0o600)
	cfg.TLS = TLS{Certificate: filepath.Join(folder, "etc/certificate.pem"), Key: filepath.Join(folder, "etc/key.pem")}
	ca := newAuthority(t)
	ca.issue(t, 2, cfg.TLS)
	phones := TLS{Certificate: filepath.Join(folder, "etc/phones.pem"), Key: filepath.Join(folder, "etc/phones.key")}
	ca.issue(t, 3, phones)
	cfg.SIPTLS.Certificate, cfg.SIPTLS.Key = phones.Certificate, phones.Key
	cfg.Trunk.SecretFile = write("etc/trunk", strings.Repeat("t", 32), 0o600)
	cfg.WebRTC.TURN.SecretFile = write("etc/turn", strings.Repeat("r", 32), 0o600)
	for _, name := range []string{"people.db", "keys.db", "content.db", "objects/ab/trk_x.0"} {
		write(filepath.Join("data", name), "x", 0o600)
	}
	write("data/reserve", strings.Repeat("\x00", reserveBytes), 0o600)
	return cfg
}

// ofThisMachine are findings that hang on where the test runs.
func ofThisMachine(f Finding) bool {
	return f.About == "the user" || f.Says == "lies in a folder for temporary files" || strings.Contains(f.Says, "says the kernel") ||
		strings.Contains(f.Says, "is on a disk") || strings.Contains(f.Says, "in memory") || strings.Contains(f.Says, "open files") ||
		strings.HasPrefix(f.Says, "comes without those") // the test's authority signs with its root
}

func seen(t *testing.T, cfg Config) []Finding {
	t.Helper()
	found, err := Doctor(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(found, ofThisMachine)
}

func TestTheDoctorPraisesAHealthyHouse(t *testing.T) {
	t.Parallel()
	if found := seen(t, healthy(t)); len(found) != 0 {
		t.Errorf("got %v, want nothing", found)
	}
}

// Each thing that is wrong with files has its finding, and looking changes
// nothing.
func TestTheDoctorLooksAtFiles(t *testing.T) {
	t.Parallel()
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		spoil func(*testing.T, *Config)
		level Level
		about string
		says  string
	}{
		{"an open root key", func(t *testing.T, c *Config) { must(t, os.Chmod(c.RootKey, 0o640)) }, Refuse, "root_key", "may be read by others (mode 640)"},
		{"a root key that is gone", func(t *testing.T, c *Config) { must(t, os.Remove(c.RootKey)) }, Refuse, "root_key", "is gone"},
		{"a root key that is a folder", func(t *testing.T, c *Config) { must(t, os.Remove(c.RootKey)); must(t, os.Mkdir(c.RootKey, 0o700)) }, Refuse, "root_key", "may be read"},
		{"a root key beside the data", func(t *testing.T, c *Config) {
			c.RootKey = filepath.Join(c.Data, "etc", "..", "root.key")
			must(t, os.WriteFile(c.RootKey, nil, 0o600))
		}, Warn, "root_key", "lies in the data folder"},
		{"a linked root key", func(t *testing.T, c *Config) {
			must(t, os.Symlink(c.RootKey, c.RootKey+".link"))
			c.RootKey += ".link"
		}, Note, "root_key", "is a link"},
		{"an open folder", func(t *testing.T, c *Config) { must(t, os.Chmod(c.Data, 0o755)) }, Warn, "data", "is open to others (mode 755)"},
		{"a folder above that is everybody's", func(t *testing.T, c *Config) { must(t, os.Chmod(filepath.Dir(c.Data), 0o777)) }, Warn, "data", "everybody may write"},
		{"no folder", func(t *testing.T, c *Config) { c.Data = filepath.Join(c.Data, "new") }, Note, "data", "is not there yet"},
		{"a file for a folder", func(t *testing.T, c *Config) { c.Data = c.RootKey }, Refuse, "data", "is no folder"},
		{"an open database in an open folder", func(t *testing.T, c *Config) {
			must(t, os.Chmod(c.Data, 0o750))
			must(t, os.Chmod(filepath.Join(c.Data, "people.db"), 0o644))
		}, Warn, "data/people.db", "can be opened by others"},
		{"an open database in a closed folder", func(t *testing.T, c *Config) { must(t, os.Chmod(filepath.Join(c.Data, "keys.db"), 0o640)) }, Note, "data/keys.db", "wherever it is copied"},
		{"a link out", func(t *testing.T, c *Config) { must(t, os.Symlink("/etc", filepath.Join(c.Data, "objects", "ac"))) }, Warn, "data/objects/ac", "leads out"},
		{"no reserve", func(t *testing.T, c *Config) { must(t, os.Remove(filepath.Join(c.Data, "reserve"))) }, Warn, "data/reserve", "is not there"},
		{"a spent reserve", func(t *testing.T, c *Config) { must(t, os.Truncate(filepath.Join(c.Data, "reserve"), 1)) }, Warn, "data/reserve", "is not there"},
		{"an open TLS key", func(t *testing.T, c *Config) { must(t, os.Chmod(c.TLS.Key, 0o604)) }, Refuse, "tls", "cannot be used"},
		{"a TLS key of a group", func(t *testing.T, c *Config) { must(t, os.Chmod(c.TLS.Key, 0o640)) }, Note, "tls.key", "by a group"},
		{"no certificate", func(t *testing.T, c *Config) { must(t, os.Remove(c.TLS.Certificate)) }, Refuse, "tls", "cannot be used"},
		{"a pipe for a certificate", func(t *testing.T, c *Config) {
			must(t, os.Remove(c.TLS.Certificate))
			must(t, syscall.Mkfifo(c.TLS.Certificate, 0o600))
		}, Refuse, "tls", "cannot be used"},
		{"a certificate of others", func(t *testing.T, c *Config) {
			newAuthority(t).issueFor(t, 3, c.TLS, 100*24*time.Hour, "other.example")
		}, Warn, "tls.certificate", "not for the host"},
		{"a certificate that ends", func(t *testing.T, c *Config) { newAuthority(t).issueFor(t, 3, c.TLS, 50*time.Hour, ourHost) }, Warn, "tls.certificate", "ends in 2 days"},
		{"a certificate that ended", func(t *testing.T, c *Config) { newAuthority(t).issueFor(t, 3, c.TLS, -time.Minute, ourHost) }, Warn, "tls.certificate", "has ended"},
		{"an open secret", func(t *testing.T, c *Config) { must(t, os.Chmod(c.SMS.SecretFile, 0o644)) }, Refuse, "sms.secret_file", "cannot be used"},
		{"no secret", func(t *testing.T, c *Config) { must(t, os.Remove(c.SMS.SecretFile)) }, Refuse, "sms.secret_file", "cannot be used"},
		{"a short secret", func(t *testing.T, c *Config) {
			must(t, os.WriteFile(c.SMS.SecretFile, []byte("hunter22\n\n\n\n\n\n\n\n\n"), 0o600))
		}, Refuse, "sms.secret_file", "fewer than 16"},
		{"an open password", func(t *testing.T, c *Config) { must(t, os.Chmod(c.Trunk.SecretFile, 0o644)) }, Refuse, "trunk.secret_file", "cannot be used"},
		{"no password", func(t *testing.T, c *Config) { must(t, os.WriteFile(c.Trunk.SecretFile, nil, 0o600)) }, Refuse, "trunk.secret_file", "fewer than 1"},
		{"a short password", func(t *testing.T, c *Config) {
			must(t, os.WriteFile(c.Trunk.SecretFile, []byte("hunter22\n"), 0o600))
		}, Note, "trunk.secret_file", "short"},
		{"a password beside the data", func(t *testing.T, c *Config) {
			c.Trunk.SecretFile = filepath.Join(c.Data, "trunk")
			must(t, os.WriteFile(c.Trunk.SecretFile, []byte(strings.Repeat("t", 32)), 0o600))
		}, Note, "trunk.secret_file", "backups"},
		{"an open relay's secret", func(t *testing.T, c *Config) { must(t, os.Chmod(c.WebRTC.TURN.SecretFile, 0o644)) }, Refuse, "webrtc.turn.secret_file", "cannot be used"},
		{"a short relay's secret", func(t *testing.T, c *Config) {
			must(t, os.WriteFile(c.WebRTC.TURN.SecretFile, []byte("hunter22"), 0o600))
		}, Refuse, "webrtc.turn.secret_file", "fewer than 16"},
		{"no certificate for phones", func(t *testing.T, c *Config) { c.SIPTLS.Certificate = c.RootKey }, Refuse, "sip_tls", "cannot be used"},
		{"a certificate for phones that ends", func(t *testing.T, c *Config) {
			its := TLS{Certificate: c.TLS.Certificate + ".sip", Key: c.TLS.Key + ".sip"}
			newAuthority(t).issueFor(t, 3, its, 50*time.Hour, ourHost)
			c.SIPTLS.Certificate, c.SIPTLS.Key = its.Certificate, its.Key
		}, Warn, "sip_tls", "ends in 2 days"},
		{"no certificate for the trunk", func(t *testing.T, c *Config) { c.Trunk.Certificate, c.Trunk.Key = c.RootKey, c.RootKey }, Refuse, "trunk.certificate", "cannot be used"},
		{"no authority of phones", func(t *testing.T, c *Config) { c.SIPTLS.ClientCA = c.RootKey }, Refuse, "sip_tls.client_ca", "holds no certificate"},
		{"no authority of the trunk", func(t *testing.T, c *Config) { c.Trunk.CA = c.RootKey + ".none" }, Refuse, "trunk.ca", "cannot be used"},
		{"a clock that went back", func(t *testing.T, c *Config) {
			later := time.Now().Add(time.Hour)
			must(t, os.Chtimes(filepath.Join(c.Data, "content.db"), later, later))
		}, Warn, "the clock", "earlier than what was written"},
		{"a private authority without roots", func(t *testing.T, c *Config) {
			c.ACME, c.TLS = ACME{Agree: true, Roots: c.RootKey}, TLS{}
		}, Refuse, "acme.roots", "cannot be used"},
		{"an authority that cannot look", func(t *testing.T, c *Config) { c.ACME, c.TLS = ACME{Agree: true}, TLS{} }, Note, "acme", "has to be asked"},
		{"a setting", func(t *testing.T, c *Config) { c.Proxy.From = []string{"::/0"} }, Refuse, "proxy.from", "believes everybody"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := healthy(t)
			c.spoil(t, &cfg)
			found := seen(t, cfg)
			if !slices.ContainsFunc(found, func(f Finding) bool {
				return f.Level == c.level && f.About == c.about && strings.Contains(f.Says, c.says)
			}) {
				t.Errorf("got %v, want %q about %s", found, c.says, c.about)
			}
			for _, f := range found {
				if strings.Contains(f.String(), "hunter") || strings.Contains(f.String(), filepath.Dir(cfg.RootKey)) {
					t.Errorf("repeats a secret or a path: %s", f)
				}
			}
			if !slices.IsSortedFunc(found, func(a, b Finding) int {
				order := []Level{Refuse, Warn, Note}
				return slices.Index(order, a.Level) - slices.Index(order, b.Level)
			}) {
				t.Errorf("the worst is not first: %v", found)
			}
		})
	}
}

// The files that serve refuses are refused before anything is opened.
func TestServeRefusesWhatTheDoctorRefuses(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(Config) error{
		"a TLS key": func(c Config) error { return os.Chmod(c.TLS.Key, 0o644) },
		"a secret":  func(c Config) error { return os.Chmod(c.SMS.SecretFile, 0o644) },
		"a SIP key": func(c Config) error { return os.Chmod(c.SIPTLS.Key, 0o644) },
		"a trunk":   func(c Config) error { return os.Chmod(c.Trunk.SecretFile, 0o644) },
		"a relay":   func(c Config) error { return os.Chmod(c.WebRTC.TURN.SecretFile, 0o644) },
	} {
		cfg := healthy(t)
		if err := cfg.Check(); err != nil {
			t.Fatalf("a healthy house is refused: %v", err)
		}
		if err := spoil(cfg); err != nil {
			t.Fatal(err)
		}
		if err := cfg.Check(); err == nil || !strings.Contains(err.Error(), "may be read by others") {
			t.Errorf("%s that others may read: got %v", name, err)
		}
	}
}
