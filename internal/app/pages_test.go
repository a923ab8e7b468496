package app_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"yesline"
	"yesline/internal/audio"
	"yesline/internal/capture/tolls"
)

// page reads a page of somebody's.
func (v *visitor) page(path string) string {
	v.h.t.Helper()
	code, _, body, err := v.do("GET", path, "")
	if err != nil || code != http.StatusOK {
		v.h.t.Fatalf("%s answers %d, %v", path, code, err)
	}
	return string(body)
}

// submits sends a form as a browser without scripts does.
func (v *visitor) submits(path string, form url.Values) (status int) {
	v.h.t.Helper()
	r, err := http.NewRequestWithContext(v.h.t.Context(), "POST", "http://"+v.h.PagesAddress()+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.h.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	got, err := v.client.Do(r)
	if err != nil {
		v.h.t.Fatal(err)
	}
	got.Body.Close()
	return got.StatusCode
}

// Two pages say yes from now on, and one pauses. The page of the call says so,
// each voice plays at 16 kHz and can be taken home as it came; the next call
// tells them and does not ask; and whoever ends their yes is asked again.
func TestAYesFromNowOnThroughTheWholeHouse(t *testing.T) {
	t.Parallel()
	l := newCarried(t)
	ann, ben := l.opens(l.people[0], "opus"), l.opens(l.people[1], "opus")
	var both sync.WaitGroup
	call := func(ann, ben *page) *talk {
		rings := ben.waits()
		ben.here(l.people[1])
		k := &talk{h: l.home, id: ann.calls(calleeNumber)}
		both.Go(func() {
			ann.follow(k.id, "the other does not pick up yet", func(s status) bool { return s.Away && s.Theirs })
		})
		both.Wait()
		ben.answers(rings)
		return k
	}
	k := call(ann, ben)
	for _, p := range []*page{ann, ben} {
		both.Go(func() {
			p.follow(k.id, "a yes can last", func(s status) bool { return s.MayLast && !s.Away })
			p.chooses(k.id, "agree_always")
		})
	}
	both.Wait()
	ann.follow(k.id, "both are recorded", func(s status) bool { return s.State == "bridged" && s.Recording == "both" })
	said := opusPackets(t, 100, 7)
	both.Go(func() { ben.speaks(said) })
	ann.speaks(said)
	both.Wait()
	ann.chooses(k.id, "pause")
	ann.follow(k.id, "it is paused", func(s status) bool { return s.Paused })
	ann.chooses(k.id, "resume")
	time.Sleep(300 * time.Millisecond)
	ann.chooses(k.id, "hangup")
	for _, r := range k.finished(2) {
		if r.Person != l.people[0] {
			continue
		}
		page := ann.page("/calls/" + string(k.id))
		for _, want := range []string{"You were asked before you talked.", "You said yes from now on.", "You paused the recording at", "/tracks/" + string(r.ID) + "/original"} {
			if !strings.Contains(page, want) {
				t.Errorf("the page of the call lacks %q", want)
			}
		}
		if log := ann.page("/calls/" + string(k.id) + "/log"); strings.Contains(log, "something else") || !strings.Contains(log, "said yes to later calls") || !strings.Contains(log, "paused the recording") {
			t.Error("the access list lacks words")
		}
		_, _, wav, err := ann.do("GET", "/tracks/"+string(r.ID)+"/audio", "bytes=0-")
		if err != nil || len(wav) < 44 || binary.LittleEndian.Uint32(wav[24:]) != audio.WideRate {
			t.Errorf("the voice is no WAV at 16 kHz: %v, %d bytes", err, len(wav))
		}
		code, _, ogg, err := ann.do("GET", "/tracks/"+string(r.ID)+"/original", "")
		if err != nil || code != http.StatusOK || !bytes.HasPrefix(ogg, []byte("OggS")) || !bytes.Contains(ogg, said[50]) {
			t.Errorf("as it came the voice answers %d, %v, %d bytes", code, err, len(ogg))
		}
	}

	// The list, and no word of it to the other.
	yes, err := l.Consent.LastingOf(t.Context(), l.people[0])
	if err != nil || len(yes) != 1 {
		t.Fatalf("%d last, %v", len(yes), err)
	}
	if page := ann.page("/me/lasting"); !strings.Contains(page, string(yes[0].ID)) || strings.Contains(page, string(l.people[1])) {
		t.Error("the list does not show the yes, or names a person by their id")
	}
	theirs := ben.page("/me/lasting")
	if strings.Contains(theirs, string(yes[0].ID)) {
		t.Error("the other's list shows it")
	}
	if log := ben.page("/calls/"+string(k.id)+"/log") + ben.page("/me"); strings.Count(log, "yes to later calls") != 1 {
		t.Error("the other's log tells of more than their own yes")
	}
	if code := ben.submits("/me/lasting/end", url.Values{"lasting": {string(yes[0].ID)}}); code != http.StatusNotFound {
		t.Errorf("the other ends it: %d", code)
	}

	// The next call tells and does not ask; ended, it asks again.
	if code := ann.submits("/me/lasting/end", url.Values{"lasting": {string(yes[0].ID)}}); code/100 == 4 {
		t.Errorf("ending it answers %d", code)
	}
	ann, ben = l.opens(l.people[0], "opus"), l.opens(l.people[1], "opus")
	k = call(ann, ben)
	ann.agrees(k.id) // is asked
	ben.follow(k.id, "both are recorded", func(s status) bool { return s.State == "bridged" && s.Recording == "both" })
	ann.chooses(k.id, "hangup")
	k.finished(2)
	if page := ben.page("/calls/" + string(k.id)); !strings.Contains(page, "You were not asked") {
		t.Error("the page of the next call does not say that its yes was remembered")
	}
	if page := ann.page("/calls/" + string(k.id)); !strings.Contains(page, "You were asked before you talked.") || strings.Contains(page, "from now on") {
		t.Error("the page of the one who ended theirs says something else")
	}
	l.check()
}

// Why calls were refused reaches the staff's page, without who and whom.
func TestRefusedCallsReachTheStaff(t *testing.T) {
	t.Parallel()
	l := newCarried(t)
	who := tolls.Who{Program: l.program, Person: l.people[0], Trunk: "trunk"}
	number, err := yesline.NewPhone("+19005550142")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := l.Tolls.Place(t.Context(), who, number); err == nil {
			t.Fatal("a premium number was placed")
		}
	}
	stranger, err := net.Dial("udp", l.Phones.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	for _, method := range []string{"INVITE", "OPTIONS"} {
		fmt.Fprintf(stranger, "%s sip:+12025550177@%s SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7;rport;branch=z9hG4bK%[1]s\r\nFrom: <sip:1000@198.51.100.7>;tag=s\r\n"+
			"To: <sip:+12025550177@%[2]s>\r\nCall-ID: scan\r\nCSeq: 1 %[1]s\r\nContact: <sip:1000@198.51.100.7>\r\nContent-Length: 0\r\n\r\n", method, l.Phones.Address())
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	operator := &visitor{l.home, &http.Client{Jar: jar, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	token, err := l.Sessions.FirstOperator(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	operator.do("POST", "/in/"+token, "")
	page, both := operator.page("/house"), regexp.MustCompile(`Somebody unknown rang our telephone door[^<]*</th>.*>2</td>`)
	for until := time.Now().Add(10 * time.Second); !both.MatchString(page) && time.Now().Before(until); page = operator.page("/house") {
		time.Sleep(100 * time.Millisecond) // the door tells once a second
	}
	if !both.MatchString(page) {
		t.Error("the page does not tell of two strangers at the telephone door")
	}
	for _, want := range []string{"A number that charges extra", "United States", ">3<"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, no := range []string{string(l.people[0]), "5550142", "5550177", "198.51.100.7", stranger.LocalAddr().String()} {
		if strings.Contains(page, no) {
			t.Errorf("the page tells who called, from where, or whom: %q", no)
		}
	}
}
