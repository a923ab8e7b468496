package demo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"yesline/internal/web/webtest"
)

const (
	docs       = "../../docs"
	readme     = "../../README.md"
	callBegins = "<!-- The call that convinces: kept in step by internal/demo/readme_test.go -->\n"
	callEnds   = "<!-- end of the call -->\n"

	theCall = `## The call that convinces

<picture>
  <source media="(prefers-color-scheme: dark)" srcset="docs/dial-dark.png">
  <img src="docs/dial-light.png" alt="A call in the browser: Recording both, with the time, pause, stop and hang up">
</picture>

The demo prints one address. Open it, and in two minutes, without an account:

1. **Call Maya**, by your microphone or a sample voice. Maya is a simulated phone behind a real SIP trunk. Both of you hear the question, and both press 1.
2. **Listen**: your lane plays for you. Maya's does not.
3. **See who listened**: your own listening is on the list. It was written before the sound left.
4. **Withdraw**: the key of your voice is destroyed, and nothing plays.
5. **Verify** your receipt with a program that asks nobody: ` + "`go run ./cmd/yesline receipt verify`" + `, with the file and the key that the page shows. Not convinced? ` + "`make attack`" + `.

A test does all of this in a real browser (` + "`YESLINE_WHOLE=1 go test -run Convinces ./internal/demo`" + `), and takes the pictures.
`
)

// pictures writes the README's pictures of a call, when it is asked to.
func (c *climax) pictures() {
	c.t.Helper()
	if os.Getenv("YESLINE_UPDATE") == "" {
		return
	}
	for name, dark := range map[string]bool{"dial-light.png": false, "dial-dark.png": true} {
		c.As(webtest.Look{Width: 900, Height: 640, Dark: dark})
		path := filepath.Join(docs, name)
		c.Shot(path)
		if f, err := os.Stat(path); err != nil || f.Size() >= 200_000 {
			c.t.Errorf("%s is too large: %v", name, err)
		}
	}
	c.As(webtest.Look{})
}

// The README tells of the call as it is.
func TestTheReadmeTellsOfTheCall(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(data), callBegins)
	told, after, ends := strings.Cut(rest, callEnds)
	if !begins || !ends {
		t.Fatal("the README has no place for the call that convinces")
	}
	if told == theCall {
		return
	}
	if os.Getenv("YESLINE_UPDATE") == "" {
		t.Fatal("the README tells of another call; run with YESLINE_UPDATE=1")
	}
	if err := os.WriteFile(readme, []byte(before+callBegins+theCall+callEnds+after), 0o600); err != nil {
		t.Fatal(err)
	}
}
