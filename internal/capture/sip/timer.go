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

	"yesline/internal/capture"
)

// Session timers (RFC 4028): one side shows every so often that it lives, and a
// call whose signs of life end is over, so that no recording goes on without
// anybody.
const (
	shortestSession = 90 * time.Second // the least that the RFC allows
	usualSession    = 30 * time.Minute
	longestSession  = 4 * time.Hour
	lookEvery       = time.Second
)

// timer is the session timer of a dialog. The dialog's mu guards it.
type timer struct {
	interval time.Duration // 0: there is none
	least    time.Duration // what the peer wants at least; 0: nothing
	ours     bool          // we show that the call lives
	since    time.Time     // when it was last shown
	asking   bool          // a sign of ours is under way
}

// expires reads a Session-Expires: how long, and who is to refresh, "uac" or
// "uas" or "" for neither said.
func expires(msg sip.Message) (d time.Duration, who string, ok bool) {
	said := cmp.Or(value(msg, "Session-Expires"), value(msg, "x"))
	length, params, _ := strings.Cut(said, ";")
	n, err := strconv.ParseUint(strings.TrimSpace(length), 10, 31)
	if err != nil {
		return 0, "", false
	}
	for p := range strings.SplitSeq(strings.ToLower(params), ";") {
		if name, said, _ := strings.Cut(strings.TrimSpace(p), "="); name == "refresher" && (said == "uac" || said == "uas") {
			who = said
		}
	}
	return time.Duration(n) * time.Second, who, true
}

// tooBrief refuses a session timer that is shorter than we take. It reports
// whether it did.
func (d *Door) tooBrief(req *sip.Request, tx sip.ServerTransaction) bool {
	asked, _, ok := expires(req)
	if !ok || asked >= shortestSession {
		return false
	}
	res := sip.NewResponseFromRequest(req, 422, "Session Interval Too Small", nil)
	res.AppendHeader(sip.NewHeader("Min-SE", seconds(shortestSession)))
	tx.Respond(res)
	return true
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }

// least reads Min-SE.
func least(msg sip.Message) time.Duration {
	length, _, _ := strings.Cut(value(msg, "Min-SE"), ";")
	n, err := strconv.ParseUint(strings.TrimSpace(length), 10, 31)
	if err != nil {
		return 0
	}
	return min(time.Duration(n)*time.Second, longestSession)
}

// agreeTimer answers what the peer asks for in a 2xx of ours (RFC 4028, 9). A
// peer that does not know timers is shown signs of life all the same when it
// asked for one.
func (d *dialog) agreeTimer(req *sip.Request, res *sip.Response) {
	asked, who, has := expires(req)
	knows := containsTag(req, "Supported", "timer") || containsTag(req, "Require", "timer")
	d.mu.Lock()
	defer d.mu.Unlock()
	if !has && !knows {
		d.timer.interval = 0
		return
	}
	interval := max(usualSession, least(req))
	if has {
		interval = min(asked, longestSession)
	}
	if who == "" || !knows {
		who = map[bool]string{true: "uac", false: "uas"}[knows]
	}
	d.timer.interval, d.timer.ours, d.timer.since = interval, who == "uas", time.Now()
	res.AppendHeader(sip.NewHeader("Session-Expires", seconds(interval)+";refresher="+who))
	if who == "uac" {
		res.AppendHeader(sip.NewHeader("Require", "timer"))
	}
}

// askTimer asks for one in a request of ours.
func (d *dialog) askTimer(req *sip.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	interval := max(usualSession, d.timer.least)
	who := ""
	if d.timer.interval > 0 { // as agreed
		interval = max(d.timer.interval, d.timer.least)
		who = map[bool]string{true: ";refresher=uac", false: ";refresher=uas"}[d.timer.ours]
	}
	req.AppendHeader(sip.NewHeader("Session-Expires", seconds(interval)+who))
	req.AppendHeader(sip.NewHeader("Min-SE", seconds(max(shortestSession, d.timer.least))))
}

// takeTimer takes what a 2xx to a request of ours says (RFC 4028, 7.2). One
// that says nothing knows no timers: there is none then.
func (d *dialog) takeTimer(res *sip.Response) {
	interval, who, ok := expires(res)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !ok || interval < shortestSession {
		d.timer.interval = 0
		return
	}
	d.timer.interval, d.timer.ours, d.timer.since = min(interval, longestSession), who != "uas", time.Now()
}

// raise takes the least that a 422 names; false when it says nothing new.
func (t *timer) raise(res *sip.Response) bool {
	l := least(res)
	if l <= max(t.least, shortestSession) {
		return false
	}
	t.least = l
	return true
}

// due tells whether a sign of ours is to be sent now, or theirs is overdue.
func (t *timer) due(now time.Time) (refresh, dead bool) {
	if t.interval == 0 {
		return false, false
	}
	quiet := now.Sub(t.since)
	if quiet >= t.interval-min(32*time.Second, t.interval/3) { // RFC 4028, 10
		return false, true
	}
	return t.ours && !t.asking && quiet >= t.interval/2, false
}

var errNoSign = errors.New("a phone gave no sign of life any more")

// tend looks after all legs: that their parties are still there. It ends with
// the door.
func (d *Door) tend() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-d.ctx.Done():
			return
		case now := <-tick.C:
			for _, dg := range d.legs() {
				dg.look(now)
			}
		}
	}
}

func (d *Door) legs() (all []*dialog) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, dg := range d.dialogs {
		all = append(all, dg)
	}
	return all
}

// look ends the call when this party is gone: its signs of life end, or it
// should speak and sends nothing at all.
func (d *dialog) look(now time.Time) {
	d.mu.Lock()
	if !d.talking || d.over {
		d.mu.Unlock()
		return
	}
	if d.ear.heard.Swap(false) || !d.theirs.dir.speaks() || d.ear.to == nil { // who calls for help may have to be silent
		d.heard = now
	}
	mute := now.Sub(d.heard) >= d.door.cfg.MaxSilence
	refresh, dead := d.timer.due(now)
	if refresh {
		d.timer.asking = true
	}
	d.mu.Unlock()
	switch {
	case dead:
		d.left(errNoSign)
	case mute:
		d.left(fmt.Errorf("%s sent no sound for %s s", map[bool]string{true: "the trunk", false: "a phone"}[d.trunk], seconds(d.door.cfg.MaxSilence)))
	case refresh && d.door.holds():
		go func() {
			defer d.door.calling.Done()
			d.refresh()
		}()
	}
}

// refresh shows that the call lives. A peer that knows nothing of it has lost
// it.
func (d *dialog) refresh() {
	ctx, cancel := context.WithTimeout(d.ctx, giveUp)
	defer cancel()
	res, err := d.propose(ctx, false)
	d.mu.Lock()
	d.timer.asking = false
	if err == nil && res.StatusCode == 422 {
		d.timer.raise(res)
	}
	d.mu.Unlock()
	if err == nil && (res.StatusCode == 481 || res.StatusCode == 408) {
		d.left(capture.ErrLost)
	}
}
