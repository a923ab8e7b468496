package web

import (
	"fmt"
	"strconv"
	"strings"

	"yesline"
)

// span is a part of a body: bytes from up to, and not including, to.
type span struct {
	from, to int64
	open     bool // the asker named no end
}

// parseRange reads a Range header for a body of total bytes (RFC 9110, section
// 14.2). Found is false where the header asks for nothing we know: then the
// whole is meant. The error is for 416: more than one range, a malformed one,
// or one that lies outside. It does not repeat the header.
func parseRange(header string, total int64) (s span, found bool, err error) {
	unit, set, ok := strings.Cut(header, "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		return span{}, false, nil
	}
	first, last, ok := strings.Cut(strings.Trim(set, " \t"), "-")
	if !ok {
		return span{}, true, fmt.Errorf("reading a range: it has no dash: %w", yesline.Invalid)
	}
	if first == "" {
		n, err := position(last)
		if err != nil || n == 0 || total == 0 {
			return span{}, true, fmt.Errorf("reading a range: no such end: %w", yesline.Invalid)
		}
		return span{from: max(total-n, 0), to: total}, true, nil
	}
	from, err := position(first)
	if err != nil || from >= total {
		return span{}, true, fmt.Errorf("reading a range: it begins outside: %w", yesline.Invalid)
	}
	if last == "" {
		return span{from: from, to: total, open: true}, true, nil
	}
	end, err := position(last)
	if err != nil || end < from {
		return span{}, true, fmt.Errorf("reading a range: it ends before it begins: %w", yesline.Invalid)
	}
	return span{from: from, to: min(end, total-1) + 1}, true, nil
}

// position reads digits and nothing else: no sign, no space, and no comma, so
// that a second range is refused. Numbers beyond int64 are as good as the
// largest.
func position(s string) (int64, error) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, yesline.Invalid
		}
	}
	if s == "" || len(s) > 64 {
		return 0, yesline.Invalid
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 1<<63 - 1, nil
	}
	return int64(n), nil
}
