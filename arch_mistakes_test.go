package yesline_test

import (
	"maps"
	"strings"
	"testing"
	"testing/fstest"
)

// tidy is a small house without a mistake. Each case below changes one file.
var tidy = map[string]string{
	"yesline.go": "// Package yesline is the shared words of this small house.\npackage yesline\n\n" +
		"type Phone struct{}\n\nfunc (Phone) Digits() string { return \"\" }\n",
	"cmd/yesline/main.go": "// Command yesline starts the house and waits for a signal.\npackage main\n\nimport \"yesline/internal/app\"\n\nfunc main() { app.Run() }\n",
	"internal/audio/audio.go": "// Package audio knows how sound is written down as bytes.\npackage audio\n\n" +
		"var quiet [8]byte\n\nfunc Quiet() byte { return quiet[0] }\n",
	"internal/db/db.go":            "// Package db opens, migrates and transacts on two databases.\npackage db\n",
	"internal/db/dbtest/dbtest.go": "// Package dbtest runs a test on every database we support.\npackage dbtest\n\nimport _ \"yesline/internal/db\"\n",
	"internal/audit/log.go": "// Package audit is the log of what happened and was refused.\npackage audit\n\n" +
		"type Log struct{}\n\nfunc (*Log) Forget() {}\n\nconst q = `SELECT id FROM entries WHERE person = $1`\n",
	"internal/audit/migrations/00001_entries.sql": "-- +goose Up\nCREATE TABLE entries (\n id TEXT, -- the person's\n person TEXT,\n PRIMARY KEY (id)\n);\n-- +goose Down\nDROP TABLE entries;\n",
	"internal/audit/log_test.go":                  "package audit_test\n\nimport (\n\t_ \"yesline/internal/app\"\n\t_ \"yesline/internal/db/dbtest\"\n)\n\nvar counter int\n\nfunc count() { counter++ }\n",
	"internal/keys/keys.go":                       "// Package keys mints, wraps, unwraps and destroys all keys.\npackage keys\n\ntype Keys struct{}\n\nfunc (Keys) OpenTrack() {}\n",
	"internal/access/access.go":                   "// Package access decides whether somebody may do something now.\npackage access\n\nfunc New() {}\n\nconst Reveal = \"reveal\"\n",
	"internal/people/people.go": "// Package people keeps names and numbers sealed, and gives masks.\npackage people\n\n" +
		"import (\n\t\"errors\"\n\n\t\"yesline\"\n)\n\nvar errGone = errors.New(\"gone\")\n\nfunc Reveal(p yesline.Phone) (string, error) { return p.Digits(), errGone }\n",
	"internal/vault/vault.go": "// Package vault keeps voices sealed, and has three hands.\npackage vault\n\n" +
		"import \"yesline/internal/keys\"\n\ntype Opener struct{}\n\ntype Sealer struct{}\n\ntype Second struct{}\n\nfunc NewOpener(k keys.Keys) *Opener { k.OpenTrack(); return nil }\n",
	"internal/vault/disk/disk.go":    "// Package disk keeps the sealed bytes of the vault in files.\npackage disk\n\nimport _ \"yesline/internal/vault\"\n",
	"internal/capture/capture.go":    "// Package capture is a call with its parties and their voices.\npackage capture\n\nimport \"yesline/internal/vault\"\n\ntype Call struct{ s *vault.Sealer }\n",
	"internal/capture/sip/sip.go":    "// Package sip is the door of capture for telephones.\npackage sip\n\nimport (\n\t\"yesline\"\n\t_ \"yesline/internal/capture\"\n)\n\nfunc Dial(p yesline.Phone) string { return p.Digits() }\n",
	"internal/playback/play.go":      "// Package playback is the only room that streams audio out.\npackage playback\n\nimport \"yesline/internal/vault\"\n\ntype Player struct{ o *vault.Opener }\n",
	"internal/web/web.go":            "// Package web has every HTTP door in one table of rows.\npackage web\n\nimport \"yesline/internal/access\"\n\nconst verb = access.Reveal\n",
	"internal/app/app.go":            "// Package app builds the house and alone knows every room.\npackage app\n\nimport (\n\t_ \"yesline/internal/vault/disk\"\n\t\"yesline/internal/vault\"\n\t\"yesline/internal/keys\"\n)\n\nfunc Run() { vault.NewOpener(keys.Keys{}) }\n",
	"internal/phone/phone.go":        "// Package phone is a telephone that shares nothing with capture.\npackage phone\n\nimport _ \"yesline\"\n",
	"internal/web/testdata/wrong.go": "package nonsense\n\nfunc init() {}\n",
}

