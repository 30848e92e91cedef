package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/reseal/reseal/migrations"
)

func (a *app) migrateCommand() *cobra.Command {
	return a.noun("migrate", "The schema of the store", "  reseal migrate status",
		a.migrateStatus(), a.migrateUp(), a.migrateUpTo(), a.migrateDown(), a.migrateRestore(), a.migrateGet(), a.migrateValidate(), a.migrateLint())
}

type jsonMigration struct {
	Version   int64  `json:"version"`
	Name      string `json:"name"`
	SHA256    string `json:"sha256"`
	AppliedAt *stamp `json:"applied_at,omitempty"`
	SQL       string `json:"sql,omitempty"`
}

type jsonSchema struct {
	Version       int64           `json:"version"`
	Latest        int64           `json:"latest"`
	Applied       []jsonMigration `json:"applied"`
	Pending       []jsonMigration `json:"pending"`
	Authenticated bool            `json:"authenticated"`
}

// database runs fn with the store's file, opened as it is: no key is needed for
// its schema.
func (a *app) database(readOnly bool, fn func(*sql.DB) error) error {
	db, err := migrations.OpenFile(a.db, readOnly)
	if err != nil {
		return err
	}
	return errors.Join(fn(db), db.Close())
}

func (a *app) migrateStatus() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the schema's version and what is pending",
		Long: `Show the version of the store's schema, the newest that this release knows, and
the migrations applied and pending. Only reads, and needs no key.`,
		Example: `  reseal migrate status`,
		Args:    takes(),
		RunE:    a.runs(a.schemaStatus),
	}
}

func (a *app) schemaStatus(ctx context.Context, _ []string) error {
	return a.database(true, func(db *sql.DB) error {
		st, err := migrations.Status(ctx, db)
		if err != nil {
			return fmt.Errorf("%q: %w", a.db, err)
		}
		if !st.Created {
			return fmt.Errorf("%q: %w: there are no reseal tables in it", a.db, migrations.ErrNotAStore)
		}
		return a.emit(schemaJSON(st), func(w io.Writer) { schemaText(w, st) })
	})
}

func schemaJSON(st migrations.State) jsonSchema {
	out := jsonSchema{Version: st.Version, Latest: st.Latest, Applied: []jsonMigration{}, Pending: pendingJSON(st.Pending)}
	for _, m := range st.Applied {
		out.Applied = append(out.Applied, jsonMigration{Version: m.Version, Name: m.Name, SHA256: m.SHA256, AppliedAt: &stamp{m.At}})
	}
	return out
}

func pendingJSON(ms []migrations.Migration) []jsonMigration {
	out := []jsonMigration{}
	for _, m := range ms {
		out = append(out, jsonMigration{Version: m.Version, Name: m.Name, SHA256: m.SHA256})
	}
	return out
}

func schemaText(w io.Writer, st migrations.State) {
	fmt.Fprintf(w, "schema version %d, this release knows %d (as recorded)\n\n", st.Version, st.Latest)
	var rows [][]string
	for _, m := range st.Applied {
		rows = append(rows, []string{fmt.Sprint(m.Version), date(m.At), dash(m.Name)})
	}
	for _, m := range st.Pending {
		rows = append(rows, []string{fmt.Sprint(m.Version), "pending", m.Name})
	}
	table(w, "VERSION APPLIED MIGRATION", rows)
}

type jsonMoved struct {
	From   int64           `json:"from"`
	To     int64           `json:"to"`
	DryRun bool            `json:"dry_run"`
	Backup string          `json:"backup,omitempty"`
	Ran    []jsonMigration `json:"ran"`
}

// change is what up, up-to and down do, and how.
type change struct {
	migrations.Options
	showSQL bool
	down    bool
}

func (c *change) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.DryRun, "dry-run", false, "do it all in the transaction and roll back")
	cmd.Flags().BoolVar(&c.showSQL, "show-sql", false, "print the statements")
	cmd.Flags().BoolVar(&c.NoBackup, "no-backup", false, "make no copy of the store first")
}

