package phone

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"strings"
)

// A challenge is what a server asks to be proved: RFC 7616, and RFC 8760 for
// its use in SIP.
type challenge struct{ realm, nonce, opaque, algorithm, qop string }

// choose takes the strongest challenge that the phone knows: SHA-256, then MD5.
// A phone that is old knows only MD5. qop=auth must be among what is offered.
func choose(fields []string, old bool) (challenge, error) {
	var weaker *challenge
	for _, ch := range challenges(fields) {
		if !offersAuth(ch.qop) || ch.nonce == "" {
			continue
		}
		switch strings.ToUpper(ch.algorithm) {
		case "SHA-256":
			if !old {
				return ch, nil
			}
		case "MD5", "":
			if weaker == nil {
				weaker = &ch
			}
		}
	}
	if weaker == nil {
		return challenge{}, errors.New("answering a challenge: none is of a kind that the phone knows")
	}
	return *weaker, nil
}

func offersAuth(qop string) bool {
	for _, one := range strings.Split(qop, ",") {
		if strings.EqualFold(strings.TrimSpace(one), "auth") {
			return true
		}
	}
	return false
}

// challenges reads the values of WWW-Authenticate, each of which may hold more
// than one challenge.
func challenges(fields []string) []challenge {
	var found []challenge
	for _, rest := range fields {
		known := false
		for rest != "" && len(found) <= 16 {
			rest = strings.TrimLeft(rest, " \t,")
			word := rest[:wordLength(rest)]
			rest = rest[len(word):]
			if word == "" {
				break // not a challenge; what follows cannot be told
			}
			if !strings.HasPrefix(rest, "=") {
				known = strings.EqualFold(word, "Digest")
				if known {
					found = append(found, challenge{})
				}
				continue
			}
			var value string
			value, rest = unquote(rest[1:])
			if known {
				found[len(found)-1].set(word, value)
			}
		}
	}
	return found
}

func (ch *challenge) set(name, value string) {
	switch strings.ToLower(name) {
	case "realm":
		ch.realm = value
	case "nonce":
		ch.nonce = value
	case "opaque":
		ch.opaque = value
	case "algorithm":
		ch.algorithm = value
	case "qop":
		ch.qop = value
	}
}

func wordLength(s string) int {
	for i := range len(s) {
		if !token(s[i : i+1]) {
			return i
		}
	}
	return len(s)
}

// unquote takes a value, quoted or not, off the front.
func unquote(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, ", \t")
		if end < 0 {
			end = len(s)
		}
		return s[:end], s[end:]
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(oneLine(s)) + `"`
}

// answer gives the value of Authorization for the first use of a nonce.
func (ch challenge) answer(user, password, method, uri string) string {
	const count = "00000001"
	client := rand.Text()
	response := ch.response(user, password, method, uri, count, client)
	value := fmt.Sprintf(`Digest username=%s, realm=%s, nonce=%s, uri=%s, response="%s", qop=auth, nc=%s, cnonce="%s"`,
		quote(user), quote(ch.realm), quote(ch.nonce), quote(uri), response, count, client)
	if ch.algorithm != "" {
		value += ", algorithm=" + ch.algorithm
	}
	if ch.opaque != "" {
		value += ", opaque=" + quote(ch.opaque)
	}
	return value
}

// response is RFC 7616 section 3.4.1, with qop=auth.
func (ch challenge) response(user, password, method, uri, count, client string) string {
	h := func(parts ...string) string {
		var sum hash.Hash = md5.New()
		if strings.EqualFold(ch.algorithm, "SHA-256") {
			sum = sha256.New()
		}
		sum.Write([]byte(strings.Join(parts, ":")))
		return fmt.Sprintf("%x", sum.Sum(nil))
	}
	return h(h(user, ch.realm, password), ch.nonce, count, client, "auth", h(method, uri))
}
