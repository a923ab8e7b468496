// Package dbtest runs a test on every database that the house supports, so
// that no room works on one of them alone.
package dbtest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // registers "pgx"

	"yesline/internal/db"
)

// Variable names the environment variable with the address of a PostgreSQL
// cluster whose user may create databases. scripts/test.sh starts such a
// cluster and sets it.
const Variable = "YESLINE_TEST_POSTGRES"

// Each runs test twice, as the subtests "sqlite" and "postgres". Its open gives
// the database of that name, new and empty in each subtest; opening one name
// twice gives a second handle on the same database, as a second node has. All
// are closed and gone when the subtest ends.
//
// Without a cluster the subtest "postgres" is skipped, or fails in CI.
func Each(t *testing.T, test func(t *testing.T, open func(name string) *db.DB)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, opener(t, sqlite(t))) })
	t.Run("postgres", func(t *testing.T) { test(t, opener(t, postgres(t))) })
}

// SQLite gives open for databases in a temporary folder of their own, for
// tests and benchmarks that run on SQLite alone.
func SQLite(t testing.TB) (open func(name string) *db.DB) { return opener(t, sqlite(t)) }

// Postgres gives open for databases in the test cluster. It skips the test
// without one, or fails it in CI.
func Postgres(t testing.TB) (open func(name string) *db.DB) { return opener(t, postgres(t)) }

func opener(t testing.TB, address func(name string) string) func(name string) *db.DB {
	return func(name string) *db.DB {
		t.Helper()
		d, err := db.Open(context.Background(), name, address(name))
		if err != nil {
			t.Fatalf("opening the %s database: %v", name, err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Errorf("closing the %s database: %v", name, err)
			}
		})
		return d
	}
}

func sqlite(t testing.TB) func(name string) string {
	folder := t.TempDir()
	return func(name string) string { return "sqlite:" + filepath.Join(folder, name+".db") }
}

func postgres(t testing.TB) func(name string) string {
	t.Helper()
	cluster, err := url.Parse(os.Getenv(Variable))
	if err != nil {
		t.Fatalf("%s is not an address", Variable)
	}
	if cluster.Host == "" {
		missing := "no PostgreSQL: set " + Variable + ", or run the tests by `make test`"
		if os.Getenv("CI") == "true" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	admin, err := sql.Open("pgx", cluster.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { admin.Close() })
	prefix := "t_" + strings.ToLower(rand.Text()[:12]) + "_"
	made := map[string]string{}
	return func(name string) string {
		t.Helper()
		if made[name] == "" {
			quoted := `"` + prefix + name + `"`
			// template0 has no visitors, so tests may create databases at once.
			if _, err := admin.Exec("CREATE DATABASE " + quoted + " TEMPLATE template0"); err != nil {
				t.Fatalf("creating a database for the test: %v", err)
			}
			t.Cleanup(func() {
				if _, err := admin.Exec("DROP DATABASE " + quoted + " WITH (FORCE)"); err != nil {
					t.Errorf("dropping the database of the test: %v", err)
				}
			})
			its := *cluster
			its.Path = "/" + prefix + name
			made[name] = its.String()
		}
		return made[name]
	}
}
