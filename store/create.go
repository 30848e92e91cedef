package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"modernc.org/sqlite"

	"github.com/reseal/reseal/crypto"
	"github.com/reseal/reseal/migrations"
)

// Create makes a store in a new file with mode 0600, with one unseal slot for
// cred and the master key DefaultKeyName, and opens it. A path that exists is
// refused. The file appears whole or not at all.
func Create(ctx context.Context, path string, cred Credential, opts *Options) (*Store, error) {
	o, err := opts.filled()
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fmt.Errorf("%w: a file", ErrExists)
		}
		return nil, fmt.Errorf("create store %q: %w", path, err)
	}
	building := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".creating-"+crypto.NewID().String()[:8])
	defer removeFile(building)
	if err := createFile(ctx, building, cred, o); err != nil {
		return nil, fmt.Errorf("create store %q: %w", path, pathError(err))
	}
	if err := os.Link(building, path); err != nil {
		return nil, fmt.Errorf("create store %q: %w", path, err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return Open(ctx, path, cred, opts)
}

// removeFile removes a database file with what SQLite keeps beside it.
func removeFile(path string) {
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		os.Remove(path + suffix)
	}
}

// pathError gives an error of the file system the sentinel that callers test
// for.
func pathError(err error) error {
	switch {
	case hasSentinel(err):
		return err
	case errors.Is(err, fs.ErrPermission), isReadOnlyFS(err):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	case isNoSpace(err):
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return err
}

// createFile builds a whole store at path and closes it, so that it is one
// file.
func createFile(ctx context.Context, path string, cred Credential, o Options) error {
	if err := writePrivate(path, nil); err != nil {
		return err
	}
	useOFDLocks()
	settings := connProfile(o.BusyTimeout, true, false)
	db, err := openPool(path, 1, settings)
	if err != nil {
		return err
	}
	err = func() error {
		if err := checkProfile(ctx, db, settings); err != nil {
			return err
		}
		if _, err := migrations.Up(ctx, db, migrations.Options{Create: true, Logger: o.Logger}); err != nil {
			return schemaError(err)
		}
		s := &Store{db: db, opts: o, writeLock: make(chan struct{}, 1), done: make(chan struct{})}
		if err := s.initialise(ctx, cred); err != nil {
			return err
		}
		return emptyLog(ctx, db)
	}()
	return errors.Join(sqlError(err), db.Close())
}

// emptyLog moves the write-ahead log into the file, all of it. Closing would do
// so too, but says nothing when it fails, and the log does not come along when
// the file gets its name.
func emptyLog(ctx context.Context, db *sql.DB) error {
	var busy, pages, moved int64
	if err := db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved); err != nil {
		return err
	}
	if busy != 0 {
		return fmt.Errorf("%w: somebody has the new file open", ErrBusy)
	}
	return nil
}

// useOFDLocks makes SQLite's locks on database files survive another open and
// close of the same file in this process. It fails only when a database was
// opened before, by a host that owns that choice.
func useOFDLocks() { sqlite.OFDLocking(true) }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// initialise fills a fresh schema: root key, integrity key, slot, state row and
// the default master key, in one transaction.
func (s *Store) initialise(ctx context.Context, cred Credential) error {
	return s.exclusively(ctx, func(q querier) error {
		if _, err := loadState(ctx, q); !errors.Is(err, ErrNotAStore) {
			return errors.Join(err, fmt.Errorf("%w: the database has a store", ErrExists))
		}
		rootID, root := crypto.NewID(), crypto.NewKey()
		ring := newKeyring(crypto.NewID(), rootID, root, crypto.NewKey())
		defer ring.clear()
		s.keys = ring
		defer func() { s.keys = nil }()
		t := s.newTx(ctx, q)
		if err := t.insertRoot(rootID, root); err != nil {
			return err
		}
		sl, err := newSlot(slot{id: crypto.NewID(), rootID: rootID, createdAt: t.now}, cred, ring.storeID, root, s.opts.KDF)
		if err != nil {
			return err
		}
		if err := t.insertSlot(sl); err != nil {
			return err
		}
		if err := t.insertState(rootID); err != nil {
			return err
		}
		k, err := t.insertKey(DefaultKeyName)
		if err != nil {
			return err
		}
		t.state.defaultKey = sql.NullInt64{Int64: k.row, Valid: true}
		t.state.defaultID = k.id[:]
		t.audit(event{action: "init", key: DefaultKeyName, detail: map[string]any{"slot": sl.id.String(), "slot_kind": sl.kind, detailCounted: true}})
		return t.finish()
	})
}

// insertRoot writes a root key's row: the integrity key wrapped under it.
func (t *tx) insertRoot(id crypto.ID, root *crypto.Key) error {
	wrapped, err := root.Wrap(nil, t.s.keys.integrity, crypto.AppendIntegrityContext(nil, t.s.keys.storeID, id))
	if err != nil {
		return err
	}
	_, err = t.exec(`
		INSERT INTO reseal_root_keys (root_id, integrity_wrapped, created_at)
		VALUES (?, ?, ?)`, id[:], wrapped, t.now)
	return err
}

func (t *tx) insertState(rootID crypto.ID) error {
	ring := t.s.keys
	t.state = state{storeID: ring.storeID, rootID: rootID, auditHead: make([]byte, 32), createdAt: t.now}
	_, err := t.exec(`
		INSERT INTO reseal_state (id, store_id, root_id, generation, audit_count, audit_head, created_at, tag)
		VALUES (1, ?, ?, 0, 0, ?, ?, zeroblob(32))`,
		ring.storeID[:], rootID[:], t.state.auditHead, t.now)
	return err
}
