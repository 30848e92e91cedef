package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Restore puts a backup in the place of the store at path and keeps what was
// there beside it, as path with ".replaced-" and the UTC time, which it
// returns ("" if there was nothing at path). The backup stays where it is.
//
// Stop everything that uses the store first. Restore takes the migration lock
// and the exclusive lock of SQLite and returns [ErrInUse] if it sees another
// user; a connection that is idle can be seen in a WAL database only.
//
// The backup is copied, with what is in a write-ahead log beside it, and the
// copy is checked whole, before anything at path
// is touched: it has to be a store ([ErrNotAStore]) with the schema that its
// version should have ([ErrAltered]) and that this build knows ([ErrNewer]).
// A file at path that is damaged beyond opening is replaced all the same.
//
// The restored file has mode 0600, and the owner of the file that it replaces;
// what that file gave its group, if it gave nothing to others, it gives too.
func Restore(ctx context.Context, path, backup string) (replaced string, err error) {
	return builtin.restore(ctx, path, backup, time.Now())
}

func (h *history) restore(ctx context.Context, path, backup string, now time.Time) (replaced string, err error) {
	if path, err = realPath(path); err != nil {
		return "", err
	}
	unlock, err := lock(ctx, path, 10*time.Second)
	if err != nil {
		return "", err
	}
	defer unlock()
	copied, err := copyBackup(ctx, backup, path)
	if err != nil {
		return "", err
	}
	defer removeDatabase(copied) // it is gone when it took its place
	if err := h.checkCopy(ctx, copied); err != nil {
		return "", fmt.Errorf("backup %q: %w", backup, err)
	}
	if err := errors.Join(giveOwner(copied, path), giveMode(copied, path)); err != nil {
		return "", err
	}
	if replaced, err = freeName(path + ".replaced-" + now.UTC().Format("20060102T150405.000Z")); err != nil {
		return "", err
	}
	logs, err := keepLogs(path, replaced)
	if err != nil {
		return "", err
	}
	release, opened, err := occupy(ctx, path)
	if err != nil || opened {
		logs.drop() // what they held is in the database
	}
	if err != nil {
		return "", err
	}
	defer release()
	return swap(path, copied, replaced)
}

// lookTime is how long a restore waits for somebody who has the file.
const lookTime = 2 * time.Second

// realPath is absolute and free of symbolic links, as SQLite's own view of the
// file is, on which the lock's name rests. A link that leads nowhere is refused.
func realPath(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(abs)
	if !errors.Is(err, fs.ErrNotExist) {
		return real, err
	}
	if _, lerr := os.Lstat(abs); lerr == nil {
		return "", fmt.Errorf("%q is a symbolic link to a file that does not exist: name that file", path)
	}
	folder, err := filepath.EvalSymlinks(filepath.Dir(abs))
	return filepath.Join(folder, filepath.Base(abs)), err
}

// freeName returns the name, or it with a number if there is a file so named.
// The migration lock keeps others from taking it.
func freeName(name string) (string, error) {
	for i := 1; i <= 100; i++ {
		free := name
		if i > 1 {
			free = fmt.Sprintf("%s-%d", name, i)
		}
		if _, err := os.Lstat(free); errors.Is(err, fs.ErrNotExist) {
			return free, nil
		}
	}
	return "", fmt.Errorf("keep the file that is replaced: %q and 99 more exist", name)
}

// checkCopy reads every page of the copy, and its schema. It opens the copy for
// writing so that SQLite takes away again what it puts beside it.
func (h *history) checkCopy(ctx context.Context, name string) error {
	db, err := openPath(name, "rw", lookTime)
	if err != nil {
		return err
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&verdict); err != nil {
		return explain(err)
	}
	if verdict != "ok" {
		return fmt.Errorf("it is damaged: %s", verdict)
	}
	return h.checkSchema(ctx, db)
}

// logs are second names of a database's log and journal.
type logs []string

// keepLogs gives the log and the journal a second name: opening a damaged
// database, SQLite may delete them.
func keepLogs(path, replaced string) (logs, error) {
	var kept logs
	for _, suffix := range []string{"-wal", "-journal"} {
		err := os.Link(path+suffix, replaced+suffix)
		if err == nil {
			kept = append(kept, replaced+suffix)
		} else if !errors.Is(err, fs.ErrNotExist) {
			kept.drop()
			return nil, fmt.Errorf("keep %q: %w", path+suffix, explain(err))
		}
	}
	return kept, nil
}

func (l logs) drop() {
	for _, name := range l {
		os.Remove(name)
	}
}

// occupy takes the database at path for this process alone and leaves nothing
// of it in a write-ahead log or a journal. A file that is missing, or too
// damaged to be opened, needs no lock.
func occupy(ctx context.Context, path string) (release func(), opened bool, err error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return func() {}, false, nil
	}
	db, err := openPath(path, "rw", lookTime)
	if err != nil {
		return nil, false, err
	}
	err = lockWhole(ctx, db)
	if err == nil {
		return func() { db.Close() }, true, nil
	}
	err = errors.Join(err, db.Close())
	switch {
	case isCode(err, sqlite3.SQLITE_NOTADB), isCode(err, sqlite3.SQLITE_CORRUPT):
		return func() {}, false, nil
	case isCode(err, sqlite3.SQLITE_BUSY):
		return nil, false, fmt.Errorf("%w: stop what uses %q and try again: %w", ErrInUse, path, err)
	}
	return nil, false, fmt.Errorf("lock %q: %w", path, explain(err))
}

// lockWhole leaves WAL mode, which SQLite allows only to the one connection
// that has the file open, and begins a transaction that keeps all others out.
func lockWhole(ctx context.Context, db *sql.DB) error {
	var mode string
	if err := db.QueryRowContext(ctx, `PRAGMA journal_mode = DELETE`).Scan(&mode); err != nil {
		return err
	}
	_, err := db.ExecContext(ctx, `BEGIN EXCLUSIVE`)
	return err
}

func isCode(err error, code int) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == code
}

// swap keeps the file at path under the other name and moves the copy in. There
// is a database at path at every instant, the old one or the new one, and never
// the new one with the old one's log, which SQLite would play into it.
func swap(path, copied, replaced string) (string, error) {
	err := os.Link(path, replaced)
	if errors.Is(err, fs.ErrNotExist) {
		replaced = ""
	} else if err != nil {
		return "", fmt.Errorf("keep the file that is replaced: %w", explain(err))
	}
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return replaced, fmt.Errorf("remove %q: %w", path+suffix, err)
		}
	}
	if err := os.Rename(copied, path); err != nil {
		return replaced, fmt.Errorf("put the backup in place: %w", err)
	}
	return replaced, syncFolder(path)
}
