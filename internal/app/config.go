package app

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"yesline"
	"yesline/internal/capture/tolls"
	"yesline/internal/notify/desk"
)

// Config is everything a house is told from outside. It is read once, from a
// TOML file, then the environment (YESLINE_DATA...), then flags. It holds no
// secret: the root key, TLS keys and the SMS secret are files.
type Config struct {
	Data    string `toml:"data"`     // folder of the databases and objects; made if absent
	RootKey string `toml:"root_key"` // file of the root key; default Data/root.key, made for an empty house

	// Addresses of the three databases; default SQLite files in Data.
	PeopleDB  string `toml:"people_db"`
	KeysDB    string `toml:"keys_db"`
	ContentDB string `toml:"content_db"`

	HTTP  string `toml:"http"`  // where the pages listen: "127.0.0.1:8080"
	URL   string `toml:"url"`   // how people reach them, and the one Host that is answered: "http://localhost:8080"
	TLS   TLS    `toml:"tls"`   // certificates from files
	ACME  ACME   `toml:"acme"`  // or from an authority
	Proxy Proxy  `toml:"proxy"` // who may say for whom it asks
	Pages Pages  `toml:"pages"` // limits of connections
	SMS   SMS    `toml:"sms"`   // how codes reach people

	SIP      string    `toml:"sip"`     // where phones and the trunk reach us, UDP: "127.0.0.1:5060"
	SIPTCP   SIPTCP    `toml:"sip_tcp"` // and by TCP
	SIPTLS   SIPTLS    `toml:"sip_tls"` // and by TLS
	Realm    string    `toml:"realm"`   // of SIP passwords; changing it ends all devices
	Media    Media     `toml:"media"`   // RTP
	WebRTC   WebRTC    `toml:"webrtc"`  // calls from browsers
	Trunk    Trunk     `toml:"trunk"`   // the way to other telephones
	Tolls    Tolls     `toml:"tolls"`   // which numbers, how often, and for how much
	Calls    Calls     `toml:"calls"`   // limits
	Urgent   Emergency `toml:"emergency"`
	Program  Program   `toml:"program"`       // made when the house is empty
	Insecure bool      `toml:"insecure"`      // plain HTTP, SIP and RTP beyond loopback, knowingly
	Drain    int       `toml:"drain_seconds"` // that calls have to end when serve is told to stop

	// Desk is where a demo's codes go, for its outbox page. Nothing outside the
	// program can set it.
	Desk *desk.Desk `toml:"-"`

	Stage Stage `toml:"-"` // of a demo
}

// TLS names the files of a certificate and its key, both PEM. They are read
// again when they change.
type TLS struct {
	Certificate string `toml:"certificate"` // the whole chain, our own first
	Key         string `toml:"key"`         // not readable by everybody
	Redirect    string `toml:"redirect"`    // where plain HTTP is sent on to HTTPS: "0.0.0.0:80"; "" for nowhere
}

// ACME has an authority make and renew the certificate (RFC 8555).
type ACME struct {
	Agree     bool   `toml:"agree"`     // to the authority's terms; false: no ACME
	Contact   string `toml:"contact"`   // a mail address that the authority may write to
	Directory string `toml:"directory"` // default Let's Encrypt
	Roots     string `toml:"roots"`     // PEM file of what the directory's own certificate hangs on, for a private authority
}

// Proxy is what stands before the pages. What others say about whom they ask
// for is not believed.
type Proxy struct {
	From   []string `toml:"from"`   // its addresses or prefixes
	Header string   `toml:"header"` // the one header it writes: "x-forwarded-for" (default) or "forwarded" (RFC 7239)
}

// Pages are limits of connections to the pages.
type Pages struct {
	Connections int `toml:"connections"` // at once
	PerAddress  int `toml:"per_address"` // at once from one IPv4 address or IPv6 /64; a proxy has no limit of its own
}

// SMS is the provider that codes are sent by. Without a URL nobody can prove a
// number, and so nobody can join.
type SMS struct {
	URL        string `toml:"url"`
	SecretFile string `toml:"secret_file"` // what we sign our requests with, 16 bytes and more
	From       string `toml:"from"`        // the sender that people see
	Twilio     string `toml:"twilio"`      // the account (AC...) of a provider that takes Twilio's form; "" for our JSON
	PerDay     int    `toml:"per_day"`     // messages of one program
}

// SIPTCP is SIP by TCP, in clear.
type SIPTCP struct {
	Listen string `toml:"listen"` // "127.0.0.1:5060"; "" for none
}

// SIPTLS is SIP by TLS (RFC 3261, 26.2).
type SIPTLS struct {
	Listen      string `toml:"listen"`      // "192.0.2.1:5061"; "" for none
	Certificate string `toml:"certificate"` // PEM; default that of the pages
	Key         string `toml:"key"`
	ClientCA    string `toml:"client_ca"` // PEM: what phones and trunk must show a certificate of; "" for none
}

