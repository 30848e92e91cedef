// Command host is a small application that keeps mail accounts in an SQLite
// file, with tables and goose migrations of its own, and their passwords in a
// reseal store in the same file. It shows how the two live side by side.
//
//	host init
//	printf %s "$PASSWORD" | host add work mail.example.org
//	host list
//	host password work
//
// Both files, host.db and host.key, are in the current folder, or in HOST_DIR.
package main

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite"

	"github.com/reseal/reseal/store"
)

func main() {
	dir := os.Getenv("HOST_DIR")
	if dir == "" {
		dir = "."
	}
	if err := run(context.Background(), dir, os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "host:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, args []string, in io.Reader, out io.Writer) error {
	path, keyFile := filepath.Join(dir, "host.db"), filepath.Join(dir, "host.key")
	switch {
	case len(args) == 1 && args[0] == "init":
		return initialise(ctx, path, keyFile)
	case len(args) == 3 && args[0] == "add":
		password, err := io.ReadAll(in)
		if err != nil {
			return err
		}
		defer clear(password)
		return withApp(ctx, path, keyFile, func(a *app) error { return a.add(ctx, args[1], args[2], password) })
	case len(args) == 1 && args[0] == "list":
		return withApp(ctx, path, keyFile, func(a *app) error { return a.list(ctx, out) })
	case len(args) == 2 && args[0] == "password":
		return withApp(ctx, path, keyFile, func(a *app) error { return a.password(ctx, args[1], out) })
	}
	return errors.New("usage: host init | add NAME HOST | list | password NAME")
}

// app is the application with its file open.
type app struct {
	db      *sql.DB
	secrets *store.Store
}

// openDB opens the file with settings under which acknowledged writes last:
// reseal refuses weaker ones.
func openDB(path string) (*sql.DB, error) {
	u := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: url.Values{"_txlock": {"immediate"}, "_pragma": {
		"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(10000)", "foreign_keys(1)"}}.Encode()}
	return sql.Open("sqlite", u.String())
}

// initialise makes the file, the key file and the store, once.
func initialise(ctx context.Context, path, keyFile string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	db, err := openDB(path)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := migrate(ctx, db); err != nil {
		return err
	}
	cred, err := store.NewKeyFile(keyFile)
	if err != nil {
		return err
	}
	s, err := store.Init(ctx, db, cred, nil)
	if err != nil {
		return err
	}
	return s.Close()
}

// withApp opens the file, migrates the host's tables and reseal's, and runs fn.
func withApp(ctx context.Context, path, keyFile string, fn func(*app) error) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no %s: run host init", path)
	}
	db, err := openDB(path)
	if err != nil {
		return err
	}
	defer db.Close()
	a, err := start(ctx, db, store.KeyFile(keyFile))
	if err != nil {
		return err
	}
	return errors.Join(fn(a), a.secrets.Close())
}

// start brings both schemas up to date, in whichever order: they do not know of
// each other.
func start(ctx context.Context, db *sql.DB, cred store.Credential) (*app, error) {
	if err := migrate(ctx, db); err != nil {
		return nil, err
	}
	s, err := store.New(ctx, db, cred, nil)
	if err != nil {
		return nil, err
	}
	return &app{db: db, secrets: s}, nil
}

//go:embed migrations/*.sql
var files embed.FS

// migrate runs the host's own migrations, with the host's own goose and its
// default table.
func migrate(ctx context.Context, db *sql.DB) error {
	p, err := provider(db)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

func provider(db *sql.DB) (*goose.Provider, error) {
	own, err := fs.Sub(files, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectSQLite3, db, own)
}

// add stores the account and its password in one transaction.
func (a *app) add(ctx context.Context, name, host string, password []byte) error {
	tx, err := a.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `INSERT INTO accounts (name, host) VALUES (?, ?)`, name, host); err != nil {
		return fmt.Errorf("add account %q: %w", name, err)
	}
	if _, err := a.secrets.PutTx(ctx, tx, "account/"+name, password, nil); err != nil {
		return err
	}
	return tx.Commit()
}

func (a *app) list(ctx context.Context, out io.Writer) error {
	rows, err := a.db.QueryContext(ctx, `SELECT name, host, port FROM accounts ORDER BY name`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var name, host string
		var port int
		if err := rows.Scan(&name, &host, &port); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%s %s:%d\n", name, host, port); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (a *app) password(ctx context.Context, name string, out io.Writer) error {
	v, err := a.secrets.Get(ctx, "account/"+name)
	if err != nil {
		return err
	}
	defer v.Clear()
	_, err = out.Write(v.Bytes())
	return err
}
