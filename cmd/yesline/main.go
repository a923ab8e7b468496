// Command yesline is the whole service in one binary: yesline serve runs it,
// yesline demo shows it with real calls on this machine.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"yesline"
	"yesline/internal/app"
)

// Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 a check found problems,
// 4 not permitted, 5 somebody else holds it.
const (
	exitFailed   = 1
	exitUsage    = 2
	exitProblems = 3
	exitDenied   = 4
	exitConflict = 5
)

// errProblems ends a check that found something; what it found was printed.
var errProblems = errors.New("problems were found")

// errUsage is a command line that cannot be meant.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := closeMemory() // before anything secret is in it
	if err == nil {
		err = command().ExecuteContext(ctx)
	}
	if err != nil {
		if !errors.Is(err, errProblems) {
			fmt.Fprintln(os.Stderr, "yesline:", err)
		}
		os.Exit(exitCode(err))
	}
}

func exitCode(err error) int {
	switch {
	case errors.Is(err, errProblems):
		return exitProblems
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, yesline.Denied), errors.Is(err, os.ErrPermission):
		return exitDenied
	case errors.Is(err, yesline.Conflict):
		return exitConflict
	}
	return exitFailed
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "yesline",
		Short:         "Records phone calls only on a yes, and can show who heard what",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(wrongFlag)
	root.AddCommand(serveCommand(), demoCommand(), auditCommand(), receiptCommand(), inviteCommand(), attackCommand(), doctorCommand(), trunkCommand(),
		ticketsCommand(func(c app.Config) containment { return app.Local(c) }), versionCommand())
	strict(root)
	return root
}

// strict makes every command line that cannot be meant a usage error, which
// repeats nothing of it: what was mistyped may be a number. A command that only
// groups others is one too, so that a check that did not run never exits 0.
func strict(c *cobra.Command) {
	wrong := func(c *cobra.Command) error { return fmt.Errorf("%w: %s; see --help", errUsage, c.UseLine()) }
	if args := c.Args; args != nil {
		c.Args = func(c *cobra.Command, given []string) error {
			if args(c, given) != nil {
				return wrong(c)
			}
			return nil
		}
	}
	if !c.Runnable() {
		c.Args = cobra.ArbitraryArgs
		c.RunE = func(c *cobra.Command, given []string) error {
			if c.HasParent() || len(given) > 0 {
				return fmt.Errorf("%w: %s COMMAND; see --help", errUsage, c.CommandPath())
			}
			return c.Help()
		}
	}
	for _, sub := range c.Commands() {
		strict(sub)
	}
}

// wrongFlag tells which flag was given a wrong value, and not the value.
func wrongFlag(c *cobra.Command, err error) error {
	what := "a flag that is not known, or lacks its value"
	if _, flag, found := strings.Cut(err.Error(), `" for "`); found {
		flag, _, _ = strings.Cut(flag, `"`)
		what = flag + " does not take that value"
	}
	return fmt.Errorf("%w: %s; see %s --help", errUsage, what, c.CommandPath())
}
