package demo

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strings"
	"time"

	"yesline"
	"yesline/internal/access"
	"yesline/internal/audio"
	"yesline/internal/audit"
	"yesline/internal/consent"
	"yesline/internal/keys"
	"yesline/internal/phone"
	"yesline/internal/session"
	"yesline/internal/vault"
)

// countTracks looks at the rows, the keys and the files of a call.
func (t *talk) countTracks(ctx context.Context, want int) error {
	kept, err := t.kept(ctx)
	if err != nil {
		return err
	}
	keyed := map[yesline.TrackID]bool{}
	if err := t.d.Keys.Each(ctx, func(k keys.TrackKey) error { keyed[k.Track] = true; return nil }); err != nil {
		return err
	}
	unlocked, files := 0, 0
	for _, k := range kept {
		if keyed[k.ID] {
			unlocked++
		}
		if found := t.d.files(k.ID); len(found) > 0 {
			files++
		}
	}
	if len(kept) != want || unlocked != want || files != want {
		return fmt.Errorf("%d tracks, %d keys, %d objects; want %d of each", len(kept), unlocked, files, want)
	}
	return nil
}

// files are the objects of a track on the disk.
func (d *Demo) files(id yesline.TrackID) []string {
	found, _ := filepath.Glob(filepath.Join(d.Config.Data, "objects", "*", string(id)+"*"))
	return found
}

func (t *talk) onlyOf(ctx context.Context, who *somebody) error {
	kept, err := t.kept(ctx)
	if err != nil {
		return err
	}
	if len(kept) != 1 || kept[0].Person != who.id {
		return fmt.Errorf("%d tracks", len(kept))
	}
	return t.countTracks(ctx, 1)
}

// sound opens a track as its owner and gives its samples.
func (t *talk) sound(ctx context.Context, k vault.Recorded) ([]int16, error) {
	who, err := t.d.signedIn(ctx, k.Program, k.Person)
	if err != nil {
		return nil, err
	}
	permit, err := t.d.Gate.Ask(ctx, who, access.Listen, access.Object{Kind: "track", ID: string(k.ID)}, map[string]string{"part": "check"})
	if err != nil {
		return nil, err
	}
	var samples []int16
	for from := int64(0); from < k.Seconds; from += 60 {
		seconds, err := t.d.Opener.Read(ctx, permit, k.ID, from, 60)
		if err != nil {
			return nil, err
		}
		for _, s := range seconds {
			payload := s.Payload
			if len(payload) < audio.Rate {
				payload = append(bytes.Clone(payload), bytes.Repeat([]byte{s.Codec.Silence()}, audio.Rate-len(payload))...)
			}
			samples = s.Codec.Decode(samples, payload)
		}
	}
	return samples, nil
}

// signedIn makes a session, as a sign-in link does.
func (d *Demo) signedIn(ctx context.Context, program yesline.ProgramID, person yesline.PersonID) (session.Principal, error) {
	token, err := d.Sessions.LinkFor(ctx, program, person)
	if err != nil {
		return session.Principal{}, err
	}
	_, who, err := d.Sessions.Redeem(ctx, token)
	return who, err
}

const (
	same    = 0.9 // at least: the same sound
	foreign = 0.2 // at most: another sound
)

// onlyTheirOwn correlates each track with what its own phone sent and with
// what the other sent: the one is in it, the other is not.
func (t *talk) onlyTheirOwn(ctx context.Context) error {
	kept, err := t.kept(ctx)
	if err != nil {
		return err
	}
	if len(kept) == 0 {
		return errors.New("there is no track to look at")
	}
	for _, k := range kept {
		own, other := t.callers, t.contacts
		if k.Person == t.contact.id {
			own, other = other, own
		}
		samples, err := t.sound(ctx, k)
		if err != nil {
			return err
		}
		if got := fits(samples, own); got < same {
			return fmt.Errorf("a track fits what its phone sent only by %.2f", got)
		}
		if got := fits(samples, other); got > foreign {
			return fmt.Errorf("a track holds the other's voice by %.2f", got)
		}
	}
	return nil
}

