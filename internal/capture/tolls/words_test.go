package tolls

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each word of refusal has a sentence, a kind, and a line in the operators'
// page.
func TestEachWordIsExplained(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "trunk.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| word |")
	for word, s := range sentences {
		if s.kind == nil || s.says == "" {
			t.Errorf("%s says nothing", word)
		}
		if !strings.Contains(table, "`"+word+"`") {
			t.Errorf("%s is not explained in docs/trunk.md", word)
		}
		if r := refuse(word, ""); strings.Contains(r.Says, "%") || r.Error() != "placing a call: "+word {
			t.Errorf("%s: %q", word, r.Says)
		}
	}
	for number, word := range networks {
		if _, ok := sentences[word]; !ok {
			t.Errorf("+%d is refused by %q, which says nothing", number, word)
		}
	}
}
