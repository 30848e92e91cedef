package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// twoSecrets returns a store with two secrets of five versions under mk-1, of
// which the second is deleted, a spare key, and a key that is destroyed.
func twoSecrets(t *testing.T) *resealtest.Store {
	t.Helper()
	s, ctx := resealtest.New(t, &resealtest.Options{Damaged: true}), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	storetest.OK(t, s.CreateKey(ctx, "mk-2"))
	putFive(t, s, "a", "mk-1")
	putFive(t, s, "b", "mk-1")
	must(s.ScheduleKeyDeletion(ctx, "mk-2", 7*oneDay))(t)
	s.Clock.Advance(7 * oneDay)
	must(s.Sweep(ctx, false))(t)
	return s
}

func TestVerifyCountsWhatItChecks(t *testing.T) {
	s, ctx := resealtest.New(t, nil), t.Context()
	storetest.Diff(t, "an empty store", store.VerifyReport{OK: true}, must(s.Verify(ctx, store.VerifyOptions{}))(t))
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	for i := range 300 {
		s.MustPut(t, fmt.Sprint("s/", i), "x", store.PutOptions{Key: "mk-1"})
	}
	putFive(t, s, "a", "mk-1")
	must(s.RotateKey(ctx, "mk-1"))(t)
	s.MustPut(t, "a", "new", store.PutOptions{})
	must(s.Delete(ctx, "a", 0))(t)
	must(s.Purge(ctx, "s/7", true))(t)
	must(s.DisableKey(ctx, "mk-1"))(t)
	for _, deep := range []bool{false, true} {
		var calls, last int64
		report := must(s.Verify(ctx, store.VerifyOptions{Deep: deep, Progress: func(done, total int64) {
			if calls++; done <= last && calls > 1 || total != 305 {
				t.Errorf("progress from %d to %d of %d", last, done, total)
			}
			last = done
		}}))(t)
		storetest.Diff(t, "report", store.VerifyReport{OK: true, Deep: deep, VersionsChecked: 305, Behind: 304}, report)
		if last != 305 {
			t.Errorf("the last progress is %d", last)
		}
	}
}

