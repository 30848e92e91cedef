package migrations

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// OpenFile opens the SQLite file at path for the functions of this package: it
// creates nothing, waits up to 10 seconds for other writers, and sets nothing
// in the file. With readOnly, SQLite refuses every statement that writes, and
// the file and the log that somebody left beside it stay as they are. The
// caller closes the database.
//
// A path where there is no regular file is [ErrNotAStore].
func OpenFile(path string, readOnly bool) (*sql.DB, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("open %q: %w: there is no such file", path, ErrNotAStore)
	case err != nil:
		return nil, explain(err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("open %q: %w: it is not a regular file", path, ErrNotAStore)
	}
	const wait = 10 * time.Second
	switch {
	case !readOnly:
		return openPath(path, "rw", wait)
	case hasWAL(path):
		return openPath(path, "ro", wait)
	}
	return openPath(path, "rw", wait, "query_only(1)")
}

// hasWAL reports whether there is something in a write-ahead log. A connection
// that may write plays it into the database when it is the last to close; one
// that may not leaves an empty log behind where there was none.
func hasWAL(path string) bool {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	info, err := os.Stat(path + "-wal")
	return err == nil && info.Size() > 0
}

// openPath opens a file under its exact name, whatever characters it has.
func openPath(name, mode string, wait time.Duration, pragmas ...string) (*sql.DB, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	q := url.Values{"mode": {mode}, "_txlock": {"immediate"}, "_pragma": {fmt.Sprintf("busy_timeout(%d)", wait.Milliseconds())}}
	for _, p := range pragmas {
		q.Add("_pragma", p)
	}
	u := url.URL{Scheme: "file", OmitHost: true, Path: abs, RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}
