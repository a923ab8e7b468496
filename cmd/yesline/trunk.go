package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"yesline/internal/app"
)

func trunkCommand() *cobra.Command {
	c := &cobra.Command{Use: "trunk", Short: "Try the trunk out"}
	c.AddCommand(trunkTestCommand())
	return c
}

func trunkTestCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "test NUMBER",
		Short: "Ring a number by the trunk, record ten seconds on a yes, play them back, forget them, and say how the trunk is",
		Args:  cobra.ExactArgs(1),
	}
	config := configFlags(c)
	asJSON := c.Flags().Bool("json", false, "print what was found as JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		cfg, err := config()
		if err != nil {
			return err
		}
		tell := func(step string) { fmt.Fprintln(c.ErrOrStderr(), step+" ...") }
		if *asJSON {
			tell = func(string) {}
		}
		tried, err := app.TestTrunk(c.Context(), cfg, args[0], tell)
		if err != nil {
			return err
		}
		works := tried.Verdict == app.TrunkWorks || tried.Verdict == app.TrunkDeclined
		if *asJSON {
			return printJSON(c.OutOrStdout(), tried, !works)
		}
		tellTrunk(c.OutOrStdout(), tried)
		if c.Context().Err() != nil {
			return context.Cause(c.Context())
		}
		if !works {
			return errProblems
		}
		return nil
	}
	return c
}

func tellTrunk(out io.Writer, tried app.TrunkTest) {
	for _, f := range tried.Found {
		fmt.Fprintf(out, "%-5s  %s: %s.\n", f.Level, f.About, f.Says)
		if f.Fix != "" {
			fmt.Fprintf(out, "       %s.\n", strings.ToUpper(f.Fix[:1])+f.Fix[1:])
		}
	}
	if len(tried.Answers) > 0 {
		fmt.Fprintf(out, "       The trunk's answers: %s.\n", strings.Trim(strings.ReplaceAll(fmt.Sprint(tried.Answers), " ", ", "), "[]"))
	}
	fmt.Fprintf(out, "\n%s\n", tried.Says)
}
