package migrations

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// copyBackup copies the backup to a new file beside path, readable by its owner
// only. What a killed restore left under that name is removed: the migration
// lock is held.
func copyBackup(ctx context.Context, backup, path string) (name string, err error) {
	info, err := os.Lstat(backup)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("backup %q is not a regular file", backup)
	}
	if store, err := os.Lstat(path); err == nil && os.SameFile(info, store) {
		return "", fmt.Errorf("backup %q is the store itself", backup)
	}
	name = path + ".restored" + partial
	removeDatabase(name)
	to, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("create the restored file: %w", explain(err))
	}
	if hasLog(backup) {
		err = errors.Join(to.Close(), copyWithLog(ctx, backup, name))
	} else {
		err = errors.Join(copyBytes(to, backup), to.Sync(), to.Close())
	}
	if err != nil {
		removeDatabase(name)
		return "", fmt.Errorf("copy backup %q: %w", backup, explain(err))
	}
	return name, nil
}

func copyBytes(to io.Writer, name string) error {
	from, err := os.Open(name)
	if err != nil {
		return err
	}
	defer from.Close()
	_, err = io.Copy(to, from)
	return err
}

// hasLog reports whether SQLite has something to read beside the database: it
// was not closed, or is in use.
func hasLog(path string) bool {
	for _, suffix := range []string{"-wal", "-journal"} {
		if info, err := os.Stat(path + suffix); err == nil && info.Size() > 0 {
			return true
		}
	}
	return false
}

// copyWithLog has SQLite copy a database with what is in its log. The database
// is not changed, so that one which has to be rolled back first is refused.
func copyWithLog(ctx context.Context, from, to string) error {
	db, err := openPath(from, "ro", lookTime)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, `VACUUM INTO ?`, to); err != nil {
		return fmt.Errorf("with the log beside it: %w", err)
	}
	return syncPath(to)
}

// removeDatabase removes a database file that nobody has open, with what SQLite
// keeps beside it.
func removeDatabase(path string) {
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		os.Remove(path + suffix)
	}
}
