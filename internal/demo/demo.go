// Package demo shows the product by running it: a real house in a temporary
// folder, simulated telephones that call through it over SIP and RTP on this
// machine, and a check of every claim against the stores themselves.
package demo

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"yesline"
	"yesline/internal/app"
	"yesline/internal/notify/desk"
	"yesline/internal/phone"
	"yesline/internal/program"
	"yesline/internal/web"
)

//go:embed speech/*.ul
var speech embed.FS

// Options say how the demo is run.
type Options struct {
	Out   io.Writer // progress, the table and the links
	Check bool      // print the table and end, instead of staying up
	HTTP  string    // where the pages listen; "" takes 127.0.0.1:8080, or any port if that is taken
}

// Demo is a house with people and telephones around it.
type Demo struct {
	*app.App
	out      sync.Mutex // one progress line at a time
	options  Options
	folder   string
	logFile  *os.File
	trunk    *phone.Trunk
	strict   yesline.ProgramID // one no means no bytes of anyone
	oneSided yesline.ProgramID // each decides for their own voice
	began    time.Time

	mu      sync.Mutex // guards what the people leave behind
	numbers []string   // every number that was used, as it was dialled
	sent    [][]byte   // every voice that was sent, in mu-law
	next    int
	phones  []*phone.Phone
	links   []link
	agreed  *talk // the call that both agreed to

	visitors int // that came without an account
	maya     *maya
}

// ErrFailed says that a claim did not hold; the table told which.
var ErrFailed = errors.New("a claim did not hold")

