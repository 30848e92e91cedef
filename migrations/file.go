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
// creates nothing, waits for other writers, and sets nothing in the file. With
// readOnly, SQLite refuses every write. The caller closes the database.
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
	mode := "rw"
	if readOnly {
		mode = "ro"
	}
	return openPath(path, mode, 10*time.Second)
}

// openPath opens a file under its exact name, whatever characters it has.
func openPath(name, mode string, wait time.Duration) (*sql.DB, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	u := url.URL{Scheme: "file", OmitHost: true, Path: abs, RawQuery: fmt.Sprintf("mode=%s&_txlock=immediate&_pragma=busy_timeout(%d)", mode, wait.Milliseconds())}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}
