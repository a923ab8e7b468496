package web

import (
	"testing"
)

func TestRanges(t *testing.T) {
	t.Parallel()
	const none, bad = "none", "bad"
	for _, c := range []struct {
		header string
		total  int64
		want   string
		span   span
	}{
		{"", 1000, none, span{}},
		{"bytes", 1000, none, span{}},
		{"seconds=0-1", 1000, none, span{}},
		{"bytes=0-", 1000, "", span{0, 1000, true}},
		{"Bytes=0-", 1000, "", span{0, 1000, true}},
		{"bytes=0-0", 1000, "", span{0, 1, false}},
		{"bytes=0-999", 1000, "", span{0, 1000, false}},
		{"bytes=0-1000", 1000, "", span{0, 1000, false}},
		{"bytes=999-", 1000, "", span{999, 1000, true}},
		{"bytes=10-19", 1000, "", span{10, 20, false}},
		{"bytes=10-99999999999999999999999", 1000, "", span{10, 1000, false}},
		{"bytes=-1", 1000, "", span{999, 1000, false}},
		{"bytes=-1000", 1000, "", span{0, 1000, false}},
		{"bytes=-99999999999999999999999", 1000, "", span{0, 1000, false}},
		{"bytes=1000-", 1000, bad, span{}},
		{"bytes=1000-1001", 1000, bad, span{}},
		{"bytes=99999999999999999999999-", 1000, bad, span{}},
		{"bytes=20-10", 1000, bad, span{}},
		{"bytes=-0", 1000, bad, span{}},
		{"bytes=", 1000, bad, span{}},
		{"bytes=-", 1000, bad, span{}},
		{"bytes=0", 1000, bad, span{}},
		{"bytes=a-b", 1000, bad, span{}},
		{"bytes=+1-2", 1000, bad, span{}},
		{"bytes=1 -2", 1000, bad, span{}},
		{"bytes=0-1,3-4", 1000, bad, span{}},
		{"bytes=0-1,", 1000, bad, span{}},
		{"bytes=--5", 1000, bad, span{}},
		{"bytes=0x0-0x1", 1000, bad, span{}},
		{"bytes=0-", 0, bad, span{}},
		{"bytes=-5", 0, bad, span{}},
	} {
		got, found, err := parseRange(c.header, c.total)
		verdict := ""
		if err != nil {
			verdict = bad
		} else if !found {
			verdict = none
		}
		if verdict != c.want || err == nil && found && got != c.span {
			t.Errorf("%q of %d: got %v %q, want %v %q", c.header, c.total, got, verdict, c.span, c.want)
		}
	}
}

// Whatever a stranger writes, what comes out lies within the body.
func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-", "bytes=-5", "bytes=5-2", "bytes=0-0,1-1", "bytes=9223372036854775807-", "BYTES = 1-2"} {
		f.Add(s, int64(44+16000*7))
	}
	f.Fuzz(func(t *testing.T, header string, total int64) {
		if total < 0 {
			return
		}
		s, found, err := parseRange(header, total)
		if err != nil || !found {
			return
		}
		if s.from < 0 || s.to <= s.from || s.to > total {
			t.Errorf("%q of %d: got %v", header, total, s)
		}
		if s.open && s.to != total {
			t.Errorf("%q of %d: open and not to the end: %v", header, total, s)
		}
	})
}