// Run runs the demo until its check ends or, without Check, until ctx ends.
func Run(ctx context.Context, o Options) (err error) {
	d, err := open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	results, err := d.stories(ctx)
	if err != nil {
		return err
	}
	failed := d.table(results)
	if o.Check {
		if failed > 0 {
			return ErrFailed
		}
		return nil
	}
	if err := d.invite(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func open(ctx context.Context, o Options) (d *Demo, err error) {
	d = &Demo{options: o, began: time.Now()}
	if d.folder, err = os.MkdirTemp("", "yesline-demo-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.logFile, err = os.Create(filepath.Join(d.folder, "server.log")); err != nil {
		return nil, err
	}
	if d.trunk, err = phone.NewTrunk("127.0.0.1:0"); err != nil {
		return nil, err
	}
	cfg := app.Defaults()
	cfg.Data = filepath.Join(d.folder, "data")
	if cfg.HTTP, err = freeAddress(o.HTTP); err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(cfg.HTTP)
	cfg.URL = "http://localhost:" + port
	cfg.SIP = "127.0.0.1:0"
	cfg.Trunk = app.Trunk{Address: d.trunk.Address(), CallerID: "+12025550100"}
	cfg.Program = app.Program{Name: "Everyday talk (demo)", Country: "US"}
	if cfg.Desk, err = desk.New(cfg.Data); err != nil {
		return nil, err
	}
	voice, err := d.sampleVoice()
	if err != nil {
		return nil, err
	}
	cfg.WebRTC.UDP = "127.0.0.1:0"
	cfg.Stage = app.Stage{Friends: []web.Friend{friend()}, SampleVoice: voice, Try: &web.Tryout{Friend: friend(), Visitor: d.visitor}}
	d.say("opening a house in %s", d.folder)
	if d.App, err = app.New(ctx, cfg, slog.New(slog.NewJSONHandler(d.logFile, nil))); err != nil {
		return nil, err
	}
	if err := d.Start(ctx); err != nil {
		return nil, err
	}
	if d.strict, err = d.Programs.First(ctx); err != nil {
		return nil, err
	}
	d.oneSided, err = d.Programs.Add(ctx, program.Terms{Name: "Only my side (demo)", Country: "US", OneSided: true})
	if err != nil {
		return nil, err
	}
	if err := d.welcome(); err != nil {
		return nil, err
	}
	d.say("pages on %s, telephones on %s", cfg.URL, d.Phones.Address())
	return d, nil
}

// freeAddress finds where the pages can listen on this machine.
func freeAddress(wanted string) (string, error) {
	for _, address := range []string{wanted, "127.0.0.1:8080", "127.0.0.1:0"} {
		if address == "" {
			continue
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			if address == wanted {
				return "", fmt.Errorf("listening for the pages: %w", err)
			}
			continue
		}
		defer l.Close()
		return l.Addr().String(), nil
	}
	return "", errors.New("no port is free on this machine")
}

func (d *Demo) close() error {
	var errs []error
	if d.maya != nil {
		d.maya.close()
	}
	for _, p := range d.phones {
		p.Close()
	}
	if d.App != nil {
		errs = append(errs, d.App.Close())
	}
	if d.trunk != nil {
		d.trunk.Close()
	}
	if d.logFile != nil {
		errs = append(errs, d.logFile.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(d.folder))...)
}

// say prints a progress line.
func (d *Demo) say(format string, args ...any) {
	d.out.Lock()
	defer d.out.Unlock()
	fmt.Fprintf(d.options.Out, "%5.1fs  %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

// somebody is a person with a telephone.
type somebody struct {
	name    string
	id      yesline.PersonID
	program yesline.ProgramID
	number  string
	phone   *phone.Phone
	voice   []byte // what they say, in mu-law
	link    string // for those with an account: the path that signs in once
}

// number gives an unused one out of those that no subscriber has.
func (d *Demo) number() (string, yesline.Phone, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next++
	n, err := made(d.next)
	if err != nil {
		return "", yesline.Phone{}, err
	}
	d.numbers = append(d.numbers, n)
	p, err := yesline.NewPhone(n)
	return n, p, err
}

// contributor is somebody with an account and a phone of ours. How one gets
// them by oneself, the pages show.
func (d *Demo) contributor(ctx context.Context, name string, id yesline.ProgramID) (*somebody, error) {
	who := &somebody{name: name, program: id}
	number, p, err := d.number()
	if err != nil {
		return nil, err
	}
	who.number = number
	if who.id, err = d.People.Meet(ctx, id, p); err != nil {
		return nil, err
	}
	token, err := d.Sessions.LinkFor(ctx, id, who.id)
	if err != nil {
		return nil, err
	}
	who.link = "/in/" + token
	if who.voice, err = d.voice(name); err != nil {
		return nil, err
	}
	_, user, password, err := d.Sessions.AddDevice(ctx, id, who.id, false)
	if err != nil {
		return nil, err
	}
	who.phone, err = d.newPhone(phone.Config{Listen: "127.0.0.1:0", User: user, Password: string(password.Bytes())})
	return who, err
}

// contact is somebody with an ordinary phone and no account.
func (d *Demo) contact(ctx context.Context, name string, id yesline.ProgramID) (*somebody, error) {
	who := &somebody{name: name, program: id}
	number, p, err := d.number()
	if err != nil {
		return nil, err
	}
	who.number = number
	if who.id, err = d.People.Meet(ctx, id, p); err != nil {
		return nil, err
	}
	if who.voice, err = d.voice(name); err != nil {
		return nil, err
	}
	if who.phone, err = d.newPhone(phone.Config{Listen: "127.0.0.1:0", User: strings.TrimPrefix(number, "+"), Rings: 300 * time.Millisecond}); err != nil {
		return nil, err
	}
	d.trunk.Connect(number, who.phone)
	return who, nil
}

func (d *Demo) newPhone(c phone.Config) (*phone.Phone, error) {
	p, err := phone.New(c)
	if err == nil {
		d.mu.Lock()
		d.phones = append(d.phones, p)
		d.mu.Unlock()
	}
	return p, err
}

// voice is the recorded talk of one of the four speakers: by name, or by its
// first letter, so that Anna speaks as Ann does.
func (d *Demo) voice(name string) ([]byte, error) {
	for _, speaker := range []string{"ann", "bob", "carl", "maya"} {
		if strings.EqualFold(name[:1], speaker[:1]) {
			return speech.ReadFile("speech/" + speaker + ".ul")
		}
	}
	return nil, fmt.Errorf("the demo has no voice for %s", name)
}

// invite prints links for the newcomer, each good once.
func (d *Demo) invite(ctx context.Context) error {
	operator, err := d.FirstOperator(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.options.Out, "\nDEMO. Everything here is made up and goes when you press Ctrl-C. Open this, and call Maya:\n\n  %s\n\nOr look around as somebody else. Each link signs in once, within 15 minutes:\n\n", d.Config.URL)
	for _, l := range d.links {
		token, err := d.Sessions.LinkFor(ctx, l.who.program, l.who.id)
		if err != nil {
			return err
		}
		fmt.Fprintf(d.options.Out, "  %-34s %s/in/%s\n", l.what, d.Config.URL, token)
	}
	fmt.Fprintf(d.options.Out, "  %-34s %s\n", "the operator: runs, never listens", operator)
	fmt.Fprintf(d.options.Out, "\nOr get an account of your own, with any number that begins +1202555:\n\n")
	fmt.Fprintf(d.options.Out, "  %-34s %s/join\n", "sign up", d.Config.URL)
	fmt.Fprintf(d.options.Out, "  %-34s %s/outbox\n\n", "your code arrives here", d.Config.URL)
	fmt.Fprintf(d.options.Out, "In another terminal:\n  check the log      go run ./cmd/yesline audit verify --data %s\n  check every claim  go run ./cmd/yesline demo --check\n  the enemy          make attack\n", d.Config.Data)
	return nil
}
