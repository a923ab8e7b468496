package capture

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"

	"yesline/internal/audio"
	"yesline/internal/consent"
)

// The prompts are mu-law at 8 kHz without a header, made by a script of this
// repository.
//
//go:embed prompts/*.ul
var sounds embed.FS

// Prompt is something the house says to a party.
type Prompt struct {
	Name     string // "ask"
	Language string // "en"
	mulaw    []byte
}

// Say gives a prompt by its name: "notice", "ask", "busy", "cannot_connect",
// "no_emergency", and those that tell whether something is recorded. One that
// is not there is a second of silence.
func (r *Room) Say(name string) Prompt {
	p := Prompt{Name: name, Language: "en"}
	if known, is := r.said.Load(name); is {
		p.mulaw = known.([]byte)
		return p
	}
	from, path := fs.FS(sounds), "prompts/"+name+".ul"
	if r.Sounds != nil {
		from, path = r.Sounds, name+".ul"
	}
	sound, err := fs.ReadFile(from, path)
	if err != nil || len(sound) == 0 {
		sound = bytes.Repeat([]byte{audio.PCMU.Silence()}, audio.Rate)
	}
	kept, _ := r.said.LoadOrStore(name, sound) // one copy for all calls
	p.mulaw = kept.([]byte)
	return p
}

// asked is what a yes of somebody who is known in this way is a yes to: the
// words of the question, and of the notice that recalls it.
func (r *Room) asked(w consent.Way) consent.Asked {
	r.wording.Do(func() { r.words = consent.Words(r.Say("ask").mulaw, r.Say("remembered").mulaw) })
	return consent.Asked{Way: w, Words: r.words}
}

// In gives the prompt's bytes in a codec; these are what is played and hashed.
func (p Prompt) In(codec audio.Codec) []byte {
	if codec == audio.PCMU {
		return p.mulaw
	}
	return codec.Encode(nil, audio.PCMU.Decode(nil, p.mulaw))
}

// hash is how evidence names the bytes that were played.
func hash(sound []byte) string {
	sum := sha256.Sum256(sound)
	return hex.EncodeToString(sum[:])
}
