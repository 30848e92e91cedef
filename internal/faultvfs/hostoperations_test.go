package faultvfs_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// hostOperations are those of a program that has its own tables in the file.
func hostOperations() []*operation {
	return []*operation{
		{name: "host init", bare: true, from: func(t testing.TB) files { return hostFiles(t, false) }, run: func(ctx ctxT, _ st, folder string) error {
			return withHost(folder, func(db *sql.DB) error {
				s, err := store.Init(ctx, db, resealtest.Credential(), options(later))
				if err != nil {
					return err
				}
				return s.Close()
			})
		}},
		{name: "host put", bare: true, from: func(t testing.TB) files { return hostFiles(t, true) }, after: rowAndSecret, run: func(ctx ctxT, _ st, folder string) error {
			return besideRow(ctx, folder, func(s *store.Store, tx *sql.Tx) error {
				return storetest.Err(s.PutTx(ctx, tx, "account/two", []byte("two"), nil))
			})
		}},
		{name: "host update", bare: true, reads: true, from: func(t testing.TB) files { return hostFiles(t, true) }, after: allRowsOrNone, run: func(ctx ctxT, _ st, folder string) error {
			return updateRows(ctx, folder)
		}},
		{name: "host get", bare: true, reads: true, from: func(t testing.TB) files { return hostFiles(t, true) }, after: rowAndEvent, run: func(ctx ctxT, _ st, folder string) error {
			return besideRow(ctx, folder, func(s *store.Store, tx *sql.Tx) error {
				v, err := s.GetTx(ctx, tx, "account/one")
				if err == nil && string(v.Bytes()) != "account/one value 2" {
					err = errWrongValue
				}
				return err
			})
		}},
	}
}

func withHost(folder string, fn func(*sql.DB) error) error {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(folder, fileName)+"?_pragma=busy_timeout(20)&_pragma=synchronous(FULL)&_txlock=immediate")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(2)
	return errors.Join(fn(db), db.Close())
}

// hostFiles is a host's database, with a store in it or without.
func hostFiles(t testing.TB, initialized bool) files {
	t.Helper()
	ctx := context.Background()
	folder := files{}.in(t)
	defer os.RemoveAll(folder)
	storetest.OK(t, withHost(folder, func(db *sql.DB) error {
		for _, q := range []string{`PRAGMA journal_mode = WAL`, `CREATE TABLE accounts (name TEXT PRIMARY KEY) STRICT`} {
			if _, err := db.ExecContext(ctx, q); err != nil {
				return err
			}
		}
		if !initialized {
			return nil
		}
		s, err := store.Init(ctx, db, resealtest.Credential(), options(start))
		if err != nil {
			return err
		}
		return errors.Join(putMany(ctx, s, "account/one", "", 2), s.Close())
	}))
	return readFiles(t, folder)
}

// besideRow writes a row and does something with the store, which keeps events of
// what is read too, in one transaction.
func besideRow(ctx context.Context, folder string, fn func(*store.Store, *sql.Tx) error) error {
	return withHost(folder, func(db *sql.DB) error {
		o := options(later)
		o.AuditReads = true
		s, err := store.New(ctx, db, resealtest.Credential(), o)
		if err != nil {
			return err
		}
		defer s.Close()
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(ctx, `INSERT INTO accounts VALUES ('two')`); err != nil {
			return err
		}
		if err := fn(s, tx); err != nil {
			return err
		}
		return tx.Commit()
	})
}

// rowAndSecret: both are there or neither is.
func rowAndSecret(t testing.TB, folder string, _ error) error {
	t.Helper()
	ctx := context.Background()
	return withHost(folder, func(db *sql.DB) error {
		var rows int
		if err := db.QueryRowContext(ctx, `SELECT count(*) FROM accounts`).Scan(&rows); err != nil {
			return err
		}
		s, err := store.New(ctx, db, resealtest.Credential(), options(later))
		if err != nil {
			return err
		}
		defer s.Close()
		list, err := s.List(ctx, store.ListOptions{})
		if err == nil && len(list) != rows+1 {
			err = fmt.Errorf("%d rows and %d secrets", rows, len(list))
		}
		return err
	})
}

// rowAndEvent: both are there or neither is. Where the disk could not be read
// SQLite has ended the transaction, and nothing may go on as if it had not.
func rowAndEvent(t testing.TB, folder string, _ error) error {
	t.Helper()
	ctx := context.Background()
	return withHost(folder, func(db *sql.DB) error {
		var rows, events int
		err := db.QueryRowContext(ctx, `
			SELECT
				(SELECT count(*) FROM accounts),
				(SELECT count(*) FROM reseal_audit_events WHERE action = 'get')`).Scan(&rows, &events)
		if err == nil && rows != events {
			err = fmt.Errorf("%d rows and %d events", rows, events)
		}
		return err
	})
}

// updateRows writes two rows in one transaction of the store's own, which finds
// another schema than the one it was opened with.
func updateRows(ctx context.Context, folder string) error {
	s, err := openIn(ctx, folder)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := withHost(folder, func(db *sql.DB) error {
		_, err := db.ExecContext(ctx, `CREATE TABLE others (name TEXT) STRICT`)
		return err
	}); err != nil {
		return err
	}
	return s.Update(ctx, func(tx *sql.Tx) error {
		for _, name := range []string{"two", "three"} {
			if _, err := tx.ExecContext(ctx, `INSERT INTO accounts VALUES (?)`, name); err != nil {
				return err
			}
		}
		return nil
	})
}

func allRowsOrNone(t testing.TB, folder string, err error) error {
	t.Helper()
	return withHost(folder, func(db *sql.DB) error {
		var rows int
		qerr := db.QueryRowContext(context.Background(), `SELECT count(*) FROM accounts`).Scan(&rows)
		if qerr == nil && rows != 2 && (rows != 0 || err == nil) || err != nil && strings.Contains(err.Error(), "no transaction is active") {
			qerr = fmt.Errorf("%d rows", rows)
		}
		return qerr
	})
}
