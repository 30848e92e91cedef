package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/reseal/reseal/crypto"
	"github.com/reseal/reseal/migrations"
)

// BackupInfo is a copy of the store that Backup made.
type BackupInfo struct {
	Path      string // absolute
	CreatedAt time.Time
	Bytes     int64       // the copy's size; 0 in what Backups returns
	Keys      []BackupKey // what the copy's data keys are wrapped by, by name and version
}

// BackupKey is a master key version that a backup needs.
type BackupKey struct {
	Key     string
	Version uint64
}

// Backup copies the store as it is now to a new file with mode 0600, compares the
// copy with the store, and records it with the master key versions that it needs:
// Key and Dependents list them. A path that exists is refused. The copy appears
// whole or not at all; readers and writers go on meanwhile.
//
// The copy is a store like this one. It opens with the unseal slots of today,
// whatever becomes of slots, root key and master keys here, so that destroying a
// master key does not reach what it holds. In a host's database it holds the
// host's own tables too.
//
// A crash at the very end can leave the record of a copy that did not appear;
// never a copy without a record.
//
// Errors: ErrExists, ErrInvalid, ErrReadOnly, ErrDiskFull, ErrDamaged, ErrIO.
func (s *Store) Backup(ctx context.Context, path string) (BackupInfo, error) {
	info, err := s.backup(ctx, path)
	if err != nil {
		return BackupInfo{}, fmt.Errorf("backup to %q: %w", path, pathError(sqlError(err)))
	}
	return info, nil
}

func (s *Store) backup(ctx context.Context, path string) (BackupInfo, error) {
	path, err := newBackupPath(path)
	if err := firstError(s.needUnsealed(), err); err != nil {
		return BackupInfo{}, err
	}
	building := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".copying-"+crypto.NewID().String()[:8])
	defer removeFile(building)
	if err := s.copyTo(ctx, building); err != nil {
		return BackupInfo{}, err
	}
	c, err := s.inspectCopy(ctx, building)
	if err = firstError(err, s.compareCopy(ctx, building)); err != nil {
		return BackupInfo{}, fmt.Errorf("check the copy: %w", err)
	}
	if c.info.Bytes, err = syncFile(building); err != nil {
		return BackupInfo{}, err
	}
	c.info.Path = path
	if err := s.write(ctx, func(t *tx) error { return t.recordBackup(c) }); err != nil {
		return BackupInfo{}, err
	}
	if err := publish(building, path); err != nil {
		return BackupInfo{}, errors.Join(err, s.write(context.WithoutCancel(ctx), func(t *tx) error { return t.forgetBackup(c) }))
	}
	return c.info, syncDir(filepath.Dir(path))
}

