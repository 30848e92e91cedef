package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/reseal/reseal/migrations"
)

// getFlags say in which form migrations are printed.
type getFlags struct{ down, goose, record bool }

func (f *getFlags) form() migrations.Form {
	switch {
	case f.down:
		return migrations.DownScript
	case f.goose:
		return migrations.GooseScript
	case f.record:
		return migrations.RecordScript
	}
	return migrations.UpScript
}

func (a *app) migrateGet() *cobra.Command {
	var f getFlags
	c := &cobra.Command{
		Use:   "get [VERSION]",
		Short: "Print the SQL of a migration, or of all, to run with another tool",
		Long: `Print the statements of the migration to VERSION, or of all migrations of this
release, for golang-migrate, atlas, goose or the sqlite3 shell. They also record
the version where reseal looks for it. Run them in one transaction, with foreign
keys off, and then run reseal migrate validate.`,
		Example: `  reseal migrate get 1 > 0001_reseal.up.sql
  reseal migrate get 1 --down > 0001_reseal.down.sql`,
		Args: takesUpTo("VERSION"),
	}
	c.Flags().BoolVar(&f.down, "down", false, "the statements that undo it")
	c.Flags().BoolVar(&f.goose, "goose", false, "both, as a file for goose")
	c.Flags().BoolVar(&f.record, "record", false, "only those that record the version")
	c.MarkFlagsMutuallyExclusive("down", "goose", "record")
	c.RunE = a.runs(func(_ context.Context, args []string) error {
		versions, err := f.versions(args)
		if err != nil {
			return err
		}
		return a.printMigrations(versions, f.form())
	})
	return c
}

// versions are those asked for, in the order to run them in.
func (f *getFlags) versions(args []string) ([]int64, error) {
	if len(args) == 1 {
		v, err := schemaVersion(args[0])
		return []int64{v}, err
	}
	if f.goose {
		return nil, usagef("reseal migrate get 1 --goose", "goose reads one migration a file: name the version")
	}
	var all []int64
	for v := int64(1); v <= migrations.Latest(); v++ {
		all = append(all, v)
	}
	if f.down {
		slices.Reverse(all)
	}
	return all, nil
}

func (a *app) printMigrations(versions []int64, form migrations.Form) error {
	out := []jsonMigration{}
	for _, v := range versions {
		text, err := migrations.Script(v, form)
		if err != nil {
			return err
		}
		m := migrations.All()[v-1]
		out = append(out, jsonMigration{Version: v, Name: m.Name, SHA256: m.SHA256, SQL: text})
	}
	return a.emit(out, func(w io.Writer) {
		for i, m := range out {
			if i > 0 {
				fmt.Fprintln(w)
			}
			fmt.Fprint(w, m.SQL)
		}
	})
}

type jsonValidated struct {
	OK       bool     `json:"ok"`
	Version  int64    `json:"version"`
	Latest   int64    `json:"latest"`
	Missing  []string `json:"missing"`
	Altered  []string `json:"altered"`
	Foreign  []string `json:"foreign"`
	Recorded []string `json:"recorded"`
}

func (a *app) migrateValidate() *cobra.Command {
	return &cobra.Command{
		Use:   "validate",
		Short: "Compare the schema with what this release expects",
		Long: `Compare the tables, indexes and triggers of the store, and the versions recorded in
it, with what the migrations of this release make: after they were run with
another tool, or when somebody may have changed the schema. Only reads, and needs
no key. Exit code 3 if something differs. An older version is no difference.`,
		Example: `  reseal migrate validate`,
		Args:    takes(),
		RunE:    a.runs(a.validate),
	}
}

func (a *app) validate(ctx context.Context, _ []string) error {
	return a.database(true, func(db *sql.DB) error {
		out := jsonValidated{OK: true, Latest: migrations.Latest(), Missing: []string{}, Altered: []string{}, Foreign: []string{}, Recorded: []string{}}
		var altered *migrations.AlteredError
		err := migrations.Validate(ctx, db)
		if errors.As(err, &altered) {
			out.take(altered)
		} else if err != nil {
			return fmt.Errorf("%q: %w", a.db, err)
		} else if out.Version, err = migrations.Current(ctx, db); err != nil {
			return err
		}
		if err := a.emit(out, func(w io.Writer) { out.text(w) }); err != nil || out.OK {
			return err
		}
		return foundf("the schema differs from what this release expects: undo the change, or restore a backup")
	})
}

func (v *jsonValidated) take(e *migrations.AlteredError) {
	v.OK, v.Version = false, e.Version
	v.Missing = append(v.Missing, e.Missing...)
	v.Altered = append(v.Altered, e.Altered...)
	v.Foreign = append(v.Foreign, e.Foreign...)
	v.Recorded = append(v.Recorded, e.Recorded...)
}

func (v *jsonValidated) text(w io.Writer) {
	for _, part := range []struct {
		what string
		list []string
	}{{"missing", v.Missing}, {"altered", v.Altered}, {"not reseal's", v.Foreign}, {"recorded", v.Recorded}} {
		for _, x := range part.list {
			fmt.Fprintf(w, "%-14s%s\n", part.what, x)
		}
	}
	switch {
	case !v.OK:
	case v.Version < v.Latest:
		fmt.Fprintf(w, "schema version %d is as its migrations make it; this release has %d\n", v.Version, v.Latest)
	default:
		fmt.Fprintf(w, "schema version %d is as its migrations make it\n", v.Version)
	}
}
