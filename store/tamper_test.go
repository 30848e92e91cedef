package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// tampered returns a store with the secrets a and b, whose rows as they were
// before a change of key, a put and a move of a label are in tables old_….
func tampered(t *testing.T) *resealtest.Store {
	t.Helper()
	s, ctx := resealtest.New(t, &resealtest.Options{Damaged: true}), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	putFive(t, s, "a", "mk-1")
	putFive(t, s, "b", "mk-1")
	raw := s.Raw(t)
	defer raw.Close()
	for _, table := range []string{"secrets", "secret_versions", "data_keys", "labels", "master_keys", "state"} {
		must(raw.Exec(`CREATE TABLE old_` + table + ` AS SELECT * FROM reseal_` + table))(t)
	}
	must(s.SetKey(ctx, "a", "default"))(t)
	s.MustPut(t, "a", "five", store.PutOptions{})
	storetest.OK(t, s.SetLabel(ctx, "b", "custom", 2))
	storetest.OK(t, s.SetLabel(ctx, "a", "custom", 2))
	return s
}

// wants is what each selector of tampered's secrets gives.
func wants(name string) map[string]string {
	w := map[string]string{
		"1": "zero", "2": "one", "3": "two", "4": "three", "5": "four",
		"custom": "one", "previous": "two", "current": "three", "pending": "four",
	}
	if name == "a" {
		w["6"], w["current"], w["previous"] = "five", "five", "three"
	}
	return w
}

// readAll reads every version and label of both secrets, each of which may be
// refused as damaged and nothing else, and returns how many are.
func readAll(t *testing.T, s *resealtest.Store) (refusals int) {
	t.Helper()
	for _, name := range []string{"a", "b"} {
		for sel, want := range wants(name) {
			which := store.Label(sel)
			if n := strings.IndexAny(sel, "123456"); n == 0 {
				which = store.Version(uint64(sel[0] - '0'))
			}
			v, err := s.Get(t.Context(), name, which)
			switch {
			case err == nil && string(v.Bytes()) != want:
				t.Errorf("%s %s is %q, want %q", name, sel, v.Bytes(), want)
			case errors.Is(err, store.ErrDamaged):
				refusals++
			case err != nil && !errors.Is(err, store.ErrNotFound):
				t.Errorf("%s %s: %v", name, sel, err)
			case err != nil:
				refusals++
				t.Logf("%s %s: %v", name, sel, err)
			}
		}
	}
	return refusals
}

