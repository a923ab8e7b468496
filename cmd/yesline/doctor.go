package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"yesline/internal/app"
)

func doctorCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Name what is unsafe in a configuration and its data folder, each with the mend",
		Args:  cobra.NoArgs,
	}
	config := configFlags(c)
	asJSON := c.Flags().Bool("json", false, "print the findings as JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := config()
		if err != nil {
			return err
		}
		found, err := app.Doctor(c.Context(), cfg)
		if err != nil {
			return err
		}
		counts := map[app.Level]int{}
		for _, f := range found {
			counts[f.Level]++
		}
		problems := counts[app.Refuse]+counts[app.Warn] > 0
		if *asJSON {
			if found == nil {
				found = []app.Finding{}
			}
			return printJSON(c.OutOrStdout(), map[string]any{"version": 1, "findings": found}, problems)
		}
		tellFindings(c.OutOrStdout(), found, counts)
		if problems {
			return errProblems
		}
		return nil
	}
	return c
}

func tellFindings(out io.Writer, found []app.Finding, counts map[app.Level]int) {
	titles := map[app.Level]string{app.Refuse: "serve refuses this:", app.Warn: "somebody can be hurt by this:", app.Note: "good to know:"}
	var last app.Level
	for _, f := range found {
		if f.Level != last {
			fmt.Fprintln(out, titles[f.Level])
			last = f.Level
		}
		fmt.Fprintf(out, "  %s %s.\n      %s.\n", f.About, f.Says, f.Fix)
	}
	if len(found) > 0 {
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "%d refused, %d to mend, %d to know. Not looked at: backups, who else may enter this machine, and the trunk (yesline trunk test).\n",
		counts[app.Refuse], counts[app.Warn], counts[app.Note])
}
