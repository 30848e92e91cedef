package benchmarks

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"net/url"
	"path/filepath"
	"sync/atomic"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// executed is how many statements counted databases have executed.
var executed atomic.Int64

func statements(string) (float64, error) { return float64(executed.Load()), nil }

// counting connects to SQLite and counts the statements that are executed. A
// store in a database of a host's runs the same statements as in its own file, one
// that gets the lock, and two that look at secure_delete besides.
type counting struct {
	sqlite driver.Driver
	name   string
}

func (c counting) Driver() driver.Driver { return c.sqlite }

func (c counting) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.sqlite.Open(c.name)
	if err != nil {
		return nil, err
	}
	return counted{conn.(sqliteConn)}, nil
}

type sqliteConn interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.ConnBeginTx
	driver.SessionResetter
	driver.Validator
}

type counted struct{ sqliteConn }

func (c counted) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	st, err := c.sqliteConn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return countedStmt{st.(sqliteStmt)}, nil
}

// BeginTx counts for itself and for the COMMIT.
func (c counted) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	executed.Add(2)
	return c.sqliteConn.BeginTx(ctx, opts)
}

type sqliteStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

type countedStmt struct{ sqliteStmt }

func (s countedStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	executed.Add(1)
	return s.sqliteStmt.ExecContext(ctx, args)
}

func (s countedStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	executed.Add(1)
	return s.sqliteStmt.QueryContext(ctx, args)
}

func (c counted) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	executed.Add(1)
	return c.sqliteConn.ExecContext(ctx, query, args)
}

func (c counted) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	executed.Add(1)
	return c.sqliteConn.QueryContext(ctx, query, args)
}

// countedStore makes a store in a counted database.
func countedStore(ctx context.Context, dir string) (*store.Store, *sql.DB, error) {
	plain, err := sql.Open("sqlite", "")
	if err != nil {
		return nil, nil, err
	}
	defer plain.Close()
	q := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(10000)"}}
	u := url.URL{Scheme: "file", OmitHost: true, Path: filepath.Join(dir, "host.db"), RawQuery: q.Encode()}
	db := sql.OpenDB(counting{sqlite: plain.Driver(), name: u.String()})
	cred, err := store.NewKeyFile(filepath.Join(dir, "key"))
	if err != nil {
		return nil, nil, err
	}
	s, err := store.Init(ctx, db, cred, nil)
	return s, db, err
}

// countedSide is a side in a counted database: op does operations from at on.
func countedSide(n int, op func(ctx context.Context, s *store.Store, at, n int) error) Side {
	return Side{Name: "reseal", N: n, Open: func(ctx context.Context, dir string) (*Work, error) {
		s, db, err := countedStore(ctx, dir)
		if err != nil {
			return nil, err
		}
		at := 0
		return timed(func(ctx context.Context, n int) error {
			at += n
			return op(ctx, s, at-n, n)
		}, func() error { return first(s.Close(), db.Close()) }), nil
	}}
}

func putEach(ctx context.Context, s *store.Store, at, n int) error {
	for i := range n {
		if _, err := s.Put(ctx, secretName(at+i), make([]byte, valueSize), nil); err != nil {
			return err
		}
	}
	return nil
}

func putAll(ctx context.Context, s *store.Store, at, n int) error {
	_, err := s.PutMany(ctx, items(at, n, make([]byte, valueSize)))
	return err
}

// getEach reads one secret so many times.
func getEach(ctx context.Context, s *store.Store, at, n int) error {
	if at == 0 {
		if err := putEach(ctx, s, 0, 1); err != nil {
			return err
		}
	}
	for range n {
		if _, err := s.Get(ctx, secretName(0)); err != nil {
			return err
		}
	}
	return nil
}

// rewrapAll moves the secrets of the first call, n of them, once more.
func rewrapAll(ctx context.Context, s *store.Store, at, n int) error {
	if at == 0 {
		if err := putAll(ctx, s, 0, n); err != nil {
			return err
		}
	}
	if _, err := s.RotateKey(ctx, store.DefaultKeyName); err != nil {
		return err
	}
	_, err := rotate.Run(ctx, s, rotate.Options{Key: store.DefaultKeyName, Pause: -1})
	return err
}
