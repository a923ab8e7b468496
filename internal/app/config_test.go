package app

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"yesline"
)

// read reads a configuration as serve does.
func read(text string) (Config, error) {
	cfg := Defaults()
	err := cfg.read(text)
	cfg.complete()
	return cfg, err
}

// safe is a house for people elsewhere, as it should be.
const safe = `
url = "https://calls.example.org/"
root_key = "/etc/yesline/root.key"
[proxy]
from = ["127.0.0.1"]
[sms]
url = "https://sms.example.org/send"
secret_file = "/etc/yesline/sms"
[trunk]
address = "127.0.0.1:5070"
[emergency]
carried = true
`

func TestASafeConfigurationIsPraised(t *testing.T) {
	t.Parallel()
	cfg, err := read(safe)
	if err != nil {
		t.Fatal(err)
	}
	if found := cfg.settings(); len(found) != 0 {
		t.Errorf("got %v, want nothing", found)
	}
	if cfg.URL != "https://calls.example.org" || cfg.Host() != "calls.example.org" {
		t.Errorf("got %q and %q", cfg.URL, cfg.Host())
	}
	defaults := Defaults()
	defaults.complete()
	if err := defaults.Check(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
}

// Each unsafe setting has its finding, at its level, and none repeats a value.
func TestUnsafeSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(*Config)
		level Level
		about string
	}{
		{"no folder", func(c *Config) { c.Data = "" }, Refuse, "data"},
		{"pages in clear", func(c *Config) { c.HTTP = "0.0.0.0:80" }, Refuse, "http"},
		{"pages in clear, on all", func(c *Config) { c.HTTP = ":80" }, Refuse, "http"},
		{"pages in clear, knowingly", func(c *Config) { c.HTTP, c.Insecure = "192.0.2.1:80", true }, Warn, "http"},
		{"no address", func(c *Config) { c.HTTP = "hunter22" }, Refuse, "http"},
		{"a port too many", func(c *Config) { c.HTTP = "127.0.0.1:70000" }, Refuse, "http"},
		{"a url without a host", func(c *Config) { c.URL = "calls.example.org" }, Refuse, "url"},
		{"a url with a path", func(c *Config) { c.URL = "https://calls.example.org/hunter22" }, Refuse, "url"},
		{"a url with a user", func(c *Config) { c.URL = "https://ann:hunter22@calls.example.org" }, Refuse, "url"},
		{"a url with a question", func(c *Config) { c.URL = "https://calls.example.org?hunter22" }, Refuse, "url"},
		{"a url in letters of others", func(c *Config) { c.URL = "https://c\u0430lls.example.org" }, Refuse, "url"},
		{"a url in clear, with TLS", func(c *Config) { c.URL, c.TLS = "http://calls.example.org", TLS{"a", "b", ""} }, Refuse, "url"},
		{"a url in clear", func(c *Config) { c.URL = "http://calls.example.org" }, Warn, "url"},
		{"no connections", func(c *Config) { c.Pages.Connections = 0 }, Refuse, "pages"},
		{"more for one than for all", func(c *Config) { c.Pages.PerAddress = c.Pages.Connections + 1 }, Refuse, "pages"},
		{"half a pair", func(c *Config) { c.TLS.Key = "hunter22" }, Refuse, "tls"},
		{"two ways to a certificate", func(c *Config) { c.TLS, c.ACME.Agree = TLS{"a", "b", ""}, true }, Refuse, "tls"},
		{"a redirect to nowhere", func(c *Config) { c.URL, c.TLS.Redirect = "http://localhost", "127.0.0.1:80" }, Refuse, "tls.redirect"},
		{"a redirect of no address", func(c *Config) { c.TLS.Redirect = "80" }, Refuse, "tls.redirect"},
		{"an authority without a yes", func(c *Config) { c.ACME.Contact = "ann@example.org" }, Refuse, "acme.agree"},
		{"an authority for an address", func(c *Config) { c.ACME.Agree, c.URL = true, "https://192.0.2.1" }, Refuse, "acme"},
		{"an authority for localhost", func(c *Config) { c.ACME.Agree, c.URL = true, "https://localhost" }, Refuse, "acme"},
		{"an authority in clear", func(c *Config) { c.ACME = ACME{Agree: true, Directory: "http://ca.example/dir"} }, Refuse, "acme.directory"},
		{"no mail address", func(c *Config) { c.ACME = ACME{Agree: true, Contact: "hunter22"} }, Refuse, "acme.contact"},
		{"everybody a proxy", func(c *Config) { c.Proxy.From = []string{"0.0.0.0/0"} }, Refuse, "proxy.from"},
		{"everybody a proxy, IPv6", func(c *Config) { c.Proxy.From = []string{"::/0"} }, Refuse, "proxy.from"},
		{"everybody a proxy, IPv4 in IPv6", func(c *Config) { c.Proxy.From = []string{"::ffff:0.0.0.0/96"} }, Refuse, "proxy.from"},
		{"half of all a proxy", func(c *Config) { c.Proxy.From = []string{"0.0.0.0/1", "128.0.0.0/1"} }, Warn, "proxy.from"},
		{"a proxy of no address", func(c *Config) { c.Proxy.From = []string{"hunter22"} }, Refuse, "proxy.from"},
		{"too many proxies", func(c *Config) { c.Proxy.From = make([]string, 65) }, Refuse, "proxy.from"},
		{"an unnamed proxy", func(c *Config) { c.Proxy.From = nil }, Warn, "proxy.from"},
		{"an unknown header", func(c *Config) { c.Proxy.Header = "hunter22" }, Refuse, "proxy.header"},
		{"phones in clear", func(c *Config) { c.SIP = "192.0.2.1:5060" }, Refuse, "sip"},
		{"phones in clear, knowingly", func(c *Config) { c.SIP, c.Insecure = "192.0.2.1:5060", true }, Warn, "sip"},
		{"sound in clear", func(c *Config) { c.Media.IP = "192.0.2.1" }, Refuse, "media.ip"},
		{"sound in clear, knowingly", func(c *Config) { c.Media.IP, c.Insecure = "192.0.2.1", true }, Warn, "media.ip"},
		{"few ports", func(c *Config) { c.Media.ToPort = c.Media.FromPort }, Refuse, "media"},
		{"everybody a trunk", func(c *Config) { c.Trunk.Sources = []string{"0.0.0.0/0"} }, Refuse, "trunk.sources"},
		{"a trunk of no address", func(c *Config) { c.Trunk.Sources = []string{"hunter22"} }, Refuse, "trunk.sources"},
		{"endless calls", func(c *Config) { c.Calls.MaxSeconds = 4*3600 + 1 }, Refuse, "calls"},
		{"emergency calls to nowhere", func(c *Config) { c.Trunk.Address = "" }, Refuse, "emergency.carried"},
		{"no emergency numbers", func(c *Config) { c.Urgent.Numbers = nil }, Warn, "emergency.numbers"},
		{"no emergency calls", func(c *Config) { c.Urgent.Carried = false }, Warn, "emergency.carried"},
		{"one side", func(c *Config) { c.Program.OneSided = true }, Warn, "program.one_sided"},
		{"codes in clear", func(c *Config) { c.SMS.URL = "http://sms.example.org/" }, Refuse, "sms.url"},
		{"a password in an address", func(c *Config) { c.SMS.URL = "https://ann:hunter22@sms.example.org/" }, Refuse, "sms.url"},
		{"a provider of no address", func(c *Config) { c.SMS.URL = "hunter22" }, Refuse, "sms.url"},
		{"a secret for nobody", func(c *Config) { c.SMS.URL = "" }, Refuse, "sms.url"},
		{"no provider", func(c *Config) { c.SMS = SMS{} }, Note, "sms.url"},
		{"no secret", func(c *Config) { c.SMS.SecretFile = "" }, Refuse, "sms.secret_file"},
		{"a costly storm", func(c *Config) { c.SMS.PerDay = 10_001 }, Warn, "sms.per_day"},
		{"below nothing", func(c *Config) { c.SMS.PerDay = -1 }, Refuse, "sms.per_day"},
		{"one database", func(c *Config) { c.KeysDB = c.PeopleDB }, Refuse, "keys_db"},
		{"a password in the configuration", func(c *Config) { c.KeysDB = "postgres://ann:hunter22@localhost/keys" }, Warn, "keys_db"},
		{"a password in the question", func(c *Config) { c.KeysDB = "postgres://localhost/keys?password=hunter22" }, Warn, "keys_db"},
		{"a database in clear", func(c *Config) { c.KeysDB = "postgres://ann@db.example/keys?sslmode=disable" }, Warn, "keys_db"},
		{"one role", func(c *Config) {
			c.KeysDB, c.ContentDB = "postgres://ann@localhost/keys", "postgres://ann@localhost/content"
		}, Warn, "people_db, keys_db, content_db"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg, err := read(safe)
			if err != nil {
				t.Fatal(err)
			}
			c.spoil(&cfg)
			found := findings(cfg.settings())
			if !slices.ContainsFunc(found, func(f Finding) bool { return f.Level == c.level && f.About == c.about }) {
				t.Errorf("got %v, want one to %s about %s", found, c.level, c.about)
			}
			for _, f := range found {
				if strings.Contains(f.String(), "hunter") {
					t.Errorf("repeats a value: %s", f)
				}
				if f.Says == "" || f.Fix == "" {
					t.Errorf("lacks words: %+v", f)
				}
			}
			if err := cfg.Check(); c.level == Refuse && !errors.Is(err, yesline.Invalid) {
				t.Errorf("serve does not refuse it: %v", err)
			}
		})
	}
}

