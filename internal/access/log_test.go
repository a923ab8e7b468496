package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"log/slog"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"yesline"
	"yesline/internal/audit"
	"yesline/internal/db/dbtest"
)

// The real log takes the largest entries that a gate makes, and finds them.
func TestTheLogTakesWhatTheGateWrites(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	open := dbtest.SQLite(t)
	log, err := audit.Open(t.Context(), open("people"), open("keys"), open("content"))
	if err != nil {
		t.Fatal(err)
	}
	private, public, err := note.GenerateKey(rand.Reader, "test.example")
	if err != nil {
		t.Fatal(err)
	}
	signer, _ := note.NewSigner(private)
	verifier, _ := note.NewVerifier(public)
	clear := func(_ context.Context, _ yesline.ProgramID, _ yesline.PersonID, _, data []byte) ([]byte, error) {
		return data, nil
	}
	mark := func(data []byte) []byte { sum := sha256.Sum256(data); return sum[:] }
	log.Begin(audit.Keys{Seal: clear, Open: clear, MAC: mark, Signer: signer, Verifier: verifier}, slog.New(slog.DiscardHandler))
	t.Cleanup(log.Close)

	g, err := New(log.Append, h.loaders())
	if err != nil {
		t.Fatal(err)
	}
	set, _ := h.aSet(MaxSet)
	long := map[string]string{}
	for _, k := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		long[strings.Repeat(k, 1000)] = strings.Repeat("x", 1000)
	}
	p, err := g.AskSet(t.Context(), h.as("ann"), View, set, long)
	if err != nil {
		t.Fatal(err)
	}
	e, err := log.Find(t.Context(), p.Entry())
	if err != nil {
		t.Fatal(err)
	}
	if e.Actor != h.as("ann").String() || e.Verb != "view" || e.Result != "allowed" || e.Detail["count"] != "500" {
		t.Errorf("the log has %+v", e)
	}
	refused, err := g.AskSet(t.Context(), h.as("eve"), View, set, long)
	h.refused(refused, err)
	lines, err := log.About(t.Context(), h.person("eve"), "", 1<<60, 10)
	if err != nil || len(lines) != 1 || lines[0].Entry.Result != "refused" {
		t.Errorf("eve's list is %+v, %v; want the one refusal", lines, err)
	}
}
