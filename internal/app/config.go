package app

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"

	"yesline"
)

// Config is everything a house is told from outside. It is read once, from a
// TOML file, then the environment (YESLINE_DATA...), then flags. It holds no
// secret: the root key is a file.
type Config struct {
	Data    string `toml:"data"`     // folder of the databases and objects; made if absent
	RootKey string `toml:"root_key"` // file of the root key; default Data/root.key, made for an empty house

	// Addresses of the three databases; default SQLite files in Data.
	PeopleDB  string `toml:"people_db"`
	KeysDB    string `toml:"keys_db"`
	ContentDB string `toml:"content_db"`

	HTTP string `toml:"http"` // where the pages listen: "127.0.0.1:8080"
	URL  string `toml:"url"`  // how people reach them: "http://localhost:8080"
	SIP  string `toml:"sip"`  // where phones and the trunk reach us, UDP: "127.0.0.1:5060"

	Realm    string    `toml:"realm"` // of SIP passwords; changing it ends all devices
	Media    Media     `toml:"media"` // RTP
	Trunk    Trunk     `toml:"trunk"` // the way to other telephones
	Calls    Calls     `toml:"calls"` // limits
	Urgent   Emergency `toml:"emergency"`
	Program  Program   `toml:"program"`  // made when the house is empty
	Insecure bool      `toml:"insecure"` // plain HTTP, SIP and RTP beyond loopback, knowingly
}

// Media is where sound is received: an address and a range of UDP ports.
type Media struct {
	IP       string `toml:"ip"`
	FromPort int    `toml:"from_port"`
	ToPort   int    `toml:"to_port"`
}

// Trunk is the carrier or gateway that reaches other telephones.
type Trunk struct {
	Address  string   `toml:"address"`   // host:port, UDP; "" for none
	CallerID string   `toml:"caller_id"` // number shown to the callee, E.164
	Sources  []string `toml:"sources"`   // addresses it may answer from; default its own
}

// Calls are limits.
type Calls struct {
	Most       int `toml:"most"`        // at once
	MaxSeconds int `toml:"max_seconds"` // of one call
}

// Emergency tells how emergency calls are carried: at once, unprompted and
// unrecorded by the trunk, or not at all, and then the voice says so.
type Emergency struct {
	Numbers []string `toml:"numbers"`
	Carried bool     `toml:"carried"`
}

// Program is the first tenant.
type Program struct {
	Name     string `toml:"name"`
	Country  string `toml:"country"`
	OneSided bool   `toml:"one_sided"`
}

// Defaults are a house for this machine alone.
func Defaults() Config {
	return Config{
		Data: "yesline-data", HTTP: "127.0.0.1:8080", URL: "http://localhost:8080", SIP: "127.0.0.1:5060", Realm: "yesline",
		Media:   Media{IP: "127.0.0.1", FromPort: 30000, ToPort: 39999},
		Calls:   Calls{Most: 500, MaxSeconds: 4 * 3600},
		Urgent:  Emergency{Numbers: []string{"911", "112", "999", "000", "110", "119", "08"}},
		Program: Program{Name: "Yesline", Country: "US"},
	}
}

// Read reads a TOML file over c. An unknown key is refused by name.
func (c *Config) Read(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	if info.Size() > 1<<20 {
		return fmt.Errorf("the configuration is over 1 MiB: %w", yesline.Invalid)
	}
	meta, err := toml.DecodeFile(path, c)
	if wrong := (toml.ParseError{}); errors.As(err, &wrong) { // its own text repeats what stands there
		return fmt.Errorf("the configuration cannot be read at line %d (%s): %w", wrong.Position.Line, wrong.LastKey, yesline.Invalid)
	}
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return fmt.Errorf("the configuration has no setting called %q: %w", unknown[0].String(), yesline.Invalid)
	}
	return nil
}

// Environment lays YESLINE_* variables over c.
func (c *Config) Environment(lookup func(string) (string, bool)) {
	for name, to := range map[string]*string{
		"YESLINE_DATA": &c.Data, "YESLINE_ROOT_KEY": &c.RootKey, "YESLINE_HTTP": &c.HTTP, "YESLINE_URL": &c.URL, "YESLINE_SIP": &c.SIP,
		"YESLINE_PEOPLE_DB": &c.PeopleDB, "YESLINE_KEYS_DB": &c.KeysDB, "YESLINE_CONTENT_DB": &c.ContentDB, "YESLINE_TRUNK": &c.Trunk.Address,
	} {
		if v, ok := lookup(name); ok {
			*to = v
		}
	}
}

func (c *Config) complete() {
	if c.RootKey == "" {
		c.RootKey = filepath.Join(c.Data, "root.key")
	}
	for name, to := range map[string]*string{"people": &c.PeopleDB, "keys": &c.KeysDB, "content": &c.ContentDB} {
		if *to == "" {
			*to = "sqlite:" + filepath.Join(c.Data, name+".db")
		}
	}
}

// Check says everything that is wrong or unsafe at once.
func (c *Config) Check() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Data == "" {
		wrong("data: name a folder")
	}
	for name, address := range map[string]string{"http": c.HTTP, "sip": c.SIP} {
		if !c.Insecure && !loopback(address) {
			wrong("%s listens beyond this machine without TLS: use a loopback address behind a TLS proxy, or set insecure = true knowingly", name)
		}
	}
	if ip, err := netip.ParseAddr(c.Media.IP); err != nil {
		wrong("media.ip: not an address")
	} else if !c.Insecure && !ip.IsLoopback() {
		wrong("media.ip receives unencrypted sound beyond this machine: set insecure = true knowingly")
	}
	if c.Media.FromPort < 1024 || c.Media.ToPort > 65535 || c.Media.ToPort-c.Media.FromPort < 4 {
		wrong("media: from_port to to_port must lie in 1024 to 65535 and hold at least 5 ports")
	}
	if c.Calls.Most < 1 || c.Calls.MaxSeconds < 1 || c.Calls.MaxSeconds > 4*3600 {
		wrong("calls: most is at least 1, max_seconds 1 to 14400")
	}
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" {
		wrong("url: like https://calls.example.org")
	}
	if c.Urgent.Carried && c.Trunk.Address == "" {
		wrong("emergency.carried: there is no trunk to carry them")
	}
	if len(errs) > 0 {
		return fmt.Errorf("the configuration is %w: %w", yesline.Invalid, errors.Join(errs...))
	}
	return nil
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
