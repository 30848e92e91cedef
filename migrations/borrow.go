package migrations

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"
)

// borrow takes one connection of db and calls f with a *sql.DB that has this
// connection and no other. The connection keeps its open transaction from call
// to call, and goes back to db afterwards. If f's error is driver.ErrBadConn,
// it is closed instead.
func borrow(ctx context.Context, db *sql.DB, f func(one *sql.DB) error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("open database: %w", explain(err))
	}
	defer conn.Close()
	return conn.Raw(func(dc any) error {
		able, ok := dc.(connection)
		if !ok {
			return fmt.Errorf("the driver's connection %T cannot run statements without preparing them", dc)
		}
		one := sql.OpenDB(lender{able})
		one.SetMaxOpenConns(1)
		defer one.Close()
		return f(one)
	})
}

// connection is what a driver's connection must be able to do.
type connection interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
}

// lender is a connector that always connects to the same connection.
type lender struct{ conn connection }

func (l lender) Connect(context.Context) (driver.Conn, error) { return lent{l.conn}, nil }
func (l lender) Driver() driver.Driver                        { return l }
func (l lender) Open(string) (driver.Conn, error)             { return lent{l.conn}, nil }

// lent is the borrowed connection. Closing it leaves the connection open, and
// transactions on it are savepoints within the one that [inTransaction] began.
type lent struct{ connection }

// Close does nothing: the connection belongs to the pool it was taken from.
func (c lent) Close() error { return nil }

// BeginTx sets a savepoint. SQLite ends the whole transaction by itself when,
// for one, the disk is full; a savepoint would then be a transaction of its own
// and its release a commit, so BeginTx first makes sure that one is open.
func (c lent) BeginTx(ctx context.Context, _ driver.TxOptions) (driver.Tx, error) {
	if err := c.exec(ctx, "BEGIN"); err == nil {
		return nil, errors.Join(errNoTransaction, c.exec(context.WithoutCancel(ctx), "ROLLBACK"))
	}
	if err := c.exec(ctx, "SAVEPOINT reseal_migration"); err != nil {
		return nil, err
	}
	return savepoint{c}, nil
}

var errNoTransaction = errors.New("the transaction has ended, and nothing was changed")

// exec runs statements without arguments on the connection.
func (c lent) exec(ctx context.Context, query string) error {
	_, err := c.ExecContext(ctx, query, nil)
	return err
}

type savepoint struct{ conn lent }

// Commit keeps the changes for the outer transaction.
func (s savepoint) Commit() error {
	return s.conn.exec(context.Background(), "RELEASE reseal_migration")
}

// Rollback undoes the changes since the savepoint.
func (s savepoint) Rollback() error {
	return s.conn.exec(context.Background(), "ROLLBACK TO reseal_migration; RELEASE reseal_migration")
}

// errCommit is returned when it is not certain that nothing was changed.
var errCommit = errors.New("commit")

// inTransaction runs f in a transaction that holds the write lock from its
// start, and commits if f succeeds and dry is not set.
func inTransaction(ctx context.Context, one *sql.DB, dry bool, f func() error) (err error) {
	if _, err := one.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() {
		if err != nil || dry {
			// An error here means that SQLite has rolled back already.
			_, _ = one.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		}
	}()
	if err := f(); err != nil || dry {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// Not interrupted from here on, so that an interruption leaves no doubt.
	if _, err := one.ExecContext(context.WithoutCancel(ctx), "COMMIT"); err != nil {
		return fmt.Errorf("%w: %w", errCommit, err)
	}
	return nil
}

// setting is a connection setting that a migration needs otherwise.
type setting struct {
	pragma string
	want   int64
	atMost bool // a greater value is good too
}

// withSettings runs f with foreign keys off, so that rebuilding a table
// deletes no rows of others, with what is freed overwritten, and with time to
// wait for other writers; then it puts back what was set before.
func withSettings(ctx context.Context, one *sql.DB, wait time.Duration, f func() error) (err error) {
	for _, s := range []setting{
		{pragma: "busy_timeout", want: wait.Milliseconds(), atMost: true},
		{pragma: "foreign_keys", want: 0},
		{pragma: "ignore_check_constraints", want: 0},
		{pragma: "legacy_alter_table", want: 0},
		{pragma: "main.secure_delete", want: 1},
	} {
		undo, serr := s.apply(ctx, one)
		if serr != nil {
			return fmt.Errorf("set %s: %w", s.pragma, serr)
		}
		defer func() {
			if uerr := undo(); uerr != nil {
				err = errors.Join(err, fmt.Errorf("put back %s: %w: %w", s.pragma, uerr, driver.ErrBadConn))
			}
		}()
	}
	return f()
}

// apply changes the setting if it has to and returns what puts it back.
func (s setting) apply(ctx context.Context, one *sql.DB) (undo func() error, err error) {
	had, err := readPragma(ctx, one, s.pragma)
	if err != nil {
		return nil, err
	}
	if had == s.want || s.atMost && had > s.want {
		return func() error { return nil }, nil
	}
	if err := s.set(ctx, one, s.want); err != nil {
		return nil, err
	}
	return func() error { return s.set(context.WithoutCancel(ctx), one, had) }, nil
}

// set changes the setting and reads it back: SQLite ignores what it does not
// accept.
func (s setting) set(ctx context.Context, one *sql.DB, value int64) error {
	text := fmt.Sprint(value)
	if s.pragma == "main.secure_delete" && value == 2 {
		text = "FAST"
	}
	if _, err := one.ExecContext(ctx, "PRAGMA "+s.pragma+" = "+text); err != nil {
		return err
	}
	got, err := readPragma(ctx, one, s.pragma)
	if err != nil {
		return err
	}
	if got != value {
		return fmt.Errorf("it is %d and cannot be made %d", got, value)
	}
	return nil
}

func readPragma(ctx context.Context, one *sql.DB, pragma string) (value int64, err error) {
	err = one.QueryRowContext(ctx, "PRAGMA "+pragma).Scan(&value)
	return value, err
}

// dataVersion changes when another connection has written to the file.
func dataVersion(ctx context.Context, one *sql.DB) (int64, error) {
	return readPragma(ctx, one, "main.data_version")
}

// mainFile returns the path of the database, "" for one in memory.
func mainFile(ctx context.Context, db Queryer) (string, error) {
	var path string
	err := db.QueryRowContext(ctx, `
		SELECT file
		FROM pragma_database_list
		WHERE name = 'main'`).Scan(&path)
	if err != nil {
		return "", fmt.Errorf("find the database's file: %w", explain(err))
	}
	return path, nil
}
