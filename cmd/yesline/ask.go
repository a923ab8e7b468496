package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"yesline"
	"yesline/internal/app"
	"yesline/internal/audit"
)

func auditCommand() *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "Check the log"}
	verify := &cobra.Command{
		Use:   "verify",
		Short: "Check the whole log of the running server, or with --bundle a folder that audit export saved",
		Args:  cobra.NoArgs,
	}
	config := configFlags(verify)
	asJSON := verify.Flags().Bool("json", false, "print the report as JSON")
	bundle := verify.Flags().String("bundle", "", "a folder that audit export saved: it is checked offline, and needs --key")
	key := verify.Flags().String("key", "", "the house's published verifier key, for --bundle")
	verify.RunE = func(c *cobra.Command, _ []string) error {
		if *bundle != "" {
			if *key == "" {
				return fmt.Errorf("%w: give the house's verifier key with --key", errUsage)
			}
			f, err := audit.VerifyBundle(c.Context(), *bundle, *key)
			return printFetched(c.OutOrStdout(), f, err, *asJSON)
		}
		cfg, err := config()
		if err != nil {
			return err
		}
		r, err := app.Local(cfg).VerifyLog(c.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), r, len(r.Problems) > 0)
		}
		out := c.OutOrStdout()
		fmt.Fprintf(out, "%d entries, %d waiting for their number\n", r.Entries, r.Pending)
		if len(r.Problems) > 0 {
			for _, p := range r.Problems {
				fmt.Fprintln(out, "  problem:", p)
			}
			return errProblems
		}
		fmt.Fprintf(out, "The log is whole: every entry matches the tree, every checkpoint its signature.\nKey: %s\n\n%s", r.Key, r.Checkpoint)
		return nil
	}
	c.AddCommand(verify, exportCommand())
	return c
}

func printJSON(out io.Writer, v any, problems bool) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	if problems {
		return errProblems
	}
	return nil
}

func receiptCommand() *cobra.Command {
	c := &cobra.Command{Use: "receipt", Short: "Check a receipt"}
	verify := &cobra.Command{
		Use:   "verify FILE --key KEY",
		Short: "Check a receipt offline; the key must not come from the receipt itself",
		Args:  cobra.ExactArgs(1),
	}
	key := verify.Flags().String("key", "", "the house's published verifier key")
	asJSON := verify.Flags().Bool("json", false, "print the statement as JSON")
	verify.RunE = func(c *cobra.Command, args []string) error {
		if *key == "" {
			return fmt.Errorf("%w: give the house's verifier key with --key", errUsage)
		}
		info, err := os.Stat(args[0])
		if err != nil {
			return err
		}
		if info.Size() > 1<<20 {
			return fmt.Errorf("a receipt is much smaller than this file: %w", yesline.Invalid)
		}
		data, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		e, err := audit.VerifyReceipt(data, *key)
		if err != nil {
			fmt.Fprintln(c.OutOrStdout(), "not OK:", err)
			return errProblems
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), e, false)
		}
		fmt.Fprintf(c.OutOrStdout(), "OK: the house signed this into its log.\n  what:  %s\n  about: %s\n  when:  %s\n",
			e.Verb, e.Object, time.UnixMilli(e.AtMillis).UTC().Format(time.RFC3339))
		return nil
	}
	c.AddCommand(verify)
	return c
}

func inviteCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "invite NUMBER",
		Short: "Invite somebody to the running server: prints a link, which leads to an account once they prove the number",
		Args:  cobra.ExactArgs(1),
	}
	config := configFlags(c)
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		cfg, err := config()
		if err != nil {
			return err
		}
		made, err := app.Local(cfg).Invite(c.Context(), args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), made, false)
		}
		w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "For\t%s\nSend them\t%s\n", made.Mask, made.Link)
		return w.Flush()
	}
	return c
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(c *cobra.Command, _ []string) {
			version := "(devel)"
			if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
				version = info.Main.Version
			}
			fmt.Fprintln(c.OutOrStdout(), "yesline", version)
		},
	}
}
