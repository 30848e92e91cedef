package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// partial is added to a backup's name until it is whole, checked and durable.
const partial = ".partial"

// backup copies the database to a new file beside it, readable by its owner
// only, checks the copy and makes it durable.
func backup(ctx context.Context, one *sql.DB, path string, version int64, now time.Time) (name string, err error) {
	name, err = createBackup(path, version, now)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			discard(name + partial)
			name = ""
		}
	}()
	if _, err := one.ExecContext(ctx, `VACUUM main INTO ?`, name+partial); err != nil {
		return name, fmt.Errorf("copy the database to %q: %w", name, err)
	}
	if err := syncPath(name + partial); err != nil {
		return name, err
	}
	if err := checkBackup(ctx, one, name+partial, version); err != nil {
		return name, err
	}
	if err := os.Rename(name+partial, name); err != nil {
		return name, fmt.Errorf("name the backup: %w", explain(err))
	}
	return name, syncFolder(name)
}

// createBackup finds a name, after the version and the time, and creates the
// empty file that will have it. The migration lock keeps others away from both.
func createBackup(path string, version int64, now time.Time) (string, error) {
	removePartial(path)
	base := fmt.Sprintf("%s.schema-%d-%s", path, version, now.UTC().Format("20060102T150405Z"))
	for i := 1; i <= 100; i++ {
		name := base + ".backup"
		if i > 1 {
			name = fmt.Sprintf("%s-%d.backup", base, i)
		}
		if _, err := os.Lstat(name); err == nil {
			continue
		}
		f, err := os.OpenFile(name+partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			_ = giveOwner(name+partial, path) // or it is this user's
			return name, f.Close()
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("create backup: %w", explain(err))
		}
	}
	return "", fmt.Errorf("create backup: %q and 99 more exist", base+".backup")
}

// removePartial removes what killed processes left of their backups: it holds
// the wraps and values of its day, and nobody knows of it.
func removePartial(path string) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(path)+".schema-") && strings.HasSuffix(e.Name(), ".backup"+partial) {
			os.Remove(filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
}

// checkBackup reads the whole copy through the connection that made it, so
// that a host's own file system layer is used for it too.
func checkBackup(ctx context.Context, one *sql.DB, name string, version int64) (err error) {
	if _, err := one.ExecContext(ctx, `ATTACH ? AS reseal_backup`, name); err != nil {
		return fmt.Errorf("open backup %q: %w", name, err)
	}
	defer func() {
		_, derr := one.ExecContext(context.WithoutCancel(ctx), `DETACH reseal_backup`)
		err = errors.Join(err, derr)
	}()
	var verdict string
	if err := one.QueryRowContext(ctx, `PRAGMA reseal_backup.integrity_check(1)`).Scan(&verdict); err != nil {
		return fmt.Errorf("check backup %q: %w", name, err)
	}
	if verdict != "ok" {
		return fmt.Errorf("check backup %q: %s", name, verdict)
	}
	var got int64
	if err := one.QueryRowContext(ctx, `SELECT max(version_id) FROM reseal_backup.`+Table).Scan(&got); err != nil {
		return fmt.Errorf("check backup %q: %w", name, err)
	}
	if got != version {
		return fmt.Errorf("check backup %q: it has schema version %d, not %d", name, got, version)
	}
	return nil
}

// discard removes a backup of a file that did not change, and returns "".
func discard(name string) string {
	if name != "" {
		os.Remove(name)
		os.Remove(name + "-journal") // of a copy whose disk failed
	}
	return ""
}

// syncPath makes a file's bytes durable. It is not for a database that this
// process has open.
func syncPath(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("sync %q: %w", name, err)
	}
	err = f.Sync()
	return errors.Join(err, f.Close())
}

// syncFolder makes a file's name durable. Windows does so by itself.
func syncFolder(name string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(filepath.Dir(name))
	if err != nil {
		return fmt.Errorf("sync the folder of %q: %w", name, err)
	}
	err = f.Sync()
	return errors.Join(err, f.Close())
}
