package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"modernc.org/sqlite"
)

// open opens an SQLite file with the driver's defaults, which are the weakest
// that a host can have: no busy timeout, foreign keys and recursive triggers off.
func open(t testing.TB, path string, query ...string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?"+strings.Join(query, "&"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// newFile returns the path of a new file and a database on it.
func newFile(t testing.TB, query ...string) (string, *sql.DB) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.db")
	return path, open(t, path, query...)
}

// newStore returns an empty store on one connection.
func newStore(t testing.TB, query ...string) (string, *sql.DB) {
	t.Helper()
	path, db := newFile(t, query...)
	db.SetMaxOpenConns(1)
	if _, err := Up(t.Context(), db, Options{Create: true}); err != nil {
		t.Fatal(err)
	}
	return path, db
}

func mustExec(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(context.Background(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func queryInt(t testing.TB, db *sql.DB, query string) (n int64) {
	t.Helper()
	if err := db.QueryRowContext(context.Background(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func queryText(t testing.TB, db *sql.DB, query string) (s string) {
	t.Helper()
	if err := db.QueryRowContext(context.Background(), query).Scan(&s); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return s
}

// code returns SQLite's extended code of an error, 0 if there is none.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

// fixture has a root key in use and one on its way in, three master keys in
// use or free and a destroyed one, and two secrets with three versions.
const fixture = `
INSERT INTO reseal_root_keys VALUES
	(1, x'01010101010101010101010101010101', zeroblob(108), 1),
	(2, x'02020202020202020202020202020202', zeroblob(108), 1);
INSERT INTO reseal_unseal_slots VALUES
	(1, x'11111111111111111111111111111111', x'01010101010101010101010101010101', 'key-file', '', '', 0, 0, 0, zeroblob(0), zeroblob(108), 1),
	(2, x'22222222222222222222222222222222', x'02020202020202020202020202020202', 'key-file', '', '', 0, 0, 0, zeroblob(0), zeroblob(108), 1);
INSERT INTO reseal_master_keys VALUES
	(1, x'a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1', 'mk-1', 'enabled', 2, NULL, 1, zeroblob(32)),
	(2, x'a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2', 'mk-2', 'enabled', 1, NULL, 1, zeroblob(32)),
	(3, x'a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3', 'mk-3', 'destroyed', 1, NULL, 1, zeroblob(32)),
	(4, x'a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4', 'mk-4', 'enabled', 1, NULL, 1, zeroblob(32));
INSERT INTO reseal_master_key_versions VALUES
	(1, 1, 1, 1, NULL), (2, 1, 2, 1, NULL), (3, 2, 1, 1, NULL), (4, 3, 1, 1, 9), (5, 4, 1, 1, NULL);
INSERT INTO reseal_master_key_wraps VALUES
	(1, 1, x'01010101010101010101010101010101', zeroblob(108)),
	(2, 2, x'01010101010101010101010101010101', zeroblob(108)),
	(3, 3, x'01010101010101010101010101010101', zeroblob(108)),
	(5, 5, x'01010101010101010101010101010101', zeroblob(108));
INSERT INTO reseal_state (id, store_id, root_id, next_root_id, default_key, generation, audit_count, audit_head, created_at, tag) VALUES
	(1, zeroblob(16), x'01010101010101010101010101010101', x'02020202020202020202020202020202', 2, 5, 2, zeroblob(32), 1, zeroblob(32));
INSERT INTO reseal_secrets VALUES
	(1, x'51515151515151515151515151515151', 'app/one', 1, 3, 2, NULL, NULL, 1, 1, '', zeroblob(32)),
	(2, x'52525252525252525252525252525252', 'app/two', 2, 2, 1, NULL, NULL, 1, 1, '', zeroblob(32));
INSERT INTO reseal_secret_versions VALUES
	(1, zeroblob(16), 1, 1, 1, 'token-1', zeroblob(100)),
	(2, zeroblob(16), 1, 2, 1, NULL, zeroblob(100)),
	(3, zeroblob(16), 2, 1, 1, NULL, zeroblob(100));
INSERT INTO reseal_data_keys (id, master_key_version, wrapped) VALUES (1, 1, zeroblob(108)), (2, 1, zeroblob(108)), (3, 3, zeroblob(108));
INSERT INTO reseal_labels VALUES (1, 'current', 2), (1, 'previous', 1), (2, 'current', 3);
INSERT INTO reseal_audit_events VALUES
	(1, 1, 'a', 'put', NULL, NULL, '{}', zeroblob(32)),
	(2, 1, 'a', 'put', NULL, NULL, '{}', zeroblob(32));
`

// fixtureRows is the number of rows that the fixture inserts.
const fixtureRows = 2 + 2 + 4 + 5 + 4 + 1 + 2 + 3 + 3 + 3 + 2

// newFilledStore returns a store with the fixture's rows.
func newFilledStore(t testing.TB, query ...string) (string, *sql.DB) {
	t.Helper()
	path, db := newStore(t, query...)
	mustExec(t, db, fixture)
	return path, db
}

// extended returns the embedded migrations and more of the test's own.
func extended(t testing.TB, more map[string]string) *history {
	t.Helper()
	fsys := fstest.MapFS{}
	for _, m := range builtin.migrations {
		text, err := fs.ReadFile(SQL, m.Name)
		if err != nil {
			t.Fatal(err)
		}
		fsys[m.Name] = &fstest.MapFile{Data: text}
	}
	for name, text := range more {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	h, err := readHistory(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// nextFile names the migration after the last.
func nextFile(what string) string { return fmt.Sprintf("%05d_%s.sql", Latest()+1, what) }

// fileAfterNext names the migration after that.
func fileAfterNext(what string) string { return fmt.Sprintf("%05d_%s.sql", Latest()+2, what) }

// fileSum hashes a database file that nobody has open, and everything beside it.
func fileSum(t testing.TB, path string) string {
	t.Helper()
	var all strings.Builder
	names, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&all, filepath.Base(name), hexSum(text))
	}
	return all.String()
}

// settings reads what a migration may change and has to put back.
func settings(t testing.TB, db *sql.DB) string {
	t.Helper()
	var all strings.Builder
	for _, name := range []string{"busy_timeout", "foreign_keys", "ignore_check_constraints", "legacy_alter_table",
		"main.secure_delete", "recursive_triggers", "journal_mode", "synchronous", "temp_store", "locking_mode",
		"writable_schema", "trusted_schema", "query_only", "defer_foreign_keys", "application_id", "user_version"} {
		fmt.Fprintf(&all, "%s=%s\n", name, queryText(t, db, "PRAGMA "+name))
	}
	return all.String()
}
