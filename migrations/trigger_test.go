package migrations

import (
	"database/sql"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// guarded lists, by trigger, statements that it has to refuse on the fixture.
var guarded = map[string][]string{
	"reseal_state_delete": {`DELETE FROM reseal_state`},
	"reseal_state_insert": {
		`INSERT OR REPLACE INTO reseal_state SELECT * FROM reseal_state`,
		`REPLACE INTO reseal_state SELECT * FROM reseal_state`,
	},
	"reseal_state_update": {
		`UPDATE reseal_state SET store_id = randomblob(16)`,
		`UPDATE OR REPLACE reseal_state SET rowid = 7`,
		`UPDATE reseal_state SET audit_count = 1`,
		`UPDATE reseal_state SET generation = generation - 1`,
	},
	"reseal_state_root": {`UPDATE reseal_state SET root_id = x'09090909090909090909090909090909'`},
	"reseal_root_keys_delete": {
		`DELETE FROM reseal_root_keys WHERE id = 1`,
		`DELETE FROM reseal_root_keys WHERE id = 2`, // its slot is there
	},
	"reseal_root_keys_update": {
		`UPDATE reseal_root_keys SET integrity_wrapped = randomblob(108) WHERE id = 1`,
		`UPDATE OR REPLACE reseal_root_keys SET id = 1 WHERE id = 2`,
		`UPDATE OR REPLACE reseal_root_keys SET root_id = x'01010101010101010101010101010101' WHERE id = 2`,
		`UPDATE OR REPLACE reseal_root_keys SET _rowid_ = 1 WHERE id = 2`,
	},
	"reseal_root_keys_insert": {
		`REPLACE INTO reseal_root_keys VALUES (1, x'03030303030303030303030303030303', zeroblob(108), 1)`,
		`INSERT OR REPLACE INTO reseal_root_keys VALUES (3, x'01010101010101010101010101010101', zeroblob(108), 1)`,
		`INSERT OR REPLACE INTO reseal_root_keys (oid, root_id, integrity_wrapped, created_at) VALUES (1, x'03030303030303030303030303030303', zeroblob(108), 1)`,
	},
	"reseal_unseal_slots_delete": {`DELETE FROM reseal_unseal_slots WHERE id = 1`},
	"reseal_unseal_slots_update": {
		`UPDATE reseal_unseal_slots SET wrapped = randomblob(108)`,
		`UPDATE OR REPLACE reseal_unseal_slots SET rowid = 1 WHERE id = 2`,
	},
	"reseal_unseal_slots_insert": {
		`REPLACE INTO reseal_unseal_slots SELECT 1, zeroblob(16), root_id, kind, label, kdf, time, memory, threads, salt, wrapped, 1 FROM reseal_unseal_slots WHERE id = 2`,
		`REPLACE INTO reseal_unseal_slots SELECT NULL, slot_id, root_id, kind, label, kdf, time, memory, threads, salt, zeroblob(108), 1 FROM reseal_unseal_slots WHERE id = 1`,
	},
	"reseal_master_keys_delete": {`DELETE FROM reseal_master_keys WHERE id = 4`, `DELETE FROM reseal_master_keys`},
	"reseal_master_keys_insert": {
		`REPLACE INTO reseal_master_keys VALUES (1, zeroblob(16), 'mk-9', 'enabled', 1, NULL, 1, zeroblob(32))`,
		`REPLACE INTO reseal_master_keys VALUES (9, x'a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1', 'mk-9', 'enabled', 1, NULL, 1, zeroblob(32))`,
		`REPLACE INTO reseal_master_keys VALUES (NULL, zeroblob(16), 'mk-3', 'enabled', 1, NULL, 1, zeroblob(32))`, // the name of a destroyed key
		`INSERT OR REPLACE INTO reseal_master_keys (rowid, key_id, name, state, primary_version, created_at, tag) VALUES (1, zeroblob(16), 'mk-9', 'enabled', 1, 1, zeroblob(32))`,
	},
	"reseal_master_keys_identity": {
		`UPDATE OR REPLACE reseal_master_keys SET id = 2 WHERE id = 1`,
		`UPDATE OR REPLACE reseal_master_keys SET oid = 2 WHERE id = 1`,
		`UPDATE OR REPLACE reseal_master_keys SET name = 'mk-2' WHERE id = 1`,
		`UPDATE OR REPLACE reseal_master_keys SET key_id = x'a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2' WHERE id = 1`,
		`UPDATE reseal_master_keys SET created_at = 2 WHERE id = 1`,
	},
	"reseal_master_keys_destroyed_is_final": {`UPDATE reseal_master_keys SET state = 'enabled' WHERE id = 3`},
	"reseal_master_keys_destroy": {
		`UPDATE reseal_master_keys SET state = 'destroyed' WHERE id = 1`,
		`UPDATE OR REPLACE reseal_master_keys SET state = 'destroyed' WHERE id = 2`,
		`UPDATE OR IGNORE reseal_master_keys SET state = 'destroyed'`,
	},
	"reseal_master_key_versions_delete": {`DELETE FROM reseal_master_key_versions WHERE id = 1`, `DELETE FROM reseal_master_key_versions WHERE id = 2`},
	"reseal_master_key_versions_insert": {
		`REPLACE INTO reseal_master_key_versions VALUES (1, 4, 7, 1, 9)`,
		`REPLACE INTO reseal_master_key_versions VALUES (9, 1, 1, 1, 9)`,
		`INSERT OR REPLACE INTO reseal_master_key_versions (_rowid_, master_key, number, created_at) VALUES (1, 4, 7, 1)`,
	},
	"reseal_master_key_versions_identity": {
		`UPDATE OR REPLACE reseal_master_key_versions SET id = 1 WHERE id = 2`,
		`UPDATE OR REPLACE reseal_master_key_versions SET rowid = 1 WHERE id = 2`,
		`UPDATE OR REPLACE reseal_master_key_versions SET number = 1 WHERE id = 2`,
		`UPDATE OR REPLACE reseal_master_key_versions SET master_key = 2, number = 1 WHERE id = 2`,
		`UPDATE reseal_master_key_versions SET created_at = 7 WHERE id = 2`,
	},
	"reseal_master_key_versions_destroyed_is_final": {
		`UPDATE reseal_master_key_versions SET destroyed_at = NULL WHERE id = 4`,
		`UPDATE reseal_master_key_versions SET destroyed_at = 10 WHERE id = 4`,
	},
	"reseal_master_key_versions_destroy": {
		`UPDATE reseal_master_key_versions SET destroyed_at = 9 WHERE id = 1`,
		`UPDATE OR REPLACE reseal_master_key_versions SET destroyed_at = 9`,
	},
	"reseal_master_key_wraps_update": {
		`UPDATE reseal_master_key_wraps SET wrapped = randomblob(108) WHERE id = 1`,
		`UPDATE OR REPLACE reseal_master_key_wraps SET id = 1 WHERE id = 2`,
		`UPDATE OR REPLACE reseal_master_key_wraps SET master_key_version = 1 WHERE id = 2`,
	},
	"reseal_master_key_wraps_insert": {
		`REPLACE INTO reseal_master_key_wraps VALUES (1, 2, x'02020202020202020202020202020202', zeroblob(108))`,
		`REPLACE INTO reseal_master_key_wraps VALUES (NULL, 1, x'01010101010101010101010101010101', zeroblob(108))`,
		`INSERT OR REPLACE INTO reseal_master_key_wraps (oid, master_key_version, root_id, wrapped) VALUES (1, 2, x'02020202020202020202020202020202', zeroblob(108))`,
	},
	"reseal_master_key_wraps_delete": {`DELETE FROM reseal_master_key_wraps WHERE id = 1`, `DELETE FROM reseal_master_key_wraps`},
	"reseal_secrets_delete":          {`DELETE FROM reseal_secrets WHERE id = 1`},
	"reseal_secrets_insert": {
		`REPLACE INTO reseal_secrets VALUES (1, zeroblob(16), 'new', 1, 1, 0, NULL, NULL, 1, 1, '', zeroblob(32))`,
		`REPLACE INTO reseal_secrets VALUES (9, x'51515151515151515151515151515151', 'new', 1, 1, 0, NULL, NULL, 1, 1, '', zeroblob(32))`,
		`REPLACE INTO reseal_secrets VALUES (NULL, zeroblob(16), 'app/one', 1, 1, 0, NULL, NULL, 1, 1, '', zeroblob(32))`,
	},
	"reseal_secrets_identity": {
		`UPDATE OR REPLACE reseal_secrets SET id = 2 WHERE id = 1`,
		`UPDATE OR REPLACE reseal_secrets SET rowid = 2 WHERE id = 1`,
		`UPDATE OR REPLACE reseal_secrets SET name = 'app/two' WHERE id = 1`,
		`UPDATE OR REPLACE reseal_secrets SET secret_id = x'52525252525252525252525252525252' WHERE id = 1`,
		`UPDATE reseal_secrets SET next_number = 2, version_count = 1 WHERE id = 1`,
	},
	"reseal_secret_versions_delete": {`DELETE FROM reseal_secret_versions WHERE id = 1`, `DELETE FROM reseal_secret_versions`},
	"reseal_secret_versions_insert": {
		`REPLACE INTO reseal_secret_versions VALUES (1, zeroblob(16), 2, 9, 1, NULL, zeroblob(100))`,
		`REPLACE INTO reseal_secret_versions VALUES (9, zeroblob(16), 1, 1, 1, NULL, zeroblob(100))`,
		`REPLACE INTO reseal_secret_versions VALUES (9, zeroblob(16), 1, 9, 1, 'token-1', zeroblob(100))`,
		`INSERT OR REPLACE INTO reseal_secret_versions (rowid, version_id, secret, number, created_at, sealed) VALUES (1, zeroblob(16), 2, 9, 1, zeroblob(100))`,
	},
	"reseal_secret_versions_identity": {
		`UPDATE OR REPLACE reseal_secret_versions SET id = 2 WHERE id = 1`,
		`UPDATE OR REPLACE reseal_secret_versions SET oid = 2 WHERE id = 1`,
		`UPDATE OR REPLACE reseal_secret_versions SET number = 2 WHERE id = 1`,
		`UPDATE OR REPLACE reseal_secret_versions SET secret = 2 WHERE id = 1`,
		`UPDATE OR REPLACE reseal_secret_versions SET token = 'token-1' WHERE id = 2`,
		`UPDATE reseal_secret_versions SET version_id = x'01010101010101010101010101010101' WHERE id = 1`,
		`UPDATE reseal_secret_versions SET created_at = 9 WHERE id = 1`,
	},
	"reseal_data_keys_insert": {
		`REPLACE INTO reseal_data_keys VALUES (1, 3, zeroblob(108), 1)`,
		`INSERT OR REPLACE INTO reseal_data_keys VALUES ('1', 3, zeroblob(108), 1)`,
		`INSERT OR REPLACE INTO reseal_data_keys (rowid, master_key_version, wrapped) VALUES (1, 3, zeroblob(108))`,
		`INSERT INTO reseal_data_keys VALUES (1, 3, zeroblob(108), 1) ON CONFLICT DO UPDATE SET wrapped = excluded.wrapped`,
		`INSERT INTO reseal_data_keys VALUES (4, 4, zeroblob(108), 1)`, // a destroyed version
		`INSERT INTO reseal_data_keys VALUES (4, 9, zeroblob(108), 1)`, // no version
	},
	"reseal_data_keys_identity": {
		`UPDATE OR REPLACE reseal_data_keys SET id = 2 WHERE id = 1`,
		`UPDATE OR REPLACE reseal_data_keys SET rowid = 2 WHERE id = 1`,
		`UPDATE OR REPLACE reseal_data_keys SET OID = 2 WHERE id = 1`,
		`UPDATE OR REPLACE reseal_data_keys SET "_rowid_" = 2 WHERE id = 1`,
		`UPDATE OR REPLACE reseal_data_keys SET (wrapped, rowid) = (zeroblob(108), 2) WHERE id = 1`,
		`UPDATE reseal_data_keys SET id = id + 100`,
	},
	"reseal_audit_events_delete": {`DELETE FROM reseal_audit_events`},
	"reseal_audit_events_update": {`UPDATE reseal_audit_events SET actor = 'b'`, `UPDATE OR REPLACE reseal_audit_events SET rowid = 2 WHERE seq = 1`},
	"reseal_audit_events_insert": {`REPLACE INTO reseal_audit_events VALUES (1, 1, 'b', 'put', NULL, NULL, '{}', zeroblob(32))`},
}

// TestEveryTriggerRefuses runs with the settings of a careless client: foreign
// keys and recursive triggers off, so that REPLACE fires no delete trigger.
func TestEveryTriggerRefuses(t *testing.T) {
	_, db := newFilledStore(t)
	if n := queryInt(t, db, `PRAGMA foreign_keys`) + queryInt(t, db, `PRAGMA recursive_triggers`); n != 0 {
		t.Fatal("foreign keys or recursive triggers are on")
	}
	triggers := triggersInSQL(t, db)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(triggers)), slices.Sorted(maps.Keys(guarded))); diff != "" {
		t.Errorf("triggers with a case (-want +got):\n%s", diff)
	}
	for trigger, statements := range guarded {
		for _, s := range statements {
			message := triggers[trigger]
			if err := try(t, db, s); err == nil || !strings.Contains(err.Error(), message) {
				t.Errorf("%s: %s: error %v, want %q", trigger, s, err, message)
			}
			// Without the trigger something else happens: it is this one that refused.
			if err := try(t, db, `DROP TRIGGER `+trigger, s); err != nil && strings.Contains(err.Error(), message) {
				t.Errorf("%s: %s: refused without the trigger too: %v", trigger, s, err)
			}
		}
	}
}

