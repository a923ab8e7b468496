package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"yesline/internal/attack"
)

// errNotReached ends an attack that found no leak and did not see all: a door
// through which nobody got proves nothing.
var errNotReached = errors.New("no leak, and not every door was reached")

const identitiesBytes = 4 << 20

func attackCommand() *cobra.Command {
	var c attack.Config
	var identities string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "attack URL",
		Short: "Try every door of a made-up house as everybody (0: tight, 3: leaks, 1: a door was not reached)",
		Args:  cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&identities, "identities", "", "the file of canaries, as yesline demo --canaries writes it")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	cmd.Flags().StringVar(&c.Log, "log", "", "the server's log, to be searched for secrets")
	cmd.Flags().StringArrayVar(&c.Only, "only", nil, `doors to attack, as "GET /calls/{call}" or "POST /calls/*"; may be given again`)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if identities == "" {
			return fmt.Errorf("%w: --identities says who takes part", errUsage)
		}
		var err error
		if c.Identities, err = readSome(identities, identitiesBytes); err != nil {
			return fmt.Errorf("reading the identities: %w", err)
		}
		c.URL, c.Progress = args[0], cmd.ErrOrStderr()
		report, err := attack.Run(cmd.Context(), c)
		if err != nil && report.Tries == 0 {
			return err
		}
		if printErr := printReport(cmd.OutOrStdout(), report, asJSON); printErr != nil {
			return printErr
		}
		switch {
		case len(report.Leaks) > 0:
			return errProblems
		case err != nil:
			return err
		case len(report.Missed) > 0:
			return errNotReached
		}
		return nil
	}
	return cmd
}

func printReport(w io.Writer, r attack.Report, asJSON bool) error {
	if !asJSON {
		return r.Write(w)
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// readSome reads a file of at most so many bytes.
func readSome(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("it is larger than %d bytes", most)
	}
	return data, err
}
