package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"yesline"
)

// The bounds of a body. What programs send us is a few short fields.
const (
	bodyBytes  = 8 << 10
	bodyDepth  = 4
	bodyTokens = 256
)

// readBody takes a request's body if it is JSON as we mean it, and refuses it
// by a problem. A door without fields takes no body.
func (o *operation) readBody(r *http.Request) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r.Body, bodyBytes+1))
	switch {
	case err != nil:
		return nil, unreadBody(err)
	case len(data) > bodyBytes:
		return nil, newProblem(http.StatusRequestEntityTooLarge, "large")
	case len(data) == 0 && len(o.accepts) == 0:
		return nil, nil
	case len(data) == 0:
		return nil, newProblem(http.StatusBadRequest, "invalid", fault{Pointer: "#", Detail: "a body is missing"})
	case len(o.accepts) == 0:
		return nil, newProblem(http.StatusBadRequest, "invalid", fault{Pointer: "#", Detail: "this door takes no body"})
	case !isJSON(r.Header):
		return nil, newProblem(http.StatusUnsupportedMediaType, "media")
	}
	if err := strict(data, o.accepts); err != nil {
		return nil, err
	}
	return data, nil
}

// unreadBody keeps of an error in reading only what kind it is.
func unreadBody(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return newProblem(http.StatusRequestEntityTooLarge, "large")
	}
	var slow interface{ Timeout() bool }
	if errors.As(err, &slow) && slow.Timeout() {
		return newProblem(http.StatusRequestTimeout, "slow")
	}
	return yesline.Invalid
}

func isJSON(h http.Header) bool {
	if len(h.Values("Content-Type")) != 1 || len(h.Values("Content-Encoding")) != 0 {
		return false
	}
	kind, more, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return false
	}
	for name, value := range more {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return false
		}
	}
	return true
}

// strict refuses what two readers of JSON can understand differently, or what
// costs more than it is worth: bytes that are not UTF-8, an object that names a
// field twice (in whatever case), fields that this door does not know by just
// that name, depth, length, and anything after the end.
func strict(data []byte, known []string) error {
	if !utf8.Valid(data) {
		return newProblem(http.StatusUnsupportedMediaType, "media")
	}
	wrong := func(detail string) error {
		return newProblem(http.StatusBadRequest, "invalid", fault{Pointer: "#", Detail: detail})
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var open []level
	for n := 0; ; n++ {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && len(open) == 0 && n > 0 {
			return nil
		}
		if err != nil {
			return wrong("this is not JSON")
		}
		if n >= bodyTokens {
			return wrong("this has too many parts")
		}
		if n == 0 && token != json.Delim('{') {
			return wrong("this is not an object")
		}
		if n > 0 && len(open) == 0 {
			return wrong("there is something after the end")
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			if len(open) > 0 {
				open[len(open)-1].value()
			}
			if len(open) == bodyDepth {
				return wrong("this is too deep")
			}
			open = append(open, level{object: token == json.Delim('{')})
			continue
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
			continue
		}
		in := &open[len(open)-1]
		if !in.object || in.named {
			in.value()
			continue
		}
		name, _ := token.(string)
		if slices.ContainsFunc(in.names, func(other string) bool { return strings.EqualFold(name, other) }) {
			return wrong("a field is there twice")
		}
		if len(open) == 1 && !slices.Contains(known, name) {
			return wrong("there is a field here that this door does not know")
		}
		in.names, in.named = append(in.names, name), true
	}
}

// level is an object or a list that strict is inside of.
type level struct {
	object bool
	named  bool // the name was read, and the value is next
	names  []string
}

func (l *level) value() { l.named = false }
