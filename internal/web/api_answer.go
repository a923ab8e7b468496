package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
)

// held is an answer that is not sent yet: its tag is made of all its bytes,
// and an act's is written down before it goes.
type held struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func newHeld() *held { return &held{header: http.Header{}} }

func (h *held) Header() http.Header         { return h.header }
func (h *held) Write(p []byte) (int, error) { return h.body.Write(p) }
func (h *held) WriteHeader(status int) {
	if h.status == 0 {
		h.status = status
	}
}

// send gives the answer. What can be read carries its tag, and whoever has it
// already gets no second copy.
func (h *held) send(w http.ResponseWriter, r *http.Request) {
	to := w.Header()
	maps.Copy(to, h.header)
	if h.status == http.StatusOK && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		tag := tagOf(h.body.Bytes())
		to.Set("ETag", tag)
		if matches(r.Header.Values("If-None-Match"), tag, true) {
			to.Del("Content-Type")
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	if h.status != http.StatusNoContent {
		to.Set("Content-Length", strconv.Itoa(h.body.Len()))
	}
	w.WriteHeader(h.status)
	if r.Method != http.MethodHead {
		w.Write(h.body.Bytes())
	}
}

// tagOf is a strong tag (RFC 9110, 8.8.3). What it is made of holds random
// ids, so that nobody finds the answer by trying.
func tagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:18]) + `"`
}

const maxTags = 512 // bytes of If-Match and If-None-Match that we look at

// matches reports whether one of the tags in a condition is the tag. A weak
// one counts only where that is meant.
func matches(conditions []string, tag string, weak bool) bool {
	all := strings.Join(conditions, ",")
	if len(all) > maxTags {
		return false
	}
	for one := range strings.SplitSeq(all, ",") {
		one = strings.TrimSpace(one)
		if weak {
			one = strings.TrimPrefix(one, "W/")
		}
		if one == "*" || one == tag {
			return true
		}
	}
	return false
}

// marshal is how every answer is written; tags are made of its bytes.
func marshal(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
