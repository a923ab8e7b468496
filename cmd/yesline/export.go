package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"yesline"
	"yesline/internal/audit"
)

// exportCommand saves what a house has published of its log. It asks nobody for
// anything: what it fetches is open to all.
func exportCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "export URL FOLDER --key KEY",
		Short: "Save the published log of a house, checked: run it again and it fetches what is new",
		Args:  cobra.ExactArgs(2),
	}
	key := c.Flags().String("key", "", "the house's published verifier key")
	asJSON := c.Flags().Bool("json", false, "print what was found as JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		u, err := url.Parse(args[0])
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return fmt.Errorf("%w: the house's address, like https://calls.example.org", errUsage)
		}
		if *key == "" {
			return fmt.Errorf("%w: give the house's verifier key with --key", errUsage)
		}
		f, err := audit.Fetch(c.Context(), getter(u.Scheme+"://"+u.Host+"/log/"), args[1], *key)
		return printFetched(c.OutOrStdout(), f, err, *asJSON)
	}
	return c
}

// publishedMost is how large an answer may be: a full tile has 8,192 bytes.
const publishedMost = 16 << 10

func getter(base string) func(ctx context.Context, path string) ([]byte, error) {
	client := &http.Client{Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return func(ctx context.Context, path string) ([]byte, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
		if err != nil {
			return nil, err
		}
		answer, err := client.Do(r)
		if err != nil {
			return nil, err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("the house answers %s: %w", answer.Status, yesline.Unavailable)
		}
		return io.ReadAll(io.LimitReader(answer.Body, publishedMost))
	}
}

// printFetched tells what a bundle is worth. What does not match is a problem
// that was found and not a failure to look.
func printFetched(out io.Writer, f audit.Fetched, err error, asJSON bool) error {
	if err != nil && !errors.Is(err, yesline.Tampered) {
		return err
	}
	if asJSON {
		problem := ""
		if err != nil {
			problem = err.Error()
		}
		return printJSON(out, struct {
			audit.Fetched
			Problem string `json:"problem,omitempty"`
		}{f, problem}, err != nil)
	}
	if err != nil {
		fmt.Fprintln(out, "not OK:", err)
		return errProblems
	}
	fmt.Fprintf(out, "OK: %d entries, every hash up to the signed root (%d tiles read).\n", f.Entries, f.Tiles)
	if f.Before > 0 {
		fmt.Fprintf(out, "The log still begins with the %d entries saved before.\n", f.Before)
	}
	fmt.Fprintf(out, "\n%s", f.Checkpoint)
	return nil
}