// fits says how much of the talk that a phone sent is in the samples. The
// phone began to send long before the track began, so the silence before the
// talk is cut off both.
func fits(samples []int16, c *phone.Call) float64 {
	best, _ := audio.Correlate(trim(samples), trim(audio.PCMU.Decode(nil, c.Sent())), audio.Rate)
	return best
}

// trim cuts the silence before the first and after the last loud sample.
func trim(s []int16) []int16 {
	loud := func(v int16) bool { return v > 400 || v < -400 }
	for len(s) > 0 && !loud(s[0]) {
		s = s[1:]
	}
	for len(s) > 0 && !loud(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func (t *talk) opens(ctx context.Context, who *somebody) error {
	kept, err := t.kept(ctx)
	if err != nil {
		return err
	}
	for _, k := range kept {
		if k.Person == who.id {
			samples, err := t.sound(ctx, k)
			if err == nil && loud(samples) == 0 {
				err = errors.New("it is silent")
			}
			return err
		}
	}
	return errors.New("it is gone")
}

// heardEachOther looks whether each phone heard what the other said.
func (t *talk) heardEachOther(context.Context) error {
	for _, ends := range [][2]*phone.Call{{t.callers, t.contacts}, {t.contacts, t.callers}} {
		heard := audio.PCMU.Decode(nil, ends[0].Heard())
		said := trim(audio.PCMU.Decode(nil, ends[1].Sent()))
		heard = heard[max(0, len(heard)-len(said)-2*audio.Rate):]
		if got, _ := audio.Correlate(heard, said, 3*audio.Rate); got < 0.7 {
			return fmt.Errorf("a phone heard the other only by %.2f", got)
		}
	}
	return nil
}

func (t *talk) answered(ctx context.Context, who *somebody, what consent.State, keys string) error {
	events, err := t.d.Consent.History(ctx, t.id)
	if err != nil {
		return err
	}
	for _, e := range events {
		if e.Person == who.id && e.What == what && e.Keys == keys && e.PromptSHA256 != "" && e.AtMillis > 0 {
			return nil
		}
	}
	return fmt.Errorf("no such event among %d", len(events))
}

// nothingAfter looks at the last second of each track: a second that began
// before the key may be sealed, none after it.
func (t *talk) nothingAfter(ctx context.Context, pressedMillis int64) error {
	kept, err := t.kept(ctx)
	if err != nil {
		return err
	}
	if len(kept) != 2 {
		return fmt.Errorf("%d tracks", len(kept))
	}
	for _, k := range kept {
		if end := k.CreatedMillis + k.Seconds*1000; end > pressedMillis+1500 {
			return fmt.Errorf("a track goes on for %d ms after the key", end-pressedMillis)
		}
		samples, err := t.sound(ctx, k)
		if err != nil {
			return err
		}
		who := t.caller
		if k.Person == t.contact.id {
			who = t.contact
		}
		after := audio.PCMU.Decode(nil, who.voice[8*audio.Rate:13*audio.Rate])
		tail := samples[max(0, len(samples)-2*audio.Rate):]
		if got, _ := audio.Correlate(tail, trim(after)[:2*audio.Rate], 2*audio.Rate); got > 0.5 {
			return fmt.Errorf("a track holds what was said after the key by %.2f", got)
		}
	}
	return nil
}

// browser is somebody's session with the pages.
type browser struct {
	d      *Demo
	client *http.Client
}

func (d *Demo) browser(ctx context.Context, who *somebody) (*browser, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	b := &browser{d, &http.Client{Jar: jar, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	if who == nil {
		return b, nil
	}
	token, err := d.Sessions.LinkFor(ctx, who.program, who.id)
	if err != nil {
		return nil, err
	}
	code, _, _, err := b.do(ctx, "POST", "/in/"+token, "")
	if err == nil && code != http.StatusSeeOther {
		err = fmt.Errorf("signing in answers %d", code)
	}
	return b, err
}

func (b *browser) do(ctx context.Context, method, path, ranges string) (code int, to string, body []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, method, b.d.Config.URL+path, nil)
	if err != nil {
		return 0, "", nil, err
	}
	if ranges != "" {
		r.Header.Set("Range", ranges)
	}
	answer, err := b.client.Do(r)
	if err != nil {
		return 0, "", nil, err
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(io.LimitReader(answer.Body, 8<<20))
	return answer.StatusCode, answer.Header.Get("Location"), body, err
}

// hearsOnlyOwn plays the caller's own track through the pages and tries the
// other's.
func (t *talk) hearsOnlyOwn(ctx context.Context) error {
	b, err := t.d.browser(ctx, t.caller)
	if err != nil {
		return err
	}
	kept, err := t.kept(ctx)
	if err != nil {
		return err
	}
	if code, _, _, err := b.do(ctx, "GET", "/calls/"+string(t.id), ""); err != nil || code != http.StatusOK {
		return fmt.Errorf("the call's page answers %d, %v", code, err) // it gives the tickets to play
	}
	for _, k := range kept {
		code, _, body, err := b.do(ctx, "GET", "/tracks/"+string(k.ID)+"/audio", "bytes=0-")
		if err != nil {
			return err
		}
		if k.Person != t.caller.id {
			if code != http.StatusNotFound {
				return fmt.Errorf("the other's voice answers %d", code)
			}
			continue
		}
		if code != http.StatusPartialContent || len(body) < 44+2*audio.Rate {
			return fmt.Errorf("the own voice answers %d with %d bytes", code, len(body))
		}
		var samples []int16
		for i := 44; i+1 < len(body); i += 2 {
			samples = append(samples, int16(binary.LittleEndian.Uint16(body[i:])))
		}
		if got := fits(samples, t.callers); got < same {
			return fmt.Errorf("the page plays the voice only by %.2f", got)
		}
	}
	return nil
}

func (t *talk) listed(ctx context.Context) error {
	b, err := t.d.browser(ctx, t.caller)
	if err != nil {
		return err
	}
	code, _, body, err := b.do(ctx, "GET", "/calls/"+string(t.id)+"/log", "")
	if err != nil {
		return err
	}
	if code != http.StatusOK || !bytes.Contains(body, []byte("istened")) && !bytes.Contains(body, []byte("heard")) {
		return fmt.Errorf("the access list answers %d and does not tell of the listening", code)
	}
	return nil
}

// taken is a withdrawal: how long it took and the receipt that came of it.
type taken struct {
	took    time.Duration
	receipt []byte
	track   yesline.TrackID
}

// withdraw sends the caller's form and fetches the receipt it leads to.
func (t *talk) withdraw(ctx context.Context) (*taken, error) {
	b, err := t.d.browser(ctx, t.caller)
	if err != nil {
		return nil, err
	}
	kept, err := t.kept(ctx)
	if err != nil {
		return nil, err
	}
	w := &taken{}
	for _, k := range kept {
		if k.Person == t.caller.id {
			w.track = k.ID
		}
	}
	t.withdrawn = w.track
	began := time.Now()
	code, to, _, err := b.do(ctx, "POST", "/calls/"+string(t.id)+"/withdraw", "")
	if err != nil {
		return nil, err
	}
	w.took = time.Since(began)
	if code != http.StatusSeeOther || !strings.HasPrefix(to, "/receipts/") {
		return nil, fmt.Errorf("withdrawing answers %d and leads to %q, not to a receipt", code, to)
	}
	code, _, w.receipt, err = b.do(ctx, "GET", to+"/json", "")
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("the receipt answers %d", code)
	}
	return w, err
}

func (w *taken) quick() error {
	if w.took > time.Minute {
		return fmt.Errorf("it took %v", w.took)
	}
	return nil
}

func (w *taken) verifies(key string) error {
	e, err := audit.VerifyReceipt(w.receipt, key)
	if err != nil {
		return err
	}
	if e.Verb != "track.destroyed" || e.Object != string(w.track) {
		return fmt.Errorf("it is about something else: %s", e.Verb)
	}
	forged := bytes.Replace(w.receipt, []byte("track.destroyed"), []byte("track.preserved"), 1)
	if _, err := audit.VerifyReceipt(forged, key); err == nil {
		return errors.New("a forged receipt verifies too")
	}
	return nil
}

// cannotBeOpened tries every way to the withdrawn voice that we have.
func (t *talk) cannotBeOpened(ctx context.Context, who *somebody) error {
	id := t.withdrawn
	if _, err := t.d.Keys.OpenTrack(ctx, who.program, who.id, id); !errors.Is(err, yesline.NotFound) {
		return fmt.Errorf("its key: %v", err)
	}
	if found := t.d.files(id); len(found) > 0 {
		return fmt.Errorf("%d objects are left", len(found))
	}
	me, err := t.d.signedIn(ctx, who.program, who.id)
	if err != nil {
		return err
	}
	if _, err := t.d.Gate.Ask(ctx, me, access.Listen, access.Object{Kind: "track", ID: string(id)}, nil); !errors.Is(err, yesline.NotFound) {
		return fmt.Errorf("the gate: %v", err)
	}
	b, err := t.d.browser(ctx, who)
	if err != nil {
		return err
	}
	for _, path := range []string{"audio", "peaks"} {
		if code, _, _, err := b.do(ctx, "GET", "/tracks/"+string(id)+"/"+path, ""); err != nil || code != http.StatusNotFound {
			return fmt.Errorf("its %s answers %d %v", path, code, err)
		}
	}
	return nil
}

// stranger is nobody, another contributor, and one of another program, at
// every door that names something of somebody else. What is there and what is
// not must answer alike.
func (d *Demo) stranger(ctx context.Context, r *result) error {
	t := d.agreed
	bob, err := d.contributor(ctx, "Bob", d.strict)
	if err != nil {
		return err
	}
	carl, err := d.contributor(ctx, "Carl", d.oneSided)
	if err != nil {
		return err
	}
	d.say("strangers try every door of Ann's call")
	kept, err := t.kept(ctx)
	if err != nil {
		return err
	}
	call, track := string(t.id), string(kept[0].ID)
	receipts, err := d.Log.Receipts(ctx, t.caller.id, call)
	if err != nil {
		return err
	}
	receipt := string(yesline.NewReceiptID())
	if len(receipts) > 0 {
		receipt = string(receipts[0].ID)
	}
	doors := []struct{ method, path, there, absent string }{
		{"GET", "/calls/%s", call, string(yesline.NewCallID())},
		{"GET", "/calls/%s/log", call, string(yesline.NewCallID())},
		{"GET", "/calls/%s/withdraw", call, string(yesline.NewCallID())},
		{"POST", "/calls/%s/withdraw", call, string(yesline.NewCallID())},
		{"POST", "/calls/%s/share", call, string(yesline.NewCallID())},
		{"POST", "/calls/%s/share/stop", call, string(yesline.NewCallID())},
		{"POST", "/calls/%s/license", call, string(yesline.NewCallID())},
		{"POST", "/calls/%s/license/stop", call, string(yesline.NewCallID())},
		{"GET", "/tracks/%s/audio", track, string(yesline.NewTrackID())},
		{"GET", "/tracks/%s/peaks", track, string(yesline.NewTrackID())},
		{"GET", "/receipts/%s", receipt, string(yesline.NewReceiptID())},
		{"GET", "/receipts/%s/json", receipt, string(yesline.NewReceiptID())},
		{"POST", "/house/%s/invite", string(d.strict), string(yesline.NewProgramID())},
	}
	tries := 0
	for name, who := range map[string]*somebody{"nobody": nil, "another contributor": bob, "one of another program": carl} {
		b, err := d.browser(ctx, who)
		if err != nil {
			return err
		}
		var wrong error
		for _, door := range doors {
			tries++
			code, to, there, err := b.do(ctx, door.method, fmt.Sprintf(door.path, door.there), "")
			if err != nil {
				return err
			}
			codeAbsent, toAbsent, absent, err := b.do(ctx, door.method, fmt.Sprintf(door.path, door.absent), "")
			if err != nil {
				return err
			}
			switch {
			case code != http.StatusNotFound && to != "/in":
				wrong = errors.Join(wrong, fmt.Errorf("%s %s answers %d", door.method, door.path, code))
			case code != codeAbsent || to != toAbsent || !bytes.Equal(there, absent):
				wrong = errors.Join(wrong, fmt.Errorf("%s %s tells there from absent", door.method, door.path))
			}
		}
		r.holds(name+" gets nothing", fmt.Sprintf("%d doors, with real and absent ids", len(doors)), wrong)
	}
	s, err := d.Consent.Of(ctx, t.id, t.caller.id)
	if err == nil && (!s.Kept() || s.Share || s.License) {
		err = errors.New("a stranger changed Ann's consent")
	}
	r.holds("and changes nothing", "Ann's consent afterwards", err)
	return nil
}

// house looks at the whole house when all is quiet.
func (d *Demo) house(ctx context.Context, r *result) error {
	d.say("checking the log, the stores, and every file for numbers and plain sound")
	report, err := d.Log.Verify(ctx)
	if err != nil {
		return err
	}
	var problems error
	for _, p := range report.Problems {
		problems = errors.Join(problems, errors.New(p))
	}
	r.holds("the log is whole", fmt.Sprintf("%d entries against the signed tree", report.Entries), problems)
	found, err := d.App.Check(ctx)
	if err != nil {
		return err
	}
	var wrong error
	for _, p := range found {
		wrong = errors.Join(wrong, errors.New(p))
	}
	r.holds("every object has a key and a yes", "rows, keys, files and consent against one another", wrong)
	numbers, sounds, files, err := d.search()
	if err != nil {
		return err
	}
	r.holds("no number anywhere in clear", fmt.Sprintf("%d files, databases and logs, byte by byte", files), numbers)
	r.holds("no plain sound anywhere", "the same files, for every stretch that was said", sounds)
	return nil
}

// search reads every file of the demo and the log for numbers, as they were
// dialled and without country, and for pieces of the sound that was sent.
func (d *Demo) search() (numbers, sounds error, files int, err error) {
	d.mu.Lock()
	var digits [][]byte
	for _, n := range d.numbers {
		digits = append(digits, []byte(strings.TrimPrefix(n, "+1")))
	}
	var pieces [][]byte
	for _, s := range d.sent {
		// 32 bytes of every quarter of a second, where something was said.
		for at := 0; at+32 <= len(s); at += audio.Rate / 4 {
			piece := s[at : at+32]
			if loud(audio.PCMU.Decode(nil, piece)) > 24 {
				pieces = append(pieces, piece)
			}
		}
	}
	d.mu.Unlock()
	err = filepath.WalkDir(d.folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		files++
		name := filepath.Base(path)
		for _, n := range digits {
			if bytes.Contains(data, n) {
				numbers = errors.Join(numbers, fmt.Errorf("a number stands in %s", name))
				break
			}
		}
		for _, p := range pieces {
			if bytes.Contains(data, p) {
				sounds = errors.Join(sounds, fmt.Errorf("plain sound stands in %s", name))
				break
			}
		}
		return nil
	})
	if len(digits) == 0 || len(pieces) == 0 {
		err = errors.Join(err, errors.New("there was nothing to look for"))
	}
	return numbers, sounds, files, err
}
