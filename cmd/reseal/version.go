package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/reseal/reseal/migrations"
)

// formatVersion is the version of the encrypted bytes, docs/format.md.
const formatVersion = 1

type jsonBuild struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
	SQLite  string `json:"sqlite"`
	Driver  string `json:"driver"`
	Schema  int64  `json:"schema"`
	Format  int    `json:"format"`
}

func (a *app) versionCommand() *cobra.Command {
	var bill bool
	c := &cobra.Command{
		Use:     "version",
		Short:   "Print the versions of reseal, Go, SQLite, the schema and the format",
		Long:    "Print the versions of reseal, Go, SQLite and its driver, the schema, and the format\nof the encrypted bytes.",
		Example: `  reseal version`,
		Args:    takes(),
		RunE: a.runs(func(ctx context.Context, _ []string) error {
			if bill {
				info, ok := debug.ReadBuildInfo()
				if !ok {
					return &cliError{exit: exitFailed, code: "failed", msg: "this binary does not say what it was built from"}
				}
				return json.NewEncoder(a.stdout).Encode(billOfMaterials(info))
			}
			v := buildVersions(ctx)
			return a.emit(v, func(w io.Writer) {
				fmt.Fprintf(w, "reseal %s\n%s\nsqlite %s (modernc.org/sqlite %s)\nschema %d\nformat %d\n", v.Version, v.Go, v.SQLite, v.Driver, v.Schema, v.Format)
			})
		}),
	}
	c.Flags().BoolVar(&bill, "sbom", false, "print what the binary was built from, as CycloneDX JSON")
	return c
}

func buildVersions(ctx context.Context) jsonBuild {
	v := jsonBuild{Version: "unknown", Go: runtime.Version(), SQLite: sqliteVersion(ctx), Driver: "unknown", Schema: migrations.Latest(), Format: formatVersion}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version = info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Commit = s.Value
		}
	}
	for _, m := range info.Deps {
		if m.Path == "modernc.org/sqlite" {
			v.Driver = m.Version
		}
	}
	return v
}

func sqliteVersion(ctx context.Context) string {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return "unknown"
	}
	defer db.Close()
	v := "unknown"
	if err := db.QueryRowContext(ctx, `SELECT sqlite_version()`).Scan(&v); err != nil {
		return "unknown"
	}
	return v
}
