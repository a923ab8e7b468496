package app_test

import (
	"net/http"
	"net/url"
	"path/filepath"
	"testing"

	"yesline"
	"yesline/internal/phone"
)

// Who is called sees the house's number, or where the house wants it the
// caller's own, which they have proven; whoever is rung for their own call sees
// the house's.
func TestWhatCalleesAreShown(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"the house's": "+12025550100", "their own": ownNumber} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &carried{home: &home{t: t}}
			l.carrier = l.phone(phone.Config{Listen: "127.0.0.1:0", User: calleeNumber})
			l.open(filepath.Join(t.TempDir(), "data"), l.carrier.Address())
			l.brief()
			l.Config.Trunk.OwnID = want == ownNumber
			l.settle()
			v := l.browser(l.people[0])
			var begun told
			if code := v.posts("/call/phone", url.Values{"to": {calleeNumber}}, &begun); code != http.StatusOK {
				t.Fatalf("ring me answers %d", code)
			}
			k := &talk{h: l.home, id: yesline.CallID(begun.Call)}
			r := l.rings(ownNumber)
			if r.From() != "+12025550100" {
				t.Errorf("the caller's own phone shows %s", r.From())
			}
			var err error
			if k.ends[0], err = r.Answer(patient(t)); err != nil {
				t.Fatal(err)
			}
			r = l.rings(calleeNumber)
			if r.From() != want {
				t.Errorf("the callee is shown %s, want %s", r.From(), want)
			}
			r.Reject(patient(t), 486)
			k.ends[0].Hangup(patient(t))
			v.follow(k.id, "it is over", func(s status) bool { return s.State == "ended" })
		})
	}
}

// settle finds the program and meets the two.
func (l *carried) settle() {
	l.t.Helper()
	var err error
	if l.program, err = l.Programs.First(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	for i, n := range []string{ownNumber, calleeNumber} {
		number, _ := yesline.NewPhone(n)
		if l.people[i], err = l.People.Meet(l.t.Context(), l.program, number); err != nil {
			l.t.Fatal(err)
		}
	}
}
