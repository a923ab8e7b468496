package main

import (
	"errors"

	"github.com/spf13/cobra"

	"yesline/internal/demo"
)

func demoCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run a house with real calls on this machine and look at it in a browser",
		Args:  cobra.NoArgs,
	}
	check := c.Flags().Bool("check", false, "check every claim against the stores, print a table and end (0: all hold, 3: not)")
	canaries := c.Flags().String("canaries", "", "instead of the stories: people for yesline attack, named in this `FILE`")
	pages := c.Flags().String("http", "", "where the pages listen (default 127.0.0.1:8080, or any free port)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		o := demo.Options{Out: c.OutOrStdout(), Check: *check, HTTP: *pages}
		if *canaries != "" {
			return demo.Canaries(c.Context(), o, *canaries)
		}
		err := demo.Run(c.Context(), o)
		if errors.Is(err, demo.ErrFailed) {
			return errProblems
		}
		return err
	}
	return c
}
