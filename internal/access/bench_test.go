package access

import (
	"context"
	"testing"

	"yesline"
	"yesline/internal/audit"
)

// One decision with its entities; the bar is 3 us. Ask adds the facts' look-up,
// the entry and the permit, without the log's own work.
func BenchmarkDecision(b *testing.B) {
	h := newHouse(b)
	track, f := Object{"track", string(h.track)}, h.facts["track"][string(h.track)]
	ann := h.as("ann")
	for b.Loop() {
		asker, _ := h.gate.askers.find(ann)
		if !h.gate.passes(asker, Listen, track, f) {
			b.Fatal("refused")
		}
	}
}

func BenchmarkAsk(b *testing.B) {
	h := newHouse(b)
	h.gate.log = func(context.Context, audit.Entry) (audit.Ref, error) {
		return audit.Ref{DB: "content", Leaf: yesline.EntryID("ent_x")}, nil
	}
	track := Object{"track", string(h.track)}
	ann := h.as("ann")
	for b.Loop() {
		if _, err := h.gate.Ask(b.Context(), ann, Listen, track, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// What the gate takes of the time in which the house must be ready (0.5 s).
func BenchmarkReadingTheRules(b *testing.B) {
	for b.Loop() {
		if _, err := readRules(policyText, schemaText); err != nil {
			b.Fatal(err)
		}
	}
}