// extra is a package with one more file in it.
func extra(pkg, body string) string { return "package " + pkg + "\n\n" + body + "\n" }

func TestEachRuleSeesItsMistake(t *testing.T) {
	t.Parallel()
	mistakes := []struct {
		rule, what string // the rule's name begins with rule; the problem contains what
		file, text string // the mistake
	}{
		{"a room imports only", "it stands to the right of audit", "internal/audit/a.go", extra("audit", `import _ "yesline/internal/keys"`)},
		{"a room imports only", "nothing of ours but the words", "internal/audio/a.go", extra("audio", `import _ "yesline"`)},
		{"a room imports only", "import nothing of ours", "a.go", extra("yesline", `import _ "yesline/internal/audio"`)},
		{"a room imports only", "phone may import", "internal/phone/a.go", extra("phone", `import _ "yesline/internal/capture"`)},
		{"a room imports only", "off the line", "internal/app/a.go", extra("app", `import _ "yesline/internal/phone"`)},
		{"a room imports only", "cmd is thin", "cmd/yesline/a.go", extra("main", `import _ "yesline/internal/capture"`)},
		{"a room imports only", "the room billing is not on the line", "internal/billing/a.go", "// Package billing is a room that nobody has agreed on.\npackage billing\n"},
		{"a room imports only", "there is no such room", "internal/web/a.go", extra("web", `import _ "yesline/internal/nowhere"`)},
		{"drivers and doors", "imports vault/disk", "internal/vault/a.go", extra("vault", `import _ "yesline/internal/vault/disk"`)},
		{"drivers and doors", "imports capture/sip", "internal/web/a.go", extra("web", `import _ "yesline/internal/capture/sip"`)},
		{"drivers and doors", "imports vault/disk", "internal/vault/s3/a.go", "// Package s3 is a driver that leans on another driver.\npackage s3\n\nimport _ \"yesline/internal/vault/disk\"\n"},
		{"only tests import", "imports db/dbtest", "internal/keys/a.go", extra("keys", `import _ "yesline/internal/db/dbtest"`)},
		{"no dot imports", "into its own names", "internal/capture/a.go", extra("capture", `import . "yesline/internal/audio"`)},
		{"few hold", "web holds vault.Opener", "internal/web/a.go", extra("web", "import \"yesline/internal/vault\"\n\ntype x struct{ o *vault.Opener }")},
		{"few hold", "capture holds vault.Opener", "internal/capture/a.go", extra("capture", "import v \"yesline/internal/vault\"\n\nfunc x(*v.Opener) {}")},
		{"few hold", "web holds vault.Second", "internal/web/a.go", extra("web", "import \"yesline/internal/vault\"\n\ntype opener interface{ Read() []vault.Second }")},
		{"few use", "playback uses Digits", "internal/playback/a.go", extra("playback", "import \"yesline\"\n\nfunc x(p yesline.Phone) string { return p.Digits() }")},
		{"few use", "capture uses OpenTrack", "internal/capture/a.go", extra("capture", "import \"yesline/internal/keys\"\n\nvar _ = keys.Keys.OpenTrack")},
		{"few use", "capture uses OpenTrack", "internal/capture/a.go", extra("capture", "type opener interface{ OpenTrack() }")},
		{"few use", "playback uses Reveal", "internal/playback/a.go", extra("playback", "import \"yesline/internal/people\"\n\nvar _ = people.Reveal")},
		{"proofs have", "capture calls vault.NewOpener", "internal/capture/a.go", extra("capture", "import \"yesline/internal/vault\"\n\nvar _ = vault.NewOpener")},
		{"proofs have", "web calls access.New", "internal/web/a.go", extra("web", "import \"yesline/internal/access\"\n\nvar _ = access.New")},
		{"a package promises", "package ledger has no first sentence", "internal/ledger/a.go", "package ledger\n"},
		{"a package promises", "package ledger has no first sentence", "internal/ledger/a.go", "// Package ledger ledgers.\npackage ledger\n"},
		{"a package promises", "package ledger has no first sentence", "internal/ledger/a.go", "// What is owed and what was paid always balances.\npackage ledger\n"},
		{"a package has a word", `"utils" says nothing`, "internal/db/utils/a.go", "// Package utils has what its author could find no word for.\npackage utils\n"},
		{"a package has a word", `"models" says nothing`, "internal/db/words/a.go", "// Package models has what its author could find no word for.\npackage models\n"},
		{"nothing happens", "an init function", "internal/db/a.go", extra("db", "func init() {}")},
		{"no package state", "cache is made to change", "internal/db/a.go", extra("db", "var cache = map[string]int{}")},
		{"no package state", "mu is made to change", "internal/db/a.go", extra("db", "import \"sync\"\n\nvar mu sync.Mutex")},
		{"no package state", "count is made to change", "internal/db/a.go", extra("db", "import \"sync/atomic\"\n\nvar count = &atomic.Int64{}")},
		{"no package state", "open is made to change", "internal/db/a.go", extra("db", "var open []string")},
		{"no package state", "quiet is changed", "internal/audio/a.go", extra("audio", "func Loud() { quiet[0]++ }")},
		{"no package state", "last is changed", "internal/db/a.go", extra("db", "var last = 1\n\nfunc next() { last = 2 }")},
		{"no package state", "names is changed", "internal/db/a.go", extra("db", "var names = map[string]bool{\"a\": true}\n\nfunc drop() { delete(names, \"a\") }")},
		{"no SQL asks", "now()", "internal/db/a.go", extra("db", "const q = `SELECT id FROM x WHERE at < now()`")},
		{"no SQL asks", "CURRENT_TIMESTAMP", "internal/audit/migrations/00002_at.sql", "-- +goose Up\nCREATE TABLE moments (at BIGINT DEFAULT CURRENT_TIMESTAMP);\n"},
		{"no SQL asks", "datetime('now'", "internal/db/a.go", extra("db", "const q = `DELETE FROM x WHERE at < datetime('now')`")},
		{"tables of persons", "capture has no method Forget", "internal/capture/migrations/00001_calls.sql", "-- +goose Up\nCREATE TABLE IF NOT EXISTS calls (id TEXT CHECK (id IN ('a', 'b')), person TEXT NOT NULL);\n"},
		{"tables of persons", "web has no method Forget", "internal/web/migrations/00001_seen.sql", "-- +goose Up\nCREATE TABLE seen (owner_id TEXT);\n"},
		{"tables of persons", "column asked_person", "internal/web/migrations/00001_seen.sql", "-- +goose Up\nALTER TABLE seen ADD COLUMN asked_person TEXT;\n"},
		{"a room uses its own", "names entries, a table of audit", "internal/web/a.go", extra("web", "const q = `UPDATE entries SET id = $1`")},
		{"a room uses its own", "names entries, a table of audit", "internal/web/a.go", extra("web", "const q = `select id from x join entries on true`")},
		{"a room uses its own", "names entries, a table of audit", "internal/web/migrations/00001_seen.sql", "-- +goose Up\nCREATE TABLE seen (id TEXT REFERENCES entries (id));\n"},
		{"a room uses its own", "the table entries belongs to audit", "internal/capture/migrations/00001_e.sql", "-- +goose Up\nCREATE TABLE entries (id TEXT);\n"},
	}
	if found := problemsOf(t, tidy); len(found) != 0 {
		t.Fatalf("the tidy house has problems: %q", found)
	}
	caught := map[string]bool{}
	for _, m := range mistakes {
		tree := maps.Clone(tidy)
		tree[m.file] = m.text
		found := problemsOf(t, tree)
		seen := false
		for rule, problems := range found {
			if strings.HasPrefix(rule, m.rule) && strings.Contains(strings.Join(problems, "\n"), m.what) {
				seen, caught[rule] = true, true
			}
		}
		if !seen {
			t.Errorf("%s in %s: want %q of the rule %q, got %q", strings.TrimSpace(m.text), m.file, m.what, m.rule, found)
		}
	}
	for _, r := range rules {
		if !caught[r.name] {
			t.Errorf("no mistake shows that the rule %q works", r.name)
		}
	}
}

// problemsOf runs every rule over a tree; rules without a problem are left out.
func problemsOf(t *testing.T, tree map[string]string) map[string][]string {
	t.Helper()
	files := fstest.MapFS{}
	for p, text := range tree {
		files[p] = &fstest.MapFile{Data: []byte(text)}
	}
	h, err := readHouse(files)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for _, r := range rules {
		if problems := r.check(h); len(problems) > 0 {
			found[r.name] = problems
		}
	}
	return found
}