// An edit by other means is refused by the schema, or what it touches is
// refused as damaged, or it has no effect. It never gives another value.
func TestNoEditGivesAnotherValue(t *testing.T) {
	const (
		aFour = `(SELECT id FROM reseal_secret_versions WHERE secret = 1 AND number = 4)`
		bFour = `(SELECT id FROM reseal_secret_versions WHERE secret = 2 AND number = 4)`
		swap  = ` CASE id WHEN ` + aFour + ` THEN ` + bFour + ` ELSE ` + aFour + ` END`
		both  = ` WHERE id IN (` + aFour + `, ` + bFour + `)`
	)
	for _, c := range []struct {
		edit  string
		bySQL bool // refused by the schema
		reads int  // how many of 19 reads are refused
		quiet bool // no verification can see it, because nothing changed
	}{
		// Names and identities.
		{edit: `UPDATE reseal_secrets SET name = CASE name WHEN 'a' THEN 'c' ELSE name END`, bySQL: true},
		{edit: `UPDATE OR REPLACE reseal_secrets SET name = 'a' WHERE name = 'b'`, bySQL: true},
		{edit: `UPDATE reseal_secrets SET secret_id = randomblob(16) WHERE name = 'a'`, bySQL: true},
		{edit: `UPDATE reseal_secret_versions SET secret = 2 WHERE secret = 1 AND number = 6`, bySQL: true},
		{edit: `UPDATE reseal_secret_versions SET number = 9 WHERE id = ` + aFour, bySQL: true},
		{edit: `UPDATE reseal_secret_versions SET version_id = (SELECT version_id FROM reseal_secret_versions WHERE id = ` + bFour + `) WHERE id = ` + aFour, bySQL: true},
		{edit: `UPDATE reseal_data_keys SET id = -id`, bySQL: true},
		{edit: `UPDATE reseal_master_keys SET name = 'other' WHERE name = 'mk-1'`, bySQL: true},
		// REPLACE, which fires no delete trigger.
		{edit: `INSERT OR REPLACE INTO reseal_secrets SELECT * FROM old_secrets WHERE name = 'a'`, bySQL: true},
		{edit: `INSERT OR REPLACE INTO reseal_secret_versions SELECT * FROM old_secret_versions WHERE id = 1`, bySQL: true},
		{edit: `INSERT OR REPLACE INTO reseal_data_keys SELECT * FROM old_data_keys WHERE id = 1`, bySQL: true},
		{edit: `INSERT OR REPLACE INTO reseal_master_keys SELECT * FROM old_master_keys WHERE name = 'mk-1'`, bySQL: true},
		{edit: `INSERT OR REPLACE INTO reseal_state SELECT * FROM old_state`, bySQL: true},
		{edit: `REPLACE INTO reseal_labels SELECT * FROM old_labels WHERE secret = 2 AND label = 'custom'`, reads: 9},
		// Rows that are removed.
		{edit: `DELETE FROM reseal_secrets WHERE name = 'a'`, bySQL: true},
		{edit: `DELETE FROM reseal_secret_versions WHERE id = ` + aFour, bySQL: true},
		{edit: `DELETE FROM reseal_master_keys WHERE name = 'mk-1'`, bySQL: true},
		{edit: `DELETE FROM reseal_master_key_wraps`, bySQL: true},
		{edit: `DELETE FROM reseal_data_keys WHERE id = ` + aFour, reads: 2},
		{edit: `DELETE FROM reseal_labels WHERE secret = 2 AND label = 'pending'`, reads: 9},
		{edit: `DELETE FROM reseal_data_keys`, reads: 19},
		// States of keys.
		{edit: `UPDATE reseal_master_keys SET state = 'destroyed' WHERE name = 'mk-1'`, bySQL: true},
		{edit: `UPDATE reseal_master_key_versions SET destroyed_at = 1`, bySQL: true},
		{edit: `UPDATE reseal_master_keys SET state = 'disabled' WHERE name = 'mk-1'`, reads: 9},
		{edit: `UPDATE reseal_master_keys SET primary_version = 7 WHERE name = 'default'`, reads: 10},
		// Labels, dates, configured keys, counts.
		{edit: `UPDATE reseal_labels SET secret_version = ` + bFour + ` WHERE secret = 2 AND label = 'custom'`, reads: 9},
		{edit: `UPDATE reseal_labels SET secret_version = ` + bFour + ` WHERE secret = 1 AND label = 'current'`, reads: 10},
		{edit: `INSERT INTO reseal_labels VALUES (1, 'extra', ` + bFour + `)`, reads: 10},
		{edit: `UPDATE reseal_labels SET label = 'renamed' WHERE secret = 1 AND label = 'custom'`, reads: 10},
		{edit: `UPDATE reseal_secrets SET master_key = 2 WHERE name = 'a'`, reads: 10},
		{edit: `UPDATE reseal_secrets SET deleted_at = NULL, purge_at = NULL, version_count = 1 WHERE name = 'a'`, reads: 10},
		{edit: `UPDATE reseal_secrets SET next_number = 7 WHERE name = 'b'`, reads: 9},
		{edit: `UPDATE reseal_secrets SET next_number = 1 WHERE name = 'b'`, bySQL: true},
		// Older rows put back, with the tags they had.
		{edit: `UPDATE reseal_secrets SET tag = (SELECT tag FROM old_secrets AS o WHERE o.id = reseal_secrets.id)`, reads: 19},
		{edit: `UPDATE reseal_secrets SET (master_key, next_number, version_count, tag) = (SELECT master_key, next_number, version_count, tag FROM old_secrets WHERE name = 'a') WHERE name = 'a'`, bySQL: true},
		{edit: `UPDATE reseal_labels SET secret_version = (SELECT secret_version FROM old_labels AS o WHERE o.secret = reseal_labels.secret AND o.label = reseal_labels.label)`, reads: 19},
		{edit: `UPDATE reseal_data_keys SET (master_key_version, wrapped) = (SELECT master_key_version, wrapped FROM old_data_keys WHERE id = 1) WHERE id = 1`}, // the same data key: drift
		{edit: `UPDATE reseal_data_keys SET wrapped = (SELECT wrapped FROM old_data_keys WHERE id = 1) WHERE id = 1`, reads: 1},
		{edit: `UPDATE reseal_secret_versions SET sealed = (SELECT sealed FROM old_secret_versions AS o WHERE o.id = reseal_secret_versions.id) WHERE id < 9`, quiet: true},
		// Rows that change places.
		{edit: `UPDATE reseal_secret_versions SET sealed = (SELECT o.sealed FROM old_secret_versions AS o WHERE o.id =` + strings.ReplaceAll(swap, "CASE id", "CASE reseal_secret_versions.id") + `)` + both, reads: 4},
		{edit: `UPDATE reseal_data_keys SET (master_key_version, wrapped) = (SELECT o.master_key_version, o.wrapped FROM old_data_keys AS o WHERE o.id =` + strings.ReplaceAll(swap, "CASE id", "CASE reseal_data_keys.id") + `)` + both, reads: 4},
		{edit: `UPDATE reseal_secrets SET tag = (SELECT tag FROM reseal_secrets WHERE name = 'b') WHERE name = 'a'`, reads: 10},
		{edit: `UPDATE reseal_master_keys SET tag = (SELECT tag FROM reseal_master_keys WHERE name = 'mk-1') WHERE name = 'default'`, reads: 10},
	} {
		t.Run(c.edit, func(t *testing.T) {
			s := tampered(t)
			_, err := s.Raw(t).Exec(c.edit)
			if (err != nil) != c.bySQL {
				t.Fatalf("the schema says %v", err)
			}
			for i, s := range []*resealtest.Store{s, s.Another(t)} { // with caches, and without
				if n := readAll(t, s); n != c.reads {
					t.Errorf("store %d refuses %d reads, want %d", i, n, c.reads)
				}
			}
			report := must(s.Verify(t.Context(), store.VerifyOptions{Deep: true}))(t)
			if report.OK != (c.bySQL || c.quiet) {
				t.Errorf("verify: OK %v, %+v", report.OK, report.Failures)
			}
		})
	}
}

