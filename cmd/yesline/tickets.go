package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"yesline/internal/app"
)

// containment is a running server's end for recalling what lets sound out.
type containment interface {
	// RevokeTickets recalls what is meant by exactly one of: all, an object's
	// id, a session's or key's id, a moment.
	RevokeTickets(ctx context.Context, all bool, object, session string, since time.Time) (entry string, err error)
	// RotateTicketKeys gives a program, or each if it is "", a new key.
	RotateTicketKeys(ctx context.Context, program string) (entries []string, err error)
}

// contained is what --json prints.
type contained struct {
	Entries []string `json:"entries"`
}

func ticketsCommand(reach func(app.Config) containment) *cobra.Command {
	c := &cobra.Command{Use: "tickets", Short: "Recall the tickets by which sound goes out"}
	c.AddCommand(revokeCommand(reach), rotateCommand(reach))
	return c
}

func revokeCommand(reach func(app.Config) containment) *cobra.Command {
	c := &cobra.Command{
		Use:   "revoke --all | --object ID | --session ID | --since TIME",
		Short: "Stop what is playing: no further window, on every node within a second",
		Long: `Stop what is playing: no further window leaves, on every node within a second.

Whoever is still permitted to listen begins anew by opening the page again; to
keep somebody out, end their session or key as well. A TIME is RFC 3339, such
as 2026-01-31T09:00:00Z, or a length of time before now, such as 90m: every
player that began then or later stops.`,
		Args: cobra.NoArgs,
	}
	config := configFlags(c)
	all := c.Flags().Bool("all", false, "all tickets of the house")
	object := c.Flags().String("object", "", "the tickets for a track or for all tracks of a call, by its `ID`")
	session := c.Flags().String("session", "", "the tickets that a session or an API key holds, by its `ID`")
	since := c.Flags().String("since", "", "the tickets of players that began at this `TIME` or later")
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if given(*all, *object != "", *session != "", *since != "") != 1 {
			return fmt.Errorf("%w: say what to recall, by one of --all, --object, --session and --since", errUsage)
		}
		from, err := moment(*since, time.Now())
		if err != nil {
			return err
		}
		cfg, err := config()
		if err != nil {
			return err
		}
		entry, err := reach(cfg).RevokeTickets(c.Context(), *all, *object, *session, from)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), contained{[]string{entry}}, false)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "Recalled; every node knows within a second.\nThe log tells of it in %s.\n", entry)
		return err
	}
	return c
}

func rotateCommand(reach func(app.Config) containment) *cobra.Command {
	c := &cobra.Command{
		Use:   "rotate",
		Short: "Sign tickets with a new key; what plays goes on, and the old key is good for two minutes",
		Args:  cobra.NoArgs,
	}
	config := configFlags(c)
	program := c.Flags().String("program", "", "of this program `ID` only; otherwise of each")
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := config()
		if err != nil {
			return err
		}
		entries, err := reach(cfg).RotateTicketKeys(c.Context(), *program)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), contained{entries}, false)
		}
		for _, entry := range entries {
			fmt.Fprintf(c.OutOrStdout(), "Rotated; the log tells of it in %s.\n", entry)
		}
		return nil
	}
	return c
}

func given(flags ...bool) (n int) {
	for _, is := range flags {
		if is {
			n++
		}
	}
	return n
}

// moment reads RFC 3339, or a length of time before now. "" is no moment.
func moment(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(s); err == nil && ago > 0 {
		return now.Add(-ago), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.UnixMilli() < 1 || t.After(now) {
		return t, fmt.Errorf("%w: --since takes a time such as 2026-01-31T09:00:00Z or 90m, and not one to come", errUsage)
	}
	return t, nil
}
