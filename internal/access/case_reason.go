package access

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"yesline"
)

var (
	plainNumber = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z ._/#:-]{0,63}$`)
	loneYear    = regexp.MustCompile(`(^|[^+0-9])(19|20)[0-9]{2}($|[^0-9])`)
)

// telephone reports whether a text holds what may be a telephone number: more
// than 6 digits of any script with no letter among them, or more than 8 where a
// year stands among them, as in 2026-0042 or 14.7.2026. It is against slips:
// whoever wants to tell a number writes it in words.
func telephone(s string) bool {
	for part := range strings.FieldsFuncSeq(s, unicode.IsLetter) {
		most := 6
		if loneYear.MatchString(part) {
			most = 8
		}
		for _, r := range part {
			if unicode.IsNumber(r) {
				most--
			}
		}
		if most < 0 {
			return true
		}
	}
	return false
}

// plainReason is what people read who may not have each other's numbers.
func plainReason(s string) (string, error) {
	s = strings.Join(strings.Fields(s), " ")
	n := utf8.RuneCountInString(s)
	if !utf8.ValidString(s) || n < reasonLeast || n > reasonMost || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", fmt.Errorf("a reason is %d to %d characters of plain text: %w", reasonLeast, reasonMost, yesline.Invalid)
	}
	if telephone(s) {
		return "", fmt.Errorf("a reason must hold no telephone number, because the other party reads it too: 6 digits in a row, or 8 with a year: %w", yesline.Invalid)
	}
	return s, nil
}
