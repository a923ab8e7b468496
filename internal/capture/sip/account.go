package sip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"

	"yesline"
)

// Account is how we prove to a trunk that it is us.
type Account struct {
	User     string
	Password yesline.Secret
	Register bool   // tell the trunk where we are, as a phone does
	Domain   string // of the user; "": the trunk's address
}

// account is what requests of ours are proven with: a phone of ours may ask for
// nothing.
func (d *Door) account(own bool) *Account {
	if own {
		return &Account{}
	}
	return &d.cfg.TrunkAccount
}

// prove answers a challenge to a request of ours: a header's name and value.
// The strongest of what is offered that we know is taken.
func (a *Account) prove(req *sip.Request, res *sip.Response) (header string, ok bool) {
	ask, answer := "WWW-Authenticate", "Authorization"
	if res.StatusCode == 407 {
		ask, answer = "Proxy-Authenticate", "Proxy-Authorization"
	}
	if a.User == "" || req.GetHeader(answer) != nil && !isStale(res, ask) {
		return "", false // there is none, or it was wrong
	}
	for _, algorithm := range []string{"SHA-512-256", "SHA-256", "MD5", ""} {
		for _, h := range res.GetHeaders(ask) {
			c, err := digest.ParseChallenge(h.Value())
			if err != nil || c.Algorithm != algorithm {
				continue
			}
			given, err := digest.Digest(c, digest.Options{Method: string(req.Method), URI: req.Recipient.String(),
				Username: a.User, Password: string(a.Password.Bytes()), Count: 1})
			if err == nil {
				return answer + ": " + given.String(), true
			}
		}
	}
	return "", false
}

func isStale(res *sip.Response, ask string) bool {
	for _, h := range res.GetHeaders(ask) {
		if c, err := digest.ParseChallenge(h.Value()); err == nil && c.Stale {
			return true
		}
	}
	return false
}

const (
	ourRegistration = 10 * time.Minute
	registerAgain   = 30 * time.Second // after a trunk did not take one
)

// errRefused is a trunk that does not take our registration.
var errRefused = errors.New("the trunk refused our registration")

// register keeps us registered with the trunk until the door closes, and takes
// the registration back then.
func (d *Door) register() {
	r := &registrar{door: d, callID: newTag(), tag: newTag()}
	worked := true
	for {
		life, err := r.say(d.ctx, ourRegistration)
		if err != nil && worked {
			d.cfg.Report.Error("we could not register with the trunk", "error", err)
		}
		worked = err == nil
		wait := life / 2
		if err != nil {
			wait = registerAgain
		}
		select {
		case <-time.After(wait):
		case <-d.ctx.Done():
			ctx, cancel := context.WithTimeout(context.Background(), byeTime/2)
			defer cancel()
			r.say(ctx, 0)
			return
		}
	}
}

// registrar is our registration with the trunk. One goroutine uses it.
type registrar struct {
	door        *Door
	callID, tag string
	cseq        uint32
}

// say registers for so long and gives how long it was taken for.
func (r *registrar) say(ctx context.Context, life time.Duration) (time.Duration, error) {
	d, proof := r.door, ""
	for range maxTries {
		req := r.request(life, proof)
		leg := &dialog{door: d}
		ctx, cancel := context.WithTimeout(ctx, giveUp)
		res, err := leg.transact(ctx, req)
		cancel()
		if err != nil {
			return 0, fmt.Errorf("registering with the trunk: %w", err)
		}
		switch code := res.StatusCode; {
		case res.IsSuccess():
			return granted(res, life), nil
		case code == 401 || code == 407:
			var ok bool
			if proof, ok = d.cfg.TrunkAccount.prove(req, res); !ok {
				return 0, fmt.Errorf("it does not take our password: %w", errRefused)
			}
		case code == 423:
			n, _ := strconv.Atoi(value(res, "Min-Expires"))
			if life == 0 || n <= 0 || n > 24*3600 {
				return 0, errRefused
			}
			life = time.Duration(n) * time.Second
		default:
			return 0, fmt.Errorf("with status %d: %w", code, errRefused)
		}
	}
	return 0, errRefused
}

// granted is how long a registration holds: what our contact or the answer
// says, at least a minute.
func granted(res *sip.Response, asked time.Duration) time.Duration {
	said := value(res, "Expires")
	if c := res.Contact(); c != nil {
		if own, has := c.Params.Get("expires"); has {
			said = own
		}
	}
	n, err := strconv.Atoi(said)
	if err != nil || n <= 0 {
		return asked
	}
	return min(max(time.Duration(n)*time.Second, time.Minute), 24*time.Hour)
}

func (r *registrar) request(life time.Duration, proof string) *sip.Request {
	d := r.door
	trunk := d.cfg.Trunk
	to := sip.Uri{Scheme: "sip", Host: trunk.Addr().String(), Port: int(trunk.Port())}
	if d.cfg.TrunkAccount.Domain != "" {
		to.Host, to.Port = d.cfg.TrunkAccount.Domain, 0
	}
	req := sip.NewRequest(sip.REGISTER, to)
	d.route(req, peer{trunk, d.trunkOver()})
	us := sip.Uri{Scheme: "sip", User: d.cfg.TrunkAccount.User, Host: cmp.Or(d.cfg.TrunkAccount.Domain, trunk.Addr().String())}
	from := &sip.FromHeader{Address: us}
	from.Params.Add("tag", r.tag)
	req.AppendHeader(from)
	req.AppendHeader(&sip.ToHeader{Address: us})
	id := sip.CallIDHeader(r.callID)
	req.AppendHeader(&id)
	r.cseq++
	req.AppendHeader(&sip.CSeqHeader{SeqNo: r.cseq, MethodName: sip.REGISTER})
	req.AppendHeader(sip.NewHeader("Expires", seconds(life)))
	if proof != "" {
		name, rest, _ := strings.Cut(proof, ": ")
		req.AppendHeader(sip.NewHeader(name, rest))
	}
	req.SetBody(nil)
	return req
}