// change runs a change of the schema. What may not be changed is refused before
// it is opened for writing.
func (a *app) change(ctx context.Context, c *change, fn func(*sql.DB) (migrations.Result, error)) error {
	err := a.database(true, func(db *sql.DB) error { return migrations.CheckSchema(ctx, db) })
	if err != nil {
		return fmt.Errorf("migrate %q: %w", a.db, err)
	}
	return a.database(false, func(db *sql.DB) error {
		res, err := fn(db)
		if err != nil {
			return fmt.Errorf("migrate %q: %w", a.db, err)
		}
		return a.moved(c, res)
	})
}

// moved prints what a change of the schema did. The statements are followed by
// the line about them as a comment, so that all of it is SQL.
func (a *app) moved(c *change, res migrations.Result) error {
	out := jsonMoved{From: res.From, To: res.To, DryRun: c.DryRun, Backup: res.Backup, Ran: pendingJSON(res.Ran)}
	comment := ""
	if c.showSQL && len(out.Ran) > 0 {
		comment = "-- "
		if err := c.statements(out.Ran); err != nil {
			return err
		}
	}
	return a.emit(out, func(w io.Writer) {
		for _, m := range out.Ran {
			if m.SQL != "" {
				fmt.Fprintln(w, m.SQL)
			}
		}
		fmt.Fprintf(w, "%s%s\n", comment, c.said(res))
	})
}

func (c *change) statements(ran []jsonMigration) (err error) {
	form := migrations.UpScript
	if c.down {
		form = migrations.DownScript
	}
	for i := range ran {
		if ran[i].SQL, err = migrations.Script(ran[i].Version, form); err != nil {
			return err
		}
	}
	return nil
}

// said is a change in one line.
func (c *change) said(res migrations.Result) string {
	switch {
	case res.From == res.To:
		return fmt.Sprintf("schema version %d, nothing to do", res.To)
	case c.DryRun:
		return fmt.Sprintf("schema version %d to %d would work; nothing was changed", res.From, res.To)
	case res.Backup != "":
		return fmt.Sprintf("schema version %d to %d; the store as it was: %s", res.From, res.To, res.Backup)
	}
	return fmt.Sprintf("schema version %d to %d", res.From, res.To)
}

func (a *app) migrateUp() *cobra.Command {
	var o change
	c := &cobra.Command{
		Use:   "up",
		Short: "Bring the schema to this release's version",
		Long: `Bring the store's schema to the version of this release, in one transaction, after
a complete copy of the store was made beside it. Every command that opens the
store does this too.`,
		Example: `  reseal migrate up --dry-run --show-sql`,
		Args:    takes(),
	}
	o.flags(c)
	c.RunE = a.runs(func(ctx context.Context, _ []string) error {
		return a.change(ctx, &o, func(db *sql.DB) (migrations.Result, error) { return migrations.Up(ctx, db, o.Options) })
	})
	return c
}

func (a *app) migrateUpTo() *cobra.Command {
	var o change
	c := &cobra.Command{
		Use:     "up-to VERSION",
		Short:   "Bring the schema up to a version",
		Long:    "Bring the store's schema up as far as a version, as reseal migrate up does.",
		Example: fmt.Sprintf("  reseal migrate up-to %d", migrations.Latest()),
		Args:    takes("VERSION"),
	}
	o.flags(c)
	c.RunE = a.runs(func(ctx context.Context, args []string) error {
		to, err := schemaVersion(args[0])
		if err != nil {
			return err
		}
		return a.change(ctx, &o, func(db *sql.DB) (migrations.Result, error) { return migrations.UpTo(ctx, db, to, o.Options) })
	})
	return c
}

