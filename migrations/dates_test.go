package migrations

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// newFilledStoreAt returns a store of an older schema with the fixture's rows.
func newFilledStoreAt(t *testing.T, version int64) *sql.DB {
	t.Helper()
	_, db := newFile(t)
	db.SetMaxOpenConns(1)
	if _, err := builtin.move(t.Context(), db, course{to: version, up: true}, Options{Create: true}); err != nil {
		t.Fatal(err)
	}
	mustExec(t, db, fixture)
	return db
}

// dataKeys is every data key of a database, a line each.
func dataKeys(t *testing.T, db *sql.DB, columns string) string {
	t.Helper()
	return queryText(t, db, `SELECT group_concat(`+columns+`, char(10) ORDER BY id) FROM reseal_data_keys`)
}

// TestDataKeysGetTheDateOfTheirVersion has a version from before 1970, as a
// clock can be: it may not keep a store from being upgraded.
func TestDataKeysGetTheDateOfTheirVersion(t *testing.T) {
	db := newFilledStoreAt(t, 1)
	mustExec(t, db, `
		INSERT INTO reseal_secret_versions VALUES (4, zeroblob(16), 2, 2, 1700000000123, NULL, zeroblob(100)), (5, zeroblob(16), 2, 3, -7, NULL, zeroblob(100));
		INSERT INTO reseal_data_keys VALUES (4, 3, randomblob(108)), (5, 3, randomblob(108))`)
	const wrap = `id || ' ' || master_key_version || ' ' || hex(wrapped)`
	before := dataKeys(t, db, wrap)
	mustExec(t, db, `INSERT INTO reseal_rotation_jobs VALUES (1, zeroblob(16), 'rewrap', 1, 2, 1, '', 'running', 1, 0, '', 0, 1, 1, NULL, NULL)`)
	if _, err := UpTo(t.Context(), db, 2, Options{NoBackup: true}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("1 1\n2 1\n3 1\n4 1700000000123\n5 0", dataKeys(t, db, `id || ' ' || made_at`)); diff != "" {
		t.Errorf("dates of the data keys (-want +got):\n%s", diff)
	}
	if n := queryInt(t, db, `SELECT made_before FROM reseal_rotation_jobs`); n != 0 {
		t.Errorf("the open job replaces data keys made before %d, want 0", n)
	}
	rows := queryInt(t, db, `SELECT count(*) + 1 FROM reseal_data_keys`)
	if _, err := Down(t.Context(), db, 1, Options{NoBackup: true, DestroyRows: rows}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, dataKeys(t, db, wrap)); diff != "" {
		t.Errorf("data keys after up and down (-want +got):\n%s", diff)
	}
	refuseOnDataKeys(t, db)
}

// refuseOnDataKeys checks the triggers on data keys after their table was
// changed, and those of other tables that look at it.
func refuseOnDataKeys(t *testing.T, db *sql.DB) {
	t.Helper()
	for _, statement := range []string{
		`REPLACE INTO reseal_data_keys (id, master_key_version, wrapped) VALUES (1, 3, zeroblob(108))`,
		`UPDATE OR REPLACE reseal_data_keys SET rowid = 2 WHERE id = 1`,
		`UPDATE reseal_master_key_versions SET destroyed_at = 5 WHERE id = 1`,
		`DELETE FROM reseal_secret_versions WHERE id = 3`,
		`UPDATE reseal_master_keys SET state = 'destroyed' WHERE id = 1`,
	} {
		if err := try(t, db, statement); err == nil || !strings.Contains(err.Error(), "reseal: ") {
			t.Errorf("%s: error %v, want a trigger to refuse", statement, err)
		}
	}
}
