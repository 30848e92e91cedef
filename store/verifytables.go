package store

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/reseal/reseal/migrations"
)

// tables checks what SQLite and the migrations can tell: the schema, that rows
// refer to rows that are there, and in a deep check every page of the file.
func (v *verifier) tables() error {
	return v.s.snapshot(v.ctx, func(q querier) error {
		if err := v.survive(schemaError(migrations.CheckSchema(v.ctx, q))); err != nil {
			return err
		}
		if v.o.Deep {
			if err := v.survive(sqlError(v.integrity(q))); err != nil {
				return err
			}
		}
		return v.references(q)
	})
}

// integrity has SQLite check every page, every index and every constraint. On a
// connection of the store's own it leaves out the CHECKs of rows that are
// authenticated: they would take longer than all the rest, and a row that broke
// one was altered.
func (v *verifier) integrity(q querier) error {
	defer roomForPages(q, 16<<10)() // each row is looked up in each index
	const whole = `PRAGMA integrity_check`
	if _, own := q.(*pinned); !own {
		return v.sqliteFinds(q, whole)
	}
	restore := alter(q, "ignore_check_constraints", 1)
	err := v.sqliteFinds(q, whole)
	restore()
	if err != nil {
		return err
	}
	tables, err := texts(v.ctx, q, ownTables)
	if err != nil {
		return err
	}
	for _, table := range tables {
		if authenticated[table] {
			continue
		}
		if err := v.sqliteFinds(q, `PRAGMA quick_check("`+table+`")`); err != nil {
			return err
		}
	}
	return nil
}

// authenticated are the tables of which every column that has a CHECK is in a
// record's tag, in the set of rows or in the audit chain.
var authenticated = map[string]bool{
	"reseal_secrets": true, "reseal_labels": true, "reseal_tags": true, "reseal_audit_events": true,
}

// sqliteFinds fails what one of SQLite's checks finds.
func (v *verifier) sqliteFinds(q querier, check string) error {
	found, err := texts(v.ctx, q, check)
	for _, line := range found {
		if line != "ok" {
			v.fail(Failure{Error: "SQLite's integrity check: " + line, Remedy: restoreRemedy(v.ctx, q, "")})
		}
	}
	return err
}

// unread is in what the integrity check says of a page that it could not read.
var unread = regexp.MustCompile(`failed to get page|error code=(\d+)`)

// pageError makes an error of what the integrity check found: damage, or a disk
// that does not let it look.
func pageError(found string) error {
	if m := unread.FindStringSubmatch(found); m != nil {
		if code, err := strconv.Atoi(m[1]); m[1] == "" || err == nil && code&0xff == codeIO {
			return fmt.Errorf("%w: %s", ErrIO, found)
		}
	}
	return damaged("%s", found)
}

const ownTables = `
	SELECT name
	FROM sqlite_schema
	WHERE type = 'table' AND name LIKE 'reseal\_%' ESCAPE '\'
	ORDER BY name`

// references checks foreign keys, which other programs' connections leave off.
// Labels are checked with their secrets.
func (v *verifier) references(q querier) error {
	tables, err := texts(v.ctx, q, ownTables)
	if err != nil {
		return err
	}
	for _, table := range tables {
		if err := v.reference(q, table); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) reference(q querier, table string) error {
	rows, err := q.QueryContext(v.ctx, `SELECT COALESCE(rowid, 0), parent FROM pragma_foreign_key_check(?)`, table)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var row int64
		var parent string
		if err := rows.Scan(&row, &parent); err != nil {
			return err
		}
		if f, ok := dangling(table, row, parent); ok {
			v.fail(f)
		}
	}
	return rows.Err()
}

