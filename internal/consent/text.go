package consent

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strings"

	"yesline"
)

// Every version of the terms stays, so that what somebody agreed to can be
// shown to them for as long as they have an account. A version is never edited.
//
//go:embed terms
var termsFiles embed.FS

// newestTerms is the folder of the version that is shown now.
const newestTerms = "1"

// Card is one purpose of the terms as it is shown: beside a switch that is off.
type Card struct {
	Purpose Purpose
	Title   string
	Short   string   // two sentences
	Full    []string // paragraphs
}

// Terms are the cards as they are shown, and the SHA-256 of their text in hex:
// what a person agrees to is this text and no other.
type Terms struct {
	SHA256   string
	Language string
	Cards    []Card
}

// Cards gives the terms that are shown now.
func Cards() (Terms, error) { return readTerms(termsFiles, newestTerms) }

// CardsOf gives the terms with this hash, also when newer ones are shown now;
// yesline.NotFound for a text that we never showed.
func CardsOf(hash string) (Terms, error) {
	versions, err := fs.ReadDir(termsFiles, "terms")
	if err != nil {
		return Terms{}, err
	}
	for _, v := range versions {
		t, err := readTerms(termsFiles, v.Name())
		if err != nil {
			return Terms{}, err
		}
		if t.SHA256 == hash {
			return t, nil
		}
	}
	return Terms{}, fmt.Errorf("terms with that hash: %w", yesline.NotFound)
}

// purposes are what the terms ask for, in the order in which they are shown.
var purposes = []Purpose{Record, Share, License}

func readTerms(files fs.FS, version string) (Terms, error) {
	t := Terms{Language: "en"}
	h := sha256.New()
	for _, p := range purposes {
		text, err := fs.ReadFile(files, "terms/"+version+"/"+string(p)+".txt")
		if err != nil {
			return Terms{}, fmt.Errorf("reading the terms: %w", err)
		}
		parts := strings.Split(strings.TrimSpace(string(text)), "\n\n")
		if len(parts) < 3 {
			return Terms{}, fmt.Errorf("the terms on %s have a title, two sentences and a full text: %w", p, yesline.Invalid)
		}
		t.Cards = append(t.Cards, Card{p, parts[0], parts[1], parts[2:]})
		fmt.Fprintf(h, "%s\n\n%s\n\n", p, strings.Join(parts, "\n\n"))
	}
	t.SHA256 = hex.EncodeToString(h.Sum(nil))
	return t, nil
}