// Nothing in a file makes reading it fail badly, believe everybody, or repeat
// what it says; and what is not refused can be asked everything.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(safe))
	f.Add([]byte("http = \"0.0.0.0:443\"\n[acme]\nagree = true\ndirectory = \"https://ca.example/dir\"\n[pages]\nper_address = 4"))
	f.Add([]byte("[proxy]\nfrom = [\"::ffff:0.0.0.0/96\", \"::/0\", \"10.0.0.0/8\"]\nheader = \"Forwarded\""))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 4096 {
			return
		}
		cfg, err := read(string(text))
		if err != nil {
			return
		}
		for _, found := range cfg.settings() {
			if found.Level == Refuse {
				return
			}
		}
		if !loopback(cfg.HTTP) && !cfg.byTLS() && !cfg.Insecure {
			t.Error("pages in clear beyond loopback are not refused")
		}
		for _, s := range cfg.Proxy.From {
			if p, err := prefix(s); err != nil || p.Bits() == 0 {
				t.Errorf("a proxy that is everybody or nobody is not refused")
			}
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = "evil.invalid"
		r.Header.Set("X-Forwarded-For", "192.0.2.1")
		answer := httptest.NewRecorder()
		cfg.front(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if cfg.Host() != "evil.invalid" {
				t.Error("a foreign host was answered")
			}
		})).ServeHTTP(answer, r)
	})
}