// Every edit by other means is found, and nothing else is reported with it.
func TestVerifyFindsEveryEdit(t *testing.T) {
	const third = `(SELECT v.id FROM reseal_secret_versions AS v JOIN reseal_secrets AS s ON s.id = v.secret WHERE s.name = 'a' AND v.number = 3)`
	type failure struct {
		Secret  string
		Version uint64
		Key     string
		Error   string
	}
	const count = "stored data is damaged or altered: 5 versions expected, "
	const record = "stored data is damaged or altered: the secret's record was altered"
	const keyRecord = "stored data is damaged or altered: the master key's record was altered"
	for _, c := range []struct {
		name, edit string
		deep       bool // found by a deep check only
		want       []failure
	}{
		{"secret's count", `UPDATE reseal_secrets SET version_count = 4 WHERE name = 'a'`, false,
			[]failure{{"a", 0, "", record}, {"a", 0, "", "stored data is damaged or altered: 4 versions expected, 5 found"}}},
		{"secret's next number", `UPDATE reseal_secrets SET next_number = 7 WHERE name = 'a'`, false, []failure{{"a", 0, "", record}}},
		{"secret's deletion", `UPDATE reseal_secrets SET deleted_at = 1, purge_at = 2 WHERE name = 'a'`, false, []failure{{"a", 0, "", record}}},
		{"label moved", `UPDATE reseal_labels SET secret_version = ` + third + ` WHERE label = 'custom' AND secret = 1`, false, []failure{{"a", 0, "", record}}},
		{"label removed", `DELETE FROM reseal_labels WHERE label = 'custom' AND secret = 1`, false, []failure{{"a", 0, "", record}}},
		{"label added", `INSERT INTO reseal_labels VALUES (1, 'extra', ` + third + `)`, false, []failure{{"a", 0, "", record}}},
		{"label of another secret", `UPDATE reseal_labels SET secret_version = ` + third + ` WHERE label = 'custom' AND secret = 2`, false,
			[]failure{{"b", 0, "", record}, {"b", 0, "", `label "custom" points to no version of the secret`}}},
		{"label to nothing", `UPDATE reseal_labels SET secret_version = 99 WHERE label = 'custom' AND secret = 2`, false,
			[]failure{{"b", 0, "", record}, {"b", 0, "", `label "custom" points to no version of the secret`}}},
		{"label that looks like two", `
			PRAGMA ignore_check_constraints = 1;
			DELETE FROM reseal_labels WHERE label = 'previous' AND secret = 1;
			UPDATE reseal_labels
			SET label = 'custom:' || secret_version || ',previous', secret_version = ` + third + `
			WHERE label = 'custom' AND secret = 1`, false,
			[]failure{{"a", 0, "", record}}},
		{"date before all dates", `PRAGMA ignore_check_constraints = 1; UPDATE reseal_data_keys SET made_at = -1 WHERE id = ` + third, true,
			[]failure{{"", 0, "", "SQLite's integrity check: CHECK constraint failed in reseal_data_keys"}}},
		{"description that cannot be one", `PRAGMA ignore_check_constraints = 1; UPDATE reseal_secrets SET description = char(0) WHERE id = 1`, false,
			[]failure{{"", 0, "", "1 tag, and there should be 0: rows were removed or added by other means"}}},
		{"key's state", `UPDATE reseal_master_keys SET state = 'disabled' WHERE name = 'mk-1'`, false, []failure{{"", 0, "mk-1", keyRecord}}},
		{"key's primary", `UPDATE reseal_master_keys SET primary_version = 2 WHERE name = 'default'`, false,
			[]failure{{"", 0, "default", keyRecord}, {"", 0, "default", "its primary version is missing"}}},
		{"key's wrap", `DELETE FROM reseal_master_key_wraps WHERE master_key_version = 1`, false,
			[]failure{{"", 0, "default", "master key version 1 has no wrap"}}},
		{"destroyed key's wrap", `INSERT INTO reseal_master_key_wraps (master_key_version, root_id, wrapped) SELECT 3, root_id, zeroblob(108) FROM reseal_state`, false,
			[]failure{{"", 0, "mk-2", "master key version 1 is destroyed and has a wrap"}}},
		{"default key", `UPDATE reseal_state SET default_key = 2`, false, []failure{{"", 0, "", "stored data is damaged or altered: the store's state row was altered"}}},
		{"audit event added", `INSERT INTO reseal_audit_events SELECT seq + 1, at, actor, action, secret, key, detail, mac FROM reseal_audit_events ORDER BY seq DESC LIMIT 1`, false,
			[]failure{{"", 0, "", "stored data is damaged or altered: audit event 19 was altered"}}},
		{"data key missing", `DELETE FROM reseal_data_keys WHERE id = ` + third, false, []failure{{"a", 3, "", "its data key is missing"}}},
		{"data key of no version", `INSERT INTO reseal_data_keys (id, master_key_version, wrapped) VALUES (99, 1, zeroblob(108))`, false, []failure{{"", 0, "", "data key 99 has no secret version"}}},
		{"master key version missing", `UPDATE reseal_data_keys SET master_key_version = 99 WHERE id = ` + third, false,
			[]failure{{"a", 3, "", "the master key version that wraps its data key is missing"}}},
		{"master key version destroyed", `UPDATE reseal_data_keys SET master_key_version = 3 WHERE id = ` + third, false,
			[]failure{{"a", 3, "mk-2", `wrapped by master key "mk-2", and the secret is configured with "mk-1"`}, {"a", 3, "mk-2", "master key version 1 is destroyed"}}},
		{"version added", `INSERT INTO reseal_secret_versions (version_id, secret, number, created_at, sealed) VALUES (zeroblob(16), 1, 9, 0, zeroblob(100))`, false,
			[]failure{{"", 0, "", "11 secret versions, and there should be 10: rows were removed or added by other means"},
				{"a", 0, "", count + "6 found"}, {"a", 9, "", "its data key is missing"}}},
		{"data key of another key", `UPDATE reseal_data_keys SET master_key_version = 1 WHERE id = ` + third, true,
			[]failure{{"a", 3, "default", `wrapped by master key "default", and the secret is configured with "mk-1"`}, {"a", 3, "default", "open data key: wrong key or context"}}},
		{"wrap of another version", `UPDATE reseal_data_keys SET wrapped = (SELECT wrapped FROM reseal_data_keys WHERE id = 1) WHERE id = ` + third, true,
			[]failure{{"a", 3, "mk-1", "open data key: wrong key or context"}}},
		{"value of another version", `UPDATE reseal_secret_versions SET sealed = (SELECT sealed FROM reseal_secret_versions WHERE id = 1) WHERE id = ` + third, true,
			[]failure{{"a", 3, "mk-1", "open value: wrong key or context"}}},
		{"value", `UPDATE reseal_secret_versions SET sealed = CAST(substr(sealed, 1, length(sealed) - 1) || x'00' AS BLOB) WHERE id = ` + third, true,
			[]failure{{"a", 3, "mk-1", "open value: ciphertext is damaged"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, ctx := twoSecrets(t), t.Context()
			s.Exec(t, c.edit)
			report := must(s.Verify(ctx, store.VerifyOptions{Deep: true}))(t)
			var got []failure
			for _, f := range report.Failures {
				got = append(got, failure{f.Secret, f.Version, f.Key, f.Error})
				if f.Remedy == "" {
					t.Errorf("no remedy for %+v", f)
				}
			}
			storetest.Diff(t, "failures", c.want, got)
			if report.OK || report.FailureCount != int64(len(c.want)) {
				t.Errorf("OK %v with %d failures", report.OK, report.FailureCount)
			}
			if shallow := must(s.Verify(ctx, store.VerifyOptions{}))(t); shallow.OK && !c.deep {
				t.Error("a check that is not deep does not find it")
			}
		})
	}
}

// A CHECK that the deep check leaves out must be of an authenticated column. Who
// adds one to these tables decides whether it is.
func TestEveryCheckThatVerifyLeavesOutIsCovered(t *testing.T) {
	s := twoSecrets(t)
	for table, want := range map[string]int{"reseal_secrets": 8, "reseal_labels": 1, "reseal_tags": 2, "reseal_audit_events": 5} {
		var sql string
		storetest.OK(t, s.Raw(t).QueryRow(`SELECT sql FROM sqlite_schema WHERE name = ?`, table).Scan(&sql))
		if got := strings.Count(sql, "CHECK ("); got != want {
			t.Errorf("%s has %d CHECKs, and %d were looked at", table, got, want)
		}
	}
}

func TestVerifyFindsAlteredAuditEvent(t *testing.T) {
	s, ctx := twoSecrets(t), t.Context()
	aroundTrigger(t, s, "reseal_audit_events_update", `UPDATE reseal_audit_events SET actor = 'nobody' WHERE seq = 3`)
	report := must(s.Verify(ctx, store.VerifyOptions{Deep: true}))(t)
	want := []store.Failure{{Error: "stored data is damaged or altered: audit event 3 was altered", Remedy: "reseal audit verify"}}
	storetest.Diff(t, "failures", want, report.Failures)
}

func TestVerifyFindsAlteredSchema(t *testing.T) {
	s, ctx := twoSecrets(t), t.Context()
	must(s.Raw(t).Exec(`DROP TRIGGER reseal_master_keys_destroy`))(t)
	report := must(s.Verify(ctx, store.VerifyOptions{}))(t)
	if report.OK || report.FailureCount != 1 {
		t.Errorf("verify found %+v", report.Failures)
	}
}

// A page of the file that is overwritten is told, and what can still be read is
// checked.
func TestVerifySurvivesDamagedPage(t *testing.T) {
	s, ctx := resealtest.New(t, &resealtest.Options{Damaged: true}), t.Context()
	for i := range 50 {
		s.MustPut(t, fmt.Sprint("s/", i), string(make([]byte, 1000)), store.PutOptions{})
	}
	raw := s.Raw(t)
	must(raw.Exec(`PRAGMA wal_checkpoint(TRUNCATE)`))(t)
	var root, size int64
	storetest.OK(t, raw.QueryRow(`SELECT rootpage FROM sqlite_schema WHERE name = 'reseal_data_keys'`).Scan(&root))
	storetest.OK(t, raw.QueryRow(`PRAGMA page_size`).Scan(&size))
	raw.Close()
	storetest.OK(t, s.Close())
	copied := filepath.Join(t.TempDir(), "copy.db")
	content := must(os.ReadFile(s.Path()))(t)
	clear(content[(root-1)*size : root*size])
	storetest.OK(t, os.WriteFile(copied, content, 0o600))
	damaged := must(store.Open(ctx, copied, resealtest.Credential(), nil))(t)
	defer damaged.Close()
	report, err := damaged.Verify(ctx, store.VerifyOptions{Deep: true})
	if err != nil || report.OK || report.FailureCount == 0 {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

func TestVerifyListsTheFirstFailuresAndCountsAll(t *testing.T) {
	s, ctx := resealtest.New(t, &resealtest.Options{Damaged: true}), t.Context()
	storetest.OK(t, s.Update(ctx, func(tx *sql.Tx) error {
		for range 1100 {
			if _, err := s.PutTx(ctx, tx, "a", []byte("x"), nil); err != nil {
				return err
			}
		}
		return nil
	}))
	s.Exec(t, `UPDATE reseal_data_keys SET wrapped = zeroblob(108)`)
	report := must(s.Verify(ctx, store.VerifyOptions{Deep: true}))(t)
	if report.OK || report.FailureCount != 1100 || len(report.Failures) != 1000 || report.VersionsChecked != 1100 {
		t.Errorf("%d failures, %d listed, %d versions", report.FailureCount, len(report.Failures), report.VersionsChecked)
	}
}

// Verify neither stops writers nor mistakes their work for damage.
func TestVerifyWhileOthersWrite(t *testing.T) {
	s, ctx := resealtest.New(t, nil), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	for i := range 20 {
		putMany(t, s, fmt.Sprint("s/", i), 6)
	}
	var stop atomic.Bool
	done := make(chan error, 1)
	go func() {
		var err error
		for i := 0; !stop.Load() && err == nil; i++ {
			name := fmt.Sprint("s/", i%20)
			_, e1 := s.Put(ctx, name, []byte("x"), nil)
			_, e2 := s.SetKey(ctx, name, []string{"mk-1", "default"}[i%2])
			_, e3 := s.Prune(ctx, name, 2)
			_, e4 := s.Purge(ctx, "t", true)
			if errors.Is(e4, store.ErrNotFound) {
				_, e4 = s.Put(ctx, "t", []byte("x"), nil)
			}
			err = errors.Join(e1, e2, e3, e4)
		}
		done <- err
	}()
	for range 10 {
		if report := must(s.Verify(ctx, store.VerifyOptions{Deep: true}))(t); !report.OK {
			t.Errorf("verify found %+v", report.Failures)
		}
	}
	stop.Store(true)
	storetest.OK(t, <-done)
}

func TestVerifyStopsWhenCancelled(t *testing.T) {
	s := resealtest.New(t, nil)
	s.MustPut(t, "a", "x", store.PutOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Verify(ctx, store.VerifyOptions{Deep: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("verify: %v", err)
	}
	sealed := must(store.OpenSealed(t.Context(), s.Path(), nil))(t)
	defer sealed.Close()
	_, err := sealed.Verify(t.Context(), store.VerifyOptions{})
	_, err2 := sealed.Explain(t.Context(), "a", 0)
	storetest.Diff(t, "errors", []error{store.ErrSealed, store.ErrSealed}, []error{err, err2}, cmpopts.EquateErrors())
}
