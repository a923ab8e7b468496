package app

import (
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"yesline"
	"yesline/internal/capture/tolls"
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
[webrtc]
udp = "192.0.2.1:3478"
tcp = "192.0.2.1:3478"
public = ["203.0.113.5"]
relay_only = true
[webrtc.turn]
urls = ["turns:turn.example.org:5349?transport=tcp", "turn:203.0.113.9:3478"]
secret_file = "/etc/yesline/turn"
[sip_tls]
listen = "192.0.2.1:5061"
certificate = "/etc/yesline/chain.pem"
key = "/etc/yesline/key.pem"
[trunk]
address = "sip.carrier.example:5061"
transport = "tls"
srtp = "sdes"
caller_id = "+18165550100"
caller_ids = ["+18165550101"]
user = "yesline"
secret_file = "/etc/yesline/trunk"
register = true
program = "prg_abcdefghijklmnopqrstuvwxyz234567"
[tolls]
international = ["CA", "GB"]
never = ["+4470"]
[tolls.per_minute_usd]
CA = 0.01
GB = 0.0125
[emergency]
carried = true
[program]
ask = "before"
international = ["GB"]
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
	rules, err := cfg.TollRules()
	if err != nil || rules.PerMinute["GB"] != 12_500 || rules.PerMinute[""] != 50_000 || rules.Calls != (tolls.Limit{Account: 4, Trunk: 500}) ||
		len(rules.CallerIDs) != 2 || rules.AccountDayMicros != 10_000_000 || rules.MaxLength != time.Hour {
		t.Errorf("got %+v and %v", rules, err)
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

// Sound beyond this machine is in the open unless calls in clear are refused.
func TestEncryptedSoundMayTravel(t *testing.T) {
	t.Parallel()
	cfg, err := read(safe)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Media.IP, cfg.Media.MoreIPs, cfg.Media.Encrypted = "192.0.2.1", []string{"192.0.2.2", "192.0.2.3"}, true
	if found := cfg.settings(); len(found) != 0 {
		t.Errorf("got %v, want nothing", found)
	}
}

// Every configuration that the docs show is read, and those for a trunk start
// a house.
func TestTheConfigurationsOfTheDocs(t *testing.T) {
	t.Parallel()
	docs, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	if err != nil || len(docs) == 0 {
		t.Fatalf("%d docs: %v", len(docs), err)
	}
	block := regexp.MustCompile("(?ms)^```toml\n(.*?)^```")
	whole := 0
	for _, doc := range docs {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range block.FindAllStringSubmatch(string(text), -1) {
			cfg, err := read(m[1])
			if err != nil {
				t.Errorf("%s, block %d: %v", filepath.Base(doc), i+1, err)
				continue
			}
			if filepath.Base(doc) != "trunk.md" {
				continue
			}
			whole++
			for _, f := range cfg.settings() {
				if f.Level == Refuse {
					t.Errorf("%s, block %d: %s", filepath.Base(doc), i+1, f)
				}
			}
		}
	}
	if whole < 3 {
		t.Errorf("only %d configurations for a trunk were found", whole)
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
		{"one address twice", func(c *Config) { c.Media.MoreIPs = []string{"127.0.0.2", "127.0.0.1"} }, Refuse, "media.more_ips"},
		{"addresses of two kinds", func(c *Config) { c.Media.MoreIPs = []string{"::1"} }, Refuse, "media.more_ips"},
		{"a name among addresses", func(c *Config) { c.Media.MoreIPs = []string{"localhost"} }, Refuse, "media.more_ips"},
		{"any address and another", func(c *Config) { c.Media.IP, c.Media.MoreIPs, c.Insecure = "0.0.0.0", []string{"127.0.0.2"}, true }, Refuse, "media.more_ips"},
		{"sound in clear at another address", func(c *Config) { c.Media.MoreIPs = []string{"192.0.2.1"} }, Refuse, "media.ip"},
		{"sound in clear, knowingly", func(c *Config) { c.Media.IP, c.Insecure = "192.0.2.1", true }, Warn, "media.ip"},
		{"few ports", func(c *Config) { c.Media.ToPort = c.Media.FromPort }, Refuse, "media"},
		{"everybody a trunk", func(c *Config) { c.Trunk.Sources = []string{"0.0.0.0/0"} }, Refuse, "trunk.sources"},
		{"a trunk of no address", func(c *Config) { c.Trunk.Sources = []string{"hunter22"} }, Refuse, "trunk.sources"},
		{"phones in clear by TCP", func(c *Config) { c.SIPTCP.Listen = "192.0.2.1:5060" }, Refuse, "sip_tcp.listen"},
		{"phones in clear by TCP, knowingly", func(c *Config) { c.SIPTCP.Listen, c.Insecure = "192.0.2.1:5060", true }, Warn, "sip_tcp.listen"},
		{"no address for TCP", func(c *Config) { c.SIPTCP.Listen = "hunter22" }, Refuse, "sip_tcp.listen"},
		{"no address for TLS", func(c *Config) { c.SIPTLS.Listen = "hunter22" }, Refuse, "sip_tls.listen"},
		{"half a pair for phones", func(c *Config) { c.SIPTLS.Key = "" }, Refuse, "sip_tls"},
		{"TLS without a certificate", func(c *Config) { c.SIPTLS.Certificate, c.SIPTLS.Key = "", "" }, Refuse, "sip_tls"},
		{"browsers to nowhere", func(c *Config) { c.WebRTC.UDP = "" }, Refuse, "webrtc.udp"},
		{"browsers to everywhere", func(c *Config) { c.WebRTC.UDP, c.WebRTC.Public = "0.0.0.0:3478", nil }, Refuse, "webrtc.udp"},
		{"browsers to no address", func(c *Config) { c.WebRTC.UDP = "hunter22:1" }, Refuse, "webrtc.udp"},
		{"browsers to no address by TCP", func(c *Config) { c.WebRTC.TCP = "hunter22" }, Refuse, "webrtc.tcp"},
		{"no public address", func(c *Config) { c.WebRTC.Public = []string{"hunter22"} }, Refuse, "webrtc.public"},
		{"all public addresses", func(c *Config) { c.WebRTC.Public = []string{"::"} }, Refuse, "webrtc.public"},
		{"many public addresses", func(c *Config) { c.WebRTC.Public = make([]string, 9) }, Refuse, "webrtc.public"},
		{"a private address", func(c *Config) { c.WebRTC.Public = []string{"10.0.0.4"} }, Note, "webrtc.public"},
		{"a relay that is none", func(c *Config) { c.WebRTC.TURN = TURN{} }, Refuse, "webrtc.relay_only"},
		{"a relay that tells addresses", func(c *Config) { c.WebRTC.TURN.URLs = []string{"stun:hunter22"} }, Refuse, "webrtc.turn.urls"},
		{"a relay with a password", func(c *Config) { c.WebRTC.TURN.URLs = []string{"turn:ann:hunter22@turn.example"} }, Refuse, "webrtc.turn.urls"},
		{"many relays", func(c *Config) { c.WebRTC.TURN.URLs = make([]string, 9) }, Refuse, "webrtc.turn.urls"},
		{"an open relay", func(c *Config) { c.WebRTC.TURN.SecretFile = "" }, Refuse, "webrtc.turn"},
		{"no browsers", func(c *Config) { c.WebRTC.MaxPeers = 0 }, Refuse, "webrtc.max_peers"},
		{"browsers of this machine", func(c *Config) { c.WebRTC = WebRTC{UDP: "127.0.0.1:0", MaxPeers: 1} }, Note, "webrtc.udp"},
		{"browsers with UDP alone", func(c *Config) { c.WebRTC = WebRTC{UDP: "192.0.2.1:0", MaxPeers: 1} }, Note, "webrtc"},
		{"a trunk by pigeon", func(c *Config) { c.Trunk.Transport = "hunter22" }, Refuse, "trunk.transport"},
		{"a trunk in clear", func(c *Config) { c.Trunk = Trunk{Address: "192.0.2.10:5060", CallerID: "+18165550100"} }, Refuse, "trunk.transport"},
		{"a trunk on this machine in clear, though no sound is to be", func(c *Config) {
			c.Trunk, c.Media.Encrypted = Trunk{Address: "127.0.0.1:5062", CallerID: "+18165550100"}, true
		}, Refuse, "trunk.srtp"},
		{"a trunk in clear by TCP", func(c *Config) {
			c.Trunk = Trunk{Address: "192.0.2.10:5060", Transport: "tcp", CallerID: "+18165550100"}
		}, Refuse, "trunk.transport"},
		{"a trunk in clear, knowingly", func(c *Config) {
			c.Trunk, c.Insecure = Trunk{Address: "192.0.2.10:5060", CallerID: "+18165550100"}, true
		}, Warn, "trunk.transport"},
		{"a trunk by a name in clear", func(c *Config) {
			c.Trunk, c.Insecure = Trunk{Address: "sip.carrier.example:5060", CallerID: "+18165550100"}, true
		}, Refuse, "trunk.address"},
		{"a trunk of no port", func(c *Config) { c.Trunk.Address = "sip.carrier.example:0" }, Refuse, "trunk.address"},
		{"a trunk of a wrong address", func(c *Config) { c.Trunk.Address = "hunter22" }, Refuse, "trunk.address"},
		{"a trunk without a number", func(c *Config) { c.Trunk.CallerID, c.Trunk.CallerIDs = "", nil }, Refuse, "trunk.caller_id"},
		{"no number", func(c *Config) { c.Trunk.CallerIDs = []string{"hunter22"} }, Refuse, "trunk.caller_ids"},
		{"an empty number", func(c *Config) { c.Trunk.CallerIDs = []string{""} }, Refuse, "trunk.caller_ids"},
		{"sound in clear inside TLS", func(c *Config) { c.Trunk.SRTP = "" }, Refuse, "trunk.srtp"},
		{"sound in clear inside TLS, knowingly", func(c *Config) { c.Trunk.SRTP, c.Insecure = "", true }, Warn, "trunk.srtp"},
		{"sound in clear that is refused", func(c *Config) { c.Trunk.SRTP, c.Insecure, c.Media.Encrypted = "", true, true }, Refuse, "trunk.srtp"},
		{"keys of the sound in clear", func(c *Config) { c.Trunk.Transport, c.Insecure = "tcp", true }, Refuse, "trunk.srtp"},
		{"keys of the sound in clear on loopback", func(c *Config) {
			c.Trunk = Trunk{Address: "127.0.0.1:5070", CallerID: "+18165550100", SRTP: "sdes"}
		}, Refuse, "trunk.srtp"},
		{"another SRTP", func(c *Config) { c.Trunk.SRTP = "hunter22" }, Refuse, "trunk.srtp"},
		{"certificates for clear text", func(c *Config) { c.Trunk = Trunk{Address: "127.0.0.1:5070", CallerID: "+18165550100", CA: "a"} }, Refuse, "trunk"},
		{"half a pair for the trunk", func(c *Config) { c.Trunk.Key = "hunter22" }, Refuse, "trunk"},
		{"a user without a password", func(c *Config) { c.Trunk.SecretFile = "" }, Refuse, "trunk.user"},
		{"a password without a user", func(c *Config) { c.Trunk.User, c.Trunk.Register = "", false }, Refuse, "trunk.user"},
		{"registering nobody", func(c *Config) { c.Trunk.User, c.Trunk.SecretFile = "", "" }, Refuse, "trunk.user"},
		{"callers who show themselves", func(c *Config) { c.Trunk.OwnID = true }, Note, "trunk.own_caller_id"},
		{"no program", func(c *Config) { c.Trunk.Program = "hunter22" }, Refuse, "trunk.program"},
		{"no country", func(c *Config) { c.Tolls.International = []string{"hunter22"} }, Refuse, "tolls.international"},
		{"the whole world", func(c *Config) { c.Tolls.International = []string{"*"} }, Refuse, "tolls.international"},
		{"a country in small letters", func(c *Config) { c.Tolls.International = []string{"gb"} }, Refuse, "tolls.international"},
		{"a country without a price", func(c *Config) { c.Tolls.International = []string{"JM"} }, Warn, "tolls.international"},
		{"much of the world", func(c *Config) {
			for range 41 {
				c.Tolls.International = append(c.Tolls.International, "GB")
			}
		}, Warn, "tolls.international"},
		{"a prefix of nothing", func(c *Config) { c.Tolls.Never = []string{"hunter22"} }, Refuse, "tolls.never"},
		{"a price of nothing", func(c *Config) { c.Tolls.PerMinute["hunter22"] = 1 }, Refuse, "tolls.per_minute_usd"},
		{"a price below nothing", func(c *Config) { c.Tolls.PerMinute["GB"] = -1 }, Refuse, "tolls.per_minute_usd"},
		{"a price that is no number", func(c *Config) { c.Tolls.PerMinute["GB"] = math.NaN() }, Refuse, "tolls.per_minute_usd"},
		{"a price without end", func(c *Config) { c.Tolls.PerMinute["GB"] = math.Inf(1) }, Refuse, "tolls.per_minute_usd"},
		{"premium without a price", func(c *Config) { c.Tolls.Premium = true }, Refuse, "tolls.premium"},
		{"premium", func(c *Config) { c.Tolls.Premium, c.Tolls.PerMinute["premium"] = true, 2 }, Warn, "tolls.premium"},
		{"money below nothing", func(c *Config) { c.Tolls.Day = -1 }, Refuse, "tolls.day_usd"},
		{"money that is no number", func(c *Config) { c.Tolls.AccountDay = math.NaN() }, Refuse, "tolls.account_day_usd"},
		{"money without end", func(c *Config) { c.Tolls.TrunkDay = math.Inf(1) }, Refuse, "tolls.trunk_day_usd"},
		{"no money", func(c *Config) { c.Tolls.TrunkDay = 0 }, Note, "tolls.trunk_day_usd"},
		{"one for all", func(c *Config) { c.Tolls.AccountDay = 101 }, Warn, "tolls.account_day_usd"},
		{"no calls at once", func(c *Config) { c.Tolls.AccountCalls = 0 }, Refuse, "tolls.account_calls"},
		{"too many at once", func(c *Config) { c.Tolls.TrunkCalls = 1_000_001 }, Refuse, "tolls.trunk_calls"},
		{"no calls in a minute", func(c *Config) { c.Tolls.AccountPace = 0 }, Refuse, "tolls.account_per_minute"},
		{"no calls in a minute at all", func(c *Config) { c.Tolls.TrunkPace = -1 }, Refuse, "tolls.trunk_per_minute"},
		{"endless calls by the trunk", func(c *Config) { c.Tolls.MaxSeconds = 4*3600 + 1 }, Refuse, "tolls.max_seconds"},
		{"an endless end", func(c *Config) { c.Drain = 4*3600 + 1 }, Refuse, "drain_seconds"},
		{"endless calls", func(c *Config) { c.Calls.MaxSeconds = 4*3600 + 1 }, Refuse, "calls"},
		{"emergency calls to nowhere", func(c *Config) { c.Trunk = Trunk{} }, Refuse, "emergency.carried"},
		{"no emergency numbers", func(c *Config) { c.Urgent.Numbers = nil }, Warn, "emergency.numbers"},
		{"no emergency calls", func(c *Config) { c.Urgent.Carried = false }, Warn, "emergency.carried"},
		{"a program without a name", func(c *Config) { c.Program.Name = " " }, Refuse, "program.name"},
		{"a program of no country", func(c *Config) { c.Program.Country = "hunter22" }, Refuse, "program.country"},
		{"a program that asks at night", func(c *Config) { c.Program.Ask = "hunter22" }, Refuse, "program.ask"},
		{"a program that asks later", func(c *Config) { c.Program.Ask = "during" }, Note, "program.ask"},
		{"a program of no countries", func(c *Config) { c.Program.International = []string{"hunter22"} }, Refuse, "program.international"},
		{"a program that calls farther than the house", func(c *Config) { c.Program.International = []string{"JM"} }, Warn, "program.international"},
		{"a program that calls everywhere", func(c *Config) {
			for range 101 {
				c.Program.International = append(c.Program.International, "GB")
			}
		}, Refuse, "program.international"},
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
	f.Add([]byte("[trunk]\ntransport = \"tcp\"\nsrtp = \"sdes\"\ncaller_ids = [\"\"]\n[tolls]\nday_usd = nan\nper_minute_usd = {GB = inf, default = -1}"))
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
		if _, err := cfg.TollRules(); err != nil {
			t.Errorf("what was not refused is no rule: %v", err)
		}
		if cfg.Trunk.SRTP != "" && cfg.Trunk.Transport != bySIPS || !cfg.Insecure && cfg.SIPTCP.Listen != "" && !loopback(cfg.SIPTCP.Listen) {
			t.Error("keys, or phones, in clear are not refused")
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