// Media is where sound is received: an address and a range of UDP ports.
type Media struct {
	IP        string   `toml:"ip"`
	MoreIPs   []string `toml:"more_ips"` // further addresses of this machine: calls share sockets then, which costs less
	FromPort  int      `toml:"from_port"`
	ToPort    int      `toml:"to_port"`
	Encrypted bool     `toml:"encrypted"` // calls whose sound would travel in clear are refused, on both sides
}

// WebRTC is how browsers bring the sound of their calls. It is always
// encrypted (DTLS-SRTP).
type WebRTC struct {
	UDP       string   `toml:"udp"`        // one port for all: "127.0.0.1:0"; "" for no calls from browsers
	TCP       string   `toml:"tcp"`        // ICE by TCP (RFC 6544); "" for none
	Public    []string `toml:"public"`     // the addresses that browsers reach these ports by, where they are others
	RelayOnly bool     `toml:"relay_only"` // by TURN alone
	MaxPeers  int      `toml:"max_peers"`  // browsers in calls at once
	TURN      TURN     `toml:"turn"`
}

// TURN is a relay (RFC 8656) that makes passwords from a secret that it shares
// with us, as coturn does with use-auth-secret.
type TURN struct {
	URLs       []string `toml:"urls"` // "turns:turn.example.org:5349?transport=tcp"
	SecretFile string   `toml:"secret_file"`
}

// Trunk is the carrier or gateway that reaches other telephones.
type Trunk struct {
	Address   string   `toml:"address"`       // host:port; "" for none
	Transport string   `toml:"transport"`     // "udp" (default), "tcp" or "tls"
	CallerID  string   `toml:"caller_id"`     // number shown to the callee, E.164
	CallerIDs []string `toml:"caller_ids"`    // more of them: what callers may choose from
	Sources   []string `toml:"sources"`       // addresses it may answer from; default its own
	OwnID     bool     `toml:"own_caller_id"` // callees of calls that a page begins are shown the caller's own proven number
	Program   string   `toml:"program"`       // whose calls come in by it: prg_...; default the first

	// For a trunk that wants a password, or to be registered with.
	User       string `toml:"user"`
	SecretFile string `toml:"secret_file"`
	Register   bool   `toml:"register"`
	Domain     string `toml:"domain"` // of user and registrar; default the host of address

	// For transport "tls".
	Name        string `toml:"name"`        // that its certificate must be for; default the host of address
	CA          string `toml:"ca"`          // PEM: what its certificate hangs on; default this machine's
	Certificate string `toml:"certificate"` // PEM: ours, where it wants one
	Key         string `toml:"key"`
	SRTP        string `toml:"srtp"` // "" in clear, or "sdes" (RFC 4568)
}

// Tolls are what calls by the trunk may be: to which numbers, how often, how
// long, and for how much. Amounts are in dollars; a day begins at midnight, UTC.
type Tolls struct {
	International []string           `toml:"international"`   // countries besides the program's own: ["CA", "GB"]
	Premium       bool               `toml:"premium"`         // premium and shared-cost numbers of the program's country
	Never         []string           `toml:"never"`           // prefixes: ["+4470"]
	PerMinute     map[string]float64 `toml:"per_minute_usd"`  // by country; "default" for all others, "premium" for those
	Day           float64            `toml:"day_usd"`         // of a program
	AccountDay    float64            `toml:"account_day_usd"` // of a person
	TrunkDay      float64            `toml:"trunk_day_usd"`
	AccountCalls  int                `toml:"account_calls"`      // at once
	TrunkCalls    int                `toml:"trunk_calls"`        // at once; 0: calls.most
	AccountPace   int                `toml:"account_per_minute"` // calls placed
	TrunkPace     int                `toml:"trunk_per_minute"`
	MaxSeconds    int                `toml:"max_seconds"` // of one call by the trunk
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

// Program is the first tenant. It is made when the house is empty, and these
// settings are read at no other time.
type Program struct {
	Name          string   `toml:"name"`
	Country       string   `toml:"country"`
	OneSided      bool     `toml:"one_sided"`
	Ask           string   `toml:"ask"`           // "before" two people hear each other (default), or "during" the call, when one of them wants to record
	International []string `toml:"international"` // narrows tolls.international for this program; none: does not
}

// Defaults are a house for this machine alone.
func Defaults() Config {
	return Config{
		Data: "yesline-data", HTTP: "127.0.0.1:8080", URL: "http://localhost:8080", SIP: "127.0.0.1:5060", Realm: "yesline",
		Proxy:  Proxy{Header: byXForwardedFor},
		Pages:  Pages{Connections: 4096, PerAddress: 256},
		SMS:    SMS{PerDay: 1000},
		Media:  Media{IP: "127.0.0.1", FromPort: 30000, ToPort: 39999},
		WebRTC: WebRTC{UDP: "127.0.0.1:0", MaxPeers: 500},
		Trunk:  Trunk{Transport: "udp"},
		Tolls: Tolls{PerMinute: map[string]float64{defaultPrice: 0.05}, Day: 100, AccountDay: 10, TrunkDay: 200,
			AccountCalls: 4, AccountPace: 10, TrunkPace: 600, MaxSeconds: 3600},
		Drain:   60,
		Calls:   Calls{Most: 500, MaxSeconds: 4 * 3600},
		Urgent:  Emergency{Numbers: []string{"911", "112", "999", "000", "110", "119", "08"}},
		Program: Program{Name: "Yesline", Country: "US"},
	}
}

// Read reads a TOML file over c. An unknown key is refused by name.
func (c *Config) Read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, smallMost+1))
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	if len(text) > smallMost {
		return fmt.Errorf("the configuration is over 1 MiB: %w", yesline.Invalid)
	}
	return c.read(string(text))
}

