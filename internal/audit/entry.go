// Package audit is the append-only log: what is durable in it happened, what
// is missing or changed is found, and outsiders learn nothing about people.
package audit

import "yesline"

// Ref points at an entry of the log: which database its leaf was written in
// and the leaf's id.
type Ref struct {
	DB   string          // "people", "keys" or "content"
	Leaf yesline.EntryID // "" for no entry
}

// Entry is one thing that happened or was refused. It is sealed part by part:
// each subject's part under that subject's own audit key, so that erasing the
// person blinds the entry and leaves every proof valid. Without a subject the
// one part is sealed under the program's key, or the house's, and must then
// name no person.
type Entry struct {
	Program  yesline.ProgramID  `json:"program,omitempty"`
	Actor    string             `json:"actor"`            // session.Principal.String()
	Verb     string             `json:"verb"`             // "listen", "withdraw", "track.closed"
	Object   string             `json:"object,omitempty"` // an id
	Result   string             `json:"result"`           // "allowed", "refused", "done"
	Detail   map[string]string  `json:"detail,omitempty"` // at most 16 short values, no content, no numbers
	AtMillis int64              `json:"at"`               // set by the log
	Subjects []yesline.PersonID `json:"-"`                // whose parts; at most 16
}