func (a *app) migrateDown() *cobra.Command {
	o := change{down: true}
	c := &cobra.Command{
		Use:   "down VERSION",
		Short: "Undo migrations down to a version",
		Long: `Undo migrations until the schema has VERSION; 0 removes the store. Rows in tables
and columns that this drops are lost for good: their number has to be given with
--destroy-data. The way back from an upgrade is reseal migrate restore, with the
copy that was made before it.`,
		Example: fmt.Sprintf("  reseal migrate down %d --dry-run", migrations.Latest()),
		Args:    takes("VERSION"),
	}
	o.flags(c)
	c.Flags().Int64Var(&o.DestroyRows, "destroy-data", 0, "agree to lose exactly this `number` of rows")
	c.RunE = a.runs(func(ctx context.Context, args []string) error {
		to, err := schemaVersion(args[0])
		if err != nil {
			return err
		}
		return a.change(ctx, &o, func(db *sql.DB) (migrations.Result, error) { return migrations.Down(ctx, db, to, o.Options) })
	})
	return c
}

func schemaVersion(arg string) (int64, error) {
	v, err := strconv.ParseInt(arg, 10, 64)
	if err != nil || v < 0 {
		return 0, usagef("reseal migrate status", "%q is not a schema version", arg)
	}
	return v, nil
}

func (a *app) migrateLint() *cobra.Command {
	return &cobra.Command{
		Use:   "lint [FOLDER]",
		Short: "Look for mistakes in migrations",
		Long: `Look for mistakes in the migrations of a folder, or in those of this release, that
lose data, cannot be undone, or make a check that checks nothing. Exit code 3 if
there are any.`,
		Example: `  reseal migrate lint`,
		Args:    takesUpTo("FOLDER"),
		RunE:    a.runs(a.lint),
	}
}

func (a *app) lint(_ context.Context, args []string) error {
	type problem struct {
		File string `json:"file"`
		Line int    `json:"line"`
		Rule string `json:"rule"`
		Text string `json:"text"`
	}
	from := migrations.SQL
	if len(args) == 1 {
		if info, err := os.Stat(args[0]); err != nil || !info.IsDir() {
			return usagef("reseal migrate lint FOLDER", "lint: %q is not a folder", args[0])
		}
		from = os.DirFS(args[0])
	}
	found, err := migrations.LintAll(from)
	if err != nil {
		return usagef("", "lint: %v", err)
	}
	out := []problem{}
	for _, p := range found {
		out = append(out, problem(p))
	}
	err = a.emit(out, func(w io.Writer) {
		for _, p := range found {
			fmt.Fprintln(w, p)
		}
	})
	if err == nil && len(found) > 0 {
		err = foundf("%s in the migrations", plural(int64(len(found)), "mistake"))
	}
	return err
}

func (a *app) migrateRestore() *cobra.Command {
	return &cobra.Command{
		Use:   "restore BACKUP",
		Short: "Put a copy of the store back in place",
		Long: `Put a backup in the place of the store; what was there is kept beside it. The
backup is copied and checked whole first, and stays where it is. Stop everything
that uses the store before.`,
		Example: `  reseal migrate restore reseal.backup`,
		Args:    takes("BACKUP"),
		RunE: a.runs(func(ctx context.Context, args []string) error {
			replaced, err := migrations.Restore(ctx, a.db, args[0])
			if errors.Is(err, migrations.ErrNotAStore) { // the copy is not; --db is right
				return &cliError{exit: exitFailed, code: "not_a_store", msg: fmt.Sprintf("restore %q: %v", a.db, err), err: err,
					remedy: "name a copy that reseal backup or reseal migrate up made"}
			}
			if err != nil {
				return fmt.Errorf("restore %q: %w", a.db, err)
			}
			res := struct {
				DB       string `json:"db"`
				Backup   string `json:"backup"`
				Replaced string `json:"replaced,omitempty"`
			}{a.db, args[0], replaced}
			if replaced == "" {
				return a.say(res, "%s restored from %s", a.db, args[0])
			}
			return a.say(res, "%s restored from %s; the store as it was: %s", a.db, args[0], replaced)
		}),
	}
}
