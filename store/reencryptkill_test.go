//go:build linux

package store_test

import (
	"database/sql"
	"errors"
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/rotate"
)

// What a reencryption writes, of rows that one has made: the data keys, and the
// values that they open.
const (
	putDataKeys = `
		UPDATE reseal_data_keys
		SET wrapped = n.wrapped, master_key_version = n.master_key_version, made_at = n.made_at
		FROM new_rows AS n
		WHERE n.id = reseal_data_keys.id`
	putValues = `
		UPDATE reseal_secret_versions
		SET sealed = n.sealed
		FROM new_rows AS n
		WHERE n.id = reseal_secret_versions.id`
)

// splitActs write the same genuine rows, in one transaction and in two.
func splitActs() []deed {
	return []deed{
		{name: "reencryption in one transaction", bare: func(path string) error { return execEach(path, "BEGIN;"+putDataKeys+";"+putValues+";COMMIT") }},
		{name: "reencryption in two", bare: func(path string) error { return execEach(path, putDataKeys, putValues) }},
	}
}

func execEach(path string, statements ...string) error {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	for _, s := range statements {
		if _, serr := db.Exec(s); err == nil {
			err = serr
		}
	}
	return errors.Join(err, db.Close())
}

// withNewRows puts beside the store's tables what a reencryption of a copy made
// of them.
func (a actStore) withNewRows(t *testing.T) actStore {
	t.Helper()
	done := a.copy(t)
	s := must(openActed(t.Context(), done))(t)
	must(rotate.Run(t.Context(), s, rotate.Options{Key: "mk-1", Mode: rotate.Reencrypt}))(t)
	storetest.OK(t, s.Close())
	a.path = a.copy(t)
	storetest.OK(t, execEach(a.path, `ATTACH '`+done+`' AS done;
		CREATE TABLE new_rows AS
			SELECT d.id, d.master_key_version, d.wrapped, d.made_at, v.sealed
			FROM done.reseal_data_keys AS d
			JOIN done.reseal_secret_versions AS v ON v.id = d.id`))
	return a
}

// A value that is sealed anew in another transaction than its data key would be
// found by the sweep: after some kill it does not open.
func TestKillSweepFindsReencryptionInTwoTransactions(t *testing.T) {
	needStrace(t)
	a := makeActStore(t).withNewRows(t)
	for i, act := range splitActs() {
		t.Run(act.name, func(t *testing.T) {
			path := a.copy(t)
			storetest.OK(t, act.bare(path))
			if err := a.violation(t.Context(), act, path, ""); err != nil {
				t.Fatalf("without a kill: %v", err)
			}
			kills, _, wrong := a.sweep(t, act, 1, 0)
			if found := len(wrong) > 0; kills == 0 || found != (i == 1) {
				t.Errorf("%d kills, %d wrong: %v", kills, len(wrong), wrong)
			}
			t.Logf("%d kills, %d wrong", kills, len(wrong))
		})
	}
}
