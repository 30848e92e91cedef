package migrations

import (
	"database/sql"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	sqlite3 "modernc.org/sqlite/lib"
)

// row is a row of a table: an SQL expression for each column.
type row map[string]string

// rows has a good row of each table that has a CHECK.
var rows = map[string]row{
	"reseal_state": {"id": "1", "store_id": "zeroblob(16)", "root_id": "zeroblob(16)", "next_root_id": "NULL",
		"generation": "0", "audit_count": "0", "audit_head": "zeroblob(32)", "created_at": "1", "tag": "zeroblob(32)",
		"rows_nonce": "zeroblob(24)", "rows_digest": "zeroblob(32)", "rows_tag": "zeroblob(32)",
		"secret_rows": "0", "version_rows": "0", "master_key_rows": "0", "tag_rows": "0", "job_rows": "0"},
	"reseal_root_keys": {"root_id": "zeroblob(16)", "integrity_wrapped": "zeroblob(108)", "created_at": "1"},
	"reseal_unseal_slots": {"slot_id": "zeroblob(16)", "root_id": "zeroblob(16)", "kind": "'passphrase'", "label": "'daily'",
		"kdf": "'argon2id'", "time": "3", "memory": "65536", "threads": "4", "salt": "zeroblob(16)", "wrapped": "zeroblob(108)", "created_at": "1"},
	"reseal_master_keys": {"key_id": "zeroblob(16)", "name": "'mk_1+=.@-'", "state": "'enabled'", "primary_version": "1",
		"deletion_at": "NULL", "created_at": "1", "tag": "zeroblob(32)"},
	"reseal_master_key_versions": {"master_key": "7", "number": "1", "created_at": "1"},
	"reseal_master_key_wraps":    {"master_key_version": "1", "root_id": "zeroblob(16)", "wrapped": "zeroblob(108)"},
	"reseal_secrets": {"secret_id": "zeroblob(16)", "name": "'app/db_1+=.@-/..x/x.'", "master_key": "1", "next_number": "1", "version_count": "0",
		"deleted_at": "NULL", "purge_at": "NULL", "created_at": "1", "updated_at": "1", "description": "'what it is for'", "tag": "zeroblob(32)"},
	"reseal_secret_versions": {"version_id": "zeroblob(16)", "secret": "1", "number": "1", "created_at": "1", "token": "'t'", "sealed": "zeroblob(77)"},
	"reseal_data_keys":       {"id": "1", "master_key_version": "1", "wrapped": "zeroblob(108)", "made_at": "1"},
	"reseal_labels":          {"secret": "1", "label": "'current'", "secret_version": "1"},
	"reseal_tags":            {"secret": "1", "key": "'team'", "value": "''"},
	"reseal_rotation_jobs": {"job_id": "zeroblob(16)", "mode": "'rewrap'", "from_key": "1", "to_key": "2", "to_version": "1", "state": "'running'",
		"total": "0", "done": "0", "started_at": "1", "updated_at": "1", "finished_at": "NULL", "receipt": "NULL", "made_before": "0"},
	"reseal_audit_events": {"seq": "1", "at": "1", "actor": "''", "action": "'put'", "detail": "'{}'", "mac": "zeroblob(32)"},
}

