package migrations

import (
	"database/sql"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/pressly/goose/v3"
)

// TestStoreLivesBesideAHostsOwnGoose has a host with one connection, whose own
// migrations run before and after reseal's.
func TestStoreLivesBesideAHostsOwnGoose(t *testing.T) {
	_, db := newFile(t, "_pragma=foreign_keys(1)", "_pragma=journal_mode(WAL)")
	db.SetMaxOpenConns(1)
	hostUp(t, db, 1)
	had := settings(t, db)
	mustExec(t, db, `CREATE TEMP TABLE mine (a); INSERT INTO mine VALUES (1)`)

	if _, err := Up(t.Context(), db, Options{Create: true}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(had, settings(t, db)); diff != "" {
		t.Errorf("connection settings (-want +got):\n%s", diff)
	}
	if n := queryInt(t, db, `SELECT count(*) FROM temp.mine`); n != 1 {
		t.Error("the host's temporary table is gone")
	}
	hostUp(t, db, 2)
	if err := CheckSchema(t.Context(), db); err != nil {
		t.Error(err)
	}
	if n := queryInt(t, db, `SELECT max(version_id) FROM goose_db_version`); n != 2 {
		t.Errorf("the host's version is %d, want 2", n)
	}
	if n := queryInt(t, db, `SELECT count(*) FROM users`); n != 2 {
		t.Errorf("the host has %d rows, want 2", n)
	}
	rows := queryInt(t, db, `SELECT count(*) FROM reseal_secrets`)
	if _, err := Down(t.Context(), db, 0, Options{NoBackup: true, DestroyRows: rows}); err != nil {
		t.Fatal(err)
	}
	if n := queryInt(t, db, `SELECT count(*) FROM sqlite_schema WHERE name LIKE 'reseal%'`); n != 0 {
		t.Errorf("%d reseal objects are left", n)
	}
	if n := queryInt(t, db, `SELECT count(*) FROM users`); n != 2 {
		t.Errorf("the host has %d rows after Down, want 2", n)
	}
}

// hostUp runs the host's migrations as hosts do.
func hostUp(t *testing.T, db *sql.DB, version int64) {
	t.Helper()
	p, err := goose.NewProvider(goose.DialectSQLite3, db, fstest.MapFS{
		"00001_users.sql": {Data: []byte("-- +goose Up\nCREATE TABLE users (name TEXT);\nINSERT INTO users VALUES ('a');\n-- +goose Down\nDROP TABLE users;\n")},
		"00002_more.sql":  {Data: []byte("-- +goose Up\nINSERT INTO users VALUES ('b');\n-- +goose Down\nDELETE FROM users;\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
}

func TestGoroutinesMigrateOneDatabaseAtOnce(t *testing.T) {
	path, db := newFile(t)
	var wg sync.WaitGroup
	for i := range 8 {
		own := db
		if i%2 == 0 {
			own = open(t, path)
		}
		wg.Go(func() {
			if _, err := Up(t.Context(), own, Options{Create: true}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := CheckSchema(t.Context(), db); err != nil {
		t.Error(err)
	}
}

// TestLostTransactionIsNotCommittedInPieces ends the transaction under goose,
// as SQLite does when the disk is full: a savepoint must not become one.
func TestLostTransactionIsNotCommittedInPieces(t *testing.T) {
	_, db := newFile(t)
	err := borrow(t.Context(), db, func(one *sql.DB) error {
		return inTransaction(t.Context(), one, false, func() error {
			if _, err := one.Exec(`ROLLBACK`); err != nil {
				return err
			}
			tx, err := one.Begin()
			if err != nil {
				return err
			}
			if _, err := tx.Exec(`CREATE TABLE t (a)`); err != nil {
				return err
			}
			return tx.Commit()
		})
	})
	if err == nil {
		t.Error("no error")
	}
	if n := queryInt(t, db, `SELECT count(*) FROM sqlite_schema`); n != 0 {
		t.Error("a piece of the migration was committed")
	}
}
