package sip

import (
	"slices"

	"github.com/emiago/sipgo/sip"
)

// Emergency numbers, where the configuration names none.
var everywhere = []string{"911", "112", "999", "000", "110", "119"}

// isEmergency reports whether what was dialled must pass at once: a configured
// number, or the service URN for help (RFC 5031).
func (c *Config) isEmergency(to *sip.Uri) bool {
	if to.Scheme == "urn" {
		return len(to.Raw()) >= 11 && to.Raw()[:11] == "service:sos"
	}
	numbers := c.Emergency
	if numbers == nil {
		numbers = everywhere
	}
	return slices.Contains(numbers, to.User)
}
