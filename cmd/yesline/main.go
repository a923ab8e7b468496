// Command yesline is the whole service in one binary: yesline serve runs it,
// yesline demo shows it with real calls on this machine.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"yesline"
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
	root := command()
	if err := root.ExecuteContext(ctx); err != nil {
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
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	root.AddCommand(serveCommand(), demoCommand(), auditCommand(), receiptCommand(), inviteCommand(), versionCommand())
	return root
}
