package attack

import (
	"net/url"
	"strings"
)

// samples are what a form's fields are filled with: right enough to get as far
// as a stranger can.
var samples = map[string]string{
	"reason": "a canary asks to see whether it may", "number": "CASE-1", "name": "of the enemy", "phone": nobodys,
	"role": "auditor", "code": "000000", "birth": "1990-01-01", "scopes": "list", "scope": "list", "days": "30", "life": "24h", "adult": "yes",
	"to": "+1202555", "word": "pause",
}

// nobodys is a number of the same place as the others that a page may ask about
// and that nobody has. What is dialled, in samples, is cut short and is no
// number: the attack rings nobody.
const nobodys = "+12025550187"

// fill fills a form.
func (a *assault) fill(d Door) url.Values {
	form := url.Values{}
	for _, name := range d.Form {
		value, known := samples[name]
		if !known {
			value = "x"
		}
		if name == "program" && len(a.known["prg"]) > 0 {
			value = a.known["prg"][0]
		}
		if name == "number" && d.Verb == "dial" {
			value = nobodys
		}
		form.Set(name, strings.TrimSpace(value))
	}
	return form
}
