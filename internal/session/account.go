package session

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"yesline"
)

// Client is what we keep of the thing somebody signs in from.
type Client struct {
	Device string // a coarse word for the list of sessions, such as "Firefox on Linux"; at most 64 bytes; never an address
}

// Passkey is one passkey of an account, as its owner sees it. Times are
// milliseconds; Used is 0 before it is used.
type Passkey struct {
	ID            yesline.PasskeyID
	Name          string
	Synced        bool // it is kept by a provider and may be on several devices
	Created, Used int64
}

// Open is one session of an account that is not over, as its owner sees it.
// Times are milliseconds.
type Open struct {
	ID            yesline.SessionID
	Name, Device  string
	Created, Seen int64
	Current       bool // it is the one that asks
}

// Key is an API key of an account. Times are milliseconds; Used is coarse to a
// minute, and 0 before it is used.
type Key struct {
	ID                     yesline.KeyID
	Name                   string
	Scopes                 []string
	Created, Used, Expires int64
}

// Colleague is somebody who works for the house or for a program. Ended is 0
// while they do.
type Colleague struct {
	ID             yesline.StaffID
	Role           Kind
	Program        yesline.ProgramID // "" for staff of the house
	Created, Ended int64
	By             string // who appointed them
}

// Redeemed is what a link's token gave: a session (Cookie and Who), or the
// claim of somebody who is signing up.
type Redeemed struct {
	Cookie string
	Who    Principal
	Claim  yesline.ClaimID
}

// Claim is how far somebody is who is signing up.
type Claim struct {
	ID      yesline.ClaimID
	Program yesline.ProgramID
	Proven  bool   // they gave the code that was sent to the number
	Terms   string // the hash of the terms they agreed to; "" before
	Choices string // what they chose there, in the words of the caller
}

// Phone is a SIP phone of an account that may be used, as its owner sees it.
// Created is in milliseconds.
type Phone struct {
	ID       yesline.DeviceID
	Username string
	Created  int64
}

// Bounds of an account.
const (
	MaxSessions = 100 // live sessions; signing in once more ends the oldest
	MaxPasskeys = 20
	MaxKeys     = 50 // keys that have not ended
	MaxPhones   = 20 // phones that have not ended
	maxName     = 64 // bytes of the name of a passkey, a session or a key
	maxDevice   = 64 // bytes of Client.Device
)

// isName reports whether s may name a thing of an account.
func isName(s string) bool {
	return s != "" && len(s) <= maxName && utf8.ValidString(s) && strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// word is the client's device if we may keep it, or "".
func (c Client) word() string {
	if len(c.Device) > maxDevice || !isName(c.Device) {
		return ""
	}
	return c.Device
}