// newBackupPath returns the path, absolute, if nothing is there.
func newBackupPath(path string) (string, error) {
	if path == "" || !plainText(path) {
		return "", invalid("a backup's path is text, without control characters")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	_, err = os.Lstat(path)
	switch {
	case err == nil:
		return "", fmt.Errorf("%w: a file", ErrExists)
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	return path, nil
}

// copyTo copies the database to a new file, from one snapshot of it. On a
// connection of its own, so that it holds up nobody.
func (s *Store) copyTo(ctx context.Context, path string) error {
	if s.closed.Load() {
		return ErrClosed
	}
	if err := writePrivate(path, nil); err != nil { // SQLite would make it 0644
		return err
	}
	conn, release, err := s.aside(ctx)
	if err != nil {
		return err
	}
	defer release()
	_, err = conn.ExecContext(ctx, `VACUUM main INTO ?`, path)
	return err
}

// aside returns a connection that nobody else uses meanwhile.
func (s *Store) aside(ctx context.Context) (conn *sql.Conn, release func(), err error) {
	db := s.db
	if s.own {
		if db, err = openPool(s.path, 1, connProfile(s.opts.BusyTimeout, false, false)); err != nil {
			return nil, nil, err
		}
	}
	conn, err = db.Conn(ctx)
	release = func() {
		if conn != nil {
			conn.Close()
		}
		if s.own {
			db.Close()
		}
	}
	if err != nil {
		release()
	}
	return conn, release, err
}

// compareCopy reads what takes more than one page, which is where SQLite notices
// nothing if a page was misread: the sealed values and the audit events. What was
// reencrypted meanwhile may be another.
func (s *Store) compareCopy(ctx context.Context, path string) error {
	conn, release, err := s.aside(ctx)
	if err != nil {
		return err
	}
	defer release()
	// Not cancelled: it waits for nothing, and a host's connection to which the copy
	// was attached just before that was reported would keep it.
	if _, err := conn.ExecContext(context.WithoutCancel(ctx), `ATTACH ? AS reseal_copy`, path); err != nil {
		return err
	}
	defer func() {
		if _, err := conn.ExecContext(context.WithoutCancel(ctx), `DETACH reseal_copy`); err != nil {
			discard(conn)
		}
	}()
	var others int64
	err = conn.QueryRowContext(ctx, `
		SELECT
			(SELECT count(*)
			FROM reseal_copy.reseal_secret_versions AS c
			CROSS JOIN main.reseal_secret_versions AS v ON v.id = c.id AND v.sealed <> c.sealed
			CROSS JOIN reseal_copy.reseal_data_keys AS cd ON cd.id = c.id
			CROSS JOIN main.reseal_data_keys AS d ON d.id = c.id
			WHERE v.version_id = c.version_id AND d.made_at = cd.made_at)
			+
			(SELECT count(*)
			FROM reseal_copy.reseal_audit_events AS c
			CROSS JOIN main.reseal_audit_events AS e ON e.seq = c.seq
			WHERE e.detail <> c.detail OR e.mac <> c.mac)`).Scan(&others)
	if err == nil && others > 0 {
		err = fmt.Errorf("%w: %d values or events in it are not as they are in the store", ErrIO, others)
	}
	return err
}

// backupCopy is what a copy was found to hold.
type backupCopy struct {
	info BackupInfo
	rows []int64 // of the master key versions
	row  int64   // of its record
}

// inspectCopy opens the copy as what it should be, this store, and reads from
// its wraps which keys it needs.
func (s *Store) inspectCopy(ctx context.Context, path string) (*backupCopy, error) {
	db, err := openPool(path, 1, []profile{{name: "query_only", value: "1"}, {name: "trusted_schema", value: "0"}, {name: "cell_size_check", value: "1"}})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	if err := migrations.CheckSchema(ctx, db); err != nil {
		return nil, schemaError(err)
	}
	verdict, err := pragma(ctx, db, "quick_check(1)")
	if err != nil {
		return nil, err
	}
	if verdict != "ok" {
		return nil, pageError(verdict)
	}
	st, err := loadState(ctx, db)
	if err != nil {
		return nil, err
	}
	if err := s.keys.checkState(&st); err != nil {
		return nil, err
	}
	return neededKeys(ctx, db)
}

func neededKeys(ctx context.Context, q querier) (*backupCopy, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT kv.id, k.name, kv.number
		FROM (SELECT DISTINCT master_key_version AS id FROM reseal_data_keys) AS d
		JOIN reseal_master_key_versions AS kv ON kv.id = d.id
		JOIN reseal_master_keys AS k ON k.id = kv.master_key
		ORDER BY k.name, kv.number`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	c := &backupCopy{}
	for rows.Next() {
		var row int64
		var k BackupKey
		if err := rows.Scan(&row, &k.Key, &k.Version); err != nil {
			return nil, err
		}
		c.rows = append(c.rows, row)
		c.info.Keys = append(c.info.Keys, k)
	}
	return c, rows.Err()
}

// syncFile makes a file durable and returns its size. It is not for a database
// that this process has open.
func syncFile(path string) (size int64, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err == nil {
		size = info.Size()
	}
	return size, errors.Join(err, f.Sync(), f.Close())
}

// publish gives a finished file its name, if nothing has that name.
func publish(building, path string) error {
	err := os.Link(building, path)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: a file", ErrExists)
	}
	return err
}

// recordBackup writes the record of a copy that is whole and about to get its
// name.
func (t *tx) recordBackup(c *backupCopy) error {
	c.info.CreatedAt = t.time()
	res, err := t.exec(`
		INSERT INTO reseal_backups (path, created_at)
		VALUES (?, ?)`, c.info.Path, t.now)
	if err != nil {
		return err
	}
	if c.row, err = res.LastInsertId(); err != nil {
		return err
	}
	for _, row := range c.rows {
		if _, err := t.exec(`
			INSERT INTO reseal_backup_keys (backup, master_key_version)
			VALUES (?, ?)`, c.row, row); err != nil {
			return err
		}
	}
	t.audit(event{action: "backup", detail: map[string]any{"path": c.info.Path, "bytes": c.info.Bytes, "keys": c.info.keyNames()}})
	return nil
}

func (b *BackupInfo) keyNames() []string {
	names := []string{}
	for _, k := range b.Keys {
		names = append(names, fmt.Sprintf("%s version %d", k.Key, k.Version))
	}
	return names
}

// forgetBackup takes a record back whose copy could not get its name.
func (t *tx) forgetBackup(c *backupCopy) error {
	if _, err := t.exec(`DELETE FROM reseal_backup_keys WHERE backup = ?`, c.row); err != nil {
		return err
	}
	t.audit(event{action: "backup-failed", detail: map[string]any{"path": c.info.Path}})
	return t.execOne(`DELETE FROM reseal_backups WHERE id = ?`, c.row)
}

// Backups returns the copies that Backup has made, oldest first, as recorded:
// whether they still exist is not known. A sealed store gives them too.
func (s *Store) Backups(ctx context.Context) ([]BackupInfo, error) {
	var out []BackupInfo
	err := s.read(ctx, func(q querier) error {
		rows, err := q.QueryContext(ctx, `
			SELECT b.id, b.path, b.created_at, COALESCE(k.name, ''), COALESCE(kv.number, 0)
			FROM reseal_backups AS b
			LEFT JOIN reseal_backup_keys AS bk ON bk.backup = b.id
			LEFT JOIN reseal_master_key_versions AS kv ON kv.id = bk.master_key_version
			LEFT JOIN reseal_master_keys AS k ON k.id = kv.master_key
			ORDER BY b.id, k.name, kv.number`)
		if err != nil {
			return err
		}
		out, err = scanBackups(rows)
		return err
	})
	return out, err
}

// scanBackups gathers rows, one a key, into backups.
func scanBackups(rows *sql.Rows) ([]BackupInfo, error) {
	defer rows.Close()
	var out []BackupInfo
	var last int64
	for rows.Next() {
		var row, at int64
		var b BackupInfo
		var k BackupKey
		if err := rows.Scan(&row, &b.Path, &at, &k.Key, &k.Version); err != nil {
			return nil, err
		}
		if len(out) == 0 || row != last {
			b.CreatedAt = fromMillis(at)
			out, last = append(out, b), row
		}
		if k.Key != "" {
			out[len(out)-1].Keys = append(out[len(out)-1].Keys, k)
		}
	}
	return out, rows.Err()
}
