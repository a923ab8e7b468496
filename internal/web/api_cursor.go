package web

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"yesline/internal/session"
)

// A cursor says where the next page begins. It is bound to its door, its
// object and the account that it was given to, so that nobody can make one or
// use another's.

const cursorMAC = 16

func (d *desk) cursor(a asked, place string) string {
	if place == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(append(d.cursorSum(a.Who, a.URL.Path, place), place...))
}

// place reads a cursor back.
func (d *desk) place(a asked, cursor string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	wrong := newProblem(http.StatusBadRequest, "invalid", fault{Parameter: "cursor", Detail: "this is no cursor of this list"})
	data, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(data) <= cursorMAC || strings.ContainsAny(cursor, "\r\n") { // the decoder skips line breaks
		return "", wrong
	}
	place := string(data[cursorMAC:])
	if !hmac.Equal(data[:cursorMAC], d.cursorSum(a.Who, a.URL.Path, place)) {
		return "", wrong
	}
	return place, nil
}

func (d *desk) millis(a asked, cursor string) (int64, error) {
	place, err := d.place(a, cursor)
	if err != nil || place == "" {
		return 0, err
	}
	return strconv.ParseInt(place, 10, 64)
}

func (d *desk) cursorSum(who session.Principal, path, place string) []byte {
	mac := hmac.New(sha256.New, d.cursorKey)
	for _, part := range []string{who.Account(), path, place} {
		mac.Write([]byte(strconv.Itoa(len(part)) + ":" + part))
	}
	return mac.Sum(nil)[:cursorMAC]
}

// next is the header that leads to the next page (RFC 8288).
func next(a asked, cursor string, limit int) string {
	if cursor == "" {
		return ""
	}
	q := url.Values{"cursor": {cursor}, "limit": {strconv.Itoa(limit)}}
	return "<" + a.URL.Path + "?" + q.Encode() + `>; rel="next"`
}
