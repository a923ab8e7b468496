package main

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"yesline/internal/app"
)

// recalls keeps what the command asked a server for.
type recalls struct {
	said []string
	from time.Time
}

func (r *recalls) RevokeTickets(_ context.Context, all bool, object, session string, since time.Time) (string, error) {
	if all {
		r.said = append(r.said, "all")
	}
	r.said, r.from = append(r.said, object, session), since
	return "ent_x", nil
}

func (r *recalls) RotateTicketKeys(_ context.Context, program string) ([]string, error) {
	r.said = append(r.said, "rotate", program)
	return []string{"ent_y", "ent_z"}, nil
}

func TestTicketsCommand(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args, out string
		said      []string
		usage     bool
	}{
		{args: "revoke --all", said: []string{"all", "", ""}, out: "ent_x"},
		{args: "revoke --object trk_a", said: []string{"trk_a", ""}, out: "ent_x"},
		{args: "revoke --session ses_a --json", said: []string{"", "ses_a"}, out: `"ent_x"`},
		{args: "revoke --since 90m", said: []string{"", ""}, out: "ent_x"},
		{args: "revoke --since 2026-01-31T09:00:00Z", said: []string{"", ""}, out: "ent_x"},
		{args: "rotate", said: []string{"rotate", ""}, out: "ent_z"},
		{args: "rotate --program prg_a --json", said: []string{"rotate", "prg_a"}, out: `"ent_y"`},
		{args: "revoke", usage: true},
		{args: "revoke --all --object trk_a", usage: true},
		{args: "revoke --since yesterday", usage: true},
		{args: "revoke --since -5m", usage: true},
		{args: "revoke --since 9000-01-01T00:00:00Z", usage: true},
		{args: "revoke trk_a", usage: true},
		{args: "", usage: true},
	} {
		r := &recalls{}
		root := command()
		group := ticketsCommand(func(app.Config) containment { return r })
		strict(group)
		for _, old := range root.Commands() { // the real one asks a server
			if old.Name() == "tickets" {
				root.RemoveCommand(old)
			}
		}
		root.AddCommand(group)
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetArgs(append([]string{"tickets"}, strings.Fields(c.args)...))
		err := root.ExecuteContext(t.Context())
		if errors.Is(err, errUsage) != c.usage || !c.usage && err != nil {
			t.Errorf("%q: %v", c.args, err)
		}
		if !slices.Equal(r.said, c.said) || !strings.Contains(out.String(), c.out) {
			t.Errorf("%q asked for %q and printed %q", c.args, r.said, out.String())
		}
		if strings.Contains(c.args, "90m") && (time.Since(r.from) < 90*time.Minute || time.Since(r.from) > 91*time.Minute) {
			t.Errorf("%q recalls since %v", c.args, r.from)
		}
	}
}