// bad lists, by table, what makes the good row one that a CHECK refuses. Every
// term of a CHECK has a case.
var bad = map[string][]row{
	"reseal_state": {
		{"id": "2"},
		{"store_id": "zeroblob(15)"},
		{"root_id": "zeroblob(17)"},
		{"next_root_id": "x'01'"},
		{"next_root_id": "zeroblob(16)"}, // the root itself
		{"generation": "-1"},
		{"audit_count": "-1"},
		{"audit_head": "zeroblob(31)"},
		{"tag": "zeroblob(33)"},
		{"rows_nonce": "zeroblob(23)"}, {"rows_digest": "zeroblob(31)"}, {"rows_tag": "zeroblob(33)"},
		{"secret_rows": "-1"}, {"version_rows": "-1"}, {"master_key_rows": "-1"}, {"tag_rows": "-1"}, {"job_rows": "-1"},
	},
	"reseal_root_keys": {{"root_id": "zeroblob(0)"}, {"integrity_wrapped": "zeroblob(107)"}},
	"reseal_unseal_slots": {
		{"slot_id": "zeroblob(15)"},
		{"kind": "'recovery'"},
		{"label": "printf('%.65c', 'x')"},
		{"label": "'a' || char(0)"},
		{"time": "65"}, {"time": "-1"},
		{"memory": "2097153"}, {"memory": "-1"},
		{"threads": "65"}, {"threads": "-1"},
		{"wrapped": "zeroblob(109)"},
		{"kdf": "'scrypt'"}, {"time": "0"}, {"threads": "0"}, {"memory": "31"}, {"salt": "zeroblob(15)"},
		{"kind": "'key-file'"}, // with a KDF
		{"kind": "'key-file'", "kdf": "''", "time": "0", "memory": "0", "threads": "0", "salt": "zeroblob(1)"},
	},
	"reseal_master_keys": {
		{"key_id": "zeroblob(15)"},
		{"name": "''"}, {"name": "printf('%.65c', 'x')"}, {"name": "'a b'"}, {"name": "'a/b'"}, {"name": "'a' || char(0)"},
		{"state": "'Enabled'"},
		{"primary_version": "0"},
		{"tag": "zeroblob(0)"},
		{"deletion_at": "5"}, {"state": "'pending deletion'"},
	},
	"reseal_master_key_versions": {{"number": "0"}},
	"reseal_master_key_wraps":    {{"wrapped": "zeroblob(107)"}},
	"reseal_secrets": {
		{"secret_id": "zeroblob(15)"},
		{"name": "''"}, {"name": "printf('%.257c', 'x')"}, {"name": "'a b'"}, {"name": "'a' || char(0) || 'b'"}, {"name": "'é'"},
		{"name": "'/a'"}, {"name": "'a/'"}, {"name": "'a//b'"}, {"name": "'.'"}, {"name": "'a/./b'"}, {"name": "'../a'"}, {"name": "'a/..'"},
		{"next_number": "0", "version_count": "-1"},
		{"version_count": "-1"}, {"version_count": "1"},
		{"description": "printf('%.1025c', 'x')"}, {"description": "char(0)"},
		{"tag": "zeroblob(31)"},
		{"deleted_at": "5"}, {"purge_at": "5"},
		{"master_key": "NULL"}, // with a description
		{"master_key": "NULL", "description": "''", "version_count": "1", "next_number": "2"},
		{"master_key": "NULL", "description": "''", "deleted_at": "5", "purge_at": "6"},
	},
	"reseal_secret_versions": {
		{"version_id": "zeroblob(17)"},
		{"number": "0"},
		{"token": "''"}, {"token": "printf('%.65c', 'x')"}, {"token": "'a' || char(0)"},
		{"sealed": "zeroblob(76)"},
	},
	"reseal_data_keys": {{"wrapped": "zeroblob(107)"}, {"wrapped": "zeroblob(109)"}, {"made_at": "-1"}},
	"reseal_labels":    {{"label": "''"}, {"label": "printf('%.65c', 'x')"}, {"label": "'a b'"}, {"label": "'a' || char(0)"}},
	"reseal_tags":      {{"key": "''"}, {"key": "printf('%.129c', 'x')"}, {"key": "'a' || char(0)"}, {"value": "printf('%.257c', 'x')"}, {"value": "char(0)"}},
	"reseal_rotation_jobs": {
		{"job_id": "zeroblob(15)"},
		{"mode": "'copy'"},
		{"to_version": "0"},
		{"state": "'done'"},
		{"total": "-1"}, {"done": "-1"},
		{"receipt": "'{'"},
		{"finished_at": "5"}, {"state": "'complete'"},
		{"mode": "'reencrypt'", "made_before": "-1"},
		{"made_before": "5"}, // a rewrap replaces no data key
	},
	"reseal_audit_events": {
		{"seq": "0"},
		{"actor": "printf('%.257c', 'x')"},
		{"action": "''"}, {"action": "printf('%.65c', 'x')"},
		{"detail": "'{'"},
		{"mac": "zeroblob(31)"},
	},
}

func TestEveryCheckRefuses(t *testing.T) {
	_, db := newStore(t)
	mustExec(t, db, `INSERT INTO reseal_master_key_versions VALUES (1, 1, 1, 1, NULL)`)
	unseen := checksInSQL(t)
	for table, good := range rows {
		if err := try(t, db, insert(table, good)); err != nil {
			t.Errorf("%s: the good row is refused: %v", table, err)
		}
		for _, change := range bad[table] {
			worse := maps.Clone(good)
			maps.Copy(worse, change)
			err := try(t, db, insert(table, worse))
			if code(err) != sqlite3.SQLITE_CONSTRAINT_CHECK {
				t.Errorf("%s with %v: error %v, want a CHECK to refuse", table, change, err)
				continue
			}
			delete(unseen, table+": "+checkIn(err))
		}
	}
	if diff := cmp.Diff([]string(nil), slices.Sorted(maps.Keys(unseen))); diff != "" {
		t.Errorf("CHECKs without a case that they refuse (-want +got):\n%s", diff)
	}
}

// checksInSQL returns the text of every CHECK in the migrations, by table.
func checksInSQL(t *testing.T) map[string]bool {
	all := map[string]bool{}
	for _, m := range builtin.migrations {
		text, err := fs.ReadFile(SQL, m.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range statements(string(text)) {
			for _, i := range s.find("check", "(") {
				var words []string
				for _, token := range s.parenthesis(i + 1).tokens {
					words = append(words, token.text)
				}
				all[s.tokens[2].word()+": "+strings.Join(words, " ")] = true
			}
		}
	}
	if len(all) < 50 {
		t.Fatalf("found %d CHECKs, and there were 50 and more: the search is broken", len(all))
	}
	return all
}

// checkIn returns the text of the CHECK that an error names.
func checkIn(err error) string {
	_, text, _ := strings.Cut(err.Error(), "CHECK constraint failed: ")
	text, _, _ = strings.Cut(text, " (275)")
	return strings.TrimSpace(canonical(text))
}

func insert(table string, r row) string {
	columns := slices.Sorted(maps.Keys(r))
	var values []string
	for _, c := range columns {
		values = append(values, r[c])
	}
	return fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", table, strings.Join(columns, ", "), strings.Join(values, ", "))
}

// try runs statements in a transaction that it rolls back.
func try(t *testing.T, db *sql.DB, statements ...string) error {
	t.Helper()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	for _, s := range statements {
		if _, err := tx.Exec(s); err != nil {
			return err
		}
	}
	return nil
}