// No header makes reading it fail, and none is believed from strangers.
func FuzzForwarded(f *testing.F) {
	f.Add(`for="[2001:db8::7]:99";proto=https, for=_hidden`, "192.0.2.1, 10.0.0.4")
	f.Add(`for="a\",b";;=,proto`, "[::1")
	f.Fuzz(func(t *testing.T, forwarded, list string) {
		if len(forwarded)+len(list) > 16<<10 {
			return
		}
		for _, header := range []string{byForwarded, byXForwardedFor} {
			cfg := Config{URL: "https://" + ourHost, Proxy: Proxy{From: []string{"10.0.0.0/24"}, Header: header}}
			r := &http.Request{Header: http.Header{"Forwarded": {forwarded}, "X-Forwarded-For": {list}}, RemoteAddr: "203.0.113.9:1"}
			if got := cfg.ClientAddress(r); got != netip.MustParseAddr("203.0.113.9") {
				t.Fatalf("a stranger became %s", got)
			}
			if cfg.inClear(r) {
				t.Fatal("a stranger says how it was asked")
			}
			r.RemoteAddr = "10.0.0.5:1"
			if got := cfg.ClientAddress(r); !got.IsValid() || got.Is4In6() || got.Zone() != "" {
				t.Fatalf("got %v, which is not one way to write an address", got)
			}
			cfg.inClear(r)
		}
	})
}
