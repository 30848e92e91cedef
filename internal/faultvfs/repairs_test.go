package faultvfs_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/migrations"
	"github.com/reseal/reseal/store"
)

// repairs are the operations on a store that is damaged, or is to be replaced.
func repairs() []*operation {
	return []*operation{
		{name: "discard", spoil: `
			UPDATE reseal_secret_versions SET sealed = zeroblob(100)
			WHERE number = 2 AND secret = (SELECT id FROM reseal_secrets WHERE name = 'app/db')`,
			run: func(ctx ctxT, s st, _ string) error { return s.Discard(ctx, "app/db", 2) }},
		{name: "accept rows", spoil: `DELETE FROM reseal_tags WHERE key = 'team'`, run: func(ctx ctxT, s st, _ string) error { return s.AcceptRows(ctx) }},
		{name: "migrate restore", bare: true, from: storeAndBackup, run: func(ctx ctxT, _ st, folder string) error {
			return storetest.Err(migrations.Restore(ctx, filepath.Join(folder, fileName), filepath.Join(folder, backupName)))
		}},
	}
}

// spoiled returns the files of a store that somebody altered.
func spoiled(t testing.TB, base files, statement string) files {
	t.Helper()
	if statement == "" {
		return base
	}
	folder := base.in(t)
	defer os.RemoveAll(folder)
	db, err := sql.Open("sqlite", filepath.Join(folder, fileName))
	storetest.OK(t, err)
	res, err := db.Exec(statement)
	storetest.OK(t, err)
	n, err := res.RowsAffected()
	storetest.OK(t, errors.Join(err, db.Close()))
	if n != 1 {
		t.Fatalf("%d rows altered", n)
	}
	return readFiles(t, folder)
}

// storeAndBackup is a store and the backup of it as it was.
func storeAndBackup(t testing.TB) files {
	t.Helper()
	ctx := context.Background()
	folder := baseStore(t).in(t)
	defer os.RemoveAll(folder)
	s, err := openIn(ctx, folder)
	storetest.OK(t, err)
	storetest.OK(t, storetest.Err(s.Backup(ctx, filepath.Join(folder, backupName))))
	storetest.OK(t, storetest.Err(s.Put(ctx, "app/db", []byte("after the backup"), nil)))
	storetest.OK(t, s.Close())
	return readFiles(t, folder)
}

// dump is what dump tells, and of a damaged store also how much of it is.
func (o *operation) dump(ctx context.Context, s *store.Store) ([]string, error) {
	if o.spoil == "" {
		return dump(ctx, s)
	}
	lines, err := dumpAll(ctx, s, true)
	if err != nil {
		return nil, err
	}
	report, err := s.Verify(ctx, store.VerifyOptions{Deep: true})
	return append(lines, fmt.Sprintf("verify finds %d failures", len(report.Failures))), err
}

func (o *operation) checked(ctx context.Context, folder string) ([]string, error) {
	if o.spoil == "" {
		return checked(ctx, folder)
	}
	s, err := openIn(ctx, folder)
	if err != nil {
		return nil, fmt.Errorf("it does not open: %w", err)
	}
	defer s.Close()
	return o.dump(ctx, s)
}
