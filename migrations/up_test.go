package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestUpCreatesTheNewestSchemaOnce(t *testing.T) {
	path, db := newFile(t)
	first, err := Up(t.Context(), db, Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Result{From: 0, To: Latest(), Ran: builtin.migrations}, first); diff != "" {
		t.Errorf("first Up (-want +got):\n%s", diff)
	}
	if err := CheckSchema(t.Context(), db); err != nil {
		t.Error(err)
	}
	db.Close()
	before := fileSum(t, path)
	db = open(t, path)
	second, err := Up(t.Context(), db, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Result{From: Latest(), To: Latest()}, second); diff != "" {
		t.Errorf("second Up (-want +got):\n%s", diff)
	}
	db.Close()
	if diff := cmp.Diff(before, fileSum(t, path)); diff != "" {
		t.Errorf("an Up with nothing to do changed files (-want +got):\n%s", diff)
	}
}

func TestStatusListsAppliedAndPending(t *testing.T) {
	_, db := newFile(t)
	s, err := Status(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(State{Latest: Latest(), Pending: builtin.migrations}, s); diff != "" {
		t.Errorf("status of an empty file (-want +got):\n%s", diff)
	}
	start := time.Now().Add(-2 * time.Second)
	if _, err := Up(t.Context(), db, Options{Create: true}); err != nil {
		t.Fatal(err)
	}
	s, err = Status(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	for i := range s.Applied {
		if s.Applied[i].At.Before(start) || s.Applied[i].At.After(time.Now()) {
			t.Errorf("version %d applied at %v", s.Applied[i].Version, s.Applied[i].At)
		}
		s.Applied[i].At = time.Time{}
	}
	var applied []Applied
	for _, m := range builtin.migrations {
		applied = append(applied, Applied{Version: m.Version, Name: m.Name, SHA256: m.SHA256})
	}
	if diff := cmp.Diff(State{Created: true, Version: Latest(), Latest: Latest(), Applied: applied}, s); diff != "" {
		t.Errorf("status of a store (-want +got):\n%s", diff)
	}
}

const addColumn = `-- +goose Up
ALTER TABLE reseal_tags ADD COLUMN note TEXT NOT NULL DEFAULT '';
-- +goose Down
ALTER TABLE reseal_tags DROP COLUMN note;
`

func TestUpgradeBacksUpBeforeItChanges(t *testing.T) {
	path, db := newFilledStore(t, "_pragma=foreign_keys(1)", "_pragma=journal_mode(WAL)", "_pragma=secure_delete(FAST)")
	h := extended(t, map[string]string{nextFile("note"): addColumn})
	had := settings(t, db)
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	write(t, fmt.Sprintf("%s.schema-%d-20300102T030405Z.backup", path, Latest()), "in the way")
	r, err := h.move(t.Context(), db, course{to: h.latest(), up: true}, Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	want := Result{From: Latest(), To: h.latest(), Backup: fmt.Sprintf("%s.schema-%d-20300102T030405Z-2.backup", path, Latest()), Ran: h.migrations[Latest():]}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(had, settings(t, db)); diff != "" {
		t.Errorf("connection settings (-want +got):\n%s", diff)
	}
	if err := h.checkSchema(t.Context(), db); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(r.Backup)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("backup has mode %v, want 0600", info.Mode())
	}
	old := open(t, r.Backup, "mode=ro")
	if err := CheckSchema(t.Context(), old); err != nil {
		t.Errorf("backup: %v", err)
	}
	if n := queryInt(t, old, `SELECT count(*) FROM reseal_data_keys`); n != 3 {
		t.Errorf("backup has %d data keys, want 3", n)
	}
	if _, err := os.Lstat(path + lockSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("lock file: %v, want none", err)
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	path, db := newFilledStore(t)
	h := extended(t, map[string]string{nextFile("note"): addColumn})
	db.Close()
	before := fileSum(t, path)
	db = open(t, path)
	r, err := h.move(t.Context(), db, course{to: h.latest(), up: true}, Options{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Result{From: Latest(), To: h.latest(), Ran: h.migrations[Latest():]}, r); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	db.Close()
	if diff := cmp.Diff(before, fileSum(t, path)); diff != "" {
		t.Errorf("the file changed (-want +got):\n%s", diff)
	}
}

// TestFailedMigrationLeavesTheFileAsItWas has two migrations, of which the
// first succeeds: they are one transaction.
func TestFailedMigrationLeavesTheFileAsItWas(t *testing.T) {
	for name, second := range map[string]string{
		"bad statement": "-- +goose Up\nCREATE TABLE reseal_more (a INTEGER) STRICT;\nINSERT INTO nowhere VALUES (1);\n-- +goose Down\nDROP TABLE reseal_more;\n",
		"dangling reference": "-- +goose Up\nCREATE TABLE reseal_more (a INTEGER REFERENCES reseal_secrets (id)) STRICT;\nINSERT INTO reseal_more VALUES (99);\n" +
			"-- +goose Down\nDROP TABLE reseal_more;\n",
		"foreign object": "-- +goose Up\nCREATE VIEW spy AS SELECT * FROM reseal_secrets;\n-- +goose Down\nDROP VIEW spy;\n",
	} {
		t.Run(name, func(t *testing.T) {
			path, db := newFilledStore(t, "_pragma=foreign_keys(1)")
			h := extended(t, map[string]string{nextFile("note"): addColumn, fileAfterNext("more"): second})
			had := settings(t, db)
			schema := queryText(t, db, `SELECT group_concat(sql) FROM sqlite_schema`)
			r, err := h.move(t.Context(), db, course{to: h.latest(), up: true}, Options{})
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(Result{From: Latest(), To: Latest()}, r); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(had, settings(t, db)); diff != "" {
				t.Errorf("connection settings (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(schema, queryText(t, db, `SELECT group_concat(sql) FROM sqlite_schema`)); diff != "" {
				t.Errorf("schema (-want +got):\n%s", diff)
			}
			if err := CheckSchema(t.Context(), db); err != nil {
				t.Error(err)
			}
			if names, _ := filepath.Glob(path + ".*"); len(names) > 0 {
				t.Errorf("left behind: %v", names)
			}
			mustExec(t, db, `UPDATE reseal_state SET generation = generation + 1`)
		})
	}
}

// TestRebuildDeletesNoRowsOfOthers rebuilds a table that is referred to with
// ON DELETE CASCADE, on a connection that enforces foreign keys.
func TestRebuildDeletesNoRowsOfOthers(t *testing.T) {
	_, db := newStore(t, "_pragma=foreign_keys(1)")
	h := extended(t, map[string]string{
		nextFile("parent"): "-- +goose Up\nCREATE TABLE reseal_parent (id INTEGER PRIMARY KEY) STRICT;\n" +
			"CREATE TABLE reseal_child (parent INTEGER REFERENCES reseal_parent (id) ON DELETE CASCADE) STRICT;\n" +
			"INSERT INTO reseal_parent VALUES (1);\nINSERT INTO reseal_child VALUES (1);\n-- +goose Down\nDROP TABLE reseal_child;\nDROP TABLE reseal_parent;\n",
		fileAfterNext("rebuild"): "-- +goose Up\nCREATE TABLE reseal_new (id INTEGER PRIMARY KEY, more TEXT) STRICT;\nINSERT INTO reseal_new SELECT id, '' FROM reseal_parent;\n" +
			"DROP TABLE reseal_parent;\nALTER TABLE reseal_new RENAME TO reseal_parent;\n-- +goose Down\nALTER TABLE reseal_parent DROP COLUMN more;\n",
	})
	if _, err := h.move(t.Context(), db, course{to: h.latest(), up: true}, Options{NoBackup: true}); err != nil {
		t.Fatal(err)
	}
	if n := queryInt(t, db, `SELECT count(*) FROM reseal_child`); n != 1 {
		t.Errorf("%d child rows are left, want 1", n)
	}
	if n := queryInt(t, db, `PRAGMA foreign_keys`); n != 1 {
		t.Error("foreign keys were left off")
	}
}

func TestUpWaitsForTheLockNoLongerThanItMay(t *testing.T) {
	path, db := newFile(t)
	unlock, err := lock(t.Context(), path, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Up(t.Context(), db, Options{Create: true, Wait: 30 * time.Millisecond}); !errors.Is(err, ErrBusy) {
		t.Errorf("error %v, want ErrBusy", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := Up(ctx, db, Options{Create: true}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the context's", err)
	}
	unlock()
	if _, err := Up(t.Context(), db, Options{Create: true, Wait: time.Second}); err != nil {
		t.Errorf("after the lock was released: %v", err)
	}
}

func TestUpWaitsForAWriter(t *testing.T) {
	path, db := newStore(t)
	h := extended(t, map[string]string{nextFile("note"): addColumn})
	other := open(t, path, "_txlock=immediate")
	tx, err := other.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.move(t.Context(), db, course{to: h.latest(), up: true}, Options{Wait: 50 * time.Millisecond}); !errors.Is(err, ErrBusy) {
		t.Errorf("error %v, want ErrBusy", err)
	}
	if names, _ := filepath.Glob(path + ".*"); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
	go func() {
		time.Sleep(50 * time.Millisecond)
		tx.Rollback()
	}()
	if _, err := h.move(t.Context(), db, course{to: h.latest(), up: true}, Options{}); err != nil {
		t.Error(err)
	}
}

// TestBackupHasEveryCommittedRow writes between the copy and the
// transaction: the time for the backup's name is asked just before the copy.
func TestBackupHasEveryCommittedRow(t *testing.T) {
	path, db := newFilledStore(t, "_pragma=journal_mode(WAL)")
	h := extended(t, map[string]string{nextFile("note"): addColumn})
	other := open(t, path)
	left := 2
	opts := Options{Now: func() time.Time {
		if left > 0 {
			left--
			mustExec(t, other, `INSERT INTO reseal_tags (secret, key, value) VALUES (1, ?, '')`, string(rune('a'+left)))
		}
		return time.Now()
	}}
	r, err := h.move(t.Context(), db, course{to: h.latest(), up: true}, opts)
	if err != nil {
		t.Fatal(err)
	}
	old := open(t, r.Backup, "mode=ro")
	if n := queryInt(t, old, `SELECT count(*) FROM reseal_tags`); n != 2 {
		t.Errorf("backup has %d of the 2 rows that were there", n)
	}
	if names, _ := filepath.Glob(path + ".schema-*"); len(names) != 1 {
		t.Errorf("backups: %v, want one", names)
	}
	left = 1000
	h3 := extended(t, map[string]string{nextFile("note"): addColumn, fileAfterNext("more"): strings.ReplaceAll(addColumn, "note", "more")})
	mustExec(t, other, `DELETE FROM reseal_tags`)
	if _, err := h3.move(t.Context(), db, course{to: h3.latest(), up: true}, opts); !errors.Is(err, errMoved) {
		t.Errorf("with a writer that never stops: error %v, want %v", err, errMoved)
	}
	if names, _ := filepath.Glob(path + ".schema-*"); len(names) != 1 {
		t.Errorf("backups: %v, want one", names)
	}
}

func TestInMemoryStoreIsMigratedWithoutBackup(t *testing.T) {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := Up(t.Context(), db, Options{Create: true}); err != nil {
		t.Fatal(err)
	}
	h := extended(t, map[string]string{nextFile("note"): addColumn})
	r, err := h.move(t.Context(), db, course{to: h.latest(), up: true}, Options{})
	if err != nil || r.Backup != "" || r.To != h.latest() {
		t.Errorf("result %+v, error %v", r, err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
