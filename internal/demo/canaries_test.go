package demo

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"yesline/internal/attack"
)

// The canaries are a house that the enemy can attack: everybody in the file
// can do what the story says, and nobody more, at a few doors of each sort.
func TestCanaries(t *testing.T) {
	d := house(t)
	file, err := d.canaries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	report, err := attack.Run(t.Context(), attack.Config{URL: d.Config.URL, Identities: data, Log: d.logFile.Name(), Limit: time.Minute,
		Only: []string{"GET /calls/{call}", "GET /tracks/{track}/audio", "POST /cases/{case}/approve", "GET /api/v1/calls/{call}", "GET /me/lasting", "POST /me/lasting/end"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Leaks) > 0 || len(report.Missed) > 0 || report.Doors != 6 {
		var out strings.Builder
		report.Write(&out)
		t.Error(out.String())
	}
}

// The file of canaries holds secrets: it is ours alone, and there only whole.
func TestTheFileOfCanariesIsOursAlone(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/canaries.json"
	if err := writeWhole(path, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if _, err := os.Stat(path + ".part"); !os.IsNotExist(err) {
		t.Errorf("a part is left: %v", err)
	}
}