// A swap of the names of two secrets needs the triggers out of the way, and
// gives nobody the other's value.
func TestSwappedNamesGiveNothing(t *testing.T) {
	s := tampered(t)
	raw := s.Raw(t)
	var create string
	storetest.OK(t, raw.QueryRow(`SELECT sql FROM sqlite_schema WHERE name = 'reseal_secrets_identity'`).Scan(&create))
	for _, q := range []string{
		`DROP TRIGGER reseal_secrets_identity`,
		`UPDATE reseal_secrets SET name = 'c' WHERE name = 'a'`,
		`UPDATE reseal_secrets SET name = 'a' WHERE name = 'b'`,
		`UPDATE reseal_secrets SET name = 'b' WHERE name = 'c'`,
		create,
	} {
		must(raw.Exec(q))(t)
	}
	for i, s := range []*resealtest.Store{s, s.Another(t)} {
		if n := readAll(t, s); n != 19 {
			t.Errorf("store %d refuses %d reads, want 19", i, n)
		}
	}
	if report := must(s.Verify(t.Context(), store.VerifyOptions{Deep: true}))(t); report.FailureCount < 2+11 {
		t.Errorf("verify found %+v", report.Failures)
	}
	for _, name := range []string{"a", "b"} {
		storetest.Refused(t, storetest.Err(s.SetKey(t.Context(), name, "mk-1")), store.ErrDamaged)
	}
	storetest.Refused(t, storetest.Err(s.Put(t.Context(), "a", []byte("x"), nil)), store.ErrDamaged)
}

// What is refused is refused by every verb that would act on it.
func TestAlteredSecretIsRefusedByEveryVerb(t *testing.T) {
	s, ctx := tampered(t), t.Context()
	s.Exec(t, `UPDATE reseal_secrets SET version_count = 5 WHERE name = 'a'`)
	before := fmt.Sprint(must(s.Anchor(ctx))(t))
	for verb, err := range map[string]error{
		"get":          storetest.Err(s.Get(ctx, "a")),
		"put":          storetest.Err(s.Put(ctx, "a", []byte("x"), nil)),
		"show":         storetest.Err(s.Show(ctx, "a")),
		"set-key":      storetest.Err(s.SetKey(ctx, "a", "mk-1")),
		"label":        s.SetLabel(ctx, "a", "custom", 1),
		"label remove": s.RemoveLabel(ctx, "a", "custom"),
		"tag":          s.SetTags(ctx, "a", map[string]string{"k": "v"}),
		"delete":       storetest.Err(s.Delete(ctx, "a", 0)),
		"restore":      storetest.Err(s.Restore(ctx, "a")),
		"purge":        storetest.Err(s.Purge(ctx, "a", false)),
		"prune":        storetest.Err(s.Prune(ctx, "a", 0)),
		"discard":      s.Discard(ctx, "a", 1),
	} {
		if e := storetest.Refused(t, err, store.ErrDamaged); e.Secret != "a" || e.Remedy != "reseal explain a" {
			t.Errorf("%s: secret %q, remedy %q", verb, e.Secret, e.Remedy)
		}
	}
	if after := fmt.Sprint(must(s.Anchor(ctx))(t)); after != before {
		t.Error("a refused verb changed the store")
	}
	list := must(s.List(ctx, store.ListOptions{}))(t)
	if len(list) != 2 || list[0].Damage == "" || list[1].Damage != "" {
		t.Errorf("list: %+v", list)
	}
}
