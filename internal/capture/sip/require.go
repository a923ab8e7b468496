package sip

import (
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// extensions that we do, for Supported and Require (RFC 3261, 19.2).
var extensions = []string{"timer", "100rel", "record-aware"}

// extended refuses a request that requires what we do not do. It reports
// whether it did.
func (d *Door) extended(req *sip.Request, tx sip.ServerTransaction) bool {
	var unknown []string
	for _, tag := range optionTags(req, "Require") {
		if !slices.Contains(extensions, tag) {
			unknown = append(unknown, tag)
		}
	}
	if len(unknown) == 0 {
		return false
	}
	res := sip.NewResponseFromRequest(req, sip.StatusBadExtension, "Bad Extension", nil)
	res.AppendHeader(sip.NewHeader("Unsupported", strings.Join(unknown, ", ")))
	tx.Respond(res)
	return true
}

// optionTags gives the option tags of a header, in lower case; of Supported also
// by its short name.
func optionTags(msg sip.Message, name string) (tags []string) {
	all := msg.GetHeaders(name)
	if name == "Supported" {
		all = append(all, msg.GetHeaders("k")...)
	}
	for _, h := range all {
		for tag := range strings.SplitSeq(h.Value(), ",") {
			if tag = strings.ToLower(strings.TrimSpace(tag)); tag != "" && len(tags) < 32 {
				tags = append(tags, tag)
			}
		}
	}
	return tags
}

// value is the first of a header, "" when there is none.
func value(msg sip.Message, name string) string {
	if all := msg.GetHeaders(name); len(all) > 0 {
		return all[0].Value()
	}
	return ""
}
