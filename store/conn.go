package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"modernc.org/sqlite"

	"github.com/reseal/reseal/crypto"
)

// querier runs SQL on one connection: a pinned connection of the store's own,
// a host's connection, or a caller's transaction.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// pinned is one connection of the store's own with its prepared statements.
// One goroutine at a time uses it.
type pinned struct {
	*sql.Conn
	stmts       map[string]*sql.Stmt
	driverStmts map[string]driverStmt // of rowsOf
}

func pin(ctx context.Context, db *sql.DB) (*pinned, error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &pinned{Conn: c, stmts: map[string]*sql.Stmt{}, driverStmts: map[string]driverStmt{}}, nil
}

func (p *pinned) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	if st, ok := p.stmts[query]; ok {
		return st, nil
	}
	st, err := p.Conn.PrepareContext(ctx, query)
	if err == nil {
		p.stmts[query] = st
	}
	return st, err
}

func (p *pinned) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	st, err := p.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	return st.ExecContext(ctx, args...)
}

func (p *pinned) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	st, err := p.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	return st.QueryContext(ctx, args...)
}

func (p *pinned) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	st, err := p.stmt(ctx, query)
	if err != nil {
		return p.Conn.QueryRowContext(ctx, query, args...) // gives the same error from Scan
	}
	return st.QueryRowContext(ctx, args...)
}

func (p *pinned) close() {
	for _, st := range p.stmts {
		st.Close()
	}
	p.Conn.Raw(func(any) error {
		for _, st := range p.driverStmts {
			st.Close()
		}
		return nil
	})
	p.Conn.Close()
}

// discard throws the connection away instead of giving it back to its pool,
// because a rollback on it failed and nobody knows what state it is in.
func discard(c *sql.Conn) {
	c.Raw(func(any) error { return driver.ErrBadConn })
}

// profile is the settings of a store's own connections, each with its reason.
// They are part of the DSN because a PRAGMA that is executed reaches one
// connection of the pool only, and are read back when the store is opened.
type profile struct {
	name, value string // as given
	reads       string // as PRAGMA name answers
}

func connProfile(busy time.Duration, creating, queryOnly bool) []profile {
	ms := fmt.Sprint(busy.Milliseconds())
	p := []profile{
		{"busy_timeout", ms, ms},       // the default is to fail at once
		{"synchronous", "FULL", "2"},   // NORMAL loses acknowledged writes at a power cut
		{"journal_mode", "WAL", "wal"}, // readers never stop
		{"foreign_keys", "1", "1"},
		{"secure_delete", "1", "1"},   // retired wraps and values leave the pages
		{"trusted_schema", "0", "0"},  // no function runs because a view says so
		{"cell_size_check", "1", "1"}, // a damaged page is an error, not a guess
		{"temp_store", "MEMORY", "2"}, // nothing sorted or staged reaches a temporary file
		{"mmap_size", "0", "0"},       // an I/O error is an error, not a signal
	}
	if creating {
		// Before the conversion to WAL, or a power cut just after the first
		// commits loses them with the file's directory entry.
		p[1] = profile{"synchronous", "EXTRA", "3"}
	}
	if queryOnly {
		p = append(p, profile{"query_only", "1", "1"})
	}
	return p
}

// dsn returns the data source name of the file at path, which must exist. A
// URI keeps odd characters in the path exact.
func dsn(path string, settings []profile) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	q := url.Values{"mode": {"rw"}, "_txlock": {"immediate"}, "_defensive": {"1"}, "_dqs": {"0"}}
	for _, s := range settings {
		q.Add("_pragma", s.name+"("+s.value+")")
	}
	u := url.URL{Scheme: "file", OmitHost: true, Path: abs, RawQuery: q.Encode()}
	return u.String(), nil
}

// openPool opens n connections to the file at path.
func openPool(path string, n int, settings []profile) (*sql.DB, error) {
	name, err := dsn(path, settings)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", name)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	db.SetConnMaxIdleTime(0)
	return db, nil
}

