package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"yesline/internal/app"
)

// configFlags reads the configuration: defaults, then a file, then the
// environment, then flags.
func configFlags(c *cobra.Command) func() (app.Config, error) {
	file := c.Flags().StringP("config", "c", "", "TOML file with the configuration")
	data := c.Flags().String("data", "", "folder of the databases and objects (default \"yesline-data\")")
	pages := c.Flags().String("http", "", "where the pages listen (default \"127.0.0.1:8080\")")
	phones := c.Flags().String("sip", "", "where phones reach us, UDP (default \"127.0.0.1:5060\")")
	return func() (app.Config, error) {
		cfg := app.Defaults()
		if *file != "" {
			if err := cfg.Read(*file); err != nil {
				return cfg, err
			}
		}
		cfg.Environment(os.LookupEnv)
		for from, to := range map[*string]*string{data: &cfg.Data, pages: &cfg.HTTP, phones: &cfg.SIP} {
			if *from != "" {
				*to = *from
			}
		}
		return cfg, nil
	}
}

func serveCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the service until a signal",
		Args:  cobra.NoArgs,
	}
	config := configFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := config()
		if err != nil {
			return err
		}
		report := slog.New(slog.NewJSONHandler(c.ErrOrStderr(), nil))
		return serve(c.Context(), cfg, report)
	}
	return c
}

func serve(ctx context.Context, cfg app.Config, report *slog.Logger) (err error) {
	a, err := app.New(ctx, cfg, report)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	if err := a.Start(ctx); err != nil {
		return err
	}
	fmt.Printf("Yesline is up: %s\n", cfg.URL)
	if a.Phones != nil {
		fmt.Printf("Telephones:    %s (UDP)\n", a.Phones.Address())
	} else {
		fmt.Println("Telephones:    none, because no trunk is configured (trunk.address)")
	}
	empty, err := a.Empty(ctx)
	if err != nil {
		return err
	}
	if empty {
		link, err := a.FirstOperator(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("\nThis house is empty. Its first operator signs in here, once, within a day:\n  %s\n\n", link)
	}
	<-ctx.Done()
	drain(a, report)
	report.Info("closing: calls are ended, what they recorded is sealed")
	return nil
}

// drain lets the calls that go on come to their end while new ones are turned
// away; another signal, or the configured time, ends the wait.
func drain(a *app.App, report *slog.Logger) {
	limit := time.Duration(a.Config.Drain) * time.Second
	if limit == 0 || a.Capture.Going() == 0 {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	report.Info("draining: no new calls; another signal ends those that go on", "calls", a.Capture.Going(), "at_most_seconds", a.Config.Drain)
	if left := a.Drain(ctx); left > 0 {
		report.Warn("calls are ended that had not come to their end", "calls", left)
	}
}