// triggersInSQL returns the message of each trigger.
func triggersInSQL(t *testing.T, db *sql.DB) map[string]string {
	all, err := readObjects(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	triggers := map[string]string{}
	for _, o := range all.own() {
		if o.typ == "trigger" {
			_, rest, _ := strings.Cut(o.sql, "RAISE(ABORT, '")
			message, _, _ := strings.Cut(rest, "')")
			triggers[o.name] = strings.ReplaceAll(message, "''", "'")
		}
	}
	return triggers
}

func TestDestroyRefusesEachKindOfDependent(t *testing.T) {
	_, db := newFilledStore(t)
	const destroy = `UPDATE reseal_master_keys SET state = 'destroyed' WHERE id = 4`
	if err := try(t, db, destroy); err != nil {
		t.Fatalf("a key without dependents: %v", err)
	}
	for what, dependent := range map[string]string{
		"a secret":        `UPDATE reseal_secrets SET master_key = 4 WHERE id = 2`,
		"the default key": `UPDATE reseal_state SET default_key = 4`,
		"a data key":      `UPDATE reseal_data_keys SET master_key_version = 5 WHERE id = 1`,
		"a job from it":   `INSERT INTO reseal_rotation_jobs VALUES (1, zeroblob(16), 'rewrap', 4, 1, 1, '', 'running', 1, 0, '', 0, 1, 1, NULL, NULL, 0)`,
		"a job to it":     `INSERT INTO reseal_rotation_jobs VALUES (1, zeroblob(16), 'rewrap', 1, 4, 1, '', 'paused', 1, 0, '', 0, 1, 1, NULL, NULL, 0)`,
	} {
		if err := try(t, db, dependent, destroy); err == nil || !strings.Contains(err.Error(), "dependents") {
			t.Errorf("%s: error %v, want the key to be refused", what, err)
		}
	}
}

// TestSchemaAllowsTheProduct lists what the store does; no guard may be in its way.
func TestSchemaAllowsTheProduct(t *testing.T) {
	_, db := newFilledStore(t, "_pragma=foreign_keys(1)")
	const r1, r2 = `x'01010101010101010101010101010101'`, `x'02020202020202020202020202020202'`
	for what, statements := range map[string][]string{
		"destroy a version that nothing needs": {
			`UPDATE reseal_master_key_versions SET destroyed_at = 9 WHERE id = 2`,
			`DELETE FROM reseal_master_key_wraps WHERE master_key_version = 2`,
		},
		"destroy a key": {
			`UPDATE reseal_master_key_versions SET destroyed_at = 9 WHERE master_key = 4`,
			`DELETE FROM reseal_master_key_wraps WHERE master_key_version = 5`,
			`UPDATE reseal_master_keys SET state = 'destroyed', tag = zeroblob(32) WHERE id = 4`,
		},
		"rotate the root": {
			`INSERT INTO reseal_master_key_wraps (master_key_version, root_id, wrapped) SELECT master_key_version, ` + r2 + `, zeroblob(108) FROM reseal_master_key_wraps WHERE root_id = ` + r1,
			`UPDATE reseal_state SET root_id = ` + r2 + `, next_root_id = NULL, generation = generation + 1`,
			`DELETE FROM reseal_master_key_wraps WHERE root_id = ` + r1,
			`DELETE FROM reseal_unseal_slots WHERE root_id = ` + r1,
			`DELETE FROM reseal_root_keys WHERE root_id = ` + r1,
		},
		"cancel a root rotation": {
			`UPDATE reseal_state SET next_root_id = NULL`,
			`DELETE FROM reseal_unseal_slots WHERE root_id = ` + r2,
			`DELETE FROM reseal_root_keys WHERE root_id = ` + r2,
		},
		"remove a slot that is not the last": {
			`INSERT INTO reseal_unseal_slots SELECT NULL, zeroblob(16), root_id, kind, 'spare', kdf, time, memory, threads, salt, wrapped, 1 FROM reseal_unseal_slots WHERE id = 1`,
			`DELETE FROM reseal_unseal_slots WHERE id = 1`,
		},
		"purge a secret": {
			`DELETE FROM reseal_labels WHERE secret = 1`,
			`DELETE FROM reseal_data_keys WHERE id IN (1, 2)`,
			`DELETE FROM reseal_secret_versions WHERE secret = 1`,
			`UPDATE reseal_secrets SET master_key = NULL, version_count = 0, description = '' WHERE id = 1`,
		},
		"put, rewrap and reencrypt": {
			`INSERT INTO reseal_secret_versions (version_id, secret, number, created_at, sealed) VALUES (zeroblob(16), 1, 3, 1, zeroblob(90))`,
			`INSERT INTO reseal_data_keys VALUES (last_insert_rowid(), 2, zeroblob(108), 1)`,
			`UPDATE reseal_secrets SET next_number = 4, version_count = 3, updated_at = 2, tag = zeroblob(32) WHERE id = 1`,
			`UPDATE reseal_data_keys SET master_key_version = 3, wrapped = randomblob(108) WHERE id IN (1, 2)`,
			`UPDATE reseal_secrets SET master_key = 2 WHERE id = 1`,
			`UPDATE reseal_secret_versions SET sealed = randomblob(100) WHERE id = 1`,
			`UPDATE reseal_data_keys SET master_key_version = 3, wrapped = randomblob(108), made_at = 2 WHERE id = 1`,
		},
		"change states and dates": {
			`UPDATE reseal_master_keys SET state = 'disabled' WHERE id = 1`,
			`UPDATE reseal_master_keys SET state = 'enabled', primary_version = 1 WHERE id = 1`,
			`UPDATE reseal_master_keys SET state = 'pending deletion', deletion_at = 7 WHERE id = 4`,
			`UPDATE reseal_secrets SET deleted_at = 1, purge_at = 2 WHERE id = 1`,
			`INSERT INTO reseal_audit_events VALUES (3, 1, 'a', 'delete', 's', 'k', '{}', zeroblob(32))`,
			`UPDATE reseal_state SET audit_count = 3, generation = generation + 1, default_key = 1`,
		},
	} {
		if err := try(t, db, statements...); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestRewrapRunsNoTrigger looks at SQLite's program for the statement that a
// rotation repeats a million times.
func TestRewrapRunsNoTrigger(t *testing.T) {
	_, db := newStore(t)
	if n := triggerCalls(t, db, `UPDATE reseal_data_keys SET wrapped = zeroblob(108), master_key_version = 2 WHERE id BETWEEN 1 AND 9`); n != 0 {
		t.Errorf("a rewrap runs %d triggers a row, want 0", n)
	}
	if n := triggerCalls(t, db, `UPDATE reseal_data_keys SET rowid = 2 WHERE id = 1`); n == 0 {
		t.Error("the count does not see the trigger on rowid")
	}
}

// triggerCalls counts the calls of triggers in a statement's program.
func triggerCalls(t *testing.T, db *sql.DB, statement string) (n int) {
	t.Helper()
	rows, err := db.Query(`EXPLAIN ` + statement)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var opcode string
		var skip any
		if err := rows.Scan(&skip, &opcode, &skip, &skip, &skip, &skip, &skip, &skip); err != nil {
			t.Fatal(err)
		}
		if opcode == "Program" {
			n++
		}
	}
	return n
}

func TestLintFindsNothingInReleasedMigrations(t *testing.T) {
	problems, err := LintAll(SQL)
	if err != nil || len(problems) > 0 {
		t.Errorf("problems %v, error %v, want none", problems, err)
	}
}