// checkProfile reads the settings back and refuses a connection on which one
// did not take.
func checkProfile(ctx context.Context, q querier, settings []profile) error {
	for _, s := range settings {
		got, err := pragma(ctx, q, s.name)
		if err != nil {
			return err
		}
		if !strings.EqualFold(got, s.reads) {
			return fmt.Errorf("connection setting %s is %q and not %q", s.name, got, s.reads)
		}
	}
	return nil
}

func pragma(ctx context.Context, q querier, name string) (string, error) {
	var v string
	err := q.QueryRowContext(ctx, "PRAGMA "+name).Scan(&v)
	return v, err
}

// alter changes a setting of a connection of the store's own, and returns what
// puts it back. On a host's it changes nothing, and what cannot be changed it
// leaves. A prepared statement would do nothing: SQLite sets these when it compiles
// one.
func alter(q querier, setting string, value int) (restore func()) {
	p, ok := q.(*pinned)
	if !ok {
		return func() {}
	}
	was, err := pragma(context.Background(), p.Conn, setting)
	if err != nil {
		return func() {}
	}
	set := func(value string) { p.Conn.ExecContext(context.Background(), "PRAGMA "+setting+" = "+value) }
	set(fmt.Sprint(value))
	return func() { set(was) }
}

// roomForPages lets a connection of the store's own keep more pages of the file
// than before. What cannot be set costs only time.
func roomForPages(q querier, kib int) (restore func()) { return alter(q, "cache_size", -kib) }

// SQLite's primary result codes, https://sqlite.org/rescode.html.
const (
	codeBusy     = 5
	codeLocked   = 6
	codeReadOnly = 8
	codeIO       = 10
	codeCorrupt  = 11
	codeFull     = 13
	codeCantOpen = 14
	codeProtocol = 15 // the log's locks could not be had in ten seconds
	codeNotADB   = 26
)

// sqlError gives an error of SQLite the sentinel that callers test for.
// Others, and those that have one, it returns as they are.
func sqlError(err error) error {
	if errors.Is(err, crypto.ErrCleared) {
		return ErrClosed // by another goroutine, just now
	}
	var se *sqlite.Error
	if err == nil || !errors.As(err, &se) || hasSentinel(err) {
		return err
	}
	switch se.Code() & 0xff {
	case codeBusy, codeLocked, codeProtocol:
		return fmt.Errorf("%w: begin immediate and retry the whole transaction: %w", ErrBusy, err)
	case codeReadOnly, codeCantOpen:
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	case codeCorrupt:
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	case codeFull:
		return fmt.Errorf("%w: nothing was changed: %w", ErrDiskFull, err)
	case codeIO:
		return fmt.Errorf("%w: %w", ErrIO, err)
	case codeNotADB:
		return fmt.Errorf("%w: %w", ErrNotAStore, err)
	}
	return err
}

// isBusy reports whether another connection has the lock.
func isBusy(err error) bool {
	var se *sqlite.Error
	return errors.As(err, &se) && se.Code()&0xff == codeBusy
}

// fromSQLite reports whether an error came from SQLite.
func fromSQLite(err error) bool {
	var se *sqlite.Error
	return errors.As(err, &se)
}

// cannotRead reports whether SQLite could not read something. It has then rolled the
// transaction back, and each statement after that would be durable by itself. A
// damaged page is not that: SQLite goes on after it.
func cannotRead(err error) bool {
	var se *sqlite.Error
	return errors.As(err, &se) && se.Code()&0xff != codeCorrupt
}

func hasSentinel(err error) bool {
	for _, s := range []error{ErrBusy, ErrReadOnly, ErrDamaged, ErrDiskFull, ErrIO, ErrNotAStore, ErrInvalid, ErrDependents} {
		if errors.Is(err, s) {
			return true
		}
	}
	return false
}
