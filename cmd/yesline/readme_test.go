package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// quoted are the commands that stand in backticks or in blocks of their own.
var quoted = regexp.MustCompile("(?m)`([^`\n]+)`|^(?:\\$ )?((?:go |make |\\./yesline |yesline )[^\n]+)$")

// Every command that the README and the docs tell people to type is one: its
// make target, its subcommand and flags, its packages and its tests exist.
func TestTheCommandsOfTheDocs(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	docs, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.md", "CONTRIBUTING.md", "SECURITY.md"} {
		docs = append(docs, filepath.Join(root, name))
	}
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, doc := range docs {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range quoted.FindAllStringSubmatch(string(text), -1) {
			line := strings.TrimSpace(m[1] + m[2])
			words := strings.Fields(line)
			for len(words) > 0 && strings.Contains(words[0], "=") && !strings.HasPrefix(words[0], "-") { // YESLINE_WHOLE=1 go test ...
				words = words[1:]
			}
			var wrong string
			switch {
			case len(words) < 2:
				continue
			case words[0] == "make":
				if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(words[1]) + `:`).Match(makefile) {
					wrong = "no such target"
				}
			case words[0] == "go" && words[1] == "test":
				wrong = testCommand(root, words[2:])
			case words[0] == "go" && words[1] == "run" && len(words) > 2 && strings.HasPrefix(words[2], "./cmd/yesline"):
				wrong = subcommand(words[3:])
			case words[0] == "yesline" || words[0] == "./yesline":
				wrong = subcommand(words[1:])
			default:
				continue
			}
			seen++
			if wrong != "" {
				t.Errorf("%s: %s: %s", filepath.Base(doc), line, wrong)
			}
		}
	}
	if seen < 40 {
		t.Errorf("only %d commands were found in the docs", seen)
	}
}

// testCommand looks whether packages and tests are there.
func testCommand(root string, words []string) string {
	pattern := ""
	for i := 0; i < len(words); i++ {
		switch w := words[i]; {
		case w == "-run" || w == "-fuzz" || w == "-bench":
			i++
			if i < len(words) && w == "-run" {
				pattern = strings.Trim(words[i], "'")
			}
		case strings.HasPrefix(w, "-"):
			if strings.HasPrefix(w, "-bench") || strings.HasPrefix(w, "-count") || w == "-v" || w == "-race" {
				continue
			}
		case w == "." || strings.HasPrefix(w, "./"):
			folder := filepath.Join(root, strings.TrimSuffix(w, "/..."))
			found, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
			if err != nil || len(found) == 0 && !strings.HasSuffix(w, "...") {
				return "no tests in " + w
			}
			if _, err := os.Stat(folder); err != nil {
				return "no folder " + w
			}
			if pattern != "" && !anyTest(found, pattern) {
				return "no test " + pattern + " in " + w
			}
		}
	}
	return ""
}

func anyTest(files []string, pattern string) bool {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return false
	}
	name := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	for _, f := range files {
		text, _ := os.ReadFile(f)
		for _, m := range name.FindAllSubmatch(text, -1) {
			if re.Match(m[1]) {
				return true
			}
		}
	}
	return false
}

// subcommand looks whether a command line could be meant, without running it.
func subcommand(words []string) string {
	c, rest, err := command().Find(words)
	if err != nil || !c.HasParent() {
		return "no such command"
	}
	for _, w := range rest {
		flag, isFlag := strings.CutPrefix(strings.Trim(w, "[]|,.;:)"), "--")
		if flag, _, _ = strings.Cut(flag, "="); isFlag && flag != "" && flag != "help" && c.Flags().Lookup(flag) == nil {
			return "no flag --" + flag
		}
	}
	return ""
}
