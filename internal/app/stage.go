package app

import "yesline/internal/web"

// Stage is what only a demo has. Nothing outside the program can set it.
type Stage struct {
	Friends     []web.Friend // whom the dialer offers to call
	SampleVoice []byte       // a WAV for those without a microphone
	Try         *web.Tryout  // what its front page offers; nil: it asks people to sign in
}