// dangling tells a row that refers to one which is not there. That of a label
// is told with its secret.
func dangling(table string, row int64, parent string) (Failure, bool) {
	switch {
	case table == "reseal_labels" && parent == "reseal_secret_versions":
		return Failure{}, false
	case table == "reseal_data_keys":
		return Failure{Error: fmt.Sprintf("data key %d has no secret version", row), Remedy: "reseal sweep"}, true
	case table == "reseal_secret_versions":
		return Failure{Error: fmt.Sprintf("secret version row %d has no secret", row), Remedy: "reseal sweep"}, true
	}
	return Failure{Error: fmt.Sprintf("a row of %s refers to one of %s that is not there", table, parent), Remedy: "reseal audit verify"}, true
}

// records checks the state row, every master key and the audit trail.
func (v *verifier) records() error {
	return v.s.snapshot(v.ctx, func(q querier) error {
		st, err := loadState(v.ctx, q)
		if err != nil {
			return err
		}
		if err := v.survive(v.s.keys.checkState(&st)); err != nil {
			return err
		}
		if err := v.rowSet(q, &st); err != nil {
			return err
		}
		keys, err := loadAllKeys(v.ctx, q)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if err := v.masterKey(q, k); err != nil {
				return err
			}
		}
		return v.survive(v.trail(q, &st))
	})
}

// masterKey checks a master key's record, and that each version opens or is
// destroyed.
func (v *verifier) masterKey(q querier, k *masterKey) error {
	if err := v.s.keys.checkKey(k); err != nil {
		f := failureOf("", err)
		f.Key = k.name
		v.fail(f)
	}
	if _, ok := k.byNumber(k.primary); !ok {
		v.fail(Failure{Key: k.name, Error: "its primary version is missing", Remedy: restoreRemedy(v.ctx, q, "")})
	}
	for _, kv := range k.versions {
		if err := v.masterKeyVersion(q, k, kv); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) masterKeyVersion(q querier, k *masterKey, kv keyVersion) error {
	ctx := context.WithoutCancel(v.ctx)
	if kv.destroyedAt == 0 {
		_, err := v.s.keys.unwrap(ctx, q, k, kv, true)
		if err == nil {
			return nil
		}
		why, err := damageOf(err)
		if err == nil {
			v.fail(Failure{Key: k.name, Error: why, Remedy: restoreRemedy(ctx, q, "")})
		}
		return err
	}
	var wrapped bool
	err := q.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM reseal_master_key_wraps WHERE master_key_version = ?)`, kv.row).Scan(&wrapped)
	if err == nil && wrapped {
		v.fail(Failure{Key: k.name, Error: fmt.Sprintf("master key version %d is destroyed and has a wrap", kv.number), Remedy: "reseal key show " + k.name})
	}
	return err
}

// trail checks where the audit trail ends, and in a deep check all of it.
func (v *verifier) trail(q querier, st *state) error {
	if v.o.Deep {
		_, err := v.s.keys.checkChain(v.ctx, q, st)
		return err
	}
	var count int64
	var head []byte
	err := q.QueryRowContext(v.ctx, `
		SELECT
			(SELECT count(*) FROM reseal_audit_events),
			(SELECT mac FROM reseal_audit_events ORDER BY seq DESC LIMIT 1)`).Scan(&count, &head)
	if err == nil && (count != st.auditCount || count > 0 && !bytes.Equal(head, st.auditHead)) {
		err = damaged("the audit trail has %d events and should have %d, or its end was altered", count, st.auditCount)
	}
	return err
}

// rowSet compares the rows that are there with those that should be.
func (v *verifier) rowSet(q querier, st *state) error {
	remedy := restoreRemedy(v.ctx, q, "")
	if !strings.HasPrefix(remedy, "reseal migrate restore") {
		remedy = "reseal verify --accept"
	}
	should, err := v.s.keys.loadRows(st)
	if err != nil {
		if err = v.survive(err); err == nil {
			v.fail(Failure{Error: "it cannot be told whether rows were removed or added by other means", Remedy: remedy})
		}
		return err
	}
	found, err := v.s.keys.countRows(v.ctx, q)
	if err != nil {
		return err
	}
	for _, d := range found.differences(&should) {
		v.fail(Failure{Error: d, Remedy: remedy})
	}
	return nil
}