func (c *Config) read(text string) error {
	meta, err := toml.Decode(text, c)
	if wrong := (toml.ParseError{}); errors.As(err, &wrong) { // its own text repeats what stands there
		where := fmt.Sprintf("line %d", wrong.Position.Line)
		if wrong.LastKey != "" {
			where += " (" + wrong.LastKey + ")"
		}
		return fmt.Errorf("the configuration cannot be read at %s: %w", where, yesline.Invalid)
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
		"YESLINE_TLS_CERTIFICATE": &c.TLS.Certificate, "YESLINE_TLS_KEY": &c.TLS.Key, "YESLINE_TLS_REDIRECT": &c.TLS.Redirect,
		"YESLINE_SMS_URL": &c.SMS.URL, "YESLINE_SMS_SECRET_FILE": &c.SMS.SecretFile,
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
	c.URL = strings.TrimRight(c.URL, "/")
	c.Proxy.Header = strings.ToLower(c.Proxy.Header)
	if c.SIPTLS.Certificate == "" && c.SIPTLS.Key == "" {
		c.SIPTLS.Certificate, c.SIPTLS.Key = c.TLS.Certificate, c.TLS.Key
	}
	if c.Trunk.Transport == "" {
		c.Trunk.Transport = "udp"
	}
	if c.Tolls.TrunkCalls == 0 {
		c.Tolls.TrunkCalls = c.Calls.Most
	}
}

// byTLS reports whether the pages end TLS themselves.
func (c Config) byTLS() bool { return c.TLS.Certificate != "" || c.TLS.Key != "" || c.ACME.Agree }

// Host is the name that people reach the pages by, without a port and in lower
// case; "" when the URL has none.
func (c Config) Host() string {
	u, err := url.Parse(c.URL)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

// Secret reads what requests to the provider are signed with: the file's text
// without the ends of lines after it.
func (s SMS) Secret() (yesline.Secret, error) {
	return readSecret("sms.secret_file", s.SecretFile)
}

// Secret reads the password that the trunk knows us by; without a file it is
// empty.
func (t Trunk) Secret() (yesline.Secret, error) {
	if t.SecretFile == "" {
		return yesline.Secret{}, nil
	}
	return readSecret("trunk.secret_file", t.SecretFile)
}

// Secret reads what passwords of the relay are made from.
func (t TURN) Secret() (yesline.Secret, error) {
	return readSecret("webrtc.turn.secret_file", t.SecretFile)
}

func readSecret(about, path string) (yesline.Secret, error) {
	data, err := readSmall(about, path, othersMay)
	if err != nil {
		return yesline.Secret{}, err
	}
	return yesline.NewSecret(bytes.TrimRight(data, "\r\n")), nil
}

// Shown are the numbers that callees may be shown, caller_id first.
func (t Trunk) Shown() (all []yesline.Phone, err error) {
	for i, s := range append([]string{t.CallerID}, t.CallerIDs...) {
		if i == 0 && s == "" {
			continue
		}
		number, err := yesline.NewPhone(s)
		if err != nil {
			return nil, fmt.Errorf("trunk.caller_ids: %w", err)
		}
		all = append(all, number)
	}
	return all, nil
}

const (
	defaultPrice = "default" // of countries without one
	premiumPrice = "premium"
	microsUSD    = 1_000_000
)

// TollRules are the settings of [tolls] and the trunk's caller ids as the room
// of tolls wants them.
func (c Config) TollRules() (tolls.Rules, error) {
	t := c.Tolls
	shown, err := c.Trunk.Shown()
	if err != nil {
		return tolls.Rules{}, err
	}
	r := tolls.Rules{International: t.International, Premium: t.Premium, Never: t.Never, PerMinute: map[string]int64{},
		DayMicros: micros(t.Day), AccountDayMicros: micros(t.AccountDay), TrunkDayMicros: micros(t.TrunkDay),
		Calls: tolls.Limit{Account: t.AccountCalls, Trunk: t.TrunkCalls}, PerMinuteCalls: tolls.Limit{Account: t.AccountPace, Trunk: t.TrunkPace},
		MaxLength: time.Duration(min(t.MaxSeconds, c.Calls.MaxSeconds)) * time.Second, CallerIDs: shown}
	for region, usd := range t.PerMinute {
		if region == defaultPrice {
			region = ""
		}
		r.PerMinute[region] = micros(usd)
	}
	return r, nil
}

// micros rounds up: what is a fraction of a millionth still costs.
func micros(usd float64) int64 { return int64(math.Ceil(usd*microsUSD - 1e-6)) }
