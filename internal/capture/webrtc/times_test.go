package webrtc

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun/v4"

	"yesline"
)

// A page is answered after 25 seconds at the latest, and counts as open for six
// more: a call rings at it as long as it would ask again, and not longer.
func TestHowLongAPageWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &Door{ctx: t.Context(), desks: map[yesline.PersonID]*ringer{}}
		person := yesline.NewPersonID()
		in, err := d.Incoming(t.Context(), person, 0)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		again, err := d.Incoming(t.Context(), person, in.Version)
		if waited := time.Since(began); err != nil || waited != 25*time.Second || again != in {
			t.Errorf("after %s the page is told %+v, %v", waited, again, err)
		}
		time.Sleep(6*time.Second - 1)
		if !d.Here(person) {
			t.Error("a page that is about to ask again does not ring")
		}
		time.Sleep(time.Nanosecond)
		if d.Here(person) {
			t.Error("a page that asked six seconds ago rings")
		}
		d.tidy(time.Now())
		if len(d.desks) != 0 {
			t.Error("a page that is gone is remembered")
		}
	})
}

// A prompt counts as heard when its browser shows within six seconds that it is
// still there.
func TestHowLongASignTakes(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]time.Duration{"in time": 5900 * time.Millisecond, "too late": 6100 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := &Handset{door: &Door{began: time.Now().Add(-time.Hour)}}
				said := time.Now()
				h.heard.Store(int64(said.Sub(h.door.began))) // at the last word is not after it
				sign := time.AfterFunc(after, func() { h.heard.Store(int64(time.Since(h.door.began))) })
				defer sign.Stop()
				err := h.reached(t.Context(), said)
				if late := after > 6*time.Second; errors.Is(err, errOutOfReach) != late || time.Since(said) > 6100*time.Millisecond {
					t.Errorf("a sign after %s: %v, after %s", after, err, time.Since(said))
				}
			})
		})
	}
}

// A connection that showed its password and then says nothing for half a minute
// is closed; each word begins that anew.
func TestHowLongAConnectionIsSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &ways{ours: "oursours", secret: strings.Repeat("s", 24), theirs: "them"}
		d := &Door{ctx: t.Context(), began: time.Now(), names: map[string]proof{}}
		h := &Handset{door: d, ways: []*ways{w}}
		h.ctx, h.end = context.WithCancelCause(t.Context())
		defer h.end(nil)
		d.names[w.ours] = proof{ways: w, handset: h}
		browser, ours := net.Pipe()
		defer browser.Close()
		s := &stream{door: d, conn: ours, from: netip.MustParseAddrPort("192.0.2.7:5000"), queue: make(chan *[]byte, tcpQueue),
			done: make(chan struct{}), spare: &sync.Pool{New: func() any { return new([]byte) }}}
		over := make(chan time.Time, 1)
		go func() {
			s.serve()
			over <- time.Now()
		}()
		heard := make(chan int, 1)
		go func() {
			n, in := 0, bufio.NewReader(browser)
			var data [maxDatagram]byte
			for {
				if _, err := readFramed(in, &data); err != nil {
					heard <- n
					return
				}
				n++
			}
		}()
		says := func() {
			t.Helper()
			m, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername(w.ours+":"+w.theirs),
				stun.NewShortTermIntegrity(w.secret), stun.Fingerprint)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := browser.Write(append([]byte{byte(len(m.Raw) >> 8), byte(len(m.Raw))}, m.Raw...)); err != nil {
				t.Fatalf("after %s: %v", time.Since(d.began), err)
			}
		}
		says()
		time.Sleep(30*time.Second - 1)
		says()
		last := time.Now()
		if silent := (<-over).Sub(last); silent != 30*time.Second {
			t.Errorf("it was closed after %s of silence", silent)
		}
		if n := <-heard; n != 2 {
			t.Errorf("%d of 2 checks were answered", n)
		}
		if _, err := browser.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the connection: %v", err)
		}
	})
}

// An ICE name has 4 to 256 of its letters, a password 22 to 256 (RFC 8839, 5.4).
func TestICEWords(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]bool{"abc": false, "abcd": true, "AZaz09+/": true, "abc:": false, "": false, "abcé": false,
		strings.Repeat("a", 256): true, strings.Repeat("a", 257): false} {
		if got := isICE(word, 4); got != want {
			t.Errorf("a name of %d letters is one: %t", len(word), got)
		}
	}
	if isICE(strings.Repeat("a", 21), 22) || !isICE(strings.Repeat("a", 22), 22) {
		t.Error("a password has 22 letters or more")
	}
}
